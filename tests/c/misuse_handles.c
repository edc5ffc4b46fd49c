/* Runtimes and contexts that are none (any more), at every function that takes one. */
#include "fixture.h"

static rk_runtime_t *runtime;
static rk_kernel_t bystander;
static int drops;

static void count_drop(void *user_data) { drops += user_data == (void *)&drops; }

/* A status with words for it, and a bystander that still works. */
#define BAD(call, expected)               \
  do {                                    \
    char words_[256];                     \
    CHECK_STATUS(call, expected);         \
    rk_last_error(words_, sizeof words_); \
    CHECK(words_[0] != '\0');             \
    CHECK(works(bystander));              \
  } while (0)

/* Every function that takes a runtime. */
static void runtime_is(rk_runtime_t *bad) {
  rk_program_t program = RK_PROGRAM_INIT;
  rk_runtime_metrics_t totals = RK_RUNTIME_METRICS_INIT;
  rk_dead_letter_t letter;
  rk_kernel_t kernel;
  uint32_t number;
  size_t count;
  bool yes;
  program.name = "p";
  program.on_message = on_echo;
  program.user_data = &drops;
  program.drop_user_data = count_drop;
  drops = 0;
  BAD(rk_runtime_backend(bad, &number), RK_ERR_INVALID_HANDLE);
  BAD(rk_runtime_is_backend_available(bad, RK_BACKEND_CPU, &yes), RK_ERR_INVALID_HANDLE);
  BAD(rk_runtime_shutdown(bad, RK_FOREVER), RK_ERR_INVALID_HANDLE);
  BAD(rk_runtime_destroy(bad), RK_ERR_INVALID_HANDLE);
  BAD(rk_program_register(bad, &program), RK_ERR_INVALID_HANDLE);
  CHECK(drops == 1);
  BAD(rk_program_unregister(bad, "p"), RK_ERR_INVALID_HANDLE);
  BAD(rk_launch(bad, "k", NULL, &kernel), RK_ERR_INVALID_HANDLE);
  BAD(rk_get(bad, "k", &kernel), RK_ERR_INVALID_HANDLE);
  BAD(rk_list(bad, &kernel, 1, &count), RK_ERR_INVALID_HANDLE);
  BAD(rk_receive_dead_letter(bad, &letter, RK_FOREVER), RK_ERR_INVALID_HANDLE);
  BAD(rk_metrics(bad, &totals), RK_ERR_INVALID_HANDLE);
}

static rk_runtime_t *address(uint64_t number) { return (rk_runtime_t *)(uintptr_t)number; }

static void runtimes_that_are_stale_or_never_were(void) {
  static const uint64_t numbers[] = {1, 7, 64, 4096, 0xdeadbeefu, 0x7fffffffffffu, UINT64_MAX, UINT64_MAX - 63,
                                     (uint64_t)1 << 63};
  rk_runtime_t *stale[3];
  char on_the_stack[64];
  size_t i;
  for (i = 0; i < 3; i++) {
    stale[i] = make_runtime(1);
    CHECK(stale[i] != NULL);
    OK(rk_runtime_destroy(stale[i]));
  }
  for (i = 0; i < 3; i++) {
    runtime_is(stale[i]);
    if (check_bad) return;
  }
  for (i = 0; i < sizeof numbers / sizeof *numbers; i++) {
    runtime_is(address(numbers[i]));
    if (check_bad) return;
  }
  for (i = 0; i < 64; i++) { /* one bit beside a runtime that is there */
    rk_runtime_t *beside = address((uint64_t)(uintptr_t)runtime ^ ((uint64_t)1 << i));
    uint32_t number;
    if (beside != NULL) BAD(rk_runtime_backend(beside, &number), RK_ERR_INVALID_HANDLE);
  }
  memset(on_the_stack, 0, sizeof on_the_stack);
  runtime_is((rk_runtime_t *)(void *)on_the_stack);
}

static void a_stale_runtime_stays_stale_when_others_come(void) {
  rk_runtime_t *stale = make_runtime(1);
  rk_kernel_t of_stale;
  rk_launch_options_t options = options_for("echo", 0);
  int i;
  OK(rk_launch(stale, "k", &options, &of_stale));
  OK(rk_runtime_destroy(stale));
  for (i = 0; i < 300; i++) {
    rk_runtime_t *next = NULL;
    rk_runtime_options_t cpu = RK_RUNTIME_OPTIONS_INIT;
    uint32_t number;
    cpu.worker_threads = 1;
    cpu.backend = RK_BACKEND_CPU;
    OK(rk_runtime_create(&cpu, &next));
    CHECK(next != stale);
    CHECK_STATUS(rk_runtime_backend(stale, &number), RK_ERR_INVALID_HANDLE);
    CHECK_STATUS(rk_activate(of_stale), RK_ERR_INVALID_HANDLE);
    OK(rk_runtime_destroy(next));
  }
  CHECK(works(bystander));
}

static void a_stale_kernel_stays_stale_when_others_come(void) {
  rk_launch_options_t options = options_for("echo", 0);
  rk_kernel_t first, kernel;
  int i;
  OK(rk_launch(runtime, "k", &options, &first));
  OK(rk_destroy(first));
  for (i = 0; i < 5000; i++) {
    OK(rk_launch(runtime, "k", &options, &kernel));
    CHECK(kernel.id != first.id && kernel.id != 0);
    CHECK_STATUS(rk_activate(first), RK_ERR_INVALID_HANDLE);
    OK(rk_destroy(kernel));
    CHECK_STATUS(rk_activate(kernel), RK_ERR_INVALID_HANDLE);
  }
  CHECK(works(bystander));
}

