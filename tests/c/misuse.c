/* Bad input: each has its status and a sentence, and leaves everything else working. */
#include "fixture.h"

static rk_runtime_t *runtime;
static rk_kernel_t bystander;

/* A status with words for it, and a bystander that still works. */
#define BAD(call, expected)               \
  do {                                    \
    char words_[256];                     \
    CHECK_STATUS(call, expected);         \
    rk_last_error(words_, sizeof words_); \
    CHECK(words_[0] != '\0');             \
    CHECK(works(bystander));              \
  } while (0)

static void null_for_every_pointer(void) {
  rk_kernel_t kernel;
  rk_message_t message = check_message("m", 1), out;
  rk_loan_t loan;
  rk_runtime_options_t none = RK_RUNTIME_OPTIONS_INIT;
  rk_program_t program = RK_PROGRAM_INIT;
  rk_dead_letter_t letter;
  rk_runtime_metrics_t totals = RK_RUNTIME_METRICS_INIT;
  uint32_t number;
  size_t count;
  bool yes;
  program.name = "p";
  program.on_message = on_echo;
  BAD(rk_runtime_create(&none, NULL), RK_ERR_INVALID_ARGUMENT);
  BAD(rk_runtime_backend(NULL, &number), RK_ERR_INVALID_ARGUMENT);
  BAD(rk_runtime_backend(runtime, NULL), RK_ERR_INVALID_ARGUMENT);
  BAD(rk_runtime_is_backend_available(NULL, 0, &yes), RK_ERR_INVALID_ARGUMENT);
  BAD(rk_runtime_is_backend_available(runtime, 0, NULL), RK_ERR_INVALID_ARGUMENT);
  BAD(rk_runtime_is_backend_available(runtime, 3, &yes), RK_ERR_INVALID_ARGUMENT);
  BAD(rk_runtime_shutdown(NULL, 0), RK_ERR_INVALID_ARGUMENT);
  OK(rk_runtime_destroy(NULL));
  BAD(rk_program_register(runtime, NULL), RK_ERR_INVALID_ARGUMENT);
  BAD(rk_program_register(NULL, &program), RK_ERR_INVALID_ARGUMENT);
  BAD(rk_program_unregister(NULL, "p"), RK_ERR_INVALID_ARGUMENT);
  BAD(rk_program_unregister(runtime, NULL), RK_ERR_INVALID_ARGUMENT);
  BAD(rk_launch(NULL, "k", NULL, &kernel), RK_ERR_INVALID_ARGUMENT);
  BAD(rk_launch(runtime, NULL, NULL, &kernel), RK_ERR_INVALID_ARGUMENT);
  BAD(rk_launch(runtime, "k", NULL, NULL), RK_ERR_INVALID_ARGUMENT);
  BAD(rk_get(NULL, "k", &kernel), RK_ERR_INVALID_ARGUMENT);
  BAD(rk_get(runtime, NULL, &kernel), RK_ERR_INVALID_ARGUMENT);
  BAD(rk_get(runtime, "k", NULL), RK_ERR_INVALID_ARGUMENT);
  BAD(rk_list(NULL, &kernel, 1, &count), RK_ERR_INVALID_ARGUMENT);
  BAD(rk_list(runtime, NULL, 1, &count), RK_ERR_INVALID_ARGUMENT);
  BAD(rk_list(runtime, &kernel, 1, NULL), RK_ERR_INVALID_ARGUMENT);
  BAD(rk_kernel_name(bystander, NULL, 10, NULL), RK_ERR_INVALID_ARGUMENT);
  BAD(rk_kernel_state(bystander, NULL), RK_ERR_INVALID_ARGUMENT);
  BAD(rk_kernel_status(bystander, NULL), RK_ERR_INVALID_ARGUMENT);
  BAD(rk_kernel_metrics(bystander, NULL), RK_ERR_INVALID_ARGUMENT);
  BAD(rk_metrics(NULL, &totals), RK_ERR_INVALID_ARGUMENT);
  BAD(rk_metrics(runtime, NULL), RK_ERR_INVALID_ARGUMENT);
  BAD(rk_send(bystander, NULL, 0), RK_ERR_INVALID_ARGUMENT);
  BAD(rk_send_batch(bystander, NULL, 1, 0, &count), RK_ERR_INVALID_ARGUMENT);
  BAD(rk_send_batch(bystander, &message, 1, 0, NULL), RK_ERR_INVALID_ARGUMENT);
  BAD(rk_reserve(bystander, 0, 1, 0, NULL), RK_ERR_INVALID_ARGUMENT);
  BAD(rk_reserve_batch(bystander, 0, 1, 1, 0, NULL, &count), RK_ERR_INVALID_ARGUMENT);
  BAD(rk_reserve_batch(bystander, 0, 1, 1, 0, &loan, NULL), RK_ERR_INVALID_ARGUMENT);
  BAD(rk_commit(NULL, NULL, 0), RK_ERR_INVALID_ARGUMENT);
  BAD(rk_commit_batch(NULL, NULL, 1), RK_ERR_INVALID_ARGUMENT);
  BAD(rk_abort(NULL), RK_ERR_INVALID_ARGUMENT);
  BAD(rk_receive(bystander, NULL, 0), RK_ERR_INVALID_ARGUMENT);
  BAD(rk_receive_batch(bystander, NULL, 1, 0, &count), RK_ERR_INVALID_ARGUMENT);
  BAD(rk_receive_batch(bystander, &out, 1, 0, NULL), RK_ERR_INVALID_ARGUMENT);
  BAD(rk_release(NULL), RK_ERR_INVALID_ARGUMENT);
  BAD(rk_release_batch(NULL, 1), RK_ERR_INVALID_ARGUMENT);
  BAD(rk_call(bystander, NULL, &out, 0), RK_ERR_INVALID_ARGUMENT);
  BAD(rk_call(bystander, &message, NULL, 0), RK_ERR_INVALID_ARGUMENT);
  BAD(rk_receive_dead_letter(NULL, &letter, 0), RK_ERR_INVALID_ARGUMENT);
  BAD(rk_receive_dead_letter(runtime, NULL, 0), RK_ERR_INVALID_ARGUMENT);
  BAD(rk_connect(bystander, bystander, NULL), RK_ERR_INVALID_ARGUMENT);
  message.payload = NULL;
  BAD(rk_send(bystander, &message, 0), RK_ERR_INVALID_ARGUMENT);
  BAD(rk_call(bystander, &message, &out, 0), RK_ERR_INVALID_ARGUMENT);
  BAD(rk_context_reply(NULL, &message), RK_ERR_INVALID_ARGUMENT);
  message.payload = "m";
  BAD(rk_context_reply(NULL, &message), RK_ERR_INVALID_ARGUMENT);
  BAD(rk_context_emit(NULL, &message), RK_ERR_INVALID_ARGUMENT);
  BAD(rk_context_send(NULL, 0, &message), RK_ERR_INVALID_ARGUMENT);
  CHECK(rk_context_state(NULL) == NULL && rk_context_user_data(NULL) == NULL && rk_context_shared(NULL) == NULL);
  CHECK(rk_context_kernel(NULL).id == 0 && rk_context_block(NULL) == 0 && rk_context_block_count(NULL) == 0);
  CHECK(rk_context_now(NULL).physical_ns == 0 && rk_context_thread(NULL) == 0);
  rk_context_sync(NULL);
  CHECK(!rk_context_stopping(NULL) && !rk_context_grid_sync(NULL));
  CHECK(rk_last_error(NULL, 0) > 1 && !rk_has_feature(NULL) && rk_has_feature("cpu"));
  CHECK(works(bystander));
}

