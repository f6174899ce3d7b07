"""BPE training and encoding, attar against Hugging Face tokenizers: one core, the same documents
and vocabulary, runs alternating, medians. Prints a JSON object a line.

    make build/release/tests/bench/bench_tokenizer
    python tests/bench/bench_tokenizer.py build/release/tests/bench/bench_tokenizer
"""
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
from tokenizers import Tokenizer, models, pre_tokenizers, trainers

BIN = sys.argv[1]
RUNS = int(os.environ.get("RUNS", "5"))
VOCAB = 8192
DATA = pathlib.Path(os.environ.get("ATTAR_DATA", "../shared/data"))


def hf_train(documents):
    hf = Tokenizer(models.BPE())
    hf.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    start = time.perf_counter()
    hf.train_from_iterator(documents, trainers.BpeTrainer(
        vocab_size=VOCAB, min_frequency=2, special_tokens=["<|endoftext|>"], show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet()))
    return hf, time.perf_counter() - start


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


with tempfile.TemporaryDirectory() as folder:
    text = lzma.open(DATA / "mixed.txt.xz", "rt").read()
    path = pathlib.Path(folder) / "mixed.txt"
    path.write_text(text)
    size = len(text.encode())
    parts = text.split("\n\n")
    documents = [p + "\n\n" for p in parts[:-1]] + [parts[-1]] * bool(parts[-1])
    ours_train, ours_encode, hf_trained, hf_encoded = [], [], [], []
    same = True
    file = pathlib.Path(folder) / "hf.json"
    for _ in range(RUNS):
        ours_train.append(attar(path, VOCAB)["make_s"])
        hf, seconds = hf_train(documents)
        hf_trained.append(seconds)
        hf.save(str(file))
        ours = attar(path, VOCAB, file)
        hf = Tokenizer.from_file(str(file))  # its cache as empty as ours
        tokens, seconds = hf_encode(hf, documents)
        ours_encode.append(ours["encode_s"])
        hf_encoded.append(seconds)
        same &= tokens == ours["tokens"]
    for what, a, b in [("train", ours_train, hf_trained), ("encode", ours_encode, hf_encoded)]:
        print(json.dumps({"bench": f"tokenizer {what}", "text": "mixed.txt", "bytes": size,
                          "documents": len(documents), "vocab_size": VOCAB, "runs": RUNS,
                          "attar": spread(a, size), "hf": spread(b, size),
                          "times_faster": round(statistics.median(b) / statistics.median(a), 2),
                          "same_tokens": same, "tokenizers": tokenizers.__version__}), flush=True)
