//! The event queue of a runtime: asynchronous operations, watches, and what has become of them.
//!
//! # States
//! An operation is *under way* from the moment it was accepted and *done* from the moment its outcome is known; polled, it is gone and its
//! number means nothing more. A watch for messages is *armed*, *pending* (its event waits to be polled) or *fired* (polled; armed again
//! when a receiver has found the queue empty). A watch for states knows the newest state and how many of
//! its events wait: the first lies in its place, others take free ones, and with none left a change is merged into the last of them.
//!
//! # Argument: exactly one completion, and room for it
//! Everything is under one lock, which is a leaf: nothing is called under it that takes a lock of the control plane or of the application.
//! An operation takes one of the queue's places when it is accepted and gives it back when it is polled, a watch one for each kind
//! of event: so there is room for each event that can come, and who would need more is refused. Whoever brings an outcome, be it a
//! reply, a timer, a cancel, the end of a kernel or of the runtime, finds the operation under way and makes it done, or finds it
//! done and changes nothing. For a call the decision is one more time that of its place (`call.rs`): a timer or a cancel gives the
//! call up, and if a reply came first, the replier brings the outcome. The replier reports after the reply is stored (DONE), and its report
//! finds the operation, for that was entered before the request went anywhere.
//!
//! # Argument: no event is lost
//! Emitter: publish; light fence (E1); a waiter? then tell. Who arms a watch counts as a waiter of the kernel's output: `waiters += 1`; heavy
//! fence (E2); look; if there is something, the event is there at once. That is the pair of `ring/wait.rs`, and the hot path of a kernel that is not
//! watched is what it was. A state is told under the kernel's lock of verbs, under which it was written, so states come in their order.
//! Who watches says so in the kernel, full fence (V1), then reads its state and afterwards looks whether it is still in the table; who changes
//! the state or removes the kernel does that, full fence (V2), then looks whether it is watched. At least one sees the other: no change
//! is missed, and a watch that met the destruction of its kernel is ended by one of the two, so that it keeps no places.
//! What a watch that has ended had to tell is taken out of the queue with it, but for the last states of a kernel that was destroyed: nobody who
//! comes too late takes those back. A watch that takes the place of another need not look again: who destroys the kernel sees it is watched.
//!
//! # The descriptor
//! It is readable exactly while the queue is not empty, as both change under the lock.
//!
//! # End
//! A shutdown ends all kernels, and with them their calls, and then waits for what is still under way. After it, `shut`, who would wait for
//! events and finds none, with nothing under way, is told that none will come. If handlers outlived it, the end of the last one does that. When the runtime is destroyed, what was not polled is given back.

mod queue;

use self::queue::{Op, Progress, Queue, Readable, Ready, Watch, places};
use super::blocking;
use super::calls::Call;
use super::command::WhenEnded;
use super::control::Timer;
use super::core::Core;
use super::kernel::Kernel;
use crate::error::{Error, Result};
use crate::layout::*;
use crate::process::Signal;
use crate::ring::EventCount;
use crate::sync::{Arc, AtomicBool, AtomicU64, Mutex, Ordering, fence, lock};

/// Numbers of operations; all runtimes of the process share them.
static NEXT_OP: AtomicU64 = AtomicU64::new(1);

/// See the file's head.
pub(crate) struct Events {
    capacity: usize,
    queue: Mutex<Queue>,
    arrived: EventCount,
    /// Who waits until nothing is under way.
    settled: EventCount,
    /// A dead letter was announced since their queue was found empty.
    letters_told: AtomicBool,
}

fn no_memory<T>(what: &'static str) -> Error {
    Error::OutOfMemory { what, bytes: size_of::<T>() }
}

impl Events {
    pub(crate) fn new(capacity: u32) -> Self {
        Self {
            capacity: capacity as usize,
            queue: Mutex::default(),
            arrived: EventCount::new(),
            settled: EventCount::new(),
            letters_told: AtomicBool::new(false),
        }
    }

    /// Somebody has made something done.
    fn tell(&self) {
        self.arrived.notify_one();
        self.settled.notify_all();
    }

    /// Whether there are so many places, and the memory for their events: what is accepted needs none when it is done.
    fn check_room(&self, queue: &mut Queue, more: usize) -> Result<()> {
        if queue.closed {
            return Err(Error::Shutdown);
        }
        if queue.taken + more > self.capacity {
            let what = "events of operations and watches (rk_runtime_options_t.event_capacity)";
            return Err(Error::Limit { what, limit: self.capacity as u64 });
        }
        // One more is for dead letters.
        let free = (queue.taken + more + 1).saturating_sub(queue.ready.len());
        queue.ready.try_reserve(free).map_err(|_| no_memory::<Ready>("events"))
    }

