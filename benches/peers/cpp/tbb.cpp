/* tbb::concurrent_bounded_queue: many senders, many receivers; push and pop put a side that waits long to sleep. It allocates. */
#include <tbb/concurrent_queue.h>

#include "harness.hpp"

using queue_t = tbb::concurrent_bounded_queue<cargo_t>;

static void send(queue_t &queue, std::uint64_t first, std::uint64_t count) {
  for (std::uint64_t number = first; number != first + count; number++) queue.push(cargo_of(number));
}

int main() {
  queue_t queue, back;
  cargo_t cargo;
  queue.set_capacity(PLACES);
  back.set_capacity(PLACES);
  bench_stream(
      "bare: TBB concurrent_bounded_queue", 1000000,
      [&](std::uint64_t first, std::uint64_t count) {
        cargo_t taken;
        for (std::uint64_t number = first; number != first + count; number++) {
          queue.pop(taken);
          must_be(taken, number);
        }
      },
      [&](std::uint64_t first, std::uint64_t count) { send(queue, first, count); });
  bench_fan_in(
      "bare: TBB concurrent_bounded_queue", 1000000,
      [&](std::uint64_t, std::uint64_t first, std::uint64_t count) { send(queue, first, count); },
      [&](std::uint64_t first, std::uint64_t each) {
        for (check_t check(first, each); check.left != 0;) {
          queue.pop(cargo);
          check.take(cargo);
        }
      });
  std::thread echo([&] {
    for (cargo_t taken;;) {
      queue.pop(taken);
      if (taken.words[0] == UINT64_MAX) return;
      back.push(taken);
    }
  });
  bench_pair(
      "bare: TBB concurrent_bounded_queue, two queues", 20000, [&](const cargo_t &asked) { queue.push(asked); },
      [&] {
        back.pop(cargo);
        return cargo;
      });
  queue.push(cargo_of(UINT64_MAX));
  echo.join();
}
