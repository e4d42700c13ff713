"""From one resolution to another: what the scales of TIGER need, for lengths that may be known only when it runs."""

import torch


def stretched(x: torch.Tensor, length: int) -> torch.Tensor:
    """The nearest of the shorter sequence [..., n] for each place of a longer one [..., length].

    In the arithmetic of `torch.nn.functional.interpolate`, so that published weights meet what they were trained with.
    """
    nearest = torch.arange(length, dtype=torch.float32, device=x.device) * (x.shape[-1] / length)
    return x[..., nearest.long()]


def pooled(x: torch.Tensor, length: int) -> torch.Tensor:
    """Means over as equal parts of [..., n] as possible, `length` of them, as adaptive average pooling has them."""
    size = x.shape[-1]
    part, place = torch.arange(length, device=x.device), torch.arange(size, device=x.device)[:, None]
    start, end = part * size // length, ((part + 1) * size + length - 1) // length
    return x @ (((place >= start) & (place < end)).to(x.dtype) / (end - start))
