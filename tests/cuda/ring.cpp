/*
 * The device code as C++ on threads, against a host side written from the protocol at the head of ringkernel_device.cuh: two
 * seats that send to each other and to the host, with rings of four and eight places, so that every slot is used hundreds of
 * times. Under the thread sanitizer this checks the orderings H1 to H4 and P1 to P6, and everything that the threads of a block
 * share; RKSIM_WEAKEN takes one of them away, and then it has to be caught (ring.sh).
 *
 *   ring COUNT [express]
 */
#define RK_DEVICE_PLATFORM "platform.h"
#include "ringkernel_device.cuh"

#include <unistd.h>

#include <cstdio>
#include <thread>

namespace {
const unsigned SEATS = 2, STRIDE = 128, INPUT_SHIFT = 3, OUTBOX_SHIFT = 3, PEER_SHIFT = 2;

/* From the host: on to the other seat; full is a status of its own. From a peer: to the host. */
rk_status_t pass(rk_context_t *ctx, const rk_message_t *message) {
  if (message->source != 0) return rk_context_emit(ctx, message);
  const rk_status_t sent = rk_context_send(ctx, 0, message);
  return sent == RK_ERR_FULL ? 9 : sent;
}

struct Call {
  rk_status_t operator()(rk_context_t *ctx, const rk_message_t *message) const { return pass(ctx, message); }
};

struct alignas(256) World {
  rkd_launch launch;
  rkd_control controls[SEATS];
  rkd_status statuses[SEATS];
  rkd_seat seats[SEATS];
  rkd_tenant tenants[SEATS];
  alignas(64) rkd_u64 routes[SEATS][8]; /* the first entry of a leaf */
  alignas(128) char inputs[SEATS][STRIDE << INPUT_SHIFT];
  alignas(128) char outboxes[SEATS][STRIDE << OUTBOX_SHIFT];
  alignas(128) char peers[SEATS][STRIDE << PEER_SHIFT];
  alignas(128) char express_in[SEATS][64 * 256], express_out[SEATS][64 * 256];
  alignas(64) char inboxes[SEATS][64];
};
World world;

rkd_u64 acquire(const rkd_u64 *word) { return __atomic_load_n(word, __ATOMIC_ACQUIRE); }
void release(rkd_u64 *word, rkd_u64 value) { __atomic_store_n(word, value, __ATOMIC_RELEASE); }

struct Host {
  rkd_u64 sent = 0, released = 0, taken_records = 0, number = 0, tries = 0;
};
Host host[SEATS];

void fail(const char *what) {
  printf("FAILED: %s\n", what);
  fflush(stdout);
  _exit(1);
}

void command(unsigned seat, rkd_u32 verb) {
  release(&world.controls[seat].command, ++host[seat].number << 32 | verb);
}
void await(unsigned seat, rkd_u32 phase) {
  while (acquire(&world.statuses[seat].ack) != (host[seat].number << 32 | phase)) sched_yield();
}

void free_input(unsigned seat, rkd_u64 taken) {
  Host &h = host[seat];
  while (h.released < taken) {
    rkd_slot *slot = (rkd_slot *)(world.inputs[seat] + (h.released & 7) * STRIDE);
    __atomic_store_n(&slot->turn, (h.released >> INPUT_SHIFT) * 2 + 2, __ATOMIC_RELAXED);
    h.released++;
  }
}

bool send(unsigned seat, rkd_u64 value) {
  Host &h = host[seat];
  /* Mostly records say what is free. */
  if (h.tries++ % 16 == 0) free_input(seat, acquire(&world.statuses[seat].taken)); /* H2 */
  if (h.sent - h.released >= 8) return false;
  rkd_slot *slot = (rkd_slot *)(world.inputs[seat] + (h.sent & 7) * STRIDE);
  slot->correlation = value;
  slot->source = slot->token = slot->meta = slot->physical = 0;
  slot->logical = slot->node = 0;
  slot->payload_size = 24;
  slot->tag = (rkd_u32)value;
  for (unsigned i = 0; i < 3; i++) ((rkd_u64 *)(slot + 1))[i] = value * 3 + i;
  release(&slot->turn, (h.sent >> INPUT_SHIFT) * 2 + 1);
  h.sent++;
  return true;
}

/* A record, from its entry or its slot; false when there is none. */
bool receive(unsigned seat, rkd_record *out, rkd_u64 *payload) {
  Host &h = host[seat];
  const rkd_u64 position = h.taken_records, mark = (0x80000000ull | ((position + 1) & 0x7fffffffull)) << 32;
  const rkd_u64 *entry = (const rkd_u64 *)(world.express_out[seat] + position % 64 * 256);
  rkd_u64 words[16];
  bool whole = true;
  for (unsigned pair = 0; pair < 11 && whole; pair++) {
    if (pair == 7) continue;
    const rkd_u64 a = acquire(entry + 2 * pair), b = acquire(entry + 2 * pair + 1);
    words[pair] = (a & 0xffffffffull) | b << 32;
    whole = (a & ~0xffffffffull) == mark && (b & ~0xffffffffull) == mark;
    if (pair == 6 && whole && (rkd_u32)words[4] == 0) break; /* a failure has no payload */
  }
  if (whole && world.tenants[seat].express_out) {
    out->correlation = words[0];
    out->op = (rkd_u32)words[3];
    out->subject = words[1];
    out->payload_size = (rkd_u32)words[4];
    out->logical_taken = (rkd_u32)words[6];
    if (out->payload_size)
      for (unsigned i = 0; i < 3; i++) payload[i] = words[8 + i];
  } else {
    rkd_record *slot = (rkd_record *)(world.outboxes[seat] + (position & 7) * STRIDE);
    if (acquire(&slot->turn) != (position >> OUTBOX_SHIFT) * 2 + 1) return false; /* H3 */
    *out = *slot;
    for (unsigned i = 0; i < 3; i++) payload[i] = ((rkd_u64 *)(slot + 1))[i];
  }
  release(&world.controls[seat].outbox_head, ++h.taken_records); /* H4 */
  const rkd_u64 ahead = ((out->logical_taken >> 7) - h.released) & 0x1ffffffull; /* D11 */
  if (ahead < 0x1000000ull) free_input(seat, h.released + ahead);
  return true;
}
}  // namespace

