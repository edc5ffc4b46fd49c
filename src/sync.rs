//! Atomics, fences, futexes and locks: the real ones, or loom's when a model is checked.
//!
//! No other file names `core::sync::atomic`. Under `cfg(rk_loom)` (set by `tests/loom` only) the same
//! names come from loom, and each labelled ordering can be weakened at run time, so that a model can show
//! that it is needed.
//!
//! # Asymmetric fences
//! [`light_fence`] and [`heavy_fence`] together are a Dekker pair: if one thread does `store A; light_fence;
//! load B` and another `store B; heavy_fence; load A`, at least one sees the other's store. The light side is
//! a compiler barrier, the heavy side `membarrier(PRIVATE_EXPEDITED)`, which makes every running thread of
//! the process pass a full fence (Linux, membarrier(2)). Where the system call is missing both sides are
//! full fences. The choice is made once, before the first object exists that could be reached by two
//! threads. For loom both are `fence(SeqCst)`, which is what the pair is equivalent to.

#[cfg(not(rk_loom))]
pub(crate) use real::*;

#[cfg(rk_loom)]
pub(crate) use model::*;

/// The labelled orderings of the lock-free code; `tests/loom` weakens each and must see a failure.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u32)]
pub(crate) enum Label {
    /// Ring: a sender reads `turn` (Acquire, pairs with R2).
    W1 = 1,
    /// Ring: a sender stores `turn`, published (Release, pairs with R1).
    W3 = 3,
    /// Ring: a sender reads `head` (Acquire, pairs with R3).
    W4 = 4,
    /// Ring: a sender reads what senders have seen of `head` (Acquire, pairs with W6).
    W5 = 2,
    /// Ring: a sender notes what it has seen of `head` (Release, pairs with W5).
    W6 = 20,
    /// Ring: the fence between the only sender's claim and its look for a close (light, pairs with W8).
    W7 = 28,
    /// Ring: the fence between a close and its look at the only sender's claim (heavy, pairs with W7).
    W8 = 29,
    /// Ring: a receiver reads `turn` (Acquire, pairs with W3).
    R1 = 5,
    /// Ring: a receiver stores `turn`, released (Release, pairs with W1).
    R2 = 6,
    /// Ring: the single receiver stores `head` (Release, pairs with W4).
    R3 = 7,
    /// Ring: a ring gets its slots back (Release, pairs with P2).
    P1 = 30,
    /// Ring: reading where the slots are (Acquire, pairs with P1).
    P2 = 31,
    /// Ring: claims are let in again (Release, pairs with P4).
    P3 = 32,
    /// Ring: a claim (Acquire, pairs with P3).
    P4 = 33,
    /// Ring: one of many receivers moves `head` (Release, pairs with W9).
    R4 = 34,
    /// Ring: a sender who finds a slot without a turn reads `head` (Acquire, pairs with R4).
    W9 = 35,
    /// Gate: entering (Acquire, pairs with G2).
    G1 = 8,
    /// Gate: leaving (Release, pairs with G1).
    G2 = 9,
    /// Gate: the fence between publishing a message and reading the gate (SeqCst, pairs with G4).
    G3 = 10,
    /// Gate: the fence between leaving and looking for messages again (SeqCst, pairs with G3).
    G4 = 11,
    /// Hazard: the fence between naming a pointer and reading its source again (light, pairs with H2).
    H1 = 12,
    /// Hazard: the fence between unlinking a pointer and looking for its name (heavy, pairs with H1).
    H2 = 13,
    /// Hazard: the name is taken away (Release, pairs with H4).
    H3 = 14,
    /// Hazard: a name is read before freeing (Acquire, pairs with H3).
    H4 = 15,
    /// Hazard: the fence between letting go and looking for what was retired meanwhile (light, pairs with H6).
    H5 = 26,
    /// Hazard: the fence between adding to what was retired and looking who holds it (heavy, pairs with H5).
    H6 = 27,
    /// Call: the reply is complete (Release, pairs with C2).
    C1 = 16,
    /// Call: the caller sees it (Acquire, pairs with C1).
    C2 = 17,
    /// Event count: the fence between a change and reading the waiters (light, pairs with E2).
    E1 = 18,
    /// Event count: the fence between becoming a waiter and looking again (heavy, pairs with E1).
    E2 = 19,
    /// Gate: the fence between entering and reading the state (SeqCst, pairs with G6).
    G5 = 22,
    /// Gate: the fence between changing the state and looking who runs (SeqCst, pairs with G5).
    G6 = 23,
    /// Gate: the fence between publishing a message and reading whether the gate is light (light, pairs with G4 and G8).
    G7 = 24,
    /// Gate: the fence between "no longer light" and everything after (heavy, pairs with G7).
    G8 = 25,
}

