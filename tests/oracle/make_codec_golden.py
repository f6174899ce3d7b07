"""Writes tests/golden/codecs.h5: blocks of every format and the values that the gguf package decodes from them.

A group per format holds blocks [N,bytes] and values [N,elements], the bits of f32 as int32, every NaN the same one. A third
of the blocks are random bytes, a third have scales from ordinary to subnormal, infinite and NaN, a third have codes and
scales as trained weights do. Q8_K, which the package lacks, is d q (dequantize_row_q8_K of ggml-quants.c).

Usage: make_codec_golden.py [--check]      --check: compares with the file; exit status 1 if anything differs. Q8_K is
                                           then also compared with llama.cpp's C, where LLAMA_BIN points to its libraries
"""

import argparse
import ctypes
import os
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


def ggml_differs(file: h5py.File) -> int:
    """Q8_K's golden values, and d q of more blocks, random ones and those that ggml makes of rows, against ggml's C."""
    found = sorted(Path(os.environ["LLAMA_BIN"]).glob("libggml-base.so*"))
    if not found:
        print(f"SKIPPED: Q8_K against llama.cpp's C: no libggml-base.so in {os.environ['LLAMA_BIN']}")
        return 0
    ggml = ctypes.CDLL(str(found[0]))

    def decoded(blocks: np.ndarray) -> np.ndarray:
        x = np.empty((len(blocks), 256), np.float32)
        ggml.dequantize_row_q8_K(blocks.ctypes.data_as(ctypes.c_void_p), x.ctypes.data_as(ctypes.c_void_p),
                                 ctypes.c_int64(x.size))
        bits = x.view(np.int32).copy()
        bits[np.isnan(x)] = 0x7fc00000
        return bits

    rng = np.random.default_rng(8)
    rows = rng.normal(0, np.exp(rng.normal(-3, 3, (2000, 1))), (2000, 256)).astype(np.float32)
    rows[:100] = rows[:100, :1]
    rows[100:200] = 0
    rows[200:300, 7] *= 1e4
    made = np.zeros((len(rows), 292), np.uint8)
    ggml.quantize_row_q8_K_ref(rows.ctypes.data_as(ctypes.c_void_p), made.ctypes.data_as(ctypes.c_void_p),
                               ctypes.c_int64(rows.size))
    random = rng.integers(256, size=(2000, 292), dtype=np.uint8)
    golden = np.ascontiguousarray(file["Q8_K/blocks"][()].astype(np.uint8))
    same = np.array_equal(decoded(golden), file["Q8_K/values"][()]) and \
        all(np.array_equal(decoded(b), values_of("Q8_K", b)) for b in (made, random))
    print(f"Q8_K against {found[0].name}: {len(golden) + len(made) + len(random)} blocks {'agree' if same else 'DIFFER'}")
    return 0 if same else 1


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
        if args.check and os.environ.get("LLAMA_BIN"):
            wrong |= ggml_differs(file)
        elif args.check:
            print("SKIPPED: Q8_K against llama.cpp's C: LLAMA_BIN is not set")
        if not args.check:
            file.attrs["script"] = np.bytes_("tests/oracle/make_codec_golden.py")
            file.attrs["numpy"] = np.bytes_(np.__version__)
    print("checked" if args.check else f"{PATH.stat().st_size} bytes")
    return wrong


if __name__ == "__main__":
    sys.exit(main())
