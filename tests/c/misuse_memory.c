/* Memory that is not the library's: structs at the edge of a page that cannot be read, results that failed calls
 * leave alone, buffers that are too small. */
#ifndef _DEFAULT_SOURCE
#define _DEFAULT_SOURCE /* MAP_ANONYMOUS, before any header */
#endif
#include "fixture.h"
#include <sys/mman.h>

static rk_runtime_t *runtime;
static rk_kernel_t bystander;
static unsigned char *edge; /* the first byte that can be neither read nor written */

static int make_edge(void) {
  size_t page = (size_t)sysconf(_SC_PAGESIZE);
  void *memory = mmap(NULL, 4 * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) return 0;
  edge = (unsigned char *)memory + 2 * page;
  return mprotect(edge, 2 * page, PROT_NONE) == 0;
}

/* The last `size` bytes before the edge: a struct's first bytes, with that struct_size. */
static void *at_edge(const void *known, size_t size, uint32_t struct_size) {
  unsigned char *at = edge - size;
  memcpy(at, known, size);
  memcpy(at, &struct_size, sizeof struct_size);
  return at;
}

/* Every function that takes a sized struct. */
enum { RUNTIME_OPTIONS, PROGRAM, LAUNCH_OPTIONS, KERNEL_STATUS, RUNTIME_METRICS, KERNEL_METRICS, STRUCTS };

static const void *initial(int which, size_t *size) {
  static rk_runtime_options_t runtime_options = RK_RUNTIME_OPTIONS_INIT;
  static rk_program_t program = RK_PROGRAM_INIT;
  static rk_launch_options_t launch_options = RK_LAUNCH_OPTIONS_INIT;
  static rk_kernel_status_t status = RK_KERNEL_STATUS_INIT;
  static rk_runtime_metrics_t totals = RK_RUNTIME_METRICS_INIT;
  static rk_kernel_metrics_t metrics = RK_KERNEL_METRICS_INIT;
  runtime_options.backend = RK_BACKEND_CPU;
  program.name = "sized";
  program.on_message = on_echo;
  switch (which) {
    case RUNTIME_OPTIONS: *size = sizeof runtime_options; return &runtime_options;
    case PROGRAM: *size = sizeof program; return &program;
    case LAUNCH_OPTIONS: *size = sizeof launch_options; return &launch_options;
    case KERNEL_STATUS: *size = sizeof status; return &status;
    case RUNTIME_METRICS: *size = sizeof totals; return &totals;
    default: *size = sizeof metrics; return &metrics;
  }
}

/* Uses the struct; what was made is taken away again. */
static rk_status_t use(int which, void *sized) {
  rk_runtime_t *made;
  rk_kernel_t kernel;
  rk_status_t status;
  switch (which) {
    case RUNTIME_OPTIONS:
      status = rk_runtime_create((const rk_runtime_options_t *)sized, &made);
      return status == RK_OK ? rk_runtime_destroy(made) : status;
    case PROGRAM:
      status = rk_program_register(runtime, (const rk_program_t *)sized);
      return status == RK_OK ? rk_program_unregister(runtime, "sized") : status;
    case LAUNCH_OPTIONS:
      status = rk_launch(runtime, "echo", (const rk_launch_options_t *)sized, &kernel);
      return status == RK_OK ? rk_destroy(kernel) : status;
    case KERNEL_STATUS: return rk_kernel_status(bystander, (rk_kernel_status_t *)sized);
    case RUNTIME_METRICS: return rk_metrics(runtime, (rk_runtime_metrics_t *)sized);
    default: return rk_kernel_metrics(bystander, (rk_kernel_metrics_t *)sized);
  }
}

