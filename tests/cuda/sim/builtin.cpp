/*
 * The entry of record images: the device code around a handler that is a function of the host program, called by one
 * thread per block. And what such a handler's rk_context_* calls come to.
 */
#ifndef RK_DEVICE_PLATFORM
#define RK_DEVICE_PLATFORM "platform.h"
#endif
#include "ringkernel_device.cuh"

#undef rk_context_state
#undef rk_context_user_data
#undef rk_context_shared
#undef rk_context_kernel
#undef rk_context_block
#undef rk_context_block_count
#undef rk_context_thread
#undef rk_context_thread_count
#undef rk_context_sync
#undef rk_context_now
#undef rk_context_stopping
#undef rk_context_reply
#undef rk_context_emit
#undef rk_context_send

#include "hooks.h"

namespace {
typedef rk_status_t (*handler_fn)(void *ctx, const void *message);

/* The handler that runs on this thread. */
struct Running {
  rk_context_t *context;
  void *user_data;
};
thread_local Running *running = nullptr;

struct Call {
  handler_fn handler;
  void *user_data;
  rk_status_t operator()(rk_context_t *ctx, const rk_message_t *message) const {
    Running mine{ctx, user_data};
    running = &mine;
    /* The context is the tests' view of it: the library's own would be no address, so an address cannot be one. */
    const rk_status_t status = handler(ctx, message);
    running = nullptr;
    return status;
  }
};

const rksim_context_hooks HOOKS = {
    rkd_context_state,
    [](rk_context_t *) { return running->user_data; },
    rkd_context_shared,
    rkd_context_kernel,
    rkd_context_block,
    rkd_context_block_count,
    rkd_context_thread,
    rkd_context_thread_count,
    rkd_context_sync,
    rkd_context_now,
    rkd_context_stopping,
    rkd_context_reply,
    rkd_context_emit,
    rkd_context_send,
};
}  // namespace

extern "C" const rksim_context_hooks *rksim_hooks(const void *ctx) {
  return running && ctx == running->context ? &HOOKS : nullptr;
}

extern "C" void rksim_launch_builtin(unsigned grid, unsigned, unsigned shared_bytes, void **params, void *lost,
                                     void *handler, void *user_data) {
  const rkd_u64 launch = *(const rkd_u64 *)params[0];
  const Call call{(handler_fn)handler, user_data};
  rksim::launch(grid, 1, shared_bytes, (const volatile int *)lost, [launch, call] { rkd_main(launch, call); });
}
