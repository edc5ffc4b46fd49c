/* ring: a hundred kernels pass a token around; the host only starts it and waits for the end.
 *
 *   cc -std=c99 ring.c $(pkg-config --cflags --libs ringkernel) -o ring && ./ring [rounds]
 */
#include <ringkernel.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MUST(call)                                                                  \
  do {                                                                              \
    rk_status_t status_ = (call);                                                   \
    if (status_ != RK_OK) {                                                         \
      char why_[256];                                                               \
      rk_last_error(why_, sizeof why_);                                             \
      fprintf(stderr, "%s: %s: %s\n", #call, rk_status_name(status_), why_);        \
      exit(1);                                                                      \
    }                                                                               \
  } while (0)

enum { KERNELS = 100 };

/* Hands the token to the next kernel, or to the host when it has gone far enough. */
static rk_status_t on_token(rk_context_t *ctx, const rk_message_t *message) {
  uint64_t *passed = (uint64_t *)rk_context_state(ctx), hops;
  rk_message_t token = *message;
  memcpy(&hops, message->payload, sizeof hops);
  (*passed)++;
  hops--;
  token.payload = &hops;
  return hops == 0 ? rk_context_emit(ctx, &token) : rk_context_send(ctx, 0, &token);
}

int main(int argc, char **argv) {
  uint64_t rounds = argc > 1 ? strtoull(argv[1], NULL, 10) : 100, hops = rounds * KERNELS, total = 0;
  rk_launch_options_t options = RK_LAUNCH_OPTIONS_INIT;
  rk_program_t program = RK_PROGRAM_INIT;
  rk_kernel_t kernels[KERNELS];
  rk_message_t token, arrived;
  rk_runtime_t *runtime;
  uint32_t route;
  char id[32];
  int i, uneven = 0;

  if (rounds == 0) return 2;
  MUST(rk_runtime_create(NULL, &runtime));
  program.name = "pass";
  program.on_message = on_token;
  program.state_size = sizeof(uint64_t);
  MUST(rk_program_register(runtime, &program));
  options.program = "pass";
  for (i = 0; i < KERNELS; i++) {
    snprintf(id, sizeof id, "kernel-%d", i);
    MUST(rk_launch(runtime, id, &options, &kernels[i]));
  }
  for (i = 0; i < KERNELS; i++) MUST(rk_connect(kernels[i], kernels[(i + 1) % KERNELS], &route));

  memset(&token, 0, sizeof token);
  token.payload = &hops;
  token.payload_size = sizeof hops;
  MUST(rk_send(kernels[0], &token, 0));
  MUST(rk_receive(kernels[KERNELS - 1], &arrived, RK_FOREVER)); /* the last hop is the last kernel's */
  MUST(rk_release(&arrived));

  for (i = 0; i < KERNELS; i++) {
    rk_kernel_metrics_t metrics = RK_KERNEL_METRICS_INIT;
    MUST(rk_terminate(kernels[i], RK_FOREVER));
    MUST(rk_kernel_metrics(kernels[i], &metrics));
    uneven += metrics.messages_processed != rounds;
    total += metrics.messages_processed;
  }
  printf("%d kernels passed the token %llu times, %s\n", KERNELS, (unsigned long long)total,
         uneven ? "unevenly" : "each as often as the others");
  MUST(rk_runtime_destroy(runtime));
  return uneven != 0;
}
