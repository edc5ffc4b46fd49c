//! Events: one queue to wait on.

use std::ffi::c_int;

use super::guard;
use super::kernel::NO_EVENTS;
use crate::error::{Error, Result};
use crate::layout::{RkEvent, RkKernel, RkOp, RkRuntime, RkStatus};

fn no_events(what: &'static str) -> Result<()> {
    Err(Error::Unsupported { what, why: NO_EVENTS })
}

/// Takes up to `capacity` events; waits for the first. Any thread.
///
/// # Safety
/// Pointers are NULL or valid as the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rk_poll(
    _runtime: *mut RkRuntime,
    _out: *mut RkEvent,
    _capacity: usize,
    _timeout_ns: u64,
    _count: *mut usize,
) -> RkStatus {
    guard::status(|| no_events("rk_poll"))
}

/// A file descriptor that is readable while events wait; owned by the runtime. Any thread.
///
/// # Safety
/// Pointers are NULL or valid as the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rk_event_fd(_runtime: *mut RkRuntime, _out: *mut c_int) -> RkStatus {
    guard::status(|| no_events("rk_event_fd"))
}

/// Asks for events of a kernel: RK_WATCH_* bits, 0 = stop. Any thread.
#[unsafe(no_mangle)]
pub extern "C" fn rk_watch(_kernel: RkKernel, _interest: u32, _user_data: u64) -> RkStatus {
    guard::status(|| no_events("rk_watch"))
}

/// Cancels an asynchronous operation; it still completes exactly once. Any thread.
///
/// # Safety
/// `runtime` is NULL or a runtime's handle.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rk_cancel(_runtime: *mut RkRuntime, _op: RkOp) -> RkStatus {
    guard::status(|| no_events("rk_cancel"))
}
