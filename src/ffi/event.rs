//! Events: one queue to wait on.

use std::ffi::c_int;

use super::runtime::find;
use super::{arg, guard};
use crate::layout::{RkEvent, RkKernel, RkOp, RkRuntime, RkStatus};
use crate::runtime::KernelHandle;

/// Takes up to `capacity` events, oldest first; waits for the first for up to `timeout_ns`. With a capacity of 0 it never waits: RK_OK, count 0.
///
/// Events are: the one completion of each accepted asynchronous operation (RK_EVENT_LAUNCHED, RK_EVENT_TERMINATED,
/// RK_EVENT_REPLY: `status` is what the waiting function would have returned, RK_ERR_CANCELLED after rk_cancel), what
/// rk_watch asked for, and RK_EVENT_DEAD_LETTER when a dead letter was queued (its `kernel` and `status`), once until
/// rk_receive_dead_letter has found none. The `message` of a reply is a view: give it back with
/// rk_release. Nothing is ever dropped: an operation or watch whose events could not be stored is refused
/// with RK_ERR_LIMIT when it is submitted (rk_runtime_options_t.event_capacity).
/// Nothing there: RK_ERR_EMPTY at timeout 0, else RK_ERR_TIMEOUT; RK_ERR_SHUTDOWN instead of a wait when the runtime was shut down and
/// nothing more can come, or is destroyed meanwhile. `*count` is always written. Any thread; in a handler of the same runtime only with
/// timeout 0 (RK_ERR_WOULD_DEADLOCK): what it would wait for may be its own.
///
/// # Safety
/// Pointers are NULL or valid as the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rk_poll(
    runtime: *mut RkRuntime,
    out: *mut RkEvent,
    capacity: usize,
    timeout_ns: u64,
    count: *mut usize,
) -> RkStatus {
    guard::status(|| {
        arg::out(count, "count")?.write(0);
        let mut out = arg::out_array(out, capacity, "out")?;
        let given = find(runtime)?.poll(capacity, timeout_ns, |index, event| out.write(index, event))?;
        arg::out(count, "count")?.write(given);
        Ok(())
    })
}

/// A file descriptor that is readable exactly while events wait: for poll, epoll, libuv, asyncio.
///
/// Level-triggered, non-blocking, closed on exec. Made by the first call, the same for all; owned by the runtime, which closes it
/// when it is destroyed: do not read, write or close it, call rk_poll with timeout 0 when it is readable. Errors:
/// INTERNAL (the system has no descriptor left). Any thread.
///
/// # Safety
/// Pointers are NULL or valid as the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rk_event_fd(runtime: *mut RkRuntime, out: *mut c_int) -> RkStatus {
    guard::status(|| {
        let out = arg::out(out, "out")?;
        out.write(find(runtime)?.event_descriptor()?);
        Ok(())
    })
}

/// Asks for events of a kernel: RK_WATCH_* bits, 0 = stop. A later call takes the place of an earlier one.
///
/// RK_WATCH_READABLE: one RK_EVENT_READABLE when there are messages to receive, at once if there are; the next one not before a
/// receiver has found the queue empty (RK_ERR_EMPTY, or a batch that was not filled). RK_WATCH_STATE:
/// an RK_EVENT_STATE for each change, with the state, in order; when event_capacity leaves no place, changes are merged into the last that
/// nobody has polled, which then has the newest state. States that were not polled can be polled also when the kernel is destroyed meanwhile;
/// an RK_EVENT_READABLE is taken back then, for nobody could receive any more, and by a later rk_watch all events of the earlier one are. Errors: INVALID_ARGUMENT (unknown bits),
/// INVALID_HANDLE, LIMIT (no place for its events), OUT_OF_MEMORY: then an earlier watch goes on. Any thread.
#[unsafe(no_mangle)]
pub extern "C" fn rk_watch(kernel: RkKernel, interest: u32, user_data: u64) -> RkStatus {
    guard::status(|| KernelHandle::from(kernel).watch(interest, user_data))
}

/// Cancels an asynchronous operation; it still completes exactly once, with RK_ERR_CANCELLED if it was not complete.
///
/// A call is given up: its message may still be handled, its reply is dropped. An end goes on, and with it its time
/// limit. A launch in progress is completed and taken back. Errors: INVALID_STATE (it is complete and its event waits),
/// INVALID_HANDLE (it was polled, or never accepted by this runtime). Any thread.
///
/// # Safety
/// `runtime` is NULL or a runtime's handle.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rk_cancel(runtime: *mut RkRuntime, op: RkOp) -> RkStatus {
    guard::status(|| find(runtime)?.cancel(op.id))
}
