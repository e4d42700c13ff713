"""Where the chosen voice is: what both ears hear is taken apart by direction, and whoever speaks there is compared."""

import math

import torch
from torch import nn
from torch.nn import functional

from ..runtime.errors import HearloopError
from ..runtime.windows import window_pair
from .harmonics import REACH, SAMPLE_RATE, combs
from .likeness import FromLikeness
from .streaming.average import ExponentialAverage
from .streaming.recurrent import TimeGRU
from .streaming.state import State

LONGEST_DELAY_S = 8e-4  # around a large head
SHADOW = 0.8  # of the level at the far ear, at the reach and from the side
LATELY_S = 2.0
# To begin with: how much the phase of a bin says of where it comes from, and how much what was heard lately.
CERTAIN, USUAL = 6.0, 10.0
EAGER = 0.3  # to begin with, by how much a voice that is listened for stands out
PITCHES, MEMORY = 64, 64  # values that a voice is known by in a frame, and for seconds
EXPECTATIONS = 4  # maps of the bins: what is from there, how well it agrees with that, and two of free choice


class Whereabouts(nn.Module):
    """Finds the direction of the chosen voice, and which bins agree with it.

    Voices are told apart by what they said for seconds; but whose the last seconds were is not known where they
    overlap. Whoever speaks stays where they are, though, and the delay between the ears is the same in all bins of one
    source. So each bin is shared out among directions by the product of both ears (Knapp and Carter, "The generalized
    correlation method for estimation of time delay", 1976), and by what was heard lately from each. Two GRUs listen to
    every direction on its own, to combs and bands of its share, one of them with a stress on what the chosen voice has;
    and that voice is where it is most like itself. All weights that are known beforehand learn on. The output is zero
    until it is trained.

    Parameters
    ----------
    channels, hidden : int
        Of what comes out for the bins; of the blocks.
    places : int
        At how many the blocks are steered.
    delays : int
        Directions, as delays of the left ear between -0.8 and 0.8 ms, equally far apart.
    window : str
        Window pair.
    stride : int
        Bins that are one wide band.

    State: {"lately", "plain", "eager"}, of each direction how much came from there, and who spoke; and "likely", where
    a listener is asked as well.
    """

    def __init__(self, channels: int, hidden: int, places: int, delays: int, window: str, stride: int):
        super().__init__()
        pair = window_pair(window)
        if pair.bins <= REACH:
            raise HearloopError(f"{window} has {pair.bins} bins; expected more than {REACH}, for directions")
        bin_hz = SAMPLE_RATE / pair.n_fft
        self.delays, self.places, self.stride, self.wide = delays, places, stride, (pair.bins - 1) // stride
        turns = turns_of(delays, bin_hz)
        self.turns, self.bias = nn.Parameter(turns), nn.Parameter(-turns[:, -1].square() / 2)
        self.certain = nn.Parameter(torch.full((REACH,), CERTAIN))
        self.lately = ExponentialAverage(LATELY_S * SAMPLE_RATE / pair.hop_length, (delays,))
        self.usual = nn.Linear(delays, delays)
        self.listen = nn.Linear(REACH, PITCHES + REACH // stride)
        self.norm, self.activation = nn.LayerNorm(self.listen.out_features), nn.PReLU()
        self.voice = nn.Linear(self.listen.out_features, 2 * hidden)
        self.plain, self.eager = TimeGRU(hidden, MEMORY, delays), TimeGRU(hidden, MEMORY, delays)
        self.known_by, self.speaks = nn.Linear(2 * MEMORY, hidden), nn.Linear(2 * MEMORY, 1)
        self.nobody = nn.Parameter(torch.zeros(1))
        self.choice = nn.Linear(2 * MEMORY, EXPECTATIONS - 2)
        self.to_channels = nn.Conv2d(EXPECTATIONS * stride, channels, 1)
        self.steering = nn.Linear(delays + 1, places * 2 * hidden, bias=False)
        self.likely: FromLikeness | None = None
        with torch.no_grad():
            self.usual.weight.copy_(USUAL * torch.eye(delays))
            bands = torch.eye(REACH // stride).repeat_interleave(stride, dim=1) / stride
            self.listen.weight.copy_(torch.cat([combs(PITCHES, bin_hz), bands]))
            for parameter in (self.usual.bias, self.listen.bias, *self.to_channels.parameters(), self.steering.weight):
                nn.init.zeros_(parameter)
        self.told: tuple[torch.Tensor, torch.Tensor] | None = None

    def initial_state(self, batch: int) -> State:
        names = ["lately", "plain", "eager"] + ["likely"] * (self.likely is not None)
        return {name: getattr(self, name).initial_state(batch) for name in names}

    def ask(self, embedding: int) -> None:
        """Ask a listener as well, who says whose voice, an embedding of that size, is heard from every direction."""
        self.likely = FromLikeness(self.delays, embedding)

    def between(self, delays_s: torch.Tensor) -> torch.Tensor:
        """Values at other delays of the left ear, which rise, become values at its own by this: [others, delays]."""
        own_s = torch.linspace(-LONGEST_DELAY_S, LONGEST_DELAY_S, self.delays)
        above = torch.searchsorted(delays_s, own_s).clamp(1, len(delays_s) - 1)
        share = ((own_s - delays_s[above - 1]) / (delays_s[above] - delays_s[above - 1])).clamp(0, 1)
        weights = torch.zeros(len(delays_s), self.delays)
        columns = torch.arange(self.delays)
        weights[above - 1, columns], weights[above, columns] = 1 - share, share
        return weights

    def tell(self, there: torch.Tensor, items: torch.Tensor) -> None:
        """What the next pass in training mode takes for the direction [B, T, delays + 1], where items [B] is true.

        A network that is told the truth learns at once what directions are good for.
        """
        self.told = (there, items)

    def forward(
        self,
        magnitudes: torch.Tensor,
        alike: torch.Tensor,
        chosen: torch.Tensor,
        state: State,
        heard: torch.Tensor | None = None,
    ) -> tuple[torch.Tensor, torch.Tensor, State]:
        """Compressed magnitudes [B, T, bins], what tells directions apart [B, 3, T, bins], the chosen voice, and state.

        The voice is [B, 2 hidden]: what is listened for, and what is looked for. `heard` [B, T, delays, 5] is what a
        listener says of each direction, if one is asked. Returns what to add to the wide features
        [B, channels, T, wide], to the steering of the blocks [B, T, places, 2 hidden], and the next state.
        """
        listened_for, wanted = chosen[:, None, None].chunk(2, dim=-1)
        near, loud = alike[..., :REACH].transpose(1, 2).unsqueeze(2), magnitudes[..., None, :REACH]
        agrees = (near * self.turns).sum(3) + self.bias  # [B, T, delays, REACH]
        overall = (agrees * loud).sum(-1) / (loud.sum(-1) + 1e-3)
        lately, average = self.lately(overall.transpose(1, 2), state["lately"])
        usual = self.usual(lately.transpose(1, 2)).unsqueeze(-1)
        share = (self.certain * agrees + usual).softmax(2)
        bands = self.activation(self.norm(self.listen((share - 1 / self.delays) * loud)))
        voice, stressed = self.voice(bands).chunk(2, dim=-1)
        plain, of_plain = self.plain(voice, state["plain"])
        eager, of_eager = self.eager(stressed * (1 + EAGER * listened_for), state["eager"])
        known = torch.cat([plain, eager], dim=-1)
        voices = self.known_by(known) / wanted.shape[-1] ** 0.5
        match, speaks = (voices * wanted).sum(-1), self.speaks(known).squeeze(-1)
        scores, following = match + speaks, {"lately": average, "plain": of_plain, "eager": of_eager}
        if self.likely is not None and heard is not None:
            own = torch.stack([match, speaks, lately.transpose(1, 2)], dim=-1)
            scores, following["likely"] = self.likely(heard, own, state["likely"])
        scores = torch.cat([scores, self.nobody.expand(*scores.shape[:2], 1)], dim=-1)
        there = scores.softmax(-1)
        if self.training:
            self.said, self.voices, self.wanted = scores, voices, wanted[:, 0, 0]
            if self.told is not None:
                told, items = self.told
                there, self.told = torch.where(items[:, None, None], told.to(there.dtype), there), None
        from_there = there[:, :, None, : self.delays]
        choice = torch.cat([from_there, self.choice(known).sigmoid().transpose(2, 3)], dim=2)
        maps = torch.cat([from_there @ share, choice @ agrees], dim=2)  # [B, T, EXPECTATIONS, REACH]
        maps = maps.unflatten(-1, (REACH // self.stride, self.stride)).permute(0, 2, 4, 1, 3).flatten(1, 2)
        wide = functional.pad(self.to_channels(maps), (0, self.wide - REACH // self.stride))
        steering = self.steering(there).unflatten(-1, (self.places, -1))
        return wide, steering, following


def turns_of(delays: int, bin_hz: float) -> torch.Tensor:
    """What tells directions apart is like this for sound of each delay: [delays, 3, REACH].

    The product of both ears turns with frequency, the faster the later one of them hears a source; the delay is that of
    the left ear. The far ear is in the shadow of the head, the more so the shorter the waves are.
    """
    delay_s = torch.linspace(-LONGEST_DELAY_S, LONGEST_DELAY_S, delays)
    bins = torch.arange(REACH)
    phase = 2 * math.pi * bin_hz * bins * delay_s[:, None]
    shadow = SHADOW * bins / REACH * delay_s[:, None] / LONGEST_DELAY_S
    return torch.stack([phase.cos(), -phase.sin(), -shadow], dim=1)