/* Every function that takes a kernel. */
static void handle_is(rk_kernel_t kernel) {
  rk_op_t op = {0};
  rk_message_t message = check_message("m", 1), out;
  rk_kernel_status_t status = RK_KERNEL_STATUS_INIT;
  rk_kernel_metrics_t metrics = RK_KERNEL_METRICS_INIT;
  rk_loan_t loan;
  uint32_t number;
  size_t count;
  BAD(rk_activate(kernel), RK_ERR_INVALID_HANDLE);
  BAD(rk_deactivate(kernel), RK_ERR_INVALID_HANDLE);
  BAD(rk_terminate(kernel, 0), RK_ERR_INVALID_HANDLE);
  BAD(rk_wait(kernel, RK_FOREVER), RK_ERR_INVALID_HANDLE);
  BAD(rk_destroy(kernel), RK_ERR_INVALID_HANDLE);
  BAD(rk_kernel_name(kernel, NULL, 0, &count), RK_ERR_INVALID_HANDLE);
  BAD(rk_kernel_state(kernel, &number), RK_ERR_INVALID_HANDLE);
  BAD(rk_kernel_status(kernel, &status), RK_ERR_INVALID_HANDLE);
  BAD(rk_kernel_metrics(kernel, &metrics), RK_ERR_INVALID_HANDLE);
  BAD(rk_send(kernel, &message, RK_FOREVER), RK_ERR_INVALID_HANDLE);
  BAD(rk_send_batch(kernel, &message, 1, 0, &count), RK_ERR_INVALID_HANDLE);
  BAD(rk_reserve(kernel, 0, 1, 0, &loan), RK_ERR_INVALID_HANDLE);
  BAD(rk_reserve_batch(kernel, 0, 1, 1, 0, &loan, &count), RK_ERR_INVALID_HANDLE);
  BAD(rk_receive(kernel, &out, RK_FOREVER), RK_ERR_INVALID_HANDLE);
  BAD(rk_receive_batch(kernel, &out, 1, RK_FOREVER, &count), RK_ERR_INVALID_HANDLE);
  BAD(rk_call(kernel, &message, &out, RK_FOREVER), RK_ERR_INVALID_HANDLE);
  BAD(rk_connect(kernel, bystander, &number), RK_ERR_INVALID_HANDLE);
  BAD(rk_connect(bystander, kernel, &number), RK_ERR_INVALID_HANDLE);
  BAD(rk_disconnect(kernel, 0), RK_ERR_INVALID_HANDLE);
  BAD(rk_watch(kernel, RK_WATCH_STATE, 0), RK_ERR_INVALID_HANDLE);
  BAD(rk_call_async(kernel, &message, 0, 0, &op), RK_ERR_INVALID_HANDLE);
  BAD(rk_terminate_async(kernel, 0, 0, &op), RK_ERR_INVALID_HANDLE);
  BAD(rk_checkpoint(kernel, &message, sizeof message, &count), RK_ERR_INVALID_HANDLE);
  BAD(rk_checkpoint(kernel, NULL, 0, NULL), RK_ERR_INVALID_HANDLE);
  BAD(rk_restore(kernel, &message, sizeof message), RK_ERR_INVALID_HANDLE);
}

