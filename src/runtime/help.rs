//! What a thread does while it waits for a kernel: it runs the kernel's handlers itself, or looks at what comes from a device.

use super::block;
use super::context;
use super::kernel::Kernel;
use super::options::{Mode, WaitStrategy};
use crate::error;
use crate::limits::{HELP_DEPTH_MAX, REMOTE_SPIN_NS};
use crate::sync::{Arc, Ordering, monotonic_ns};

/// Whether the handlers of a block are known to be so short that who waits so long may run one.
pub(crate) fn is_short(block: &block::Block, timeout_ns: u64) -> bool {
    let pace = block.pace_ns.load(Ordering::Relaxed);
    pace != u64::MAX && pace.saturating_mul(4) < timeout_ns
}

/// Runs the next messages of the kernel that is waited for on this thread, if it is idle and that may be done;
/// false when nothing was run.
///
/// With a limited time only if its handlers are known to be short: a helper cannot leave a handler.
pub(crate) fn help(kernel: &Arc<Kernel>, index: u32, timeout_ns: u64, until: &dyn Fn() -> bool) -> bool {
    let block = kernel.block(index);
    let in_time = timeout_ns == u64::MAX || is_short(block, timeout_ns);
    if !kernel.may_be_helped() || !in_time || context::depth() >= HELP_DEPTH_MAX {
        return false;
    }
    if !(block.gate.enter_idle() || block.gate.enter_queued()) {
        return false;
    }
    let start = if timeout_ns == u64::MAX { 0 } else { monotonic_ns() };
    error::set_aside(|| block::run(kernel, index, Some(until)));
    if start != 0 {
        block.note_pace(monotonic_ns() - start);
    }
    true
}

/// Waits for something of blocks that run elsewhere by looking at what comes from them, for as long as the wait
/// strategy says; then it is for the backend's thread to look.
pub(crate) fn look_for_news(
    kernel: &Arc<Kernel>,
    blocks: std::ops::Range<u32>,
    deadline: u64,
    until: &dyn Fn() -> bool,
) {
    let spin_ns = match kernel.options.wait {
        WaitStrategy::Spin => u64::MAX,
        WaitStrategy::Auto => REMOTE_SPIN_NS,
        WaitStrategy::Park => 0,
    };
    let end = monotonic_ns().saturating_add(spin_ns).min(deadline);
    if kernel.options.mode == Mode::EventDriven {
        // Somebody has to launch it first.
        blocks.clone().for_each(|index| kernel.wake(index));
    }
    if deadline != 0 && context::depth() < HELP_DEPTH_MAX {
        let mut round = 0u32;
        while !until() {
            for index in blocks.clone() {
                // Mostly at the place where a reply comes: the other words are the device's to write, and to look at
                // them all the time slows it down.
                let is_due = round.is_multiple_of(32) || kernel.block(index).has_record();
                if is_due && block::has_work(kernel, index) && kernel.block(index).gate.enter_idle() {
                    error::set_aside(|| block::run(kernel, index, Some(until)));
                }
            }
            round = round.wrapping_add(1);
            if round.is_multiple_of(64) && monotonic_ns() >= end {
                break;
            }
            crate::sync::spin_loop();
        }
    }
    for index in blocks {
        kernel.wake(index);
    }
}

/// As [`help`], for a receiver: any block with messages will do.
pub(crate) fn help_receiver(kernel: &Arc<Kernel>, timeout_ns: u64) {
    let until = || kernel.output.get().is_some_and(crate::ring::Ring::is_readable);
    for index in 0..kernel.options.grid_size {
        if until() {
            break;
        }
        if block::has_work(kernel, index) {
            help(kernel, index, timeout_ns, &until);
        }
    }
}

impl block::Block {
    /// Notes how long a run took, for what is usual: a running median by steps of an eighth, so that a run that was interrupted is
    /// not taken for a long one (Robbins and Monro's approximation with steps in proportion).
    pub(crate) fn note_usual(&self, ns: u64) {
        let before = self.usual_ns.load(Ordering::Relaxed);
        let step = before / 8 + 1;
        let next = match before {
            u64::MAX => ns,
            _ if ns > before => (before + step).min(ns),
            _ => (before - step.min(before)).max(ns),
        };
        self.usual_ns.store(next, Ordering::Relaxed);
    }

    /// Notes how long a handler took at most.
    pub(crate) fn note_pace(&self, ns: u64) {
        let before = self.pace_ns.load(Ordering::Relaxed);
        let faded = if before == u64::MAX { 0 } else { before - before / 8 };
        self.pace_ns.store(ns.max(faded), Ordering::Relaxed);
    }
}
