/* Batches, loans and views in part: what is not valid does not take the valid with it. */
#include "fixture.h"

static uint32_t mode;

static rk_kernel_t launched(rk_runtime_t *runtime, const char *program, uint32_t flags, uint32_t blocks,
                            uint32_t capacity) {
  rk_launch_options_t options = options_for(program, mode);
  rk_kernel_t kernel = {0};
  options.flags = flags;
  options.grid_size = blocks;
  options.input_queue_capacity = capacity;
  rk_launch(runtime, "k", &options, &kernel);
  return kernel;
}

static void a_batch_keeps_its_order_at_a_block_that_is_full(void) {
  rk_runtime_t *runtime = make_runtime(1);
  rk_kernel_t kernel = launched(runtime, "sink", RK_LAUNCH_SUSPENDED, 2, 2);
  rk_message_t batch[5];
  size_t i, sent = 99;
  uint64_t start;
  for (i = 0; i < 5; i++) batch[i] = check_message("m", 1);
  batch[3].block = batch[4].block = 1;
  OK(rk_send_batch(kernel, batch, 5, 0, &sent)); /* 0 0 0 1 1: the third has no room, nothing overtakes it */
  CHECK(sent == 2 && metrics_of(kernel).messages_sent == 2 && metrics_of(kernel).input_queue_depth == 2);
  OK(rk_send(kernel, &batch[3], 0));
  start = check_now();
  OK(rk_send_batch(kernel, batch + 3, 2, RK_FOREVER, &sent)); /* waits for the first only */
  CHECK(sent == 1 && check_now() - start < MS(5000));
  CHECK_STATUS(rk_send_batch(kernel, batch + 3, 2, 0, &sent), RK_ERR_FULL);
  CHECK(sent == 0);
  OK(rk_runtime_destroy(runtime));
}

static void a_message_without_a_block_ends_the_batch_before_it(void) {
  rk_runtime_t *runtime = make_runtime(1);
  rk_kernel_t kernel = launched(runtime, "sink", 0, 2, 16), none = {0};
  rk_message_t batch[3];
  size_t sent = 99;
  batch[0] = batch[1] = batch[2] = check_message("m", 1);
  batch[1].block = 2; /* there are 0 and 1 */
  OK(rk_send_batch(kernel, batch, 3, 0, &sent));
  CHECK(sent == 1 && metrics_of(kernel).messages_sent == 1);
  sent = 99;
  CHECK_STATUS(rk_send_batch(kernel, batch + 1, 2, 0, &sent), RK_ERR_INVALID_ARGUMENT);
  CHECK(sent == 0);
  batch[0].payload = NULL; /* a byte that is not there */
  sent = 99;
  CHECK_STATUS(rk_send_batch(kernel, batch, 3, 0, &sent), RK_ERR_INVALID_ARGUMENT);
  CHECK(sent == 0 && metrics_of(kernel).messages_sent == 1);
  sent = 99;
  CHECK_STATUS(rk_send_batch(none, batch, 3, 0, &sent), RK_ERR_INVALID_HANDLE);
  CHECK(sent == 0); /* always written */
  OK(rk_terminate(kernel, RK_FOREVER));
  sent = 99;
  CHECK_STATUS(rk_send_batch(kernel, batch + 2, 1, 0, &sent), RK_ERR_TERMINATED);
  CHECK(sent == 0);
  OK(rk_runtime_destroy(runtime));
}

static void any_block_finds_room_in_whatever_block_has_it(void) {
  rk_runtime_t *runtime = make_runtime(2);
  rk_kernel_t kernel = launched(runtime, "count", RK_LAUNCH_SUSPENDED, 4, 2);
  rk_message_t out, message = check_message("m", 1);
  int i, seen[4] = {0, 0, 0, 0};
  message.block = RK_ANY_BLOCK;
  for (i = 0; i < 8; i++) OK(rk_send(kernel, &message, 0));
  CHECK_STATUS(rk_send(kernel, &message, 0), RK_ERR_FULL);
  CHECK_STATUS(rk_send(kernel, &message, MS(3)), RK_ERR_TIMEOUT);
  OK(rk_activate(kernel));
  OK(rk_send(kernel, &message, RK_FOREVER));
  for (i = 0; i < 9; i++) {
    OK(rk_receive(kernel, &out, RK_FOREVER));
    CHECK(out.block < 4 && ((const counted_t *)out.payload)->block == out.block);
    seen[out.block]++;
    OK(rk_release(&out));
  }
  for (i = 0; i < 4; i++) CHECK(seen[i] >= 2);
  OK(rk_runtime_destroy(runtime));
}

