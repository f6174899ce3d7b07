#!/usr/bin/env python3
"""GGUF files of attar against the gguf package and, where LLAMA_BIN points to them, llama.cpp's
tools: every type of every architecture loads, types are llama-quantize's tensor by tensor, and
perplexities agree.   gguf_oracle.py ATTAR"""
import filecmp
import os
import sys
import tempfile

import differences
from differences import check, perplexity, run
from gguf import GGUFReader, dequantize

ATTAR = os.path.abspath(sys.argv[1])
LLAMA = os.environ.get("LLAMA_BIN")
TYPES = ("Q2_K Q3_K_S Q3_K_M Q3_K_L Q4_0 Q4_1 Q4_K_S Q4_K_M Q5_0 Q5_1 Q5_K_S Q5_K_M Q6_K Q8_0 "
         "IQ4_NL IQ4_XS TQ1_0 TQ2_0 F16 BF16 F32").split()
ARCHS = {
    "llama": "n_kv_heads: 2",
    "llama-tied": "n_kv_heads: 8, tie_embeddings: true",
    "llama-narrow": "n_kv_heads: 4",
    "llama-varied": "n_heads: [8, 4, 8, 2, 16, 8, 4, 4, 6], n_kv_heads: [8, 2, 4, 1, 4, 8, 2, 4, 2], head_dim: 32, "
                    "d_ff: [512, 256, 768, 64, 1024, 512, 96, 320, 256]",  # llama.cpp's deci
    "qwen2": "n_kv_heads: 4",
    "qwen3": "n_kv_heads: 2, head_dim: 64, tie_embeddings: true",
    "gpt2": "",
}

def types_of(path):
    return {t.name: t.tensor_type.name for t in GGUFReader(path).tensors}


def train(folder, name):
    sizes = "d_model: 160, d_ff: 416" if "narrow" in name else "d_model: 256"
    sizes += "" if "d_ff" in sizes + ARCHS[name] else ", d_ff: 512"
    differences.train(ATTAR, folder, name, f"n_layers: 9, {sizes}" + (f", {ARCHS[name]}" if ARCHS[name] else ""),
                      "  - pretrain: {steps: 30, batch_tokens: 512, lr: 2e-3}\n")


def compare_values(path, ours):
    """The gguf package decodes what attar says it wrote: to the bit where both decode."""
    reader = GGUFReader(path)
    for t in reader.tensors:
        values = dequantize(t.data, t.tensor_type)
        check(f"{path}: {t.name} is not finite", bool((abs(values) < 1e30).all()))
        check(f"{path}: {t.name} has {values.size} values", values.size == t.n_elements)
    check(f"{path}: architecture", reader.fields["general.architecture"].contents() == ours)


def compare_parts(folder, name, f32):
    """A model that gguf-split has cut is the whole one: for measuring, and, byte for byte, for quantizing."""
    for at, flags in enumerate(((), ("--no-tensor-first-split",))):
        stem = f"{folder}/part{at}"
        said = run(f"{LLAMA}/llama-gguf-split", "--split", "--split-max-tensors", "20", *flags, f32, stem)
        n = int(said.split("n_split:")[1].split()[0])
        last = f"{stem}-{n:05}-of-{n:05}.gguf"
        text = ("-f", f"{folder}/text.txt", "-c", "128", "--chunks", "2")
        whole, parts = (perplexity(ATTAR, "perplexity", "-m", m, *text) for m in (f32, last))
        check(f"{name}: perplexity of {n} parts {parts}, of the whole {whole}", parts == whole)
        for m, out in ((f32, "whole"), (f"{stem}-00001-of-{n:05}.gguf", "joined")):
            run(ATTAR, "quantize", m, f"{folder}/{out}.gguf", "Q4_K_M")
        check(f"{name}: quantized from {n} parts it is another file",
              filecmp.cmp(f"{folder}/whole.gguf", f"{folder}/joined.gguf", shallow=False))


def main():
    with tempfile.TemporaryDirectory() as folder:
        for name in ARCHS:
            print("==", name, flush=True)
            train(folder, name)
            f32 = f"{folder}/{name}-f32.gguf"
            run(ATTAR, "export", f"{folder}/runs/{name}", f32, "--type", "f32")
            arch = "deci" if "varied" in name else name.split("-")[0]
            compare_values(f32, arch)
            worst = 0
            for kind in TYPES:
                mine, theirs = f"{folder}/mine.gguf", f"{folder}/theirs.gguf"
                run(ATTAR, "quantize", f32, mine, kind)
                if kind in ("Q2_K", "Q4_K_M", "Q8_0"):
                    compare_values(mine, arch)
                if not LLAMA:
                    continue
                run(f"{LLAMA}/llama-quantize", f32, theirs, kind)
                a, b = types_of(mine), types_of(theirs)
                check(f"{name} {kind}: names", a.keys() == b.keys())
                for tensor in sorted(a):
                    check(f"{name} {kind}: {tensor} is {a[tensor]}, theirs {b[tensor]}",
                          a[tensor] == b[tensor])
                text = f"{folder}/text.txt"
                flags = ("-m", mine, "-f", text, "-c", "128", "--chunks", "8")
                p = perplexity(ATTAR, "perplexity", *flags)
                q = perplexity(f"{LLAMA}/llama-perplexity", *flags, "-t", "2", "-b", "128")
                apart = abs(p / q - 1)
                worst = max(worst, apart)
                check(f"{name} {kind}: perplexity {p}, llama.cpp's {q}",
                      apart < (0.001 if kind in ("F32", "F16") else 0.003))
            if LLAMA:
                compare_parts(folder, name, f32)
                print(f"  perplexities within {100 * worst:.3f}%")
            im = f"{folder}/im.gguf"
            run(ATTAR, "imatrix", "-m", f32, "-f", f"{folder}/text.txt", "-c", "128", "--chunks",
                "4", "-o", im)
            run(ATTAR, "quantize", "--imatrix", im, f32, f"{folder}/mine.gguf", "Q2_K_S")
            if LLAMA:
                run(f"{LLAMA}/llama-quantize", "--imatrix", im, f32, f"{folder}/theirs.gguf",
                    "Q2_K_S")
                for form in ("gguf", "dat"):
                    their = f"{folder}/their.{form}"
                    run(f"{LLAMA}/llama-imatrix", "-m", f32, "-f", f"{folder}/text.txt", "-c",
                        "128", "--chunks", "4", "--output-format", form, "-o", their, "-t", "2")
                    run(ATTAR, "quantize", "--imatrix", their, f32, f"{folder}/mine.gguf", "Q2_K_S")
    if not LLAMA:
        print("== SKIPPED: llama.cpp's tools: LLAMA_BIN is not set")
    return differences.ended()


sys.exit(main())
