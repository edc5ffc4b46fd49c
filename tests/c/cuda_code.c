/* Programs as PTX and as CUBIN: cuda_code KIND FILE HANDLER..., where KIND is ptx or cubin and FILE has the entries of the
 * handlers; each is launched and echoes. Exit code 77 where there is no CUDA device. */
#include "check.h"

static char *code;
static size_t code_size;

static int read_file(const char *path) {
  FILE *file = fopen(path, "rb");
  if (!file) return 0;
  code = (char *)malloc(1 << 22);
  code_size = code ? fread(code, 1, 1 << 22, file) : 0;
  fclose(file);
  return code_size > 0;
}

static const char *handler;
static uint32_t kind;

static void a_handler_in_an_image_echoes(void) {
  rk_runtime_options_t options = RK_RUNTIME_OPTIONS_INIT;
  rk_program_t program = RK_PROGRAM_INIT;
  rk_runtime_t *runtime;
  rk_kernel_t kernel;
  int i;
  options.backend = RK_BACKEND_CUDA;
  OK(rk_runtime_create(&options, &runtime));
  program.name = "image";
  program.cuda_handler = handler;
  program.cuda_code_kind = kind;
  program.cuda_code = code;
  program.cuda_code_size = code_size;
  OK(rk_program_register(runtime, &program));
  OK(rk_launch(runtime, "image", NULL, &kernel));
  for (i = 0; i < 1000; i++) {
    rk_message_t reply, request = check_message(&i, sizeof i);
    OK(rk_call(kernel, &request, &reply, MS(20000)));
    CHECK(reply.payload_size == sizeof i && memcmp(reply.payload, &i, sizeof i) == 0);
    OK(rk_release(&reply));
  }
  OK(rk_runtime_destroy(runtime));
}

int main(int argc, char **argv) {
  rk_runtime_options_t options = RK_RUNTIME_OPTIONS_INIT;
  rk_runtime_t *runtime;
  const int count = argc;
  int i;
  options.backend = RK_BACKEND_CUDA;
  if (argc < 4 || !read_file(argv[2])) {
    printf("cuda_code ptx|cubin FILE HANDLER...\n");
    return 2;
  }
  if (rk_runtime_create(&options, &runtime) != RK_OK) {
    printf("SKIP: no CUDA device can be opened\n");
    return 77;
  }
  if (rk_runtime_destroy(runtime) != RK_OK) return 1;
  kind = strcmp(argv[1], "ptx") == 0 ? RK_CODE_PTX : RK_CODE_CUBIN;
  argc = 1; /* the arguments are not names of tests */
  for (i = 3; i < count; i++) {
    handler = argv[i];
    RUN(a_handler_in_an_image_echoes);
  }
  free(code);
  check_unused();
  return check_result();
}
