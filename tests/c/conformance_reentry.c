/* Callbacks that call back into the API: starts, stops, drops, loggers. */
#include "fixture.h"

static uint32_t mode, flags;
static rk_runtime_t *runtime;
static rk_kernel_t other;
static volatile int calls, wrong;
static int owned; /* what user data points to */

static rk_kernel_t launched(const char *id, const char *program) {
  rk_launch_options_t options = options_for(program, mode);
  rk_kernel_t kernel = {0};
  options.flags = flags;
  options.input_queue_capacity = 2;
  rk_launch(runtime, id, &options, &kernel);
  return kernel;
}

static void expect(rk_status_t status, rk_status_t expected, const char *what) {
  if (status == expected) return;
  printf("%s is %s, not %s\n", what, rk_status_name(status), rk_status_name(expected));
  wrong++;
}

#define EXPECT(call, expected) expect(call, expected, #call)

/* Everything that would wait for the kernel whose callback this is. */
static void refuse_to_wait(rk_context_t *ctx) {
  rk_kernel_t self = rk_context_kernel(ctx);
  rk_message_t out, message = check_message("m", 1);
  EXPECT(rk_activate(self), RK_ERR_WOULD_DEADLOCK);
  EXPECT(rk_deactivate(self), RK_ERR_WOULD_DEADLOCK);
  EXPECT(rk_terminate(self, RK_FOREVER), RK_ERR_WOULD_DEADLOCK);
  EXPECT(rk_wait(self, RK_FOREVER), RK_ERR_WOULD_DEADLOCK);
  EXPECT(rk_destroy(self), RK_ERR_WOULD_DEADLOCK);
  EXPECT(rk_call(self, &message, &out, RK_FOREVER), RK_ERR_WOULD_DEADLOCK);
  EXPECT(rk_runtime_shutdown(runtime, RK_FOREVER), RK_ERR_WOULD_DEADLOCK);
  EXPECT(rk_runtime_destroy(runtime), RK_ERR_WOULD_DEADLOCK);
  if (!works(other)) wrong++;
  calls++;
}

static rk_status_t reentrant_start(rk_context_t *ctx) {
  refuse_to_wait(ctx);
  return RK_OK;
}

static void starts_and_stops_may_call_other_kernels_but_not_wait_for_their_own(void) {
  rk_program_t program = RK_PROGRAM_INIT;
  rk_kernel_t kernel;
  runtime = make_runtime(1);
  other = launched("other", "echo");
  calls = wrong = 0;
  program.name = "reentrant";
  program.on_message = on_echo;
  program.on_start = reentrant_start;
  program.on_stop = refuse_to_wait;
  OK(rk_program_register(runtime, &program));
  kernel = launched("k", "reentrant");
  CHECK(works(kernel));
  OK(rk_terminate(kernel, RK_FOREVER));
  CHECK(calls == 2 && wrong == 0);
  kernel = launched("k", "reentrant");
  UNTIL(calls == 3); /* only what was started is stopped */
  OK(rk_terminate(kernel, RK_FOREVER)); /* destroy would not wait long for a slow on_stop */
  OK(rk_destroy(kernel));
  CHECK(calls == 4 && wrong == 0 && works(other));
  OK(rk_runtime_destroy(runtime));
}

/* Its own input queue is full (capacity 2) and its output queue is empty. */
static rk_status_t on_wait_for_itself(rk_context_t *ctx, const rk_message_t *message) {
  rk_kernel_t self = rk_context_kernel(ctx);
  rk_message_t out, next = *message;
  rk_loan_t loan;
  size_t count;
  if (message->type == 1) return RK_OK;
  next.type = 1;
  while (rk_send(self, &next, 0) == RK_OK) continue;
  EXPECT(rk_send(self, &next, 0), RK_ERR_FULL);
  EXPECT(rk_send_batch(self, &next, 1, 0, &count), RK_ERR_FULL);
  EXPECT(rk_reserve(self, 0, 1, 0, &loan), RK_ERR_FULL);
  EXPECT(rk_reserve_batch(self, 0, 1, 1, 0, &loan, &count), RK_ERR_FULL);
  EXPECT(rk_receive(self, &out, 0), RK_ERR_EMPTY);
  EXPECT(rk_send(self, &next, RK_FOREVER), RK_ERR_WOULD_DEADLOCK);
  EXPECT(rk_send_batch(self, &next, 1, RK_FOREVER, &count), RK_ERR_WOULD_DEADLOCK);
  EXPECT(rk_reserve(self, 0, 1, RK_FOREVER, &loan), RK_ERR_WOULD_DEADLOCK);
  EXPECT(rk_reserve_batch(self, 0, 1, 1, RK_FOREVER, &loan, &count), RK_ERR_WOULD_DEADLOCK);
  EXPECT(rk_receive(self, &out, RK_FOREVER), RK_ERR_WOULD_DEADLOCK);
  EXPECT(rk_receive_batch(self, &out, 1, RK_FOREVER, &count), RK_ERR_WOULD_DEADLOCK);
  calls++;
  return rk_context_reply(ctx, message);
}

