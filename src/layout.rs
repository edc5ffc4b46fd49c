//! Every byte that crosses the ABI or the bus, once.
//!
//! The public structs and constants of `include/ringkernel.h` and the slot header that host and device
//! share are defined here and nowhere else; the header is generated from this file, and the assertions at
//! its end are checked by every compiler that builds it. Nothing in here has behaviour beyond `init`.
//!
//! Naming: a Rust name `RkMessage` is `rk_message_t` in C (the map is in `cbindgen.toml`).

use core::ffi::{CStr, c_char, c_void};

/// What every function that can fail returns: `RK_OK` (0), or a negative `RK_ERR_*` value.
///
/// The numbers are frozen. Positive values are the application's own and only come out of its handlers.
pub type RkStatus = i32;

/// The call succeeded.
pub const RK_OK: RkStatus = 0;
/// An argument is NULL, out of range or malformed.
pub const RK_ERR_INVALID_ARGUMENT: RkStatus = -1;
/// The handle, view or loan is stale, foreign, or was never issued.
pub const RK_ERR_INVALID_HANDLE: RkStatus = -2;
/// The struct_size is too small, too large, or the unknown tail is not zero.
pub const RK_ERR_STRUCT_SIZE: RkStatus = -3;
/// The buffer is too small; the needed size was written.
pub const RK_ERR_BUFFER_TOO_SMALL: RkStatus = -4;
/// No object of that name exists.
pub const RK_ERR_NOT_FOUND: RkStatus = -5;
/// An object of that name exists already.
pub const RK_ERR_ALREADY_EXISTS: RkStatus = -6;
/// A configured or built-in limit is reached.
pub const RK_ERR_LIMIT: RkStatus = -7;
/// The object is in a state in which this is not allowed.
pub const RK_ERR_INVALID_STATE: RkStatus = -100;
/// The kernel is terminating or has terminated.
pub const RK_ERR_TERMINATED: RkStatus = -101;
/// The runtime is shut down.
pub const RK_ERR_SHUTDOWN: RkStatus = -102;
/// The kernel has failed.
pub const RK_ERR_KERNEL_FAILED: RkStatus = -103;
/// The call would wait for the handler it is made from.
pub const RK_ERR_WOULD_DEADLOCK: RkStatus = -104;
/// The process was forked after the library was used; the child cannot use it.
pub const RK_ERR_FORKED: RkStatus = -105;
/// The operation was cancelled.
pub const RK_ERR_CANCELLED: RkStatus = -106;
/// The queue is full.
pub const RK_ERR_FULL: RkStatus = -200;
/// Nothing is there.
pub const RK_ERR_EMPTY: RkStatus = -201;
/// The time is over.
pub const RK_ERR_TIMEOUT: RkStatus = -202;
/// The message can never fit.
pub const RK_ERR_TOO_LARGE: RkStatus = -203;
/// No such route exists.
pub const RK_ERR_NO_ROUTE: RkStatus = -204;
/// This build or backend does not offer the feature.
pub const RK_ERR_UNSUPPORTED: RkStatus = -300;
/// The backend is not available in this process.
pub const RK_ERR_BACKEND_UNAVAILABLE: RkStatus = -301;
/// No usable device was found.
pub const RK_ERR_NO_DEVICE: RkStatus = -302;
/// The device code does not compile.
pub const RK_ERR_COMPILE: RkStatus = -303;
/// Memory could not be allocated.
pub const RK_ERR_OUT_OF_MEMORY: RkStatus = -304;
/// The device reported an error, or is lost: of the runtime's functions. A kernel that was on it has failed
/// (RK_ERR_KERNEL_FAILED). With both, rk_last_backend_code is the driver's code.
pub const RK_ERR_DEVICE: RkStatus = -305;
/// The grid does not fit on the device at once.
pub const RK_ERR_NOT_RESIDENT: RkStatus = -306;
/// Code behind the boundary panicked.
pub const RK_ERR_PANIC: RkStatus = -400;
/// An invariant of the library is broken; please report it.
pub const RK_ERR_INTERNAL: RkStatus = -401;

