//! Model checks: the library's own files, compiled against loom.
//!
//! The modules below are the files of `src/`, not copies of them; only the memory of a ring is another one,
//! which loom can watch, and waits do not spin. Each model is checked as it stands, where it must hold, and
//! once for each labelled ordering it depends on, weakened to Relaxed (or the fence left out), where it must
//! fail: in a process of its own, for a failed model may leave loom in any state.
#![allow(dead_code, unsafe_code, unused_imports, missing_docs, unreachable_pub)]

#[path = "../../../src/layout.rs"]
pub mod layout;

/// The limits of the library, but without rounds that only pass time.
pub mod limits {
    pub(crate) const SPIN_ROUNDS: u32 = 0;
    pub(crate) const YIELD_ROUNDS: u32 = 0;
}

#[path = "../../../src/sync.rs"]
pub mod sync;

#[path = "../../../src/ring/mod.rs"]
pub mod ring;

#[path = "../../../src/runtime/gate.rs"]
pub mod gate;

#[path = "../../../src/runtime/hazard.rs"]
pub mod hazard;

#[path = "../../../src/runtime/call.rs"]
pub mod call;

#[cfg(test)]
mod check;
#[cfg(test)]
mod models;
