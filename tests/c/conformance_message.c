/* Messages: send, receive, batches, loans, order, limits. Each in both modes. */
#include "fixture.h"

static uint32_t mode;

static void lesson_01_the_handler_is_called_and_its_answer_received(void) {
  rk_runtime_t *runtime = make_runtime(1);
  rk_launch_options_t options = options_for("echo", mode);
  rk_kernel_t kernel;
  rk_message_t out, in = check_message("through the handler and back", 28);
  in.type = 7;
  in.correlation = 4711;
  CHECK(runtime != NULL);
  OK(rk_launch(runtime, "k", &options, &kernel));
  OK(rk_send(kernel, &in, 0));
  OK(rk_receive(kernel, &out, RK_FOREVER));
  CHECK(out.payload_size == 28 && memcmp(out.payload, in.payload, 28) == 0);
  CHECK(((uintptr_t)out.payload & 63) == 0);
  CHECK(out.type == 7 && out.correlation == 4711 && out.source == kernel.id && out.lease != 0);
  CHECK(out.timestamp.physical_ns == 0 && out.timestamp.logical == 0 && out.timestamp.node == 0);
  OK(rk_release(&out));
  CHECK(out.payload == NULL && out.lease == 0);
  CHECK_STATUS(rk_receive(kernel, &out, 0), RK_ERR_EMPTY);
  CHECK_STATUS(rk_receive(kernel, &out, MS(5)), RK_ERR_TIMEOUT);
  OK(rk_runtime_destroy(runtime));
}

static void lesson_18_payloads_of_0_1_limit_and_one_more(void) {
  rk_runtime_t *runtime = make_runtime(1);
  rk_launch_options_t options = options_for("echo", mode);
  static const uint32_t limits[][2] = {{0, 192}, {1, 64}, {64, 64}, {65, 128}, {1000, 1024}};
  static unsigned char bytes[2048];
  size_t i, j;
  CHECK(runtime != NULL);
  for (i = 0; i < sizeof bytes; i++) bytes[i] = (unsigned char)(i * 7);
  for (i = 0; i < sizeof limits / sizeof *limits; i++) {
    uint32_t limit = limits[i][1];
    size_t sizes[4];
    rk_kernel_t kernel;
    rk_loan_t loan;
    rk_message_t message;
    sizes[0] = 0, sizes[1] = 1, sizes[2] = limit, sizes[3] = limit - 1;
    options.payload_size_max = limits[i][0];
    OK(rk_launch(runtime, "k", &options, &kernel));
    for (j = 0; j < 4; j++) {
      rk_message_t out, in = check_message(sizes[j] ? bytes : NULL, sizes[j]);
      OK(rk_call(kernel, &in, &out, RK_FOREVER));
      CHECK(out.payload_size == sizes[j] && (sizes[j] == 0 || memcmp(out.payload, bytes, sizes[j]) == 0));
      OK(rk_release(&out));
      OK(rk_send(kernel, &in, 0));
      OK(rk_receive(kernel, &out, RK_FOREVER));
      CHECK(out.payload_size == sizes[j] && (sizes[j] == 0 || memcmp(out.payload, bytes, sizes[j]) == 0));
      OK(rk_release(&out));
    }
    message = check_message(bytes, (size_t)limit + 1);
    CHECK_STATUS(rk_send(kernel, &message, 0), RK_ERR_TOO_LARGE);
    CHECK_STATUS(rk_send(kernel, &message, RK_FOREVER), RK_ERR_TOO_LARGE);
    CHECK_STATUS(rk_reserve(kernel, 0, (size_t)limit + 1, 0, &loan), RK_ERR_TOO_LARGE);
    OK(rk_destroy(kernel));
  }
  OK(rk_runtime_destroy(runtime));
}

