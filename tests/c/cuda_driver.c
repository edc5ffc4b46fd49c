/* Drivers as they are found: cuda_driver none|no-device|ancient|old|weak|watchdog|crowded, each in the surroundings that tests/cuda/run.sh
 * makes for it. */
#include "check.h"

static const char source[] =
    "static rk_status_t echo(rk_context_t *ctx, const rk_message_t *message) { return rk_context_reply(ctx, message); }\n";

static char logged[4096];

static void keep_log(uint32_t level, const char *message, void *user_data) {
  (void)level;
  (void)user_data;
  if (strlen(logged) + strlen(message) + 2 < sizeof logged) strcat(strcat(logged, message), "\n");
}

static int says(const char *text) {
  char said[4096];
  rk_last_error(said, sizeof said);
  if (strstr(said, text)) return 1;
  printf("not in it: %s\n%s\n", text, said);
  return 0;
}

static rk_status_t on_echo(rk_context_t *ctx, const rk_message_t *message) { return rk_context_reply(ctx, message); }

static rk_status_t create(uint32_t backend, uint32_t ordinal, rk_runtime_t **runtime) {
  rk_runtime_options_t options = RK_RUNTIME_OPTIONS_INIT;
  options.backend = backend;
  options.device_index = ordinal;
  return rk_runtime_create(&options, runtime);
}

static rk_status_t add(rk_runtime_t *runtime) {
  rk_program_t program = RK_PROGRAM_INIT;
  program.name = "echo";
  program.on_message = on_echo;
  program.cuda_code_kind = RK_CODE_SOURCE;
  program.cuda_code = source;
  program.cuda_code_size = sizeof source - 1;
  return rk_program_register(runtime, &program);
}

static int works(rk_kernel_t kernel) {
  rk_message_t reply, request = check_message("well?", 5);
  if (rk_call(kernel, &request, &reply, MS(20000)) != RK_OK) return 0;
  return reply.payload_size == 5 && memcmp(reply.payload, "well?", 5) == 0 && rk_release(&reply) == RK_OK;
}

static rk_status_t expected;
static int32_t expected_code;
static const char *expected_text;

/* lesson 20: without a usable device CUDA says so and AUTO is the CPU, where the same program runs. */
static void lesson_20_there_is_no_cuda_and_the_cpu_does_it(void) {
  rk_runtime_t *runtime;
  rk_kernel_t kernel;
  uint32_t backend = 0;
  bool available = true;
  CHECK_STATUS(create(RK_BACKEND_CUDA, 0, &runtime), expected);
  CHECK(says(expected_text) && rk_last_backend_code() == expected_code);
  OK(rk_set_logger(keep_log, NULL, RK_LOG_INFO));
  OK(create(RK_BACKEND_AUTO, 0, &runtime));
  OK(rk_set_logger(NULL, NULL, 0));
  CHECK(strstr(logged, "the backend is the CPU") && strstr(logged, expected_text));
  OK(rk_runtime_backend(runtime, &backend));
  OK(rk_runtime_is_backend_available(runtime, RK_BACKEND_CUDA, &available));
  CHECK(backend == RK_BACKEND_CPU && !available);
  OK(add(runtime));
  OK(rk_launch(runtime, "echo", NULL, &kernel));
  CHECK(works(kernel));
  OK(rk_runtime_destroy(runtime));
}

static void the_device_works(void) {
  rk_runtime_t *runtime;
  rk_kernel_t kernel;
  uint32_t backend = 0;
  bool available = false;
  CHECK_STATUS(create(RK_BACKEND_CUDA, 7, &runtime), RK_ERR_NO_DEVICE);
  CHECK(says("device 7"));
  OK(create(RK_BACKEND_AUTO, 0, &runtime));
  OK(rk_runtime_backend(runtime, &backend));
  OK(rk_runtime_is_backend_available(runtime, RK_BACKEND_CUDA, &available));
  CHECK(backend == RK_BACKEND_CUDA && available && rk_has_feature("cuda"));
  OK(add(runtime));
  OK(rk_launch(runtime, "echo", NULL, &kernel));
  CHECK(works(kernel));
  OK(rk_runtime_destroy(runtime));
  OK(create(RK_BACKEND_CPU, 0, &runtime));
  OK(rk_runtime_is_backend_available(runtime, RK_BACKEND_CUDA, &available));
  CHECK(available);
  OK(rk_runtime_destroy(runtime));
}

