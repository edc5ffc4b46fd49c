//! Supervision: what becomes of a block whose handler failed.
//!
//! # Rule
//! `RK_RESTART_NEVER`: the kernel fails with it. `RK_RESTART_ON_FAILURE`: the block is restarted, alone, unless the kernel has had its
//! restarts for now (`restart_max` in `restart_window_ns`, of all blocks together); then the kernel fails. A failure is an `on_message`
//! that returns `RK_ERR_KERNEL_FAILED` or panics, or an `on_start` that fails.
//!
//! # Steps
//! All inside the gate, so a block has one user at a time and nothing here races with a handler.
//! 1. The handler returns. Its message becomes a dead letter, which ends its call; its place in the ring is given back; the
//!    block is FAILED and poked, which makes the runner look here before it takes the next message.
//! 2. [`Turn::supervise`], before the gate is left: `on_stop`, if the block was started (starts and stops come in pairs); calls that this incarnation
//!    left unanswered end with `RK_ERR_KERNEL_FAILED`; the state is that of the last checkpoint, or zero (`checkpoint::reset_state`). What the handler sent
//!    before it failed is sent, and kept output is still kept.
//! 3. The block is RESTING for `restart_backoff_ns`: it takes no input, so what is queued stays in the ring in its order and what is
//!    sent is accepted; nobody holds its gate and no thread waits. A timer of the control thread pokes it at the end; it is the rest's,
//!    and goes with it: with the end of the rest, or with the kernel.
//! 4. The first runner that finds the time over ends the rest; the restart is counted; `on_start` runs before the next message as it does
//!    before the first.
//!
//! A failure that was seen before the gate was left is dealt with then and there, whatever the control word says by now: who pauses the
//! kernel or copies its states waits for the gate, so `on_stop` never runs after a pause has succeeded. Only what was left for another turn (an
//! `on_start` that failed, the record of a block elsewhere), for which no `on_stop` runs, waits while states are copied.
//!
//! A block elsewhere takes no message after one that failed, until it is told to begin anew: steps 1 and 2 are done when its record of
//! the failure is there, and at the end of the rest it is told, and makes its state that of the last checkpoint, or zero, itself.
//!
//! # What fences the old incarnation
//! A context names one invocation of a handler, so one of before names nothing (`context.rs`). A call is answered by its token,
//! and the tokens of the old incarnation are ended in steps 1 and 2: a later answer finds another generation.
//!
//! # What happens in the meantime
//! * *Deactivate*: the gate is free, so it succeeds at once. The timer goes on; a block whose time is over while the kernel is paused
//!   starts when the kernel is activated.
//! * *Terminate* (and shutdown and destroy) of an active kernel finishes what is queued, so it does not wait for the rest of a backoff: the
//!   drain is work (`has_work`), and its runner ends the rest. So does a failure during the drain, without a
//!   backoff; an `on_start` that fails then is not tried again, for a drain would never end. Of a paused kernel, and past the time of
//!   the drain, what is queued becomes dead letters without another start.
//! * *Another block fails the kernel*: discards, as any block of a failed kernel.
//!
//! # Argument: the rest ends
//! The timer is started before the gate is left, and its poke makes a turn whatever the gate was then: work was made (`poked`), so the
//! argument of `gate.rs` holds. The runner of that turn reads the clock after the timer did, which read a time that is over. An end
//! sets the control word and schedules: whoever is inside looks at the word again when it leaves. A timer that comes after that finds
//! no rest, or no kernel: it has its handle. For a backoff that has no end there is no timer.
//!
//! A turn that finds HELD has used its poke up, and leaves it to who copies states to poke again. Runner: `held`, take the poke; full fence;
//! read the word. Copier: the word without HELD; fence (G6); read `held`; poke. So a runner that still sees HELD has taken its
//! poke before the copier's, which is one more, and the copier sees what the block is held for. The same holds of a block elsewhere that cannot
//! begin anew because its state is being copied (`stage_state`): it still rests, and the copier pokes it after the copy.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;

