/* Streams and helping callers at one block: the gate becomes light and full all the time, and nothing is left behind. */
#include "fixture.h"

enum { ROUNDS = 3000 };

typedef struct {
  rk_kernel_t kernel;
  pthread_barrier_t start, end;
  uint64_t handled, sent, wrong;
} arena_t;

static rk_status_t on_arrival(rk_context_t *ctx, const rk_message_t *message) {
  arena_t *arena = (arena_t *)rk_context_user_data(ctx);
  __atomic_fetch_add(&arena->handled, 1, __ATOMIC_RELAXED);
  return message->type == 1 ? rk_context_reply(ctx, message) : RK_OK;
}

static uint32_t next_random(uint32_t *seed) {
  *seed = *seed * 1664525u + 1013904223u;
  return *seed >> 16;
}

static void act(arena_t *arena, uint32_t *seed) {
  rk_message_t message = check_message("x", 1), reply;
  uint32_t i, what = next_random(seed) % 4, count = 1 + next_random(seed) % (what == 0 ? 300 : 12);
  for (i = 0; i < count; i++) {
    if (what == 1) {
      message.type = 1;
      if (rk_call(arena->kernel, &message, &reply, RK_FOREVER) != RK_OK || rk_release(&reply) != RK_OK) arena->wrong++;
    } else if (rk_send(arena->kernel, &message, RK_FOREVER) != RK_OK) {
      arena->wrong++;
    }
    if (what == 2 && next_random(seed) % 4 == 0) sched_yield();
  }
  __atomic_fetch_add(&arena->sent, count, __ATOMIC_RELAXED);
}

static void *other(void *of) {
  arena_t *arena = (arena_t *)of;
  uint32_t seed = 7, round;
  for (round = 0; round < ROUNDS; round++) {
    pthread_barrier_wait(&arena->start);
    act(arena, &seed);
    pthread_barrier_wait(&arena->end);
  }
  return NULL;
}

static uint32_t mode;

/* When everybody has done their part nobody wakes anybody any more: what is left behind stays there, and the test hangs. */
static void streams_and_callers_leave_nothing_behind(void) {
  rk_runtime_t *runtime = make_runtime(1);
  rk_launch_options_t options = options_for("arrival", mode);
  arena_t arena;
  pthread_t thread;
  uint32_t seed = 3, round;
  memset(&arena, 0, sizeof arena);
  OK(add_program(runtime, "arrival", on_arrival, 0, &arena));
  options.input_queue_capacity = 64;
  OK(rk_launch(runtime, "k", &options, &arena.kernel));
  pthread_barrier_init(&arena.start, NULL, 2);
  pthread_barrier_init(&arena.end, NULL, 2);
  pthread_create(&thread, NULL, other, &arena);
  for (round = 0; round < ROUNDS; round++) {
    pthread_barrier_wait(&arena.start);
    act(&arena, &seed);
    pthread_barrier_wait(&arena.end);
    while (__atomic_load_n(&arena.handled, __ATOMIC_RELAXED) != __atomic_load_n(&arena.sent, __ATOMIC_RELAXED)) sched_yield();
    /* Resting and woken again, too. */
    if (round % 8 == 0) check_sleep_ms(1);
  }
  pthread_join(thread, NULL);
  CHECK(arena.wrong == 0);
  CHECK(metrics_of(arena.kernel).messages_processed == arena.sent);
  OK(rk_runtime_destroy(runtime));
}

int main(int argc, char **argv) {
  fixture_unused();
  for (mode = RK_MODE_PERSISTENT; mode <= RK_MODE_EVENT_DRIVEN; mode++) {
    printf("mode %u\n", mode);
    RUN(streams_and_callers_leave_nothing_behind);
  }
  return check_result();
}
