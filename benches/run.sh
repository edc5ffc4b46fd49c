#!/bin/sh
# What a message costs, through the installed C header: benches/run.sh PREFIX OUT
# One table; the ratios are to what the machine itself does in the same run (bare.c), which is measured before and after. With
# RK_BENCH_SCALE=0.1 it takes a tenth of the time, RK_BENCH_ROUNDS sets the rounds (7).
set -eu

prefix=$1
out=$2
here=$(cd "$(dirname "$0")" && pwd)
mkdir -p "$out"
for bench in bare stream calls; do
  cc -O2 -Wall -Wextra -I "$prefix/include" "$here/$bench.c" -o "$out/$bench" -L "$prefix/lib" -Wl,-rpath,"$prefix/lib" -lringkernel -lpthread
done
: > "$out/results.tsv"
for bench in bare stream calls bare; do
  "$out/$bench" | tee -a "$out/results.tsv.part" > /dev/null
  sed "s/^bare\t/bare $bench\t/" "$out/results.tsv.part" >> "$out/results.tsv"
  rm "$out/results.tsv.part"
done
echo "$(uname -m), $(nproc) CPUs, $(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -1), Linux $(uname -r)"
awk -F '\t' '
  BEGIN { printf "%-58s %12s %12s   %s\n", "nanoseconds for each", "median", "minimum", "ratio of medians" }
  { question = $1; sub(/^bare .*/, "bare", question); name = question ": " $2; n[name]++
    if (question == "bare") { sum[$2] += $3; count[$2]++; bare[$2] = sum[$2] / count[$2] }
    if (n[name] == 1) { order[++lines] = name; of[name] = question; of_case[name] = $2; median[name] = $3; minimum[name] = $4 }
    else { again[name] = $3 } }
  END {
    for (i = 1; i <= lines; i++) {
      name = order[i]; text = ""
      if (of[name] == "bare") text = (name in again) ? sprintf("again at the end: %.2f", again[name]) : ""
      else if (of[name] == "stream") { base = of_case[name] ~ /64/ ? "a ring, batches of 64" : "a ring, one by one"; text = sprintf("%.2f x %s", median[name] / bare[base], base) }
      else { base = of_case[name] ~ /NO_HELP|PARK/ || (of[name] ~ /100 us/ && of_case[name] !~ /SPIN|helps/) ? "a futex there and back" : "a cache line there and back"; text = sprintf("%.2f x %s", median[name] / bare[base], base) }
      printf "%-58s %12.2f %12.2f   %s\n", name, median[name], minimum[name], text
    }
  }' "$out/results.tsv"
