/* Inside handlers: state, blocks, start and stop, emit and overflow, kernel to kernel, failures. */
#include "fixture.h"

static uint32_t mode;

static rk_kernel_t launch_with(rk_runtime_t *runtime, const char *id, rk_launch_options_t *options) {
  rk_kernel_t kernel = {0};
  rk_launch(runtime, id, options, &kernel);
  return kernel;
}

static void each_block_has_its_own_zeroed_state(void) {
  rk_runtime_t *runtime = make_runtime(2);
  rk_launch_options_t options = options_for("count", mode);
  rk_kernel_t kernel;
  uint32_t block;
  int round;
  options.grid_size = 4;
  kernel = launch_with(runtime, "k", &options);
  for (round = 1; round <= 3; round++) {
    for (block = 0; block < 4; block++) {
      rk_message_t reply, request = check_message("x", 1);
      request.block = block;
      OK(rk_call(kernel, &request, &reply, RK_FOREVER));
      CHECK(((const counted_t *)reply.payload)->count == (uint64_t)round);
      CHECK(((const counted_t *)reply.payload)->block == block && reply.block == block);
      OK(rk_release(&reply));
    }
  }
  {
    rk_message_t reply, request = check_message("x", 1);
    request.block = 4;
    CHECK_STATUS(rk_send(kernel, &request, 0), RK_ERR_INVALID_ARGUMENT);
    CHECK_STATUS(rk_call(kernel, &request, &reply, 0), RK_ERR_INVALID_ARGUMENT);
  }
  OK(rk_runtime_destroy(runtime));
}

static void any_block_reaches_every_block_under_load(void) {
  rk_runtime_t *runtime = make_runtime(2);
  rk_launch_options_t options = options_for("count", mode);
  rk_kernel_t kernel;
  int seen[4] = {0, 0, 0, 0}, i;
  options.grid_size = 4;
  kernel = launch_with(runtime, "k", &options);
  for (i = 0; i < 200; i++) {
    rk_message_t out, message = check_message("x", 1);
    message.block = RK_ANY_BLOCK;
    OK(rk_send(kernel, &message, RK_FOREVER));
    OK(rk_receive(kernel, &out, RK_FOREVER));
    CHECK(out.block < 4);
    seen[out.block]++;
    OK(rk_release(&out));
  }
  CHECK(seen[0] && seen[1] && seen[2] && seen[3]);
  OK(rk_runtime_destroy(runtime));
}

typedef struct counts_t {
  pthread_mutex_t mutex;
  int starts, stops, messages, wrong;
} counts_t;

static counts_t counts;

static void bump(int *counter) {
  pthread_mutex_lock(&counts.mutex);
  (*counter)++;
  pthread_mutex_unlock(&counts.mutex);
}

static rk_status_t counting_start(rk_context_t *ctx) {
  int *state = (int *)rk_context_state(ctx);
  if (*state != 0 || ((uintptr_t)state & 63) != 0) bump(&counts.wrong);
  if (rk_context_user_data(ctx) != &counts) bump(&counts.wrong);
  if (rk_context_thread(ctx) != 0 || rk_context_thread_count(ctx) != 1) bump(&counts.wrong);
  if (rk_context_block(ctx) >= rk_context_block_count(ctx)) bump(&counts.wrong);
  memset(rk_context_shared(ctx), 0x55, 128);
  rk_context_sync(ctx);
  *state = 1;
  bump(&counts.starts);
  return RK_OK;
}

static rk_status_t counting_message(rk_context_t *ctx, const rk_message_t *message) {
  int *state = (int *)rk_context_state(ctx);
  if (*state < 1) bump(&counts.wrong);
  (*state)++;
  bump(&counts.messages);
  return rk_context_emit(ctx, message);
}

static void counting_stop(rk_context_t *ctx) {
  rk_message_t last = check_message("bye", 3);
  if (*(int *)rk_context_state(ctx) < 1) bump(&counts.wrong);
  if (rk_context_emit(ctx, &last) != RK_OK) bump(&counts.wrong);
  bump(&counts.stops);
}

