/* Compiles a handler for a device the way the library does: nvrtc LIBRARY INCLUDEDIR SOURCE HANDLER ARCH OUTPUT.
 * Prints the compiler's log. */
#define _POSIX_C_SOURCE 200809L
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static char *read_text(const char *folder, const char *name, const char *before, const char *after) {
  char path[4096], *text = (char *)malloc(1 << 20);
  FILE *file;
  size_t size = strlen(strcpy(text, before));
  snprintf(path, sizeof path, "%s%s%s", folder, *folder ? "/" : "", name);
  file = fopen(path, "rb");
  if (!file) exit(2);
  size += fread(text + size, 1, (1 << 20) - size - 4096, file);
  fclose(file);
  strcpy(text + size, after);
  return text;
}

int main(int argc, char **argv) {
  void *library, *program = NULL;
  int (*create)(void **, const char *, const char *, int, const char *const *, const char *const *);
  int (*compile)(void *, int, const char *const *);
  int (*size_of)(void *, size_t *), (*get)(void *, char *);
  static const char *const names[] = {"ringkernel.h", "ringkernel_device.cuh", "stdint.h", "stddef.h", "stdbool.h", "string.h"};
  const char *bodies[6], *options[4];
  char entry[256], arch[64];
  size_t size = 0;
  char *text;
  int result;
  if (argc != 7 || !(library = dlopen(argv[1], RTLD_NOW))) return 2;
  *(void **)&create = dlsym(library, "nvrtcCreateProgram");
  *(void **)&compile = dlsym(library, "nvrtcCompileProgram");
  bodies[0] = read_text(argv[2], names[0], "", "");
  bodies[1] = read_text(argv[2], names[1], "", "");
  bodies[2] =
      "#pragma once\ntypedef signed char int8_t; typedef unsigned char uint8_t; typedef short int16_t; typedef unsigned short uint16_t;\n"
      "typedef int int32_t; typedef unsigned int uint32_t; typedef long int64_t; typedef unsigned long uint64_t;\n"
      "typedef long intptr_t; typedef unsigned long uintptr_t;\n#define UINT32_MAX 0xffffffffu\n#define UINT64_MAX 0xfffffffffffffffful\n";
  bodies[3] = "#pragma once\ntypedef unsigned long size_t;\n#ifndef NULL\n#define NULL 0\n#endif\n";
  bodies[4] = "#pragma once\n";
  bodies[5] = "#pragma once\n#include <stddef.h>\n";
  snprintf(entry, sizeof entry, "\n#line 1 \"(entry)\"\nRK_DEVICE_ENTRY(%s)\n", argv[4]);
  text = read_text("", argv[3], "#include <ringkernel_device.cuh>\n#line 1\n", entry);
  snprintf(arch, sizeof arch, "--gpu-architecture=%s", argv[5]);
  options[0] = arch;
  options[1] = "--std=c++17";
  options[2] = "--device-as-default-execution-space";
  options[3] = "--modify-stack-limit=false";
  if (create(&program, text, "handler.cu", 6, bodies, names) != 0) return 2;
  result = compile(program, 4, options);
  *(void **)&size_of = dlsym(library, "nvrtcGetProgramLogSize");
  *(void **)&get = dlsym(library, "nvrtcGetProgramLog");
  if (size_of(program, &size) == 0 && size > 1) {
    char *log = (char *)calloc(1, size + 1);
    get(program, log);
    printf("%s\n", log);
  }
  if (result != 0) return 1;
  *(void **)&size_of = dlsym(library, "nvrtcGetCUBINSize");
  *(void **)&get = dlsym(library, "nvrtcGetCUBIN");
  if (size_of(program, &size) == 0 && size > 0) {
    char *image = (char *)malloc(size);
    FILE *file = fopen(argv[6], "wb");
    if (!image || !file || get(program, image) != 0) return 2;
    fwrite(image, 1, size, file);
    fclose(file);
  }
  return 0;
}
