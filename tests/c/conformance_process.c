/* What the library does not do to its process: threads, descriptors, signals, settings, output, memory. */
#include "fixture.h"
#include <dirent.h>
#include <fcntl.h>
#include <locale.h>
#include <sys/stat.h>

/* Entries of a directory of /proc/self. */
static int entries(const char *path) {
  DIR *directory = opendir(path);
  int count = 0;
  if (directory == NULL) return -1;
  while (readdir(directory) != NULL) count++;
  closedir(directory);
  return count;
}

static int threads_now(void) { return entries("/proc/self/task") - 2; }
static int descriptors_now(void) { return entries("/proc/self/fd"); }

static long resident_kib(void) {
  long size = 0, resident = 0;
  FILE *file = fopen("/proc/self/statm", "r");
  if (file == NULL || fscanf(file, "%ld %ld", &size, &resident) != 2) resident = 0;
  if (file != NULL) fclose(file);
  return resident * (sysconf(_SC_PAGESIZE) / 1024);
}

/* Some of everything, also what fails. */
static void live_a_little(void) {
  static const uint32_t modes[] = {RK_MODE_PERSISTENT, RK_MODE_EVENT_DRIVEN};
  rk_runtime_t *runtime = make_runtime(3);
  rk_status_t broken = RK_ERR_KERNEL_FAILED;
  size_t i;
  CHECK(runtime != NULL);
  for (i = 0; i < 2; i++) {
    rk_launch_options_t options = options_for("echo", modes[i]);
    rk_message_t out, message = check_message(&broken, sizeof broken);
    rk_dead_letter_t letter;
    rk_kernel_t kernel, failing;
    options.grid_size = 2;
    OK(rk_launch(runtime, "works", &options, &kernel));
    CHECK(works(kernel));
    OK(rk_send(kernel, &message, 0));
    OK(rk_receive(kernel, &out, RK_FOREVER));
    OK(rk_release(&out));
    options.program = "status";
    OK(rk_launch(runtime, "fails", &options, &failing));
    OK(rk_send(failing, &message, 0));
    CHECK_STATUS(rk_wait(failing, RK_FOREVER), RK_ERR_KERNEL_FAILED);
    OK(rk_receive_dead_letter(runtime, &letter, RK_FOREVER));
    OK(rk_release(&letter.message));
    CHECK_STATUS(rk_launch(runtime, "works", &options, &failing), RK_ERR_ALREADY_EXISTS);
    OK(rk_destroy(failing));
    OK(rk_destroy(kernel));
    CHECK_STATUS(rk_destroy(kernel), RK_ERR_INVALID_HANDLE);
  }
  OK(rk_runtime_destroy(runtime));
  CHECK_STATUS(rk_runtime_destroy(runtime), RK_ERR_INVALID_HANDLE);
}

/* The first test: before any runtime. */
static void no_thread_runs_before_a_runtime_is_created(void) {
  rk_runtime_options_t none = RK_RUNTIME_OPTIONS_INIT;
  rk_runtime_t *runtime = NULL;
  rk_kernel_t kernel = {0};
  char words[64];
  CHECK(threads_now() == 1);
  CHECK(rk_version() != 0 && rk_has_feature("cpu") && rk_status_name(0) != NULL);
  OK(rk_set_logger(NULL, NULL, 0));
  CHECK_STATUS(rk_activate(kernel), RK_ERR_INVALID_HANDLE);
  none.backend = RK_BACKEND_CUDA;
  CHECK_STATUS(rk_runtime_create(&none, &runtime), RK_ERR_BACKEND_UNAVAILABLE);
  none.backend = 77;
  CHECK_STATUS(rk_runtime_create(&none, &runtime), RK_ERR_INVALID_ARGUMENT);
  rk_last_error(words, sizeof words);
  CHECK(threads_now() == 1);
}

static void lesson_17_threads_and_descriptors_are_gone_with_their_runtime(void) {
  int threads = threads_now(), descriptors = descriptors_now(), i;
  for (i = 0; i < (check_slow() ? 3 : 20); i++) {
    live_a_little();
    if (check_bad) return;
    /* A thread that was joined is for a moment still listed. */
    UNTIL(threads_now() == threads && descriptors_now() == descriptors);
  }
}

