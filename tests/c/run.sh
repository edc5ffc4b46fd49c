#!/bin/sh
# Builds and runs the C tests: tests/c/run.sh LIBDIR INCLUDEDIR OUTDIR DEBUGLIBDIR [FILTER]
# With FILTER only the steps whose names have it.
# Every program compiles as C99 and as C++11 with gcc and with clang; all run as gcc's C99, the conformance and
# misuse suites in the other three too, then with a debug build of the library, under valgrind, and with the
# address and undefined behaviour sanitizers on the C side.
# What only compiles, what stresses, and what is told not to look at the clock closely (RK_TEST_SLOW), runs in two lanes at a time.
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
stresses="stress stress_kernels stress_streams stress_events"
alone="layout $suites fork fork_busy exit thread_end idle idle_waits"
programs="$alone $stresses soak soak_streams"

LD_LIBRARY_PATH=$lib${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
export LD_LIBRARY_PATH

# step NAME COMMAND...: one line for what passes, all output of what fails.
step() {
  name=$1
  shift
  case $name in *"$filter"*) ;; *) return 0 ;; esac
  began=$(date +%s)
  if "$@" > "$out/log$lane" 2>&1; then
    passed=$((passed + 1))
    echo "ok $name ($(($(date +%s) - began)) s)"
  else
    failed=$((failed + 1))
    echo "FAILED $name"
    cat "$out/log$lane"
  fi
}

# lanes FUNCTION PROGRAM...: the function's steps for each program, two programs at a time.
lane=
lanes() {
  each=$1
  shift
  # A lane that dies leaves none, and then the run ends here.
  rm -f "$out/counts1" "$out/counts2"
  pids=
  for lane in 1 2; do
    (
      passed=0
      failed=0
      number=0
      for program; do
        number=$((number + 1))
        [ $((number % 2 + 1)) -ne "$lane" ] || "$each" "$program"
      done
      echo "$passed $failed" > "$out/counts$lane"
    ) &
    pids="$pids $!"
  done
  # shellcheck disable=SC2086  # numbers are words
  trap 'kill $pids; exit 1' INT TERM HUP
  wait
  trap - INT TERM HUP
  for lane in 1 2; do
    read -r of_lane failed_in_lane < "$out/counts$lane"
    passed=$((passed + of_lane))
    failed=$((failed + failed_in_lane))
  done
  lane=
}

compile() { # COMPILER FLAGS PROGRAM OUTPUT
  # shellcheck disable=SC2086  # flags are words
  $1 $2 $warnings -g -O1 -I "$include" -I "$here" "$here/$3.c" -o "$4" -L "$lib" -lringkernel -lpthread
}

step "names of the header" "$here/names.sh" "$include"

compiled() {
  step "compile $1 gcc-c99" compile gcc "-std=c99 -Wstrict-prototypes" "$1" "$out/$1.gcc-c99"
  step "compile $1 clang-c99" compile clang "-std=c99 -Wstrict-prototypes" "$1" "$out/$1.clang-c99"
  step "compile $1 gcc-c++11" compile g++ "-std=c++11 -x c++" "$1" "$out/$1.gcc-cxx11"
  step "compile $1 clang-c++11" compile clang++ "-std=c++11 -x c++" "$1" "$out/$1.clang-cxx11"
}
# shellcheck disable=SC2086  # programs are words, here and below
lanes compiled $programs

# A hang is caught by each test's own alarm; this is for what hangs outside of one.
run() { timeout 900 "$@"; }

for program in $alone; do
  step "run $program" run "$out/$program.gcc-c99"
done
stressed() {
  step "run $1" run "$out/$1.gcc-c99"
}
lanes stressed $stresses soak_streams
# What differs here is how the header is compiled; how long things take was looked at above.
varied() {
  for variant in clang-c99 gcc-cxx11 clang-cxx11; do
    step "run $1 $variant" env RK_TEST_SLOW=1 timeout 900 "$out/$1.$variant"
  done
}
lanes varied layout $suites

# lesson 7: the same answers from a debug build, where an overflow is a panic.
mkdir -p "$out/debug"
ln -sf "$debug/libringkernel.so" "$out/debug/libringkernel.so.0"
debugged() {
  step "debug library $1" env RK_TEST_SLOW=1 LD_LIBRARY_PATH="$out/debug" timeout 900 "$out/$1.gcc-c99"
}
lanes debugged $suites $stresses

# With room for the library's thread-local words beside the program's (512 bytes, unless told otherwise), and without: the GNU C library finds them
# in another way then.
opened() {
  words=$(readelf -lW "$lib/libringkernel.so" | awk '$1 == "TLS" { print $6 }')
  [ $((words)) -gt 0 ] && [ $((words)) -le 512 ] || { echo "thread-local words: $words bytes"; return 1; }
  gcc -std=c99 $warnings -g -I "$include" "$here/opened.c" -o "$out/opened" -ldl -lpthread && run "$out/opened" &&
    GLIBC_TUNABLES=glibc.rtld.optional_static_tls=0 run "$out/opened"
}
step "opened at run time" opened
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
ground() {
  step "valgrind $1" grind "$out/$1.gcc-c99"
}
lanes ground layout $suites stress_events

sanitized() {
  step "compile $1 sanitized" compile gcc \
    "-std=c99 -fsanitize=address,undefined -fno-sanitize-recover=all" "$1" "$out/$1.san"
  # The library's threads may have been stopped in the middle of anything when the process ends.
  step "sanitized $1" env RK_TEST_SLOW=1 ASAN_OPTIONS=detect_leaks=1:allocator_may_return_null=1 timeout 900 "$out/$1.san"
}
lanes sanitized $suites $stresses

# Not through a pipe: its status would be that of the last command.
soak() {
  timeout 1200 "$out/soak.gcc-c99" "${RK_SOAK:-10000000}" > "$out/soak.log"
}
step "soak" soak
[ -n "$filter" ] || [ ! -f "$out/soak.log" ] || cat "$out/soak.log"

echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
