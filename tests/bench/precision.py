"""Does bf16 reach f32's validation loss? Trains the quickstart's data on a llama of 5.8M parameters, in f32 and in bf16
for each seed: a seed has the same first weights, the same text and the same order of it in both.

  precision.py ATTAR [--seeds 1 2 3] [--tokens 1M] [--again] [--dry]

Each run adds a line to results/precision.jsonl; what is there of this config, machine and commit is skipped, so that
the command goes on where it was stopped (--again: all anew; --dry: nothing is added). In the end it prints the paired
differences of the validation loss in percent of f32's, their mean and standard error.
"""

import argparse
import hashlib
import json
import math
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import results

CONFIG = "experiments/configs/quickstart.yaml"
OVERRIDES = ("model.n_layers=6", "model.d_model=256", "model.d_ff=768", "model.context=256",
             "data.tokenizer.vocab_size=2048", "pretrain.eval_every=0", "pretrain.sample_every=1M",
             "qat.steps=1")
PRECISIONS = ("f32", "bf16")
KEPT = ("parameters", "tokens", "steps", "train_loss", "valid_loss", "bits_per_byte", "seconds", "threads", "version")


def config_hash(overrides: list[str]) -> str:
    """Of all that a pair of runs has in common: the file and what is given beside it."""
    return hashlib.sha256(b"\n".join([Path(CONFIG).read_bytes(), *map(str.encode, overrides)])).hexdigest()[:16]


def records(config: str, machine: str, commit: str) -> dict[tuple[int, str], dict]:
    """The newest record of each seed and precision."""
    if not (results.FOLDER / "precision.jsonl").exists():
        return {}
    return {(r["seed"], r["precision"]): r for r in results.read("precision")
            if (r["config"], r["machine"], r["commit"].rstrip("+")) == (config, machine, commit)}


def train(attar: str, out: str, seed: int, precision: str, overrides: list[str]) -> dict:
    name = f"{precision}-{seed}"
    command = [attar, "run", CONFIG, f"out={out}", f"name={name}", f"seed={seed}", f"pretrain.precision={precision}",
               *overrides]
    done = subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    if done.returncode:
        sys.exit(f"{' '.join(command)}: exit status {done.returncode}\n{done.stderr[-2000:]}")
    summary = json.loads(Path(out, name, "01-pretrain", "summary.json").read_text(encoding="utf-8"))
    return {key: summary[key] for key in KEPT}


def differences(done: dict[tuple[int, str], dict]) -> dict[int, float]:
    """Of the seeds that have both: bf16's validation loss beyond f32's, in percent."""
    loss = {key: r["valid_loss"] for key, r in done.items()}
    return {seed: 100 * (loss[seed, "bf16"] / loss[seed, "f32"] - 1) for seed, precision in sorted(loss)
            if precision == "f32" and (seed, "bf16") in loss}


def spread(values: list[float]) -> tuple[float, float]:
    """Mean and standard error; the latter is NaN for one value."""
    error = statistics.stdev(values) / math.sqrt(len(values)) if len(values) > 1 else math.nan
    return statistics.fmean(values), error


def main() -> None:
    p = argparse.ArgumentParser(description="validation loss in bf16 against f32, in pairs of runs")
    p.add_argument("attar")
    p.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    p.add_argument("--tokens", default="1M")
    for flag in ("--again", "--dry"):
        p.add_argument(flag, action="store_true")
    a = p.parse_args()
    overrides = [*OVERRIDES, f"pretrain.tokens={a.tokens}"]
    config, machine, commit = config_hash(overrides), results.machine(), results.commit().rstrip("+")
    done = {} if a.again or a.dry else records(config, machine, commit)
    with tempfile.TemporaryDirectory() as out:
        for seed in a.seeds:
            for precision in PRECISIONS:
                if (seed, precision) in done:
                    continue
                record = {"config": config, "seed": seed, "precision": precision}
                record |= train(a.attar, out, seed, precision, overrides)
                print(f"seed {seed}, {precision}: validation loss {record['valid_loss']:.4f}, "
                      f"{record['seconds']:.0f} s", flush=True)
                done[seed, precision] = record
                if not a.dry:
                    results.append("precision", record)
    percent = differences(done)
    mean, error = spread(list(percent.values()))
    print(", ".join(f"seed {seed}: {x:+.3f} %" for seed, x in percent.items()))
    print(f"bf16 beyond f32: mean {mean:+.3f} %, standard error {error:.3f}")


if __name__ == "__main__":
    main()
