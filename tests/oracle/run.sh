#!/bin/sh
# The live comparisons with other people's programs. One whose Python package is missing is skipped,
# loudly. Ends with the sum, and 1 if a comparison failed or none could run.
#   tests/oracle/run.sh PYTHON ATTAR
python=$1 ATTAR_BIN=$2
export ATTAR_BIN
export OMP_WAIT_POLICY="${OMP_WAIT_POLICY:-passive}" TRANSFORMERS_OFFLINE=1 TRANSFORMERS_VERBOSITY=error
LLAMA_BIN=${LLAMA_BIN:-}
passed=0 failed=0 skipped=0

# compare WHAT "PACKAGE ..." COMMAND ...
compare() {
    what=$1 needs=$2
    shift 2
    for package in $needs; do
        if ! "$python" -c "import $package" 2>/dev/null; then
            echo "== SKIPPED: $what: $python has no package $package (tests/oracle/requirements.txt)"
            skipped=$((skipped + 1))
            return
        fi
    done
    echo "== $what"
    if "$@"; then
        passed=$((passed + 1))
    else
        failed=$((failed + 1))
        echo "== FAILED: $what"
    fi
}

charclass() { "$python" tests/oracle/charclass.py | cmp - datasets/charclass.def; }

compare "golden files against PyTorch and transformers" "torch numpy h5py transformers" \
    "$python" tests/oracle/golden_check.py --check
compare "block formats against gguf, Q8_K against llama.cpp's C (LLAMA_BIN)" "numpy h5py gguf" \
    "$python" tests/oracle/make_codec_golden.py --check
if [ -n "$LLAMA_BIN" ]; then
    compare "errors of block formats against llama-quantize" "numpy gguf" \
        "$python" tests/bench/codecs.py --errors "$ATTAR_BIN" "$LLAMA_BIN"
else
    echo "== SKIPPED: errors of block formats against llama-quantize: LLAMA_BIN names no folder of llama.cpp's programs"
    skipped=$((skipped + 1))
fi
compare "blocks out of the ordinary against llama-quantize (LLAMA_BIN)" "numpy gguf" \
    "$python" tests/oracle/awkward_oracle.py "$ATTAR_BIN"
compare "trained models against PyTorch and transformers" "torch numpy h5py tokenizers transformers" \
    "$python" tests/oracle/model_oracle.py "$ATTAR_BIN"
compare "tokenizer against Hugging Face's and llama.cpp's fixture" "tokenizers" \
    "$python" tests/oracle/tokenizer_oracle.py
compare "tokenizers on random Unicode and mixed text against Hugging Face's and llama.cpp's (LLAMA_BIN)" \
    "tokenizers gguf" "$python" tests/oracle/unicode_oracle.py
compare "imported models against transformers, SentencePiece against its own" "torch transformers sentencepiece" \
    "$python" tests/oracle/make_import_golden.py --check
compare "folders that differ in one setting against transformers" "torch transformers tokenizers safetensors h5py" \
    "$python" tests/oracle/import_oracle.py "$ATTAR_BIN"
compare "perplexity and divergence against NumPy and llama.cpp (LLAMA_BIN)" "numpy" \
    "$python" tests/oracle/divergence_oracle.py "$ATTAR_BIN"
compare "SmolLM2 in every format against its decoded weights and llama.cpp (LLAMA_BIN), a few chunks" "numpy gguf" \
    "$python" tests/oracle/smollm2_oracle.py "$ATTAR_BIN" --chunks 4
compare "GGUF files against gguf and llama.cpp's tools (LLAMA_BIN)" "gguf numpy" \
    "$python" tests/oracle/gguf_oracle.py "$ATTAR_BIN"
compare "training in blocks: transformers' models to gguf and llama.cpp (LLAMA_BIN)" "torch numpy h5py transformers gguf" \
    "$python" tests/oracle/qat_oracle.py "$ATTAR_BIN"
compare "adapters against gguf and llama.cpp's --lora (LLAMA_BIN)" "gguf numpy" \
    "$python" tests/oracle/lora_oracle.py "$ATTAR_BIN"
compare "event files, read by TensorBoard" "numpy tensorboard" \
    "$python" tests/oracle/tensorboard_oracle.py "$ATTAR_BIN"
compare "classes of characters against Hugging Face's" "tokenizers" charclass
echo "$passed comparisons passed, $failed failed, $skipped skipped"
[ $failed -eq 0 ] && [ $passed -gt 0 ]
