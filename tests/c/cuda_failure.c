/* What goes wrong on a device, and what it comes to: on a GPU, or on the simulated driver. Each test has a process of its
 * own, because a device that is lost stays lost. Needs RK_BACKEND_CUDA; exit code 77 where there is none. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE /* dlsym(RTLD_DEFAULT) */
#endif
#include <dlfcn.h>
#include "check.h"
#include <sys/wait.h>

static const char source[] =
    "static rk_status_t echo(rk_context_t *ctx, const rk_message_t *message) {\n"
    "  return rk_context_reply(ctx, message);\n"
    "}\n"
    "static rk_status_t forever(rk_context_t *ctx, const rk_message_t *message) {\n"
    "  (void)message;\n"
    "  while (rk_context_now(ctx).physical_ns != 1) {\n"
    "  }\n"
    "  return 0;\n"
    "}\n"
    "static rk_status_t slow(rk_context_t *ctx, const rk_message_t *message) {\n"
    "  const uint64_t begun = rk_context_now(ctx).physical_ns;\n"
    "  while (rk_context_now(ctx).physical_ns - begun < 200000000u) {\n"
    "  }\n"
    "  return rk_context_reply(ctx, message);\n"
    "}\n"
    "static rk_status_t wild(rk_context_t *ctx, const rk_message_t *message) {\n"
    "  *(volatile int *)(unsigned long)message->correlation = 1;\n"
    "  return rk_context_reply(ctx, message);\n"
    "}\n";

/* Of the simulated driver; NULL on a real one. */
static void (*lose_device)(int code);
static void (*fail_calls)(const char *spec);
static unsigned (*calls_while_running)(void);
static size_t (*leaks)(void);

static void find_simulator(void) {
  void *driver = dlopen("libcuda.so.1", RTLD_NOW | RTLD_NOLOAD);
  void *found[4] = {NULL, NULL, NULL, NULL};
  if (driver) {
    found[0] = dlsym(driver, "rksim_lose_device");
    found[1] = dlsym(driver, "rksim_fail");
    found[2] = dlsym(driver, "rksim_calls_while_running");
    found[3] = dlsym(driver, "rksim_leaks");
  }
  memcpy(&lose_device, &found[0], sizeof found[0]);
  memcpy(&fail_calls, &found[1], sizeof found[1]);
  memcpy(&calls_while_running, &found[2], sizeof found[2]);
  memcpy(&leaks, &found[3], sizeof found[3]);
}

static rk_runtime_t *runtime;

static rk_status_t create(uint32_t backend) {
  rk_runtime_options_t options = RK_RUNTIME_OPTIONS_INIT;
  rk_status_t status;
  options.backend = backend;
  status = rk_runtime_create(&options, &runtime);
  find_simulator();
  return status;
}

static rk_status_t add_code(const char *name, uint32_t kind, const char *code, size_t size) {
  rk_program_t program = RK_PROGRAM_INIT;
  program.name = name;
  program.state_size = 64;
  program.cuda_code_kind = kind;
  program.cuda_code = code;
  program.cuda_code_size = size;
  return rk_program_register(runtime, &program);
}

static rk_status_t add(const char *name) { return add_code(name, RK_CODE_SOURCE, source, sizeof source - 1); }

static rk_status_t launch(const char *id, rk_kernel_t *kernel) {
  rk_launch_options_t options = RK_LAUNCH_OPTIONS_INIT;
  options.program = id;
  options.block_size = 32;
  return rk_launch(runtime, id, &options, kernel);
}

/* A kernel of its own shape: blocks with so many KiB of shared memory. Not launched: a zeroed handle. */
static rk_kernel_t launch_as(rk_runtime_t *on, const char *program, uint32_t number, uint32_t mode, uint32_t kib) {
  rk_launch_options_t options = RK_LAUNCH_OPTIONS_INIT;
  rk_kernel_t kernel;
  char id[32];
  memset(&kernel, 0, sizeof kernel);
  snprintf(id, sizeof id, "%s-%u", program, (unsigned)number);
  options.program = program;
  options.mode = mode;
  options.block_size = 32;
  options.shared_memory_size = kib * 1024;
  options.input_queue_capacity = options.output_queue_capacity = 16;
  rk_launch(on, id, &options, &kernel);
  return kernel;
}

