/* lesson 10: counters against a model that counts along, over a long walk of random operations. */
#include "fixture.h"

static uint32_t mode, flags;
static rk_runtime_t *runtime;

enum { SILENT, EMIT, EMIT_THREE, REPLY, FAIL, KINDS };
enum { KERNELS = 2, VIEWS = 8 };

/* What was done, as the program that did it counts it. */
typedef struct model_t {
  rk_kernel_t kernel;
  uint64_t sent, received, processed, failed, dead, output, deepest;
  rk_message_t views[VIEWS];
  int open;
} model_t;

static model_t models[KERNELS];

/* Does what the message's type says. */
static rk_status_t on_kind(rk_context_t *ctx, const rk_message_t *message) {
  int i;
  switch (message->type) {
    case EMIT: return rk_context_emit(ctx, message);
    case REPLY: return rk_context_reply(ctx, message);
    case FAIL: return 5;
    case EMIT_THREE:
      for (i = 0; i < 3; i++) {
        if (rk_context_emit(ctx, message) != RK_OK) return 99;
      }
  }
  return RK_OK;
}

static uint32_t next_random(void) {
  static uint64_t state = 88172645463325252u;
  state ^= state << 13, state ^= state >> 7, state ^= state << 17;
  return (uint32_t)(state >> 20);
}

static void handled(model_t *model, uint32_t kind) {
  model->sent++;
  if (kind == FAIL) model->failed++, model->dead++;
  else model->processed++;
  if (kind == EMIT || kind == REPLY) model->output++;
  if (kind == EMIT_THREE) model->output += 3;
}

static void send_some(model_t *model) {
  rk_message_t batch[6];
  rk_loan_t loan;
  uint32_t i, count = 1 + next_random() % 6;
  size_t sent = 0;
  for (i = 0; i < 6; i++) {
    batch[i] = check_message("12345678", next_random() % 9);
    batch[i].type = next_random() % KINDS;
    batch[i].block = next_random() % 3 == 2 ? RK_ANY_BLOCK : next_random() % 2;
  }
  switch (next_random() % 4) {
    case 0:
      OK(rk_send(model->kernel, &batch[0], 0));
      handled(model, batch[0].type);
      break;
    case 1:
      OK(rk_send_batch(model->kernel, batch, count, 0, &sent));
      CHECK(sent == count);
      for (i = 0; i < count; i++) handled(model, batch[i].type);
      break;
    case 2:
      OK(rk_reserve(model->kernel, batch[0].block, 8, 0, &loan));
      OK(rk_commit(&loan, &batch[0], 8));
      handled(model, batch[0].type);
      break;
    default:
      OK(rk_reserve(model->kernel, batch[0].block, 8, 0, &loan));
      OK(rk_abort(&loan)); /* counts nowhere */
  }
}

static void call_it(model_t *model) {
  rk_message_t reply, request = check_message("call", 4);
  request.block = RK_ANY_BLOCK;
  request.type = next_random() % 2 ? REPLY : FAIL;
  model->sent++;
  if (request.type == FAIL) {
    CHECK_STATUS(rk_call(model->kernel, &request, &reply, RK_FOREVER), 5);
    model->failed++, model->dead++;
    return;
  }
  OK(rk_call(model->kernel, &request, &reply, RK_FOREVER));
  model->processed++;
  model->received++;
  OK(rk_release(&reply));
}

static void send_too_late(model_t *model) {
  rk_message_t message = check_message("late", 4);
  message.deadline_ns = 1;
  OK(rk_send(model->kernel, &message, 0));
  model->sent++;
  model->dead++; /* neither processed nor failed */
}

static void take_some(model_t *model) {
  size_t count = 0, i;
  size_t room = (size_t)(VIEWS - model->open);
  if (room == 0 || model->output == 0) return;
  OK(rk_receive_batch(model->kernel, model->views + model->open, room, 0, &count));
  CHECK(count == (model->output < room ? model->output : room));
  model->open += (int)count;
  model->received += count;
  model->output -= count;
  for (i = next_random() % 4; i > 0 && model->open > 0; i--) OK(rk_release(&model->views[--model->open]));
}

/* What fails counts nowhere. */
static void fail_at_something(model_t *model) {
  static char bytes[300];
  rk_message_t out, large = check_message(bytes, 300);
  rk_loan_t loan;
  size_t sent;
  CHECK_STATUS(rk_send(model->kernel, &large, 0), RK_ERR_TOO_LARGE);
  CHECK_STATUS(rk_send_batch(model->kernel, &large, 1, 0, &sent), RK_ERR_TOO_LARGE);
  CHECK_STATUS(rk_reserve(model->kernel, 0, 300, 0, &loan), RK_ERR_TOO_LARGE);
  CHECK_STATUS(rk_call(model->kernel, &large, &out, 0), RK_ERR_TOO_LARGE);
  CHECK_STATUS(rk_send(model->kernel, NULL, 0), RK_ERR_INVALID_ARGUMENT);
}

static void queue_while_paused(model_t *model) {
  rk_message_t message = check_message("wait", 4);
  rk_kernel_status_t status = RK_KERNEL_STATUS_INIT;
  uint64_t i, count = 1 + next_random() % 20;
  OK(rk_deactivate(model->kernel));
  for (i = 0; i < count; i++) OK(rk_send(model->kernel, &message, 0)); /* all to block 0 */
  CHECK(metrics_of(model->kernel).input_queue_depth == count);
  OK(rk_kernel_status(model->kernel, &status));
  CHECK(status.input_queue_depth == count && status.output_queue_depth == model->output);
  CHECK(status.messages_processed == model->processed && status.state == RK_STATE_DEACTIVATED);
  OK(rk_activate(model->kernel));
  model->sent += count;
  model->processed += count;
  if (count > model->deepest) model->deepest = count;
}