static void lesson_28_a_short_struct_is_read_and_written_as_far_as_it_goes(void) {
  int which;
  for (which = 0; which < STRUCTS; which++) {
    size_t full, size;
    const void *known = initial(which, &full);
    CHECK_STATUS(use(which, at_edge(known, full, (uint32_t)full)), RK_OK);
    for (size = 8; size < full; size += 8) {
      void *sized = at_edge(known, size, (uint32_t)size);
      rk_status_t status = use(which, sized);
      uint32_t kept;
      /* A program is none without its name (bytes 8 to 15) and handler (16 to 23). */
      if (status != (which == PROGRAM && size < 24 ? RK_ERR_INVALID_ARGUMENT : RK_OK)) {
        printf("struct %d of %lu bytes: %s\n", which, (unsigned long)size, rk_status_name(status));
      }
      CHECK(status == (which == PROGRAM && size < 24 ? RK_ERR_INVALID_ARGUMENT : RK_OK));
      memcpy(&kept, sized, sizeof kept);
      CHECK(kept == size); /* the caller's size stays the caller's */
    }
    CHECK(works(bystander));
  }
}

static void lesson_28_a_size_that_cannot_be_is_refused_unread(void) {
  static const uint32_t sizes[] = {0, 1, 3, 4, 7, 4097, 5000, 0x7fffffffu, 0x80000000u, 0xffffffffu};
  int which;
  size_t i;
  for (which = 0; which < STRUCTS; which++) {
    for (i = 0; i < sizeof sizes / sizeof *sizes; i++) {
      uint64_t nothing = 0;
      CHECK_STATUS(use(which, at_edge(&nothing, sizeof nothing, sizes[i])), RK_ERR_STRUCT_SIZE);
    }
    CHECK(works(bystander));
  }
}

static void lesson_28_a_longer_struct_works_while_its_tail_is_zero(void) {
  static uint64_t larger[512]; /* 4096 bytes, the most there may be */
  int which;
  for (which = 0; which < STRUCTS; which++) {
    size_t full, size;
    const void *known = initial(which, &full);
    for (size = full + 8; size <= sizeof larger; size += size < full + 64 ? 8 : 8 * 31) {
      uint32_t struct_size = (uint32_t)size;
      size_t dirty;
      memset(larger, 0, sizeof larger);
      memcpy(larger, known, full);
      memcpy(larger, &struct_size, sizeof struct_size);
      CHECK_STATUS(use(which, larger), RK_OK);
      for (dirty = full; dirty < size; dirty = dirty == full ? size - 1 : size) { /* its first byte, its last */
        memset(larger, 0, sizeof larger);
        memcpy(larger, known, full);
        memcpy(larger, &struct_size, sizeof struct_size);
        ((unsigned char *)larger)[dirty] = 1;
        CHECK_STATUS(use(which, larger), RK_ERR_STRUCT_SIZE);
      }
    }
    CHECK(works(bystander));
  }
}

static void reserved_words_and_unknown_bits_are_refused_one_by_one(void) {
  int which, word;
  for (which = RUNTIME_OPTIONS; which <= LAUNCH_OPTIONS; which++) {
    uint64_t copy[64];
    size_t full;
    const void *known = initial(which, &full);
    for (word = 0; word < 8; word++) { /* reserved[8] is the last field of all three */
      memcpy(copy, known, full);
      copy[full / 8 - 8 + (size_t)word] = (uint64_t)1 << (word * 8);
      CHECK_STATUS(use(which, copy), RK_ERR_INVALID_ARGUMENT);
    }
  }
  for (word = 0; word < 32; word++) {
    rk_launch_options_t launch = options_for("echo", 0);
    rk_program_t program = RK_PROGRAM_INIT;
    program.name = "sized";
    program.on_message = on_echo;
    launch.flags = (uint32_t)1 << word;
    program.flags = launch.flags;
    CHECK_STATUS(use(LAUNCH_OPTIONS, &launch), launch.flags <= RK_LAUNCH_NO_HELP ? RK_OK : RK_ERR_INVALID_ARGUMENT);
    CHECK_STATUS(use(PROGRAM, &program), RK_ERR_INVALID_ARGUMENT);
  }
  CHECK(works(bystander));
}

/* A result that was not written. */
#define UNTOUCHED(call, expected, result)                                                   \
  do {                                                                                      \
    unsigned char was_[sizeof(result)];                                                     \
    memset(&(result), 0xa5, sizeof(result));                                                \
    memset(was_, 0xa5, sizeof was_);                                                        \
    CHECK_STATUS(call, expected);                                                           \
    CHECK(memcmp(&(result), was_, sizeof was_) == 0);                                       \
  } while (0)

