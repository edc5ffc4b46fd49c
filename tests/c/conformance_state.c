/* States: verbs while terminating, who is told when a kernel ends, pauses of several blocks, defaults. */
#include "fixture.h"

static uint32_t mode;
static gate_t gate;
static rk_kernel_t target;

static rk_kernel_t launched(rk_runtime_t *runtime, const char *id, const char *program, uint32_t flags) {
  rk_launch_options_t options = options_for(program, mode);
  rk_kernel_t kernel = {0};
  options.flags = flags;
  options.input_queue_capacity = 2;
  rk_launch(runtime, id, &options, &kernel);
  return kernel;
}

/* As on_gate, then emits the message. */
static rk_status_t on_gate_emit(rk_context_t *ctx, const rk_message_t *message) {
  rk_status_t status = on_gate(ctx, message);
  return status == RK_OK ? rk_context_emit(ctx, message) : status;
}

/* As on_gate, then fails its kernel. */
static rk_status_t on_gate_fail(rk_context_t *ctx, const rk_message_t *message) {
  on_gate(ctx, message);
  return RK_ERR_KERNEL_FAILED;
}

static void lesson_11_every_verb_while_terminating(void) {
  rk_runtime_t *runtime = make_runtime(2);
  rk_launch_options_t options = options_for("gate", mode);
  rk_runtime_metrics_t totals = RK_RUNTIME_METRICS_INIT;
  rk_message_t out, message = check_message("m", 1);
  rk_kernel_t echo, found, list[4];
  rk_loan_t loan;
  size_t count = 9;
  gate_init(&gate);
  OK(add_program(runtime, "gate", on_gate, 0, &gate));
  target = launched(runtime, "k", "gate", 0);
  echo = launched(runtime, "echo", NULL, 0);
  OK(rk_send(target, &message, 0));
  gate_await_inside(&gate, 1);
  CHECK_STATUS(rk_terminate(target, MS(5)), RK_ERR_TIMEOUT);
  CHECK(state_of(target) == RK_STATE_TERMINATING);
  CHECK_STATUS(rk_activate(target), RK_ERR_INVALID_STATE);
  CHECK_STATUS(rk_deactivate(target), RK_ERR_INVALID_STATE);
  CHECK_STATUS(rk_send(target, &message, 0), RK_ERR_TERMINATED);
  CHECK_STATUS(rk_send(target, &message, RK_FOREVER), RK_ERR_TERMINATED);
  CHECK_STATUS(rk_send_batch(target, &message, 1, RK_FOREVER, &count), RK_ERR_TERMINATED);
  CHECK(count == 0);
  CHECK_STATUS(rk_call(target, &message, &out, RK_FOREVER), RK_ERR_TERMINATED);
  CHECK_STATUS(rk_reserve(target, 0, 1, RK_FOREVER, &loan), RK_ERR_TERMINATED);
  CHECK_STATUS(rk_reserve_batch(target, 0, 1, 1, RK_FOREVER, &loan, &count), RK_ERR_TERMINATED);
  CHECK_STATUS(rk_receive(target, &out, 0), RK_ERR_EMPTY);
  CHECK_STATUS(rk_receive(target, &out, MS(5)), RK_ERR_TIMEOUT);
  CHECK_STATUS(rk_wait(target, 0), RK_ERR_TIMEOUT);
  CHECK_STATUS(rk_terminate(target, MS(5)), RK_ERR_TIMEOUT);
  /* It has not ended: its id is taken and it is among the live ones. */
  CHECK_STATUS(rk_launch(runtime, "k", &options, &found), RK_ERR_ALREADY_EXISTS);
  OK(rk_get(runtime, "k", &found));
  CHECK(found.id == target.id);
  OK(rk_list(runtime, list, 4, &count));
  CHECK(count == 2 && list[0].id == target.id && list[1].id == echo.id);
  OK(rk_metrics(runtime, &totals));
  CHECK(totals.active_kernels == 2);
  CHECK(works(echo));
  gate_open(&gate);
  OK(rk_wait(target, RK_FOREVER));
  OK(rk_launch(runtime, "k", &options, &found));
  OK(rk_runtime_destroy(runtime));
}

