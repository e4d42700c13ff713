"""Layers as compiled loops, forward and backward, for training: the same parameters, names and results."""

from collections.abc import Callable
from functools import partial
from importlib.util import find_spec

from torch import nn
from torch.nn import functional

from ...separation.tiger import BandAttention, ScaleFusion
from ...streaming.attention import WindowAttention
from ...streaming.frame_attention import FrameAttention
from ...streaming.mamba import StateSpace
from . import attention, band_attention, linear, scales, state_space
from .batch_norm import PlainBatchNorm, is_plain_norm
from .depthwise import CompiledDepthwise, is_depthwise
from .depthwise_map import CompiledDepthwiseMap, is_depthwise_map
from .gru import CompiledGRU, Recurrence, is_plain_gru
from .prelu import CompiledPReLU, is_prelu_of_channels
from .rounded import rounded_product


def compile_layers(model: nn.Module, device: str = "cpu", rounded: bool = False) -> nn.Module:
    """Let the layers of a model run compiled, where a type of device has such a form; returns the model.

    `rounded`: products of matrices in bfloat16, on a CPU.
    """
    if device == "cpu":
        return _replaced(model, partial(_on_cpu, product=rounded_product if rounded else linear.product))
    # Triton comes with PyTorch where that is made for NVIDIA's accelerators.
    if device == "cuda" and find_spec("triton") is not None:
        return _replaced(model, _on_cuda)
    return model


# Frames that attention takes at once on an accelerator, which computes scores faster than it is told to.
ONE_BLOCK = 1 << 16


def _replaced(model: nn.Module, form: Callable[[nn.Module], nn.Module]) -> nn.Module:
    for parent in list(model.modules()):
        for name, layer in parent.named_children():
            setattr(parent, name, form(layer))
    return model


def _on_cpu(layer: nn.Module, product: linear.Product) -> nn.Module:
    if is_plain_gru(layer):
        narrow = min(layer.input_size, layer.hidden_size) < linear.FEWEST_FEATURES
        return CompiledGRU(layer, Recurrence.apply, functional.linear if narrow else product)
    if linear.is_wide_linear(layer):
        return linear.CompiledLinear.of(layer, product)
    if is_depthwise(layer):
        return CompiledDepthwise(layer)
    if is_depthwise_map(layer):
        return CompiledDepthwiseMap(layer)
    if is_prelu_of_channels(layer):
        return CompiledPReLU.of(layer)
    if isinstance(layer, StateSpace):
        layer.convolve, layer.scan = state_space.convolve, state_space.scan
    elif isinstance(layer, WindowAttention):
        layer.attend, layer.block = attention.attend, attention.LONGEST
    elif isinstance(layer, BandAttention):
        layer.attend = band_attention.attend
    elif isinstance(layer, ScaleFusion):
        layer.stretch = scales.stretched
    return layer


def _on_cuda(layer: nn.Module) -> nn.Module:
    from .gru_cuda import CudaRecurrence

    if is_plain_gru(layer):
        return CompiledGRU(layer, CudaRecurrence.apply)
    if isinstance(layer, FrameAttention):
        layer.block = ONE_BLOCK
    return PlainBatchNorm.of(layer) if is_plain_norm(layer) else layer
