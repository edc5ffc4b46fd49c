/* Kernels among themselves: who gets a reply, circles under overload, ten thousand targets, routes that change under traffic,
 * dead letters that are sent again, and a million messages through a pipeline whose stage is killed a hundred times. */
#include "fixture.h"

static uint32_t mode;

static rk_kernel_t launched(rk_runtime_t *runtime, const char *id, const char *program, uint32_t capacity) {
  rk_launch_options_t options = options_for(program, mode);
  rk_kernel_t kernel = {0};
  options.input_queue_capacity = capacity;
  options.output_queue_capacity = 4096;
  rk_launch(runtime, id, &options, &kernel);
  return kernel;
}

/* From the host: on by route 0. What comes back is given to the host. */
static rk_status_t on_ask(rk_context_t *ctx, const rk_message_t *message) {
  return message->source == 0 ? rk_context_send(ctx, 0, message) : rk_context_emit(ctx, message);
}

static void a_reply_goes_to_the_kernel_that_asked_and_to_no_other(void) {
  enum { ASKERS = 16, ROUNDS = 40 };
  rk_runtime_t *runtime = make_runtime(2);
  rk_kernel_t askers[ASKERS], answers;
  rk_message_t out;
  uint64_t i, round;
  uint32_t route;
  OK(add_program(runtime, "ask", on_ask, 0, NULL));
  answers = launched(runtime, "answers", "echo", 1024);
  for (i = 0; i < ASKERS; i++) {
    char id[16];
    snprintf(id, sizeof id, "asker-%u", (unsigned)i);
    askers[i] = launched(runtime, id, "ask", 64);
    OK(rk_connect(askers[i], answers, &route));
  }
  for (round = 0; round < ROUNDS; round++) {
    for (i = 0; i < ASKERS; i++) {
      uint64_t number = round * ASKERS + i;
      rk_message_t message = check_message(&number, sizeof number);
      message.correlation = number + 7;
      OK(rk_send(askers[i], &message, RK_FOREVER));
    }
  }
  for (i = 0; i < ASKERS; i++) {
    for (round = 0; round < ROUNDS; round++) {
      uint64_t number;
      OK(rk_receive(askers[i], &out, RK_FOREVER));
      memcpy(&number, out.payload, sizeof number);
      CHECK(number == round * ASKERS + i && out.correlation == number + 7);
      OK(rk_release(&out));
    }
    CHECK_STATUS(rk_receive(askers[i], &out, 0), RK_ERR_EMPTY);
  }
  CHECK_STATUS(rk_receive(answers, &out, 0), RK_ERR_EMPTY);
  UNTIL(metrics_of(answers).messages_to_kernels == ASKERS * ROUNDS);
  CHECK(metrics_of(answers).messages_from_kernels == ASKERS * ROUNDS);
  OK(rk_runtime_destroy(runtime));
}

/* A ball: from the host on by route 0, from a kernel back to it, until `type` is 0; then to the host. One that finds no room on the
 * route goes to the host with its hops. */
static rk_status_t on_ball(rk_context_t *ctx, const rk_message_t *message) {
  rk_message_t next = *message;
  rk_status_t status;
  if (message->type == 0) return rk_context_emit(ctx, message);
  if (message->source != 0) {
    next.type--;
    return rk_context_reply(ctx, &next);
  }
  status = rk_context_send(ctx, 0, &next);
  return status == RK_ERR_FULL ? rk_context_emit(ctx, message) : status;
}

/* The balls that a thread throws at a kernel, as fast as there is room: numbers from `first` on. */
typedef struct throw_t {
  rk_kernel_t at;
  uint64_t first, count;
  uint32_t hops;
  pthread_t thread;
} throw_t;

static void *throw_balls(void *argument) {
  const throw_t *all = (const throw_t *)argument;
  uint64_t i;
  for (i = all->first; i < all->first + all->count; i++) {
    rk_message_t message = check_message(&i, sizeof i);
    message.type = all->hops;
    if (rk_send(all->at, &message, RK_FOREVER) != RK_OK) return NULL;
  }
  return NULL;
}

