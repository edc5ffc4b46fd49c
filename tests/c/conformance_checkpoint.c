/* Checkpoints: one cut of all blocks under traffic, whole or refused, back on the same or another kernel, beside every other verb. */
#include "fixture.h"

enum { BLOCKS = 4, HEADER = 192, CHECKSUM = 8 };

static uint32_t mode;
static gate_t gate;

/* Written in two steps, which nobody may see between. */
typedef struct twice_t {
  uint64_t received, sent, received_again, block;
} twice_t;

/* From block to block, up to the last one. */
static rk_status_t on_hop(rk_context_t *ctx, const rk_message_t *message) {
  twice_t *state = (twice_t *)rk_context_state(ctx);
  rk_message_t next = *message;
  volatile int work;
  state->received++;
  state->block = rk_context_block(ctx);
  for (work = 0; work < 3000; work++) {
  }
  next.block = rk_context_block(ctx) + 1;
  if (next.block < rk_context_block_count(ctx)) {
    rk_status_t status = rk_context_send(ctx, 0, &next);
    if (status != RK_OK) return status;
    state->sent++;
  }
  state->received_again++;
  return RK_OK;
}

static rk_kernel_t launched(rk_runtime_t *runtime, const char *id, const char *program, uint32_t blocks, uint32_t flags) {
  rk_launch_options_t options = options_for(program, mode);
  rk_kernel_t kernel = {0};
  options.grid_size = blocks;
  options.flags = flags;
  rk_launch(runtime, id, &options, &kernel);
  return kernel;
}

static size_t size_of(rk_kernel_t kernel) {
  size_t size = 0;
  return rk_checkpoint(kernel, NULL, 0, &size) == RK_ERR_BUFFER_TOO_SMALL ? size : 0;
}

/* The state of a block in a checkpoint; states have no alignment there. */
static void state_in(const unsigned char *bytes, uint32_t block, void *state, size_t size) {
  memcpy(state, bytes + HEADER + block * size, size);
}

/* How often a block has counted, this call included; 0: no answer. */
static uint64_t count_of(rk_kernel_t kernel, uint32_t block) {
  rk_message_t reply, message = check_message("m", 1);
  counted_t counted = {0, 0};
  message.block = block;
  if (rk_call(kernel, &message, &reply, MS(20000)) != RK_OK) return 0;
  if (reply.payload_size == sizeof counted) memcpy(&counted, reply.payload, sizeof counted);
  rk_release(&reply);
  return counted.block == block ? counted.count : 0;
}

static volatile int stop;
static uint64_t sent_by_host;

static void *flood(void *argument) {
  rk_kernel_t kernel = *(rk_kernel_t *)argument;
  rk_message_t message = check_message("m", 1);
  while (!stop) {
    if (rk_send(kernel, &message, MS(10)) == RK_OK) sent_by_host++;
    /* Never more in one queue than it has room for, also if all but the last block are done: a block cannot wait for another. */
    while (!stop && sent_by_host - metrics_of(kernel).messages_processed / BLOCKS > 200) check_sleep_ms(1);
  }
  return NULL;
}

static void a_checkpoint_is_one_cut_of_all_blocks(void) {
  rk_runtime_t *runtime = make_runtime(2);
  rk_kernel_t kernel;
  uint32_t route, b;
  int i, between = 0, rounds = check_slow() ? 30 : 300;
  pthread_t thread;
  size_t size, needed;
  unsigned char *bytes;
  twice_t last[BLOCKS], now[BLOCKS];
  memset(last, 0, sizeof last);
  OK(add_program(runtime, "hop", on_hop, sizeof(twice_t), NULL));
  kernel = launched(runtime, "k", "hop", BLOCKS, 0);
  OK(rk_connect(kernel, kernel, &route));
  size = size_of(kernel);
  CHECK(size == HEADER + BLOCKS * sizeof(twice_t) + CHECKSUM);
  bytes = (unsigned char *)malloc(size);
  stop = 0;
  sent_by_host = 0;
  CHECK(pthread_create(&thread, NULL, flood, &kernel) == 0);
  for (i = 0; i < rounds || between < 3; i++) {
    if (i % 8 == 0) check_sleep_ms(1);
    OK(rk_checkpoint(kernel, bytes, size, &needed));
    CHECK(needed == size && state_of(kernel) == RK_STATE_ACTIVE);
    for (b = 0; b < BLOCKS; b++) {
      state_in(bytes, b, &now[b], sizeof now[b]);
      CHECK(now[b].received == now[b].received_again);        /* between two messages */
      CHECK(now[b].received == 0 || now[b].block == b);
      CHECK(now[b].sent == (b + 1 < BLOCKS ? now[b].received : 0));
      CHECK(b == 0 || now[b].received <= now[b - 1].sent);     /* nothing is received before it was sent */
      CHECK(now[b].received >= last[b].received);
      last[b] = now[b];
    }
    between += now[0].received > 0 && now[BLOCKS - 1].received < now[0].received;
  }
  stop = 1;
  CHECK(pthread_join(thread, NULL) == 0);
  CHECK(sent_by_host > 0);
  /* Nothing was lost, nothing came twice. */
  UNTIL(metrics_of(kernel).messages_processed == sent_by_host * BLOCKS);
  OK(rk_checkpoint(kernel, bytes, size, NULL));
  for (b = 0; b < BLOCKS; b++) {
    state_in(bytes, b, &now[b], sizeof now[b]);
    CHECK(now[b].received == sent_by_host);
  }
  CHECK(metrics_of(kernel).messages_failed == 0);
  printf("%d of %d checkpoints had messages on the way\n", between, i);
  free(bytes);
  OK(rk_runtime_destroy(runtime));
}

