//! Checkpoints: the states of all blocks of a kernel at one point in time, as bytes, and back.
//!
//! # The bytes
//! Little-endian, the same for every backend:
//! ```text
//! 0    8     "RKCHKPT" and a zero
//! 8    4     version, 1
//! 12   4     grid_size
//! 16   8     state_size, of each block
//! 24   8     bytes in all
//! 32   32    zero
//! 64   128   name of the program, then zeros
//! 192  ...   the states, block by block
//! last 8     CRC-64/XZ of everything before: finds every change that fits 64 bits in a row, and any other but for one in 2^64
//! ```
//! They are made for a kernel of the same program, grid and state size, whatever its id, mode and backend.
//!
//! # Argument: one cut
//! 1. Under the verbs lock HELD is set, which is Rest to every runner: the kernel's state stays what it is for everybody else,
//!    messages queue. One at a time: who finds it set waits.
//! 2. Wait until no handler runs, as `rk_deactivate` does (the argument is the gate's, G5 and G6; for a device that of its protocol).
//!    From then on none does while HELD is set: there is a time at which all blocks stand between two messages.
//! 3. Under the verbs lock: the state still accepts messages? Then HELD is still set, because only who set it and an end take it
//!    away, and nobody can before the lock is given back: copy. The gate's word (G1, or the device's answer) makes what handlers wrote visible here.
//! 4. HELD is taken away and the blocks are scheduled. A runner reads the control word that says so before it handles a message, and
//!    with that sees what a restore wrote (release and acquire of the word).
//!
//! An end that comes between 1 and 3 goes on at once, and the checkpoint says what it found; one that comes during 3 waits for the
//! copy, which is as long as the states are large. So a drain handles its messages with all states restored, or none. Activating and deactivating in between
//! keep HELD. A device that gives no answer in 3 has failed.
//!
//! # What is kept
//! The last checkpoint, or what was restored last, stays with the kernel: a block that is restarted begins with its part of it
//! ([`reset_state`]; of a device it is laid out for it): a restore is that for all blocks at once. A kernel that was never asked has nothing of it.
#![allow(unsafe_code)]

use super::blocking;
use super::handle::KernelHandle;
use super::kernel::{HELD, Kernel};
use super::supervise::{FAILED, RESTING};
use super::waits;
use crate::error::{Error, Result};
use crate::layout::RK_ERR_DEVICE;
use crate::sync::{Arc, lock};

const MAGIC: [u8; 8] = *b"RKCHKPT\0";
const VERSION: u32 = 1;
/// Bytes before the states, and after.
const HEADER: usize = 192;
const CHECKSUM: usize = 8;
const NAME: usize = 64;

/// All of a checkpoint but its checksum.
#[derive(Debug)]
pub struct Checkpoint {
    bytes: Vec<u8>,
    state_size: usize,
}

impl Checkpoint {
    /// All but the checksum.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// What comes after them.
    pub fn checksum(&self) -> [u8; CHECKSUM] {
        checksum(&self.bytes)
    }

    /// The states, one after the other.
    pub(crate) fn states(&self) -> &[u8] {
        &self.bytes[HEADER..]
    }

    /// The state of a block.
    pub(crate) fn state(&self, index: u32) -> &[u8] {
        &self.states()[index as usize * self.state_size..][..self.state_size]
    }
}

fn checksum(bytes: &[u8]) -> [u8; CHECKSUM] {
    let mut digest = crc64fast::Digest::new();
    digest.write(bytes);
    digest.sum64().to_le_bytes()
}

/// A kernel whose blocks take no messages; dropped, they go on.
struct Hold<'a>(&'a Kernel);

impl<'a> Hold<'a> {
    fn begin(kernel: &'a Kernel) -> Result<Self> {
        let begun = blocking::wait(&kernel.lifecycle, u64::MAX, || {
            let verbs = lock(&kernel.verbs);
            if let Err(ended) = kernel.check_accepts() {
                return Some(Err(ended));
            }
            let control = kernel.control();
            (control & HELD == 0).then(|| {
                kernel.command(&verbs, control | HELD);
                Ok(())
            })
        });
        begun.unwrap_or(Ok(())).map(|()| Self(kernel))
    }

