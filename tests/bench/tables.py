"""Fills the tables of a Markdown file from tests/bench/results/*.jsonl, so that no figure is typed by hand.

  tables.py [--check] [FILE]        FILE: README.md; --check changes nothing and exits 1 if a table is out of date

A table stands between `<!-- table:NAME -->` and `<!-- end -->`; NAME is one of TABLES below. A row is the newest record
of its results file. Under a table stand the machines, commits and dates of its rows.
"""

import argparse
import re
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import precision
import recover_claims as recover
import results

MARKED = re.compile(r"(<!-- table:([\w-]+) -->\n).*?(<!-- end -->)", re.DOTALL)


@dataclass(frozen=True)
class Table:
    """`rows` maps a row's first cell to its results file; `cells` makes the others of that file's newest record, or of
    what `pick` makes of all its records and the first cell."""

    header: tuple[str, ...]
    rows: dict[str, str]
    cells: Callable[[dict], Iterable[str]]
    pick: Callable[[list[dict], str], dict | None] = lambda records, first: records[-1]


def number(x: float) -> str:
    """Three or more significant digits, thousands apart."""
    return f"{x:,.0f}" if x >= 1000 else f"{x:.4g}" if x < 100 else f"{x:.0f}"


def pair_cells(record: dict) -> Iterable[str]:
    """Cells of a pair.py record: both sides, then the ratio's median and quartiles."""
    for label in record["labels"]:
        side = record["sides"][label]
        yield f"{number(side['median'])} ({number(side['min'])} to {number(side['max'])})"
    ratio = record["ratio"]
    yield f"**{ratio['median']:.2f}** ({ratio['q1']:.2f} to {ratio['q3']:.2f})"
    yield str(record["rounds"])


def fields(*names: str) -> Callable[[dict], Iterable[str]]:
    """Cells of a results.py record: these fields."""
    return lambda record: (number(record[name]) if isinstance(record[name], (int, float)) else str(record[name])
                           for name in names)


def pair_side(*names: str) -> Callable[[dict], Iterable[str]]:
    """Cells of a pair.py record: pair_cells, then these fields of both sides' last run."""
    def cells(record: dict) -> Iterable[str]:
        yield from pair_cells(record)
        for name in names:
            yield ", ".join(number(record["sides"][label]["last"][name]) for label in record["labels"])
    return cells


PLAN_CONTEXTS = (128, 512, 2048)


def plan_pick(records: list[dict], first: str) -> dict:
    """The newest bench_plan.py records of one size and precision, "6M, bf16", by context."""
    size, precision = first.split(", ")
    by_context = {r["seq"]: r for r in records if (r["size"], r["precision"]) == (size, precision)}
    missing = [str(seq) for seq in PLAN_CONTEXTS if seq not in by_context]
    if missing:
        sys.exit(f"results/plan.jsonl: {first} lacks contexts {', '.join(missing)}; run bench_plan.py")
    return by_context[PLAN_CONTEXTS[-1]] | {"by_context": by_context}


def plan_cells(record: dict) -> Iterable[str]:
    """Planned and measured tokens/s and their ratio, for each context."""
    for seq in PLAN_CONTEXTS:
        r = record["by_context"][seq]
        yield f"{number(r['planned_tokens_per_s'])}, {number(r['tokens_per_s'])}: **{r['ratio']:.2f}**"


def tokenizer_cells(record: dict) -> Iterable[str]:
    """Cells of a bench_tokenizer.py record: MB/s of both, and the ratio of the medians."""
    for side in ("attar", "hf"):
        yield "{mb_s:.2f} ({min:.2f} to {max:.2f})".format(**record[side])
    yield f"**{record['times_faster']:.2f}**"
    yield str(record["runs"])


def codecs_pick(records: list[dict], first: str) -> dict | None:
    """The newest codecs.py record of a type."""
    return next((r for r in reversed(records) if r["type"] == first), None)


