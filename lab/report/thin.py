"""A long line → the few points of it that a screen can show, extremes kept."""

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

from lab.nouns import Vector

Rows = npt.NDArray[np.intp]


def columns_of(x: Vector, columns: int, low: float, high: float) -> Rows:
    """The pixel column, of `columns` between `low` and `high`, that each `x` falls into."""
    width = high - low
    share = (x - low) / width if width > 0 else np.zeros_like(x)
    return np.clip((share * columns).astype(np.intp), 0, columns - 1)


def thinned(x: Vector, y: Vector, *, columns: int, keep: Iterable[int] = ()) -> Rows:
    """Rows of the lowest and highest `y` in every pixel column, the first and last row, and those of `keep`.

    `x` ascends; a line of at most two points per column stays whole. Rows come back ascending.
    """
    if x.size <= 2 * columns:
        return np.arange(x.size)
    column = columns_of(x, columns, float(x[0]), float(x[-1]))
    starts = np.concatenate(([0], np.flatnonzero(np.diff(column)) + 1))
    sizes = np.diff(np.concatenate((starts, [x.size])))
    chosen = [np.array([0, x.size - 1, *keep], dtype=np.intp)]
    for extreme in (np.minimum, np.maximum):
        hits = np.flatnonzero(y == np.repeat(extreme.reduceat(y, starts), sizes))
        first = np.unique(column[hits], return_index=True)[1]
        chosen.append(hits[first])
    return np.unique(np.concatenate(chosen))