static void lesson_20_runtimes_that_come_and_go_leave_no_memory_behind(void) {
  long before = 0;
  int i, rounds = check_slow() ? 6 : 150;
  for (i = 0; i < rounds; i++) {
    live_a_little();
    if (check_bad) return;
    if (i == rounds / 3) before = resident_kib();
  }
  if (!check_slow()) CHECK(resident_kib() - before < 2048);
}

static rk_kernel_t shared;

static void *call_once(void *argument) { return works(shared) ? NULL : argument; }

static void threads_that_call_and_end_leave_no_memory_behind(void) {
  rk_runtime_t *runtime = make_runtime(1);
  rk_launch_options_t options = options_for("echo", RK_MODE_EVENT_DRIVEN);
  long before = 0;
  int i, j, rounds = check_slow() ? 5 : 400;
  OK(rk_launch(runtime, "k", &options, &shared));
  for (i = 0; i < rounds; i++) {
    pthread_t threads[8];
    void *failed;
    for (j = 0; j < 8; j++) CHECK(pthread_create(&threads[j], NULL, call_once, &shared) == 0);
    for (j = 0; j < 8; j++) CHECK(pthread_join(threads[j], &failed) == 0 && failed == NULL);
    if (i == rounds / 3) before = resident_kib();
  }
  if (!check_slow()) CHECK(resident_kib() - before < 2048);
  OK(rk_runtime_destroy(runtime));
}

enum { SIGNALS = 64 };

static void settings_of_the_process_stay_as_they_are(void) {
  struct sigaction before[SIGNALS], after[SIGNALS];
  sigset_t mask_before, mask_after;
  char directory[2][4096];
  const char *path = getenv("PATH");
  mode_t mask = umask(022);
  int i;
  umask(mask);
  sigemptyset(&mask_before);
  sigemptyset(&mask_after);
  for (i = 1; i < SIGNALS; i++) {
    memset(&before[i], 0, sizeof before[i]);
    sigaction(i, NULL, &before[i]);
  }
  CHECK(pthread_sigmask(SIG_SETMASK, NULL, &mask_before) == 0);
  CHECK(getcwd(directory[0], sizeof directory[0]) != NULL);
  live_a_little();
  if (check_bad) return;
  for (i = 1; i < SIGNALS; i++) {
    memset(&after[i], 0, sizeof after[i]);
    sigaction(i, NULL, &after[i]);
    CHECK(before[i].sa_handler == after[i].sa_handler && before[i].sa_flags == after[i].sa_flags);
  }
  CHECK(pthread_sigmask(SIG_SETMASK, NULL, &mask_after) == 0);
  for (i = 1; i < SIGNALS; i++) CHECK(sigismember(&mask_before, i) == sigismember(&mask_after, i));
  CHECK(getcwd(directory[1], sizeof directory[1]) != NULL && strcmp(directory[0], directory[1]) == 0);
  CHECK(umask(mask) == mask);
  CHECK(getenv("PATH") == path && strcmp(setlocale(LC_ALL, NULL), "C") == 0);
}

static void nothing_is_printed(void) {
  char name[] = "rk-printed-XXXXXX";
  struct stat printed;
  int file = mkstemp(name), out, err;
  CHECK(file >= 0);
  fflush(NULL);
  unlink(name);
  out = dup(1);
  err = dup(2);
  dup2(file, 1);
  dup2(file, 2);
  live_a_little();
  fstat(file, &printed);
  dup2(out, 1);
  dup2(err, 2);
  close(out);
  close(err);
  close(file);
  CHECK(printed.st_size == 0);
}

int main(int argc, char **argv) {
  fixture_unused();
  RUN(no_thread_runs_before_a_runtime_is_created);
  RUN(lesson_17_threads_and_descriptors_are_gone_with_their_runtime);
  RUN(lesson_20_runtimes_that_come_and_go_leave_no_memory_behind);
  RUN(threads_that_call_and_end_leave_no_memory_behind);
  RUN(settings_of_the_process_stay_as_they_are);
  RUN(nothing_is_printed);
  return check_result();
}
