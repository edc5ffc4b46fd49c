/* Calls: replies, correlation, timeouts, failures, calls inside handlers. Each in both modes. */
#include "fixture.h"

static uint32_t mode, flags;
static rk_kernel_t other;

static rk_kernel_t launched(rk_runtime_t *runtime, const char *id, const char *program) {
  rk_launch_options_t options = options_for(program, mode);
  rk_kernel_t kernel = {0};
  options.flags = flags;
  rk_launch(runtime, id, &options, &kernel);
  return kernel;
}

static void a_reply_goes_to_its_caller_with_the_callers_correlation(void) {
  rk_runtime_t *runtime = make_runtime(1);
  rk_kernel_t kernel = launched(runtime, "k", "count");
  rk_message_t reply, request = check_message("x", 1);
  uint64_t i;
  CHECK(kernel.id != 0);
  for (i = 1; i <= 100; i++) {
    request.correlation = i * 3;
    OK(rk_call(kernel, &request, &reply, i % 2 ? RK_FOREVER : MS(20000)));
    CHECK(reply.correlation == i * 3 && reply.payload_size == sizeof(counted_t));
    CHECK(((const counted_t *)reply.payload)->count == i && reply.source == kernel.id);
    CHECK(((uintptr_t)reply.payload & 63) == 0);
    OK(rk_release(&reply));
  }
  CHECK_STATUS(rk_receive(kernel, &reply, 0), RK_ERR_EMPTY);
  CHECK(metrics_of(kernel).messages_sent == 100 && metrics_of(kernel).messages_received == 100);
  OK(rk_runtime_destroy(runtime));
}

static rk_kernel_t shared_kernel;

static void *call_often(void *argument) {
  uint64_t who = (uint64_t)(uintptr_t)argument, i, wrong = 0;
  for (i = 0; i < (check_slow() ? 300u : 5000u); i++) {
    uint64_t payload[2];
    rk_message_t reply, request = check_message(payload, sizeof payload);
    payload[0] = who;
    payload[1] = i;
    request.correlation = who * 1000000 + i;
    if (rk_call(shared_kernel, &request, &reply, RK_FOREVER) != RK_OK) return (void *)1;
    wrong += reply.correlation != request.correlation || memcmp(reply.payload, payload, sizeof payload) != 0;
    wrong += rk_release(&reply) != RK_OK;
  }
  return (void *)(uintptr_t)wrong;
}

static void lesson_12_many_callers_get_each_their_own_reply(void) {
  rk_runtime_t *runtime = make_runtime(2);
  pthread_t threads[4];
  uintptr_t i;
  void *wrong;
  rk_message_t message = check_message("not a call", 10);
  int received = 0;
  shared_kernel = launched(runtime, "k", "echo");
  CHECK(shared_kernel.id != 0);
  for (i = 0; i < 4; i++) CHECK(pthread_create(&threads[i], NULL, call_often, (void *)(i + 1)) == 0);
  /* Others' replies are not disturbed: what was sent is received, and nothing else. */
  for (i = 0; i < 200; i++) {
    rk_message_t out;
    OK(rk_send(shared_kernel, &message, RK_FOREVER));
    OK(rk_receive(shared_kernel, &out, RK_FOREVER));
    received += out.payload_size == 10 && memcmp(out.payload, "not a call", 10) == 0;
    OK(rk_release(&out));
  }
  CHECK(received == 200);
  for (i = 0; i < 4; i++) {
    CHECK(pthread_join(threads[i], &wrong) == 0);
    CHECK(wrong == NULL);
  }
  OK(rk_runtime_destroy(runtime));
}

static void lesson_12_a_late_reply_is_dropped_counted_and_received_by_nobody(void) {
  rk_runtime_t *runtime = make_runtime(1);
  rk_kernel_t kernel = launched(runtime, "k", "sleep");
  rk_message_t reply, request = check_message("x", 1);
  uint64_t start, took;
  CHECK(kernel.id != 0);
  request.type = 600;
  start = check_now();
  CHECK_STATUS(rk_call(kernel, &request, &reply, MS(30)), RK_ERR_TIMEOUT);
  took = check_now() - start;
  CHECK(took >= MS(30) && took < MS(500) * (check_slow() ? 20u : 1u));
  request.type = 0;
  request.correlation = 77;
  OK(rk_call(kernel, &request, &reply, RK_FOREVER));
  CHECK(reply.correlation == 77);
  OK(rk_release(&reply));
  CHECK_STATUS(rk_receive(kernel, &reply, MS(10)), RK_ERR_TIMEOUT);
  /* A message counts as processed when its handler has returned, which may be after its caller has the reply. */
  UNTIL(metrics_of(kernel).replies_late == 1 && metrics_of(kernel).messages_processed == 2);
  /* Timeout 0 does not wait, but takes a reply that is there already. */
  if (rk_call(kernel, &request, &reply, 0) == RK_OK) OK(rk_release(&reply));
  UNTIL(metrics_of(kernel).messages_processed == 3);
  OK(rk_runtime_destroy(runtime));
}

