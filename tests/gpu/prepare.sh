#!/bin/sh
# Makes what a machine with a GPU needs, so that it needs no Rust: tests/gpu/prepare.sh [OUTDIR] (build/gpu)
# The folder holds the library, the test programs, the handlers' text and the two images; carry it together with tests/gpu/run.sh.
set -eu

here=$(cd "$(dirname "$0")/../.." && pwd)
out=${1:-$here/build/gpu}
lib=${RK_LIB:-$here/target/release/libringkernel.so}
[ -e "$lib" ] || (cd "$here" && cargo build --release --lib)
rm -rf "$out"
mkdir -p "$out"
cp "$lib" "$out/libringkernel.so"
strip -g "$out/libringkernel.so"
cp "$out/libringkernel.so" "$out/libringkernel.so.0"
cp "$here/tests/c/one_handlers.h" "$here/tests/c/routes_handlers.h" "$here/examples-c/one_source/handler.c" "$here/tests/gpu/run.sh" "$out"

build() { # OUTPUT SOURCE...
  name=$1
  shift
  # shellcheck disable=SC2016  # $ORIGIN is the loader's
  cc -std=c99 -O2 -g -Wall -Wextra -I "$here/include" -I "$here/tests/c" "$@" -o "$out/$name" -L "$out" -lringkernel \
    -lpthread -ldl -lm -Wl,-rpath,'$ORIGIN'
}
for program in one_conformance cuda_failure cuda_code cuda_checkpoint cuda_routes; do build "$program" "$here/tests/c/$program.c"; done
for program in bench blocks; do build "$program" "$here/tests/gpu/$program.c"; done
build cuda_echo "$here/examples-c/cuda_echo.c"
build one_source "$here/examples-c/one_source/main.c" "$here/examples-c/one_source/handler.c"

# An image of a handler as a user makes it, by clang and nothing of NVIDIA's; a CUBIN where there is ptxas.
cat > "$out/image.cu" <<'TEXT'
#include <ringkernel_device.cuh>
static __device__ rk_status_t echo(rk_context_t *ctx, const rk_message_t *message) { return rk_context_reply(ctx, message); }
RK_DEVICE_ENTRY(echo)
TEXT
if command -v clang++ > /dev/null 2>&1; then
  clang++ -x cuda --cuda-gpu-arch=sm_70 -Xclang -target-feature -Xclang +ptx63 --cuda-device-only -nocudainc -nocudalib \
    -std=c++17 -O2 -S -I "$here/include" "$out/image.cu" -o "$out/image.ptx"
fi
if [ -n "${PTXAS:-}" ] && [ -e "$out/image.ptx" ]; then
  for arch in 80 90; do "$PTXAS" -arch=sm_$arch "$out/image.ptx" -o "$out/image.sm_$arch.cubin"; done
fi
echo "$out is ready: sh $out/run.sh on a machine with a GPU"
