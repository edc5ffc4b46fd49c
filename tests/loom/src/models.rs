//! The models. Names say what must hold.

use loom::thread;

use crate::call::{CallPlace, Completed};
use crate::check::check;
use crate::gate::Gate;
use crate::hazard::{Domain, Retired};
use crate::ring::{Claim, ClaimError, EventCount, Header, Ring, Slots};
use crate::sync::{Arc, AtomicPtr, AtomicU32, Guarded, Label, Ordering, fence_after_rmw, yield_now};

fn send(ring: &Ring, sender: u64, number: u64) {
    loop {
        match ring.claim_batch(1) {
            Ok(mut claim) => {
                let header = Header { source: sender, correlation: number, ..Header::default() };
                return claim.publish(&header, &[], 0, 0);
            }
            Err(ClaimError::Full) => yield_now(),
            Err(ClaimError::Parked) => _ = ring.unpark(Some(Slots)).expect("nobody closes this ring"),
            Err(ClaimError::Closed) => panic!("nobody closes this ring"),
        }
    }
}

/// Takes `count` messages in place and checks each sender's order.
fn receive_in_place(ring: &Ring, count: u64) {
    let mut next = [0; 3];
    let mut left = count;
    while left > 0 {
        // SAFETY: the model has one receiver.
        let Some(received) = (unsafe { ring.peek() }) else {
            yield_now();
            continue;
        };
        let header = received.header;
        assert_eq!(header.correlation, next[header.source as usize], "lost, doubled or out of order");
        next[header.source as usize] += 1;
        // SAFETY: as above.
        unsafe { ring.advance() };
        left -= 1;
    }
}

#[test]
fn one_sender_one_receiver_more_messages_than_slots() {
    check(&[Label::W3, Label::W4, Label::R1, Label::R3], || {
        let ring = Arc::new(Ring::new(2, 64).unwrap());
        let sending = Arc::clone(&ring);
        let sender = thread::spawn(move || (0..4).for_each(|number| send(&sending, 1, number)));
        receive_in_place(&ring, 4);
        sender.join().unwrap();
    });
}

/// One attempt; whether there was room.
fn try_send(ring: &Ring, sender: u64, number: u64) -> bool {
    publish_one(ring.claim_batch(1), sender, number)
}

fn publish_one(claim: Result<Claim<'_>, ClaimError>, sender: u64, number: u64) -> bool {
    claim.is_ok_and(|mut claim| {
        claim.publish(&Header { source: sender, correlation: number, ..Header::default() }, &[], 0, 0);
        true
    })
}

#[test]
fn two_senders_lose_double_and_reorder_nothing() {
    check(&[Label::W3, Label::W4, Label::W5, Label::W6, Label::R1, Label::R3], || {
        let ring = Arc::new(Ring::new(2, 64).unwrap());
        // Two slots and up to four messages: one is there, and there is no waiting, for which loom has no end.
        assert!(try_send(&ring, 0, 0));
        let senders: Vec<_> = [(1, 2), (2, 1)]
            .into_iter()
            .map(|(sender, count)| {
                let ring = Arc::clone(&ring);
                thread::spawn(move || {
                    (0..count).take_while(|number| try_send(&ring, sender, *number)).count()
                })
            })
            .collect();
        receive_in_place(&ring, 1);
        let mut next = [1, 0, 0];
        let mut take = || {
            // SAFETY: the model has one receiver.
            let Some(received) = (unsafe { ring.peek() }) else { return false };
            let header = received.header;
            assert_eq!(header.correlation, next[header.source as usize], "out of order");
            next[header.source as usize] += 1;
            // SAFETY: as above.
            unsafe { ring.advance() };
            true
        };
        take();
        let accepted: Vec<u64> = senders.into_iter().map(|sender| sender.join().unwrap() as u64).collect();
        while take() {}
        assert_eq!(next[1..], accepted, "lost or doubled");
    });
}

#[test]
fn batches_write_only_what_was_released() {
    check(&[Label::W3, Label::W4, Label::R1, Label::R3], || {
        let ring = Arc::new(Ring::new(2, 64).unwrap());
        let sending = Arc::clone(&ring);
        let sender = thread::spawn(move || {
            let mut number = 0;
            while number < 4 {
                match sending.claim_batch(4 - number) {
                    Ok(mut claim) => {
                        while claim.remaining() > 0 {
                            let header = Header { source: 1, correlation: number, ..Header::default() };
                            claim.publish(&header, &[], 0, 0);
                            number += 1;
                        }
                    }
                    Err(_) => yield_now(),
                }
            }
        });
        receive_in_place(&ring, 4);
        sender.join().unwrap();
    });
}

