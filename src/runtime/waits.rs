//! Which blocks take no input because another kernel has no room for what they keep, and whether they wait in a circle.
//!
//! A block keeps a reply to a kernel whose queue is full and takes no input until it is out: that is how a slow kernel slows
//! those down that ask it. Two kernels that answer each other can come to wait for each other so, with nobody left to
//! make room. So who is about to wait looks whether it would close such a circle; then it does not wait but takes input, which makes
//! the room that the one before it in the circle waits for. What it keeps meanwhile is bounded (`kept.rs`).
//!
//! # Argument: no circle waits
//! The list is behind one lock, and a block enters itself and looks in one step, whenever what it waits for changes. Of the blocks of a
//! circle the last one to enter finds all the others there. It takes input: the one before it is poked, tries again, and leaves the list
//! when it is out. One that is found waiting and has room by now only makes a block take more input than it had to.
//!
//! This is the exceptional path of an overload; a block that keeps nothing for a kernel never comes here.
//!
//! # Handlers that wait for handlers
//! A handler that pauses another kernel, or copies its states, waits until no handler of it runs. Two that do so to each other would wait
//! for ever. They are a list of their own, of all runtimes: a block that waits for room runs no handler, and is in nobody's way here. A
//! handler enters each block whose handler runs on its thread ([`wait_for_handlers`]) before it asks for anything, and leaves before what it has
//! asked for is over: so whoever is in the list stands in the way of who waits for its kernel.

use std::collections::{BTreeMap, HashSet};

use super::context;
use super::kernel::Kernel;
use crate::error::{Error, Result};
use crate::layout::RK_ANY_BLOCK;
use crate::sync::{Arc, Mutex, lock};

/// A kernel's handle and a block of it.
type Place = (u64, u32);

/// See the file's head.
#[derive(Debug, Default)]
pub(crate) struct Waits(Mutex<BTreeMap<Place, Place>>);

/// Blocks whose handlers wait for handlers.
static HANDLERS: Waits = Waits(Mutex::new(BTreeMap::new()));

/// The handlers of this thread wait for those of a kernel, as long as this lives.
#[derive(Debug)]
pub(crate) struct Waiting(Vec<Place>);

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.iter().for_each(|place| HANDLERS.leave(*place));
    }
}

/// Before a call waits until no handler of a kernel runs: an error if a handler of this thread is in the way of that.
pub(crate) fn wait_for_handlers(kernel: &Kernel, verb: &'static str) -> Result<Waiting> {
    let mut waiting = Waiting(Vec::new());
    for place in context::places() {
        waiting.0.push(place);
        if place.0 == kernel.handle || HANDLERS.enter(place, (kernel.handle, RK_ANY_BLOCK)) {
            return Err(Error::WouldDeadlock { verb, target: Arc::clone(&kernel.id) });
        }
    }
    Ok(waiting)
}

impl Waits {
    /// A block is about to wait for room in another (`RK_ANY_BLOCK`: in any of a kernel); whether that closes a circle.
    pub(crate) fn enter(&self, who: Place, whom: Place) -> bool {
        let mut waits = lock(&self.0);
        waits.insert(who, whom);
        let mut open = vec![whom];
        let mut seen = HashSet::new();
        while let Some(place) = open.pop() {
            if place == who || place == (who.0, RK_ANY_BLOCK) {
                return true;
            }
            if !seen.insert(place) {
                continue;
            }
            match place {
                (kernel, RK_ANY_BLOCK) => {
                    let of_kernel = waits.range((kernel, 0)..(kernel, RK_ANY_BLOCK));
                    open.extend(of_kernel.map(|(waiting, _)| *waiting));
                }
                place => open.extend(waits.get(&place)),
            }
        }
        false
    }

    /// It no longer waits.
    pub(crate) fn leave(&self, who: Place) {
        lock(&self.0).remove(&who);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_of_a_circle_is_told_and_a_chain_is_none() {
        let waits = Waits::default();
        assert!(!waits.enter((1, 0), (2, 0)));
        assert!(!waits.enter((2, 0), (3, 0)));
        assert!(!waits.enter((4, 0), (1, 0)));
        assert!(waits.enter((3, 0), (1, 0)));
        // Still, as long as the others wait.
        assert!(waits.enter((3, 0), (1, 0)));
        waits.leave((2, 0));
        assert!(!waits.enter((3, 0), (1, 0)));
        // Who joins a circle that is not its own is not part of it.
        assert!(waits.enter((2, 0), (3, 0)));
        assert!(!waits.enter((5, 0), (1, 0)));
    }

    #[test]
    fn any_block_of_a_kernel_leads_to_all_that_wait() {
        let waits = Waits::default();
        assert!(!waits.enter((1, 0), (2, RK_ANY_BLOCK)));
        assert!(!waits.enter((2, 1), (3, 0)));
        assert!(waits.enter((2, 3), (1, 0)));
        assert!(waits.enter((3, 0), (1, RK_ANY_BLOCK)));
        assert!(!Waits::default().enter((1, 0), (2, RK_ANY_BLOCK)));
        assert!(Waits::default().enter((1, 0), (1, RK_ANY_BLOCK)));
    }

    #[test]
    fn a_long_chain_is_followed_in_no_more_than_its_length() {
        let waits = Waits::default();
        let length = 50_000;
        // Each waits for any block of the next, of which two wait: entered from the end, so that each look is short.
        for kernel in (0..length).rev() {
            assert!(!waits.enter((kernel, 1), (length + 1, 0)));
            lock(&waits.0).insert((kernel, 0), (kernel + 1, RK_ANY_BLOCK));
        }
        let begun = std::time::Instant::now();
        assert!(waits.enter((length, 0), (0, RK_ANY_BLOCK)));
        // By looks at all for each it would be minutes.
        assert!(begun.elapsed().as_secs() < 10);
    }
}
