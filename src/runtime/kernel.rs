//! A kernel: its rings, its blocks, its state word. What senders and receivers do with it is here; what runs
//! it is in `block.rs`, what commands it in `command.rs`.
//!
//! # The control word
//! One atomic: the state (8 bits) and flags. It is written under `verbs` only, so verbs are serial; it is read
//! without a lock by everybody. DISCARD: queued input becomes dead letters. HARD: kept output too, because a
//! terminate ran out of time or the kernel failed. SHUTDOWN: the reason is the runtime's. HELD: a checkpoint or a
//! restore lets no handler run; only with a state that accepts messages, and an end takes it away (`checkpoint.rs`).
//!
//! # Rings come late
//! An idle kernel has no rings. The first sender of a block makes its ring, under `verbs`, where `closed` tells
//! it when it is too late: a ring made after the kernel was closed would take messages that nobody drains. A ring that has been
//! idle for a while is without its slots (`queues.rs`).
//!
//! # Who waits on what
//! `space`: senders for room in an input ring; notified after each message that a runner took. `readable`:
//! receivers; notified after each emission and at the end. `lifecycle`: `rk_wait`, `rk_deactivate`; notified
//! on every change of state and whenever a runner leaves a block. Blocks never wait: a block whose output has
//! no room is *stalled* and is *poked* by whoever makes room (see `block.rs`).

use std::collections::BTreeMap;
use std::task::Waker;

use once_cell::race::OnceBox;

use super::block::Block;
use super::blocks::Blocks;
use super::callback::{Code, UserPointer};
use super::checkpoint::{self, Checkpoint};
use super::control::Timer;
use super::core::Core;
use super::dead::Letter;
use super::handle::KernelHandle;
use super::lifecycle::{ACCEPTING, AT_WORK, KernelState};
use super::message::Outgoing;
use super::options::{Backend, LaunchOptions, Mode};
use super::program::Program;
use super::queues;
use super::route::Routes;
use super::supervise::Restarts;
use crate::clock::HybridClock;
use crate::error::{Error, Result};
use crate::layout::*;
use crate::limits::BATCH_MAX;
use crate::metrics::Sums;
use crate::ring::{ClaimError, EventCount, Header, Ring, RingPlace};
use crate::sync::{
    Arc, AtomicBool, AtomicI32, AtomicU32, AtomicU64, Label, Mutex, Ordering, Weak, light_fence, lock,
};

/// Low bits of the control word: the state, and HELD, with which it is none that runs.
pub(crate) const STATE: u32 = 0xff;
/// No handler runs, whatever the state: somebody copies the blocks' states.
pub(crate) const HELD: u32 = 1 << 7;
/// Queued input becomes dead letters.
pub(crate) const DISCARD: u32 = 1 << 8;
/// Kept output becomes dead letters too.
pub(crate) const HARD: u32 = 1 << 9;
/// The runtime is shutting down.
pub(crate) const SHUTDOWN: u32 = 1 << 10;
/// DISCARD was set because a drain ran out of time: what is discarded now makes it a timeout.
pub(crate) const LATE: u32 = 1 << 11;
/// From here on up: how often it was activated, so that a pause that was undone and made again can be told from one that lasted.
pub(crate) const ACTIVATION: u32 = 1 << 16;
/// A terminate ran out of time: kept output that is dropped now makes it a timeout.
pub(crate) const OVERDUE: u32 = 1 << 12;

/// What makes the blocks of a kernel run; a backend's.
pub(crate) trait Driver: Send + Sync {
    /// Makes sure that an idle block runs soon.
    fn schedule(&self, kernel: &Kernel, block: u32);

    /// The same for who made work and has passed no fence since; false: nothing was done.
    fn schedule_at_once(&self, _kernel: &Kernel, _block: u32) -> bool {
        false
    }

    /// Puts a block whose gate is QUEUED back into the queue.
    fn requeue(&self, kernel: Arc<Kernel>, block: u32);

    /// The gate of a block that runs elsewhere was left, with nothing to do.
    fn left(&self, _kernel: &Kernel, _block: u32) {}

    /// Whether this thread has something else to do than to wait for the next message of the block it runs.
    fn has_other_work(&self) -> bool {
        false
    }

