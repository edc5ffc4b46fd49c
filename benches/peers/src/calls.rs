//! What does a question and its answer cost? 64 bytes there and back, all of them checked (see benches/calls.c, outstanding.c).
//! Back to back, one each 100 us, and with 64 outstanding, where the next is asked for each answer taken.
//!
//! Bare: two rings or channels, and a thread that echoes; rtrb's two sides spin, the channels' sleep after a while. Actors, on one
//! worker thread: the caller is a host thread, which is not one of the runtime's and sleeps in block_on (the runtime's; for actix
//! the System's) until the answer is there, so that both sides wake each other for each call. Or it is a task on the worker itself
//! (no thread is waked): the best that these can do, with what a task costs left out. The question is a message with a one-shot
//! channel in it, as each peer does.

use crate::harness::{Cargo, PLACES, calls, case};
use crate::homes::{self, Home};
use actix::prelude::Actor;
use std::collections::VecDeque;
use std::future::Future;
use std::sync::mpsc;
use std::thread;
use std::time::Instant;

const WINDOW: u64 = 64;

pub fn run() {
    rtrb_pair();
    channel_pairs();
    tokio_task();
    actix_actor();
    ractor_actor();
    kameo_actor();
}

fn pair(name: &str, operations: u64, mut send: impl FnMut(Cargo), mut receive: impl FnMut() -> Cargo) {
    calls(name, operations, |number| {
        send(Cargo::of(number));
        receive().must_be(number);
    });
    case("outstanding", name, 1_000_000, |count| {
        let start = Instant::now();
        (0..count.min(WINDOW)).for_each(|number| send(Cargo::of(number)));
        for number in 0..count {
            receive().must_be(number);
            if number + WINDOW < count {
                send(Cargo::of(number + WINDOW));
            }
        }
        start.elapsed()
    });
}

/// On a cache line of its own, which makes the trips of rtrb faster; what allocates for each message would become slower.
#[repr(align(64))]
struct Line(Cargo);

fn rtrb_pair() {
    let (mut to, mut asked) = rtrb::RingBuffer::<Line>::new(PLACES);
    let (mut answer, mut from) = rtrb::RingBuffer::<Line>::new(PLACES);
    let echo = thread::spawn(move || {
        loop {
            match asked.pop() {
                Ok(line) => answer.push(line).expect("no more than 64 are under way"),
                Err(_) if asked.is_abandoned() => return,
                Err(_) => std::hint::spin_loop(),
            }
        }
    });
    let send = |cargo| to.push(Line(cargo)).expect("no more than 64 are under way");
    let receive = || {
        loop {
            if let Ok(line) = from.pop() {
                return line.0;
            }
            std::hint::spin_loop();
        }
    };
    pair("bare: rtrb, two rings", 1_000_000, send, receive);
    drop(to);
    echo.join().expect("the echo");
}

fn channel_pairs() {
    let (to, asked) = crossbeam_channel::bounded::<Cargo>(PLACES);
    let (answer, from) = crossbeam_channel::bounded::<Cargo>(PLACES);
    let echo =
        thread::spawn(move || asked.iter().for_each(|cargo| answer.send(cargo).expect("the caller listens")));
    let send = |cargo| to.send(cargo).expect("the echo listens");
    pair("bare: crossbeam-channel, two channels", 20_000, send, || from.recv().expect("the echo answers"));
    drop(to);
    echo.join().expect("the echo");

    let (to, asked) = kanal::bounded::<Cargo>(PLACES);
    let (answer, from) = kanal::bounded::<Cargo>(PLACES);
    let echo = thread::spawn(move || {
        while let Ok(cargo) = asked.recv() {
            answer.send(cargo).expect("the caller listens");
        }
    });
    let send = |cargo| to.send(cargo).expect("the echo listens");
    pair("bare: kanal, two channels", 20_000, send, || from.recv().expect("the echo answers"));
    drop(to);
    echo.join().expect("the echo");
}

async fn one_by_one<F: Future<Output = Cargo>>(ask: impl Fn(Cargo) -> F, count: u64) {
    for number in 0..count {
        ask(Cargo::of(number)).await.must_be(number);
    }
}

/// `post` has sent the question when it returns; its future is the answer.
async fn outstanding<F: Future<Output = Cargo>>(post: impl Fn(Cargo) -> F, count: u64) {
    let mut asked: VecDeque<F> = (0..count.min(WINDOW)).map(|number| post(Cargo::of(number))).collect();
    for number in 0..count {
        asked.pop_front().expect("one outstanding").await.must_be(number);
        if number + WINDOW < count {
            asked.push_back(post(Cargo::of(number + WINDOW)));
        }
    }
}

