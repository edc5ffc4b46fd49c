/*
 * libringkernel: handlers that run on a CUDA GPU.
 *
 * CUDA C++ for NVRTC, nvcc and clang; needs no header of NVIDIA's. A handler has the signature of the C header:
 *
 *   rk_status_t handler(rk_context_t *ctx, const rk_message_t *message);
 *
 *  - All threads of the block call it. What it returns: RK_OK if every thread did, else what one of those
 *    returned that did not.
 *  - rk_context_reply, rk_context_emit and rk_context_send act when thread 0 of the block calls them and answer
 *    RK_OK to the others; what they send is copied before they return. rk_context_sync is a block barrier.
 *  - The state is the block's: what several threads write is theirs to order.
 *    What thread 0 got from them is thread 0's: share it before a branch around a barrier, for all threads or none may come to it.
 *  - A payload of up to 432 bytes lies in shared memory, a larger one, and any from another kernel on the device, in device memory.
 *
 * RK_DEVICE_ENTRY(handler) makes the kernel that the library launches. Programs given as source get it from the
 * library; programs given as PTX or CUBIN have it in their own source, once per handler.
 *
 * SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 * ---------------------------------------------------------------------------------------------------------
 * The protocol
 *
 * A launch is a grid of *seats*, one block each. A seat is vacant until the host gives it a *tenant*, a block of
 * a kernel. Three kinds of memory:
 *   mapped   host memory that both sides see. Only aligned loads and stores there, no read-modify-write.
 *            control: written by the host only. status, outbox: by the device only. input: by the host only.
 *   device   state, the peer ring (messages from other kernels on the device), the seat's own record.
 *   shared   everything between two polls.
 *
 * Invariants
 *   D1 Each word of mapped memory has one writer, for ever.
 *   D2 The device reads an input slot after it has seen the slot's turn published (acquire), and says so in
 *      status.taken (relaxed after a fence; without one if it has not read the slot, see Express) when it is done with it; only
 *      then does the host write it again.
 *   D3 A record of the outbox is complete before its turn is stored; the host reads it after the turn (acquire)
 *      and says so in control.outbox_head (release); only then does the device write it again (acquire).
 *   D4 status.ack is stored (release) after everything that the command made the block do. So PAUSED means that
 *      no handler runs, DONE that every record is out and taken is final.
 *   D5 Every command has a number of its own; an ack repeats it. An old ack is never taken for a new one.
 *   D6 One thread of the block looks at the command and decides; the others learn of it at a block barrier. All leave
 *      together. A barrier of the grid is decided by one compare-and-swap: passed or broken, the same for all.
 *   D7 The peer ring is the host's ring (one turn word per slot) with its tail in device memory: [epoch:16 | position:48].
 *      A sender claims by a compare-and-swap against the epoch of the kernel its route leads to; the owner takes the epoch
 *      away by one exchange and from then on its last position is final. It stays until all claimed slots are published
 *      and taken, so nobody writes into a ring that has another owner.
 *   D8 No wait without looking at the command word.
 *
 *   | label | operation                                  | ordering          | pairs with                        |
 *   | H1    | device reads an input slot's turn again    | acquire.sys       | the host's release (ring W3)      |
 *   | H2    | device stores status.taken                 | after a fence.sys | the host's acquire                |
 *   | H3    | device stores a record's turn              | release.sys       | the host's acquire                |
 *   | H4    | device reads command or outbox_head again  | acquire.sys       | the host's release                |
 *   | P1    | peer sender reads a slot's turn            | acquire.gpu       | P4                                |
 *   | P2    | peer sender stores the turn, published     | release.gpu       | P3                                |
 *   | P3    | owner reads a slot's turn again            | acquire.sys       | P2                                |
 *   | P4    | owner stores the turn, free                | release.gpu       | P1                                |
 *   | P5    | owner stores the tail, with its epoch      | release.gpu       | P6                                |
 *   | P6    | peer sender reads the tail                 | acquire.gpu       | P5: the ring's description        |
 *
 * Express. A turn costs the receiver a second trip over the bus for the message, and the sender of a record a fence. Small
 * messages (up to 64 bytes) therefore also go, and small records only go, as words that say themselves that they are there: 4
 * bytes of data and 32 bits of the position in each aligned 8 bytes (the idea of NCCL's LL protocol). A word is read whole or
 * not at all, so who finds the position in all words of an entry has the message, in any order of arrival.
 *   D9  Entry p mod 64 is only ever written with such words. It is written for position p when the host has taken p - 64
 *       (records), or any time (input: but the host does not release a slot whose turn is not stored yet, whatever the
 *       device says it has taken). A reader that finds other positions in an entry finds nothing; for the input there is the slot.
 *   D10 Positions have 31 bits in a word. All words of every entry are written at least once in 2^27 positions, so none
 *       is ever mistaken for one of 2^31 positions later. What is written for that purpose alone, beside a large message, bears a
 *       position 2^30 away: no reader is near it before it is written again. For the outbox it is written when D9 allows it.
 *   D11 A record repeats 25 bits of how much input was taken (and fenced, where it was read from a slot) when it was made, so who
 *       gets an answer finds the places of all messages before it free, not only when status.taken is looked at again.
 *       It may arrive after a later status.taken: a difference that is negative, as a number of 25 bits, frees nothing.
 *   D12 The host stores control.hold (release) before it gives back the place of a record whose message finds no room. So a block that
 *       had to wait for a place learns of it (H4, then the look's load after it) before it takes another message.
 *   D13 A block of a short launch that has come to its end says so in its record: launched again for the sake of others, it leaves.
 *   D14 A grid barrier and a pause: while blocks wait at the barrier the others take messages although they are to pause, and
 *       say RUNNING before they do. They arrive at the barrier after that, and who waited leaves it after they arrived. An answer
 *       counts how often that was, so two looks at all blocks that find the same answers, all of them PAUSED, have found a time
 *       between them at which no handler ran and none waits for another. A block that has come to its end breaks the barrier.
 *   D15 The description of a peer ring is 16 bytes, written and read by one instruction each. A sender that was between P6 and
 *      its compare-and-swap while the seat changed hands has the description of one ring or the other, never of both: it reads a
 *      slot's turn where there is a slot (memory of the pool is given back when the pool's device is closed), and the
 *      compare-and-swap fails by the epoch.
 *   D16 A block whose handler failed takes no message until control.restarts is more than the restarts that it has done. The host counts
 *      it up once for each record of such a failure, after that record; each failure has one. The block makes its state zero, or what
 *      lies at control.transfer if a state was ever copied (the host puts the last checkpoint there before), with all its threads, before it takes
 *      the next message. Without a restart it waits for the command that ends it.
 *   D17 A block copies its own state: SAVE to control.transfer, LOAD from there, by all of its threads, between two block
 *      barriers, and then says COPIED. The host asks for it when every block has paused and none waits at the grid's barrier (D14),
 *      so no handler runs in any block before all have answered. What handlers wrote comes before the copy, and what was loaded before the next handler, by the
 *      barriers: the same block's threads, so no cache of another multiprocessor, copy engine or stream is between. What was saved is
 *      seen by who sees the answer (D4); what is to be loaded was written before the command (H4). A short launch is made for it; it says
 *      RESTED with the number of the command, after it.
 *   D18 The table of routes. An entry is 8 words of 4 bytes of an rkd_route and 32 bits of the route's number, plus 1: so an entry says
 *      itself whose it is, as an express entry does, and who finds the number in all of its words has the route whole, whatever the
 *      host is writing. Entries lie in leaves of 64, leaves hang in a tree of pages, and the first leaf is where the description says.
 *      A number has one route, ever; an entry is zeroed when its route ends; a leaf without routes is hung up elsewhere, for
 *      other numbers. So who comes to a leaf by an old way finds other numbers there, and goes the whole way again; only if that leads to no
 *      such number either there is no such route. Pages and leaves never turn into each other and stay until the kernel's end, so
 *      what is read as an address is one. A message knows by the version that it carries that what is remembered of routes is old.
 *   D19 A sender through the host has credit for as many messages as the target's queue has places without asking, if no more of its messages than
 *      that are on their way at all. Beyond it asks with the message: the host says in control.verdict, with the number of that message
 *      among those that the block has sent through it, whether it took it (bit 0: it did not). The block waits for that; the host never waits for
 *      a block, and takes a block's records whatever else it holds up, so the verdict comes. Each such message is counted once on either side.
 * A message that came as an entry was never read from its slot: that it is taken can be said without a fence, unless a record
 * (a failure) refers to the slot.
 *
 * A slot's turn and the version of the routes are read by the poll in no order; the version that counts is read again with the
 * message itself, after its turn was seen.
 */
#ifndef RINGKERNEL_DEVICE_CUH
#define RINGKERNEL_DEVICE_CUH

#include "ringkernel.h"

typedef unsigned int rkd_u32;
typedef unsigned long long rkd_u64;
struct alignas(16) rkd_16 {
  rkd_u64 a, b;
};

/* ---- The layout; src/layout.rs has the same, and a test compares the two. ---- */

#define RKD_LAYOUT 4u

/* What the host asks of a seat: number << 32 | verb. */
enum { RKD_VACANT = 0, RKD_PAUSE = 1, RKD_RUN = 2, RKD_DRAIN = 3, RKD_STOP = 4, RKD_EXIT = 5, RKD_SAVE = 6, RKD_LOAD = 7 };
/* What a seat answers: number << 32 | times it has gone on although it was to pause (D14) << 8 | phase. */
enum {
  RKD_IS_VACANT = 1,
  RKD_IS_PAUSED = 2,
  RKD_IS_RUNNING = 3,
  RKD_IS_FAULT = 4,
  RKD_IS_DONE = 5,
  RKD_IS_GONE = 6,
  RKD_IS_RESTED = 7,
  RKD_IS_COPIED = 8
};
/* What a record says. */
enum {
  RKD_REPLY = 1,        /* to the call whose token is the subject */
  RKD_REPLY_KERNEL = 2, /* to the kernel that is the subject */
  RKD_EMIT = 3,
  RKD_SEND = 4,    /* to the kernel that is the subject, through the host */
  RKD_DEAD = 5,    /* a message to the kernel that is the subject, or a peer's from there; status and reason say why */
  RKD_FAILED = 6,  /* the host's message at the position that is the subject was answered with status */
  RKD_EXPIRED = 7, /* the host's message at the position that is the subject */
  RKD_LEFT = 8,    /* a peer's message that was not handled before the end */
  RKD_ASKS = 0x2000000, /* with RKD_SEND: the block waits for the verdict (D19) */
  RKD_STAMP = 0x1000000 /* with an operation: it is stamped, also if the kernel does not ask for stamps; not written */
};

