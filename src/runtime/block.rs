//! Running a block: one turn after the other, by whoever holds its gate.
//!
//! # Who runs
//! A worker of the scheduler, the block's own thread, or a caller that helps: each enters the gate (RUNNING),
//! calls [`run`], and has left it when that returns. The body below the gate has one user at a time.
//!
//! # One turn
//! Read the control word; put out what was kept; then by phase: *Run* and *Drain* start the block if need be
//! and handle the message at head in place, *Discard* turns it into a dead letter, *Rest* leaves. The word is
//! read again before each message, so a pause or an end takes effect after the current message.
//!
//! # Leaving without leaving anything behind
//! `gate.leave()` and then [`has_work`] once more; see `gate.rs` for the argument. What counts as work is
//! exactly what a turn could do something about: a published message, a closed and drained ring, an open loan
//! in front of a drain, a poke. A sender between claim and publish is not work: it wakes the block itself
//! after it has published.
//!
//! # A moment more
//! Who has run [`LINGER_MIN`] messages of an event-driven block without a pause and finds no more looks [`LINGER_ROUNDS`] times for
//! the next one before it leaves, if nothing else waits for this worker: to be queued and run again costs as much, and
//! the gate of a stream (`gate.rs`) is left by a system call that interrupts the sender. It stays inside the gate all that time, so
//! to others it is a handler that takes a little longer.
//!
//! # Output that finds no room, and failures
//! See `kept.rs` and `supervise.rs`. Either holds the block: it takes no input.
//!
//! # The end
//! The ring is closed first, so its tail is final. Drain and Discard go on until head has come to the tail:
//! published messages are handled or become dead letters, skipped ones are stepped over, and an open loan is
//! revoked by winning its token, so that its commit is told. Then `on_stop`, once, if the block was started;
//! kept output; calls that nobody answered; DONE.
#![allow(unsafe_code)]

use std::cell::{Cell, OnceCell, RefCell};
use std::collections::VecDeque;

use super::buffer::Buffer;
use super::context::{self, Session};
use super::dead::Letter;
use super::gate::Gate;
use super::kept::{Kept, Room};
use super::kernel::{HARD, Kernel, LATE, Phase, SHUTDOWN, STATE};
use super::options::Mode;
use super::queues::Lending;
use super::remote::{self, Remote};
use super::supervise::{CIRCLE, FAILED, KEEPS, RESTING, Rest};
use super::{calls, lease};
use crate::layout::*;
use crate::limits::{BATCH_MAX, LINGER_MIN, LINGER_ROUNDS, SETTLE_ROUNDS, STREAM_MIN};
use crate::metrics::BlockCounters;
use crate::ring::{Received, Ring, RingPlace};
use crate::sync::{Arc, AtomicBool, AtomicU8, AtomicU32, AtomicU64, Guarded, Ordering, monotonic_ns};

/// What only the runner touches.
#[derive(Debug)]
pub(crate) struct Body {
    pub(crate) state: Buffer,
    pub(crate) shared: Buffer,
    pub(super) extra: OnceCell<Box<Extra>>,
    stopped: Cell<bool>,
    /// Messages handled without a pause before this turn.
    streak: Cell<u16>,
    pub(super) lending: Lending,
}

/// What most blocks never need.
#[derive(Debug, Default)]
pub(crate) struct Extra {
    pub(crate) kept: RefCell<VecDeque<Kept>>,
    /// Messages to kernels from a block elsewhere that wait for room there and hold nothing up: the sender has credit for as many
    /// as the target's queue has places, and is told of a full queue beyond that.
    pub(crate) posted: RefCell<VecDeque<Kept>>,
    /// Calls whose message was handled without a reply.
    pub(super) unanswered: RefCell<Vec<u64>>,
    pub(super) rest: Rest,
    pub(super) room: Room,
}

impl Body {
    /// Made if need be.
    pub(crate) fn extra(&self) -> &Extra {
        self.extra.get_or_init(Box::default)
    }

    /// Whether output is kept that found no room.
    #[inline]
    pub(crate) fn has_kept(&self) -> bool {
        self.extra.get().is_some_and(|extra| !extra.kept.borrow().is_empty())
    }

    /// How many messages are posted.
    #[inline]
    pub(crate) fn posted(&self) -> usize {
        self.extra.get().map_or(0, |extra| extra.posted.borrow().len())
    }
}

