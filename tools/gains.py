"""Gains of separated sources: as an option of the command line, and by keys while sound is running."""

import argparse

from ..runtime.controls import LARGEST_SOURCE_GAIN_DB, MUTED_DB, Controls

STEP_DB = 3.0
SOFTEST_DB = -60.0


def add_gains_argument(parser: argparse.ArgumentParser, effect: str) -> None:
    parser.add_argument(
        "--gains",
        type=parse_gains,
        default=(),
        metavar="DB,DB,...",
        help=f"of each source of a model that separates; off or -inf mutes one. {effect} "
        "If the first one is negative, write --gains=-12,0",
    )


def parse_gains(text: str) -> tuple[float, ...]:
    """Read "0,-12" or "off,0" in dB; how many there must be is for the model to say."""
    words = [word.strip().lower() for word in text.split(",")]
    try:
        return tuple(MUTED_DB if word in ("off", "-inf") else float(word) for word in words)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r}; expected a number of dB, or off, for each source") from None


class GainKeys:
    """Changes the gains of one source after the other; the first one is chosen at first.

    Parameters
    ----------
    controls : Controls
        Of a model that separates; of any other one nothing happens.
    """

    HELP = "1 to 9 choose a source, < > its gain, m mutes it"

    def __init__(self, controls: Controls):
        self._controls = controls
        self._chosen = 0
        self._unmuted_db: dict[int, float] = {}

    def press(self, key: str) -> None:
        gains = list(self._controls.source_gains_db)
        if key.isdecimal() and 1 <= int(key) <= len(gains):
            self._chosen = int(key) - 1
        elif gains and key in "<>,.m":
            gains[self._chosen] = self._changed(key, gains[self._chosen])
            self._controls.source_gains_db = gains

    def _changed(self, key: str, gain_db: float) -> float:
        """Whatever is pressed, a muted source is heard again, as it was before."""
        if gain_db == MUTED_DB:
            return self._unmuted_db.get(self._chosen, 0.0)
        if key == "m":
            self._unmuted_db[self._chosen] = gain_db
            return MUTED_DB
        step_db = STEP_DB if key in ">." else -STEP_DB
        return min(max(gain_db + step_db, SOFTEST_DB), LARGEST_SOURCE_GAIN_DB)

    def __str__(self) -> str:
        """For the line of status: "source *1 0 dB, 2 off"; the chosen one has a star."""
        told = ("off" if gain == MUTED_DB else f"{gain:g} dB" for gain in self._controls.source_gains_db)
        return "source " + ", ".join(
            f"{'*' if number == self._chosen else ''}{number + 1} {gain}" for number, gain in enumerate(told)
        )