struct alignas(128) rkd_control {
  rkd_u64 command, drain_to, outbox_head, clock_offset, unix_offset, route_version, hold, tenant;
  rkd_u64 sends_done, restarts, transfer, verdict, reserved[4];
};
static_assert(sizeof(rkd_control) == 128, "rkd_control");

struct alignas(128) rkd_status {
  rkd_u64 version, ack, taken, peer_taken, started, processed, failed, sent;
  rkd_u64 heartbeat, timer, peer_seen, reserved[5];
};
static_assert(sizeof(rkd_status) == 128, "rkd_status");

struct alignas(64) rkd_tenant {
  rkd_u64 kernel, input, outbox, peer, state, inbox, routes, seat0;
  rkd_u64 state_size, epoch;
  rkd_u64 express_in, express_out; /* 64 entries of 256 bytes; 0: none */
  rkd_u32 input_shift, outbox_shift, peer_shift, stride, payload_max, block, blocks, flags, node, route_max, shared_size, reserved;
};
static_assert(sizeof(rkd_tenant) == 192, "rkd_tenant");

struct alignas(32) rkd_route { /* as it is remembered; in the table it is spread over the words of an entry (D18) */
  rkd_u64 handle, seats;
  rkd_u32 blocks, epoch, payload_max, capacity; /* epoch: above 16 bits, whether the target has RK_LAUNCH_TIMESTAMPS */
};
static_assert(sizeof(rkd_route) == 32, "rkd_route");

struct alignas(64) rkd_slot { /* SlotHeader of src/layout.rs */
  rkd_u64 turn, correlation, source, token, meta;
  rkd_u32 payload_size, tag;
  rkd_u64 physical;
  rkd_u32 logical, node;
};
static_assert(sizeof(rkd_slot) == 64, "rkd_slot");
/* The words that are copied from a slot's header into a message. */
static_assert(sizeof(rk_message_t) == 72, "rk_message_t");

struct alignas(64) rkd_record {
  rkd_u64 turn, correlation, subject, deadline;
  rkd_u32 op, block, payload_size, tag;
  rkd_u64 physical;
  rkd_u32 logical_taken; /* 7 bits of the stamp; 25 of the input taken before: D11 */
  int status;
};
static_assert(sizeof(rkd_record) == 64, "rkd_record");

struct alignas(128) rkd_seat { /* device memory */
  rkd_u64 peer_tail;
  rkd_u64 done; /* of short launches: the kernel that has come to its end here, which is not to begin again */
  rkd_u64 next_block;
  rkd_u64 restarts; /* of a tenant of short launches: those that it has done */
  rkd_u64 reserved0[12];
  rkd_u64 peer, peer_shape; /* the ring for peers: its address, shift << 32 | stride; read at once (D15) */
  rkd_u64 clock, barrier, epoch;
  rkd_u64 input_head, outbox_tail, peer_head, started, processed, failed, sent, taken, peer_taken;
  rkd_u64 fault, host_sends;
};
static_assert(sizeof(rkd_seat) == 256, "rkd_seat");

struct alignas(64) rkd_launch {
  rkd_u64 controls, statuses, seats;
  rkd_u32 count, once, busy_sleep_ns, idle_sleep_ns, layout, fresh, reserved[4];
};
static_assert(sizeof(rkd_launch) == 64, "rkd_launch");

/* Both compilers check where each word is. */
#ifdef __CUDACC_RTC__
#define RKD_OFFSET(type, field) __INTADDR__(&(((type *)0)->field)) /* what NVRTC's front end has for offsetof */
#else
#define RKD_OFFSET(type, field) __builtin_offsetof(type, field)
#endif
#define RKD_AT(type, field, offset) static_assert(RKD_OFFSET(type, field) == offset, "layout of " #type)
RKD_AT(rkd_control, command, 0);
RKD_AT(rkd_control, drain_to, 8);
RKD_AT(rkd_control, outbox_head, 16);
RKD_AT(rkd_control, clock_offset, 24);
RKD_AT(rkd_control, unix_offset, 32);
RKD_AT(rkd_control, route_version, 40);
RKD_AT(rkd_control, hold, 48);
RKD_AT(rkd_control, tenant, 56);
RKD_AT(rkd_control, sends_done, 64);
RKD_AT(rkd_control, restarts, 72);
RKD_AT(rkd_control, transfer, 80);
RKD_AT(rkd_control, verdict, 88);
RKD_AT(rkd_status, version, 0);
RKD_AT(rkd_status, ack, 8);
RKD_AT(rkd_status, taken, 16);
RKD_AT(rkd_status, peer_taken, 24);
RKD_AT(rkd_status, started, 32);
RKD_AT(rkd_status, processed, 40);
RKD_AT(rkd_status, failed, 48);
RKD_AT(rkd_status, sent, 56);
RKD_AT(rkd_status, heartbeat, 64);
RKD_AT(rkd_status, timer, 72);
RKD_AT(rkd_status, peer_seen, 80);
RKD_AT(rkd_tenant, kernel, 0);
RKD_AT(rkd_tenant, input, 8);
RKD_AT(rkd_tenant, outbox, 16);
RKD_AT(rkd_tenant, peer, 24);
RKD_AT(rkd_tenant, state, 32);
RKD_AT(rkd_tenant, inbox, 40);
RKD_AT(rkd_tenant, routes, 48);
RKD_AT(rkd_tenant, seat0, 56);
RKD_AT(rkd_tenant, state_size, 64);
RKD_AT(rkd_tenant, epoch, 72);
RKD_AT(rkd_tenant, express_in, 80);
RKD_AT(rkd_tenant, express_out, 88);
RKD_AT(rkd_tenant, input_shift, 96);
RKD_AT(rkd_tenant, outbox_shift, 100);
RKD_AT(rkd_tenant, peer_shift, 104);
RKD_AT(rkd_tenant, stride, 108);
RKD_AT(rkd_tenant, payload_max, 112);
RKD_AT(rkd_tenant, block, 116);
RKD_AT(rkd_tenant, blocks, 120);
RKD_AT(rkd_tenant, flags, 124);
RKD_AT(rkd_tenant, node, 128);
RKD_AT(rkd_tenant, route_max, 132);
RKD_AT(rkd_tenant, shared_size, 136);
RKD_AT(rkd_route, handle, 0);
RKD_AT(rkd_route, seats, 8);
RKD_AT(rkd_route, blocks, 16);
RKD_AT(rkd_route, epoch, 20);
RKD_AT(rkd_route, payload_max, 24);
RKD_AT(rkd_route, capacity, 28);
RKD_AT(rkd_record, turn, 0);
RKD_AT(rkd_record, correlation, 8);
RKD_AT(rkd_record, subject, 16);
RKD_AT(rkd_record, deadline, 24);
RKD_AT(rkd_record, op, 32);
RKD_AT(rkd_record, block, 36);
RKD_AT(rkd_record, payload_size, 40);
RKD_AT(rkd_record, tag, 44);
RKD_AT(rkd_record, physical, 48);
RKD_AT(rkd_record, logical_taken, 56);
RKD_AT(rkd_record, status, 60);
RKD_AT(rkd_launch, controls, 0);
RKD_AT(rkd_launch, statuses, 8);
RKD_AT(rkd_launch, seats, 16);
RKD_AT(rkd_launch, count, 24);
RKD_AT(rkd_launch, once, 28);
RKD_AT(rkd_launch, busy_sleep_ns, 32);
RKD_AT(rkd_launch, idle_sleep_ns, 36);
RKD_AT(rkd_launch, layout, 40);
RKD_AT(rkd_launch, fresh, 44);
RKD_AT(rkd_slot, turn, 0);
RKD_AT(rkd_slot, correlation, 8);
RKD_AT(rkd_slot, source, 16);
RKD_AT(rkd_slot, token, 24);
RKD_AT(rkd_slot, meta, 32);
RKD_AT(rkd_slot, payload_size, 40);
RKD_AT(rkd_slot, tag, 44);
RKD_AT(rkd_slot, physical, 48);
RKD_AT(rkd_slot, logical, 56);
RKD_AT(rkd_slot, node, 60);
#undef RKD_AT

#define RKD_SKIPPED 0xffffffffu
#define RKD_EXPRESS_ENTRIES 64u
#define RKD_EXPRESS_MAX 64u /* bytes of payload */
#define RKD_SKEW_MAX 1000000000ull /* ns */
#define RKD_CLOCK_LAST ((1ull << 61) - (1ull << 41)) /* ns; the wall clock is taken to stand still there */
#define RKD_FAR 0x40000000ull /* half of all marks */
#define RKD_POSITION 0xffffffffffffull
#define RKD_LEAF 64u          /* routes of a leaf, 64 bytes each */
#define RKD_PAGE_BITS 9u      /* of the number, that a page looks at */
#define RKD_ROOT_SHIFT 24u    /* 6 + 9 + 9; the root, behind the first leaf, looks at the 5 bits above */

/* ---- The platform ---- */

#ifdef RK_DEVICE_PLATFORM
#include RK_DEVICE_PLATFORM
#else

