/* batch: many messages for the price of one hand-over.
 *
 *   cc -std=c99 batch.c $(pkg-config --cflags --libs ringkernel) -o batch && ./batch
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

enum { TOTAL = 100000, BATCH = 64 };

static rk_status_t on_number(rk_context_t *ctx, const rk_message_t *message) {
  uint64_t square;
  rk_message_t out;
  memcpy(&square, message->payload, sizeof square);
  square *= square;
  memset(&out, 0, sizeof out);
  out.payload = &square;
  out.payload_size = sizeof square;
  return rk_context_emit(ctx, &out);
}

int main(void) {
  static uint64_t numbers[BATCH];
  static rk_message_t messages[BATCH], results[BATCH];
  static rk_loan_t loans[BATCH];
  rk_program_t program = RK_PROGRAM_INIT;
  rk_runtime_t *runtime;
  rk_kernel_t kernel;
  uint64_t next = 0, received = 0, sum = 0, i, value;
  size_t count, sent;

  MUST(rk_runtime_create(NULL, &runtime));
  program.name = "square";
  program.on_message = on_number;
  MUST(rk_program_register(runtime, &program));
  MUST(rk_launch(runtime, "square", NULL, &kernel));

  while (received < TOTAL) {
    if (next < TOTAL / 2) { /* the first half is copied */
      for (count = 0; count < BATCH && next + count < TOTAL / 2; count++) {
        numbers[count] = next + count;
        messages[count].payload = &numbers[count];
        messages[count].payload_size = sizeof numbers[count];
      }
      MUST(rk_send_batch(kernel, messages, count, RK_FOREVER, &sent)); /* at least one; `sent` says how many */
      next += sent;
    } else if (next < TOTAL) { /* the second half is written in place */
      count = TOTAL - next < BATCH ? (size_t)(TOTAL - next) : BATCH;
      MUST(rk_reserve_batch(kernel, 0, sizeof value, count, RK_FOREVER, loans, &sent));
      for (i = 0; i < sent; i++) {
        value = next + i;
        memcpy(loans[i].payload, &value, sizeof value);
      }
      MUST(rk_commit_batch(loans, NULL, sent));
      next += sent;
    }
    /* Wait for results only when there is nothing left to send. */
    if (rk_receive_batch(kernel, results, BATCH, next < TOTAL ? 0 : RK_FOREVER, &count) == RK_OK) {
      for (i = 0; i < count; i++) {
        memcpy(&value, results[i].payload, sizeof value);
        sum += value;
      }
      received += count;
      MUST(rk_release_batch(results, count));
    }
  }
  printf("%u squares, sum %llu\n", (unsigned)received, (unsigned long long)sum);
  MUST(rk_runtime_destroy(runtime));
  return 0;
}
