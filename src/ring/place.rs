//! A place for a ring that comes late and stays: a pointer that is set once.
//!
//! # Argument
//! The pointer goes from null to a ring, by a compare-and-swap (Release); who reads it (Acquire) sees the ring whole. It does not
//! change again before the place is dropped, for which its owner has it alone. Two that make a ring at a time both make one; who comes
//! second drops its own.
//!
//! The ring lies in the arena: a kernel that is one of a million pays for no header and no alignment of an allocator.
#![allow(unsafe_code)]

use std::ptr::NonNull;

use super::Ring;
use crate::arena;
use crate::sync::{AtomicPtr, Ordering};

const _: () = assert!(align_of::<Ring>() <= 2 * 64 && size_of::<Ring>().is_multiple_of(align_of::<Ring>()));

/// See the file's head.
#[derive(Debug)]
pub(crate) struct RingPlace(AtomicPtr<Ring>);

impl RingPlace {
    pub(crate) const fn new() -> Self {
        Self(AtomicPtr::new(std::ptr::null_mut()))
    }

    /// The ring, if it is there.
    #[inline(always)]
    pub(crate) fn get(&self) -> Option<&Ring> {
        // SAFETY: null, or a ring that lives as long as this place.
        unsafe { self.0.load(Ordering::Acquire).as_ref() }
    }

    /// Puts a ring in, unless one is there. The one that is there then, and whether it is this one; `None`: there is no memory.
    pub(crate) fn put(&self, ring: Ring) -> Option<(&Ring, bool)> {
        let place = arena::allocate(size_of::<Ring>())?.cast::<Ring>();
        // SAFETY: large enough, aligned (the arena's pieces are aligned to two lines if their size is a multiple of that), and nobody's.
        unsafe { place.write(ring) };
        let null = std::ptr::null_mut();
        match self.0.compare_exchange(null, place.as_ptr(), Ordering::AcqRel, Ordering::Acquire) {
            // SAFETY: it stays as long as this place.
            Ok(_) => Some((unsafe { &*place.as_ptr() }, true)),
            Err(there) => {
                // SAFETY: nobody else knows it.
                unsafe { free(place) };
                // SAFETY: as above.
                Some((unsafe { &*there }, false))
            }
        }
    }
}

impl Drop for RingPlace {
    fn drop(&mut self) {
        if let Some(ring) = NonNull::new(self.0.load(Ordering::Acquire)) {
            // SAFETY: put there by `put`, and nobody uses this place any more.
            unsafe { free(ring) };
        }
    }
}

/// # Safety
/// From `put`, and not used any more.
unsafe fn free(ring: NonNull<Ring>) {
    // SAFETY: by the caller's word.
    unsafe {
        ring.drop_in_place();
        arena::free(ring.cast(), size_of::<Ring>());
    }
}
