"""A model trained by attar, taken apart in PyTorch: losses, perplexity and greedy text must be the same.

    python tests/oracle/model_oracle.py ./attar

Trains small models of different build, reads weights and sizes from the checkpoint, tokens from the corpus, and
computes in f64 with llama.py what attar printed: the validation loss (in metrics.jsonl and of the evaluate stage),
`attar perplexity` and `attar generate --temp 0`. Exit status 0 if all agree.
"""

import json
import math
import random
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import h5py
import numpy as np
import torch
from tokenizers import Tokenizer

import llama

ATTAR = str(Path(sys.argv[1] if len(sys.argv) > 1 else "./attar").resolve())
RELATIVE = 1e-4
failures = 0

MODELS = {
    "tied-gqa-bpe": """
data: {corpus: text.txt, tokenizer: {type: bpe, vocab_size: 384}, valid: tail, split_on: none}
model: {arch: llama, n_layers: 3, d_model: 64, n_heads: 4, n_kv_heads: [2, 1, 4], d_ff: [96, 160, 128], context: 48,
        tie_embeddings: true}
stages:
  - pretrain: {steps: 60, batch_tokens: 768, lr: 3e-3, warmup: 10%, eval_every: 20}
  - evaluate: {compare: [pretrain]}
""",
    "untied-llama3-byte": """
data: {corpus: text.txt, tokenizer: {type: byte}, valid: tail, split_on: none}
model: {arch: llama, n_layers: 2, d_model: 48, n_heads: 2, d_ff: 128, context: 64, head_dim: 32, norm_eps: 1e-6,
        rope_base: 500, rope_scaling: {type: llama3, factor: 8, original_context: 16}}
stages:
  - pretrain: {steps: 60, batch_tokens: 1024, lr: 3e-3, warmup: 10%, eval_every: 30, micro_batch_tokens: 256,
               recompute: blocks}
  - evaluate: {compare: [pretrain]}
""",
    "gpt2-bpe": """
data: {corpus: text.txt, tokenizer: {type: bpe, vocab_size: 320}, valid: tail, split_on: none}
model: {arch: gpt2, n_layers: 2, d_model: 48, n_heads: 4, d_ff: 128, context: 48}
stages:
  - pretrain: {steps: 60, batch_tokens: 768, lr: 3e-3, warmup: 10%, eval_every: 30}
  - evaluate: {compare: [pretrain]}
""",
    "qwen2-gqa-tied-bpe": """
data: {corpus: text.txt, tokenizer: {type: bpe, vocab_size: 320, pre: qwen2}, valid: tail, split_on: none}
model: {arch: qwen2, n_layers: 2, d_model: 48, n_heads: 4, n_kv_heads: 2, d_ff: 96, context: 48, norm_eps: 1e-6,
        rope_base: 1e6, tie_embeddings: true}
stages:
  - pretrain: {steps: 60, batch_tokens: 768, lr: 3e-3, warmup: 10%, eval_every: 30}
  - evaluate: {compare: [pretrain]}
""",
    "qwen3-wide-heads-byte": """
data: {corpus: text.txt, tokenizer: {type: byte}, valid: tail, split_on: none}
model: {arch: qwen3, n_layers: 2, d_model: 48, n_heads: 4, n_kv_heads: 1, d_ff: 96, context: 64, head_dim: 20}
stages:
  - pretrain: {steps: 60, batch_tokens: 1024, lr: 3e-3, warmup: 10%, eval_every: 30}
  - evaluate: {compare: [pretrain]}
""",
}


def report(name: str, same: bool, note: str) -> None:
    global failures
    print(f"{'ok  ' if same else 'FAIL'} {name}: {note}", flush=True)
    failures += not same


def close(name: str, ours: float, theirs: float) -> None:
    off = abs(ours - theirs) / abs(theirs)
    report(name, off < RELATIVE, f"attar {ours:.8g}, PyTorch {theirs:.8g}, relative difference {off:.1e}")


def attar(folder: Path, *words: str) -> str:
    done = subprocess.run([ATTAR, *words], cwd=folder, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"attar {' '.join(words)}: exit status {done.returncode}\n{done.stderr}")
    return done.stdout


def write_text(path: Path) -> str:
    """Sentences of a small language, each word chosen by the one before: something can be learnt from it."""
    rng = random.Random(1)
    words = ["".join(rng.choices("aeioulmnrst", k=rng.randint(2, 7))) for _ in range(120)]
    after = {w: rng.choices(words, k=4) for w in words}
    lines = []
    for _ in range(1500):
        sentence = [rng.choice(words)]
        while len(sentence) < rng.randint(4, 12):
            sentence.append(rng.choice(after[sentence[-1]]))
        lines.append(" ".join(sentence).capitalize() + ".")
    text = "\n".join(lines) + "\n"
    path.write_text(text, encoding="utf-8")
    return text


def load(path: Path) -> tuple[llama.Config, dict[str, torch.Tensor], Tokenizer]:
    with h5py.File(path) as file:
        model = file["model"]
        at, layers = model.attrs, {name: tuple(map(int, model[name])) for name in ("n_heads", "n_kv_heads", "d_ff")}
        scaling = ("none", "linear", "llama3")[at["rope_scaling"]]
        rope = llama.Rope(float(at["rope_base"]))
        if scaling != "none":
            rope = llama.Rope(float(at["rope_base"]), scaling, float(at["rope_factor"]),
                              float(at["rope_low_freq_factor"]), float(at["rope_high_freq_factor"]),
                              int(at["rope_original_context"]))
        cfg = llama.Config(**layers, d_model=int(at["d_model"]), head_dim=int(at["head_dim"]),
                           vocab=int(at["vocab_size"]), context=int(at["context"]), rope=rope,
                           norm_eps=float(at["norm_eps"]), tie=bool(at["tie_embeddings"]), arch=at["arch"].decode())
        weights = {name: torch.from_numpy(data[()]).double() for name, data in file["weights"].items()}
        tokenizer = Tokenizer.from_str(file["tokenizer"][()].decode())
    shapes = {name: tuple(w.shape) for name, w in weights.items()}
    report("names and shapes of the weights", shapes == cfg.shapes(), f"{len(shapes)} tensors")
    return cfg, weights, tokenizer


