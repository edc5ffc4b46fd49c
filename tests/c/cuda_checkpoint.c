/* Checkpoints between backends, and what goes wrong with them on a device: on a GPU, or on the simulated driver. Exit code 77 where there is
 * no CUDA device. RK_TEST_HANDLERS names the handlers' file if it is not beside this one. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE /* RTLD_NOLOAD */
#endif
#include <dlfcn.h>
#include "check.h"
#include "one_handlers.h"

enum { BLOCKS = 3, BYTES = 4096 };

static char *text;
static size_t text_size;
static rk_runtime_t *runtimes[2]; /* CPU, CUDA */

/* Of the simulated driver; NULL on a real one. */
static void (*lose_device)(int code);
static void (*fail_calls)(const char *spec);
static unsigned (*calls_while_running)(void);
static size_t (*leaks)(void);
static void (*stall)(int on);
static unsigned (*calls_of)(const char *function);

static void find_simulator(void) {
  void *driver = dlopen("libcuda.so.1", RTLD_NOW | RTLD_NOLOAD);
  void *found[6] = {NULL, NULL, NULL, NULL, NULL, NULL};
  if (driver) {
    found[0] = dlsym(driver, "rksim_lose_device");
    found[1] = dlsym(driver, "rksim_fail");
    found[2] = dlsym(driver, "rksim_calls_while_running");
    found[3] = dlsym(driver, "rksim_leaks");
    found[4] = dlsym(driver, "rksim_stall");
    found[5] = dlsym(driver, "rksim_calls");
  }
  memcpy(&lose_device, &found[0], sizeof found[0]);
  memcpy(&fail_calls, &found[1], sizeof found[1]);
  memcpy(&calls_while_running, &found[2], sizeof found[2]);
  memcpy(&leaks, &found[3], sizeof found[3]);
  memcpy(&stall, &found[4], sizeof found[4]);
  memcpy(&calls_of, &found[5], sizeof found[5]);
}

static int read_handlers(void) {
  const char *path = getenv("RK_TEST_HANDLERS");
  char beside[1024];
  FILE *file;
  if (!path) {
    const char *slash = strrchr(__FILE__, '/');
    size_t folder = slash ? (size_t)(slash - __FILE__) + 1 : 0;
    if (folder + 16 > sizeof beside) return 0;
    memcpy(beside, __FILE__, folder);
    strcpy(beside + folder, "one_handlers.h");
    path = beside;
  }
  file = fopen(path, "rb");
  if (!file) return 0;
  text = (char *)malloc(1 << 20);
  text_size = text ? fread(text, 1, 1 << 20, file) : 0;
  fclose(file);
  return text_size > 0;
}

static rk_status_t create(int which, const char *name, rk_handler_fn handler, size_t state_size) {
  rk_runtime_options_t options = RK_RUNTIME_OPTIONS_INIT;
  rk_program_t program = RK_PROGRAM_INIT;
  rk_status_t status;
  options.backend = which ? RK_BACKEND_CUDA : RK_BACKEND_CPU;
  status = rk_runtime_create(&options, &runtimes[which]);
  if (status != RK_OK) return status;
  find_simulator();
  program.name = name;
  program.on_message = handler;
  program.state_size = state_size;
  if (which) {
    program.cuda_code_kind = RK_CODE_SOURCE;
    program.cuda_code = text;
    program.cuda_code_size = text_size;
  }
  return rk_program_register(runtimes[which], &program);
}

static rk_status_t launch(int which, const char *program, uint32_t mode, uint32_t flags, rk_kernel_t *out) {
  rk_launch_options_t options = RK_LAUNCH_OPTIONS_INIT;
  options.program = program;
  options.mode = mode;
  options.grid_size = BLOCKS;
  options.block_size = 64;
  options.flags = flags;
  return rk_launch(runtimes[which], "k", &options, out);
}

/* How often a block has counted, this call included; 0: no answer. */
static uint64_t count_of(rk_kernel_t kernel, uint32_t block) {
  rk_message_t reply, message = check_message("m", 1);
  one_state_t state;
  memset(&state, 0, sizeof state);
  message.block = block;
  if (rk_call(kernel, &message, &reply, MS(20000)) != RK_OK) return 0;
  if (reply.payload_size == sizeof state) memcpy(&state, reply.payload, sizeof state);
  rk_release(&reply);
  return state.block == block ? state.count : 0;
}

