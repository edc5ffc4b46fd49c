/* Everything at once: nothing lost, nothing doubled, each sender's messages in order, no hang.
 * RK_TEST_SLOW makes it short. */
#include "fixture.h"

enum { SENDERS = 4, RECEIVERS = 3, BLOCKS = 2 };

static uint32_t mode, flags;
static rk_kernel_t target;
static unsigned per_sender;
static unsigned char *seen; /* [sender][number], counted by receivers */
static pthread_mutex_t seen_mutex = PTHREAD_MUTEX_INITIALIZER;
static volatile int failures;
static volatile unsigned received_total;

typedef struct stamp_t {
  uint32_t sender, number;
} stamp_t;

/* Checks each sender's order at its block, then passes the message on. */
static rk_status_t on_order(rk_context_t *ctx, const rk_message_t *message) {
  uint32_t *next = (uint32_t *)rk_context_state(ctx);
  stamp_t stamp;
  memcpy(&stamp, message->payload, sizeof stamp);
  if (stamp.number < next[stamp.sender]) failures++;
  next[stamp.sender] = stamp.number + 1;
  return rk_context_emit(ctx, message);
}

static void *sender(void *argument) {
  uint32_t me = (uint32_t)(uintptr_t)argument, number = 0;
  while (number < per_sender) {
    stamp_t stamps[8];
    rk_message_t messages[8];
    rk_loan_t loan;
    size_t sent = 0, i, count = 1 + number % 8;
    if (count > per_sender - number) count = per_sender - number;
    for (i = 0; i < count; i++) {
      stamps[i].sender = me;
      stamps[i].number = number + (uint32_t)i;
      messages[i] = check_message(&stamps[i], sizeof stamps[i]);
      messages[i].block = me % BLOCKS;
    }
    switch (number % 3) {
      case 0:
        if (rk_send_batch(target, messages, count, RK_FOREVER, &sent) != RK_OK) failures++, sent = count;
        break;
      case 1:
        if (rk_reserve(target, me % BLOCKS, sizeof stamps[0], RK_FOREVER, &loan) != RK_OK) {
          failures++;
        } else {
          memcpy(loan.payload, &stamps[0], sizeof stamps[0]);
          if (rk_commit(&loan, NULL, sizeof stamps[0]) != RK_OK) failures++;
        }
        sent = 1;
        break;
      default:
        if (rk_send(target, &messages[0], RK_FOREVER) != RK_OK) failures++;
        sent = 1;
    }
    number += (uint32_t)sent;
  }
  return NULL;
}

static void *receiver(void *argument) {
  unsigned random = (unsigned)(uintptr_t)argument * 7919;
  for (;;) {
    rk_message_t messages[16], swap;
    size_t count = 0, i, j;
    rk_status_t status = rk_receive_batch(target, messages, 1 + random % 16, RK_FOREVER, &count);
    if (status == RK_ERR_TERMINATED) return NULL;
    if (status != RK_OK) failures++;
    pthread_mutex_lock(&seen_mutex);
    for (i = 0; i < count; i++) {
      stamp_t stamp;
      memcpy(&stamp, messages[i].payload, sizeof stamp);
      if (seen[stamp.sender * per_sender + stamp.number]++) failures++;
      received_total++;
    }
    pthread_mutex_unlock(&seen_mutex);
    for (i = count; i-- > 1;) { /* given back in some order */
      random = random * 1103515245u + 12345u;
      j = (random >> 16) % (i + 1);
      swap = messages[i], messages[i] = messages[j], messages[j] = swap;
    }
    if (rk_release_batch(messages, count) != RK_OK) failures++;
  }
}

static volatile int stop;

static void *pauser(void *argument) {
  (void)argument;
  while (!stop) {
    if (rk_deactivate(target) != RK_OK || rk_activate(target) != RK_OK) return NULL;
    check_sleep_ms(1);
  }
  return NULL;
}

