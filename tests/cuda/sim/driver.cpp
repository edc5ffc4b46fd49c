/*
 * A simulated CUDA driver: what the library calls, as the real one documents it, with kernels that are C++ on threads.
 *
 * Images are shared objects from the simulated compiler (nvrtc.cpp), or a record: the 8 bytes "RKSIMFN", a pointer to a
 * handler of this process, its user data, 8 bytes of zero. A launch of entry E runs the image's rksim_launch_E.
 *
 *   RKSIM_DEVICES=1 RKSIM_SMS=4 RKSIM_BLOCKS_PER_SM=8 RKSIM_MEMORY=bytes RKSIM_WATCHDOG=0 RKSIM_CAPABILITY=90
 *   RKSIM_FAIL=function@nth=code,…   RKSIM_HANG_LAUNCH=1: no block of a grid of more than one ever starts
 *   RKSIM_LOG=1: one line per call
 */
#include "driver.h"

#include <dlfcn.h>
#include <sys/mman.h>
#include <unistd.h>

#include <atomic>
#include <condition_variable>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <map>
#include <mutex>
#include <set>
#include <string>
#include <thread>
#include <vector>

extern "C" void rksim_launch_builtin(unsigned grid, unsigned block, unsigned shared_bytes, void **params, void *lost,
                                     void *handler, void *user_data);

namespace {
typedef void (*launch_fn)(unsigned grid, unsigned block, unsigned shared_bytes, void **params, void *lost);

struct Module {
  void *library = nullptr;
  void *handler = nullptr, *user_data = nullptr;
  std::vector<struct Function *> functions;
};
struct Function {
  Module *module;
  launch_fn launch;
};
struct Work {
  Function *function;
  unsigned grid, block, shared_bytes;
  rksim_address parameter;
};
/* What one thread works off, in order; it is there while there is work. The stream may be destroyed before that is done. */
struct Stream {
  std::mutex mutex;
  std::condition_variable changed;
  std::deque<Work> work;
  bool busy = false, destroyed = false; /* busy: a thread is at it, and deletes it if it was destroyed */
};

/* Streams of a context that can be made beside a kernel that runs. */
enum { RKSIM_STREAMS_BESIDE = 35 };
/* Never destroyed: threads of the library may be in here when the process ends. */
struct World {
  std::mutex mutex;
  std::map<std::string, unsigned> calls;
  std::map<std::string, std::map<unsigned, unsigned>> faults;
  std::map<rksim_address, size_t> device;
  std::map<void *, std::pair<void *, size_t>> host; /* the device's mapping, bytes */
  std::set<Module *> modules;
  std::set<Stream *> streams;
  size_t used = 0;
  int context_references = 0;
  bool initialized = false;
  unsigned while_running = 0;
};
World &world() {
  static World *the = new World;
  return *the;
}
std::atomic<int> lost_code{0};
std::atomic<int> stalled{0};
int lost_flag = 0;
std::atomic<int> running{0};
int the_context;
thread_local std::vector<void *> contexts;

long setting(const char *name, long otherwise) {
  const char *value = getenv(name);
  return value && *value ? atol(value) : otherwise;
}
size_t memory_size() { return (size_t)setting("RKSIM_MEMORY", 1L << 30); }
unsigned blocks_that_fit() { return (unsigned)(setting("RKSIM_SMS", 4) * setting("RKSIM_BLOCKS_PER_SM", 8)); }

void set_faults(const char *spec) {
  World &w = world();
  w.faults.clear();
  while (spec && *spec) {
    char name[128];
    unsigned nth, code;
    if (sscanf(spec, "%127[^@]@%u=%u", name, &nth, &code) == 3) w.faults[name][w.calls[name] + nth] = code;
    spec = strchr(spec, ',');
    if (spec) spec++;
  }
}

/* What every call begins with. `waits`: a real driver may let it wait for an idle device. */
rksim_result enter(const char *function, bool needs_context, bool waits) {
  World &w = world();
  std::lock_guard<std::mutex> lock(w.mutex);
  static bool read_environment = (set_faults(getenv("RKSIM_FAIL")), true);
  (void)read_environment;
  const unsigned nth = ++w.calls[function];
  if (setting("RKSIM_LOG", 0)) fprintf(stderr, "rksim: %s #%u\n", function, nth);
  if (waits && running.load() > 0) w.while_running++;
  auto faults = w.faults.find(function);
  if (faults != w.faults.end()) {
    auto fault = faults->second.find(nth);
    if (fault != faults->second.end()) return fault->second;
  }
  if (!w.initialized && strcmp(function, "cuInit") != 0 && strcmp(function, "cuDriverGetVersion") != 0)
    return RKSIM_NOT_INITIALIZED;
  if (needs_context) {
    if (contexts.empty() || !contexts.back()) return RKSIM_INVALID_CONTEXT;
    if (lost_code) return (rksim_result)lost_code.load();
  }
  return RKSIM_SUCCESS;
}
#define ENTER(needs_context, waits)                                            \
  do {                                                                         \
    const rksim_result entered_ = enter(__func__, needs_context, waits);       \
    if (entered_ != RKSIM_SUCCESS) return entered_;                            \
  } while (0)

void run_stream(Stream *stream) {
  for (;;) {
    Work work;
    {
      std::lock_guard<std::mutex> lock(stream->mutex);
      work = stream->work.front();
      stream->work.pop_front();
    }
    running++;
    void *params[1] = {&work.parameter};
    while (stalled && !lost_code) usleep(1000);
    Module *module = work.function->module;
    if (setting("RKSIM_HANG_LAUNCH", 0) && work.grid > 1) {
      while (!lost_code) usleep(1000);
    } else if (module->handler) {
      rksim_launch_builtin(work.grid, work.block, work.shared_bytes, params, &lost_flag, module->handler, module->user_data);
    } else {
      work.function->launch(work.grid, work.block, work.shared_bytes, params, &lost_flag);
    }
    running--;
    std::unique_lock<std::mutex> lock(stream->mutex);
    if (!stream->work.empty()) continue;
    const bool destroyed = stream->destroyed;
    stream->busy = false;
    stream->changed.notify_all();
    lock.unlock();
    if (destroyed) delete stream;
    return;
  }
}

rksim_result launch(void *function, unsigned grid, unsigned block, unsigned shared_bytes, void *stream, void **params,
                    bool cooperative) {
  if (!stream) {
    fprintf(stderr, "rksim: a launch on the legacy default stream\n");
    return RKSIM_INVALID_VALUE;
  }
  if (grid == 0 || block == 0 || block > 1024) return RKSIM_INVALID_VALUE;
  if (cooperative && grid > blocks_that_fit()) return RKSIM_TOO_LARGE;
  Stream *s = (Stream *)stream;
  std::lock_guard<std::mutex> lock(s->mutex);
  /* Parameters are copied at the launch, as the driver does. */
  s->work.push_back({(Function *)function, grid, block, shared_bytes, *(rksim_address *)params[0]});
  if (!s->busy) std::thread(run_stream, s).detach();
  s->busy = true;
  return RKSIM_SUCCESS;
}
}  // namespace

