//! A seeded simulation of kernels, with no thread but the test's and a clock of its own.
//!
//! The kernels, blocks, rings, calls and dead letters are the real ones. What is simulated is what else decides: which
//! block runs next and for how many messages (a [`Driver`] that puts blocks into a list), what time it is, what the host does, and what
//! handlers return. All of it comes from one number, so a run that fails is run again by its seed: `RK_SIM_SEED=<seed> cargo test
//! simulation`. `RK_SIM_RUNS` is how many seeds there are.
//!
//! # What holds
//! * Every message that was accepted is handled once or becomes a dead letter once, and if that is sent again, once more.
//! * Every call completes, and with a reply only if a handler gave it one.
//! * Starts and stops of a block come in pairs, and a start finds the state zero.
//! * A shutdown ends.
//!
//! # The canaries
//! [`Canary`] breaks a rule on purpose, here in the test; a run with one has to be found out.
#![allow(unsafe_code)]

mod world;

use std::cell::Cell;
use std::collections::HashMap;
use std::panic::resume_unwind;

use self::world::{Account, Random, WORLD, World, below, world};
use super::block::{self, Block};
use super::blocks::Blocks;
use super::calls::Call;
use super::control::{Control, Timer};
use super::core::Core;
use super::kernel::{Driver, Kernel, Parts};
use super::{
    Backend, DeviceCode, KernelHandle, LaunchOptions, Outgoing, Program, RuntimeOptions, UserData, context,
    insert, lease, remove,
};
use crate::layout::*;
use crate::sync::{Arc, AtomicU32, Ordering, virtual_time};

/// A rule that the test breaks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Canary {
    None,
    /// A message is counted as handled twice.
    Twice,
    /// A dead letter is taken and not counted.
    Lost,
    /// A block that is to run is forgotten.
    Forgotten,
}

/// Queues that were found without memory.
static PARKED: AtomicU32 = AtomicU32::new(0);

/// Blocks run when the simulation says so.
struct Simulated;

impl Driver for Simulated {
    fn schedule(&self, kernel: &Kernel, block: u32) {
        if kernel.block(block).gate.queue()
            && let Some(kernel) = kernel.share()
        {
            self.requeue(kernel, block);
        }
    }

    fn requeue(&self, kernel: Arc<Kernel>, block: u32) {
        world(|world| {
            let is_forgotten = world.canary == Canary::Forgotten && world.random.below(50) == 0;
            if !is_forgotten {
                world.runnable.push((kernel, block));
            }
        });
    }

    fn poke_at(&self, kernel: &Arc<Kernel>, block: u32, due_ns: u64) -> Option<Timer> {
        world(|world| world.timers.push((due_ns, Arc::downgrade(kernel), block)));
        None
    }

    /// The simulation looks by itself, and often.
    fn sweep_at(&self, _core: &Arc<Core>, _due_ns: u64) {}
}

fn message(number: &[u8; 8], block: u32) -> Outgoing<'_> {
    Outgoing { payload: number, tag: 0, block, correlation: 0, deadline_ns: 0 }
}

/// The number of a message that was given to this test.
fn number_of(message: &RkMessage) -> u64 {
    assert_eq!(message.payload_size, 8);
    // SAFETY: a view of eight bytes, which are aligned to a cache line.
    unsafe { message.payload.cast::<u64>().read() }
}

