"""The architectures in plain PyTorch, under GGUF's conventions: the reference for the engine.

Tensor names and row order are GGUF's, RoPE turns adjacent pairs (2i, 2i+1) in llama, (i, i+D/2) in qwen2 and qwen3.
Shapes: B batch, T tokens, C width, H query heads, Hkv key/value heads, D head width, F ffn width, V vocabulary. Run as
a script, it asserts that it agrees with PyTorch's own operators and with transformers' models, gradients included.

Sources: RMSNorm arXiv:1910.07467, LayerNorm arXiv:1607.06450, GELU arXiv:1606.08415, RoPE arXiv:2104.09864, SwiGLU arXiv:2002.05202, GQA arXiv:2305.13245, label smoothing
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
    arch: str = "llama"

    @property
    def n_layers(self) -> int:
        return len(self.n_heads)

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Every parameter's GGUF name and shape, in file order."""
        c, v, gpt2 = self.d_model, self.vocab, self.arch == "gpt2"
        out: dict[str, tuple[int, ...]] = {"token_embd.weight": (v, c)}
        if gpt2:
            out["position_embd.weight"] = (self.context, c)

        def add(name: str, shape: tuple[int, ...], bias: bool) -> None:
            out[f"{name}.weight"] = shape
            if bias:
                out[f"{name}.bias"] = shape[:1]

        for i in range(self.n_layers):
            q, kv, f = self.n_heads[i] * self.head_dim, self.n_kv_heads[i] * self.head_dim, self.d_ff[i]
            add(f"blk.{i}.attn_norm", (c,), gpt2)
            if gpt2:
                add(f"blk.{i}.attn_qkv", (q + 2 * kv, c), True)
            else:
                for name, rows in (("q", q), ("k", kv), ("v", kv)):
                    add(f"blk.{i}.attn_{name}", (rows, c), self.arch == "qwen2")
            if self.arch == "qwen3":
                for name in "qk":
                    add(f"blk.{i}.attn_{name}_norm", (self.head_dim,), False)
            add(f"blk.{i}.attn_output", (c, q), gpt2)
            add(f"blk.{i}.ffn_norm", (c,), gpt2)
            if not gpt2:
                add(f"blk.{i}.ffn_gate", (f, c), False)
            add(f"blk.{i}.ffn_up", (f, c), gpt2)
            add(f"blk.{i}.ffn_down", (c, f), gpt2)
        add("output_norm", (c,), gpt2)
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


def layernorm(x: Tensor, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
    away = x - x.mean(-1, keepdim=True)
    return away * torch.rsqrt(away.square().mean(-1, keepdim=True) + eps) * weight + bias


def gelu(x: Tensor) -> Tensor:
    return x * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))) / 2


def hidden(cfg: Config, w: dict[str, Tensor], tokens: Tensor) -> Tensor:
    """tokens [B,T] at positions 0..T-1 -> [B*T,C], after output_norm."""
    b, t = tokens.shape
    pos = torch.arange(t).expand(b, t)
    half_split = cfg.arch in ("qwen2", "qwen3")

    def norm(x: Tensor, name: str) -> Tensor:
        if cfg.arch == "gpt2":
            return layernorm(x, w[f"{name}.weight"], w[f"{name}.bias"], cfg.norm_eps)
        return rmsnorm(x, w[f"{name}.weight"], cfg.norm_eps)

    def linear(x: Tensor, name: str) -> Tensor:
        y = x @ w[f"{name}.weight"].T
        return y + w[f"{name}.bias"] if f"{name}.bias" in w else y

    x = w["token_embd.weight"][tokens]
    if cfg.arch == "gpt2":
        x = x + w["position_embd.weight"][pos]
    for i in range(cfg.n_layers):
        blk, kv = f"blk.{i}.", cfg.n_kv_heads[i] * cfg.head_dim
        y = norm(x, blk + "attn_norm")
        if cfg.arch == "gpt2":
            parts = linear(y, blk + "attn_qkv").split([cfg.n_heads[i] * cfg.head_dim, kv, kv], -1)
        else:
            parts = [linear(y, blk + f"attn_{name}") for name in "qkv"]
        q, k, v = (p.unflatten(-1, (-1, cfg.head_dim)) for p in parts)
        if cfg.arch == "qwen3":
            q, k = norm(q, blk + "attn_q_norm"), norm(k, blk + "attn_k_norm")
        if cfg.arch != "gpt2":
            q, k = rotate(q, pos, cfg.rope, half_split), rotate(k, pos, cfg.rope, half_split)
        x = x + linear(attention(q, k, v).flatten(2), blk + "attn_output")
        y = norm(x, blk + "ffn_norm")
        up = linear(y, blk + "ffn_up")
        x = x + linear(gelu(up) if cfg.arch == "gpt2" else swiglu(linear(y, blk + "ffn_gate"), up), blk + "ffn_down")
    return norm(x, "output_norm").flatten(0, 1)


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


