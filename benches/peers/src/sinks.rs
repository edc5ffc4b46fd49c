//! One actor that takes and checks cargo, of each kind, on one worker; host threads send to it (stream.rs, fan_in.rs).
//!
//! Where a mailbox has a limit it is 1024 and a host thread waits as the peer lets it: tokio and kameo put it to sleep. The
//! mailboxes of ractor cannot have one and actix' do_send ignores it: there each sender looks at what has been taken and lets no
//! more than its share of 1024 be under way, spinning, which is cheaper than sleeping. actix' try_send refuses: try again.

use crate::harness::{Apart, Cargo, PLACES, Patience, SENDER_SHIFT, SENDERS, die};
use crate::homes;
use actix::prelude::Actor;
use std::any::Any;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// How many of each sender the actor has taken.
#[derive(Default)]
pub struct Taken([Apart<AtomicU64>; SENDERS]);

impl Taken {
    pub fn all(&self) -> u64 {
        self.0.iter().map(|of| of.0.load(Ordering::Acquire)).sum()
    }
}

pub struct Sink {
    next: [u64; SENDERS],
    taken: Arc<Taken>,
}

impl Sink {
    fn new(taken: &Arc<Taken>) -> Self {
        Sink { next: [0; SENDERS], taken: taken.clone() }
    }

    fn take(&mut self, cargo: &Cargo) {
        let sender = (cargo.0[0] >> SENDER_SHIFT) as usize;
        if sender >= SENDERS {
            die("no such sender");
        }
        cargo.must_be((sender as u64) << SENDER_SHIFT | self.next[sender]);
        self.next[sender] += 1;
        self.taken.0[sender].0.store(self.next[sender], Ordering::Release);
    }
}

/// Lets no more than its share of all places be under way from one sender.
struct Share {
    of: Arc<Taken>,
    places: u64,
    taken: u64,
}

impl Share {
    fn new(of: &Arc<Taken>, senders: usize) -> Self {
        Share { of: of.clone(), places: (PLACES / senders) as u64, taken: 0 }
    }

    fn wait(&mut self, number: u64) {
        let (sender, sent) = ((number >> SENDER_SHIFT) as usize, number & ((1 << SENDER_SHIFT) - 1));
        let mut patience = Patience::default();
        while sent - self.taken >= self.places {
            self.taken = self.of.0[sender].0.load(Ordering::Acquire);
            if sent - self.taken >= self.places {
                patience.wait();
            }
        }
    }
}

/// Sends cargo of a first number and so many numbers on.
pub type Sender = Box<dyn FnMut(u64, u64) + Send>;

pub struct Peer {
    pub name: &'static str,
    pub taken: Arc<Taken>,
    /// Makes the sender of a thread, one of so many.
    pub sender: Box<dyn Fn(usize) -> Sender>,
    /// What keeps the actor alive.
    _home: Box<dyn Any>,
}

fn each(mut send: impl FnMut(u64) + Send + 'static) -> Sender {
    Box::new(move |first, count| (first..first + count).for_each(&mut send))
}

pub const ALL: [fn() -> Peer; 5] = [tokio_task, actix_do_send, actix_try_send, ractor_cast, kameo_tell];

fn tokio_task() -> Peer {
    let (home, taken) = (homes::tokio(1), Arc::new(Taken::default()));
    let (to, mut mailbox) = tokio::sync::mpsc::channel::<Cargo>(PLACES);
    let mut sink = Sink::new(&taken);
    home.spawn(async move {
        while let Some(cargo) = mailbox.recv().await {
            sink.take(&cargo);
        }
    });
    let sender = move |_| {
        let to = to.clone();
        each(move |number| to.blocking_send(Cargo::of(number)).expect("the task is alive"))
    };
    Peer { name: "tokio task, mpsc blocking_send", taken, sender: Box::new(sender), _home: Box::new(home) }
}

impl actix::Message for Cargo {
    type Result = ();
}

