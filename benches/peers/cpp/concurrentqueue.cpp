/* moodycamel::ConcurrentQueue, with a token for each side as its documentation advises: singly and in bulks of 64. It can grow. With
 * one sender try_enqueue does not let it; of four the first would take all blocks and never give them back, so there each keeps no
 * more than its share of 1024 under way, by a count that the receiver tells now and then. Each sender has a sub-queue of its own, so
 * what comes is in order for each sender only. All spin. */
#include <concurrentqueue/concurrentqueue.h>

#include "harness.hpp"

using queue_t = moodycamel::ConcurrentQueue<cargo_t>;

static void stream(const char *name, std::uint64_t operations, bool bulk) {
  queue_t queue(PLACES, 1, 0);
  moodycamel::ProducerToken from(queue);
  moodycamel::ConsumerToken to(queue);
  bench_stream(
      name, operations,
      [&](std::uint64_t first, std::uint64_t count) {
        cargo_t cargo[BATCH];
        for (std::uint64_t number = first; number != first + count;) {
          std::size_t taken = bulk ? queue.try_dequeue_bulk(to, cargo, BATCH) : queue.try_dequeue(to, cargo[0]);
          if (taken == 0) breathe();
          for (std::size_t i = 0; i < taken; i++) must_be(cargo[i], number++);
        }
      },
      [&](std::uint64_t first, std::uint64_t count) {
        cargo_t cargo[BATCH];
        std::uint64_t number = first, end = first + count;
        while (number != end) {
          auto filled = static_cast<std::size_t>(bulk ? std::min<std::uint64_t>(BATCH, end - number) : 1);
          for (std::size_t i = 0; i < filled; i++) cargo[i] = cargo_of(number++);
          while (!(bulk ? queue.try_enqueue_bulk(from, cargo, filled) : queue.try_enqueue(from, cargo[0]))) relax();
        }
      });
}

struct taken_t {
  alignas(128) std::atomic<std::uint64_t> next{0};
};

static void fan_in(const char *name, std::uint64_t operations, bool bulk) {
  constexpr std::uint64_t MASK = (std::uint64_t{1} << SENDER_SHIFT) - 1, SHARE = PLACES / SENDERS;
  queue_t queue(2 * PLACES, SENDERS, 0);
  std::vector<moodycamel::ProducerToken> from;
  std::array<taken_t, SENDERS> taken;
  for (std::size_t i = 0; i < SENDERS; i++) from.emplace_back(queue);
  moodycamel::ConsumerToken to(queue);
  bench_fan_in(
      name, operations,
      [&](std::uint64_t sender, std::uint64_t first, std::uint64_t count) {
        cargo_t cargo[BATCH];
        std::uint64_t number = first, end = first + count, seen = first & MASK;
        patience_t patience;
        while (number != end) {
          auto filled = static_cast<std::size_t>(bulk ? std::min<std::uint64_t>(BATCH, end - number) : 1);
          while ((number & MASK) + filled - seen > SHARE) {
            std::uint64_t before = seen;
            seen = taken[sender].next.load(std::memory_order_acquire);
            if (seen == before) patience.wait();
          }
          for (std::size_t i = 0; i < filled; i++) cargo[i] = cargo_of(number++);
          if (!(bulk ? queue.enqueue_bulk(from[sender], cargo, filled) : queue.enqueue(from[sender], cargo[0]))) die("no memory");
        }
      },
      [&](std::uint64_t first, std::uint64_t each) {
        check_t check(first, each);
        patience_t patience;
        cargo_t cargo[BATCH];
        std::size_t untold = 0;
        while (check.left != 0) {
          std::size_t got = bulk ? queue.try_dequeue_bulk(to, cargo, BATCH) : queue.try_dequeue(to, cargo[0]);
          for (std::size_t i = 0; i < got; i++) check.take(cargo[i]);
          untold += got;
          if (untold >= BATCH || got == 0) {
            for (std::size_t i = 0; i < SENDERS; i++) taken[i].next.store(check.next[i], std::memory_order_release);
            untold = 0;
          }
          if (got == 0) patience.wait();
        }
      });
}

int main() {
  stream("bare: moodycamel ConcurrentQueue, one by one", 2000000, false);
  stream("bare: moodycamel ConcurrentQueue, bulks of 64", 8000000, true);
  fan_in("bare: moodycamel ConcurrentQueue, one by one", 2000000, false);
  fan_in("bare: moodycamel ConcurrentQueue, bulks of 64", 4000000, true);
}
