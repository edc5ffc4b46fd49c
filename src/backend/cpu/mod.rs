//! The CPU backend: event-driven kernels on shared workers, persistent kernels on threads of their own.

mod persistent;
mod scheduler;

use std::sync::Arc;

use crate::error::{Error, Result};
use crate::layout::RK_LAUNCH_SUSPENDED;
use crate::runtime::block::Block;
use crate::runtime::blocks::Blocks;
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
        // The kernel keeps the program, so it need not keep the name.
        let program = self.core.program(options.program.take().as_deref().unwrap_or(id))?;
        if !program.runs_on_cpu() {
            let why = "the program has device code only and this runtime runs on the CPU";
            let (kernel, program) = (id.into(), Arc::clone(&program.name));
            return Err(Error::CannotLaunch { kernel, program, why });
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
        let kernel =
            runtime::insert(Parts { backend: Backend::Cpu, id, core, driver, options, program, blocks })
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

fn make_blocks(options: &LaunchOptions, state_size: usize) -> Result<Blocks> {
    let bytes = state_size.saturating_add(options.shared_size as usize);
    let shared_size = options.shared_size as usize;
    Blocks::new(options.grid_size as usize, |_| Block::new(state_size, shared_size))
        .ok_or(Error::OutOfMemory { what: "a block's state and scratch", bytes })
}

impl RingKernelRuntime for Cpu {
    fn backend(&self) -> Backend {
        Backend::Cpu
    }

    fn is_backend_available(&self, backend: Backend) -> bool {
        super::is_available(backend)
    }

    fn launch<'a>(
        &'a self,
        kernel_id: &'a str,
        options: LaunchOptions,
    ) -> BoxFuture<'a, Result<KernelHandle>> {
        Box::pin(async move { self.launch_now(kernel_id, options) })
    }

    fn launch_at_once(
        &self,
        kernel_id: &str,
        options: LaunchOptions,
    ) -> std::result::Result<Result<KernelHandle>, LaunchOptions> {
        Ok(self.launch_now(kernel_id, options))
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
            let ending = kernels.clone();
            let end = move || {
                for kernel in &ending {
                    kernel.begin_terminate(true);
                    kernel.end_inline();
                }
            };
            runtime::aside(end).await;
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

#[cfg(test)]
mod tests {
    use std::ffi::c_void;

    use super::*;
    use crate::layout::{
        RK_OK, RK_STATE_ACTIVE, RkContext, RkLaunchOptions, RkMessage, RkProgram, RkRuntimeOptions, RkStatus,
    };
    use crate::runtime::{DeviceCode, KernelState, Outgoing, Program, Runtime, RuntimeOptions, UserData};

    extern "C-unwind" fn quiet(_: *mut RkContext, _: *const RkMessage) -> RkStatus {
        RK_OK
    }

    const OPTIONS: RkRuntimeOptions = RkRuntimeOptions {
        struct_size: size_of::<RkRuntimeOptions>() as u32,
        backend: 1,
        device_index: 0,
        worker_threads: 1,
        kernels_max: 0,
        event_capacity: 0,
        reserved: [0; 8],
    };

    const PROGRAM: RkProgram = RkProgram {
        struct_size: size_of::<RkProgram>() as u32,
        flags: 0,
        name: std::ptr::null(),
        on_message: Some(quiet),
        on_start: None,
        on_stop: None,
        user_data: std::ptr::null_mut(),
        drop_user_data: None,
        cuda_code_kind: 0,
        cuda_code: std::ptr::null::<c_void>(),
        cuda_code_size: 0,
        cuda_handler: std::ptr::null(),
        state_size: 0,
        reserved: [0; 8],
    };

    const LAUNCH: RkLaunchOptions = RkLaunchOptions {
        struct_size: size_of::<RkLaunchOptions>() as u32,
        mode: 0,
        grid_size: 0,
        block_size: 0,
        input_queue_capacity: 0,
        output_queue_capacity: 0,
        payload_size_max: 0,
        shared_memory_size: 0,
        flags: 0,
        wait_strategy: 0,
        overflow: 0,
        restart: 0,
        restart_max: 0,
        cpu: 0,
        restart_window_ns: 0,
        restart_backoff_ns: 0,
        program: std::ptr::null(),
        reserved: [0; 8],
    };

    fn now<T>(mut future: BoxFuture<'_, T>) -> T {
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        loop {
            match future.as_mut().poll(&mut context) {
                std::task::Poll::Ready(value) => return value,
                std::task::Poll::Pending => std::thread::yield_now(),
            }
        }
    }

    /// The trait by itself, as any backend is used.
    #[test]
    fn the_trait_launches_finds_lists_measures_and_ends_kernels() {
        let handle = runtime::create(RuntimeOptions::checked(&OPTIONS).expect("options"), super::open)
            .expect("a runtime");
        let runtime: Arc<Runtime> = runtime::find(handle).expect("the runtime");
        let user_data = UserData::new(std::ptr::null_mut(), None);
        let device = DeviceCode::checked(0, &[], None).expect("no device code");
        let program = Program::checked("quiet", &PROGRAM, user_data, device).expect("a program");
        runtime.register(program).expect("a name");
        let backend = runtime.trait_object();
        let options = || LaunchOptions::checked(&LAUNCH, Some("quiet")).expect("options");

        assert_eq!(backend.backend(), Backend::Cpu);
        assert!(backend.is_backend_available(Backend::Auto) && backend.is_backend_available(Backend::Cpu));
        let a = now(backend.launch("a", options())).expect("a launch");
        let b = now(backend.launch("b", options())).expect("a launch");
        assert_eq!(now(backend.launch("a", options())).map_err(|error| error.status()), Err(-6));
        assert_eq!(backend.get_kernel(&KernelId::new("b")), Some(b));
        assert_eq!(backend.get_kernel(&KernelId::new("c")), None);
        assert_eq!(backend.list_kernels(), [KernelId::new("a"), KernelId::new("b")]);
        let message = Outgoing { payload: b"x", tag: 0, block: 0, correlation: 0, deadline_ns: 0 };
        a.send(&message, 0).expect("room");
        let metrics = backend.kernel_metrics(&KernelId::new("a")).expect("a kernel");
        assert_eq!((metrics.messages_sent, metrics.state), (1, RK_STATE_ACTIVE));
        assert!(backend.kernel_metrics(&KernelId::new("c")).is_none());
        now(backend.shutdown()).expect("an end");
        assert_eq!(backend.metrics().active_kernels, 0);
        assert_eq!((backend.metrics().total_launched, backend.metrics().messages_processed), (2, 1));
        assert!(backend.list_kernels().is_empty());
        assert_eq!(a.state().map_err(|error| error.status()), Ok(KernelState::Terminated));
        drop(backend);
        drop(runtime);
        runtime::destroy(handle).expect("an end");
    }
}
