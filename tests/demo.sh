#!/bin/sh
# The main job, on the installed package: tests/demo.sh PREFIX OUTDIR (called by `make demo`).
set -eu

prefix=$1
out=$2
here=$(cd "$(dirname "$0")/.." && pwd)
mkdir -p "$out"
PKG_CONFIG_PATH=$prefix/lib/pkgconfig
LD_LIBRARY_PATH=$prefix/lib
export PKG_CONFIG_PATH LD_LIBRARY_PATH

skipped=0
for example in hello wordcount latency epoll cuda_echo; do
  # shellcheck disable=SC2046  # flags are words
  cc -std=c99 -O2 "$here/examples-c/$example.c" $(pkg-config --cflags --libs ringkernel) -lpthread -o "$out/$example"
done

echo '--- hello'
"$out/hello"
echo '--- wordcount examples-c/text.txt'
"$out/wordcount" "$here/examples-c/text.txt"
echo '--- epoll'
"$out/epoll"
echo '--- libuv'
if pkg-config --exists libuv; then
  # shellcheck disable=SC2046
  cc -std=c99 -O2 "$here/examples-c/libuv.c" $(pkg-config --cflags --libs ringkernel libuv) -o "$out/libuv"
  "$out/libuv"
else
  skipped=$((skipped + 1))
  echo 'SKIPPED: pkg-config does not know libuv (on Debian: libuv1-dev)'
fi
echo '--- latency 20000'
"$out/latency" 20000
# shellcheck disable=SC2046
cc -std=c99 -O2 "$here/examples-c/one_source/main.c" "$here/examples-c/one_source/handler.c" \
  $(pkg-config --cflags --libs ringkernel) -lm -o "$out/one_source"
echo '--- cuda_echo (on the GPU, if there is one)'
"$out/cuda_echo"
echo '--- one_source (the same)'
"$out/one_source" "$here/examples-c/one_source/handler.c"
[ "$skipped" -eq 0 ] || echo "--- $skipped example skipped, see above"