static rk_message_t received;

static void *receive_it(void *argument) {
  static rk_status_t status;
  (void)argument;
  status = rk_receive(target, &received, RK_FOREVER);
  return &status;
}

static void what_a_terminating_kernel_still_emits_is_received(void) {
  rk_runtime_t *runtime = make_runtime(2);
  rk_message_t out, message = check_message("last words", 10);
  pthread_t thread;
  void *status;
  gate_init(&gate);
  OK(add_program(runtime, "gate", on_gate_emit, 0, &gate));
  target = launched(runtime, "k", "gate", 0);
  OK(rk_send(target, &message, 0));
  gate_await_inside(&gate, 1);
  CHECK_STATUS(rk_terminate(target, MS(5)), RK_ERR_TIMEOUT);
  CHECK(pthread_create(&thread, NULL, receive_it, NULL) == 0);
  check_sleep_ms(20);
  gate_open(&gate);
  CHECK(pthread_join(thread, &status) == 0);
  OK(*(rk_status_t *)status);
  CHECK(received.payload_size == 10 && memcmp(received.payload, "last words", 10) == 0);
  OK(rk_release(&received));
  CHECK_STATUS(rk_receive(target, &out, RK_FOREVER), RK_ERR_TERMINATED);
  CHECK_STATUS(rk_receive(target, &out, 0), RK_ERR_TERMINATED);
  OK(rk_runtime_destroy(runtime));
}

/* Emits three messages, then fails its kernel. */
static rk_status_t on_emit_and_fail(rk_context_t *ctx, const rk_message_t *message) {
  int i;
  for (i = 0; i < 3; i++) {
    if (rk_context_emit(ctx, message) != RK_OK) return 1;
  }
  return RK_ERR_KERNEL_FAILED;
}

static void a_failed_kernel_gives_out_what_it_had_emitted(void) {
  rk_runtime_t *runtime = make_runtime(1);
  rk_message_t out, message = check_message("m", 1);
  size_t count = 9;
  int i;
  OK(add_program(runtime, "fails", on_emit_and_fail, 0, NULL));
  target = launched(runtime, "k", "fails", 0);
  OK(rk_send(target, &message, 0));
  CHECK_STATUS(rk_wait(target, RK_FOREVER), RK_ERR_KERNEL_FAILED);
  CHECK(state_of(target) == RK_STATE_FAILED);
  for (i = 0; i < 3; i++) {
    OK(rk_receive(target, &out, 0));
    OK(rk_release(&out));
  }
  CHECK_STATUS(rk_receive(target, &out, 0), RK_ERR_KERNEL_FAILED);
  CHECK_STATUS(rk_receive(target, &out, RK_FOREVER), RK_ERR_KERNEL_FAILED);
  CHECK_STATUS(rk_receive_batch(target, &out, 1, RK_FOREVER, &count), RK_ERR_KERNEL_FAILED);
  OK(rk_terminate(target, 0));
  CHECK_STATUS(rk_receive(target, &out, 0), RK_ERR_TERMINATED);
  OK(rk_wait(target, 0));
  OK(rk_runtime_destroy(runtime));
}

enum { WAITERS = 7 };
static rk_status_t told[WAITERS];

