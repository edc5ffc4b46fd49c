/*
 * Lets unchanged C programs run their handlers on the simulated device. Preloaded with RKSIM_PROGRAMS=1, it gives programs that
 * have a handler and no device code a record image of that handler, runs them on CUDA, and leads their rk_context_* calls to
 * the device's functions while a simulated block calls them. What it does not know goes to the library.
 */
#include <dlfcn.h>

#include <cstdlib>
#include <cstring>

#include "driver.h"
#include "hooks.h"

namespace {
template <class F>
F next(const char *name, F) {
  return (F)dlsym(RTLD_NEXT, name);
}
bool wanted() {
  const char *value = getenv("RKSIM_PROGRAMS");
  return value && *value == '1';
}
}  // namespace

#define FORWARD(result, name, hook, arguments, values)                                \
  RKSIM_API result name arguments {                                                   \
    static auto the = next(#name, &name);                                             \
    const rksim_context_hooks *hooks = rksim_hooks(ctx);                              \
    return hooks ? hooks->hook values : the values;                                   \
  }

FORWARD(void *, rk_context_state, state, (rk_context_t * ctx), (ctx))
FORWARD(void *, rk_context_user_data, user_data, (rk_context_t * ctx), (ctx))
FORWARD(void *, rk_context_shared, shared, (rk_context_t * ctx), (ctx))
FORWARD(rk_kernel_t, rk_context_kernel, kernel, (const rk_context_t *ctx), (ctx))
FORWARD(uint32_t, rk_context_block, block, (const rk_context_t *ctx), (ctx))
FORWARD(uint32_t, rk_context_block_count, block_count, (const rk_context_t *ctx), (ctx))
FORWARD(uint32_t, rk_context_thread, thread, (const rk_context_t *ctx), (ctx))
FORWARD(uint32_t, rk_context_thread_count, thread_count, (const rk_context_t *ctx), (ctx))
FORWARD(void, rk_context_sync, sync, (rk_context_t * ctx), (ctx))
FORWARD(rk_timestamp_t, rk_context_now, now, (rk_context_t * ctx), (ctx))
FORWARD(bool, rk_context_stopping, stopping, (const rk_context_t *ctx), (ctx))
FORWARD(rk_status_t, rk_context_reply, reply, (rk_context_t * ctx, const rk_message_t *message), (ctx, message))
FORWARD(rk_status_t, rk_context_emit, emit, (rk_context_t * ctx, const rk_message_t *message), (ctx, message))
FORWARD(rk_status_t, rk_context_send, send, (rk_context_t * ctx, uint32_t route, const rk_message_t *message),
        (ctx, route, message))

RKSIM_API rk_status_t rk_program_register(rk_runtime_t *runtime, const rk_program_t *program) {
  static auto the = next("rk_program_register", &rk_program_register);
  if (!wanted() || !program || program->struct_size != sizeof *program || !program->on_message || program->cuda_code_kind)
    return the(runtime, program);
  rk_program_t with = *program;
  unsigned char record[32] = "RKSIMFN";
  memcpy(record + 8, &program->on_message, 8);
  memcpy(record + 16, &program->user_data, 8);
  with.cuda_code_kind = RK_CODE_CUBIN;
  with.cuda_code = record;
  with.cuda_code_size = sizeof record;
  with.cuda_handler = "simulated";
  return the(runtime, &with);
}

RKSIM_API rk_status_t rk_runtime_create(const rk_runtime_options_t *options, rk_runtime_t **out) {
  static auto the = next("rk_runtime_create", &rk_runtime_create);
  if (!wanted() || !options || options->struct_size != sizeof *options || options->backend != RK_BACKEND_CPU)
    return the(options, out);
  rk_runtime_options_t changed = *options;
  changed.backend = RK_BACKEND_CUDA;
  return the(&changed, out);
}
