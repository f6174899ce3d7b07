#!/bin/sh
# Runs the unit tests of each build folder given, a line a program: its name when it starts, what passed and
# its seconds when it ends; what fails is shown whole. Ends with what was skipped and why, the sum "N passed,
# N failed, N skipped", and 1 if anything failed. TESTS: folders of tests/ (all); RUNNER: what runs programs of
# another machine; SECONDS_EACH (300) a program.
export OMP_WAIT_POLICY="${OMP_WAIT_POLICY:-passive}"
export ASAN_OPTIONS="${ASAN_OPTIONS:-detect_leaks=1:allocator_may_return_null=1}"
passed=0 failed=0 skipped=0 done=0
aside=$(mktemp -d)
trap 'rm -rf "$aside"' EXIT
log=$aside/log
for build in "$@"; do
    find $(printf "$build/tests/%s " $TESTS) -name 'test_*' -type f -perm -u+x | sort | sed "s|^|$build |"
done >"$aside/list"
total=$(wc -l <"$aside/list")

# "TEST: reason" for each skipped test of the log: the last line that says so before cmocka does; and for what
# a test that passed has left out, with "in part". Below its sum cmocka lists the names once more.
reasons() {
    awk '/^\[==========\].* run\.$/ { exit }
         /^\[ RUN      \] / { why = ""; next }
         /^\[  SKIPPED \] [a-zA-Z_]/ { print $4 ": " (why == "" ? "no reason given" : why); next }
         /^\[       OK \] / { if (why != "") print $4 " in part: " why; next }
         tolower($0) ~ /skipped/ { line = $0; sub(/: *skipped$/, "", line); sub(/^SKIPPED:? */, "", line)
                                   if (!index(why, line)) why = why (why == "" ? "" : "; ") line }' "$log"
}

while read -r build t; do
    [ "$build" = "${at:-}" ] || echo "== $build"
    at=$build name=${t#"$build"/tests/} done=$((done + 1))
    printf '%3d of %d  %-44s' $done "$total" "$name"
    began=$(date +%s)
    ATTAR_BIN="$PWD/$build/attar" timeout "${SECONDS_EACH:-300}" $RUNNER "$t" >"$log" 2>&1 </dev/null
    status=$?
    ok=$(sed -n 's/^\[  PASSED  \] \([0-9]*\) test(s).*/\1/p' "$log" | tail -1)
    bad=$(sed -n 's/^\[  FAILED  \] \([0-9]*\) test(s).*/\1/p' "$log" | tail -1)
    reasons | sed "s|^|$name: |" >"$aside/here"
    cat "$aside/here" >>"$aside/skipped"
    off=$(grep -vc ' in part: ' "$aside/here")
    [ $status -ne 0 ] && [ "${bad:-0}" -eq 0 ] && bad=1
    passed=$((passed + ${ok:-0})) failed=$((failed + ${bad:-0})) skipped=$((skipped + off))
    printf '%4d s  %s passed' $(($(date +%s) - began)) "${ok:-0}"
    [ "$off" -gt 0 ] && printf ', %s skipped' "$off"
    [ "${bad:-0}" -gt 0 ] && printf ', %s FAILED (exit status %s)' "$bad" "$status"
    echo
    [ "${bad:-0}" -gt 0 ] && cat "$log"
done <"$aside/list"
[ -s "$aside/skipped" ] && { echo "skipped:"; sed 's/^/  /' "$aside/skipped"; }
echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" -eq 0 ] && [ "$passed" -gt 0 ]
