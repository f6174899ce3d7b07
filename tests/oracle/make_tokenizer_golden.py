"""Writes tests/golden/tokenizer.json: small vocabularies as Hugging Face tokenizers trains and saves
them, one for each pre-tokenizer, and the ids that it gives to some texts.

    ATTAR_DATA=../shared/data python tests/oracle/make_tokenizer_golden.py
"""
import json
import os
import pathlib

import tokenizers
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers
from tokenizers import pre_tokenizers, processors, trainers

DATA = pathlib.Path(os.environ.get("ATTAR_DATA", "../shared/data"))
LLAMA3 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|%s| ?[^\s\p{L}\p{N}]+[\r\n]*|"
          r"\s*[\r\n]+|\s+(?!\S)|\s+")


def split(numbers):
    return pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(LLAMA3 % numbers), "isolated"),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])


RULES = {
    "gpt-2": pre_tokenizers.ByteLevel(add_prefix_space=False),
    "llama-bpe": split(r"\p{N}{1,3}"),
    "qwen2": split(r"\p{N}"),
    "smollm": pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True),
                                       pre_tokenizers.ByteLevel(add_prefix_space=False)]),
}
TEXTS = [
    "", " ", "Hello, world!", "Before we proceed any further, hear me speak.\n\nAll:\nSpeak, speak.",
    "  leading and trailing  ", "a\n\n\nb \n c\r\n\r\nd\t\te", "I'm YOU'LL we've it'S 'tis don't",
    "1 12 123 1234 12345 3.14 x2y \u00bd\u00b2\u0663\u2167", "naïve café Ελληνικά русский",
    "e\u0301\u0300 q\u0307\u0323 \u212b", "日本語のテキスト 한국어 中文", "😀👩‍👩‍👧 x\u200bx \u00a0\u3000\u2028 \u0085",
    "'\u017fa", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa" * 3,
    "thethethethethethethetheandandandandthouthouthouthouwithwithwithwithlordlordlordlordking",
    "x<|endoftext|>y<|bos|> [tool] z", "<|endoftext|><|endoftext|>", "<|endoftext", "=" * 33 + "\n",
]

cases = []
for name, pre in RULES.items():
    hf = Tokenizer(models.BPE(ignore_merges=name == "llama-bpe"))
    hf.pre_tokenizer = pre
    hf.decoder = decoders.ByteLevel()
    if name == "qwen2":
        hf.normalizer = normalizers.NFC()
    specials = ["<|bos|>", "<|endoftext|>"]
    hf.train([str(DATA / "tinyshakespeare.txt")], trainers.BpeTrainer(
        vocab_size=700, special_tokens=specials, show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet()))
    hf.add_tokens([AddedToken("[tool]", normalized=False)])
    if name == "llama-bpe":
        bos = ("<|bos|>", hf.token_to_id("<|bos|>"))
        hf.post_processor = processors.Sequence([
            processors.ByteLevel(trim_offsets=False),
            processors.TemplateProcessing(single="<|bos|> $A", special_tokens=[bos])])
    ids = {}
    for special in (True, False):
        hf.encode_special_tokens = not special
        ids[special] = [hf.encode(t, add_special_tokens=False).ids for t in TEXTS]
    cases.append({"pre": name, "tokenizer": json.loads(hf.to_str()),
                  "bos": hf.token_to_id("<|bos|>") if name == "llama-bpe" else -1,
                  "eot": hf.token_to_id("<|endoftext|>"), "vocab_size": hf.get_vocab_size(),
                  "special": ids[True], "plain": ids[False]})
out = pathlib.Path(__file__).parent.parent / "golden" / "tokenizer.json"
out.write_text(json.dumps({"made_by": f"make_tokenizer_golden.py, tokenizers {tokenizers.__version__}",
                           "texts": TEXTS, "cases": cases}, separators=(",", ":")) + "\n")