fn actor<F, G, Ask, Post>(name: &str, home: &impl Home, ask: Ask, post: Post)
where
    F: Future<Output = Cargo> + Send,
    G: Future<Output = Cargo> + Send,
    Ask: Fn(Cargo) -> F + Clone + Send + 'static,
    Post: Fn(Cargo) -> G + Clone + Send + 'static,
{
    let host = format!("actor: {name}, a host thread asks");
    let task = format!("actor: {name}, a task beside it asks");
    calls(&host, 10_000, |number| home.wait(ask(Cargo::of(number))).must_be(number));
    let (done, time) = mpsc::channel();
    case("calls", &task, 200_000, |count| {
        let (ask, done) = (ask.clone(), done.clone());
        home.beside(async move {
            let start = Instant::now();
            one_by_one(ask, count).await;
            done.send(start.elapsed()).expect("the host waits");
        });
        time.recv().expect("the task tells the time")
    });
    case("outstanding", &host, 100_000, |count| {
        let start = Instant::now();
        home.wait(outstanding(&post, count));
        start.elapsed()
    });
    case("outstanding", &task, 200_000, |count| {
        let (post, done) = (post.clone(), done.clone());
        home.beside(async move {
            let start = Instant::now();
            outstanding(post, count).await;
            done.send(start.elapsed()).expect("the host waits");
        });
        time.recv().expect("the task tells the time")
    });
}

fn tokio_task() {
    use tokio::sync::{mpsc, oneshot};
    let home = homes::tokio(1);
    let (to, mut asked) = mpsc::channel::<(Cargo, oneshot::Sender<Cargo>)>(PLACES);
    home.spawn(async move {
        while let Some((cargo, answer)) = asked.recv().await {
            answer.send(cargo).expect("the caller listens");
        }
    });
    let post = to.clone();
    actor(
        "tokio task",
        &home,
        move |cargo| {
            let to = to.clone();
            async move {
                let (answer, from) = oneshot::channel();
                to.send((cargo, answer)).await.expect("the task is alive");
                from.await.expect("an answer")
            }
        },
        move |cargo| {
            let (answer, from) = oneshot::channel();
            post.try_send((cargo, answer)).expect("no more than 64 are under way");
            async move { from.await.expect("an answer") }
        },
    );
}

struct Echo;

struct Ask(Cargo);

impl actix::Message for Ask {
    type Result = Answer;
}

#[derive(actix::MessageResponse)]
struct Answer(Cargo);

impl actix::Actor for Echo {
    type Context = actix::Context<Self>;
}

impl actix::Handler<Ask> for Echo {
    type Result = Answer;
    fn handle(&mut self, ask: Ask, _: &mut Self::Context) -> Answer {
        Answer(ask.0)
    }
}

fn actix_actor() {
    let home = homes::Actix::new(1);
    let to = Echo::start_in_arbiter(&home.arbiters[0].handle(), |context| {
        context.set_mailbox_capacity(PLACES);
        Echo
    });
    let ask = move |cargo| {
        let answer = to.send(Ask(cargo)); // is sent here
        async move { answer.await.expect("an answer").0 }
    };
    actor("actix, send", &home, ask.clone(), ask);
}

struct RactorAsk(Cargo, ractor::RpcReplyPort<Cargo>);

impl ractor::Actor for Echo {
    type Msg = RactorAsk;
    type State = ();
    type Arguments = ();

    async fn pre_start(
        &self,
        _: ractor::ActorRef<RactorAsk>,
        _: (),
    ) -> Result<(), ractor::ActorProcessingErr> {
        Ok(())
    }

    async fn handle(
        &self,
        _: ractor::ActorRef<RactorAsk>,
        RactorAsk(cargo, answer): RactorAsk,
        _: &mut (),
    ) -> Result<(), ractor::ActorProcessingErr> {
        answer.send(cargo)?;
        Ok(())
    }
}

fn ractor_actor() {
    let home = homes::tokio(1);
    let (to, _) = home.block_on(<Echo as ractor::Actor>::spawn(None, Echo, ())).expect("an actor");
    let post = to.clone();
    actor(
        "ractor, call",
        &home,
        move |cargo| {
            let to = to.clone();
            async move { ractor::call!(to, |answer| RactorAsk(cargo, answer)).expect("an answer") }
        },
        move |cargo| {
            let (answer, from) = ractor::concurrency::oneshot();
            post.cast(RactorAsk(cargo, answer.into())).expect("the actor is alive");
            async move { from.await.expect("an answer") }
        },
    );
}

#[derive(kameo::Actor)]
struct KameoEcho;

#[derive(kameo::Reply)]
struct KameoAnswer(Cargo);

impl kameo::message::Message<Ask> for KameoEcho {
    type Reply = KameoAnswer;
    async fn handle(&mut self, ask: Ask, _: &mut kameo::message::Context<Self, Self::Reply>) -> Self::Reply {
        KameoAnswer(ask.0)
    }
}

fn kameo_actor() {
    use kameo::actor::Spawn;
    let home = homes::tokio(1);
    let entered = home.enter();
    let to = KameoEcho::spawn_with_mailbox(KameoEcho, kameo::mailbox::bounded(PLACES));
    drop(entered);
    let post = to.clone();
    actor(
        "kameo, ask",
        &home,
        move |cargo| {
            let to = to.clone();
            async move { to.ask(Ask(cargo)).await.expect("an answer").0 }
        },
        move |cargo| {
            let answer = post.ask(Ask(cargo)).try_enqueue().expect("no more than 64 are under way");
            async move { answer.await.expect("an answer").0 }
        },
    );
}
