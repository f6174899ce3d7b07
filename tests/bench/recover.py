"""How much of what quantization loses does training in the blocks give back? Base models of 2.3M and 5.2M parameters
(experiments/configs/recover-*.yaml), post-training files of attar and llama-quantize, and training in blocks, all
measured as exported GGUF files: loss, and mean KL divergence from the base model in F32, on the validation part.

  recover.py ATTAR --runs FOLDER [--only screen|confirm|controls|ablation ...] [--size 2m] [--seed 1] [--type Q2_K] [--arm RE] [--plan] [--dry] [--tokens 8M]

The unit of work is a seed of a size: its base model, then its arms. Prints the plan with its hours first (--plan: that
is all). An arm adds a line to results/recover.jsonl; what is there of the same base and options is skipped, and a run
that was stopped goes on where it was: the same command does all of it. LLAMA_BIN: the folder of llama-quantize.
Tiers: `screen` compares options on the small model with one seed; `confirm` has what claims name and `controls` training
without a teacher, with three seeds of both sizes; `ablation` changes single options, with three seeds of the small model. In the end it prints the claims: paired ratios and differences over the seeds, with standard errors.
"""

import argparse
import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

import recover_claims
import results

TYPES = ("Q2_K", "Q3_K_M", "Q4_K_M")
SEEDS = (1, 2, 3)
SIZES = ("2m", "5m")
RATE = {"2m": 20e3, "5m": 8e3}  # tokens/s of plain training, until a record says otherwise
SHARE = 0.15  # of pre-training's tokens, for whatever comes after it
# What the screen chose, by type; everything else is the stage's default, but that scales are frozen where nothing is
# said of them. ALONE: without a teacher. The larger model has another rate: these times PACE.
BEST = {"batch_tokens": "1Ki", "imatrix": "IMATRIX", "beta1": 0.5, "decay_power": 2, "scales": "super"}
CHOSEN = {"Q2_K": {"lr": 3e-4} | BEST, "Q3_K_M": {"lr": 2e-4} | BEST, "Q4_K_M": {"lr": 1.5e-4} | BEST}
PACE = {"2m": 1, "5m": 0.5}
ALONE = {"Q2_K": {"lr": 2e-4, "batch_tokens": "1Ki"}, "Q3_K_M": {"lr": 1.5e-4, "batch_tokens": "1Ki"}, "Q4_K_M": {"lr": 1e-4}}


@dataclass(frozen=True)
class Arm:
    """Something that makes files: post-training ones of a type, or a stage."""

    name: str
    kind: str = ""  # type of the file
    stage: dict = field(default_factory=dict, hash=False)  # empty: post-training
    after: "Arm | None" = field(default=None, hash=False)  # whose model it starts from

    @property
    def cost(self) -> float:
        """In plain training's tokens, as a part of the extra tokens."""
        if "fused" in self.stage:  # a base model of its own, and two decays, for two arms
            return (1 / SHARE + 1) / 2
        return 0 if not self.stage else 1.05 if "pretrain" in self.stage or self.teacherless else 1.4

    @property
    def options(self) -> dict:
        return {"after": self.after.stage} if self.after else self.stage

    @property
    def teacherless(self) -> bool:
        return self.stage.get("qat", {}).get("teacher") == "none"


def qat(kind: str, **options: object) -> dict:
    return {"qat": {"type": kind.lower()} | options}


def chosen(kind: str, size: str, **options: object) -> dict:
    table = ALONE if options.get("teacher") == "none" else CHOSEN
    return qat(kind, **table[kind] | {"lr": table[kind]["lr"] * PACE[size], "min_lr_ratio": 0} | options)


def arm(kind: str, **options: object) -> Arm:
    """Named by its options."""
    return Arm(", ".join(f"{k}={v:g}" if isinstance(v, float) else f"{k}={v}" for k, v in options.items()), kind,
               qat(kind, **options))


