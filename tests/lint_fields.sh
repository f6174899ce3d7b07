#!/bin/sh
# A config field without a reader is an option without effect. In a copy of the config's header every
# member that a table names is marked deprecated; the compiler then names each use of it, exactly, in
# the sources of its folder but the config's own. Prints the members that nobody uses; exit status 1 if there are.
#   sh tests/lint_fields.sh [schema.c [header.h]]      CC and CFLAGS as in the Makefile
set -eu
schema=${1:-experiments/config_schema.c}
header=${2:-experiments/config.h}
aside=$(mktemp -d)
trap 'rm -rf "$aside"' EXIT
mkdir -p "$aside/$(dirname "$header")"

# "struct member" of each row: the tables say AT(member) between #defines of AT for one struct
awk '/^#define AT\(member\)/ { tag = $0; sub(/.*FIELD_AT\(/, "", tag); sub(/,.*/, "", tag); next }
     { line = $0
       while (match(line, /[{ ]AT\([a-z_0-9]+\)/)) {
           m = substr(line, RSTART, RLENGTH); gsub(/.*\(|\)/, "", m)
           print tag, m; line = substr(line, RSTART + RLENGTH) } }' "$schema" | sort -u > "$aside/rows"

# the header with one declaration a line, each of a row's marked; "struct member line" goes to `at`
awk -v rows="$aside/rows" -v at="$aside/at" '
    BEGIN { while ((getline r < rows) > 0) want[r] = 1 }
    function put(s) { print s; n++ }
    { sub(/\/\*.*\*\//, "")                            # comments of one line
      if ($0 ~ /^struct [a-z_]+ \{/) { tag = $2; inside = 1; put($0); next }
      if ($0 ~ /^\}/) inside = 0
      if (!inside || $0 !~ /;/) { put($0); next }
      decl = $0; sub(/;.*/, "", decl); sub(/^ +/, "", decl)
      k = split(decl, part, /, */)
      type = part[1]; sub(/\**[a-z_0-9]+(\[.*\])?$/, "", type)
      for (i = 1; i <= k; i++) {
          d = i == 1 ? substr(part[1], length(type) + 1) : part[i]
          name = d; gsub(/\*|\[.*\]/, "", name); gsub(/ /, "", name)
          mark = (tag " " name) in want
          put("    " type " " d (mark ? " __attribute__((deprecated))" : "") ";")
          if (mark) print tag, name, n > at
      } }' "$header" > "$aside/$header"

missing=$(awk '{ print $1, $2 }' "$aside/at" | sort -u | comm -3 - "$aside/rows")
if [ -n "$missing" ]; then
    echo "lint_fields: rows whose member was not found in $header:" >&2
    echo "$missing" >&2
    exit 2
fi

flags="-std=c11 -D_GNU_SOURCE -fsyntax-only -Wdeprecated-declarations -fopenmp"
flags="$flags $(pkg-config --cflags hdf5-serial jansson 2>/dev/null || true)"
own="^$(dirname "$header")/config[a-z_]*\.[ch]$"
sources=$(ls "$(dirname "$header")"/*.c | grep -v "$own") # no other folder may include it
for c in $sources; do
    ${CC:-cc} $flags -I"$aside" -I. $c 2>> "$aside/log" || { grep -A3 error: "$aside/log" >&2; exit 2; }
done

grep -o "$header:[0-9]*:[0-9]*: note:" "$aside/log" | cut -d: -f2 | sort -u > "$aside/used" || true
# read on behalf of the others by the config's own functions: these must be called, in their stead
indirect="config_train.tokens:config_steps config_train.steps:config_steps
config_train.epochs:config_steps config_train.micro_batch_tokens:config_micro_batch
config_stage.from:parent config_qat.teacher:teacher_path"
for pair in $indirect; do
    if grep -qw "${pair#*:}" $sources; then
        grep "^$(echo "${pair%:*}" | tr . ' ') " "$aside/at" | cut -d' ' -f3 >> "$aside/used"
    fi
done
unread=$(awk -v used="$aside/used" 'BEGIN { while ((getline l < used) > 0) seen[l] = 1 }
                                    !($3 in seen) { print "struct " $1 ": " $2 }' "$aside/at")
if [ -n "$unread" ]; then
    echo "lint_fields: config fields that nothing reads:" >&2
    echo "$unread" >&2
    exit 1
fi
echo "lint_fields: $(wc -l < "$aside/at") config fields, each has a reader"
