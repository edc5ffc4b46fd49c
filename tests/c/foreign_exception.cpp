// lesson 24: a C++ exception that leaves a callback ends the process with a clean abort, as the header says; never
// with a hang, and never by unwinding into the code that called the library. Each callback on each kind of thread.
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <cstdio>
#include <cstring>
#include <ringkernel.h>

static rk_status_t throws(rk_context_t *, const rk_message_t *) { throw 42; }
static rk_status_t fine(rk_context_t *ctx, const rk_message_t *message) { return rk_context_reply(ctx, message); }
static rk_status_t start_throws(rk_context_t *) { throw 43; }
static void stop_throws(rk_context_t *) { throw 44; }
static void drop_throws(void *) { throw 45; }
static void log_throws(uint32_t, const char *, void *) { throw 46; }

enum Where { MESSAGE, START, STOP, DROP, LOG };

struct Way {
  const char *name;
  Where where;
  uint32_t mode, flags;
};

static const Way ways[] = {
    {"a_handler_on_its_callers_thread", MESSAGE, RK_MODE_EVENT_DRIVEN, 0},
    {"a_handler_on_a_worker", MESSAGE, RK_MODE_EVENT_DRIVEN, RK_LAUNCH_NO_HELP},
    {"a_handler_of_a_persistent_kernel", MESSAGE, RK_MODE_PERSISTENT, 0},
    {"a_start_of_an_event_driven_kernel", START, RK_MODE_EVENT_DRIVEN, 0},
    {"a_start_of_a_persistent_kernel", START, RK_MODE_PERSISTENT, 0},
    {"a_stop_of_an_event_driven_kernel", STOP, RK_MODE_EVENT_DRIVEN, 0},
    {"a_stop_of_a_persistent_kernel", STOP, RK_MODE_PERSISTENT, 0},
    {"a_drop_of_user_data", DROP, RK_MODE_EVENT_DRIVEN, 0},
    {"a_logger", LOG, RK_MODE_EVENT_DRIVEN, 0},
};

// Comes back only if nothing ended the process: 2, it could not be set up; 3, the exception was swallowed; 4, it
// came out of the library.
static int child(const Way &way) {
  rlimit no_core = {0, 0};
  rk_runtime_t *runtime = nullptr;
  rk_program_t program = RK_PROGRAM_INIT;
  rk_launch_options_t options = RK_LAUNCH_OPTIONS_INIT;
  rk_kernel_t kernel;
  rk_message_t reply, request;
  setrlimit(RLIMIT_CORE, &no_core);
  alarm(60);
  std::memset(&request, 0, sizeof request);
  program.name = "throw";
  program.on_message = way.where == MESSAGE ? throws : fine;
  if (way.where == START) program.on_start = start_throws;
  if (way.where == STOP) program.on_stop = stop_throws;
  if (way.where == DROP) program.drop_user_data = drop_throws;
  options.mode = way.mode;
  options.flags = way.flags;
  if (!std::freopen("/dev/null", "w", stderr)) return 2;
  try {
    if (way.where == LOG && rk_set_logger(log_throws, nullptr, RK_LOG_TRACE) != RK_OK) return 2;
    if (rk_runtime_create(nullptr, &runtime) != RK_OK) return 2;
    if (rk_program_register(runtime, &program) != RK_OK) return 2;
    if (rk_launch(runtime, "throw", &options, &kernel) != RK_OK) return 2;
    rk_call(kernel, &request, &reply, RK_FOREVER);
    rk_terminate(kernel, RK_FOREVER);
    rk_runtime_destroy(runtime);
  } catch (int) {
    return 4;
  }
  return 3;
}

int main() {
  int passed = 0, failed = 0;
  for (const Way &way : ways) {
    int status = 0;
    std::fflush(stdout);
    pid_t pid = fork();
    if (pid == 0) _exit(child(way));
    bool aborted = pid > 0 && waitpid(pid, &status, 0) == pid && WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT;
    std::printf("%s lesson_24_an_exception_of_%s_is_a_clean_abort\n", aborted ? "ok" : "FAILED", way.name);
    if (!aborted) std::printf("  it ended with %d\n", status);
    aborted ? passed++ : failed++;
  }
  std::printf("%d passed, %d failed\n", passed, failed);
  return failed != 0;
}
