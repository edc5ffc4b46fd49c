/* libuv: kernels in a libuv loop, beside a timer of its own. Each tick calls a kernel and goes on; the replies come through
 * a uv_poll_t on the descriptor of rk_event_fd. When the last one is there, both handles are closed and the loop ends.
 *
 *   cc -std=c99 libuv.c $(pkg-config --cflags --libs ringkernel libuv) -o libuv && ./libuv
 */
#define _POSIX_C_SOURCE 200809L
#include <ringkernel.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <uv.h>

enum { TICKS = 30, BATCH = 8 };

/* What both callbacks work on; each handle points to it. */
typedef struct app {
  rk_runtime_t *runtime;
  rk_kernel_t kernel;
  uv_timer_t timer;
  uv_poll_t events;
  int ticks, replies;
  uint64_t sum;
} app;

static void must(rk_status_t status) {
  char why[256];
  rk_last_error(why, sizeof why);
  if (status != RK_OK) exit(fprintf(stderr, "libuv: %s\n", why) > 0);
}

static void must_uv(int status) {
  if (status < 0) exit(fprintf(stderr, "libuv: %s\n", uv_strerror(status)) > 0);
}

static rk_status_t on_message(rk_context_t *ctx, const rk_message_t *message) {
  rk_message_t reply = *message;
  uint64_t number = *(const uint64_t *)message->payload, square = number * number;
  reply.payload = &square;
  return rk_context_reply(ctx, &reply);
}

static void on_tick(uv_timer_t *timer) {
  app *self = (app *)timer->data;
  uint64_t number = (uint64_t)++self->ticks;
  rk_message_t request = {0};
  rk_op_t op;
  request.payload = &number, request.payload_size = sizeof number;
  must(rk_call_async(self->kernel, &request, RK_FOREVER, number, &op)); /* copied: `number` may go */
  if (self->ticks == TICKS) uv_close((uv_handle_t *)timer, NULL);
}

static void on_reply(app *self, rk_event_t *event) {
  uint64_t square;
  if (event->kind != RK_EVENT_REPLY) return;
  if (event->status != RK_OK) exit(fprintf(stderr, "libuv: %s\n", rk_status_name(event->status)) > 0);
  square = *(const uint64_t *)event->message.payload;
  if (square != event->user_data * event->user_data) exit(fprintf(stderr, "libuv: a wrong answer\n") > 0);
  self->replies++, self->sum += square;
  must(rk_release(&event->message));
}

static void on_events(uv_poll_t *events, int status, int ready) {
  app *self = (app *)events->data;
  rk_event_t batch[BATCH];
  size_t count = 0, i;
  must_uv(status);
  if (ready & UV_READABLE) rk_poll(self->runtime, batch, BATCH, 0, &count); /* more: the loop comes again */
  for (i = 0; i < count; i++) on_reply(self, &batch[i]);
  if (self->replies == TICKS) uv_close((uv_handle_t *)events, NULL);
}

int main(void) {
  uv_loop_t *loop = uv_default_loop();
  rk_program_t program = RK_PROGRAM_INIT;
  app self;
  int fd;
  memset(&self, 0, sizeof self);
  must(rk_runtime_create(NULL, &self.runtime));
  program.name = "square", program.on_message = on_message;
  must(rk_program_register(self.runtime, &program));
  must(rk_launch(self.runtime, "square", NULL, &self.kernel));
  must(rk_event_fd(self.runtime, &fd));
  must_uv(uv_timer_init(loop, &self.timer));
  must_uv(uv_poll_init(loop, &self.events, fd));
  self.timer.data = self.events.data = &self;
  must_uv(uv_timer_start(&self.timer, on_tick, 2, 2)); /* ms */
  must_uv(uv_poll_start(&self.events, UV_READABLE, on_events));
  must_uv(uv_run(loop, UV_RUN_DEFAULT)); /* until both handles are closed */
  printf("%d ticks: %d replies, sum of squares %d\n", self.ticks, self.replies, (int)self.sum);
  must(rk_runtime_destroy(self.runtime)); /* after the loop has let its descriptor go */
  return uv_loop_close(loop);
}
