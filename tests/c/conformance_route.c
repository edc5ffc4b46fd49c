/* Kernel to kernel: what a message carries over a route, limits and errors of routes, what handlers cannot do. */
#include "fixture.h"

static uint32_t mode;

/* What the handlers saw, and what they got for what they asked. */
static rk_message_t seen;
static rk_status_t got[8];

static rk_kernel_t launched(rk_runtime_t *runtime, const char *id, const char *program, uint32_t with_mode,
                            uint32_t flags) {
  rk_launch_options_t options = options_for(program, with_mode);
  rk_kernel_t kernel = {0};
  options.flags = flags;
  options.grid_size = 2;
  options.input_queue_capacity = 4;
  rk_launch(runtime, id, &options, &kernel);
  return kernel;
}

/* From the host: on by route 0, to the block that `type` names. From a kernel: to the host. */
static rk_status_t on_relay(rk_context_t *ctx, const rk_message_t *message) {
  rk_message_t next = *message;
  if (message->source != 0) {
    seen = *message;
    seen.payload = NULL;
    return rk_context_emit(ctx, message);
  }
  next.block = message->type;
  return rk_context_send(ctx, 0, &next);
}

static void a_message_carries_its_words_and_its_source_over_a_route_of_any_modes(void) {
  static const uint32_t modes[] = {RK_MODE_PERSISTENT, RK_MODE_EVENT_DRIVEN};
  size_t i;
  for (i = 0; i < 2; i++) {
    rk_runtime_t *runtime = make_runtime(1);
    rk_kernel_t a, b;
    rk_message_t out, message = check_message("over the route", 14);
    uint32_t route;
    int round;
    OK(add_program(runtime, "relay", on_relay, 0, NULL));
    a = launched(runtime, "a", "relay", mode, 0);
    b = launched(runtime, "b", "relay", modes[i], 0);
    OK(rk_connect(a, b, &route));
    for (round = 1; round <= 50; round++) {
      message.correlation = (uint64_t)round * 77;
      message.block = (uint32_t)round % 2;
      message.type = round % 3 == 2 ? RK_ANY_BLOCK : (uint32_t)round % 3;
      OK(rk_send(a, &message, RK_FOREVER));
      OK(rk_receive(b, &out, RK_FOREVER));
      CHECK(out.payload_size == 14 && memcmp(out.payload, "over the route", 14) == 0);
      CHECK(out.correlation == message.correlation && out.type == message.type && out.source == b.id);
      CHECK(seen.source == a.id && (round % 3 == 2 || seen.block == (uint32_t)round % 3));
      OK(rk_release(&out));
    }
    OK(rk_runtime_destroy(runtime));
  }
}

static void what_is_out_only_is_not_believed(void) {
  rk_runtime_t *runtime = make_runtime(1);
  rk_kernel_t a, b;
  rk_message_t out, message = check_message("m", 1);
  a = launched(runtime, "a", "echo", mode, 0);
  b = launched(runtime, "b", "sink", mode, 0);
  message.source = b.id; /* a forged sender: the reply does not go there */
  message.lease = 12345;
  message.timestamp.physical_ns = 1;
  message.timestamp.node = 9;
  OK(rk_send(a, &message, 0));
  OK(rk_receive(a, &out, RK_FOREVER));
  CHECK(out.source == a.id && out.lease != 12345 && out.timestamp.physical_ns == 0 && out.timestamp.node == 0);
  OK(rk_release(&out));
  OK(rk_call(a, &message, &out, RK_FOREVER));
  OK(rk_release(&out));
  CHECK(metrics_of(b).messages_from_kernels == 0 && metrics_of(a).messages_to_kernels == 0);
  OK(rk_runtime_destroy(runtime));
}

