/* wordcount: counts the words of a file over several blocks of one kernel and prints the ten most frequent.
 * A word is a run of ASCII letters, in lower case: the result is what this says, for any file:
 *   tr -cs A-Za-z '\n' <FILE | tr A-Z a-z | grep . | LC_ALL=C sort | uniq -c | LC_ALL=C sort -k1,1nr -k2,2 | head
 *
 *   cc -std=c99 wordcount.c $(pkg-config --cflags --libs ringkernel) -o wordcount && ./wordcount text.txt
 */
#include <ctype.h>
#include <ringkernel.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { BLOCKS = 4, PAYLOAD = 8192, BUCKETS = 1 << 14, FLUSH = 1 };
typedef struct word { struct word *next; uint64_t count; char text[]; } word;
static void must(rk_status_t status) {
  char why[256];
  rk_last_error(why, sizeof why);
  if (status != RK_OK) exit(fprintf(stderr, "wordcount: %s\n", why) > 0);
}

static unsigned long hash(const char *text, size_t size) {
  unsigned long h = 5381;
  for (; size--; text++) h = h * 33 ^ (unsigned char)*text;
  return h;
}

static word *new_word(const char *text, size_t size, uint64_t count) {
  word *w = (word *)calloc(1, sizeof *w + size + 1);
  if (!w) exit(1);
  memcpy(w->text, text, size), w->count = count;
  return w;
}

/* Words, each ended by a space, into the table that is the block's state. FLUSH: emits all counts, replies. */
static rk_status_t on_words(rk_context_t *ctx, const rk_message_t *message) {
  word **table = (word **)rk_context_state(ctx), **at, *w;
  const char *text = (const char *)message->payload, *end = text + message->payload_size, *space;
  for (; text < end; text = space + 1) {
    size_t size = (size_t)((space = (const char *)memchr(text, ' ', (size_t)(end - text))) - text);
    at = &table[(hash(text, size) >> 3) % BUCKETS]; /* the low bits have chosen the block */
    while ((w = *at) && (strncmp(w->text, text, size) || w->text[size])) at = &w->next;
    w ? (void)w->count++ : (void)(*at = new_word(text, size, 1));
  }
  for (int i = 0; message->type == FLUSH && i < BUCKETS; i++) {
    for (; (w = table[i]); free(w)) {
      rk_message_t out = {w->text, strlen(w->text), 0, 0, w->count, 0, 0, {0, 0, 0}, 0};
      must(rk_context_emit(ctx, &out)), table[i] = w->next;
    }
  }
  return message->type == FLUSH ? rk_context_reply(ctx, message) : RK_OK;
}

static int by_rank(const void *a, const void *b) {
  const word *x = *(word *const *)a, *y = *(word *const *)b;
  return x->count != y->count ? (x->count < y->count ? 1 : -1) : strcmp(x->text, y->text);
}

int main(int argc, char **argv) {
  static char words[BLOCKS][PAYLOAD], text[PAYLOAD];
  rk_message_t out, in[BLOCKS] = {{0}};
  rk_launch_options_t options = RK_LAUNCH_OPTIONS_INIT;
  rk_program_t program = RK_PROGRAM_INIT;
  rk_runtime_t *runtime;
  rk_kernel_t kernel;
  size_t size = 0, n = 0, i;
  word **all = NULL;
  FILE *file = argc == 2 ? fopen(argv[1], "rb") : NULL;
  if (!file || fseek(file, 0, SEEK_END)) return fprintf(stderr, "usage: wordcount FILE\n"), 2;
  double read = 0, total = (double)ftell(file), next = total > 3e7 ? 0 : total + 2;
  rewind(file);
  must(rk_runtime_create(NULL, &runtime));
  program.name = "words", program.on_message = on_words, program.state_size = BUCKETS * sizeof(word *);
  must(rk_program_register(runtime, &program));
  options.grid_size = BLOCKS, options.payload_size_max = PAYLOAD;
  must(rk_launch(runtime, "words", &options, &kernel));
  for (i = 0; i < BLOCKS; i++) in[i].payload = words[i], in[i].block = (uint32_t)i;
  for (int c = 0; c != EOF;) {
    if (++read > next) fprintf(stderr, "%3.0f %%\r", 100 * read / total), next += total / 100;
    if (isalpha(c = getc(file)) && size < PAYLOAD - 1) text[size++] = (char)tolower(c);
    else if (isalpha(c)) return fprintf(stderr, "wordcount: a word of %d letters\n", PAYLOAD), 1;
    else if (size) {
      rk_message_t *m = &in[hash(text, size) % BLOCKS]; /* a word is always counted by the same block */
      if (m->payload_size + size + 1 > PAYLOAD) must(rk_send(kernel, m, RK_FOREVER)), m->payload_size = 0;
      memcpy(words[m->block] + m->payload_size, text, size);
      words[m->block][m->payload_size + size] = ' ', m->payload_size += size + 1, size = 0;
    }
  }
  for (i = 0; i < BLOCKS; i++) in[i].type = FLUSH, must(rk_send(kernel, &in[i], RK_FOREVER));
  for (int flushed = 0; flushed < BLOCKS; must(rk_release(&out))) {
    must(rk_receive(kernel, &out, RK_FOREVER));
    flushed += out.type == FLUSH;
    if ((n & (n - 1)) == 0 && !(all = (word **)realloc(all, (2 * n + 1) * sizeof *all))) return 1;
    if (out.type != FLUSH) all[n++] = new_word((const char *)out.payload, out.payload_size, out.correlation);
  }
  if (n) qsort(all, n, sizeof *all, by_rank);
  for (i = 0; i < n && i < 10; i++) printf("%7llu %s\n", (unsigned long long)all[i]->count, all[i]->text);
  for (fclose(file); n || (free(all), 0); n--) free(all[n - 1]);
  return rk_runtime_destroy(runtime) != RK_OK;
}
