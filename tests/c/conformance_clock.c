/* RK_LAUNCH_TIMESTAMPS: every message has a time; times of a kernel differ and increase; what follows from a message is later; a time far
 * ahead of the wall clock is not followed. The wall clock is this program's. */
#ifndef _DEFAULT_SOURCE
#define _DEFAULT_SOURCE 1 /* syscall */
#endif
#include "fixture.h"
#include <sys/syscall.h>

enum { BLOCKS = 4, SENDERS = 3 };

static uint32_t mode;

/* What the wall clock is ahead of the system's, nanoseconds. */
static int64_t wall_ahead;

#ifdef __cplusplus
extern "C" int clock_gettime(clockid_t clock, struct timespec *time) noexcept {
#else
int clock_gettime(clockid_t clock, struct timespec *time) {
#endif
  int64_t ahead = __atomic_load_n(&wall_ahead, __ATOMIC_SEQ_CST), ns;
  long result = syscall(SYS_clock_gettime, clock, time);
  if (result == 0 && ahead != 0 && (clock == CLOCK_REALTIME || clock == 5 /* CLOCK_REALTIME_COARSE */)) {
    ns = (int64_t)time->tv_nsec + ahead % 1000000000;
    time->tv_sec += (time_t)(ahead / 1000000000);
    if (ns < 0) {
      ns += 1000000000;
      time->tv_sec--;
    }
    if (ns >= 1000000000) {
      ns -= 1000000000;
      time->tv_sec++;
    }
    time->tv_nsec = (long)ns;
  }
  return (int)result;
}

static void set_wall(int64_t ahead) { __atomic_store_n(&wall_ahead, ahead, __ATOMIC_SEQ_CST); }

static uint64_t wall_now(void) {
  struct timespec now;
  clock_gettime(CLOCK_REALTIME, &now);
  return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static int order(rk_timestamp_t a, rk_timestamp_t b) {
  if (a.physical_ns != b.physical_ns) return a.physical_ns < b.physical_ns ? -1 : 1;
  if (a.logical != b.logical) return a.logical < b.logical ? -1 : 1;
  return 0;
}
static int is_later(rk_timestamp_t a, rk_timestamp_t b) { return order(a, b) > 0; }
static int is_stamped(rk_timestamp_t t) { return t.physical_ns != 0; }

/* What handlers saw and said. */
typedef struct seen_t {
  rk_timestamp_t message, now;
} seen_t;

/* Replies (and emits, if `type` says so) the message's time and one of its own. */
static rk_status_t on_seen(rk_context_t *ctx, const rk_message_t *message) {
  seen_t seen;
  rk_message_t out;
  uint32_t i;
  seen.message = message->timestamp;
  seen.now = rk_context_now(ctx);
  out = check_message(&seen, sizeof seen);
  out.correlation = message->correlation;
  for (i = 0; i < message->type; i++) {
    if (rk_context_emit(ctx, &out) != RK_OK) return 3;
  }
  return rk_context_reply(ctx, &out);
}

static rk_status_t launch(rk_runtime_t *runtime, const char *id, const char *program, uint32_t blocks, uint32_t flags,
                          rk_kernel_t *out) {
  rk_launch_options_t options = options_for(program, mode);
  options.grid_size = blocks;
  options.flags = flags;
  return rk_launch(runtime, id, &options, out);
}

static seen_t seen_in(const rk_message_t *message) {
  seen_t seen;
  memset(&seen, 0, sizeof seen);
  if (message->payload_size == sizeof seen) memcpy(&seen, message->payload, sizeof seen);
  return seen;
}

static void every_message_has_a_time(void) {
  rk_runtime_t *runtime = make_runtime(2);
  rk_message_t out, message = check_message("m", 1), batch[3];
  rk_loan_t loan;
  rk_kernel_t kernel, plain;
  rk_timestamp_t last;
  size_t i, count;
  seen_t seen;
  OK(add_program(runtime, "seen", on_seen, 0, NULL));
  OK(launch(runtime, "k", "seen", 1, RK_LAUNCH_TIMESTAMPS, &kernel));
  memset(&last, 0, sizeof last);
  OK(rk_send(kernel, &message, 0));
  for (i = 0; i < 3; i++) batch[i] = message;
  OK(rk_send_batch(kernel, batch, 3, 0, &count));
  CHECK(count == 3);
  OK(rk_reserve(kernel, 0, 8, 0, &loan));
  OK(rk_commit(&loan, &message, 8));
  message.type = 2;
  OK(rk_send(kernel, &message, 0));
  for (i = 0; i < 8; i++) {
    OK(rk_receive(kernel, &out, MS(20000)));
    seen = seen_in(&out);
    CHECK(is_stamped(seen.message) && seen.message.node == 0);
    CHECK(is_later(seen.now, seen.message) && is_later(out.timestamp, seen.now));
    CHECK(out.timestamp.node == seen.now.node && out.timestamp.node != 0);
    CHECK(is_later(out.timestamp, last));
    last = out.timestamp;
    OK(rk_release(&out));
  }
  message.type = 0;
  OK(rk_call(kernel, &message, &out, MS(20000)));
  seen = seen_in(&out);
  CHECK(is_later(seen.message, last) && is_later(seen.now, seen.message) && is_later(out.timestamp, seen.now));
  OK(rk_release(&out));
  /* And none without the flag, but rk_context_now is there all the same. */
  OK(launch(runtime, "plain", "seen", 1, 0, &plain));
  OK(rk_call(plain, &message, &out, MS(20000)));
  seen = seen_in(&out);
  CHECK(!is_stamped(seen.message) && is_stamped(seen.now) && !is_stamped(out.timestamp) && out.timestamp.node == 0);
  OK(rk_release(&out));
  OK(rk_runtime_destroy(runtime));
}

static rk_kernel_t target;
static rk_timestamp_t *times;
static size_t times_count, times_max;
static pthread_mutex_t times_lock = PTHREAD_MUTEX_INITIALIZER;
static volatile int wrong;

static void note(rk_timestamp_t time) {
  pthread_mutex_lock(&times_lock);
  if (times_count < times_max) times[times_count++] = time;
  pthread_mutex_unlock(&times_lock);
}

static void *call_it(void *argument) {
  size_t i, count = *(size_t *)argument;
  rk_timestamp_t last;
  memset(&last, 0, sizeof last);
  for (i = 0; i < count; i++) {
    rk_message_t out, message = check_message("m", 1);
    seen_t seen;
    message.block = RK_ANY_BLOCK;
    message.type = 1;
    if (rk_call(target, &message, &out, MS(20000)) != RK_OK) {
      wrong = 1;
      return NULL;
    }
    seen = seen_in(&out);
    /* What a thread sends after it has an answer is later than the answer. */
    if (!is_later(seen.message, last) || !is_later(out.timestamp, seen.message)) wrong = 2;
    last = out.timestamp;
    note(seen.now);
    note(out.timestamp);
    rk_release(&out);
  }
  return NULL;
}

static int by_time(const void *a, const void *b) { return order(*(const rk_timestamp_t *)a, *(const rk_timestamp_t *)b); }

static void lesson_06_times_of_a_kernel_differ_whatever_way_they_take(void) {
  rk_runtime_t *runtime = make_runtime(3);
  size_t calls = check_slow() ? 100 : 2000, i;
  rk_timestamp_t last[BLOCKS];
  pthread_t threads[SENDERS];
  rk_message_t out;
  OK(add_program(runtime, "seen", on_seen, 0, NULL));
  OK(launch(runtime, "k", "seen", BLOCKS, RK_LAUNCH_TIMESTAMPS, &target));
  times_max = SENDERS * calls * 4;
  times = (rk_timestamp_t *)calloc(times_max, sizeof *times);
  times_count = 0;
  wrong = 0;
  memset(last, 0, sizeof last);
  for (i = 0; i < SENDERS; i++) CHECK(pthread_create(&threads[i], NULL, call_it, &calls) == 0);
  for (i = 0; i < SENDERS * calls; i++) {
    OK(rk_receive(target, &out, MS(20000)));
    CHECK(out.block < BLOCKS && is_later(out.timestamp, last[out.block])); /* of each block in the order said */
    last[out.block] = out.timestamp;
    note(out.timestamp);
    OK(rk_release(&out));
  }
  for (i = 0; i < SENDERS; i++) CHECK(pthread_join(threads[i], NULL) == 0);
  CHECK(wrong == 0 && times_count == 3 * SENDERS * calls);
  qsort(times, times_count, sizeof *times, by_time);
  for (i = 1; i < times_count; i++) {
    CHECK(is_later(times[i], times[i - 1]) && times[i].node == times[0].node && times[i].node != 0);
  }
  free(times);
  OK(rk_runtime_destroy(runtime));
}

/* From the host: on to route 0. From a kernel with type 0: answered with type 1. An answer: to the host. All times so far go along. */
enum { STEPS = 8 };
typedef struct path_t {
  uint32_t count, pad;
  rk_timestamp_t times[STEPS];
} path_t;

static rk_status_t on_path(rk_context_t *ctx, const rk_message_t *message) {
  path_t path;
  rk_message_t next;
  memset(&path, 0, sizeof path);
  next = check_message(&path, sizeof path);
  if (message->payload_size == sizeof path) memcpy(&path, message->payload, sizeof path);
  if (path.count + 2 > STEPS) return 4;
  path.times[path.count++] = message->timestamp;
  path.times[path.count++] = rk_context_now(ctx);
  next.block = 0;
  if (message->source == 0) return rk_context_send(ctx, 0, &next);
  next.type = 1;
  return message->type == 0 ? rk_context_reply(ctx, &next) : rk_context_emit(ctx, &next);
}

static void what_follows_from_a_message_is_later(void) {
  rk_runtime_t *runtime = make_runtime(2);
  rk_kernel_t a, b;
  rk_timestamp_t last;
  uint32_t route, i, rounds = check_slow() ? 50 : 1000, k;
  memset(&last, 0, sizeof last);
  OK(add_program(runtime, "path", on_path, 0, NULL));
  OK(launch(runtime, "a", "path", 1, RK_LAUNCH_TIMESTAMPS, &a));
  OK(launch(runtime, "b", "path", 1, RK_LAUNCH_TIMESTAMPS, &b));
  OK(rk_connect(a, b, &route));
  for (i = 0; i < rounds; i++) {
    rk_message_t out, message = check_message("m", 1);
    path_t path;
    /* The wall clock makes steps, in both directions, and less than the limit. */
    set_wall((int64_t)(i % 5) * 100000000);
    OK(rk_send(a, &message, 0));
    OK(rk_receive(a, &out, MS(20000)));
    CHECK(out.payload_size == sizeof path);
    memcpy(&path, out.payload, sizeof path);
    /* host, a, a to b, b, b to a, a, a to host, host */
    CHECK(path.count == 6 && is_later(path.times[0], last));
    for (k = 1; k < path.count; k++) CHECK(is_later(path.times[k], path.times[k - 1]));
    CHECK(path.times[0].node == 0 && path.times[1].node == path.times[2].node);
    CHECK(path.times[3].node == path.times[4].node && path.times[5].node == path.times[1].node);
    CHECK(path.times[1].node != path.times[3].node && out.timestamp.node == path.times[1].node);
    CHECK(is_later(out.timestamp, path.times[5]));
    last = out.timestamp;
    OK(rk_release(&out));
  }
  set_wall(0);
  OK(rk_runtime_destroy(runtime));
}

static rk_kernel_t inner;

/* Calls another kernel and waits for its answer. */
static rk_status_t on_nested(rk_context_t *ctx, const rk_message_t *message) {
  rk_timestamp_t now = rk_context_now(ctx);
  rk_message_t reply, out, request = check_message("m", 1);
  rk_status_t status;
  seen_t seen;
  set_wall(0); /* back: what comes now is later all the same */
  status = rk_call(inner, &request, &reply, MS(20000));
  if (status != RK_OK) return status;
  seen = seen_in(&reply);
  if (!is_later(now, message->timestamp) || !is_later(seen.message, now)) status = 11;
  if (!is_later(seen.now, seen.message) || !is_later(reply.timestamp, seen.now)) status = 12;
  if (!is_later(rk_context_now(ctx), reply.timestamp)) status = 13;
  seen.message = reply.timestamp;
  rk_release(&reply);
  out = check_message(&seen, sizeof seen);
  return status == RK_OK ? rk_context_reply(ctx, &out) : status;
}

static void a_call_from_a_handler_is_on_the_way(void) {
  rk_runtime_t *runtime = make_runtime(2), *other = make_runtime(1);
  rk_kernel_t outer;
  int i, far;
  for (far = 0; far < 2; far++) { /* also between two runtimes */
    rk_runtime_t *of_inner = far ? other : runtime;
    OK(add_program(runtime, far ? "nested2" : "nested", on_nested, 0, NULL));
    OK(add_program(of_inner, "seen", on_seen, 0, NULL));
    OK(launch(runtime, far ? "outer2" : "outer", far ? "nested2" : "nested", 1, RK_LAUNCH_TIMESTAMPS, &outer));
    OK(launch(of_inner, "inner", "seen", 1, RK_LAUNCH_TIMESTAMPS, &inner));
    for (i = 0; i < 20; i++) {
      rk_message_t out, message = check_message("m", 1);
      set_wall(300000000);
      OK(rk_call(outer, &message, &out, MS(20000)));
      CHECK(is_later(out.timestamp, seen_in(&out).message));
      OK(rk_release(&out));
    }
    OK(rk_destroy(inner));
  }
  set_wall(0);
  OK(rk_runtime_destroy(runtime));
  OK(rk_runtime_destroy(other));
}

/* A message that is sent while the wall clock is ahead, and handled when it is right again: its time, the handler's, the answer's. */
static void send_from_the_future(rk_runtime_t *runtime, int64_t ahead, seen_t *seen, rk_timestamp_t *answer) {
  rk_message_t out, message = check_message("m", 1);
  rk_kernel_t kernel;
  OK(launch(runtime, "k", "seen", 1, RK_LAUNCH_TIMESTAMPS | RK_LAUNCH_SUSPENDED, &kernel));
  set_wall(ahead);
  OK(rk_send(kernel, &message, 0));
  set_wall(0);
  check_sleep_ms(40); /* a device that compares clocks just then learns that it is over */
  OK(rk_activate(kernel));
  OK(rk_receive(kernel, &out, MS(20000)));
  *seen = seen_in(&out);
  *answer = out.timestamp;
  OK(rk_release(&out));
  OK(rk_destroy(kernel));
}

/* From the host: on by route 0, with the deadline and the type of the message, and a reply with a time of this kernel. From a kernel: fails. */
static rk_status_t on_give_up(rk_context_t *ctx, const rk_message_t *message) {
  rk_message_t next = *message, out;
  seen_t seen;
  rk_status_t status;
  if (message->source != 0) return 9;
  next.block = 0;
  status = rk_context_send(ctx, 0, &next);
  if (status != RK_OK) return status;
  seen.message = message->timestamp;
  seen.now = rk_context_now(ctx);
  out = check_message(&seen, sizeof seen);
  return rk_context_reply(ctx, &out);
}

static void a_dead_letter_has_the_time_of_who_sent_it(void) {
  static const uint32_t reasons[] = {RK_DEAD_HANDLER, RK_DEAD_EXPIRED, RK_DEAD_TERMINATED};
  rk_runtime_t *runtime = make_runtime(2);
  uint32_t route, i;
  OK(add_program(runtime, "give_up", on_give_up, 0, NULL));
  for (i = 0; i < 3; i++) {
    rk_message_t out, message = check_message("m", 1);
    rk_kernel_t from, to;
    rk_dead_letter_t letter;
    seen_t seen;
    OK(launch(runtime, "from", "give_up", 1, RK_LAUNCH_TIMESTAMPS, &from));
    OK(launch(runtime, "to", "give_up", 1, RK_LAUNCH_TIMESTAMPS, &to));
    OK(rk_connect(from, to, &route));
    if (reasons[i] != RK_DEAD_HANDLER) OK(rk_deactivate(to));
    if (reasons[i] == RK_DEAD_EXPIRED) message.deadline_ns = check_now() + MS(check_slow() ? 2000 : 200);
    OK(rk_call(from, &message, &out, MS(20000)));
    seen = seen_in(&out);
    OK(rk_release(&out));
    if (message.deadline_ns) {
      while (check_now() < message.deadline_ns + MS(2)) check_sleep_ms(1);
      OK(rk_activate(to));
    }
    if (reasons[i] == RK_DEAD_TERMINATED) OK(rk_terminate(to, MS(20000)));
    OK(rk_receive_dead_letter(runtime, &letter, MS(20000)));
    CHECK(letter.reason == reasons[i] && letter.message.source == from.id && letter.kernel.id == to.id);
    /* Sent after the message came, before this time was asked for, by the same clock. */
    CHECK(letter.message.timestamp.node == seen.now.node && is_later(letter.message.timestamp, seen.message));
    CHECK(is_later(seen.now, letter.message.timestamp));
    OK(rk_release(&letter.message));
    OK(rk_destroy(from));
    OK(rk_destroy(to));
  }
  OK(rk_runtime_destroy(runtime));
}

static void a_time_from_the_near_future_is_followed(void) {
  rk_runtime_t *runtime = make_runtime(1);
  uint64_t before = wall_now();
  rk_timestamp_t answer;
  seen_t seen;
  memset(&seen, 0, sizeof seen);
  memset(&answer, 0, sizeof answer);
  OK(add_program(runtime, "seen", on_seen, 0, NULL));
  send_from_the_future(runtime, 800000000, &seen, &answer);
  if (check_bad) return;
  CHECK(seen.message.physical_ns >= before + 500000000u);
  CHECK(is_later(seen.now, seen.message) && is_later(answer, seen.now));
  OK(rk_runtime_destroy(runtime));
}

static void a_time_from_the_far_future_is_not_followed(void) {
  rk_runtime_t *runtime = make_runtime(1);
  const uint64_t second = 1000000000u;
  uint64_t before = wall_now(), latest;
  rk_timestamp_t answer;
  seen_t seen;
  memset(&seen, 0, sizeof seen);
  memset(&answer, 0, sizeof answer);
  OK(add_program(runtime, "seen", on_seen, 0, NULL));
  send_from_the_future(runtime, (int64_t)(3600 * second), &seen, &answer);
  if (check_bad) return;
  latest = wall_now() + second;
  /* It is in the message, but the kernel goes by the wall clock. */
  CHECK(seen.message.physical_ns > before + 3000 * second);
  CHECK(seen.now.physical_ns >= before - second && seen.now.physical_ns <= latest);
  CHECK(is_later(answer, seen.now) && answer.physical_ns <= latest);
  OK(rk_runtime_destroy(runtime));
}

static void a_wall_clock_that_is_set_back_takes_no_clock_with_it(void) {
  rk_runtime_t *runtime = make_runtime(1);
  rk_timestamp_t last, last_sent;
  rk_kernel_t kernel;
  int i;
  OK(add_program(runtime, "seen", on_seen, 0, NULL));
  OK(launch(runtime, "k", "seen", 1, RK_LAUNCH_TIMESTAMPS, &kernel));
  memset(&last, 0, sizeof last);
  memset(&last_sent, 0, sizeof last_sent);
  for (i = 0; i < 30; i++) {
    rk_message_t out, message = check_message("m", 1);
    seen_t seen;
    set_wall((int64_t)-100000000000 * i);
    OK(rk_call(kernel, &message, &out, MS(20000)));
    seen = seen_in(&out);
    CHECK(is_later(seen.message, last_sent) && is_later(seen.now, last) && is_later(out.timestamp, seen.now));
    last = out.timestamp;
    last_sent = seen.message;
    OK(rk_release(&out));
    if (i % 10 == 9) check_sleep_ms(20);
  }
  set_wall(0);
  OK(rk_runtime_destroy(runtime));
}

int main(int argc, char **argv) {
  fixture_unused();
  for (mode = RK_MODE_PERSISTENT; mode <= RK_MODE_EVENT_DRIVEN; mode++) {
    printf("mode %u\n", mode);
    RUN(every_message_has_a_time);
    RUN(lesson_06_times_of_a_kernel_differ_whatever_way_they_take);
    RUN(what_follows_from_a_message_is_later);
    RUN(a_call_from_a_handler_is_on_the_way);
    RUN(a_dead_letter_has_the_time_of_who_sent_it);
    RUN(a_time_from_the_near_future_is_followed);
    RUN(a_wall_clock_that_is_set_back_takes_no_clock_with_it);
  }
  /* Last: the host's clock stays an hour ahead. */
  for (mode = RK_MODE_PERSISTENT; mode <= RK_MODE_EVENT_DRIVEN; mode++) RUN(a_time_from_the_far_future_is_not_followed);
  return check_result();
}
