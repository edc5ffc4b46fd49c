/* What of a send is the C boundary, and what the work? The sender's side alone, in the caches of one CPU: the process is held on
 * one, the kernel is paused while its queue is filled, and only the filling is timed; then the kernel drains it and what came is
 * checked. So no cache line goes between cores and no worker is woken.
 *
 *  - an empty call:      rk_abi_version, a call into the shared library that does nothing.
 *  - a handle's look-up: rk_kernel_state: the guard against panics and forks, the handle looked up and kept alive, one load.
 *  - a bare ring:        as many bytes into as many slots of a ring with one sender, written here: the floor.
 *  - rk_send:            all of it; rk_send_batch and rk_reserve_batch of 64 to the same kernel.
 *
 * "boundary on the send path" is the look-up less the empty call, that is guard, handle and reclamation. It stands in for what rk_send
 * does of this kind, which is compiled into its path and cannot be timed alone. rk_send less the bare ring is an upper limit of it: in
 * that are also a tail for many senders, the header of each message, the check of the arguments, and the question whether
 * somebody is to be woken. What colder caches and a less trained branch predictor add in a real program cannot be seen here. */
#include "harness.h"

#include <sched.h>

#define SLOTS 256u
#define BATCH 64

typedef struct {
  rk_kernel_t kernel;
  bench_sink_t *sink;
  uint64_t sent;
} stream_t;

static void fill_singly(stream_t *stream) {
  rk_message_t message;
  cargo_t cargo;
  size_t i;
  memset(&message, 0, sizeof message);
  message.payload = &cargo;
  message.payload_size = sizeof cargo;
  for (i = 0; i < SLOTS; i++) {
    cargo_fill(&cargo, stream->sent++);
    MUST(rk_send(stream->kernel, &message, 0));
  }
}

static void fill_in_batches(stream_t *stream) {
  static rk_message_t messages[BATCH];
  static cargo_t cargo[BATCH];
  size_t i, j, sent;
  for (i = 0; i < SLOTS; i += BATCH) {
    for (j = 0; j < BATCH; j++) {
      cargo_fill(&cargo[j], stream->sent++);
      messages[j].payload = &cargo[j];
      messages[j].payload_size = sizeof cargo[j];
    }
    for (j = 0; j < BATCH; j += sent) MUST(rk_send_batch(stream->kernel, messages + j, BATCH - j, 0, &sent));
  }
}

static void fill_in_place(stream_t *stream) {
  static rk_loan_t loans[BATCH];
  size_t i, j, reserved;
  for (i = 0; i < SLOTS; i += reserved) {
    MUST(rk_reserve_batch(stream->kernel, 0, sizeof(cargo_t), SLOTS - i < BATCH ? SLOTS - i : BATCH, 0, loans, &reserved));
    for (j = 0; j < reserved; j++) cargo_fill((cargo_t *)loans[j].payload, stream->sent++);
    MUST(rk_commit_batch(loans, NULL, reserved));
  }
}

static void (*fill)(stream_t *);

static uint64_t filling(void *of, uint64_t count) {
  stream_t *stream = (stream_t *)of;
  uint64_t i, time = 0;
  for (i = 0; i < count; i += SLOTS) {
    uint64_t start;
    MUST(rk_deactivate(stream->kernel));
    start = bench_now();
    fill(stream);
    time += bench_now() - start;
    MUST(rk_activate(stream->kernel));
    while (__atomic_load_n(&stream->sink->next, __ATOMIC_ACQUIRE) != stream->sent) sched_yield();
  }
  EXPECT(stream->sink->wrong == 0);
  return time;
}

static struct {
  uint64_t tail __attribute__((aligned(128)));
  uint64_t head __attribute__((aligned(128)));
  cargo_t slots[SLOTS] __attribute__((aligned(128)));
} ring;

/* Not inlined: a message is sent by a call, here as there. */
__attribute__((noinline)) static int ring_send(const cargo_t *cargo) {
  static uint64_t head;
  uint64_t tail = ring.tail;
  if (tail - head == SLOTS) head = __atomic_load_n(&ring.head, __ATOMIC_ACQUIRE);
  if (tail - head == SLOTS) return 0;
  ring.slots[tail % SLOTS] = *cargo;
  __atomic_store_n(&ring.tail, tail + 1, __ATOMIC_RELEASE);
  return 1;
}

