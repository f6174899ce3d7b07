#!/usr/bin/env python3
"""Adapters of attar against the gguf package and llama.cpp's --lora (LLAMA_BIN): factors trained over
frozen blocks of each architecture, exported as blocks and an adapter, give the same perplexity in
attar's checkpoint, in attar from the two files, and in llama-perplexity; so does somebody's adapter of
the head.   lora_oracle.py ATTAR"""
import os
import sys
import tempfile

import differences
from differences import check, perplexity, run
import numpy as np
from gguf import GGUFReader, GGUFWriter

ATTAR = os.path.abspath(sys.argv[1])
LLAMA = os.environ.get("LLAMA_BIN")
ARCHS = {
    "llama": "n_kv_heads: 2",
    "llama-tied": "n_kv_heads: 8, tie_embeddings: true",
    "qwen2": "n_kv_heads: 4",
    "qwen3": "n_kv_heads: 2, head_dim: 64, tie_embeddings: true",
    "gpt2": "",
}
TYPES = {"llama": "q4_k_m", "llama-tied": "q2_k", "qwen2": "q3_k_m", "qwen3": "q4_0", "gpt2": "f16"}


def train(folder, name):
    differences.train(ATTAR, folder, name,
                      "n_layers: 3, d_model: 256, d_ff: 512" + (f", {ARCHS[name]}" if ARCHS[name] else ""),
                      f"""  - pretrain: {{steps: 15, batch_tokens: 512, lr: 2e-3}}
  - qat: {{type: {TYPES[name]}, params: lora, lora: {{rank: 6, alpha: 9}}, teacher: none, steps: 20,
          batch_tokens: 512, lr: 5e-3}}
""")


def check_file(path, arch):
    reader = GGUFReader(path)
    text = {k: reader.fields[k].contents() for k in
            ("general.architecture", "general.type", "adapter.type", "adapter.lora.alpha")}
    check(f"{path}: {text}", list(text.values()) == [arch, "adapter", "lora", 9.0])
    shapes = {t.name: tuple(int(n) for n in t.shape) for t in reader.tensors}
    for name in shapes:
        stem, end = name.rsplit(".", 1)
        check(f"{path}: {name}", end in ("lora_a", "lora_b") and f"{stem}.lora_a" in shapes)
        check(f"{path}: {name} {shapes[name]}", shapes[name][end == "lora_a"] == 6)
    return len(shapes)


def write_head(base, path):
    """Random factors of the head of that file."""
    head = next(t for t in GGUFReader(base).tensors if t.name == "output.weight")
    width, vocab = (int(n) for n in head.shape)
    rng = np.random.default_rng(3)
    w = GGUFWriter(path, "llama")
    for key, value in (("general.type", "adapter"), ("adapter.type", "lora")):
        w.add_string(key, value)
    w.add_float32("adapter.lora.alpha", 8)
    w.add_tensor("output.weight.lora_a", rng.normal(0, width ** -0.5, (4, width)).astype(np.float32))
    w.add_tensor("output.weight.lora_b", rng.normal(0, 0.1, (vocab, 4)).astype(np.float32))
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()


def check_head(base, path, args):
    write_head(base, path)
    alone = perplexity(ATTAR, "perplexity", "-m", base, *args)
    ours = perplexity(ATTAR, "perplexity", "-m", base, "--lora", path, *args)
    theirs = perplexity(f"{LLAMA}/llama-perplexity", "-m", base, "--lora", path, *args, "-t", "2", "-b", "128")
    print(f"== an adapter of the head: {ours:.4f}, llama.cpp's {theirs:.4f}, without it {alone:.4f}", flush=True)
    check("the head's factors change little: nothing is shown", abs(ours / alone - 1) > 0.02)
    check(f"an adapter of the head: {ours}, llama.cpp's {theirs}", abs(ours / theirs - 1) < 0.003)


def main():
    with tempfile.TemporaryDirectory() as folder:
        worst = 0
        for name in ARCHS:
            train(folder, name)
            stage, base, lora = f"{folder}/runs/{name}/02-qat", f"{folder}/b.gguf", f"{folder}/b-lora.gguf"
            run(ATTAR, "export", stage, base)
            factors = check_file(lora, name.split("-")[0])
            args = ("-f", f"{folder}/text.txt", "-c", "128", "--chunks", "8")
            own = perplexity(ATTAR, "perplexity", "-m", stage, *args)
            alone = perplexity(ATTAR, "perplexity", "-m", base, *args)
            ours = {1.0: perplexity(ATTAR, "perplexity", "-m", base, "--lora", lora, *args),
                    0.5: perplexity(ATTAR, "perplexity", "-m", base, "--lora-scaled", f"{lora}:0.5", *args)}
            print(f"== {name} over {TYPES[name]}, {factors} factors: checkpoint {own:.4f}, from files "
                  f"{ours[1.0]:.4f}, blocks alone {alone:.4f}", flush=True)
            check(f"{name}: files {ours[1.0]}, checkpoint {own}", abs(ours[1.0] / own - 1) < 0.003)
            check(f"{name}: the factors change little: nothing is shown", alone > 1.02 * own)
            if not LLAMA:
                continue
            for scale, flags in ((1.0, ("--lora", lora)), (0.5, ("--lora-scaled", f"{lora}:0.5"))):
                theirs = perplexity(f"{LLAMA}/llama-perplexity", "-m", base, *flags, *args, "-t", "2", "-b", "128")
                apart = abs(ours[scale] / theirs - 1)
                worst = max(worst, apart)
                check(f"{name}, scale {scale}: {ours[scale]}, llama.cpp's {theirs}", apart < 0.003)
            if name == "llama":
                check_head(base, f"{folder}/head.gguf", args)
        if LLAMA:
            print(f"perplexities with adapters within {100 * worst:.3f}% of llama.cpp's")
        else:
            print("== SKIPPED: llama.cpp's --lora: LLAMA_BIN is not set")
    return differences.ended()


sys.exit(main())
