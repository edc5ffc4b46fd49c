/* What a message costs on a GPU, through the public C functions only: bench [--backend cpu|cuda|auto] [N].
 *
 * Every figure is: the host sends, the handler runs, the host has the reply, its content checked. Beside it, in the same
 * process and on the same device, the same work as a kernel launch and a synchronisation, and as a graph launch; before
 * the library holds the device and beside its resident kernel. One JSON object on stdout, nanoseconds. */
#define _POSIX_C_SOURCE 200809L
#include "driver.h"
#include <ringkernel.h>
#include <stdint.h>
#include <stdlib.h>
#include <time.h>

static const char handlers[] =
    "static rk_status_t echo(rk_context_t *ctx, const rk_message_t *message) { return rk_context_reply(ctx, message); }\n"
    "static rk_status_t pass(rk_context_t *ctx, const rk_message_t *message) {\n"
    "  if (message->source == 0) return rk_context_send(ctx, 0, message);\n"
    "  return rk_context_emit(ctx, message);\n"
    "}\n";

static rk_status_t on_echo(rk_context_t *ctx, const rk_message_t *message) { return rk_context_reply(ctx, message); }
static rk_status_t on_pass(rk_context_t *ctx, const rk_message_t *message) {
  if (message->source == 0) return rk_context_send(ctx, 0, message);
  return rk_context_emit(ctx, message);
}

static uint64_t *times;
static const char *separator = "";

static uint64_t now(void) {
  struct timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return (uint64_t)time.tv_sec * 1000000000u + (uint64_t)time.tv_nsec;
}

static void must(int fine, const char *what) {
  char text[2048];
  if (fine) return;
  rk_last_error(text, sizeof text);
  fprintf(stderr, "%s: %s (%d)\n", what, text, (int)rk_last_backend_code());
  exit(1);
}
#define OK(call) must((call) == RK_OK, #call)
#define GPU(call) must((call) == 0, #call)

static int compare(const void *a, const void *b) {
  const uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
  return (x > y) - (x < y);
}

static uint64_t report(const char *name, size_t n) {
  qsort(times, n, sizeof *times, compare);
  printf("%s\n  \"%s\": {\"n\": %zu, \"min_ns\": %llu, \"p50_ns\": %llu, \"p99_ns\": %llu, \"p999_ns\": %llu, \"max_ns\": %llu}", separator,
         name, n, (unsigned long long)times[0], (unsigned long long)times[n / 2], (unsigned long long)times[n * 99 / 100],
         (unsigned long long)times[n * 999 / 1000], (unsigned long long)times[n - 1]);
  separator = ",";
  fflush(stdout);
  return times[n / 2];
}

static rk_kernel_t launch(rk_runtime_t *runtime, const char *id, const char *program) {
  rk_launch_options_t options = RK_LAUNCH_OPTIONS_INIT;
  rk_kernel_t kernel;
  options.program = program;
  options.mode = RK_MODE_PERSISTENT;
  options.block_size = 64;
  OK(rk_launch(runtime, id, &options, &kernel));
  return kernel;
}

static void add(rk_runtime_t *runtime, const char *name, rk_handler_fn handler) {
  rk_program_t program = RK_PROGRAM_INIT;
  program.name = name;
  program.on_message = handler;
  program.cuda_code_kind = RK_CODE_SOURCE;
  program.cuda_code = handlers;
  program.cuda_code_size = sizeof handlers - 1;
  OK(rk_program_register(runtime, &program));
}

/* The same echo without the library. */
typedef struct plain_t {
  void *stream, *function, *graph;
  uint32_t *in, *out;
  cu_address parameters[2];
  void *pointers[2];
} plain_t;

static plain_t plain;

