/* The event queue: asynchronous operations, watches, the descriptor. In each mode. */
#include "fixture.h"

#include <poll.h>

static uint32_t mode;

static rk_kernel_t launched(rk_runtime_t *runtime, const char *id, const char *program) {
  rk_launch_options_t options = options_for(program, mode);
  rk_kernel_t kernel = {0};
  rk_launch(runtime, id, &options, &kernel);
  return kernel;
}

static rk_runtime_t *small_runtime(uint32_t capacity) {
  rk_runtime_options_t options = RK_RUNTIME_OPTIONS_INIT;
  rk_runtime_t *runtime = NULL;
  options.backend = RK_BACKEND_CPU;
  options.worker_threads = 1;
  options.event_capacity = capacity;
  if (rk_runtime_create(&options, &runtime) != RK_OK) return NULL;
  add_program(runtime, "echo", on_echo, 0, NULL);
  add_program(runtime, "sink", on_sink, 0, NULL);
  add_program(runtime, "sleep", on_sleep, 0, NULL);
  add_program(runtime, "status", on_status, 0, NULL);
  return runtime;
}

/* One event that is there or comes. */
static rk_status_t next(rk_runtime_t *runtime, rk_event_t *event) {
  size_t count = 99;
  rk_status_t status = rk_poll(runtime, event, 1, MS(60000), &count);
  return status == RK_OK && count != 1 ? 1 : status;
}

/* The same, past events of dead letters. */
static rk_status_t next_but_letters(rk_runtime_t *runtime, rk_event_t *event) {
  rk_status_t status;
  do status = next(runtime, event);
  while (status == RK_OK && event->kind == RK_EVENT_DEAD_LETTER);
  return status;
}

static rk_status_t none(rk_runtime_t *runtime) {
  rk_event_t event;
  size_t count = 99;
  rk_status_t status = rk_poll(runtime, &event, 1, 0, &count);
  return status == RK_ERR_EMPTY && count != 0 ? 1 : status;
}

static void a_call_completes_with_its_reply(void) {
  rk_runtime_t *runtime = make_runtime(1);
  rk_kernel_t kernel = launched(runtime, "k", "echo");
  rk_message_t request = check_message("what?", 5);
  rk_event_t event;
  rk_op_t op[100];
  char seen[100] = {0};
  int i;
  CHECK(kernel.id != 0);
  CHECK_STATUS(none(runtime), RK_ERR_EMPTY);
  for (i = 0; i < 100; i++) {
    request.correlation = (uint64_t)i * 7;
    OK(rk_call_async(kernel, &request, i % 2 ? RK_FOREVER : MS(60000), (uint64_t)i, &op[i]));
    CHECK(op[i].id != 0);
  }
  for (i = 0; i < 100; i++) {
    OK(next(runtime, &event));
    CHECK(event.kind == RK_EVENT_REPLY && event.status == RK_OK && event.kernel.id == kernel.id);
    CHECK(event.user_data < 100 && !seen[event.user_data] && op[event.user_data].id == event.op.id);
    seen[event.user_data] = 1;
    CHECK(event.message.correlation == event.user_data * 7 && event.message.source == kernel.id);
    CHECK(event.message.payload_size == 5 && memcmp(event.message.payload, "what?", 5) == 0);
    OK(rk_release(&event.message));
  }
  CHECK_STATUS(none(runtime), RK_ERR_EMPTY);
  CHECK_STATUS(rk_cancel(runtime, op[0]), RK_ERR_INVALID_HANDLE);
  /* Nothing is left for a receiver. */
  CHECK_STATUS(rk_receive(kernel, &event.message, 0), RK_ERR_EMPTY);
  OK(rk_runtime_destroy(runtime));
}

static void a_call_that_fails_completes_with_why(void) {
  static const rk_status_t statuses[] = {7, RK_ERR_EMPTY, RK_ERR_TIMEOUT};
  rk_runtime_t *runtime = make_runtime(1);
  rk_kernel_t kernel = launched(runtime, "k", "status"), sink = launched(runtime, "s", "sink");
  rk_message_t request;
  rk_event_t event;
  rk_status_t broken = RK_ERR_KERNEL_FAILED;
  rk_op_t op;
  size_t i;
  for (i = 0; i < 3; i++) {
    request = check_message(&statuses[i], sizeof statuses[i]);
    OK(rk_call_async(kernel, &request, RK_FOREVER, 1, &op));
    OK(next_but_letters(runtime, &event));
    CHECK(event.op.id == op.id && event.status == statuses[i] && event.message.payload == NULL && event.message.lease == 0);
  }
  request = check_message(&broken, sizeof broken);
  OK(rk_call_async(kernel, &request, RK_FOREVER, 1, &op));
  OK(next_but_letters(runtime, &event));
  CHECK(event.op.id == op.id && event.status == RK_ERR_KERNEL_FAILED);
  UNTIL(state_of(kernel) == RK_STATE_FAILED); /* a device answers before that is known here */
  CHECK_STATUS(rk_call_async(kernel, &request, RK_FOREVER, 1, &op), RK_ERR_KERNEL_FAILED);
  /* Nobody answers: its time, or its kernel's end. */
  OK(rk_call_async(sink, &request, MS(30), 2, &op));
  OK(next_but_letters(runtime, &event));
  CHECK(event.op.id == op.id && event.status == RK_ERR_TIMEOUT && event.user_data == 2);
  OK(rk_call_async(sink, &request, 0, 3, &op));
  OK(next_but_letters(runtime, &event));
  CHECK(event.op.id == op.id && event.status == RK_ERR_TIMEOUT);
  OK(rk_call_async(sink, &request, RK_FOREVER, 4, &op));
  UNTIL(metrics_of(sink).messages_processed == 3);
  CHECK_STATUS(none(runtime), RK_ERR_EMPTY);
  OK(rk_terminate(sink, RK_FOREVER));
  OK(next_but_letters(runtime, &event));
  CHECK(event.op.id == op.id && event.status == RK_ERR_TERMINATED);
  CHECK_STATUS(none(runtime), RK_ERR_EMPTY);
  OK(rk_runtime_destroy(runtime));
}

