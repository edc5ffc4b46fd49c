//! The blocks of a kernel.
#![allow(unsafe_code)]

use std::ptr::NonNull;

use super::block::Block;
use crate::arena;

/// The blocks of a kernel, side by side.
#[derive(Debug)]
pub(crate) struct Blocks {
    first: NonNull<Block>,
    /// How many were made, and how many there is room for.
    count: usize,
    capacity: usize,
}

// SAFETY: it owns its blocks.
unsafe impl Send for Blocks {}
// SAFETY: as above.
unsafe impl Sync for Blocks {}

impl Blocks {
    /// `count` blocks (at least 1); `None` when one, or memory for all, cannot be had.
    pub(crate) fn new(count: usize, mut make: impl FnMut(usize) -> Option<Block>) -> Option<Self> {
        let first = arena::allocate(count.checked_mul(size_of::<Block>())?)?.cast::<Block>();
        // Dropped early, it has as many as were made.
        let mut blocks = Self { first, count: 0, capacity: count };
        for index in 0..count {
            let block = make(index)?;
            // SAFETY: room for `count` blocks, aligned to a cache line.
            unsafe { first.add(index).write(block) };
            blocks.count += 1;
        }
        Some(blocks)
    }
}

impl std::ops::Deref for Blocks {
    type Target = [Block];

    #[inline]
    fn deref(&self) -> &[Block] {
        // SAFETY: made in `new`.
        unsafe { std::slice::from_raw_parts(self.first.as_ptr(), self.count) }
    }
}

impl Drop for Blocks {
    fn drop(&mut self) {
        // SAFETY: so many were made in `new`, in memory for so many.
        unsafe {
            std::ptr::slice_from_raw_parts_mut(self.first.as_ptr(), self.count).drop_in_place();
            arena::free(self.first.cast(), self.capacity * size_of::<Block>());
        }
    }
}