def screen() -> list[Arm]:
    """One seed of the small model: rates, then each option beside the rate that was chosen."""
    low = {"min_lr_ratio": 0}
    small = low | {"batch_tokens": "1Ki"}
    beside = ({"batch_tokens": "2Ki"}, {"scales": "learned"}, {"scales": "learned", "scale_lr": 0.3}, {"refit": 50},
              {"imatrix": "IMATRIX"}, {"ste": "plain"}, {"kl_weight": 0.5}, {"start": 0.25}, {"schedule": "linear"},
              {"beta1": 0.5}, {"beta1": 0.97}, {"beta2": 0.99}, {"optimizer": "muon"})
    return [arm("Q2_K", lr=1e-3), arm("Q2_K", lr=3e-3), arm("Q4_K_M", lr=5e-4),
            *(arm("Q2_K", lr=rate, **low) for rate in (1e-4, 3e-4, 1e-3)),
            *(arm("Q3_K_M", lr=rate, **low) for rate in (1e-4, 2e-4)), arm("Q3_K_M", lr=1.5e-4, **small),
            *(arm("Q4_K_M", lr=rate, **low) for rate in (5e-5, 1e-4, 2e-4, 5e-4)),
            *(arm("Q2_K", lr=rate, **small) for rate in (1e-4, 2e-4, 4e-4)), arm("Q2_K", lr=2e-4, **small, scales="learned"),
            arm("Q2_K", lr=2e-4, **small, scales="learned", scale_lr=0.3, imatrix="IMATRIX"),
            arm("Q2_K", lr=2e-4, **small, imatrix="IMATRIX", beta1=0.5),
            arm("Q2_K", lr=1.5e-4, **low, batch_tokens="512"),
            arm("Q2_K", lr=1e-4, **low, batch_tokens="256", imatrix="IMATRIX", beta1=0.5),
            arm("Q2_K", lr=3e-4, **small, imatrix="IMATRIX", beta1=0.5, decay_power=2),
            *(arm(kind, **low, **CHOSEN[kind]) for kind in TYPES), *(arm(kind, **low, **CHOSEN[kind] | {"scales": "frozen"})
            for kind in TYPES[1:]), arm("Q2_K", **low, **CHOSEN["Q2_K"], scale_lr=5.0),
            arm("Q2_K", **low, **CHOSEN["Q2_K"] | {"scales": "learned"}),
            *(arm("Q2_K", lr=3e-4, **low, **options) for options in beside),
            arm("Q4_K_M", lr=1e-4, **low, activations="true"),
            Arm("F32 twin of fused", "F32", {"fused": {"type": "q2_k", "stage": "02-twin"}}),
            Arm("fused", "Q2_K", {"fused": {"type": "q2_k", "stage": "03-qat"}})]


def post_training() -> list[Arm]:
    return [Arm("f32", "F32"), Arm("f16", "F16"), *(Arm(how, kind) for kind in TYPES for how in
            ("attar", "attar imatrix", "llama-quantize", "llama-quantize imatrix"))]


def confirm(size: str) -> list[Arm]:
    """What the claims name."""
    trained = [Arm("qat", kind, chosen(kind, size)) for kind in TYPES]
    return [*trained, *(Arm("f16, then llama-quantize", arm.kind, after=arm) for arm in trained)]


def controls(size: str) -> list[Arm]:
    """Without a teacher: in blocks, and in F32."""
    more = Arm("more training", "F32", {"pretrain": {"lr": 2e-4, "weight_decay": 0, "warmup": "10%"}})
    return [*(Arm("qat, no teacher", kind, chosen(kind, size, teacher="none")) for kind in TYPES), more,
            *(Arm("more training, then attar imatrix", kind, after=more) for kind in TYPES)]


def ablation() -> list[Arm]:
    """Single changes of a recipe."""
    return [arm(kind, **options | more) for kind, (options, changes) in recover_claims.ABLATED.items() for more in ({}, *changes)]


def tiers(size: str, seed: int) -> dict[str, list[Arm]]:
    small = size == SIZES[0]
    return {"post-training": post_training(), "screen": screen() if small and seed == SEEDS[0] else [], "confirm": confirm(size),
            "controls": controls(size), "ablation": ablation() if small else []}


class Stopped(Exception):
    pass


def number(text: str) -> int:
    """8M, 64Ki -> its value."""
    digits, unit = re.fullmatch(r"([0-9.]+)(K|M|G|Ki|Mi)?", text).groups()
    return int(float(digits) * {"K": 1e3, "M": 1e6, "G": 1e9, "Ki": 1024, "Mi": 1 << 20, None: 1}[unit])


def sha(*parts: bytes) -> str:
    return hashlib.sha256(b"\n".join(parts)).hexdigest()[:16]


def short(stage: dict) -> str:
    return sha(json.dumps(stage, sort_keys=True).encode())[:8]