/// Time as a simulation wants it, on the thread that runs it.
#[cfg(all(test, not(rk_loom)))]
pub(crate) mod virtual_time {
    use std::cell::Cell;

    thread_local! {
        static NOW_NS: Cell<Option<u64>> = const { Cell::new(None) };
    }

    /// Sets the time of this thread; `None`: the system's again.
    pub(crate) fn set(now_ns: Option<u64>) {
        NOW_NS.set(now_ns);
    }

    pub(super) fn now_ns() -> Option<u64> {
        NOW_NS.get()
    }
}

#[cfg(not(rk_loom))]
mod real {
    #![allow(unsafe_code)]
    pub(crate) use core::sync::atomic::{
        AtomicBool, AtomicI32, AtomicPtr, AtomicU8, AtomicU32, AtomicU64, Ordering, fence,
    };
    pub(crate) use std::sync::{Arc, Mutex, RwLock, Weak};

    use core::sync::atomic::compiler_fence;

    use super::Label;

    #[cfg(not(all(target_os = "linux", target_endian = "little", target_pointer_width = "64")))]
    compile_error!("libringkernel is for 64-bit little-endian Linux");

    /// The ordering of a label.
    #[inline(always)]
    pub(crate) const fn order(_label: Label, ordering: Ordering) -> Ordering {
        ordering
    }

    /// A labelled full fence.
    #[inline(always)]
    pub(crate) fn full_fence(_label: Label) {
        // A locked instruction is a full fence, and takes half the time of MFENCE.
        #[cfg(target_arch = "x86_64")]
        // SAFETY: changes nothing but flags.
        unsafe {
            core::arch::asm!("lock or dword ptr [rsp], 0");
        }
        #[cfg(not(target_arch = "x86_64"))]
        fence(Ordering::SeqCst);
    }

    /// Whether a read-modify-write is a full fence by itself, on both its sides.
    pub(crate) const RMW_IS_FENCE: bool = cfg!(target_arch = "x86_64");

    /// Keeps the compiler from moving anything over it.
    #[inline(always)]
    pub(crate) fn compiler_only_fence() {
        compiler_fence(Ordering::SeqCst);
    }

    /// Orders what this thread did before it for who acquires what it stores after it.
    #[inline(always)]
    pub(crate) fn release_fence() {
        fence(Ordering::Release);
    }

    /// A full fence right after a SeqCst read-modify-write, which on x86-64 is one already.
    #[inline(always)]
    pub(crate) fn fence_after_rmw(_label: Label) {
        if cfg!(target_arch = "x86_64") {
            compiler_fence(Ordering::SeqCst);
        } else {
            fence(Ordering::SeqCst);
        }
    }

    static ASYMMETRIC: AtomicBool = AtomicBool::new(false);

    /// Registers for the expedited barrier; called before the first runtime exists.
    pub(crate) fn prepare_fences() {
        // SAFETY: membarrier takes three integers and touches no memory of ours.
        let registered = unsafe {
            libc::syscall(libc::SYS_membarrier, libc::MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED, 0, 0)
        };
        ASYMMETRIC.store(registered == 0, Ordering::SeqCst);
    }

