//! What the process is: forked or not, its CPUs, its threads.
//!
//! # Fork
//! A child of `fork` has one thread and copies of our locks and queues in whatever state they were; nothing
//! here may touch them. The first `rk_runtime_create` maps a page with MADV_WIPEONFORK: it reads 1 in the process that
//! called it and 0 in every child, so each export can ask for the price of a load. Before that, and after one that failed
//! with no other, no state exists and a child may create a runtime of its own. Kernels older than 4.14 lack the
//! advice; there the process id is compared instead.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::thread::JoinHandle;

use once_cell::sync::OnceCell;

use crate::sync::{AtomicPtr, AtomicU32, Mutex, Ordering, lock, prepare_fences};

/// What the word reads in a process that may use the library without asking any further.
const HERE: u32 = 1;
/// The word before the first runtime: no process is the child of another's.
static UNOWNED: AtomicU32 = AtomicU32::new(HERE);
/// The word to look at: of the page, once a runtime was created. OWNER is used when the advice is missing, and the page reads 0.
static PAGE: AtomicPtr<AtomicU32> = AtomicPtr::new(std::ptr::from_ref(&UNOWNED).cast_mut());
/// The process that created the first runtime; 0 when the page alone tells.
static OWNER: AtomicU32 = AtomicU32::new(0);
/// One thread maps.
static MAPPED: OnceCell<Mapped> = OnceCell::new();

#[derive(Clone, Copy)]
struct Mapped {
    word: &'static AtomicU32,
    /// The system wipes it in children.
    is_wiped: bool,
}

/// Runtimes that are being created, and whether one ever was.
static CREATING: Mutex<(u32, bool)> = Mutex::new((0, false));

/// A runtime that is being created. From here on children of this process are told apart; dropped without [`Creation::done`], and with
/// no other one, they are not any more: who has failed to create a runtime has nothing that a child could harm.
pub(crate) struct Creation(());

impl Creation {
    /// Called by every `rk_runtime_create` before anything else: maps the page and registers the fences.
    pub(crate) fn begin() -> io::Result<Self> {
        let page = MAPPED.get_or_try_init(map_page)?;
        let mut creating = lock(&CREATING);
        if !is_owned() {
            prepare_fences();
            if page.is_wiped {
                page.word.store(HERE, Ordering::Relaxed);
            } else {
                OWNER.store(std::process::id(), Ordering::Relaxed);
            }
            PAGE.store(std::ptr::from_ref(page.word).cast_mut(), Ordering::Release);
        }
        creating.0 += 1;
        Ok(Self(()))
    }

    /// The runtime is there.
    pub(crate) fn done(self) {
        lock(&CREATING).1 = true;
    }
}

impl Drop for Creation {
    fn drop(&mut self) {
        let mut creating = lock(&CREATING);
        creating.0 -= 1;
        if *creating == (0, false) {
            PAGE.store(std::ptr::from_ref(&UNOWNED).cast_mut(), Ordering::Release);
        }
    }
}

/// Whether a runtime was created or is being, here or in a process that this one was forked from.
fn is_owned() -> bool {
    !std::ptr::eq(PAGE.load(Ordering::Acquire), &UNOWNED)
}

fn map_page() -> io::Result<Mapped> {
    // SAFETY: an anonymous mapping at an address of the kernel's choice.
    let page = unsafe {
        libc::mmap(
            std::ptr::null_mut(),
            4096,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
            -1,
            0,
        )
    };
    if page == libc::MAP_FAILED {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the page was just mapped by us.
    let is_wiped = unsafe { libc::madvise(page, 4096, libc::MADV_WIPEONFORK) } == 0;
    // SAFETY: mapped, aligned, zero; never unmapped.
    Ok(Mapped { word: unsafe { &*page.cast::<AtomicU32>() }, is_wiped })
}

/// Whether this process is a child of the one that created a runtime.
#[inline(always)]
pub(crate) fn is_forked_child() -> bool {
    // SAFETY: a static, or a page that stays mapped for the life of the process, in children too.
    unsafe { &*PAGE.load(Ordering::Acquire) }.load(Ordering::Relaxed) != HERE && is_other_process()
}

/// The word is not that of the page in the process that owns it.
#[cold]
fn is_other_process() -> bool {
    let owner = OWNER.load(Ordering::Relaxed);
    owner == 0 || owner != std::process::id()
}

/// Gives the pages that lie wholly within `bytes` from `start` on back to the system; they read as zero then, or, where the system
/// refuses (locked memory), as before. Nobody writes there meanwhile.
pub(crate) fn drop_pages(start: *mut u8, bytes: usize) {
    // SAFETY: asks for a number.
    let page = usize::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) }).unwrap_or(4096);
    let skipped = start.align_offset(page);
    let whole = bytes.saturating_sub(skipped) / page * page;
    if whole > 0 {
        // SAFETY: whole pages of private memory of the caller's, which says that losing what is in them is right.
        unsafe { libc::madvise(start.wrapping_add(skipped).cast(), whole, libc::MADV_DONTNEED) };
    }
}

