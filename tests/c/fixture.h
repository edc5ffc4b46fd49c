/* Programs and shortcuts that several test programs use. */
#ifndef RK_TESTS_FIXTURE_H
#define RK_TESTS_FIXTURE_H
#include "check.h"

/* Replies with what came. */
static rk_status_t on_echo(rk_context_t *ctx, const rk_message_t *message) {
  return rk_context_reply(ctx, message);
}

/* Handles and says nothing. */
static rk_status_t on_sink(rk_context_t *ctx, const rk_message_t *message) {
  (void)ctx;
  (void)message;
  return RK_OK;
}

/* Counts in its state, replies with the count and its block. */
typedef struct counted_t {
  uint64_t count, block;
} counted_t;

static rk_status_t on_count(rk_context_t *ctx, const rk_message_t *message) {
  counted_t *state = (counted_t *)rk_context_state(ctx);
  rk_message_t reply = check_message(state, sizeof *state);
  (void)message;
  state->count++;
  state->block = rk_context_block(ctx);
  return rk_context_reply(ctx, &reply);
}

/* Returns the status that the payload holds. */
static rk_status_t on_status(rk_context_t *ctx, const rk_message_t *message) {
  rk_status_t status = RK_OK;
  if (message->payload_size == sizeof status) memcpy(&status, message->payload, sizeof status);
  return status == RK_OK ? rk_context_reply(ctx, message) : status;
}

/* Sleeps as many milliseconds as `type` says, then replies. */
static rk_status_t on_sleep(rk_context_t *ctx, const rk_message_t *message) {
  if (message->type) check_sleep_ms(message->type);
  return rk_context_reply(ctx, message);
}

/* Waits until somebody opens it; counts who is inside. The user data of one kernel's program. */
typedef struct gate_t {
  pthread_mutex_t mutex;
  pthread_cond_t changed;
  int open, inside, handled;
} gate_t;

static rk_status_t on_gate(rk_context_t *ctx, const rk_message_t *message) {
  gate_t *gate = (gate_t *)rk_context_user_data(ctx);
  (void)message;
  pthread_mutex_lock(&gate->mutex);
  gate->inside++;
  pthread_cond_broadcast(&gate->changed);
  while (!gate->open) pthread_cond_wait(&gate->changed, &gate->mutex);
  gate->inside--;
  gate->handled++;
  pthread_cond_broadcast(&gate->changed);
  pthread_mutex_unlock(&gate->mutex);
  return RK_OK;
}

static void gate_init(gate_t *gate) {
  memset(gate, 0, sizeof *gate);
  pthread_mutex_init(&gate->mutex, NULL);
  pthread_cond_init(&gate->changed, NULL);
}

static void gate_await_inside(gate_t *gate, int inside) {
  pthread_mutex_lock(&gate->mutex);
  while (gate->inside < inside) pthread_cond_wait(&gate->changed, &gate->mutex);
  pthread_mutex_unlock(&gate->mutex);
}

static void gate_open(gate_t *gate) {
  pthread_mutex_lock(&gate->mutex);
  gate->open = 1;
  pthread_cond_broadcast(&gate->changed);
  pthread_mutex_unlock(&gate->mutex);
}

static rk_status_t add_program(rk_runtime_t *runtime, const char *name, rk_handler_fn handler,
                               size_t state_size, void *user_data) {
  rk_program_t program = RK_PROGRAM_INIT;
  program.name = name;
  program.on_message = handler;
  program.state_size = state_size;
  program.user_data = user_data;
  return rk_program_register(runtime, &program);
}

/* A runtime with the programs above; one worker unless told otherwise. */
static rk_runtime_t *make_runtime(uint32_t workers) {
  rk_runtime_options_t options = RK_RUNTIME_OPTIONS_INIT;
  rk_runtime_t *runtime = NULL;
  options.backend = RK_BACKEND_CPU;
  options.worker_threads = workers;
  if (rk_runtime_create(&options, &runtime) != RK_OK) return NULL;
  if (add_program(runtime, "echo", on_echo, 0, NULL) != RK_OK) return NULL;
  if (add_program(runtime, "sink", on_sink, 0, NULL) != RK_OK) return NULL;
  if (add_program(runtime, "count", on_count, sizeof(counted_t), NULL) != RK_OK) return NULL;
  if (add_program(runtime, "status", on_status, 0, NULL) != RK_OK) return NULL;
  if (add_program(runtime, "sleep", on_sleep, 0, NULL) != RK_OK) return NULL;
  return runtime;
}

/* CPU, unless the suite is run on something else. */
static uint32_t backend_of(rk_runtime_t *runtime) {
  uint32_t backend = 99;
  rk_runtime_backend(runtime, &backend);
  return backend;
}

static rk_launch_options_t options_for(const char *program, uint32_t mode) {
  rk_launch_options_t options = RK_LAUNCH_OPTIONS_INIT;
  options.program = program;
  options.mode = mode;
  return options;
}

static rk_kernel_metrics_t metrics_of(rk_kernel_t kernel) {
  rk_kernel_metrics_t metrics = RK_KERNEL_METRICS_INIT;
  if (rk_kernel_metrics(kernel, &metrics) != RK_OK) metrics.state = 99;
  if (metrics.backend == RK_BACKEND_CUDA && metrics.state != 99) {
    /* What a device has counted is known here a little later. */
    check_sleep_ms(5);
    rk_kernel_metrics(kernel, &metrics);
  }
  return metrics;
}

static uint32_t state_of(rk_kernel_t kernel) {
  uint32_t state = 99;
  rk_kernel_state(kernel, &state);
  return state;
}

/* Memory of the process that is in use. */
static long resident_bytes(void) {
  long size = 0, resident = 0;
  FILE *file = fopen("/proc/self/statm", "r");
  if (file == NULL || fscanf(file, "%ld %ld", &size, &resident) != 2) resident = 0;
  if (file != NULL) fclose(file);
  return resident * sysconf(_SC_PAGESIZE);
}

/* A healthy call: everything else still works. */
static int works(rk_kernel_t echo) {
  rk_message_t reply, request = check_message("well?", 5);
  int same;
  if (rk_call(echo, &request, &reply, MS(20000)) != RK_OK) return 0;
  same = reply.payload_size == 5 && memcmp(reply.payload, "well?", 5) == 0;
  return rk_release(&reply) == RK_OK && same;
}

static void fixture_unused(void) {
  (void)on_gate;
  (void)gate_init;
  (void)gate_await_inside;
  (void)gate_open;
  (void)make_runtime;
  (void)backend_of;
  (void)options_for;
  (void)metrics_of;
  (void)state_of;
  (void)works;
  (void)resident_bytes;
  (void)fixture_unused;
  check_unused();
}
#endif
