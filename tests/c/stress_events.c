/* Asynchronous operations against everything that can end them: several threads submit calls, launches and ends, handlers do
 * too; several poll, some cancel, kernels fail, are ended and destroyed in the middle, and a shutdown comes while all of it goes on. Each
 * accepted operation completes exactly once, as what it was, no refused one ever does, all replies are given back.
 * RK_STRESS_SEED repeats the choices of a run (not the order of its threads); RK_TEST_SLOW makes it short. */
#include "fixture.h"

enum { SLOTS = 6, SUBMITTERS = 3, POLLERS = 2, CANCELLERS = 2, QUEUE = 16, FAILED_MESSAGE = 5 };
/* What a handler is to do. */
enum { ANSWER, BE_SILENT, FAIL_MESSAGE, FAIL_KERNEL, TAKE_TIME, EMIT, CALL_ANOTHER, END_ITSELF };

/* One attempt, found by its user_data; each field is written by the one thread that the comment names. */
typedef struct attempt_t {
  volatile uint32_t kind, slot;    /* submitter, before */
  volatile int outcome;            /* submitter, after: ACCEPTED or REFUSED */
  volatile uint64_t op, told_op;   /* submitter; poller */
  volatile int completions;        /* pollers, counted */
  volatile rk_status_t status;     /* poller */
  volatile int cancels;            /* cancellers: how many were told RK_OK */
} attempt_t;
enum { ACCEPTED = 1, REFUSED };

static rk_runtime_t *runtime;
static attempt_t *attempts;
static uint64_t total, seed;
static volatile uint64_t next_attempt, accepted, completed, replies, released, limits, dropped;
static volatile int stop_polling, stop_all, is_device;
static pthread_mutex_t slots_lock = PTHREAD_MUTEX_INITIALIZER;
static rk_kernel_t slots[SLOTS];

/* The first thing that was wrong, in words. */
static char wrong[200];
static volatile int wrongs;

static void complain(const char *what, uint64_t number, int64_t found) {
  if (__sync_fetch_and_add(&wrongs, 1) == 0)
    snprintf(wrong, sizeof wrong, "%s: attempt %llu, %lld", what, (unsigned long long)number, (long long)found);
}

static uint32_t any(uint64_t *state, uint32_t below) {
  *state ^= *state << 13;
  *state ^= *state >> 7;
  *state ^= *state << 17;
  return (uint32_t)(*state >> 33) % below;
}

static rk_kernel_t slot(uint32_t at) {
  rk_kernel_t kernel;
  pthread_mutex_lock(&slots_lock);
  kernel = slots[at];
  pthread_mutex_unlock(&slots_lock);
  return kernel;
}

static int is_one_of(rk_status_t status, const rk_status_t *list, size_t count) {
  size_t i;
  for (i = 0; i < count; i++)
    if (list[i] == status) return 1;
  return 0;
}
#define IS_ONE_OF(status, list) is_one_of(status, list, sizeof(list) / sizeof(list)[0])

/* A new attempt; 0: there were enough. */
static uint64_t begin(uint32_t kind, uint32_t at) {
  uint64_t number = __sync_add_and_fetch(&next_attempt, 1);
  if (number >= total) return 0;
  attempts[number].kind = kind;
  attempts[number].slot = at;
  __sync_synchronize();
  return number;
}

static rk_status_t submitted(uint64_t number, rk_status_t status, rk_op_t op) {
  static const rk_status_t refusals[] = {RK_ERR_FULL,          RK_ERR_LIMIT,          RK_ERR_TERMINATED,
                                         RK_ERR_KERNEL_FAILED, RK_ERR_INVALID_HANDLE, RK_ERR_SHUTDOWN};
  if (status == RK_OK) {
    if (op.id == 0) complain("accepted without a number", number, 0);
    attempts[number].op = op.id;
    __sync_fetch_and_add(&accepted, 1);
  } else if (!IS_ONE_OF(status, refusals)) {
    complain("refused with an odd status", number, status);
  }
  if (status == RK_ERR_LIMIT) __sync_fetch_and_add(&limits, 1);
  __sync_synchronize();
  attempts[number].outcome = status == RK_OK ? ACCEPTED : REFUSED;
  return status;
}

