/* moodycamel::ReaderWriterQueue: one sender, one receiver, both spin. It could grow; try_enqueue does not let it. */
#include <readerwriterqueue/readerwriterqueue.h>

#include "harness.hpp"

using queue_t = moodycamel::ReaderWriterQueue<cargo_t>;

static void singly() {
  static queue_t queue(PLACES);
  bench_stream(
      "bare: moodycamel ReaderWriterQueue", 2000000,
      [](std::uint64_t first, std::uint64_t count) {
        cargo_t cargo;
        for (std::uint64_t number = first; number != first + count; number++) {
          while (!queue.try_dequeue(cargo)) breathe();
          must_be(cargo, number);
        }
      },
      [](std::uint64_t first, std::uint64_t count) {
        for (std::uint64_t number = first; number != first + count; number++) {
          cargo_t cargo = cargo_of(number);
          while (!queue.try_enqueue(cargo)) relax();
        }
      });
}

static void pair() {
  static queue_t to(PLACES), back(PLACES);
  static std::atomic<bool> stop{false};
  std::thread echo([] {
    cargo_t cargo;
    for (;;) {
      while (!to.try_dequeue(cargo)) {
        if (stop.load(std::memory_order_relaxed)) return;
        relax();
      }
      if (!back.try_enqueue(cargo)) die("more than 64 are under way");
    }
  });
  bench_pair(
      "bare: moodycamel ReaderWriterQueue, two queues", 1000000,
      [](const cargo_t &cargo) {
        if (!to.try_enqueue(cargo)) die("more than 64 are under way");
      },
      [] {
        cargo_t cargo;
        while (!back.try_dequeue(cargo)) relax();
        return cargo;
      });
  stop = true;
  echo.join();
}

int main() {
  singly();
  pair();
}
