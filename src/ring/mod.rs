//! The bounded ring that both directions and both backends use.
//!
//! ```text
//!            head                         tail
//!             │                            │
//!   ┌────┬────┼────┬────┬────┬────┬────┬───┼────┐
//!   │free│    │pub │pub │pub │    │pub │   │free│     one turn word per slot
//!   └────┴────┴────┴────┴────┴────┴────┴────────┘
//!                             └ claimed, being written (or an open loan): holds the receiver up
//! ```
//!
//! # Source
//! D. Vyukov, "Bounded MPMC queue" (2010), with *turns* in place of sequence numbers (as
//! Folly's MPMCQueue has them): slot `p mod capacity` of position `p`, lap
//! `L = p / capacity`, is published at `2L + 1`. With many receivers it is free for `p` when `turn == 2L` and released at
//! `2(L + 1)`, which is "free" for the next lap. A single receiver releases in order, so `head` says all of that; it changes
//! nothing in a slot, and senders keep what they last saw of `head`
//! (the cached index is that of MCRingBuffer: P. Lee, T. Bu, G. Chandranmenon, 2010).
//! Fresh zeroed memory is a ring whose slots are free for lap 0, so a ring of a million slots touches no page until it
//! is used.
//!
//! # States of a slot, for its position p
//! free → (claim: `tail` moves past p) → claimed → (publish) → published → (take: `head` moves past p) → taken
//! → (release) → free for p + capacity.
//!
//! # Invariants
//! * **I1** each word has one writer at a time: `turn` is written by the claimant until it publishes, then by
//!   whoever took it; `tail` only by claimants, `head` only by takers.
//! * **I2** the turn of position p takes the values above in that order and never repeats one: a word that was
//!   read as `2L + 1` and is still that at a later compare-and-swap was not touched in between.
//! * **I3** header and payload are touched only by the claimant between claim and publish, and by the taker
//!   between seeing `2L + 1` and release.
//! * **I5** capacity is a power of two and at least 2.
//! * **I6** positions are 62 bits and never wrap; bit 63 of `tail` is CLOSED, bit 62 PARKED (`park.rs`).
//!
//! # Orderings
//!
//! | label | operation | ordering | pairs with |
//! |---|---|---|---|
//! | W1 | sender reads turn | Acquire | R2: the last reader of the slot is done before it is written |
//! | W2 | sender moves tail | Acquire CAS (P4) | P3: the ring's slots are where they are said to be; ownership of a position needs only that the CAS is atomic |
//! | W3 | sender stores turn = 2L+1 | Release | R1: the message is complete before it is seen |
//! | W4 | sender to a single receiver reads head | Acquire | R3: all slots before head are released |
//! | W5 | such a sender reads what others have seen of head | Acquire | W6, and by that R3 |
//! | W6 | such a sender notes what it has seen of head | Release | W5 |
//! | W7 | only sender, between its claim and its look for a close | light fence | W8 |
//! | W8 | close, between the word for the only sender and its look at tail | heavy fence | W7 |
//! | R1 | receiver reads turn | Acquire | W3 |
//! | R2 | one of many receivers stores turn = 2L+2 | Release | W1 |
//! | R4 | one of many receivers moves head | Release CAS | W9 |
//! | W9 | sender to many receivers that finds no turn reads head | Acquire | R4: what is below head was published |
//! | R3 | the single receiver stores head | Release | W4 |
//!
//! W1 and R2 are for rings with many receivers (output), W4 to W6 and R3 for those with one (input), which releases in order:
//! there `head = h` says that every slot below h is released. `tests/loom` checks conservation and order with more messages than slots,
//! and that weakening any label to Relaxed is seen to fail.
//!
//! # Whose lines
//! A store to a line that another core has read since is waited for, in order with all other stores, one line after the other, and
//! fetching the line for writing does not help, as this core still has it to read. So three things are done about how many such waits a
//! message costs (figures in `docs/performance.md`):
//! * A receiver that keeps up writes to each line, before it releases the slot, what is in it ([`Ring::take_lines`]): from then
//!   on its core has the line alone, and the next sender's store fetches it like any other, many at a time. By I3 the slot is the receiver's
//!   until then, and a word that does not change needs no order.
//! * A sender writes of a header only what is not there already; the header of the lap before mostly is. By I3 nobody else
//!   changes it between the look and the store. The token of a loan is changed by whoever settles it; who publishes the position
//!   has won the token, or leaves it alone (a revoked loan is settled at any time).
//! * A sender's path has few stores of its own: those under way at once are a fixed number, whatever they go to.
//!
//! # Closing
//! `close` sets bit 63 of `tail` by an atomic or; the compare-and-swap of W2 fails against it, so after `close`
//! no position is claimed any more and `tail` is final. What was claimed before is published by senders that
//! are on their way, or is an open loan. The ring is drained when `head` has come to the final `tail`: nothing
//! is lost between a sender that was told "queued" and the end.
//!
//! # One sender
//! Where one thread at a time sends, and the ring was told so, a claim is a plain store: a compare-and-swap waits until all that was
//! stored before is in memory, above all the message before. A plain store can undo the bit of a close, so a close says
//! `closing` first, and the sender looks for that after its store. By the Dekker pair W7 and W8 either the sender sees
//! `closing` (then it puts tail back, with the bit, is told "closed", and wakes the receiver, who may have waited for the
//! position), or the close sees its claim in the final tail, and no later store of the sender's goes without a look.
//!
//! # Progress
//! No operation waits for another thread, but a sender that is stopped between claim and publish holds up the
//! receiver at that slot; an open loan is exactly that. Loans are counted and their age is a metric.

