/* Deadlines: what has expired before it is handled is never handled, whatever way it came, and says so once. */
#include "fixture.h"

static uint32_t mode;

static rk_kernel_t launched(rk_runtime_t *runtime, const char *id, const char *program, uint32_t flags) {
  rk_launch_options_t options = options_for(program, mode);
  rk_kernel_t kernel = {0};
  options.flags = flags;
  rk_launch(runtime, id, &options, &kernel);
  return kernel;
}

static rk_message_t numbered(uint64_t number, uint64_t deadline_ns) {
  rk_message_t message = check_message("m", 1);
  message.correlation = number;
  message.deadline_ns = deadline_ns;
  return message;
}

/* Waits until a point in time has passed for certain, also by another clock that is compared with this one. */
static void pass(uint64_t time_ns) {
  while (check_now() < time_ns + MS(2)) check_sleep_ms(1);
}

/* One dead letter: expired, of that kernel, that number. */
static void expect_expired(rk_runtime_t *runtime, rk_kernel_t kernel, uint64_t number, uint64_t source) {
  rk_dead_letter_t letter;
  OK(rk_receive_dead_letter(runtime, &letter, MS(20000)));
  CHECK(letter.reason == RK_DEAD_EXPIRED && letter.status == RK_ERR_TIMEOUT && letter.kernel.id == kernel.id);
  CHECK(letter.message.correlation == number && letter.message.source == source);
  CHECK(letter.message.payload_size == 1 && memcmp(letter.message.payload, "m", 1) == 0 && letter.message.deadline_ns != 0);
  OK(rk_release(&letter.message));
}

static void a_message_expires_in_a_paused_kernel(void) {
  rk_runtime_t *runtime = make_runtime(1);
  rk_kernel_t kernel = launched(runtime, "k", "count", 0);
  rk_message_t message, out;
  rk_dead_letter_t letter;
  uint64_t soon;
  int i;
  CHECK(works(launched(runtime, "echo", NULL, 0)));
  OK(rk_deactivate(kernel));
  soon = check_now() + MS(10);
  /* Two of three are late; the others keep their order. */
  for (i = 0; i < 9; i++) {
    message = numbered((uint64_t)i, i % 3 == 0 ? 0 : i % 3 == 1 ? soon : 1);
    OK(rk_send(kernel, &message, 0));
  }
  pass(soon);
  CHECK_STATUS(rk_receive_dead_letter(runtime, &letter, 0), RK_ERR_EMPTY);
  OK(rk_activate(kernel));
  for (i = 0; i < 9; i += 3) {
    OK(rk_receive(kernel, &out, MS(20000)));
    CHECK(out.correlation == (uint64_t)i && ((const counted_t *)out.payload)->count == (uint64_t)i / 3 + 1);
    OK(rk_release(&out));
  }
  for (i = 0; i < 9; i++) {
    if (i % 3 != 0) expect_expired(runtime, kernel, (uint64_t)i, 0);
    if (check_bad) return;
  }
  CHECK_STATUS(rk_receive_dead_letter(runtime, &letter, 0), RK_ERR_EMPTY);
  UNTIL(metrics_of(kernel).messages_processed == 3);
  CHECK(metrics_of(kernel).messages_failed == 0 && metrics_of(kernel).dead_letters == 6);
  OK(rk_runtime_destroy(runtime));
}

static gate_t gate;

static void a_message_expires_behind_one_that_takes_long(void) {
  rk_runtime_t *runtime = make_runtime(2);
  rk_message_t message;
  rk_kernel_t kernel;
  uint64_t soon;
  gate_init(&gate);
  OK(add_program(runtime, "gate", on_gate, 0, &gate));
  kernel = launched(runtime, "k", "gate", 0);
  soon = check_now() + MS(check_slow() ? 2000 : 100);
  message = numbered(1, soon); /* begun in time: it is handled to its end */
  OK(rk_send(kernel, &message, 0));
  gate_await_inside(&gate, 1);
  message = numbered(2, soon);
  OK(rk_send(kernel, &message, 0));
  message = numbered(3, 0);
  OK(rk_send(kernel, &message, 0));
  pass(soon);
  gate_open(&gate);
  expect_expired(runtime, kernel, 2, 0);
  if (check_bad) return;
  UNTIL(metrics_of(kernel).messages_processed == 2);
  CHECK(gate.handled == 2);
  OK(rk_runtime_destroy(runtime));
}

