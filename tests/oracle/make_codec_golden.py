"""Writes tests/golden/codecs.h5: blocks of every format and the values that the gguf package decodes from them.

A group per format holds blocks [N,bytes] and values [N,elements], the bits of f32 as int32, every NaN the same one. A third
of the blocks are random bytes, a third have scales from ordinary to subnormal, infinite and NaN, a third have codes and
scales as trained weights do. Q8_K, which the package lacks, is d q (dequantize_row_q8_K of ggml-quants.c).

Usage: make_codec_golden.py [--check]      --check: compares with the file; exit status 1 if anything differs
"""

import argparse
import sys
from pathlib import Path

import gguf
import h5py
import numpy as np
from gguf.quants import dequantize

PATH = Path(__file__).resolve().parent.parent / "golden" / "codecs.h5"
EACH = 8
SCALES = {  # where the halves of a block are; Q8_K: an f32
    "Q4_0": (0,), "Q4_1": (0, 2), "Q5_0": (0,), "Q5_1": (0, 2), "Q8_0": (0,), "Q2_K": (80, 82), "Q3_K": (108,),
    "Q4_K": (0, 2), "Q5_K": (0, 2), "Q6_K": (208,), "Q8_K": (0,), "IQ4_NL": (0,), "IQ4_XS": (0,), "TQ1_0": (52,),
    "TQ2_0": (64,)}
EXTREME = (0x0000, 0x8000, 0x0001, 0x83ff, 0x7bff, 0xfc00, 0x7c00, 0x7e01)


def blocks_of(name: str) -> np.ndarray:
    size = gguf.GGML_QUANT_SIZES[gguf.GGMLQuantizationType[name]][1]
    rng = np.random.default_rng(list(name.encode()))
    blocks = rng.integers(256, size=(3 * EACH, size), dtype=np.uint8)
    for i, at in enumerate(SCALES[name]):
        plain = np.exp(rng.normal(-5, 1, EACH)).astype(np.float32)
        if name == "Q8_K":
            bits = np.array(EXTREME, np.uint32) << 16
            blocks[EACH:2 * EACH, :4] = bits.view(np.uint8).reshape(EACH, 4)
            blocks[2 * EACH:, :4] = plain.view(np.uint8).reshape(EACH, 4)
            continue
        halves = np.roll(np.array(EXTREME, np.uint16), 3 * i)
        blocks[EACH:2 * EACH, at:at + 2] = halves.view(np.uint8).reshape(EACH, 2)
        blocks[2 * EACH:, at:at + 2] = plain.astype(np.float16).view(np.uint8).reshape(EACH, 2)
    return blocks


def values_of(name: str, blocks: np.ndarray) -> np.ndarray:
    with np.errstate(all="ignore"):
        if name == "Q8_K":
            x = np.ascontiguousarray(blocks[:, :4]).view(np.float32) * blocks[:, 4:260].view(np.int8).astype(np.float32)
        else:
            x = dequantize(blocks, gguf.GGMLQuantizationType[name])
    bits = np.ascontiguousarray(x, np.float32).view(np.int32).copy()
    bits[np.isnan(x)] = 0x7fc00000
    return bits


def main() -> int:
    parser = argparse.ArgumentParser(description="write the golden file of the block formats")
    parser.add_argument("--check", action="store_true")
    args = parser.parse_args()
    wrong = 0
    with h5py.File(PATH, "r" if args.check else "w", libver=("v110", "v110")) as file:
        for name in SCALES:
            blocks = blocks_of(name)
            arrays = {"blocks": blocks.astype(np.int32), "values": values_of(name, blocks)}
            for key, array in arrays.items():
                if not args.check:
                    file.create_dataset(f"{name}/{key}", data=array, compression="gzip", compression_opts=9,
                                        shuffle=True)
                elif not np.array_equal(file[f"{name}/{key}"][()], array):
                    print(f"{name}/{key}: not what gguf says")
                    wrong = 1
        if not args.check:
            file.attrs["script"] = np.bytes_("tests/oracle/make_codec_golden.py")
            file.attrs["numpy"] = np.bytes_(np.__version__)
    print("checked" if args.check else f"{PATH.stat().st_size} bytes")
    return wrong


if __name__ == "__main__":
    sys.exit(main())
