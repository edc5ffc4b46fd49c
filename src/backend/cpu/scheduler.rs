//! The shared workers: blocks that have something to do, on as many threads as the runtime has workers.
//!
//! # Queues
//! Each worker has a queue of its own (crossbeam-deque: the Chase-Lev deque), others steal from it; what
//! comes from other threads goes through the injector. A block is in at most one queue by its gate (IDLE →
//! QUEUED is won once); an entry whose gate is no longer QUEUED was overtaken by a helper and is dropped.
//!
//! What a handler's message makes ready is kept `near` by the worker it was made ready on: its message is in that cache. So
//! it is as long as the blocks that run are done so soon that to hand one over costs more than to run it, and as
//! long as there are few; and after [`KEPT_MAX`] of them the worker looks into the other queues.
//!
//! # Sleep
//! A worker that finds nothing sleeps on `idle`, an event count: it becomes a waiter and looks at all queues
//! again before it sleeps; who pushes looks for waiters after the push and wakes one. One push, one wake-up: a
//! woken worker runs until it finds nothing, so no entry waits while a worker sleeps.
//!
//! For what is kept near nobody is woken, if somebody watches: one of the sleeping workers, if others are not asleep, sleeps for
//! [`WATCH_NS`] at a time and then takes whatever it finds, also what is near another. So if a handler takes longer than those
//! before it, what it made ready waits that long and no longer. The watcher leaves (`watched := false`), and then looks at
//! everything once more, on its way into the unlimited sleep, or wakes another in its place if it has found something to run; who
//! pushes looks at `watched` after the push. This is the same pair of fences as the event count's.
//!
//! # Workers that wait inside a handler
//! `active` counts workers that are not waiting. One that is about to sleep inside a handler counts itself out
//! and, if there are then fewer than wanted, wakes a spare or starts one; awake again it counts itself in. A
//! worker that finds more active than wanted, between two blocks, counts itself out and becomes a spare. So a
//! handler may wait for another kernel with a single worker, and the number of workers that run at once comes
//! back to what was asked for.

use std::cell::{Cell, RefCell};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::RwLock;
use std::thread::JoinHandle;

use crossbeam_deque::{Injector, Steal, Stealer, Worker};

use crate::error::{Error, Result};
use crate::limits::{
    COARSE_SURE_NS, KEPT_MAX, NEAR_MAX, PACE_EVERY, SHORT_RUN_NS, SPARE_WORKERS_MAX, WATCH_NS,
};
use crate::process;
use crate::ring::EventCount;
use crate::runtime::block;
use crate::runtime::blocking::{BlockingHook, set_hook};
use crate::runtime::kernel::{Driver, Kernel};
use crate::runtime::log;
use crate::sync::{
    Arc, AtomicBool, AtomicI32, AtomicU32, Label, Mutex, Ordering, Weak, light_fence, lock,
    monotonic_coarse_ns, monotonic_ns,
};

/// A block to run.
struct Task {
    kernel: Arc<Kernel>,
    block: u32,
}

/// What a worker knows of its runs.
#[derive(Default)]
struct Pace {
    runs: u32,
    /// By the coarse clock, when the last one ended; 0: a while ago.
    ended_ns: u64,
}

/// The queue of the worker that this thread is.
struct Local {
    scheduler: *const Scheduler,
    queue: Worker<Task>,
    /// What stays here, as long as it is not much.
    near: Worker<Task>,
    /// Whether something may be kept now.
    keeps: Cell<bool>,
    /// Kept ones that ran one after the other.
    streak: Cell<u32>,
}

impl Local {
    /// Gives others what was kept; whether there was something.
    fn give(&self) -> bool {
        let mut is_some = false;
        while let Some(task) = self.near.pop() {
            self.queue.push(task);
            is_some = true;
        }
        is_some
    }
}

thread_local! {
    static LOCAL: RefCell<Option<Local>> = const { RefCell::new(None) };
}

/// What others may take from a worker.
struct Others {
    queue: Stealer<Task>,
    near: Stealer<Task>,
}