static void handles_that_are_zero_random_stale_or_of_a_dead_runtime(void) {
  rk_kernel_t kernel, of_dead;
  rk_runtime_t *dead = make_runtime(1);
  rk_launch_options_t options = options_for("echo", 0);
  uint64_t random = 0x9e3779b97f4a7c15u;
  int i;
  kernel.id = 0;
  handle_is(kernel);
  kernel.id = UINT64_MAX;
  handle_is(kernel);
  kernel.id = bystander.id + (1u << 24); /* the next generation */
  handle_is(kernel);
  kernel.id = bystander.id ^ 1;
  handle_is(kernel);
  OK(rk_launch(runtime, "gone", &options, &kernel));
  OK(rk_destroy(kernel));
  handle_is(kernel);
  OK(rk_launch(dead, "k", &options, &of_dead));
  OK(rk_runtime_destroy(dead));
  handle_is(of_dead);
  for (i = 0; i < 1000; i++) {
    random = random * 6364136223846793005u + 1442695040888963407u;
    kernel.id = random;
    CHECK_STATUS(rk_activate(kernel), RK_ERR_INVALID_HANDLE);
  }
  BAD(rk_runtime_destroy(dead), RK_ERR_INVALID_HANDLE);
  BAD(rk_runtime_shutdown(dead, 0), RK_ERR_INVALID_HANDLE);
  BAD(rk_get(dead, "k", &kernel), RK_ERR_INVALID_HANDLE);
  BAD(rk_get((rk_runtime_t *)(void *)&kernel, "k", &kernel), RK_ERR_INVALID_HANDLE);
  BAD(rk_runtime_destroy((rk_runtime_t *)(void *)&kernel), RK_ERR_INVALID_HANDLE);
}

