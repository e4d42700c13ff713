"""The scan of the first Mamba, in which every state of every channel has a decay of its own."""

import torch

# An operator with a name, so that the export finds it as one node, whatever the length of the sequence.
_library = torch.library.Library("hearloop", "FRAGMENT")
_library.define("mamba_scan(Tensor x, Tensor dt, Tensor a, Tensor b, Tensor c) -> Tensor")


def mamba_scan(x: torch.Tensor, dt: torch.Tensor, a: torch.Tensor, b: torch.Tensor, c: torch.Tensor) -> torch.Tensor:
    """Run h_l = exp(dt_l a) h_(l-1) + dt_l x_l b_l^T, y_l = h_l c_l along a sequence, from a state of zeros.

    Gu and Dao, "Mamba: linear-time sequence modeling with selective state spaces", 2023.

    Parameters
    ----------
    x, dt : Tensor, [S, L, inner]
        Input, and step sizes, positive.
    a : Tensor, [inner, states]
        Negative.
    b, c : Tensor, [S, L, states]

    Returns
    -------
    Tensor, [S, L, inner]
    """
    if torch.onnx.is_in_onnx_export():
        return torch.ops.hearloop.mamba_scan(x, dt, a, b, c)
    return _step_by_step(x, dt, a, b, c)


def _step_by_step(x: torch.Tensor, dt: torch.Tensor, a: torch.Tensor, b: torch.Tensor, c: torch.Tensor) -> torch.Tensor:
    state = x.new_zeros(len(x), *a.shape)
    outputs = []
    for now in range(x.shape[1]):
        step = dt[:, now, :, None]
        state = (step * a).exp() * state + step * x[:, now, :, None] * b[:, now, None]
        outputs.append((state @ c[:, now, :, None]).squeeze(-1))
    return torch.stack(outputs, dim=1)


_library.impl("mamba_scan", _step_by_step, "CPU")
_library.impl("mamba_scan", lambda x, dt, a, b, c: torch.empty_like(x), "Meta")
