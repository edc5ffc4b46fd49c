//! The places of all calls in progress, their tokens, and their leases.
//!
//! Places live in chunks that are never freed: a token of any age can be looked up, and its generation says
//! whether it still means something. Each thread keeps one free place for itself, so that a thread that
//! calls again and again takes no lock.
#![allow(unsafe_code)]

use super::buffer::Buffer;
use super::call::CallPlace;
use super::lease::{Kind, Lease};
use crate::layout::{RK_ERR_OUT_OF_MEMORY, RK_OK, RkStatus};
use crate::limits::LEASE_INDEX_BITS;
use crate::ring::Header;
use crate::sync::{AtomicPtr, Mutex, Ordering, lock};

/// Places allocated at once.
const CHUNK: usize = 256;
const CHUNKS: usize = (1 << LEASE_INDEX_BITS) / CHUNK;
/// Larger reply buffers are freed with their reply instead of being kept for the next.
const KEPT_BYTES: usize = 64 * 1024;

/// What a call got.
#[derive(Debug)]
pub(crate) struct Reply {
    /// RK_OK: the message below. Else the call failed with it.
    pub(crate) status: RkStatus,
    pub(crate) header: Header,
    /// The block that replied.
    pub(crate) block: u32,
    pub(crate) payload: Buffer,
}

type Place = CallPlace<Reply>;

static PLACES: [AtomicPtr<[Place; CHUNK]>; CHUNKS] = [const { AtomicPtr::new(std::ptr::null_mut()) }; CHUNKS];
static FREE: Mutex<FreePlaces> = Mutex::new(FreePlaces { indices: Vec::new(), fresh: 0 });

struct FreePlaces {
    indices: Vec<u32>,
    fresh: u32,
}

/// A place that the thread keeps; given back at its end.
struct Own(std::cell::Cell<Option<u32>>);

impl Drop for Own {
    fn drop(&mut self) {
        if let Some(index) = self.0.take() {
            lock(&FREE).indices.push(index);
        }
    }
}

thread_local! {
    static OWN: Own = const { Own(std::cell::Cell::new(None)) };
}

fn place(index: u32) -> Option<&'static Place> {
    let chunk = PLACES.get(index as usize / CHUNK)?.load(Ordering::Acquire);
    // SAFETY: a chunk is leaked once it is linked.
    Some(&unsafe { chunk.as_ref() }?[index as usize % CHUNK])
}

fn take_index() -> Option<u32> {
    if let Some(index) = OWN.try_with(|own| own.0.take()).ok().flatten() {
        return Some(index);
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
            let payload = Buffer::empty();
            CallPlace::new(Reply { status: RK_OK, header: Header::default(), block: 0, payload })
        };
        let chunk: Box<[Place; CHUNK]> = Box::new(std::array::from_fn(empty));
        PLACES[index as usize / CHUNK].store(Box::leak(chunk), Ordering::Release);
    }
    free.fresh += 1;
    Some(index)
}

fn give_back(index: u32) {
    let kept = OWN.try_with(|own| match own.0.get() {
        None => {
            own.0.set(Some(index));
            true
        }
        Some(_) => false,
    });
    if kept != Ok(true) {
        lock(&FREE).indices.push(index);
    }
}

/// A call in progress, the caller's end. Dropped, it is given up.
#[derive(Debug)]
pub(crate) struct Call {
    index: u32,
    generation: u64,
    place: &'static Place,
    open: bool,
}

impl Call {
    /// A place to wait in; `None` when four million calls are in progress.
    pub(crate) fn begin() -> Option<Self> {
        let index = take_index()?;
        let place = place(index).expect("the index came from this pool");
        Some(Self { index, generation: place.begin(), place, open: true })
    }

    /// What goes with the request.
    pub(crate) fn token(&self) -> u64 {
        Lease { kind: Kind::Reply, index: self.index, position: self.generation }.encode()
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
            give_back(self.index);
        }
        abandoned
    }

    /// The reply, which is there: `read` gets it with its lease, and says whether the application keeps it.
    pub(crate) fn finish<R>(mut self, read: impl FnOnce(&Reply, u64) -> (R, bool)) -> R {
        assert!(self.is_done());
        self.open = false;
        let lease = self.token();
        let (result, keep) = self.place.reply(|reply| read(reply, lease));
        if keep {
            self.place.view(self.generation);
        } else {
            self.place.end(self.generation);
            give_back(self.index);
        }
        result
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
pub(crate) fn reply(token: u64, block: u32, header: &Header, payload: &[u8]) -> bool {
    let lease = Lease::decode(token);
    place(lease.index).is_some_and(|place| {
        place.complete(lease.position, |reply| {
            reply.header = *header;
            reply.block = block;
            reply.status = match reserve(&mut reply.payload, payload.len()) {
                true => {
                    reply.payload.bytes_mut()[..payload.len()].copy_from_slice(payload);
                    RK_OK
                }
                false => RK_ERR_OUT_OF_MEMORY,
            };
        })
    })
}

fn reserve(buffer: &mut Buffer, size: usize) -> bool {
    let fits = buffer.capacity() >= size && (buffer.capacity() <= KEPT_BYTES || size > KEPT_BYTES);
    if !fits {
        match Buffer::zeroed(size) {
            Some(new) => *buffer = new,
            None => return false,
        }
    }
    true
}

/// Ends a call with a failure; nothing happens when it has a reply already or its caller is gone.
pub(crate) fn fail(token: u64, status: RkStatus) {
    let lease = Lease::decode(token);
    if let Some(place) = place(lease.index) {
        place.complete(lease.position, |reply| reply.status = status);
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
