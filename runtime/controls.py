"""What a wearer can change while sound is running."""

import math
from collections.abc import Sequence

import numpy as np

from .errors import HearloopError

NO_LIMIT_DB = 100.0
MUTED_DB = -math.inf
LARGEST_SOURCE_GAIN_DB = 20.0


class Controls:
    """Live controls; every change is checked here, and followed by the audio side in a short ramp.

    The audio side reads numbers: `targets[0]` (weight of the dry signal), `targets[1]` (output gain), `source_targets`
    (gain of each source), and `voice_target` (the map of the voice that is to be heard). Each is written in one piece,
    so that no lock is needed between the threads.

    Attributes
    ----------
    attenuation_limit_db : float
        At most so much is taken away from what the model removes: the dry signal is mixed in at minus this many dB.
        0 is dry, 100 and above is no limit.
    mix : float
        0 is dry, 1 is wet.
    output_gain_db : float
        -60 to 30 dB, before the limiter.
    bypass : bool
        True is dry, whatever the other controls say.
    source_gains_db : tuple of float
        With a model that separates: gain of each source in the remix, up to 20 dB; -inf is mute. At first all are 0 dB.
        Empty for any other model.
    """

    def __init__(
        self,
        attenuation_limit_db: float = NO_LIMIT_DB,
        mix: float = 1.0,
        output_gain_db: float = 0.0,
        bypass: bool = False,
        source_gains_db: Sequence[float] = (),
    ):
        self.targets = np.array([0.0, 1.0], np.float32)
        self.source_targets = np.ones(1, np.float32)
        self.voice_target = np.zeros(0, np.float32)
        self._expected: int | None = None  # number of gains, once the model is known
        self._limit_db, self._mix, self._gain_db, self._bypass = NO_LIMIT_DB, 1.0, 0.0, False
        self.attenuation_limit_db = attenuation_limit_db
        self.mix = mix
        self.output_gain_db = output_gain_db
        self.bypass = bypass
        self.source_gains_db = source_gains_db

    def expect_sources(self, sources: int, model: str) -> None:
        """Belong to a model that gives so many sources; gains for one that gave another number are forgotten.

        Raises
        ------
        HearloopError
            If gains were given, and not as many.
        """
        expected = sources if sources > 1 else 0
        given = self._source_gains_db if self._expected in (None, expected) else ()
        if given and not expected:
            raise HearloopError(
                f"control source_gains_db has {len(given)} gain(s), but model {model!r} does not separate its input; "
                "expected none"
            )
        if given and len(given) != expected:
            raise HearloopError(
                f"control source_gains_db has {len(given)} gain(s), but model {model!r} gives {sources} sources; "
                f"expected {sources}"
            )
        self._expected = expected
        if len(self.source_targets) != sources:
            self.source_targets = np.ones(sources, np.float32)
        self.source_gains_db = given or (0.0,) * expected

    def steer(self, voice_map: np.ndarray) -> None:
        """Hear another voice: what `voice.steering_map` gives. The first call says how large the map is.

        A frame that comes while the map is being written hears some of both voices, as those of the cross-fade do.

        Raises
        ------
        HearloopError
            If the map has another size than before, or holds values that are not finite.
        """
        values = np.ravel(voice_map).astype(np.float32)
        if not len(self.voice_target):
            self.voice_target = np.zeros_like(values)
        if len(values) != len(self.voice_target) or not np.isfinite(values).all():
            raise HearloopError(
                f"the map of the voice has {len(values)} values, {np.count_nonzero(~np.isfinite(values))} of them not "
                f"finite; expected {len(self.voice_target)} finite ones"
            )
        self.voice_target[:] = values

    @property
    def attenuation_limit_db(self) -> float:
        return self._limit_db

    @attenuation_limit_db.setter
    def attenuation_limit_db(self, value: float) -> None:
        self._limit_db = min(_checked("attenuation_limit_db", value, 0, math.inf), NO_LIMIT_DB)
        self._publish()

    @property
    def mix(self) -> float:
        return self._mix

    @mix.setter
    def mix(self, value: float) -> None:
        self._mix = _checked("mix", value, 0, 1)
        self._publish()

    @property
    def output_gain_db(self) -> float:
        return self._gain_db

    @output_gain_db.setter
    def output_gain_db(self, value: float) -> None:
        self._gain_db = _checked("output_gain_db", value, -60, 30)
        self._publish()

    @property
    def bypass(self) -> bool:
        return self._bypass

    @bypass.setter
    def bypass(self, value: bool) -> None:
        self._bypass = bool(value)
        self._publish()

    @property
    def source_gains_db(self) -> tuple[float, ...]:
        return self._source_gains_db

    @source_gains_db.setter
    def source_gains_db(self, value: Sequence[float]) -> None:
        if not isinstance(value, Sequence) and np.ndim(value) != 1:
            raise HearloopError(f"control source_gains_db is {value!r}; expected a number for each source")
        gains = tuple(_checked("source_gains_db", gain, MUTED_DB, LARGEST_SOURCE_GAIN_DB) for gain in value)
        if self._expected is not None and len(gains) != self._expected:
            raise HearloopError(f"control source_gains_db has {len(gains)} gain(s); expected {self._expected}")
        self._source_gains_db = gains
        if self._expected:
            for source, gain in enumerate(gains):
                self.source_targets[source] = 10 ** (gain / 20)

    def _publish(self) -> None:
        floor = 10 ** (-self._limit_db / 20) if self._limit_db < NO_LIMIT_DB else 0.0
        self.targets[0] = 1.0 if self._bypass else 1 - self._mix * (1 - floor)
        self.targets[1] = 10 ** (self._gain_db / 20)


def _checked(name: str, value: float, least: float, most: float) -> float:
    if not isinstance(value, (int, float, np.integer, np.floating)) or math.isnan(value) or not least <= value <= most:
        raise HearloopError(f"control {name} is {value!r}; expected a number from {least:g} to {most:g}")
    return float(value)
