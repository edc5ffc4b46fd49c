//! What the benches of the peers share with benches/harness.h: the cargo, rounds, and one line for each case: question, case,
//! median, minimum in nanoseconds.

use std::io::Write;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// Places in every mailbox, channel and ring that has a limit; messages under way to one that has none.
pub const PLACES: usize = 1024;
pub const BATCH: u64 = 64;
pub const SENDERS: usize = 4;
/// Number of a cargo: the sender, and its own count.
pub const SENDER_SHIFT: u32 = 56;

/// What every message carries; the receiver checks all of it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Cargo(pub [u64; 8]);

impl Cargo {
    pub fn of(number: u64) -> Self {
        Cargo(std::array::from_fn(|i| number + i as u64))
    }

    pub fn is(&self, number: u64) -> bool {
        self.0.iter().enumerate().fold(0, |wrong, (i, word)| wrong | (word ^ (number + i as u64))) == 0
    }

    pub fn must_be(&self, number: u64) {
        if !self.is(number) {
            die(&format!("came {:?}, due was {number}", self.0));
        }
    }
}

/// Whatever thread finds it, the program ends with an error.
pub fn die(what: &str) -> ! {
    eprintln!("peers: wrong: {what}");
    std::process::exit(1)
}

/// On cache lines of its own.
#[repr(align(128))]
#[derive(Default)]
pub struct Apart<T>(pub T);

struct Settings {
    rounds: usize,
    scale: f64,
}

fn settings() -> &'static Settings {
    static SETTINGS: OnceLock<Settings> = OnceLock::new();
    SETTINGS.get_or_init(|| {
        let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<f64>().ok());
        let rounds = number("RK_BENCH_ROUNDS").filter(|rounds| (1.0..=32.0).contains(rounds));
        Settings { rounds: rounds.unwrap_or(7.0) as usize, scale: number("RK_BENCH_SCALE").unwrap_or(1.0) }
    })
}

pub fn rounds() -> usize {
    settings().rounds
}

pub fn scale() -> f64 {
    settings().scale
}

/// The number of operations of a round.
pub fn count(count: u64) -> u64 {
    ((count as f64 * scale()) as u64).max(64)
}

pub fn line(question: &str, name: &str, mut each: Vec<f64>) {
    each.sort_by(f64::total_cmp);
    println!("{question}\t{name}\t{:.2}\t{:.2}", each[each.len() / 2], each[0]);
    std::io::stdout().flush().expect("standard output");
}

/// Calls `round` once to warm up and then as often as asked; it says how long its operations took.
pub fn case(question: &str, name: &str, operations: u64, mut round: impl FnMut(u64) -> Duration) {
    let operations = count(operations);
    round(operations / 8 + 1);
    let each = (0..rounds()).map(|_| round(operations).as_nanos() as f64 / operations as f64).collect();
    line(question, name, each);
}

fn quantiles(question: &str, name: &str, mut samples: Vec<u64>) {
    samples.sort_unstable();
    for (which, p) in [("p50", 0.5), ("p99", 0.99), ("p99.9", 0.999), ("p99.99", 0.9999), ("max", 1.0)] {
        let at = (p * samples.len() as f64) as usize;
        let value = samples[at.min(samples.len() - 1)];
        println!("{question}\t{name} {which}\t{value}\t{}", samples[0]);
    }
}

/// One call after the other: the median over rounds and the quantiles; then one each 100 us, where late ones count from when they
/// were due.
pub fn calls(name: &str, operations: u64, mut call: impl FnMut(u64)) {
    let mut number = 0;
    let mut next = || {
        call(number);
        number += 1;
    };
    case("calls", name, operations, |operations| {
        let start = Instant::now();
        (0..operations).for_each(|_| next());
        start.elapsed()
    });
    let samples = (0..count(operations)).map(|_| {
        let start = Instant::now();
        next();
        start.elapsed().as_nanos() as u64
    });
    quantiles("calls", name, samples.collect());

    const PACE: Duration = Duration::from_micros(100);
    let mut due = Instant::now() + PACE;
    let samples = (0..count(5000)).map(|_| {
        thread::sleep(due.saturating_duration_since(Instant::now()));
        let start = Instant::now();
        next();
        // This thread's own late waking is not the peer's; that the call before was not done yet is.
        let from = if start > due + PACE { due } else { start };
        due += PACE;
        from.elapsed().as_nanos() as u64
    });
    quantiles("calls each 100 us", name, samples.collect());
}

/// A turn of a loop that waits where there are more threads than CPUs: it lets others run after a while.
#[derive(Default)]
pub struct Patience(u32);

impl Patience {
    pub fn wait(&mut self) {
        self.0 += 1;
        if self.0.is_multiple_of(128) {
            thread::yield_now();
        } else {
            std::hint::spin_loop();
        }
    }
}

/// A receiver that finds nothing in a ring lets the sender get ahead, as the one in benches/bare.c does: one that follows closely
/// takes each line while it is written. How long is the receiver's choice, and one by one it is much of the figure.
pub fn breathe() {
    (0..16).for_each(|_| std::hint::spin_loop());
}

/// Rounds of a sender, this thread, and a receiver, a thread of its own that `take`s as many; from a number on. A round ends when
/// the receiver has taken and checked the last.
pub fn to_thread(
    question: &str,
    name: &str,
    operations: u64,
    mut take: impl FnMut(u64, u64) + Send,
    mut send: impl FnMut(u64, u64),
) {
    let (due, taken) = (Apart(AtomicU64::new(0)), Apart(AtomicU64::new(0)));
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut number = 0;
            loop {
                let end = due.0.load(Ordering::Acquire);
                if end == u64::MAX {
                    return;
                }
                if end != number {
                    take(number, end - number);
                    number = end;
                    taken.0.store(number, Ordering::Release);
                }
                std::hint::spin_loop();
            }
        });
        let mut sent = 0;
        case(question, name, operations, |operations| {
            let start = Instant::now();
            due.0.store(sent + operations, Ordering::Release);
            send(sent, operations);
            sent += operations;
            while taken.0.load(Ordering::Acquire) != sent {
                std::hint::spin_loop();
            }
            start.elapsed()
        });
        due.0.store(u64::MAX, Ordering::Release);
    });
}
