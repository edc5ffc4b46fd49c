/* Kernels among themselves under load, and verbs against each other: conservation over routes, races of launch,
 * wait, terminate, pause and destroy. RK_TEST_SLOW makes it short. */
#include "fixture.h"

enum { KERNELS = 5, BLOCKS = 2, FEEDERS = 3 };

static uint32_t mode, flags;
static rk_runtime_t *runtime;
static rk_kernel_t kernels[KERNELS];
static volatile int stop, failures;
static unsigned per_feeder;
static unsigned char *seen;

/* Sends on by a route while `type` is above 0, at its end to the host. A full or ended route ends the walk too. */
static rk_status_t on_walk(rk_context_t *ctx, const rk_message_t *message) {
  rk_message_t next = *message;
  rk_status_t status;
  if (message->type == 0) return rk_context_emit(ctx, message);
  next.type--;
  next.block = RK_ANY_BLOCK;
  status = rk_context_send(ctx, message->type % 2, &next);
  if (status == RK_ERR_FULL || status == RK_ERR_NO_ROUTE) {
    next.type = 0;
    status = rk_context_emit(ctx, &next);
  }
  return status;
}

static void *feed(void *argument) {
  uint64_t me = (uint64_t)(uintptr_t)argument, i;
  for (i = 0; i < per_feeder; i++) {
    uint64_t number = me * per_feeder + i;
    rk_message_t message = check_message(&number, sizeof number);
    message.type = (uint32_t)(i % 12);
    message.block = RK_ANY_BLOCK;
    if (rk_send(kernels[(me + i) % KERNELS], &message, RK_FOREVER) != RK_OK) failures++;
  }
  return NULL;
}

/* One taker for each kernel. */
static void *take(void *argument) {
  rk_kernel_t kernel = kernels[(uintptr_t)argument];
  for (;;) {
    rk_message_t message;
    uint64_t number;
    rk_status_t status = rk_receive(kernel, &message, RK_FOREVER);
    if (status == RK_ERR_TERMINATED) return NULL;
    if (status != RK_OK) {
      failures++;
      return NULL;
    }
    memcpy(&number, message.payload, sizeof number);
    if (__sync_fetch_and_add(&seen[number], 1) != 0) failures++; /* doubled */
    if (rk_release(&message) != RK_OK) failures++;
  }
}

/* Pauses kernels and makes and ends routes beside those that are in use. */
static void *disturb(void *argument) {
  unsigned i = 0;
  (void)argument;
  while (!stop) {
    rk_kernel_t kernel = kernels[i++ % KERNELS];
    uint32_t route;
    if (rk_deactivate(kernel) != RK_OK || rk_activate(kernel) != RK_OK) failures++;
    if (rk_connect(kernel, kernels[i % KERNELS], &route) != RK_OK || rk_disconnect(kernel, route) != RK_OK) failures++;
    check_sleep_ms(1);
  }
  return NULL;
}

static uint64_t sum(size_t offset) {
  uint64_t total = 0, value;
  int k;
  for (k = 0; k < KERNELS; k++) {
    rk_kernel_metrics_t metrics = metrics_of(kernels[k]);
    memcpy(&value, (const char *)&metrics + offset, sizeof value);
    total += value;
  }
  return total;
}

#define SUM(field) sum(offsetof(rk_kernel_metrics_t, field))