/* Asks for what cannot be, by route 0 and to the host; `got` has the answers. */
static rk_status_t on_ask_too_much(rk_context_t *ctx, const rk_message_t *message) {
  static char bytes[257];
  rk_message_t next = check_message(bytes, 65);
  got[0] = rk_context_send(ctx, 0, &next); /* fits here, not there */
  next = check_message(bytes, 64);
  got[1] = rk_context_send(ctx, 0, &next);
  next.block = 2;
  got[2] = rk_context_send(ctx, 0, &next);
  got[3] = rk_context_send(ctx, 1, message);
  next = check_message(bytes, 257);
  got[4] = rk_context_emit(ctx, &next);
  got[5] = rk_context_reply(ctx, &next);
  got[6] = rk_context_emit(ctx, NULL);
  next = check_message(NULL, 3);
  got[7] = rk_context_send(ctx, 0, &next);
  return rk_context_reply(ctx, message);
}

static void a_route_refuses_what_its_target_cannot_take(void) {
  static const rk_status_t expected[] = {RK_ERR_TOO_LARGE, RK_OK, RK_ERR_INVALID_ARGUMENT, RK_ERR_NO_ROUTE,
                                         RK_ERR_TOO_LARGE, RK_ERR_TOO_LARGE, RK_ERR_INVALID_ARGUMENT,
                                         RK_ERR_INVALID_ARGUMENT};
  rk_runtime_t *runtime = make_runtime(1);
  rk_launch_options_t options = options_for("much", mode);
  rk_kernel_t a, b;
  rk_message_t out, message = check_message("m", 1);
  uint32_t route;
  int i;
  OK(add_program(runtime, "much", on_ask_too_much, 0, NULL));
  options.payload_size_max = 256;
  OK(rk_launch(runtime, "a", &options, &a));
  options.program = "sink";
  options.payload_size_max = 64;
  options.grid_size = 2;
  OK(rk_launch(runtime, "b", &options, &b));
  OK(rk_connect(a, b, &route));
  OK(rk_call(a, &message, &out, RK_FOREVER)); /* the refused reply was none: this one is the first */
  OK(rk_release(&out));
  for (i = 0; i < 8; i++) CHECK_STATUS(got[i], expected[i]);
  UNTIL(metrics_of(a).messages_to_kernels == 1 && metrics_of(b).messages_from_kernels == 1);
  CHECK(metrics_of(a).dead_letters == 0 && metrics_of(a).output_queue_depth == 0);
  OK(rk_runtime_destroy(runtime));
}

static void kernels_that_have_ended_are_not_connected(void) {
  rk_runtime_t *runtime = make_runtime(1);
  rk_status_t broken = RK_ERR_KERNEL_FAILED;
  rk_message_t message = check_message(&broken, sizeof broken);
  rk_kernel_t live, ended, failed;
  uint32_t route = 77;
  live = launched(runtime, "live", "echo", mode, 0);
  ended = launched(runtime, "ended", "echo", mode, 0);
  failed = launched(runtime, "failed", "status", mode, 0);
  OK(rk_terminate(ended, RK_FOREVER));
  OK(rk_send(failed, &message, 0));
  CHECK_STATUS(rk_wait(failed, RK_FOREVER), RK_ERR_KERNEL_FAILED);
  CHECK_STATUS(rk_connect(live, ended, &route), RK_ERR_TERMINATED);
  CHECK_STATUS(rk_connect(ended, live, &route), RK_ERR_TERMINATED);
  CHECK_STATUS(rk_connect(live, failed, &route), RK_ERR_KERNEL_FAILED);
  CHECK_STATUS(rk_connect(failed, live, &route), RK_ERR_KERNEL_FAILED);
  CHECK(route == 77);
  OK(rk_connect(live, live, &route));
  CHECK(route == 0); /* what was refused took no number */
  CHECK(works(live));
  OK(rk_runtime_destroy(runtime));
}

/* From the host: on by route 0. From a kernel: fails with 31. */
static rk_status_t on_refuse(rk_context_t *ctx, const rk_message_t *message) {
  return message->source == 0 ? rk_context_send(ctx, 0, message) : 31;
}

