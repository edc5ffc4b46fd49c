#!/bin/sh
# The GPU script where it is: on the simulated driver, so that it never rots, and on a GPU if there is one:
# tests/gpu/all.sh STAGE BUILD
set -eu

stage=$1
build=$2
here=$(cd "$(dirname "$0")" && pwd)
sim=$build/cuda/sim
[ -e "$sim/libcuda.so.1" ] || "$here/../cuda/sim/build.sh" "$sim"
RK_LIB=$stage/lib/libringkernel.so "$here/prepare.sh" "$build/gpu"
RK_SIMULATED=$sim sh "$build/gpu/run.sh" "$build/gpu/simulated"
sh "$build/gpu/run.sh" "$build/gpu/real"