/// Every status of the library with its name and sentence, in the order of the header.
pub(crate) const STATUSES: [(RkStatus, &CStr, &CStr); 29] = [
    (RK_OK, c"RK_OK", c"The call succeeded."),
    (RK_ERR_INVALID_ARGUMENT, c"RK_ERR_INVALID_ARGUMENT", c"An argument is NULL, out of range or malformed."),
    (
        RK_ERR_INVALID_HANDLE,
        c"RK_ERR_INVALID_HANDLE",
        c"The handle, view or loan is stale, foreign, or was never issued.",
    ),
    (
        RK_ERR_STRUCT_SIZE,
        c"RK_ERR_STRUCT_SIZE",
        c"The struct_size is too small, too large, or the unknown tail is not zero.",
    ),
    (
        RK_ERR_BUFFER_TOO_SMALL,
        c"RK_ERR_BUFFER_TOO_SMALL",
        c"The buffer is too small; the needed size was written.",
    ),
    (RK_ERR_NOT_FOUND, c"RK_ERR_NOT_FOUND", c"No object of that name exists."),
    (RK_ERR_ALREADY_EXISTS, c"RK_ERR_ALREADY_EXISTS", c"An object of that name exists already."),
    (RK_ERR_LIMIT, c"RK_ERR_LIMIT", c"A configured or built-in limit is reached."),
    (
        RK_ERR_INVALID_STATE,
        c"RK_ERR_INVALID_STATE",
        c"The object is in a state in which this is not allowed.",
    ),
    (RK_ERR_TERMINATED, c"RK_ERR_TERMINATED", c"The kernel is terminating or has terminated."),
    (RK_ERR_SHUTDOWN, c"RK_ERR_SHUTDOWN", c"The runtime is shut down."),
    (RK_ERR_KERNEL_FAILED, c"RK_ERR_KERNEL_FAILED", c"The kernel has failed."),
    (
        RK_ERR_WOULD_DEADLOCK,
        c"RK_ERR_WOULD_DEADLOCK",
        c"The call would wait for the handler it is made from.",
    ),
    (
        RK_ERR_FORKED,
        c"RK_ERR_FORKED",
        c"The process was forked after the library was used; the child cannot use it.",
    ),
    (RK_ERR_CANCELLED, c"RK_ERR_CANCELLED", c"The operation was cancelled."),
    (RK_ERR_FULL, c"RK_ERR_FULL", c"The queue is full."),
    (RK_ERR_EMPTY, c"RK_ERR_EMPTY", c"Nothing is there."),
    (RK_ERR_TIMEOUT, c"RK_ERR_TIMEOUT", c"The time is over."),
    (RK_ERR_TOO_LARGE, c"RK_ERR_TOO_LARGE", c"The message can never fit."),
    (RK_ERR_NO_ROUTE, c"RK_ERR_NO_ROUTE", c"No such route exists."),
    (RK_ERR_UNSUPPORTED, c"RK_ERR_UNSUPPORTED", c"This build or backend does not offer the feature."),
    (
        RK_ERR_BACKEND_UNAVAILABLE,
        c"RK_ERR_BACKEND_UNAVAILABLE",
        c"The backend is not available in this process.",
    ),
    (RK_ERR_NO_DEVICE, c"RK_ERR_NO_DEVICE", c"No usable device was found."),
    (RK_ERR_COMPILE, c"RK_ERR_COMPILE", c"The device code does not compile."),
    (RK_ERR_OUT_OF_MEMORY, c"RK_ERR_OUT_OF_MEMORY", c"Memory could not be allocated."),
    (RK_ERR_DEVICE, c"RK_ERR_DEVICE", c"The device reported an error."),
    (RK_ERR_NOT_RESIDENT, c"RK_ERR_NOT_RESIDENT", c"The grid does not fit on the device at once."),
    (RK_ERR_PANIC, c"RK_ERR_PANIC", c"Code behind the boundary panicked."),
    (RK_ERR_INTERNAL, c"RK_ERR_INTERNAL", c"An invariant of the library is broken; please report it."),
];

/// No limit on a wait.
pub const RK_FOREVER: u64 = u64::MAX;
/// Target block of a message: the runtime chooses.
pub const RK_ANY_BLOCK: u32 = u32::MAX;

/// Backend: CUDA when a usable device is there, else CPU.
pub const RK_BACKEND_AUTO: u32 = 0;
/// Backend: CPU threads.
pub const RK_BACKEND_CPU: u32 = 1;
/// Backend: resident on a CUDA GPU. While a persistent kernel is, the driver makes some calls of other CUDA code in the
/// process wait until it ends: freeing memory, loading code, the legacy default stream, synchronising the context. Nothing
/// but its own return ends a handler that runs on a GPU. docs/cuda.md has the whole list.
pub const RK_BACKEND_CUDA: u32 = 2;

/// Program: no device code.
pub const RK_CODE_NONE: u32 = 0;
/// Program: CUDA C++ source, compiled at run time.
pub const RK_CODE_SOURCE: u32 = 1;
/// Program: PTX text.
pub const RK_CODE_PTX: u32 = 2;
/// Program: a CUBIN image.
pub const RK_CODE_CUBIN: u32 = 3;

/// Mode: CUDA is persistent, CPU is event-driven.
pub const RK_MODE_AUTO: u32 = 0;
/// Mode: each block owns a thread (CPU) or stays resident (CUDA); the lowest latency.
pub const RK_MODE_PERSISTENT: u32 = 1;
/// Mode: blocks run on shared workers when they have messages; an idle kernel costs no CPU.
pub const RK_MODE_EVENT_DRIVEN: u32 = 2;

