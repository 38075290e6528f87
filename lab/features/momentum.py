"""Oscillators: how one-sided the recent moves were."""

import numpy as np
import polars as pl

from lab.features.catalogue import feature
from lab.features.price import CLOSE, HIGH, LOW, log_change
from lab.features.windows import change, mapped, rolling_deviation, rolling_mean, rolling_sum, wilder, wilder_memory
from lab.nouns import Vector


def _stochastic(window: int) -> pl.Expr:
    lowest = LOW.rolling_min(window)
    return 100 * (CLOSE - lowest) / (HIGH.rolling_max(window) - lowest)


def relative_strength(close: Vector, window: int, age: int) -> Vector:
    """Wilder's RSI of closes; NaN where nothing moved."""
    moves = change(close)
    gains, losses = wilder(np.maximum(moves, 0.0), window, age), wilder(np.maximum(-moves, 0.0), window, age)
    with np.errstate(invalid="ignore"):
        return 100 * gains / (gains + losses)


@feature(lookback=lambda window: wilder_memory(window) + 1)
def rsi(window: int = 14) -> pl.Expr:
    """Relative strength index, 100 gains / (gains + losses) in Wilder averages; null without any move.

    Wilder (1978).
    """
    return mapped(lambda close, age: relative_strength(close, window, age), CLOSE)


@feature(lookback=lambda window: window)
def stochastic_k(window: int = 14) -> pl.Expr:
    """100 (C - lowest low) / (highest high - lowest low) of `window` bars; null without range. Lane (1984)."""
    return _stochastic(window)


@feature(lookback=lambda window, smoothing: window + smoothing - 1)
def stochastic_d(window: int = 14, smoothing: int = 3) -> pl.Expr:
    """Mean of the last `smoothing` values of stochastic_k."""
    return rolling_mean(_stochastic(window), smoothing)


@feature(lookback=lambda window: window + 1)
def efficiency_ratio(window: int = 20) -> pl.Expr:
    """|C - C[-window]| / sum of |C - C[-1]|, in [0, 1]: 1 is a straight line; null without any move. Kaufman (1995)."""
    return CLOSE.diff(window).abs() / rolling_sum(CLOSE.diff().abs(), window)


@feature(lookback=lambda window: window + 1, least=2)
def return_zscore(window: int = 60) -> pl.Expr:
    """Latest log return against the mean and deviation of the last `window`; null where nothing moved."""
    returns = log_change()
    return (returns - rolling_mean(returns, window)) / rolling_deviation(returns, window)


@feature(lookback=lambda window: 2 * window + 1)
def acceleration(window: int = 10) -> pl.Expr:
    """Log return of the last `window` bars less that of the `window` bars before."""
    return log_change(window) - log_change(window).shift(window)
