"""A voice, known from a noisy look: the enrolment network learns alone to tell talkers apart."""

from dataclasses import replace

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import nn

from ....runtime.errors import HearloopError
from ...frontend import stft_on
from ...published.dvector import DVector, read_dvector
from ...simulation.looks import LookItems, LookSimulator
from ...simulation.material import Material
from ...simulation.recipe import SCENE_VALIDATION
from ...target.hearing import embed
from ..configuration import EnrollConfiguration
from ..validate import share_of
from ..voice_loss import EnrollLossWeights, Recognition, alignment, contrast
from .task import ItemLoss, Measures, Task

PAIRS = 60  # of looks, of validation
LOOK_S = (2.0, 4.0)
BATCH = 10


class Enroll(Task):
    """Enrolment alone; raises AudioError without heads, or if there are too few talkers."""

    def __init__(self, configuration: EnrollConfiguration, training: Material, validation: Material):
        super().__init__(configuration)
        self.simulator = LookSimulator(configuration.recipe, training.speech, training.noise, training.heads)
        natural = LookSimulator(
            replace(SCENE_VALIDATION, look_s=LOOK_S), validation.speech, validation.noise, validation.heads
        )
        self.validation = natural.items(40, 0, PAIRS, int(LOOK_S[1] * 16000))
        self.weights = configuration.loss
        self.teacher = read_dvector(self.weights.teacher) if self.weights.teacher else None

    def build(self) -> nn.Module:
        network, weights = super().build(), self.weights
        if weights.front and not hasattr(network, "front_snr_db"):
            raise HearloopError(
                f"loss.front is {weights.front}; {self.configuration.model} has no such part, expected 0"
            )
        if self.teacher is not None and hasattr(network, "begin_with"):
            network.begin_with(self.teacher)
        if not weights.contrast and not weights.alignment and not weights.recognition:
            for name, parameter in network.named_parameters():
                parameter.requires_grad_(name.startswith("front."))
        return network

    def loss(self, network: nn.Module) -> ItemLoss:
        return EnrollLoss(self.weights, self.teacher)

    @torch.no_grad()
    def measure(self, network: nn.Module, fabric: Fabric) -> Measures:
        looks, samples = (
            torch.as_tensor(each).flatten(0, 1) for each in (self.validation.looks, self.validation.look_samples)
        )
        voices = [
            embed(network, look.to(fabric.device), many).cpu()
            for look, many in zip(looks.split(BATCH), samples.split(BATCH), strict=True)
        ]
        talkers = np.tile(self.validation.talker, 2)
        return {"confused_percent": list(share_of(confused_percent(torch.cat(voices).numpy(), talkers), fabric))}


class EnrollLoss(ItemLoss):
    """A weighted sum of terms.

    Each look has to find the other one at its talker among those of the batch; to say what the teacher says of the
    voice alone; to be more like what it says of the other one than like what it said of other talkers lately; and to
    let pass the talker alone.
    """

    def __init__(self, weights: EnrollLossWeights, teacher: DVector | None):
        super().__init__()
        self.weights, self.teacher = weights, teacher
        self.recognition = Recognition(teacher.linear.out_features) if teacher and weights.recognition else None

    def forward(self, network: nn.Module, items: LookItems) -> torch.Tensor:
        looks, alone, spoken = (torch.as_tensor(part).flatten(0, 1) for part in items[:3])
        samples, talker = torch.as_tensor(items.look_samples).flatten(), torch.as_tensor(items.talker)
        weights, loss = self.weights, looks.new_zeros(())
        voices = embed(network, looks, samples)
        if weights.front:
            stft = stft_on(looks.device, str(network.window))
            spectrum, _ = stft.analysis(alone[..., : alone.shape[-1] // stft.hop_length * stft.hop_length])
            loss = loss - weights.front * network.front_snr_db(spectrum).mean()
        if weights.contrast:
            first, second = voices.chunk(2)
            both = contrast(first, second, talker, weights.temperature)
            both = both + contrast(second, first, talker, weights.temperature)
            loss = loss + weights.contrast * both / 2
        if self.teacher is not None and (weights.alignment or weights.recognition):
            with torch.no_grad():
                clean = self.teacher(spoken, samples)
            loss = loss + weights.alignment * alignment(voices, clean)
            if self.recognition is not None:
                both, others = talker.repeat(2), torch.cat(clean.chunk(2)[::-1])
                self.recognition.remember(clean, both)
                loss = loss + weights.recognition * self.recognition(voices, others, both, weights.temperature)
        return loss


def confused_percent(voices: np.ndarray, talkers: np.ndarray) -> list[float]:
    """For each look: of all pairs of a look at its talker and one at another, how many are the wrong way round.

    Parameters
    ----------
    voices : float32 [looks, E], of unit norm
    talkers : int [looks]

    Returns
    -------
    0 where every look at the same talker is more alike than any at another, 50 for guessing; not a number where there
    is no other look at the talker.
    """
    likeness = voices @ voices.T
    found = []
    for index, talker in enumerate(talkers):
        same = (talkers == talker) & (np.arange(len(talkers)) != index)
        other = talkers != talker
        wrong = likeness[index, same][:, None] < likeness[index, other][None, :]
        found.append(100 * float(wrong.mean()) if wrong.size else float("nan"))
    return found