/// Launch flag: do not activate.
pub const RK_LAUNCH_SUSPENDED: u32 = 1;
/// Launch flag: a grid barrier is wanted (CUDA; no effect on CPU).
pub const RK_LAUNCH_COOPERATIVE: u32 = 2;
/// Launch flag: a promise that one thread at a time puts messages into the queue of a block: rk_send, rk_call, rk_reserve, an aborted
/// or committed loan, a route of another kernel (whose block counts as one thread), each after the one before has returned. It makes sending on
/// the CPU cheaper; the queue keeps its memory while the kernel is idle. If it is broken, messages are lost or mixed.
pub const RK_LAUNCH_SINGLE_SENDER: u32 = 4;
/// Launch flag: every message in the kernel's queues, and every reply of it, has the time of who sent it: the host's clock, or a kernel's. A clock
/// read costs more than a send.
pub const RK_LAUNCH_TIMESTAMPS: u32 = 8;
/// Launch flag: handlers never run on a waiting caller's thread.
pub const RK_LAUNCH_NO_HELP: u32 = 16;

/// Wait of a persistent CPU block: spin, then yield, then park.
pub const RK_WAIT_AUTO: u32 = 0;
/// Wait of a persistent CPU block: spin; burns its CPU.
pub const RK_WAIT_SPIN: u32 = 1;
/// Wait of a persistent CPU block: park at once; burns nothing.
pub const RK_WAIT_PARK: u32 = 2;

/// Full output queue: the kernel takes no further input until there is room; nothing is lost.
pub const RK_OVERFLOW_BLOCK: u32 = 0;
/// Full output queue: what does not fit becomes a dead letter.
pub const RK_OVERFLOW_DEAD_LETTER: u32 = 1;

/// A failed block fails its kernel.
pub const RK_RESTART_NEVER: u32 = 0;
/// Restart rule: a block that fails is restarted, alone. Its message is a dead letter (RK_DEAD_HANDLER) and its callers get
/// RK_ERR_KERNEL_FAILED; on_stop runs, the state is that of the last rk_checkpoint or rk_restore or else zero, and after restart_backoff_ns on_start runs and the block goes on with
/// what was queued behind. The kernel is ACTIVE all the time and takes messages. One restart too many (restart_max within
/// restart_window_ns): the kernel is FAILED, what is queued becomes dead letters (RK_DEAD_HANDLER), and it can still be read and
/// destroyed. A terminate during a backoff does not wait for it; during a drain there is none.
pub const RK_RESTART_ON_FAILURE: u32 = 1;

/// State: being made; never seen from outside a launch.
pub const RK_STATE_CREATED: u32 = 0;
/// State: launched and not activated; messages queue.
pub const RK_STATE_LAUNCHED: u32 = 1;
/// State: running.
pub const RK_STATE_ACTIVE: u32 = 2;
/// State: paused; messages queue.
pub const RK_STATE_DEACTIVATED: u32 = 3;
/// State: stopping; takes no messages.
pub const RK_STATE_TERMINATING: u32 = 4;
/// State: ended; queued output can still be received.
pub const RK_STATE_TERMINATED: u32 = 5;
/// State: ended by a failure of its code.
pub const RK_STATE_FAILED: u32 = 6;

/// Dead letter: its kernel ended before it was handled.
pub const RK_DEAD_TERMINATED: u32 = 1;
/// Dead letter: its handler failed; `status` says how.
pub const RK_DEAD_HANDLER: u32 = 2;
/// Dead letter: its deadline passed before it was handled.
pub const RK_DEAD_EXPIRED: u32 = 3;
/// Dead letter: the output queue was full under RK_OVERFLOW_DEAD_LETTER.
pub const RK_DEAD_OVERFLOW: u32 = 4;
/// Dead letter: a kernel's message waited for room, and its target has no such block or takes none of its size.
pub const RK_DEAD_NO_ROUTE: u32 = 5;
/// Dead letter: the runtime was shut down.
pub const RK_DEAD_SHUTDOWN: u32 = 6;

/// Event: a launch is complete.
pub const RK_EVENT_LAUNCHED: u32 = 1;
/// Event: a terminate is complete.
pub const RK_EVENT_TERMINATED: u32 = 2;
/// Event: the reply to a call; carries the message.
pub const RK_EVENT_REPLY: u32 = 3;
/// Event: a watched output queue is readable.
pub const RK_EVENT_READABLE: u32 = 4;
/// Event: a watched kernel changed its state.
pub const RK_EVENT_STATE: u32 = 5;
/// Event: a dead letter was queued.
pub const RK_EVENT_DEAD_LETTER: u32 = 6;

/// Watch: the output queue becomes readable.
pub const RK_WATCH_READABLE: u32 = 1;
/// Watch: the state changes.
pub const RK_WATCH_STATE: u32 = 2;

/// Metrics text: Prometheus / OpenMetrics.
pub const RK_TEXT_PROMETHEUS: u32 = 0;
/// Metrics text: JSON.
pub const RK_TEXT_JSON: u32 = 1;

