#!/bin/sh
# The measurements behind the README's tables: each appends a JSON line to tests/bench/results/*.jsonl;
# tests/bench/tables.py makes the tables. What lacks its Python package or data is skipped, loudly.
#   tests/bench/run.sh PYTHON BUILD [MEASUREMENT ...]
# ROUNDS: of each comparison (5). QUICK=1: shortest runs, and nothing is appended: do the scripts work?
set -u
python=$1 build=$2
shift 2
cd "$(dirname "$0")/../.." || exit 2
bench=$build/tests/bench
ATTAR_DATA=$(cd "${ATTAR_DATA:-../shared/data}" 2>/dev/null && pwd)
export ATTAR_DATA
export OMP_WAIT_POLICY="${OMP_WAIT_POLICY:-passive}"
threads=$(nproc)
rounds=${ROUNDS:-5} steps=20 seconds=0.2 dry=''
[ -z "${QUICK:-}" ] || { rounds=1 steps=2 seconds=0.02 dry=--dry; }
failed=0 skipped=0
wanted=" $* "

has() { "$python" -c "import $1" 2>/dev/null; }

skip() {
    skipped=$((skipped + 1))
    echo "SKIPPED $*"
}

# record NAME COMMAND ...: a run whose JSON line is kept
record() {
    name=$1
    shift
    echo "-- $name"
    if [ -n "$dry" ]; then "$@"; else "$python" tests/bench/results.py "$name" -- "$@"; fi || failed=$((failed + 1))
}

# versus NAME FIELD LABEL_A LABEL_B -- COMMAND A -- COMMAND B: in turn, in pairs
versus() {
    name=$1 field=$2 a=$3 b=$4
    shift 4
    echo "-- $name: $a against $b"
    "$python" tests/bench/pair.py --name "$name" --field "$field" --rounds "$rounds" --label-a "$a" \
        --label-b "$b" $dry "$@" || failed=$((failed + 1))
}

# PyTorch and oneDNN run with the wait policy they choose: with `passive` they are slower on idle cores
chosen="env -u OMP_WAIT_POLICY"

# the tiny model against all four ways of PyTorch
train() {
    has torch || { skip "training against PyTorch: $python has no torch"; return; }
    ours="$bench/bench_train --threads $threads --steps $steps"
    theirs="$chosen $python tests/bench/train_torch.py --threads $threads --steps $steps"
    for precision in f32 bf16; do
        [ $precision = f32 ] && tail='' || tail=-bf16
        versus train-attar-torch-eager$tail tokens_per_s attar eager -- $ours --precision $precision -- \
            $theirs --precision $precision
        versus train-attar-torch-compile$tail tokens_per_s attar compiled -- $ours --precision $precision -- \
            $theirs --precision $precision --compile
    done
}

# train_shape SHAPE SEQUENCES: a larger model against the fastest of them, then with few sequences at once, for its memory
train_shape() {
    has torch || { skip "training of $1 against PyTorch: $python has no torch"; return; }
    few="--threads $threads --precision bf16 --shape $1 --steps $((steps > 6 ? 6 : steps)) --warmup 2" # seconds each
    for micro in 0 "$2"; do
        [ $micro = 0 ] && tail='' || tail=-lean
        versus train-$1$tail tokens_per_s attar compiled -- "$bench/bench_train" $few --micro $micro -- \
            $chosen "$python" tests/bench/train_torch.py $few --compile
    done
}
train_small() { train_shape small 1; }
train_gpt2() {
    [ -z "$dry" ] || { skip "gpt2 against PyTorch: takes minutes"; return; }
    train_shape gpt2 2
}

# block formats against llama-quantize in the folder LLAMA_BIN
codecs() {
    has gguf || { skip "block formats: $python has no gguf"; return; }
    [ -n "${LLAMA_BIN:-}" ] || { skip "block formats: LLAMA_BIN names no folder of llama.cpp's programs"; return; }
    echo "-- codecs: attar against llama-quantize"
    "$python" tests/bench/codecs.py "$build/attar" "$LLAMA_BIN" --rounds "$rounds" $dry || failed=$((failed + 1))
}

