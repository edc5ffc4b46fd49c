//! The threads of the backend: the *pump* looks at what comes from the device, the *watch* talks to the driver.
//!
//! They are two because a call of the driver may wait for whatever other code of the process has asked of it, and that may
//! wait for our resident kernels to end (`cuMemFree`, a synchronisation of the context). The pump makes no such call, so
//! messages flow, kernels pause and end, and with that the other call comes back.
//!
//! A device cannot wake a thread, so somebody has to look. While a caller waits it looks for itself; else it is this
//! thread, as often as something is outstanding and lately moved: it spins for a moment, then sleeps in growing
//! steps. With nothing outstanding it looks after 1, 2, 4, … 64 milliseconds and then sleeps until it is poked, unless something may come
//! that the host knows nothing of: then it goes on every 64 milliseconds, and every one while somebody waits.
//!
//! # What keeps it awake
//! *Outstanding* is what the device owes for something that the host did: a message in the input of a kernel that is to run (its handler runs, or
//! its answer, its dead letter, its failure and its messages for other kernels are on their way), a command without its answer, an end that was begun, a block that goes on for
//! others' sake although it is to pause (D14), a short launch. Restarts, deadlines and posted messages become work by a poke: of a
//! timer, or of who makes room.
//!
//! *What the host knows nothing of* begins with a message from kernel to kernel on the device. It needs a route that leads directly to the
//! receiver, and the receiver is marked (`is_target`) before the route exists, and for its life: what it was sent may be handled after the
//! route and the sender have ended. A device cannot say that it has something, so while such a kernel lives somebody has to look.
//! What waits for these looks is late by 64 milliseconds at most, and by one while somebody waits for messages, room, states,
//! dead letters or events, or has a descriptor for these. To receive, to call, and to read the metrics of a kernel pokes.
//!
//! # Argument: no message is left behind
//! A sender publishes, then pokes: `pending` is set and the event count notified (its argument is in `ring/wait.rs`). The pump
//! clears `pending` before it looks, and both are read-modify-writes, so either the poke is after the clearing, and it looks again, or
//! what was published before it is seen by the look. A sender that finds somebody inside the block's gate pokes nobody; who was inside looks
//! at the input after it has left (`left`), and the gate's fences make one of the two see the other. Who writes a command, makes room, marks a target,
//! adopts or forgets a kernel pokes after it.
//!
//! What a block does before it says that it is done with a message is seen here no later than that, on any bus that keeps stores in order;
//! counters, and anything that is not, are found by the looks of the first 127 milliseconds.

mod watch;

use std::thread::JoinHandle;
use std::time::Duration;

use self::watch::Watch;
use super::device::Device;
use super::pool::Pool;
use super::resident::Resident;
use super::seat::Seat;
use crate::error::{Error, Result};
use crate::layout::RK_ERR_DEVICE;
use crate::process;
use crate::ring::EventCount;
use crate::runtime::core::Core;
use crate::runtime::kernel::{Kernel, Phase};
use crate::runtime::{Threads, block, log};
use crate::sync::{Arc, AtomicBool, AtomicU64, Mutex, Ordering, lock, monotonic_ns, spin_loop};

/// Time without progress after which the pump no longer spins.
const SPIN_NS: u64 = 50_000;
/// Time without progress after which it sleeps in long steps.
const SHORT_NS: u64 = 2_000_000;
const SHORT_SLEEP: Duration = Duration::from_micros(20);
const LONG_SLEEP: Duration = Duration::from_micros(200);
/// Time that it stays with a block that has asked something, and times.
const STAY_NS: u64 = 20_000;
const STAY_MAX: u32 = 256;
/// With nothing outstanding, at first; and how often that is doubled.
const REST_NS: u64 = 1_000_000;
const REST_STEPS: u32 = 6;
/// Between two looks at clocks, hung handlers and the state of the device; and while nothing is outstanding and nobody waits.
const TICK_NS: u64 = 5_000_000;
const CALM_TICK_NS: u64 = 160_000_000;
/// Between two looks whether pools that have ended can be given back, with nothing else to do.
const BURY_NS: u64 = 100_000_000;

/// What launches, kernels and the pump share.
pub(super) struct Shared {
    pub(super) core: Arc<Core>,
    pub(super) device: Arc<Device>,
    pub(super) pools: Mutex<Vec<Arc<Pool>>>,
    /// Pools that have ended and that somebody may still hold.
    ended: Mutex<Vec<Arc<Pool>>>,
    kernels: Mutex<Vec<Entry>>,
    /// Changes with that list.
    version: AtomicU64,
    epochs: AtomicU64,
    wake: EventCount,
    pending: AtomicBool,
    /// The pump rests longer than a moment: the watch may, too.
    is_calm: AtomicBool,
    /// The same for the watch.
    watch: EventCount,
    watch_pending: AtomicBool,
    stop: AtomicBool,
    /// A handler that takes longer is hung; 0 = none is.
    hang_limit_ns: u64,
    thread: Mutex<Option<JoinHandle<()>>>,
    watcher: Mutex<Option<JoinHandle<()>>>,
    /// Threads that give user data back.
    finishing: Mutex<Vec<JoinHandle<()>>>,
}

