#!/bin/sh
# The end of `make quickstart`: trains, writes some text, and sets the model's bits per byte beside
# what xz needs for the same text.
set -eu
config=experiments/configs/quickstart.yaml
./attar run $config
corpus=$(./attar data build $config 2>/dev/null)
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
./attar data text "$corpus" --part train >"$folder/train.txt"
./attar data text "$corpus" --part valid >"$folder/valid.txt"
model=$(sed -n 's/.*"bits_per_byte": *\([0-9.]*\).*/\1/p' runs/quickstart/01-pretrain/summary.json | head -1)
xz=$(tests/bench/xz_baseline.sh "$folder/train.txt" "$folder/valid.txt" | sed 's/.*"bits_per_byte": *\([0-9.]*\).*/\1/')
./attar report runs/quickstart
echo
echo "validation text: attar $model bits per byte, xz -9e after the training text $xz"
echo
echo "./attar generate -m runs/quickstart -p 'And God said' -n 80 -s 1"
./attar generate -m runs/quickstart -p 'And God said' -n 80 -s 1