/// A block of a kernel: a cache line that senders read, and what the runner writes.
#[derive(Debug)]
#[repr(C, align(64))]
pub(crate) struct Block {
    pub(crate) gate: Gate,
    /// There may be room for kept output.
    pub(crate) poked: AtomicBool,
    /// It waits for room in the output ring.
    pub(crate) stalled: AtomicBool,
    /// Why it takes no input: [`KEEPS`], or what `supervise.rs` says. Written by who runs it.
    pub(super) held: AtomicU8,
    pub(super) started: AtomicBool,
    /// Index in the table of leases of the input ring, 0 = none.
    pub(crate) loan_lease: AtomicU32,
    pub(crate) input: RingPlace,
    pub(crate) loan_base: AtomicU64,
    /// The other end, for a block that runs elsewhere.
    pub(crate) remote: Option<Arc<dyn Remote>>,
    /// The longest that a handler took of late, nanoseconds; u64::MAX = not known.
    pub(crate) pace_ns: AtomicU64,
    /// How long it takes mostly, nanoseconds; u64::MAX = not known. By who runs it.
    pub(crate) usual_ns: AtomicU64,
    // Here the next line begins, which senders do not read.
    pub(crate) counters: BlockCounters,
    body: Guarded<Body>,
}

const _: () = assert!(std::mem::offset_of!(Block, counters) == 64 && size_of::<Block>() == 192);

impl Block {
    /// A block with its state and scratch; `None` when they cannot be had.
    pub(crate) fn new(state_size: usize, shared_size: usize) -> Option<Self> {
        Some(Self {
            gate: Gate::new(),
            poked: AtomicBool::new(false),
            stalled: AtomicBool::new(false),
            held: AtomicU8::new(0),
            started: AtomicBool::new(false),
            input: RingPlace::new(),
            loan_lease: AtomicU32::new(0),
            loan_base: AtomicU64::new(0),
            counters: BlockCounters::new(),
            pace_ns: AtomicU64::new(u64::MAX),
            remote: None,
            usual_ns: AtomicU64::new(u64::MAX),
            body: Guarded::new(Body {
                state: Buffer::zeroed(state_size)?,
                shared: Buffer::zeroed(shared_size)?,
                extra: OnceCell::new(),
                stopped: Cell::new(false),
                streak: Cell::new(0),
                lending: Lending::default(),
            }),
        })
    }

    /// A block that runs elsewhere and reads `input` by itself.
    pub(crate) fn elsewhere(input: Ring, remote: Arc<dyn Remote>) -> Option<Self> {
        let block = Self { remote: Some(remote), ..Self::new(0, 0)? };
        block.input.put(input)?;
        Some(block)
    }

    /// First byte of its state, NULL when it has none. Only its handlers use what is there, and who knows that none runs.
    pub(crate) fn state(&self) -> *mut u8 {
        // SAFETY: the body is never borrowed mutably, and this part of it never changes.
        self.body.with(|body| unsafe { &*body }.state.as_ptr_or_null())
    }

    /// What its runner knows of the memory of its queue.
    #[inline(always)]
    pub(super) fn lending(&self) -> &Lending {
        // SAFETY: the body is never borrowed mutably, and this part of it is an atomic.
        self.body.with(|body| unsafe { &(*body).lending })
    }

    /// Whether a block that runs elsewhere has come to its end there.
    pub(crate) fn remote_has_ended(&self) -> bool {
        self.remote.as_ref().is_some_and(|remote| remote.has_ended())
    }

    /// What a block that runs elsewhere says of itself; see [`Remote::answer`].
    pub(crate) fn answer(&self) -> u64 {
        self.remote.as_ref().map_or(0, |remote| remote.answer())
    }

    /// Whether a record waits of a block that runs elsewhere.
    pub(crate) fn has_record(&self) -> bool {
        self.remote.as_ref().is_some_and(|remote| remote.has_record())
    }

    /// The other end and the ring between, of a block that runs elsewhere.
    fn elsewhere_parts(&self) -> Option<(&Arc<dyn Remote>, &Ring)> {
        Some((self.remote.as_ref()?, self.input.get()?))
    }