/// A kernel and its seats.
#[derive(Clone)]
pub(super) struct Entry {
    pub(super) kernel: Arc<Kernel>,
    pub(super) resident: Arc<Resident>,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "Shared({:?})", self.device)
    }
}

impl Shared {
    /// Starts the pump.
    pub(super) fn start(core: &Arc<Core>, device: Arc<Device>, hang_limit_ns: u64) -> Result<Arc<Self>> {
        let shared = Arc::new(Self {
            core: Arc::clone(core),
            device,
            pools: Mutex::new(Vec::new()),
            ended: Mutex::new(Vec::new()),
            kernels: Mutex::new(Vec::new()),
            version: AtomicU64::new(0),
            epochs: AtomicU64::new(0),
            wake: EventCount::new(),
            pending: AtomicBool::new(false),
            is_calm: AtomicBool::new(false),
            watch: EventCount::new(),
            watch_pending: AtomicBool::new(false),
            stop: AtomicBool::new(false),
            hang_limit_ns,
            thread: Mutex::new(None),
            watcher: Mutex::new(None),
            finishing: Mutex::new(Vec::new()),
        });
        let refused = |error: std::io::Error| Error::System {
            what: "a thread of the CUDA backend",
            errno: error.raw_os_error().unwrap_or(0),
        };
        let of_pump = Arc::clone(&shared);
        let pump = process::spawn("rk-cuda", move || Pump::new(of_pump).live()).map_err(refused)?;
        *lock(&shared.thread) = Some(pump);
        let of_watch = Arc::clone(&shared);
        match process::spawn("rk-cuda-watch", move || Watch::new(of_watch).live()) {
            Ok(watch) => *lock(&shared.watcher) = Some(watch),
            Err(error) => {
                shared.join();
                return Err(refused(error));
            }
        }
        Ok(shared)
    }

    /// There may be something to do.
    pub(super) fn poke(&self) {
        // Also if it is set: only a read-modify-write cannot have missed that it was cleared.
        self.pending.swap(true, Ordering::SeqCst);
        self.wake.notify_all();
    }

    /// There may be something to launch.
    pub(super) fn poke_watch(&self) {
        if !self.watch_pending.load(Ordering::Relaxed) {
            self.watch_pending.store(true, Ordering::SeqCst);
        }
        self.watch.notify_all();
    }

    /// A number for a kernel that no other of its seats' has had for long: 16 bits, never 0.
    pub(super) fn next_epoch(&self) -> u64 {
        self.epochs.fetch_add(1, Ordering::Relaxed) % 0xffff + 1
    }

    /// Looks after a kernel from now on.
    pub(super) fn adopt(&self, kernel: &Arc<Kernel>, resident: &Arc<Resident>) {
        let entry = Entry { kernel: Arc::clone(kernel), resident: Arc::clone(resident) };
        lock(&self.kernels).push(entry);
        self.version.fetch_add(1, Ordering::SeqCst);
        // Who loses the device says so first and looks at the list after.
        if let Some(lost) = self.core.lost.get() {
            self.lose(lost);
        }
        self.poke();
        self.poke_watch();
    }

    /// No longer.
    pub(super) fn forget(&self, kernel: &Kernel) {
        lock(&self.kernels).retain(|entry| entry.kernel.handle != kernel.handle);
        self.version.fetch_add(1, Ordering::SeqCst);
    }

    /// The seats of a live kernel.
    pub(super) fn resident(&self, kernel: u64) -> Option<Arc<Resident>> {
        let kernels = lock(&self.kernels);
        kernels.iter().find(|entry| entry.kernel.handle == kernel).map(|entry| Arc::clone(&entry.resident))
    }

    /// On the pump: gives the user data of a kernel back on a thread of its own. The application may call back and wait for
    /// another kernel, and that would wait for the pump. False: this is not the pump, or there is no thread.
    pub(super) fn finish(&self, kernel: &Kernel) -> bool {
        let is_pump =
            lock(&self.thread).as_ref().is_some_and(|pump| pump.thread().id() == std::thread::current().id());
        let Some(kernel) = kernel.share().filter(|_| is_pump) else { return false };
        let mut finishing = lock(&self.finishing);
        finishing.retain(|thread| !thread.is_finished());
        match process::spawn("rk-end", move || kernel.finish_end()) {
            Ok(thread) => {
                finishing.push(thread);
                true
            }
            Err(_) => false,
        }
    }