static void forged_leases(void) {
  rk_message_t view, forged, request = check_message("m", 1);
  rk_loan_t loan, other;
  int i;
  OK(rk_call(bystander, &request, &view, RK_FOREVER));
  forged = view;
  BAD(rk_call(bystander, NULL, &forged, 0), RK_ERR_INVALID_ARGUMENT);
  OK(rk_release(&view));
  BAD(rk_release(&view), RK_ERR_INVALID_HANDLE);
  BAD(rk_release(&forged), RK_ERR_INVALID_HANDLE);
  for (i = 0; i < 64; i++) {
    memset(&forged, 0, sizeof forged);
    forged.lease = (uint64_t)1 << i;
    CHECK_STATUS(rk_release(&forged), RK_ERR_INVALID_HANDLE);
    forged.lease = UINT64_MAX << i;
    CHECK_STATUS(rk_release(&forged), RK_ERR_INVALID_HANDLE);
    memset(&other, 0, sizeof other);
    other.lease = (uint64_t)1 << i;
    CHECK_STATUS(rk_commit(&other, NULL, 0), RK_ERR_INVALID_HANDLE);
    other.lease = UINT64_MAX << i;
    CHECK_STATUS(rk_abort(&other), RK_ERR_INVALID_HANDLE);
  }
  OK(rk_reserve(bystander, 0, 8, 0, &loan));
  other = loan;
  other.payload = (char *)other.payload + 64;
  CHECK_STATUS(rk_commit(&other, NULL, 8), RK_ERR_INVALID_HANDLE);
  other = loan;
  other.payload_size = 100000; /* what the caller says of the size is not believed */
  CHECK_STATUS(rk_commit(&other, NULL, 100000), RK_ERR_INVALID_ARGUMENT);
  forged = request;
  forged.lease = loan.lease;
  CHECK_STATUS(rk_release(&forged), RK_ERR_INVALID_HANDLE);
  other = loan;
  OK(rk_abort(&loan));
  BAD(rk_commit(&other, NULL, 8), RK_ERR_INVALID_HANDLE);
  BAD(rk_abort(&other), RK_ERR_INVALID_HANDLE);
}