    /// Whether it is held for one of these reasons.
    #[inline]
    pub(super) fn holds(&self, reasons: u8) -> bool {
        self.held.load(Ordering::Relaxed) & reasons != 0
    }

    /// Sets a reason or takes it away; inside the gate.
    pub(super) fn hold(&self, reason: u8, holds: bool) {
        let before = self.held.load(Ordering::Relaxed);
        let after = if holds { before | reason } else { before & !reason };
        // Only if it changes: senders read this line.
        if after != before {
            self.held.store(after, Ordering::Relaxed);
        }
    }

    /// Whether one of its handlers may be running.
    pub(crate) fn runs_a_handler(&self) -> bool {
        match &self.remote {
            // Quiet, and what it did before is counted.
            Some(remote) => !remote.is_quiet() || !remote::is_counted(self, &**remote),
            None => self.gate.is_running(),
        }
    }
}

/// Why the turns of a runner ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum After {
    /// Nothing to do.
    Idle,
    /// The same, after a moment of waiting for more.
    Waited,
    /// More to do, but others are waiting.
    Requeue,
    /// The block has ended.
    Done,
}

/// Runs a block whose gate the caller has entered, until it has nothing to do, its share of the worker is
/// used up, or `until` says so after a message. The gate is left when this returns; whether some of the time went into waiting.
pub(crate) fn run(kernel: &Arc<Kernel>, index: u32, until: Option<&dyn Fn() -> bool>) -> bool {
    let block = kernel.block(index);
    block.counters.invocations.bump();
    if until.is_some() {
        // A helper comes for one message and leaves again.
        block.gate.become_full();
    }
    let mut has_waited = false;
    loop {
        match turns(kernel, index, until) {
            After::Done => {
                finish(kernel, index);
                return has_waited;
            }
            After::Requeue => {
                block.gate.requeue();
                kernel.driver.requeue(Arc::clone(kernel), index);
                return has_waited;
            }
            after @ (After::Idle | After::Waited) => {
                has_waited |= after == After::Waited;
                block.lending().look(kernel, index, until.is_some());
                leave(kernel, block);
                if !has_work_in(kernel, block, index) {
                    block.remote.iter().for_each(|_| kernel.driver.left(kernel, index));
                    return has_waited;
                }
                if until.is_some_and(|until| until()) {
                    // A helper has what it came for: the rest is for the workers.
                    kernel.driver.schedule(kernel, index);
                    return has_waited;
                }
                if !block.gate.enter_idle() {
                    return has_waited;
                }
            }
        }
    }
}

/// Leaves the gate and tells those who wait for that.
#[inline]
pub(crate) fn leave(kernel: &Kernel, block: &Block) {
    block.gate.leave();
    kernel.lifecycle.notify_all();
}

/// Ends a block for good.
pub(crate) fn finish(kernel: &Arc<Kernel>, index: u32) {
    kernel.block(index).gate.finish();
    kernel.lifecycle.notify_all();
    kernel.block_ended();
}

/// Whether a turn could do something now.
pub(crate) fn has_work(kernel: &Kernel, index: u32) -> bool {
    has_work_in(kernel, kernel.block(index), index)
}

/// The same of a block that is known.
#[inline(always)]
fn has_work_in(kernel: &Kernel, block: &Block, index: u32) -> bool {
    let control = kernel.control();
    let is_plain = control & STATE == RK_STATE_ACTIVE
        && !block.poked.load(Ordering::SeqCst)
        && block.held.load(Ordering::Relaxed) == 0
        && block.remote.is_none()
        && !kernel.code.has_start_or_stop();
    if is_plain {
        return block.input.get().is_some_and(Ring::is_readable);
    }
    has_any_work(kernel, block, index, control)
}