/* One that waits, without a limit, for a kernel whose input queue is full and whose output queue is empty. */
static void *wait_in_some_way(void *argument) {
  uintptr_t way = (uintptr_t)argument;
  rk_message_t out, message = check_message("w", 1);
  rk_loan_t loan;
  size_t count;
  switch (way) {
    case 0: told[way] = rk_receive(target, &out, RK_FOREVER); break;
    case 1: told[way] = rk_receive_batch(target, &out, 1, RK_FOREVER, &count); break;
    case 2: told[way] = rk_send(target, &message, RK_FOREVER); break;
    case 3: told[way] = rk_send_batch(target, &message, 1, RK_FOREVER, &count); break;
    case 4: told[way] = rk_reserve(target, 0, 1, RK_FOREVER, &loan); break;
    case 5: told[way] = rk_call(target, &message, &out, RK_FOREVER); break;
    default: told[way] = rk_wait(target, RK_FOREVER); break;
  }
  return NULL;
}

enum { BY_TERMINATE, BY_FAILURE, BY_DESTROY, BY_SHUTDOWN, BY_RUNTIME_DESTROY, ENDS };

static int told_as(int way, int end) {
  rk_status_t status = told[way];
  int waits = way == WAITERS - 1; /* rk_wait */
  switch (end) {
    case BY_FAILURE: return status == RK_ERR_KERNEL_FAILED;
    case BY_TERMINATE:
    case BY_SHUTDOWN: return status == (waits ? RK_OK : RK_ERR_TERMINATED);
    default: return status == RK_ERR_TERMINATED || status == RK_ERR_INVALID_HANDLE || (waits && status == RK_OK);
  }
}

static void everyone_who_waits_is_told_when_the_kernel_ends(void) {
  int end;
  for (end = 0; end < ENDS; end++) {
    rk_runtime_t *runtime = make_runtime(2);
    rk_message_t message = check_message("m", 1);
    pthread_t threads[WAITERS];
    uintptr_t way;
    rk_status_t status = RK_OK;
    gate_init(&gate);
    OK(add_program(runtime, "fails", on_gate_fail, 0, &gate));
    target = launched(runtime, "k", "fails", end == BY_FAILURE ? RK_LAUNCH_NO_HELP : RK_LAUNCH_SUSPENDED);
    if (end == BY_FAILURE) {
      OK(rk_send(target, &message, 0));
      gate_await_inside(&gate, 1);
    }
    while ((status = rk_send(target, &message, 0)) == RK_OK) continue;
    CHECK_STATUS(status, RK_ERR_FULL);
    for (way = 0; way < WAITERS; way++) {
      told[way] = 77;
      CHECK(pthread_create(&threads[way], NULL, wait_in_some_way, (void *)way) == 0);
    }
    check_sleep_ms(30);
    for (way = 0; way < WAITERS; way++) CHECK(told[way] == 77); /* all of them wait */
    switch (end) {
      case BY_TERMINATE: status = rk_terminate(target, RK_FOREVER); break;
      case BY_FAILURE: gate_open(&gate), status = RK_OK; break;
      case BY_DESTROY: status = rk_destroy(target); break;
      case BY_SHUTDOWN: status = rk_runtime_shutdown(runtime, RK_FOREVER); break;
      default: status = rk_runtime_destroy(runtime); break;
    }
    CHECK(status == RK_OK || (end == BY_DESTROY && status == RK_ERR_TIMEOUT)); /* dead letters were made */
    for (way = 0; way < WAITERS; way++) {
      CHECK(pthread_join(threads[way], NULL) == 0);
      if (!told_as((int)way, end)) printf("way %d, end %d: %s\n", (int)way, end, rk_status_name(told[way]));
      CHECK(told_as((int)way, end));
    }
    if (end != BY_RUNTIME_DESTROY) OK(rk_runtime_destroy(runtime));
  }
}

static volatile int paused;

static void *pause_it(void *argument) {
  static rk_status_t status;
  (void)argument;
  status = rk_deactivate(target);
  paused = 1;
  return &status;
}