/// As `revoke_at_head` and `settle` of `lease.rs`: the token of a revoked loan is its holder's to settle, whatever becomes of the slot.
#[test]
fn a_revoked_loan_that_was_settled_stays_settled() {
    const LOAN: u64 = 7;
    const REVOKED: u64 = 8;
    check(&[], || {
        let ring = Arc::new(Ring::new(2, 64).unwrap());
        ring.claim_batch(1).unwrap().keep(LOAN, 0);
        let held = Arc::clone(&ring);
        let holder = thread::spawn(move || {
            let from = |token: u64| {
                held.token(0).compare_exchange(token, 0, Ordering::AcqRel, Ordering::Relaxed).is_ok()
            };
            if from(LOAN) {
                // SAFETY: kept, and the token was won.
                unsafe { held.publish_kept(0, &Header::default(), 0, 0) };
                return true;
            }
            from(REVOKED)
        });
        let won = ring.token(0).compare_exchange(LOAN, REVOKED, Ordering::AcqRel, Ordering::Relaxed).is_ok();
        if won {
            // SAFETY: as above.
            unsafe { ring.publish_skipped(0) };
        }
        let settled = holder.join().unwrap();
        assert!(settled, "the holder finds one or the other");
        assert_eq!(ring.token(0).load(Ordering::Relaxed), 0, "settled again");
        assert!(ring.is_published(0));
    });
}

#[test]
fn two_receivers_share_without_losing_or_doubling() {
    check(&[Label::W1, Label::W3, Label::R1, Label::R2], || {
        let ring = Arc::new(Ring::new(2, 64).unwrap());
        let receivers: Vec<_> = (0..2)
            .map(|_| {
                let ring = Arc::clone(&ring);
                thread::spawn(move || {
                    let received = ring.take()?;
                    assert!(ring.release(received.position));
                    assert!(!ring.release(received.position), "released twice");
                    Some(received.header.correlation)
                })
            })
            .collect();
        let accepted = (0..3).take_while(|number| publish_one(ring.claim(), 1, *number)).count() as u64;
        let mut seen: Vec<u64> =
            receivers.into_iter().filter_map(|receiver| receiver.join().unwrap()).collect();
        seen.extend(std::iter::from_fn(|| ring.take()).map(|received| received.header.correlation));
        seen.sort_unstable();
        assert!(seen.into_iter().eq(0..accepted), "lost or doubled");
    });
}

#[test]
fn two_receivers_one_of_runs_share_without_losing_or_doubling() {
    check(&[Label::W1, Label::W3, Label::R1, Label::R2], || {
        let ring = Arc::new(Ring::new(2, 64).unwrap());
        let runs = {
            let ring = Arc::clone(&ring);
            thread::spawn(move || {
                let (first, end) = ring.take_run(2);
                let seen: Vec<u64> = (first..end)
                    // SAFETY: taken just now.
                    .map(|position| unsafe { ring.taken(position) }.header.correlation)
                    .collect();
                (first..end).for_each(|position| assert!(ring.release(position)));
                seen
            })
        };
        let one = {
            let ring = Arc::clone(&ring);
            thread::spawn(move || {
                let received = ring.take()?;
                assert!(ring.release(received.position));
                Some(received.header.correlation)
            })
        };
        let accepted = (0..3).take_while(|number| publish_one(ring.claim(), 1, *number)).count() as u64;
        let mut seen = runs.join().unwrap();
        seen.extend(one.join().unwrap());
        seen.extend(std::iter::from_fn(|| ring.take()).map(|received| received.header.correlation));
        seen.sort_unstable();
        assert!(seen.into_iter().eq(0..accepted), "lost or doubled");
    });
}

