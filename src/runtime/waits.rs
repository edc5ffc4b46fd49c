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

use std::collections::HashMap;

use crate::layout::RK_ANY_BLOCK;
use crate::sync::{Mutex, lock};

/// A kernel's handle and a block of it.
type Place = (u64, u32);

/// See the file's head.
#[derive(Debug, Default)]
pub(crate) struct Waits(Mutex<HashMap<Place, Place>>);

impl Waits {
    /// A block is about to wait for room in another (`RK_ANY_BLOCK`: in any of a kernel); whether that closes a circle.
    pub(crate) fn enter(&self, who: Place, whom: Place) -> bool {
        let mut waits = lock(&self.0);
        waits.insert(who, whom);
        let mut open = vec![whom];
        let mut seen = Vec::new();
        while let Some(place) = open.pop() {
            if place == who || place == (who.0, RK_ANY_BLOCK) {
                return true;
            }
            if seen.contains(&place) {
                continue;
            }
            seen.push(place);
            match place {
                (kernel, RK_ANY_BLOCK) => {
                    let of_kernel = waits.keys().filter(|(waiting, _)| *waiting == kernel);
                    open.extend(of_kernel);
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
}
