//! Stress of the real ring: nothing lost, nothing doubled, each sender's messages in its order.

use std::collections::HashMap;
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use super::{ClaimError, Header, Memory, Ring, Slots};

const SENDERS: u64 = 4;
const EACH: u64 = 30_000;

fn header(sender: u64, number: u64) -> Header {
    Header { correlation: number, source: sender, payload_size: 16, ..Header::default() }
}

fn payload(sender: u64, number: u64) -> [u8; 16] {
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&sender.to_le_bytes());
    bytes[8..].copy_from_slice(&number.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_le_bytes());
    bytes
}

fn bytes_of(received: &super::Received) -> &[u8] {
    // SAFETY: the test holds the message: it was peeked or taken and not released.
    unsafe { std::slice::from_raw_parts(received.payload, received.header.payload_size as usize) }
}

/// How a sender claims: slots of a ring with one receiver, many of them or one; or of one with many.
#[derive(Clone, Copy, PartialEq)]
enum Way {
    Batches,
    OneByOne,
    ToMany,
}

fn send_all(ring: &Ring, sender: u64, way: Way) {
    let mut number = 0;
    while number < EACH {
        let claim = match way {
            Way::Batches => ring.claim_batch((EACH - number).min(1 + number % 7)),
            Way::OneByOne => ring.claim_batch(1),
            Way::ToMany => ring.claim(),
        };
        match claim {
            Ok(mut claim) => {
                while claim.remaining() > 0 {
                    claim.publish(&header(sender, number), &payload(sender, number), 0, 0);
                    number += 1;
                }
            }
            Err(ClaimError::Full) => thread::yield_now(),
            Err(error) => panic!("nobody closes or parks this ring: {error:?}"),
        }
    }
}

#[test]
fn lesson_02_one_receiver_in_place_loses_and_doubles_nothing() {
    use Way::{Batches, OneByOne};
    for (capacity, way) in [(2, OneByOne), (2, Batches), (64, OneByOne), (64, Batches)] {
        let ring = Ring::new(capacity, 64).expect("memory");
        let mut next = HashMap::new();
        thread::scope(|scope| {
            for sender in 1..=SENDERS {
                let ring = &ring;
                scope.spawn(move || send_all(ring, sender, way));
            }
            let mut left = SENDERS * EACH;
            while left > 0 {
                // SAFETY: this thread is the only receiver.
                let Some(received) = (unsafe { ring.peek() }) else {
                    thread::yield_now();
                    continue;
                };
                let (sender, number) = (received.header.source, received.header.correlation);
                assert_eq!(bytes_of(&received), payload(sender, number));
                let expected = next.entry(sender).or_insert(0);
                assert_eq!(number, *expected, "sender {sender} out of order");
                *expected += 1;
                left -= 1;
                // SAFETY: as above, and a message was peeked.
                unsafe { ring.advance() };
            }
        });
        assert!(next.values().all(|count| *count == EACH));
        assert_eq!((ring.tail(), ring.head(), ring.depth()), (SENDERS * EACH, SENDERS * EACH, 0));
    }
}

#[test]
fn lesson_02_many_receivers_that_release_in_any_order_lose_and_double_nothing() {
    for capacity in [2, 16] {
        let ring = Ring::new(capacity, 64).expect("memory");
        let seen: Vec<AtomicU64> = (0..SENDERS * EACH).map(|_| AtomicU64::new(0)).collect();
        let (taken, start) = (AtomicU64::new(0), Barrier::new(3));
        thread::scope(|scope| {
            for sender in 1..=SENDERS {
                let ring = &ring;
                scope.spawn(move || send_all(ring, sender, Way::ToMany));
            }
            for _ in 0..3 {
                let (ring, seen, taken, start) = (&ring, &seen, &taken, &start);
                scope.spawn(move || {
                    start.wait();
                    let mut last: HashMap<u64, u64> = HashMap::new();
                    let mut held: Option<super::Received> = None;
                    while taken.load(Ordering::Relaxed) < SENDERS * EACH {
                        let Some(received) = ring.take() else {
                            if let Some(held) = held.take() {
                                assert!(ring.release(held.position));
                            }
                            thread::yield_now();
                            continue;
                        };
                        taken.fetch_add(1, Ordering::Relaxed);
                        let (sender, number) = (received.header.source, received.header.correlation);
                        assert_eq!(bytes_of(&received), payload(sender, number));
                        let index = (sender - 1) * EACH + number;
                        assert_eq!(seen[index as usize].fetch_add(1, Ordering::Relaxed), 0, "doubled");
                        // Of one sender, each receiver sees increasing numbers.
                        let before = last.insert(sender, number + 1).unwrap_or(0);
                        assert!(number + 1 > before);
                        // Hold one back now and then: released after its successor.
                        match held.take() {
                            None if number % 3 == 0 => held = Some(received),
                            other => {
                                assert!(ring.release(received.position));
                                assert!(!ring.release(received.position), "released twice");
                                if let Some(other) = other {
                                    assert!(ring.release(other.position));
                                }
                            }
                        }
                    }
                    if let Some(held) = held.take() {
                        assert!(ring.release(held.position));
                    }
                });
            }
        });
        assert!(seen.iter().all(|count| count.load(Ordering::Relaxed) == 1), "lost");
    }
}

