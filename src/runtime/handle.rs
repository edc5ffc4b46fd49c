//! Kernel handles: small values that may be stale, and what can be done with them.
//!
//! A handle is generation (40 bits) and index (24 bits) into a table of the process. Generations are the
//! count of launches, so no handle is ever issued twice. The data plane works on the kernel under a hazard
//! pointer and takes a share only to wait; see `table.rs`.

use std::cell::Cell;

use super::help::{help, help_receiver, is_short, look_for_news};
use super::kernel::{Kernel, Parts};
use super::lease;
use super::lifecycle::KernelState;
use super::message::Outgoing;
use super::table::{Held, Table};
use super::{block, blocking, calls, context};
use crate::error::{self, Error, Result};
use crate::layout::*;
use crate::limits::{COARSE_SURE_NS, FULL_LOOKS, FULL_SPINS, HANDLE_INDEX_BITS, RESTED_NS, TABLE_CHUNK};
use crate::ring::EventCount;
use crate::sync::{Arc, AtomicU64, Ordering, fence, monotonic_coarse_ns, monotonic_ns};

static KERNELS: Table<Kernel, { (1 << HANDLE_INDEX_BITS) / TABLE_CHUNK }> = Table::new();
static GENERATION: AtomicU64 = AtomicU64::new(1);

/// A kernel, or what was one. Copies are the same kernel. Any thread.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct KernelHandle(u64);

impl From<RkKernel> for KernelHandle {
    fn from(raw: RkKernel) -> Self {
        Self(raw.id)
    }
}

/// Makes a kernel and its handle; `None` when the table is full.
pub(crate) fn insert(parts: Parts) -> Option<Arc<Kernel>> {
    let generation = GENERATION.fetch_add(1, Ordering::Relaxed);
    KERNELS.insert(|index| Kernel::new((generation << HANDLE_INDEX_BITS) | u64::from(index), parts))
}

/// Makes a kernel's handle stale; false when somebody else did. Its rings stay while something of them is out.
pub(crate) fn remove(kernel: &Arc<Kernel>) -> bool {
    let index = kernel.handle as u32 & ((1 << HANDLE_INDEX_BITS) - 1);
    let removed = KERNELS.remove(index, |found| found.handle == kernel.handle);
    if removed {
        kernel.core.forget(kernel);
        fence(Ordering::SeqCst); // V2
        if kernel.is_watched() {
            kernel.core.events.forget(kernel);
        }
        lease::retire(kernel);
    }
    removed
}

impl KernelHandle {
    pub(crate) const fn new(handle: u64) -> Self {
        Self(handle)
    }

    /// The handle in C.
    pub fn raw(self) -> RkKernel {
        RkKernel { id: self.0 }
    }

    fn index(self) -> u32 {
        self.0 as u32 & ((1 << HANDLE_INDEX_BITS) - 1)
    }

    fn stale(self) -> Error {
        Error::BadHandle { what: "the kernel", value: self.0 }
    }

    /// Does something with the kernel that does not wait.
    #[inline]
    pub(crate) fn with<R>(self, body: impl FnOnce(&Kernel) -> Result<R>) -> Result<R> {
        KERNELS
            .with(self.index(), |kernel| (kernel.handle == self.0).then(|| body(kernel)))
            .flatten()
            .unwrap_or_else(|| Err(self.stale()))
    }

    /// A share of the kernel.
    pub(crate) fn get(self) -> Result<Arc<Kernel>> {
        KERNELS.get(self.index()).filter(|kernel| kernel.handle == self.0).ok_or_else(|| self.stale())
    }

    /// A share of the kernel, unless the caller is one of its own handlers.
    pub(super) fn get_from_outside(self, verb: &'static str) -> Result<Arc<Kernel>> {
        let kernel = self.get()?;
        if context::is_inside(self.0) {
            return Err(Error::WouldDeadlock { verb, target: Arc::clone(&kernel.id) });
        }
        Ok(kernel)
    }

    /// `rk_activate`.
    pub fn activate(self) -> Result<()> {
        self.get_from_outside("activate")?.activate()
    }

    /// `rk_deactivate`.
    pub fn deactivate(self) -> Result<()> {
        self.get_from_outside("deactivate")?.deactivate()
    }

    /// `rk_terminate`.
    pub fn terminate(self, timeout_ns: u64) -> Result<()> {
        super::owner::terminate(&self.get_from_outside("terminate")?, timeout_ns, false)
    }