static void a_state_goes_from_the_cpu_to_the_device_and_back(void) {
  static unsigned char bytes[BYTES], now[BYTES];
  uint32_t from_mode, to_mode, b;
  uint64_t counted[BLOCKS];
  rk_kernel_t from, to;
  size_t size, same;
  int from_device, to_device;
  for (b = 0; b < 2; b++) OK(create((int)b, "one_count", one_count, sizeof(one_state_t)));
  for (from_device = 0; from_device < 2; from_device++) {
    for (from_mode = RK_MODE_PERSISTENT; from_mode <= RK_MODE_EVENT_DRIVEN; from_mode++) {
      OK(launch(from_device, "one_count", from_mode, 0, &from));
      for (b = 0; b < BLOCKS; b++) {
        for (counted[b] = 0; counted[b] <= b + 1; counted[b]++) CHECK(count_of(from, b) == counted[b] + 1);
      }
      OK(rk_checkpoint(from, bytes, sizeof bytes, &size));
      CHECK(count_of(from, 0) == counted[0] + 1); /* it goes on */
      OK(rk_destroy(from));
      for (to_device = 0; to_device < 2; to_device++) {
        for (to_mode = RK_MODE_PERSISTENT; to_mode <= RK_MODE_EVENT_DRIVEN; to_mode++) {
          /* Before the first message, with one on the way, and while it runs. */
          OK(launch(to_device, "one_count", to_mode, RK_LAUNCH_SUSPENDED, &to));
          OK(rk_restore(to, bytes, size));
          OK(rk_checkpoint(to, now, sizeof now, &same));
          CHECK(same == size && memcmp(bytes, now, size) == 0);
          OK(rk_activate(to));
          for (b = 0; b < BLOCKS; b++) CHECK(count_of(to, b) == counted[b] + 1);
          for (b = 0; b < BLOCKS; b++) CHECK(count_of(to, b) == counted[b] + 2);
          OK(rk_restore(to, bytes, size));
          for (b = 0; b < BLOCKS; b++) CHECK(count_of(to, b) == counted[b] + 1);
          bytes[size / 2] ^= 4;
          CHECK_STATUS(rk_restore(to, bytes, size), RK_ERR_INVALID_ARGUMENT);
          bytes[size / 2] ^= 4;
          for (b = 0; b < BLOCKS; b++) CHECK(count_of(to, b) == counted[b] + 2);
          OK(rk_destroy(to));
        }
      }
    }
  }
  for (b = 0; b < 2; b++) OK(rk_runtime_destroy(runtimes[b]));
}

static void a_checkpoint_beside_resident_kernels_waits_for_no_driver(void) {
  static unsigned char bytes[BYTES];
  unsigned before;
  rk_kernel_t kernel;
  size_t size;
  int i;
  OK(create(1, "one_count", one_count, sizeof(one_state_t)));
  OK(launch(1, "one_count", RK_MODE_PERSISTENT, 0, &kernel));
  before = calls_while_running ? calls_while_running() : 0;
  for (i = 0; i < 50; i++) {
    OK(rk_checkpoint(kernel, bytes, sizeof bytes, &size));
    OK(rk_restore(kernel, bytes, size));
  }
  if (calls_while_running) CHECK(calls_while_running() == before);
  if (!calls_while_running) printf("SKIP the count of calls: the driver is a real one\n");
  CHECK(count_of(kernel, 1) == 1);
  OK(rk_runtime_destroy(runtimes[1]));
}

static void a_large_state_goes_there_and_back(void) {
  const size_t state = (4u << 20) + 24; /* more than a chunk of memory in all, and no multiple of anything */
  unsigned char *bytes, *now;
  uint32_t mode;
  rk_kernel_t kernel;
  size_t size, i;
  for (mode = RK_MODE_PERSISTENT; mode <= RK_MODE_EVENT_DRIVEN; mode++) {
    OK(create(0, "one_count", one_count, state));
    OK(create(1, "one_count", one_count, state));
    OK(launch(0, "one_count", RK_MODE_EVENT_DRIVEN, 0, &kernel));
    CHECK(count_of(kernel, 2) == 1);
    CHECK_STATUS(rk_checkpoint(kernel, NULL, 0, &size), RK_ERR_BUFFER_TOO_SMALL);
    bytes = (unsigned char *)malloc(size);
    now = (unsigned char *)malloc(size);
    OK(rk_checkpoint(kernel, bytes, size, NULL));
    OK(launch(1, "one_count", mode, 0, &kernel));
    OK(rk_restore(kernel, bytes, size));
    CHECK(count_of(kernel, 1) == 1 && count_of(kernel, 2) == 2);
    OK(rk_checkpoint(kernel, now, size, &size));
    for (i = 192 + sizeof(one_state_t); i < 192 + state; i++) CHECK(now[i] == 0);
    OK(rk_restore(kernel, bytes, size));
    OK(rk_checkpoint(kernel, now, size, NULL));
    CHECK(memcmp(bytes, now, size) == 0);
    free(bytes);
    free(now);
    for (i = 0; i < 2; i++) OK(rk_runtime_destroy(runtimes[i]));
  }
}

