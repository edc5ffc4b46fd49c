#!/bin/sh
# Every test, fast failures first: tests/all.sh STAGE BUILD (called by `make test`).
# A step that fails ends the run with its name.
set -eu

stage=$1
build=$2
passed=0
mkdir -p "$build"

step() {
  name=$1
  shift
  began=$(date +%s)
  echo "== $name"
  if ! "$@"; then
    echo "FAILED: $name"
    echo "$passed passed, 1 failed"
    exit 1
  fi
  passed=$((passed + 1))
  echo "== $name: ok, $(($(date +%s) - began)) s"
}

step "format" cargo fmt --all --check
step "shared and static library" make --no-print-directory stage
step "Rust tests" cargo test --release --quiet
step "model checks" cargo test --release --quiet -p ringkernel-loom
step "lints" cargo clippy --release --all-targets --quiet -- -D warnings
step "debug library" cargo build --quiet --lib
step "C tests" tests/c/run.sh "$stage/lib" "$stage/include" "$build/c" "$PWD/target/debug"
step "instructions of a message" tests/instructions.sh "$stage/lib" "$stage/include" "$build/instructions"
step "CUDA on a simulated driver" tests/cuda/run.sh "$stage/lib" "$stage/include" "$build/cuda"
step "device code for real devices" tests/cuda/compile.sh "$build/cuda"
step "device ring under the thread sanitizer" tests/cuda/ring.sh "$build/cuda/ring"
step "GPU, where there is one" tests/gpu/all.sh "$stage" "$build"
step "examples" tests/examples.sh "$stage" "$build/examples"
step "benches, with few messages" benches/check.sh "$stage" "$build/bench-check"
step "package and consumers" tests/package.sh "$build/package"

echo "$passed passed, 0 failed"