static void the_size_is_told_and_what_does_not_fit_is_not_written(void) {
  rk_runtime_t *runtime = make_runtime(1);
  rk_kernel_t kernel = launched(runtime, "k", "count", 3, 0), empty = launched(runtime, "e", "echo", 2, 0);
  unsigned char bytes[512], same[512];
  size_t size = 99, i;
  CHECK_STATUS(rk_checkpoint(kernel, NULL, 0, NULL), RK_ERR_BUFFER_TOO_SMALL);
  CHECK_STATUS(rk_checkpoint(kernel, NULL, 0, &size), RK_ERR_BUFFER_TOO_SMALL);
  CHECK(size == HEADER + 3 * sizeof(counted_t) + CHECKSUM);
  memset(bytes, 0xa5, sizeof bytes);
  for (i = 0; i < size; i++) {
    size_t told = 0;
    CHECK_STATUS(rk_checkpoint(kernel, bytes, i, &told), RK_ERR_BUFFER_TOO_SMALL);
    CHECK(told == size);
  }
  for (i = 0; i < sizeof bytes; i++) CHECK(bytes[i] == 0xa5);
  OK(rk_checkpoint(kernel, bytes, size, NULL));
  for (i = size; i < sizeof bytes; i++) CHECK(bytes[i] == 0xa5);
  /* At any address, and the same bytes for the same states. */
  memset(same, 0xa5, sizeof same);
  OK(rk_checkpoint(kernel, same + 1, sizeof same - 1, &size));
  CHECK(memcmp(bytes, same + 1, size) == 0 && same[0] == 0xa5 && same[size + 1] == 0xa5);
  OK(rk_restore(kernel, same + 1, size));
  /* Blocks without a state. */
  CHECK(size_of(empty) == HEADER + CHECKSUM);
  OK(rk_checkpoint(empty, bytes, sizeof bytes, &size));
  OK(rk_restore(empty, bytes, size));
  CHECK(works(empty));
  /* What is wrong with the arguments. */
  CHECK_STATUS(rk_checkpoint(kernel, NULL, 64, &size), RK_ERR_INVALID_ARGUMENT);
  CHECK_STATUS(rk_checkpoint(kernel, bytes, SIZE_MAX, &size), RK_ERR_INVALID_ARGUMENT);
  CHECK_STATUS(rk_checkpoint(kernel, bytes, sizeof bytes, (size_t *)(void *)(bytes + 1)), RK_ERR_INVALID_ARGUMENT);
  CHECK_STATUS(rk_restore(kernel, NULL, 0), RK_ERR_INVALID_ARGUMENT);
  CHECK_STATUS(rk_restore(kernel, NULL, 256), RK_ERR_INVALID_ARGUMENT);
  CHECK_STATUS(rk_restore(kernel, bytes, 0), RK_ERR_INVALID_ARGUMENT);
  CHECK_STATUS(rk_restore(kernel, bytes, SIZE_MAX), RK_ERR_INVALID_ARGUMENT);
  OK(rk_destroy(kernel));
  CHECK_STATUS(rk_checkpoint(kernel, bytes, sizeof bytes, &size), RK_ERR_INVALID_HANDLE);
  CHECK_STATUS(rk_restore(kernel, bytes, size), RK_ERR_INVALID_HANDLE);
  OK(rk_runtime_destroy(runtime));
}

static void a_restored_kernel_goes_on_where_it_was(void) {
  rk_runtime_t *runtime = make_runtime(2);
  rk_kernel_t kernel = launched(runtime, "k", "count", 3, 0), other;
  rk_message_t out, message = check_message("m", 1);
  unsigned char bytes[512];
  size_t size;
  uint32_t b, i, was_mode = mode;
  for (b = 0; b < 3; b++) {
    for (i = 0; i <= b; i++) CHECK(count_of(kernel, b) == i + 1);
  }
  OK(rk_checkpoint(kernel, bytes, sizeof bytes, &size));
  for (b = 0; b < 3; b++) CHECK(count_of(kernel, b) == b + 2);
  OK(rk_restore(kernel, bytes, size));
  for (b = 0; b < 3; b++) CHECK(count_of(kernel, b) == b + 2);
  /* Paused, with messages that wait: they are handled once, after it. */
  OK(rk_deactivate(kernel));
  for (b = 0; b < 3; b++) {
    message.block = b;
    OK(rk_send(kernel, &message, 0));
  }
  OK(rk_restore(kernel, bytes, size));
  OK(rk_checkpoint(kernel, bytes, sizeof bytes, &size));
  CHECK(state_of(kernel) == RK_STATE_DEACTIVATED);
  CHECK_STATUS(rk_receive(kernel, &out, MS(5)), RK_ERR_TIMEOUT);
  OK(rk_activate(kernel));
  for (b = 0; b < 3; b++) {
    OK(rk_receive(kernel, &out, MS(20000)));
    CHECK(out.payload_size == sizeof(counted_t) && ((const counted_t *)out.payload)->count == out.block + 2);
    OK(rk_release(&out));
  }
  /* Another kernel in the other mode, before it is activated. */
  mode = mode == RK_MODE_PERSISTENT ? RK_MODE_EVENT_DRIVEN : RK_MODE_PERSISTENT;
  other = launched(runtime, "other", "count", 3, RK_LAUNCH_SUSPENDED);
  mode = was_mode;
  OK(rk_restore(other, bytes, size));
  CHECK(state_of(other) == RK_STATE_LAUNCHED);
  OK(rk_activate(other));
  for (b = 0; b < 3; b++) CHECK(count_of(other, b) == b + 2);
  for (b = 0; b < 3; b++) CHECK(count_of(kernel, b) == b + 3);
  OK(rk_runtime_destroy(runtime));
}

