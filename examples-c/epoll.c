/* epoll: an ordinary event loop that waits for a timer and for kernels at once. Each tick of the timer calls one kernel
 * without waiting and sends it a message; replies, output and states come through the one descriptor of rk_event_fd.
 *
 *   cc -std=c99 epoll.c $(pkg-config --cflags --libs ringkernel) -o epoll && ./epoll
 */
#define _POSIX_C_SOURCE 200809L
#include <ringkernel.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/timerfd.h>
#include <unistd.h>

enum { KERNELS = 3, TICKS = 30, BATCH = 8 };
static rk_kernel_t kernels[KERNELS];
static int ticks, replies, outputs, ends, last_states;
static uint64_t sum;

static void must(rk_status_t status) {
  char why[256];
  rk_last_error(why, sizeof why);
  if (status != RK_OK) exit(fprintf(stderr, "epoll: %s\n", why) > 0);
}

static rk_status_t on_message(rk_context_t *ctx, const rk_message_t *message) {
  uint64_t number = *(const uint64_t *)message->payload, square = number * number;
  rk_message_t reply = *message;
  if (message->type != 1) return rk_context_emit(ctx, message); /* for whoever receives */
  reply.payload = &square;
  return rk_context_reply(ctx, &reply);
}

static void on_tick(void) {
  rk_kernel_t kernel = kernels[ticks % KERNELS];
  uint64_t number = (uint64_t)++ticks;
  rk_message_t message = {0};
  rk_op_t op;
  message.payload = &number, message.payload_size = sizeof number;
  must(rk_send(kernel, &message, 0));
  message.type = 1;
  must(rk_call_async(kernel, &message, RK_FOREVER, number, &op)); /* copied: `number` may go */
  if (ticks > TICKS - KERNELS) must(rk_terminate_async(kernel, RK_FOREVER, 0, &op)); /* its last tick: it drains and ends */
}

static void on_readable(rk_kernel_t kernel) {
  rk_message_t messages[BATCH];
  size_t count; /* until the queue was found empty: the next event of this kind comes after that */
  for (; rk_receive_batch(kernel, messages, BATCH, 0, &count) == RK_OK; outputs += (int)count)
    must(rk_release_batch(messages, count));
}

static void on_event(rk_event_t *event) {
  if (event->status != RK_OK) exit(fprintf(stderr, "epoll: %s\n", rk_status_name(event->status)) > 0);
  if (event->kind == RK_EVENT_REPLY) {
    uint64_t square = *(const uint64_t *)event->message.payload;
    if (square != event->user_data * event->user_data) exit(fprintf(stderr, "epoll: a wrong answer\n") > 0);
    replies++, sum += square;
    must(rk_release(&event->message));
  } else if (event->kind == RK_EVENT_READABLE) on_readable(event->kernel);
  else if (event->kind == RK_EVENT_STATE) last_states += event->state == RK_STATE_TERMINATED;
  else if (event->kind == RK_EVENT_TERMINATED) ends++;
}

static int add(int loop, int fd) {
  struct epoll_event event = {EPOLLIN, {0}};
  return event.data.fd = fd, epoll_ctl(loop, EPOLL_CTL_ADD, fd, &event) == 0;
}

int main(void) {
  static const char *const ids[KERNELS] = {"worker-0", "worker-1", "worker-2"};
  struct itimerspec every = {{0, 2000000}, {0, 2000000}}; /* 2 ms */
  struct epoll_event ready;
  rk_program_t program = RK_PROGRAM_INIT;
  rk_runtime_t *runtime;
  rk_event_t batch[BATCH];
  uint64_t expired; /* how often, since the last look */
  size_t count;
  int loop = epoll_create1(0), timer = timerfd_create(CLOCK_MONOTONIC, 0), events, i;
  must(rk_runtime_create(NULL, &runtime));
  must(rk_event_fd(runtime, &events));
  for (i = 0; i < KERNELS; i++) {
    program.name = ids[i], program.on_message = on_message;
    must(rk_program_register(runtime, &program));
    must(rk_launch(runtime, ids[i], NULL, &kernels[i])); /* its id names the program */
    must(rk_watch(kernels[i], RK_WATCH_READABLE | RK_WATCH_STATE, 0));
  }
  if (!add(loop, events) || !add(loop, timer) || timerfd_settime(timer, 0, &every, NULL) != 0) return perror("epoll"), 1;
  while (replies < TICKS || outputs < TICKS || ends < KERNELS || last_states < KERNELS) {
    if (count = 0, epoll_wait(loop, &ready, 1, -1) != 1) continue; /* a signal */
    if (ready.data.fd == timer && read(timer, &expired, sizeof expired) > 0 && ticks < TICKS) on_tick();
    if (ready.data.fd == events) rk_poll(runtime, batch, BATCH, 0, &count); /* what is left makes it readable again */
    for (i = 0; i < (int)count; i++) on_event(&batch[i]);
  }
  printf("%d ticks: %d replies, sum of squares %d, %d messages, %d kernels ended\n", ticks, replies, (int)sum, outputs, ends);
  must(rk_runtime_destroy(runtime)); /* closes its descriptor */
  return close(timer) | close(loop);
}
