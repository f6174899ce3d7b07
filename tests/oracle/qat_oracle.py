"""Training in blocks, from transformers' models to llama.cpp: import, train, export.

    python tests/oracle/qat_oracle.py ./attar [MODEL ...]     LLAMA_BIN: also llama.cpp's perplexity of the exported files

Random models of each architecture, saved by transformers, are imported (their logits must be transformers'), trained in
blocks for a few steps, and exported. The file must hold the checkpoint's blocks to the byte, and decode, by the gguf
package and by llama.cpp, to what attar says they decode to, to the bit; llama.cpp's perplexity must be ours within 0.3 %.
"""

import os
import struct
import sys
import tempfile
from pathlib import Path

import differences
import h5py
import numpy as np
import torch
from differences import check, perplexity, run
from gguf import GGUFReader, dequantize
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM
from transformers import Qwen2Config, Qwen2ForCausalLM, Qwen3Config, Qwen3ForCausalLM

ATTAR = str(Path(sys.argv[1] if len(sys.argv) > 1 else "./attar").resolve())
LLAMA = os.environ.get("LLAMA_BIN")
CONTEXT, VOCAB = 128, 512
BASE = dict(vocab_size=VOCAB, hidden_size=256, intermediate_size=512, num_hidden_layers=2, num_attention_heads=8,
            num_key_value_heads=4, max_position_embeddings=CONTEXT, initializer_range=0.05)
LLAMA3 = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
          "original_max_position_embeddings": 64}
MODELS = {
    "llama": lambda: LlamaForCausalLM(LlamaConfig(**BASE)),
    "llama3": lambda: LlamaForCausalLM(LlamaConfig(**BASE, rope_theta=500000.0, rope_scaling=LLAMA3)),
    "smollm2": lambda: LlamaForCausalLM(LlamaConfig(**BASE, tie_word_embeddings=True)),
    "qwen2": lambda: Qwen2ForCausalLM(Qwen2Config(**BASE, tie_word_embeddings=True)),
    "qwen3": lambda: Qwen3ForCausalLM(Qwen3Config(**BASE, head_dim=64)),
    "gpt2": lambda: GPT2LMHeadModel(GPT2Config(vocab_size=VOCAB, n_embd=256, n_layer=2, n_head=8, n_positions=CONTEXT,
                                               initializer_range=0.05, bos_token_id=0, eos_token_id=0)),
}
ALL = "Q2_K Q3_K_S Q3_K_M Q3_K_L Q4_0 Q4_K_S Q4_K_M Q5_K_S Q5_K_M Q6_K Q8_0 IQ4_NL TQ1_0 TQ2_0".split()
SCALES = ("frozen", "learned", "super")


def save(folder: Path, name: str) -> torch.nn.Module:
    torch.manual_seed(7)
    model = MODELS[name]().eval()
    for p in model.parameters():
        if p.dim() == 1:  # gains that are no ones, biases that are no zeros
            p.data += 0.1 * torch.randn_like(p)
    model.save_pretrained(folder / name)
    (folder / name / "tokenizer.json").write_bytes((folder / "tok.json").read_bytes())
    return model


