/* What does RK_LAUNCH_TIMESTAMPS cost? Each message gets a time of a hybrid logical clock, which is a read of the wall clock and one atomic
 * operation; its handler moves the kernel's clock past it; the answer has a time, too.
 *
 *  - a clock read:    clock_gettime(CLOCK_REALTIME), the floor.
 *  - sender's side:   as in boundary.c: one CPU, the kernel is paused while its queue is filled, only the filling is timed.
 *  - a call:          there and back, the caller helps; four times: request and answer are stamped, and each is followed.
 *
 * With and without alternate within each round; "what times cost" is the difference of a round's two, and once more as a multiple of the clock
 * read of that round. */
#include "harness.h"

#include <sched.h>

#define SLOTS 256u

typedef struct {
  rk_kernel_t sink, echo;
  bench_sink_t *cargo;
  uint64_t sent;
} pair_t;

static double send_round(pair_t *pair, uint64_t count) {
  rk_message_t message;
  cargo_t cargo;
  uint64_t i, j, time = 0;
  memset(&message, 0, sizeof message);
  message.payload = &cargo;
  message.payload_size = sizeof cargo;
  for (i = 0; i < count; i += SLOTS) {
    uint64_t start;
    MUST(rk_deactivate(pair->sink));
    start = bench_now();
    for (j = 0; j < SLOTS; j++) {
      cargo_fill(&cargo, pair->sent++);
      MUST(rk_send(pair->sink, &message, 0));
    }
    time += bench_now() - start;
    MUST(rk_activate(pair->sink));
    while (__atomic_load_n(&pair->cargo->next, __ATOMIC_ACQUIRE) != pair->sent) sched_yield();
  }
  EXPECT(pair->cargo->wrong == 0);
  return (double)time / (double)count;
}

static rk_status_t on_echo(rk_context_t *ctx, const rk_message_t *message) { return rk_context_reply(ctx, message); }

static double call_round(pair_t *pair, uint64_t count, int stamped) {
  rk_message_t message, reply;
  cargo_t cargo;
  uint64_t i, start = bench_now();
  memset(&message, 0, sizeof message);
  message.payload = &cargo;
  message.payload_size = sizeof cargo;
  for (i = 0; i < count; i++) {
    cargo_fill(&cargo, i);
    MUST(rk_call(pair->echo, &message, &reply, RK_FOREVER));
    EXPECT(cargo_is(reply.payload, reply.payload_size, i) && (reply.timestamp.physical_ns != 0) == (stamped != 0));
    MUST(rk_release(&reply));
  }
  return (double)(bench_now() - start) / (double)count;
}

static double clock_round(uint64_t count) {
  struct timespec now;
  uint64_t i, sum = 0, start = bench_now();
  for (i = 0; i < count; i++) {
    clock_gettime(CLOCK_REALTIME, &now);
    sum += (uint64_t)now.tv_nsec;
  }
  start = bench_now() - start;
  EXPECT(sum != 0);
  return (double)start / (double)count;
}

static pair_t make_pair(rk_runtime_t *runtime, bench_sink_t *cargo, int stamped) {
  rk_launch_options_t options = bench_options(stamped ? "stamped_sink" : "sink", RK_MODE_EVENT_DRIVEN);
  pair_t pair;
  options.flags = stamped ? RK_LAUNCH_TIMESTAMPS : 0;
  options.input_queue_capacity = SLOTS;
  bench_program(runtime, options.program, bench_on_sink, 0, cargo);
  pair.sink = bench_launch(runtime, options.program, &options);
  options.program = "echo";
  pair.echo = bench_launch(runtime, stamped ? "stamped_echo" : "echo", &options);
  pair.cargo = cargo;
  pair.sent = 0;
  return pair;
}

static void lines(const char *plain_name, const char *stamped_name, const char *cost_name, const char *reads_name,
                  const double *plain, const double *stamped, const double *clock) {
  double each[ROUNDS_MAX];
  int i;
  memcpy(each, plain, sizeof each);
  bench_line("timestamps", plain_name, each, bench_rounds);
  memcpy(each, stamped, sizeof each);
  bench_line("timestamps", stamped_name, each, bench_rounds);
  for (i = 0; i < bench_rounds; i++) each[i] = stamped[i] - plain[i];
  bench_line("timestamps", cost_name, each, bench_rounds);
  for (i = 0; i < bench_rounds; i++) each[i] = (stamped[i] - plain[i]) / clock[i];
  bench_line("timestamps", reads_name, each, bench_rounds);
}

int main(void) {
  static bench_sink_t sinks[2];
  double clock[ROUNDS_MAX] = {0}, send[2][ROUNDS_MAX] = {{0}}, call[2][ROUNDS_MAX] = {{0}}, each[ROUNDS_MAX];
  rk_runtime_t *runtime;
  cpu_set_t cpus;
  pair_t pairs[2];
  uint64_t count;
  int i, k, cpu = sched_getcpu();
  bench_begin();
  CPU_ZERO(&cpus);
  CPU_SET(cpu < 0 ? 0 : cpu, &cpus);
  EXPECT(sched_setaffinity(0, sizeof cpus, &cpus) == 0);
  runtime = bench_runtime(1);
  bench_program(runtime, "echo", on_echo, 0, NULL);
  for (k = 0; k < 2; k++) pairs[k] = make_pair(runtime, &sinks[k], k);
  count = (bench_count(500000) + SLOTS - 1) / SLOTS * SLOTS;
  for (i = -1; i < bench_rounds; i++) {
    int at = i < 0 ? 0 : i; /* the first round warms up */
    clock[at] = clock_round(count);
    for (k = 0; k < 2; k++) send[k][at] = send_round(&pairs[k], count);
    for (k = 0; k < 2; k++) call[k][at] = call_round(&pairs[k], count, k);
  }
  memcpy(each, clock, sizeof each);
  bench_line("timestamps", "a clock read", each, bench_rounds);
  lines("sender's side, rk_send", "sender's side, rk_send with times", "what times cost a send", "the same in clock reads", send[0], send[1],
        clock);
  lines("a call", "a call with times", "what times cost a call", "of a call, in clock reads", call[0], call[1], clock);
  MUST(rk_runtime_destroy(runtime));
  return 0;
}
