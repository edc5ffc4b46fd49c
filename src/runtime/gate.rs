//! The gate of a block: who may run it, and how nobody is left waiting in front of it.
//!
//! # States
//! ```text
//!            queue            enter            finish
//!   IDLE ──────────► QUEUED ──────────► RUNNING ──────► DONE
//!     ▲ └───────────── enter ─────────────▲ │ │
//!     └────────────────── leave ────────────┘ └─ requeue ─► QUEUED
//! ```
//! RUNNING is a lock: whoever moved the gate there is the block's only runner until it leaves; entering
//! acquires (G1) what leaving released (G2), so state, counters and the receiving end of the input ring have
//! one user at a time, on whatever thread.
//!
//! # Argument: no message is left behind
//! Sender: publish; fence (G3); gate IDLE? then queue or enter it. Runner: gate := IDLE; fence (G4); message
//! there? then try to enter again. The fences are a Dekker pair, so at least one of the two sees the other: the
//! sender sees IDLE, or the runner sees the message. If both do, one of the two compare-and-swaps wins. A
//! runner in RUNNING looks at the ring after the sender's publication, or leaves and looks again. The same
//! pair covers room in the output ring (the releaser is the "sender") and activation.
//!
//! # Argument: a pause has an end, and after it nothing runs
//! Runner: enter; fence (G5); read the state, run only if ACTIVE, and read it again before each message.
//! Pauser: state := DEACTIVATED; fence (G6); wait while the gate is RUNNING. Either the runner sees the
//! state, or the pauser sees RUNNING and waits until it leaves.
//!
//! `tests/loom` checks both and that each label is needed.

use crate::sync::{Futex, Label, Ordering, fence_after_rmw, full_fence, order};

/// Nobody runs the block and nobody is about to.
const IDLE: u32 = 0;
/// It stands in a scheduler's queue.
const QUEUED: u32 = 1;
/// Somebody runs it.
const RUNNING: u32 = 2;
/// It will never run again.
const DONE: u32 = 3;

/// See the file's head.
#[derive(Debug)]
pub(crate) struct Gate(Futex);

impl Gate {
    #[cfg(not(rk_loom))]
    pub(crate) const fn new() -> Self {
        Self(Futex::new(IDLE))
    }

    #[cfg(rk_loom)]
    pub(crate) fn new() -> Self {
        Self(Futex::new(IDLE))
    }

    /// The fence of somebody who made work, before looking at the gate.
    #[inline]
    pub(crate) fn work_was_made() {
        full_fence(Label::G3);
    }

    /// IDLE → QUEUED; true for exactly one caller, who puts it into the queue.
    pub(crate) fn queue(&self) -> bool {
        self.0.load(Ordering::Relaxed) == IDLE
            && self.0.compare_exchange(IDLE, QUEUED, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }

    /// QUEUED → RUNNING, by who took it from the queue.
    pub(crate) fn enter_queued(&self) -> bool {
        self.enter(QUEUED)
    }

    /// IDLE → RUNNING.
    pub(crate) fn enter_idle(&self) -> bool {
        self.enter(IDLE)
    }

    fn enter(&self, from: u32) -> bool {
        let entered = self.0.load(Ordering::Relaxed) == from
            && self
                .0
                .compare_exchange(from, RUNNING, order(Label::G1, Ordering::SeqCst), Ordering::Relaxed)
                .is_ok();
        if entered {
            fence_after_rmw(Label::G5);
        }
        entered
    }

    /// RUNNING → IDLE. The caller then looks for work again.
    pub(crate) fn leave(&self) {
        self.0.swap(IDLE, order(Label::G2, Ordering::SeqCst));
        fence_after_rmw(Label::G4);
    }

    /// RUNNING → QUEUED; the caller puts it into the queue.
    pub(crate) fn requeue(&self) {
        self.0.store(QUEUED, order(Label::G2, Ordering::Release));
    }

    /// RUNNING → DONE.
    pub(crate) fn finish(&self) {
        self.0.store(DONE, Ordering::Release);
    }

    /// → DONE, for a block with its own thread that never ran: its thread ends.
    pub(crate) fn dismiss(&self) {
        self.0.store(DONE, Ordering::SeqCst);
        self.0.wake(1);
    }

    /// Whether a runner is inside.
    pub(crate) fn is_running(&self) -> bool {
        self.0.load(order(Label::G1, Ordering::SeqCst)) == RUNNING
    }

    /// Whether nobody is inside, about to be, or gone for good.
    pub(crate) fn is_idle(&self) -> bool {
        self.0.load(Ordering::SeqCst) == IDLE
    }

    /// For a block with its own thread: IDLE → RUNNING on its behalf, and wake it.
    pub(crate) fn hand_over(&self) {
        if self.0.load(Ordering::Relaxed) == IDLE
            && self.0.compare_exchange(IDLE, RUNNING, Ordering::SeqCst, Ordering::Relaxed).is_ok()
        {
            self.0.wake(1);
        }
    }

    /// For a block with its own thread: sleeps until handed over; the caller is the runner then. False: done.
    pub(crate) fn await_hand_over(&self) -> bool {
        loop {
            match self.0.load(order(Label::G1, Ordering::SeqCst)) {
                RUNNING => {
                    full_fence(Label::G5);
                    return true;
                }
                DONE => return false,
                _ => self.0.wait(IDLE, u64::MAX),
            };
        }
    }
}