static void lesson_31_code_that_is_loaded_lazily_is_warned_of(void) {
  rk_runtime_t *runtime;
  OK(rk_set_logger(keep_log, NULL, RK_LOG_WARN));
  OK(create(RK_BACKEND_CUDA, 0, &runtime));
  OK(rk_set_logger(NULL, NULL, 0));
  CHECK(strstr(logged, "CUDA_MODULE_LOADING=EAGER"));
  OK(rk_runtime_destroy(runtime));
}

static void a_display_gets_no_persistent_kernel(void) {
  rk_runtime_t *runtime;
  rk_kernel_t kernel;
  rk_launch_options_t options = RK_LAUNCH_OPTIONS_INIT;
  rk_kernel_status_t status = RK_KERNEL_STATUS_INIT;
  OK(create(RK_BACKEND_CUDA, 0, &runtime));
  OK(add(runtime));
  options.mode = RK_MODE_PERSISTENT;
  CHECK_STATUS(rk_launch(runtime, "echo", &options, &kernel), RK_ERR_UNSUPPORTED);
  CHECK(says("watchdog") && says("EVENT_DRIVEN"));
  OK(rk_launch(runtime, "echo", NULL, &kernel));
  OK(rk_kernel_status(kernel, &status));
  CHECK(status.mode == RK_MODE_EVENT_DRIVEN && works(kernel));
  OK(rk_runtime_destroy(runtime));
}

/* lesson 32: blocks that do not start are not waited for for ever, and are named. */
static void lesson_32_blocks_that_do_not_start_are_counted(void) {
  rk_runtime_t *runtime;
  rk_kernel_t kernel;
  uint64_t start = check_now();
  OK(create(RK_BACKEND_CUDA, 0, &runtime));
  OK(add(runtime));
  CHECK_STATUS(rk_launch(runtime, "echo", NULL, &kernel), RK_ERR_NOT_RESIDENT);
  CHECK(says("0 of 4 blocks have started"));
  CHECK(check_now() - start < MS(10000));
  OK(rk_runtime_destroy(runtime));
  CHECK(check_now() - start < MS(15000));
}

int main(int argc, char **argv) {
  const char *kind = argc > 1 ? argv[1] : "";
  argc = 1;
  expected = RK_ERR_BACKEND_UNAVAILABLE;
  expected_text = "no CUDA driver is installed";
  if (strcmp(kind, "no-device") == 0) {
    expected = RK_ERR_NO_DEVICE;
    expected_code = 100;
    expected_text = "the driver sees none";
  } else if (strcmp(kind, "weak") == 0) {
    expected = RK_ERR_NO_DEVICE;
    expected_text = "compute capability is 60";
  } else if (strcmp(kind, "ancient") == 0) {
    expected_text = "it lacks cuGetErrorName";
  } else if (strcmp(kind, "broken") == 0) {
    expected_code = 999;
    expected_text = "CUDA_ERROR_UNKNOWN";
  }
  if (strcmp(kind, "old") == 0) {
    RUN(the_device_works);
  } else if (strcmp(kind, "lazy") == 0) {
    RUN(lesson_31_code_that_is_loaded_lazily_is_warned_of);
  } else if (strcmp(kind, "watchdog") == 0) {
    RUN(a_display_gets_no_persistent_kernel);
  } else if (strcmp(kind, "crowded") == 0) {
    RUN(lesson_32_blocks_that_do_not_start_are_counted);
  } else {
    RUN(lesson_20_there_is_no_cuda_and_the_cpu_does_it);
  }
  check_unused();
  return check_result();
}
