/*
 * A simulated NVRTC: compiles CUDA C++ with g++ for the simulated driver. The "CUBIN" is a shared object.
 * RKSIM_PLATFORM names platform.h (set when this is built). RKSIM_NVRTC_FAIL=n: the nth compile fails inside.
 */
#include <unistd.h>

#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

#define API extern "C" __attribute__((visibility("default")))

namespace {
struct Program {
  std::string source, name, log, image;
  std::vector<std::pair<std::string, std::string>> headers;
};
std::string slurp(const std::string &path) {
  std::ifstream in(path, std::ios::binary);
  std::stringstream text;
  text << in.rdbuf();
  return text.str();
}
/* The host's own are used instead. */
bool is_systems(const std::string &header) {
  return header == "stdint.h" || header == "stddef.h" || header == "stdbool.h" || header == "string.h" ||
         header == "math.h";
}
}  // namespace

API int nvrtcVersion(int *major, int *minor) {
  *major = 12;
  *minor = 9;
  return 0;
}
API int nvrtcGetNumSupportedArchs(int *count) {
  *count = 2;
  return 0;
}
API int nvrtcGetSupportedArchs(int *archs) {
  archs[0] = 80;
  archs[1] = 90;
  return 0;
}
API int nvrtcCreateProgram(void **program, const char *source, const char *name, int count, const char *const *bodies,
                           const char *const *names) {
  Program *made = new Program;
  made->source = source;
  made->name = name ? name : "program.cu";
  for (int i = 0; i < count; i++) made->headers.push_back({names[i], bodies[i]});
  *program = made;
  return 0;
}
API int nvrtcDestroyProgram(void **program) {
  delete (Program *)*program;
  *program = nullptr;
  return 0;
}
API int nvrtcCompileProgram(void *handle, int, const char *const *) {
  static std::atomic<int> compiles{0};
  const char *fail = getenv("RKSIM_NVRTC_FAIL");
  if (++compiles == (fail ? atoi(fail) : -1)) return 11; /* NVRTC_ERROR_INTERNAL_ERROR */
  Program *program = (Program *)handle;
  char folder[] = "/tmp/rksim-nvrtc-XXXXXX";
  if (!mkdtemp(folder)) return 1;
  const std::string in = folder;
  std::vector<std::string> files = {program->name, "image.so", "log"};
  for (auto &header : program->headers) {
    if (is_systems(header.first)) continue;
    std::ofstream(in + "/" + header.first) << header.second;
    files.push_back(header.first);
  }
  std::ofstream(in + "/" + program->name) << program->source;
  const std::string command = "cd " + in +
                              " && g++ -x c++ -std=gnu++17 -O1 -g -fPIC -shared -fvisibility=hidden -pthread"
                              " -DRK_DEVICE_PLATFORM='\"" RKSIM_PLATFORM "\"' -I . " +
                              program->name + " -o image.so > log 2>&1";
  const int result = system(command.c_str());
  program->log = slurp(in + "/log");
  if (result == 0) program->image = slurp(in + "/image.so");
  for (auto &file : files) unlink((in + "/" + file).c_str());
  rmdir(folder);
  return result == 0 ? 0 : 6; /* NVRTC_ERROR_COMPILATION */
}
API int nvrtcGetProgramLogSize(void *program, size_t *size) {
  *size = ((Program *)program)->log.size() + 1;
  return 0;
}
API int nvrtcGetProgramLog(void *program, char *log) {
  const std::string &text = ((Program *)program)->log;
  memcpy(log, text.c_str(), text.size() + 1);
  return 0;
}
API int nvrtcGetCUBINSize(void *program, size_t *size) {
  *size = ((Program *)program)->image.size();
  return 0;
}
API int nvrtcGetCUBIN(void *program, char *image) {
  const std::string &bytes = ((Program *)program)->image;
  memcpy(image, bytes.data(), bytes.size());
  return 0;
}
API int nvrtcGetPTXSize(void *program, size_t *size) { return nvrtcGetCUBINSize(program, size); }
API int nvrtcGetPTX(void *program, char *image) { return nvrtcGetCUBIN(program, image); }
