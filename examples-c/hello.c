/* hello: register a program, launch a kernel of it, call it, print the answer.
 *
 *   cc -std=c99 hello.c $(pkg-config --cflags --libs ringkernel) -o hello && ./hello
 */
#include <ringkernel.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Every call can fail, and says why in words. */
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

/* What a kernel remembers between messages; zeroed when it is launched. */
typedef struct greeter {
  unsigned long greeted;
} greeter;

/* Runs for each message, one at a time per block. */
static rk_status_t on_message(rk_context_t *ctx, const rk_message_t *message) {
  greeter *state = (greeter *)rk_context_state(ctx);
  rk_message_t reply;
  char text[128];
  int size = snprintf(text, sizeof text, "hello, %.*s: you are number %lu", (int)message->payload_size,
                      (const char *)message->payload, ++state->greeted);
  memset(&reply, 0, sizeof reply);
  reply.payload = text;
  reply.payload_size = (size_t)size;
  return rk_context_reply(ctx, &reply);
}

int main(void) {
  static const char *const names[] = {"Ada", "Grace", "Barbara"};
  rk_program_t program = RK_PROGRAM_INIT;
  rk_runtime_t *runtime;
  rk_kernel_t kernel;
  int i;

  MUST(rk_runtime_create(NULL, &runtime));
  program.name = "greeter";
  program.on_message = on_message;
  program.state_size = sizeof(greeter);
  MUST(rk_program_register(runtime, &program));
  MUST(rk_launch(runtime, "greeter", NULL, &kernel));

  for (i = 0; i < 3; i++) {
    rk_message_t request, reply;
    memset(&request, 0, sizeof request);
    request.payload = names[i];
    request.payload_size = strlen(names[i]);
    MUST(rk_call(kernel, &request, &reply, RK_FOREVER));
    printf("%.*s\n", (int)reply.payload_size, (const char *)reply.payload);
    MUST(rk_release(&reply)); /* the reply is a view into the library's memory */
  }

  MUST(rk_runtime_destroy(runtime)); /* ends its kernels too */
  return 0;
}
