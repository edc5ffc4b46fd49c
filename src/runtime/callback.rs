//! Calls into the application's code, and what it gave us to hand back.
//!
//! A Rust panic that leaves a callback is caught and becomes a failure; a C++ exception cannot be caught by
//! Rust and ends the process with an abort, which is documented at `rk_program_t`.
#![allow(unsafe_code)]

use std::ffi::{CStr, c_char, c_void};
use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::error;
use crate::layout::{
    RK_ERR_KERNEL_FAILED, RkContext, RkDropFn, RkHandlerFn, RkMessage, RkStartFn, RkStatus, RkStopFn,
};

/// The application's pointer, which is its business to share between threads.
#[derive(Clone, Copy, Debug)]
pub(crate) struct UserPointer(pub(crate) *mut c_void);

// SAFETY: never followed here; the header says that callbacks run on any thread.
unsafe impl Send for UserPointer {}
// SAFETY: as above.
unsafe impl Sync for UserPointer {}

/// User data and who takes it back.
#[derive(Debug)]
pub struct UserData {
    pub(crate) pointer: UserPointer,
    drop: RkDropFn,
}

impl UserData {
    /// Owns user data: `drop` is called exactly once, when this value is dropped.
    pub fn new(pointer: *mut c_void, drop: RkDropFn) -> Self {
        Self { pointer: UserPointer(pointer), drop }
    }

    /// Whether somebody wants it back.
    pub(crate) fn has_drop(&self) -> bool {
        self.drop.is_some()
    }
}

impl Drop for UserData {
    fn drop(&mut self) {
        if let Some(function) = self.drop.take() {
            let pointer = self.pointer.0;
            // A panic of the application's code here has nobody to be told to.
            // SAFETY: the application promised a function that takes its pointer.
            let _ = error::set_aside(|| catch_unwind(AssertUnwindSafe(|| unsafe { function(pointer) })));
        }
    }
}

/// The functions of a program.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Code {
    pub(crate) on_message: RkHandlerFn,
    pub(crate) on_start: RkStartFn,
    pub(crate) on_stop: RkStopFn,
}

impl Code {
    /// No functions: the code runs elsewhere.
    pub(crate) const NONE: Self = Self { on_message: None, on_start: None, on_stop: None };

    /// Whether blocks have anything to do before their first message.
    pub(crate) fn has_start_or_stop(&self) -> bool {
        self.on_start.is_some() || self.on_stop.is_some()
    }

    /// Handles a message; a panic is KERNEL_FAILED.
    #[inline(always)]
    pub(crate) fn message(&self, context: *mut RkContext, message: &RkMessage) -> RkStatus {
        let Some(function) = self.on_message else { return RK_ERR_KERNEL_FAILED };
        // SAFETY: the application's function, with the arguments the header says.
        catch_unwind(AssertUnwindSafe(|| unsafe { function(context, message) }))
            .unwrap_or(RK_ERR_KERNEL_FAILED)
    }

    /// Starts a block; a panic is KERNEL_FAILED.
    pub(crate) fn start(&self, context: *mut RkContext) -> RkStatus {
        let Some(function) = self.on_start else { return crate::layout::RK_OK };
        // SAFETY: as in `message`.
        catch_unwind(AssertUnwindSafe(|| unsafe { function(context) })).unwrap_or(RK_ERR_KERNEL_FAILED)
    }

    /// Stops a block; false when it panicked.
    pub(crate) fn stop(&self, context: *mut RkContext) -> bool {
        let Some(function) = self.on_stop else { return true };
        // SAFETY: as in `message`.
        catch_unwind(AssertUnwindSafe(|| unsafe { function(context) })).is_ok()
    }
}

/// The application's logger.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Logger {
    function: unsafe extern "C-unwind" fn(u32, *const c_char, *mut c_void),
    user_data: UserPointer,
}

impl Logger {
    pub(crate) fn new(
        function: unsafe extern "C-unwind" fn(u32, *const c_char, *mut c_void),
        user_data: *mut c_void,
    ) -> Self {
        Self { function, user_data: UserPointer(user_data) }
    }

    /// Hands one line over; a panic in it is dropped, there is nobody left to tell.
    pub(crate) fn call(&self, level: u32, text: &CStr) {
        // SAFETY: the application promised a function that takes these.
        let call = || unsafe { (self.function)(level, text.as_ptr(), self.user_data.0) };
        let _ = catch_unwind(AssertUnwindSafe(call));
    }
}
