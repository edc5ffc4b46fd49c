#!/bin/sh
# What a message costs, through the installed C header: benches/run.sh PREFIX OUT
# One table beside the goals (goals.txt), on the screen, in OUT/results.md and as a chart in OUT/results.svg. What the machine itself
# does (bare.c) is measured before and after. From the environment:
#   RK_BENCH_SCALE    0.1 takes a tenth of the time; 1 (the default) has a million kernels, too
#   RK_BENCH_ROUNDS   rounds of each case (7)
#   RK_BENCH_PEERS    0: without the other actors and rings of benches/peers
#   RK_BENCH_RESULTS  a folder that gets a copy of table and chart, named by date, commit and machine
set -eu

prefix=$1
out=$2
here=$(cd "$(dirname "$0")" && pwd)
mkdir -p "$out"
benches="stream calls fan_in outstanding hops many large waiting boundary timestamps"
for bench in bare $benches; do
  "${CC:-cc}" -O2 -Wall -Wextra -I "$prefix/include" "$here/$bench.c" -o "$out/$bench" -L "$prefix/lib" -Wl,-rpath,"$prefix/lib" -lringkernel -lpthread
done

# Seconds of CPU time: of all processes, and of this one's children.
busy() { awk -v ticks="$(getconf CLK_TCK)" '/^cpu / { print ($2 + $3 + $4 + $7 + $8 + $9) / ticks }' /proc/stat; }
own() {
  times > "$out/times"
  awk '{ for (i = 1; i <= 2; i++) { split($i, part, /[ms]/); sum += part[1] * 60 + part[2] } } END { print sum }' "$out/times"
  rm "$out/times"
}

results=$out/results.tsv
began=$(date +%s)
busy_before=$(busy)
own > "$out/own"
own_before=$(cat "$out/own")
# On a virtual machine the CPUs may be near each other at one time and far apart at another: what a line took before and after each question,
# and those of `calls`, the question that is compared with it, in place of the bare ones.
lines=
line() { RK_BENCH_SCALE=0.05 RK_BENCH_ROUNDS=3 "$out/bare" line; }
rounded() { printf '%s\n' "$1" | awk -F '\t' '{ printf "%.0f", $3 }'; }
measure() {
  echo "$1 ..." >&2
  before=$(line)
  "$out/$1" > "$out/part.tsv" || { echo "$1 failed" >&2; exit 1; }
  after=$(line)
  lines="$lines${lines:+, }$1 $(rounded "$before") and $(rounded "$after")"
  [ "$1" != calls ] || { calls_before=$before && calls_after=$after; }
}
# The lines of a part, with another for the cache line.
with_line() { grep -v 'a cache line there and back' "$out/part.tsv" || true; printf '%s\n' "$1"; }

measure bare
cp "$out/part.tsv" "$results"
for bench in $benches; do
  measure "$bench"
  cat "$out/part.tsv" >> "$results"
done
if [ "${RK_BENCH_PEERS:-1}" != 0 ] && [ -f "$here/peers/run.sh" ]; then
  echo "peers ..." >&2
  rm -f "$out/peers.tsv"
  if sh "$here/peers/run.sh" "$out" >&2 && [ -f "$out/peers.tsv" ]; then
    cat "$out/peers.tsv" >> "$results"
  else
    echo "peers failed: the table is without them" >&2
  fi
fi
measure bare
with_line "$calls_after" | sed 's/^bare\t/bare again\t/' >> "$results"
awk -F '\t' '!($1 == "bare" && $2 == "a cache line there and back")' "$results" > "$out/part.tsv"
{ printf '%s\n' "$calls_before"; cat "$out/part.tsv"; } > "$results"
# One that took more than half as long again as another: then only figures of questions with the same lines belong together.
moved=$(printf '%s\n' "$lines" | grep -o '[0-9][0-9.]*' | sort -n | awk 'NR == 1 { least = $1 } END { if ($1 > 1.5 * least) print " **The CPUs were not always as far apart.**" }')
own > "$out/own"
others=$(awk -v all="$(busy)" -v all_before="$busy_before" -v own="$(cat "$out/own")" -v own_before="$own_before" \
  -v capacity="$((($(date +%s) - began + 1) * $(nproc)))" 'BEGIN {
    share = (all - all_before - own + own_before) / capacity * 100
    if (share < 0) share = 0
    advice = share > 5 ? ": measure again when the machine is quiet" : ""
    printf "Other processes took %.0f %% of the CPUs meanwhile%s.", share, advice
  }')
rm "$out/part.tsv" "$out/own"

commit=$(git -C "$here" rev-parse --short HEAD 2> /dev/null || echo unknown)
[ -z "$(git -C "$here" status --porcelain 2> /dev/null)" ] || commit=$commit+
model=$(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -n 1)
machine="$(uname -m), $(nproc) CPUs, ${model:-unknown model}, Linux $(uname -r)"
HEAD="$machine, $(date +%F), commit $commit, scale ${RK_BENCH_SCALE:-1}, rounds ${RK_BENCH_ROUNDS:-7}
Nanoseconds for each operation unless a figure says otherwise; 64 bytes each unless it says otherwise. '/ goal' is the median divided by the goal: at most 1 is reached.
$others
A cache line there and back took, in nanoseconds before and after each question: $lines.$moved" \
  awk -v md="$out/results.md" -v svg="$out/results.svg" -f "$here/report.awk" "$here/goals.txt" "$results"
if [ -n "${RK_BENCH_RESULTS:-}" ]; then
  mkdir -p "$RK_BENCH_RESULTS"
  name=$(date +%F)-$commit-$(uname -m)
  cp "$out/results.md" "$RK_BENCH_RESULTS/$name.md"
  cp "$out/results.svg" "$RK_BENCH_RESULTS/$name.svg"
fi
cat "$out/results.md"
