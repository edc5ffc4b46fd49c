//! A kernel on the device: its seats, its memory, its routes; what the runtime drives it by.
//!
//! # Memory of a kernel
//! ```text
//! mapped   tenants | first routes | express entries | input rings | outboxes      kept by the rings, for loans may outlive the kernel
//! mapped   routes beyond 64 (routes.rs)                    given back when the last block has ended
//! device   states | peer rings | large payloads           given back when the last block has ended
//! ```
//! A kernel with a block that never came to its end keeps all of it for ever. What states are copied through is mapped memory
//! that comes with the first checkpoint or restore and stays until the last block has ended: a copy that was given up may still be written.
//!
//! # Copies of states
//! Each block copies its own, asked by a command (D16 in the device's header): no call of the driver, which might wait for our own
//! resident kernels while they wait for it. A kernel that is launched for each batch is launched for it once, by the watch. Who asks
//! waits under the verbs lock, with a limit: the blocks are paused, so one that gives no answer never will. Nobody else waits with it: a
//! restart that would lay a state out meanwhile is put off until the copy is over, and a handler that hangs is given up before its kernel fails,
//! which ends the copy. The limit of a short launch begins when it is made; until then others may have all streams. A copy that was not launched is asked for no longer: before anything else can be launched for the
//! kernel, its seats are asked to pause again.
#![allow(unsafe_code)]

use super::device::{Device, Kind, Piece};
use super::pool::{Pool, Verb};
use super::pump::Shared;
use super::routes::{self, RouteTable};
use super::seat::{Outbox, Seat};
use crate::error::{Error, Result};
use crate::layout::*;
use crate::ring::{Express, Memory, Ring};
use crate::runtime::block::{self, Block};
use crate::runtime::blocks::Blocks;
use crate::runtime::checkpoint::{self, Checkpoint};
use crate::runtime::kernel::{Driver, Kernel, Phase};
use crate::runtime::remote::Remote;
use crate::runtime::{LaunchOptions, Mode};
use crate::sync::{Arc, AtomicBool, AtomicU64, Mutex, Ordering, RwLock, lock, monotonic_ns, yield_now};

/// Most records of an outbox, and most bytes of it beyond two.
const OUTBOX_RECORDS: u32 = 256;
const OUTBOX_BYTES: usize = 4 << 20;
/// Bytes of the entries of one direction.
const EXPRESS_BYTES: usize = EXPRESS_ENTRIES * EXPRESS_STRIDE;
/// Time for all blocks to copy their states, and for each byte of them: slower than any bus.
const COPY_NS: u64 = 5_000_000_000;
const COPY_BYTE_NS: u64 = 10;
/// Slots of a peer ring that nobody sends to.
const NO_PEERS: u32 = 2;

/// Where things are in a kernel's memory.
#[derive(Clone, Copy, Debug)]
struct Plan {
    grid: usize,
    stride: usize,
    input: u32,
    outbox: u32,
    peer: u32,
    state: usize,
    routes: usize,
    express: usize,
    inputs: usize,
    outboxes: usize,
    mapped: usize,
    peers: usize,
    inboxes: usize,
    device: usize,
}

impl Plan {
    /// `None` when the sizes are beyond any memory.
    fn new(options: &LaunchOptions, state_size: usize, once: bool) -> Option<Self> {
        let grid = options.grid_size as usize;
        let stride = SLOT_HEADER_SIZE + options.payload_max as usize;
        let fits = (OUTBOX_BYTES / stride).max(2);
        let outbox = options.output_capacity.min(OUTBOX_RECORDS).min(1 << fits.ilog2()).max(2);
        let peer = if once { NO_PEERS } else { options.input_capacity };
        let state = state_size.checked_next_multiple_of(64)?;
        let routes = grid * size_of::<SeatTenant>();
        let express = (routes + routes::FIRST).next_multiple_of(256);
        let inputs = express + 2 * grid * EXPRESS_BYTES;
        let of_all = |slots: u32| stride.checked_mul(slots as usize)?.checked_mul(grid);
        let outboxes = inputs.checked_add(of_all(options.input_capacity)?)?;
        let mapped = outboxes.checked_add(of_all(outbox)?)?;
        let peers = state.checked_mul(grid)?;
        let inboxes = peers.checked_add(of_all(peer)?)?;
        let device = inboxes.checked_add(grid.checked_mul(options.payload_max as usize)?)?;
        let limit = isize::MAX as usize / 2;
        (mapped < limit && device < limit).then_some(Self {
            grid,
            stride,
            input: options.input_capacity,
            outbox,
            peer,
            state,
            routes,
            express,
            inputs,
            outboxes,
            mapped,
            peers,
            inboxes,
            device,
        })
    }
}

