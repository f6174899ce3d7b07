"""What the records of recover.py amount to: ratios and differences, paired by seed, with standard errors over the seeds.
A difference of less than three standard errors is unresolved. Records of different base models are never combined.
"""

import math
import statistics

import results

TYPES = ("Q2_K", "Q3_K_M", "Q4_K_M")
POST = ("attar", "attar imatrix", "llama-quantize", "llama-quantize imatrix")
TARGET = {"Q2_K": 1 / 4, "Q3_K_M": 1 / 3, "Q4_K_M": 1 / 2}  # of the best post-training file's divergence
IN_BYTES = {"Q3_K_M": "Q4_K_M", "Q2_K": "Q3_K_M"}  # trained, against imatrix of the larger type
SIZES = {"2m": "2.3M", "5m": "5.2M"}
RESOLVED = 3
# What the stage's defaults follow from: by type, options of the stage and single changes of them; the small model
ABLATED = {"Q2_K": ({"lr": 2e-4, "batch_tokens": "1Ki", "min_lr_ratio": 0},
                    ({"ste": "plain"}, {"refit": 50}, {"scales": "super"}, {"scales": "learned"}, {"teacher": "none"})),
           "Q3_K_M": ({"lr": 1.5e-4, "batch_tokens": "1Ki", "min_lr_ratio": 0}, ({"teacher": "none"},)),
           "Q4_K_M": ({"lr": 1e-4, "min_lr_ratio": 0}, ({"activations": "true"}, {"teacher": "none"}))}


def read() -> list[dict]:
    return results.read("recover") if (results.FOLDER / "recover.jsonl").exists() else []


def spread(values: list[float]) -> tuple[float, float]:
    """Mean and standard error; the latter is NaN for one value."""
    error = statistics.stdev(values) / math.sqrt(len(values)) if len(values) > 1 else math.nan
    return statistics.fmean(values), error


class Seeds:
    """The newest record of each arm of one size, by seed; all of the base model that was used last."""

    def __init__(self, records: list[dict], size: str) -> None:
        self.size, self.by_seed = size, {}
        own = [r for r in records if r["size"] == size]
        for seed in sorted({r["seed"] for r in own}):
            last = [r for r in own if r["seed"] == seed]
            base = last[-1]["base"]
            self.by_seed[seed] = {(r["arm"], r["type"]): r for r in last if r["base"] == base and r["tier"] != "screen"}

    def each(self, figure) -> list[float]:
        """figure(arms of a seed) for every seed that has what it needs."""
        out = []
        for arms in self.by_seed.values():
            try:
                out.append(figure(arms))
            except (KeyError, ValueError):
                pass
        return out


def best_post(arms: dict, kind: str) -> dict:
    """The post-training file of that type with the least divergence. ValueError if there is none."""
    return min((arms[how, kind] for how in POST if (how, kind) in arms), key=lambda r: r["kl"])


def kl_ratio(kind: str):
    return lambda arms: arms["qat", kind]["kl"] / best_post(arms, kind)["kl"]


def bytes_ratio(kind: str):
    def figure(arms: dict) -> float:
        larger = IN_BYTES[kind]
        return arms["qat", kind]["kl"] / min(arms[how, larger]["kl"] for how in POST if "imatrix" in how and
                                             (how, larger) in arms)
    return figure


def lost(kind: str):
    """The part of the gain that is gone after F16 and llama-quantize."""
    def figure(arms: dict) -> float:
        trained, post = arms["qat", kind]["kl"], best_post(arms, kind)["kl"]
        return (arms["f16, then llama-quantize", kind]["kl"] - trained) / (post - trained)
    return figure


def loss_above(arm: str, kind: str, other: str = "f32", other_kind: str = "F32"):
    """Loss beyond that of another arm; arm "post": the best post-training file."""
    def figure(arms: dict) -> float:
        r = best_post(arms, kind) if arm == "post" else arms[arm, kind]
        return r["loss"] - arms[other, other_kind]["loss"]
    return figure