    fn accept(&self, op: Op) -> Result<u64> {
        let mut queue = lock(&self.queue);
        self.check_room(&mut queue, 1)?;
        queue.ops.try_reserve(1).map_err(|_| no_memory::<Op>("an operation"))?;
        let number = NEXT_OP.fetch_add(1, Ordering::Relaxed);
        queue.ops.insert(number, op);
        queue.taken += 1;
        queue.under_way += 1;
        Ok(number)
    }

    /// Accepts an operation on a kernel (0: none yet).
    pub(crate) fn begin(&self, kind: u32, user_data: u64, kernel: u64) -> Result<u64> {
        self.accept(Op {
            kind,
            user_data,
            kernel,
            progress: Progress::UnderWay { is_cancelled: false, end: None },
        })
    }

    /// Accepts a call; its number and the token for the request.
    pub(crate) fn begin_call(&self, core: &Arc<Core>, user_data: u64, kernel: u64) -> Result<(u64, u64)> {
        let call = Call::begin().ok_or(Error::Limit { what: "calls in progress", limit: 1 << 22 })?;
        let token = call.token();
        let progress = Progress::Calling { call, timer: None };
        let op = self.accept(Op { kind: RK_EVENT_REPLY, user_data, kernel, progress })?;
        let told = match lock(&self.queue).ops.get_mut(&op) {
            Some(Op { progress: Progress::Calling { call, .. }, .. }) => call.tell(core, op),
            _ => Ok(()),
        };
        told.inspect_err(|_| self.withdraw(op))?;
        Ok((op, token))
    }

    /// Takes back an operation of which nothing has begun.
    pub(crate) fn withdraw(&self, op: u64) {
        let mut queue = lock(&self.queue);
        let Some(op) = queue.ops.remove(&op) else { return };
        queue.taken -= 1;
        queue.under_way -= usize::from(!matches!(op.progress, Progress::Done { .. }));
        let is_over = queue.is_over();
        drop(queue);
        drop(op);
        self.settled.notify_all();
        if is_over {
            // Who polls waited for this one, and no event comes of it.
            self.arrived.notify_all();
        }
    }

    /// What waits for the end of a kernel is dropped when its operation is done.
    pub(crate) fn keep_end(&self, op: u64, new: WhenEnded) {
        let mut queue = lock(&self.queue);
        if let Some(Op { progress: Progress::UnderWay { end, .. }, .. }) = queue.ops.get_mut(&op) {
            *end = Some(new);
        }
    }

    /// The timer of a call is its own as long as it is under way.
    pub(crate) fn keep_timer(&self, op: u64, new: Timer) {
        let mut queue = lock(&self.queue);
        if let Some(Op { progress: Progress::Calling { timer, .. }, .. }) = queue.ops.get_mut(&op) {
            *timer = Some(new);
        }
    }

    /// An operation has come to its end; nothing happens if it had.
    pub(crate) fn complete(&self, op: u64, result: &Result<()>, state: u32) {
        self.finish(op, result.as_ref().err().map_or(RK_OK, Error::status), state);
    }

    fn finish(&self, op: u64, status: RkStatus, state: u32) {
        let was = lock(&self.queue).finish(op, status, None, state);
        if was.is_some() {
            self.tell();
        }
    }

    /// A launch has come to its end; false: it was cancelled meanwhile, and its kernel is to be taken away before it is complete.
    pub(crate) fn launched(&self, op: u64, result: &Result<u64>, state: u32) -> bool {
        let mut queue = lock(&self.queue);
        let is_cancelled = |op: &Op| matches!(op.progress, Progress::UnderWay { is_cancelled: true, .. });
        let is_cancelled = queue.ops.get(&op).is_some_and(is_cancelled);
        if is_cancelled && result.is_ok() {
            return false;
        }
        let status = result.as_ref().err().map_or(RK_OK, Error::status);
        let done = queue.finish(op, status, result.as_ref().ok().copied(), state);
        drop(queue);
        if done.is_some() {
            self.tell();
        }
        true
    }

    /// A launch that was cancelled has left nothing behind.
    pub(crate) fn was_cancelled(&self, op: u64) {
        self.finish(op, RK_ERR_CANCELLED, 0);
    }

