//! The places of all calls in progress, their tokens, and their leases.
//!
//! Places live in chunks that are never freed: a token of any age can be looked up, and its generation says
//! whether it still means something. Each thread keeps one free place for itself, so that a thread that
//! calls again and again takes no lock.
#![allow(unsafe_code)]

use std::collections::HashMap;

use super::buffer::Buffer;
use super::call::{CallPlace, Completed};
use super::core::Core;
use super::lease::{Kind, Lease};
use super::message::view;
use crate::error::{Error, Result};
use crate::layout::*;
use crate::limits::LEASE_INDEX_BITS;
use crate::ring::Header;
use crate::sync::{Arc, AtomicPtr, Mutex, Ordering, Weak, lock};
use crate::thread::words;

/// Places allocated at once.
const CHUNK: usize = 256;
const CHUNKS: usize = (1 << LEASE_INDEX_BITS) / CHUNK;
/// Larger reply buffers are freed with their reply instead of being kept for the next.
const KEPT_BYTES: usize = 64 * 1024;

/// A payload of up to a cache line lies beside the rest: a small reply is two lines that lie side by side.
const SMALL: usize = 64;

/// What a call got.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct Reply {
    pub(crate) header: Header,
    /// RK_OK: the message below. Else the call failed with it.
    pub(crate) status: RkStatus,
    /// The block that replied; of a call that failed the reason, one of `RK_DEAD_*`, or 0 when there was no memory for a reply.
    block: u32,
    large: Option<Box<Buffer>>,
    small: [u8; SMALL],
}

impl Reply {
    /// The bytes, 64-byte aligned.
    #[inline(always)]
    fn payload(&self) -> *const u8 {
        match &self.large {
            Some(large) if self.header.payload_size as usize > SMALL => large.as_ptr(),
            _ => self.small.as_ptr(),
        }
    }

    /// The view that the application gets.
    #[inline(always)]
    fn view(&self, lease: u64) -> RkMessage {
        view(&self.header, self.payload(), self.block, lease)
    }

    /// Room for a payload; NULL: there is no memory.
    #[inline(always)]
    fn room(&mut self, size: usize) -> *mut u8 {
        if size <= SMALL { self.small.as_mut_ptr() } else { self.large_room(size) }
    }

    #[cold]
    fn large_room(&mut self, size: usize) -> *mut u8 {
        let capacity = self.large.as_ref().map_or(0, |large| large.capacity());
        if capacity < size || (capacity > KEPT_BYTES && size <= KEPT_BYTES) {
            self.large = Buffer::zeroed(size).map(Box::new);
        }
        self.large.as_ref().map_or(std::ptr::null_mut(), |large| large.as_ptr())
    }
}

type Place = CallPlace<Reply>;

const _: () = assert!(size_of::<Place>() == 2 * SMALL && align_of::<Place>() == 2 * SMALL);

static PLACES: [AtomicPtr<[Place; CHUNK]>; CHUNKS] = [const { AtomicPtr::new(std::ptr::null_mut()) }; CHUNKS];
static FREE: Mutex<FreePlaces> = Mutex::new(FreePlaces { indices: Vec::new(), fresh: 0 });

struct FreePlaces {
    indices: Vec<u32>,
    fresh: u32,
}

/// The thread keeps a place in `Words::call`: `NO_KEEPER`: it does not, or not any more; `KEEPS_NONE`; or the index and `FIRST`.
const NO_KEEPER: u64 = 0;
const KEEPS_NONE: u64 = 1;
const FIRST: u64 = 2;

/// Gives the place back at the thread's end.
struct Keeper;

impl Drop for Keeper {
    fn drop(&mut self) {
        let kept = words().call.replace(NO_KEEPER);
        if let Some(index) = kept.checked_sub(FIRST) {
            lock(&FREE).indices.push(index as u32);
        }
    }
}

/// Whom the reply to a call is told, and the operation.
type Told = (Weak<Core>, u64);

/// The operations ([`super::events`]) of calls that nobody waits for, by token.
static TOLD: Mutex<Option<HashMap<u64, Told>>> = Mutex::new(None);