static void lesson_16_messages_that_walk_between_kernels_are_neither_lost_nor_doubled(void) {
  rk_launch_options_t options = options_for("walk", mode);
  pthread_t feeders[FEEDERS], takers[KERNELS], disturbing;
  uint64_t total;
  uintptr_t i;
  uint32_t route;
  char id[16];
  per_feeder = check_slow() ? 300 : 20000;
  total = (uint64_t)FEEDERS * per_feeder;
  seen = (unsigned char *)calloc(total, 1);
  failures = stop = 0;
  runtime = make_runtime(2);
  OK(add_program(runtime, "walk", on_walk, 0, NULL));
  options.grid_size = BLOCKS;
  options.flags = flags;
  options.input_queue_capacity = 32;
  options.output_queue_capacity = 16;
  for (i = 0; i < KERNELS; i++) {
    snprintf(id, sizeof id, "walk-%u", (unsigned)i);
    OK(rk_launch(runtime, id, &options, &kernels[i]));
  }
  for (i = 0; i < KERNELS; i++) { /* to the next one and to the one after it */
    OK(rk_connect(kernels[i], kernels[(i + 1) % KERNELS], &route));
    OK(rk_connect(kernels[i], kernels[(i + 2) % KERNELS], &route));
  }
  for (i = 0; i < KERNELS; i++) CHECK(pthread_create(&takers[i], NULL, take, (void *)i) == 0);
  for (i = 0; i < FEEDERS; i++) CHECK(pthread_create(&feeders[i], NULL, feed, (void *)i) == 0);
  CHECK(pthread_create(&disturbing, NULL, disturb, NULL) == 0);
  for (i = 0; i < FEEDERS; i++) CHECK(pthread_join(feeders[i], NULL) == 0);
  stop = 1;
  CHECK(pthread_join(disturbing, NULL) == 0);
  UNTIL(SUM(messages_received) >= total || failures != 0);
  for (i = 0; i < KERNELS; i++) OK(rk_terminate(kernels[i], RK_FOREVER));
  for (i = 0; i < KERNELS; i++) CHECK(pthread_join(takers[i], NULL) == 0);
  CHECK(failures == 0);
  for (i = 0; i < total; i++) CHECK(seen[i] == 1);
  CHECK(SUM(messages_sent) == total && SUM(messages_received) == total);
  CHECK(SUM(messages_to_kernels) == SUM(messages_from_kernels) && SUM(messages_to_kernels) > 0);
  CHECK(SUM(messages_processed) == total + SUM(messages_from_kernels));
  CHECK(SUM(messages_failed) == 0 && SUM(dead_letters) == 0 && SUM(open_leases) == 0);
  free(seen);
  OK(rk_runtime_destroy(runtime));
}

static void lesson_16_what_walks_into_a_kernel_that_ends_is_handled_or_dead(void) {
  unsigned round, rounds = check_slow() ? 3 : 60;
  for (round = 0; round < rounds; round++) {
    rk_launch_options_t options = options_for("walk", mode);
    rk_runtime_metrics_t totals = RK_RUNTIME_METRICS_INIT;
    rk_message_t message = check_message("w", 1);
    rk_status_t status;
    unsigned i, accepted = 0;
    uint32_t route;
    char id[16];
    runtime = make_runtime(2);
    OK(add_program(runtime, "walk", on_walk, 0, NULL));
    options.flags = flags;
    options.overflow = RK_OVERFLOW_DEAD_LETTER;
    for (i = 0; i < KERNELS; i++) {
      snprintf(id, sizeof id, "walk-%u", i);
      OK(rk_launch(runtime, id, &options, &kernels[i]));
    }
    for (i = 0; i < KERNELS; i++) {
      OK(rk_connect(kernels[i], kernels[(i + 1) % KERNELS], &route));
      OK(rk_connect(kernels[i], kernels[(i + 2) % KERNELS], &route));
    }
    for (i = 0; i < 400; i++) {
      message.type = i % 20;
      accepted += rk_send(kernels[0], &message, 0) == RK_OK;
      if (i == 100 + round) {
        status = rk_terminate(kernels[1 + round % (KERNELS - 1)], round % 2 ? RK_FOREVER : 0);
        CHECK(status == RK_OK || status == RK_ERR_TIMEOUT);
      }
    }
    for (i = 0; i < KERNELS; i++) {
      status = rk_terminate(kernels[i], MS(20000));
      CHECK(status == RK_OK || (i == 1 + round % (KERNELS - 1) && round % 2 == 0));
    }
    OK(rk_metrics(runtime, &totals));
    /* Each message accepted is at one place in the end: dead, or in an output queue. */
    CHECK(SUM(messages_failed) == 0 && totals.messages_sent == accepted);
    CHECK(totals.dead_letters + SUM(output_queue_depth) == accepted);
    OK(rk_runtime_destroy(runtime));
  }
}

