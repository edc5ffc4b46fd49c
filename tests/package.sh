#!/bin/sh
# The installed package, moved, as others use it: tests/package.sh OUTDIR
set -eu

out=$1
here=$(cd "$(dirname "$0")/.." && pwd)
rm -rf "$out"
mkdir -p "$out"
out=$(cd "$out" && pwd)
moved="$out/moved here"
passed=0
failed=0
version=$(sed -n 's/^version = "\(.*\)"/\1/p' "$here/Cargo.toml" | head -n 1)

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

install_and_move() {
  make -C "$here" --no-print-directory install PREFIX="$out/prefix" DESTDIR= && mv "$out/prefix" "$moved"
}
step "install, then move the prefix" install_and_move

lib="$moved/lib"
so="$lib/libringkernel.so.$version"
PKG_CONFIG_PATH="$moved/lib/pkgconfig"
LD_LIBRARY_PATH="$lib"
export PKG_CONFIG_PATH LD_LIBRARY_PATH

soname() {
  readelf -d "$so" | grep -F "SONAME" | grep -F "[libringkernel.so.${version%%.*}]"
}
nodelete() { readelf -d "$so" | grep -F NODELETE; }
# Only the contract's names leave the library.
exports() {
  nm -D --defined-only "$so" | awk '{print $3}' | grep -v '^rk_' > "$out/foreign" && { cat "$out/foreign"; return 1; }
  [ "$(nm -D --defined-only "$so" | grep -c ' T rk_')" -ge 70 ]
}
no_build_paths() {
  for path in "$here" "$out/prefix"; do
    if grep -rF "$path" "$lib/pkgconfig" "$lib/cmake" "$moved/include"; then return 1; fi
  done
}
same_header() {
  cmp "$here/include/ringkernel.h" "$moved/include/ringkernel.h" &&
    cmp "$here/include/ringkernel_device.cuh" "$moved/include/ringkernel_device.cuh"
}
links() {
  [ "$(readlink "$lib/libringkernel.so")" = "libringkernel.so.${version%%.*}" ] &&
    [ "$(readlink "$lib/libringkernel.so.${version%%.*}")" = "libringkernel.so.$version" ]
}
step "lesson 25: SONAME" soname
step "lesson 25: -z nodelete" nodelete
step "exports are the contract's" exports
step "no build path in the package" no_build_paths
step "the header is the repository's" same_header
step "soname links" links

# Static libraries of Rust need what rustc says, no less.
private_libs() {
  said=$(cd "$here" && touch src/lib.rs && cargo rustc --release --lib --crate-type staticlib -- --print native-static-libs 2>&1 |
    sed -n 's/.*native-static-libs: //p' | tr ' ' '\n' | sort -u)
  for library in $said; do
    case " $(pkg-config --libs-only-l --static ringkernel) -lc " in
      *" $library "*) ;;
      *) echo "$library is missing in Libs.private"; return 1 ;;
    esac
  done
}
step "Libs.private has what rustc says" private_libs

cmake_consumer() { # COMPILER TARGET DIR ARGS...
  compiler=$1 target=$2 dir=$3
  shift 3
  cmake -S "$here/tests/consumer" -B "$dir" -DCMAKE_C_COMPILER="$compiler" -DWANTED_TARGET="$target" \
    -DCMAKE_PREFIX_PATH="$moved" "$@" && cmake --build "$dir" && "$dir/consumer"
}
linked_by_soname() {
  readelf -d "$1/consumer" | grep -F NEEDED | grep -F "[libringkernel.so.${version%%.*}]"
}
not_linked() { ! readelf -d "$1/consumer" | grep -F libringkernel; }

for compiler in gcc clang; do
  step "cmake $compiler shared" cmake_consumer $compiler ringkernel::shared "$out/$compiler-shared"
  step "cmake $compiler shared is found by its soname" linked_by_soname "$out/$compiler-shared"
  step "cmake $compiler static" cmake_consumer $compiler ringkernel::static "$out/$compiler-static"
  step "cmake $compiler static needs no shared library" not_linked "$out/$compiler-static"
done
step "cmake default target" cmake_consumer gcc ringkernel::ringkernel "$out/default"
step "cmake default target, RINGKERNEL_STATIC" cmake_consumer gcc ringkernel::ringkernel "$out/default-static" -DRINGKERNEL_STATIC=ON
step "cmake RINGKERNEL_STATIC is static" not_linked "$out/default-static"
step "cmake this version" cmake_consumer gcc ringkernel::ringkernel "$out/version" -DWANTED_VERSION="${version%.*}"

wrong_version() {
  ! cmake -S "$here/tests/consumer" -B "$out/wrong" -DCMAKE_PREFIX_PATH="$moved" -DWANTED_VERSION="$1"
}
step "cmake a later version is not found" wrong_version 99.0
step "cmake another minor version is not found" wrong_version 0.0

# eval keeps the quotes of a path with a space.
pkg_config() { # COMPILER shared|static
  if [ "$2" = static ]; then
    private=$(pkg-config --libs-only-l --static ringkernel | sed 's/-lringkernel//')
    eval "$1 -std=c99 '$here/tests/consumer/main.c' $(pkg-config --cflags ringkernel) '$lib/libringkernel.a' $private -o '$out/pc-$1-$2'"
  else
    eval "$1 -std=c99 '$here/tests/consumer/main.c' $(pkg-config --cflags --libs ringkernel) -o '$out/pc-$1-$2'"
  fi
  "$out/pc-$1-$2"
}
for compiler in gcc clang; do
  step "pkg-config $compiler shared" pkg_config $compiler shared
  step "pkg-config $compiler static" pkg_config $compiler static
done

from_source() {
  cmake_consumer gcc ringkernel::ringkernel "$out/source" -DRINGKERNEL_SOURCE="$here" &&
    cmake_consumer gcc ringkernel::static "$out/source" -DRINGKERNEL_SOURCE="$here"
}
step "cmake FetchContent from source" from_source

# The program in the README works when it is pasted.
readme() {
  sed -n '/^```c$/,/^```$/p' "$here/README.md" | sed '1d;$d' > "$out/readme.c"
  [ "$(grep -c . "$out/readme.c")" -ge 20 ]
  eval "gcc -std=c99 -Wall -Wextra -Wpedantic -Werror '$out/readme.c' $(pkg-config --cflags --libs ringkernel) -o '$out/readme'"
  "$out/readme" | tee "$out/readme.out"
  grep -qx "HELLO, KERNEL" "$out/readme.out"
}
step "the README's program" readme

echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
