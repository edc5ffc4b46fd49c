/* What the benches of the C++ peers share with benches/harness.h and src/harness.rs: the cargo, rounds, and one line for each case:
 * question, case, median, minimum in nanoseconds. All use the allocator of the C library. */
#pragma once

#include <pthread.h>
#include <sched.h>
#include <time.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <thread>
#include <vector>

constexpr std::size_t PLACES = 1024; // in whatever has a limit; messages under way to what has none
constexpr std::size_t BATCH = 64;
constexpr std::uint64_t WINDOW = 64; // questions outstanding
constexpr std::size_t SENDERS = 4;
constexpr int SENDER_SHIFT = 56; // number of a cargo: the sender, and its own count

[[noreturn]] inline void die(const char *what) {
  std::fprintf(stderr, "peers: wrong: %s\n", what);
  std::_Exit(1);
}

/* What every message carries; the receiver checks all of it. Queues have it on a cache line of its own, which is no slower and for
 * some faster; an actor's messages are allocated one by one, where that costs more than it gains. */
#ifndef CARGO_ALIGN
#define CARGO_ALIGN 64
#endif
struct alignas(CARGO_ALIGN) cargo_t {
  std::array<std::uint64_t, 8> words;
};

inline cargo_t cargo_of(std::uint64_t number) {
  cargo_t cargo;
  for (std::size_t i = 0; i < cargo.words.size(); i++) cargo.words[i] = number + i;
  return cargo;
}

inline void must_be(const cargo_t &cargo, std::uint64_t number) {
  std::uint64_t wrong = 0;
  for (std::size_t i = 0; i < cargo.words.size(); i++) wrong |= cargo.words[i] ^ (number + i);
  if (wrong) die("content");
}

inline std::uint64_t now() {
  timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return static_cast<std::uint64_t>(time.tv_sec) * 1000000000u + static_cast<std::uint64_t>(time.tv_nsec);
}

inline void relax() {
#ifdef __x86_64__
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  __asm__ volatile("yield");
#endif
}

/* A receiver that finds nothing in a ring lets the sender get ahead, as the one in benches/bare.c does. How long is its choice, and
 * one by one it is much of the figure. */
inline void breathe() {
  for (int i = 0; i < 16; i++) relax();
}

/* Where there are more threads than CPUs, one that waits lets others run after a while. */
struct patience_t {
  unsigned turns = 0;
  void wait() {
    if (++turns % 128 == 0)
      sched_yield();
    else
      relax();
  }
};

inline double bench_scale() {
  static const double scale = std::getenv("RK_BENCH_SCALE") ? std::atof(std::getenv("RK_BENCH_SCALE")) : 1.0;
  return scale;
}

inline int bench_rounds() {
  static const int rounds = [] {
    const char *text = std::getenv("RK_BENCH_ROUNDS");
    int rounds = text ? std::atoi(text) : 7;
    return rounds < 1 || rounds > 32 ? 7 : rounds;
  }();
  return rounds;
}

inline std::uint64_t bench_count(std::uint64_t count) {
  auto scaled = static_cast<std::uint64_t>(static_cast<double>(count) * bench_scale());
  return scaled < 64 ? 64 : scaled;
}

inline void bench_line(const char *question, const std::string &name, std::vector<double> each) {
  std::sort(each.begin(), each.end());
  std::printf("%s\t%s\t%.2f\t%.2f\n", question, name.c_str(), each[each.size() / 2], each[0]);
  std::fflush(stdout);
}

/* Calls `round` once to warm up and then as often as asked; it says how long its operations took, ns. */
template <class Round>
void bench_case(const char *question, const std::string &name, std::uint64_t operations, Round round) {
  std::vector<double> each;
  operations = bench_count(operations);
  round(operations / 8 + 1);
  for (int i = 0; i < bench_rounds(); i++)
    each.push_back(static_cast<double>(round(operations)) / static_cast<double>(operations));
  bench_line(question, name, each);
}

inline void bench_quantiles(const char *question, const std::string &name, std::vector<std::uint64_t> samples) {
  const std::pair<const char *, double> which[] = {{"p50", 0.5}, {"p99", 0.99}, {"p99.9", 0.999}, {"p99.99", 0.9999}, {"max", 1.0}};
  std::sort(samples.begin(), samples.end());
  for (const auto &quantile : which) {
    auto at = std::min(static_cast<std::size_t>(quantile.second * static_cast<double>(samples.size())), samples.size() - 1);
    std::printf("%s\t%s %s\t%llu\t%llu\n", question, name.c_str(), quantile.first, static_cast<unsigned long long>(samples[at]),
                static_cast<unsigned long long>(samples[0]));
  }
  std::fflush(stdout);
}