static void a_handler_does_not_wait_for_room_or_messages_of_its_own_kernel(void) {
  rk_message_t reply, request = check_message("m", 1);
  rk_kernel_t kernel;
  runtime = make_runtime(1);
  calls = wrong = 0;
  OK(add_program(runtime, "waits", on_wait_for_itself, 0, NULL));
  kernel = launched("k", "waits");
  OK(rk_call(kernel, &request, &reply, RK_FOREVER));
  OK(rk_release(&reply));
  OK(rk_terminate(kernel, RK_FOREVER));
  CHECK(calls == 1 && wrong == 0);
  CHECK(metrics_of(kernel).messages_failed == 0 && metrics_of(kernel).dead_letters == 0);
  OK(rk_runtime_destroy(runtime));
}

/* Lends, fills and sends slots of another kernel, and takes and gives back what it says. */
static rk_status_t on_borrow(rk_context_t *ctx, const rk_message_t *message) {
  rk_message_t out;
  rk_loan_t loan;
  EXPECT(rk_reserve(other, 0, message->payload_size, RK_FOREVER, &loan), RK_OK);
  memcpy(loan.payload, message->payload, message->payload_size);
  EXPECT(rk_commit(&loan, message, message->payload_size), RK_OK);
  EXPECT(rk_receive(other, &out, RK_FOREVER), RK_OK);
  EXPECT(rk_context_reply(ctx, &out), RK_OK);
  EXPECT(rk_release(&out), RK_OK);
  calls++;
  return RK_OK;
}

static void a_handler_may_wait_for_another_kernels_messages_with_one_worker(void) {
  rk_message_t reply, request = check_message("borrowed", 8);
  rk_kernel_t kernel;
  int i;
  runtime = make_runtime(1);
  calls = wrong = 0;
  OK(add_program(runtime, "borrow", on_borrow, 0, NULL));
  other = launched("other", "echo");
  kernel = launched("k", "borrow");
  for (i = 0; i < 50; i++) {
    request.correlation = (uint64_t)i + 1;
    OK(rk_call(kernel, &request, &reply, RK_FOREVER));
    CHECK(reply.payload_size == 8 && memcmp(reply.payload, "borrowed", 8) == 0 && reply.correlation == (uint64_t)i + 1);
    OK(rk_release(&reply));
  }
  UNTIL(metrics_of(kernel).messages_processed == 50); /* the reply comes before the end of its handler */
  CHECK(calls == 50 && wrong == 0);
  OK(rk_runtime_destroy(runtime));
}

/* The words of a caller are its own, whatever a handler that runs on its thread gets told. */
static rk_status_t on_stumble(rk_context_t *ctx, const rk_message_t *message) {
  rk_kernel_t none;
  EXPECT(rk_get(runtime, "second-name", &none), RK_ERR_NOT_FOUND);
  return rk_context_reply(ctx, message);
}

static void a_call_that_succeeds_leaves_its_callers_words_alone(void) {
  rk_message_t reply, request = check_message("m", 1);
  rk_kernel_t kernel, none;
  char words[256];
  runtime = make_runtime(1);
  wrong = 0;
  OK(add_program(runtime, "stumble", on_stumble, 0, NULL));
  kernel = launched("k", "stumble");
  CHECK_STATUS(rk_get(runtime, "first-name", &none), RK_ERR_NOT_FOUND);
  OK(rk_call(kernel, &request, &reply, RK_FOREVER));
  rk_last_error(words, sizeof words);
  CHECK(strstr(words, "first-name") != NULL);
  OK(rk_release(&reply));
  CHECK(wrong == 0);
  OK(rk_runtime_destroy(runtime));
}

/* Uses its runtime while the program that owned this user data goes. */
static void reentrant_drop(void *user_data) {
  rk_runtime_metrics_t totals = RK_RUNTIME_METRICS_INIT;
  rk_kernel_t kernel, list[8];
  size_t count;
  calls++;
  if (user_data != &owned) wrong++;
  if (rk_metrics(runtime, &totals) != RK_OK) return; /* at the end there is no runtime to talk to */
  EXPECT(rk_list(runtime, list, 8, &count), RK_OK);
  EXPECT(rk_get(runtime, "no-such-kernel", &kernel), RK_ERR_NOT_FOUND);
  if (rk_program_unregister(runtime, "owned") == RK_OK) wrong++; /* its name is free by now, or never was its own */
  if (add_program(runtime, "made-in-drop", on_echo, 0, NULL) != RK_OK) return; /* shut down, or there already */
  kernel = launched("made-in-drop", NULL);
  if (!works(kernel)) wrong++;
  EXPECT(rk_destroy(kernel), RK_OK);
}

