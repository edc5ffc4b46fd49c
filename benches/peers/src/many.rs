//! What does one of very many actors cost? 100 000 on one worker (100 000 times a scale below 0.1), 16 places in a mailbox that has
//! a limit, 16 bytes of state. Creating one until it has run its start (for tokio: been polled), memory (resident pages of the
//! process), the first and a later message to each, until all handlers have run; which actor got which content is checked (see
//! benches/many.c). Each round has a process of its own, so that none gets used memory.
//!
//! Actors of tokio, ractor and kameo are created from the host thread while the worker starts them; those of actix in the arbiter's
//! own thread, as its documentation does (from another thread each would be sent there as a message first). The handles that the
//! host keeps are not counted.

use crate::harness::{Cargo, count, line, rounds, scale};
use crate::homes;
use actix::prelude::Actor;
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

const FIGURES: [(&str, &str); 5] = [
    ("many", "create"),
    ("many bytes", "before the first message"),
    ("many", "first message"),
    ("many bytes", "after the first message"),
    ("many", "later message"),
];

type Figures = [f64; FIGURES.len()];

/// A peer, by name, and what makes so many of its actors and measures.
type Peer = (&'static str, fn(usize) -> Figures);

const PEERS: [Peer; 4] = [
    ("tokio task", tokio_tasks),
    ("actix", actix_actors),
    ("ractor", ractor_actors),
    ("kameo", kameo_actors),
];

pub fn run() {
    let count = if scale() < 0.1 { count(100_000) } else { 100_000 };
    for (name, _) in PEERS {
        let figures: Vec<Vec<f64>> = (0..rounds()).map(|_| in_child(name, count)).collect();
        for (i, (question, figure)) in FIGURES.into_iter().enumerate() {
            let each = figures.iter().map(|figures| figures[i]).collect();
            line(question, &format!("actor: {name}, {count} actors, {figure}"), each);
        }
    }
}

fn in_child(name: &str, count: u64) -> Vec<f64> {
    let program = std::env::current_exe().expect("this program");
    let mut child = Command::new(program);
    child.args(["many-of", name, &count.to_string()]).stderr(std::process::Stdio::inherit());
    let output = child.output().expect("a process");
    if !output.status.success() {
        std::process::exit(1);
    }
    let text = String::from_utf8(output.stdout).expect("numbers");
    text.split_whitespace().map(|number| number.parse().expect("a number")).collect()
}

/// In a process of its own.
pub fn one_round(name: &str, count: usize) {
    let (_, peer) = PEERS.into_iter().find(|peer| peer.0 == name).expect("a peer's name");
    peer(count).iter().for_each(|figure| println!("{figure}"));
}

struct Crowd {
    started: AtomicU64,
    taken: AtomicU64,
}

/// The state of an actor.
struct Visits {
    index: u64,
    visit: u64,
}

fn number(index: u64, visit: u64) -> u64 {
    visit << 32 | index
}

impl Visits {
    fn start(index: u64, crowd: &Crowd) -> Self {
        crowd.started.fetch_add(1, Ordering::Release);
        Visits { index, visit: 0 }
    }

    fn take(&mut self, cargo: &Cargo, crowd: &Crowd) {
        cargo.must_be(number(self.index, self.visit));
        self.visit += 1;
        crowd.taken.fetch_add(1, Ordering::Release);
    }
}

/// One for the process: an actor's state need not hold it.
static CROWD: Crowd = Crowd { started: AtomicU64::new(0), taken: AtomicU64::new(0) };

fn resident() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("/proc");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("VmRSS");
    line.trim().trim_end_matches(" kB").parse::<f64>().expect("a number") * 1024.0
}

fn wait_for(counter: &AtomicU64, value: u64) {
    while counter.load(Ordering::Acquire) != value {
        thread::yield_now();
    }
}

fn measure<Handle>(
    count: usize,
    create: impl FnOnce(&mut Vec<Option<Handle>>),
    send: impl Fn(&Handle, Cargo),
) -> Figures {
    let mut handles: Vec<Option<Handle>> = (0..count).map(|_| None).collect();
    let each = |value: f64| value / count as f64;
    let before = resident();
    let start = Instant::now();
    create(&mut handles);
    wait_for(&CROWD.started, count as u64);
    let created = each(start.elapsed().as_nanos() as f64);
    thread::sleep(Duration::from_millis(50));
    let bytes = each(resident() - before);
    let visit_all = |visit: u64| {
        let start = Instant::now();
        for (index, handle) in handles.iter().enumerate() {
            send(handle.as_ref().expect("an actor"), Cargo::of(number(index as u64, visit)));
        }
        wait_for(&CROWD.taken, (visit + 1) * count as u64);
        each(start.elapsed().as_nanos() as f64)
    };
    let first = visit_all(0);
    let bytes_used = each(resident() - before);
    [created, bytes, first, bytes_used, visit_all(1)]
}

