//! One block of a kernel on the device, from this side: its outbox, its words, and what it was last asked.
//!
//! # When it has ended
//! A resident block says DONE with a number that is not older than its tenancy. A block that is launched for each batch has
//! ended when it was told to stop, or to drain and has, and no launch is in flight. A block whose device is
//! lost, or whose handler never returns, has ended by decree.
#![allow(unsafe_code)]

use std::mem::offset_of;
use std::ptr::NonNull;

use once_cell::race::OnceBox;

use super::device::Piece;
use super::pool::{COPIED, DONE, FAULT, GONE, PAUSED, Pool, RESTED, RUNNING, Verb};
use crate::layout::{
    EXPRESS_ENTRIES, EXPRESS_MAX, EXPRESS_STRIDE, RkTimestamp, SLOT_HEADER_SIZE, SeatControl, SeatRecord,
    SeatStatus,
};
use crate::ring::express_mark;
use crate::runtime::remote::{Counts, Op, Record, Remote};
use crate::sync::{Arc, AtomicBool, AtomicU64, Ordering};

const REPLY: u32 = 1;
const REPLY_KERNEL: u32 = 2;
const EMIT: u32 = 3;
const SEND: u32 = 4;
const DEAD: u32 = 5;
const FAILED: u32 = 6;
const EXPIRED: u32 = 7;
const LEFT: u32 = 8;
/// With SEND: the block waits for the verdict.
const ASKS: u32 = 0x200_0000;

/// See the file's head.
#[derive(Debug)]
pub(super) struct Seat {
    pub(super) pool: Arc<Pool>,
    pub(super) index: u32,
    /// First slot of the outbox.
    outbox: NonNull<u8>,
    /// First entry of small records.
    express: NonNull<u8>,
    shift: u32,
    stride: usize,
    _memory: Arc<Piece>,
    /// Records taken; of whoever is inside the gate.
    head: AtomicU64,
    /// Number << 32 | verb of the last command.
    commanded: AtomicU64,
    /// Number of its first command.
    since: AtomicU64,
    drain_to: AtomicU64,
    /// A launch is under way; of all seats of a kernel that is launched for each batch.
    pub(super) in_flight: Arc<AtomicBool>,
    pub(super) lost: AtomicBool,
    pub(super) held: AtomicBool,
    /// Messages to kernels that it has sent through here.
    sends: AtomicU64,
    /// One of them has asked, and was told.
    has_asked: AtomicBool,
    seen: AtomicU64,
    /// What has moved in the block, and since when it has not.
    watched: AtomicU64,
    watched_since: AtomicU64,
    pub(super) bytes_from: AtomicU64,
    /// What it had counted when it left.
    frozen: OnceBox<Counts>,
}

// SAFETY: the pointer is into memory that the seat holds; who reads it when is the protocol's business.
unsafe impl Send for Seat {}
// SAFETY: as above.
unsafe impl Sync for Seat {}

/// Where an outbox is.
pub(super) struct Outbox {
    pub(super) memory: Arc<Piece>,
    pub(super) offset: usize,
    pub(super) express: usize,
    pub(super) shift: u32,
    pub(super) stride: usize,
}

impl Seat {
    pub(super) fn new(pool: &Arc<Pool>, index: u32, outbox: Outbox, in_flight: &Arc<AtomicBool>) -> Self {
        let Outbox { memory, offset, express, shift, stride } = outbox;
        assert!(offset + (stride << shift) <= memory.size());
        assert!(express + EXPRESS_ENTRIES * EXPRESS_STRIDE <= memory.size());
        Self {
            pool: Arc::clone(pool),
            index,
            // SAFETY: inside the piece, as asserted.
            outbox: unsafe { memory.host().add(offset) },
            // SAFETY: as above.
            express: unsafe { memory.host().add(express) },
            shift,
            stride,
            _memory: memory,
            head: AtomicU64::new(0),
            commanded: AtomicU64::new(0),
            since: AtomicU64::new(0),
            drain_to: AtomicU64::new(u64::MAX),
            in_flight: Arc::clone(in_flight),
            lost: AtomicBool::new(false),
            held: AtomicBool::new(false),
            sends: AtomicU64::new(0),
            has_asked: AtomicBool::new(false),
            seen: AtomicU64::new(0),
            watched: AtomicU64::new(u64::MAX),
            watched_since: AtomicU64::new(0),
            bytes_from: AtomicU64::new(0),
            frozen: OnceBox::new(),
        }
    }

    fn status(&self, field: usize) -> u64 {
        self.pool.status(self.index, field).load(Ordering::Acquire)
    }

