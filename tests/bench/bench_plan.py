"""Is the planned time right? Trains models of 1M to 124M parameters on contexts of 128 to 2048 tokens for a few steps
and holds tokens/s against what `attar bench` planned before the first of them ran.

  bench_plan.py ATTAR [--size 1M ...] [--steps N] [--rounds N] [--again] [--draw] [--dry]

Small models are planned and run several times (--rounds: so often), each time by a process of its own, and the medians
count: their plans rest on milliseconds. Each point adds a line to results/plan.jsonl; what is there from this machine
and commit is skipped, so that the command goes on where it was stopped (--again: all anew; --dry: nothing is added). In
the end it draws results/plan.svg (--draw: does only that).
"""

import argparse
import json
import math
import statistics
import subprocess
import sys

import results

SIZES = {  # about so many parameters
    "1M": {"d": 128, "layers": 4, "heads": 4, "kv-heads": 4, "ff": 384, "vocab": 1024},
    "6M": {"d": 256, "layers": 6, "heads": 4, "kv-heads": 2, "ff": 768, "vocab": 2048},
    "25M": {"d": 512, "layers": 6, "heads": 8, "kv-heads": 8, "ff": 1536, "vocab": 4096},
    "124M": {"d": 768, "layers": 12, "heads": 12, "kv-heads": 12, "ff": 2048, "vocab": 50257, "tie": True},
}
ROUNDS = {"1M": 5, "6M": 5, "25M": 1, "124M": 1}
CONTEXTS = (128, 512, 2048)
PRECISIONS = ("f32", "bf16")
TOKENS = 4096  # of a step
KEPT = ("what", "gemm", "threads", "params", "batch", "micro", "steps", "planned_tokens_per_s", "planning_s",
        "tokens_per_s", "tokens_per_s_min", "tokens_per_s_max", "gflops", "peak_gflops", "arena_mib", "peak_rss_mib")
WITHIN = 1.3


def flags(shape: dict) -> list[str]:
    return [word for name, value in shape.items() for word in ([f"--{name}"] if value is True else [f"--{name}", str(value)])]


def records() -> dict[tuple, dict]:
    """The newest record of each point."""
    if not (results.FOLDER / "plan.jsonl").exists():
        return {}
    return {(r["size"], r["precision"], r["seq"]): r for r in results.read("plan")}


def run(command: list[str]) -> dict:
    """Its JSON; what it says meanwhile, the plan first, is shown as it comes."""
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True)
    if done.returncode:
        sys.exit(f"{' '.join(command)}: exit status {done.returncode}")
    return json.loads(done.stdout)


