//! The control plane's executor: one thread with a tokio runtime, and how other threads hand work to it.
//!
//! The only file that knows tokio. Control verbs are futures. A verb that can end at once does so where it was
//! called; one that has to wait (a drain, a shutdown) runs on the control thread, and its caller sleeps on a
//! channel until it is done: tokio's `block_on` is called on the control thread only, so callers may be
//! workers, handlers or threads at their end without a panic in tokio.
//!
//! # Shutdown of the executor
//! `stop` wakes the thread and joins it. Verbs still running are dropped with the runtime, and a dropped
//! verb drops its end of the channel, which its caller gets as an internal error: every caller is woken.

use std::io;
use std::task::{Context, Poll, Waker};
use std::thread::JoinHandle;
use std::time::Duration;

use super::kernel::Kernel;
use super::{BoxFuture, RingKernelRuntime, blocking};
use crate::error::{Error, Result};
use crate::limits::{TERMINATE_GRACE_NS, TERMINATE_SLACK_NS};
use crate::process;
use crate::sync::{Arc, Mutex, lock, monotonic_ns};

/// See the file's head.
pub(crate) struct Control {
    tokio: tokio::runtime::Handle,
    stop: Arc<tokio::sync::Notify>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Control {
    /// Starts the control thread.
    pub(crate) fn start() -> io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
        let stop = Arc::new(tokio::sync::Notify::new());
        let tokio = runtime.handle().clone();
        let until = Arc::clone(&stop);
        let thread = process::spawn("rk-control", move || runtime.block_on(until.notified()))?;
        Ok(Self { tokio, stop, thread: Mutex::new(Some(thread)) })
    }

    /// Runs a verb to its end. What it awaits first must not need tokio.
    pub(crate) fn run<T: Send + 'static>(&self, mut verb: BoxFuture<'static, Result<T>>) -> Result<T> {
        match verb.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(result) => result,
            Poll::Pending => self.submit(verb),
        }
    }

    /// Runs a verb on the control thread and waits for it.
    fn submit<T: Send + 'static>(&self, verb: BoxFuture<'static, Result<T>>) -> Result<T> {
        let (completer, completion) = crossbeam_channel::bounded(1);
        self.tokio.spawn(async move {
            // The caller waits without a limit, so the other end is there.
            let _ = completer.send(verb.await);
        });
        let dropped = |_| Err(Error::Internal { what: "a control verb was dropped before it was done" });
        blocking::section(|| completion.recv()).unwrap_or_else(dropped)
    }

    /// Waits for the end of a kernel that is terminating. Past the timeout what is queued becomes dead letters,
    /// unless the end is somebody else's, whose drain is not cut short.
    pub(crate) fn terminate(&self, kernel: &Arc<Kernel>, timeout_ns: u64, is_ours: bool) -> Result<()> {
        self.submit(Box::pin(ending(Arc::clone(kernel), timeout_ns, is_ours)))
    }

    /// The same without a wait: `then` is told how it went, on the control thread; never, if the runtime is gone before.
    pub(crate) fn terminate_detached(
        &self,
        kernel: &Arc<Kernel>,
        timeout_ns: u64,
        is_ours: bool,
        then: impl FnOnce(&Kernel, Result<()>) + Send + 'static,
    ) {
        let kernel = Arc::clone(kernel);
        self.tokio.spawn(async move {
            let result = ending(Arc::clone(&kernel), timeout_ns, is_ours).await;
            then(&kernel, result);
        });
    }

    /// Does something that may take its time on a thread of its own.
    pub(crate) fn detach(&self, work: impl FnOnce() + Send + 'static) {
        // From the control thread, so that the new thread has its signal mask.
        self.tokio.spawn(aside(work));
    }

    /// Does something once a point in time has come, on the control thread; never, if the runtime is gone, or what is returned is dropped,
    /// before.
    pub(crate) fn timer(&self, due_ns: u64, then: impl FnOnce() + Send + 'static) -> Timer {
        let task = self.tokio.spawn(async move {
            while let Some(left_ns) = due_ns.checked_sub(monotonic_ns()).filter(|left_ns| *left_ns > 0) {
                tokio::time::sleep(Duration::from_nanos(left_ns)).await;
            }
            then();
        });
        Timer(task.abort_handle())
    }

    /// Does something once all of these have ended, on the control thread; never, if the runtime is gone before.
    pub(crate) fn when_all_ended(&self, kernels: Vec<Arc<Kernel>>, then: impl FnOnce() + Send + 'static) {
        self.tokio.spawn(async move {
            for kernel in kernels {
                kernel.when_ended().await;
            }
            then();
        });
    }

    /// Terminates all kernels: drains for `timeout_ns`, then discards, and waits `grace_ns` for handlers.
    pub(crate) fn shutdown(
        &self,
        backend: &Arc<dyn RingKernelRuntime>,
        kernels: impl Fn() -> Vec<Arc<Kernel>> + Send + 'static,
        timeout_ns: u64,
        grace_ns: u64,
    ) -> Result<()> {
        let backend = Arc::clone(backend);
        self.submit(Box::pin(async move {
            if within(timeout_ns, backend.shutdown()).await {
                return Ok(());
            }
            let ending = kernels();
            ending.iter().for_each(|kernel| kernel.escalate());
            let rest = async {
                aside(move || ending.iter().for_each(|kernel| kernel.end_inline())).await;
                backend.shutdown().await
            };
            within(grace_ns, rest).await;
            let running: Vec<_> = kernels()
                .iter()
                .filter(|kernel| !kernel.has_ended())
                .map(|kernel| kernel.id.to_string())
                .collect();
            if running.is_empty() {
                return Ok(());
            }
            Err(Error::StillRunning { names: running.join(", ").into(), timeout_ns })
        }))
    }
}