    /// `rk_wait`.
    pub fn wait(self, timeout_ns: u64) -> Result<()> {
        let kernel = self.get_from_outside("wait")?;
        blocking::wait(&kernel.lifecycle, blocking::deadline(timeout_ns), || kernel.outcome()).unwrap_or_else(
            || {
                let what = "the wait for the end";
                Err(Error::Timeout { what, name: Arc::clone(&kernel.id), timeout_ns })
            },
        )
    }

    /// `rk_destroy`.
    pub fn destroy(self) -> Result<()> {
        let kernel = self.get_from_outside("destroy")?;
        let had_ended = kernel.has_ended();
        let result = super::owner::terminate(&kernel, 0, true);
        if !remove(&kernel) {
            return Err(self.stale());
        }
        if had_ended { Ok(()) } else { result }
    }

    /// The id.
    pub fn name(self) -> Result<Arc<str>> {
        self.with(|kernel| Ok(Arc::clone(&kernel.id)))
    }

    /// The state.
    pub fn state(self) -> Result<KernelState> {
        self.with(|kernel| Ok(kernel.state()))
    }

    /// The same by the shortest way; `None`: the whole way has something to say.
    #[inline(always)]
    pub fn quick_state(self) -> Option<u32> {
        KERNELS.peek(self.index()).filter(|kernel| kernel.handle == self.0).map(|kernel| kernel.state_code())
    }

    /// `rk_kernel_status`.
    pub fn status(self) -> Result<RkKernelStatus> {
        self.with(|kernel| Ok(kernel.status()))
    }

    /// `rk_kernel_metrics`.
    pub fn metrics(self) -> Result<RkKernelMetrics> {
        Ok(self.get()?.metrics())
    }

    /// `rk_connect`.
    pub fn connect(self, to: Self) -> Result<u32> {
        let (from, to) = (self.get()?, to.get()?);
        if !Arc::ptr_eq(&from.core, &to.core) {
            return Err(Error::Invalid { what: "a route cannot lead from one runtime into another" });
        }
        from.check_accepts()?;
        to.check_accepts()?;
        let route =
            from.routes.add(to.handle).ok_or(Error::Limit { what: "routes of a kernel", limit: 1 << 29 })?;
        if let Err(error) = from.driver.routed(&from, route, Some(&to)) {
            from.routes.remove(route);
            return Err(error);
        }
        Ok(route)
    }

    /// `rk_disconnect`.
    pub fn disconnect(self, route: u32) -> Result<()> {
        self.with(|kernel| {
            let removed = kernel.routes.remove(route);
            let no_route = || Error::NoRoute { kernel: Arc::clone(&kernel.id), route };
            if removed { kernel.driver.routed(kernel, route, None) } else { Err(no_route()) }
        })
    }

    /// `rk_send`, if it takes no more than a place in the queue. False: nothing was done.
    #[inline]
    pub fn quick_send(self, message: &Outgoing<'_>) -> bool {
        KERNELS
            .peek(self.index())
            .is_some_and(|kernel| kernel.handle == self.0 && kernel.quick_send(message, None))
    }

    /// `rk_send`.
    pub fn send(self, message: &Outgoing<'_>, timeout_ns: u64) -> Result<()> {
        let sent = self.with(|kernel| kernel.try_send(message, 0, None).map(drop));
        match sent {
            Err(Error::Full { .. }) if timeout_ns != 0 => {
                self.wait_for_space(timeout_ns, "rk_send", |kernel| {
                    kernel.try_send(message, 0, None).map(drop)
                })
            }
            sent => sent,
        }
    }

    /// Tries again whenever there is room, until the time is over.
    fn wait_for_space<R>(
        self,
        timeout_ns: u64,
        verb: &'static str,
        mut attempt: impl FnMut(&Arc<Kernel>) -> Result<R>,
    ) -> Result<R> {
        let kernel = self.get_from_outside(verb)?;
        let deadline = blocking::deadline(timeout_ns);
        let mut look = || match attempt(&kernel) {
            Err(Error::Full { .. }) => None,
            result => Some(result),
        };
        // A receiver that is at work makes room all the time. Who looks at once gets one place and is in the receiver's way, who
        // waits a little gets many; and not looking costs nobody a cache line.
        for _ in 0..FULL_LOOKS {
            look_away();
            if let Some(found) = look() {
                return found;
            }
        }
        blocking::wait(&kernel.space, deadline, look).unwrap_or_else(|| {
            Err(Error::Timeout { what: "the wait for room", name: Arc::clone(&kernel.id), timeout_ns })
        })
    }

    /// The same from a handler of a kernel.
    #[inline]
    pub(crate) fn quick_send_from(self, source: &Kernel, message: &Outgoing<'_>) -> bool {
        KERNELS
            .peek(self.index())
            .is_some_and(|kernel| kernel.handle == self.0 && kernel.quick_send(message, Some(source)))
    }