#[cfg_attr(rk_loom, path = "../../tests/loom/src/memory.rs")]
mod memory;
mod park;
#[cfg(not(rk_loom))]
mod place;
mod receiver;
mod sender;
#[cfg(all(test, not(rk_loom)))]
#[allow(unsafe_code)]
mod tests;
mod wait;

use crossbeam_utils::CachePadded;

use crate::sync::{AtomicBool, AtomicU64, Label, Mutex, Ordering, heavy_fence, order, release_fence};

#[cfg(not(rk_loom))]
pub(crate) use memory::{Express, Keeps, express_mark};
pub(crate) use memory::{Header, Memory, Slots};
#[cfg(not(rk_loom))]
pub(crate) use place::RingPlace;
pub(crate) use receiver::Received;
pub(crate) use sender::{Claim, ClaimError};
pub(crate) use wait::EventCount;

/// Bit of `tail` that closes the ring.
const CLOSED: u64 = 1 << 63;

/// Bit of `tail` that lets no claim in until the ring has its slots back.
const PARKED: u64 = 1 << 62;
/// The bits of `tail` that are no position.
const FLAGS: u64 = CLOSED | PARKED;

/// A bounded ring of messages; many senders, one or many receivers.
#[derive(Debug)]
pub(crate) struct Ring {
    tail: CachePadded<Tail>,
    head: CachePadded<AtomicU64>,
    memory: Memory,
    /// The highest count of [`Ring::sent`] that was told.
    said: AtomicU64,
    /// Held by who parks it or ends that; the position from which on it has had its slots.
    parking: Mutex<u64>,
    mask: u64,
    shift: u32,
    /// One thread at a time sends.
    has_one_sender: bool,
}

/// What senders write.
#[derive(Debug)]
struct Tail {
    position: AtomicU64,
    /// What senders have last seen of `head`: that line moves between cores once a lap and not with every message.
    seen_head: AtomicU64,
    /// Messages that come from kernels; counted by those who send them, before the claim.
    foreign: AtomicU64,
    /// Those of them that were queued.
    queued: AtomicU64,
    /// Places that were lent and are no message.
    lent: AtomicU64,
    /// A close has begun: for the only sender.
    closing: AtomicBool,
}

impl Ring {
    /// A ring of `capacity` slots (a power of two, at least 2), each for `payload` bytes (a multiple of 64).
    ///
    /// `None` when the memory cannot be had.
    pub(crate) fn new(capacity: u32, payload: usize) -> Option<Self> {
        Some(Self::over(capacity, Memory::new(capacity as usize, payload)?))
    }

    /// A ring in memory that holds `capacity` zeroed slots.
    pub(crate) fn over(capacity: u32, memory: Memory) -> Self {
        assert!(capacity.is_power_of_two() && capacity >= 2);
        Self {
            tail: CachePadded::new(Tail {
                position: AtomicU64::new(0),
                seen_head: AtomicU64::new(0),
                foreign: AtomicU64::new(0),
                queued: AtomicU64::new(0),
                lent: AtomicU64::new(0),
                closing: AtomicBool::new(false),
            }),
            head: CachePadded::new(AtomicU64::new(0)),
            memory,
            said: AtomicU64::new(0),
            parking: Mutex::new(0),
            mask: u64::from(capacity) - 1,
            shift: capacity.trailing_zeros(),
            has_one_sender: false,
        }
    }

    /// The same for one receiver, with a sender of whom there is never more than one at a time.
    pub(crate) fn with_one_sender(self) -> Self {
        Self { has_one_sender: true, ..self }
    }

    /// Slots.
    pub(crate) fn capacity(&self) -> u64 {
        self.mask + 1
    }

    /// Bytes of memory behind it.
    pub(crate) fn bytes(&self) -> usize {
        if self.is_parked() { 0 } else { self.memory.bytes() }
    }

    /// The turn at which the slot of a position is free for it.
    fn free_turn(&self, position: u64) -> u64 {
        (position >> self.shift) * 2
    }

    fn index(&self, position: u64) -> usize {
        (position & self.mask) as usize
    }

    fn turn(&self, position: u64) -> &AtomicU64 {
        self.memory.at(self.index(position)).turn()
    }

