//! `cargo bench --bench data_plane`: what a message costs, as ratios against baselines of the same run.
//!
//! Machines are noisy, so nothing here is a claim about nanoseconds: each line is the median of several
//! rounds, and the ratio to the baseline measured right beside it. A round trip is: the host sends, the
//! handler runs, the host has the reply.
#![allow(unsafe_code)]

use std::ptr;
use std::sync::mpsc;
use std::thread;
use std::time::Instant;

use ringkernel::ffi::context::rk_context_reply;
use ringkernel::ffi::kernel::{rk_destroy, rk_kernel_state, rk_launch, rk_terminate};
use ringkernel::ffi::message::{rk_call, rk_release, rk_send, rk_send_batch};
use ringkernel::ffi::program::rk_program_register;
use ringkernel::ffi::runtime::{rk_runtime_create, rk_runtime_destroy};
use ringkernel::layout::*;

const ROUNDS: usize = 7;

unsafe extern "C-unwind" fn echo(ctx: *mut RkContext, message: *const RkMessage) -> RkStatus {
    // SAFETY: the runtime gives a handler a valid context and message.
    unsafe { rk_context_reply(ctx, message) }
}

unsafe extern "C-unwind" fn sink(_: *mut RkContext, _: *const RkMessage) -> RkStatus {
    RK_OK
}

/// The median over rounds of the time per operation, nanoseconds.
fn median(operations: usize, mut round: impl FnMut()) -> f64 {
    let mut times: Vec<f64> = (0..ROUNDS)
        .map(|_| {
            let start = Instant::now();
            round();
            start.elapsed().as_nanos() as f64 / operations as f64
        })
        .collect();
    times.sort_by(f64::total_cmp);
    times[ROUNDS / 2]
}

fn zeroed<T>() -> T {
    // SAFETY: only used for the header's plain structs, for which zero bytes are a value.
    unsafe { std::mem::zeroed() }
}

fn message(bytes: &[u8]) -> RkMessage {
    RkMessage { payload: bytes.as_ptr().cast(), payload_size: bytes.len(), ..zeroed() }
}

fn launch(runtime: *mut RkRuntime, program: &std::ffi::CStr, mode: u32, flags: u32) -> RkKernel {
    let mut kernel = RkKernel { id: 0 };
    let options = RkLaunchOptions {
        struct_size: size_of::<RkLaunchOptions>() as u32,
        mode,
        flags,
        program: program.as_ptr(),
        ..zeroed()
    };
    // SAFETY: all pointers are valid.
    let status = unsafe { rk_launch(runtime, c"bench".as_ptr(), &options, &mut kernel) };
    assert_eq!(status, RK_OK);
    kernel
}

fn round_trips(kernel: RkKernel, count: usize) -> f64 {
    let request = message(b"hello");
    median(count, || {
        for _ in 0..count {
            let mut reply = zeroed();
            // SAFETY: all pointers are valid.
            unsafe {
                assert_eq!(rk_call(kernel, &request, &mut reply, RK_FOREVER), RK_OK);
                assert_eq!(rk_release(&mut reply), RK_OK);
            }
        }
    })
}

/// Two threads, two std channels: what a request and its answer cost between threads without us.
fn channel_round_trips(count: usize) -> f64 {
    let (to, requests) = mpsc::sync_channel::<[u8; 8]>(1024);
    let (answers, from) = mpsc::sync_channel::<[u8; 8]>(1024);
    let server = thread::spawn(move || requests.into_iter().try_for_each(|request| answers.send(request)));
    let time = median(count, || {
        for _ in 0..count {
            to.send([1; 8]).expect("the server lives");
            from.recv().expect("the server lives");
        }
    });
    drop(to);
    let _ = server.join();
    time
}

fn channel_stream(count: usize) -> f64 {
    let (to, requests) = mpsc::sync_channel::<[u8; 8]>(1024);
    let server = thread::spawn(move || requests.into_iter().count());
    let time = median(count, || (0..count).for_each(|_| to.send([1; 8]).expect("the server lives")));
    drop(to);
    let _ = server.join();
    time
}

