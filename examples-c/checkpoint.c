/* checkpoint: states that outlive the process. Each run goes on counting where the one before stopped.
 *
 *   cc -std=c99 checkpoint.c $(pkg-config --cflags --libs ringkernel) -o checkpoint && ./checkpoint FILE && ./checkpoint FILE
 */
#include <ringkernel.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MUST(call)                                                           \
  do {                                                                       \
    rk_status_t status_ = (call);                                            \
    if (status_ != RK_OK) {                                                  \
      char why_[256];                                                        \
      rk_last_error(why_, sizeof why_);                                      \
      fprintf(stderr, "%s: %s: %s\n", #call, rk_status_name(status_), why_); \
      exit(1);                                                               \
    }                                                                        \
  } while (0)

enum { BLOCKS = 4 };

static rk_status_t count(rk_context_t *ctx, const rk_message_t *message) {
  uint64_t *seen = (uint64_t *)rk_context_state(ctx);
  rk_message_t reply;
  (void)message;
  ++*seen;
  memset(&reply, 0, sizeof reply);
  reply.payload = seen;
  reply.payload_size = sizeof *seen;
  return rk_context_reply(ctx, &reply);
}

/* What an earlier run has left, if there was one. */
static void restore(rk_kernel_t kernel, const char *path, void *bytes, size_t size) {
  FILE *file = fopen(path, "rb");
  if (!file) return;
  size = fread(bytes, 1, size, file);
  fclose(file);
  MUST(rk_restore(kernel, bytes, size)); /* whole and unchanged, or not at all */
}

static void save(rk_kernel_t kernel, const char *path, void *bytes, size_t size) {
  FILE *file = fopen(path, "wb");
  MUST(rk_checkpoint(kernel, bytes, size, &size)); /* the kernel goes on */
  if (!file || fwrite(bytes, 1, size, file) != size || fclose(file) != 0) {
    perror(path);
    exit(1);
  }
}

int main(int argc, char **argv) {
  rk_program_t program = RK_PROGRAM_INIT;
  rk_launch_options_t options = RK_LAUNCH_OPTIONS_INIT;
  rk_message_t message, reply;
  rk_runtime_t *runtime;
  rk_kernel_t kernel;
  uint64_t sum = 0, seen;
  size_t size = 0;
  uint32_t i;
  void *bytes;

  if (argc != 2) {
    fprintf(stderr, "usage: checkpoint FILE\n");
    return 2;
  }
  MUST(rk_runtime_create(NULL, &runtime));
  program.name = "count";
  program.on_message = count;
  program.state_size = sizeof(uint64_t);
  MUST(rk_program_register(runtime, &program));
  options.grid_size = BLOCKS;
  MUST(rk_launch(runtime, "count", &options, &kernel));

  rk_checkpoint(kernel, NULL, 0, &size); /* RK_ERR_BUFFER_TOO_SMALL, and how much is needed */
  bytes = malloc(size);
  if (!bytes) return 1;
  restore(kernel, argv[1], bytes, size);
  memset(&message, 0, sizeof message);
  for (i = 0; i < 10; i++) {
    message.block = i % BLOCKS;
    MUST(rk_call(kernel, &message, &reply, RK_FOREVER));
    memcpy(&seen, reply.payload, sizeof seen);
    if (i >= 10 - BLOCKS) sum += seen; /* the last answer of each block */
    MUST(rk_release(&reply));
  }
  save(kernel, argv[1], bytes, size);
  printf("%u messages so far\n", (unsigned)sum);

  free(bytes);
  MUST(rk_runtime_destroy(runtime));
  return 0;
}
