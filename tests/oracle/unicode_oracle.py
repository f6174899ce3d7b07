"""`attar tokenizer` on 100,000 random Unicode strings and on mixed text, against Hugging Face tokenizers and llama.cpp.

    ATTAR_BIN=./attar ATTAR_DATA=../shared/data python tests/oracle/unicode_oracle.py

For each rule that a file may name, a vocabulary that attar trained; for SentencePiece's BPE, llama's vocabulary out of
ATTAR_DATA. The strings go through in one stream with a special token between them: ids must be Hugging Face's, string by
string, and the stream must come back. The rule of files that name none is compared with llama-tokenize (LLAMA_BIN).
"""
import json
import lzma
import os
import pathlib
import random
import subprocess
import sys
import tempfile

import gguf
import tokenizers
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers

BIN = os.environ.get("ATTAR_BIN", "./attar")
LLAMA = os.environ.get("LLAMA_BIN")
DATA = pathlib.Path(os.environ.get("ATTAR_DATA", "../shared/data"))
STRINGS = 100_000
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


def strings(seed, n):
    """Up to 30 characters of every plane, runs of one script, blanks, digits, contractions, marks."""
    rng = random.Random(seed)
    blocks = [(0x20, 0x7F), (0x20, 0x7F), (0xA0, 0x250), (0x300, 0x370), (0x370, 0x600), (0x600, 0xA00), (0xE00, 0x1100),
              (0x1100, 0x1200), (0x2000, 0x2070), (0x2070, 0x2580), (0x2582, 0x2C00), (0x3000, 0x3100), (0x4E00, 0x5E00),
              (0xAC00, 0xB000), (0xE000, 0xE010), (0xF900, 0xFB50), (0xFE00, 0xFFF0), (0x10000, 0x11DE0), (0x11DEA, 0x20000),
              (0x20000, 0x323B0), (0xE0000, 0xE0200), (0x10FFF0, 0x110000)]
    parts = ["'s", "'S", "'ll", "'RE", "'\u017f", " ", "  ", "\n", "\r\n", "\t", "\n\n ", "12", "3456789", "\u00b2\u00bd",
             "don't", "\u0085", "\u180e", "\U0001f468\u200d\U0001f469\u200d\U0001f467", "e\u0301", "\x00", "\x7f"]
    out = []
    for _ in range(n):
        s = ""
        for _ in range(rng.randrange(1, 6)):
            first, last = rng.choice(blocks)
            s += rng.choice(parts) if rng.random() < 0.4 else \
                "".join(chr(rng.randrange(first, last)) for _ in range(rng.randrange(1, 6)))
        out.append(s)
    return out


def split(ids, at):
    parts, one = [], []
    for i in ids:
        if i == at:
            parts.append(one)
            one = []
        else:
            one.append(i)
    return parts + [one]


def compare(name, path, hf, some, separator):
    stream = separator.join(some).encode()
    ids = [int(x) for x in attar("encode", "-t", path, "--special", "-", stdin=stream).split()]
    got = split(ids, hf.token_to_id(separator))
    want = [e.ids for e in hf.encode_batch(some, add_special_tokens=False)]
    wrong = [i for i, (a, b) in enumerate(zip(got, want)) if a != b]
    note = f"{len(some)} strings, {sum(map(len, want))} ids"
    if wrong:
        note = f"{len(wrong)} differ, first {some[wrong[0]]!r}: {got[wrong[0]]}, not {want[wrong[0]]}"
    report(name, not wrong and len(got) == len(want), note)
    text = attar("decode", "-t", path, stdin=" ".join(map(str, ids)).encode()).decode()
    report(name + ", back", text == separator.join(some))


def byte_level(folder, corpus, texts):
    for rule in RULES:
        path = folder / f"{rule}.json"
        attar("train", "--vocab-size", 4096, "--pre", rule, "-o", path, corpus)
        hf = Tokenizer.from_file(str(path))
        for name, some in texts.items():
            compare(f"{rule}, {name}", path, hf, some, "<|endoftext|>")


