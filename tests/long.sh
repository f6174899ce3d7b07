#!/bin/sh
# long.sh [SECTION...]: what takes too long for every change. Sections: asan tsan valgrind fuzz kills
# faults structure openblas noblas cpu arm; all of them without arguments. A line an item, "N passed, N failed, N
# skipped" at the end, 1 if anything failed. FUZZ_SECONDS (60) a fuzzer, KILLS (50) a number of
# threads, SWEEP_SECONDS (1200; FULL=1: all trials) of failing calls, MUTANTS (3000) of structure.
cd "$(dirname "$0")/.." || exit 1
export OMP_WAIT_POLICY=passive
jobs=$(nproc)
passed=0 failed=0 skipped=0
log=$(mktemp)
trap 'rm -f "$log"' EXIT

skip() {
    skipped=$((skipped + 1))
    printf '%-64s SKIPPED: %s\n' "$1" "$2"
}

# item NAME COMMAND...: passes if the command does; shows its end if not
item() {
    what=$1
    shift
    began=$(date +%s)
    printf '%-64s ' "$what"
    if "$@" >"$log" 2>&1; then
        passed=$((passed + 1))
        printf 'passed  %4d s\n' $(($(date +%s) - began))
    else
        failed=$((failed + 1))
        printf 'FAILED  %4d s\n' $(($(date +%s) - began))
        grep -v '^\[ *OK\|^\[ RUN' "$log" | tail -60
    fi
}

# build FOLDER VARIABLE=VALUE... TARGET...
build() {
    folder=$1
    shift
    make --no-print-directory -s -j"$jobs" BUILD="$folder" "$@"
}

asan() {
    item "build: gcc, address and undefined behaviour" \
        build build/asan-ub SAN=address,undefined OPT="-O1 -g" tests-built
    item "unit tests under both sanitizers" \
        env UBSAN_OPTIONS=halt_on_error=1:print_stacktrace=1 tests/run.sh build/asan-ub
}

# libomp tells Archer of its synchronization, so that its own waiting is no race
tsan() {
    command -v clang >/dev/null || { skip tsan "no clang"; return; }
    archer=$(find /usr/lib -name libarcher.so 2>/dev/null | head -1)
    [ -n "$archer" ] || { skip tsan "no libarcher.so (libomp-dev)"; return; }
    b=build/tsan
    item "build: clang, libomp, threads" build $b CC=clang SAN=thread OPT="-O1 -g" \
        $b/attar $b/tests/autograd/test_ops $b/tests/layers/test_transformer \
        $b/tests/datasets/test_loader $b/tests/experiments/test_stage_train
    for t in autograd/test_ops layers/test_transformer datasets/test_loader \
        experiments/test_stage_train; do
        item "threads: $t" env ATTAR_GEMM=own OMP_NUM_THREADS=4 OMP_TOOL_LIBRARIES="$archer" \
            TSAN_OPTIONS=halt_on_error=1:ignore_noninstrumented_modules=1 $b/tests/$t
    done
}

valgrind_() {
    command -v valgrind >/dev/null || { skip valgrind "it is not installed"; return; }
    b=build/release
    item "build: release" build $b tests-built
    for t in autograd/test_ops layers/test_transformer datasets/test_corpus datasets/test_h5file \
        datasets/test_tokenizer experiments/test_metrics experiments/test_config; do
        item "valgrind: $t" env ATTAR_CPU=avx2 ATTAR_GEMM=own OMP_NUM_THREADS=2 valgrind \
            -q --error-exitcode=9 --errors-for-leak-kinds=definite --leak-check=full $b/tests/$t
    done
}

# folders with inputs to start from
seeds() {
    case $1 in
    fuzz_config) echo experiments/configs ;;
    *) [ ! -d "tests/fuzz/${1#fuzz_}" ] || echo "tests/fuzz/${1#fuzz_}" ;;
    esac
}

