//! What can be seen of a kernel from outside: counters, depths, memory.
//!
//! Nothing is counted twice for it: what senders and receivers did is what the positions of the rings say, and
//! blocks count with plain stores. A reading is not a snapshot of one instant; each counter for itself never
//! falls.

use super::kernel::Kernel;
use super::lease;
use super::options::Mode;
use crate::layout::*;
use crate::metrics::Sums;
use crate::ring::Ring;
use crate::sync::{Ordering, monotonic_coarse_ns, monotonic_ns};

impl Kernel {
    fn inputs(&self) -> impl Iterator<Item = &Ring> {
        self.blocks.iter().filter_map(|block| block.input.get().map(|ring| -> &Ring { ring }))
    }

    /// The counters that runtimes sum up.
    pub(crate) fn sums(&self) -> Sums {
        let received = self.output.get().map_or(0, Ring::head);
        let mut sums = Sums { received, restarts: self.restarts(), ..Sums::default() };
        for ring in self.inputs() {
            sums.sent += ring.sent();
            sums.from_kernels += ring.queued_by_kernels();
        }
        for block in self.blocks.iter() {
            sums.received += block.counters.replies.get();
            sums.processed += block.counters.processed.get();
            sums.failed += block.counters.failed.get();
        }
        sums
    }

    /// Bytes of its queues, states and scratch, of its last checkpoint, and of itself.
    pub(crate) fn memory_bytes(&self) -> u64 {
        let rings = self.inputs().chain(self.output.get()).map(Ring::bytes).sum::<usize>();
        let blocks = self.blocks.len() * (size_of::<super::block::Block>() + self.block_bytes());
        let kept = super::checkpoint::last(self).map_or(0, |last| last.bytes().len());
        (size_of::<Self>() + rings + blocks + kept) as u64
    }

    fn block_bytes(&self) -> usize {
        self.state_size + self.options.shared_size as usize
    }

    fn input_depth(&self) -> u64 {
        self.inputs().map(Ring::depth).sum()
    }

    fn output_depth(&self) -> u64 {
        self.output.get().map_or(0, Ring::depth)
    }

    fn uptime_ns(&self) -> u64 {
        let end = match self.ended_ns.load(Ordering::Relaxed) {
            0 => monotonic_ns(),
            ended => ended,
        };
        end.saturating_sub(self.launched_ns)
    }

    /// `rk_kernel_status`.
    pub(crate) fn status(&self) -> RkKernelStatus {
        RkKernelStatus {
            state: self.state().code(),
            mode: match self.options.mode {
                Mode::Persistent => RK_MODE_PERSISTENT,
                Mode::EventDriven | Mode::Auto => RK_MODE_EVENT_DRIVEN,
            },
            backend: self.backend.code(),
            grid_size: self.options.grid_size,
            last_error: self.last_error.load(Ordering::Relaxed),
            restarts: self.restarts().min(u64::from(u32::MAX)) as u32,
            input_queue_depth: self.input_depth(),
            output_queue_depth: self.output_depth(),
            messages_processed: self.sums().processed,
            uptime_ns: self.uptime_ns(),
            ..RkKernelStatus::default()
        }
    }

    /// `rk_kernel_metrics`.
    pub(crate) fn metrics(&self) -> RkKernelMetrics {
        let sums = self.sums();
        let open = lease::open(self);
        let counters = || self.blocks.iter().map(|block| &block.counters);
        let mut metrics = RkKernelMetrics {
            backend: self.backend.code(),
            state: self.state().code(),
            messages_sent: sums.sent,
            messages_received: sums.received,
            messages_processed: sums.processed,
            messages_failed: sums.failed,
            messages_from_kernels: sums.from_kernels
                + counters().map(|counters| counters.from_peers.get()).sum::<u64>(),
            messages_to_kernels: counters()
                .map(|counters| counters.to_kernels.get() + counters.to_peers.get())
                .sum(),
            dead_letters: self.dead.load(Ordering::Relaxed),
            invocations: counters().map(|counters| counters.invocations.get()).sum(),
            host_memory_used_bytes: self.memory_bytes(),
            input_queue_depth: self.input_depth(),
            input_queue_depth_max: counters().map(|counters| counters.depth_max.get()).max().unwrap_or(0),
            output_queue_depth: self.output_depth(),
            open_leases: open.count,
            oldest_lease_ns: match open.oldest_ns {
                0 => 0,
                since => monotonic_coarse_ns().saturating_sub(since),
            },
            uptime_ns: self.uptime_ns(),
            restarts: sums.restarts,
            last_error: self.last_error.load(Ordering::Relaxed),
            replies_late: counters().map(|counters| counters.late.get()).sum(),
            ..RkKernelMetrics::default()
        };
        self.driver.measure(self, &mut metrics);
        metrics
    }
}
