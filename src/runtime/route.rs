//! The routes of a kernel: numbers that its handlers send to.
//!
//! Numbers count up and are not used again, so a route that ended is told from one that never was by nothing
//! but its number. Looked up by handlers on every send, changed rarely: chunks of atomic handles, linked
//! once and never moved, of doubling size.

use once_cell::race::OnceBox;

use crate::sync::{AtomicU64, Mutex, Ordering, lock};

/// Chunks double: 8, 16, 32, …; 26 of them are more routes than a kernel has use for.
const CHUNKS: usize = 26;
const FIRST: usize = 8;

/// See the file's head.
pub(crate) struct Routes {
    chunks: OnceBox<[OnceBox<Vec<AtomicU64>>; CHUNKS]>,
    count: Mutex<u32>,
}

fn place(route: u32) -> (usize, usize) {
    let shifted = route as usize / FIRST + 1;
    let chunk = shifted.ilog2() as usize;
    (chunk, route as usize - FIRST * ((1 << chunk) - 1))
}

impl Routes {
    pub(crate) const fn new() -> Self {
        Self { chunks: OnceBox::new(), count: Mutex::new(0) }
    }

    fn slot(&self, route: u32) -> Option<&AtomicU64> {
        let (chunk, index) = place(route);
        self.chunks.get()?.get(chunk)?.get()?.get(index)
    }

    /// A new route to a kernel; `None` when there are too many.
    pub(crate) fn add(&self, target: u64) -> Option<u32> {
        let mut count = lock(&self.count);
        let route = *count;
        let (chunk, index) = place(route);
        let chunks = self.chunks.get_or_init(|| Box::new([const { OnceBox::new() }; CHUNKS]));
        let size = FIRST << chunk;
        let slots =
            chunks.get(chunk)?.get_or_init(|| Box::new((0..size).map(|_| AtomicU64::new(0)).collect()));
        slots[index].store(target, Ordering::Release);
        *count = route + 1;
        Some(route)
    }

    /// Where a route goes; `None` when it has ended or never was.
    pub(crate) fn target(&self, route: u32) -> Option<u64> {
        self.slot(route).map(|slot| slot.load(Ordering::Acquire)).filter(|target| *target != 0)
    }

    /// Ends a route; false when there is none.
    pub(crate) fn remove(&self, route: u32) -> bool {
        self.slot(route).is_some_and(|slot| slot.swap(0, Ordering::AcqRel) != 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn routes_count_up_and_are_not_used_again() {
        let routes = Routes::new();
        assert_eq!(routes.target(0), None);
        for expected in 0..1000u32 {
            assert_eq!(routes.add(u64::from(expected) + 1), Some(expected));
        }
        assert!((0..1000).all(|route| routes.target(route) == Some(u64::from(route) + 1)));
        assert!(routes.remove(17));
        assert!(!routes.remove(17));
        assert_eq!(routes.target(17), None);
        assert_eq!(routes.add(5), Some(1000));
        assert_eq!(routes.target(u32::MAX), None);
    }
}
