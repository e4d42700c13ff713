"""What a wearer can change while sound is running."""

import math

import numpy as np

from .errors import HearloopError

NO_LIMIT_DB = 100.0


class Controls:
    """Live controls; every change is checked here, and followed by the audio side in a short ramp.

    The audio side reads two numbers, `targets[0]` (weight of the dry signal) and `targets[1]` (output gain). Each is
    written in one piece, so that no lock is needed between the threads.

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
    """

    def __init__(
        self,
        attenuation_limit_db: float = NO_LIMIT_DB,
        mix: float = 1.0,
        output_gain_db: float = 0.0,
        bypass: bool = False,
    ):
        self.targets = np.array([0.0, 1.0], np.float32)
        self._limit_db, self._mix, self._gain_db, self._bypass = NO_LIMIT_DB, 1.0, 0.0, False
        self.attenuation_limit_db = attenuation_limit_db
        self.mix = mix
        self.output_gain_db = output_gain_db
        self.bypass = bypass

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

    def _publish(self) -> None:
        floor = 10 ** (-self._limit_db / 20) if self._limit_db < NO_LIMIT_DB else 0.0
        self.targets[0] = 1.0 if self._bypass else 1 - self._mix * (1 - floor)
        self.targets[1] = 10 ** (self._gain_db / 20)


def _checked(name: str, value: float, least: float, most: float) -> float:
    if not isinstance(value, (int, float, np.floating)) or math.isnan(value) or not least <= value <= most:
        raise HearloopError(f"control {name} is {value!r}; expected a number from {least:g} to {most:g}")
    return float(value)
