/* The library opened while the process runs, as other languages do it: threads that were there before have its words, too. Not linked with it. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <dlfcn.h>
#include <pthread.h>
#include <ringkernel.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void *library;
static rk_kernel_t kernel;
static pthread_barrier_t opened;

/* A function of the library. ISO C has no cast from an object pointer to one of a function. */
static void find(const char *name, void *function) {
  void *found = dlsym(library, name);
  if (!found) {
    printf("no %s\n", name);
    exit(1);
  }
  memcpy(function, &found, sizeof found);
}

static rk_status_t (*reply_)(rk_context_t *, const rk_message_t *);
static rk_status_t (*call_)(rk_kernel_t, const rk_message_t *, rk_message_t *, uint64_t);
static rk_status_t (*release_)(rk_message_t *);
static rk_status_t (*state_)(rk_kernel_t, uint32_t *);
static size_t (*last_error_)(char *, size_t);

static rk_status_t echo(rk_context_t *ctx, const rk_message_t *message) { return reply_(ctx, message); }

/* Calls, and a failure that this thread alone has. */
static void *use(void *what) {
  const char *text = (const char *)what;
  char said[256];
  rk_kernel_t none;
  uint32_t state;
  int i;
  pthread_barrier_wait(&opened);
  for (i = 0; i < 1000; i++) {
    rk_message_t request, reply;
    memset(&request, 0, sizeof request);
    request.payload = text;
    request.payload_size = strlen(text);
    if (call_(kernel, &request, &reply, RK_FOREVER) != RK_OK) return NULL;
    if (reply.payload_size != strlen(text) || memcmp(reply.payload, text, strlen(text)) != 0) return NULL;
    if (release_(&reply) != RK_OK) return NULL;
  }
  if (last_error_(said, sizeof said) > 1) return NULL; /* none yet: with its end */
  none.id = 12345;
  if (state_(none, &state) != RK_ERR_INVALID_HANDLE) return NULL;
  return last_error_(said, sizeof said) > 1 ? what : NULL;
}

int main(void) {
  enum { BEFORE = 4, AFTER = 4 };
  rk_status_t (*create)(const rk_runtime_options_t *, rk_runtime_t **);
  rk_status_t (*add)(rk_runtime_t *, const rk_program_t *);
  rk_status_t (*launch)(rk_runtime_t *, const char *, const rk_launch_options_t *, rk_kernel_t *);
  rk_status_t (*destroy)(rk_runtime_t *);
  rk_runtime_options_t options = RK_RUNTIME_OPTIONS_INIT;
  rk_program_t program = RK_PROGRAM_INIT;
  rk_launch_options_t how = RK_LAUNCH_OPTIONS_INIT;
  rk_runtime_t *runtime;
  pthread_t threads[BEFORE + AFTER];
  void *result;
  int i, failed = 0;
  alarm(60);
  pthread_barrier_init(&opened, NULL, BEFORE + AFTER + 1);
  for (i = 0; i < BEFORE; i++) pthread_create(&threads[i], NULL, use, "there before");
  library = dlopen("libringkernel.so.0", RTLD_NOW | RTLD_LOCAL);
  if (!library) {
    printf("%s\n", dlerror());
    return 1;
  }
  find("rk_runtime_create", &create);
  find("rk_program_register", &add);
  find("rk_launch", &launch);
  find("rk_runtime_destroy", &destroy);
  find("rk_context_reply", &reply_);
  find("rk_call", &call_);
  find("rk_release", &release_);
  find("rk_kernel_state", &state_);
  find("rk_last_error", &last_error_);
  options.backend = RK_BACKEND_CPU;
  program.name = "echo";
  program.on_message = echo;
  how.mode = RK_MODE_EVENT_DRIVEN;
  if (create(&options, &runtime) != RK_OK || add(runtime, &program) != RK_OK) return 1;
  if (launch(runtime, "echo", &how, &kernel) != RK_OK) return 1;
  for (i = BEFORE; i < BEFORE + AFTER; i++) pthread_create(&threads[i], NULL, use, "there after");
  pthread_barrier_wait(&opened);
  for (i = 0; i < BEFORE + AFTER; i++) {
    pthread_join(threads[i], &result);
    failed += result == NULL;
  }
  if (destroy(runtime) != RK_OK) failed++;
  if (failed) printf("%d threads failed\n", failed);
  return failed != 0;
}