static void a_cancelled_call_completes_once_and_its_reply_is_late(void) {
  rk_runtime_t *runtime = make_runtime(1);
  rk_kernel_t kernel = launched(runtime, "k", "sleep");
  rk_message_t request = check_message("x", 1);
  rk_event_t event;
  rk_op_t op, stranger = {12345678};
  request.type = 300;
  OK(rk_call_async(kernel, &request, RK_FOREVER, 9, &op));
  CHECK_STATUS(rk_cancel(runtime, stranger), RK_ERR_INVALID_HANDLE);
  OK(rk_cancel(runtime, op));
  CHECK_STATUS(rk_cancel(runtime, op), RK_ERR_INVALID_STATE);
  OK(next(runtime, &event));
  CHECK(event.kind == RK_EVENT_REPLY && event.op.id == op.id && event.user_data == 9 && event.status == RK_ERR_CANCELLED);
  CHECK_STATUS(rk_cancel(runtime, op), RK_ERR_INVALID_HANDLE);
  UNTIL(metrics_of(kernel).replies_late == 1);
  CHECK_STATUS(none(runtime), RK_ERR_EMPTY);
  CHECK_STATUS(rk_receive(kernel, &event.message, 0), RK_ERR_EMPTY);
  CHECK(works(kernel));
  OK(rk_runtime_destroy(runtime));
}

static void launches_and_ends_complete(void) {
  rk_runtime_t *runtime = make_runtime(1);
  rk_launch_options_t options = options_for("echo", mode);
  rk_event_t event;
  rk_kernel_t kernel;
  rk_message_t request = check_message("x", 1);
  rk_op_t op;
  CHECK_STATUS(rk_launch_async(runtime, "not a name", &options, 1, &op), RK_ERR_INVALID_ARGUMENT);
  CHECK_STATUS(rk_launch_async(runtime, "k", &options, 1, NULL), RK_ERR_INVALID_ARGUMENT);
  OK(rk_launch_async(runtime, "k", &options, 11, &op));
  OK(next(runtime, &event));
  CHECK(event.kind == RK_EVENT_LAUNCHED && event.op.id == op.id && event.user_data == 11 && event.status == RK_OK);
  CHECK(event.state == RK_STATE_ACTIVE && event.kernel.id != 0);
  kernel = event.kernel;
  CHECK(works(kernel));
  OK(rk_launch_async(runtime, "k", &options, 12, &op));
  OK(next(runtime, &event));
  CHECK(event.kind == RK_EVENT_LAUNCHED && event.op.id == op.id && event.status == RK_ERR_ALREADY_EXISTS && event.kernel.id == 0);
  options.program = "nothing";
  OK(rk_launch_async(runtime, "k2", &options, 13, &op));
  OK(next(runtime, &event));
  CHECK(event.status == RK_ERR_NOT_FOUND && event.user_data == 13);
  OK(rk_terminate_async(kernel, RK_FOREVER, 14, &op));
  OK(next(runtime, &event));
  CHECK(event.kind == RK_EVENT_TERMINATED && event.op.id == op.id && event.user_data == 14 && event.status == RK_OK);
  CHECK(event.kernel.id == kernel.id && event.state == RK_STATE_TERMINATED && state_of(kernel) == RK_STATE_TERMINATED);
  OK(rk_terminate_async(kernel, RK_FOREVER, 15, &op));
  OK(next(runtime, &event));
  CHECK(event.op.id == op.id && event.status == RK_OK);
  /* A drain that runs out of time. */
  kernel = launched(runtime, "slow", "sleep");
  request.type = 200;
  OK(rk_send(kernel, &request, 0));
  OK(rk_send(kernel, &request, 0));
  OK(rk_terminate_async(kernel, MS(1), 16, &op));
  OK(next_but_letters(runtime, &event));
  CHECK(event.kind == RK_EVENT_TERMINATED && event.op.id == op.id && event.status == RK_ERR_TIMEOUT);
  CHECK_STATUS(rk_terminate_async(kernel, 0, 17, NULL), RK_ERR_INVALID_ARGUMENT);
  UNTIL(state_of(kernel) == RK_STATE_TERMINATED);
  OK(rk_destroy(kernel));
  CHECK_STATUS(rk_terminate_async(kernel, 0, 17, &op), RK_ERR_INVALID_HANDLE);
  OK(rk_runtime_destroy(runtime));
}

static void an_end_that_is_cancelled_goes_on(void) {
  rk_runtime_t *runtime = make_runtime(1);
  rk_kernel_t kernel = launched(runtime, "slow", "sleep");
  rk_message_t request = check_message("x", 1);
  rk_event_t event;
  rk_op_t op;
  request.type = 150;
  OK(rk_send(kernel, &request, 0));
  OK(rk_terminate_async(kernel, RK_FOREVER, 1, &op));
  OK(rk_cancel(runtime, op));
  OK(next(runtime, &event));
  CHECK(event.kind == RK_EVENT_TERMINATED && event.status == RK_ERR_CANCELLED && event.op.id == op.id);
  OK(rk_wait(kernel, RK_FOREVER));
  CHECK_STATUS(none(runtime), RK_ERR_EMPTY);
  OK(rk_runtime_destroy(runtime));
}