    fn entries(&self) -> Vec<Entry> {
        lock(&self.kernels).clone()
    }

    /// Forgets pools that have ended.
    pub(super) fn sweep(&self, pools: &mut Vec<Arc<Pool>>) {
        let has_ended = |pool: &mut Arc<Pool>| pool.is_closing() && matches!(pool.query(), Ok(true));
        let mut ended = lock(&self.ended);
        // Who has one still has nothing on the device any more.
        ended.extend(pools.extract_if(.., has_ended).inspect(|pool| pool.end()));
    }

    /// Gives those back that nobody else has: not on the pump, which calls no driver.
    fn bury(&self) {
        let mut buried = Vec::new();
        lock(&self.ended).retain(|pool| {
            let is_last = Arc::strong_count(pool) == 1;
            if is_last {
                buried.push(Arc::clone(pool));
            }
            !is_last
        });
    }

    /// The device is lost, and with it everything on it.
    pub(super) fn lose(&self, error: &Error) {
        let mut is_first = false;
        if self.core.lost.set(Box::new(error.clone())).is_ok() {
            log::write(log::Level::Error, || format!("the device {:?} is lost: {error}", self.device.name));
            is_first = true;
        }
        // Every time: a kernel may have been on its way in before.
        for entry in self.entries() {
            entry.kernel.fail(RK_ERR_DEVICE);
            for seat in &entry.resident.seats {
                entry.resident.give_up(seat);
            }
        }
        self.poke();
        if is_first {
            // After the kernels: it may wait for who opens another device.
            self.device.be_lost();
        }
    }
}

impl Threads for Shared {
    fn join(&self) {
        self.stop.store(true, Ordering::SeqCst);
        self.poke();
        self.poke_watch();
        let finishing = std::mem::take(&mut *lock(&self.finishing));
        for thread in
            finishing.into_iter().filter(|thread| thread.thread().id() != std::thread::current().id())
        {
            let _ = thread.join();
        }
        let threads = [lock(&self.thread).take(), lock(&self.watcher).take()];
        for thread in threads.into_iter().flatten() {
            if thread.thread().id() != std::thread::current().id() {
                let _ = thread.join();
            }
        }
    }

    fn prepare(&self, program: &crate::runtime::Program) -> Result<()> {
        super::prepare(self, program)
    }
}

/// What only the thread has.
struct Pump {
    shared: Arc<Shared>,
    entries: Vec<Entry>,
    version: u64,
    progress_ns: u64,
    tick_ns: u64,
    /// Looks in a row that found nothing, with nothing outstanding.
    calm: u32,
}

impl Pump {
    fn new(shared: Arc<Shared>) -> Self {
        Self { shared, entries: Vec::new(), version: u64::MAX, progress_ns: 0, tick_ns: 0, calm: 0 }
    }

    fn live(mut self) {
        while !self.shared.stop.load(Ordering::SeqCst) {
            if self.shared.pending.swap(false, Ordering::SeqCst) {
                self.calm = 0;
            }
            let version = self.shared.version.load(Ordering::SeqCst);
            if version != self.version {
                self.version = version;
                self.entries = self.shared.entries();
            }
            let (progressed, outstanding) = self.pass();
            let now = monotonic_ns();
            if now - self.tick_ns > TICK_NS {
                self.tick_ns = now;
                self.tick(now);
            }
            if progressed || outstanding {
                self.calm = 0;
            }
            if progressed {
                self.progress_ns = now;
            } else {
                self.rest(now, outstanding);
            }
        }
    }

    /// How long to rest with nothing outstanding; see the file's head.
    fn rest_ns(&mut self) -> u64 {
        let has_target = self.entries.iter().any(|entry| entry.resident.is_target.load(Ordering::SeqCst));
        if has_target && self.is_awaited() {
            self.calm = 0;
        }
        let step = self.calm;
        self.calm = self.calm.saturating_add(1);
        match step {
            _ if self.entries.is_empty() => u64::MAX,
            step if step <= REST_STEPS => REST_NS << step,
            _ if has_target => REST_NS << REST_STEPS,
            _ => u64::MAX,
        }
    }

    /// Whether somebody waits for what kernels may do unasked.
    fn is_awaited(&self) -> bool {
        let core = &self.shared.core;
        let waits = |kernel: &Kernel| {
            [&kernel.readable, &kernel.lifecycle, &kernel.space].iter().any(|events| events.waiters() != 0)
        };
        core.events.is_awaited()
            || core.dead.is_awaited()
            || self.entries.iter().any(|entry| waits(&entry.kernel))
    }

