//! Kernels: launch, find, command.

use std::ffi::{c_char, c_void};

use super::runtime::find;
use super::{arg, guard};
use crate::error::Error;
use crate::layout::{RkKernel, RkKernelStatus, RkLaunchOptions, RkOp, RkRuntime, RkStatus};
use crate::runtime::{KernelHandle, LaunchOptions};

/// Default options of a launch. Any thread.
#[unsafe(no_mangle)]
pub extern "C" fn rk_launch_options_init() -> RkLaunchOptions {
    guard::plain(arg::initial(), arg::initial)
}

/// An empty status to be filled. Any thread.
#[unsafe(no_mangle)]
pub extern "C" fn rk_kernel_status_init() -> RkKernelStatus {
    guard::plain(arg::initial(), arg::initial)
}

/// Launches a kernel; ACTIVE when this returns, or LAUNCHED with RK_LAUNCH_SUSPENDED.
///
/// `kernel_id` (1 to 127 bytes of `[A-Za-z0-9_.:/-]`) is unique among live kernels of the runtime; of several
/// launches of one id at once exactly one succeeds. Without `options->program` the id also names the program.
/// Errors: INVALID_ARGUMENT, STRUCT_SIZE, NOT_FOUND (program), ALREADY_EXISTS, LIMIT, SHUTDOWN, UNSUPPORTED, on a
/// GPU NOT_RESIDENT (the grid does not fit; who holds the device is in rk_last_error) and DEVICE,
/// OUT_OF_MEMORY. Any thread, also from a handler.
///
/// # Safety
/// Pointers are NULL or valid as the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rk_launch(
    runtime: *mut RkRuntime,
    kernel_id: *const c_char,
    options: *const RkLaunchOptions,
    out: *mut RkKernel,
) -> RkStatus {
    guard::status(|| {
        let out = arg::out(out, "out")?;
        let runtime = find(runtime)?;
        let id = arg::name(kernel_id, "kernel_id")?;
        let options = if options.is_null() { arg::initial() } else { arg::versioned(options)? };
        let program = arg::optional_name(options.program, "options.program")?;
        out.write(runtime.launch(id, LaunchOptions::checked(&options, program)?)?.raw());
        Ok(())
    })
}

/// As rk_launch, completing with RK_EVENT_LAUNCHED, whose `kernel` is the new one when its `status` is RK_OK.
///
/// What is wrong with the arguments is answered at once, and then nothing was accepted; what the launch itself
/// fails with comes with the event. Errors: INVALID_ARGUMENT, STRUCT_SIZE, SHUTDOWN, LIMIT (no place for its
/// event). Any thread, also from a handler.
///
/// # Safety
/// Pointers are NULL or valid as the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rk_launch_async(
    runtime: *mut RkRuntime,
    kernel_id: *const c_char,
    options: *const RkLaunchOptions,
    user_data: u64,
    out: *mut RkOp,
) -> RkStatus {
    guard::status(|| {
        let out = arg::out(out, "out")?;
        let runtime = find(runtime)?;
        let id = arg::name(kernel_id, "kernel_id")?;
        let options = if options.is_null() { arg::initial() } else { arg::versioned(options)? };
        let program = arg::optional_name(options.program, "options.program")?;
        let options = LaunchOptions::checked(&options, program)?;
        out.write(RkOp { id: runtime.launch_async(id, options, user_data)? });
        Ok(())
    })
}

/// The live kernel of an id. Errors: NOT_FOUND. Any thread.
///
/// # Safety
/// Pointers are NULL or valid as the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rk_get(
    runtime: *mut RkRuntime,
    kernel_id: *const c_char,
    out: *mut RkKernel,
) -> RkStatus {
    guard::status(|| {
        let out = arg::out(out, "out")?;
        let runtime = find(runtime)?;
        out.write(runtime.get(arg::name(kernel_id, "kernel_id")?)?.raw());
        Ok(())
    })
}

/// All live kernels in the order of their launch; terminated ones are not among them.
///
/// `*count` is how many there are, also with RK_ERR_BUFFER_TOO_SMALL, when only the first `capacity` were
/// written. `out` may be NULL when capacity is 0. Any thread.
///
/// # Safety
/// Pointers are NULL or valid as the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rk_list(
    runtime: *mut RkRuntime,
    out: *mut RkKernel,
    capacity: usize,
    count: *mut usize,
) -> RkStatus {
    guard::status(|| {
        let count = arg::out(count, "count")?;
        let mut out = arg::out_array(out, capacity, "out")?;
        let kernels = find(runtime)?.list();
        for (index, kernel) in kernels.iter().take(capacity).enumerate() {
            out.write(index, kernel.raw());
        }
        count.write(kernels.len());
        if kernels.len() > capacity {
            return Err(Error::BufferTooSmall {
                what: "the list of kernels",
                needed: kernels.len(),
                capacity,
            });
        }
        Ok(())
    })
}