def log_probabilities(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Of a file of `perplexity --kl-divergence-base`: tokens [chunks,c], log p [chunks,scored,V]."""
    data = path.read_bytes()
    c, vocab, chunks = struct.unpack_from("<iii", data, 8)
    at = 20 + 4 * c * chunks
    tokens = np.frombuffer(data, "<i4", c * chunks, 20).reshape(chunks, c)
    scored, width = c - c // 2 - 1, 2 * ((vocab + 1) // 2) + 4
    rows = np.frombuffer(data, "<u2", chunks * scored * width, at).reshape(chunks, scored, width)
    head = np.ascontiguousarray(rows[..., :4]).view("<f4")
    return tokens, head[..., :1] * rows[..., 4: 4 + vocab] + head[..., 1:2]


def check_logits(folder: Path, name: str, model: torch.nn.Module) -> None:
    run(ATTAR, "perplexity", "-m", f"{name}.h5", "-f", "text.txt", "-c", 64, "--chunks", 2,
        "--kl-divergence-base", f"{name}.kld", cwd=folder)
    tokens, ours = log_probabilities(folder / f"{name}.kld")
    with torch.no_grad():
        theirs = model(torch.from_numpy(tokens.astype(np.int64))).logits.log_softmax(-1)[:, 32:63].numpy()
    off = float(np.abs(ours - theirs).max() / np.abs(theirs).max())
    check(f"{name}: logits {off:.2e} apart", off < 1e-3)
    print(f"  logits within {off:.1e} of transformers'", flush=True)


def tensors(path: Path) -> dict:
    return {t.name: t for t in GGUFReader(path).tensors}


def check_file(name: str, checkpoint: Path, blocks: Path, decoded: Path) -> None:
    """The file's bytes are the checkpoint's blocks; what they decode to is what attar says."""
    file, values = tensors(blocks), tensors(decoded)
    with h5py.File(checkpoint) as h5:
        for tensor, data in h5["blocks"].items():
            if isinstance(data, h5py.Dataset) and tensor in file:
                check(f"{name} {tensor}: bytes", file[tensor].data.tobytes() == data[()].tobytes())
        check(f"{name}: few tensors are in blocks", sum(t in h5["blocks"] for t in file) >= 9)
    check(f"{name}: names", file.keys() == values.keys())
    for tensor, t in file.items():
        ours = np.asarray(values[tensor].data, np.float32).reshape(-1)
        theirs = dequantize(t.data, t.tensor_type).astype(np.float32).reshape(-1)
        check(f"{name} {tensor} ({t.tensor_type.name}): values", ours.tobytes() == theirs.tobytes())


def check_llama(folder: Path, name: str, blocks: Path, decoded: Path) -> None:
    """What llama.cpp decodes the file to."""
    run(f"{LLAMA}/llama-quantize", "--allow-requantize", blocks, f"{name}-theirs.gguf", "F32", cwd=folder)
    theirs, ours = tensors(folder / f"{name}-theirs.gguf"), tensors(decoded)
    check(f"{name}: llama.cpp's names", theirs.keys() == ours.keys())
    for tensor, t in theirs.items():
        check(f"{name} {tensor}: llama.cpp's values ({t.tensor_type.name})",
              t.tensor_type.name == "F32" and t.data.tobytes() == ours[tensor].data.tobytes())


def perplexity_apart(folder: Path, file: Path) -> float:
    flags = ("-m", file, "-f", "text.txt", "-c", CONTEXT, "--chunks", 8)
    theirs = perplexity(f"{LLAMA}/llama-perplexity", *flags, "-t", 2, "-b", CONTEXT, cwd=folder)
    return abs(perplexity(ATTAR, "perplexity", *flags, cwd=folder) / theirs - 1)


def train(folder: Path, source: str, kind: str, more: str) -> float:
    """One type; how far llama.cpp's perplexity is from ours."""
    name = f"{source}-{kind}"
    (folder / "c.yaml").write_text(f"""name: {name}
data: {{corpus: text.txt, tokenizer: {{type: file, path: {source}.h5}}, split_on: none, valid: tail}}
stages:
  - qat: {{from: {source}.h5, type: {kind.lower()}, steps: 6, batch_tokens: 512, lr: 1e-3{more}}}
""")
    run(ATTAR, "run", "c.yaml", cwd=folder)
    blocks, decoded = folder / f"{name}.gguf", folder / f"{name}-f32.gguf"
    run(ATTAR, "export", f"runs/{name}", blocks, cwd=folder)
    run(ATTAR, "export", f"runs/{name}", decoded, "--type", "f32", cwd=folder)
    check_file(name, folder / f"runs/{name}/01-qat/checkpoint.h5", blocks, decoded)
    if LLAMA:
        check_llama(folder, name, blocks, decoded)
    apart = perplexity_apart(folder, blocks) if LLAMA else 0
    check(f"{name}: perplexity is {100 * apart:.3f} % from llama.cpp's", apart < 0.003)
    return apart


def start(folder: Path, source: str, kind: str) -> None:
    """A file of llama-quantize's is where training starts: before anything is learned all blocks are the file's."""
    run(f"{LLAMA}/llama-quantize", f"{source}-f16.gguf", f"{kind}.gguf", kind, cwd=folder)
    run(ATTAR, "import", f"{kind}.gguf", f"{kind}.h5", cwd=folder)
    (folder / "c.yaml").write_text(f"""name: {kind}
data: {{corpus: text.txt, tokenizer: {{type: file, path: {kind}.h5}}, split_on: none, valid: tail}}
stages:
  - qat: {{from: {kind}.h5, type: {kind.lower()}, steps: 1, batch_tokens: 512, lr: 0, teacher: none}}
""")
    run(ATTAR, "run", "c.yaml", cwd=folder)
    run(ATTAR, "export", f"runs/{kind}", f"{kind}-again.gguf", cwd=folder)
    theirs, ours = tensors(folder / f"{kind}.gguf"), tensors(folder / f"{kind}-again.gguf")
    check(f"{kind}: names", theirs.keys() == ours.keys())
    for name, t in theirs.items():
        check(f"{kind} {name}: the file's blocks", t.tensor_type == ours[name].tensor_type
              and t.data.tobytes() == ours[name].data.tobytes())


def main() -> int:
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        (folder / "text.txt").write_text(" ".join(f"{k} times {n} is {k * n}." for k in range(200) for n in range(60)))
        run(ATTAR, "tokenizer", "train", "--vocab-size", VOCAB, "-o", "tok.json", "text.txt", cwd=folder)
        for name in sys.argv[2:] or MODELS:
            print("==", name, flush=True)
            model = save(folder, name)
            run(ATTAR, "import", name, f"{name}.h5", cwd=folder)
            check_logits(folder, name, model)
            kinds = ALL if name == "llama" else ("Q2_K", "Q3_K_M", "Q4_K_M")
            apart = [train(folder, name, kind, f", scales: {SCALES[i % 3]}") for i, kind in enumerate(kinds)]
            print(f"  {len(kinds)} types" + (f", perplexities within {100 * max(apart):.3f} %" if LLAMA else ""), flush=True)
        print("== a file that is in Q4_K_M already")
        run(ATTAR, "import", f"{(sys.argv[2:] or ['llama'])[0]}-Q4_K_M.gguf", "again.h5", cwd=folder)
        train(folder, "again", "Q4_K_M", "")
        if LLAMA:
            print("== files of llama-quantize are where training starts", flush=True)
            source = (sys.argv[2:] or ["llama"])[0]
            run(ATTAR, "export", f"{source}.h5", f"{source}-f16.gguf", "--type", "f16", cwd=folder)
            for kind in ("Q2_K", "Q3_K_M", "Q4_K_M", "Q8_0"):
                start(folder, source, kind)
    if not LLAMA:
        print("== SKIPPED: llama.cpp's perplexity: LLAMA_BIN is not set")
    return differences.ended()


if __name__ == "__main__":
    sys.exit(main())