LLAMA_NAMES = {"attn_norm": "input_layernorm", "attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj",
               "attn_v": "self_attn.v_proj", "attn_output": "self_attn.o_proj", "ffn_norm": "post_attention_layernorm",
               "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj", "ffn_down": "mlp.down_proj",
               "attn_q_norm": "self_attn.q_norm", "attn_k_norm": "self_attn.k_norm", "token_embd": "model.embed_tokens",
               "output_norm": "model.norm", "output": "lm_head"}
GPT2_NAMES = {"attn_norm": "ln_1", "attn_qkv": "attn.c_attn", "attn_output": "attn.c_proj", "ffn_norm": "ln_2",
              "ffn_up": "mlp.c_fc", "ffn_down": "mlp.c_proj", "token_embd": "transformer.wte",
              "position_embd": "transformer.wpe", "output_norm": "transformer.ln_f", "output": "lm_head"}


def their_name(cfg: Config, name: str) -> str:
    """What transformers calls a tensor of GGUF's name."""
    names, layers = (GPT2_NAMES, "transformer.h") if cfg.arch == "gpt2" else (LLAMA_NAMES, "model.layers")
    if not name.startswith("blk."):
        stem, what = name.split(".")
        return f"{names[stem]}.{what}"
    _, i, stem, what = name.split(".")
    return f"{layers}.{i}.{names[stem]}.{what}"


def their_layout(cfg: Config, name: str, x: Tensor) -> Tensor:
    """A tensor, or its gradient, as transformers lays it out: llama's q and k half-split, gpt2's matrices [in,out]."""
    stem = name.split(".")[-2]
    if cfg.arch == "llama" and stem in ("attn_q", "attn_k"):
        return half_split_rows(x, cfg.head_dim)
    return x.T if cfg.arch == "gpt2" and name.startswith("blk.") and x.ndim == 2 else x


def to_transformers(cfg: Config, w: dict[str, Tensor]) -> torch.nn.Module:
    """The same model by transformers; layers with sizes of their own are built from configs of their own."""
    import transformers
    from transformers.models.llama.modeling_llama import LlamaDecoderLayer
    from transformers.models.qwen2.modeling_qwen2 import Qwen2DecoderLayer
    from transformers.models.qwen3.modeling_qwen3 import Qwen3DecoderLayer

    r = cfg.rope
    rope: dict = {"rope_type": {"none": "default"}.get(r.rope_scaling, r.rope_scaling), "rope_theta": r.rope_base}
    if r.rope_scaling != "none":
        rope["factor"] = r.rope_factor
    if r.rope_scaling == "llama3":
        rope |= {"low_freq_factor": r.rope_low_freq_factor, "high_freq_factor": r.rope_high_freq_factor,
                 "original_max_position_embeddings": r.rope_original_context}
    model_of, config_of, layer_of = {
        "llama": (transformers.LlamaForCausalLM, transformers.LlamaConfig, LlamaDecoderLayer),
        "qwen2": (transformers.Qwen2ForCausalLM, transformers.Qwen2Config, Qwen2DecoderLayer),
        "qwen3": (transformers.Qwen3ForCausalLM, transformers.Qwen3Config, Qwen3DecoderLayer),
        "gpt2": (transformers.GPT2LMHeadModel, transformers.GPT2Config, None)}[cfg.arch]

    def config(layer: int) -> transformers.PreTrainedConfig:
        if cfg.arch == "gpt2":
            return config_of(
                vocab_size=cfg.vocab, n_positions=cfg.context, n_embd=cfg.d_model, n_layer=cfg.n_layers,
                n_head=cfg.n_heads[layer], n_inner=cfg.d_ff[layer], activation_function="gelu_new", resid_pdrop=0.0,
                embd_pdrop=0.0, attn_pdrop=0.0, layer_norm_epsilon=cfg.norm_eps, tie_word_embeddings=cfg.tie,
                attn_implementation="eager")
        return config_of(
            vocab_size=cfg.vocab, hidden_size=cfg.d_model, intermediate_size=cfg.d_ff[layer],
            num_hidden_layers=cfg.n_layers, num_attention_heads=cfg.n_heads[layer],
            num_key_value_heads=cfg.n_kv_heads[layer], head_dim=cfg.head_dim, max_position_embeddings=cfg.context,
            rms_norm_eps=cfg.norm_eps, tie_word_embeddings=cfg.tie, rope_parameters=rope, attn_implementation="eager")

    model = model_of(config(0))
    for i in range(cfg.n_layers if layer_of else 0):
        model.model.layers[i] = layer_of(config(i), i)
    state = {their_name(cfg, name): their_layout(cfg, name, t) for name, t in w.items()}
    if cfg.tie:
        state["lm_head.weight"] = w["token_embd.weight"]
    model.load_state_dict(state)
    return model