KL_MODELS = {"SmolLM2 135M": "smollm2", "5.8M, King James": "kjv-5m", "2.3M, mixed prose": "s2-seed1",
             "5.2M, mixed prose": "s5-seed1"}
KL_TYPES = ("Q2_K", "Q3_K_M", "Q4_K_M", "Q4_0")
KL_ROWS = {f"{model} {kind}": "kl" for model in KL_MODELS for kind in KL_TYPES}


def kl_pair(model: str, kind: str, imatrix: bool, name: str = "kl") -> tuple[dict, dict] | None:
    """The newest kl.py records of attar's and llama-quantize's file; None: not measured."""
    found = {r["side"]: r for r in results.read(name) if (r["model"], r["type"], r["imatrix"]) == (model, kind, imatrix)}
    return (found["attar"], found["llama"]) if len(found) == 2 else None


def kl_pick(records: list[dict], first: str) -> dict | None:
    label, kind = first.rsplit(" ", 1)
    sides = [kl_pair(KL_MODELS[label], kind, imatrix) for imatrix in (False, True)]
    before = [kl_pair(KL_MODELS[label], kind, imatrix, "kl-42218f5") for imatrix in (False, True)]
    return sides[0][0] | {"sides": sides, "before": before} if all(sides) else None


def kl_cells(record: dict) -> Iterable[str]:
    """kl.py, without importance and with it: both divergences, their paired difference, the ratio and what it was."""
    for (ours, theirs), before in zip(record["sides"], record["before"]):
        yield f"{ours['kl']:.5f}, {theirs['kl']:.5f}"
        yield f"{theirs['minus_attar']:+.5f} ± {theirs['minus_attar_error']:.5f}"
        yield f"**{ours['kl'] / theirs['kl']:.3f}**" + (f" ({before[0]['kl'] / before[1]['kl']:.3f})" if before else "")


def codecs_cells(record: dict) -> Iterable[str]:
    """Bits; both sums of squared errors and their ratio, plain and weighted; divergence of the mix on SmolLM2, without
    and with importance; speeds and their ratio."""
    yield f"{record['bits']:.4g}"
    for kind in ("plain", "weighted"):
        ours, theirs = record[kind]["attar"], record[kind]["llama"]
        yield f"{number(ours)}, {number(theirs)}: **{ours / theirs:.3f}**"
    pairs = [kl_pair("smollm2", record["mix"], imatrix) for imatrix in (False, True)]
    yield ", ".join(f"{ours['kl'] / theirs['kl']:.3f}" for ours, theirs in pairs) if all(pairs) else "-"
    yield record["mix"]
    for side in ("attar", "llama"):
        yield "{median:.3g} ({min:.3g} to {max:.3g})".format(**record["mweights_s"][side])
    yield f"**{record['times_faster']:.1f}**"


PRODUCTS = ("attn_forward", "ffn_up_forward", "ffn_down_forward", "head_forward", "ffn_up_dx", "ffn_down_dx", "head_dx",
            "ffn_up_dw", "ffn_down_dw", "head_dw")


def product_cells(record: dict) -> Iterable[str]:
    """Cells of a pair.py record of bench_gemm's: both sides' last run, product by product."""
    for name in PRODUCTS:
        yield ", ".join(number(record["sides"][label]["last"][name]) for label in record["labels"])


def precision_pick(records: list[dict], first: str) -> dict:
    """The seed that the first cell ends in, or the mean over all, of precision.py's newest config, machine, commit."""
    newest = records[-1]
    done = precision.records(newest["config"], newest["machine"], newest["commit"].rstrip("+"))
    percent = precision.differences(done)
    seeds = list(percent) if first == "mean" else [int(first.split()[-1])]
    if not set(seeds) <= set(percent) or not seeds:
        sys.exit(f"results/precision.jsonl: {first} lacks a precision; run precision.py")
    mean, error = precision.spread([percent[seed] for seed in seeds])
    return newest | {"f32": sum(done[seed, "f32"]["valid_loss"] for seed in seeds) / len(seeds),
                     "bf16": sum(done[seed, "bf16"]["valid_loss"] for seed in seeds) / len(seeds),
                     "percent": f"{mean:+.3f}" + (f" (standard error {error:.3f})" if len(seeds) > 1 else "")}


