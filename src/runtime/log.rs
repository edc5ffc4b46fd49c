//! The application's logger: silent by default, and never called after it was removed.
//!
//! Lines are written under a read lock and the logger is set under the write lock, so when `set` returns no
//! call of the old logger is in progress. The logger may not set a logger: that would wait for itself.

use std::cell::Cell;
use std::ffi::{CString, c_void};

use super::callback;
use crate::error::{Error, Result};
use crate::layout::{RK_LOG_DEBUG, RK_LOG_ERROR, RK_LOG_INFO, RK_LOG_TRACE, RK_LOG_WARN, RkLogFn};
use crate::sync::{AtomicU32, Ordering, RwLock};

/// How grave a line is.
#[derive(Clone, Copy)]
#[repr(u32)]
pub(crate) enum Level {
    /// Something failed.
    Error = RK_LOG_ERROR,
    /// Something is likely wrong.
    Warn = RK_LOG_WARN,
    /// A change of state worth knowing.
    Info = RK_LOG_INFO,
    /// Detail for finding faults.
    Debug = RK_LOG_DEBUG,
}

/// The chattiest level wanted, 0 = none: asked before a line is made.
static WANTED: AtomicU32 = AtomicU32::new(0);
static LOGGER: RwLock<Option<callback::Logger>> = RwLock::new(None);

thread_local! {
    static INSIDE: Cell<bool> = const { Cell::new(false) };
}

/// Sets or removes the logger.
pub(crate) fn set(function: RkLogFn, user_data: *mut c_void, level: u32) -> Result<()> {
    if function.is_some() && !(RK_LOG_ERROR..=RK_LOG_TRACE).contains(&level) {
        let rule = "levels are 1 (error) to 5 (trace)";
        return Err(Error::OutOfRange { argument: "level", value: i128::from(level), rule });
    }
    if INSIDE.get() {
        return Err(Error::WouldDeadlock { verb: "rk_set_logger", target: "the logger".into() });
    }
    let logger = function.map(|function| callback::Logger::new(function, user_data));
    let mut current = LOGGER.write().unwrap_or_else(|poisoned| poisoned.into_inner());
    WANTED.store(if logger.is_some() { level } else { 0 }, Ordering::Relaxed);
    *current = logger;
    Ok(())
}

/// Writes a line, if anybody wants it.
pub(crate) fn write(level: Level, line: impl FnOnce() -> String) {
    if WANTED.load(Ordering::Relaxed) < level as u32 || INSIDE.get() {
        return;
    }
    let Ok(text) = CString::new(line().replace('\0', " ")) else { return };
    let logger = LOGGER.read().unwrap_or_else(|poisoned| poisoned.into_inner());
    if let Some(logger) = logger.as_ref() {
        INSIDE.set(true);
        logger.call(level as u32, &text);
        INSIDE.set(false);
    }
}