static rk_kernel_t meeting;
static volatile int stop;
static volatile uint64_t met;

/* All blocks are asked to meet, one after the other: those that were asked wait inside their handlers for the others. */
static void *let_them_meet(void *argument) {
  rk_message_t message = check_message("m", 1);
  (void)argument;
  message.type = 3; /* times */
  while (!stop) {
    uint32_t b;
    for (b = 0; b < BLOCKS; b++) {
      message.block = b;
      if (rk_send(meeting, &message, MS(20000)) != RK_OK) return &meeting;
      sched_yield();
    }
    met++;
  }
  return NULL;
}

static void a_checkpoint_waits_until_blocks_that_meet_have_parted(void) {
  static unsigned char bytes[BYTES];
  rk_launch_options_t options = RK_LAUNCH_OPTIONS_INIT;
  pthread_t thread;
  void *failed;
  rk_message_t out;
  uint64_t received = 0;
  size_t size;
  int i;
  OK(create(1, "one_barrier", one_barrier, sizeof(one_state_t)));
  options.program = "one_barrier";
  options.grid_size = BLOCKS;
  options.block_size = 64;
  options.flags = RK_LAUNCH_COOPERATIVE;
  options.output_queue_capacity = 4096;
  OK(rk_launch(runtimes[1], "k", &options, &meeting));
  stop = 0;
  met = 0;
  CHECK(pthread_create(&thread, NULL, let_them_meet, NULL) == 0);
  for (i = 0; i < 100 || met < 20; i++) {
    OK(rk_checkpoint(meeting, bytes, sizeof bytes, &size));
    if (i % 2) OK(rk_restore(meeting, bytes, size));
    while (rk_receive(meeting, &out, 0) == RK_OK) {
      CHECK(out.type == 3); /* nobody was told that the barrier is broken */
      received++;
      OK(rk_release(&out));
    }
  }
  stop = 1;
  CHECK(pthread_join(thread, &failed) == 0 && failed == NULL);
  while (received < met * BLOCKS) {
    OK(rk_receive(meeting, &out, MS(20000)));
    CHECK(out.type == 3);
    received++;
    OK(rk_release(&out));
  }
  OK(rk_runtime_destroy(runtimes[1]));
}

static void a_launch_for_a_copy_that_fails_changes_nothing(void) {
  static unsigned char bytes[BYTES];
  rk_kernel_t kernel;
  size_t size;
  char said[512];
  OK(create(1, "one_count", one_count, sizeof(one_state_t)));
  if (!fail_calls) {
    printf("SKIP injected failures: the driver is a real one\n");
    OK(rk_runtime_destroy(runtimes[1]));
    return;
  }
  OK(launch(1, "one_count", RK_MODE_EVENT_DRIVEN, 0, &kernel));
  CHECK(count_of(kernel, 0) == 1);
  OK(rk_checkpoint(kernel, bytes, sizeof bytes, &size));
  CHECK(count_of(kernel, 0) == 2);
  fail_calls("cuLaunchKernel@1=2");
  CHECK_STATUS(rk_checkpoint(kernel, bytes, sizeof bytes, &size), RK_ERR_OUT_OF_MEMORY);
  rk_last_error(said, sizeof said);
  CHECK(strstr(said, "cuLaunchKernel") != NULL);
  fail_calls("cuLaunchKernel@1=2");
  CHECK_STATUS(rk_restore(kernel, bytes, size), RK_ERR_OUT_OF_MEMORY);
  fail_calls("");
  CHECK(count_of(kernel, 0) == 3);
  OK(rk_restore(kernel, bytes, size));
  CHECK(count_of(kernel, 0) == 2);
  OK(rk_runtime_destroy(runtimes[1]));
}

