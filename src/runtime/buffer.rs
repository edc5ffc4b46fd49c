//! Zeroed, 64-byte aligned memory: states, scratch, kept messages.
#![allow(unsafe_code)]

use std::ptr::NonNull;

use crate::arena;

/// Owned memory; empty ones own nothing.
#[derive(Debug)]
pub(crate) struct Buffer {
    pointer: NonNull<u8>,
    capacity: usize,
}

// SAFETY: owned memory without interior sharing.
unsafe impl Send for Buffer {}
// SAFETY: `&Buffer` only reads.
unsafe impl Sync for Buffer {}

impl Buffer {
    /// Nothing.
    pub(crate) const fn empty() -> Self {
        Self { pointer: NonNull::dangling(), capacity: 0 }
    }

    /// `size` zero bytes; `None` when they cannot be had.
    pub(crate) fn zeroed(size: usize) -> Option<Self> {
        if size == 0 {
            return Some(Self::empty());
        }
        Some(Self { pointer: arena::allocate(size)?, capacity: size })
    }

    /// A copy of some bytes.
    pub(crate) fn copy_of(bytes: &[u8]) -> Option<Self> {
        let mut buffer = Self::zeroed(bytes.len())?;
        buffer.bytes_mut().copy_from_slice(bytes);
        Some(buffer)
    }

    /// Bytes.
    pub(crate) fn capacity(&self) -> usize {
        self.capacity
    }

    /// First byte; not to be used when empty.
    pub(crate) fn as_ptr(&self) -> *mut u8 {
        self.pointer.as_ptr()
    }

    /// First byte, or NULL when empty.
    pub(crate) fn as_ptr_or_null(&self) -> *mut u8 {
        if self.capacity == 0 { std::ptr::null_mut() } else { self.as_ptr() }
    }

    /// All bytes.
    pub(crate) fn bytes(&self) -> &[u8] {
        if self.capacity == 0 {
            return &[];
        }
        // SAFETY: owned, initialised to zero at least.
        unsafe { std::slice::from_raw_parts(self.pointer.as_ptr(), self.capacity) }
    }

    /// All bytes, to write.
    pub(crate) fn bytes_mut(&mut self) -> &mut [u8] {
        if self.capacity == 0 {
            return &mut [];
        }
        // SAFETY: owned and borrowed mutably.
        unsafe { std::slice::from_raw_parts_mut(self.pointer.as_ptr(), self.capacity) }
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        if self.capacity > 0 {
            // SAFETY: allocated in `zeroed` with this size.
            unsafe { arena::free(self.pointer, self.capacity) }
        }
    }
}
