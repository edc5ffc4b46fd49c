/* What does a request cost when 64 of them are outstanding? One host thread sends to a kernel that echoes and takes the replies
 * from its output queue: for each reply that it has taken it sends the next request. All replies and their order are checked.
 * Both modes, one by one (rk_send, rk_receive, rk_release) and in batches (rk_send_batch, rk_receive_batch, rk_release_batch). */
#include "harness.h"

#define WINDOW 64

typedef struct {
  rk_kernel_t kernel;
  uint64_t sent, received;
} asker_t;

static rk_status_t on_echo(rk_context_t *ctx, const rk_message_t *message) { return rk_context_reply(ctx, message); }

static void check(asker_t *asker, const rk_message_t *reply) {
  EXPECT(cargo_is(reply->payload, reply->payload_size, asker->received) && reply->correlation == asker->received + 1);
  asker->received++;
}

static void ask(asker_t *asker) {
  rk_message_t request;
  cargo_t cargo;
  cargo_fill(&cargo, asker->sent);
  memset(&request, 0, sizeof request);
  request.payload = &cargo;
  request.payload_size = sizeof cargo;
  request.correlation = ++asker->sent;
  MUST(rk_send(asker->kernel, &request, RK_FOREVER));
}

static uint64_t one_by_one(void *of, uint64_t count) {
  asker_t *asker = (asker_t *)of;
  uint64_t end = asker->sent + count, start = bench_now();
  while (asker->sent != end && asker->sent - asker->received < WINDOW) ask(asker);
  while (asker->received != end) {
    rk_message_t reply;
    MUST(rk_receive(asker->kernel, &reply, RK_FOREVER));
    check(asker, &reply);
    MUST(rk_release(&reply));
    if (asker->sent != end) ask(asker);
  }
  return bench_now() - start;
}

static void ask_all(asker_t *asker, size_t count) {
  static rk_message_t requests[WINDOW];
  static cargo_t cargo[WINDOW];
  size_t i, sent;
  for (i = 0; i < count; i++) {
    cargo_fill(&cargo[i], asker->sent);
    requests[i].payload = &cargo[i];
    requests[i].payload_size = sizeof cargo[i];
    requests[i].correlation = ++asker->sent;
  }
  for (i = 0; i < count; i += sent) MUST(rk_send_batch(asker->kernel, requests + i, count - i, RK_FOREVER, &sent));
}

static uint64_t in_batches(void *of, uint64_t count) {
  asker_t *asker = (asker_t *)of;
  static rk_message_t replies[WINDOW];
  uint64_t end = asker->sent + count, start = bench_now();
  while (asker->received != end) {
    size_t i, taken, wanted = WINDOW - (size_t)(asker->sent - asker->received);
    if (wanted > end - asker->sent) wanted = (size_t)(end - asker->sent);
    ask_all(asker, wanted);
    MUST(rk_receive_batch(asker->kernel, replies, WINDOW, RK_FOREVER, &taken));
    for (i = 0; i < taken; i++) check(asker, &replies[i]);
    MUST(rk_release_batch(replies, taken));
  }
  return bench_now() - start;
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
    rk_launch_options_t options = bench_options("echo", modes[i].mode);
    asker_t asker = {{0}, 0, 0};
    rk_message_t none;
    char name[64];
    bench_program(runtime, "echo", on_echo, 0, NULL);
    asker.kernel = bench_launch(runtime, "echo", &options);
    snprintf(name, sizeof name, "%s, one by one", modes[i].name);
    bench_case("outstanding", name, bench_count(1000000), one_by_one, &asker);
    snprintf(name, sizeof name, "%s, batches", modes[i].name);
    bench_case("outstanding", name, bench_count(1000000), in_batches, &asker);
    EXPECT(rk_receive(asker.kernel, &none, 0) == RK_ERR_EMPTY);
    MUST(rk_runtime_destroy(runtime));
  }
  return 0;
}