/* On by route 0, as it came. */
static rk_status_t on_forward(rk_context_t *ctx, const rk_message_t *message) {
  rk_message_t next = *message;
  next.block = 0;
  if (message->deadline_ns == 0) return 7;
  return rk_context_send(ctx, 0, &next);
}

static void a_forwarded_message_keeps_its_deadline(void) {
  rk_runtime_t *runtime = make_runtime(2);
  rk_kernel_t from, to[2];
  rk_message_t message, out;
  uint64_t soon;
  uint32_t route;
  int i;
  OK(add_program(runtime, "forward", on_forward, 0, NULL));
  for (i = 0; i < 2; i++) {
    uint32_t was = mode;
    from = launched(runtime, i ? "from1" : "from0", "forward", 0);
    /* The target in either mode: on a device the way there is another one. */
    if (i) mode = mode == RK_MODE_PERSISTENT ? RK_MODE_EVENT_DRIVEN : RK_MODE_PERSISTENT;
    to[i] = launched(runtime, i ? "to1" : "to0", "sink", 0);
    mode = was;
    OK(rk_connect(from, to[i], &route));
    CHECK(route == 0);
    OK(rk_deactivate(to[i]));
    soon = check_now() + MS(check_slow() ? 2000 : 200);
    message = numbered(5, soon);
    OK(rk_send(from, &message, 0));
    message = numbered(6, check_now() + MS(100000));
    OK(rk_send(from, &message, 0));
    UNTIL(metrics_of(from).messages_processed == 2);
    CHECK(check_now() < soon); /* else the machine was too slow to see anything */
    pass(soon);
    OK(rk_activate(to[i]));
    expect_expired(runtime, to[i], 5, from.id);
    if (check_bad) return;
    UNTIL(metrics_of(to[i]).messages_processed == 1);
    CHECK(metrics_of(to[i]).messages_failed == 0);
    /* Too late already for the first. */
    message = numbered(8, 1);
    OK(rk_send(from, &message, 0));
    expect_expired(runtime, from, 8, 0);
    if (check_bad) return;
  }
  CHECK_STATUS(rk_receive(to[0], &out, 0), RK_ERR_EMPTY);
  OK(rk_runtime_destroy(runtime));
}

static rk_kernel_t target;
static uint64_t call_deadline;
static rk_status_t call_status;
static volatile int call_is_done;

static void *call_it(void *argument) {
  rk_message_t reply, message = numbered(4, call_deadline);
  (void)argument;
  call_status = rk_call(target, &message, &reply, RK_FOREVER);
  call_is_done = 1;
  return NULL;
}

static void a_call_whose_deadline_passes_ends(void) {
  rk_runtime_t *runtime = make_runtime(1);
  rk_message_t reply, message;
  pthread_t thread;
  target = launched(runtime, "k", "echo", 0);
  /* At once. */
  message = numbered(3, 1);
  CHECK_STATUS(rk_call(target, &message, &reply, RK_FOREVER), RK_ERR_TIMEOUT);
  expect_expired(runtime, target, 3, 0);
  if (check_bad) return;
  /* While it is queued: it is told when the kernel comes to it. */
  OK(rk_deactivate(target));
  call_deadline = check_now() + MS(10);
  call_is_done = 0;
  CHECK(pthread_create(&thread, NULL, call_it, NULL) == 0);
  UNTIL(metrics_of(target).input_queue_depth == 1);
  pass(call_deadline);
  CHECK(!call_is_done);
  OK(rk_activate(target));
  CHECK(pthread_join(thread, NULL) == 0);
  CHECK_STATUS(call_status, RK_ERR_TIMEOUT);
  expect_expired(runtime, target, 4, 0);
  if (check_bad) return;
  /* In time. */
  message = numbered(9, check_now() + MS(100000));
  OK(rk_call(target, &message, &reply, RK_FOREVER));
  OK(rk_release(&reply));
  OK(rk_runtime_destroy(runtime));
}

