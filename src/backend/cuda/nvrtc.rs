//! NVRTC, the compiler of CUDA C++ at run time: opened when the first program comes as source.
//!
//! The library is not needed otherwise. Handlers include the same headers as on the host; the few system headers that
//! they need are given here, because NVRTC has none.
#![allow(unsafe_code)]

use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::path::Path;
use std::sync::Arc;

use once_cell::sync::OnceCell;

use crate::error::{Error, Result};

type Program = *mut c_void;
type Texts = *const *const c_char;
type Create = unsafe extern "C" fn(*mut Program, *const c_char, *const c_char, c_int, Texts, Texts) -> u32;
type Destroy = unsafe extern "C" fn(*mut Program) -> u32;
type Build = unsafe extern "C" fn(Program, c_int, Texts) -> u32;
type Size = unsafe extern "C" fn(Program, *mut usize) -> u32;
type Get = unsafe extern "C" fn(Program, *mut c_char) -> u32;
type Ints = unsafe extern "C" fn(*mut c_int) -> u32;

/// Functions of the library.
struct Api {
    create: Create,
    destroy: Destroy,
    compile: Build,
    log_size: Size,
    log: Get,
    cubin_size: Size,
    cubin: Get,
    ptx_size: Size,
    ptx: Get,
    archs_count: Ints,
    archs: Ints,
}

static API: OnceCell<Api> = OnceCell::new();

const HEADERS: &[(&CStr, &str)] = &[
    (c"ringkernel.h", include_str!("../../../include/ringkernel.h")),
    (c"ringkernel_device.cuh", include_str!("../../../include/ringkernel_device.cuh")),
    (
        c"stdint.h",
        "#pragma once\ntypedef signed char int8_t; typedef unsigned char uint8_t;\n\
         typedef short int16_t; typedef unsigned short uint16_t;\n\
         typedef int int32_t; typedef unsigned int uint32_t;\n\
         typedef long int64_t; typedef unsigned long uint64_t;\n\
         typedef long intptr_t; typedef unsigned long uintptr_t;\n\
         #define UINT32_MAX 0xffffffffu\n#define UINT64_MAX 0xfffffffffffffffful\n\
         #define INT32_MAX 0x7fffffff\n#define INT64_MAX 0x7fffffffffffffffl\n\
         #define UINT8_MAX 0xff\n#define UINT16_MAX 0xffff\n",
    ),
    (c"stddef.h", "#pragma once\ntypedef unsigned long size_t;\n#ifndef NULL\n#define NULL 0\n#endif\n"),
    (c"stdbool.h", "#pragma once\n"),
    (c"string.h", "#pragma once\n#include <stddef.h>\n"),
    (c"math.h", "#pragma once\n"),
];

fn failed(program: &str, log: String, code: u32) -> Error {
    Error::Compile { program: program.into(), log: log.into(), code }
}

/// What could be the library, best first.
fn candidates() -> Vec<String> {
    let own = std::env::var("RK_NVRTC").ok().filter(|path| !path.is_empty());
    let known = ["libnvrtc.so.13", "libnvrtc.so.12", "libnvrtc.so", "/usr/local/cuda/lib64/libnvrtc.so"];
    own.into_iter().chain(known.map(String::from)).collect()
}

fn dlopen(path: &str) -> Option<*mut c_void> {
    let path = CString::new(path).ok()?;
    // SAFETY: loading a library runs its initialisers, which is what opening it means.
    let library = unsafe { libc::dlopen(path.as_ptr(), libc::RTLD_NOW | libc::RTLD_LOCAL) };
    (!library.is_null()).then_some(library)
}

/// The part with the compiler's own headers is looked for by name only; loaded first, it is found.
fn load_neighbours(path: &str) {
    let Some(folder) = Path::new(path).parent().filter(|folder| folder.is_absolute()) else { return };
    let names = std::fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    for name in names.filter(|name| name.to_string_lossy().contains("libnvrtc-builtins.so")) {
        dlopen(&name.to_string_lossy());
    }
}

fn find() -> core::result::Result<Api, String> {
    let candidates = candidates();
    let library = candidates.iter().find_map(|path| {
        load_neighbours(path);
        dlopen(path)
    });
    let Some(library) = library else {
        return Err(format!(
            "NVRTC is needed for source and was not found (tried {}; the environment variable RK_NVRTC \
             names another)",
            candidates.join(", ")
        ));
    };
    macro_rules! symbol {
        ($name:literal, $type:ty) => {{
            // SAFETY: the library is open and stays so.
            let address = unsafe { libc::dlsym(library, concat!($name, "\0").as_ptr().cast()) };
            if address.is_null() {
                return Err(concat!("NVRTC lacks ", $name).to_owned());
            }
            // SAFETY: the type is that of the library's documentation.
            unsafe { std::mem::transmute::<*mut c_void, $type>(address) }
        }};
    }
    Ok(Api {
        create: symbol!("nvrtcCreateProgram", Create),
        destroy: symbol!("nvrtcDestroyProgram", Destroy),
        compile: symbol!("nvrtcCompileProgram", Build),
        log_size: symbol!("nvrtcGetProgramLogSize", Size),
        log: symbol!("nvrtcGetProgramLog", Get),
        cubin_size: symbol!("nvrtcGetCUBINSize", Size),
        cubin: symbol!("nvrtcGetCUBIN", Get),
        ptx_size: symbol!("nvrtcGetPTXSize", Size),
        ptx: symbol!("nvrtcGetPTX", Get),
        archs_count: symbol!("nvrtcGetNumSupportedArchs", Ints),
        archs: symbol!("nvrtcGetSupportedArchs", Ints),
    })
}