#[test]
fn a_closed_ring_gives_what_it_accepted_and_no_more() {
    check(&[], || {
        let ring = Arc::new(Ring::new(2, 64).unwrap());
        let senders: Vec<_> = (0..2)
            .map(|_| {
                let ring = Arc::clone(&ring);
                thread::spawn(move || match ring.claim_batch(1) {
                    Ok(mut claim) => {
                        claim.publish(&Header::default(), &[], 0, 0);
                        1
                    }
                    Err(error) => {
                        assert_eq!(error, ClaimError::Closed);
                        0
                    }
                })
            })
            .collect();
        ring.close();
        let mut drained = 0;
        while !ring.is_drained() {
            // SAFETY: the model has one receiver.
            match unsafe { ring.peek() } {
                // SAFETY: as above.
                Some(_) => {
                    unsafe { ring.advance() };
                    drained += 1;
                }
                None => yield_now(),
            }
        }
        let accepted: u64 = senders.into_iter().map(|sender| sender.join().unwrap()).sum();
        assert_eq!(drained, accepted);
    });
}

#[test]
fn a_ring_with_one_sender_loses_neither_a_message_nor_its_end() {
    check(&[Label::W7, Label::W8], || {
        let ring = Arc::new(Ring::new(2, 64).unwrap().with_one_sender());
        let sending = Arc::clone(&ring);
        let sender = thread::spawn(move || {
            let mut sent = 0;
            for _ in 0..2 {
                match sending.claim_batch(1) {
                    Ok(mut claim) => claim.publish(&Header::default(), &[], 0, 0),
                    Err(error) => {
                        assert_eq!(error, ClaimError::Closed);
                        assert!(sending.claim_batch(1).is_err(), "closed, and open again");
                        break;
                    }
                }
                sent += 1;
            }
            sent
        });
        ring.close();
        let (mut drained, mut sender, mut sent) = (0, Some(sender), None);
        // A runner that found it drained does not come back. One that did not is woken when the sender is done.
        while !ring.is_drained() {
            // SAFETY: the model has one receiver.
            match unsafe { ring.peek() } {
                // SAFETY: as above.
                Some(_) => {
                    unsafe { ring.advance() };
                    drained += 1;
                }
                None => sent = Some(sender.take().expect("stuck").join().unwrap()),
            }
        }
        let sent = sent.unwrap_or_else(|| sender.take().unwrap().join().unwrap());
        assert_eq!(drained, sent);
        assert!(ring.is_drained());
    });
}

#[test]
fn a_ring_without_slots_gets_them_before_it_gets_messages() {
    check(&[Label::P3, Label::P4], || {
        let ring = Arc::new(Ring::new(2, 64).unwrap());
        assert!(ring.park().is_some());
        let senders: Vec<_> = [1, 2]
            .into_iter()
            .map(|sender| {
                let ring = Arc::clone(&ring);
                thread::spawn(move || send(&ring, sender, 0))
            })
            .collect();
        let mut taken = [0; 3];
        let mut take = || {
            // SAFETY: the model has one receiver.
            let Some(received) = (unsafe { ring.peek() }) else { return false };
            taken[received.header.source as usize] += 1;
            // SAFETY: as above.
            unsafe { ring.advance() };
            true
        };
        take();
        senders.into_iter().for_each(|sender| sender.join().unwrap());
        while take() {}
        assert_eq!(taken, [0, 1, 1], "lost, doubled or another ring's");
    });
}

#[test]
fn a_receiver_sees_no_message_of_another_ring_in_slots_that_come() {
    check(&[Label::W3, Label::R1, Label::P1, Label::P2], || {
        let ring = Arc::new(Ring::new(2, 64).unwrap());
        assert!(ring.park().is_some());
        let receiving = Arc::clone(&ring);
        let receiver = thread::spawn(move || receive_in_place(&receiving, 1));
        send(&ring, 1, 0);
        receiver.join().unwrap();
    });
}

#[test]
fn a_ring_is_parked_only_when_nobody_writes_to_it() {
    check(&[Label::W3, Label::R1], || {
        let ring = Arc::new(Ring::new(2, 64).unwrap());
        let sending = Arc::clone(&ring);
        let sender = thread::spawn(move || (0..2).for_each(|number| send(&sending, 1, number)));
        let mut next = 0;
        let mut take = || {
            // SAFETY: the model has one receiver.
            let Some(received) = (unsafe { ring.peek() }) else { return false };
            assert_eq!((received.header.source, received.header.correlation), (1, next));
            next += 1;
            // SAFETY: as above.
            unsafe { ring.advance() };
            true
        };
        for _ in 0..2 {
            take();
            ring.park();
        }
        sender.join().unwrap();
        while take() {}
        assert_eq!(next, 2, "lost");
    });
}