static uint64_t ring_filling(void *of, uint64_t count) {
  uint64_t i, j, time = 0;
  (void)of;
  for (i = 0; i < count; i += SLOTS) {
    cargo_t cargo;
    uint64_t number = ring.tail, start = bench_now();
    for (j = 0; j < SLOTS; j++) {
      cargo_fill(&cargo, number + j);
      EXPECT(ring_send(&cargo));
    }
    time += bench_now() - start;
    for (j = 0; j < SLOTS; j++) EXPECT(cargo_is(&ring.slots[(number + j) % SLOTS], sizeof cargo, number + j));
    __atomic_store_n(&ring.head, number + SLOTS, __ATOMIC_RELEASE);
  }
  return time;
}

static uint64_t empty_calls(void *of, uint64_t count) {
  uint64_t i, wrong = 0, start = bench_now();
  uint32_t version = rk_abi_version();
  (void)of;
  for (i = 0; i < count; i++) wrong |= version ^ rk_abi_version();
  start = bench_now() - start;
  EXPECT(wrong == 0);
  return start;
}

static uint64_t look_ups(void *of, uint64_t count) {
  stream_t *stream = (stream_t *)of;
  uint64_t i, start = bench_now();
  for (i = 0; i < count; i++) {
    uint32_t state;
    MUST(rk_kernel_state(stream->kernel, &state));
    EXPECT(state == RK_STATE_ACTIVE);
  }
  return bench_now() - start;
}

/* As bench_case; the rounds are kept for a difference. */
static void rounds(const char *name, uint64_t count, uint64_t (*round)(void *, uint64_t), void *of, double *each) {
  double sorted[ROUNDS_MAX];
  int i;
  round(of, count / 8 + 1);
  for (i = 0; i < bench_rounds; i++) each[i] = (double)round(of, count) / (double)count;
  memcpy(sorted, each, sizeof sorted);
  bench_line("boundary", name, sorted, bench_rounds);
}

static void difference(const char *name, const double *whole, const double *part) {
  double each[ROUNDS_MAX];
  int i;
  for (i = 0; i < bench_rounds; i++) each[i] = whole[i] - part[i];
  bench_line("boundary", name, each, bench_rounds);
}

int main(void) {
  static bench_sink_t sink;
  double empty[ROUNDS_MAX], look_up[ROUNDS_MAX], bare[ROUNDS_MAX], send[ROUNDS_MAX], other[ROUNDS_MAX];
  uint64_t count;
  cpu_set_t cpus;
  rk_runtime_t *runtime;
  rk_launch_options_t options = bench_options("sink", RK_MODE_EVENT_DRIVEN);
  stream_t stream;
  int cpu = sched_getcpu();
  bench_begin();
  CPU_ZERO(&cpus);
  CPU_SET(cpu < 0 ? 0 : cpu, &cpus);
  EXPECT(sched_setaffinity(0, sizeof cpus, &cpus) == 0);
  runtime = bench_runtime(1);
  options.input_queue_capacity = SLOTS;
  bench_program(runtime, "sink", bench_on_sink, 0, &sink);
  stream.kernel = bench_launch(runtime, "sink", &options);
  stream.sink = &sink;
  stream.sent = 0;
  count = bench_count(4000000);
  rounds("an empty call (rk_abi_version)", count, empty_calls, NULL, empty);
  rounds("a handle's look-up (rk_kernel_state)", count, look_ups, &stream, look_up);
  count = (bench_count(1000000) + SLOTS - 1) / SLOTS * SLOTS;
  rounds("sender's side, a bare ring", count, ring_filling, NULL, bare);
  fill = fill_singly;
  rounds("sender's side, rk_send", count, filling, &stream, send);
  fill = fill_in_batches;
  rounds("sender's side, rk_send_batch of 64", count, filling, &stream, other);
  fill = fill_in_place;
  rounds("sender's side, reserve and commit 64", count, filling, &stream, other);
  difference("boundary on the send path", look_up, empty);
  difference("rk_send less a bare ring", send, bare);
  MUST(rk_runtime_destroy(runtime));
  return 0;
}
