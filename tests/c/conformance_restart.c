/* Supervision: a block that fails is restarted alone, after its backoff, as often as it may; what becomes of its messages,
 * its callers and its state; what every verb does in the meantime. */
#include "fixture.h"

#define HOUR MS(3600000)

static uint32_t mode, flags;
static int hosted; /* on a device on_start and on_stop are not called: they are functions of the host */

enum { COUNT, FAIL, SILENT, OTHER, OLD_CONTEXT, EMIT_AND_FAIL };

/* What the handlers did; one kernel at a time. */
static int starts[4], stops[4], starts_to_fail;
static void *old_context;
static rk_status_t old_status;

static rk_status_t on_phoenix(rk_context_t *ctx, const rk_message_t *message) {
  uint64_t *count = (uint64_t *)rk_context_state(ctx);
  rk_message_t reply = check_message(count, sizeof *count);
  int i;
  ++*count;
  switch (message->type) {
    case FAIL: return RK_ERR_KERNEL_FAILED;
    case SILENT: return RK_OK;
    case OTHER: return 77;
    case OLD_CONTEXT:
      if (old_context) old_status = rk_context_reply((rk_context_t *)old_context, &reply);
      old_context = ctx;
      break;
    case EMIT_AND_FAIL:
      for (i = 0; i < 5; i++) rk_context_emit(ctx, message);
      return RK_ERR_KERNEL_FAILED;
    default: break;
  }
  return rk_context_reply(ctx, &reply);
}

static rk_status_t on_start(rk_context_t *ctx) {
  const uint64_t *count = (const uint64_t *)rk_context_state(ctx);
  if (*count != 0) return 1000; /* the state is zero before every start */
  if (starts_to_fail > 0) {
    starts_to_fail--;
    return 55;
  }
  __atomic_fetch_add(&starts[rk_context_block(ctx)], 1, __ATOMIC_SEQ_CST);
  return RK_OK;
}

static void on_stop(rk_context_t *ctx) { __atomic_fetch_add(&stops[rk_context_block(ctx)], 1, __ATOMIC_SEQ_CST); }

static int started(int block) { return __atomic_load_n(&starts[block], __ATOMIC_SEQ_CST); }
static int stopped(int block) { return __atomic_load_n(&stops[block], __ATOMIC_SEQ_CST); }

static rk_runtime_t *runtime_with_phoenix(void) {
  rk_runtime_t *runtime = make_runtime(2);
  rk_program_t program = RK_PROGRAM_INIT;
  hosted = runtime && backend_of(runtime) == RK_BACKEND_CPU;
  memset(starts, 0, sizeof starts);
  memset(stops, 0, sizeof stops);
  starts_to_fail = 0;
  if (add_program(runtime, "phoenix", on_phoenix, sizeof(uint64_t), NULL) != RK_OK) return NULL;
  program.name = "starter";
  program.on_message = on_phoenix;
  program.on_start = on_start;
  program.on_stop = on_stop;
  program.state_size = sizeof(uint64_t);
  return rk_program_register(runtime, &program) == RK_OK ? runtime : NULL;
}

static rk_launch_options_t restarting(const char *program, uint32_t most, uint64_t backoff_ns) {
  rk_launch_options_t options = options_for(program, mode);
  options.flags = flags;
  options.restart = RK_RESTART_ON_FAILURE;
  options.restart_max = most;
  options.restart_backoff_ns = backoff_ns;
  return options;
}

static rk_message_t of_type(uint32_t type) {
  rk_message_t message = check_message("payload", 7);
  message.type = type;
  return message;
}

static rk_status_t send(rk_kernel_t kernel, uint32_t type) {
  rk_message_t message = of_type(type);
  return rk_send(kernel, &message, RK_FOREVER);
}

/* A call's status; the count that it was answered with. */
static rk_status_t call(rk_kernel_t kernel, uint32_t type, uint64_t timeout_ns, uint64_t *count) {
  rk_message_t reply, message = of_type(type);
  rk_status_t status = rk_call(kernel, &message, &reply, timeout_ns);
  if (status != RK_OK) return status;
  if (count) memcpy(count, reply.payload, sizeof *count);
  return rk_release(&reply);
}

