/* lesson 22: threads that call the library while they end, when their C++ and Rust thread-local variables are gone. */
#include "fixture.h"

static uint32_t mode, flags;
static rk_runtime_t *runtime;
static rk_kernel_t echo;
static pthread_key_t last_breath;
static volatile int breaths;

/* The destructor of a pthread key runs after those of thread-local variables. */
static void call_with_the_last_breath(void *argument) {
  rk_kernel_t none;
  rk_loan_t loan;
  rk_message_t out, message = check_message("last", 4);
  char words[64];
  (void)argument;
  breaths += works(echo);
  breaths += rk_get(runtime, "no-such-kernel", &none) == RK_ERR_NOT_FOUND;
  breaths += rk_send(echo, &message, 0) == RK_OK && rk_receive(echo, &out, RK_FOREVER) == RK_OK &&
             rk_release(&out) == RK_OK;
  breaths += rk_reserve(echo, 0, 4, 0, &loan) == RK_OK && rk_abort(&loan) == RK_OK;
  rk_last_error(words, sizeof words); /* some text, and no crash */
}

static void *live_shortly(void *argument) {
  if (argument != NULL && !works(echo)) return argument;
  pthread_setspecific(last_breath, &last_breath);
  return NULL;
}

static void lesson_22_a_thread_may_call_while_it_ends(void) {
  rk_launch_options_t options = options_for("echo", mode);
  pthread_t thread;
  void *failed;
  int i;
  runtime = make_runtime(1);
  options.flags = flags;
  OK(rk_launch(runtime, "echo", &options, &echo));
  breaths = 0;
  CHECK(pthread_key_create(&last_breath, call_with_the_last_breath) == 0);
  for (i = 0; i < 20; i++) { /* some had called before, some had not */
    CHECK(pthread_create(&thread, NULL, live_shortly, i % 2 ? &last_breath : NULL) == 0);
    CHECK(pthread_join(thread, &failed) == 0 && failed == NULL);
  }
  CHECK(breaths == 80);
  CHECK(metrics_of(echo).open_leases == 0);
  CHECK(pthread_key_delete(last_breath) == 0);
  OK(rk_runtime_destroy(runtime));
}

static volatile int handled_at_the_end;

/* The handler runs on the ending thread when that helps. */
static rk_status_t on_count_and_call(rk_context_t *ctx, const rk_message_t *message) {
  if (works(echo)) handled_at_the_end++;
  return rk_context_reply(ctx, message);
}

static rk_kernel_t nests;

static void call_a_handler_that_calls(void *argument) {
  (void)argument;
  breaths += works(nests);
}

static void lesson_22_handlers_run_on_a_thread_that_ends(void) {
  rk_launch_options_t options = options_for("echo", mode);
  pthread_t thread;
  int i;
  runtime = make_runtime(1);
  options.flags = flags;
  OK(add_program(runtime, "nests", on_count_and_call, 0, NULL));
  OK(rk_launch(runtime, "echo", &options, &echo));
  options.program = "nests";
  OK(rk_launch(runtime, "nests", &options, &nests));
  breaths = handled_at_the_end = 0;
  CHECK(pthread_key_create(&last_breath, call_a_handler_that_calls) == 0);
  for (i = 0; i < 20; i++) {
    CHECK(pthread_create(&thread, NULL, live_shortly, i % 2 ? &last_breath : NULL) == 0);
    CHECK(pthread_join(thread, NULL) == 0);
  }
  CHECK(breaths == 20 && handled_at_the_end == 20);
  CHECK(pthread_key_delete(last_breath) == 0);
  OK(rk_runtime_destroy(runtime));
}

int main(int argc, char **argv) {
  static const uint32_t variants[][2] = {
      {RK_MODE_PERSISTENT, 0}, {RK_MODE_EVENT_DRIVEN, 0}, {RK_MODE_EVENT_DRIVEN, RK_LAUNCH_NO_HELP}};
  size_t i;
  fixture_unused();
  for (i = 0; i < 3; i++) {
    mode = variants[i][0];
    flags = variants[i][1];
    printf("mode %u flags %u\n", mode, flags);
    RUN(lesson_22_a_thread_may_call_while_it_ends);
    RUN(lesson_22_handlers_run_on_a_thread_that_ends);
  }
  return check_result();
}
