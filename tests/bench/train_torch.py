"""The peer for training speed: the same llama in PyTorch on the CPU, as fast as PyTorch allows.

Random tokens of fixed shape; a step is forward, mean cross-entropy, backward, clipping by global norm and AdamW. What
was measured against its alternatives in PyTorch 2.13 and kept: SDPA's fused causal attention, RoPE as one complex
product (eager) or on half-split pairs (compiled), a linear each for q, k, v, gate and up, F.cross_entropy, fused AdamW,
and glibc told to keep freed memory (large tensors are otherwise mapped, zeroed and unmapped every step).

Prints one JSON line: tokens_per_s is the median over the steps after the warm-up, first_step_s the time from the start
of this script to the end of the first step (imports and compilation included).
"""

import argparse
import ctypes
import json
import os
import resource
import statistics
import time

START = time.perf_counter()
M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_MAX = -1, -2, -4


SHAPES = {
    "tiny": {"d": 256, "layers": 6, "heads": 4, "kv_heads": 2, "ff": 768, "vocab": 2048, "seq": 256, "batch": 8},
    "small": {"d": 512, "layers": 8, "heads": 8, "kv_heads": 8, "ff": 1536, "vocab": 8192, "seq": 512, "batch": 4},
    "gpt2": {"d": 768, "layers": 12, "heads": 12, "kv_heads": 12, "ff": 3072, "vocab": 50257, "seq": 512, "batch": 4,
             "context": 1024, "arch": "gpt2", "tie": True},
}


def arguments() -> argparse.Namespace:
    p = argparse.ArgumentParser(description="train a llama or a GPT-2 in PyTorch and time it")
    p.add_argument("--shape", choices=SHAPES, default="tiny", help="defaults for what the model looks like")
    p.add_argument("--arch", choices=("llama", "gpt2"), default="llama")
    for name in ("d", "layers", "heads", "kv-heads", "ff", "vocab", "seq", "batch"):
        p.add_argument(f"--{name}", type=int)
    p.add_argument("--context", type=int, help="rows of gpt2's table of positions; default: --seq")
    p.add_argument("--tie", action="store_true", help="one matrix for embedding and head")
    for name, default in (("threads", 2), ("steps", 20), ("warmup", 4)):
        p.add_argument(f"--{name}", type=int, default=default)
    p.add_argument("--compile", action="store_true", help="torch.compile, needs a C++ compiler")
    p.add_argument("--precision", choices=("f32", "bf16"), default="f32", help="bf16: autocast, f32 master weights")
    p.add_argument("--rope", choices=("complex", "half"), help="default: complex, or half with --compile")
    p.set_defaults(**SHAPES[p.parse_known_args()[0].shape])
    a = p.parse_args()
    a.rope = a.rope or ("half" if a.compile else "complex")
    a.context = a.context or a.seq
    return a


ARGS = arguments()
os.environ["OMP_NUM_THREADS"] = str(ARGS.threads)
for option, value in ((M_MMAP_MAX, 0), (M_TRIM_THRESHOLD, 2**31 - 1), (M_TOP_PAD, 64 << 20)):
    ctypes.CDLL(None).mallopt(option, value)

import torch  # noqa: E402  (after the allocator and the thread count are set)
import torch.nn.functional as F  # noqa: E402
from torch import Tensor, nn  # noqa: E402


def rotate(x: Tensor, turn: Tensor) -> Tensor:
    """x [B,T,H,D]; turn [T,1,D/2] complex turns pairs (2i, 2i+1), [2,T,1,D/2] (cos, sin) turns pairs (i, i + D/2)."""
    if turn.is_complex():
        pairs = torch.view_as_complex(x.float().unflatten(-1, (-1, 2)))
        return torch.view_as_real(pairs * turn).flatten(-2).to(x.dtype)
    low, high = x.chunk(2, -1)
    return torch.cat((low * turn[0] - high * turn[1], low * turn[1] + high * turn[0]), -1).to(x.dtype)


class LlamaBlock(nn.Module):
    def __init__(self, d: int, heads: int, kv_heads: int, ff: int) -> None:
        super().__init__()
        self.head_dim = d // heads
        self.attn_norm, self.ffn_norm = nn.RMSNorm(d, 1e-5), nn.RMSNorm(d, 1e-5)
        self.q = nn.Linear(d, d, bias=False)
        self.k, self.v = (nn.Linear(d, kv_heads * self.head_dim, bias=False) for _ in range(2))
        self.attn_output = nn.Linear(d, d, bias=False)
        self.gate, self.up = (nn.Linear(d, ff, bias=False) for _ in range(2))
        self.down = nn.Linear(ff, d, bias=False)

    def forward(self, x: Tensor, turn: Tensor) -> Tensor:
        y = self.attn_norm(x)
        q, k, v = (linear(y).unflatten(-1, (-1, self.head_dim)) for linear in (self.q, self.k, self.v))
        q, k, v = (t.transpose(1, 2) for t in (rotate(q, turn), rotate(k, turn), v))
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=q.shape[1] != k.shape[1])
        x = x + self.attn_output(y.transpose(1, 2).flatten(2))
        y = self.ffn_norm(x)
        return x + self.down(F.silu(self.gate(y)) * self.up(y))


