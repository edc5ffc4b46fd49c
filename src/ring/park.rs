//! Parking: an empty ring gives its slots back, and gets some again when somebody sends.
//!
//! # States
//! ```text
//!             park: tail == head, inside the receiver's gate          slots, or their pages,
//!   in use ──────────────────────────────────────────────► PARKED ──► are taken away ──► parked
//!     ▲            unpark: slots are there, PARKED is taken away          │
//!     └───────────────────────────────────────────────────────────────────┘
//! ```
//!
//! # Argument
//! * **Nobody writes where there is nothing.** `park` sets the bit by a compare-and-swap of a `tail` that is `head`: every position
//!   that was ever claimed is released then, open loans among them, so no claim is out, and against the bit none succeeds. The slots
//!   go only after it. `unpark` gives slots (P1) before it takes the bit away (P3); a claim (W2, P4) reads the tail of
//!   that or a later one, for all changes between are read-modify-writes, and so sees where the slots are. Until the
//!   claimed position is released, `tail` is past `head` and the ring is not parked again.
//! * **The receiver sees no message that is none.** It is the receiver that parks, or somebody else inside its gate, so it looks at
//!   what was taken away only if it is inside later, and then it sees [`memory::NOTHING`](super::memory), in which no turn is that of
//!   a published message. If it is inside while a sender unparks, it sees nothing, or the new slots with their turns set to 0 (P2):
//!   less than the turn of any published position.
//! * **Positions go on.** A slot with turn 0 is free for whatever position comes next, as senders to a single receiver read no turn
//!   and the receiver waits for exactly `2L + 1`. So leases and counters know nothing of parking.
//! * **Late looks.** Who is not inside the gate looks at a turn as a hint ([`Ring::is_readable`]), or at the token of a loan that
//!   must be open to mean something. It may still read slots that are another ring's by now: those are slots of the same shape for
//!   ever (`arena.rs`), the word is an atomic, and the token of a loan names its ring and position, so none of another ring is taken
//!   for it.
//! * **No wake-up is lost.** Where the slots are is stored before the turn is published, so the fences of the gate (G3, G4) cover
//!   both: a runner that leaves and looks again sees the new slots, if the sender saw it inside.
//! * **Closing** is another bit of the same word; a parked ring that is closed is drained, and is not unparked.
//!
//! Two that unpark, or one that parks and one that unparks, take turns by a lock, which is held for these few steps, and for as long as the
//! system needs to take pages back.
//!
//! # Many receivers
//! Their ring is parked in place: its pages are given back, if they are pages of its own, and it keeps the addresses. Nobody is its
//! only receiver, so who parks it looks at every slot that was used since it was parked last: if `tail` is `head` before and still the same when the bit is
//! set, nothing was claimed or taken meanwhile, and if no turn is odd, everything is released (a turn is read as by the next sender, W1, R2). Its senders wait for a
//! turn, `2L`, that may be gone: then it is 0. A slot without a turn is free for position p if `head` was past
//! `p - capacity` *before* the turn was read (W9): what is below head was published (R4), so its turn would not be 0, unless the pages
//! went after that, and then it was released.
//!
//! Rings with only one sender are never parked: it stores its claims without a compare-and-swap.

use super::memory::Slots;
use super::{CLOSED, ClaimError, PARKED, Ring};
use crate::sync::{Label, Ordering, lock, order};

impl Ring {
    /// Whether [`Ring::park`] may do something.
    pub(crate) fn can_be_parked(&self) -> bool {
        !self.has_one_sender && self.memory.can_be_vacated()
    }

    /// Whether it is without its slots, or about to be. A hint.
    pub(crate) fn is_parked(&self) -> bool {
        self.tail.position.load(Ordering::Relaxed) & PARKED != 0
    }

    /// Parks it, if it is empty; `None`: it is not, or is closed. The slots, if they are such as other rings can use.
    ///
    /// Inside the gate of its receiver. It must be one that [can be parked](Ring::can_be_parked).
    pub(crate) fn park(&self) -> Option<Option<Slots>> {
        let since = lock(&self.parking);
        let head = self.head.load(Ordering::Relaxed);
        let parked =
            self.tail.position.compare_exchange(head, head | PARKED, Ordering::Relaxed, Ordering::Relaxed);
        // Of each slot once.
        let used = (*since).max(head.saturating_sub(self.capacity()))..head;
        parked.ok().map(|_| self.memory.vacate(used.map(|position| self.index(position))))
    }

    /// [`Ring::park`] for one with many receivers whose slots are long: if it is empty and everything that was taken was released, it
    /// is parked and its pages are given back. From any thread. Whether it was done.
    pub(crate) fn park_released(&self) -> bool {
        let head = self.head.load(Ordering::Acquire);
        let position = &self.tail.position;
        if position.load(Ordering::Relaxed) != head {
            return false;
        }
        // Before the bit is set, so that nobody waits for it: if nothing was claimed until then, it still holds.
        let since = *lock(&self.parking);
        let is_taken = |position| self.turn(position).load(order(Label::W1, Ordering::Acquire)) & 1 != 0;
        if (since.max(head.saturating_sub(self.capacity()))..head).any(is_taken) {
            return false;
        }
        let mut since = lock(&self.parking);
        if position.compare_exchange(head, head | PARKED, Ordering::Relaxed, Ordering::Relaxed).is_err() {
            return false;
        }
        self.memory.drop_pages();
        *since = head;
        true
    }

    /// Whether it has pages that can be given back.
    pub(crate) fn has_pages(&self) -> bool {
        self.memory.has_pages()
    }

    /// Whether its slots can be another ring's.
    pub(crate) fn is_short(&self) -> bool {
        self.memory.is_of_slots()
    }

    /// Lets claims in again, with `slots` if it is without; they are given back if it has some by now. Whether it was this caller who did.
    pub(crate) fn unpark(&self, slots: Option<Slots>) -> Result<bool, ClaimError> {
        let mut since = lock(&self.parking);
        let tail = self.tail.position.load(Ordering::Relaxed);
        if tail & CLOSED != 0 {
            return Err(ClaimError::Closed);
        }
        if tail & PARKED == 0 {
            return Ok(false);
        }
        if self.memory.is_vacant() {
            let Some(slots) = slots else { return Err(ClaimError::Parked) };
            self.memory.occupy(slots);
            *since = tail & !PARKED;
        }
        self.tail.position.fetch_and(!PARKED, order(Label::P3, Ordering::Release));
        Ok(true)
    }

    /// Why a claim of a tail with flags is refused.
    #[cold]
    pub(super) fn why_refused(tail: u64) -> ClaimError {
        if tail & CLOSED != 0 { ClaimError::Closed } else { ClaimError::Parked }
    }
}
