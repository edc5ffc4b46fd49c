/* What the machine itself can do, for the ratios: a cache line from core to core and back, a futex there and back (both sides
 * sleep while they wait), and 64 bytes through rings made by hand, content checked as everywhere. All but the futex spin.
 *  - The futex: back to back, with both threads where the scheduler puts them (on one CPU it can be a twentieth of what it is on
 *    two, and the scheduler changes its mind) and with each held on a CPU of its own; and one each 100 us, as in calls.c.
 *  - One sender, one receiver (the ring of Lamport; a private copy of the other's index, as in FastForward and rtrb): one by one
 *    (each message is published before the next is written) and in batches of 64; a pair of them for a round trip.
 *  - Four senders, one receiver: the bounded queue of Dmitry Vyukov, a sequence number in each slot. One by one and, with one
 *    step of the shared position for 64 slots, in batches. */
#include "harness.h"

#include <linux/futex.h>
#include <sched.h>
#include <sys/syscall.h>

#define LINE __attribute__((aligned(128)))
#define LOAD(word) __atomic_load_n(&(word), __ATOMIC_ACQUIRE)
#define STORE(word, value) __atomic_store_n(&(word), (value), __ATOMIC_RELEASE)

typedef struct {
  uint32_t word LINE;
  uint32_t stop LINE;
} line_t;

static line_t line;

static void *bounce(void *unused) {
  (void)unused;
  while (!__atomic_load_n(&line.stop, __ATOMIC_RELAXED)) {
    if (LOAD(line.word) == 1) STORE(line.word, 0);
  }
  return NULL;
}