def logits(cfg: llama.Config, w: dict[str, torch.Tensor], ids: list[int]) -> torch.Tensor:
    """[T,V]"""
    return llama.head(w, llama.hidden(cfg, w, torch.tensor([ids])))


def nll(cfg: llama.Config, w: dict[str, torch.Tensor], ids: list[int]) -> torch.Tensor:
    """[T-1] of every token but the first."""
    rows = logits(cfg, w, ids[:-1])
    return rows.logsumexp(-1) - rows.gather(-1, torch.tensor(ids[1:])[:, None]).squeeze(-1)


def valid_loss(cfg: llama.Config, w: dict[str, torch.Tensor], ids: list[int]) -> float:
    """Windows of a context, one after the other; the last one is shorter."""
    parts = [nll(cfg, w, ids[at: at + cfg.context + 1]) for at in range(0, len(ids) - 1, cfg.context)]
    return float(torch.cat(parts).mean())


def perplexity(cfg: llama.Config, w: dict[str, torch.Tensor], ids: list[int], chunk: int) -> float:
    """llama-perplexity's: of chunk tokens those in the second half, the very last one's successor excepted."""
    parts = [nll(cfg, w, ids[at: at + chunk])[chunk // 2:] for at in range(0, len(ids) - chunk + 1, chunk)]
    return math.exp(float(torch.cat(parts).mean()))


def greedy(cfg: llama.Config, w: dict[str, torch.Tensor], ids: list[int], n: int) -> tuple[list[int], float]:
    """n tokens, and the smallest lead that the likeliest one had over the second."""
    ids, lead = list(ids), math.inf
    for _ in range(n):
        best = logits(cfg, w, ids)[-1].topk(2)
        lead = min(lead, float(best.values[0] - best.values[1]))
        ids.append(int(best.indices[0]))
    return ids[-n:], lead


def check(name: str, yaml: str, folder: Path) -> None:
    print(f"== {name}", flush=True)
    text = write_text(folder / "text.txt")
    (folder / "config.yaml").write_text(f"name: m\nseed: 3\n{yaml}")
    attar(folder, "run", "config.yaml")
    stage = folder / "runs/m/01-pretrain"
    cfg, w, tokenizer = load(stage / "checkpoint.h5")

    corpus, = (folder / "data").glob("corpus-*.h5")
    with h5py.File(corpus) as file:
        parts = [file[f"{side}/tokens"][()].astype(np.int64) for side in ("train", "valid")]
    joined = tokenizer.decode([int(i) for i in np.concatenate(parts)], skip_special_tokens=True)
    report("corpus decoded by tokenizers", joined == text, f"{sum(map(len, parts))} tokens")
    ids = [int(i) for i in parts[1]]
    theirs = valid_loss(cfg, w, ids)
    lines = [json.loads(line) for line in (stage / "metrics.jsonl").read_text().splitlines()]
    valid = [line["valid_loss"] for line in lines if "valid_loss" in line]
    close("validation loss while training", valid[-1], theirs)
    row = json.loads((folder / "runs/m/02-evaluate/summary.json").read_text())["rows"][0]
    close("validation loss of the evaluate stage", row["loss"], theirs)
    report("it has learnt", valid[-1] < 0.8 * math.log(cfg.vocab), f"{valid[0]:.3f} to {valid[-1]:.3f}")

    transformers = llama.to_transformers(cfg, w).double().eval()
    window = ids[: cfg.context]
    off = llama.distance(logits(cfg, w, window), transformers(torch.tensor([window])).logits[0])
    report("the model loaded by transformers", off < 1e-5, f"its logits differ by {off:.1e} of their norm")
    some = text[: 4000]
    (folder / "some.txt").write_text(some)
    for chunk in (cfg.context, 17):
        out = attar(folder, "perplexity", "-m", "runs/m/01-pretrain", "-f", "some.txt", "-c", str(chunk))
        ours = float(re.search(r"PPL = ([0-9.]+)", out)[1])
        close(f"perplexity, chunks of {chunk}", ours, perplexity(cfg, w, tokenizer.encode(some).ids, chunk))

    for prompt in ("Alo", text[100:115]):
        start = tokenizer.encode(prompt).ids
        n = cfg.context - len(start)
        theirs, lead = greedy(cfg, w, start, n)
        out = attar(folder, "generate", "-m", "runs/m/01-pretrain", "-p", prompt, "-n", str(n), "--temp", "0")
        want = tokenizer.decode(start + theirs, skip_special_tokens=True)
        same = out.rstrip("\n") == want.rstrip("\n")
        report(f"greedy text after {prompt!r}", same or lead < 1e-4,
               f"{n} tokens, lead of at least {lead:.2g}" if same else f"attar {out!r}, PyTorch {want!r}")


def main() -> int:
    torch.set_grad_enabled(False)
    for name, yaml in MODELS.items():
        with tempfile.TemporaryDirectory() as folder:
            check(name, yaml, Path(folder))
    print(f"{failures} comparisons failed" if failures else "all agree")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
