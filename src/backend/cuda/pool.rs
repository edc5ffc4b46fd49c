//! A pool: one launch of a program, whose blocks are seats for blocks of kernels.
//!
//! A resident pool stays on the device for as long as it has tenants; a kernel that finds seats in one is launched
//! by a few stores. It ends with its last tenant: a device with nothing of ours on it is idle for everybody
//! else's synchronisation. A pool that is launched for each batch (`once`) has one kernel and ends by itself.
//!
//! # Starting
//! Everything is allocated and loaded before. The proof that the grid fits (the occupancy of this device, less what our
//! other pools hold) comes first, the cooperative launch asks the driver for the same, and then every block has
//! to count itself in within a time: other people's kernels may hold what is free by the proof. If not, all that
//! did start are told to leave.
//!
//! # Words
//! `control` has one writer, this side: the seat's commands (under the verbs lock of its kernel, or before and after there is
//! one), the pump's clock offsets, the outbox position of whoever is inside the gate. `status` is only read.
#![allow(unsafe_code)]

use std::ffi::c_void;

use super::device::{Device, Kind, Piece};
use super::driver::{NOT_READY, SUCCESS, TOO_LARGE};
use super::module::Module;
use super::streams::{Begun, Stream};
use crate::error::{CUDA_OUT_OF_MEMORY, Error, Result};
use crate::layout::{SEAT_LAYOUT, SEAT_SIZE, SLOT_HEADER_SIZE, SeatControl, SeatLaunch, SeatStatus};
use crate::sync::{
    Arc, AtomicBool, AtomicU64, LockGuard, Mutex, Ordering, Weak, lock, monotonic_ns, unix_ns,
};

/// What a seat is asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u64)]
pub(super) enum Verb {
    Vacant = 0,
    Pause = 1,
    Run = 2,
    Drain = 3,
    Stop = 4,
    Exit = 5,
    Save = 6,
    Load = 7,
}

/// Phases that a seat answers.
pub(super) const PAUSED: u64 = 2;
pub(super) const RUNNING: u64 = 3;
pub(super) const FAULT: u64 = 4;
pub(super) const DONE: u64 = 5;
pub(super) const GONE: u64 = 6;
pub(super) const RESTED: u64 = 7;
pub(super) const COPIED: u64 = 8;

/// Longest sleep between two looks: of a tenant that waits for messages, and of a vacant seat.
const BUSY_SLEEP_NS: u32 = 256;
const IDLE_SLEEP_NS: u32 = 20_000;
/// Time for all blocks to count themselves in.
const COUNT_IN_NS: u64 = 2_000_000_000;
/// Time for those that did to leave again.
const LEAVE_NS: u64 = 2_000_000_000;
/// A difference between the wall clock and the monotonic one that was not there before: somebody has set the wall clock.
const WALL_STEP_NS: u64 = 10_000_000;
/// Bytes before the control words.
const HEAD: usize = 256;

/// The resident pools of the process.
static RESIDENT: Mutex<Vec<Weak<Pool>>> = Mutex::new(Vec::new());

/// Keeps resident pools from being launched, until it is dropped.
pub(super) struct HeldLaunches {
    _resident: LockGuard<'static, Vec<Weak<Pool>>>,
    /// After the lock: with its last pool a device is closed, and that comes here, too.
    pools: Vec<Arc<Pool>>,
}

/// Keeps resident pools from being launched; `None`: one is there that is not about to leave, or a handler that does not end.
pub(super) fn hold_launches(device: &Device) -> Option<HeldLaunches> {
    let is_held = device.enter().map_or(true, |_current| device.streams.are_kept());
    if is_held {
        return None;
    }
    let resident = lock(&RESIDENT);
    // One that is about to leave does so; one with a block that never ends does not.
    let stays = |pool: &Pool| {
        !pool.is_closing() || pool.is_stuck.load(Ordering::SeqCst) && !matches!(pool.query(), Ok(true))
    };
    let is_in_the_way = |pool: &Arc<Pool>| pool.device().is_same(device) && stays(pool);
    let pools: Vec<_> = resident.iter().filter_map(Weak::upgrade).collect();
    let held = HeldLaunches { _resident: resident, pools };
    (!held.pools.iter().any(is_in_the_way)).then_some(held)
}

/// What a pool is made for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Shape {
    pub(super) threads: u32,
    pub(super) shared: u32,
    /// Launched for each batch.
    pub(super) once: bool,
}