    /// Deals with what has come; whether anything had, and whether more is expected.
    fn pass(&self) -> (bool, bool) {
        let (mut progressed, mut outstanding) = (false, false);
        for Entry { kernel, resident } in &self.entries {
            for (index, seat) in resident.seats.iter().enumerate() {
                let index = index as u32;
                if self.run(kernel, index) {
                    progressed = true;
                    self.stay(kernel, seat, index);
                }
                if seat.has_new_answer() {
                    kernel.lifecycle.notify_all();
                    progressed = true;
                }
                let once = resident.pool.shape.once;
                let waits = match once {
                    true => resident.has_input(kernel, index),
                    false => kernel.block(index).input.get().is_some_and(|ring| ring.depth() > 0),
                };
                let runs = Kernel::phase(kernel.control()) != Phase::Rest;
                outstanding |= (waits && runs) || !seat.is_answered() || seat.goes_on();
                // Its command may be answered before it has left.
                outstanding |= Kernel::ends(Kernel::phase(kernel.control())) && !kernel.has_ended();
                if waits && runs && once && !resident.in_flight.load(Ordering::SeqCst) {
                    // Its sender may have found the gate occupied and told nobody.
                    self.shared.poke_watch();
                }
            }
            outstanding |= resident.in_flight.load(Ordering::SeqCst);
        }
        (progressed, outstanding)
    }

    /// Takes what has come from a block; false: nothing has, or somebody else is at it.
    fn run(&self, kernel: &Arc<Kernel>, index: u32) -> bool {
        let runs = block::has_work(kernel, index) && kernel.block(index).gate.enter_idle();
        if runs {
            block::run(kernel, index, None);
        }
        runs
    }

    /// A block that asks whether its message was taken waits for it, and asks again with the next: with thousands of kernels to look at
    /// in turn it would wait that long each time.
    fn stay(&self, kernel: &Arc<Kernel>, seat: &Seat, index: u32) {
        for _ in 0..STAY_MAX {
            if !seat.has_asked() {
                return;
            }
            let end = monotonic_ns() + STAY_NS;
            while !self.run(kernel, index) {
                if monotonic_ns() > end {
                    return;
                }
                spin_loop();
            }
        }
    }

    /// Sleeps as long as it may.
    fn rest(&mut self, now: u64, outstanding: bool) {
        let quiet = now.saturating_sub(self.progress_ns);
        if outstanding && self.shared.is_calm.load(Ordering::Relaxed) {
            self.shared.is_calm.store(false, Ordering::SeqCst);
            self.shared.poke_watch();
        }
        if outstanding && quiet < SPIN_NS {
            spin_loop();
        } else if outstanding && quiet < SHORT_NS {
            std::thread::sleep(SHORT_SLEEP);
        } else if outstanding {
            std::thread::sleep(LONG_SLEEP);
        } else {
            let rest_ns = self.rest_ns();
            self.shared.is_calm.store(rest_ns > REST_NS << (REST_STEPS - 1), Ordering::SeqCst);
            let deadline = now.saturating_add(rest_ns);
            let woken = || {
                let shared = &self.shared;
                let is_new = shared.pending.load(Ordering::SeqCst)
                    || shared.stop.load(Ordering::SeqCst)
                    || shared.version.load(Ordering::SeqCst) != self.version;
                is_new.then_some(())
            };
            self.shared.wake.sleep_until(deadline, &mut { woken });
        }
    }

    /// Handlers that do not end. Words of mapped memory only, so it goes on while the driver holds everybody up.
    fn tick(&self, now: u64) {
        let limit = self.shared.hang_limit_ns;
        for Entry { kernel, resident } in self.entries.iter().filter(|_| limit != 0) {
            let launch_is_hung = resident.pool.shape.once && resident.is_hung(now, limit);
            let is_hung = |seat: &Seat| match resident.pool.shape.once {
                true => launch_is_hung && !seat.is_lost(),
                false => seat.is_hung(now, limit),
            };
            let hung: Vec<_> = resident.seats.iter().filter(|seat| is_hung(seat)).collect();
            if hung.is_empty() {
                continue;
            }
            let error = Error::Hung { kernel: Arc::clone(&kernel.id), limit_ms: limit / 1_000_000 };
            log::write(log::Level::Error, || error.to_string());
            // In this order: who waits for the seats holds what is needed to fail the kernel.
            hung.iter().for_each(|seat| resident.give_up(seat));
            kernel.fail(RK_ERR_DEVICE);
            self.shared.poke();
        }
    }
}
