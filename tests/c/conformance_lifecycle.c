/* Lifecycle: states and verbs, pause, terminate, drain, dead letters, names, lists, programs. */
#include "fixture.h"

static uint32_t mode;

static rk_kernel_t launched(rk_runtime_t *runtime, const char *id, const char *program, uint32_t flags) {
  rk_launch_options_t options = options_for(program, mode);
  rk_kernel_t kernel = {0};
  options.flags = flags;
  rk_launch(runtime, id, &options, &kernel);
  return kernel;
}

static void fail_it(rk_kernel_t kernel) {
  rk_status_t broken = RK_ERR_KERNEL_FAILED;
  rk_message_t message = check_message(&broken, sizeof broken);
  OK(rk_send(kernel, &message, 0));
  CHECK_STATUS(rk_wait(kernel, RK_FOREVER), RK_ERR_KERNEL_FAILED);
}

/* A kernel of the "status" program in one of the states. */
static rk_kernel_t in_state(rk_runtime_t *runtime, uint32_t state) {
  rk_kernel_t kernel = launched(runtime, "k", "status", state == RK_STATE_LAUNCHED ? RK_LAUNCH_SUSPENDED : 0);
  if (state == RK_STATE_DEACTIVATED) rk_deactivate(kernel);
  if (state == RK_STATE_TERMINATED) rk_terminate(kernel, RK_FOREVER);
  if (state == RK_STATE_FAILED) fail_it(kernel);
  return kernel;
}

static void lesson_11_every_verb_in_every_state(void) {
  rk_runtime_t *runtime = make_runtime(1);
  enum { ACTIVATE, DEACTIVATE, TERMINATE, SEND, RESERVE, RECEIVE, CALL, WAIT, VERBS };
  static const struct {
    uint32_t state;
    rk_status_t expected[VERBS];
  } table[] = {
      {RK_STATE_LAUNCHED, {RK_OK, RK_ERR_INVALID_STATE, RK_OK, RK_OK, RK_OK, RK_ERR_EMPTY, RK_ERR_TIMEOUT, RK_ERR_TIMEOUT}},
      {RK_STATE_ACTIVE, {RK_OK, RK_OK, RK_OK, RK_OK, RK_OK, RK_ERR_EMPTY, RK_OK, RK_ERR_TIMEOUT}},
      {RK_STATE_DEACTIVATED, {RK_OK, RK_OK, RK_OK, RK_OK, RK_OK, RK_ERR_EMPTY, RK_ERR_TIMEOUT, RK_ERR_TIMEOUT}},
      {RK_STATE_TERMINATED, {RK_ERR_TERMINATED, RK_ERR_TERMINATED, RK_OK, RK_ERR_TERMINATED, RK_ERR_TERMINATED, RK_ERR_TERMINATED, RK_ERR_TERMINATED, RK_OK}},
      {RK_STATE_FAILED, {RK_ERR_KERNEL_FAILED, RK_ERR_KERNEL_FAILED, RK_OK, RK_ERR_KERNEL_FAILED, RK_ERR_KERNEL_FAILED, RK_ERR_KERNEL_FAILED, RK_ERR_KERNEL_FAILED, RK_ERR_KERNEL_FAILED}},
  };
  size_t row;
  int verb;
  CHECK(runtime != NULL);
  for (row = 0; row < sizeof table / sizeof *table; row++) {
    for (verb = 0; verb < VERBS; verb++) {
      rk_kernel_t kernel = in_state(runtime, table[row].state);
      rk_message_t out, message = check_message("m", 1);
      rk_loan_t loan;
      rk_status_t status = 1;
      CHECK(state_of(kernel) == table[row].state);
      switch (verb) {
        case ACTIVATE: status = rk_activate(kernel); break;
        case DEACTIVATE: status = rk_deactivate(kernel); break;
        case TERMINATE: status = rk_terminate(kernel, MS(10000)); break;
        case SEND: status = rk_send(kernel, &message, 0); break;
        case RESERVE: if ((status = rk_reserve(kernel, 0, 1, 0, &loan)) == RK_OK) OK(rk_abort(&loan)); break;
        case RECEIVE: status = rk_receive(kernel, &out, 0); break;
        case CALL:
          status = rk_call(kernel, &message, &out, table[row].state == RK_STATE_ACTIVE ? RK_FOREVER : MS(5));
          if (status == RK_OK) OK(rk_release(&out));
          break;
        default: status = rk_wait(kernel, MS(5)); break;
      }
      if (status != table[row].expected[verb]) printf("state %u, verb %d: ", table[row].state, verb);
      CHECK_STATUS(status, table[row].expected[verb]);
      if (verb == TERMINATE) CHECK(state_of(kernel) == RK_STATE_TERMINATED);
      /* What was queued may have become dead letters: that is RK_ERR_TIMEOUT, and the kernel is gone. */
      status = rk_destroy(kernel);
      CHECK(status == RK_OK || status == RK_ERR_TIMEOUT);
      CHECK_STATUS(rk_destroy(kernel), RK_ERR_INVALID_HANDLE);
    }
  }
  OK(rk_runtime_destroy(runtime));
}

