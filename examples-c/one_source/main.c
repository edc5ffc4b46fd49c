/* Running statistics of samples, by one handler (handler.c) on the CPU or on a GPU.
 *
 *   cc -std=c99 main.c handler.c $(pkg-config --cflags --libs ringkernel) -lm -o one_source && ./one_source handler.c
 *
 * The argument is the text of the handler; it is compiled for the GPU if there is one. */
#include <math.h>
#include <ringkernel.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SAMPLES = 4096, BATCHES = 200, THREADS = 128 };

typedef struct totals_t {
  uint64_t samples;
  double sum, square_sum;
} totals_t;

rk_status_t on_samples(rk_context_t *ctx, const rk_message_t *message);

static char *read_text(const char *path, size_t *size) {
  FILE *file = fopen(path, "rb");
  char *text = file ? (char *)malloc(1 << 16) : NULL;
  *size = text ? fread(text, 1, 1 << 16, file) : 0;
  if (file) fclose(file);
  return text;
}

static int failed(const char *what, rk_status_t status) {
  char text[4096];
  rk_last_error(text, sizeof text);
  fprintf(stderr, "%s: %s: %s\n", what, rk_status_name(status), text);
  return 1;
}

int main(int argc, char **argv) {
  static float samples[SAMPLES];
  rk_runtime_t *runtime;
  rk_kernel_t kernel;
  rk_program_t program = RK_PROGRAM_INIT;
  rk_launch_options_t options = RK_LAUNCH_OPTIONS_INIT;
  rk_message_t request, reply;
  rk_status_t status;
  totals_t got = {0, 0, 0}, expected = {0, 0, 0};
  uint32_t backend, seed = 1;
  int batch, i;

  if ((status = rk_runtime_create(NULL, &runtime)) != RK_OK) return failed("no runtime", status);
  rk_runtime_backend(runtime, &backend);

  program.name = "statistics";
  program.on_message = on_samples;
  program.state_size = sizeof(totals_t);
  program.cuda_code_kind = RK_CODE_SOURCE;
  program.cuda_code = read_text(argc > 1 ? argv[1] : "handler.c", &program.cuda_code_size);
  program.cuda_handler = "on_samples";
  if (!program.cuda_code) {
    fprintf(stderr, "the text of the handler cannot be read\n");
    return 1;
  }
  if ((status = rk_program_register(runtime, &program)) != RK_OK) return failed("no program", status);
  free((void *)program.cuda_code);

  options.program = "statistics";
  options.payload_size_max = sizeof samples;
  options.block_size = THREADS;
  options.shared_memory_size = THREADS * 2 * sizeof(double);
  if ((status = rk_launch(runtime, "samples", &options, &kernel)) != RK_OK) return failed("no kernel", status);

  for (batch = 0; batch < BATCHES; batch++) {
    for (i = 0; i < SAMPLES; i++) {
      seed = seed * 1664525u + 1013904223u;
      samples[i] = (float)(seed >> 8) / (float)(1 << 24);
      expected.sum += samples[i];
      expected.square_sum += (double)samples[i] * samples[i];
    }
    expected.samples += SAMPLES;
    memset(&request, 0, sizeof request);
    request.payload = samples;
    request.payload_size = sizeof samples;
    if ((status = rk_call(kernel, &request, &reply, RK_FOREVER)) != RK_OK) return failed("no reply", status);
    memcpy(&got, reply.payload, sizeof got);
    rk_release(&reply);
  }
  if (got.samples != expected.samples || fabs(got.sum - expected.sum) > 1e-6 * expected.sum ||
      fabs(got.square_sum - expected.square_sum) > 1e-6 * expected.square_sum) {
    fprintf(stderr, "wrong: %llu samples, sum %.9g, not %.9g\n", (unsigned long long)got.samples, got.sum, expected.sum);
    return 1;
  }
  printf("%llu samples on the %s: mean %.6f, variance %.6f\n", (unsigned long long)got.samples,
         backend == RK_BACKEND_CUDA ? "GPU" : "CPU", got.sum / (double)got.samples,
         got.square_sum / (double)got.samples - (got.sum / (double)got.samples) * (got.sum / (double)got.samples));
  return rk_runtime_destroy(runtime) != RK_OK;
}
