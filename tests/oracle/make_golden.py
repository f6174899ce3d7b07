"""Writes tests/golden/*.h5: what the engine must compute, from PyTorch in f32 on one thread.

Layout: `f32` and `i32` datasets, row-major, in the shapes of llama.py. Numbers describing a case are attributes (int64,
float64, fixed-length strings). The attribute `noise` of an f32 dataset is the largest absolute difference between that
f32 result and the same computation in f64: the honest unit for a tolerance. Inputs come from NumPy's PCG64, so that they
are the same bits on every machine.

  llama_*.h5, gpt2.h5, qwen2.h5, qwen3.h5
              config (attributes; without arch: llama), rope_freqs [D/2] (GGUF's divisors of the frequencies), weights/, tokens and targets
              [B,T] (-1 ignored), hidden [B*T,C] (after output_norm), logits [B*T,V], loss (mean over kept targets, with
              smoothing and z-loss), nll (the same without them), grads/ (of loss)
  curve.h5    100 steps of AdamW: config, optimizer (attributes), initial/, tokens [100,B,T+1], losses, grad_norms
              (before clipping), lrs [100], final/
  optim.h5    AdamW and SGD on given gradients; `params` [10,...] holds the parameters after steps 10, 20, ... 100
  blocks.h5   Muon, Lion and moving averages of the weights, likewise, on parameters named as a model's
  ops.h5      single operators: inputs, upstream gradient dy (1 for a scalar), output y, input gradients d<input>
  sampler.h5  logits [6,61]; caseNN/probs [6,61] after the filters named by its attributes (sampler.py)

Usage: make_golden.py [--folder FOLDER] [NAME ...]      (default: tests/golden, all)
"""

import argparse
import hashlib
import math
from collections.abc import Callable, Iterable
from dataclasses import asdict, replace
from pathlib import Path
from unittest import mock

import h5py
import numpy as np
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

import llama
import sampler
from llama import Config, Rope

HERE = Path(__file__).resolve().parent
FOLDER = HERE.parent / "golden"


class Tree(dict):
    """A group: names to Tree, float Tensor or int32 array, and attributes."""

    def __init__(self, items: dict | None = None, **attrs) -> None:
        super().__init__(items or {})
        self.attrs = attrs


def weights(rng: np.random.Generator, cfg: Config, dtype: torch.dtype, gain: float, spread: float,
            step: float) -> dict[str, Tensor]:
    """Matrices of deviation gain/sqrt(columns), norms of 1 +- spread, biases of 0 +- spread. A step > 0 rounds to its multiples, which halves
    the file; step 0 keeps full mantissas."""
    out = {}
    for name, shape in cfg.shapes().items():
        x = rng.standard_normal(shape)
        x = name.endswith(".weight") + spread * x if len(shape) == 1 else gain * shape[1] ** -0.5 * x
        x = np.round(x / step) * step if step else x
        out[name] = torch.from_numpy(x.astype(np.float32)).to(dtype).requires_grad_()
    return out


def detached(tensors: dict[str, Tensor]) -> Tree:
    return Tree({name: t.detach().clone() for name, t in tensors.items()})


def grads(tensors: dict[str, Tensor]) -> Tree:
    return Tree({name: t.grad for name, t in tensors.items()})


def model_case(cfg: Config, batch: int, seed: int, step: float, ignored: float = 0.0) -> Callable[[torch.dtype], Tree]:
    def build(dtype: torch.dtype) -> Tree:
        rng = np.random.default_rng(seed)
        w = weights(rng, cfg, dtype, 1.4, 0.2, step)  # gain 1.4: attention far from uniform
        tokens = rng.integers(cfg.vocab, size=(batch, cfg.context), dtype=np.int32)
        targets = rng.integers(cfg.vocab, size=(batch, cfg.context), dtype=np.int32)
        targets[rng.random(targets.shape) < ignored] = llama.IGNORE
        flat = torch.from_numpy(targets).long().flatten()
        h = llama.hidden(cfg, w, torch.from_numpy(tokens).long())
        logits = llama.head(w, h)
        loss = llama.cross_entropy(logits, flat, cfg.label_smoothing, cfg.z_loss)
        loss.backward()
        return Tree({"config": Tree(**llama.attributes(cfg)), "rope_freqs": cfg.rope.factors(cfg.head_dim),
                     "weights": detached(w), "tokens": tokens, "targets": targets, "hidden": h, "logits": logits,
                     "loss": loss, "nll": llama.cross_entropy(logits, flat), "grads": grads(w)})

    return build


