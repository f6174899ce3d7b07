"""Sampling filters: what transformers' logits warpers leave, applied in llama.cpp's order.

The order is top-k, top-p, min-p, temperature. Top-k 0, top-p 1 and min-p 0 are off. Top-p keeps the fewest tokens, most
likely first, whose probabilities (after top-k) reach p; min-p those with at least min_p times the largest probability.
"""

import numpy as np
import torch
from torch import Tensor

# temperature, top_k, top_p, min_p
CASES = ((1.0, 0, 1.0, 0.0), (0.7, 0, 1.0, 0.0), (1.0, 5, 1.0, 0.0), (1.0, 1, 1.0, 0.0), (1.0, 0, 0.9, 0.0),
         (1.0, 0, 1e-6, 0.0), (1.0, 0, 1.0, 0.1), (1.0, 0, 1.0, 1.0), (0.8, 40, 0.95, 0.05), (1.5, 10, 0.8, 0.02),
         (0.2, 200, 0.5, 0.0))


def filtered(logits: Tensor, temperature: float, top_k: int, top_p: float, min_p: float) -> Tensor:
    """logits [N,V] -> probabilities [N,V], 0 where filtered out."""
    from transformers import MinPLogitsWarper, TemperatureLogitsWarper, TopKLogitsWarper, TopPLogitsWarper

    chain = [TopKLogitsWarper(top_k)] if top_k else []
    chain += [TopPLogitsWarper(top_p)] if top_p < 1 else []
    chain += [MinPLogitsWarper(min_p)] if min_p else []
    for warper in (*chain, TemperatureLogitsWarper(temperature)):
        logits = warper(None, logits)
    return logits.softmax(-1)


def results(rng: np.random.Generator, dtype: torch.dtype) -> tuple[Tensor, list[Tensor]]:
    """Logits [6,61], from flat to peaked rows, and the probabilities of each case."""
    scale = np.array([0.1, 0.5, 1, 2, 5, 30], np.float32)[:, None]
    logits = torch.from_numpy(rng.standard_normal((6, 61), np.float32) * scale).to(dtype)
    return logits, [filtered(logits, *case) for case in CASES]
