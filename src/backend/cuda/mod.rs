//! The CUDA backend: kernels that are resident on a GPU, or launched there for each batch.
//!
//! * `driver`, `nvrtc`: the libraries, opened at run time. `device`, `module`: a device, its memory, its code.
//! * `streams`: what launches go through. `pool`: one launch and its seats. `seat`, `resident`, `routes`: a block and a kernel on the device, from this side.
//! * `pump`: the thread that looks at what comes back.
//!
//! The protocol between the two sides is explained at the head of `include/ringkernel_device.cuh`; what is done with
//! what comes back, in `runtime/remote.rs`.

mod device;
mod driver;
mod module;
mod nvrtc;
mod pool;
mod pump;
mod resident;
mod routes;
mod seat;
mod streams;
#[cfg(test)]
mod tests;

use device::Device;
use module::Module;
use pool::{Pool, Shape, Verb, is_too_large};
use pump::Shared;
use resident::{Allocated, Resident};
use streams::Begun;

use crate::error::{Error, Result};
use crate::layout::{RK_CODE_NONE, RK_LAUNCH_COOPERATIVE, RK_LAUNCH_SUSPENDED};
use crate::runtime::core::Core;
use crate::runtime::kernel::{Driver, Kernel, Parts};
use crate::runtime::{
    self, Backend, BoxFuture, KernelHandle, KernelId, LaunchOptions, Mode, Opened, Program,
    RingKernelRuntime, RuntimeMetrics, log,
};
use crate::sync::{Arc, Ordering, lock, monotonic_ns};

/// Seats of a pool at least, if they fit: what the next kernels of a program find without a launch.
const POOL_BLOCKS: u32 = 16;
/// Time a handler may take until it is called hung.
const HANDLER_LIMIT_MS: u64 = 10_000;
/// Time that a launch waits for blocks that are leaving.
const LEAVING_NS: u64 = 100_000_000;
/// Time after which a launch asks the driver whether the device is well.
const ASK_NS: u64 = 10_000_000;
/// Time for the blocks of a kernel to move in.
const MOVE_IN_NS: u64 = 2_000_000_000;

/// Kernels on a GPU.
struct Cuda {
    core: Arc<Core>,
    shared: Arc<Shared>,
    pool_blocks: u32,
}

fn setting(variable: &str, default: u64) -> u64 {
    std::env::var(variable).ok().and_then(|value| value.parse().ok()).unwrap_or(default)
}

/// Opens the device that the options name.
pub(super) fn open(core: &Arc<Core>) -> Result<Opened> {
    let streams = setting("RK_CUDA_STREAMS", streams::OF_A_KIND).clamp(1, 1024) as usize;
    let device = Device::open(core.options.device_index, streams)?;
    log::write(log::Level::Info, || {
        let Device { name, capability, multiprocessors, .. } = &*device;
        format!("the backend is CUDA on {name} (sm_{capability}, {multiprocessors} multiprocessors)")
    });
    if device.loads_lazily() == Some(true) {
        log::write(log::Level::Warn, || {
            "CUDA loads code lazily: a first use of any kernel of this process waits while one of ours is \
             resident; set CUDA_MODULE_LOADING=EAGER before the first CUDA call"
                .to_owned()
        });
    }
    let limit = setting("RK_CUDA_HANDLER_LIMIT_MS", HANDLER_LIMIT_MS).saturating_mul(1_000_000);
    let shared = Shared::start(core, device, limit)?;
    let pool_blocks = setting("RK_CUDA_POOL_BLOCKS", u64::from(POOL_BLOCKS)).clamp(1, 65_536) as u32;
    let cuda = Arc::new(Cuda { core: Arc::clone(core), shared: Arc::clone(&shared), pool_blocks });
    Ok(Opened { backend: cuda, threads: shared })
}

/// Whether a device could be opened.
pub(super) fn is_available() -> bool {
    Device::probe(0).is_ok()
}

/// Compiles and loads the device side of a program.
fn prepare(shared: &Shared, program: &Program) -> Result<()> {
    if program.device.kind == RK_CODE_NONE {
        return Ok(());
    }
    shared.core.check_device()?;
    let beside = setting("RK_CUDA_LOAD_BESIDE", 0) != 0;
    let module = Module::load(&shared.device, program, beside)?;
    // A program is registered once.
    let _ = program.prepared.set(module);
    Ok(())
}

