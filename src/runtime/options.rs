//! Options, checked once at the boundary; behind it they are values that make sense.

use std::sync::Arc;

use crate::error::{Error, Result};
use crate::layout::*;
use crate::limits::*;
use crate::process;

/// Where kernels run.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Backend {
    /// The best that is there.
    Auto,
    /// CPU threads.
    Cpu,
    /// A CUDA GPU.
    Cuda,
}

impl Backend {
    /// The backend of a number of the header.
    pub fn checked(code: u32) -> Result<Self> {
        match code {
            RK_BACKEND_AUTO => Ok(Self::Auto),
            RK_BACKEND_CPU => Ok(Self::Cpu),
            RK_BACKEND_CUDA => Ok(Self::Cuda),
            _ => Err(unknown("backend", code, "backends are 0 (auto), 1 (CPU) and 2 (CUDA)")),
        }
    }

    /// The number of the header.
    pub fn code(self) -> u32 {
        match self {
            Self::Auto => RK_BACKEND_AUTO,
            Self::Cpu => RK_BACKEND_CPU,
            Self::Cuda => RK_BACKEND_CUDA,
        }
    }

    /// AUTO as the environment variable RK_BACKEND wants it.
    fn or_of_environment(self) -> Result<Self> {
        let variable = "RK_BACKEND";
        let Some(value) = std::env::var_os(variable).filter(|value| self == Self::Auto && !value.is_empty())
        else {
            return Ok(self);
        };
        match value.to_str() {
            Some("cpu") => Ok(Self::Cpu),
            Some("cuda") => Ok(Self::Cuda),
            _ => {
                let value = Arc::from(value.to_string_lossy().as_ref());
                Err(Error::BadEnvironment { variable, value, allowed: "cpu, cuda" })
            }
        }
    }
}

fn unknown(argument: &'static str, value: u32, rule: &'static str) -> Error {
    Error::OutOfRange { argument, value: i128::from(value), rule }
}

fn at_most(argument: &'static str, value: u32, limit: u32, rule: &'static str) -> Result<u32> {
    if value > limit { Err(unknown(argument, value, rule)) } else { Ok(value) }
}

fn all_zero(reserved: &[u64], what: &'static str) -> Result<()> {
    if reserved.iter().any(|word| *word != 0) { Err(Error::Invalid { what }) } else { Ok(()) }
}

/// Checked options of a runtime.
#[derive(Clone, Copy, Debug)]
pub struct RuntimeOptions {
    /// Which backend; AUTO only if nobody chose.
    pub backend: Backend,
    /// CUDA device ordinal.
    pub device_index: u32,
    /// Shared workers, at least 1.
    pub worker_threads: u32,
    /// Most live kernels.
    pub kernels_max: u32,
    /// Most events of operations and watches that may come to wait.
    pub events_max: u32,
}

impl RuntimeOptions {
    /// Checks what C gave.
    pub fn checked(raw: &RkRuntimeOptions) -> Result<Self> {
        all_zero(&raw.reserved, "rk_runtime_options_t.reserved is not zero")?;
        let rule = "at most 1024 workers make sense";
        let workers = match at_most("worker_threads", raw.worker_threads, WORKERS_MAX, rule)? {
            0 => u32::try_from(process::cpus().len()).unwrap_or(1).clamp(1, WORKERS_MAX),
            workers => workers,
        };
        let table = 1u32 << HANDLE_INDEX_BITS;
        let kernels = match at_most("kernels_max", raw.kernels_max, table, "at most 2^24 kernels")? {
            0 => KERNELS_MAX_DEFAULT,
            kernels => kernels,
        };
        let rule = "at most 2^24 events";
        let events = match at_most("event_capacity", raw.event_capacity, EVENTS_MAX, rule)? {
            0 => EVENTS_MAX_DEFAULT,
            events => events,
        };
        Ok(Self {
            backend: Backend::checked(raw.backend)?.or_of_environment()?,
            device_index: raw.device_index,
            worker_threads: workers,
            kernels_max: kernels,
            events_max: events,
        })
    }
}

/// How the blocks of a kernel get their CPU.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mode {
    /// The backend's default.
    Auto,
    /// A thread per block.
    Persistent,
    /// Shared workers.
    EventDriven,
}

/// How a persistent block waits.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum WaitStrategy {
    /// Spin, yield, park.
    Auto,
    /// Spin for ever.
    Spin,
    /// Park at once.
    Park,
}

/// When a block that failed runs again.
#[derive(Clone, Copy, Debug)]
pub struct Restart {
    /// Restarts of all blocks together in the window; the failure after that fails the kernel.
    pub max: u32,
    /// 0 = all the kernel's life.
    pub window_ns: u64,
    /// From the failure to the restart.
    pub backoff_ns: u64,
}

impl Restart {
    fn of(raw: &RkLaunchOptions) -> Self {
        let max = if raw.restart_max == 0 { RESTART_MAX_DEFAULT } else { raw.restart_max };
        Self { max, window_ns: raw.restart_window_ns, backoff_ns: raw.restart_backoff_ns }
    }
}

