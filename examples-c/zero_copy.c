/* zero_copy: a message is written where it is handled and read where it was answered.
 *
 *   cc -std=c99 zero_copy.c $(pkg-config --cflags --libs ringkernel) -o zero_copy && ./zero_copy
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

enum { SAMPLES = 4096 };

/* Reads the samples in the slot that the host wrote them into. */
static rk_status_t on_samples(rk_context_t *ctx, const rk_message_t *message) {
  const float *samples = (const float *)message->payload; /* 64-byte aligned */
  size_t i, count = message->payload_size / sizeof *samples;
  rk_message_t reply;
  double energy = 0;
  for (i = 0; i < count; i++) energy += (double)samples[i] * samples[i];
  memset(&reply, 0, sizeof reply);
  reply.payload = &energy;
  reply.payload_size = sizeof energy;
  return rk_context_reply(ctx, &reply);
}

int main(void) {
  rk_program_t program = RK_PROGRAM_INIT;
  rk_launch_options_t options = RK_LAUNCH_OPTIONS_INIT;
  rk_message_t header, result;
  rk_runtime_t *runtime;
  rk_kernel_t kernel;
  rk_loan_t loan, unwanted;
  int frame, i;

  MUST(rk_runtime_create(NULL, &runtime));
  program.name = "energy";
  program.on_message = on_samples;
  MUST(rk_program_register(runtime, &program));
  options.payload_size_max = SAMPLES * sizeof(float);
  options.input_queue_capacity = 8;
  MUST(rk_launch(runtime, "energy", &options, &kernel));

  for (frame = 1; frame <= 3; frame++) {
    float *samples;
    MUST(rk_reserve(kernel, 0, SAMPLES * sizeof(float), RK_FOREVER, &loan));
    samples = (float *)loan.payload; /* the slot itself: nothing is copied */
    for (i = 0; i < SAMPLES; i++) samples[i] = (float)frame;
    memset(&header, 0, sizeof header);
    header.correlation = (uint64_t)frame;
    MUST(rk_commit(&loan, &header, SAMPLES * sizeof(float)));
    /* A slot that turns out not to be needed is given back, and skipped. */
    MUST(rk_reserve(kernel, 0, 64, RK_FOREVER, &unwanted));
    MUST(rk_abort(&unwanted));
  }
  for (frame = 1; frame <= 3; frame++) {
    MUST(rk_receive(kernel, &result, RK_FOREVER)); /* a view into the output queue */
    printf("frame %u: energy %.0f\n", (unsigned)result.correlation, *(const double *)result.payload);
    MUST(rk_release(&result)); /* now the slot may be used again */
  }
  MUST(rk_runtime_destroy(runtime));
  return 0;
}