/// See the file's head.
#[derive(Debug)]
pub(super) struct Resident {
    shared: Arc<Shared>,
    pub(super) pool: Arc<Pool>,
    first: u32,
    pub(super) seats: Vec<Arc<Seat>>,
    mapped: Arc<Piece>,
    device: Mutex<Option<Piece>>,
    device_bytes: u64,
    plan: Plan,
    pub(super) epoch: u64,
    payload_max: u32,
    pub(super) in_flight: Arc<AtomicBool>,
    /// What had moved in its blocks when they were looked at last, and when that was new.
    watched: AtomicU64,
    watched_since: AtomicU64,
    /// Short launches so far.
    pub(super) launches: AtomicU64,
    /// The seats are others' from then on. The lock is held by who writes their words and by who gives them away.
    is_gone: Mutex<bool>,
    /// Changes with every route that ends; goes with each message.
    version: Arc<AtomicU64>,
    routes: RouteTable,
    /// A route of a kernel on the device leads here, or did: messages may come that the host knows nothing of.
    pub(super) is_target: AtomicBool,
    /// What states are copied through, block by block.
    staging: Mutex<Option<Arc<Piece>>>,
    /// Written by who copies through that memory, as long as blocks may use all of it; read by who lays out the state of one block.
    copying: RwLock<()>,
    /// A short launch is wanted for a copy, and why there was none.
    pub(super) wants_copy: AtomicBool,
    pub(super) copy_error: Mutex<Option<Error>>,
}

/// The memory of a kernel: allocated before anything is launched for it.
pub(super) struct Allocated {
    plan: Plan,
    mapped: Arc<Piece>,
    device: Piece,
}

impl Allocated {
    /// What a kernel with these options needs.
    pub(super) fn new(on: &Arc<Device>, options: &LaunchOptions, state_size: usize) -> Result<Self> {
        let once = options.mode == Mode::EventDriven;
        let too_much = Error::OutOfMemory { what: "the queues of a kernel", bytes: usize::MAX };
        let plan = Plan::new(options, state_size, once).ok_or(too_much)?;
        let mapped = Arc::new(on.allocate(Kind::Mapped, plan.mapped)?);
        let device = on.allocate(Kind::Device, plan.device)?;
        Ok(Self { plan, mapped, device })
    }
}