/// Log level: something failed.
pub const RK_LOG_ERROR: u32 = 1;
/// Log level: something is likely wrong.
pub const RK_LOG_WARN: u32 = 2;
/// Log level: a change of state worth knowing.
pub const RK_LOG_INFO: u32 = 3;
/// Log level: detail for finding faults.
pub const RK_LOG_DEBUG: u32 = 4;
/// Log level: everything.
pub const RK_LOG_TRACE: u32 = 5;

/// A runtime: an encoded handle, never an address. Opaque.
pub struct RkRuntime {
    _private: [u8; 0],
}

/// What a handler is given; valid only inside it. An encoded handle, never an address. Opaque.
pub struct RkContext {
    _private: [u8; 0],
}

/// Receives one line of the library's log.
///
/// `level` is one of `RK_LOG_*`; `message` is NUL-terminated UTF-8 and valid during the call only. Called on
/// any thread, never twice at once from one thread.
pub type RkLogFn =
    Option<unsafe extern "C-unwind" fn(level: u32, message: *const c_char, user_data: *mut c_void)>;

/// Handles one message; its return value is explained at `rk_program_t`.
pub type RkHandlerFn =
    Option<unsafe extern "C-unwind" fn(ctx: *mut RkContext, message: *const RkMessage) -> RkStatus>;

/// Runs once per block before its first message and after each restart, when the state is zero or that of the last checkpoint. Non-zero: the block has failed,
/// as by RK_ERR_KERNEL_FAILED of a handler; it is not stopped.
pub type RkStartFn = Option<unsafe extern "C-unwind" fn(ctx: *mut RkContext) -> RkStatus>;

/// Runs once per block that was started, after its last message.
pub type RkStopFn = Option<unsafe extern "C-unwind" fn(ctx: *mut RkContext)>;

/// Gives user data back to the application.
pub type RkDropFn = Option<unsafe extern "C-unwind" fn(user_data: *mut c_void)>;

/// Options of `rk_runtime_create`; all zero is the default.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct RkRuntimeOptions {
    /// Size of this struct as the caller knows it, bytes.
    pub struct_size: u32,
    /// One of `RK_BACKEND_*`.
    pub backend: u32,
    /// CUDA device ordinal.
    pub device_index: u32,
    /// Shared workers of the CPU backend; 0 = one per core this process may use.
    pub worker_threads: u32,
    /// Most live kernels; 0 = 1 048 576.
    pub kernels_max: u32,
    /// Events that wait for `rk_poll` at most; 0 = 4096.
    pub event_capacity: u32,
    /// Must be zero.
    pub reserved: [u64; 8],
}

/// The code a kernel runs.
///
/// What `on_message` returns decides what becomes of the message: `RK_OK`, handled. `RK_ERR_KERNEL_FAILED`
/// (or a Rust panic), the state is no longer to be trusted: the block fails and the message becomes a dead
/// letter. Any other value: this message failed, it becomes a dead letter with that value, a waiting
/// `rk_call` returns that value, and the kernel goes on; positive values are the application's own.
/// A C++ exception that leaves a callback ends the process with a clean abort.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct RkProgram {
    /// Size of this struct as the caller knows it, bytes.
    pub struct_size: u32,
    /// Must be zero.
    pub flags: u32,
    /// 1 to 127 bytes of `[A-Za-z0-9_.:/-]`.
    pub name: *const c_char,
    /// The handler on the CPU.
    pub on_message: RkHandlerFn,
    /// Optional; may set up the block's state. Non-zero fails the kernel.
    pub on_start: RkStartFn,
    /// Optional; one for each on_start that succeeded.
    pub on_stop: RkStopFn,
    /// Shared by all blocks of all kernels of this program, never copied.
    pub user_data: *mut c_void,
    /// Called exactly once with user_data: when the program is unregistered or its runtime destroyed and
    /// its last kernel has ended, or when registration fails.
    pub drop_user_data: RkDropFn,
    /// One of `RK_CODE_*`.
    pub cuda_code_kind: u32,
    /// The device code; copied before `rk_program_register` returns.
    pub cuda_code: *const c_void,
    /// Size of the device code, bytes; a text may be given with or without its NUL.
    pub cuda_code_size: usize,
    /// Device function that handles a message; NULL = `name`.
    pub cuda_handler: *const c_char,
    /// State of each block, bytes; zeroed, 64-byte aligned.
    pub state_size: usize,
    /// Must be zero.
    pub reserved: [u64; 8],
}

/// A kernel: a small value to be copied freely; a stale one is always recognised. 0 = none.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RkKernel {
    /// Generation and index.
    pub id: u64,
}

/// An asynchronous operation. 0 = none.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RkOp {
    /// The operation's number.
    pub id: u64,
}

