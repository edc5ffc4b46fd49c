//! Counters with one writer each.

use crate::sync::{AtomicU64, Ordering};

/// A counter that one thread at a time adds to (whoever runs the block) and any thread reads: a plain load and
/// store, no read-modify-write.
#[derive(Debug)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub(crate) const fn new() -> Self {
        Self(AtomicU64::new(0))
    }

    /// Adds one; by the one writer.
    #[inline]
    pub(crate) fn bump(&self) {
        self.0.store(self.0.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
    }

    /// Raises to at least `value`; by the one writer.
    #[inline]
    pub(crate) fn raise(&self, value: u64) {
        if value > self.0.load(Ordering::Relaxed) {
            self.0.store(value, Ordering::Relaxed);
        }
    }

    /// The value; any thread.
    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// What a block counts; not on a cache line that senders read.
#[derive(Debug)]
pub(crate) struct BlockCounters {
    /// Handler calls that returned RK_OK.
    pub(crate) processed: Counter,
    /// Handler calls that did not.
    pub(crate) failed: Counter,
    /// Messages to other kernels.
    pub(crate) to_kernels: Counter,
    /// Replies that reached a waiting call.
    pub(crate) replies: Counter,
    /// Replies that came too late.
    pub(crate) late: Counter,
    /// Times it was scheduled, or woke.
    pub(crate) invocations: Counter,
    /// The deepest input queue it has seen.
    pub(crate) depth_max: Counter,
    /// Messages of other kernels that did not come through the host.
    pub(crate) from_peers: Counter,
    /// Messages to other kernels that did not go through the host.
    pub(crate) to_peers: Counter,
    /// Bytes of messages that were read elsewhere.
    pub(crate) bytes_out: Counter,
}

impl BlockCounters {
    pub(crate) const fn new() -> Self {
        Self {
            processed: Counter::new(),
            failed: Counter::new(),
            to_kernels: Counter::new(),
            replies: Counter::new(),
            late: Counter::new(),
            invocations: Counter::new(),
            depth_max: Counter::new(),
            from_peers: Counter::new(),
            to_peers: Counter::new(),
            bytes_out: Counter::new(),
        }
    }
}

/// Sums over blocks or kernels.
#[derive(Clone, Copy, Default, Debug)]
pub(crate) struct Sums {
    pub(crate) sent: u64,
    /// Messages that came from other kernels by way of the host.
    pub(crate) from_kernels: u64,
    pub(crate) received: u64,
    pub(crate) processed: u64,
    pub(crate) failed: u64,
    pub(crate) restarts: u64,
}

impl Sums {
    /// Field by field.
    pub(crate) fn add(&mut self, other: &Self) {
        self.sent += other.sent;
        self.received += other.received;
        self.processed += other.processed;
        self.failed += other.failed;
        self.restarts += other.restarts;
    }

    /// Field by field; `other` is an earlier reading of the same counters.
    pub(crate) fn since(&self, other: &Self) -> Self {
        Self {
            sent: self.sent.saturating_sub(other.sent),
            from_kernels: self.from_kernels.saturating_sub(other.from_kernels),
            received: self.received.saturating_sub(other.received),
            processed: self.processed.saturating_sub(other.processed),
            failed: self.failed.saturating_sub(other.failed),
            restarts: self.restarts.saturating_sub(other.restarts),
        }
    }
}
