/* Time: every wait takes what was asked, also with signals and with numbers near the end of the range; each
 * kernel's clock. */
#include "fixture.h"

static uint32_t mode;
static rk_runtime_t *runtime;
static rk_kernel_t suspended, idle, slow;

enum { VERBS = 12 };

/* A wait that cannot be satisfied. */
static rk_status_t wait_in_vain(int verb, uint64_t timeout) {
  rk_message_t out, message = check_message("m", 1);
  rk_dead_letter_t letter;
  rk_loan_t loan;
  size_t count;
  switch (verb) {
    case 0: return rk_send(suspended, &message, timeout);
    case 1: return rk_send_batch(suspended, &message, 1, timeout, &count);
    case 2: return rk_reserve(suspended, 0, 1, timeout, &loan);
    case 3: return rk_reserve_batch(suspended, 0, 1, 1, timeout, &loan, &count);
    case 4: return rk_call(suspended, &message, &out, timeout);
    case 5: return rk_receive(idle, &out, timeout);
    case 6: return rk_receive_batch(idle, &out, 1, timeout, &count);
    case 7: return rk_receive_dead_letter(runtime, &letter, timeout);
    case 8: return rk_wait(idle, timeout);
    case 9: message.block = RK_ANY_BLOCK; return rk_send(suspended, &message, timeout);
    case 10: return rk_reserve(suspended, RK_ANY_BLOCK, 1, timeout, &loan);
    default: return rk_call(slow, &message, &out, timeout);
  }
}

static rk_status_t at_once(int verb) {
  if (verb <= 4 || verb == 9 || verb == 10) return RK_ERR_FULL;
  return verb <= 7 ? RK_ERR_EMPTY : RK_ERR_TIMEOUT;
}

/* A full queue, an empty queue, and a kernel that never replies. */
static void set_up(void) {
  rk_launch_options_t options = options_for("echo", mode);
  rk_message_t message = check_message("m", 1);
  runtime = make_runtime(2);
  CHECK(runtime != NULL);
  OK(rk_launch(runtime, "idle", &options, &idle));
  options.flags = RK_LAUNCH_SUSPENDED;
  options.input_queue_capacity = 2;
  OK(rk_launch(runtime, "suspended", &options, &suspended));
  OK(rk_send(suspended, &message, 0));
  OK(rk_send(suspended, &message, 0));
  options = options_for("sink", mode);
  OK(rk_launch(runtime, "slow", &options, &slow));
}

/* Later than this is too late, also on a busy machine. */
static uint64_t slack(void) { return check_slow() ? MS(20000) : MS(1000); }

static void lesson_08_every_wait_takes_the_time_asked(void) {
  static const uint64_t times[] = {1, 1000, MS(1), MS(35)};
  int verb;
  size_t i;
  set_up();
  for (verb = 0; verb < VERBS; verb++) {
    uint64_t start = check_now(), took;
    CHECK_STATUS(wait_in_vain(verb, 0), at_once(verb));
    CHECK(check_now() - start < slack());
    for (i = 0; i < sizeof times / sizeof *times; i++) {
      start = check_now();
      CHECK_STATUS(wait_in_vain(verb, times[i]), RK_ERR_TIMEOUT);
      took = check_now() - start;
      if (took < times[i] || took >= times[i] + slack()) printf("verb %d: %lu ns\n", verb, (unsigned long)took);
      CHECK(took >= times[i] && took < times[i] + slack());
    }
  }
  OK(rk_runtime_destroy(runtime));
}

static volatile sig_atomic_t signals_seen;
static pthread_t disturbed;
static volatile int disturb;

static void on_signal(int number) {
  (void)number;
  signals_seen++;
}

static void *send_signals(void *argument) {
  (void)argument;
  while (disturb) {
    pthread_kill(disturbed, SIGUSR1);
    check_sleep_ms(2);
  }
  return NULL;
}

static void a_signal_does_not_end_a_wait(void) {
  struct sigaction action;
  pthread_t thread;
  int verb;
  set_up();
  memset(&action, 0, sizeof action);
  action.sa_handler = on_signal; /* without SA_RESTART: system calls end with EINTR */
  CHECK(sigaction(SIGUSR1, &action, NULL) == 0);
  signals_seen = 0;
  disturbed = pthread_self();
  disturb = 1;
  CHECK(pthread_create(&thread, NULL, send_signals, NULL) == 0);
  for (verb = 0; verb < VERBS; verb++) {
    uint64_t start = check_now();
    CHECK_STATUS(wait_in_vain(verb, MS(25)), RK_ERR_TIMEOUT);
    CHECK(check_now() - start >= MS(25));
  }
  disturb = 0;
  CHECK(pthread_join(thread, NULL) == 0);
  CHECK(signals_seen > 0);
  signal(SIGUSR1, SIG_DFL);
  OK(rk_runtime_destroy(runtime));
}

