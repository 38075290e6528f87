"""Returns and the shape of single bars."""

import polars as pl

from lab.features.catalogue import feature
from lab.features.windows import rolling_sum

OPEN, HIGH, LOW, CLOSE = (pl.col(name) for name in ("open", "high", "low", "close"))
RANGE = HIGH - LOW


def log_change(bars: int = 1) -> pl.Expr:
    """ln(close / close `bars` bars ago)."""
    return (CLOSE / CLOSE.shift(bars)).log()


@feature(lookback=lambda window: window + 1)
def log_return(window: int = 1) -> pl.Expr:
    """ln(C / C[-window])."""
    return log_change(window)


@feature(lookback=lambda lag: lag + 2)
def lagged_return(lag: int = 1) -> pl.Expr:
    """One-bar log return of `lag` bars ago: ln(C[-lag] / C[-lag-1])."""
    return log_change().shift(lag)


@feature(lookback=2)
def open_gap() -> pl.Expr:
    """ln(O / C[-1]): the jump from the last close to this open."""
    return (OPEN / CLOSE.shift(1)).log()


@feature(lookback=1)
def bar_range() -> pl.Expr:
    """ln(H / L)."""
    return (HIGH / LOW).log()


@feature(lookback=1)
def body() -> pl.Expr:
    """(C - O) / (H - L), in [-1, 1]; null on a bar without range."""
    return (CLOSE - OPEN) / RANGE


@feature(lookback=1)
def upper_shadow() -> pl.Expr:
    """(H - max(O, C)) / (H - L), in [0, 1]; null on a bar without range."""
    return (HIGH - pl.max_horizontal(OPEN, CLOSE)) / RANGE


@feature(lookback=1)
def lower_shadow() -> pl.Expr:
    """(min(O, C) - L) / (H - L), in [0, 1]; null on a bar without range."""
    return (pl.min_horizontal(OPEN, CLOSE) - LOW) / RANGE


@feature(lookback=1)
def close_location() -> pl.Expr:
    """(2C - H - L) / (H - L): where the close lies in the bar, in [-1, 1]; null on a bar without range."""
    return (2 * CLOSE - HIGH - LOW) / RANGE


@feature(lookback=lambda window: window + 1)
def up_share(window: int = 20) -> pl.Expr:
    """Share of the last `window` bars that closed above the bar before."""
    rose = (CLOSE.diff() > 0).cast(pl.Float64)
    return rolling_sum(rose, window) / window


@feature(lookback=lambda window: window)
def range_position(window: int = 50) -> pl.Expr:
    """(C - lowest low) / (highest high - lowest low) of the last `window` bars; null without range."""
    lowest = LOW.rolling_min(window)
    return (CLOSE - lowest) / (HIGH.rolling_max(window) - lowest)