    /// Pokes a block once a point in time has come, unless what this returns is dropped before.
    fn poke_at(&self, kernel: &Arc<Kernel>, block: u32, due_ns: u64) -> Option<Timer> {
        // By its handle: a timer keeps no memory of a kernel that is gone.
        let handle = KernelHandle::new(kernel.handle);
        Some(kernel.core.control.timer(due_ns, move || {
            let _ = handle.with(|kernel| {
                kernel.poke(block);
                Ok(())
            });
        }))
    }

    /// Looks at queues that may be idle once a point in time has come (`queues.rs`).
    fn sweep_at(&self, core: &Arc<Core>, due_ns: u64) {
        queues::sweep_later(core, due_ns);
    }

    /// The control word was written. Under the verbs lock, so calls come in the order of the writes.
    fn commanded(&self, _kernel: &Kernel) {}

    /// A route was added (with its target) or has ended; under no lock.
    fn routed(&self, _kernel: &Kernel, _route: u32, _target: Option<&Kernel>) -> Result<()> {
        Ok(())
    }

    /// All blocks have ended; nobody knows yet.
    fn ended(&self, _kernel: &Kernel) {}

    /// Takes the last step of an end on a thread where the application's code may wait for anything; false: it can be taken
    /// here.
    fn finish_elsewhere(&self, _kernel: &Kernel) -> bool {
        false
    }

    /// Gets ready to copy states; under no lock, before anything is held up.
    fn prepare_copy(&self, _kernel: &Kernel) -> Result<()> {
        Ok(())
    }

    /// A block that runs elsewhere is about to begin anew: makes ready what it begins with; false: states are being copied, and who does
    /// that pokes the block afterwards.
    fn stage_state(&self, _kernel: &Kernel, _index: u32) -> bool {
        true
    }

    /// A restore was refused: makes ready again what blocks that run elsewhere begin anew with. Under the verbs lock.
    fn stage_states(&self, _kernel: &Kernel) {}

    /// Copies the states of all blocks out, one after the other. No handler runs; under the verbs lock.
    fn save_states(&self, kernel: &Kernel, states: &mut [u8]) -> Result<()> {
        checkpoint::save_here(kernel, states);
        Ok(())
    }

    /// Gives all blocks the states of the last checkpoint, or, with an error other than `NoAnswer`, none of them. No handler runs;
    /// under the verbs lock.
    fn load_states(&self, kernel: &Kernel) -> Result<()> {
        (0..kernel.options.grid_size).for_each(|index| checkpoint::reset_state(kernel, index));
        Ok(())
    }

    /// Adds what only the backend knows.
    fn measure(&self, _kernel: &Kernel, _metrics: &mut RkKernelMetrics) {}
}

/// What a runner is to do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Phase {
    /// Nothing.
    Rest,
    /// Handle messages.
    Run,
    /// Handle what is queued, then end.
    Drain,
    /// Turn what is queued into dead letters, then end.
    Discard,
}

/// Guarded by the verbs lock.
#[derive(Debug, Default)]
pub(crate) struct Verbs {
    /// No rings are made any more.
    pub(crate) closed: bool,
}

/// See the file's head.
pub(crate) struct Kernel {
    pub(crate) handle: u64,
    pub(crate) backend: Backend,
    pub(crate) id: Arc<str>,
    /// Where the registry has it.
    pub(crate) place: AtomicU32,
    pub(crate) core: Arc<Core>,
    pub(crate) driver: Arc<dyn Driver>,
    me: Weak<Kernel>,
    pub(crate) options: LaunchOptions,
    pub(crate) code: Code,
    pub(crate) user_data: UserPointer,
    pub(crate) program: Mutex<Option<Arc<Program>>>,
    pub(crate) control: AtomicU32,
    pub(crate) verbs: Mutex<Verbs>,
    pub(crate) blocks: Blocks,
    pub(crate) output: RingPlace,
    /// Index in the table of leases of the output ring, 0 = none.
    pub(crate) output_lease: AtomicU32,
    pub(crate) output_base: AtomicU64,
    pub(crate) lifecycle: EventCount,
    pub(crate) space: EventCount,
    pub(crate) readable: EventCount,
    /// Blocks that have not ended.
    pub(crate) live_blocks: AtomicU32,
    /// All blocks have ended and everybody may know.
    pub(crate) ended: AtomicBool,
    /// Blocks of this kernel that wait for room in its output ring.
    pub(crate) stalled: AtomicU32,
    pub(crate) waiting_count: AtomicU32,
    next_block: AtomicU32,
    pub(crate) routes: Routes,
    pub(crate) clock: HybridClock,
    pub(crate) launched_ns: u64,
    pub(crate) ended_ns: AtomicU64,
    pub(crate) last_error: AtomicI32,
    pub(crate) dead: AtomicU64,
    /// Bytes of state of each block.
    pub(crate) state_size: usize,
    /// Messages that became dead letters because a terminate ran out of time.
    pub(crate) discarded_late: AtomicU64,
    pub(crate) destroyed: AtomicBool,
    /// The event queue has a watch of it.
    pub(crate) watched: AtomicBool,
    pub(super) extra: OnceBox<Extra>,
}

