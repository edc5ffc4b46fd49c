//! The memory of a ring: zeroed, 64-byte aligned slots of header and payload.
//!
//! The only place that turns a slot's index into addresses. `turn`, `token` and `meta` are atomics for as long
//! as the memory lives; the rest of a slot is plain memory, and who may touch it when is the ring's protocol
//! (I3), which is why the functions that do are unsafe.
#![allow(unsafe_code)]

use std::alloc::{Layout, alloc_zeroed, dealloc};
use std::marker::PhantomData;
use std::ptr::NonNull;

use crate::arena;
use crate::layout::{
    EXPRESS_ENTRIES, EXPRESS_MAX, EXPRESS_STRIDE, RkTimestamp, SLOT_HEADER_SIZE, SlotHeader,
};
use crate::limits::ARENA_PIECE_MAX;
use crate::sync::{Arc, AtomicPtr, AtomicU64, Label, Ordering, order};

/// The part of a slot's header that is written once per message.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) correlation: u64,
    pub(crate) source: u64,
    pub(crate) payload_size: u32,
    pub(crate) tag: u32,
    pub(crate) timestamp: RkTimestamp,
}

/// Slots, on the heap or in memory that somebody else owns.
#[derive(Debug)]
pub(crate) struct Memory {
    /// First slot, 64-byte aligned; [`NOTHING`] while it has none.
    base: AtomicPtr<u8>,
    owner: Owner,
    bytes: usize,
    stride: usize,
    express: Option<Express>,
}

/// Entries beside the slots for a receiver on the other side of a bus, to whom a small message goes a second time, as
/// words that say themselves that they are there; D9 and D10 of `include/ringkernel_device.cuh`.
#[derive(Debug)]
pub(crate) struct Express {
    /// `EXPRESS_ENTRIES` entries, zeroed, 16-byte aligned, valid as long as the slots.
    pub(crate) base: NonNull<u8>,
    /// A number that goes with each message.
    pub(crate) version: Arc<AtomicU64>,
}

/// Half of all marks.
const FAR: u64 = 1 << 30;

/// The upper half of the words of a position.
pub(crate) fn express_mark(position: u64) -> u64 {
    (0x8000_0000 | ((position + 1) & 0x7fff_ffff)) << 32
}

/// Who gives the memory back.
#[derive(Debug)]
enum Owner {
    /// A piece of the arena, of `bytes`.
    Arena(NonNull<u8>),
    /// Slots of the arena, those at `base`.
    Slots,
    /// The allocation and its layout.
    Heap(NonNull<u8>, Layout),
    /// It stays for as long as this value does.
    Other { _keeps: Box<dyn Keeps> },
}

/// A share of memory: what it points to stays as long as the value.
pub(crate) trait Keeps: Send + Sync + std::fmt::Debug {}

/// Slots that no ring has. Their turns and tokens are 0.
#[derive(Debug)]
pub(crate) struct Slots {
    base: NonNull<u8>,
    stride: usize,
    count: usize,
}

// SAFETY: the memory is owned.
unsafe impl Send for Slots {}

/// What a ring without slots reads: nothing is published, no token is there. Nobody claims a slot of it, so nobody writes.
static NOTHING: Nothing = Nothing([const { AtomicU64::new(0) }; ARENA_PIECE_MAX / 8]);

#[repr(C, align(64))]
struct Nothing([AtomicU64; ARENA_PIECE_MAX / 8]);

impl Nothing {
    fn base(&'static self) -> *mut u8 {
        self.0.as_ptr().cast::<u8>().cast_mut()
    }
}

impl Slots {
    /// Some that a ring has given back.
    pub(crate) fn used(count: usize, payload: usize) -> Option<Self> {
        let stride = SLOT_HEADER_SIZE + payload;
        Some(Self { base: arena::used_slots(stride, count)?, stride, count })
    }

    /// Some that were never used.
    pub(crate) fn fresh(count: usize, payload: usize) -> Option<Self> {
        let stride = SLOT_HEADER_SIZE + payload;
        Some(Self { base: arena::fresh_slots(stride, count)?, stride, count })
    }

    /// Whether slots of such a shape exist.
    pub(crate) fn exist(count: usize, payload: usize) -> bool {
        SLOT_HEADER_SIZE.checked_add(payload).is_some_and(|stride| arena::has_slots(stride, count))
    }
}

impl Drop for Slots {
    fn drop(&mut self) {
        // SAFETY: from there, and nobody has them.
        unsafe { arena::free_slots(self.base, self.stride, self.count) };
    }
}

