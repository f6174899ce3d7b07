"""`attar perplexity` against NumPy and, where LLAMA_BIN names a folder with llama-perplexity, against that.

  divergence_oracle.py ATTAR

On ATTAR_DATA's kjv-5m-f16.gguf and the start of tinyshakespeare.txt. NumPy reads the files of log-probabilities of two
runs and computes perplexity and the table of the divergence between them. llama.cpp reads attar's file and attar reads
its; perplexities must agree within 0.1 percent, tables within the files' resolution.
"""

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

CHUNK, CHUNKS = 128, 24
STEP = 16 / 65535  # of log p in a file


def run(command: list[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, errors="replace")
    if done.returncode:
        sys.exit(f"{' '.join(command)}: exit status {done.returncode}\n{(done.stderr + done.stdout)[-2000:]}")
    return done.stdout + done.stderr


def peer_run(command: list[str], last: str) -> str:
    """The output of one of llama.cpp's programs, which on a busy machine ends before its log's last lines are out."""
    for _ in range(10):
        said = run(command)
        if last in said:
            break
    return said


def read(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """log p [chunks, scored, V], and the tokens that follow [chunks, scored]."""
    data = path.read_bytes()
    assert data[:8] == b"_logits_"
    c, vocab, chunks = np.frombuffer(data, "<i4", 3, 8)
    tokens = np.frombuffer(data, "<i4", chunks * c, 20).reshape(chunks, c)
    scored, row = c - 1 - c // 2, 2 * ((vocab + 1) // 2) + 4
    rows = np.frombuffer(data, "<u2", offset=20 + 4 * chunks * c).reshape(chunks, scored, row)
    scale, low = (np.ascontiguousarray(rows[:, :, 2 * i:2 * i + 2]).view("<f4") for i in (0, 1))
    return scale.astype("f8") * rows[:, :, 4:4 + vocab] + low, tokens[:, c // 2 + 1:]


def figures(table: str) -> dict[str, float]:
    """The numbers of a printed table by their labels."""
    found = re.findall(r"^([^:\n]+?)\s*:\s*(-?[\d.]+)", table, re.MULTILINE)
    return {re.sub(r"\s+", " ", label.strip()): float(value) for label, value in found}


def expected(q: np.ndarray, base: np.ndarray, following: np.ndarray) -> dict[str, float]:
    pick = following[..., None]
    nll, nll_base = (-np.take_along_axis(x, pick, 2)[..., 0].ravel() for x in (q, base))
    kld = np.where(base > -16, np.exp(base) * (base - q), 0).sum(2).ravel()
    diff = np.exp(-nll) - np.exp(-nll_base)
    out = {"Mean PPL(Q)": np.exp(nll.mean()), "Mean PPL(base)": np.exp(nll_base.mean()),
           "Mean ln(PPL(Q)/PPL(base))": (nll - nll_base).mean(), "Mean KLD": kld.mean(), "Median KLD": np.median(kld),
           "Maximum KLD": kld.max(), "99.0% KLD": np.quantile(kld, 0.99), "Mean Δp": 100 * diff.mean(),
           "Maximum Δp": 100 * diff.max(), "95.0% Δp": 100 * np.quantile(diff, 0.95),
           "RMS Δp": 100 * np.sqrt((diff ** 2).mean()),
           "Same top p": 100 * (q.argmax(2) == base.argmax(2)).mean()}
    return {name: float(value) for name, value in out.items()}


def compare(what: str, got: dict[str, float], want: dict[str, float]) -> int:
    """0 if each of `want` is met: steps of the files are what log p may be off by."""
    failed = 0
    for name, value in want.items():
        most = 2 * STEP * (value if "PPL(Q)" == name[-6:] or "PPL(base)" == name[-9:] else 100 if "p" in name[-2:] else 1)
        if name.startswith("Same"):
            most = 0.15  # two tokens that are equally likely in a file's steps
        if name not in got or not abs(got[name] - value) <= most:
            print(f"{what}: {name} is {got.get(name)}, expected {value:.6g} within {most:.2g}")
            failed = 1
    return failed


def main() -> int:
    attar, data = sys.argv[1], Path(os.environ.get("ATTAR_DATA", "../shared/data"))
    model, source = data / "kjv-5m-f16.gguf", data / "tinyshakespeare.txt"
    if not model.exists() or not source.exists():
        print(f"SKIPPED: no {model} or {source}")
        return 0
    failed = 0
    with tempfile.TemporaryDirectory() as folder:
        text, base, other, theirs = (Path(folder) / name for name in ("text", "base", "other", "theirs"))
        text.write_bytes(source.read_bytes()[:40000])
        take = ["-f", str(text), "-c", str(CHUNK), "--chunks", str(CHUNKS)]
        ours = [attar, "perplexity", "-m", str(model)]
        said = run([*ours, *take, "--kl-divergence-base", str(base)])
        run([*ours, *take, "--kl-divergence-base", str(other), "--cache-type", "q8_0"])
        table = figures(run([*ours, "--kl-divergence-base", str(base), "--kl-divergence", "--cache-type", "q8_0"]))
        p_base, following = read(base)
        p_other, _ = read(other)
        ppl = float(re.search(r"PPL = ([\d.]+)", said)[1])
        nll = -np.take_along_axis(p_base, following[..., None], 2).mean()
        failed |= compare("perplexity", {"Mean PPL(Q)": ppl}, {"Mean PPL(Q)": float(np.exp(nll))})
        failed |= compare("NumPy", table, expected(p_other, p_base, following))
        llama = Path(os.environ.get("LLAMA_BIN", "")) / "llama-perplexity"
        if not os.environ.get("LLAMA_BIN") or not llama.exists():
            print("SKIPPED: llama-perplexity: LLAMA_BIN names no folder that has it")
            return failed
        peer = [str(llama), "-m", str(model), "-c", str(CHUNK)]
        said = peer_run([*peer, "-f", str(text), "--chunks", str(CHUNKS), "--kl-divergence-base", str(theirs)], "PPL = ")
        peer_ppl = float(re.search(r"PPL = ([\d.]+)", said)[1])
        print(f"perplexity: attar {ppl}, llama.cpp {peer_ppl}")
        if abs(ppl / peer_ppl - 1) > 1e-3:
            print("they differ by more than 0.1 percent")
            failed = 1
        p_peer, _ = read(theirs)
        on_ours = figures(peer_run([*peer, "--kl-divergence-base", str(base), "--kl-divergence"], "Same top p"))
        failed |= compare("llama.cpp on attar's file", on_ours, expected(p_peer, p_base, following))
        on_theirs = figures(run([*ours, "--kl-divergence-base", str(theirs), "--kl-divergence"]))
        failed |= compare("attar on llama.cpp's file", on_theirs, expected(p_base, p_peer, following))
    return failed


if __name__ == "__main__":
    sys.exit(main())
