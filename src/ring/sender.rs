//! The sending side of a ring: claim, write, publish.
#![allow(unsafe_code)]

use super::{CLOSED, FLAGS, Header, Ring};
use crate::layout::SLOT_SKIPPED;
use crate::sync::{Label, Ordering, light_fence, order};

/// Messages between a prefetch and its use.
#[cfg(not(rk_loom))]
const AHEAD: u64 = 8;

/// Why nothing could be claimed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum ClaimError {
    /// No slot is free now.
    Full,
    /// The ring was closed.
    Closed,
    /// It is without its slots ([`Ring::unpark`]).
    Parked,
}

/// Positions `first .. first + count` that one sender owns and has to publish. What is dropped unpublished is
/// published as skipped, so that a panic in between cannot wedge the ring.
#[derive(Debug)]
pub(crate) struct Claim<'a> {
    ring: &'a Ring,
    next: u64,
    end: u64,
}

impl Ring {
    /// Claims one slot of a ring with many receivers, who release in any order.
    pub(crate) fn claim(&self) -> Result<Claim<'_>, ClaimError> {
        let mut tail = self.tail.position.load(Ordering::Relaxed);
        loop {
            if tail & FLAGS != 0 {
                return Err(Self::why_refused(tail));
            }
            let free = self.free_turn(tail);
            let turn = self.turn(tail).load(order(Label::W1, Ordering::Acquire));
            if turn == free || turn == 0 && self.has_no_turn(tail) {
                // W2
                match self.tail.position.compare_exchange_weak(
                    tail,
                    tail + 1,
                    order(Label::P4, Ordering::Acquire),
                    Ordering::Relaxed,
                ) {
                    Ok(_) => return Ok(Claim { ring: self, next: tail, end: tail + 1 }),
                    Err(seen) => tail = seen,
                }
            } else {
                // Below free: the message of the lap before is still there. Above: `tail` is old.
                let seen = self.tail.position.load(Ordering::Relaxed);
                if turn < free && seen == tail {
                    return Err(ClaimError::Full);
                }
                tail = seen;
            }
        }
    }

    /// Whether a slot is free for a position after the first lap though its turn does not say so: it went with the pages of a
    /// parked ring, and nobody has used the slot since.
    #[cold]
    fn has_no_turn(&self, position: u64) -> bool {
        // In this order: what is below head was published, so then its turn is not 0.
        let head = self.head.load(order(Label::W9, Ordering::Acquire));
        position < head + self.capacity()
            && self.turn(position).load(order(Label::W1, Ordering::Acquire)) == 0
    }

    /// Claims up to `count` slots (at least 1) of a ring with a single receiver. Who is told that the ring is closed wakes the
    /// receiver.
    ///
    /// Inlined, as a result that goes through memory is read back only after all stores before it.
    #[inline(always)]
    pub(crate) fn claim_batch(&self, count: u64) -> Result<Claim<'_>, ClaimError> {
        let (next, end) = self.claim_positions(count)?;
        Ok(Claim { ring: self, next, end })
    }

    /// Claims a slot of a ring with a single receiver, writes it and publishes it: nothing in between can fail. The payload must fit.
    #[inline(always)]
    pub(crate) fn put(
        &self,
        header: &Header,
        payload: &[u8],
        token: u64,
        meta: u64,
    ) -> Result<(), ClaimError> {
        let (position, _) = self.claim_positions(1)?;
        // SAFETY: claimed just now, by this thread alone.
        unsafe { self.fill(position, header, payload, token, meta) };
        Ok(())
    }

    /// The positions from the first on, and where they end.
    #[inline(always)]
    fn claim_positions(&self, count: u64) -> Result<(u64, u64), ClaimError> {
        let mut tail = self.tail.position.load(Ordering::Relaxed);
        loop {
            if tail & FLAGS != 0 {
                return Err(Self::why_refused(tail));
            }
            // `tail` may be old, and then `head` be past it: the CAS will say so.
            let room = |head: u64| (head + self.capacity()).saturating_sub(tail).min(self.capacity());
            let mut take = room(self.tail.seen_head.load(order(Label::W5, Ordering::Acquire)));
            if take < count {
                let head = self.head.load(order(Label::W4, Ordering::Acquire));
                self.tail.seen_head.store(head, order(Label::W6, Ordering::Release));
                take = room(head).min(count);
            }
            let take = take.min(count);
            if take == 0 {
                let seen = self.tail.position.load(Ordering::Relaxed);
                if seen == tail {
                    return Err(ClaimError::Full);
                }
                tail = seen;
                continue;
            }
            if self.has_one_sender {
                self.move_tail(tail + take);
                light_fence(Label::W7);
                if self.tail.closing.load(Ordering::Relaxed) {
                    self.move_tail(tail | CLOSED);
                    return Err(ClaimError::Closed);
                }
                return Ok((tail, tail + take));
            }
            // W2
            match self.tail.position.compare_exchange_weak(
                tail,
                tail + take,
                order(Label::P4, Ordering::Acquire),
                Ordering::Relaxed,
            ) {
                Ok(_) => return Ok((tail, tail + take)),
                Err(seen) => tail = seen,
            }
        }
    }

    /// Writes and publishes a position. The payload must fit.
    ///
    /// # Safety
    /// The caller owns the position, and it is not published.
    #[inline(always)]
    unsafe fn fill(&self, position: u64, header: &Header, payload: &[u8], token: u64, meta: u64) {
        #[cfg(not(rk_loom))]
        debug_assert!(payload.len() <= self.memory.room());
        self.prepare(position);
        // First, because it is what is waited for.
        self.hasten(position, header, payload, token, meta);
        // SAFETY: claimed and unpublished, by the caller's word.
        unsafe {
            let slot = self.memory.at(self.index(position));
            slot.write_payload(payload);
            slot.write_header(header, token, meta);
            slot.turn().store(self.free_turn(position) + 1, order(Label::W3, Ordering::Release));
        }
    }

    /// Moves `tail`, by the only sender.
    #[inline(always)]
    fn move_tail(&self, tail: u64) {
        #[cfg(not(rk_loom))]
        self.tail.position.store(tail, Ordering::Relaxed);
        // Loom orders the modifications of a word only if they read it; but what is read there orders what came before a
        // close, so the model finds the fence of the close needed only together with the order of the close itself.
        #[cfg(rk_loom)]
        self.tail.position.swap(tail, Ordering::Relaxed);
    }

    /// Publishes a position whose claim was kept open ([`Claim::keep`]).
    ///
    /// # Safety
    /// The caller owns the position: it was kept and nobody has published it since.
    #[inline(always)]
    pub(crate) unsafe fn publish_kept(&self, position: u64, header: &Header, token: u64, meta: u64) {
        // SAFETY: by the caller's word.
        unsafe { self.write_and_publish(position, header, token, meta) };
        self.hasten(position, header, &[], token, meta);
    }

    /// # Safety
    /// As [`Ring::publish_kept`].
    #[inline(always)]
    unsafe fn write_and_publish(&self, position: u64, header: &Header, token: u64, meta: u64) {
        let (slot, published) = (self.memory.at(self.index(position)), self.free_turn(position) + 1);
        // SAFETY: claimed and unpublished, by the caller's word.
        unsafe { slot.write_header(header, token, meta) };
        slot.turn().store(published, order(Label::W3, Ordering::Release));
    }

    /// Fetches the slot that will be written some messages later: the receiver's core has it still. Not where the receiver is
    /// on the other side of a bus, which reads memory through this side's caches.
    #[inline(always)]
    fn prepare(&self, position: u64) {
        #[cfg(not(rk_loom))]
        if self.mask >= 4 * AHEAD && !self.memory.has_express() {
            let payload = self.payload(position + AHEAD);
            crate::sync::prefetch_for_write(payload.wrapping_sub(crate::layout::SLOT_HEADER_SIZE));
            crate::sync::prefetch_for_write(payload);
        }
        #[cfg(rk_loom)]
        let _ = position;
    }

    /// A small message takes the express, too. What has no payload here goes without: that is for who reads the slot.
    #[inline(always)]
    fn hasten(&self, position: u64, header: &Header, payload: &[u8], token: u64, meta: u64) {
        #[cfg(not(rk_loom))]
        if self.memory.has_express() {
            // Not by reference: it is to stay in registers for everybody else.
            let size =
                if payload.len() == header.payload_size as usize { header.payload_size } else { u32::MAX };
            let stamp = header.timestamp;
            self.hasten_now(
                position,
                [
                    header.correlation,
                    header.source,
                    token,
                    meta,
                    u64::from(size) | u64::from(header.tag) << 32,
                    stamp.physical_ns,
                    u64::from(stamp.logical) | u64::from(stamp.node) << 32,
                ],
                payload,
            );
        }
        #[cfg(rk_loom)]
        let _ = (position, header, payload, token, meta);
    }

    #[cfg(not(rk_loom))]
    #[inline(never)]
    fn hasten_now(&self, position: u64, header: [u64; 7], payload: &[u8]) {
        let words = || {
            let mut words = [0; crate::layout::EXPRESS_MAX / 8];
            for (word, bytes) in words.iter_mut().zip(payload.chunks(8)) {
                let mut eight = [0; 8];
                eight[..bytes.len()].copy_from_slice(bytes);
                *word = u64::from_le_bytes(eight);
            }
            words
        };
        self.memory.hasten(position, &header, words);
    }

    /// Publishes positions as holding no message.
    ///
    /// # Safety
    /// The caller owns them, and they are not published.
    #[cold]
    #[inline(never)]
    unsafe fn skip(&self, first: u64, end: u64) {
        let skipped = Header { payload_size: SLOT_SKIPPED, ..Header::default() };
        for position in first..end {
            // SAFETY: by the caller's word.
            unsafe { self.publish_kept(position, &skipped, 0, 0) };
        }
    }

    /// Publishes a position as holding no message; its token stays as it is.
    ///
    /// # Safety
    /// As [`Ring::publish_kept`], except that the loan's holder may still write to the payload.
    pub(crate) unsafe fn publish_skipped(&self, position: u64) {
        let skipped = Header { payload_size: SLOT_SKIPPED, ..Header::default() };
        // Not the token: a holder whose loan was revoked may settle it just now.
        // SAFETY: claimed and unpublished, by the caller's word.
        unsafe { self.memory.at(self.index(position)).write_fields(&skipped) };
        let published = self.free_turn(position) + 1;
        self.turn(position).store(published, order(Label::W3, Ordering::Release));
    }
}