static int works(rk_kernel_t kernel) {
  rk_message_t reply, request = check_message("well?", 5);
  if (rk_call(kernel, &request, &reply, MS(20000)) != RK_OK) return 0;
  return reply.payload_size == 5 && memcmp(reply.payload, "well?", 5) == 0 && rk_release(&reply) == RK_OK;
}

static uint32_t state_of(rk_kernel_t kernel) {
  uint32_t state = 99;
  rk_kernel_state(kernel, &state);
  return state;
}

static int says(const char *text) {
  char said[4096];
  rk_last_error(said, sizeof said);
  if (strstr(said, text)) return 1;
  printf("not in it: %s\n%s\n", text, said);
  return 0;
}

static void what_is_unregistered_is_unloaded_and_a_name_is_checked_first(void) {
  rk_kernel_t echo;
  size_t before = 0;
  int i;
  OK(create(RK_BACKEND_CUDA));
  OK(add("echo"));
  OK(add("wild"));
  OK(rk_program_unregister(runtime, "wild"));
  if (leaks) before = leaks();
  for (i = 0; i < 10; i++) {
    OK(add("wild"));
    OK(rk_program_unregister(runtime, "wild"));
  }
  if (leaks) CHECK(leaks() == before);
  if (!leaks) printf("SKIP the count of what is loaded: the driver is a real one\n");
  OK(launch("echo", &echo));
  CHECK_STATUS(add("echo"), RK_ERR_ALREADY_EXISTS);
  CHECK_STATUS(add("forever"), RK_ERR_INVALID_STATE); /* beside a resident kernel */
  CHECK(works(echo));
  OK(rk_runtime_destroy(runtime));
}

/* lesson 33: a handler that never ends is known by name, its kernel fails, the others go on. */
static void lesson_33_a_hung_handler_fails_its_kernel_and_no_other(void) {
  rk_kernel_t stuck, echo;
  rk_message_t reply, message = check_message("x", 1);
  rk_kernel_status_t status = RK_KERNEL_STATUS_INIT;
  uint64_t start;
  setenv("RK_CUDA_HANDLER_LIMIT_MS", "1000", 1);
  OK(create(RK_BACKEND_CUDA));
  OK(add("forever"));
  OK(add("echo"));
  OK(launch("forever", &stuck));
  OK(launch("echo", &echo));
  CHECK(works(echo));
  start = check_now();
  CHECK_STATUS(rk_call(stuck, &message, &reply, MS(20000)), RK_ERR_KERNEL_FAILED);
  CHECK(check_now() - start > MS(900) && check_now() - start < MS(8000));
  CHECK(state_of(stuck) == RK_STATE_FAILED);
  OK(rk_kernel_status(stuck, &status));
  CHECK(status.last_error == RK_ERR_DEVICE);
  CHECK_STATUS(rk_send(stuck, &message, 0), RK_ERR_KERNEL_FAILED);
  CHECK(works(echo));
  OK(rk_terminate(stuck, MS(1000)));
  CHECK(state_of(stuck) == RK_STATE_TERMINATED);
  CHECK(works(echo));
  OK(rk_destroy(echo));
  OK(rk_destroy(stuck));
  start = check_now();
  OK(rk_runtime_destroy(runtime));
  CHECK(check_now() - start < MS(8000));
}

/* Kernels that are launched for each batch take streams in turn. A handler that hangs keeps the one that it has; the others go on. */
static void a_hung_handler_takes_no_others_stream(void) {
  enum { MANY = 60 };
  rk_kernel_t stuck, others[MANY];
  rk_message_t message = check_message("x", 1);
  rk_runtime_t *other;
  unsigned waited = 0;
  int i, round;
  setenv("RK_CUDA_HANDLER_LIMIT_MS", "1000", 1);
  OK(create(RK_BACKEND_CUDA));
  OK(add("echo"));
  others[0] = launch_as(runtime, "echo", 0, RK_MODE_EVENT_DRIVEN, 0);
  CHECK(works(others[0]));
  other = runtime;
  OK(create(RK_BACKEND_CUDA));
  OK(add("forever"));
  OK(add("echo"));
  for (i = 0; i < MANY / 2; i++) {
    others[i] = launch_as(runtime, "echo", (uint32_t)i, RK_MODE_EVENT_DRIVEN, 0);
    CHECK(works(others[i]));
  }
  stuck = launch_as(runtime, "forever", 0, RK_MODE_EVENT_DRIVEN, 0);
  OK(rk_send(stuck, &message, 0));
  UNTIL(state_of(stuck) == RK_STATE_FAILED);
  for (i = MANY / 2; i < MANY; i++) others[i] = launch_as(runtime, "echo", (uint32_t)i, RK_MODE_EVENT_DRIVEN, 0);
  for (round = 0; round < 2; round++) {
    for (i = 0; i < MANY; i++) CHECK(works(others[i]));
  }
  for (i = 0; i < MANY; i++) OK(rk_destroy(others[i]));
  OK(rk_terminate(stuck, MS(1000)));
  OK(rk_destroy(stuck));
  OK(rk_runtime_destroy(runtime));
  /* What another runtime has is not freed any more: that would wait for the handler. */
  if (calls_while_running) waited = calls_while_running();
  OK(rk_runtime_destroy(other));
  if (calls_while_running) CHECK(calls_while_running() == waited);
}

