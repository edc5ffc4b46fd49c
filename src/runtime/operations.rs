//! What completes through the event queue: launches, ends and calls that nobody waits for, and watches.

use std::pin::Pin;
use std::task::{Context, Poll, Wake, Waker};

use super::blocking;
use super::command::Begun;
use super::core::Core;
use super::handle::KernelHandle;
use super::kernel::Kernel;
use super::message::Outgoing;
use super::options::LaunchOptions;
use super::owner::Runtime;
use crate::error::{Error, Result};
use crate::layout::*;
use crate::sync::{Arc, Ordering, Weak, fence, monotonic_ns};

/// A launch is over: its operation is complete, unless its kernel has to be taken away first.
fn launched(core: &Core, op: u64, result: Result<KernelHandle>) {
    let state = match &result {
        Ok(handle) => handle.state().map_or(RK_STATE_TERMINATED, |state| state.code()),
        Err(_) => 0,
    };
    let kept =
        core.events.launched(op, &result.as_ref().map(|handle| handle.raw().id).map_err(Error::clone), state);
    if !kept {
        // What it discards is what others have sent meanwhile; the answer is that of the cancel.
        let _ = result.map(KernelHandle::destroy);
        core.events.was_cancelled(op);
    }
}

/// An operation that another thread is to complete: whatever becomes of that thread, it is complete once this is dropped.
struct HandedOver {
    core: Arc<Core>,
    op: u64,
}

impl Drop for HandedOver {
    fn drop(&mut self) {
        let result = Err(Error::Internal { what: "an operation was given up before it was over" });
        self.core.events.complete(self.op, &result, 0);
    }
}

/// Who waits without a limit for the end of a kernel; awake, it completes its operation.
struct Ended {
    core: Arc<Core>,
    kernel: Weak<Kernel>,
    op: u64,
    is_ours: bool,
}

impl Wake for Ended {
    fn wake(self: Arc<Self>) {
        let Some(kernel) = self.kernel.upgrade() else { return };
        let result = if self.is_ours { kernel.end_result(u64::MAX) } else { Ok(()) };
        self.core.events.complete(self.op, &result, kernel.state().code());
    }
}

impl Runtime {
    /// `rk_launch_async`; the operation's number.
    pub fn launch_async(&self, id: &str, options: LaunchOptions, user_data: u64) -> Result<u64> {
        let core = self.core();
        let under_way = Core::under_way_shared(core);
        if !core.is_accepting() {
            return Err(Error::Shutdown);
        }
        let op = core.events.begin(RK_EVENT_LAUNCHED, user_data, 0)?;
        let backend = self.trait_object();
        match backend.launch_at_once(id, options) {
            Ok(result) => launched(core, op, result),
            Err(options) => {
                let (id, handed) = (id.to_owned(), HandedOver { core: Arc::clone(core), op });
                core.control.detach(move || {
                    let future = Box::pin(async move { backend.launch(&id, options).await });
                    launched(&handed.core, op, handed.core.control.run(future));
                    drop((handed, under_way));
                });
            }
        }
        Ok(op)
    }

    /// `rk_poll`: how many events were given.
    pub fn poll(&self, capacity: usize, timeout_ns: u64, out: impl FnMut(usize, RkEvent)) -> Result<usize> {
        if capacity == 0 {
            return Ok(0);
        }
        if timeout_ns != 0 {
            // What it would wait for may be the handler's own.
            self.check_outside("rk_poll")?;
        }
        let given = self.core().events.poll(capacity, blocking::deadline(timeout_ns), out);
        given.unwrap_or_else(|| {
            let name = "the runtime".into();
            Err(match timeout_ns {
                0 => Error::Empty { what: "the event queue", name },
                _ => Error::Timeout { what: "the wait for an event", name, timeout_ns },
            })
        })
    }

    /// `rk_event_fd`.
    pub fn event_descriptor(&self) -> Result<i32> {
        self.core().events.descriptor()
    }

    /// `rk_cancel`.
    pub fn cancel(&self, op: u64) -> Result<()> {
        self.core().events.cancel(op)
    }
}