def verdict(values: list[float], target: float) -> str:
    """Is the mean at most the target?"""
    mean, error = spread(values)
    if len(values) < 2:
        return "one seed"
    if abs(mean - target) < RESOLVED * error:
        return "unresolved"
    return "met" if mean <= target else "missed"


def shown(values: list[float], form: str = ".3f") -> str:
    if not values:
        return "not measured yet"
    mean, error = spread(values)
    return f"{mean:{form}}" + (f" ± {error:{form.lstrip('+')}}" if len(values) > 1 else "")


def lines(records: list[dict]) -> list[str]:
    """The claims in words."""
    out = []
    for size, name in SIZES.items():
        seeds = Seeds(records, size)
        for kind in TYPES:
            noise = seeds.each(lambda arms: best_post(arms, kind)["kl"] / best_post(arms, kind)["kl_error"])
            if noise:
                floor = seeds.each(lambda arms: arms["f16", "F16"]["kl"])
                out.append(f"{name} {kind}: the best post-training divergence is {min(noise):.0f} of its standard errors, F16's "
                           f"{shown(floor, '.2g')}")
            for what, figure, target in (("of the best post-training KL", kl_ratio(kind), TARGET[kind]), *(
                    ((f"of imatrix {IN_BYTES[kind]}'s KL", bytes_ratio(kind), 1.0),) if kind in IN_BYTES else ())):
                values = seeds.each(figure)
                if values:
                    out.append(f"{name} {kind}: {shown(values)} {what}, target {target:.3g}: {verdict(values, target)} "
                               f"({len(values)} seeds)")
            values = seeds.each(lost(kind))
            if values:
                out.append(f"{name} {kind}: F16 and llama-quantize lose {shown([100 * v for v in values], '.0f')} % of it")
    return out


# ---- tables ----

def split(first: str) -> tuple[str, str]:
    """"2.3M Q2_K" -> "2m", "Q2_K"."""
    name, kind = first.split()
    return next(size for size, n in SIZES.items() if n == name), kind


def newest(records: list[dict], size: str) -> dict:
    return [r for r in records if r["size"] == size][-1]


def claims_pick(records: list[dict], first: str) -> dict | None:
    size, kind = split(first)
    seeds = Seeds(records, size)
    values = seeds.each(kl_ratio(kind))
    if not values:
        return None
    forward = [r["qat", kind]["forward_minus_file"] for r in seeds.by_seed.values() if ("qat", kind) in r]
    in_bytes = seeds.each(bytes_ratio(kind)) if kind in IN_BYTES else []
    return newest(records, size) | {"cells": (
        shown(seeds.each(lambda arms: best_post(arms, kind)["kl"]), ".5f"),
        shown(seeds.each(lambda arms: arms["qat", kind]["kl"]), ".5f"),
        f"**{shown(values)}**", f"{TARGET[kind]:.3g}: {verdict(values, TARGET[kind])}",
        f"{shown(in_bytes)} of {IN_BYTES[kind]}: {verdict(in_bytes, 1)}" if in_bytes else "",
        shown([100 * v for v in seeds.each(lost(kind))], ".0f"),
        f"{max(forward, key=abs):+.5f}", str(len(values)))}


CLAIMS_HEADER = ("model and type", "KL, best after training", "KL, trained in blocks", "ratio", "target",
                 "KL by that of the larger type's imatrix", "gain lost by F16 and llama-quantize, %",
                 "training forward minus file, nats (worst seed)", "seeds")
CLAIMS_ROWS = {f"{name} {kind}": "recover" for name in SIZES.values() for kind in TYPES}