    /// `rk_send_batch`, as far as it takes no more than places in the queue: how many were sent.
    #[inline]
    pub fn quick_send_batch<'a>(
        self,
        count: usize,
        message: impl Fn(usize, usize) -> Option<Outgoing<'a>>,
    ) -> usize {
        let mut sent = 0;
        while sent < count {
            let run = KERNELS.with(self.index(), |kernel| match kernel.handle == self.0 {
                true => kernel.quick_send_run(count - sent, |index, limit| message(sent + index, limit)),
                false => 0,
            });
            match run {
                Some(run) if run > 0 => sent += run,
                _ => break,
            }
        }
        if sent > 0 && sent < count {
            // Most likely the queue is full. Who comes back at once gets few places, who waits a little gets many.
            look_away();
        }
        sent
    }

    /// `rk_send_batch` from message `sent` on, which is not to be waited for unless it is 0: how many were sent in all, and
    /// the failure if none. What the short way does not take goes the whole way, one by one.
    pub fn send_batch<'a>(
        self,
        count: usize,
        mut sent: usize,
        quick: impl Fn(usize, usize) -> Option<Outgoing<'a>>,
        message: impl Fn(usize) -> Result<Outgoing<'a>>,
        timeout_ns: u64,
    ) -> (usize, Result<()>) {
        // The handle before the messages, as in every function.
        let known = self.with(|_| Ok(()));
        // What the short way has sent is sent, whatever has become of the kernel since.
        if sent == 0 && (count == 0 || known.is_err()) {
            return (0, known);
        }
        while sent < count {
            let timeout_ns = if sent == 0 { timeout_ns } else { 0 };
            match message(sent).and_then(|message| self.send(&message, timeout_ns)) {
                Ok(()) => sent += 1,
                Err(error) if sent == 0 => return (0, Err(error)),
                Err(_) => break,
            }
            sent += self.quick_send_batch(count - sent, |index, limit| quick(sent + index, limit));
        }
        (sent, Ok(()))
    }

    /// `rk_reserve`.
    pub fn reserve(self, block: u32, size: usize, timeout_ns: u64) -> Result<RkLoan> {
        let mut lent = None;
        self.reserve_batch(block, size, 1, timeout_ns, |loan| lent = Some(loan))?;
        lent.ok_or(Error::Internal { what: "a reservation that succeeded lent nothing" })
    }

    /// `rk_reserve_batch`.
    pub fn reserve_batch(
        self,
        block: u32,
        size: usize,
        count: usize,
        timeout_ns: u64,
        mut out: impl FnMut(RkLoan),
    ) -> Result<()> {
        if count == 0 {
            return self.with(|_| Ok(()));
        }
        let first = self.with(|kernel| lease::reserve(kernel, block, size, count as u64, &mut out));
        match first {
            Err(Error::Full { .. }) if timeout_ns != 0 => {
                self.wait_for_space(timeout_ns, "rk_reserve", |kernel| {
                    lease::reserve(kernel, block, size, count as u64, &mut out)
                })
            }
            first => first,
        }
    }

    /// `rk_receive` and its batch, as far as messages are there: how many were taken.
    #[inline]
    pub fn quick_receive(self, capacity: usize, mut take: impl FnMut(usize, &RkMessage)) -> usize {
        let taken = KERNELS.with(self.index(), |kernel| {
            let ring = kernel.output.get().filter(|_| kernel.handle == self.0)?;
            let (index, base) = lease::known_entry(kernel)?;
            let taken = lease::take_views(ring, index, base, capacity, &mut take);
            if taken < capacity && taken > 0 {
                kernel.output_was_found_empty();
            }
            Some(taken)
        });
        taken.flatten().unwrap_or(0)
    }

    /// `rk_receive`.
    pub fn receive(self, timeout_ns: u64) -> Result<RkMessage> {
        let mut message = None;
        self.receive_batch(1, timeout_ns, |received| message = Some(received))?;
        message.ok_or(Error::Internal { what: "a receive that succeeded gave no message" })
    }

    /// `rk_receive_batch`.
    pub fn receive_batch(
        self,
        capacity: usize,
        timeout_ns: u64,
        mut take: impl FnMut(RkMessage),
    ) -> Result<()> {
        if capacity == 0 {
            return self.with(|_| Ok(()));
        }
        let first = self.with(|kernel| try_receive(kernel, capacity, &mut take));
        match first {
            Ok(true) => return Ok(()),
            Ok(false) if timeout_ns == 0 => {
                let empty =
                    |kernel: &Kernel| Error::Empty { what: "the output queue", name: Arc::clone(&kernel.id) };
                return self.with(|kernel| Err(empty(kernel)));
            }
            Ok(false) => {}
            Err(error) => return Err(error),
        }
        let kernel = self.get_from_outside("rk_receive")?;
        let deadline = blocking::deadline(timeout_ns);
        if kernel.is_remote() {
            let has_ended = || matches!(kernel.state(), KernelState::Terminated | KernelState::Failed);
            let until = || kernel.output.get().is_some_and(crate::ring::Ring::is_readable) || has_ended();
            look_for_news(&kernel, 0..kernel.options.grid_size, deadline, &until);
        } else {
            help_receiver(&kernel, timeout_ns);
        }
        blocking::wait(&kernel.readable, deadline, || match try_receive(&kernel, capacity, &mut take) {
            Ok(false) => None,
            Ok(true) => Some(Ok(())),
            Err(error) => Some(Err(error)),
        })
        .unwrap_or_else(|| {
            Err(Error::Timeout { what: "the wait for a message", name: Arc::clone(&kernel.id), timeout_ns })
        })
    }

    /// `rk_call`.
    pub fn call(self, request: &Outgoing<'_>, timeout_ns: u64) -> Result<RkMessage> {
        let kernel = self.get_from_outside("rk_call")?;
        let deadline = blocking::deadline(timeout_ns);
        let limit = Error::Limit { what: "calls in progress", limit: 1 << 22 };
        let call = calls::Call::begin().ok_or(limit)?;
        let block = match kernel.put(request, call.token(), None) {
            Err(Error::Full { .. }) if timeout_ns != 0 => {
                self.wait_for_space(timeout_ns, "rk_call", |kernel| kernel.put(request, call.token(), None))?
            }
            sent => sent?,
        };
        if kernel.is_remote() {
            kernel.block(block).gate.work_was_made();
            look_for_news(&kernel, block..block + 1, deadline, &|| call.is_done());
        } else if !help(&kernel, block, timeout_ns, &|| call.is_done()) {
            kernel.announce(block);
        }
        let mut look = || call.is_done().then_some(());
        let is_there = await_reply(&call, deadline, || EventCount::poll(&mut look));
        conclude(call, &kernel, is_there, timeout_ns)
    }

    /// `rk_call` of a kernel of this process from outside of handlers, as far as it takes no sleep. Some: what is left to do, with
    /// nothing in it if nothing was done.
    ///
    /// The clock that is looked at is the coarse one (4 ms), so a time of less than [`COARSE_SURE_NS`] goes the whole way.
    #[inline]
    pub fn quick_call(
        self,
        request: &Outgoing<'_>,
        timeout_ns: u64,
        out: impl FnOnce(&RkMessage),
    ) -> Option<Option<Pending>> {
        const NOTHING_DONE: Option<Option<Pending>> = Some(None);
        if timeout_ns < COARSE_SURE_NS || !context::is_outside() {
            return NOTHING_DONE;
        }
        let Some(kernel) = KERNELS.hold(self.index()) else { return NOTHING_DONE };
        if kernel.handle != self.0 || kernel.is_remote() {
            return NOTHING_DONE;
        }
        let Some((index, ring)) = kernel.quick_target(request) else { return NOTHING_DONE };
        let Some(mut call) = calls::Call::begin() else { return NOTHING_DONE };
        let header = kernel.input_header(request, None);
        if let Err(error) = ring.put(&header, request.payload, call.token(), request.deadline_ns) {
            kernel.was_refused(index, error);
            return NOTHING_DONE;
        }
        let is_timed = timeout_ns != u64::MAX;
        let begun_ns = if is_timed { monotonic_coarse_ns() } else { 0 };
        let block = kernel.block(index);
        let helps = kernel.may_be_helped()
            && (!is_timed || is_short(block, timeout_ns))
            && (block.gate.enter_idle() || block.gate.enter_queued());
        let mut slept = false;
        if helps {
            error::set_aside(|| block::run(&kernel, index, Some(&|| call.is_done())));
        } else {
            slept = block.gate.is_idle() && has_rested();
            kernel.announce(index);
            let mut look = || call.is_done().then_some(());
            let _ = if slept { EventCount::poll_woken(&mut look) } else { EventCount::poll(&mut look) };
        }
        let mut is_late = false;
        if is_timed {
            let spent_ns = monotonic_coarse_ns().saturating_sub(begun_ns);
            is_late = spent_ns > timeout_ns;
            if helps && spent_ns >= COARSE_SURE_NS {
                block.note_pace(spent_ns);
            }
        }
        if !is_late
            && call.is_done()
            && let Some(message) = call.view()
        {
            out(&message);
            return None;
        }
        Some(Some(Pending { call, kernel, timeout_ns, begun_ns, is_late, slept }))
    }
}