/* With one stream for launches: who waits for it is not hung, can be copied, and more can be launched meanwhile; who has it for ever leaves
 * the others none, and they are told. */
static void who_waits_for_a_stream_is_not_hung(void) {
  enum { SLOW = 12 }; /* of 200 ms: a launch of 2.4 s */
  rk_kernel_t slow, echo, more, copied, stuck;
  rk_message_t reply, message = check_message("well?", 5);
  unsigned char bytes[4096];
  uint64_t start;
  size_t size = 0;
  int i;
  setenv("RK_CUDA_HANDLER_LIMIT_MS", "1000", 1);
  setenv("RK_CUDA_STREAMS", "1", 1);
  OK(create(RK_BACKEND_CUDA));
  OK(add("slow"));
  OK(add("echo"));
  OK(add("forever"));
  slow = launch_as(runtime, "slow", 0, RK_MODE_EVENT_DRIVEN, 0);
  echo = launch_as(runtime, "echo", 0, RK_MODE_EVENT_DRIVEN, 0);
  copied = launch_as(runtime, "echo", 1, RK_MODE_EVENT_DRIVEN, 0);
  CHECK(works(echo) && works(copied));
  for (i = 0; i < SLOW; i++) OK(rk_send(slow, &message, RK_FOREVER));
  OK(rk_receive(slow, &reply, MS(20000))); /* its launch has the stream from now on */
  OK(rk_release(&reply));
  start = check_now();
  more = launch_as(runtime, "echo", 2, RK_MODE_EVENT_DRIVEN, 0);
  CHECK(more.id != 0 && check_now() - start < MS(1500));
  OK(rk_deactivate(copied));
  OK(rk_checkpoint(copied, bytes, sizeof bytes, &size));
  CHECK(works(echo) && works(more));
  OK(rk_activate(copied));
  CHECK(works(copied) && state_of(slow) == RK_STATE_ACTIVE && state_of(echo) == RK_STATE_ACTIVE);
  for (i = 1; i < SLOW; i++) {
    OK(rk_receive(slow, &reply, MS(20000)));
    OK(rk_release(&reply));
  }
  stuck = launch_as(runtime, "forever", 0, RK_MODE_EVENT_DRIVEN, 0);
  CHECK_STATUS(rk_call(stuck, &message, &reply, MS(20000)), RK_ERR_KERNEL_FAILED);
  CHECK_STATUS(rk_call(echo, &message, &reply, MS(20000)), RK_ERR_KERNEL_FAILED);
  CHECK(state_of(echo) == RK_STATE_FAILED);
  OK(rk_runtime_destroy(runtime));
}

/* Nobody looks at an idle kernel: the time until its next message is not a handler's. */
static void an_idle_kernel_is_not_hung(void) {
  rk_kernel_t short_one, resident;
  int i;
  setenv("RK_CUDA_HANDLER_LIMIT_MS", "300", 1);
  OK(create(RK_BACKEND_CUDA));
  OK(add("echo"));
  short_one = launch_as(runtime, "echo", 0, RK_MODE_EVENT_DRIVEN, 0);
  for (i = 0; i < 8; i++) {
    CHECK(works(short_one));
    check_sleep_ms(600);
  }
  resident = launch_as(runtime, "echo", 1, RK_MODE_PERSISTENT, 0);
  for (i = 0; i < 4; i++) {
    CHECK(works(short_one) && works(resident));
    check_sleep_ms(600);
  }
  OK(rk_runtime_destroy(runtime));
}

