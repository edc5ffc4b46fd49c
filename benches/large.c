/* What does a larger message cost? 256 bytes and 4 KiB from the host to a handler that reads and checks every byte: rk_send,
 * rk_send_batch of 16, rk_reserve_batch and rk_commit_batch of 16. Beside it memcpy of as much (in cache, one thread, content
 * not looked at), and a ring made by hand of as many slots (written and checked in place, published in batches of 16, with and
 * without fetching lines ahead). Writing and checking are the same code everywhere. */
#include "harness.h"

#define SIZE_MAX_ 4096
#define BATCH 16
#define SLOTS 1024u /* also what an input queue has unless asked otherwise */
#define LINE __attribute__((aligned(128)))

typedef uint64_t pair_t __attribute__((vector_size(16), may_alias));

/* The word at i is number + i. */
static void fill(void *payload, size_t size, uint64_t number) {
  pair_t *pairs = (pair_t *)payload, value = {number, number + 1};
  size_t i;
  for (i = 0; i < size / sizeof *pairs; i++, value += 2) pairs[i] = value;
}

static int is(const void *payload, size_t size, uint64_t number) {
  const pair_t *pairs = (const pair_t *)payload;
  pair_t value = {number, number + 1}, wrong = {0, 0};
  size_t i;
  for (i = 0; i < size / sizeof *pairs; i++, value += 2) wrong |= pairs[i] ^ value;
  return (wrong[0] | wrong[1]) == 0;
}

typedef struct {
  uint64_t next LINE; /* the handler's: number of the message that comes next */
  uint64_t wrong;
} sink_t;

typedef struct {
  rk_kernel_t kernel;
  sink_t *sink;
  uint64_t sent;
  size_t size;
} stream_t;

static size_t expected_size;

static rk_status_t on_sink(rk_context_t *ctx, const rk_message_t *message) {
  sink_t *sink = (sink_t *)rk_context_user_data(ctx);
  uint64_t number = sink->next;
  if (message->payload_size != expected_size || !is(message->payload, message->payload_size, number)) sink->wrong++;
  __atomic_store_n(&sink->next, number + 1, __ATOMIC_RELEASE);
  return RK_OK;
}

static uint64_t finish(stream_t *stream, uint64_t start) {
  while (__atomic_load_n(&stream->sink->next, __ATOMIC_ACQUIRE) != stream->sent) {
  }
  return bench_now() - start;
}

static char buffers[BATCH][SIZE_MAX_] LINE;

static uint64_t one_by_one(void *of, uint64_t count) {
  stream_t *stream = (stream_t *)of;
  rk_message_t message;
  uint64_t i, start = bench_now();
  memset(&message, 0, sizeof message);
  message.payload = buffers[0];
  message.payload_size = stream->size;
  for (i = 0; i < count; i++) {
    fill(buffers[0], stream->size, stream->sent++);
    MUST(rk_send(stream->kernel, &message, RK_FOREVER));
  }
  return finish(stream, start);
}

static uint64_t in_batches(void *of, uint64_t count) {
  stream_t *stream = (stream_t *)of;
  rk_message_t messages[BATCH];
  uint64_t i, start;
  size_t j, sent, filled;
  memset(messages, 0, sizeof messages);
  for (j = 0; j < BATCH; j++) {
    messages[j].payload = buffers[j];
    messages[j].payload_size = stream->size;
  }
  start = bench_now();
  for (i = 0; i < count; i += filled) {
    filled = count - i < BATCH ? (size_t)(count - i) : BATCH;
    for (j = 0; j < filled; j++) fill(buffers[j], stream->size, stream->sent++);
    for (j = 0; j < filled; j += sent) MUST(rk_send_batch(stream->kernel, messages + j, filled - j, RK_FOREVER, &sent));
  }
  return finish(stream, start);
}

static uint64_t in_place(void *of, uint64_t count) {
  stream_t *stream = (stream_t *)of;
  rk_loan_t loans[BATCH];
  uint64_t i, start = bench_now();
  size_t j, reserved;
  for (i = 0; i < count; i += reserved) {
    size_t wanted = count - i < BATCH ? (size_t)(count - i) : BATCH;
    MUST(rk_reserve_batch(stream->kernel, 0, stream->size, wanted, RK_FOREVER, loans, &reserved));
    for (j = 0; j < reserved; j++) fill(loans[j].payload, stream->size, stream->sent++);
    MUST(rk_commit_batch(loans, NULL, reserved));
  }
  return finish(stream, start);
}

static uint64_t copies(void *of, uint64_t count) {
  stream_t *stream = (stream_t *)of;
  uint64_t i, start = bench_now();
  for (i = 0; i < count; i++) {
    memcpy(buffers[1 + i % (BATCH - 1)], buffers[0], stream->size);
    __asm__ volatile("" : : : "memory");
  }
  return bench_now() - start;
}

static struct {
  uint64_t head LINE;
  uint64_t tail LINE;
  uint32_t stop LINE;
  size_t size;
  int fetching;
  char (*slots)[SIZE_MAX_];
} ring;

