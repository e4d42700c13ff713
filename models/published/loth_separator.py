"""Look Once to Hear: the separator, a causal binaural TF-GridNet that keeps one voice.

Veluri, Itani, Chen, Yoshioka, Gollakota, "Look Once to Hear: Target Speech Hearing with Noisy Examples", CHI 2024.
"""

import math
import re
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from ...runtime.bundle_info import Port
from ..streaming.state import State
from ..target.gridnet import CausalGridNet, Steering

# Our name of a layer within a block -> the published one: three residual layers, each with its parts in a row.
BLOCK = {
    "0.layer.0": "intra_norm.norm",
    "0.layer.1.lstm": "intra_rnn",
    "0.layer.2": "intra_linear",
    "1.layer.0": "inter_norm.norm",
    "1.layer.1.lstm": "inter_rnn",
    "1.layer.2": "inter_linear",
    "2.layer.query.linear": "attn_conv_Q.0",
    "2.layer.query.activation": "attn_conv_Q.1",
    "2.layer.query.norm": "attn_conv_Q.3.norm",
    "2.layer.key.linear": "attn_conv_K.0",
    "2.layer.key.activation": "attn_conv_K.1",
    "2.layer.key.norm": "attn_conv_K.3.norm",
    "2.layer.value.linear": "attn_conv_V.0",
    "2.layer.value.activation": "attn_conv_V.1",
    "2.layer.value.norm": "attn_conv_V.3.norm",
    "2.layer.linear": "attn_concat_proj.0",
    "2.layer.activation": "attn_concat_proj.1",
    "2.layer.norm": "attn_concat_proj.3.norm",
}
ELSEWHERE = {
    "net.conv.conv": "conv.0",
    "net.deconv.conv": "deconv",
    "steering.linear": "embed_to_feats_proj.0",
    "steering.norm": "embed_to_feats_proj.1",
}
PREFIXES = ("model.tfgridnet.", "tfgridnet.", "model.")
NEEDLESS = (".filterbank.",)  # the filters are fixed


class LothSeparator(nn.Module):
    """Mixture at two ears and a voice -> that voice at two ears.

    Frames are `chunk` + `lookahead` samples long and `chunk` apart. Analysis and synthesis use the same filters, the
    square root of a Hann window; what they do together is not quite the identity, and the network has learnt that.

    Parameters
    ----------
    chunk, lookahead : int
        In samples.
    microphones, sources, embedding : int
    channels, hidden, blocks, heads, memory, query : int
        See `CausalGridNet`; `memory` is its window.
    """

    def __init__(
        self,
        chunk: int,
        lookahead: int,
        microphones: int,
        sources: int,
        embedding: int,
        channels: int,
        hidden: int,
        blocks: int,
        heads: int,
        memory: int,
        query: int,
    ):
        super().__init__()
        self.chunk, self.lookahead, self.sources = chunk, lookahead, sources
        bands = (chunk + lookahead) // 2 + 1
        self.net = CausalGridNet(2 * microphones, 2 * sources, channels, hidden, blocks, heads, memory, bands, query)
        self.steering = Steering(embedding, channels, bands)
        self.register_buffer("filters", fourier_filters(chunk + lookahead, chunk), persistent=False)
        self.filters: torch.Tensor

    def forward(self, mix: torch.Tensor, embed: torch.Tensor) -> torch.Tensor:
        """The whole signal at once.

        Parameters
        ----------
        mix : Tensor, float32, shape (batch, microphones, samples)
        embed : Tensor, float32, shape (batch, 1, embedding)

        Returns
        -------
        Tensor, float32, shape (batch, sources, samples)
        """
        return self._run(mix, embed, frames_per_call=None)

    def stream(self, mix: torch.Tensor, embed: torch.Tensor) -> torch.Tensor:
        """The same frame by frame, as a device runs it."""
        return self._run(mix, embed, frames_per_call=1)

    def initial_state(self, batch: int) -> State:
        tail = self.filters.new_zeros(batch, self.sources, self.lookahead)
        return {"net": self.net.initial_state(batch), "tail": tail}

    def step(self, frames: torch.Tensor, steering: torch.Tensor, state: State) -> tuple[torch.Tensor, State]:
        """Frames [B, microphones, T, chunk + lookahead] -> audio [B, sources, T * chunk] that begins with the first."""
        spectrum = (frames @ self.filters.T).unflatten(-1, (2, -1))
        # All real parts, then all imaginary parts; in the output both of each source together.
        mapped, net = self.net(spectrum.permute(0, 3, 1, 2, 4).flatten(1, 2), steering, state["net"])
        made = mapped.unflatten(1, (self.sources, 2)).permute(0, 1, 3, 2, 4).flatten(3) @ self.filters
        body, tail = made.split([self.chunk, self.lookahead], dim=-1)
        waiting = torch.cat([state["tail"].unsqueeze(2), tail], dim=2)
        audio = body + functional.pad(waiting[:, :, :-1], (0, self.chunk - self.lookahead))
        return audio.flatten(2), {"net": net, "tail": waiting[:, :, -1]}

    def _run(self, mix: torch.Tensor, embed: torch.Tensor, frames_per_call: int | None) -> torch.Tensor:
        samples = mix.shape[-1]
        padded = functional.pad(mix, (0, -samples % self.chunk + self.lookahead))
        frames = padded.unfold(-1, self.chunk + self.lookahead, self.chunk)
        steering, state = self.steering(embed[:, 0]), self.initial_state(len(mix))
        parts = []
        for part in frames.split(frames_per_call or frames.shape[2], dim=2):
            audio, state = self.step(part, steering, state)
            parts.append(audio)
        return torch.cat(parts, dim=-1)[..., :samples]