static uint32_t restarts_of(rk_kernel_t kernel) {
  rk_kernel_status_t status = RK_KERNEL_STATUS_INIT;
  return rk_kernel_status(kernel, &status) == RK_OK ? status.restarts : 9999;
}

/* Takes `count` dead letters; how many had this reason. */
static int letters(rk_runtime_t *runtime, int count, uint32_t reason) {
  int matching = 0;
  while (count-- > 0) {
    rk_dead_letter_t letter;
    if (rk_receive_dead_letter(runtime, &letter, MS(20000)) != RK_OK) return -1;
    matching += letter.reason == reason;
    rk_release(&letter.message);
  }
  return matching;
}

static void a_block_that_fails_is_restarted_with_zeroed_state(void) {
  rk_runtime_t *runtime = runtime_with_phoenix();
  rk_launch_options_t options = restarting("phoenix", 100, 0);
  rk_kernel_t kernel;
  uint64_t count = 0;
  int i;
  rk_runtime_metrics_t totals = RK_RUNTIME_METRICS_INIT;
  OK(rk_launch(runtime, "k", &options, &kernel));
  for (i = 1; i <= 20; i++) {
    rk_dead_letter_t letter;
    rk_message_t message = of_type(FAIL), reply;
    OK(call(kernel, COUNT, RK_FOREVER, &count));
    CHECK(count == 1);
    OK(call(kernel, COUNT, RK_FOREVER, &count));
    CHECK(count == 2);
    message.correlation = 1234;
    CHECK_STATUS(rk_call(kernel, &message, &reply, RK_FOREVER), RK_ERR_KERNEL_FAILED);
    OK(rk_receive_dead_letter(runtime, &letter, RK_FOREVER));
    CHECK(letter.reason == RK_DEAD_HANDLER && letter.status == RK_ERR_KERNEL_FAILED && letter.kernel.id == kernel.id);
    CHECK(letter.message.correlation == 1234 && letter.message.payload_size == 7 && letter.message.type == FAIL);
    OK(rk_release(&letter.message));
    UNTIL(restarts_of(kernel) == (uint32_t)i);
    CHECK(state_of(kernel) == RK_STATE_ACTIVE && metrics_of(kernel).last_error == RK_ERR_KERNEL_FAILED);
  }
  UNTIL(metrics_of(kernel).messages_processed == 40);
  CHECK(metrics_of(kernel).restarts == 20 && metrics_of(kernel).messages_failed == 20);
  CHECK(metrics_of(kernel).dead_letters == 20);
  OK(rk_destroy(kernel));
  OK(rk_metrics(runtime, &totals));
  CHECK(totals.restarts == 20 && totals.messages_failed == 20 && totals.messages_processed == 40);
  OK(rk_runtime_destroy(runtime));
}

static void only_kernel_failed_restarts(void) {
  rk_runtime_t *runtime = runtime_with_phoenix();
  rk_launch_options_t options = restarting("phoenix", 100, 0);
  rk_kernel_t kernel;
  uint64_t count = 0;
  OK(rk_launch(runtime, "k", &options, &kernel));
  CHECK_STATUS(call(kernel, OTHER, RK_FOREVER, NULL), 77);
  OK(call(kernel, COUNT, RK_FOREVER, &count));
  CHECK(count == 2 && restarts_of(kernel) == 0);
  OK(rk_runtime_destroy(runtime));
}

static void what_is_queued_behind_a_failure_is_kept_and_handled_in_order(void) {
  rk_runtime_t *runtime = runtime_with_phoenix();
  rk_launch_options_t options = restarting("phoenix", 100, MS(5));
  rk_kernel_t kernel;
  rk_message_t out;
  uint64_t i, count;
  options.flags |= RK_LAUNCH_SUSPENDED;
  OK(rk_launch(runtime, "k", &options, &kernel));
  for (i = 1; i <= 40; i++) {
    rk_message_t message = of_type(i % 4 == 0 ? FAIL : COUNT);
    message.correlation = i;
    OK(rk_send(kernel, &message, 0));
  }
  OK(rk_activate(kernel));
  for (i = 1; i <= 40; i++) {
    if (i % 4 == 0) continue;
    OK(rk_receive(kernel, &out, RK_FOREVER));
    memcpy(&count, out.payload, sizeof count);
    CHECK(out.correlation == i && count == i % 4);
    OK(rk_release(&out));
  }
  CHECK(letters(runtime, 10, RK_DEAD_HANDLER) == 10);
  UNTIL(restarts_of(kernel) == 10);
  CHECK(metrics_of(kernel).input_queue_depth == 0);
  OK(rk_runtime_destroy(runtime));
}

