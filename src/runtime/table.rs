//! A table from small indices to shared objects, for handles that may be stale or garbage.
//!
//! Slots come in chunks that are never freed, so any index can be looked up at any time; the object in a slot
//! is protected by a hazard pointer (`hazard.rs`) while it is used. Which generation of an index a handle
//! means is the object's own business: it knows its handle.

#![allow(unsafe_code)]

use std::marker::PhantomData;
use std::mem::ManuallyDrop;

use super::hazard::{Domain, Named, Record, Retired};
use crate::limits::TABLE_CHUNK;
use crate::sync::{Arc, AtomicPtr, Mutex, Ordering, lock};
use crate::thread::words;

/// The records of all threads.
static DOMAIN: Domain = Domain::new();

thread_local! {
    /// Gives the record back at the thread's end.
    static OWNER: Owner = const { Owner };
}

struct Owner;

impl Drop for Owner {
    fn drop(&mut self) {
        // SAFETY: as in `record`.
        if let Some(record) = unsafe { words().record.replace(std::ptr::null()).cast::<Record>().as_ref() } {
            record.give_back();
        }
    }
}

/// This thread's record. A thread that is being torn down and comes here once more keeps a record for ever,
/// which costs one record.
#[inline]
pub(crate) fn record() -> &'static Record {
    // SAFETY: records are leaked, and nothing else is put there.
    match unsafe { words().record.get().cast::<Record>().as_ref() } {
        Some(record) => record,
        None => take_record(),
    }
}

#[cold]
fn take_record() -> &'static Record {
    let record = DOMAIN.take();
    words().record.set(std::ptr::from_ref(record).cast());
    let _ = OWNER.try_with(|_| ());
    record
}

type Chunk<T> = [AtomicPtr<T>; TABLE_CHUNK];

/// See the file's head. The array of chunks lies in the table, where a look-up has it without asking whether it is made.
pub(crate) struct Table<T, const CHUNKS: usize> {
    chunks: [AtomicPtr<Chunk<T>>; CHUNKS],
    free: Mutex<Free>,
    retired: Retired<Arc<T>>,
}

/// An object that its thread holds: it lives on, and costs no more than a look at it.
pub(crate) struct Held<T: 'static> {
    retired: &'static Retired<Arc<T>>,
    /// The table's own share, unless `record` is none.
    object: ManuallyDrop<Arc<T>>,
    record: Option<&'static Record>,
    /// Records are their threads'.
    _not_send: PhantomData<*const ()>,
}

impl<T> std::ops::Deref for Held<T> {
    type Target = Arc<T>;

    #[inline]
    fn deref(&self) -> &Arc<T> {
        &self.object
    }
}

impl<T> Drop for Held<T> {
    #[inline]
    fn drop(&mut self) {
        match self.record {
            Some(record) => self.retired.let_go(&DOMAIN, record),
            // SAFETY: dropped once, and a share of its own.
            None => unsafe { ManuallyDrop::drop(&mut self.object) },
        }
    }
}

#[derive(Debug)]
struct Free {
    /// Given back, oldest first: an index rests as long as possible.
    indices: std::collections::VecDeque<u32>,
    /// Indices from here on were never used.
    fresh: u32,
}

impl<T, const CHUNKS: usize> Table<T, CHUNKS> {
    /// A table for up to `CHUNKS * TABLE_CHUNK` objects.
    pub(crate) const fn new() -> Self {
        Self {
            chunks: [const { AtomicPtr::new(std::ptr::null_mut()) }; CHUNKS],
            free: Mutex::new(Free { indices: std::collections::VecDeque::new(), fresh: 0 }),
            retired: Retired::new(),
        }
    }

    #[inline(always)]
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
                None if (free.fresh as usize) < CHUNKS * TABLE_CHUNK => {
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

    /// Takes the object out, if it is what `is_meant` wants, and drops the table's share, or leaves that to who holds it still.
    pub(crate) fn remove(&self, index: u32, is_meant: impl Fn(&T) -> bool) -> bool {
        let Some(slot) = self.slot(index) else { return false };
        let taken = record().protect_nested(slot, |object| {
            let pointer = std::ptr::from_ref(object).cast_mut();
            let taken = is_meant(object)
                && slot
                    .compare_exchange(pointer, std::ptr::null_mut(), Ordering::AcqRel, Ordering::Relaxed)
                    .is_ok();
            taken.then_some(pointer)
        });
        let Some(pointer) = taken.flatten() else { return false };
        DOMAIN.wait_until_unnamed(pointer.cast());
        // SAFETY: the pointer came from `Arc::into_raw` in `insert`, and the compare-and-swap above made this
        // thread the only one to take it.
        let object = unsafe { Arc::from_raw(pointer) };
        lock(&self.free).indices.push_back(index);
        self.retired.retire(&DOMAIN, pointer.cast(), object);
        true
    }

    /// Runs `body` on the object; it must not wait.
    #[inline]
    pub(crate) fn with<R>(&self, index: u32, body: impl FnOnce(&T) -> R) -> Option<R> {
        record().protect_nested(self.slot(index)?, body)
    }

    /// The object, for who uses it in place and does not wait; `None` also if this thread uses one already.
    #[inline(always)]
    pub(crate) fn peek(&self, index: u32) -> Option<Named<'static, T>> {
        let record = record();
        if record.is_used() { None } else { record.name(self.slot(index)?) }
    }

    /// The object, for as long as the caller waits for something of it.
    #[inline]
    pub(crate) fn hold(&'static self, index: u32) -> Option<Held<T>> {
        let record = record();
        if record.is_holding() {
            // A handler that runs on this thread inside of such a wait.
            let object = ManuallyDrop::new(self.get(index)?);
            return Some(Held { retired: &self.retired, object, record: None, _not_send: PhantomData });
        }
        let pointer = self.retired.hold(&DOMAIN, record, self.slot(index)?)?;
        // SAFETY: the pointer is that of the table's share, which is not dropped while it is held; it is not dropped here.
        let object = ManuallyDrop::new(unsafe { Arc::from_raw(pointer.cast_const()) });
        Some(Held { retired: &self.retired, object, record: Some(record), _not_send: PhantomData })
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
    #[inline(always)]
    fn protect_nested<T, R>(&self, source: &AtomicPtr<T>, body: impl FnOnce(&T) -> R) -> Option<R> {
        #[cold]
        fn other() -> &'static Record {
            DOMAIN.take()
        }
        // One place where the body is called: it is inlined there.
        let is_nested = self.is_used();
        let record = if is_nested { other() } else { self };
        let result = record.protect(source, body);
        if is_nested {
            record.give_back();
        }
        result
    }
}