class LothStep(nn.Module):
    """The separator as a step on the waveform: it has a transform of its own, which no pair of windows undoes.

    Parameters
    ----------
    network : LothSeparator

    The output is that of `LothSeparator`, `lookahead` samples later. State: {"past" [B, microphones, lookahead], and
    that of the separator}.
    """

    task = "target"
    window = None
    level_reference = "that of the training: speech around -25 dBFS"

    def __init__(self, network: LothSeparator):
        super().__init__()
        self.network, self.steering = network, network.steering
        self.frame, self.lookahead = network.chunk, network.lookahead
        self.channels_in, self.channels_out = network.net.conv.conv.in_channels // 2, network.sources
        channels, bands = network.steering.channels, network.net.conv.bands
        self.extra_inputs = (Port("embedding", "embedding", (1, channels, 1, bands), "map of the chosen voice"),)

    def initial_state(self, batch: int) -> State:
        past = self.network.filters.new_zeros(batch, self.channels_in, self.lookahead)
        return {"past": past, **self.network.initial_state(batch)}

    def forward(self, audio: torch.Tensor, voice: torch.Tensor, state: State) -> tuple[torch.Tensor, State]:
        """Audio [B, microphones, T, frame], map of the voice, state -> [B, sources, T, frame], and the next state."""
        ends = torch.cat([state["past"].unsqueeze(2), audio[..., self.frame - self.lookahead :]], dim=2)
        kept, following = self.network.step(torch.cat([ends[:, :, :-1], audio], dim=-1), voice, state)
        return kept.unflatten(-1, (-1, self.frame)), {"past": ends[:, :, -1], **following}


def fourier_filters(length: int, hop: int) -> torch.Tensor:
    """Cosines, then negative sines, of all bins under the root of a periodic Hann window: [length + 2, length]."""
    time = np.arange(length)
    window = np.sqrt(0.5 - 0.5 * np.cos(2 * np.pi * time / length))
    waves = np.exp(-2j * np.pi * np.arange(length // 2 + 1)[:, None] * time / length)
    waves[[0, -1]] = waves[[0, -1]].real / math.sqrt(2)
    filters = 2 * math.sqrt(hop) / length * window * np.concatenate([waves.real, waves.imag])
    return torch.from_numpy(filters).float()


def make(config: Mapping[str, Any]) -> LothSeparator:
    chunk, lookahead = config["stft_chunk_size"], config["stft_pad_size"]
    bands = (chunk + lookahead) // 2 + 1
    return LothSeparator(
        chunk=chunk,
        lookahead=lookahead,
        microphones=config["num_ch"],
        sources=config.get("num_src", 2),
        embedding=config["embed_dim"],
        channels=config["D"],
        hidden=config["H"],
        blocks=config["B"],
        heads=config["L"],
        memory=config["local_atten_len"] - 1,
        query=math.ceil(config.get("attn_approx_qk_dim", 512) / bands),
    )


def publish(key: str) -> str:
    """Our key -> the published one."""
    name, _, tensor = key.rpartition(".")
    block = re.fullmatch(r"net\.blocks\.(\d+)\.(.+)", name)
    if block:
        return f"blocks.{block[1]}.{BLOCK[block[2]]}.{tensor}"
    return f"{ELSEWHERE.get(name, name)}.{tensor}"