use super::block::{Block, Turn};
use super::control::Timer;
use super::kernel::{HELD, Kernel, Phase};
use super::options::Restart;
use super::{calls, checkpoint, log};
use crate::layout::{RK_DEAD_HANDLER, RK_ERR_KERNEL_FAILED, RkStatus};
use crate::limits::RESTART_TIMES_MAX;
use crate::sync::{AtomicU64, Mutex, Ordering, fence, lock, monotonic_ns};

/// A block is held: it keeps output that finds no room.
pub(super) const KEEPS: u8 = 1;
/// A block is held: it failed a moment ago, and nobody has looked at that.
pub(super) const FAILED: u8 = 2;
/// A block is held: it waits for its restart.
pub(super) const RESTING: u8 = 4;
/// With KEEPS: to wait would close a circle (`kept.rs`), so input is work for it all the same.
pub(super) const CIRCLE: u8 = 8;

/// What a block that failed remembers; the runner's.
#[derive(Debug, Default)]
pub(super) struct Rest {
    status: Cell<RkStatus>,
    until_ns: Cell<u64>,
    timer: RefCell<Option<Timer>>,
}

impl Block {
    /// Whether it waits for its restart. A hint for who sends.
    pub(super) fn rests(&self) -> bool {
        self.holds(RESTING)
    }
}

/// The restarts of a kernel.
#[derive(Debug, Default)]
pub(crate) struct Restarts {
    granted: Mutex<Granted>,
    count: AtomicU64,
}

impl Restarts {
    /// Restarts that have happened.
    pub(crate) fn count(&self) -> u64 {
        self.count.load(Ordering::Relaxed)
    }
}

impl Kernel {
    /// Times that a block of it was restarted.
    pub(crate) fn restarts(&self) -> u64 {
        self.extra.get().map_or(0, |extra| extra.restarts.count())
    }
}

/// Restarts that were granted and still count.
#[derive(Debug, Default)]
struct Granted {
    count: u64,
    /// When, and how many; nothing when all the kernel's life is the window.
    times: VecDeque<(u64, u64)>,
}

impl Granted {
    /// Grants one more, unless there were as many as may be.
    fn grant(&mut self, rule: &Restart, now_ns: u64) -> bool {
        while let Some((time, count)) = self.times.front()
            && now_ns.saturating_sub(*time) >= rule.window_ns
        {
            self.count -= count;
            self.times.pop_front();
        }
        if self.count >= u64::from(rule.max) {
            return false;
        }
        self.count += 1;
        if rule.window_ns == 0 {
            return true;
        }
        // So many at once that not each can be remembered: they are forgotten together, a thousandth of the window early at most.
        let is_many = rule.max as usize > RESTART_TIMES_MAX;
        let grain_ns = if is_many { rule.window_ns / RESTART_TIMES_MAX as u64 } else { 0 };
        match self.times.back_mut().filter(|(time, _)| now_ns.saturating_sub(*time) < grain_ns) {
            Some((_, count)) => *count += 1,
            None => self.times.push_back((now_ns, 1)),
        }
        true
    }
}