static rk_status_t call(rk_kernel_t kernel, uint32_t what, uint64_t timeout_ns) {
  uint64_t number = begin(RK_EVENT_REPLY, 0);
  rk_message_t request = check_message(&number, sizeof number);
  rk_op_t op = {0};
  rk_status_t status;
  if (number == 0) return RK_ERR_SHUTDOWN;
  request.type = what;
  status = rk_call_async(kernel, &request, timeout_ns, number, &op);
  return submitted(number, status, op);
}

static rk_status_t end(rk_kernel_t kernel, uint64_t timeout_ns) {
  uint64_t number = begin(RK_EVENT_TERMINATED, 0);
  rk_op_t op = {0};
  rk_status_t status;
  if (number == 0) return RK_ERR_SHUTDOWN;
  status = rk_terminate_async(kernel, timeout_ns, number, &op);
  return submitted(number, status, op);
}

static rk_status_t launch(uint32_t at, uint32_t how) {
  uint64_t number = begin(RK_EVENT_LAUNCHED, at);
  rk_launch_options_t options = options_for("worker", how % 2 ? RK_MODE_EVENT_DRIVEN : RK_MODE_PERSISTENT);
  rk_op_t op = {0};
  rk_status_t status;
  char id[8];
  if (number == 0) return RK_ERR_SHUTDOWN;
  snprintf(id, sizeof id, "k%u", (unsigned)at);
  options.input_queue_capacity = QUEUE;
  options.overflow = RK_OVERFLOW_DEAD_LETTER; /* nobody receives from a kernel that is not watched */
  options.restart = how % 3 ? RK_RESTART_NEVER : RK_RESTART_ON_FAILURE;
  if (how % 5 == 0) options.flags = RK_LAUNCH_NO_HELP;
  status = rk_launch_async(runtime, id, &options, number, &op);
  return submitted(number, status, op);
}

static rk_status_t on_worker(rk_context_t *ctx, const rk_message_t *message) {
  rk_kernel_t self = rk_context_kernel(ctx);
  switch (message->type) {
    case BE_SILENT: return RK_OK;
    case FAIL_MESSAGE: return FAILED_MESSAGE;
    case FAIL_KERNEL: return RK_ERR_KERNEL_FAILED;
    case TAKE_TIME: check_sleep_ms(1); break;
    case EMIT: rk_context_emit(ctx, message); break;
    case CALL_ANOTHER: call(slot((uint32_t)(self.id % SLOTS)), ANSWER, RK_FOREVER); break;
    case END_ITSELF: end(self, RK_FOREVER); break;
    default: break;
  }
  return rk_context_reply(ctx, message);
}

static void on_drop(void *user_data) {
  (void)user_data;
  __sync_fetch_and_add(&dropped, 1);
}

static void *submit(void *argument) {
  /* Mostly answers; what fails or ends a kernel is rare. */
  static const uint32_t whats[] = {ANSWER, ANSWER, ANSWER, ANSWER, ANSWER, ANSWER, FAIL_MESSAGE, TAKE_TIME, EMIT, CALL_ANOTHER};
  static const uint64_t timeouts[] = {RK_FOREVER, RK_FOREVER, RK_FOREVER, 0, MS(1), MS(50)};
  uint64_t state = (seed + (uint64_t)(uintptr_t)argument) * 0x9E3779B97F4A7C15u | 1;
  while (next_attempt < total) {
    uint32_t at = any(&state, SLOTS), choice = any(&state, 1000), what = whats[any(&state, 10)];
    uint64_t timeout_ns = timeouts[any(&state, 6)];
    rk_kernel_t kernel = slot(at);
    rk_status_t status = RK_OK;
    if (any(&state, 50) == 0) what = any(&state, 3) == 0 ? BE_SILENT : any(&state, 2) ? FAIL_KERNEL : END_ITSELF;
    if (kernel.id == 0 || choice < 10) status = launch(at, any(&state, 30));
    else if (choice < 18) status = end(kernel, any(&state, 2) ? RK_FOREVER : 0);
    else if (choice < 23) rk_destroy(kernel);
    else if (choice < 60) status = rk_watch(kernel, any(&state, 4), total + at);
    else status = call(kernel, what, timeout_ns);
    /* A launch on a device takes a while: other attempts are not used up on a kernel that is not there yet. */
    if (kernel.id == 0 && is_device) check_sleep_ms(1);
    if (status == RK_ERR_INVALID_HANDLE || status == RK_ERR_TERMINATED || status == RK_ERR_KERNEL_FAILED) {
      /* It has ended, and its place is for another. */
      rk_destroy(kernel);
      pthread_mutex_lock(&slots_lock);
      if (slots[at].id == kernel.id) slots[at].id = 0;
      pthread_mutex_unlock(&slots_lock);
    }
    if (status == RK_ERR_LIMIT || status == RK_ERR_FULL || kernel.id == 0) sched_yield();
  }
  return NULL;
}

