"""How to train, and what the best checkpoint is."""

import math
from dataclasses import dataclass

from ...runtime.errors import HearloopError
from ..simulation.corpus import SAMPLE_RATE

PRECISIONS = ("32-true", "bf16-mixed", "16-mixed")


@dataclass(frozen=True)
class Settings:
    """How to train. The run ends after `steps`, or after `minutes` of training if steps is 0.

    batch : items of a step, over all processes; seconds : length of an item
    largest_gradient : norm to which the gradient is clipped
    lookahead_weight : what a frame of lookahead costs, where layers learn how far to look ahead
    average_decay : of the exponential average of the weights, which is what is validated and kept
    precision : "32-true", "bf16-mixed" or "16-mixed", as in Lightning Fabric; on a CPU both of the latter mean that
        linear layers and GRUs multiply matrices in bfloat16, which gains where the processor has instructions for it
    hold_norms : whether batch norms keep the statistics they begin with; with few items in a step those of the step
        are too few to divide by, and not those that will run
    capture : whether to record what an accelerator of NVIDIA has to do in a step, and to play it again in every other
    workers : processes that make mixtures beside each process that trains; 0: it makes its own
    repeats : how often a batch is heard, where making one takes longer than learning from it (Choi et al., "Faster
        neural network training with data echoing", 2019); 16 batches are kept for that
    """

    minutes: float = 80.0
    steps: int = 0
    batch: int = 4
    seconds: float = 2.56
    learning_rate: float = 5e-3
    last_learning_rate: float = 2e-5
    warmup_steps: int = 100
    weight_decay: float = 1e-3
    largest_gradient: float = 20.0
    lookahead_weight: float = 0.0
    average_decay: float = 0.999
    precision: str = "32-true"
    hold_norms: bool = False
    capture: bool = False
    workers: int = 0
    repeats: int = 1
    validate_every: int = 250
    save_every: int = 50
    seed: int = 1

    @property
    def samples(self) -> int:
        """Length of an item, in whole frames of 8 ms."""
        return int(self.seconds * SAMPLE_RATE) // 128 * 128

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if isinstance(value, float) and not math.isfinite(value):
                raise HearloopError(f"{name} is {value}; expected a finite number")
        if self.steps <= 0 and self.minutes <= 0:
            raise HearloopError(f"minutes is {self.minutes} and steps is {self.steps}; expected one above zero")
        if self.batch < 1 or self.seconds < 0.5:
            raise HearloopError(f"batch is {self.batch}, seconds is {self.seconds}; expected at least 1 and 0.5")
        if self.repeats < 1:
            raise HearloopError(f"repeats is {self.repeats}; expected at least 1")
        if self.precision not in PRECISIONS:
            raise HearloopError(f"precision is {self.precision!r}; expected one of {', '.join(PRECISIONS)}")
        for name in ("validate_every", "save_every", "largest_gradient"):
            if getattr(self, name) <= 0:
                raise HearloopError(f"{name} is {getattr(self, name)}; expected more than zero")
        for name in (
            "steps",
            "workers",
            "warmup_steps",
            "learning_rate",
            "last_learning_rate",
            "weight_decay",
            "lookahead_weight",
        ):
            if getattr(self, name) < 0:
                raise HearloopError(f"{name} is {getattr(self, name)}; expected zero or more")
        if not 0 <= self.average_decay < 1:
            raise HearloopError(f"average_decay is {self.average_decay}; expected at least 0 and less than 1")
        if not 0 <= self.seed < 2**32:
            raise HearloopError(f"seed is {self.seed}; expected at least 0 and less than {2**32}")


@dataclass(frozen=True)
class Selection:
    """The score by which the best checkpoint is chosen: a weighted sum of what is measured on validation."""

    def score(self, found: dict[str, float]) -> float:
        """The score of what was measured."""
        return sum(getattr(self, name) * found[name] for name in self.__dataclass_fields__ if getattr(self, name))


@dataclass(frozen=True)
class SoundSelection(Selection):
    """For models that make sound.

    si_sdr_improvement_db : weight of the SI-SDR improvement in dB; of several talkers in their best order, of two ears
        the mean
    """

    si_sdr_improvement_db: float = 1.0


@dataclass(frozen=True)
class EnrollSelection(Selection):
    """For enrolment.

    confused_percent : weight of how often a look is more like one at somebody else than like one at the same talker;
        below zero, because less of it is better
    """

    confused_percent: float = -1.0


@dataclass(frozen=True)
class EnhanceSelection(SoundSelection):
    """For speech enhancement.

    pesq_wb : weight of the mean PESQ, wide-band; 0: it is not measured
    clean_si_sdr_db : weight of the SI-SDR of clean voices through the model
    """

    pesq_wb: float = 0.0
    clean_si_sdr_db: float = 0.0


@dataclass(frozen=True)
class SeparateSelection(SoundSelection):
    """For the separation of talkers.

    phantom_db : weight of the level of the quieter output over the louder where one talker speaks; below zero, because
        less of it is better
    """

    phantom_db: float = 0.0


@dataclass(frozen=True)
class TargetSelection(SoundSelection):
    """For target speech hearing.

    leakage_db : weight of what is left of the mixture while the target is silent; below zero, because less is better
    """

    leakage_db: float = 0.0