fn stream(kernel: RkKernel, count: usize) -> f64 {
    let sent = message(b"12345678");
    median(count, || {
        for _ in 0..count {
            // SAFETY: all pointers are valid.
            unsafe { assert_eq!(rk_send(kernel, &sent, RK_FOREVER), RK_OK) };
        }
    })
}

fn stream_batches(kernel: RkKernel, count: usize) -> f64 {
    let batch = [message(b"12345678"); 64];
    median(count, || {
        let mut left = count;
        while left > 0 {
            let mut sent = 0;
            // SAFETY: all pointers are valid.
            let status =
                unsafe { rk_send_batch(kernel, batch.as_ptr(), left.min(64), RK_FOREVER, &mut sent) };
            assert_eq!(status, RK_OK);
            left -= sent;
        }
    })
}

/// What recognising a handle costs: a state query does little else.
fn handle(kernel: RkKernel, count: usize) -> f64 {
    median(count, || {
        for _ in 0..count {
            // SAFETY: all pointers are valid.
            unsafe { assert_eq!(rk_kernel_state(kernel, &mut 0), RK_OK) };
        }
    })
}

fn line(what: &str, ns: f64, baseline: &str, baseline_ns: f64) {
    println!("{what:<44} {ns:>9.0} ns   {:>6.2} x {baseline}", ns / baseline_ns);
}

fn main() {
    // `cargo test --benches` only wants to see it start.
    let count = if std::env::args().any(|argument| argument == "--bench") { 100_000 } else { 200 };
    let mut runtime = ptr::null_mut();
    // SAFETY: all pointers are valid.
    unsafe { assert_eq!(rk_runtime_create(ptr::null(), &mut runtime), RK_OK) };
    for (name, handler) in [(c"echo", echo as _), (c"sink", sink as _)] {
        let handler: unsafe extern "C-unwind" fn(*mut RkContext, *const RkMessage) -> RkStatus = handler;
        let program = RkProgram {
            struct_size: size_of::<RkProgram>() as u32,
            name: name.as_ptr(),
            on_message: Some(handler),
            ..zeroed()
        };
        // SAFETY: all pointers are valid.
        unsafe { assert_eq!(rk_program_register(runtime, &program), RK_OK) };
    }
    let channels = channel_round_trips(count / 10);
    println!("{:<44} {channels:>9.0} ns", "round trip, two std channels");
    let base = "std channels";
    for (what, mode, flags) in [
        ("round trip, event-driven, caller helps", RK_MODE_EVENT_DRIVEN, 0),
        ("round trip, event-driven, RK_LAUNCH_NO_HELP", RK_MODE_EVENT_DRIVEN, RK_LAUNCH_NO_HELP),
        ("round trip, persistent", RK_MODE_PERSISTENT, 0),
    ] {
        let kernel = launch(runtime, c"echo", mode, flags);
        line(what, round_trips(kernel, if flags == 0 { count } else { count / 10 }), base, channels);
        rk_destroy(kernel);
    }
    let channel = channel_stream(count);
    println!("{:<44} {channel:>9.0} ns", "stream, one std channel");
    for (what, mode) in [("event-driven", RK_MODE_EVENT_DRIVEN), ("persistent", RK_MODE_PERSISTENT)] {
        let kernel = launch(runtime, c"sink", mode, 0);
        line(&format!("stream, {what}, rk_send"), stream(kernel, count), "a std channel", channel);
        let batches = stream_batches(kernel, count);
        line(&format!("stream, {what}, rk_send_batch of 64"), batches, "a std channel", channel);
        rk_terminate(kernel, RK_FOREVER);
        rk_destroy(kernel);
    }
    let kernel = launch(runtime, c"sink", RK_MODE_EVENT_DRIVEN, RK_LAUNCH_SUSPENDED);
    println!("{:<44} {:>9.1} ns", "recognising a handle (rk_kernel_state)", handle(kernel, count * 10));
    rk_destroy(kernel);
    // SAFETY: the runtime is ours.
    unsafe { assert_eq!(rk_runtime_destroy(runtime), RK_OK) };
}
