#!/bin/sh
# The one list of tools that `make demo` and `make test` need: tests/setup.sh demo|test
# Installs what is missing with apt-get when it may, else says what is missing.
set -eu

what=${1:-test}
rust_minimum=1.88

# command:package
demo_tools="cc:gcc pkg-config:pkg-config readelf:binutils"
test_tools="$demo_tools gcc:gcc g++:g++ clang:clang clang++:clang cmake:cmake make:make valgrind:valgrind nm:binutils python3:python3"
# pkg-config's module:package; the demo does without.
test_modules="libuv:libuv1-dev"

tools=$demo_tools
modules=""
[ "$what" = demo ] || { tools=$test_tools && modules=$test_modules; }

packages=""
for tool in $tools; do
  command -v "${tool%%:*}" > /dev/null 2>&1 || packages="$packages ${tool##*:}"
done
for module in $modules; do
  pkg-config --exists "${module%%:*}" 2> /dev/null || packages="$packages ${module##*:}"
done
# gcc alone does not bring the headers of the C library.
[ -e /usr/include/stdio.h ] || packages="$packages libc6-dev"
packages=$(printf '%s\n' $packages | sort -u | tr '\n' ' ')
packages=${packages# }
packages=${packages% }

if [ -n "$packages" ]; then
  if [ "$(id -u)" -eq 0 ] && command -v apt-get > /dev/null 2>&1; then
    echo "installing: $packages"
    export DEBIAN_FRONTEND=noninteractive
    apt-get update -qq
    # shellcheck disable=SC2086  # packages are words
    apt-get install -y -qq --no-install-recommends $packages > /dev/null
  else
    echo "missing: $packages" >&2
    echo "install these packages (on Debian: apt-get install $packages) and run this again" >&2
    exit 1
  fi
fi

if ! command -v cargo > /dev/null 2>&1; then
  echo "missing: Rust $rust_minimum or newer, with cargo (see rust-lang.org)" >&2
  exit 1
fi
version=$(rustc --version | cut -d' ' -f2)
if [ "$(printf '%s\n%s\n' "$rust_minimum" "${version%%-*}" | sort -V | head -n 1)" != "$rust_minimum" ]; then
  echo "Rust $version is older than $rust_minimum" >&2
  exit 1
fi
if [ "$what" = test ]; then
  for component in fmt clippy; do
    if ! cargo "$component" --version > /dev/null 2>&1; then
      if command -v rustup > /dev/null 2>&1; then
        rustup component add "$([ $component = fmt ] && echo rustfmt || echo clippy)"
      else
        echo "missing: cargo $component" >&2
        exit 1
      fi
    fi
  done
fi
