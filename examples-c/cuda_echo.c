/* The same program with and without a GPU: one handler, as a C function and as CUDA C++ source.
 *
 *   cc -std=c99 cuda_echo.c $(pkg-config --cflags --libs ringkernel) -o cuda_echo && ./cuda_echo
 *
 * RK_BACKEND=cpu or RK_BACKEND=cuda chooses; without it the GPU is taken if there is one. */
#include <ringkernel.h>
#include <stdio.h>
#include <string.h>

static rk_status_t on_message(rk_context_t *ctx, const rk_message_t *message) {
  return rk_context_reply(ctx, message);
}

static const char on_gpu[] =
    "static rk_status_t on_message(rk_context_t *ctx, const rk_message_t *message) {\n"
    "  return rk_context_reply(ctx, message); /* all threads of the block are here; thread 0 replies */\n"
    "}\n";

static int failed(const char *what, rk_status_t status) {
  char text[4096];
  rk_last_error(text, sizeof text);
  fprintf(stderr, "%s: %s: %s\n", what, rk_status_name(status), text);
  return 1;
}

int main(void) {
  rk_runtime_t *runtime;
  rk_kernel_t kernel;
  rk_program_t program = RK_PROGRAM_INIT;
  rk_kernel_metrics_t metrics = RK_KERNEL_METRICS_INIT;
  rk_message_t request, reply;
  rk_status_t status;
  uint32_t backend;
  int i;

  if ((status = rk_runtime_create(NULL, &runtime)) != RK_OK) return failed("no runtime", status);
  rk_runtime_backend(runtime, &backend);

  program.name = "echo";
  program.on_message = on_message;
  program.cuda_code_kind = RK_CODE_SOURCE;
  program.cuda_code = on_gpu;
  program.cuda_code_size = strlen(on_gpu);
  program.cuda_handler = "on_message";
  if ((status = rk_program_register(runtime, &program)) != RK_OK) return failed("no program", status);
  if ((status = rk_launch(runtime, "echo", NULL, &kernel)) != RK_OK) return failed("no kernel", status);

  memset(&request, 0, sizeof request);
  request.payload = "hello, device";
  request.payload_size = 13;
  for (i = 0; i < 1000; i++) {
    if ((status = rk_call(kernel, &request, &reply, RK_FOREVER)) != RK_OK) return failed("no reply", status);
    if (reply.payload_size != 13 || memcmp(reply.payload, "hello, device", 13) != 0) return 1;
    rk_release(&reply);
  }
  if ((status = rk_kernel_metrics(kernel, &metrics)) != RK_OK) return failed("no metrics", status);
  printf("1000 echoes from the %s, resident on a GPU: %s\n", backend == RK_BACKEND_CUDA ? "GPU" : "CPU",
         metrics.gpu_launched ? "yes" : "no");
  return rk_runtime_destroy(runtime) != RK_OK;
}
