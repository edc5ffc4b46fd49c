//! An event count: how a thread sleeps until something that other threads change is as it wants it.
//!
//! # Source
//! The "eventcount" of Reed and Kanodia (1979) in the two-phase form of Vyukov: become a waiter, look again,
//! sleep; the other side changes, looks for waiters, wakes.
//!
//! # Argument: no wake-up is lost
//! Waiter: `waiters += 1`; heavy fence (E2); `e = epoch`; look; sleep while `epoch == e`.
//! Notifier: change; light fence (E1); `waiters == 0?` else `epoch += 1`; wake.
//! The fences are a Dekker pair: either the waiter's look sees the change, or the notifier sees the waiter. In
//! the second case it moves the epoch after the waiter became one: before the waiter read `e`, and then the
//! change is visible to the look that follows (the epoch is read and written SeqCst, the change precedes it);
//! or after, and then the sleep ends at once or is woken. `tests/loom` shows that each fence is needed.

use crate::limits::{SPIN_ROUNDS, YIELD_ROUNDS};
use crate::sync::{AtomicU32, Futex, Label, Ordering, heavy_fence, light_fence, spin_loop, yield_now};

/// See the file's head.
#[derive(Debug)]
pub(crate) struct EventCount {
    epoch: Futex,
    waiters: AtomicU32,
}

impl EventCount {
    #[cfg(not(rk_loom))]
    pub(crate) const fn new() -> Self {
        Self { epoch: Futex::new(0), waiters: AtomicU32::new(0) }
    }

    #[cfg(rk_loom)]
    pub(crate) fn new() -> Self {
        Self { epoch: Futex::new(0), waiters: AtomicU32::new(0) }
    }

    /// Wakes everybody who waits; call it after the change. Costs a load when nobody does. Whether somebody did.
    #[inline]
    pub(crate) fn notify_all(&self) -> bool {
        light_fence(Label::E1);
        let is_awaited = self.waiters.load(Ordering::Relaxed) != 0;
        if is_awaited {
            self.wake(i32::MAX);
        }
        is_awaited
    }

    /// Becomes a waiter that does not sleep: it looks after this, and every notifier whose change it may have missed learns of it.
    pub(crate) fn enter(&self) {
        self.waiters.fetch_add(1, Ordering::Relaxed);
        heavy_fence(Label::E2);
    }

    /// Is none any more.
    pub(crate) fn leave(&self) {
        self.waiters.fetch_sub(1, Ordering::Relaxed);
    }

    /// Wakes one waiter: for changes that one of them can use up.
    #[inline]
    pub(crate) fn notify_one(&self) {
        light_fence(Label::E1);
        if self.waiters.load(Ordering::Relaxed) != 0 {
            self.wake(1);
        }
    }

    #[cold]
    fn wake(&self, count: i32) {
        self.epoch.fetch_add(1, Ordering::SeqCst);
        self.epoch.wake(count);
    }

    /// How many wait at the moment; a hint.
    pub(crate) fn waiters(&self) -> u32 {
        self.waiters.load(Ordering::Relaxed)
    }

    /// Looks without sleeping: a short spin and a few yields.
    pub(crate) fn poll<T>(look: &mut impl FnMut() -> Option<T>) -> Option<T> {
        Self::poll_from(0, look)
    }

    /// The same for something that a thread does which has just been woken: it takes longer than a spin, and perhaps needs this CPU.
    pub(crate) fn poll_woken<T>(look: &mut impl FnMut() -> Option<T>) -> Option<T> {
        Self::poll_from(SPIN_ROUNDS, look)
    }

    fn poll_from<T>(first: u32, look: &mut impl FnMut() -> Option<T>) -> Option<T> {
        for round in first..SPIN_ROUNDS + YIELD_ROUNDS {
            if let Some(found) = look() {
                return Some(found);
            }
            if round < SPIN_ROUNDS {
                spin_loop();
            } else {
                yield_now();
            }
        }
        None
    }

    /// Sleeps until `look` finds something; `None` once `deadline_ns` (monotonic, u64::MAX = never) has
    /// passed and a last look found nothing.
    pub(crate) fn sleep_until<T>(&self, deadline_ns: u64, look: &mut impl FnMut() -> Option<T>) -> Option<T> {
        self.enter();
        let found = loop {
            let epoch = self.epoch.load(Ordering::SeqCst);
            if let Some(found) = look() {
                break Some(found);
            }
            if !self.epoch.wait(epoch, deadline_ns) {
                break look();
            }
        };
        self.leave();
        found
    }
}
