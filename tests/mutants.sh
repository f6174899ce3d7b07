#!/bin/sh
# Plants the bugs of tests/mutants.txt, one at a time, in a copy of the tree and runs the tests that
# should see them. A mutant is killed if one of them fails; one that does not compile, or whose text
# is not found exactly once, is invalid. Ends with the sum, and 1 unless every mutant was killed.
#   tests/mutants.sh [PATTERN]     only those whose name matches (grep -E)
# MUTANTS_DIR: a folder to work in that is kept, so that the next run builds less.
set -u
cd "$(dirname "$0")/.." || exit 2
work=${MUTANTS_DIR:-$(mktemp -d)}
mkdir -p "$work/tree"
planted=''
restore() {
    [ -z "$planted" ] || { cat "$work/saved" >"$planted"; touch "$planted"; }
    planted=''
}
trap 'restore; [ -n "${MUTANTS_DIR:-}" ] || rm -rf "$work"' EXIT
trap 'exit 130' INT TERM
ATTAR_DATA=$(cd "${ATTAR_DATA:-../shared/data}" 2>/dev/null && pwd)
ATTAR_BIN=$work/tree/build/attar
OMP_WAIT_POLICY=passive
export ATTAR_DATA ATTAR_BIN OMP_WAIT_POLICY
{ git ls-files -co --exclude-standard 2>/dev/null || find . -type f -not -path './build/*'; } |
    while read -r f; do
        [ ! -f "$f" ] || cmp -s "$f" "$work/tree/$f" && continue
        mkdir -p "$work/tree/$(dirname "$f")"
        cp "$f" "$work/tree/$f"
        [ ! -x "$f" ] || chmod +x "$work/tree/$f"
    done
pattern=${1:-.}
table=$PWD/tests/mutants.txt
cd "$work/tree" || exit 2

build() { make -s -j"$(nproc)" BUILD=build OPT=-O1 build/attar "$@" >"$work/log" 2>&1; }

# programs TEST ...: what to run, `*` for all
programs() {
    if [ "$1" = '*' ]; then
        find tests -name 'test_*.c' | sort | sed 's|\(.*\)\.c|build/\1|'
    else
        for t in "$@"; do echo "build/tests/$t"; done
    fi
}

# 0: all pass; else $failing is the first that does not. A program ends at its first failure: by
# SIGPIPE, when it reports the next test.
passes() {
    for failing in "$@"; do
        { timeout "${MUTANTS_TIMEOUT:-120}" "$failing" 2>&1; echo "status $?"; } |
            awk -v out="$work/out" '{ print >out } /^\[  FAILED  \]/ { exit } /^status 0$/ { good = 1 }
                                    END { exit !good }' || return 1
    done
}

# plant FILE FROM TO: 0; 1: FROM is not there exactly once
plant() {
    FROM=$2 TO=$3 awk 'BEGIN { from = ENVIRON["FROM"]; to = ENVIRON["TO"] }
        { at = index($0, from)
          if (at) { n++; rest = substr($0, at + length(from)); if (index(rest, from)) n++
                    $0 = substr($0, 1, at - 1) to rest }
          print }
        END { exit n != 1 }' "$1" >"$work/mutated" || return 1
    cp "$1" "$work/saved"
    planted=$1
    cat "$work/mutated" >"$1"
}

killed=0 survived=0 invalid=0 skipped=0
verdict() { printf '%-9s %s%s\n' "$1" "$name" "${2:+  ($2)}"; }

# a machine without the instruction set cannot run the code that the bug is in
runnable() { [ -z "$needs" ] || grep -qw "$needs" /proc/cpuinfo; }

mutant() {
    if ! runnable; then
        skipped=$((skipped + 1)); verdict skipped "this processor has no $needs"; return
    fi
    if ! plant "$file" "$from" "$to"; then
        invalid=$((invalid + 1)); verdict INVALID "its text is not found exactly once in $file"; return
    fi
    set -f
    list=$(programs $tests)
    if ! build $list; then
        invalid=$((invalid + 1)); verdict INVALID "it does not compile: $(grep -m1 -E 'error|No rule' "$work/log")"
    elif passes $list; then
        survived=$((survived + 1)); verdict SURVIVED "$tests"
    else
        killed=$((killed + 1)); verdict killed "${failing#build/tests/}"
    fi
    set +f
    restore
}

echo "building the tree, and checking that its tests pass without mutants"
all=$(sed -n 's/^bug  //p; s/^test /\t/p' "$table" | awk -v pattern="$pattern" '
    /^\t/ { if (wanted) print; next } { wanted = $0 ~ pattern }' | tr -s '\t ' '\n' | sort -u)
set -f
for t in $all; do
    [ "$t" = '*' ] || [ -f "tests/$t.c" ] || { echo "tests/$t.c, named in the table, is missing"; exit 2; }
done
base=$(programs $(echo "$all" | grep -vFx '*'))
build $base || { cat "$work/log"; exit 2; }
passes $base || { cat "$work/out"; echo "$failing fails without a mutant"; exit 2; }
set +f

name='' needs=''
while IFS= read -r line; do
    case $line in
    'bug  '*) name=${line#bug  } needs='' ;;
    'file '*) file=${line#file } ;;
    'from '*) from=${line#from } ;;
    'to   '*) to=${line#to   } ;;
    'cpu  '*) needs=${line#cpu  } ;;
    'test '*)
        tests=${line#test }
        if echo "$name" | grep -qE -- "$pattern"; then mutant </dev/null; fi ;;
    '' | '#'*) ;;
    *) echo "tests/mutants.txt: not understood: $line"; exit 2 ;;
    esac
done <"$table"
echo "$killed killed, $survived survived, $invalid invalid, $skipped skipped"
[ $survived = 0 ] && [ $invalid = 0 ] && [ $killed -gt 0 ]
