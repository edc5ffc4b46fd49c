/* What a handler's calls come to while it runs on a simulated block. */
#ifndef RKSIM_HOOKS_H
#define RKSIM_HOOKS_H
#include "ringkernel.h"

struct rksim_context_hooks {
  void *(*state)(rk_context_t *);
  void *(*user_data)(rk_context_t *);
  void *(*shared)(rk_context_t *);
  rk_kernel_t (*kernel)(const rk_context_t *);
  uint32_t (*block)(const rk_context_t *);
  uint32_t (*block_count)(const rk_context_t *);
  uint32_t (*thread)(const rk_context_t *);
  uint32_t (*thread_count)(const rk_context_t *);
  void (*sync)(rk_context_t *);
  rk_timestamp_t (*now)(rk_context_t *);
  bool (*stopping)(const rk_context_t *);
  rk_status_t (*reply)(rk_context_t *, const rk_message_t *);
  rk_status_t (*emit)(rk_context_t *, const rk_message_t *);
  rk_status_t (*send)(rk_context_t *, uint32_t, const rk_message_t *);
};

/* Of the simulated handler that runs on this thread with this context, or NULL. */
extern "C" const rksim_context_hooks *rksim_hooks(const void *ctx);
#endif
