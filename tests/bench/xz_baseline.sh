#!/bin/sh
# Bits per byte that xz -9e needs for a validation text once it has seen the training text (its dictionary is 64 MiB):
# 8 * (size(xz(train + valid)) - size(xz(train))) / size(valid). What a language model has to beat.
#
# Usage: xz_baseline.sh TRAIN.txt VALID.txt      prints one JSON line
set -eu
if [ $# -ne 2 ] || [ ! -s "$1" ] || [ ! -s "$2" ]; then
    echo "usage: xz_baseline.sh TRAIN.txt VALID.txt (two files that are not empty)" >&2
    exit 2
fi
train=$(wc -c <"$1")
valid=$(wc -c <"$2")
if [ $((train + valid)) -gt $((64 << 20)) ]; then
    echo "xz_baseline.sh: the texts hold $((train + valid)) bytes, more than the dictionary of 64 MiB" >&2
    exit 2
fi
# --threads=1: one block, so that the dictionary is never reset
alone=$(xz -9e --threads=1 -c -- "$1" | wc -c)
both=$(cat -- "$1" "$2" | xz -9e --threads=1 -c | wc -c)
awk -v t="$train" -v v="$valid" -v a="$alone" -v b="$both" -v x="$(xz --version | sed -n '1s/.* //p')" 'BEGIN {
    printf "{\"program\": \"xz -9e\", \"version\": \"%s\", \"train_bytes\": %d, \"valid_bytes\": %d, ", x, t, v
    printf "\"train_xz\": %d, \"both_xz\": %d, \"bits_per_byte\": %.4f}\n", a, b, 8 * (b - a) / v }'