def decode_pick(records: list[dict], first: str) -> dict:
    """The newest decode_peers.py record of one model and number of threads: "r110m-Q4_K_M, 2 threads"."""
    model, threads = first.removesuffix(" threads").removesuffix(" thread").split(", ")
    found = [r for r in records if r["model"] == DECODE_FILES[model] and r["threads"] == int(threads)]
    return found[-1] if found else {"machine": "", "commit": "", "date": "", "missing": True}


def decode_cells(test: str) -> Callable[[dict], Iterable[str]]:
    """Medians and ranges of the three programs, the ratio to the better peer; of generation, the share of reading."""
    def cells(r: dict) -> Iterable[str]:
        width = 6 if test == "gen" else 5
        if r.get("missing"):
            yield from ("not measured yet",) + ("",) * (width - 1)
            return
        for program in ("attar", "llama.cpp", "ik_llama.cpp"):
            side = r[test + "_sides"].get(program)
            yield f"{number(side['median'])} ({number(side['min'])} to {number(side['max'])})" if side else "-"
        ratio = r[test + "_ratio"]
        yield f"**{ratio['median']:.2f}** ({ratio['q1']:.2f} to {ratio['q3']:.2f})"
        if test == "gen":
            speed = r["gen_sides"]["attar"]["median"] * r["bytes_a_token"] / 1e9
            yield f"{100 * speed / r['read_gb_s']['median']:.0f}% of {number(r['read_gb_s']['median'])}"
        yield str(r["rounds"])
    return cells


DECODE_FILES = {f"{size.upper()} {kind}": f"r{size}-{'f16' if kind == 'F16' else kind}"
                for size in ("110m", "850m") for kind in ("Q4_K_M", "Q6_K", "Q2_K", "F16")} | {
                    "SmolLM2 135M Q4_1": "smollm2-135m-Q4_1"}
DECODE_ROWS = {f"{model}, {threads} thread{'s' if threads > 1 else ''}": "decode"
               for model in DECODE_FILES for threads in (1, 2)}



def loss_cells(r: dict) -> Iterable[str]:
    """smollm2_oracle.py: matrices by type; chunks; of both programs perplexity, that of the decoded weights, divergence."""
    yield ", ".join(f"{n} {kind}" for kind, n in r["matrices"].items())
    yield str(r["chunks"])
    for side in (r["attar"], r.get("llama")):
        yield f"{side['ppl']:.3f}" if side else "-"
    yield f"{r['attar']['ppl_decoded']:.3f}"
    for side in (r["attar"], r.get("llama")):
        yield ("below .00001" if side["kl"] < 1e-5 else f"{side['kl']:.5f}") if side else "-"


def loss_pick(records: list[dict], first: str) -> dict | None:
    """The newest record of a type with as many chunks as there are of it."""
    kind = "own" if first.startswith("its own") else first
    found = [r for r in records if r["type"] == kind]
    return max(reversed(found), key=lambda r: r["chunks"], default=None)


LOSS_ROWS = {kind: "smollm2" for kind in (
    "its own file, Q4_1", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "IQ4_NL", "Q2_K", "Q3_K_M", "Q4_K_M", "Q5_K_M", "Q6_K",
    "IQ4_XS", "TQ1_0", "TQ2_0", "F16", "BF16")}

