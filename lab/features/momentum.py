"""Oscillators: how one-sided the recent moves were."""

import numpy as np

from lab.features.catalogue import feature
from lab.features.price import log_change
from lab.features.windows import (
    change,
    highest,
    lowest,
    rolling_mean,
    rolling_sum,
    rolling_zscore,
    wilder,
    wilder_memory,
)
from lab.nouns import Formula, Vector


def stochastic(high: Vector, low: Vector, close: Vector, window: int, age: int) -> Vector:
    """100 (C - lowest low) / (highest high - lowest low) of `window` bars."""
    bottom = lowest(low, window, age)
    return 100 * (close - bottom) / (highest(high, window, age) - bottom)


def relative_strength(close: Vector, window: int, age: int) -> Vector:
    """Wilder's RSI of closes; NaN where nothing moved."""
    moves = change(close)
    gains, losses = wilder(np.maximum(moves, 0.0), window, age), wilder(np.maximum(-moves, 0.0), window, age)
    return 100 * gains / (gains + losses)


@feature(lookback=lambda window: wilder_memory(window) + 1)
def rsi(window: int = 14) -> Formula:
    """Relative strength index, 100 gains / (gains + losses) in Wilder averages; null without any move.

    Wilder (1978).
    """
    return lambda close, age: relative_strength(close, window, age)


@feature(lookback=lambda window: window)
def stochastic_k(window: int = 14) -> Formula:
    """100 (C - lowest low) / (highest high - lowest low) of `window` bars; null without range. Lane (1984)."""
    return lambda high, low, close, age: stochastic(high, low, close, window, age)


@feature(lookback=lambda window, smoothing: window + smoothing - 1)
def stochastic_d(window: int = 14, smoothing: int = 3) -> Formula:
    """Mean of the last `smoothing` values of stochastic_k."""
    return lambda high, low, close, age: rolling_mean(stochastic(high, low, close, window, age), smoothing, age)


@feature(lookback=lambda window: window + 1)
def efficiency_ratio(window: int = 20) -> Formula:
    """|C - C[-window]| / sum of |C - C[-1]|, in [0, 1]: 1 is a straight line; null without any move. Kaufman (1995)."""
    return lambda close, age: np.abs(change(close, window)) / rolling_sum(np.abs(change(close)), window, age)


@feature(lookback=lambda window: window + 1, least=2)
def return_zscore(window: int = 60) -> Formula:
    """Latest log return against the mean and deviation of the last `window`; null where nothing moved."""
    return lambda close, age: rolling_zscore(log_change(close), window, age)


@feature(lookback=lambda window: 2 * window + 1)
def acceleration(window: int = 10) -> Formula:
    """Log return of the last `window` bars less that of the `window` bars before."""
    return lambda close: change(log_change(close, window), window)
