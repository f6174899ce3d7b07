"""The `llama` architecture in plain PyTorch, under GGUF's conventions: the reference for the engine.

Tensor names and row order are GGUF's, RoPE turns adjacent pairs (2i, 2i+1). Shapes: B batch, T tokens, C width, H query
heads, Hkv key/value heads, D head width, F ffn width, V vocabulary. Run as a script, it asserts that it agrees with
PyTorch's own operators and with transformers' LlamaForCausalLM, gradients included.

Sources: RMSNorm arXiv:1910.07467, RoPE arXiv:2104.09864, SwiGLU arXiv:2002.05202, GQA arXiv:2305.13245, label smoothing
arXiv:1512.00567, z-loss arXiv:2204.02311 (section 5), llama3 scaling: transformers' modeling_rope_utils.py.
"""

import math
from dataclasses import asdict, dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

IGNORE = -1


@dataclass(frozen=True)
class Rope:
    """Rotary embedding; `scaling` is none, linear (angles / factor) or llama3 (by wavelength)."""

    rope_base: float = 10000.0
    rope_scaling: str = "none"
    rope_factor: float = 1.0
    rope_low_freq_factor: float = 1.0
    rope_high_freq_factor: float = 4.0
    rope_original_context: int = 8192

    def factors(self, d: int) -> Tensor:
        """[D/2] what each frequency is divided by; GGUF's rope_freqs.weight when scaling is llama3."""
        ones = torch.ones(d // 2, dtype=torch.float64)
        if self.rope_scaling == "none":
            return ones
        if self.rope_scaling == "linear":
            return ones * self.rope_factor
        assert self.rope_scaling == "llama3"
        low, high = self.rope_low_freq_factor, self.rope_high_freq_factor
        turns = self.rope_original_context * self.frequencies(d) / (2 * math.pi)
        keep = ((turns - low) / (high - low)).clamp(0, 1)
        return 1 / (keep + (1 - keep) / self.rope_factor)

    def frequencies(self, d: int) -> Tensor:
        """[D/2] radians per position, before scaling."""
        return self.rope_base ** (-torch.arange(0, d, 2, dtype=torch.float64) / d)

    def cos_sin(self, pos: Tensor, d: int) -> tuple[Tensor, Tensor]:
        """pos [...] -> cos, sin [..., D/2], computed in f64."""
        angle = pos[..., None].double() * (self.frequencies(d) / self.factors(d))
        return angle.cos(), angle.sin()


@dataclass(frozen=True)
class Config:
    n_heads: tuple[int, ...]
    n_kv_heads: tuple[int, ...]
    d_ff: tuple[int, ...]
    d_model: int
    head_dim: int
    vocab: int
    context: int
    rope: Rope = Rope()
    norm_eps: float = 1e-5
    tie: bool = False
    label_smoothing: float = 0.0
    z_loss: float = 0.0

    @property
    def n_layers(self) -> int:
        return len(self.n_heads)

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Every parameter's GGUF name and shape, in file order."""
        c, v = self.d_model, self.vocab
        out: dict[str, tuple[int, ...]] = {"token_embd.weight": (v, c)}
        for i in range(self.n_layers):
            q, kv, f = self.n_heads[i] * self.head_dim, self.n_kv_heads[i] * self.head_dim, self.d_ff[i]
            layer = {"attn_norm": (c,), "attn_q": (q, c), "attn_k": (kv, c), "attn_v": (kv, c),
                     "attn_output": (c, q), "ffn_norm": (c,), "ffn_gate": (f, c), "ffn_up": (f, c), "ffn_down": (c, f)}
            out |= {f"blk.{i}.{name}.weight": shape for name, shape in layer.items()}
        out["output_norm.weight"] = (c,)
        if not self.tie:
            out["output.weight"] = (v, c)
        return out


def rmsnorm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + eps) * weight