/// Options of `rk_launch`; all zero is the default.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct RkLaunchOptions {
    /// Size of this struct as the caller knows it, bytes.
    pub struct_size: u32,
    /// One of `RK_MODE_*`.
    pub mode: u32,
    /// Blocks; 0 = 1.
    pub grid_size: u32,
    /// Threads per block on CUDA; 0 = 256. CPU handlers see one thread.
    pub block_size: u32,
    /// Messages per block, a power of two from 2 to 2^31; 0 = 1024.
    pub input_queue_capacity: u32,
    /// Messages per kernel, a power of two from 2 to 2^31; 0 = 1024.
    pub output_queue_capacity: u32,
    /// Bytes per message; 0 = 192. Rounded up so that header and payload are a multiple of 64 bytes.
    pub payload_size_max: u32,
    /// Scratch per block, bytes.
    pub shared_memory_size: u32,
    /// `RK_LAUNCH_*` bits.
    pub flags: u32,
    /// One of `RK_WAIT_*`; persistent CPU kernels.
    pub wait_strategy: u32,
    /// One of `RK_OVERFLOW_*`.
    pub overflow: u32,
    /// One of `RK_RESTART_*`.
    pub restart: u32,
    /// Restarts within restart_window_ns, of all blocks together; the failure after that fails the kernel. 0 = 3.
    pub restart_max: u32,
    /// Persistent CPU kernels: pin to this CPU + 1; 0 = not pinned.
    pub cpu: i32,
    /// Nanoseconds; 0 = all the kernel's life.
    pub restart_window_ns: u64,
    /// From a failure to the restart, nanoseconds; 0 = at once.
    pub restart_backoff_ns: u64,
    /// Name of the program; NULL = the kernel's id names it.
    pub program: *const c_char,
    /// Must be zero.
    pub reserved: [u64; 8],
}

/// What `rk_kernel_status` tells.
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub struct RkKernelStatus {
    /// Size of this struct as the caller knows it, bytes.
    pub struct_size: u32,
    /// One of `RK_STATE_*`.
    pub state: u32,
    /// One of `RK_MODE_*`, never AUTO.
    pub mode: u32,
    /// One of `RK_BACKEND_*`, never AUTO.
    pub backend: u32,
    /// Blocks.
    pub grid_size: u32,
    /// Restarts of blocks so far.
    pub restarts: u32,
    /// Status of the last failure, 0 = none.
    pub last_error: RkStatus,
    /// Zero.
    pub reserved0: u32,
    /// Messages that wait to be handled, all blocks together.
    pub input_queue_depth: u64,
    /// Messages that wait to be received.
    pub output_queue_depth: u64,
    /// Handler calls that returned RK_OK.
    pub messages_processed: u64,
    /// Nanoseconds since launch; stands still once the kernel has ended.
    pub uptime_ns: u64,
    /// Zero.
    pub reserved: [u64; 4],
}

/// A hybrid logical clock's time. Of one node, all are different and increasing; what follows from a message (what its handler says, what the
/// host sends after it got the answer) is later, whatever the wall clock does meanwhile. A time that is more than a second ahead of the wall
/// clock, which a clock that is wrong must have made, is not followed. Compare physical_ns, then logical, then node. A clock has room for times until
/// January 2043 (2^61 ns); from some minutes before that on, its times only count on from there, and still differ and increase.
#[repr(C)]
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct RkTimestamp {
    /// Nanoseconds since the Unix epoch.
    pub physical_ns: u64,
    /// Orders what the physical time cannot.
    pub logical: u32,
    /// Who stamped it: each kernel has its own number, 0 is the host.
    pub node: u32,
}

/// A message: in what is sent, and a view of what is received.
///
/// `{0}` with a payload is a complete message to block 0.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct RkMessage {
    /// The bytes; 64-byte aligned in what is received. May be NULL when payload_size is 0.
    pub payload: *const c_void,
    /// Bytes.
    pub payload_size: usize,
    /// The application's own tag. C: `type`.
    pub r#type: u32,
    /// Target block, or RK_ANY_BLOCK.
    pub block: u32,
    /// The application's own; comes back in replies unchanged. 0 = none.
    pub correlation: u64,
    /// Out only: `rk_kernel_t.id` of the sender, 0 = host.
    pub source: u64,
    /// A point in time on CLOCK_MONOTONIC; past it, unhandled, the message becomes a dead letter. 0 = none.
    pub deadline_ns: u64,
    /// Out only: zero unless RK_LAUNCH_TIMESTAMPS.
    pub timestamp: RkTimestamp,
    /// Out only: opaque, for `rk_release`.
    pub lease: u64,
}

/// A slot to write a message into before it is sent.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct RkLoan {
    /// 64-byte aligned, payload_size bytes.
    pub payload: *mut c_void,
    /// Bytes.
    pub payload_size: usize,
    /// Opaque, for commit and abort.
    pub lease: u64,
}

/// A message that could not be handled.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct RkDeadLetter {
    /// The message; a view to be released.
    pub message: RkMessage,
    /// The kernel it was for.
    pub kernel: RkKernel,
    /// One of `RK_DEAD_*`.
    pub reason: u32,
    /// What the handler returned, or the status that fits the reason.
    pub status: RkStatus,
}