#[inline(never)]
fn has_any_work(kernel: &Kernel, block: &Block, index: u32, control: u32) -> bool {
    if block.poked.load(Ordering::SeqCst) {
        return true;
    }
    let phase = Kernel::phase(control);
    let is_stuck = block.holds(KEEPS) && control & HARD == 0;
    if let Some((remote, ring)) = block.elsewhere_parts() {
        return remote::has_news(kernel, index, &**remote, ring)
            || remote::cuts_rest_short(block, phase)
            || (Kernel::ends(phase) && remote.has_ended() && (!is_stuck || discards(phase, ring)));
    }
    if phase == Phase::Rest || phase == Phase::Run && block.holds(RESTING) {
        return false;
    }
    if block.holds(KEEPS) {
        let has_input = |ring| discards(phase, ring) || lease::is_loan_at_head(kernel, index, ring);
        // It had none when it looked: what is published since makes the room that the others of its circle wait for.
        let breaks = phase != Phase::Rest && block.holds(CIRCLE);
        if breaks && block.input.get().is_some_and(Ring::is_readable) {
            return true;
        }
        return !is_stuck || (phase == Phase::Discard && block.input.get().is_some_and(has_input));
    }
    let starts = kernel.code.has_start_or_stop() && !block.started.load(Ordering::Relaxed);
    match block.input.get() {
        None => phase != Phase::Run || starts,
        Some(ring) if phase == Phase::Run => starts || ring.is_readable(),
        Some(ring) => ring.is_readable() || ring.is_drained() || lease::is_loan_at_head(kernel, index, ring),
    }
}

/// Whether there is input that becomes dead letters: for that no output has to be out.
fn discards(phase: Phase, ring: &Ring) -> bool {
    phase == Phase::Discard && ring.is_readable()
}

/// The turns of a runner.
pub(crate) fn turns(kernel: &Arc<Kernel>, index: u32, until: Option<&dyn Fn() -> bool>) -> After {
    let block = kernel.block(index);
    // SAFETY: the caller holds the gate, so nobody else touches the body; it has no `&mut` users at all.
    let body = block.body.with(|body| unsafe { &*body });
    let turn = Turn { kernel, block, index, body, has_failed_now: Cell::new(false) };
    if let Some((remote, ring)) = block.elsewhere_parts()
        && let Some(after) = remote::turn(&turn, &**remote, ring)
    {
        return after;
    }
    let (mut handled, mut known) = (0, 0);
    let is_event_driven = kernel.options.mode == Mode::EventDriven;
    // Without a pause before this turn.
    let before = usize::from(body.streak.replace(0));
    loop {
        let control = kernel.control();
        let phase = Kernel::phase(control);
        // What is posted is tried again, too: the look at what was kept has used the poke up.
        let is_out = turn.put_out_kept(control) && (body.posted() == 0 || turn.put_out_posted(control));
        if !is_out && phase != Phase::Discard {
            return After::Idle;
        }
        // Not before what the last handler left was put out, or marked as stalled.
        if phase == Phase::Rest || handled > 0 && until.is_some_and(|until| until()) {
            return After::Idle;
        }
        if handled >= BATCH_MAX {
            body.streak.set(before.saturating_add(handled).min(usize::from(u16::MAX)) as u16);
            return After::Requeue;
        }
        if phase != Phase::Discard && !turn.start(phase) {
            // A start that fails again and again is not to keep others from this worker.
            if block.holds(FAILED) {
                return After::Requeue;
            }
            continue;
        }
        // SAFETY: the gate makes this thread the single receiver.
        match block.input.get().and_then(|ring| unsafe { ring.peek() }.map(|received| (ring, received))) {
            Some((ring, received)) => {
                if handled == 0 {
                    known = note_depth(block, ring, &received);
                }
                handled = context::session(kernel, index, body, |session| {
                    turn.take_run(session, ring, received, control, (known, handled, before), until)
                });
            }
            None if phase == Phase::Run => {
                let streak = before + handled;
                let waits = until.is_none() && streak >= LINGER_MIN;
                if waits && turn.linger(control, is_event_driven) {
                    continue;
                }
                if is_event_driven && streak < STREAM_MIN {
                    block.gate.become_full();
                }
                return if waits { After::Waited } else { After::Idle };
            }
            None => match turn.try_end(is_out) {
                Some(after) => return after,
                None => continue,
            },
        }
    }
}

/// Notes how deep the queue is, once in a turn. Where its end is, only senders write, and to look there takes the line from
/// them: so only if there is more than this message. Returns that end.
fn note_depth(block: &Block, ring: &Ring, received: &Received) -> u64 {
    let depth = if ring.is_published(received.position + 1) { ring.depth() } else { 1 };
    block.counters.depth_max.raise(depth);
    received.position + depth
}

