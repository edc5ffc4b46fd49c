/* lesson 23: a child of fork gets RK_ERR_FORKED from every call, at once; the parent goes on. */
#include "fixture.h"
#include <sys/wait.h>

static rk_runtime_t *runtime;
static rk_kernel_t kernel;

/* Calls everything that returns a status; how many answered otherwise. */
static int all_forked(void) {
  int wrong = 0;
  rk_op_t op = {0};
  rk_message_t message = check_message("m", 1);
#define FORKED(call)                                                       \
  do {                                                                     \
    rk_status_t status_ = (call);                                          \
    if (status_ != RK_ERR_FORKED) {                                        \
      printf("%s is %s in the child\n", #call, rk_status_name(status_));   \
      wrong++;                                                             \
    }                                                                      \
  } while (0)
  FORKED(rk_set_logger(NULL, NULL, 0));
  FORKED(rk_runtime_create(NULL, NULL));
  FORKED(rk_runtime_backend(runtime, NULL));
  FORKED(rk_runtime_is_backend_available(runtime, 0, NULL));
  FORKED(rk_runtime_shutdown(runtime, 0));
  FORKED(rk_runtime_destroy(runtime));
  FORKED(rk_runtime_destroy(NULL));
  FORKED(rk_program_register(runtime, NULL));
  FORKED(rk_program_unregister(runtime, NULL));
  FORKED(rk_launch(runtime, NULL, NULL, NULL));
  FORKED(rk_launch_async(runtime, NULL, NULL, 0, NULL));
  FORKED(rk_get(runtime, NULL, NULL));
  FORKED(rk_list(runtime, NULL, 0, NULL));
  FORKED(rk_activate(kernel));
  FORKED(rk_deactivate(kernel));
  FORKED(rk_terminate(kernel, 0));
  FORKED(rk_terminate_async(kernel, 0, 0, NULL));
  FORKED(rk_wait(kernel, 0));
  FORKED(rk_destroy(kernel));
  FORKED(rk_kernel_name(kernel, NULL, 0, NULL));
  FORKED(rk_kernel_state(kernel, NULL));
  FORKED(rk_kernel_status(kernel, NULL));
  FORKED(rk_connect(kernel, kernel, NULL));
  FORKED(rk_disconnect(kernel, 0));
  FORKED(rk_checkpoint(kernel, NULL, 0, NULL));
  FORKED(rk_restore(kernel, NULL, 0));
  FORKED(rk_send(kernel, &message, RK_FOREVER));
  FORKED(rk_send_batch(kernel, &message, 1, 0, NULL));
  FORKED(rk_reserve(kernel, 0, 0, 0, NULL));
  FORKED(rk_commit(NULL, NULL, 0));
  FORKED(rk_abort(NULL));
  FORKED(rk_reserve_batch(kernel, 0, 0, 0, 0, NULL, NULL));
  FORKED(rk_commit_batch(NULL, NULL, 0));
  FORKED(rk_receive(kernel, &message, RK_FOREVER));
  FORKED(rk_receive_batch(kernel, &message, 1, 0, NULL));
  FORKED(rk_release(&message));
  FORKED(rk_release_batch(&message, 1));
  FORKED(rk_call(kernel, &message, &message, RK_FOREVER));
  FORKED(rk_call_async(kernel, &message, 0, 0, NULL));
  FORKED(rk_receive_dead_letter(runtime, NULL, RK_FOREVER));
  FORKED(rk_context_reply(NULL, NULL));
  FORKED(rk_context_emit(NULL, NULL));
  FORKED(rk_context_send(NULL, 0, NULL));
  FORKED(rk_poll(runtime, NULL, 0, 0, NULL));
  FORKED(rk_event_fd(runtime, NULL));
  FORKED(rk_watch(kernel, 0, 0));
  FORKED(rk_cancel(runtime, op));
  FORKED(rk_metrics(runtime, NULL));
  FORKED(rk_kernel_metrics(kernel, NULL));
  FORKED(rk_metrics_text(runtime, 0, NULL, 0, NULL));
  FORKED(rk_explain(runtime, NULL, 0, NULL));
  FORKED(rk_trace_start(runtime, NULL));
  FORKED(rk_trace_stop(runtime));
  if (rk_context_state(NULL) != NULL || rk_version() == 0 || rk_last_error(NULL, 0) < 10) wrong++;
  return wrong;
}

static void in_child(int (*body)(void), int by_exit) {
  int status = 0;
  pid_t child;
  fflush(stdout);
  child = fork();
  if (child == 0) {
    int wrong = body();
    fflush(stdout);
    if (by_exit) exit(wrong != 0);
    _exit(wrong != 0);
  }
  CHECK(child > 0);
  CHECK(waitpid(child, &status, 0) == child);
  CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

static int make_one(void) {
  rk_runtime_t *own = make_runtime(1);
  rk_launch_options_t options = options_for("echo", RK_MODE_PERSISTENT);
  rk_kernel_t echo;
  if (own == NULL || rk_launch(own, "k", &options, &echo) != RK_OK || !works(echo)) return 1;
  return rk_runtime_destroy(own) != RK_OK;
}

static void without_a_runtime_before_the_fork_the_child_may_make_one(void) {
  in_child(make_one, 0);
  in_child(make_one, 1);
}

static void after_a_runtime_that_could_not_be_made_the_child_may_make_one(void) {
  rk_runtime_options_t options = RK_RUNTIME_OPTIONS_INIT;
  rk_runtime_t *none = NULL;
  options.backend = RK_BACKEND_CUDA;
  setenv("CUDA_VISIBLE_DEVICES", "", 1); /* no device, whatever this machine has */
  CHECK(rk_runtime_create(&options, &none) != RK_OK && none == NULL);
  in_child(make_one, 0);
  in_child(make_one, 1);
}

static void lesson_23_every_call_in_a_child_is_refused_at_once(void) {
  rk_launch_options_t options = options_for("echo", RK_MODE_PERSISTENT);
  rk_kernel_t event_driven;
  runtime = make_runtime(2);
  OK(rk_launch(runtime, "k", &options, &kernel));
  options.mode = RK_MODE_EVENT_DRIVEN;
  OK(rk_launch(runtime, "e", &options, &event_driven));
  CHECK(works(kernel) && works(event_driven));
  in_child(all_forked, 0);
  in_child(all_forked, 1);
  CHECK(works(kernel) && works(event_driven)); /* the parent goes on */
  OK(rk_runtime_destroy(runtime));
  in_child(all_forked, 0);
}

int main(int argc, char **argv) {
  fixture_unused();
  RUN(without_a_runtime_before_the_fork_the_child_may_make_one);
  RUN(after_a_runtime_that_could_not_be_made_the_child_may_make_one);
  RUN(lesson_23_every_call_in_a_child_is_refused_at_once);
  return check_result();
}
