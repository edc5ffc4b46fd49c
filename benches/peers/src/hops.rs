//! What does a hop from actor to actor cost? A hundred are connected in a ring; one token of 64 bytes goes round; its content and
//! the order at every actor are checked (see benches/hops.c). With one worker thread and with two. The host sleeps meanwhile.
//!
//! An actor of actix stays on its arbiter's thread: with two arbiters neighbours are on different ones, and every hop wakes a
//! thread, where the others move actors to the worker that sent to them. All mailboxes as each peer makes them.

use crate::harness::{Cargo, case, die};
use crate::homes;
use actix::prelude::Actor;
use std::sync::mpsc;
use std::time::Instant;

const ACTORS: u64 = 100;

/// An actor's place in the ring. A cargo's number says how many hops are left.
struct Place {
    /// Hops left + 1 when the token comes next; 0: not known yet.
    due: u64,
    done: mpsc::Sender<Instant>,
}

impl Place {
    fn new(done: &mpsc::Sender<Instant>) -> Self {
        Place { due: 0, done: done.clone() }
    }

    /// What to send on; the last hop stops the clock.
    fn hop(&mut self, cargo: &Cargo) -> Option<Cargo> {
        let left = cargo.0[0];
        cargo.must_be(left);
        if self.due != 0 && self.due != left + 1 {
            die("the token came at a wrong place");
        }
        self.due = if left >= ACTORS { left + 1 - ACTORS } else { 0 };
        if left == 0 {
            self.done.send(Instant::now()).expect("the host waits");
            return None;
        }
        Some(Cargo::of(left - 1))
    }
}

pub fn run() {
    for workers in [1, 2] {
        tokio_tasks(workers);
        actix_actors(workers);
        ractor_actors(workers);
        kameo_actors(workers);
    }
}

fn go_round(
    name: &str,
    workers: usize,
    operations: u64,
    done: &mpsc::Receiver<Instant>,
    start: impl Fn(Cargo),
) {
    let name = format!("actor: {name}, {workers} worker{}, 1 token", if workers > 1 { "s" } else { "" });
    case("hops", &name, operations, |count| {
        let begin = Instant::now();
        start(Cargo::of(count - 1));
        done.recv().expect("the last actor tells the time") - begin
    });
}

fn tokio_tasks(workers: usize) {
    let (home, (done, end)) = (homes::tokio(workers), mpsc::channel());
    let (tos, boxes): (Vec<_>, Vec<_>) = (0..ACTORS).map(|_| tokio::sync::mpsc::channel::<Cargo>(16)).unzip();
    for (i, mut mailbox) in boxes.into_iter().enumerate() {
        let (next, mut place) = (tos[(i + 1) % tos.len()].clone(), Place::new(&done));
        home.spawn(async move {
            while let Some(cargo) = mailbox.recv().await {
                if let Some(cargo) = place.hop(&cargo) {
                    next.send(cargo).await.expect("the next is alive");
                }
            }
        });
    }
    go_round("tokio task", workers, 300_000, &end, |token| {
        tos[0].blocking_send(token).expect("the first is alive");
    });
}

struct Node<Next> {
    place: Place,
    next: Option<Next>,
}

struct Link<Next>(Next);

type ActixNode = Node<ActixNext>;
struct ActixNext(actix::Addr<ActixNode>);

impl actix::Actor for ActixNode {
    type Context = actix::Context<Self>;
}

impl actix::Message for Link<ActixNext> {
    type Result = ();
}

impl actix::Handler<Link<ActixNext>> for ActixNode {
    type Result = ();
    fn handle(&mut self, link: Link<ActixNext>, _: &mut Self::Context) {
        self.next = Some(link.0);
    }
}

impl actix::Handler<Cargo> for ActixNode {
    type Result = ();
    fn handle(&mut self, cargo: Cargo, _: &mut Self::Context) {
        if let (Some(cargo), Some(next)) = (self.place.hop(&cargo), &self.next) {
            next.0.do_send(cargo);
        }
    }
}

