"""Writes datasets/charclass.def: the letters, numbers and spaces of Unicode as the regular
expressions of Hugging Face tokenizers see them (its Oniguruma: a newer Unicode than PCRE2's).

    python tests/oracle/charclass.py > datasets/charclass.def
"""
import tokenizers
from tokenizers import Regex
from tokenizers.pre_tokenizers import Split

CODES = [c for c in range(0x110000) if not 0xD800 <= c < 0xE000]


def members(pattern):
    keep_matches = Split(Regex(pattern), "removed", invert=True)
    found = set()
    for i in range(0, len(CODES), 4096):
        for piece, _ in keep_matches.pre_tokenize_str("".join(map(chr, CODES[i : i + 4096]))):
            found.update(map(ord, piece))
    return found


def ranges(codes, name):
    out = []
    for c in sorted(codes):
        if out and c == out[-1][1] + 1:
            out[-1][1] = c
        else:
            out.append([c, c, name])
    return out


rows = sorted(
    ranges(members(r"\p{L}+"), "LETTER")
    + ranges(members(r"\p{N}+"), "NUMBER")
    + ranges(members(r"\s+") - {10, 13}, "SPACE")
    + ranges({10, 13}, "NEWLINE")
)
print(f"/* Made by tests/oracle/charclass.py with tokenizers {tokenizers.__version__}: first and last")
print("   code point of every run of one class, ascending. What is in no run is OTHER. */")
line = ""
for first, last, name in rows:
    entry = f"RUN(0x{first:x}, 0x{last:x}, {name})"
    if line and len(line) + len(entry) > 98:
        print(line)
        line = ""
    line += (" " if line else "") + entry
print(line)