static void loans_come_as_far_as_there_is_room(void) {
  rk_runtime_t *runtime = make_runtime(1);
  rk_kernel_t kernel = launched(runtime, "echo", RK_LAUNCH_SUSPENDED, 1, 8);
  rk_message_t message = check_message("m", 1);
  rk_loan_t loans[8];
  size_t i, reserved = 99;
  for (i = 0; i < 5; i++) OK(rk_send(kernel, &message, 0));
  OK(rk_reserve_batch(kernel, 0, 16, 8, 0, loans, &reserved));
  CHECK(reserved == 3 && metrics_of(kernel).open_leases == 3);
  CHECK_STATUS(rk_reserve_batch(kernel, 0, 16, 8, 0, loans + 3, &reserved), RK_ERR_FULL);
  CHECK(reserved == 0);
  CHECK_STATUS(rk_reserve_batch(kernel, 0, 16, 8, MS(3), loans + 3, &reserved), RK_ERR_TIMEOUT);
  CHECK(reserved == 0);
  OK(rk_reserve_batch(kernel, 0, 16, 0, 0, NULL, &reserved));
  CHECK(reserved == 0);
  CHECK_STATUS(rk_reserve_batch(kernel, 0, 193, 8, 0, loans + 3, &reserved), RK_ERR_TOO_LARGE);
  CHECK_STATUS(rk_reserve_batch(kernel, 0, SIZE_MAX, 8, 0, loans + 3, &reserved), RK_ERR_TOO_LARGE);
  CHECK_STATUS(rk_reserve_batch(kernel, 1, 16, 8, 0, loans + 3, &reserved), RK_ERR_INVALID_ARGUMENT);
  CHECK_STATUS(rk_reserve(kernel, 1, 16, 0, loans + 3), RK_ERR_INVALID_ARGUMENT);
  CHECK_STATUS(rk_reserve(kernel, 0, SIZE_MAX, 0, loans + 3), RK_ERR_TOO_LARGE);
  for (i = 0; i < 3; i++) OK(rk_abort(&loans[i]));
  OK(rk_commit_batch(NULL, NULL, 0));
  OK(rk_release_batch(NULL, 0));
  OK(rk_terminate(kernel, RK_FOREVER));
  CHECK(metrics_of(kernel).dead_letters == 5 && metrics_of(kernel).open_leases == 0);
  OK(rk_runtime_destroy(runtime));
}

static void all_loans_of_a_batch_are_settled_with_their_headers(void) {
  rk_runtime_t *runtime = make_runtime(1);
  rk_kernel_t kernel = launched(runtime, "echo", 0, 1, 16);
  rk_message_t headers[5], out;
  rk_loan_t loans[5], aborted;
  rk_dead_letter_t letter;
  size_t i, reserved = 0;
  memset(headers, 0, sizeof headers);
  OK(rk_reserve_batch(kernel, 0, 24, 5, 0, loans, &reserved));
  CHECK(reserved == 5);
  for (i = 0; i < 5; i++) {
    memset(loans[i].payload, (int)i + 1, 24);
    headers[i].type = (uint32_t)i + 10;
    headers[i].correlation = i + 100;
    headers[i].payload = "not looked at";
    headers[i].payload_size = 100000;
  }
  headers[3].deadline_ns = 1;
  aborted = loans[1];
  OK(rk_abort(&aborted)); /* behind the back of the batch */
  CHECK_STATUS(rk_commit_batch(loans, headers, 5), RK_ERR_INVALID_HANDLE);
  for (i = 0; i < 5; i++) {
    if (i == 1 || i == 3) continue;
    OK(rk_receive(kernel, &out, RK_FOREVER));
    CHECK(out.type == i + 10 && out.correlation == i + 100 && out.payload_size == 24);
    CHECK(*(const char *)out.payload == (char)(i + 1));
    OK(rk_release(&out));
  }
  OK(rk_receive_dead_letter(runtime, &letter, RK_FOREVER));
  CHECK(letter.reason == RK_DEAD_EXPIRED && letter.message.type == 13 && letter.message.payload_size == 24);
  OK(rk_release(&letter.message));
  CHECK(metrics_of(kernel).open_leases == 0 && metrics_of(kernel).messages_sent == 4);
  CHECK_STATUS(rk_receive(kernel, &out, MS(5)), RK_ERR_TIMEOUT);
  OK(rk_runtime_destroy(runtime));
}