/// CPUs that this process may use, by number.
pub(crate) fn cpus() -> Vec<usize> {
    // SAFETY: zero bits are an empty set.
    let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    // SAFETY: `set` has the size that is passed.
    let result = unsafe { libc::sched_getaffinity(0, size_of::<libc::cpu_set_t>(), &mut set) };
    if result != 0 {
        return (0..std::thread::available_parallelism().map_or(1, usize::from)).collect();
    }
    // SAFETY: below CPU_SETSIZE, as asked for.
    (0..libc::CPU_SETSIZE as usize).filter(|cpu| unsafe { libc::CPU_ISSET(*cpu, &set) }).collect()
}

/// Binds the calling thread to one CPU; false when the system refuses.
pub(crate) fn pin_current_thread(cpu: usize) -> bool {
    // SAFETY: zero bits are an empty set.
    let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    if cpu >= libc::CPU_SETSIZE as usize {
        return false;
    }
    // SAFETY: below CPU_SETSIZE; 0 is the calling thread.
    unsafe {
        libc::CPU_SET(cpu, &mut set);
        libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &set) == 0
    }
}

/// Starts a thread of the library: named, with all signals blocked, so that the application's handlers run on
/// the application's threads.
pub(crate) fn spawn(name: &str, body: impl FnOnce() + Send + 'static) -> io::Result<JoinHandle<()>> {
    // The name that the system shows has 15 bytes.
    let mut short = name;
    while short.len() > 15 {
        short = &short[..short.len() - 1];
    }
    with_signals_blocked(|| std::thread::Builder::new().name(short.to_owned()).spawn(body))
}

/// Runs `body` with all signals of the calling thread blocked; a thread started inside inherits that.
pub(crate) fn with_signals_blocked<T>(body: impl FnOnce() -> T) -> T {
    // SAFETY: both sets are filled by the calls below before they are read.
    let mut all: libc::sigset_t = unsafe { std::mem::zeroed() };
    // SAFETY: as above.
    let mut before: libc::sigset_t = unsafe { std::mem::zeroed() };
    // SAFETY: only this thread's mask, put back below.
    unsafe {
        libc::sigfillset(&mut all);
        libc::pthread_sigmask(libc::SIG_SETMASK, &all, &mut before);
    }
    let result = body();
    // SAFETY: `before` was filled by the call above.
    unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &before, std::ptr::null_mut()) };
    result
}

/// A descriptor that is readable while it is raised: an eventfd, closed in programs that are executed and never blocking.
#[derive(Debug)]
pub(crate) struct Signal(OwnedFd);

impl Signal {
    pub(crate) fn new() -> io::Result<Self> {
        // SAFETY: no memory of ours is involved.
        let descriptor = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) };
        if descriptor < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: new, and nobody else's.
        Ok(Self(unsafe { OwnedFd::from_raw_fd(descriptor) }))
    }

    pub(crate) fn descriptor(&self) -> i32 {
        self.0.as_raw_fd()
    }

    /// Makes it readable.
    pub(crate) fn raise(&self) {
        let one = 1u64;
        // SAFETY: eight bytes of ours. It fails only when it is readable for 2^64 - 2 reasons.
        unsafe { libc::write(self.descriptor(), std::ptr::from_ref(&one).cast(), size_of::<u64>()) };
    }

    /// Makes it not readable.
    pub(crate) fn clear(&self) {
        let mut count = 0u64;
        // SAFETY: eight bytes of ours. It fails when it is not readable.
        unsafe { libc::read(self.descriptor(), std::ptr::from_mut(&mut count).cast(), size_of::<u64>()) };
    }
}
