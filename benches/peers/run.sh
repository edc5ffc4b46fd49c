#!/bin/sh
# What others do on the same work: benches/peers/run.sh OUT
# Builds the peers in Rust (this package) and in C++ (cpp/, headers and libraries of the system) and appends their lines to
# OUT/peers.tsv: question, case, median, minimum in nanoseconds (bytes for "many bytes"). A peer that is not there is skipped, with a
# line on stderr. RK_BENCH_SCALE=0.1 takes a tenth of the counts, RK_BENCH_ROUNDS sets the rounds (7).
#
# Only ratios within one run on one quiet machine mean anything; run benches/run.sh beside it. Where both sides of a call sleep, the
# figure back to back is one thing when the scheduler puts them on one CPU and ten times that on two (see benches/bare.c). What is
# unfair to whom stands in front of each source file.
set -eu

out=$1
here=$(cd "$(dirname "$0")" && pwd)
mkdir -p "$out"
out=$(cd "$out" && pwd)

skip() {
  echo "SKIP $1: $2" >&2
}

# The crates of the lock file, from the cache or the registry.
fetch() {
  host=$(rustc -vV | sed -n 's/^host: //p')
  cargo fetch --quiet --locked --offline --target "$host" 2> /dev/null || cargo fetch --quiet --locked --target "$host"
}

# NAME HEADER SOURCE [LIBRARY]
cpp() {
  name=$1 header=$2 source=$3 library=${4:-}
  if ! command -v g++ > /dev/null; then
    skip "$name" "there is no g++"
  elif ! echo "#include <$header>" | g++ -std=c++17 -fsyntax-only -x c++ - 2> /dev/null; then
    skip "$name" "there is no <$header>"
  elif [ -n "$library" ] && ! echo 'int main() {}' | g++ -x c++ - -o "$out/probe" "$library" 2> /dev/null; then
    skip "$name" "there is no library for $library"
  else
    g++ -O2 -std=c++17 -Wall -Wextra "$here/cpp/$source.cpp" -o "$out/$source" -pthread $library
    built="$built $source"
  fi
  rm -f "$out/probe"
}

built=
cpp "boost spsc_queue" boost/lockfree/spsc_queue.hpp boost
cpp "moodycamel ReaderWriterQueue" readerwriterqueue/readerwriterqueue.h readerwriterqueue
cpp "moodycamel ConcurrentQueue" concurrentqueue/concurrentqueue.h concurrentqueue
cpp TBB tbb/concurrent_queue.h tbb -ltbb
cpp CAF caf/all.hpp caf -lcaf_core

rust=
if ! command -v cargo > /dev/null; then
  skip "rtrb, crossbeam, kanal, tokio, actix, ractor, kameo" "there is no cargo"
elif ! (cd "$here" && fetch); then
  skip "rtrb, crossbeam, kanal, tokio, actix, ractor, kameo" "their crates cannot be had"
else
  target=${CARGO_TARGET_DIR:-$here/../../build/peers-target}
  (cd "$here" && CARGO_TARGET_DIR=$target cargo build --quiet --release --locked)
  rust=$(cd "$target" && pwd)/release/peers
fi

for name in $built; do
  "$out/$name" >> "$out/peers.tsv"
done
if [ -n "$rust" ]; then
  for question in stream calls fan_in hops many; do
    "$rust" "$question" >> "$out/peers.tsv"
  done
fi