/// One event of `rk_poll`.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct RkEvent {
    /// One of `RK_EVENT_*`.
    pub kind: u32,
    /// How the operation ended.
    pub status: RkStatus,
    /// Of the operation or watch.
    pub user_data: u64,
    /// The operation, 0 = none.
    pub op: RkOp,
    /// The kernel, 0 = none.
    pub kernel: RkKernel,
    /// One of `RK_STATE_*`.
    pub state: u32,
    /// Zero.
    pub flags: u32,
    /// The reply, a view to be released.
    pub message: RkMessage,
}

/// A latency distribution. All zero while count is 0.
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub struct RkLatency {
    /// Values.
    pub count: u64,
    /// Nanoseconds.
    pub min_ns: u64,
    /// Nanoseconds.
    pub mean_ns: u64,
    /// Nanoseconds.
    pub p50_ns: u64,
    /// Nanoseconds.
    pub p90_ns: u64,
    /// Nanoseconds.
    pub p99_ns: u64,
    /// Nanoseconds.
    pub p999_ns: u64,
    /// Nanoseconds.
    pub max_ns: u64,
}

/// What `rk_metrics` tells. Counters never fall.
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub struct RkRuntimeMetrics {
    /// Size of this struct as the caller knows it, bytes.
    pub struct_size: u32,
    /// One of `RK_BACKEND_*`, never AUTO.
    pub backend: u32,
    /// Kernels that are neither TERMINATED nor FAILED.
    pub active_kernels: u64,
    /// Kernels ever launched.
    pub total_launched: u64,
    /// Messages of the host that were accepted by send, call and commit.
    pub messages_sent: u64,
    /// Messages the host took by receive, and replies to its calls.
    pub messages_received: u64,
    /// Handler calls that returned RK_OK.
    pub messages_processed: u64,
    /// Handler calls that did not.
    pub messages_failed: u64,
    /// Dead letters of any reason, kept or dropped.
    pub dead_letters: u64,
    /// Dead letters that found their queue full.
    pub dead_letters_dropped: u64,
    /// Restarts of blocks.
    pub restarts: u64,
    /// Bytes.
    pub gpu_memory_used_bytes: u64,
    /// Bytes of queues, states and scratch. An empty queue may have given its memory back.
    pub host_memory_used_bytes: u64,
    /// Nanoseconds since the runtime was created.
    pub uptime_ns: u64,
    /// Zero.
    pub reserved: [u64; 8],
}

/// What `rk_kernel_metrics` tells. Counters never fall.
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub struct RkKernelMetrics {
    /// Size of this struct as the caller knows it, bytes.
    pub struct_size: u32,
    /// One of `RK_BACKEND_*`, never AUTO.
    pub backend: u32,
    /// One of `RK_STATE_*`.
    pub state: u32,
    /// 1 while the kernel is resident on a GPU.
    pub gpu_launched: u32,
    /// Host to this kernel: accepted by send, call and commit.
    pub messages_sent: u64,
    /// This kernel to host: taken by receive, and replies to calls.
    pub messages_received: u64,
    /// Handler calls that returned RK_OK.
    pub messages_processed: u64,
    /// Handler calls that did not.
    pub messages_failed: u64,
    /// Messages other kernels sent to this one.
    pub messages_from_kernels: u64,
    /// Messages this kernel sent to kernels.
    pub messages_to_kernels: u64,
    /// Messages of or for this kernel that became dead letters.
    pub dead_letters: u64,
    /// Times a block was scheduled; a persistent block: times it woke.
    pub invocations: u64,
    /// Bytes over the bus to the device.
    pub bytes_to_device: u64,
    /// Bytes over the bus from the device.
    pub bytes_from_device: u64,
    /// Bytes.
    pub gpu_memory_used_bytes: u64,
    /// Bytes of queues, states and scratch, and of the last checkpoint. An empty queue may have given its memory back.
    pub host_memory_used_bytes: u64,
    /// Messages that wait to be handled, all blocks together.
    pub input_queue_depth: u64,
    /// The deepest input queue a block has seen when it took a message.
    pub input_queue_depth_max: u64,
    /// Messages that wait to be received.
    pub output_queue_depth: u64,
    /// Views of the output queue and loans not yet given back; replies of calls belong to no queue and are not in it.
    pub open_leases: u64,
    /// Age of the oldest of them, nanoseconds, to within 10 milliseconds.
    pub oldest_lease_ns: u64,
    /// Nanoseconds since launch; stands still once the kernel has ended.
    pub uptime_ns: u64,
    /// Restarts of blocks.
    pub restarts: u64,
    /// Status of the last failure, 0 = none.
    pub last_error: RkStatus,
    /// Zero.
    pub reserved0: u32,
    /// Send to handler start.
    pub queue_ns: RkLatency,
    /// Handler start to end.
    pub handler_ns: RkLatency,
    /// Replies to calls that had timed out: dropped. A call that helped, and came out of the handler too late, had its reply: that
    /// one counts as received.
    pub replies_late: u64,
    /// Zero.
    pub reserved: [u64; 7],
}

