//! What does a message cost when four threads send to one thread or actor? 64 bytes; all content and the order of each sender are
//! checked (see benches/fan_in.c). From the start of all senders together until the last message has been taken, for each message.
//! With fewer than six CPUs the senders take turns on them: where they spin they yield after 128 turns, as bare.c does. rtrb has
//! one sender a ring, so it gets four rings, and the receiver goes round them.

use crate::harness::{Cargo, PLACES, Patience, SENDER_SHIFT, SENDERS, case};
use crate::sinks;
use std::sync::Barrier;
use std::thread;
use std::time::Instant;

pub fn run() {
    rtrb_rings();
    array_queue();
    channels();
    for peer in sinks::ALL {
        let peer = peer();
        let mut senders: Vec<_> = (0..SENDERS).map(|_| (peer.sender)(SENDERS)).collect();
        let mut sent = 0;
        together(&format!("actor: {}", peer.name), 400_000, &mut senders, |_, each| {
            sent += each * SENDERS as u64;
            while peer.taken.all() != sent {
                thread::yield_now();
            }
        });
    }
}

/// Rounds of four senders, a thread each, that send from a number on; `take` waits on this thread for what is due: from which number
/// on (of each sender), and how many of each.
fn together(
    name: &str,
    operations: u64,
    senders: &mut [impl FnMut(u64, u64) + Send],
    mut take: impl FnMut(u64, u64),
) {
    let mut next = 0;
    case("fan_in", name, operations, |count| {
        let each = count.div_ceil(SENDERS as u64);
        let gate = Barrier::new(SENDERS + 1);
        let time = thread::scope(|scope| {
            for (sender, send) in senders.iter_mut().enumerate() {
                let gate = &gate;
                scope.spawn(move || {
                    gate.wait();
                    send((sender as u64) << SENDER_SHIFT | next, each);
                });
            }
            let start = Instant::now();
            gate.wait();
            take(next, each);
            start.elapsed()
        });
        next += each;
        // The senders' operations were rounded up.
        time.mul_f64(count as f64 / (each * SENDERS as u64) as f64)
    });
}

/// Checks what comes, from whichever sender.
struct Check {
    next: [u64; SENDERS],
    left: u64,
}

impl Check {
    fn new(first: u64, each: u64) -> Self {
        Check { next: [first; SENDERS], left: each * SENDERS as u64 }
    }

    fn take(&mut self, cargo: &Cargo) {
        let sender = (cargo.0[0] >> SENDER_SHIFT) as usize;
        cargo.must_be((sender as u64) << SENDER_SHIFT | self.next[sender]);
        self.next[sender] += 1;
        self.left -= 1;
    }
}

fn rtrb_rings() {
    let (mut tos, mut froms): (Vec<_>, Vec<_>) =
        (0..SENDERS).map(|_| rtrb::RingBuffer::<Cargo>::new(PLACES / SENDERS)).unzip();
    let mut senders: Vec<_> = tos
        .iter_mut()
        .map(|to| {
            |first: u64, count: u64| {
                let mut patience = Patience::default();
                for number in first..first + count {
                    let cargo = Cargo::of(number);
                    while to.push(cargo).is_err() {
                        patience.wait();
                    }
                }
            }
        })
        .collect();
    together("bare: rtrb, a ring for each sender", 2_000_000, &mut senders, |first, each| {
        let (mut check, mut patience) = (Check::new(first, each), Patience::default());
        while check.left != 0 {
            let before = check.left;
            for from in &mut froms {
                while let Ok(cargo) = from.pop() {
                    check.take(&cargo);
                }
            }
            if check.left == before {
                patience.wait();
            }
        }
    });
}

fn array_queue() {
    let queue = crossbeam_queue::ArrayQueue::<Cargo>::new(PLACES);
    let send = |first: u64, count: u64| {
        let mut patience = Patience::default();
        for number in first..first + count {
            let cargo = Cargo::of(number);
            while queue.push(cargo).is_err() {
                patience.wait();
            }
        }
    };
    together("bare: crossbeam ArrayQueue", 2_000_000, &mut [send; SENDERS], |first, each| {
        let (mut check, mut patience) = (Check::new(first, each), Patience::default());
        while check.left != 0 {
            match queue.pop() {
                Some(cargo) => check.take(&cargo),
                None => patience.wait(),
            }
        }
    });
}

fn channels() {
    let (to, from) = crossbeam_channel::bounded::<Cargo>(PLACES);
    let mut senders = [&to; SENDERS].map(|to| {
        let to = to.clone();
        move |first: u64, count: u64| {
            (first..first + count).for_each(|number| to.send(Cargo::of(number)).expect("a receiver"));
        }
    });
    together("bare: crossbeam-channel", 2_000_000, &mut senders, |first, each| {
        let mut check = Check::new(first, each);
        (0..check.left).for_each(|_| check.take(&from.recv().expect("a sender")));
    });

    let (to, from) = kanal::bounded::<Cargo>(PLACES);
    let mut senders = [&to; SENDERS].map(|to| {
        let to = to.clone();
        move |first: u64, count: u64| {
            (first..first + count).for_each(|number| to.send(Cargo::of(number)).expect("a receiver"));
        }
    });
    together("bare: kanal", 2_000_000, &mut senders, |first, each| {
        let mut check = Check::new(first, each);
        (0..check.left).for_each(|_| check.take(&from.recv().expect("a sender")));
    });
}
