/* What does one of very many kernels cost? 100 000 event-driven ones (and 1 000 000 with RK_BENCH_SCALE of 1 or more; 100 000 times
 * a scale below 0.1 for a look), 16 messages of 64 bytes each, 8 bytes of state. Launch, memory (resident pages of the process),
 * CPU time while all are idle, the first and a later message to each (the time until all handlers have run; which kernel got
 * which content is checked), terminate and destroy. Each round has a process of its own, so that none gets used memory. */
#include "harness.h"

#include <sched.h>
#include <sys/resource.h>
#include <sys/wait.h>

enum { LAUNCH, BYTES, IDLE, FIRST, BYTES_USED, LATER, TERMINATE, DESTROY, FIGURES };

static const struct {
  const char *question, *name;
} figures[FIGURES] = {
    {"many", "launch"},
    {"many bytes", "before the first message"},
    {"many idle ms", "CPU time in 1 s"},
    {"many", "first message"},
    {"many bytes", "after the first message"},
    {"many", "later message"},
    {"many", "terminate"},
    {"many", "destroy"},
};

typedef struct {
  rk_kernel_t *kernels;
  size_t count;
  uint64_t taken __attribute__((aligned(128)));
  uint64_t wrong;
} crowd_t;

#define NUMBER(index, visit) ((uint64_t)(visit) << 32 | (uint64_t)(index))

/* The state is the number of messages so far. */
static rk_status_t on_visit(rk_context_t *ctx, const rk_message_t *message) {
  crowd_t *crowd = (crowd_t *)rk_context_user_data(ctx);
  uint64_t *visits = (uint64_t *)rk_context_state(ctx), number = ((const cargo_t *)message->payload)->words[0], index = number & UINT32_MAX;
  if (index >= crowd->count || crowd->kernels[index].id != rk_context_kernel(ctx).id ||
      !cargo_is(message->payload, message->payload_size, NUMBER(index, *visits)))
    crowd->wrong++;
  ++*visits;
  __atomic_store_n(&crowd->taken, crowd->taken + 1, __ATOMIC_RELEASE);
  return RK_OK;
}

static double resident(void) {
  unsigned long total, pages;
  FILE *file = fopen("/proc/self/statm", "r");
  EXPECT(file != NULL && fscanf(file, "%lu %lu", &total, &pages) == 2);
  fclose(file);
  return (double)pages * (double)sysconf(_SC_PAGESIZE);
}

static double cpu_ms(void) {
  struct rusage usage;
  EXPECT(getrusage(RUSAGE_SELF, &usage) == 0);
  return (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) * 1e3 + (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e3;
}

static void pause_ms(unsigned ms) {
  struct timespec time = {ms / 1000, (long)(ms % 1000) * 1000000};
  while (nanosleep(&time, &time) != 0) {
  }
}

static double visit_all(crowd_t *crowd, uint64_t visit) {
  uint64_t start = bench_now();
  rk_message_t message;
  cargo_t cargo;
  size_t i;
  memset(&message, 0, sizeof message);
  message.payload = &cargo;
  message.payload_size = sizeof cargo;
  for (i = 0; i < crowd->count; i++) {
    cargo_fill(&cargo, NUMBER(i, visit));
    MUST(rk_send(crowd->kernels[i], &message, RK_FOREVER));
  }
  while (__atomic_load_n(&crowd->taken, __ATOMIC_ACQUIRE) != crowd->count * (visit + 1)) sched_yield();
  return (double)(bench_now() - start) / (double)crowd->count;
}

static void one_round(size_t count, double *value) {
  rk_runtime_t *runtime = bench_runtime(1);
  rk_launch_options_t options = bench_options("visit", RK_MODE_EVENT_DRIVEN);
  static crowd_t crowd;
  char(*names)[16] = (char(*)[16])malloc(count * sizeof *names);
  double before;
  uint64_t start;
  size_t i;
  options.input_queue_capacity = 16;
  options.output_queue_capacity = 16;
  bench_program(runtime, "visit", on_visit, sizeof(uint64_t), &crowd);
  crowd.kernels = (rk_kernel_t *)malloc(count * sizeof *crowd.kernels);
  crowd.count = count;
  EXPECT(names != NULL && crowd.kernels != NULL);
  memset(crowd.kernels, 1, count * sizeof *crowd.kernels);
  for (i = 0; i < count; i++) snprintf(names[i], sizeof *names, "visit-%u", (unsigned)i);

  before = resident();
  start = bench_now();
  for (i = 0; i < count; i++) MUST(rk_launch(runtime, names[i], &options, &crowd.kernels[i]));
  value[LAUNCH] = (double)(bench_now() - start) / (double)count;
  value[BYTES] = (resident() - before) / (double)count;

  pause_ms(50);
  value[IDLE] = cpu_ms();
  pause_ms(1000);
  value[IDLE] = cpu_ms() - value[IDLE];

  value[FIRST] = visit_all(&crowd, 0);
  value[BYTES_USED] = (resident() - before) / (double)count;
  value[LATER] = visit_all(&crowd, 1);
  EXPECT(crowd.wrong == 0);

  start = bench_now();
  for (i = 0; i < count; i++) MUST(rk_terminate(crowd.kernels[i], RK_FOREVER));
  value[TERMINATE] = (double)(bench_now() - start) / (double)count;
  start = bench_now();
  for (i = 0; i < count; i++) MUST(rk_destroy(crowd.kernels[i]));
  value[DESTROY] = (double)(bench_now() - start) / (double)count;
  MUST(rk_runtime_destroy(runtime));
  free(crowd.kernels);
  free(names);
}

/* The library is first used in the child, so it may. */
static void in_child(size_t count, double *value) {
  int ends[2], status;
  pid_t child;
  EXPECT(pipe(ends) == 0);
  child = fork();
  EXPECT(child >= 0);
  if (child == 0) {
    one_round(count, value);
    EXPECT(write(ends[1], value, FIGURES * sizeof *value) == (ssize_t)(FIGURES * sizeof *value));
    exit(0);
  }
  close(ends[1]);
  EXPECT(read(ends[0], value, FIGURES * sizeof *value) == (ssize_t)(FIGURES * sizeof *value));
  close(ends[0]);
  EXPECT(waitpid(child, &status, 0) == child && status == 0);
}

static void crowd_of(const char *how_many, size_t count, int rounds) {
  double value[FIGURES], all[FIGURES][ROUNDS_MAX];
  int round, figure;
  for (round = 0; round < rounds; round++) {
    in_child(count, value);
    for (figure = 0; figure < FIGURES; figure++) all[figure][round] = value[figure];
  }
  for (figure = 0; figure < FIGURES; figure++) {
    char name[64];
    snprintf(name, sizeof name, "%s, %s", how_many, figures[figure].name);
    bench_line(figures[figure].question, name, all[figure], rounds);
  }
}

int main(void) {
  char how_many[32];
  bench_begin();
  if (bench_scale < 0.1) {
    size_t count = (size_t)bench_count(100000);
    snprintf(how_many, sizeof how_many, "%u kernels", (unsigned)count);
    crowd_of(how_many, count, bench_rounds);
    return 0;
  }
  crowd_of("100 000 kernels", 100000, bench_rounds);
  if (bench_scale >= 1) crowd_of("1 000 000 kernels", 1000000, bench_rounds < 3 ? bench_rounds : 3);
  return 0;
}