static void starts_and_stops_come_in_pairs_around_restarts(void) {
  rk_runtime_t *runtime = runtime_with_phoenix();
  rk_launch_options_t options = restarting("starter", 100, MS(1));
  rk_kernel_t kernel;
  uint64_t count = 0;
  int i;
  OK(rk_launch(runtime, "k", &options, &kernel));
  for (i = 1; i <= 10; i++) {
    OK(call(kernel, COUNT, RK_FOREVER, &count));
    CHECK(count == 1 && started(0) == i && stopped(0) == i - 1);
    CHECK_STATUS(call(kernel, FAIL, RK_FOREVER, NULL), RK_ERR_KERNEL_FAILED);
    UNTIL(stopped(0) == i);
  }
  OK(rk_terminate(kernel, RK_FOREVER));
  CHECK(started(0) == stopped(0));
  OK(rk_runtime_destroy(runtime));
}

static void a_restart_waits_for_its_backoff_and_costs_nothing_meanwhile(void) {
  rk_runtime_t *runtime = runtime_with_phoenix();
  rk_launch_options_t options = restarting("phoenix", 100, MS(300));
  rk_kernel_t kernel;
  uint64_t began, count = 0, invocations, woken;
  OK(rk_launch(runtime, "k", &options, &kernel));
  OK(call(kernel, COUNT, RK_FOREVER, &count));
  began = check_now();
  CHECK_STATUS(call(kernel, FAIL, RK_FOREVER, NULL), RK_ERR_KERNEL_FAILED);
  CHECK_STATUS(call(kernel, SILENT, MS(20), NULL), RK_ERR_TIMEOUT);
  OK(send(kernel, SILENT));
  CHECK(metrics_of(kernel).input_queue_depth == 2 || check_now() - began >= MS(300));
  CHECK(state_of(kernel) == RK_STATE_ACTIVE);
  invocations = metrics_of(kernel).invocations;
  check_sleep_ms(100);
  woken = metrics_of(kernel).invocations - invocations;
  CHECK(woken <= 2 || check_now() - began >= MS(300));
  OK(call(kernel, COUNT, RK_FOREVER, &count));
  CHECK(check_now() - began >= MS(300) && count == 3 && restarts_of(kernel) == 1);
  OK(rk_runtime_destroy(runtime));
}

static void terminate_during_a_backoff_finishes_what_is_queued_at_once(void) {
  rk_runtime_t *runtime = runtime_with_phoenix();
  rk_launch_options_t options = restarting("starter", 100, HOUR);
  rk_kernel_t kernel;
  rk_message_t out;
  uint64_t i, count;
  OK(rk_launch(runtime, "k", &options, &kernel));
  CHECK_STATUS(call(kernel, FAIL, RK_FOREVER, NULL), RK_ERR_KERNEL_FAILED);
  for (i = 1; i <= 3; i++) OK(send(kernel, COUNT));
  OK(send(kernel, FAIL)); /* one more, while it drains: restarted without a backoff */
  OK(send(kernel, COUNT));
  OK(rk_terminate(kernel, RK_FOREVER));
  for (i = 1; i <= 4; i++) {
    OK(rk_receive(kernel, &out, 0));
    memcpy(&count, out.payload, sizeof count);
    CHECK(count == (i == 4 ? 1 : i));
    OK(rk_release(&out));
  }
  CHECK(letters(runtime, 2, RK_DEAD_HANDLER) == 2 && restarts_of(kernel) == 2);
  CHECK(!hosted || (started(0) == 3 && stopped(0) == 3));
  OK(rk_runtime_destroy(runtime));
}

