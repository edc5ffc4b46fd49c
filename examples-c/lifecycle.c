/* lifecycle: a kernel through all its states, and what can be seen of it.
 *
 *   cc -std=c99 lifecycle.c $(pkg-config --cflags --libs ringkernel) -o lifecycle && ./lifecycle
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

static rk_status_t on_message(rk_context_t *ctx, const rk_message_t *message) {
  if (message->type == 13) return RK_ERR_KERNEL_FAILED; /* "my state cannot be trusted any more" */
  return rk_context_emit(ctx, message);
}

static void show(rk_kernel_t kernel, const char *after) {
  static const char *const names[] = {"CREATED",     "LAUNCHED",   "ACTIVE", "DEACTIVATED",
                                      "TERMINATING", "TERMINATED", "FAILED"};
  rk_kernel_status_t status = RK_KERNEL_STATUS_INIT;
  MUST(rk_kernel_status(kernel, &status));
  printf("%-28s %-12s handled %u, waiting in %u, waiting out %u\n", after, names[status.state],
         (unsigned)status.messages_processed, (unsigned)status.input_queue_depth,
         (unsigned)status.output_queue_depth);
}

int main(void) {
  rk_program_t program = RK_PROGRAM_INIT;
  rk_launch_options_t options = RK_LAUNCH_OPTIONS_INIT;
  rk_runtime_metrics_t metrics = RK_RUNTIME_METRICS_INIT;
  rk_message_t message, out;
  rk_kernel_t kernel, other, list[8];
  rk_runtime_t *runtime;
  char name[128];
  size_t count, i;

  MUST(rk_runtime_create(NULL, &runtime));
  program.name = "echo";
  program.on_message = on_message;
  MUST(rk_program_register(runtime, &program));
  memset(&message, 0, sizeof message);

  options.program = "echo";
  options.flags = RK_LAUNCH_SUSPENDED;
  MUST(rk_launch(runtime, "first", &options, &kernel));
  MUST(rk_send(kernel, &message, 0)); /* queues */
  show(kernel, "launched suspended, one sent");
  MUST(rk_activate(kernel));
  MUST(rk_receive(kernel, &out, RK_FOREVER));
  MUST(rk_release(&out));
  show(kernel, "activated, answer received");
  MUST(rk_deactivate(kernel)); /* no handler runs once this has returned */
  MUST(rk_send(kernel, &message, 0));
  show(kernel, "paused, another sent");
  MUST(rk_activate(kernel));
  MUST(rk_terminate(kernel, RK_FOREVER)); /* drains first */
  show(kernel, "terminated");
  MUST(rk_receive(kernel, &out, 0)); /* what was emitted is still there */
  MUST(rk_release(&out));

  options.flags = 0;
  MUST(rk_launch(runtime, "first", &options, &other)); /* the id is free again */
  MUST(rk_launch(runtime, "second", &options, &kernel));
  message.type = 13;
  MUST(rk_send(kernel, &message, 0));
  if (rk_wait(kernel, RK_FOREVER) == RK_ERR_KERNEL_FAILED) show(kernel, "its handler failed it");

  MUST(rk_list(runtime, list, 8, &count));
  for (i = 0; i < count; i++) {
    MUST(rk_kernel_name(list[i], name, sizeof name, NULL));
    printf("listed: %s\n", name);
  }
  MUST(rk_metrics(runtime, &metrics));
  printf("launched %u, active %u, sent %u, received %u, dead letters %u\n", (unsigned)metrics.total_launched,
         (unsigned)metrics.active_kernels, (unsigned)metrics.messages_sent, (unsigned)metrics.messages_received,
         (unsigned)metrics.dead_letters);
  MUST(rk_runtime_destroy(runtime));
  return 0;
}
