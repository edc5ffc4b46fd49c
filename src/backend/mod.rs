//! The backends, and which one a runtime gets.

mod cpu;
#[cfg(feature = "cuda")]
mod cuda;

use std::sync::Arc;

use crate::error::Result;
use crate::runtime::core::Core;
use crate::runtime::log;
use crate::runtime::{Backend, Opened};

/// Opens the backend that the options ask for.
pub(crate) fn open(core: &Arc<Core>) -> Result<Opened> {
    match core.options.backend {
        Backend::Cpu => cpu::open(core),
        Backend::Cuda => open_cuda(core),
        Backend::Auto => open_cuda(core).or_else(|why| {
            log::write(log::Level::Info, || format!("the backend is the CPU: {why}"));
            cpu::open(core)
        }),
    }
}

/// Whether a backend could be opened here.
pub(crate) fn is_available(backend: Backend) -> bool {
    backend != Backend::Cuda || is_cuda_available()
}

#[cfg(feature = "cuda")]
fn open_cuda(core: &Arc<Core>) -> Result<Opened> {
    cuda::open(core)
}

#[cfg(feature = "cuda")]
fn is_cuda_available() -> bool {
    cuda::is_available()
}

#[cfg(not(feature = "cuda"))]
fn open_cuda(_core: &Arc<Core>) -> Result<Opened> {
    let why = "this library was built without the feature \"cuda\"".into();
    Err(crate::error::Error::BackendUnavailable { backend: "CUDA", why, code: 0 })
}

#[cfg(not(feature = "cuda"))]
fn is_cuda_available() -> bool {
    false
}
