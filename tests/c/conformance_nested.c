/* Handlers that wait for other kernels, with a single worker; replies to oneself; several runtimes. */
#include "fixture.h"

enum { CHAIN = 24 };

static uint32_t mode, flags;
static rk_kernel_t chain[CHAIN + 1];

/* Calls the next kernel of the chain; the last one answers. */
static rk_status_t on_chain(rk_context_t *ctx, const rk_message_t *message) {
  rk_message_t next = *message, reply;
  rk_status_t status;
  if (message->type == CHAIN) return rk_context_reply(ctx, message);
  next.type++;
  status = rk_call(chain[next.type], &next, &reply, RK_FOREVER);
  if (status != RK_OK) return status;
  status = rk_context_reply(ctx, &reply);
  rk_release(&reply);
  return status;
}

static void a_chain_of_calls_gets_through_with_one_worker(void) {
  rk_runtime_t *runtime = make_runtime(1);
  rk_launch_options_t options = options_for("chain", mode);
  rk_message_t reply, request = check_message("down and up", 11);
  char id[32];
  int i;
  OK(add_program(runtime, "chain", on_chain, 0, NULL));
  options.flags = flags;
  for (i = 0; i <= CHAIN; i++) {
    snprintf(id, sizeof id, "chain-%d", i);
    OK(rk_launch(runtime, id, &options, &chain[i]));
  }
  for (i = 0; i < 20; i++) {
    OK(rk_call(chain[0], &request, &reply, i % 2 ? RK_FOREVER : MS(50000)));
    CHECK(reply.payload_size == 11 && memcmp(reply.payload, "down and up", 11) == 0 && reply.type == CHAIN);
    OK(rk_release(&reply));
  }
  OK(rk_runtime_destroy(runtime));
}

/* A circle: the last kernel calls the first, whose handler waits for it. */
static rk_status_t on_circle(rk_context_t *ctx, const rk_message_t *message) {
  rk_message_t next = *message, reply;
  rk_status_t status;
  next.type++;
  status = rk_call(chain[next.type % 3], &next, &reply, MS(200));
  if (status == RK_OK) rk_release(&reply);
  (void)ctx;
  return status;
}

static void a_circle_of_calls_is_refused_or_runs_out_of_time_but_never_hangs(void) {
  rk_runtime_t *runtime = make_runtime(1);
  rk_launch_options_t options = options_for("circle", mode);
  rk_message_t reply, request = check_message("x", 1);
  rk_status_t status;
  char id[32];
  int i;
  OK(add_program(runtime, "circle", on_circle, 0, NULL));
  options.flags = flags;
  for (i = 0; i < 3; i++) {
    snprintf(id, sizeof id, "circle-%d", i);
    OK(rk_launch(runtime, id, &options, &chain[i]));
  }
  status = rk_call(chain[0], &request, &reply, MS(20000));
  CHECK(status == RK_ERR_WOULD_DEADLOCK || status == RK_ERR_TIMEOUT);
  OK(rk_runtime_destroy(runtime));
}

static rk_kernel_t narrow;

/* Sends more than fits at once into another kernel, and waits for room. */
static rk_status_t on_flood(rk_context_t *ctx, const rk_message_t *message) {
  uint32_t i;
  for (i = 0; i < message->type; i++) {
    rk_status_t status = rk_send(narrow, message, RK_FOREVER);
    if (status != RK_OK) return status;
  }
  return rk_context_reply(ctx, message);
}

static void a_handler_may_wait_for_room_in_another_kernel_with_one_worker(void) {
  rk_runtime_t *runtime = make_runtime(1);
  rk_launch_options_t options = options_for("sink", mode);
  rk_message_t reply, request = check_message("x", 1);
  rk_kernel_t flood;
  OK(add_program(runtime, "flood", on_flood, 0, NULL));
  options.flags = flags;
  options.input_queue_capacity = 2;
  OK(rk_launch(runtime, "narrow", &options, &narrow));
  options.program = "flood";
  OK(rk_launch(runtime, "flood", &options, &flood));
  request.type = 500;
  OK(rk_call(flood, &request, &reply, RK_FOREVER));
  OK(rk_release(&reply));
  OK(rk_terminate(narrow, RK_FOREVER));
  CHECK(metrics_of(narrow).messages_processed == 500);
  OK(rk_runtime_destroy(runtime));
}