/// A runner inside the gate.
pub(super) struct Turn<'a> {
    pub(super) kernel: &'a Arc<Kernel>,
    pub(super) block: &'a Block,
    pub(super) index: u32,
    pub(super) body: &'a Body,
    /// The block has failed in these turns, and nobody has looked at that.
    pub(super) has_failed_now: Cell<bool>,
}

impl Turn<'_> {
    /// Waits inside the gate for the next message (see [`LINGER_ROUNDS`]), if nothing else is to be done; true: it is there.
    /// Not for longer than a moment on a thread of its own, which waits as it was told to.
    fn linger(&self, control: u32, is_event_driven: bool) -> bool {
        let Some(ring) = self.block.input.get() else { return false };
        if is_event_driven && self.kernel.driver.has_other_work() {
            return ring.is_readable();
        }
        (0..SETTLE_ROUNDS).for_each(|_| crate::sync::spin_loop());
        for round in 0..if is_event_driven { LINGER_ROUNDS } else { 1 } {
            if ring.is_readable() {
                return true;
            }
            let is_wanted = self.kernel.control() != control || self.block.poked.load(Ordering::Relaxed);
            if is_wanted || round % 16 == 0 && self.kernel.driver.has_other_work() {
                return false;
            }
            crate::sync::spin_loop();
        }
        false
    }

    pub(super) fn count_late(&self, control: u32) {
        self.count_if(control & LATE != 0);
    }

    /// Something came too late for a terminate.
    pub(super) fn count_if(&self, is_late: bool) {
        self.kernel.discarded_late.fetch_add(u64::from(is_late), Ordering::Relaxed);
    }

    /// Runs `on_start` if it has not run; false: the block has failed over it.
    fn start(&self, phase: Phase) -> bool {
        if self.block.started.load(Ordering::Relaxed) || !self.kernel.code.has_start_or_stop() {
            return true;
        }
        let status = context::session(self.kernel, self.index, self.body, |session| {
            session.handle(None, |ctx, _| self.kernel.code.start(ctx))
        });
        if status == RK_OK {
            self.block.started.store(true, Ordering::Relaxed);
            return true;
        }
        if phase == Phase::Run {
            self.has_failed(status)
        } else {
            self.kernel.fail(status)
        }
        false
    }

    /// Runs `on_stop`; false when it panicked.
    pub(super) fn stop(&self) -> bool {
        context::session(self.kernel, self.index, self.body, |session| {
            session.handle(None, |ctx, _| self.kernel.code.stop(ctx))
        })
    }

    /// Handles the message at head, which is `received`, and those behind it as long as nothing else is to be looked at; returns
    /// how many were handled in this turn, `handled` of them before. The queue is known to reach to `known`.
    #[inline(always)]
    fn take_run(
        &self,
        session: &Session<'_>,
        ring: &Ring,
        mut received: Received,
        control: u32,
        (known, mut handled, before): (u64, usize, usize),
        until: Option<&dyn Fn() -> bool>,
    ) -> usize {
        let phase = Kernel::phase(control);
        // Not for a helper, who is the next sender himself.
        let keeps_up = until.is_none() && known.saturating_sub(received.position) < ring.capacity() / 2;
        loop {
            ring.fetch_ahead(received.position, known);
            self.take(session, &received, phase, control);
            if keeps_up && !received.is_skipped() {
                // SAFETY: the gate makes this thread the single receiver, and this is what is at head.
                unsafe { ring.take_lines(received.header.payload_size) };
            }
            // SAFETY: the gate makes this thread the single receiver, and a message was peeked.
            unsafe { ring.advance() };
            // After each message: the next one may wait for the very sender that waits here.
            self.kernel.input_was_released();
            handled += 1;
            if before + handled == STREAM_MIN && until.is_none() {
                self.block.gate.become_light();
            }
            let goes_on = handled < BATCH_MAX
                && until.is_none()
                && self.kernel.control() == control
                && !self.block.poked.load(Ordering::Relaxed)
                && !self.body.has_kept();
            // SAFETY: as above.
            match if goes_on { unsafe { ring.peek() } } else { None } {
                Some(next) => received = next,
                None => return handled,
            }
        }
    }

    /// Handles the message at head, or gives it up.
    #[inline(always)]
    fn take(&self, session: &Session<'_>, received: &Received, phase: Phase, control: u32) {
        if received.is_skipped() {
            return;
        }
        if phase == Phase::Discard {
            let letter = Letter { header: received.header, ..end_letter(self.kernel, control) };
            self.count_late(control);
            return self.give_up(received, letter);
        }
        if received.meta != 0 && monotonic_ns() > received.meta {
            let reason = RK_DEAD_EXPIRED;
            return self.give_up(received, self.letter(received, reason, RK_ERR_TIMEOUT));
        }
        if received.token != 0 {
            calls::fetch(received.token);
        }
        let message = super::message::input_view(received, self.index);
        let (status, replied) = session
            .handle(Some(received), |ctx, replied| (self.kernel.code.message(ctx, &message), replied.get()));
        match status {
            RK_OK => {
                self.block.counters.processed.bump();
                if received.token != 0 && !replied {
                    self.note_unanswered(received.token);
                }
            }
            status => {
                self.block.counters.failed.bump();
                self.give_up(received, self.letter(received, RK_DEAD_HANDLER, status));
                if status == RK_ERR_KERNEL_FAILED {
                    self.has_failed(status);
                } else {
                    self.kernel.last_error.store(status, Ordering::Relaxed);
                }
            }
        }
    }

    pub(super) fn letter(&self, received: &Received, reason: u32, status: RkStatus) -> Letter {
        Letter {
            kernel: self.kernel.handle,
            block: self.index,
            deadline_ns: received.meta,
            header: received.header,
            reason,
            status,
        }
    }

    /// A message becomes a dead letter, and its call ends.
    pub(super) fn give_up(&self, received: &Received, letter: Letter) {
        let letter = Letter { block: self.index, deadline_ns: received.meta, ..letter };
        // SAFETY: the message is at head, published and not released.
        let payload =
            unsafe { std::slice::from_raw_parts(received.payload, received.header.payload_size as usize) };
        self.kernel.dead_letter(letter, payload, received.token);
    }

    /// Remembers a call that was not answered, to end it when the kernel ends. Those that ended by their
    /// timeout are forgotten again, so the list stays as short as the calls in progress.
    pub(super) fn note_unanswered(&self, token: u64) {
        let mut unanswered = self.body.extra().unanswered.borrow_mut();
        if unanswered.len() == unanswered.capacity() {
            unanswered.retain(|token| calls::is_open(*token));
        }
        unanswered.push(token);
    }

    /// With no message at head while the kernel ends: `None` to go on, or how the turns end.
    fn try_end(&self, is_out: bool) -> Option<After> {
        if let Some(ring) = self.block.input.get().filter(|ring| !ring.is_drained()) {
            // A sender is between claim and publish and wakes the block afterwards; or it is a loan.
            return if lease::revoke_at_head(self.kernel, self.index, ring) {
                None
            } else {
                Some(After::Idle)
            };
        }
        if !is_out {
            if self.body.posted() != 0 {
                self.block.hold(KEEPS, true);
            }
            return Some(After::Idle);
        }
        if !self.body.stopped.replace(true) && self.block.started.load(Ordering::Relaxed) {
            if !self.stop() {
                self.kernel.fail(RK_ERR_KERNEL_FAILED);
            }
            // It may have emitted.
            return None;
        }
        let status = self.kernel.ended_error().status();
        let reason = if status == RK_ERR_KERNEL_FAILED { RK_DEAD_HANDLER } else { RK_DEAD_TERMINATED };
        let unanswered = self.body.extra.get().map(|extra| extra.unanswered.take());
        unanswered.into_iter().flatten().for_each(|token| calls::fail(token, status, reason));
        Some(After::Done)
    }
}

/// The reason and status of what is left when a kernel ends.
pub(super) fn end_letter(kernel: &Kernel, control: u32) -> Letter {
    let (reason, status) = match kernel.state() {
        super::KernelState::Failed => (RK_DEAD_HANDLER, RK_ERR_KERNEL_FAILED),
        _ if control & SHUTDOWN != 0 => (RK_DEAD_SHUTDOWN, RK_ERR_SHUTDOWN),
        _ => (RK_DEAD_TERMINATED, RK_ERR_TERMINATED),
    };
    let header = crate::ring::Header::default();
    Letter { kernel: kernel.handle, block: 0, deadline_ns: 0, header, reason, status }
}
