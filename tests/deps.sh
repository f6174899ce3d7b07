#!/bin/sh
# deps.sh PACKAGE ...: installs Debian's packages that are missing. Only asks for those, so that it is silent
# and needs no rights when all are there. Shows its progress as build.sh does; if apt-get fails, all it said.
missing=
command -v dpkg-query >/dev/null || { echo "no Debian packages here: the libraries of $* have to be there"; exit 0; }
for p in "$@"; do
    dpkg-query -W -f='${Status}' "$p" 2>/dev/null | grep -q 'ok installed' || missing="$missing $p"
done
[ -n "$missing" ] || exit 0
as=
if [ "$(id -u)" != 0 ]; then
    as=sudo
    command -v sudo >/dev/null || {
        echo "missing packages, and neither root nor sudo to install them; as root:" >&2
        echo "    apt-get update && apt-get install -y --no-install-recommends$missing" >&2
        exit 1
    }
fi
echo "installing:$missing"
log=$(mktemp)
trap 'rm -f "$log"' EXIT

count() {
    total='?' got=0 set=0
    while IFS= read -r line; do
        printf '%s\n' "$line" >>"$log"
        case $line in
        *' newly installed'*) total=${line% newly installed*} total=${total##* } ;;
        Get:*) got=$((got + 1)) said="$got of $total downloaded" ;;
        'Setting up '*) set=$((set + 1)) said="$set of $total installed" ;;
        *) continue ;;
        esac
        if [ -t 4 ]; then
            printf '\r\033[K%s' "${said:-}" >&4
        elif [ $(((got + set) % 25)) = 0 ] && [ $((got + set)) -gt 0 ]; then
            echo "${said:-}" >&4
        fi
    done
    [ ! -t 4 ] || printf '\r\033[K' >&4
}

# apt-get's status goes round the pipe, through descriptor 3; 4 is the output
exec 4>&1
status=$({ {
    { $as apt-get update -qq && $as env DEBIAN_FRONTEND=noninteractive LC_ALL=C \
        apt-get install -y -q --no-install-recommends $missing; } 2>&1 3>&- 4>&-
    echo $? >&3; } | count 3>&-; } 3>&1)
[ "$status" = 0 ] || {
    cat "$log" >&2
    echo "the packages could not be installed; by hand: apt-get install -y --no-install-recommends$missing" >&2
}
exit "$status"