#if !defined(__CUDACC__) && !defined(__CUDACC_RTC__) /* clang without NVIDIA's headers */
#ifndef __device__
#define __device__ __attribute__((device))
#define __global__ __attribute__((global))
#define __shared__ __attribute__((shared))
#endif
#endif

#define RKP_DEVICE static __device__ inline __attribute__((always_inline))
#define RKP_COLD static __device__ __attribute__((noinline))
#define RKP_SHARED(type, name) __shared__ type name

RKP_DEVICE rkd_u64 rkp_load_acquire_sys(const void *p) {
  rkd_u64 v;
  asm volatile("ld.acquire.sys.global.u64 %0, [%1];" : "=l"(v) : "l"(p) : "memory");
  return v;
}
RKP_DEVICE rkd_u64 rkp_load_relaxed_sys(const void *p) {
  rkd_u64 v;
  asm volatile("ld.relaxed.sys.global.u64 %0, [%1];" : "=l"(v) : "l"(p) : "memory");
  return v;
}
RKP_DEVICE void rkp_store_relaxed_sys(void *p, rkd_u64 v) {
  asm volatile("st.relaxed.sys.global.u64 [%0], %1;" ::"l"(p), "l"(v) : "memory");
}
/* A fence and a relaxed store: what follows may be stored relaxed, too. */
RKP_DEVICE void rkp_publish_sys(void *p, rkd_u64 v) {
  asm volatile("fence.acq_rel.sys;" ::: "memory");
  rkp_store_relaxed_sys(p, v);
}
RKP_DEVICE rkd_u64 rkp_load_acquire_gpu(const void *p) {
  rkd_u64 v;
  asm volatile("ld.acquire.gpu.global.u64 %0, [%1];" : "=l"(v) : "l"(p) : "memory");
  return v;
}
RKP_DEVICE void rkp_store_release_gpu(void *p, rkd_u64 v) {
  asm volatile("st.release.gpu.global.u64 [%0], %1;" ::"l"(p), "l"(v) : "memory");
}
RKP_DEVICE rkd_u64 rkp_cas_gpu(void *p, rkd_u64 expected, rkd_u64 v) {
  rkd_u64 old;
  asm volatile("atom.acq_rel.gpu.global.cas.b64 %0, [%1], %2, %3;" : "=l"(old) : "l"(p), "l"(expected), "l"(v) : "memory");
  return old;
}
RKP_DEVICE rkd_u64 rkp_exchange_gpu(void *p, rkd_u64 v) {
  rkd_u64 old;
  asm volatile("atom.acq_rel.gpu.global.exch.b64 %0, [%1], %2;" : "=l"(old) : "l"(p), "l"(v) : "memory");
  return old;
}
/* 16 bytes of mapped or device memory. */
RKP_DEVICE rkd_16 rkp_get16(const void *p) {
  rkd_16 v;
  asm volatile("ld.relaxed.sys.global.v2.u64 {%0, %1}, [%2];" : "=l"(v.a), "=l"(v.b) : "l"(p) : "memory");
  return v;
}
/* Two words, each whole. */
RKP_DEVICE rkd_16 rkp_get_words(const void *p) { return rkp_get16(p); }
/* A part of a look: the same instruction for all lanes. Of a slot only the turn counts; what stands beside it may be being
 * written, and is not looked at. */
RKP_DEVICE rkd_16 rkp_look16(const void *p, bool) { return rkp_get16(p); }
RKP_DEVICE void rkp_put_words(void *p, rkd_u64 a, rkd_u64 b) {
  asm volatile("st.relaxed.sys.global.v2.u64 [%0], {%1, %2};" ::"l"(p), "l"(a), "l"(b) : "memory");
}
RKP_DEVICE void rkp_put16(void *p, rkd_16 v) {
  asm volatile("st.global.v2.u64 [%0], {%1, %2};" ::"l"(p), "l"(v.a), "l"(v.b) : "memory");
}
RKP_DEVICE void rkp_put8(void *p, rkd_u64 v) {
  asm volatile("st.global.u64 [%0], %1;" ::"l"(p), "l"(v) : "memory");
}
RKP_DEVICE rkd_u64 rkp_now_ns() {
  rkd_u64 v;
  asm volatile("mov.u64 %0, %%globaltimer;" : "=l"(v));
  return v;
}
RKP_DEVICE void rkp_sleep(rkd_u32 ns) { asm volatile("nanosleep.u32 %0;" ::"r"(ns)); }
RKP_DEVICE rkd_u32 rkp_thread() {
  rkd_u32 v;
  asm volatile("mov.u32 %0, %%tid.x;" : "=r"(v));
  return v;
}
RKP_DEVICE rkd_u32 rkp_threads() {
  rkd_u32 v;
  asm volatile("mov.u32 %0, %%ntid.x;" : "=r"(v));
  return v;
}
RKP_DEVICE rkd_u32 rkp_block() {
  rkd_u32 v;
  asm volatile("mov.u32 %0, %%ctaid.x;" : "=r"(v));
  return v;
}
/* Threads of warp 0. */
RKP_DEVICE rkd_u32 rkp_width() {
  const rkd_u32 threads = rkp_threads();
  return threads < 32u ? threads : 32u;
}
/* Warp 0 comes together. */
RKP_DEVICE void rkp_sync_warp() {
  asm volatile("bar.warp.sync %0;" ::"r"(0xffffffffu >> (32u - rkp_width())) : "memory");
}
/* The bits of all threads of warp 0 together. */
RKP_DEVICE rkd_u32 rkp_or(rkd_u32 bits) {
  rkd_u32 all = 0;
  const rkd_u32 mask = 0xffffffffu >> (32u - rkp_width());
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800
  asm volatile("redux.sync.or.b32 %0, %1, %2;" : "=r"(all) : "r"(bits), "r"(mask));
#else
  for (rkd_u32 bit = 0; bit < 16u; bit++) {
    rkd_u32 votes;
    asm volatile("{ .reg .pred p; setp.ne.u32 p, %1, 0; vote.sync.ballot.b32 %0, p, %2; }"
                 : "=r"(votes)
                 : "r"(bits >> bit & 1u), "r"(mask));
    all |= votes ? 1u << bit : 0u;
  }
#endif
  return all;
}
RKP_DEVICE void rkp_sync_block() { asm volatile("barrier.sync 0;" ::: "memory"); }
struct alignas(64) rkp_line { /* as aligned as the CPU's */
  rkd_u64 words[8];
};
RKP_DEVICE void *rkp_dynamic_shared() {
  extern __shared__ rkp_line rkp_dynamic[];
  return rkp_dynamic;
}
#endif /* RK_DEVICE_PLATFORM */

/* ---- The context ---- */

#define RKD_CHUNKS 31u /* 16-byte pieces of a slot that come with the first read */
#define RKD_ROUTES 4u  /* routes remembered */

struct alignas(64) rk_context_t {
  rkd_16 slot[RKD_CHUNKS + 1u]; /* header and payload of the message, when they fit */
  rkd_16 express[16];
  rkd_tenant tenant;
  rkd_u64 poll[12]; /* control, the input slot's first words, the peer slot's */
  rkd_route routes[RKD_ROUTES];
  rkd_u64 leaf; /* where an entry was found last beyond the first leaf, */
  rkd_u64 leaf_number; /* and whose it was */
  rkd_u32 route_numbers[RKD_ROUTES];
  rk_message_t message;
  /* Words of the seat; warp 0's. */
  rkd_control *control;
  rkd_status *status;
  rkd_seat *seat;
  rkd_u64 command, left, input_head, peer_head, peer_end, outbox_tail, outbox_head, taken, peer_taken, started, processed, failed, sent, route_version, polls, sleep_ns, token, source, clock_offset;
  rkd_u64 unix_offset, next_block, copy_from, host_sends, sends_done, shown, counted, restarts, copied;
  rkd_u32 busy_sleep_ns, idle_sleep_ns, once, once_left;
  rkd_u32 express_found, quiet, expired, slot_was_read;
  rkd_u32 action, refused, occupied, closed, fault, renews, from_peer, replied, fenced, prefer_peer, copy_size, barrier_passed, barrier_waits, resumed, resumes;
  rk_status_t result;
};

enum { RKD_DO_EXIT = 1, RKD_DO_ENTER = 2, RKD_DO_MESSAGE = 3, RKD_DO_RENEW = 4, RKD_DO_COPY = 5 };
/* Messages of one short launch. */
#define RKD_ONCE_MAX 64u
#define RKD_SHOW 2u  /* looks without a message before counters are said */
#define RKD_HOT 256u /* looks without a message after which entries are no longer looked at: that costs bandwidth */

RKP_DEVICE void rkd_acknowledge(rk_context_t *c, rkd_u32 phase) {
  rkp_publish_sys(&c->status->ack, (c->command & 0xffffffff00000000ull) | (rkd_u64)(c->resumes & 0xffffffu) << 8 | phase);
}

/* Says how far the input was taken. After a fence of this thread that followed the last read of a slot. */
RKP_DEVICE void rkd_show_taken(rk_context_t *c) {
  rkp_put_words(&c->status->taken, c->taken, c->peer_taken); /* H2 */
  c->shown = c->taken + c->peer_taken;
}

/* And what was counted. Nobody waits for that, and each store is one more on the bus: when there is time. */
RKP_DEVICE void rkd_show(rk_context_t *c) {
  rkp_put_words(&c->status->started, c->started, c->processed);
  rkp_put_words(&c->status->failed, c->failed, c->sent);
  rkd_show_taken(c);
  c->counted = c->started;
}

/* Copies into mapped or device memory, by one thread; `to` is 16-byte aligned. */
RKP_DEVICE void rkd_copy(void *to, const void *from, rkd_u64 size) {
  char *out = (char *)to;
  const char *in = (const char *)from;
  rkd_u64 at = 0;
  if (((rkd_u64)in & 15u) == 0) {
    for (; at + 16 <= size; at += 16) rkp_put16(out + at, *(const rkd_16 *)(in + at));
  }
  for (; at < size; at += 8) {
    rkd_u64 word = 0;
    for (rkd_u32 byte = 0; byte < 8 && at + byte < size; byte++)
      word |= (rkd_u64)(unsigned char)in[at + byte] << (8 * byte);
    rkp_put8(out + at, word);
  }
}