/// A call whose request is on its way.
pub struct Pending {
    call: calls::Call,
    kernel: Held<Kernel>,
    timeout_ns: u64,
    begun_ns: u64,
    is_late: bool,
    /// The block's thread slept: what it does takes longer than it is worth to look for it.
    slept: bool,
}

impl Pending {
    /// The rest of the call.
    pub fn finish(self) -> Result<RkMessage> {
        let deadline = match self.timeout_ns {
            _ if self.is_late => 1,
            u64::MAX => u64::MAX,
            timeout_ns => {
                // Never too early: the coarse clock may have made a step of its own.
                let spent_ns = monotonic_coarse_ns().saturating_sub(self.begun_ns);
                let left_ns = timeout_ns.saturating_sub(spent_ns.saturating_sub(COARSE_SURE_NS / 2));
                monotonic_ns().saturating_add(left_ns)
            }
        };
        let mut look = || self.call.is_done().then_some(());
        let poll = || if self.slept { None } else { EventCount::poll(&mut look) };
        let is_there = await_reply(&self.call, deadline, poll);
        conclude(self.call, &self.kernel, is_there, self.timeout_ns)
    }
}

/// Waits for a reply and takes it.
fn conclude(mut call: calls::Call, kernel: &Kernel, is_there: bool, timeout_ns: u64) -> Result<RkMessage> {
    if !is_there {
        return Err(Error::Timeout { what: "the call", name: Arc::clone(&kernel.id), timeout_ns });
    }
    if let Some(message) = call.view() {
        return Ok(message);
    }
    Err(call_error(kernel, call.failure()))
}

