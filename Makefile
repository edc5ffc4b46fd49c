# libringkernel: `make demo` shows it, `make test` proves it, `make install PREFIX=...` installs it.
# Everything that is built goes below target/ (cargo) and build/.

VERSION := $(shell sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)
MAJOR := $(firstword $(subst ., ,$(VERSION)))
PREFIX ?= /usr/local
LIBDIR ?= $(PREFIX)/lib
INCLUDEDIR ?= $(PREFIX)/include
DOCDIR ?= $(PREFIX)/share/doc/ringkernel
DESTDIR ?=
CARGO ?= cargo
BUILD := $(CURDIR)/build
STAGE := $(BUILD)/prefix
RELEASE := $(CURDIR)/target/release
# What a static library of Rust needs from the system; tests/package.sh links with exactly this.
PRIVATE_LIBS := -lpthread -ldl -lm -lrt -lgcc_s -lutil

.PHONY: all library install uninstall stage demo test setup-demo setup-test bench bench-quick header soak clean help

all: library

help:
	@echo 'make demo     set up, build, run the C examples'
	@echo 'make test     set up, build, run every test'
	@echo 'make          build the library (target/release)'
	@echo 'make install  PREFIX=$(PREFIX) DESTDIR=$(DESTDIR)'
	@echo 'make bench    what a message costs, beside goals, bare rings and other actors of the same run'
	@echo 'make bench-quick  the same without other libraries, shorter'
	@echo 'make soak     ten million round trips, a hundred million messages through two kernels'
	@echo 'make header   write include/ringkernel.h anew from the source'

library:
	$(CARGO) build --release --lib

setup-demo:
	@tests/setup.sh demo

setup-test:
	@tests/setup.sh test

# Relative, so that an installed tree can be moved.
install: library
	mkdir -p '$(DESTDIR)$(LIBDIR)/pkgconfig' '$(DESTDIR)$(LIBDIR)/cmake/ringkernel' \
	  '$(DESTDIR)$(INCLUDEDIR)' '$(DESTDIR)$(DOCDIR)'
	install -m 755 target/release/libringkernel.so '$(DESTDIR)$(LIBDIR)/libringkernel.so.$(VERSION)'
	ln -sf 'libringkernel.so.$(VERSION)' '$(DESTDIR)$(LIBDIR)/libringkernel.so.$(MAJOR)'
	ln -sf 'libringkernel.so.$(MAJOR)' '$(DESTDIR)$(LIBDIR)/libringkernel.so'
	install -m 644 target/release/libringkernel.a '$(DESTDIR)$(LIBDIR)/libringkernel.a'
	install -m 644 include/ringkernel.h include/ringkernel_device.cuh '$(DESTDIR)$(INCLUDEDIR)'
	sed -e 's|@VERSION@|$(VERSION)|g' -e 's|@PRIVATE_LIBS@|$(PRIVATE_LIBS)|g' \
	  cmake/ringkernel.pc.in > '$(DESTDIR)$(LIBDIR)/pkgconfig/ringkernel.pc'
	sed -e 's|@VERSION@|$(VERSION)|g' -e 's|@MAJOR@|$(MAJOR)|g' \
	  -e 's|@PRIVATE_LIBS@|$(PRIVATE_LIBS:-l%=%)|g' \
	  cmake/ringkernelConfig.cmake.in > '$(DESTDIR)$(LIBDIR)/cmake/ringkernel/ringkernelConfig.cmake'
	sed -e 's|@VERSION@|$(VERSION)|g' cmake/ringkernelConfigVersion.cmake.in \
	  > '$(DESTDIR)$(LIBDIR)/cmake/ringkernel/ringkernelConfigVersion.cmake'
	install -m 644 README.md docs/cuda.md LICENSE LICENSE-APACHE LICENSE-MIT '$(DESTDIR)$(DOCDIR)'

uninstall:
	rm -f '$(DESTDIR)$(LIBDIR)'/libringkernel.so* '$(DESTDIR)$(LIBDIR)/libringkernel.a' \
	  '$(DESTDIR)$(INCLUDEDIR)/ringkernel.h' '$(DESTDIR)$(INCLUDEDIR)/ringkernel_device.cuh' \
	  '$(DESTDIR)$(LIBDIR)/pkgconfig/ringkernel.pc'
	rm -rf '$(DESTDIR)$(LIBDIR)/cmake/ringkernel' '$(DESTDIR)$(DOCDIR)'

stage: library
	@rm -rf '$(STAGE)'
	@$(MAKE) --no-print-directory install PREFIX='$(STAGE)' DESTDIR= > /dev/null

demo: setup-demo
	@$(MAKE) --no-print-directory stage
	@tests/demo.sh '$(STAGE)' '$(BUILD)/demo'

test: setup-test
	@tests/all.sh '$(STAGE)' '$(BUILD)'

bench: stage
	@benches/run.sh '$(STAGE)' '$(BUILD)/bench'

# In two minutes, without the peers.
bench-quick: stage
	@RK_BENCH_SCALE=0.3 RK_BENCH_ROUNDS=5 RK_BENCH_PEERS=0 benches/run.sh '$(STAGE)' '$(BUILD)/bench'

soak: stage
	@mkdir -p '$(BUILD)'
	$(CC) -std=c99 -O2 -I include -I tests/c tests/c/soak.c -o '$(BUILD)/soak' -L '$(STAGE)/lib' -lringkernel -lpthread
	LD_LIBRARY_PATH='$(STAGE)/lib' '$(BUILD)/soak'
	$(CC) -std=c99 -O2 -I include -I tests/c tests/c/soak_streams.c -o '$(BUILD)/soak_streams' -L '$(STAGE)/lib' -lringkernel -lpthread
	LD_LIBRARY_PATH='$(STAGE)/lib' '$(BUILD)/soak_streams' 100000000

header:
	RK_WRITE_HEADER=1 $(CARGO) test --test header

clean:
	rm -rf build
	$(CARGO) clean
