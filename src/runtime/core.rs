//! What the kernels of one runtime share: the registry of ids, programs, dead letters, totals.

use std::collections::HashMap;

use foldhash::fast::RandomState;

use once_cell::race::OnceBox;

use super::control::Control;
use super::dead::{DeadLetters, Letter};
use super::events::Events;
use super::kernel::Kernel;
use super::options::RuntimeOptions;
use super::program::Program;
use super::queues::Queues;
use super::registry::Registry;
use super::waits::Waits;
use super::{blocking, calls, lifecycle::KernelState};
use crate::clock::HybridClock;
use crate::error::{Error, Result};
use crate::metrics::Sums;
use crate::ring::EventCount;
use crate::sync::{Arc, AtomicBool, AtomicU32, AtomicU64, Mutex, Ordering, lock, monotonic_ns};

/// Nodes of clocks; 0 is the host. All runtimes of the process share the numbers.
static NEXT_NODE: AtomicU32 = AtomicU32::new(1);
/// The clock of the host, node 0: one, because a handler of one runtime may call a kernel of another.
static HOST_CLOCK: HybridClock = HybridClock::new(0);

/// See the file's head.
pub(crate) struct Core {
    pub(crate) options: RuntimeOptions,
    pub(crate) control: Control,
    pub(crate) created_ns: u64,
    pub(crate) dead: DeadLetters,
    pub(crate) events: Events,
    pub(crate) waits: Waits,
    pub(crate) queues: Queues,
    pub(crate) host_clock: &'static HybridClock,
    registry: Mutex<Registry>,
    programs: Mutex<HashMap<Arc<str>, Arc<Program>, RandomState>>,
    accepting: AtomicBool,
    /// A shutdown ran out of time: the end of the last kernel is waited for.
    pub(crate) ends_later: AtomicBool,
    /// Launches and registrations in progress, and who waits for them to be over.
    under_way: AtomicU32,
    over: EventCount,
    launched: AtomicU64,
    /// Why the device is lost, once it is.
    pub(crate) lost: OnceBox<Error>,
}

/// See [`Core::under_way`].
pub(crate) struct UnderWay<T: std::ops::Deref<Target = Core>>(T);

impl<T: std::ops::Deref<Target = Core>> Drop for UnderWay<T> {
    fn drop(&mut self) {
        self.0.under_way.fetch_sub(1, Ordering::SeqCst);
        self.0.over.notify_all();
    }
}

/// The right to fill in an id that was claimed; dropped unfilled, the id is free again.
pub(crate) struct ClaimedId<'a> {
    core: &'a Core,
    pub(crate) id: Arc<str>,
    filled: bool,
}

impl Core {
    pub(crate) fn new(options: RuntimeOptions, control: Control) -> Self {
        Self {
            options,
            control,
            created_ns: monotonic_ns(),
            dead: DeadLetters::new(),
            events: Events::new(options.events_max),
            waits: Waits::default(),
            queues: Queues::default(),
            host_clock: &HOST_CLOCK,
            registry: Mutex::new(Registry::default()),
            programs: Mutex::default(),
            accepting: AtomicBool::new(true),
            ends_later: AtomicBool::new(false),
            under_way: AtomicU32::new(0),
            over: EventCount::new(),
            launched: AtomicU64::new(0),
            lost: OnceBox::new(),
        }
    }

    /// A clock node that no other clock of this process has.
    pub(crate) fn next_node() -> u32 {
        NEXT_NODE.fetch_add(1, Ordering::Relaxed)
    }

    pub(crate) fn is_accepting(&self) -> bool {
        self.accepting.load(Ordering::SeqCst)
    }

    /// Takes no launches and programs any more. Launches that got past their check have filled in their id
    /// before this returns, or will find out when they do.
    pub(crate) fn stop_accepting(&self) {
        let _registry = lock(&self.registry);
        self.accepting.store(false, Ordering::SeqCst);
    }

    /// Whether no program has this name.
    pub(crate) fn check_name(&self, name: &Arc<str>) -> Result<()> {
        if lock(&self.programs).contains_key(name) {
            return Err(Error::AlreadyExists { what: "program", name: Arc::clone(name) });
        }
        Ok(())
    }

    /// Takes the program, unless it is refused.
    pub(crate) fn register(&self, program: &mut Option<Program>) -> Result<()> {
        let mut programs = lock(&self.programs);
        if !self.is_accepting() {
            return Err(Error::Shutdown);
        }
        let Some(name) = program.as_ref().map(|program| Arc::clone(&program.name)) else { return Ok(()) };
        if programs.contains_key(&name) {
            return Err(Error::AlreadyExists { what: "program", name });
        }
        programs.extend(program.take().map(|program| (name, Arc::new(program))));
        Ok(())
    }

    pub(crate) fn unregister(&self, name: &str) -> Result<()> {
        // The program may be dropped here, and that calls the application: not under the lock.
        let removed = lock(&self.programs).remove(name);
        removed.map(drop).ok_or_else(|| Error::NotFound { what: "program", name: name.into() })
    }

    pub(crate) fn program(&self, name: &str) -> Result<Arc<Program>> {
        let found = lock(&self.programs).get(name).cloned();
        found.ok_or_else(|| Error::NotFound { what: "program", name: name.into() })
    }