static void starts_and_stops_come_in_pairs_around_the_messages(void) {
  rk_runtime_t *runtime = make_runtime(2);
  rk_program_t program = RK_PROGRAM_INIT;
  rk_launch_options_t options = options_for("counting", mode);
  rk_kernel_t kernel;
  rk_message_t out, message = check_message("m", 1);
  int i, byes = 0, others = 0;
  memset(&counts, 0, sizeof counts);
  pthread_mutex_init(&counts.mutex, NULL);
  program.name = "counting";
  program.on_message = counting_message;
  program.on_start = counting_start;
  program.on_stop = counting_stop;
  program.user_data = &counts;
  program.state_size = sizeof(int);
  OK(rk_program_register(runtime, &program));
  options.grid_size = 3;
  options.shared_memory_size = 128;
  kernel = launch_with(runtime, "k", &options);
  UNTIL(counts.starts == 3); /* also blocks that never get a message */
  for (i = 0; i < 30; i++) {
    message.block = (uint32_t)i % 2;
    OK(rk_send(kernel, &message, RK_FOREVER));
  }
  OK(rk_deactivate(kernel));
  OK(rk_activate(kernel));
  OK(rk_terminate(kernel, RK_FOREVER));
  CHECK(counts.starts == 3 && counts.stops == 3 && counts.messages == 30 && counts.wrong == 0);
  for (i = 0; i < 33; i++) {
    OK(rk_receive(kernel, &out, 0));
    if (out.payload_size == 3) byes++; else others++;
    OK(rk_release(&out));
  }
  CHECK(byes == 3 && others == 30);
  OK(rk_runtime_destroy(runtime));
}

static rk_status_t failing_start(rk_context_t *ctx) { return rk_context_block(ctx) == 0 ? 42 : RK_OK; }

static void a_start_that_fails_fails_the_kernel(void) {
  rk_runtime_t *runtime = make_runtime(1);
  rk_program_t program = RK_PROGRAM_INIT;
  rk_launch_options_t options = options_for("failing", mode);
  rk_kernel_status_t status = RK_KERNEL_STATUS_INIT;
  rk_kernel_t kernel, echo, list[4];
  size_t count;
  program.name = "failing";
  program.on_message = on_echo;
  program.on_start = failing_start;
  OK(rk_program_register(runtime, &program));
  kernel = launch_with(runtime, "k", &options);
  CHECK_STATUS(rk_wait(kernel, RK_FOREVER), RK_ERR_KERNEL_FAILED);
  OK(rk_kernel_status(kernel, &status));
  CHECK(status.state == RK_STATE_FAILED && status.last_error == 42);
  OK(rk_list(runtime, list, 4, &count));
  CHECK(count == 1);
  OK(rk_terminate(kernel, RK_FOREVER));
  CHECK(state_of(kernel) == RK_STATE_TERMINATED);
  OK(rk_list(runtime, list, 4, &count));
  CHECK(count == 0);
  options.program = "echo";
  echo = launch_with(runtime, "k", &options);
  CHECK(works(echo));
  OK(rk_runtime_destroy(runtime));
}

static void a_failed_handler_fails_the_kernel_and_what_is_queued_is_dead(void) {
  rk_runtime_t *runtime = make_runtime(1);
  rk_launch_options_t options = options_for("status", mode);
  rk_status_t broken = RK_ERR_KERNEL_FAILED;
  rk_message_t message = check_message(&broken, sizeof broken);
  rk_runtime_metrics_t metrics = RK_RUNTIME_METRICS_INIT;
  rk_dead_letter_t letter;
  rk_kernel_t kernel;
  uint64_t i;
  options.flags = RK_LAUNCH_SUSPENDED;
  kernel = launch_with(runtime, "k", &options);
  for (i = 0; i < 5; i++) {
    message.correlation = i;
    OK(rk_send(kernel, &message, 0));
  }
  OK(rk_activate(kernel));
  CHECK_STATUS(rk_wait(kernel, RK_FOREVER), RK_ERR_KERNEL_FAILED);
  CHECK_STATUS(rk_send(kernel, &message, 0), RK_ERR_KERNEL_FAILED);
  for (i = 0; i < 5; i++) {
    OK(rk_receive_dead_letter(runtime, &letter, RK_FOREVER));
    CHECK(letter.reason == RK_DEAD_HANDLER && letter.status == RK_ERR_KERNEL_FAILED);
    CHECK(letter.message.correlation == i);
    OK(rk_release(&letter.message));
  }
  CHECK(metrics_of(kernel).messages_failed == 1 && metrics_of(kernel).dead_letters == 5);
  OK(rk_metrics(runtime, &metrics));
  CHECK(metrics.active_kernels == 0 && metrics.total_launched == 1 && metrics.dead_letters == 5);
  OK(rk_runtime_destroy(runtime));
}

