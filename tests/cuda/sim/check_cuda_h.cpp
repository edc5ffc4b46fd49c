/* What is simulated, against the real cuda.h: the numbers, and that every function has the shape of the real one. */
#include <cuda.h>

#include <type_traits>

#include "driver.h"

#define SAME(ours, theirs) static_assert((int)ours == (int)theirs, #theirs)
SAME(RKSIM_INVALID_VALUE, CUDA_ERROR_INVALID_VALUE);
SAME(RKSIM_OUT_OF_MEMORY, CUDA_ERROR_OUT_OF_MEMORY);
SAME(RKSIM_NOT_INITIALIZED, CUDA_ERROR_NOT_INITIALIZED);
SAME(RKSIM_NO_DEVICE, CUDA_ERROR_NO_DEVICE);
SAME(RKSIM_INVALID_DEVICE, CUDA_ERROR_INVALID_DEVICE);
SAME(RKSIM_INVALID_IMAGE, CUDA_ERROR_INVALID_IMAGE);
SAME(RKSIM_INVALID_CONTEXT, CUDA_ERROR_INVALID_CONTEXT);
SAME(RKSIM_INVALID_PTX, CUDA_ERROR_INVALID_PTX);
SAME(RKSIM_NOT_FOUND, CUDA_ERROR_NOT_FOUND);
SAME(RKSIM_NOT_READY, CUDA_ERROR_NOT_READY);
SAME(RKSIM_TOO_LARGE, CUDA_ERROR_COOPERATIVE_LAUNCH_TOO_LARGE);
SAME(RKSIM_UNKNOWN, CUDA_ERROR_UNKNOWN);
SAME(RKSIM_MAX_THREADS_PER_BLOCK, CU_DEVICE_ATTRIBUTE_MAX_THREADS_PER_BLOCK);
SAME(RKSIM_MULTIPROCESSORS, CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT);
SAME(RKSIM_KERNEL_EXEC_TIMEOUT, CU_DEVICE_ATTRIBUTE_KERNEL_EXEC_TIMEOUT);
SAME(RKSIM_CAN_MAP_HOST_MEMORY, CU_DEVICE_ATTRIBUTE_CAN_MAP_HOST_MEMORY);
SAME(RKSIM_CAPABILITY_MAJOR, CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR);
SAME(RKSIM_CAPABILITY_MINOR, CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR);
SAME(RKSIM_COOPERATIVE_LAUNCH, CU_DEVICE_ATTRIBUTE_COOPERATIVE_LAUNCH);
SAME(RKSIM_FUNCTION_MAX_THREADS, CU_FUNC_ATTRIBUTE_MAX_THREADS_PER_BLOCK);
SAME(RKSIM_FUNCTION_MAX_DYNAMIC_SHARED, CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES);
SAME(RKSIM_JIT_ERROR_LOG, CU_JIT_ERROR_LOG_BUFFER);
SAME(RKSIM_JIT_ERROR_LOG_SIZE, CU_JIT_ERROR_LOG_BUFFER_SIZE_BYTES);
SAME(RKSIM_NON_BLOCKING, CU_STREAM_NON_BLOCKING);
SAME(RKSIM_LAZY, CU_MODULE_LAZY_LOADING);
SAME(RKSIM_EAGER, CU_MODULE_EAGER_LOADING);

/* Kinds of argument that are passed alike: handles and pointers, integers and enums of the same size. */
template <class T>
using plain = std::conditional_t<std::is_pointer_v<T>, void *,
                                 std::conditional_t<sizeof(T) == 8, unsigned long long, unsigned int>>;
template <class F>
struct shape;
template <class R, class... A>
struct shape<R (*)(A...)> {
  typedef plain<R> type(plain<A>...);
};
#define LIKE(function, ...) \
  static_assert(std::is_same_v<shape<decltype(&function)>::type, shape<unsigned (*)(__VA_ARGS__)>::type>, #function)
LIKE(cuInit, unsigned);
LIKE(cuDriverGetVersion, int *);
LIKE(cuDeviceGetCount, int *);
LIKE(cuDeviceGet, int *, int);
LIKE(cuDeviceGetName, char *, int, int);
LIKE(cuDeviceGetAttribute, int *, int, int);
LIKE(cuDevicePrimaryCtxRetain, void **, int);
LIKE(cuDevicePrimaryCtxRelease, int);
LIKE(cuCtxPushCurrent, void *);
LIKE(cuCtxPopCurrent, void **);
LIKE(cuMemAlloc, rksim_address *, size_t);
LIKE(cuMemFree, rksim_address);
LIKE(cuMemHostAlloc, void **, size_t, unsigned);
LIKE(cuMemFreeHost, void *);
LIKE(cuMemHostGetDevicePointer, rksim_address *, void *, unsigned);
LIKE(cuModuleLoadDataEx, void **, const void *, unsigned, unsigned *, void **);
LIKE(cuModuleGetFunction, void **, void *, const char *);
LIKE(cuModuleUnload, void *);
LIKE(cuModuleGetLoadingMode, int *);
LIKE(cuFuncGetAttribute, int *, int, void *);
LIKE(cuFuncSetAttribute, void *, int, int);
LIKE(cuOccupancyMaxActiveBlocksPerMultiprocessor, int *, void *, int, size_t);
LIKE(cuStreamCreateWithPriority, void **, unsigned, int);
LIKE(cuStreamQuery, void *);
LIKE(cuStreamSynchronize, void *);
LIKE(cuStreamDestroy, void *);
LIKE(cuLaunchKernel, void *, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, void *, void **, void **);
LIKE(cuLaunchCooperativeKernel, void *, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, void *, void **);
LIKE(cuGetErrorName, unsigned, const char **);
