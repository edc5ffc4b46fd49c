#!/bin/sh
# Everything that a GPU can show: run.sh [OUTDIR]. In the folder that prepare.sh made; no Rust, no toolkit, no network.
# One line per step: PASS, FAIL or SKIP. Writes OUTDIR/gpu.json. Without a GPU it says so and ends well, unless RK_GPU_REQUIRED=1.
# RK_SIMULATED=DIR: with the simulated driver of that folder, so that this script never rots.
set -u

here=$(cd "$(dirname "$0")" && pwd)
out=${1:-$here/out}
mkdir -p "$out"
out=$(cd "$out" && pwd)
cd "$here" || exit 1
passed=0
failed=0
skipped=0
n=20000
routes=100000

if [ -n "${RK_SIMULATED:-}" ]; then
  export LD_LIBRARY_PATH="$RK_SIMULATED:$here" RK_CUDA_POOL_BLOCKS=2 RKSIM_SMS=8
  n=200
  routes=40000
  machine="a simulated device"
else
  for folder in /usr/local/nvidia/lib64 /usr/lib/x86_64-linux-gnu /usr/lib64 /usr/lib/wsl/lib; do
    if [ -e "$folder/libcuda.so.1" ]; then
      export LD_LIBRARY_PATH="$folder${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}"
      break
    fi
  done
  machine=$(nvidia-smi --query-gpu=name,driver_version,pcie.link.gen.max,pcie.link.width.max --format=csv,noheader 2>/dev/null | head -n 1)
  if [ -z "$machine" ]; then
    echo "SKIP everything: there is no NVIDIA GPU"
    [ "${RK_GPU_REQUIRED:-0}" = 1 ] && exit 1
    exit 0
  fi
  # NVRTC: the loader's, a toolkit's, or a wheel's.
  if [ -z "${RK_NVRTC:-}" ] && ! ldconfig -p 2>/dev/null | grep -q 'libnvrtc\.so\.1[23]'; then
    for file in /usr/local/cuda/lib64/libnvrtc.so.1[23] \
      $(python3 -c 'import glob, site; print(*[f for d in site.getsitepackages() for f in glob.glob(d + "/nvidia/*/lib/libnvrtc.so.1[23]")])' 2>/dev/null); do
      if [ -e "$file" ]; then
        export RK_NVRTC="$file"
        break
      fi
    done
  fi
fi
export CUDA_MODULE_LOADING=EAGER
echo "machine: $machine; NVRTC: ${RK_NVRTC:-as the loader finds it}"

# step NAME SECONDS COMMAND...
step() {
  name=$1
  limit=$2
  shift 2
  timeout -k 5 "$limit" "$@" > "$out/log" 2>&1
  code=$?
  case $code in
  0)
    passed=$((passed + 1))
    echo "PASS $name"
    grep '^SKIP' "$out/log" | sort | uniq -c
    ;;
  77)
    skipped=$((skipped + 1))
    echo "SKIP $name"
    ;;
  *)
    failed=$((failed + 1))
    echo "FAIL $name ($code)"
    grep -E 'FAILED|not true|, not RK|hangs' "$out/log" | cut -c1-300 | sed 's/^/    /'
    tail -n 3 "$out/log" | cut -c1-300 | sed 's/^/    /'
    ;;
  esac
}

cubin=image.sm_$(nvidia-smi --query-gpu=compute_cap --format=csv,noheader 2>/dev/null | head -n 1 | tr -d .).cubin
step "one source: the CPU" 120 env RK_TEST_BACKEND=cpu RK_TEST_HANDLERS="$here/one_handlers.h" ./one_conformance
step "one source: the device" 300 env RK_TEST_BACKEND=cuda RK_TEST_HANDLERS="$here/one_handlers.h" ./one_conformance
if [ -z "${RK_SIMULATED:-}" ]; then
  if [ -e image.ptx ]; then step "PTX" 60 ./cuda_code ptx image.ptx echo; else step "PTX (no image)" 1 sh -c 'exit 77'; fi
  if [ -e "$cubin" ]; then step "CUBIN" 60 ./cuda_code cubin "$cubin" echo; else step "CUBIN (no image for this device)" 1 sh -c 'exit 77'; fi
fi
step "checkpoints between backends" 120 env RK_TEST_HANDLERS="$here/one_handlers.h" ./cuda_checkpoint
step "routes and idleness" 300 env RK_TEST_HANDLERS="$here/routes_handlers.h" RK_TEST_ROUTES=$routes ./cuda_routes
step "failures" 400 ./cuda_failure
step "example cuda_echo" 60 env RK_BACKEND=cuda ./cuda_echo
step "example one_source" 60 env RK_BACKEND=cuda ./one_source handler.c
# A process that is killed while its kernel runs leaves the GPU usable.
killed() {
  env RK_BACKEND=cuda ./bench --backend cuda 100000000 > /dev/null 2>&1 &
  pid=$!
  sleep 3
  kill -9 $pid
  wait $pid 2>/dev/null
  RK_BACKEND=cuda timeout 60 ./cuda_echo
}
killed > "$out/log" 2>&1 && { passed=$((passed + 1)); echo "PASS after a kill"; } || { failed=$((failed + 1)); echo "FAIL after a kill"; cat "$out/log"; }
bench() { ./bench --backend cuda "$1" > "$out/bench.json"; }
if bench $n 2> "$out/log"; then passed=$((passed + 1)); echo "PASS bench"; cat "$out/bench.json"; else failed=$((failed + 1)); echo "FAIL bench"; cat "$out/log"; echo null > "$out/bench.json"; fi
echo null > "$out/blocks.json"
if [ -z "${RK_SIMULATED:-}" ]; then
  if timeout -k 5 120 ./blocks > "$out/blocks.json" 2> "$out/log"; then passed=$((passed + 1)); echo "PASS blocks"; cat "$out/blocks.json"; else failed=$((failed + 1)); echo "FAIL blocks"; cat "$out/log"; echo null > "$out/blocks.json"; fi
  if command -v compute-sanitizer > /dev/null 2>&1; then
    step "compute-sanitizer memcheck" 200 compute-sanitizer --tool memcheck --error-exitcode 9 ./cuda_echo
    step "compute-sanitizer racecheck" 200 compute-sanitizer --tool racecheck --error-exitcode 9 ./cuda_echo
  fi
fi
cat > "$out/gpu.json" <<JSON
{
"machine": "$machine",
"processor": "$(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -n 1)",
"date": "$(date -u +%Y-%m-%d)",
"steps": {"passed": $passed, "failed": $failed, "skipped": $skipped},
"bench": $(cat "$out/bench.json"),
"beside_a_resident_kernel": $(cat "$out/blocks.json")
}
JSON
echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" -eq 0 ]
