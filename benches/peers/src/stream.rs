//! What does a message cost that one thread sends and another, or an actor, takes? 64 bytes, all of them checked (see
//! benches/stream.c). The rings spin on both sides; crossbeam-channel and kanal put a side that waits long to sleep.

use crate::harness::{BATCH, Cargo, PLACES, breathe, case, to_thread};
use crate::sinks;
use std::time::Instant;

pub fn run() {
    rtrb_singly();
    rtrb_chunks();
    array_queue();
    channels();
    for peer in sinks::ALL {
        let peer = peer();
        let mut send = (peer.sender)(1);
        let mut sent = 0;
        case("stream", &format!("actor: {}", peer.name), 500_000, |count| {
            let start = Instant::now();
            send(sent, count);
            sent += count;
            while peer.taken.all() != sent {
                std::hint::spin_loop();
            }
            start.elapsed()
        });
    }
}

fn rtrb_singly() {
    let (mut to, mut from) = rtrb::RingBuffer::<Cargo>::new(PLACES);
    let take = move |first: u64, count| {
        for number in first..first + count {
            loop {
                match from.pop() {
                    Ok(cargo) => break cargo.must_be(number),
                    Err(_) => breathe(),
                }
            }
        }
    };
    to_thread("stream", "bare: rtrb, one by one", 4_000_000, take, |first, count| {
        for number in first..first + count {
            let cargo = Cargo::of(number);
            while to.push(cargo).is_err() {
                std::hint::spin_loop();
            }
        }
    });
}

fn rtrb_chunks() {
    let (mut to, mut from) = rtrb::RingBuffer::<Cargo>::new(PLACES);
    let take = move |first: u64, count| {
        let mut number = first;
        while number != first + count {
            let there = from.slots().min(BATCH as usize);
            if there == 0 {
                breathe();
                continue;
            }
            let chunk = from.read_chunk(there).expect("as many as there are");
            let (left, right) = chunk.as_slices();
            for cargo in left.iter().chain(right) {
                cargo.must_be(number);
                number += 1;
            }
            chunk.commit_all();
        }
    };
    to_thread("stream", "bare: rtrb, chunks of 64", 8_000_000, take, |first, count| {
        let (mut number, end) = (first, first + count);
        while number != end {
            let wanted = (end - number).min(BATCH);
            if let Ok(chunk) = to.write_chunk_uninit(wanted as usize) {
                number += chunk.fill_from_iter((number..number + wanted).map(Cargo::of)) as u64;
            } else {
                std::hint::spin_loop();
            }
        }
    });
}

fn array_queue() {
    let queue = crossbeam_queue::ArrayQueue::<Cargo>::new(PLACES);
    let take = |first: u64, count| {
        for number in first..first + count {
            loop {
                match queue.pop() {
                    Some(cargo) => break cargo.must_be(number),
                    None => breathe(),
                }
            }
        }
    };
    to_thread("stream", "bare: crossbeam ArrayQueue", 2_000_000, take, |first, count| {
        for number in first..first + count {
            let cargo = Cargo::of(number);
            while queue.push(cargo).is_err() {
                std::hint::spin_loop();
            }
        }
    });
}

fn channels() {
    let (to, from) = crossbeam_channel::bounded::<Cargo>(PLACES);
    let take = move |first: u64, count| {
        (first..first + count).for_each(|number| from.recv().expect("a sender").must_be(number));
    };
    to_thread("stream", "bare: crossbeam-channel", 2_000_000, take, |first, count| {
        (first..first + count).for_each(|number| to.send(Cargo::of(number)).expect("a receiver"));
    });

    let (to, from) = kanal::bounded::<Cargo>(PLACES);
    let take = move |first: u64, count| {
        (first..first + count).for_each(|number| from.recv().expect("a sender").must_be(number));
    };
    to_thread("stream", "bare: kanal", 2_000_000, take, |first, count| {
        (first..first + count).for_each(|number| to.send(Cargo::of(number)).expect("a receiver"));
    });
}
