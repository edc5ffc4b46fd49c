/* What does a message cost when four threads send to one kernel? 64 bytes; all content and the order of each sender are checked.
 * Both modes, one rk_send each, rk_send_batch of 64, rk_reserve_batch and rk_commit_batch of 64. The time is from the start of
 * all senders together until the handler has taken the last message, for each message. With fewer than six CPUs the senders
 * take turns on them: then it is the machine's work that is measured, not how the senders get in each other's way. */
#include "harness.h"

#include <sched.h>

#define SENDERS 4u
#define BATCH 64
#define SENDER_SHIFT 56

typedef struct {
  uint64_t taken __attribute__((aligned(128))); /* the handler's: messages so far */
  uint64_t next[SENDERS];                       /* number of the message that comes next of each sender */
  uint64_t wrong;
} sink_t;

typedef struct fan_t fan_t;

typedef struct {
  fan_t *fan;
  uint64_t number __attribute__((aligned(128))); /* of the next message, the sender in its highest byte */
} sender_t;

struct fan_t {
  rk_kernel_t kernel;
  sink_t *sink;
  uint64_t sent;
  void (*send)(sender_t *, uint64_t);
  uint64_t each;
  pthread_barrier_t gate;
  sender_t senders[SENDERS];
};

static rk_status_t on_sink(rk_context_t *ctx, const rk_message_t *message) {
  sink_t *sink = (sink_t *)rk_context_user_data(ctx);
  uint64_t sender = ((const cargo_t *)message->payload)->words[0] >> SENDER_SHIFT;
  if (sender < SENDERS && cargo_is(message->payload, message->payload_size, sender << SENDER_SHIFT | sink->next[sender]))
    sink->next[sender]++;
  else
    sink->wrong++;
  __atomic_store_n(&sink->taken, sink->taken + 1, __ATOMIC_RELEASE);
  return RK_OK;
}

static void one_by_one(sender_t *sender, uint64_t count) {
  rk_message_t message;
  cargo_t cargo;
  uint64_t i;
  memset(&message, 0, sizeof message);
  message.payload = &cargo;
  message.payload_size = sizeof cargo;
  for (i = 0; i < count; i++) {
    cargo_fill(&cargo, sender->number++);
    MUST(rk_send(sender->fan->kernel, &message, RK_FOREVER));
  }
}

static void in_batches(sender_t *sender, uint64_t count) {
  rk_message_t messages[BATCH];
  cargo_t cargo[BATCH];
  uint64_t i;
  size_t j, sent, filled;
  memset(messages, 0, sizeof messages);
  for (j = 0; j < BATCH; j++) {
    messages[j].payload = &cargo[j];
    messages[j].payload_size = sizeof cargo[j];
  }
  for (i = 0; i < count; i += filled) {
    filled = count - i < BATCH ? (size_t)(count - i) : BATCH;
    for (j = 0; j < filled; j++) cargo_fill(&cargo[j], sender->number++);
    for (j = 0; j < filled; j += sent) MUST(rk_send_batch(sender->fan->kernel, messages + j, filled - j, RK_FOREVER, &sent));
  }
}

static void in_place(sender_t *sender, uint64_t count) {
  rk_loan_t loans[BATCH];
  uint64_t i;
  size_t j, reserved;
  for (i = 0; i < count; i += reserved) {
    size_t wanted = count - i < BATCH ? (size_t)(count - i) : BATCH;
    MUST(rk_reserve_batch(sender->fan->kernel, 0, sizeof(cargo_t), wanted, RK_FOREVER, loans, &reserved));
    for (j = 0; j < reserved; j++) cargo_fill((cargo_t *)loans[j].payload, sender->number++);
    MUST(rk_commit_batch(loans, NULL, reserved));
  }
}

static void *run(void *of) {
  sender_t *sender = (sender_t *)of;
  pthread_barrier_wait(&sender->fan->gate);
  sender->fan->send(sender, sender->fan->each);
  return NULL;
}

static uint64_t together(void *of, uint64_t count) {
  fan_t *fan = (fan_t *)of;
  pthread_t threads[SENDERS];
  uint64_t start;
  size_t i;
  fan->each = (count + SENDERS - 1) / SENDERS;
  fan->sent += fan->each * SENDERS;
  for (i = 0; i < SENDERS; i++) EXPECT(pthread_create(&threads[i], NULL, run, &fan->senders[i]) == 0);
  start = bench_now();
  pthread_barrier_wait(&fan->gate);
  for (i = 0; i < SENDERS; i++) pthread_join(threads[i], NULL);
  while (__atomic_load_n(&fan->sink->taken, __ATOMIC_ACQUIRE) != fan->sent) sched_yield();
  return bench_now() - start;
}

int main(void) {
  static const struct {
    const char *name;
    uint32_t mode;
  } modes[] = {{"event-driven", RK_MODE_EVENT_DRIVEN}, {"persistent", RK_MODE_PERSISTENT}};
  static const struct {
    const char *name;
    void (*send)(sender_t *, uint64_t);
    uint64_t count;
  } forms[] = {
      {"rk_send", one_by_one, 2000000},
      {"rk_send_batch of 64", in_batches, 4000000},
      {"reserve and commit 64", in_place, 4000000},
  };
  static sink_t sink;
  static fan_t fan;
  size_t i, j;
  bench_begin();
  for (i = 0; i < 2; i++) {
    rk_runtime_t *runtime = bench_runtime(1);
    rk_launch_options_t options = bench_options("sink", modes[i].mode);
    memset(&sink, 0, sizeof sink);
    memset(&fan, 0, sizeof fan);
    bench_program(runtime, "sink", on_sink, 0, &sink);
    fan.kernel = bench_launch(runtime, "sink", &options);
    fan.sink = &sink;
    EXPECT(pthread_barrier_init(&fan.gate, NULL, SENDERS + 1) == 0);
    for (j = 0; j < SENDERS; j++) {
      fan.senders[j].fan = &fan;
      fan.senders[j].number = (uint64_t)j << SENDER_SHIFT;
    }
    for (j = 0; j < sizeof forms / sizeof *forms; j++) {
      char name[64];
      fan.send = forms[j].send;
      snprintf(name, sizeof name, "%s, %s", modes[i].name, forms[j].name);
      bench_case("fan_in", name, bench_count(forms[j].count), together, &fan);
    }
    EXPECT(sink.wrong == 0);
    for (j = 0; j < SENDERS; j++) EXPECT((j << SENDER_SHIFT | sink.next[j]) == fan.senders[j].number);
    pthread_barrier_destroy(&fan.gate);
    MUST(rk_runtime_destroy(runtime));
  }
  return 0;
}