/* Counters of handlers come a moment after what they count. */
static rk_kernel_metrics_t settled(const model_t *model) {
  rk_kernel_metrics_t metrics;
  int tries;
  for (tries = 0; tries < 5000; tries++) {
    metrics = metrics_of(model->kernel);
    if (metrics.messages_processed + metrics.dead_letters >= model->processed + model->dead &&
        metrics.messages_failed >= model->failed && metrics.output_queue_depth >= model->output &&
        metrics.input_queue_depth == 0) {
      break;
    }
    if (tries < 50) sched_yield();
    else check_sleep_ms(1);
  }
  return metrics;
}

static void compare(model_t *model) {
  rk_kernel_metrics_t metrics = settled(model);
  CHECK(metrics.messages_sent == model->sent && metrics.messages_received == model->received);
  CHECK(metrics.messages_processed == model->processed && metrics.messages_failed == model->failed);
  CHECK(metrics.dead_letters == model->dead && metrics.output_queue_depth == model->output);
  CHECK(metrics.input_queue_depth == 0 && metrics.open_leases == (uint64_t)model->open);
  CHECK(metrics.input_queue_depth_max >= model->deepest && metrics.input_queue_depth_max <= 64);
  CHECK(model->open != 0 || metrics.oldest_lease_ns == 0);
  CHECK(metrics.messages_from_kernels == 0 && metrics.messages_to_kernels == 0 && metrics.replies_late == 0);
  CHECK(metrics.state == RK_STATE_ACTIVE && metrics.backend == backend_of(runtime) &&
        metrics.gpu_launched == (backend_of(runtime) == RK_BACKEND_CUDA && mode == RK_MODE_PERSISTENT));
  CHECK(metrics.restarts == 0 && (metrics.gpu_memory_used_bytes == 0) == (metrics.backend == RK_BACKEND_CPU) && metrics.host_memory_used_bytes > 0);
  CHECK((metrics.backend == RK_BACKEND_CUDA) >= (metrics.bytes_to_device + metrics.bytes_from_device != 0));
  CHECK(metrics.last_error == (model->failed != 0 ? 5 : 0));
}

static void compare_totals(uint64_t live) {
  rk_runtime_metrics_t totals = RK_RUNTIME_METRICS_INIT;
  uint64_t sent = 0, received = 0, processed = 0, failed = 0, dead = 0;
  int k;
  for (k = 0; k < KERNELS; k++) {
    sent += models[k].sent, received += models[k].received, processed += models[k].processed;
    failed += models[k].failed, dead += models[k].dead;
  }
  OK(rk_metrics(runtime, &totals));
  CHECK(totals.messages_sent == sent && totals.messages_received == received);
  CHECK(totals.messages_processed == processed && totals.messages_failed == failed);
  CHECK(totals.dead_letters == dead && totals.dead_letters_dropped == 0 && totals.restarts == 0);
  CHECK(totals.active_kernels == live && totals.total_launched == KERNELS && totals.uptime_ns > 0);
}

static void lesson_10_counters_agree_with_a_model_over_a_random_walk(void) {
  int i, k, steps = check_slow() ? 400 : 20000;
  uint64_t letters = 0;
  rk_dead_letter_t letter;
  memset(models, 0, sizeof models);
  runtime = make_runtime(2);
  OK(add_program(runtime, "kinds", on_kind, 0, NULL));
  for (k = 0; k < KERNELS; k++) {
    rk_launch_options_t options = options_for("kinds", mode);
    options.grid_size = 2;
    options.flags = flags;
    options.input_queue_capacity = 64;
    OK(rk_launch(runtime, k ? "b" : "a", &options, &models[k].kernel));
  }
  for (i = 0; i < steps && !check_bad; i++) {
    model_t *model = &models[next_random() % KERNELS];
    switch (next_random() % 8) {
      case 0: call_it(model); break;
      case 1: send_too_late(model); break;
      case 2: fail_at_something(model); break;
      case 3: queue_while_paused(model); break;
      case 4: take_some(model); break;
      default: send_some(model);
    }
    if (check_bad) return;
    compare(model);
    while (model->output > 200 && !check_bad) {
      while (model->open > 0) OK(rk_release(&model->views[--model->open]));
      take_some(model);
    }
    if (i % 100 == 0 && !check_bad) compare_totals(KERNELS);
    while (rk_receive_dead_letter(runtime, &letter, 0) == RK_OK) {
      letters++;
      CHECK(letter.reason == (letter.message.deadline_ns ? RK_DEAD_EXPIRED : RK_DEAD_HANDLER));
      OK(rk_release(&letter.message));
    }
  }
  CHECK(letters == models[0].dead + models[1].dead && letters > 0);
  for (k = 0; k < KERNELS; k++) {
    while (models[k].open > 0) OK(rk_release(&models[k].views[--models[k].open]));
    compare(&models[k]);
    if (check_bad) return;
    OK(rk_terminate(models[k].kernel, RK_FOREVER));
  }
  compare_totals(0);
  OK(rk_destroy(models[0].kernel));
  compare_totals(0); /* what is gone stays counted */
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
    RUN(lesson_10_counters_agree_with_a_model_over_a_random_walk);
  }
  return check_result();
}
