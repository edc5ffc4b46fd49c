/* What does a hop from kernel to kernel cost? A hundred event-driven kernels are connected in a ring; a token of 64 bytes goes
 * round, sent on with rk_context_send; content and the order at every kernel are checked. One token, and ten that start ten
 * kernels apart (then it is time for all hops of all tokens that is divided). With one and with two workers. The last hop's
 * handler stops the clock, and the host sleeps meanwhile: it takes no CPU from the workers. */
#include "harness.h"

#include <errno.h>
#include <semaphore.h>

#define KERNELS 100u
#define TOKENS 10u
#define TOKEN_SHIFT 56 /* a cargo's number: the token, and the hops that are left */
#define HOPS_LEFT (((uint64_t)1 << TOKEN_SHIFT) - 1)

typedef struct {
  uint64_t due[TOKENS]; /* hops left + 1 when the token comes next; 0: not known yet */
} place_t;

typedef struct {
  rk_kernel_t kernels[KERNELS];
  uint32_t tokens;
  uint32_t running __attribute__((aligned(128)));
  uint64_t wrong, end;
  sem_t done;
} ring_t;

static rk_status_t on_token(rk_context_t *ctx, const rk_message_t *message) {
  ring_t *ring = (ring_t *)rk_context_user_data(ctx);
  place_t *place = (place_t *)rk_context_state(ctx);
  uint64_t number = ((const cargo_t *)message->payload)->words[0], token = number >> TOKEN_SHIFT, left = number & HOPS_LEFT;
  rk_message_t next;
  cargo_t cargo;
  if (token >= TOKENS || !cargo_is(message->payload, message->payload_size, number) ||
      (place->due[token] && place->due[token] != left + 1)) {
    fprintf(stderr, "a token came wrong\n");
    _exit(1);
  }
  place->due[token] = left >= KERNELS ? left + 1 - KERNELS : 0;
  if (left == 0) {
    if (__atomic_sub_fetch(&ring->running, 1, __ATOMIC_ACQ_REL) == 0) {
      ring->end = bench_now();
      sem_post(&ring->done);
    }
    return RK_OK;
  }
  cargo_fill(&cargo, number - 1);
  memset(&next, 0, sizeof next);
  next.payload = &cargo;
  next.payload_size = sizeof cargo;
  MUST(rk_context_send(ctx, 0, &next));
  return RK_OK;
}

/* Each token makes its share of the hops; the one that the host sends counts as one. */
static uint64_t go_round(void *of, uint64_t count) {
  ring_t *ring = (ring_t *)of;
  uint64_t each = count / ring->tokens ? count / ring->tokens : 1, token, start;
  ring->running = ring->tokens;
  start = bench_now();
  for (token = 0; token < ring->tokens; token++) {
    rk_message_t message;
    cargo_t cargo;
    cargo_fill(&cargo, token << TOKEN_SHIFT | (each - 1));
    memset(&message, 0, sizeof message);
    message.payload = &cargo;
    message.payload_size = sizeof cargo;
    MUST(rk_send(ring->kernels[token * (KERNELS / TOKENS)], &message, RK_FOREVER));
  }
  while (sem_wait(&ring->done) != 0) EXPECT(errno == EINTR);
  return ring->end - start;
}

int main(void) {
  static ring_t ring;
  uint32_t workers, i;
  bench_begin();
  for (workers = 1; workers <= 2; workers++) {
    rk_runtime_t *runtime = bench_runtime(workers);
    rk_launch_options_t options = bench_options("token", RK_MODE_EVENT_DRIVEN);
    rk_runtime_metrics_t metrics = RK_RUNTIME_METRICS_INIT;
    char name[64];
    memset(&ring, 0, sizeof ring);
    EXPECT(sem_init(&ring.done, 0, 0) == 0);
    bench_program(runtime, "token", on_token, sizeof(place_t), &ring);
    for (i = 0; i < KERNELS; i++) {
      snprintf(name, sizeof name, "token-%u", i);
      ring.kernels[i] = bench_launch(runtime, name, &options);
    }
    for (i = 0; i < KERNELS; i++) {
      uint32_t route;
      MUST(rk_connect(ring.kernels[i], ring.kernels[(i + 1) % KERNELS], &route));
      EXPECT(route == 0);
    }
    for (i = 0; i < 2; i++) {
      ring.tokens = i ? TOKENS : 1;
      snprintf(name, sizeof name, "%u worker%s, %u token%s", workers, workers > 1 ? "s" : "", ring.tokens, i ? "s" : "");
      bench_case("hops", name, bench_count(1000000), go_round, &ring);
    }
    MUST(rk_metrics(runtime, &metrics));
    EXPECT(metrics.dead_letters == 0 && metrics.messages_failed == 0);
    MUST(rk_runtime_destroy(runtime));
    sem_destroy(&ring.done);
  }
  return 0;
}
