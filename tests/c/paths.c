/* One way of a message, again and again, for tests/instructions.sh to count: paths NAME COUNT. What is counted happens in `measured`, on
 * this thread alone. All messages are 64 bytes. */
#include "fixture.h"

#define BATCH 64

static rk_kernel_t kernel;
static uint64_t payload[8];
static rk_message_t batch[BATCH];
static rk_loan_t loans[BATCH];

static int sends(unsigned count) {
  rk_message_t message = check_message(payload, sizeof payload);
  int bad = 0;
  while (count--) bad |= rk_send(kernel, &message, 0);
  return bad;
}

static int sends_in_batches(unsigned count) {
  size_t sent;
  int bad = 0;
  for (; count; count -= BATCH) bad |= rk_send_batch(kernel, batch, BATCH, 0, &sent) || sent != BATCH;
  return bad;
}

static int commits_in_batches(unsigned count) {
  size_t lent, i;
  int bad = 0;
  for (; count; count -= BATCH) {
    bad |= rk_reserve_batch(kernel, 0, sizeof payload, BATCH, 0, loans, &lent) || lent != BATCH;
    for (i = 0; i < lent; i++) memcpy(loans[i].payload, payload, sizeof payload);
    bad |= rk_commit_batch(loans, NULL, lent);
  }
  return bad;
}

static int receives(unsigned count) {
  rk_message_t message;
  int bad = 0;
  while (count--) bad |= rk_receive(kernel, &message, 0) || message.payload_size != sizeof payload || rk_release(&message);
  return bad;
}

static int receives_in_batches(unsigned count) {
  size_t taken;
  int bad = 0;
  for (; count; count -= BATCH)
    bad |= rk_receive_batch(kernel, batch, BATCH, 0, &taken) || taken != BATCH || rk_release_batch(batch, taken);
  return bad;
}

static int calls(unsigned count) {
  rk_message_t reply, message = check_message(payload, sizeof payload);
  int bad = 0;
  while (count--) bad |= rk_call(kernel, &message, &reply, RK_FOREVER) || reply.payload_size != sizeof payload || rk_release(&reply);
  return bad;
}

/* Sends to the kernel at the end of its route, and replies. */
static rk_status_t on_relay(rk_context_t *ctx, const rk_message_t *message) {
  rk_status_t status = rk_context_send(ctx, 0, message);
  return status == RK_OK ? rk_context_reply(ctx, message) : status;
}

#if defined(__GNUC__)
__attribute__((noinline))
#endif
int measured(int (*way)(unsigned), unsigned count);
int measured(int (*way)(unsigned), unsigned count) { return way(count); }

int main(int argc, char **argv) {
  /* What is sent stays in the queue of a kernel that is suspended; what is received was emitted before; a helped call is done by its
   * caller. So no other thread takes part. */
  static const struct {
    const char *name;
    int (*way)(unsigned);
    enum { QUEUED, EMITTED, CALLED, RELAYED } state;
  } ways[] = {{"send", sends, QUEUED},
              {"send_batch", sends_in_batches, QUEUED},
              {"reserve_commit_batch", commits_in_batches, QUEUED},
              {"receive_release", receives, EMITTED},
              {"receive_release_batch", receives_in_batches, EMITTED},
              {"call", calls, CALLED},
              {"call_and_hop", calls, RELAYED}};
  rk_runtime_t *runtime = make_runtime(1);
  rk_launch_options_t options = options_for("echo", RK_MODE_EVENT_DRIVEN);
  unsigned i, warm = 1024, count = argc > 2 ? (unsigned)strtoul(argv[2], NULL, 10) / BATCH * BATCH : 0;
  rk_kernel_t end;
  uint32_t route;
  fixture_unused();
  if (count == 0 || runtime == NULL) return 2;
  for (i = 0; i < BATCH; i++) batch[i] = check_message(payload, sizeof payload);
  options.input_queue_capacity = options.output_queue_capacity = 16384;
  for (i = 0; i < sizeof ways / sizeof *ways; i++) {
    if (strcmp(ways[i].name, argv[1]) != 0) continue;
    if (ways[i].state == QUEUED) options.flags = RK_LAUNCH_SUSPENDED;
    if (ways[i].state == RELAYED) {
      options.flags = RK_LAUNCH_SUSPENDED;
      if (rk_launch(runtime, "end", &options, &end) || add_program(runtime, "relay", on_relay, 0, NULL)) return 2;
      options.flags = 0;
      options.program = "relay";
    }
    if (rk_launch(runtime, "k", &options, &kernel) != RK_OK) return 2;
    if (ways[i].state == RELAYED && rk_connect(kernel, end, &route) != RK_OK) return 2;
    if (ways[i].state == EMITTED) {
      if (sends(warm + count)) return 2;
      UNTIL(metrics_of(kernel).output_queue_depth == warm + count);
    }
    if (ways[i].way(warm) || measured(ways[i].way, count)) return 1;
    return 0;
  }
  return 2;
}