/* The memory that states are copied through cannot be had: nothing was held up, nothing changes. */
static void no_memory_for_a_copy_is_said(void) {
  const size_t state = 8u << 20;
  unsigned char *bytes;
  rk_kernel_t kernel;
  size_t size;
  OK(create(1, "one_count", one_count, state));
  if (!fail_calls) {
    OK(rk_runtime_destroy(runtimes[1]));
    return;
  }
  OK(launch(1, "one_count", RK_MODE_PERSISTENT, 0, &kernel));
  CHECK(count_of(kernel, 0) == 1);
  CHECK_STATUS(rk_checkpoint(kernel, NULL, 0, &size), RK_ERR_BUFFER_TOO_SMALL);
  bytes = (unsigned char *)malloc(size);
  fail_calls("cuMemHostAlloc@1=2");
  CHECK_STATUS(rk_checkpoint(kernel, bytes, size, NULL), RK_ERR_OUT_OF_MEMORY);
  fail_calls("");
  CHECK(count_of(kernel, 0) == 2);
  OK(rk_checkpoint(kernel, bytes, size, NULL));
  OK(rk_restore(kernel, bytes, size));
  CHECK(count_of(kernel, 0) == 3);
  free(bytes);
  OK(rk_runtime_destroy(runtimes[1]));
}

static void a_refused_restore_is_not_what_a_block_begins_with(void) {
  static unsigned char wrong[BYTES], right[BYTES];
  rk_launch_options_t options = RK_LAUNCH_OPTIONS_INIT;
  rk_message_t reply, message = check_message("m", 1);
  rk_kernel_status_t status = RK_KERNEL_STATUS_INIT;
  rk_kernel_t kernel;
  size_t size;
  OK(create(1, "one_mortal", one_mortal, sizeof(one_state_t)));
  if (!fail_calls) {
    OK(rk_runtime_destroy(runtimes[1]));
    return;
  }
  options.program = "one_mortal";
  options.mode = RK_MODE_EVENT_DRIVEN;
  options.restart = RK_RESTART_ON_FAILURE;
  options.restart_backoff_ns = MS(50); /* the launch that it failed in has ended by then */
  OK(rk_launch(runtimes[1], "k", &options, &kernel));
  CHECK(count_of(kernel, 0) == 1);
  OK(rk_checkpoint(kernel, wrong, sizeof wrong, &size));
  CHECK(count_of(kernel, 0) == 2 && count_of(kernel, 0) == 3);
  OK(rk_checkpoint(kernel, right, sizeof right, &size));
  message.correlation = 1;
  CHECK_STATUS(rk_call(kernel, &message, &reply, MS(20000)), RK_ERR_KERNEL_FAILED);
  do OK(rk_kernel_status(kernel, &status));
  while (status.restarts == 0);
  fail_calls("cuLaunchKernel@1=2");
  CHECK_STATUS(rk_restore(kernel, wrong, size), RK_ERR_OUT_OF_MEMORY);
  fail_calls("");
  CHECK(count_of(kernel, 0) == 4);
  OK(rk_runtime_destroy(runtimes[1]));
}

static rk_kernel_t copied;
static volatile int is_copied;
static rk_status_t copied_status;

static void *copy_it(void *argument) {
  static unsigned char bytes[BYTES];
  size_t size;
  (void)argument;
  copied_status = rk_checkpoint(copied, bytes, sizeof bytes, &size);
  is_copied = 1;
  return NULL;
}

/* A copy that takes its time holds nothing else up. */
static void who_looks_at_a_kernel_does_not_wait_for_its_copy(void) {
  rk_kernel_metrics_t metrics = RK_KERNEL_METRICS_INIT;
  rk_runtime_metrics_t totals = RK_RUNTIME_METRICS_INIT;
  pthread_t thread;
  unsigned before;
  OK(create(1, "one_count", one_count, sizeof(one_state_t)));
  if (!stall) {
    printf("SKIP copies that wait: the driver is a real one\n");
    OK(rk_runtime_destroy(runtimes[1]));
    return;
  }
  OK(launch(1, "one_count", RK_MODE_EVENT_DRIVEN, 0, &copied));
  CHECK(count_of(copied, 0) == 1);
  before = calls_of("cuLaunchKernel");
  is_copied = 0;
  stall(1);
  CHECK(pthread_create(&thread, NULL, copy_it, NULL) == 0);
  UNTIL(calls_of("cuLaunchKernel") > before);
  OK(rk_kernel_metrics(copied, &metrics));
  OK(rk_metrics(runtimes[1], &totals));
  CHECK(metrics.host_memory_used_bytes > 0 && !is_copied);
  stall(0);
  CHECK(pthread_join(thread, NULL) == 0);
  CHECK_STATUS(copied_status, RK_OK);
  CHECK(count_of(copied, 0) == 2);
  OK(rk_runtime_destroy(runtimes[1]));
}

/* A block that hangs in a copy is given up like one that hangs in a handler, and the thread that looks after all kernels does not
 * wait until the copy is. */
