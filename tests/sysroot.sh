#!/bin/sh
# sysroot.sh ARCHITECTURE FOLDER PACKAGE...: downloads Debian packages of another architecture, with
# all that they depend on, and unpacks them into FOLDER. Nothing is installed and apt's own state
# stays as it is, so it needs no rights; FOLDER appears whole or not at all.
arch=$1 folder=$(realpath -m "$2")
shift 2
state=$folder.apt
rm -rf "$folder" "$folder.new" "$state"
mkdir -p "$state/lists/partial" "$state/archives/partial" "$folder.new" || exit 1
: >"$state/status" # as if nothing were installed

# apt-get for a machine of that architecture
apt() {
    apt-get -qq -o APT::Architecture="$arch" -o APT::Architectures="$arch" -o Dir::State="$state" \
        -o Dir::State::status="$state/status" -o Dir::Cache="$state" -o APT::Sandbox::User= \
        -o Acquire::Languages=none "$@"
}

apt update >"$state/log" 2>&1
apt -y --download-only --no-install-recommends install "$@" >>"$state/log" 2>&1 || {
    cat "$state/log"
    exit 1
}
for package in "$state"/archives/*.deb; do
    dpkg-deb -x "$package" "$folder.new" || exit 1
done
rm -rf "$state"
mv "$folder.new" "$folder"