/// What most kernels do not need for most of their life.
#[derive(Default)]
pub(crate) struct Extra {
    /// Blocks of any kernel that wait for room in this kernel's input.
    pub(crate) waiting: Mutex<Vec<(Weak<Kernel>, u32)>>,
    /// What was added to the runtime's sums when the kernel was forgotten.
    pub(crate) folded: Mutex<Option<Sums>>,
    /// Who waits for the end, by numbers of their own.
    pub(crate) enders: Mutex<BTreeMap<u64, Waker>>,
    pub(crate) restarts: Restarts,
    /// What was checkpointed or restored last.
    pub(crate) checkpoint: Mutex<Option<Arc<Checkpoint>>>,
}

/// What a kernel is made of.
pub(crate) struct Parts {
    /// Which backend runs it; never AUTO.
    pub(crate) backend: Backend,
    pub(crate) id: Arc<str>,
    pub(crate) core: Arc<Core>,
    pub(crate) driver: Arc<dyn Driver>,
    pub(crate) options: LaunchOptions,
    pub(crate) program: Arc<Program>,
    pub(crate) blocks: Blocks,
}

/// The kernel that a message comes from.
#[derive(Clone, Copy)]
pub(crate) struct Source<'a> {
    pub(crate) kernel: &'a Kernel,
    /// When it was sent, if that was before now.
    pub(crate) stamp: Option<RkTimestamp>,
}

impl Kernel {
    pub(crate) fn new(handle: u64, parts: Parts) -> Arc<Self> {
        Arc::new_cyclic(|me| Self {
            handle,
            backend: parts.backend,
            id: parts.id,
            place: AtomicU32::new(0),
            core: parts.core,
            driver: parts.driver,
            me: Weak::clone(me),
            // Functions of this process are for blocks that run in it.
            code: if parts.backend == Backend::Cpu { parts.program.code } else { Code::NONE },
            user_data: parts.program.user_data.pointer,
            control: AtomicU32::new(RK_STATE_CREATED),
            verbs: Mutex::new(Verbs::default()),
            live_blocks: AtomicU32::new(parts.options.grid_size),
            options: parts.options,
            blocks: parts.blocks,
            output: RingPlace::new(),
            output_lease: AtomicU32::new(0),
            output_base: AtomicU64::new(0),
            lifecycle: EventCount::new(),
            space: EventCount::new(),
            readable: EventCount::new(),
            ended: AtomicBool::new(false),
            stalled: AtomicU32::new(0),
            waiting_count: AtomicU32::new(0),
            next_block: AtomicU32::new(0),
            routes: Routes::new(),
            clock: HybridClock::new(Core::next_node()),
            launched_ns: crate::sync::monotonic_ns(),
            ended_ns: AtomicU64::new(0),
            last_error: AtomicI32::new(RK_OK),
            dead: AtomicU64::new(0),
            state_size: parts.program.state_size,
            discarded_late: AtomicU64::new(0),
            destroyed: AtomicBool::new(false),
            watched: AtomicBool::new(false),
            extra: OnceBox::new(),
            program: Mutex::new(Some(parts.program)),
        })
    }

    /// A share of this kernel; `None` while it is being freed.
    pub(crate) fn share(&self) -> Option<Arc<Self>> {
        self.me.upgrade()
    }

