//! What the lock of an event queue guards: operations, watches, and what is ready to be polled. The argument is in `events.rs`.

use std::collections::{HashMap, VecDeque};

use crate::layout::*;
use crate::process::Signal;
use crate::ring::Ring;
use crate::runtime::calls::Call;
use crate::runtime::command::WhenEnded;
use crate::runtime::control::Timer;
use crate::runtime::kernel::Kernel;
use crate::runtime::message::NO_EVENT;

/// Something to be polled.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Ready {
    Done(u64),
    Readable(u64),
    State { kernel: u64, state: u32 },
    DeadLetters { kernel: u64, status: RkStatus },
}

/// How far an operation is.
pub(super) enum Progress {
    /// With what waits for the end of a kernel, as long as somebody wants to know.
    UnderWay {
        is_cancelled: bool,
        end: Option<WhenEnded>,
    },
    Calling {
        call: Call,
        timer: Option<Timer>,
    },
    Done {
        status: RkStatus,
        state: u32,
        call: Option<Call>,
    },
}

pub(super) struct Op {
    pub(super) kind: u32,
    pub(super) user_data: u64,
    pub(super) kernel: u64,
    pub(super) progress: Progress,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Readable {
    Off,
    Armed,
    Pending,
    Fired,
}

pub(super) struct Watch {
    pub(super) interest: u32,
    pub(super) user_data: u64,
    pub(super) readable: Readable,
    pub(super) state: u32,
    /// Events of states that wait to be polled.
    pub(super) states_pending: usize,
    /// The kernel was destroyed: its last states are still to be polled.
    pub(super) is_gone: bool,
}

#[derive(Default)]
pub(super) struct Queue {
    pub(super) ready: VecDeque<Ready>,
    pub(super) ops: HashMap<u64, Op>,
    pub(super) watches: HashMap<u64, Watch>,
    /// Places taken.
    pub(super) taken: usize,
    /// Operations that are not done.
    pub(super) under_way: usize,
    /// All kernels have ended: nothing begins that is not done at once.
    pub(super) shut: bool,
    pub(super) closed: bool,
    pub(super) signal: Option<Signal>,
    /// An event of dead letters waits: there is one at most.
    pub(super) letter_waits: bool,
}

impl Queue {
    pub(super) fn push(&mut self, ready: Ready) {
        if self.ready.is_empty()
            && let Some(signal) = &self.signal
        {
            signal.raise();
        }
        self.ready.push_back(ready);
    }

    /// An operation that is under way becomes done; `None`: it was. What it was is to be dropped without the lock: it may have the
    /// last share of a kernel.
    pub(super) fn finish(
        &mut self,
        op: u64,
        status: RkStatus,
        kernel: Option<u64>,
        state: u32,
    ) -> Option<Progress> {
        let entry = self.ops.get_mut(&op).filter(|op| !matches!(op.progress, Progress::Done { .. }))?;
        entry.kernel = kernel.unwrap_or(entry.kernel);
        let was = std::mem::replace(&mut entry.progress, Progress::Done { status, state, call: None });
        self.under_way -= 1;
        self.push(Ready::Done(op));
        Some(was)
    }

    /// Gives the call of an operation up; false: it is answered, or no call.
    pub(super) fn give_up(&mut self, op: u64, status: RkStatus) -> bool {
        let Some(Op { progress: Progress::Calling { call, .. }, .. }) = self.ops.get_mut(&op) else {
            return false;
        };
        call.abandon() && self.finish(op, status, None, 0).is_some()
    }

    /// Takes out the event of what was ready; `None`: there is none any more.
    pub(super) fn event(&mut self, ready: Ready) -> Option<RkEvent> {
        let mut event = NO_EVENT;
        match ready {
            Ready::Done(number) => {
                let op = self.ops.remove(&number)?;
                self.taken -= 1;
                let Progress::Done { status, state, call } = op.progress else { return None };
                (event.kind, event.user_data) = (op.kind, op.user_data);
                (event.op.id, event.kernel.id) = (number, op.kernel);
                (event.status, event.state) = (status, state);
                if let Some(message) = call.and_then(|mut call| call.view()) {
                    event.message = message;
                }
            }
            Ready::Readable(kernel) => {
                let watch =
                    self.watches.get_mut(&kernel).filter(|watch| watch.readable == Readable::Pending)?;
                watch.readable = Readable::Fired;
                (event.kind, event.user_data) = (RK_EVENT_READABLE, watch.user_data);
                (event.kernel.id, event.state) = (kernel, watch.state);
            }
            Ready::State { kernel, state } => {
                let watch = self.watches.get_mut(&kernel).filter(|watch| watch.states_pending > 0)?;
                watch.states_pending -= 1;
                (event.kind, event.user_data) = (RK_EVENT_STATE, watch.user_data);
                (event.kernel.id, event.state) = (kernel, state);
                if watch.states_pending > 0 {
                    // The others need one place less.
                    self.taken -= 1;
                } else if watch.is_gone {
                    self.taken -= places(watch.interest);
                    self.watches.remove(&kernel);
                }
            }
            Ready::DeadLetters { kernel, status } => {
                self.letter_waits = false;
                (event.kind, event.kernel.id, event.status) = (RK_EVENT_DEAD_LETTER, kernel, status);
            }
        }
        Some(event)
    }

    /// Arms the watch of a kernel's output; the event is there at once if messages are.
    pub(super) fn arm(&mut self, kernel: &Kernel) {
        let Some(watch) = self.watches.get_mut(&kernel.handle) else { return };
        watch.readable = Readable::Armed;
        kernel.readable.enter();
        if kernel.output.get().is_some_and(Ring::is_readable) {
            self.fire(kernel);
        }
    }

    pub(super) fn fire(&mut self, kernel: &Kernel) -> bool {
        let armed = |watch: &&mut Watch| watch.readable == Readable::Armed;
        let Some(watch) = self.watches.get_mut(&kernel.handle).filter(armed) else { return false };
        watch.readable = Readable::Pending;
        kernel.readable.leave();
        self.push(Ready::Readable(kernel.handle));
        true
    }

    /// Ends a watch for messages.
    pub(super) fn disarm(&mut self, kernel: &Kernel) {
        let Some(watch) = self.watches.get_mut(&kernel.handle) else { return };
        match std::mem::replace(&mut watch.readable, Readable::Off) {
            Readable::Armed => kernel.readable.leave(),
            Readable::Pending => self.take_back(|ready| ready == Ready::Readable(kernel.handle)),
            Readable::Fired | Readable::Off => {}
        }
    }

    /// Nothing will come any more.
    pub(super) fn is_over(&self) -> bool {
        self.closed || self.shut && self.under_way == 0
    }

    /// Ends a watch, whose events nobody polls any more.
    pub(super) fn unwatch(&mut self, kernel: &Kernel) {
        self.disarm(kernel);
        if let Some(watch) = self.watches.remove(&kernel.handle) {
            self.taken -= places(watch.interest) + watch.states_pending.saturating_sub(1);
            let of = kernel.handle;
            self.take_back(|ready| matches!(ready, Ready::State { kernel, .. } if kernel == of));
        }
    }

    /// What was pushed is not to be polled after all; rare, so it is looked for.
    pub(super) fn take_back(&mut self, is_it: impl Fn(Ready) -> bool) {
        self.ready.retain(|ready| !is_it(*ready));
        if self.ready.is_empty()
            && let Some(signal) = &self.signal
        {
            signal.clear();
        }
    }
}

/// Places that a watch takes.
pub(super) fn places(interest: u32) -> usize {
    interest.count_ones() as usize
}