impl KernelHandle {
    /// `rk_terminate_async`; the operation's number.
    pub fn terminate_async(self, timeout_ns: u64, user_data: u64) -> Result<u64> {
        let kernel = self.get()?;
        let core = Arc::clone(&kernel.core);
        let op = core.events.begin(RK_EVENT_TERMINATED, user_data, kernel.handle)?;
        let begun = kernel.begin_terminate(false);
        if begun != Begun::Ended {
            kernel.end_inline();
        }
        let is_ours = begun == Begun::Ending;
        if kernel.has_ended() {
            let result = if is_ours { kernel.end_result(timeout_ns) } else { Ok(()) };
            core.events.complete(op, &result, kernel.state().code());
            return Ok(op);
        }
        if timeout_ns == u64::MAX {
            // Nothing is to be done but to wait, and that only as long as somebody wants to know.
            let ended = Waker::from(Arc::new(Ended {
                core: Arc::clone(&core),
                kernel: Arc::downgrade(&kernel),
                op,
                is_ours,
            }));
            let mut end = kernel.when_ended();
            match Pin::new(&mut end).poll(&mut Context::from_waker(&ended)) {
                Poll::Ready(()) => ended.wake(),
                Poll::Pending => core.events.keep_end(op, end),
            }
            return Ok(op);
        }
        let handed = HandedOver { core: Arc::clone(&core), op };
        core.control.terminate_detached(&kernel, timeout_ns, is_ours, move |kernel, result| {
            handed.core.events.complete(op, &result, kernel.state().code());
        });
        Ok(op)
    }

    /// `rk_call_async`; the operation's number. A full queue is not waited for.
    pub fn call_async(self, request: &Outgoing<'_>, timeout_ns: u64, user_data: u64) -> Result<u64> {
        let kernel = self.get()?;
        let core = &kernel.core;
        let deadline_ns = blocking::deadline(timeout_ns);
        let (op, token) = core.events.begin_call(core, user_data, kernel.handle)?;
        let block = match kernel.put(request, token, None) {
            Ok(block) => block,
            Err(error) => {
                core.events.withdraw(op);
                return Err(error);
            }
        };
        kernel.announce(block);
        match timeout_ns {
            u64::MAX => {}
            0 => core.events.expire(op),
            _ => {
                let weak = Arc::downgrade(core);
                let expire = move || weak.upgrade().iter().for_each(|core| core.events.expire(op));
                core.events.keep_timer(op, core.control.timer(deadline_ns.max(monotonic_ns()), expire));
            }
        }
        Ok(op)
    }

    /// `rk_watch`.
    pub fn watch(self, interest: u32, user_data: u64) -> Result<()> {
        let kernel = self.get()?;
        if interest & !(RK_WATCH_READABLE | RK_WATCH_STATE) != 0 {
            let rule = "it has bits that are no RK_WATCH_*";
            return Err(Error::OutOfRange { argument: "interest", value: i128::from(interest), rule });
        }
        let events = &kernel.core.events;
        if events.watch(&kernel, interest, user_data)? {
            return Ok(());
        }
        self.get().map(drop).inspect_err(|_| {
            // It was destroyed meanwhile, perhaps by somebody who did not know that it is watched. Ending a watch needs no room.
            let _ = events.watch(&kernel, 0, 0);
        })
    }
}

impl Kernel {
    #[inline]
    pub(crate) fn is_watched(&self) -> bool {
        self.watched.load(Ordering::Relaxed)
    }

    /// Output was published: wakes who waits for it, and tells the event queue if it is watched.
    #[inline]
    pub(crate) fn output_was_published(&self) {
        if self.readable.notify_all() {
            self.tell_events();
        }
    }

    #[cold]
    fn tell_events(&self) {
        if self.is_watched() {
            self.core.events.note_readable(self);
        }
    }

    /// Somebody has found the output empty.
    #[inline]
    pub(crate) fn output_was_found_empty(&self) {
        if self.is_watched() {
            self.core.events.note_empty(self);
        }
    }

    /// The state has changed; under the lock of verbs.
    pub(crate) fn state_has_changed(&self, state: u32) {
        fence(Ordering::SeqCst); // V2
        if self.is_watched() {
            self.core.events.note_state(self, state);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::control::Control;
    use crate::runtime::options::{Backend, RuntimeOptions};

    #[test]
    fn a_launch_that_is_given_up_is_complete() {
        let options = RuntimeOptions {
            backend: Backend::Cpu,
            device_index: 0,
            worker_threads: 1,
            kernels_max: 1,
            events_max: 1,
        };
        let core = Arc::new(Core::new(options, Control::start().expect("a thread")));
        let op = core.events.begin(RK_EVENT_LAUNCHED, 7, 0).expect("a place");
        let handed = HandedOver { core: Arc::clone(&core), op };
        let hook = std::panic::take_hook();
        std::panic::set_hook(Box::new(|_| {}));
        core.control.detach(move || {
            let _handed = handed;
            panic!("in the middle of it");
        });
        let mut told = Vec::new();
        let polled = core.events.poll(1, u64::MAX, |_, event| told.push(event));
        std::panic::set_hook(hook);
        assert!(matches!(polled, Some(Ok(1))));
        assert_eq!((told[0].op.id, told[0].user_data, told[0].status), (op, 7, RK_ERR_INTERNAL));
        core.control.stop();
    }
}