static uint64_t long_time;

static void *end_the_waits(void *argument) {
  rk_message_t message = check_message("m", 1);
  (void)argument;
  check_sleep_ms(30);
  if (rk_send(idle, &message, 0) != RK_OK) return &idle; /* for the rk_receive */
  check_sleep_ms(30);
  if (rk_activate(suspended) != RK_OK) return &suspended; /* for the rk_send */
  check_sleep_ms(30);
  message.deadline_ns = 1;
  if (rk_send(idle, &message, 0) != RK_OK) return &idle; /* for the dead letter */
  check_sleep_ms(30);
  return rk_terminate(idle, RK_FOREVER) == RK_OK ? NULL : &idle; /* for the rk_wait */
}

static void times_near_the_end_of_the_range_do_not_wrap(void) {
  static const uint64_t times[] = {RK_FOREVER, RK_FOREVER - 1, RK_FOREVER / 2 + 1, INT64_MAX};
  size_t i;
  for (i = 0; i < sizeof times / sizeof *times; i++) {
    rk_message_t out, message = check_message("m", 1);
    rk_dead_letter_t letter;
    rk_launch_options_t options;
    rk_kernel_t slow;
    pthread_t thread;
    void *failed;
    long_time = times[i];
    set_up();
    CHECK(pthread_create(&thread, NULL, end_the_waits, NULL) == 0);
    OK(rk_receive(idle, &out, long_time));
    OK(rk_release(&out));
    OK(rk_send(suspended, &message, long_time));
    OK(rk_receive_dead_letter(runtime, &letter, long_time));
    CHECK(letter.reason == RK_DEAD_EXPIRED);
    OK(rk_release(&letter.message));
    OK(rk_wait(idle, long_time));
    CHECK(pthread_join(thread, &failed) == 0 && failed == NULL);
    OK(rk_call(suspended, &message, &out, long_time));
    OK(rk_release(&out));
    message.deadline_ns = long_time; /* not over for a while */
    OK(rk_call(suspended, &message, &out, long_time));
    CHECK(out.payload_size == 1);
    OK(rk_release(&out));
    /* A call that is waited for, and not done on the way. */
    options = options_for("sleep", mode);
    options.flags = RK_LAUNCH_NO_HELP;
    OK(rk_launch(runtime, "slower", &options, &slow));
    message.deadline_ns = 0;
    for (message.type = 1; message.type < 42; message.type += 20) {
      OK(rk_call(slow, &message, &out, long_time));
      OK(rk_release(&out));
    }
    OK(rk_terminate(suspended, long_time));
    OK(rk_runtime_shutdown(runtime, long_time));
    OK(rk_runtime_destroy(runtime));
  }
}

static void a_deadline_that_passes_in_the_queue_makes_a_dead_letter(void) {
  rk_launch_options_t options = options_for("echo", mode);
  rk_message_t out, message = check_message("m", 1);
  rk_dead_letter_t letter;
  rk_kernel_t kernel;
  runtime = make_runtime(1);
  options.flags = RK_LAUNCH_SUSPENDED;
  OK(rk_launch(runtime, "k", &options, &kernel));
  message.correlation = 1;
  message.deadline_ns = check_now() + MS(20);
  OK(rk_send(kernel, &message, 0));
  message.correlation = 2;
  message.deadline_ns = check_now() + MS(100000);
  OK(rk_send(kernel, &message, 0));
  message.correlation = 3;
  message.deadline_ns = 0;
  OK(rk_send(kernel, &message, 0));
  check_sleep_ms(40);
  CHECK_STATUS(rk_receive_dead_letter(runtime, &letter, 0), RK_ERR_EMPTY); /* nobody has looked at it */
  OK(rk_activate(kernel));
  OK(rk_receive(kernel, &out, RK_FOREVER));
  CHECK(out.correlation == 2);
  OK(rk_release(&out));
  OK(rk_receive(kernel, &out, RK_FOREVER));
  CHECK(out.correlation == 3);
  OK(rk_release(&out));
  OK(rk_receive_dead_letter(runtime, &letter, RK_FOREVER));
  CHECK(letter.reason == RK_DEAD_EXPIRED && letter.message.correlation == 1 && letter.kernel.id == kernel.id);
  CHECK(letter.status != RK_OK);
  OK(rk_release(&letter.message));
  CHECK(metrics_of(kernel).messages_failed == 0 && metrics_of(kernel).dead_letters == 1);
  OK(rk_runtime_destroy(runtime));
}