#[test]
fn no_message_is_left_in_a_ring_that_is_parked_by_somebody_else() {
    check(&[Label::G3, Label::G4], || {
        let shared = Arc::new((Gate::new(), Ring::new(2, 64).unwrap()));
        fn run((gate, ring): &(Gate, Ring)) {
            loop {
                // SAFETY: inside the gate.
                while unsafe { ring.peek() }.is_some() {
                    // SAFETY: as above.
                    unsafe { ring.advance() };
                }
                gate.leave();
                if !ring.is_readable() || !gate.enter_idle() {
                    return;
                }
            }
        }
        let sending = Arc::clone(&shared);
        let sender = thread::spawn(move || {
            let (gate, ring) = &*sending;
            send(ring, 1, 0);
            gate.work_was_made();
            if gate.is_idle() && gate.queue() && gate.enter_queued() {
                run(&sending);
            }
        });
        let (gate, ring) = &*shared;
        if ring.depth() == 0 && gate.enter_idle() {
            ring.park();
            gate.leave();
            if ring.is_readable() && gate.enter_idle() {
                run(&shared);
            }
        }
        sender.join().unwrap();
        assert_eq!((ring.head(), ring.depth()), (1, 0), "a message was left behind");
    });
}

#[test]
fn slots_whose_turn_is_gone_are_used_once_at_a_time() {
    check(&[Label::W3, Label::R1, Label::R2, Label::R4, Label::W9], || {
        let ring = Arc::new(Ring::new(2, 64).unwrap());
        let send = |ring: &Ring, number| publish_one(ring.claim(), 1, number);
        assert!(send(&ring, 0) && send(&ring, 1));
        let (first, second) = (ring.take().unwrap(), ring.take().unwrap());
        assert!(ring.release(first.position) && !ring.park_released(), "something is taken");
        assert!(ring.release(second.position) && ring.park_released());
        assert!(ring.claim().err() == Some(ClaimError::Parked) && ring.unpark(None) == Ok(true));
        let others = Arc::clone(&ring);
        let sender = thread::spawn(move || (2..4).take_while(|number| send(&others, *number)).count());
        let receiving = Arc::clone(&ring);
        let receiver = thread::spawn(move || {
            let Some(received) = receiving.take() else { return 0 };
            assert!(received.header.source == 1, "not published");
            assert!(receiving.release(received.position));
            1
        });
        // The last of three has no slot before the first is released, whose turn it may not have seen.
        let mut sent = u64::from(send(&ring, 4));
        sent += sender.join().unwrap() as u64;
        let mut taken = receiver.join().unwrap();
        while let Some(received) = ring.take() {
            assert!(ring.release(received.position));
            taken += 1;
        }
        assert_eq!(taken, sent, "lost or doubled");
    });
}

/// A block in miniature: a count of messages in front of the gate, and a body behind it.
struct Post {
    gate: Gate,
    mail: AtomicU32,
    state: AtomicU32,
    body: Guarded<u32>,
}

impl Post {
    fn new(state: u32) -> Self {
        Self::behind(Gate::new(), state)
    }

    fn behind(gate: Gate, state: u32) -> Self {
        Self { gate, mail: AtomicU32::new(0), state: AtomicU32::new(state), body: Guarded::new(0) }
    }

    /// What a runner does, in the order of `block::run`.
    fn run(&self) {
        loop {
            while self.state.load(Ordering::Relaxed) == 1 && self.mail.load(Ordering::Relaxed) > 0 {
                let taken = self.mail.swap(0, Ordering::Relaxed);
                // SAFETY: loom checks that the gate makes it exclusive.
                self.body.with_mut(|body| unsafe { *body += taken });
            }
            self.gate.leave();
            let work = self.state.load(Ordering::Relaxed) == 1 && self.mail.load(Ordering::Relaxed) > 0;
            if !work || !self.gate.enter_idle() {
                return;
            }
        }
    }

    fn post(&self) {
        self.mail.fetch_add(1, Ordering::Relaxed);
        self.gate.work_was_made();
        if self.gate.is_idle() && self.gate.queue() && self.gate.enter_queued() {
            self.run();
        }
    }
}

#[test]
fn no_message_is_left_in_front_of_the_gate_and_one_runs_at_a_time() {
    // Entering and leaving pass fences (G5, G4) next to their orderings, between which loom does not switch;
    // that G1 and G2 are needed shows where somebody only looks, in the next model.
    check(&[Label::G3, Label::G4], || {
        let post = Arc::new(Post::new(1));
        let other = Arc::clone(&post);
        let sender = thread::spawn(move || other.post());
        post.post();
        post.post();
        sender.join().unwrap();
        assert_eq!(post.mail.load(Ordering::Relaxed), 0, "a message was left behind");
        // SAFETY: everybody has been joined.
        assert_eq!(post.body.with(|body| unsafe { *body }), 3);
    });
}