/* A launch ends with its last block: the others stand still meanwhile. */
static void a_block_beside_one_that_works_is_not_hung(void) {
  enum { MESSAGES = 10 }; /* of 200 ms each */
  rk_launch_options_t options = RK_LAUNCH_OPTIONS_INIT;
  rk_kernel_t kernel;
  rk_message_t reply, message = check_message("well?", 5);
  int i;
  setenv("RK_CUDA_HANDLER_LIMIT_MS", "800", 1);
  OK(create(RK_BACKEND_CUDA));
  OK(add("slow"));
  options.mode = RK_MODE_EVENT_DRIVEN;
  options.grid_size = 2;
  options.block_size = 32;
  options.program = "slow";
  OK(rk_launch(runtime, "two", &options, &kernel));
  message.block = 1;
  for (i = 0; i < MESSAGES; i++) OK(rk_send(kernel, &message, RK_FOREVER));
  for (i = 0; i < MESSAGES; i++) {
    OK(rk_receive(kernel, &reply, MS(20000)));
    OK(rk_release(&reply));
  }
  CHECK(state_of(kernel) == RK_STATE_ACTIVE);
  OK(rk_runtime_destroy(runtime));
}

/* A handler that takes longer than the limit fails its kernel; when it ends after all, its stream is there again. */
static void a_stream_comes_back_from_a_slow_handler(void) {
  rk_kernel_t slow, echo;
  rk_message_t reply, message = check_message("well?", 5);
  setenv("RK_CUDA_HANDLER_LIMIT_MS", "100", 1);
  setenv("RK_CUDA_STREAMS", "1", 1);
  OK(create(RK_BACKEND_CUDA));
  OK(add("slow"));
  OK(add("echo"));
  slow = launch_as(runtime, "slow", 0, RK_MODE_EVENT_DRIVEN, 0);
  CHECK_STATUS(rk_call(slow, &message, &reply, MS(20000)), RK_ERR_KERNEL_FAILED);
  check_sleep_ms(1000); /* it takes 200 */
  echo = launch_as(runtime, "echo", 0, RK_MODE_EVENT_DRIVEN, 0);
  CHECK(works(echo));
  OK(rk_runtime_destroy(runtime));
}

/* Streams are there before anything is resident: a driver makes only some beside that. Another runtime has the same ones. */
static void streams_are_made_before_anything_is_resident(void) {
  enum { POOLS = 12, SHORT = 40 };
  rk_kernel_t pools[POOLS], shorts[SHORT], none;
  rk_runtime_t *first, *second;
  rk_program_t program = RK_PROGRAM_INIT;
  unsigned waited = 0;
  int i;
  setenv("RK_CUDA_POOL_BLOCKS", "1", 1);
  setenv("RK_CUDA_STREAMS", "12", 1);
  OK(create(RK_BACKEND_CUDA));
  OK(add("echo"));
  first = runtime;
  OK(create(RK_BACKEND_CUDA));
  second = runtime;
  runtime = first;
  program.name = "echo";
  program.cuda_code_kind = RK_CODE_SOURCE;
  program.cuda_code = source;
  program.cuda_code_size = sizeof source - 1;
  OK(rk_program_register(second, &program));
  for (i = 0; i < POOLS; i++) {
    pools[i] = launch_as(first, "echo", (uint32_t)i, RK_MODE_PERSISTENT, (uint32_t)i);
    CHECK(works(pools[i]));
  }
  /* No stream is left for one more, of either; for launches there are others, which more kernels share than there are. */
  none = launch_as(first, "echo", POOLS, RK_MODE_PERSISTENT, POOLS);
  CHECK(none.id == 0 && says("RK_CUDA_STREAMS"));
  none = launch_as(second, "echo", POOLS, RK_MODE_PERSISTENT, 0);
  CHECK(none.id == 0 && says("RK_CUDA_STREAMS"));
  for (i = 0; i < SHORT; i++) {
    shorts[i] = launch_as(i % 2 ? first : second, "echo", (uint32_t)(100 + i), RK_MODE_EVENT_DRIVEN, 0);
    CHECK(works(shorts[i]));
  }
  for (i = 0; i < SHORT; i++) CHECK(works(shorts[i]) && works(pools[i % POOLS]));
  /* What ends leaves its stream to others. */
  OK(rk_destroy(pools[0]));
  do {
    none = launch_as(second, "echo", POOLS, RK_MODE_PERSISTENT, 0);
    if (none.id == 0) CHECK(says("RK_CUDA_STREAMS"));
  } while (none.id == 0);
  CHECK(works(none));
  for (i = 0; i < SHORT; i++) CHECK(works(shorts[i]));
  /* In one runtime at once, also if its handle is still there. */
  OK(rk_terminate(pools[1], MS(5000)));
  pools[0] = launch_as(first, "echo", POOLS + 1, RK_MODE_PERSISTENT, POOLS + 1);
  CHECK(pools[0].id != 0 && works(pools[0]));
  /* The runtime that made them ends first. What it has stays: to free it would wait for what is resident, for ever. */
  if (calls_while_running) waited = calls_while_running();
  OK(rk_runtime_destroy(first));
  if (calls_while_running) CHECK(calls_while_running() == waited);
  CHECK(works(none) && works(shorts[0]));
  OK(rk_runtime_destroy(second));
  if (leaks) CHECK(leaks() == 0);
}