static void results_are_written_on_success_only(void) {
  rk_runtime_options_t no_options = RK_RUNTIME_OPTIONS_INIT;
  rk_kernel_t kernel, none = {0};
  rk_runtime_t *made;
  rk_message_t out, message = check_message("m", 1);
  rk_dead_letter_t letter;
  rk_loan_t loan;
  rk_status_t status;
  uint32_t number;
  bool yes;
  no_options.backend = 9;
  UNTOUCHED(rk_runtime_create(&no_options, &made), RK_ERR_INVALID_ARGUMENT, made);
  UNTOUCHED(rk_runtime_backend(NULL, &number), RK_ERR_INVALID_ARGUMENT, number);
  UNTOUCHED(rk_runtime_is_backend_available(runtime, 9, &yes), RK_ERR_INVALID_ARGUMENT, yes);
  UNTOUCHED(rk_launch(runtime, "bystander", NULL, &kernel), RK_ERR_NOT_FOUND, kernel);
  UNTOUCHED(rk_launch(runtime, "", NULL, &kernel), RK_ERR_INVALID_ARGUMENT, kernel);
  UNTOUCHED(rk_get(runtime, "nobody", &kernel), RK_ERR_NOT_FOUND, kernel);
  UNTOUCHED(rk_kernel_state(none, &number), RK_ERR_INVALID_HANDLE, number);
  UNTOUCHED(rk_connect(bystander, none, &number), RK_ERR_INVALID_HANDLE, number);
  UNTOUCHED(rk_reserve(bystander, 0, 100000, 0, &loan), RK_ERR_TOO_LARGE, loan);
  UNTOUCHED(rk_reserve(none, 0, 1, 0, &loan), RK_ERR_INVALID_HANDLE, loan);
  UNTOUCHED(rk_receive(bystander, &out, 0), RK_ERR_EMPTY, out);
  UNTOUCHED(rk_receive(bystander, &out, MS(1)), RK_ERR_TIMEOUT, out);
  UNTOUCHED(rk_call(none, &message, &out, 0), RK_ERR_INVALID_HANDLE, out);
  UNTOUCHED(rk_receive_dead_letter(runtime, &letter, 0), RK_ERR_EMPTY, letter);
  message.payload_size = 100000;
  UNTOUCHED(rk_call(bystander, &message, &out, 0), RK_ERR_TOO_LARGE, out);
  message.payload_size = (size_t)1 << 40;
  UNTOUCHED(rk_call(bystander, &message, &out, 0), RK_ERR_TOO_LARGE, out);
  CHECK_STATUS(rk_send(bystander, &message, 0), RK_ERR_TOO_LARGE);
  message.payload_size = SIZE_MAX; /* no payload has that size: malformed as well as too large */
  status = rk_send(bystander, &message, 0);
  CHECK(status == RK_ERR_TOO_LARGE || status == RK_ERR_INVALID_ARGUMENT);
  CHECK(works(bystander));
}

static void text_is_cut_at_the_size_of_its_buffer(void) {
  char name[32], words[32];
  rk_kernel_t none;
  size_t needed, size, room;
  CHECK_STATUS(rk_get(runtime, "somebody-who-is-not-there", &none), RK_ERR_NOT_FOUND);
  needed = rk_last_error(NULL, 0);
  CHECK(needed > 10);
  for (room = 0; room <= 16; room++) {
    memset(words, '#', sizeof words);
    CHECK(rk_last_error(words, room) == needed);
    CHECK(words[room] == '#' && (room == 0 || words[room - 1] == '\0'));
    CHECK(room < 2 || strlen(words) == room - 1);
    memset(name, '#', sizeof name);
    size = 99;
    CHECK_STATUS(rk_kernel_name(bystander, name, room, &size), room < 10 ? RK_ERR_BUFFER_TOO_SMALL : RK_OK);
    CHECK(size == 10 && name[room > 10 ? 10 : room] == '#');
    CHECK(strncmp(name, "bystander", room == 0 ? 0 : room - 1) == 0);
    CHECK_STATUS(rk_get(runtime, "somebody-who-is-not-there", &none), RK_ERR_NOT_FOUND);
  }
  OK(rk_kernel_name(bystander, name, sizeof name, NULL));
  CHECK(strcmp(name, "bystander") == 0);
  CHECK(works(bystander));
}