    /// Made if need be.
    pub(crate) fn extra(&self) -> &Extra {
        self.extra.get_or_init(Box::default)
    }

    /// If it was made.
    pub(crate) fn known_extra(&self) -> Option<&Extra> {
        self.extra.get()
    }

    pub(crate) fn control(&self) -> u32 {
        self.control.load(Ordering::SeqCst)
    }

    pub(crate) fn state(&self) -> KernelState {
        KernelState::from_code(self.state_code())
    }

    /// Its number, one of `RK_STATE_*`.
    #[inline(always)]
    pub(crate) fn state_code(&self) -> u32 {
        self.control() & (STATE & !HELD)
    }

    /// What a control word means to a runner.
    #[inline(always)]
    pub(crate) fn phase(control: u32) -> Phase {
        match control & STATE {
            RK_STATE_ACTIVE => Phase::Run,
            RK_STATE_TERMINATING if control & DISCARD != 0 => Phase::Discard,
            RK_STATE_TERMINATING => Phase::Drain,
            RK_STATE_FAILED => Phase::Discard,
            _ => Phase::Rest,
        }
    }

    /// Whether that phase leads to the end.
    pub(crate) fn ends(phase: Phase) -> bool {
        matches!(phase, Phase::Drain | Phase::Discard)
    }

    /// Whether its blocks run elsewhere.
    pub(crate) fn is_remote(&self) -> bool {
        self.backend != Backend::Cpu
    }

    pub(crate) fn block(&self, index: u32) -> &Block {
        &self.blocks[index as usize]
    }

    /// Whether waiting callers may run its handlers.
    pub(crate) fn may_be_helped(&self) -> bool {
        self.options.mode == Mode::EventDriven && !self.is_remote() && !self.options.has(RK_LAUNCH_NO_HELP)
    }

    /// Why a kernel in its present state takes part in nothing.
    pub(crate) fn ended_error(&self) -> Error {
        if let Some(lost) = self.core.lost.get()
            && self.state() == KernelState::Failed
        {
            return Error::KernelLost { kernel: Arc::clone(&self.id), cause: Arc::new(Error::clone(lost)) };
        }
        match self.state() {
            KernelState::Failed => Error::KernelFailed {
                kernel: Arc::clone(&self.id),
                status: self.last_error.load(Ordering::Relaxed),
            },
            state => Error::Terminated { kernel: Arc::clone(&self.id), state: state.name() },
        }
    }

    pub(crate) fn full_error(&self) -> Error {
        let capacity = u64::from(self.options.input_capacity);
        Error::Full { queue: "the input queue", kernel: Arc::clone(&self.id), capacity }
    }

    pub(crate) fn check_accepts(&self) -> Result<()> {
        if self.state().accepts() { Ok(()) } else { Err(self.ended_error()) }
    }

    pub(crate) fn check_size(&self, size: usize) -> Result<()> {
        let limit = self.options.payload_max as usize;
        if size > limit { Err(Error::TooLarge { kernel: Arc::clone(&self.id), size, limit }) } else { Ok(()) }
    }

    /// The block to try first, and how many.
    pub(crate) fn targets(&self, block: u32) -> Result<(u32, u32)> {
        let grid = self.options.grid_size;
        match block {
            RK_ANY_BLOCK if grid == 1 => Ok((0, 1)),
            RK_ANY_BLOCK => Ok((self.next_block.fetch_add(1, Ordering::Relaxed) % grid, grid)),
            block if block < grid => Ok((block, 1)),
            block => Err(Error::NoBlock { kernel: Arc::clone(&self.id), block, count: grid }),
        }
    }

    /// The input ring of a block, made if need be.
    #[inline]
    pub(crate) fn input(&self, block: u32) -> Result<&Ring> {
        match self.block(block).input.get() {
            Some(ring) => Ok(ring),
            None => self.make_input(block),
        }
    }

    /// The output ring, made if need be.
    pub(crate) fn output(&self) -> Result<&Ring> {
        match self.output.get() {
            Some(ring) => Ok(ring),
            None => self.make_output(),
        }
    }

