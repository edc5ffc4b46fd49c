/* CAF, the C++ Actor Framework, dynamically typed actors, its own scheduler (work stealing) with one worker, for hops also two.
 *
 * Mailboxes have no limit, so a host thread that streams looks at what has been taken and lets no more than its share of 1024 be
 * under way, spinning. A caller is a host thread with a scoped_actor, which sleeps until the answer is there, or an actor on the
 * worker itself (no thread is waked). A worker with nothing to do polls for a while and then, in naps of 50 us, for about 25 ms
 * more, before it waits for a wake: a call from a host thread waits for the end of a nap, and one each 100 us is more than that
 * allows, so those figures are of calls that queue up. Work sharing, CAF's other policy, has no naps: calls are measured with both.
 */
#include <semaphore.h>
#include <sys/wait.h>
#include <unistd.h>

#include <caf/all.hpp>
#include <deque>
#include <memory>

#define CARGO_ALIGN 8
#include "harness.hpp"

template <class Inspector>
typename Inspector::result_type inspect(Inspector &f, cargo_t &cargo) {
  return f(caf::meta::type_name("cargo"), cargo.words);
}

struct config_t : caf::actor_system_config {
  explicit config_t(std::size_t workers, bool sharing = false) {
    add_message_type<cargo_t>("cargo");
    if (sharing) set("scheduler.policy", caf::atom("sharing"));
    set("scheduler.max-threads", workers);
  }
};

[[noreturn]] static void failed(const caf::error &) { die("a request failed"); }

/* -- stream, fan_in -- */

struct taken_t {
  alignas(128) std::atomic<std::uint64_t> count{0};
};

static std::array<taken_t, SENDERS> taken;

static caf::behavior sink(caf::event_based_actor *) {
  return {[next = std::array<std::uint64_t, SENDERS>{}](const cargo_t &cargo) mutable {
    std::uint64_t sender = cargo.words[0] >> SENDER_SHIFT;
    if (sender >= SENDERS) die("no such sender");
    must_be(cargo, sender << SENDER_SHIFT | next[sender]++);
    taken[sender].count.store(next[sender], std::memory_order_release);
  }};
}

static void send(const caf::actor &to, std::uint64_t first, std::uint64_t count, std::uint64_t places) {
  taken_t &of = taken[first >> SENDER_SHIFT];
  std::uint64_t mask = (std::uint64_t{1} << SENDER_SHIFT) - 1, seen = of.count.load(std::memory_order_acquire);
  patience_t patience;
  for (std::uint64_t number = first; number != first + count; number++) {
    while ((number & mask) - seen >= places) {
      seen = of.count.load(std::memory_order_acquire);
      if ((number & mask) - seen >= places) patience.wait();
    }
    caf::anon_send(to, cargo_of(number));
  }
}

static void wait_for(std::uint64_t all) {
  for (;;) {
    std::uint64_t sum = 0;
    for (const auto &of : taken) sum += of.count.load(std::memory_order_acquire);
    if (sum == all) return;
    sched_yield();
  }
}

static void streams() {
  config_t config(1);
  caf::actor_system system{config};
  caf::actor to = system.spawn(sink);
  std::uint64_t sent = 0;
  bench_case("stream", "actor: CAF, anon_send", 500000, [&](std::uint64_t count) {
    std::uint64_t start = now();
    send(to, sent, count, PLACES);
    sent += count;
    while (taken[0].count.load(std::memory_order_acquire) != sent) relax();
    return now() - start;
  });
  caf::anon_send_exit(to, caf::exit_reason::user_shutdown);

  for (auto &of : taken) of.count = 0;
  to = system.spawn(sink);
  sent = 0;
  bench_fan_in(
      "actor: CAF, anon_send", 400000,
      [&](std::uint64_t, std::uint64_t first, std::uint64_t count) { send(to, first, count, PLACES / SENDERS); },
      [&](std::uint64_t, std::uint64_t each) { wait_for(sent += each * SENDERS); });
  caf::anon_send_exit(to, caf::exit_reason::user_shutdown);
}

/* -- calls, outstanding -- */

static caf::behavior echo(caf::event_based_actor *) {
  return {[](const cargo_t &cargo) { return cargo; }};
}