static void what_a_kernel_sent_dies_with_its_source_and_its_reason(void) {
  rk_runtime_t *runtime = make_runtime(1);
  rk_kernel_t a, b;
  rk_message_t message = check_message("unwanted", 8);
  rk_dead_letter_t letter;
  uint32_t route;
  OK(add_program(runtime, "refuse", on_refuse, 0, NULL));
  a = launched(runtime, "a", "refuse", mode, 0);
  b = launched(runtime, "b", "refuse", mode, 0);
  OK(rk_connect(a, b, &route));
  message.correlation = 5;
  OK(rk_send(a, &message, 0));
  OK(rk_receive_dead_letter(runtime, &letter, RK_FOREVER));
  CHECK(letter.reason == RK_DEAD_HANDLER && letter.status == 31 && letter.kernel.id == b.id);
  CHECK(letter.message.source == a.id && letter.message.correlation == 5);
  CHECK(letter.message.payload_size == 8 && memcmp(letter.message.payload, "unwanted", 8) == 0);
  OK(rk_release(&letter.message));
  message.deadline_ns = check_now() + MS(30);
  OK(rk_deactivate(b));
  OK(rk_send(a, &message, 0));
  UNTIL(metrics_of(b).messages_from_kernels == 2);
  check_sleep_ms(40);
  OK(rk_activate(b));
  OK(rk_receive_dead_letter(runtime, &letter, RK_FOREVER));
  CHECK(letter.reason == RK_DEAD_EXPIRED && letter.kernel.id == b.id && letter.message.source == a.id);
  OK(rk_release(&letter.message));
  CHECK(metrics_of(b).messages_failed == 1 && metrics_of(b).dead_letters == 2);
  OK(rk_runtime_destroy(runtime));
}

static void a_reply_to_a_kernel_that_has_ended_is_a_dead_letter(void) {
  rk_runtime_t *runtime = make_runtime(1);
  rk_kernel_t asks, answers;
  rk_message_t message = check_message("q", 1);
  rk_dead_letter_t letter;
  uint32_t route;
  int destroyed;
  OK(add_program(runtime, "refuse", on_refuse, 0, NULL));
  answers = launched(runtime, "answers", "echo", mode, 0);
  for (destroyed = 0; destroyed < 2; destroyed++) {
    OK(rk_deactivate(answers));
    asks = launched(runtime, "asks", "refuse", mode, 0);
    OK(rk_connect(asks, answers, &route));
    OK(rk_send(asks, &message, 0));
    UNTIL(metrics_of(asks).messages_to_kernels == 1);
    OK(rk_terminate(asks, RK_FOREVER));
    if (destroyed) OK(rk_destroy(asks));
    OK(rk_activate(answers));
    OK(rk_receive_dead_letter(runtime, &letter, RK_FOREVER));
    CHECK(letter.reason == RK_DEAD_TERMINATED && letter.kernel.id == asks.id);
    CHECK(letter.message.source == answers.id && letter.message.payload_size == 1);
    OK(rk_release(&letter.message));
    UNTIL(metrics_of(answers).messages_processed == (uint64_t)destroyed + 1);
    CHECK(metrics_of(answers).messages_failed == 0);
  }
  OK(rk_runtime_destroy(runtime));
}

/* Sends itself messages until its queue says it is full; those count. */
static rk_status_t on_fill_itself(rk_context_t *ctx, const rk_message_t *message) {
  rk_message_t next = *message;
  uint64_t sent = 0;
  rk_status_t status = RK_OK;
  if (message->type == 1) return RK_OK;
  next.type = 1;
  while ((status = rk_context_send(ctx, 0, &next)) == RK_OK) sent++;
  if (status != RK_ERR_FULL) return status;
  next = check_message(&sent, sizeof sent);
  return rk_context_reply(ctx, &next);
}