def lr_at(step: int, total: int, warmup: int, peak: float) -> float:
    """lr(s), s from 0: peak*(s+1)/warmup for s < warmup, else
    min + 0.5*(peak-min)*(1+cos(pi*(s-warmup)/(total-warmup))), min = 0.1*peak."""
    if step < warmup:
        return peak * (step + 1) / warmup
    low = 0.1 * peak
    return low + 0.5 * (peak - low) * (1 + math.cos(math.pi * (step - warmup) / (total - warmup)))


SCHEDULE = ("lr(s) for s = 0..total-1: max_lr*(s+1)/warmup if s < warmup, else "
            "min_lr + 0.5*(max_lr-min_lr)*(1+cos(pi*(s-warmup)/(total-warmup))), min_lr = 0.1*max_lr")


def schedule(total: int, warmup: int, peak: float) -> tuple[dict, list[float]]:
    attrs = {"total": total, "warmup": warmup, "max_lr": peak, "min_lr": 0.1 * peak, "schedule": SCHEDULE}
    return attrs, [lr_at(s, total, warmup, peak) for s in range(total)]


def set_lr(optimizer: torch.optim.Optimizer, lr: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = lr


def markov_tokens(rng: np.random.Generator, vocab: int, shape: tuple[int, ...]) -> np.ndarray:
    """Chains in which every token has four successors, at 0.9, 0.05, 0.03, 0.02."""
    successors = rng.integers(vocab, size=(vocab, 4), dtype=np.int32)
    choice = rng.choice(4, size=shape, p=(0.9, 0.05, 0.03, 0.02))
    out = np.empty(shape, np.int32)
    out[..., 0] = rng.integers(vocab, size=shape[:-1])
    for t in range(1, shape[-1]):
        out[..., t] = successors[out[..., t - 1], choice[..., t]]
    return out


def curve(dtype: torch.dtype) -> Tree:
    cfg = Config((4, 4), (2, 2), (160, 160), 64, 16, 128, 32)
    steps, batch, decay, clip = 100, 4, 0.1, 1.0
    rng = np.random.default_rng(20)
    w = weights(rng, cfg, dtype, 0.4, 0.0, 2.0**-11)
    initial = detached(w)
    tokens = markov_tokens(rng, cfg.vocab, (steps, batch, cfg.context + 1))
    schedule_attrs, lrs = schedule(steps, 10, 3e-3)
    optimizer = torch.optim.AdamW(
        [{"params": [t for t in w.values() if t.ndim > 1], "weight_decay": decay},
         {"params": [t for t in w.values() if t.ndim == 1], "weight_decay": 0.0}],
        betas=(0.9, 0.95), eps=1e-8, foreach=False)
    losses, norms = [], []
    for step in range(steps):
        batch_tokens = torch.from_numpy(tokens[step]).long()
        loss = llama.loss(cfg, w, batch_tokens[:, :-1], batch_tokens[:, 1:])
        optimizer.zero_grad()
        loss.backward()
        norms.append(torch.nn.utils.clip_grad_norm_(w.values(), clip))
        set_lr(optimizer, lrs[step])
        optimizer.step()
        losses.append(loss.detach())
    attrs = schedule_attrs | {
        "optimizer": "AdamW, decay decoupled: p -= lr*decay*p, on tensors of 2 or more dimensions only",
        "beta1": 0.9, "beta2": 0.95, "eps": 1e-8, "weight_decay": decay, "clip": clip,
        "clipping": "all gradients times min(1, clip/(norm+1e-6)), norm over all parameters"}
    return Tree({"config": Tree(**llama.attributes(cfg)), "optimizer": Tree(**attrs), "initial": initial,
                 "tokens": tokens, "losses": torch.stack(losses), "grad_norms": torch.stack(norms),
                 "lrs": torch.tensor(lrs, dtype=dtype), "final": detached(w)})


def optimizers(dtype: torch.dtype) -> Tree:
    """`matrix` is decayed, `vector` is not. Columns differ in scale down to eps, and one gradient is always zero."""
    steps = 100
    rng = np.random.default_rng(30)
    scale = np.array([1, 1e-2, 1e-4, 1e-7, 1e-8, 0, 1e3], np.float32)
    start = {"matrix": rng.standard_normal((12, 7), np.float32), "vector": rng.standard_normal(9, np.float32)}
    given = {"matrix": rng.standard_normal((steps, 12, 7), np.float32) * scale,
             "vector": rng.standard_normal((steps, 9), np.float32)}
    schedule_attrs, lrs = schedule(steps, 10, 1e-2)

    def run(make: Callable[[list], torch.optim.Optimizer], decay: float, clamp: float, **attrs) -> Tree:
        params = {name: torch.from_numpy(x.copy()).to(dtype).requires_grad_() for name, x in start.items()}
        optimizer = make([{"params": [params["matrix"]], "weight_decay": decay},
                          {"params": [params["vector"]], "weight_decay": 0.0}])
        kept: dict[str, list[Tensor]] = {name: [] for name in params}
        for step in range(steps):
            for name, p in params.items():
                p.grad = torch.from_numpy(given[name][step]).to(dtype, copy=True)
                if clamp:
                    p.grad.clamp_(-clamp, clamp)
            set_lr(optimizer, lrs[step])
            optimizer.step()
            if step % 10 == 9:
                for name, p in params.items():
                    kept[name].append(p.detach().clone())
        return Tree({name: torch.stack(x) for name, x in kept.items()},
                    weight_decay=decay, clamp_grad=clamp, **attrs)

    adamw, sgd = torch.optim.AdamW, torch.optim.SGD
    return Tree({
        "lrs": torch.tensor(lrs, dtype=dtype),
        "initial": Tree({name: torch.from_numpy(x).to(dtype) for name, x in start.items()}),
        "grads": Tree({name: torch.from_numpy(x).to(dtype) for name, x in given.items()}),
        "adamw": run(lambda g: adamw(g, betas=(0.9, 0.95), eps=1e-8, foreach=False), 0.1, 0.0, beta1=0.9,
                     beta2=0.95, eps=1e-8, decay_rule="decoupled: p -= lr*weight_decay*p first, matrix only"),
        "sgd": run(lambda g: sgd(g, momentum=0.9, foreach=False), 0.0, 3.0, momentum=0.9, nesterov=0),
        "nesterov": run(lambda g: sgd(g, momentum=0.9, nesterov=True, foreach=False), 0.0, 3.0, momentum=0.9,
                        nesterov=1),
        "sgd_decay": run(lambda g: sgd(g, momentum=0.9, foreach=False), 0.1, 3.0, momentum=0.9, nesterov=0,
                         decay_rule="coupled: g += weight_decay*p before the momentum, matrix only"),
    }, steps=steps, every=10, sgd_rule="buf = momentum*buf + g (buf = g at first); p -= lr*buf, nesterov: "
       "p -= lr*(g + momentum*buf); g is the given gradient clamped to +-clamp_grad if that is not 0", **schedule_attrs)


class Lion(torch.optim.Optimizer):
    """Chen et al. 2023, algorithm 2."""

    def __init__(self, groups: list[dict], betas: tuple[float, float]) -> None:
        super().__init__(groups, {"lr": 0.0, "betas": betas, "weight_decay": 0.0})

    @torch.no_grad()
    def step(self) -> None:
        for group in self.param_groups:
            lr, (beta1, beta2) = group["lr"], group["betas"]
            for p in group["params"]:
                m = self.state[p].setdefault("m", torch.zeros_like(p))
                direction = (beta1 * m + (1 - beta1) * p.grad).sign()
                p -= lr * (direction + group["weight_decay"] * p)
                m.copy_(beta2 * m + (1 - beta2) * p.grad)


class MuonAndAdamW:
    """Muon for the matrices of the blocks, without its rounding to bf16, and AdamW at a rate of its own for the rest."""

    def __init__(self, blocks: list[dict], rest: list[dict], adam_lr_ratio: float, **muon) -> None:
        self.muon = torch.optim.Muon([p for group in blocks for p in group["params"]],
                                     weight_decay=blocks[0]["weight_decay"], **muon)
        self.adamw = torch.optim.AdamW(rest, betas=(0.9, 0.95), eps=1e-8, foreach=False)
        self.ratio = adam_lr_ratio

    def set_lr(self, lr: float) -> None:
        set_lr(self.muon, lr)
        set_lr(self.adamw, self.ratio * lr)

    def step(self) -> None:
        with mock.patch.object(Tensor, "bfloat16", Tensor.clone):
            self.muon.step()
        self.adamw.step()


def blocks(dtype: torch.dtype) -> Tree:
    """Two-dimensional parameters are decayed. Gradients are multiples of 1/32, which halves the file; the last column
    of the embedding has none."""
    steps, decay = 100, 0.1
    rng = np.random.default_rng(60)
    shapes = {"blk.0.tall.weight": (16, 6), "blk.0.wide.weight": (6, 14), "blk.1.norm.weight": (6,),
              "blk.1.square.weight": (7, 7), "token_embd.weight": (5, 4)}  # sorted, as a ParameterDict is

    def grid(*shape: int) -> np.ndarray:
        return (np.round(rng.standard_normal(shape) * 32) / 32).astype(np.float32)

    start = {name: grid(*shape) for name, shape in shapes.items()}
    given = {name: grid(steps, *shape) for name, shape in shapes.items()}
    given["token_embd.weight"][..., -1] = 0
    schedule_attrs, lrs = schedule(steps, 10, 1e-2)

    def params() -> nn.ParameterDict:
        # no dots in the names of a module's parameters
        return nn.ParameterDict({name.replace(".", "/"): nn.Parameter(torch.from_numpy(x.copy()).to(dtype))
                                 for name, x in start.items()})

    def split(model: nn.ParameterDict, wanted: Callable[[str], bool], decay: float) -> list[dict]:
        some = [p for name, p in model.items() if wanted(name)]
        return [{"params": [p for p in some if p.ndim > 1], "weight_decay": decay},
                {"params": [p for p in some if p.ndim == 1], "weight_decay": 0.0}]

    def run(model: nn.ParameterDict, step: Callable[[float], None], look: Callable[[], Iterable[Tensor]],
            **attrs) -> Tree:
        kept: list[list[Tensor]] = []
        for s in range(steps):
            for name, p in model.items():
                p.grad = torch.from_numpy(given[name.replace("/", ".")][s]).to(dtype, copy=True)
            step(lrs[s])
            if s % 10 == 9:
                kept.append([p.detach().clone() for p in look()])
        return Tree({name: torch.stack(x) for name, x in zip(shapes, zip(*kept, strict=True), strict=True)},
                    clamp_grad=0.0, **attrs)

    def muon(decay: float, ratio: float, scale: str, **attrs) -> Tree:
        model = params()

        def is_block(name: str) -> bool:
            return name.startswith("blk/") and model[name].ndim == 2

        optimizer = MuonAndAdamW(split(model, is_block, decay), split(model, lambda n: not is_block(n), decay), ratio,
                                 adjust_lr_fn=scale, **attrs)

        def step(lr: float) -> None:
            optimizer.set_lr(lr)
            optimizer.step()

        return run(model, step, model.values, weight_decay=decay, adam_lr_ratio=ratio, scale=scale,
                   beta1=0.9, beta2=0.95, eps=1e-8, **attrs)

    def lion(average: Callable[[nn.Module], AveragedModel] | None = None, **attrs) -> Tree:
        model = params()
        optimizer = Lion(split(model, lambda name: True, decay), (0.9, 0.99))
        averaged = average(model) if average else None

        def step(lr: float) -> None:
            set_lr(optimizer, lr)
            optimizer.step()
            if averaged:
                averaged.update_parameters(model)

        return run(model, step, averaged.module.values if averaged else model.values, weight_decay=decay, beta1=0.9,
                   beta2=0.99, **attrs)

    def warm(averaged: Tensor, current: Tensor, n: Tensor) -> Tensor:
        keep = min(0.9, (1 + int(n)) / (10 + int(n)))
        return keep * averaged + (1 - keep) * current

    return Tree({
        "lrs": torch.tensor(lrs, dtype=dtype),
        "initial": Tree({name: torch.from_numpy(x).to(dtype) for name, x in start.items()}),
        "grads": Tree({name: torch.from_numpy(x).to(dtype) for name, x in given.items()}),
        "muon": muon(decay, 0.3, "match_rms_adamw", momentum=0.95, nesterov=True),
        "muon_original": muon(0.0, 1.5, "original", momentum=0.9, nesterov=False),
        "lion": lion(),
        "ema": lion(lambda model: AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(0.97)), decay=0.97),
        "ema_warm": lion(lambda model: AveragedModel(model, avg_fn=warm), decay=0.9),
    }, steps=steps, every=10, **schedule_attrs)


