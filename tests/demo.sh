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

for example in hello wordcount latency; do
  # shellcheck disable=SC2046  # flags are words
  cc -std=c99 -O2 "$here/examples-c/$example.c" $(pkg-config --cflags --libs ringkernel) -lpthread -o "$out/$example"
done

echo '--- hello'
"$out/hello"
echo '--- wordcount examples-c/text.txt'
"$out/wordcount" "$here/examples-c/text.txt"
echo '--- latency 20000'
"$out/latency" 20000