    /// Counts a launch or registration until the guard is dropped, after all that it holds.
    pub(crate) fn under_way(&self) -> UnderWay<&Self> {
        self.under_way.fetch_add(1, Ordering::SeqCst);
        UnderWay(self)
    }

    /// The same for one that another thread goes on with.
    pub(crate) fn under_way_shared(core: &Arc<Self>) -> UnderWay<Arc<Self>> {
        core.under_way.fetch_add(1, Ordering::SeqCst);
        UnderWay(Arc::clone(core))
    }

    /// Waits until no launch or registration is in progress; none can begin that is not refused.
    pub(crate) fn await_launches(&self) {
        blocking::wait(&self.over, u64::MAX, || (self.under_way.load(Ordering::SeqCst) == 0).then_some(()));
    }

    /// Lets go of everything that points back here; every kernel has ended. Who waits for dead letters is
    /// told.
    pub(crate) fn let_go(&self) {
        self.dead.close();
        self.events.close();
        let programs = std::mem::take(&mut *lock(&self.programs));
        drop(programs);
        let lingering = std::mem::take(&mut lock(&self.registry).lingering);
        drop(lingering);
    }

    /// Why nothing can be done any more, if the device is lost.
    pub(crate) fn check_device(&self) -> Result<()> {
        self.lost.get().map_or(Ok(()), |lost| Err(lost.clone()))
    }

    /// Claims an id for a launch.
    pub(crate) fn claim_id(&self, id: &str) -> Result<ClaimedId<'_>> {
        let id: Arc<str> = id.into();
        let mut registry = lock(&self.registry);
        if !self.is_accepting() {
            return Err(Error::Shutdown);
        }
        let limit = self.options.kernels_max;
        if registry.taken() >= limit as usize && registry.get(&id).is_none() {
            return Err(Error::Limit { what: "live kernels", limit: u64::from(limit) });
        }
        if !registry.claim(&id) {
            return Err(Error::AlreadyExists { what: "live kernel", name: id });
        }
        Ok(ClaimedId { core: self, id, filled: false })
    }

    pub(crate) fn get(&self, id: &str) -> Option<Arc<Kernel>> {
        lock(&self.registry).get(id).cloned()
    }

    /// Live kernels in the order of launch.
    pub(crate) fn live(&self) -> Vec<Arc<Kernel>> {
        let registry = lock(&self.registry);
        let is_live = |kernel: &&Arc<Kernel>| kernel.state() != KernelState::Terminated;
        registry.launched().filter(is_live).cloned().collect()
    }

    /// Everything that was not destroyed, and what was and still runs.
    pub(crate) fn all(&self) -> Vec<Arc<Kernel>> {
        let registry = lock(&self.registry);
        registry.launched().chain(&registry.lingering).cloned().collect()
    }

    /// Frees the id of a kernel that has ended.
    pub(crate) fn free_id(&self, kernel: &Kernel) {
        lock(&self.registry).free(kernel);
    }

    /// Forgets a kernel that is being destroyed; its counters go into the sums.
    pub(crate) fn forget(&self, kernel: &Kernel) {
        let mut registry = lock(&self.registry);
        let mut ended = std::mem::take(&mut registry.lingering);
        registry.lingering = ended.extract_if(.., |lingering| !lingering.has_ended()).collect();
        if let Some(shared) = registry.take(kernel) {
            let sums = kernel.sums();
            registry.past.add(&sums);
            *lock(&kernel.extra().folded) = Some(sums);
            if kernel.has_ended() { ended.push(shared) } else { registry.lingering.push(shared) }
        }
        // What has ended may be dropped here, and that takes the lock.
        drop(registry);
    }

    /// Adds what a kernel counted after it was forgotten.
    pub(crate) fn add_past(&self, sums: &Sums) {
        lock(&self.registry).past.add(sums);
    }

    /// Sums over all kernels that ever were, how many are active, and their memory.
    pub(crate) fn totals(&self) -> (Sums, u64, u64) {
        let registry = lock(&self.registry);
        let mut sums = registry.past;
        let (mut active, mut bytes) = (0, 0);
        for kernel in registry.launched() {
            sums.add(&kernel.sums());
            active += u64::from(!matches!(kernel.state(), KernelState::Terminated | KernelState::Failed));
            bytes += kernel.memory_bytes();
        }
        (sums, active, bytes)
    }

    pub(crate) fn total_launched(&self) -> u64 {
        self.launched.load(Ordering::Relaxed)
    }

    /// Turns a message into a dead letter and ends its call, if it is one.
    pub(crate) fn dead_letter(&self, letter: Letter, payload: &[u8], token: u64) {
        self.dead.push(letter, payload);
        self.events.note_letter(letter.kernel, letter.status);
        if token != 0 {
            calls::fail(token, letter.status, letter.reason);
        }
    }
}

impl ClaimedId<'_> {
    /// Fills in the kernel; fails when the runtime was shut down meanwhile.
    pub(crate) fn fill(mut self, kernel: &Arc<Kernel>) -> Result<()> {
        let mut registry = lock(&self.core.registry);
        if !self.core.is_accepting() {
            drop(registry);
            return Err(Error::Shutdown);
        }
        registry.fill(kernel);
        self.core.launched.fetch_add(1, Ordering::Relaxed);
        self.filled = true;
        Ok(())
    }
}

impl Drop for ClaimedId<'_> {
    fn drop(&mut self) {
        if !self.filled {
            lock(&self.core.registry).unclaim(&self.id);
        }
    }
}