static gate_t gate;
static rk_kernel_t target;
static volatile int done;

static void *deactivate_it(void *argument) {
  (void)argument;
  if (rk_deactivate(target) == RK_OK) done = 1;
  return NULL;
}

static void a_pause_returns_when_no_handler_runs_and_sends_still_queue(void) {
  rk_runtime_t *runtime = make_runtime(2);
  rk_message_t message = check_message("m", 1);
  pthread_t thread;
  int i;
  gate_init(&gate);
  OK(add_program(runtime, "gate", on_gate, 0, &gate));
  target = launched(runtime, "k", "gate", 0);
  for (i = 0; i < 5; i++) OK(rk_send(target, &message, 0));
  gate_await_inside(&gate, 1);
  done = 0;
  CHECK(pthread_create(&thread, NULL, deactivate_it, NULL) == 0);
  check_sleep_ms(50);
  CHECK(!done); /* the handler is inside */
  gate_open(&gate);
  CHECK(pthread_join(thread, NULL) == 0 && done);
  CHECK(gate.inside == 0 && gate.handled == 1);
  OK(rk_send(target, &message, 0));
  check_sleep_ms(30);
  CHECK(gate.handled == 1 && metrics_of(target).input_queue_depth == 5);
  OK(rk_activate(target));
  UNTIL(metrics_of(target).messages_processed == 6);
  OK(rk_runtime_destroy(runtime));
}

static void terminate_drains_what_was_accepted(void) {
  rk_runtime_t *runtime = make_runtime(1);
  rk_kernel_t kernel = launched(runtime, "k", "echo", 0);
  rk_message_t out, message = check_message("m", 1);
  uint64_t i;
  for (i = 1; i <= 500; i++) {
    message.correlation = i;
    OK(rk_send(kernel, &message, RK_FOREVER));
  }
  OK(rk_terminate(kernel, RK_FOREVER));
  OK(rk_terminate(kernel, 0));
  CHECK_STATUS(rk_send(kernel, &message, 0), RK_ERR_TERMINATED);
  OK(rk_wait(kernel, 0));
  CHECK(metrics_of(kernel).messages_processed == 500);
  for (i = 1; i <= 500; i++) {
    OK(rk_receive(kernel, &out, 0));
    CHECK(out.correlation == i);
    OK(rk_release(&out));
  }
  CHECK_STATUS(rk_receive(kernel, &out, RK_FOREVER), RK_ERR_TERMINATED);
  OK(rk_runtime_destroy(runtime));
}