/* The clock of the kernel (src/clock.rs has the encoding), one word in device memory. */
RKP_DEVICE rkd_u64 rkd_clock_move(rk_context_t *c, rkd_u64 least, rkd_u64 step) {
  void *word = &((rkd_seat *)c->tenant.seat0)->clock;
  rkd_u64 last = rkp_load_acquire_gpu(word);
  for (;;) {
    rkd_u64 next = last + step > least ? last + step : least;
    if (next == last) return last;
    rkd_u64 seen = rkp_cas_gpu(word, last, next);
    if (seen == last) return next;
    last = seen;
  }
}
RKP_DEVICE rkd_u64 rkd_tick(rk_context_t *c) {
  const rkd_u64 now = rkp_now_ns() + c->unix_offset;
  return rkd_clock_move(c, ((now < RKD_CLOCK_LAST ? now : RKD_CLOCK_LAST) >> 4) << 7, 1);
}

/* 8 bytes of an entry as two words. */
RKP_DEVICE void rkd_express_pair(char *entry, rkd_u32 pair, rkd_u64 data, rkd_u64 mark) {
  rkp_put_words(entry + 16u * pair, (data & 0xffffffffull) | mark, data >> 32 | mark);
}
RKP_DEVICE rkd_u64 rkd_mark(rkd_u64 position) { return (0x80000000ull | ((position + 1) & 0x7fffffffull)) << 32; }

/* Up to 8 bytes of a payload that may not be aligned. */
RKP_DEVICE rkd_u64 rkd_bytes(const char *in, rkd_u64 left) {
  if (left >= 8 && ((rkd_u64)in & 7u) == 0) return *(const rkd_u64 *)in;
  rkd_u64 word = 0;
  for (rkd_u32 byte = 0; byte < 8 && byte < left; byte++) word |= (rkd_u64)(unsigned char)in[byte] << (8 * byte);
  return word;
}

/* Puts a record into the outbox, by thread 0; waits for room, which the host always makes. Everything in registers: a
 * struct would be in local memory, which is as far away as any. */
RKP_COLD void rkd_record_out(rk_context_t *c, rkd_u32 op, rkd_u32 block, rkd_u64 correlation, rkd_u64 subject,
                             rkd_u64 deadline, rkd_u32 tag, int status, const void *payload, rkd_u64 size, rkd_u64 stamp) {
  const rkd_u64 capacity = 1ull << c->tenant.outbox_shift;
  const rkd_u64 position = c->outbox_tail;
  const rkd_u64 express = c->tenant.express_out;
  const bool small = express && size <= RKD_EXPRESS_MAX;
  const bool refresh = express && (position / RKD_EXPRESS_ENTRIES & 0xfffffu) == 0; /* D10 */
  /* Who writes the entry waits until the record that was in it has been taken. */
  const rkd_u64 room = (small || refresh) && capacity > RKD_EXPRESS_ENTRIES ? RKD_EXPRESS_ENTRIES : capacity;
  while (position - c->outbox_head >= room) {
    c->outbox_head = rkp_load_acquire_sys(&c->control->outbox_head); /* H4 */
    if (position - c->outbox_head < room) break;
    if ((rkp_load_relaxed_sys(&c->control->command) & 0xff) == RKD_EXIT) return;
    rkp_store_relaxed_sys(&c->status->heartbeat, ++c->polls); /* it waits, it does not hang */
    rkp_sleep(200);
  }
  /* A message that is given up keeps the time of who sent it. */
  if (!stamp && (op & RKD_STAMP || c->tenant.flags & RK_LAUNCH_TIMESTAMPS)) stamp = rkd_tick(c);
  op &= ~RKD_STAMP;
  const rkd_u32 low = (rkd_u32)c->taken << 7 | (rkd_u32)(stamp & 127); /* D11 */
  char *entry = (char *)express + (position % RKD_EXPRESS_ENTRIES) * 256u;
  c->outbox_tail = position + 1;
  if (small) {
    const rkd_u64 mark = rkd_mark(position);
    const char *in = (const char *)payload;
    rkd_u64 words[RKD_EXPRESS_MAX / 8];
#ifdef __CUDACC__
#pragma unroll
#endif
    for (rkd_u32 at = 0; at < RKD_EXPRESS_MAX; at += 8)
      words[at / 8] = at < size ? rkd_bytes(in + at, size - at) : 0;
    rkd_express_pair(entry, 0, correlation, mark);
    rkd_express_pair(entry, 1, subject, mark);
    rkd_express_pair(entry, 2, deadline, mark);
    rkd_express_pair(entry, 3, (rkd_u64)block << 32 | op, mark);
    rkd_express_pair(entry, 4, (rkd_u64)tag << 32 | (rkd_u32)size, mark);
    rkd_express_pair(entry, 5, (stamp >> 7) << 4, mark);
    rkd_express_pair(entry, 6, (rkd_u64)(rkd_u32)status << 32 | low, mark);
#ifdef __CUDACC__
#pragma unroll
#endif
    for (rkd_u32 at = 0; at < RKD_EXPRESS_MAX; at += 8)
      if (at < size || refresh) rkd_express_pair(entry, 8 + at / 8, words[at / 8], mark);
    return;
  }
  char *slot = (char *)c->tenant.outbox + (position & (capacity - 1)) * c->tenant.stride;
  if (refresh) {
    /* The entry is written all the same, for a position that is as far as can be from all that are in use. */
    for (rkd_u32 pair = 0; pair < 16u; pair++) rkd_express_pair(entry, pair, 0, rkd_mark(position + RKD_FAR));
  }
  rkd_copy(slot + 64, payload, size);
  rkp_put8(slot + 8, correlation);
  rkd_16 word = {subject, deadline};
  rkp_put16(slot + 16, word);
  word.a = (rkd_u64)block << 32 | op;
  word.b = (rkd_u64)tag << 32 | (rkd_u32)size;
  rkp_put16(slot + 32, word);
  word.a = (stamp >> 7) << 4;
  word.b = (rkd_u64)(rkd_u32)status << 32 | low;
  rkp_put16(slot + 48, word);
  rkp_publish_sys(slot, (position >> c->tenant.outbox_shift) * 2 + 1); /* H3 */
  c->fenced = 1;
}

/* ---- What handlers call ---- */

RKP_DEVICE void *rkd_context_state(rk_context_t *ctx) {
  return ctx->tenant.state_size ? (void *)ctx->tenant.state : (void *)0;
}
RKP_DEVICE void *rkd_context_user_data(rk_context_t *) { return (void *)0; }
RKP_DEVICE void *rkd_context_shared(rk_context_t *ctx) {
  return ctx->tenant.shared_size ? rkp_dynamic_shared() : (void *)0;
}
RKP_DEVICE rk_kernel_t rkd_context_kernel(const rk_context_t *ctx) {
  rk_kernel_t kernel = {ctx->tenant.kernel};
  return kernel;
}
RKP_DEVICE rkd_u32 rkd_context_block(const rk_context_t *ctx) { return ctx->tenant.block; }
RKP_DEVICE rkd_u32 rkd_context_block_count(const rk_context_t *ctx) { return ctx->tenant.blocks; }
RKP_DEVICE rkd_u32 rkd_context_thread(const rk_context_t *) { return rkp_thread(); }
RKP_DEVICE rkd_u32 rkd_context_thread_count(const rk_context_t *) { return rkp_threads(); }
RKP_DEVICE void rkd_context_sync(rk_context_t *) { rkp_sync_block(); }

/* Each thread that asks gets a time of its own. */
RKP_DEVICE rk_timestamp_t rkd_context_now(rk_context_t *ctx) {
  rkd_u64 word = rkd_tick(ctx);
  rk_timestamp_t time = {(word >> 7) << 4, (rkd_u32)(word & 127), ctx->tenant.node};
  return time;
}

/* Whether the kernel is to pause or to end; costs a trip over the bus. */
RKP_DEVICE bool rkd_context_stopping(const rk_context_t *ctx) {
  return (rkp_load_relaxed_sys(&ctx->control->command) & 0xff) != RKD_RUN;
}

RKP_DEVICE rk_status_t rkd_check(const rk_context_t *ctx, const rk_message_t *message, rkd_u64 limit) {
  (void)ctx;
  if (!message || (!message->payload && message->payload_size)) return RK_ERR_INVALID_ARGUMENT;
  return message->payload_size > limit ? RK_ERR_TOO_LARGE : RK_OK;
}

RKP_DEVICE rk_status_t rkd_put_out(rk_context_t *ctx, const rk_message_t *message, rkd_u32 op, rkd_u64 subject, rkd_u64 correlation) {
  rkd_record_out(ctx, op, message->block, correlation, subject, message->deadline_ns, message->type, 0, message->payload,
                 message->payload_size, 0);
  return RK_OK;
}

RKP_DEVICE rk_status_t rkd_context_emit(rk_context_t *ctx, const rk_message_t *message) {
  if (rkp_thread() != 0) return RK_OK;
  rk_status_t checked = rkd_check(ctx, message, ctx->tenant.payload_max);
  return checked != RK_OK ? checked : rkd_put_out(ctx, message, RKD_EMIT, 0, message->correlation);
}

RKP_DEVICE rk_status_t rkd_context_reply(rk_context_t *ctx, const rk_message_t *message) {
  if (rkp_thread() != 0) return RK_OK;
  rk_status_t checked = rkd_check(ctx, message, ctx->tenant.payload_max);
  if (checked != RK_OK) return checked;
  const rkd_u64 correlation = ctx->message.correlation;
  if (ctx->token) {
    if (ctx->replied) return RK_ERR_INVALID_STATE;
    ctx->replied = 1;
    return rkd_put_out(ctx, message, RKD_REPLY, ctx->token, correlation);
  }
  if (ctx->source) return rkd_put_out(ctx, message, RKD_REPLY_KERNEL | RKD_STAMP, ctx->source, correlation);
  return rkd_put_out(ctx, message, RKD_EMIT, 0, correlation);
}

