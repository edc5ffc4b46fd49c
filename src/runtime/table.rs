//! A table from small indices to shared objects, for handles that may be stale or garbage.
//!
//! Slots come in chunks that are never freed, so any index can be looked up at any time; the object in a slot
//! is protected by a hazard pointer (`hazard.rs`) while it is used. Which generation of an index a handle
//! means is the object's own business: it knows its handle.

#![allow(unsafe_code)]

use once_cell::sync::Lazy;

use super::hazard::{Domain, Record};
use crate::limits::TABLE_CHUNK;
use crate::sync::{Arc, AtomicPtr, Mutex, Ordering, lock};

/// The records of all threads.
static DOMAIN: Domain = Domain::new();

thread_local! {
    /// This thread's record, for the price of a load. Not dropped.
    static RECORD: std::cell::Cell<Option<&'static Record>> = const { std::cell::Cell::new(None) };
    /// Gives the record back at the thread's end.
    static OWNER: Owner = const { Owner };
}

struct Owner;

impl Drop for Owner {
    fn drop(&mut self) {
        if let Some(record) = RECORD.take() {
            record.give_back();
        }
    }
}

/// This thread's record. A thread that is being torn down and comes here once more keeps a record for ever,
/// which costs one record.
#[inline]
pub(crate) fn record() -> &'static Record {
    match RECORD.get() {
        Some(record) => record,
        None => take_record(),
    }
}

#[cold]
fn take_record() -> &'static Record {
    let record = DOMAIN.take();
    RECORD.set(Some(record));
    let _ = OWNER.try_with(|_| ());
    record
}

type Chunk<T> = [AtomicPtr<T>; TABLE_CHUNK];

/// See the file's head.
pub(crate) struct Table<T> {
    chunks: Lazy<Box<[AtomicPtr<Chunk<T>>]>>,
    free: Mutex<Free>,
    limit: usize,
}

#[derive(Debug)]
struct Free {
    /// Given back, oldest first: an index rests as long as possible.
    indices: std::collections::VecDeque<u32>,
    /// Indices from here on were never used.
    fresh: u32,
}

impl<T> Table<T> {
    /// A table for up to 2^bits objects.
    pub(crate) const fn new<const BITS: u32>() -> Self {
        Self {
            chunks: Lazy::new(|| {
                (0..(1usize << BITS) / TABLE_CHUNK).map(|_| AtomicPtr::new(std::ptr::null_mut())).collect()
            }),
            free: Mutex::new(Free { indices: std::collections::VecDeque::new(), fresh: 0 }),
            limit: 1 << BITS,
        }
    }

    fn slot(&self, index: u32) -> Option<&AtomicPtr<T>> {
        let chunk = self.chunks.get(index as usize / TABLE_CHUNK)?.load(Ordering::Acquire);
        // SAFETY: a chunk is leaked once it is linked.
        let chunk = unsafe { chunk.as_ref() }?;
        Some(&chunk[index as usize % TABLE_CHUNK])
    }

    /// Puts in what `make` makes of the index; `None` when the table is full.
    pub(crate) fn insert(&self, make: impl FnOnce(u32) -> Arc<T>) -> Option<Arc<T>> {
        let index = {
            let mut free = lock(&self.free);
            match free.indices.pop_front() {
                Some(index) => index,
                None if (free.fresh as usize) < self.limit => {
                    let index = free.fresh;
                    if (index as usize).is_multiple_of(TABLE_CHUNK) {
                        let chunk: Box<Chunk<T>> =
                            Box::new([const { AtomicPtr::new(std::ptr::null_mut()) }; _]);
                        self.chunks[index as usize / TABLE_CHUNK].store(Box::leak(chunk), Ordering::Release);
                    }
                    free.fresh += 1;
                    index
                }
                None => return None,
            }
        };
        let object = make(index);
        let pointer = Arc::into_raw(Arc::clone(&object)).cast_mut();
        self.slot(index).expect("the index came from this table").store(pointer, Ordering::Release);
        Some(object)
    }

    /// Takes the object out, if it is what `is_meant` wants; its last user may still be at it elsewhere.
    pub(crate) fn remove(&self, index: u32, is_meant: impl Fn(&T) -> bool) -> Option<Arc<T>> {
        let slot = self.slot(index)?;
        let pointer = record().protect_nested(slot, |object| {
            let pointer = std::ptr::from_ref(object).cast_mut();
            let taken = is_meant(object)
                && slot
                    .compare_exchange(pointer, std::ptr::null_mut(), Ordering::AcqRel, Ordering::Relaxed)
                    .is_ok();
            taken.then_some(pointer)
        })??;
        DOMAIN.wait_until_unnamed(pointer.cast());
        // SAFETY: the pointer came from `Arc::into_raw` in `insert`, and the compare-and-swap above made this
        // thread the only one to take it.
        let object = unsafe { Arc::from_raw(pointer) };
        lock(&self.free).indices.push_back(index);
        Some(object)
    }

    /// Runs `body` on the object; it must not wait.
    #[inline]
    pub(crate) fn with<R>(&self, index: u32, body: impl FnOnce(&T) -> R) -> Option<R> {
        record().protect_nested(self.slot(index)?, body)
    }

    /// A share of the object, for who needs it longer.
    pub(crate) fn get(&self, index: u32) -> Option<Arc<T>> {
        self.with(index, |object| {
            // SAFETY: every object of the table lives in an Arc whose raw pointer is the slot's, and the
            // table's own share cannot be dropped while it is protected.
            unsafe {
                Arc::increment_strong_count(object);
                Arc::from_raw(object)
            }
        })
    }
}

impl Record {
    /// As `protect`, also when this thread is inside a `protect` already: then with a record of its own.
    #[inline]
    fn protect_nested<T, R>(&self, source: &AtomicPtr<T>, body: impl FnOnce(&T) -> R) -> Option<R> {
        if self.is_used() {
            let other = DOMAIN.take();
            let result = other.protect(source, body);
            other.give_back();
            return result;
        }
        self.protect(source, body)
    }
}
