#!/usr/bin/env python3
"""Seeds for the fuzzers of files, written by the gguf package and by hand: small, and one of each
kind.   make_seeds.py      writes tests/fuzz/{gguf,imatrix,safetensors}/*"""
import json
import struct

import numpy as np
from gguf import GGMLQuantizationType as Type, GGUFWriter


def model(path, arch, tokenizer, types):
    w = GGUFWriter(path, arch)
    w.add_context_length(16)
    w.add_embedding_length(32)
    w.add_block_count(1)
    w.add_feed_forward_length(32)
    w.add_head_count(2)
    w.add_head_count_kv(1 if arch != "gpt2" else 2)
    w.add_layer_norm_rms_eps(1e-5)
    w.add_layer_norm_eps(1e-5)
    w.add_rope_dimension_count(16)
    w.add_rope_freq_base(1e4)
    w.add_tokenizer_model(tokenizer)
    if tokenizer == "llama":
        tokens = (["<unk>", "<s>", "</s>"] + [f"<0x{b:02X}>" for b in range(256)] +
                  ["\u2581a", "a", "\u2581"])
        w.add_token_list(tokens)
        w.add_token_scores([0.0] * 259 + [-1.0, -2.0, -3.0])
        w.add_token_types([2, 3, 3] + [6] * 256 + [1, 1, 1])
    else:
        letters = [chr(b) for b in range(256) if 33 <= b <= 126 or 161 <= b <= 172 or b >= 174]
        tokens = letters + [chr(256 + i) for i in range(256 - len(letters))]
        tokens += ["ab", "<|endoftext|>"]
        w.add_tokenizer_pre("gpt-2")
        w.add_token_list(tokens)
        w.add_token_types([1] * 257 + [3])
        w.add_token_merges(["a b"])
        w.add_eos_token_id(257)
    for name, rows, cols in (("token_embd", len(tokens), 32), ("blk.0.attn_q", 32, 32),
                             ("blk.0.attn_k", 16, 32), ("blk.0.attn_v", 16, 32),
                             ("blk.0.attn_output", 32, 32), ("blk.0.ffn_gate", 32, 32),
                             ("blk.0.ffn_up", 32, 32), ("blk.0.ffn_down", 32, 32)):
        kind, block, size = types[len(name) % len(types)]
        data = np.zeros((rows, cols // block * size), dtype=np.uint8)
        w.add_tensor(name + ".weight", data, raw_dtype=kind)
    for name in ("blk.0.attn_norm", "blk.0.ffn_norm", "output_norm"):
        w.add_tensor(name + ".weight", np.ones(32, dtype=np.float32))
    save(w)


def save(w):
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()


def kinds(path):
    w = GGUFWriter(path, "kinds")
    w.add_custom_alignment(8)
    w.add_uint8("k.u8", 1)
    w.add_int8("k.i8", -1)
    w.add_uint16("k.u16", 1)
    w.add_int16("k.i16", -1)
    w.add_uint64("k.u64", 1 << 40)
    w.add_int64("k.i64", -1)
    w.add_float32("k.f32", 0.5)
    w.add_float64("k.f64", 0.5)
    w.add_bool("k.bool", True)
    w.add_array("k.numbers", [1, 2, 3])
    w.add_array("k.texts", ["one", "two"])
    w.add_tensor("t", np.arange(6, dtype=np.float32).reshape(2, 3))
    save(w)


def importance(folder):
    w = GGUFWriter(folder + "/new.gguf", "imatrix")
    w.add_type("imatrix")
    w.add_array("imatrix.datasets", ["text"])
    w.add_uint32("imatrix.chunk_count", 2)
    w.add_uint32("imatrix.chunk_size", 16)
    for name in ("blk.0.attn_q.weight", "blk.0.ffn_up.weight"):
        w.add_tensor(name + ".in_sum2", np.arange(4, dtype=np.float32).reshape(1, 4))
        w.add_tensor(name + ".counts", np.full((1, 1), 32, dtype=np.float32))
    save(w)
    with open(folder + "/old.dat", "wb") as f:
        f.write(struct.pack("<i", 2))
        for name in (b"blk.0.attn_q.weight", b"blk.0.ffn_up.weight"):
            f.write(struct.pack("<i", len(name)) + name + struct.pack("<ii4f", 3, 4, 0, 1, 2, 3))
        f.write(struct.pack("<ii", 3, 4) + b"text")


def safetensors(path):
    head = json.dumps({"__metadata__": {"format": "pt"},
                       "a": {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]},
                       "b": {"dtype": "BF16", "shape": [], "data_offsets": [24, 26]},
                       "c": {"dtype": "I8", "shape": [0], "data_offsets": [26, 26]}}).encode()
    with open(path, "wb") as f:
        f.write(struct.pack("<Q", len(head)) + head + bytes(26))


model("tests/fuzz/gguf/llama.gguf", "llama", "llama", [(Type.Q4_0, 32, 18), (Type.F16, 1, 2)])
model("tests/fuzz/gguf/qwen2.gguf", "qwen2", "gpt2", [(Type.Q8_0, 32, 34), (Type.BF16, 1, 2)])
kinds("tests/fuzz/gguf/kinds.gguf")
importance("tests/fuzz/imatrix")
safetensors("tests/fuzz/safetensors/three.safetensors")
