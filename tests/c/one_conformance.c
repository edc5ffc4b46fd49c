/* The same program on every backend: one source of handlers (one_handlers.h), for CPU threads and for a GPU.
 * RK_TEST_BACKEND is cpu, cuda or auto; RK_TEST_HANDLERS names the handlers' file if it is not beside this one. */
#include "check.h"
#include "one_handlers.h"

static int on_gpu;
static char *handlers_text;
static size_t handlers_size;
static uint32_t mode;

static int read_handlers(void) {
  const char *path = getenv("RK_TEST_HANDLERS");
  char beside[1024];
  FILE *file;
  if (!path) {
    const char *slash = strrchr(__FILE__, '/');
    size_t folder = slash ? (size_t)(slash - __FILE__) + 1 : 0;
    if (folder + 16 > sizeof beside) return 0;
    memcpy(beside, __FILE__, folder);
    strcpy(beside + folder, "one_handlers.h");
    path = beside;
  }
  file = fopen(path, "rb");
  if (!file) {
    printf("%s cannot be read\n", path);
    return 0;
  }
  handlers_text = (char *)malloc(1 << 20);
  handlers_size = handlers_text ? fread(handlers_text, 1, 1 << 20, file) : 0;
  fclose(file);
  return handlers_size > 0;
}

static rk_status_t add(rk_runtime_t *runtime, const char *name, rk_handler_fn handler) {
  rk_program_t program = RK_PROGRAM_INIT;
  program.name = name;
  program.on_message = handler;
  program.state_size = sizeof(one_state_t);
  if (on_gpu) {
    program.cuda_code_kind = RK_CODE_SOURCE;
    program.cuda_code = handlers_text;
    program.cuda_code_size = handlers_size;
  }
  return rk_program_register(runtime, &program);
}

static uint32_t wanted(void) {
  const char *backend = getenv("RK_TEST_BACKEND");
  if (backend && strcmp(backend, "cpu") == 0) return RK_BACKEND_CPU;
  if (backend && strcmp(backend, "cuda") == 0) return RK_BACKEND_CUDA;
  return RK_BACKEND_AUTO;
}

/* One runtime for all tests: compiling takes longer than they do. */
static rk_runtime_t *runtime;