static void lesson_02_many_senders_and_receivers_lose_and_double_nothing(void) {
  rk_runtime_t *runtime = make_runtime(2);
  rk_launch_options_t options = options_for("order", mode);
  rk_kernel_metrics_t metrics;
  pthread_t senders[SENDERS], receivers[RECEIVERS], pausing;
  uintptr_t i;
  size_t total;
  per_sender = check_slow() ? 500 : 40000;
  total = (size_t)SENDERS * per_sender;
  seen = (unsigned char *)calloc(total, 1);
  failures = 0;
  received_total = 0;
  stop = 0;
  OK(add_program(runtime, "order", on_order, sizeof(uint32_t) * SENDERS, NULL));
  options.grid_size = BLOCKS;
  options.flags = flags;
  options.input_queue_capacity = 16;
  options.output_queue_capacity = 8;
  OK(rk_launch(runtime, "k", &options, &target));
  for (i = 0; i < SENDERS; i++) CHECK(pthread_create(&senders[i], NULL, sender, (void *)i) == 0);
  for (i = 0; i < RECEIVERS; i++) CHECK(pthread_create(&receivers[i], NULL, receiver, (void *)i) == 0);
  CHECK(pthread_create(&pausing, NULL, pauser, NULL) == 0);
  for (i = 0; i < SENDERS; i++) CHECK(pthread_join(senders[i], NULL) == 0);
  stop = 1;
  CHECK(pthread_join(pausing, NULL) == 0);
  OK(rk_terminate(target, RK_FOREVER));
  for (i = 0; i < RECEIVERS; i++) CHECK(pthread_join(receivers[i], NULL) == 0);
  metrics = metrics_of(target);
  CHECK(failures == 0 && received_total == total);
  CHECK(metrics.messages_sent == total && metrics.messages_processed == total);
  CHECK(metrics.messages_received == total && metrics.dead_letters == 0 && metrics.open_leases == 0);
  CHECK(metrics.input_queue_depth == 0 && metrics.output_queue_depth == 0);
  CHECK(metrics.input_queue_depth_max > 0 && metrics.input_queue_depth_max <= 16);
  free(seen);
  OK(rk_runtime_destroy(runtime));
}

/* Sends, calls, reserves and receives on kernels that others launch, end and destroy meanwhile. */
static rk_runtime_t *shared;
static volatile uint64_t published;
static volatile unsigned long accepted;

static int allowed(rk_status_t status) {
  return status == RK_OK || status == RK_ERR_FULL || status == RK_ERR_TERMINATED || status == RK_ERR_EMPTY ||
         status == RK_ERR_INVALID_HANDLE || status == RK_ERR_TIMEOUT || status == RK_ERR_SHUTDOWN;
}

static void release_it(rk_message_t *message, const char *what) {
  rk_status_t status = rk_release(message);
  if (status != RK_OK) {
    printf("releasing a %s got %s\n", what, rk_status_name(status));
    failures++;
  }
}

static void *hammer(void *argument) {
  unsigned i = (unsigned)(uintptr_t)argument;
  unsigned long mine = 0;
  while (!stop) {
    rk_message_t reply, message = check_message("hammer", 6);
    rk_kernel_t kernel;
    rk_loan_t loan;
    rk_status_t status;
    kernel.id = published;
    switch (i++ % 5) {
      case 0:
      case 1:
        status = rk_send(kernel, &message, 0);
        mine += status == RK_OK;
        break;
      case 2:
        status = rk_call(kernel, &message, &reply, MS(2000));
        if (status == RK_OK) release_it(&reply, "reply");
        break;
      case 3:
        status = rk_reserve(kernel, 0, 6, 0, &loan);
        if (status == RK_OK) {
          status = i % 2 ? rk_commit(&loan, NULL, 6) : rk_abort(&loan);
        }
        break;
      default:
        status = rk_receive(kernel, &reply, 0);
        if (status == RK_OK) release_it(&reply, "view");
    }
    if (!allowed(status)) {
      printf("hammer %u got %s\n", (i - 1) % 5, rk_status_name(status));
      failures++;
    }
  }
  pthread_mutex_lock(&seen_mutex);
  accepted += mine;
  pthread_mutex_unlock(&seen_mutex);
  return NULL;
}

static void *waiter(void *argument) {
  (void)argument;
  while (!stop) {
    rk_kernel_t kernel;
    rk_status_t status;
    kernel.id = published;
    status = rk_wait(kernel, MS(1));
    if (!allowed(status)) {
      printf("wait got %s\n", rk_status_name(status));
      failures++;
    }
    rk_deactivate(kernel);
    rk_activate(kernel);
  }
  return NULL;
}