def yaml(value: object) -> str:
    """JSON without quotes around what needs none: the flow style of YAML."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {yaml(v)}" for key, v in value.items()) + "}"
    return "[" + ", ".join(map(yaml, value)) + "]" if isinstance(value, (list, tuple)) else str(value)


class Unit:
    """One seed of one size."""

    def __init__(self, a: argparse.Namespace, size: str, seed: int) -> None:
        self.a, self.size, self.seed = a, size, seed
        self.config = Path(f"experiments/configs/recover-{size}.yaml")
        self.runs = Path(a.runs).resolve()
        self.files = self.runs / f"{size}-{seed}"
        self.extra = int(number(a.tokens) * SHARE)
        self.base_model = self.runs / self.name("base") / "01-pretrain" / "checkpoint.h5"
        self.llama = os.environ.get("LLAMA_BIN")
        self.base_hash = ""

    def name(self, arm: str) -> str:
        return f"{self.size}-{self.seed}-" + re.sub(r"[^a-zA-Z0-9.]+", "-", arm).strip("-").lower()

    def stage_hash(self, arm: Arm) -> str:
        """Of all that makes the arm what it is, but for the base model and the seed."""
        return sha(self.config.read_bytes(), self.a.tokens.encode(), json.dumps([arm.kind, arm.options]).encode())

    # ---- programs ----

    def call(self, *command: object) -> str:
        child = subprocess.Popen(list(map(str, command)), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        try:
            out, log = child.communicate()
        except Stopped:
            child.send_signal(signal.SIGTERM)
            child.communicate()
            raise
        if child.returncode:
            sys.exit(f"{' '.join(map(str, command))}: exit status {child.returncode}\n{log[-2000:]}")
        return out

    def run(self, name: str, stages: list, fresh: bool = False) -> Path:
        """A run of the config's text with other stages, which start from files; its folder. What is finished stays."""
        kind = next(iter(stages[0]))
        if not fresh and (self.runs / name / f"01-{kind}" / "summary.json").exists():
            return self.runs / name
        self.call(self.a.attar, "run", self.config, *(["--fresh"] if fresh else []), f"out={self.runs}", f"name={name}",
                  f"seed={self.seed}", f"stages={yaml(stages)}", "model=")
        return self.runs / name

    def make_base(self) -> None:
        stage = {"pretrain": {"tokens": self.a.tokens} | self.base_stage()}
        if not (self.base_model.parent / "summary.json").exists():
            self.call(self.a.attar, "run", self.config, f"out={self.runs}", f"name={self.name('base')}",
                      f"seed={self.seed}", f"stages={yaml([stage])}")
        self.base_hash = hashlib.sha256(self.base_model.read_bytes()).hexdigest()[:16]
        self.files.mkdir(exist_ok=True)

    def imatrix(self) -> Path:
        """Of training text: 256 contexts of it."""
        to = self.files / "imatrix.gguf"
        if not to.exists():
            corpus = self.call(self.a.attar, "data", "build", self.config, f"seed={self.seed}").split()[-1]
            text = self.files / "calibration.txt"
            whole = self.call(self.a.attar, "data", "text", corpus, "--part", "train")
            text.write_text(whole[: 1 << 19], encoding="utf-8")
            self.call(self.a.attar, "imatrix", "-m", self.file("f32", "F32"), "-f", text, "-c", 256, "--chunks", 256, "-o", to)
        return to

    def file(self, name: str, kind: str) -> Path:
        return self.files / (re.sub(r"[^a-zA-Z0-9.=]+", "-", f"{name}-{kind}") + ".gguf")

    # ---- arms ----

    def export(self, model: Path, to: Path, kind: str) -> Path:
        if not to.exists():
            self.call(self.a.attar, "export", model, to, *(["--type", kind] if kind else []))
        return to

    def quantized(self, source: Path, how: str, kind: str, to: Path) -> Path | None:
        """A post-training file; None: its program is not there."""
        flags = ["--imatrix", self.imatrix()] if how.endswith("imatrix") else []
        if how.startswith("attar"):
            self.call(self.a.attar, "quantize", source, to, kind, *flags)
        elif self.llama:
            self.call(Path(self.llama) / "llama-quantize", *flags, source, to, kind, 2)
        else:
            print(f"SKIPPED {how}: LLAMA_BIN names no folder of llama.cpp's programs", flush=True)
            return None
        return to

    def base_stage(self) -> dict:
        """The config's own."""
        text = self.config.read_text(encoding="utf-8")
        return {key: re.search(rf"^      {key}: (\S+)$", text, re.M)[1] for key in ("batch_tokens", "lr", "warmup")}

    def fused(self, options: dict) -> Path:
        """A base model without its decay, the decay in F32, and the decay in blocks instead; the stage that is asked for."""
        name, first = self.name(f"fused {options['type']}"), number(self.a.tokens) - self.extra
        decay = {"from": "stable", "continues": "true", "tokens": self.extra, "batch_tokens": self.base_stage()["batch_tokens"]}
        stable = {"name": "stable", "tokens": first, "schedule": "wsd", "decay": 0} | self.base_stage()
        stages = [{"pretrain": stable}, {"pretrain": {"name": "twin"} | decay}, {"qat": {"type": options["type"], "scales": "super"} | decay}]
        self.call(self.a.attar, "run", self.config, f"out={self.runs}", f"name={name}", f"seed={self.seed}",
                  f"stages={yaml(stages)}")
        return self.runs / name / options["stage"]

    def trained(self, arm: Arm) -> Path:
        """The folder of the stage that trains."""
        (kind, options), = arm.stage.items()
        if kind == "fused":
            return self.fused(options)
        options = ({"from": self.base_model, "tokens": self.extra, "batch_tokens": "4Ki"} |
                   ({"scales": "frozen"} if kind == "qat" else {}) | options)
        if "imatrix" in options:
            options["imatrix"] = self.imatrix()
        # by what it does: the arm that a screen chose is trained once
        return self.run(self.name(f"{kind} {arm.kind} {short(arm.stage)}"), [{kind: options}]) / f"01-{kind}"

    def make(self, arm: Arm) -> tuple[Path | None, dict]:
        """The arm's file, and what is known of its making."""
        to, seconds = self.file(arm.name, arm.kind), time.monotonic()
        f32 = self.file("f32", "F32")
        if not arm.stage and not arm.after:
            if arm.name in ("f32", "f16"):
                return self.export(self.base_model, to, arm.kind), {}
            to.unlink(missing_ok=True)
            return self.quantized(f32, arm.name, arm.kind, to), {}
        if arm.after:
            other = arm.after
            dense = self.export(self.trained(other), self.file(f"{other.name} {short(other.stage)}", f"{arm.kind}-as-dense"),
                                "F32" if other.kind == "F32" else "F16")
            to.unlink(missing_ok=True)
            return self.quantized(dense, arm.name.split("then ")[1], arm.kind, to), {}
        folder = self.trained(arm)
        summary = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
        to.unlink(missing_ok=True)
        self.export(folder, to, arm.kind if arm.kind == "F32" else "")
        return to, {"model": folder / "checkpoint.h5", "seconds": summary["seconds"], "trained_tokens": summary["tokens"],
                    "training_forward_loss": summary["valid_loss"], "wall_s": round(time.monotonic() - seconds, 1)}

    def measure(self, files: list[Path]) -> list[dict]:
        """Loss and divergence of the files."""
        folder = self.run(self.name(f"measure {os.getpid()}"),
                          [{"evaluate": {"compare": files, "reference": self.base_model}}], fresh=True)
        rows = json.loads((folder / "01-evaluate" / "summary.json").read_text(encoding="utf-8"))["rows"]
        shutil.rmtree(folder)
        return rows

    def record(self, tier: str, arm: Arm, row: dict, more: dict) -> dict:
        r = {"tier": tier, "size": self.size, "seed": self.seed, "arm": arm.name, "type": arm.kind, "base": self.base_hash,
             "config": self.stage_hash(arm), "options": arm.options, "base_tokens": number(self.a.tokens),
             "loss": row["loss"], "kl": row["kld"], "kl_error": row["kld_error"], "tokens": row["tokens"],
             "bytes": row["size"]} | more
        if "training_forward_loss" in more:
            r["forward_minus_file"] = more["training_forward_loss"] - row["loss"]
        print(f"{self.size} seed {self.seed} {arm.kind:7} {arm.name:34} loss {r['loss']:.5f} KL {r['kl']:.6f}"
              f" +- {r['kl_error']:.6f} {r.get('seconds', 0):6.0f} s", flush=True)
        if not self.a.dry:
            results.append("recover", r)
        return r

    def arms(self, tier: str, arms: list[Arm], done: set) -> None:
        left = [arm for arm in arms if (self.base_hash, *what(arm, tier)) not in done and
                (not arm.stage or arm.kind in (*self.a.type, "F32") and re.search(self.a.arm, arm.name))]
        if tier != "post-training":
            for arm in left:
                file, more = self.make(arm)
                if not file:
                    continue
                model = more.pop("model", None)
                blocks = model and arm.kind != "F32"
                rows = self.measure([file, model] if blocks else [file])
                if blocks:  # the same, computed in f32
                    more |= {"weights_loss": rows[1]["loss"], "weights_kl": rows[1]["kld"]}
                self.record(tier, arm, rows[0], more)
        elif left:
            made = [(arm, self.make(arm)[0]) for arm in left]
            made = [(arm, file) for arm, file in made if file]
            for (arm, _), row in zip(made, self.measure([file for _, file in made])):
                self.record(tier, arm, row, {})