static void what_could_not_be_stored_is_refused(void) {
  rk_runtime_t *runtime = small_runtime(3);
  rk_kernel_t kernel = launched(runtime, "k", "echo");
  rk_launch_options_t options = options_for("echo", mode);
  rk_message_t request = check_message("x", 1);
  rk_event_t events[4];
  rk_op_t op;
  size_t count;
  CHECK(kernel.id != 0);
  OK(rk_watch(kernel, RK_WATCH_STATE | RK_WATCH_READABLE, 5));
  OK(rk_call_async(kernel, &request, RK_FOREVER, 1, &op));
  CHECK_STATUS(rk_call_async(kernel, &request, RK_FOREVER, 2, &op), RK_ERR_LIMIT);
  CHECK_STATUS(rk_launch_async(runtime, "other", &options, 2, &op), RK_ERR_LIMIT);
  CHECK_STATUS(rk_terminate_async(kernel, 0, 2, &op), RK_ERR_LIMIT);
  CHECK(state_of(kernel) == RK_STATE_ACTIVE);
  OK(rk_watch(kernel, RK_WATCH_STATE, 5)); /* fewer places */
  OK(rk_call_async(kernel, &request, RK_FOREVER, 3, &op));
  CHECK_STATUS(rk_watch(kernel, RK_WATCH_STATE | RK_WATCH_READABLE, 5), RK_ERR_LIMIT);
  UNTIL(metrics_of(kernel).messages_processed == 2);
  OK(rk_poll(runtime, events, 4, MS(60000), &count));
  while (count < 2) {
    size_t more;
    OK(rk_poll(runtime, events + count, 4 - count, MS(60000), &more));
    count += more;
  }
  CHECK(count == 2 && events[0].user_data == 1 && events[1].user_data == 3);
  OK(rk_release(&events[0].message));
  OK(rk_release(&events[1].message));
  OK(rk_watch(kernel, 0, 0));
  OK(rk_call_async(kernel, &request, RK_FOREVER, 1, &op));
  OK(rk_call_async(kernel, &request, RK_FOREVER, 1, &op));
  OK(rk_call_async(kernel, &request, RK_FOREVER, 1, &op));
  CHECK_STATUS(rk_call_async(kernel, &request, RK_FOREVER, 1, &op), RK_ERR_LIMIT);
  OK(rk_runtime_destroy(runtime)); /* with events that nobody polled */
}

static void a_full_queue_accepts_no_call(void) {
  rk_runtime_t *runtime = make_runtime(1);
  rk_launch_options_t options = options_for("echo", mode);
  rk_message_t request = check_message("x", 1), big = check_message(NULL, 0);
  rk_event_t event;
  static char bytes[5000];
  rk_kernel_t kernel;
  rk_op_t op;
  int i;
  options.input_queue_capacity = 2;
  options.flags = RK_LAUNCH_SUSPENDED;
  OK(rk_launch(runtime, "k", &options, &kernel));
  big.payload = bytes;
  big.payload_size = sizeof bytes;
  CHECK_STATUS(rk_call_async(kernel, &big, RK_FOREVER, 0, &op), RK_ERR_TOO_LARGE);
  OK(rk_call_async(kernel, &request, RK_FOREVER, 0, &op));
  OK(rk_call_async(kernel, &request, RK_FOREVER, 1, &op));
  CHECK_STATUS(rk_call_async(kernel, &request, RK_FOREVER, 2, &op), RK_ERR_FULL);
  CHECK_STATUS(none(runtime), RK_ERR_EMPTY);
  OK(rk_activate(kernel));
  for (i = 0; i < 2; i++) {
    OK(next(runtime, &event));
    CHECK(event.status == RK_OK);
    OK(rk_release(&event.message));
  }
  CHECK_STATUS(none(runtime), RK_ERR_EMPTY);
  OK(rk_runtime_destroy(runtime));
}

static void readable_comes_once_until_the_queue_was_found_empty(void) {
  rk_runtime_t *runtime = make_runtime(1);
  rk_kernel_t kernel = launched(runtime, "k", "echo");
  rk_message_t request = check_message("x", 1), reply, replies[8];
  rk_event_t event;
  size_t count, sum;
  OK(rk_send(kernel, &request, 0));
  UNTIL(metrics_of(kernel).output_queue_depth == 1);
  OK(rk_watch(kernel, RK_WATCH_READABLE, 77)); /* something is there already */
  OK(next(runtime, &event));
  CHECK(event.kind == RK_EVENT_READABLE && event.kernel.id == kernel.id && event.user_data == 77 && event.op.id == 0);
  OK(rk_send(kernel, &request, 0));
  UNTIL(metrics_of(kernel).output_queue_depth == 2);
  CHECK_STATUS(none(runtime), RK_ERR_EMPTY);
  OK(rk_receive(kernel, &reply, 0));
  OK(rk_release(&reply));
  OK(rk_receive(kernel, &reply, 0));
  OK(rk_release(&reply));
  CHECK_STATUS(none(runtime), RK_ERR_EMPTY); /* nobody has found it empty */
  CHECK_STATUS(rk_receive(kernel, &reply, 0), RK_ERR_EMPTY);
  CHECK_STATUS(none(runtime), RK_ERR_EMPTY);
  OK(rk_send(kernel, &request, 0));
  OK(next(runtime, &event));
  CHECK(event.kind == RK_EVENT_READABLE);
  /* A batch that is not filled has found it empty, too. */
  OK(rk_receive_batch(kernel, replies, 8, MS(60000), &count));
  CHECK(count == 1);
  OK(rk_release_batch(replies, count));
  for (sum = 0; sum < 300; sum++) {
    OK(rk_send(kernel, &request, RK_FOREVER));
    OK(next(runtime, &event));
    CHECK(event.kind == RK_EVENT_READABLE);
    OK(rk_receive_batch(kernel, replies, 8, 0, &count));
    CHECK(count == 1);
    OK(rk_release_batch(replies, count));
  }
  OK(rk_watch(kernel, 0, 0));
  OK(rk_send(kernel, &request, 0));
  UNTIL(metrics_of(kernel).output_queue_depth == 1);
  CHECK_STATUS(none(runtime), RK_ERR_EMPTY);
  OK(rk_runtime_destroy(runtime));
}

