/* What the library's threads do while a kernel is resident on a device and nobody waits: they sleep, and what comes then is found all the
 * same. Runs on the simulated driver: a process whose handlers are functions of its own (RKSIM_PROGRAMS). */
#include "fixture.h"
#include <dirent.h>

/* How often threads of that name have gone to sleep so far. */
static uint64_t sleeps_of(const char *name) {
  DIR *tasks = opendir("/proc/self/task");
  struct dirent *entry;
  uint64_t sum = 0;
  while (tasks && (entry = readdir(tasks))) {
    char path[300], line[200];
    int is_it = 0;
    FILE *file;
    snprintf(path, sizeof path, "/proc/self/task/%s/status", entry->d_name);
    file = fopen(path, "r");
    while (file && fgets(line, sizeof line, file)) {
      line[strcspn(line, "\n")] = 0;
      if (strncmp(line, "Name:\t", 6) == 0) is_it = strcmp(line + 6, name) == 0;
      if (is_it && strncmp(line, "voluntary_ctxt_switches:", 24) == 0) sum += strtoull(line + 24, NULL, 10);
    }
    if (file) fclose(file);
  }
  if (tasks) closedir(tasks);
  return sum;
}

/* Sleeps in a second; of the quietest of some seconds, for others use this machine, too. */
static uint64_t a_second_of(const char *name) {
  uint64_t least = UINT64_MAX;
  int i;
  for (i = 0; i < 3; i++) {
    uint64_t before = sleeps_of(name), now;
    check_sleep_ms(1000);
    now = sleeps_of(name) - before;
    if (now < least) least = now;
  }
  return least;
}

static rk_status_t on_pass(rk_context_t *ctx, const rk_message_t *message) {
  return message->source == 0 ? rk_context_send(ctx, 0, message) : rk_context_emit(ctx, message);
}

static void with_nobody_waiting_the_library_sleeps(void) {
  rk_runtime_t *runtime = make_runtime(1);
  rk_launch_options_t options = options_for("echo", RK_MODE_PERSISTENT);
  rk_kernel_t kernel;
  uint64_t pump, watch;
  int i;
  OK(rk_launch(runtime, "k", &options, &kernel));
  CHECK(works(kernel));
  check_sleep_ms(300);
  pump = a_second_of("rk-cuda");
  watch = a_second_of("rk-cuda-watch");
  printf("# nobody can send: %u looks and %u questions to the driver in a second\n", (unsigned)pump, (unsigned)watch);
  CHECK(pump <= 2 && watch <= 20);
  for (i = 0; i < 200; i++) {
    CHECK(works(kernel));
    if (i % 20 == 0) check_sleep_ms(150); /* it sleeps without a limit by then */
  }
  OK(rk_runtime_destroy(runtime));
}

static void with_routes_it_looks_now_and_then(void) {
  rk_runtime_t *runtime = make_runtime(1);
  rk_launch_options_t options = options_for("pass", RK_MODE_PERSISTENT);
  rk_message_t out, message = check_message("m", 1);
  rk_kernel_t a, b;
  uint64_t pump;
  uint32_t route;
  int i;
  OK(add_program(runtime, "pass", on_pass, 0, NULL));
  OK(rk_launch(runtime, "a", &options, &a));
  OK(rk_launch(runtime, "b", &options, &b));
  check_sleep_ms(300); /* it sleeps without a limit by then */
  OK(rk_connect(a, b, &route));
  check_sleep_ms(300);
  pump = a_second_of("rk-cuda");
  printf("# kernels may send to each other: %u looks in a second\n", (unsigned)pump);
  CHECK(pump >= 5 && pump <= 40);
  for (i = 0; i < 20; i++) {
    uint64_t begun;
    OK(rk_send(a, &message, RK_FOREVER));
    if (i % 2) check_sleep_ms(200); /* what came meanwhile is there when somebody asks for it */
    begun = check_now();
    OK(rk_receive(b, &out, MS(20000)));
    CHECK(check_now() - begun < MS(5000));
    OK(rk_release(&out));
  }
  OK(rk_runtime_destroy(runtime));
}

int main(int argc, char **argv) {
  fixture_unused();
  RUN(with_nobody_waiting_the_library_sleeps);
  RUN(with_routes_it_looks_now_and_then);
  return check_result();
}
