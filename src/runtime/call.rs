//! One call's place: where the caller waits and the reply is put.
//!
//! # States
//! The state word is generation (56 bits) and phase (8 bits); a token names a place and its generation.
//! ```text
//!          begin          complete            stored               taken
//!   FREE ────────► WAITING ───────► FILLING ───────► DONE ──────────────► VIEWED ──► FREE, generation + 1
//!                    │  ▲ sleep        ▲               └─ a status only ─────────────► FREE, generation + 1
//!                    ▼  │ woken        │
//!                  SLEEPING ───────► FILLING_SLEEPER
//!                    │
//!                    └─ abandon (from WAITING) ──────────────────────────────────────► FREE, generation + 1
//! ```
//! A call that nobody waits for is AWAITED instead of WAITING from before it is sent; FILLING_AWAITED is its FILLING, and who has
//! completed it tells an operation (`events.rs`) after DONE is stored.
//!
//! # Argument
//! * The caller takes a free place and moves it to WAITING before it sends: the waiter exists before the send.
//! * Exactly one completer wins the compare-and-swap to FILLING; it alone writes the reply; DONE is stored with
//!   Release (C1) and read with Acquire (C2). A second reply, or one with an old generation, loses.
//! * The caller that runs out of time moves WAITING to the next generation: from then on no token names it,
//!   so a late reply is recognised and dropped, and nothing is kept for it. If a completer is at work the
//!   caller waits for that copy to end and has its reply.
//! * No wake-up is lost: the caller sleeps on the state word and only in SLEEPING, the completer leaves
//!   SLEEPING by a compare-and-swap on the same word and wakes after it has stored DONE; the system compares
//!   the word again before it lets the caller sleep.
#![allow(unsafe_code)]

use crate::sync::{Futex64, Guarded, Label, Ordering, order, spin_loop};

const FREE: u64 = 0;
const WAITING: u64 = 1;
const SLEEPING: u64 = 2;
const FILLING: u64 = 3;
const FILLING_SLEEPER: u64 = 4;
const DONE: u64 = 5;
const VIEWED: u64 = 6;
const AWAITED: u64 = 7;
const FILLING_AWAITED: u64 = 8;

/// What has become of a completion.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Completed {
    /// This generation has a reply already, or its caller is gone.
    TooLate,
    Done,
    /// Done, and an operation is to be told.
    Tell,
}

/// See the file's head. Generations are 40 bits, because a token has 40 for it.
#[derive(Debug)]
#[repr(C, align(128))]
pub(crate) struct CallPlace<T> {
    state: Futex64,
    reply: Guarded<T>,
}

fn word(generation: u64, phase: u64) -> u64 {
    (generation << 8) | phase
}

fn next_generation(generation: u64) -> u64 {
    (generation + 1) & ((1 << 40) - 1)
}

impl<T> CallPlace<T> {
    pub(crate) fn new(empty: T) -> Self {
        Self { state: Futex64::new(word(1, FREE)), reply: Guarded::new(empty) }
    }

    /// FREE → WAITING, by the thread that took the place from the pool. Returns the generation.
    pub(crate) fn begin(&self) -> u64 {
        let generation = self.state.load(Ordering::Relaxed) >> 8;
        self.state.store(word(generation, WAITING), Ordering::Relaxed);
        generation
    }

    /// WAITING → AWAITED, by the caller, before the token goes anywhere.
    pub(crate) fn be_awaited(&self, generation: u64) {
        self.state.store(word(generation, AWAITED), Ordering::Relaxed);
    }