static pthread_barrier_t together;

static void *launch_one(void *argument) {
  rk_launch_options_t options = options_for("echo", mode);
  rk_kernel_t *made = (rk_kernel_t *)argument;
  rk_status_t status;
  options.flags = flags;
  pthread_barrier_wait(&together);
  status = rk_launch(runtime, "one", &options, made);
  if (status == RK_ERR_ALREADY_EXISTS) made->id = 0;
  else if (status != RK_OK) failures++;
  return NULL;
}

static void lesson_05_of_many_launches_at_once_exactly_one_wins(void) {
  int round, i, rounds = check_slow() ? 20 : 1000;
  runtime = make_runtime(1);
  failures = 0;
  CHECK(pthread_barrier_init(&together, NULL, 3) == 0);
  for (round = 0; round < rounds; round++) {
    pthread_t threads[3];
    rk_kernel_t made[3], found;
    int winners = 0;
    for (i = 0; i < 3; i++) CHECK(pthread_create(&threads[i], NULL, launch_one, &made[i]) == 0);
    for (i = 0; i < 3; i++) CHECK(pthread_join(threads[i], NULL) == 0);
    OK(rk_get(runtime, "one", &found));
    for (i = 0; i < 3; i++) winners += made[i].id != 0 && made[i].id == found.id;
    for (i = 0; i < 3; i++) CHECK(made[i].id == 0 || made[i].id == found.id);
    CHECK(winners == 1 && failures == 0 && works(found));
    OK(rk_destroy(found));
  }
  CHECK(pthread_barrier_destroy(&together) == 0);
  OK(rk_runtime_destroy(runtime));
}

static rk_kernel_t target;

static int among(rk_status_t status, rk_status_t a, rk_status_t b, rk_status_t c, rk_status_t d) {
  if (status == a || status == b || status == c || status == d) return 1;
  printf("a verb of a race got %s\n", rk_status_name(status));
  return 0;
}

/* Each verb at the same moment as the end of its kernel. */
static void *race(void *argument) {
  uintptr_t verb = (uintptr_t)argument;
  rk_message_t out, message = check_message("m", 1);
  rk_loan_t loan;
  rk_status_t status;
  int good = 1;
  pthread_barrier_wait(&together);
  switch (verb) {
    case 0: good = among(rk_wait(target, RK_FOREVER), RK_OK, RK_ERR_INVALID_HANDLE, RK_OK, RK_OK); break;
    case 1:
      good = among(rk_terminate(target, RK_FOREVER), RK_OK, RK_ERR_INVALID_HANDLE, RK_ERR_TIMEOUT, RK_OK);
      break;
    case 2:
      status = rk_call(target, &message, &out, RK_FOREVER);
      good = among(status, RK_OK, RK_ERR_TERMINATED, RK_ERR_INVALID_HANDLE, RK_OK);
      if (status == RK_OK) good &= rk_release(&out) == RK_OK;
      break;
    case 3:
      status = rk_reserve(target, 0, 1, 0, &loan);
      good = among(status, RK_OK, RK_ERR_TERMINATED, RK_ERR_INVALID_HANDLE, RK_ERR_FULL);
      if (status == RK_OK) good &= among(rk_commit(&loan, NULL, 1), RK_OK, RK_ERR_TERMINATED, RK_OK, RK_OK);
      break;
    default:
      status = rk_deactivate(target);
      good = among(status, RK_OK, RK_ERR_TERMINATED, RK_ERR_INVALID_HANDLE, RK_ERR_INVALID_STATE);
      status = rk_activate(target);
      good &= among(status, RK_OK, RK_ERR_TERMINATED, RK_ERR_INVALID_HANDLE, RK_ERR_INVALID_STATE);
  }
  if (!good) failures++;
  return NULL;
}

