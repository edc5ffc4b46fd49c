//! A hybrid logical clock (Kulkarni et al., "Logical Physical Clocks", 2014), one word wide.
//!
//! The clock is a single atomic: the upper 57 bits are physical time in units of 16 ns, the lower 7 count
//! within a unit and carry into it. `tick` moves it to `max(last + 1, now)`, so times of one clock are all
//! different and increasing, in the order of the modifications of that one word, whatever the wall clock
//! does. A clock that is asked more often than 8 times a nanosecond runs ahead of the wall clock by what it
//! counts, and falls back in step when it is asked less. The node makes times of different clocks different.
//!
//! The word has room for times until January 2043 (2^61 ns). From [`LAST_NS`] on the wall clock is taken to stand still: times of one clock still
//! differ and increase, as they count, for 2^44 of them.
//!
//! # What follows from what
//! A message carries a time of its sender's clock. Who handles it moves the kernel's clock past that (`observe`) before the handler
//! runs, so all that the handler says is later: replies, what it sends on routes, what it emits. The host has one clock. It is moved
//! past every time that a kernel gives to the host *before* the host can have the message, so nothing has to be done when a
//! message is received, and what the host sends after is later. A handler that calls another kernel is
//! host and kernel at once: the host's clock is first moved past the kernel's, and a kernel's clock never says a time that
//! the host's has passed. Each of these is a modification or a read of one word before or after a message that is published with release and
//! taken with acquire, so relaxed operations do.
//!
//! # A limit on skew
//! A time that is more than [`SKEW_MAX_NS`] ahead of the wall clock is not followed: it says that a clock is wrong (its machine's, or this
//! one, which was set back), and following it would take every clock it meets there, for good. What follows from such a message may have an earlier
//! time; times of one clock still increase and differ. The limit is far above what synchronised machines differ by, and below what anybody
//! would want to see in a log.

use crate::layout::RkTimestamp;
use crate::sync::{AtomicU64, Ordering};

/// Bits that count within a unit of physical time.
const LOGICAL_BITS: u32 = 7;
/// A unit of physical time is 2^4 ns.
const UNIT_BITS: u32 = 4;
/// How far ahead of the wall clock a time is followed; `RKD_SKEW_MAX` of `include/ringkernel_device.cuh`.
pub(crate) const SKEW_MAX_NS: u64 = 1_000_000_000;

/// Where the wall clock is taken to stand still; `RKD_CLOCK_LAST` of `include/ringkernel_device.cuh`.
pub(crate) const LAST_NS: u64 = (1 << 61) - (1 << 41);
/// Beyond any time.
const END_NS: u64 = 1 << 61;

/// A time as a word of a clock.
fn word(physical_ns: u64, logical: u32) -> u64 {
    (physical_ns.min(END_NS - 1) >> UNIT_BITS) << LOGICAL_BITS
        | u64::from(logical.min((1 << LOGICAL_BITS) - 1))
}

/// Whether a word is beyond the limit on skew.
fn is_too_far_ahead(word: u64, now_ns: u64) -> bool {
    (word >> LOGICAL_BITS) << UNIT_BITS > now_ns.saturating_add(SKEW_MAX_NS)
}

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
        self.tick_past(0, now_ns)
    }

    /// The next time, later than what another clock of this process has said. Any thread.
    pub(crate) fn tick_after(&self, other: &Self, now_ns: u64) -> RkTimestamp {
        let seen = other.last.load(Ordering::Relaxed);
        self.tick_past(if is_too_far_ahead(seen, now_ns) { 0 } else { seen }, now_ns)
    }

    fn tick_past(&self, seen: u64, now_ns: u64) -> RkTimestamp {
        let least = word(now_ns.min(LAST_NS), 0).max(seen + 1);
        let mut last = self.last.load(Ordering::Relaxed);
        loop {
            let next = least.max(last + 1);
            match self.last.compare_exchange_weak(last, next, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => return self.stamp(next),
                Err(seen) => last = seen,
            }
        }
    }

    /// Moves the clock past a time that was seen, so that what follows from it is later, unless it is too far ahead of the wall
    /// clock, which is only asked if it matters. Any thread.
    pub(crate) fn observe(&self, seen: RkTimestamp, now_ns: impl FnOnce() -> u64) {
        let seen = word(seen.physical_ns, seen.logical);
        if seen > self.last.load(Ordering::Relaxed) && !is_too_far_ahead(seen, now_ns()) {
            self.last.fetch_max(seen, Ordering::Relaxed);
        }
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
        b.observe(sent, || 5_000_000);
        let answered = b.tick(1_000);
        assert!((answered.physical_ns, answered.logical) > (sent.physical_ns, sent.logical));
        let c = HybridClock::new(3);
        let after = c.tick_after(&b, 1_000);
        assert!((after.physical_ns, after.logical) > (answered.physical_ns, answered.logical));
    }

    #[test]
    fn a_time_beyond_the_limit_on_skew_is_not_followed() {
        let (a, b) = (HybridClock::new(1), HybridClock::new(2));
        let now = 7_000_000_000;
        let allowed = a.tick(now + SKEW_MAX_NS);
        b.observe(allowed, || now);
        assert!(b.tick(now).physical_ns >= allowed.physical_ns);
        let before = b.tick(now);
        let wrong = a.tick(now + SKEW_MAX_NS + 16);
        b.observe(wrong, || now);
        assert!(b.tick(now).physical_ns <= before.physical_ns + 16);
        // Later it is not from the future any more.
        b.observe(wrong, || now + 16);
        assert!(b.tick(now).physical_ns >= wrong.physical_ns);
        let c = HybridClock::new(3);
        a.tick(u64::MAX / 2);
        assert_eq!(c.tick_after(&a, now).physical_ns, now);
    }

    #[test]
    fn times_still_increase_when_the_word_is_used_up() {
        let (clock, other) = (HybridClock::new(1), HybridClock::new(2));
        let mut last = clock.tick(LAST_NS - 16);
        assert_eq!(last.physical_ns, LAST_NS - 16);
        for now in [LAST_NS, LAST_NS + 1, END_NS - 1, END_NS, END_NS + 16, END_NS + 17, u64::MAX, u64::MAX] {
            let next = clock.tick(now);
            assert!(next > last && next.physical_ns < END_NS);
            last = next;
        }
        other.observe(last, || u64::MAX);
        assert!(
            other.tick(END_NS).physical_ns >= last.physical_ns && other.tick_after(&clock, END_NS) > last
        );
    }

    #[test]
    fn the_wall_clock_is_only_asked_when_it_matters() {
        let clock = HybridClock::new(1);
        let stamp = clock.tick(1_000_000);
        clock.observe(stamp, || panic!("asked"));
    }
}
