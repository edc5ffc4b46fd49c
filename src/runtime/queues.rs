//! Queues that are used and queues that are not: memory comes with the first message and goes when a kernel is idle.
//!
//! # Policy
//! A kernel's input queue gets its memory when somebody sends. Who runs the block looks at it before it leaves ([`Lending`]):
//! * If the block was idle for [`QUEUE_RARE_MS`] before, a short queue that is empty again gives its memory back at once. So a wave of
//!   messages through a million kernels touches as much memory as there are queues in use at a time, and finds it in the
//!   cache; a kernel that gets a message now and then pays some 200 ns for each.
//! * Otherwise it is *noted*, in the order in which it was last seen to be used, and keeps its memory. Who needs memory for a short
//!   queue, finds none that was given back, and would take what was never used, looks at the oldest [`QUEUE_LOOKS`] noted ones of that
//!   shape; those that have been idle for [`QUEUE_LENDS_NS`] give theirs. (Second chance in one list: F. Corbató, "A Paging Experiment with
//!   the Multics System", 1968; to wait for so long as it costs to give back and get again is the rule of the ski rental.)
//! * The control thread looks once in [`QUEUE_IDLE_NS`] at what is noted and takes the memory of what was idle all that time. Short
//!   queues' memory is for other queues; that of longer ones (more than [`ARENA_PIECE_MAX`](crate::limits::ARENA_PIECE_MAX)
//!   bytes) goes back to the system, page by page. A queue in which something waits is forgotten until it is used, an output queue in which
//!   something waits, or of which something is out, is looked at again after [`QUEUE_KEPT_NS`]. If nothing is noted, it does not look.
//! * A kernel that has ended keeps what its queues have until it is destroyed.
//!
//! # Argument
//! What is noted is a handle, a block, and the position of its ring's head at that time. A queue that is empty and whose head has not
//! moved was idle. To take its memory one enters the block's gate (IDLE → RUNNING), as a runner does, so the block has no other runner
//! meanwhile, and whoever waits for it waits for a few steps; `park.rs` has why no sender and no receiver is
//! hurt. Who leaves the gate looks for work again, like every runner, and leaves that to a worker.
//!
//! Whether a queue is noted is known inside the gate. Memory comes with a message, or a place for one, which makes the block run; so a
//! queue with memory is noted, or its block will run and note it. Who takes a note out either puts it back or, inside the
//! gate, takes the memory and says that it is not noted any more. What a destroyed kernel leaves here is its handle, which is
//! found to be stale.
//!
//! Input queues of event-driven kernels on the CPU only: a persistent block never leaves its gate, and a device reads its queue by
//! itself. Output queues of all kernels, if they are long: whoever finds one empty and everything released may give its pages back, for
//! which no gate is needed (`park.rs`). It is noted when it is made and by who lets claims in again.

use std::collections::{BTreeMap, VecDeque};

use super::block::{self, Block};
use super::control::Timer;
use super::core::Core;
use super::handle::KernelHandle;
use super::kernel::Kernel;
use super::options::Mode;
use crate::error::{Error, Result};
use crate::layout::{RK_LAUNCH_SINGLE_SENDER, SLOT_HEADER_SIZE};
use crate::limits::{
    QUEUE_IDLE_NS, QUEUE_KEPT_NS, QUEUE_LENDS_NS, QUEUE_LOOKS, QUEUE_RARE_MS, QUEUE_SWEEP_NS,
    QUEUE_SWEEP_PAUSE_NS,
};
use crate::ring::{Claim, ClaimError, Memory, Ring, Slots};
use crate::sync::{Arc, AtomicBool, AtomicU32, Mutex, Ordering, lock, monotonic_coarse_ns, monotonic_ns};

/// A queue that had memory when it was noted.
#[derive(Debug)]
struct Noted {
    kernel: KernelHandle,
    block: u32,
    /// Where its head was, and since when at least.
    head: u64,
    since_ns: u64,
}

/// Which list a queue is in: short ones by size and number of their slots, as their memory is of use for others like them only.
type Shape = (usize, usize);
/// Long input queues, and output queues.
const LONG: Shape = (0, 0);
/// Output queues in which something stays; looked at more seldom.
const KEPT: Shape = (0, 1);

