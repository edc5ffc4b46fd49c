#!/bin/sh
# Every example against the installed package, its output checked: tests/examples.sh PREFIX OUTDIR
set -eu

prefix=$1
out=$2
here=$(cd "$(dirname "$0")/.." && pwd)
mkdir -p "$out"
PKG_CONFIG_PATH=$prefix/lib/pkgconfig
LD_LIBRARY_PATH=$prefix/lib
export PKG_CONFIG_PATH LD_LIBRARY_PATH
passed=0
failed=0
skipped=0

step() {
  name=$1
  shift
  if "$@" > "$out/log" 2>&1; then
    passed=$((passed + 1))
    echo "ok $name"
  else
    failed=$((failed + 1))
    echo "FAILED $name"
    cat "$out/log"
  fi
}

# The flags are those of the comment at the head of each example, and every warning besides.
build() { # EXAMPLE [PKG-CONFIG MODULE...]
  name_of=$1
  shift
  for compiler in clang gcc; do
    # shellcheck disable=SC2046  # flags are words
    $compiler -std=c99 -O2 -Wall -Wextra -Wpedantic -Wundef -Wstrict-prototypes -Werror \
      "$here/examples-c/$name_of.c" $(pkg-config --cflags --libs ringkernel "$@") -o "$out/$name_of" || return 1
  done
}
short() { [ "$(wc -l < "$here/examples-c/$1.c")" -lt 100 ]; }
run() { timeout 300 "$out/$1" > "$out/$1.out" && cat "$out/$1.out"; }
# says EXAMPLE LINE...: runs it; its output is exactly these lines.
says() {
  example=$1
  shift
  run "$example" && printf '%s\n' "$@" | diff - "$out/$example.out"
}

for example in hello lifecycle zero_copy batch ring checkpoint pipeline epoll wordcount latency cuda_echo; do
  step "$example builds without warnings" build $example
  step "$example has fewer than 100 lines" short $example
done

step "hello" says hello 'hello, Ada: you are number 1' 'hello, Grace: you are number 2' \
  'hello, Barbara: you are number 3'
step "lifecycle" says lifecycle \
  'launched suspended, one sent LAUNCHED     handled 0, waiting in 1, waiting out 0' \
  'activated, answer received   ACTIVE       handled 1, waiting in 0, waiting out 0' \
  'paused, another sent         DEACTIVATED  handled 1, waiting in 1, waiting out 0' \
  'terminated                   TERMINATED   handled 2, waiting in 0, waiting out 1' \
  'its handler failed it        FAILED       handled 0, waiting in 0, waiting out 0' \
  'listed: first' 'listed: second' \
  'launched 3, active 1, sent 3, received 2, dead letters 1'
step "zero_copy" says zero_copy 'frame 1: energy 4096' 'frame 2: energy 16384' 'frame 3: energy 36864'
step "batch" says batch '100000 squares, sum 333328333350000'
step "ring" says ring '100 kernels passed the token 10000 times, each as often as the others'

# The second run goes on where the first stopped; of a file that was changed nothing is taken.
goes_on() {
  rm -f "$out/states"
  "$out/checkpoint" "$out/states" > "$out/checkpoint.out" && "$out/checkpoint" "$out/states" >> "$out/checkpoint.out" &&
    printf '%s messages so far\n' 10 20 | diff - "$out/checkpoint.out" || return 1
  printf x | dd of="$out/states" bs=1 seek=200 conv=notrunc 2> /dev/null
  ! "$out/checkpoint" "$out/states" 2> "$out/checkpoint.err" && grep -q 'RK_ERR_INVALID_ARGUMENT.*checksum' "$out/checkpoint.err"
}
step "checkpoint" goes_on
# Kernels in other people's loops.
step "epoll" says epoll '30 ticks: 30 replies, sum of squares 9455, 30 messages, 3 kernels ended'
step "libuv has fewer than 100 lines" short libuv
if pkg-config --exists libuv; then
  step "libuv builds without warnings" build libuv libuv
  step "libuv" says libuv '30 ticks: 30 replies, sum of squares 9455'
else
  skipped=$((skipped + 1))
  echo "SKIPPED libuv: pkg-config does not know it (on Debian: libuv1-dev)"
fi
step "asyncio" timeout 200 python3 "$here/tests/asyncio_events.py" "$prefix/lib/libringkernel.so"