static void a_full_route_to_oneself_says_so_and_goes_on(void) {
  rk_runtime_t *runtime = make_runtime(1);
  rk_kernel_t kernel;
  rk_message_t out, message = check_message("m", 1);
  uint64_t total = 0, most = 4;
  uint32_t route;
  int i;
  /* From a device through the host: as many again may be on their way. */
  if (backend_of(runtime) == RK_BACKEND_CUDA && mode == RK_MODE_EVENT_DRIVEN) most = 8;
  OK(add_program(runtime, "fill", on_fill_itself, 0, NULL));
  kernel = launched(runtime, "k", "fill", mode, 0);
  OK(rk_connect(kernel, kernel, &route));
  for (i = 0; i < 10; i++) {
    OK(rk_call(kernel, &message, &out, RK_FOREVER));
    CHECK(*(const uint64_t *)out.payload >= 3 && *(const uint64_t *)out.payload <= most);
    total += *(const uint64_t *)out.payload;
    OK(rk_release(&out));
    UNTIL(metrics_of(kernel).messages_processed == total + (uint64_t)i + 1);
  }
  CHECK(metrics_of(kernel).messages_to_kernels == total && metrics_of(kernel).messages_from_kernels == total);
  OK(rk_runtime_destroy(runtime));
}

/* Sends to route 0 until that is full, then once to route 1; replies with how many there were and what became of the last. */
static rk_status_t on_fill_and_pass(rk_context_t *ctx, const rk_message_t *message) {
  uint64_t said[2] = {0, 0};
  rk_message_t reply = check_message(said, sizeof said);
  rk_status_t status;
  while ((status = rk_context_send(ctx, 0, message)) == RK_OK) said[0]++;
  if (status != RK_ERR_FULL) return status;
  said[1] = (uint64_t)(-(int64_t)rk_context_send(ctx, 1, message));
  return rk_context_reply(ctx, &reply);
}

static void a_full_target_holds_up_no_other(void) {
  static const uint32_t modes[] = {RK_MODE_PERSISTENT, RK_MODE_EVENT_DRIVEN};
  rk_message_t out, message = check_message("m", 1);
  uint64_t said[2], total;
  uint32_t route;
  size_t i, round;
  for (i = 0; i < 2; i++) {
    rk_runtime_t *runtime = make_runtime(1);
    rk_kernel_t from, full, free_one;
    OK(add_program(runtime, "pass", on_fill_and_pass, 0, NULL));
    from = launched(runtime, "from", "pass", mode, 0);
    full = launched(runtime, "full", "sink", modes[i], RK_LAUNCH_SUSPENDED);
    free_one = launched(runtime, "free", "sink", modes[i], 0);
    OK(rk_connect(from, full, &route));
    OK(rk_connect(from, free_one, &route));
    for (round = 1, total = 0; round <= 10; round++) {
      OK(rk_call(from, &message, &out, RK_FOREVER));
      memcpy(said, out.payload, sizeof said);
      OK(rk_release(&out));
      CHECK(said[1] == 0);
      CHECK(round == 1 ? said[0] >= 4 && said[0] <= 16 : said[0] == 0);
      total += said[0];
      UNTIL(metrics_of(free_one).messages_processed == round);
    }
    OK(rk_activate(full));
    UNTIL(metrics_of(full).messages_processed == total);
    CHECK(metrics_of(from).messages_to_kernels == total + 10 && metrics_of(from).dead_letters == 0);
    OK(rk_runtime_destroy(runtime));
  }
}

/* On by the route in `type`; replies with what became of it. */
static rk_status_t on_by_number(rk_context_t *ctx, const rk_message_t *message) {
  rk_message_t reply = *message;
  reply.type = (uint32_t)-rk_context_send(ctx, message->type, message);
  return rk_context_reply(ctx, &reply);
}

static uint32_t sent_by_number(rk_kernel_t from, uint32_t number) {
  rk_message_t out, message = check_message("m", 1);
  uint32_t status = 99;
  message.type = number;
  if (rk_call(from, &message, &out, MS(20000)) != RK_OK) return status;
  status = out.type;
  rk_release(&out);
  return status;
}