# bf16: against the oneDNN of the distribution and the one that PyTorch brings
gemm16() {
    for shape in tiny small gpt2; do
        few="--threads $threads --seconds $seconds --shape $shape"
        ours="$bench/bench_gemm --precision bf16 $few"
        if [ -x "$bench/bench_dnnl" ]; then
            versus gemm16-$shape gflops attar oneDNN -- $ours -- $chosen "$bench/bench_dnnl" --precision bf16 $few
        else
            skip "bf16 products against oneDNN: built without libdnnl-dev"
        fi
        if has torch; then
            versus gemm16-$shape-torch gflops attar oneDNN -- $ours -- $chosen "$python" tests/bench/bench_linear.py $few
        else
            skip "bf16 products against PyTorch: $python has no torch"
        fi
    done
}

# bf16 against f32 in validation loss; goes on where it was stopped
precision() {
    echo "-- precision"
    few=''
    [ -z "$dry" ] || few='--dry --tokens 8Ki --seeds 1'
    "$python" tests/bench/precision.py "$build/attar" $few || failed=$((failed + 1))
}

# the core that OpenBLAS should take, and the one that it falls back to on processors it does not know
gemm() {
    if grep -qw avx512f /proc/cpuinfo; then right=SkylakeX; else right=Haswell; fi
    ours="env ATTAR_GEMM=own $bench/bench_gemm --threads $threads --seconds $seconds"
    blas="env ATTAR_GEMM=openblas $bench/bench_gemm --threads $threads --seconds $seconds"
    versus gemm-right gflops attar OpenBLAS -- $ours -- env OPENBLAS_CORETYPE=$right $blas
    versus gemm-wrong gflops attar OpenBLAS -- $ours -- env OPENBLAS_CORETYPE=Prescott $blas
    versus gemm-avx2 gflops attar OpenBLAS -- env ATTAR_CPU=avx2 $ours -- \
        env ATTAR_CPU=avx2 OPENBLAS_CORETYPE=Haswell $blas
}

recompute() {
    deep="$bench/bench_train --layers 12 --threads $threads --steps $steps"
    versus recompute tokens_per_s keep recompute -- $deep -- $deep --recompute 1
}

attention() {
    for T in 4096 8192; do
        record attention-$T "$bench/bench_attention" --seq $T --threads "$threads" --steps $((steps > 3 ? 3 : 1))
    done
}

# a whole run, once: its config, its data, its folder
shakespeare() {
    [ -f "$ATTAR_DATA/tinyshakespeare.txt" ] || { skip "shakespeare: no tinyshakespeare.txt"; return; }
    runs=$(mktemp -d)
    [ -z "$dry" ] || few="pretrain.steps=20 pretrain.warmup=2"
    record shakespeare "$python" tests/bench/time_command.py --runs 1 \
        --json "$runs/shakespeare/01-pretrain/summary.json" -- \
        "$build/attar" run experiments/configs/shakespeare.yaml out="$runs" ${few:-}
    rm -rf "$runs"
}

# the run of `make quickstart` (it is there, or it is made now) and what xz needs
quickstart() {
    [ -z "$dry" ] || { skip "quickstart: takes minutes"; return; }
    record quickstart tests/quickstart.sh --json
}

# a step in blocks against a plain one (the ratio is of their times), and what blocks take by type
qat_cost() {
    for shape in small gpt2; do
        [ -z "$dry" ] || [ $shape = small ] || { skip "qat_cost of gpt2: takes minutes"; continue; }
        plain="$bench/bench_train --threads $threads --precision bf16 --shape $shape --steps $((steps > 3 ? 3 : steps)) --warmup 2"
        for mix in Q2_K Q3_K_M Q4_K_M; do
            versus qat-cost-$shape-$mix step_ms blocks plain -- $plain --qat $mix -- $plain
        done
        for scales in super learned; do
            versus qat-cost-$shape-$scales step_ms blocks plain -- $plain --qat Q2_K --scales $scales -- $plain
        done
    done
    for type in q2_k q3_k q4_k q5_k q6_k q4_0 q8_0 iq4_nl tq1_0 tq2_0; do
        record qat-project-$type "$bench/bench_qat" $type
    done
}