    /// Position of the next claim; also the number of claims so far.
    pub(crate) fn tail(&self) -> u64 {
        self.tail.position.load(Ordering::Acquire) & !FLAGS
    }

    /// Position of the next take; also the number of takes so far.
    pub(crate) fn head(&self) -> u64 {
        self.head.load(Ordering::Acquire)
    }

    /// Messages between head and tail.
    pub(crate) fn depth(&self) -> u64 {
        let head = self.head();
        self.tail().saturating_sub(head)
    }

    /// Takes no claims any more.
    pub(crate) fn close(&self) {
        if self.has_one_sender {
            self.tail.closing.store(true, Ordering::Relaxed);
            heavy_fence(Label::W8);
        }
        self.tail.position.fetch_or(CLOSED, order(Label::W8, Ordering::SeqCst));
    }

    /// Whether every position that was ever claimed has been taken and no more can come.
    pub(crate) fn is_drained(&self) -> bool {
        let tail = self.tail.position.load(Ordering::Acquire);
        tail & CLOSED != 0 && self.head() == tail & !FLAGS
    }

    /// Whether the slot at head is published. Exact for the single receiver, a hint for others.
    pub(crate) fn is_readable(&self) -> bool {
        let head = self.head.load(Ordering::Relaxed);
        self.turn(head).load(order(Label::R1, Ordering::Acquire)) > self.free_turn(head)
    }

    /// Whether a position at or after head is published.
    pub(crate) fn is_published(&self, position: u64) -> bool {
        self.turn(position).load(Ordering::Acquire) == self.free_turn(position) + 1
    }

    /// Whether a position was claimed and not published.
    pub(crate) fn is_claimed(&self, position: u64) -> bool {
        position < self.tail() && self.turn(position).load(Ordering::Acquire) <= self.free_turn(position)
    }

    /// Whether a position was taken and not released.
    pub(crate) fn is_taken(&self, position: u64) -> bool {
        position < self.head() && self.turn(position).load(Ordering::Acquire) == self.free_turn(position) + 1
    }

    /// The slot of a position, for who needs more than one thing of it.
    #[cfg(not(rk_loom))]
    #[inline(always)]
    pub(crate) fn slot(&self, position: u64) -> memory::Slot<'_> {
        self.memory.at(self.index(position))
    }

    /// The token word of a position's slot.
    pub(crate) fn token(&self, position: u64) -> &AtomicU64 {
        self.memory.at(self.index(position)).token()
    }

    /// The meta word of a position's slot.
    pub(crate) fn meta(&self, position: u64) -> &AtomicU64 {
        self.memory.at(self.index(position)).meta()
    }

    /// Where the payload of a position's slot is.
    pub(crate) fn payload(&self, position: u64) -> *mut u8 {
        self.memory.at(self.index(position)).payload()
    }

    /// [`Ring::put`] of the message of another kernel. Counted before: see [`Ring::sent`]. If it was put, a SeqCst read-modify-write
    /// has followed.
    #[inline(always)]
    pub(crate) fn put_foreign(
        &self,
        header: &Header,
        payload: &[u8],
        token: u64,
        meta: u64,
    ) -> Result<(), ClaimError> {
        self.tail.foreign.fetch_add(1, Ordering::Relaxed);
        release_fence();
        let put = self.put(header, payload, token, meta);
        match put {
            Ok(()) => self.tail.queued.fetch_add(1, Ordering::SeqCst),
            Err(_) => self.tail.foreign.fetch_sub(1, Ordering::Relaxed),
        };
        put
    }

    /// Claims up to `count` slots to be lent; the same holds.
    pub(crate) fn claim_lent(&self, count: u64) -> Result<Claim<'_>, ClaimError> {
        self.tail.lent.fetch_add(count, Ordering::Relaxed);
        release_fence();
        let claim = self.claim_batch(count);
        self.uncount_lent(count - claim.as_ref().map_or(0, Claim::remaining));
        claim
    }

    /// Messages of the host: never more than were claimed, and never less than was said before.
    pub(crate) fn sent(&self) -> u64 {
        let tail = self.tail();
        // Read after the tail. What is no message of the host was counted before its claim, so what `tail` has of that is in here.
        let sent = tail.saturating_sub(self.tail.foreign.load(Ordering::Relaxed) + self.lent());
        self.said.fetch_max(sent, Ordering::Relaxed).max(sent)
    }

    /// Messages that came from kernels.
    pub(crate) fn queued_by_kernels(&self) -> u64 {
        self.tail.queued.load(Ordering::Relaxed)
    }

    /// Takes lent places out of the count again, as they became messages.
    pub(crate) fn uncount_lent(&self, places: u64) {
        self.tail.lent.fetch_sub(places, Ordering::Relaxed);
    }

    /// Places that were lent and hold no message.
    fn lent(&self) -> u64 {
        self.tail.lent.load(Ordering::Relaxed)
    }
}
