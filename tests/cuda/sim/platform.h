/*
 * What the device code needs, made of threads: one thread of the system per CUDA thread, small warps.
 *
 * Memory orders of both scopes are those of C++; a fence followed by a relaxed store is one release store, because the
 * thread sanitizer does not model fences. So mistakes of scope are not seen here, mistakes of order are.
 * RKSIM_WEAKEN names one primitive that is relaxed: the tests' own seeded faults.
 */
#ifndef RKSIM_PLATFORM_H
#define RKSIM_PLATFORM_H

#include <condition_variable>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <functional>
#include <memory>
#include <mutex>
#include <sched.h>
#include <thread>
#include <vector>

#ifndef RKSIM_WARP
#define RKSIM_WARP 4u
#endif

namespace rksim {

/* Thrown through a simulated kernel whose device is lost. */
struct Lost {};

class Barrier {
 public:
  explicit Barrier(unsigned count) : count_(count) {}
  void wait(const volatile int *lost) {
    if (count_ <= 1) return;
    std::unique_lock<std::mutex> lock(mutex_);
    const unsigned round = round_;
    if (++arrived_ == count_) {
      arrived_ = 0;
      round_++;
      changed_.notify_all();
      return;
    }
    while (round_ == round) {
      changed_.wait_for(lock, std::chrono::milliseconds(5));
      if (lost && __atomic_load_n(lost, __ATOMIC_RELAXED)) throw Lost();
    }
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  unsigned count_, arrived_ = 0, round_ = 0;
};

struct Block {
  Block(unsigned index, unsigned threads, unsigned shared_bytes, const volatile int *lost)
      : index(index), threads(threads), lost(lost), all(threads), warp(threads < RKSIM_WARP ? threads : RKSIM_WARP) {
    /* Shared memory is not zeroed on a GPU. */
    memset(fixed, 0xa5, sizeof fixed);
    dynamic.resize(shared_bytes / 8 + 1, 0xa5a5a5a5a5a5a5a5ull);
  }
  unsigned index, threads;
  const volatile int *lost;
  Barrier all, warp;
  alignas(128) char fixed[4096];
  std::vector<unsigned long long> dynamic;
  unsigned bits[RKSIM_WARP]; /* what the lanes of warp 0 vote with */
};

struct Thread {
  Block *block;
  unsigned index;
};
inline thread_local Thread *self = nullptr;

inline void check() {
  if (self->block->lost && __atomic_load_n(self->block->lost, __ATOMIC_RELAXED)) throw Lost();
}

/* Runs `body` on a grid; returns when every thread has ended. */
inline void launch(unsigned grid, unsigned threads, unsigned shared_bytes, const volatile int *lost,
                   const std::function<void()> &body) {
  std::vector<std::unique_ptr<Block>> blocks;
  std::vector<std::thread> running;
  for (unsigned b = 0; b < grid; b++) blocks.emplace_back(new Block(b, threads, shared_bytes, lost));
  for (unsigned b = 0; b < grid; b++) {
    for (unsigned t = 0; t < threads; t++) {
      running.emplace_back([&body, block = blocks[b].get(), t] {
        Thread me{block, t};
        self = &me;
        try {
          body();
        } catch (const Lost &) {
        }
        self = nullptr;
      });
    }
  }
  for (auto &thread : running) thread.join();
}

#ifdef RKSIM_WEAKEN
inline constexpr bool weak(const char *name) { return __builtin_strcmp(name, RKSIM_WEAKEN) == 0; }
#else
inline constexpr bool weak(const char *) { return false; }
#endif
}  // namespace rksim

#define RKP_DEVICE static inline
#define RKP_COLD static
#define RKP_SHARED(type, name)                                                          \
  static_assert(sizeof(type) <= sizeof(rksim::Block::fixed), "shared memory");          \
  type &name = *reinterpret_cast<type *>(rksim::self->block->fixed)

RKP_DEVICE rkd_u64 rkp_load_acquire_sys(const void *p) {
  rksim::check();
  return __atomic_load_n((const rkd_u64 *)p, rksim::weak("load_acquire_sys") ? __ATOMIC_RELAXED : __ATOMIC_ACQUIRE);
}
RKP_DEVICE rkd_u64 rkp_load_relaxed_sys(const void *p) {
  rksim::check();
  return __atomic_load_n((const rkd_u64 *)p, __ATOMIC_RELAXED);
}
RKP_DEVICE void rkp_store_relaxed_sys(void *p, rkd_u64 v) { __atomic_store_n((rkd_u64 *)p, v, rksim::weak("publish_sys") ? __ATOMIC_RELAXED : __ATOMIC_RELEASE); }
RKP_DEVICE void rkp_publish_sys(void *p, rkd_u64 v) {
  __atomic_store_n((rkd_u64 *)p, v, rksim::weak("publish_sys") ? __ATOMIC_RELAXED : __ATOMIC_RELEASE);
}
RKP_DEVICE rkd_u64 rkp_load_acquire_gpu(const void *p) {
  rksim::check();
  return __atomic_load_n((const rkd_u64 *)p, rksim::weak("load_acquire_gpu") ? __ATOMIC_RELAXED : __ATOMIC_ACQUIRE);
}
RKP_DEVICE void rkp_store_release_gpu(void *p, rkd_u64 v) {
  __atomic_store_n((rkd_u64 *)p, v, rksim::weak("store_release_gpu") ? __ATOMIC_RELAXED : __ATOMIC_RELEASE);
}
RKP_DEVICE rkd_u64 rkp_cas_gpu(void *p, rkd_u64 expected, rkd_u64 v) {
  rksim::check();
  __atomic_compare_exchange_n((rkd_u64 *)p, &expected, v, false, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE);
  return expected;
}
RKP_DEVICE rkd_u64 rkp_exchange_gpu(void *p, rkd_u64 v) {
  return __atomic_exchange_n((rkd_u64 *)p, v, __ATOMIC_ACQ_REL);
}
RKP_DEVICE rkd_16 rkp_get16(const void *p) { return *(const rkd_16 *)p; }
/* Two words, each whole. */
RKP_DEVICE rkd_16 rkp_get_words(const void *p) {
  const rkd_u64 *words = (const rkd_u64 *)p;
  return rkd_16{__atomic_load_n(words, __ATOMIC_RELAXED), __atomic_load_n(words + 1, __ATOMIC_RELAXED)};
}
RKP_DEVICE rkd_16 rkp_look16(const void *p, bool is_turn) {
  if (!is_turn) return rkp_get_words(p);
  return rkd_16{__atomic_load_n((const rkd_u64 *)p, __ATOMIC_RELAXED), 0};
}
RKP_DEVICE void rkp_put_words(void *p, rkd_u64 a, rkd_u64 b) {
  /* What follows a fence on the device is a release here. */
  __atomic_store_n((rkd_u64 *)p, a, rksim::weak("publish_sys") ? __ATOMIC_RELAXED : __ATOMIC_RELEASE);
  __atomic_store_n((rkd_u64 *)p + 1, b, rksim::weak("publish_sys") ? __ATOMIC_RELAXED : __ATOMIC_RELEASE);
}
RKP_DEVICE void rkp_put16(void *p, rkd_16 v) { *(rkd_16 *)p = v; }
RKP_DEVICE void rkp_put8(void *p, rkd_u64 v) { *(rkd_u64 *)p = v; }
/* Not the host's clock: what the library makes of the difference is tested, too. */
RKP_DEVICE rkd_u64 rkp_now_ns() {
  timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (rkd_u64)now.tv_sec * 1000000000ull + (rkd_u64)now.tv_nsec + 1234567890123ull;
}
RKP_DEVICE void rkp_sleep(rkd_u32 ns) {
  rksim::check();
  if (ns < 1000) {
    sched_yield();
    return;
  }
  timespec time = {0, (long)ns};
  nanosleep(&time, nullptr);
}
RKP_DEVICE rkd_u32 rkp_thread() { return rksim::self->index; }
RKP_DEVICE rkd_u32 rkp_threads() { return rksim::self->block->threads; }
RKP_DEVICE rkd_u32 rkp_block() { return rksim::self->block->index; }
RKP_DEVICE rkd_u32 rkp_width() { return rkp_threads() < RKSIM_WARP ? rkp_threads() : RKSIM_WARP; }
RKP_DEVICE void rkp_sync_warp() { rksim::self->block->warp.wait(rksim::self->block->lost); }
RKP_DEVICE rkd_u32 rkp_or(rkd_u32 bits) {
  rksim::Block *block = rksim::self->block;
  block->bits[rksim::self->index] = bits;
  rkp_sync_warp();
  rkd_u32 all = 0;
  for (unsigned lane = 0; lane < rkp_width(); lane++) all |= block->bits[lane];
  rkp_sync_warp();
  return all;
}
RKP_DEVICE void rkp_sync_block() { rksim::self->block->all.wait(rksim::self->block->lost); }
RKP_DEVICE void *rkp_dynamic_shared() { return rksim::self->block->dynamic.data(); }

/* Execution spaces mean nothing to a C++ compiler. */
#ifndef __device__
#define __device__
#define __host__
#define __forceinline__ inline
#endif

#define RKP_METHOD
#define RKP_ENTRY(entry, handler)                                                                             \
  struct entry##_call {                                                                                       \
    rk_status_t operator()(rk_context_t *ctx, const rk_message_t *message) const {                            \
      return handler(ctx, message);                                                                           \
    }                                                                                                         \
  };                                                                                                          \
  extern "C" __attribute__((visibility("default"))) void rksim_launch_##entry(                                \
      unsigned grid, unsigned block, unsigned shared_bytes, void **params, void *lost) {                      \
    const rkd_u64 launch = *(const rkd_u64 *)params[0];                                                       \
    /* A warp of 32 is a small one here. */                                                                   \
    const unsigned threads = block >= 32 ? (block + 31) / 32 * RKSIM_WARP : block;                            \
    rksim::launch(grid, threads > 64 ? 64 : threads, shared_bytes, (const volatile int *)lost,                \
                  [launch] { rkd_main(launch, entry##_call()); });                                            \
  }

#endif
