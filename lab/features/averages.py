"""Averages of closes, and how far prices and averages are from each other."""

import math

import numpy as np

from lab.compiled import compiled, row
from lab.features.catalogue import feature
from lab.features.price import log_ratio
from lab.features.sharing import shared
from lab.features.windows import (
    absolute_change,
    ema,
    forget_first,
    relative_change,
    restarts,
    rolling_mean,
    rolling_sum,
    span_memory,
)
from lab.nouns import Ages, Formula, Vector


@shared
def macd_line(close: Vector, fast: int, slow: int, age: Ages) -> Vector:
    """EMA(fast) - EMA(slow) of closes."""
    return ema(close, fast, age) - ema(close, slow, age)


@shared
def weighted_mean(x: Vector, window: int, age: Ages) -> Vector:
    """Mean of the last `window` values, the latest weighing `window`, the oldest 1."""
    return linear_sum(x, window, age) / (window * (window + 1) / 2)


def hull(close: Vector, window: int, age: Ages) -> Vector:
    """Hull's average: of 2 WMA(window / 2) - WMA(window), a WMA over the root of `window`."""
    faster = 2 * weighted_mean(close, window // 2, age) - weighted_mean(close, window, age)
    return weighted_mean(faster, math.isqrt(window), age)


def triple_ema(close: Vector, span: int, age: Ages) -> tuple[Vector, Vector, Vector]:
    """The EMA, the EMA of it, and the EMA of that."""
    once = ema(close, span, age)
    twice = ema(once, span, age)
    return once, twice, ema(twice, span, age)


def adaptive_mean(close: Vector, window: int, memory: int, age: Ages) -> Vector:
    """Kaufman's average: an EMA as fast as one of 2 bars where prices went straight, of 30 where they went nowhere."""
    return adaptive_path(close, efficiency(close, window, age), memory, age)


@feature(lookback=lambda window: window)
def sma_distance(window: int = 50) -> Formula:
    """ln(C / simple average of `window` closes)."""
    return lambda close, age: log_ratio(close, rolling_mean(close, window, age))


@feature(lookback=lambda span: span_memory(span))
def ema_distance(span: int = 20) -> Formula:
    """ln(C / exponential average of closes, alpha = 2 / (span + 1))."""
    return lambda close, age: log_ratio(close, ema(close, span, age))


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

    def histogram(close: Vector, age: Ages) -> Vector:
        line = macd_line(close, fast, slow, age)
        return (line - ema(line, signal, age)) / close

    return histogram


@feature(lookback=lambda window: window)
def wma_distance(window: int = 20) -> Formula:
    """ln(C / average of `window` closes whose weights fall by equal steps, from `window` now to 1)."""
    return lambda close, age: log_ratio(close, weighted_mean(close, window, age))


@feature(lookback=lambda window: window + math.isqrt(window) - 1, least=2)
def hull_distance(window: int = 16) -> Formula:
    """ln(C / Hull average): WMA(√window) of 2 WMA(window / 2) - WMA(window), halves and roots cut. Hull (2005).

    Null where a crash bends that average below zero.
    """
    return lambda close, age: log_ratio(close, hull(close, window, age))


@feature(lookback=lambda window: window)
def trima_distance(window: int = 20) -> Formula:
    """ln(C / triangular average of `window` closes: the simple average of simple averages of half as many)."""

    def distance(close: Vector, age: Ages) -> Vector:
        outer = window // 2 + 1
        inner = window + 1 - outer
        return log_ratio(close, rolling_mean(rolling_mean(close, inner, age), outer, age))

    return distance


@feature(lookback=lambda span: 2 * span_memory(span) - 1)
def dema_distance(span: int = 20) -> Formula:
    """ln(C / double exponential average: 2 EMA - EMA of EMA). Mulloy (1994). Null where that is not positive."""

    def distance(close: Vector, age: Ages) -> Vector:
        once = ema(close, span, age)
        return log_ratio(close, (2 * once - ema(once, span, age)))

    return distance


@feature(lookback=lambda span: 3 * span_memory(span) - 2)
def tema_distance(span: int = 20) -> Formula:
    """ln(C / triple exponential average: 3 EMA - 3 EMA² + EMA³, powers meaning EMA of EMA). Mulloy (1994).

    Null where that average is not positive.
    """

    def distance(close: Vector, age: Ages) -> Vector:
        once, twice, thrice = triple_ema(close, span, age)
        return log_ratio(close, 3 * (once - twice) + thrice)

    return distance


@feature(lookback=lambda window, memory: 2 * memory + window)
def kama_distance(window: int = 10, memory: int = 250) -> Formula:
    """ln(C / Kaufman's adaptive average), 2 to 30 bars fast as efficiency_ratio(window) says. Kaufman (1995).

    It begins at a close between `memory` and 2 `memory` bars ago. Closes that did not move for `window` bars count as
    straight.
    """
    return lambda close, age: log_ratio(close, adaptive_mean(close, window, memory, age))


@feature(lookback=lambda fast, slow: max(fast, slow))
def sma_cross(fast: int = 10, slow: int = 50) -> Formula:
    """ln(simple average of `fast` closes / of `slow`): its sign changes where they cross."""
    return lambda close, age: log_ratio(rolling_mean(close, fast, age), rolling_mean(close, slow, age))


@feature(lookback=lambda fast, slow: max(span_memory(fast), span_memory(slow)))
def ema_cross(fast: int = 10, slow: int = 50) -> Formula:
    """ln(exponential average of span `fast` / of span `slow`): its sign changes where they cross."""
    return lambda close, age: log_ratio(ema(close, fast, age), ema(close, slow, age))


@feature(lookback=lambda span: 3 * span_memory(span) - 1)
def trix(span: int = 15) -> Formula:
    """Change of the EMA of the EMA of the EMA of closes in a bar, in percent. Hutson (1983)."""

    def percent(close: Vector, age: Ages) -> Vector:
        smooth = triple_ema(close, span, age)[2]
        return 100 * relative_change(smooth)

    return percent


@compiled
def linear_sum(x: Vector, window: int, age: Ages) -> Vector:
    """Sum of the last `window` values, the latest weighing `window`, the one before one less, the oldest 1."""
    n = x.size
    out = np.empty(n)
    # The weights of a tail fall from M to 1: the sum of its M sums from the block's end on.
    tail = np.zeros(window + 1)
    height = n // age.size
    for stretch in range(age.size):
        begin, end = stretch * height, (stretch + 1) * height
        for start in range(begin + -age[stretch] % window, end, window):
            total = weighted = 0.0
            for back in range(1, min(start - begin, window - 1) + 1):
                total += x[row(start - back)]
                weighted += total
                tail[row(window - back)] = weighted
            total = weighted = 0.0
            for t in range(start, min(start + window, end)):
                place = t - start + 1
                total += x[row(t)]
                weighted += place * x[row(t)]
                out[row(t)] = (window - place) * total + weighted + tail[row(place)]
    forget_first(out, window - 1, age)
    return out


@shared
def efficiency(close: Vector, window: int, age: Ages) -> Vector:
    """|C - C[-window]| / sum of the |C - C[-1]| between them, in [0, 1]; NaN without any move."""
    ratio: Vector = absolute_change(close, window) / rolling_sum(absolute_change(close), window, age)
    return ratio


@compiled
def adaptive_path(close: Vector, straight: Vector, memory: int, age: Ages) -> Vector:
    """An average between an EMA of 2 bars where `straight` is 1, or unknown, and one of 30 where it is 0.

    It begins anew every `memory` rows, at a close, and is used from one block later on.
    """
    out = np.empty(close.size)
    fast = 2 / (2 + 1)
    slow = 2 / (30 + 1)
    coming = np.nan
    for first, start, stop in restarts(close.size, memory, age):
        level = close[start] if start == first else coming
        coming = close[start]
        for t in range(start, stop):
            way = straight[row(t)]
            root = fast if math.isnan(way) else way * (fast - slow) + slow
            pace = root * root
            level += pace * (close[row(t)] - level)
            coming += pace * (close[row(t)] - coming)
            out[row(t)] = level
    return out