TABLES = {
    "smollm2": Table(
        ("SmolLM2-135M-Instruct", "matrices", "chunks", "perplexity, attar", "llama.cpp", "of the decoded weights",
         "divergence from the decoded weights, attar", "llama.cpp"), LOSS_ROWS, loss_cells, loss_pick),
    "decode-prompt": Table(
        ("prompt of 512 tokens", "attar, tokens/s (range)", "llama.cpp", "ik_llama.cpp", "attar by the better (quartiles)",
         "rounds"), DECODE_ROWS, decode_cells("prompt"), decode_pick),
    "decode-gen": Table(
        ("generation", "attar, tokens/s (range)", "llama.cpp", "ik_llama.cpp", "attar by the better (quartiles)",
         "weights read, of the memory's GB/s", "rounds"), DECODE_ROWS, decode_cells("gen"), decode_pick),
    "train": Table(
        ("model and PyTorch", "attar, tokens/s (range)", "PyTorch, tokens/s (range)", "ratio (quartiles)", "rounds",
         "peak MiB", "first step, s"),
        {"5.8M llama, f32, eager": "train-attar-torch-eager", "5.8M llama, f32, compiled": "train-attar-torch-compile",
         "5.8M llama, bf16, eager": "train-attar-torch-eager-bf16",
         "5.8M llama, bf16, compiled": "train-attar-torch-compile-bf16",
         "35.7M llama, bf16, compiled": "train-small", "35.7M, 512 tokens at once": "train-small-lean",
         "GPT-2 124M, bf16, compiled": "train-gpt2", "124M, 1,024 tokens at once": "train-gpt2-lean"},
        pair_side("peak_rss_mib", "first_step_s")),
    "gemm16": Table(
        ("training's products in bf16", "attar, GFLOP/s (range)", "oneDNN, GFLOP/s (range)", "ratio (quartiles)",
         "rounds"),
        {f"{model}, {peer}": f"gemm16-{name}{tail}" for name, model in
         (("tiny", "5.8M llama"), ("small", "35.7M llama"), ("gpt2", "GPT-2 124M"))
         for tail, peer in (("", "Debian's oneDNN"), ("-torch", "PyTorch's oneDNN"))}, pair_cells),
    "gemm16-products": Table(
        ("GFLOP/s, attar and oneDNN", *(name.replace("_", " ") for name in PRODUCTS)),
        {f"{model}, {peer}": f"gemm16-{name}{tail}" for name, model in
         (("tiny", "5.8M llama"), ("small", "35.7M llama"), ("gpt2", "GPT-2 124M"))
         for tail, peer in (("", "Debian's"), ("-torch", "PyTorch's"))}, product_cells),
    "precision": Table(
        ("5.8M llama, 1M tokens of the King James Bible", "validation loss in f32", "in bf16", "bf16 beyond f32, percent"),
        {"seed 1": "precision", "seed 2": "precision", "seed 3": "precision", "mean": "precision"},
        fields("f32", "bf16", "percent"), precision_pick),
    "gemm": Table(
        ("training's shapes, f32", "attar, GFLOP/s (range)", "OpenBLAS, GFLOP/s (range)", "ratio (quartiles)",
         "rounds"),
        {"OpenBLAS as it starts on a processor it does not know": "gemm-wrong", "OpenBLAS on the right core": "gemm-right",
         "both with AVX2": "gemm-avx2"}, pair_cells),
    "recompute": Table(
        ("12 layers", "all kept, tokens/s (range)", "recomputed, tokens/s (range)", "ratio (quartiles)", "rounds",
         "arena MiB, kept and recomputed"),
        {"f32": "recompute"}, pair_side("arena_mib")),
    "attention": Table(
        ("attention, forward and backward", "tokens", "arena MiB", "its scores, were they kept, MiB", "seconds"),
        {"4 heads of 64": "attention-4096", "the same": "attention-8192"}, fields("seq", "arena_mib", "scores_mib", "seconds")),
    "shakespeare": Table(
        ("tiny Shakespeare, bytes", "parameters", "steps", "validation loss", "seconds"),
        {"attar": "shakespeare"}, fields("parameters", "steps", "valid_loss", "wall_s")),
    "quickstart": Table(
        ("the quickstart", "parameters", "tokens", "seconds of training", "validation loss", "bits per byte",
         "xz -9e, bits per byte"),
        {"King James Bible": "quickstart"},
        fields("parameters", "tokens", "seconds", "valid_loss", "bits_per_byte", "xz_bits_per_byte")),
    "startup": Table(
        ("from the command to", "seconds", "min", "max", "peak MiB"),
        {"`attar --version`": "startup-version", "the first token of `attar generate`": "startup-token",
         "the first step of `attar run`, its corpus there": "startup-run",
         "the first training step, f32": "startup-step", "`import torch`": "startup-torch-import",
         "the first training step of PyTorch, f32": "startup-torch-step",
         "a corpus of mixed.txt.xz (32.8 MB), 8k BPE learnt on the way": "corpus-mixed"},
        fields("wall_s", "wall_s_min", "wall_s_max", "peak_rss_mib")),
    "tokenizer": Table(
        ("BPE, one core", "attar, MB/s (range)", "Hugging Face, MB/s (range)", "ratio", "runs"),
        {"training": "tokenizer-train", "encoding, as gpt-2": "tokenizer-encode",
         "encoding, as llama-bpe": "tokenizer-encode-llama-bpe", "encoding, as qwen2": "tokenizer-encode-qwen2",
         "encoding, as smollm": "tokenizer-encode-smollm",
         "encoding in llama's pieces, SentencePiece's BPE": "tokenizer-encode-spm"}, tokenizer_cells),
    "codecs": Table(
        ("type", "bits a weight", "squared error, attar and llama-quantize: ratio", "weighted by importance",
         "divergence of the mix on SmolLM2: ratio, and with importance", "mix",
         "attar, million weights/s (range)", "llama-quantize (range)", "times faster"),
        {name: "codecs" for name in ("Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0",
                                     "IQ4_NL", "IQ4_XS", "TQ1_0", "TQ2_0")}, codecs_cells, codecs_pick),
    "kl": Table(
        ("model and mix", "divergence, attar and llama-quantize", "theirs less ours", "ratio (at 42218f5)",
         "with importance", "theirs less ours", "ratio (at 42218f5)"), KL_ROWS, kl_cells, kl_pick),
    "parallel": Table(
        ("64 texts of 64 tokens", "64 at once, tokens/s (range)", "one by one, tokens/s (range)", "ratio (quartiles)",
         "rounds", "MiB of blocks, at once and one by one", "MiB, were each text given its context of 256"),
        {f"{model}, {kind}": f"parallel-{name}{tail}" for name, model in
         (("5m", "5.8M in F16"), ("110m", "110M in Q4_K_M")) for tail, kind in
         (("", "64 prompts"), ("-samples", "8 prompts, 8 texts each"))}, pair_side("cache_mib", "contiguous_mib")),
    "qat-cost": Table(
        ("a step, bf16", "in blocks, ms (range)", "plain, ms (range)", "ratio (quartiles)", "rounds", "peak MiB"),
        {f"{model}, {what}": f"qat-cost-{shape}-{mix}" for shape, model in (("small", "35.7M llama"), ("gpt2", "GPT-2 124M"))
         for mix, what in (("Q2_K", "Q2_K"), ("Q3_K_M", "Q3_K_M"), ("Q4_K_M", "Q4_K_M"), ("super", "Q2_K, scales: super"),
         ("learned", "Q2_K, scales: learned"))},
        pair_side("peak_rss_mib")),
    "qat-project": Table(
        ("type", "bits a weight", "fit, million weights/s", "by the floor in bytes", "rounded, decoded, packed", "plain: packed",
         "GB/s moved", "GB/s of a copy", "by the floor in bytes", "pullback", "scales of super-blocks learned: moved, rounded, decoded, packed",
         "and pullback"),
        {kind.upper(): f"qat-project-{kind}" for kind in ("q2_k", "q3_k", "q4_k", "q5_k", "q6_k", "q4_0", "q8_0", "iq4_nl",
                                                          "tq1_0", "tq2_0")},
        fields("bits", "fit_mweights_s", "fit_by_floor", "project_mweights_s", "plain_mweights_s", "project_gb_s", "copy_gb_s",
               "by_floor", "pullback_mweights_s", "super_project_mweights_s", "super_pullback_mweights_s")),
    "qlora": Table(
        ("a step in blocks of Q4_K_M, bf16", "all parameters, ms (range)", "factors of rank 8, ms (range)", "ratio (quartiles)",
         "rounds", "peak MiB", "parameters trained"),
        {"5.2M llama, 4,096 tokens": "qlora-recover", "35.7M llama, 2,048 tokens": "qlora-small"},
        pair_side("peak_rss_mib", "trained")),
    "recover": Table(recover.CLAIMS_HEADER, recover.CLAIMS_ROWS, recover.cells, recover.claims_pick),
    "recover-methods": Table(recover.METHODS_HEADER, recover.METHODS_ROWS, recover.cells, recover.methods_pick),
    "recover-ablation": Table(recover.ABLATION_HEADER, recover.ABLATION_ROWS, recover.cells, recover.ablation_pick),
    "recover-screen": Table(recover.SCREEN_HEADER, recover.screen_rows(recover.read()), recover.cells, recover.screen_pick),
    "plan": Table(
        ("tokens/s, planned and measured: ratio", *(f"context {seq:,}" for seq in PLAN_CONTEXTS)),
        {f"{size}, {precision}": "plan" for size in ("1M", "6M", "25M", "124M") for precision in ("f32", "bf16")},
        plan_cells, plan_pick),
    "torch-compile": Table(
        ("PyTorch, 5.8M llama", "compiled, tokens/s (range)", "eager, tokens/s (range)", "ratio (quartiles)", "rounds"),
        {"f32": "train-torch-f32", "bf16": "train-torch-bf16"}, pair_cells),
    "xz": Table(
        ("text", "training bytes", "validation bytes", "bits per byte"),
        {"tiny Shakespeare": "xz-tinyshakespeare"}, fields("train_bytes", "valid_bytes", "bits_per_byte")),
}