static void states_are_told_in_their_order(void) {
  rk_runtime_t *runtime = make_runtime(1);
  rk_kernel_t kernel = launched(runtime, "k", "echo"), broken = launched(runtime, "b", "status");
  rk_status_t failure = RK_ERR_KERNEL_FAILED;
  rk_message_t request = check_message(&failure, sizeof failure);
  rk_event_t event;
  CHECK_STATUS(rk_watch(kernel, 4, 0), RK_ERR_INVALID_ARGUMENT);
  OK(rk_watch(kernel, RK_WATCH_STATE, 21));
  OK(rk_watch(broken, RK_WATCH_STATE, 22));
  CHECK_STATUS(none(runtime), RK_ERR_EMPTY);
  OK(rk_deactivate(kernel));
  OK(next(runtime, &event));
  CHECK(event.kind == RK_EVENT_STATE && event.kernel.id == kernel.id && event.user_data == 21 && event.state == RK_STATE_DEACTIVATED);
  OK(rk_deactivate(kernel));
  CHECK_STATUS(none(runtime), RK_ERR_EMPTY);
  OK(rk_activate(kernel));
  OK(rk_send(broken, &request, 0));
  CHECK_STATUS(rk_wait(broken, RK_FOREVER), RK_ERR_KERNEL_FAILED);
  OK(next_but_letters(runtime, &event));
  CHECK(event.kernel.id == kernel.id && event.state == RK_STATE_ACTIVE);
  OK(next_but_letters(runtime, &event));
  CHECK(event.kernel.id == broken.id && event.state == RK_STATE_FAILED && event.user_data == 22);
  OK(rk_destroy(kernel)); /* the last state is told all the same */
  OK(next_but_letters(runtime, &event));
  CHECK(event.kind == RK_EVENT_STATE && event.kernel.id == kernel.id && event.state == RK_STATE_TERMINATING);
  OK(next_but_letters(runtime, &event));
  CHECK(event.kind == RK_EVENT_STATE && event.kernel.id == kernel.id && event.state == RK_STATE_TERMINATED);
  CHECK_STATUS(rk_watch(kernel, RK_WATCH_STATE, 0), RK_ERR_INVALID_HANDLE);
  OK(rk_runtime_destroy(runtime));
}

/* Each change has an event of its own while there are places; then the last one says the newest. */
static void a_full_queue_merges_states_and_loses_no_last_one(void) {
  rk_runtime_options_t options = RK_RUNTIME_OPTIONS_INIT;
  rk_event_t events[8];
  rk_runtime_t *runtime;
  rk_program_t program = RK_PROGRAM_INIT;
  rk_kernel_t kernel, after;
  int round, i;
  size_t count;
  rk_op_t op;
  options.backend = RK_BACKEND_CPU;
  options.event_capacity = 3;
  OK(rk_runtime_create(&options, &runtime));
  program.name = "echo";
  program.on_message = on_echo;
  OK(rk_program_register(runtime, &program));
  for (round = 0; round < 3; round++) {
    kernel = launched(runtime, "k", "echo");
    OK(rk_watch(kernel, RK_WATCH_STATE, 7));
    for (i = 0; i < 50; i++) {
      OK(rk_deactivate(kernel));
      OK(rk_activate(kernel));
    }
    CHECK_STATUS(rk_launch_async(runtime, "late", NULL, 0, &op), RK_ERR_LIMIT);
    if (round == 1) OK(rk_watch(kernel, 0, 0)); /* takes all of them back */
    OK(rk_destroy(kernel));
    if (round != 1) {
      OK(rk_poll(runtime, events, 8, 0, &count));
      CHECK(count == 3 && events[0].state == RK_STATE_DEACTIVATED && events[1].state == RK_STATE_ACTIVE);
      CHECK(events[2].state == RK_STATE_TERMINATED && events[2].kernel.id == kernel.id && events[2].user_data == 7);
    }
    CHECK_STATUS(none(runtime), RK_ERR_EMPTY);
  }
  after = launched(runtime, "k", "echo"); /* all places are free again */
  OK(rk_watch(after, RK_WATCH_STATE | RK_WATCH_READABLE, 0));
  OK(rk_launch_async(runtime, "none", NULL, 0, &op));
  OK(rk_runtime_destroy(runtime));
}

