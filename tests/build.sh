#!/bin/sh
# build.sh [VARIABLE=VALUE ...] TARGET ...: make on all processors, without its commands but with its progress: on a
# terminal one line that counts, elsewhere a line for every 25 files. Warnings and errors stay; the exit status is
# make's. MAKE: the program. `make -s` stays silent.
make=${MAKE:-make}
jobs=$(nproc)
each=25
total=$($make --no-print-directory -n "$@" 2>/dev/null | grep -c -- ' -o ')
where=
for word in "$@"; do
    case $word in BUILD=*) where=" in ${word#BUILD=}" ;; esac
done
[ "$total" -eq 0 ] || echo "building $total files$where, $jobs at a time"

count() {
    n=0
    while IFS= read -r line; do
        case $line in
        *' -o '*)
            n=$((n + 1))
            if [ -t 4 ]; then
                printf '\r\033[K%d of %d  %s' $n "$total" "${line##* -o }" >&4
            elif [ $((n % each)) = 0 ] && [ $n -lt "$total" ]; then
                echo "$n of $total files" >&4
            fi ;;
        'rm '* | 'mkdir '* | "${AR:-ar} "* | 'cmp '* | *'othing to be done'*) ;;
        *) echo "$line" >&4 ;;
        esac
    done
    [ $n = 0 ] || [ ! -t 4 ] || printf '\r\033[K' >&4
}

# make's status goes round the pipe, through descriptor 3; 4 is the output
exec 4>&1
status=$({ { $make --no-print-directory -j"$jobs" "$@" 3>&- 4>&-; echo $? >&3; } | count 3>&-; } 3>&1)
exit "$status"
