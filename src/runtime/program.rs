//! Programs: the code a kernel runs, shared by the registry and the kernels that run it.

use std::any::Any;
use std::sync::Arc;

use super::callback::{Code, UserData};
use crate::error::{Error, Result};
use crate::layout::{RK_CODE_CUBIN, RK_CODE_NONE, RkProgram};

/// The device side of a program.
#[derive(Debug)]
pub struct DeviceCode {
    /// One of `RK_CODE_*`.
    pub kind: u32,
    /// The code, copied.
    pub code: Box<[u8]>,
    /// The device function; `None`: the program's name.
    pub handler: Option<Arc<str>>,
}

impl DeviceCode {
    /// Checks what C gave.
    pub fn checked(kind: u32, code: &[u8], handler: Option<&str>) -> Result<Self> {
        if kind > RK_CODE_CUBIN {
            let rule = "code kinds are 0 to 3";
            return Err(Error::OutOfRange { argument: "cuda_code_kind", value: i128::from(kind), rule });
        }
        if (kind == RK_CODE_NONE) != code.is_empty() {
            return Err(Error::Invalid { what: "device code and its kind must be given together" });
        }
        Ok(Self { kind, code: code.into(), handler: handler.map(Arc::from) })
    }
}

/// A registered program. Dropping the last share gives the user data back.
#[derive(Debug)]
pub struct Program {
    /// Its name.
    pub name: Arc<str>,
    /// Bytes of state per block.
    pub state_size: usize,
    /// The device side.
    pub device: DeviceCode,
    pub(crate) code: Code,
    pub(crate) user_data: UserData,
    /// What the backend has made of the device side.
    pub(crate) prepared: once_cell::sync::OnceCell<Arc<dyn Any + Send + Sync>>,
}

impl Program {
    /// Checks what C gave.
    pub fn checked(name: &str, raw: &RkProgram, user_data: UserData, device: DeviceCode) -> Result<Self> {
        if raw.flags != 0 || raw.reserved.iter().any(|word| *word != 0) {
            return Err(Error::Invalid { what: "rk_program_t.flags and .reserved must be zero" });
        }
        if raw.on_message.is_none() && device.kind == RK_CODE_NONE {
            return Err(Error::Invalid { what: "a program needs on_message or device code" });
        }
        let code = Code { on_message: raw.on_message, on_start: raw.on_start, on_stop: raw.on_stop };
        let prepared = once_cell::sync::OnceCell::new();
        Ok(Self { name: name.into(), state_size: raw.state_size, device, code, user_data, prepared })
    }

    /// Whether it can run on CPU threads.
    pub(crate) fn runs_on_cpu(&self) -> bool {
        self.code.on_message.is_some()
    }
}
