/*
 * The part of the driver's interface that is simulated, in our own words: no header of NVIDIA's is needed to build.
 * check_cuda_h.cpp compares it with the real cuda.h where there is one.
 */
#ifndef RKSIM_DRIVER_H
#define RKSIM_DRIVER_H
#include <stddef.h>

typedef unsigned int rksim_result; /* CUresult */
typedef unsigned long long rksim_address;

enum : unsigned {
  RKSIM_SUCCESS = 0,
  RKSIM_INVALID_VALUE = 1,
  RKSIM_OUT_OF_MEMORY = 2,
  RKSIM_NOT_INITIALIZED = 3,
  RKSIM_NO_DEVICE = 100,
  RKSIM_INVALID_DEVICE = 101,
  RKSIM_INVALID_IMAGE = 200,
  RKSIM_INVALID_CONTEXT = 201,
  RKSIM_INVALID_PTX = 218,
  RKSIM_NOT_FOUND = 500,
  RKSIM_NOT_READY = 600,
  RKSIM_TOO_LARGE = 720,
  RKSIM_UNKNOWN = 999
};

enum {
  RKSIM_MAX_THREADS_PER_BLOCK = 1,
  RKSIM_MULTIPROCESSORS = 16,
  RKSIM_KERNEL_EXEC_TIMEOUT = 17,
  RKSIM_CAN_MAP_HOST_MEMORY = 19,
  RKSIM_CAPABILITY_MAJOR = 75,
  RKSIM_CAPABILITY_MINOR = 76,
  RKSIM_COOPERATIVE_LAUNCH = 95,
  RKSIM_FUNCTION_MAX_THREADS = 0,
  RKSIM_FUNCTION_MAX_DYNAMIC_SHARED = 8,
  RKSIM_JIT_ERROR_LOG = 5,
  RKSIM_JIT_ERROR_LOG_SIZE = 6,
  RKSIM_NON_BLOCKING = 1,
  RKSIM_LAZY = 2,
  RKSIM_EAGER = 1
};

#define RKSIM_API extern "C" __attribute__((visibility("default")))

/* For tests. */
RKSIM_API unsigned rksim_calls(const char *function);
/* Bytes of device memory, and host allocations, modules, streams and context references that are out. */
RKSIM_API size_t rksim_leaks(void);
/* Calls, made while a kernel runs, that a real driver may let wait for it. */
RKSIM_API unsigned rksim_calls_while_running(void);
/* As the environment variable RKSIM_FAIL, counted from now: "function@nth=code,…"; "" ends it. */
RKSIM_API void rksim_fail(const char *spec);
/* While on, what is launched does not start. */
RKSIM_API void rksim_stall(int on);
/* Every call answers this code from now on, and what runs dies. */
RKSIM_API void rksim_lose_device(int code);
#endif