static void kernels_that_come_and_go_under_fire(void) {
  pthread_t threads[4];
  uintptr_t i;
  unsigned round, rounds = check_slow() ? 30 : 1500;
  rk_launch_options_t options = options_for("echo", mode);
  shared = make_runtime(2);
  options.flags = flags;
  options.input_queue_capacity = 8;
  options.output_queue_capacity = 4;
  stop = 0;
  failures = 0;
  accepted = 0;
  published = 0;
  for (i = 0; i < 3; i++) CHECK(pthread_create(&threads[i], NULL, hammer, (void *)i) == 0);
  CHECK(pthread_create(&threads[3], NULL, waiter, NULL) == 0);
  for (round = 0; round < rounds; round++) {
    rk_kernel_t kernel;
    rk_status_t status;
    OK(rk_launch(shared, "fire", &options, &kernel));
    published = kernel.id;
    if (round % 7 == 0) check_sleep_ms(1);
    status = round % 3 == 0 ? rk_terminate(kernel, MS(1)) : RK_OK;
    CHECK(status == RK_OK || status == RK_ERR_TIMEOUT);
    status = rk_destroy(kernel);
    CHECK(status == RK_OK || status == RK_ERR_TIMEOUT);
  }
  stop = 1;
  for (i = 0; i < 4; i++) CHECK(pthread_join(threads[i], NULL) == 0);
  CHECK(failures == 0);
  {
    rk_runtime_metrics_t metrics = RK_RUNTIME_METRICS_INIT;
    OK(rk_metrics(shared, &metrics));
    CHECK(metrics.active_kernels == 0 && metrics.total_launched == rounds);
    CHECK(metrics.messages_sent >= accepted);
  }
  OK(rk_runtime_destroy(shared));
}

/* What was accepted is handled or dead, to the last message, whenever the end comes. */
static void accepted_is_handled_plus_dead(void) {
  unsigned round, rounds = check_slow() ? 5 : 200;
  for (round = 0; round < rounds; round++) {
    rk_launch_options_t options = options_for("sink", mode);
    rk_kernel_metrics_t metrics;
    pthread_t threads[3];
    uintptr_t i;
    rk_status_t status;
    shared = make_runtime(1);
    options.flags = flags;
    OK(rk_launch(shared, "k", &options, &target));
    stop = 0;
    accepted = 0;
    failures = 0;
    published = target.id;
    for (i = 0; i < 3; i++) CHECK(pthread_create(&threads[i], NULL, hammer, (void *)(i * 0)) == 0);
    check_sleep_ms(1 + round % 3);
    status = rk_terminate(target, round % 2 ? RK_FOREVER : 0);
    CHECK(status == RK_OK || status == RK_ERR_TIMEOUT);
    stop = 1;
    for (i = 0; i < 3; i++) CHECK(pthread_join(threads[i], NULL) == 0);
    metrics = metrics_of(target);
    CHECK(state_of(target) == RK_STATE_TERMINATED && failures == 0);
    CHECK(metrics.messages_sent == metrics.messages_processed + metrics.dead_letters);
    CHECK(metrics.messages_sent >= accepted && metrics.open_leases == 0);
    OK(rk_runtime_destroy(shared));
  }
}

static void shutdown_with_everything_in_flight_ends(void) {
  unsigned round;
  for (round = 0; round < (check_slow() ? 3u : 20u); round++) {
    rk_launch_options_t options = options_for("echo", mode);
    pthread_t threads[4];
    uintptr_t i;
    shared = make_runtime(2);
    options.flags = flags;
    options.overflow = round % 4 ? RK_OVERFLOW_DEAD_LETTER : RK_OVERFLOW_BLOCK; /* blocked: destroy takes seconds */
    OK(rk_launch(shared, "k", &options, &target));
    stop = 0;
    failures = 0;
    published = target.id;
    for (i = 0; i < 3; i++) CHECK(pthread_create(&threads[i], NULL, hammer, (void *)i) == 0);
    CHECK(pthread_create(&threads[3], NULL, waiter, NULL) == 0);
    check_sleep_ms(2);
    OK(rk_runtime_destroy(shared));
    stop = 1;
    for (i = 0; i < 4; i++) CHECK(pthread_join(threads[i], NULL) == 0);
    CHECK(failures == 0);
  }
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
    RUN(lesson_02_many_senders_and_receivers_lose_and_double_nothing);
    RUN(kernels_that_come_and_go_under_fire);
    RUN(accepted_is_handled_plus_dead);
    RUN(shutdown_with_everything_in_flight_ends);
  }
  return check_result();
}
