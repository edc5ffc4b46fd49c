/* What a consumer does: a handler, a kernel, a call, an answer. */
#include <ringkernel.h>
#include <stdio.h>
#include <string.h>

static rk_status_t on_sum(rk_context_t *ctx, const rk_message_t *message) {
  const int *numbers = (const int *)message->payload;
  size_t i, count = message->payload_size / sizeof *numbers;
  rk_message_t reply;
  long sum = 0;
  for (i = 0; i < count; i++) sum += numbers[i];
  memset(&reply, 0, sizeof reply);
  reply.payload = &sum;
  reply.payload_size = sizeof sum;
  return rk_context_reply(ctx, &reply);
}

int main(void) {
  static const int numbers[] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10};
  rk_runtime_t *runtime;
  rk_program_t program = RK_PROGRAM_INIT;
  rk_message_t request, reply;
  rk_kernel_t kernel;
  long sum;
  program.name = "sum";
  program.on_message = on_sum;
  memset(&request, 0, sizeof request);
  request.payload = numbers;
  request.payload_size = sizeof numbers;
  if (rk_runtime_create(NULL, &runtime) != RK_OK) return 1;
  if (rk_program_register(runtime, &program) != RK_OK) return 2;
  if (rk_launch(runtime, "sum", NULL, &kernel) != RK_OK) return 3;
  if (rk_call(kernel, &request, &reply, RK_FOREVER) != RK_OK) return 4;
  sum = *(const long *)reply.payload;
  if (rk_release(&reply) != RK_OK || rk_runtime_destroy(runtime) != RK_OK) return 5;
  printf("libringkernel %s says %ld\n", rk_version_string(), sum);
  return sum == 55 ? 0 : 6;
}
