#!/usr/bin/env python3
"""Seeds for the fuzzers of files, written by the gguf package and by hand: small, and one of each
kind.   make_seeds.py      writes tests/fuzz/{gguf,imatrix,safetensors,tokenizer,model,inspect}/*"""
import json
import pathlib
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


def pieces():
    return (["<unk>", "<s>", "</s>"] + [f"<0x{b:02X}>" for b in range(256)] +
            ["\u2581a", "a", "\u2581", "<|user|>"])


def tokenizers(folder):
    """The smallest golden one, and a SentencePiece one as Hugging Face's converter writes it."""
    cases = json.loads(pathlib.Path("tests/golden/tokenizer.json").read_text())["cases"]
    texts = [json.dumps(c["tokenizer"], separators=(",", ":")) for c in cases]
    (folder / "bytes.json").write_text(min(texts, key=len))
    added = [{"id": i, "content": t, "single_word": False, "lstrip": False, "rstrip": False,
              "normalized": False, "special": i < 3}
             for i, t in enumerate(pieces()) if i < 3 or t.startswith("<|")]
    (folder / "pieces.json").write_text(json.dumps({
        "version": "1.0", "added_tokens": added,
        "normalizer": {"type": "Sequence", "normalizers": [
            {"type": "Prepend", "prepend": "\u2581"},
            {"type": "Replace", "pattern": {"String": " "}, "content": "\u2581"}]},
        "pre_tokenizer": None,
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}},
                       {"Sequence": {"id": "A", "type_id": 0}}],
            "pair": [{"Sequence": {"id": "A", "type_id": 0}}],
            "special_tokens": {"<s>": {"id": "<s>", "ids": [1], "tokens": ["<s>"]}}},
        "decoder": {"type": "Sequence", "decoders": [
            {"type": "Replace", "pattern": {"String": "\u2581"}, "content": " "},
            {"type": "ByteFallback"}, {"type": "Fuse"},
            {"type": "Strip", "content": " ", "start": 1, "stop": 0}]},
        "model": {"type": "BPE", "unk_token": "<unk>", "fuse_unk": True, "byte_fallback": True,
                  "vocab": {t: i for i, t in enumerate(pieces())}, "merges": ["\u2581 a"]}}))
    # without bytes, and what stands for them is no token
    (folder / "lacking.json").write_text(json.dumps({
        "normalizer": {"type": "Replace", "pattern": {"String": " "}, "content": "\u2581"},
        "model": {"type": "BPE", "unk_token": "<none>", "fuse_unk": True, "byte_fallback": True,
                  "vocab": {"\u2581a": 0, "a": 1, "\u2581": 2}, "merges": ["\u2581 a"]}}))


def fronts(folder):
    """What fuzz_model.c takes: the first byte says what the rest is."""
    golden = pathlib.Path("tests/golden/import")
    (folder / "gguf").write_bytes(b"\0" + pathlib.Path("tests/fuzz/gguf/llama.gguf").read_bytes())
    (folder / "pieces").write_bytes(b"\1" + (golden / "spm/tokenizer.model").read_bytes())
    for name in ("llama3", "mistral", "qwen3", "gpt2"):
        (folder / name).write_bytes(b"\2" + (golden / name / "config.json").read_bytes())
    (folder / "config").write_bytes(b"\3" + json.dumps({
        "add_bos_token": False, "add_eos_token": False, "bos_token": None,
        "eos_token": {"content": "<|endoftext|>", "special": True},
        "added_tokens_decoder": {"256": {"content": "<|endoftext|>", "special": True}},
        "chat_template": "{{ messages }}", "legacy": False}).encode())


def shown(folder):
    """What fuzz_inspect.c takes: the first byte's first bit says what the rest is."""
    seeds = pathlib.Path("tests/fuzz")
    (folder / "gguf").write_bytes(b"\0" + (seeds / "gguf/kinds.gguf").read_bytes())
    (folder / "safetensors").write_bytes(
        b"\1" + (seeds / "safetensors/three.safetensors").read_bytes())


for kind in ("gguf", "imatrix", "safetensors", "tokenizer", "model", "inspect"):
    pathlib.Path("tests/fuzz", kind).mkdir(exist_ok=True)
model("tests/fuzz/gguf/llama.gguf", "llama", "llama", [(Type.Q4_0, 32, 18), (Type.F16, 1, 2)])
model("tests/fuzz/gguf/qwen2.gguf", "qwen2", "gpt2", [(Type.Q8_0, 32, 34), (Type.BF16, 1, 2)])
kinds("tests/fuzz/gguf/kinds.gguf")
importance("tests/fuzz/imatrix")
safetensors("tests/fuzz/safetensors/three.safetensors")
tokenizers(pathlib.Path("tests/fuzz/tokenizer"))
fronts(pathlib.Path("tests/fuzz/model"))
shown(pathlib.Path("tests/fuzz/inspect"))