def operators(dtype: torch.dtype) -> Tree:
    rng = np.random.default_rng(40)

    def normal(*shape: int, scale: float = 1.0) -> Tensor:
        return torch.from_numpy(rng.standard_normal(shape, np.float32) * np.float32(scale)).to(dtype).requires_grad_()

    def case(forward: Callable[..., Tensor], inputs: dict[str, Tensor], ints: dict[str, np.ndarray] | None = None,
             **attrs) -> Tree:
        """y = forward(inputs); d<input> for an upstream gradient dy, which is 1 for a scalar y."""
        y = forward(*inputs.values())
        dy = normal(*y.shape).detach() if y.ndim else torch.ones((), dtype=dtype)
        y.backward(dy)
        return Tree(detached(inputs) | (ints or {}) | {"y": y, "dy": dy}
                    | {f"d{name}": t.grad for name, t in inputs.items()}, **attrs)

    def rope_case(rope: Rope, half_split: bool, d: int) -> Tree:
        pos = np.stack([np.arange(19), rng.integers(0, 300, 19)]).astype(np.int32)
        return case(lambda x: llama.rotate(x, torch.from_numpy(pos), rope, half_split), {"x": normal(2, 19, 3, d)},
                    {"pos": pos}, half_split=int(half_split), **asdict(rope))

    def attention_case(b: int, t: int, h: int, kv: int, d: int, scale: float = 1.0) -> Tree:
        q, k, v = normal(b, t, h, d, scale=scale), normal(b, t, kv, d), normal(b, t, kv, d)
        out = case(llama.attention, {"q": q, "k": k, "v": v})
        return Tree(out | {"lse": llama.attention_scores(q, k).logsumexp(-1)}, n_heads=h, n_kv_heads=kv, head_dim=d)

    def entropy_case(smoothing: float, z: float, ignored: float, scale: float = 2.0) -> Tree:
        targets = rng.integers(67, size=23, dtype=np.int32)
        targets[rng.random(23) < ignored] = llama.IGNORE
        flat = torch.from_numpy(targets).long()
        return case(lambda x: llama.cross_entropy(x, flat, smoothing, z), {"logits": normal(23, 67, scale=scale)},
                    {"targets": targets}, label_smoothing=smoothing, z_loss=z)

    tokens = rng.integers(9, size=31, dtype=np.int32)
    eps = 1e-5
    llama3 = Rope(500.0, "llama3", 8.0, 1.0, 4.0, 32)
    return Tree({
        "rmsnorm": case(lambda x, g: llama.rmsnorm(x, g, eps), {"x": normal(13, 37), "weight": normal(37)}, eps=eps),
        "rmsnorm_small": case(lambda x, g: llama.rmsnorm(x, g, eps),
                              {"x": normal(5, 32, scale=1e-3), "weight": normal(32)}, eps=eps),
        "rope_adjacent": rope_case(Rope(), False, 8),
        "rope_half_split": rope_case(Rope(), True, 12),
        "rope_linear": rope_case(Rope(rope_scaling="linear", rope_factor=4.0), False, 8),
        "rope_llama3": rope_case(llama3, False, 12),
        "rope_half_split_llama3": rope_case(replace(llama3, rope_base=1000.0), True, 8),
        "attention": attention_case(2, 19, 4, 2, 8),
        "attention_one_token": attention_case(3, 1, 2, 1, 8),
        "attention_long": attention_case(1, 150, 2, 1, 8),
        "attention_sharp": attention_case(1, 70, 3, 3, 12, scale=40.0),
        "swiglu": case(llama.swiglu, {"gate": normal(11, 29, scale=4.0), "up": normal(11, 29)}),
        "swiglu_large": case(llama.swiglu, {"gate": normal(4, 29, scale=200.0), "up": normal(4, 29)}),
        "linear": case(lambda x, w: x @ w.T, {"x": normal(13, 37), "weight": normal(21, 37)}),
        "embedding": case(lambda w: w[torch.from_numpy(tokens).long()], {"weight": normal(11, 17)}, {"tokens": tokens}),
        "cross_entropy": entropy_case(0, 0, 0),
        "cross_entropy_smoothing": entropy_case(0.1, 0, 0.3),
        "cross_entropy_z_loss": entropy_case(0, 1e-2, 0.3),
        "cross_entropy_all": entropy_case(0.2, 1e-3, 0.3),
        "cross_entropy_large": entropy_case(0, 0, 0.1, scale=200.0),
        "mse": case(lambda x, y: (x - y).square().mean(), {"x": normal(13, 37), "target": normal(13, 37)}),
    })


