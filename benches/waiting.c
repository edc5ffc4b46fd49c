/* What does waiting burn, and what does it buy? One kernel that echoes is called at a steady rate by a thread that sleeps in between, or
 * not at all: milliseconds of CPU time in a second of all other threads of the process (the kernel's and the library's), and how long
 * a call takes (p50, ns). For each way that a kernel can wait. Every reply is checked. */
#include "harness.h"

#include <sys/resource.h>

static rk_status_t on_echo(rk_context_t *ctx, const rk_message_t *message) { return rk_context_reply(ctx, message); }

static double cpu_ms(int who) {
  struct rusage usage;
  EXPECT(getrusage(who, &usage) == 0);
  return (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) * 1e3 + (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e3;
}

/* Calls for `length` ns; CPU ms in a second of the others. `*took`: p50 of the calls. */
static double watch(rk_kernel_t kernel, uint64_t every, uint64_t length, double *took) {
  static uint64_t samples[100000];
  size_t count = 0;
  uint64_t start = bench_now(), due = start;
  double burnt = cpu_ms(RUSAGE_SELF) - cpu_ms(RUSAGE_THREAD);
  while (bench_now() - start < length) {
    struct timespec until;
    due += every ? every : length;
    until.tv_sec = (time_t)(due / 1000000000u);
    until.tv_nsec = (long)(due % 1000000000u);
    while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, NULL) != 0) {}
    if (every) {
      rk_message_t request, reply;
      cargo_t cargo;
      uint64_t begun = bench_now();
      cargo_fill(&cargo, count);
      memset(&request, 0, sizeof request);
      request.payload = &cargo;
      request.payload_size = sizeof cargo;
      MUST(rk_call(kernel, &request, &reply, RK_FOREVER));
      EXPECT(cargo_is(reply.payload, reply.payload_size, count));
      MUST(rk_release(&reply));
      if (count < sizeof samples / sizeof *samples) samples[count++] = bench_now() - begun;
    }
  }
  burnt = cpu_ms(RUSAGE_SELF) - cpu_ms(RUSAGE_THREAD) - burnt;
  if (count) {
    qsort(samples, count, sizeof *samples, bench_order_u64);
    *took = (double)bench_quantile(samples, count, 0.5);
  }
  return burnt > 0 ? burnt * 1e9 / (double)(bench_now() - start) : 0;
}

int main(void) {
  static const struct {
    const char *name;
    uint32_t mode, flags, wait;
  } ways[] = {{"event-driven, the caller helps", RK_MODE_EVENT_DRIVEN, 0, 0},
              {"event-driven, RK_LAUNCH_NO_HELP", RK_MODE_EVENT_DRIVEN, RK_LAUNCH_NO_HELP, 0},
              {"persistent, RK_WAIT_PARK", RK_MODE_PERSISTENT, 0, RK_WAIT_PARK},
              {"persistent, RK_WAIT_AUTO", RK_MODE_PERSISTENT, 0, RK_WAIT_AUTO},
              {"persistent, RK_WAIT_SPIN", RK_MODE_PERSISTENT, 0, RK_WAIT_SPIN}};
  static const struct {
    const char *name;
    uint64_t every;
  } rates[] = {{"idle", 0}, {"a call each 10 ms", 10000000}, {"a call each 100 us", 100000}};
  size_t way, rate;
  bench_begin();
  for (way = 0; way < sizeof ways / sizeof *ways; way++) {
    rk_runtime_t *runtime = bench_runtime(1);
    rk_launch_options_t options = bench_options("echo", ways[way].mode);
    rk_kernel_t kernel;
    options.flags = ways[way].flags;
    options.wait_strategy = ways[way].wait;
    bench_program(runtime, "echo", on_echo, 0, NULL);
    kernel = bench_launch(runtime, "echo", &options);
    for (rate = 0; rate < sizeof rates / sizeof *rates; rate++) {
      double burnt[ROUNDS_MAX], took[ROUNDS_MAX];
      uint64_t length = (uint64_t)(500e6 * bench_scale) + 20000000u;
      char name[96];
      int round;
      watch(kernel, rates[rate].every, 20000000, &took[0]);
      for (round = 0; round < bench_rounds; round++) burnt[round] = watch(kernel, rates[rate].every, length, &took[round]);
      snprintf(name, sizeof name, "%s, %s, CPU time in 1 s", ways[way].name, rates[rate].name);
      bench_line("waiting ms", name, burnt, bench_rounds);
      if (!rates[rate].every) continue;
      snprintf(name, sizeof name, "%s, %s, p50", ways[way].name, rates[rate].name);
      bench_line("waiting", name, took, bench_rounds);
    }
    MUST(rk_runtime_destroy(runtime));
  }
  return 0;
}