/// See the file's head.
pub(crate) struct Scheduler {
    me: Weak<Scheduler>,
    injector: Injector<Task>,
    stealers: RwLock<Vec<Others>>,
    /// A sleeping worker wakes by itself.
    watched: AtomicBool,
    idle: EventCount,
    spares: EventCount,
    /// Spares that sleep.
    parked: AtomicU32,
    active: AtomicI32,
    wanted: i32,
    stopping: AtomicBool,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

impl Scheduler {
    /// Starts the workers.
    pub(crate) fn start(workers: usize) -> Result<Arc<Self>> {
        let scheduler = Arc::new_cyclic(|me| Self {
            me: Weak::clone(me),
            injector: Injector::new(),
            stealers: RwLock::new(Vec::new()),
            watched: AtomicBool::new(false),
            idle: EventCount::new(),
            spares: EventCount::new(),
            parked: AtomicU32::new(0),
            active: AtomicI32::new(0),
            wanted: workers as i32,
            stopping: AtomicBool::new(false),
            threads: Mutex::new(Vec::new()),
        });
        for _ in 0..workers {
            if let Err(error) = scheduler.add_worker() {
                scheduler.stop();
                let errno = error.raw_os_error().unwrap_or(0);
                return Err(Error::System { what: "a worker thread", errno });
            }
        }
        Ok(scheduler)
    }

    fn add_worker(&self) -> std::io::Result<()> {
        let Some(me) = self.me.upgrade() else { return Ok(()) };
        let (queue, near) = (Worker::new_fifo(), Worker::new_fifo());
        let others = Others { queue: queue.stealer(), near: near.stealer() };
        let mut threads = lock(&self.threads);
        self.active.fetch_add(1, Ordering::SeqCst);
        match process::spawn("rk-worker", move || me.work(queue, near)) {
            Ok(thread) => {
                threads.push(thread);
                self.stealers.write().unwrap_or_else(|poisoned| poisoned.into_inner()).push(others);
                Ok(())
            }
            Err(error) => {
                self.active.fetch_sub(1, Ordering::SeqCst);
                Err(error)
            }
        }
    }

    /// Ends and joins the workers; they finish what is queued first.
    pub(crate) fn stop(&self) {
        self.stopping.store(true, Ordering::SeqCst);
        self.idle.notify_all();
        self.spares.notify_all();
        // Not under the lock: a worker may be adding one.
        let threads = std::mem::take(&mut *lock(&self.threads));
        for thread in threads {
            // A handler cannot stop its own runtime, but the last share of one may be dropped anywhere.
            if thread.thread().id() != std::thread::current().id() {
                let _ = thread.join();
            }
        }
        // What was pushed after the last worker looked: entries that helpers overtook. They hold kernels, and
        // kernels hold this scheduler.
        while !self.injector.is_empty() {
            drop(self.injector.steal());
        }
    }

    /// Into the queue of this worker, the one for other threads, or, if it `may_be_kept`, to run next here.
    fn push(&self, task: Task, may_be_kept: bool) {
        let mut task = Some(task);
        // A thread at its end has no queue of its own any more.
        let is_quiet = LOCAL.try_with(|local| {
            let local = local.borrow();
            let Some(local) = local.as_ref().filter(|local| std::ptr::eq(local.scheduler, self)) else {
                return false;
            };
            let keeps = may_be_kept && local.keeps.get() && local.near.len() < NEAR_MAX;
            let to = if keeps { &local.near } else { &local.queue };
            task.take().into_iter().for_each(|task| to.push(task));
            keeps
        });
        if is_quiet == Ok(true) {
            light_fence(Label::E1);
            if self.watched.load(Ordering::Relaxed) {
                return;
            }
        }
        task.into_iter().for_each(|task| self.injector.push(task));
        self.idle.notify_one();
    }

