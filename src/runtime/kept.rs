//! Output that found no room, and how a block waits for room.
//!
//! # Stalled
//! Such output is kept, in order, and the block takes no input until it is out (messages
//! for this same block excepted: only taking input can make room for them). The block marks itself stalled,
//! passes a heavy fence and tries once more before it leaves; who releases a slot passes the light fence and
//! looks for stalled blocks. One of the two sees the other.
//!
//! Messages to kernels from a block elsewhere that find no room are *posted* instead: they wait for room in the same way (of each
//! target, in order) and the block goes on, for its sender has credit for no more than the target's queue has places.
//! They are out, or dead letters, before the block ends.

use std::cell::RefCell;
use std::collections::VecDeque;

use super::block::{Turn, end_letter};
use super::buffer::Buffer;
use super::context;
use super::dead::Letter;
use super::kernel::{HARD, OVERDUE};
use super::supervise::KEEPS;
use crate::layout::RK_ANY_BLOCK;
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
        let takes_input = !full || !self.is_stuck();
        self.block.hold(KEEPS, !takes_input);
        takes_input && is_at_work
    }

    /// Whether something waits for room that the block does not make by taking input.
    pub(super) fn is_stuck(&self) -> bool {
        let here = |block: u32| block == self.index || block == RK_ANY_BLOCK;
        let own = |kept: &Kept| kept.target == self.kernel.handle && here(kept.block);
        self.body.has_kept() && self.body.extra().kept.borrow().front().is_some_and(|kept| !own(kept))
    }

    /// Marks the block where those look who make room, and passes the fence.
    fn stall(&self) {
        let target = self.body.extra().kept.borrow().front().map_or(0, |kept| kept.target);
        if target == 0 {
            self.block.stalled.store(true, Ordering::SeqCst);
            self.kernel.stalled.fetch_add(1, Ordering::SeqCst);
        } else {
            context::wait_for_room(target, self.kernel, self.index);
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
