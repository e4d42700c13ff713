"""Keep one voice, chosen beforehand, at both ears: `target-small`, and somebody who listens all around for it."""

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch

from ...runtime.windows import window_pair
from ..harmonics import SAMPLE_RATE
from ..streaming.state import State, flatten_state, unflatten_state
from .frontal import EnrollFrontal
from .small import TargetSmall

FARTHEST_S = 7.2e-4  # delay between the ears of a source at the side
LATELY_S = 2.0  # over which a voice is known in a direction, because people and heads move
LEAST = 1e-9  # as a limit: what exports a graph takes the sum with so small a number for the other summand


class TargetAround(TargetSmall):
    """Target speech hearing by directions and voices, 12 ms algorithmic latency; further parameters as `TargetSmall`.

    An enrolment network knows the voice of the one in front, and knows voices better than a network that has only heard
    the scenes of its training. So the scene is turned: for each of some directions one ear is delayed against the other
    as if the face were turned there, and an `EnrollFrontal` says in every frame what voice it has heard there lately.
    How alike that is to the chosen voice tells `Whereabouts` in which direction to look for it.

    The listener learns beforehand, as an enrolment network from turned looks (`turned_share` in the recipe), and not
    here.

    Parameters
    ----------
    turns : int
        Directions to which the scene is turned, as delays equally far apart.
    delays : int
        Directions of `Whereabouts`, above zero.
    listener : mapping, optional
        Arguments of the `EnrollFrontal`.

    State: that of `TargetSmall`, and "listener".
    """

    def __init__(
        self,
        turns: int = 13,
        pitches: int = 64,
        delays: int = 16,
        embedding: int = 256,
        listener: Mapping[str, int] | None = None,
        **sizes: Any,
    ):
        super().__init__(embedding=embedding, pitches=pitches, delays=delays, **sizes)
        assert self.whereabouts is not None
        self.turns, self.embedding = turns, embedding
        self.listener = EnrollFrontal(embedding=embedding, forgetting_s=LATELY_S, **(listener or {}))
        self.listener.requires_grad_(False)
        self.whereabouts.ask(embedding)
        (port,) = self.extra_inputs
        _, channels, _, self.columns = port.shape
        self.behind = self.steering.hand_on()
        shape = (1, channels, 1, self.columns + self.behind)
        self.extra_inputs = (replace(port, shape=shape),)
        delays_s = torch.linspace(-FARTHEST_S, FARTHEST_S, turns)
        bins = window_pair(self.window).bins
        phase = math.pi * delays_s[:, None] * torch.linspace(0, SAMPLE_RATE / 2, bins)
        phase = torch.stack([phase, -phase], dim=1)[:, :, None, :, None]  # [turns, 2, 1, bins, 1]
        self.register_buffer("cosine", phase.cos(), persistent=False)
        self.register_buffer("sine", phase.sin(), persistent=False)
        self.register_buffer("between", self.whereabouts.between(delays_s), persistent=False)
        self.between: torch.Tensor

    def train(self, mode: bool = True) -> "TargetAround":
        super().train(mode)
        self.listener.eval()
        return self

    def initial_state(self, batch: int) -> State:
        listener = self._of_each_scene(self.listener.initial_state(batch * self.turns))
        return {**super().initial_state(batch), "listener": listener}

    def forward(self, spectrum: torch.Tensor, voice: torch.Tensor, state: State) -> tuple[torch.Tensor, State]:
        """Spectrum [B, 2, T, 257, 2], map and embedding [B, 2 hidden, 1, columns], state -> the voice, next state."""
        map_, chosen = voice.split([self.columns, self.behind], dim=-1)
        wanted = chosen.flatten(1)[:, : self.embedding]
        heard, listened = self.listen(spectrum, wanted, state["listener"])
        kept, following = self.kept(spectrum, map_, state, heard)
        return kept, {**following, "listener": listened}

    def listen(self, spectrum: torch.Tensor, wanted: torch.Tensor, state: State) -> tuple[torch.Tensor, State]:
        """Turn the scene to every direction, and compare who is heard there with the chosen voice [B, embedding].

        Returns what `FromLikeness` takes, [B, T, delays, 5], and the next state of the listener.
        """
        with torch.no_grad():
            voice, sure, power, following = self._all_around(spectrum, state)
        assert self.whereabouts is not None
        assert self.whereabouts.likely is not None
        compared = self.whereabouts.likely.compared(voice, wanted)
        whole = spectrum.square().sum((1, 4)).mean(-1).unsqueeze(1)
        power, whole = (each.clamp(min=LEAST) for each in (power, whole))
        level_db = 10 * (power / whole).log10()
        heard = torch.cat([compared, torch.stack([sure, level_db], dim=1)], dim=1)  # [B, 5, turns, T]
        return heard.permute(0, 3, 1, 2).matmul(self.between).transpose(2, 3), following

    def _all_around(
        self, spectrum: torch.Tensor, state: State
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, State]:
        """The voice of every direction lately, of unit norm [B, turns, embedding, T], how sure that is, and its power.

        Both of these [B, turns, T], and at last the next state of the listener.
        """
        here = spectrum.unsqueeze(1)
        turned = here * self.cosine + (here @ self.quarter_turn) * self.sine
        state = unflatten_state(state, {name: each.flatten(0, 1) for name, each in flatten_state(state).items()})
        frame, power, following = self.listener.hear(turned.flatten(0, 1), state)
        voice, following["mean"] = self.listener.mean(frame, state["mean"])
        voice, power = (each.unflatten(0, (-1, self.turns)) for each in (voice, power))
        sure = voice.square().sum(2).clamp(min=LEAST).sqrt()
        return voice / sure.unsqueeze(2), sure, power, self._of_each_scene(following)

    def _of_each_scene(self, state: State) -> State:
        """A state of the listener with the directions on a second axis behind that of the scenes."""
        apart = {name: each.unflatten(0, (-1, self.turns)) for name, each in flatten_state(state).items()}
        return unflatten_state(state, apart)
