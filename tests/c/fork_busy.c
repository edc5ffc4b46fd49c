/* lesson 23: forks in the middle of everything: while other threads wait and call, with open views and loans, from
 * inside a handler. The child is told and ends by _exit and by exit; the parent goes on. */
#include "fixture.h"
#include <sys/wait.h>

static rk_runtime_t *runtime;
static rk_kernel_t echo, quiet;
static rk_message_t view;
static rk_loan_t loan;

/* What a child that was forked in the middle can try; how much of it was not refused, as an exit code. */
static int child_tries(void) {
  rk_message_t out, message = check_message("child", 5);
  rk_loan_t copy = loan;
  rk_runtime_t *made = NULL;
  char words[128];
  int wrong = 0;
  wrong += rk_send(echo, &message, RK_FOREVER) != RK_ERR_FORKED;
  wrong += rk_call(echo, &message, &out, RK_FOREVER) != RK_ERR_FORKED;
  wrong += rk_receive(quiet, &out, RK_FOREVER) != RK_ERR_FORKED;
  wrong += rk_wait(quiet, RK_FOREVER) != RK_ERR_FORKED;
  wrong += rk_terminate(echo, RK_FOREVER) != RK_ERR_FORKED;
  wrong += rk_commit(&copy, NULL, 1) != RK_ERR_FORKED;
  wrong += rk_abort(&copy) != RK_ERR_FORKED;
  out = view;
  wrong += rk_release(&out) != RK_ERR_FORKED;
  wrong += out.payload_size != 4 || memcmp(out.payload, "kept", 4) != 0; /* memory is memory */
  wrong += rk_runtime_create(NULL, &made) != RK_ERR_FORKED;
  wrong += rk_runtime_shutdown(runtime, RK_FOREVER) != RK_ERR_FORKED;
  wrong += rk_runtime_destroy(runtime) != RK_ERR_FORKED;
  wrong += rk_last_error(words, sizeof words) < 10 || strstr(words, "fork") == NULL;
  wrong += rk_version() == 0 || rk_status_name(RK_ERR_FORKED) == NULL;
  return wrong;
}

static int in_child(int by_exit) {
  int status = 0;
  pid_t child;
  fflush(stdout);
  child = fork();
  if (child == 0) {
    int wrong = 0;
    alarm(20);
    wrong = child_tries();
    if (by_exit) exit(wrong);
    _exit(wrong);
  }
  if (child < 0 || waitpid(child, &status, 0) != child) return 1;
  if (!WIFEXITED(status) || WEXITSTATUS(status) != 0) printf("a child ended with %d\n", status);
  return !WIFEXITED(status) || WEXITSTATUS(status) != 0;
}

static volatile int stop, failures;

static void *call_on(void *argument) {
  (void)argument;
  while (!stop) {
    if (!works(echo)) failures++;
  }
  return NULL;
}

static void *wait_on(void *argument) {
  rk_message_t out;
  (void)argument;
  if (rk_receive(quiet, &out, RK_FOREVER) != RK_ERR_TERMINATED) failures++;
  return NULL;
}

static int set_up(uint32_t mode) {
  rk_launch_options_t options = options_for("echo", mode);
  rk_message_t message = check_message("kept", 4);
  runtime = make_runtime(2);
  failures = stop = 0;
  return runtime != NULL && rk_launch(runtime, "echo", &options, &echo) == RK_OK &&
         rk_launch(runtime, "quiet", &options, &quiet) == RK_OK &&
         rk_call(echo, &message, &view, RK_FOREVER) == RK_OK && rk_reserve(quiet, 0, 1, 0, &loan) == RK_OK;
}

static void tear_down(void) {
  CHECK(works(echo));
  OK(rk_release(&view));
  OK(rk_abort(&loan));
  OK(rk_runtime_destroy(runtime));
}