/* Emits as many messages as `type` says, numbered. */
static rk_status_t on_burst(rk_context_t *ctx, const rk_message_t *message) {
  uint64_t i;
  for (i = 0; i < message->type; i++) {
    rk_message_t out = check_message(&i, sizeof i);
    out.correlation = message->correlation;
    if (rk_context_emit(ctx, &out) != RK_OK) return 1;
  }
  return RK_OK;
}

static void a_full_output_queue_keeps_everything_and_takes_no_further_input(void) {
  rk_runtime_t *runtime = make_runtime(1);
  rk_launch_options_t options = options_for("burst", mode);
  rk_message_t out, message = check_message(NULL, 0);
  rk_kernel_t kernel, echo;
  uint64_t i, j;
  OK(add_program(runtime, "burst", on_burst, 0, NULL));
  options.output_queue_capacity = 2;
  kernel = launch_with(runtime, "k", &options);
  options.program = "echo";
  echo = launch_with(runtime, "echo", &options);
  message.type = 20;
  for (i = 1; i <= 5; i++) {
    message.correlation = i;
    OK(rk_send(kernel, &message, 0));
  }
  UNTIL(metrics_of(kernel).output_queue_depth == 2 && metrics_of(kernel).messages_processed == 1);
  check_sleep_ms(20);
  CHECK(metrics_of(kernel).messages_processed == 1 && metrics_of(kernel).input_queue_depth == 4);
  CHECK(works(echo));
  for (i = 1; i <= 5; i++) {
    for (j = 0; j < 20; j++) {
      OK(rk_receive(kernel, &out, RK_FOREVER));
      CHECK(out.correlation == i && *(const uint64_t *)out.payload == j);
      OK(rk_release(&out));
    }
  }
  OK(rk_terminate(kernel, RK_FOREVER));
  CHECK(metrics_of(kernel).messages_processed == 5 && metrics_of(kernel).messages_received == 100);
  OK(rk_runtime_destroy(runtime));
}

static void what_a_stuck_output_holds_becomes_dead_letters_at_a_timeout(void) {
  rk_runtime_t *runtime = make_runtime(1);
  rk_launch_options_t options = options_for("burst", mode);
  rk_message_t out, message = check_message(NULL, 0);
  rk_runtime_metrics_t metrics = RK_RUNTIME_METRICS_INIT;
  rk_kernel_t kernel;
  OK(add_program(runtime, "burst", on_burst, 0, NULL));
  options.output_queue_capacity = 2;
  kernel = launch_with(runtime, "k", &options);
  message.type = 10;
  OK(rk_send(kernel, &message, 0));
  OK(rk_send(kernel, &message, 0));
  UNTIL(metrics_of(kernel).messages_processed == 1);
  CHECK_STATUS(rk_terminate(kernel, MS(20)), RK_ERR_TIMEOUT);
  CHECK(state_of(kernel) == RK_STATE_TERMINATED);
  OK(rk_receive(kernel, &out, 0));
  OK(rk_release(&out));
  OK(rk_metrics(runtime, &metrics));
  CHECK(metrics.dead_letters == 9); /* 8 of the output and 1 of the input */
  OK(rk_runtime_destroy(runtime));
}

