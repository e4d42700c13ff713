"""Scale-invariant signal-to-distortion ratio."""

import torch

LEAST_RATIO = 1e-8  # +-80 dB: keeps silence and identity finite


def si_sdr_db(estimate: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """SI-SDR in dB (Le Roux et al. 2019) over the last axis, [..., samples] -> [...].

    Both signals are freed of their mean. Limited to +-80 dB; an exact multiple of the target gives 80, a silent
    estimate -80. A silent target has no SI-SDR: the value is then -80.
    """
    estimate = estimate - estimate.mean(-1, keepdim=True)
    target = target - target.mean(-1, keepdim=True)
    target_energy = target.square().sum(-1)
    projection = (estimate * target).sum(-1)
    kept = projection.square() / target_energy.clamp_min(torch.finfo(target.dtype).tiny)
    distortion = (estimate.square().sum(-1) - kept).clamp_min(0)
    whole = kept + distortion
    ratio = (kept + LEAST_RATIO * whole) / (distortion + LEAST_RATIO * whole).clamp_min(1e-30)
    return 10 * torch.log10(ratio.clamp(LEAST_RATIO, 1 / LEAST_RATIO))
