/* Ends that run out of time, ends of paused kernels, pauses that somebody undoes. */
#include "fixture.h"

static uint32_t mode;
static gate_t gate;
static rk_kernel_t target;

/* Emits as many messages as `type` says. */
static rk_status_t on_burst(rk_context_t *ctx, const rk_message_t *message) {
  uint32_t i;
  for (i = 0; i < message->type; i++) {
    if (rk_context_emit(ctx, message) != RK_OK) return 1;
  }
  return RK_OK;
}

static int letters_of(rk_runtime_t *runtime) {
  rk_dead_letter_t letter;
  int count = 0;
  while (rk_receive_dead_letter(runtime, &letter, 0) == RK_OK) {
    count += letter.reason == RK_DEAD_TERMINATED && letter.status == RK_ERR_TERMINATED;
    rk_release(&letter.message);
  }
  return count;
}

/* A kernel that keeps 8 messages for which its output queue has no room, paused, with 3 more in its input. */
static rk_runtime_t *paused_with_output(void) {
  rk_runtime_t *runtime = make_runtime(1);
  rk_launch_options_t options = options_for("burst", mode);
  rk_message_t message = check_message("m", 1);
  int i;
  if (!runtime || add_program(runtime, "burst", on_burst, 0, NULL) != RK_OK) return NULL;
  options.output_queue_capacity = 2;
  if (rk_launch(runtime, "k", &options, &target) != RK_OK) return NULL;
  message.type = 10;
  if (rk_send(target, &message, 0) != RK_OK) return NULL;
  UNTIL(metrics_of(target).messages_processed == 1);
  if (rk_deactivate(target) != RK_OK) return NULL;
  message.type = 0;
  for (i = 0; i < 3; i++) {
    if (rk_send(target, &message, 0) != RK_OK) return NULL;
  }
  return runtime;
}

static void *terminate_it(void *argument) {
  static rk_status_t status;
  (void)argument;
  status = rk_terminate(target, RK_FOREVER);
  return &status;
}

static void a_paused_kernel_that_keeps_output_gives_its_input_up_at_once(void) {
  rk_runtime_t *runtime = paused_with_output();
  rk_message_t out;
  pthread_t thread;
  void *status;
  int i;
  CHECK(runtime != NULL);
  CHECK(pthread_create(&thread, NULL, terminate_it, NULL) == 0);
  UNTIL(metrics_of(target).dead_letters == 3);
  CHECK(letters_of(runtime) == 3);
  CHECK(state_of(target) == RK_STATE_TERMINATING); /* its output is not out */
  for (i = 0; i < 10; i++) {
    OK(rk_receive(target, &out, RK_FOREVER));
    OK(rk_release(&out));
  }
  CHECK(pthread_join(thread, &status) == 0);
  OK(*(rk_status_t *)status);
  CHECK(state_of(target) == RK_STATE_TERMINATED && metrics_of(target).messages_processed == 1);
  OK(rk_runtime_destroy(runtime));
}

static void what_a_paused_kernel_kept_too_long_makes_a_timeout(void) {
  rk_runtime_t *runtime = paused_with_output();
  rk_message_t out;
  int i;
  CHECK(runtime != NULL);
  CHECK_STATUS(rk_terminate(target, MS(20)), RK_ERR_TIMEOUT);
  CHECK(state_of(target) == RK_STATE_TERMINATED);
  CHECK(letters_of(runtime) == 3 + 8);
  for (i = 0; i < 2; i++) {
    OK(rk_receive(target, &out, 0));
    OK(rk_release(&out));
  }
  CHECK_STATUS(rk_receive(target, &out, 0), RK_ERR_TERMINATED);
  OK(rk_runtime_destroy(runtime));
}

static void *open_it(void *argument) {
  (void)argument;
  check_sleep_ms(75);
  gate_open(&gate);
  return NULL;
}

static void the_current_message_alone_can_be_too_late(void) {
  rk_runtime_t *runtime = make_runtime(2);
  rk_launch_options_t options = options_for("gate", mode);
  rk_message_t message = check_message("m", 1);
  pthread_t thread;
  gate_init(&gate);
  OK(add_program(runtime, "gate", on_gate, 0, &gate));
  OK(rk_launch(runtime, "k", &options, &target));
  OK(rk_send(target, &message, 0));
  gate_await_inside(&gate, 1);
  CHECK(pthread_create(&thread, NULL, open_it, NULL) == 0);
  CHECK_STATUS(rk_terminate(target, 0), RK_ERR_TIMEOUT);
  CHECK(pthread_join(thread, NULL) == 0);
  OK(rk_wait(target, RK_FOREVER));
  CHECK(metrics_of(target).messages_processed == 1 && metrics_of(target).dead_letters == 0);
  OK(rk_destroy(target));
  /* With nothing to do, no time is enough. */
  OK(rk_launch(runtime, "k", &options, &target));
  OK(rk_terminate(target, 0));
  OK(rk_runtime_destroy(runtime));
}

static void *pause_it(void *argument) {
  static rk_status_t status;
  (void)argument;
  status = rk_deactivate(target);
  return &status;
}

static void a_pause_that_is_undone_does_not_say_that_nothing_runs(void) {
  rk_runtime_t *runtime = make_runtime(2);
  rk_launch_options_t options = options_for("gate", mode);
  rk_message_t message = check_message("m", 1);
  pthread_t thread;
  void *status;
  gate_init(&gate);
  OK(add_program(runtime, "gate", on_gate, 0, &gate));
  OK(rk_launch(runtime, "k", &options, &target));
  OK(rk_send(target, &message, 0));
  gate_await_inside(&gate, 1);
  CHECK(pthread_create(&thread, NULL, pause_it, NULL) == 0);
  UNTIL(state_of(target) == RK_STATE_DEACTIVATED);
  OK(rk_activate(target));
  CHECK(pthread_join(thread, &status) == 0);
  CHECK_STATUS(*(rk_status_t *)status, RK_ERR_INVALID_STATE);
  CHECK(gate.inside == 1 && state_of(target) == RK_STATE_ACTIVE);
  gate_open(&gate);
  OK(rk_deactivate(target));
  CHECK(gate.handled == 1);
  OK(rk_runtime_destroy(runtime));
}

int main(int argc, char **argv) {
  fixture_unused();
  for (mode = RK_MODE_PERSISTENT; mode <= RK_MODE_EVENT_DRIVEN; mode++) {
    printf("mode %u\n", mode);
    RUN(a_paused_kernel_that_keeps_output_gives_its_input_up_at_once);
    RUN(what_a_paused_kernel_kept_too_long_makes_a_timeout);
    RUN(the_current_message_alone_can_be_too_late);
    RUN(a_pause_that_is_undone_does_not_say_that_nothing_runs);
  }
  return check_result();
}