fn tokio_tasks(count: usize) -> Figures {
    let home = homes::tokio(1);
    let create = |handles: &mut Vec<_>| {
        for (index, handle) in handles.iter_mut().enumerate() {
            let (to, mut mailbox) = tokio::sync::mpsc::channel::<Cargo>(16);
            *handle = Some(to);
            home.spawn(async move {
                let mut visits = Visits::start(index as u64, &CROWD);
                while let Some(cargo) = mailbox.recv().await {
                    visits.take(&cargo, &CROWD);
                }
            });
        }
    };
    measure(count, create, |to: &tokio::sync::mpsc::Sender<Cargo>, cargo| {
        to.try_send(cargo).expect("a place")
    })
}

impl actix::Actor for Visits {
    type Context = actix::Context<Self>;
    fn started(&mut self, _: &mut Self::Context) {
        CROWD.started.fetch_add(1, Ordering::Release);
    }
}

impl actix::Handler<Cargo> for Visits {
    type Result = ();
    fn handle(&mut self, cargo: Cargo, _: &mut Self::Context) {
        self.take(&cargo, &CROWD);
    }
}

fn actix_actors(count: usize) -> Figures {
    let home = homes::Actix::new(1);
    let create = |handles: &mut Vec<Option<actix::Addr<Visits>>>| {
        let (back, created) = mpsc::channel();
        let mut made = std::mem::take(handles);
        home.arbiters[0].spawn_fn(move || {
            for (index, handle) in made.iter_mut().enumerate() {
                let visits = Visits { index: index as u64, visit: 0 };
                *handle = Some(Visits::create(|context| {
                    context.set_mailbox_capacity(16);
                    visits
                }));
            }
            back.send(made).expect("the host waits");
        });
        *handles = created.recv().expect("the actors");
    };
    measure(count, create, |to, cargo| to.try_send(cargo).expect("a place"))
}

struct RactorVisits;

impl ractor::Actor for RactorVisits {
    type Msg = Cargo;
    type State = Visits;
    type Arguments = u64;

    async fn pre_start(
        &self,
        _: ractor::ActorRef<Cargo>,
        index: u64,
    ) -> Result<Visits, ractor::ActorProcessingErr> {
        Ok(Visits::start(index, &CROWD))
    }

    async fn handle(
        &self,
        _: ractor::ActorRef<Cargo>,
        cargo: Cargo,
        visits: &mut Visits,
    ) -> Result<(), ractor::ActorProcessingErr> {
        visits.take(&cargo, &CROWD);
        Ok(())
    }
}

fn ractor_actors(count: usize) -> Figures {
    use ractor::Actor;
    let home = homes::tokio(1);
    let create = |handles: &mut Vec<Option<ractor::ActorRef<Cargo>>>| {
        home.block_on(async {
            for (index, handle) in handles.iter_mut().enumerate() {
                let spawned = RactorVisits::spawn(None, RactorVisits, index as u64).await;
                *handle = Some(spawned.expect("an actor").0);
            }
        });
    };
    measure(count, create, |to, cargo| to.cast(cargo).expect("the actor is alive"))
}

struct KameoVisits(Visits);

impl kameo::Actor for KameoVisits {
    type Args = u64;
    type Error = kameo::error::Infallible;
    async fn on_start(index: u64, _: kameo::actor::ActorRef<Self>) -> Result<Self, Self::Error> {
        Ok(KameoVisits(Visits::start(index, &CROWD)))
    }
}

impl kameo::message::Message<Cargo> for KameoVisits {
    type Reply = ();
    async fn handle(&mut self, cargo: Cargo, _: &mut kameo::message::Context<Self, ()>) {
        self.0.take(&cargo, &CROWD);
    }
}

fn kameo_actors(count: usize) -> Figures {
    use kameo::actor::Spawn;
    let home = homes::tokio(1);
    let create = |handles: &mut Vec<_>| {
        let _entered = home.enter();
        for (index, handle) in handles.iter_mut().enumerate() {
            *handle = Some(KameoVisits::spawn_with_mailbox(index as u64, kameo::mailbox::bounded(16)));
        }
    };
    measure(count, create, |to: &kameo::actor::ActorRef<KameoVisits>, cargo| {
        to.tell(cargo).try_send().expect("a place");
    })
}