static void throw_at(throw_t *all, rk_kernel_t at, uint64_t first, uint64_t count, uint32_t hops) {
  all->at = at;
  all->first = first;
  all->count = count;
  all->hops = hops;
  pthread_create(&all->thread, NULL, throw_balls, all);
}

/* A and B answer each other, and the host keeps both queues full: nothing but the rule of rk_context_reply lets them go on. */
static void kernels_that_answer_each_other_under_overload_do_not_deadlock(void) {
  rk_runtime_t *runtime = make_runtime(2);
  rk_kernel_t pair[2];
  rk_message_t out;
  rk_dead_letter_t letter;
  throw_t thrown[2];
  uint64_t balls = check_slow() ? 2000 : 40000, home = 0, refused = 0, dead = 0, before;
  uint32_t route, hops = 40, i;
  unsigned char *seen = (unsigned char *)calloc(balls, 1);
  OK(add_program(runtime, "ball", on_ball, 0, NULL));
  pair[0] = launched(runtime, "a", "ball", 4);
  pair[1] = launched(runtime, "b", "ball", 4);
  for (i = 0; i < 2; i++) OK(rk_connect(pair[i], pair[1 - i], &route));
  for (i = 0; i < 2; i++) throw_at(&thrown[i], pair[i], i * balls / 2, balls / 2, hops);
  while ((before = home + refused + dead) < balls) {
    for (i = 0; i < 2; i++) {
      uint64_t number = balls;
      if (rk_receive(pair[i], &out, 0) != RK_OK) continue;
      memcpy(&number, out.payload, sizeof number);
      CHECK(number < balls && seen[number] == 0 && (out.type == 0 || out.type == hops));
      seen[number] = 1;
      *(out.type == 0 ? &home : &refused) += 1;
      OK(rk_release(&out));
    }
    if (rk_receive_dead_letter(runtime, &letter, 0) == RK_OK) {
      uint64_t number = balls;
      memcpy(&number, letter.message.payload, sizeof number);
      CHECK(letter.reason == RK_DEAD_OVERFLOW && letter.status == RK_ERR_FULL);
      CHECK(letter.message.source == pair[letter.kernel.id == pair[0].id].id);
      CHECK(number < balls && seen[number] == 0);
      seen[number] = 1;
      dead++;
      OK(rk_release(&letter.message));
    }
    if (home + refused + dead == before) sched_yield();
  }
  for (i = 0; i < 2; i++) pthread_join(thrown[i].thread, NULL);
  CHECK(home > 0);
  printf("# %u home, %u refused, %u dead letters\n", (unsigned)home, (unsigned)refused, (unsigned)dead);
  free(seen);
  OK(rk_runtime_destroy(runtime));
}

static volatile int multiplying;
static uint64_t made;
/* Answers itself twice as long as it is told to: there are more and more. */
static rk_status_t on_multiply(rk_context_t *ctx, const rk_message_t *message) {
  int i;
  if (message->source == 0) return rk_context_send(ctx, 0, message);
  for (i = 0; i < 2 && multiplying; i++) {
    if (rk_context_reply(ctx, message) != RK_OK) return 3;
    __atomic_fetch_add(&made, 1, __ATOMIC_RELAXED);
  }
  return RK_OK;
}

static void what_a_kernel_keeps_for_itself_is_bounded(void) {
  rk_runtime_t *runtime = make_runtime(1);
  rk_message_t message = check_message("cell", 4);
  rk_dead_letter_t letter;
  rk_kernel_t kernel;
  uint32_t route;
  OK(add_program(runtime, "multiply", on_multiply, 0, NULL));
  kernel = launched(runtime, "k", "multiply", 4);
  OK(rk_connect(kernel, kernel, &route));
  made = 0;
  multiplying = 1;
  OK(rk_send(kernel, &message, 0));
  OK(rk_receive_dead_letter(runtime, &letter, RK_FOREVER));
  CHECK(letter.reason == RK_DEAD_OVERFLOW && letter.message.source == kernel.id && letter.kernel.id == kernel.id);
  OK(rk_release(&letter.message));
  multiplying = 0;
  /* The one of the host, the first to itself, and what it made: handled, or a dead letter. */
  UNTIL(metrics_of(kernel).messages_processed + metrics_of(kernel).dead_letters == made + 2);
  CHECK(metrics_of(kernel).messages_failed == 0 && made > 65536);
  OK(rk_runtime_destroy(runtime));
}