static void any_changed_byte_is_refused_and_nothing_changes(void) {
  rk_runtime_t *runtime = make_runtime(1);
  rk_kernel_t kernel = launched(runtime, "k", "count", 2, 0);
  unsigned char bytes[512], now[512];
  size_t size, i;
  unsigned step = check_slow() ? 7 : 1, bit;
  char text[512];
  for (i = 0; i < 3; i++) CHECK(count_of(kernel, 1) == i + 1);
  OK(rk_checkpoint(kernel, bytes, sizeof bytes, &size));
  CHECK(count_of(kernel, 0) == 1);
  for (i = 0; i < size; i++) {
    for (bit = 1; bit < 256; bit += step) {
      bytes[i] ^= (unsigned char)bit;
      CHECK_STATUS(rk_restore(kernel, bytes, size), RK_ERR_INVALID_ARGUMENT);
      bytes[i] ^= (unsigned char)bit;
    }
    CHECK_STATUS(rk_restore(kernel, bytes, i), RK_ERR_INVALID_ARGUMENT); /* cut off */
  }
  bytes[size] = 0;
  CHECK_STATUS(rk_restore(kernel, bytes, size + 1), RK_ERR_INVALID_ARGUMENT);
  /* Two blocks' states exchanged, all zero, all ones. */
  memcpy(now, bytes, size);
  memcpy(now + HEADER, bytes + HEADER + sizeof(counted_t), sizeof(counted_t));
  memcpy(now + HEADER + sizeof(counted_t), bytes + HEADER, sizeof(counted_t));
  CHECK_STATUS(rk_restore(kernel, now, size), RK_ERR_INVALID_ARGUMENT);
  rk_last_error(text, sizeof text);
  CHECK(strstr(text, "checksum") != NULL);
  memset(now, 0, size);
  CHECK_STATUS(rk_restore(kernel, now, size), RK_ERR_INVALID_ARGUMENT);
  memset(now, 0xff, size);
  CHECK_STATUS(rk_restore(kernel, now, size), RK_ERR_INVALID_ARGUMENT);
  CHECK(count_of(kernel, 0) == 2 && count_of(kernel, 1) == 4);
  OK(rk_restore(kernel, bytes, size));
  CHECK(count_of(kernel, 0) == 1 && count_of(kernel, 1) == 4);
  OK(rk_runtime_destroy(runtime));
}

static void what_is_of_another_program_grid_or_state_is_refused(void) {
  rk_runtime_t *runtime = make_runtime(1);
  rk_kernel_t kernel = launched(runtime, "k", "count", 2, 0), other;
  unsigned char bytes[512];
  char text[512];
  size_t size;
  CHECK(count_of(kernel, 0) == 1);
  OK(add_program(runtime, "count2", on_count, sizeof(counted_t), NULL));
  OK(rk_checkpoint(kernel, bytes, sizeof bytes, &size));
  other = launched(runtime, "program", "count2", 2, 0);
  CHECK_STATUS(rk_restore(other, bytes, size), RK_ERR_INVALID_ARGUMENT);
  rk_last_error(text, sizeof text);
  CHECK(strstr(text, "program") && strstr(text, "count2"));
  CHECK(count_of(other, 0) == 1);
  other = launched(runtime, "grid", "count", 3, 0);
  CHECK_STATUS(rk_restore(other, bytes, size), RK_ERR_INVALID_ARGUMENT);
  rk_last_error(text, sizeof text);
  CHECK(strstr(text, "grid_size is 2, not 3") && strstr(text, "\"grid\""));
  CHECK(count_of(other, 0) == 1);
  OK(rk_destroy(kernel));
  OK(rk_program_unregister(runtime, "count"));
  OK(add_program(runtime, "count", on_count, sizeof(counted_t) + 8, NULL));
  other = launched(runtime, "state", "count", 2, 0);
  CHECK_STATUS(rk_restore(other, bytes, size), RK_ERR_INVALID_ARGUMENT);
  rk_last_error(text, sizeof text);
  CHECK(strstr(text, "state_size is 16, not 24"));
  CHECK(count_of(other, 0) == 1);
  OK(rk_runtime_destroy(runtime));
}

static rk_kernel_t in_state(rk_runtime_t *runtime, uint32_t state) {
  rk_kernel_t kernel = launched(runtime, "s", "status", 2, state == RK_STATE_LAUNCHED ? RK_LAUNCH_SUSPENDED : 0);
  rk_status_t broken = RK_ERR_KERNEL_FAILED;
  rk_message_t message = check_message(&broken, sizeof broken);
  if (state == RK_STATE_DEACTIVATED) rk_deactivate(kernel);
  if (state == RK_STATE_TERMINATED) rk_terminate(kernel, RK_FOREVER);
  if (state == RK_STATE_FAILED && rk_send(kernel, &message, 0) == RK_OK) rk_wait(kernel, RK_FOREVER);
  return kernel;
}