static void past_its_timeout_the_rest_become_dead_letters_in_order(void) {
  rk_runtime_t *runtime = make_runtime(1);
  rk_message_t message = check_message("m", 1);
  rk_runtime_metrics_t metrics = RK_RUNTIME_METRICS_INIT;
  rk_dead_letter_t letter;
  uint64_t i, start = check_now();
  gate_init(&gate);
  OK(add_program(runtime, "gate", on_gate, 0, &gate));
  target = launched(runtime, "k", "gate", 0);
  for (i = 0; i < 10; i++) {
    message.correlation = i;
    OK(rk_send(target, &message, 0));
  }
  gate_await_inside(&gate, 1);
  CHECK_STATUS(rk_terminate(target, MS(30)), RK_ERR_TIMEOUT);
  CHECK(check_now() - start < MS(5000));
  CHECK(state_of(target) == RK_STATE_TERMINATING);
  CHECK_STATUS(rk_wait(target, MS(10)), RK_ERR_TIMEOUT);
  gate_open(&gate);
  OK(rk_wait(target, RK_FOREVER));
  CHECK(state_of(target) == RK_STATE_TERMINATED);
  for (i = 1; i < 10; i++) {
    OK(rk_receive_dead_letter(runtime, &letter, 0));
    CHECK(letter.reason == RK_DEAD_TERMINATED && letter.status == RK_ERR_TERMINATED);
    CHECK(letter.message.correlation == i && letter.kernel.id == target.id);
    CHECK(letter.message.payload_size == 1 && *(const char *)letter.message.payload == 'm');
    OK(rk_release(&letter.message));
    CHECK_STATUS(rk_release(&letter.message), RK_ERR_INVALID_HANDLE);
  }
  CHECK_STATUS(rk_receive_dead_letter(runtime, &letter, 0), RK_ERR_EMPTY);
  CHECK_STATUS(rk_receive_dead_letter(runtime, &letter, MS(3)), RK_ERR_TIMEOUT);
  OK(rk_metrics(runtime, &metrics));
  CHECK(metrics.dead_letters == 9 && metrics.dead_letters_dropped == 0 && metrics.messages_processed == 1);
  OK(rk_runtime_destroy(runtime));
}

static void a_paused_kernel_has_nothing_to_drain_with(void) {
  rk_runtime_t *runtime = make_runtime(1);
  rk_kernel_t kernel = launched(runtime, "k", "echo", RK_LAUNCH_SUSPENDED);
  rk_message_t message = check_message("m", 1);
  rk_dead_letter_t letter;
  int i;
  for (i = 0; i < 3; i++) OK(rk_send(kernel, &message, 0));
  OK(rk_terminate(kernel, RK_FOREVER));
  for (i = 0; i < 3; i++) {
    OK(rk_receive_dead_letter(runtime, &letter, 0));
    CHECK(letter.reason == RK_DEAD_TERMINATED);
    OK(rk_release(&letter.message));
  }
  CHECK(metrics_of(kernel).messages_processed == 0 && metrics_of(kernel).dead_letters == 3);
  OK(rk_runtime_destroy(runtime));
}

static void what_a_shutdown_finds_queued_says_so(void) {
  rk_runtime_t *runtime = make_runtime(1);
  rk_kernel_t kernel = launched(runtime, "k", "echo", RK_LAUNCH_SUSPENDED);
  rk_message_t message = check_message("m", 1);
  rk_dead_letter_t letter;
  OK(rk_send(kernel, &message, 0));
  OK(rk_runtime_shutdown(runtime, MS(5000)));
  CHECK(state_of(kernel) == RK_STATE_TERMINATED);
  OK(rk_receive_dead_letter(runtime, &letter, 0));
  CHECK(letter.reason == RK_DEAD_SHUTDOWN && letter.status == RK_ERR_SHUTDOWN && letter.kernel.id == kernel.id);
  OK(rk_release(&letter.message));
  CHECK_STATUS(add_program(runtime, "late", on_echo, 0, NULL), RK_ERR_SHUTDOWN);
  OK(rk_runtime_destroy(runtime));
}

static void a_terminated_id_is_free_at_once_and_its_old_handle_still_answers(void) {
  rk_runtime_t *runtime = make_runtime(1);
  rk_kernel_t old = launched(runtime, "same", "echo", 0), young, found, list[4];
  rk_launch_options_t options = options_for("echo", mode);
  rk_message_t out, message = check_message("m", 1);
  rk_kernel_status_t status = RK_KERNEL_STATUS_INIT;
  size_t count;
  CHECK_STATUS(rk_launch(runtime, "same", &options, &young), RK_ERR_ALREADY_EXISTS);
  OK(rk_send(old, &message, 0));
  OK(rk_terminate(old, RK_FOREVER));
  CHECK_STATUS(rk_get(runtime, "same", &found), RK_ERR_NOT_FOUND);
  OK(rk_list(runtime, list, 4, &count));
  CHECK(count == 0);
  OK(rk_launch(runtime, "same", &options, &young));
  CHECK(young.id != old.id);
  OK(rk_get(runtime, "same", &found));
  CHECK(found.id == young.id);
  OK(rk_receive(old, &out, 0));
  OK(rk_release(&out));
  OK(rk_kernel_status(old, &status));
  CHECK(status.state == RK_STATE_TERMINATED && status.messages_processed == 1 && status.grid_size == 1);
  CHECK(metrics_of(old).messages_sent == 1 && metrics_of(young).messages_sent == 0);
  OK(rk_destroy(old));
  OK(rk_get(runtime, "same", &found));
  CHECK(works(young));
  OK(rk_runtime_destroy(runtime));
}