/// What a sender does between two looks at a full queue.
fn look_away() {
    (0..FULL_SPINS).for_each(|_| crate::sync::spin_loop());
}

/// Whether this thread's last call to a block at rest began so long ago that the block's thread most likely sleeps by now, and is not
/// just about to. A guess: what others have called, and how long that call took, is not known.
fn has_rested() -> bool {
    thread_local! {
        static LAST_NS: Cell<u64> = const { Cell::new(0) };
    }
    let now = monotonic_ns();
    now.saturating_sub(LAST_NS.replace(now)) > RESTED_NS
}

/// Waits for a reply, before it sleeps by `poll`; false when the time was over first.
fn await_reply(call: &calls::Call, deadline: u64, poll: impl FnOnce() -> Option<()>) -> bool {
    if call.is_done() {
        // A helper may have overrun the time.
        return deadline == u64::MAX || deadline == 0 || monotonic_ns() <= deadline;
    }
    if deadline == 0 {
        return false;
    }
    poll().is_some() || blocking::section(|| call.sleep(deadline))
}

/// What a call answers that has no reply. By the reason first: a handler may return any status.
fn call_error(kernel: &Kernel, failure: calls::Failure) -> Error {
    let id = Arc::clone(&kernel.id);
    match (failure.reason, failure.status) {
        (0, _) => Error::OutOfMemory { what: "a reply", bytes: failure.bytes },
        (RK_DEAD_TERMINATED, _) => Error::Terminated { kernel: id, state: "ended" },
        (RK_DEAD_SHUTDOWN, _) => Error::Shutdown,
        (RK_DEAD_EXPIRED, _) => Error::Expired { kernel: id },
        (_, RK_ERR_KERNEL_FAILED) => match kernel.ended_error() {
            failed @ (Error::KernelFailed { .. } | Error::KernelLost { .. }) => failed,
            // Terminated since.
            _ => Error::KernelFailed { kernel: id, status: RK_ERR_KERNEL_FAILED },
        },
        (_, status) => Error::Handler { kernel: id, status },
    }
}

/// Takes up to `capacity` messages; false: none is there, and some may come.
fn try_receive(kernel: &Kernel, capacity: usize, take: &mut dyn FnMut(RkMessage)) -> Result<bool> {
    // The state before the queue: what was emitted before the end is found after it was seen.
    let state = kernel.state();
    let mut taken = 0;
    if let Some(ring) = kernel.output.get() {
        let (index, base) = lease::entry_of(kernel, None)?;
        taken = lease::take_views(ring, index, base, capacity, &mut |_, message| take(*message));
    }
    if taken < capacity {
        kernel.output_was_found_empty();
    }
    match state {
        _ if taken > 0 => Ok(true),
        KernelState::Terminated | KernelState::Failed => Err(kernel.ended_error()),
        _ => Ok(false),
    }
}
