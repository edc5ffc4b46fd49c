//! Metrics and looking inside.

use std::ffi::c_char;

use super::runtime::find;
use super::{arg, guard};
use crate::error::Error;
use crate::layout::{RkKernel, RkKernelMetrics, RkRuntime, RkRuntimeMetrics, RkStatus};
use crate::runtime::KernelHandle;

/// Empty metrics of a runtime to be filled. Any thread.
#[unsafe(no_mangle)]
pub extern "C" fn rk_runtime_metrics_init() -> RkRuntimeMetrics {
    guard::plain(arg::initial(), arg::initial)
}

/// Empty metrics of a kernel to be filled. Any thread.
#[unsafe(no_mangle)]
pub extern "C" fn rk_kernel_metrics_init() -> RkKernelMetrics {
    guard::plain(arg::initial(), arg::initial)
}

/// The counters of a runtime: all its kernels, also those that are gone. Any thread.
///
/// # Safety
/// Pointers are NULL or valid as the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rk_metrics(runtime: *mut RkRuntime, out: *mut RkRuntimeMetrics) -> RkStatus {
    guard::status(|| {
        let out = arg::versioned_out(out)?;
        out.write(&find(runtime)?.metrics());
        Ok(())
    })
}

/// The counters of a kernel, until it is destroyed. Any thread.
///
/// # Safety
/// Pointers are NULL or valid as the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rk_kernel_metrics(kernel: RkKernel, out: *mut RkKernelMetrics) -> RkStatus {
    guard::status(|| {
        let out = arg::versioned_out(out)?;
        out.write(&KernelHandle::from(kernel).metrics()?);
        Ok(())
    })
}

/// The counters as text, RK_TEXT_*. Any thread.
///
/// # Safety
/// Pointers are NULL or valid as the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rk_metrics_text(
    _runtime: *mut RkRuntime,
    _format: u32,
    _buf: *mut c_char,
    _capacity: usize,
    _size: *mut usize,
) -> RkStatus {
    guard::status(|| {
        let why = "metrics as text are not part of this version; rk_metrics has the numbers";
        Err(Error::Unsupported { what: "rk_metrics_text", why })
    })
}

/// Who waits for whom and why, in sentences. Any thread.
///
/// # Safety
/// Pointers are NULL or valid as the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rk_explain(
    _runtime: *mut RkRuntime,
    _buf: *mut c_char,
    _capacity: usize,
    _size: *mut usize,
) -> RkStatus {
    guard::status(|| {
        let why = "explanations are not part of this version; rk_kernel_status has the state";
        Err(Error::Unsupported { what: "rk_explain", why })
    })
}

/// Starts writing a trace to a file. Any thread.
///
/// # Safety
/// Pointers are NULL or valid as the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rk_trace_start(_runtime: *mut RkRuntime, _path: *const c_char) -> RkStatus {
    guard::status(|| {
        let why = "traces are not part of this version";
        Err(Error::Unsupported { what: "rk_trace_start", why })
    })
}

/// Ends the trace and closes its file. Any thread.
///
/// # Safety
/// `runtime` is NULL or a runtime's handle.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rk_trace_stop(_runtime: *mut RkRuntime) -> RkStatus {
    guard::status(|| {
        let why = "traces are not part of this version";
        Err(Error::Unsupported { what: "rk_trace_stop", why })
    })
}
