//! Handlers written in Rust that panic: the kernel fails, nothing else does, and no panic crosses the boundary.

#![allow(unsafe_code, clippy::undocumented_unsafe_blocks)]

use std::ffi::CStr;
use std::ptr;

use ringkernel::ffi::context::rk_context_reply;
use ringkernel::ffi::kernel::{rk_destroy, rk_kernel_state, rk_launch, rk_terminate, rk_wait};
use ringkernel::ffi::message::{rk_call, rk_receive_dead_letter, rk_release, rk_send};
use ringkernel::ffi::program::rk_program_register;
use ringkernel::ffi::runtime::{rk_runtime_create, rk_runtime_destroy};
use ringkernel::layout::*;

unsafe extern "C-unwind" fn echo(ctx: *mut RkContext, message: *const RkMessage) -> RkStatus {
    // SAFETY: the runtime gives a handler a valid context and message.
    unsafe { rk_context_reply(ctx, message) }
}

unsafe extern "C-unwind" fn panics(_: *mut RkContext, _: *const RkMessage) -> RkStatus {
    panic!("a handler of this test panics on purpose");
}

unsafe extern "C-unwind" fn panics_in_start(_: *mut RkContext) -> RkStatus {
    panic!("an on_start of this test panics on purpose");
}

unsafe extern "C-unwind" fn panics_in_stop(_: *mut RkContext) {
    panic!("an on_stop of this test panics on purpose");
}

fn zeroed<T>() -> T {
    // SAFETY: only used for the header's plain structs, for which zero bytes are a value.
    unsafe { std::mem::zeroed() }
}

fn program(name: &'static CStr) -> RkProgram {
    let struct_size = size_of::<RkProgram>() as u32;
    RkProgram { struct_size, name: name.as_ptr(), on_message: Some(echo), ..zeroed() }
}

fn launch(runtime: *mut RkRuntime, id: &CStr, mode: u32) -> RkKernel {
    let mut kernel = RkKernel { id: 0 };
    let options = RkLaunchOptions { struct_size: size_of::<RkLaunchOptions>() as u32, mode, ..zeroed() };
    // SAFETY: all pointers are valid.
    assert_eq!(unsafe { rk_launch(runtime, id.as_ptr(), &options, &mut kernel) }, RK_OK);
    kernel
}

fn works(kernel: RkKernel) -> bool {
    let mut reply = zeroed();
    // SAFETY: all pointers are valid.
    unsafe { rk_call(kernel, &zeroed(), &mut reply, RK_FOREVER) == RK_OK && rk_release(&mut reply) == RK_OK }
}

#[test]
fn a_panic_fails_its_kernel_and_nothing_else() {
    let mut runtime = ptr::null_mut();
    let programs = [
        program(c"echo"),
        RkProgram { on_message: Some(panics), ..program(c"message") },
        RkProgram { on_start: Some(panics_in_start), ..program(c"start") },
        RkProgram { on_stop: Some(panics_in_stop), ..program(c"stop") },
    ];
    // SAFETY: all pointers are valid, here and below.
    unsafe {
        assert_eq!(rk_runtime_create(ptr::null(), &mut runtime), RK_OK);
        for program in &programs {
            assert_eq!(rk_program_register(runtime, program), RK_OK);
        }
    }
    for mode in [RK_MODE_PERSISTENT, RK_MODE_EVENT_DRIVEN] {
        let bystander = launch(runtime, c"echo", mode);
        let failing = launch(runtime, c"message", mode);
        let (mut reply, mut letter, mut state) = (zeroed(), zeroed::<RkDeadLetter>(), 0);
        let request = RkMessage { correlation: 9, ..zeroed() };
        unsafe {
            assert_eq!(rk_call(failing, &request, &mut reply, RK_FOREVER), RK_ERR_KERNEL_FAILED);
            assert_eq!(rk_wait(failing, RK_FOREVER), RK_ERR_KERNEL_FAILED);
            assert_eq!(rk_send(failing, &request, 0), RK_ERR_KERNEL_FAILED);
            assert_eq!(rk_receive_dead_letter(runtime, &mut letter, RK_FOREVER), RK_OK);
            assert_eq!((letter.reason, letter.status), (RK_DEAD_HANDLER, RK_ERR_KERNEL_FAILED));
            assert_eq!(letter.message.correlation, 9);
            assert_eq!(rk_release(&mut letter.message), RK_OK);
            assert_eq!(rk_destroy(failing), RK_OK);
        }
        let failing = launch(runtime, c"start", mode);
        assert_eq!(rk_wait(failing, RK_FOREVER), RK_ERR_KERNEL_FAILED);
        assert_eq!(rk_destroy(failing), RK_OK);
        let failing = launch(runtime, c"stop", mode);
        assert!(works(failing));
        assert_eq!(rk_terminate(failing, RK_FOREVER), RK_OK);
        unsafe { assert_eq!(rk_kernel_state(failing, &mut state), RK_OK) };
        assert_eq!(state, RK_STATE_TERMINATED);
        assert_eq!(rk_destroy(failing), RK_OK);
        assert!(works(bystander));
        assert_eq!(rk_destroy(bystander), RK_OK);
    }
    unsafe { assert_eq!(rk_runtime_destroy(runtime), RK_OK) };
}
