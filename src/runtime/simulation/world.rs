//! What a simulation shares with the handlers that it runs: its random numbers, its time, and an account of every message.

use std::cell::RefCell;
use std::collections::HashMap;

use super::Canary;
use crate::runtime::kernel::Kernel;
use crate::sync::{Arc, Weak};

/// Numbers that a seed gives (Vigna's splitmix64).
pub(super) struct Random(pub(super) u64);

impl Random {
    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub(super) fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }
}

/// How often a message was accepted, and how often it came to an end.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub(super) struct Account {
    pub(super) accepted: u32,
    pub(super) ended: u32,
}

/// What everybody on the test's thread shares.
pub(super) struct World {
    pub(super) random: Random,
    pub(super) canary: Canary,
    pub(super) now_ns: u64,
    pub(super) runnable: Vec<(Arc<Kernel>, u32)>,
    pub(super) timers: Vec<(u64, Weak<Kernel>, u32)>,
    pub(super) accounts: Vec<Account>,
    /// Messages that are calls, and how often they were replied to.
    pub(super) calls: HashMap<u64, u32>,
    pub(super) started: HashMap<(u64, u32), bool>,
    pub(super) wrong: Option<String>,
    /// Of all that happened, in order.
    pub(super) trace: u64,
}

thread_local! {
    pub(super) static WORLD: RefCell<Option<World>> = const { RefCell::new(None) };
}

pub(super) fn world<R>(body: impl FnOnce(&mut World) -> R) -> R {
    WORLD.with(|world| body(world.borrow_mut().as_mut().expect("a simulation runs")))
}

pub(super) fn below(limit: u64) -> u64 {
    world(|world| world.random.below(limit))
}

impl World {
    pub(super) fn note(&mut self, what: u64) {
        self.trace = (self.trace ^ what).wrapping_mul(0x0100_0000_01b3);
    }

    pub(super) fn new_number(&mut self) -> u64 {
        self.accounts.push(Account::default());
        self.accounts.len() as u64 - 1
    }

    pub(super) fn accept(&mut self, number: u64) {
        self.note(number << 8 | 1);
        self.accounts[number as usize].accepted += 1;
    }

    pub(super) fn end(&mut self, number: u64, how: u64) {
        self.note(number << 8 | how);
        self.accounts[number as usize].ended += 1;
        let account = self.accounts[number as usize];
        if account.ended > account.accepted {
            self.wrong(format!(
                "message {number} came to an end more often than it was accepted: {account:?}"
            ));
        }
    }

    pub(super) fn wrong(&mut self, what: String) {
        self.wrong.get_or_insert(what);
    }
}
