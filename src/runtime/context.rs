//! Inside a handler: who is running on this thread, and what it may do.
//!
//! A context is a number that names one invocation of a handler: the thread's record number (20 bits) and a
//! count of that record (44 bits). Each thread knows the chain of its current invocations (a handler may call
//! another kernel and help it). A context is valid if it names the innermost one of the calling thread;
//! anything else, on whatever thread and at whatever time, is a number that names nothing.
#![allow(unsafe_code)]

use std::cell::Cell;
use std::collections::VecDeque;
use std::ffi::c_void;

use super::block::Body;
use super::buffer::Buffer;
use super::calls;
use super::dead::Letter;
use super::handle::KernelHandle;
use super::kept::Kept;
use super::kernel::{Kernel, Phase, Source};
use super::message::Outgoing;
use super::remote::{Op, Record};
use super::table::record;
use crate::error::{Error, Result};
use crate::layout::*;
use crate::ring::{Header, Received};
use crate::sync::{Arc, Ordering, lock, unix_coarse_ns};
use crate::thread::words;

/// A runner's handlers, one after the other.
struct Invocation<'a> {
    /// What the context of the running handler is called; 0: between two.
    id: Cell<u64>,
    kernel: &'a Arc<Kernel>,
    index: u32,
    body: &'a Body,
    /// The current message, as long as its handler runs; NULL in on_start and on_stop.
    request: Cell<*const Received>,
    /// What a block that runs elsewhere has stamped its message with.
    stamp: Option<RkTimestamp>,
    replied: Cell<bool>,
    outer: *const Invocation<'static>,
}

impl Invocation<'_> {
    #[inline(always)]
    fn request(&self) -> Option<&Received> {
        // SAFETY: `Session::handle` takes it away when the handler returns, and who asks runs inside the handler.
        unsafe { self.request.get().as_ref() }
    }
}

/// The innermost invocation of this thread.
#[inline(always)]
fn innermost() -> *const Invocation<'static> {
    words().invocation.get().cast()
}

#[inline(always)]
fn set_current(invocation: *const Invocation<'static>) {
    words().invocation.set(invocation.cast());
}

/// Puts the outer invocation back, also when a callback unwinds.
struct Leave(*const Invocation<'static>);

impl Drop for Leave {
    fn drop(&mut self) {
        set_current(self.0);
    }
}

/// In which a runner calls its handlers.
pub(crate) struct Session<'a> {
    invocation: Invocation<'a>,
    record: &'static super::hazard::Record,
}

