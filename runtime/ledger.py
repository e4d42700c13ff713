"""The ledger: every delay between two points of the chain, by name."""

from collections.abc import Mapping


class Ledger(dict[str, float]):
    """Delays by name, in samples at `sample_rate`; a delay that a resampler causes may be fractional.

    Parameters
    ----------
    sample_rate : int
        The rate whose samples are counted, in Hz.
    delays : mapping of str to float
        In the order in which a sample meets them.
    """

    def __init__(self, sample_rate: int, delays: Mapping[str, float]):
        super().__init__(delays)
        self.sample_rate = sample_rate

    @property
    def total(self) -> float:
        """Sum of all delays in samples."""
        return sum(self.values())

    @property
    def total_ms(self) -> float:
        return 1000 * self.total / self.sample_rate

    def at_rate(self, sample_rate: int) -> "Ledger":
        """The same delays counted in samples of another rate."""
        scale = sample_rate / self.sample_rate
        return Ledger(sample_rate, {name: samples * scale for name, samples in self.items()})

    def __str__(self) -> str:
        rows = [*self.items(), ("total", self.total)]
        width = max(len(name) for name, _ in rows)
        return "\n".join(
            f"{name:<{width}} {samples:9.2f} samples {1000 * samples / self.sample_rate:7.2f} ms"
            for name, samples in rows
        )
