//! A hybrid logical clock (Kulkarni et al., "Logical Physical Clocks", 2014), one word wide.
//!
//! The clock is a single atomic: the upper 57 bits are physical time in units of 16 ns, the lower 7 count
//! within a unit and carry into it. `tick` moves it to `max(last + 1, now)`, so times of one clock are all
//! different and increasing, in the order of the modifications of that one word, whatever the wall clock
//! does. A clock that is asked more often than 8 times a nanosecond runs ahead of the wall clock by what it
//! counts, and falls back in step when it is asked less. The node makes times of different clocks different.

use crate::layout::RkTimestamp;
use crate::sync::{AtomicU64, Ordering};

/// Bits that count within a unit of physical time.
const LOGICAL_BITS: u32 = 7;
/// A unit of physical time is 2^4 ns.
const UNIT_BITS: u32 = 4;

/// A clock of one node.
#[derive(Debug)]
pub(crate) struct HybridClock {
    last: AtomicU64,
    node: u32,
}

impl HybridClock {
    /// A clock that has not ticked. `node` 0 is the host.
    pub(crate) const fn new(node: u32) -> Self {
        Self { last: AtomicU64::new(0), node }
    }

    /// Its number.
    pub(crate) fn node(&self) -> u32 {
        self.node
    }

    /// The next time. `now_ns` is the wall clock, nanoseconds since the Unix epoch. Any thread.
    pub(crate) fn tick(&self, now_ns: u64) -> RkTimestamp {
        let now = (now_ns >> UNIT_BITS) << LOGICAL_BITS;
        let mut last = self.last.load(Ordering::Relaxed);
        loop {
            let next = now.max(last + 1);
            match self.last.compare_exchange_weak(last, next, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => return self.stamp(next),
                Err(seen) => last = seen,
            }
        }
    }

    /// Moves the clock past a time that was seen, so that what follows from it is later. Any thread.
    pub(crate) fn observe(&self, seen: RkTimestamp) {
        let word = ((seen.physical_ns >> UNIT_BITS) << LOGICAL_BITS) | u64::from(seen.logical);
        self.last.fetch_max(word, Ordering::Relaxed);
    }

    fn stamp(&self, word: u64) -> RkTimestamp {
        RkTimestamp {
            physical_ns: (word >> LOGICAL_BITS) << UNIT_BITS,
            logical: (word & ((1 << LOGICAL_BITS) - 1)) as u32,
            node: self.node,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn lesson_06_times_of_one_clock_are_all_different_and_increasing() {
        let clock = HybridClock::new(7);
        let times: Vec<Vec<RkTimestamp>> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..4)
                .map(|_| scope.spawn(|| (0..20_000).map(|i| clock.tick(1_000 + i / 64)).collect::<Vec<_>>()))
                .collect();
            threads.into_iter().map(|thread| thread.join().expect("no panic")).collect()
        });
        for of_one_thread in &times {
            assert!(of_one_thread.windows(2).all(|pair| pair[0] < pair[1]));
        }
        let all: BTreeSet<_> = times.iter().flatten().map(|t| (t.physical_ns, t.logical)).collect();
        assert_eq!(all.len(), 80_000);
    }

    #[test]
    fn a_wall_clock_that_goes_back_does_not_take_the_clock_with_it() {
        let clock = HybridClock::new(1);
        let before = clock.tick(1_000_000);
        assert!(clock.tick(10) > before);
        assert!(clock.tick(2_000_000).physical_ns >= 1_999_984);
    }

    #[test]
    fn what_follows_from_a_seen_time_is_later() {
        let (a, b) = (HybridClock::new(1), HybridClock::new(2));
        let sent = a.tick(5_000_000);
        b.observe(sent);
        let answered = b.tick(1_000);
        assert!((answered.physical_ns, answered.logical) > (sent.physical_ns, sent.logical));
    }
}