/* The routes live at the same time; then most end, some come back under new numbers. */
static void sixty_five_thousand_routes_live(void) {
  /* So many targets that routes at the same place of different leaves lead to different ones. */
  enum { ROUTES = 65536, TARGETS = 5, PROBES = 300 };
  static const uint32_t edges[] = {0, 63, 64, 65, 127, 128, 4095, 4096, 32767, 32768, 32769, ROUTES - 1};
  rk_runtime_t *runtime = make_runtime(1);
  rk_launch_options_t options;
  rk_kernel_t from, to[TARGETS];
  uint64_t expected[TARGETS] = {0};
  uint32_t i, route, number, random = 12345;
  OK(add_program(runtime, "number", on_by_number, 0, NULL));
  from = launched(runtime, "from", "number", mode, 0);
  for (i = 0; i < TARGETS; i++) {
    char id[8];
    snprintf(id, sizeof id, "to%u", (unsigned)i);
    options = options_for("sink", i % 2 ? RK_MODE_EVENT_DRIVEN : RK_MODE_PERSISTENT);
    options.input_queue_capacity = 1024;
    OK(rk_launch(runtime, id, &options, &to[i]));
  }
  for (i = 0; i < ROUTES; i++) {
    OK(rk_connect(from, to[i % TARGETS], &route));
    CHECK(route == i);
  }
  CHECK(sent_by_number(from, ROUTES) == (uint32_t)-RK_ERR_NO_ROUTE && sent_by_number(from, UINT32_MAX) == (uint32_t)-RK_ERR_NO_ROUTE);
  for (i = 0; i < PROBES; i++) {
    random = random * 1664525u + 1013904223u;
    number = i < sizeof edges / sizeof edges[0] ? edges[i] : random >> 16;
    CHECK(sent_by_number(from, number) == 0);
    expected[number % TARGETS]++;
  }
  for (i = 0; i < ROUTES; i++) {
    if (i % 7 != 0) OK(rk_disconnect(from, i));
  }
  for (i = 0; i < PROBES; i++) {
    random = random * 1664525u + 1013904223u;
    number = i < sizeof edges / sizeof edges[0] ? edges[i] : random >> 16;
    CHECK(sent_by_number(from, number) == (number % 7 ? (uint32_t)-RK_ERR_NO_ROUTE : 0));
    if (number % 7 == 0) expected[number % TARGETS]++;
  }
  for (i = 0; i < ROUTES; i += 7) OK(rk_disconnect(from, i));
  for (i = 0; i < 300; i++) { /* for new numbers, where others were */
    OK(rk_connect(from, to[i % TARGETS], &route));
    CHECK(route == ROUTES + i);
    if (i < 290) continue;
    CHECK(sent_by_number(from, route) == 0 && sent_by_number(from, i) == (uint32_t)-RK_ERR_NO_ROUTE);
    expected[i % TARGETS]++;
  }
  for (i = 0; i < TARGETS; i++) UNTIL(metrics_of(to[i]).messages_processed == expected[i]);
  OK(rk_runtime_destroy(runtime));
}

static rk_status_t got_in_start[2], got_in_stop[2];

static rk_status_t start_and_emit(rk_context_t *ctx) {
  rk_message_t message = check_message("start", 5);
  got_in_start[0] = rk_context_reply(ctx, &message); /* there is no message to answer */
  got_in_start[1] = rk_context_send(ctx, 0, &message);
  return rk_context_emit(ctx, &message);
}

static void stop_and_emit(rk_context_t *ctx) {
  rk_message_t message = check_message("stop", 4);
  got_in_stop[0] = rk_context_reply(ctx, &message);
  got_in_stop[1] = rk_context_emit(ctx, &message);
}