/// Checked options of a launch.
#[derive(Clone, Debug)]
pub struct LaunchOptions {
    /// How blocks get their CPU.
    pub mode: Mode,
    /// Blocks, at least 1.
    pub grid_size: u32,
    /// Threads of a block on a device.
    pub block_size: u32,
    /// Messages per block's input queue; a power of two.
    pub input_capacity: u32,
    /// Messages in the output queue; a power of two.
    pub output_capacity: u32,
    /// Bytes per payload; a multiple of 64.
    pub payload_max: u32,
    /// Bytes of scratch per block.
    pub shared_size: u32,
    /// `RK_LAUNCH_*` bits.
    pub flags: u32,
    /// How a persistent block waits.
    pub wait: WaitStrategy,
    /// Whether what does not fit the output queue is kept.
    pub keep_overflow: bool,
    /// What becomes of a block that fails; `None`: its kernel fails.
    pub restart: Option<Box<Restart>>,
    /// The CPU of a persistent kernel's threads.
    pub cpu: Option<usize>,
    /// The program; `None`: the kernel's id names it.
    pub program: Option<Arc<str>>,
}

const FLAGS: u32 = RK_LAUNCH_SUSPENDED
    | RK_LAUNCH_COOPERATIVE
    | RK_LAUNCH_SINGLE_SENDER
    | RK_LAUNCH_TIMESTAMPS
    | RK_LAUNCH_NO_HELP;

fn capacity(argument: &'static str, value: u32) -> Result<u32> {
    match value {
        0 => Ok(QUEUE_CAPACITY_DEFAULT),
        QUEUE_CAPACITY_MIN..=QUEUE_CAPACITY_MAX if value.is_power_of_two() => Ok(value),
        _ => Err(unknown(argument, value, "a capacity is a power of two from 2 to 2^31, or 0 for 1024")),
    }
}

fn cpu(value: i32) -> Result<Option<usize>> {
    match value {
        0 => Ok(None),
        1.. if process::cpus().contains(&(value as usize - 1)) => Ok(Some(value as usize - 1)),
        _ => {
            let rule = "it is a CPU + 1 that this process may use, or 0";
            Err(Error::OutOfRange { argument: "cpu", value: i128::from(value), rule })
        }
    }
}

impl LaunchOptions {
    /// Checks what C gave; `program` is `raw.program`, checked.
    pub fn checked(raw: &RkLaunchOptions, program: Option<&str>) -> Result<Self> {
        all_zero(&raw.reserved, "rk_launch_options_t.reserved is not zero")?;
        if raw.flags & !FLAGS != 0 {
            return Err(unknown("flags", raw.flags, "it has bits that are no RK_LAUNCH_* flag"));
        }
        let mode = match raw.mode {
            RK_MODE_AUTO => Mode::Auto,
            RK_MODE_PERSISTENT => Mode::Persistent,
            RK_MODE_EVENT_DRIVEN => Mode::EventDriven,
            _ => return Err(unknown("mode", raw.mode, "modes are 0, 1 and 2")),
        };
        let wait = match raw.wait_strategy {
            RK_WAIT_AUTO => WaitStrategy::Auto,
            RK_WAIT_SPIN => WaitStrategy::Spin,
            RK_WAIT_PARK => WaitStrategy::Park,
            _ => return Err(unknown("wait_strategy", raw.wait_strategy, "strategies are 0, 1 and 2")),
        };
        let keep_overflow = match raw.overflow {
            RK_OVERFLOW_BLOCK => true,
            RK_OVERFLOW_DEAD_LETTER => false,
            _ => return Err(unknown("overflow", raw.overflow, "overflow rules are 0 and 1")),
        };
        let restart = match raw.restart {
            RK_RESTART_NEVER => None,
            RK_RESTART_ON_FAILURE => Some(Box::new(Restart::of(raw))),
            _ => return Err(unknown("restart", raw.restart, "restart rules are 0 and 1")),
        };
        at_most("block_size", raw.block_size, 1024, "a block has at most 1024 threads")?;
        let grid_max = if mode == Mode::Persistent { PERSISTENT_GRID_MAX } else { GRID_MAX };
        let rule = "at most 65536 blocks, 1024 when each is a thread";
        let payload_max = match raw.payload_size_max {
            0 => PAYLOAD_DEFAULT,
            bytes => at_most("payload_size_max", bytes, PAYLOAD_MAX, "a payload is smaller than 2^31")?
                .next_multiple_of(SLOT_HEADER_SIZE as u32),
        };
        Ok(Self {
            mode,
            grid_size: at_most("grid_size", raw.grid_size, grid_max, rule)?.max(1),
            block_size: if raw.block_size == 0 { BLOCK_SIZE_DEFAULT } else { raw.block_size },
            input_capacity: capacity("input_queue_capacity", raw.input_queue_capacity)?,
            output_capacity: capacity("output_queue_capacity", raw.output_queue_capacity)?,
            payload_max,
            shared_size: raw.shared_memory_size,
            flags: raw.flags,
            wait,
            keep_overflow,
            restart,
            cpu: cpu(raw.cpu)?,
            program: program.map(Arc::from),
        })
    }

    /// Whether a flag is set.
    pub(crate) fn has(&self, flag: u32) -> bool {
        self.flags & flag != 0
    }
}
