"""Returns and the shape of single bars."""

import numpy as np
import polars as pl

from lab.features.catalogue import feature
from lab.features.windows import highest, lag, lowest, rolling_mean
from lab.nouns import Formula, Vector

OPEN, HIGH, LOW, CLOSE = (pl.col(name) for name in ("open", "high", "low", "close"))
RANGE = HIGH - LOW


def log_change(close: Vector, bars: int = 1) -> Vector:
    """ln(close / close `bars` bars ago)."""
    return np.log(close / lag(close, bars))


@feature(lookback=lambda window: window + 1)
def log_return(window: int = 1) -> Formula:
    """ln(C / C[-window])."""
    return lambda close: log_change(close, window)


@feature(lookback=lambda lag: lag + 2)
def lagged_return(lag: int = 1) -> Formula:
    """One-bar log return of `lag` bars ago: ln(C[-lag] / C[-lag-1])."""
    return (CLOSE / CLOSE.shift(1)).log().shift(lag)


@feature(lookback=2)
def open_gap() -> Formula:
    """ln(O / C[-1]): the jump from the last close to this open."""
    return (OPEN / CLOSE.shift(1)).log()


@feature(lookback=1)
def bar_range() -> Formula:
    """ln(H / L)."""
    return (HIGH / LOW).log()


@feature(lookback=1)
def body() -> Formula:
    """(C - O) / (H - L), in [-1, 1]; null on a bar without range."""
    return (CLOSE - OPEN) / RANGE


@feature(lookback=1)
def upper_shadow() -> Formula:
    """(H - max(O, C)) / (H - L), in [0, 1]; null on a bar without range."""
    return (HIGH - pl.max_horizontal(OPEN, CLOSE)) / RANGE


@feature(lookback=1)
def lower_shadow() -> Formula:
    """(min(O, C) - L) / (H - L), in [0, 1]; null on a bar without range."""
    return (pl.min_horizontal(OPEN, CLOSE) - LOW) / RANGE


@feature(lookback=1)
def close_location() -> Formula:
    """(2C - H - L) / (H - L): where the close lies in the bar, in [-1, 1]; null on a bar without range."""
    return (2 * CLOSE - HIGH - LOW) / RANGE


@feature(lookback=lambda window: window + 1)
def up_share(window: int = 20) -> Formula:
    """Share of the last `window` bars that closed above the bar before."""
    return lambda close, age: rolling_mean((close > lag(close)).astype(np.float64), window, age)


@feature(lookback=lambda window: window)
def range_position(window: int = 50) -> Formula:
    """(C - lowest low) / (highest high - lowest low) of the last `window` bars; null without range."""

    def position(high: Vector, low: Vector, close: Vector, age: int) -> Vector:
        bottom = lowest(low, window, age)
        return (close - bottom) / (highest(high, window, age) - bottom)

    return position
