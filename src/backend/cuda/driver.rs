//! The CUDA driver: opened at run time, each function looked up once and checked.
//!
//! cudarc opens the library; its own functions are not called, because they panic when a symbol is missing and
//! return codes as a Rust enum, for which a code of a newer driver would be undefined behaviour. Here codes
//! are numbers, a missing function is an error or, for those that only newer drivers have, a `None`.
#![allow(unsafe_code)]

use std::ffi::{CStr, c_char, c_int, c_uint, c_void};
use std::panic::catch_unwind;
use std::sync::Arc;

use cudarc::driver::sys;
use once_cell::sync::OnceCell;

use crate::error::{Error, Result};

pub(super) type Context = *mut c_void;
pub(super) type Module = *mut c_void;
pub(super) type Function = *mut c_void;
pub(super) type Stream = *mut c_void;
/// An address on the device.
pub(super) type Address = u64;

/// What the driver answers.
pub(super) const SUCCESS: u32 = sys::CUresult::CUDA_SUCCESS as u32;
pub(super) const NOT_READY: u32 = sys::CUresult::CUDA_ERROR_NOT_READY as u32;
pub(super) const NOT_FOUND: u32 = sys::CUresult::CUDA_ERROR_NOT_FOUND as u32;
const NO_DEVICE: u32 = sys::CUresult::CUDA_ERROR_NO_DEVICE as u32;
pub(super) const TOO_LARGE: u32 = sys::CUresult::CUDA_ERROR_COOPERATIVE_LAUNCH_TOO_LARGE as u32;

macro_rules! table {
    (must { $($name:ident = $symbol:literal ($($argument:ty),*);)* }
     may { $($other:ident = $other_symbol:literal ($($other_argument:ty),*);)* }) => {
        /// The functions.
        pub(super) struct Api {
            $(pub(super) $name: unsafe extern "C" fn($($argument),*) -> u32,)*
            $(pub(super) $other: Option<unsafe extern "C" fn($($other_argument),*) -> u32>,)*
        }

        impl Api {
            /// Looks everything up; the name of what is missing.
            fn find() -> core::result::Result<Self, &'static str> {
                // SAFETY: called only where the library is present; the types below are those of the driver's
                // documentation.
                unsafe {
                    let library = sys::culib();
                    Ok(Self {
                        $($name: *library
                            .get::<unsafe extern "C" fn($($argument),*) -> u32>(
                                concat!($symbol, "\0").as_bytes(),
                            )
                            .map_err(|_| $symbol)?,)*
                        $($other: library
                            .get::<unsafe extern "C" fn($($other_argument),*) -> u32>(
                                concat!($other_symbol, "\0").as_bytes(),
                            )
                            .ok()
                            .map(|found| *found),)*
                    })
                }
            }
        }
    };
}

table! {
    must {
        init = "cuInit"(c_uint);
        device_count = "cuDeviceGetCount"(*mut c_int);
        device_get = "cuDeviceGet"(*mut c_int, c_int);
        device_name = "cuDeviceGetName"(*mut c_char, c_int, c_int);
        device_attribute = "cuDeviceGetAttribute"(*mut c_int, c_int, c_int);
        context_retain = "cuDevicePrimaryCtxRetain"(*mut Context, c_int);
        context_release = "cuDevicePrimaryCtxRelease_v2"(c_int);
        context_push = "cuCtxPushCurrent_v2"(Context);
        context_pop = "cuCtxPopCurrent_v2"(*mut Context);
        memory_alloc = "cuMemAlloc_v2"(*mut Address, usize);
        memory_free = "cuMemFree_v2"(Address);
        host_alloc = "cuMemHostAlloc"(*mut *mut c_void, usize, c_uint);
        host_free = "cuMemFreeHost"(*mut c_void);
        host_address = "cuMemHostGetDevicePointer_v2"(*mut Address, *mut c_void, c_uint);
        module_load = "cuModuleLoadDataEx"(*mut Module, *const c_void, c_uint, *mut c_uint, *mut *mut c_void);
        module_function = "cuModuleGetFunction"(*mut Function, Module, *const c_char);
        module_unload = "cuModuleUnload"(Module);
        function_attribute = "cuFuncGetAttribute"(*mut c_int, c_int, Function);
        occupancy = "cuOccupancyMaxActiveBlocksPerMultiprocessor"(*mut c_int, Function, c_int, usize);
        stream_create = "cuStreamCreateWithPriority"(*mut Stream, c_uint, c_int);
        stream_destroy = "cuStreamDestroy_v2"(Stream);
        stream_query = "cuStreamQuery"(Stream);
        launch = "cuLaunchKernel"(
            Function, c_uint, c_uint, c_uint, c_uint, c_uint, c_uint, c_uint, Stream, *mut *mut c_void,
            *mut *mut c_void
        );
        error_name = "cuGetErrorName"(c_uint, *mut *const c_char);
    }
    may {
        context_id = "cuCtxGetId"(Context, *mut u64);
        launch_cooperative = "cuLaunchCooperativeKernel"(
            Function, c_uint, c_uint, c_uint, c_uint, c_uint, c_uint, c_uint, Stream, *mut *mut c_void
        );
        loading_mode = "cuModuleGetLoadingMode"(*mut c_int);
        function_set = "cuFuncSetAttribute"(Function, c_int, c_int);
    }
}

