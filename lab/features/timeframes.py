"""Any feature on larger bars, as of the last of them that had closed: `rsi(14)@1h`."""

import math
from dataclasses import replace

import numpy as np
import polars as pl

from lab.compiled import compiled
from lab.errors import UsageError
from lab.features.computing import applied, expressions
from lab.features.formulas import taking
from lab.merging import MERGED, Rows, merged
from lab.nouns import AGE, INTERVALS, MICROSECOND, Feature, Vector, interval_length


def on_larger_bars(feature: Feature, interval: str, base: str) -> Feature:
    """`feature` on bars of `interval` that are made of the `base` bars at hand, known since the last of them closed.

    A larger bar counts once the moment of its close has passed: at the close of its last bar, or where that one is
    missing, of the first after it. The first one of a stretch counts only if it is whole.
    """
    length, part = interval_length(interval), INTERVALS.get(base)
    if part is None or length <= part or length % part:
        fitting = [name for name, each in INTERVALS.items() if part and each > part and not each % part]
        raise UsageError(
            f"{base} bars do not fill {interval} bars",
            fix=f"write @ and one of: {', '.join(fitting)}" if fitting else f"leave @{interval} out",
        )
    if feature.across or "time" in feature.needs:
        raise UsageError(
            f"{feature.name} looks at the clock or at other symbols, and is not computed on larger bars",
            fix=f"leave @{interval} out",
        )
    if unfit := [name for name in feature.needs if name not in MERGED]:
        raise UsageError(f"{unfit[0]} has no value on larger bars", fix=f"leave @{interval} out of {feature.name}")
    # A larger bar is made of all its columns' parts; a weighted price needs its weights.
    names = sorted({*feature.needs, *(["volume"] if "vwap" in feature.needs else [])} or {"close"})
    step, short = length // MICROSECOND, part // MICROSECOND

    def formula(time: Vector, *columns: Vector) -> Vector:
        number = (time - 1) // step
        first = np.flatnonzero(np.diff(number, prepend=-1))
        values = _over_larger(feature, dict(zip(names, columns, strict=True)), first, int(number[0]) + 1)
        if time[0] - short > number[0] * step:  # the stretch begins within this larger bar
            values[: feature.lookback] = np.nan
        last = np.append(first[1:], time.size) - 1
        known_from = last + (time[last] != (number[last] + 1) * step)
        at = np.searchsorted(known_from, np.arange(time.size), side="right") - 1
        return np.where(at >= 0, values[at], np.nan)

    ratio = length // part
    return replace(
        feature,
        name=f"{feature.name}_{interval}",
        meaning=f"{feature.meaning} On closed {interval} bars.",
        formula=taking(["time", *names], formula),
        lookback=(feature.lookback + 1) * ratio - 1,
        interval=base,
        end_to_end=False,
    )


def _over_larger(feature: Feature, columns: dict[str, Vector], first: Rows, age: int) -> Vector:
    """The feature over the larger bars that begin at these rows; their age is counted from 1970, so as to be one."""
    larger = merged(columns, first)
    if isinstance(feature.formula, pl.Expr):
        frame = pl.DataFrame({name: pl.Series(column, nan_to_null=True) for name, column in larger.items()})
        values = expressions(frame, [feature], age)[feature.name]
    else:
        values = applied(feature, {**larger, AGE: np.array([age])})
    return settled(values, feature.lookback)


@compiled
def settled(x: Vector, lookback: int) -> Vector:
    """`x` with NaN where there is no finite number, and on the rows that have no `lookback` before them."""
    out = np.empty(x.size)
    for t in range(x.size):
        out[t] = x[t] if t >= lookback - 1 and math.isfinite(x[t]) else np.nan
    return out