static void lesson_11_checkpoint_and_restore_in_every_state(void) {
  static const struct {
    uint32_t state;
    rk_status_t expected;
  } table[] = {{RK_STATE_LAUNCHED, RK_OK}, {RK_STATE_ACTIVE, RK_OK}, {RK_STATE_DEACTIVATED, RK_OK},
               {RK_STATE_TERMINATED, RK_ERR_TERMINATED}, {RK_STATE_FAILED, RK_ERR_KERNEL_FAILED}};
  rk_runtime_t *runtime = make_runtime(1);
  unsigned char bytes[512];
  size_t row, size;
  rk_kernel_t kernel = in_state(runtime, RK_STATE_ACTIVE);
  OK(rk_checkpoint(kernel, bytes, sizeof bytes, &size));
  OK(rk_destroy(kernel));
  for (row = 0; row < sizeof table / sizeof *table; row++) {
    rk_status_t expected = table[row].expected, status;
    unsigned char now[512];
    size_t told = 77;
    kernel = in_state(runtime, table[row].state);
    CHECK(state_of(kernel) == table[row].state);
    CHECK_STATUS(rk_checkpoint(kernel, NULL, 0, &told), expected == RK_OK ? RK_ERR_BUFFER_TOO_SMALL : expected);
    CHECK(told == (expected == RK_OK ? size : 77));
    CHECK_STATUS(rk_checkpoint(kernel, now, sizeof now, &told), expected);
    CHECK_STATUS(rk_restore(kernel, bytes, size), expected);
    CHECK(state_of(kernel) == table[row].state);
    status = rk_destroy(kernel);
    CHECK(status == RK_OK || status == RK_ERR_TIMEOUT);
  }
  OK(rk_runtime_destroy(runtime));
}

static rk_kernel_t target;
static unsigned char taken[512];
static size_t taken_size;
static rk_status_t taken_status;
static volatile int done;

static void *checkpoint_it(void *argument) {
  (void)argument;
  taken_status = rk_checkpoint(target, taken, sizeof taken, &taken_size);
  done = 1;
  return NULL;
}

static void *restore_it(void *argument) {
  (void)argument;
  taken_status = rk_restore(target, taken, taken_size);
  done = 1;
  return NULL;
}

/* Counts, then waits at the gate. */
static rk_status_t on_gate_count(rk_context_t *ctx, const rk_message_t *message) {
  counted_t *state = (counted_t *)rk_context_state(ctx);
  rk_status_t status;
  state->count++;
  status = on_gate(ctx, message);
  state->block++;
  return status;
}

static void it_waits_for_the_current_message_and_messages_queue(void) {
  rk_runtime_t *runtime = make_runtime(2);
  rk_message_t message = check_message("m", 1);
  counted_t state;
  pthread_t threads[2];
  int i;
  gate_init(&gate);
  OK(add_program(runtime, "gate", on_gate_count, sizeof(counted_t), &gate));
  target = launched(runtime, "k", "gate", 1, 0);
  OK(rk_send(target, &message, 0));
  gate_await_inside(&gate, 1);
  done = 0;
  CHECK(pthread_create(&threads[0], NULL, checkpoint_it, NULL) == 0);
  check_sleep_ms(30);
  CHECK(!done && state_of(target) == RK_STATE_ACTIVE);
  OK(rk_send(target, &message, 0));
  gate_open(&gate);
  CHECK(pthread_join(threads[0], NULL) == 0);
  OK(taken_status);
  state_in(taken, 0, &state, sizeof state);
  CHECK(state.count == state.block && state.count >= 1); /* after a message, not in one */
  UNTIL(metrics_of(target).messages_processed == 2);
  /* Two at the same time. */
  OK(rk_checkpoint(target, taken, sizeof taken, &taken_size));
  for (i = 0; i < 2; i++) CHECK(pthread_create(&threads[i], NULL, i ? restore_it : checkpoint_it, NULL) == 0);
  for (i = 0; i < 2; i++) CHECK(pthread_join(threads[i], NULL) == 0);
  OK(taken_status);
  OK(rk_runtime_destroy(runtime));
}

static void an_end_that_comes_first_is_what_it_answers(void) {
  int restores, fails;
  for (restores = 0; restores < 2; restores++) {
    for (fails = 0; fails < 2; fails++) {
      rk_runtime_t *runtime = make_runtime(2);
      rk_message_t message = check_message("m", 1);
      pthread_t thread;
      rk_status_t status;
      gate_init(&gate);
      OK(add_program(runtime, "gate", on_gate_count, sizeof(counted_t), &gate));
      target = launched(runtime, "k", "gate", 2, 0);
      OK(rk_checkpoint(target, taken, sizeof taken, &taken_size));
      OK(rk_send(target, &message, 0));
      gate_await_inside(&gate, 1);
      done = 0;
      CHECK(pthread_create(&thread, NULL, restores ? restore_it : checkpoint_it, NULL) == 0);
      check_sleep_ms(20);
      CHECK(!done);
      CHECK_STATUS(rk_terminate(target, MS(1)), RK_ERR_TIMEOUT);
      CHECK(pthread_join(thread, NULL) == 0); /* it does not wait for a handler that does not end */
      CHECK_STATUS(taken_status, RK_ERR_TERMINATED);
      CHECK(state_of(target) == RK_STATE_TERMINATING);
      CHECK_STATUS(rk_checkpoint(target, taken, sizeof taken, &taken_size), RK_ERR_TERMINATED);
      gate_open(&gate);
      OK(rk_wait(target, RK_FOREVER));
      status = rk_destroy(target);
      CHECK(status == RK_OK || status == RK_ERR_TIMEOUT);
      OK(rk_runtime_destroy(runtime));
    }
  }
}

static rk_status_t told[4];

/* Asks for checkpoints from inside: of the kernel in the payload. */
static rk_status_t on_ask(rk_context_t *ctx, const rk_message_t *message) {
  rk_kernel_t kernel;
  unsigned char bytes[512];
  size_t size;
  if (message->payload_size != sizeof kernel) return 1;
  memcpy(&kernel, message->payload, sizeof kernel);
  told[0] = rk_checkpoint(kernel, bytes, sizeof bytes, &size);
  told[1] = rk_restore(kernel, bytes, told[0] == RK_OK ? size : 8);
  told[2] = rk_checkpoint(kernel, NULL, 0, &size);
  return rk_context_reply(ctx, message);
}

