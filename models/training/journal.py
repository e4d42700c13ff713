"""What a run writes down: a CSV table, and TensorBoard's events if asked for."""

import csv
from pathlib import Path
from typing import Any

from tqdm import tqdm

COLUMNS = (
    "step",
    "minutes",
    "audio_hours",
    "learning_rate",
    "loss",
    "si_sdr_improvement_db",
    "clean_si_sdr_db",
    "pesq_wb",
    "score",
)


class Journal:
    """Appends a row per validation to `log.csv` in a folder; an empty cell is what was not measured.

    Parameters
    ----------
    folder : Path
    tensorboard : bool
        Write the same numbers to `tensorboard/` there; needs the package `tensorboard`.
    """

    def __init__(self, folder: Path, tensorboard: bool = False):
        self.path = folder / "log.csv"
        self._writer: Any = None
        if tensorboard:
            from torch.utils.tensorboard import SummaryWriter

            self._writer = SummaryWriter(str(folder / "tensorboard"))

    def write(self, row: dict[str, Any]) -> None:
        """Write a row, whose keys are of COLUMNS, and show it."""
        columns = self._columns()
        with open(self.path, "a", newline="", encoding="utf-8") as table:
            writer = csv.DictWriter(table, columns, extrasaction="ignore")
            if table.tell() == 0:
                writer.writeheader()
            writer.writerow(row)
        tqdm.write("  ".join(f"{name} {value}" for name, value in row.items()))
        if self._writer is not None:
            for name in COLUMNS[3:]:
                if name in row:
                    self._writer.add_scalar(name, row[name], row["step"])
            self._writer.flush()

    def _columns(self) -> list[str]:
        """Those of the table that is there, which an older version may have begun, or COLUMNS."""
        if not self.path.exists() or self.path.stat().st_size == 0:
            return list(COLUMNS)
        with open(self.path, newline="", encoding="utf-8") as table:
            return next(csv.reader(table))
