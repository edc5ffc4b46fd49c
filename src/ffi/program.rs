//! Programs: the code a kernel runs.

use std::ffi::c_char;

use super::runtime::find;
use super::{arg, guard};
use crate::layout::{RkProgram, RkRuntime, RkStatus};
use crate::runtime::{DeviceCode, Program, UserData};

/// An empty program description. Any thread.
#[unsafe(no_mangle)]
pub extern "C" fn rk_program_init() -> RkProgram {
    guard::plain(arg::initial(), arg::initial)
}

/// Registers a program under its name; copies everything but user_data.
///
/// The runtime owns user_data from here on, also when this fails: drop_user_data is called exactly once.
/// On a GPU the device code is compiled and loaded here, so that no launch waits for it: COMPILE with the compiler's words in
/// rk_last_error, and INVALID_STATE while persistent kernels are resident, because the driver would wait for their end.
/// Errors: INVALID_ARGUMENT, STRUCT_SIZE, ALREADY_EXISTS, SHUTDOWN, COMPILE, INVALID_STATE, DEVICE. Any thread.
///
/// # Safety
/// Pointers are NULL or valid as the header says; the functions may be called from any thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rk_program_register(runtime: *mut RkRuntime, program: *const RkProgram) -> RkStatus {
    guard::status(|| {
        let (program, tail) = arg::versioned_with_tail(program)?;
        let user_data = UserData::new(program.user_data, program.drop_user_data);
        tail?;
        let runtime = find(runtime)?;
        let name = arg::name(program.name, "program.name")?;
        let code = arg::bytes(program.cuda_code, program.cuda_code_size, "program.cuda_code")?;
        let device = DeviceCode::checked(
            program.cuda_code_kind,
            code,
            arg::optional_name(program.cuda_handler, "program.cuda_handler")?,
        )?;
        runtime.register(Program::checked(name, &program, user_data, device)?)
    })
}

/// Takes a program's name away; kernels already launched keep running. Errors: NOT_FOUND. Any thread.
///
/// # Safety
/// Pointers are NULL or valid as the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rk_program_unregister(runtime: *mut RkRuntime, name: *const c_char) -> RkStatus {
    guard::status(|| {
        let name = arg::name(name, "name")?;
        find(runtime)?.unregister(name)
    })
}
