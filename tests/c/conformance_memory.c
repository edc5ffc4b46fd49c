/* Memory comes with the first message, and that of an idle kernel's queue goes again; nobody sees more of it than that. lesson 19. */
#include "fixture.h"

static uint64_t memory_of(rk_kernel_t kernel) { return metrics_of(kernel).host_memory_used_bytes; }

static uint64_t handled(rk_kernel_t kernel) {
  rk_kernel_status_t status = RK_KERNEL_STATUS_INIT;
  return rk_kernel_status(kernel, &status) == RK_OK ? status.messages_processed : UINT64_MAX;
}

/* Counts in its state, and says the count to who asks. */
static rk_status_t on_tally(rk_context_t *ctx, const rk_message_t *message) {
  uint64_t *count = (uint64_t *)rk_context_state(ctx);
  rk_message_t reply = check_message(count, sizeof *count);
  if (message->type == 1) return rk_context_reply(ctx, &reply);
  ++*count;
  return RK_OK;
}

static int count_is(rk_kernel_t kernel, uint64_t expected) {
  rk_message_t request = check_message("?", 1), reply;
  uint64_t count = UINT64_MAX;
  request.type = 1;
  if (rk_call(kernel, &request, &reply, MS(10000)) != RK_OK) return 0;
  if (reply.payload_size == sizeof count) memcpy(&count, reply.payload, sizeof count);
  return rk_release(&reply) == RK_OK && count == expected;
}

static rk_runtime_t *make_tallies(uint32_t workers, rk_launch_options_t *options) {
  rk_runtime_t *runtime = make_runtime(workers);
  *options = options_for("tally", RK_MODE_EVENT_DRIVEN);
  if (runtime == NULL || add_program(runtime, "tally", on_tally, sizeof(uint64_t), NULL) != RK_OK) return NULL;
  return runtime;
}

enum { MANY = 4000, CAPACITY = 64 };

/* One message to each of many kernels: the queues of those that are done are the next ones' queues. */
static void a_wave_of_messages_uses_as_much_memory_as_there_are_queues_in_use(void) {
  rk_launch_options_t options;
  rk_runtime_t *runtime = make_tallies(2, &options);
  static rk_kernel_t kernels[MANY];
  rk_message_t message = check_message("x", 1);
  int i, wave, count = check_slow() ? 400 : MANY;
  long before, grown;
  options.input_queue_capacity = 16;
  options.payload_size_max = 64;
  for (i = 0; i < count; i++) {
    char id[32];
    snprintf(id, sizeof id, "wave-%d", i);
    OK(rk_launch(runtime, id, &options, &kernels[i]));
  }
  before = resident_bytes();
  for (wave = 0; wave < 2; wave++)
    for (i = 0; i < count; i++) {
      OK(rk_send(kernels[i], &message, RK_FOREVER));
      if (i % 50 == 49) UNTIL(handled(kernels[i]) == (uint64_t)wave + 1);
    }
  /* These are handled on this thread. */
  for (i = 0; i < count; i++) CHECK(count_is(kernels[i], 2));
  grown = (resident_bytes() - before) / count;
  printf("%ld bytes per kernel that was used; a queue has 2048\n", grown);
  if (!check_slow()) CHECK(grown < 1024);
  OK(rk_runtime_destroy(runtime));
}

/* Queues of 256 KiB that were full once. */
static void long_queues_of_idle_kernels_give_their_pages_back(void) {
  rk_launch_options_t options;
  rk_runtime_t *runtime = make_tallies(2, &options);
  static rk_kernel_t kernels[CAPACITY];
  static char payload[192];
  rk_message_t message = check_message(payload, sizeof payload);
  uint64_t fresh, used;
  int i, number, messages = 2000;
  long before, full;
  for (i = 0; i < CAPACITY; i++) {
    char id[32];
    snprintf(id, sizeof id, "long-%d", i);
    OK(rk_launch(runtime, id, &options, &kernels[i]));
  }
  fresh = memory_of(kernels[0]);
  before = resident_bytes();
  for (i = 0; i < CAPACITY; i++)
    for (number = 0; number < messages; number++) OK(rk_send(kernels[i], &message, RK_FOREVER));
  full = resident_bytes();
  used = memory_of(kernels[0]);
  CHECK(used >= fresh + 1024 * 256);
  for (i = 0; i < CAPACITY; i++) UNTIL(handled(kernels[i]) == (uint64_t)messages);
  for (i = 0; i < CAPACITY; i++) UNTIL(memory_of(kernels[i]) < used);
  if (!check_slow()) {
    printf("%ld KiB in use, %ld when idle\n", (full - before) / 1024, (resident_bytes() - before) / 1024);
    CHECK(full - before > 12 << 20);
    UNTIL(resident_bytes() - before < (full - before) / 2);
  }
  CHECK(memory_of(kernels[0]) == fresh);
  for (i = 0; i < CAPACITY; i++) CHECK(count_is(kernels[i], (uint64_t)messages));
  CHECK(memory_of(kernels[0]) == used);
  OK(rk_runtime_destroy(runtime));
}

