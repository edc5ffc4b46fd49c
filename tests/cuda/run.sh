#!/bin/sh
# The CUDA backend on a simulated driver: tests/cuda/run.sh LIBDIR INCLUDEDIR OUTDIR [FILTER]
# The device code runs as C++ on threads, everything else is the library as it is shipped. Needs no GPU and nothing of NVIDIA's.
set -eu

lib=$1
include=$2
out=$3
filter=${4:-}
here=$(cd "$(dirname "$0")" && pwd)
tests=$here/../c
sim=$out/sim
mkdir -p "$out"
passed=0
failed=0
skipped=0
warnings="-Wall -Wextra -Wpedantic -Wundef -Werror"

# step NAME COMMAND...: one line for what passes, all output of what fails. Skips inside are said and counted.
step() {
  name=$1
  shift
  case $name in *"$filter"*) ;; *) return 0 ;; esac
  began=$(date +%s)
  if "$@" > "$out/log" 2>&1; then
    passed=$((passed + 1))
    echo "ok $name ($(($(date +%s) - began)) s)"
    grep '^SKIP' "$out/log" | sort -u || true
    skipped=$((skipped + $(grep -c '^SKIP' "$out/log" || true)))
  else
    failed=$((failed + 1))
    echo "FAILED $name"
    cat "$out/log"
  fi
}

compile() { # COMPILER FLAGS PROGRAM OUTPUT
  # shellcheck disable=SC2086  # flags are words
  $1 $2 $warnings -g -O1 -I "$include" -I "$tests" "$tests/$3.c" -o "$out/$4" -L "$lib" -lringkernel -lpthread -ldl
}

# A small device with few blocks per program: every block is a thread here.
on_sim() { # VARIABLE=VALUE... PROGRAM ARGUMENT...
  timeout 600 env LD_LIBRARY_PATH="$sim:$lib" RK_CUDA_POOL_BLOCKS=4 CUDA_MODULE_LOADING=EAGER "$@"
}
# A program that knows nothing of GPUs, its handlers called by simulated blocks. They may call the host's API and so wait for another kernel, as device
# code cannot: each kernel needs a stream of its own for that.
preloaded() { # SKIPS PROGRAM
  skips=$1
  shift
  on_sim RKSIM_PROGRAMS=1 RK_CUDA_LOAD_BESIDE=1 RKSIM_SMS=8 RKSIM_BLOCKS_PER_SM=64 RK_CUDA_POOL_BLOCKS=2 RK_CUDA_HANDLER_LIMIT_MS=0 RK_CUDA_STREAMS=64 RK_TEST_SLOW=1 \
    RK_TEST_SKIP="$skips" LD_PRELOAD="$sim/libcuda.so.1" "$@"
}

# With a filter that leaves the step out it is needed all the same: without it the suites would run on the CPU.
case "the simulated driver builds" in *"$filter"*) ;; *) [ -e "$sim/libcuda.so.1" ] || "$here/sim/build.sh" "$sim" ;; esac
step "the simulated driver builds" "$here/sim/build.sh" "$sim"
for program in one_conformance cuda_failure cuda_driver cuda_checkpoint cuda_routes; do
  step "compile $program gcc-c99" compile gcc "-std=c99 -Wstrict-prototypes" "$program" "$program"
  step "compile $program clang-c++11" compile clang++ "-std=c++11 -x c++" "$program" "$program.cxx"
done

without() { timeout 100 env LD_LIBRARY_PATH="$lib" "$out/cuda_driver" none; }
step "no driver" without
step "no device" on_sim RKSIM_DEVICES=0 "$out/cuda_driver" no-device
step "a device too old" on_sim RKSIM_CAPABILITY=60 "$out/cuda_driver" weak
step "a driver too old" on_sim LD_LIBRARY_PATH="$sim/ancient:$lib" "$out/cuda_driver" ancient
step "a driver that does not start" on_sim RKSIM_FAIL='cuInit@1=999,cuInit@2=999,cuInit@3=999' "$out/cuda_driver" broken
step "an old driver" on_sim LD_LIBRARY_PATH="$sim/old:$lib" "$out/cuda_driver" old
step "a driver that loads lazily" on_sim CUDA_MODULE_LOADING=LAZY "$out/cuda_driver" lazy
step "a display's device" on_sim RKSIM_WATCHDOG=1 "$out/cuda_driver" watchdog
step "a crowded device" on_sim RKSIM_HANG_LAUNCH=1 "$out/cuda_driver" crowded
step "failures" on_sim RK_TEST_SLOW=1 "$out/cuda_failure"
step "checkpoints between backends" on_sim "$out/cuda_checkpoint"
step "routes and idleness" on_sim "$out/cuda_routes"
on_cpu() { timeout 300 env LD_LIBRARY_PATH="$lib" RK_TEST_BACKEND=cpu "$out/one_conformance"; }
step "one source on the CPU" on_cpu
step "one source on the device" on_sim RK_TEST_BACKEND=cuda "$out/one_conformance"

# What is about functions of the host: on_start and on_stop, handlers that call the host's API or ask which thread
# they are on, the shared workers.
starts=starts_and_stops_come_in_pairs_around_the_messages,a_start_that_fails_fails_the_kernel
starts=$starts,starts_and_stops_may_emit_and_have_nothing_to_answer
starts=$starts,starts_and_stops_may_call_other_kernels_but_not_wait_for_their_own
starts=$starts,starts_and_stops_come_in_pairs_around_restarts,a_start_that_fails_in_a_drain_is_not_tried_again
starts=$starts,a_start_that_fails_counts_as_a_failure
host=what_would_wait_for_its_own_handler_is_refused,a_handler_does_not_wait_for_events_of_its_runtime,a_handler_does_not_wait_for_room_or_messages_of_its_own_kernel
host=$host,signals_are_blocked_on_the_librarys_threads_and_left_alone_on_others
host=$host,terminate_discards_any_number_of_messages_while_every_worker_is_stuck
host=$host,no_thread_runs_before_a_runtime_is_created,lesson_20_runtimes_that_come_and_go_leave_no_memory_behind
host=$host,a_context_of_before_names_nothing
starts=$starts,a_start_finds_what_was_restored
host=$host,inside_its_own_handler_it_would_deadlock,two_handlers_that_would_wait_for_each_other_are_told,a_call_from_a_handler_is_on_the_way
# Blocks of an event-driven kernel that got their messages during a launch wait for the next.
batches=a_pause_waits_for_every_block_and_blocks_run_side_by_side
# When a handler on a device ends is known here some time later.
batches=$batches,the_current_message_alone_can_be_too_late
for suite in conformance_message conformance_call conformance_handler conformance_lifecycle conformance_metrics \
  conformance_nested conformance_batch conformance_counts conformance_process conformance_reentry conformance_route \
  conformance_shutdown conformance_state conformance_time conformance_end conformance_events conformance_restart conformance_pipeline \
  conformance_checkpoint conformance_clock conformance_deadline cuda_idle stress_events; do
  step "compile $suite" compile gcc "-std=c99 -Wstrict-prototypes" "$suite" "$suite"
  step "on the device: $suite" preloaded "$starts,$host,$batches" "$out/$suite"
done

echo "$passed passed, $failed failed, $skipped tests skipped that are about the host or about blocks side by side"
[ "$failed" -eq 0 ]
