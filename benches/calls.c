/* What does a question and its answer cost? One caller, one kernel that echoes 64 bytes, all of them checked.
 *
 * Back to back: medians over rounds, then every call timed for itself, for the quantiles (with the two clock reads).
 * One each 100 us: with the caller asleep meanwhile (clock_nanosleep; its caches and its CPU have cooled), and awake (it reads the
 * clock all the time; only the kernel's side has been idle). A call that could not begin when it was due because the call
 * before had not ended counts from when it was due: a long call is not hidden by those that it held up. That the caller woke
 * late from its own sleep is not the library's: its schedule moves on by that much, and the call counts from its begin. */
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

static void wait_asleep(uint64_t due) {
  struct timespec until;
  until.tv_sec = (time_t)(due / 1000000000u);
  until.tv_nsec = (long)(due % 1000000000u);
  while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, NULL) != 0) {
  }
}

static void wait_awake(uint64_t due) {
  while (bench_now() < due) bench_relax();
}

static void paced(caller_t *caller, const char *question, const char *name, void (*wait)(uint64_t), size_t count) {
  uint64_t *samples = (uint64_t *)malloc(count * sizeof *samples), due, end;
  size_t i;
  EXPECT(samples != NULL);
  end = bench_now();
  due = end + PACE;
  for (i = 0; i < count; i++, due += PACE) {
    if (end < due) {
      wait(due);
      due = bench_now();
    }
    one_call(caller);
    end = bench_now();
    samples[i] = end - due;
  }
  bench_quantiles(question, name, samples, count);
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
    paced(&caller, "calls each 100 us, caller asleep", cases[i].name, wait_asleep, (size_t)bench_count(10000));
    paced(&caller, "calls each 100 us, caller awake", cases[i].name, wait_awake, (size_t)bench_count(10000));
    MUST(rk_runtime_destroy(runtime));
  }
  return 0;
}
