//! Memory for small things of which there are very many: blocks, states, short rings.
//!
//! All of it is aligned to cache lines (to two, if its size is a multiple of that) and zeroed. The system's allocator pays for that alignment with up to two lines of each
//! piece, and each page that is touched for the first time costs a fault, which is more than to make what lies in it. Here pieces of
//! a size lie side by side, in regions that grow. What was given back is used again for the same
//! size (a simple segregated storage: P. Wilson et al., "Dynamic Storage Allocation", 1995); regions are kept.
//! Larger pieces are the system's.
//!
//! # Slots of rings
//! A ring may be without its slots while it is empty (`ring/park.rs`), and who looked at it before may still read the turn or the
//! token of a slot that is another ring's by now. So what was slots of one shape stays that for ever: these words are only ever
//! used as the atomics that they are, and a look that comes too late reads some number, not something else's bytes. That is why
//! slots have classes of their own, by size and number, and why the list of those that were given back goes through the
//! word [`LINK`] of their first slot, which belongs to who has the slots.
#![allow(unsafe_code)]

use std::alloc::{Layout, alloc_zeroed, dealloc};
use std::ptr::NonNull;

use crate::layout::SlotHeader;
use crate::limits::{ARENA_PIECE_MAX, ARENA_REGION_MAX, ARENA_REGION_MIN};
pub(crate) use crate::process::drop_pages;
use crate::sync::{Mutex, lock};

/// A cache line: the alignment, and the step between sizes.
const LINE: usize = 64;
const CLASSES: usize = ARENA_PIECE_MAX / LINE;

/// Pieces of one size.
struct Class {
    /// The first of those that were given back; each begins with the address of the next.
    free: *mut Free,
    /// What was never used of the newest region.
    fresh: *mut u8,
    left: usize,
    /// Bytes of the next region.
    region: usize,
}

struct Free {
    next: *mut Free,
}

// SAFETY: the pointers are to memory that only the class knows.
unsafe impl Send for Class {}

static ARENA: [Mutex<Class>; CLASSES] = [const { Mutex::new(Class::new()) }; CLASSES];

/// Slots by size, and by their number, 2 to [`ARENA_PIECE_MAX`] / [`LINE`].
static SLOTS: [[Mutex<Class>; COUNTS]; CLASSES] =
    [const { [const { Mutex::new(Class::new()) }; COUNTS] }; CLASSES];
const COUNTS: usize = CLASSES.ilog2() as usize;

/// Where the address of the next slots is in some that were given back.
const LINK: usize = std::mem::offset_of!(SlotHeader, correlation);

/// The class of a size; `None`: the system's.
fn class(size: usize) -> Option<&'static Mutex<Class>> {
    ARENA.get(size.div_ceil(LINE).checked_sub(1)?)
}

/// `size` zero bytes (at least 1) at the begin of a cache line; `None` when they cannot be had. Any thread.
pub(crate) fn allocate(size: usize) -> Option<NonNull<u8>> {
    let Some(class) = class(size) else {
        let layout = Layout::from_size_align(size, LINE).ok().filter(|layout| layout.size() > 0)?;
        // SAFETY: the size is not zero.
        return NonNull::new(unsafe { alloc_zeroed(layout) });
    };
    let piece = size.next_multiple_of(LINE);
    let mut class = lock(class);
    if let Some(first) = NonNull::new(class.free) {
        // SAFETY: it was given back, so nobody uses it, and holds the address of the next.
        class.free = unsafe { first.as_ref() }.next;
        drop(class);
        let first = first.cast::<u8>();
        // SAFETY: a piece of this size.
        unsafe { first.write_bytes(0, piece) };
        return Some(first);
    }
    class.take_fresh(piece)
}

/// Gives a piece back. Any thread.
///
/// # Safety
/// `piece` came from [`allocate`] with the same size, and is not used any more.
pub(crate) unsafe fn free(piece: NonNull<u8>, size: usize) {
    let Some(class) = class(size) else {
        // SAFETY: by the caller's word; it was allocated with this layout.
        return unsafe { dealloc(piece.as_ptr(), Layout::from_size_align_unchecked(size, LINE)) };
    };
    let mut class = lock(class);
    let piece = piece.cast::<Free>();
    // SAFETY: by the caller's word it is a piece that nobody uses, and no smaller than a line.
    unsafe { piece.write(Free { next: class.free }) };
    class.free = piece.as_ptr();
}

/// The class of so many slots (a power of two, at least 2) of a size; `None`: they are too large.
fn slots_class(stride: usize, count: usize) -> Option<&'static Mutex<Class>> {
    SLOTS
        .get(stride / LINE - 1)?
        .get(count.ilog2() as usize - 1)
        .filter(|_| stride * count <= ARENA_PIECE_MAX)
}

