//! The memory of a ring as loom sees it: the same functions as `src/ring/memory.rs`, over cells that report
//! every access that the ring's protocol does not order.

use loom::cell::UnsafeCell;

use crate::layout::RkTimestamp;
use crate::sync::{AtomicBool, AtomicU64, Label, Ordering, order};

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) correlation: u64,
    pub(crate) source: u64,
    pub(crate) payload_size: u32,
    pub(crate) tag: u32,
    pub(crate) timestamp: RkTimestamp,
}

#[derive(Debug)]
pub(crate) struct Slot {
    turn: AtomicU64,
    token: AtomicU64,
    meta: AtomicU64,
    body: UnsafeCell<Header>,
    is_nothing: bool,
}

/// Its slots, and those that are read while it has none, which nobody may write.
#[derive(Debug)]
pub(crate) struct Memory {
    slots: Vec<Slot>,
    nothing: Vec<Slot>,
    is_vacant: AtomicBool,
}

#[derive(Debug)]
pub(crate) struct Slots;

impl Memory {
    pub(crate) fn new(slots: usize, _payload: usize) -> Option<Self> {
        let make = |is_nothing| {
            let slot = |_| Slot {
                turn: AtomicU64::new(0),
                token: AtomicU64::new(0),
                meta: AtomicU64::new(0),
                body: UnsafeCell::new(Header::default()),
                is_nothing,
            };
            (0..slots).map(slot).collect()
        };
        Some(Self { slots: make(false), nothing: make(true), is_vacant: AtomicBool::new(false) })
    }

    pub(crate) fn bytes(&self) -> usize {
        0
    }

    pub(crate) fn can_be_vacated(&self) -> bool {
        true
    }

    pub(crate) fn is_of_slots(&self) -> bool {
        true
    }

    /// Another ring has the slots from here on: it writes to them, and leaves turns that are those of a published message here.
    pub(crate) fn vacate(&self, _used: impl Iterator<Item = usize>) -> Option<Slots> {
        self.is_vacant.store(true, Ordering::Relaxed);
        for slot in &self.slots {
            // SAFETY: loom checks that nobody of this ring uses it.
            slot.body.with_mut(|body| unsafe { (*body).source = u64::MAX });
            slot.turn.store(1, Ordering::Relaxed);
        }
        Some(Slots)
    }

    /// What a mutex in between orders is all that is ordered: the system's part has no order of its own.
    pub(crate) fn drop_pages(&self) {
        for slot in &self.slots {
            // SAFETY: loom checks that nobody uses it.
            slot.body.with_mut(|body| unsafe { *body = Header::default() });
            slot.turn.store(0, Ordering::Relaxed);
        }
    }

    pub(crate) fn has_pages(&self) -> bool {
        true
    }

    pub(crate) fn is_vacant(&self) -> bool {
        self.is_vacant.load(Ordering::Relaxed)
    }

    pub(crate) fn occupy(&self, _slots: Slots) {
        self.slots.iter().for_each(|slot| slot.turn.store(0, Ordering::Relaxed));
        self.is_vacant.store(false, order(Label::P1, Ordering::Release));
    }

    pub(crate) fn at(&self, index: usize) -> &Slot {
        let is_vacant = self.is_vacant.load(order(Label::P2, Ordering::Acquire));
        if is_vacant { &self.nothing[index] } else { &self.slots[index] }
    }
}

impl Slot {
    pub(crate) fn turn(&self) -> &AtomicU64 {
        &self.turn
    }

    pub(crate) fn token(&self) -> &AtomicU64 {
        &self.token
    }

    pub(crate) fn meta(&self) -> &AtomicU64 {
        &self.meta
    }

    pub(crate) fn payload(&self) -> *mut u8 {
        std::ptr::null_mut()
    }

    pub(crate) unsafe fn write_header(&self, header: &Header, token: u64, meta: u64) {
        // SAFETY: by the caller's word.
        unsafe { self.write_fields(header) };
        // Only what is not there already, as in the library.
        for (word, value) in [(&self.token, token), (&self.meta, meta)] {
            if word.load(Ordering::Relaxed) != value {
                word.store(value, Ordering::Relaxed);
            }
        }
    }

    pub(crate) unsafe fn write_fields(&self, header: &Header) {
        assert!(!self.is_nothing, "a message where there is nothing");
        // SAFETY: loom checks that the access is exclusive.
        self.body.with_mut(|body| unsafe { *body = *header });
    }

    pub(crate) unsafe fn write_payload(&self, _payload: &[u8]) {}

    pub(crate) unsafe fn read_header(&self) -> Header {
        // SAFETY: loom checks that nobody writes meanwhile.
        self.body.with(|body| unsafe { *body })
    }
}
