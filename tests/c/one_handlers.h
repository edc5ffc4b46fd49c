/* Handlers of one_conformance.c, in the common subset of C and CUDA C++: compiled into the program for the CPU, and
 * handed as text to the library for the GPU. Thread 0 of the block keeps the state. */
#include <ringkernel.h>
#include <string.h>

typedef struct one_state_t {
  uint64_t count, sum, block;
  uint64_t last_physical, last_logical;
} one_state_t;

static rk_status_t one_echo(rk_context_t *ctx, const rk_message_t *message) { return rk_context_reply(ctx, message); }

static rk_status_t one_sink(rk_context_t *ctx, const rk_message_t *message) {
  (void)ctx;
  (void)message;
  return RK_OK;
}

/* Replies with its count and block. */
static rk_status_t one_count(rk_context_t *ctx, const rk_message_t *message) {
  one_state_t *state = (one_state_t *)rk_context_state(ctx);
  rk_message_t reply;
  if (rk_context_thread(ctx) != 0) return RK_OK;
  memset(&reply, 0, sizeof reply);
  state->count++;
  state->block = rk_context_block(ctx);
  reply.payload = state;
  reply.payload_size = sizeof *state;
  reply.type = message->type;
  return rk_context_reply(ctx, &reply);
}

/* Returns what `type` says. */
static rk_status_t one_status(rk_context_t *ctx, const rk_message_t *message) {
  if (message->type == 0) return rk_context_reply(ctx, message);
  return (rk_status_t)message->type;
}

/* Counts, and fails its block over a message with a correlation; replies with its count. */
static rk_status_t one_mortal(rk_context_t *ctx, const rk_message_t *message) {
  one_state_t *state = (one_state_t *)rk_context_state(ctx);
  rk_message_t reply;
  if (message->correlation != 0) {
    state->sum = 77; /* what a restart has to clear */
    return RK_ERR_KERNEL_FAILED;
  }
  if (rk_context_thread(ctx) != 0) return RK_OK;
  memset(&reply, 0, sizeof reply);
  state->count++;
  reply.payload = state;
  reply.payload_size = sizeof *state;
  return rk_context_reply(ctx, &reply);
}

/* Works for `type` microseconds, and leaves when it is to stop if there is a correlation. */
static rk_status_t one_work(rk_context_t *ctx, const rk_message_t *message) {
  uint64_t start = rk_context_now(ctx).physical_ns;
  while (rk_context_now(ctx).physical_ns - start < (uint64_t)message->type * 1000u) {
    if (message->correlation != 0 && rk_context_stopping(ctx)) return 77;
  }
  rk_context_sync(ctx);
  return rk_context_reply(ctx, message);
}

/* Emits the message `type` times, numbered. */
static rk_status_t one_emit(rk_context_t *ctx, const rk_message_t *message) {
  uint32_t i;
  if (rk_context_thread(ctx) != 0) return RK_OK;
  for (i = 0; i < message->type; i++) {
    rk_message_t copy = *message;
    copy.type = i;
    copy.correlation = message->correlation + i;
    if (rk_context_emit(ctx, &copy) != RK_OK) return 5;
  }
  return RK_OK;
}

/* From the host: on by the route in `type`; to the host if that fails, with the status as its type. From a kernel: to the
 * host. */
static rk_status_t one_relay(rk_context_t *ctx, const rk_message_t *message) {
  rk_message_t next = *message;
  rk_status_t sent;
  if (rk_context_thread(ctx) != 0) return RK_OK;
  if (message->source != 0) return rk_context_emit(ctx, message);
  next.block = (uint32_t)message->correlation % 3;
  if (next.block == 2) next.block = RK_ANY_BLOCK;
  sent = rk_context_send(ctx, message->type, &next);
  if (sent == RK_OK) return RK_OK;
  next.type = (uint32_t)-sent;
  return rk_context_emit(ctx, &next);
}

/* From the host, `type` times: to route 0, to route 1, to the host, numbered by the correlation. From a kernel, a question: an
 * answer to it, then the question's time to the host; an answer: its time to the host. Questions have no type. */