/* The words of a failure name what was asked for. */
static int words_have(const char *part) {
  char words[512];
  rk_last_error(words, sizeof words);
  if (strstr(words, part) == NULL) printf("'%s' is not in '%s'\n", part, words);
  return strstr(words, part) != NULL;
}

static void *no_words_here(void *argument) {
  char words[9] = "########";
  return rk_last_error(words, sizeof words) == 1 && words[0] == '\0' ? NULL : argument;
}

static void words_name_the_thing_asked_for_and_belong_to_their_thread(void) {
  static char bytes[512];
  rk_launch_options_t options = options_for("echo", 0);
  rk_message_t message = check_message(bytes, 511);
  rk_kernel_t kernel, list[1];
  rk_loan_t loan;
  size_t count;
  pthread_t thread;
  void *failed;
  CHECK_STATUS(rk_get(runtime, "id-not-there", &kernel), RK_ERR_NOT_FOUND);
  CHECK(words_have("id-not-there"));
  CHECK_STATUS(rk_launch(runtime, "bystander", &options, &kernel), RK_ERR_ALREADY_EXISTS);
  CHECK(words_have("bystander"));
  CHECK_STATUS(rk_launch(runtime, "program-not-there", NULL, &kernel), RK_ERR_NOT_FOUND);
  CHECK(words_have("program-not-there"));
  CHECK_STATUS(add_program(runtime, "echo", on_echo, 0, NULL), RK_ERR_ALREADY_EXISTS);
  CHECK(words_have("echo"));
  CHECK_STATUS(rk_program_unregister(runtime, "never-registered"), RK_ERR_NOT_FOUND);
  CHECK(words_have("never-registered"));
  CHECK_STATUS(rk_send(bystander, &message, 0), RK_ERR_TOO_LARGE);
  CHECK(words_have("511") && words_have("192"));
  CHECK_STATUS(rk_reserve(bystander, 0, 1234567, 0, &loan), RK_ERR_TOO_LARGE);
  CHECK(words_have("1234567") && words_have("192"));
  message.payload_size = 1;
  message.block = 77;
  CHECK_STATUS(rk_send(bystander, &message, 0), RK_ERR_INVALID_ARGUMENT);
  CHECK(words_have("77"));
  options.input_queue_capacity = 1000;
  CHECK_STATUS(rk_launch(runtime, "k", &options, &kernel), RK_ERR_INVALID_ARGUMENT);
  CHECK(words_have("1000"));
  options.input_queue_capacity = 0;
  options.mode = 54;
  CHECK_STATUS(rk_launch(runtime, "k", &options, &kernel), RK_ERR_INVALID_ARGUMENT);
  CHECK(words_have("54"));
  CHECK_STATUS(rk_disconnect(bystander, 4321), RK_ERR_NO_ROUTE);
  CHECK(words_have("4321"));
  OK(rk_list(runtime, list, 1, &count)); /* a success leaves them alone */
  CHECK(works(bystander) && words_have("4321"));
  CHECK(pthread_create(&thread, NULL, no_words_here, bytes) == 0);
  CHECK(pthread_join(thread, &failed) == 0 && failed == NULL);
}

int main(int argc, char **argv) {
  rk_launch_options_t options = options_for("echo", 0);
  fixture_unused();
  runtime = make_runtime(1);
  if (runtime == NULL || rk_launch(runtime, "bystander", &options, &bystander) != RK_OK || !make_edge()) return 2;
  RUN(lesson_28_a_short_struct_is_read_and_written_as_far_as_it_goes);
  RUN(lesson_28_a_size_that_cannot_be_is_refused_unread);
  RUN(lesson_28_a_longer_struct_works_while_its_tail_is_zero);
  RUN(reserved_words_and_unknown_bits_are_refused_one_by_one);
  RUN(results_are_written_on_success_only);
  RUN(text_is_cut_at_the_size_of_its_buffer);
  RUN(words_name_the_thing_asked_for_and_belong_to_their_thread);
  if (rk_runtime_destroy(runtime) != RK_OK) return 2;
  return check_result();
}
