//! The receiving side of a ring: one receiver that works in place, or many that take and release in any order.
#![allow(unsafe_code)]

use super::{Header, Ring};
use crate::layout::SLOT_SKIPPED;
use crate::sync::{Label, Ordering, order, spin_loop};

/// A published message that the caller may read.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Received {
    pub(crate) position: u64,
    pub(crate) header: Header,
    pub(crate) token: u64,
    pub(crate) meta: u64,
    /// 64-byte aligned, `header.payload_size` bytes.
    pub(crate) payload: *mut u8,
}

impl Received {
    /// Whether the slot was claimed and given up.
    pub(crate) fn is_skipped(&self) -> bool {
        self.header.payload_size == SLOT_SKIPPED
    }
}

/// Bytes of a cache line.
#[cfg(not(rk_loom))]
const LINE: usize = 64;
/// Lines of a payload that [`Ring::take_lines`] writes to at most.
#[cfg(not(rk_loom))]
const LINES_TAKEN: usize = 64;

/// Messages between a prefetch and its use.
#[cfg(not(rk_loom))]
const AHEAD: u64 = 8;

#[cfg(not(rk_loom))]
impl Ring {
    /// Fetches a slot that is to be read some messages after this one, if it is before `end`: the sender's core has it.
    #[inline]
    pub(crate) fn fetch_ahead(&self, position: u64, end: u64) {
        let position = position + AHEAD;
        if position < end {
            let payload = self.payload(position);
            crate::sync::prefetch(payload.wrapping_sub(crate::layout::SLOT_HEADER_SIZE));
            crate::sync::prefetch(payload);
        }
    }
}

impl Ring {
    /// The message at head, for the single receiver; it stays there until [`Ring::advance`].
    ///
    /// # Safety
    /// One thread at a time is the receiver, with a happens-before from one to the next (the gate).
    #[inline(always)]
    pub(crate) unsafe fn peek(&self) -> Option<Received> {
        let head = self.head.load(Ordering::Relaxed);
        let turn = self.turn(head).load(order(Label::R1, Ordering::Acquire));
        // SAFETY: published, and only this receiver releases.
        (turn == self.free_turn(head) + 1).then(|| unsafe { self.read(head) })
    }

    /// Releases the message at head. Returns the position after it.
    ///
    /// # Safety
    /// As [`Ring::peek`], which has returned a message since the last call.
    #[inline(always)]
    pub(crate) unsafe fn advance(&self) -> u64 {
        let head = self.head.load(Ordering::Relaxed);
        self.head.store(head + 1, order(Label::R3, Ordering::Release));
        head + 1
    }

    /// Writes to the lines of the message at head what is in them, so that this core has them alone ("Whose lines" in this module's head). Worth
    /// it for a receiver that keeps up, as then the sender is what is waited for.
    ///
    /// # Safety
    /// As [`Ring::advance`]; the message has `payload_size` bytes, and nobody looks at them any more.
    #[cfg(not(rk_loom))]
    #[inline(always)]
    pub(crate) unsafe fn take_lines(&self, payload_size: u32) {
        let slot = self.slot(self.head.load(Ordering::Relaxed));
        slot.meta().store(slot.meta().load(Ordering::Relaxed), Ordering::Relaxed);
        for line in 0..(payload_size as usize).div_ceil(LINE).min(LINES_TAKEN) {
            // SAFETY: in the slot, aligned, and nobody else's until it is released (I3). Volatile, as it changes nothing.
            unsafe {
                let word = slot.payload().add(line * LINE).cast::<u64>();
                word.write_volatile(word.read_volatile());
            }
        }
    }

    /// Steps past the position at head without touching its slot: a loan that was revoked.
    ///
    /// # Safety
    /// As [`Ring::peek`]; the ring is closed, so the slot is not used for another lap.
    pub(crate) unsafe fn step_over(&self) {
        let head = self.head.load(Ordering::Relaxed);
        self.head.store(head + 1, Ordering::Release);
    }

    /// A published message at or after head, for a receiver that works ahead of its releases.
    ///
    /// # Safety
    /// As [`Ring::peek`].
    pub(crate) unsafe fn peek_at(&self, position: u64) -> Option<Received> {
        let turn = self.turn(position).load(Ordering::Acquire);
        // SAFETY: published, and only this receiver releases.
        (position >= self.head() && turn == self.free_turn(position) + 1)
            .then(|| unsafe { self.read(position) })
    }

    /// Takes the next message; one of many receivers. It is the caller's until [`Ring::release`].
    #[cfg(any(test, rk_loom))]
    pub(crate) fn take(&self) -> Option<Received> {
        let (first, end) = self.take_run(1);
        // SAFETY: taken just now.
        (first < end).then(|| unsafe { self.taken(first) })
    }

    /// Takes up to `count` messages that lie one behind the other, by one step of `head`; one of many receivers. The first, and where
    /// they end; each is the caller's until [`Ring::release`], and read by [`Ring::taken`]. None only if none was there.
    #[inline(always)]
    pub(crate) fn take_run(&self, count: u64) -> (u64, u64) {
        let (head, end) = self.try_run(count);
        if end > head { (head, end) } else { self.take_run_again(count) }
    }

    /// One look at what lies there; nothing is taken either if there is nothing or if another receiver came first.
    #[inline(always)]
    fn try_run(&self, count: u64) -> (u64, u64) {
        let head = self.head.load(Ordering::Relaxed);
        let is_there = |position: u64| {
            self.turn(position).load(order(Label::R1, Ordering::Acquire)) == self.free_turn(position) + 1
        };
        let mut end = head;
        while end - head < count && is_there(end) {
            end += 1;
        }
        // For a sender who finds no turn: what is below head was published.
        let release = order(Label::R4, Ordering::Release);
        // If nobody took one of them, the lap has not moved on either: what was seen there holds.
        let taken = end > head && self.head.compare_exchange(head, end, release, Ordering::Relaxed).is_ok();
        if taken { (head, end) } else { (head, head) }
    }

    #[inline(never)]
    fn take_run_again(&self, count: u64) -> (u64, u64) {
        loop {
            let (head, end) = self.try_run(count);
            if end > head {
                return (head, end);
            }
            let turn = self.turn(head).load(order(Label::R1, Ordering::Acquire));
            if turn <= self.free_turn(head) && self.head.load(Ordering::Relaxed) == head {
                // Nobody has taken what was at head, and it is not published.
                return (head, head);
            }
            spin_loop();
        }
    }

    /// A message that was taken.
    ///
    /// # Safety
    /// The caller has taken the position and not released it.
    #[inline(always)]
    pub(crate) unsafe fn taken(&self, position: u64) -> Received {
        // SAFETY: by the caller's word.
        unsafe { self.read(position) }
    }

    /// Gives a taken position back, in any order; false when it is not taken (any more).
    pub(crate) fn release(&self, position: u64) -> bool {
        let published = self.free_turn(position) + 1;
        // The CAS alone cannot tell a message that nobody has taken yet.
        position < self.head()
            && self
                .turn(position)
                .compare_exchange(
                    published,
                    published + 1,
                    order(Label::R2, Ordering::Release),
                    Ordering::Relaxed,
                )
                .is_ok()
    }

    /// # Safety
    /// The position is published and not released (I3).
    #[inline(always)]
    unsafe fn read(&self, position: u64) -> Received {
        let slot = self.memory.at(self.index(position));
        Received {
            position,
            // SAFETY: by the caller's word.
            header: unsafe { slot.read_header() },
            token: slot.token().load(Ordering::Relaxed),
            meta: slot.meta().load(Ordering::Relaxed),
            payload: slot.payload(),
        }
    }
}