class Gpt2Block(nn.Module):
    def __init__(self, d: int, heads: int, ff: int) -> None:
        super().__init__()
        self.head_dim = d // heads
        self.attn_norm, self.ffn_norm = nn.LayerNorm(d, 1e-5), nn.LayerNorm(d, 1e-5)
        self.qkv, self.attn_output = nn.Linear(d, 3 * d), nn.Linear(d, d)
        self.up, self.down = nn.Linear(d, ff), nn.Linear(ff, d)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (t.unflatten(-1, (-1, self.head_dim)).transpose(1, 2)
                   for t in self.qkv(self.attn_norm(x)).chunk(3, -1))
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.attn_output(y.transpose(1, 2).flatten(2))
        return x + self.down(F.gelu(self.up(self.ffn_norm(x)), approximate="tanh"))


class Model(nn.Module):
    """What both have: embedding, blocks, a last norm, a head and the loss."""

    def __init__(self, a: argparse.Namespace) -> None:
        super().__init__()
        self.embed = nn.Embedding(a.vocab, a.d)
        if a.arch == "llama":
            self.blocks = nn.ModuleList(LlamaBlock(a.d, a.heads, a.kv_heads, a.ff) for _ in range(a.layers))
            self.norm = nn.RMSNorm(a.d, 1e-5)
        else:
            self.positions = nn.Embedding(a.context, a.d)
            self.blocks = nn.ModuleList(Gpt2Block(a.d, a.heads, a.ff) for _ in range(a.layers))
            self.norm = nn.LayerNorm(a.d, 1e-5)
        self.head = nn.Linear(a.d, a.vocab, bias=False)
        if a.tie:
            self.head.weight = self.embed.weight
        for name, p in self.named_parameters():
            if p.ndim > 1:
                nn.init.normal_(p, std=0.02)
            elif name.endswith("bias"):
                nn.init.zeros_(p)
        half = a.d // a.heads // 2
        angle = torch.arange(a.seq)[:, None] * 10000.0 ** (-torch.arange(half) / half)
        cos_sin = torch.stack((angle.cos(), angle.sin()))
        self.register_buffer("turn", (torch.complex(*cos_sin) if a.rope == "complex" else cos_sin).unsqueeze(-2))

    def forward(self, tokens: Tensor, targets: Tensor) -> Tensor:
        x = self.embed(tokens)
        if hasattr(self, "positions"):
            x = x + self.positions.weight[: tokens.shape[1]]
        for block in self.blocks:
            x = block(x, self.turn) if isinstance(block, LlamaBlock) else block(x)
        return F.cross_entropy(self.head(self.norm(x)).flatten(0, 1), targets.flatten())


def main() -> None:
    a = ARGS
    torch.set_num_threads(a.threads)
    torch.manual_seed(1)
    model = Model(a)
    matrices = [p for p in model.parameters() if p.ndim > 1]
    vectors = [p for p in model.parameters() if p.ndim == 1]
    optimizer = torch.optim.AdamW([{"params": matrices, "weight_decay": 0.1}, {"params": vectors, "weight_decay": 0.0}],
                                  lr=1e-3, betas=(0.9, 0.95), fused=True)
    run = torch.compile(model) if a.compile else model
    tokens = torch.randint(a.vocab, (a.warmup + a.steps, a.batch, a.seq + 1))

    times, first_step = [], 0.0
    for step, batch in enumerate(tokens):
        start = time.perf_counter()
        with torch.autocast("cpu", torch.bfloat16, enabled=a.precision == "bf16"):
            loss = run(batch[:, :-1], batch[:, 1:])
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        value = loss.item()
        if step == 0:
            first_step = time.perf_counter() - START
        if step >= a.warmup:
            times.append(time.perf_counter() - start)

    rate = sorted(a.batch * a.seq / t for t in times)
    print(json.dumps({
        "program": "torch", "version": torch.__version__, "mode": "compile" if a.compile else "eager",
        "arch": a.arch, "precision": a.precision, "rope": a.rope, "d": a.d, "layers": a.layers, "heads": a.heads,
        "kv_heads": a.kv_heads, "ff": a.ff, "vocab": a.vocab, "seq": a.seq, "batch": a.batch, "threads": a.threads,
        "tie": a.tie, "params": sum(p.numel() for p in model.parameters()), "steps": a.steps,
        "tokens_per_s": round(statistics.median(rate), 1), "tokens_per_s_min": round(rate[0], 1),
        "tokens_per_s_max": round(rate[-1], 1), "first_step_s": round(first_step, 2),
        "peak_rss_mib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1), "loss": round(value, 4)}))


if __name__ == "__main__":
    main()