static void a_dead_letter_is_announced_until_there_is_none(void) {
  rk_runtime_t *runtime = make_runtime(1);
  rk_kernel_t kernel = launched(runtime, "k", "status");
  rk_status_t failure = 5;
  rk_message_t request = check_message(&failure, sizeof failure);
  rk_dead_letter_t letter;
  rk_event_t event;
  int round, i;
  for (round = 0; round < 3; round++) {
    for (i = 0; i < 3; i++) OK(rk_send(kernel, &request, RK_FOREVER));
    OK(next(runtime, &event));
    CHECK(event.kind == RK_EVENT_DEAD_LETTER);
    for (i = 0; i < 3; i++) {
      OK(rk_receive_dead_letter(runtime, &letter, MS(60000)));
      OK(rk_release(&letter.message));
    }
    CHECK_STATUS(none(runtime), RK_ERR_EMPTY);
    CHECK_STATUS(rk_receive_dead_letter(runtime, &letter, 0), RK_ERR_EMPTY);
  }
  OK(rk_runtime_destroy(runtime));
}

static void letters_that_nobody_polls_are_announced_once(void) {
  rk_runtime_t *runtime = make_runtime(1);
  rk_kernel_t kernel = launched(runtime, "k", "status");
  rk_status_t failure = 5;
  rk_message_t request = check_message(&failure, sizeof failure);
  rk_dead_letter_t letter;
  rk_event_t event;
  int round;
  for (round = 0; round < 20; round++) {
    OK(rk_send(kernel, &request, RK_FOREVER));
    OK(rk_receive_dead_letter(runtime, &letter, MS(60000)));
    OK(rk_release(&letter.message));
    CHECK_STATUS(rk_receive_dead_letter(runtime, &letter, 0), RK_ERR_EMPTY);
  }
  OK(next(runtime, &event));
  CHECK(event.kind == RK_EVENT_DEAD_LETTER);
  CHECK_STATUS(none(runtime), RK_ERR_EMPTY);
  OK(rk_runtime_destroy(runtime));
}

static int is_readable(int fd) {
  struct pollfd of;
  of.fd = fd;
  of.events = POLLIN;
  of.revents = 0;
  return poll(&of, 1, 0) == 1 && (of.revents & POLLIN);
}

static void the_descriptor_is_readable_while_events_wait(void) {
  rk_runtime_t *runtime = make_runtime(1);
  rk_kernel_t kernel = launched(runtime, "k", "echo");
  rk_message_t request = check_message("x", 1);
  rk_event_t event;
  struct pollfd of;
  rk_op_t op;
  int fd = -1, same = -1, i;
  OK(rk_call_async(kernel, &request, RK_FOREVER, 0, &op));
  UNTIL(metrics_of(kernel).messages_processed == 1);
  OK(rk_event_fd(runtime, &fd)); /* made after the event */
  OK(rk_event_fd(runtime, &same));
  CHECK(fd >= 0 && fd == same && is_readable(fd));
  OK(next(runtime, &event));
  OK(rk_release(&event.message));
  CHECK(!is_readable(fd));
  for (i = 0; i < 50; i++) {
    OK(rk_call_async(kernel, &request, RK_FOREVER, 0, &op));
    OK(rk_call_async(kernel, &request, RK_FOREVER, 0, &op));
    of.fd = fd;
    of.events = POLLIN;
    CHECK(poll(&of, 1, 60000) == 1);
    OK(next(runtime, &event));
    OK(rk_release(&event.message));
    OK(next(runtime, &event));
    OK(rk_release(&event.message));
    CHECK(!is_readable(fd));
  }
  CHECK_STATUS(rk_event_fd(runtime, NULL), RK_ERR_INVALID_ARGUMENT);
  OK(rk_runtime_destroy(runtime));
}

/* As there is nothing to poll, nothing wakes a loop. */
static void a_watch_that_is_taken_back_leaves_nothing_behind(void) {
  rk_runtime_t *runtime = make_runtime(1);
  rk_kernel_t kernel = launched(runtime, "k", "echo");
  rk_message_t request = check_message("x", 1);
  rk_event_t event;
  int fd = -1, i;
  OK(rk_event_fd(runtime, &fd));
  OK(rk_send(kernel, &request, 0));
  UNTIL(metrics_of(kernel).output_queue_depth == 1);
  OK(rk_watch(kernel, RK_WATCH_READABLE, 1));
  CHECK(is_readable(fd));
  OK(rk_watch(kernel, 0, 0));
  CHECK(!is_readable(fd));
  CHECK_STATUS(none(runtime), RK_ERR_EMPTY);
  for (i = 0; i < 100; i++) OK(rk_watch(kernel, RK_WATCH_READABLE, (uint64_t)i));
  OK(next(runtime, &event));
  CHECK(event.kind == RK_EVENT_READABLE && event.user_data == 99 && !is_readable(fd));
  OK(rk_watch(kernel, RK_WATCH_STATE, 2));
  OK(rk_deactivate(kernel));
  CHECK(is_readable(fd));
  OK(rk_watch(kernel, RK_WATCH_STATE, 3));
  CHECK(!is_readable(fd)); /* it is watched from this state on */
  OK(rk_activate(kernel));
  OK(next(runtime, &event));
  CHECK(event.kind == RK_EVENT_STATE && event.user_data == 3 && event.state == RK_STATE_ACTIVE && !is_readable(fd));
  OK(rk_watch(kernel, RK_WATCH_READABLE, 4));
  CHECK(is_readable(fd));
  OK(rk_destroy(kernel)); /* nobody could receive any more */
  CHECK(!is_readable(fd));
  CHECK_STATUS(none(runtime), RK_ERR_EMPTY);
  OK(rk_runtime_destroy(runtime));
}