#[test]
fn what_was_claimed_before_the_close_is_received_and_nothing_after() {
    for _ in 0..200 {
        let ring = Ring::new(8, 64).expect("memory");
        let accepted = AtomicU64::new(0);
        let go = AtomicBool::new(false);
        let received = thread::scope(|scope| {
            for sender in 1..=2 {
                let (ring, accepted, go) = (&ring, &accepted, &go);
                scope.spawn(move || {
                    while !go.load(Ordering::Acquire) {}
                    for number in 0.. {
                        match ring.claim_batch(1) {
                            Ok(mut claim) => {
                                claim.publish(&header(sender, number), &payload(sender, number), 0, 0);
                                accepted.fetch_add(1, Ordering::Relaxed);
                            }
                            Err(ClaimError::Full) => thread::yield_now(),
                            Err(_) => break,
                        }
                    }
                });
            }
            go.store(true, Ordering::Release);
            let mut received = 0;
            while !ring.is_drained() {
                // SAFETY: this thread is the only receiver.
                if unsafe { ring.peek() }.is_some() {
                    // SAFETY: as above.
                    unsafe { ring.advance() };
                    received += 1;
                }
                if received == 20 {
                    ring.close();
                }
            }
            received
        });
        assert_eq!(received, accepted.load(Ordering::Relaxed));
        assert_eq!(ring.claim().err(), Some(ClaimError::Closed));
        assert_eq!(ring.claim_batch(1).err(), Some(ClaimError::Closed));
    }
}

#[test]
fn lesson_08_full_is_said_at_once_and_eats_nothing() {
    let ring = Ring::new(2, 64).expect("memory");
    for number in 0..2 {
        ring.claim().expect("room").publish(&header(1, number), &[], 0, 0);
    }
    assert_eq!(ring.claim().err(), Some(ClaimError::Full));
    assert_eq!(ring.claim_batch(5).err(), Some(ClaimError::Full));
    let first = ring.take().expect("a message");
    assert_eq!(first.header.correlation, 0);
    // Taken is not released: its slot is still in use.
    assert_eq!(ring.claim().err(), Some(ClaimError::Full));
    assert!(ring.release(first.position));
    assert!(!ring.release(first.position));
    assert!(!ring.release(first.position + 1), "not taken yet");
    ring.claim().expect("room").publish(&header(1, 2), &[], 0, 0);
    let left: Vec<u64> = std::iter::from_fn(|| ring.take()).map(|r| r.header.correlation).collect();
    assert_eq!(left, [1, 2]);
}

#[test]
fn a_claim_that_is_dropped_is_skipped_and_wedges_nothing() {
    let ring = Ring::new(4, 64).expect("memory");
    drop(ring.claim_batch(2).expect("room"));
    ring.claim().expect("room").publish(&header(1, 7), &[], 0, 0);
    let skipped: Vec<bool> = std::iter::from_fn(|| ring.take()).map(|r| r.is_skipped()).collect();
    assert_eq!(skipped, [true, true, false]);
}

