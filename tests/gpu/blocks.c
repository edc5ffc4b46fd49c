/* Which calls of the CUDA driver wait for a resident kernel? Each is made on a thread of its own beside one, with two seconds
 * to come back; then the kernel is ended, and started anew for the next. One JSON array on stdout. */
#define _POSIX_C_SOURCE 200809L
#include "driver.h"
#include <pthread.h>
#include <ringkernel.h>
#include <stdint.h>
#include <stdlib.h>
#include <time.h>

static const char handler[] =
    "static rk_status_t echo(rk_context_t *ctx, const rk_message_t *message) { return rk_context_reply(ctx, message); }\n";

static void *context;
static cu_address before;

static uint64_t now(void) {
  struct timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return (uint64_t)time.tv_sec * 1000000000u + (uint64_t)time.tv_nsec;
}

static cu_result alloc(void) {
  cu_address address;
  return CU("cuMemAlloc_v2", (cu_address *, size_t))(&address, (size_t)64 << 20);
}
static cu_result free_memory(void) { return CU("cuMemFree_v2", (cu_address))(before); }
static cu_result host_alloc(void) {
  void *memory;
  return CU("cuMemHostAlloc", (void **, size_t, unsigned))(&memory, (size_t)64 << 20, 3);
}
static cu_result host_free(void) {
  void *memory;
  cu_result result = CU("cuMemHostAlloc", (void **, size_t, unsigned))(&memory, 4096, 3);
  return result ? result : CU("cuMemFreeHost", (void *))(memory);
}
static cu_result stream(void) {
  void *made;
  cu_result result = CU("cuStreamCreateWithPriority", (void **, unsigned, int))(&made, 1, 0);
  return result ? result : CU("cuStreamDestroy_v2", (void *))(made);
}
static cu_result copy(void) {
  static char bytes[4096];
  cu_address address;
  cu_result result = CU("cuMemAlloc_v2", (cu_address *, size_t))(&address, sizeof bytes);
  return result ? result : CU("cuMemcpyHtoD_v2", (cu_address, const void *, size_t))(address, bytes, sizeof bytes);
}
static cu_result set(void) {
  cu_address address;
  cu_result result = CU("cuMemAlloc_v2", (cu_address *, size_t))(&address, 4096);
  return result ? result : CU("cuMemsetD8_v2", (cu_address, unsigned char, size_t))(address, 1, 4096);
}
static cu_result load(void **function) {
  void *module;
  cu_result result =
      CU("cuModuleLoadDataEx", (void **, const void *, unsigned, void *, void *))(&module, cu_echo_ptx, 0, NULL, NULL);
  return result ? result : CU("cuModuleGetFunction", (void **, void *, const char *))(function, module, "echo");
}
static cu_result load_module(void) {
  void *function;
  return load(&function);
}
static cu_result launch_on(int legacy) {
  void *function, *made = NULL, *host, *pointers[2];
  cu_address parameters[2];
  cu_result result = load(&function);
  if (!result && !legacy) result = CU("cuStreamCreateWithPriority", (void **, unsigned, int))(&made, 1, 0);
  if (!result) result = CU("cuMemHostAlloc", (void **, size_t, unsigned))(&host, 4096, 3);
  if (!result) result = CU("cuMemHostGetDevicePointer_v2", (cu_address *, void *, unsigned))(&parameters[0], host, 0);
  if (result) return result;
  parameters[1] = parameters[0] + 64;
  pointers[0] = &parameters[0];
  pointers[1] = &parameters[1];
  result = CU("cuLaunchKernel", (void *, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, void *, void **, void **))(
      function, 1, 1, 1, 32, 1, 1, 0, made, pointers, NULL);
  return result ? result : CU("cuStreamSynchronize", (void *))(made);
}
static cu_result launch_own(void) { return launch_on(0); }
static cu_result launch_legacy(void) { return launch_on(1); }
static cu_result synchronize(void) { return CU("cuCtxSynchronize", (void))(); }
static cu_result info(void) {
  size_t free_bytes, total;
  return CU("cuMemGetInfo_v2", (size_t *, size_t *))(&free_bytes, &total);
}

typedef struct call_t {
  const char *name;
  cu_result (*run)(void);
} call_t;

static const call_t calls[] = {
    {"cuMemGetInfo", info}, {"cuMemAlloc of 64 MiB", alloc}, {"cuMemFree", free_memory}, {"cuMemHostAlloc of 64 MiB", host_alloc},
    {"cuMemFreeHost", host_free}, {"cuStreamCreate and Destroy", stream}, {"cuMemcpyHtoD of pageable memory", copy},
    {"cuMemsetD8", set}, {"cuModuleLoadDataEx of PTX and cuModuleGetFunction", load_module},
    {"a first launch on an own stream and its synchronisation", launch_own},
    {"a launch on the legacy default stream and its synchronisation", launch_legacy}, {"cuCtxSynchronize", synchronize}};

static const call_t *running;
static volatile int done;
static cu_result result;
static uint64_t took;

static void *run(void *unused) {
  uint64_t start;
  (void)unused;
  CU("cuCtxSetCurrent", (void *))(context);
  start = now();
  result = running->run();
  took = now() - start;
  __atomic_store_n(&done, 1, __ATOMIC_SEQ_CST);
  return NULL;
}

static int failed(void) {
  char text[2048];
  rk_last_error(text, sizeof text);
  fprintf(stderr, "beside %s: %s\n", running ? running->name : "nothing", text);
  return 1;
}

int main(void) {
  rk_runtime_options_t options = RK_RUNTIME_OPTIONS_INIT;
  rk_program_t program = RK_PROGRAM_INIT;
  rk_runtime_t *runtime;
  size_t i;
  options.backend = RK_BACKEND_CUDA;
  if (!cu_open(&context)) return 77;
  if (CU("cuMemAlloc_v2", (cu_address *, size_t))(&before, 1 << 20) != 0) return 1;
  program.name = "echo";
  program.cuda_code_kind = RK_CODE_SOURCE;
  program.cuda_code = handler;
  program.cuda_code_size = sizeof handler - 1;
  if (rk_runtime_create(&options, &runtime) != RK_OK || rk_program_register(runtime, &program) != RK_OK) return failed();
  printf("[");
  for (i = 0; i < sizeof calls / sizeof *calls; i++) {
    rk_kernel_t kernel;
    pthread_t thread;
    uint64_t start;
    int blocked;
    if (rk_launch(runtime, "echo", NULL, &kernel) != RK_OK) return failed();
    running = &calls[i];
    __atomic_store_n(&done, 0, __ATOMIC_SEQ_CST);
    start = now();
    if (pthread_create(&thread, NULL, run, NULL) != 0) return 1;
    while (!__atomic_load_n(&done, __ATOMIC_SEQ_CST) && now() - start < 2000000000u) {
      struct timespec pause = {0, 100000};
      nanosleep(&pause, NULL);
    }
    blocked = !__atomic_load_n(&done, __ATOMIC_SEQ_CST);
    if (rk_destroy(kernel) != RK_OK) return failed();
    pthread_join(thread, NULL);
    printf("%s\n  {\"call\": \"%s\", \"waits_for_a_resident_kernel\": %s, \"code\": %u, \"ms\": %.3f}", i ? "," : "", running->name,
           blocked ? "true" : "false", result, (double)took / 1e6);
    fflush(stdout);
  }
  printf("\n]\n");
  return rk_runtime_destroy(runtime) != RK_OK;
}
