//! The times of a kernel's messages; `clock.rs` has the argument.

use super::context;
use super::kernel::{Kernel, Source};
use crate::layout::RkTimestamp;
use crate::sync::{unix_coarse_ns, unix_ns};

impl Kernel {
    /// Of a message of the host to this kernel.
    #[inline(never)]
    pub(super) fn stamp_of_host(&self) -> RkTimestamp {
        // A handler that calls a kernel says it after what it has seen and said.
        context::with_innermost(|kernel| self.core.host_clock.tick_after(&kernel.clock, unix_ns()))
            .unwrap_or_else(|| self.core.host_clock.tick(unix_ns()))
    }

    /// Of a message of a kernel to this kernel.
    #[inline(never)]
    pub(super) fn stamp_of(source: Source<'_>) -> RkTimestamp {
        source.stamp.unwrap_or_else(|| source.kernel.tick())
    }

    /// The next time of its clock; what the host has got, also by a call from a handler, is earlier.
    pub(crate) fn tick(&self) -> RkTimestamp {
        self.clock.tick_after(self.core.host_clock, unix_ns())
    }

    /// The same for what the host gets: what the host says then is later.
    pub(crate) fn tick_for_host(&self) -> RkTimestamp {
        let stamp = self.tick();
        self.core.host_clock.observe(stamp, unix_coarse_ns);
        stamp
    }
}
