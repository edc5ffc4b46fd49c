/* The few functions of the CUDA driver that the measurements call themselves, looked up at run time. */
#ifndef RK_TESTS_GPU_DRIVER_H
#define RK_TESTS_GPU_DRIVER_H
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <dlfcn.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

typedef unsigned cu_result;
typedef unsigned long long cu_address;

static void *cu_library;

/* Calls a function by its name; the types are the caller's word. */
#define CU(name, types) ((cu_result(*) types)cu_symbol(name))


static void *cu_symbol(const char *name) {
  void *found = cu_library ? dlsym(cu_library, name) : NULL;
  if (!found) fprintf(stderr, "the driver lacks %s\n", name);
  return found;
}

static __attribute__((unused)) int cu_has(const char *name) { return cu_library && dlsym(cu_library, name) != NULL; }

static int cu_open(void **context) {
  int device = 0;
  cu_library = dlopen("libcuda.so.1", RTLD_NOW);
  if (!cu_library) return 0;
  return CU("cuInit", (unsigned))(0) == 0 && CU("cuDeviceGet", (int *, int))(&device, 0) == 0 &&
         CU("cuDevicePrimaryCtxRetain", (void **, int))(context, 0) == 0 &&
         CU("cuCtxSetCurrent", (void *))(*context) == 0;
}

/* Copies 64 bytes. */
static const char cu_echo_ptx[] =
    ".version 6.3\n.target sm_70\n.address_size 64\n"
    ".visible .entry echo(.param .u64 in, .param .u64 out) {\n"
    "  .reg .u64 %a<4>;\n  .reg .u32 %r<3>;\n  .reg .pred %p;\n"
    "  mov.u32 %r1, %tid.x;\n  setp.gt.u32 %p, %r1, 15;\n  @%p ret;\n"
    "  ld.param.u64 %a1, [in];\n  ld.param.u64 %a2, [out];\n  mul.wide.u32 %a3, %r1, 4;\n"
    "  add.u64 %a1, %a1, %a3;\n  add.u64 %a2, %a2, %a3;\n"
    "  ld.global.u32 %r2, [%a1];\n  st.global.u32 [%a2], %r2;\n  ret;\n}\n";
#endif
