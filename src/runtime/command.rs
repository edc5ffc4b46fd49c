//! What commands a kernel: activate, deactivate, terminate, fail, end.
//!
//! # The order of an end
//! 1. `verbs` is taken, the control word says TERMINATING (or FAILED), `closed` is set and every ring is
//!    closed: from here on no message gets in.
//! 2. Every block is scheduled; each drains or discards, stops, and its gate is DONE.
//! 3. The last block ends the kernel: the program is let go (its user data may be given back here), the id is
//!    freed, the state says TERMINATED, and then everybody who waits is told. Who sees `ended` sees all of it.
//!
//! Between 1 and 3 a terminate may run out of time: it sets DISCARD, HARD, OVERDUE and, unless the kernel discarded
//! before, LATE, and schedules again. What is dropped after that makes the answer a timeout, and so does a handler that
//! goes on for more than a moment. Blocks of handlers that do not return stay RUNNING; the kernel stays TERMINATING until they do.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use super::kernel::{ACTIVATION, DISCARD, HARD, HELD, Kernel, LATE, OVERDUE, Phase, SHUTDOWN, STATE};
use super::lifecycle::{KernelState, Step, Verb, step};
use super::{blocking, log, waits};
use crate::error::{Error, Result};
use crate::layout::{RK_OK, RkStatus};
use crate::sync::{
    Arc, AtomicU64, Label, LockGuard, Ordering, fence_after_rmw, heavy_fence, lock, monotonic_ns,
};

/// What a terminate has begun.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Begun {
    /// It had ended before.
    Ended,
    /// It is ending, by this call.
    Ending,
    /// It is ending, by an earlier one.
    Joined,
}

impl Kernel {
    /// Writes the control word; under the verbs lock.
    fn set_control(&self, _verbs: &LockGuard<'_, super::kernel::Verbs>, word: u32) {
        let before = self.control.swap(word, Ordering::SeqCst);
        fence_after_rmw(Label::G6);
        // To be held for a checkpoint is no state that anybody is told of.
        let states = STATE & !HELD;
        if (before ^ word) & states != 0 {
            self.state_has_changed(word & states);
        }
    }

    /// As `set_control`, for a word that blocks elsewhere have to know of.
    pub(super) fn command(&self, verbs: &LockGuard<'_, super::kernel::Verbs>, word: u32) {
        self.set_control(verbs, word);
        self.driver.commanded(self);
    }

    fn refuse(&self, verb: &'static str, step: Step) -> Error {
        match step {
            Step::Invalid => {
                Error::InvalidState { verb, kernel: Arc::clone(&self.id), state: self.state().name() }
            }
            _ => self.ended_error(),
        }
    }

    /// It is complete: from CREATED to LAUNCHED.
    pub(crate) fn be_launched(&self) {
        let verbs = lock(&self.verbs);
        self.command(&verbs, KernelState::Launched.code());
    }

    /// Lets it run.
    pub(crate) fn activate(&self) -> Result<()> {
        {
            let verbs = lock(&self.verbs);
            match step(self.state(), Verb::Activate) {
                Step::Go(next) => {
                    let activations = (self.control() & !(ACTIVATION - 1)).wrapping_add(ACTIVATION);
                    self.command(&verbs, next.code() | activations | self.control() & HELD);
                }
                Step::Stay => return Ok(()),
                refused => return Err(self.refuse("activate", refused)),
            }
        }
        self.lifecycle.notify_all();
        self.schedule_all();
        Ok(())
    }

    /// Pauses it; when this has succeeded no handler of it runs. An error by state if somebody activated or ended it before that.
    pub(crate) fn deactivate(&self) -> Result<()> {
        let _waiting = waits::wait_for_handlers(self, "deactivate")?;
        {
            let verbs = lock(&self.verbs);
            match step(self.state(), Verb::Deactivate) {
                Step::Go(next) => {
                    let kept = !(ACTIVATION - 1) | HELD;
                    self.command(&verbs, next.code() | self.control() & kept);
                }
                Step::Stay => {}
                refused => return Err(self.refuse("deactivate", refused)),
            }
        }
        self.lifecycle.notify_all();
        let outcome = blocking::wait(&self.lifecycle, u64::MAX, || {
            let before = self.control();
            let is_quiet = self.is_quiet();
            match step(self.state(), Verb::Deactivate) {
                // The same word before and after: it was paused all that time.
                Step::Stay => (is_quiet && self.control() == before).then_some(Ok(())),
                Step::Go(_) => Some(Err(self.refuse("deactivate", Step::Invalid))),
                refused => Some(Err(self.refuse("deactivate", refused))),
            }
        });
        outcome.unwrap_or(Ok(()))
    }

