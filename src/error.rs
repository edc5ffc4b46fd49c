//! What can go wrong, with the facts, and the one map to `rk_status_t`.
//!
//! Errors are values with fields; the sentence is made when somebody asks for it (`rk_last_error`), so a
//! full queue on the hot path costs no formatting. Identifiers are shared, not copied.

use std::cell::RefCell;
use std::ffi::CStr;
use std::sync::Arc;

use crate::layout::*;
use crate::thread::words;

/// What the driver calls a lack of memory (`CUDA_ERROR_OUT_OF_MEMORY`).
pub(crate) const CUDA_OUT_OF_MEMORY: u32 = 2;

/// The result of everything that can fail.
pub type Result<T> = core::result::Result<T, Error>;

/// A failure, in words and in fields.
#[derive(Debug, Clone, thiserror::Error)]
#[allow(missing_docs)] // each sentence is its documentation
pub enum Error {
    #[error("{argument} is NULL")]
    Null { argument: &'static str },
    #[error("{argument} is {value}; {rule}")]
    OutOfRange { argument: &'static str, value: i128, rule: &'static str },
    #[error("{argument} {text:?} ({length} bytes) is not a name; {rule}")]
    BadName { argument: &'static str, text: Arc<str>, length: usize, rule: &'static str },
    #[error("{what}")]
    Invalid { what: &'static str },
    #[error("the value {value:?} of the environment variable {variable} is not one of {allowed}")]
    BadEnvironment { variable: &'static str, value: Arc<str>, allowed: &'static str },
    #[error("{what} {value:#x} is stale, foreign, or was never issued")]
    BadHandle { what: &'static str, value: u64 },
    #[error("{name}.struct_size is {given} bytes; {rule}")]
    StructSize { name: &'static str, given: usize, rule: &'static str },
    #[error("{what} needs {needed}, the caller's buffer has room for {capacity}")]
    BufferTooSmall { what: &'static str, needed: usize, capacity: usize },
    #[error("no {what} is named {name:?}")]
    NotFound { what: &'static str, name: Arc<str> },
    #[error("a {what} named {name:?} exists already")]
    AlreadyExists { what: &'static str, name: Arc<str> },
    #[error("the limit of {limit} {what} is reached")]
    Limit { what: &'static str, limit: u64 },
    #[error("cannot {verb} kernel {kernel:?}: it is {state}")]
    InvalidState { verb: &'static str, kernel: Arc<str>, state: &'static str },
    #[error("{what}")]
    Misused { what: &'static str },
    #[error("kernel {kernel:?} is {state} and takes part in nothing more")]
    Terminated { kernel: Arc<str>, state: &'static str },
    #[error("the runtime is shut down")]
    Shutdown,
    #[error("kernel {kernel:?} has failed with status {status}")]
    KernelFailed { kernel: Arc<str>, status: RkStatus },
    #[error("kernel {kernel:?} has failed: {cause}")]
    KernelLost { kernel: Arc<str>, cause: Arc<Error> },
    #[error("{verb} on {target:?} would wait for the handler it is called from")]
    WouldDeadlock { verb: &'static str, target: Arc<str> },
    #[error("this process is a fork of one that used the library; a child cannot use it")]
    Forked,
    #[error("{queue} of kernel {kernel:?} is full at {capacity} messages")]
    Full { queue: &'static str, kernel: Arc<str>, capacity: u64 },
    #[error("{what} of {name:?} is empty")]
    Empty { what: &'static str, name: Arc<str> },
    #[error("{what} of {name:?} did not come to an end within {timeout_ns} ns")]
    Timeout { what: &'static str, name: Arc<str>, timeout_ns: u64 },
    #[error("these kernels still run after {timeout_ns} ns: {names}")]
    StillRunning { names: Arc<str>, timeout_ns: u64 },
    #[error("a payload of {size} bytes can never fit kernel {kernel:?}, whose limit is {limit} bytes")]
    TooLarge { kernel: Arc<str>, size: usize, limit: usize },
    #[error("a payload of {size} bytes can never fit any kernel")]
    TooLargeForAny { size: usize },
    #[error("kernel {kernel:?} has no block {block}; it has {count}")]
    NoBlock { kernel: Arc<str>, block: u32, count: u32 },
    #[error("this is no checkpoint for kernel {kernel:?}: {what} is {found}, not {expected}")]
    BadCheckpoint { kernel: Arc<str>, what: &'static str, found: Arc<str>, expected: Arc<str> },
    #[error("kernel {kernel:?} has no route {route}")]
    NoRoute { kernel: Arc<str>, route: u32 },
    #[error("{what} is not supported: {why}")]
    Unsupported { what: &'static str, why: &'static str },
    #[error("kernel {kernel:?} of program {program:?} cannot be launched: {why}")]
    CannotLaunch { kernel: Arc<str>, program: Arc<str>, why: &'static str },
    #[error("backend {backend} is not available: {why}")]
    BackendUnavailable { backend: &'static str, why: Arc<str>, code: u32 },
    #[error("no CUDA device can be used: {why}")]
    NoDevice { why: Arc<str>, code: u32 },
    #[error("{what} failed: {name} ({code})")]
    Cuda { what: Arc<str>, name: Arc<str>, code: u32 },
    #[error("program {program:?} does not compile for the device: {log}")]
    Compile { program: Arc<str>, log: Arc<str>, code: u32 },
    #[error("the {asked} blocks of kernel {kernel:?} cannot all be resident on the device: {why}")]
    NotResident { kernel: Arc<str>, asked: u32, why: Arc<str> },
    #[error(
        "a handler of kernel {kernel:?} has run for {limit_ms} ms without an end; the device cannot stop it"
    )]
    Hung { kernel: Arc<str>, limit_ms: u64 },
    #[error("the device gives no answer about the states of kernel {kernel:?}")]
    NoAnswer { kernel: Arc<str> },
    #[error("{bytes} bytes for {what} could not be allocated")]
    OutOfMemory { what: &'static str, bytes: usize },
    #[error("the operating system refused {what} (errno {errno})")]
    System { what: &'static str, errno: i32 },
    #[error("the handler of kernel {kernel:?} answered the call with status {status}")]
    Handler { kernel: Arc<str>, status: RkStatus },
    #[error("the message to kernel {kernel:?} passed its deadline before it was handled")]
    Expired { kernel: Arc<str> },
    #[error("a panic was caught at the boundary: {message}")]
    Panic { message: Arc<str> },
    #[error("internal error: {what}")]
    Internal { what: &'static str },
}

impl Error {
    /// The status that C sees.
    pub fn status(&self) -> RkStatus {
        match self {
            Self::Null { .. }
            | Self::OutOfRange { .. }
            | Self::BadName { .. }
            | Self::Invalid { .. }
            | Self::NoBlock { .. }
            | Self::BadCheckpoint { .. }
            | Self::BadEnvironment { .. } => RK_ERR_INVALID_ARGUMENT,
            Self::BadHandle { .. } => RK_ERR_INVALID_HANDLE,
            Self::StructSize { .. } => RK_ERR_STRUCT_SIZE,
            Self::BufferTooSmall { .. } => RK_ERR_BUFFER_TOO_SMALL,
            Self::NotFound { .. } => RK_ERR_NOT_FOUND,
            Self::AlreadyExists { .. } => RK_ERR_ALREADY_EXISTS,
            Self::Limit { .. } => RK_ERR_LIMIT,
            Self::InvalidState { .. } | Self::Misused { .. } => RK_ERR_INVALID_STATE,
            Self::Terminated { .. } => RK_ERR_TERMINATED,
            Self::Shutdown => RK_ERR_SHUTDOWN,
            Self::KernelFailed { .. } | Self::KernelLost { .. } => RK_ERR_KERNEL_FAILED,
            Self::WouldDeadlock { .. } => RK_ERR_WOULD_DEADLOCK,
            Self::Forked => RK_ERR_FORKED,
            Self::Full { .. } => RK_ERR_FULL,
            Self::Empty { .. } => RK_ERR_EMPTY,
            Self::Timeout { .. } | Self::StillRunning { .. } | Self::Expired { .. } => RK_ERR_TIMEOUT,
            Self::TooLarge { .. } | Self::TooLargeForAny { .. } => RK_ERR_TOO_LARGE,
            Self::NoRoute { .. } => RK_ERR_NO_ROUTE,
            Self::Unsupported { .. } | Self::CannotLaunch { .. } => RK_ERR_UNSUPPORTED,
            Self::BackendUnavailable { .. } => RK_ERR_BACKEND_UNAVAILABLE,
            Self::NoDevice { .. } => RK_ERR_NO_DEVICE,
            Self::Cuda { code: CUDA_OUT_OF_MEMORY, .. } => RK_ERR_OUT_OF_MEMORY,
            Self::Cuda { .. } | Self::Hung { .. } | Self::NoAnswer { .. } => RK_ERR_DEVICE,
            Self::Compile { .. } => RK_ERR_COMPILE,
            Self::NotResident { .. } => RK_ERR_NOT_RESIDENT,
            Self::OutOfMemory { .. } => RK_ERR_OUT_OF_MEMORY,
            Self::Handler { status, .. } => *status,
            Self::Panic { .. } => RK_ERR_PANIC,
            Self::System { .. } | Self::Internal { .. } => RK_ERR_INTERNAL,
        }
    }

    /// The number of the system or driver behind it, 0 if none.
    pub fn backend_code(&self) -> i32 {
        match self {
            Self::System { errno, .. } => *errno,
            Self::BackendUnavailable { code, .. }
            | Self::NoDevice { code, .. }
            | Self::Cuda { code, .. }
            | Self::Compile { code, .. } => i32::try_from(*code).unwrap_or(i32::MAX),
            Self::KernelLost { cause, .. } => cause.backend_code(),
            _ => 0,
        }
    }
}

thread_local! {
    /// In a box, as the words of all threads have little room (`thread.rs`).
    static LAST: RefCell<Option<Box<Error>>> = const { RefCell::new(None) };
}

/// Keeps a failure as the thread's last one.
#[cold]
pub(crate) fn keep(error: Error) {
    // A thread that is being torn down has no last error to keep.
    let kept = LAST.try_with(|last| match &mut *last.borrow_mut() {
        Some(place) => **place = error,
        none => *none = Some(Box::new(error)),
    });
    if kept.is_ok() {
        words().has_error.set(true);
    }
}

/// The thread's last failure.
pub(crate) fn last<T>(read: impl FnOnce(Option<&Error>) -> T) -> Option<T> {
    LAST.try_with(|last| last.try_borrow().ok().map(|last| read(last.as_deref()))).ok().flatten()
}

/// Runs code of the application inside a call of its thread: what fails in there is not the caller's failure.
#[inline]
pub(crate) fn set_aside<T>(body: impl FnOnce() -> T) -> T {
    /// Puts the words back, also when the body unwinds.
    struct Restore(Option<Box<Error>>);

    impl Drop for Restore {
        #[inline(always)]
        fn drop(&mut self) {
            if self.0.is_some() || words().has_error.get() {
                put_back(self.0.take());
            }
        }
    }

    // Mostly there is none, and then nothing is moved.
    let _restore = Restore(if words().has_error.get() { a_copy() } else { None });
    body()
}

#[cold]
fn a_copy() -> Option<Box<Error>> {
    LAST.try_with(|last| last.borrow().clone()).ok().flatten()
}

#[cold]
fn put_back(error: Option<Box<Error>>) {
    words().has_error.set(error.is_some());
    let _ = LAST.try_with(|last| last.replace(error));
}

/// The name of a status; a word for every value.
pub fn status_name(status: RkStatus) -> &'static CStr {
    match STATUSES.iter().find(|(value, ..)| *value == status) {
        Some((_, name, _)) => name,
        None if status > 0 => c"RK_APPLICATION",
        None => c"RK_UNKNOWN",
    }
}

/// The sentence of a status; a sentence for every value.
pub fn status_text(status: RkStatus) -> &'static CStr {
    match STATUSES.iter().find(|(value, ..)| *value == status) {
        Some((_, _, text)) => text,
        None if status > 0 => c"A status of the application.",
        None => c"Not a status of this library.",
    }
}