def rotate(x: Tensor, pos: Tensor, rope: Rope, half_split: bool = False) -> Tensor:
    """x [B,T,H,D], pos [B,T]: turns pairs (2i, 2i+1), or (i, i + D/2) if half_split."""
    d = x.shape[-1]
    cos, sin = (t[:, :, None].to(x.dtype) for t in rope.cos_sin(pos, d))
    if half_split:
        a, b = x[..., : d // 2], x[..., d // 2 :]
        return torch.cat((a * cos - b * sin, a * sin + b * cos), -1)
    a, b = x[..., 0::2], x[..., 1::2]
    return torch.stack((a * cos - b * sin, a * sin + b * cos), -1).flatten(-2)


def attention_scores(q: Tensor, k: Tensor) -> Tensor:
    """q [B,T,H,D], k [B,T,Hkv,D] -> [B,H,T,T] scaled, causally masked; query head h reads kv head h / (H/Hkv)."""
    t, h, d = q.shape[1:]
    k = k.repeat_interleave(h // k.shape[2], 2)
    scores = torch.einsum("bthd,bshd->bhts", q, k) / math.sqrt(d)
    return scores.masked_fill(torch.ones(t, t, dtype=torch.bool).triu(1), -math.inf)


def attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """q [B,T,H,D], k, v [B,T,Hkv,D] -> [B,T,H,D]."""
    v = v.repeat_interleave(q.shape[2] // v.shape[2], 2)
    return torch.einsum("bhts,bshd->bthd", attention_scores(q, k).softmax(-1), v)


def swiglu(gate: Tensor, up: Tensor) -> Tensor:
    return gate * torch.sigmoid(gate) * up


def hidden(cfg: Config, w: dict[str, Tensor], tokens: Tensor) -> Tensor:
    """tokens [B,T] at positions 0..T-1 -> [B*T,C], after output_norm."""
    b, t = tokens.shape
    pos = torch.arange(t).expand(b, t)
    x = w["token_embd.weight"][tokens]
    for i in range(cfg.n_layers):
        p = {name: w[f"blk.{i}.{name}.weight"] for name in
             ("attn_norm", "attn_q", "attn_k", "attn_v", "attn_output", "ffn_norm", "ffn_gate", "ffn_up", "ffn_down")}
        y = rmsnorm(x, p["attn_norm"], cfg.norm_eps)
        q, k, v = ((y @ p[name].T).view(b, t, -1, cfg.head_dim) for name in ("attn_q", "attn_k", "attn_v"))
        y = attention(rotate(q, pos, cfg.rope), rotate(k, pos, cfg.rope), v)
        x = x + y.flatten(2) @ p["attn_output"].T
        y = rmsnorm(x, p["ffn_norm"], cfg.norm_eps)
        x = x + swiglu(y @ p["ffn_gate"].T, y @ p["ffn_up"].T) @ p["ffn_down"].T
    return rmsnorm(x, w["output_norm.weight"], cfg.norm_eps).flatten(0, 1)


def head(w: dict[str, Tensor], h: Tensor) -> Tensor:
    """h [N,C] -> logits [N,V]."""
    return h @ w.get("output.weight", w["token_embd.weight"]).T


def cross_entropy(logits: Tensor, targets: Tensor, smoothing: float = 0.0, z_loss: float = 0.0) -> Tensor:
    """logits [N,V], targets [N] (-1 ignored) -> sum over the others of
    (1-s)*(-log p[target]) + s*mean_V(-log p) + z*logsumexp(logits)^2, divided by their number."""
    kept = targets != IGNORE
    lse = logits.logsumexp(-1)
    nll = lse - logits.gather(-1, targets.clamp(min=0)[:, None]).squeeze(-1)
    rows = (1 - smoothing) * nll + smoothing * (lse - logits.mean(-1)) + z_loss * lse.square()
    return rows[kept].sum() / kept.sum()


def loss(cfg: Config, w: dict[str, Tensor], tokens: Tensor, targets: Tensor) -> Tensor:
    return cross_entropy(head(w, hidden(cfg, w, tokens)), targets.flatten(), cfg.label_smoothing, cfg.z_loss)


def half_split_rows(weight: Tensor, d: int) -> Tensor:
    """Rows of q or k [H*D,C] from adjacent-pair (GGUF llama) to half-split (transformers) order."""
    return weight.view(-1, d // 2, 2, weight.shape[-1]).transpose(1, 2).reshape(weight.shape)


def to_transformers(cfg: Config, w: dict[str, Tensor]) -> torch.nn.Module:
    """The same model as LlamaForCausalLM; layers with sizes of their own are built from configs of their own."""
    from transformers import LlamaConfig, LlamaForCausalLM
    from transformers.models.llama.modeling_llama import LlamaDecoderLayer

    r = cfg.rope
    rope: dict = {"rope_type": {"none": "default"}.get(r.rope_scaling, r.rope_scaling), "rope_theta": r.rope_base}
    if r.rope_scaling != "none":
        rope["factor"] = r.rope_factor
    if r.rope_scaling == "llama3":
        rope |= {"low_freq_factor": r.rope_low_freq_factor, "high_freq_factor": r.rope_high_freq_factor,
                 "original_max_position_embeddings": r.rope_original_context}

    def config(layer: int) -> LlamaConfig:
        return LlamaConfig(
            vocab_size=cfg.vocab, hidden_size=cfg.d_model, intermediate_size=cfg.d_ff[layer],
            num_hidden_layers=cfg.n_layers, num_attention_heads=cfg.n_heads[layer],
            num_key_value_heads=cfg.n_kv_heads[layer], head_dim=cfg.head_dim, max_position_embeddings=cfg.context,
            rms_norm_eps=cfg.norm_eps, tie_word_embeddings=cfg.tie, rope_parameters=rope, attn_implementation="eager")

    model = LlamaForCausalLM(config(0))
    for i in range(cfg.n_layers):
        model.model.layers[i] = LlamaDecoderLayer(config(i), i)
    parts = {"attn_norm": "input_layernorm", "attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj",
             "attn_v": "self_attn.v_proj", "attn_output": "self_attn.o_proj", "ffn_norm": "post_attention_layernorm",
             "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj", "ffn_down": "mlp.down_proj"}
    model.load_state_dict(
        {"model.embed_tokens.weight": w["token_embd.weight"], "model.norm.weight": w["output_norm.weight"],
         "lm_head.weight": w.get("output.weight", w["token_embd.weight"])}
        | {f"model.layers.{i}.{theirs}.weight": half_split_rows(t, cfg.head_dim) if ours in ("attn_q", "attn_k") else t
           for i in range(cfg.n_layers) for ours, theirs in parts.items()
           for t in [w[f"blk.{i}.{ours}.weight"]]})
    return model


def check_model(cfg: Config) -> None:
    """Logits and two gradients equal transformers' within f32 rounding."""
    gen = torch.Generator().manual_seed(1)
    w = {name: torch.randn(shape, generator=gen) * shape[-1] ** -0.5 if len(shape) > 1
         else 1 + 0.2 * torch.randn(shape, generator=gen) for name, shape in cfg.shapes().items()}
    w = {name: t.requires_grad_() for name, t in w.items()}
    model = to_transformers(cfg, {name: t.detach() for name, t in w.items()})
    tokens = torch.randint(cfg.vocab, (2, cfg.context), generator=gen)
    targets = torch.randint(cfg.vocab, (2 * cfg.context,), generator=gen)
    targets[::5] = IGNORE

    ours, theirs = head(w, hidden(cfg, w, tokens)), model(tokens).logits.flatten(0, 1)
    torch.testing.assert_close(ours, theirs, atol=2e-5, rtol=2e-5)
    cross_entropy(ours, targets, 0.1, 1e-3).backward()
    z = theirs[targets != IGNORE].logsumexp(-1).square().mean()
    (F.cross_entropy(theirs, targets, ignore_index=IGNORE, label_smoothing=0.1) + 1e-3 * z).backward()
    theirs_grad = {
        "token_embd.weight": model.model.embed_tokens.weight.grad,
        "blk.0.attn_norm.weight": model.model.layers[0].input_layernorm.weight.grad,
        "blk.1.ffn_down.weight": model.model.layers[1].mlp.down_proj.weight.grad,
    }
    for i, layer in enumerate(model.model.layers):
        k = w[f"blk.{i}.attn_k.weight"].grad
        torch.testing.assert_close(half_split_rows(k, cfg.head_dim), layer.self_attn.k_proj.weight.grad,
                                   atol=1e-5, rtol=1e-4)
    for name, grad in theirs_grad.items():
        torch.testing.assert_close(w[name].grad, grad, atol=1e-5, rtol=1e-4)


def check_ops() -> None:
    """The operators written out above equal PyTorch's own."""
    gen = torch.Generator().manual_seed(2)
    q, k, v = (torch.randn(2, 19, h, 8, generator=gen) for h in (4, 2, 2))
    sdpa = F.scaled_dot_product_attention(*(t.transpose(1, 2) for t in (q, k, v)), is_causal=True, enable_gqa=True)
    torch.testing.assert_close(attention(q, k, v), sdpa.transpose(1, 2), atol=1e-5, rtol=1e-5)
    x, weight = torch.randn(5, 33, generator=gen), torch.randn(33, generator=gen)
    torch.testing.assert_close(rmsnorm(x, weight, 1e-5), F.rms_norm(x, (33,), weight, 1e-5))
    torch.testing.assert_close(swiglu(x, weight), F.silu(x) * weight)


CHECKED = {
    "plain": Config((4, 4), (4, 4), (80, 80), 32, 8, 64, 24),
    "tied": Config((3, 3, 3), (1, 1, 1), (72, 72, 72), 36, 12, 97, 20, tie=True, norm_eps=1e-6),
    "per-layer": Config((6, 2, 4), (2, 2, 1), (64, 100, 56), 48, 10, 71, 21),
    "linear": Config((4, 4), (2, 2), (80, 80), 32, 8, 64, 24, Rope(rope_scaling="linear", rope_factor=4.0)),
    "llama3": Config((4, 4), (2, 2), (80, 80), 32, 8, 64, 48, Rope(500.0, "llama3", 8.0, 1.0, 4.0, 32)),
}


def validate() -> None:
    check_ops()
    for cfg in CHECKED.values():
        check_model(cfg)


def attributes(cfg: Config) -> dict:
    """The configuration as flat attributes."""
    flat = asdict(cfg)
    return {"n_layers": cfg.n_layers} | flat.pop("rope") | flat


if __name__ == "__main__":
    validate()
    print(f"llama.py agrees with PyTorch's operators and with transformers ({', '.join(CHECKED)})")