#[test]
fn no_message_is_left_in_front_of_a_gate_that_becomes_light_or_full() {
    check(&[Label::G4, Label::G7], || {
        let post = Arc::new(Post::behind(Gate::new_for_streams(), 1));
        let other = Arc::clone(&post);
        let sender = thread::spawn(move || other.post());
        if post.gate.enter_idle() {
            post.gate.become_light();
            post.run();
        }
        if post.gate.enter_idle() {
            post.gate.become_full();
            post.run();
        }
        post.post();
        sender.join().unwrap();
        assert_eq!(post.mail.load(Ordering::Relaxed), 0, "a message was left behind");
    });
}

#[test]
fn after_a_pause_nothing_runs() {
    check(&[Label::G1, Label::G2, Label::G5, Label::G6], || {
        let post = Arc::new(Post::new(1));
        let other = Arc::clone(&post);
        let sender = thread::spawn(move || other.post());
        post.state.swap(0, Ordering::SeqCst);
        fence_after_rmw(Label::G6);
        while post.gate.is_running() {
            yield_now();
        }
        // SAFETY: loom checks that no handler runs now: the pause has returned.
        post.body.with_mut(|body| unsafe { *body += 10 });
        sender.join().unwrap();
    });
}

#[test]
fn a_block_with_its_own_thread_misses_no_hand_over() {
    check(&[Label::G3, Label::G4], || {
        let post = Arc::new(Post::new(1));
        let own = Arc::clone(&post);
        let block = thread::spawn(move || {
            let mut taken = 0;
            while taken < 2 && own.gate.await_hand_over() {
                loop {
                    taken += own.mail.swap(0, Ordering::Relaxed);
                    own.gate.leave();
                    if own.mail.load(Ordering::Relaxed) == 0 || !own.gate.enter_idle() {
                        break;
                    }
                }
            }
        });
        for _ in 0..2 {
            post.mail.fetch_add(1, Ordering::Relaxed);
            post.gate.work_was_made();
            if post.gate.is_idle() {
                post.gate.hand_over();
            }
        }
        block.join().unwrap();
    });
}

#[test]
fn nothing_is_freed_while_it_is_named() {
    check(&[Label::H1, Label::H2, Label::H3, Label::H4], || {
        let domain: &'static Domain = Box::leak(Box::new(Domain::new()));
        let object: &'static Guarded<u32> = Box::leak(Box::new(Guarded::new(7)));
        let source: &'static AtomicPtr<Guarded<u32>> =
            Box::leak(Box::new(AtomicPtr::new(std::ptr::from_ref(object).cast_mut())));
        let record = domain.take();
        let reader = thread::spawn(move || {
            // SAFETY: loom checks that nobody writes meanwhile.
            let seen = record.protect(source, |object| object.with(|value| unsafe { *value }));
            assert!(seen.is_none_or(|value| value == 7), "read after free");
        });
        let taken = source.swap(std::ptr::null_mut(), Ordering::AcqRel);
        domain.wait_until_unnamed(taken.cast());
        // SAFETY: freed, as far as loom is concerned: any reader would be reported.
        object.with_mut(|value| unsafe { *value = 0 });
        reader.join().unwrap();
    });
}