#[test]
fn lesson_19_memory_of_a_large_ring_is_not_touched_before_it_is_used() {
    let resident = || {
        let text = std::fs::read_to_string("/proc/self/statm").expect("procfs");
        text.split_whitespace().nth(1).and_then(|pages| pages.parse::<u64>().ok()).expect("a number")
    };
    let before = resident();
    let ring = Ring::new(1 << 20, 192).expect("memory");
    let grown = resident().saturating_sub(before);
    assert!(grown < 4096, "{grown} pages for {} bytes", ring.bytes());
}

fn short_ring() -> Ring {
    let slots = Slots::used(4, 64).or_else(|| Slots::fresh(4, 64)).expect("memory");
    Ring::over(4, Memory::of_slots(slots))
}

fn more_slots() -> Option<Slots> {
    Slots::used(4, 64).or_else(|| Slots::fresh(4, 64))
}

/// Sends to a ring that may be parked; how often it was.
fn send_unparking(ring: &Ring, sender: u64, is_short: bool) -> u64 {
    let (mut number, mut unparked) = (0, 0);
    while number < EACH {
        match ring.claim_batch((EACH - number).min(1 + number % 3)) {
            Ok(mut claim) => {
                while claim.remaining() > 0 {
                    claim.publish(&header(sender, number), &payload(sender, number), 0, 0);
                    number += 1;
                }
            }
            Err(ClaimError::Full) => thread::yield_now(),
            Err(ClaimError::Parked) => {
                unparked += 1;
                _ = ring.unpark(is_short.then(more_slots).flatten()).expect("open");
            }
            Err(ClaimError::Closed) => panic!("nobody closes this ring"),
        }
    }
    unparked
}

/// Rings that exchange their slots all the time, and a long one that gives its pages back: nothing lost, nothing doubled, nothing from
/// another ring, each sender's messages in their order.
#[test]
fn rings_that_are_parked_lose_and_double_nothing() {
    let rings = [(short_ring(), true), (short_ring(), true), (Ring::new(256, 64).expect("memory"), false)];
    assert!(rings.iter().all(|(ring, is_short)| ring.can_be_parked() && ring.is_short() == *is_short));
    thread::scope(|scope| {
        for (at, (ring, is_short)) in rings.iter().enumerate() {
            let senders = [1, 2].map(|sender| 10 * at as u64 + sender);
            let sending = senders.map(|sender| scope.spawn(move || send_unparking(ring, sender, *is_short)));
            scope.spawn(move || {
                let (mut next, mut left, mut parked) = (HashMap::new(), 2 * EACH, 0);
                while left > 0 {
                    // SAFETY: this thread is the only receiver.
                    let Some(received) = (unsafe { ring.peek() }) else {
                        parked += u64::from(ring.park().is_some());
                        // In this order: senders end a park at any time, and only this thread begins one.
                        let bytes = ring.bytes();
                        assert!(bytes == 0 || !ring.is_parked());
                        thread::yield_now();
                        continue;
                    };
                    let (sender, number) = (received.header.source, received.header.correlation);
                    assert!(senders.contains(&sender), "a message of {sender} in ring {at}");
                    assert_eq!(bytes_of(&received), payload(sender, number));
                    let expected = next.entry(sender).or_insert(0);
                    assert_eq!(number, *expected, "sender {sender} out of order");
                    *expected += 1;
                    // SAFETY: as above.
                    unsafe { ring.advance() };
                    left -= 1;
                }
                let unparked: u64 = sending.into_iter().map(|sender| sender.join().expect("sent")).sum();
                assert!(parked > 0 && unparked >= parked, "parked {parked} times, unparked {unparked} times");
                assert_eq!((ring.head(), ring.depth()), (2 * EACH, 0));
            });
        }
    });
}

