//! The one boundary that every export passes.
//!
//! Inside it: a forked child is answered, a panic is caught, and the thread's last error is kept. The error
//! stays a value with fields until `rk_last_error` asks for its sentence.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::error::{self, Error, Result};
use crate::layout::{RK_OK, RkStatus};
use crate::process;

/// For an export that returns a status.
#[inline]
pub(super) fn status(body: impl FnOnce() -> Result<()>) -> RkStatus {
    match run(body) {
        Ok(()) => RK_OK,
        Err(error) => keep(error),
    }
}

/// For an export that returns a value: `fallback` when it fails or the process is a fork.
#[inline]
pub(super) fn value<T>(fallback: T, body: impl FnOnce() -> Result<T>) -> T {
    match run(body) {
        Ok(value) => value,
        Err(error) => {
            keep(error);
            fallback
        }
    }
}

/// For an export that cannot fail and answers in a forked child too (versions, names, the last error).
#[inline]
pub(super) fn plain<T>(fallback: T, body: impl FnOnce() -> T) -> T {
    catch_unwind(AssertUnwindSafe(body)).unwrap_or(fallback)
}

/// For an export with a short way, which says what is left to do (`None`: nothing), and the whole way for that.
///
/// The short way says no more, because a result with an error in it goes through memory, and to read it back waits for all
/// stores before it.
#[inline]
pub(super) fn short_or_status<T: Default>(
    short: impl FnOnce() -> Option<T>,
    body: impl FnOnce(T) -> Result<()>,
) -> RkStatus {
    let left = match process::is_forked_child() {
        true => Some(T::default()),
        false => match catch_unwind(AssertUnwindSafe(short)) {
            Ok(left) => left,
            Err(panic) => return keep(Error::Panic { message: panic_text(&*panic).into() }),
        },
    };
    match left {
        None => RK_OK,
        Some(left) => status(|| body(left)),
    }
}

#[inline]
fn run<T>(body: impl FnOnce() -> Result<T>) -> Result<T> {
    if process::is_forked_child() {
        return Err(Error::Forked);
    }
    match catch_unwind(AssertUnwindSafe(body)) {
        Ok(result) => result,
        Err(panic) => Err(Error::Panic { message: panic_text(&*panic).into() }),
    }
}

/// The words of a caught panic.
fn panic_text(panic: &(dyn Any + Send)) -> &str {
    if let Some(text) = panic.downcast_ref::<&'static str>() {
        text
    } else if let Some(text) = panic.downcast_ref::<String>() {
        text
    } else {
        "a value that is no text"
    }
}

#[cold]
fn keep(error: Error) -> RkStatus {
    let status = error.status();
    error::keep(error);
    status
}