static void lists_and_names_say_how_much_room_they_need(void) {
  rk_runtime_t *runtime = make_runtime(1);
  rk_kernel_t kernels[3], list[3];
  char name[8];
  size_t count = 0, size = 0;
  kernels[0] = launched(runtime, "c", "echo", 0);
  kernels[1] = launched(runtime, "a", "echo", 0);
  kernels[2] = launched(runtime, "longer", "echo", 0);
  OK(rk_list(runtime, list, 3, &count));
  CHECK(count == 3 && memcmp(list, kernels, sizeof list) == 0);
  memset(list, 0, sizeof list);
  CHECK_STATUS(rk_list(runtime, list, 2, &count), RK_ERR_BUFFER_TOO_SMALL);
  CHECK(count == 3 && list[0].id == kernels[0].id && list[1].id == kernels[1].id && list[2].id == 0);
  CHECK_STATUS(rk_list(runtime, NULL, 0, &count), RK_ERR_BUFFER_TOO_SMALL);
  CHECK(count == 3);
  OK(rk_kernel_name(kernels[2], name, 7, &size));
  CHECK(size == 7 && strcmp(name, "longer") == 0);
  CHECK_STATUS(rk_kernel_name(kernels[2], name, 6, &size), RK_ERR_BUFFER_TOO_SMALL);
  CHECK(size == 7 && strcmp(name, "longe") == 0);
  CHECK_STATUS(rk_kernel_name(kernels[2], NULL, 0, &size), RK_ERR_BUFFER_TOO_SMALL);
  OK(rk_runtime_destroy(runtime));
}

static int dropped;
static void on_drop(void *user_data) { dropped += user_data == (void *)&dropped; }

static void lesson_21_user_data_is_given_back_exactly_once_on_every_path(void) {
  rk_runtime_t *runtime = make_runtime(1), *nobody = NULL;
  rk_program_t program = RK_PROGRAM_INIT;
  struct {
    rk_program_t known;
    uint64_t tail;
  } newer;
  rk_kernel_t kernel;
  program.name = "owned";
  program.on_message = on_echo;
  program.user_data = &dropped;
  program.drop_user_data = on_drop;
  dropped = 0;
  OK(rk_program_register(runtime, &program));
  CHECK_STATUS(rk_program_register(runtime, &program), RK_ERR_ALREADY_EXISTS);
  CHECK(dropped == 1);
  CHECK_STATUS(rk_program_register(nobody, &program), RK_ERR_INVALID_ARGUMENT);
  CHECK(dropped == 2);
  program.name = "not a name";
  CHECK_STATUS(rk_program_register(runtime, &program), RK_ERR_INVALID_ARGUMENT);
  program.name = NULL;
  CHECK_STATUS(rk_program_register(runtime, &program), RK_ERR_INVALID_ARGUMENT);
  program.name = "x";
  program.on_message = NULL;
  CHECK_STATUS(rk_program_register(runtime, &program), RK_ERR_INVALID_ARGUMENT);
  CHECK(dropped == 5);
  program.on_message = on_echo;
  memset(&newer, 0, sizeof newer);
  newer.known = program;
  newer.known.struct_size = sizeof newer;
  newer.tail = 1;
  CHECK_STATUS(rk_program_register(runtime, &newer.known), RK_ERR_STRUCT_SIZE);
  CHECK(dropped == 6);
  kernel = launched(runtime, "owned", NULL, 0);
  CHECK(works(kernel));
  OK(rk_program_unregister(runtime, "owned"));
  CHECK_STATUS(rk_program_unregister(runtime, "owned"), RK_ERR_NOT_FOUND);
  CHECK(dropped == 6 && works(kernel)); /* kernels already launched keep running */
  OK(rk_terminate(kernel, RK_FOREVER));
  CHECK(dropped == 7);
  OK(rk_program_register(runtime, &program));
  OK(rk_program_unregister(runtime, "x"));
  CHECK(dropped == 8);
  OK(rk_program_register(runtime, &program));
  kernel = launched(runtime, "x", NULL, 0);
  OK(rk_runtime_destroy(runtime));
  CHECK(dropped == 9);
}