static void lesson_08_full_is_said_at_once_or_after_the_time_asked(void) {
  rk_runtime_t *runtime = make_runtime(1);
  rk_launch_options_t options = options_for("sink", mode);
  rk_kernel_t kernel;
  rk_message_t message = check_message("x", 1);
  rk_loan_t loan;
  uint64_t start, took;
  CHECK(runtime != NULL);
  options.flags = RK_LAUNCH_SUSPENDED;
  options.input_queue_capacity = 2;
  OK(rk_launch(runtime, "k", &options, &kernel));
  OK(rk_send(kernel, &message, 0));
  OK(rk_send(kernel, &message, 0));
  start = check_now();
  CHECK_STATUS(rk_send(kernel, &message, 0), RK_ERR_FULL);
  CHECK_STATUS(rk_reserve(kernel, 0, 1, 0, &loan), RK_ERR_FULL);
  CHECK(check_now() - start < MS(1000));
  start = check_now();
  CHECK_STATUS(rk_send(kernel, &message, MS(60)), RK_ERR_TIMEOUT);
  took = check_now() - start;
  CHECK(took >= MS(60) && took < MS(2000));
  CHECK_STATUS(rk_reserve(kernel, 0, 1, MS(5), &loan), RK_ERR_TIMEOUT);
  OK(rk_activate(kernel));
  OK(rk_send(kernel, &message, RK_FOREVER));
  OK(rk_terminate(kernel, RK_FOREVER));
  CHECK(metrics_of(kernel).messages_processed == 3);
  OK(rk_runtime_destroy(runtime));
}

static void batches_go_in_order_and_stop_where_they_must(void) {
  rk_runtime_t *runtime = make_runtime(1);
  rk_launch_options_t options = options_for("echo", mode);
  rk_kernel_t kernel;
  rk_message_t in[40], out[40];
  static char big[256];
  uint64_t numbers[40];
  size_t i, sent = 99, count = 99;
  CHECK(runtime != NULL);
  options.input_queue_capacity = 16;
  options.flags = RK_LAUNCH_SUSPENDED;
  OK(rk_launch(runtime, "k", &options, &kernel));
  for (i = 0; i < 40; i++) {
    numbers[i] = i;
    in[i] = check_message(&numbers[i], sizeof numbers[i]);
    in[i].correlation = i + 1;
  }
  OK(rk_send_batch(kernel, NULL, 0, 0, &sent));
  CHECK(sent == 0);
  OK(rk_receive_batch(kernel, NULL, 0, 0, &count));
  CHECK(count == 0);
  OK(rk_send_batch(kernel, in, 40, 0, &sent));
  CHECK(sent == 16);
  CHECK_STATUS(rk_send_batch(kernel, in, 40, 0, &sent), RK_ERR_FULL);
  CHECK(sent == 0);
  CHECK_STATUS(rk_send_batch(kernel, in, 40, MS(5), &sent), RK_ERR_TIMEOUT);
  CHECK(sent == 0);
  OK(rk_activate(kernel));
  for (i = 0; i < 16; i += count) {
    size_t j;
    OK(rk_receive_batch(kernel, out, 40, RK_FOREVER, &count));
    CHECK(count >= 1 && i + count <= 16);
    for (j = 0; j < count; j++) CHECK(out[j].correlation == i + j + 1 && *(const uint64_t *)out[j].payload == i + j);
    OK(rk_release_batch(out, count));
  }
  /* A message too large in the middle: those before it are sent. */
  in[3] = check_message(big, sizeof big);
  OK(rk_send_batch(kernel, in, 8, 0, &sent));
  CHECK(sent == 3);
  CHECK_STATUS(rk_send_batch(kernel, in + 3, 5, 0, &sent), RK_ERR_TOO_LARGE);
  CHECK(sent == 0);
  CHECK_STATUS(rk_receive_batch(kernel, NULL, 3, 0, &count), RK_ERR_INVALID_ARGUMENT);
  OK(rk_runtime_destroy(runtime));
}

