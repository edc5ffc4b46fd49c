#!/bin/sh
# Do the benches build, and does every message arrive as it was sent? benches/check.sh PREFIX OUT
# Each runs with few messages; its figures mean nothing then. A bench that has not ended within 30 s fails.
set -eu

prefix=$1
out=$2
here=$(cd "$(dirname "$0")" && pwd)
mkdir -p "$out"
files=
for source in "$here"/*.c; do
  bench=$(basename "$source" .c)
  "${CC:-cc}" -O2 -Wall -Wextra -Werror -I "$prefix/include" "$source" -o "$out/$bench" -L "$prefix/lib" -Wl,-rpath,"$prefix/lib" -lringkernel -lpthread
  RK_BENCH_SCALE=0.002 RK_BENCH_ROUNDS=1 timeout 30 "$out/$bench" > "$out/$bench.tsv" || { echo "$bench failed" >&2; exit 1; }
  # Each line is a question, a case and two numbers.
  awk -F '\t' 'NF != 4 || $3 !~ /^-?[0-9.]+$/ || $4 !~ /^-?[0-9.]+$/ { print "not a figure: " $0; bad = 1 } END { exit bad || NR == 0 }' "$out/$bench.tsv"
  files="$files $out/$bench.tsv"
done
# shellcheck disable=SC2086
awk -v md="$out/check.md" -v svg="$out/check.svg" -f "$here/report.awk" "$here/goals.txt" $files
echo "$(ls "$here"/*.c | wc -l) benches run"