/// Lets a kernel run. Errors by state: INVALID_STATE, TERMINATED, KERNEL_FAILED. Any thread; not from a
/// handler of this kernel (RK_ERR_WOULD_DEADLOCK).
#[unsafe(no_mangle)]
pub extern "C" fn rk_activate(kernel: RkKernel) -> RkStatus {
    guard::status(|| KernelHandle::from(kernel).activate())
}

/// Pauses a kernel: waits for the current message of each block; once it returned RK_OK no handler runs. Messages
/// still queue. Errors by state as rk_activate, also of a kernel that is activated (INVALID_STATE), terminated or
/// fails before that. Any thread; not from a handler of this kernel, nor from one that a handler of this kernel waits for in
/// rk_deactivate, rk_checkpoint or rk_restore (RK_ERR_WOULD_DEADLOCK: it would wait for itself).
#[unsafe(no_mangle)]
pub extern "C" fn rk_deactivate(kernel: RkKernel) -> RkStatus {
    guard::status(|| KernelHandle::from(kernel).deactivate())
}

/// Stops taking messages, handles what is queued, stops.
///
/// If something is left past the timeout, the answer is RK_ERR_TIMEOUT: current messages are finished, the rest
/// (input, and output that found no room) become dead letters. The kernel has ended all the same, unless a handler
/// does not return within 100 ms more; then it is TERMINATING until it does. (A handler that returns within 50 ms more
/// makes no timeout: it may have answered already.) A paused kernel has nothing to drain
/// with: its input becomes dead letters at once, which is no timeout. Terminating twice is fine, a second caller
/// waits for the first. The id is free again once the kernel has ended; the handle answers receive, state,
/// status and metrics until rk_destroy. Any thread; not from a handler of this kernel.
#[unsafe(no_mangle)]
pub extern "C" fn rk_terminate(kernel: RkKernel, timeout_ns: u64) -> RkStatus {
    guard::status(|| KernelHandle::from(kernel).terminate(timeout_ns))
}

/// As rk_terminate, completing with RK_EVENT_TERMINATED. Errors: INVALID_ARGUMENT, INVALID_HANDLE, LIMIT (no place for its
/// event). Any thread, also from a handler of this kernel.
///
/// # Safety
/// Pointers are NULL or valid as the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rk_terminate_async(
    kernel: RkKernel,
    timeout_ns: u64,
    user_data: u64,
    out: *mut RkOp,
) -> RkStatus {
    guard::status(|| {
        let out = arg::out(out, "out")?;
        out.write(RkOp { id: KernelHandle::from(kernel).terminate_async(timeout_ns, user_data)? });
        Ok(())
    })
}

/// Waits until a kernel is TERMINATED (RK_OK) or FAILED (RK_ERR_KERNEL_FAILED). Any thread; not from a handler
/// of this kernel.
#[unsafe(no_mangle)]
pub extern "C" fn rk_wait(kernel: RkKernel, timeout_ns: u64) -> RkStatus {
    guard::status(|| KernelHandle::from(kernel).wait(timeout_ns))
}

/// Ends a kernel as rk_terminate(kernel, 0) does if it still runs, then frees it; the handle is stale from now
/// on. RK_ERR_TIMEOUT: messages became dead letters or a handler still runs; the handle is stale all the same
/// and the kernel is freed when its handler returns. Any thread; not from a handler of this kernel.
#[unsafe(no_mangle)]
pub extern "C" fn rk_destroy(kernel: RkKernel) -> RkStatus {
    guard::status(|| KernelHandle::from(kernel).destroy())
}

/// The id of a kernel. `size`, if not NULL, gets the size needed with its NUL, also with
/// RK_ERR_BUFFER_TOO_SMALL. Any thread.
///
/// # Safety
/// Pointers are NULL or valid as the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rk_kernel_name(
    kernel: RkKernel,
    buf: *mut c_char,
    capacity: usize,
    size: *mut usize,
) -> RkStatus {
    guard::status(|| {
        let name = KernelHandle::from(kernel).name()?;
        arg::text_out("the kernel's name", &name, buf, capacity, size)
    })
}

/// The state of a kernel, one of RK_STATE_*. Any thread.
///
/// # Safety
/// Pointers are NULL or valid as the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rk_kernel_state(kernel: RkKernel, out: *mut u32) -> RkStatus {
    guard::short_or_status(
        || match (arg::quick_out(out), KernelHandle::from(kernel).quick_state()) {
            (Some(out), Some(state)) => {
                out.write(state);
                None
            }
            _ => Some(()),
        },
        |()| {
            let out = arg::out(out, "out")?;
            out.write(KernelHandle::from(kernel).state()?.code());
            Ok(())
        },
    )
}