/* On by route 0 while `type` is above 0; what finds no room, and what has arrived, goes to the host. */
static rk_status_t on_round(rk_context_t *ctx, const rk_message_t *message) {
  rk_message_t next = *message;
  rk_status_t status;
  if (message->type == 0) return rk_context_emit(ctx, message);
  next.type--;
  status = rk_context_send(ctx, 0, &next);
  return status == RK_ERR_FULL ? rk_context_emit(ctx, message) : status;
}

static void a_circle_of_routes_under_overload_says_full_and_goes_on(void) {
  rk_runtime_t *runtime = make_runtime(2);
  rk_kernel_t ring[2];
  rk_message_t out;
  throw_t thrown;
  uint64_t got = 0, balls = check_slow() ? 2000 : 20000;
  uint32_t route;
  OK(add_program(runtime, "round", on_round, 0, NULL));
  ring[0] = launched(runtime, "a", "round", 4);
  ring[1] = launched(runtime, "b", "round", 4);
  OK(rk_connect(ring[0], ring[1], &route));
  OK(rk_connect(ring[1], ring[0], &route));
  throw_at(&thrown, ring[0], 0, balls, 40);
  while (got < balls) {
    if (rk_receive(ring[0], &out, 0) != RK_OK && rk_receive(ring[1], &out, MS(1)) != RK_OK) continue;
    got++;
    OK(rk_release(&out));
  }
  pthread_join(thrown.thread, NULL);
  CHECK_STATUS(rk_receive(ring[0], &out, 0), RK_ERR_EMPTY);
  CHECK_STATUS(rk_receive(ring[1], &out, 0), RK_ERR_EMPTY);
  OK(rk_runtime_destroy(runtime));
}

/* To every route there is, each one message; replies with how many. */
static rk_status_t on_fan(rk_context_t *ctx, const rk_message_t *message) {
  uint64_t sent = 0;
  rk_message_t reply = check_message(&sent, sizeof sent);
  while (rk_context_send(ctx, (uint32_t)sent, message) == RK_OK) sent++;
  return rk_context_reply(ctx, &reply);
}

static uint64_t arrived;
static rk_status_t on_arrive(rk_context_t *ctx, const rk_message_t *message) {
  (void)ctx;
  __atomic_fetch_add(&arrived, message->type, __ATOMIC_RELAXED);
  return RK_OK;
}

static void one_message_goes_to_ten_thousand_kernels(void) {
  uint64_t i, sent;
  rk_runtime_t *runtime = make_runtime(2);
  /* On the simulated device ten thousand kernels are a matter of twenty seconds; once is enough. */
  uint64_t targets = check_slow() && !(backend_of(runtime) == RK_BACKEND_CUDA && mode == RK_MODE_PERSISTENT) ? 1000 : 10000;
  rk_launch_options_t options = options_for("arrive", RK_MODE_EVENT_DRIVEN);
  rk_kernel_t fan, target;
  rk_message_t reply, message = check_message("to all", 6);
  rk_runtime_metrics_t totals = RK_RUNTIME_METRICS_INIT;
  uint32_t route, round, rounds = check_slow() ? 2 : 5;
  arrived = 0;
  OK(add_program(runtime, "fan", on_fan, 0, NULL));
  OK(add_program(runtime, "arrive", on_arrive, 0, NULL));
  fan = launched(runtime, "fan", "fan", 4);
  options.input_queue_capacity = 2;
  for (i = 0; i < targets; i++) {
    char id[24];
    snprintf(id, sizeof id, "target-%u", (unsigned)i);
    OK(rk_launch(runtime, id, &options, &target));
    OK(rk_connect(fan, target, &route));
    CHECK(route == i);
  }
  for (round = 1; round <= rounds; round++) {
    message.type = 1;
    OK(rk_call(fan, &message, &reply, RK_FOREVER));
    memcpy(&sent, reply.payload, sizeof sent);
    CHECK(sent == targets);
    OK(rk_release(&reply));
    UNTIL(__atomic_load_n(&arrived, __ATOMIC_RELAXED) == targets * round);
  }
  UNTIL(rk_metrics(runtime, &totals) == RK_OK && totals.messages_processed == rounds * (targets + 1));
  CHECK(metrics_of(fan).messages_to_kernels == rounds * targets && totals.dead_letters == 0);
  OK(rk_runtime_destroy(runtime));
}