    /// The time of a call is over.
    pub(crate) fn expire(&self, op: u64) {
        if lock(&self.queue).give_up(op, RK_ERR_TIMEOUT) {
            self.tell();
        }
    }

    /// A call has its reply, or what it got instead.
    pub(crate) fn call_is_done(&self, op: u64) {
        let mut queue = lock(&self.queue);
        let calls = |entry: &&mut Op| matches!(entry.progress, Progress::Calling { .. });
        let Some(entry) = queue.ops.get_mut(&op).filter(calls) else { return };
        let done = Progress::Done { status: RK_OK, state: 0, call: None };
        if let Progress::Calling { call, timer } = std::mem::replace(&mut entry.progress, done) {
            drop(timer);
            entry.progress = Progress::Done { status: call.status(), state: 0, call: Some(call) };
        }
        queue.under_way -= 1;
        queue.push(Ready::Done(op));
        drop(queue);
        self.tell();
    }

    /// `rk_cancel`.
    pub(crate) fn cancel(&self, op: u64) -> Result<()> {
        let mut queue = lock(&self.queue);
        let entry = queue.ops.get_mut(&op).ok_or(Error::BadHandle { what: "the operation", value: op })?;
        let mut was = None;
        let is_done = match &mut entry.progress {
            Progress::Done { .. } => false,
            Progress::Calling { .. } => queue.give_up(op, RK_ERR_CANCELLED),
            Progress::UnderWay { is_cancelled, .. } if entry.kind == RK_EVENT_LAUNCHED => {
                // What is being made is taken away again when it is there.
                *is_cancelled = true;
                return Ok(());
            }
            Progress::UnderWay { .. } => {
                was = queue.finish(op, RK_ERR_CANCELLED, None, 0);
                was.is_some()
            }
        };
        drop(queue);
        drop(was);
        if !is_done {
            return Err(Error::Misused { what: "the operation is complete: its event waits to be polled" });
        }
        self.tell();
        Ok(())
    }

    /// `rk_poll`: how many events were given, at least one.
    pub(crate) fn poll(
        &self,
        capacity: usize,
        deadline_ns: u64,
        mut out: impl FnMut(usize, RkEvent),
    ) -> Option<Result<usize>> {
        blocking::wait(&self.arrived, deadline_ns, || {
            let mut queue = lock(&self.queue);
            let mut given = 0;
            while given < capacity
                && let Some(ready) = queue.ready.pop_front()
            {
                if let Some(event) = queue.event(ready) {
                    out(given, event);
                    given += 1;
                }
                if queue.ready.is_empty()
                    && let Some(signal) = &queue.signal
                {
                    signal.clear();
                }
            }
            match given {
                0 if queue.closed || deadline_ns != 0 && queue.is_over() => Some(Err(Error::Shutdown)),
                0 => None,
                given => {
                    let (is_more, is_over) = (!queue.ready.is_empty(), queue.is_over());
                    drop(queue);
                    if is_over {
                        self.arrived.notify_all();
                    } else if is_more {
                        // Each push woke one; this one has left some.
                        self.arrived.notify_one();
                    }
                    Some(Ok(given))
                }
            }
        })
    }

    /// Whether somebody waits for an event, or may, by the descriptor.
    pub(crate) fn is_awaited(&self) -> bool {
        self.arrived.waiters() != 0 || lock(&self.queue).signal.is_some()
    }

    /// `rk_event_fd`.
    pub(crate) fn descriptor(&self) -> Result<i32> {
        let mut queue = lock(&self.queue);
        if queue.closed {
            return Err(Error::Shutdown);
        }
        if queue.signal.is_none() {
            let refused = |error: std::io::Error| Error::System {
                what: "a descriptor for events",
                errno: error.raw_os_error().unwrap_or(0),
            };
            let signal = Signal::new().map_err(refused)?;
            if !queue.ready.is_empty() {
                signal.raise();
            }
            queue.signal = Some(signal);
        }
        Ok(queue.signal.as_ref().map_or(-1, Signal::descriptor))
    }

