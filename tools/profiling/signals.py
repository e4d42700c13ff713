"""What the models are given to hear while they are measured."""

from collections.abc import Callable

import numpy as np

from ...runtime.errors import HearloopError

BLOCKS = 64
SPEECH_LEVEL = 0.05  # -26 dBFS, as loud as speech
# Every signal begins with sound, so that what is remembered of it has to fade: there denormal numbers come from.
SOUND_BLOCKS = 64

_Generator = np.random.Generator

_KINDS: dict[str, Callable[[_Generator, tuple[int, ...]], np.ndarray]] = {
    "noise": lambda random, shape: SPEECH_LEVEL * random.standard_normal(shape),
    "silence": lambda random, shape: np.zeros(shape),
    "denormal": lambda random, shape: random.choice([-1e-40, 1e-40], shape),
    "loud": lambda random, shape: random.choice([-1.0, 1.0], shape),
}
SIGNALS = tuple(_KINDS)


class Signal:
    """Blocks of one shape, over and over.

    Parameters
    ----------
    kind : {"noise", "silence", "denormal", "loud"}
        Noise as loud as speech; after half a second of it zeros, or numbers below the smallest normal one; a full-scale
        square wave of random signs.
    shape : tuple of int
        Of a block.
    """

    def __init__(self, kind: str, shape: tuple[int, ...]):
        if kind not in _KINDS:
            raise HearloopError(f"signal is {kind!r}; expected one of {', '.join(SIGNALS)}")
        random = np.random.default_rng(1)
        self._sound = _KINDS["noise"](random, (BLOCKS, *shape)).astype(np.float32)
        self._blocks = _KINDS[kind](random, (BLOCKS, *shape)).astype(np.float32)

    def fill(self, index: int, room: np.ndarray) -> None:
        """Write block `index` of the signal."""
        blocks = self._sound if index < SOUND_BLOCKS else self._blocks
        np.copyto(room, blocks[index % BLOCKS])
