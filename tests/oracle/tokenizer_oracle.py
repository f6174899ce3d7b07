"""`attar tokenizer` against Hugging Face tokenizers and against llama.cpp's fixtures, live.

    ATTAR_BIN=./attar ATTAR_DATA=../shared/data python tests/oracle/tokenizer_oracle.py

Exit status 0 if every comparison agrees in every id; fixtures that are absent are skipped aloud.
"""
import json
import lzma
import os
import pathlib
import random
import subprocess
import sys
import tempfile
import unicodedata

import tokenizers
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers
from tokenizers import pre_tokenizers, processors, trainers

BIN = os.environ.get("ATTAR_BIN", "./attar")
DATA = pathlib.Path(os.environ.get("ATTAR_DATA", "../shared/data"))
RULES = ["gpt-2", "llama-bpe", "qwen2", "smollm"]
failures = []


def report(name, same, note=""):
    print(f"{'ok  ' if same else 'FAIL'} {name}{': ' + note if note else ''}", flush=True)
    if not same:
        failures.append(name)


def attar(*args, stdin=None):
    done = subprocess.run([BIN, "tokenizer", *map(str, args)], input=stdin, capture_output=True)
    if done.returncode:
        sys.exit(f"attar tokenizer {args}: {done.stderr.decode()}")
    return done.stdout


def attar_ids(tokenizer, text, special=False):
    flags = ["--special"] if special else []
    out = attar("encode", "-t", tokenizer, *flags, "-", stdin=text.encode())
    return [int(x) for x in out.split()]


def first_difference(a, b):
    at = next((i for i, (x, y) in enumerate(zip(a, b)) if x != y), min(len(a), len(b)))
    return "" if a == b else f"{len(a)} and {len(b)} ids, differ from {at}: {a[at:at+5]} {b[at:at+5]}"


def compare(name, path, text, special=False):
    hf = Tokenizer.from_file(str(path))
    hf.encode_special_tokens = not special
    want = hf.encode(text, add_special_tokens=False).ids
    got = attar_ids(path, text, special)
    report(name, got == want, first_difference(got, want) or f"{len(got)} ids")
    if not hf.normalizer:
        back = attar("decode", "-t", path, stdin=" ".join(map(str, got)).encode()).decode()
        report(name + ", back", back == text == hf.decode(want, skip_special_tokens=False))


def random_text(seed, n):
    """Runs of characters of one script, blanks, digits, contractions; every plane."""
    rng = random.Random(seed)
    blocks = [(0x20, 0x7F), (0x20, 0x7F), (0x80, 0x250), (0x300, 0x370), (0x370, 0x600),
              (0x600, 0xA00), (0xE00, 0x1100), (0x1100, 0x1200), (0x1680, 0x1681),
              (0x2000, 0x2070), (0x2070, 0x2C00), (0x3000, 0x3100), (0x4E00, 0x5E00),
              (0xAC00, 0xB000), (0xF900, 0xFB50), (0xFE00, 0x10000), (0x10000, 0x11DE0),
              (0x11DEA, 0x20000), (0x20000, 0x323B0), (0xE0000, 0xE0200)]
    parts = ["'s", "'S", "'ll", "'RE", "'\u017f", "'t", " ", "  ", "\n", "\r\n", "\t", "\n\n ",
             " \n", "12", "3456789", "\u00b2\u00bd", "don't", "<|endoftext|>", "\u0085", "\u180e"]
    out = []
    while n > 0:
        if rng.random() < 0.4:
            piece = rng.choice(parts)
        else:
            first, last = rng.choice(blocks)
            piece = "".join(chr(rng.randrange(first, last)) for _ in range(rng.randrange(1, 5)))
        out.append(piece)
        n -= len(piece)
    return "".join(c for c in "".join(out) if not 0xD800 <= ord(c) < 0xE000)


def gpt2_fixture(folder):
    """llama.cpp's vocabulary, texts and ids of GPT-2."""
    source = DATA / "ggml-vocab-gpt-2.gguf"
    if not source.exists():
        print(f"SKIPPED: no {source}")
        return None
    import gguf

    fields = gguf.GGUFReader(str(source)).fields
    tokens = fields["tokenizer.ggml.tokens"].contents()
    types = fields["tokenizer.ggml.token_type"].contents()
    merges = fields["tokenizer.ggml.merges"].contents()
    path = folder / "gpt2.json"
    path.write_text(json.dumps({
        "version": "1.0",
        "added_tokens": [
            {"id": i, "content": t, "single_word": False, "lstrip": False, "rstrip": False,
             "normalized": False, "special": True}
            for i, (t, kind) in enumerate(zip(tokens, types)) if kind == gguf.TokenType.CONTROL],
        "normalizer": None,
        "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True,
                          "use_regex": True},
        "post_processor": {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": False,
                           "use_regex": True},
        "decoder": {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True,
                    "use_regex": True},
        "model": {"type": "BPE", "vocab": {t: i for i, t in enumerate(tokens)}, "merges": merges},
    }))
    separator = "\n__ggml_vocab_test__\n"
    texts = (DATA / "ggml-vocab-gpt-2.gguf.inp").read_text().split(separator)
    lines = (DATA / "ggml-vocab-gpt-2.gguf.out").read_text().split("\n")
    wrong = 0
    for text, line in zip(texts, lines):
        got = attar_ids(path, text)
        if got != [int(x) for x in line.split()]:
            wrong += 1
            print(f"     {text!r}: {got}, not {line}")
    report("gpt-2 fixture of llama.cpp", wrong == 0 and len(texts) > 30, f"{len(texts)} texts")
    return path