static void a_lost_device_is_said_by_every_call(void) {
  rk_kernel_t wild, echo, none;
  rk_message_t reply, message = check_message("x", 1);
  rk_launch_options_t cpu_options = RK_LAUNCH_OPTIONS_INIT;
  rk_status_t status;
  uint64_t start;
  OK(create(RK_BACKEND_CUDA));
  OK(add("wild"));
  OK(add("echo"));
  OK(launch("wild", &wild));
  OK(launch("echo", &echo));
  CHECK(works(echo));
  if (lose_device) lose_device(700);
  message.correlation = 64; /* an address that is nobody's */
  start = check_now();
  status = lose_device ? rk_call(echo, &message, &reply, MS(20000)) : rk_call(wild, &message, &reply, MS(20000));
  CHECK(status == RK_ERR_KERNEL_FAILED);
  CHECK(check_now() - start < MS(8000));
  UNTIL(state_of(echo) == RK_STATE_FAILED);
  /* Kernels have failed, and say why; the runtime has lost its device. */
  CHECK_STATUS(rk_send(echo, &message, 0), RK_ERR_KERNEL_FAILED);
  CHECK(rk_last_backend_code() >= 700 && rk_last_backend_code() < 720 && says("kernel \"echo\" has failed: a kernel on the device"));
  CHECK_STATUS(rk_call(wild, &message, &reply, MS(20000)), RK_ERR_KERNEL_FAILED);
  CHECK_STATUS(rk_deactivate(wild), RK_ERR_KERNEL_FAILED);
  CHECK_STATUS(rk_launch(runtime, "echo-2", &cpu_options, &none), RK_ERR_DEVICE);
  CHECK(rk_last_backend_code() >= 700);
  CHECK_STATUS(add("forever"), RK_ERR_DEVICE);
  start = check_now();
  OK(rk_runtime_destroy(runtime));
  CHECK(check_now() - start < MS(8000));
  /* The process goes on. */
  OK(create(RK_BACKEND_CPU));
  OK(rk_runtime_destroy(runtime));
}

static void lesson_32_a_grid_that_does_not_fit_is_refused_with_numbers(void) {
  rk_launch_options_t options = RK_LAUNCH_OPTIONS_INIT;
  rk_kernel_t kernel, echo;
  uint64_t start = check_now();
  OK(create(RK_BACKEND_CUDA));
  OK(add("echo"));
  OK(launch("echo", &echo));
  options.program = "echo";
  options.grid_size = 65536;
  options.input_queue_capacity = 2;
  CHECK_STATUS(rk_launch(runtime, "large", &options, &kernel), RK_ERR_NOT_RESIDENT);
  CHECK(says("65536") && says("large") && says("multiprocessors") && says("echo"));
  CHECK(check_now() - start < MS(20000));
  CHECK_STATUS(rk_get(runtime, "large", &kernel), RK_ERR_NOT_FOUND);
  CHECK(works(echo));
  options.grid_size = 2;
  OK(rk_launch(runtime, "large", &options, &kernel));
  CHECK(works(kernel));
  OK(rk_runtime_destroy(runtime));
  CHECK(!leaks || leaks() == 0);
}

