/* One handler for both backends, in the common subset of C and CUDA C++: the C compiler makes it part of the program, and the
 * library compiles the same text for the GPU.
 *
 * Each message is a batch of samples. The threads of the block add up their shares, thread 0 adds the shares and keeps the
 * running totals, which it answers with. On the CPU a block is one thread, and the loops are the whole work. */
#include <ringkernel.h>

typedef struct totals_t {
  uint64_t samples;
  double sum, square_sum;
} totals_t;

#ifdef __cplusplus
extern "C"
#endif
rk_status_t on_samples(rk_context_t *ctx, const rk_message_t *message) {
  const float *samples = (const float *)message->payload;
  const uint32_t count = (uint32_t)(message->payload_size / sizeof(float));
  const uint32_t me = rk_context_thread(ctx), threads = rk_context_thread_count(ctx);
  double *shares = (double *)rk_context_shared(ctx); /* two for each thread */
  totals_t *totals = (totals_t *)rk_context_state(ctx);
  double sum = 0, square_sum = 0;
  uint32_t i;
  rk_status_t status = RK_OK;

  for (i = me; i < count; i += threads) {
    sum += samples[i];
    square_sum += (double)samples[i] * samples[i];
  }
  shares[2 * me] = sum;
  shares[2 * me + 1] = square_sum;
  rk_context_sync(ctx);

  if (me == 0) {
    rk_message_t reply = *message;
    for (i = 0; i < threads; i++) {
      totals->sum += shares[2 * i];
      totals->square_sum += shares[2 * i + 1];
    }
    totals->samples += count;
    reply.payload = totals;
    reply.payload_size = sizeof *totals;
    status = rk_context_reply(ctx, &reply);
  }
  rk_context_sync(ctx); /* nobody writes into the shares before they are added */
  return status;
}