/// The slot of an index.
#[inline(always)]
fn slot_at<'a>(base: *mut u8, index: usize, stride: usize) -> Slot<'a> {
    // SAFETY: the callers' indices are below the number of slots that are there.
    let slot = unsafe { base.add(index * stride) }.cast::<SlotHeader>();
    Slot { slot, _of: PhantomData }
}

// SAFETY: the memory is owned; words shared between threads are atomics, the rest is guarded by the ring's
// protocol.
unsafe impl Send for Memory {}
// SAFETY: as above.
unsafe impl Sync for Memory {}

impl Memory {
    /// `slots` zeroed slots; `None` when they cannot be had.
    pub(crate) fn new(slots: usize, payload: usize) -> Option<Self> {
        let stride = SLOT_HEADER_SIZE.checked_add(payload)?;
        assert!(stride.is_multiple_of(SLOT_HEADER_SIZE));
        let size = stride.checked_mul(slots)?;
        if size <= ARENA_PIECE_MAX {
            let base = arena::allocate(size)?;
            return Some(Self::at_base(base, Owner::Arena(base), size, stride));
        }
        // An alignment of 16 lets the allocator hand out untouched zero pages; we align by hand.
        let size = size.checked_add(SLOT_HEADER_SIZE)?;
        let layout = Layout::from_size_align(size, 16).ok()?;
        // SAFETY: the size is not zero.
        let allocation = NonNull::new(unsafe { alloc_zeroed(layout) })?;
        let offset = allocation.align_offset(SLOT_HEADER_SIZE);
        // SAFETY: the offset is below 64, and 64 bytes more than the slots were allocated.
        let base = unsafe { allocation.add(offset) };
        Some(Self::at_base(base, Owner::Heap(allocation, layout), stride * slots, stride))
    }

    fn at_base(base: NonNull<u8>, owner: Owner, bytes: usize, stride: usize) -> Self {
        Self { base: AtomicPtr::new(base.as_ptr()), owner, bytes, stride, express: None }
    }

    /// Memory that can be taken away and given again.
    pub(crate) fn of_slots(slots: Slots) -> Self {
        let slots = std::mem::ManuallyDrop::new(slots);
        Self::at_base(slots.base, Owner::Slots, slots.stride * slots.count, slots.stride)
    }

    /// Whether it can be without its slots, or they without their pages.
    pub(crate) fn can_be_vacated(&self) -> bool {
        matches!(self.owner, Owner::Slots | Owner::Heap(..))
    }

    /// Whether its slots can be another ring's.
    pub(crate) fn is_of_slots(&self) -> bool {
        matches!(self.owner, Owner::Slots)
    }

    /// Takes the slots away, or their pages: from now on turns and tokens read as 0, or as they were. Until [`Memory::occupy`] nobody
    /// may write; one thread at a time does either. `used` are the indices of the slots that were written to since they came.
    pub(crate) fn vacate(&self, used: impl Iterator<Item = usize>) -> Option<Slots> {
        match self.owner {
            Owner::Slots => {
                let base = NonNull::new(self.base.swap(NOTHING.base(), Ordering::Relaxed))?;
                for index in used {
                    let slot = slot_at(base.as_ptr(), index, self.stride);
                    // Atomics, as somebody may still look at them.
                    slot.turn().store(0, Ordering::Relaxed);
                    slot.token().store(0, Ordering::Relaxed);
                }
                Some(Slots { base, stride: self.stride, count: self.bytes / self.stride })
            }
            _ => {
                self.drop_pages();
                None
            }
        }
    }

    /// Gives the pages of long slots back to the system; what is in them reads as 0, or as it was. Nobody writes meanwhile.
    pub(crate) fn drop_pages(&self) {
        if let Owner::Heap(..) = self.owner {
            arena::drop_pages(self.base.load(Ordering::Relaxed), self.bytes);
        }
    }

    /// Whether it has pages that can be given back.
    pub(crate) fn has_pages(&self) -> bool {
        matches!(self.owner, Owner::Heap(..))
    }

    /// Whether it is without its slots.
    pub(crate) fn is_vacant(&self) -> bool {
        self.base.load(Ordering::Relaxed) == NOTHING.base()
    }

    /// Gives it slots again, of the same shape.
    pub(crate) fn occupy(&self, slots: Slots) {
        let slots = std::mem::ManuallyDrop::new(slots);
        assert!(self.is_vacant() && slots.stride == self.stride && slots.count * slots.stride == self.bytes);
        self.base.store(slots.base.as_ptr(), order(Label::P1, Ordering::Release));
    }