static void *launch_same(void *argument) {
  rk_launch_options_t options = options_for("echo", RK_MODE_AUTO);
  rk_kernel_t kernel;
  return rk_launch((rk_runtime_t *)argument, "one", &options, &kernel) == RK_OK ? argument : NULL;
}

static void lesson_05_of_two_launches_of_one_id_exactly_one_wins(void) {
  rk_runtime_t *runtime = make_runtime(1);
  int round;
  for (round = 0; round < (check_slow() ? 20 : 500); round++) {
    pthread_t threads[2];
    void *won[2];
    rk_kernel_t kernel;
    int i;
    for (i = 0; i < 2; i++) CHECK(pthread_create(&threads[i], NULL, launch_same, runtime) == 0);
    for (i = 0; i < 2; i++) CHECK(pthread_join(threads[i], &won[i]) == 0);
    CHECK((won[0] != NULL) + (won[1] != NULL) == 1);
    OK(rk_get(runtime, "one", &kernel));
    OK(rk_destroy(kernel));
  }
  OK(rk_runtime_destroy(runtime));
}

static void *wait_for_it(void *argument) {
  (void)argument;
  return rk_wait(target, RK_FOREVER) == RK_OK ? NULL : &target;
}

static void lesson_04_wait_against_terminate_never_hangs(void) {
  rk_runtime_t *runtime = make_runtime(1);
  int round;
  for (round = 0; round < (check_slow() ? 20 : 500); round++) {
    pthread_t thread;
    void *failed;
    target = launched(runtime, "k", "echo", 0);
    CHECK(pthread_create(&thread, NULL, wait_for_it, NULL) == 0);
    if (round % 3 == 0) sched_yield();
    OK(rk_terminate(target, RK_FOREVER));
    OK(rk_wait(target, 0));
    CHECK(pthread_join(thread, &failed) == 0 && failed == NULL);
    OK(rk_destroy(target));
  }
  OK(rk_runtime_destroy(runtime));
}

static void slow_drop(void *user_data) {
  (void)user_data;
  check_sleep_ms(30);
}

/* The last step of an end takes its time here, so that the waiter sleeps again after every earlier one. */
static void lesson_04_the_very_last_step_of_an_end_wakes_the_waiter(void) {
  rk_runtime_t *runtime = make_runtime(1);
  rk_program_t program = RK_PROGRAM_INIT;
  int round;
  program.name = "slow";
  program.on_message = on_echo;
  program.drop_user_data = slow_drop;
  for (round = 0; round < 3; round++) {
    pthread_t thread;
    void *failed;
    OK(rk_program_register(runtime, &program));
    target = launched(runtime, "k", "slow", 0);
    OK(rk_program_unregister(runtime, "slow"));
    CHECK(pthread_create(&thread, NULL, wait_for_it, NULL) == 0);
    check_sleep_ms(5);
    OK(rk_terminate(target, RK_FOREVER));
    CHECK(pthread_join(thread, &failed) == 0 && failed == NULL);
    OK(rk_destroy(target));
  }
  OK(rk_runtime_destroy(runtime));
}

static void lesson_17_shutdown_is_bounded_idempotent_and_names_what_runs(void) {
  rk_runtime_t *runtime = make_runtime(1);
  rk_launch_options_t options = options_for("echo", mode);
  rk_message_t message = check_message("m", 1);
  rk_kernel_t kernel;
  char text[256];
  uint64_t start;
  gate_init(&gate);
  OK(add_program(runtime, "gate", on_gate, 0, &gate));
  target = launched(runtime, "stuck", "gate", 0);
  kernel = launched(runtime, "fine", "echo", 0);
  OK(rk_send(target, &message, 0));
  gate_await_inside(&gate, 1);
  start = check_now();
  CHECK_STATUS(rk_runtime_shutdown(runtime, MS(20)), RK_ERR_TIMEOUT);
  CHECK(check_now() - start < MS(5000));
  rk_last_error(text, sizeof text);
  CHECK(strstr(text, "stuck") != NULL && strstr(text, "fine") == NULL);
  CHECK_STATUS(rk_launch(runtime, "new", &options, &kernel), RK_ERR_SHUTDOWN);
  CHECK_STATUS(rk_send(kernel, &message, 0), RK_ERR_TERMINATED);
  gate_open(&gate);
  OK(rk_runtime_shutdown(runtime, RK_FOREVER));
  OK(rk_runtime_shutdown(runtime, 0));
  OK(rk_runtime_destroy(runtime));
  CHECK_STATUS(rk_runtime_shutdown(runtime, 0), RK_ERR_INVALID_HANDLE);
  CHECK_STATUS(rk_kernel_name(target, NULL, 0, NULL), RK_ERR_INVALID_HANDLE);
}