static void inside_its_own_handler_it_would_deadlock(void) {
  rk_runtime_t *runtime = make_runtime(1);
  rk_kernel_t asks, kernel;
  rk_message_t reply, message = check_message(&kernel, sizeof kernel);
  OK(add_program(runtime, "ask", on_ask, 8, NULL));
  asks = launched(runtime, "a", "ask", 1, 0);
  kernel = asks;
  OK(rk_call(asks, &message, &reply, MS(20000)));
  OK(rk_release(&reply));
  CHECK(told[0] == RK_ERR_WOULD_DEADLOCK && told[1] == RK_ERR_WOULD_DEADLOCK && told[2] == RK_ERR_WOULD_DEADLOCK);
  kernel = launched(runtime, "k", "count", 2, 0);
  CHECK(count_of(kernel, 1) == 1);
  OK(rk_call(asks, &message, &reply, MS(20000)));
  OK(rk_release(&reply));
  CHECK(told[0] == RK_OK && told[1] == RK_OK && told[2] == RK_ERR_BUFFER_TOO_SMALL);
  CHECK(count_of(kernel, 1) == 2);
  OK(rk_runtime_destroy(runtime));
}

static rk_status_t on_start_found(rk_context_t *ctx) {
  counted_t *state = (counted_t *)rk_context_state(ctx);
  if (state->count == 0) state->count = 100;
  return RK_OK;
}

static void a_start_finds_what_was_restored(void) {
  rk_runtime_t *runtime = make_runtime(1);
  rk_program_t program = RK_PROGRAM_INIT;
  unsigned char bytes[512];
  rk_kernel_t kernel;
  size_t size;
  program.name = "starts";
  program.on_message = on_count;
  program.on_start = on_start_found;
  program.state_size = sizeof(counted_t);
  OK(rk_program_register(runtime, &program));
  kernel = launched(runtime, "k", "starts", 1, RK_LAUNCH_SUSPENDED);
  OK(rk_checkpoint(kernel, bytes, sizeof bytes, &size)); /* of nothing yet */
  OK(rk_activate(kernel));
  CHECK(count_of(kernel, 0) == 101);
  OK(rk_checkpoint(kernel, bytes, sizeof bytes, &size));
  OK(rk_destroy(kernel));
  kernel = launched(runtime, "k", "starts", 1, RK_LAUNCH_SUSPENDED);
  OK(rk_restore(kernel, bytes, size));
  OK(rk_activate(kernel));
  CHECK(count_of(kernel, 0) == 102);
  OK(rk_runtime_destroy(runtime));
}

/* Counts, and fails if `type` says so. */
static rk_status_t on_count_or_fail(rk_context_t *ctx, const rk_message_t *message) {
  if (message->type) ((counted_t *)rk_context_state(ctx))->count = 1000;
  return message->type ? RK_ERR_KERNEL_FAILED : on_count(ctx, message);
}

static void a_restarted_block_begins_with_the_last_checkpoint(void) {
  rk_runtime_t *runtime = make_runtime(2);
  rk_launch_options_t options = options_for("fails", mode);
  rk_message_t message = check_message("m", 1);
  unsigned char bytes[512];
  rk_kernel_t kernel;
  size_t size;
  uint32_t i;
  OK(add_program(runtime, "fails", on_count_or_fail, sizeof(counted_t), NULL));
  options.grid_size = 2;
  options.restart = RK_RESTART_ON_FAILURE;
  options.restart_max = 10;
  OK(rk_launch(runtime, "k", &options, &kernel));
  message.type = 1;
  for (i = 0; i < 2; i++) CHECK(count_of(kernel, 1) == i + 1);
  message.block = 1;
  OK(rk_send(kernel, &message, 0)); /* none was taken yet */
  for (i = 0; i < 3; i++) CHECK(count_of(kernel, 1) == i + 1);
  OK(rk_checkpoint(kernel, bytes, sizeof bytes, &size));
  CHECK(count_of(kernel, 1) == 4 && count_of(kernel, 0) == 1);
  OK(rk_send(kernel, &message, 0));
  CHECK(count_of(kernel, 1) == 4 && count_of(kernel, 0) == 2); /* the other block goes on */
  OK(rk_checkpoint(kernel, bytes, sizeof bytes, &size));
  CHECK(count_of(kernel, 1) == 5 && count_of(kernel, 0) == 3);
  OK(rk_restore(kernel, bytes, size));
  CHECK(count_of(kernel, 1) == 5);
  OK(rk_send(kernel, &message, 0));
  CHECK(count_of(kernel, 1) == 5 && count_of(kernel, 0) == 3);
  /* While it waits for its restart, what it will begin with is what is saved. */
  OK(rk_destroy(kernel));
  options.restart_backoff_ns = MS(300);
  OK(rk_launch(runtime, "k", &options, &kernel));
  CHECK(count_of(kernel, 1) == 1);
  OK(rk_checkpoint(kernel, bytes, sizeof bytes, &size));
  OK(rk_send(kernel, &message, 0));
  UNTIL(metrics_of(kernel).messages_failed == 1);
  for (i = 0; i < 20; i++) {
    counted_t state;
    OK(rk_checkpoint(kernel, bytes, sizeof bytes, &size));
    state_in(bytes, 1, &state, sizeof state);
    CHECK(state.count == 1);
  }
  CHECK(count_of(kernel, 1) == 2);
  OK(rk_runtime_destroy(runtime));
}