def distance(ours: Tensor, theirs: Tensor) -> float:
    return float((ours - theirs).detach().norm() / theirs.detach().norm())


def check_model(cfg: Config) -> None:
    """Logits and every gradient equal transformers' within f32 rounding: 1e-5 of the norm."""
    gen = torch.Generator().manual_seed(1)
    w = {name: torch.randn(shape, generator=gen) * shape[-1] ** -0.5 if len(shape) > 1
         else name.endswith(".weight") + 0.2 * torch.randn(shape, generator=gen) for name, shape in cfg.shapes().items()}
    w = {name: t.requires_grad_() for name, t in w.items()}
    model = to_transformers(cfg, {name: t.detach() for name, t in w.items()})
    tokens = torch.randint(cfg.vocab, (2, cfg.context), generator=gen)
    targets = torch.randint(cfg.vocab, (2 * cfg.context,), generator=gen)
    targets[::5] = IGNORE

    ours, theirs = head(w, hidden(cfg, w, tokens)), model(tokens).logits.flatten(0, 1)
    assert distance(ours, theirs) < 1e-5, (cfg, distance(ours, theirs))
    cross_entropy(ours, targets, 0.1, 1e-3).backward()
    z = theirs[targets != IGNORE].logsumexp(-1).square().mean()
    (F.cross_entropy(theirs, targets, ignore_index=IGNORE, label_smoothing=0.1) + 1e-3 * z).backward()
    theirs_grad = {name: p.grad for name, p in model.named_parameters()}
    assert len(theirs_grad) == len(w)
    for name, t in w.items():
        off = distance(their_layout(cfg, name, t.grad), theirs_grad[their_name(cfg, name)])
        assert off < 1e-5, (cfg, name, off)


def check_ops() -> None:
    """The operators written out above equal PyTorch's own."""
    gen = torch.Generator().manual_seed(2)
    q, k, v = (torch.randn(2, 19, h, 8, generator=gen) for h in (4, 2, 2))
    sdpa = F.scaled_dot_product_attention(*(t.transpose(1, 2) for t in (q, k, v)), is_causal=True, enable_gqa=True)
    torch.testing.assert_close(attention(q, k, v), sdpa.transpose(1, 2), atol=1e-5, rtol=1e-5)
    x, weight = torch.randn(5, 33, generator=gen), torch.randn(33, generator=gen)
    torch.testing.assert_close(rmsnorm(x, weight, 1e-5), F.rms_norm(x, (33,), weight, 1e-5))
    torch.testing.assert_close(swiglu(x, weight), F.silu(x) * weight)
    torch.testing.assert_close(gelu(x), F.gelu(x, approximate="tanh"))
    torch.testing.assert_close(layernorm(x, weight, x[0], 1e-5), F.layer_norm(x, (33,), weight, x[0], 1e-5))


CHECKED = {
    "plain": Config((4, 4), (4, 4), (80, 80), 32, 8, 64, 24),
    "tied": Config((3, 3, 3), (1, 1, 1), (72, 72, 72), 36, 12, 97, 20, tie=True, norm_eps=1e-6),
    "per-layer": Config((6, 2, 4), (2, 2, 1), (64, 100, 56), 48, 10, 71, 21),
    "linear": Config((4, 4), (2, 2), (80, 80), 32, 8, 64, 24, Rope(rope_scaling="linear", rope_factor=4.0)),
    "llama3": Config((4, 4), (2, 2), (80, 80), 32, 8, 64, 48, Rope(500.0, "llama3", 8.0, 1.0, 4.0, 32)),
    "gpt2": Config((4, 4), (4, 4), (72, 72), 32, 8, 64, 24, tie=True, arch="gpt2"),
    "gpt2, untied": Config((3,), (3,), (40,), 27, 9, 50, 19, arch="gpt2"),
    "qwen2": Config((4, 4), (2, 2), (80, 80), 32, 8, 64, 24, Rope(1e6), norm_eps=1e-6, tie=True, arch="qwen2"),
    "qwen3": Config((4, 4), (2, 2), (80, 80), 32, 12, 64, 24, Rope(1e6), norm_eps=1e-6, arch="qwen3"),
    "qwen3, tied": Config((2, 2), (2, 2), (48, 48), 32, 8, 64, 24, norm_eps=1e-6, tie=True, arch="qwen3"),
}


def validate() -> None:
    check_ops()
    for cfg in CHECKED.values():
        check_model(cfg)


def attributes(cfg: Config) -> dict:
    """The configuration as flat attributes; without arch: llama."""
    flat = asdict(cfg)
    if cfg.arch == "llama":
        del flat["arch"]
    return {"n_layers": cfg.n_layers} | flat.pop("rope") | flat


if __name__ == "__main__":
    validate()
    print(f"llama.py agrees with PyTorch's operators and with transformers ({', '.join(CHECKED)})")