/// Where the pool's launch goes.
#[derive(Debug)]
struct Line {
    /// Of a resident pool: until its end was seen. Else: from `begin` on until the launch was seen to have ended.
    stream: Option<Stream>,
    is_launched: bool,
    /// Of the launch: who has asked the driver about an earlier one has learnt nothing of this one.
    number: u64,
    /// The stream is known as kept by a handler that hangs, by this number.
    kept: Option<u64>,
}

#[derive(Debug)]
struct Seats {
    taken: Vec<bool>,
    tenants: u32,
    closing: bool,
}

/// See the file's head.
#[derive(Debug)]
pub(super) struct Pool {
    pub(super) module: Arc<Module>,
    pub(super) shape: Shape,
    pub(super) count: u32,
    /// Blocks of this shape that fit on one multiprocessor.
    pub(super) per_multiprocessor: u32,
    words: Piece,
    records: Piece,
    line: Mutex<Line>,
    numbers: Vec<AtomicU64>,
    seats: Mutex<Seats>,
    /// A block of it does not come to an end ([`Pool::be_stuck`]).
    pub(super) is_stuck: AtomicBool,
    /// CLOCK_MONOTONIC minus the device's timer, the least that was seen.
    offset: AtomicU64,
    offset_at: AtomicU64,
    /// Time since the Unix epoch minus the device's timer, as the seats know it.
    unix_offset: AtomicU64,
    /// What each seat said of its timer when it was looked at last.
    timers: Vec<AtomicU64>,
    /// When it was launched last, CLOCK_MONOTONIC.
    launched_at: AtomicU64,
    launched_since: AtomicU64,
}

// SAFETY: the stream is a handle of the driver, which any thread may use.
unsafe impl Send for Pool {}
// SAFETY: as above.
unsafe impl Sync for Pool {}

impl Pool {
    /// Allocates what a pool needs; nothing runs yet.
    pub(super) fn new(
        module: &Arc<Module>,
        shape: Shape,
        count: u32,
        per_multiprocessor: u32,
    ) -> Result<Arc<Self>> {
        let device = &module.device;
        let seats = count as usize;
        let words = device
            .allocate(Kind::Mapped, HEAD + seats * (size_of::<SeatControl>() + size_of::<SeatStatus>()))?;
        let records = device.allocate(Kind::Seats, seats * SEAT_SIZE)?;
        let controls = words.device + HEAD as u64;
        let launch = SeatLaunch {
            controls,
            statuses: controls + (seats * size_of::<SeatControl>()) as u64,
            seats: records.device,
            count,
            once: u32::from(shape.once),
            busy_sleep_ns: BUSY_SLEEP_NS,
            idle_sleep_ns: IDLE_SLEEP_NS,
            layout: SEAT_LAYOUT,
            fresh: 1,
            ..SeatLaunch::default()
        };
        // SAFETY: the head of the piece is ours and large enough.
        unsafe { words.host().cast::<SeatLaunch>().write(launch) };
        let stream = match shape.once {
            true => None,
            false => Some(device.streams.take_resident().ok_or_else(|| {
                let most = device.streams.of_a_kind();
                let why = format!(
                    "RK_CUDA_STREAMS allows {most} resident pools, each of one program, block size and size \
                     of shared memory, and there are as many"
                );
                Error::NotResident { kernel: Arc::clone(&module.name), asked: count, why: why.into() }
            })?),
        };
        Ok(Arc::new(Self {
            module: Arc::clone(module),
            shape,
            count,
            per_multiprocessor,
            words,
            records,
            line: Mutex::new(Line { stream, is_launched: stream.is_some(), number: 0, kept: None }),
            numbers: (0..count).map(|_| AtomicU64::new(0)).collect(),
            seats: Mutex::new(Seats { taken: vec![false; seats], tenants: 0, closing: false }),
            is_stuck: AtomicBool::new(false),
            offset: AtomicU64::new(u64::MAX),
            offset_at: AtomicU64::new(0),
            unix_offset: AtomicU64::new(0),
            timers: (0..count).map(|_| AtomicU64::new(0)).collect(),
            launched_at: AtomicU64::new(0),
            launched_since: AtomicU64::new(0),
        }))
    }

    pub(super) fn device(&self) -> &Arc<Device> {
        &self.module.device
    }

    /// Device address of a seat's record.
    pub(super) fn record(&self, seat: u32) -> u64 {
        self.records.device + u64::from(seat) * SEAT_SIZE as u64
    }

    fn word(&self, offset: usize) -> &AtomicU64 {
        debug_assert!(offset + 8 <= self.words.size());
        // SAFETY: inside the piece, aligned, only ever used as an atomic by this side.
        unsafe { AtomicU64::from_ptr(self.words.host().as_ptr().add(offset).cast()) }
    }