static void a_loan_without_a_payload_and_a_shorter_one(void) {
  rk_runtime_t *runtime = make_runtime(1);
  rk_kernel_t kernel = launched(runtime, "echo", 0, 1, 4);
  rk_message_t out;
  rk_loan_t loan;
  size_t used;
  OK(rk_reserve(kernel, RK_ANY_BLOCK, 0, 0, &loan));
  CHECK(loan.payload_size == 0);
  CHECK_STATUS(rk_commit(&loan, NULL, 1), RK_ERR_INVALID_ARGUMENT);
  OK(rk_commit(&loan, NULL, 0));
  OK(rk_receive(kernel, &out, RK_FOREVER));
  CHECK(out.payload_size == 0);
  OK(rk_release(&out));
  for (used = 0; used <= 192; used += 64) {
    OK(rk_reserve(kernel, 0, 192, RK_FOREVER, &loan));
    memset(loan.payload, 'x', 192);
    CHECK_STATUS(rk_commit(&loan, NULL, 193), RK_ERR_INVALID_ARGUMENT);
    OK(rk_commit(&loan, NULL, used));
    OK(rk_receive(kernel, &out, RK_FOREVER));
    CHECK(out.payload_size == used && (used == 0 || ((const char *)out.payload)[used - 1] == 'x'));
    OK(rk_release(&out));
  }
  OK(rk_runtime_destroy(runtime));
}

static void the_valid_views_of_a_batch_are_given_back(void) {
  rk_runtime_t *runtime = make_runtime(1);
  rk_kernel_t kernel = launched(runtime, "echo", 0, 1, 16);
  rk_message_t views[6], message = check_message("m", 1);
  size_t i, count, total = 0;
  for (i = 0; i < 6; i++) OK(rk_send(kernel, &message, 0));
  while (total < 6) {
    OK(rk_receive_batch(kernel, views + total, 6 - total, RK_FOREVER, &count));
    total += count;
  }
  CHECK(metrics_of(kernel).open_leases == 6 && metrics_of(kernel).messages_received == 6);
  views[2].lease ^= (uint64_t)1 << 30; /* a forged one */
  CHECK_STATUS(rk_release_batch(views, 6), RK_ERR_INVALID_HANDLE);
  CHECK(metrics_of(kernel).open_leases == 1);
  views[2].lease ^= (uint64_t)1 << 30;
  OK(rk_release_batch(&views[2], 1));
  CHECK(metrics_of(kernel).open_leases == 0);
  CHECK_STATUS(rk_release_batch(views, 6), RK_ERR_INVALID_HANDLE);
  OK(rk_runtime_destroy(runtime));
}

static void what_lies_beyond_the_count_is_left_alone(void) {
  rk_runtime_t *runtime = make_runtime(1);
  rk_kernel_t kernel = launched(runtime, "echo", 0, 1, 16);
  rk_message_t views[4], message = check_message("m", 1);
  rk_loan_t loans[4];
  unsigned char before[sizeof views];
  size_t count = 0, i;
  memset(views, 0xa5, sizeof views);
  memset(loans, 0xa5, sizeof loans);
  memset(before, 0xa5, sizeof before);
  OK(rk_send(kernel, &message, 0));
  OK(rk_receive_batch(kernel, views, 4, RK_FOREVER, &count));
  CHECK(count == 1 && memcmp(&views[1], before, 3 * sizeof views[0]) == 0);
  OK(rk_release(&views[0]));
  memset(views, 0xa5, sizeof views);
  CHECK_STATUS(rk_receive_batch(kernel, views, 4, 0, &count), RK_ERR_EMPTY);
  CHECK(memcmp(views, before, sizeof views) == 0);
  OK(rk_reserve_batch(kernel, 0, 1, 2, 0, loans, &count));
  CHECK(count == 2 && memcmp(&loans[2], before, 2 * sizeof loans[0]) == 0);
  for (i = 0; i < 2; i++) OK(rk_abort(&loans[i]));
  OK(rk_runtime_destroy(runtime));
}