    /// The header of a message from the host or another kernel.
    #[inline(always)]
    pub(crate) fn input_header(&self, message: &Outgoing<'_>, source: Option<Source<'_>>) -> Header {
        Header {
            correlation: message.correlation,
            source: source.map_or(0, |source| source.kernel.handle),
            payload_size: message.payload.len() as u32,
            tag: message.tag,
            timestamp: match source {
                _ if !self.options.has(RK_LAUNCH_TIMESTAMPS) => RkTimestamp::default(),
                None => self.stamp_of_host(),
                Some(source) => Self::stamp_of(source),
            },
        }
    }

    /// Puts a message into the queue of a block, if there is room, and makes that block run.
    #[inline]
    pub(crate) fn try_send(
        &self,
        message: &Outgoing<'_>,
        token: u64,
        source: Option<Source<'_>>,
    ) -> Result<u32> {
        let block = self.put(message, token, source)?;
        self.announce(block);
        Ok(block)
    }

    /// The same without the fence that comes before a look at the gate: for who enters it at once, which is a fence.
    #[inline]
    pub(crate) fn put(&self, message: &Outgoing<'_>, token: u64, source: Option<Source<'_>>) -> Result<u32> {
        self.check_accepts()?;
        self.check_size(message.payload.len())?;
        let (first, tries) = self.targets(message.block)?;
        for offset in 0..2 * tries {
            let block = (first + offset) % self.options.grid_size;
            // If there is a choice, blocks that wait for their restart come last; then all are tried, for one may have come back.
            if offset < tries && tries > 1 && self.block(block).rests() {
                continue;
            }
            if offset >= tries && tries == 1 {
                break;
            }
            let ring = self.input(block)?;
            // A stamp that is not used is a gap in the clock, and no more.
            let header = self.input_header(message, source);
            let put = || match source {
                None => ring.put(&header, message.payload, token, message.deadline_ns),
                Some(_) => ring.put_foreign(&header, message.payload, token, message.deadline_ns),
            };
            let mut result = put();
            while result == Err(ClaimError::Parked) {
                self.unpark(ring)?;
                result = put();
            }
            match result {
                Ok(()) => return Ok(block),
                Err(ClaimError::Full | ClaimError::Parked) => {}
                Err(ClaimError::Closed) => {
                    self.was_refused(block, ClaimError::Closed);
                    return Err(self.ended_error());
                }
            }
        }
        Err(self.full_error())
    }

    /// [`Kernel::try_send`] of a message of the host or another kernel, where nothing is in the way. False: nothing was done.
    #[inline(always)]
    pub(crate) fn quick_send(&self, message: &Outgoing<'_>, source: Option<&Kernel>) -> bool {
        let Some((block, ring)) = self.quick_target(message) else { return false };
        let is_foreign = source.is_some();
        let header = self.input_header(message, source.map(|kernel| Source { kernel, stamp: None }));
        let put = match is_foreign {
            false => ring.put(&header, message.payload, 0, message.deadline_ns),
            true => ring.put_foreign(&header, message.payload, 0, message.deadline_ns),
        };
        if let Err(error) = put {
            return self.was_refused(block, error);
        }
        if is_foreign {
            self.block(block).gate.work_was_made_by_rmw();
            self.wake(block);
        } else {
            self.announce(block);
        }
        true
    }