static int echo_some(rk_kernel_t kernel, int count) {
  static char payload[192];
  int number;
  for (number = 0; number < count; number++) {
    rk_message_t message = check_message(payload, sizeof payload), reply;
    message.correlation = (uint64_t)number;
    if (rk_send(kernel, &message, RK_FOREVER) != RK_OK) return 0;
    if (rk_receive(kernel, &reply, MS(10000)) != RK_OK) return 0;
    if (reply.correlation != (uint64_t)number || reply.payload_size != sizeof payload) return 0;
    if (rk_release(&reply) != RK_OK) return 0;
  }
  return 1;
}

/* Output queues, of kernels of both modes; one of which something is still out keeps its memory. */
static void output_queues_of_idle_kernels_give_their_pages_back(void) {
  rk_runtime_t *runtime = make_runtime(2);
  uint32_t modes[2] = {RK_MODE_EVENT_DRIVEN, RK_MODE_PERSISTENT};
  int i, round;
  for (i = 0; i < 2; i++) {
    rk_launch_options_t options = options_for("echo", modes[i]);
    rk_message_t message = check_message("kept", 4), view;
    rk_kernel_t kernel;
    uint64_t used;
    OK(rk_launch(runtime, i == 0 ? "out-event" : "out-persistent", &options, &kernel));
    for (round = 0; round < 2; round++) {
      CHECK(echo_some(kernel, 1500));
      OK(rk_send(kernel, &message, RK_FOREVER));
      OK(rk_receive(kernel, &view, MS(10000)));
      used = memory_of(kernel);
      if (round == 0) check_sleep_ms(check_slow() ? 10 : 1500);
      /* The input queue of the one goes, its output queue stays. */
      CHECK(memory_of(kernel) >= 1024 * 256);
      CHECK(view.payload_size == 4 && memcmp(view.payload, "kept", 4) == 0);
      OK(rk_release(&view));
      CHECK_STATUS(rk_release(&view), RK_ERR_INVALID_HANDLE);
      UNTIL(memory_of(kernel) + 1024 * 256 * (uint64_t)(2 - i) <= used);
    }
    CHECK(works(kernel) && echo_some(kernel, 1500));
  }
  OK(rk_runtime_destroy(runtime));
}

/* A queue of a gigabyte (where that costs nothing to allocate) of which one slot was used: who looks at it looks at that one. */
static void a_long_queue_is_looked_at_where_it_was_used(void) {
  rk_runtime_t *runtime = make_runtime(1);
  rk_launch_options_t options = options_for("echo", RK_MODE_EVENT_DRIVEN);
  rk_message_t message = check_message("x", 1), view;
  rk_kernel_t kernel;
  uint64_t used;
  clock_t burnt;
  options.output_queue_capacity = check_slow() ? 1 << 8 : 1 << 18;
  options.payload_size_max = 4032;
  options.input_queue_capacity = 2;
  OK(rk_launch(runtime, "vast", &options, &kernel));
  OK(rk_send(kernel, &message, RK_FOREVER));
  OK(rk_receive(kernel, &view, MS(10000)));
  OK(rk_release(&view));
  used = memory_of(kernel);
  CHECK(used > (uint64_t)options.output_queue_capacity * 4096);
  burnt = clock();
  /* Seldom, as it costs time, too. */
  while (memory_of(kernel) >= (uint64_t)options.output_queue_capacity * 4096) check_sleep_ms(100);
  burnt = clock() - burnt;
  printf("%ld ms of CPU\n", (long)(burnt * 1000 / CLOCKS_PER_SEC));
  if (!check_slow()) CHECK(burnt < CLOCKS_PER_SEC / 8);
  OK(rk_runtime_destroy(runtime));
}

