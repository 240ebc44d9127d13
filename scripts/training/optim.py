"""Optimisers and learning rates: Muon for matrices of transformer blocks, AdamW for all other parameters.

Muon orthogonalises the updates; a small transformer reaches the same loss in clearly fewer steps. Embeddings, vectors
and projections use AdamW. Learning rates rise linearly in the first steps, then fall by a half cosine of progress.
"""

import math
from collections.abc import Iterable

import torch
from torch import Tensor, nn


class Optimiser:
    """Muon and AdamW behind one interface.

    Args:
        named: names and parameters; those without gradients are left out.
        rate: AdamW's learning rate; Muon's is `muon` times that, since its updates are scaled to AdamW's.
        decay: weight decay of matrices.
        muon: factor of Muon's rate; 0: AdamW for all.
    """

    def __init__(self, named: Iterable[tuple[str, nn.Parameter]], rate: float, decay: float, muon: float = 1.0) -> None:
        named = [(name, p) for name, p in named if p.requires_grad]
        blocks = [(n, p) for n, p in named if p.ndim == 2 and _in_block(n) and muon > 0]
        taken = {name for name, _ in blocks}
        tables = [p for n, p in named if n not in taken and p.ndim >= 2 and "embed" not in n]
        others = [p for n, p in named if n not in taken and (p.ndim < 2 or "embed" in n)]
        self.names = {p: n for n, p in named}
        self.rate, self.parts = rate, []
        self.adam = torch.optim.AdamW(
            [{"params": tables, "weight_decay": decay}, {"params": others, "weight_decay": 0.0}],
            lr=rate, betas=(0.9, 0.98), eps=1e-8,
        )  # fmt: skip
        self.parts.append((self.adam, 1.0))
        if blocks:
            matrices = [p for _, p in blocks]
            # Its weight decay is multiplied by the rate, as in AdamW.
            optimiser = torch.optim.Muon(matrices, lr=rate, weight_decay=decay, adjust_lr_fn="match_rms_adamw")
            self.parts.append((optimiser, muon))

    def step(self, scale: float) -> None:
        """Apply the gradients at `scale` times the rate, and clear them."""
        for optimiser, factor in self.parts:
            for group in optimiser.param_groups:
                group["lr"] = self.rate * factor * scale
            optimiser.step()
            optimiser.zero_grad(set_to_none=True)

    def state(self) -> dict[str, Tensor]:
        """Moments by the names of parameters."""
        return {
            f"{self.names[p]}|{key}": value
            for optimiser, _ in self.parts
            for p, held in optimiser.state.items()
            for key, value in held.items()
            if torch.is_tensor(value)
        }

    def load_state(self, state: dict[str, Tensor]) -> None:
        """The inverse of `state`."""
        for optimiser, _ in self.parts:
            for group in optimiser.param_groups:
                for p in group["params"]:
                    start = f"{self.names[p]}|"
                    held = {k.removeprefix(start): v.clone() for k, v in state.items() if k.startswith(start)}
                    # Adam keeps its step count on the CPU.
                    moved = {k: v if k == "step" else v.to(p.device) for k, v in held.items()}
                    if moved:
                        optimiser.state[p] = moved


def _in_block(name: str) -> bool:
    return any(part in name for part in ("resblocks", "encoder.layer"))


def rate_at(step: int, progress: float, warm_steps: int, last: float = 0.02) -> float:
    """Factor on the rate: linear warm-up over `warm_steps`, times a half cosine from 1 to `last`."""
    return min(1.0, (step + 1) / warm_steps) * (last + (1 - last) * 0.5 * (1 + math.cos(math.pi * progress)))


def warm_cosine(progress: float, warmup: float) -> float:
    """Factor on the rate: linear over the first share `warmup` of the training, then half a cosine from 1 to 0."""
    if progress < warmup:
        return (progress + 1e-3) / (warmup + 1e-3)
    return 0.5 * (1 + math.cos(math.pi * (progress - warmup) / (1 - warmup)))