def measure(a: argparse.Namespace) -> None:
    done = {} if a.again or a.dry else records()
    for size in a.size:
        for precision in PRECISIONS:
            for seq in CONTEXTS:
                old = done.get((size, precision, seq))
                if old and old["machine"] == results.machine() and \
                        old["commit"].rstrip("+") == results.commit().rstrip("+"):
                    continue
                print(f"-- {size}, {precision}, {seq} tokens", flush=True)
                command = [a.attar, "bench", "--train", "--json", "--precision", precision, "--seq", str(seq),
                           "--batch", str(TOKENS // seq), "--steps", str(a.steps), *flags(SIZES[size])]
                runs = [run(command) for _ in range(a.rounds or ROUNDS[size])]
                record = {"size": size, "precision": precision, "seq": seq} | {name: runs[0][name] for name in KEPT}
                for name in ("planned_tokens_per_s", "tokens_per_s"):
                    record[name] = statistics.median(r[name] for r in runs)
                ratios = [r["planned_tokens_per_s"] / r["tokens_per_s"] for r in runs]
                record |= {"ratio": statistics.median(ratios), "rounds": len(runs), "ratios": ratios}
                print(f"planned {record['planned_tokens_per_s']:.0f} tokens/s, measured {record['tokens_per_s']:.0f}, "
                      f"ratio {record['ratio']:.2f} ({min(ratios):.2f} to {max(ratios):.2f})", flush=True)
                if not a.dry:
                    results.append("plan", record)


# ---- the drawing: planned over measured, both logarithmic ----

WIDTH, HEIGHT, LEFT, TOP, SIDE = 560, 430, 64, 24, 340
COLORS = {128: "#0072b2", 512: "#d55e00", 2048: "#009e73"}


def svg(points: list[dict]) -> str:
    rates = [r[name] for r in points for name in ("tokens_per_s", "planned_tokens_per_s")]
    low, high = math.floor(math.log10(min(rates)) * 2) / 2, math.ceil(math.log10(max(rates)) * 2) / 2

    def x(rate: float) -> float:
        return LEFT + (math.log10(rate) - low) / (high - low) * SIDE

    def y(rate: float) -> float:
        return TOP + SIDE - (math.log10(rate) - low) / (high - low) * SIDE

    def text(at_x: float, at_y: float, words: str, anchor: str = "middle") -> str:
        return f'<text x="{at_x:.1f}" y="{at_y:.1f}" text-anchor="{anchor}">{words}</text>'

    out = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" '
           f'font-size="12" fill="#222"><title>Planned and measured tokens a second</title>',
           f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#fff"/>',
           f'<clipPath id="frame"><rect x="{LEFT}" y="{TOP}" width="{SIDE}" height="{SIDE}"/></clipPath>']
    a, b = 10**low, 10**high
    band = [(a, a * WITHIN), (b, b * WITHIN), (b, b / WITHIN), (a, a / WITHIN)]
    out.append(f'<g clip-path="url(#frame)"><polygon fill="#eee" points="'
               + " ".join(f"{x(p):.1f},{y(q):.1f}" for p, q in band) + '"/>'
               f'<line x1="{x(a):.1f}" y1="{y(a):.1f}" x2="{x(b):.1f}" y2="{y(b):.1f}" stroke="#888"/></g>')
    for e in range(math.ceil(low), math.floor(high) + 1):
        for m in (1, 2, 5):
            rate = m * 10**e
            if rate <= b:
                label = f"{rate // 1000}k" if rate >= 1000 else str(rate)
                out += [f'<path d="M{x(rate):.1f} {TOP}V{TOP + SIDE}M{LEFT} {y(rate):.1f}H{LEFT + SIDE}" '
                        'stroke="#ddd" stroke-width="0.5"/>',
                        text(x(rate), TOP + SIDE + 16, label), text(LEFT - 6, y(rate) + 4, label, "end")]
    out.append(f'<rect x="{LEFT}" y="{TOP}" width="{SIDE}" height="{SIDE}" fill="none" stroke="#888"/>')
    for r in points:
        px, py, color = x(r["tokens_per_s"]), y(r["planned_tokens_per_s"]), COLORS[r["seq"]]
        fill = color if r["precision"] == "bf16" else "#fff"
        out.append(f'<circle cx="{px:.1f}" cy="{py:.1f}" r="4.5" fill="{fill}" stroke="{color}" stroke-width="1.5">'
                   f'<title>{r["size"]}, {r["precision"]}, {r["seq"]} tokens: {r["ratio"]:.2f}</title></circle>')
    right = LEFT + SIDE + 20
    for i, (seq, color) in enumerate(COLORS.items()):
        out += [f'<circle cx="{right}" cy="{TOP + 12 + 20 * i}" r="4.5" fill="{color}"/>',
                text(right + 10, TOP + 16 + 20 * i, f"context {seq}", "start")]
    out += [f'<circle cx="{right}" cy="{TOP + 82}" r="4.5" fill="#fff" stroke="#222" stroke-width="1.5"/>',
            text(right + 10, TOP + 86, "open: f32", "start"),
            f'<rect x="{right - 6}" y="{TOP + 97}" width="12" height="12" fill="#eee" stroke="#ccc"/>',
            text(right + 10, TOP + 107, f"within {WITHIN} times", "start"),
            text(LEFT + SIDE / 2, TOP + SIDE + 38, "measured tokens/s"),
            f'<g transform="rotate(-90 14 {TOP + SIDE / 2})">{text(14, TOP + SIDE / 2, "planned tokens/s")}</g>', "</svg>"]
    return "\n".join(out) + "\n"


def main() -> None:
    p = argparse.ArgumentParser(description="hold planned against measured training speed")
    p.add_argument("attar")
    p.add_argument("--steps", type=int, default=5)
    p.add_argument("--rounds", type=int, default=0)
    p.add_argument("--size", choices=SIZES, nargs="+", default=list(SIZES))
    for flag in ("--again", "--draw", "--dry"):
        p.add_argument(flag, action="store_true")
    a = p.parse_args()
    if not a.draw:
        measure(a)
    if a.dry:
        return
    points = list(records().values())
    if not points:
        sys.exit("results/plan.jsonl is missing: nothing to draw")
    path = results.FOLDER / "plan.svg"
    path.write_text(svg(points), encoding="utf-8")
    off = [max(r["ratio"], 1 / r["ratio"]) for r in points]
    print(f"{path.name}: {len(points)} points, {sum(o <= WITHIN for o in off)} within {WITHIN} times, worst {max(off):.2f}")


if __name__ == "__main__":
    main()