static void code_that_is_no_code_is_a_compile_error_with_the_users_line(void) {
  static const char wrong[] = "static rk_status_t bad(rk_context_t *ctx, const rk_message_t *message) {\n"
                              "  return RK_OK;\n"
                              "}\n"
                              "this is line four;\n";
  static const char nothing[] = "static int unrelated;\n";
  char said[4096];
  static const char garbage[64] = "\177ELF, but only so far";
  rk_kernel_t kernel;
  OK(create(RK_BACKEND_CUDA));
  CHECK_STATUS(add_code("bad", RK_CODE_SOURCE, wrong, sizeof wrong - 1), RK_ERR_COMPILE);
  rk_last_error(said, sizeof said);
  /* As NVRTC says it, and as the simulated one does. */
  CHECK(strstr(said, "bad.cu(4)") || strstr(said, "bad.cu:4"));
  CHECK_STATUS(add_code("nothing", RK_CODE_SOURCE, nothing, sizeof nothing - 1), RK_ERR_COMPILE);
  CHECK(says("nothing"));
  CHECK_STATUS(add_code("cubin", RK_CODE_CUBIN, garbage, sizeof garbage), RK_ERR_COMPILE);
  CHECK(rk_last_backend_code() != 0);
  CHECK_STATUS(add_code("ptx", RK_CODE_PTX, ".version nonsense", 17), RK_ERR_COMPILE);
  CHECK_STATUS(add_code("not-a-name", RK_CODE_SOURCE, source, sizeof source - 1), RK_ERR_INVALID_ARGUMENT);
  CHECK(says("cuda_handler"));
  /* Nothing of it was registered, and the next one is fine. */
  CHECK_STATUS(launch("bad", &kernel), RK_ERR_NOT_FOUND);
  OK(add("echo"));
  OK(launch("echo", &kernel));
  CHECK(works(kernel));
  OK(rk_runtime_destroy(runtime));
  CHECK(!leaks || leaks() == 0);
}

static void what_the_device_has_not_is_refused(void) {
  rk_launch_options_t options = RK_LAUNCH_OPTIONS_INIT;
  rk_kernel_t kernel;
  rk_program_t host_only = RK_PROGRAM_INIT;
  rk_status_t status;
  OK(create(RK_BACKEND_CUDA));
  OK(add("echo"));
  options.program = "echo";
  options.shared_memory_size = 64u << 20;
  CHECK_STATUS(rk_launch(runtime, "a", &options, &kernel), RK_ERR_INVALID_ARGUMENT);
  options.shared_memory_size = 0;
  options.block_size = 1025;
  CHECK_STATUS(rk_launch(runtime, "a", &options, &kernel), RK_ERR_INVALID_ARGUMENT);
  options.block_size = 33;
  OK(rk_launch(runtime, "a", &options, &kernel));
  CHECK(works(kernel));
  OK(rk_destroy(kernel));
  options.block_size = 1;
  OK(rk_launch(runtime, "a", &options, &kernel));
  CHECK(works(kernel));
  OK(rk_destroy(kernel));
  options.block_size = 0;
  /* lesson 20: memory that cannot be had. */
  options.payload_size_max = 1u << 30;
  options.input_queue_capacity = 1u << 20;
  status = rk_launch(runtime, "a", &options, &kernel);
  CHECK(status == RK_ERR_OUT_OF_MEMORY);
  options.payload_size_max = 0;
  options.input_queue_capacity = 0;
  OK(rk_launch(runtime, "a", &options, &kernel));
  CHECK(works(kernel));
  host_only.name = "host";
  host_only.on_message = (rk_handler_fn)NULL;
  CHECK_STATUS(rk_program_register(runtime, &host_only), RK_ERR_INVALID_ARGUMENT);
  OK(rk_runtime_destroy(runtime));
  CHECK(!leaks || leaks() == 0);
}

/* lesson 31: what is done beside a resident kernel makes no call that could wait for it. */
static void lesson_31_the_control_path_makes_no_cuda_call(void) {
  rk_kernel_t first, second;
  rk_launch_options_t options = RK_LAUNCH_OPTIONS_INIT;
  rk_kernel_metrics_t metrics = RK_KERNEL_METRICS_INIT;
  unsigned before;
  int i;
  OK(create(RK_BACKEND_CUDA));
  OK(add("echo"));
  OK(launch("echo", &first));
  CHECK(works(first));
  before = calls_while_running ? calls_while_running() : 0;
  options.program = "echo";
  options.block_size = 32;
  for (i = 0; i < 10; i++) {
    OK(rk_launch(runtime, "second", &options, &second));
    CHECK(works(second));
    OK(rk_deactivate(second));
    OK(rk_activate(second));
    OK(rk_kernel_metrics(second, &metrics));
    CHECK(metrics.gpu_launched == 1 && metrics.gpu_memory_used_bytes > 0);
    OK(rk_terminate(second, MS(20000)));
    OK(rk_destroy(second));
  }
  if (calls_while_running) CHECK(calls_while_running() == before);
  if (!calls_while_running) printf("SKIP the count of calls: the driver is a real one\n");
  OK(rk_runtime_destroy(runtime));
  CHECK(!leaks || leaks() == 0);
}

