//! Output that found no room, and how a block waits for room.
//!
//! # Stalled
//! Such output is kept, in order, and the block takes no input until it is out (messages
//! for this same block excepted: only taking input can make room for them). The block marks itself stalled,
//! passes a heavy fence and tries once more before it leaves; who releases a slot passes the light fence and
//! looks for stalled blocks. One of the two sees the other.
//!
//! Of kernels that wait for each other in a circle one takes input all the same (`waits.rs`), and so does a block that keeps something
//! for itself, as long as there is some. Beyond [`KEPT_MESSAGES_MAX`] the oldest becomes a dead letter.
//!
//! Messages to kernels from a block elsewhere that find no room are *posted* instead: they wait for room in the same way (of each
//! target, in order) and the block goes on, for its sender has credit for no more than the target's queue has places.
//! They are out, or dead letters, before the block ends.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;

use super::block::{Turn, end_letter};
use super::buffer::Buffer;
use super::context;
use super::dead::Letter;
use super::kernel::{HARD, OVERDUE};
use super::supervise::{CIRCLE, KEEPS};
use crate::layout::{RK_ANY_BLOCK, RK_DEAD_OVERFLOW, RK_ERR_FULL};
use crate::limits::KEPT_MESSAGES_MAX;
use crate::ring::Ring;
use crate::sync::{Label, Ordering, heavy_fence};

/// Output that found no room.
#[derive(Debug)]
pub(crate) struct Kept {
    /// The kernel it is for; 0 = the host.
    pub(crate) target: u64,
    /// The block of that kernel.
    pub(crate) block: u32,
    pub(crate) deadline_ns: u64,
    pub(crate) header: crate::ring::Header,
    pub(crate) payload: Buffer,
}

/// How a block waits for room in another kernel; the runner's.
#[derive(Debug, Default)]
pub(super) struct Room {
    /// It stands in the list of those that wait.
    is_listed: Cell<bool>,
    /// Its waiting would close a circle.
    is_circle: Cell<bool>,
}

