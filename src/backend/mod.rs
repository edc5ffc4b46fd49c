//! The backends, and which one a runtime gets.

mod cpu;

use std::sync::Arc;

use crate::error::{Error, Result};
use crate::runtime::core::Core;
use crate::runtime::log;
use crate::runtime::{Backend, Opened};

/// Opens the backend that the options ask for.
pub(crate) fn open(core: &Arc<Core>) -> Result<Opened> {
    match core.options.backend {
        Backend::Cpu => cpu::open(core),
        Backend::Auto => {
            log::write(log::Level::Info, || format!("the backend is the CPU: {NO_CUDA}"));
            cpu::open(core)
        }
        Backend::Cuda => Err(Error::BackendUnavailable { backend: "CUDA", why: NO_CUDA }),
    }
}

/// Why there is no CUDA.
const NO_CUDA: &str = "the CUDA backend is not part of this version";