/* A round of an actor that asks: how many, how many of them at once, and when it was done. */
struct round_t {
  std::uint64_t count, window, asked, answered, end;
  sem_t done;
};

static round_t asking;

static void ask(caf::event_based_actor *self, const caf::actor &to) {
  std::uint64_t number = asking.asked++;
  self->request(to, caf::infinite, cargo_of(number))
      .then(
          [=](const cargo_t &answer) {
            must_be(answer, number);
            if (asking.asked != asking.count) ask(self, to);
            if (++asking.answered == asking.count) {
              asking.end = now();
              sem_post(&asking.done);
            }
          },
          failed);
}

using start_t = caf::atom_constant<caf::atom("start")>;

static caf::behavior asker(caf::event_based_actor *self, caf::actor to) {
  return {[=](start_t) {
    while (asking.asked != std::min(asking.count, asking.window)) ask(self, to);
  }};
}

static void calls(bool sharing) {
  config_t config(1, sharing);
  caf::actor_system system{config};
  caf::scoped_actor self{system};
  caf::actor to = system.spawn(echo), beside = system.spawn(asker, to);
  std::string name = sharing ? "actor: CAF, work sharing, request, " : "actor: CAF, request, ";
  std::string host = name + "a host thread asks", task = name + "an actor beside it asks";
  auto from_beside = [&](std::uint64_t window) {
    return [&, window](std::uint64_t count) {
      asking.count = count;
      asking.window = window;
      asking.asked = asking.answered = 0;
      std::uint64_t start = now();
      caf::anon_send(beside, start_t::value);
      while (sem_wait(&asking.done) != 0) {
      }
      return asking.end - start;
    };
  };
  bench_calls(host, 10000, [&](std::uint64_t number) {
    self->request(to, caf::infinite, cargo_of(number)).receive([&](const cargo_t &answer) { must_be(answer, number); }, failed);
  });
  bench_case("calls", task, 200000, from_beside(1));
  bench_case("outstanding", host, 100000, [&](std::uint64_t count) {
    std::uint64_t start = now();
    auto post = [&](std::uint64_t number) { return self->request(to, caf::infinite, cargo_of(number)); };
    std::deque<decltype(post(0))> asked;
    for (std::uint64_t i = 0; i < std::min(count, WINDOW); i++) asked.push_back(post(i));
    for (std::uint64_t i = 0; i < count; i++) {
      asked.front().receive([&](const cargo_t &answer) { must_be(answer, i); }, failed);
      asked.pop_front();
      if (i + WINDOW < count) asked.push_back(post(i + WINDOW));
    }
    return now() - start;
  });
  bench_case("outstanding", task, 200000, from_beside(WINDOW));
  caf::anon_send_exit(beside, caf::exit_reason::user_shutdown);
  caf::anon_send_exit(to, caf::exit_reason::user_shutdown);
}

/* -- hops -- */

constexpr std::uint64_t ACTORS = 100;

struct place_t {
  caf::actor next;
  std::uint64_t due = 0; /* hops left + 1 when the token comes next; 0: not known yet */
};

static caf::behavior node(caf::stateful_actor<place_t> *self) {
  return {
      [=](const caf::actor &next) { self->state.next = next; },
      [=](const cargo_t &cargo) {
        place_t &place = self->state;
        std::uint64_t left = cargo.words[0];
        must_be(cargo, left);
        if (place.due != 0 && place.due != left + 1) die("the token came at a wrong place");
        place.due = left >= ACTORS ? left + 1 - ACTORS : 0;
        if (left != 0) {
          self->send(place.next, cargo_of(left - 1));
        } else {
          asking.end = now();
          sem_post(&asking.done);
        }
      },
  };
}

