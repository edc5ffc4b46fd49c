/* What does a message cost that the host sends and a handler takes? One sender, one kernel, 64 bytes, all of them checked.
 * Both modes, one rk_send each, rk_send_batch of 64, rk_reserve_batch and rk_commit_batch of 64. */
#include "harness.h"

typedef struct {
  rk_kernel_t kernel;
  bench_sink_t *sink;
  uint64_t sent;
} stream_t;

/* The round ends when the handler has taken the last message. */
static uint64_t finish(stream_t *stream, uint64_t start) {
  while (__atomic_load_n(&stream->sink->next, __ATOMIC_ACQUIRE) != stream->sent) {
  }
  return bench_now() - start;
}

static uint64_t one_by_one(void *of, uint64_t count) {
  stream_t *stream = (stream_t *)of;
  rk_message_t message;
  cargo_t cargo;
  uint64_t i, start = bench_now();
  memset(&message, 0, sizeof message);
  message.payload = &cargo;
  message.payload_size = sizeof cargo;
  for (i = 0; i < count; i++) {
    cargo_fill(&cargo, stream->sent++);
    MUST(rk_send(stream->kernel, &message, RK_FOREVER));
  }
  return finish(stream, start);
}

#define BATCH 64

static uint64_t in_batches(void *of, uint64_t count) {
  stream_t *stream = (stream_t *)of;
  static rk_message_t messages[BATCH];
  static cargo_t cargo[BATCH];
  uint64_t i, start;
  size_t j, sent, filled;
  for (j = 0; j < BATCH; j++) {
    messages[j].payload = &cargo[j];
    messages[j].payload_size = sizeof cargo[j];
  }
  start = bench_now();
  for (i = 0; i < count; i += filled) {
    filled = count - i < BATCH ? (size_t)(count - i) : BATCH;
    for (j = 0; j < filled; j++) cargo_fill(&cargo[j], stream->sent++);
    for (j = 0; j < filled; j += sent) MUST(rk_send_batch(stream->kernel, messages + j, filled - j, RK_FOREVER, &sent));
  }
  return finish(stream, start);
}

static uint64_t in_place(void *of, uint64_t count) {
  stream_t *stream = (stream_t *)of;
  static rk_loan_t loans[BATCH];
  uint64_t i, start = bench_now();
  size_t j, reserved;
  for (i = 0; i < count; i += reserved) {
    size_t wanted = count - i < BATCH ? (size_t)(count - i) : BATCH;
    MUST(rk_reserve_batch(stream->kernel, 0, sizeof(cargo_t), wanted, RK_FOREVER, loans, &reserved));
    for (j = 0; j < reserved; j++) cargo_fill((cargo_t *)loans[j].payload, stream->sent++);
    MUST(rk_commit_batch(loans, NULL, reserved));
  }
  return finish(stream, start);
}

int main(void) {
  static const struct {
    const char *name;
    uint32_t mode;
  } modes[] = {{"event-driven", RK_MODE_EVENT_DRIVEN}, {"persistent", RK_MODE_PERSISTENT}};
  size_t i;
  bench_begin();
  for (i = 0; i < 2; i++) {
    rk_runtime_t *runtime = bench_runtime(1);
    rk_launch_options_t options = bench_options("sink", modes[i].mode);
    bench_sink_t sink = {0, 0};
    stream_t stream;
    char name[64];
    bench_program(runtime, "sink", bench_on_sink, 0, &sink);
    stream.kernel = bench_launch(runtime, "sink", &options);
    stream.sink = &sink;
    stream.sent = 0;
    snprintf(name, sizeof name, "%s, rk_send", modes[i].name);
    bench_case("stream", name, bench_count(2000000), one_by_one, &stream);
    snprintf(name, sizeof name, "%s, rk_send_batch of 64", modes[i].name);
    bench_case("stream", name, bench_count(4000000), in_batches, &stream);
    snprintf(name, sizeof name, "%s, reserve and commit 64", modes[i].name);
    bench_case("stream", name, bench_count(4000000), in_place, &stream);
    EXPECT(sink.wrong == 0);
    MUST(rk_runtime_destroy(runtime));
  }
  return 0;
}
