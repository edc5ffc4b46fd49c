/* lessons 3 and 9: round trips without a lost wake-up, and flat memory. `soak N` makes N round trips (default
 * 10 000 000) over the ways a call can go; each has 10 s, so a lost wake-up is a failure and not a delay. */
#include "fixture.h"

static long resident_pages(void) {
  long size = 0, resident = 0;
  FILE *file = fopen("/proc/self/statm", "r");
  if (file == NULL || fscanf(file, "%ld %ld", &size, &resident) != 2) resident = 0;
  if (file != NULL) fclose(file);
  return resident;
}

static int soak(const char *what, uint32_t mode, uint32_t flags, uint32_t wait, unsigned long count) {
  rk_runtime_t *runtime = make_runtime(1);
  rk_launch_options_t options = options_for("echo", mode);
  rk_message_t reply, request = check_message("soak", 4);
  rk_kernel_t kernel;
  unsigned long i, slow = 0;
  uint64_t longest = 0, start = check_now();
  long after_warm_up = 0, grown;
  options.flags = flags;
  options.wait_strategy = wait;
  if (runtime == NULL || rk_launch(runtime, "k", &options, &kernel) != RK_OK) return 1;
  for (i = 1; i <= count; i++) {
    uint64_t took = check_now();
    rk_status_t status;
    request.correlation = i;
    status = rk_call(kernel, &request, &reply, MS(10000));
    if (status != RK_OK || reply.correlation != i || rk_release(&reply) != RK_OK) {
      printf("FAILED %s: round trip %lu: %s\n", what, i, rk_status_name(status));
      return 1;
    }
    took = check_now() - took;
    if (took > longest) longest = took;
    slow += took > MS(100);
    if (i == count / 10) after_warm_up = resident_pages();
  }
  grown = (resident_pages() - after_warm_up) * sysconf(_SC_PAGESIZE);
  printf("%s: %lu round trips, %.0f ns each, longest %.3f ms, %lu over 100 ms, memory %+ld bytes\n", what, count,
         (double)(check_now() - start) / (double)count, (double)longest / 1e6, slow, grown);
  fflush(stdout);
  if (grown > 2 * 1024 * 1024) {
    printf("FAILED %s: memory is not flat\n", what);
    return 1;
  }
  return rk_runtime_destroy(runtime) != RK_OK;
}

int main(int argc, char **argv) {
  unsigned long count = argc > 1 ? strtoul(argv[1], NULL, 10) : 10000000ul;
  int failed = 0;
  fixture_unused();
  failed += soak("event-driven, the caller helps", RK_MODE_EVENT_DRIVEN, 0, 0, count / 2);
  failed += soak("persistent, auto", RK_MODE_PERSISTENT, 0, RK_WAIT_AUTO, count / 10 * 4);
  failed += soak("persistent, park", RK_MODE_PERSISTENT, 0, RK_WAIT_PARK, count / 100 * 3);
  failed += soak("event-driven, no help", RK_MODE_EVENT_DRIVEN, RK_LAUNCH_NO_HELP, 0, count / 100 * 7);
  printf("%d passed, %d failed\n", 4 - failed, failed);
  return failed != 0;
}