fn actix_actors(workers: usize) {
    let (home, (done, end)) = (homes::Actix::new(workers), mpsc::channel());
    let nodes: Vec<_> = (0..ACTORS as usize)
        .map(|i| {
            let place = Place::new(&done);
            ActixNode::start_in_arbiter(&home.arbiters[i % workers].handle(), |_| Node { place, next: None })
        })
        .collect();
    for (i, node) in nodes.iter().enumerate() {
        node.do_send(Link(ActixNext(nodes[(i + 1) % nodes.len()].clone())));
    }
    let operations = if workers == 1 { 300_000 } else { 10_000 };
    go_round("actix", workers, operations, &end, |token| nodes[0].do_send(token));
}

struct RactorNode;

enum RactorMessage {
    Next(ractor::ActorRef<RactorMessage>),
    Token(Cargo),
}

impl ractor::Actor for RactorNode {
    type Msg = RactorMessage;
    type State = Node<ractor::ActorRef<RactorMessage>>;
    type Arguments = Place;

    async fn pre_start(
        &self,
        _: ractor::ActorRef<Self::Msg>,
        place: Place,
    ) -> Result<Self::State, ractor::ActorProcessingErr> {
        Ok(Node { place, next: None })
    }

    async fn handle(
        &self,
        _: ractor::ActorRef<Self::Msg>,
        message: RactorMessage,
        node: &mut Self::State,
    ) -> Result<(), ractor::ActorProcessingErr> {
        match message {
            RactorMessage::Next(next) => node.next = Some(next),
            RactorMessage::Token(cargo) => {
                if let (Some(cargo), Some(next)) = (node.place.hop(&cargo), &node.next) {
                    next.cast(RactorMessage::Token(cargo))?;
                }
            }
        }
        Ok(())
    }
}

fn ractor_actors(workers: usize) {
    use ractor::Actor;
    let (home, (done, end)) = (homes::tokio(workers), mpsc::channel());
    let nodes: Vec<_> = (0..ACTORS)
        .map(|_| home.block_on(RactorNode::spawn(None, RactorNode, Place::new(&done))).expect("an actor").0)
        .collect();
    for (i, node) in nodes.iter().enumerate() {
        let next = nodes[(i + 1) % nodes.len()].clone();
        node.cast(RactorMessage::Next(next)).expect("the actor is alive");
    }
    go_round("ractor", workers, 200_000, &end, |token| {
        nodes[0].cast(RactorMessage::Token(token)).expect("the first is alive");
    });
}

#[derive(kameo::Actor)]
struct KameoNode(Node<kameo::actor::ActorRef<KameoNode>>);

impl kameo::message::Message<Link<kameo::actor::ActorRef<KameoNode>>> for KameoNode {
    type Reply = ();
    async fn handle(
        &mut self,
        link: Link<kameo::actor::ActorRef<KameoNode>>,
        _: &mut kameo::message::Context<Self, ()>,
    ) {
        self.0.next = Some(link.0);
    }
}

impl kameo::message::Message<Cargo> for KameoNode {
    type Reply = ();
    async fn handle(&mut self, cargo: Cargo, _: &mut kameo::message::Context<Self, ()>) {
        if let (Some(cargo), Some(next)) = (self.0.place.hop(&cargo), &self.0.next) {
            next.tell(cargo).await.expect("the next is alive");
        }
    }
}

fn kameo_actors(workers: usize) {
    use kameo::actor::Spawn;
    let (home, (done, end)) = (homes::tokio(workers), mpsc::channel());
    let entered = home.enter();
    let nodes: Vec<_> = (0..ACTORS)
        .map(|_| KameoNode::spawn(KameoNode(Node { place: Place::new(&done), next: None })))
        .collect();
    drop(entered);
    for (i, node) in nodes.iter().enumerate() {
        let next = nodes[(i + 1) % nodes.len()].clone();
        node.tell(Link(next)).blocking_send().expect("the actor is alive");
    }
    go_round("kameo", workers, 200_000, &end, |token| {
        nodes[0].tell(token).blocking_send().expect("the first is alive");
    });
}