    /// Whether there was a time during this look at which no handler ran.
    pub(super) fn is_quiet(&self) -> bool {
        let before = self.answers();
        !self.blocks.iter().any(super::block::Block::runs_a_handler) && self.answers() == before
    }

    /// The answers of blocks elsewhere as one number (the hash of Fowler, Noll and Vo over words).
    fn answers(&self) -> u64 {
        let mix = |hash: u64, answer: u64| (hash ^ answer).wrapping_mul(0x0100_0000_01b3);
        self.blocks.iter().map(super::block::Block::answer).fold(0xcbf2_9ce4_8422_2325, mix)
    }

    /// Makes every block that rests look at the control word.
    pub(super) fn schedule_all(&self) {
        let mut passed = false;
        for block in 0..self.options.grid_size {
            // IDLE first: it acquires what the last runner left. Who is inside looks again when it leaves.
            let is_idle = self.block(block).gate.is_idle();
            if is_idle && !passed && self.block(block).gate.is_light() {
                // A sender that saw the state before has published by now, or sees the state.
                heavy_fence(Label::G8);
                passed = true;
            }
            let wants = super::block::has_work(self, block) || self.options.mode == super::Mode::Persistent;
            if is_idle && wants {
                self.driver.schedule(self, block);
            }
        }
    }

    /// Closes every ring; none is made any more.
    fn close(&self, verbs: &mut LockGuard<'_, super::kernel::Verbs>) {
        verbs.closed = true;
        for ring in self.blocks.iter().filter_map(|block| block.input.get()) {
            ring.close();
        }
    }

    /// The first step of an end.
    pub(crate) fn begin_terminate(&self, because_of_shutdown: bool) -> Begun {
        {
            let mut verbs = lock(&self.verbs);
            let state = self.state();
            match step(state, Verb::Terminate) {
                Step::Go(_) if self.ended.load(Ordering::SeqCst) => {
                    // A failed kernel whose blocks have all ended: nothing is left to do but the last step.
                    drop(verbs);
                    self.finish_end();
                    return Begun::Ended;
                }
                Step::Go(next) => {
                    let flags = match state {
                        KernelState::Active => 0,
                        KernelState::Failed => DISCARD | HARD,
                        _ => DISCARD,
                    };
                    let why = if because_of_shutdown { SHUTDOWN } else { 0 };
                    self.set_control(&verbs, next.code() | flags | why);
                    self.close(&mut verbs);
                    self.driver.commanded(self);
                }
                Step::Join => return Begun::Joined,
                _ => return Begun::Ended,
            }
        }
        self.tell_everybody();
        self.schedule_all();
        Begun::Ending
    }

    /// A terminate has run out of time: what is left becomes dead letters after the current messages.
    pub(crate) fn escalate(&self) {
        {
            let verbs = lock(&self.verbs);
            if self.state() != KernelState::Terminating {
                return;
            }
            // A kernel that discarded from the start has not run out of time by discarding.
            let late = if self.control() & DISCARD == 0 { LATE } else { 0 };
            self.command(&verbs, self.control() | DISCARD | HARD | OVERDUE | late);
        }
        self.schedule_all();
    }

    /// It was escalated a moment ago: if a block still has input, a handler is at a message, which takes clearly longer than the
    /// terminate was to take.
    pub(crate) fn note_overrun(&self) {
        // What a block elsewhere is done with is known here some time later.
        let is_at_one = |block: &super::block::Block| {
            block.remote.is_none() && block.input.get().is_some_and(|ring| !ring.is_drained())
        };
        let running = self.blocks.iter().filter(|block| is_at_one(block)).count();
        self.discarded_late.fetch_add(running as u64, Ordering::Relaxed);
    }

    /// A block has failed for good, and with it the kernel.
    pub(crate) fn fail(&self, status: RkStatus) {
        self.last_error.store(status, Ordering::Relaxed);
        {
            let mut verbs = lock(&self.verbs);
            match step(self.state(), Verb::Fail) {
                Step::Go(next) => self.set_control(&verbs, next.code() | DISCARD | HARD),
                _ => self.set_control(&verbs, self.control() | DISCARD | HARD),
            }
            self.close(&mut verbs);
            self.driver.commanded(self);
        }
        self.tell_everybody();
        self.schedule_all();
    }

    /// Wakes all who wait for anything of this kernel.
    fn tell_everybody(&self) {
        self.lifecycle.notify_all();
        self.readable.notify_all();
        self.space.notify_all();
        self.poke_waiting();
    }

