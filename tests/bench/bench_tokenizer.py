"""BPE training and encoding, attar against Hugging Face tokenizers: one core, the same documents
and vocabulary, runs alternating, medians. Prints a JSON object a line. Encoding by every rule there
is, with the vocabulary that Hugging Face learnt; and with llama's of SentencePiece, where the
package gguf can read it.

    make build/release/tests/bench/bench_tokenizer
    python tests/bench/bench_tokenizer.py build/release/tests/bench/bench_tokenizer
"""
import importlib.util
import json
import lzma
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

os.environ["RAYON_NUM_THREADS"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})

import tokenizers
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

BIN = sys.argv[1]
RUNS = int(os.environ.get("RUNS", "5"))
VOCAB = 8192
DATA = pathlib.Path(os.environ.get("ATTAR_DATA", "../shared/data"))


RULES = ("gpt-2", "llama-bpe", "qwen2", "smollm")


def steps_of(rule, folder):
    """The pre-tokenizer that attar writes for a rule."""
    path, text = folder / "rule.json", folder / "rule.txt"
    text.write_text("some text, some text")
    program = pathlib.Path(os.environ.get("ATTAR_BIN", "./attar"))
    subprocess.run([program, "tokenizer", "train", "--vocab-size", "260", "--pre", rule, "-o", path,
                    text], check=True, capture_output=True)
    return Tokenizer.from_file(str(path)).pre_tokenizer


def hf_train(documents, steps=None):
    hf = Tokenizer(models.BPE())
    hf.pre_tokenizer = steps or pre_tokenizers.ByteLevel(add_prefix_space=False)
    hf.decoder = decoders.ByteLevel()
    start = time.perf_counter()
    hf.train_from_iterator(documents, trainers.BpeTrainer(
        vocab_size=VOCAB, min_frequency=2, special_tokens=["<|endoftext|>"], show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet()))
    return hf, time.perf_counter() - start


def llama_pieces(source):
    """llama's vocabulary as Hugging Face's converter makes it: merges, the best piece first."""
    import gguf

    fields = gguf.GGUFReader(str(source)).fields
    tokens, scores = (fields[f"tokenizer.ggml.{k}"].contents() for k in ("tokens", "scores"))
    ids = {t: i for i, t in enumerate(tokens)}
    found = []
    for piece, score in zip(tokens, scores):
        halves = [(piece[:k], piece[k:]) for k in range(1, len(piece))
                  if piece[:k] in ids and piece[k:] in ids]
        found += [(score, h) for h in sorted(halves, key=lambda h: (ids[h[0]], ids[h[1]]))]
    found.sort(key=lambda m: m[0], reverse=True)
    hf = Tokenizer(models.BPE(ids, [h for _, h in found], unk_token="<unk>", fuse_unk=True,
                              byte_fallback=True))
    hf.normalizer = normalizers.Sequence([normalizers.Prepend("\u2581"),
                                          normalizers.Replace(" ", "\u2581")])
    return hf


def hf_encode(hf, documents):
    start = time.perf_counter()
    encoded = hf.encode_batch_fast(documents, add_special_tokens=False)
    return sum(len(e.ids) for e in encoded), time.perf_counter() - start


def attar(*args):
    return json.loads(subprocess.run([BIN, *map(str, args)], check=True, capture_output=True).stdout)


def spread(seconds, size):
    rate = sorted(size / 1e6 / s for s in seconds)
    return {"mb_s": round(statistics.median(rate), 2), "min": round(rate[0], 2),
            "max": round(rate[-1], 2)}


def compare(what, file, documents, path, size):
    """Encoding with the tokenizer in `file`, each time with empty caches."""
    ours, theirs, same = [], [], True
    for _ in range(RUNS):
        mine = attar(path, VOCAB, file.get("attar", file["hf"]))
        tokens, seconds = hf_encode(Tokenizer.from_file(str(file["hf"])), documents)
        ours.append(mine["encode_s"])
        theirs.append(seconds)
        same &= tokens == mine["tokens"]
    report(what, ours, theirs, len(documents), size, same)


def report(what, ours, theirs, documents, size, same):
    print(json.dumps({"bench": f"tokenizer {what}", "text": "mixed.txt", "bytes": size,
                      "documents": documents, "vocab_size": VOCAB, "runs": RUNS,
                      "attar": spread(ours, size), "hf": spread(theirs, size),
                      "times_faster": round(statistics.median(theirs) / statistics.median(ours), 2),
                      "same_tokens": same, "tokenizers": tokenizers.__version__}), flush=True)


def main():
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        text = lzma.open(DATA / "mixed.txt.xz", "rt").read()
        path = folder / "mixed.txt"
        path.write_text(text)
        size = len(text.encode())
        parts = text.split("\n\n")
        documents = [p + "\n\n" for p in parts[:-1]] + [parts[-1]] * bool(parts[-1])
        ours, theirs = [], []
        for _ in range(RUNS):
            ours.append(attar(path, VOCAB)["make_s"])
            hf, seconds = hf_train(documents)
            theirs.append(seconds)
        report("train", ours, theirs, len(documents), size, True)
        file = folder / "hf.json"
        for rule in RULES:
            if rule != "gpt-2":
                hf, _ = hf_train(documents, steps_of(rule, folder))
            hf.save(str(file))
            compare("encode" if rule == "gpt-2" else f"encode {rule}", {"hf": file}, documents, path, size)
        source = DATA / "ggml-vocab-llama-spm.gguf"
        if source.exists() and importlib.util.find_spec("gguf"):
            llama_pieces(source).save(str(file))
            compare("encode spm", {"hf": file, "attar": source}, documents, path, size)


main()