METHODS = {"attar": "attar quantize", "attar imatrix": "attar quantize, imatrix", "llama-quantize": "llama-quantize",
           "llama-quantize imatrix": "llama-quantize, imatrix", "qat": "trained in blocks, with the teacher",
           "qat, no teacher": "trained in blocks, no teacher",
           "f16, then llama-quantize": "trained in blocks, but F16 and llama-quantize",
           "more training, then attar imatrix": "trained on in F32, then attar quantize, imatrix"}


def methods_pick(records: list[dict], first: str) -> dict | None:
    """All types of one size and method: "2.3M: llama-quantize"."""
    name, method = first.split(": ")
    size = next(s for s, n in SIZES.items() if n == name)
    arm = next(a for a, m in METHODS.items() if m == method)
    seeds = Seeds(records, size)
    cells = []
    for kind in TYPES:
        kl = seeds.each(lambda arms: arms[arm, kind]["kl"])
        cells.append(f"{shown(kl, '.4f')}, {shown(seeds.each(loss_above(arm, kind)), '+.4f')}" if kl else "")
    return newest(records, size) | {"cells": cells} if any(cells) else None


METHODS_HEADER = ("method", *(f"{kind}: KL, loss above F32" for kind in TYPES))
METHODS_ROWS = {f"{name}: {method}": "recover" for name in SIZES.values() for method in METHODS.values()}


def screen_rows(records: list[dict]) -> dict[str, str]:
    return {f"{r['type']} {r['arm']}": "recover" for r in records if r["tier"] == "screen"}


def screen_pick(records: list[dict], first: str) -> dict | None:
    found = [r for r in records if r["tier"] == "screen" and f"{r['type']} {r['arm']}" == first]
    r = found[-1]
    post = Seeds(records, r["size"]).by_seed.get(r["seed"], {})
    try:
        ratio = f"{r['kl'] / best_post(post, r['type'])['kl']:.3f}"
    except ValueError:
        ratio = ""
    kl = "" if "fused" in r["options"] else f"{r['kl']:.5f} ± {r['kl_error']:.5f}"  # a base model of its own
    return r | {"cells": (kl, ratio if kl else "", f"{r['loss']:.4f}")}


SCREEN_HEADER = ("2.3M, one seed", "KL (standard error over tokens)", "of the best post-training KL", "loss")


def change(options: dict) -> str:
    return ", ".join(f"{k}: {v}" for k, v in options.items())


ABLATION_ROWS = {f"{kind}, {change(c)}": "recover" for kind, (_, changes) in ABLATED.items() for c in changes}
ABLATION_HEADER = ("2.3M, changed", "KL without", "KL with", "KL changes by, %", "loss by, nats", "seeds")


def ablation_pick(records: list[dict], first: str) -> dict | None:
    """A change of one option, paired by seed, whatever tier the runs are of."""
    kind, changed = first.split(", ")
    options, changes = ABLATED[kind]
    more = next(c for c in changes if change(c) == changed)
    newest, pairs = None, []
    for seed in sorted({r["seed"] for r in records}):
        own = [r for r in records if r["size"] == "2m" and r["seed"] == seed]
        found = [[r for r in own if r["base"] == own[-1]["base"] and
                  r["options"].get("qat") == {"type": kind.lower()} | wanted] for wanted in (options, options | more)]
        if all(found):
            pairs.append([side[-1] for side in found])
            newest = found[1][-1]
    if not newest:
        return None
    by = [100 * (b["kl"] / a["kl"] - 1) for a, b in pairs]
    loss = [b["loss"] - a["loss"] for a, b in pairs]
    return newest | {"cells": (*(shown([pair[i]["kl"] for pair in pairs], ".5f") for i in (0, 1)),
                               *(shown(v, form) + resolved(v) for v, form in ((by, "+.1f"), (loss, "+.4f"))), str(len(pairs)))}


def resolved(values: list[float]) -> str:
    return ", unresolved" if verdict(values, 0) == "unresolved" else ""


def cells(record: dict) -> tuple:
    return tuple(record["cells"])