static void a_start_that_fails_in_a_drain_is_not_tried_again(void) {
  rk_runtime_t *runtime = runtime_with_phoenix();
  rk_launch_options_t options = restarting("starter", UINT32_MAX, HOUR);
  rk_kernel_t kernel;
  OK(rk_launch(runtime, "k", &options, &kernel));
  CHECK_STATUS(call(kernel, FAIL, RK_FOREVER, NULL), RK_ERR_KERNEL_FAILED);
  UNTIL(stopped(0) == 1);
  starts_to_fail = 1000000;
  OK(send(kernel, COUNT));
  OK(send(kernel, COUNT));
  OK(rk_terminate(kernel, RK_FOREVER));
  CHECK(starts_to_fail == 999999 && state_of(kernel) == RK_STATE_TERMINATED);
  CHECK(letters(runtime, 1, RK_DEAD_HANDLER) == 1 && letters(runtime, 2, RK_DEAD_TERMINATED) == 2);
  OK(rk_runtime_destroy(runtime));
}

static void deactivate_destroy_and_shutdown_do_not_wait_for_a_backoff(void) {
  rk_runtime_t *runtime = runtime_with_phoenix();
  rk_launch_options_t options = restarting("phoenix", 100, HOUR);
  rk_kernel_t paused, destroyed, left;
  uint64_t began = check_now();
  OK(rk_launch(runtime, "paused", &options, &paused));
  OK(rk_launch(runtime, "destroyed", &options, &destroyed));
  OK(rk_launch(runtime, "left", &options, &left));
  CHECK_STATUS(call(paused, FAIL, RK_FOREVER, NULL), RK_ERR_KERNEL_FAILED);
  CHECK_STATUS(call(destroyed, FAIL, RK_FOREVER, NULL), RK_ERR_KERNEL_FAILED);
  CHECK_STATUS(call(left, FAIL, RK_FOREVER, NULL), RK_ERR_KERNEL_FAILED);
  CHECK(letters(runtime, 3, RK_DEAD_HANDLER) == 3);
  OK(rk_deactivate(paused));
  CHECK(state_of(paused) == RK_STATE_DEACTIVATED);
  OK(send(paused, COUNT));
  OK(rk_activate(paused));
  OK(rk_deactivate(paused));
  OK(rk_terminate(paused, RK_FOREVER)); /* nothing to drain with: dead letters */
  CHECK(letters(runtime, 1, RK_DEAD_TERMINATED) == 1 && restarts_of(paused) == 0);
  rk_destroy(destroyed);
  CHECK(state_of(destroyed) == 99);
  OK(rk_runtime_shutdown(runtime, MS(20000)));
  CHECK(restarts_of(left) == 1 && state_of(left) == RK_STATE_TERMINATED);
  OK(rk_runtime_destroy(runtime));
  CHECK(check_now() - began < MS(60000));
}

static long resident_kb(void) { return resident_bytes() / 1024; }

/* The timer of a long backoff ends with its kernel. */
static void lesson_09_kernels_that_end_in_their_backoff_leave_nothing_behind(void) {
  rk_runtime_t *runtime = runtime_with_phoenix();
  rk_launch_options_t options = restarting("phoenix", 100, HOUR);
  rk_dead_letter_t letter;
  rk_kernel_t kernel;
  long before = 0;
  int i, rounds = check_slow() ? 100 : 30000;
  options.input_queue_capacity = options.output_queue_capacity = 2; /* kernels that are about to be freed are small */
  for (i = 0; i < rounds; i++) {
    OK(rk_launch(runtime, "k", &options, &kernel));
    CHECK_STATUS(call(kernel, FAIL, RK_FOREVER, NULL), RK_ERR_KERNEL_FAILED);
    OK(rk_receive_dead_letter(runtime, &letter, RK_FOREVER));
    OK(rk_release(&letter.message));
    OK(rk_terminate(kernel, RK_FOREVER));
    OK(rk_destroy(kernel));
    if (i == rounds / 10) before = resident_kb();
  }
  if (!check_slow()) CHECK(resident_kb() - before < 4096);
  OK(rk_runtime_destroy(runtime));
}

static void a_backoff_that_ends_in_a_pause_starts_with_the_activation(void) {
  rk_runtime_t *runtime = runtime_with_phoenix();
  rk_launch_options_t options = restarting("starter", 100, MS(20));
  rk_kernel_t kernel;
  uint64_t count = 0;
  OK(rk_launch(runtime, "k", &options, &kernel));
  CHECK_STATUS(call(kernel, FAIL, RK_FOREVER, NULL), RK_ERR_KERNEL_FAILED);
  OK(rk_deactivate(kernel));
  OK(send(kernel, SILENT));
  UNTIL(restarts_of(kernel) == 1);
  check_sleep_ms(20);
  CHECK((!hosted || started(0) == 1) && metrics_of(kernel).input_queue_depth == 1);
  OK(rk_activate(kernel));
  OK(call(kernel, COUNT, RK_FOREVER, &count));
  CHECK(count == 2 && (!hosted || started(0) == 2));
  OK(rk_runtime_destroy(runtime));
}

