//! A program on the device: compiled, loaded, its entry found.
//!
//! All of it happens when the program is registered, so that neither a launch nor a first use loads anything: with
//! a kernel resident that could wait for ever. So could unloading: a module that nobody needs any more is unloaded when the next
//! program is loaded, or when the device is closed.
#![allow(unsafe_code)]

use std::ffi::{CStr, CString, c_int, c_void};

use cudarc::driver::sys::{CUfunction_attribute_enum as Attribute, CUjit_option_enum as Jit};

use super::device::Device;
use super::driver::{Function, NOT_FOUND, SUCCESS};
use super::nvrtc;
use super::pool::hold_launches;
use crate::error::{Error, Result};
use crate::layout::{RK_CODE_CUBIN, RK_CODE_SOURCE};
use crate::runtime::Program;
use crate::sync::{Arc, Mutex, lock};

const LOG: usize = 16 * 1024;

/// A loaded program.
#[derive(Debug)]
pub(super) struct Module {
    pub(super) device: Arc<Device>,
    pub(super) function: Function,
    pub(super) name: Arc<str>,
    /// Threads that a block can have, as the registers of the code allow.
    pub(super) threads_max: u32,
    /// Dynamic shared memory that was asked for so far.
    shared: Mutex<u32>,
    loaded: usize,
}

impl Drop for Module {
    fn drop(&mut self) {
        self.device.abandon(self.loaded);
    }
}

// SAFETY: the pointer is a handle of the driver, which any thread may use.
unsafe impl Send for Module {}
// SAFETY: as above.
unsafe impl Sync for Module {}

/// The handler's name as it stands in the code.
fn handler_of(program: &Program) -> Result<Arc<str>> {
    let handler = program.device.handler.as_ref().unwrap_or(&program.name);
    let is_first = |byte: u8| byte.is_ascii_alphabetic() || byte == b'_';
    let is_name =
        handler.bytes().enumerate().all(|(at, byte)| is_first(byte) || at > 0 && byte.is_ascii_digit());
    if !is_name {
        let rule = "the device function is a C identifier; give it in cuda_handler";
        let (text, length) = (Arc::clone(handler), handler.len());
        return Err(Error::BadName { argument: "cuda_handler", text, length, rule });
    }
    Ok(Arc::clone(handler))
}

impl Module {
    /// Compiles and loads the device side of a program.
    ///
    /// The driver loads code when the device is idle, and a resident kernel never lets it be: better no than for ever. Unless
    /// `beside` says that it may wait.
    pub(super) fn load(device: &Arc<Device>, program: &Program, beside: bool) -> Result<Arc<Self>> {
        let handler = handler_of(program)?;
        let code = &program.device.code;
        let image = match program.device.kind {
            RK_CODE_SOURCE => nvrtc::compile(&program.name, code, &handler, device.capability)?,
            RK_CODE_CUBIN => code.to_vec(),
            _ => [code, &b"\0"[..]].concat(),
        };
        let _no_launch = match beside {
            true => None,
            false => Some(hold_launches(device).ok_or(Error::Misused {
                what: "device code cannot be loaded while persistent kernels are resident (the driver would wait for them): \
                       register programs before the first launch, or when those kernels have ended",
            })?),
        };
        let api = device.api;
        let _current = device.enter()?;
        if !beside {
            device.unload_abandoned();
        }
        let mut log = vec![0u8; LOG];
        let mut options =
            [Jit::CU_JIT_ERROR_LOG_BUFFER as u32, Jit::CU_JIT_ERROR_LOG_BUFFER_SIZE_BYTES as u32];
        let mut values =
            [log.as_mut_ptr().cast::<c_void>(), std::ptr::without_provenance_mut::<c_void>(LOG - 1)];
        let mut module = std::ptr::null_mut();
        // SAFETY: the image is whole, a text ends with a NUL, and the log is as long as it says.
        let loaded = unsafe {
            (api.module_load)(
                &mut module,
                image.as_ptr().cast(),
                2,
                options.as_mut_ptr(),
                values.as_mut_ptr(),
            )
        };
        if loaded != SUCCESS {
            let said = CStr::from_bytes_until_nul(&log).unwrap_or_default().to_string_lossy().into_owned();
            return Err(refused(api.name(loaded), said, program, loaded, || {
                api.error("cuModuleLoadDataEx", loaded)
            }));
        }
        // Its share of the device from here on; an error gives it back.
        let device = Arc::clone(device);
        device.adopt(module.addr());
        let name = Arc::clone(&program.name);
        let shared = Mutex::new(48 * 1024);
        let mut made = Self {
            device,
            function: std::ptr::null_mut(),
            name,
            threads_max: 0,
            shared,
            loaded: module.addr(),
        };
        let entry = CString::new(format!("rk_entry_{handler}")).expect("an identifier has no NUL");
        // SAFETY: the module was loaded above.
        let found = unsafe { (api.module_function)(&mut made.function, module, entry.as_ptr()) };
        if found != SUCCESS && found != NOT_FOUND {
            return Err(api.error("cuModuleGetFunction", found));
        }
        if found == NOT_FOUND {
            let log = format!("it has no entry {entry:?}: RK_DEVICE_ENTRY({handler}) makes it");
            return Err(Error::Compile { program: Arc::clone(&program.name), log: log.into(), code: found });
        }
        made.threads_max = made.attribute(Attribute::CU_FUNC_ATTRIBUTE_MAX_THREADS_PER_BLOCK)?;
        Ok(Arc::new(made))
    }