/// See the file's head.
#[derive(Debug, Default)]
pub(crate) struct Queues {
    /// Each by `since_ns`, the oldest first.
    noted: Mutex<BTreeMap<Shape, VecDeque<Noted>>>,
    /// The control thread will look.
    swept: AtomicBool,
    /// At that time.
    timer: Mutex<Option<Timer>>,
}

/// What a look at a queue found.
enum Found {
    /// It was used since.
    Used { head: u64 },
    /// Something is in it, and nobody will come by to note it.
    Kept,
    /// It has no memory any more, or is not ours.
    Gone,
}

impl Queues {
    /// Notes a queue that has got memory. If there is no room for the note, it keeps its memory.
    fn note(&self, kernel: &Kernel, block: u32, ring: &Ring) {
        let shape = match block != OUTPUT_RING && ring.is_short() {
            true => (kernel.options.input_capacity as usize, kernel.options.payload_max as usize),
            false => LONG,
        };
        let since_ns = monotonic_ns();
        let (kernel_handle, head) = (KernelHandle::new(kernel.handle), ring.head());
        self.put(shape, Noted { kernel: kernel_handle, block, head, since_ns });
        if !self.swept.load(Ordering::Relaxed) && !self.swept.swap(true, Ordering::SeqCst) {
            kernel.driver.sweep_at(&kernel.core, since_ns + QUEUE_IDLE_NS);
        }
    }

    fn put(&self, shape: Shape, noted: Noted) {
        let mut all = lock(&self.noted);
        let list = all.entry(shape).or_default();
        if list.try_reserve(1).is_ok() {
            list.push_back(noted);
        }
    }

    fn take_oldest(&self, shape: Shape, before_ns: u64) -> Option<Noted> {
        let mut all = lock(&self.noted);
        let list = all.get_mut(&shape)?;
        let is_old = list.front().is_some_and(|oldest| oldest.since_ns <= before_ns);
        let oldest = if is_old { list.pop_front() } else { None };
        if list.is_empty() {
            all.remove(&shape);
        }
        oldest
    }

    /// Takes the memory of the oldest queue of a list, if it has been idle since before `before_ns`; false: none may be that old.
    fn look_at_one(&self, shape: Shape, before_ns: u64) -> bool {
        let Some(oldest) = self.take_oldest(shape, before_ns) else { return false };
        match oldest.kernel.with(|kernel| Ok(take_memory(kernel, oldest.block, oldest.head))) {
            Ok(Found::Used { head }) => {
                let shape = if shape == KEPT { LONG } else { shape };
                self.put(shape, Noted { head, since_ns: monotonic_ns(), ..oldest });
            }
            Ok(Found::Kept) => {
                let since_ns = monotonic_ns() + QUEUE_KEPT_NS;
                self.put(KEPT, Noted { since_ns, ..oldest });
            }
            Ok(Found::Gone) | Err(_) => {}
        }
        true
    }

    /// Takes the memory of the oldest queues of all lists that have been idle since before `before_ns`, until `is_enough`. Whether more
    /// may be that old.
    pub(super) fn look(&self, before_ns: u64, mut is_enough: impl FnMut() -> bool) -> bool {
        let shapes: Vec<_> = lock(&self.noted).keys().copied().collect();
        for shape in shapes {
            while self.look_at_one(shape, before_ns) {
                if is_enough() {
                    return true;
                }
            }
        }
        false
    }

    /// Slots for a short queue.
    fn slots(&self, count: usize, payload: usize) -> Option<Slots> {
        if let Some(used) = Slots::used(count, payload) {
            return Some(used);
        }
        let before_ns = monotonic_ns().saturating_sub(QUEUE_LENDS_NS);
        for _ in 0..QUEUE_LOOKS {
            if !self.look_at_one((count, payload), before_ns) {
                break;
            }
            if let Some(used) = Slots::used(count, payload) {
                return Some(used);
            }
        }
        Slots::fresh(count, payload)
    }