/* Reads the entry of a route in a leaf; false: it is not that route's. */
RKP_DEVICE bool rkd_read_route(rkd_route *to, rkd_u64 leaf, rkd_u32 route) {
  const char *entry = (const char *)leaf + (rkd_u64)(route % RKD_LEAF) * 64u;
  const rkd_u64 mark = (rkd_u64)(route + 1u);
  rkd_16 words[4];
  rkd_u64 others = 0;
#ifdef __CUDACC__
#pragma unroll
#endif
  for (rkd_u32 at = 0; at < 4u; at++) words[at] = rkp_get_words(entry + 16u * at);
#ifdef __CUDACC__
#pragma unroll
#endif
  for (rkd_u32 at = 0; at < 4u; at++) others |= (words[at].a >> 32 ^ mark) | (words[at].b >> 32 ^ mark);
  if (others) return false;
#ifdef __CUDACC__
#pragma unroll
#endif
  for (rkd_u32 at = 0; at < 4u; at++) ((rkd_u64 *)to)[at] = (words[at].a & 0xffffffffull) | words[at].b << 32;
  return true;
}

/* The entry of a route, from memory or the host's table (D18); 0: there is none. */
RKP_DEVICE const rkd_route *rkd_find_route(rk_context_t *ctx, rkd_u32 route) {
  if (route >= ctx->tenant.route_max) return 0;
  const rkd_u32 at = route % RKD_ROUTES;
  rkd_route *known = &ctx->routes[at];
  if (known->handle && ctx->route_numbers[at] == route) return known;
  ctx->route_numbers[at] = route;
  known->handle = 0;
  if (route < RKD_LEAF) return rkd_read_route(known, ctx->tenant.routes, route) ? known : 0;
  if (ctx->leaf && ctx->leaf_number == route / RKD_LEAF && rkd_read_route(known, ctx->leaf, route)) return known;
  const rkd_u32 mask = (1u << RKD_PAGE_BITS) - 1u;
  rkd_u64 page = ctx->tenant.routes + RKD_LEAF * 64u;
  page = rkp_load_acquire_sys((const char *)page + 8u * (route >> RKD_ROOT_SHIFT));
  if (page) page = rkp_load_acquire_sys((const char *)page + 8u * (route >> (RKD_ROOT_SHIFT - RKD_PAGE_BITS) & mask));
  if (page) page = rkp_load_acquire_sys((const char *)page + 8u * (route / RKD_LEAF & mask));
  if (!page || !rkd_read_route(known, page, route)) return 0;
  ctx->leaf = page;
  ctx->leaf_number = route / RKD_LEAF;
  return known;
}

enum { RKD_SENT = 0, RKD_FULL = 1, RKD_ENDED = 2 };

/* Into the peer ring of one block. */
RKP_DEVICE int rkd_peer_send(rk_context_t *ctx, const rkd_route *route, rkd_u32 block, const rk_message_t *message) {
  rkd_seat *seat = (rkd_seat *)route->seats + block;
  for (;;) {
    const rkd_u64 tail = rkp_load_acquire_gpu(&seat->peer_tail); /* P6 */
    if (tail >> 48 != (route->epoch & 0xffffu)) return RKD_ENDED;
    const rkd_u64 position = tail & RKD_POSITION;
    const rkd_16 ring = rkp_get16(&seat->peer); /* D15 */
    const rkd_u32 shift = (rkd_u32)(ring.b >> 32);
    char *slot = (char *)ring.a + (position & ((1ull << shift) - 1)) * (rkd_u32)ring.b;
    const rkd_u64 free = (position >> shift) * 2;
    const rkd_u64 turn = rkp_load_acquire_gpu(slot); /* P1 */
    if (turn == free) {
      if (rkp_cas_gpu(&seat->peer_tail, tail, tail + 1) != tail) continue;
      rkd_u64 stamp = 0;
      if (route->epoch >> 16) stamp = rkd_tick(ctx); /* if the target asks for it */
      rkd_copy(slot + 64, message->payload, message->payload_size);
      rkp_put8(slot + 8, message->correlation);
      rkd_16 word = {ctx->tenant.kernel, 0};
      rkp_put16(slot + 16, word);
      word.a = message->deadline_ns;
      word.b = (rkd_u64)message->type << 32 | (rkd_u32)message->payload_size;
      rkp_put16(slot + 32, word);
      word.a = (stamp >> 7) << 4;
      word.b = (rkd_u64)(stamp ? ctx->tenant.node : 0) << 32 | (stamp & 127);
      rkp_put16(slot + 48, word);
      rkp_store_release_gpu(slot, free + 1); /* P2 */
      ctx->sent++;
      return RKD_SENT;
    }
    /* Below: the message of the lap before is there. Above: the tail is old. */
    if ((long long)(turn - free) < 0 && rkp_load_acquire_gpu(&seat->peer_tail) == tail) return RKD_FULL;
  }
}

/* What has become of the last message through the host, which has asked (D19). */
RKP_DEVICE rk_status_t rkd_verdict(rk_context_t *ctx) {
  for (;;) {
    const rkd_u64 verdict = rkp_load_acquire_sys(&ctx->control->verdict);
    if (verdict >> 1 == ctx->host_sends) return verdict & 1u ? RK_ERR_FULL : RK_OK;
    if ((rkp_load_relaxed_sys(&ctx->control->command) & 0xff) == RKD_EXIT) return RK_ERR_TERMINATED;
    rkp_store_relaxed_sys(&ctx->status->heartbeat, ++ctx->polls); /* it waits, it does not hang */
    rkp_sleep(200);
  }
}

RKP_COLD rk_status_t rkd_send(rk_context_t *ctx, rkd_u32 number, const rk_message_t *message) {
  const rkd_route *route = rkd_find_route(ctx, number);
  if (!route) return RK_ERR_NO_ROUTE;
  rk_status_t checked = rkd_check(ctx, message, route->payload_max);
  if (checked != RK_OK) return checked;
  if (message->block >= route->blocks && message->block != RK_ANY_BLOCK) return RK_ERR_INVALID_ARGUMENT;
  int sent = RKD_FULL;
  if (!route->seats) {
    if (message->payload_size > ctx->tenant.payload_max) return RK_ERR_TOO_LARGE;
    /* As many as the target's queue has places may be on their way, to whomever; who wants more asks (D19). */
    if (ctx->host_sends - ctx->sends_done >= route->capacity) ctx->sends_done = rkp_load_relaxed_sys(&ctx->control->sends_done);
    const bool asks = ctx->host_sends - ctx->sends_done >= route->capacity;
    ctx->host_sends++;
    /* Stamped here if the target asks for it: one clock for all that the kernel sends. */
    rkd_u32 op = route->epoch >> 16 ? RKD_SEND | RKD_STAMP : (rkd_u32)RKD_SEND;
    if (asks) op |= RKD_ASKS;
    sent = rkd_put_out(ctx, message, op, route->handle, message->correlation);
    return asks ? rkd_verdict(ctx) : sent;
  }
  if (message->block != RK_ANY_BLOCK) {
    sent = rkd_peer_send(ctx, route, message->block, message);
  } else {
    for (rkd_u32 tries = 0; tries < route->blocks && sent == RKD_FULL; tries++)
      sent = rkd_peer_send(ctx, route, (rkd_u32)(ctx->next_block++ % route->blocks), message);
  }
  if (sent == RKD_FULL) return RK_ERR_FULL;
  if (sent == RKD_ENDED) {
    rkd_u64 size = message->payload_size;
    if (size > ctx->tenant.payload_max) size = ctx->tenant.payload_max;
    rkd_record_out(ctx, RKD_DEAD | RK_DEAD_TERMINATED << 8, message->block, message->correlation, route->handle,
                   message->deadline_ns, message->type, RK_ERR_TERMINATED, message->payload, size, 0);
  }
  return RK_OK;
}

RKP_DEVICE rk_status_t rkd_context_send(rk_context_t *ctx, rkd_u32 route, const rk_message_t *message) {
  return rkp_thread() != 0 ? RK_OK : rkd_send(ctx, route, message);
}

/* A barrier of all blocks of a kernel that was launched with RK_LAUNCH_COOPERATIVE: every thread of every block
 * calls it, each block inside a handler. False, for all of them alike: the kernel is ending, or it was not launched so. */
RKP_DEVICE bool rkd_context_grid_sync(rk_context_t *ctx) {
  rkp_sync_block();
  if (rkp_thread() == 0) {
    void *word = &((rkd_seat *)ctx->tenant.seat0)->barrier; /* generation << 32 | broken << 31 | arrived */
    const rkd_u64 broken = 1ull << 31;
    ctx->barrier_passed = 0;
    if (ctx->tenant.flags & RK_LAUNCH_COOPERATIVE) {
      rkd_u64 seen = rkp_load_acquire_gpu(word);
      rkd_u64 generation = 0;
      bool arrived = false;
      for (rkd_u32 round = 0;; round++) {
        if (arrived && seen >> 32 != generation) {
          ctx->barrier_passed = 1;
          break;
        }
        if (seen & broken) break;
        rkd_u64 next;
        if (!arrived) {
          generation = seen >> 32;
          next = (rkd_u32)seen + 1 == ctx->tenant.blocks ? ((generation + 1) & 0xffffffffull) << 32 : seen + 1;
        } else if ((round & 63u) == 0 && (rkp_load_relaxed_sys(&ctx->control->command) & 0xff) >= RKD_STOP) {
          next = seen | broken;
        } else {
          if ((round & 63u) == 0) rkp_store_relaxed_sys(&ctx->status->heartbeat, ++ctx->polls); /* it waits, it does not hang */
          seen = rkp_load_acquire_gpu(word);
          continue;
        }
        const rkd_u64 found = rkp_cas_gpu(word, seen, next);
        if (found == seen) arrived = true;
        seen = found == seen ? next : found;
      }
    }
  }
  rkp_sync_block();
  return ctx->barrier_passed != 0;
}