static void lesson_04_every_verb_against_the_end_of_its_kernel(void) {
  int round, rounds = check_slow() ? 15 : 1000;
  runtime = make_runtime(2);
  failures = 0;
  CHECK(pthread_barrier_init(&together, NULL, 6) == 0);
  for (round = 0; round < rounds; round++) {
    rk_launch_options_t options = options_for("echo", mode);
    rk_message_t message = check_message("m", 1);
    pthread_t threads[5];
    rk_status_t status;
    uintptr_t i;
    options.flags = flags;
    OK(rk_launch(runtime, "k", &options, &target));
    OK(rk_send(target, &message, 0));
    for (i = 0; i < 5; i++) CHECK(pthread_create(&threads[i], NULL, race, (void *)i) == 0);
    pthread_barrier_wait(&together);
    if (round % 2) {
      status = rk_destroy(target);
      CHECK(status == RK_OK || status == RK_ERR_TIMEOUT);
    } else {
      status = rk_terminate(target, RK_FOREVER);
      CHECK(status == RK_OK);
    }
    for (i = 0; i < 5; i++) CHECK(pthread_join(threads[i], NULL) == 0);
    CHECK(failures == 0);
    if (round % 2 == 0) {
      rk_kernel_metrics_t metrics = metrics_of(target);
      CHECK(metrics.state == RK_STATE_TERMINATED && metrics.open_leases == 0);
      CHECK(metrics.messages_sent == metrics.messages_processed + metrics.dead_letters);
      OK(rk_destroy(target));
    }
  }
  CHECK(pthread_barrier_destroy(&together) == 0);
  OK(rk_runtime_destroy(runtime));
}

static volatile int begun, ended;

static void *destroy_each(void *argument) {
  int round, rounds = (int)(intptr_t)argument;
  for (round = 1; round <= rounds; round++) {
    volatile int spin = round * 7 % 600;
    while (begun < round) {
      if (check_slow()) sched_yield();
    }
    while (spin) spin--;
    rk_destroy(target);
    ended = round;
  }
  return NULL;
}

/* Whatever becomes of the kernel in the middle of a batch: `*sent` is what was queued. */
static void a_batch_that_meets_the_end_says_what_was_queued(void) {
  static rk_message_t batch[2000];
  int round, rounds = check_slow() ? 15 : 5000;
  pthread_t thread;
  runtime = make_runtime(1);
  begun = ended = 0;
  CHECK(pthread_create(&thread, NULL, destroy_each, (void *)(intptr_t)rounds) == 0);
  for (round = 1; round <= rounds; round++) {
    rk_launch_options_t options = options_for("sink", mode);
    rk_runtime_metrics_t before = RK_RUNTIME_METRICS_INIT, after = RK_RUNTIME_METRICS_INIT;
    size_t sent = 77;
    rk_status_t status;
    options.flags = RK_LAUNCH_SUSPENDED;
    options.input_queue_capacity = 256;
    OK(rk_launch(runtime, "k", &options, &target));
    OK(rk_send(target, &batch[0], 0));
    OK(rk_metrics(runtime, &before));
    begun = round;
    status = rk_send_batch(target, batch, 2000, 0, &sent);
    while (ended < round) sched_yield();
    CHECK((status == RK_OK) == (sent > 0));
    OK(rk_metrics(runtime, &after));
    CHECK(after.dead_letters - before.dead_letters == sent + 1);
  }
  CHECK(pthread_join(thread, NULL) == 0);
  OK(rk_runtime_destroy(runtime));
}

int main(int argc, char **argv) {
  static const uint32_t variants[][2] = {
      {RK_MODE_PERSISTENT, 0}, {RK_MODE_EVENT_DRIVEN, 0}, {RK_MODE_EVENT_DRIVEN, RK_LAUNCH_NO_HELP}};
  size_t i;
  fixture_unused();
  for (i = 0; i < 3; i++) {
    mode = variants[i][0];
    flags = variants[i][1];
    printf("mode %u flags %u\n", mode, flags);
    RUN(lesson_16_messages_that_walk_between_kernels_are_neither_lost_nor_doubled);
    RUN(lesson_16_what_walks_into_a_kernel_that_ends_is_handled_or_dead);
    RUN(lesson_05_of_many_launches_at_once_exactly_one_wins);
    RUN(lesson_04_every_verb_against_the_end_of_its_kernel);
    RUN(a_batch_that_meets_the_end_says_what_was_queued);
  }
  return check_result();
}