    /// Prepares the control words for this tenant; nothing of them is looked at before the first command.
    pub(super) fn move_in(&self, tenant: u64) {
        let zero = |field| self.pool.control(self.index, field).store(0, Ordering::Relaxed);
        zero(offset_of!(SeatControl, drain_to));
        zero(offset_of!(SeatControl, outbox_head));
        zero(offset_of!(SeatControl, hold));
        zero(offset_of!(SeatControl, sends_done));
        zero(offset_of!(SeatControl, restarts));
        zero(offset_of!(SeatControl, route_version));
        zero(offset_of!(SeatControl, transfer));
        zero(offset_of!(SeatControl, verdict));
        self.pool.control(self.index, offset_of!(SeatControl, tenant)).store(tenant, Ordering::Relaxed);
    }

    /// Asks the block for something; under the verbs lock.
    pub(super) fn ask(&self, verb: Verb) {
        let number = self.pool.post(self.index, verb);
        if self.since.load(Ordering::Relaxed) == 0 {
            self.since.store(number, Ordering::Relaxed);
        }
        self.commanded.store(number << 32 | verb as u64, Ordering::SeqCst);
    }

    /// Asks it to end when it has taken everything before a position.
    pub(super) fn drain(&self, position: u64) {
        self.drain_to.store(position, Ordering::SeqCst);
        self.pool.control(self.index, offset_of!(SeatControl, drain_to)).store(position, Ordering::Relaxed);
        self.ask(Verb::Drain);
    }

    /// Asks it to copy its state to an address, or from there; under the verbs lock, while no handler runs.
    pub(super) fn copy(&self, verb: Verb, at: u64) {
        self.pool.control(self.index, offset_of!(SeatControl, transfer)).store(at, Ordering::Relaxed);
        self.ask(verb);
    }

    /// Whether it has done that.
    pub(super) fn has_copied(&self) -> bool {
        let (number, phase) = self.pool.ack(self.index);
        let is_last = number == self.commanded.load(Ordering::SeqCst) >> 32;
        // A short launch says afterwards that it rests, and then has to come to its end.
        match self.pool.shape.once {
            true => is_last && phase == RESTED && !self.in_flight.load(Ordering::SeqCst),
            false => is_last && phase == COPIED,
        }
    }

    /// Routes of its kernel have ended.
    pub(super) fn forget_routes(&self, version: u64) {
        let word = self.pool.control(self.index, offset_of!(SeatControl, route_version));
        word.fetch_max(version, Ordering::SeqCst);
    }

    fn verb(&self) -> u64 {
        self.commanded.load(Ordering::SeqCst) & 0xff
    }

    /// Whether the last command has been answered.
    pub(super) fn is_answered(&self) -> bool {
        let commanded = self.commanded.load(Ordering::SeqCst);
        let (number, phase) = self.pool.ack(self.index);
        let is_ours = number >= self.since.load(Ordering::SeqCst);
        let has_left = phase == DONE || phase == GONE;
        is_ours && (has_left || number == commanded >> 32) || self.pool.shape.once
    }

    /// Whether it handles messages although it is to pause, because others wait for it at the barrier of the grid (D14).
    pub(super) fn goes_on(&self) -> bool {
        self.verb() == Verb::Pause as u64 && !self.pool.shape.once && self.pool.ack(self.index).1 == RUNNING
    }

    /// Reads the counters for the last time: the words are the next tenant's from now on.
    pub(super) fn freeze(&self) {
        let counts = self.counts();
        let _ = self.frozen.set(Box::new(counts));
    }

    /// Whether it has asked since this was asked last: it is waiting no more and may ask again in a moment.
    pub(super) fn has_asked(&self) -> bool {
        self.has_asked.load(Ordering::Relaxed) && self.has_asked.swap(false, Ordering::Relaxed)
    }

    /// Whether it has answered anything since this was asked last; by the pump.
    pub(super) fn has_new_answer(&self) -> bool {
        let word = self.status(offset_of!(SeatStatus, ack));
        self.seen.swap(word, Ordering::Relaxed) != word
    }

    /// Whether nothing has moved in the block for `limit_ns`: not even a look at its words, which one that waits for
    /// something takes all the time. By the pump.
    pub(super) fn is_hung(&self, now: u64, limit_ns: u64) -> bool {
        let moved = self.moved();
        if self.watched.load(Ordering::Relaxed) != moved {
            self.watched.store(moved, Ordering::Relaxed);
            self.watched_since.store(now, Ordering::Relaxed);
            return false;
        }
        !self.is_lost() && now.saturating_sub(self.watched_since.load(Ordering::Relaxed)) > limit_ns
    }