#[test]
fn a_message_arrives_whole_whatever_was_in_its_slot_before() {
    let ring = Ring::new(4, 256).expect("memory");
    let mut seed = 0x2545_f491_4f6c_dd15_u64;
    let mut random = move |below: u64| {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        seed % below
    };
    for number in 0..4000_u64 {
        // Few values, so that what was there before is the same as often as not.
        let size = [0, 7, 8, 64, 65, 200, 256][random(7) as usize];
        let header = Header {
            correlation: random(2) << 40,
            source: random(2) * u64::MAX,
            payload_size: size as u32,
            tag: random(2) as u32,
            timestamp: crate::layout::RkTimestamp {
                physical_ns: random(2) << 33,
                logical: random(2) as u32,
                node: random(2) as u32,
            },
        };
        let (token, meta, odd) = (random(2) << 35, random(2), random(2) as usize);
        let bytes: Vec<u8> = (0..size + odd as u64).map(|at| (at * 7 + number) as u8).collect();
        // At an odd address, too.
        let sent = &bytes[odd..];
        ring.claim_batch(1).expect("room").publish(&header, sent, token, meta);
        // SAFETY: this thread is the only receiver.
        let received = unsafe { ring.peek() }.expect("published");
        assert_eq!((received.header, received.token, received.meta), (header, token, meta));
        assert_eq!(bytes_of(&received), sent);
        if random(2) == 0 {
            // SAFETY: as above, and of that size.
            unsafe { ring.take_lines(header.payload_size) };
            assert_eq!((bytes_of(&received), ring.meta(number).load(Ordering::Relaxed)), (sent, meta));
        }
        // SAFETY: as above, and a message is at head.
        unsafe { ring.advance() };
    }
}

#[test]
fn a_revoked_loan_is_settled_once_while_its_place_is_published() {
    const ROUNDS: u64 = 200_000;
    const LOAN: u64 = 7;
    const REVOKED: u64 = 1 << 63 | 7;
    let ring = Ring::new(64, 64).expect("memory");
    let (begun, ended) = (AtomicU64::new(u64::MAX), AtomicU64::new(u64::MAX));
    let mut open_again = 0;
    let await_round = |word: &AtomicU64, round: u64| {
        let mut looks = 0_u32;
        while word.load(Ordering::Acquire) != round {
            looks += 1;
            if looks.is_multiple_of(1024) { thread::yield_now() } else { std::hint::spin_loop() }
        }
    };
    thread::scope(|scope| {
        let (ring, begun, ended) = (&ring, &begun, &ended);
        scope.spawn(move || {
            for round in 0..ROUNDS {
                await_round(begun, round);
                (0..round % 40).for_each(|_| std::hint::spin_loop());
                // The holder, who finds its loan revoked.
                let token = ring.token(round);
                while token.compare_exchange(REVOKED, 0, Ordering::AcqRel, Ordering::Relaxed).is_err() {}
                ended.store(round, Ordering::Release);
            }
        });
        for round in 0..ROUNDS {
            ring.claim_batch(1).expect("room").keep(LOAN, round);
            begun.store(round, Ordering::Release);
            (0..round % 23).for_each(|_| std::hint::spin_loop());
            let token = ring.token(round);
            assert!(token.compare_exchange(LOAN, REVOKED, Ordering::AcqRel, Ordering::Relaxed).is_ok());
            // SAFETY: kept, and winning the token made this thread the one to publish it.
            unsafe { ring.publish_skipped(round) };
            await_round(ended, round);
            // Counted: with a panic here the other thread would wait for the next round.
            open_again += u64::from(token.load(Ordering::Relaxed) != 0);
            // SAFETY: this thread is the only receiver, and a skipped message is at head.
            unsafe { ring.advance() };
        }
    });
    assert_eq!(open_again, 0, "settled, and open again");
}

