"""Fills the tables of a Markdown file from tests/bench/results/*.jsonl, so that no figure is typed by hand.

  tables.py [--check] [FILE]        FILE: README.md; --check changes nothing and exits 1 if a table is out of date

A table stands between `<!-- table:NAME -->` and `<!-- end -->`; NAME is one of TABLES below. A row is the newest record
of its results file. Under a table stand the machines, commits and dates of its rows.
"""

import argparse
import re
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import results

MARKED = re.compile(r"(<!-- table:([\w-]+) -->\n).*?(<!-- end -->)", re.DOTALL)


@dataclass(frozen=True)
class Table:
    """`rows` maps a row's first cell to its results file; `cells` makes the others of that file's newest record."""

    header: tuple[str, ...]
    rows: dict[str, str]
    cells: Callable[[dict], Iterable[str]]


def number(x: float) -> str:
    """Three or more significant digits, thousands apart."""
    return f"{x:,.0f}" if x >= 1000 else f"{x:.3g}" if x < 100 else f"{x:.0f}"


def pair_cells(record: dict) -> Iterable[str]:
    """Cells of a pair.py record: both sides, then the ratio's median and quartiles."""
    for label in record["labels"]:
        side = record["sides"][label]
        yield f"{number(side['median'])} ({number(side['min'])} to {number(side['max'])})"
    ratio = record["ratio"]
    yield f"**{ratio['median']:.2f}** ({ratio['q1']:.2f} to {ratio['q3']:.2f})"
    yield str(record["rounds"])


def fields(*names: str) -> Callable[[dict], Iterable[str]]:
    """Cells of a results.py record: these fields."""
    return lambda record: (number(record[name]) if isinstance(record[name], (int, float)) else str(record[name])
                           for name in names)


TABLES = {
    "torch-compile": Table(
        ("PyTorch, 5.8M llama", "compiled, tokens/s (range)", "eager, tokens/s (range)", "ratio (quartiles)", "rounds"),
        {"f32": "train-torch-f32", "bf16": "train-torch-bf16"}, pair_cells),
    "xz": Table(
        ("text", "training bytes", "validation bytes", "bits per byte"),
        {"tiny Shakespeare": "xz-tinyshakespeare"}, fields("train_bytes", "valid_bytes", "bits_per_byte")),
}


def build(table: Table) -> str:
    lines = [table.header, ("---",) + ("---:",) * (len(table.header) - 1)]
    origins: dict[str, None] = {}
    for first, name in table.rows.items():
        record = results.read(name)[-1]
        cells = (first, *table.cells(record))
        if len(cells) != len(table.header):
            sys.exit(f"table row {first}: {len(cells)} cells for {len(table.header)} columns")
        lines.append(cells)
        origins[f"{record['machine']}; commit {record['commit']}; {record['date'][:10]}"] = None
    rows = "".join(f"| {' | '.join(line)} |\n" for line in lines)
    return f"\n{rows}\n<sub>{'<br>'.join(origins)}</sub>\n\n"


def fill(text: str) -> str:
    def replace(match: re.Match) -> str:
        if match[2] not in TABLES:
            sys.exit(f"table:{match[2]} is unknown; tables.py knows {', '.join(TABLES)}")
        return match[1] + build(TABLES[match[2]]) + match[3]

    if text.count("<!-- table:") != len(MARKED.findall(text)):
        sys.exit("a `<!-- table:NAME -->` stands on no line of its own or has no `<!-- end -->`")
    return MARKED.sub(replace, text)


def main() -> int:
    p = argparse.ArgumentParser(description="fill the tables of a Markdown file from recorded results")
    p.add_argument("--check", action="store_true")
    p.add_argument("file", type=Path, nargs="?", default=Path(__file__).resolve().parents[2] / "README.md")
    a = p.parse_args()
    old = a.file.read_text(encoding="utf-8")
    new = fill(old)
    if a.check:
        print(f"{a.file.name}: tables are {'up to date' if new == old else 'out of date; run tables.py'}")
        return int(new != old)
    if new != old:
        a.file.write_text(new, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