RKSIM_API rksim_result cuInit(unsigned) {
  ENTER(false, false);
  if (setting("RKSIM_DEVICES", 1) == 0) return RKSIM_NO_DEVICE;
  world().initialized = true;
  return RKSIM_SUCCESS;
}
RKSIM_API rksim_result cuDriverGetVersion(int *version) {
  ENTER(false, false);
  *version = (int)setting("RKSIM_VERSION", 12080);
  return RKSIM_SUCCESS;
}
RKSIM_API rksim_result cuDeviceGetCount(int *count) {
  ENTER(false, false);
  *count = (int)setting("RKSIM_DEVICES", 1);
  return RKSIM_SUCCESS;
}
RKSIM_API rksim_result cuDeviceGet(int *device, int ordinal) {
  ENTER(false, false);
  if (ordinal < 0 || ordinal >= setting("RKSIM_DEVICES", 1)) return RKSIM_INVALID_DEVICE;
  *device = ordinal;
  return RKSIM_SUCCESS;
}
RKSIM_API rksim_result cuDeviceGetName(char *name, int length, int device) {
  ENTER(false, false);
  snprintf(name, (size_t)length, "a simulated GPU %d", device);
  return RKSIM_SUCCESS;
}
RKSIM_API rksim_result cuDeviceGetAttribute(int *value, int attribute, int) {
  ENTER(false, false);
  const int capability = (int)setting("RKSIM_CAPABILITY", 90);
  switch (attribute) {
    case RKSIM_CAPABILITY_MAJOR: *value = capability / 10; break;
    case RKSIM_CAPABILITY_MINOR: *value = capability % 10; break;
    case RKSIM_MULTIPROCESSORS: *value = (int)setting("RKSIM_SMS", 4); break;
    case RKSIM_KERNEL_EXEC_TIMEOUT: *value = (int)setting("RKSIM_WATCHDOG", 0); break;
    case RKSIM_MAX_THREADS_PER_BLOCK: *value = 1024; break;
    case RKSIM_CAN_MAP_HOST_MEMORY:
    case RKSIM_COOPERATIVE_LAUNCH: *value = 1; break;
    default: *value = 0;
  }
  return RKSIM_SUCCESS;
}
RKSIM_API rksim_result cuDevicePrimaryCtxRetain(void **context, int) {
  ENTER(false, false);
  if (lost_code) return (rksim_result)lost_code.load();
  world().context_references++;
  *context = &the_context;
  return RKSIM_SUCCESS;
}
RKSIM_API rksim_result cuDevicePrimaryCtxRelease_v2(int) {
  ENTER(false, false);
  world().context_references--;
  return RKSIM_SUCCESS;
}
RKSIM_API rksim_result cuCtxPushCurrent_v2(void *context) {
  ENTER(false, false);
  contexts.push_back(context);
  return RKSIM_SUCCESS;
}
RKSIM_API rksim_result cuCtxPopCurrent_v2(void **context) {
  ENTER(false, false);
  if (contexts.empty()) return RKSIM_INVALID_CONTEXT;
  *context = contexts.back();
  contexts.pop_back();
  return RKSIM_SUCCESS;
}
RKSIM_API rksim_result cuCtxSetCurrent(void *context) {
  ENTER(false, false);
  if (contexts.empty()) contexts.push_back(nullptr);
  contexts.back() = context;
  return RKSIM_SUCCESS;
}
RKSIM_API rksim_result cuCtxGetCurrent(void **context) {
  ENTER(false, false);
  *context = contexts.empty() ? nullptr : contexts.back();
  return RKSIM_SUCCESS;
}
RKSIM_API rksim_result cuMemAlloc_v2(rksim_address *address, size_t size) {
  ENTER(true, true);
  World &w = world();
  std::lock_guard<std::mutex> lock(w.mutex);
  if (size == 0) return RKSIM_INVALID_VALUE;
  if (size > memory_size() - w.used) return RKSIM_OUT_OF_MEMORY;
  void *memory = aligned_alloc(512, (size + 511) / 512 * 512);
  if (!memory) return RKSIM_OUT_OF_MEMORY;
  memset(memory, 0xcd, size); /* device memory is not zeroed */
  w.used += size;
  w.device[(rksim_address)memory] = size;
  *address = (rksim_address)memory;
  return RKSIM_SUCCESS;
}
RKSIM_API rksim_result cuMemFree_v2(rksim_address address) {
  ENTER(true, true);
  World &w = world();
  std::lock_guard<std::mutex> lock(w.mutex);
  auto found = w.device.find(address);
  if (found == w.device.end()) return RKSIM_INVALID_VALUE;
  w.used -= found->second;
  free((void *)address);
  w.device.erase(found);
  return RKSIM_SUCCESS;
}
/* Two mappings of the same pages: who uses the address of the other side is still wrong where addresses are compared. */
RKSIM_API rksim_result cuMemHostAlloc(void **host, size_t size, unsigned) {
  ENTER(true, true);
  World &w = world();
  std::lock_guard<std::mutex> lock(w.mutex);
  if (size == 0) return RKSIM_INVALID_VALUE;
  if (size > (size_t)4 << 30) return RKSIM_OUT_OF_MEMORY;
  const size_t bytes = (size + 4095) / 4096 * 4096;
  const int file = memfd_create("rksim", 0);
  if (file < 0 || ftruncate(file, (off_t)bytes) != 0) return RKSIM_OUT_OF_MEMORY;
  void *here = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
  void *there = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
  close(file);
  if (here == MAP_FAILED || there == MAP_FAILED) return RKSIM_OUT_OF_MEMORY;
  w.host[here] = {there, bytes};
  *host = here;
  return RKSIM_SUCCESS;
}
RKSIM_API rksim_result cuMemHostGetDevicePointer_v2(rksim_address *address, void *host, unsigned) {
  ENTER(true, false);
  World &w = world();
  std::lock_guard<std::mutex> lock(w.mutex);
  auto found = w.host.find(host);
  if (found == w.host.end()) return RKSIM_INVALID_VALUE;
  *address = (rksim_address)found->second.first;
  return RKSIM_SUCCESS;
}
RKSIM_API rksim_result cuMemFreeHost(void *host) {
  ENTER(true, true);
  World &w = world();
  std::lock_guard<std::mutex> lock(w.mutex);
  auto found = w.host.find(host);
  if (found == w.host.end()) return RKSIM_INVALID_VALUE;
  munmap(found->second.first, found->second.second);
  munmap(host, found->second.second);
  w.host.erase(found);
  return RKSIM_SUCCESS;
}
RKSIM_API rksim_result cuModuleLoadDataEx(void **module, const void *image, unsigned count, unsigned *options,
                                          void **values) {
  ENTER(true, true);
  const unsigned char *bytes = (const unsigned char *)image;
  Module *made = new Module;
  if (memcmp(bytes, "RKSIMFN", 8) == 0) {
    memcpy(&made->handler, bytes + 8, sizeof(void *));
    memcpy(&made->user_data, bytes + 16, sizeof(void *));
  } else if (memcmp(bytes, "\177ELF\2\1\1", 7) == 0 && bytes[18] == 62) {
    size_t sections;
    unsigned short size_of, number;
    memcpy(&sections, bytes + 40, 8);
    memcpy(&size_of, bytes + 58, 2);
    memcpy(&number, bytes + 60, 2);
    /* By a name that is never used again: the loader knows libraries by their names. */
    char path[] = "/tmp/rksim-XXXXXX";
    const int file = mkstemp(path);
    const size_t size = sections + (size_t)size_of * number;
    const bool written = file >= 0 && write(file, image, size) == (ssize_t)size;
    if (written) made->library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (file >= 0) {
      close(file);
      unlink(path);
    }
  }
  if (!made->handler && !made->library) {
    delete made;
    for (unsigned i = 0; i + 1 < count; i++)
      if (options[i] == RKSIM_JIT_ERROR_LOG && values[i]) snprintf((char *)values[i], 64, "rksim knows no such image");
    return bytes[0] == '.' ? RKSIM_INVALID_PTX : RKSIM_INVALID_IMAGE;
  }
  std::lock_guard<std::mutex> lock(world().mutex);
  world().modules.insert(made);
  *module = made;
  return RKSIM_SUCCESS;
}
RKSIM_API rksim_result cuModuleGetFunction(void **function, void *module, const char *name) {
  ENTER(true, false);
  Module *in = (Module *)module;
  launch_fn launch = nullptr;
  if (in->library) {
    launch = (launch_fn)dlsym(in->library, (std::string("rksim_launch_") + name).c_str());
    if (!launch) return RKSIM_NOT_FOUND;
  }
  Function *made = new Function{in, launch};
  in->functions.push_back(made);
  *function = made;
  return RKSIM_SUCCESS;
}
RKSIM_API rksim_result cuModuleUnload(void *module) {
  ENTER(true, true);
  std::lock_guard<std::mutex> lock(world().mutex);
  Module *in = (Module *)module;
  if (world().modules.erase(in) == 0) return RKSIM_INVALID_VALUE;
  for (Function *function : in->functions) delete function;
  if (in->library) dlclose(in->library);
  delete in;
  return RKSIM_SUCCESS;
}
RKSIM_API rksim_result cuFuncGetAttribute(int *value, int attribute, void *) {
  ENTER(true, false);
  *value = attribute == RKSIM_FUNCTION_MAX_THREADS ? 1024 : 0;
  return RKSIM_SUCCESS;
}
RKSIM_API rksim_result cuFuncSetAttribute(void *, int attribute, int value) {
  ENTER(true, false);
  const bool fits = attribute == RKSIM_FUNCTION_MAX_DYNAMIC_SHARED && value <= 227 * 1024;
  return fits ? RKSIM_SUCCESS : RKSIM_INVALID_VALUE;
}
RKSIM_API rksim_result cuOccupancyMaxActiveBlocksPerMultiprocessor(int *blocks, void *, int, size_t) {
  ENTER(true, false);
  *blocks = (int)setting("RKSIM_BLOCKS_PER_SM", 8);
  return RKSIM_SUCCESS;
}
RKSIM_API rksim_result cuStreamCreateWithPriority(void **stream, unsigned flags, int) {
  ENTER(true, false);
  if (!(flags & RKSIM_NON_BLOCKING)) fprintf(stderr, "rksim: a stream that waits for the default stream\n");
  /* Beside a kernel that runs a real driver makes only so many (an H200 with driver 580: 35); then it waits for an idle device. */
  while (running.load() > 0 && !lost_code) {
    {
      std::lock_guard<std::mutex> lock(world().mutex);
      if (world().streams.size() < RKSIM_STREAMS_BESIDE) break;
    }
    usleep(1000);
  }
  Stream *made = new Stream;
  std::lock_guard<std::mutex> lock(world().mutex);
  world().streams.insert(made);
  *stream = made;
  return RKSIM_SUCCESS;
}
RKSIM_API rksim_result cuStreamQuery(void *stream) {
  ENTER(true, false);
  Stream *s = (Stream *)stream;
  std::lock_guard<std::mutex> lock(s->mutex);
  return s->busy ? RKSIM_NOT_READY : RKSIM_SUCCESS;
}
RKSIM_API rksim_result cuStreamDestroy_v2(void *stream) {
  ENTER(true, false);
  {
    std::lock_guard<std::mutex> lock(world().mutex);
    if (world().streams.erase((Stream *)stream) == 0) return RKSIM_INVALID_VALUE;
  }
  Stream *s = (Stream *)stream;
  std::unique_lock<std::mutex> lock(s->mutex);
  s->destroyed = true;
  const bool busy = s->busy;
  lock.unlock();
  if (!busy) delete s;
  return RKSIM_SUCCESS;
}
RKSIM_API rksim_result cuStreamSynchronize(void *stream) {
  ENTER(true, true);
  Stream *s = (Stream *)stream;
  std::unique_lock<std::mutex> lock(s->mutex);
  while (s->busy) s->changed.wait_for(lock, std::chrono::milliseconds(5));
  return (rksim_result)lost_code.load();
}
RKSIM_API rksim_result cuLaunchKernel(void *function, unsigned grid, unsigned, unsigned, unsigned block, unsigned,
                                      unsigned, unsigned shared_bytes, void *stream, void **params, void **) {
  ENTER(true, false);
  return launch(function, grid, block, shared_bytes, stream, params, false);
}
#ifndef RKSIM_OLD /* an old driver has none of these */
RKSIM_API rksim_result cuLaunchCooperativeKernel(void *function, unsigned grid, unsigned, unsigned, unsigned block,
                                                 unsigned, unsigned, unsigned shared_bytes, void *stream,
                                                 void **params) {
  ENTER(true, false);
  return launch(function, grid, block, shared_bytes, stream, params, true);
}
RKSIM_API rksim_result cuCtxGetId(void *, unsigned long long *id) {
  ENTER(false, false);
  *id = 1;
  return RKSIM_SUCCESS;
}
RKSIM_API rksim_result cuModuleGetLoadingMode(int *mode) {
  ENTER(false, false);
  const char *wanted = getenv("CUDA_MODULE_LOADING");
  *mode = wanted && strcmp(wanted, "EAGER") == 0 ? RKSIM_EAGER : RKSIM_LAZY;
  return RKSIM_SUCCESS;
}
#endif
#ifndef RKSIM_ANCIENT /* and one that is too old lacks what cannot be done without */
RKSIM_API rksim_result cuGetErrorName(unsigned code, const char **name) {
  static const std::map<unsigned, const char *> names = {
      {0, "CUDA_SUCCESS"}, {2, "CUDA_ERROR_OUT_OF_MEMORY"}, {100, "CUDA_ERROR_NO_DEVICE"},
      {200, "CUDA_ERROR_INVALID_IMAGE"}, {214, "CUDA_ERROR_ECC_UNCORRECTABLE"}, {218, "CUDA_ERROR_INVALID_PTX"},
      {500, "CUDA_ERROR_NOT_FOUND"}, {700, "CUDA_ERROR_ILLEGAL_ADDRESS"}, {719, "CUDA_ERROR_LAUNCH_FAILED"},
      {720, "CUDA_ERROR_COOPERATIVE_LAUNCH_TOO_LARGE"}, {999, "CUDA_ERROR_UNKNOWN"}};
  auto found = names.find(code);
  if (found == names.end()) return RKSIM_INVALID_VALUE;
  *name = found->second;
  return RKSIM_SUCCESS;
}
#endif
/* The real NVRTC asks the driver for this and calls what it gets. */
RKSIM_API rksim_result cuGetExportTable(const void **table, const void *) {
  if (table) *table = nullptr;
  return RKSIM_NOT_FOUND;
}

unsigned rksim_calls(const char *function) {
  std::lock_guard<std::mutex> lock(world().mutex);
  return world().calls[function];
}
size_t rksim_leaks(void) {
  World &w = world();
  std::lock_guard<std::mutex> lock(w.mutex);
  return w.used + w.host.size() + w.modules.size() + w.streams.size() + (size_t)w.context_references;
}
unsigned rksim_calls_while_running(void) {
  std::lock_guard<std::mutex> lock(world().mutex);
  return world().while_running;
}
void rksim_stall(int on) { stalled = on; }
void rksim_fail(const char *spec) {
  std::lock_guard<std::mutex> lock(world().mutex);
  set_faults(spec);
}
void rksim_lose_device(int code) {
  lost_code = code;
  __atomic_store_n(&lost_flag, 1, __ATOMIC_SEQ_CST);
}
