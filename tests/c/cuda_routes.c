/* Routes on a device in numbers that need the whole tree, full targets that hold up no other, and threads that sleep while nobody waits:
 * on a GPU, or on the simulated driver. Exit code 77 where there is no CUDA device. RK_TEST_HANDLERS names the handlers' file if it is not
 * beside this one, RK_TEST_ROUTES how many routes there are to be. */
#include "check.h"
#include "routes_handlers.h"
#include <dirent.h>

/* Not a divisor of what a leaf or a page has: the same place in another leaf leads to another target. */
enum { TARGETS = 5, PAYLOAD = 128 };

static char *text;
static size_t text_size;
static uint32_t routes = 40000; /* more than a page of leaves has */
/* One runtime for all tests: compiling takes longer than they do. */
static rk_runtime_t *runtime;

static int read_handlers(void) {
  const char *path = getenv("RK_TEST_HANDLERS");
  char beside[1024];
  FILE *file;
  if (!path) {
    const char *slash = strrchr(__FILE__, '/');
    size_t folder = slash ? (size_t)(slash - __FILE__) + 1 : 0;
    if (folder + 32 > sizeof beside) return 0;
    memcpy(beside, __FILE__, folder);
    strcpy(beside + folder, "routes_handlers.h");
    path = beside;
  }
  file = fopen(path, "rb");
  if (!file) return 0;
  text = (char *)malloc(1 << 20);
  text_size = text ? fread(text, 1, 1 << 20, file) : 0;
  fclose(file);
  return text_size > 0;
}

static rk_status_t add(const char *name, rk_handler_fn handler) {
  rk_program_t program = RK_PROGRAM_INIT;
  program.name = name;
  program.on_message = handler;
  program.state_size = sizeof(routes_state_t);
  program.cuda_code_kind = RK_CODE_SOURCE;
  program.cuda_code = text;
  program.cuda_code_size = text_size;
  return rk_program_register(runtime, &program);
}