    /// It was given up.
    pub(super) fn is_lost(&self) -> bool {
        self.lost.load(Ordering::SeqCst)
    }

    /// What changes when anything moves in the block.
    pub(super) fn moved(&self) -> u64 {
        let fields = [
            offset_of!(SeatStatus, heartbeat),
            offset_of!(SeatStatus, taken),
            offset_of!(SeatStatus, peer_taken),
            offset_of!(SeatStatus, ack),
        ];
        // Each only grows, so their sum moves when one does.
        let moved = fields.iter().map(|field| self.status(*field)).fold(0, u64::wrapping_add);
        moved.wrapping_add(self.head.load(Ordering::Relaxed))
    }

    fn slot(&self, position: u64) -> NonNull<u8> {
        let index = (position & ((1 << self.shift) - 1)) as usize;
        // SAFETY: masked, so inside the outbox.
        unsafe { self.outbox.add(index * self.stride) }
    }

    /// Eight bytes of an express entry, if both words are those of the position.
    fn pair(&self, position: u64, pair: usize) -> Option<u64> {
        let offset = (position as usize % EXPRESS_ENTRIES) * EXPRESS_STRIDE + pair * 16;
        let half = |offset: usize| {
            // SAFETY: inside the entries, 8-byte aligned, only ever used as atomics by this side.
            let word = unsafe { AtomicU64::from_ptr(self.express.add(offset).cast().as_ptr()) };
            let word = word.load(Ordering::Acquire);
            (word & !0xffff_ffff == express_mark(position)).then_some(word & 0xffff_ffff)
        };
        Some(half(offset)? | half(offset + 8)? << 32)
    }

    /// The next record, if it is there as an express entry, whole.
    fn express(&self, head: u64) -> Option<(SeatRecord, [u64; EXPRESS_MAX / 8])> {
        let pair = |at| self.pair(head, at);
        let (correlation, subject, deadline) = (pair(0)?, pair(1)?, pair(2)?);
        let (op, size, physical, last) = (pair(3)?, pair(4)?, pair(5)?, pair(6)?);
        let record = SeatRecord {
            turn: 0,
            correlation,
            subject,
            deadline,
            op: op as u32,
            block: (op >> 32) as u32,
            payload_size: size as u32,
            tag: (size >> 32) as u32,
            physical,
            logical_taken: last as u32,
            status: (last >> 32) as i32,
        };
        let mut payload = [0; EXPRESS_MAX / 8];
        let words = (record.payload_size as usize).min(EXPRESS_MAX).div_ceil(8);
        for (at, word) in payload.iter_mut().enumerate().take(words) {
            *word = pair(8 + at)?;
        }
        Some((record, payload))
    }

    /// The next record's head, if it is there.
    fn record(&self) -> Option<(u64, SeatRecord)> {
        let head = self.head.load(Ordering::Relaxed);
        let slot = self.slot(head);
        // SAFETY: the first word of a slot is only used as an atomic while the device may write it.
        let turn = unsafe { AtomicU64::from_ptr(slot.cast().as_ptr()) }.load(Ordering::Acquire);
        // SAFETY: a published record is complete and stays until it is given back.
        (turn == (head >> self.shift) * 2 + 1).then(|| (head, unsafe { slot.cast::<SeatRecord>().read() }))
    }

    fn hand_over(&self, record: &SeatRecord, payload: &[u8], deliver: &mut dyn FnMut(&Record<'_>) -> bool) {
        // Before it is delivered: who has it may count.
        self.bytes_from.fetch_add((SLOT_HEADER_SIZE + payload.len()) as u64, Ordering::Relaxed);
        let Some(op) = self.op(record) else { return };
        let asks = record.op & ASKS != 0;
        let mut number = self.sends.load(Ordering::Relaxed);
        if matches!(op, Op::Send(_)) {
            number += 1;
            self.sends.store(number, Ordering::Relaxed);
        }
        let was_taken = deliver(&Record {
            op,
            asks,
            block: record.block,
            correlation: record.correlation,
            deadline_ns: record.deadline,
            tag: record.tag,
            status: record.status,
            timestamp: RkTimestamp {
                physical_ns: record.physical,
                logical: record.logical_taken & 127,
                node: 0,
            },
            taken: record.logical_taken >> 7,
            payload,
        });
        if asks {
            let word = self.pool.control(self.index, offset_of!(SeatControl, verdict));
            word.store(number << 1 | u64::from(!was_taken), Ordering::Release);
            self.has_asked.store(true, Ordering::Relaxed);
        }
    }

    fn op(&self, record: &SeatRecord) -> Option<Op> {
        let subject = record.subject;
        Some(match record.op & 0xff {
            REPLY => Op::Reply(subject),
            REPLY_KERNEL => Op::ReplyKernel(subject),
            EMIT => Op::Emit,
            SEND => Op::Send(subject),
            DEAD if record.op >> 8 == crate::layout::RK_DEAD_TERMINATED => Op::Undeliverable(subject),
            DEAD => Op::Dead(subject, record.op >> 8),
            FAILED => Op::Failed(subject),
            EXPIRED => Op::Expired(subject),
            LEFT => Op::Left(subject),
            _ => return None,
        })
    }
}

impl Remote for Seat {
    fn has_ended(&self) -> bool {
        if self.lost.load(Ordering::SeqCst) {
            return true;
        }
        if self.pool.shape.once {
            let verb = self.verb();
            let drained = || self.taken() >= self.drain_to.load(Ordering::SeqCst);
            let may = verb == Verb::Stop as u64 || verb == Verb::Drain as u64 && drained();
            return may && !self.in_flight.load(Ordering::SeqCst);
        }
        let (number, phase) = self.pool.ack(self.index);
        phase == DONE && number >= self.since.load(Ordering::SeqCst)
    }