static char *slot_of(uint64_t at) { return (char *)ring.slots + (size_t)(at % SLOTS) * ring.size; }

#define AHEAD 8192 /* bytes */

static void fetch(uint64_t at, int to_write) {
  const char *next = slot_of(at + AHEAD / ring.size);
  size_t i;
  if (!ring.fetching) return;
  for (i = 0; i < ring.size; i += 64) {
    if (to_write)
      bench_fetch_to_write(next + i);
    else
      __builtin_prefetch(next + i);
  }
}

static void *drain(void *unused) {
  uint64_t head = ring.head, tail = head, wrong = 0;
  (void)unused;
  for (;;) {
    uint64_t end;
    while (tail == head && (tail = __atomic_load_n(&ring.tail, __ATOMIC_ACQUIRE)) == head) {
      if (__atomic_load_n(&ring.stop, __ATOMIC_ACQUIRE)) {
        EXPECT(wrong == 0);
        return NULL;
      }
    }
    end = tail - head > BATCH ? head + BATCH : tail;
    for (; head != end; head++) {
      fetch(head, 0);
      wrong += !is(slot_of(head), ring.size, head);
    }
    __atomic_store_n(&ring.head, head, __ATOMIC_RELEASE);
  }
}

static uint64_t through(void *of, uint64_t count) {
  uint64_t tail = ring.tail, head = ring.head, all = tail + count, start = bench_now();
  (void)of;
  while (tail != all) {
    uint64_t end = all - tail < BATCH ? all : tail + BATCH;
    while (end - head > SLOTS) head = __atomic_load_n(&ring.head, __ATOMIC_ACQUIRE);
    for (; tail != end; tail++) {
      fetch(tail, 1);
      fill(slot_of(tail), ring.size, tail);
    }
    __atomic_store_n(&ring.tail, tail, __ATOMIC_RELEASE);
  }
  while (__atomic_load_n(&ring.head, __ATOMIC_ACQUIRE) != all) {
  }
  return bench_now() - start;
}

static void bare(stream_t *stream, uint64_t count) {
  pthread_t thread;
  char name[64];
  snprintf(name, sizeof name, "%u bytes, bare: memcpy", (unsigned)stream->size);
  bench_case("large", name, count, copies, stream);
  ring.size = stream->size;
  for (ring.fetching = 0; ring.fetching < 2; ring.fetching++) {
    ring.head = ring.tail = 0;
    ring.stop = 0;
    EXPECT(pthread_create(&thread, NULL, drain, NULL) == 0);
    snprintf(name, sizeof name, "%u bytes, bare: a ring, batches of 16%s", (unsigned)stream->size, ring.fetching ? ", fetching ahead" : "");
    bench_case("large", name, count, through, NULL);
    __atomic_store_n(&ring.stop, 1, __ATOMIC_RELEASE);
    pthread_join(thread, NULL);
  }
}

int main(void) {
  static const struct {
    const char *name;
    uint32_t mode;
  } modes[] = {{"event-driven", RK_MODE_EVENT_DRIVEN}, {"persistent", RK_MODE_PERSISTENT}};
  static const struct {
    const char *name;
    uint64_t (*round)(void *, uint64_t);
  } forms[] = {{"rk_send", one_by_one}, {"rk_send_batch of 16", in_batches}, {"reserve and commit 16", in_place}};
  static const struct {
    size_t size;
    uint64_t count;
  } sizes[] = {{256, 2000000}, {SIZE_MAX_, 400000}};
  size_t s, i, j;
  bench_begin();
  ring.slots = (char(*)[SIZE_MAX_])aligned_alloc(128, (size_t)SLOTS * SIZE_MAX_);
  EXPECT(ring.slots != NULL);
  memset(ring.slots, 1, (size_t)SLOTS * SIZE_MAX_);
  for (s = 0; s < 2; s++) {
    uint64_t count = bench_count(sizes[s].count);
    stream_t stream;
    stream.size = expected_size = sizes[s].size;
    bare(&stream, count);
    for (i = 0; i < 2; i++) {
      rk_runtime_t *runtime = bench_runtime(1);
      rk_launch_options_t options = bench_options("sink", modes[i].mode);
      static sink_t sink;
      sink.next = sink.wrong = 0;
      options.payload_size_max = (uint32_t)sizes[s].size;
      options.input_queue_capacity = SLOTS;
      bench_program(runtime, "sink", on_sink, 0, &sink);
      stream.kernel = bench_launch(runtime, "sink", &options);
      stream.sink = &sink;
      stream.sent = 0;
      for (j = 0; j < 3; j++) {
        char name[64];
        snprintf(name, sizeof name, "%u bytes, %s, %s", (unsigned)sizes[s].size, modes[i].name, forms[j].name);
        bench_case("large", name, count, forms[j].round, &stream);
      }
      EXPECT(sink.wrong == 0);
      MUST(rk_runtime_destroy(runtime));
    }
  }
  free(ring.slots);
  return 0;
}