static void loans_batches_and_any_block_have_deadlines(void) {
  rk_runtime_t *runtime = make_runtime(1);
  rk_kernel_t kernel = launched(runtime, "k", "sink", RK_LAUNCH_SUSPENDED);
  rk_message_t batch[4];
  rk_loan_t loan;
  size_t i, sent;
  for (i = 0; i < 4; i++) batch[i] = numbered(i, i % 2 ? 0 : 1);
  OK(rk_send_batch(kernel, batch, 4, 0, &sent));
  CHECK(sent == 4);
  OK(rk_reserve(kernel, 0, 1, 0, &loan));
  memcpy(loan.payload, "m", 1);
  batch[0] = numbered(4, 1);
  OK(rk_commit(&loan, &batch[0], 1));
  batch[0] = numbered(6, 1);
  batch[0].block = RK_ANY_BLOCK;
  OK(rk_send(kernel, &batch[0], 0));
  OK(rk_activate(kernel));
  for (i = 0; i < 8; i += 2) {
    expect_expired(runtime, kernel, i, 0);
    if (check_bad) return;
  }
  UNTIL(metrics_of(kernel).messages_processed == 2);
  OK(rk_runtime_destroy(runtime));
}

static void on_the_edge_each_is_handled_or_expires_once(void) {
  rk_runtime_t *runtime = make_runtime(2);
  rk_launch_options_t options = options_for("sink", mode);
  rk_kernel_t kernel;
  uint64_t i, expired = 0, count = check_slow() ? 300 : 4000;
  rk_dead_letter_t letter;
  OK(rk_launch(runtime, "k", &options, &kernel));
  for (i = 0; i < count; i++) {
    rk_message_t message = numbered(i, check_now() + i % 64 * 200);
    OK(rk_send(kernel, &message, RK_FOREVER));
    /* As many as the queue of dead letters keeps for certain. */
    while (rk_receive_dead_letter(runtime, &letter, 0) == RK_OK) {
      CHECK(letter.reason == RK_DEAD_EXPIRED);
      expired++;
      OK(rk_release(&letter.message));
    }
  }
  UNTIL(metrics_of(kernel).messages_processed + metrics_of(kernel).dead_letters == count);
  /* They are counted before they can be received. */
  while (expired < metrics_of(kernel).dead_letters) {
    OK(rk_receive_dead_letter(runtime, &letter, MS(20000)));
    expired++;
    OK(rk_release(&letter.message));
  }
  CHECK_STATUS(rk_receive_dead_letter(runtime, &letter, 0), RK_ERR_EMPTY);
  CHECK(metrics_of(kernel).dead_letters == expired && metrics_of(kernel).messages_processed == count - expired);
  OK(rk_runtime_destroy(runtime));
}

int main(int argc, char **argv) {
  fixture_unused();
  for (mode = RK_MODE_PERSISTENT; mode <= RK_MODE_EVENT_DRIVEN; mode++) {
    printf("mode %u\n", mode);
    RUN(a_message_expires_in_a_paused_kernel);
    RUN(a_message_expires_behind_one_that_takes_long);
    RUN(a_forwarded_message_keeps_its_deadline);
    RUN(a_call_whose_deadline_passes_ends);
    RUN(loans_batches_and_any_block_have_deadlines);
    RUN(on_the_edge_each_is_handled_or_expires_once);
  }
  return check_result();
}
