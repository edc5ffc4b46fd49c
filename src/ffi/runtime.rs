//! Runtimes.

use super::{arg, guard};
use crate::backend;
use crate::error::Result;
use crate::layout::{RkRuntime, RkRuntimeOptions, RkStatus};
use crate::runtime::{self, Backend, Runtime, RuntimeOptions};

/// The encoded handle in a runtime pointer.
pub(super) fn encoded(runtime: *const RkRuntime) -> u64 {
    runtime.addr() as u64
}

/// The runtime of a required pointer.
pub(super) fn find(runtime: *const RkRuntime) -> Result<std::sync::Arc<Runtime>> {
    runtime::find(encoded(runtime))
}

/// Default options of a runtime. Any thread.
#[unsafe(no_mangle)]
pub extern "C" fn rk_runtime_options_init() -> RkRuntimeOptions {
    guard::plain(arg::initial(), arg::initial)
}

/// Creates a runtime: its workers start here.
///
/// `options` NULL means the defaults. The environment variable RK_BACKEND (cpu or cuda) overrides
/// RK_BACKEND_AUTO. Errors: INVALID_ARGUMENT, STRUCT_SIZE, BACKEND_UNAVAILABLE, NO_DEVICE, DEVICE, OUT_OF_MEMORY,
/// INTERNAL (a thread or a page that the system refused; rk_last_backend_code is its errno). Any thread.
///
/// # Safety
/// Pointers are NULL or valid as the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rk_runtime_create(
    options: *const RkRuntimeOptions,
    out: *mut *mut RkRuntime,
) -> RkStatus {
    guard::status(|| {
        let out = arg::out(out, "out")?;
        let options =
            if options.is_null() { arg::initial() } else { arg::versioned::<RkRuntimeOptions>(options)? };
        let handle = runtime::create(RuntimeOptions::checked(&options)?, backend::open)?;
        out.write(std::ptr::without_provenance_mut(handle as usize));
        Ok(())
    })
}

/// Which backend the runtime uses; never AUTO. Any thread.
///
/// # Safety
/// Pointers are NULL or valid as the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rk_runtime_backend(runtime: *const RkRuntime, out: *mut u32) -> RkStatus {
    guard::status(|| {
        let out = arg::out(out, "out")?;
        out.write(find(runtime)?.backend().code());
        Ok(())
    })
}

/// Whether a backend could be used here; AUTO and CPU always. Any thread.
///
/// # Safety
/// Pointers are NULL or valid as the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rk_runtime_is_backend_available(
    runtime: *const RkRuntime,
    backend: u32,
    out: *mut bool,
) -> RkStatus {
    guard::status(|| {
        let out = arg::out(out, "out")?;
        let backend = Backend::checked(backend)?;
        out.write(find(runtime)?.is_backend_available(backend));
        Ok(())
    })
}

/// Stops accepting launches, drains and terminates all kernels.
///
/// Idempotent. RK_ERR_TIMEOUT: some handlers still run, rk_last_error names their kernels; what did not drain
/// in time became dead letters. Any thread; not from a handler (RK_ERR_WOULD_DEADLOCK).
///
/// # Safety
/// `runtime` is NULL or a runtime's handle.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rk_runtime_shutdown(runtime: *mut RkRuntime, timeout_ns: u64) -> RkStatus {
    guard::status(|| find(runtime)?.shutdown(timeout_ns))
}

/// Shuts down within a few seconds and frees; NULL is fine.
///
/// Once it returned RK_OK no callback runs any more and every handle of the runtime is stale; views and loans
/// stay readable until they are given back. RK_ERR_TIMEOUT: a handler does not return; the runtime is shut
/// down, stays valid, and can be destroyed later. Any thread; not from a handler (RK_ERR_WOULD_DEADLOCK).
///
/// # Safety
/// `runtime` is NULL or a runtime's handle.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rk_runtime_destroy(runtime: *mut RkRuntime) -> RkStatus {
    guard::status(|| if runtime.is_null() { Ok(()) } else { runtime::destroy(encoded(runtime)) })
}
