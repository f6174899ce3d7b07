"""Computes the golden files anew and compares: a dataset passes if no element is further off than 8 times its recorded
noise plus 1e-6 of its largest magnitude; integers, names, shapes and attributes must be the same.

Usage: golden_check.py --check [NAME ...]      exit status 1 if anything differs
"""

import argparse
import sys
from pathlib import Path

import h5py
import numpy as np

import llama
import make_golden
from make_golden import FOLDER, GOLDEN, Tree, plain


def compare(path: str, tree: Tree, group: h5py.Group, known: set[str]) -> list[str]:
    """What differs below `path`; attributes in `known` are provenance, not content."""
    wrong = [f"{path}: {name}: only in {where}" for names, other, where in
             ((tree, group, "the script"), (group, tree, "the file")) for name in names if name not in other]
    for name in (set(tree.attrs) | set(group.attrs)) - known:
        ours, theirs = tree.attrs.get(name), group.attrs.get(name)
        if ours is None or theirs is None or not np.array_equal(plain(ours), theirs):
            wrong.append(f"{path}@{name}: {theirs} in the file, computed {ours}")
    for name in tree.keys() & group.keys():
        where = f"{path}/{name}"
        if isinstance(tree[name], Tree):
            wrong += compare(where, tree[name], group[name], set())
            continue
        (ours, noise), theirs = tree[name], group[name][()]
        if ours.shape != theirs.shape or ours.dtype != theirs.dtype:
            wrong.append(f"{where}: {theirs.dtype}{theirs.shape} in the file, computed {ours.dtype}{ours.shape}")
        elif noise is None:
            if not np.array_equal(ours, theirs):
                wrong.append(f"{where}: {np.sum(ours != theirs)} integers differ")
        elif ours.size:
            bound = 8 * float(group[name].attrs["noise"]) + 1e-6 * float(np.abs(ours).max())
            off = float(np.abs(ours.astype(np.float64) - theirs).max())
            if not off <= bound:
                wrong.append(f"{where}: off by {off:.3g}, allowed {bound:.3g}")
    return wrong


def check(name: str, folder: Path) -> list[str]:
    path = folder / f"{name}.h5"
    if not path.exists():
        return [f"{path}: missing; run make_golden.py"]
    made_by = make_golden.provenance()
    with h5py.File(path) as file:
        for key, here in made_by.items():
            there = file.attrs[key].decode()
            if there != here:
                print(f"  note: {path.name} was made with {key} {there}, this is {here}")
        return compare(name, make_golden.compute(name), file, set(made_by))


def main() -> int:
    parser = argparse.ArgumentParser(description="compare the golden files with a fresh computation")
    parser.add_argument("--check", action="store_true", required=True)
    parser.add_argument("--folder", type=Path, default=FOLDER)
    parser.add_argument("names", nargs="*", default=list(GOLDEN))
    args = parser.parse_args()
    llama.validate()
    print("llama.py agrees with PyTorch's operators and with transformers")
    wrong = []
    for name in args.names:
        found = check(name, args.folder)
        print(f"{'FAIL' if found else 'ok':4} {name}")
        wrong += found
    for line in wrong:
        print(line, file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