static void *cancel(void *argument) {
  uint64_t state = (seed + (uint64_t)(uintptr_t)argument) * 0x9E3779B97F4A7C15u | 1;
  while (!stop_all) {
    uint64_t newest = next_attempt < total ? next_attempt : total - 1, number = newest - any(&state, 64) % (newest + 1);
    rk_op_t op;
    op.id = attempts[number].op;
    if (op.id != 0) {
      rk_status_t status = rk_cancel(runtime, op);
      if (status == RK_OK) __sync_fetch_and_add(&attempts[number].cancels, 1);
      else if (status != RK_ERR_INVALID_STATE && status != RK_ERR_INVALID_HANDLE) complain("an odd cancel", number, status);
    }
    if (any(&state, 4) == 0) check_sleep_ms(1);
  }
  return NULL;
}

static void receive_all(rk_kernel_t kernel) {
  rk_message_t messages[4];
  size_t count;
  while (rk_receive_batch(kernel, messages, 4, 0, &count) == RK_OK) rk_release_batch(messages, count);
}

static void receive_letters(void) {
  rk_dead_letter_t letter;
  while (rk_receive_dead_letter(runtime, &letter, 0) == RK_OK) rk_release(&letter.message);
}

static void on_reply(uint64_t number, rk_event_t *event) {
  static const rk_status_t ends[] = {FAILED_MESSAGE,    RK_ERR_KERNEL_FAILED, RK_ERR_TERMINATED,
                                     RK_ERR_SHUTDOWN, RK_ERR_TIMEOUT,       RK_ERR_CANCELLED};
  uint64_t said = 0;
  if (event->status != RK_OK) {
    if (!IS_ONE_OF(event->status, ends)) complain("a call ends with an odd status", number, event->status);
    if (event->message.lease != 0) complain("a view without a reply", number, event->status);
    return;
  }
  __sync_fetch_and_add(&replies, 1);
  if (event->message.payload_size == sizeof said) memcpy(&said, event->message.payload, sizeof said);
  if (said != number) complain("another call's reply", number, (int64_t)said);
  if (rk_release(&event->message) == RK_OK) __sync_fetch_and_add(&released, 1);
}

static void on_launched(rk_event_t *event) {
  rk_kernel_t *slot_of = &slots[attempts[event->user_data].slot], old;
  if (event->status != RK_OK) return;
  pthread_mutex_lock(&slots_lock);
  old = *slot_of;
  *slot_of = event->kernel;
  pthread_mutex_unlock(&slots_lock);
  if (old.id != 0) rk_destroy(old);
}

static void on_event(rk_event_t *event) {
  uint64_t number = event->user_data;
  attempt_t *attempt;
  if (event->kind == RK_EVENT_DEAD_LETTER) {
    receive_letters();
    return;
  }
  if (event->kind == RK_EVENT_READABLE || event->kind == RK_EVENT_STATE) {
    if (number < total || number >= total + SLOTS || event->op.id != 0) complain("an odd watch", number, event->kind);
    if (event->kind == RK_EVENT_READABLE) receive_all(event->kernel);
    return;
  }
  if (number == 0 || number >= total) {
    complain("a completion of nothing", number, event->kind);
    return;
  }
  attempt = &attempts[number];
  if (attempt->kind != event->kind) complain("another kind", number, event->kind);
  if (__sync_fetch_and_add(&attempt->completions, 1) != 0) complain("completed twice", number, event->status);
  attempt->told_op = event->op.id;
  attempt->status = event->status;
  if (event->kind == RK_EVENT_REPLY) on_reply(number, event);
  if (event->kind == RK_EVENT_LAUNCHED) on_launched(event);
  __sync_fetch_and_add(&completed, 1);
}