static void past_the_limit_the_kernel_is_failed_and_can_be_read_and_destroyed(void) {
  rk_runtime_t *runtime = runtime_with_phoenix();
  rk_launch_options_t options = restarting("starter", 2, 0);
  rk_kernel_status_t status = RK_KERNEL_STATUS_INIT;
  rk_kernel_t kernel, again;
  rk_message_t out;
  int i;
  options.flags |= RK_LAUNCH_SUSPENDED;
  OK(rk_launch(runtime, "k", &options, &kernel));
  OK(send(kernel, COUNT));
  for (i = 0; i < 3; i++) OK(send(kernel, FAIL));
  for (i = 0; i < 4; i++) OK(send(kernel, COUNT));
  OK(rk_activate(kernel));
  CHECK_STATUS(rk_wait(kernel, RK_FOREVER), RK_ERR_KERNEL_FAILED);
  CHECK(letters(runtime, 7, RK_DEAD_HANDLER) == 7);
  UNTIL(!hosted || stopped(0) == 3);
  OK(rk_kernel_status(kernel, &status));
  CHECK(status.state == RK_STATE_FAILED && status.restarts == 2 && status.last_error == RK_ERR_KERNEL_FAILED);
  CHECK((!hosted || started(0) == 3) && status.messages_processed == 1);
  CHECK_STATUS(send(kernel, COUNT), RK_ERR_KERNEL_FAILED);
  CHECK_STATUS(call(kernel, COUNT, RK_FOREVER, NULL), RK_ERR_KERNEL_FAILED);
  CHECK_STATUS(rk_activate(kernel), RK_ERR_KERNEL_FAILED);
  OK(rk_receive(kernel, &out, 0));
  OK(rk_release(&out));
  CHECK_STATUS(rk_receive(kernel, &out, 0), RK_ERR_KERNEL_FAILED);
  OK(rk_terminate(kernel, RK_FOREVER));
  OK(rk_launch(runtime, "k", &options, &again));
  OK(rk_destroy(kernel));
  OK(rk_runtime_destroy(runtime));
}

static void restarts_of_long_ago_do_not_count(void) {
  rk_runtime_t *runtime = runtime_with_phoenix();
  rk_launch_options_t options = restarting("phoenix", 1, 0);
  rk_kernel_t kernel;
  int i;
  options.restart_window_ns = MS(30);
  OK(rk_launch(runtime, "k", &options, &kernel));
  for (i = 1; i <= 4; i++) {
    CHECK_STATUS(call(kernel, FAIL, RK_FOREVER, NULL), RK_ERR_KERNEL_FAILED);
    UNTIL(restarts_of(kernel) == (uint32_t)i);
    check_sleep_ms(40);
  }
  CHECK(state_of(kernel) == RK_STATE_ACTIVE);
  OK(rk_destroy(kernel));
  /* The default is three in all. */
  options.restart_max = 0;
  options.restart_window_ns = 0;
  OK(rk_launch(runtime, "k", &options, &kernel));
  for (i = 0; i < 3; i++) OK(send(kernel, FAIL));
  UNTIL(restarts_of(kernel) == 3);
  CHECK(state_of(kernel) == RK_STATE_ACTIVE);
  OK(send(kernel, FAIL));
  CHECK_STATUS(rk_wait(kernel, RK_FOREVER), RK_ERR_KERNEL_FAILED);
  OK(rk_runtime_destroy(runtime));
}