static rk_status_t one_times(rk_context_t *ctx, const rk_message_t *message) {
  rk_message_t next = *message;
  rk_timestamp_t time = message->timestamp;
  uint32_t i;
  if (rk_context_thread(ctx) != 0) return RK_OK;
  next.type = 0;
  next.block = 0;
  for (i = 0; message->source == 0 && i < message->type; i++) {
    next.correlation = 3 * i;
    if (rk_context_send(ctx, 0, &next) != RK_OK) return 5;
    next.correlation = 3 * i + 1;
    if (rk_context_send(ctx, 1, &next) != RK_OK) return 6;
    next.correlation = 3 * i + 2;
    if (rk_context_emit(ctx, &next) != RK_OK) return 7;
  }
  if (message->source == 0) return RK_OK;
  next.payload = &time;
  next.payload_size = sizeof time;
  next.type = message->type;
  if (message->type == 0) {
    next.type = 1;
    if (rk_context_reply(ctx, &next) != RK_OK) return 8;
    next.type = 0;
  }
  return rk_context_emit(ctx, &next);
}

/* From the host: asks the kernel on route 0. From a kernel: an answer goes to the host, a question back to its sender. */
static rk_status_t one_ask(rk_context_t *ctx, const rk_message_t *message) {
  rk_message_t next = *message;
  if (rk_context_thread(ctx) != 0) return RK_OK;
  if (message->source == 0) {
    next.type = 1;
    next.block = 0;
    return rk_context_send(ctx, 0, &next);
  }
  if (message->type == 1) {
    next.type = 2;
    next.block = 0;
    return rk_context_reply(ctx, &next);
  }
  return rk_context_emit(ctx, message);
}

/* Sends what it got to where route 0 leads, for ever if that is itself. */
static rk_status_t one_again(rk_context_t *ctx, const rk_message_t *message) {
  rk_message_t next = *message;
  next.block = 0;
  return rk_context_send(ctx, 0, &next);
}

/* Adds up the bytes of the payload, all threads together. */
static rk_status_t one_sum(rk_context_t *ctx, const rk_message_t *message) {
  uint64_t *parts = (uint64_t *)rk_context_shared(ctx);
  const unsigned char *bytes = (const unsigned char *)message->payload;
  uint32_t me = rk_context_thread(ctx), threads = rk_context_thread_count(ctx), i;
  uint64_t at, sum = 0;
  rk_status_t status = RK_OK;
  for (at = me; at < message->payload_size; at += threads) sum += bytes[at];
  parts[me] = sum;
  rk_context_sync(ctx);
  if (me == 0) {
    rk_message_t reply;
    memset(&reply, 0, sizeof reply);
    for (i = 1; i < threads; i++) sum += parts[i];
    reply.payload = &sum;
    reply.payload_size = sizeof sum;
    status = rk_context_reply(ctx, &reply);
  }
  rk_context_sync(ctx);
  return status;
}

/* Crosses the barrier of the grid `type` times; replies with how often that worked. */
static rk_status_t one_barrier(rk_context_t *ctx, const rk_message_t *message) {
  uint32_t passed = 0, i;
  rk_message_t reply;
  for (i = 0; i < message->type; i++) {
    if (!rk_context_grid_sync(ctx)) break;
    passed++;
  }
  if (rk_context_thread(ctx) != 0) return RK_OK;
  memset(&reply, 0, sizeof reply);
  reply.type = passed;
  reply.correlation = message->correlation;
  return rk_context_emit(ctx, &reply);
}

/* What a second answer, a message too large and a bad route are told. */
static rk_status_t one_rules(rk_context_t *ctx, const rk_message_t *message) {
  int32_t got[6];
  rk_message_t large = *message, reply;
  if (rk_context_thread(ctx) != 0) return RK_OK;
  large.payload_size = 1u << 20;
  got[0] = rk_context_emit(ctx, &large);
  got[1] = rk_context_send(ctx, 0, message);
  got[2] = rk_context_send(ctx, 4000000000u, message);
  got[3] = rk_context_reply(ctx, &large);
  large.payload = NULL;
  large.payload_size = 1;
  got[4] = rk_context_emit(ctx, &large);
  got[5] = (int32_t)(rk_context_block_count(ctx) + 100 * rk_context_block(ctx));
  memset(&reply, 0, sizeof reply);
  reply.payload = got;
  reply.payload_size = sizeof got;
  if (rk_context_reply(ctx, &reply) != RK_OK) return 1;
  return rk_context_reply(ctx, &reply) == RK_ERR_INVALID_STATE ? RK_OK : 2;
}