int main(int argc, char **argv) {
  const rkd_u64 count = argc > 1 ? strtoull(argv[1], nullptr, 10) : 2000;
  const bool express = argc > 2;
  world.launch.controls = (rkd_u64)world.controls;
  world.launch.statuses = (rkd_u64)world.statuses;
  world.launch.seats = (rkd_u64)world.seats;
  world.launch.count = SEATS;
  world.launch.busy_sleep_ns = 100;
  world.launch.idle_sleep_ns = 2000;
  world.launch.layout = RKD_LAYOUT;
  world.launch.fresh = 1;
  for (unsigned seat = 0; seat < SEATS; seat++) {
    rkd_tenant &t = world.tenants[seat];
    t.kernel = 100 + seat;
    t.input = (rkd_u64)world.inputs[seat];
    t.outbox = (rkd_u64)world.outboxes[seat];
    t.peer = (rkd_u64)world.peers[seat];
    t.inbox = (rkd_u64)world.inboxes[seat];
    t.routes = (rkd_u64)world.routes[seat];
    t.seat0 = (rkd_u64)&world.seats[seat];
    t.epoch = 7 + seat;
    t.express_out = express ? (rkd_u64)world.express_out[seat] : 0;
    t.input_shift = INPUT_SHIFT;
    t.outbox_shift = OUTBOX_SHIFT;
    t.peer_shift = PEER_SHIFT;
    t.stride = STRIDE;
    t.payload_max = 64;
    t.blocks = 1;
    t.route_max = 1;
    world.controls[seat].tenant = (rkd_u64)&t;
    rkd_route route = {};
    route.seats = (rkd_u64)&world.seats[1 - seat];
    route.blocks = 1;
    route.epoch = 7 + (1 - seat);
    route.payload_max = 64;
    route.capacity = 8;
    route.handle = 100 + (1 - seat);
    rkd_u32 words[8];
    memcpy(words, &route, sizeof words);
    for (int at = 0; at < 8; at++) world.routes[seat][at] = 1ull << 32 | words[at]; /* each word says the number of its route, plus 1 */
  }
  std::thread device([] {
    const rkd_u64 launch = (rkd_u64)&world.launch;
    rksim::launch(SEATS, 8, 0, nullptr, [launch] { rkd_main(launch, Call()); });
  });
  for (unsigned seat = 0; seat < SEATS; seat++) {
    command(seat, RKD_PAUSE);
    await(seat, RKD_IS_PAUSED);
  }
  for (unsigned seat = 0; seat < SEATS; seat++) command(seat, RKD_RUN);

  /* Each number goes to a seat, from there to the other, and from there to here; in order, once. What found the peer ring
   * full comes back as a failure, and is lost for this count. */
  rkd_u64 next[SEATS] = {0, 0}, back[SEATS] = {0, 0}, last[SEATS] = {0, 0}, failures = 0;
  while (back[0] + back[1] + failures < 2 * count) {
    for (unsigned seat = 0; seat < SEATS; seat++) {
      if (next[seat] < count && send(seat, next[seat] + 1)) next[seat]++;
      rkd_record record;
      rkd_u64 payload[3];
      if (!receive(seat, &record, payload)) continue;
      if ((record.op & 0xff) == RKD_FAILED) {
        failures++;
        continue;
      }
      if (record.op != RKD_EMIT || record.payload_size != 24) fail("a record that nobody asked for");
      for (unsigned i = 0; i < 3; i++)
        if (payload[i] != record.correlation * 3 + i) fail("the content of a message");
      if (record.correlation <= last[seat]) fail("the order of messages");
      last[seat] = record.correlation;
      back[seat]++;
    }
  }
  for (unsigned seat = 0; seat < SEATS; seat++) {
    release(&world.controls[seat].drain_to, host[seat].sent);
    command(seat, RKD_DRAIN);
  }
  for (unsigned seat = 0; seat < SEATS; seat++) await(seat, RKD_IS_DONE);
  for (unsigned seat = 0; seat < SEATS; seat++) {
    if (world.statuses[seat].taken != count) fail("what was taken");
    if (world.statuses[seat].processed + world.statuses[seat].failed != count + back[seat]) fail("what was counted");
    command(seat, RKD_EXIT);
  }
  device.join();
  if (back[0] + back[1] == 0) fail("nothing came");
  printf("ok: %llu there and back, %llu found no room\n", (unsigned long long)(back[0] + back[1]),
         (unsigned long long)failures);
  return 0;
}