impl Resident {
    /// The blocks of a kernel in seats that were taken from `first` on.
    pub(super) fn new(
        shared: &Arc<Shared>,
        pool: &Arc<Pool>,
        first: u32,
        options: &LaunchOptions,
        memory: Allocated,
    ) -> Result<(Arc<Self>, Blocks)> {
        let Allocated { plan, mapped, device } = memory;
        let in_flight = Arc::new(AtomicBool::new(false));
        let seats: Vec<_> = (0..plan.grid)
            .map(|block| {
                let shift = plan.outbox.trailing_zeros();
                let offset = plan.outboxes + block * (plan.stride << shift);
                let express = plan.express + (2 * block + 1) * EXPRESS_BYTES;
                let memory = Arc::clone(&mapped);
                let outbox = Outbox { memory, offset, express, shift, stride: plan.stride };
                Arc::new(Seat::new(pool, first + block as u32, outbox, &in_flight))
            })
            .collect();
        let version = Arc::new(AtomicU64::new(0));
        let blocks = Blocks::new(plan.grid, |block| {
            let seat = &seats[block];
            let offset = plan.inputs + block * plan.stride * plan.input as usize;
            let (slots, payload) = (plan.input as usize, options.payload_max as usize);
            // SAFETY: inside the piece, zeroed, and nobody else's; both here and below.
            let memory = unsafe {
                let base = mapped.host().add(plan.express + 2 * block * EXPRESS_BYTES);
                let express = Express { base, version: Arc::clone(&version) };
                let keeps = Box::new(Arc::clone(&mapped));
                Memory::over(mapped.host().add(offset), slots, payload, keeps, express)
            };
            Block::elsewhere(Ring::over(plan.input, memory), Arc::clone(seat) as Arc<dyn Remote>)
        });
        let bytes = size_of::<Block>() * plan.grid;
        let blocks = blocks.ok_or(Error::OutOfMemory { what: "the blocks of a kernel", bytes })?;
        let resident = Arc::new(Self {
            shared: Arc::clone(shared),
            pool: Arc::clone(pool),
            first,
            seats,
            device_bytes: device.size() as u64 + plan.grid as u64 * SEAT_SIZE as u64,
            routes: RouteTable::new(pool.device(), &mapped, plan.routes),
            is_target: AtomicBool::new(false),
            mapped,
            device: Mutex::new(Some(device)),
            plan,
            epoch: shared.next_epoch(),
            payload_max: options.payload_max,
            in_flight,
            watched: AtomicU64::new(0),
            watched_since: AtomicU64::new(0),
            launches: AtomicU64::new(0),
            is_gone: Mutex::new(false),
            version,
            staging: Mutex::new(None),
            copying: RwLock::new(()),
            wants_copy: AtomicBool::new(false),
            copy_error: Mutex::new(None),
        });
        Ok((resident, blocks))
    }

    /// Writes the descriptions of the blocks and prepares their seats; before the first command.
    pub(super) fn move_in(&self, kernel: &Kernel) {
        let plan = &self.plan;
        let device = lock(&self.device).as_ref().map_or(0, |piece| piece.device);
        let mapped = self.mapped.device;
        for (block, seat) in self.seats.iter().enumerate() {
            let ring = |base: u64, slots: u32| base + (block * plan.stride * slots as usize) as u64;
            let tenant = SeatTenant {
                kernel: kernel.handle,
                input: ring(mapped + plan.inputs as u64, plan.input),
                outbox: ring(mapped + plan.outboxes as u64, plan.outbox),
                peer: ring(device + plan.peers as u64, plan.peer),
                state: device + (block * plan.state) as u64,
                inbox: device + (plan.inboxes + block * self.payload_max as usize) as u64,
                routes: mapped + plan.routes as u64,
                seat0: self.pool.record(self.first),
                state_size: kernel.state_size as u64,
                epoch: self.epoch,
                express_in: mapped + (plan.express + 2 * block * EXPRESS_BYTES) as u64,
                express_out: mapped + (plan.express + (2 * block + 1) * EXPRESS_BYTES) as u64,
                input_shift: plan.input.trailing_zeros(),
                outbox_shift: plan.outbox.trailing_zeros(),
                peer_shift: plan.peer.trailing_zeros(),
                stride: plan.stride as u32,
                payload_max: self.payload_max,
                block: block as u32,
                blocks: kernel.options.grid_size,
                flags: kernel.options.flags,
                node: kernel.clock.node(),
                route_max: ROUTES_MAX,
                shared_size: kernel.options.shared_size,
                reserved: 0,
            };
            // SAFETY: the first part of the piece holds one description for each block.
            unsafe { self.mapped.host().cast::<SeatTenant>().add(block).write(tenant) };
            seat.move_in(mapped + (block * size_of::<SeatTenant>()) as u64);
        }
    }

    /// Whether a block that is launched for each batch would take a message now. What is claimed or lent is not published, and
    /// who publishes it wakes; a block that is held takes nothing, and who lets it go on wakes.
    pub(super) fn has_input(&self, kernel: &Kernel, block: u32) -> bool {
        let seat = &self.seats[block as usize];
        let taken = seat.taken();
        let is_there = |ring: &Ring| ring.tail() > taken && ring.is_published(taken);
        !seat.held.load(Ordering::Acquire) && kernel.block(block).input.get().is_some_and(is_there)
    }