static volatile uint32_t newest;
static uint64_t routed, unrouted;
/* By the newest route: it is there, or it has ended. */
static rk_status_t on_newest(rk_context_t *ctx, const rk_message_t *message) {
  rk_status_t status = rk_context_send(ctx, newest, message);
  if (status == RK_OK) __atomic_fetch_add(&routed, 1, __ATOMIC_RELAXED);
  if (status == RK_ERR_NO_ROUTE || status == RK_ERR_FULL) __atomic_fetch_add(&unrouted, 1, __ATOMIC_RELAXED);
  return status == RK_ERR_NO_ROUTE || status == RK_ERR_FULL ? RK_OK : status;
}

static void routes_come_and_go_under_traffic(void) {
  uint64_t messages = check_slow() ? 3000 : 60000;
  rk_runtime_t *runtime = make_runtime(2);
  rk_kernel_t from, to[2];
  throw_t thrown;
  uint32_t route, changes = 0;
  arrived = routed = unrouted = 0;
  OK(add_program(runtime, "newest", on_newest, 0, NULL));
  OK(add_program(runtime, "arrive", on_arrive, 0, NULL));
  from = launched(runtime, "from", "newest", 64);
  to[0] = launched(runtime, "to0", "arrive", 1024);
  to[1] = launched(runtime, "to1", "arrive", 1024);
  OK(rk_connect(from, to[0], &route));
  newest = route;
  throw_at(&thrown, from, 0, messages, 1);
  while (__atomic_load_n(&routed, __ATOMIC_RELAXED) + __atomic_load_n(&unrouted, __ATOMIC_RELAXED) < messages) {
    uint32_t before = route;
    OK(rk_disconnect(from, before));
    CHECK_STATUS(rk_disconnect(from, before), RK_ERR_NO_ROUTE);
    OK(rk_connect(from, to[++changes % 2], &route));
    CHECK(route == before + 1);
    newest = route;
    if (changes % 8 == 0) check_sleep_ms(1);
  }
  pthread_join(thrown.thread, NULL);
  UNTIL(__atomic_load_n(&arrived, __ATOMIC_RELAXED) == routed);
  CHECK(metrics_of(from).messages_to_kernels == routed && routed + unrouted == messages && routed > 0);
  CHECK(metrics_of(from).dead_letters == 0);
  OK(rk_runtime_destroy(runtime));
}

static void a_dead_letter_can_be_sent_again_as_it_is(void) {
  rk_runtime_t *runtime = make_runtime(1);
  rk_kernel_t refuses, echo;
  rk_message_t out, message;
  rk_dead_letter_t letter;
  uint64_t i;
  char bytes[150];
  refuses = launched(runtime, "refuses", "status", 64);
  echo = launched(runtime, "echo", "echo", 64);
  for (i = 1; i <= 20; i++) {
    rk_status_t status = (rk_status_t)i;
    memset(bytes, (int)i, sizeof bytes);
    memcpy(bytes, &status, sizeof status);
    /* Refused for its status, or for what it is: both are whole in their letters. */
    message = check_message(bytes, sizeof status);
    message.type = (uint32_t)i * 3;
    message.correlation = i << 40;
    message.deadline_ns = check_now() + MS(100000);
    OK(rk_send(refuses, &message, RK_FOREVER));
    OK(rk_receive_dead_letter(runtime, &letter, RK_FOREVER));
    CHECK(letter.reason == RK_DEAD_HANDLER && letter.status == status);
    OK(rk_send(echo, &letter.message, RK_FOREVER));
    OK(rk_release(&letter.message));
    OK(rk_receive(echo, &out, RK_FOREVER));
    CHECK(out.payload_size == sizeof status && memcmp(out.payload, bytes, sizeof status) == 0);
    CHECK(out.type == i * 3 && out.correlation == i << 40);
    OK(rk_release(&out));
  }
  OK(rk_runtime_destroy(runtime));
}