static void a_pause_waits_for_every_block_and_blocks_run_side_by_side(void) {
  rk_runtime_t *runtime = make_runtime(3);
  rk_launch_options_t options = options_for("gate", mode);
  rk_message_t message = check_message("m", 1);
  pthread_t thread;
  void *status;
  gate_init(&gate);
  OK(add_program(runtime, "gate", on_gate, 0, &gate));
  options.grid_size = 3;
  OK(rk_launch(runtime, "k", &options, &target));
  for (message.block = 0; message.block < 3; message.block++) {
    OK(rk_send(target, &message, 0));
    OK(rk_send(target, &message, 0));
  }
  gate_await_inside(&gate, 3); /* three workers, three blocks at once */
  paused = 0;
  CHECK(pthread_create(&thread, NULL, pause_it, NULL) == 0);
  check_sleep_ms(20);
  CHECK(!paused);
  gate_open(&gate);
  CHECK(pthread_join(thread, &status) == 0);
  OK(*(rk_status_t *)status);
  CHECK(gate.inside == 0 && gate.handled == 3 && state_of(target) == RK_STATE_DEACTIVATED);
  check_sleep_ms(20);
  CHECK(gate.handled == 3 && metrics_of(target).input_queue_depth == 3);
  OK(rk_activate(target));
  UNTIL(metrics_of(target).messages_processed == 6);
  OK(rk_runtime_destroy(runtime));
}

static void a_pause_that_meets_a_terminate_ends(void) {
  rk_runtime_t *runtime = make_runtime(2);
  rk_message_t message = check_message("m", 1);
  pthread_t thread;
  void *result;
  rk_status_t status;
  gate_init(&gate);
  OK(add_program(runtime, "gate", on_gate, 0, &gate));
  target = launched(runtime, "k", "gate", 0);
  OK(rk_send(target, &message, 0));
  gate_await_inside(&gate, 1);
  OK(rk_send(target, &message, 0));
  paused = 0;
  CHECK(pthread_create(&thread, NULL, pause_it, NULL) == 0);
  check_sleep_ms(10);
  CHECK_STATUS(rk_terminate(target, MS(5)), RK_ERR_TIMEOUT);
  gate_open(&gate);
  CHECK(pthread_join(thread, &result) == 0);
  status = *(rk_status_t *)result;
  CHECK(status == RK_ERR_INVALID_STATE); /* it was never true that no handler ran */
  OK(rk_wait(target, RK_FOREVER));
  CHECK(metrics_of(target).messages_processed + metrics_of(target).dead_letters == 2);
  OK(rk_runtime_destroy(runtime));
}

static void a_deactivated_kernel_leaves_what_is_queued_as_dead_letters_in_order(void) {
  rk_runtime_t *runtime = make_runtime(1);
  rk_launch_options_t options = options_for("echo", mode);
  rk_message_t out, message = check_message("m", 1);
  rk_dead_letter_t letter;
  uint64_t i;
  OK(rk_launch(runtime, "k", &options, &target));
  CHECK(works(target));
  OK(rk_deactivate(target));
  for (i = 1; i <= 100; i++) {
    message.correlation = i;
    message.type = (uint32_t)i * 3;
    OK(rk_send(target, &message, 0));
  }
  OK(rk_terminate(target, RK_FOREVER));
  for (i = 1; i <= 100; i++) {
    OK(rk_receive_dead_letter(runtime, &letter, 0));
    CHECK(letter.reason == RK_DEAD_TERMINATED && letter.message.correlation == i);
    CHECK(letter.message.type == i * 3 && letter.kernel.id == target.id);
    OK(rk_release(&letter.message));
  }
  CHECK_STATUS(rk_receive(target, &out, 0), RK_ERR_TERMINATED);
  OK(rk_runtime_destroy(runtime));
}

/* Emits as many messages as `type` says. */
static rk_status_t on_many(rk_context_t *ctx, const rk_message_t *message) {
  uint32_t i;
  for (i = 0; i < message->type; i++) {
    if (rk_context_emit(ctx, message) != RK_OK) return 1;
  }
  return RK_OK;
}