    /// Of a kernel that is launched for each batch: whether nothing has moved in any of its blocks for `limit_ns` while a launch is there. A block that
    /// has found nothing more stands still until the last one of its launch has ended. By the pump.
    pub(super) fn is_hung(&self, now: u64, limit_ns: u64) -> bool {
        let moved = self.seats.iter().fold(0u64, |sum, seat| sum.wrapping_add(seat.moved()));
        let launched = self.pool.launched_since();
        if self.watched.swap(moved, Ordering::Relaxed) != moved || launched == 0 {
            self.watched_since.store(now, Ordering::Relaxed);
            return false;
        }
        // Nobody has looked while nothing was there.
        let since = self.watched_since.load(Ordering::Relaxed).max(launched);
        now.saturating_sub(since) > limit_ns && !self.seats.iter().all(|seat| seat.is_lost())
    }

    /// Whether every block has answered the last command.
    pub(super) fn is_answered(&self) -> bool {
        self.seats.iter().all(|seat| seat.is_answered())
    }

    /// Gives everything up at once: the device is lost, or a handler does not return.
    pub(super) fn give_up(&self, seat: &Seat) {
        seat.lost.store(true, Ordering::SeqCst);
        self.pool.be_stuck();
    }

    /// Makes every block copy its state to the staging memory (SAVE) or from there (LOAD). See the file's head.
    fn copy_states(&self, kernel: &Kernel, verb: Verb, staging: &Piece) -> Result<()> {
        // Under the verbs lock, and the kernel has not come to its end: nobody gives the seats away.
        if *lock(&self.is_gone) {
            return Err(kernel.ended_error());
        }
        *lock(&self.copy_error) = None;
        for (block, seat) in self.seats.iter().enumerate() {
            seat.copy(verb, staging.device + (block * self.plan.state) as u64);
        }
        if self.pool.shape.once {
            self.wants_copy.store(true, Ordering::SeqCst);
            self.shared.poke_watch();
        }
        let bytes = (self.plan.state * self.plan.grid) as u64;
        let limit = COPY_NS + bytes.saturating_mul(COPY_BYTE_NS);
        let mut deadline = monotonic_ns().saturating_add(limit);
        let mut waits_for_launch = self.pool.shape.once;
        let not_launched = || self.seats.iter().for_each(|seat| seat.ask(Verb::Pause));
        while !self.seats.iter().all(|seat| seat.has_copied()) {
            if let Some(error) = lock(&self.copy_error).take() {
                not_launched();
                return Err(error);
            }
            self.shared.core.check_device()?;
            if waits_for_launch && !self.wants_copy.load(Ordering::SeqCst) {
                // Before, others may have had all streams.
                waits_for_launch = false;
                deadline = monotonic_ns().saturating_add(limit);
            }
            let is_lost = self.seats.iter().any(|seat| seat.is_lost());
            if monotonic_ns() > deadline || is_lost {
                if self.wants_copy.swap(false, Ordering::SeqCst) {
                    not_launched();
                    let name = Arc::clone(&kernel.id);
                    return Err(Error::Timeout {
                        what: "a launch for its states",
                        name,
                        timeout_ns: COPY_NS,
                    });
                }
                if waits_for_launch && !is_lost {
                    // It was launched just now.
                    waits_for_launch = false;
                    deadline = monotonic_ns().saturating_add(limit);
                    continue;
                }
                return Err(Error::NoAnswer { kernel: Arc::clone(&kernel.id) });
            }
            yield_now();
        }
        Ok(())
    }

    /// Lays a state out for a block: of the last checkpoint, or zero.
    fn stage(&self, kernel: &Kernel, last: Option<&Checkpoint>, block: usize, staging: &Piece) {
        // SAFETY: the piece has a place for each block's state, and no block uses it before it is asked to.
        unsafe {
            let to = staging.host().add(block * self.plan.state).as_ptr();
            match last {
                Some(last) => {
                    std::ptr::copy_nonoverlapping(last.state(block as u32).as_ptr(), to, kernel.state_size);
                }
                None => to.write_bytes(0, self.plan.state),
            }
        }
    }