static void what_is_wrong_is_answered(void) {
  rk_runtime_t *runtime = make_runtime(1);
  rk_kernel_t kernel = launched(runtime, "k", "echo"), nothing = {0};
  rk_message_t request = check_message("x", 1);
  rk_event_t event;
  rk_op_t op = {0};
  size_t count = 5;
  CHECK_STATUS(rk_poll(NULL, &event, 1, 0, &count), RK_ERR_INVALID_ARGUMENT);
  CHECK(count == 0);
  CHECK_STATUS(rk_poll(runtime, NULL, 1, 0, &count), RK_ERR_INVALID_ARGUMENT);
  CHECK_STATUS(rk_poll(runtime, &event, 1, 0, NULL), RK_ERR_INVALID_ARGUMENT);
  count = 5;
  OK(rk_poll(runtime, NULL, 0, RK_FOREVER, &count));
  CHECK(count == 0);
  CHECK_STATUS(rk_poll(runtime, &event, 1, MS(5), &count), RK_ERR_TIMEOUT);
  CHECK_STATUS(rk_call_async(nothing, &request, 0, 0, &op), RK_ERR_INVALID_HANDLE);
  CHECK_STATUS(rk_call_async(kernel, NULL, 0, 0, &op), RK_ERR_INVALID_ARGUMENT);
  CHECK_STATUS(rk_call_async(kernel, &request, 0, 0, NULL), RK_ERR_INVALID_ARGUMENT);
  CHECK_STATUS(rk_watch(nothing, 1, 0), RK_ERR_INVALID_HANDLE);
  CHECK_STATUS(rk_cancel(NULL, op), RK_ERR_INVALID_ARGUMENT);
  CHECK_STATUS(rk_cancel(runtime, op), RK_ERR_INVALID_HANDLE);
  CHECK_STATUS(none(runtime), RK_ERR_EMPTY);
  OK(rk_runtime_destroy(runtime));
  CHECK_STATUS(rk_poll(runtime, &event, 1, 0, &count), RK_ERR_INVALID_HANDLE);
}

static void *poll_for_ever(void *argument) {
  rk_event_t event;
  size_t count;
  return (void *)(intptr_t)rk_poll((rk_runtime_t *)argument, &event, 1, RK_FOREVER, &count);
}

static void who_polls_is_told_when_the_runtime_is_destroyed(void) {
  rk_runtime_t *runtime = make_runtime(1);
  pthread_t threads[3];
  void *status;
  int i;
  for (i = 0; i < 3; i++) CHECK(pthread_create(&threads[i], NULL, poll_for_ever, runtime) == 0);
  check_sleep_ms(30);
  OK(rk_runtime_destroy(runtime));
  for (i = 0; i < 3; i++) {
    CHECK(pthread_join(threads[i], &status) == 0);
    /* A poller that came too late does not find it any more. */
    CHECK((intptr_t)status == RK_ERR_SHUTDOWN || (intptr_t)status == RK_ERR_INVALID_HANDLE);
  }
}

static void who_polls_is_told_when_nothing_can_come_after_a_shutdown(void) {
  rk_runtime_t *runtime = make_runtime(1);
  rk_kernel_t sink = launched(runtime, "s", "sink"), echo = launched(runtime, "e", "echo");
  rk_message_t request = check_message("x", 1);
  pthread_t threads[3];
  rk_event_t event;
  void *status;
  size_t count;
  rk_op_t op;
  int i, events = 0;
  for (i = 0; i < 3; i++) CHECK(pthread_create(&threads[i], NULL, poll_for_ever, runtime) == 0);
  OK(rk_call_async(sink, &request, RK_FOREVER, 0, &op));
  OK(rk_terminate_async(echo, RK_FOREVER, 0, &op));
  OK(rk_runtime_shutdown(runtime, RK_FOREVER));
  for (i = 0; i < 3; i++) {
    CHECK(pthread_join(threads[i], &status) == 0);
    CHECK((intptr_t)status == RK_ERR_SHUTDOWN || (intptr_t)status == RK_OK); /* or it took one of the events */
    events += (intptr_t)status == RK_OK;
  }
  for (; events < 2; events++) OK(rk_poll(runtime, &event, 1, 0, &count));
  CHECK_STATUS(rk_poll(runtime, &event, 1, RK_FOREVER, &count), RK_ERR_SHUTDOWN);
  CHECK(count == 0);
  CHECK_STATUS(none(runtime), RK_ERR_EMPTY);
  OK(rk_terminate_async(echo, RK_FOREVER, 9, &op)); /* has ended: is done at once */
  OK(rk_poll(runtime, &event, 1, RK_FOREVER, &count));
  CHECK(event.kind == RK_EVENT_TERMINATED && event.user_data == 9 && event.status == RK_OK);
  OK(rk_runtime_destroy(runtime));
}