    fn attribute(&self, which: Attribute) -> Result<u32> {
        let (api, mut value) = (self.device.api, 0);
        // SAFETY: an out-pointer of ours and a function of a loaded module.
        let code = unsafe { (api.function_attribute)(&mut value, which as c_int, self.function) };
        api.check("cuFuncGetAttribute", code)?;
        Ok(value as u32)
    }

    /// Allows blocks that much dynamic shared memory; more than 48 KiB has to be asked for.
    pub(super) fn allow_shared(&self, bytes: u32) -> Result<()> {
        let mut allowed = lock(&self.shared);
        if bytes <= *allowed {
            return Ok(());
        }
        let api = self.device.api;
        let too_much = || {
            let rule = "the device does not have as much shared memory for a block";
            Error::OutOfRange { argument: "shared_memory_size", value: i128::from(bytes), rule }
        };
        let set = api.function_set.ok_or_else(too_much)?;
        let _current = self.device.enter()?;
        let which = Attribute::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES as c_int;
        // SAFETY: a function of a loaded module.
        match unsafe { set(self.function, which, bytes as c_int) } {
            SUCCESS => {
                *allowed = bytes;
                Ok(())
            }
            _ => Err(too_much()),
        }
    }

    /// Blocks that fit on one multiprocessor.
    pub(super) fn occupancy(&self, threads: u32, shared: u32) -> Result<u32> {
        let api = self.device.api;
        let _current = self.device.enter()?;
        let mut blocks = 0;
        // SAFETY: an out-pointer of ours and a function of a loaded module.
        let code = unsafe { (api.occupancy)(&mut blocks, self.function, threads as c_int, shared as usize) };
        api.check("cuOccupancyMaxActiveBlocksPerMultiprocessor", code)?;
        Ok(blocks.max(0) as u32)
    }
}

/// Whether the driver's refusal is the code's fault, and says so.
fn refused(name: String, said: String, program: &Program, code: u32, other: impl Fn() -> Error) -> Error {
    // Invalid image, no binary for this device, invalid PTX, unsupported PTX version, no JIT compiler, invalid source.
    const FAULTS: [u32; 7] = [200, 209, 218, 221, 222, 223, 300];
    if !FAULTS.contains(&code) {
        return other();
    }
    let log = if said.is_empty() { name } else { format!("{name}: {}", said.trim()) };
    Error::Compile { program: Arc::clone(&program.name), log: log.into(), code }
}