def sampling(dtype: torch.dtype) -> Tree:
    logits, probs = sampler.results(np.random.default_rng(50), dtype)
    cases = {f"case{i:02}": Tree({"probs": p}, temperature=t, top_k=k, top_p=top_p, min_p=min_p)
             for i, (p, (t, k, top_p, min_p)) in enumerate(zip(probs, sampler.CASES, strict=True))}
    return Tree({"logits": logits} | cases)


GOLDEN: dict[str, Callable[[torch.dtype], Tree]] = {
    "llama_tiny": model_case(Config((4, 4), (4, 4), (80, 80), 32, 8, 64, 24), 2, 10, 0.0),
    "llama_tied": model_case(Config((3, 3), (1, 1), (72, 72), 36, 12, 97, 17, norm_eps=1e-6, tie=True), 3, 11, 2**-10),
    "llama_per_layer": model_case(Config((6, 2, 4), (2, 2, 1), (52, 76, 40), 36, 10, 71, 21), 2, 12, 2**-10),
    "llama_scaled": model_case(Config((4, 4), (2, 2), (80, 72), 32, 8, 83, 23, Rope(500.0, "llama3", 8.0, 1.0, 4.0, 32),
                                      label_smoothing=0.1, z_loss=1e-3), 3, 13, 2**-10, ignored=0.3),
    "gpt2": model_case(Config((4, 4), (4, 4), (48, 40), 32, 8, 31, 17, tie=True, arch="gpt2"), 2, 14, 2**-10),
    "qwen2": model_case(Config((4, 4), (2, 2), (40, 40), 24, 6, 37, 17, Rope(1e6), norm_eps=1e-6, tie=True,
                               arch="qwen2"), 2, 15, 2**-10),
    "qwen3": model_case(Config((3, 3), (1, 1), (32, 40), 24, 10, 37, 15, Rope(500.0, "linear", 2.0), norm_eps=1e-6,
                               arch="qwen3"), 2, 16, 2**-10),
    "curve": curve,
    "optim": optimizers,
    "blocks": blocks,
    "ops": operators,
    "sampler": sampling,
}