thread_local! {
    static KEEPER: Keeper = const { Keeper };
}

#[inline(always)]
fn place(index: u32) -> Option<&'static Place> {
    let chunk = PLACES.get(index as usize / CHUNK)?.load(Ordering::Acquire);
    // SAFETY: a chunk is leaked once it is linked.
    Some(&unsafe { chunk.as_ref() }?[index as usize % CHUNK])
}

#[inline(always)]
fn take_index() -> Option<u32> {
    let call = &words().call;
    match call.get().checked_sub(FIRST) {
        Some(index) => {
            call.set(KEEPS_NONE);
            Some(index as u32)
        }
        None => take_shared_index(),
    }
}

#[cold]
fn take_shared_index() -> Option<u32> {
    if words().call.get() == NO_KEEPER && KEEPER.try_with(|_| ()).is_ok() {
        words().call.set(KEEPS_NONE);
    }
    let mut free = lock(&FREE);
    if let Some(index) = free.indices.pop() {
        return Some(index);
    }
    let index = free.fresh;
    if index as usize >= CHUNK * CHUNKS {
        return None;
    }
    if (index as usize).is_multiple_of(CHUNK) {
        let empty = |_| {
            let (header, small) = (Header::default(), [0; SMALL]);
            CallPlace::new(Reply { header, status: RK_OK, block: 0, large: None, small })
        };
        let chunk: Box<[Place; CHUNK]> = Box::new(std::array::from_fn(empty));
        PLACES[index as usize / CHUNK].store(Box::leak(chunk), Ordering::Release);
    }
    free.fresh += 1;
    Some(index)
}

fn give_back(index: u32) {
    let call = &words().call;
    if call.get() == KEEPS_NONE {
        call.set(u64::from(index) + FIRST);
    } else {
        lock(&FREE).indices.push(index);
    }
}

/// What a call got instead of a reply.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Failure {
    pub(crate) status: RkStatus,
    /// One of `RK_DEAD_*`, or 0: there was no memory for a reply of `bytes` bytes.
    pub(crate) reason: u32,
    pub(crate) bytes: usize,
}

/// A call in progress, the caller's end. Dropped, it is given up.
#[derive(Debug)]
pub(crate) struct Call {
    index: u32,
    generation: u64,
    place: &'static Place,
    open: bool,
    /// An operation is told of its end.
    is_told: bool,
}

impl Call {
    /// A place to wait in; `None` when four million calls are in progress.
    #[inline(always)]
    pub(crate) fn begin() -> Option<Self> {
        let index = take_index()?;
        let place = place(index).expect("the index came from this pool");
        Some(Self { index, generation: place.begin(), place, open: true, is_told: false })
    }

    /// What goes with the request.
    pub(crate) fn token(&self) -> u64 {
        Lease { kind: Kind::Reply, index: self.index, position: self.generation }.encode()
    }

    /// Its end is told to an operation, from now on. Before the token goes anywhere.
    pub(crate) fn tell(&mut self, core: &Arc<Core>, op: u64) -> Result<()> {
        {
            let mut all = lock(&TOLD);
            let told = all.get_or_insert_default();
            let refused = |_| Error::OutOfMemory { what: "a call", bytes: size_of::<(u64, Told)>() };
            told.try_reserve(1).map_err(refused)?;
            told.insert(self.token(), (Arc::downgrade(core), op));
        }
        self.is_told = true;
        self.place.be_awaited(self.generation);
        Ok(())
    }

    /// What a call that is done answers.
    pub(crate) fn status(&self) -> RkStatus {
        let status = self.place.reply(|reply| reply.status);
        match self.failure().reason {
            _ if status == RK_OK => RK_OK,
            0 => RK_ERR_OUT_OF_MEMORY,
            RK_DEAD_TERMINATED => RK_ERR_TERMINATED,
            RK_DEAD_SHUTDOWN => RK_ERR_SHUTDOWN,
            RK_DEAD_EXPIRED => RK_ERR_TIMEOUT,
            _ => status,
        }
    }

    /// Whether the reply is there.
    pub(crate) fn is_done(&self) -> bool {
        self.place.is_done(self.generation)
    }