    /// The next block to run: near, own queue, the injector, others' queues, and, if all is to be looked at, what is near others.
    fn next(&self, everything: bool) -> Option<Task> {
        LOCAL.with(|local| {
            let local = local.borrow();
            let local = local.as_ref()?;
            let queue = &local.queue;
            if local.streak.get() < KEPT_MAX
                && let Some(task) = local.near.pop()
            {
                local.streak.set(local.streak.get() + 1);
                return Some(task);
            }
            local.streak.set(0);
            if let Some(task) = queue.pop() {
                return Some(task);
            }
            loop {
                let mut retry = false;
                match self.injector.steal_batch_and_pop(queue) {
                    Steal::Success(task) => return Some(task),
                    Steal::Retry => retry = true,
                    Steal::Empty => {}
                }
                let stealers = self.stealers.read().unwrap_or_else(|poisoned| poisoned.into_inner());
                let near = stealers.iter().filter(|_| everything).map(|others| others.near.steal());
                let queued = stealers.iter().map(|others| others.queue.steal_batch_and_pop(queue));
                for stolen in queued.chain(near) {
                    match stolen {
                        Steal::Success(task) => return Some(task),
                        Steal::Retry => retry = true,
                        Steal::Empty => {}
                    }
                }
                if !retry {
                    return local.near.pop();
                }
            }
        })
    }

    /// A worker's life.
    fn work(self: Arc<Self>, queue: Worker<Task>, near: Worker<Task>) {
        LOCAL.with(|local| {
            *local.borrow_mut() = Some(Local {
                scheduler: Arc::as_ptr(&self),
                queue,
                near,
                keeps: Cell::new(false),
                streak: Cell::new(0),
            })
        });
        set_hook(Arc::clone(&self) as Arc<dyn BlockingHook>);
        let (mut since_injector, mut pace) = (0, Pace::default());
        loop {
            if self.active.load(Ordering::Relaxed) > self.wanted && !self.be_spare() {
                break;
            }
            // Work from outside is not to starve behind a queue that refills itself.
            since_injector += 1;
            let task = if since_injector % 61 == 0 { self.injector.steal().success() } else { None };
            let task = task.or_else(|| self.next(false)).or_else(|| {
                pace.ended_ns = 0;
                self.wait()
            });
            let Some(task) = task else { break };
            self.run(&task, &mut pace);
        }
        self.active.fetch_sub(1, Ordering::SeqCst);
        LOCAL.with(|local| *local.borrow_mut() = None);
    }

    /// Waits for a block to run; `None`: the end.
    fn wait(&self) -> Option<Task> {
        let look = |everything: bool| {
            // In this order: what was pushed before the stop is found after it was seen.
            let stopping = self.stopping.load(Ordering::SeqCst);
            match self.next(everything) {
                Some(task) => Some(Some(task)),
                None if stopping => Some(None),
                None => None,
            }
        };
        let found = EventCount::poll(&mut || look(false))
            .or_else(|| self.watch(&look))
            .or_else(|| self.idle.sleep_until(u64::MAX, &mut || look(true)));
        found.flatten()
    }

    /// Watches, if nobody does, for as long as some worker is at work; `None`: it is the time to sleep without limit.
    fn watch<T>(&self, look: &impl Fn(bool) -> Option<T>) -> Option<T> {
        let others_work = || self.idle.waiters() + 1 < self.active.load(Ordering::Relaxed).max(0) as u32;
        if !others_work() || self.watched.swap(true, Ordering::SeqCst) {
            return None;
        }
        let mut found = None;
        while found.is_none() && others_work() {
            found = self.idle.sleep_until(monotonic_ns() + WATCH_NS, &mut || look(false));
            found = found.or_else(|| look(true));
        }
        self.watched.store(false, Ordering::SeqCst);
        if found.is_some() {
            // Who pushed meanwhile relied on this one, which has something else to do now: another is to watch.
            self.idle.notify_one();
        }
        found
    }

