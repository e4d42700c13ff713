"""What a training is for: one object per task says what an item is, what is minimised and what is measured."""

from collections.abc import Callable

from ...simulation.material import Material
from ..configuration import Configuration
from .enhance import Enhance
from .enroll import Enroll
from .separate import Separate
from .target import Target
from .task import Task

TASKS: dict[str, Callable[..., Task]] = {
    "enhance": Enhance,
    "separate": Separate,
    "target": Target,
    "enroll": Enroll,
}


def open_task(configuration: Configuration, training: Material, validation: Material) -> Task:
    """The task of a configuration, on material to train and to validate on.

    Raises
    ------
    HearloopError
        If the material is not enough for it, such as one without heads for target speech hearing.
    """
    return TASKS[configuration.task](configuration, training, validation)
