"""Compares two programs on a noisy machine: runs them in turn, N rounds, and looks at the ratio within each round.

  pair.py --name NAME --field tokens_per_s [--rounds N] [--label-a A] [--label-b B] -- COMMAND A ... -- COMMAND B ...

Each command prints a JSON object; the last line that starts with `{` counts. The order within a round alternates, so
that neither program always runs after the other. Prints median, min and max of the field for both and the median,
quartiles, min and max of A/B per round, and appends the same as one JSON line, with date, machine and commit, to
tests/bench/results/NAME.jsonl. Nothing is appended if a run fails.
"""

import argparse
import statistics
import sys

import results


def spread(values: list[float]) -> dict[str, float]:
    low, _, high = statistics.quantiles(values, n=4, method="inclusive") if len(values) > 1 else values * 3
    out = {"median": statistics.median(values), "q1": low, "q3": high, "min": min(values), "max": max(values)}
    return {name: float(f"{x:.6g}") for name, x in out.items()}


def split_commands(argv: list[str]) -> tuple[list[str], list[str], list[str]]:
    """Options, command A, command B, cut at the first two `--`."""
    cuts = [i for i, word in enumerate(argv) if word == "--"]
    if len(cuts) < 2 or cuts[1] == cuts[0] + 1 or cuts[1] == len(argv) - 1:
        if "-h" in argv or "--help" in argv:
            return argv, [], []
        sys.exit("two commands are needed: pair.py OPTIONS -- COMMAND A -- COMMAND B")
    return argv[: cuts[0]], argv[cuts[0] + 1 : cuts[1]], argv[cuts[1] + 1 :]


def main() -> None:
    options, command_a, command_b = split_commands(sys.argv[1:])
    p = argparse.ArgumentParser(description="compare two programs, run in turn")
    p.add_argument("--name", required=True, help="result file: tests/bench/results/NAME.jsonl")
    p.add_argument("--field", required=True, help="field of both JSON lines that is compared")
    p.add_argument("--rounds", type=int, default=5)
    p.add_argument("--label-a", default="a")
    p.add_argument("--label-b", default="b")
    p.add_argument("--dry", action="store_true", help="append nothing")
    a = p.parse_args(options)
    if a.rounds < 1:
        p.error("--rounds must be at least 1")
    if a.label_a == a.label_b:
        p.error("the labels must differ")

    sides = {a.label_a: command_a, a.label_b: command_b}
    last: dict[str, dict] = {}
    values: dict[str, list[float]] = {label: [] for label in sides}
    for r in range(a.rounds):
        for label in list(sides) if r % 2 == 0 else reversed(sides):
            last[label] = results.run(sides[label])
            value = last[label].get(a.field)
            if not isinstance(value, (int, float)) or not value > 0:
                sys.exit(f"{' '.join(sides[label])}: {a.field} is {value}, not a number above 0")
            values[label].append(float(value))
        x, y = (values[label][-1] for label in sides)
        print(f"round {r + 1}: {a.label_a} {x:g}, {a.label_b} {y:g}, ratio {x / y:.3f}", flush=True)

    ratio = spread([x / y for x, y in zip(*values.values())])
    record = {
        "field": a.field, "rounds": a.rounds, "ratio": ratio, "labels": [a.label_a, a.label_b],
        "sides": {label: spread(values[label]) | {"values": values[label], "last": last[label]} for label in sides}}
    for label in sides:
        s = record["sides"][label]
        print(f"{label:20} {a.field} median {s['median']:g}, min {s['min']:g}, max {s['max']:g}")
    print(f"{a.label_a}/{a.label_b}: median {ratio['median']:.3f}, quartiles {ratio['q1']:.3f} to {ratio['q3']:.3f}, "
          f"range {ratio['min']:.3f} to {ratio['max']:.3f}")
    if not a.dry:
        results.append(a.name, record)


if __name__ == "__main__":
    main()
