"""Layers as compiled loops, forward and backward, for training on a CPU: the same parameters, names and results."""

from torch import nn

from ...separation.tiger import BandAttention, ScaleFusion
from ...streaming.attention import WindowAttention
from ...streaming.mamba import StateSpace
from . import attention, band_attention, scales, state_space
from .depthwise import CompiledDepthwise, is_depthwise
from .gru import CompiledGRU


def compile_layers(model: nn.Module) -> nn.Module:
    """Let the layers of a model run compiled, where there is such a form; returns the model."""
    for parent in list(model.modules()):
        for name, layer in parent.named_children():
            if type(layer) is nn.GRU and layer.num_layers == 1 and layer.bias and not layer.batch_first:
                setattr(parent, name, CompiledGRU(layer))
            elif is_depthwise(layer):
                setattr(parent, name, CompiledDepthwise(layer))
            elif isinstance(layer, StateSpace):
                layer.convolve, layer.scan = state_space.convolve, state_space.scan
            elif isinstance(layer, WindowAttention):
                layer.attend, layer.block = attention.attend, attention.LONGEST
            elif isinstance(layer, BandAttention):
                layer.attend = band_attention.attend
            elif isinstance(layer, ScaleFusion):
                layer.stretch = scales.stretched
    return model
