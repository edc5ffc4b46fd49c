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
//! The remover waits, so a reader must never wait for anything while it holds a name: what runs in `protect`, or while a
//! [`Named`] lives, does no more than the data plane's steps, and hands out an owner (`Arc`) to whoever needs longer.
//!
//! # Holding
//! Who waits for something while it uses the object *holds* it: the same with a second place in the record, for which no remover
//! waits. A remover that finds the object held adds it to the retired ones and looks once more; who lets go looks whether
//! anything is retired and frees what nobody holds. Remover: add, `count := n`; heavy fence (H6); look for holders. Holder: let go
//! (H3); light fence (H5); read `count`. By the Dekker pair the last of them sees the other, and the lock of the list
//! makes them take turns: nothing stays retired that nobody holds, and nothing is freed twice.
//!
//! Records are never freed; a thread gives its record back at its end and the next thread takes it.

#![allow(unsafe_code)]

use crate::sync::{AtomicBool, AtomicPtr, AtomicU64, Label, Mutex, Ordering, order};
use crate::sync::{heavy_fence, light_fence, lock, yield_now};

/// A thread's place to name the pointer it uses; two cache lines of its own, for it is written with every message.
#[derive(Debug)]
#[repr(align(128))]
pub(crate) struct Record {
    named: AtomicPtr<()>,
    held: AtomicPtr<()>,
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
            held: AtomicPtr::new(std::ptr::null_mut()),
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

    /// Whether somebody holds `pointer`. A no is final, if the pointer was unlinked and a heavy fence passed since.
    fn is_held(&self, pointer: *mut ()) -> bool {
        let mut next = self.first.load(Ordering::Acquire);
        // SAFETY: as in `take`.
        while let Some(record) = unsafe { next.as_ref() } {
            if record.held.load(order(Label::H4, Ordering::Acquire)) == pointer {
                return true;
            }
            next = record.next.load(Ordering::Acquire);
        }
        false
    }
}

/// What was taken away while somebody held it: the pointer that is held, and what is dropped when nobody does.
#[derive(Debug)]
pub(crate) struct Retired<T> {
    count: AtomicU64,
    list: Mutex<Vec<(usize, T)>>,
}

impl<T> Retired<T> {
    #[cfg(not(rk_loom))]
    pub(crate) const fn new() -> Self {
        Self { count: AtomicU64::new(0), list: Mutex::new(Vec::new()) }
    }

    #[cfg(rk_loom)]
    pub(crate) fn new() -> Self {
        Self { count: AtomicU64::new(0), list: Mutex::new(Vec::new()) }
    }

    /// Drops `object` once nobody holds `pointer`, which was unlinked, and [`Domain::wait_until_unnamed`] was called since.
    pub(crate) fn retire(&self, domain: &Domain, pointer: *mut (), object: T) {
        if !domain.is_held(pointer) {
            return drop(object);
        }
        {
            let mut list = lock(&self.list);
            list.push((pointer.addr(), object));
            self.count.store(list.len() as u64, Ordering::Relaxed);
        }
        heavy_fence(Label::H6);
        self.collect(domain);
    }

    /// Holds what `source` points to, if anything, until [`Retired::let_go`]; `record` must hold nothing.
    #[inline]
    pub(crate) fn hold<O>(&self, domain: &Domain, record: &Record, source: &AtomicPtr<O>) -> Option<*mut O> {
        debug_assert!(!record.is_holding());
        let pointer = name(&record.held, source);
        if pointer.is_none() {
            // It was named for a moment, and a remover may have seen that.
            self.look(domain);
        }
        pointer
    }

    /// Ends that.
    #[inline]
    pub(crate) fn let_go(&self, domain: &Domain, record: &Record) {
        record.held.store(std::ptr::null_mut(), order(Label::H3, Ordering::Release));
        self.look(domain);
    }

    #[inline]
    fn look(&self, domain: &Domain) {
        light_fence(Label::H5);
        if self.count.load(Ordering::Relaxed) != 0 {
            self.collect(domain);
        }
    }

    #[cold]
    fn collect(&self, domain: &Domain) {
        let mut free = Vec::new();
        {
            let mut list = lock(&self.list);
            let mut at = 0;
            while at < list.len() {
                if domain.is_held(std::ptr::without_provenance_mut(list[at].0)) {
                    at += 1;
                } else {
                    free.push(list.swap_remove(at));
                }
            }
            self.count.store(list.len() as u64, Ordering::Relaxed);
        }
        drop(free);
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
    #[inline(always)]
    pub(crate) fn protect<T, R>(&self, source: &AtomicPtr<T>, body: impl FnOnce(&T) -> R) -> Option<R> {
        let named = self.name(source)?;
        Some(body(&named))
    }

    /// What `source` points to, if anything; it is not freed as long as the value is. Who has it must not wait; the record
    /// must not be in use.
    #[inline(always)]
    pub(crate) fn name<T>(&self, source: &AtomicPtr<T>) -> Option<Named<'_, T>> {
        debug_assert!(!self.is_used());
        Some(Named { record: self, pointer: name(&self.named, source)? })
    }

    /// Whether it holds something now.
    pub(crate) fn is_holding(&self) -> bool {
        !self.held.load(Ordering::Relaxed).is_null()
    }
}

/// Names what `source` points to, until it is seen to be still there.
#[inline]
fn name<T>(place: &AtomicPtr<()>, source: &AtomicPtr<T>) -> Option<*mut T> {
    let mut pointer = source.load(Ordering::Relaxed);
    loop {
        if pointer.is_null() {
            place.store(std::ptr::null_mut(), Ordering::Relaxed);
            return None;
        }
        place.store(pointer.cast(), Ordering::Relaxed);
        light_fence(Label::H1);
        let again = source.load(Ordering::Acquire);
        if again == pointer {
            return Some(pointer);
        }
        pointer = again;
    }
}

/// An object that a record names; the name is taken away at its end, also by a panic.
pub(crate) struct Named<'a, T> {
    record: &'a Record,
    pointer: *const T,
}

impl<T> std::ops::Deref for Named<'_, T> {
    type Target = T;

    #[inline(always)]
    fn deref(&self) -> &T {
        // SAFETY: linked after it was named, so whoever unlinks it waits for the name (the file's head).
        unsafe { &*self.pointer }
    }
}

impl<T> Drop for Named<'_, T> {
    #[inline]
    fn drop(&mut self) {
        self.record.named.store(std::ptr::null_mut(), order(Label::H3, Ordering::Release));
    }
}