/// A kernel that is being launched; dropped unfinished, it is taken back.
struct Launching<'a> {
    cuda: &'a Cuda,
    kernel: Arc<Kernel>,
    resident: Arc<Resident>,
    done: bool,
}

impl Drop for Launching<'_> {
    fn drop(&mut self) {
        if self.done {
            return;
        }
        for seat in &self.resident.seats {
            seat.ask(Verb::Stop);
        }
        if !await_answers(&self.resident, || !matches!(self.resident.pool.query(), Ok(false))) {
            self.resident.seats.iter().for_each(|seat| self.resident.give_up(seat));
            self.cuda.shared.device.leak();
        }
        self.resident.leave();
        runtime::remove(&self.kernel);
    }
}

/// Waits until every block has answered the last command; false when they do not.
fn await_answers(resident: &Resident, is_over: impl Fn() -> bool) -> bool {
    let start = monotonic_ns();
    let mut asked = start;
    while !resident.is_answered() {
        let now = monotonic_ns();
        // A call of the driver only when something is wrong.
        if now - asked > ASK_NS {
            asked = now;
            if now - start > MOVE_IN_NS || is_over() {
                return resident.is_answered();
            }
        }
        crate::sync::yield_now();
    }
    true
}

/// The device may still write to the words of a pool that is stuck: they are nobody else's, ever.
fn keep_if_stuck(pool: &Arc<Pool>) {
    if pool.is_stuck.load(Ordering::SeqCst) {
        std::mem::forget(Arc::clone(pool));
    }
}

impl Cuda {
    fn launch_now(&self, id: &str, mut options: LaunchOptions) -> Result<KernelHandle> {
        self.core.check_device()?;
        let program = self.core.program(options.program.as_deref().unwrap_or(id))?;
        let module = program.prepared.get().and_then(|any| Arc::clone(any).downcast::<Module>().ok());
        let refused =
            |why| Error::CannotLaunch { kernel: id.into(), program: Arc::clone(&program.name), why };
        let module =
            module.ok_or_else(|| refused("the program has no device code and this runtime runs on a GPU"))?;
        self.settle_mode(&mut options).map_err(refused)?;
        self.check_block(&options, &module)?;
        let claimed = self.core.claim_id(id)?;
        self.check_grid(&claimed.id, &options, &module)?;
        // Before the launch: what is allocated beside a kernel that runs may not be its to see.
        let memory = Allocated::new(&self.shared.device, &options, program.state_size)?;
        let (pool, first) = match options.mode {
            Mode::EventDriven => self.short_seats(id, &options, &module),
            _ => self.seats(id, &options, &module),
        }?;
        let made = Resident::new(&self.shared, &pool, first, &options, memory);
        let (resident, blocks) = made.inspect_err(|_| pool.vacate(first, options.grid_size))?;
        let suspended = options.has(RK_LAUNCH_SUSPENDED);
        let once = pool.shape.once;
        let driver = Arc::clone(&resident) as Arc<dyn Driver>;
        let (id, core) = (Arc::clone(&claimed.id), Arc::clone(&self.core));
        let parts = Parts { backend: Backend::Cuda, id, core, driver, options, program, blocks };
        let Some(kernel) = runtime::insert(parts) else {
            resident.leave();
            return Err(Error::Limit { what: "kernels of this process", limit: 1 << 24 });
        };
        resident.move_in(&kernel);
        let mut launching = Launching {
            cuda: self,
            kernel: Arc::clone(&kernel),
            resident: Arc::clone(&resident),
            done: false,
        };
        kernel.be_launched();
        if !once {
            self.await_residence(&kernel, &resident)?;
        }
        self.shared.adopt(&kernel, &resident);
        if let Err(error) = claimed.fill(&kernel) {
            self.shared.forget(&kernel);
            return Err(error);
        }
        launching.done = true;
        if !suspended {
            // Only a terminate of somebody who found it by its id can have come between.
            let _ = kernel.activate();
        }
        Ok(KernelHandle::new(kernel.handle))
    }