static void lesson_21_no_handler_outlives_its_runtime_not_even_of_a_destroyed_kernel(void) {
  rk_runtime_t *runtime = make_runtime(1);
  rk_message_t message = check_message("m", 1);
  char text[256];
  gate_init(&gate);
  OK(add_program(runtime, "gate", on_gate, 0, &gate));
  target = launched(runtime, "stuck", "gate", 0);
  OK(rk_send(target, &message, 0));
  gate_await_inside(&gate, 1);
  CHECK_STATUS(rk_destroy(target), RK_ERR_TIMEOUT); /* stale from now on, but its handler is still inside */
  CHECK_STATUS(rk_destroy(target), RK_ERR_INVALID_HANDLE);
  CHECK_STATUS(rk_runtime_shutdown(runtime, MS(10)), RK_ERR_TIMEOUT);
  rk_last_error(text, sizeof text);
  CHECK(strstr(text, "stuck") != NULL);
  gate_open(&gate);
  OK(rk_runtime_destroy(runtime));
  CHECK(gate.inside == 0 && gate.handled == 1);
}

static void *drain_it(void *argument) {
  (void)argument;
  return rk_terminate(target, RK_FOREVER) == RK_OK ? NULL : &target;
}

static void a_second_terminate_waits_for_the_first_and_cuts_nothing_short(void) {
  rk_runtime_t *runtime = make_runtime(1);
  rk_message_t message = check_message("m", 1);
  pthread_t thread;
  void *failed;
  int i;
  gate_init(&gate);
  OK(add_program(runtime, "gate", on_gate, 0, &gate));
  target = launched(runtime, "k", "gate", 0);
  for (i = 0; i < 5; i++) OK(rk_send(target, &message, 0));
  gate_await_inside(&gate, 1);
  CHECK(pthread_create(&thread, NULL, drain_it, NULL) == 0);
  UNTIL(state_of(target) == RK_STATE_TERMINATING);
  CHECK_STATUS(rk_terminate(target, MS(10)), RK_ERR_TIMEOUT);
  gate_open(&gate);
  OK(rk_terminate(target, RK_FOREVER));
  CHECK(pthread_join(thread, &failed) == 0 && failed == NULL);
  CHECK(metrics_of(target).messages_processed == 5 && metrics_of(target).dead_letters == 0);
  OK(rk_runtime_destroy(runtime));
}

int main(int argc, char **argv) {
  fixture_unused();
  for (mode = RK_MODE_PERSISTENT; mode <= RK_MODE_EVENT_DRIVEN; mode++) {
    printf("mode %u\n", mode);
    RUN(lesson_11_every_verb_in_every_state);
    RUN(a_pause_returns_when_no_handler_runs_and_sends_still_queue);
    RUN(terminate_drains_what_was_accepted);
    RUN(past_its_timeout_the_rest_become_dead_letters_in_order);
    RUN(a_paused_kernel_has_nothing_to_drain_with);
    RUN(what_a_shutdown_finds_queued_says_so);
    RUN(a_terminated_id_is_free_at_once_and_its_old_handle_still_answers);
    RUN(lists_and_names_say_how_much_room_they_need);
    RUN(lesson_21_user_data_is_given_back_exactly_once_on_every_path);
    RUN(lesson_05_of_two_launches_of_one_id_exactly_one_wins);
    RUN(lesson_04_wait_against_terminate_never_hangs);
    RUN(lesson_04_the_very_last_step_of_an_end_wakes_the_waiter);
    RUN(lesson_21_no_handler_outlives_its_runtime_not_even_of_a_destroyed_kernel);
    RUN(a_second_terminate_waits_for_the_first_and_cuts_nothing_short);
    RUN(lesson_17_shutdown_is_bounded_idempotent_and_names_what_runs);
  }
  return check_result();
}
