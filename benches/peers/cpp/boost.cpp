/* boost::lockfree::spsc_queue: one sender, one receiver, both spin. Room for 1024, known when it is compiled. */
#include <boost/lockfree/spsc_queue.hpp>

#include "harness.hpp"

using queue_t = boost::lockfree::spsc_queue<cargo_t, boost::lockfree::capacity<PLACES>>;

static void singly() {
  static queue_t queue;
  bench_stream(
      "bare: boost spsc_queue, one by one", 2000000,
      [](std::uint64_t first, std::uint64_t count) {
        cargo_t cargo;
        for (std::uint64_t number = first; number != first + count; number++) {
          while (!queue.pop(cargo)) breathe();
          must_be(cargo, number);
        }
      },
      [](std::uint64_t first, std::uint64_t count) {
        for (std::uint64_t number = first; number != first + count; number++) {
          cargo_t cargo = cargo_of(number);
          while (!queue.push(cargo)) relax();
        }
      });
}

static void batched() {
  static queue_t queue;
  bench_stream(
      "bare: boost spsc_queue, batches of 64", 8000000,
      [](std::uint64_t first, std::uint64_t count) {
        cargo_t cargo[BATCH];
        for (std::uint64_t number = first; number != first + count;) {
          std::size_t popped = queue.pop(cargo, BATCH);
          if (popped == 0) breathe();
          for (std::size_t i = 0; i < popped; i++) must_be(cargo[i], number++);
        }
      },
      [](std::uint64_t first, std::uint64_t count) {
        cargo_t cargo[BATCH];
        std::uint64_t number = first, end = first + count;
        while (number != end) {
          auto filled = static_cast<std::size_t>(std::min<std::uint64_t>(BATCH, end - number)), pushed = std::size_t{0};
          for (std::size_t i = 0; i < filled; i++) cargo[i] = cargo_of(number++);
          while ((pushed += queue.push(cargo + pushed, filled - pushed)) != filled) relax();
        }
      });
}

static void pair() {
  static queue_t to, back;
  static std::atomic<bool> stop{false};
  std::thread echo([] {
    cargo_t cargo;
    for (;;) {
      while (!to.pop(cargo)) {
        if (stop.load(std::memory_order_relaxed)) return;
        relax();
      }
      if (!back.push(cargo)) die("more than 64 are under way");
    }
  });
  bench_pair(
      "bare: boost spsc_queue, two queues", 1000000,
      [](const cargo_t &cargo) {
        if (!to.push(cargo)) die("more than 64 are under way");
      },
      [] {
        cargo_t cargo;
        while (!back.pop(cargo)) relax();
        return cargo;
      });
  stop = true;
  echo.join();
}

int main() {
  singly();
  batched();
  pair();
}