    /// The cheap side of the pair.
    #[inline(always)]
    pub(crate) fn light_fence(_label: Label) {
        if ASYMMETRIC.load(Ordering::Relaxed) {
            compiler_fence(Ordering::SeqCst);
        } else {
            fence(Ordering::SeqCst);
        }
    }

    /// The dear side of the pair.
    pub(crate) fn heavy_fence(_label: Label) {
        fence(Ordering::SeqCst);
        if ASYMMETRIC.load(Ordering::SeqCst) {
            // SAFETY: as in `prepare_fences`.
            let done =
                unsafe { libc::syscall(libc::SYS_membarrier, libc::MEMBARRIER_CMD_PRIVATE_EXPEDITED, 0, 0) };
            // A registered process cannot be refused; going on without the barrier would be unsound.
            assert!(done == 0, "membarrier was refused after it was granted");
            fence(Ordering::SeqCst);
        }
    }

    /// Fetches a cache line for writing; any address will do.
    #[inline(always)]
    pub(crate) fn prefetch_for_write(address: *const u8) {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: a prefetch of any address has no effect but on caches; a 64-bit processor that does not know this one does
        // nothing. (The intrinsic makes it a prefetch for reading where the target's features do not name it.)
        unsafe {
            core::arch::asm!("prefetchw [{}]", in(reg) address, options(nostack, preserves_flags, readonly));
        }
        #[cfg(not(target_arch = "x86_64"))]
        let _ = address;
    }

    /// Fetches a cache line for reading; any address will do.
    #[inline(always)]
    pub(crate) fn prefetch(address: *const u8) {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: a prefetch of any address has no effect but on caches.
        unsafe {
            core::arch::x86_64::_mm_prefetch::<{ core::arch::x86_64::_MM_HINT_T0 }>(address.cast());
        }
        #[cfg(not(target_arch = "x86_64"))]
        let _ = address;
    }

    /// One turn of a wait that expects to be short.
    #[inline(always)]
    pub(crate) fn spin_loop() {
        core::hint::spin_loop();
    }

    /// Gives the CPU to another thread that can run.
    pub(crate) fn yield_now() {
        std::thread::yield_now();
    }

    /// Now on CLOCK_MONOTONIC, nanoseconds.
    pub(crate) fn monotonic_ns() -> u64 {
        #[cfg(test)]
        if let Some(now_ns) = super::virtual_time::now_ns() {
            return now_ns;
        }
        clock_ns(libc::CLOCK_MONOTONIC)
    }

    /// Now on CLOCK_MONOTONIC_COARSE: a few milliseconds off, and several times cheaper.
    pub(crate) fn monotonic_coarse_ns() -> u64 {
        clock_ns(libc::CLOCK_MONOTONIC_COARSE)
    }

    /// Now on CLOCK_REALTIME_COARSE, nanoseconds since the Unix epoch: a few milliseconds off, and several times cheaper.
    pub(crate) fn unix_coarse_ns() -> u64 {
        clock_ns(libc::CLOCK_REALTIME_COARSE)
    }

    /// Now on CLOCK_REALTIME, nanoseconds since the Unix epoch.
    pub(crate) fn unix_ns() -> u64 {
        clock_ns(libc::CLOCK_REALTIME)
    }

    fn clock_ns(clock: libc::clockid_t) -> u64 {
        let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        // SAFETY: `time` is a timespec that the call fills; the clocks named above exist on every Linux.
        unsafe { libc::clock_gettime(clock, &mut time) };
        time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
    }