static void what_a_handler_returns_is_what_its_caller_gets(void) {
  rk_runtime_t *runtime = make_runtime(1);
  rk_kernel_t kernel = launched(runtime, "k", "status");
  static const rk_status_t statuses[] = {5, 12345, RK_ERR_EMPTY, RK_ERR_PANIC, -77777};
  rk_message_t reply, request;
  rk_dead_letter_t letter;
  size_t i;
  rk_status_t fine = RK_OK, broken = RK_ERR_KERNEL_FAILED;
  CHECK(kernel.id != 0);
  for (i = 0; i < sizeof statuses / sizeof *statuses; i++) {
    request = check_message(&statuses[i], sizeof statuses[i]);
    request.correlation = i + 1;
    CHECK_STATUS(rk_call(kernel, &request, &reply, RK_FOREVER), statuses[i]);
    OK(rk_receive_dead_letter(runtime, &letter, RK_FOREVER));
    CHECK(letter.reason == RK_DEAD_HANDLER && letter.status == statuses[i] && letter.kernel.id == kernel.id);
    CHECK(letter.message.correlation == i + 1);
    OK(rk_release(&letter.message));
    request = check_message(&fine, sizeof fine);
    OK(rk_call(kernel, &request, &reply, RK_FOREVER));
    OK(rk_release(&reply));
  }
  UNTIL(metrics_of(kernel).messages_failed == 5 && metrics_of(kernel).messages_processed == 5);
  CHECK(metrics_of(kernel).last_error == -77777);
  request = check_message(&broken, sizeof broken);
  CHECK_STATUS(rk_call(kernel, &request, &reply, RK_FOREVER), RK_ERR_KERNEL_FAILED);
  CHECK_STATUS(rk_wait(kernel, RK_FOREVER), RK_ERR_KERNEL_FAILED);
  CHECK_STATUS(rk_call(kernel, &request, &reply, RK_FOREVER), RK_ERR_KERNEL_FAILED);
  OK(rk_runtime_destroy(runtime));
}

static void a_call_without_a_reply_ends_with_its_time_or_its_kernel(void) {
  rk_runtime_t *runtime = make_runtime(1);
  rk_kernel_t kernel = launched(runtime, "k", "sink");
  rk_message_t reply, request = check_message("x", 1);
  uint64_t start = check_now();
  CHECK(kernel.id != 0);
  CHECK_STATUS(rk_call(kernel, &request, &reply, MS(40)), RK_ERR_TIMEOUT);
  CHECK(check_now() - start >= MS(40));
  CHECK_STATUS(rk_call(kernel, &request, NULL, MS(40)), RK_ERR_INVALID_ARGUMENT);
  OK(rk_runtime_destroy(runtime));
}

static void *terminate_later(void *argument) {
  check_sleep_ms(50);
  return rk_terminate(*(rk_kernel_t *)argument, RK_FOREVER) == RK_OK ? NULL : argument;
}

static void a_caller_is_told_when_its_kernel_ends(void) {
  rk_runtime_t *runtime = make_runtime(1);
  rk_kernel_t kernel = launched(runtime, "k", "sink");
  rk_message_t reply, request = check_message("x", 1);
  pthread_t thread;
  void *failed;
  CHECK(kernel.id != 0);
  CHECK(pthread_create(&thread, NULL, terminate_later, &kernel) == 0);
  CHECK_STATUS(rk_call(kernel, &request, &reply, RK_FOREVER), RK_ERR_TERMINATED);
  CHECK(pthread_join(thread, &failed) == 0 && failed == NULL);
  OK(rk_runtime_destroy(runtime));
}