impl Claim<'_> {
    /// Positions that are still to be published.
    pub(crate) fn remaining(&self) -> u64 {
        self.end - self.next
    }

    /// The position that is published or kept next.
    pub(crate) fn next_position(&self) -> u64 {
        self.next
    }

    /// Writes and publishes the next position. The payload must fit the ring's slots.
    ///
    /// Inlined, so that the header stays in registers: one that was written by fields and is read as a whole waits for all
    /// stores before it.
    #[inline(always)]
    pub(crate) fn publish(&mut self, header: &Header, payload: &[u8], token: u64, meta: u64) {
        assert!(self.next < self.end, "more published than claimed");
        let position = self.next;
        self.next += 1;
        // SAFETY: this claim owned the position, and nothing in there can fail.
        unsafe { self.ring.fill(position, header, payload, token, meta) };
    }

    /// Publishes the next position as holding no message.
    pub(crate) fn skip(&mut self) {
        assert!(self.next < self.end, "more skipped than claimed");
        let position = self.next;
        self.next += 1;
        // SAFETY: this claim owned the position.
        unsafe { self.ring.skip(position, position + 1) };
    }

    /// Keeps the next position open with a token: somebody publishes it later by
    /// [`Ring::publish_kept`], whoever wins the token. Where its payload is.
    pub(crate) fn keep(&mut self, token: u64, meta: u64) -> *mut u8 {
        assert!(self.next < self.end, "more kept than claimed");
        self.ring.prepare(self.next);
        let slot = self.ring.memory.at(self.ring.index(self.next));
        slot.meta().store(meta, Ordering::Relaxed);
        slot.token().store(token, Ordering::Release);
        self.next += 1;
        slot.payload()
    }
}

impl Drop for Claim<'_> {
    fn drop(&mut self) {
        // By value: a claim that nobody has the address of needs no memory, and no store for each message.
        if self.next < self.end {
            // SAFETY: this claim owns the positions.
            unsafe { self.ring.skip(self.next, self.end) };
        }
    }
}