static void overflow_as_dead_letters_drops_nothing_silently(void) {
  rk_runtime_t *runtime = make_runtime(1);
  rk_launch_options_t options = options_for("burst", mode);
  rk_message_t out, message = check_message(NULL, 0);
  rk_dead_letter_t letter;
  rk_kernel_t kernel;
  uint64_t i;
  OK(add_program(runtime, "burst", on_burst, 0, NULL));
  options.output_queue_capacity = 4;
  options.overflow = RK_OVERFLOW_DEAD_LETTER;
  kernel = launch_with(runtime, "k", &options);
  message.type = 10;
  OK(rk_send(kernel, &message, 0));
  UNTIL(metrics_of(kernel).messages_processed == 1);
  for (i = 0; i < 4; i++) {
    OK(rk_receive(kernel, &out, 0));
    CHECK(*(const uint64_t *)out.payload == i);
    OK(rk_release(&out));
  }
  for (; i < 10; i++) {
    OK(rk_receive_dead_letter(runtime, &letter, 0));
    CHECK(letter.reason == RK_DEAD_OVERFLOW && *(const uint64_t *)letter.message.payload == i);
    OK(rk_release(&letter.message));
  }
  CHECK(metrics_of(kernel).dead_letters == 6);
  OK(rk_runtime_destroy(runtime));
}

/* Passes messages on by route 0 as long as `type` is above 0; the last one emits. */
static rk_status_t on_pass(rk_context_t *ctx, const rk_message_t *message) {
  rk_message_t next = *message;
  if (message->type == 0) return rk_context_emit(ctx, message);
  next.type--;
  return rk_context_send(ctx, 0, &next);
}

static void kernels_send_to_kernels_by_routes(void) {
  rk_runtime_t *runtime = make_runtime(2), *stranger = make_runtime(1);
  rk_launch_options_t options = options_for("pass", mode);
  rk_kernel_t a, b, elsewhere;
  rk_message_t out, message = check_message("token", 5);
  uint32_t route = 99;
  OK(add_program(runtime, "pass", on_pass, 0, NULL));
  a = launch_with(runtime, "a", &options);
  b = launch_with(runtime, "b", &options);
  options.program = "echo";
  elsewhere = launch_with(stranger, "c", &options);
  message.type = 11;
  OK(rk_send(a, &message, 0)); /* no route: the handler's RK_ERR_NO_ROUTE fails the message */
  UNTIL(metrics_of(a).messages_failed == 1);
  CHECK(metrics_of(a).last_error == RK_ERR_NO_ROUTE);
  CHECK_STATUS(rk_connect(a, elsewhere, &route), RK_ERR_INVALID_ARGUMENT);
  OK(rk_connect(a, b, &route));
  CHECK(route == 0);
  OK(rk_connect(b, a, &route));
  CHECK(route == 0);
  OK(rk_connect(a, a, &route));
  CHECK(route == 1);
  OK(rk_send(a, &message, 0));
  OK(rk_receive(b, &out, RK_FOREVER)); /* 11 hops end at b */
  CHECK(out.type == 0 && out.payload_size == 5);
  OK(rk_release(&out));
  UNTIL(metrics_of(b).messages_processed == 6);
  UNTIL(metrics_of(a).messages_to_kernels == 6 && metrics_of(a).messages_from_kernels == 5);
  UNTIL(metrics_of(b).messages_to_kernels == 5 && metrics_of(b).messages_from_kernels == 6);
  CHECK(metrics_of(a).messages_sent == 2 && metrics_of(b).messages_sent == 0);
  OK(rk_disconnect(a, 0));
  CHECK_STATUS(rk_disconnect(a, 0), RK_ERR_NO_ROUTE);
  CHECK_STATUS(rk_disconnect(a, 7), RK_ERR_NO_ROUTE);
  OK(rk_send(a, &message, 0));
  UNTIL(metrics_of(a).messages_failed == 2);
  OK(rk_connect(a, b, &route));
  CHECK(route == 2); /* numbers are not used again */
  OK(rk_runtime_destroy(runtime));
  OK(rk_runtime_destroy(stranger));
}

