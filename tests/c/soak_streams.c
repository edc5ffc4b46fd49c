/* Conservation: `soak_streams N` (default 2 000 000) sends N numbered messages from three threads, one by one, in batches and as loans,
 * through two kernels (both modes) to a receiver, while a fourth thread pauses and resumes the first kernel. Every message arrives
 * once, those of one sender in the order sent and as they were sent; the counters agree; what is left open is 0. */
#include "fixture.h"

#define SENDERS 3
#define BATCH 32

typedef struct {
  uint64_t sender, number, words[6];
} parcel_t;

typedef struct {
  uint64_t due[SENDERS];
} place_t;

static rk_kernel_t first, second;
static uint64_t each, wrong, pauses;
static int ending;

static void fill(parcel_t *parcel, uint64_t sender, uint64_t number) {
  int i;
  parcel->sender = sender;
  parcel->number = number;
  for (i = 0; i < 6; i++) parcel->words[i] = number * 7 + sender + (uint64_t)i;
}

/* Whether it is the next one of its sender, and whole. */
static int is_due(const void *payload, size_t size, uint64_t *due) {
  const parcel_t *parcel = (const parcel_t *)payload;
  parcel_t expected;
  if (size != sizeof *parcel || parcel->sender >= SENDERS) return 0;
  fill(&expected, parcel->sender, due[parcel->sender]);
  due[parcel->sender]++;
  return memcmp(parcel, &expected, sizeof expected) == 0;
}

static rk_status_t pass(rk_context_t *ctx, const rk_message_t *message, int is_last) {
  place_t *place = (place_t *)rk_context_state(ctx);
  rk_status_t status;
  if (!is_due(message->payload, message->payload_size, place->due)) __atomic_fetch_add(&wrong, 1, __ATOMIC_RELAXED);
  if (is_last) return rk_context_emit(ctx, message);
  while ((status = rk_context_send(ctx, 0, message)) == RK_ERR_FULL) sched_yield();
  return status;
}

static rk_status_t on_first(rk_context_t *ctx, const rk_message_t *message) { return pass(ctx, message, 0); }
static rk_status_t on_second(rk_context_t *ctx, const rk_message_t *message) { return pass(ctx, message, 1); }

static void *send_all(void *argument) {
  uint64_t sender = (uint64_t)(uintptr_t)argument, number = 0;
  parcel_t parcels[BATCH];
  rk_message_t messages[BATCH];
  rk_loan_t loans[BATCH];
  while (number < each) {
    uint64_t way = (number / BATCH + sender) % 3, left = each - number, count = left < BATCH ? left : BATCH, i;
    size_t done = 0;
    for (i = 0; i < count; i++) {
      fill(&parcels[i], sender, number + i);
      messages[i] = check_message(&parcels[i], sizeof parcels[i]);
    }
    if (way == 0) {
      for (; done < count; done++) {
        if (rk_send(first, &messages[done], RK_FOREVER) != RK_OK) return &wrong;
      }
    } else if (way == 1) {
      if (rk_send_batch(first, messages, count, RK_FOREVER, &done) != RK_OK) return &wrong;
    } else {
      if (rk_reserve_batch(first, 0, sizeof(parcel_t), count, RK_FOREVER, loans, &done) != RK_OK) return &wrong;
      for (i = 0; i < done; i++) memcpy(loans[i].payload, &parcels[i], sizeof(parcel_t));
      if (rk_commit_batch(loans, NULL, done) != RK_OK) return &wrong;
    }
    number += done;
  }
  return NULL;
}

static void *pause_and_resume(void *argument) {
  (void)argument;
  while (!__atomic_load_n(&ending, __ATOMIC_ACQUIRE)) {
    check_sleep_ms(20);
    if (rk_deactivate(first) != RK_OK || rk_activate(first) != RK_OK) return &wrong;
    pauses++;
  }
  return NULL;
}

static int soak(const char *what, uint32_t mode, uint64_t count) {
  rk_runtime_t *runtime = make_runtime(2);
  rk_launch_options_t options = options_for("first", mode);
  rk_kernel_metrics_t a, b;
  rk_message_t received[BATCH];
  uint64_t due[SENDERS] = {0}, total, arrived = 0, start = check_now();
  pthread_t senders[SENDERS], pauser;
  void *failed;
  uint32_t route;
  uintptr_t i;
  int bad = 0;
  each = count / SENDERS;
  total = each * SENDERS;
  wrong = pauses = 0;
  ending = 0;
  options.payload_size_max = sizeof(parcel_t);
  if (!runtime || add_program(runtime, "first", on_first, sizeof(place_t), NULL) || add_program(runtime, "second", on_second, sizeof(place_t), NULL)) return 1;
  if (rk_launch(runtime, "first", &options, &first)) return 1;
  options.program = "second";
  if (rk_launch(runtime, "second", &options, &second) || rk_connect(first, second, &route)) return 1;
  for (i = 0; i < SENDERS; i++) pthread_create(&senders[i], NULL, send_all, (void *)i);
  pthread_create(&pauser, NULL, pause_and_resume, NULL);
  while (arrived < total) {
    size_t taken, at;
    if (rk_receive_batch(second, received, BATCH, MS(20000), &taken) != RK_OK) {
      printf("FAILED %s: after %llu of %llu nothing came for 20 s\n", what, (unsigned long long)arrived, (unsigned long long)total);
      return 1;
    }
    for (at = 0; at < taken; at++) bad += !is_due(received[at].payload, received[at].payload_size, due);
    arrived += taken;
    bad += rk_release_batch(received, taken) != RK_OK;
  }
  __atomic_store_n(&ending, 1, __ATOMIC_RELEASE);
  for (i = 0; i < SENDERS; i++) bad += pthread_join(senders[i], &failed) != 0 || failed != NULL;
  bad += pthread_join(pauser, &failed) != 0 || failed != NULL;
  bad += rk_receive(second, received, 0) != RK_ERR_EMPTY;
  bad += rk_terminate(first, RK_FOREVER) != RK_OK || rk_terminate(second, RK_FOREVER) != RK_OK;
  a = metrics_of(first);
  b = metrics_of(second);
  bad += a.messages_sent != total || a.messages_processed != total || a.messages_to_kernels != total;
  bad += b.messages_sent != 0 || b.messages_from_kernels != total || b.messages_processed != total || b.messages_received != total;
  bad += a.messages_failed + b.messages_failed + a.dead_letters + b.dead_letters + a.open_leases + b.open_leases != 0;
  bad += rk_runtime_destroy(runtime) != RK_OK;
  printf("%s: %llu messages through two kernels, %.0f ns each, %llu pauses, %d wrong\n", what, (unsigned long long)total,
         (double)(check_now() - start) / (double)total, (unsigned long long)pauses, bad + (int)wrong);
  fflush(stdout);
  return bad + (int)wrong != 0;
}

int main(int argc, char **argv) {
  uint64_t count = argc > 1 ? strtoull(argv[1], NULL, 10) : 2000000u;
  int failed = 0;
  fixture_unused();
  failed += soak("event-driven", RK_MODE_EVENT_DRIVEN, count / 2);
  failed += soak("persistent", RK_MODE_PERSISTENT, count / 2);
  printf("%d passed, %d failed\n", 2 - failed, failed);
  return failed != 0;
}