/* One call after the other: the median over rounds and the quantiles; then one each 100 us, where late ones count from when they
 * were due. */
template <class Call>
void bench_calls(const std::string &name, std::uint64_t operations, Call call) {
  constexpr std::uint64_t PACE = 100000;
  std::uint64_t number = 0, due;
  std::vector<std::uint64_t> samples;
  bench_case("calls", name, operations, [&](std::uint64_t count) {
    std::uint64_t start = now();
    for (std::uint64_t i = 0; i < count; i++) call(number++);
    return now() - start;
  });
  for (std::uint64_t i = 0; i < bench_count(operations); i++) {
    std::uint64_t start = now();
    call(number++);
    samples.push_back(now() - start);
  }
  bench_quantiles("calls", name, samples);
  samples.clear();
  due = now() + PACE;
  for (std::uint64_t i = 0; i < bench_count(5000); i++, due += PACE) {
    timespec until = {static_cast<time_t>(due / 1000000000u), static_cast<long>(due % 1000000000u)};
    clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, nullptr);
    std::uint64_t start = now();
    call(number++);
    /* This thread's own late waking is not the peer's; that the call before was not done yet is. */
    samples.push_back(now() - (start > due + PACE ? due : start));
  }
  bench_quantiles("calls each 100 us", name, samples);
}

/* Calls, and questions with 64 outstanding, to an echo that `send` and `receive` reach. */
template <class Send, class Receive>
void bench_pair(const std::string &name, std::uint64_t operations, Send send, Receive receive) {
  bench_calls(name, operations, [&](std::uint64_t number) {
    send(cargo_of(number));
    must_be(receive(), number);
  });
  bench_case("outstanding", name, 1000000, [&](std::uint64_t count) {
    std::uint64_t start = now();
    for (std::uint64_t i = 0; i < std::min(count, WINDOW); i++) send(cargo_of(i));
    for (std::uint64_t i = 0; i < count; i++) {
      must_be(receive(), i);
      if (i + WINDOW < count) send(cargo_of(i + WINDOW));
    }
    return now() - start;
  });
}

/* Rounds of a sender, this thread, and a receiver, a thread of its own that `take`s as many; from a number on. A round ends when
 * the receiver has taken and checked the last. */
template <class Take, class Send>
void bench_stream(const std::string &name, std::uint64_t operations, Take take, Send send) {
  alignas(128) std::atomic<std::uint64_t> due{0};
  alignas(128) std::atomic<std::uint64_t> taken{0};
  std::uint64_t sent = 0;
  std::thread receiver([&] {
    for (std::uint64_t number = 0, end; (end = due.load(std::memory_order_acquire)) != UINT64_MAX; relax()) {
      if (end == number) continue;
      take(number, end - number);
      number = end;
      taken.store(number, std::memory_order_release);
    }
  });
  bench_case("stream", name, operations, [&](std::uint64_t count) {
    std::uint64_t start = now();
    due.store(sent + count, std::memory_order_release);
    send(sent, count);
    sent += count;
    while (taken.load(std::memory_order_acquire) != sent) relax();
    return now() - start;
  });
  due.store(UINT64_MAX, std::memory_order_release);
  receiver.join();
}

/* Rounds of four senders, a thread each; `take` waits on this thread for what is due: from which number on, and how many of each.
 * From the start of all together until the last message has been taken. */
template <class Send, class Take>
void bench_fan_in(const std::string &name, std::uint64_t operations, Send send, Take take) {
  std::uint64_t next = 0;
  bench_case("fan_in", name, operations, [&](std::uint64_t count) {
    std::uint64_t each = (count + SENDERS - 1) / SENDERS, start;
    std::vector<std::thread> threads;
    pthread_barrier_t gate;
    pthread_barrier_init(&gate, nullptr, SENDERS + 1);
    for (std::uint64_t i = 0; i < SENDERS; i++)
      threads.emplace_back([&, i] {
        pthread_barrier_wait(&gate);
        send(i, i << SENDER_SHIFT | next, each);
      });
    start = now();
    pthread_barrier_wait(&gate);
    take(next, each);
    start = now() - start;
    for (auto &thread : threads) thread.join();
    pthread_barrier_destroy(&gate);
    next += each;
    return start;
  });
}

/* Checks what comes, from whichever sender. */
struct check_t {
  std::array<std::uint64_t, SENDERS> next;
  std::uint64_t left;
  check_t(std::uint64_t first, std::uint64_t each) : left(each * SENDERS) { next.fill(first); }
  void take(const cargo_t &cargo) {
    std::uint64_t sender = cargo.words[0] >> SENDER_SHIFT;
    if (sender >= SENDERS) die("no such sender");
    must_be(cargo, sender << SENDER_SHIFT | next[sender]++);
    left--;
  }
};
