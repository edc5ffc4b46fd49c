//! Inside a handler, on its thread. A context that is not the one of the handler running on this thread gets a status, or
//! NULL or 0 from the functions that return a value.

use std::ffi::c_void;

use super::{arg, guard};
use crate::layout::{RkContext, RkKernel, RkMessage, RkStatus, RkTimestamp};
use crate::runtime::context;

/// The encoded handle in a context pointer.
fn encoded(ctx: *const RkContext) -> u64 {
    ctx.addr() as u64
}

/// The block's state, `rk_program_t.state_size` bytes; NULL when that is 0. Inside a handler, on its thread.
///
/// # Safety
/// `ctx` is what the handler was given; anything else is recognised and gets NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rk_context_state(ctx: *mut RkContext) -> *mut c_void {
    guard::value(std::ptr::null_mut(), || context::state(encoded(ctx)))
}

/// The program's user data. CPU only. Inside a handler, on its thread.
///
/// # Safety
/// As rk_context_state.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rk_context_user_data(ctx: *mut RkContext) -> *mut c_void {
    guard::value(std::ptr::null_mut(), || context::user_data(encoded(ctx)))
}

/// The block's scratch, `shared_memory_size` bytes; NULL when that is 0. Inside a handler, on its thread.
///
/// # Safety
/// As rk_context_state.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rk_context_shared(ctx: *mut RkContext) -> *mut c_void {
    guard::value(std::ptr::null_mut(), || context::shared(encoded(ctx)))
}

/// The kernel whose handler runs. Inside a handler, on its thread.
///
/// # Safety
/// As rk_context_state; anything else gets the handle 0.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rk_context_kernel(ctx: *const RkContext) -> RkKernel {
    guard::value(RkKernel { id: 0 }, || context::kernel(encoded(ctx)))
}

/// The block whose handler runs, from 0. Inside a handler, on its thread.
///
/// # Safety
/// As rk_context_state; anything else gets 0.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rk_context_block(ctx: *const RkContext) -> u32 {
    guard::value(0, || context::block(encoded(ctx)))
}

/// Blocks of the kernel. Inside a handler, on its thread.
///
/// # Safety
/// As rk_context_state; anything else gets 0.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rk_context_block_count(ctx: *const RkContext) -> u32 {
    guard::value(0, || context::block_count(encoded(ctx)))
}

/// The thread of the block, from 0; always 0 on CPU. Inside a handler, on its thread.
///
/// # Safety
/// As rk_context_state; anything else gets 0.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rk_context_thread(ctx: *const RkContext) -> u32 {
    guard::value(0, || context::block(encoded(ctx)).map(|_| 0))
}

/// Threads of the block; always 1 on CPU. Inside a handler, on its thread.
///
/// # Safety
/// As rk_context_state; anything else gets 0.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rk_context_thread_count(ctx: *const RkContext) -> u32 {
    guard::value(0, || context::block(encoded(ctx)).map(|_| 1))
}

/// Barrier of the threads of the block; nothing on CPU, where a block is one thread. Inside a handler, on its thread.
///
/// # Safety
/// As rk_context_state.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rk_context_sync(ctx: *mut RkContext) {
    guard::value((), || context::block(encoded(ctx)).map(drop))
}

/// Whether the kernel is to pause (for a checkpoint or a restore, too) or to end: a handler that takes long asks now and then, and comes to an end. On a
/// GPU each thread asks for itself, by a trip over the bus, and their answers may differ. Inside a handler, on its thread.
///
/// # Safety
/// As rk_context_state; anything else gets false.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rk_context_stopping(ctx: *const RkContext) -> bool {
    guard::value(false, || context::is_stopping(encoded(ctx)))
}

/// Barrier of all blocks of a kernel that was launched with RK_LAUNCH_COOPERATIVE and runs on a GPU: all threads of
/// all blocks call it, each block inside a handler. False, for all of them alike: the kernel is ending, was not
/// launched so, or runs on the CPU. Inside a handler, on its thread.
///
/// # Safety
/// As rk_context_state; anything else gets false.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rk_context_grid_sync(ctx: *mut RkContext) -> bool {
    guard::value(false, || context::block(encoded(ctx)).map(|_| false))
}

/// The time of the kernel's hybrid logical clock: different and larger each time. Inside a handler, on its thread.
///
/// # Safety
/// As rk_context_state; anything else gets zeros.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rk_context_now(ctx: *mut RkContext) -> RkTimestamp {
    guard::value(RkTimestamp::default(), || context::now(encoded(ctx)))
}

/// Answers the sender of the current message, with its correlation.
///
/// A call gets it as its reply; a second reply to one call is RK_ERR_INVALID_STATE. The reply to anything else
/// the host sent goes to the output queue, the reply to a kernel's message to the input of that kernel.
///
/// Never fails for lack of room: under RK_OVERFLOW_BLOCK a reply that does not fit is kept and the block takes no
/// further input until it is out; under RK_OVERFLOW_DEAD_LETTER it becomes a dead letter. Kernels that answer each
/// other do not deadlock over this: the block whose waiting would close a circle (A for room in B, B for room in A)
/// goes on taking input, which makes the room, and so does one that answers itself. It keeps up to 65 536 messages;
/// beyond that the oldest becomes a dead letter (RK_DEAD_OVERFLOW).
///
/// RK_ERR_TOO_LARGE over the kernel's payload limit. Inside on_message, on its thread.
///
/// # Safety
/// As rk_context_state; `message` is NULL or valid as the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rk_context_reply(ctx: *mut RkContext, message: *const RkMessage) -> RkStatus {
    guard::short_or_status(
        || match arg::quick_message(message) {
            Some(message) if context::quick_reply(encoded(ctx), &message) => None,
            _ => Some(()),
        },
        |()| context::reply(encoded(ctx), &arg::message(message, "message")?),
    )
}

/// Puts a message into the kernel's output queue for the host.
///
/// Never fails for lack of room: under RK_OVERFLOW_BLOCK what does not fit is kept and the block takes no
/// further input until it is out; under RK_OVERFLOW_DEAD_LETTER it becomes a dead letter. RK_ERR_TOO_LARGE
/// over the kernel's payload limit. Inside a handler, on its thread.
///
/// # Safety
/// As rk_context_reply.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rk_context_emit(ctx: *mut RkContext, message: *const RkMessage) -> RkStatus {
    guard::status(|| context::emit(encoded(ctx), &arg::message(message, "message")?))
}

/// Sends to the kernel at the end of a route of rk_connect, to `message->block` of it.
///
/// RK_ERR_FULL is returned and never waited for. A target that has ended: RK_OK and a dead letter. An unknown
/// or ended route: RK_ERR_NO_ROUTE. Inside a handler, on its thread.
///
/// # Safety
/// As rk_context_reply.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rk_context_send(
    ctx: *mut RkContext,
    route: u32,
    message: *const RkMessage,
) -> RkStatus {
    guard::short_or_status(
        || match arg::quick_message(message) {
            Some(message) if context::quick_send(encoded(ctx), route, &message) => None,
            _ => Some(()),
        },
        |()| context::send(encoded(ctx), route, &arg::message(message, "message")?),
    )
}
