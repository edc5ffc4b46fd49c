//! The *watch*: the thread that talks to the driver. See `pump.rs`.

use super::super::resident::Resident;
use super::super::streams::Begun;
use super::{BURY_NS, CALM_TICK_NS, Entry, SHORT_SLEEP, SPIN_NS, Shared, TICK_NS};
use crate::error::Error;
use crate::layout::RK_ERR_DEVICE;
use crate::runtime::kernel::{Kernel, Phase};
use crate::runtime::log;
use crate::sync::{Arc, Ordering, lock, monotonic_ns, spin_loop};

/// For all pools to leave when the runtime is destroyed.
const LEAVE_NS: u64 = 2_000_000_000;

/// The thread that talks to the driver: short launches, the state of the device, pools that have ended.
pub(super) struct Watch {
    shared: Arc<Shared>,
    entries: Vec<Entry>,
    version: u64,
    /// Of the entries.
    first: usize,
    progress_ns: u64,
    tick_ns: u64,
}

impl Watch {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self { shared, entries: Vec::new(), version: u64::MAX, first: 0, progress_ns: 0, tick_ns: 0 }
    }

    pub(super) fn live(mut self) {
        while !self.shared.stop.load(Ordering::SeqCst) {
            self.shared.watch_pending.swap(false, Ordering::SeqCst);
            let version = self.shared.version.load(Ordering::SeqCst);
            if version != self.version {
                self.version = version;
                self.entries = self.shared.entries();
                self.entries.retain(|entry| entry.resident.pool.shape.once);
            }
            let (mut progressed, mut in_flight) = (false, false);
            // With another one first each time: where streams are short, who comes first gets them.
            self.first = if self.first + 1 < self.entries.len() { self.first + 1 } else { 0 };
            let (last, first) = self.entries.split_at(self.first);
            for Entry { kernel, resident } in first.iter().chain(last) {
                progressed |= self.drive(kernel, resident);
                in_flight |= resident.in_flight.load(Ordering::SeqCst);
            }
            let now = monotonic_ns();
            if now - self.tick_ns > TICK_NS {
                self.tick_ns = now;
                self.tick(now);
            }
            if progressed {
                self.progress_ns = now;
            } else {
                self.rest(now, in_flight);
            }
        }
        self.entries.clear();
        self.leave();
    }

    fn rest(&self, now: u64, in_flight: bool) {
        let quiet = now.saturating_sub(self.progress_ns);
        if in_flight && quiet < SPIN_NS {
            spin_loop();
        } else if in_flight {
            std::thread::sleep(SHORT_SLEEP);
        } else {
            let shared = &self.shared;
            let pools = lock(&shared.pools);
            let nothing = pools.is_empty() && self.entries.is_empty();
            let is_calm =
                shared.is_calm.load(Ordering::SeqCst) && !pools.iter().any(|pool| pool.is_closing());
            drop(pools);
            let deadline = match nothing {
                false if is_calm => now + CALM_TICK_NS,
                false => now + TICK_NS,
                // Pools that have ended wait for whoever still has a handle of their kernels.
                true if !lock(&shared.ended).is_empty() => now + BURY_NS,
                true => u64::MAX,
            };
            let woken = || {
                let is_new = shared.watch_pending.load(Ordering::SeqCst)
                    || shared.stop.load(Ordering::SeqCst)
                    || shared.version.load(Ordering::SeqCst) != self.version;
                is_new.then_some(())
            };
            shared.watch.sleep_until(deadline, &mut { woken });
        }
    }

    /// Launches a kernel that has messages, and sees it come back; whether anything changed.
    fn drive(&self, kernel: &Arc<Kernel>, resident: &Resident) -> bool {
        if resident.in_flight.load(Ordering::SeqCst) {
            return match resident.pool.query() {
                Ok(false) => false,
                Ok(true) => {
                    resident.pool.calibrate(monotonic_ns());
                    resident.in_flight.store(false, Ordering::SeqCst);
                    kernel.lifecycle.notify_all();
                    true
                }
                Err(error) => {
                    self.shared.lose(&error);
                    true
                }
            };
        }
        if resident.wants_copy.load(Ordering::SeqCst) {
            return self.launch_for_copy(kernel, resident);
        }
        let has_input = |index: usize| resident.has_input(kernel, index as u32);
        let may_run = || matches!(Kernel::phase(kernel.control()), Phase::Run | Phase::Drain);
        if !may_run() || kernel.has_ended() || !(0..resident.seats.len()).any(has_input) {
            return false;
        }
        match resident.pool.begin(false) {
            Begun::Yes => {}
            Begun::NotNow => return false,
            Begun::Never => {
                log::write(log::Level::Error, || self.no_stream(kernel).to_string());
                kernel.fail(RK_ERR_DEVICE);
                return true;
            }
        }
        // Claimed first, looked at again after: who pauses it writes the state first and looks at this after.
        resident.in_flight.store(true, Ordering::SeqCst);
        crate::sync::full_fence(crate::sync::Label::G5);
        if !may_run() {
            resident.pool.end();
            resident.in_flight.store(false, Ordering::SeqCst);
            kernel.lifecycle.notify_all();
            return true;
        }
        resident.launches.fetch_add(1, Ordering::Relaxed);
        if let Err(error) = resident.pool.launch() {
            resident.in_flight.store(false, Ordering::SeqCst);
            match resident.pool.check_device() {
                Err(lost) => self.shared.lose(&lost),
                Ok(()) => {
                    log::write(log::Level::Error, || {
                        format!("kernel {:?} cannot be launched: {error}", kernel.id)
                    });
                    kernel.fail(RK_ERR_DEVICE);
                }
            }
        }
        true
    }

    /// Launches a kernel for a copy of its states; whether anything changed.
    fn launch_for_copy(&self, kernel: &Arc<Kernel>, resident: &Resident) -> bool {
        match resident.pool.begin(false) {
            Begun::Yes => {}
            Begun::NotNow => return false,
            Begun::Never => {
                *lock(&resident.copy_error) = Some(self.no_stream(kernel));
                return resident.wants_copy.swap(false, Ordering::SeqCst);
            }
        }
        // Who wants it waits for that, and keeps all else from being launched meanwhile.
        resident.in_flight.store(true, Ordering::SeqCst);
        if !resident.wants_copy.swap(false, Ordering::SeqCst) {
            // Not any more.
            resident.pool.end();
            resident.in_flight.store(false, Ordering::SeqCst);
            kernel.lifecycle.notify_all();
            return true;
        }
        if let Err(error) = resident.pool.launch() {
            *lock(&resident.copy_error) = Some(error);
            resident.in_flight.store(false, Ordering::SeqCst);
        }
        true
    }

    fn no_stream(&self, kernel: &Kernel) -> Error {
        let why = "handlers that hang have all streams for launches".into();
        Error::NotResident { kernel: Arc::clone(&kernel.id), asked: kernel.options.grid_size, why }
    }

    /// Everything that need not be quick.
    fn tick(&self, now: u64) {
        if self.shared.core.lost.get().is_some() {
            return;
        }
        // Who launches a pool has them for a while, and short launches are to be seen to end meanwhile.
        let Ok(pools) = self.shared.pools.try_lock().map(|pools| pools.clone()) else { return };
        for pool in pools.iter().filter(|pool| !pool.shape.once) {
            pool.calibrate(now);
            match pool.query() {
                Ok(false) => {}
                Ok(true) if pool.is_closing() => {}
                Ok(true) => {
                    let what = "the resident kernel has ended by itself".into();
                    return self.shared.lose(&Error::Cuda { what, name: "no error".into(), code: 0 });
                }
                Err(error) => return self.shared.lose(&error),
            }
        }
        drop(pools);
        if let Ok(mut pools) = self.shared.pools.try_lock() {
            self.shared.sweep(&mut pools);
        }
        self.shared.bury();
    }

    /// Ends every pool; what does not end is leaked.
    fn leave(&self) {
        let pools = std::mem::take(&mut *lock(&self.shared.pools));
        let lost = self.shared.core.lost.get().is_some();
        pools.iter().for_each(|pool| pool.dismiss());
        for pool in &pools {
            if lost || pool.is_stuck.load(Ordering::SeqCst) || !pool.await_end(LEAVE_NS) {
                pool.be_stuck();
                self.shared.device.leak();
            }
        }
    }
}