    /// A block has ended; the last one ends the kernel.
    pub(crate) fn block_ended(&self) {
        if self.live_blocks.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.driver.ended(self);
            if !self.driver.finish_elsewhere(self) {
                self.finish_end();
            }
        }
    }

    /// The last step of an end. For a failed kernel it happens twice: when its blocks have ended, and when it
    /// is terminated.
    pub(crate) fn finish_end(&self) {
        let program = lock(&self.program).take();
        drop(program);
        let failed = {
            let verbs = lock(&self.verbs);
            let before = self.control();
            let failed = match step(self.state(), Verb::End) {
                Step::Go(next) => {
                    self.core.free_id(self);
                    self.set_control(&verbs, next.code());
                    false
                }
                _ if self.ended.load(Ordering::SeqCst) => {
                    // Failed before, terminated now.
                    self.core.free_id(self);
                    self.set_control(&verbs, KernelState::Terminated.code());
                    false
                }
                _ => before & 0xff == KernelState::Failed.code(),
            };
            if self.ended_ns.load(Ordering::Relaxed) == 0 {
                self.ended_ns.store(monotonic_ns().max(1), Ordering::Relaxed);
            }
            self.ended.store(true, Ordering::SeqCst);
            failed
        };
        let level = if failed { log::Level::Error } else { log::Level::Debug };
        log::write(level, || {
            let status = self.last_error.load(Ordering::Relaxed);
            let what = if failed { "has failed" } else { "has ended" };
            let last = if status == RK_OK { String::new() } else { format!(", last status {status}") };
            format!("kernel {:?} {what}{last}", &*self.id)
        });
        self.tell_everybody();
        let wakers = std::mem::take(&mut *lock(&self.extra().enders));
        wakers.into_values().for_each(std::task::Waker::wake);
    }

    /// Whether all its blocks have ended and everybody may know.
    pub(crate) fn has_ended(&self) -> bool {
        self.ended.load(Ordering::SeqCst)
    }

    /// What a terminate answers once the kernel has ended.
    pub(crate) fn end_result(&self, timeout_ns: u64) -> Result<()> {
        if self.discarded_late.load(Ordering::Relaxed) == 0 {
            return Ok(());
        }
        Err(Error::Timeout { what: "the drain", name: Arc::clone(&self.id), timeout_ns })
    }

    /// Ready once the kernel has ended.
    pub(crate) fn when_ended(self: &Arc<Self>) -> WhenEnded {
        WhenEnded { kernel: Arc::clone(self), number: 0 }
    }

    /// For `rk_wait`: `None` while it lives.
    pub(crate) fn outcome(&self) -> Option<Result<()>> {
        match self.state() {
            KernelState::Terminated if self.has_ended() => Some(Ok(())),
            KernelState::Failed => Some(Err(self.ended_error())),
            _ => None,
        }
    }

    /// Ends idle blocks of an ending kernel on the calling thread, as far as none of the application's code has
    /// to run for it: such a kernel ends even while every worker is stuck in some handler.
    pub(crate) fn end_inline(self: &Arc<Self>) {
        let runs_elsewhere = self.options.mode != super::Mode::EventDriven || self.is_remote();
        if runs_elsewhere || self.code.on_stop.is_some() {
            return;
        }
        for index in 0..self.options.grid_size {
            let block = self.block(index);
            // As often as it takes: a run ends after a batch. A queued block has been handed to a worker
            // already, which will find the gate changed.
            while !self.runs_code(index)
                && super::block::has_work(self, index)
                && (block.gate.enter_queued() || block.gate.enter_idle())
            {
                super::block::run(self, index, None);
            }
        }
    }

    /// Whether the next turn of a block may call the application's code.
    fn runs_code(&self, index: u32) -> bool {
        let is_empty = || self.block(index).input.get().is_none_or(crate::ring::Ring::is_drained);
        match Self::phase(self.control()) {
            Phase::Discard => false,
            Phase::Drain => !is_empty() || self.code.has_start_or_stop(),
            Phase::Run | Phase::Rest => true,
        }
    }
}

/// See [`Kernel::when_ended`].
pub(crate) struct WhenEnded {
    kernel: Arc<Kernel>,
    /// Its own among those who wait; 0: it does not yet.
    number: u64,
}

static NEXT_ENDER: AtomicU64 = AtomicU64::new(1);

impl Future for WhenEnded {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        if self.kernel.has_ended() {
            return Poll::Ready(());
        }
        if self.number == 0 {
            self.number = NEXT_ENDER.fetch_add(1, Ordering::Relaxed);
        }
        lock(&self.kernel.extra().enders).insert(self.number, context.waker().clone());
        // The kernel may have ended before the waker was there to be found.
        if self.kernel.has_ended() { Poll::Ready(()) } else { Poll::Pending }
    }
}

impl Drop for WhenEnded {
    fn drop(&mut self) {
        // Who no longer waits leaves nothing behind.
        if self.number != 0 {
            let waker = lock(&self.kernel.extra().enders).remove(&self.number);
            drop(waker);
        }
    }
}