enum { BLOCKS = 4, PER_MESSAGE = 50, MESSAGES = 40 };
static rk_timestamp_t read_times[2][BLOCKS][MESSAGES * PER_MESSAGE];

static int is_later(rk_timestamp_t a, rk_timestamp_t b) {
  return a.physical_ns > b.physical_ns || (a.physical_ns == b.physical_ns && a.logical > b.logical);
}

/* Reads its kernel's clock often: `type` is the kernel's number, `correlation` the message's. */
static rk_status_t on_clock(rk_context_t *ctx, const rk_message_t *message) {
  rk_timestamp_t *times =
      &read_times[message->type][rk_context_block(ctx)][message->correlation * PER_MESSAGE], last;
  int i;
  last = message->timestamp; /* what was sent before is earlier */
  for (i = 0; i < PER_MESSAGE; i++) {
    times[i] = rk_context_now(ctx);
    if (!is_later(times[i], last)) return 1;
    last = times[i];
  }
  return rk_context_reply(ctx, message);
}

static int by_time(const void *a, const void *b) {
  rk_timestamp_t x = *(const rk_timestamp_t *)a, y = *(const rk_timestamp_t *)b;
  return is_later(x, y) - is_later(y, x);
}

static void lesson_06_a_kernels_clock_is_one_for_all_its_blocks(void) {
  rk_launch_options_t options = options_for("clock", mode);
  rk_kernel_t kernels[2];
  struct timespec wall;
  int k, b, i;
  runtime = make_runtime(3);
  OK(add_program(runtime, "clock", on_clock, 0, NULL));
  options.grid_size = BLOCKS;
  options.flags = RK_LAUNCH_TIMESTAMPS;
  OK(rk_launch(runtime, "a", &options, &kernels[0]));
  OK(rk_launch(runtime, "b", &options, &kernels[1]));
  for (i = 0; i < MESSAGES; i++) {
    for (b = 0; b < BLOCKS; b++) {
      for (k = 0; k < 2; k++) {
        rk_message_t message = check_message("m", 1);
        message.type = (uint32_t)k;
        message.block = (uint32_t)b;
        message.correlation = (uint64_t)i;
        OK(rk_send(kernels[k], &message, RK_FOREVER));
      }
    }
  }
  for (k = 0; k < 2; k++) {
    for (i = 0; i < MESSAGES * BLOCKS; i++) {
      rk_message_t out;
      OK(rk_receive(kernels[k], &out, RK_FOREVER));
      /* The answer carries a time of the kernel that is later than all it had read by then. */
      CHECK(is_later(out.timestamp, read_times[k][out.block][out.correlation * PER_MESSAGE + PER_MESSAGE - 1]));
      OK(rk_release(&out));
    }
    CHECK(metrics_of(kernels[k]).messages_failed == 0);
  }
  clock_gettime(CLOCK_REALTIME, &wall);
  for (k = 0; k < 2; k++) {
    rk_timestamp_t *times = &read_times[k][0][0];
    int count = BLOCKS * MESSAGES * PER_MESSAGE;
    qsort(times, (size_t)count, sizeof *times, by_time);
    for (i = 1; i < count; i++) CHECK(is_later(times[i], times[i - 1]) && times[i].node == times[0].node);
    CHECK(times[0].node != 0);
    CHECK(times[0].physical_ns / 1000000000u + 600 > (uint64_t)wall.tv_sec);
    CHECK(times[count - 1].physical_ns / 1000000000u <= (uint64_t)wall.tv_sec + 1);
  }
  CHECK(read_times[0][0][0].node != read_times[1][0][0].node);
  OK(rk_runtime_destroy(runtime));
}

int main(int argc, char **argv) {
  fixture_unused();
  for (mode = RK_MODE_PERSISTENT; mode <= RK_MODE_EVENT_DRIVEN; mode++) {
    printf("mode %u\n", mode);
    RUN(lesson_08_every_wait_takes_the_time_asked);
    RUN(a_signal_does_not_end_a_wait);
    RUN(times_near_the_end_of_the_range_do_not_wrap);
    RUN(a_deadline_that_passes_in_the_queue_makes_a_dead_letter);
    RUN(lesson_06_a_kernels_clock_is_one_for_all_its_blocks);
  }
  return check_result();
}