static void lesson_23_forks_while_others_call_and_wait(void) {
  static const uint32_t modes[] = {RK_MODE_PERSISTENT, RK_MODE_EVENT_DRIVEN};
  size_t i;
  for (i = 0; i < 2; i++) {
    pthread_t callers[2], waiter;
    int round, j;
    CHECK(set_up(modes[i]));
    for (j = 0; j < 2; j++) CHECK(pthread_create(&callers[j], NULL, call_on, NULL) == 0);
    CHECK(pthread_create(&waiter, NULL, wait_on, NULL) == 0);
    for (round = 0; round < (check_slow() ? 4 : 40); round++) CHECK(in_child(round % 2) == 0);
    stop = 1;
    for (j = 0; j < 2; j++) CHECK(pthread_join(callers[j], NULL) == 0);
    OK(rk_terminate(quiet, RK_FOREVER));
    CHECK(pthread_join(waiter, NULL) == 0);
    CHECK(failures == 0);
    tear_down();
    if (check_bad) return;
  }
}

/* Forks; the child has the handler's context, which is of no use there. */
static rk_status_t on_fork(rk_context_t *ctx, const rk_message_t *message) {
  int status = 0, by_exit = message->type == 1;
  pid_t child;
  fflush(stdout);
  child = fork();
  if (child == 0) {
    int wrong = child_tries();
    alarm(20);
    wrong += rk_context_reply(ctx, message) != RK_ERR_FORKED;
    wrong += rk_context_emit(ctx, message) != RK_ERR_FORKED;
    wrong += rk_context_send(ctx, 0, message) != RK_ERR_FORKED;
    if (by_exit) exit(wrong);
    _exit(wrong);
  }
  if (child < 0 || waitpid(child, &status, 0) != child || !WIFEXITED(status) || WEXITSTATUS(status) != 0) return 1;
  return rk_context_reply(ctx, message);
}

static void lesson_23_a_fork_in_a_handler(void) {
  static const uint32_t variants[][2] = {
      {RK_MODE_PERSISTENT, 0}, {RK_MODE_EVENT_DRIVEN, 0}, {RK_MODE_EVENT_DRIVEN, RK_LAUNCH_NO_HELP}};
  size_t i;
  for (i = 0; i < 3; i++) {
    rk_launch_options_t options = options_for("forks", variants[i][0]);
    rk_message_t reply, request = check_message("m", 1);
    rk_kernel_t kernel;
    CHECK(set_up(variants[i][0]));
    OK(add_program(runtime, "forks", on_fork, 0, NULL));
    options.flags = variants[i][1];
    OK(rk_launch(runtime, "forks", &options, &kernel));
    for (request.type = 0; request.type < 2; request.type++) {
      OK(rk_call(kernel, &request, &reply, RK_FOREVER));
      OK(rk_release(&reply));
    }
    tear_down();
    if (check_bad) return;
  }
}

/* The library was used, but no runtime was there: the child is free, and its own child is not. */
static int grandchild_is_refused(void) {
  int status = 0;
  pid_t child;
  if (!set_up(RK_MODE_EVENT_DRIVEN) || !works(echo)) return 1;
  child = fork();
  if (child == 0) _exit(child_tries());
  if (child < 0 || waitpid(child, &status, 0) != child || !WIFEXITED(status) || WEXITSTATUS(status) != 0) return 2;
  tear_down();
  return check_bad;
}

static void lesson_23_a_child_before_any_runtime_is_free_and_its_own_child_is_not(void) {
  rk_kernel_t none = {0};
  int status = 0;
  pid_t child;
  CHECK(rk_version() != 0);
  CHECK_STATUS(rk_activate(none), RK_ERR_INVALID_HANDLE);
  fflush(stdout);
  child = fork();
  if (child == 0) {
    alarm(20);
    exit(grandchild_is_refused());
  }
  CHECK(child > 0 && waitpid(child, &status, 0) == child);
  CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

int main(int argc, char **argv) {
  fixture_unused();
  RUN(lesson_23_a_child_before_any_runtime_is_free_and_its_own_child_is_not); /* first: no runtime was there */
  RUN(lesson_23_forks_while_others_call_and_wait);
  RUN(lesson_23_a_fork_in_a_handler);
  return check_result();
}