    /// The control thread's look.
    fn sweep(&self, core: &Arc<Core>) {
        let now_ns = monotonic_ns();
        let mut looks = 0u32;
        let is_enough = || {
            looks += 1;
            looks.is_multiple_of(16) && monotonic_ns() - now_ns > QUEUE_SWEEP_NS
        };
        if self.look(now_ns.saturating_sub(QUEUE_IDLE_NS), is_enough) {
            return sweep_later(core, monotonic_ns() + QUEUE_SWEEP_PAUSE_NS);
        }
        let next_ns = || {
            let all = lock(&self.noted);
            let first = all.values().filter_map(VecDeque::front).map(|oldest| oldest.since_ns).min();
            first.map(|since_ns| since_ns + QUEUE_IDLE_NS)
        };
        if let Some(next_ns) = next_ns() {
            return sweep_later(core, next_ns.max(now_ns + QUEUE_IDLE_NS));
        }
        self.swept.store(false, Ordering::SeqCst);
        // What was noted before that relied on this.
        if let Some(next_ns) = next_ns()
            && !self.swept.swap(true, Ordering::SeqCst)
        {
            sweep_later(core, next_ns);
        }
    }
}

/// [`Queues::sweep`] on the control thread.
pub(super) fn sweep_later(core: &Arc<Core>, due_ns: u64) {
    let weak = Arc::downgrade(core);
    // Under the lock: if it comes at once, the timer that it makes itself is to stay, not this one.
    let mut timer = lock(&core.queues.timer);
    *timer = Some(core.control.timer(due_ns, move || {
        if let Some(core) = weak.upgrade() {
            core.queues.sweep(&core);
        }
    }));
}

/// Takes the memory of a queue, if it is as it was.
fn take_memory(kernel: &Kernel, index: u32, head: u64) -> Found {
    if index == OUTPUT_RING {
        let Some(ring) = kernel.output.get().filter(|_| !kernel.has_ended()) else { return Found::Gone };
        return match ring.head() == head {
            false => Found::Used { head: ring.head() },
            true if ring.park_released() => Found::Gone,
            true => Found::Kept,
        };
    }
    let block = kernel.block(index);
    let Some(ring) = block.input.get().filter(|ring| !ring.is_drained()) else { return Found::Gone };
    if ring.head() != head || !block.gate.enter_idle() {
        return Found::Used { head: ring.head() };
    }
    if ring.depth() != 0 {
        // A pause, or an open loan. Whoever empties it runs the block, and that notes it again.
        block.lending().set_settled(false);
        leave(kernel, block, index);
        return Found::Gone;
    }
    let parked = ring.park();
    if parked.is_some() {
        block.lending().set_settled(false);
    }
    leave(kernel, block, index);
    if parked.is_some() { Found::Gone } else { Found::Used { head: ring.head() } }
}

/// Leaves a gate that was entered here; what came meanwhile is a worker's.
fn leave(kernel: &Kernel, block: &Block, index: u32) {
    block::leave(kernel, block);
    if block::has_work(kernel, index) {
        kernel.driver.schedule(kernel, index);
    }
}

/// What the runner of a block knows of the memory of its queue: whether it is noted, or never gives its memory back, and when that was
/// looked at last, in steps of 2^20 ns. Used inside the gate only.
#[derive(Debug, Default)]
pub(super) struct Lending(AtomicU32);

const SETTLED: u32 = 1 << 31;

impl Lending {
    /// By the runner of a block that has nothing to do, before it leaves.
    #[inline(always)]
    pub(super) fn look(&self, kernel: &Kernel, index: u32, is_helped: bool) {
        if self.0.load(Ordering::Relaxed) & SETTLED == 0 {
            self.settle(kernel, index, is_helped);
        }
    }

    fn set_settled(&self, is_settled: bool) {
        let before = self.0.load(Ordering::Relaxed);
        self.0.store(before & !SETTLED | if is_settled { SETTLED } else { 0 }, Ordering::Relaxed);
    }

    /// Its queue gives its memory back, or is noted.
    #[inline(never)]
    fn settle(&self, kernel: &Kernel, index: u32, is_helped: bool) {
        let Some(ring) = kernel.block(index).input.get() else { return };
        if !kernel.lends(ring) {
            return self.set_settled(true);
        }
        if ring.is_parked() {
            return;
        }
        let now = (monotonic_coarse_ns() >> 20) as u32 & !SETTLED;
        let is_rare = now.wrapping_sub(self.0.load(Ordering::Relaxed)) & !SETTLED >= QUEUE_RARE_MS;
        self.0.store(now, Ordering::Relaxed);
        if is_rare && !is_helped && ring.is_short() && ring.park().is_some() {
            return;
        }
        self.set_settled(true);
        kernel.core.queues.note(kernel, index, ring);
    }
}