def what(arm: Arm, tier: str) -> tuple:
    """What an arm is, beside its base model, whose hash stands for the config's data, model and pre-training. An
    ablation is its options, whatever tier they were run in, and has no name."""
    return "" if tier == "ablation" else arm.name, arm.kind, json.dumps(arm.options, sort_keys=True)


def keys(r: dict) -> list[tuple]:
    options = json.dumps(r["options"], sort_keys=True)
    return [(r["base"], name, r["type"], options) for name in ("", r["arm"])]


def plan(a: argparse.Namespace, units: list[Unit], records: list[dict]) -> None:
    """Hours that are left, by unit; at the speed of the newest record of that size, if there is one."""
    total = 0.0
    done = {(r["size"], r["seed"], *key[1:]) for r in records for key in keys(r)}
    for u in units:
        rates = [r["trained_tokens"] / r["seconds"] * 1.4 for r in records if r["size"] == u.size and r["arm"] == "qat"]
        rate = rates[-1] if rates else RATE[u.size]
        base = 0 if (u.base_model.parent / "summary.json").exists() else number(a.tokens) / rate
        hours = {"base": base / 3600}
        for tier, arms in tiers(u.size, u.seed).items():
            left = [x for x in arms if (u.size, u.seed, *what(x, tier)) not in done]
            if not a.only or tier in (*a.only, "post-training"):
                hours[tier] = sum(x.cost * u.extra / rate + 60e3 / rate for x in left) / 3600
        total += sum(hours.values())
        print(f"plan: {u.size} seed {u.seed}: " + ", ".join(f"{k} {h:.2f} h" for k, h in hours.items()))
    print(f"plan: {total:.2f} hours in all", flush=True)


