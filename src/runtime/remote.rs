//! Blocks that run somewhere else: on a device that reads the input ring by itself and answers in records.
//!
//! The gate of such a block guards this side of it: whoever is inside takes the records out, does what each
//! asks for as if the handler had called it here, and releases the input that the device is done with. So any thread
//! can do it: the backend's, or a caller that waits and looks for itself.
//!
//! # Order
//! The device says that it is done with an input position after the records that refer to it. So: read what is
//! taken, then take all records, then release up to what was read. And it says that it has ended after all of
//! that: read the end first, and everything that is found afterwards is final.
//!
//! A record repeats how much was taken when it was made. That is released before the record is delivered, so who has an answer
//! finds the places of all messages before it free.
//!
//! # The end
//! A drain ends on the device, at the position where the closed ring ends. A discard stops the device first; what is left in
//! the ring becomes dead letters here, as it does for a block of this process.

use super::block::{After, Block, Turn, end_letter};
use super::context;
use super::dead::Letter;
use super::kernel::{Kernel, Phase};
use super::lease;
use super::supervise::RESTING;
use crate::layout::*;
use crate::ring::{Header, Ring};
use crate::sync::Ordering;

/// Bits of a record's count of what was taken. A larger distance ahead frees less than it could; one of 2^24 behind cannot be:
/// a record would have to be under way while so many messages after it are handled.
const TAKEN_BITS: u32 = 25;

/// What a record asks for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Op {
    /// A reply to a call, by its token.
    Reply(u64),
    /// A reply to a kernel.
    ReplyKernel(u64),
    /// A message to the host.
    Emit,
    /// A message to a kernel that has to go through here.
    Send(u64),
    /// A message to that kernel, which has ended.
    Undeliverable(u64),
    /// A message of that kernel (a peer's), which was not handled: why.
    Dead(u64, u32),
    /// A message of that kernel, which was there at the end.
    Left(u64),
    /// The message at this input position failed.
    Failed(u64),
    /// The message at this input position came too late.
    Expired(u64),
}

/// Something that a block elsewhere wants done.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Record<'a> {
    pub(crate) op: Op,
    /// Of a message to a kernel: its sender waits to be told whether it was taken.
    pub(crate) asks: bool,
    /// Of a message that is given up: the node of its time.
    pub(crate) block: u32,
    pub(crate) correlation: u64,
    pub(crate) deadline_ns: u64,
    pub(crate) tag: u32,
    pub(crate) status: RkStatus,
    pub(crate) timestamp: RkTimestamp,
    pub(crate) payload: &'a [u8],
    /// The low `TAKEN_BITS` bits of how much input the block had taken before.
    pub(crate) taken: u32,
}

impl Record<'_> {
    fn header(&self, source: u64) -> Header {
        Header {
            correlation: self.correlation,
            source,
            payload_size: self.payload.len() as u32,
            tag: self.tag,
            timestamp: self.timestamp,
        }
    }
}

/// What a block elsewhere has counted.
#[derive(Clone, Copy, Default, Debug)]
pub(crate) struct Counts {
    pub(crate) processed: u64,
    pub(crate) failed: u64,
    pub(crate) sent: u64,
    pub(crate) from_peers: u64,
}