static void starts_and_stops_may_emit_and_have_nothing_to_answer(void) {
  rk_runtime_t *runtime = make_runtime(1);
  rk_program_t program = RK_PROGRAM_INIT;
  rk_launch_options_t options = options_for("emits", mode);
  rk_kernel_t kernel;
  rk_message_t out;
  program.name = "emits";
  program.on_message = on_echo;
  program.on_start = start_and_emit;
  program.on_stop = stop_and_emit;
  OK(rk_program_register(runtime, &program));
  OK(rk_launch(runtime, "k", &options, &kernel));
  OK(rk_receive(kernel, &out, RK_FOREVER));
  CHECK(out.payload_size == 5 && memcmp(out.payload, "start", 5) == 0 && out.source == kernel.id);
  OK(rk_release(&out));
  CHECK(works(kernel));
  OK(rk_terminate(kernel, RK_FOREVER));
  OK(rk_receive(kernel, &out, 0));
  CHECK(out.payload_size == 4 && memcmp(out.payload, "stop", 4) == 0);
  OK(rk_release(&out));
  CHECK(got_in_start[0] != RK_OK && got_in_stop[0] != RK_OK && got_in_stop[1] == RK_OK);
  CHECK_STATUS(got_in_start[1], RK_ERR_NO_ROUTE);
  OK(rk_runtime_destroy(runtime));
}

static volatile int knocking;

/* Sends on as long as it is told to, also when there is no room. */
static rk_status_t on_knock(rk_context_t *ctx, const rk_message_t *message) {
  while (knocking) {
    rk_status_t status = rk_context_send(ctx, 0, message);
    if (status != RK_OK && status != RK_ERR_FULL) return status;
  }
  return RK_OK;
}

static void what_finds_no_room_is_not_counted_and_counters_never_fall(void) {
  rk_runtime_t *runtime = make_runtime(2);
  rk_message_t message = check_message("m", 1);
  rk_kernel_t from, to;
  uint64_t last = 0, sent = 0, until = check_now() + MS(200);
  uint32_t route;
  OK(add_program(runtime, "knock", on_knock, 0, NULL));
  from = launched(runtime, "from", "knock", mode, 0);
  to = launched(runtime, "to", "sink", mode, RK_LAUNCH_SUSPENDED);
  OK(rk_connect(from, to, &route));
  OK(rk_send(to, &message, 0));
  knocking = 1;
  OK(rk_send(from, &message, 0));
  while (check_now() < until) {
    rk_kernel_metrics_t metrics = RK_KERNEL_METRICS_INIT;
    OK(rk_kernel_metrics(to, &metrics));
    CHECK(metrics.messages_from_kernels >= last && metrics.messages_sent >= sent);
    CHECK(metrics.backend == RK_BACKEND_CUDA || metrics.messages_from_kernels + metrics.messages_sent <= metrics.input_queue_depth);
    last = metrics.messages_from_kernels;
    sent = metrics.messages_sent;
  }
  knocking = 0;
  UNTIL(metrics_of(from).messages_processed == 1);
  UNTIL(metrics_of(from).messages_to_kernels == metrics_of(to).messages_from_kernels);
  last = metrics_of(to).messages_from_kernels;
  CHECK(sent == 1 && last > 0);
  /* On a device, what kernels send one another waits in a ring that the host does not see. */
  CHECK(backend_of(runtime) == RK_BACKEND_CUDA || metrics_of(to).input_queue_depth == last + 1);
  OK(rk_runtime_destroy(runtime));
}

int main(int argc, char **argv) {
  fixture_unused();
  for (mode = RK_MODE_PERSISTENT; mode <= RK_MODE_EVENT_DRIVEN; mode++) {
    printf("mode %u\n", mode);
    RUN(a_message_carries_its_words_and_its_source_over_a_route_of_any_modes);
    RUN(what_is_out_only_is_not_believed);
    RUN(a_route_refuses_what_its_target_cannot_take);
    RUN(kernels_that_have_ended_are_not_connected);
    RUN(what_a_kernel_sent_dies_with_its_source_and_its_reason);
    RUN(a_reply_to_a_kernel_that_has_ended_is_a_dead_letter);
    RUN(a_full_route_to_oneself_says_so_and_goes_on);
    RUN(a_full_target_holds_up_no_other);
    RUN(sixty_five_thousand_routes_live);
    RUN(starts_and_stops_may_emit_and_have_nothing_to_answer);
    RUN(what_finds_no_room_is_not_counted_and_counters_never_fall);
  }
  return check_result();
}