# all parameters in blocks against factors over blocks that stay: the model of recover-5m.yaml, and one of 35.7M
qlora() {
    for shape in recover small; do
        few="$bench/bench_train --threads $threads --precision bf16 --shape $shape --steps $((steps > 3 ? 3 : steps)) --warmup 2"
        versus qlora-$shape step_ms all factors -- $few --qat Q4_K_M -- $few --qat Q4_K_M --rank 8
    done
}

# training in blocks against quantizing after training: hours; RECOVER_RUNS keeps its checkpoints, and it goes on there
recover() {
    [ -f "$ATTAR_DATA/mixed.txt.xz" ] || { skip "recover: no mixed.txt.xz"; return; }
    [ -n "${LLAMA_BIN:-}" ] || skip "recover's files of llama-quantize: LLAMA_BIN names no folder of llama.cpp's programs"
    echo "-- recover"
    if [ -n "$dry" ]; then
        runs=$(mktemp -d)
        "$python" tests/bench/recover.py "$build/attar" --runs "$runs" --dry --tokens 32K --size 2m --seed 1 ||
            failed=$((failed + 1))
        rm -rf "$runs"
    else
        "$python" tests/bench/recover.py "$build/attar" --runs "${RECOVER_RUNS:-runs/recover}" || failed=$((failed + 1))
    fi
}

# planned and measured speed of models of 1M to 124M parameters; goes on where it was stopped
plan() {
    echo "-- plan"
    few=''
    [ -z "$dry" ] || few='--dry --size 1M --steps 1'
    "$python" tests/bench/bench_plan.py "$build/attar" $few || failed=$((failed + 1))
}

# what stands between a command and its first result
startup() {
    record startup-version "$python" tests/bench/time_command.py -- "$build/attar" --version
    runs=$(mktemp -d)
    if "$build/attar" run experiments/configs/quickstart.yaml out="$runs" pretrain.tokens=8Ki qat.steps=1 >"$runs/log" 2>&1; then
        record startup-token "$python" tests/bench/time_command.py -- \
            "$build/attar" generate -m "$runs/quickstart/01-pretrain" -p "In the" -n 1 -s 1
    else
        skip "time to the first token: $(tail -1 "$runs/log")"
    fi
    # its corpus is there by now
    record startup-run "$python" tests/bench/time_command.py --runs 10 --until "$runs/first/01-pretrain/metrics.jsonl" '"loss"' -- \
        "$build/attar" run experiments/configs/quickstart.yaml out="$runs" name=first qat.steps=1
    rm -rf "$runs"
    record startup-step "$python" tests/bench/time_command.py --runs 5 -- \
        "$bench/bench_train" --threads "$threads" --steps 1 --warmup 0
    if has torch; then
        record startup-torch-import "$python" tests/bench/time_command.py --runs 5 -- "$python" -c "import torch"
        record startup-torch-step "$python" tests/bench/time_command.py --runs 3 -- \
            "$python" tests/bench/train_torch.py --threads "$threads" --steps 1 --warmup 0
    else
        skip "PyTorch's start: $python has no torch"
    fi
}

# bench_tokenizer.py prints a line for training and one for encoding
tokenizer() {
    has tokenizers && [ -f "$ATTAR_DATA/mixed.txt.xz" ] ||
        { skip "tokenizer: no package tokenizers, or no mixed.txt.xz"; return; }
    lines=$(mktemp)
    echo "-- tokenizer"
    if ATTAR_BIN=$build/attar RUNS=$rounds "$python" tests/bench/bench_tokenizer.py "$bench/bench_tokenizer" >"$lines"; then
        for what in train encode "encode llama-bpe" "encode qwen2" "encode smollm" "encode spm"; do
            if grep -q "\"tokenizer $what\"" "$lines"; then
                record "tokenizer-$(echo "$what" | tr ' ' -)" grep "\"tokenizer $what\"" "$lines"
            else
                skip "tokenizer: $what: no ggml-vocab-llama-spm.gguf, or no package gguf"
            fi
        done
    else
        failed=$((failed + 1))
    fi
    rm -f "$lines"
}