/* Says that it is inside, spoils its state when the gate opens, and fails. */
static rk_status_t on_spoil(rk_context_t *ctx, const rk_message_t *message) {
  if (!message->type) return on_count(ctx, message);
  on_gate(ctx, message);
  ((counted_t *)rk_context_state(ctx))->count = 1000;
  return RK_ERR_KERNEL_FAILED;
}

static void what_a_failing_handler_leaves_is_not_saved(void) {
  rk_runtime_t *runtime = make_runtime(2);
  rk_launch_options_t options = options_for("spoils", mode);
  rk_message_t message = check_message("m", 1);
  pthread_t thread;
  gate_init(&gate);
  OK(add_program(runtime, "spoils", on_spoil, sizeof(counted_t), &gate));
  options.restart = RK_RESTART_ON_FAILURE;
  OK(rk_launch(runtime, "k", &options, &target));
  CHECK(count_of(target, 0) == 1);
  message.type = 1;
  OK(rk_send(target, &message, 0));
  gate_await_inside(&gate, 1);
  done = 0;
  taken_status = 1;
  CHECK(pthread_create(&thread, NULL, checkpoint_it, NULL) == 0);
  check_sleep_ms(50); /* it waits for the handler; if it did not yet, nothing is shown */
  gate_open(&gate);
  CHECK(pthread_join(thread, NULL) == 0);
  OK(taken_status);
  CHECK(count_of(target, 0) == 1); /* begun anew with zeros, and not with what was left */
  OK(rk_restore(target, taken, taken_size));
  CHECK(count_of(target, 0) == 1);
  OK(rk_runtime_destroy(runtime));
}

/* Block 0 holds a checkpoint up, in which block 1 fails, and a pause is asked for: its stop is before the pause has succeeded. */
static volatile int has_paused, let_go;
static int ran_in_pause, ran_in_all;

static rk_status_t on_fail_in_a_hold(rk_context_t *ctx, const rk_message_t *message) {
  (void)message;
  while (!rk_context_stopping(ctx)) check_sleep_ms(1);
  if (rk_context_block(ctx) == 1) return RK_ERR_KERNEL_FAILED;
  UNTIL(let_go);
  return RK_OK;
}

static void on_stop_counted(rk_context_t *ctx) {
  if (rk_context_block(ctx) != 1) return;
  if (has_paused) __atomic_fetch_add(&ran_in_pause, 1, __ATOMIC_SEQ_CST);
  __atomic_fetch_add(&ran_in_all, 1, __ATOMIC_SEQ_CST);
}

static void *checkpoint_all(void *argument) {
  size_t size = size_of(*(rk_kernel_t *)argument);
  void *bytes = malloc(size);
  rk_status_t status = size && bytes ? rk_checkpoint(*(rk_kernel_t *)argument, bytes, size, NULL) : RK_ERR_INTERNAL;
  free(bytes);
  return status == RK_OK ? NULL : argument;
}

static void *pause_it(void *argument) {
  if (rk_deactivate(*(rk_kernel_t *)argument) != RK_OK) return argument;
  has_paused = 1;
  return NULL;
}

static void nothing_of_a_failed_block_runs_after_a_pause(void) {
  rk_runtime_t *runtime = make_runtime(3);
  rk_launch_options_t options = options_for("held", mode);
  rk_program_t program = RK_PROGRAM_INIT;
  rk_message_t message = check_message("m", 1);
  rk_dead_letter_t letter;
  rk_kernel_t kernel;
  pthread_t copier, pauser;
  void *failed;
  int hosted = runtime && backend_of(runtime) == RK_BACKEND_CPU;
  program.name = "held";
  program.on_message = on_fail_in_a_hold;
  program.on_stop = on_stop_counted;
  program.state_size = 8u << 20; /* to copy it takes a moment */
  OK(rk_program_register(runtime, &program));
  options.grid_size = 2;
  options.restart = RK_RESTART_ON_FAILURE;
  options.restart_backoff_ns = 1;
  has_paused = let_go = ran_in_pause = ran_in_all = 0;
  OK(rk_launch(runtime, "k", &options, &kernel));
  for (message.block = 0; message.block < 2; message.block++) OK(rk_send(kernel, &message, 0));
  CHECK(pthread_create(&copier, NULL, checkpoint_all, &kernel) == 0);
  OK(rk_receive_dead_letter(runtime, &letter, RK_FOREVER));
  OK(rk_release(&letter.message));
  CHECK(pthread_create(&pauser, NULL, pause_it, &kernel) == 0);
  UNTIL(state_of(kernel) == RK_STATE_DEACTIVATED);
  let_go = 1;
  CHECK(pthread_join(pauser, &failed) == 0 && failed == NULL);
  CHECK(pthread_join(copier, &failed) == 0 && failed == NULL);
  UNTIL(!hosted || __atomic_load_n(&ran_in_all, __ATOMIC_SEQ_CST) == 1);
  CHECK(ran_in_pause == 0);
  OK(rk_runtime_destroy(runtime));
}

/* The time to restart comes while states are copied, as late as can be: one copy for each failure, for the next would make up for it. */
static volatile int copies_wanted;
static unsigned char *copy_to;
static size_t copy_size;

static void *copy_once_for_each(void *kernel) {
  volatile int spin;
  int made = 0;
  for (;;) {
    while (copies_wanted == made) sched_yield();
    made = copies_wanted;
    if (made < 0) return NULL;
    for (spin = 0; spin < made % 50 * 1000; spin++) {
    }
    if (rk_checkpoint(*(rk_kernel_t *)kernel, copy_to, copy_size, NULL) != RK_OK) return kernel;
  }
}

static rk_status_t on_fail_or_echo(rk_context_t *ctx, const rk_message_t *message) {
  return message->type ? RK_ERR_KERNEL_FAILED : rk_context_reply(ctx, message);
}

