/* What every C test uses: checks that name what failed, a watchdog, a count at the end.
 * C99 and C++11. Include after defining nothing; link with -lringkernel -lpthread. */
#ifndef RK_TESTS_CHECK_H
#define RK_TESTS_CHECK_H
#ifndef _POSIX_C_SOURCE
#define _POSIX_C_SOURCE 200809L /* before any header */
#endif
#include <pthread.h>
#include <sched.h>
#include <ringkernel.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static int check_passed, check_failed, check_skipped, check_bad;
static const char *check_test = "";

#define CHECK(condition)                                                                     \
  do {                                                                                       \
    if (!(condition)) {                                                                      \
      printf("%s:%d: in %s: not true: %s\n", __FILE__, __LINE__, check_test, #condition);    \
      check_bad = 1;                                                                         \
      return;                                                                                \
    }                                                                                        \
  } while (0)

#define CHECK_STATUS(call, expected)                                                         \
  do {                                                                                       \
    rk_status_t status_ = (call);                                                            \
    if (status_ != (expected)) {                                                             \
      char text_[512];                                                                       \
      rk_last_error(text_, sizeof text_);                                                    \
      printf("%s:%d: in %s: %s is %s, not %s (%s)\n", __FILE__, __LINE__, check_test, #call, \
             rk_status_name(status_), rk_status_name(expected), text_);                      \
      check_bad = 1;                                                                         \
      return;                                                                                \
    }                                                                                        \
  } while (0)

#define OK(call) CHECK_STATUS(call, RK_OK)

#define RUN(test)                          \
  do {                                     \
    if (check_begin(argc, argv, #test)) {  \
      test();                              \
      check_end();                         \
    }                                      \
  } while (0)

static void check_hang(int signal_number) {
  static const char text[] = "a test hangs: ";
  ssize_t ignored = write(1, text, sizeof text - 1);
  ignored += write(1, check_test, strlen(check_test));
  ignored += write(1, "\n", 1);
  (void)ignored;
  (void)signal_number;
  _exit(3);
}

/* Under valgrind and sanitizers everything takes longer: bounds on time grow, counts shrink. */
static int check_slow(void) { return getenv("RK_TEST_SLOW") != NULL; }

/* RK_TEST_SKIP names tests, with commas between, that make no sense where this runs; each is said and counted. */
static int check_skips(const char *test) {
  const char *skip = getenv("RK_TEST_SKIP");
  size_t length = strlen(test);
  for (; skip && *skip; skip = strchr(skip, ',') ? strchr(skip, ',') + 1 : NULL) {
    if (strncmp(skip, test, length) == 0 && (skip[length] == ',' || skip[length] == 0)) {
      printf("SKIP %s\n", test);
      check_skipped++;
      return 1;
    }
  }
  return 0;
}

static int check_begin(int argc, char **argv, const char *test) {
  if (argc > 1 && strcmp(argv[1], test) != 0) return 0;
  if (check_skips(test)) return 0;
  check_test = test;
  check_bad = 0;
  signal(SIGALRM, check_hang);
  alarm(check_slow() ? 300 : 60);
  return 1;
}

static void check_end(void) {
  alarm(0);
  if (check_bad) {
    check_failed++;
    printf("FAILED %s\n", check_test);
  } else {
    check_passed++;
    printf("ok %s\n", check_test);
  }
  fflush(stdout);
}

static int check_result(void) {
  printf("%d passed, %d failed", check_passed, check_failed);
  if (check_skipped) printf(", %d skipped", check_skipped);
  printf("\n");
  return check_failed != 0;
}

static uint64_t check_now(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static void check_sleep_ms(unsigned ms) {
  struct timespec time;
  time.tv_sec = (time_t)(ms / 1000);
  time.tv_nsec = (long)(ms % 1000) * 1000000;
  nanosleep(&time, NULL);
}

#define MS(n) ((uint64_t)(n)*1000000u)

static rk_message_t check_message(const void *payload, size_t size) {
  rk_message_t message;
  memset(&message, 0, sizeof message);
  message.payload = payload;
  message.payload_size = size;
  return message;
}

/* Waits, without a limit but the watchdog's, until a condition holds. */
#define UNTIL(condition)              \
  while (!(condition)) {              \
    check_sleep_ms(1);                \
  }

/* What a test uses or not is its own business. */
static void check_unused(void) {
  (void)check_slow;
  (void)check_now;
  (void)check_sleep_ms;
  (void)check_message;
  (void)check_begin;
  (void)check_end;
  (void)check_result;
  (void)check_unused;
}
#endif
