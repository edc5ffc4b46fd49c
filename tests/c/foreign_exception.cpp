// lesson 24: a C++ exception that leaves a handler ends the process with a clean abort, as the header says.
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <cstdio>
#include <cstring>
#include <ringkernel.h>

static rk_status_t on_throw(rk_context_t *, const rk_message_t *) { throw 42; }

static int child() {
  rk_runtime_t *runtime = nullptr;
  rk_program_t program = RK_PROGRAM_INIT;
  rk_kernel_t kernel;
  rk_message_t reply, request;
  std::memset(&request, 0, sizeof request);
  program.name = "throw";
  program.on_message = on_throw;
  if (!std::freopen("/dev/null", "w", stderr)) return 2;
  if (rk_runtime_create(nullptr, &runtime) != RK_OK) return 2;
  if (rk_program_register(runtime, &program) != RK_OK) return 2;
  if (rk_launch(runtime, "throw", nullptr, &kernel) != RK_OK) return 2;
  rk_call(kernel, &request, &reply, RK_FOREVER);
  return 3;  // it must not come to this
}

int main() {
  pid_t pid = fork();
  if (pid == 0) _exit(child());
  int status = 0;
  if (pid < 0 || waitpid(pid, &status, 0) != pid) return 1;
  bool aborted = WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT;
  std::printf("%s lesson_24_a_foreign_exception_is_a_clean_abort\n", aborted ? "ok" : "FAILED");
  std::printf("%d passed, %d failed\n", aborted ? 1 : 0, aborted ? 0 : 1);
  return aborted ? 0 : 1;
}