static void a_start_that_fails_counts_as_a_failure(void) {
  rk_runtime_t *runtime = runtime_with_phoenix();
  rk_launch_options_t options = restarting("starter", 5, MS(1));
  rk_kernel_t kernel;
  uint64_t count = 0;
  OK(rk_launch(runtime, "k", &options, &kernel));
  OK(call(kernel, COUNT, RK_FOREVER, &count));
  starts_to_fail = 3;
  CHECK_STATUS(call(kernel, FAIL, RK_FOREVER, NULL), RK_ERR_KERNEL_FAILED);
  OK(call(kernel, COUNT, RK_FOREVER, &count));
  CHECK(count == 1 && restarts_of(kernel) == 4 && metrics_of(kernel).last_error == 55);
  CHECK(started(0) == 2 && stopped(0) == 1 && metrics_of(kernel).dead_letters == 1);
  starts_to_fail = 100;
  CHECK_STATUS(call(kernel, FAIL, RK_FOREVER, NULL), RK_ERR_KERNEL_FAILED);
  CHECK_STATUS(rk_wait(kernel, RK_FOREVER), RK_ERR_KERNEL_FAILED);
  CHECK(restarts_of(kernel) == 5 && starts_to_fail == 99);
  OK(rk_destroy(kernel));
  CHECK(stopped(0) == 2);
  /* The first start, too. */
  starts_to_fail = 1;
  OK(rk_launch(runtime, "k", &options, &kernel));
  OK(call(kernel, COUNT, RK_FOREVER, &count));
  CHECK(count == 1 && restarts_of(kernel) == 1);
  OK(rk_runtime_destroy(runtime));
}

static rk_kernel_t called;
static void *wait_in_vain(void *result) {
  *(rk_status_t *)result = call(called, SILENT, RK_FOREVER, NULL);
  return NULL;
}

static void callers_that_wait_for_a_failed_incarnation_are_told(void) {
  rk_runtime_t *runtime = runtime_with_phoenix();
  rk_launch_options_t options = restarting("phoenix", 100, MS(5));
  pthread_t callers[3];
  rk_status_t results[3] = {1, 1, 1};
  uint64_t count = 0;
  int i;
  OK(rk_launch(runtime, "k", &options, &called));
  for (i = 0; i < 3; i++) pthread_create(&callers[i], NULL, wait_in_vain, &results[i]);
  UNTIL(metrics_of(called).messages_processed == 3);
  OK(send(called, FAIL));
  for (i = 0; i < 3; i++) {
    pthread_join(callers[i], NULL);
    CHECK(results[i] == RK_ERR_KERNEL_FAILED);
  }
  OK(call(called, COUNT, RK_FOREVER, &count));
  CHECK(count == 1);
  OK(rk_runtime_destroy(runtime));
}

static void a_context_of_before_names_nothing(void) {
  rk_runtime_t *runtime = runtime_with_phoenix();
  rk_launch_options_t options = restarting("phoenix", 100, 0);
  rk_kernel_t kernel;
  old_context = NULL;
  old_status = RK_OK;
  OK(rk_launch(runtime, "k", &options, &kernel));
  OK(call(kernel, OLD_CONTEXT, RK_FOREVER, NULL));
  CHECK_STATUS(call(kernel, FAIL, RK_FOREVER, NULL), RK_ERR_KERNEL_FAILED);
  OK(call(kernel, OLD_CONTEXT, RK_FOREVER, NULL));
  CHECK(old_status == RK_ERR_INVALID_HANDLE);
  OK(rk_runtime_destroy(runtime));
}

static void blocks_fail_and_restart_without_the_others(void) {
  rk_runtime_t *runtime = runtime_with_phoenix();
  rk_launch_options_t options = restarting("starter", 100, HOUR);
  rk_message_t reply, message = of_type(COUNT);
  rk_kernel_t kernel;
  uint64_t count;
  int round;
  options.grid_size = 4;
  OK(rk_launch(runtime, "k", &options, &kernel));
  for (message.block = 0; message.block < 4; message.block++) {
    OK(rk_call(kernel, &message, &reply, RK_FOREVER));
    OK(rk_release(&reply));
  }
  message.type = FAIL;
  message.block = 2;
  CHECK_STATUS(rk_call(kernel, &message, &reply, RK_FOREVER), RK_ERR_KERNEL_FAILED);
  message.type = COUNT;
  OK(rk_send(kernel, &message, 0));
  for (round = 2; round < 50; round++) {
    for (message.block = 0; message.block < 4; message.block++) {
      if (message.block == 2) continue;
      OK(rk_call(kernel, &message, &reply, RK_FOREVER));
      memcpy(&count, reply.payload, sizeof count);
      CHECK(count == (uint64_t)round);
      OK(rk_release(&reply));
    }
  }
  CHECK(state_of(kernel) == RK_STATE_ACTIVE && metrics_of(kernel).input_queue_depth == 1);
  /* Where there is a choice the others get it. */
  for (round = 0; round < 40; round++) {
    message.block = RK_ANY_BLOCK;
    OK(rk_call(kernel, &message, &reply, RK_FOREVER));
    CHECK(reply.block != 2);
    OK(rk_release(&reply));
  }
  CHECK(!hosted || (started(2) == 1 && stopped(2) == 1 && stopped(0) + stopped(1) + stopped(3) == 0));
  OK(rk_terminate(kernel, RK_FOREVER));
  OK(rk_receive(kernel, &reply, 0));
  memcpy(&count, reply.payload, sizeof count);
  CHECK(count == 1);
  OK(rk_release(&reply));
  CHECK(!hosted || (started(2) == 2 && stopped(2) == 2 && started(0) == 1 && stopped(0) == 1));
  OK(rk_runtime_destroy(runtime));
}