/* Polls until told to stop and nothing comes any more; odd ones take one event at a time, now and then a little late. */
static void *poll_events(void *argument) {
  uint64_t me = (uint64_t)(uintptr_t)argument, turn;
  rk_event_t events[16];
  for (turn = 0;; turn++) {
    size_t count = 99, i;
    rk_status_t status = rk_poll(runtime, events, me % 2 ? 1 : 16, MS(20), &count);
    if (status == RK_ERR_TIMEOUT && count == 0) {
      if (stop_polling) return NULL;
      continue;
    }
    if (status == RK_ERR_SHUTDOWN && count == 0) return NULL; /* and nothing more can come */
    if (status != RK_OK || count == 0 || count > 16) {
      complain("an odd poll", count, status);
      return NULL;
    }
    for (i = 0; i < count; i++) on_event(&events[i]);
    if (turn % 64 == me) check_sleep_ms(1);
  }
}

static void set_up(uint32_t capacity) {
  rk_runtime_options_t options = RK_RUNTIME_OPTIONS_INIT;
  rk_program_t program = RK_PROGRAM_INIT;
  options.backend = RK_BACKEND_CPU;
  options.worker_threads = 2;
  options.event_capacity = capacity;
  total = check_slow() ? 6000 : 100000;
  attempts = (attempt_t *)calloc(total, sizeof *attempts);
  next_attempt = accepted = completed = replies = released = limits = dropped = 0;
  stop_polling = stop_all = wrongs = 0;
  memset(slots, 0, sizeof slots);
  program.name = "worker";
  program.on_message = on_worker;
  program.drop_user_data = on_drop;
  if (rk_runtime_create(&options, &runtime) != RK_OK || rk_program_register(runtime, &program) != RK_OK) exit(4);
  is_device = backend_of(runtime) == RK_BACKEND_CUDA;
}

/* What has become of each attempt, when all is over. */
static void audit(void) {
  uint64_t number, lost = 0;
  for (number = 1; number < total; number++) {
    attempt_t *it = &attempts[number];
    if (it->outcome == ACCEPTED && it->completions == 0 && lost++ == 0) complain("never completed", number, it->kind);
    if (it->outcome != ACCEPTED && it->completions != 0) complain("completed, though refused", number, it->status);
    if (it->outcome == ACCEPTED && it->completions != 0 && it->op != it->told_op) complain("another number", number, it->kind);
    /* Who was told that it is cancelled was told the truth, and a cancelled one was cancelled by somebody. */
    if (it->cancels == 0 && it->status == RK_ERR_CANCELLED) complain("cancelled by nobody", number, it->kind);
    if (it->cancels > 0 && it->kind != RK_EVENT_LAUNCHED && it->status != RK_ERR_CANCELLED)
      complain("cancelled, and completed otherwise", number, it->status);
    if (it->cancels > 1 && it->kind != RK_EVENT_LAUNCHED) complain("cancelled twice", number, it->cancels);
    if (it->cancels > 0 && it->kind == RK_EVENT_LAUNCHED && it->status == RK_OK) complain("launched, though cancelled", number, 0);
  }
}