/* lesson 31: code is not loaded beside a resident kernel, which the driver would wait for. */
static void lesson_31_code_is_not_loaded_beside_a_resident_kernel(void) {
  rk_kernel_t kernel;
  OK(create(RK_BACKEND_CUDA));
  OK(add("echo"));
  OK(launch("echo", &kernel));
  CHECK_STATUS(add("wild"), RK_ERR_INVALID_STATE);
  CHECK(says("register programs before the first launch"));
  CHECK(works(kernel));
  OK(rk_destroy(kernel));
  OK(add("wild"));
  OK(rk_runtime_destroy(runtime));
  CHECK(!leaks || leaks() == 0);
}

/* lesson 17: a process that ends with kernels resident ends. */
static void lesson_17_the_process_ends_with_kernels_resident(void) {
  rk_kernel_t kernel;
  OK(create(RK_BACKEND_CUDA));
  OK(add("echo"));
  OK(launch("echo", &kernel));
  CHECK(works(kernel));
}

static void one_kernel_after_another_leaves_nothing(void) {
  rk_kernel_t kernel;
  int i;
  OK(create(RK_BACKEND_CUDA));
  OK(add("echo"));
  for (i = 0; i < 20; i++) {
    OK(launch("echo", &kernel));
    CHECK(works(kernel));
    OK(rk_destroy(kernel));
  }
  OK(rk_runtime_destroy(runtime));
  CHECK(!leaks || leaks() == 0);
}

/* Every call of the driver that a launch makes, or a runtime for launches, failing once: a clean status, nothing left, and the next one works. */
static void a_call_that_fails_once_leaves_nothing(void) {
  static const char *const calls[] = {"cuMemAlloc_v2",  "cuMemHostAlloc",      "cuMemHostGetDevicePointer_v2",
                                      "cuStreamCreateWithPriority", "cuLaunchCooperativeKernel", "cuModuleLoadDataEx",
                                      "cuModuleGetFunction",        "cuFuncGetAttribute",
                                      "cuOccupancyMaxActiveBlocksPerMultiprocessor"};
  size_t i, nth;
  OK(create(RK_BACKEND_CUDA));
  if (!fail_calls) {
    printf("SKIP injected failures: the driver is a real one\n");
    OK(rk_runtime_destroy(runtime));
    return;
  }
  OK(rk_runtime_destroy(runtime));
  for (i = 0; i < sizeof calls / sizeof *calls; i++) {
    for (nth = 1; nth <= 3; nth++) {
      char spec[128];
      rk_kernel_t kernel;
      rk_status_t status;
      snprintf(spec, sizeof spec, "%s@%u=2", calls[i], (unsigned)nth);
      fail_calls(spec);
      status = create(RK_BACKEND_CUDA);
      if (status != RK_OK) { /* its streams */
        CHECK(i == 3 && status == RK_ERR_OUT_OF_MEMORY && rk_last_backend_code() == 2 && leaks() == 0);
        fail_calls("");
        OK(create(RK_BACKEND_CUDA));
      }
      CHECK((status != RK_OK) == (i == 3));
      if (status == RK_OK) status = add("echo");
      if (status == RK_OK) status = launch("echo", &kernel);
      if (nth == 1) CHECK_STATUS(status, RK_ERR_OUT_OF_MEMORY);
      if (status != RK_OK) CHECK(rk_last_backend_code() == 2 && says("CUDA_ERROR_OUT_OF_MEMORY"));
      fail_calls("");
      if (status != RK_OK) {
        rk_status_t again = add("echo");
        CHECK(again == RK_OK || again == RK_ERR_ALREADY_EXISTS);
        OK(launch("echo", &kernel));
      }
      CHECK(works(kernel));
      OK(rk_runtime_destroy(runtime));
      CHECK(leaks() == 0);
    }
  }
}

/* ECC and its like: found by the look at the device. */
static int lost_code;

