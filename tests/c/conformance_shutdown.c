/* What ends when a runtime ends, and what does not wait for what: found by review, each once a fault here. */
#include "fixture.h"

static rk_runtime_t *runtime;
static volatile int destroyed, dropped_after;
static gate_t gate;

/* Messages of type 1 wait at the gate. */
static rk_status_t on_second_waits(rk_context_t *ctx, const rk_message_t *message) {
  return message->type == 1 ? on_gate(ctx, message) : RK_OK;
}

static void lesson_08_a_waiting_sender_gets_the_first_slot_that_is_free(void) {
  rk_launch_options_t options = options_for("second", RK_MODE_EVENT_DRIVEN);
  rk_message_t message = check_message("m", 1);
  rk_kernel_t kernel;
  unsigned i;
  for (options.mode = RK_MODE_PERSISTENT; options.mode <= RK_MODE_EVENT_DRIVEN; options.mode++) {
    runtime = make_runtime(1);
    gate_init(&gate);
    OK(add_program(runtime, "second", on_second_waits, 0, &gate));
    options.input_queue_capacity = 64;
    options.flags = RK_LAUNCH_SUSPENDED;
    OK(rk_launch(runtime, "k", &options, &kernel));
    for (i = 0; i < 64; i++) {
      message.type = i;
      OK(rk_send(kernel, &message, 0));
    }
    OK(rk_activate(kernel));
    /* The second message waits for this thread, which waits for the slot of the first. */
    OK(rk_send(kernel, &message, RK_FOREVER));
    gate_open(&gate);
    OK(rk_terminate(kernel, RK_FOREVER));
    CHECK(metrics_of(kernel).messages_processed == 65);
    OK(rk_runtime_destroy(runtime));
  }
}

static void on_drop(void *user_data) {
  (void)user_data;
  dropped_after += destroyed;
}

static void *launch_big(void *argument) {
  rk_launch_options_t options = options_for("big", RK_MODE_EVENT_DRIVEN);
  rk_kernel_t kernel;
  (void)argument;
  options.grid_size = 20000;
  options.shared_memory_size = 2048;
  rk_launch(runtime, "big", &options, &kernel);
  return NULL;
}

static void lesson_21_no_user_data_is_given_back_after_destroy_by_a_launch_on_its_way(void) {
  int round;
  dropped_after = 0;
  for (round = 0; round < 8; round++) {
    rk_program_t program = RK_PROGRAM_INIT;
    pthread_t thread;
    destroyed = 0;
    runtime = make_runtime(1);
    program.name = "big";
    program.on_message = on_sink;
    program.user_data = &gate;
    program.drop_user_data = on_drop;
    OK(rk_program_register(runtime, &program));
    CHECK(pthread_create(&thread, NULL, launch_big, NULL) == 0);
    check_sleep_ms((unsigned)round * 3);
    OK(rk_runtime_destroy(runtime));
    destroyed = 1;
    CHECK(pthread_join(thread, NULL) == 0);
  }
  CHECK(dropped_after == 0);
}

static void terminate_discards_any_number_of_messages_while_every_worker_is_stuck(void) {
  rk_launch_options_t options = options_for("gate", RK_MODE_EVENT_DRIVEN);
  rk_message_t message = check_message("m", 1);
  rk_kernel_t stuck, kernel;
  int i;
  runtime = make_runtime(1);
  gate_init(&gate);
  OK(add_program(runtime, "gate", on_gate, 0, &gate));
  OK(rk_launch(runtime, "stuck", &options, &stuck));
  OK(rk_send(stuck, &message, 0));
  gate_await_inside(&gate, 1);
  options.program = "sink";
  OK(rk_launch(runtime, "k", &options, &kernel));
  for (i = 0; i < 1000; i++) OK(rk_send(kernel, &message, 0));
  CHECK_STATUS(rk_terminate(kernel, MS(20)), RK_ERR_TIMEOUT);
  CHECK(state_of(kernel) == RK_STATE_TERMINATED && metrics_of(kernel).dead_letters == 1000);
  gate_open(&gate);
  OK(rk_runtime_destroy(runtime));
}

static void *shut_down(void *argument) {
  (void)argument;
  return rk_runtime_shutdown(runtime, RK_FOREVER) == RK_OK ? NULL : &gate;
}