/// Dropped when nobody holds it: then nobody reads it either.
struct Freed(&'static Guarded<u32>, Arc<AtomicU32>);

impl Drop for Freed {
    fn drop(&mut self) {
        // SAFETY: freed, as far as loom is concerned: any reader would be reported.
        self.0.with_mut(|value| unsafe { *value = 0 });
        self.1.fetch_add(1, Ordering::Relaxed);
    }
}

#[test]
fn nothing_is_freed_while_it_is_held_and_everything_after() {
    check(&[Label::H1, Label::H2, Label::H3, Label::H4, Label::H5, Label::H6], || {
        let domain: &'static Domain = Box::leak(Box::new(Domain::new()));
        let retired: &'static Retired<Freed> = Box::leak(Box::new(Retired::new()));
        let object: &'static Guarded<u32> = Box::leak(Box::new(Guarded::new(7)));
        let source: &'static AtomicPtr<Guarded<u32>> =
            Box::leak(Box::new(AtomicPtr::new(std::ptr::from_ref(object).cast_mut())));
        let freed = Arc::new(AtomicU32::new(0));
        let record = domain.take();
        let reader = thread::spawn(move || {
            if let Some(pointer) = retired.hold(domain, record, source) {
                // SAFETY: loom checks that nobody writes meanwhile.
                let value = unsafe { (*pointer).with(|value| *value) };
                assert_eq!(value, 7, "read after free");
                retired.let_go(domain, record);
            }
        });
        let taken = source.swap(std::ptr::null_mut(), Ordering::AcqRel);
        domain.wait_until_unnamed(taken.cast());
        retired.retire(domain, taken.cast(), Freed(object, Arc::clone(&freed)));
        reader.join().unwrap();
        assert_eq!(freed.load(Ordering::Relaxed), 1, "kept, or freed twice");
    });
}

#[test]
fn a_call_gets_its_reply_whole_and_exactly_one() {
    check(&[Label::C1, Label::C2], || {
        let place = Arc::new(CallPlace::new(0u32));
        let generation = place.begin();
        let completers: Vec<_> = [41, 42]
            .into_iter()
            .map(|value| {
                let place = Arc::clone(&place);
                thread::spawn(move || {
                    place.complete(generation, |reply| *reply = value) != Completed::TooLate
                })
            })
            .collect();
        assert!(place.sleep(generation, u64::MAX));
        let reply = place.reply(|reply| *reply);
        let won: Vec<bool> = completers.into_iter().map(|completer| completer.join().unwrap()).collect();
        assert_eq!(won.iter().filter(|won| **won).count(), 1);
        assert_eq!(reply, if won[0] { 41 } else { 42 });
        place.end(generation);
        let late = place.complete(generation, |_| panic!("a late reply got in"));
        assert_eq!(late, Completed::TooLate);
    });
}

#[test]
fn a_call_that_is_given_up_takes_no_late_reply() {
    check(&[Label::C1, Label::C2], || {
        let place = Arc::new(CallPlace::new(0u32));
        let generation = place.begin();
        let completing = Arc::clone(&place);
        let completer =
            thread::spawn(move || completing.complete(generation, |reply| *reply = 42) != Completed::TooLate);
        let gave_up = place.abandon(generation);
        if gave_up {
            // The place is free: the next call may have it, and must not see the old reply.
            let next = place.begin();
            assert_ne!(next, generation);
            assert!(!place.is_done(next));
            assert_eq!(place.complete(next, |reply| *reply = 1), Completed::Done);
            assert_eq!(place.reply(|reply| *reply), 1);
        } else {
            assert_eq!(place.reply(|reply| *reply), 42);
        }
        assert_eq!(completer.join().unwrap(), !gave_up);
    });
}

/// A call that nobody waits for: a completer and who gives it up (a timer, a cancel). Exactly one of them brings its outcome.
#[test]
fn a_call_that_nobody_waits_for_has_one_outcome() {
    check(&[Label::C1, Label::C2], || {
        let place = Arc::new(CallPlace::new(0u32));
        let generation = place.begin();
        place.be_awaited(generation);
        let completing = Arc::clone(&place);
        let completer = thread::spawn(move || {
            let completed = completing.complete(generation, |reply| *reply = 42);
            if completed == Completed::Tell {
                // Who is told may look at once.
                assert!(completing.is_done(generation));
                assert_eq!(completing.reply(|reply| *reply), 42);
            }
            completed
        });
        let gave_up = place.abandon(generation);
        if !gave_up {
            assert_eq!(place.reply(|reply| *reply), 42);
        }
        let completed = completer.join().unwrap();
        assert_eq!(completed, if gave_up { Completed::TooLate } else { Completed::Tell });
    });
}

#[test]
fn no_wake_up_is_lost() {
    check(&[Label::E1, Label::E2], || {
        let shared = Arc::new((EventCount::new(), AtomicU32::new(0)));
        let other = Arc::clone(&shared);
        let notifier = thread::spawn(move || {
            other.1.store(1, Ordering::Relaxed);
            other.0.notify_all();
        });
        let (events, flag) = &*shared;
        let mut look = || (flag.load(Ordering::Relaxed) == 1).then_some(());
        assert!(events.sleep_until(u64::MAX, &mut look).is_some());
        notifier.join().unwrap();
    });
}