    /// Does something while no handler runs, under the verbs lock; an error if the kernel has come to its end before.
    fn when_quiet<R>(&self, copy: impl FnOnce() -> Result<R>) -> Result<R> {
        let kernel = self.0;
        let mut copy = Some(copy);
        let copied = blocking::wait(&kernel.lifecycle, u64::MAX, || {
            let is_quiet = kernel.is_quiet();
            if !is_quiet && kernel.state().accepts() {
                return None;
            }
            let _verbs = lock(&kernel.verbs);
            match kernel.check_accepts() {
                Err(ended) => Some(Err(ended)),
                Ok(()) if is_quiet => copy.take().map(|copy| copy()),
                Ok(()) => None,
            }
        });
        let copied = copied.unwrap_or(Err(Error::Internal { what: "a wait without a limit came to an end" }));
        if matches!(copied, Err(Error::NoAnswer { .. })) {
            // Some blocks may have done it and others not, and nothing more is to be had from them.
            kernel.fail(RK_ERR_DEVICE);
        }
        copied
    }
}

impl Drop for Hold<'_> {
    fn drop(&mut self) {
        let kernel = self.0;
        {
            let verbs = lock(&kernel.verbs);
            if kernel.control() & HELD != 0 {
                kernel.command(&verbs, kernel.control() & !HELD);
            }
        }
        kernel.lifecycle.notify_all();
        kernel.schedule_all();
        // A block that failed in the meantime has waited with what is to be done about it.
        let waits = |index: &u32| kernel.block(*index).holds(FAILED | RESTING);
        (0..kernel.options.grid_size).filter(waits).for_each(|index| kernel.poke(index));
    }
}

impl KernelHandle {
    /// Bytes of a checkpoint of this kernel; nothing waits for it.
    pub fn checkpoint_size(self) -> Result<usize> {
        let kernel = self.get_from_outside("rk_checkpoint")?;
        kernel.check_accepts()?;
        size_of_all(&kernel)
    }

    /// `rk_checkpoint`.
    pub fn checkpoint(self) -> Result<Arc<Checkpoint>> {
        let kernel = self.get_from_outside("rk_checkpoint")?;
        kernel.check_accepts()?;
        let mut bytes = zeroed(size_of_all(&kernel)? - CHECKSUM)?;
        bytes[..HEADER].copy_from_slice(&header(&kernel)?);
        kernel.driver.prepare_copy(&kernel)?;
        let waiting = waits::wait_for_handlers(&kernel, "rk_checkpoint")?;
        let hold = Hold::begin(&kernel)?;
        let (made, before) = hold.when_quiet(|| {
            kernel.driver.save_states(&kernel, &mut bytes[HEADER..])?;
            let made =
                Arc::new(Checkpoint { bytes: std::mem::take(&mut bytes), state_size: kernel.state_size });
            let before = lock(&kernel.extra().checkpoint).replace(Arc::clone(&made));
            Ok((made, before))
        })?;
        drop(waiting);
        drop(hold);
        drop(before);
        Ok(made)
    }

    /// `rk_restore`.
    pub fn restore(self, given: &[u8]) -> Result<()> {
        let kernel = self.get_from_outside("rk_restore")?;
        kernel.check_accepts()?;
        let checkpoint = Arc::new(checked(&kernel, given)?);
        kernel.driver.prepare_copy(&kernel)?;
        let waiting = waits::wait_for_handlers(&kernel, "rk_restore")?;
        let hold = Hold::begin(&kernel)?;
        let before = hold.when_quiet(|| {
            let before = lock(&kernel.extra().checkpoint).replace(checkpoint);
            match kernel.driver.load_states(&kernel) {
                Ok(()) => Ok(before),
                Err(error) => {
                    *lock(&kernel.extra().checkpoint) = before;
                    kernel.driver.stage_states(&kernel);
                    Err(error)
                }
            }
        })?;
        drop(waiting);
        drop(hold);
        drop(before);
        Ok(())
    }
}

/// Bytes of a checkpoint, all of it.
fn size_of_all(kernel: &Kernel) -> Result<usize> {
    let states = kernel.state_size.checked_mul(kernel.options.grid_size as usize);
    let all = states.and_then(|states| states.checked_add(HEADER + CHECKSUM));
    all.ok_or(Error::OutOfMemory { what: "a checkpoint", bytes: usize::MAX })
}

fn zeroed(size: usize) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    bytes.try_reserve_exact(size).map_err(|_| Error::OutOfMemory { what: "a checkpoint", bytes: size })?;
    bytes.resize(size, 0);
    Ok(bytes)
}

