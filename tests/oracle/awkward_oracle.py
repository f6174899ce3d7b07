#!/usr/bin/env python3
"""Blocks of 256 that are out of the ordinary (one value, nearly one value, one outlier, one sign, denormal, huge, sub-blocks
of different sizes) in every type, attar's against llama-quantize's: squared error block by block, with importance and
without: on the mean of a kind it is at most a tenth larger (or MARGIN of a block), and no block loses LOST of itself more:
how halves and codes round decides single blocks either way, a block that became 0 loses all.
  awkward_oracle.py ATTAR [ROWS] [-v]      LLAMA_BIN: the folder of llama-quantize"""
import os
import struct
import subprocess
import sys
import tempfile

import numpy as np
from gguf import GGUFReader, GGUFWriter, dequantize

ATTAR, LLAMA = os.path.abspath(sys.argv[1]), os.environ.get("LLAMA_BIN")
ROWS = int(sys.argv[2]) if len(sys.argv) > 2 else 200
TYPES = {"Q2_K": "Q2_K", "Q3_K": "Q3_K_S", "Q4_K": "Q4_K_S", "Q5_K": "Q5_K_S", "Q6_K": "Q6_K", "Q4_0": "Q4_0", "Q4_1": "Q4_1",
         "Q5_0": "Q5_0", "Q5_1": "Q5_1", "IQ4_NL": "IQ4_NL", "IQ4_XS": "IQ4_XS"}
MARGIN, LOST = 4e-3, 0.5
rng = np.random.default_rng(1)


def each(make):
    return np.stack([make().astype(np.float32) for _ in range(ROWS)])


def size():
    return 10 ** rng.uniform(-4, 0)


def sign():
    return rng.choice([-1.0, 1.0])


def subs(per):
    """A number for every `per` of 256, spread."""
    return np.repeat(per(256 // 16), 16)


def nearly(spread):
    return lambda: sign() * size() * (1 + spread * rng.uniform(-1, 1, 256))


def outlier():
    x = rng.normal(size=256) * size()
    x[rng.integers(256)] *= 10 ** rng.uniform(1, 4)
    return x


def one_of_zeros():
    x = np.zeros(256)
    x[rng.integers(256)] = sign() * size()
    return x


def some_constant():
    """A few sub-blocks of one value among draws."""
    x = rng.normal(size=256)
    for j in range(0, 256, 32):
        if rng.random() < 0.4:
            x[j:j + 32] = sign() * abs(rng.normal()) * (1 + rng.choice([0, 1e-4, 1e-3, 1e-2]) * rng.uniform(-1, 1, 32))
    return x * size()


SHAPES = {
    "constant": lambda: np.full(256, sign() * size()),
    "constants by sub-block": lambda: subs(lambda n: rng.normal(size=n)) * size(),
    "positive constants by sub-block": lambda: subs(lambda n: np.abs(rng.normal(size=n))) * size(),
    "nearly constant, .01 %": nearly(1e-4), "nearly constant, .1 %": nearly(1e-3), "nearly constant, .5 %": nearly(5e-3),
    "nearly constant, 2 %": nearly(2e-2), "nearly constant, 5 %": nearly(5e-2), "nearly constant, 20 %": nearly(0.2),
    "some constant": some_constant, "outlier": outlier, "one of zeros": one_of_zeros,
    "one sign": lambda: sign() * np.abs(rng.normal(size=256)) * size(),
    "far from 0": lambda: sign() * size() * (3 + rng.normal(size=256)),
    "sub-blocks mixed": lambda: rng.normal(size=256) * subs(lambda n: 10 ** rng.uniform(-6, 0, n)),
    "denormal halves": lambda: rng.normal(size=256) * 10 ** rng.uniform(-8, -5),
    "denormal": lambda: rng.normal(size=256) * 1e-39, "huge": lambda: rng.normal(size=256) * 1e4, "1e30": lambda: rng.normal(size=256) * 1e30,
    "draws": lambda: rng.normal(size=256) * 0.02,
}


def call(*command, may_refuse=False):
    """True if it went well."""
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, errors="replace")
    if done.returncode and not may_refuse:
        sys.exit(f"{command}: exit status {done.returncode}\n{done.stderr[-2000:]}")
    return not done.returncode


def write(path, tensors):
    w = GGUFWriter(path, "llama")
    w.add_block_count(1)
    w.add_context_length(512)
    w.add_embedding_length(256)
    w.add_feed_forward_length(256)
    w.add_head_count(4)
    w.add_head_count_kv(4)
    w.add_layer_norm_rms_eps(1e-5)
    for name, x in tensors.items():
        w.add_tensor(name, x)
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()


def main():
    failed = 0
    with tempfile.TemporaryDirectory() as folder:
        for shape, make in SHAPES.items():
            x = each(make)
            name = "blk.0.ffn_up.weight"
            source, matrix = f"{folder}/x.gguf", f"{folder}/i.dat"
            write(source, {name: x})
            weights = np.exp(rng.normal(size=256)).astype(np.float32)
            with open(matrix, "wb") as file:
                file.write(struct.pack("<ii", 1, len(name)) + name.encode() + struct.pack("<ii", 1, 256) + weights.tobytes())
            for kind, mix in TYPES.items():
                for w, flags in ((1, []), (weights, ["--imatrix", matrix])):
                    errors = {}
                    for side in ("attar", "llama"):
                        to = f"{folder}/{side}.gguf"
                        if os.path.exists(to):
                            os.unlink(to)
                        if side == "attar":
                            call(ATTAR, "quantize", "--pure", *flags, source, to, mix)
                        elif not call(f"{LLAMA}/llama-quantize", "--pure", *flags, source, to, mix, 1, may_refuse=True):
                            break  # it finds its own result not to be finite
                        t = GGUFReader(to).tensors[0]
                        assert t.tensor_type.name == kind, t.tensor_type.name
                        y = dequantize(t.data, t.tensor_type)
                        scale = np.abs(x).max(axis=1, keepdims=True).astype(np.float64)
                        d = (y - x.astype(np.float64)) / scale
                        errors[side] = (w * d * d).sum(axis=1) / (w * (x / scale) ** 2).sum(axis=1)
                    if len(errors) < 2:
                        print(f"{shape}, {kind}{', imatrix' if flags else ''}: llama-quantize refuses, attar does not")
                        continue
                    a, b = errors["attar"], errors["llama"]
                    a, b = np.sqrt(a), np.sqrt(b)  # relative to the block
                    most, mine, theirs = (a - b).max(), np.sqrt((a * a).mean()), np.sqrt((b * b).mean())
                    bad = mine > 1.1 * theirs + MARGIN or most > LOST
                    failed += bad
                    if bad or "-v" in sys.argv:
                        print(f"{'FAILED: ' if bad else ''}{shape}, {kind}{', imatrix' if flags else ''}: error {mine:.2e}, theirs"
                              f" {theirs:.2e}, of one block at most {most:.2e} more", flush=True)
    print(f"{len(SHAPES)} kinds of blocks, {ROWS} of each, {len(TYPES)} types: {failed} worse than llama-quantize's")
    return int(failed > 0)


if not LLAMA:
    print("SKIPPED: LLAMA_BIN names no folder of llama.cpp's programs")
    sys.exit(0)
sys.exit(main())
