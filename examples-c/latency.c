/* latency: what a round trip takes: host sends, handler runs, host has the reply. For each way a call can go.
 *
 *   cc -std=c99 -O2 latency.c $(pkg-config --cflags --libs ringkernel) -o latency && ./latency [round trips]
 */
#define _POSIX_C_SOURCE 200809L
#include <ringkernel.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define MUST(call)                                                       \
  do {                                                                   \
    char why_[256];                                                      \
    if ((call) == RK_OK) break;                                          \
    rk_last_error(why_, sizeof why_);                                    \
    exit(fprintf(stderr, "%s: %s\n", #call, why_) > 0);                  \
  } while (0)

static rk_status_t on_message(rk_context_t *ctx, const rk_message_t *message) {
  return rk_context_reply(ctx, message);
}

static uint64_t now_ns(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static int by_size(const void *a, const void *b) {
  uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
  return (x > y) - (x < y);
}

/* One line for each doubling, from the fastest to the slowest. */
static void histogram(const uint64_t *sorted, size_t count) {
  size_t i = 0, in, width;
  uint64_t limit = 1;
  while (i < count) {
    for (in = 0; i < count && sorted[i] < limit; i++) in++;
    if (in > 0) {
      printf("  < %10.3f us %9lu ", (double)limit / 1000, (unsigned long)in);
      for (width = (in * 50 + count - 1) / count; width > 0; width--) putchar('#');
      putchar('\n');
    }
    limit *= 2;
  }
}

static void measure(rk_runtime_t *runtime, const char *what, uint32_t mode, uint32_t flags, size_t count) {
  rk_launch_options_t options = RK_LAUNCH_OPTIONS_INIT;
  uint64_t *times = (uint64_t *)calloc(count, sizeof *times);
  rk_message_t request, reply;
  rk_kernel_t kernel;
  size_t i, warm_up = count / 10 + 1;
  if (times == NULL) exit(1);
  memset(&request, 0, sizeof request);
  options.program = "echo";
  options.mode = mode;
  options.flags = flags;
  MUST(rk_launch(runtime, "latency", &options, &kernel));
  for (i = 0; i < count + warm_up; i++) {
    uint64_t start = now_ns();
    MUST(rk_call(kernel, &request, &reply, RK_FOREVER));
    if (i >= warm_up) times[i - warm_up] = now_ns() - start;
    MUST(rk_release(&reply));
  }
  MUST(rk_destroy(kernel));
  qsort(times, count, sizeof *times, by_size);
  printf("%s: n %lu  p50 %.3f  p99 %.3f  p99.9 %.3f  max %.3f us\n", what, (unsigned long)count,
         (double)times[count / 2] / 1000, (double)times[count * 99 / 100] / 1000,
         (double)times[count * 999 / 1000] / 1000, (double)times[count - 1] / 1000);
  histogram(times, count);
  free(times);
}

int main(int argc, char **argv) {
  size_t count = argc > 1 ? strtoul(argv[1], NULL, 10) : 100000;
  rk_program_t program = RK_PROGRAM_INIT;
  rk_runtime_t *runtime;
  if (count == 0) return 2;
  MUST(rk_runtime_create(NULL, &runtime));
  program.name = "echo";
  program.on_message = on_message;
  MUST(rk_program_register(runtime, &program));
  measure(runtime, "event-driven, the caller helps", RK_MODE_EVENT_DRIVEN, 0, count);
  measure(runtime, "event-driven, a worker answers", RK_MODE_EVENT_DRIVEN, RK_LAUNCH_NO_HELP, count);
  measure(runtime, "persistent", RK_MODE_PERSISTENT, 0, count);
  MUST(rk_runtime_destroy(runtime));
  return 0;
}
