//! libringkernel: persistent kernels as actors, behind a C ABI.
//!
//! # The house
//! * `layout`: every byte that crosses the ABI, once. `limits`, `error`, `sync`, `process`, `clock`,
//!   `metrics`: what the rooms above stand on.
//! * `ring`: the bounded ring between senders and receivers, and how threads wait.
//! * `runtime`: kernels, their lifecycle and their messages; the trait [`runtime::RingKernelRuntime`].
//! * `backend`: what runs the blocks of a kernel.
//! * `ffi`: the C surface, one file per noun of `include/ringkernel.h`.
//!
//! Which room may use which is checked by `tests/tidy.rs`. The design is explained at the top of each file;
//! decisions and their reasons are in `docs/decisions.md`.

pub mod error;
pub mod ffi;
pub mod layout;
pub mod runtime;

mod arena;
mod backend;
mod clock;
mod limits;
mod metrics;
mod process;
mod ring;
mod sync;
mod thread;