static void to_a_kernel_that_has_ended_is_a_dead_letter_and_full_is_said(void) {
  rk_runtime_t *runtime = make_runtime(1);
  rk_launch_options_t options = options_for("pass", mode);
  rk_kernel_t a, b;
  rk_message_t message = check_message("token", 5);
  rk_dead_letter_t letter;
  uint32_t route;
  uint64_t i, passed = 0, most = 2;
  /* From a device through the host: as many again may be on their way. */
  if (backend_of(runtime) == RK_BACKEND_CUDA && mode == RK_MODE_EVENT_DRIVEN) most = 4;
  OK(add_program(runtime, "pass", on_pass, 0, NULL));
  a = launch_with(runtime, "a", &options);
  options.input_queue_capacity = 2;
  options.flags = RK_LAUNCH_SUSPENDED;
  b = launch_with(runtime, "b", &options);
  OK(rk_connect(a, b, &route));
  message.type = 1;
  while (metrics_of(a).messages_failed == 0) {
    OK(rk_send(a, &message, 0));
    passed++;
    UNTIL(metrics_of(a).messages_processed + metrics_of(a).messages_failed == passed);
  }
  passed--;
  CHECK(passed >= 2 && passed <= most && metrics_of(a).last_error == RK_ERR_FULL);
  OK(rk_receive_dead_letter(runtime, &letter, 0));
  CHECK(letter.reason == RK_DEAD_HANDLER && letter.status == RK_ERR_FULL);
  OK(rk_release(&letter.message));
  OK(rk_terminate(b, RK_FOREVER));
  for (i = 0; i < passed; i++) {
    OK(rk_receive_dead_letter(runtime, &letter, RK_FOREVER));
    CHECK(letter.reason == RK_DEAD_TERMINATED);
    OK(rk_release(&letter.message));
  }
  OK(rk_send(a, &message, 0));
  OK(rk_receive_dead_letter(runtime, &letter, RK_FOREVER));
  CHECK(letter.reason == RK_DEAD_TERMINATED && letter.kernel.id == b.id && letter.message.source == a.id);
  OK(rk_release(&letter.message));
  OK(rk_destroy(b));
  OK(rk_send(a, &message, 0));
  OK(rk_receive_dead_letter(runtime, &letter, RK_FOREVER));
  CHECK(letter.reason == RK_DEAD_TERMINATED && letter.kernel.id == b.id);
  OK(rk_release(&letter.message));
  UNTIL(metrics_of(a).messages_processed == passed + 2);
  OK(rk_runtime_destroy(runtime));
}

/* To the host what comes from a kernel, to route 0 what comes from the host. */
static rk_status_t on_ask(rk_context_t *ctx, const rk_message_t *message) {
  return message->source == 0 ? rk_context_send(ctx, 0, message) : rk_context_emit(ctx, message);
}

static void the_reply_to_a_kernel_goes_to_that_kernel_and_is_kept_if_it_must(void) {
  rk_runtime_t *runtime = make_runtime(1);
  rk_launch_options_t options = options_for("ask", mode);
  rk_kernel_t asks, answers;
  rk_message_t out, message = check_message("q", 1);
  uint32_t route;
  uint64_t i;
  OK(add_program(runtime, "ask", on_ask, 0, NULL));
  options.input_queue_capacity = 4;
  options.output_queue_capacity = 64;
  asks = launch_with(runtime, "asks", &options);
  options.program = "echo";
  options.input_queue_capacity = 64;
  options.flags = RK_LAUNCH_SUSPENDED;
  answers = launch_with(runtime, "answers", &options);
  OK(rk_connect(asks, answers, &route));
  for (i = 1; i <= 30; i++) {
    message.correlation = i;
    OK(rk_send(asks, &message, RK_FOREVER));
  }
  UNTIL(metrics_of(asks).messages_to_kernels == 30);
  OK(rk_activate(answers)); /* 30 replies to a queue of 4 */
  for (i = 1; i <= 30; i++) {
    OK(rk_receive(asks, &out, RK_FOREVER));
    CHECK(out.correlation == i);
    OK(rk_release(&out));
  }
  UNTIL(metrics_of(answers).messages_to_kernels == 30);
  OK(rk_runtime_destroy(runtime));
}

