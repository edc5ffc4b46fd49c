//! The runtime: kernels, their lifecycle and their messages, whatever runs them.
//!
//! [`RingKernelRuntime`] is what a backend implements; [`Runtime`] wraps one for the C surface. Control verbs
//! go through the trait and the control thread (`control.rs`, the only file that knows tokio); messages do not:
//! they go from a handle (`handle.rs`) through the kernel (`kernel.rs`) into a ring and are handled by whoever
//! holds the block's gate (`gate.rs`, `block.rs`).

pub mod context;
pub mod lease;
pub(crate) mod log;

pub(crate) mod block;
pub(crate) mod blocking;
pub(crate) mod blocks;
mod buffer;
mod call;
mod callback;
mod calls;
pub(crate) mod checkpoint;
mod command;
mod control;
pub(crate) mod core;
mod dead;
mod events;
pub(crate) mod gate;
mod handle;
mod hazard;
mod help;
mod inspect;
pub(crate) mod kept;
pub(crate) mod kernel;
mod lifecycle;
mod message;
mod operations;
mod options;
mod owner;
mod program;
mod queues;
mod registry;
pub(crate) mod remote;
mod route;
#[cfg(test)]
mod simulation;
mod stamp;
mod supervise;
mod table;
mod waits;

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use crate::error::Result;
use crate::layout::{RkKernelMetrics, RkRuntimeMetrics};

pub use callback::UserData;
pub(crate) use control::aside;
pub use handle::KernelHandle;
pub(crate) use handle::{insert, remove};
pub use lifecycle::KernelState;
pub use message::Outgoing;
pub use options::{Backend, LaunchOptions, Mode, RuntimeOptions, WaitStrategy};
pub(crate) use owner::{Opened, create, metrics};
pub use owner::{Runtime, Threads, destroy, find};
pub use program::{DeviceCode, Program};

/// Counters of a runtime.
pub type RuntimeMetrics = RkRuntimeMetrics;
/// Counters of a kernel.
pub type KernelMetrics = RkKernelMetrics;

/// A future on the heap: what an async function of a trait object is.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// A kernel's id: 1 to 127 bytes of `[A-Za-z0-9_.:/-]`, unique among live kernels.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct KernelId(Arc<str>);

impl KernelId {
    /// The id of a text that was checked at the boundary.
    pub fn new(id: &str) -> Self {
        Self(Arc::from(id))
    }

    /// As text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for KernelId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// What a backend is: launches kernels and ends them. All functions may be called from any thread.
pub trait RingKernelRuntime: Send + Sync {
    /// Which one it is; never AUTO.
    fn backend(&self) -> Backend;

    /// Whether a backend could be used here; AUTO and CPU always can.
    fn is_backend_available(&self, backend: Backend) -> bool;

    /// Launches a kernel: ACTIVE when the future is ready, or LAUNCHED with `RK_LAUNCH_SUSPENDED`.
    fn launch<'a>(
        &'a self,
        kernel_id: &'a str,
        options: LaunchOptions,
    ) -> BoxFuture<'a, Result<KernelHandle>>;

    /// As `launch`, if that waits for nothing and the caller may have it without a future; `Err`: the options come back.
    fn launch_at_once(
        &self,
        _kernel_id: &str,
        options: LaunchOptions,
    ) -> std::result::Result<Result<KernelHandle>, LaunchOptions> {
        Err(options)
    }

    /// The live kernel of an id.
    fn get_kernel(&self, kernel_id: &KernelId) -> Option<KernelHandle>;

    /// Ids of all live kernels in the order of their launch.
    fn list_kernels(&self) -> Vec<KernelId>;

    /// Counters of the runtime.
    fn metrics(&self) -> RuntimeMetrics;

    /// Terminates all kernels; ready when the last has ended, however long its handlers take.
    fn shutdown(&self) -> BoxFuture<'_, Result<()>>;

    /// Counters of a kernel.
    fn kernel_metrics(&self, kernel_id: &KernelId) -> Option<KernelMetrics> {
        self.get_kernel(kernel_id).and_then(|kernel| kernel.metrics().ok())
    }
}