/// Bytes of the header before each payload, and the alignment of every payload.
pub(crate) const SLOT_HEADER_SIZE: usize = 64;

/// Names of the words of a slot's header; both a host thread and a device thread read this layout.
///
/// `turn`, `token` and `meta` are only touched atomically. The ring's file explains the protocol.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct SlotHeader {
    /// Whose turn the slot is: `2 * lap` free, `2 * lap + 1` published.
    pub(crate) turn: u64,
    /// The application's own number.
    pub(crate) correlation: u64,
    /// Kernel handle of the sender, 0 = host.
    pub(crate) source: u64,
    /// The call to answer (a message), or the open loan (a reserved slot), or 0.
    pub(crate) token: u64,
    /// Input ring: the deadline. Output ring: the block that sent it; after it is taken: the lease's time.
    pub(crate) meta: u64,
    /// Payload bytes; `SLOT_SKIPPED` for a slot that holds no message.
    pub(crate) payload_size: u32,
    /// The application's own tag.
    pub(crate) tag: u32,
    /// Of the sender's clock.
    pub(crate) timestamp: RkTimestamp,
}

/// `SlotHeader::payload_size` of a slot that was claimed and then given up.
pub(crate) const SLOT_SKIPPED: u32 = u32::MAX;

/// Version of the structs below; `RKD_LAYOUT` of `include/ringkernel_device.cuh`, whose head explains them.
pub(crate) const SEAT_LAYOUT: u32 = 4;

/// What the host asks of a seat; written by the host only. C++: `rkd_control`.
#[repr(C, align(128))]
pub(crate) struct SeatControl {
    /// Number of the command << 32 | verb.
    pub(crate) command: u64,
    /// Input position at which a drain is over.
    pub(crate) drain_to: u64,
    /// Records of the outbox that the host has taken.
    pub(crate) outbox_head: u64,
    /// CLOCK_MONOTONIC minus the device's timer, nanoseconds.
    pub(crate) clock_offset: u64,
    /// Time since the Unix epoch minus the device's timer, nanoseconds.
    pub(crate) unix_offset: u64,
    /// Changes with every route that ends.
    pub(crate) route_version: u64,
    /// Not 0: take no input.
    pub(crate) hold: u64,
    /// Device address of the tenant's [`SeatTenant`].
    pub(crate) tenant: u64,
    /// Messages to kernels, through the host, that have found room.
    pub(crate) sends_done: u64,
    /// Restarts of a block that failed.
    pub(crate) restarts: u64,
    /// Device address that a state is copied to or from.
    pub(crate) transfer: u64,
    /// Of the last message to a kernel that has asked: its number among those through the host << 1 | it was not taken.
    pub(crate) verdict: u64,
    pub(crate) reserved: [u64; 4],
}

/// What a seat says; written by the device only. C++: `rkd_status`.
#[repr(C, align(128))]
pub(crate) struct SeatStatus {
    /// [`SEAT_LAYOUT`] << 32 | size of a slot's header, once the block runs.
    pub(crate) version: u64,
    /// Number of the command that is done << 32 | phase.
    pub(crate) ack: u64,
    /// Positions of the input that are done with.
    pub(crate) taken: u64,
    /// Messages of peers that are done with.
    pub(crate) peer_taken: u64,
    /// Messages whose handler was called.
    pub(crate) started: u64,
    /// Of those, whose handler returned RK_OK.
    pub(crate) processed: u64,
    /// Of those, whose handler did not.
    pub(crate) failed: u64,
    /// Messages sent to peers on the device.
    pub(crate) sent: u64,
    /// Looks at the command word.
    pub(crate) heartbeat: u64,
    /// The device's timer at that time, nanoseconds.
    pub(crate) timer: u64,
    /// Messages that peers have sent, as of late.
    pub(crate) peer_seen: u64,
    pub(crate) reserved: [u64; 5],
}

/// A block of a kernel, for the seat it moves into; written before, read only. C++: `rkd_tenant`.
#[repr(C, align(64))]
#[derive(Clone, Copy, Default)]
pub(crate) struct SeatTenant {
    pub(crate) kernel: u64,
    pub(crate) input: u64,
    pub(crate) outbox: u64,
    pub(crate) peer: u64,
    pub(crate) state: u64,
    pub(crate) inbox: u64,
    pub(crate) routes: u64,
    pub(crate) seat0: u64,
    pub(crate) state_size: u64,
    pub(crate) epoch: u64,
    /// Entries of small messages, and of small records; 0: none.
    pub(crate) express_in: u64,
    pub(crate) express_out: u64,
    pub(crate) input_shift: u32,
    pub(crate) outbox_shift: u32,
    pub(crate) peer_shift: u32,
    pub(crate) stride: u32,
    pub(crate) payload_max: u32,
    pub(crate) block: u32,
    pub(crate) blocks: u32,
    pub(crate) flags: u32,
    pub(crate) node: u32,
    pub(crate) route_max: u32,
    pub(crate) shared_size: u32,
    pub(crate) reserved: u32,
}

