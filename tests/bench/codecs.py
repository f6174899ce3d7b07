"""Block formats against llama-quantize: errors of a trained model's matrices, plain and weighted by importance, and the
speed of quantizing a whole file on one thread. A record a type goes to results/codecs.jsonl.

  codecs.py ATTAR LLAMA_BIN [--rounds N] [--dry] [--errors] [TYPE ...]      exit status 1: an error is larger than
                                                                             llama-quantize's; --errors: nothing else

Errors: every matrix of kjv-5m-f16.gguf (ATTAR_DATA, default ../shared/data) as one type (--pure), decoded by the gguf
package; importance is log-normal by column, the same for both. Speed: a file of random F16 weights, two layers of
2048 and their embedding, in turn; weights by the seconds of CPU that the process takes, which other programs disturb less.
"""

import argparse
import os
import statistics
import struct
import subprocess
import sys
import tempfile
import zlib
from pathlib import Path

import gguf
import numpy as np
from gguf.quants import dequantize

import results

LAYERS = 2  # of the random file
DATA = Path(os.environ.get("ATTAR_DATA", "../shared/data"))
MIXES = {"Q2_K": "Q2_K", "Q3_K": "Q3_K_M", "Q4_K": "Q4_K_M", "Q5_K": "Q5_K_M", "Q6_K": "Q6_K", "Q4_0": "Q4_0",
         "Q4_1": "Q4_1", "Q5_0": "Q5_0", "Q5_1": "Q5_1", "Q8_0": "Q8_0", "IQ4_NL": "IQ4_NL", "IQ4_XS": "IQ4_XS",
         "TQ1_0": "TQ1_0", "TQ2_0": "TQ2_0"}
PURE = {"Q3_K": "Q3_K_S", "Q4_K": "Q4_K_S", "Q5_K": "Q5_K_S"}


def importance(name: str, columns: int) -> np.ndarray:
    return np.exp(np.random.default_rng(zlib.crc32(name.encode())).standard_normal(columns)).astype(np.float32)


def matrices(path: Path) -> dict[str, gguf.ReaderTensor]:
    return {t.name: t for t in gguf.GGUFReader(path).tensors if len(t.shape) == 2}


def values(t: gguf.ReaderTensor) -> np.ndarray:
    return dequantize(t.data, t.tensor_type).astype(np.float64)


def write_imatrix(path: Path, tensors: dict[str, gguf.ReaderTensor]) -> None:
    """The format of before GGUF: count; name, calls, values of each."""
    with open(path, "wb") as file:
        file.write(struct.pack("<i", len(tensors)))
        for name, t in tensors.items():
            w = importance(name, int(t.shape[0]))
            file.write(struct.pack("<i", len(name)) + name.encode() + struct.pack("<ii", 1, len(w)) + w.tobytes())


def write_random(path: Path) -> int:
    """A GGUF of random F16 weights; how many."""
    shapes = {"token_embd.weight": (2048, 2048), "output.weight": (2048, 2048)}
    for name, rows, columns in (("attn_q", 2048, 2048), ("attn_k", 2048, 2048), ("attn_v", 2048, 2048),
                                ("attn_output", 2048, 2048), ("ffn_gate", 5632, 2048), ("ffn_up", 5632, 2048),
                                ("ffn_down", 2048, 5632)):
        shapes |= {f"blk.{layer}.{name}.weight": (rows, columns) for layer in range(LAYERS)}
    rng = np.random.default_rng(1)
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_block_count(LAYERS)
    writer.add_context_length(512)
    writer.add_embedding_length(2048)
    writer.add_feed_forward_length(5632)
    writer.add_head_count(32)
    writer.add_head_count_kv(32)
    writer.add_layer_norm_rms_eps(1e-5)
    for norm in ("output", *(f"blk.{layer}.{part}" for layer in range(LAYERS) for part in ("attn", "ffn"))):
        writer.add_tensor(f"{norm}_norm.weight", np.ones(2048, np.float32))
    for name, shape in shapes.items():
        writer.add_tensor(name, (0.02 * rng.standard_normal(shape, np.float32)).astype(np.float16))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return sum(rows * columns for rows, columns in shapes.values())


def cpu_seconds(command: list[str]) -> float:
    child = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    log = child.stderr.read()
    _, status, usage = os.wait4(child.pid, 0)
    if status:
        sys.exit(f"{' '.join(map(str, command))}: failed\n{log[-2000:]}")
    return usage.ru_utime + usage.ru_stime