static void a_block_whose_time_comes_in_a_copy_comes_back(void) {
  rk_runtime_t *runtime = make_runtime(2);
  rk_launch_options_t options = options_for("mortal", mode);
  rk_message_t message = check_message("m", 1), reply;
  rk_kernel_t kernel;
  pthread_t copier;
  void *failed;
  int i, rounds = check_slow() ? 20 : 1000;
  OK(add_program(runtime, "mortal", on_fail_or_echo, 2u << 20, NULL)); /* a millisecond, as a timer takes */
  options.restart = RK_RESTART_ON_FAILURE;
  options.restart_max = 1000000;
  options.restart_backoff_ns = 200000;
  OK(rk_launch(runtime, "k", &options, &kernel));
  copy_size = size_of(kernel);
  copy_to = (unsigned char *)malloc(copy_size);
  copies_wanted = 0;
  CHECK(pthread_create(&copier, NULL, copy_once_for_each, &kernel) == 0);
  for (i = 1; i <= rounds; i++) {
    message.type = 1;
    CHECK_STATUS(rk_call(kernel, &message, &reply, MS(20000)), RK_ERR_KERNEL_FAILED);
    copies_wanted = i;
    message.type = 0;
    OK(rk_call(kernel, &message, &reply, MS(20000)));
    OK(rk_release(&reply));
  }
  copies_wanted = -1;
  CHECK(pthread_join(copier, &failed) == 0 && failed == NULL);
  free(copy_to);
  OK(rk_runtime_destroy(runtime));
}

static rk_kernel_t pair[2];
static volatile int entered;
static rk_status_t of_pair[2];

/* Two handlers, each of which would wait for the other to end. */
static rk_status_t on_the_other(rk_context_t *ctx, const rk_message_t *message) {
  unsigned char bytes[512];
  size_t size;
  uint32_t me = message->type & 1;
  __atomic_fetch_add(&entered, 1, __ATOMIC_SEQ_CST);
  UNTIL(entered == 2);
  if (message->type < 2) {
    of_pair[me] = rk_checkpoint(pair[1 - me], bytes, sizeof bytes, &size);
  } else {
    of_pair[me] = rk_deactivate(pair[1 - me]);
  }
  return rk_context_reply(ctx, message);
}

static void two_handlers_that_would_wait_for_each_other_are_told(void) {
  int with_pause;
  for (with_pause = 0; with_pause < 2; with_pause++) {
    rk_runtime_t *runtime = make_runtime(2);
    rk_message_t message = check_message("m", 1);
    rk_op_t op;
    rk_event_t event;
    size_t count;
    int i;
    OK(add_program(runtime, "pair", on_the_other, 8, NULL));
    pair[0] = launched(runtime, "a", "pair", 2, 0);
    pair[1] = launched(runtime, "b", "pair", 2, 0);
    entered = 0;
    for (i = 0; i < 2; i++) {
      message.type = (uint32_t)(2 * with_pause + i);
      message.block = (uint32_t)i;
      OK(rk_call_async(pair[i], &message, RK_FOREVER, 0, &op));
    }
    for (i = 0; i < 2; i++) {
      OK(rk_poll(runtime, &event, 1, RK_FOREVER, &count));
      CHECK(event.kind == RK_EVENT_REPLY && event.status == RK_OK);
      OK(rk_release(&event.message));
    }
    CHECK((of_pair[0] == RK_OK && of_pair[1] == RK_ERR_WOULD_DEADLOCK) ||
          (of_pair[1] == RK_OK && of_pair[0] == RK_ERR_WOULD_DEADLOCK));
    OK(rk_runtime_destroy(runtime));
  }
}

static void a_checkpoint_is_no_change_of_state(void) {
  rk_runtime_t *runtime = make_runtime(1);
  rk_kernel_t kernel = launched(runtime, "k", "count", 1, 0);
  unsigned char bytes[512];
  rk_event_t event;
  size_t size, count;
  OK(rk_watch(kernel, RK_WATCH_STATE, 1));
  OK(rk_checkpoint(kernel, bytes, sizeof bytes, &size));
  OK(rk_restore(kernel, bytes, size));
  CHECK_STATUS(rk_poll(runtime, &event, 1, 0, &count), RK_ERR_EMPTY);
  OK(rk_deactivate(kernel));
  OK(rk_checkpoint(kernel, bytes, sizeof bytes, &size));
  OK(rk_poll(runtime, &event, 1, MS(60000), &count));
  CHECK(event.kind == RK_EVENT_STATE && event.state == RK_STATE_DEACTIVATED);
  CHECK_STATUS(rk_poll(runtime, &event, 1, 0, &count), RK_ERR_EMPTY);
  OK(rk_runtime_destroy(runtime));
}

static volatile int wrong;

static void *pause_and_go(void *argument) {
  (void)argument;
  while (!stop) {
    rk_status_t status = rk_deactivate(target);
    /* Somebody else may have activated it, or ended it. */
    if (status != RK_OK && status != RK_ERR_INVALID_STATE && status != RK_ERR_TERMINATED) wrong = status;
    status = rk_activate(target);
    if (status != RK_OK && status != RK_ERR_INVALID_STATE && status != RK_ERR_TERMINATED) wrong = status;
    sched_yield();
  }
  return NULL;
}

static void *copy_and_back(void *argument) {
  unsigned char bytes[512];
  (void)argument;
  while (!stop) {
    size_t size;
    twice_t state;
    uint32_t b;
    rk_status_t status = rk_checkpoint(target, bytes, sizeof bytes, &size);
    if (status == RK_ERR_TERMINATED) continue;
    if (status != RK_OK) wrong = status;
    for (b = 0; b < 2; b++) {
      state_in(bytes, b, &state, sizeof state);
      if (state.received != state.received_again) wrong = 1;
    }
    status = rk_restore(target, bytes, size);
    if (status != RK_OK && status != RK_ERR_TERMINATED) wrong = status;
  }
  return NULL;
}

