//! What others do on the same work: `peers QUESTION`, one source file for each question. RK_BENCH_ROUNDS and RK_BENCH_SCALE as in
//! benches/harness.h. All use the allocator of the C library.

mod calls;
mod fan_in;
mod harness;
mod homes;
mod hops;
mod many;
mod sinks;
mod stream;

fn main() {
    let words: Vec<String> = std::env::args().skip(1).collect();
    match words.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["stream"] => stream::run(),
        ["calls"] => calls::run(),
        ["fan_in"] => fan_in::run(),
        ["hops"] => hops::run(),
        ["many"] => many::run(),
        ["many-of", name, count] => many::one_round(name, count.parse().expect("a count")),
        _ => {
            eprintln!("peers stream | calls | fan_in | hops | many");
            std::process::exit(2);
        }
    }
}