static rk_status_t on_two_replies(rk_context_t *ctx, const rk_message_t *message) {
  rk_status_t first = rk_context_reply(ctx, message), second = rk_context_reply(ctx, message);
  return first == RK_OK && second == RK_ERR_INVALID_STATE ? RK_OK : 99;
}

static void a_second_reply_is_refused(void) {
  rk_runtime_t *runtime = make_runtime(1);
  rk_kernel_t kernel;
  rk_message_t reply, request = check_message("x", 1);
  OK(add_program(runtime, "two", on_two_replies, 0, NULL));
  kernel = launched(runtime, "k", "two");
  OK(rk_call(kernel, &request, &reply, RK_FOREVER));
  OK(rk_release(&reply));
  UNTIL(metrics_of(kernel).messages_processed == 1);
  CHECK_STATUS(rk_receive(kernel, &reply, 0), RK_ERR_EMPTY);
  OK(rk_runtime_destroy(runtime));
}

/* Calls `other` and passes its reply on. */
static rk_status_t on_forward(rk_context_t *ctx, const rk_message_t *message) {
  rk_message_t reply;
  rk_status_t status = rk_call(other, message, &reply, RK_FOREVER);
  if (status != RK_OK) return status;
  status = rk_context_reply(ctx, &reply);
  rk_release(&reply);
  return status;
}

static void a_handler_may_call_another_kernel_with_one_worker(void) {
  static const uint32_t modes[] = {RK_MODE_EVENT_DRIVEN, RK_MODE_PERSISTENT};
  uint32_t i, saved = mode;
  for (i = 0; i < 2; i++) {
    rk_runtime_t *runtime = make_runtime(1);
    rk_kernel_t kernel;
    rk_message_t reply, request = check_message("pass it on", 10);
    int n;
    OK(add_program(runtime, "forward", on_forward, 0, NULL));
    mode = modes[i];
    other = launched(runtime, "other", "echo");
    mode = saved;
    kernel = launched(runtime, "k", "forward");
    for (n = 0; n < 50; n++) {
      OK(rk_call(kernel, &request, &reply, n % 2 ? RK_FOREVER : MS(30000)));
      CHECK(reply.payload_size == 10 && memcmp(reply.payload, "pass it on", 10) == 0);
      OK(rk_release(&reply));
      OK(rk_send(kernel, &request, 0));
      OK(rk_receive(kernel, &reply, RK_FOREVER));
      OK(rk_release(&reply));
    }
    OK(rk_runtime_destroy(runtime));
  }
}

static rk_runtime_t *nested_runtime;

static rk_status_t on_launch_inside(rk_context_t *ctx, const rk_message_t *message) {
  rk_launch_options_t options = options_for("echo", RK_MODE_AUTO);
  rk_kernel_t made, found, list[8];
  size_t count = 0;
  rk_message_t reply;
  if (rk_launch(nested_runtime, "inner", &options, &made) != RK_OK) return 1;
  if (rk_get(nested_runtime, "inner", &found) != RK_OK || found.id != made.id) return 2;
  if (rk_list(nested_runtime, list, 8, &count) != RK_OK || count != 2) return 3;
  if (rk_call(made, message, &reply, RK_FOREVER) != RK_OK) return 4;
  rk_release(&reply);
  if (rk_terminate(made, RK_FOREVER) != RK_OK) return 5;
  if (rk_destroy(made) != RK_OK) return 6;
  return rk_context_reply(ctx, message);
}

static void lesson_22_launch_get_list_terminate_work_in_a_handler_with_one_worker(void) {
  rk_kernel_t kernel;
  rk_message_t reply, request = check_message("x", 1);
  int i;
  nested_runtime = make_runtime(1);
  OK(add_program(nested_runtime, "nest", on_launch_inside, 0, NULL));
  kernel = launched(nested_runtime, "k", "nest");
  for (i = 0; i < 20; i++) {
    OK(rk_call(kernel, &request, &reply, RK_FOREVER));
    OK(rk_release(&reply));
  }
  OK(rk_send(kernel, &request, 0));
  OK(rk_receive(kernel, &reply, RK_FOREVER));
  OK(rk_release(&reply));
  OK(rk_runtime_destroy(nested_runtime));
}

static rk_kernel_t self_kernel;