static void run(uint32_t capacity) {
  pthread_t submitters[SUBMITTERS], pollers[POLLERS], cancellers[CANCELLERS];
  rk_runtime_metrics_t metrics = RK_RUNTIME_METRICS_INIT;
  rk_status_t status;
  rk_event_t event;
  size_t count;
  uintptr_t i;
  set_up(capacity);
  for (i = 0; i < SUBMITTERS; i++) CHECK(pthread_create(&submitters[i], NULL, submit, (void *)i) == 0);
  /* As long as nobody polls no more are accepted than there is room for. */
  if (capacity) {
    UNTIL(limits >= 100);
    CHECK(accepted <= capacity);
  }
  for (i = 0; i < POLLERS; i++) CHECK(pthread_create(&pollers[i], NULL, poll_events, (void *)i) == 0);
  for (i = 0; i < CANCELLERS; i++) CHECK(pthread_create(&cancellers[i], NULL, cancel, (void *)(i + 100)) == 0);
  UNTIL(next_attempt >= total - total / 10);
  /* While the last tenth is submitted. What does not drain in time completes all the same. */
  status = rk_runtime_shutdown(runtime, MS(100));
  CHECK(status == RK_OK || status == RK_ERR_TIMEOUT);
  for (i = 0; i < SUBMITTERS; i++) CHECK(pthread_join(submitters[i], NULL) == 0);
  stop_all = 1;
  for (i = 0; i < CANCELLERS; i++) CHECK(pthread_join(cancellers[i], NULL) == 0);
  for (i = 0; i < 30000 && completed < accepted && !wrongs; i++) check_sleep_ms(1);
  stop_polling = 1;
  for (i = 0; i < POLLERS; i++) CHECK(pthread_join(pollers[i], NULL) == 0);
  audit();
  if (wrongs) printf("%d wrong, the first: %s\n", wrongs, wrong);
  CHECK(wrongs == 0);
  CHECK(completed == accepted && replies == released);
  CHECK(replies > 0);
  receive_letters();
  CHECK_STATUS(rk_poll(runtime, &event, 1, 0, &count), RK_ERR_EMPTY);
  OK(rk_metrics(runtime, &metrics));
  CHECK(metrics.active_kernels == 0);
  OK(rk_runtime_destroy(runtime));
  CHECK(dropped == 1);
  printf("%llu attempts, %llu accepted, %llu found no room, %llu replies\n", (unsigned long long)total,
         (unsigned long long)accepted, (unsigned long long)limits, (unsigned long long)replies);
  free(attempts);
}

static void a_small_queue_refuses_and_never_loses(void) { run(24); }
static void each_accepted_operation_completes_once(void) { run(0); }

static volatile uint64_t watched;

/* Watches the kernel that is there until it is not there any more. Valgrind runs one thread at a time, in long slices: this one would
 * nearly always be stopped with the lock of the queue in its hands, and the others would get it once in seconds. */
static void *watch(void *argument) {
  rk_kernel_t last = {0}, kernel;
  const int gives_way = check_slow();
  (void)argument;
  while (!stop_all) {
    rk_status_t status = RK_OK;
    kernel.id = watched;
    if (kernel.id == last.id) continue;
    while (status == RK_OK) {
      status = rk_watch(kernel, RK_WATCH_STATE | RK_WATCH_READABLE, kernel.id);
      if (gives_way) sched_yield();
    }
    if (status != RK_ERR_INVALID_HANDLE) complain("an odd watch", 0, status);
    last = kernel;
  }
  return NULL;
}

static void a_watch_against_the_destruction_keeps_no_place(void) {
  rk_launch_options_t options = options_for("worker", RK_MODE_EVENT_DRIVEN);
  int round, rounds = check_slow() ? 300 : 5000;
  rk_kernel_t kernel;
  rk_event_t event;
  pthread_t thread;
  size_t count;
  set_up(2);
  watched = 0;
  CHECK(pthread_create(&thread, NULL, watch, NULL) == 0);
  for (round = 0; round < rounds && !wrongs; round++) {
    OK(rk_launch(runtime, "k", &options, &kernel));
    watched = kernel.id;
    if (round % 2) sched_yield();
    OK(rk_destroy(kernel));
    while (rk_poll(runtime, &event, 1, 0, &count) == RK_OK) continue; /* a last state may have come */
  }
  stop_all = 1;
  CHECK(pthread_join(thread, NULL) == 0);
  while (rk_poll(runtime, &event, 1, 0, &count) == RK_OK) continue;
  if (wrongs) printf("%d wrong in %d rounds, the first: %s\n", wrongs, round, wrong);
  CHECK(wrongs == 0);
  OK(rk_launch(runtime, "k", &options, &kernel));
  OK(rk_watch(kernel, RK_WATCH_STATE | RK_WATCH_READABLE, 0)); /* both places are free */
  OK(rk_runtime_destroy(runtime));
  free(attempts);
}

int main(int argc, char **argv) {
  const char *given = getenv("RK_STRESS_SEED");
  fixture_unused();
  seed = given ? strtoull(given, NULL, 10) : check_now();
  printf("RK_STRESS_SEED=%llu\n", (unsigned long long)seed);
  fflush(stdout);
  RUN(a_small_queue_refuses_and_never_loses);
  RUN(each_accepted_operation_completes_once);
  RUN(a_watch_against_the_destruction_keeps_no_place);
  return check_result();
}