impl actix::Actor for Sink {
    type Context = actix::Context<Self>;
}

impl actix::Handler<Cargo> for Sink {
    type Result = ();
    fn handle(&mut self, cargo: Cargo, _: &mut Self::Context) {
        self.take(&cargo);
    }
}

fn actix_sink() -> (homes::Actix, Arc<Taken>, actix::Addr<Sink>) {
    let (home, taken) = (homes::Actix::new(1), Arc::new(Taken::default()));
    let sink = Sink::new(&taken);
    let to = Sink::start_in_arbiter(&home.arbiters[0].handle(), |context| {
        context.set_mailbox_capacity(PLACES);
        sink
    });
    (home, taken, to)
}

fn actix_do_send() -> Peer {
    let (home, taken, to) = actix_sink();
    let of = taken.clone();
    let sender = move |senders| {
        let (to, mut share) = (to.clone(), Share::new(&of, senders));
        each(move |number| {
            share.wait(number);
            to.do_send(Cargo::of(number));
        })
    };
    Peer { name: "actix, do_send", taken, sender: Box::new(sender), _home: Box::new(home) }
}

fn actix_try_send() -> Peer {
    let (home, taken, to) = actix_sink();
    let sender = move |_| {
        let to = to.clone();
        each(move |number| {
            let (mut cargo, mut patience) = (Cargo::of(number), Patience::default());
            while let Err(refused) = to.try_send(cargo) {
                if let actix::prelude::SendError::Closed(_) = refused {
                    die("the actor is gone");
                }
                cargo = refused.into_inner();
                patience.wait();
            }
        })
    };
    Peer { name: "actix, try_send", taken, sender: Box::new(sender), _home: Box::new(home) }
}

struct RactorSink;

impl ractor::Actor for RactorSink {
    type Msg = Cargo;
    type State = Sink;
    type Arguments = Sink;

    async fn pre_start(
        &self,
        _: ractor::ActorRef<Cargo>,
        sink: Sink,
    ) -> Result<Sink, ractor::ActorProcessingErr> {
        Ok(sink)
    }

    async fn handle(
        &self,
        _: ractor::ActorRef<Cargo>,
        cargo: Cargo,
        sink: &mut Sink,
    ) -> Result<(), ractor::ActorProcessingErr> {
        sink.take(&cargo);
        Ok(())
    }
}

fn ractor_cast() -> Peer {
    let (home, taken) = (homes::tokio(1), Arc::new(Taken::default()));
    let (to, _) = home
        .block_on(<RactorSink as ractor::Actor>::spawn(None, RactorSink, Sink::new(&taken)))
        .expect("an actor");
    let of = taken.clone();
    let sender = move |senders| {
        let (to, mut share) = (to.clone(), Share::new(&of, senders));
        each(move |number| {
            share.wait(number);
            to.cast(Cargo::of(number)).expect("the actor is alive");
        })
    };
    Peer { name: "ractor, cast", taken, sender: Box::new(sender), _home: Box::new(home) }
}

#[derive(kameo::Actor)]
struct KameoSink(Sink);

impl kameo::message::Message<Cargo> for KameoSink {
    type Reply = ();
    async fn handle(&mut self, cargo: Cargo, _: &mut kameo::message::Context<Self, ()>) {
        self.0.take(&cargo);
    }
}

fn kameo_tell() -> Peer {
    use kameo::actor::Spawn;
    let (home, taken) = (homes::tokio(1), Arc::new(Taken::default()));
    let entered = home.enter();
    let to = KameoSink::spawn_with_mailbox(KameoSink(Sink::new(&taken)), kameo::mailbox::bounded(PLACES));
    drop(entered);
    let sender = move |_| {
        let to = to.clone();
        each(move |number| to.tell(Cargo::of(number)).blocking_send().expect("the actor is alive"))
    };
    Peer { name: "kameo, tell blocking_send", taken, sender: Box::new(sender), _home: Box::new(home) }
}