static void a_device_that_fails_while_it_runs_is_dead_at_once(void) {
  rk_kernel_t kernel, none;
  rk_loan_t loan, other;
  rk_message_t message = check_message("x", 1);
  rk_launch_options_t options = RK_LAUNCH_OPTIONS_INIT;
  uint64_t start;
  OK(create(RK_BACKEND_CUDA));
  if (!lose_device) {
    printf("SKIP injected failures: the driver is a real one\n");
    OK(rk_runtime_destroy(runtime));
    return;
  }
  OK(add("echo"));
  OK(launch("echo", &kernel));
  CHECK(works(kernel));
  OK(rk_reserve(kernel, 0, 1, 0, &loan));
  OK(rk_reserve(kernel, 0, 1, 0, &other));
  start = check_now();
  lose_device(lost_code);
  CHECK_STATUS(rk_wait(kernel, MS(20000)), RK_ERR_KERNEL_FAILED);
  CHECK(check_now() - start < MS(2000) && state_of(kernel) == RK_STATE_FAILED);
  CHECK_STATUS(rk_send(kernel, &message, 0), RK_ERR_KERNEL_FAILED);
  CHECK(rk_last_backend_code() == lost_code);
  CHECK_STATUS(rk_launch(runtime, "echo", &options, &none), RK_ERR_DEVICE);
  CHECK(rk_last_backend_code() == lost_code);
  OK(rk_terminate(kernel, MS(1000)));
  /* A loan that was open is settled by either. */
  CHECK_STATUS(rk_commit(&loan, &message, 1), RK_ERR_TERMINATED);
  CHECK(loan.lease == 0);
  OK(rk_abort(&other));
  CHECK(other.lease == 0);
  OK(rk_destroy(kernel));
  OK(rk_runtime_destroy(runtime));
}

/* Runs a test in a process of its own, which nothing was used in before. */
static int apart(int argc, char **argv, const char *name, void (*test)(void)) {
  pid_t child;
  int status = 0;
  if (argc > 1 && strcmp(argv[1], name) != 0) return -1;
  fflush(stdout);
  child = fork();
  if (child == 0) {
    check_begin(1, argv, name);
    test();
    check_end();
    exit(check_failed != 0);
  }
  if (child < 0 || waitpid(child, &status, 0) != child) return 0;
  if (WIFEXITED(status) && WEXITSTATUS(status) == 0) return 1;
  printf("FAILED %s (%s %d)\n", name, WIFEXITED(status) ? "exit code" : "signal",
         WIFEXITED(status) ? WEXITSTATUS(status) : WTERMSIG(status));
  return 0;
}

static int is_there(void) {
  pid_t child = fork();
  int status = 1;
  if (child == 0) _exit(create(RK_BACKEND_CUDA) == RK_OK ? 0 : 1);
  return child > 0 && waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

int main(int argc, char **argv) {
  /* ECC, an illegal address, a launch failure, unknown, and a code that this library has no name for. */
  static const int codes[] = {214, 700, 719, 999, 12345};
  size_t i;
  int failed = 0, passed = 0;
#define APART(test)                                 \
  do {                                              \
    int result_ = apart(argc, argv, #test, test);   \
    passed += result_ == 1;                         \
    failed += result_ == 0;                         \
  } while (0)
  if (!is_there()) {
    printf("SKIP: no CUDA device can be opened\n");
    return 77;
  }
  APART(code_that_is_no_code_is_a_compile_error_with_the_users_line);
  APART(what_the_device_has_not_is_refused);
  APART(lesson_32_a_grid_that_does_not_fit_is_refused_with_numbers);
  APART(lesson_31_the_control_path_makes_no_cuda_call);
  APART(lesson_31_code_is_not_loaded_beside_a_resident_kernel);
  APART(what_is_unregistered_is_unloaded_and_a_name_is_checked_first);
  APART(one_kernel_after_another_leaves_nothing);
  APART(a_call_that_fails_once_leaves_nothing);
  APART(lesson_33_a_hung_handler_fails_its_kernel_and_no_other);
  APART(a_hung_handler_takes_no_others_stream);
  APART(who_waits_for_a_stream_is_not_hung);
  APART(an_idle_kernel_is_not_hung);
  APART(a_block_beside_one_that_works_is_not_hung);
  APART(a_stream_comes_back_from_a_slow_handler);
  APART(streams_are_made_before_anything_is_resident);
  APART(a_lost_device_is_said_by_every_call);
  for (i = 0; i < sizeof codes / sizeof *codes; i++) {
    lost_code = codes[i];
    APART(a_device_that_fails_while_it_runs_is_dead_at_once);
  }
  APART(lesson_17_the_process_ends_with_kernels_resident);
  check_unused();
  printf("%d passed, %d failed\n", passed, failed);
  return failed != 0;
}