    /// Sleeps; false once the deadline has passed.
    pub(crate) fn sleep(&self, deadline_ns: u64) -> bool {
        self.place.sleep(self.generation, deadline_ns)
    }

    /// Gives up unless a reply is there; false: it is.
    pub(crate) fn abandon(&mut self) -> bool {
        let abandoned = self.place.abandon(self.generation);
        if abandoned {
            self.open = false;
            if self.is_told {
                lock(&TOLD).as_mut().and_then(|told| told.remove(&self.token()));
            }
            give_back(self.index);
        }
        abandoned
    }

    /// Why there is no reply, of a call that has ended without.
    pub(crate) fn failure(&self) -> Failure {
        assert!(self.is_done());
        self.place.reply(|reply| Failure {
            status: reply.status,
            reason: reply.block,
            bytes: reply.header.payload_size as usize,
        })
    }

    /// The view of the reply that is there, for the application to give back; `None`: there is none ([`Call::failure`]).
    #[inline(always)]
    pub(crate) fn view(&mut self) -> Option<RkMessage> {
        let lease = self.token();
        let message = self.place.reply(|reply| (reply.status == RK_OK).then(|| reply.view(lease)))?;
        self.open = false;
        self.place.view(self.generation);
        Some(message)
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        if self.open && !self.abandon() {
            self.place.end(self.generation);
            give_back(self.index);
        }
    }
}

/// Answers a call with a message; false when it has a reply already or its caller is gone.
#[inline]
pub(crate) fn reply(token: u64, block: u32, header: &Header, payload: &[u8]) -> bool {
    let lease = Lease::decode(token);
    let Some(place) = place(lease.index) else { return false };
    let completed = place.complete(lease.position, |reply| {
        // Word by word, as it is read: a wider load has to wait for narrower stores.
        reply.header.correlation = header.correlation;
        reply.header.source = header.source;
        reply.header.payload_size = header.payload_size;
        reply.header.tag = header.tag;
        reply.header.timestamp = header.timestamp;
        reply.block = block;
        let room = reply.room(payload.len());
        reply.status = RK_OK;
        if room.is_null() {
            (reply.status, reply.block) = (RK_ERR_OUT_OF_MEMORY, 0);
        } else {
            // SAFETY: room for so many bytes, that only who fills the place touches.
            unsafe { std::ptr::copy_nonoverlapping(payload.as_ptr(), room, payload.len()) };
        }
    });
    if completed == Completed::Tell {
        tell(token);
    }
    completed != Completed::TooLate
}

/// Tells the operation of a call that it is done.
#[cold]
fn tell(token: u64) {
    let told = lock(&TOLD).as_mut().and_then(|told| told.remove(&token));
    if let Some((core, op)) = told
        && let Some(core) = core.upgrade()
    {
        core.events.call_is_done(op);
    }
}

/// Fetches the place of a call that is about to be answered, for writing: the caller's core has it.
#[inline]
pub(crate) fn fetch(token: u64) {
    if let Some(place) = place(Lease::decode(token).index) {
        let first = std::ptr::from_ref(place).cast::<u8>();
        crate::sync::prefetch_for_write(first);
        crate::sync::prefetch_for_write(first.wrapping_add(SMALL));
    }
}

/// Ends a call with a failure and its reason; nothing happens when it has a reply already or its caller is gone.
pub(crate) fn fail(token: u64, status: RkStatus, reason: u32) {
    let lease = Lease::decode(token);
    if let Some(place) = place(lease.index) {
        let fill = |reply: &mut Reply| (reply.status, reply.block) = (status, reason);
        if place.complete(lease.position, fill) == Completed::Tell {
            tell(token);
        }
    }
}

/// Whether a reply to this token would still be taken.
pub(crate) fn is_open(token: u64) -> bool {
    let lease = Lease::decode(token);
    place(lease.index).is_some_and(|place| place.is_open(lease.position))
}

/// Gives the view of a reply back; false when it is not out (any more).
pub(crate) fn release(lease: Lease) -> bool {
    let released = place(lease.index).is_some_and(|place| place.end_view(lease.position));
    if released {
        give_back(lease.index);
    }
    released
}