static void lesson_21_user_data_may_be_given_back_to_somebody_who_calls_back(void) {
  int way;
  for (way = 0; way < 4; way++) {
    rk_program_t program = RK_PROGRAM_INIT;
    rk_kernel_t kernel;
    runtime = make_runtime(1);
    calls = wrong = 0;
    program.name = "owned";
    program.on_message = on_status;
    program.user_data = &owned;
    program.drop_user_data = reentrant_drop;
    OK(rk_program_register(runtime, &program));
    kernel = launched("k", "owned");
    CHECK(works(kernel));
    if (way != 3) OK(rk_program_unregister(runtime, "owned"));
    CHECK(calls == 0);
    if (way == 0) {
      OK(rk_terminate(kernel, RK_FOREVER)); /* by the end of the last kernel */
      CHECK(calls == 1);
    }
    if (way == 1) {
      OK(rk_destroy(kernel));
      CHECK(calls == 1);
    }
    if (way == 2) { /* by the end of a kernel that failed */
      rk_status_t broken = RK_ERR_KERNEL_FAILED;
      rk_message_t message = check_message(&broken, sizeof broken);
      OK(rk_send(kernel, &message, 0));
      CHECK_STATUS(rk_wait(kernel, RK_FOREVER), RK_ERR_KERNEL_FAILED);
      UNTIL(calls == 1);
      OK(rk_destroy(kernel));
    }
    OK(rk_runtime_destroy(runtime)); /* way 3: by the end of the runtime */
    CHECK(calls == 1 && wrong == 0);
  }
}

static void user_data_of_two_kernels_is_given_back_after_the_last(void) {
  rk_program_t program = RK_PROGRAM_INIT;
  rk_kernel_t a, b;
  runtime = make_runtime(1);
  calls = wrong = 0;
  program.name = "owned";
  program.on_message = on_echo;
  program.user_data = &owned;
  program.drop_user_data = reentrant_drop;
  OK(rk_program_register(runtime, &program));
  a = launched("a", "owned");
  b = launched("b", "owned");
  OK(rk_program_unregister(runtime, "owned"));
  OK(rk_destroy(a));
  CHECK(calls == 0 && works(b));
  OK(rk_destroy(b));
  CHECK(calls == 1);
  OK(rk_runtime_shutdown(runtime, RK_FOREVER));
  CHECK_STATUS(rk_program_register(runtime, &program), RK_ERR_SHUTDOWN);
  CHECK(calls == 2);
  OK(rk_runtime_destroy(runtime));
  CHECK_STATUS(rk_program_register(runtime, &program), RK_ERR_INVALID_HANDLE);
  CHECK(calls == 3 && wrong == 0);
}

static volatile int log_lines;

static void reentrant_log(uint32_t level, const char *message, void *user_data) {
  static __thread int inside;
  rk_runtime_metrics_t totals = RK_RUNTIME_METRICS_INIT;
  rk_kernel_t kernel;
  char words[64];
  if (inside) wrong++; /* never twice at once from one thread */
  inside = 1;
  if (level < RK_LOG_ERROR || level > RK_LOG_TRACE || message[0] == '\0' || user_data != &owned) wrong++;
  if (runtime != NULL) {
    rk_metrics(runtime, &totals);
    rk_get(runtime, "no-such-kernel", &kernel);
    launched("made-in-a-logger", "no-such-program");
  }
  rk_last_error(words, sizeof words);
  log_lines++;
  inside = 0;
}

static void a_logger_may_call_back(void) {
  rk_kernel_t kernel;
  rk_status_t broken = RK_ERR_KERNEL_FAILED;
  rk_message_t message = check_message(&broken, sizeof broken);
  runtime = NULL;
  wrong = log_lines = 0;
  OK(rk_set_logger(reentrant_log, &owned, RK_LOG_TRACE));
  runtime = make_runtime(1);
  kernel = launched("k", "status");
  CHECK(works(kernel));
  OK(rk_send(kernel, &message, 0));
  CHECK_STATUS(rk_wait(kernel, RK_FOREVER), RK_ERR_KERNEL_FAILED);
  OK(rk_runtime_destroy(runtime));
  OK(rk_set_logger(NULL, NULL, 0));
  CHECK(log_lines > 0 && wrong == 0);
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
    RUN(starts_and_stops_may_call_other_kernels_but_not_wait_for_their_own);
    RUN(a_handler_does_not_wait_for_room_or_messages_of_its_own_kernel);
    RUN(a_handler_may_wait_for_another_kernels_messages_with_one_worker);
    RUN(a_call_that_succeeds_leaves_its_callers_words_alone);
    RUN(lesson_21_user_data_may_be_given_back_to_somebody_who_calls_back);
    RUN(user_data_of_two_kernels_is_given_back_after_the_last);
    RUN(a_logger_may_call_back);
  }
  return check_result();
}