/// The state of a kernel and what goes with it. Any thread.
///
/// # Safety
/// Pointers are NULL or valid as the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rk_kernel_status(kernel: RkKernel, out: *mut RkKernelStatus) -> RkStatus {
    guard::status(|| {
        let out = arg::versioned_out(out)?;
        out.write(&KernelHandle::from(kernel).status()?);
        Ok(())
    })
}

/// Connects two kernels of one runtime: `from` may rk_context_send on `*route`.
///
/// Routes count up from 0 for each kernel and are not used again. A route to oneself is fine. Errors:
/// INVALID_ARGUMENT (two runtimes), TERMINATED, KERNEL_FAILED. Any thread.
///
/// # Safety
/// Pointers are NULL or valid as the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rk_connect(from: RkKernel, to: RkKernel, route: *mut u32) -> RkStatus {
    guard::status(|| {
        let route = arg::out(route, "route")?;
        route.write(KernelHandle::from(from).connect(to.into())?);
        Ok(())
    })
}

/// Ends a route. Errors: NO_ROUTE. Any thread.
#[unsafe(no_mangle)]
pub extern "C" fn rk_disconnect(from: RkKernel, route: u32) -> RkStatus {
    guard::status(|| KernelHandle::from(from).disconnect(route))
}

/// Copies the states of all blocks out, as they are at one point in time between two messages of each.
///
/// The kernel goes on: it takes no message while its blocks finish their current ones and are copied, for a moment as long as
/// that takes; messages queue, its state (RK_STATE_*) stays what it is, and a handler that asks rk_context_stopping is told to come to an end as by rk_deactivate. The bytes name the program, the grid and the size of a
/// state, have a version and a checksum, and are the same on every backend. Nothing of queued messages is in them.
///
/// `size`, if not NULL, gets the bytes needed, also with RK_ERR_BUFFER_TOO_SMALL: then nothing else was done, and the
/// kernel was not held up. `buf` may be NULL when capacity is 0. Legal when LAUNCHED, ACTIVE and DEACTIVATED; else TERMINATED or
/// KERNEL_FAILED, also when it comes to its end while this waits for a handler. The kernel keeps a copy until it is freed: a restarted block begins
/// with it. Other errors: OUT_OF_MEMORY; of a kernel on a device TIMEOUT (no launch for the copy in time) and what the driver says, after which the
/// kernel goes on, and DEVICE (its blocks gave no answer, or the device is lost), after which it is FAILED. Any thread; not from a handler of this
/// kernel, nor from one that a handler of this kernel waits for in rk_deactivate, rk_checkpoint or rk_restore (RK_ERR_WOULD_DEADLOCK: it would
/// wait for itself).
///
/// # Safety
/// Pointers are NULL or valid as the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rk_checkpoint(
    kernel: RkKernel,
    buf: *mut c_void,
    capacity: usize,
    size: *mut usize,
) -> RkStatus {
    guard::status(|| {
        let mut out = arg::out_array(buf.cast::<u8>(), capacity, "buf")?;
        let size = if size.is_null() { None } else { Some(arg::out(size, "size")?) };
        let kernel = KernelHandle::from(kernel);
        let needed = kernel.checkpoint_size()?;
        let is_room = needed <= capacity;
        let made = if is_room { Some(kernel.checkpoint()?) } else { None };
        if let Some(size) = size {
            size.write(needed);
        }
        let Some(made) = made else {
            return Err(Error::BufferTooSmall { what: "a checkpoint", needed, capacity });
        };
        out.copy(0, made.bytes());
        out.copy(made.bytes().len(), &made.checksum());
        Ok(())
    })
}

/// Gives all blocks the states that rk_checkpoint copied out, of this or another kernel, on this or another backend.
///
/// It is done between two messages of each block, for all blocks at once; no message is lost or handled twice. The bytes are looked at
/// first: if a byte was changed or they are not whole, or are of another program, grid_size or state_size, the answer is INVALID_ARGUMENT
/// and nothing was done. A block that has not started yet runs its on_start after this, which finds the state. Legal when LAUNCHED,
/// ACTIVE and DEACTIVATED; else TERMINATED or KERNEL_FAILED, also when it comes to its end while this waits for a handler: then nothing was
/// restored. The kernel keeps a copy until it is freed: a restarted block begins with it. Other errors: OUT_OF_MEMORY; of a kernel on a
/// device those of rk_checkpoint: nothing was restored, unless the answer is DEVICE. Any thread; not from a handler, as rk_checkpoint.
///
/// # Safety
/// Pointers are NULL or valid as the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rk_restore(kernel: RkKernel, buf: *const c_void, size: usize) -> RkStatus {
    guard::status(|| {
        let bytes = arg::bytes(buf, size, "buf")?;
        KernelHandle::from(kernel).restore(bytes)
    })
}
