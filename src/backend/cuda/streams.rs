//! Streams: made when the first runtime opens a device, before anything of ours is resident there.
//!
//! Making a stream beside a resident kernel works for the first 35 or so of a context; then the driver needs memory for
//! more, and waits for an idle device (seen on an H200 with driver 580: the 36th waited, whatever CUDA_DEVICE_MAX_CONNECTIONS said).
//! So there is a fixed number, which all runtimes of the process on that device share, and which leaves some to the application's own code.
//!
//! A stream is one *launch's*: nothing is ever in line behind another kernel in it. So a resident pool has one until it has ended; a pool that is
//! launched for each batch takes one for each launch and gives it back when that was seen to have ended, and the driver's word of
//! the stream is a word of the launch. With all of them in use a launch waits until one comes back (`begin` says so, the watch asks again, beginning
//! with another kernel each time); what is there for that are messages, and no handler waits for another kernel's, as device code has no
//! means to. One stream more is for the first launch of a kernel, which has no message: it does not wait for handlers of others.
//!
//! A handler that hangs keeps its stream and nobody else's, and gives it back if it comes to its end after all. Where all are kept that way, who wants one is told.
#![allow(unsafe_code)]

use std::collections::VecDeque;
use std::ffi::c_void;

use super::device::Left;
use super::driver::{self, Api, Context, SUCCESS};
use crate::error::Result;
use crate::sync::{Arc, AtomicU64, Mutex, Ordering, Weak, lock};

/// CU_STREAM_NON_BLOCKING.
const NON_BLOCKING: u32 = 1;
/// Streams of either kind, unless RK_CUDA_STREAMS says otherwise. The first launches' is one more.
pub(super) const OF_A_KIND: u64 = 14;

/// Between two questions to the driver whether a handler that was called hung has come to its end.
const ASK_NS: u64 = 1_000_000;

/// The streams of each device that is open, by its context.
static SETS: Mutex<Vec<(ContextKey, Weak<Streams>)>> = Mutex::new(Vec::new());

/// Its address, and its number where the driver says one: after a reset of the device another one may be at the same address.
type ContextKey = (usize, u64);

/// See the file's head.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stream(pub(super) driver::Stream);

// SAFETY: a handle of the driver, which any thread may use.
unsafe impl Send for Stream {}
// SAFETY: as above.
unsafe impl Sync for Stream {}

#[derive(Debug, Default)]
struct Free {
    resident: VecDeque<Stream>,
    short: VecDeque<Stream>,
    /// Kept by what does not come to an end.
    kept: Vec<KeptStream>,
    /// Of the last one that was kept.
    number: u64,
}

#[derive(Clone, Copy, Debug)]
struct KeptStream {
    stream: Stream,
    is_short: bool,
    /// It may be kept again, for another launch.
    number: u64,
}

impl Free {
    fn give_back(&mut self, stream: Stream, is_short: bool) {
        let list = if is_short { &mut self.short } else { &mut self.resident };
        list.push_back(stream);
    }
}

/// Whether a launch may be made now.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Begun {
    Yes,
    NotNow,
    /// Handlers that hang have all streams.
    Never,
}

/// The streams of a device, and what else its runtimes share.
pub(super) struct Streams {
    api: &'static Api,
    all: Vec<Stream>,
    of_a_kind: usize,
    free: Mutex<Free>,
    /// When the driver was asked about kept ones.
    asked_ns: AtomicU64,
    /// What runtimes that are closed could not free.
    pub(super) left: Mutex<Left>,
}