static void beside_every_other_verb(void) {
  int round, rounds = check_slow() ? 3 : 20;
  for (round = 0; round < rounds; round++) {
    rk_runtime_t *runtime = make_runtime(2);
    rk_message_t message = check_message("m", 1);
    pthread_t threads[4];
    uint64_t sent = 0;
    uint32_t route;
    rk_status_t status;
    int i;
    OK(add_program(runtime, "hop", on_hop, sizeof(twice_t), NULL));
    target = launched(runtime, "k", "hop", 2, 0);
    OK(rk_connect(target, target, &route));
    stop = 0;
    wrong = 0;
    for (i = 0; i < 4; i++) CHECK(pthread_create(&threads[i], NULL, i < 2 ? copy_and_back : pause_and_go, NULL) == 0);
    for (i = 0; i < 400; i++) {
      status = rk_send(target, &message, MS(20000));
      CHECK(status == RK_OK);
      sent++;
    }
    check_sleep_ms(10);
    if (round % 2 == 0) {
      /* Nothing is lost whatever comes between; it does not stay paused. */
      stop = 1;
      for (i = 0; i < 4; i++) CHECK(pthread_join(threads[i], NULL) == 0);
      OK(rk_activate(target));
      UNTIL(metrics_of(target).messages_processed == 2 * sent);
      OK(rk_destroy(target));
    } else {
      status = rk_terminate(target, MS(20000)); /* paused: dead letters; else drained */
      CHECK(status == RK_OK && state_of(target) == RK_STATE_TERMINATED);
      stop = 1;
      for (i = 0; i < 4; i++) CHECK(pthread_join(threads[i], NULL) == 0);
      OK(rk_destroy(target));
    }
    if (wrong) printf("status %d\n", wrong);
    CHECK(wrong == 0);
    OK(rk_runtime_destroy(runtime));
  }
}

static void a_large_state_comes_back_whole(void) {
  rk_runtime_t *runtime = make_runtime(1);
  const size_t state = (1u << 20) + 40;
  unsigned char *bytes, *again;
  uint64_t held, more;
  rk_kernel_t kernel, other;
  size_t size, i;
  OK(add_program(runtime, "large", on_count, state, NULL));
  /* Its queues keep their memory while it is idle, so that what is counted changes by the checkpoint only. */
  kernel = launched(runtime, "k", "large", 3, RK_LAUNCH_SINGLE_SENDER);
  CHECK(count_of(kernel, 2) == 1);
  size = size_of(kernel);
  CHECK(size == HEADER + 3 * state + CHECKSUM);
  bytes = (unsigned char *)malloc(size);
  again = (unsigned char *)malloc(size);
  held = metrics_of(kernel).host_memory_used_bytes;
  OK(rk_checkpoint(kernel, bytes, size, NULL));
  /* What is kept of it is counted, once. */
  more = metrics_of(kernel).host_memory_used_bytes - held;
  CHECK(more >= 3 * state && more < 7 * state);
  OK(rk_checkpoint(kernel, bytes, size, NULL));
  CHECK(metrics_of(kernel).host_memory_used_bytes - held == more);
  for (i = 0; i < 3 * state; i += 4099) {
    bytes[HEADER + i] ^= 1;
    CHECK_STATUS(rk_restore(kernel, bytes, size), RK_ERR_INVALID_ARGUMENT);
    bytes[HEADER + i] ^= 1;
    if (check_slow()) i += 300000;
  }
  other = launched(runtime, "other", "large", 3, RK_LAUNCH_SUSPENDED);
  OK(rk_restore(other, bytes, size));
  OK(rk_checkpoint(other, again, size, NULL));
  CHECK(memcmp(bytes, again, size) == 0);
  OK(rk_activate(other));
  CHECK(count_of(other, 2) == 2 && count_of(other, 0) == 1);
  free(bytes);
  free(again);
  OK(rk_runtime_destroy(runtime));
}

int main(int argc, char **argv) {
  fixture_unused();
  for (mode = RK_MODE_PERSISTENT; mode <= RK_MODE_EVENT_DRIVEN; mode++) {
    printf("mode %u\n", mode);
    RUN(a_checkpoint_is_one_cut_of_all_blocks);
    RUN(the_size_is_told_and_what_does_not_fit_is_not_written);
    RUN(a_restored_kernel_goes_on_where_it_was);
    RUN(any_changed_byte_is_refused_and_nothing_changes);
    RUN(what_is_of_another_program_grid_or_state_is_refused);
    RUN(lesson_11_checkpoint_and_restore_in_every_state);
    RUN(it_waits_for_the_current_message_and_messages_queue);
    RUN(an_end_that_comes_first_is_what_it_answers);
    RUN(inside_its_own_handler_it_would_deadlock);
    RUN(a_start_finds_what_was_restored);
    RUN(a_restarted_block_begins_with_the_last_checkpoint);
    RUN(what_a_failing_handler_leaves_is_not_saved);
    RUN(nothing_of_a_failed_block_runs_after_a_pause);
    RUN(a_block_whose_time_comes_in_a_copy_comes_back);
    RUN(two_handlers_that_would_wait_for_each_other_are_told);
    RUN(a_checkpoint_is_no_change_of_state);
    RUN(beside_every_other_verb);
    RUN(a_large_state_comes_back_whole);
  }
  return check_result();
}
