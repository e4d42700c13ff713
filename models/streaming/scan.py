"""Selective scan: a linear recurrence whose decay, input and output weights follow the signal."""

import torch

BLOCK = 32

# An operator with a name, so that the export finds it as one node; it is made of ordinary differentiable operations.
_library = torch.library.Library("hearloop", "DEF")
_library.define(
    "selective_scan(Tensor x, Tensor dt, Tensor a, Tensor b, Tensor c, Tensor d, Tensor state) -> (Tensor, Tensor)"
)


def selective_scan(
    x: torch.Tensor,
    dt: torch.Tensor,
    a: torch.Tensor,
    b: torch.Tensor,
    c: torch.Tensor,
    d: torch.Tensor,
    state: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Run h_l = exp(dt_l a) h_(l-1) + dt_l b_l x_l^T, y_l = h_l^T c_l + d x_l along a sequence, head by head.

    The recurrence of Gu and Dao, "Mamba", 2023, with one decay per head as in Dao and Gu, "Transformers are SSMs",
    2024: within a block of entries it is then a product with a masked matrix of decays, so that training does not
    wait for one entry after the other.

    Parameters
    ----------
    x : Tensor, [S, L, heads, P]
        S sequences of L entries.
    dt : Tensor, [S, L, heads]
        Step sizes, positive.
    a : Tensor, [heads]
        Negative: the decay of a head is exp(dt a).
    b, c : Tensor, [S, L, N]
        What enters the N states of each channel, and how they are read; shared by all heads.
    d : Tensor, [heads]
        Gain of the direct path.
    state : Tensor, [S, heads, N, P]
        h before the first entry.

    Returns
    -------
    y : Tensor, [S, L, heads, P]
    state : Tensor, [S, heads, N, P]
        h after the last entry.
    """
    y, following = torch.ops.hearloop.selective_scan(x, dt, a, b, c, d, state)
    return y, following


def _in_blocks(
    x: torch.Tensor,
    dt: torch.Tensor,
    a: torch.Tensor,
    b: torch.Tensor,
    c: torch.Tensor,
    d: torch.Tensor,
    state: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor]:
    outputs = []
    for part in zip(*(whole.split(BLOCK, dim=1) for whole in (x, dt, b, c)), strict=True):
        y, state = _block(part[0], part[1], a, part[2], part[3], state)
        outputs.append(y)
    return torch.cat(outputs, dim=1) + d[:, None] * x, state


def _block(
    x: torch.Tensor, dt: torch.Tensor, a: torch.Tensor, b: torch.Tensor, c: torch.Tensor, state: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    entered = (x * dt.unsqueeze(-1)).transpose(1, 2)  # [S, heads, L, P]
    logarithm = (dt * a).cumsum(1).transpose(1, 2)  # of the decay since the block began, [S, heads, L]
    # Differences of logarithms that are never positive where they count, so that nothing overflows.
    gap = logarithm.unsqueeze(-1) - logarithm.unsqueeze(-2)
    decay = gap.clamp(max=0).exp().tril()
    weights = (c @ b.transpose(1, 2)).unsqueeze(1) * decay
    remembered = (c.unsqueeze(1) @ state) * logarithm.exp().unsqueeze(-1)
    y = (weights @ entered + remembered).transpose(1, 2)
    left = (logarithm[..., -1:] - logarithm).exp().unsqueeze(-1)
    added = b.transpose(1, 2).unsqueeze(1) @ (entered * left)
    return y, state * logarithm[..., -1, None, None].exp() + added


_library.impl("selective_scan", _in_blocks, "CompositeImplicitAutograd")