static rk_status_t on_would_deadlock(rk_context_t *ctx, const rk_message_t *message) {
  rk_kernel_t self = rk_context_kernel(ctx);
  rk_message_t out;
  if (self.id != self_kernel.id) return 1;
  if (rk_activate(self) != RK_ERR_WOULD_DEADLOCK) return 2;
  if (rk_deactivate(self) != RK_ERR_WOULD_DEADLOCK) return 3;
  if (rk_terminate(self, 0) != RK_ERR_WOULD_DEADLOCK) return 4;
  if (rk_wait(self, 0) != RK_ERR_WOULD_DEADLOCK) return 5;
  if (rk_destroy(self) != RK_ERR_WOULD_DEADLOCK) return 6;
  if (rk_call(self, message, &out, MS(1)) != RK_ERR_WOULD_DEADLOCK) return 7;
  if (rk_receive(self, &out, MS(1)) != RK_ERR_WOULD_DEADLOCK) return 8;
  if (rk_receive(self, &out, 0) != RK_ERR_EMPTY) return 9;
  if (rk_runtime_destroy(nested_runtime) != RK_ERR_WOULD_DEADLOCK) return 10;
  if (rk_runtime_shutdown(nested_runtime, 0) != RK_ERR_WOULD_DEADLOCK) return 11;
  if (message->type == 1) {
    rk_message_t again = *message;
    again.type = 0;
    if (rk_send(self, &again, 0) != RK_OK) return 12;
  }
  return rk_context_reply(ctx, message);
}

static void what_would_wait_for_its_own_handler_is_refused(void) {
  rk_message_t reply, request = check_message("x", 1);
  nested_runtime = make_runtime(1);
  OK(add_program(nested_runtime, "deadlock", on_would_deadlock, 0, NULL));
  self_kernel = launched(nested_runtime, "k", "deadlock");
  OK(rk_call(self_kernel, &request, &reply, RK_FOREVER));
  OK(rk_release(&reply));
  request.type = 1;
  OK(rk_call(self_kernel, &request, &reply, RK_FOREVER));
  OK(rk_release(&reply));
  OK(rk_receive(self_kernel, &reply, RK_FOREVER)); /* the answer to what it sent itself */
  OK(rk_release(&reply));
  OK(rk_runtime_destroy(nested_runtime));
}

/* The sentence tells a status that a handler returned from the library's own. */
static void a_handler_may_return_what_the_library_answers(void) {
  static const rk_status_t statuses[] = {RK_ERR_TERMINATED, RK_ERR_SHUTDOWN,       RK_ERR_TIMEOUT,
                                         RK_ERR_NO_DEVICE,  RK_ERR_OUT_OF_MEMORY, 42};
  rk_runtime_t *runtime = make_runtime(1);
  rk_launch_options_t options = options_for("status", mode);
  rk_message_t reply, last = check_message("m", 1);
  rk_kernel_t kernel;
  char said[256], expected[128];
  size_t i;
  OK(rk_launch(runtime, "k", &options, &kernel));
  for (i = 0; i < sizeof statuses / sizeof *statuses; i++) {
    rk_message_t request = check_message(&statuses[i], sizeof statuses[i]);
    CHECK_STATUS(rk_call(kernel, &request, &reply, RK_FOREVER), statuses[i]);
    snprintf(expected, sizeof expected, "the handler of kernel \"k\" answered the call with status %d", (int)statuses[i]);
    rk_last_error(said, sizeof said);
    CHECK(strcmp(said, expected) == 0);
  }
  OK(rk_terminate(kernel, RK_FOREVER));
  CHECK_STATUS(rk_call(kernel, &last, &reply, RK_FOREVER), RK_ERR_TERMINATED);
  rk_last_error(said, sizeof said);
  CHECK(strstr(said, "is terminated") != NULL);
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
    RUN(a_reply_goes_to_its_caller_with_the_callers_correlation);
    RUN(lesson_12_many_callers_get_each_their_own_reply);
    RUN(lesson_12_a_late_reply_is_dropped_counted_and_received_by_nobody);
    RUN(what_a_handler_returns_is_what_its_caller_gets);
    RUN(a_handler_may_return_what_the_library_answers);
    RUN(a_call_without_a_reply_ends_with_its_time_or_its_kernel);
    RUN(a_caller_is_told_when_its_kernel_ends);
    RUN(a_second_reply_is_refused);
    RUN(a_handler_may_call_another_kernel_with_one_worker);
    RUN(lesson_22_launch_get_list_terminate_work_in_a_handler_with_one_worker);
    RUN(what_would_wait_for_its_own_handler_is_refused);
  }
  return check_result();
}
