"""Folders that differ in one setting each: attar's perplexity is transformers', or the import is refused by name.

    python tests/oracle/import_oracle.py ./attar

A random model of each family is saved once; each variation changes its config.json, its weights or the files beside
them. Where transformers computes something, attar computes the same (to 2e-4 of the perplexity) or ends with 1 and
names the key; where transformers fails, attar has to refuse too. Tokenizers: the same ids, by AutoTokenizer. Exit status 0 if all do.
"""

import copy
import json
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import h5py
import torch
import transformers
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, GPT2Config, LlamaConfig, MistralConfig, Qwen2Config, Qwen3Config

ATTAR = str(Path(sys.argv[1] if len(sys.argv) > 1 else "./attar").resolve())
CHUNK, CLOSE = 64, 2e-4
TEXT = "".join(chr(97 + (i * i + i // 7) % 26) if i % 6 else " " for i in range(700))
LARGE = dict(vocab_size=260, hidden_size=64, intermediate_size=96, num_hidden_layers=2, num_attention_heads=4,
             num_key_value_heads=2, max_position_embeddings=128, initializer_range=0.3)
FAMILIES = {
    "llama": LlamaConfig(**LARGE, head_dim=16),
    "mistral": MistralConfig(**LARGE, head_dim=16, sliding_window=None),
    "qwen2": Qwen2Config(**LARGE),
    "qwen3": Qwen3Config(**LARGE, head_dim=16),
    "gpt2": GPT2Config(vocab_size=260, n_embd=64, n_layer=2, n_head=4, n_positions=128, initializer_range=0.3),
}
YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32}
LINEAR = {"rope_type": "linear", "factor": 4.0}
LLAMA3 = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
          "original_max_position_embeddings": 32}
DEFAULT = {"rope_type": "default", "rope_theta": 10000.0}
GONE = object()  # the key is taken out

# (family, what config.json gets, what attar does: "same", or a word of the refusal)
CONFIGS = [
    ("llama", {}, "same"), ("mistral", {}, "same"), ("qwen2", {}, "same"), ("qwen3", {}, "same"), ("gpt2", {}, "same"),
    # rotary positions in two places
    ("llama", {"rope_parameters": DEFAULT, "rope_scaling": YARN}, "yarn"),
    ("llama", {"rope_parameters": DEFAULT, "rope_scaling": LINEAR}, "same"),
    ("llama", {"rope_parameters": LINEAR, "rope_scaling": LLAMA3}, "same"),
    ("llama", {"rope_parameters": LLAMA3, "rope_scaling": {}}, "same"),
    ("llama", {"rope_parameters": LINEAR, "rope_scaling": None}, "same"),
    ("llama", {"rope_parameters": {**DEFAULT, "rope_theta": 500.0}, "rope_scaling": LINEAR}, "same"),
    ("llama", {"rope_parameters": GONE, "rope_scaling": {"rope_type": "default", "rope_theta": 500}}, "same"),
    ("llama", {"rope_parameters": GONE, "rope_theta": 500}, "same"),
    ("llama", {"rope_parameters": DEFAULT, "rope_theta": 500}, "same"),
    ("llama", {"rope_parameters": {"rope_type": "default"}, "rope_theta": 500}, "same"),
    ("llama", {"rope_parameters": GONE, "rope_theta": 500, "rope_scaling": {"type": "linear", "factor": 2}}, "same"),
    ("llama", {"rope_parameters": {"rope_type": "linear", "type": "llama3", "factor": 2.0}}, "same"),
    ("llama", {"rope_parameters": GONE, "rope_theta": None}, "rope_theta"),
    ("llama", {"rope_parameters": {**DEFAULT, "rope_theta": None}}, "rope base"),
    ("llama", {"rope_parameters": LLAMA3, "original_max_position_embeddings": 16}, "same"),
    ("llama", {"rope_parameters": {k: v for k, v in LLAMA3.items() if "original" not in k}}, "same"),
    ("llama", {"rope_parameters": {**LINEAR, "factor": 0.5}}, "factor"),
    ("llama", {"rope_parameters": {"rope_type": "dynamic", "factor": 2.0}}, "dynamic"),
    ("llama", {"rope_parameters": {"rope_type": "longrope", "factor": 2.0, "short_factor": [1.0] * 8,
                                   "long_factor": [2.0] * 8, "original_max_position_embeddings": 32}}, "longrope"),
    ("llama", {"rope_parameters": {**DEFAULT, "partial_rotary_factor": 0.5}}, "partial_rotary_factor"),
    ("llama", {"partial_rotary_factor": 0.5}, "partial_rotary_factor"),
    ("llama", {"rope_parameters": {"full_attention": LINEAR}}, "full_attention"),
    ("qwen3", {"rope_parameters": {"full_attention": {**DEFAULT, "rope_theta": 500.0}}}, "full_attention"),
    ("llama", {"rope_parameters": {**DEFAULT, "mrope_section": [2, 3, 3]}}, "mrope_section"),
    ("qwen2", {"rope_scaling": YARN}, "yarn"), ("mistral", {"rope_scaling": LINEAR}, "same"),
    ("qwen3", {"rope_parameters": GONE, "rope_theta": 1e6}, "same"),
    # windows
    ("mistral", {"sliding_window": 16}, "sliding_window"), ("mistral", {"sliding_window": 128}, "same"),
    ("mistral", {"sliding_window": GONE}, "same"),
    ("mistral", {"sliding_window": GONE, "max_position_embeddings": 8192}, "4096 where it is missing"),
    ("mistral", {"sliding_window": GONE, "max_position_embeddings": 4096}, "same"),
    # there the cache decides, here nobody does
    ("mistral", {"sliding_window": 16, "layer_types": ["full_attention"] * 2}, "sliding_window"),
    ("llama", {"sliding_window": 16}, "sliding_window"),
    ("qwen2", {"sliding_window": 16}, "same"),
    ("qwen2", {"sliding_window": 16, "use_sliding_window": True, "layer_types": GONE}, "same"),  # from layer 28 on
    ("qwen2", {"sliding_window": 16, "use_sliding_window": True, "max_window_layers": 1, "layer_types": GONE},
     "sliding_window"),
    ("qwen3", {"sliding_window": 16, "use_sliding_window": True, "max_window_layers": 0, "layer_types": GONE},
     "sliding_window"),
    ("qwen3", {"sliding_window": 16, "use_sliding_window": True, "max_window_layers": 0}, "same"),  # layer_types is there
    ("qwen2", {"use_sliding_window": True, "max_window_layers": 0, "layer_types": GONE, "max_position_embeddings": 8192,
               "sliding_window": GONE}, "4096 where it is missing"),
    ("qwen2", {"sliding_window": 16, "layer_types": ["sliding_attention", "full_attention"]}, "layer_types"),
    ("qwen2", {"sliding_window": 16, "use_sliding_window": True,
               "layer_types": ["sliding_attention", "full_attention"]}, "sliding_window"),
    ("qwen2", {"layer_types": ["full_attention"]}, "layer_types"),
    # the rest of the forward pass
    ("llama", {"hidden_act": "gelu"}, "hidden_act"), ("llama", {"hidden_act": "swish"}, "same"),
    ("gpt2", {"activation_function": "gelu"}, "activation_function"),
    ("gpt2", {"activation_function": "gelu_pytorch_tanh"}, "same"),
    ("gpt2", {"scale_attn_by_inverse_layer_idx": True}, "inverse_layer_idx"),
    ("gpt2", {"scale_attn_weights": False}, "scale_attn_weights"), ("gpt2", {"reorder_and_upcast_attn": True}, "same"),
    ("gpt2", {"hidden_size": 32}, "hidden_size"), ("gpt2", {"num_attention_heads": 2}, "num_attention_heads"),
    ("gpt2", {"n_head": GONE, "num_attention_heads": 4}, "same"), ("gpt2", {"layer_norm_epsilon": 0.1}, "same"),
    ("llama", {"rms_norm_eps": 0.1}, "same"), ("llama", {"rms_norm_eps": GONE}, "same"),
    ("llama", {"attention_bias": True}, "attention_bias"), ("llama", {"mlp_bias": True}, "mlp_bias"),
    ("qwen2", {"attention_bias": False}, "same"), ("llama", {"head_dim": GONE}, "same"),
    ("llama", {"num_key_value_heads": GONE}, "k_proj"), ("mistral", {"num_key_value_heads": GONE}, "8 kv heads"),
    ("llama", {"is_causal": False}, "is_causal"), ("llama", {"pretraining_tp": 2}, "same"),
    ("llama", {"attn_logit_softcapping": 5.0}, "attn_logit_softcapping"),
    ("llama", {"query_pre_attn_scalar": 4}, "query_pre_attn_scalar"), ("llama", {"logits_scaling": 8.0}, "logits_scaling"),
    ("llama", {"embedding_multiplier": 2.0, "residual_multiplier": 0.5}, "'embedding_multiplier', 'residual_multiplier'"),
    ("llama", {"quantization_config": {"quant_method": "bitsandbytes", "load_in_8bit": True}}, "quantization_config"),
    ("llama", {"architectures": ["LlamaForSequenceClassification"]}, "LlamaForSequenceClassification"),
    ("llama", {"auto_map": {"AutoModelForCausalLM": "modeling_mine.Mine"}}, "auto_map"),
    ("llama", {"torch_dtype": "bfloat16", "dtype": GONE}, "same"), ("llama", {"temperature": 0.3, "top_k": 7}, "same"),
]
failures = 0


def tokenizer(path):
    t = Tokenizer(models.BPE(vocab={c: i for i, c in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}, merges=[]))
    t.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    t.decoder = decoders.ByteLevel()
    t.save(str(path / "tokenizer.json"))
    return t


def theirs(folder, ids):
    """llama-perplexity's convention; None where transformers fails."""
    try:
        model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").eval()
        loss = []
        with torch.no_grad():
            for at in range(0, len(ids) - CHUNK + 1, CHUNK):
                part = torch.tensor([ids[at:at + CHUNK]])
                p = torch.log_softmax(model(part).logits[0, :-1].double(), -1)
                loss.append(-p.gather(1, part[0, 1:, None])[CHUNK // 2:, 0])
        return float(torch.cat(loss).mean().exp())
    except Exception:  # noqa: BLE001  whatever it says
        return None


def ours(folder, text):
    r = subprocess.run([ATTAR, "perplexity", "-m", str(folder), "-f", str(text), "-c", str(CHUNK), "--cache-type", "f32"],
                       capture_output=True, text=True)
    said = re.search(r"PPL = ([\d.]+)", r.stdout)
    return float(said[1]) if said and r.returncode == 0 else None, r.returncode, r.stderr.strip()


def check(what, folder, ids, text, expect):
    global failures
    want, (got, code, said) = theirs(folder, ids), ours(folder, text)
    if expect == "same":
        good = want is not None and got is not None and abs(got / want - 1) < CLOSE
    else:
        good = got is None and code == 1 and expect in said
    failures += not good
    shown = f"{want:.4f}" if want else "fails"
    print(f"{'ok  ' if good else 'FAIL'} {what}: transformers {shown}, attar {got if got else said[-160:]}")


def changed(folder, base, change):
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(base, folder)
    config = json.loads((folder / "config.json").read_text())
    for key, value in change.items():
        config.pop(key, None)
        if value is not GONE:
            config[key] = copy.deepcopy(value)
    (folder / "config.json").write_text(json.dumps(config, indent=2))
    return folder


def weights(root, bases, ids, text):
    """Files and tensors that contradict each other."""
    def fresh(change=None):
        folder = changed(root / "w", bases["llama"], change or {})
        return folder, load_file(folder / "model.safetensors")

    folder, w = fresh({"tie_word_embeddings": True})
    check("tied, another head", folder, ids, text, "same")
    w["lm_head.weight"] = w["model.embed_tokens.weight"].clone()
    save_file(w, folder / "model.safetensors", metadata={"format": "pt"})
    check("tied, the same head", folder, ids, text, "same")
    w["lm_head.weight"] = w["lm_head.weight"].half()
    save_file(w, folder / "model.safetensors", metadata={"format": "pt"})
    check("tied, the head in F16", folder, ids, text, "same")
    del w["lm_head.weight"]
    save_file(w, folder / "model.safetensors", metadata={"format": "pt"})
    check("tied, no head", folder, ids, text, "same")
    w["lm_head.weight"] = w.pop("model.embed_tokens.weight")
    save_file(w, folder / "model.safetensors", metadata={"format": "pt"})
    check("tied, the head alone", folder, ids, text, "same")
    folder, w = fresh()
    other = AutoModelForCausalLM.from_config(FAMILIES["llama"])
    other.save_pretrained(folder / "old", max_shard_size="60KB")
    for f in (folder / "old").glob("model*"):
        shutil.copy(f, folder)
    check("one file beside shards", folder, ids, text, "same")
    for f in folder.glob("model-*"):
        f.unlink()
    check("one file beside an index without shards", folder, ids, text, "same")
    folder, w = fresh()
    (folder / "adapter_config.json").write_text('{"base_model_name_or_path": "nowhere", "peft_type": "LORA"}')
    check("an adapter beside it", folder, ids, text, "adapter")
    folder, w = fresh()
    save_file({k.removeprefix("model."): v for k, v in w.items()}, folder / "model.safetensors", metadata={"format": "pt"})
    check("names without 'model.'", folder, ids, text, "same")


def flags(content, special=True, normalized=False):
    return {"content": content, "single_word": False, "lstrip": False, "rstrip": False, "normalized": normalized,
            "special": special}


def numbered(**tokens):
    """added_tokens_decoder: ids by number."""
    return {"added_tokens_decoder": {name[1:]: token for name, token in tokens.items()}}


END, TOOL = flags("<|im_end|>"), flags("<tool>", special=False, normalized=True)
# what, pieces beside the 256 bytes, added_tokens, tokenizer_config.json, files beside it, whether attar reads it
TOKENIZERS = [
    ("decoder alone", 143, [], {"eos_token": "<|im_end|>", **numbered(_399=END)}, {}, True),
    ("decoder, out of order", 142, [], {"eos_token": "<|im_end|>", **numbered(_399=END, _398=TOOL)}, {}, True),
    ("decoder, another id", 140, [], numbered(_399=END), {}, False),
    ("other flags", 142, [{"id": 398, **TOOL}, {"id": 399, **END}], numbered(_398=flags("<tool>")), {}, True),
    ("named only", 142, [], {"eos_token": "<|im_end|>", "pad_token": "<pad>"}, {}, True),
    ("named, a piece", 142, [], {"eos_token": "\u0120aa"}, {}, True),
    ("a list", 142, [], {"additional_special_tokens": ["<|im_start|>", "<|im_end|>"]}, {}, True),
    ("map", 142, [{"id": 398, **END}, {"id": 399, **flags("<|endoftext|>")}], {"eos_token": "<|im_end|>"},
     {"special_tokens_map.json": {"eos_token": flags("<|endoftext|>")}}, True),
    ("map beside decoder", 142, [{"id": 398, **END}, {"id": 399, **flags("<|endoftext|>")}],
     {"eos_token": "<|im_end|>", **numbered(_398=END)}, {"special_tokens_map.json": {"eos_token": "<|endoftext|>"}}, True),
    ("added_tokens.json", 142, [], {"eos_token": "<|im_end|>"},
     {"added_tokens.json": {"<|im_end|>": 399, "<tool>": 398}}, True),
    ("a great length", 142, [], {"model_max_length": 10**30, "eos_token": "<|im_end|>"}, {}, True),
]
SPOKEN = ["Hi<|im_end|> there<|endoftext|>", "<pad>x<|im_start|>user\nHi<|im_end|>", "a aa [X] b<tool>c <tool>"]


def encode(path, text):
    said = subprocess.run([ATTAR, "tokenizer", "encode", "-t", str(path), "--special"], input=text, capture_output=True,
                          text=True)
    return [int(x) for x in said.stdout.split()]


def imported_ids(root, folder):
    """Ids of SPOKEN by the tokenizer of the checkpoint that attar makes of the folder, and its end; None: refused."""
    if subprocess.run([ATTAR, "import", str(folder), str(root / "m.h5")], capture_output=True).returncode:
        return None, None
    with h5py.File(root / "m.h5") as f:
        text = bytes(f["tokenizer"][()]).decode() if "tokenizer" in f else f.attrs["tokenizer"]
    (root / "t.json").write_text(text)
    end = json.loads(text)["model"].get("attar", {}).get("roles", {}).get("eos")
    return [encode(root / "t.json", x) for x in SPOKEN], end


def tokenizers(root, base):
    """Tokens that the files beside tokenizer.json add."""
    global failures
    folder = changed(root / "t", base, {"vocab_size": 400, "eos_token_id": GONE, "bos_token_id": GONE})
    AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(folder)).save_pretrained(folder)
    plain = json.loads((folder / "tokenizer.json").read_text())
    for what, pieces, added, config, files, reads in TOKENIZERS:
        for name in ("special_tokens_map.json", "added_tokens.json", "generation_config.json"):
            (folder / name).unlink(missing_ok=True)
        j = copy.deepcopy(plain)
        for i in range(pieces):
            j["model"]["vocab"][f"\u0120{chr(97 + i % 26)}{chr(97 + i // 26)}"] = 256 + i
        j["added_tokens"] = added
        (folder / "tokenizer.json").write_text(json.dumps(j))
        (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "PreTrainedTokenizerFast", **config}))
        for name, content in files.items():
            (folder / name).write_text(json.dumps(content))
        theirs = AutoTokenizer.from_pretrained(folder)
        want = [theirs(x, add_special_tokens=False).input_ids for x in SPOKEN]
        got, end = imported_ids(root, folder)
        good = got == want and end in (theirs.eos_token_id, 2) if reads else got is None
        failures += not good
        print(f"{'ok  ' if good else 'FAIL'} tokenizer, {what}: end {theirs.eos_token_id}, attar {end}")


def main():
    torch.manual_seed(3)
    transformers.logging.set_verbosity_error()
    with tempfile.TemporaryDirectory() as tmp:
        root, bases = Path(tmp), {}
        for name, config in FAMILIES.items():
            bases[name] = root / name
            AutoModelForCausalLM.from_config(config).save_pretrained(bases[name])
            ids = tokenizer(bases[name]).encode(TEXT).ids
        text = root / "text.txt"
        text.write_text(TEXT)
        for family, change, expect in CONFIGS:
            shown = {k: "(gone)" if v is GONE else v for k, v in change.items()}
            check(f"{family} {json.dumps(shown)}", changed(root / "m", bases[family], change), ids, text, expect)
        weights(root, bases, ids, text)
        tokenizers(root, bases["llama"])
    print(f"{failures} failed")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