def merges_of(tokens, scores):
    """As Hugging Face's converter finds them: all pairs of pieces that make a piece, the best first."""
    ids = {t: i for i, t in enumerate(tokens)}
    found = []
    for piece, score in zip(tokens, scores):
        halves = [(piece[:k], piece[k:]) for k in range(1, len(piece)) if piece[:k] in ids and piece[k:] in ids]
        found += [(h[0], h[1], score) for h in sorted(halves, key=lambda h: (ids[h[0]], ids[h[1]]))]
    return [(a, b) for a, b, _ in sorted(found, key=lambda m: m[2], reverse=True)]


def pieces(texts):
    source = DATA / "ggml-vocab-llama-spm.gguf"
    if not source.exists():
        print(f"SKIPPED: SentencePiece's BPE: no {source}")
        return
    fields = gguf.GGUFReader(str(source)).fields
    tokens, scores, types = (fields[f"tokenizer.ggml.{k}"].contents() for k in ("tokens", "scores", "token_type"))
    hf = Tokenizer(models.BPE({t: i for i, t in enumerate(tokens)}, merges_of(tokens, scores), unk_token="<unk>",
                              fuse_unk=True, byte_fallback=True))
    hf.normalizer = normalizers.Sequence([normalizers.Prepend("\u2581"), normalizers.Replace(" ", "\u2581")])
    hf.decoder = decoders.Sequence([decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse(),
                                    decoders.Strip(" ", 1, 0)])
    hf.add_special_tokens([AddedToken(t, normalized=False, special=True) for t, kind in zip(tokens, types)
                           if kind == gguf.TokenType.CONTROL])
    for name, some in texts.items():
        compare(f"llama's pieces, {name}", source, hf, some, "</s>")


def unnamed(folder, texts):
    """GPT-2's vocabulary without the name of its rule."""
    source = DATA / "ggml-vocab-gpt-2.gguf"
    if not LLAMA or not source.exists():
        print(f"SKIPPED: the rule 'default': LLAMA_BIN is not set, or no {source}")
        return
    path = folder / "unnamed.gguf"
    w = gguf.GGUFWriter(path, "gpt2")
    for key, field in gguf.GGUFReader(str(source)).fields.items():
        if not key.startswith("GGUF.") and key not in ("general.architecture", "tokenizer.ggml.pre"):
            w.add_key_value(key, field.contents(), field.types[0], field.types[-1] if len(field.types) > 1 else None)
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()
    for name, some in texts.items():
        text, file = "\n".join(some), folder / "text.txt"
        file.write_bytes(text.encode())
        done = subprocess.run([f"{LLAMA}/llama-tokenize", "-m", path, "-f", file, "--ids", "--no-bos", "--no-parse-special",
                               "--no-escape", "--log-disable"], capture_output=True, text=True, check=True)
        want = json.loads(done.stdout[done.stdout.index("["):])
        got = [int(x) for x in attar("encode", "-t", path, file).split()]
        at = next((i for i, (a, b) in enumerate(zip(got, want)) if a != b), min(len(got), len(want)))
        report(f"default, {name}", got == want,
               f"{len(got)} ids" if got == want else f"differ from {at}: {got[at:at + 5]}, not {want[at:at + 5]}")


def main():
    print(f"tokenizers {tokenizers.__version__}, {BIN}")
    texts = {"random": strings(3, STRINGS)}
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        corpus, mixed = folder / "corpus.txt", DATA / "mixed.txt.xz"
        if mixed.exists():
            text = lzma.open(mixed, "rt").read()
            texts["mixed"] = [p for p in text[:2_000_000].split("\n\n") if p and "\u2581" not in p]
            corpus.write_text(text[2_000_000:10_000_000])
        else:
            print(f"SKIPPED: mixed text: no {mixed}; random strings stand in")
            corpus.write_text("\n".join(strings(4, 20000)))
        byte_level(folder, corpus, texts)
        pieces(texts)
        # its expressions are std::regex: they take no long texts
        few = {"mixed": texts.get("mixed", [])[:150], "ASCII": [s for s in texts["random"] if s.isascii()][:5000]}
        unnamed(folder, few)
    print(f"{len(failures)} comparisons failed" if failures else "all agree")
    return 1 if failures else 0


sys.exit(main())