/* Everything that knows a queue by its positions: loans and counters. */
static void a_queue_goes_on_where_it_was(void) {
  rk_launch_options_t options;
  rk_runtime_t *runtime = make_tallies(1, &options);
  rk_kernel_t kernel;
  rk_message_t message = check_message("x", 1);
  rk_kernel_status_t status = RK_KERNEL_STATUS_INIT;
  rk_loan_t loan, old;
  int round;
  uint64_t in_use;
  options.input_queue_capacity = 4;
  options.payload_size_max = 64;
  OK(rk_launch(runtime, "goes-on", &options, &kernel));
  memset(&old, 0, sizeof old);
  for (round = 1; round <= 3; round++) {
    memset(&loan, 0, sizeof loan);
    OK(rk_reserve(kernel, RK_ANY_BLOCK, 8, RK_FOREVER, &loan));
    in_use = memory_of(kernel);
    memset(loan.payload, 1, 8);
    /* An open loan keeps the memory. */
    check_sleep_ms(round == 1 && !check_slow() ? 1500 : 50);
    CHECK(memory_of(kernel) == in_use);
    OK(rk_commit(&loan, &message, 8));
    CHECK_STATUS(rk_commit(&loan, &message, 8), RK_ERR_INVALID_HANDLE);
    UNTIL(handled(kernel) == (uint64_t)round);
    if (round > 1) CHECK_STATUS(rk_abort(&old), RK_ERR_INVALID_HANDLE);
    old = loan;
    UNTIL(memory_of(kernel) < in_use);
    CHECK_STATUS(rk_commit(&loan, &message, 8), RK_ERR_INVALID_HANDLE);
    CHECK_STATUS(rk_abort(&loan), RK_ERR_INVALID_HANDLE);
    OK(rk_kernel_status(kernel, &status));
    CHECK(status.input_queue_depth == 0 && status.state == RK_STATE_ACTIVE);
  }
  /* What comes to a kernel that is paused while its queue is without memory waits there. */
  OK(rk_deactivate(kernel));
  for (round = 0; round < 4; round++) OK(rk_send(kernel, &message, 0));
  CHECK_STATUS(rk_send(kernel, &message, 0), RK_ERR_FULL);
  OK(rk_activate(kernel));
  UNTIL(handled(kernel) == 7);
  UNTIL(memory_of(kernel) < in_use);
  OK(rk_terminate(kernel, RK_FOREVER));
  CHECK_STATUS(rk_send(kernel, &message, 0), RK_ERR_TERMINATED);
  CHECK_STATUS(rk_reserve(kernel, RK_ANY_BLOCK, 8, 0, &loan), RK_ERR_TERMINATED);
  OK(rk_runtime_destroy(runtime));
}

typedef struct crowd_t {
  rk_kernel_t kernels[8];
  uint64_t sent;
  unsigned seed;
} crowd_t;

static void *send_now_and_then(void *argument) {
  crowd_t *crowd = (crowd_t *)argument;
  uint64_t end = check_now() + MS(1500);
  while (check_now() < end) {
    rk_message_t message = check_message("x", 1);
    int burst = 1 + rand_r(&crowd->seed) % 3;
    rk_kernel_t kernel = crowd->kernels[rand_r(&crowd->seed) % 8];
    while (burst-- > 0)
      if (rk_send(kernel, &message, RK_FOREVER) == RK_OK) crowd->sent++;
    if (rand_r(&crowd->seed) % 8 == 0) check_sleep_ms(rand_r(&crowd->seed) % 30);
  }
  return NULL;
}

/* Bursts and pauses, so that queues come and go all the time under several senders. */
static void nothing_is_lost_while_queues_come_and_go(void) {
  rk_launch_options_t options;
  rk_runtime_t *runtime = make_tallies(2, &options);
  crowd_t crowds[3];
  pthread_t threads[3];
  uint64_t sent = 0;
  int i, at;
  options.input_queue_capacity = 4;
  options.payload_size_max = 64;
  memset(crowds, 0, sizeof crowds);
  for (at = 0; at < 8; at++) {
    char id[32];
    snprintf(id, sizeof id, "come-and-go-%d", at);
    OK(rk_launch(runtime, id, &options, &crowds[0].kernels[at]));
  }
  for (i = 0; i < 3; i++) {
    memcpy(crowds[i].kernels, crowds[0].kernels, sizeof crowds[0].kernels);
    crowds[i].seed = (unsigned)i + 1;
    CHECK(pthread_create(&threads[i], NULL, send_now_and_then, &crowds[i]) == 0);
  }
  for (i = 0; i < 3; i++) {
    pthread_join(threads[i], NULL);
    sent += crowds[i].sent;
  }
  for (at = 0; at < 8;) {
    uint64_t done = 0;
    for (at = 0; at < 8; at++) done += handled(crowds[0].kernels[at]);
    if (done < sent) at = 0;
    CHECK(done <= sent);
  }
  printf("%lu messages\n", (unsigned long)sent);
  CHECK(sent > 100);
  OK(rk_runtime_destroy(runtime));
}

int main(int argc, char **argv) {
  fixture_unused();
  RUN(a_wave_of_messages_uses_as_much_memory_as_there_are_queues_in_use);
  RUN(long_queues_of_idle_kernels_give_their_pages_back);
  RUN(output_queues_of_idle_kernels_give_their_pages_back);
  RUN(a_long_queue_is_looked_at_where_it_was_used);
  RUN(a_queue_goes_on_where_it_was);
  RUN(nothing_is_lost_while_queues_come_and_go);
  return check_result();
}