static void one_shutdown_does_not_wait_for_another(void) {
  rk_launch_options_t options = options_for("gate", RK_MODE_EVENT_DRIVEN);
  rk_message_t message = check_message("m", 1);
  rk_kernel_t kernel;
  pthread_t thread;
  void *failed;
  uint64_t start;
  runtime = make_runtime(1);
  gate_init(&gate);
  OK(add_program(runtime, "gate", on_gate, 0, &gate));
  OK(rk_launch(runtime, "k", &options, &kernel));
  OK(rk_send(kernel, &message, 0));
  gate_await_inside(&gate, 1);
  CHECK(pthread_create(&thread, NULL, shut_down, NULL) == 0);
  UNTIL(state_of(kernel) == RK_STATE_TERMINATING);
  start = check_now();
  CHECK_STATUS(rk_runtime_shutdown(runtime, 0), RK_ERR_TIMEOUT);
  CHECK(check_now() - start < MS(3000));
  gate_open(&gate);
  CHECK(pthread_join(thread, &failed) == 0 && failed == NULL);
  OK(rk_runtime_destroy(runtime));
}

static void *await_letter(void *argument) {
  rk_dead_letter_t letter;
  (void)argument;
  return rk_receive_dead_letter(runtime, &letter, RK_FOREVER) == RK_ERR_SHUTDOWN ? NULL : &gate;
}

static void who_waits_for_dead_letters_is_told_that_the_runtime_is_gone(void) {
  pthread_t thread;
  void *failed;
  runtime = make_runtime(1);
  CHECK(pthread_create(&thread, NULL, await_letter, NULL) == 0);
  check_sleep_ms(20);
  OK(rk_runtime_destroy(runtime));
  CHECK(pthread_join(thread, &failed) == 0 && failed == NULL);
}

static rk_kernel_t helper;
static int helper_ended;

static void drop_ends_helper(void *user_data) {
  (void)user_data;
  helper_ended += rk_destroy(helper) == RK_OK;
}

/* What gives user data back may wait for a verb: it holds up none. */
static void user_data_that_ends_another_kernel_does_not_hang_a_shutdown(void) {
  rk_launch_options_t options = options_for("owner", RK_MODE_EVENT_DRIVEN), helping = options_for("helper", RK_MODE_PERSISTENT);
  rk_program_t program = RK_PROGRAM_INIT;
  rk_kernel_t owner;
  helper_ended = 0;
  runtime = make_runtime(1);
  OK(add_program(runtime, "helper", on_sink, 0, NULL));
  OK(rk_launch(runtime, "helper", &helping, &helper));
  program.name = "owner";
  program.on_message = on_sink;
  program.drop_user_data = drop_ends_helper;
  OK(rk_program_register(runtime, &program));
  OK(rk_launch(runtime, "owner", &options, &owner));
  OK(rk_program_unregister(runtime, "owner"));
  OK(rk_runtime_shutdown(runtime, MS(10000)));
  CHECK(helper_ended == 1);
  OK(rk_runtime_destroy(runtime));
}

static void drop_destroys_runtime(void *user_data) {
  (void)user_data;
  helper_ended += rk_runtime_destroy(runtime) == RK_OK;
}

static void user_data_of_a_refused_program_may_destroy_the_runtime(void) {
  rk_program_t program = RK_PROGRAM_INIT;
  helper_ended = 0;
  runtime = make_runtime(1);
  OK(add_program(runtime, "same", on_sink, 0, NULL));
  program.name = "same";
  program.on_message = on_sink;
  program.drop_user_data = drop_destroys_runtime;
  CHECK_STATUS(rk_program_register(runtime, &program), RK_ERR_ALREADY_EXISTS);
  CHECK(helper_ended == 1);
}

int main(int argc, char **argv) {
  fixture_unused();
  RUN(lesson_08_a_waiting_sender_gets_the_first_slot_that_is_free);
  RUN(lesson_21_no_user_data_is_given_back_after_destroy_by_a_launch_on_its_way);
  RUN(terminate_discards_any_number_of_messages_while_every_worker_is_stuck);
  RUN(one_shutdown_does_not_wait_for_another);
  RUN(who_waits_for_dead_letters_is_told_that_the_runtime_is_gone);
  RUN(user_data_that_ends_another_kernel_does_not_hang_a_shutdown);
  RUN(user_data_of_a_refused_program_may_destroy_the_runtime);
  return check_result();
}