    /// A word of a seat's control.
    pub(super) fn control(&self, seat: u32, field: usize) -> &AtomicU64 {
        self.word(HEAD + seat as usize * size_of::<SeatControl>() + field)
    }

    /// A word of a seat's status.
    pub(super) fn status(&self, seat: u32, field: usize) -> &AtomicU64 {
        let statuses = HEAD + self.count as usize * size_of::<SeatControl>();
        self.word(statuses + seat as usize * size_of::<SeatStatus>() + field)
    }

    /// Asks something of a seat; the number of the command. What goes with it was stored before.
    pub(super) fn post(&self, seat: u32, verb: Verb) -> u64 {
        let number = self.numbers[seat as usize].fetch_add(1, Ordering::Relaxed) + 1;
        let word = number << 32 | verb as u64;
        self.control(seat, std::mem::offset_of!(SeatControl, command)).store(word, Ordering::Release);
        number
    }

    /// Number and phase of a seat's last answer.
    pub(super) fn ack(&self, seat: u32) -> (u64, u64) {
        let word = self.status(seat, std::mem::offset_of!(SeatStatus, ack)).load(Ordering::Acquire);
        (word >> 32, word & 0xff)
    }

    /// Seats beside each other, or none.
    pub(super) fn take(&self, grid: u32) -> Option<u32> {
        let mut seats = lock(&self.seats);
        if seats.closing || self.is_stuck.load(Ordering::Relaxed) {
            return None;
        }
        let grid = grid as usize;
        let first = seats.taken.windows(grid).position(|window| !window.contains(&true))?;
        seats.taken[first..first + grid].fill(true);
        seats.tenants += 1;
        Some(first as u32)
    }

    /// Gives seats back whose tenants have ended; the last ones end a resident pool.
    pub(super) fn vacate(&self, first: u32, grid: u32) {
        let mut seats = lock(&self.seats);
        for seat in first..first + grid {
            self.post(seat, Verb::Vacant);
            seats.taken[seat as usize] = false;
        }
        seats.tenants -= 1;
        if seats.tenants == 0 {
            seats.closing = true;
            drop(seats);
            self.dismiss();
        }
    }

    /// Whether it is to end, or has.
    pub(super) fn is_closing(&self) -> bool {
        lock(&self.seats).closing
    }

    /// Tells every seat to leave.
    pub(super) fn dismiss(&self) {
        lock(&self.seats).closing = true;
        for seat in 0..self.count {
            self.post(seat, Verb::Exit);
        }
    }

    /// What it launched does not come to an end: nobody uses what it has, ever.
    pub(super) fn be_stuck(&self) {
        self.is_stuck.store(true, Ordering::SeqCst);
        self.keep_stream(&mut lock(&self.line));
    }

    fn keep_stream(&self, line: &mut Line) {
        if let Some(stream) = line.stream.filter(|_| line.is_launched && line.kept.is_none()) {
            line.kept = Some(self.device().streams.keep(stream, self.shape.once));
        }
    }

    /// Of a pool that is launched for each batch: when its launch was made, CLOCK_MONOTONIC; 0: there is none.
    pub(super) fn launched_since(&self) -> u64 {
        self.launched_since.load(Ordering::SeqCst)
    }

    /// Of a pool that is launched for each batch: whether it may be launched now; then it is, or `end`ed. One thread at a time.
    pub(super) fn begin(&self, is_first: bool) -> Begun {
        let streams = &self.device().streams;
        if streams.may_have_come_back(monotonic_ns())
            && let Ok(_current) = self.device().enter()
        {
            // A handler that was called hung may have come to its end.
            streams.are_kept();
        }
        let mut line = lock(&self.line);
        debug_assert!(self.shape.once && line.stream.is_none());
        let (begun, stream) = self.device().streams.take_short(is_first);
        (line.stream, line.is_launched) = (stream, false);
        line.number += 1;
        begun
    }

    /// What was begun is not there any more, or never was.
    pub(super) fn end(&self) {
        self.end_line(&mut lock(&self.line));
    }

    fn end_line(&self, line: &mut Line) {
        let streams = &self.device().streams;
        if let Some(stream) = line.stream.take() {
            self.launched_since.store(0, Ordering::SeqCst);
            match line.kept.take() {
                Some(number) => streams.keep_no_more(number),
                None => streams.give_back(stream, self.shape.once),
            }
        }
    }