# from compressed text to a corpus of tokens, its tokenizer learnt on the way
corpus() {
    [ -f "$ATTAR_DATA/mixed.txt.xz" ] || { skip "corpus: no mixed.txt.xz"; return; }
    folder=$(mktemp -d)
    program=$(realpath "$build/attar")
    cat >"$folder/mixed.yaml" <<'END'
name: mixed
data:
  corpus: ${ATTAR_DATA}/mixed.txt.xz
  tokenizer: {type: bpe, vocab_size: 8192, pre: llama-bpe}
model: {n_layers: 1, d_model: 64, n_heads: 1, d_ff: 64, context: 256}
stages: [pretrain: {epochs: 1, batch_tokens: 8Ki}]
END
    sum=$(sha256sum "$ATTAR_DATA/mixed.txt.xz" | cut -d' ' -f1)
    record corpus-mixed "$python" tests/bench/time_command.py --runs 3 -- env -C "$folder" \
        sh -c 'rm -rf data && exec "$0" data build mixed.yaml data.sha256="$1"' "$program" "$sum"
    rm -rf "$folder"
}

# prompts and generation against llama.cpp and ik_llama.cpp: DECODE_MODELS is a folder of what decode_models.py makes
decode() {
    [ -n "${LLAMA_BIN:-}${IK_BIN:-}" ] || { skip "decoding against llama.cpp: set LLAMA_BIN, IK_BIN"; return; }
    has gguf || { skip "decoding against llama.cpp: $python has no gguf"; return; }
    found=$(ls "${DECODE_MODELS:-/nowhere}"/r*.gguf "${DECODE_MODELS:-/nowhere}"/smollm2*.gguf 2>/dev/null)
    [ -n "$found" ] || { skip "decoding against llama.cpp: no models in DECODE_MODELS, see decode_models.py"; return; }
    echo "-- decode"
    few="--rounds $((rounds > 9 ? rounds : 10))"
    [ -z "$dry" ] || few="--dry --rounds 1 --prompt 16 --gen 2"
    "$python" tests/bench/decode_peers.py "$build/attar" "$bench/bench_read" $few $found || failed=$((failed + 1))
}

# 64 texts at once against one after the other, the same texts; and 8 texts of each of 8 prompts. MODEL_110M: a GGUF of
# that size, measured as well
parallel() {
    [ -f "$ATTAR_DATA/kjv-5m-f16.gguf" ] || { skip "parallel: no kjv-5m-f16.gguf"; return; }
    for model in 5m 110m; do
        file=$ATTAR_DATA/kjv-5m-f16.gguf
        [ $model = 5m ] || file=${MODEL_110M:-}
        [ -n "$file" ] || { skip "parallel with 110M: no MODEL_110M"; continue; }
        run="$python tests/bench/bench_parallel.py $build/attar $file $ATTAR_DATA/tinyshakespeare.txt --threads $threads"
        versus parallel-$model tokens_per_s together singly -- $run -- $run --parallel 1
        versus parallel-$model-samples tokens_per_s together singly -- $run --prompts 8 --samples 8 -- \
            $run --prompts 8 --samples 8 --parallel 1
        record parallel-$model-q8_0 $run --cache-type q8_0
    done
}

xz_baseline() {
    [ -f "$ATTAR_DATA/tinyshakespeare.txt" ] || { skip "xz: no tinyshakespeare.txt"; return; }
    parts=$(mktemp -d)
    size=$(wc -c <"$ATTAR_DATA/tinyshakespeare.txt")
    head -c $((size - size / 10)) "$ATTAR_DATA/tinyshakespeare.txt" >"$parts/train"
    tail -c $((size / 10)) "$ATTAR_DATA/tinyshakespeare.txt" >"$parts/valid"
    record xz-tinyshakespeare tests/bench/xz_baseline.sh "$parts/train" "$parts/valid"
    rm -rf "$parts"
}

for m in train train_small train_gpt2 gemm gemm16 precision recompute attention plan startup tokenizer corpus codecs qat_cost qlora recover decode parallel xz_baseline shakespeare quickstart; do
    case $wanted in "  " | *" $m "*) echo "== $m"; $m ;; esac
done
[ -n "$dry" ] || [ ! -f README.md ] || "$python" tests/bench/tables.py || failed=$((failed + 1))
echo "$failed measurements failed, $skipped skipped"
[ $failed -eq 0 ]