    /// The memory that states are copied through.
    fn staging(&self) -> Result<Arc<Piece>> {
        lock(&self.staging).clone().ok_or(Error::Internal { what: "no memory was made for a copy" })
    }

    /// Leaves the seats, once.
    pub(super) fn leave(&self) {
        let mut is_gone = lock(&self.is_gone);
        if std::mem::replace(&mut *is_gone, true) {
            return;
        }
        self.seats.iter().for_each(|seat| seat.freeze());
        let memory = lock(&self.device).take();
        if self.pool.is_stuck.load(Ordering::SeqCst) {
            // The device may still write to it.
            std::mem::forget(memory);
            std::mem::forget(Arc::clone(&self.mapped));
            std::mem::forget(lock(&self.staging).clone());
            self.routes.close(true);
            return;
        }
        self.pool.vacate(self.first, self.plan.grid as u32);
        drop(is_gone);
        self.routes.close(false);
        drop((memory, lock(&self.staging).take()));
    }
}

impl Driver for Resident {
    fn schedule(&self, _kernel: &Kernel, _block: u32) {
        self.shared.poke();
        if self.pool.shape.once {
            self.shared.poke_watch();
        }
    }

    fn requeue(&self, kernel: Arc<Kernel>, block: u32) {
        block::leave(&kernel, kernel.block(block));
        self.shared.poke();
    }

    fn left(&self, kernel: &Kernel, block: u32) {
        // Its sender may have found the gate occupied and told nobody.
        if kernel.block(block).input.get().is_some_and(|ring| ring.depth() > 0) {
            self.shared.poke();
        }
    }

    fn commanded(&self, kernel: &Kernel) {
        let is_gone = lock(&self.is_gone);
        if *is_gone {
            return;
        }
        for (index, seat) in self.seats.iter().enumerate() {
            match Kernel::phase(kernel.control()) {
                Phase::Rest => seat.ask(Verb::Pause),
                Phase::Run => seat.ask(Verb::Run),
                Phase::Drain => {
                    let tail = kernel.block(index as u32).input.get().map_or(0, Ring::tail);
                    seat.drain(tail);
                }
                Phase::Discard => seat.ask(Verb::Stop),
            }
        }
        drop(is_gone);
        self.shared.poke();
        if self.pool.shape.once {
            self.shared.poke_watch();
        }
    }

    fn routed(&self, kernel: &Kernel, route: u32, target: Option<&Kernel>) -> Result<()> {
        let Some(target) = target else {
            self.routes.remove(route);
            let is_gone = lock(&self.is_gone);
            if *is_gone {
                return Ok(());
            }
            let version = self.version.fetch_add(1, Ordering::SeqCst) + 1;
            self.seats.iter().for_each(|seat| seat.forget_routes(version));
            return Ok(());
        };
        let resident = self.shared.resident(target.handle);
        let direct = resident.filter(|resident| !resident.pool.shape.once);
        if let Some(direct) = &direct
            && !direct.is_target.swap(true, Ordering::SeqCst)
        {
            // Before the first message can be on its way there: the pump looks at it from now on.
            self.shared.poke();
        }
        let seats = direct.as_ref().map_or(0, |resident| resident.pool.record(resident.first));
        let epoch = direct.as_ref().map_or(0, |resident| resident.epoch);
        let payload_max = match direct {
            Some(_) => target.options.payload_max,
            None => target.options.payload_max.min(self.payload_max),
        };
        let stamps = u32::from(target.options.has(RK_LAUNCH_TIMESTAMPS)) << 16;
        let low = |word: u64| word as u32;
        let high = |word: u64| (word >> 32) as u32;
        // The fields of `SeatRoute`, in their order.
        let words = [
            low(target.handle),
            high(target.handle),
            low(seats),
            high(seats),
            target.options.grid_size,
            stamps | epoch as u32,
            payload_max,
            target.options.input_capacity,
        ];
        self.routes.add(route, &words, || kernel.routes.target(route) == Some(target.handle))
    }