#[test]
fn only_an_empty_ring_is_parked_and_a_closed_one_stays_as_it_is() {
    let ring = short_ring();
    let mut lent = ring.claim_batch(1).expect("room");
    _ = lent.keep(7, 0);
    drop(lent);
    assert!(ring.park().is_none(), "a place is lent");
    // SAFETY: kept just now.
    unsafe { ring.publish_kept(0, &header(1, 0), 0, 0) };
    assert!(ring.park().is_none(), "a message is there");
    // SAFETY: this thread is the only receiver, and a message is there.
    unsafe { ring.advance() };
    assert!(ring.park().is_some() && ring.park().is_none(), "parked once");
    assert_eq!((ring.claim_batch(1).err(), ring.bytes()), (Some(ClaimError::Parked), 0));
    // SAFETY: as above.
    assert!(unsafe { ring.peek() }.is_none() && !ring.is_readable() && !ring.is_drained());
    assert_eq!(ring.token(0).load(Ordering::Relaxed), 0, "the token of a loan that was given back");
    assert_eq!(ring.unpark(None).err(), Some(ClaimError::Parked), "without slots");
    assert!(ring.unpark(more_slots()).is_ok() && ring.unpark(more_slots()).is_ok());
    ring.claim_batch(1).expect("room").publish(&header(1, 1), &[], 0, 0);
    // SAFETY: as above.
    assert_eq!(unsafe { ring.peek() }.map(|received| received.header.correlation), Some(1));
    // SAFETY: as above.
    unsafe { ring.advance() };
    assert!(ring.park().is_some());
    ring.close();
    assert!(ring.is_drained());
    assert_eq!(ring.claim_batch(1).err(), Some(ClaimError::Closed));
    assert_eq!(ring.unpark(more_slots()).err(), Some(ClaimError::Closed));
    assert!(!Ring::new(256, 64).expect("memory").with_one_sender().can_be_parked());
}

#[test]
fn a_long_ring_that_is_parked_gives_its_pages_back() {
    let resident = || {
        let text = std::fs::read_to_string("/proc/self/statm").expect("procfs");
        text.split_whitespace().nth(1).and_then(|pages| pages.parse::<u64>().ok()).expect("a number")
    };
    // 64 MiB, far more than other tests use meanwhile.
    let ring = Ring::new(1 << 18, 192).expect("memory");
    let mut claim = ring.claim_batch(1 << 18).expect("room");
    while claim.remaining() > 0 {
        claim.publish(&header(1, 0), &[], 0, 0);
    }
    drop(claim);
    // SAFETY: this thread is the only receiver.
    while unsafe { ring.peek() }.is_some() {
        // SAFETY: as above.
        unsafe { ring.advance() };
    }
    let before = resident();
    assert!(ring.park().is_some());
    let freed = before.saturating_sub(resident());
    assert!(freed > 8192, "{freed} pages came back");
    assert!(ring.unpark(None).is_ok() && ring.claim_batch(1).is_ok());
}

/// The same for many receivers: taken and released in any order, parked whenever it is empty.
#[test]
fn a_ring_with_many_receivers_that_is_parked_loses_and_doubles_nothing() {
    let ring = Ring::new(256, 64).expect("memory");
    let (taken, parked) = (AtomicU64::new(0), AtomicU64::new(0));
    let received = thread::scope(|scope| {
        for sender in 1..=2 {
            let ring = &ring;
            scope.spawn(move || {
                for number in 0..EACH {
                    loop {
                        match ring.claim() {
                            Ok(mut claim) => {
                                break claim.publish(&header(sender, number), &payload(sender, number), 0, 0);
                            }
                            Err(ClaimError::Parked) => _ = ring.unpark(None).expect("open"),
                            Err(_) => thread::yield_now(),
                        }
                    }
                    // Now and then it is empty.
                    if number % 64 == 0 {
                        (0..200).for_each(|_| thread::yield_now());
                    }
                }
            });
        }
        scope.spawn(|| {
            while taken.load(Ordering::Relaxed) < 2 * EACH {
                parked.fetch_add(u64::from(ring.park_released()), Ordering::Relaxed);
                thread::yield_now();
            }
        });
        let receive = || {
            let mut received = Vec::new();
            while taken.load(Ordering::Relaxed) < 2 * EACH {
                let Some(message) = ring.take() else {
                    thread::yield_now();
                    continue;
                };
                taken.fetch_add(1, Ordering::Relaxed);
                let (sender, number) = (message.header.source, message.header.correlation);
                assert_eq!(bytes_of(&message), payload(sender, number));
                received.push((sender, number));
                assert!(ring.release(message.position));
            }
            received
        };
        let receivers = [scope.spawn(receive), scope.spawn(receive)];
        let mut received: Vec<_> =
            receivers.into_iter().flat_map(|receiver| receiver.join().expect("received")).collect();
        received.sort_unstable();
        received
    });
    let all = (1..=2).flat_map(|sender| (0..EACH).map(move |number| (sender, number)));
    assert!(received.into_iter().eq(all), "lost or doubled");
    assert!(parked.load(Ordering::Relaxed) > 0, "never parked");
}