/* From a kernel: answers with what fits, and then to a block that is not there. */
static rk_status_t on_answer_nowhere(rk_context_t *ctx, const rk_message_t *message) {
  rk_message_t next = *message;
  rk_status_t status = rk_context_reply(ctx, &next);
  next.block = 9;
  return status == RK_OK ? rk_context_reply(ctx, &next) : status;
}

static void what_waited_for_a_block_that_is_not_there_is_a_dead_letter(void) {
  rk_runtime_t *runtime = make_runtime(1);
  rk_message_t out, message = check_message("where?", 6);
  rk_kernel_t asks, answers;
  rk_dead_letter_t letter;
  uint32_t route;
  int i;
  OK(add_program(runtime, "ask", on_ask, 0, NULL));
  OK(add_program(runtime, "nowhere", on_answer_nowhere, 0, NULL));
  asks = launched(runtime, "asks", "ask", 2);
  answers = launched(runtime, "answers", "nowhere", 4);
  OK(rk_connect(asks, answers, &route));
  OK(rk_deactivate(answers));
  OK(rk_send(asks, &message, RK_FOREVER));
  UNTIL(metrics_of(asks).messages_to_kernels == 1);
  OK(rk_deactivate(asks));
  for (i = 0; i < 2; i++) OK(rk_send(asks, &message, RK_FOREVER)); /* no room for an answer */
  OK(rk_activate(answers));
  UNTIL(metrics_of(answers).messages_processed == 1);
  OK(rk_activate(asks));
  OK(rk_receive_dead_letter(runtime, &letter, RK_FOREVER));
  CHECK(letter.reason == RK_DEAD_NO_ROUTE && letter.status == RK_ERR_INVALID_ARGUMENT);
  CHECK(letter.message.source == answers.id && letter.message.block == 9 && letter.kernel.id == asks.id);
  OK(rk_release(&letter.message));
  OK(rk_receive(asks, &out, RK_FOREVER));
  CHECK(out.payload_size == 6);
  OK(rk_release(&out));
  OK(rk_runtime_destroy(runtime));
}

static volatile int kills;
/* A stage: what it gets goes to the next, and at the end to the host. */
static rk_status_t on_stage(rk_context_t *ctx, const rk_message_t *message) {
  rk_status_t status = rk_context_send(ctx, 0, message);
  return status == RK_ERR_NO_ROUTE ? rk_context_emit(ctx, message) : status;
}

/* The same; while there are kills it fails over its message. Its state says whether it was made new. */
static rk_status_t on_mortal(rk_context_t *ctx, const rk_message_t *message) {
  uint64_t *state = (uint64_t *)rk_context_state(ctx);
  if (*state == UINT64_MAX) return 5;
  if (__atomic_load_n(&kills, __ATOMIC_RELAXED) > 0) {
    __atomic_fetch_sub(&kills, 1, __ATOMIC_RELAXED);
    *state = UINT64_MAX;
    return RK_ERR_KERNEL_FAILED;
  }
  return on_stage(ctx, message);
}

