//! Dead letters: what could not be handled, with a reason, in the order it became one.
//!
//! A plain bounded queue behind a lock: this is the exceptional path. Letters are copies, so they hold up no
//! ring. Past the bounds a letter is counted and dropped.

use std::collections::{HashMap, VecDeque};

use super::blocking;
use super::buffer::Buffer;
use super::lease::{Kind, Lease};
use super::log;
use crate::error::{Error, Result};
use crate::layout::{RkDeadLetter, RkKernel, RkMessage, RkStatus};
use crate::limits::{DEAD_LETTER_BYTES_MAX, DEAD_LETTERS_MAX, LEASE_POSITION_BITS};
use crate::ring::{EventCount, Header};
use crate::sync::{AtomicU64, Mutex, Ordering, lock};

/// Letters of all runtimes that the application holds, by the number in their lease.
static VIEWED: Mutex<Option<HashMap<u64, Buffer>>> = Mutex::new(None);
static NEXT_VIEW: AtomicU64 = AtomicU64::new(1);

/// What a letter says besides its bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Letter {
    pub(crate) kernel: u64,
    pub(crate) block: u32,
    pub(crate) deadline_ns: u64,
    pub(crate) header: Header,
    pub(crate) reason: u32,
    pub(crate) status: RkStatus,
}

#[derive(Debug)]
struct Queue {
    letters: VecDeque<(Letter, Buffer)>,
    bytes: usize,
    /// The runtime is destroyed.
    closed: bool,
}

/// The dead letters of a runtime.
#[derive(Debug)]
pub(crate) struct DeadLetters {
    queue: Mutex<Queue>,
    arrived: EventCount,
    count: AtomicU64,
    dropped: AtomicU64,
}

impl DeadLetters {
    pub(crate) const fn new() -> Self {
        Self {
            queue: Mutex::new(Queue { letters: VecDeque::new(), bytes: 0, closed: false }),
            arrived: EventCount::new(),
            count: AtomicU64::new(0),
            dropped: AtomicU64::new(0),
        }
    }

    /// Letters ever, kept or dropped.
    pub(crate) fn count(&self) -> u64 {
        self.count.load(Ordering::Relaxed)
    }

    /// Letters that found the queue full.
    pub(crate) fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    /// The kernel and the status of the one that is next to be taken.
    pub(crate) fn first(&self) -> Option<(u64, RkStatus)> {
        lock(&self.queue).letters.front().map(|(letter, _)| (letter.kernel, letter.status))
    }

    /// Takes a letter in.
    pub(crate) fn push(&self, letter: Letter, payload: &[u8]) {
        self.count.fetch_add(1, Ordering::Relaxed);
        let mut queue = lock(&self.queue);
        let fits =
            queue.letters.len() < DEAD_LETTERS_MAX && queue.bytes + payload.len() <= DEAD_LETTER_BYTES_MAX;
        let copy = if fits { Buffer::copy_of(payload) } else { None };
        match copy {
            Some(copy) => {
                queue.bytes += payload.len();
                queue.letters.push_back((letter, copy));
                drop(queue);
                self.arrived.notify_all();
            }
            None => {
                drop(queue);
                if self.dropped.fetch_add(1, Ordering::Relaxed) == 0 {
                    let line = || "dead letters are dropped: nobody receives them".to_owned();
                    log::write(log::Level::Warn, line);
                }
            }
        }
    }

    /// Whether somebody waits for one.
    pub(crate) fn is_awaited(&self) -> bool {
        self.arrived.waiters() != 0
    }

    /// Nobody waits for letters any more.
    pub(crate) fn close(&self) {
        lock(&self.queue).closed = true;
        self.arrived.notify_all();
    }

    /// Takes the oldest letter out; a deadline of 0 does not wait. `None` when the time is over.
    pub(crate) fn take(&self, deadline_ns: u64) -> Option<Result<RkDeadLetter>> {
        blocking::wait(&self.arrived, deadline_ns, || {
            let mut queue = lock(&self.queue);
            if queue.closed {
                return Some(Err(Error::Shutdown));
            }
            let (letter, payload) = queue.letters.pop_front()?;
            queue.bytes -= payload.capacity();
            drop(queue);
            Some(Ok(view(&letter, payload)))
        })
    }
}

/// What the application gets of a letter.
fn view(letter: &Letter, payload: Buffer) -> RkDeadLetter {
    let number = NEXT_VIEW.fetch_add(1, Ordering::Relaxed) & ((1 << LEASE_POSITION_BITS) - 1);
    let header = &letter.header;
    let message = RkMessage {
        payload: payload.as_ptr_or_null().cast_const().cast(),
        payload_size: header.payload_size as usize,
        r#type: header.tag,
        block: letter.block,
        correlation: header.correlation,
        source: header.source,
        deadline_ns: letter.deadline_ns,
        timestamp: header.timestamp,
        lease: Lease { kind: Kind::DeadLetter, index: 0, position: number }.encode(),
    };
    lock(&VIEWED).get_or_insert_default().insert(number, payload);
    RkDeadLetter {
        message,
        kernel: RkKernel { id: letter.kernel },
        reason: letter.reason,
        status: letter.status,
    }
}

/// Gives the view of a letter back; false when it is not out (any more).
pub(crate) fn release(lease: Lease) -> bool {
    lock(&VIEWED).as_mut().is_some_and(|viewed| viewed.remove(&lease.position).is_some())
}