    /// `rk_watch`; whether it takes the place of another. If not, whether the kernel is still there is to be looked at afterwards (V1).
    pub(crate) fn watch(&self, kernel: &Kernel, interest: u32, user_data: u64) -> Result<bool> {
        let mut queue = lock(&self.queue);
        let before = queue.watches.get(&kernel.handle);
        if before.is_some_and(|watch| watch.is_gone) {
            return Err(Error::BadHandle { what: "the kernel", value: kernel.handle });
        }
        let (takes_over, had) = (before.is_some(), before.map_or(0, |watch| places(watch.interest)));
        self.check_room(&mut queue, places(interest).saturating_sub(had))?;
        let new = usize::from(interest != 0);
        queue.watches.try_reserve(new).map_err(|_| no_memory::<Watch>("a watch"))?;
        queue.unwatch(kernel);
        kernel.watched.store(interest != 0, Ordering::SeqCst);
        if interest != 0 {
            fence(Ordering::SeqCst); // V1
            queue.taken += places(interest);
            let state = kernel.state().code();
            let readable = Readable::Off;
            let watch = Watch { interest, user_data, readable, state, states_pending: 0, is_gone: false };
            queue.watches.insert(kernel.handle, watch);
            if interest & RK_WATCH_READABLE != 0 {
                queue.arm(kernel);
            }
        }
        drop(queue);
        self.arrived.notify_one();
        Ok(takes_over)
    }

    /// A watched kernel may have put out something.
    pub(crate) fn note_readable(&self, kernel: &Kernel) {
        if lock(&self.queue).fire(kernel) {
            self.arrived.notify_one();
        }
    }

    /// Somebody has found the output of a watched kernel empty.
    pub(crate) fn note_empty(&self, kernel: &Kernel) {
        let mut queue = lock(&self.queue);
        if queue.watches.get(&kernel.handle).is_some_and(|watch| watch.readable == Readable::Fired) {
            queue.arm(kernel);
            drop(queue);
            self.arrived.notify_one();
        }
    }

    /// The state of a watched kernel is another one now; under its lock of verbs.
    pub(crate) fn note_state(&self, kernel: &Kernel, state: u32) {
        let mut queue = lock(&self.queue);
        let has_room = self.check_room(&mut queue, 1).is_ok();
        let Some(watch) = queue.watches.get_mut(&kernel.handle) else { return };
        if watch.interest & RK_WATCH_STATE == 0 || watch.state == state {
            return;
        }
        watch.state = state;
        let (of, is_first) = (kernel.handle, watch.states_pending == 0);
        if is_first || has_room {
            watch.states_pending += 1;
            queue.taken += usize::from(!is_first);
            queue.push(Ready::State { kernel: of, state });
            drop(queue);
            self.arrived.notify_one();
            return;
        }
        let last = queue.ready.iter_mut().rev().find_map(|ready| match ready {
            Ready::State { kernel, state } if *kernel == of => Some(state),
            _ => None,
        });
        last.into_iter().for_each(|last| *last = state);
    }

    /// A watched kernel is destroyed.
    pub(crate) fn forget(&self, kernel: &Kernel) {
        let mut queue = lock(&self.queue);
        queue.disarm(kernel);
        match queue.watches.get_mut(&kernel.handle) {
            Some(watch) if watch.states_pending > 0 => watch.is_gone = true,
            _ => queue.unwatch(kernel),
        }
    }

    /// A dead letter waits.
    pub(crate) fn note_letter(&self, kernel: u64, status: RkStatus) {
        if self.letters_told.load(Ordering::SeqCst) || self.letters_told.swap(true, Ordering::SeqCst) {
            return;
        }
        let mut queue = lock(&self.queue);
        if !queue.closed && !std::mem::replace(&mut queue.letter_waits, true) {
            queue.push(Ready::DeadLetters { kernel, status });
            drop(queue);
            self.arrived.notify_one();
        }
    }

    /// No dead letter was there: the next one is announced again, and one that came meanwhile at once.
    pub(crate) fn note_no_letter(&self, first: impl Fn() -> Option<(u64, RkStatus)>) {
        self.letters_told.store(false, Ordering::SeqCst);
        if let Some((kernel, status)) = first() {
            self.note_letter(kernel, status);
        }
    }

    /// All kernels have ended: waits, until the deadline, for what is under way, and then says that nothing more will come.
    pub(crate) fn shut(&self, deadline_ns: u64) {
        blocking::wait(&self.settled, deadline_ns, || (lock(&self.queue).under_way == 0).then_some(()));
        self.be_shut();
    }

    /// The same without the wait.
    pub(crate) fn be_shut(&self) {
        lock(&self.queue).shut = true;
        self.arrived.notify_all();
    }

    /// The runtime is destroyed: who polls is told, what was not polled is given back.
    pub(crate) fn close(&self) {
        let left = {
            let mut queue = lock(&self.queue);
            std::mem::replace(&mut *queue, Queue { closed: true, ..Queue::default() })
        };
        drop(left);
        self.arrived.notify_all();
    }
}