static void lesson_07_capacities_and_other_numbers(void) {
  static const uint32_t bad[] = {1, 3, 1000, 0x80000001u, 0xffffffffu};
  rk_launch_options_t options = options_for("echo", 0);
  rk_kernel_t kernel;
  rk_message_t out, message = check_message("m", 1);
  size_t i;
  rk_status_t status;
  for (i = 0; i < sizeof bad / sizeof *bad; i++) {
    options.input_queue_capacity = bad[i];
    BAD(rk_launch(runtime, "k", &options, &kernel), RK_ERR_INVALID_ARGUMENT);
    options.input_queue_capacity = 0;
    options.output_queue_capacity = bad[i];
    BAD(rk_launch(runtime, "k", &options, &kernel), RK_ERR_INVALID_ARGUMENT);
    options.output_queue_capacity = 0;
  }
  options.input_queue_capacity = 0x80000000u; /* a power of two: rings come late, so the launch works */
  OK(rk_launch(runtime, "k", &options, &kernel));
  status = rk_send(kernel, &message, 0); /* 512 GiB: what the system has or promises */
  CHECK(status == RK_OK || status == RK_ERR_OUT_OF_MEMORY);
  if (status == RK_OK) {
    OK(rk_receive(kernel, &out, RK_FOREVER));
    OK(rk_release(&out));
  }
  OK(rk_destroy(kernel));
  options = options_for("echo", 0);
  options.payload_size_max = 0xffffffffu;
  BAD(rk_launch(runtime, "k", &options, &kernel), RK_ERR_INVALID_ARGUMENT);
  options = options_for("echo", 3);
  BAD(rk_launch(runtime, "k", &options, &kernel), RK_ERR_INVALID_ARGUMENT);
  options = options_for("echo", 0);
  options.wait_strategy = 3;
  BAD(rk_launch(runtime, "k", &options, &kernel), RK_ERR_INVALID_ARGUMENT);
  options = options_for("echo", 0);
  options.overflow = 2;
  BAD(rk_launch(runtime, "k", &options, &kernel), RK_ERR_INVALID_ARGUMENT);
  options = options_for("echo", 0);
  options.restart = 2;
  BAD(rk_launch(runtime, "k", &options, &kernel), RK_ERR_INVALID_ARGUMENT);
  options = options_for("echo", 0);
  options.flags = 32;
  BAD(rk_launch(runtime, "k", &options, &kernel), RK_ERR_INVALID_ARGUMENT);
  options = options_for("echo", 0);
  options.reserved[3] = 1;
  BAD(rk_launch(runtime, "k", &options, &kernel), RK_ERR_INVALID_ARGUMENT);
  options = options_for("echo", RK_MODE_PERSISTENT);
  options.cpu = 100000;
  BAD(rk_launch(runtime, "k", &options, &kernel), RK_ERR_INVALID_ARGUMENT);
  options.cpu = -1;
  BAD(rk_launch(runtime, "k", &options, &kernel), RK_ERR_INVALID_ARGUMENT);
  options = options_for("echo", 0);
  options.grid_size = 0xffffffffu;
  BAD(rk_launch(runtime, "k", &options, &kernel), RK_ERR_INVALID_ARGUMENT);
  options = options_for("nothing of that name:really", 0);
  BAD(rk_launch(runtime, "k", &options, &kernel), RK_ERR_INVALID_ARGUMENT);
  options = options_for("no-such-program", 0);
  BAD(rk_launch(runtime, "k", &options, &kernel), RK_ERR_NOT_FOUND);
  {
    char words[256];
    rk_launch(runtime, "k", &options, &kernel);
    rk_last_error(words, sizeof words);
    CHECK(strstr(words, "no-such-program") != NULL);
  }
  BAD(rk_get(runtime, "k", &kernel), RK_ERR_NOT_FOUND); /* nothing is left of a failed launch */
}

static void lesson_20_a_launch_that_finds_no_memory_leaves_nothing_behind(void) {
  rk_program_t program = RK_PROGRAM_INIT;
  rk_launch_options_t options = options_for("huge", 0);
  rk_kernel_t kernel;
  program.name = "huge";
  program.on_message = on_echo;
  program.state_size = (size_t)1 << 60;
  OK(rk_program_register(runtime, &program));
  options.grid_size = 3;
  BAD(rk_launch(runtime, "k", &options, &kernel), RK_ERR_OUT_OF_MEMORY);
  BAD(rk_get(runtime, "k", &kernel), RK_ERR_NOT_FOUND);
  options.program = "echo";
  OK(rk_launch(runtime, "k", &options, &kernel));
  CHECK(works(kernel));
  OK(rk_destroy(kernel));
  OK(rk_program_unregister(runtime, "huge"));
}

static void lesson_11_ids_and_names(void) {
  static char id[10001];
  static const char *const bad[] = {"", "two words", "\xff\xfe", "\xc3\xa4", "new\nline", "a*b"};
  rk_launch_options_t options = options_for("echo", 0);
  rk_kernel_t kernel;
  size_t i;
  for (i = 0; i < sizeof bad / sizeof *bad; i++) {
    BAD(rk_launch(runtime, bad[i], &options, &kernel), RK_ERR_INVALID_ARGUMENT);
    BAD(rk_get(runtime, bad[i], &kernel), RK_ERR_INVALID_ARGUMENT);
    BAD(add_program(runtime, bad[i], on_echo, 0, NULL), RK_ERR_INVALID_ARGUMENT);
    BAD(rk_program_unregister(runtime, bad[i]), RK_ERR_INVALID_ARGUMENT);
  }
  memset(id, 'x', 10000);
  BAD(rk_launch(runtime, id, &options, &kernel), RK_ERR_INVALID_ARGUMENT);
  id[128] = '\0';
  BAD(rk_launch(runtime, id, &options, &kernel), RK_ERR_INVALID_ARGUMENT);
  id[127] = '\0';
  OK(rk_launch(runtime, id, &options, &kernel));
  BAD(rk_launch(runtime, id, &options, &kernel), RK_ERR_ALREADY_EXISTS);
  OK(rk_destroy(kernel));
  OK(rk_launch(runtime, "az.AZ_09:/-", &options, &kernel));
  OK(rk_destroy(kernel));
  BAD(add_program(runtime, "echo", on_echo, 0, NULL), RK_ERR_ALREADY_EXISTS);
}

