"""What an equity line says of itself: drawdowns with their recovery, returns month by month."""

from dataclasses import dataclass
from datetime import datetime, timedelta

import numpy as np
import polars as pl

from lab.nouns import MICROSECOND, Vector


@dataclass(frozen=True)
class Drawdown:
    """A fall from a peak: how deep (negative share of the peak), and when it began, bottomed and was made good."""

    depth: float
    peak: datetime
    trough: datetime
    recovery: datetime | None

    @property
    def fall(self) -> timedelta:
        return self.trough - self.peak

    @property
    def climb(self) -> timedelta | None:
        return self.recovery - self.trough if self.recovery else None


def underwater(equity: Vector) -> Vector:
    """Distance below the highest value so far, as a share of it; 0 at a new high, below -1 where money is owed.

    Undefined, and therefore 0 throughout, when the line does not start above zero.
    """
    if equity.size == 0 or equity[0] <= 0:
        return np.zeros_like(equity)
    return equity / np.maximum.accumulate(equity) - 1.0


def deepest(equity: Vector) -> tuple[int, int] | None:
    """Rows of the peak and the trough of the worst drawdown; None when the line never falls."""
    below = underwater(equity)
    if below.size == 0 or below.min() >= 0:
        return None
    trough = int(below.argmin())
    return int(equity[: trough + 1].argmax()), trough


def worst_drawdowns(time: pl.Series, equity: Vector, most: int = 5) -> list[Drawdown]:
    """The `most` deepest falls, deepest first; of equals, the earlier first."""
    below = underwater(equity)
    under = np.concatenate(([0], (below < 0).astype(np.int8), [0]))
    starts = np.flatnonzero(np.diff(under) == 1)
    ends = np.flatnonzero(np.diff(under) == -1)
    if starts.size == 0:
        return []
    depths = np.minimum.reduceat(below, starts)
    found = []
    for place in np.argsort(depths, kind="stable")[:most]:
        start, end = int(starts[place]), int(ends[place])
        found.append(
            Drawdown(
                depth=float(depths[place]),
                peak=time[start - 1],
                trough=time[start + int(below[start:end].argmin())],
                recovery=time[end] if end < below.size else None,
            )
        )
    return found


def period_returns(time: pl.Series, values: Vector, every: str) -> pl.DataFrame:
    """`start` and `change` of every calendar period (`1mo`, `1y`; UTC) that `values` run through.

    The first value is where the first period starts from. A bar that closes at midnight on the first belongs to
    the month that it ends. Null where the period before ended at or below zero.
    """
    if values.size < 2:
        return pl.DataFrame(schema={"start": time.dtype, "change": pl.Float64()})
    base = float(values[0])
    return (
        pl.DataFrame({"start": (time[1:] - MICROSECOND).dt.truncate(every), "value": values[1:]})
        .group_by("start", maintain_order=True)
        .agg(pl.col("value").last())
        .with_columns(before=pl.col("value").shift(1, fill_value=base))
        .select(
            "start",
            change=pl.when(pl.col("before") > 0).then(pl.col("value") / pl.col("before") - 1.0),
        )
    )