/// A route as the device remembers it; in the table its words are spread over an entry. C++: `rkd_route`.
#[repr(C, align(32))]
pub(crate) struct SeatRoute {
    pub(crate) handle: u64,
    /// Device address of the first seat of the target; 0: through the host.
    pub(crate) seats: u64,
    pub(crate) blocks: u32,
    /// 16 bits; above, whether the target wants timestamps.
    pub(crate) epoch: u32,
    pub(crate) payload_max: u32,
    /// Places in the target's queue.
    pub(crate) capacity: u32,
}

/// The head of a record in an outbox. C++: `rkd_record`.
#[repr(C, align(64))]
#[derive(Clone, Copy)]
pub(crate) struct SeatRecord {
    pub(crate) turn: u64,
    pub(crate) correlation: u64,
    pub(crate) subject: u64,
    pub(crate) deadline: u64,
    pub(crate) op: u32,
    pub(crate) block: u32,
    pub(crate) payload_size: u32,
    pub(crate) tag: u32,
    pub(crate) physical: u64,
    /// 7 bits of the stamp, 25 of how much input was taken when the record was made.
    pub(crate) logical_taken: u32,
    pub(crate) status: RkStatus,
}

/// What a launch is told. C++: `rkd_launch`.
#[repr(C, align(64))]
#[derive(Clone, Copy, Default)]
pub(crate) struct SeatLaunch {
    pub(crate) controls: u64,
    pub(crate) statuses: u64,
    pub(crate) seats: u64,
    pub(crate) count: u32,
    pub(crate) once: u32,
    pub(crate) busy_sleep_ns: u32,
    pub(crate) idle_sleep_ns: u32,
    pub(crate) layout: u32,
    /// The seats' records hold nothing yet.
    pub(crate) fresh: u32,
    pub(crate) reserved: [u32; 4],
}

/// Routes of a leaf of the table of routes, bytes of an entry; pages and the root of it, in addresses.
pub(crate) const ROUTE_LEAF: usize = 64;
pub(crate) const ROUTE_ENTRY: usize = 64;
pub(crate) const ROUTE_PAGE: usize = 512;
pub(crate) const ROUTE_ROOT: usize = 32;
/// Numbers of routes that the table has places for.
pub(crate) const ROUTES_MAX: u32 = (ROUTE_LEAF * ROUTE_PAGE * ROUTE_PAGE * ROUTE_ROOT) as u32;

/// Entries of an express area, bytes of each, and of a payload that fits one.
pub(crate) const EXPRESS_ENTRIES: usize = 64;
pub(crate) const EXPRESS_STRIDE: usize = 256;
pub(crate) const EXPRESS_MAX: usize = 64;

/// Bytes of a seat's own record in device memory. C++: `rkd_seat`.
pub(crate) const SEAT_SIZE: usize = 256;

// The C side of these is asserted in tests/c/layout.c, from the header alone.
const _: () = {
    use core::mem::{align_of, offset_of, size_of};
    assert!(size_of::<SlotHeader>() == SLOT_HEADER_SIZE);
    assert!(offset_of!(SlotHeader, turn) == 0);
    assert!(offset_of!(SlotHeader, token) == 24);
    assert!(offset_of!(SlotHeader, meta) == 32);
    assert!(offset_of!(SlotHeader, payload_size) == 40);
    assert!(offset_of!(SlotHeader, timestamp) == 48);
    assert!(offset_of!(SeatControl, verdict) == 88);
    assert!(size_of::<SeatControl>() == 128 && offset_of!(SeatControl, tenant) == 56);
    assert!(size_of::<SeatStatus>() == 128 && offset_of!(SeatStatus, timer) == 72);
    assert!(size_of::<SeatTenant>() == 192 && offset_of!(SeatTenant, input_shift) == 96);
    assert!(size_of::<SeatRoute>() == 32 && size_of::<SeatRecord>() == 64 && size_of::<SeatLaunch>() == 64);
    assert!(size_of::<RkMessage>() == 72 && align_of::<RkMessage>() == 8);
    assert!(offset_of!(RkMessage, lease) == 64);
    assert!(size_of::<RkLoan>() == 24);
    assert!(size_of::<RkTimestamp>() == 16);
    assert!(size_of::<RkDeadLetter>() == 88);
    assert!(size_of::<RkRuntimeOptions>() == 88);
    assert!(size_of::<RkProgram>() == 160);
    assert!(size_of::<RkLaunchOptions>() == 144);
    assert!(size_of::<RkKernelStatus>() == 96);
    assert!(size_of::<RkEvent>() == 112);
    assert!(size_of::<RkLatency>() == 64);
    assert!(size_of::<RkRuntimeMetrics>() == 168);
    assert!(size_of::<RkKernelMetrics>() == 368);
};