    /// Starts the grid; one that is launched for each batch after `begin`.
    pub(super) fn launch(self: &Arc<Self>) -> Result<()> {
        let launched = self.launch_grid();
        if self.shape.once {
            match launched {
                Ok(()) => {
                    let mut line = lock(&self.line);
                    line.is_launched = true;
                    // From now on: before, the driver may have waited for others.
                    self.launched_since.store(monotonic_ns(), Ordering::SeqCst);
                    if self.is_stuck.load(Ordering::SeqCst) {
                        self.keep_stream(&mut line);
                    }
                }
                Err(_) => self.end(),
            }
        }
        launched
    }

    fn launch_grid(self: &Arc<Self>) -> Result<()> {
        let device = self.device();
        // Not while code is loaded, here or by another runtime: the driver loads it when the device is idle.
        let _not_loading = (!self.shape.once).then(|| {
            let mut resident = lock(&RESIDENT);
            resident.retain(|pool| pool.strong_count() > 0);
            resident.push(Arc::downgrade(self));
            resident
        });
        let api = device.api;
        let _current = device.enter()?;
        let mut parameter = self.words.device;
        let mut parameters = [(&raw mut parameter).cast::<c_void>()];
        let missing = Error::Internal { what: "a launch has no stream" };
        let (function, Stream(stream)) = (self.module.function, lock(&self.line).stream.ok_or(missing)?);
        let Shape { threads, shared, once } = self.shape;
        let cooperative = api.launch_cooperative.filter(|_| device.is_cooperative && !once);
        self.launched_at.store(monotonic_ns(), Ordering::Relaxed);
        // SAFETY: one parameter of 8 bytes, as the entry has it; the driver copies it.
        let code = unsafe {
            match cooperative {
                Some(launch) => {
                    launch(function, self.count, 1, 1, threads, 1, 1, shared, stream, parameters.as_mut_ptr())
                }
                None => (api.launch)(
                    function,
                    self.count,
                    1,
                    1,
                    threads,
                    1,
                    1,
                    shared,
                    stream,
                    parameters.as_mut_ptr(),
                    std::ptr::null_mut(),
                ),
            }
        };
        let what = if cooperative.is_some() { "cuLaunchCooperativeKernel" } else { "cuLaunchKernel" };
        api.check(what, code)
    }

    /// The records hold something from now on.
    pub(super) fn is_used(&self) {
        // SAFETY: the head of the piece is ours; nothing of the pool runs when this is called.
        unsafe { (&raw mut (*self.words.host().cast::<SeatLaunch>().as_ptr()).fresh).write_volatile(0) };
    }

    /// Blocks that have started.
    fn counted_in(&self) -> u32 {
        let expected = u64::from(SEAT_LAYOUT) << 32 | SLOT_HEADER_SIZE as u64;
        let version = std::mem::offset_of!(SeatStatus, version);
        (0..self.count).filter(|seat| self.status(*seat, version).load(Ordering::Acquire) == expected).count()
            as u32
    }

    /// Waits until every block has started.
    pub(super) fn count_in(&self) -> Result<()> {
        let (start, mut asked) = (monotonic_ns(), 0);
        loop {
            let started = self.counted_in();
            let now = monotonic_ns();
            self.calibrate(now);
            if started == self.count {
                return Ok(());
            }
            if now - asked > 10_000_000 {
                asked = now;
                let ended = self.query().inspect_err(|_| {
                    self.be_stuck();
                    self.device().leak();
                })?;
                match ended {
                    // A pool that has ended before it counted in has another layout.
                    true if self.counted_in() < self.count => {
                        let log = "it was compiled with another version of ringkernel_device.cuh".into();
                        return Err(Error::Compile { program: Arc::clone(&self.module.name), log, code: 0 });
                    }
                    _ => {}
                }
            }
            if now - start > COUNT_IN_NS {
                self.dismiss();
                if !self.await_end(LEAVE_NS) {
                    self.be_stuck();
                    self.device().leak();
                }
                let why = format!("{started} of {} blocks have started", self.count).into();
                return Err(Error::NotResident {
                    kernel: Arc::clone(&self.module.name),
                    asked: self.count,
                    why,
                });
            }
            crate::sync::yield_now();
        }
    }

    /// Whether what it launched has ended; an error: the device is lost. A code that says nothing of the device
    /// (no memory, a capture of the application's) counts as "it runs".
    pub(super) fn query(&self) -> Result<bool> {
        let (stream, number) = match &*lock(&self.line) {
            Line { stream: None, .. } => return Ok(true),
            Line { is_launched: false, .. } => return Ok(false),
            Line { stream: Some(stream), number, .. } => (*stream, *number),
        };
        let has_ended = self.ask_driver(stream)?;
        if has_ended && self.shape.once {
            let mut line = lock(&self.line);
            if line.number == number {
                self.end_line(&mut line);
            }
        }
        Ok(has_ended)
    }