static rk_status_t add_all(void) {
  rk_status_t status = RK_OK;
#define ADD(handler) \
  if (status == RK_OK) status = add(#handler, handler)
  ADD(routes_echo);
  ADD(routes_emit);
  ADD(routes_by_number);
  ADD(routes_walk);
  ADD(routes_count);
  ADD(routes_fill);
  ADD(routes_press);
  return status;
}

/* One warp: it is thread 0 that acts. */
static rk_kernel_t launched(const char *id, const char *program, uint32_t mode, uint32_t capacity, uint32_t flags) {
  rk_launch_options_t options = RK_LAUNCH_OPTIONS_INIT;
  rk_kernel_t kernel;
  memset(&kernel, 0, sizeof kernel);
  options.program = program;
  options.mode = mode;
  options.block_size = 32;
  options.flags = flags;
  options.input_queue_capacity = capacity;
  options.output_queue_capacity = 1024;
  rk_launch(runtime, id, &options, &kernel);
  return kernel;
}

static rk_kernel_metrics_t metrics_of(rk_kernel_t kernel) {
  rk_kernel_metrics_t metrics = RK_KERNEL_METRICS_INIT;
  rk_kernel_metrics(kernel, &metrics);
  return metrics;
}

static uint64_t dead_letters(void) {
  rk_runtime_metrics_t totals = RK_RUNTIME_METRICS_INIT;
  return rk_metrics(runtime, &totals) == RK_OK ? totals.dead_letters : UINT64_MAX;
}

/* The content of a probe: bytes that follow from its number, more of them than one entry of the express has and fewer. */
static size_t fill(unsigned char *bytes, uint32_t number) {
  size_t size = 4 + number % (PAYLOAD - 4), i;
  for (i = 0; i < size; i++) bytes[i] = (unsigned char)(number * 2654435761u >> 13) ^ (unsigned char)(i * 7);
  memcpy(bytes, &number, sizeof number);
  return size;
}

/* Sent on by that route: what the sending was told, as a positive number. */
static uint32_t sent_by_number(rk_kernel_t from, uint32_t number) {
  unsigned char bytes[PAYLOAD];
  rk_message_t out, message = check_message(bytes, fill(bytes, number));
  uint32_t status = 99;
  message.type = number;
  message.correlation = (uint64_t)number + 7;
  if (rk_call(from, &message, &out, MS(20000)) != RK_OK) return status;
  status = out.type;
  rk_release(&out);
  return status;
}

/* What was sent by that route is at the target, whole, and nothing else is. */
static int arrives(rk_kernel_t to, uint32_t number) {
  unsigned char bytes[PAYLOAD];
  size_t size = fill(bytes, number);
  rk_message_t out;
  int same;
  if (rk_receive(to, &out, MS(20000)) != RK_OK) return 0;
  same = out.payload_size == size && memcmp(out.payload, bytes, size) == 0 && out.correlation == (uint64_t)number + 7;
  return rk_release(&out) == RK_OK && same && rk_receive(to, &out, 0) == RK_ERR_EMPTY;
}

/* Numbers on both sides of where leaves and pages begin, and others of all; the last of them is the last route. */
static uint32_t probe(uint32_t i, uint32_t *random) {
  static const uint32_t edges[] = {0, 1, 62, 63, 64, 65, 127, 128, 255, 256, 257, 4095, 4096, 32767, 32768, 32769, 65535, 65536};
  const uint32_t count = sizeof edges / sizeof edges[0];
  *random = *random * 1664525u + 1013904223u;
  if (i < count && edges[i] < routes) return edges[i];
  if (i >= count && i < count + 66) return routes - 1 - (i - count); /* the last leaf, and the one before it */
  return (*random >> 8) % routes;
}

static void every_route_of_a_tree_leads_where_it_should(uint32_t mode) {
  enum { PROBES = 250 };
  const uint32_t no_route = (uint32_t)-RK_ERR_NO_ROUTE;
  uint64_t expected[TARGETS] = {0, 0, 0, 0, 0}, dead = dead_letters(), begun = check_now();
  uint32_t i, route, number, random = 12345, more = 320;
  rk_kernel_t from = launched("from", "routes_by_number", mode, 64, 0), to[TARGETS];
  for (i = 0; i < TARGETS; i++) {
    char id[16];
    snprintf(id, sizeof id, "to-%u", (unsigned)i);
    to[i] = launched(id, "routes_emit", i % 2 ? RK_MODE_EVENT_DRIVEN : RK_MODE_PERSISTENT, 64, 0);
  }
  for (i = 0; i < routes; i++) {
    OK(rk_connect(from, to[i % TARGETS], &route));
    CHECK(route == i);
  }
  printf("# %u routes made in %u ms\n", (unsigned)routes, (unsigned)((check_now() - begun) / 1000000));
  CHECK(sent_by_number(from, routes) == no_route && sent_by_number(from, UINT32_MAX) == no_route);
  for (i = 0; i < PROBES; i++) {
    number = probe(i, &random);
    CHECK(sent_by_number(from, number) == 0);
    CHECK(arrives(to[number % TARGETS], number));
    expected[number % TARGETS]++;
  }
  for (i = 0; i < routes; i++) {
    if (i % 7 != 0) OK(rk_disconnect(from, i));
  }
  for (i = 0; i < PROBES; i++) {
    number = probe(i, &random);
    CHECK(sent_by_number(from, number) == (number % 7 ? no_route : 0));
    if (number % 7) continue;
    CHECK(arrives(to[number % TARGETS], number));
    expected[number % TARGETS]++;
  }
  for (i = 0; i < routes; i += 7) OK(rk_disconnect(from, i));
  for (i = 0; i < more; i++) { /* for new numbers, in leaves that others were in */
    OK(rk_connect(from, to[(routes + i) % TARGETS], &route));
    CHECK(route == routes + i);
    if (i % 4 != 0 && route % 64 > 1 && i + 2 < more) continue;
    CHECK(sent_by_number(from, route) == 0 && sent_by_number(from, i) == no_route);
    CHECK(sent_by_number(from, routes - 1 - i) == no_route);
    CHECK(arrives(to[route % TARGETS], route));
    expected[route % TARGETS]++;
  }
  for (i = 0; i < TARGETS; i++) {
    UNTIL(metrics_of(to[i]).messages_from_kernels >= expected[i]);
    CHECK(metrics_of(to[i]).messages_from_kernels == expected[i]);
    OK(rk_destroy(to[i]));
  }
  CHECK(dead_letters() == dead);
  OK(rk_destroy(from));
}

static void a_tree_of_routes_of_short_launches(void) { every_route_of_a_tree_leads_where_it_should(RK_MODE_EVENT_DRIVEN); }

static void a_tree_of_routes_of_a_resident_kernel(void) { every_route_of_a_tree_leads_where_it_should(RK_MODE_PERSISTENT); }

/* What a kernel says to a message of that type and correlation: the words that it replies with. */
static int says(rk_kernel_t kernel, uint32_t type, uint64_t correlation, void *words, size_t size) {
  rk_message_t out, message = check_message("m", 1);
  int whole;
  message.type = type;
  message.correlation = correlation;
  if (rk_call(kernel, &message, &out, MS(20000)) != RK_OK) return 0;
  whole = out.payload_size == size;
  if (whole) memcpy(words, out.payload, size);
  return rk_release(&out) == RK_OK && whole;
}

static rk_kernel_t walker;
static volatile uint32_t newest;
static volatile int walking, walk_failed;
static routes_said_t walked;

/* Has the newest routes walked through for as long as they change. */
static void *walk(void *argument) {
  (void)argument;
  while (walking) {
    uint32_t last = newest, first = last > 80 ? last - 80 : 0;
    routes_said_t said;
    if (!says(walker, last + 8 - first, first, &said, sizeof said)) {
      walk_failed = 1;
      return &walked;
    }
    __atomic_fetch_add(&walked.sent, said.sent, __ATOMIC_RELAXED);
    walked.full += said.full;
    walked.missing += said.missing;
    walked.other += said.other;
  }
  return NULL;
}

/* Leaves are hung up elsewhere and entries written while a block reads them: a number leads to its target or nowhere. */
static void a_number_never_leads_to_anothers_target(void) {
  uint64_t dead = dead_letters(), right = 0;
  uint32_t i, route;
  rk_kernel_t to[TARGETS];
  routes_state_t state;
  pthread_t thread;
  void *failed;
  walker = launched("walker", "routes_walk", RK_MODE_PERSISTENT, 64, 0);
  for (i = 0; i < TARGETS; i++) {
    char id[16];
    snprintf(id, sizeof id, "mine-%u", (unsigned)i);
    to[i] = launched(id, "routes_count", i == 3 ? RK_MODE_EVENT_DRIVEN : RK_MODE_PERSISTENT, 256, 0);
    CHECK(says(to[i], TARGETS, i, &state, sizeof state) && state.index == i && state.targets == TARGETS);
  }
  memset(&walked, 0, sizeof walked);
  newest = 0;
  walk_failed = 0;
  walking = 1;
  OK(rk_connect(walker, to[0], &route));
  CHECK(pthread_create(&thread, NULL, walk, NULL) == 0);
  for (i = 1; !walk_failed && (i < routes || __atomic_load_n(&walked.sent, __ATOMIC_RELAXED) < routes / 10); i++) {
    OK(rk_connect(walker, to[i % TARGETS], &route));
    CHECK(route == i);
    newest = i;
    /* 70 live at a time: leaves become bare and are used again. */
    if (i >= 70) OK(rk_disconnect(walker, i - 70));
    if (i % 64 == 0) check_sleep_ms(1);
  }
  walking = 0;
  CHECK(pthread_join(thread, &failed) == 0 && failed == NULL);
  do { /* what is in the rings is handled some time */
    for (i = 0, right = 0; i < TARGETS; i++) {
      CHECK(says(to[i], 0, 0, &state, sizeof state) && state.wrong == 0);
      right += state.right;
    }
  } while (right < walked.sent);
  printf("# %u arrived, %u found no room, %u no route\n", (unsigned)walked.sent, (unsigned)walked.full, (unsigned)walked.missing);
  CHECK(right == walked.sent && walked.other == 0 && walked.missing > 0 && dead_letters() == dead);
  for (i = 0; i < TARGETS; i++) OK(rk_destroy(to[i]));
  OK(rk_destroy(walker));
}

/* A paused target that the host feeds is full: it says so, and holds up none of the others, whoever feeds them. */
static void a_full_target_behind_the_host_holds_up_no_other(void) {
  enum { OTHERS = 3, ROUNDS = 10 };
  rk_kernel_t from, full, others[OTHERS];
  rk_message_t out;
  uint64_t dead = dead_letters(), number;
  uint32_t mode, route, i, round;
  routes_said_t said;
  for (mode = RK_MODE_PERSISTENT; mode <= RK_MODE_EVENT_DRIVEN; mode++) {
    uint64_t total = 0;
    from = launched("fills", "routes_fill", mode, 4, 0);
    full = launched("full", "routes_emit", RK_MODE_EVENT_DRIVEN, 4, RK_LAUNCH_SUSPENDED);
    OK(rk_connect(from, full, &route));
    for (i = 0; i < OTHERS; i++) {
      char id[16];
      snprintf(id, sizeof id, "other-%u", (unsigned)i);
      others[i] = launched(id, "routes_emit", i ? RK_MODE_EVENT_DRIVEN : RK_MODE_PERSISTENT, 4, 0);
      OK(rk_connect(from, others[i], &route));
    }
    for (round = 1; round <= ROUNDS; round++) {
      CHECK(says(from, OTHERS, round * 1000u, &said, sizeof said));
      CHECK(said.full == 1 && said.beside == OTHERS && said.missing == 0 && said.other == 0);
      CHECK(round == 1 ? said.sent >= 4 && said.sent <= 16 : said.sent == 0);
      total += said.sent;
      for (i = 0; i < OTHERS; i++) {
        OK(rk_receive(others[i], &out, MS(20000)));
        CHECK(out.correlation == round * 1000u);
        OK(rk_release(&out));
        CHECK_STATUS(rk_receive(others[i], &out, 0), RK_ERR_EMPTY);
      }
    }
    OK(rk_activate(full));
    for (number = 0; number < total; number++) {
      OK(rk_receive(full, &out, MS(20000)));
      CHECK(out.correlation == 1000 + number);
      OK(rk_release(&out));
    }
    CHECK_STATUS(rk_receive(full, &out, 0), RK_ERR_EMPTY);
    printf("# a queue of 4 took %u\n", (unsigned)total);
    for (i = 0; i < OTHERS; i++) OK(rk_destroy(others[i]));
    OK(rk_destroy(full));
    OK(rk_destroy(from));
  }
  CHECK(dead_letters() == dead);
}

/* More targets than any of them has places: the sender has no credit from the third on, and asks. */
static void one_message_goes_to_each_of_many_small_queues(void) {
  enum { MANY = 64, ROUNDS = 3 };
  rk_kernel_t from, to[MANY];
  uint64_t dead = dead_letters();
  uint32_t mode, route, i, round;
  routes_said_t said;
  routes_state_t state;
  for (mode = RK_MODE_PERSISTENT; mode <= RK_MODE_EVENT_DRIVEN; mode++) {
    from = launched("fan", "routes_walk", mode, 4, 0);
    for (i = 0; i < MANY; i++) {
      char id[16];
      snprintf(id, sizeof id, "small-%u", (unsigned)i);
      to[i] = launched(id, "routes_count", RK_MODE_EVENT_DRIVEN, 2, 0);
      CHECK(says(to[i], MANY, i, &state, sizeof state) && state.index == i);
      OK(rk_connect(from, to[i], &route));
      CHECK(route == i);
    }
    for (round = 1; round <= ROUNDS; round++) {
      CHECK(says(from, MANY, 0, &said, sizeof said) && said.sent == MANY);
      for (i = 0; i < MANY; i++) {
        UNTIL(says(to[i], 0, 0, &state, sizeof state) && state.right + state.wrong >= round);
        CHECK(state.right == round && state.wrong == 0);
      }
    }
    for (i = 0; i < MANY; i++) OK(rk_destroy(to[i]));
    OK(rk_destroy(from));
  }
  CHECK(dead_letters() == dead);
}

/* A resident sender that is faster than its target, which the host feeds: each question has its own answer, none is taken twice. */
static void who_presses_on_is_told_for_each_message(void) {
  enum { COUNT = 500 };
  rk_kernel_t from = launched("presses", "routes_press", RK_MODE_PERSISTENT, 4, 0);
  rk_kernel_t to = launched("pressed", "routes_emit", RK_MODE_EVENT_DRIVEN, 4, 0);
  uint64_t dead = dead_letters(), number;
  routes_said_t said;
  rk_message_t out;
  uint32_t route;
  OK(rk_connect(from, to, &route));
  CHECK(says(from, COUNT, 0, &said, sizeof said));
  printf("# %u taken, %u refused meanwhile\n", (unsigned)said.sent, (unsigned)said.full);
  CHECK(said.sent == COUNT && said.missing == 0 && said.other == 0);
  for (number = 1; number <= COUNT; number++) {
    OK(rk_receive(to, &out, MS(20000)));
    CHECK(out.correlation == number);
    OK(rk_release(&out));
  }
  CHECK_STATUS(rk_receive(to, &out, 0), RK_ERR_EMPTY);
  CHECK(dead_letters() == dead);
  OK(rk_destroy(to));
  OK(rk_destroy(from));
}

/* How often threads of that name have gone to sleep so far, and how many there are. */
static uint64_t sleeps_of(const char *name, unsigned *threads) {
  DIR *tasks = opendir("/proc/self/task");
  struct dirent *entry;
  uint64_t sum = 0;
  *threads = 0;
  while (tasks && (entry = readdir(tasks))) {
    char path[300], line[200];
    int is_it = 0;
    FILE *file;
    snprintf(path, sizeof path, "/proc/self/task/%s/status", entry->d_name);
    file = fopen(path, "r");
    while (file && fgets(line, sizeof line, file)) {
      line[strcspn(line, "\n")] = 0;
      if (strncmp(line, "Name:\t", 6) == 0) is_it = strcmp(line + 6, name) == 0;
      if (is_it && strncmp(line, "voluntary_ctxt_switches:", 24) == 0) {
        sum += strtoull(line + 24, NULL, 10);
        ++*threads;
      }
    }
    if (file) fclose(file);
  }
  if (tasks) closedir(tasks);
  return sum;
}

/* Sleeps of the pump and of the watch in a second; of the quietest of some seconds each, for others use this machine, too. A driver has
 * threads of its own: only ours are counted, by their names. */
static void a_second(uint64_t *pump, uint64_t *watch) {
  unsigned pumps = 0, watches = 0;
  int i;
  *pump = *watch = UINT64_MAX;
  for (i = 0; i < 3; i++) {
    uint64_t before[2], now;
    before[0] = sleeps_of("rk-cuda", &pumps);
    before[1] = sleeps_of("rk-cuda-watch", &watches);
    check_sleep_ms(1000);
    now = sleeps_of("rk-cuda", &pumps) - before[0];
    if (now < *pump) *pump = now;
    now = sleeps_of("rk-cuda-watch", &watches) - before[1];
    if (now < *watch) *watch = now;
  }
  printf("# in a second: %u looks (threads rk-cuda: %u), %u questions to the driver (rk-cuda-watch: %u)\n", (unsigned)*pump, pumps,
         (unsigned)*watch, watches);
  /* A name that nobody has would sleep well. */
  if (pumps == 0 || watches == 0) *pump = *watch = UINT64_MAX;
}

/* A call is answered; how long it took, or 0. */
static uint64_t works(rk_kernel_t kernel) {
  rk_message_t out, message = check_message("well?", 5);
  uint64_t begun = check_now();
  int same;
  if (rk_call(kernel, &message, &out, MS(20000)) != RK_OK) return 0;
  same = out.payload_size == 5 && memcmp(out.payload, "well?", 5) == 0;
  return rk_release(&out) == RK_OK && same ? check_now() - begun : 0;
}

static void with_nobody_waiting_the_library_sleeps(void) {
  rk_kernel_t kernel = launched("idle", "routes_echo", RK_MODE_PERSISTENT, 64, 0);
  uint64_t pump, watch, took, longest = 0;
  int i;
  CHECK(works(kernel));
  check_sleep_ms(300);
  a_second(&pump, &watch);
  CHECK(pump <= 2 && watch <= 20);
  for (i = 0; i < 100; i++) {
    if (i % 10 == 0) check_sleep_ms(300); /* it sleeps without a limit by then */
    took = works(kernel);
    CHECK(took > 0 && took < MS(5000));
    if (i % 10 == 0 && took > longest) longest = took;
  }
  printf("# after 300 ms of idleness a call took %u us at most\n", (unsigned)(longest / 1000));
  OK(rk_destroy(kernel));
}

static void with_routes_it_looks_now_and_then(void) {
  rk_kernel_t a = launched("a", "routes_by_number", RK_MODE_PERSISTENT, 64, 0);
  rk_kernel_t b = launched("b", "routes_emit", RK_MODE_PERSISTENT, 64, 0);
  uint64_t pump, watch, begun;
  uint32_t route;
  int i;
  check_sleep_ms(300); /* it sleeps without a limit by then */
  OK(rk_connect(a, b, &route));
  check_sleep_ms(300);
  a_second(&pump, &watch);
  CHECK(pump >= 5 && pump <= 40 && watch <= 20);
  for (i = 0; i < 10; i++) {
    CHECK(sent_by_number(a, 0) == 0);
    if (i % 2) check_sleep_ms(300); /* what came meanwhile is there when somebody asks for it */
    begun = check_now();
    CHECK(arrives(b, 0));
    CHECK(check_now() - begun < MS(5000));
  }
  OK(rk_destroy(a));
  OK(rk_destroy(b));
}

int main(int argc, char **argv) {
  rk_runtime_options_t options = RK_RUNTIME_OPTIONS_INIT;
  const char *wanted = getenv("RK_TEST_ROUTES");
  rk_status_t created;
  options.backend = RK_BACKEND_CUDA;
  if (wanted) routes = (uint32_t)strtoul(wanted, NULL, 10);
  if (routes < 400 || !read_handlers()) {
    printf("fewer than 400 routes, or the handlers' text cannot be read\n");
    return 2;
  }
  created = rk_runtime_create(&options, &runtime);
  if (created == RK_ERR_NO_DEVICE || created == RK_ERR_BACKEND_UNAVAILABLE) {
    printf("SKIP: there is no CUDA device\n");
    return 77;
  }
  if (created != RK_OK) {
    printf("the device cannot be opened: %s\n", rk_status_name(created));
    return 1;
  }
  if (add_all() != RK_OK) {
    char said[512];
    rk_last_error(said, sizeof said);
    printf("the handlers cannot be registered: %s\n", said);
    return 1;
  }
  check_unused();
  RUN(with_nobody_waiting_the_library_sleeps);
  RUN(with_routes_it_looks_now_and_then);
  RUN(a_tree_of_routes_of_short_launches);
  RUN(a_tree_of_routes_of_a_resident_kernel);
  RUN(a_number_never_leads_to_anothers_target);
  RUN(a_full_target_behind_the_host_holds_up_no_other);
  RUN(one_message_goes_to_each_of_many_small_queues);
  RUN(who_presses_on_is_told_for_each_message);
  if (rk_runtime_destroy(runtime) != RK_OK) return 1;
  return check_result();
}