    fn taken(&self) -> u64 {
        self.status(offset_of!(SeatStatus, taken))
    }

    fn has_record(&self) -> bool {
        self.pair(self.head.load(Ordering::Relaxed), 0).is_some() || self.record().is_some()
    }

    fn take_record(&self, deliver: &mut dyn FnMut(&Record<'_>) -> bool) -> bool {
        let head = self.head.load(Ordering::Relaxed);
        if let Some((record, words)) = self.express(head) {
            let size = (record.payload_size as usize).min(EXPRESS_MAX);
            let mut bytes = [0; EXPRESS_MAX];
            for (eight, word) in bytes.chunks_exact_mut(8).zip(words) {
                eight.copy_from_slice(&word.to_le_bytes());
            }
            self.hand_over(&record, &bytes[..size], deliver);
        } else if let Some((_, record)) = self.record() {
            let size = (record.payload_size as usize).min(self.stride - SLOT_HEADER_SIZE);
            let payload = self.slot(head).as_ptr().wrapping_add(SLOT_HEADER_SIZE);
            // SAFETY: the payload follows the head, is as published as that, and fits the slot.
            self.hand_over(&record, unsafe { std::slice::from_raw_parts(payload, size) }, deliver);
        } else {
            return false;
        }
        self.head.store(head + 1, Ordering::Relaxed);
        let outbox_head = offset_of!(SeatControl, outbox_head);
        self.pool.control(self.index, outbox_head).store(head + 1, Ordering::Release);
        true
    }

    fn hold(&self, hold: bool) -> bool {
        let is_news = self.held.load(Ordering::Relaxed) != hold;
        if is_news {
            let word = self.pool.control(self.index, offset_of!(SeatControl, hold));
            word.store(u64::from(hold), Ordering::Release);
            self.held.store(hold, Ordering::Release);
        }
        is_news
    }

    fn restart(&self) {
        let word = self.pool.control(self.index, offset_of!(SeatControl, restarts));
        word.store(word.load(Ordering::Relaxed) + 1, Ordering::Release);
    }

    fn settle(&self, kept: u64) {
        let done = self.sends.load(Ordering::Relaxed).saturating_sub(kept);
        let word = self.pool.control(self.index, offset_of!(SeatControl, sends_done));
        if word.load(Ordering::Relaxed) < done {
            word.store(done, Ordering::Release);
        }
    }

    fn is_quiet(&self) -> bool {
        if self.lost.load(Ordering::SeqCst) {
            return true;
        }
        if self.pool.shape.once {
            return !self.in_flight.load(Ordering::SeqCst);
        }
        let (number, phase) = self.pool.ack(self.index);
        let is_last = number == self.commanded.load(Ordering::SeqCst) >> 32;
        phase == DONE || phase == GONE || is_last && (phase == PAUSED || phase == FAULT)
    }

    fn answer(&self) -> u64 {
        self.status(offset_of!(SeatStatus, ack))
    }

    fn counts(&self) -> Counts {
        let counts = Counts {
            processed: self.status(offset_of!(SeatStatus, processed)),
            failed: self.status(offset_of!(SeatStatus, failed)),
            sent: self.status(offset_of!(SeatStatus, sent)),
            from_peers: self
                .status(offset_of!(SeatStatus, peer_taken))
                .max(self.status(offset_of!(SeatStatus, peer_seen))),
        };
        // Looked at last: it is set before the words have another owner.
        self.frozen.get().copied().unwrap_or(counts)
    }
}