static void a_million_messages_pass_a_stage_that_is_killed_a_hundred_times(void) {
  enum { KILLS = 100, WINDOW = 512 };
  uint64_t total = check_slow() ? 20000 : 1000000, sent = 0, home = 0, dead = 0, killed = 0, number;
  rk_runtime_t *runtime = make_runtime(2);
  rk_launch_options_t options = options_for("mortal", mode);
  rk_kernel_t stages[4];
  rk_message_t out[64];
  unsigned char *seen = (unsigned char *)calloc(total, 1);
  uint32_t route;
  size_t count, i;
  OK(add_program(runtime, "stage", on_stage, 0, NULL));
  OK(add_program(runtime, "mortal", on_mortal, sizeof(uint64_t), NULL));
  options.restart = RK_RESTART_ON_FAILURE;
  options.restart_max = KILLS;
  options.restart_backoff_ns = MS(1);
  stages[0] = launched(runtime, "in", "stage", 1024);
  OK(rk_launch(runtime, "mortal", &options, &stages[1]));
  stages[2] = launched(runtime, "on", "stage", 1024);
  stages[3] = launched(runtime, "out", "stage", 1024);
  for (i = 0; i < 3; i++) OK(rk_connect(stages[i], stages[i + 1], &route));
  kills = 0;
  while (home < total) {
    while (sent < total && sent - home < WINDOW) {
      rk_message_t message = check_message(&sent, sizeof sent);
      OK(rk_send(stages[0], &message, RK_FOREVER));
      sent++;
      if (killed < KILLS && sent % (total / KILLS) == total / KILLS / 2) {
        killed++;
        __atomic_fetch_add(&kills, 1, __ATOMIC_RELAXED);
      }
    }
    while (dead < killed) {
      rk_dead_letter_t letter;
      if (rk_receive_dead_letter(runtime, &letter, 0) != RK_OK) break;
      CHECK(letter.reason == RK_DEAD_HANDLER && letter.status == RK_ERR_KERNEL_FAILED);
      CHECK(letter.kernel.id == stages[1].id);
      CHECK(letter.message.source == stages[0].id || letter.message.source == 0); /* sent again, killed again */
      OK(rk_send(letter.kernel, &letter.message, RK_FOREVER)); /* once more, as it is */
      OK(rk_release(&letter.message));
      dead++;
    }
    if (rk_receive_batch(stages[3], out, 64, MS(1), &count) != RK_OK) continue;
    for (i = 0; i < count; i++) {
      memcpy(&number, out[i].payload, sizeof number);
      CHECK(number < total && seen[number] == 0);
      seen[number] = 1;
    }
    home += count;
    OK(rk_release_batch(out, count));
  }
  CHECK(dead == KILLS && killed == KILLS);
  UNTIL(metrics_of(stages[1]).restarts == KILLS && metrics_of(stages[1]).messages_processed == total);
  CHECK(metrics_of(stages[1]).messages_failed == KILLS && metrics_of(stages[1]).dead_letters == KILLS);
  CHECK(state_of(stages[1]) == RK_STATE_ACTIVE);
  UNTIL(metrics_of(stages[3]).messages_processed == total);
  CHECK(metrics_of(stages[0]).messages_to_kernels == total && metrics_of(stages[3]).messages_from_kernels == total);
  free(seen);
  OK(rk_runtime_destroy(runtime));
}

int main(int argc, char **argv) {
  fixture_unused();
  for (mode = RK_MODE_PERSISTENT; mode <= RK_MODE_EVENT_DRIVEN; mode++) {
    printf("mode %u\n", mode);
    RUN(a_reply_goes_to_the_kernel_that_asked_and_to_no_other);
    RUN(kernels_that_answer_each_other_under_overload_do_not_deadlock);
    RUN(what_a_kernel_keeps_for_itself_is_bounded);
    RUN(a_circle_of_routes_under_overload_says_full_and_goes_on);
    RUN(one_message_goes_to_ten_thousand_kernels);
    RUN(routes_come_and_go_under_traffic);
    RUN(a_dead_letter_can_be_sent_again_as_it_is);
    RUN(what_waited_for_a_block_that_is_not_there_is_a_dead_letter);
    RUN(a_million_messages_pass_a_stage_that_is_killed_a_hundred_times);
  }
  return check_result();
}