    /// Whether the device is well: an error, if it is lost.
    pub(super) fn check_device(&self) -> Result<()> {
        self.ask_driver(self.device().streams.any()).map(drop)
    }

    fn ask_driver(&self, stream: Stream) -> Result<bool> {
        let api = self.device().api;
        let _current = match self.device().enter() {
            Ok(current) => current,
            Err(Error::Cuda { code, .. }) if is_passing(code) => return Ok(false),
            Err(error) => return Err(error),
        };
        // SAFETY: a live stream.
        match unsafe { (api.stream_query)(stream.0) } {
            SUCCESS => Ok(true),
            NOT_READY => Ok(false),
            code if is_passing(code) => Ok(false),
            code => Err(api.error("a kernel on the device", code)),
        }
    }

    /// Waits for the end; false when the time is over, or the device is lost: nobody knows what it still does.
    pub(super) fn await_end(&self, timeout_ns: u64) -> bool {
        let deadline = monotonic_ns().saturating_add(timeout_ns);
        loop {
            match self.query() {
                Ok(true) => return true,
                Err(_) => return false,
                Ok(false) => {}
            }
            if monotonic_ns() > deadline {
                return false;
            }
            std::thread::sleep(std::time::Duration::from_micros(50));
        }
    }

    /// Compares the clocks and tells the seats. What a seat says of its timer is older when it is read, so the least
    /// difference is the truest; it may rise by 100 parts in a million, as far apart as two clocks run. A seat that has said
    /// nothing new is not asked. A short launch says it once, at its begin, which was after the launch: so the difference
    /// lies between two bounds, and is only moved into them; for those this is called when a launch has begun or ended, before
    /// the next. One thread at a time.
    pub(super) fn calibrate(&self, now: u64) {
        let timer = std::mem::offset_of!(SeatStatus, timer);
        let before = self.offset.load(Ordering::Relaxed);
        let launched = self.launched_at.load(Ordering::Relaxed);
        let (mut least, mut low) = (None::<i64>, i64::MIN);
        for (seat, last) in (0..self.count).zip(&self.timers) {
            let timer = self.status(seat, timer).load(Ordering::Relaxed);
            if timer == 0 || last.swap(timer, Ordering::Relaxed) == timer {
                continue;
            }
            let difference = now.wrapping_sub(timer) as i64;
            least = Some(least.map_or(difference, |least| least.min(difference)));
            low = low.max(launched.wrapping_sub(timer) as i64);
        }
        let Some(least) = least else { return };
        let since = now.saturating_sub(self.offset_at.load(Ordering::Relaxed));
        let most = match before {
            u64::MAX => i64::MAX,
            before if self.shape.once => (before as i64).max(low),
            before => (before as i64).saturating_add((since / 10_000) as i64),
        };
        let least = least.min(most) as u64;
        self.offset_at.store(now, Ordering::Relaxed);
        let unix = unix_ns().wrapping_sub(monotonic_ns()).wrapping_add(least);
        // The wall clock may have been set. Between the two readings of clocks may be an interruption, which is no news.
        let moved = unix.wrapping_sub(self.unix_offset.load(Ordering::Relaxed)) as i64;
        if least == before && moved.unsigned_abs() < WALL_STEP_NS {
            return;
        }
        self.offset.store(least, Ordering::Relaxed);
        self.unix_offset.store(unix, Ordering::Relaxed);
        for seat in 0..self.count {
            self.control(seat, std::mem::offset_of!(SeatControl, clock_offset))
                .store(least, Ordering::Relaxed);
            self.control(seat, std::mem::offset_of!(SeatControl, unix_offset)).store(unix, Ordering::Relaxed);
        }
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        // What it launched has ended, or it is stuck.
        if !self.is_stuck.load(Ordering::Relaxed) {
            self.end();
        }
    }
}

/// CUDA_ERROR_OUT_OF_MEMORY, and what the driver answers while the application captures a stream: these say nothing of the
/// device.
fn is_passing(code: u32) -> bool {
    code == CUDA_OUT_OF_MEMORY || (900..=908).contains(&code)
}

/// Whether an error of a launch says that the grid is too large.
pub(super) fn is_too_large(error: &Error) -> bool {
    matches!(error, Error::Cuda { code: TOO_LARGE, .. })
}
