"""hearloop average: one checkpoint of several, by the mean of their weights."""

import argparse
from pathlib import Path

from ..runtime.errors import HearloopError
from .files import check_writable


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "checkpoints",
        nargs="+",
        metavar="CHECKPOINT",
        help=".pt files of runs that have weights in common to begin with",
    )
    parser.add_argument("--shares", help="how much each counts, such as 0.3,0.7; all alike if not given")
    parser.add_argument("--out", required=True, type=Path, help=".pt file to write")


def run(options: argparse.Namespace) -> int:
    # torch is an extra: only the verbs that need it may import it.
    from ..models.training.checkpoint import read_checkpoint, write_checkpoint
    from ..models.training.checkpoint_mean import mean_of

    check_writable(options.out)
    contents = {path: read_checkpoint(path) for path in options.checkpoints}
    if len(contents) < len(options.checkpoints):
        raise HearloopError(f"checkpoints are {', '.join(options.checkpoints)}; expected each of them once")
    write_checkpoint(options.out, mean_of(contents, _shares(options.shares, len(contents))))
    print(f"{options.out}: the mean of {len(contents)} checkpoints; `hearloop evaluate` tells whether it is better")
    return 0


def _shares(given: str | None, count: int) -> list[float]:
    try:
        shares = [1.0] * count if given is None else [float(share) for share in given.split(",")]
    except ValueError:
        shares = []
    if len(shares) != count or min(shares) <= 0 or not sum(shares) < float("inf"):
        raise HearloopError(f"--shares is {given!r}; expected {count} numbers above zero, with commas between them")
    return [share / sum(shares) for share in shares]
