/* lesson 19: whoever waits sleeps: host threads in every wait, and kernels with threads of their own. */
#include "fixture.h"
#include <sys/resource.h>

static uint64_t cpu_ns(void) {
  struct rusage usage;
  getrusage(RUSAGE_SELF, &usage);
  return ((uint64_t)usage.ru_utime.tv_sec + (uint64_t)usage.ru_stime.tv_sec) * 1000000000u +
         ((uint64_t)usage.ru_utime.tv_usec + (uint64_t)usage.ru_stime.tv_usec) * 1000u;
}

/* CPU time of a second in which nothing happens. */
static uint64_t a_quiet_second(void) {
  uint64_t burnt;
  check_sleep_ms(200);
  burnt = cpu_ns();
  check_sleep_ms(1000);
  burnt = cpu_ns() - burnt;
  printf("%lu microseconds of CPU in a second\n", (unsigned long)(burnt / 1000));
  return burnt;
}

static rk_runtime_t *runtime;
static rk_kernel_t full, quiet;

enum { WAITS = 6 };

static void *wait_somehow(void *argument) {
  rk_message_t out, message = check_message("m", 1);
  rk_dead_letter_t letter;
  rk_loan_t loan;
  switch ((uintptr_t)argument) {
    case 0: rk_send(full, &message, RK_FOREVER); break;
    case 1: rk_reserve(full, 0, 1, RK_FOREVER, &loan); break;
    case 2: rk_receive(quiet, &out, RK_FOREVER); break;
    case 3: rk_call(quiet, &message, &out, RK_FOREVER); break;
    case 4: rk_wait(quiet, RK_FOREVER); break;
    default: rk_receive_dead_letter(runtime, &letter, MS(3000)); break;
  }
  return NULL;
}

static void lesson_19_threads_that_wait_burn_no_cpu(void) {
  rk_launch_options_t options = options_for("sink", RK_MODE_EVENT_DRIVEN);
  rk_message_t message = check_message("m", 1);
  pthread_t threads[WAITS];
  uintptr_t i;
  runtime = make_runtime(2);
  OK(rk_launch(runtime, "quiet", &options, &quiet)); /* takes calls and never answers */
  options.flags = RK_LAUNCH_SUSPENDED;
  options.input_queue_capacity = 2;
  OK(rk_launch(runtime, "full", &options, &full));
  OK(rk_send(full, &message, 0));
  OK(rk_send(full, &message, 0));
  for (i = 0; i < WAITS; i++) CHECK(pthread_create(&threads[i], NULL, wait_somehow, (void *)i) == 0);
  CHECK(a_quiet_second() < MS(20));
  OK(rk_terminate(full, RK_FOREVER));
  OK(rk_terminate(quiet, RK_FOREVER));
  for (i = 0; i < WAITS; i++) CHECK(pthread_join(threads[i], NULL) == 0);
  OK(rk_runtime_destroy(runtime));
}

static void lesson_19_persistent_kernels_that_park_burn_no_cpu(void) {
  static const uint32_t strategies[] = {RK_WAIT_AUTO, RK_WAIT_PARK};
  rk_kernel_t kernels[8];
  char id[16];
  uint32_t i;
  runtime = make_runtime(1);
  for (i = 0; i < 8; i++) {
    rk_launch_options_t options = options_for("echo", RK_MODE_PERSISTENT);
    options.wait_strategy = strategies[i % 2];
    options.grid_size = 4;
    snprintf(id, sizeof id, "idle-%u", (unsigned)i);
    OK(rk_launch(runtime, id, &options, &kernels[i]));
    CHECK(works(kernels[i]));
  }
  CHECK(a_quiet_second() < MS(20)); /* of 32 threads */
  for (i = 0; i < 8; i++) CHECK(works(kernels[i])); /* and all of them wake up */
  for (i = 0; i < 8; i++) OK(rk_deactivate(kernels[i]));
  CHECK(a_quiet_second() < MS(20));
  OK(rk_runtime_destroy(runtime));
}

/* A full output queue: the kernel is stuck with output that it keeps, and does not turn in circles. */
static rk_status_t on_burst(rk_context_t *ctx, const rk_message_t *message) {
  int i;
  for (i = 0; i < 10; i++) {
    if (rk_context_emit(ctx, message) != RK_OK) return 1;
  }
  return RK_OK;
}

static void lesson_19_a_kernel_that_is_stuck_with_its_output_burns_no_cpu(void) {
  static const uint32_t modes[] = {RK_MODE_PERSISTENT, RK_MODE_EVENT_DRIVEN};
  int i, m;
  for (m = 0; m < 2; m++) {
    rk_launch_options_t options = options_for("burst", modes[m]);
    rk_message_t out, message = check_message("m", 1);
    rk_kernel_t kernel;
    runtime = make_runtime(2);
    OK(add_program(runtime, "burst", on_burst, 0, NULL));
    options.output_queue_capacity = 2;
    OK(rk_launch(runtime, "k", &options, &kernel));
    OK(rk_send(kernel, &message, 0));
    OK(rk_send(kernel, &message, 0));
    UNTIL(metrics_of(kernel).output_queue_depth == 2);
    CHECK(a_quiet_second() < MS(20));
    for (i = 0; i < 20; i++) {
      OK(rk_receive(kernel, &out, RK_FOREVER));
      OK(rk_release(&out));
    }
    OK(rk_runtime_destroy(runtime));
  }
}

int main(int argc, char **argv) {
  fixture_unused();
  RUN(lesson_19_threads_that_wait_burn_no_cpu);
  RUN(lesson_19_persistent_kernels_that_park_burn_no_cpu);
  RUN(lesson_19_a_kernel_that_is_stuck_with_its_output_burns_no_cpu);
  return check_result();
}
