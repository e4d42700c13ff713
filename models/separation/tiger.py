"""Separation by going along frequency and along time in turns, at several scales: the streaming TIGER."""

from typing import Any

import torch
from torch import nn
from torch.nn import functional

from ..features import CompressedSpectrum
from ..streaming.conv2d import CausalConv2d
from ..streaming.frame_attention import FrameAttention
from ..streaming.state import State
from .bands import BANDS, BandMerge, BandSplit
from .masks import TalkerMasks
from .scales import pooled, stretched


class ScaleFusion(nn.Module):
    """A scale and what all scales together say: local * sigmoid(gate(common)) + embedding(common)."""

    stretch = staticmethod(stretched)  # an instance may run another form; training on a CPU does

    def __init__(self, channels: int):
        super().__init__()
        self.local, self.gate, self.embedding = (nn.GroupNorm(1, channels) for _ in range(3))

    def forward(self, local: torch.Tensor, common: torch.Tensor) -> torch.Tensor:
        """[N, channels, L] and [N, channels, shorter] -> [N, channels, L]."""
        length = local.shape[-1]
        gate = self.stretch(torch.sigmoid(self.gate(common)), length)
        return self.local(local) * gate + self.stretch(self.embedding(common), length)


class FrequencyScales(nn.Module):
    """Along the bands of each frame, coarser and coarser, and back: [B, T, bands, size] to the same. No state."""

    def __init__(self, size: int, channels: int, scales: int):
        super().__init__()
        self.enter = nn.Sequential(nn.Conv1d(size, channels, 1), nn.GroupNorm(1, channels), nn.PReLU())
        self.steps = nn.ModuleList(
            nn.Sequential(
                nn.Conv1d(channels, channels, 5, stride=1 if scale == 0 else 2, padding=2, groups=channels),
                nn.GroupNorm(1, channels),
            )
            for scale in range(scales)
        )
        self.common = nn.Sequential(
            nn.Conv1d(channels, channels, 1, bias=False),
            nn.GroupNorm(1, channels),
            nn.ReLU(),
            nn.Conv1d(channels, channels, 1, bias=False),
            nn.GroupNorm(1, channels),
        )
        self.fusions = nn.ModuleList(ScaleFusion(channels) for _ in range(scales))
        self.returns = nn.ModuleList(ScaleFusion(channels) for _ in range(scales - 1))
        self.leave = nn.Conv1d(channels, size, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        sequences = x.flatten(0, 1).transpose(1, 2)
        scale, scales = self.enter(sequences), []
        for step in self.steps:
            scale = step(scale)
            scales.append(scale)
        common = self.common(scale + sum(pooled(each, scale.shape[-1]) for each in scales[:-1]))
        fused = [fusion(each, common) for fusion, each in zip(self.fusions, scales, strict=True)]
        whole = fused[-1]
        for finer, fusion in zip(reversed(fused[:-1]), self.returns, strict=True):
            whole = fusion(finer, whole)
        return x + self.leave(whole).transpose(1, 2).unflatten(0, x.shape[:2])


class TimeScales(nn.Module):
    """Along the past of each band, farther and farther apart: [B, T, bands, size] to the same.

    The scales of the offline form skip frames; here each looks back twice as far as the one before, at the full rate,
    so that no frame costs more than another and none is heard late.

    State: the past frames of each scale.
    """

    def __init__(self, size: int, channels: int, scales: int):
        super().__init__()
        self.enter = nn.Sequential(nn.Linear(size, channels), nn.LayerNorm(channels), nn.PReLU())
        self.steps = nn.ModuleList(
            CausalConv2d(channels, channels, (3, 1), BANDS, dilation=2**scale, groups=channels)
            for scale in range(scales)
        )
        self.norms = nn.ModuleList(nn.LayerNorm(channels) for _ in range(scales))
        self.common = nn.Sequential(
            nn.Linear(channels, channels, bias=False), nn.LayerNorm(channels), nn.ReLU(), nn.Linear(channels, channels)
        )
        self.gates = nn.ModuleList(nn.LayerNorm(channels) for _ in range(scales))
        self.leave = nn.Linear(channels, size)

    def initial_state(self, batch: int) -> State:
        return tuple(step.initial_state(batch) for step in self.steps)

    def forward(self, x: torch.Tensor, state: State) -> tuple[torch.Tensor, State]:
        scale, scales, followers = self.enter(x).permute(0, 3, 1, 2), [], []
        for step, norm, before in zip(self.steps, self.norms, state, strict=True):
            scale, following = step(scale, before)
            scales.append(norm(scale.permute(0, 2, 3, 1)))
            followers.append(following)
        common = self.common(sum(scales))
        whole = common
        for each, gate in zip(reversed(scales), self.gates, strict=True):
            whole = each * torch.sigmoid(gate(common)) + whole
        return x + self.leave(whole), tuple(followers)


def attend(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, state: State, decay: float, sharpness: float
) -> tuple[torch.Tensor, State]:
    """Mix values by the softmax of scores between bands that are averaged over the past.

    Parameters
    ----------
    query, key : Tensor, [B, T, heads, bands, Q]
        Of unit norm.
    value : Tensor, [B, T, heads, bands, V]
    state : Tensor, [B, heads, bands, bands]
        The mean scores so far.
    decay : float
        What is left of the mean after a frame.
    sharpness : float
        Times the mean scores, before the softmax.

    Returns
    -------
    Tensor, [B, T, heads, bands, V], and the next state.
    """
    means = []
    for frame in (query @ key.transpose(-1, -2)).unbind(1):
        state = decay * state + (1 - decay) * frame
        means.append(state)
    return (torch.stack(means, dim=1) * sharpness).softmax(-1) @ value, state


class BandAttention(nn.Module):
    """Attention between the bands of a frame, [B, T, bands, size] to the same; its scores are averaged over the past.

    The offline form takes one map of scores for the whole recording. Here it is a mean that decays: which bands belong
    together is learned from what was heard, and forgotten slowly.

    State: the mean scores, [B, heads, bands, bands].
    """

    attend = staticmethod(attend)  # an instance may run another form; training on a CPU does

    def __init__(self, size: int, heads: int, query: int, decay: float = 0.985):
        super().__init__()
        self.heads, self.query, self.decay = heads, query, decay
        self.to_query, self.to_key = nn.Linear(size, heads * query), nn.Linear(size, heads * query)
        self.to_value = nn.Linear(size, size)
        self.activation = nn.PReLU()
        self.leave = nn.Sequential(nn.Linear(size, size), nn.PReLU(), nn.LayerNorm(size))
        # A mean of independent scores shrinks with the root of their number: 2 / (1 - decay) frames count.
        self.sharpness = (2 / (1 - decay) / query) ** 0.5

    def initial_state(self, batch: int) -> State:
        return self.to_value.weight.new_zeros(batch, self.heads, BANDS, BANDS)

    def forward(self, x: torch.Tensor, state: State) -> tuple[torch.Tensor, State]:
        query, key, value = (self._by_head(linear(x)) for linear in (self.to_query, self.to_key, self.to_value))
        query, key = functional.normalize(query, dim=-1), functional.normalize(key, dim=-1)
        mixed, state = self.attend(query, key, value, state, self.decay, self.sharpness)
        return x + self.leave(mixed.transpose(2, 3).flatten(3)), state

    def _by_head(self, x: torch.Tensor) -> torch.Tensor:
        """[B, T, bands, heads * n] -> [B, T, heads, bands, n]."""
        return self.activation(x).unflatten(-1, (self.heads, -1)).transpose(2, 3)


class Tiger(nn.Module):
    """Streaming separation of talkers, 12 ms algorithmic latency.

    Xu et al., "TIGER: Time-frequency Interleaved Gain Extraction and Reconstruction", ICLR 2025: one set of weights,
    applied several times over, that goes along frequency and along time in turns. Changed for streaming: the running
    level instead of norms over the recording; scales in time that look back at the full rate instead of skipping
    frames; a decaying mean of the attention between bands; attention over time to a sliding window without positions;
    257 bins and 57 bands instead of 321 and 67.

    Parameters
    ----------
    size, channels : int
        Of the features of a band, and inside the paths at several scales.
    rounds : int
        How often the weights are applied; each time has a state of its own.
    scales : int
    heads, query : int
    memory : int
        Past frames that attention sees.
    talkers : int
    sum_to_one : bool
        Let the talkers add up to the mixture.

    State: {"level", "rounds": one {"bands", "time", "frames"} for each}.
    """

    task = "separate"
    window = "asymmetric-512-192"
    channels_in = 1

    def __init__(
        self,
        size: int = 48,
        channels: int = 64,
        rounds: int = 4,
        scales: int = 4,
        heads: int = 4,
        query: int = 4,
        memory: int = 48,
        talkers: int = 2,
        sum_to_one: bool = True,
    ):
        super().__init__()
        self.rounds, self.channels_out = rounds, talkers
        self.features = CompressedSpectrum(self.window)
        self.split = BandSplit(3, size)
        self.again = nn.Sequential(nn.Linear(size, size), nn.PReLU())
        self.frequency = FrequencyScales(size, channels, scales)
        self.bands = BandAttention(size, heads, query)
        self.time = TimeScales(size, channels, scales)
        self.frames = FrameAttention(size, heads, memory, BANDS, query)
        self.norms = nn.ModuleList([nn.LayerNorm(size), nn.LayerNorm(size)])
        self.activation = nn.PReLU()
        self.merge = BandMerge(size, 2 * talkers)
        self.masks = TalkerMasks(talkers, sum_to_one)
        with torch.no_grad():
            for parameter in self.merge.parameters():
                parameter.mul_(0.1)

    def initial_state(self, batch: int) -> State:
        paths = {"bands": self.bands, "time": self.time, "frames": self.frames}
        return {
            "level": self.features.initial_state(batch),
            "rounds": tuple(
                {name: path.initial_state(batch) for name, path in paths.items()} for _ in range(self.rounds)
            ),
        }

    def forward(self, spectrum: torch.Tensor, state: State) -> tuple[torch.Tensor, State]:
        """Mixture [B, 1, T, 257, 2] and state -> talkers [B, talkers, T, 257, 2] and the next state."""
        features, level = self.features(spectrum, state["level"])
        x = split = self.split(features)
        followers = []
        for number, before in enumerate(state["rounds"]):
            given = x if number == 0 else self.again(split + x)
            along, bands = self.bands(self.frequency(given), before["bands"])
            given = given + self.norms[0](along)
            along, time = self.time(given, before["time"])
            attended, frames = self.frames(along, before["frames"])
            x = given + self.norms[1](along + attended)
            followers.append({"bands": bands, "time": time, "frames": frames})
        masks = self.merge(self.activation(x)).unflatten(-1, (self.channels_out, 2)).permute(0, 3, 1, 2, 4)
        return self.masks(spectrum, masks), {"level": level, "rounds": tuple(followers)}


def tiger_base(**config: Any) -> Tiger:
    """The larger one: twice the channels, six rounds."""
    return Tiger(**({"size": 64, "channels": 128, "rounds": 6, "scales": 5} | config))
