/* lesson 19: a thousand idle kernels burn no CPU and little memory. */
#include "fixture.h"
#include <sys/resource.h>

static uint64_t cpu_ns(void) {
  struct rusage usage;
  getrusage(RUSAGE_SELF, &usage);
  return ((uint64_t)usage.ru_utime.tv_sec + (uint64_t)usage.ru_stime.tv_sec) * 1000000000u +
         ((uint64_t)usage.ru_utime.tv_usec + (uint64_t)usage.ru_stime.tv_usec) * 1000u;
}

static void lesson_19_idle_kernels_cost_no_cpu_and_little_memory(void) {
  rk_runtime_t *runtime = make_runtime(2);
  rk_launch_options_t options = options_for("echo", RK_MODE_EVENT_DRIVEN);
  rk_kernel_t kernel = {0};
  char id[32];
  int i, count = 10000;
  long before, grown;
  uint64_t burnt;
  before = resident_bytes();
  for (i = 0; i < count; i++) {
    snprintf(id, sizeof id, "idle-%d", i);
    options.flags = i % 2 ? RK_LAUNCH_SUSPENDED : 0;
    OK(rk_launch(runtime, id, &options, &kernel));
  }
  grown = (resident_bytes() - before) / count;
  printf("%ld bytes per idle kernel\n", grown);
  CHECK(grown < 4096);
  OK(rk_activate(kernel));
  CHECK(works(kernel));
  check_sleep_ms(100);
  burnt = cpu_ns();
  check_sleep_ms(1000);
  burnt = cpu_ns() - burnt;
  printf("%lu microseconds of CPU in a second\n", (unsigned long)(burnt / 1000));
  CHECK(burnt < MS(20));
  OK(rk_runtime_destroy(runtime));
}

int main(int argc, char **argv) {
  fixture_unused();
  RUN(lesson_19_idle_kernels_cost_no_cpu_and_little_memory);
  return check_result();
}
