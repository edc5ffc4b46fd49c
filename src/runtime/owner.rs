//! Runtimes: made, found by their encoded handles, shut down, destroyed.
//!
//! # Destroy
//! 1. Shutdown: nothing is accepted; every kernel drains, then discards, within a bounded time. A handler that
//!    does not return makes it RK_ERR_TIMEOUT and the runtime stays, shut down, to be destroyed later.
//! 2. The runtime's handle becomes stale: of several destroyers one goes on. Launches and registrations that
//!    are still on their way to being refused are waited for: they hold programs.
//! 3. Every kernel's handle becomes stale and programs are let go: user data is given back.
//! 4. The backend joins its threads, the control thread ends. No callback can run after that, for there are
//!    no kernels, no programs and no threads.

use std::collections::HashMap;

use super::command::Begun;
use super::control::Control;
use super::core::Core;
use super::handle::{self, KernelHandle};
use super::kernel::Kernel;
use super::options::{Backend, LaunchOptions, RuntimeOptions};
use super::program::Program;
use super::{RingKernelRuntime, blocking, context, log};
use crate::error::{Error, Result};
use crate::layout::{RkDeadLetter, RkRuntimeMetrics};
use crate::limits::{DESTROY_DRAIN_NS, DESTROY_GRACE_NS, TERMINATE_GRACE_NS};
use crate::process;
use crate::sync::{Arc, AtomicU64, Ordering, RwLock, monotonic_ns};

static RUNTIMES: RwLock<Option<HashMap<u64, Arc<Runtime>>>> = RwLock::new(None);
/// Handles are odd multiples that no allocator returns, and never repeat.
static NEXT: AtomicU64 = AtomicU64::new(1);

/// The threads of a backend.
pub trait Threads: Send + Sync {
    /// Ends and joins them; every kernel has ended before.
    fn join(&self);

    /// Makes a program ready to be launched.
    fn prepare(&self, _program: &Program) -> Result<()> {
        Ok(())
    }
}

/// An opened backend.
pub(crate) struct Opened {
    /// What launches kernels.
    pub(crate) backend: Arc<dyn RingKernelRuntime>,
    /// What runs them.
    pub(crate) threads: Arc<dyn Threads>,
}

/// What opens a backend.
pub(crate) type Open = fn(&Arc<Core>) -> Result<Opened>;

/// A runtime as the C surface sees it: a backend and the control plane around it.
pub struct Runtime {
    core: Arc<Core>,
    backend: Arc<dyn RingKernelRuntime>,
    threads: Arc<dyn Threads>,
}

/// Makes a runtime; its encoded handle.
pub(crate) fn create(options: RuntimeOptions, open: Open) -> Result<u64> {
    let refused = |error: std::io::Error| Error::System {
        what: "memory or a thread for the runtime",
        errno: error.raw_os_error().unwrap_or(0),
    };
    let creation = process::Creation::begin().map_err(refused)?;
    let core = Arc::new(Core::new(options, Control::start().map_err(refused)?));
    let Opened { backend, threads } = open(&core)?;
    let runtime = Arc::new(Runtime { core, backend, threads });
    let handle = (NEXT.fetch_add(1, Ordering::Relaxed) << 12) | 0x0a51;
    let mut runtimes = RUNTIMES.write().unwrap_or_else(|poisoned| poisoned.into_inner());
    runtimes.get_or_insert_default().insert(handle, runtime);
    drop(runtimes);
    creation.done();
    log::write(log::Level::Info, || format!("a runtime with {} workers was created", options.worker_threads));
    Ok(handle)
}

fn stale(handle: u64) -> Error {
    if handle == 0 {
        Error::Null { argument: "runtime" }
    } else {
        Error::BadHandle { what: "the runtime", value: handle }
    }
}

/// The runtime of an encoded handle.
pub fn find(handle: u64) -> Result<Arc<Runtime>> {
    let runtimes = RUNTIMES.read().unwrap_or_else(|poisoned| poisoned.into_inner());
    runtimes.as_ref().and_then(|all| all.get(&handle).cloned()).ok_or_else(|| stale(handle))
}

/// `rk_runtime_destroy`; see the file's head.
pub fn destroy(handle: u64) -> Result<()> {
    let runtime = find(handle)?;
    runtime.check_outside("destroy")?;
    runtime.end(DESTROY_DRAIN_NS, DESTROY_GRACE_NS)?;
    let removed = {
        let mut runtimes = RUNTIMES.write().unwrap_or_else(|poisoned| poisoned.into_inner());
        runtimes.as_mut().and_then(|all| all.remove(&handle))
    };
    let removed = removed.ok_or_else(|| stale(handle))?;
    runtime.core.await_launches();
    for kernel in runtime.core.all() {
        handle::remove(&kernel);
    }
    runtime.core.let_go();
    runtime.threads.join();
    runtime.core.control.stop();
    drop(removed);
    log::write(log::Level::Info, || "a runtime was destroyed".to_owned());
    Ok(())
}

/// `rk_terminate`, of a kernel that is not the caller's own. With `takes_over` a drain that another call has
/// begun is cut short as if it were this one's.
pub(crate) fn terminate(kernel: &Arc<Kernel>, timeout_ns: u64, takes_over: bool) -> Result<()> {
    let begun = kernel.begin_terminate(false);
    if begun == Begun::Ended {
        return Ok(());
    }
    let is_ours = begun == Begun::Ending || takes_over;
    kernel.end_inline();
    if kernel.has_ended() {
        return if is_ours { kernel.end_result(timeout_ns) } else { Ok(()) };
    }
    kernel.core.control.terminate(kernel, timeout_ns, is_ours)
}