static void a_copy_that_hangs_is_given_up_with_its_block(void) {
  uint64_t began;
  pthread_t thread;
  unsigned before;
  int slow = check_slow();
  CHECK(setenv("RK_CUDA_HANDLER_LIMIT_MS", "100", 1) == 0);
  OK(create(1, "one_count", one_count, sizeof(one_state_t)));
  CHECK(unsetenv("RK_CUDA_HANDLER_LIMIT_MS") == 0);
  if (!stall) {
    OK(rk_runtime_destroy(runtimes[1]));
    return;
  }
  OK(launch(1, "one_count", RK_MODE_EVENT_DRIVEN, 0, &copied));
  CHECK(count_of(copied, 0) == 1);
  before = calls_of("cuLaunchKernel");
  stall(1);
  began = check_now();
  CHECK(pthread_create(&thread, NULL, copy_it, NULL) == 0);
  UNTIL(calls_of("cuLaunchKernel") > before);
  CHECK_STATUS(rk_wait(copied, MS(60000)), RK_ERR_KERNEL_FAILED);
  CHECK(slow || check_now() - began < MS(4000)); /* a copy by itself is given up after five seconds */
  CHECK(pthread_join(thread, NULL) == 0);
  CHECK(copied_status == RK_ERR_DEVICE || copied_status == RK_ERR_KERNEL_FAILED);
  stall(0);
  OK(rk_runtime_destroy(runtimes[1]));
}

/* Last: a device that is lost stays lost. */
static void a_device_that_is_lost_is_said(void) {
  static unsigned char bytes[BYTES];
  rk_status_t status;
  rk_kernel_t kernels[2];
  size_t size, i;
  OK(create(1, "one_count", one_count, sizeof(one_state_t)));
  if (!lose_device) {
    OK(rk_runtime_destroy(runtimes[1]));
    return;
  }
  for (i = 0; i < 2; i++) {
    rk_launch_options_t options = RK_LAUNCH_OPTIONS_INIT;
    options.program = "one_count";
    options.mode = i ? RK_MODE_EVENT_DRIVEN : RK_MODE_PERSISTENT;
    OK(rk_launch(runtimes[1], i ? "b" : "a", &options, &kernels[i]));
    OK(rk_checkpoint(kernels[i], bytes, sizeof bytes, &size));
  }
  lose_device(719);
  for (i = 0; i < 2; i++) {
    status = rk_checkpoint(kernels[i], bytes, sizeof bytes, &size);
    CHECK(status == RK_ERR_DEVICE || status == RK_ERR_KERNEL_FAILED);
    status = rk_restore(kernels[i], bytes, size);
    CHECK(status == RK_ERR_DEVICE || status == RK_ERR_KERNEL_FAILED);
    CHECK_STATUS(rk_wait(kernels[i], MS(20000)), RK_ERR_KERNEL_FAILED);
    CHECK_STATUS(rk_checkpoint(kernels[i], bytes, sizeof bytes, &size), RK_ERR_KERNEL_FAILED);
  }
  OK(rk_runtime_destroy(runtimes[1]));
}

int main(int argc, char **argv) {
  rk_runtime_options_t options = RK_RUNTIME_OPTIONS_INIT;
  rk_runtime_t *runtime;
  options.backend = RK_BACKEND_CUDA;
  if (!read_handlers()) {
    printf("the handlers' text cannot be read\n");
    return 2;
  }
  if (rk_runtime_create(&options, &runtime) != RK_OK) {
    printf("SKIP: no CUDA device can be opened\n");
    return 77;
  }
  if (rk_runtime_destroy(runtime) != RK_OK) return 1;
  (void)one_echo, (void)one_sink, (void)one_status, (void)one_work, (void)one_emit, (void)one_relay, (void)one_times;
  (void)one_ask, (void)one_again, (void)one_sum, (void)one_barrier, (void)one_rules, (void)one_mortal;
  check_unused();
  RUN(a_state_goes_from_the_cpu_to_the_device_and_back);
  RUN(a_checkpoint_beside_resident_kernels_waits_for_no_driver);
  RUN(a_large_state_goes_there_and_back);
  RUN(a_checkpoint_waits_until_blocks_that_meet_have_parted);
  RUN(a_launch_for_a_copy_that_fails_changes_nothing);
  RUN(no_memory_for_a_copy_is_said);
  RUN(a_refused_restore_is_not_what_a_block_begins_with);
  RUN(who_looks_at_a_kernel_does_not_wait_for_its_copy);
  RUN(a_copy_that_hangs_is_given_up_with_its_block);
  RUN(a_device_that_is_lost_is_said);
  return check_result();
}