impl Kernel {
    /// Makes the input ring of a block that has none.
    #[cold]
    pub(super) fn make_input(&self, block: u32) -> Result<&Ring> {
        let verbs = lock(&self.verbs);
        if verbs.closed {
            return Err(self.ended_error());
        }
        match self.block(block).input.get() {
            Some(ring) => Ok(ring),
            None => {
                let put = self.block(block).input.put(self.make_input_ring()?);
                put.map(|(ring, _)| ring).ok_or_else(|| self.no_memory(self.options.input_capacity, INPUT))
            }
        }
    }

    /// Makes the output ring, if there is none.
    #[cold]
    pub(super) fn make_output(&self) -> Result<&Ring> {
        let ring = self.make_ring(self.options.output_capacity, OUTPUT)?;
        let put = self.output.put(ring);
        let (ring, is_new) = put.ok_or_else(|| self.no_memory(self.options.output_capacity, OUTPUT))?;
        if is_new && ring.has_pages() {
            self.core.queues.note(self, OUTPUT_RING, ring);
        }
        Ok(ring)
    }

    /// A place in the output ring.
    #[inline(always)]
    pub(super) fn claim_output<'a>(&self, ring: &'a Ring) -> std::result::Result<Claim<'a>, ClaimError> {
        match ring.claim() {
            Err(ClaimError::Parked) => self.unpark_output(ring),
            claimed => claimed,
        }
    }

    #[cold]
    fn unpark_output<'a>(&self, ring: &'a Ring) -> std::result::Result<Claim<'a>, ClaimError> {
        loop {
            if ring.unpark(None)? {
                self.core.queues.note(self, OUTPUT_RING, ring);
            }
            match ring.claim() {
                Err(ClaimError::Parked) => {}
                claimed => return claimed,
            }
        }
    }

    fn make_ring(&self, capacity: u32, what: &'static str) -> Result<Ring> {
        let ring = Ring::new(capacity, self.options.payload_max as usize);
        ring.ok_or_else(|| self.no_memory(capacity, what))
    }

    fn make_input_ring(&self) -> Result<Ring> {
        let (capacity, payload) = (self.options.input_capacity, self.options.payload_max as usize);
        let is_alone = self.options.has(RK_LAUNCH_SINGLE_SENDER);
        if is_alone || !self.has_gates() || !Slots::exist(capacity as usize, payload) {
            let ring = self.make_ring(capacity, INPUT)?;
            return Ok(if is_alone { ring.with_one_sender() } else { ring });
        }
        Ok(Ring::over(capacity, Memory::of_slots(self.slots()?)))
    }

    /// Gives the input ring of a block its memory back.
    #[cold]
    pub(super) fn unpark(&self, ring: &Ring) -> Result<()> {
        let (capacity, payload) = (self.options.input_capacity as usize, self.options.payload_max as usize);
        let slots = match Slots::exist(capacity, payload) {
            true => Some(self.slots()?),
            false => None,
        };
        // Closed: the next claim says so.
        let _ = ring.unpark(slots);
        Ok(())
    }

    fn no_memory(&self, capacity: u32, what: &'static str) -> Error {
        let slot = self.options.payload_max as usize + SLOT_HEADER_SIZE;
        Error::OutOfMemory { what, bytes: slot.saturating_mul(capacity as usize) }
    }

    /// Slots for a short input queue.
    fn slots(&self) -> Result<Slots> {
        let (capacity, payload) = (self.options.input_capacity, self.options.payload_max as usize);
        let slots = self.core.queues.slots(capacity as usize, payload);
        slots.ok_or_else(|| self.no_memory(capacity, INPUT))
    }

    /// Whether an empty input ring may be without its memory.
    fn lends(&self, ring: &Ring) -> bool {
        self.has_gates() && ring.can_be_parked()
    }

    /// Whether its blocks leave their gates when they are idle.
    fn has_gates(&self) -> bool {
        self.options.mode == Mode::EventDriven && !self.is_remote()
    }
}

/// In a note, in place of a block: the kernel's output.
const OUTPUT_RING: u32 = u32::MAX;

/// For errors.
const INPUT: &str = "an input queue";
const OUTPUT: &str = "the output queue";
