/* lessons 17 and 21: a process ends, whatever its kernels do, at once and without a crash. Each way in a process
 * of its own. */
#include "fixture.h"
#include <sys/wait.h>

static gate_t gate;

static rk_kernel_t busy(uint32_t mode, const char *program) {
  rk_runtime_t *runtime = make_runtime(2);
  rk_launch_options_t options = options_for(program, mode);
  rk_message_t message = check_message("m", 1);
  rk_kernel_t kernel = {0};
  int i;
  gate_init(&gate);
  options.wait_strategy = RK_WAIT_SPIN;
  if (add_program(runtime, "gate", on_gate, 0, &gate) != RK_OK) _exit(4);
  if (rk_launch(runtime, "k", &options, &kernel) != RK_OK) _exit(4);
  for (i = 0; i < 100; i++) {
    if (rk_send(kernel, &message, 0) != RK_OK) _exit(4);
  }
  return kernel;
}

static void *caller(void *argument) {
  rk_kernel_t kernel = *(rk_kernel_t *)argument;
  if (!works(kernel)) _exit(5);
  pthread_exit(NULL);
}

static rk_kernel_t late_kernel;

/* lesson 22: verbs that wait, when the process is at its end. */
static void at_exit(void) {
  rk_status_t status;
  if (!works(late_kernel)) _exit(7);
  status = rk_terminate(late_kernel, MS(5000));
  if (status != RK_OK && status != RK_ERR_TIMEOUT) _exit(8);
}

static int way(const char *name) {
  if (strcmp(name, "spinning") == 0) busy(RK_MODE_PERSISTENT, "sink");
  if (strcmp(name, "queued") == 0) busy(RK_MODE_EVENT_DRIVEN, "echo");
  if (strcmp(name, "inside") == 0) {
    busy(RK_MODE_EVENT_DRIVEN, "gate");
    gate_await_inside(&gate, 1);
  }
  if (strcmp(name, "threads") == 0) {
    static rk_kernel_t kernel;
    pthread_t threads[8];
    int i;
    kernel = busy(RK_MODE_EVENT_DRIVEN, "echo");
    for (i = 0; i < 8; i++) pthread_create(&threads[i], NULL, caller, &kernel);
    for (i = 0; i < 8; i++) pthread_join(threads[i], NULL);
  }
  if (strcmp(name, "atexit") == 0) {
    late_kernel = busy(RK_MODE_EVENT_DRIVEN, "echo");
    if (atexit(at_exit) != 0) return 6;
  }
  if (strcmp(name, "view") == 0) {
    rk_message_t view;
    rk_kernel_t kernel = busy(RK_MODE_PERSISTENT, "echo");
    if (rk_receive(kernel, &view, RK_FOREVER) != RK_OK) return 6;
  }
  return 0; /* without destroying anything */
}

static char *self;

static void ends(const char *name) {
  pid_t child;
  int status = 0;
  uint64_t start = check_now();
  fflush(stdout);
  child = fork();
  if (child == 0) {
    execl(self, self, "way", name, (char *)NULL);
    _exit(9);
  }
  CHECK(child > 0 && waitpid(child, &status, 0) == child);
  if (!WIFEXITED(status) || WEXITSTATUS(status) != 0) printf("%s ended with %d\n", name, status);
  CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
  CHECK(check_now() - start < MS(10000));
}

static void lesson_17_21_22_exit_with_running_kernels_ends(void) {
  ends("spinning");
  ends("queued");
  ends("inside");
  ends("threads");
  ends("view");
  ends("atexit");
}

int main(int argc, char **argv) {
  fixture_unused();
  if (argc == 3 && strcmp(argv[1], "way") == 0) return way(argv[2]);
  self = argv[0];
  RUN(lesson_17_21_22_exit_with_running_kernels_ends);
  return check_result();
}
