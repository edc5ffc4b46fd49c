#!/bin/sh
# The device's ring under the thread sanitizer, and each ordering taken away: tests/cuda/ring.sh OUTDIR
set -eu

out=$1
here=$(cd "$(dirname "$0")" && pwd)
mkdir -p "$out"
passed=0
failed=0

build() { # OUTPUT FLAG...
  program=$1
  shift
  g++ -std=gnu++17 -O1 -g -Wall -Wextra -pthread "$@" -I "$here/../../include" -I "$here/sim" "$here/ring.cpp" -o "$out/$program"
}
step() { # NAME COMMAND...
  name=$1
  shift
  if "$@" > "$out/log" 2>&1; then
    passed=$((passed + 1))
    echo "ok $name"
  else
    failed=$((failed + 1))
    echo "FAILED $name"
    tail -n 40 "$out/log"
  fi
}
run() { TSAN_OPTIONS="halt_on_error=1 exitcode=66" timeout 120 "$out/$@"; }
build plain
build sane -fsanitize=thread
step "the ring, plain" run plain 3000
step "the ring with express, plain" run plain 3000 express
step "the ring, thread sanitizer" run sane 400
step "the ring with express, thread sanitizer" run sane 400 express

# caught PROGRAM: the sanitizer or the content of a message says so. A hang is no answer.
caught() {
  build "$1" -fsanitize=thread "-DRKSIM_WEAKEN=\"$2\""
  for _ in 1 2 3; do
    code=0
    TSAN_OPTIONS="halt_on_error=1 exitcode=66" timeout 60 "$out/$1" 400 > "$out/caught" 2>&1 || code=$?
    if [ $code -eq 66 ] || [ $code -eq 1 ]; then return 0; fi
  done
  echo "nothing was caught ($code)"
  return 1
}
for order in load_acquire_sys publish_sys load_acquire_gpu store_release_gpu; do
  step "without $order it is caught" caught "weak_$order" "$order"
done
echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
