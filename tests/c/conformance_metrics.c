/* lesson 10: every counter against an independent count. */
#include "fixture.h"

static uint32_t mode;

static void lesson_10_every_counter_counts_what_its_name_says(void) {
  rk_runtime_t *runtime = make_runtime(1);
  rk_launch_options_t options = options_for("status", mode);
  rk_runtime_metrics_t totals = RK_RUNTIME_METRICS_INIT;
  rk_kernel_status_t status = RK_KERNEL_STATUS_INIT;
  rk_kernel_metrics_t metrics;
  rk_kernel_t kernel, idle;
  rk_status_t bad = 7, fine = RK_OK;
  rk_message_t out, good = check_message(&fine, sizeof fine), failing = check_message(&bad, sizeof bad);
  rk_message_t batch[3];
  rk_loan_t loan;
  size_t sent;
  uint64_t before = check_now();
  OK(rk_launch(runtime, "k", &options, &kernel));
  options.flags = RK_LAUNCH_SUSPENDED;
  OK(rk_launch(runtime, "idle", &options, &idle));
  OK(rk_metrics(runtime, &totals));
  CHECK(totals.backend == backend_of(runtime) && totals.active_kernels == 2 && totals.total_launched == 2);
  CHECK(totals.messages_sent == 0 && totals.host_memory_used_bytes > 0 && (totals.gpu_memory_used_bytes == 0) == (totals.backend == RK_BACKEND_CPU));
  batch[0] = batch[1] = batch[2] = good;
  OK(rk_send(kernel, &good, 0));                      /* 1 accepted */
  OK(rk_send_batch(kernel, batch, 3, 0, &sent));      /* 3 */
  OK(rk_reserve(kernel, 0, 4, 0, &loan));             /* 1, a handled message without a payload */
  OK(rk_commit(&loan, NULL, 0));
  OK(rk_reserve(kernel, 0, 4, 0, &loan));             /* 0 */
  OK(rk_abort(&loan));
  OK(rk_call(kernel, &good, &out, RK_FOREVER));       /* 1 */
  OK(rk_release(&out));
  OK(rk_send(kernel, &failing, 0));                   /* 1, fails */
  CHECK_STATUS(rk_call(kernel, &failing, &out, RK_FOREVER), 7); /* 1, fails */
  /* The place of the last message is given back after it is counted. */
  UNTIL(metrics_of(kernel).messages_failed == 2 && metrics_of(kernel).input_queue_depth == 0);
  metrics = metrics_of(kernel);
  CHECK(metrics.messages_sent == 8 && metrics.messages_processed == 6 && metrics.dead_letters == 2);
  CHECK(metrics.messages_received == 1 && metrics.output_queue_depth == 5 && metrics.input_queue_depth == 0);
  CHECK(metrics.last_error == 7 && metrics.restarts == 0 && (metrics.gpu_launched == 0 || metrics.backend == RK_BACKEND_CUDA) && metrics.invocations > 0);
  CHECK(metrics.messages_from_kernels == 0 && metrics.messages_to_kernels == 0 && metrics.replies_late == 0);
  CHECK(metrics.queue_ns.count == 0 && metrics.handler_ns.count == 0 && (metrics.bytes_to_device == 0) == (metrics.backend == RK_BACKEND_CPU));
  CHECK(metrics.uptime_ns > 0 && metrics.uptime_ns <= check_now() - before);
  OK(rk_receive(kernel, &out, 0));
  metrics = metrics_of(kernel);
  CHECK(metrics.messages_received == 2 && metrics.output_queue_depth == 4 && metrics.open_leases == 1);
  OK(rk_release(&out));
  CHECK(metrics_of(kernel).open_leases == 0 && metrics_of(kernel).oldest_lease_ns == 0);
  OK(rk_send(idle, &good, 0));
  OK(rk_kernel_status(idle, &status));
  CHECK(status.state == RK_STATE_LAUNCHED && status.input_queue_depth == 1 && status.backend == backend_of(runtime));
  CHECK(status.mode == mode && status.grid_size == 1);
  OK(rk_metrics(runtime, &totals));
  CHECK(totals.messages_sent == 9 && totals.messages_received == 2 && totals.messages_processed == 6);
  CHECK(totals.messages_failed == 2 && totals.dead_letters == 2 && totals.restarts == 0);
  /* What is destroyed stays counted. */
  OK(rk_destroy(kernel));
  OK(rk_terminate(idle, RK_FOREVER));
  OK(rk_metrics(runtime, &totals));
  CHECK(totals.active_kernels == 0 && totals.total_launched == 2 && totals.messages_sent == 9);
  CHECK(totals.messages_received == 2 && totals.messages_processed == 6 && totals.dead_letters == 3);
  {
    uint64_t stands = metrics_of(idle).uptime_ns;
    check_sleep_ms(5);
    CHECK(metrics_of(idle).uptime_ns == stands); /* an ended kernel's uptime stands still */
  }
  OK(rk_runtime_destroy(runtime));
}

static void dead_letters_are_bounded_and_what_is_dropped_is_counted(void) {
  rk_runtime_t *runtime = make_runtime(1);
  rk_launch_options_t options = options_for("sink", mode);
  rk_runtime_metrics_t totals = RK_RUNTIME_METRICS_INIT;
  rk_kernel_t kernel;
  static rk_message_t batch[1024];
  size_t i, sent;
  unsigned round;
  for (i = 0; i < 1024; i++) batch[i] = check_message(NULL, 0);
  options.flags = RK_LAUNCH_SUSPENDED;
  for (round = 0; round < 65; round++) {
    OK(rk_launch(runtime, "k", &options, &kernel));
    OK(rk_send_batch(kernel, batch, 1024, 0, &sent));
    CHECK(sent == 1024);
    OK(rk_destroy(kernel));
  }
  OK(rk_metrics(runtime, &totals));
  CHECK(totals.dead_letters == 65 * 1024 && totals.dead_letters_dropped == 65 * 1024 - 65536);
  OK(rk_runtime_destroy(runtime));
}

int main(int argc, char **argv) {
  fixture_unused();
  for (mode = RK_MODE_PERSISTENT; mode <= RK_MODE_EVENT_DRIVEN; mode++) {
    printf("mode %u\n", mode);
    RUN(lesson_10_every_counter_counts_what_its_name_says);
    RUN(dead_letters_are_bounded_and_what_is_dropped_is_counted);
  }
  return check_result();
}