    fn ended(&self, kernel: &Kernel) {
        self.leave();
        self.shared.forget(kernel);
    }

    fn finish_elsewhere(&self, kernel: &Kernel) -> bool {
        let gives_back = lock(&kernel.program).as_ref().is_some_and(|program| program.user_data.has_drop());
        gives_back && self.shared.finish(kernel)
    }

    fn prepare_copy(&self, _kernel: &Kernel) -> Result<()> {
        let bytes = self.plan.state * self.plan.grid;
        if bytes == 0 || lock(&self.staging).is_some() {
            return Ok(());
        }
        // Under no lock: the driver may wait.
        let made = Arc::new(self.pool.device().allocate(Kind::Mapped, bytes)?);
        lock(&self.staging).get_or_insert(made);
        Ok(())
    }

    fn save_states(&self, kernel: &Kernel, states: &mut [u8]) -> Result<()> {
        if kernel.state_size == 0 {
            return Ok(());
        }
        let staging = self.staging()?;
        // A restart lays something out there, too.
        let _copying = self.copying.write();
        if kernel.options.restart.is_some() {
            // Of a block that waits for its restart, what it will begin with is what is saved.
            let last = checkpoint::last(kernel);
            (0..self.plan.grid).for_each(|block| self.stage(kernel, last.as_deref(), block, &staging));
        }
        self.copy_states(kernel, Verb::Save, &staging)?;
        for (block, state) in states.chunks_exact_mut(kernel.state_size).enumerate() {
            // SAFETY: the piece has a place for each block's state; the blocks have answered that they are done with it.
            unsafe {
                let from = staging.host().add(block * self.plan.state);
                std::ptr::copy_nonoverlapping(from.as_ptr(), state.as_mut_ptr(), state.len());
            }
        }
        Ok(())
    }

    fn load_states(&self, kernel: &Kernel) -> Result<()> {
        let Some(last) = checkpoint::last(kernel).filter(|_| kernel.state_size != 0) else { return Ok(()) };
        let staging = self.staging()?;
        let _copying = self.copying.write();
        (0..self.plan.grid).for_each(|block| self.stage(kernel, Some(&last), block, &staging));
        self.copy_states(kernel, Verb::Load, &staging)
    }

    fn stage_state(&self, kernel: &Kernel, index: u32) -> bool {
        let Ok(staging) = self.staging() else { return true };
        let Ok(_copying) = self.copying.try_read() else { return false };
        self.stage(kernel, checkpoint::last(kernel).as_deref(), index as usize, &staging);
        true
    }

    fn stage_states(&self, kernel: &Kernel) {
        let Ok(staging) = self.staging() else { return };
        let _copying = self.copying.write();
        let last = checkpoint::last(kernel);
        (0..self.plan.grid).for_each(|block| self.stage(kernel, last.as_deref(), block, &staging));
    }

    fn measure(&self, kernel: &Kernel, metrics: &mut RkKernelMetrics) {
        // Who asks is somebody who waits: what the device has counted is taken over.
        self.shared.poke();
        let is_there = !*lock(&self.is_gone);
        metrics.gpu_launched = u32::from(is_there && kernel.options.mode == Mode::Persistent);
        metrics.gpu_memory_used_bytes = if is_there { self.device_bytes } else { 0 };
        metrics.bytes_from_device =
            self.seats.iter().map(|seat| seat.bytes_from.load(Ordering::Relaxed)).sum();
        metrics.bytes_to_device = kernel.blocks.iter().map(|block| block.counters.bytes_out.get()).sum();
        metrics.host_memory_used_bytes +=
            self.plan.inputs as u64 + (self.plan.mapped - self.plan.outboxes) as u64;
        metrics.host_memory_used_bytes += self.routes.bytes() as u64;
        metrics.host_memory_used_bytes += lock(&self.staging).as_ref().map_or(0, |piece| piece.size() as u64);
        if self.pool.shape.once {
            metrics.invocations = self.launches.load(Ordering::Relaxed);
        }
    }
}