static void plain_prepare(void) {
  void *module = NULL, *captured = NULL;
  GPU(CU("cuModuleLoadDataEx", (void **, const void *, unsigned, void *, void *))(&module, cu_echo_ptx, 0, NULL, NULL));
  GPU(CU("cuModuleGetFunction", (void **, void *, const char *))(&plain.function, module, "echo"));
  GPU(CU("cuStreamCreateWithPriority", (void **, unsigned, int))(&plain.stream, 1, 0));
  GPU(CU("cuMemHostAlloc", (void **, size_t, unsigned))((void **)&plain.in, 64, 3));
  GPU(CU("cuMemHostAlloc", (void **, size_t, unsigned))((void **)&plain.out, 64, 3));
  GPU(CU("cuMemHostGetDevicePointer_v2", (cu_address *, void *, unsigned))(&plain.parameters[0], plain.in, 0));
  GPU(CU("cuMemHostGetDevicePointer_v2", (cu_address *, void *, unsigned))(&plain.parameters[1], plain.out, 0));
  plain.pointers[0] = &plain.parameters[0];
  plain.pointers[1] = &plain.parameters[1];
  if (!cu_has("cuGraphLaunch")) return;
  GPU(CU("cuStreamBeginCapture_v2", (void *, int))(plain.stream, 1));
  GPU(CU("cuLaunchKernel", (void *, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, void *, void **, void **))(
      plain.function, 1, 1, 1, 32, 1, 1, 0, plain.stream, plain.pointers, NULL));
  GPU(CU("cuStreamEndCapture", (void *, void **))(plain.stream, &captured));
  GPU(CU("cuGraphInstantiateWithFlags", (void **, void *, unsigned long long))(&plain.graph, captured, 0));
}

static uint64_t plain_measure(const char *name, size_t n, int as_graph) {
  size_t i;
  if (as_graph && !plain.graph) return 0;
  for (i = 0; i < n + 100; i++) {
    const uint64_t start = now();
    *(volatile uint32_t *)&plain.in[7] = (uint32_t)i;
    if (as_graph) {
      GPU(CU("cuGraphLaunch", (void *, void *))(plain.graph, plain.stream));
    } else {
      GPU(CU("cuLaunchKernel", (void *, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, void *, void **, void **))(
          plain.function, 1, 1, 1, 32, 1, 1, 0, plain.stream, plain.pointers, NULL));
    }
    GPU(CU("cuStreamSynchronize", (void *))(plain.stream));
    if (i >= 100) times[i - 100] = now() - start;
    must(*(volatile uint32_t *)&plain.out[7] == (uint32_t)i, "the plain kernel's answer");
  }
  return report(name, n);
}

static uint64_t calls(const char *name, rk_kernel_t kernel, size_t n) {
  uint64_t bytes[8];
  rk_message_t request, reply;
  size_t i;
  memset(&request, 0, sizeof request);
  memset(bytes, 5, sizeof bytes);
  request.payload = bytes;
  request.payload_size = sizeof bytes;
  for (i = 0; i < n + 100; i++) {
    uint64_t start;
    bytes[3] = i;
    start = now();
    OK(rk_call(kernel, &request, &reply, RK_FOREVER));
    if (i >= 100) times[i - 100] = now() - start;
    must(reply.payload_size == sizeof bytes && memcmp(reply.payload, bytes, sizeof bytes) == 0, "the content of a reply");
    OK(rk_release(&reply));
  }
  return report(name, n);
}

/* Sends to one kernel and receives from another, `outstanding` on their way; latencies by the correlation. */
static uint64_t sends(const char *name, rk_kernel_t to, rk_kernel_t from, size_t n, size_t outstanding, double *rate) {
  uint64_t *sent_at = (uint64_t *)malloc(n * sizeof *sent_at), bytes[8], start = now();
  rk_message_t message, out;
  size_t sent = 0, received = 0;
  must(sent_at != NULL, "memory");
  memset(&message, 0, sizeof message);
  memset(bytes, 5, sizeof bytes);
  message.payload = bytes;
  message.payload_size = sizeof bytes;
  while (received < n) {
    while (sent < n && sent - received < outstanding) {
      bytes[0] = message.correlation = sent + 1;
      sent_at[sent++] = now();
      OK(rk_send(to, &message, RK_FOREVER));
    }
    OK(rk_receive(from, &out, RK_FOREVER));
    must(out.correlation == received + 1 && memcmp(out.payload, &out.correlation, 8) == 0, "the content of a message");
    times[received] = now() - sent_at[received];
    received++;
    OK(rk_release(&out));
  }
  *rate = (double)n / ((double)(now() - start) / 1e9);
  free(sent_at);
  return report(name, n);
}

