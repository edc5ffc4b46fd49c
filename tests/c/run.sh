#!/bin/sh
# Builds and runs the C tests: tests/c/run.sh LIBDIR INCLUDEDIR OUTDIR DEBUGLIBDIR [FILTER]
# With FILTER only the steps whose names have it.
# Every program compiles as C99 and as C++11 with gcc and with clang; all run as gcc's C99, the conformance and
# misuse suites in the other three too, then with a debug build of the library, under valgrind, and with the
# address and undefined behaviour sanitizers on the C side.
set -eu

lib=$1
include=$2
out=$3
debug=$4
filter=${5:-}
here=$(cd "$(dirname "$0")" && pwd)
mkdir -p "$out"
warnings="-Wall -Wextra -Wpedantic -Wundef -Werror"
passed=0
failed=0

suites="conformance_message conformance_call conformance_handler conformance_lifecycle conformance_metrics conformance_nested \
conformance_batch conformance_counts conformance_process conformance_reentry conformance_route conformance_shutdown \
conformance_state conformance_time conformance_end conformance_events conformance_restart conformance_pipeline \
conformance_checkpoint conformance_clock conformance_deadline conformance_memory misuse misuse_handles misuse_memory"
programs="layout $suites fork fork_busy exit thread_end idle idle_waits stress stress_kernels stress_streams stress_events soak soak_streams"

LD_LIBRARY_PATH=$lib${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
export LD_LIBRARY_PATH

# step NAME COMMAND...: one line for what passes, all output of what fails.
step() {
  name=$1
  shift
  case $name in *"$filter"*) ;; *) return 0 ;; esac
  began=$(date +%s)
  if "$@" > "$out/log" 2>&1; then
    passed=$((passed + 1))
    echo "ok $name ($(($(date +%s) - began)) s)"
  else
    failed=$((failed + 1))
    echo "FAILED $name"
    cat "$out/log"
  fi
}

compile() { # COMPILER FLAGS PROGRAM OUTPUT
  # shellcheck disable=SC2086  # flags are words
  $1 $2 $warnings -g -O1 -I "$include" -I "$here" "$here/$3.c" -o "$4" -L "$lib" -lringkernel -lpthread
}

step "names of the header" "$here/names.sh" "$include"

for program in $programs; do
  step "compile $program gcc-c99" compile gcc "-std=c99 -Wstrict-prototypes" "$program" "$out/$program.gcc-c99"
  step "compile $program clang-c99" compile clang "-std=c99 -Wstrict-prototypes" "$program" "$out/$program.clang-c99"
  step "compile $program gcc-c++11" compile g++ "-std=c++11 -x c++" "$program" "$out/$program.gcc-cxx11"
  step "compile $program clang-c++11" compile clang++ "-std=c++11 -x c++" "$program" "$out/$program.clang-cxx11"
done

# A hang is caught by each test's own alarm; this is for what hangs outside of one.
run() { timeout 900 "$@"; }

for program in $programs; do
  [ "$program" = soak ] || step "run $program" run "$out/$program.gcc-c99"
done
for program in layout $suites; do
  for variant in clang-c99 gcc-cxx11 clang-cxx11; do
    step "run $program $variant" run "$out/$program.$variant"
  done
done

# lesson 7: the same answers from a debug build, where an overflow is a panic.
mkdir -p "$out/debug"
ln -sf "$debug/libringkernel.so" "$out/debug/libringkernel.so.0"
for program in $suites stress stress_kernels stress_streams stress_events; do
  step "debug library $program" env RK_TEST_SLOW=1 LD_LIBRARY_PATH="$out/debug" timeout 900 "$out/$program.gcc-c99"
done

exception() {
  g++ -std=c++11 $warnings -g -I "$include" "$here/foreign_exception.cpp" -o "$out/foreign_exception" \
    -L "$lib" -lringkernel -lpthread && "$out/foreign_exception"
}
step "foreign exception" exception

# Rust's std keeps a few blocks that are only "possibly" lost: definite leaks are what counts.
grind() {
  RK_TEST_SLOW=1 timeout 900 valgrind --quiet --leak-check=full --show-leak-kinds=definite \
    --errors-for-leak-kinds=definite --error-exitcode=99 --fair-sched=yes "$@"
}
for program in layout $suites stress_events; do
  step "valgrind $program" grind "$out/$program.gcc-c99"
done

for program in $suites stress stress_kernels stress_streams stress_events; do
  step "compile $program sanitized" compile gcc \
    "-std=c99 -fsanitize=address,undefined -fno-sanitize-recover=all" "$program" "$out/$program.san"
  # The library's threads may have been stopped in the middle of anything when the process ends.
  step "sanitized $program" env RK_TEST_SLOW=1 ASAN_OPTIONS=detect_leaks=1:allocator_may_return_null=1 timeout 900 "$out/$program.san"
done

# Not through a pipe: its status would be that of the last command.
soak() {
  timeout 1200 "$out/soak.gcc-c99" "${RK_SOAK:-10000000}" > "$out/soak.log"
}
step "soak" soak
[ -n "$filter" ] || [ ! -f "$out/soak.log" ] || cat "$out/soak.log"

echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