/* ---- The loop ---- */

/* Copies a description into shared memory, by warp 0. */
RKP_DEVICE void rkd_fetch(void *to, const void *from, rkd_u32 size, rkd_u32 lane) {
  for (rkd_u32 chunk = lane; chunk < size / 16; chunk += rkp_width())
    ((rkd_16 *)to)[chunk] = rkp_get16((const char *)from + 16u * chunk);
  rkp_sync_warp();
}

/* One look at everything: one load of 22 lanes, without an order. What follows from it is ordered by an acquire of its
 * own, which is only paid for when there is something. */
RKP_DEVICE void rkd_look(rk_context_t *c, rkd_u32 lane) {
  rkp_sync_warp(); /* everybody is done with the last look, and sees what lane 0 has done since */
  const rkd_tenant *t = &c->tenant;
  const bool occupied = c->occupied != 0;
  const bool express = occupied && t->express_in && c->quiet < RKD_HOT;
  const rkd_u64 head = c->input_head;
  rkd_u32 found = 0;
  for (rkd_u32 piece = lane; piece < (occupied ? 22u : 20u); piece += rkp_width()) {
    const char *at = (const char *)t->express_in + (head % RKD_EXPRESS_ENTRIES) * 256u + 16u * piece;
    if (piece >= 16u) at = (const char *)c->control + 16u * (piece - 16u);
    if (piece == 20u) at = (const char *)t->input + (head & ((1ull << t->input_shift) - 1)) * t->stride;
    if (piece == 21u) at = (const char *)t->peer + (c->peer_head & ((1ull << t->peer_shift) - 1)) * t->stride;
    if (piece < 16u && !express) continue;
    const rkd_16 words = rkp_look16(at, piece >= 20u);
    if (piece < 16u) {
      const rkd_u64 mark = rkd_mark(head) >> 32;
      c->express[piece] = words;
      if (words.a >> 32 == mark && words.b >> 32 == mark) found |= 1u << piece;
    } else {
      c->poll[2u * (piece - 16u)] = words.a;
      c->poll[2u * (piece - 16u) + 1u] = words.b;
    }
  }
  if (express) found = rkp_or(found);
  if (lane == 0) c->express_found = found;
  rkp_sync_warp();
}

/* Whether the entry of the input is a whole message. */
RKP_DEVICE bool rkd_is_express(const rk_context_t *c) {
  if ((c->express_found & 0xffu) != 0xffu) return false;
  const rkd_u32 pairs = ((rkd_u32)c->express[4].a + 7u) / 8u;
  return pairs <= 8u && (c->express_found >> 8 & ((1u << pairs) - 1u)) == (1u << pairs) - 1u;
}

RKP_DEVICE void rkd_idle(rk_context_t *c, rkd_u32 lane, rkd_u32 most_ns) {
  if (lane == 0) {
    c->polls++;
    if (c->quiet < RKD_HOT) c->quiet++;
    if ((c->polls & 63u) == 0 && c->occupied && !c->closed && !c->once) {
      /* What peers have sent and nobody has taken, for who counts. */
      rkp_store_relaxed_sys(&c->status->peer_seen, rkp_load_acquire_gpu(&c->seat->peer_tail) & RKD_POSITION);
    }
    if ((c->polls & 63u) == 0) {
      rkp_store_relaxed_sys(&c->status->timer, rkp_now_ns());
      rkp_store_relaxed_sys(&c->status->heartbeat, c->polls);
    }
    if ((c->polls & 15u) == 0) {
      c->sleep_ns = c->sleep_ns ? c->sleep_ns * 2 : 32;
      if (c->sleep_ns > most_ns) c->sleep_ns = most_ns;
    }
  }
  rkp_sync_warp();
  if (c->sleep_ns) rkp_sleep((rkd_u32)c->sleep_ns);
}

/* A peer's message at head that nobody will handle goes out as a record, by lane 0. Where other records say a block, it says the node
 * of its time. */
RKP_COLD void rkd_give_up_peer(rk_context_t *c, const char *slot, rkd_u32 op, int status) {
  const rkd_slot *header = (const rkd_slot *)slot;
  rkd_record_out(c, op, header->node, header->correlation, header->source, header->meta, header->tag, status, slot + 64,
                 header->payload_size, (header->physical >> 4) << 7 | (header->logical & 127u));
}

RKP_DEVICE char *rkd_peer_slot(const rk_context_t *c) {
  return (char *)c->tenant.peer + (c->peer_head & ((1ull << c->tenant.peer_shift) - 1)) * c->tenant.stride;
}

RKP_DEVICE void rkd_peer_advance(rk_context_t *c) {
  rkp_store_release_gpu(rkd_peer_slot(c), (c->peer_head >> c->tenant.peer_shift) * 2 + 2); /* P4 */
  c->peer_head++;
  c->peer_taken++;
}

/* Takes the epoch away; the last position is final. Once for each tenant. */
RKP_DEVICE void rkd_close_peer(rk_context_t *c) {
  c->peer_end = rkp_exchange_gpu(&c->seat->peer_tail, 0) & RKD_POSITION;
  c->closed = 1;
}

/* What a seat remembers between two short launches. */
RKP_COLD void rkd_save(rk_context_t *c) {
  rkd_seat *s = c->seat;
  s->input_head = c->input_head;
  s->outbox_tail = c->outbox_tail;
  s->peer_head = c->peer_head;
  s->started = c->started;
  s->processed = c->processed;
  s->failed = c->failed;
  s->sent = c->sent;
  s->host_sends = c->host_sends;
  s->next_block = c->next_block;
  s->fault = c->fault; /* the host may launch once more before it knows */
  s->restarts = c->restarts;
  s->taken = c->taken;
  s->peer_taken = c->peer_taken;
}

/* Blocks that wait at the barrier wait in vain once one has come to its end. */
RKP_DEVICE void rkd_break_barrier(rk_context_t *c) {
  void *word = &((rkd_seat *)c->tenant.seat0)->barrier;
  rkd_u64 seen = rkp_load_acquire_gpu(word);
  for (;;) {
    const rkd_u64 found = rkp_cas_gpu(word, seen, seen | 1ull << 31);
    if (found == seen) return;
    seen = found;
  }
}

/* Whether blocks wait at the barrier for others, by lane 0. */
RKP_DEVICE bool rkd_barrier_waits(const rk_context_t *c) {
  if (!(c->tenant.flags & RK_LAUNCH_COOPERATIVE)) return false;
  const rkd_u32 low = (rkd_u32)rkp_load_acquire_gpu(&((rkd_seat *)c->tenant.seat0)->barrier);
  return low != 0 && !(low >> 31);
}

/* The end of a tenancy, by lane 0. */
RKP_COLD void rkd_done(rk_context_t *c) {
  rkd_show(c);
  if (c->tenant.flags & RK_LAUNCH_COOPERATIVE) rkd_break_barrier(c);
  c->seat->epoch = 0;
  c->seat->done = c->once ? c->tenant.kernel : 0;
  rkd_acknowledge(c, RKD_IS_DONE);
  c->occupied = 0;
  c->left = c->command;
}

/* The routes may be other ones than they were. */
RKP_DEVICE void rkd_check_routes(rk_context_t *c, rkd_u32 version) {
  if (version != c->route_version) {
    for (rkd_u32 route = 0; route < RKD_ROUTES; route++) c->routes[route].handle = 0;
    c->route_version = version;
  }
}

/* Reads the message at a slot into shared memory. By warp 0. */
RKP_DEVICE void rkd_read(rk_context_t *c, const char *slot, rkd_u32 lane) {
  (void)rkp_load_acquire_sys(slot); /* H1, P3: the turn that the look has found, now with an order */
  rkd_u32 chunks = c->tenant.stride / 16;
  if (chunks > RKD_CHUNKS) chunks = RKD_CHUNKS;
  for (rkd_u32 chunk = lane; chunk < chunks; chunk += rkp_width()) c->slot[chunk] = rkp_get16(slot + 16u * chunk);
  if (lane == rkp_width() - 1) rkd_check_routes(c, (rkd_u32)rkp_load_relaxed_sys(&c->control->route_version));
  rkp_sync_warp();
}

/* The same with the words of an entry that were read already. */
RKP_DEVICE void rkd_read_express(rk_context_t *c, rkd_u32 lane) {
  for (rkd_u32 pair = lane; pair < 16u; pair += rkp_width()) {
    const rkd_u64 data = (c->express[pair].a & 0xffffffffull) | c->express[pair].b << 32;
    if (pair == 7u) {
      rkd_check_routes(c, (rkd_u32)data);
    } else {
      ((rkd_u64 *)c->slot)[pair < 7u ? pair + 1u : pair] = data;
    }
  }
  rkp_sync_warp();
}