static uint64_t trips(void *of, uint64_t count) {
  uint64_t i, start = bench_now();
  (void)of;
  for (i = 0; i < count; i++) {
    STORE(line.word, 1);
    while (LOAD(line.word) == 1) {
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
    while (LOAD(request.word) == 0) futex_wait(&request.word, 0);
    if (__atomic_load_n(&request.stop, __ATOMIC_RELAXED)) return NULL;
    __atomic_store_n(&request.word, 0, __ATOMIC_RELAXED);
    STORE(answer.word, 1);
    futex_wake(&answer.word);
  }
}

static void one_wake(void) {
  STORE(request.word, 1);
  futex_wake(&request.word);
  while (LOAD(answer.word) == 0) futex_wait(&answer.word, 0);
  __atomic_store_n(&answer.word, 0, __ATOMIC_RELAXED);
}

static uint64_t wakes(void *of, uint64_t count) {
  uint64_t i, start = bench_now();
  (void)of;
  for (i = 0; i < count; i++) one_wake();
  return bench_now() - start;
}

static void paced_wakes(const char *name, int awake, size_t count) {
  uint64_t *samples = (uint64_t *)malloc(count * sizeof *samples);
  size_t i;
  EXPECT(samples != NULL);
  for (i = 0; i < count; i++) {
    uint64_t start = bench_now();
    if (!awake) usleep(100);
    while (bench_now() < start + 100000) bench_relax();
    start = bench_now();
    one_wake();
    samples[i] = bench_now() - start;
  }
  qsort(samples, count, sizeof *samples, bench_order_u64);
  printf("bare\t%s\t%llu\t%llu\n", name, (unsigned long long)bench_quantile(samples, count, 0.5), (unsigned long long)samples[0]);
  fflush(stdout);
  free(samples);
}

/* Holds both threads on CPUs of their own, the first two of those that the process may use, or lets them go again. */
static void hold(pthread_t other, int apart) {
  static cpu_set_t all;
  cpu_set_t one;
  pthread_t threads[2];
  int cpu, i = 0;
  threads[0] = pthread_self();
  threads[1] = other;
  if (apart) {
    EXPECT(sched_getaffinity(0, sizeof all, &all) == 0);
    for (cpu = 0; cpu < CPU_SETSIZE && i < 2; cpu++) {
      if (!CPU_ISSET(cpu, &all)) continue;
      CPU_ZERO(&one);
      CPU_SET(cpu, &one);
      EXPECT(pthread_setaffinity_np(threads[i++], sizeof one, &one) == 0);
    }
  } else {
    for (; i < 2; i++) EXPECT(pthread_setaffinity_np(threads[i], sizeof all, &all) == 0);
  }
}

static void futexes(void) {
  pthread_t thread;
  EXPECT(pthread_create(&thread, NULL, sleeper, NULL) == 0);
  bench_case("bare", "a futex there and back", bench_count(20000), wakes, NULL);
  paced_wakes("a futex there and back, one each 100 us, caller asleep", 0, (size_t)bench_count(5000));
  paced_wakes("a futex there and back, one each 100 us, caller awake", 1, (size_t)bench_count(5000));
  hold(thread, 1);
  bench_case("bare", "a futex from CPU to CPU and back", bench_count(20000), wakes, NULL);
  hold(thread, 0);
  __atomic_store_n(&request.stop, 1, __ATOMIC_RELAXED);
  STORE(request.word, 1);
  futex_wake(&request.word);
  pthread_join(thread, NULL);
}

#define SLOTS 1024u
#define BATCH 64u
#define AHEAD 16u   /* slots: both sides fetch lines from the other core before they need them */
#define BREATHS 16
#define PUBLISH 64u /* the receiver gives slots back at least this often */

typedef struct {
  uint64_t head LINE;
  uint64_t tail LINE;
  cargo_t slots[SLOTS] LINE;
} ring_t;

static ring_t ring, back;
static uint32_t stop;

static void put(ring_t *to, uint64_t tail, uint64_t number) {
  bench_fetch_to_write(&to->slots[(tail + AHEAD) % SLOTS]);
  cargo_fill(&to->slots[tail % SLOTS], number);
}

/* A receiver that finds nothing lets the sender get ahead: one that follows closely takes each line while it is written. */
static void breathe(void) {
  int i;
  for (i = 0; i < BREATHS; i++) bench_relax();
}

static void *drain(void *unused) {
  uint64_t head = ring.head, tail = head, wrong = 0;
  (void)unused;
  for (;;) {
    uint64_t end;
    while (tail == head && (tail = LOAD(ring.tail)) == head) {
      if (LOAD(stop)) {
        EXPECT(wrong == 0);
        return NULL;
      }
      breathe();
    }
    end = tail - head > PUBLISH ? head + PUBLISH : tail;
    for (; head != end; head++) {
      __builtin_prefetch(&ring.slots[(head + AHEAD) % SLOTS]);
      wrong += !cargo_is(&ring.slots[head % SLOTS], sizeof(cargo_t), head);
    }
    STORE(ring.head, head);
  }
}

static uint64_t through(uint64_t count, uint64_t batch) {
  uint64_t tail = ring.tail, head = ring.head, all = tail + count, start = bench_now();
  while (tail != all) {
    uint64_t end = all - tail < batch ? all : tail + batch;
    while (end - head > SLOTS) head = LOAD(ring.head);
    for (; tail != end; tail++) put(&ring, tail, tail);
    STORE(ring.tail, tail);
  }
  while (LOAD(ring.head) != all) {
  }
  return bench_now() - start;
}

static uint64_t singly(void *of, uint64_t count) {
  (void)of;
  return through(count, 1);
}

static uint64_t batched(void *of, uint64_t count) {
  (void)of;
  return through(count, BATCH);
}

/* What arrives on `ring` is copied to `back`. At most one message is under way: neither can be full. */
static void *echo(void *unused) {
  uint64_t at = ring.head;
  (void)unused;
  for (;; at++) {
    while (LOAD(ring.tail) == at) {
      if (LOAD(stop)) return NULL;
    }
    back.slots[at % SLOTS] = ring.slots[at % SLOTS];
    STORE(back.tail, at + 1);
    STORE(ring.head, at + 1);
  }
}

static uint64_t there_and_back(void *of, uint64_t count) {
  uint64_t at = ring.tail, end = at + count, start = bench_now();
  (void)of;
  for (; at != end; at++) {
    cargo_fill(&ring.slots[at % SLOTS], at);
    STORE(ring.tail, at + 1);
    while (LOAD(back.tail) == at) {
    }
    EXPECT(cargo_is(&back.slots[at % SLOTS], sizeof(cargo_t), at));
    STORE(back.head, at + 1);
  }
  return bench_now() - start;
}

#define SENDERS 4u
#define SENDER_SHIFT 56

typedef struct {
  uint64_t sequence; /* position: free for it; position + 1: holds it */
  cargo_t cargo;
} slot_t;

static struct {
  uint64_t tail LINE;
  uint64_t head LINE;
  slot_t slots[SLOTS] LINE;
} shared;

typedef struct {
  uint64_t number LINE;
  uint64_t count, batch;
  pthread_barrier_t *gate;
} sender_t;

static sender_t senders[SENDERS];

/* A waiting sender or receiver lets others run after a while: there may be fewer CPUs than threads. */
static void patience(unsigned *turns) {
  if (++*turns % 128 == 0) sched_yield();
}

/* Takes `wanted` positions at once; the last of them is free only when all are, for the receiver frees in order. */
static uint64_t claim(uint64_t wanted) {
  unsigned turns = 0;
  uint64_t at = __atomic_load_n(&shared.tail, __ATOMIC_RELAXED);
  for (;;) {
    uint64_t last = at + wanted - 1, sequence = LOAD(shared.slots[last % SLOTS].sequence);
    if (sequence == last) {
      if (__atomic_compare_exchange_n(&shared.tail, &at, at + wanted, 1, __ATOMIC_RELAXED, __ATOMIC_RELAXED)) return at;
    } else {
      if ((int64_t)(sequence - last) < 0) patience(&turns);
      at = __atomic_load_n(&shared.tail, __ATOMIC_RELAXED);
    }
  }
}

static void *send_shared(void *of) {
  sender_t *sender = (sender_t *)of;
  uint64_t left, wanted, at;
  pthread_barrier_wait(sender->gate);
  for (left = sender->count; left; left -= wanted) {
    uint64_t end;
    wanted = left < sender->batch ? left : sender->batch;
    at = claim(wanted);
    for (end = at + wanted; at != end; at++) {
      slot_t *slot = &shared.slots[at % SLOTS];
      cargo_fill(&slot->cargo, sender->number++);
      STORE(slot->sequence, at + 1);
    }
  }
  return NULL;
}

static uint64_t from_four(uint64_t count, uint64_t batch) {
  static uint64_t next[SENDERS];
  pthread_t threads[SENDERS];
  pthread_barrier_t gate;
  uint64_t each = (count + SENDERS - 1) / SENDERS, end = shared.head + each * SENDERS, start, i;
  unsigned turns = 0;
  EXPECT(pthread_barrier_init(&gate, NULL, SENDERS + 1) == 0);
  for (i = 0; i < SENDERS; i++) {
    senders[i].gate = &gate;
    senders[i].count = each;
    senders[i].batch = batch;
    senders[i].number = i << SENDER_SHIFT | next[i];
    EXPECT(pthread_create(&threads[i], NULL, send_shared, &senders[i]) == 0);
  }
  start = bench_now();
  pthread_barrier_wait(&gate);
  for (; shared.head != end; shared.head++) {
    slot_t *slot = &shared.slots[shared.head % SLOTS];
    uint64_t sender;
    __builtin_prefetch(&shared.slots[(shared.head + AHEAD) % SLOTS]);
    while (LOAD(slot->sequence) != shared.head + 1) patience(&turns);
    sender = slot->cargo.words[0] >> SENDER_SHIFT;
    EXPECT(sender < SENDERS && cargo_is(&slot->cargo, sizeof(cargo_t), sender << SENDER_SHIFT | next[sender]));
    next[sender]++;
    STORE(slot->sequence, shared.head + SLOTS);
  }
  start = bench_now() - start;
  for (i = 0; i < SENDERS; i++) pthread_join(threads[i], NULL);
  pthread_barrier_destroy(&gate);
  return start;
}

static uint64_t four_singly(void *of, uint64_t count) {
  (void)of;
  return from_four(count, 1);
}

static uint64_t four_batched(void *of, uint64_t count) {
  (void)of;
  return from_four(count, BATCH);
}

/* With the argument "line" only the first. */
int main(int argc, char **argv) {
  pthread_t thread;
  uint64_t i;
  bench_begin();
  EXPECT(pthread_create(&thread, NULL, bounce, NULL) == 0);
  bench_case("bare", "a cache line there and back", bench_count(1000000), trips, NULL);
  __atomic_store_n(&line.stop, 1, __ATOMIC_RELAXED);
  pthread_join(thread, NULL);
  if (argc > 1 && strcmp(argv[1], "line") == 0) return 0;
  futexes();
  EXPECT(pthread_create(&thread, NULL, drain, NULL) == 0);
  bench_case("bare", "a ring, one by one", bench_count(4000000), singly, NULL);
  bench_case("bare", "a ring, batches of 64", bench_count(8000000), batched, NULL);
  STORE(stop, 1);
  pthread_join(thread, NULL);
  STORE(stop, 0);
  back.head = back.tail = ring.tail;
  EXPECT(pthread_create(&thread, NULL, echo, NULL) == 0);
  bench_case("bare", "a pair of rings there and back", bench_count(1000000), there_and_back, NULL);
  STORE(stop, 1);
  pthread_join(thread, NULL);
  for (i = 0; i < SLOTS; i++) shared.slots[i].sequence = i;
  bench_case("bare", "a shared ring, 4 senders, one by one", bench_count(2000000), four_singly, NULL);
  bench_case("bare", "a shared ring, 4 senders, batches of 64", bench_count(4000000), four_batched, NULL);
  return 0;
}
