/* What the C benches share: time, rounds, and one line for each case: question, case, median, minimum in nanoseconds. */
#ifndef RK_BENCH_HARNESS_H
#define RK_BENCH_HARNESS_H
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <pthread.h>
#include <ringkernel.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define ROUNDS_MAX 32
#define PAYLOAD 64

/* What every benched message carries; the handler checks all of it. */
typedef struct {
  uint64_t words[PAYLOAD / 8];
} cargo_t;

static int bench_rounds = 7;
static double bench_scale = 1.0;

static uint64_t bench_now(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static void bench_die(const char *what, rk_status_t status) {
  char text[512];
  rk_last_error(text, sizeof text);
  fprintf(stderr, "%s: %s (%s)\n", what, rk_status_name(status), text);
  exit(1);
}

#define MUST(call)                                          \
  do {                                                      \
    rk_status_t status_ = (call);                           \
    if (status_ != RK_OK) bench_die(#call, status_);        \
  } while (0)

#define EXPECT(condition)                                                            \
  do {                                                                               \
    if (!(condition)) {                                                              \
      fprintf(stderr, "%s:%d: not true: %s\n", __FILE__, __LINE__, #condition);      \
      exit(1);                                                                       \
    }                                                                                \
  } while (0)

static void cargo_fill(cargo_t *cargo, uint64_t number) {
  int i;
  for (i = 0; i < PAYLOAD / 8; i++) cargo->words[i] = number + (uint64_t)i;
}

static int cargo_is(const void *payload, size_t size, uint64_t number) {
  const cargo_t *cargo = (const cargo_t *)payload;
  uint64_t wrong = size ^ sizeof *cargo;
  int i;
  for (i = 0; i < PAYLOAD / 8; i++) wrong |= cargo->words[i] ^ (number + (uint64_t)i);
  return wrong == 0;
}

static int bench_order(const void *a, const void *b) {
  double x = *(const double *)a, y = *(const double *)b;
  return (x > y) - (x < y);
}

/* Without -mprfchw the compiler's own makes a fetch to read of it, which is worse than none. */
static inline void bench_fetch_to_write(const void *at) {
#ifdef __x86_64__
  __asm__ volatile("prefetchw %0" : : "m"(*(const char *)at));
#else
  __builtin_prefetch(at, 1);
#endif
}

/* A turn of a loop that waits. */
static inline void bench_relax(void) {
#ifdef __x86_64__
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  __asm__ volatile("yield");
#endif
}

/* The number of operations of a round: RK_BENCH_SCALE makes all of them smaller or larger. */
static uint64_t bench_count(uint64_t count) {
  uint64_t scaled = (uint64_t)((double)count * bench_scale);
  return scaled < 64 ? 64 : scaled;
}

/* Prints a case: nanoseconds per operation of each round. */
static void bench_line(const char *question, const char *name, double *each, int rounds) {
  qsort(each, (size_t)rounds, sizeof *each, bench_order);
  printf("%s\t%s\t%.2f\t%.2f\n", question, name, each[rounds / 2], each[0]);
  fflush(stdout);
}

/* Calls `round` once to warm up and then as often as asked; it says how long `count` operations took, ns. */
static void bench_case(const char *question, const char *name, uint64_t count, uint64_t (*round)(void *, uint64_t), void *of) {
  double each[ROUNDS_MAX];
  int i;
  round(of, count / 8 + 1);
  for (i = 0; i < bench_rounds; i++) each[i] = (double)round(of, count) / (double)count;
  bench_line(question, name, each, bench_rounds);
}

/* The p-quantile of `count` sorted samples. */
static uint64_t bench_quantile(const uint64_t *sorted, size_t count, double p) {
  size_t at = (size_t)(p * (double)count);
  return sorted[at < count ? at : count - 1];
}

static int bench_order_u64(const void *a, const void *b) {
  uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
  return (x > y) - (x < y);
}

/* Quantiles of samples in nanoseconds, each as a case of its own. */
static void bench_quantiles(const char *question, const char *name, uint64_t *samples, size_t count) {
  static const struct {
    const char *name;
    double p;
  } which[] = {{"p50", 0.5}, {"p99", 0.99}, {"p99.9", 0.999}, {"p99.99", 0.9999}, {"max", 1.0}};
  size_t i;
  qsort(samples, count, sizeof *samples, bench_order_u64);
  for (i = 0; i < sizeof which / sizeof *which; i++) {
    uint64_t value = bench_quantile(samples, count, which[i].p);
    printf("%s\t%s %s\t%llu\t%llu\n", question, name, which[i].name, (unsigned long long)value, (unsigned long long)samples[0]);
  }
  fflush(stdout);
}

static void bench_unused(void);

static void bench_begin(void) {
  bench_unused();
  const char *rounds = getenv("RK_BENCH_ROUNDS"), *scale = getenv("RK_BENCH_SCALE");
  if (rounds) bench_rounds = atoi(rounds);
  if (bench_rounds < 1 || bench_rounds > ROUNDS_MAX) bench_rounds = 7;
  if (scale) bench_scale = atof(scale);
}

static rk_runtime_t *bench_runtime(uint32_t workers) {
  rk_runtime_t *runtime = NULL;
  rk_runtime_options_t options = RK_RUNTIME_OPTIONS_INIT;
  options.backend = RK_BACKEND_CPU;
  options.worker_threads = workers;
  MUST(rk_runtime_create(&options, &runtime));
  return runtime;
}

static void bench_program(rk_runtime_t *runtime, const char *name, rk_handler_fn handler, size_t state_size, void *user_data) {
  rk_program_t program = RK_PROGRAM_INIT;
  program.name = name;
  program.on_message = handler;
  program.state_size = state_size;
  program.user_data = user_data;
  MUST(rk_program_register(runtime, &program));
}

static rk_launch_options_t bench_options(const char *program, uint32_t mode) {
  rk_launch_options_t options = RK_LAUNCH_OPTIONS_INIT;
  options.program = program;
  options.mode = mode;
  options.payload_size_max = PAYLOAD;
  return options;
}

static rk_kernel_t bench_launch(rk_runtime_t *runtime, const char *id, const rk_launch_options_t *options) {
  rk_kernel_t kernel;
  MUST(rk_launch(runtime, id, options, &kernel));
  return kernel;
}

/* Where numbered messages end; on cache lines of its own: what is measured is the library. */
typedef struct {
  uint64_t next __attribute__((aligned(128))); /* the handler's: number of the message that comes next */
  uint64_t wrong;
} bench_sink_t;

/* Checks all of a message, and counts. The user data is a sink. */
static rk_status_t bench_on_sink(rk_context_t *ctx, const rk_message_t *message) {
  bench_sink_t *sink = (bench_sink_t *)rk_context_user_data(ctx);
  uint64_t number = sink->next;
  if (!cargo_is(message->payload, message->payload_size, number)) sink->wrong++;
  __atomic_store_n(&sink->next, number + 1, __ATOMIC_RELEASE);
  return RK_OK;
}

static void bench_unused(void) {
  (void)bench_on_sink;
  (void)bench_case;
  (void)bench_quantiles;
  (void)cargo_fill;
  (void)cargo_is;
  (void)bench_count;
  (void)bench_runtime;
  (void)bench_program;
  (void)bench_options;
  (void)bench_launch;
}
#endif