static void lesson_28_struct_sizes(void) {
  struct {
    rk_launch_options_t known;
    uint64_t tail[2];
  } newer;
  struct {
    rk_kernel_status_t known;
    uint64_t tail[2];
  } result;
  rk_launch_options_t older = options_for("echo", 0);
  rk_runtime_options_t options = RK_RUNTIME_OPTIONS_INIT;
  rk_runtime_t *made;
  rk_kernel_t kernel;
  static const uint32_t wrong[] = {0, 1, 4, 7, 4097, 0xffffffffu};
  size_t i;
  for (i = 0; i < sizeof wrong / sizeof *wrong; i++) {
    older.struct_size = wrong[i];
    BAD(rk_launch(runtime, "k", &older, &kernel), RK_ERR_STRUCT_SIZE);
    options.struct_size = wrong[i];
    BAD(rk_runtime_create(&options, &made), RK_ERR_STRUCT_SIZE);
    memset(&result, 0, sizeof result);
    result.known.struct_size = wrong[i];
    BAD(rk_kernel_status(bystander, &result.known), RK_ERR_STRUCT_SIZE);
  }
  memset(&newer, 0, sizeof newer);
  newer.known = options_for("echo", 0);
  newer.known.struct_size = sizeof newer;
  OK(rk_launch(runtime, "newer", &newer.known, &kernel));
  OK(rk_destroy(kernel));
  newer.tail[1] = 1;
  BAD(rk_launch(runtime, "newer", &newer.known, &kernel), RK_ERR_STRUCT_SIZE);
  /* An older struct: only as far as the mode; the id then names the program. */
  memset(&older, 0xff, sizeof older);
  older.struct_size = 8;
  older.mode = RK_MODE_EVENT_DRIVEN;
  OK(rk_launch(runtime, "echo", &older, &kernel));
  CHECK(works(kernel));
  memset(&result, 0, sizeof result);
  result.known.struct_size = 12;
  result.known.backend = 77;
  OK(rk_kernel_status(kernel, &result.known));
  CHECK(result.known.state == RK_STATE_ACTIVE && result.known.mode == RK_MODE_EVENT_DRIVEN);
  CHECK(result.known.backend == 77 && result.known.struct_size == 12); /* not beyond what it knows */
  result.known.struct_size = sizeof result;
  OK(rk_kernel_status(kernel, &result.known));
  CHECK(result.known.backend == RK_BACKEND_CPU && result.known.struct_size == sizeof result);
  result.tail[0] = 1;
  BAD(rk_kernel_status(kernel, &result.known), RK_ERR_STRUCT_SIZE);
  OK(rk_destroy(kernel));
}

static rk_context_t *stolen;
static volatile int go_on, thief_done;
static rk_status_t thief_status[3];
static void *thief_state;

static rk_status_t on_stolen(rk_context_t *ctx, const rk_message_t *message) {
  stolen = ctx;
  go_on = 1;
  while (message->type == 1 && !thief_done) sched_yield();
  return rk_context_reply(ctx, message);
}

static void *thief(void *argument) {
  rk_message_t message = check_message("m", 1);
  (void)argument;
  while (!go_on) sched_yield();
  thief_status[0] = rk_context_reply(stolen, &message);
  thief_status[1] = rk_context_emit(stolen, &message);
  thief_status[2] = rk_context_send(stolen, 0, &message);
  thief_state = rk_context_state(stolen);
  thief_done = 1;
  return NULL;
}