def settle(f32: Tree, f64: Tree) -> Tree:
    """f32 results as arrays with their `noise`; what f32 cannot repeat in f64 is a bug of this script."""
    out = Tree(**f32.attrs)
    for name, x in f32.items():
        if isinstance(x, Tree):
            out[name] = settle(x, f64[name])
        elif isinstance(x, Tensor):
            y = f64[name].detach().double()
            out[name] = (x.detach().float().numpy(), float((x.detach().double() - y).abs().max()))
            assert np.isfinite(out[name][0]).all(), name
        else:
            assert x.dtype == np.int32 and (x == f64[name]).all(), name
            out[name] = (x, None)
    return out


def compute(name: str) -> Tree:
    """The golden file's contents: (array, noise) pairs in a Tree."""
    torch.set_num_threads(1)
    return settle(GOLDEN[name](torch.float32), GOLDEN[name](torch.float64))


def provenance() -> dict[str, str]:
    source = b"".join((HERE / name).read_bytes() for name in ("llama.py", "sampler.py", "make_golden.py"))
    return {"torch": torch.__version__, "numpy": np.__version__, "h5py": h5py.__version__,
            "script": "tests/oracle/make_golden.py", "script_sha256": hashlib.sha256(source).hexdigest()}


def plain(value: object) -> object:
    """An attribute as int64, float64 (or an array of them) or a fixed-length string."""
    if isinstance(value, str):
        return np.bytes_(value)
    array = np.asarray(value)
    return array.astype(np.float64 if array.dtype.kind == "f" else np.int64)


def write(group: h5py.Group, tree: Tree) -> None:
    for name, value in tree.attrs.items():
        group.attrs[name] = plain(value)
    for name, x in tree.items():
        if isinstance(x, Tree):
            write(group.create_group(name), x)
            continue
        array, noise = x
        packed = {"compression": "gzip", "compression_opts": 9, "shuffle": True} if array.ndim else {}
        dataset = group.create_dataset(name, data=array, **packed)
        if noise is not None:
            dataset.attrs["noise"] = noise


def main() -> None:
    parser = argparse.ArgumentParser(description="write the golden files")
    parser.add_argument("--folder", type=Path, default=FOLDER)
    parser.add_argument("names", nargs="*", default=list(GOLDEN))
    args = parser.parse_args()
    args.folder.mkdir(parents=True, exist_ok=True)
    for name in args.names:
        path = args.folder / f"{name}.h5"
        tree = compute(name)
        tree.attrs |= provenance()
        with h5py.File(path, "w", libver=("v110", "v110")) as file:
            write(file, tree)
        print(f"{path.name:22} {path.stat().st_size:8} bytes")


if __name__ == "__main__":
    main()