fuzz() {
    pkgs="yaml-0.1 libpcre2-8 libxxhash jansson liblzma libcrypto libutf8proc hdf5-serial"
    command -v clang >/dev/null || { skip fuzz "no clang"; return; }
    b=build/fuzz san=address,undefined
    item "build: clang, libFuzzer" build $b CC=clang SAN=fuzzer-no-link,$san OPT="-O1 -g" \
        $b/libattar.a
    for f in tests/fuzz/fuzz_*.c; do
        name=$(basename "$f" .c)
        mkdir -p "$b/$name.inputs"
        # shellcheck disable=SC2046
        item "build: $name" clang -std=c11 -O1 -g -I. -D_GNU_SOURCE -fopenmp \
            -fsanitize=fuzzer,$san $(pkg-config --cflags $pkgs) "$f" $b/libattar.a \
            $(pkg-config --libs $pkgs) -lopenblas -lm -lpthread -o "$b/$name"
        item "fuzz: $name, ${FUZZ_SECONDS:-60} s" "$b/$name" \
            -max_total_time="${FUZZ_SECONDS:-60}" -rss_limit_mb=3000 -timeout=20 \
            -print_final_stats=1 -artifact_prefix="$b/$name-" "$b/$name.inputs" $(seeds "$name")
        sed -n 's/^stat::number_of_executed_units: */    inputs: /p' "$log"
    done
}

kills() {
    item "build: release" build build/release tests-built
    for threads in 1 2; do
        item "kills: ${KILLS:-50}, $threads threads" tests/kills.sh "${KILLS:-50}" $threads
        grep '^[0-9]* kills\|^killed' "$log" | sed 's/^/    /'
    done
}

# a call of the C library fails, under each command; tests/faults/sweep.c says what must hold
faults() {
    b=build/release
    item "build: release" build $b $b/attar $b/tests/faults/sweep $b/tests/faults/shim.so
    item "faults: one call fails" $b/tests/faults/sweep $b/attar $b/tests/faults/shim.so
    grep '/.*/\|^trial\|trials, ' "$log" | sed 's/^/    /'
}

# files that contradict themselves, to the commands that read them; tests/faults/structure.c
structure() {
    b=build/release
    item "build: release" build $b $b/attar $b/tests/faults/structure
    item "structure: ${MUTANTS:-3000} mutants" $b/tests/faults/structure $b/attar
    grep '^mutant\|faults$' "$log" | sed 's/^/    /'
}

openblas() {
    item "build: release" build build/release tests-built
    for kind in pthread openmp serial; do
        folder=/usr/lib/$(gcc -print-multiarch)/openblas-$kind
        for t in autograd/test_gemm layers/test_transformer; do
            [ -e "$folder/libopenblas.so.0" ] || { skip "OpenBLAS $kind: $t" "not installed"; continue; }
            [ -e build/release/tests/$t ] || { skip "OpenBLAS $kind: $t" "there is no such test"; continue; }
            item "OpenBLAS $kind: $t" env LD_LIBRARY_PATH="$folder" ATTAR_GEMM=openblas \
                build/release/tests/$t
        done
    done
}

cpu() {
    item "build: release" build build/release tests-built
    for level in scalar avx2 avx512; do
        grep -q "$(echo $level | sed 's/avx512/avx512f/; s/scalar/flags/')" /proc/cpuinfo ||
            { skip "unit tests, ATTAR_CPU=$level" "this CPU has none"; continue; }
        item "unit tests, ATTAR_CPU=$level" env ATTAR_CPU=$level tests/run.sh build/release
        tail -1 "$log" | sed 's/^/    /'
    done
}

# aarch64 under qemu, on a CPU with products of bf16 and on one without
arm() {
    root=build/arm/root
    make --no-print-directory -s "$PWD/$root" >"$log" 2>&1 ||
        { skip arm "no compiler, qemu or packages: $(tail -1 "$log")"; return; }
    item "aarch64: build, unit tests" make --no-print-directory arm
    tail -1 "$log" | sed 's/^/    /'
    for t in test_cpu test_gemm_bf16 test_linear_bf16; do
        item "aarch64 without bf16: $t" env RUNNER=qemu-aarch64 QEMU_CPU=cortex-a72 \
            QEMU_LD_PREFIX=$root sh -c "ulimit -v 8388608; qemu-aarch64 build/arm/tests/autograd/$t"
    done
}

# A build without OpenBLAS
noblas() {
    item "build: NO_BLAS=1" build build/release-noblas NO_BLAS=1 tests-built
    item "unit tests without OpenBLAS" tests/run.sh build/release-noblas
    tail -1 "$log" | sed 's/^/    /'
}

for section in ${*:-asan tsan valgrind fuzz kills faults structure openblas noblas cpu arm}; do
    echo "== $section"
    case $section in
    valgrind) valgrind_ ;;
    asan | tsan | fuzz | kills | faults | structure | openblas | noblas | cpu | arm) $section ;;
    *) echo "no section '$section'"; exit 1 ;;
    esac
done
echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" -eq 0 ] && [ "$passed" -gt 0 ]