    /// Chooses a mode, or says why there is none.
    fn settle_mode(&self, options: &mut LaunchOptions) -> std::result::Result<(), &'static str> {
        let watched = self.shared.device.has_watchdog;
        match options.mode {
            Mode::Auto if watched => options.mode = Mode::EventDriven,
            Mode::Auto => options.mode = Mode::Persistent,
            Mode::Persistent if watched => {
                return Err("the device drives a display, whose watchdog ends kernels that stay; \
                            RK_MODE_EVENT_DRIVEN works there");
            }
            _ => {}
        }
        if options.mode == Mode::EventDriven && options.has(RK_LAUNCH_COOPERATIVE) {
            return Err("RK_LAUNCH_COOPERATIVE needs RK_MODE_PERSISTENT: \
                        blocks that are launched for each batch are not there at the same time");
        }
        Ok(())
    }

    fn check_block(&self, options: &LaunchOptions, module: &Module) -> Result<()> {
        if options.block_size > module.threads_max {
            let rule = "the registers of this program do not allow as many threads in a block";
            let value = i128::from(options.block_size);
            return Err(Error::OutOfRange { argument: "block_size", value, rule });
        }
        module.allow_shared(options.shared_size)
    }

    /// Whether the grid would fit on an empty device, before anything is allocated for it.
    fn check_grid(&self, id: &str, options: &LaunchOptions, module: &Module) -> Result<()> {
        if options.mode == Mode::EventDriven {
            return Ok(());
        }
        let per = module.occupancy(options.block_size, options.shared_size)?;
        if u64::from(per) * u64::from(self.shared.device.multiprocessors) >= u64::from(options.grid_size) {
            return Ok(());
        }
        self.pool_size(id, &lock(&self.shared.pools), options.grid_size, per).map(drop)
    }

    /// Seats for a kernel that is launched for each batch: in a pool of its own.
    fn short_seats(
        &self,
        id: &str,
        options: &LaunchOptions,
        module: &Arc<Module>,
    ) -> Result<(Arc<Pool>, u32)> {
        let grid = options.grid_size;
        let shape = Shape { threads: options.block_size, shared: options.shared_size, once: true };
        let pool = Pool::new(module, shape, grid, module.occupancy(shape.threads, shape.shared)?)?;
        let refused =
            |why: &'static str| Error::NotResident { kernel: id.into(), asked: grid, why: why.into() };
        // An empty launch: the layout is checked, the clocks are compared, and nothing is loaded later. Under no lock: others may
        // make theirs, and the watch has to see them end.
        let start = monotonic_ns();
        while pool.begin(true) != Begun::Yes {
            if monotonic_ns() - start > MOVE_IN_NS {
                return Err(refused("all streams for launches are in use"));
            }
            std::thread::sleep(std::time::Duration::from_micros(50));
        }
        pool.launch()?;
        pool.count_in().inspect_err(|_| keep_if_stuck(&pool))?;
        if !pool.await_end(MOVE_IN_NS) {
            pool.be_stuck();
            keep_if_stuck(&pool);
            self.shared.device.leak();
            return Err(refused("a launch does not end"));
        }
        pool.is_used();
        self.give_seats(&pool, grid, &mut lock(&self.shared.pools))
    }

    /// Seats for a kernel that stays: in a pool that is there, or in a new one.
    fn seats(&self, id: &str, options: &LaunchOptions, module: &Arc<Module>) -> Result<(Arc<Pool>, u32)> {
        let grid = options.grid_size;
        let shape = Shape { threads: options.block_size, shared: options.shared_size, once: false };
        // Launches are serial here: what fits is decided by one at a time.
        let mut pools = lock(&self.shared.pools);
        let same = |pool: &&Arc<Pool>| pool.shape == shape && Arc::ptr_eq(&pool.module, module);
        let found = pools.iter().filter(same).find_map(|pool| Some((Arc::clone(pool), pool.take(grid)?)));
        if let Some(found) = found {
            return Ok(found);
        }
        let per = module.occupancy(shape.threads, shape.shared)?;
        let make = |pools: &[Arc<Pool>]| {
            let count = self.pool_size(id, pools, grid, per)?;
            Pool::new(module, shape, count, per)
        };
        let pool = match make(&pools) {
            Err(Error::NotResident { .. }) => {
                // Pools that are about to leave make room.
                pools.iter().filter(|pool| pool.is_closing()).for_each(|pool| {
                    pool.await_end(LEAVING_NS);
                });
                self.shared.sweep(&mut pools);
                make(&pools)
            }
            made => made,
        }?;
        let not_resident =
            |why: String| Error::NotResident { kernel: id.into(), asked: grid, why: why.into() };
        match pool.launch() {
            Err(error) if is_too_large(&error) => return Err(not_resident(error.to_string())),
            launched => launched?,
        }
        pool.count_in().inspect_err(|_| keep_if_stuck(&pool)).map_err(|error| match error {
            Error::NotResident { why, .. } => not_resident(format!("{why}; {}", self.holders(&pools))),
            other => other,
        })?;
        self.give_seats(&pool, grid, &mut pools)
    }

    fn give_seats(
        &self,
        pool: &Arc<Pool>,
        grid: u32,
        pools: &mut Vec<Arc<Pool>>,
    ) -> Result<(Arc<Pool>, u32)> {
        let first = pool.take(grid).ok_or(Error::Internal { what: "a new pool has no seats" })?;
        pools.push(Arc::clone(pool));
        Ok((Arc::clone(pool), first))
    }

    /// Blocks of a new pool; an error when not even the kernel's fit.
    fn pool_size(&self, id: &str, pools: &[Arc<Pool>], grid: u32, per: u32) -> Result<u32> {
        let multiprocessors = u64::from(self.shared.device.multiprocessors);
        // In millionths of a multiprocessor.
        let share = |blocks: u32, per: u32| u64::from(blocks) * 1_000_000 / u64::from(per.max(1));
        let held: u64 = pools
            .iter()
            .filter(|pool| !pool.shape.once)
            .map(|pool| share(pool.count, pool.per_multiprocessor))
            .sum();
        let room = (multiprocessors * 1_000_000).saturating_sub(held);
        let fits = u32::try_from(room * u64::from(per) / 1_000_000).unwrap_or(u32::MAX);
        if fits < grid {
            let why = format!("{fits} of them fit; {}", self.holders(pools)).into();
            return Err(Error::NotResident { kernel: id.into(), asked: grid, why });
        }
        Ok(grid.max(self.pool_blocks).min(fits))
    }

    /// Who holds the device, in words.
    fn holders(&self, pools: &[Arc<Pool>]) -> String {
        let held: Vec<_> = pools
            .iter()
            .filter(|pool| !pool.shape.once)
            .map(|pool| {
                format!(
                    "{} blocks of {} threads by program {:?}",
                    pool.count, pool.shape.threads, pool.module.name
                )
            })
            .collect();
        let multiprocessors = self.shared.device.multiprocessors;
        match held.is_empty() {
            true => format!("none of ours holds any of the {multiprocessors} multiprocessors"),
            false => format!("of the {multiprocessors} multiprocessors ours hold {}", held.join(", ")),
        }
    }

    /// Waits for the blocks to move in.
    fn await_residence(&self, kernel: &Kernel, resident: &Resident) -> Result<()> {
        if await_answers(resident, || !matches!(resident.pool.query(), Ok(false))) {
            return Ok(());
        }
        match resident.pool.query() {
            Err(error) => {
                self.shared.lose(&error);
                Err(error)
            }
            Ok(_) => {
                let why = "its blocks did not move in".into();
                Err(Error::NotResident {
                    kernel: Arc::clone(&kernel.id),
                    asked: kernel.options.grid_size,
                    why,
                })
            }
        }
    }
}

impl RingKernelRuntime for Cuda {
    fn backend(&self) -> Backend {
        Backend::Cuda
    }

    fn is_backend_available(&self, backend: Backend) -> bool {
        backend != Backend::Cuda || self.core.lost.get().is_none()
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
        let mut metrics = runtime::metrics(&self.core, Backend::Cuda);
        metrics.gpu_memory_used_bytes = self.shared.device.used();
        metrics
    }

    fn shutdown(&self) -> BoxFuture<'_, Result<()>> {
        Box::pin(async move {
            let kernels = self.core.all();
            for kernel in &kernels {
                kernel.begin_terminate(true);
            }
            for kernel in &kernels {
                kernel.when_ended().await;
            }
            Ok(())
        })
    }
}
