"""Averages, and how far and how straight prices went from them."""

import numpy as np

from lab.features.catalogue import feature
from lab.features.windows import (
    change,
    ema,
    lag,
    rolling_deviation,
    rolling_mean,
    span_memory,
    wilder,
    wilder_memory,
)
from lab.nouns import Formula, Vector


def macd_line(close: Vector, fast: int, slow: int, age: int) -> Vector:
    """EMA(fast) - EMA(slow) of closes."""
    return ema(close, fast, age) - ema(close, slow, age)


def directional(high: Vector, low: Vector, close: Vector, window: int, age: int) -> tuple[Vector, Vector]:
    """+DI and -DI: 100 × Wilder averages of directional moves over that of the true range; NaN without range."""
    up, down = change(high), -change(low)
    plus = np.where((up > down) & (up > 0), up, 0.0 * up)
    minus = np.where((down > up) & (down > 0), down, 0.0 * down)
    previous = lag(close)
    widest = np.maximum(high, previous) - np.minimum(low, previous)
    average_range, average_plus, average_minus = (wilder(x, window, age) for x in (widest, plus, minus))
    return 100 * average_plus / average_range, 100 * average_minus / average_range


def directional_index(high: Vector, low: Vector, close: Vector, window: int, age: int) -> Vector:
    """ADX: the Wilder average of DX = 100 |+DI - -DI| / (+DI + -DI), where a bar without direction counts 0."""
    plus, minus = directional(high, low, close, window, age)
    total = plus + minus
    dx = np.divide(100 * np.abs(plus - minus), total, out=np.zeros_like(total), where=total > 0)
    # Before the averages are complete nothing is known, which is not the same as no direction.
    dx[: wilder_memory(window)] = np.nan
    return wilder(dx, window, age)


@feature(lookback=lambda window: window)
def sma_distance(window: int = 50) -> Formula:
    """ln(C / simple average of `window` closes)."""
    return lambda close, age: np.log(close / rolling_mean(close, window, age))


@feature(lookback=lambda span: span_memory(span))
def ema_distance(span: int = 20) -> Formula:
    """ln(C / exponential average of closes, alpha = 2 / (span + 1))."""
    return lambda close, age: np.log(close / ema(close, span, age))


@feature(lookback=lambda fast, slow: max(span_memory(fast), span_memory(slow)))
def macd(fast: int = 12, slow: int = 26) -> Formula:
    """(EMA(fast) - EMA(slow)) / C. Appel (1979), as a share of the close."""
    return lambda close, age: macd_line(close, fast, slow, age) / close


@feature(lookback=lambda fast, slow, signal: max(span_memory(fast), span_memory(slow)) + span_memory(signal) - 1)
def macd_signal(fast: int = 12, slow: int = 26, signal: int = 9) -> Formula:
    """EMA(signal) of EMA(fast) - EMA(slow), as a share of the close."""
    return lambda close, age: ema(macd_line(close, fast, slow, age), signal, age) / close


@feature(lookback=lambda fast, slow, signal: max(span_memory(fast), span_memory(slow)) + span_memory(signal) - 1)
def macd_histogram(fast: int = 12, slow: int = 26, signal: int = 9) -> Formula:
    """macd less macd_signal, as a share of the close."""

    def histogram(close: Vector, age: int) -> Vector:
        line = macd_line(close, fast, slow, age)
        return (line - ema(line, signal, age)) / close

    return histogram


@feature(lookback=lambda window: wilder_memory(window) + 1)
def plus_di(window: int = 14) -> Formula:
    """+DI: 100 × upward directional movement over true range, in Wilder averages. Wilder (1978)."""
    return lambda high, low, close, age: directional(high, low, close, window, age)[0]


@feature(lookback=lambda window: wilder_memory(window) + 1)
def minus_di(window: int = 14) -> Formula:
    """-DI: 100 × downward directional movement over true range, in Wilder averages. Wilder (1978)."""
    return lambda high, low, close, age: directional(high, low, close, window, age)[1]


@feature(lookback=lambda window: 2 * wilder_memory(window))
def adx(window: int = 14) -> Formula:
    """Wilder average of DX = 100 |+DI - -DI| / (+DI + -DI); a bar without direction counts 0. Wilder (1978)."""
    return lambda high, low, close, age: directional_index(high, low, close, window, age)


@feature(lookback=lambda window: window, least=2)
def bollinger_position(window: int = 20, width: float = 2.0) -> Formula:
    """%b: (C - lower band) / (upper - lower), bands at `width` deviations (ddof 0); null on a flat window."""

    def position(close: Vector, age: int) -> Vector:
        deviation = rolling_deviation(close, window, age, ddof=0)
        return (close - rolling_mean(close, window, age) + width * deviation) / (2 * width * deviation)

    return position


@feature(lookback=lambda window: window, least=2)
def bollinger_width(window: int = 20, width: float = 2.0) -> Formula:
    """(upper - lower band) / simple average. Bollinger (2001)."""

    def spread(close: Vector, age: int) -> Vector:
        return 2 * width * rolling_deviation(close, window, age, ddof=0) / rolling_mean(close, window, age)

    return spread
