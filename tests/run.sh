#!/bin/sh
# Runs the unit tests of each build folder given, a line a program with its seconds; what fails is
# shown whole. Ends with the sum, "N passed, N failed, N skipped", and 1 if anything failed. TESTS:
# folders of tests/ (all); RUNNER: what runs programs of another machine; SECONDS_EACH (300) a program.
export OMP_WAIT_POLICY="${OMP_WAIT_POLICY:-passive}"
export ASAN_OPTIONS="${ASAN_OPTIONS:-detect_leaks=1:allocator_may_return_null=1}"
passed=0 failed=0 skipped=0
log=$(mktemp)
trap 'rm -f "$log"' EXIT
for build in "$@"; do
    echo "== $build"
    for t in $(find $(printf "$build/tests/%s " $TESTS) -name 'test_*' -type f -perm -u+x | sort); do
        began=$(date +%s)
        ATTAR_BIN="$PWD/$build/attar" timeout "${SECONDS_EACH:-300}" $RUNNER "$t" >"$log" 2>&1
        status=$?
        ok=$(sed -n 's/^\[  PASSED  \] \([0-9]*\) test(s).*/\1/p' "$log" | tail -1)
        bad=$(sed -n 's/^\[  FAILED  \] \([0-9]*\) test(s).*/\1/p' "$log" | tail -1)
        off=$(grep -c '^\[  SKIPPED \] [a-zA-Z]' "$log")
        [ $status -ne 0 ] && [ "${bad:-0}" -eq 0 ] && bad=1
        passed=$((passed + ${ok:-0})) failed=$((failed + ${bad:-0})) skipped=$((skipped + off))
        printf '%-50s %4d s  %s passed' "${t#"$build"/tests/}" $(($(date +%s) - began)) "${ok:-0}"
        [ "$off" -gt 0 ] && printf ', %s skipped' "$off"
        [ "${bad:-0}" -gt 0 ] && printf ', %s FAILED (exit status %s)' "$bad" "$status"
        echo
        [ "${bad:-0}" -gt 0 ] && cat "$log"
    done
done
echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" -eq 0 ] && [ "$passed" -gt 0 ]
