#!/bin/sh
# The end of `make quickstart`: trains, in the end in the blocks of Q3_K_M, sets the model's bits per byte beside what xz
# needs for the same text, measures the GGUF file beside one in F16 and one rounded after training, and writes text from
# it. Last, a line of JSON with the figures if asked for by --json.
set -eu
config=experiments/configs/quickstart.yaml
stage=runs/quickstart/01-pretrain
gguf=runs/quickstart/03-export/quickstart-Q3_K_M.gguf
./attar run $config
corpus=$(./attar data build $config 2>/dev/null)
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
./attar data text "$corpus" --part train >"$folder/train.txt"
./attar data text "$corpus" --part valid >"$folder/valid.txt"
figure() { sed -n "s/.*\"$1\": *\([0-9.]*\).*/\1/p" "$2" | head -1; }
bits=$(figure bits_per_byte $stage/summary.json)
tests/bench/xz_baseline.sh "$folder/train.txt" "$folder/valid.txt" >"$folder/xz.json"
xz=$(figure bits_per_byte "$folder/xz.json")
./attar report runs/quickstart
printf '\nvalidation text: attar %.4f bits per byte, xz -9e after the training text %s\n\n' "$bits" "$xz"
./attar export $stage "$folder/quickstart-F16.gguf" --type f16 >/dev/null
./attar quantize "$folder/quickstart-F16.gguf" "$folder/rounded-Q3_K_M.gguf" Q3_K_M >/dev/null
for file in "$folder/quickstart-F16.gguf" "$folder/rounded-Q3_K_M.gguf" $gguf; do
    printf '%-24s %9s bytes  ' "$(basename "$file")" "$(wc -c <"$file")"
    ./attar perplexity -m "$file" -f "$folder/valid.txt" -c 256 2>/dev/null | tail -1
done
printf '\n%s\n' "./attar generate -m $gguf -p 'And God said' -n 80 -s 1"
./attar generate -m $gguf -p 'And God said' -n 80 -s 1
if [ "${1:-}" = --json ]; then
    printf '{"program": "quickstart", "parameters": %s, "tokens": %s, "seconds": %s, "valid_loss": %s, "bits_per_byte": %s, "xz_bits_per_byte": %s}\n' \
        "$(figure parameters $stage/summary.json)" "$(figure tokens $stage/summary.json)" \
        "$(figure seconds $stage/summary.json)" "$(figure valid_loss $stage/summary.json)" "$bits" "$xz"
fi