static void loans_are_handled_in_the_order_reserved(void) {
  rk_runtime_t *runtime = make_runtime(1);
  rk_launch_options_t options = options_for("echo", mode);
  rk_kernel_t kernel;
  rk_loan_t loans[5], twice, batch[8];
  rk_message_t out, header;
  size_t i, reserved = 0;
  static const uint32_t expected[] = {0, 1, 3, 4};
  CHECK(runtime != NULL);
  memset(&header, 0, sizeof header);
  OK(rk_launch(runtime, "k", &options, &kernel));
  for (i = 0; i < 5; i++) {
    OK(rk_reserve(kernel, 0, 100, 0, &loans[i]));
    CHECK(loans[i].payload != NULL && loans[i].payload_size == 100);
    CHECK(((uintptr_t)loans[i].payload & 63) == 0);
    memcpy(loans[i].payload, &i, sizeof i);
  }
  CHECK(metrics_of(kernel).open_leases == 5 && metrics_of(kernel).messages_sent == 0);
  check_sleep_ms(30);
  CHECK(metrics_of(kernel).oldest_lease_ns >= MS(10));
  twice = loans[4];
  for (i = 5; i-- > 1;) {
    header.type = (uint32_t)i;
    if (i == 2) {
      OK(rk_abort(&loans[i]));
    } else {
      CHECK_STATUS(rk_commit(&loans[i], &header, 101), RK_ERR_INVALID_ARGUMENT);
      CHECK(loans[i].lease != 0);
      OK(rk_commit(&loans[i], &header, sizeof i));
    }
    CHECK(loans[i].payload == NULL && loans[i].lease == 0);
    CHECK_STATUS(rk_commit(&loans[i], &header, 0), RK_ERR_INVALID_HANDLE);
  }
  CHECK_STATUS(rk_commit(&twice, &header, 1), RK_ERR_INVALID_HANDLE);
  CHECK_STATUS(rk_abort(&twice), RK_ERR_INVALID_HANDLE);
  /* The first loan is still open and holds up the rest. */
  CHECK_STATUS(rk_receive(kernel, &out, MS(20)), RK_ERR_TIMEOUT);
  OK(rk_commit(&loans[0], NULL, sizeof i));
  for (i = 0; i < 4; i++) {
    OK(rk_receive(kernel, &out, RK_FOREVER));
    CHECK(out.type == expected[i] && *(const size_t *)out.payload == expected[i]);
    OK(rk_release(&out));
  }
  OK(rk_reserve_batch(kernel, RK_ANY_BLOCK, 8, 8, 0, batch, &reserved));
  CHECK(reserved == 8);
  for (i = 0; i < 8; i++) memcpy(batch[i].payload, "12345678", 8);
  OK(rk_commit_batch(batch, NULL, 8));
  for (i = 0; i < 8; i++) {
    OK(rk_receive(kernel, &out, RK_FOREVER));
    CHECK(out.payload_size == 8 && memcmp(out.payload, "12345678", 8) == 0);
    OK(rk_release(&out));
  }
  CHECK_STATUS(rk_commit_batch(batch, NULL, 8), RK_ERR_INVALID_HANDLE);
  CHECK(metrics_of(kernel).open_leases == 0 && metrics_of(kernel).messages_sent == 12);
  OK(rk_runtime_destroy(runtime));
}

static void views_and_loans_outlive_their_kernel(void) {
  rk_runtime_t *runtime = make_runtime(1);
  rk_launch_options_t options = options_for("echo", mode);
  rk_kernel_t kernel;
  rk_loan_t loan, behind, late;
  rk_message_t view, copy, request = check_message("still here", 10);
  CHECK(runtime != NULL);
  OK(rk_launch(runtime, "k", &options, &kernel));
  OK(rk_send(kernel, &request, 0));
  OK(rk_receive(kernel, &view, RK_FOREVER));
  OK(rk_reserve(kernel, 0, 10, 0, &loan));
  OK(rk_reserve(kernel, 0, 10, 0, &behind));
  OK(rk_reserve(kernel, 0, 10, 0, &late));
  OK(rk_terminate(kernel, MS(10000)));
  CHECK(state_of(kernel) == RK_STATE_TERMINATED);
  memset(loan.payload, 1, 10);
  CHECK_STATUS(rk_commit(&loan, NULL, 10), RK_ERR_TERMINATED);
  CHECK_STATUS(rk_commit(&loan, NULL, 10), RK_ERR_INVALID_HANDLE);
  OK(rk_destroy(kernel));
  OK(rk_abort(&behind));
  OK(rk_runtime_destroy(runtime));
  memset(late.payload, 2, 10);
  CHECK_STATUS(rk_commit(&late, NULL, 10), RK_ERR_TERMINATED);
  CHECK(memcmp(view.payload, "still here", 10) == 0);
  copy = view;
  OK(rk_release(&view));
  CHECK_STATUS(rk_release(&copy), RK_ERR_INVALID_HANDLE);
}