    /// Slots in memory that is zeroed, 64-byte aligned and kept by `keeps`.
    ///
    /// # Safety
    /// `base` points to `slots` slots of header and `payload` bytes, valid as long as `keeps` lives, which
    /// nobody touches but this ring and a receiver that keeps to its protocol.
    pub(crate) unsafe fn over(
        base: NonNull<u8>,
        slots: usize,
        payload: usize,
        keeps: Box<dyn Keeps>,
        express: Express,
    ) -> Self {
        let stride = SLOT_HEADER_SIZE + payload;
        assert!(stride.is_multiple_of(SLOT_HEADER_SIZE) && base.align_offset(SLOT_HEADER_SIZE) == 0);
        let mut memory = Self::at_base(base, Owner::Other { _keeps: keeps }, stride * slots, stride);
        memory.express = Some(express);
        memory
    }

    /// Bytes allocated.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// The slot of an index. Who works on a slot asks once: the compiler cannot know that what is written there is not this.
    #[inline(always)]
    pub(crate) fn at(&self, index: usize) -> Slot<'_> {
        debug_assert!(index < self.bytes / self.stride);
        // The callers' indices are masked by the capacity, so the slot is within the allocation, or within NOTHING.
        slot_at(self.base.load(order(Label::P2, Ordering::Acquire)), index, self.stride)
    }

    /// Bytes that a payload may have.
    pub(crate) fn room(&self) -> usize {
        self.stride - SLOT_HEADER_SIZE
    }

    /// Whether small messages go a second way.
    #[inline]
    pub(crate) fn has_express(&self) -> bool {
        self.express.is_some()
    }

    /// Sends a message that is about to be published a second time, if there is a way for it: the words of its header as they stand in
    /// an entry, and its payload.
    pub(crate) fn hasten(
        &self,
        position: u64,
        header: &[u64; 7],
        payload: impl FnOnce() -> [u64; EXPRESS_MAX / 8],
    ) {
        let Some(express) = &self.express else { return };
        let is_whole = (position / EXPRESS_ENTRIES as u64) & 0xf_ffff == 0;
        let size = header[4] as u32 as usize;
        let entry = Entry { express, position };
        if size <= EXPRESS_MAX {
            let mark = express_mark(position);
            header.iter().enumerate().for_each(|(pair, word)| entry.put(pair, *word, mark));
            entry.put(7, express.version.load(Ordering::Acquire) & 0xffff_ffff, mark);
            let words = if is_whole { EXPRESS_MAX / 8 } else { size.div_ceil(8) };
            for (at, word) in payload().into_iter().enumerate().take(words) {
                entry.put(8 + at, word, mark);
            }
        } else if is_whole {
            // The entry is written all the same, for a position that is as far as can be from all that are in use.
            let mark = express_mark(position + FAR);
            (0..EXPRESS_STRIDE / 16).for_each(|pair| entry.put(pair, 0, mark));
        }
    }
}

/// A slot.
#[derive(Clone, Copy)]
pub(crate) struct Slot<'a> {
    slot: *mut SlotHeader,
    _of: PhantomData<&'a Memory>,
}

