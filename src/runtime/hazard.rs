//! Hazard pointers: reading an object through a shared pointer while another thread takes it away.
//!
//! # Source
//! M. Michael, "Hazard Pointers: Safe Memory Reclamation for Lock-Free Objects" (2004), with the reader's
//! fence replaced by the asymmetric pair of `sync`, as Folly's hazptr does.
//!
//! # Argument
//! Reader: `p = source`; name p in its record; light fence (H1); read `source` again; use p only if it is
//! still p. Remover: unlink (`source := null`); heavy fence (H2); wait until no record names p; free. By the
//! Dekker pair either the reader's second read sees null and p is not used, or the remover sees the name and
//! waits. The name is taken away with Release (H3) and read with Acquire (H4), so what the reader did is done
//! before p is freed. A pointer that comes back to `source` with the same address between the two reads is a
//! new object that is linked and named: using it is right.
//!
//! The remover waits, so a reader must never wait for anything while it holds a name: `protect` takes a closure
//! that does no more than the data plane's steps, and hands out an owner (`Arc`) to whoever needs longer.
//!
//! Records are never freed; a thread gives its record back at its end and the next thread takes it.

#![allow(unsafe_code)]

use crate::sync::{AtomicBool, AtomicPtr, AtomicU64, Label, Ordering, order};
use crate::sync::{heavy_fence, light_fence, yield_now};

/// A thread's place to name the pointer it uses; two cache lines of its own, for it is written with every message.
#[derive(Debug)]
#[repr(align(128))]
pub(crate) struct Record {
    named: AtomicPtr<()>,
    taken: AtomicBool,
    next: AtomicPtr<Record>,
    /// A number that no other record has, below 2^20.
    pub(crate) number: u64,
    /// What the threads that owned this record counted in turn ([`super::context`]).
    pub(crate) count: AtomicU64,
}

/// All records.
#[derive(Debug)]
pub(crate) struct Domain {
    first: AtomicPtr<Record>,
    made: AtomicU64,
}

impl Domain {
    #[cfg(not(rk_loom))]
    pub(crate) const fn new() -> Self {
        Self { first: AtomicPtr::new(std::ptr::null_mut()), made: AtomicU64::new(0) }
    }

    #[cfg(rk_loom)]
    pub(crate) fn new() -> Self {
        Self { first: AtomicPtr::new(std::ptr::null_mut()), made: AtomicU64::new(0) }
    }

    /// A record for the caller alone, until it gives it back.
    pub(crate) fn take(&self) -> &'static Record {
        let mut next = self.first.load(Ordering::Acquire);
        // SAFETY: records are leaked, so every pointer in the list is valid for ever.
        while let Some(record) = unsafe { next.as_ref() } {
            if record.taken.compare_exchange(false, true, Ordering::Acquire, Ordering::Relaxed).is_ok() {
                return record;
            }
            next = record.next.load(Ordering::Acquire);
        }
        let record: &'static Record = Box::leak(Box::new(Record {
            named: AtomicPtr::new(std::ptr::null_mut()),
            taken: AtomicBool::new(true),
            next: AtomicPtr::new(std::ptr::null_mut()),
            number: self.made.fetch_add(1, Ordering::Relaxed),
            count: AtomicU64::new(0),
        }));
        let mut first = self.first.load(Ordering::Relaxed);
        loop {
            record.next.store(first, Ordering::Relaxed);
            let link = std::ptr::from_ref(record).cast_mut();
            match self.first.compare_exchange(first, link, Ordering::AcqRel, Ordering::Relaxed) {
                Ok(_) => return record,
                Err(seen) => first = seen,
            }
        }
    }

    /// Waits until no record names `pointer`, which the caller has unlinked before.
    pub(crate) fn wait_until_unnamed(&self, pointer: *mut ()) {
        heavy_fence(Label::H2);
        let mut next = self.first.load(Ordering::Acquire);
        // SAFETY: as in `take`.
        while let Some(record) = unsafe { next.as_ref() } {
            while record.named.load(order(Label::H4, Ordering::Acquire)) == pointer {
                yield_now();
            }
            next = record.next.load(Ordering::Acquire);
        }
    }
}

impl Record {
    /// Gives the record back.
    pub(crate) fn give_back(&self) {
        self.taken.store(false, Ordering::Release);
    }

    /// Whether it names something now.
    pub(crate) fn is_used(&self) -> bool {
        !self.named.load(Ordering::Relaxed).is_null()
    }

    /// Runs `body` on what `source` points to, if anything; it is not freed before `body` returns.
    ///
    /// `body` must not wait. The record must not be in use (see [`Record::is_used`]).
    #[inline]
    pub(crate) fn protect<T, R>(&self, source: &AtomicPtr<T>, body: impl FnOnce(&T) -> R) -> Option<R> {
        debug_assert!(!self.is_used());
        let mut pointer = source.load(Ordering::Relaxed);
        loop {
            if pointer.is_null() {
                self.named.store(std::ptr::null_mut(), Ordering::Relaxed);
                return None;
            }
            self.named.store(pointer.cast(), Ordering::Relaxed);
            light_fence(Label::H1);
            let again = source.load(Ordering::Acquire);
            if again == pointer {
                break;
            }
            pointer = again;
        }
        let name = Named(self);
        // SAFETY: linked after it was named, so whoever unlinks it waits for the name (the file's head).
        let result = body(unsafe { &*pointer });
        drop(name);
        Some(result)
    }
}

/// Takes the name away, also when the body panics.
struct Named<'a>(&'a Record);

impl Drop for Named<'_> {
    #[inline]
    fn drop(&mut self) {
        self.0.named.store(std::ptr::null_mut(), order(Label::H3, Ordering::Release));
    }
}