# The ten most frequent words as the shell counts them.
by_shell() {
  tr -cs A-Za-z '\n' < "$1" | tr A-Z a-z | { grep . || test $? = 1; } | LC_ALL=C sort | uniq -c |
    LC_ALL=C sort -k1,1nr -k2,2 | head -n 10
}
same_words() {
  by_shell "$1" > "$out/shell.words" && "$out/wordcount" "$1" > "$out/our.words" && diff "$out/shell.words" "$out/our.words"
}
step "wordcount of the bundled text" same_words "$here/examples-c/text.txt"
: > "$out/empty.txt"
step "wordcount of an empty file" same_words "$out/empty.txt"
cat "$here"/src/*.rs "$here"/src/*/*.rs "$here/include/ringkernel.h" "$out/hello" > "$out/mixed"
step "wordcount of source and binary" same_words "$out/mixed"
for _ in 1 2 3 4 5 6 7 8; do cat "$out/mixed" "$out/mixed" "$out/mixed" "$out/mixed" "$out/mixed"; done > "$out/large"
step "wordcount of a large file" same_words "$out/large"
progress() {
  cat "$out/large" "$out/large" "$out/large" "$out/large" > "$out/larger"
  "$out/wordcount" "$out/larger" 2>&1 > /dev/null | tr '\r' '\n' | grep -q '50 %'
}
step "wordcount shows its progress" progress
missing() { ! "$out/wordcount" "$out/there is no such file"; }
step "wordcount of a missing file" missing

# Every line through the four stages, as the shell's four do it.
same_lines() {
  LC_ALL=C tr -s ' ' < "$1" | LC_ALL=C tr a-z A-Z | { LC_ALL=C grep -an '' || test $? = 1; } > "$out/shell.lines" &&
    "$out/pipeline" "$1" > "$out/our.lines" && diff "$out/shell.lines" "$out/our.lines"
}
cat "$here"/src/*.rs "$here"/src/*/*.rs "$here/include/ringkernel.h" > "$out/source"
cat "$out/source" "$out/source" "$out/source" "$out/source" > "$out/sources"
printf 'no   end' > "$out/no_end.txt"
step "pipeline of the bundled text" same_lines "$here/examples-c/text.txt"
step "pipeline of an empty file" same_lines "$out/empty.txt"
step "pipeline of a file without a last end of line" same_lines "$out/no_end.txt"
step "pipeline of all the source, four times" same_lines "$out/sources"
no_file() { ! "$out/pipeline" "$out/there is no such file"; }
step "pipeline of a missing file" no_file

# p50 <= p99 <= p99.9 <= max, for each way, and a histogram that has every round trip in it.
latencies() {
  "$out/latency" 3000 > "$out/latency.out" && cat "$out/latency.out"
  awk '
    / p50 / { lines++; for (i = 1; i < NF; i++) value[$i] = $(i + 1)
              if (!(value["p50"] > 0 && value["p50"] <= value["p99"] + 0 && value["p99"] <= value["p99.9"] + 0 &&
                    value["p99.9"] <= value["max"] + 0)) bad = 1 }
    /^  </ { counted += $4 }
    END { exit bad || lines != 3 || counted != 9000 }' "$out/latency.out"
}
step "latency" latencies

# Both backends print the same but for their names; here it is the one that there is.
one_source() {
  for compiler in clang gcc; do
    # shellcheck disable=SC2046  # flags are words
    $compiler -std=c99 -O2 -Wall -Wextra -Wpedantic -Wundef -Wstrict-prototypes -Werror \
      "$here/examples-c/one_source/main.c" "$here/examples-c/one_source/handler.c" \
      $(pkg-config --cflags --libs ringkernel) -lm -o "$out/one_source" || return 1
  done
  timeout 100 "$out/one_source" "$here/examples-c/one_source/handler.c" > "$out/one_source.out"
  grep -q '^819200 samples on the [CG]PU: mean 0.500253, variance 0.083355$' "$out/one_source.out"
}
step "one_source" one_source
echoes() { run cuda_echo && grep -q '^1000 echoes from the [CG]PU' "$out/cuda_echo.out"; }
step "cuda_echo" echoes

with_cmake() { cmake -S "$here/examples-c" -B "$out/cmake" -DCMAKE_PREFIX_PATH="$prefix" && cmake --build "$out/cmake"; }
step "all with CMake" with_cmake

echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" -eq 0 ]
