//! Version, features, errors, logger.

use std::ffi::{CStr, c_char, c_void};

use super::{arg, guard};
use crate::error;
use crate::layout::{RkLogFn, RkStatus};
use crate::runtime::log;

/// The crate's version, NUL-terminated.
const VERSION: &CStr = match CStr::from_bytes_with_nul(concat!(env!("CARGO_PKG_VERSION"), "\0").as_bytes()) {
    Ok(text) => text,
    Err(_) => panic!("a version has no NUL inside"),
};

/// major<<16 | minor<<8 | patch, from build.rs.
const VERSION_NUMBER: u32 = match u32::from_str_radix(env!("RK_VERSION_NUMBER"), 10) {
    Ok(number) => number,
    Err(_) => panic!("build.rs writes a number"),
};

/// Goes up only when a program that was linked before would no longer work.
const ABI_VERSION: u32 = 0;

/// The library's version: major<<16 | minor<<8 | patch. Any thread.
#[unsafe(no_mangle)]
pub extern "C" fn rk_version() -> u32 {
    guard::plain(0, || VERSION_NUMBER)
}

/// The library's version in words, for example "0.1.0"; lives for ever. Any thread.
#[unsafe(no_mangle)]
pub extern "C" fn rk_version_string() -> *const c_char {
    guard::plain(VERSION.as_ptr(), || VERSION.as_ptr())
}

/// Changes only when the ABI breaks; also the number in the SONAME. Any thread.
#[unsafe(no_mangle)]
pub extern "C" fn rk_abi_version() -> u32 {
    guard::plain(0, || ABI_VERSION)
}

/// Whether a feature ("cpu", "cuda", "zenoh") is compiled in; false for unknown names and NULL. Any thread.
///
/// # Safety
/// `name` is NULL or NUL-terminated.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rk_has_feature(name: *const c_char) -> bool {
    guard::plain(false, || {
        arg::text(name).is_some_and(|name| name == "cpu" || name == "cuda" && cfg!(feature = "cuda"))
    })
}

/// The name of a status, for example "RK_ERR_FULL"; some text for any value, never NULL. Any thread.
#[unsafe(no_mangle)]
pub extern "C" fn rk_status_name(status: RkStatus) -> *const c_char {
    guard::plain(c"RK_UNKNOWN".as_ptr(), || error::status_name(status).as_ptr())
}

/// A status in one sentence; some text for any value, never NULL. Any thread.
#[unsafe(no_mangle)]
pub extern "C" fn rk_status_text(status: RkStatus) -> *const c_char {
    guard::plain(c"".as_ptr(), || error::status_text(status).as_ptr())
}

/// This thread's last failure in words, copied like snprintf does.
///
/// Returns the size needed with its NUL; 1 when nothing has failed yet. `buf` may be NULL when capacity is 0.
/// Successful calls leave the text alone. Any thread.
///
/// # Safety
/// `buf` is NULL or has room for `capacity` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rk_last_error(buf: *mut c_char, capacity: usize) -> usize {
    guard::plain(0, || {
        let text = error::last(|error| error.map(ToString::to_string)).flatten().unwrap_or_default();
        arg::copy_text(&text, buf, capacity)
    })
}

/// The CUresult or errno behind this thread's last failure, 0 if none. Any thread.
#[unsafe(no_mangle)]
pub extern "C" fn rk_last_backend_code() -> i32 {
    guard::plain(0, || error::last(|error| error.map_or(0, error::Error::backend_code)).unwrap_or(0))
}

/// Sets who receives the library's log; silent until then.
///
/// `fn` NULL removes it; once that returned, the old one is not called any more. `level` is the chattiest
/// `RK_LOG_*` wanted. The callback may be called on any thread; from inside it rk_set_logger answers
/// RK_ERR_WOULD_DEADLOCK. Any thread.
///
/// # Safety
/// `fn` and what `user_data` points to stay valid until the logger is replaced.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rk_set_logger(r#fn: RkLogFn, user_data: *mut c_void, level: u32) -> RkStatus {
    guard::status(|| log::set(r#fn, user_data, level))
}
