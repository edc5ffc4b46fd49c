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

typedef struct {
  rk_kernel_t kernel;
  uint64_t next, wrong; /* the handler's */
  uint64_t accepted, refused;
} line_t;

static rk_status_t on_line(rk_context_t *ctx, const rk_message_t *message) {
  line_t *line = (line_t *)rk_context_user_data(ctx);
  if (message->correlation != line->next++) line->wrong++;
  return message->type == 1 ? rk_context_reply(ctx, message) : RK_OK;
}

/* Sends by all ways there are, until it is told that the kernel has ended. */
static void *only_sender(void *of) {
  line_t *line = (line_t *)of;
  uint32_t seed = (uint32_t)check_now();
  rk_message_t batch[5], reply;
  rk_loan_t loans[3];
  size_t i, done;
  rk_status_t status = RK_OK;
  while (status != RK_ERR_TERMINATED) {
    switch (next_random(&seed) % 5) {
      case 0:
        for (i = 0; i < 5; i++) {
          batch[i] = check_message("x", 1);
          batch[i].correlation = line->accepted + i;
        }
        done = 0;
        status = rk_send_batch(line->kernel, batch, 5, RK_FOREVER, &done);
        line->accepted += done;
        break;
      case 1:
        status = rk_reserve_batch(line->kernel, 0, 1, 3, RK_FOREVER, loans, &done);
        if (status != RK_OK) break;
        for (i = 0; i < done; i++) {
          batch[i] = check_message("", 0);
          batch[i].correlation = line->accepted;
          /* The end may have taken it out of the way. */
          status = rk_commit(&loans[i], &batch[i], 1);
          if (status == RK_OK) line->accepted++;
        }
        break;
      case 2:
        batch[0] = check_message("x", 1);
        batch[0].type = 1;
        batch[0].correlation = line->accepted;
        status = rk_call(line->kernel, &batch[0], &reply, RK_FOREVER);
        if (status == RK_OK) {
          line->accepted++;
          if (rk_release(&reply) != RK_OK) line->wrong++;
        }
        break;
      default:
        batch[0] = check_message("x", 1);
        batch[0].correlation = line->accepted;
        status = rk_send(line->kernel, &batch[0], RK_FOREVER);
        if (status == RK_OK) line->accepted++;
        break;
    }
    if (status != RK_OK && status != RK_ERR_TERMINATED) line->refused++;
  }
  return NULL;
}

/* The end comes while the only sender is about to claim a place: what it was told is true, and the end ends. */
static void the_only_sender_and_the_end_lose_nothing(void) {
  rk_runtime_t *runtime = make_runtime(1);
  uint32_t round, seed = 11;
  for (round = 0; round < 600; round++) {
    rk_launch_options_t options = options_for("line", mode);
    line_t line;
    pthread_t thread;
    memset(&line, 0, sizeof line);
    OK(add_program(runtime, "line", on_line, 0, &line));
    options.input_queue_capacity = 16;
    options.flags = RK_LAUNCH_SINGLE_SENDER;
    OK(rk_launch(runtime, "k", &options, &line.kernel));
    pthread_create(&thread, NULL, only_sender, &line);
    if (round % 4 != 0) check_sleep_ms(next_random(&seed) % 2);
    OK(rk_terminate(line.kernel, MS(20000)));
    pthread_join(thread, NULL);
    CHECK(line.wrong == 0 && line.refused == 0 && line.next == line.accepted);
    CHECK(metrics_of(line.kernel).messages_processed == line.accepted);
    OK(rk_destroy(line.kernel));
    OK(rk_program_unregister(runtime, "line"));
  }
  OK(rk_runtime_destroy(runtime));
}

typedef struct {
  uint64_t began, at; /* when the last message was sent, and handled */
} relay_t;

/* To each other as often as the correlation says; then once more with a type, and the sender works on. */
static rk_status_t on_relay(rk_context_t *ctx, const rk_message_t *message) {
  relay_t *relay = (relay_t *)rk_context_user_data(ctx);
  rk_message_t next = *message;
  if (message->type == 1) {
    __atomic_store_n(&relay->at, check_now(), __ATOMIC_RELEASE);
    return RK_OK;
  }
  next.type = message->correlation == 0;
  next.correlation--;
  relay->began = check_now();
  if (rk_context_send(ctx, 0, &next) != RK_OK) return 5;
  if (next.type == 1) check_sleep_ms(400); /* as work does: the library knows nothing of it */
  return RK_OK;
}

/* A block stays near the worker that made it ready, because handlers were short; and does not wait when one is not. */
static void what_a_long_handler_has_sent_does_not_wait_for_it(void) {
  rk_runtime_t *runtime = make_runtime(3);
  rk_launch_options_t options = options_for("relay", RK_MODE_EVENT_DRIVEN);
  rk_message_t message = check_message("x", 1);
  rk_kernel_t first, second;
  relay_t relay;
  uint32_t route, round;
  OK(add_program(runtime, "relay", on_relay, 0, &relay));
  OK(rk_launch(runtime, "first", &options, &first));
  OK(rk_launch(runtime, "second", &options, &second));
  OK(rk_connect(first, second, &route));
  OK(rk_connect(second, first, &route));
  for (round = 0; round < 4; round++) {
    memset(&relay, 0, sizeof relay);
    message.correlation = 200000 + round;
    OK(rk_send(first, &message, RK_FOREVER));
    while (__atomic_load_n(&relay.at, __ATOMIC_ACQUIRE) == 0) check_sleep_ms(1);
    CHECK(relay.at - relay.began < MS(300));
    check_sleep_ms(500);
  }
  OK(rk_runtime_destroy(runtime));
}

int main(int argc, char **argv) {
  fixture_unused();
  for (mode = RK_MODE_PERSISTENT; mode <= RK_MODE_EVENT_DRIVEN; mode++) {
    printf("mode %u\n", mode);
    RUN(streams_and_callers_leave_nothing_behind);
    RUN(the_only_sender_and_the_end_lose_nothing);
  }
  RUN(what_a_long_handler_has_sent_does_not_wait_for_it);
  return check_result();
}