static void views_are_given_back_in_any_order(void) {
  rk_runtime_t *runtime = make_runtime(1);
  rk_launch_options_t options = options_for("echo", mode);
  rk_kernel_t kernel;
  rk_message_t views[4], copy, request = check_message("x", 1);
  int round, i;
  CHECK(runtime != NULL);
  options.output_queue_capacity = 4;
  OK(rk_launch(runtime, "k", &options, &kernel));
  for (round = 0; round < 50; round++) {
    for (i = 0; i < 4; i++) OK(rk_send(kernel, &request, RK_FOREVER));
    for (i = 0; i < 4; i++) OK(rk_receive(kernel, &views[i], RK_FOREVER));
    CHECK(metrics_of(kernel).open_leases == 4);
    copy = views[2];
    OK(rk_release(&views[2]));
    CHECK_STATUS(rk_release(&copy), RK_ERR_INVALID_HANDLE);
    OK(rk_release(&views[0]));
    OK(rk_release(&views[3]));
    OK(rk_release(&views[1]));
    CHECK_STATUS(rk_release(&copy), RK_ERR_INVALID_HANDLE);
  }
  CHECK(metrics_of(kernel).open_leases == 0);
  OK(rk_runtime_destroy(runtime));
}

static void deadlines_make_dead_letters(void) {
  rk_runtime_t *runtime = make_runtime(1);
  rk_launch_options_t options = options_for("echo", mode);
  rk_kernel_t kernel;
  rk_message_t out, request = check_message("late", 4);
  rk_dead_letter_t letter;
  CHECK(runtime != NULL);
  OK(rk_launch(runtime, "k", &options, &kernel));
  request.deadline_ns = check_now() + MS(100000);
  OK(rk_call(kernel, &request, &out, RK_FOREVER));
  OK(rk_release(&out));
  request.deadline_ns = 1;
  request.correlation = 5;
  OK(rk_send(kernel, &request, 0));
  OK(rk_receive_dead_letter(runtime, &letter, RK_FOREVER));
  CHECK(letter.reason == RK_DEAD_EXPIRED && letter.kernel.id == kernel.id);
  CHECK(letter.message.correlation == 5 && letter.message.deadline_ns == 1);
  CHECK(letter.message.payload_size == 4 && memcmp(letter.message.payload, "late", 4) == 0);
  OK(rk_release(&letter.message));
  CHECK_STATUS(rk_call(kernel, &request, &out, RK_FOREVER), RK_ERR_TIMEOUT);
  CHECK(metrics_of(kernel).messages_processed == 1 && metrics_of(kernel).dead_letters == 2);
  CHECK_STATUS(rk_receive(kernel, &out, 0), RK_ERR_EMPTY);
  OK(rk_runtime_destroy(runtime));
}

static void lesson_06_timestamps_are_unique_increasing_and_of_their_node(void) {
  rk_runtime_t *runtime = make_runtime(2);
  rk_launch_options_t options = options_for("echo", mode);
  rk_kernel_t kernel[2];
  rk_timestamp_t last[2];
  int i, k;
  CHECK(runtime != NULL);
  memset(last, 0, sizeof last);
  options.flags = RK_LAUNCH_TIMESTAMPS;
  OK(rk_launch(runtime, "a", &options, &kernel[0]));
  OK(rk_launch(runtime, "b", &options, &kernel[1]));
  for (i = 0; i < 500; i++) {
    for (k = 0; k < 2; k++) {
      rk_message_t out, request = check_message("x", 1);
      OK(rk_send(kernel[k], &request, RK_FOREVER));
      OK(rk_receive(kernel[k], &out, RK_FOREVER));
      CHECK(out.timestamp.physical_ns > last[k].physical_ns ||
            (out.timestamp.physical_ns == last[k].physical_ns && out.timestamp.logical > last[k].logical));
      last[k] = out.timestamp;
      OK(rk_release(&out));
    }
  }
  CHECK(last[0].node != last[1].node && last[0].node != 0 && last[1].node != 0);
  CHECK(last[0].physical_ns > 1600000000ull * 1000000000ull);
  OK(rk_runtime_destroy(runtime));
}

int main(int argc, char **argv) {
  fixture_unused();
  for (mode = RK_MODE_PERSISTENT; mode <= RK_MODE_EVENT_DRIVEN; mode++) {
    printf("mode %u\n", mode);
    RUN(lesson_01_the_handler_is_called_and_its_answer_received);
    RUN(lesson_18_payloads_of_0_1_limit_and_one_more);
    RUN(lesson_08_full_is_said_at_once_or_after_the_time_asked);
    RUN(batches_go_in_order_and_stop_where_they_must);
    RUN(loans_are_handled_in_the_order_reserved);
    RUN(views_and_loans_outlive_their_kernel);
    RUN(views_are_given_back_in_any_order);
    RUN(deadlines_make_dead_letters);
    RUN(lesson_06_timestamps_are_unique_increasing_and_of_their_node);
  }
  return check_result();
}