impl Turn<'_> {
    /// The block has failed: the kernel with it, or the block is to be restarted before it does anything else.
    #[cold]
    pub(super) fn has_failed(&self, status: RkStatus) {
        if self.kernel.options.restart.is_none() {
            return self.kernel.fail(status);
        }
        self.body.extra().rest.status.set(status);
        self.has_failed_now.set(true);
        self.block.hold(FAILED, true);
        self.block.poked.store(true, Ordering::SeqCst);
    }

    /// Does what is to be done about a failure; false: the block takes no input now.
    pub(super) fn supervise(&self, control: u32) -> bool {
        if !self.block.holds(FAILED | RESTING) {
            return true;
        }
        // Of a block elsewhere it is not the gate that a copy waits for.
        let is_first = self.has_failed_now.replace(false) && self.block.remote.is_none();
        fence(Ordering::SeqCst);
        let is_held = self.kernel.control() & HELD != 0;
        if is_held && !is_first {
            // States are being copied; who does that pokes afterwards.
            return false;
        }
        let phase = Kernel::phase(control);
        if self.block.holds(FAILED) {
            self.block.hold(FAILED, false);
            // A block that only discards ends as it is.
            if phase != Phase::Discard && !self.begin_rest(phase) {
                return false;
            }
        }
        let rest = &self.body.extra().rest;
        let is_over = || monotonic_ns() >= rest.until_ns.get();
        let is_over = self.block.holds(RESTING) && (Kernel::ends(phase) || is_over());
        if is_over && (phase == Phase::Discard || self.restart()) {
            self.block.hold(RESTING, false);
            drop(rest.timer.take());
        }
        !self.block.holds(RESTING)
    }

    /// The next incarnation may begin; false: not now.
    fn restart(&self) -> bool {
        let Some(remote) = &self.block.remote else {
            self.kernel.extra().restarts.count.fetch_add(1, Ordering::Relaxed);
            return true;
        };
        fence(Ordering::SeqCst);
        let is_ready = self.kernel.driver.stage_state(self.kernel, self.index);
        if is_ready {
            self.kernel.extra().restarts.count.fetch_add(1, Ordering::Relaxed);
            remote.restart();
            self.kernel.driver.schedule(self.kernel, self.index);
        }
        is_ready
    }

    /// Ends the incarnation that failed; false: there is no restart, the kernel has failed.
    fn begin_rest(&self, phase: Phase) -> bool {
        let (kernel, rest) = (self.kernel, &self.body.extra().rest);
        let (status, now_ns) = (rest.status.get(), monotonic_ns());
        let restarts = &kernel.extra().restarts;
        let Some(rule) =
            kernel.options.restart.as_deref().filter(|rule| lock(&restarts.granted).grant(rule, now_ns))
        else {
            kernel.fail(status);
            return false;
        };
        kernel.last_error.store(status, Ordering::Relaxed);
        if self.block.started.load(Ordering::Relaxed) {
            self.block.started.store(false, Ordering::Relaxed);
            if !self.stop() {
                log::write(log::Level::Warn, || format!("the on_stop of kernel {:?} panicked", &*kernel.id));
            }
        }
        for token in self.body.extra().unanswered.take() {
            calls::fail(token, RK_ERR_KERNEL_FAILED, RK_DEAD_HANDLER);
        }
        if self.block.remote.is_none() {
            checkpoint::reset_state(kernel, self.index);
        }
        log::write(log::Level::Warn, || {
            format!("block {} of kernel {:?} failed with {status} and is restarted", self.index, &*kernel.id)
        });
        let backoff_ns = if Kernel::ends(phase) { 0 } else { rule.backoff_ns };
        let until_ns = now_ns.saturating_add(backoff_ns);
        rest.until_ns.set(until_ns);
        self.block.hold(RESTING, true);
        if backoff_ns != 0 && until_ns != u64::MAX {
            rest.timer.replace(kernel.driver.poke_at(kernel, self.index, until_ns));
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_forgets_what_is_older_and_no_window_forgets_nothing() {
        let rule = Restart { max: 2, window_ns: 100, backoff_ns: 0 };
        let mut granted = Granted::default();
        assert!(granted.grant(&rule, 1000) && granted.grant(&rule, 1050) && !granted.grant(&rule, 1099));
        assert!(granted.grant(&rule, 1100) && !granted.grant(&rule, 1149) && granted.grant(&rule, 1150));
        let rule = Restart { window_ns: 0, ..rule };
        let mut granted = Granted::default();
        assert!(granted.grant(&rule, 1) && granted.grant(&rule, 2) && !granted.grant(&rule, u64::MAX));
        assert!(granted.times.is_empty());
    }

    #[test]
    fn lesson_9_what_is_remembered_of_restarts_is_bounded() {
        let rule = Restart { max: 1_000_000, window_ns: 1 << 40, backoff_ns: 0 };
        let mut granted = Granted::default();
        for at in 0..1_000_000u64 {
            assert!(granted.grant(&rule, at << 20));
        }
        assert!(!granted.grant(&rule, 1_000_000 << 20) && granted.times.len() <= RESTART_TIMES_MAX + 1);
        // A window later all are forgotten.
        assert!(granted.grant(&rule, (1 << 41) + (1_000_000 << 20)) && granted.count == 1);
    }
}
