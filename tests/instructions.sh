#!/bin/sh
# How many instructions a message takes on the ways of paths.c, against what is written down: tests/instructions.sh LIB INCLUDE OUT [--write]
# Unlike time they do not depend on the machine's mood (callgrind counts them); they do on the compiler, so with another version of it than
# the one that was written down more is allowed.
set -eu

lib=$1
include=$2
out=$3
here=$(cd "$(dirname "$0")" && pwd)
baseline=$here/../benches/instructions.txt
count=4096
mkdir -p "$out"
"${CC:-cc}" -std=c99 -O2 -Wall -Wextra -I "$include" -I "$here/c" "$here/c/paths.c" -o "$out/paths" -L "$lib" -lringkernel -lpthread
compiler=$(rustc --version | cut -d' ' -f1-2)

counted() {
  LD_LIBRARY_PATH="$lib" timeout 120 valgrind --tool=callgrind --collect-atstart=no --toggle-collect=measured \
    --callgrind-out-file="$out/callgrind.$1" "$out/paths" "$1" "$count" > "$out/log" 2>&1 || { cat "$out/log" >&2; return 1; }
  sed -n 's/^summary: \([0-9]*\).*/\1/p;s/^totals: \([0-9]*\).*/\1/p' "$out/callgrind.$1" | tail -n 1
}

if [ "${4:-}" = --write ]; then
  {
    echo "# Instructions for each message of 64 bytes, counted by tests/instructions.sh (--write writes this anew)."
    echo "# $compiler"
  } > "$out/new"
fi
written=none
[ ! -e "$baseline" ] || written=$(sed -n 's/^# \(rustc .*\)/\1/p' "$baseline")
allowed=3
[ "$written" = "$compiler" ] || { allowed=25; echo "written down with $written, this is $compiler: $allowed % are allowed"; }
failed=0
for way in send send_batch reserve_commit_batch receive_release receive_release_batch call call_and_hop; do
  total=$(counted "$way")
  each=$(awk -v total="$total" -v count="$count" 'BEGIN { printf "%.1f", total / count }')
  if [ "${4:-}" = --write ]; then
    echo "$way $each" >> "$out/new"
    continue
  fi
  expected=$(awk -v way="$way" '$1 == way { print $2 }' "$baseline")
  if ! awk -v each="$each" -v expected="$expected" -v allowed="$allowed" \
    'BEGIN { exit !(expected > 0 && each <= expected * (1 + allowed / 100) + 1) }'; then
    echo "FAILED $way: $each instructions, written down are ${expected:-none}"
    failed=$((failed + 1))
  elif awk -v each="$each" -v expected="$expected" -v allowed="$allowed" 'BEGIN { exit !(each < expected * (1 - allowed / 100) - 1) }'; then
    echo "ok $way: $each instructions, fewer than the $expected written down: write them down"
  else
    echo "ok $way: $each instructions ($expected)"
  fi
done
if [ "${4:-}" = --write ]; then
  mv "$out/new" "$baseline"
  cat "$baseline"
fi
[ "$failed" -eq 0 ]