/// What a checkpoint of this kernel begins with.
fn header(kernel: &Kernel) -> Result<[u8; HEADER]> {
    let mut header = [0; HEADER];
    let mut put = |at: usize, bytes: &[u8]| header[at..][..bytes.len()].copy_from_slice(bytes);
    put(0, &MAGIC);
    put(8, &VERSION.to_le_bytes());
    put(12, &kernel.options.grid_size.to_le_bytes());
    put(16, &(kernel.state_size as u64).to_le_bytes());
    put(24, &(size_of_all(kernel)? as u64).to_le_bytes());
    let program = lock(&kernel.program);
    // The last step of an end takes it.
    let program = program.as_ref().ok_or_else(|| kernel.ended_error())?;
    put(NAME, program.name.as_bytes());
    Ok(header)
}

/// A copy of the caller's bytes, if they are a checkpoint for this kernel, whole and unchanged.
fn checked(kernel: &Kernel, given: &[u8]) -> Result<Checkpoint> {
    let refuse = |what, found: String, expected: String| {
        let (found, expected) = (found.into(), expected.into());
        Err(Error::BadCheckpoint { kernel: Arc::clone(&kernel.id), what, found, expected })
    };
    let expected = header(kernel)?;
    let Some((found, _)) = given.split_first_chunk::<HEADER>() else {
        return refuse("its size", given.len().to_string(), format!("at least {}", HEADER + CHECKSUM));
    };
    if found[..8] != MAGIC {
        return refuse("its beginning", format!("{:?}", &found[..8]), format!("{MAGIC:?}"));
    }
    let number = |from: &[u8; HEADER], at: usize, size: usize| {
        from[at..][..size].iter().rev().fold(0u64, |number, byte| number << 8 | u64::from(*byte))
    };
    for (what, at, size) in
        [("its version", 8, 4), ("its grid_size", 12, 4), ("its state_size", 16, 8), ("its size", 24, 8)]
    {
        let (found, expected) = (number(found, at, size), number(&expected, at, size));
        if found != expected {
            return refuse(what, found.to_string(), expected.to_string());
        }
    }
    if given.len() as u64 != number(&expected, 24, 8) {
        return refuse("the size given", given.len().to_string(), number(&expected, 24, 8).to_string());
    }
    if found[NAME..] != expected[NAME..] {
        let name =
            |from: &[u8; HEADER]| String::from_utf8_lossy(&from[NAME..]).trim_end_matches('\0').to_owned();
        return refuse("its program", name(found), name(&expected));
    }
    // A copy before the last look: it is the application's memory.
    let mut bytes = zeroed(given.len())?;
    bytes.copy_from_slice(given);
    let end = bytes.len() - CHECKSUM;
    let (made, stands) = (checksum(&bytes[..end]), &bytes[end..]);
    if stands != made || bytes[..HEADER] != expected {
        let hex = |sum: &[u8]| sum.iter().rev().map(|byte| format!("{byte:02x}")).collect();
        return refuse("its checksum", hex(stands), hex(&made));
    }
    bytes.truncate(end);
    Ok(Checkpoint { bytes, state_size: kernel.state_size })
}

/// [`super::kernel::Driver::save_states`] of blocks of this process.
pub(crate) fn save_here(kernel: &Kernel, states: &mut [u8]) {
    if kernel.state_size == 0 {
        return;
    }
    for (index, state) in (0u32..).zip(states.chunks_exact_mut(kernel.state_size)) {
        let block = kernel.block(index);
        if block.holds(FAILED) {
            // What a handler left that failed is not to be trusted: the block's state is the one that it will begin anew with.
            match last(kernel) {
                Some(last) => state.copy_from_slice(last.state(index)),
                None => state.fill(0),
            }
            continue;
        }
        // SAFETY: a state has so many bytes, and the caller knows that no handler uses it.
        unsafe { std::ptr::copy_nonoverlapping(block.state(), state.as_mut_ptr(), state.len()) }
    }
}

/// What was checkpointed or restored last.
pub(crate) fn last(kernel: &Kernel) -> Option<Arc<Checkpoint>> {
    // Not made for the question.
    kernel.known_extra().and_then(|extra| lock(&extra.checkpoint).clone())
}

/// Gives a block of this process the state that it has in the last checkpoint or restore, or zeros if there was none. No handler of
/// the block runs.
pub(crate) fn reset_state(kernel: &Kernel, index: u32) {
    let size = kernel.state_size;
    if size == 0 {
        return;
    }
    let state = kernel.block(index).state();
    // SAFETY: a state has so many bytes, and the caller knows that no handler uses it.
    unsafe {
        match last(kernel) {
            Some(last) => std::ptr::copy_nonoverlapping(last.state(index).as_ptr(), state, size),
            None => state.write_bytes(0, size),
        }
    }
}