impl Runtime {
    pub(super) fn check_outside(&self, verb: &'static str) -> Result<()> {
        if context::is_inside_runtime(&self.core) {
            return Err(Error::WouldDeadlock { verb, target: "the runtime".into() });
        }
        Ok(())
    }

    fn end(&self, timeout_ns: u64, grace_ns: u64) -> Result<()> {
        self.core.stop_accepting();
        let core = Arc::clone(&self.core);
        let begun_ns = monotonic_ns();
        let ended = self.core.control.shutdown(&self.backend, move || core.all(), timeout_ns, grace_ns);
        ended.inspect_err(|_| self.shut_later())?;
        // What is left of operations is about to be done; a launch that was in progress may take as long as the kernels had.
        let limit_ns = begun_ns.saturating_add(timeout_ns).max(monotonic_ns().saturating_add(grace_ns));
        self.core.events.shut(limit_ns);
        Ok(())
    }

    /// Some handlers outlive the shutdown: who polls is told when the last one has ended.
    fn shut_later(&self) {
        if !self.core.ends_later.swap(true, Ordering::SeqCst) {
            let core = Arc::downgrade(&self.core);
            let shut = move || core.upgrade().iter().for_each(|core| core.events.be_shut());
            let mut running = self.core.all();
            running.retain(|kernel| !kernel.has_ended());
            self.core.control.when_all_ended(running, shut);
        }
    }

    pub(crate) fn core(&self) -> &Arc<Core> {
        &self.core
    }

    /// The backend by itself.
    pub fn trait_object(&self) -> Arc<dyn RingKernelRuntime> {
        Arc::clone(&self.backend)
    }

    /// Which backend it is.
    pub fn backend(&self) -> Backend {
        self.backend.backend()
    }

    /// Whether a backend could be used here.
    pub fn is_backend_available(&self, backend: Backend) -> bool {
        self.backend.is_backend_available(backend)
    }

    /// `rk_runtime_shutdown`.
    pub fn shutdown(&self, timeout_ns: u64) -> Result<()> {
        self.check_outside("shutdown")?;
        self.end(timeout_ns, TERMINATE_GRACE_NS)
    }

    /// `rk_program_register`.
    pub fn register(&self, program: Program) -> Result<()> {
        let mut program = Some(program);
        // A program that is refused gives its user data back, which may destroy this runtime: after this.
        let under_way = self.core.under_way();
        let result = match &program {
            _ if !self.core.is_accepting() => Err(Error::Shutdown),
            // The name first: preparing may take long, and takes memory of the device.
            Some(new) => (self.core.check_name(&new.name))
                .and_then(|()| self.threads.prepare(new))
                .and_then(|()| self.core.register(&mut program)),
            None => Ok(()),
        };
        drop(under_way);
        drop(program);
        result
    }

    /// `rk_program_unregister`.
    pub fn unregister(&self, name: &str) -> Result<()> {
        self.core.unregister(name)
    }

    /// `rk_launch`.
    pub fn launch(&self, id: &str, options: LaunchOptions) -> Result<KernelHandle> {
        let _under_way = self.core.under_way();
        let options = match self.backend.launch_at_once(id, options) {
            Ok(result) => return result,
            Err(options) => options,
        };
        let backend = Arc::clone(&self.backend);
        let id = id.to_owned();
        self.core.control.run(Box::pin(async move { backend.launch(&id, options).await }))
    }

    /// `rk_get`.
    pub fn get(&self, id: &str) -> Result<KernelHandle> {
        let found = self.backend.get_kernel(&super::KernelId::new(id));
        found.ok_or_else(|| Error::NotFound { what: "live kernel", name: id.into() })
    }

    /// `rk_list`.
    pub fn list(&self) -> Vec<KernelHandle> {
        self.core.live().iter().map(|kernel| KernelHandle::new(kernel.handle)).collect()
    }

    /// `rk_metrics`.
    pub fn metrics(&self) -> RkRuntimeMetrics {
        self.backend.metrics()
    }

    /// `rk_receive_dead_letter`.
    pub fn receive_dead_letter(&self, timeout_ns: u64) -> Result<RkDeadLetter> {
        let letter = self.core.dead.take(blocking::deadline(timeout_ns));
        letter.unwrap_or_else(|| {
            self.core.events.note_no_letter(|| self.core.dead.first());
            let name = "the runtime".into();
            Err(match timeout_ns {
                0 => Error::Empty { what: "the queue of dead letters", name },
                _ => Error::Timeout { what: "the wait for a dead letter", name, timeout_ns },
            })
        })
    }
}

/// Counters of a runtime on any backend.
pub(crate) fn metrics(core: &Core, backend: Backend) -> RkRuntimeMetrics {
    let (sums, active, bytes) = core.totals();
    RkRuntimeMetrics {
        backend: backend.code(),
        active_kernels: active,
        total_launched: core.total_launched(),
        messages_sent: sums.sent,
        messages_received: sums.received,
        messages_processed: sums.processed,
        messages_failed: sums.failed,
        restarts: sums.restarts,
        dead_letters: core.dead.count(),
        dead_letters_dropped: core.dead.dropped(),
        host_memory_used_bytes: bytes,
        uptime_ns: monotonic_ns().saturating_sub(core.created_ns),
        ..RkRuntimeMetrics::default()
    }
}
