//! Persistent kernels: a thread for each block, which waits as it was told to.
//!
//! The thread is the only one that runs the block. It enters the gate when it is handed over (activation, or a
//! message that finds the gate IDLE) and stays inside, looking for work, for as long as its strategy says;
//! then it leaves, looks once more and parks on the gate's word. The wake-up rule is the gate's: who makes
//! work moves IDLE → RUNNING on behalf of the thread and wakes it.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread::JoinHandle;

use crate::error::{Error, Result};
use crate::limits::STREAM_MIN;
use crate::process;
use crate::runtime::block::{self, After};
use crate::runtime::kernel::{Driver, Kernel, Phase};
use crate::runtime::{WaitStrategy, log};
use crate::sync::{Arc, Mutex, lock, spin_loop, yield_now};

/// Looks before a thread yields: some tens of microseconds, longer than a message between two cores takes.
const SPINS: u32 = 4096;
/// Yields before it parks.
const YIELDS: u32 = 64;

/// The threads of all persistent kernels of a runtime.
pub(crate) struct Persistent {
    threads: Mutex<Vec<JoinHandle<()>>>,
}

impl Persistent {
    pub(crate) const fn new() -> Self {
        Self { threads: Mutex::new(Vec::new()) }
    }

    /// Starts the threads of a kernel; they wait to be handed their blocks. After a failure the caller
    /// dismisses the kernel.
    pub(crate) fn start(&self, kernel: &Arc<Kernel>) -> Result<()> {
        let mut threads = lock(&self.threads);
        threads.retain(|thread| !thread.is_finished());
        for index in 0..kernel.options.grid_size {
            // Nobody but its thread runs it; until that has left after a few messages it is taken to leave seldom.
            kernel.block(index).gate.become_light();
            let of_thread = Arc::clone(kernel);
            let thread = process::spawn("rk-block", move || live(&of_thread, index)).map_err(|error| {
                let errno = error.raw_os_error().unwrap_or(0);
                Error::System { what: "a thread for a persistent block", errno }
            })?;
            threads.push(thread);
        }
        Ok(())
    }

    /// Ends the threads of a kernel that never ran.
    pub(crate) fn dismiss(kernel: &Kernel) {
        for block in kernel.blocks.iter() {
            block.gate.dismiss();
        }
    }

    /// Joins the threads; every kernel has ended.
    pub(crate) fn join(&self) {
        let threads = std::mem::take(&mut *lock(&self.threads));
        for thread in threads {
            if thread.thread().id() != std::thread::current().id() {
                let _ = thread.join();
            }
        }
    }
}

impl Driver for Persistent {
    fn schedule(&self, kernel: &Kernel, block: u32) {
        kernel.block(block).gate.hand_over();
    }

    fn requeue(&self, kernel: Arc<Kernel>, block: u32) {
        // Its own thread goes on without a queue, so nobody else has run this block; give it back.
        block::leave(&kernel, kernel.block(block));
        self.schedule(&kernel, block);
    }
}

/// The life of a block's thread.
fn live(kernel: &Arc<Kernel>, index: u32) {
    if let Some(cpu) = kernel.options.cpu
        && !process::pin_current_thread(cpu)
    {
        log::write(log::Level::Warn, || format!("kernel {:?} could not be pinned to CPU {cpu}", kernel.id));
    }
    let lived = catch_unwind(AssertUnwindSafe(|| while_handed_over(kernel, index)));
    if lived.is_err() {
        log::write(log::Level::Error, || {
            format!("the library panicked while running kernel {:?}", kernel.id)
        });
    }
}

fn while_handed_over(kernel: &Arc<Kernel>, index: u32) {
    let block = kernel.block(index);
    while block.gate.await_hand_over() {
        block.counters.invocations.bump();
        let before = block.counters.processed.get();
        let is_stream = || block.counters.processed.get() - before >= STREAM_MIN as u64;
        loop {
            match block::turns(kernel, index, None) {
                After::Done => return block::finish(kernel, index),
                After::Requeue => continue,
                After::Idle | After::Waited if watch(kernel, index) => {
                    if is_stream() {
                        block.gate.become_light();
                    }
                    continue;
                }
                After::Idle | After::Waited => {}
            }
            // Who leaves after a few messages does so often: then their fences are cheaper than a system call for each leave.
            if kernel.options.wait != WaitStrategy::Spin && !is_stream() {
                block.gate.become_full();
            }
            block::leave(kernel, block);
            if !(block::has_work(kernel, index) && block.gate.enter_idle()) {
                break;
            }
        }
    }
}

/// Looks for work inside the gate, as long as the strategy says; true: there is some.
fn watch(kernel: &Kernel, index: u32) -> bool {
    let (spins, yields) = match kernel.options.wait {
        WaitStrategy::Spin => (u32::MAX, u32::MAX),
        WaitStrategy::Auto => (SPINS, YIELDS),
        WaitStrategy::Park => (0, 0),
    };
    let mut round = 0;
    loop {
        if block::has_work(kernel, index) {
            return true;
        }
        if Kernel::phase(kernel.control()) == Phase::Rest || round >= spins.saturating_add(yields) {
            return false;
        }
        if round < spins {
            spin_loop();
        } else {
            yield_now();
        }
        if spins != u32::MAX {
            round += 1;
        }
    }
}