/* From the host: to itself by route 0, as often as it fits. From itself: replies, also to itself. */
static rk_status_t on_mirror(rk_context_t *ctx, const rk_message_t *message) {
  uint64_t *handled = (uint64_t *)rk_context_state(ctx);
  rk_message_t next = *message;
  (*handled)++;
  if (message->source == 0) {
    next.type = 5;
    while (rk_context_send(ctx, 0, &next) == RK_OK) continue;
    return RK_OK;
  }
  if (message->type == 0) return RK_OK;
  next.type--;
  return rk_context_reply(ctx, &next); /* there is no room: its own queue is full */
}

static void replies_to_oneself_are_kept_and_do_not_wedge(void) {
  rk_runtime_t *runtime = make_runtime(1);
  rk_launch_options_t options = options_for("mirror", mode);
  rk_message_t message = check_message("x", 1);
  rk_kernel_t kernel;
  uint32_t route;
  OK(add_program(runtime, "mirror", on_mirror, sizeof(uint64_t), NULL));
  options.flags = flags;
  options.input_queue_capacity = 8;
  OK(rk_launch(runtime, "k", &options, &kernel));
  OK(rk_connect(kernel, kernel, &route));
  OK(rk_send(kernel, &message, 0));
  /* 7 or 8 messages fit; each is answered 5 times. */
  UNTIL(metrics_of(kernel).messages_processed >= 1 + 7 * 6 && metrics_of(kernel).input_queue_depth == 0);
  OK(rk_terminate(kernel, RK_FOREVER));
  CHECK(metrics_of(kernel).messages_failed == 0 && metrics_of(kernel).dead_letters == 0);
  CHECK(metrics_of(kernel).messages_to_kernels == metrics_of(kernel).messages_from_kernels);
  CHECK(metrics_of(kernel).messages_processed == 1 + metrics_of(kernel).messages_from_kernels);
  OK(rk_runtime_destroy(runtime));
}

static void runtimes_live_side_by_side(void) {
  rk_runtime_t *runtimes[5];
  rk_kernel_t kernels[5];
  rk_launch_options_t options = options_for("echo", mode);
  int i, round;
  options.flags = flags;
  for (i = 0; i < 5; i++) {
    runtimes[i] = make_runtime(1);
    OK(rk_launch(runtimes[i], "same id", &options, &kernels[i]) == RK_ERR_INVALID_ARGUMENT ? RK_OK : 1);
    OK(rk_launch(runtimes[i], "same-id", &options, &kernels[i]));
  }
  for (round = 0; round < 20; round++) {
    for (i = 0; i < 5; i++) CHECK(works(kernels[i]));
  }
  for (i = 0; i < 5; i++) {
    int j;
    OK(rk_runtime_destroy(runtimes[i]));
    for (j = i + 1; j < 5; j++) CHECK(works(kernels[j]));
  }
}

static long resident_kib(void) {
  long size = 0, resident = 0;
  FILE *file = fopen("/proc/self/statm", "r");
  if (file == NULL || fscanf(file, "%ld %ld", &size, &resident) != 2) resident = 0;
  if (file != NULL) fclose(file);
  return resident * (sysconf(_SC_PAGESIZE) / 1024);
}

static void kernels_that_come_and_go_leave_no_memory_behind(void) {
  rk_runtime_t *runtime = make_runtime(1);
  rk_launch_options_t options = options_for("echo", mode);
  long before = 0;
  int i, rounds = check_slow() ? 60 : 3000;
  options.flags = flags;
  for (i = 0; i < rounds; i++) {
    rk_kernel_t kernel;
    rk_message_t view, message = check_message("x", 1);
    OK(rk_launch(runtime, "k", &options, &kernel));
    OK(rk_send(kernel, &message, 0));
    OK(rk_receive(kernel, &view, RK_FOREVER));
    CHECK(works(kernel));
    OK(rk_destroy(kernel));
    OK(rk_release(&view)); /* after the kernel it came from */
    if (i == rounds / 3) before = resident_kib();
  }
  if (!check_slow()) CHECK(resident_kib() - before < 2048);
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
    RUN(a_chain_of_calls_gets_through_with_one_worker);
    RUN(a_circle_of_calls_is_refused_or_runs_out_of_time_but_never_hangs);
    RUN(a_handler_may_wait_for_room_in_another_kernel_with_one_worker);
    RUN(replies_to_oneself_are_kept_and_do_not_wedge);
    RUN(runtimes_live_side_by_side);
    RUN(kernels_that_come_and_go_leave_no_memory_behind);
  }
  return check_result();
}
