/* pipeline: the lines of a file go through four kernels, each of which sends them on to the next. What comes out is what this says:
 *   tr -s ' ' <FILE | tr a-z A-Z | grep -n ''
 *
 *   cc -std=c99 pipeline.c $(pkg-config --cflags --libs ringkernel) -o pipeline && ./pipeline text.txt
 */
#include <ringkernel.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void must(rk_status_t status) {
  char why[256];
  rk_last_error(why, sizeof why);
  if (status != RK_OK) exit(fprintf(stderr, "pipeline: %s\n", why) > 0);
}

/* Fewer lines are on their way than a queue has places, so no stage ever finds the next one full. */
enum { STAGES = 4, LINE = 4096, QUEUE = 512, WINDOW = 256, BATCH = 64 };

static rk_status_t pass_on(rk_context_t *ctx, const rk_message_t *message, const char *text, size_t size) {
  rk_message_t next = *message;
  next.payload = text, next.payload_size = size;
  return rk_context_send(ctx, 0, &next);
}

static rk_status_t on_squeeze(rk_context_t *ctx, const rk_message_t *message) {
  const char *in = (const char *)message->payload;
  char out[LINE];
  size_t i, size = 0;
  for (i = 0; i < message->payload_size; i++)
    if (i == 0 || in[i] != ' ' || in[i - 1] != ' ') out[size++] = in[i];
  return pass_on(ctx, message, out, size);
}

static rk_status_t on_upper(rk_context_t *ctx, const rk_message_t *message) {
  const char *in = (const char *)message->payload;
  char out[LINE];
  size_t i;
  for (i = 0; i < message->payload_size; i++) out[i] = in[i] >= 'a' && in[i] <= 'z' ? (char)(in[i] - 32) : in[i];
  return pass_on(ctx, message, out, i);
}

static rk_status_t on_number(rk_context_t *ctx, const rk_message_t *message) {
  uint64_t *lines = (uint64_t *)rk_context_state(ctx);
  char out[LINE + 32];
  int digits = snprintf(out, 32, "%llu:", (unsigned long long)++*lines);
  memcpy(out + digits, message->payload, message->payload_size);
  return pass_on(ctx, message, out, (size_t)digits + message->payload_size);
}

static rk_status_t on_hand_out(rk_context_t *ctx, const rk_message_t *message) { return rk_context_emit(ctx, message); }

/* Reads a line without its end; -1: there is none. */
static int read_line(FILE *file, char *line) {
  int c, size = 0;
  while ((c = getc(file)) != EOF && c != '\n') {
    if (size == LINE) exit(fprintf(stderr, "pipeline: a line of more than %d bytes\n", LINE) > 0);
    line[size++] = (char)c;
  }
  return c == EOF && size == 0 ? -1 : size;
}

int main(int argc, char **argv) {
  static const rk_handler_fn handlers[STAGES] = {on_squeeze, on_upper, on_number, on_hand_out};
  static const char *const names[STAGES] = {"squeeze", "upper", "number", "hand-out"};
  FILE *file = argc == 2 ? fopen(argv[1], "rb") : NULL;
  rk_launch_options_t options = RK_LAUNCH_OPTIONS_INIT;
  rk_message_t message = {0}, out[BATCH];
  rk_kernel_t stages[STAGES];
  rk_runtime_t *runtime;
  char line[LINE];
  uint64_t sent = 0, received = 0;
  size_t count, i;
  uint32_t route;
  int size;
  if (!file) return fprintf(stderr, "usage: pipeline FILE\n"), 2;
  must(rk_runtime_create(NULL, &runtime));
  options.payload_size_max = LINE + 32;
  options.input_queue_capacity = options.output_queue_capacity = QUEUE;
  for (i = 0; i < STAGES; i++) {
    rk_program_t program = RK_PROGRAM_INIT;
    program.name = names[i], program.on_message = handlers[i], program.state_size = sizeof(uint64_t);
    must(rk_program_register(runtime, &program));
    must(rk_launch(runtime, names[i], &options, &stages[i])); /* its id names the program */
    if (i > 0) must(rk_connect(stages[i - 1], stages[i], &route));
  }
  for (size = read_line(file, line); size >= 0 || received < sent;) {
    for (; size >= 0 && sent - received < WINDOW; sent++, size = read_line(file, line)) {
      message.payload = line, message.payload_size = (size_t)size;
      must(rk_send(stages[0], &message, RK_FOREVER));
    }
    must(rk_receive_batch(stages[STAGES - 1], out, BATCH, RK_FOREVER, &count));
    for (i = 0; i < count; i++) fwrite(out[i].payload, 1, out[i].payload_size, stdout), putchar('\n');
    must(rk_release_batch(out, count));
    received += count;
  }
  must(rk_runtime_destroy(runtime));
  return fclose(file);
}