/* What each function says of a context; the ones without a status answer with nothing. */
static int is_refused(rk_context_t *ctx) {
  rk_message_t message = check_message("m", 1);
  rk_timestamp_t now = rk_context_now(ctx);
  int refused = rk_context_reply(ctx, &message) == RK_ERR_INVALID_HANDLE;
  refused += rk_context_emit(ctx, &message) == RK_ERR_INVALID_HANDLE;
  refused += rk_context_send(ctx, 0, &message) == RK_ERR_INVALID_HANDLE;
  refused += rk_context_state(ctx) == NULL && rk_context_user_data(ctx) == NULL && rk_context_shared(ctx) == NULL;
  refused += rk_context_kernel(ctx).id == 0;
  refused += rk_context_block(ctx) == 0 && rk_context_block_count(ctx) == 0;
  refused += rk_context_thread(ctx) == 0 && rk_context_thread_count(ctx) == 0;
  refused += now.physical_ns == 0 && now.logical == 0 && now.node == 0;
  rk_context_sync(ctx);
  return refused == 8;
}

static rk_context_t *stolen[3]; /* of a start, a message, a stop */
static volatile int stolen_from, checked;
static volatile int refused_elsewhere;

static rk_status_t steal_start(rk_context_t *ctx) {
  stolen[0] = ctx;
  return RK_OK;
}

static rk_status_t steal_message(rk_context_t *ctx, const rk_message_t *message) {
  stolen[1] = ctx;
  stolen_from = 1;
  while (message->type == 1 && !checked) sched_yield();
  return rk_context_reply(ctx, message);
}

static void steal_stop(rk_context_t *ctx) { stolen[2] = ctx; }

static void *use_elsewhere(void *argument) {
  (void)argument;
  while (!stolen_from) sched_yield();
  refused_elsewhere = is_refused(stolen[1]); /* while its handler is running */
  checked = 1;
  return NULL;
}

static void lesson_21_contexts_are_of_one_thread_and_one_call(void) {
  static const uint32_t modes[] = {RK_MODE_PERSISTENT, RK_MODE_EVENT_DRIVEN};
  size_t i, j;
  for (i = 0; i < 2; i++) {
    rk_program_t program = RK_PROGRAM_INIT;
    rk_launch_options_t options = options_for("steals", modes[i]);
    rk_message_t reply, request = check_message("m", 1);
    rk_kernel_t kernel;
    pthread_t thread;
    program.name = "steals";
    program.on_message = steal_message;
    program.on_start = steal_start;
    program.on_stop = steal_stop;
    program.state_size = 64;
    program.user_data = &drops;
    OK(rk_program_register(runtime, &program));
    options.shared_memory_size = 64;
    options.grid_size = 2;
    OK(rk_launch(runtime, "k", &options, &kernel));
    request.block = 1;
    stolen_from = checked = refused_elsewhere = 0;
    CHECK(pthread_create(&thread, NULL, use_elsewhere, NULL) == 0);
    request.type = 1;
    OK(rk_call(kernel, &request, &reply, RK_FOREVER));
    OK(rk_release(&reply));
    CHECK(pthread_join(thread, NULL) == 0);
    CHECK(refused_elsewhere);
    CHECK(is_refused(stolen[0]) && is_refused(stolen[1]));
    OK(rk_terminate(kernel, RK_FOREVER));
    for (j = 0; j < 3; j++) CHECK(stolen[j] != NULL && is_refused(stolen[j]));
    CHECK_STATUS(rk_receive(kernel, &reply, 0), RK_ERR_TERMINATED); /* nothing of it got out */
    OK(rk_destroy(kernel));
    for (j = 0; j < 3; j++) CHECK(is_refused(stolen[j]));
    OK(rk_program_unregister(runtime, "steals"));
  }
  CHECK(works(bystander));
}

static void contexts_that_never_were(void) {
  static const uint64_t numbers[] = {1, 8, 4096, 0xdeadbeefu, 0x7fffffffffffu, UINT64_MAX, (uint64_t)1 << 63};
  char on_the_stack[64];
  size_t i;
  for (i = 0; i < sizeof numbers / sizeof *numbers; i++) {
    CHECK(is_refused((rk_context_t *)(uintptr_t)numbers[i]));
  }
  memset(on_the_stack, 0xff, sizeof on_the_stack);
  CHECK(is_refused((rk_context_t *)(void *)on_the_stack));
  CHECK(is_refused((rk_context_t *)(void *)runtime));
  CHECK(works(bystander));
}

/* A context of the wrong kind at a random place, many times: a status and never a crash. */
static void contexts_at_random(void) {
  uint64_t random = 0x2545f4914f6cdd1du;
  int i;
  for (i = 0; i < 2000; i++) {
    random ^= random << 13, random ^= random >> 7, random ^= random << 17;
    CHECK(is_refused((rk_context_t *)(uintptr_t)random));
  }
  CHECK(works(bystander));
}

int main(int argc, char **argv) {
  rk_launch_options_t options = options_for("echo", 0);
  fixture_unused();
  runtime = make_runtime(1);
  if (runtime == NULL || rk_launch(runtime, "bystander", &options, &bystander) != RK_OK) return 2;
  RUN(runtimes_that_are_stale_or_never_were);
  RUN(a_stale_runtime_stays_stale_when_others_come);
  RUN(a_stale_kernel_stays_stale_when_others_come);
  RUN(lesson_21_contexts_are_of_one_thread_and_one_call);
  RUN(contexts_that_never_were);
  RUN(contexts_at_random);
  if (rk_runtime_destroy(runtime) != RK_OK) return 2;
  return check_result();
}