impl Streams {
    /// Those of a context, made if no other runtime has; in the context.
    pub(super) fn of(api: &'static Api, context: Context, of_a_kind: usize) -> Result<Arc<Self>> {
        let mut number = 0;
        if let Some(context_id) = api.context_id {
            // SAFETY: an out-pointer of ours.
            api.check("cuCtxGetId", unsafe { context_id(context, &mut number) })?;
        }
        let key = (context.addr(), number);
        let mut sets = lock(&SETS);
        sets.retain(|(_, set)| set.strong_count() > 0);
        let known = sets.iter().find(|(of, _)| *of == key).and_then(|(_, set)| set.upgrade());
        if let Some(known) = known {
            return Ok(known);
        }
        // One that is not complete gives back what it has.
        let mut made = Self {
            api,
            all: Vec::new(),
            of_a_kind,
            free: Mutex::default(),
            asked_ns: AtomicU64::new(0),
            left: Mutex::default(),
        };
        for _ in 0..2 * of_a_kind + 1 {
            let mut handle = std::ptr::null_mut::<c_void>();
            // SAFETY: an out-pointer of ours.
            let code = unsafe { (api.stream_create)(&mut handle, NON_BLOCKING, 0) };
            api.check("cuStreamCreateWithPriority", code)?;
            made.all.push(Stream(handle));
        }
        let (resident, short) = made.all.split_at(of_a_kind);
        made.free = Mutex::new(Free {
            resident: resident.iter().copied().collect(),
            short: short.iter().copied().collect(),
            ..Free::default()
        });
        let made = Arc::new(made);
        sets.push((key, Arc::downgrade(&made)));
        Ok(made)
    }

    /// Those of a context that is dead are nobody else's.
    pub(super) fn forget(&self) {
        lock(&SETS).retain(|(_, set)| !std::ptr::eq(set.as_ptr(), self));
    }

    /// How many resident pools there can be, and launches at a time.
    pub(super) fn of_a_kind(&self) -> usize {
        self.of_a_kind
    }

    /// Any of them, for a question about the device.
    pub(super) fn any(&self) -> Stream {
        self.all[0]
    }

    /// One for a resident pool.
    pub(super) fn take_resident(&self) -> Option<Stream> {
        lock(&self.free).resident.pop_front()
    }

    /// One for a launch; `is_first`: of a kernel that has no messages.
    pub(super) fn take_short(&self, is_first: bool) -> (Begun, Option<Stream>) {
        let mut free = lock(&self.free);
        let left = usize::from(!is_first);
        match () {
            () if free.short.len() > left => (Begun::Yes, free.short.pop_front()),
            () if free.kept.iter().filter(|kept| kept.is_short).count() + left > self.of_a_kind => {
                (Begun::Never, None)
            }
            () => (Begun::NotNow, None),
        }
    }

    /// What was in it has ended.
    pub(super) fn give_back(&self, stream: Stream, is_short: bool) {
        lock(&self.free).give_back(stream, is_short);
    }

    /// What is in a stream does not come to an end; a number for it.
    pub(super) fn keep(&self, stream: Stream, is_short: bool) -> u64 {
        let mut free = lock(&self.free);
        free.number += 1;
        let number = free.number;
        free.kept.push(KeptStream { stream, is_short, number });
        number
    }

    /// It has, after all; unless that was seen already, and the stream is somebody else's.
    pub(super) fn keep_no_more(&self, number: u64) {
        let mut free = lock(&self.free);
        if let Some(at) = free.kept.iter().position(|kept| kept.number == number) {
            let KeptStream { stream, is_short, .. } = free.kept.swap_remove(at);
            free.give_back(stream, is_short);
        }
    }

    /// Whether launches are short of streams, some are kept, and nobody has asked for a while whether they still are.
    pub(super) fn may_have_come_back(&self, now: u64) -> bool {
        let is_short = {
            let free = lock(&self.free);
            free.short.len() <= 1 && !free.kept.is_empty()
        };
        is_short && now.saturating_sub(self.asked_ns.fetch_max(now, Ordering::Relaxed)) > ASK_NS
    }

    /// Whether something runs there that does not end: nothing is to wait for an idle device. In the context.
    pub(super) fn are_kept(&self) -> bool {
        let kept = lock(&self.free).kept.clone();
        // Under no lock, as the driver may wait.
        for KeptStream { stream, number, .. } in kept {
            // SAFETY: a live stream.
            if unsafe { (self.api.stream_query)(stream.0) } == SUCCESS {
                self.keep_no_more(number);
            }
        }
        !lock(&self.free).kept.is_empty()
    }
}

impl Drop for Streams {
    /// In the context: the last device that has them sees to that.
    fn drop(&mut self) {
        for stream in &self.all {
            // SAFETY: created in `of`; nothing runs on a device that is closed.
            unsafe { (self.api.stream_destroy)(stream.0) };
        }
    }
}