    fn run(&self, task: &Task, pace: &mut Pace) {
        let block = task.kernel.block(task.block);
        if !block.gate.enter_queued() {
            return;
        }
        // How long handlers take: measured now and then, and always if the coarse clock shows more than some steps of its own.
        pace.runs = pace.runs.wrapping_add(1);
        let start = (pace.runs.is_multiple_of(PACE_EVERY)).then(monotonic_ns);
        // One run begins where the one before it ended, unless there was a wait between.
        let coarse = if pace.ended_ns == 0 { monotonic_coarse_ns() } else { pace.ended_ns };
        let is_short = block.usual_ns.load(Ordering::Relaxed) < SHORT_RUN_NS;
        LOCAL.with(|local| local.borrow().as_ref().map(|local| local.keeps.set(is_short)));
        let ran = catch_unwind(AssertUnwindSafe(|| block::run(&task.kernel, task.block, None)));
        pace.ended_ns = monotonic_coarse_ns();
        let spent = match start {
            Some(start) => monotonic_ns().saturating_sub(start),
            None => pace.ended_ns.saturating_sub(coarse),
        };
        if start.is_some() && !matches!(ran, Ok(true)) {
            block.note_usual(spent);
        } else if start.is_none() && spent >= COARSE_SURE_NS {
            // Long, or interrupted: not short until the next time that it is measured.
            block.usual_ns.fetch_max(SHORT_RUN_NS, Ordering::Relaxed);
        }
        if start.is_some() || spent >= COARSE_SURE_NS {
            block.note_pace(spent);
        }
        if ran.is_err() {
            // A fault of ours, not of a handler: those are caught where they are called. The block keeps its
            // gate, so nothing runs on what may be broken.
            let id = &task.kernel.id;
            log::write(log::Level::Error, || format!("the library panicked while running kernel {id:?}"));
        }
    }

    /// Becomes a spare until one is wanted; false: the end.
    fn be_spare(&self) -> bool {
        if self.active.fetch_sub(1, Ordering::SeqCst) <= self.wanted {
            // Others became spares first.
            self.active.fetch_add(1, Ordering::SeqCst);
            return true;
        }
        LOCAL.with(|local| {
            local.borrow().as_ref().map(Local::give);
            while let Some(task) = local.borrow().as_ref().and_then(|local| local.queue.pop()) {
                self.injector.push(task);
            }
        });
        self.idle.notify_all();
        self.parked.fetch_add(1, Ordering::SeqCst);
        let mut look = || {
            if self.stopping.load(Ordering::SeqCst) {
                self.active.fetch_add(1, Ordering::SeqCst);
                return Some(false);
            }
            let active = self.active.load(Ordering::SeqCst);
            let wanted = active < self.wanted
                && self
                    .active
                    .compare_exchange(active, active + 1, Ordering::SeqCst, Ordering::SeqCst)
                    .is_ok();
            wanted.then_some(true)
        };
        let more = self.spares.sleep_until(u64::MAX, &mut look).unwrap_or(false);
        self.parked.fetch_sub(1, Ordering::SeqCst);
        more
    }
}

impl Driver for Scheduler {
    fn schedule(&self, kernel: &Kernel, block: u32) {
        if kernel.block(block).gate.queue() {
            // A kernel that is being freed has no messages to handle.
            if let Some(kernel) = kernel.share() {
                self.push(Task { kernel, block }, true);
            }
        }
    }

    fn schedule_at_once(&self, kernel: &Kernel, block: u32) -> bool {
        let queued = kernel.block(block).gate.queue_at_once();
        if queued && let Some(kernel) = kernel.share() {
            self.push(Task { kernel, block }, true);
        }
        queued
    }

    fn has_other_work(&self) -> bool {
        let has = |local: &Local| !local.queue.is_empty() || !local.near.is_empty();
        let own = LOCAL.try_with(|local| local.borrow().as_ref().is_none_or(has));
        own != Ok(false) || !self.injector.is_empty()
    }

    fn requeue(&self, kernel: Arc<Kernel>, block: u32) {
        self.push(Task { kernel, block }, false);
    }
}

impl BlockingHook for Scheduler {
    fn before(&self) {
        if LOCAL.try_with(|local| local.borrow().as_ref().is_some_and(Local::give)) == Ok(true) {
            self.idle.notify_one();
        }
        let active = self.active.fetch_sub(1, Ordering::SeqCst) - 1;
        if active >= self.wanted || self.stopping.load(Ordering::SeqCst) {
            return;
        }
        if self.parked.load(Ordering::SeqCst) > 0 {
            self.spares.notify_one();
            return;
        }
        let threads = lock(&self.threads).len();
        if threads < self.wanted as usize + SPARE_WORKERS_MAX && self.add_worker().is_err() {
            log::write(log::Level::Warn, || "no spare worker could be started".to_owned());
        }
    }

    fn after(&self) {
        self.active.fetch_add(1, Ordering::SeqCst);
    }
}