static rk_status_t make_runtime(void) {
  rk_runtime_options_t options = RK_RUNTIME_OPTIONS_INIT;
  uint32_t backend = 0;
  rk_status_t status;
  options.backend = wanted();
  status = rk_runtime_create(&options, &runtime);
  if (status == RK_OK) status = rk_runtime_backend(runtime, &backend);
  on_gpu = backend == RK_BACKEND_CUDA;
#define ADD(handler) \
  if (status == RK_OK) status = add(runtime, #handler, handler)
  ADD(one_echo);
  ADD(one_again);
  ADD(one_sink);
  ADD(one_count);
  ADD(one_status);
  ADD(one_mortal);
  ADD(one_work);
  ADD(one_emit);
  ADD(one_relay);
  ADD(one_times);
  ADD(one_ask);
  ADD(one_sum);
  ADD(one_barrier);
  ADD(one_rules);
  return status;
}

static rk_launch_options_t options_for(const char *program) {
  rk_launch_options_t options = RK_LAUNCH_OPTIONS_INIT;
  options.program = program;
  options.mode = mode;
  options.block_size = 64;
  return options;
}

static rk_kernel_metrics_t metrics_of(rk_kernel_t kernel) {
  rk_kernel_metrics_t metrics = RK_KERNEL_METRICS_INIT;
  if (rk_kernel_metrics(kernel, &metrics) != RK_OK) metrics.state = 99;
  return metrics;
}

static uint32_t state_of(rk_kernel_t kernel) {
  uint32_t state = 99;
  rk_kernel_state(kernel, &state);
  return state;
}

static void fill(unsigned char *bytes, size_t size, unsigned seed) {
  size_t i;
  for (i = 0; i < size; i++) bytes[i] = (unsigned char)(i * 7 + seed);
}

static void a_call_comes_back_with_what_was_sent(void) {
  static const size_t sizes[] = {0, 1, 7, 8, 15, 16, 63, 64, 65, 191, 192};
  rk_launch_options_t options = options_for("one_echo");
  rk_kernel_t kernel;
  unsigned char bytes[256];
  size_t i;
  unsigned round;
  rk_message_t reply, request;
  OK(rk_launch(runtime, "a", &options, &kernel));
  for (round = 0; round < 200; round++) {
    for (i = 0; i < sizeof sizes / sizeof *sizes; i++) {
      fill(bytes, sizes[i], round);
      /* Also from where it is not aligned. */
      if (round % 2) memmove(bytes + 1, bytes, sizes[i]);
      request = check_message(bytes + round % 2, sizes[i]);
      request.type = round;
      request.correlation = 1000 + round;
      OK(rk_call(kernel, &request, &reply, MS(20000)));
      CHECK(reply.payload_size == sizes[i] && reply.type == round && reply.correlation == 1000 + round);
      CHECK(memcmp(reply.payload, bytes + round % 2, sizes[i]) == 0 && reply.source == kernel.id);
      OK(rk_release(&reply));
    }
  }
  request = check_message(bytes, 193);
  CHECK_STATUS(rk_call(kernel, &request, &reply, MS(20000)), RK_ERR_TOO_LARGE);
  CHECK(metrics_of(kernel).messages_sent == 200 * 11);
  OK(rk_destroy(kernel));
}

static void many_messages_come_back_in_order(void) {
  enum { MESSAGES = 20000 };
  rk_launch_options_t options = options_for("one_echo");
  rk_kernel_t kernel;
  uint64_t sent = 0, received = 0;
  rk_kernel_metrics_t metrics;
  options.input_queue_capacity = 64;
  options.output_queue_capacity = 64;
  OK(rk_launch(runtime, "a", &options, &kernel));
  while (received < MESSAGES) {
    rk_message_t out, message = check_message(&sent, sizeof sent);
    rk_status_t status = sent < MESSAGES ? RK_OK : RK_ERR_FULL;
    message.correlation = sent * 3;
    while (sent < MESSAGES && (status = rk_send(kernel, &message, 0)) == RK_OK) message.correlation = ++sent * 3;
    CHECK(status == RK_ERR_FULL || sent == MESSAGES);
    OK(rk_receive(kernel, &out, MS(20000)));
    CHECK(out.payload_size == 8 && memcmp(out.payload, &received, 8) == 0 && out.correlation == received * 3);
    OK(rk_release(&out));
    received++;
  }
  metrics = metrics_of(kernel);
  CHECK(metrics.messages_sent == MESSAGES && metrics.messages_received == MESSAGES);
  UNTIL(metrics_of(kernel).messages_processed == MESSAGES);
  CHECK(!on_gpu || metrics.bytes_to_device >= MESSAGES * 72 - 64 * 72);
  CHECK(!on_gpu || metrics.bytes_from_device == MESSAGES * 72);
  OK(rk_destroy(kernel));
}

static void blocks_have_states_of_their_own(void) {
  rk_launch_options_t options = options_for("one_count");
  rk_kernel_t kernel;
  uint32_t block, round;
  options.grid_size = 3;
  OK(rk_launch(runtime, "a", &options, &kernel));
  for (round = 1; round <= 20; round++) {
    for (block = 0; block < 3; block++) {
      rk_message_t reply, request = check_message(NULL, 0);
      one_state_t state;
      request.block = block;
      OK(rk_call(kernel, &request, &reply, MS(20000)));
      memcpy(&state, reply.payload, sizeof state);
      CHECK(reply.payload_size == sizeof state && state.count == round && state.block == block && reply.block == block);
      OK(rk_release(&reply));
    }
  }
  OK(rk_destroy(kernel));
  /* A new kernel begins anew. */
  OK(rk_launch(runtime, "a", &options, &kernel));
  {
    rk_message_t reply, request = check_message(NULL, 0);
    uint64_t count;
    OK(rk_call(kernel, &request, &reply, MS(20000)));
    memcpy(&count, reply.payload, sizeof count);
    CHECK(count == 1);
    OK(rk_release(&reply));
  }
  OK(rk_destroy(kernel));
}

static void what_handlers_may_not_is_a_status(void) {
  rk_launch_options_t options = options_for("one_rules");
  rk_kernel_t kernel;
  rk_message_t reply, request = check_message("x", 1);
  int32_t got[6];
  options.grid_size = 2;
  OK(rk_launch(runtime, "a", &options, &kernel));
  request.block = 1;
  OK(rk_call(kernel, &request, &reply, MS(20000)));
  CHECK(reply.payload_size == sizeof got);
  memcpy(got, reply.payload, sizeof got);
  CHECK(got[0] == RK_ERR_TOO_LARGE && got[1] == RK_ERR_NO_ROUTE && got[2] == RK_ERR_NO_ROUTE);
  CHECK(got[3] == RK_ERR_TOO_LARGE && got[4] == RK_ERR_INVALID_ARGUMENT && got[5] == 102);
  OK(rk_release(&reply));
  UNTIL(metrics_of(kernel).messages_processed == 1);
  OK(rk_destroy(kernel));
}

static void a_message_that_fails_is_a_dead_letter_and_the_kernel_goes_on(void) {
  rk_launch_options_t options = options_for("one_status");
  rk_kernel_t kernel;
  rk_message_t reply, request = check_message("bad", 3);
  rk_dead_letter_t letter;
  rk_kernel_metrics_t metrics;
  OK(rk_launch(runtime, "a", &options, &kernel));
  request.type = 42;
  request.correlation = 9;
  CHECK_STATUS(rk_call(kernel, &request, &reply, MS(20000)), 42);
  OK(rk_receive_dead_letter(runtime, &letter, MS(20000)));
  CHECK(letter.reason == RK_DEAD_HANDLER && letter.status == 42 && letter.kernel.id == kernel.id);
  CHECK(letter.message.payload_size == 3 && memcmp(letter.message.payload, "bad", 3) == 0);
  CHECK(letter.message.correlation == 9 && letter.message.type == 42);
  OK(rk_release(&letter.message));
  request.type = 0;
  OK(rk_call(kernel, &request, &reply, MS(20000)));
  OK(rk_release(&reply));
  UNTIL(metrics_of(kernel).messages_processed == 1);
  metrics = metrics_of(kernel);
  CHECK(metrics.messages_failed == 1 && metrics.dead_letters == 1 && metrics.last_error == 42);
  CHECK(metrics.gpu_launched == (on_gpu && mode != RK_MODE_EVENT_DRIVEN) && state_of(kernel) == RK_STATE_ACTIVE);
  OK(rk_destroy(kernel));
}

static void a_block_that_fails_fails_its_kernel(void) {
  rk_launch_options_t options = options_for("one_status");
  rk_kernel_t kernel;
  rk_message_t message = check_message("x", 1);
  rk_dead_letter_t letter;
  int i;
  options.grid_size = 2;
  options.flags = RK_LAUNCH_SUSPENDED;
  OK(rk_launch(runtime, "a", &options, &kernel));
  message.type = (uint32_t)RK_ERR_KERNEL_FAILED;
  OK(rk_send(kernel, &message, 0));
  message.type = 0;
  for (i = 0; i < 5; i++) OK(rk_send(kernel, &message, 0));
  OK(rk_activate(kernel));
  CHECK_STATUS(rk_wait(kernel, MS(20000)), RK_ERR_KERNEL_FAILED);
  CHECK(state_of(kernel) == RK_STATE_FAILED);
  CHECK_STATUS(rk_send(kernel, &message, 0), RK_ERR_KERNEL_FAILED);
  for (i = 0; i < 6; i++) {
    OK(rk_receive_dead_letter(runtime, &letter, MS(20000)));
    CHECK(letter.reason == RK_DEAD_HANDLER && letter.status == RK_ERR_KERNEL_FAILED);
    OK(rk_release(&letter.message));
  }
  OK(rk_terminate(kernel, MS(20000)));
  CHECK(state_of(kernel) == RK_STATE_TERMINATED);
  OK(rk_destroy(kernel));
}

static void a_block_that_fails_is_restarted_with_zeroed_state(void) {
  rk_launch_options_t options = options_for("one_mortal");
  rk_kernel_t kernel;
  rk_message_t reply, message = check_message("x", 1);
  rk_dead_letter_t letter;
  uint32_t round, i;
  options.grid_size = 2;
  options.restart = RK_RESTART_ON_FAILURE;
  options.restart_max = 10;
  OK(rk_launch(runtime, "a", &options, &kernel));
  for (round = 1; round <= 10; round++) {
    message.block = 0;
    message.correlation = 5;
    OK(rk_send(kernel, &message, 0));
    message.correlation = 0;
    for (i = 1; i <= 3; i++) {
      one_state_t state;
      message.block = 0; /* behind the failure */
      OK(rk_call(kernel, &message, &reply, MS(20000)));
      memcpy(&state, reply.payload, sizeof state);
      CHECK(state.count == i && state.sum == 0);
      OK(rk_release(&reply));
      message.block = 1; /* another block, which goes on */
      OK(rk_call(kernel, &message, &reply, MS(20000)));
      memcpy(&state, reply.payload, sizeof state);
      CHECK(state.count == 3 * (round - 1) + i);
      OK(rk_release(&reply));
    }
    OK(rk_receive_dead_letter(runtime, &letter, MS(20000)));
    CHECK(letter.reason == RK_DEAD_HANDLER && letter.status == RK_ERR_KERNEL_FAILED && letter.message.correlation == 5);
    OK(rk_release(&letter.message));
    UNTIL(metrics_of(kernel).restarts == round);
  }
  CHECK(state_of(kernel) == RK_STATE_ACTIVE);
  message.block = 0;
  message.correlation = 5;
  CHECK_STATUS(rk_call(kernel, &message, &reply, MS(20000)), RK_ERR_KERNEL_FAILED);
  CHECK_STATUS(rk_wait(kernel, MS(20000)), RK_ERR_KERNEL_FAILED);
  OK(rk_receive_dead_letter(runtime, &letter, MS(20000)));
  OK(rk_release(&letter.message));
  OK(rk_destroy(kernel));
}

static void a_paused_kernel_handles_nothing_and_forgets_nothing(void) {
  rk_launch_options_t options = options_for("one_count");
  rk_kernel_t kernel;
  rk_message_t out, message = check_message("x", 1);
  int round, i;
  OK(rk_launch(runtime, "a", &options, &kernel));
  for (round = 0; round < 20; round++) {
    uint64_t before;
    for (i = 0; i < 10; i++) OK(rk_send(kernel, &message, MS(20000)));
    OK(rk_deactivate(kernel));
    CHECK(state_of(kernel) == RK_STATE_DEACTIVATED);
    before = metrics_of(kernel).messages_processed;
    OK(rk_send(kernel, &message, MS(20000)));
    check_sleep_ms(2);
    CHECK(metrics_of(kernel).messages_processed == before);
    OK(rk_activate(kernel));
    for (i = 0; i < 11; i++) {
      OK(rk_receive(kernel, &out, MS(20000)));
      OK(rk_release(&out));
    }
  }
  UNTIL(metrics_of(kernel).messages_processed == 220);
  OK(rk_destroy(kernel));
}

static void a_terminate_drains_or_runs_out_of_time(void) {
  rk_launch_options_t options = options_for("one_work");
  rk_kernel_t kernel;
  rk_message_t message = check_message("x", 1), out;
  rk_dead_letter_t letter;
  int i, left = 0;
  OK(rk_launch(runtime, "a", &options, &kernel));
  message.type = 200;
  for (i = 0; i < 50; i++) OK(rk_send(kernel, &message, MS(20000)));
  OK(rk_terminate(kernel, MS(20000)));
  CHECK(state_of(kernel) == RK_STATE_TERMINATED && metrics_of(kernel).messages_processed == 50);
  CHECK_STATUS(rk_send(kernel, &message, 0), RK_ERR_TERMINATED);
  for (i = 0; i < 50; i++) {
    OK(rk_receive(kernel, &out, 0));
    OK(rk_release(&out));
  }
  CHECK_STATUS(rk_receive(kernel, &out, 0), RK_ERR_TERMINATED);
  OK(rk_destroy(kernel));
  /* 20 times 30 ms do not end within 50 ms. */
  OK(rk_launch(runtime, "a", &options, &kernel));
  message.type = 30000;
  for (i = 0; i < 20; i++) OK(rk_send(kernel, &message, MS(20000)));
  CHECK_STATUS(rk_terminate(kernel, MS(50)), RK_ERR_TIMEOUT);
  OK(rk_terminate(kernel, MS(20000)));
  CHECK(state_of(kernel) == RK_STATE_TERMINATED);
  while (rk_receive_dead_letter(runtime, &letter, 0) == RK_OK) {
    left++;
    CHECK(letter.reason == RK_DEAD_TERMINATED && letter.kernel.id == kernel.id);
    OK(rk_release(&letter.message));
  }
  CHECK(left >= 10 && left + (int)metrics_of(kernel).messages_processed == 20);
  OK(rk_destroy(kernel));
}

static void a_long_handler_can_ask_whether_to_stop(void) {
  rk_launch_options_t options = options_for("one_work");
  rk_kernel_t kernel;
  rk_message_t message = check_message("x", 1);
  rk_dead_letter_t letter;
  uint64_t start;
  OK(rk_launch(runtime, "a", &options, &kernel));
  message.type = 30u * 1000 * 1000;
  message.correlation = 1;
  OK(rk_send(kernel, &message, 0));
  check_sleep_ms(50);
  start = check_now();
  OK(rk_deactivate(kernel));
  CHECK(check_now() - start < MS(10000));
  OK(rk_receive_dead_letter(runtime, &letter, MS(20000)));
  CHECK(letter.reason == RK_DEAD_HANDLER && letter.status == 77);
  OK(rk_release(&letter.message));
  OK(rk_destroy(kernel));
}

static void kernels_send_to_each_other(void) {
  rk_launch_options_t options = options_for("one_relay");
  rk_kernel_t a, b;
  rk_message_t out, message = check_message("over the route", 14);
  rk_dead_letter_t letter;
  uint32_t route, other, i;
  uint64_t full;
  options.grid_size = 2;
  options.input_queue_capacity = 4;
  OK(rk_launch(runtime, "a", &options, &a));
  OK(rk_launch(runtime, "b", &options, &b));
  OK(rk_connect(a, b, &route));
  CHECK(route == 0);
  for (i = 0; i < 300; i++) {
    message.correlation = i;
    message.block = i % 2;
    message.type = route;
    OK(rk_send(a, &message, MS(20000)));
    OK(rk_receive(b, &out, MS(20000)));
    CHECK(out.payload_size == 14 && memcmp(out.payload, "over the route", 14) == 0 && out.correlation == i);
    CHECK(out.source == b.id && (i % 3 == 2 || out.block == i % 3));
    OK(rk_release(&out));
  }
  UNTIL(metrics_of(b).messages_from_kernels == 300 && metrics_of(a).messages_to_kernels == 300);
  UNTIL(metrics_of(b).messages_processed == 300);
  /* The other does not take: full is said, and nothing lost. */
  OK(rk_deactivate(b));
  message.block = 0;
  message.correlation = 0;
  for (i = 0, full = 0; i < 10 && mode != RK_MODE_EVENT_DRIVEN; i++) {
    OK(rk_send(a, &message, MS(20000)));
    /* Until it was taken or refused, however long that takes here. */
    while (metrics_of(a).messages_to_kernels <= 300 + i - full) {
      if (rk_receive(a, &out, MS(10)) != RK_OK) continue;
      CHECK(out.type == (uint32_t)-RK_ERR_FULL);
      OK(rk_release(&out));
      full++;
      break;
    }
  }
  OK(rk_activate(b));
  for (i = 0; i < 10 - full && mode != RK_MODE_EVENT_DRIVEN; i++) {
    OK(rk_receive(b, &out, MS(20000)));
    OK(rk_release(&out));
  }
  CHECK(mode == RK_MODE_EVENT_DRIVEN || full == 6);
  /* A route that has ended. */
  OK(rk_connect(a, b, &other));
  CHECK(other == 1);
  OK(rk_disconnect(a, route));
  OK(rk_send(a, &message, MS(20000)));
  OK(rk_receive(a, &out, MS(20000)));
  CHECK(out.type == (uint32_t)-RK_ERR_NO_ROUTE);
  OK(rk_release(&out));
  message.type = other;
  OK(rk_send(a, &message, MS(20000)));
  OK(rk_receive(b, &out, MS(20000)));
  OK(rk_release(&out));
  /* A kernel that has ended. */
  OK(rk_terminate(b, MS(20000)));
  message.correlation = 30;
  OK(rk_send(a, &message, MS(20000)));
  OK(rk_receive_dead_letter(runtime, &letter, MS(20000)));
  CHECK(letter.reason == RK_DEAD_TERMINATED && letter.kernel.id == b.id && letter.message.source == a.id);
  CHECK(letter.message.payload_size == 14 && letter.message.correlation == 30);
  OK(rk_release(&letter.message));
  /* And its seats go to another, which gets nothing of it. */
  {
    rk_kernel_t c;
    OK(rk_launch(runtime, "c", &options, &c));
    OK(rk_send(a, &message, MS(20000)));
    OK(rk_receive_dead_letter(runtime, &letter, MS(20000)));
    CHECK(letter.reason == RK_DEAD_TERMINATED && letter.kernel.id == b.id);
    OK(rk_release(&letter.message));
    CHECK(metrics_of(c).messages_from_kernels == 0);
    OK(rk_destroy(c));
  }
  OK(rk_destroy(a));
  OK(rk_destroy(b));
}

static void a_kernel_answers_another(void) {
  rk_launch_options_t options = options_for("one_ask");
  rk_kernel_t a, b;
  rk_message_t out, message = check_message("question", 8);
  uint32_t route, i;
  OK(rk_launch(runtime, "a", &options, &a));
  OK(rk_launch(runtime, "b", &options, &b));
  OK(rk_connect(a, b, &route));
  for (i = 1; i <= 100; i++) {
    message.correlation = i;
    OK(rk_send(a, &message, MS(20000)));
    OK(rk_receive(a, &out, MS(20000)));
    CHECK(out.type == 2 && out.correlation == i && out.payload_size == 8 && memcmp(out.payload, "question", 8) == 0);
    OK(rk_release(&out));
  }
  OK(rk_destroy(a));
  OK(rk_destroy(b));
}

static void large_payloads_arrive_whole(void) {
  static const size_t sizes[] = {432, 433, 448, 1000, 4096, 100000, 262144};
  rk_launch_options_t options = options_for("one_sum");
  rk_kernel_t sum, echo;
  unsigned char *bytes = (unsigned char *)malloc(262144);
  size_t i, at;
  CHECK(bytes != NULL);
  options.payload_size_max = 262144;
  options.input_queue_capacity = 4;
  options.output_queue_capacity = 4;
  options.shared_memory_size = 64 * 8;
  OK(rk_launch(runtime, "sum", &options, &sum));
  options.program = "one_echo";
  OK(rk_launch(runtime, "echo", &options, &echo));
  for (i = 0; i < sizeof sizes / sizeof *sizes; i++) {
    rk_message_t reply, request = check_message(bytes, sizes[i]);
    uint64_t expected = 0, got;
    fill(bytes, sizes[i], (unsigned)i);
    for (at = 0; at < sizes[i]; at++) expected += bytes[at];
    OK(rk_call(sum, &request, &reply, MS(20000)));
    CHECK(reply.payload_size == 8);
    memcpy(&got, reply.payload, 8);
    CHECK(got == expected);
    OK(rk_release(&reply));
    OK(rk_call(echo, &request, &reply, MS(20000)));
    CHECK(reply.payload_size == sizes[i] && memcmp(reply.payload, bytes, sizes[i]) == 0);
    OK(rk_release(&reply));
  }
  OK(rk_destroy(sum));
  OK(rk_destroy(echo));
  free(bytes);
}

static void nothing_is_lost_when_the_output_is_full(void) {
  rk_launch_options_t options = options_for("one_emit");
  rk_kernel_t kernel;
  rk_message_t out, message = check_message("out", 3);
  rk_dead_letter_t letter;
  uint32_t i, letters = 0;
  options.output_queue_capacity = 4;
  OK(rk_launch(runtime, "a", &options, &kernel));
  message.type = 1000;
  message.correlation = 5;
  OK(rk_send(kernel, &message, 0));
  check_sleep_ms(20);
  for (i = 0; i < 1000; i++) {
    OK(rk_receive(kernel, &out, MS(20000)));
    CHECK(out.type == i && out.correlation == 5 + i && out.payload_size == 3);
    OK(rk_release(&out));
  }
  OK(rk_destroy(kernel));
  options.overflow = RK_OVERFLOW_DEAD_LETTER;
  OK(rk_launch(runtime, "a", &options, &kernel));
  OK(rk_send(kernel, &message, 0));
  UNTIL(metrics_of(kernel).messages_processed == 1 && metrics_of(kernel).dead_letters == 996);
  while (rk_receive_dead_letter(runtime, &letter, 0) == RK_OK) {
    CHECK(letter.reason == RK_DEAD_OVERFLOW);
    OK(rk_release(&letter.message));
    letters++;
  }
  CHECK(letters == 996);
  OK(rk_destroy(kernel));
}

static void a_message_past_its_deadline_is_not_handled(void) {
  rk_launch_options_t options = options_for("one_echo");
  rk_kernel_t kernel;
  rk_message_t reply, message = check_message("late", 4);
  rk_dead_letter_t letter;
  options.flags = RK_LAUNCH_SUSPENDED;
  OK(rk_launch(runtime, "a", &options, &kernel));
  message.deadline_ns = check_now() + MS(5);
  OK(rk_send(kernel, &message, 0));
  check_sleep_ms(20);
  OK(rk_activate(kernel));
  OK(rk_receive_dead_letter(runtime, &letter, MS(20000)));
  CHECK(letter.reason == RK_DEAD_EXPIRED && letter.message.payload_size == 4);
  OK(rk_release(&letter.message));
  message.deadline_ns = check_now() + MS(10000);
  OK(rk_call(kernel, &message, &reply, MS(20000)));
  OK(rk_release(&reply));
  UNTIL(metrics_of(kernel).messages_processed == 1);
  OK(rk_destroy(kernel));
}

static void timestamps_increase_and_follow_what_was_seen(void) {
  rk_launch_options_t options = options_for("one_emit");
  rk_kernel_t kernel;
  rk_message_t out, message = check_message(NULL, 0);
  rk_timestamp_t last = {0, 0, 0};
  uint32_t i, round;
  struct timespec wall;
  options.flags = RK_LAUNCH_TIMESTAMPS;
  OK(rk_launch(runtime, "a", &options, &kernel));
  for (round = 0; round < 20; round++) {
    message.type = 50;
    OK(rk_send(kernel, &message, MS(20000)));
    for (i = 0; i < 50; i++) {
      OK(rk_receive(kernel, &out, MS(20000)));
      CHECK(out.timestamp.physical_ns > last.physical_ns ||
            (out.timestamp.physical_ns == last.physical_ns && out.timestamp.logical > last.logical));
      CHECK(last.node == 0 || out.timestamp.node == last.node);
      last = out.timestamp;
      OK(rk_release(&out));
    }
  }
  clock_gettime(CLOCK_REALTIME, &wall);
  /* The device's clock is compared with the host's now and then, not the same. */
  CHECK(last.node != 0 && last.physical_ns / 1000000000u + 2 > (uint64_t)wall.tv_sec);
  CHECK(last.physical_ns / 1000000000u < (uint64_t)wall.tv_sec + 2);
  OK(rk_destroy(kernel));
}

static int time_order(rk_timestamp_t a, rk_timestamp_t b) {
  if (a.physical_ns != b.physical_ns) return a.physical_ns < b.physical_ns ? -1 : 1;
  return a.logical < b.logical ? -1 : a.logical > b.logical;
}

/* Whatever way messages take (through the host, from device to device, to the host), their kernel has one clock. */
static void a_kernel_has_one_clock_for_all_that_it_sends(void) {
  enum { ROUNDS = 30 };
  rk_launch_options_t options = options_for("one_times");
  rk_kernel_t a, to[2];
  rk_message_t out, message = check_message(NULL, 0);
  rk_timestamp_t times[3 * ROUNDS], read, last;
  uint32_t i, k, route, answers, emitted;
  options.flags = RK_LAUNCH_TIMESTAMPS;
  OK(rk_launch(runtime, "a", &options, &a));
  for (k = 0; k < 2; k++) {
    options.mode = k == 0 ? RK_MODE_EVENT_DRIVEN : RK_MODE_PERSISTENT;
    OK(rk_launch(runtime, k == 0 ? "b" : "c", &options, &to[k]));
    OK(rk_connect(a, to[k], &route));
    CHECK(route == k);
  }
  memset(times, 0, sizeof times);
  message.type = ROUNDS;
  OK(rk_send(a, &message, MS(20000)));
  for (k = 0; k < 2; k++) {
    memset(&last, 0, sizeof last);
    for (i = 0; i < ROUNDS; i++) {
      OK(rk_receive(to[k], &out, MS(20000)));
      CHECK(out.correlation == 3 * i + k && out.payload_size == sizeof read);
      memcpy(&read, out.payload, sizeof read);
      times[out.correlation] = read;
      CHECK(time_order(read, out.timestamp) < 0 && time_order(last, out.timestamp) < 0);
      CHECK(read.node != 0 && out.timestamp.node != 0 && read.node != out.timestamp.node);
      last = out.timestamp;
      OK(rk_release(&out));
    }
  }
  for (answers = emitted = 0; answers + emitted < 3 * ROUNDS;) {
    OK(rk_receive(a, &out, MS(20000)));
    if (out.type == 0) {
      times[out.correlation] = out.timestamp;
      emitted++;
    } else { /* answered after it was asked, by another clock */
      CHECK(out.payload_size == sizeof read && out.correlation % 3 < 2);
      memcpy(&read, out.payload, sizeof read);
      CHECK(time_order(times[out.correlation], read) < 0 && times[out.correlation].node != read.node);
      CHECK(time_order(read, out.timestamp) < 0);
      answers++;
    }
    OK(rk_release(&out));
  }
  CHECK(emitted == ROUNDS && answers == 2 * ROUNDS);
  for (i = 1; i < 3 * ROUNDS; i++) {
    CHECK(time_order(times[i - 1], times[i]) < 0 && times[i].node == times[0].node);
  }
  OK(rk_destroy(a));
  for (k = 0; k < 2; k++) OK(rk_destroy(to[k]));
}

static void loans_are_sent_skipped_and_revoked(void) {
  rk_launch_options_t options = options_for("one_echo");
  rk_kernel_t kernel;
  rk_loan_t loan, other, open;
  rk_message_t out, header = check_message(NULL, 0);
  OK(rk_launch(runtime, "a", &options, &kernel));
  OK(rk_reserve(kernel, 0, 16, 0, &loan));
  OK(rk_reserve(kernel, 0, 16, 0, &other));
  memcpy(loan.payload, "loan", 4);
  memcpy(other.payload, "gone", 4);
  header.correlation = 3;
  OK(rk_abort(&other));
  OK(rk_commit(&loan, &header, 4));
  OK(rk_receive(kernel, &out, MS(20000)));
  CHECK(out.payload_size == 4 && memcmp(out.payload, "loan", 4) == 0 && out.correlation == 3);
  OK(rk_release(&out));
  /* A terminate does not wait for a loan, and messages behind it are handled. */
  OK(rk_reserve(kernel, 0, 16, 0, &open));
  out = check_message("behind", 6);
  OK(rk_send(kernel, &out, 0));
  OK(rk_terminate(kernel, MS(20000)));
  OK(rk_receive(kernel, &out, 0));
  CHECK(out.payload_size == 6 && memcmp(out.payload, "behind", 6) == 0);
  OK(rk_release(&out));
  memset(open.payload, 1, 16);
  CHECK_STATUS(rk_commit(&open, &header, 16), RK_ERR_TERMINATED);
  OK(rk_destroy(kernel));
}

typedef struct pausing_t {
  rk_kernel_t kernel;
  rk_status_t status;
} pausing_t;

static void *pause_it(void *raw) {
  pausing_t *pausing = (pausing_t *)raw;
  pausing->status = rk_deactivate(pausing->kernel);
  return NULL;
}

static void *receive_it(void *raw) {
  pausing_t *receiving = (pausing_t *)raw;
  rk_message_t out;
  receiving->status = rk_receive(receiving->kernel, &out, RK_FOREVER);
  return NULL;
}

static void a_receiver_that_spins_learns_of_the_end(void) {
  rk_launch_options_t options = options_for("one_echo");
  pausing_t receiving;
  pthread_t thread;
  options.wait_strategy = RK_WAIT_SPIN;
  OK(rk_launch(runtime, "a", &options, &receiving.kernel));
  CHECK(pthread_create(&thread, NULL, receive_it, &receiving) == 0);
  check_sleep_ms(20);
  OK(rk_terminate(receiving.kernel, MS(20000)));
  pthread_join(thread, NULL);
  CHECK(receiving.status == RK_ERR_TERMINATED);
  OK(rk_destroy(receiving.kernel));
}

/* A block that has nothing left has ended while the other has many messages, and does not begin again. */
static void a_drain_of_uneven_blocks_ends(void) {
  enum { FEW = 100, MANY = 400 };
  rk_launch_options_t options = options_for("one_echo");
  rk_kernel_metrics_t metrics = RK_KERNEL_METRICS_INIT;
  rk_kernel_t kernel;
  rk_message_t out, message = check_message("drain", 5);
  uint32_t i;
  options.grid_size = 2;
  options.flags = RK_LAUNCH_SUSPENDED;
  options.input_queue_capacity = 512;
  OK(rk_launch(runtime, "a", &options, &kernel));
  for (i = 0; i < FEW + MANY; i++) {
    message.block = i >= FEW;
    OK(rk_send(kernel, &message, 0));
  }
  OK(rk_activate(kernel));
  OK(rk_terminate(kernel, MS(20000)));
  for (i = 0; i < FEW + MANY; i++) {
    OK(rk_receive(kernel, &out, 0));
    OK(rk_release(&out));
  }
  CHECK_STATUS(rk_receive(kernel, &out, 0), RK_ERR_TERMINATED);
  OK(rk_kernel_metrics(kernel, &metrics));
  CHECK(metrics.messages_processed == FEW + MANY);
  OK(rk_destroy(kernel));
}

/* A kernel that sends to itself for ever comes to its end all the same: no message gets in after a terminate. */
static void a_kernel_that_feeds_itself_ends(void) {
  rk_launch_options_t options = options_for("one_again");
  rk_kernel_t kernel;
  rk_message_t message = check_message("again", 5);
  uint64_t began;
  uint32_t route;
  OK(rk_launch(runtime, "a", &options, &kernel));
  OK(rk_connect(kernel, kernel, &route));
  message.type = 0xffffffffu;
  OK(rk_send(kernel, &message, MS(20000)));
  UNTIL(metrics_of(kernel).messages_processed > 100);
  began = check_now();
  OK(rk_terminate(kernel, RK_FOREVER));
  CHECK(check_now() - began < MS(10000));
  OK(rk_destroy(kernel));
}

static void an_open_loan_makes_nothing_run(void) {
  rk_launch_options_t options = options_for("one_echo");
  rk_kernel_metrics_t before = RK_KERNEL_METRICS_INIT, after = RK_KERNEL_METRICS_INIT;
  rk_kernel_t kernel;
  rk_loan_t loan;
  OK(rk_launch(runtime, "a", &options, &kernel));
  OK(rk_reserve(kernel, 0, 8, 0, &loan));
  check_sleep_ms(20);
  OK(rk_kernel_metrics(kernel, &before));
  check_sleep_ms(100);
  OK(rk_kernel_metrics(kernel, &after));
  CHECK(after.invocations - before.invocations < 20 || mode == RK_MODE_PERSISTENT);
  OK(rk_abort(&loan));
  OK(rk_terminate(kernel, MS(20000)));
  OK(rk_destroy(kernel));
}

static void the_blocks_of_a_grid_meet(void) {
  rk_launch_options_t options = options_for("one_barrier");
  pausing_t pausing;
  pthread_t thread;
  uint64_t began;
  rk_kernel_t kernel;
  rk_message_t out, message = check_message(NULL, 0);
  uint32_t block, round;
  if (!on_gpu || mode == RK_MODE_EVENT_DRIVEN) return;
  options.grid_size = 4;
  options.flags = RK_LAUNCH_COOPERATIVE;
  OK(rk_launch(runtime, "a", &options, &kernel));
  for (round = 0; round < 20; round++) {
    message.type = 25;
    message.correlation = round;
    for (block = 0; block < 4; block++) {
      message.block = block;
      OK(rk_send(kernel, &message, MS(20000)));
    }
    for (block = 0; block < 4; block++) {
      OK(rk_receive(kernel, &out, MS(20000)));
      CHECK(out.type == 25 && out.correlation == round);
      OK(rk_release(&out));
    }
  }
  /* A pause waits for handlers, and two wait for others that have not begun: those come, although they are to pause. */
  for (block = 0; block < 2; block++) {
    message.block = block;
    OK(rk_send(kernel, &message, MS(20000)));
  }
  check_sleep_ms(5);
  pausing.kernel = kernel;
  CHECK(pthread_create(&thread, NULL, pause_it, &pausing) == 0);
  check_sleep_ms(20);
  for (; block < 4; block++) {
    message.block = block;
    OK(rk_send(kernel, &message, MS(20000)));
  }
  pthread_join(thread, NULL);
  CHECK(pausing.status == RK_OK);
  message.block = 0;
  OK(rk_send(kernel, &message, MS(20000))); /* for the next round: a kernel that pauses handles nothing */
  for (block = 0; block < 4; block++) {
    OK(rk_receive(kernel, &out, MS(20000)));
    CHECK(out.type == 25);
    OK(rk_release(&out));
  }
  check_sleep_ms(20);
  CHECK_STATUS(rk_receive(kernel, &out, 0), RK_ERR_EMPTY);
  OK(rk_activate(kernel));
  for (block = 1; block < 4; block++) {
    message.block = block;
    OK(rk_send(kernel, &message, MS(20000)));
  }
  for (block = 0; block < 4; block++) {
    OK(rk_receive(kernel, &out, MS(20000)));
    CHECK(out.type == 25);
    OK(rk_release(&out));
  }
  /* lesson 15: three wait for a fourth that never comes, and leave together when the kernel ends. */
  for (block = 0; block < 3; block++) {
    message.block = block;
    OK(rk_send(kernel, &message, MS(20000)));
  }
  check_sleep_ms(5);
  began = check_now();
  /* Nothing is left behind, so it has not run out of time; and nobody waits for one that has come to its end. */
  OK(rk_terminate(kernel, RK_FOREVER));
  CHECK(check_now() - began < MS(5000));
  for (block = 0; block < 3; block++) {
    OK(rk_receive(kernel, &out, MS(20000)));
    CHECK(out.type == 0);
    OK(rk_release(&out));
  }
  OK(rk_destroy(kernel));
}

typedef struct sender_t {
  rk_kernel_t kernel;
  uint32_t number;
  uint64_t wrong;
} sender_t;

static void *call_many(void *raw) {
  sender_t *sender = (sender_t *)raw;
  uint64_t i, calls = check_slow() ? 200 : 2000;
  for (i = 0; i < calls; i++) {
    uint64_t words[4], back[4];
    rk_message_t reply, request = check_message(words, sizeof words);
    words[0] = words[3] = i;
    words[1] = words[2] = sender->number;
    request.block = RK_ANY_BLOCK;
    if (rk_call(sender->kernel, &request, &reply, MS(20000)) != RK_OK) {
      sender->wrong++;
      continue;
    }
    memcpy(back, reply.payload, sizeof back);
    if (memcmp(back, words, sizeof back) != 0) sender->wrong++;
    if (rk_release(&reply) != RK_OK) sender->wrong++;
  }
  return NULL;
}

static void many_threads_call_many_blocks(void) {
  enum { SENDERS = 4 };
  rk_launch_options_t options = options_for("one_echo");
  rk_kernel_t kernel;
  pthread_t threads[SENDERS];
  sender_t senders[SENDERS];
  uint32_t i;
  options.grid_size = 3;
  options.input_queue_capacity = 8;
  OK(rk_launch(runtime, "a", &options, &kernel));
  for (i = 0; i < SENDERS; i++) {
    senders[i].kernel = kernel;
    senders[i].number = i;
    senders[i].wrong = 0;
    CHECK(pthread_create(&threads[i], NULL, call_many, &senders[i]) == 0);
  }
  for (i = 0; i < SENDERS; i++) CHECK(pthread_join(threads[i], NULL) == 0);
  for (i = 0; i < SENDERS; i++) CHECK(senders[i].wrong == 0);
  UNTIL(metrics_of(kernel).messages_processed == metrics_of(kernel).messages_sent);
  OK(rk_destroy(kernel));
}

static void kernels_come_and_go(void) {
  rk_launch_options_t options = options_for("one_count");
  rk_kernel_t kernels[8], listed[16];
  size_t count = 0;
  int round, i;
  for (round = 0; round < 25; round++) {
    char id[16];
    for (i = 0; i < 8; i++) {
      snprintf(id, sizeof id, "k%d", i);
      options.grid_size = (uint32_t)(i % 3) + 1;
      OK(rk_launch(runtime, id, &options, &kernels[i]));
    }
    OK(rk_list(runtime, listed, 16, &count));
    CHECK(count == 8);
    for (i = 0; i < 8; i++) {
      rk_message_t reply, request = check_message(NULL, 0);
      uint64_t handled;
      OK(rk_call(kernels[i], &request, &reply, MS(20000)));
      memcpy(&handled, reply.payload, sizeof handled);
      CHECK(handled == 1);
      OK(rk_release(&reply));
      if (i % 2) OK(rk_terminate(kernels[i], MS(20000)));
    }
    for (i = 0; i < 8; i++) OK(rk_destroy(kernels[i]));
  }
}

/* What a test that failed has left. */
static void sweep(void) {
  rk_kernel_t left[64];
  rk_dead_letter_t letter;
  size_t count = 0, i;
  if (rk_list(runtime, left, 64, &count) != RK_OK) return;
  for (i = 0; i < count; i++) rk_destroy(left[i]);
  while (rk_receive_dead_letter(runtime, &letter, 0) == RK_OK) rk_release(&letter.message);
}

#undef RUN
#define RUN(test)                          \
  do {                                     \
    if (check_begin(argc, argv, #test)) {  \
      test();                              \
      sweep();                             \
      check_end();                         \
    }                                      \
  } while (0)

static void all(int argc, char **argv) {
  RUN(a_call_comes_back_with_what_was_sent);
  RUN(many_messages_come_back_in_order);
  RUN(blocks_have_states_of_their_own);
  RUN(what_handlers_may_not_is_a_status);
  RUN(a_message_that_fails_is_a_dead_letter_and_the_kernel_goes_on);
  RUN(a_block_that_fails_fails_its_kernel);
  RUN(a_block_that_fails_is_restarted_with_zeroed_state);
  RUN(a_paused_kernel_handles_nothing_and_forgets_nothing);
  RUN(a_terminate_drains_or_runs_out_of_time);
  RUN(a_long_handler_can_ask_whether_to_stop);
  RUN(kernels_send_to_each_other);
  RUN(a_kernel_answers_another);
  RUN(large_payloads_arrive_whole);
  RUN(nothing_is_lost_when_the_output_is_full);
  RUN(a_message_past_its_deadline_is_not_handled);
  RUN(timestamps_increase_and_follow_what_was_seen);
  RUN(a_kernel_has_one_clock_for_all_that_it_sends);
  RUN(loans_are_sent_skipped_and_revoked);
  RUN(the_blocks_of_a_grid_meet);
  RUN(a_receiver_that_spins_learns_of_the_end);
  RUN(a_drain_of_uneven_blocks_ends);
  RUN(an_open_loan_makes_nothing_run);
  RUN(a_kernel_that_feeds_itself_ends);
  RUN(many_threads_call_many_blocks);
  RUN(kernels_come_and_go);
}

static void the_runtime_ends(void) {
  rk_launch_options_t options = options_for("one_echo");
  rk_kernel_t kernel;
  uint64_t start = check_now();
  OK(rk_launch(runtime, "left", &options, &kernel));
  OK(rk_runtime_destroy(runtime));
  CHECK(check_now() - start < MS(8000));
}

int main(int argc, char **argv) {
  rk_status_t made;
  if (!read_handlers()) return 1;
  made = make_runtime();
  if (made != RK_OK) {
    char text[2048];
    rk_last_error(text, sizeof text);
    printf("no runtime: %s: %s\n", rk_status_name(made), text);
    return 1;
  }
  printf("on the %s\n", on_gpu ? "GPU" : "CPU");
  for (mode = RK_MODE_PERSISTENT; mode <= RK_MODE_EVENT_DRIVEN; mode++) {
    const char *name = mode == RK_MODE_PERSISTENT ? "persistent" : "event-driven";
    const char *only = getenv("RK_TEST_MODE");
    if (only && strcmp(only, name) != 0) continue;
    printf("%s\n", name);
    all(argc, argv);
  }
  mode = RK_MODE_AUTO;
  RUN(the_runtime_ends);
  free(handlers_text);
  check_unused();
  return check_result();
}