static void every_wait_strategy_and_pinning_work(void) {
  static const uint32_t strategies[] = {RK_WAIT_AUTO, RK_WAIT_SPIN, RK_WAIT_PARK};
  rk_runtime_t *runtime = make_runtime(1);
  size_t i;
  for (i = 0; i < 3; i++) {
    rk_launch_options_t options = options_for("echo", mode);
    rk_kernel_t kernel;
    rk_status_t status = RK_ERR_INVALID_ARGUMENT;
    int round;
    options.wait_strategy = strategies[i];
    for (options.cpu = 1; options.cpu < 1024; options.cpu++) { /* the first CPU that this process may use */
      status = rk_launch(runtime, "k", &options, &kernel);
      if (status != RK_ERR_INVALID_ARGUMENT) break;
    }
    OK(status);
    for (round = 0; round < 20; round++) CHECK(works(kernel));
    OK(rk_deactivate(kernel));
    check_sleep_ms(5);
    OK(rk_activate(kernel));
    for (round = 0; round < 20; round++) CHECK(works(kernel));
    CHECK(metrics_of(kernel).invocations > 0);
    OK(rk_terminate(kernel, RK_FOREVER));
    OK(rk_destroy(kernel));
  }
  OK(rk_runtime_destroy(runtime));
}

/* Replies with whether every signal that can be blocked is blocked on this thread. */
static rk_status_t on_signals(rk_context_t *ctx, const rk_message_t *message) {
  static const int some[] = {SIGINT, SIGTERM, SIGALRM, SIGUSR1, SIGCHLD, SIGPIPE, SIGHUP};
  rk_message_t reply = *message;
  sigset_t blocked;
  size_t i;
  sigemptyset(&blocked);
  pthread_sigmask(SIG_SETMASK, NULL, &blocked);
  reply.type = 1;
  for (i = 0; i < sizeof some / sizeof *some; i++) reply.type &= sigismember(&blocked, some[i]) == 1;
  return rk_context_reply(ctx, &reply);
}

static void signals_are_blocked_on_the_librarys_threads_and_left_alone_on_others(void) {
  rk_runtime_t *runtime = make_runtime(1);
  rk_launch_options_t options = options_for("signals", mode);
  rk_message_t reply, request = check_message("x", 1);
  rk_kernel_t kernel;
  sigset_t mine;
  OK(add_program(runtime, "signals", on_signals, 0, NULL));
  options.flags = RK_LAUNCH_NO_HELP;
  OK(rk_launch(runtime, "k", &options, &kernel));
  OK(rk_call(kernel, &request, &reply, RK_FOREVER));
  CHECK(reply.type == 1);
  OK(rk_release(&reply));
  sigemptyset(&mine);
  CHECK(pthread_sigmask(SIG_SETMASK, NULL, &mine) == 0 && sigismember(&mine, SIGINT) == 0);
  OK(rk_runtime_destroy(runtime));
}

int main(int argc, char **argv) {
  fixture_unused();
  for (mode = RK_MODE_PERSISTENT; mode <= RK_MODE_EVENT_DRIVEN; mode++) {
    printf("mode %u\n", mode);
    RUN(each_block_has_its_own_zeroed_state);
    RUN(any_block_reaches_every_block_under_load);
    RUN(starts_and_stops_come_in_pairs_around_the_messages);
    RUN(a_start_that_fails_fails_the_kernel);
    RUN(a_failed_handler_fails_the_kernel_and_what_is_queued_is_dead);
    RUN(a_full_output_queue_keeps_everything_and_takes_no_further_input);
    RUN(what_a_stuck_output_holds_becomes_dead_letters_at_a_timeout);
    RUN(overflow_as_dead_letters_drops_nothing_silently);
    RUN(kernels_send_to_kernels_by_routes);
    RUN(to_a_kernel_that_has_ended_is_a_dead_letter_and_full_is_said);
    RUN(signals_are_blocked_on_the_librarys_threads_and_left_alone_on_others);
    RUN(every_wait_strategy_and_pinning_work);
    RUN(the_reply_to_a_kernel_goes_to_that_kernel_and_is_kept_if_it_must);
  }
  return check_result();
}