static void contexts_after_their_handler_and_on_other_threads(void) {
  rk_launch_options_t options = options_for("stolen", 0);
  rk_message_t reply, message = check_message("m", 1);
  rk_kernel_t kernel;
  pthread_t thread;
  OK(add_program(runtime, "stolen", on_stolen, 64, NULL));
  OK(rk_launch(runtime, "k", &options, &kernel));
  OK(rk_call(kernel, &message, &reply, RK_FOREVER));
  OK(rk_release(&reply));
  BAD(rk_context_reply(stolen, &message), RK_ERR_INVALID_HANDLE);
  BAD(rk_context_emit(stolen, &message), RK_ERR_INVALID_HANDLE);
  BAD(rk_context_send(stolen, 0, &message), RK_ERR_INVALID_HANDLE);
  CHECK(rk_context_state(stolen) == NULL && rk_context_kernel(stolen).id == 0);
  go_on = thief_done = 0;
  CHECK(pthread_create(&thread, NULL, thief, NULL) == 0);
  message.type = 1;
  OK(rk_call(kernel, &message, &reply, RK_FOREVER));
  OK(rk_release(&reply));
  CHECK(pthread_join(thread, NULL) == 0);
  CHECK(thief_status[0] == RK_ERR_INVALID_HANDLE && thief_status[1] == RK_ERR_INVALID_HANDLE);
  CHECK(thief_status[2] == RK_ERR_INVALID_HANDLE && thief_state == NULL);
  OK(rk_destroy(kernel));
}

static void the_environment_chooses_for_auto_only(void) {
  rk_runtime_options_t options = RK_RUNTIME_OPTIONS_INIT;
  rk_runtime_t *made;
  uint32_t backend;
  bool yes;
  OK(setenv("RK_BACKEND", "gpu", 1) == 0 ? RK_OK : 1);
  BAD(rk_runtime_create(NULL, &made), RK_ERR_INVALID_ARGUMENT);
  setenv("RK_BACKEND", "cuda", 1);
  BAD(rk_runtime_create(NULL, &made), RK_ERR_BACKEND_UNAVAILABLE);
  options.backend = RK_BACKEND_CPU;
  OK(rk_runtime_create(&options, &made));
  OK(rk_runtime_destroy(made));
  setenv("RK_BACKEND", "cpu", 1);
  options.backend = RK_BACKEND_CUDA;
  BAD(rk_runtime_create(&options, &made), RK_ERR_BACKEND_UNAVAILABLE);
  setenv("RK_BACKEND", "", 1);
  OK(rk_runtime_create(NULL, &made));
  OK(rk_runtime_backend(made, &backend));
  CHECK(backend == RK_BACKEND_CPU);
  OK(rk_runtime_is_backend_available(made, RK_BACKEND_AUTO, &yes));
  CHECK(yes);
  OK(rk_runtime_is_backend_available(made, RK_BACKEND_CPU, &yes));
  CHECK(yes);
  OK(rk_runtime_is_backend_available(made, RK_BACKEND_CUDA, &yes));
  CHECK(!yes);
  OK(rk_runtime_destroy(made));
  unsetenv("RK_BACKEND");
  options.backend = 3;
  BAD(rk_runtime_create(&options, &made), RK_ERR_INVALID_ARGUMENT);
  options.backend = 0;
  options.reserved[7] = 1;
  BAD(rk_runtime_create(&options, &made), RK_ERR_INVALID_ARGUMENT);
}

static void programs_that_cannot_run(void) {
  rk_program_t program = RK_PROGRAM_INIT;
  rk_launch_options_t options = options_for("device", 0);
  rk_kernel_t kernel;
  program.name = "device";
  BAD(rk_program_register(runtime, &program), RK_ERR_INVALID_ARGUMENT);
  program.cuda_code_kind = RK_CODE_SOURCE;
  BAD(rk_program_register(runtime, &program), RK_ERR_INVALID_ARGUMENT);
  program.cuda_code = "code";
  program.cuda_code_size = 4;
  OK(rk_program_register(runtime, &program));
  BAD(rk_launch(runtime, "k", &options, &kernel), RK_ERR_UNSUPPORTED);
  OK(rk_program_unregister(runtime, "device"));
  program.cuda_code_kind = 4;
  BAD(rk_program_register(runtime, &program), RK_ERR_INVALID_ARGUMENT);
  program = rk_program_init();
  program.name = "flags";
  program.on_message = on_echo;
  program.flags = 1;
  BAD(rk_program_register(runtime, &program), RK_ERR_INVALID_ARGUMENT);
  program.flags = 0;
  program.reserved[0] = 1;
  BAD(rk_program_register(runtime, &program), RK_ERR_INVALID_ARGUMENT);
}