/// Compiles a handler for a device: a CUBIN, or PTX when the compiler is older than the device. Either can be given to the
/// driver as it is.
pub(super) fn compile(program: &str, source: &[u8], handler: &str, capability: u32) -> Result<Vec<u8>> {
    let api = API.get_or_try_init(find).map_err(|why| failed(program, why, 0))?;
    let nul = |_| failed(program, "the source has a NUL byte in it".to_owned(), 0);
    let source = source.strip_suffix(b"\0").unwrap_or(source);
    let mut text = Vec::with_capacity(source.len() + 256);
    text.extend_from_slice(b"#include <ringkernel_device.cuh>\n#line 1\n");
    text.extend_from_slice(source);
    text.extend_from_slice(format!("\n#line 1 \"(entry)\"\nRK_DEVICE_ENTRY({handler})\n").as_bytes());
    let text = CString::new(text).map_err(nul)?;
    let file = CString::new(format!("{program}.cu")).map_err(nul)?;
    let bodies: Vec<CString> =
        HEADERS.iter().map(|(_, body)| CString::new(*body).expect("headers have no NUL")).collect();
    let body_pointers: Vec<_> = bodies.iter().map(|body| body.as_ptr()).collect();
    let names: Vec<_> = HEADERS.iter().map(|(name, _)| name.as_ptr()).collect();
    let mut handle = std::ptr::null_mut();
    // SAFETY: texts that live longer than the call, and as many as it says.
    let code = unsafe {
        (api.create)(
            &mut handle,
            text.as_ptr(),
            file.as_ptr(),
            names.len() as c_int,
            body_pointers.as_ptr(),
            names.as_ptr(),
        )
    };
    if code != 0 {
        return Err(failed(program, format!("NVRTC refused the program ({code})"), code));
    }
    let compiling = Compiling { api, handle, program: program.into() };
    compiling.run(capability)
}

/// A program of the compiler; destroyed when dropped.
struct Compiling {
    api: &'static Api,
    handle: Program,
    program: Arc<str>,
}

impl Compiling {
    fn run(&self, capability: u32) -> Result<Vec<u8>> {
        let supported = self.supported();
        let known = supported.is_empty() || supported.contains(&capability);
        let older = supported.iter().copied().filter(|arch| *arch <= capability).max().unwrap_or(capability);
        let target = if known { format!("sm_{capability}") } else { format!("compute_{older}") };
        let options = [
            CString::new(format!("--gpu-architecture={target}")).expect("no NUL"),
            c"--std=c++17".to_owned(),
            c"--device-as-default-execution-space".to_owned(),
            // Or it would raise the stack limit of the whole process.
            c"--modify-stack-limit=false".to_owned(),
        ];
        let pointers: Vec<_> = options.iter().map(|option| option.as_ptr()).collect();
        // SAFETY: a live program and texts that live longer than the call.
        let code = unsafe { (self.api.compile)(self.handle, pointers.len() as c_int, pointers.as_ptr()) };
        if code != 0 {
            return Err(failed(&self.program, self.log(), code));
        }
        let (size_of, get) = match known {
            true => (self.api.cubin_size, self.api.cubin),
            false => (self.api.ptx_size, self.api.ptx),
        };
        let mut size = 0;
        // SAFETY: an out-pointer of ours, then a buffer as long as the library asked for.
        unsafe {
            let sized = size_of(self.handle, &mut size);
            let mut image = vec![0u8; size + 1];
            let code = if sized == 0 { get(self.handle, image.as_mut_ptr().cast()) } else { sized };
            match code {
                0 => Ok(image),
                code => Err(failed(&self.program, format!("NVRTC gave no image ({code})"), code)),
            }
        }
    }

    /// Architectures that the compiler knows.
    fn supported(&self) -> Vec<u32> {
        let mut count = 0;
        // SAFETY: an out-pointer of ours, then a buffer as long as the library asked for.
        unsafe {
            if (self.api.archs_count)(&mut count) != 0 || count <= 0 {
                return Vec::new();
            }
            let mut archs = vec![0; count as usize];
            match (self.api.archs)(archs.as_mut_ptr()) {
                0 => archs.into_iter().map(|arch: c_int| arch as u32).collect(),
                _ => Vec::new(),
            }
        }
    }

    fn log(&self) -> String {
        let mut size = 0;
        // SAFETY: an out-pointer of ours, then a buffer as long as the library asked for.
        unsafe {
            if (self.api.log_size)(self.handle, &mut size) != 0 {
                return "the compiler has no log".to_owned();
            }
            let mut text = vec![0u8; size + 1];
            (self.api.log)(self.handle, text.as_mut_ptr().cast());
            CStr::from_bytes_until_nul(&text)
                .map_or_else(|_| String::new(), |text| text.to_string_lossy().trim().to_owned())
        }
    }
}

impl Drop for Compiling {
    fn drop(&mut self) {
        // SAFETY: created by `compile`, destroyed once.
        unsafe { (self.api.destroy)(&mut self.handle) };
    }
}
