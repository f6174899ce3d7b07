"""The second peer for bench_gemm --precision bf16: the oneDNN that PyTorch brings, newer than a distribution's.

  bench_linear.py [--shape tiny|small|gpt2 | --d N --ff N --vocab N] [--tokens N --threads N --seconds S]

The products, the rules and the line of JSON are gemm_shapes.h's; the faster of plain layouts and, for a weight in
forward, PyTorch's packed one. A weight's gradient is bf16 here: PyTorch's matrix products on the CPU have the dtype of
what goes in.
"""

import argparse
import json
import math
import os
import time
from collections.abc import Callable

MODELS = {"tiny": {"d": 256, "ff": 768, "vocab": 2048}, "small": {"d": 512, "ff": 1536, "vocab": 8192},
          "gpt2": {"d": 768, "ff": 3072, "vocab": 50258}}
# name, and what of a linear `out` x `in` is computed
SHAPES = [("attn_forward", "d", "d"), ("ffn_up_forward", "ff", "d"), ("ffn_down_forward", "d", "ff"),
          ("head_forward", "vocab", "d"), ("ffn_up_dx", "ff", "d"), ("ffn_up_dw", "ff", "d"),
          ("ffn_down_dx", "d", "ff"), ("ffn_down_dw", "d", "ff"), ("head_dx", "vocab", "d"), ("head_dw", "vocab", "d")]


def arguments() -> argparse.Namespace:
    p = argparse.ArgumentParser(description="time PyTorch's bf16 matrix products")
    p.add_argument("--shape", choices=MODELS, default="tiny")
    for name, default in (("d", None), ("ff", None), ("vocab", None), ("tokens", 2048), ("threads", 2)):
        p.add_argument(f"--{name}", type=int, default=default)
    p.add_argument("--seconds", type=float, default=0.2)
    p.set_defaults(**MODELS[p.parse_known_args()[0].shape])
    return p.parse_args()


ARGS = arguments()
os.environ["OMP_NUM_THREADS"] = str(ARGS.threads)

import torch  # noqa: E402  (after the thread count is set)
import torch.nn.functional as F  # noqa: E402
from torch import Tensor  # noqa: E402


def matrix(rows: int, cols: int) -> Tensor:
    return ((torch.arange(rows * cols) % 17 - 8) / 8).view(rows, cols).bfloat16()


def best_run(run: Callable[[], Tensor], seconds: float) -> float:
    """Seconds of the best run, after one that is not counted."""
    run()
    best, end = math.inf, time.perf_counter() + seconds
    while (start := time.perf_counter()) < end:
        run()
        best = min(best, time.perf_counter() - start)
    return best


def ways(name: str, outs: int, ins: int, tokens: int) -> list[Callable[[], Tensor]]:
    """The product in every way that PyTorch has; `w` is the weight, `x` its input, `dy` its output's gradient."""
    if name.endswith("forward"):
        x, w = matrix(tokens, ins), matrix(outs, ins)
        packed = torch.ops.mkldnn._reorder_linear_weight(w, tokens)
        return [lambda: F.linear(x, w),
                lambda: torch.ops.mkldnn._linear_pointwise(x, packed, None, "none", [], "")]
    dy = matrix(tokens, outs)
    if name.endswith("dx"):
        w = matrix(outs, ins)
        turned = torch.ops.mkldnn._reorder_linear_weight(w.t().contiguous(), tokens)
        return [lambda: dy @ w, lambda: torch.ops.mkldnn._linear_pointwise(dy, turned, None, "none", [], "")]
    x = matrix(tokens, ins)
    return [lambda: dy.t() @ x, lambda: (x.t() @ dy).t()]


def main() -> None:
    a = ARGS
    torch.set_num_threads(a.threads)
    sizes = {"tokens": a.tokens, "d": a.d, "ff": a.ff, "vocab": a.vocab, "threads": a.threads}
    version = next(word for line in torch.__config__.show().splitlines() if "MKL-DNN" in line
                   for word in line.split() if word.startswith("v"))
    record: dict[str, object] = {"gemm": f"oneDNN {version[1:]} in PyTorch {torch.__version__}", "precision": "bf16", **sizes}
    work = spent = 0.0
    with torch.no_grad():
        for name, outs, ins in SHAPES:
            results = ways(name, sizes[outs], sizes[ins], a.tokens)
            if not torch.allclose(results[0](), results[1](), rtol=2**-7):
                raise SystemExit(f"{name}: the ways differ")
            best = min(best_run(way, a.seconds) for way in results)
            flops = 2.0 * a.tokens * sizes[outs] * sizes[ins]
            record[name] = round(1e-9 * flops / best, 1)
            work, spent = work + flops, spent + best
    print(json.dumps(record | {"gflops": round(1e-9 * work / spent, 1)}))


if __name__ == "__main__":
    main()
