//! Where actors live, and how a host thread, which is not one of theirs, waits for a future.

use std::future::Future;

/// Worker threads of tokio. Without its I/O driver a worker sleeps on a futex and not in epoll, which is faster.
pub fn tokio(workers: usize) -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(workers)
        .enable_time()
        .build()
        .expect("a tokio runtime")
}

/// Arbiters of actix, a thread each. The host is the system's thread, and all actors are on the arbiters.
pub struct Actix {
    pub arbiters: Vec<actix::Arbiter>,
    system: actix::SystemRunner,
}

impl Actix {
    pub fn new(arbiters: usize) -> Self {
        let system = actix::System::new();
        Actix { arbiters: (0..arbiters).map(|_| actix::Arbiter::new()).collect(), system }
    }
}

impl Drop for Actix {
    fn drop(&mut self) {
        for arbiter in self.arbiters.drain(..) {
            arbiter.stop();
            arbiter.join().expect("an arbiter's thread");
        }
    }
}

pub trait Home {
    /// The host thread sleeps until `future` is done.
    fn wait<F: Future>(&self, future: F) -> F::Output;
    /// Runs it on the worker that also runs the actors.
    fn beside(&self, future: impl Future<Output = ()> + Send + 'static);
}

impl Home for tokio::runtime::Runtime {
    fn wait<F: Future>(&self, future: F) -> F::Output {
        self.block_on(future)
    }
    fn beside(&self, future: impl Future<Output = ()> + Send + 'static) {
        self.spawn(future);
    }
}

impl Home for Actix {
    fn wait<F: Future>(&self, future: F) -> F::Output {
        self.system.block_on(future)
    }
    fn beside(&self, future: impl Future<Output = ()> + Send + 'static) {
        self.arbiters[0].spawn(future);
    }
}