/// Whether slots of this shape come from here.
pub(crate) fn has_slots(stride: usize, count: usize) -> bool {
    slots_class(stride, count).is_some()
}

/// Slots that were given back; what is in them is what was. Any thread.
pub(crate) fn used_slots(stride: usize, count: usize) -> Option<NonNull<u8>> {
    let mut class = lock(slots_class(stride, count)?);
    let first = NonNull::new(class.free.cast::<u8>())?;
    // SAFETY: it was given back, so its first slot holds the address of the next there.
    class.free = unsafe { first.add(LINK).cast::<*mut Free>().read() };
    Some(first)
}

/// Slots that were never used: zeroed, at the begin of a cache line. `None` when they cannot be had. Any thread.
pub(crate) fn fresh_slots(stride: usize, count: usize) -> Option<NonNull<u8>> {
    lock(slots_class(stride, count)?).take_fresh(stride * count)
}

/// Gives slots back. Any thread.
///
/// # Safety
/// `slots` came from here with the same shape, and nobody uses them any more but for late looks at words that are atomics.
pub(crate) unsafe fn free_slots(slots: NonNull<u8>, stride: usize, count: usize) {
    let class = slots_class(stride, count).expect("these came from here");
    let mut class = lock(class);
    // SAFETY: by the caller's word; this word is no atomic.
    unsafe { slots.add(LINK).cast::<*mut Free>().write(class.free) };
    class.free = slots.cast::<Free>().as_ptr();
}

impl Class {
    const fn new() -> Self {
        let (free, fresh) = (std::ptr::null_mut(), std::ptr::null_mut());
        Self { free, fresh, left: 0, region: ARENA_REGION_MIN }
    }

    /// What was never used.
    fn take_fresh(&mut self, piece: usize) -> Option<NonNull<u8>> {
        if self.left < piece && !self.grow(piece) {
            return None;
        }
        let first = self.fresh;
        // SAFETY: so much is left of the region.
        self.fresh = unsafe { first.add(piece) };
        self.left -= piece;
        NonNull::new(first)
    }

    /// A new region; false when there is no memory. What is left of the old one is less than a piece.
    fn grow(&mut self, piece: usize) -> bool {
        let size = self.region.max(piece);
        // An alignment of 16 lets the allocator hand out untouched zero pages; we align by hand.
        let Ok(layout) = Layout::from_size_align(size + 2 * LINE, 16) else { return false };
        // SAFETY: the size is not zero.
        let region = unsafe { alloc_zeroed(layout) };
        if region.is_null() {
            return false;
        }
        (self.fresh, self.left) = (region.wrapping_add(region.align_offset(2 * LINE)), size);
        self.region = (2 * size).min(ARENA_REGION_MAX);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    /// Pieces of all sizes, given back and taken again in an order of chance: zeroed, aligned, and none lies in another.
    #[test]
    fn pieces_are_zeroed_aligned_and_apart() {
        let mut seed = 1u64;
        let mut chance = |limit: u64| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (seed >> 33) % limit
        };
        let mut pieces: BTreeMap<usize, usize> = BTreeMap::new();
        for _ in 0..60_000 {
            if pieces.len() > 3000 || (chance(3) == 0 && !pieces.is_empty()) {
                let from = chance(usize::MAX as u64 >> 1) as usize;
                let at = *pieces.range(from..).next().or(pieces.iter().next()).expect("some").0;
                let size = pieces.remove(&at).expect("there");
                // SAFETY: allocated below with this size.
                unsafe {
                    free(NonNull::new(std::ptr::with_exposed_provenance_mut(at)).expect("not null"), size)
                };
                continue;
            }
            let size = 1 + chance(ARENA_PIECE_MAX as u64 + 600) as usize;
            let piece = allocate(size).expect("memory");
            // SAFETY: so many bytes of ours.
            let bytes = unsafe { std::slice::from_raw_parts_mut(piece.as_ptr(), size) };
            assert!(bytes.iter().all(|byte| *byte == 0) && piece.as_ptr().addr().is_multiple_of(LINE));
            bytes.fill(0xff);
            let at = piece.as_ptr().expose_provenance();
            let before = pieces.range(..at).next_back().map_or(0, |(at, size)| at + size);
            let after = pieces.range(at..).next().map_or(usize::MAX, |(at, _)| *at);
            assert!(before <= at && at + size <= after, "a piece lies in another");
            pieces.insert(at, size);
        }
    }
}