impl<'a> Slot<'a> {
    #[inline(always)]
    pub(crate) fn turn(self) -> &'a AtomicU64 {
        // SAFETY: inside a live slot, 8-byte aligned, only ever used as an atomic.
        unsafe { AtomicU64::from_ptr(&raw mut (*self.slot).turn) }
    }

    #[inline(always)]
    pub(crate) fn token(self) -> &'a AtomicU64 {
        // SAFETY: as `turn`.
        unsafe { AtomicU64::from_ptr(&raw mut (*self.slot).token) }
    }

    #[inline(always)]
    pub(crate) fn meta(self) -> &'a AtomicU64 {
        // SAFETY: as `turn`.
        unsafe { AtomicU64::from_ptr(&raw mut (*self.slot).meta) }
    }

    /// Address of its payload.
    #[inline(always)]
    pub(crate) fn payload(self) -> *mut u8 {
        self.slot.cast::<u8>().wrapping_add(SLOT_HEADER_SIZE)
    }

    /// Writes its header, all but the turn, where it is not what it is to be already ("Whose lines" in `ring/mod.rs`).
    ///
    /// # Safety
    /// The caller has claimed the slot and not published it (I3), and nobody else changes its token.
    #[inline(always)]
    pub(crate) unsafe fn write_header(self, header: &Header, token: u64, meta: u64) {
        // SAFETY: by the caller's word.
        unsafe { self.write_fields(header) };
        if self.token().load(Ordering::Relaxed) != token {
            self.token().store(token, Ordering::Relaxed);
        }
        if self.meta().load(Ordering::Relaxed) != meta {
            self.meta().store(meta, Ordering::Relaxed);
        }
    }

    /// The same without token and meta, which stay as they are.
    ///
    /// # Safety
    /// The caller has claimed the slot and not published it (I3).
    #[inline(always)]
    pub(crate) unsafe fn write_fields(self, header: &Header) {
        let slot = self.slot;
        // SAFETY: no one else touches these fields by I3.
        unsafe {
            put(&raw mut (*slot).correlation, header.correlation);
            put(&raw mut (*slot).source, header.source);
            put(&raw mut (*slot).payload_size, header.payload_size);
            put(&raw mut (*slot).tag, header.tag);
            put(&raw mut (*slot).timestamp, header.timestamp);
        }
    }

    /// Copies a payload into it.
    ///
    /// # Safety
    /// As [`Slot::write_header`], and the payload fits.
    #[inline(always)]
    pub(crate) unsafe fn write_payload(self, payload: &[u8]) {
        // SAFETY: fits by the caller's word; the caller's bytes cannot overlap a slot that nobody may read.
        // `copy` and not `copy_nonoverlapping`: an application may hand us a payload that lies in a loan.
        unsafe {
            match payload.len() {
                64 if payload.as_ptr().cast::<u64>().is_aligned() => {
                    copy_line(payload.as_ptr().cast(), self.payload().cast());
                }
                size => std::ptr::copy(payload.as_ptr(), self.payload(), size),
            }
        }
    }

    /// Reads its header.
    ///
    /// # Safety
    /// The caller has seen the slot published and nobody has released it (I3).
    #[inline(always)]
    pub(crate) unsafe fn read_header(self) -> Header {
        let slot = self.slot;
        // SAFETY: written before the publication that the caller has seen.
        unsafe {
            Header {
                correlation: (&raw const (*slot).correlation).read(),
                source: (&raw const (*slot).source).read(),
                payload_size: (&raw const (*slot).payload_size).read(),
                tag: (&raw const (*slot).tag).read(),
                timestamp: (&raw const (*slot).timestamp).read(),
            }
        }
    }
}

/// Copies 64 bytes, all of which are read before any is written. They were mostly written just before: a load of more than was stored at once is
/// not forwarded from the store but waits until it and all before it are in memory, also those to lines of the other core. Eight bytes are what
/// most writers write at least.
///
/// # Safety
/// Both places are valid and aligned.
#[inline(always)]
unsafe fn copy_line(from: *const u64, to: *mut u64) {
    // SAFETY: by the caller's word. Volatile, or they become wider loads again.
    unsafe {
        let words: [u64; 8] = std::array::from_fn(|index| from.add(index).read_volatile());
        to.cast::<[u64; 8]>().write(words);
    }
}

/// Writes what is not there already.
///
/// # Safety
/// `to` is valid, and nobody else touches it.
#[inline(always)]
unsafe fn put<T: PartialEq + Copy>(to: *mut T, value: T) {
    // SAFETY: by the caller's word.
    unsafe {
        if to.read() != value {
            to.write(value);
        }
    }
}

/// The entry of a position.
struct Entry<'a> {
    express: &'a Express,
    position: u64,
}

impl Entry<'_> {
    /// Puts 8 bytes into a pair of words.
    fn put(&self, pair: usize, data: u64, mark: u64) {
        let entry = (self.position % EXPRESS_ENTRIES as u64) as usize;
        let offset = entry * EXPRESS_STRIDE + pair * 16;
        for (half, data) in [(0, data & 0xffff_ffff), (8, data >> 32)] {
            // SAFETY: inside the entries, 8-byte aligned, only ever used as atomics by this side.
            let word = unsafe { AtomicU64::from_ptr(self.express.base.as_ptr().add(offset + half).cast()) };
            word.store(data | mark, Ordering::Relaxed);
        }
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        match self.owner {
            // SAFETY: allocated in `new` with this size.
            Owner::Arena(piece) => unsafe { arena::free(piece, self.bytes) },
            Owner::Slots if self.is_vacant() => {}
            Owner::Slots => drop(self.vacate(0..self.bytes / self.stride)),
            // SAFETY: allocated in `new` with this layout.
            Owner::Heap(allocation, layout) => unsafe { dealloc(allocation.as_ptr(), layout) },
            Owner::Other { .. } => {}
        }
    }
}
