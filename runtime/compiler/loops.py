"""From addresses back to loops."""

import numpy as np


def loop_nest(columns: list[np.ndarray]) -> list[tuple[int, list[int]]] | None:
    """Find the nest of strided loops that visits all these offsets together.

    Parameters
    ----------
    columns : list of ndarray, int64, shape (n,)
        Offsets of several operands, element by element.

    Returns
    -------
    list of (size, strides), outermost loop first; one stride per column. None if the offsets are not regular: then
    one loop would have to run over a table.
    """
    table = np.stack([np.asarray(column, np.int64).ravel() for column in columns])
    nest: list[tuple[int, list[int]]] = []
    while table.shape[1] > 1:
        count = table.shape[1]
        stride = table[:, 1] - table[:, 0]
        breaks = np.nonzero((np.diff(table, axis=1) != stride[:, None]).any(axis=0))[0]
        size = count if not len(breaks) else int(breaks[0]) + 1
        while size > 1 and (count % size or not _repeats(table, size, stride)):
            size -= 1
        if size == 1:
            return None
        nest.insert(0, (size, stride.tolist()))
        table = table[:, ::size]
    return nest


def _repeats(table: np.ndarray, size: int, stride: np.ndarray) -> bool:
    blocks = table.reshape(len(table), -1, size)
    return bool((blocks == blocks[:, :, :1] + stride[:, None, None] * np.arange(size)).all())
