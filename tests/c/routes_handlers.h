/* Handlers of cuda_routes.c, in the common subset of C and CUDA C++, as in one_handlers.h. Thread 0 of the block does it all. */
#include <ringkernel.h>
#include <string.h>

/* What became of the messages that a handler has sent on; `beside`: those that were taken by other routes than 0, where that matters. */
typedef struct routes_said_t {
  uint64_t sent, full, missing, other, beside;
} routes_said_t;

/* What a target knows of itself and of what came from kernels. */
typedef struct routes_state_t {
  uint64_t index, targets, right, wrong;
} routes_state_t;

static void routes_note(routes_said_t *said, rk_status_t status) {
  if (status == RK_OK) {
    said->sent++;
  } else if (status == RK_ERR_FULL) {
    said->full++;
  } else if (status == RK_ERR_NO_ROUTE) {
    said->missing++;
  } else {
    said->other++;
  }
}

static rk_status_t routes_reply(rk_context_t *ctx, const routes_said_t *said) {
  rk_message_t reply;
  memset(&reply, 0, sizeof reply);
  reply.payload = said;
  reply.payload_size = sizeof *said;
  return rk_context_reply(ctx, &reply);
}

/* Replies with what came. */
static rk_status_t routes_echo(rk_context_t *ctx, const rk_message_t *message) { return rk_context_reply(ctx, message); }

/* To the host, as it came. */
static rk_status_t routes_emit(rk_context_t *ctx, const rk_message_t *message) { return rk_context_emit(ctx, message); }

/* On by the route in `type`; replies with what became of it. */
static rk_status_t routes_by_number(rk_context_t *ctx, const rk_message_t *message) {
  rk_message_t next = *message;
  if (rk_context_thread(ctx) != 0) return RK_OK;
  next.block = 0;
  next.type = (uint32_t)-rk_context_send(ctx, message->type, &next);
  return rk_context_reply(ctx, &next);
}

/* To `type` routes, from the one in the correlation on, each a message with its number. */
static rk_status_t routes_walk(rk_context_t *ctx, const rk_message_t *message) {
  routes_said_t said;
  rk_message_t next = *message;
  uint64_t number = message->correlation, end = message->correlation + message->type;
  if (rk_context_thread(ctx) != 0) return RK_OK;
  memset(&said, 0, sizeof said);
  next.payload = &number;
  next.payload_size = sizeof number;
  next.block = 0;
  for (; number < end; number++) {
    next.type = (uint32_t)number;
    routes_note(&said, rk_context_send(ctx, (uint32_t)number, &next));
  }
  return routes_reply(ctx, &said);
}

/* Of the walk's messages: is it one for this target? From the host: which target this is, if there is a type; replies with the state. */
static rk_status_t routes_count(rk_context_t *ctx, const rk_message_t *message) {
  routes_state_t *state = (routes_state_t *)rk_context_state(ctx);
  rk_message_t reply;
  if (rk_context_thread(ctx) != 0) return RK_OK;
  if (message->source != 0) {
    uint64_t number = ~(uint64_t)0;
    if (message->payload_size == sizeof number) number = *(const uint64_t *)message->payload;
    if (number == message->type && number % state->targets == state->index) {
      state->right++;
    } else {
      state->wrong++;
    }
    return RK_OK;
  }
  if (message->type != 0) {
    state->index = message->correlation;
    state->targets = message->type;
  }
  memset(&reply, 0, sizeof reply);
  reply.payload = state;
  reply.payload_size = sizeof *state;
  return rk_context_reply(ctx, &reply);
}

/* To route 0, numbered, until that is refused; then one message to each of the `type` routes after it. */
static rk_status_t routes_fill(rk_context_t *ctx, const rk_message_t *message) {
  routes_said_t said;
  rk_message_t next = *message;
  uint32_t route;
  rk_status_t status;
  if (rk_context_thread(ctx) != 0) return RK_OK;
  memset(&said, 0, sizeof said);
  next.block = 0;
  do {
    next.correlation = message->correlation + said.sent;
    status = rk_context_send(ctx, 0, &next);
    routes_note(&said, status);
  } while (status == RK_OK && said.sent < 1000);
  for (route = 1; route <= message->type; route++) {
    next.correlation = message->correlation;
    if (rk_context_send(ctx, route, &next) == RK_OK) said.beside++;
  }
  return routes_reply(ctx, &said);
}

/* `type` messages to route 0, numbered, each again and again until it is taken, for 5 s at most. */
static rk_status_t routes_press(rk_context_t *ctx, const rk_message_t *message) {
  uint64_t begun = rk_context_now(ctx).physical_ns;
  routes_said_t said;
  rk_message_t next = *message;
  if (rk_context_thread(ctx) != 0) return RK_OK;
  memset(&said, 0, sizeof said);
  next.block = 0;
  while (said.sent < message->type && said.missing == 0 && said.other == 0) {
    next.correlation = said.sent + 1;
    routes_note(&said, rk_context_send(ctx, 0, &next));
    if (rk_context_now(ctx).physical_ns - begun > 5000000000u || rk_context_stopping(ctx)) break;
  }
  return routes_reply(ctx, &said);
}