static void hops(std::size_t workers) {
  config_t config(workers);
  caf::actor_system system{config};
  std::vector<caf::actor> nodes;
  for (std::uint64_t i = 0; i < ACTORS; i++) nodes.push_back(system.spawn(node));
  for (std::uint64_t i = 0; i < ACTORS; i++) caf::anon_send(nodes[i], nodes[(i + 1) % ACTORS]);
  bench_case("hops", workers == 1 ? "actor: CAF, 1 worker, 1 token" : "actor: CAF, 2 workers, 1 token", 200000, [&](std::uint64_t count) {
    std::uint64_t start = now();
    caf::anon_send(nodes[0], cargo_of(count - 1));
    while (sem_wait(&asking.done) != 0) {
    }
    return asking.end - start;
  });
  for (auto &actor : nodes) caf::anon_send_exit(actor, caf::exit_reason::user_shutdown);
}

/* -- many: see src/many.rs; each round has a process of its own -- */

static std::atomic<std::uint64_t> started{0}, visited{0};

static caf::behavior visits(caf::event_based_actor *, std::uint64_t index) {
  started.fetch_add(1, std::memory_order_release);
  return {[index, visit = std::uint64_t{0}](const cargo_t &cargo) mutable {
    must_be(cargo, visit++ << 32 | index);
    visited.fetch_add(1, std::memory_order_release);
  }};
}

static double resident() {
  unsigned long total, pages;
  std::FILE *file = std::fopen("/proc/self/statm", "r");
  if (!file || std::fscanf(file, "%lu %lu", &total, &pages) != 2) die("/proc/self/statm");
  std::fclose(file);
  return static_cast<double>(pages) * static_cast<double>(sysconf(_SC_PAGESIZE));
}

static const std::pair<const char *, const char *> FIGURES[] = {{"many", "create"},
                                                                {"many bytes", "before the first message"},
                                                                {"many", "first message"},
                                                                {"many bytes", "after the first message"},
                                                                {"many", "later message"}};

using figures_t = std::array<double, 5>;

static figures_t one_round(std::uint64_t count) {
  auto each = [&](double value) { return value / static_cast<double>(count); };
  config_t config(1);
  auto *system = new caf::actor_system{config}; // the process ends with it
  std::vector<caf::actor> actors(count); // written already: its pages are not counted
  double before = resident();
  std::uint64_t start = now();
  for (std::uint64_t i = 0; i < count; i++) actors[i] = system->spawn(visits, i);
  while (started.load(std::memory_order_acquire) != count) sched_yield();
  double created = each(static_cast<double>(now() - start));
  usleep(50000);
  double bytes = each(resident() - before);
  auto visit_all = [&](std::uint64_t visit) {
    std::uint64_t begin = now();
    for (std::uint64_t i = 0; i < count; i++) caf::anon_send(actors[i], cargo_of(visit << 32 | i));
    while (visited.load(std::memory_order_acquire) != count * (visit + 1)) sched_yield();
    return each(static_cast<double>(now() - begin));
  };
  double first = visit_all(0), bytes_used = each(resident() - before);
  return {created, bytes, first, bytes_used, visit_all(1)};
}

static figures_t in_child(std::uint64_t count) {
  figures_t figures;
  int ends[2], status;
  if (pipe(ends) != 0) die("pipe");
  pid_t child = fork();
  if (child < 0) die("fork");
  if (child == 0) {
    figures = one_round(count);
    _exit(write(ends[1], &figures, sizeof figures) == static_cast<ssize_t>(sizeof figures) ? 0 : 1);
  }
  close(ends[1]);
  if (read(ends[0], &figures, sizeof figures) != static_cast<ssize_t>(sizeof figures)) die("a child's figures");
  close(ends[0]);
  if (waitpid(child, &status, 0) != child || status != 0) die("a child");
  return figures;
}

static void many() {
  std::uint64_t count = bench_scale() < 0.1 ? bench_count(100000) : 100000;
  std::array<std::vector<double>, 5> all;
  for (int round = 0; round < bench_rounds(); round++) {
    figures_t figures = in_child(count);
    for (std::size_t i = 0; i < figures.size(); i++) all[i].push_back(figures[i]);
  }
  for (std::size_t i = 0; i < all.size(); i++)
    bench_line(FIGURES[i].first, "actor: CAF, " + std::to_string(count) + " actors, " + FIGURES[i].second, all[i]);
}

int main() {
  many(); // first: it forks, and no thread may run then
  streams();
  sem_init(&asking.done, 0, 0);
  calls(false);
  calls(true);
  hops(1);
  hops(2);
}
