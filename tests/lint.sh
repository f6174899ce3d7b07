#!/bin/sh
# What the compiler does not enforce: who may include whom, warnings of both compilers, widths and
# lengths, layout, names, config fields without a reader. A line a check, what is wrong below it; ends with
# the sum and 1 if a check failed. Flags come from the Makefile.   tests/lint.sh [CHECK ...]
cd "$(dirname "$0")/.." || exit 2
export LC_ALL=C
aside=$(mktemp -d)
trap 'rm -rf "$aside"' EXIT
passed=0 failed=0 skipped=0
only=" $* "

product=$(find autograd layers optim compress datasets experiments -name '*.[ch]' | sort)
tests=$(find tests -name '*.[ch]' | sort)
code="$product $tests"
tables=$(find autograd layers optim compress datasets experiments tests -name '*.def' | sort)
scripts=$(find tests -name '*.sh' | sort; [ -d .ci ] && find .ci -type f)
everything="$code $tables $scripts Makefile $(find tests -name '*.py' | sort)"

# check NAME FUNCTION: the function prints what is wrong, nothing if all is well; 77 and a line: skipped
check() {
    [ "$only" = "  " ] || case $only in *" $2 "*) ;; *) return ;; esac
    "$2" >"$aside/out" 2>&1
    status=$?
    if [ $status = 77 ]; then
        skipped=$((skipped + 1))
        printf '%-58s SKIPPED: %s\n' "$1" "$(cat "$aside/out")"
    elif [ ! -s "$aside/out" ]; then
        passed=$((passed + 1))
        printf '%-58s ok\n' "$1"
    else
        failed=$((failed + 1))
        printf '%-58s FAILED\n' "$1"
        sed 's/^/    /' "$aside/out" | head -60
    fi
}

# autograd/base <- autograd <- {layers, optim, compress, datasets} <- experiments
includes() {
    awk 'function layer(path, part) {
             split(path, part, "/")
             return part[1] "/" part[2] == "autograd/base" ? "base" : part[1] }
         BEGIN { rank["base"] = 1; rank["autograd"] = 2; rank["experiments"] = 4
                 rank["layers"] = rank["optim"] = rank["compress"] = rank["datasets"] = 3 }
         /^[ \t]*#[ \t]*include[ \t]*"/ {
             split($0, quoted, "\""); to = layer(quoted[2]); from = layer(FILENAME)
             where = FILENAME ":" FNR ": "
             if (!(to in rank)) print where quoted[2] ": not written from the root"
             else if (rank[to] > rank[from]) print where quoted[2] ": lies above " from
             else if (rank[to] == rank[from] && to != from) print where quoted[2] ": lies beside " from }' $product
    for f in $code $tables; do
        sed -n 's/^[ \t]*#[ \t]*include[ \t]*"\(.*\)".*/\1/p' "$f" | while read -r to; do
            [ -f "$to" ] || echo "$f: $to: no such file from the root"
        done
    done
}

# but not the templates, <family>_vec.h, which each instruction set includes anew
guards() {
    for h in $(echo "$product" | grep '\.h$' | grep -v '_vec\.h$'); do
        guard=ATTAR_$(echo "$h" | tr 'a-z/.' 'A-Z__')
        grep -q "^#ifndef $guard\$" "$h" && grep -q "^#define $guard\$" "$h" || echo "$h: guard is not $guard"
    done
}

# The text that each mutant replaces stands exactly once in its file, and its tests are there.
mutants() {
    awk 'function find(file, text,    line, n, at) {
             while ((getline line < file) > 0)
                 while ((at = index(line, text))) { n++; line = substr(line, at + length(text)) }
             close(file)
             return n + 0 }
         { key = substr($0, 1, 5); text = substr($0, 6) }
         key == "bug  " { bug = text }
         key == "file " { file = text }
         key == "from " { n = find(file, text); if (n != 1) print bug ": found " n " times in " file }
         key == "test " { split(text, named, " ")
                          for (i in named) if (named[i] != "*") {
                              t = "tests/" named[i] ".c"
                              if ((getline line < t) <= 0) print bug ": there is no " t
                              close(t) } }' tests/mutants.txt
}

# A line "CC flags -c FILE -o OBJECT" for every .c file, as make would run it.
commands() {
    make -Bn CC="$1" BUILD="$aside/build" $(echo "$code" | tr ' ' '\n' | sed -n "s|\(.*\)\.c\$|$aside/build/\1.o|p") |
        grep -- ' -c '
}

# compile CC FLAGS: the warnings of every .c file, two at a time
compile() {
    commands "$1" | sed "s|-MMD -MP||; s| -O[0-3s]| $2|; s|\$| -Werror|" |
        tr '\n' '\0' | xargs -0 -P "$(nproc)" -n 1 sh -c 2>"$aside/warnings" >/dev/null
    grep -v '^make' "$aside/warnings"
}