static void what_is_zero_in_the_options_is_the_default_the_header_names(void) {
  rk_runtime_t *runtime = make_runtime(1);
  rk_launch_options_t options = RK_LAUNCH_OPTIONS_INIT;
  rk_kernel_status_t status = RK_KERNEL_STATUS_INIT;
  static char bytes[193];
  rk_message_t message = check_message(bytes, 192), large = check_message(bytes, 193);
  rk_kernel_t kernel;
  int i;
  OK(add_program(runtime, "many", on_many, 0, NULL));
  OK(rk_launch(runtime, "echo", NULL, &kernel)); /* the id names the program */
  CHECK(works(kernel));
  OK(rk_kernel_status(kernel, &status));
  CHECK(status.mode == (status.backend == RK_BACKEND_CUDA ? RK_MODE_PERSISTENT : RK_MODE_EVENT_DRIVEN) &&
        status.grid_size == 1 && status.state == RK_STATE_ACTIVE);
  options.mode = mode;
  options.flags = RK_LAUNCH_SUSPENDED;
  OK(rk_launch(runtime, "count", &options, &kernel));
  for (i = 0; i < 1024; i++) OK(rk_send(kernel, &message, 0));
  CHECK_STATUS(rk_send(kernel, &message, 0), RK_ERR_FULL);
  CHECK_STATUS(rk_send(kernel, &large, 0), RK_ERR_TOO_LARGE);
  options.flags = 0;
  options.overflow = RK_OVERFLOW_DEAD_LETTER;
  OK(rk_launch(runtime, "many", &options, &kernel));
  message.type = 1025;
  OK(rk_send(kernel, &message, 0));
  UNTIL(metrics_of(kernel).messages_processed == 1);
  CHECK(metrics_of(kernel).output_queue_depth == 1024 && metrics_of(kernel).dead_letters == 1);
  OK(rk_runtime_destroy(runtime));
}

static void any_number_of_workers_will_do(void) {
  static const uint32_t workers[] = {0, 1, 2, 3, 16};
  size_t i;
  for (i = 0; i < sizeof workers / sizeof *workers; i++) {
    rk_runtime_t *runtime = make_runtime(workers[i]);
    rk_launch_options_t options = options_for("count", mode);
    rk_kernel_t kernels[4];
    char id[16];
    int k, round;
    CHECK(runtime != NULL);
    options.grid_size = 3;
    for (k = 0; k < 4; k++) {
      snprintf(id, sizeof id, "k%d", k);
      OK(rk_launch(runtime, id, &options, &kernels[k]));
    }
    for (round = 0; round < 60; round++) {
      rk_message_t reply, request = check_message("m", 1);
      request.block = (uint32_t)round % 3;
      OK(rk_call(kernels[round % 4], &request, &reply, RK_FOREVER));
      CHECK(((const counted_t *)reply.payload)->count == (uint64_t)round / 12 + 1);
      OK(rk_release(&reply));
    }
    OK(rk_runtime_destroy(runtime));
  }
}

int main(int argc, char **argv) {
  fixture_unused();
  for (mode = RK_MODE_PERSISTENT; mode <= RK_MODE_EVENT_DRIVEN; mode++) {
    printf("mode %u\n", mode);
    RUN(lesson_11_every_verb_while_terminating);
    RUN(what_a_terminating_kernel_still_emits_is_received);
    RUN(a_failed_kernel_gives_out_what_it_had_emitted);
    RUN(everyone_who_waits_is_told_when_the_kernel_ends);
    RUN(a_pause_waits_for_every_block_and_blocks_run_side_by_side);
    RUN(a_pause_that_meets_a_terminate_ends);
    RUN(a_deactivated_kernel_leaves_what_is_queued_as_dead_letters_in_order);
    RUN(what_is_zero_in_the_options_is_the_default_the_header_names);
    RUN(any_number_of_workers_will_do);
  }
  return check_result();
}
