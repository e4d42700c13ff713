"""One voice at both ears, chosen by a noisy look: enrolment and target network learn together."""

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import nn

from ....runtime.errors import HearloopError
from ... import build
from ...evaluation.ratio import si_sdr
from ...evaluation.selection import leakage_db
from ...simulation.material import Material
from ...simulation.scenes import Scene, SceneItems, SceneSimulator
from ...simulation.validation import scene_validation_set
from ...target.hearing import Hearing
from ..configuration import TargetConfiguration
from ..ear_loss import interaural_errors, pause_leakage_db
from ..loss import SILENT_ENERGY, Loss, TargetLossWeights
from ..validate import share_of
from ..voice_loss import alignment, contrast
from ..whereabouts import Finder, direction_error, voice_error
from .task import ItemLoss, Measures, Task

SCENES, REOPENING = 24, 8  # of validation


class Target(Task):
    """Target speech hearing; raises AudioError without heads, or if there are too few talkers."""

    def __init__(self, configuration: TargetConfiguration, training: Material, validation: Material):
        main = {"model": configuration.model, "config": configuration.config}
        enroll = {"model": configuration.enroll_model, "config": configuration.enroll}
        super().__init__(configuration, {"target": main, "enroll": enroll})
        self.enroll_learns, self.blur = configuration.enroll_learns, configuration.blur
        self.learns, self.stays = configuration.learns, configuration.stays
        terms = (configuration.loss.alignment, configuration.loss.contrast)
        if any(terms) and not self.enroll_learns:
            raise HearloopError(
                f"alignment and contrast are {terms} and enroll_learns is false; expected 0, or a network that learns"
            )
        self.simulator = SceneSimulator(configuration.recipe, training.speech, training.noise, training.heads)
        self.validation = scene_validation_set(validation, SCENES, REOPENING)
        self.weights = configuration.loss

    def build(self) -> nn.Module:
        networks = {name: build(part["model"], **part["config"]) for name, part in self.parts.items()}
        terms = (self.weights.whose, self.weights.told_share)
        if any(terms) and getattr(networks["target"], "whereabouts", None) is None:
            raise HearloopError(
                f"whose and told_share are {terms} and {self.configuration.model} looks for no directions; "
                "expected zero, or delays in [config]"
            )
        hearing = Hearing(**networks, enroll_learns=self.enroll_learns, blur=self.blur)
        names = [name for name, _ in hearing.named_parameters()]
        for key, beginning in (("learns", self.learns), *(("stays", each) for each in self.stays)):
            if not any(name.startswith(beginning) for name in names):
                raise HearloopError(f"{key} is {beginning!r}, and the name of no weight begins with it")
        learns = [name.startswith(self.learns) and not name.startswith(self.stays) for name in names]
        for parameter, does in zip(hearing.parameters(), learns, strict=True):
            parameter.requires_grad_(parameter.requires_grad and does)
        return hearing

    def loss(self, network: nn.Module) -> ItemLoss:
        assert isinstance(network, Hearing)
        return TargetLoss(self.weights, network)

    def measure(self, network: nn.Module, fabric: Fabric) -> Measures:
        scenes, reopening = (share_of(part, fabric) for part in (self.validation.scenes, self.validation.reopening))
        heard = [hear(network, scene, fabric) for scene in scenes]
        pauses = [hear(network, scene, fabric) for scene in reopening]
        return {
            "si_sdr_improvement_db": [
                si_sdr(y, x.target) - si_sdr(x.mixture, x.target) for y, x in zip(heard, scenes, strict=True)
            ],
            "leakage_db": [leakage_db(y, x.target, x.mixture) for y, x in zip(pauses, reopening, strict=True)],
        }


class TargetLoss(ItemLoss):
    """Each ear counts like an item of its own, which keeps the difference between them; and terms of the embeddings."""

    def __init__(self, weights: TargetLossWeights, network: Hearing):
        super().__init__()
        self.weights = weights
        self.distance = Loss(weights, str(network.window))
        self.finder = None
        if weights.whose or weights.told_share:
            self.finder = Finder(network.whereabouts().delays, str(network.window))

    def forward(self, network: nn.Module, items: SceneItems) -> torch.Tensor:
        mixture, target, look, clean_look, samples, talker = map(
            torch.as_tensor,
            (items.mixture, items.target, items.look, items.clean_look, items.look_samples, items.talker),
        )
        compared = self.weights.alignment > 0 or self.weights.contrast > 0
        looks = [(look, samples), (clean_look, samples)] if compared else [(look, samples)]
        if self.finder is not None:
            where = network.whereabouts()
            there = self.finder(mixture, target)
            where.tell(there, torch.rand(len(mixture), device=mixture.device) < self.weights.told_share)
        estimate, voices = network(mixture, *looks)
        loss = self.distance(*(ears.flatten(0, 1)[:, None] for ears in (estimate, target)), mixture.flatten(0, 1))
        loss = loss + self._at_the_ears(estimate, target, mixture, str(network.window))
        if self.finder is not None:
            error = direction_error(where.said, there) + voice_error(where, there, talker)
            loss = loss + self.weights.whose * error
        if not compared:
            return loss
        noisy, clean = voices
        if self.weights.alignment:
            loss = loss + self.weights.alignment * alignment(noisy, clean)
        if self.weights.contrast:
            loss = loss + self.weights.contrast * contrast(noisy, clean, talker, self.weights.temperature)
        return loss

    def _at_the_ears(
        self, estimate: torch.Tensor, target: torch.Tensor, mixture: torch.Tensor, window: str
    ) -> torch.Tensor:
        """What leaks in pauses, and what is wrong between the ears: [B, 2, N] each -> scalar."""
        weights, error = self.weights, estimate.new_zeros(len(estimate))
        level = mixture.square().mean((1, 2), keepdim=True).clamp_min(SILENT_ENERGY).rsqrt()
        estimate, target, mixture = estimate * level, target * level, mixture * level
        if weights.pauses:
            error = error + weights.pauses * pause_leakage_db(estimate, target, mixture)
        if weights.level_difference or weights.phase_difference:
            levels, phases = interaural_errors(estimate, target, window)
            error = error + weights.level_difference * levels + weights.phase_difference * phases
        return error.mean()


@torch.no_grad()
def hear(network: nn.Module, scene: Scene, fabric: Fabric) -> np.ndarray:
    """What a network makes of a scene with its noisy look, float32 [2, samples]."""
    mixture, look = (torch.from_numpy(each)[None].to(fabric.device) for each in (scene.mixture, scene.look))
    heard, _ = network(mixture, (look, torch.tensor([look.shape[-1]])))
    return heard[0].cpu().float().numpy()
