"""Short bars → longer ones."""

from dataclasses import replace
from datetime import timedelta

import numpy as np
import polars as pl

from lab.errors import UsageError
from lab.merging import MERGED, merged
from lab.nouns import (
    BAR_COLUMNS,
    INTERVALS,
    MICROSECOND,
    OPTIONAL_COLUMNS,
    TIME,
    Bars,
    Span,
    Vector,
    interval_length,
)


def resample(bars: Bars, interval: str, known: Span | None = None) -> Bars:
    """The bars of a longer interval, each from all of the short ones that the market had in it.

    There is a bar where at least one short one is, and where [open, close) lies in `known`: the stretch of time for
    which the bars are complete, from each symbol's first open to its last close where it is left out. A halt
    inside makes a bar of what was traded around it, as exchanges do.

    Volumes, trades and order flow are sums; vwap is weighted by volume; what stood at a close is that of the last
    short bar; any of these is null where a part is. The mean spread is left out: the time that each part stood for is
    not known. An interval that the short bars do not fill is a UsageError.
    """
    length, part = interval_length(interval), INTERVALS.get(bars.interval, timedelta.max)
    if length % part or length == part:
        fitting = [name for name, each in INTERVALS.items() if each > part and not each % part]
        raise UsageError(
            f"{bars.interval} bars do not fill {interval} bars",
            fix=f"choose one of: {', '.join(fitting)}" if fitting else "close bars of that interval from trades",
        )
    opened = pl.col("time") - part
    step = length // MICROSECOND
    closes = ((opened.dt.epoch("us") // step + 1) * step).cast(TIME)
    short = bars.frame.with_columns(longer=closes)
    begin = pl.lit(known.start) if known else opened.first().over("symbol")
    end = pl.lit(known.end) if known else pl.col("time").last().over("symbol")
    whole = short.filter(pl.col("longer") - length >= begin, pl.col("longer") <= end)
    return replace(bars, frame=_joined(whole), interval=interval)


def _joined(short: pl.DataFrame) -> pl.DataFrame:
    """One row for each symbol and `longer`, which becomes its time."""
    key = pl.struct("symbol", "longer")
    first = short.select((key != key.shift(1)).fill_null(True).arg_true()).to_series().cast(pl.Int64).to_numpy()
    columns = {name: _parts(short[name]) for name in short.columns if name in MERGED}
    joined = merged(columns, first)
    named = short.select("symbol", time="longer")[first]
    frame = named.hstack([pl.Series(name, values, nan_to_null=True) for name, values in joined.items()])
    return frame.select(name for name in (*BAR_COLUMNS, *OPTIONAL_COLUMNS) if name in frame.columns)


def _parts(column: pl.Series) -> Vector:
    """The values, NaN for null: so a sum that lacks a part is none."""
    return np.ascontiguousarray(column.to_numpy(), dtype=np.float64)