int main(int argc, char **argv) {
  rk_runtime_options_t options = RK_RUNTIME_OPTIONS_INIT;
  rk_runtime_t *runtime;
  rk_kernel_t a, b;
  uint32_t backend = RK_BACKEND_AUTO, route;
  size_t n = 20000, few = 200, i;
  uint64_t call, hop, idle_launch = 0, beside_launch = 0, beside_graph = 0, start;
  double rate = 0, unused = 0;
  void *context = NULL;
  int at;
  for (at = 1; at < argc; at++) {
    if (strcmp(argv[at], "--backend") == 0 && at + 1 < argc) {
      at++;
      options.backend = strcmp(argv[at], "cpu") == 0 ? RK_BACKEND_CPU : strcmp(argv[at], "cuda") == 0 ? RK_BACKEND_CUDA : 0;
    } else {
      n = (size_t)atol(argv[at]);
    }
  }
  if (n < 1000) few = n / 10 + 1;
  times = (uint64_t *)malloc((n + few) * sizeof *times);
  must(times != NULL, "memory");
  printf("{");
  if (options.backend != RK_BACKEND_CPU && !getenv("RK_SIMULATED") && cu_open(&context)) {
    plain_prepare();
    idle_launch = plain_measure("launch_and_sync_idle_device", n, 0);
    plain_measure("graph_and_sync_idle_device", n, 1);
  }
  OK(rk_runtime_create(&options, &runtime));
  OK(rk_runtime_backend(runtime, &backend));
  add(runtime, "echo", on_echo);
  add(runtime, "pass", on_pass);
  start = now();
  a = launch(runtime, "a", "echo");
  printf("%s\n  \"first_launch_ns\": %llu", separator, (unsigned long long)(now() - start));
  separator = ",";
  call = calls("call_round_trip", a, n);
  sends("stream_64_outstanding", a, a, n, 64, &rate);
  printf(",\n  \"stream_64_outstanding_per_second\": %.0f", rate);
  if (context) {
    beside_launch = plain_measure("launch_and_sync_beside_resident", n, 0);
    beside_graph = plain_measure("graph_and_sync_beside_resident", n, 1);
  }
  for (i = 0; i < few; i++) {
    start = now();
    b = launch(runtime, "b", "echo");
    times[i] = now() - start;
    OK(rk_destroy(b));
  }
  report("launch_beside", few);
  for (i = 0; i < few; i++) {
    b = launch(runtime, "b", "echo");
    start = now();
    OK(rk_terminate(b, RK_FOREVER));
    times[i] = now() - start;
    OK(rk_destroy(b));
  }
  report("terminate", few);
  for (i = 0; i < few; i++) {
    start = now();
    OK(rk_deactivate(a));
    times[i] = now() - start;
    OK(rk_activate(a));
  }
  report("deactivate", few);
  OK(rk_destroy(a));
  a = launch(runtime, "a", "pass");
  b = launch(runtime, "b", "pass");
  OK(rk_connect(a, b, &route));
  hop = sends("host_a_b_host", a, b, n, 1, &unused);
  {
    rk_kernel_t direct = launch(runtime, "c", "echo");
    uint64_t one = sends("host_a_host", direct, direct, n, 1, &unused);
    printf(",\n  \"kernel_to_kernel_hop_p50_ns\": %lld", (long long)hop - (long long)one);
  }
  printf(",\n  \"ratios\": {\"call_to_launch_idle\": %.3f, \"call_to_launch_beside\": %.3f, \"call_to_graph_beside\": %.3f}",
         idle_launch ? (double)call / (double)idle_launch : 0, beside_launch ? (double)call / (double)beside_launch : 0,
         beside_graph ? (double)call / (double)beside_graph : 0);
  printf(",\n  \"backend\": \"%s\", \"payload_bytes\": 64, \"library\": \"%s\"\n}\n", backend == RK_BACKEND_CUDA ? "cuda" : "cpu",
         rk_version_string());
  OK(rk_runtime_destroy(runtime));
  free(times);
  return 0;
}
