#!/bin/sh
# Builds the simulated driver and compiler: tests/cuda/sim/build.sh OUTDIR [CUDA_INCLUDE]
#   OUTDIR/libcuda.so.1, OUTDIR/libnvrtc.so.12     OUTDIR/old, OUTDIR/ancient: drivers that lack newer functions
# With the folder of a real cuda.h, what is simulated is compared with it.
set -eu

out=$1
cuda_include=${2:-}
here=$(cd "$(dirname "$0")" && pwd)
include=$(cd "$here/../../../include" && pwd)
flags="-std=gnu++17 -O1 -g -fPIC -shared -fvisibility=hidden -pthread -Wall -Wextra"
mkdir -p "$out/old" "$out/ancient"

driver() { # FOLDER FLAG...
  folder=$1
  shift
  # shellcheck disable=SC2086  # flags are words
  g++ $flags "$@" -Wl,-soname,libcuda.so.1 -I "$include" -I "$here" "$here/driver.cpp" "$here/builtin.cpp" \
    "$here/context.cpp" -o "$folder/libcuda.so.1" -ldl
}
driver "$out"
driver "$out/old" -DRKSIM_OLD
driver "$out/ancient" -DRKSIM_OLD -DRKSIM_ANCIENT
# shellcheck disable=SC2086
g++ $flags "-DRKSIM_PLATFORM=\"$here/platform.h\"" -Wl,-soname,libnvrtc.so.12 "$here/nvrtc.cpp" -o "$out/libnvrtc.so.12"
cp "$out/libnvrtc.so.12" "$out/old"
if [ -n "$cuda_include" ]; then
  g++ -std=gnu++17 -Wall -Wextra -I "$cuda_include" -I "$here" -fsyntax-only "$here/check_cuda_h.cpp"
fi