    /// The same for up to `count` messages that go to the block of the first; how many were sent. `message` gives one of at most so
    /// many bytes.
    #[inline(always)]
    pub(crate) fn quick_send_run<'a>(
        &self,
        count: usize,
        message: impl Fn(usize, usize) -> Option<Outgoing<'a>>,
    ) -> usize {
        let limit = self.options.payload_max as usize;
        let Some(first) = message(0, limit) else { return 0 };
        let Some((block, ring)) = self.quick_target(&first) else { return 0 };
        let count = count.min(BATCH_MAX);
        let mut run = 1;
        while run < count && message(run, limit).is_some_and(|message| message.block == first.block) {
            run += 1;
        }
        let mut claim = match ring.claim_batch(run as u64) {
            Ok(claim) => claim,
            Err(error) => return usize::from(self.was_refused(block, error)),
        };
        let claimed = claim.remaining() as usize;
        for index in 0..claimed {
            // Read again, so checked again: it is the application's memory.
            match message(index, limit) {
                Some(message) => {
                    let header = self.input_header(&message, None);
                    claim.publish(&header, message.payload, 0, message.deadline_ns);
                }
                None => claim.skip(),
            }
        }
        drop(claim);
        self.announce(block);
        claimed
    }

    /// After a claim of a block's input that failed; false. An ending block may have waited for what was claimed.
    #[cold]
    pub(crate) fn was_refused(&self, block: u32, error: ClaimError) -> bool {
        if error == ClaimError::Closed {
            self.announce(block);
        }
        false
    }

    /// Where a message of the host goes, if that takes no more than a look.
    #[inline(always)]
    pub(crate) fn quick_target(&self, message: &Outgoing<'_>) -> Option<(u32, &Ring)> {
        let options = &self.options;
        let block = if message.block == RK_ANY_BLOCK && options.grid_size == 1 { 0 } else { message.block };
        let is_plain = KernelState::is_among(self.control(), ACCEPTING)
            && message.payload.len() <= options.payload_max as usize
            && block < options.grid_size;
        if is_plain { Some((block, self.block(block).input.get()?)) } else { None }
    }

    /// Makes a block run if it rests, after work for it was made.
    #[inline]
    pub(crate) fn announce(&self, block: u32) {
        let gate = &self.block(block).gate;
        // A state that was read too early does no harm: one that runs makes a runner look at the state, and one that rests goes the
        // way with a fence.
        if gate.may_be_queued_at_once()
            && KernelState::is_among(self.control(), AT_WORK)
            && self.driver.schedule_at_once(self, block)
        {
            return;
        }
        gate.work_was_made();
        if gate.is_idle() && KernelState::is_among(self.control(), AT_WORK) {
            self.driver.schedule(self, block);
        }
    }

    /// Makes a block run if it rests; after `work_was_made` of its gate.
    #[inline]
    pub(crate) fn wake(&self, block: u32) {
        if self.block(block).gate.is_idle() && KernelState::is_among(self.control(), AT_WORK) {
            self.driver.schedule(self, block);
        }
    }

    /// Tells a stalled block that there may be room. Works in every state: kept output may leave a paused
    /// kernel.
    pub(crate) fn poke(&self, block: u32) {
        self.block(block).poked.store(true, Ordering::SeqCst);
        self.block(block).gate.work_was_made();
        if self.block(block).gate.is_idle() {
            self.driver.schedule(self, block);
        }
    }

    /// After a slot of the output ring was released.
    #[inline]
    pub(crate) fn output_was_released(&self) {
        light_fence(Label::E1);
        if self.stalled.load(Ordering::Relaxed) != 0 {
            self.poke_stalled();
        }
    }

    #[cold]
    fn poke_stalled(&self) {
        for index in 0..self.options.grid_size {
            if self.block(index).stalled.load(Ordering::SeqCst) {
                self.poke(index);
            }
        }
    }

    /// After a slot of an input ring was released.
    #[inline]
    pub(crate) fn input_was_released(&self) {
        self.space.notify_all();
        if self.waiting_count.load(Ordering::Relaxed) != 0 {
            self.poke_waiting();
        }
    }

    #[cold]
    pub(crate) fn poke_waiting(&self) {
        let waiting = {
            let mut waiting = lock(&self.extra().waiting);
            self.waiting_count.store(0, Ordering::Relaxed);
            std::mem::take(&mut *waiting)
        };
        for (kernel, block) in waiting {
            if let Some(kernel) = kernel.upgrade() {
                kernel.poke(block);
            }
        }
    }

    /// Counts and keeps what could not be handled.
    pub(crate) fn dead_letter(&self, letter: Letter, payload: &[u8], token: u64) {
        self.dead.fetch_add(1, Ordering::Relaxed);
        self.core.dead_letter(letter, payload, token);
    }
}

impl Drop for Kernel {
    fn drop(&mut self) {
        // What was counted after the kernel was forgotten: by a handler that outlived its destroy.
        let folded = self.extra.get().and_then(|extra| lock(&extra.folded).take());
        if let Some(folded) = folded {
            let late = self.sums().since(&folded);
            self.core.add_past(&late);
        }
    }
}