static rk_loan_t handed_over;
static rk_message_t taken;

static void *settle_elsewhere(void *argument) {
  (void)argument;
  return rk_commit(&handed_over, NULL, 5) == RK_OK && rk_release(&taken) == RK_OK ? NULL : &taken;
}

static void loans_and_views_are_settled_on_any_thread(void) {
  rk_runtime_t *runtime = make_runtime(1);
  rk_kernel_t kernel = launched(runtime, "echo", 0, 1, 4);
  rk_message_t message = check_message("first", 5), out;
  pthread_t thread;
  void *failed;
  OK(rk_call(kernel, &message, &taken, RK_FOREVER));
  OK(rk_reserve(kernel, 0, 5, 0, &handed_over));
  memcpy(handed_over.payload, "other", 5);
  CHECK(pthread_create(&thread, NULL, settle_elsewhere, NULL) == 0);
  CHECK(pthread_join(thread, &failed) == 0 && failed == NULL);
  OK(rk_receive(kernel, &out, RK_FOREVER));
  CHECK(memcmp(out.payload, "other", 5) == 0);
  OK(rk_release(&out));
  OK(rk_runtime_destroy(runtime));
}

static void every_kind_of_view_outlives_its_runtime(void) {
  rk_runtime_t *runtime = make_runtime(1);
  rk_kernel_t kernel = launched(runtime, "echo", 0, 1, 4);
  rk_message_t reply, out, message = check_message("long lived", 10), copies[3];
  rk_dead_letter_t letter;
  size_t i;
  OK(rk_call(kernel, &message, &reply, RK_FOREVER));
  OK(rk_send(kernel, &message, 0));
  OK(rk_receive(kernel, &out, RK_FOREVER));
  message.deadline_ns = 1;
  OK(rk_send(kernel, &message, 0));
  OK(rk_receive_dead_letter(runtime, &letter, RK_FOREVER));
  OK(rk_runtime_destroy(runtime));
  copies[0] = reply, copies[1] = out, copies[2] = letter.message;
  for (i = 0; i < 3; i++) {
    CHECK(copies[i].payload_size == 10 && memcmp(copies[i].payload, "long lived", 10) == 0);
    CHECK(((uintptr_t)copies[i].payload & 63) == 0);
  }
  OK(rk_release(&out));
  OK(rk_release(&reply));
  OK(rk_release(&letter.message));
  for (i = 0; i < 3; i++) CHECK_STATUS(rk_release(&copies[i]), RK_ERR_INVALID_HANDLE);
}

int main(int argc, char **argv) {
  fixture_unused();
  for (mode = RK_MODE_PERSISTENT; mode <= RK_MODE_EVENT_DRIVEN; mode++) {
    printf("mode %u\n", mode);
    RUN(a_batch_keeps_its_order_at_a_block_that_is_full);
    RUN(a_message_without_a_block_ends_the_batch_before_it);
    RUN(any_block_finds_room_in_whatever_block_has_it);
    RUN(loans_come_as_far_as_there_is_room);
    RUN(all_loans_of_a_batch_are_settled_with_their_headers);
    RUN(a_loan_without_a_payload_and_a_shorter_one);
    RUN(the_valid_views_of_a_batch_are_given_back);
    RUN(what_lies_beyond_the_count_is_left_alone);
    RUN(loans_and_views_are_settled_on_any_thread);
    RUN(every_kind_of_view_outlives_its_runtime);
  }
  return check_result();
}