/* A handler outlives the shutdown: who polls is told when it has ended. */
static void who_polls_is_told_when_the_last_handler_ends_after_a_shutdown(void) {
  rk_runtime_t *runtime = make_runtime(1);
  static gate_t gate;
  rk_message_t request = check_message("x", 1);
  rk_kernel_t kernel;
  pthread_t threads[3];
  rk_event_t event;
  void *status;
  size_t count;
  rk_op_t op;
  int i, events = 0;
  gate_init(&gate);
  OK(add_program(runtime, "gate", on_gate, 0, &gate));
  kernel = launched(runtime, "g", "gate");
  OK(rk_send(kernel, &request, 0));
  gate_await_inside(&gate, 1);
  for (i = 0; i < 3; i++) CHECK(pthread_create(&threads[i], NULL, poll_for_ever, runtime) == 0);
  OK(rk_terminate_async(kernel, RK_FOREVER, 0, &op));
  CHECK_STATUS(rk_runtime_shutdown(runtime, MS(1)), RK_ERR_TIMEOUT);
  CHECK_STATUS(rk_runtime_shutdown(runtime, MS(1)), RK_ERR_TIMEOUT);
  CHECK_STATUS(none(runtime), RK_ERR_EMPTY);
  gate_open(&gate);
  for (i = 0; i < 3; i++) {
    CHECK(pthread_join(threads[i], &status) == 0);
    CHECK((intptr_t)status == RK_ERR_SHUTDOWN || (intptr_t)status == RK_OK);
    events += (intptr_t)status == RK_OK;
  }
  CHECK(events == 1); /* of the end */
  CHECK_STATUS(rk_poll(runtime, &event, 1, RK_FOREVER, &count), RK_ERR_SHUTDOWN);
  OK(rk_runtime_destroy(runtime));
}

/* A watch that finds its kernel destroyed leaves what an earlier one has to tell. */
static volatile int go, late, delay;
static rk_status_t late_status;

static void *watch_late(void *kernel) {
  volatile int spin;
  while (!go) sched_yield();
  late = 1;
  for (spin = 0; spin < delay; spin++) {
  }
  late_status = rk_watch(*(rk_kernel_t *)kernel, RK_WATCH_STATE, 2);
  return NULL;
}

static void a_watch_that_comes_too_late_takes_nothing_back(void) {
  rk_runtime_t *runtime = make_runtime(1);
  int round, rounds = check_slow() ? 50 : 3000, refused = 0;
  for (round = 0; round < rounds; round++) {
    rk_kernel_t kernel = launched(runtime, "k", "echo");
    pthread_t thread;
    rk_event_t events[8];
    size_t count;
    go = late = 0;
    delay = round % 1000 * 100;
    OK(rk_watch(kernel, RK_WATCH_STATE, 1));
    CHECK(pthread_create(&thread, NULL, watch_late, &kernel) == 0);
    OK(rk_deactivate(kernel));
    go = 1;
    while (!late) sched_yield();
    OK(rk_destroy(kernel));
    CHECK(pthread_join(thread, NULL) == 0);
    CHECK(late_status == RK_OK || late_status == RK_ERR_INVALID_HANDLE);
    if (late_status == RK_OK) {
      /* From the state that it found on. */
      while (rk_poll(runtime, events, 8, 0, &count) == RK_OK) CHECK(count > 0 && events[0].user_data == 2);
      continue;
    }
    refused++;
    OK(rk_poll(runtime, events, 8, 0, &count));
    CHECK(count == 3 && events[0].user_data == 1 && events[0].state == RK_STATE_DEACTIVATED);
    CHECK(events[2].user_data == 1 && events[2].state == RK_STATE_TERMINATED);
  }
  printf("%d of %d watches came too late\n", refused, rounds);
  OK(rk_runtime_destroy(runtime));
}

static long resident_kb(void) { return resident_bytes() / 1024; }

/* A handler that does not return, an end that waits for it for ever, and somebody who gives up waiting, again and again. */
static void lesson_09_ends_that_are_cancelled_leave_nothing_behind(void) {
  rk_runtime_t *runtime = make_runtime(1);
  static gate_t gate;
  rk_kernel_t kernel;
  rk_message_t request = check_message("x", 1);
  rk_event_t event;
  rk_op_t op;
  long before = 0;
  int i, rounds = check_slow() ? 400 : 40000;
  gate_init(&gate);
  OK(add_program(runtime, "gate", on_gate, 0, &gate));
  kernel = launched(runtime, "g", "gate");
  OK(rk_send(kernel, &request, 0));
  gate_await_inside(&gate, 1);
  for (i = 0; i < rounds; i++) {
    OK(rk_terminate_async(kernel, RK_FOREVER, 0, &op));
    OK(rk_cancel(runtime, op));
    OK(next(runtime, &event));
    CHECK(event.kind == RK_EVENT_TERMINATED && event.status == RK_ERR_CANCELLED && event.op.id == op.id);
    if (i == rounds / 10) before = resident_kb();
  }
  /* With 700 bytes for each it would be 25 megabytes. */
  if (!check_slow()) CHECK(resident_kb() - before < 4096);
  gate_open(&gate);
  OK(rk_wait(kernel, RK_FOREVER));
  OK(rk_runtime_destroy(runtime));
}

/* What a handler would wait for may be its own. */
static rk_status_t polled_now, polled_later, polled_elsewhere;
static rk_runtime_t *of_handler, *elsewhere;

static rk_status_t on_polling(rk_context_t *ctx, const rk_message_t *message) {
  rk_event_t event;
  size_t count;
  polled_now = rk_poll(of_handler, &event, 1, 0, &count);
  polled_later = rk_poll(of_handler, &event, 1, RK_FOREVER, &count);
  polled_elsewhere = rk_poll(elsewhere, &event, 1, 1, &count);
  return rk_context_reply(ctx, message);
}

