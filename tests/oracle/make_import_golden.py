"""Small random models as transformers saves them, with its logits, and a SentencePiece tokenizer with its ids.

    python tests/oracle/make_import_golden.py [--check] [FOLDER]      (default tests/golden/import)

--check writes nothing: it computes logits and ids from the files in FOLDER again and compares.

Each folder holds config.json, safetensors, and logits.f32 [3, vocabulary] behind tokens 5, 14 and 23 of
(37 i + 11) mod 250, as transformers computes them in f32 from the saved files. spm/ holds a tokenizer.model, texts.txt (texts behind one
another, each ended by a NUL) and ids.txt, a line each.
"""
import os
import pathlib
import shutil
import sys

import numpy as np
import sentencepiece
import torch
import transformers
from transformers import AutoModelForCausalLM, GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM
from transformers import MistralConfig, MistralForCausalLM, Qwen2Config, Qwen2ForCausalLM, Qwen3Config, Qwen3ForCausalLM

CHECK = "--check" in sys.argv
FOLDER = pathlib.Path(next((a for a in sys.argv[1:] if a != "--check"), "tests/golden/import"))
N = 24
BASE = dict(vocab_size=260, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
            num_key_value_heads=2, max_position_embeddings=64, initializer_range=0.2)
LLAMA3 = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
          "original_max_position_embeddings": 32}
MODELS = {
    "llama": lambda: (LlamaForCausalLM(LlamaConfig(**BASE, rope_theta=500000.0)), torch.float16, None),
    "llama3": lambda: (LlamaForCausalLM(LlamaConfig(**BASE, tie_word_embeddings=True, rope_scaling=LLAMA3)),
                       torch.bfloat16, "20KB"),
    "mistral": lambda: (MistralForCausalLM(MistralConfig(**BASE, head_dim=16, tie_word_embeddings=True, sliding_window=None)), torch.bfloat16,
                        None),
    "qwen2": lambda: (Qwen2ForCausalLM(Qwen2Config(**BASE)), torch.bfloat16, None),
    "qwen3": lambda: (Qwen3ForCausalLM(Qwen3Config(**BASE, head_dim=16, tie_word_embeddings=True)), torch.bfloat16, None),
    "gpt2": lambda: (GPT2LMHeadModel(GPT2Config(vocab_size=260, n_embd=32, n_layer=2, n_head=4, n_positions=64,
                                                initializer_range=0.2, bos_token_id=0, eos_token_id=0)),
                     torch.float16, None),
}


def vary(model):
    """Gains that are no ones, biases that are no zeros: otherwise nobody sees where they go."""
    for name, p in model.named_parameters():
        if p.dim() == 1:
            p.data += 0.1 * torch.randn_like(p)


def logits_of(path):
    model = AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32, attn_implementation="eager").eval()
    ids = torch.tensor([[(37 * i + 11) % 250 for i in range(N)]])
    with torch.no_grad():
        return model(ids).logits[0].numpy()[[5, 14, 23]].astype("<f4")


def models():
    torch.manual_seed(7)
    for name, make in MODELS.items():
        model, dtype, shard = make()
        vary(model)
        path = FOLDER / name
        model.to(dtype).save_pretrained(path, **({"max_shard_size": shard} if shard else {}))
        logits_of(path).tofile(path / "logits.f32")
        (path / "generation_config.json").unlink(missing_ok=True)


def ids_of(path, texts):
    sp = sentencepiece.SentencePieceProcessor(model_file=str(path / "tokenizer.model"))
    return "".join(" ".join(map(str, sp.encode(t))) + "\n" for t in texts)


def check():
    wrong = 0
    for name in MODELS:
        want, got = np.fromfile(FOLDER / name / "logits.f32", "<f4"), logits_of(FOLDER / name).ravel()
        apart = float(np.linalg.norm(got - want) / np.linalg.norm(want))
        print(f"{name}: logits within {apart:.1e} of their norm")
        wrong += not apart < 1e-6
    texts = [t.decode() for t in (FOLDER / "spm/texts.txt").read_bytes().split(b"\0")[:-1]]
    same = ids_of(FOLDER / "spm", texts) == (FOLDER / "spm/ids.txt").read_text()
    print(f"SentencePiece: ids of {len(texts)} texts {'agree' if same else 'DIFFER'}")
    return wrong + (not same)


def spm():
    path = FOLDER / "spm"
    path.mkdir(parents=True)
    words = "the quick brown fox jumps over a lazy dog while seven wizards vex big quartz judges in the hall".split()
    lines = [" ".join(words[(i * k) % len(words)] for i in range(1, 9)) for k in range(1, 60)]
    text = path / "text.txt"
    text.write_text("\n".join(lines))
    sentencepiece.SentencePieceTrainer.train(
        input=str(text), model_prefix=str(path / "tokenizer"), model_type="bpe", vocab_size=360, byte_fallback=True,
        normalization_rule_name="identity", remove_extra_whitespaces=False, character_coverage=1.0, pad_id=3,
        user_defined_symbols=["\n", "<x y>"], allow_whitespace_only_pieces=True, num_threads=1, minloglevel=2)
    text.unlink()
    (path / "tokenizer.vocab").unlink()
    texts = lines[:20] + ["", " ", "  two  spaces ", "caf\u00e9 \u4f60\u597d \U0001f600", "a\nb", "the<x y>dog", "<s></s>",
                          "judges quartz", "\u2581under", "wizards\n\nvex", "QUICK 123", "\t tab"]
    (path / "texts.txt").write_bytes(b"".join(t.encode() + b"\0" for t in texts))
    (path / "ids.txt").write_text(ids_of(path, texts))


if CHECK:
    sys.exit(1 if check() else 0)
shutil.rmtree(FOLDER, ignore_errors=True)
models()
spm()
(FOLDER / "VERSIONS").write_text(f"torch {torch.__version__}, transformers {transformers.__version__}, "
                                 f"sentencepiece {sentencepiece.__version__}\n")
print(sum(f.stat().st_size for f in FOLDER.rglob("*") if f.is_file()), "bytes")
