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
//! # Argument: a stream of messages pays no fence
//! A full fence waits until the message before has reached the other core: a trip between cores for each message. So a gate
//! that is worth it is *light*: its senders pass the light fence of an asymmetric pair, and whoever leaves passes the heavy one
//! (a system call that interrupts the senders), of which there is one for many messages.
//! Sender: publish; light fence (G7); light? else fence (G3); gate IDLE? Runner, inside the gate: `light := true`, and
//! from then on every leave passes the heavy fence; or `light := false`; heavy fence (G8); and from then on every leave
//! passes the full fence. The heavy fence of G8 makes G7 its pair: either the sender sees `false` and passes G3, which
//! is the argument above, or what it published is seen by every look after G8. The word is only written inside the gate. Who
//! makes a kernel run (activation) and finds a gate idle and light passes the heavy fence before it looks for messages. Who finds
//! it light (Acquire) sees the state that its runner had, or a later one.
//!
//! `tests/loom` checks these and that each label is needed, but for two: loom has no asymmetric fences, a light one is full there, and
//! what G8 and the Acquire of `light` are for does not happen.

use crate::sync::{
    AtomicBool, Futex, Label, Ordering, RMW_IS_FENCE, compiler_only_fence, fence_after_rmw, full_fence,
    heavy_fence, light_fence, order,
};

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
pub(crate) struct Gate {
    word: Futex,
    light: AtomicBool,
    #[cfg(rk_loom)]
    is_never_light: bool,
}

impl Gate {
    #[cfg(not(rk_loom))]
    pub(crate) const fn new() -> Self {
        Self { word: Futex::new(IDLE), light: AtomicBool::new(false) }
    }

    #[cfg(rk_loom)]
    pub(crate) fn new() -> Self {
        Self { word: Futex::new(IDLE), light: AtomicBool::new(false), is_never_light: true }
    }

    /// One that a model makes light: then its senders pass G7, which in loom is as good as G3.
    #[cfg(rk_loom)]
    pub(crate) fn new_for_streams() -> Self {
        Self { is_never_light: false, ..Self::new() }
    }

    /// The fence of somebody who made work, before looking at the gate.
    #[inline]
    pub(crate) fn work_was_made(&self) {
        #[cfg(rk_loom)]
        if self.is_never_light {
            return full_fence(Label::G3);
        }
        light_fence(Label::G7);
        if !self.light.load(Ordering::Acquire) {
            full_fence(Label::G3);
        }
    }

    /// The same of somebody whose last step was a SeqCst read-modify-write.
    #[inline]
    pub(crate) fn work_was_made_by_rmw(&self) {
        fence_after_rmw(Label::G3);
    }

    /// Makes messages cheap and leaving dear. Inside the gate, or before anybody knows it.
    pub(crate) fn become_light(&self) {
        if !self.light.load(Ordering::Relaxed) {
            self.light.store(true, Ordering::Release);
        }
    }

    /// The reverse. Inside the gate.
    #[inline]
    pub(crate) fn become_full(&self) {
        if self.light.load(Ordering::Relaxed) {
            self.light.store(false, Ordering::Relaxed);
            heavy_fence(Label::G8);
        }
    }

    /// Whether it is light. Exact inside the gate, and for who has seen it idle.
    #[inline]
    pub(crate) fn is_light(&self) -> bool {
        self.light.load(Ordering::Relaxed)
    }

    /// IDLE → QUEUED; true for exactly one caller, who puts it into the queue.
    pub(crate) fn queue(&self) -> bool {
        self.word.load(Ordering::Relaxed) == IDLE
            && self.word.compare_exchange(IDLE, QUEUED, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }

    /// Whether [`Gate::queue_at_once`] may do something. A hint.
    #[inline]
    pub(crate) fn may_be_queued_at_once(&self) -> bool {
        RMW_IS_FENCE && self.word.load(Ordering::Relaxed) == IDLE
    }

    /// The same for somebody who made work and has passed no fence since: the compare-and-swap is the fence. False: it was not idle
    /// at that time, or looked as if; then pass the fence and look again. Only where a read-modify-write is a fence.
    #[inline]
    pub(crate) fn queue_at_once(&self) -> bool {
        if !RMW_IS_FENCE || self.word.load(Ordering::Relaxed) != IDLE {
            return false;
        }
        compiler_only_fence();
        self.word.compare_exchange(IDLE, QUEUED, Ordering::SeqCst, Ordering::Relaxed).is_ok()
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
        let entered = self.word.load(Ordering::Relaxed) == from
            && self
                .word
                .compare_exchange(from, RUNNING, order(Label::G1, Ordering::SeqCst), Ordering::Relaxed)
                .is_ok();
        if entered {
            fence_after_rmw(Label::G5);
        }
        entered
    }

    /// RUNNING → IDLE. The caller then looks for work again.
    pub(crate) fn leave(&self) {
        // Read first: after the swap it may be the next runner's.
        let light = self.is_light();
        self.word.swap(IDLE, order(Label::G2, Ordering::SeqCst));
        if light {
            heavy_fence(Label::G4);
        } else {
            fence_after_rmw(Label::G4);
        }
    }

    /// RUNNING → QUEUED; the caller puts it into the queue.
    pub(crate) fn requeue(&self) {
        self.word.store(QUEUED, order(Label::G2, Ordering::Release));
    }

    /// RUNNING → DONE.
    pub(crate) fn finish(&self) {
        self.word.store(DONE, Ordering::Release);
    }

    /// → DONE, for a block with its own thread that never ran: its thread ends.
    pub(crate) fn dismiss(&self) {
        self.word.store(DONE, Ordering::SeqCst);
        self.word.wake(1);
    }

    /// Whether a runner is inside.
    pub(crate) fn is_running(&self) -> bool {
        self.word.load(order(Label::G1, Ordering::SeqCst)) == RUNNING
    }

    /// Whether nobody is inside, about to be, or gone for good.
    pub(crate) fn is_idle(&self) -> bool {
        self.word.load(Ordering::SeqCst) == IDLE
    }

    /// For a block with its own thread: IDLE → RUNNING on its behalf, and wake it.
    pub(crate) fn hand_over(&self) {
        if self.word.load(Ordering::Relaxed) == IDLE
            && self.word.compare_exchange(IDLE, RUNNING, Ordering::SeqCst, Ordering::Relaxed).is_ok()
        {
            self.word.wake(1);
        }
    }

    /// For a block with its own thread: sleeps until handed over; the caller is the runner then. False: done.
    pub(crate) fn await_hand_over(&self) -> bool {
        loop {
            match self.word.load(order(Label::G1, Ordering::SeqCst)) {
                RUNNING => {
                    full_fence(Label::G5);
                    return true;
                }
                DONE => return false,
                _ => self.word.wait(IDLE, u64::MAX),
            };
        }
    }
}