def main() -> None:
    p = argparse.ArgumentParser(description="training in blocks against quantizing after training")
    p.add_argument("attar")
    p.add_argument("--runs", required=True, help="folder of checkpoints and files; what is there is used again")
    p.add_argument("--only", choices=("screen", "confirm", "controls", "ablation"), nargs="+", default=[])
    p.add_argument("--size", choices=SIZES, nargs="+", default=SIZES)
    p.add_argument("--seed", type=int, nargs="+", default=SEEDS)
    p.add_argument("--type", choices=TYPES, nargs="+", default=TYPES, help="of trained files: what else there is waits")
    p.add_argument("--arm", default="", help="regular expression: only arms of that name")
    p.add_argument("--tokens", default="8M", help="of pre-training")
    for flag in ("--plan", "--dry"):
        p.add_argument(flag, action="store_true")
    a = p.parse_args()
    a.attar = str(Path(a.attar).resolve())

    def stop(number: int, frame: object) -> None:
        raise Stopped

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    Path(a.runs).mkdir(parents=True, exist_ok=True)
    records = results.read("recover") if (results.FOLDER / "recover.jsonl").exists() else []
    units = [Unit(a, size, seed) for size in a.size for seed in a.seed]
    plan(a, units, records)
    if a.plan:
        return
    try:
        for u in units:
            u.make_base()
            for tier, arms in tiers(u.size, u.seed).items():
                if not a.only or tier in (*a.only, "post-training"):
                    u.arms(tier, arms, set() if a.dry else {key for r in records for key in keys(r)})
    except Stopped:
        sys.exit("stopped; the same command goes on from there")
    for line in recover_claims.lines(results.read("recover") if not a.dry else []):
        print(line)


if __name__ == "__main__":
    main()