/* Makes the message in shared memory the block's; true if it is to be handled. By warp 0. */
RKP_DEVICE bool rkd_take(rk_context_t *c, const char *slot, bool from_peer, rkd_u32 lane) {
  const rkd_slot *header = (const rkd_slot *)c->slot;
  const rkd_u32 size = header->payload_size;
  if (size == RKD_SKIPPED) {
    rkp_sync_warp();
    if (lane == 0) {
      c->input_head++;
      c->taken++;
      rkp_publish_sys(&c->status->taken, c->taken);
      rkd_show_taken(c);
    }
    rkp_sync_warp();
    return false;
  }
  /* What the header has as it stands. */
  for (rkd_u32 word = lane; word < 5u; word += rkp_width()) {
    const rkd_u64 *from = (const rkd_u64 *)c->slot;
    rkd_u64 *to = (rkd_u64 *)&c->message;
    if (word == 0) to[3] = from[1]; /* correlation */
    if (word == 1) to[4] = from[2]; /* source */
    if (word == 2) to[5] = from[4]; /* deadline */
    if (word == 3) to[6] = from[6]; /* timestamp */
    if (word == 4) to[7] = from[7];
  }
  if (lane == 0) {
    /* By one thread: each has a time of its own. */
    const bool expired = header->meta != 0 && rkp_now_ns() + c->clock_offset > header->meta;
    c->expired = expired;
    c->replied = 0;
    c->fenced = 0;
    c->result = RK_OK;
    c->from_peer = from_peer;
    c->copy_size = 0;
    const void *payload = slot + 64;
    if (!from_peer) {
      payload = (const char *)c->slot + 64;
      if (size > RKD_CHUNKS * 16u - 64u) {
        c->copy_size = size;
        c->copy_from = (rkd_u64)slot + 64;
        payload = (const void *)c->tenant.inbox;
      }
    }
    c->token = from_peer ? 0 : header->token;
    c->source = header->source;
    c->message.payload = payload;
    c->message.payload_size = size;
    c->message.type = header->tag;
    /* What is too far ahead of the wall clock is not followed: src/clock.rs says why. */
    if (header->physical && (c->tenant.flags & RK_LAUNCH_TIMESTAMPS) && header->physical <= rkp_now_ns() + c->unix_offset + RKD_SKEW_MAX)
      rkd_clock_move(c, (header->physical >> 4) << 7 | header->logical, 0);
    if (expired) {
      if (from_peer) {
        rkd_give_up_peer(c, slot, RKD_DEAD | RK_DEAD_EXPIRED << 8, RK_ERR_TIMEOUT);
      } else {
        rkd_record_out(c, RKD_EXPIRED, 0, 0, c->input_head, 0, 0, RK_ERR_TIMEOUT, 0, 0, 0);
      }
      if (from_peer) {
        rkd_peer_advance(c);
      } else {
        c->input_head++;
        c->taken++;
      }
      rkp_publish_sys(&c->status->taken, c->taken);
      rkd_show_taken(c);
    } else {
      /* Before a handler that may take long: a sender may wait for the slot of the message before. */
      if (c->shown != c->taken + c->peer_taken) rkd_show_taken(c);
      c->started++;
    }
  }
  rkp_sync_warp();
  return !c->expired;
}

/* Waits for something that the whole block has to do. By warp 0. */
RKP_DEVICE void rkd_next(rk_context_t *c, rkd_u32 lane) {
  for (;;) {
    rkd_look(c, lane);
    const rkd_u64 command = c->poll[0];
    const rkd_u32 verb = (rkd_u32)command & 0xff;
    if (verb == RKD_EXIT) {
      if (lane == 0) {
        c->command = command;
        c->action = RKD_DO_EXIT;
        rkd_acknowledge(c, RKD_IS_GONE);
      }
      return;
    }
    if (!c->occupied) {
      /* A seat that has ended may see a late word for the tenant that has left. */
      if ((verb == RKD_PAUSE || verb == RKD_RUN || (c->once && verb != RKD_VACANT)) && command != c->left) {
        /* The look has no order: who the tenant is, is read again after the command. */
        (void)rkp_load_acquire_sys(&c->control->command); /* H4 */
        rkd_fetch(&c->tenant, (const void *)rkp_load_relaxed_sys(&c->control->tenant), sizeof(rkd_tenant), lane);
        if (c->once && c->seat->done == c->tenant.kernel) {
          /* Launched for the sake of other blocks. */
          if (lane == 0) c->action = RKD_DO_EXIT;
          return;
        }
        if (lane == 0) {
          c->command = command;
          c->clock_offset = c->poll[3];
          c->unix_offset = c->poll[4];
          c->action = RKD_DO_ENTER;
        }
        return;
      }
      if (c->once) {
        if (lane == 0) c->action = RKD_DO_EXIT;
        return;
      }
      rkd_idle(c, lane, c->idle_sleep_ns);
      continue;
    }
    if (command != c->command) {
      rkp_sync_warp();
      if (lane == 0) {
        c->command = command;
        if (verb == RKD_RUN || verb == RKD_PAUSE) {
          rkp_publish_sys(&c->status->taken, c->taken); /* and what was read of the input is done with */
          rkd_show(c);
          rkd_acknowledge(c, c->fault ? RKD_IS_FAULT : verb == RKD_RUN ? RKD_IS_RUNNING : RKD_IS_PAUSED);
        }
        c->sleep_ns = 0;
        c->resumed = 0;
      }
      /* Once more: what goes with a command was written before it, and may have been read before it. */
      (void)rkp_load_acquire_sys(&c->control->command); /* H4 */
      continue;
    }
    if (lane == 0) {
      c->clock_offset = c->poll[3];
      c->unix_offset = c->poll[4];
    }
    /* No message gets in any more, also not one that the handlers of this block send to it. */
    if ((verb == RKD_DRAIN || verb == RKD_STOP) && !c->closed) {
      rkp_sync_warp();
      if (lane == 0) rkd_close_peer(c);
      rkp_sync_warp();
    }
    /* A block that failed takes nothing until the host lets it begin anew. */
    if (c->fault) {
      if (lane == 0) c->renews = rkp_load_acquire_sys(&c->control->restarts) != c->restarts; /* H4 */
      rkp_sync_warp();
      if (c->renews) {
        if (lane == 0) {
          c->copy_from = rkp_load_relaxed_sys(&c->control->transfer);
          c->action = RKD_DO_RENEW;
        }
        return;
      }
    }
    const bool copies = (verb == RKD_SAVE || verb == RKD_LOAD) && c->copied != command;
    if (copies) {
      rkp_sync_warp(); /* all have decided alike */
      if (lane == 0) {
        c->copied = command;
        c->copy_from = rkp_load_relaxed_sys(&c->control->transfer);
        c->action = RKD_DO_COPY;
      }
      return;
    }
    /* A block that waits at the barrier ends its handler when the others have come, so that they come although they are
     * to pause. They say that they run before they arrive there, so that whoever sees the pause of a block that has left the
     * barrier sees this; and that they pause when they are back. */
    if (verb == RKD_PAUSE) {
      if (lane == 0) {
        c->barrier_waits = !c->fault && rkd_barrier_waits(c);
        if (c->resumed && !c->barrier_waits) {
          rkp_publish_sys(&c->status->taken, c->taken);
          rkd_show(c);
          rkd_acknowledge(c, RKD_IS_PAUSED);
          c->resumed = 0;
        }
      }
      rkp_sync_warp();
    }
    const bool comes = verb == RKD_PAUSE && c->barrier_waits;
    const bool have_peer = c->poll[10] == (c->peer_head >> c->tenant.peer_shift) * 2 + 1;
    const bool express = rkd_is_express(c);
    const bool have_input = express || c->poll[8] == (c->input_head >> c->tenant.input_shift) * 2 + 1;
    const bool drained = verb == RKD_DRAIN && c->input_head == c->poll[1];
    const bool takes = (verb == RKD_RUN || verb == RKD_DRAIN || comes) && !c->fault && !c->poll[6] && !(c->once && c->once_left == 0);
    const bool peer_first = have_peer && (!have_input || c->prefer_peer);
    rkp_sync_warp(); /* all have decided alike; now lane 0 may change what they decided by */
    if (verb == RKD_STOP || (drained && !have_peer)) {
      if (lane == 0) {
        if (c->peer_head == c->peer_end) {
          rkp_publish_sys(&c->status->taken, c->taken);
          rkd_done(c);
        } else if (have_peer && verb == RKD_STOP) {
          (void)rkp_load_acquire_gpu(rkd_peer_slot(c)); /* P3 */
          rkd_give_up_peer(c, rkd_peer_slot(c), RKD_LEFT, 0);
          rkd_peer_advance(c);
        }
      }
      rkp_sync_warp();
      if (!c->occupied && c->once) {
        if (lane == 0) c->action = RKD_DO_EXIT;
        return;
      }
      /* A peer is between claim and publish, or its message is handled by the drain. */
      continue;
    }
    if (takes && (have_peer || have_input)) {
      if (lane == 0) {
        if (comes && !c->resumed) {
          c->resumed = 1;
          c->resumes++;
          rkd_acknowledge(c, RKD_IS_RUNNING);
        }
        c->prefer_peer = !peer_first;
        c->sleep_ns = 0;
        c->quiet = 0;
        if (c->once) c->once_left--;
      }
      const char *slot = peer_first ? rkd_peer_slot(c) : (const char *)c->tenant.input + (c->input_head & ((1ull << c->tenant.input_shift) - 1)) * c->tenant.stride;
      rkp_sync_warp();
      if (lane == 0) c->slot_was_read = !(express && !peer_first);
      if (express && !peer_first) {
        rkd_read_express(c, lane);
      } else {
        rkd_read(c, slot, lane);
      }
      if (rkd_take(c, slot, peer_first, lane)) {
        if (lane == 0) c->action = RKD_DO_MESSAGE;
        return;
      }
      continue;
    }
    if (lane == 0 && c->quiet >= RKD_SHOW && (c->started != c->counted || c->shown != c->taken + c->peer_taken)) rkd_show(c);
    if (c->once) {
      if (lane == 0) {
        rkp_publish_sys(&c->status->taken, c->taken);
        rkd_show(c);
        rkd_save(c);
        rkd_acknowledge(c, RKD_IS_RESTED);
        c->action = RKD_DO_EXIT;
      }
      return;
    }
    rkd_idle(c, lane, c->busy_sleep_ns);
  }
}

/* The state of a new incarnation. By all threads. */
RKP_DEVICE void rkd_clear_state(const rk_context_t *c, rkd_u32 thread) {
  const rkd_16 zero = {0, 0};
  char *state = (char *)c->tenant.state;
  for (rkd_u64 at = 16ull * thread; at < c->tenant.state_size; at += 16ull * rkp_threads()) rkp_put16(state + at, zero);
}