class Sides:
    def __init__(self, attar: str, llama: str) -> None:
        self.attar, self.llama = attar, str(Path(llama) / "llama-quantize")

    def command(self, side: str, source: Path, to: Path, kind: str, flags: list[str]) -> list[str]:
        if side == "attar":
            return [self.attar, "quantize", str(source), str(to), kind, "-t", "1", *flags]
        return [self.llama, *flags, str(source), str(to), kind, "1"]


def errors(sides: Sides, folder: Path, kind: str) -> dict:
    """Both sides' sums of squared errors, and the worst matrix's ratio, plain and weighted."""
    source = DATA / "kjv-5m-f16.gguf"
    tensors = matrices(source)
    write_imatrix(folder / "imatrix.dat", tensors)
    out: dict = {}
    for tag, flags in (("plain", []), ("weighted", ["--imatrix", str(folder / "imatrix.dat")])):
        sums: dict[str, list[float]] = {}
        for side in ("attar", "llama"):
            to = folder / f"{side}.gguf"
            to.unlink(missing_ok=True)
            cpu_seconds(sides.command(side, source, to, PURE.get(kind, kind), ["--pure", *flags]))
            found = matrices(to)
            # llama-quantize keeps the head apart even so: the same tensors on both sides
            sums[side] = []
            for name, t in tensors.items():
                if found[name].tensor_type.name != kind:
                    continue
                w = importance(name, int(t.shape[0])) if tag == "weighted" else 1
                sums[side].append(float((w * (values(found[name]) - values(t)) ** 2).sum()))
        if len(sums["attar"]) != len(sums["llama"]) or not sums["attar"]:
            sys.exit(f"{kind}: {len(sums['attar'])} matrices here, {len(sums['llama'])} there")
        out[tag] = {side: sum(s) for side, s in sums.items()} | {
            "worst": max(a / b for a, b in zip(sums["attar"], sums["llama"])), "matrices": len(sums["attar"])}
    return out


def speeds(sides: Sides, folder: Path, source: Path, weights: int, kind: str, rounds: int) -> dict:
    rates: dict[str, list[float]] = {"attar": [], "llama": []}
    for _ in range(rounds):
        for side, all_rates in rates.items():
            to = folder / f"{side}.gguf"
            to.unlink(missing_ok=True)
            all_rates.append(weights / 1e6 / cpu_seconds(sides.command(side, source, to, MIXES[kind], [])))
    return {side: {"median": statistics.median(r), "min": min(r), "max": max(r)} for side, r in rates.items()}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("attar")
    parser.add_argument("llama", help="folder of llama-quantize")
    parser.add_argument("types", nargs="*", default=list(MIXES))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--dry", action="store_true", help="append nothing")
    parser.add_argument("--errors", action="store_true", help="no speeds, append nothing")
    args = parser.parse_intermixed_args()
    sides = Sides(args.attar, args.llama)
    worse = 0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        random = folder / "random.gguf"
        weights = 0 if args.errors else write_random(random)
        for kind in args.types:
            block, size = gguf.GGML_QUANT_SIZES[gguf.GGMLQuantizationType[kind]]
            record = {"type": kind, "mix": MIXES[kind], "bits": 8 * size / block, "rounds": args.rounds,
                      **errors(sides, folder, kind)}
            worse |= max(record["plain"]["worst"], record["weighted"]["worst"]) > 1
            line = (f"{kind}: {record['plain']['attar'] / record['plain']['llama']:.4f} of llama-quantize's error, worst "
                    f"matrix {record['plain']['worst']:.4f}; weighted "
                    f"{record['weighted']['attar'] / record['weighted']['llama']:.4f}, {record['weighted']['worst']:.4f}")
            if not args.errors:
                rate = record["mweights_s"] = speeds(sides, folder, random, weights, kind, args.rounds)
                record["times_faster"] = rate["attar"]["median"] / rate["llama"]["median"]
                line += (f"; {MIXES[kind]} {rate['attar']['median']:.0f} against {rate['llama']['median']:.1f} million "
                         "weights/s")
            print(line, flush=True)
            if not args.dry and not args.errors:
                results.append("codecs", record)
    return worse


if __name__ == "__main__":
    sys.exit(main())