/// Something that will be done at a point in time, unless this is dropped before.
#[derive(Debug)]
pub(crate) struct Timer(tokio::task::AbortHandle);

impl Drop for Timer {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// See [`Control::terminate`].
async fn ending(kernel: Arc<Kernel>, timeout_ns: u64, is_ours: bool) -> Result<()> {
    if !within(timeout_ns, kernel.when_ended()).await {
        if !is_ours {
            let (what, name) = ("the end that another call has begun", Arc::clone(&kernel.id));
            return Err(Error::Timeout { what, name, timeout_ns });
        }
        kernel.escalate();
        let inline = Arc::clone(&kernel);
        let in_time = within(TERMINATE_SLACK_NS, async {
            aside(move || inline.end_inline()).await;
            kernel.when_ended().await;
        });
        let has_ended = in_time.await || {
            kernel.note_overrun();
            within(TERMINATE_GRACE_NS - TERMINATE_SLACK_NS, kernel.when_ended()).await
        };
        if !has_ended {
            let name = Arc::clone(&kernel.id);
            return Err(Error::Timeout { what: "a handler", name, timeout_ns });
        }
    }
    if is_ours { kernel.end_result(timeout_ns) } else { Ok(()) }
}

/// Runs what may call the application (the end of a kernel gives its user data back) on a thread where it holds up no other verb: the
/// application may wait for one there.
pub(crate) async fn aside(work: impl FnOnce() + Send + 'static) {
    match tokio::runtime::Handle::try_current() {
        // A panic in there was caught and reported where the application was called.
        Ok(tokio) => drop(tokio.spawn_blocking(work).await),
        Err(_) => work(),
    }
}

/// Whether something came to its end in time.
async fn within<T>(timeout_ns: u64, future: impl Future<Output = T>) -> bool {
    if timeout_ns == u64::MAX {
        future.await;
        return true;
    }
    tokio::time::timeout(Duration::from_nanos(timeout_ns), future).await.is_ok()
}

impl Control {
    /// Ends the control thread.
    pub(crate) fn stop(&self) {
        self.stop.notify_one();
        if let Some(thread) = lock(&self.thread).take() {
            // A control thread that drops the runtime's last share cannot wait for itself.
            if thread.thread().id() != std::thread::current().id() {
                let _ = thread.join();
            }
        }
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        self.stop();
    }
}