    /// Gives the call its reply.
    #[inline]
    pub(crate) fn complete(&self, generation: u64, fill: impl FnOnce(&mut T)) -> Completed {
        let mut phase = WAITING;
        loop {
            let to = match phase {
                WAITING => FILLING,
                SLEEPING => FILLING_SLEEPER,
                _ => FILLING_AWAITED,
            };
            let (from, to) = (word(generation, phase), word(generation, to));
            match self.state.compare_exchange(from, to, Ordering::Acquire, Ordering::Relaxed) {
                Ok(_) => break,
                Err(seen) if seen == word(generation, SLEEPING) => phase = SLEEPING,
                Err(seen) if seen == word(generation, WAITING) => phase = WAITING,
                Err(seen) if seen == word(generation, AWAITED) => phase = AWAITED,
                Err(_) => return Completed::TooLate,
            }
        }
        // SAFETY: FILLING is held by one completer, and the caller does not look before DONE.
        self.reply.with_mut(|reply| fill(unsafe { &mut *reply }));
        self.state.store(word(generation, DONE), order(Label::C1, Ordering::Release));
        match phase {
            SLEEPING => self.state.wake(1),
            AWAITED => return Completed::Tell,
            _ => {}
        }
        Completed::Done
    }

    /// Whether the reply is there, for the caller.
    pub(crate) fn is_done(&self, generation: u64) -> bool {
        self.state.load(order(Label::C2, Ordering::Acquire)) == word(generation, DONE)
    }

    /// Whether a reply would still be taken.
    pub(crate) fn is_open(&self, generation: u64) -> bool {
        matches!(self.state.load(Ordering::Relaxed), state
            if [WAITING, SLEEPING, AWAITED].contains(&(state & 0xff)) && state >> 8 == generation)
    }

    /// Sleeps until the reply is there; false once the deadline has passed.
    pub(crate) fn sleep(&self, generation: u64, deadline_ns: u64) -> bool {
        let (waiting, sleeping) = (word(generation, WAITING), word(generation, SLEEPING));
        loop {
            if self.is_done(generation) {
                return true;
            }
            let state = self.state.load(Ordering::Relaxed);
            if state == waiting {
                let _ = self.state.compare_exchange(waiting, sleeping, Ordering::Relaxed, Ordering::Relaxed);
            } else if state == sleeping {
                if !self.state.wait(sleeping, deadline_ns) {
                    // Awake again: what `abandon` expects, unless a completer came first.
                    let _ =
                        self.state.compare_exchange(sleeping, waiting, Ordering::Relaxed, Ordering::Relaxed);
                    return self.is_done(generation);
                }
            } else {
                // A completer copies the reply.
                spin_loop();
            }
        }
    }

    /// The caller gives up; false: a reply came first, and is there now.
    pub(crate) fn abandon(&self, generation: u64) -> bool {
        let gone = word(next_generation(generation), FREE);
        let leave = |phase: u64| {
            let from = word(generation, phase);
            self.state.compare_exchange(from, gone, Ordering::Relaxed, Ordering::Relaxed).is_ok()
        };
        if leave(WAITING) || leave(AWAITED) {
            return true;
        }
        while !self.is_done(generation) {
            spin_loop();
        }
        false
    }

    /// Reads the reply, by the caller that saw DONE, or who holds the view.
    #[inline]
    pub(crate) fn reply<R>(&self, read: impl FnOnce(&T) -> R) -> R {
        // SAFETY: after DONE nobody writes until the place is freed, and freeing is the reader's to do.
        self.reply.with(|reply| read(unsafe { &*reply }))
    }

    /// DONE → VIEWED: the application holds the reply.
    pub(crate) fn view(&self, generation: u64) {
        self.state.store(word(generation, VIEWED), Ordering::Relaxed);
    }

    /// VIEWED → FREE; false when this generation is not viewed (any more).
    pub(crate) fn end_view(&self, generation: u64) -> bool {
        let gone = word(next_generation(generation), FREE);
        self.state
            .compare_exchange(word(generation, VIEWED), gone, Ordering::AcqRel, Ordering::Relaxed)
            .is_ok()
    }

    /// DONE → FREE, by the caller, when there is nothing to view.
    pub(crate) fn end(&self, generation: u64) {
        self.state.store(word(next_generation(generation), FREE), Ordering::Release);
    }
}