/// Opens a session of a block for as long as `run` takes: what is the same for all its messages is done once.
#[inline(always)]
pub(crate) fn session<R>(
    kernel: &Arc<Kernel>,
    index: u32,
    body: &Body,
    run: impl FnOnce(&Session<'_>) -> R,
) -> R {
    let (id, request, replied) = (Cell::new(0), Cell::new(std::ptr::null()), Cell::new(false));
    let outer = innermost();
    let invocation = Invocation { id, kernel, index, body, request, stamp: None, replied, outer };
    let session = Session { invocation, record: record() };
    // The lifetime is erased for the thread-local; `Leave` ends its use before the invocation ends.
    set_current(std::ptr::from_ref(&session.invocation).cast::<Invocation<'static>>());
    let _leave = Leave(outer);
    run(&session)
}

impl Session<'_> {
    /// Runs a callback with a context of its own. The cell says whether it has replied. The callback does not unwind.
    #[inline(always)]
    pub(crate) fn handle<R>(
        &self,
        request: Option<&Received>,
        callback: impl FnOnce(*mut RkContext, &Cell<bool>) -> R,
    ) -> R {
        let invocation = &self.invocation;
        let count = self.record.count.load(Ordering::Relaxed) + 1;
        self.record.count.store(count, Ordering::Relaxed);
        let id = (self.record.number << 44) | (count & ((1 << 44) - 1));
        if let Some(request) = request
            && invocation.kernel.options.has(RK_LAUNCH_TIMESTAMPS)
        {
            // What follows from the message is later.
            invocation.kernel.clock.observe(request.header.timestamp, unix_coarse_ns);
        }
        invocation.id.set(id);
        invocation.request.set(request.map_or(std::ptr::null(), std::ptr::from_ref));
        invocation.replied.set(false);
        let result = callback(std::ptr::without_provenance_mut(id as usize), &invocation.replied);
        invocation.id.set(0);
        invocation.request.set(std::ptr::null());
        result
    }
}

/// The invocations of this thread, innermost first.
fn chain() -> impl Iterator<Item = &'static Invocation<'static>> {
    // SAFETY: invocations in the chain live on this thread's stack below us; the iterator does not leave the
    // functions of this file, which run to their end above them.
    std::iter::successors(unsafe { innermost().as_ref() }, |inner| unsafe { inner.outer.as_ref() })
}

/// Whether a handler of this kernel is running on this thread.
pub(crate) fn is_inside(kernel: u64) -> bool {
    chain().any(|invocation| invocation.kernel.handle == kernel)
}

/// The kernels and blocks whose handlers run on this thread.
pub(crate) fn places() -> Vec<(u64, u32)> {
    chain().map(|invocation| (invocation.kernel.handle, invocation.index)).collect()
}

/// Whether a handler of any kernel of this runtime is running on this thread.
pub(crate) fn is_inside_runtime(core: &Arc<super::core::Core>) -> bool {
    chain().any(|invocation| Arc::ptr_eq(&invocation.kernel.core, core))
}

/// Whether no handler is running on this thread.
#[inline]
pub(crate) fn is_outside() -> bool {
    innermost().is_null()
}

/// The kernel whose handler runs on this thread, the innermost one.
pub(crate) fn with_innermost<R>(body: impl FnOnce(&Kernel) -> R) -> Option<R> {
    chain().next().map(|invocation| body(invocation.kernel))
}

/// Handlers that run inside each other on this thread.
pub(crate) fn depth() -> usize {
    chain().count()
}

#[inline]
fn current<R>(context: u64, body: impl FnOnce(&Invocation<'_>) -> R) -> Result<R> {
    // SAFETY: as in `chain`.
    match unsafe { innermost().as_ref() } {
        Some(invocation) if context != 0 && invocation.id.get() == context => Ok(body(invocation)),
        _ if context == 0 => Err(Error::Null { argument: "ctx" }),
        _ => Err(Error::BadHandle { what: "the context", value: context }),
    }
}

/// `rk_context_state`.
pub fn state(context: u64) -> Result<*mut c_void> {
    current(context, |invocation| invocation.body.state.as_ptr_or_null().cast())
}

/// `rk_context_shared`.
pub fn shared(context: u64) -> Result<*mut c_void> {
    current(context, |invocation| invocation.body.shared.as_ptr_or_null().cast())
}

/// `rk_context_user_data`.
pub fn user_data(context: u64) -> Result<*mut c_void> {
    current(context, |invocation| invocation.kernel.user_data.0)
}

/// `rk_context_kernel`.
pub fn kernel(context: u64) -> Result<RkKernel> {
    current(context, |invocation| RkKernel { id: invocation.kernel.handle })
}

/// `rk_context_block`.
pub fn block(context: u64) -> Result<u32> {
    current(context, |invocation| invocation.index)
}

/// `rk_context_block_count`.
pub fn block_count(context: u64) -> Result<u32> {
    current(context, |invocation| invocation.kernel.options.grid_size)
}

/// `rk_context_stopping`.
pub fn is_stopping(context: u64) -> Result<bool> {
    current(context, |invocation| Kernel::phase(invocation.kernel.control()) != Phase::Run)
}

/// `rk_context_now`.
pub fn now(context: u64) -> Result<RkTimestamp> {
    current(context, |invocation| invocation.kernel.tick())
}

/// `rk_context_emit`.
pub fn emit(context: u64, message: &Outgoing<'_>) -> Result<()> {
    current(context, |invocation| invocation.emit(message, message.correlation))?
}

/// `rk_context_reply`.
pub fn reply(context: u64, message: &Outgoing<'_>) -> Result<()> {
    current(context, |invocation| invocation.reply(message))?
}

/// `rk_context_reply` to a call, if that takes no more than to copy the message. False: nothing was done.
#[inline]
pub fn quick_reply(context: u64, message: &Outgoing<'_>) -> bool {
    // SAFETY: as in `chain`.
    let Some(invocation) = (unsafe { innermost().as_ref() }) else { return false };
    let (kernel, Some(request)) = (invocation.kernel, invocation.request()) else { return false };
    let is_plain = invocation.id.get() == context
        && request.token != 0
        && !invocation.replied.get()
        && message.payload.len() <= kernel.options.payload_max as usize
        && !kernel.options.has(RK_LAUNCH_TIMESTAMPS);
    if !is_plain {
        return false;
    }
    invocation.replied.set(true);
    let header = Header {
        correlation: request.header.correlation,
        source: kernel.handle,
        payload_size: message.payload.len() as u32,
        tag: message.tag,
        timestamp: RkTimestamp::default(),
    };
    let counters = &kernel.block(invocation.index).counters;
    match calls::reply(request.token, invocation.index, &header, message.payload) {
        true => counters.replies.bump(),
        false => counters.late.bump(),
    }
    true
}

/// `rk_context_send`, if that takes no more than a place in the other's queue. False: nothing was done.
#[inline]
pub fn quick_send(context: u64, route: u32, message: &Outgoing<'_>) -> bool {
    // SAFETY: as in `chain`.
    let Some(invocation) = (unsafe { innermost().as_ref() }) else { return false };
    let (kernel, body) = (invocation.kernel, invocation.body);
    let is_plain = context != 0 && invocation.id.get() == context && !body.has_kept() && body.posted() == 0;
    let Some(target) = kernel.routes.target(route).filter(|_| is_plain) else { return false };
    let sent = KernelHandle::new(target).quick_send_from(kernel, message);
    if sent {
        kernel.block(invocation.index).counters.to_kernels.bump();
    }
    sent
}

/// `rk_context_send`.
pub fn send(context: u64, route: u32, message: &Outgoing<'_>) -> Result<()> {
    current(context, |invocation| invocation.send(route, message))?
}

impl Invocation<'_> {
    /// The header of what this handler sends.
    fn header(&self, message: &Outgoing<'_>, correlation: u64) -> Header {
        let kernel = self.kernel;
        if let Some(timestamp) = self.stamp {
            let payload_size = message.payload.len() as u32;
            return Header { correlation, source: kernel.handle, payload_size, tag: message.tag, timestamp };
        }
        let stamped = kernel.options.has(RK_LAUNCH_TIMESTAMPS);
        Header {
            correlation,
            source: kernel.handle,
            payload_size: message.payload.len() as u32,
            tag: message.tag,
            timestamp: if stamped { kernel.tick_for_host() } else { RkTimestamp::default() },
        }
    }

    /// To the host's output queue.
    fn emit(&self, message: &Outgoing<'_>, correlation: u64) -> Result<()> {
        let kernel = self.kernel;
        kernel.check_size(message.payload.len())?;
        let header = self.header(message, correlation);
        let ring = kernel.output()?;
        if !self.body.has_kept()
            && let Ok(mut claim) = kernel.claim_output(ring)
        {
            claim.publish(&header, message.payload, 0, u64::from(self.index));
            drop(claim);
            kernel.output_was_published();
            return Ok(());
        }
        self.keep(0, message, header)
    }

    /// What found no room: kept, or a dead letter.
    fn keep(&self, target: u64, message: &Outgoing<'_>, header: Header) -> Result<()> {
        let kernel = self.kernel;
        if !kernel.options.keep_overflow {
            let (reason, status) = (RK_DEAD_OVERFLOW, RK_ERR_FULL);
            let block = if target == 0 { self.index } else { message.block };
            let to = if target == 0 { kernel.handle } else { target };
            let letter =
                Letter { kernel: to, block, deadline_ns: message.deadline_ns, header, reason, status };
            kernel.dead_letter(letter, message.payload, 0);
            return Ok(());
        }
        let kept = self.kept(target, message, header)?;
        self.body.extra().kept.borrow_mut().push_back(kept);
        Ok(())
    }

    fn kept(&self, target: u64, message: &Outgoing<'_>, header: Header) -> Result<Kept> {
        let bytes = message.payload.len();
        let payload =
            Buffer::copy_of(message.payload).ok_or(Error::OutOfMemory { what: "kept output", bytes })?;
        Ok(Kept { target, block: message.block, deadline_ns: message.deadline_ns, header, payload })
    }

    /// To whoever sent the current message.
    fn reply(&self, message: &Outgoing<'_>) -> Result<()> {
        let Some(request) = self.request() else {
            return Err(Error::Misused { what: "rk_context_reply outside on_message: there is no sender" });
        };
        let correlation = request.header.correlation;
        if request.token != 0 {
            self.kernel.check_size(message.payload.len())?;
            if self.replied.replace(true) {
                return Err(Error::Misused { what: "this call has been replied to already" });
            }
            self.answer(request.token, message, correlation);
            return Ok(());
        }
        if request.header.source == 0 {
            return self.emit(message, correlation);
        }
        self.to_kernel_or_keep(request.header.source, &Outgoing { correlation, ..*message })
    }

    /// To the call of a token.
    fn answer(&self, token: u64, message: &Outgoing<'_>, correlation: u64) {
        let header = self.header(message, correlation);
        let counters = &self.kernel.block(self.index).counters;
        match calls::reply(token, self.index, &header, message.payload) {
            true => counters.replies.bump(),
            false => counters.late.bump(),
        }
    }

    /// Into the input of a kernel, or kept until there is room.
    fn to_kernel_or_keep(&self, target: u64, message: &Outgoing<'_>) -> Result<()> {
        match self.to_kernel(target, message) {
            Err(Error::Full { .. }) => {
                let header = self.header(message, message.correlation);
                self.keep(target, message, header)
            }
            result => result,
        }
    }

    /// Into the input of a kernel, or posted until there is room. Who asks is told that it is full when as many are posted for the block as it
    /// has places; who does not has credit for less.
    fn to_kernel_or_post(&self, target: u64, message: &Outgoing<'_>, asks: bool) -> Result<()> {
        match self.to_kernel(target, message) {
            Err(full @ Error::Full { .. }) => {
                if asks && self.has_posted_all(target, message.block) {
                    return Err(full);
                }
                let kept = self.kept(target, message, self.header(message, message.correlation))?;
                self.body.extra().posted.borrow_mut().push_back(kept);
                Ok(())
            }
            result => result,
        }
    }

    /// Whether as many messages are posted for a block as its queue has places.
    fn has_posted_all(&self, target: u64, block: u32) -> bool {
        let places = KernelHandle::new(target).with(|other| Ok(other.options.input_capacity as usize));
        let posted = self.body.extra().posted.borrow();
        let for_it = posted.iter().filter(|kept| kept.target == target && kept.block == block);
        places.is_ok_and(|places| for_it.take(places).count() == places)
    }

    /// To the kernel at the end of a route.
    fn send(&self, route: u32, message: &Outgoing<'_>) -> Result<()> {
        let no_route = || Error::NoRoute { kernel: Arc::clone(&self.kernel.id), route };
        let target = self.kernel.routes.target(route).ok_or_else(no_route)?;
        self.to_kernel(target, message)
    }

    /// Into the input of another kernel, or this one; a kernel that has ended makes it a dead letter.
    fn to_kernel(&self, target: u64, message: &Outgoing<'_>) -> Result<()> {
        let kernel = self.kernel;
        let sent = KernelHandle::new(target).with(|other| {
            let behind_kept = {
                let is_for = |list: &VecDeque<Kept>| list.iter().any(|kept| kept.target == target);
                (self.body.has_kept() && is_for(&self.body.extra().kept.borrow()))
                    || (self.body.posted() != 0 && is_for(&self.body.extra().posted.borrow()))
            };
            if behind_kept {
                other.check_accepts()?;
                other.check_size(message.payload.len())?;
                return Err(other.full_error());
            }
            other.try_send(message, 0, Some(Source { kernel, stamp: self.stamp })).map(drop)
        });
        match sent {
            Ok(()) => kernel.block(self.index).counters.to_kernels.bump(),
            Err(
                Error::Terminated { .. }
                | Error::KernelFailed { .. }
                | Error::KernelLost { .. }
                | Error::BadHandle { .. },
            ) => {
                let header = self.header(message, message.correlation);
                let block = message.block;
                let deadline_ns = message.deadline_ns;
                let (reason, status) = (RK_DEAD_TERMINATED, RK_ERR_TERMINATED);
                let letter = Letter { kernel: target, block, deadline_ns, header, reason, status };
                kernel.dead_letter(letter, message.payload, 0);
            }
            Err(error) => return Err(error),
        }
        Ok(())
    }
}

/// Does for a block that runs elsewhere what its handler has asked for; inside the block's gate.
/// False: it asks, and there is no room.
pub(crate) fn deliver(kernel: &Arc<Kernel>, index: u32, body: &Body, record: &Record<'_>) -> bool {
    let stamp = (record.timestamp.physical_ns != 0).then_some(record.timestamp);
    let (id, request, replied) = (Cell::new(0), Cell::new(std::ptr::null()), Cell::new(false));
    let invocation = Invocation { id, kernel, index, body, request, stamp, replied, outer: std::ptr::null() };
    if let Some(stamp) = stamp {
        // The host's too, before the host can have it.
        kernel.clock.observe(stamp, unix_coarse_ns);
        kernel.core.host_clock.observe(stamp, unix_coarse_ns);
    }
    let message = Outgoing {
        payload: record.payload,
        tag: record.tag,
        block: record.block,
        correlation: record.correlation,
        deadline_ns: record.deadline_ns,
    };
    let delivered = match record.op {
        Op::Reply(token) => {
            invocation.answer(token, &message, record.correlation);
            Ok(())
        }
        Op::ReplyKernel(target) => invocation.to_kernel_or_keep(target, &message),
        Op::Send(target) => invocation.to_kernel_or_post(target, &message, record.asks),
        _ => invocation.emit(&message, record.correlation),
    };
    if let Err(error) = delivered {
        if record.asks && matches!(error, Error::Full { .. }) {
            return false;
        }
        // The handler is long past being told: the message says it as a dead letter.
        let header = invocation.header(&message, record.correlation);
        let reason = match &error {
            Error::NoBlock { .. } | Error::TooLarge { .. } => RK_DEAD_NO_ROUTE,
            _ => RK_DEAD_OVERFLOW,
        };
        let status = error.status();
        let letter = Letter {
            kernel: kernel.handle,
            block: index,
            deadline_ns: record.deadline_ns,
            header,
            reason,
            status,
        };
        kernel.dead_letter(letter, record.payload, 0);
    }
    true
}

/// Puts kept output out; false when there is no room.
pub(crate) fn put_out(kernel: &Arc<Kernel>, index: u32, kept: &Kept) -> bool {
    if kept.target == 0 {
        let Some(ring) = kernel.output.get() else { return false };
        let Ok(mut claim) = kernel.claim_output(ring) else { return false };
        claim.publish(&kept.header, kept.payload.bytes(), 0, u64::from(index));
        drop(claim);
        kernel.output_was_published();
        return true;
    }
    let message = Outgoing {
        payload: kept.payload.bytes(),
        tag: kept.header.tag,
        block: kept.block,
        correlation: kept.header.correlation,
        deadline_ns: kept.deadline_ns,
    };
    let sent = KernelHandle::new(kept.target).with(|other| {
        // When the handler sent it, if that is known.
        let stamp = (kept.header.timestamp.physical_ns != 0).then_some(kept.header.timestamp);
        other.try_send(&message, 0, Some(Source { kernel, stamp })).map(drop)
    });
    match sent {
        Ok(()) => kernel.block(index).counters.to_kernels.bump(),
        Err(Error::Full { .. }) => return false,
        Err(error) => {
            let (reason, status) = match error {
                // Only now is it known that there is no such place.
                Error::NoBlock { .. } | Error::TooLarge { .. } => (RK_DEAD_NO_ROUTE, error.status()),
                // For the memory of its queue.
                Error::OutOfMemory { .. } => (RK_DEAD_OVERFLOW, error.status()),
                _ => (RK_DEAD_TERMINATED, RK_ERR_TERMINATED),
            };
            let (header, block) = (kept.header, kept.block);
            let letter =
                Letter { kernel: kept.target, block, deadline_ns: kept.deadline_ns, header, reason, status };
            kernel.dead_letter(letter, kept.payload.bytes(), 0);
        }
    }
    true
}

/// Enters a block into the list of those that wait for room in a kernel's input. A kernel that is gone has
/// nobody to poke, but then the next try does not find it full either.
pub(crate) fn wait_for_room(target: u64, kernel: &Arc<Kernel>, index: u32) {
    let _ = KernelHandle::new(target).with(|other| {
        let mut waiting = lock(&other.extra().waiting);
        if !waiting.iter().any(|(waiter, block)| *block == index && waiter.as_ptr() == Arc::as_ptr(kernel)) {
            waiting.push((Arc::downgrade(kernel), index));
        }
        other.waiting_count.store(waiting.len() as u32, Ordering::SeqCst);
        Ok(())
    });
}