static void what_a_handler_said_before_it_failed_is_said(void) {
  rk_runtime_t *runtime = runtime_with_phoenix();
  rk_launch_options_t options = restarting("phoenix", 100, MS(1));
  rk_kernel_t kernel;
  rk_message_t out;
  int i;
  options.output_queue_capacity = 2; /* three are kept */
  OK(rk_launch(runtime, "k", &options, &kernel));
  OK(send(kernel, EMIT_AND_FAIL));
  UNTIL(restarts_of(kernel) == 1);
  OK(send(kernel, COUNT));
  for (i = 0; i < 6; i++) {
    OK(rk_receive(kernel, &out, RK_FOREVER));
    CHECK(out.payload_size == (i < 5 ? 7 : 8));
    OK(rk_release(&out));
  }
  OK(rk_runtime_destroy(runtime));
}

static void without_the_policy_the_first_failure_fails_the_kernel(void) {
  rk_runtime_t *runtime = runtime_with_phoenix();
  rk_launch_options_t options = restarting("starter", 100, 0);
  rk_kernel_t kernel;
  options.restart = RK_RESTART_NEVER;
  OK(rk_launch(runtime, "k", &options, &kernel));
  CHECK_STATUS(call(kernel, FAIL, RK_FOREVER, NULL), RK_ERR_KERNEL_FAILED);
  CHECK_STATUS(rk_wait(kernel, RK_FOREVER), RK_ERR_KERNEL_FAILED);
  CHECK(restarts_of(kernel) == 0);
  UNTIL(!hosted || stopped(0) == 1);
  OK(rk_runtime_destroy(runtime));
}

int main(int argc, char **argv) {
  fixture_unused();
  for (mode = RK_MODE_PERSISTENT; mode <= RK_MODE_EVENT_DRIVEN; mode++) {
    for (flags = 0; flags <= RK_LAUNCH_NO_HELP; flags += RK_LAUNCH_NO_HELP) {
      printf("mode %u, flags %u\n", mode, flags);
      RUN(a_block_that_fails_is_restarted_with_zeroed_state);
      RUN(only_kernel_failed_restarts);
      RUN(what_is_queued_behind_a_failure_is_kept_and_handled_in_order);
      RUN(starts_and_stops_come_in_pairs_around_restarts);
      RUN(a_restart_waits_for_its_backoff_and_costs_nothing_meanwhile);
      RUN(terminate_during_a_backoff_finishes_what_is_queued_at_once);
      RUN(a_start_that_fails_in_a_drain_is_not_tried_again);
      RUN(deactivate_destroy_and_shutdown_do_not_wait_for_a_backoff);
      RUN(lesson_09_kernels_that_end_in_their_backoff_leave_nothing_behind);
      RUN(a_backoff_that_ends_in_a_pause_starts_with_the_activation);
      RUN(past_the_limit_the_kernel_is_failed_and_can_be_read_and_destroyed);
      RUN(restarts_of_long_ago_do_not_count);
      RUN(a_start_that_fails_counts_as_a_failure);
      RUN(callers_that_wait_for_a_failed_incarnation_are_told);
      RUN(a_context_of_before_names_nothing);
      RUN(blocks_fail_and_restart_without_the_others);
      RUN(what_a_handler_said_before_it_failed_is_said);
      RUN(without_the_policy_the_first_failure_fails_the_kernel);
    }
  }
  return check_result();
}