    /// Sleeps until `word` is woken or `deadline_ns` (monotonic; u64::MAX = never) has come; returns at once
    /// when the word is not `expected`. False: the time is over.
    fn futex_wait(word: *const u32, expected: u32, deadline_ns: u64) -> bool {
        let limit = libc::timespec {
            tv_sec: (deadline_ns / 1_000_000_000) as libc::time_t,
            tv_nsec: (deadline_ns % 1_000_000_000) as libc::c_long,
        };
        let limit = if deadline_ns == u64::MAX { core::ptr::null() } else { &raw const limit };
        // SAFETY: `word` is a live 4-byte aligned atomic of the caller; the time is NULL or a timespec.
        // WAIT_BITSET takes an absolute time on CLOCK_MONOTONIC.
        let result = unsafe {
            libc::syscall(
                libc::SYS_futex,
                word,
                libc::FUTEX_WAIT_BITSET | libc::FUTEX_PRIVATE_FLAG,
                expected,
                limit,
                core::ptr::null::<u32>(),
                u32::MAX,
            )
        };
        // SAFETY: errno is this thread's own.
        result == 0 || unsafe { *libc::__errno_location() } != libc::ETIMEDOUT
    }

    fn futex_wake(word: *const u32, count: i32) {
        // SAFETY: the kernel only looks the address up.
        unsafe {
            libc::syscall(libc::SYS_futex, word, libc::FUTEX_WAKE | libc::FUTEX_PRIVATE_FLAG, count);
        }
    }

    /// Memory that a protocol of ours guards; loom checks the protocol through the same two functions.
    #[derive(Debug)]
    pub(crate) struct Guarded<T>(core::cell::UnsafeCell<T>);

    // SAFETY: whoever uses the pointers promises exclusion; the value itself moves between threads.
    unsafe impl<T: Send> Sync for Guarded<T> {}

    impl<T> Guarded<T> {
        pub(crate) const fn new(value: T) -> Self {
            Self(core::cell::UnsafeCell::new(value))
        }

        /// Reads: nobody writes meanwhile.
        #[inline(always)]
        pub(crate) fn with<R>(&self, body: impl FnOnce(*const T) -> R) -> R {
            body(self.0.get())
        }

        /// Writes: nobody else reads or writes meanwhile.
        #[inline(always)]
        pub(crate) fn with_mut<R>(&self, body: impl FnOnce(*mut T) -> R) -> R {
            body(self.0.get())
        }
    }

    /// An atomic word that threads can sleep on.
    #[derive(Debug)]
    #[repr(transparent)]
    pub(crate) struct Futex(AtomicU32);

    impl Futex {
        pub(crate) const fn new(value: u32) -> Self {
            Self(AtomicU32::new(value))
        }

        /// Sleeps while the word is `expected`; false once the deadline has passed.
        pub(crate) fn wait(&self, expected: u32, deadline_ns: u64) -> bool {
            futex_wait(self.0.as_ptr(), expected, deadline_ns)
        }

        /// Wakes up to `count` sleepers.
        pub(crate) fn wake(&self, count: i32) {
            futex_wake(self.0.as_ptr(), count);
        }
    }

    impl core::ops::Deref for Futex {
        type Target = AtomicU32;
        fn deref(&self) -> &AtomicU32 {
            &self.0
        }
    }

    /// A 64-bit atomic whose low half threads can sleep on.
    #[derive(Debug)]
    #[repr(transparent)]
    pub(crate) struct Futex64(AtomicU64);

    impl Futex64 {
        pub(crate) const fn new(value: u64) -> Self {
            Self(AtomicU64::new(value))
        }

        /// Sleeps while the low half is that of `expected`; false once the deadline has passed.
        pub(crate) fn wait(&self, expected: u64, deadline_ns: u64) -> bool {
            // Little-endian: the low half comes first.
            futex_wait(self.0.as_ptr().cast::<u32>(), expected as u32, deadline_ns)
        }

        /// Wakes up to `count` sleepers.
        pub(crate) fn wake(&self, count: i32) {
            futex_wake(self.0.as_ptr().cast::<u32>(), count);
        }
    }

    impl core::ops::Deref for Futex64 {
        type Target = AtomicU64;
        fn deref(&self) -> &AtomicU64 {
            &self.0
        }
    }
}

