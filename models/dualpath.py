"""A dual-path network: what `enhance-small`, `separate-small`, `separate` and `target-small` have in common."""

from collections.abc import Mapping
from itertools import accumulate

import torch
from torch import nn

from ..runtime.windows import window_pair
from .bands import erb_filters
from .features import KINDS, BinauralSpectrum, CompressedSpectrum
from .harmonics import Harmonics
from .streaming.compose import Chain, Residual
from .streaming.conv2d import CausalConv2d
from .streaming.frame_attention import FrameAttention
from .streaming.recurrent import FrequencyGRU, TimeGRU
from .streaming.state import State
from .whereabouts import Whereabouts
from .widening import widened

# Of the attention: past frames, and values per band and head in queries and keys.
MEMORY, HEADS, QUERY = 100, 4, 2
SPECTRA_OF_PITCHES = 2  # that lead back from them


class DualPath(nn.Module):
    """A spectrum becomes maps of wide bands, and `to_bins` makes of them what is wanted of every bin.

    A strided convolution gathers 257 bins into 64 bands, a learned filter bank those into `bands`; recurrent layers
    alternate along time (weights shared by all bands) and along frequency; a mirrored decoder leads back. As in Rong et
    al., "GTCRN", ICASSP 2024, and Le et al., "DPCRN", Interspeech 2021.

    Parameters
    ----------
    channels : int
        Channels of the convolutions at 64 bands.
    hidden : int
        Channels of the recurrent layers at `bands` bands.
    bands : int
    blocks : int
        Number of dual-path blocks.
    attentive : int
        Number of further blocks that begin with attention to the frames of the last 0.8 s. They change nothing until
        they are trained, so that a network can grow by them.
    values : int
        Of `to_bins`, for each bin.
    window : str
        Window pair; the strided convolution takes four bins a step of 257, and two of the 97 of a short window.
    pitches : int
        If above zero, `Harmonics` of so many pitches adds to the encoder what it finds; nothing until it is trained.
    delays : int
        If above zero, of a network with two ears: `Whereabouts` with so many directions adds to the encoder and to the
        steering what it finds; nothing until it is trained.

    State: {"level", "encoder", "blocks", "decoder"}, and with delays "whereabouts".
    """

    channels_in = 1

    def __init__(
        self,
        channels: int,
        hidden: int,
        bands: int,
        blocks: int,
        attentive: int,
        values: int,
        window: str,
        pitches: int = 0,
        delays: int = 0,
    ):
        super().__init__()
        self.window = window
        bins = window_pair(window).bins
        stride = 4 if bins > 128 else 2
        wide, kernel, padding = (bins - 1) // stride, (1, 2 * stride), (0, stride // 2)
        self.features = BinauralSpectrum(window) if self.channels_in == 2 else CompressedSpectrum(window)
        self.split = nn.Sequential(
            nn.Conv2d(self.features.of_a_bin(self.channels_in), channels, kernel, (1, stride), padding, bias=False),
            nn.BatchNorm2d(channels),
            nn.PReLU(channels),
        )
        self.harmonics = Harmonics(channels, pitches, SPECTRA_OF_PITCHES, window, stride) if pitches else None
        self.encoder = _convolution_block(channels, wide)
        filters = erb_filters(wide, bands, 16000)
        self.compress = nn.Parameter(filters.clone())
        self.to_hidden = nn.Linear(channels, hidden)
        groups = [_dual_path(hidden, bands) for _ in range(blocks)] + [
            _attentive(hidden, bands) for _ in range(attentive)
        ]
        self.blocks = Chain(*[layer for group in groups for layer in group])
        self.ends = [str(end - 1) for end in accumulate(map(len, groups))]  # the last layer of each block
        self.bands = bands
        self.whereabouts = Whereabouts(channels, hidden, 1 + len(self.ends), delays, window, stride) if delays else None
        self.to_channels = nn.Linear(hidden, channels)
        self.expand = nn.Parameter((filters / filters.sum(1, keepdim=True)).T.clone())
        self.skip = nn.Conv2d(channels, channels, 1)
        self.decoder = _convolution_block(channels, wide)
        self.mask = nn.ConvTranspose2d(channels, values, kernel, (1, stride), padding, (0, 1))

    def initial_state(self, batch: int) -> State:
        state = {
            "level": self.features.initial_state(batch),
            "encoder": self.encoder.initial_state(batch),
            "blocks": self.blocks.initial_state(batch),
            "decoder": self.decoder.initial_state(batch),
        }
        if self.whereabouts is not None:
            state["whereabouts"] = self.whereabouts.initial_state(batch)
        return state

    def translated(self, held: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Weights of such a network with fewer channels as those of this one; any other ones as they are."""
        return widened(self, held)

    def to_bins(
        self,
        spectrum: torch.Tensor,
        state: State,
        steering: torch.Tensor | None = None,
        heard: torch.Tensor | None = None,
    ) -> tuple[torch.Tensor, State]:
        """Spectrum [B, channels_in, T, 257, 2] and state -> [B, values, T, 257] and the next state.

        `steering` [B, 2 hidden, 1, bands + blocks], where given, is by how much more than one time every feature is
        taken, and then what is added to it: of every band before the blocks, of all bands alike after each block. With
        delays a last column is the voice whose direction is sought; `heard` is what a listener says of directions.
        """
        following: dict[str, State] = {}
        features, following["level"] = self.features(spectrum, state["level"])
        wide = self.split(features)
        if self.harmonics is not None:
            wide = wide + self.harmonics(self.features.magnitudes(features, self.channels_in))
        columns = None if steering is None else steering.permute(0, 2, 3, 1)  # [B, 1, bands + blocks, 2 hidden]
        if self.whereabouts is not None and columns is not None:
            columns, sought = columns[:, :, :-1], columns[:, 0, -1]
            magnitudes = self.features.magnitudes(features, self.channels_in)
            from_there, turned, following["whereabouts"] = self.whereabouts(
                magnitudes, features[:, -KINDS:], sought, state["whereabouts"], heard
            )
            wide = wide + from_there
            before, after = turned.split([1, len(self.ends)], dim=2)
            columns = torch.cat([columns[:, :, : self.bands] + before, columns[:, :, self.bands :] + after], dim=2)
        wide, following["encoder"] = self.encoder(wide, state["encoder"])
        narrow = self.to_hidden((wide @ self.compress).permute(0, 2, 3, 1))
        by_block: dict[str, torch.Tensor] = {}
        if columns is not None:
            first, *others = columns.split([self.bands] + len(self.ends) * [1], dim=2)
            narrow, by_block = _steered(narrow, first), dict(zip(self.ends, others, strict=True))
        following["blocks"] = {}
        for name, layer in self.blocks.named_children():
            narrow, following["blocks"][name] = layer(narrow, state["blocks"][name])
            if name in by_block:
                narrow = _steered(narrow, by_block[name])
        mixed = self.skip(wide) + self.to_channels(narrow).permute(0, 3, 1, 2) @ self.expand
        mixed, following["decoder"] = self.decoder(mixed, state["decoder"])
        return self.mask(mixed), {name: following[name] for name in state if name in following}


def _steered(features: torch.Tensor, steering: torch.Tensor) -> torch.Tensor:
    scale, shift = steering.chunk(2, dim=-1)
    return features + features * scale + shift


def _convolution_block(channels: int, bands: int) -> Residual:
    """Depthwise convolution over 3 frames and 3 bands, then a mixture of the channels, with a bypass."""
    return Residual(
        Chain(
            CausalConv2d(channels, channels, (3, 3), bands, padding=1, groups=channels, bias=False),
            nn.BatchNorm2d(channels),
            nn.PReLU(channels),
            nn.Conv2d(channels, channels, 1, bias=False),
            nn.BatchNorm2d(channels),
        )
    )


def _dual_path(hidden: int, bands: int) -> tuple[Residual, Residual]:
    """One pass along time and one along frequency, both with a bypass: [B, T, F, hidden]."""
    along_time = Chain(TimeGRU(hidden, hidden, bands), nn.Linear(hidden, hidden), nn.LayerNorm((bands, hidden)))
    along_frequency = Chain(FrequencyGRU(hidden, hidden // 2), nn.Linear(hidden, hidden), nn.LayerNorm((bands, hidden)))
    return Residual(along_time), Residual(along_frequency)


def _attentive(hidden: int, bands: int) -> tuple[Residual, ...]:
    """Attention between frames, then a pass along time and one along frequency; without effect to begin with."""
    paths = (Residual(FrameAttention(hidden, HEADS, MEMORY, bands, QUERY)), *_dual_path(hidden, bands))
    for path in paths:
        *_, last_norm = (layer for layer in path.modules() if isinstance(layer, nn.LayerNorm))
        nn.init.zeros_(last_norm.weight)
    return paths