static void limits_of_a_runtime(void) {
  rk_runtime_options_t options = RK_RUNTIME_OPTIONS_INIT;
  rk_launch_options_t launch = options_for("echo", 0);
  rk_runtime_t *small;
  rk_kernel_t kernel;
  options.kernels_max = 1;
  OK(rk_runtime_create(&options, &small));
  OK(add_program(small, "echo", on_echo, 0, NULL));
  OK(rk_launch(small, "a", &launch, &kernel));
  BAD(rk_launch(small, "b", &launch, &kernel), RK_ERR_LIMIT);
  OK(rk_terminate(kernel, RK_FOREVER));
  OK(rk_launch(small, "b", &launch, &kernel));
  OK(rk_runtime_destroy(small));
  options.worker_threads = 100000;
  BAD(rk_runtime_create(&options, &small), RK_ERR_INVALID_ARGUMENT);
}

static void what_comes_later_says_so(void) {
  char buffer[64];
  size_t count;
  BAD(rk_metrics_text(runtime, RK_TEXT_JSON, buffer, sizeof buffer, &count), RK_ERR_UNSUPPORTED);
  BAD(rk_explain(runtime, buffer, sizeof buffer, &count), RK_ERR_UNSUPPORTED);
  BAD(rk_trace_start(runtime, "trace"), RK_ERR_UNSUPPORTED);
  BAD(rk_trace_stop(runtime), RK_ERR_UNSUPPORTED);
}

static int log_lines;
static void on_log(uint32_t level, const char *message, void *user_data) {
  if (level >= 1 && level <= 5 && message[0] != '\0' && user_data == &log_lines) log_lines++;
  if (rk_set_logger(NULL, NULL, 0) != RK_ERR_WOULD_DEADLOCK) log_lines = -1000;
}

static void the_logger_is_silent_until_set_and_after_removal(void) {
  rk_runtime_t *made;
  OK(rk_set_logger(on_log, &log_lines, RK_LOG_TRACE));
  made = make_runtime(1);
  OK(rk_runtime_destroy(made));
  CHECK(log_lines > 0);
  OK(rk_set_logger(NULL, NULL, 0));
  log_lines = 0;
  made = make_runtime(1);
  OK(rk_runtime_destroy(made));
  CHECK(log_lines == 0);
  BAD(rk_set_logger(on_log, NULL, 6), RK_ERR_INVALID_ARGUMENT);
  BAD(rk_set_logger(on_log, NULL, 0), RK_ERR_INVALID_ARGUMENT);
}

int main(int argc, char **argv) {
  rk_launch_options_t options = options_for("echo", 0);
  fixture_unused();
  runtime = make_runtime(1);
  if (runtime == NULL || rk_launch(runtime, "bystander", &options, &bystander) != RK_OK) return 2;
  RUN(null_for_every_pointer);
  RUN(handles_that_are_zero_random_stale_or_of_a_dead_runtime);
  RUN(forged_leases);
  RUN(lesson_07_capacities_and_other_numbers);
  RUN(lesson_20_a_launch_that_finds_no_memory_leaves_nothing_behind);
  RUN(lesson_11_ids_and_names);
  RUN(lesson_28_struct_sizes);
  RUN(contexts_after_their_handler_and_on_other_threads);
  RUN(the_environment_chooses_for_auto_only);
  RUN(programs_that_cannot_run);
  RUN(limits_of_a_runtime);
  RUN(what_comes_later_says_so);
  RUN(the_logger_is_silent_until_set_and_after_removal);
  if (rk_runtime_destroy(runtime) != RK_OK) return 2;
  return check_result();
}
