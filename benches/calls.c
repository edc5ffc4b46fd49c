/* What does a question and its answer cost? One caller, one kernel that echoes 64 bytes, all of them checked. Back to back (the
 * median over rounds, and quantiles), and one each 100 us: late ones count from when they were due. */
#include "harness.h"

static rk_status_t on_echo(rk_context_t *ctx, const rk_message_t *message) { return rk_context_reply(ctx, message); }

typedef struct {
  rk_kernel_t kernel;
  uint64_t number;
} caller_t;

static void one_call(caller_t *caller) {
  rk_message_t request, reply;
  cargo_t cargo;
  cargo_fill(&cargo, caller->number);
  memset(&request, 0, sizeof request);
  request.payload = &cargo;
  request.payload_size = sizeof cargo;
  MUST(rk_call(caller->kernel, &request, &reply, RK_FOREVER));
  EXPECT(cargo_is(reply.payload, reply.payload_size, caller->number));
  MUST(rk_release(&reply));
  caller->number++;
}

static uint64_t back_to_back(void *of, uint64_t count) {
  caller_t *caller = (caller_t *)of;
  uint64_t i, start = bench_now();
  for (i = 0; i < count; i++) one_call(caller);
  return bench_now() - start;
}

static void quantiles(caller_t *caller, const char *name, size_t count) {
  uint64_t *samples = (uint64_t *)malloc(count * sizeof *samples);
  size_t i;
  EXPECT(samples != NULL);
  for (i = 0; i < count; i++) {
    uint64_t start = bench_now();
    one_call(caller);
    samples[i] = bench_now() - start;
  }
  bench_quantiles("calls", name, samples, count);
  free(samples);
}

#define PACE 100000u

static void paced(caller_t *caller, const char *name, size_t count) {
  uint64_t *samples = (uint64_t *)malloc(count * sizeof *samples), due;
  size_t i;
  EXPECT(samples != NULL);
  due = bench_now() + PACE;
  for (i = 0; i < count; i++, due += PACE) {
    struct timespec until;
    uint64_t start;
    until.tv_sec = (time_t)(due / 1000000000u);
    until.tv_nsec = (long)(due % 1000000000u);
    clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, NULL);
    start = bench_now();
    one_call(caller);
    /* This thread's own late waking is not the library's; that the call before was not done yet is. */
    samples[i] = bench_now() - (start > due + PACE ? due : start);
  }
  bench_quantiles("calls each 100 us", name, samples, count);
  free(samples);
}

int main(void) {
  static const struct {
    const char *name;
    uint32_t mode, flags, wait;
    uint64_t count;
  } cases[] = {
      {"event-driven, the caller helps", RK_MODE_EVENT_DRIVEN, 0, RK_WAIT_AUTO, 1000000},
      {"event-driven, RK_LAUNCH_NO_HELP", RK_MODE_EVENT_DRIVEN, RK_LAUNCH_NO_HELP, RK_WAIT_AUTO, 20000},
      {"persistent, RK_WAIT_SPIN", RK_MODE_PERSISTENT, 0, RK_WAIT_SPIN, 400000},
      {"persistent, RK_WAIT_AUTO", RK_MODE_PERSISTENT, 0, RK_WAIT_AUTO, 400000},
      {"persistent, RK_WAIT_PARK", RK_MODE_PERSISTENT, 0, RK_WAIT_PARK, 20000},
  };
  size_t i;
  bench_begin();
  for (i = 0; i < sizeof cases / sizeof *cases; i++) {
    rk_runtime_t *runtime = bench_runtime(1);
    rk_launch_options_t options = bench_options("echo", cases[i].mode);
    caller_t caller;
    caller.number = 0;
    options.flags = cases[i].flags;
    options.wait_strategy = cases[i].wait;
    bench_program(runtime, "echo", on_echo, 0, NULL);
    caller.kernel = bench_launch(runtime, "echo", &options);
    bench_case("calls", cases[i].name, bench_count(cases[i].count), back_to_back, &caller);
    quantiles(&caller, cases[i].name, (size_t)bench_count(cases[i].count));
    paced(&caller, cases[i].name, (size_t)bench_count(5000));
    MUST(rk_runtime_destroy(runtime));
  }
  return 0;
}