static void a_handler_does_not_wait_for_events_of_its_runtime(void) {
  rk_message_t request = check_message("x", 1), reply;
  rk_kernel_t kernel;
  of_handler = make_runtime(1);
  elsewhere = make_runtime(1);
  OK(add_program(of_handler, "polling", on_polling, 0, NULL));
  kernel = launched(of_handler, "p", "polling");
  OK(rk_call(kernel, &request, &reply, MS(30000)));
  OK(rk_release(&reply));
  CHECK_STATUS(polled_now, RK_ERR_EMPTY);
  CHECK_STATUS(polled_later, RK_ERR_WOULD_DEADLOCK);
  CHECK_STATUS(polled_elsewhere, RK_ERR_TIMEOUT);
  OK(rk_runtime_destroy(of_handler));
  OK(rk_runtime_destroy(elsewhere));
}

static void a_shutdown_completes_everything(void) {
  rk_runtime_t *runtime = make_runtime(1);
  rk_kernel_t sink = launched(runtime, "s", "sink"), echo = launched(runtime, "e", "echo");
  rk_message_t request = check_message("x", 1);
  rk_launch_options_t options = options_for("echo", mode);
  rk_event_t event;
  rk_op_t op;
  int i, replies = 0, ended = 0;
  for (i = 0; i < 20; i++) {
    OK(rk_call_async(sink, &request, RK_FOREVER, 1, &op));
    OK(rk_call_async(echo, &request, RK_FOREVER, 2, &op));
  }
  OK(rk_runtime_shutdown(runtime, RK_FOREVER));
  CHECK_STATUS(rk_launch_async(runtime, "late", &options, 0, &op), RK_ERR_SHUTDOWN);
  for (i = 0; i < 40; i++) {
    OK(next_but_letters(runtime, &event));
    CHECK(event.kind == RK_EVENT_REPLY);
    if (event.user_data == 2) {
      CHECK(event.status == RK_OK);
      OK(rk_release(&event.message));
      replies++;
    } else {
      CHECK(event.status == RK_ERR_TERMINATED || event.status == RK_ERR_SHUTDOWN);
      ended++;
    }
  }
  CHECK(replies == 20 && ended == 20);
  OK(rk_runtime_destroy(runtime));
}

static rk_kernel_t other;

static rk_status_t on_asking(rk_context_t *ctx, const rk_message_t *message) {
  rk_kernel_t self = rk_context_kernel(ctx);
  rk_op_t op;
  if (rk_call_async(other, message, RK_FOREVER, 31, &op) != RK_OK) return 1;
  if (message->type == 1 && rk_terminate_async(self, RK_FOREVER, 32, &op) != RK_OK) return 2;
  return rk_context_reply(ctx, message);
}

static void operations_begin_in_handlers_too(void) {
  rk_runtime_t *runtime = make_runtime(1);
  rk_kernel_t kernel;
  rk_message_t request = check_message("x", 1), reply;
  rk_event_t event;
  int i, calls = 0, ends = 0;
  OK(add_program(runtime, "asking", on_asking, 0, NULL));
  other = launched(runtime, "other", "echo");
  kernel = launched(runtime, "k", "asking");
  request.type = 1; /* it ends itself */
  OK(rk_call(kernel, &request, &reply, RK_FOREVER));
  OK(rk_release(&reply));
  for (i = 0; i < 2; i++) {
    OK(next(runtime, &event));
    CHECK(event.status == RK_OK);
    if (event.user_data == 31) calls++;
    if (event.user_data == 32) ends += event.kernel.id == kernel.id && event.kind == RK_EVENT_TERMINATED;
    if (event.kind == RK_EVENT_REPLY) OK(rk_release(&event.message));
  }
  CHECK(calls == 1 && ends == 1 && state_of(kernel) == RK_STATE_TERMINATED);
  OK(rk_runtime_destroy(runtime));
}

int main(int argc, char **argv) {
  static const uint32_t modes[] = {RK_MODE_PERSISTENT, RK_MODE_EVENT_DRIVEN};
  size_t i;
  fixture_unused();
  for (i = 0; i < 2; i++) {
    mode = modes[i];
    printf("mode %u\n", mode);
    RUN(a_call_completes_with_its_reply);
    RUN(a_call_that_fails_completes_with_why);
    RUN(a_cancelled_call_completes_once_and_its_reply_is_late);
    RUN(launches_and_ends_complete);
    RUN(an_end_that_is_cancelled_goes_on);
    RUN(what_could_not_be_stored_is_refused);
    RUN(a_full_queue_accepts_no_call);
    RUN(readable_comes_once_until_the_queue_was_found_empty);
    RUN(states_are_told_in_their_order);
    RUN(a_full_queue_merges_states_and_loses_no_last_one);
    RUN(a_dead_letter_is_announced_until_there_is_none);
    RUN(letters_that_nobody_polls_are_announced_once);
    RUN(the_descriptor_is_readable_while_events_wait);
    RUN(a_watch_that_is_taken_back_leaves_nothing_behind);
    RUN(what_is_wrong_is_answered);
    RUN(who_polls_is_told_when_the_runtime_is_destroyed);
    RUN(who_polls_is_told_when_nothing_can_come_after_a_shutdown);
    RUN(who_polls_is_told_when_the_last_handler_ends_after_a_shutdown);
    RUN(a_watch_that_comes_too_late_takes_nothing_back);
    RUN(lesson_09_ends_that_are_cancelled_leave_nothing_behind);
    RUN(a_handler_does_not_wait_for_events_of_its_runtime);
    RUN(a_shutdown_completes_everything);
    RUN(operations_begin_in_handlers_too);
  }
  return check_result();
}