def own_files(folder, corpus, texts):
    for rule in RULES:
        path = folder / f"{rule}.json"
        attar("train", "--vocab-size", 4096, "--pre", rule, "-o", path, corpus)
        for name, text in texts.items():
            compare(f"{rule}, {name}", path, text)
        compare(f"{rule}, special tokens", path, texts["random"][:20000], special=True)
    path = folder / "byte.json"
    attar("train", "--vocab-size", 257, "-o", path, corpus)
    compare("byte, random", path, texts["random"][:50000], special=True)


def training(corpus, folder):
    """The same merges as Hugging Face's trainer, one by one."""
    for rule, size in [("gpt-2", 8192), ("llama-bpe", 3000)]:
        path = folder / "trained.json"
        attar("train", "--vocab-size", size, "--pre", rule, "--split-on", "none", "-o", path, corpus)
        ours = json.loads(path.read_text())
        hf = Tokenizer(models.BPE())
        hf.pre_tokenizer = Tokenizer.from_file(str(path)).pre_tokenizer
        # whole, not by lines: some pieces hold several newlines
        hf.train_from_iterator([corpus.read_text()], trainers.BpeTrainer(
            vocab_size=size - 1, min_frequency=2, show_progress=False,
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet()))
        want = [m if isinstance(m, str) else " ".join(m)
                for m in json.loads(hf.to_str())["model"]["merges"]]
        got = ours["model"]["merges"]
        report(f"training, {rule}", got == want, first_difference(got, want) or f"{len(got)} merges")


def foreign_files(folder, corpus, texts):
    """What Hugging Face writes, with everything we read: pairs as arrays, NFC, user tokens,
    ignore_merges, a template."""
    # marks that its Unicode does not know, older than 14, keep their place in its form C
    too_new = {c for c in map(chr, range(0x300, 0x20000)) if unicodedata.combining(c) and
               normalizers.NFC().normalize_str("a" + c + "\u0334") !=
               unicodedata.normalize("NFC", "a" + c + "\u0334")}
    print(f"{len(too_new)} combining marks are left out of the comparison of NFC")
    llama = json.loads((folder / "llama-bpe.json").read_text())
    regex = llama["pre_tokenizer"]["pretokenizers"][0]["pattern"]["Regex"]
    for nfc, whole in [(True, False), (False, True)]:
        hf = Tokenizer(models.BPE(ignore_merges=whole))
        hf.pre_tokenizer = pre_tokenizers.Sequence([
            pre_tokenizers.Split(Regex(regex), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
        hf.decoder = decoders.ByteLevel()
        if nfc:
            hf.normalizer = normalizers.NFC()
        hf.train([str(corpus)], trainers.BpeTrainer(
            vocab_size=3000, special_tokens=["<|begin|>", "<|endoftext|>"], show_progress=False,
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet()))
        hf.add_tokens([AddedToken("don't", normalized=False), AddedToken("12", normalized=False)])
        hf.post_processor = processors.TemplateProcessing(
            single="<|begin|> $A", special_tokens=[("<|begin|>", hf.token_to_id("<|begin|>"))])
        path = folder / "foreign.json"
        hf.save(str(path))
        name = "NFC" if nfc else "ignore_merges"
        for text_name, text in texts.items():
            if nfc:
                text = "".join(c for c in text if c not in too_new)
            compare(f"foreign with {name}, {text_name}", path, text, special=True)
            compare(f"foreign with {name}, {text_name}, specials as text", path, text)


def main():
    print(f"tokenizers {tokenizers.__version__}, {BIN}")
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        texts = {"random": random_text(1, 300000)}
        corpus = folder / "corpus.txt"
        shakespeare, mixed = DATA / "tinyshakespeare.txt", DATA / "mixed.txt.xz"
        if shakespeare.exists() and mixed.exists():
            texts["tinyshakespeare"] = shakespeare.read_text()
            text = lzma.open(mixed, "rt").read()
            texts["mixed"] = text[:2_000_000]
            corpus.write_text(text[2_000_000:10_000_000])
        else:
            print(f"SKIPPED: no {shakespeare} or no {mixed}; a random text stands in")
            corpus.write_text(random_text(2, 300000))
        gpt2 = gpt2_fixture(folder)
        if gpt2:
            for text_name, text in texts.items():
                compare(f"GPT-2, {text_name}", gpt2, text)
        own_files(folder, corpus, texts)
        training(corpus, folder)
        foreign_files(folder, corpus, texts)
    print(f"{len(failures)} comparisons failed" if failures else "all agree")
    return 1 if failures else 0


sys.exit(main())