def build(table: Table) -> str:
    lines = [table.header, ("---",) + ("---:",) * (len(table.header) - 1)]
    origins: dict[tuple[str, str], list[str]] = {}  # of a machine and day: the commits
    for first, name in table.rows.items():
        record = table.pick(results.read(name), first) if (results.FOLDER / f"{name}.jsonl").exists() else None
        if not record:
            lines.append((first, "not measured yet") + ("",) * (len(table.header) - 2))
            continue
        cells = (first, *table.cells(record))
        if len(cells) != len(table.header):
            sys.exit(f"table row {first}: {len(cells)} cells for {len(table.header)} columns")
        lines.append(cells)
        if not record.get("missing"):
            commits = origins.setdefault((record["machine"], record["date"][:10]), [])
            if record["commit"] not in commits:
                commits.append(record["commit"])
    rows = "".join(f"| {' | '.join(line)} |\n" for line in lines)
    below = "<br>".join(f"{machine}; {day}; {', '.join(commits)}" for (machine, day), commits in origins.items())
    return f"\n{rows}\n<sub>{below}</sub>\n\n"


def fill(text: str) -> str:
    def replace(match: re.Match) -> str:
        if match[2] not in TABLES:
            sys.exit(f"table:{match[2]} is unknown; tables.py knows {', '.join(TABLES)}")
        return match[1] + build(TABLES[match[2]]) + match[3]

    if text.count("<!-- table:") != len(MARKED.findall(text)):
        sys.exit("a `<!-- table:NAME -->` stands on no line of its own or has no `<!-- end -->`")
    return MARKED.sub(replace, text)


def main() -> int:
    p = argparse.ArgumentParser(description="fill the tables of a Markdown file from recorded results")
    p.add_argument("--check", action="store_true")
    p.add_argument("file", type=Path, nargs="?", default=Path(__file__).resolve().parents[2] / "README.md")
    a = p.parse_args()
    old = a.file.read_text(encoding="utf-8")
    new = fill(old)
    if a.check:
        print(f"{a.file.name}: tables are {'up to date' if new == old else 'out of date; run tables.py'}")
        return int(new != old)
    if new != old:
        a.file.write_text(new, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
