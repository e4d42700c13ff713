"""What a run writes down: a CSV table, and TensorBoard's events if asked for."""

import csv
from pathlib import Path
from typing import Any

from tqdm import tqdm

EFFORT = ("step", "minutes", "audio_hours")  # what TensorBoard needs no curve of


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
        """Write a row and show it; it has the key `step`, and the same keys as the rows before."""
        columns = self._columns(row)
        with open(self.path, "a", newline="", encoding="utf-8") as table:
            writer = csv.DictWriter(table, columns, extrasaction="ignore")
            if table.tell() == 0:
                writer.writeheader()
            writer.writerow(row)
        tqdm.write("  ".join(f"{name} {value}" for name, value in row.items()))
        if self._writer is not None:
            for name in row.keys() - set(EFFORT):
                self._writer.add_scalar(name, row[name], row["step"])
            self._writer.flush()

    def _columns(self, row: dict[str, Any]) -> list[str]:
        """Those of the table that is there, which an older version may have begun, or those of the row."""
        if not self.path.exists() or self.path.stat().st_size == 0:
            return list(row)
        with open(self.path, newline="", encoding="utf-8") as table:
            return next(csv.reader(table))