# gcc up to assembly: some warnings come from its data flow, and the names check reads the symbols
gcc_warnings() {
    find . -name '*.c' -not -path './build/*' | sed "s|^\./||; s|/[^/]*\$||" | sort -u |
        while read -r folder; do mkdir -p "$aside/build/$folder"; done
    compile gcc "-O1 -S"
}

clang_warnings() {
    command -v clang >/dev/null || { echo "clang is not installed"; return 77; }
    compile clang "-O1 -fsyntax-only" | grep -v 'warnings\? generated'
}

widths() {
    awk '{ s = $0; gsub(/[\200-\277]/, "", s) } length(s) > 100 { print FILENAME ":" FNR ": " length(s) " columns" }' \
        $code
}

lengths() {
    for f in $product; do
        n=$(wc -l <"$f")
        [ "$n" -le 500 ] || echo "$f: $n lines"
    done
}

blanks() {
    grep -nE '[ 	]+$' $everything
    grep -n '	' $code $tables
}

marks() {
    grep -nwE 'TODO|FIXME|XXX|HACK' $(echo "$everything" | tr ' ' '\n' | grep -v '^tests/lint\.sh$')
}

# nothing may depend on where somebody's machine keeps things
paths() {
    grep -nE '"/(home|root|work|Users|mnt|opt|usr/local)/|[ ="(]/(home|work|Users)/[a-z]' $everything | grep -v '^tests/lint\.sh:'
}

layout() {
    command -v clang-format >/dev/null || { echo "clang-format is not installed"; return 77; }
    clang-format --dry-run -Werror $code 2>&1 | grep ': error:'
}

# A public name starts with its file's stem, or with the noun of a family split over files (h5file_attr.c:
# h5file_). Other nouns that live in a file, each for a reason:
also="autograd/store.c:param    # autograd.h declares them together: a store is made of params,
autograd/tape.c:ctx             # and running an op or a segment is what the tape is for
optim/optimizer.c:optimizers    # the table itself
optim/optimizer.c:grad          # the norm of all gradients, which clipping needs
autograd/base/field.c:share     # struct share and struct ints are types of fields
autograd/base/field.c:ints
experiments/main_memory.c:malloc    # the C library's names
experiments/main_memory.c:calloc
experiments/main_memory.c:realloc
experiments/main_memory.c:memalign
experiments/main_memory.c:aligned_alloc
experiments/main_memory.c:posix_memalign
"

names() {
    ls "$aside"/build/autograd >/dev/null 2>&1 || gcc_warnings >/dev/null
    for c in $(echo "$product" | grep '\.c$'); do
        o=$aside/build/${c%.c}.o
        [ -f "$o" ] || continue
        sed -n 's/^[ \t]*\.globl[ \t]*//p' "$o" |
            awk -v file="$c" -v also="$also" '
                BEGIN { stem = file; sub(/.*\//, "", stem); sub(/\.c$/, "", stem)
                        while (stem != "") { ok[++n] = stem; if (!sub(/_[^_]*$/, "", stem)) break }
                        k = split(also, part, /[ ]*(#[^\n]*)?\n/)
                        for (i = 1; i <= k; i++)
                            if (index(part[i], file ":") == 1) ok[++n] = substr(part[i], length(file) + 2) }
                { for (i = 1; i <= n; i++) if ($1 == ok[i] || index($1, ok[i] "_") == 1) next
                  print file ": " $1 }'
    done
}

fields() {
    CC=gcc sh tests/lint_fields.sh >"$aside/fields" 2>&1 || { cat "$aside/fields"; return 1; }
}

shell() {
    for s in $scripts; do
        case $(head -1 "$s") in *bash*) bash -n "$s" ;; *sh*) sh -n "$s" ;; esac
        [ -x "$s" ] || case $s in *lint_fields.sh) ;; *) echo "$s: not executable" ;; esac
    done
    command -v shellcheck >/dev/null || return 0
    shellcheck -S warning $scripts
}

python() {
    for p in $(find tests -name '*.py'); do
        python3 -c 'import ast, sys; ast.parse(open(sys.argv[1]).read(), sys.argv[1])' "$p" 2>&1 | tail -1
    done
}

check "include order, paths from the root" includes
check "include guards" guards
check "gcc: no warnings" gcc_warnings
check "clang: no warnings" clang_warnings
check "names start with their file's noun" names
check "at most 100 columns" widths
check "at most 500 lines" lengths
check "no tabs, no trailing blanks" blanks
check "mutants find what they change" mutants
check "no marks of unfinished work" marks
check "no absolute paths" paths
check "clang-format" layout
check "every config field has a reader" fields
check "shell scripts parse (shellcheck where installed)" shell
check "Python scripts parse" python
[ $skipped = 0 ] && tail='' || tail=", $skipped skipped"
echo "$passed checks passed, $failed failed$tail"
[ $failed = 0 ]
