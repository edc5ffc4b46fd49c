//! The memory of a ring as loom sees it: the same functions as `src/ring/memory.rs`, over cells that report
//! every access that the ring's protocol does not order.

use loom::cell::UnsafeCell;

use crate::layout::RkTimestamp;
use crate::sync::AtomicU64;

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
}

#[derive(Debug)]
pub(crate) struct Memory(Vec<Slot>);

impl Memory {
    pub(crate) fn new(slots: usize, _payload: usize) -> Option<Self> {
        let slot = |_| Slot {
            turn: AtomicU64::new(0),
            token: AtomicU64::new(0),
            meta: AtomicU64::new(0),
            body: UnsafeCell::new(Header::default()),
        };
        Some(Self((0..slots).map(slot).collect()))
    }

    pub(crate) fn bytes(&self) -> usize {
        0
    }

    pub(crate) fn at(&self, index: usize) -> &Slot {
        &self.0[index]
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

    pub(crate) unsafe fn write_header(&self, header: &Header) {
        // SAFETY: loom checks that the access is exclusive.
        self.body.with_mut(|body| unsafe { *body = *header });
    }

    pub(crate) unsafe fn write_payload(&self, _payload: &[u8]) {}

    pub(crate) unsafe fn read_header(&self) -> Header {
        // SAFETY: loom checks that nobody writes meanwhile.
        self.body.with(|body| unsafe { *body })
    }
}