/// The other end of a block that runs elsewhere. All but `take_record` and `hold` are for any thread; those are for
/// whoever is inside the gate.
pub(crate) trait Remote: Send + Sync + std::fmt::Debug {
    /// Whether it has ended, or is lost: nothing comes from it any more but what is there.
    fn has_ended(&self) -> bool;
    /// Input positions that it is done with.
    fn taken(&self) -> u64;
    /// Whether a record waits.
    fn has_record(&self) -> bool;
    /// Hands the next record over and frees its place; false when none waits. What is made of a record says whether it was taken, for
    /// a sender that asks.
    fn take_record(&self, deliver: &mut dyn FnMut(&Record<'_>) -> bool) -> bool;
    /// Tells it to take no input, or to go on; whether that is news.
    fn hold(&self, hold: bool) -> bool;
    /// Lets it begin anew after a failure, with its state zeroed; once for each failure that a record has told of.
    fn restart(&self);
    /// How many messages to kernels still wait here for room.
    fn settle(&self, kept: u64);
    /// Whether no handler runs and none will until the kernel is activated.
    fn is_quiet(&self) -> bool;
    /// A number that changes with what it says of that. Two looks at all blocks that found the same numbers, and all of them
    /// quiet, found a time between them at which all were: blocks may go on for each other's sake (a grid barrier).
    fn answer(&self) -> u64;
    /// Its counters.
    fn counts(&self) -> Counts;
}

/// Whether something has come from the block that nobody has dealt with.
pub(crate) fn has_news(kernel: &Kernel, index: u32, remote: &dyn Remote, ring: &Ring) -> bool {
    remote.has_record()
        || remote.taken() > ring.head()
        || !is_counted(kernel.block(index), remote)
        || (Kernel::phase(kernel.control()) == Phase::Drain && lease::is_loan_at_head(kernel, index, ring))
}

/// One turn of whoever is inside the gate; `None`: the block has ended elsewhere, and what is left is to be
/// dealt with here.
pub(super) fn turn(turn: &Turn<'_>, remote: &dyn Remote, ring: &Ring) -> Option<After> {
    let (kernel, index) = (turn.kernel, turn.index);
    let control = kernel.control();
    turn.put_out_kept(control);
    turn.put_out_posted(control);
    let ended = remote.has_ended();
    // Before the records: a message is counted when what it has caused is there.
    let counts = remote.counts();
    let taken = if ended { remote.taken().min(ring.tail()) } else { remote.taken() };
    let mut released = false;
    let mut release = |taken: u64| {
        // A message may be handled before its sender has stored the turn; the slot is the sender's until then.
        while ring.head() < taken && ring.is_readable() {
            release_one(turn, ring);
            released = true;
        }
    };
    while remote.take_record(&mut |record| {
        release(ring.head() + ahead(record.taken, ring.head()));
        let mut record = *record;
        // Stamps are the kernel's, whatever it says with them; but a message that it gives up keeps its sender's.
        if record.timestamp.physical_ns != 0 {
            record.timestamp.node = match record.op {
                Op::Dead(..) | Op::Left(_) => record.block,
                _ => kernel.clock.node(),
            };
        }
        let was_taken = deliver(turn, ring, &record);
        // The record's place is given back after this: a block that waited for it knows, before it takes a message more.
        if turn.is_stuck() {
            remote.hold(true);
        }
        was_taken
    }) {}
    release(taken);
    let ended = ended && ring.head() >= taken;
    count(turn, counts);
    if released {
        kernel.input_was_released();
    }
    let control = kernel.control();
    let full = !turn.put_out_kept(control);
    if remote.hold(full) && !full {
        kernel.driver.schedule(kernel, index);
    }
    let is_posted = turn.put_out_posted(control);
    remote.settle(turn.body.posted() as u64);
    let phase = Kernel::phase(control);
    if phase == Phase::Drain && !ended {
        lease::revoke_at_head(kernel, index, ring);
    }
    // What is discarded here waits for no output.
    let is_held_up = (full || !is_posted) && phase != Phase::Discard;
    (!ended || is_held_up || !Kernel::ends(phase)).then_some(After::Idle)
}

/// Of a block that waits for its restart: an end does not wait with it.
pub(super) fn cuts_rest_short(block: &Block, phase: Phase) -> bool {
    block.holds(RESTING) && Kernel::ends(phase)
}

/// How far a record's count of what was taken is ahead of `head`; 0 when it is behind.
fn ahead(taken: u32, head: u64) -> u64 {
    let difference = taken.wrapping_sub(head as u32) << (32 - TAKEN_BITS);
    if difference as i32 > 0 { u64::from(difference >> (32 - TAKEN_BITS)) } else { 0 }
}

/// Whether this side knows all that a block has counted.
pub(crate) fn is_counted(block: &Block, remote: &dyn Remote) -> bool {
    let (counts, counters) = (remote.counts(), &block.counters);
    counts.processed <= counters.processed.get()
        && counts.failed <= counters.failed.get()
        && counts.from_peers <= counters.from_peers.get()
        && counts.sent <= counters.to_peers.get()
}

fn count(turn: &Turn<'_>, counts: Counts) {
    let counters = &turn.block.counters;
    counters.processed.raise(counts.processed);
    counters.failed.raise(counts.failed);
    counters.from_peers.raise(counts.from_peers);
    counters.to_peers.raise(counts.sent);
}

/// Gives the slot at head back to senders; a call that was not answered is remembered.
fn release_one(turn: &Turn<'_>, ring: &Ring) {
    turn.block.counters.depth_max.raise(ring.depth());
    // SAFETY: the gate makes this thread the single receiver, and the device is done with the position.
    #[allow(unsafe_code)]
    unsafe {
        if let Some(received) = ring.peek().filter(|received| !received.is_skipped()) {
            let bytes = SLOT_HEADER_SIZE as u64 + u64::from(received.header.payload_size);
            let bytes_out = &turn.block.counters.bytes_out;
            bytes_out.raise(bytes_out.get() + bytes);
            if received.token != 0 && super::calls::is_open(received.token) {
                turn.note_unanswered(received.token);
            }
        }
        ring.advance();
    }
}

/// Does what a record asks for; false: it was a message to a kernel that finds no room and may not wait for any.
fn deliver(turn: &Turn<'_>, ring: &Ring, record: &Record<'_>) -> bool {
    let kernel = turn.kernel;
    match record.op {
        Op::Reply(_) | Op::ReplyKernel(_) | Op::Emit | Op::Send(_) => {
            return context::deliver(kernel, turn.index, turn.body, record);
        }
        Op::Undeliverable(target) => {
            let (reason, status) = (RK_DEAD_TERMINATED, RK_ERR_TERMINATED);
            let header = record.header(kernel.handle);
            let (block, deadline_ns) = (record.block, record.deadline_ns);
            let letter = Letter { kernel: target, block, deadline_ns, header, reason, status };
            kernel.dead_letter(letter, record.payload, 0);
        }
        Op::Dead(source, reason) => {
            let letter = Letter {
                kernel: kernel.handle,
                block: turn.index,
                deadline_ns: record.deadline_ns,
                header: record.header(source),
                reason,
                status: record.status,
            };
            kernel.dead_letter(letter, record.payload, 0);
            if reason == RK_DEAD_HANDLER {
                note_failure(turn, record.status);
            }
        }
        Op::Left(source) => {
            let control = kernel.control();
            let letter = Letter {
                block: turn.index,
                deadline_ns: record.deadline_ns,
                header: record.header(source),
                ..end_letter(kernel, control)
            };
            turn.count_late(control);
            kernel.dead_letter(letter, record.payload, 0);
        }
        Op::Failed(position) | Op::Expired(position) => {
            let reason = if matches!(record.op, Op::Failed(_)) { RK_DEAD_HANDLER } else { RK_DEAD_EXPIRED };
            // SAFETY: the gate makes this thread the single receiver.
            #[allow(unsafe_code)]
            // Its sender may be about to store the turn.
            let received = loop {
                // SAFETY: as above.
                match unsafe { ring.peek_at(position) } {
                    None if (ring.head()..ring.tail()).contains(&position) => crate::sync::yield_now(),
                    received => break received,
                }
            };
            if let Some(received) = received {
                turn.give_up(&received, turn.letter(&received, reason, record.status));
            }
            if reason == RK_DEAD_HANDLER {
                note_failure(turn, record.status);
            }
        }
    }
    true
}

fn note_failure(turn: &Turn<'_>, status: RkStatus) {
    if status == RK_ERR_KERNEL_FAILED {
        turn.has_failed(status);
    } else {
        turn.kernel.last_error.store(status, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::{TAKEN_BITS, ahead};

    #[test]
    fn a_record_that_is_behind_frees_nothing() {
        let wrap = 1u64 << TAKEN_BITS;
        for head in [0, 1, 1000, wrap - 1, wrap, 5 * wrap + 17, u64::from(u32::MAX) + 3] {
            for difference in [0, 1, 64, wrap / 2 - 1] {
                assert_eq!(ahead((head + difference) as u32 & (wrap - 1) as u32, head), difference);
                let behind = head.wrapping_sub(difference);
                assert_eq!(ahead(behind as u32 & (wrap - 1) as u32, head), 0, "{head} {difference}");
            }
        }
    }
}
