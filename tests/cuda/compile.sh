#!/bin/sh
# The device code for real devices, without one: tests/cuda/compile.sh OUTDIR
# NVRTC, ptxas and nvdisasm come as Python wheels and work without a GPU. Where they cannot be had, that is said and counted;
# RK_CUDA_REQUIRED=1 makes it a failure. clang alone is always there.
set -eu

out=$1
here=$(cd "$(dirname "$0")" && pwd)
include=$(cd "$here/../../include" && pwd)
tools=$out/tools
mkdir -p "$tools"
passed=0
failed=0
skipped=0

step() { # NAME COMMAND...
  name=$1
  shift
  if "$@" > "$out/log" 2>&1; then
    passed=$((passed + 1))
    echo "ok $name"
  else
    failed=$((failed + 1))
    echo "FAILED $name"
    tail -n 20 "$out/log"
  fi
}

fetch() {
  [ -e "$tools/nvidia/cuda_nvcc/bin/ptxas" ] && return 0
  command -v python3 > /dev/null 2>&1 || return 1
  timeout 300 python3 -m pip download --quiet --no-deps --only-binary=:all: -d "$tools" nvidia-cuda-nvrtc-cu12==12.9.86 \
    nvidia-cuda-nvcc-cu12==12.9.86 nvidia-cuda-nvdisasm nvidia-cuda-runtime-cu12==12.9.79 || return 1
  for wheel in "$tools"/*.whl; do python3 -m zipfile -e "$wheel" "$tools"; done
  find "$tools/nvidia" -path '*/bin/*' -type f -exec chmod +x {} +
}

# Handlers as users write them.
cat > "$out/echo.cu" <<'TEXT'
static rk_status_t echo(rk_context_t *ctx, const rk_message_t *message) { return rk_context_reply(ctx, message); }
TEXT
cat > "$out/image.cu" <<'TEXT'
#include <ringkernel_device.cuh>
static __device__ rk_status_t echo(rk_context_t *ctx, const rk_message_t *message) { return rk_context_reply(ctx, message); }
RK_DEVICE_ENTRY(echo)
TEXT
printf 'static rk_status_t bad(rk_context_t *ctx, const rk_message_t *message) {\n  return 0;\n}\nthis is line four;\n' > "$out/bad.cu"

image() {
  clang++ -x cuda --cuda-gpu-arch=sm_70 -Xclang -target-feature -Xclang +ptx63 --cuda-device-only -nocudainc -nocudalib \
    -std=c++17 -O2 -S -Wall -Wextra -Werror -I "$include" "$out/image.cu" -o "$out/image.ptx" &&
    grep -q '^\.version 6\.3' "$out/image.ptx" && grep -q 'rk_entry_echo' "$out/image.ptx"
}
step "clang makes PTX 6.3 for sm_70, with nothing of NVIDIA's" image
# No read-modify-write crosses the bus: what is atomic is of the device's own memory.
no_system_atomics() { ! grep -E '(atom|red)\.[a-z_.]*sys' "$out/image.ptx"; }
step "no atomic of system scope" no_system_atomics

if fetch > "$out/log" 2>&1; then
  ptxas=$tools/nvidia/cuda_nvcc/bin/ptxas
  cc -std=c99 -O1 -Wall -Wextra "$here/nvrtc.c" -o "$out/nvrtc" -ldl
  nvrtc() { "$out/nvrtc" "$tools/nvidia/cuda_nvrtc/lib/libnvrtc.so.12" "$include" "$@"; }
  assembles() { # ARCH: no spills, at most 72 registers in the entry
    "$ptxas" -v "-arch=$1" "$out/image.ptx" -o "$out/image.$1.cubin" 2>&1 | tee "$out/ptxas" || return 1
    ! grep -E '[1-9][0-9]* bytes spill' "$out/ptxas" || return 1
    awk '/Used [0-9]+ registers/ { for (i = 1; i < NF; i++) if ($i == "Used" && $(i + 1) > 72) bad = 1; seen = 1 } END { exit bad || !seen }' "$out/ptxas"
  }
  compiles() { nvrtc "$1" "$2" "$3" "$out/handler.$3.cubin" && [ -s "$out/handler.$3.cubin" ]; }
  # A file of many handlers has some that nobody calls.
  silent() { compiles "$@" > "$out/said" 2>&1 && ! grep warning "$out/said" | grep -v -e '#177-D' -e 'suppressed'; }
  for arch in sm_80 sm_90 sm_100; do
    step "ptxas, $arch: no spills, few registers" assembles $arch
    step "NVRTC, $arch: echo" silent "$out/echo.cu" echo $arch
    for handler in one_echo one_count one_mortal one_work one_emit one_relay one_times one_ask one_sum one_barrier one_rules; do
      step "NVRTC, $arch: $handler" silent "$here/../c/one_handlers.h" $handler $arch
    done
    for handler in routes_walk routes_count routes_fill routes_press; do
      step "NVRTC, $arch: $handler" silent "$here/../c/routes_handlers.h" $handler $arch
    done
    step "NVRTC, $arch: one_source" silent "$here/../../examples-c/one_source/handler.c" on_samples $arch
  done
  users_line() { ! nvrtc "$out/bad.cu" bad sm_90 "$out/none" > "$out/said" 2>&1 && grep -q 'handler.cu(4)' "$out/said"; }
  step "an error names the user's file and line" users_line
  # What a reply costs is in the disassembly: nothing goes through local memory, and stores to the host are strong.
  disassembled() {
    nvrtc "$out/echo.cu" echo sm_90 "$out/echo.cubin" &&
      "$tools/nvidia/cu13/bin/nvdisasm" -c "$out/echo.cubin" > "$out/echo.sass" 2> /dev/null &&
      grep -q 'LDG.E.128.STRONG.SYS' "$out/echo.sass" && grep -q 'STG.E.128.STRONG.SYS' "$out/echo.sass" &&
      ! grep -E '(LDL|STL)' "$out/echo.sass" && ! grep -E '(ATOM|RED)[A-Z.0-9]*SYS' "$out/echo.sass"
  }
  step "disassembly: strong accesses of 16 bytes, no local memory, no atomic of system scope" disassembled
  step "the simulated driver has the shapes of cuda.h" g++ -std=gnu++17 -Wall -Wextra -I "$tools/nvidia/cuda_runtime/include" \
    -I "$here/sim" -fsyntax-only "$here/sim/check_cuda_h.cpp"
else
  skipped=1
  echo "SKIP NVRTC, ptxas and nvdisasm: the wheels cannot be had ($(tail -n 1 "$out/log"))"
  [ "${RK_CUDA_REQUIRED:-0}" != 1 ] || failed=$((failed + 1))
fi
echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" -eq 0 ]