RKP_DEVICE void rkd_move_state(const rk_context_t *c, const char *from, char *to, rkd_u32 thread) {
  for (rkd_u64 at = 16ull * thread; at < c->tenant.state_size; at += 16ull * rkp_threads()) rkp_put16(to + at, rkp_get16(from + at));
}

/* A block that failed begins anew (D16): with what the host has put where states are copied through, if there is such a place.
 * By all threads. */
RKP_COLD void rkd_renew(rk_context_t *c, rkd_u32 thread) {
  if (c->copy_from) {
    rkd_move_state(c, (const char *)c->copy_from, (char *)c->tenant.state, thread);
  } else {
    rkd_clear_state(c, thread);
  }
  rkp_sync_block();
  if (thread != 0) return;
  c->restarts++;
  c->fault = 0;
}

/* Copies the state out or in, by all threads (D17). */
RKP_COLD void rkd_copy_state(rk_context_t *c, rkd_u32 thread) {
  const bool saves = (c->command & 0xff) == RKD_SAVE;
  char *state = (char *)c->tenant.state;
  char *other = (char *)c->copy_from;
  /* Of a block that failed and waits for its restart, what it will begin with is there already. */
  if (!saves) {
    rkd_move_state(c, other, state, thread);
  } else if (!c->fault) {
    rkd_move_state(c, state, other, thread);
  }
  rkp_sync_block();
  if (thread == 0) rkd_acknowledge(c, RKD_IS_COPIED);
}

/* A tenant moves in. By all threads; the description is in shared memory. */
RKP_DEVICE void rkd_enter(rk_context_t *c, rkd_u32 thread) {
  const rkd_u64 resident = c->seat->epoch;
  const bool again = c->once && resident == c->tenant.epoch;
  rkp_sync_block();
  if (!again) {
    rkd_clear_state(c, thread);
    for (rkd_u64 slot = thread; slot < 1ull << c->tenant.peer_shift; slot += rkp_threads())
      rkp_put8((char *)c->tenant.peer + slot * c->tenant.stride, 0);
  }
  rkp_sync_block();
  if (thread != 0) return;
  rkd_seat *s = c->seat;
  c->occupied = 1;
  c->resumed = 0;
  c->barrier_waits = 0;
  c->closed = 0;
  c->fault = 0;
  c->restarts = 0;
  c->peer_end = 0;
  c->route_version = ~0ull;
  c->quiet = 0;
  c->express_found = 0;
  c->message.block = c->tenant.block;
  c->message.lease = 0;
  c->prefer_peer = 0;
  c->outbox_head = 0;
  c->host_sends = 0;
  c->sends_done = 0;
  c->leaf = 0;
  if (again) {
    c->input_head = s->input_head;
    c->outbox_tail = s->outbox_tail;
    c->outbox_head = rkp_load_acquire_sys(&c->control->outbox_head);
    c->peer_head = s->peer_head;
    c->started = s->started;
    c->processed = s->processed;
    c->failed = s->failed;
    c->sent = s->sent;
    c->host_sends = s->host_sends;
    c->next_block = s->next_block;
    c->fault = (rkd_u32)s->fault;
    c->restarts = s->restarts;
    c->taken = s->taken;
    c->peer_taken = s->peer_taken;
    c->shown = c->taken + c->peer_taken;
    c->counted = c->started;
    return;
  }
  c->input_head = c->outbox_tail = c->peer_head = c->started = c->processed = c->failed = c->sent = 0;
  c->taken = c->peer_taken = 0;
  rkd_16 ring;
  ring.a = c->tenant.peer;
  ring.b = (rkd_u64)c->tenant.peer_shift << 32 | c->tenant.stride;
  rkp_put16(&s->peer, ring); /* D15 */
  s->epoch = c->tenant.epoch;
  if (c->tenant.block == 0) {
    s->barrier = 0; /* the clock stays: another block may be asking it already */
  }
  rkp_store_relaxed_sys(&c->status->peer_seen, 0);
  rkd_show(c);
  /* Short launches are not reached by peers: they send through the host. */
  if (!c->once) rkp_store_release_gpu(&s->peer_tail, c->tenant.epoch << 48); /* P5 */
  if (((rkd_u32)c->command & 0xff) <= RKD_RUN) rkd_acknowledge(c, ((rkd_u32)c->command & 0xff) == RKD_RUN ? RKD_IS_RUNNING : RKD_IS_PAUSED);
}

/* After the handler, by thread 0. */
RKP_DEVICE void rkd_finish(rk_context_t *c) {
  const int status = c->result;
  if (status == RK_OK) {
    c->processed++;
  } else {
    c->failed++;
    if (c->from_peer) {
      rkd_give_up_peer(c, rkd_peer_slot(c), RKD_DEAD | RK_DEAD_HANDLER << 8, status);
    } else {
      rkd_record_out(c, RKD_FAILED, 0, 0, c->input_head, 0, 0, status, 0, 0, 0);
    }
    if (status == RK_ERR_KERNEL_FAILED) c->fault = 1;
  }
  if (c->from_peer) {
    rkd_peer_advance(c);
  } else {
    c->input_head++;
    c->taken++;
  }
  if ((c->slot_was_read && !c->from_peer) || status != RK_OK) {
    /* A record of a failure goes without a fence, and says something of the slot: it is there before the slot is given back. */
    if (!c->fenced || status != RK_OK) rkp_publish_sys(&c->status->taken, c->taken);
    rkd_show_taken(c);
  }
  if (c->started - c->counted >= 16) rkd_show(c);
}

template <class Handler>
RKP_DEVICE void rkd_main(rkd_u64 launch, Handler handler) {
  RKP_SHARED(rk_context_t, context);
  rk_context_t *const c = &context;
  const rkd_u32 thread = rkp_thread();
  const rkd_launch *const l = (const rkd_launch *)launch;
  if (thread == 0) {
    rkd_launch own;
    for (rkd_u32 chunk = 0; chunk < sizeof own / 16; chunk++) ((rkd_16 *)&own)[chunk] = rkp_get16((const char *)l + 16u * chunk);
    c->action = 0;
    c->refused = own.layout != RKD_LAYOUT || rkp_block() >= own.count;
    c->control = (rkd_control *)own.controls + rkp_block();
    c->status = (rkd_status *)own.statuses + rkp_block();
    c->seat = (rkd_seat *)own.seats + rkp_block();
    c->busy_sleep_ns = own.busy_sleep_ns;
    c->idle_sleep_ns = own.idle_sleep_ns;
    c->once = own.once;
    c->once_left = RKD_ONCE_MAX;
    c->occupied = 0;
    c->command = 0;
    c->left = 0;
    c->polls = 0;
    c->sleep_ns = 0;
    c->next_block = 0;
    c->quiet = 0;
    c->resumes = 0;
    c->copied = 0;
    c->express_found = 0;
    c->outbox_head = 0;
    if (own.fresh && !c->refused) {
      const rkd_16 zero = {0, 0};
      for (rkd_u32 at = 0; at < sizeof(rkd_seat); at += 16) rkp_put16((char *)c->seat + at, zero);
    }
    rkp_store_relaxed_sys(&c->status->timer, rkp_now_ns());
    /* A layout that is not ours is told, and nothing else of it is touched. */
    rkp_publish_sys(&c->status->version, (rkd_u64)RKD_LAYOUT << 32 | sizeof(rkd_slot));
  }
  rkp_sync_block();
  if (c->refused) return; /* written once: warp 0 may be ahead of who reads this */
  for (;;) {
    if (thread < rkp_width()) rkd_next(c, thread);
    rkp_sync_block();
    const rkd_u32 action = c->action;
    if (action == RKD_DO_EXIT) return;
    if (action == RKD_DO_ENTER) {
      rkd_enter(c, thread);
    } else if (action == RKD_DO_RENEW) {
      rkd_renew(c, thread);
    } else if (action == RKD_DO_COPY) {
      rkd_copy_state(c, thread);
    } else {
      if (c->copy_size) {
        for (rkd_u64 at = 16ull * thread; at < c->copy_size; at += 16ull * rkp_threads())
          rkp_put16((char *)c->tenant.inbox + at, rkp_get16((const char *)c->copy_from + at));
        rkp_sync_block();
      }
      const rk_status_t status = handler(c, &c->message);
      if (status != RK_OK) c->result = status;
      rkp_sync_block();
      if (thread == 0) rkd_finish(c);
    }
    /* No barrier here: the others touch nothing before the next one, and warp 0 comes together in its look. */
  }
}

#define RK_DEVICE_ENTRY(handler) RKP_ENTRY(rk_entry_##handler, handler)
#ifndef RKP_ENTRY
#define RKP_ENTRY(entry, handler)                                                                            \
  struct entry##_call {                                                                                      \
    RKP_METHOD rk_status_t operator()(rk_context_t *ctx, const rk_message_t *message) const {                \
      return handler(ctx, message);                                                                          \
    }                                                                                                        \
  };                                                                                                         \
  extern "C" __global__ void entry(rkd_u64 launch) { rkd_main(launch, entry##_call()); }
#define RKP_METHOD __device__
#endif

/* Handlers use the names of the C header. */
#define rk_context_state rkd_context_state
#define rk_context_user_data rkd_context_user_data
#define rk_context_shared rkd_context_shared
#define rk_context_kernel rkd_context_kernel
#define rk_context_block rkd_context_block
#define rk_context_block_count rkd_context_block_count
#define rk_context_thread rkd_context_thread
#define rk_context_thread_count rkd_context_thread_count
#define rk_context_sync rkd_context_sync
#define rk_context_now rkd_context_now
#define rk_context_stopping rkd_context_stopping
#define rk_context_reply rkd_context_reply
#define rk_context_emit rkd_context_emit
#define rk_context_send rkd_context_send
#define rk_context_grid_sync rkd_context_grid_sync

#endif /* RINGKERNEL_DEVICE_CUH */
