//! The CPU backend: event-driven kernels on shared workers, persistent kernels on threads of their own.

mod persistent;
mod scheduler;

use std::sync::Arc;

use crate::error::{Error, Result};
use crate::layout::RK_LAUNCH_SUSPENDED;
use crate::runtime::block::Block;
use crate::runtime::core::Core;
use crate::runtime::kernel::{Driver, Parts};
use crate::runtime::{
    self, Backend, BoxFuture, KernelHandle, KernelId, LaunchOptions, Mode, Opened, RingKernelRuntime,
    RuntimeMetrics, Threads,
};

use persistent::Persistent;
use scheduler::Scheduler;

/// Kernels on CPU threads.
struct Cpu {
    core: Arc<Core>,
    scheduler: Arc<Scheduler>,
    persistent: Arc<Persistent>,
}

/// Starts the shared workers.
pub(super) fn open(core: &Arc<Core>) -> Result<Opened> {
    let scheduler = Scheduler::start(core.options.worker_threads as usize)?;
    let persistent = Arc::new(Persistent::new());
    let cpu = Arc::new(Cpu { core: Arc::clone(core), scheduler, persistent });
    Ok(Opened { backend: Arc::clone(&cpu) as Arc<dyn RingKernelRuntime>, threads: cpu })
}

impl Cpu {
    fn launch_now(&self, id: &str, mut options: LaunchOptions) -> Result<KernelHandle> {
        let program = self.core.program(options.program.as_deref().unwrap_or(id))?;
        if !program.runs_on_cpu() {
            let why = "the program has device code only and this runtime runs on the CPU";
            return Err(Error::Unsupported { what: "the launch", why });
        }
        if options.mode == Mode::Auto {
            options.mode = Mode::EventDriven;
        }
        let claimed = self.core.claim_id(id)?;
        let blocks = make_blocks(&options, program.state_size)?;
        let driver: Arc<dyn Driver> = match options.mode {
            Mode::Persistent => Arc::clone(&self.persistent) as Arc<dyn Driver>,
            _ => Arc::clone(&self.scheduler) as Arc<dyn Driver>,
        };
        let suspended = options.has(RK_LAUNCH_SUSPENDED);
        let persistent = options.mode == Mode::Persistent;
        let id = Arc::clone(&claimed.id);
        let core = Arc::clone(&self.core);
        let kernel = runtime::insert(Parts { id, core, driver, options, program, blocks })
            .ok_or(Error::Limit { what: "kernels of this process", limit: 1 << 24 })?;
        let launched = if persistent { self.persistent.start(&kernel) } else { Ok(()) };
        // Launched before it can be found, so that nobody finds one that is still being made.
        kernel.be_launched();
        if let Err(error) = launched.and_then(|()| claimed.fill(&kernel)) {
            Persistent::dismiss(&kernel);
            runtime::remove(&kernel);
            return Err(error);
        }
        if !suspended {
            // Only a terminate of somebody who found it by its id can have come between.
            let _ = kernel.activate();
        }
        Ok(KernelHandle::new(kernel.handle))
    }
}

fn make_blocks(options: &LaunchOptions, state_size: usize) -> Result<Box<[Block]>> {
    let bytes = state_size.saturating_add(options.shared_size as usize);
    (0..options.grid_size)
        .map(|_| Block::new(state_size, options.shared_size as usize))
        .collect::<Option<_>>()
        .ok_or(Error::OutOfMemory { what: "a block's state and scratch", bytes })
}

impl RingKernelRuntime for Cpu {
    fn backend(&self) -> Backend {
        Backend::Cpu
    }

    fn is_backend_available(&self, backend: Backend) -> bool {
        backend != Backend::Cuda
    }

    fn launch<'a>(
        &'a self,
        kernel_id: &'a str,
        options: LaunchOptions,
    ) -> BoxFuture<'a, Result<KernelHandle>> {
        Box::pin(async move { self.launch_now(kernel_id, options) })
    }

    fn get_kernel(&self, kernel_id: &KernelId) -> Option<KernelHandle> {
        self.core.get(kernel_id.as_str()).map(|kernel| KernelHandle::new(kernel.handle))
    }

    fn list_kernels(&self) -> Vec<KernelId> {
        self.core.live().iter().map(|kernel| KernelId::new(&kernel.id)).collect()
    }

    fn metrics(&self) -> RuntimeMetrics {
        runtime::metrics(&self.core, Backend::Cpu)
    }

    fn shutdown(&self) -> BoxFuture<'_, Result<()>> {
        Box::pin(async move {
            let kernels = self.core.all();
            for kernel in &kernels {
                kernel.begin_terminate(true);
                kernel.end_inline();
            }
            for kernel in &kernels {
                kernel.when_ended().await;
            }
            Ok(())
        })
    }
}

impl Threads for Cpu {
    fn join(&self) {
        self.scheduler.stop();
        self.persistent.join();
    }
}
