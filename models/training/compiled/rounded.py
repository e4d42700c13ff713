"""Products of matrices with mantissas of eight bits on a CPU, forward and backward; everything else stays in float32.

Processors with instructions for bfloat16 (`lscpu`: avx512_bf16, amx_bf16) multiply such numbers two to three times as
fast as float32. Rounding costs a pass over every matrix, which only a product repays; PyTorch's autocast rounds more,
what goes through convolutions and attention, and is slower here and less exact.
"""

import torch


def rounded_product(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """x [..., in] and weight [out, in], each number rounded to bfloat16 -> [..., out]."""
    return _RoundedProduct.apply(x, weight)


class _RoundedProduct(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, weight):
        ctx.shape = x.shape
        x, weight = _rounded_rows(x), weight.bfloat16()
        ctx.save_for_backward(x, weight)
        return (x @ weight.T).float().view(*ctx.shape[:-1], len(weight))

    @staticmethod
    def backward(ctx, gradient):
        x, weight = ctx.saved_tensors
        gradient = _rounded_rows(gradient)
        to_x = (gradient @ weight).float().view(ctx.shape) if ctx.needs_input_grad[0] else None
        return to_x, (gradient.T @ x).float()


def _rounded_rows(x: torch.Tensor) -> torch.Tensor:
    """[..., C] rounded and as a matrix, in one pass wherever the rows lie."""
    return x.to(torch.bfloat16, memory_format=torch.contiguous_format).view(-1, x.shape[-1])