#[cfg(rk_loom)]
mod model {
    pub(crate) const RMW_IS_FENCE: bool = false;

    pub(crate) fn compiler_only_fence() {}

    pub(crate) fn release_fence() {
        loom::sync::atomic::fence(Ordering::Release);
    }

    pub(crate) use core::sync::atomic::Ordering;
    pub(crate) use loom::sync::atomic::{AtomicBool, AtomicPtr, AtomicU32, AtomicU64};
    pub(crate) use loom::sync::{Arc, Condvar, Mutex};

    use super::Label;

    /// The label that is weakened in this run, 0 = none. Not part of the model: a plain std atomic.
    static MUTANT: core::sync::atomic::AtomicU32 = core::sync::atomic::AtomicU32::new(0);

    /// Weakens a label for the models that follow.
    pub(crate) fn weaken(label: Option<Label>) {
        MUTANT.store(label.map_or(0, |label| label as u32), Ordering::SeqCst);
    }

    fn is_weak(label: Label) -> bool {
        MUTANT.load(Ordering::SeqCst) == label as u32
    }

    pub(crate) fn order(label: Label, ordering: Ordering) -> Ordering {
        if is_weak(label) { Ordering::Relaxed } else { ordering }
    }

    pub(crate) fn full_fence(label: Label) {
        if !is_weak(label) {
            loom::sync::atomic::fence(Ordering::SeqCst);
        }
    }

    pub(crate) use full_fence as fence_after_rmw;
    pub(crate) use full_fence as heavy_fence;
    pub(crate) use full_fence as light_fence;

    pub(crate) fn spin_loop() {
        loom::thread::yield_now();
    }

    pub(crate) fn yield_now() {
        loom::thread::yield_now();
    }

    /// Loom has no time: only the deadlines "at once" and "never" make sense in a model.
    pub(crate) fn monotonic_ns() -> u64 {
        0
    }

    pub(crate) use loom::cell::UnsafeCell as Guarded;

    macro_rules! futex {
        ($name:ident, $atomic:ident, $value:ty, $half:ty) => {
            /// A futex as a mutex and a condition variable without spurious wake-ups, so that a lost wake-up
            /// is a deadlock that loom reports.
            #[derive(Debug)]
            pub(crate) struct $name {
                word: $atomic,
                lock: Mutex<()>,
                sleepers: Condvar,
            }

            impl $name {
                pub(crate) fn new(value: $value) -> Self {
                    Self { word: $atomic::new(value), lock: Mutex::new(()), sleepers: Condvar::new() }
                }

                pub(crate) fn wait(&self, expected: $value, _deadline_ns: u64) -> bool {
                    let guard = self.lock.lock().expect("no panics under this lock");
                    // The kernel compares under its own lock, after a full barrier.
                    if self.word.load(Ordering::SeqCst) as $half == expected as $half {
                        drop(self.sleepers.wait(guard).expect("no panics under this lock"));
                    }
                    true
                }

                pub(crate) fn wake(&self, _count: i32) {
                    drop(self.lock.lock().expect("no panics under this lock"));
                    self.sleepers.notify_all();
                }
            }

            impl core::ops::Deref for $name {
                type Target = $atomic;
                fn deref(&self) -> &$atomic {
                    &self.word
                }
            }
        };
    }

    futex!(Futex, AtomicU32, u32, u32);
    futex!(Futex64, AtomicU64, u64, u32);
}

/// Locks; a lock whose holder panicked stays poisoned, and everything behind it answers with a panic that the
/// boundary turns into `RK_ERR_PANIC`.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> LockGuard<'_, T> {
    mutex.lock().expect("an earlier panic left this object in an unknown state")
}

#[cfg(not(rk_loom))]
pub(crate) type LockGuard<'a, T> = std::sync::MutexGuard<'a, T>;
#[cfg(rk_loom)]
pub(crate) type LockGuard<'a, T> = loom::sync::MutexGuard<'a, T>;