impl Turn<'_> {
    /// Puts out what was kept; false: the block is stalled and takes no input.
    #[inline(always)]
    pub(super) fn put_out_kept(&self, control: u32) -> bool {
        let block = self.block;
        let is_plain = !block.poked.load(Ordering::Relaxed)
            && !block.stalled.load(Ordering::Relaxed)
            && block.held.load(Ordering::Relaxed) == 0
            && !self.body.has_kept();
        is_plain || self.put_out_what_is_kept(control)
    }

    #[inline(never)]
    fn put_out_what_is_kept(&self, control: u32) -> bool {
        if self.block.poked.load(Ordering::Relaxed) {
            self.block.poked.swap(false, Ordering::SeqCst);
        }
        if self.block.stalled.load(Ordering::Relaxed) {
            self.block.stalled.store(false, Ordering::SeqCst);
            self.kernel.stalled.fetch_sub(1, Ordering::Relaxed);
        }
        let is_at_work = self.supervise(control);
        let full = !self.put_out() && {
            if control & HARD != 0 {
                self.drop_kept(control, &self.body.extra().kept);
            } else {
                self.stall();
            }
            !self.put_out()
        };
        if !full {
            self.wait_no_more();
        }
        let takes_input = !full || !self.is_stuck();
        if full && takes_input {
            self.bound_kept();
        }
        self.block.hold(KEEPS, !takes_input);
        takes_input && is_at_work
    }

    /// Whether something waits for room that the block does not make by taking input.
    pub(super) fn is_stuck(&self) -> bool {
        let here = |block: u32| block == self.index || block == RK_ANY_BLOCK;
        let own = |kept: &Kept| kept.target == self.kernel.handle && here(kept.block);
        let waits = || self.body.extra().kept.borrow().front().is_some_and(|kept| !own(kept));
        self.body.has_kept() && waits() && !self.breaks_a_circle()
    }

    /// Whether its waiting would close a circle, and there is input to take instead.
    fn breaks_a_circle(&self) -> bool {
        self.body.extra().room.is_circle.get() && self.block.input.get().is_some_and(Ring::is_readable)
    }

    /// It waits for room in no kernel, or in another than before.
    fn wait_no_more(&self) {
        let Some(room) = self.body.extra.get().map(|extra| &extra.room) else { return };
        if room.is_listed.replace(false) {
            room.is_circle.set(false);
            self.block.hold(CIRCLE, false);
            self.kernel.core.waits.leave((self.kernel.handle, self.index));
        }
    }

    /// Of a block that takes input while it keeps something: what is too much becomes dead letters, the oldest for a kernel first.
    fn bound_kept(&self) {
        loop {
            let oldest = {
                let mut kept = self.body.extra().kept.borrow_mut();
                let is_much = kept.len() > KEPT_MESSAGES_MAX;
                let first = if is_much { kept.iter().position(|kept| kept.target != 0) } else { None };
                first.and_then(|at| kept.remove(at))
            };
            let Some(oldest) = oldest else { return };
            let letter = Letter {
                kernel: oldest.target,
                block: oldest.block,
                deadline_ns: oldest.deadline_ns,
                header: oldest.header,
                reason: RK_DEAD_OVERFLOW,
                status: RK_ERR_FULL,
            };
            self.kernel.dead_letter(letter, oldest.payload.bytes(), 0);
        }
    }

    /// Marks the block where those look who make room, and passes the fence.
    fn stall(&self) {
        let extra = self.body.extra();
        let (target, block) = extra.kept.borrow().front().map_or((0, 0), |kept| (kept.target, kept.block));
        if target == 0 {
            self.wait_no_more();
            self.block.stalled.store(true, Ordering::SeqCst);
            self.kernel.stalled.fetch_add(1, Ordering::SeqCst);
        } else {
            context::wait_for_room(target, self.kernel, self.index);
            let whom = (target, block);
            let is_circle = self.kernel.core.waits.enter((self.kernel.handle, self.index), whom);
            extra.room.is_circle.set(is_circle);
            self.block.hold(CIRCLE, is_circle);
            extra.room.is_listed.set(true);
        }
        heavy_fence(Label::E2);
    }

    /// Puts out as much as there is room for; true when nothing is left.
    fn put_out(&self) -> bool {
        if !self.body.has_kept() {
            return true;
        }
        let mut kept = self.body.extra().kept.borrow_mut();
        while let Some(first) = kept.front() {
            if !context::put_out(self.kernel, self.index, first) {
                return false;
            }
            kept.pop_front();
        }
        true
    }

    /// Puts out what was posted, in the order of each target; false: some is left, and this block is poked when there is room.
    pub(super) fn put_out_posted(&self, control: u32) -> bool {
        if self.body.posted() == 0 {
            return true;
        }
        if control & HARD != 0 {
            self.drop_kept(control, &self.body.extra().posted);
            return true;
        }
        let blocked = self.try_posted();
        if blocked.is_empty() {
            return true;
        }
        blocked.iter().for_each(|target| context::wait_for_room(*target, self.kernel, self.index));
        heavy_fence(Label::E2);
        let is_out = self.try_posted().is_empty();
        if !is_out {
            self.block.hold(KEEPS, true);
        }
        is_out
    }

    /// The targets that have no room.
    fn try_posted(&self) -> Vec<u64> {
        // What was kept for a target goes first.
        let extra = self.body.extra();
        let mut blocked: Vec<u64> = extra.kept.borrow().iter().map(|kept| kept.target).collect();
        let mut left = Vec::new();
        extra.posted.borrow_mut().retain(|posted| {
            let stays =
                blocked.contains(&posted.target) || !context::put_out(self.kernel, self.index, posted);
            if stays && !left.contains(&posted.target) {
                left.push(posted.target);
                blocked.push(posted.target);
            }
            stays
        });
        left
    }

    /// Turns what was kept into dead letters.
    fn drop_kept(&self, control: u32, list: &RefCell<VecDeque<Kept>>) {
        let kept = std::mem::take(&mut *list.borrow_mut());
        for kept in kept {
            let letter = Letter {
                kernel: self.kernel.handle,
                block: self.index,
                deadline_ns: kept.deadline_ns,
                header: kept.header,
                ..end_letter(self.kernel, control)
            };
            self.count_if(control & OVERDUE != 0);
            self.kernel.dead_letter(letter, kept.payload.bytes(), 0);
        }
    }
}
