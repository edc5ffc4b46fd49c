/* What the machine itself can do, for the ratios: a cache line from core to core and back, a futex there and back (both sides
 * asleep), and messages of 64 bytes through a bare ring between two threads, one by one and in batches of 64. */
#include "harness.h"

#include <linux/futex.h>
#include <sys/syscall.h>

typedef struct {
  uint32_t word __attribute__((aligned(128)));
  uint32_t stop __attribute__((aligned(128)));
} line_t;

static line_t line;

static void *bounce(void *unused) {
  (void)unused;
  while (!__atomic_load_n(&line.stop, __ATOMIC_RELAXED)) {
    if (__atomic_load_n(&line.word, __ATOMIC_ACQUIRE) == 1) __atomic_store_n(&line.word, 0, __ATOMIC_RELEASE);
  }
  return NULL;
}

static uint64_t trips(void *of, uint64_t count) {
  uint64_t i, start = bench_now();
  (void)of;
  for (i = 0; i < count; i++) {
    __atomic_store_n(&line.word, 1, __ATOMIC_RELEASE);
    while (__atomic_load_n(&line.word, __ATOMIC_ACQUIRE) == 1) {
    }
  }
  return bench_now() - start;
}

static void futex_wait(uint32_t *word, uint32_t value) { syscall(SYS_futex, word, FUTEX_WAIT_PRIVATE, value, NULL, NULL, 0); }
static void futex_wake(uint32_t *word) { syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0); }

static line_t request, answer;

static void *sleeper(void *unused) {
  (void)unused;
  for (;;) {
    while (__atomic_load_n(&request.word, __ATOMIC_ACQUIRE) == 0) futex_wait(&request.word, 0);
    if (__atomic_load_n(&request.stop, __ATOMIC_RELAXED)) return NULL;
    __atomic_store_n(&request.word, 0, __ATOMIC_RELAXED);
    __atomic_store_n(&answer.word, 1, __ATOMIC_RELEASE);
    futex_wake(&answer.word);
  }
}

static uint64_t wakes(void *of, uint64_t count) {
  uint64_t i, start = bench_now();
  (void)of;
  for (i = 0; i < count; i++) {
    __atomic_store_n(&request.word, 1, __ATOMIC_RELEASE);
    futex_wake(&request.word);
    while (__atomic_load_n(&answer.word, __ATOMIC_ACQUIRE) == 0) futex_wait(&answer.word, 0);
    __atomic_store_n(&answer.word, 0, __ATOMIC_RELAXED);
  }
  return bench_now() - start;
}

/* One sender, one receiver, each with a copy of the other's index. */
#define SLOTS 1024u
typedef struct {
  uint64_t head __attribute__((aligned(128)));
  uint64_t tail __attribute__((aligned(128)));
  uint64_t wrong __attribute__((aligned(128)));
  cargo_t slots[SLOTS] __attribute__((aligned(128)));
} ring_t;

static ring_t ring;
static uint64_t ring_end;

static void *drain(void *unused) {
  uint64_t head = ring.head, tail = head;
  (void)unused;
  while (head != ring_end) {
    while (tail == head) tail = __atomic_load_n(&ring.tail, __ATOMIC_ACQUIRE);
    for (; head != tail; head++) ring.wrong += !cargo_is(&ring.slots[head % SLOTS], sizeof(cargo_t), head);
    __atomic_store_n(&ring.head, head, __ATOMIC_RELEASE);
  }
  return NULL;
}

static uint64_t through(uint64_t count, uint64_t batch) {
  pthread_t thread;
  uint64_t tail = ring.tail, head = ring.head, start;
  ring_end = tail + count;
  EXPECT(pthread_create(&thread, NULL, drain, NULL) == 0);
  start = bench_now();
  while (tail != ring_end) {
    uint64_t end = ring_end - tail < batch ? ring_end : tail + batch;
    while (end - head > SLOTS) head = __atomic_load_n(&ring.head, __ATOMIC_ACQUIRE);
    for (; tail != end; tail++) cargo_fill(&ring.slots[tail % SLOTS], tail);
    __atomic_store_n(&ring.tail, tail, __ATOMIC_RELEASE);
  }
  pthread_join(thread, NULL);
  EXPECT(ring.wrong == 0);
  return bench_now() - start;
}

static uint64_t singly(void *of, uint64_t count) {
  (void)of;
  return through(count, 1);
}

static uint64_t batched(void *of, uint64_t count) {
  (void)of;
  return through(count, 64);
}

int main(void) {
  pthread_t thread;
  bench_begin();
  EXPECT(pthread_create(&thread, NULL, bounce, NULL) == 0);
  bench_case("bare", "a cache line there and back", bench_count(1000000), trips, NULL);
  __atomic_store_n(&line.stop, 1, __ATOMIC_RELAXED);
  pthread_join(thread, NULL);
  EXPECT(pthread_create(&thread, NULL, sleeper, NULL) == 0);
  bench_case("bare", "a futex there and back", bench_count(20000), wakes, NULL);
  __atomic_store_n(&request.stop, 1, __ATOMIC_RELAXED);
  __atomic_store_n(&request.word, 1, __ATOMIC_RELEASE);
  futex_wake(&request.word);
  pthread_join(thread, NULL);
  bench_case("bare", "a ring, one by one", bench_count(4000000), singly, NULL);
  bench_case("bare", "a ring, batches of 64", bench_count(8000000), batched, NULL);
  return 0;
}