static API: OnceCell<Api> = OnceCell::new();

fn unavailable(why: String, code: u32) -> Error {
    Error::BackendUnavailable { backend: "CUDA", why: why.into(), code }
}

/// The driver, opened and initialised.
pub(super) fn open() -> Result<&'static Api> {
    let api = API.get_or_try_init(|| {
        let missing = "no CUDA driver is installed (libcuda.so.1 could not be loaded)";
        // cudarc's probe and its opening both end in a panic or a plain no.
        // SAFETY: loading the driver runs its initialisers, which is what opening it means.
        let present = catch_unwind(|| unsafe { sys::is_culib_present() }).unwrap_or(false);
        if !present {
            return Err(unavailable(missing.to_owned(), 0));
        }
        match catch_unwind(Api::find) {
            Ok(Ok(api)) => Ok(api),
            Ok(Err(symbol)) => Err(unavailable(format!("the CUDA driver is too old: it lacks {symbol}"), 0)),
            Err(_) => Err(unavailable(missing.to_owned(), 0)),
        }
    })?;
    // SAFETY: the function takes a number.
    match unsafe { (api.init)(0) } {
        SUCCESS => Ok(api),
        NO_DEVICE => Err(Error::NoDevice { why: "the driver sees none".into(), code: NO_DEVICE }),
        code => Err(unavailable(format!("the driver could not be initialised: {}", api.name(code)), code)),
    }
}

impl Api {
    /// The driver's name of a code; newer drivers have names that older libraries do not know.
    pub(super) fn name(&self, code: u32) -> String {
        let mut name: *const c_char = std::ptr::null();
        // SAFETY: an out-pointer of ours; the text is the driver's own for ever.
        let known = unsafe { (self.error_name)(code, &mut name) } == SUCCESS && !name.is_null();
        match known {
            // SAFETY: as above.
            true => unsafe { CStr::from_ptr(name) }.to_string_lossy().into_owned(),
            false => format!("driver code {code}"),
        }
    }

    /// A code as a result.
    pub(super) fn check(&self, what: &str, code: u32) -> Result<()> {
        if code == SUCCESS { Ok(()) } else { Err(self.error(what, code)) }
    }

    /// A code as an error.
    pub(super) fn error(&self, what: &str, code: u32) -> Error {
        Error::Cuda { what: Arc::from(what), name: self.name(code).into(), code }
    }
}

/// Makes a context current on this thread until it is dropped; the application's is put back.
pub(super) struct Current(&'static Api);

impl Current {
    pub(super) fn enter(api: &'static Api, context: Context) -> Result<Self> {
        // SAFETY: the context is retained by its device.
        api.check("cuCtxPushCurrent", unsafe { (api.context_push)(context) })?;
        Ok(Self(api))
    }
}

impl Drop for Current {
    fn drop(&mut self) {
        let mut popped = std::ptr::null_mut();
        // SAFETY: an out-pointer of ours.
        unsafe { (self.0.context_pop)(&mut popped) };
    }
}
