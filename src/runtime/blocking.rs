//! How the library waits: spin, yield, sleep; and what a worker does about it when it is one of its handlers
//! that waits.
//!
//! A handler may call the API and wait for another kernel. Its worker is lost for that time, and with one
//! worker nothing else would run. So before a thread sleeps, the backend's hook of that thread is told, and
//! may put another worker in its place.

use std::cell::RefCell;

use crate::ring::EventCount;
use crate::sync::{Arc, monotonic_ns};

/// What a backend does while one of its threads sleeps inside a handler.
pub(crate) trait BlockingHook: Send + Sync {
    /// The thread is about to sleep.
    fn before(&self);
    /// The thread is awake again.
    fn after(&self);
}

thread_local! {
    static HOOK: RefCell<Option<Arc<dyn BlockingHook>>> = const { RefCell::new(None) };
}

/// Sets the hook of the calling thread.
pub(crate) fn set_hook(hook: Arc<dyn BlockingHook>) {
    HOOK.with(|slot| *slot.borrow_mut() = Some(hook));
}

/// Tells the hook that the thread is awake again, also when the wait panics.
struct After(Arc<dyn BlockingHook>);

impl Drop for After {
    fn drop(&mut self) {
        self.0.after();
    }
}

/// Runs something that sleeps.
pub(crate) fn section<R>(sleep: impl FnOnce() -> R) -> R {
    let hook = HOOK.try_with(|slot| slot.borrow().clone()).ok().flatten();
    let _after = hook.map(|hook| {
        hook.before();
        After(hook)
    });
    sleep()
}

/// Waits until `look` finds something or the deadline has passed; a deadline of 0 looks once.
pub(crate) fn wait<T>(
    events: &EventCount,
    deadline_ns: u64,
    mut look: impl FnMut() -> Option<T>,
) -> Option<T> {
    if deadline_ns == 0 {
        return look();
    }
    if let Some(found) = EventCount::poll(&mut look) {
        return Some(found);
    }
    section(|| events.sleep_until(deadline_ns, &mut look))
}

/// The point in time of a timeout: 0 for "do not wait", u64::MAX for "never".
pub(crate) fn deadline(timeout_ns: u64) -> u64 {
    match timeout_ns {
        0 => 0,
        u64::MAX => u64::MAX,
        _ => monotonic_ns().saturating_add(timeout_ns),
    }
}