/// Says something to somebody; what is accepted counts.
fn say(how: impl FnOnce(&Outgoing<'_>) -> crate::error::Result<()>) {
    let number = world(World::new_number);
    let is_accepted = how(&message(&number.to_ne_bytes(), RK_ANY_BLOCK)).is_ok();
    if is_accepted {
        world(|world| world.accept(number));
    }
}

fn reply(ctx: u64, request: u64) {
    let is_call = world(|world| world.calls.contains_key(&request));
    if !is_call {
        return say(|message| context::reply(ctx, message));
    }
    let replied = context::reply(ctx, &message(&request.to_ne_bytes(), 0));
    world(|world| match (replied, world.calls.get_mut(&request)) {
        (Ok(()), Some(count)) => *count += 1,
        (Err(error), _) => world.wrong(format!("a reply to call {request} was refused: {error}")),
        _ => {}
    });
}

unsafe extern "C-unwind" fn on_message(ctx: *mut RkContext, request: *const RkMessage) -> RkStatus {
    let ctx = ctx.addr() as u64;
    // SAFETY: what the runtime gives a handler is valid.
    let number = number_of(unsafe { &*request });
    // SAFETY: the state is eight bytes, and the block's own.
    unsafe { *context::state(ctx).expect("a context").cast::<u64>() += 1 };
    let place = (context::kernel(ctx).expect("a context").id, context::block(ctx).expect("a context"));
    world(|world| {
        if !world.started.get(&place).copied().unwrap_or(false) {
            world.wrong(format!("{place:?} handles message {number} without a start"));
        }
    });
    match below(20) {
        0..=6 => reply(ctx, number),
        7..=9 => say(|message| context::emit(ctx, message)),
        10..=12 => say(|message| context::send(ctx, below(3) as u32, message)),
        _ => {}
    }
    match below(40) {
        0 | 1 => return RK_ERR_KERNEL_FAILED,
        2 => resume_unwind(Box::new("a panic of the simulation")),
        3..=5 => return 7,
        _ => {}
    }
    world(|world| {
        world.end(number, 2);
        if world.canary == Canary::Twice && world.random.below(20) == 0 {
            world.end(number, 2);
        }
    });
    RK_OK
}

unsafe extern "C-unwind" fn on_start(ctx: *mut RkContext) -> RkStatus {
    let ctx = ctx.addr() as u64;
    // SAFETY: the state is eight bytes, and the block's own.
    let state = unsafe { *context::state(ctx).expect("a context").cast::<u64>() };
    let place = (context::kernel(ctx).expect("a context").id, context::block(ctx).expect("a context"));
    let outcome = below(20);
    world(|world| {
        let is_started = world.started.get(&place).copied().unwrap_or(false);
        if state != 0 || is_started {
            world.wrong(format!("{place:?} starts with state {state}, started: {is_started}"));
        }
        world.started.insert(place, outcome > 1);
    });
    match outcome {
        0 => 9,
        1 => resume_unwind(Box::new("a panic of the simulation")),
        _ => RK_OK,
    }
}

unsafe extern "C-unwind" fn on_stop(ctx: *mut RkContext) {
    let ctx = ctx.addr() as u64;
    let place = (context::kernel(ctx).expect("a context").id, context::block(ctx).expect("a context"));
    world(|world| {
        if world.started.insert(place, false) != Some(true) {
            world.wrong(format!("{place:?} stops without a start"));
        }
    });
    if below(4) == 0 {
        say(|message| context::emit(ctx, message));
    }
}

/// The host of a run.
struct Host {
    core: Arc<Core>,
    program: Arc<Program>,
    kernels: Vec<Arc<Kernel>>,
    calls: Vec<(u64, Call)>,
    loans: Vec<RkLoan>,
}

fn zeroed<T>() -> T {
    // SAFETY: only used for the header's plain structs, for which zero bytes are a value.
    unsafe { std::mem::zeroed() }
}

impl Host {
    fn new() -> Self {
        let options = RuntimeOptions::checked(&RkRuntimeOptions { backend: RK_BACKEND_CPU, ..zeroed() });
        let control = Control::start().expect("a thread");
        let raw = RkProgram {
            on_message: Some(on_message),
            on_start: Some(on_start),
            on_stop: Some(on_stop),
            state_size: 8,
            ..zeroed()
        };
        let device = DeviceCode::checked(RK_CODE_NONE, &[], None).expect("no device code");
        let user_data = UserData::new(std::ptr::null_mut(), None);
        Self {
            core: Arc::new(Core::new(options.expect("options"), control)),
            program: Arc::new(Program::checked("sim", &raw, user_data, device).expect("a program")),
            kernels: Vec::new(),
            calls: Vec::new(),
            loans: Vec::new(),
        }
    }

    fn launch(&mut self) {
        let raw = RkLaunchOptions {
            mode: RK_MODE_EVENT_DRIVEN,
            grid_size: 1 + below(3) as u32,
            input_queue_capacity: 2 << below(3),
            output_queue_capacity: 2 << below(2),
            overflow: below(2) as u32,
            restart: u32::from(below(4) != 0),
            restart_max: 1 + below(6) as u32,
            restart_window_ns: [0, 1_000_000, 100_000_000][below(3) as usize],
            restart_backoff_ns: [0, 1_000, 10_000_000, RK_FOREVER][below(4) as usize],
            ..zeroed()
        };
        let options = LaunchOptions::checked(&raw, None).expect("options");
        let blocks = Blocks::new(options.grid_size as usize, |_| Block::new(8, 0)).expect("memory");
        let parts = Parts {
            backend: Backend::Cpu,
            id: "sim".into(),
            core: Arc::clone(&self.core),
            driver: Arc::new(Simulated),
            options,
            program: Arc::clone(&self.program),
            blocks,
        };
        let kernel = insert(parts).expect("a place");
        kernel.be_launched();
        let others = [Some(&kernel), self.kernels.last(), self.kernels.first()];
        for other in others.into_iter().flatten() {
            kernel.routes.add(other.handle).expect("a route");
        }
        self.kernels.push(Arc::clone(&kernel));
        if below(5) != 0 {
            kernel.activate().expect("launched");
        }
    }

    fn any(&self) -> Arc<Kernel> {
        Arc::clone(&self.kernels[below(self.kernels.len() as u64) as usize])
    }

    /// Something that a host may do.
    fn step(&mut self) {
        let kernel = self.any();
        let what = below(100);
        world(|world| world.note(what));
        match what {
            0..=29 => self.send(&kernel),
            30..=37 => self.call(&kernel),
            38..=68 => run_one(),
            69 => self.take_memory(),
            70..=79 => advance(below(2_000_000)),
            80..=85 => _ = receive(&kernel),
            86..=88 => self.take_letter(true),
            89 | 90 => drop(kernel.deactivate()),
            91..=93 => drop(kernel.activate()),
            94 => self.lend(&kernel),
            95 | 96 => self.settle_loan(),
            97 if !self.calls.is_empty() => {
                // Its time is over: from now on nobody waits for a reply.
                let index = below(self.calls.len() as u64) as usize;
                drop(self.calls.swap_remove(index));
            }
            98 if self.kernels.len() < 8 => self.launch(),
            99 if below(4) == 0 => drop(kernel.begin_terminate(false)),
            _ if below(20) == 0 => kernel.escalate(),
            _ => run_one(),
        }
    }

    /// Takes the memory of queues that are empty; which ones are depends on what other tests have left of it, so nothing else may.
    fn take_memory(&self) {
        let mut looks = 1 + below(4);
        self.core.queues.look(u64::MAX, || {
            looks -= 1;
            looks == 0
        });
        let blocks = self.kernels.iter().flat_map(|kernel| kernel.blocks.iter());
        let parked = blocks.filter_map(|block| block.input.get()).filter(|ring| ring.is_parked()).count();
        PARKED.fetch_add(parked as u32, Ordering::Relaxed);
    }

    fn send(&self, kernel: &Kernel) {
        let deadline_ns = if below(5) == 0 { world(|world| world.now_ns) + below(3_000_000) } else { 0 };
        say(|message| kernel.try_send(&Outgoing { deadline_ns, ..*message }, 0, None).map(drop));
    }

    fn call(&mut self, kernel: &Kernel) {
        let call = Call::begin().expect("a place");
        let number = world(World::new_number);
        let Ok(block) = kernel.put(&message(&number.to_ne_bytes(), RK_ANY_BLOCK), call.token(), None) else {
            return;
        };
        world(|world| {
            world.accept(number);
            world.calls.insert(number, 0);
        });
        kernel.announce(block);
        self.calls.push((number, call));
    }

    fn lend(&mut self, kernel: &Kernel) {
        let _ = lease::reserve(kernel, RK_ANY_BLOCK, 8, 1, &mut |loan| self.loans.push(loan));
    }

    fn settle_loan(&mut self) {
        let Some(loan) = self.loans.pop() else { return };
        if below(3) == 0 {
            return drop(lease::abort(&loan));
        }
        // SAFETY: the loan is out, and has room for eight bytes.
        say(|message| unsafe {
            loan.payload.cast::<u8>().copy_from_nonoverlapping(message.payload.as_ptr(), 8);
            lease::commit(&loan, message, 8)
        });
    }

    /// Takes a dead letter, and sends its message again, if it may.
    fn take_letter(&self, may_send: bool) {
        let Some(Ok(letter)) = self.core.dead.take(0) else { return };
        let number = number_of(&letter.message);
        world(|world| {
            if world.canary != Canary::Lost || world.random.below(10) != 0 {
                world.end(number, 3);
            }
        });
        if may_send && below(3) != 0 {
            // A call that it may have been is over.
            world(|world| world.calls.remove(&number));
            let bytes = number.to_ne_bytes();
            let sent = KernelHandle::new(letter.kernel.id).send(&message(&bytes, letter.message.block), 0);
            if sent.is_ok() {
                world(|world| world.accept(number));
            }
        }
        lease::release(&letter.message).expect("a letter");
    }

    /// Ends everything; an error if it does not come to an end.
    fn shut_down(&mut self) -> Result<(), String> {
        let is_patient = below(2) == 0;
        let loans = std::mem::take(&mut self.loans);
        for kernel in &self.kernels {
            kernel.begin_terminate(true);
        }
        loans.iter().for_each(|loan| drop(lease::abort(loan)));
        let mut rounds = 0;
        while !self.kernels.iter().all(|kernel| kernel.has_ended()) {
            rounds += 1;
            if !is_patient && rounds == 10 || rounds == 50_000 {
                self.kernels.iter().for_each(|kernel| kernel.escalate());
            }
            if rounds == 100_000 {
                return Err("the shutdown does not end".into());
            }
            run_one();
            if is_patient {
                self.kernels.iter().for_each(|kernel| _ = receive(kernel));
            }
            advance(1_000);
        }
        Ok(())
    }

    /// Takes what is left, and looks whether all of it adds up.
    fn audit(&mut self) -> Result<(), String> {
        for kernel in &self.kernels {
            while receive(kernel) {}
        }
        while self.core.dead.count() > 0 && self.core.dead.first().is_some() {
            self.take_letter(false);
        }
        for (number, call) in std::mem::take(&mut self.calls) {
            let mut call = call;
            if !call.is_done() {
                return Err(format!("call {number} has not completed"));
            }
            let has_reply =
                call.view().is_some_and(|view| lease::quick_release_one(view.lease, view.payload));
            let replies = world(|world| world.calls.get(&number).copied());
            // One that became a dead letter and was sent again is a message like any other since.
            if has_reply && replies == Some(0) || replies.is_some_and(|replies| replies > 1) {
                return Err(format!("call {number} has a reply: {has_reply}, and was given {replies:?}"));
            }
        }
        world(|world| {
            if let Some(wrong) = world.wrong.take() {
                return Err(wrong);
            }
            if let Some((place, _)) = world.started.iter().find(|(_, started)| **started) {
                return Err(format!("{place:?} was started and not stopped"));
            }
            let is_off = |account: &Account| account.accepted != account.ended;
            match world.accounts.iter().position(is_off) {
                Some(number) => Err(format!("message {number}: {:?}", world.accounts[number])),
                None => Ok(()),
            }
        })
    }
}

/// Takes an output, if one is there.
fn receive(kernel: &Kernel) -> bool {
    let Ok(view) = KernelHandle::new(kernel.handle).receive(0) else { return false };
    let number = number_of(&view);
    world(|world| world.end(number, 4));
    assert!(lease::quick_release_one(view.lease, view.payload), "a view is given back once");
    true
}

/// Runs some block that is to run, for some messages.
fn run_one() {
    let next = world(|world| {
        let count = world.runnable.len() as u64;
        let index = if count == 0 { return None } else { world.random.below(count) };
        Some(world.runnable.swap_remove(index as usize))
    });
    let Some((kernel, index)) = next else { return };
    if kernel.block(index).gate.enter_queued() {
        let left = Cell::new(1 + below(6));
        let until = || left.replace(left.get().saturating_sub(1)) == 0;
        block::run(&kernel, index, Some(&until));
    }
}

/// Lets time pass, and what is due happen.
fn advance(by_ns: u64) {
    let due = world(|world| {
        world.now_ns += by_ns;
        virtual_time::set(Some(world.now_ns));
        let now_ns = world.now_ns;
        world.timers.extract_if(.., |(due_ns, ..)| *due_ns <= now_ns).collect::<Vec<_>>()
    });
    for (_, kernel, block) in due {
        kernel.upgrade().iter().for_each(|kernel| kernel.poke(block));
    }
}

/// What a run came to.
#[derive(PartialEq, Eq, Debug)]
struct Outcome {
    result: Result<(), String>,
    messages: usize,
    letters: u64,
    restarts: u64,
    trace: u64,
}

fn run(seed: u64, canary: Canary) -> Outcome {
    let now_ns = 1_000_000_000;
    WORLD.set(Some(World {
        random: Random(seed),
        canary,
        now_ns,
        runnable: Vec::new(),
        timers: Vec::new(),
        accounts: Vec::new(),
        calls: HashMap::new(),
        started: HashMap::new(),
        wrong: None,
        trace: 0xcbf2_9ce4_8422_2325,
    }));
    virtual_time::set(Some(now_ns));
    let mut host = Host::new();
    (0..=below(4)).for_each(|_| host.launch());
    (0..3000).for_each(|_| host.step());
    let result = host.shut_down().and_then(|()| host.audit());
    virtual_time::set(None);
    let restarts = host.kernels.iter().map(|kernel| kernel.restarts()).sum();
    host.kernels.drain(..).for_each(|kernel| _ = remove(&kernel));
    // What the world holds is let go outside of it: kernels may be dropped with it.
    let world = WORLD.take().expect("a simulation runs");
    let (messages, trace) = (world.accounts.len(), world.trace);
    drop(world);
    Outcome { result, messages, letters: host.core.dead.count(), restarts, trace }
}

/// Seeds of a test run: a fixed few hundred, and one that nobody has tried; or the one that was asked for.
fn seeds() -> Vec<u64> {
    if let Some(seed) = std::env::var("RK_SIM_SEED").ok().and_then(|seed| seed.parse().ok()) {
        return vec![seed];
    }
    let fresh = crate::sync::unix_ns();
    println!("the fresh seed is {fresh}");
    let runs = std::env::var("RK_SIM_RUNS").ok().and_then(|runs| runs.parse().ok()).unwrap_or(200);
    (1..=runs).chain([fresh]).collect()
}

#[test]
fn whatever_happens_every_message_ends_once_and_every_call_completes() {
    let (mut messages, mut letters, mut restarts) = (0, 0, 0);
    for seed in seeds() {
        let outcome = run(seed, Canary::None);
        if let Err(wrong) = outcome.result {
            panic!("RK_SIM_SEED={seed}: {wrong}");
        }
        messages += outcome.messages as u64;
        letters += outcome.letters;
        restarts += outcome.restarts;
    }
    let parked = PARKED.load(Ordering::Relaxed);
    let count = format!("{messages} messages, {letters} letters, {restarts} restarts, {parked} parked");
    println!("{count}");
    assert!(messages > 100 && letters > 10 && restarts > 0 && parked > 0, "it is worth something: {count}");
}

#[test]
fn a_seed_gives_the_same_run_again() {
    for seed in 1..=5 {
        assert_eq!(run(seed, Canary::None), run(seed, Canary::None), "RK_SIM_SEED={seed}");
    }
}

#[test]
fn a_rule_that_is_broken_on_purpose_is_found() {
    for canary in [Canary::Twice, Canary::Lost, Canary::Forgotten] {
        let found = (1..=20).filter(|seed| run(*seed, canary).result.is_err()).count();
        assert!(found >= 15, "{canary:?} was found in {found} of 20 runs");
    }
}
