"""Windowed sums in one pass, exact about what they remember.

Running sums that add the new value and subtract the old one keep a residue of every value they ever saw: after a
jump, a flat window is not flat, and a ratio of two residues is noise. Here nothing is ever subtracted, so a result
depends on its own window alone, up to the rounding of that window's own sum.
"""

import math
from collections.abc import Callable, Sequence

import numpy as np
import polars as pl

from lab.compiled import compiled
from lab.nouns import Vector

NEGLIGIBLE = 1e-12


def memory(decay: float) -> int:
    """How many values an exponential average must see until what is cut off weighs under 1e-12."""
    return math.ceil(math.log(NEGLIGIBLE) / math.log(decay))


def wilder_memory(window: int) -> int:
    """Values that Wilder's average over `window` must see; each weighs 1 - 1/window of the next."""
    return memory(1 - 1 / window) if window > 1 else 1


def span_memory(span: int) -> int:
    """Values that an EMA of `span` must see; each weighs (span - 1) / (span + 1) of the next."""
    return memory((span - 1) / (span + 1)) if span > 1 else 1


def rolling_sum(value: pl.Expr, window: int) -> pl.Expr:
    """Sum of the last `window` values; null where one of them is."""
    return exponential_sum(value, 1.0, window)


def rolling_mean(value: pl.Expr, window: int) -> pl.Expr:
    """Mean of the last `window` values; null where one of them is."""
    return rolling_sum(value, window) / window


def wilder_mean(value: pl.Expr, window: int) -> pl.Expr:
    """Wilder's average over the last `wilder_memory(window)` values; null where one of them is."""
    return mapped(lambda x: wilder(x, window), value)


def ema(value: pl.Expr, span: int) -> pl.Expr:
    """Exponential moving average, alpha = 2 / (span + 1), over the last `span_memory(span)` values."""
    return mapped(lambda x: exponential_mean(x, (span - 1) / (span + 1), span_memory(span)), value)


def rolling_correlation(x: pl.Expr, y: pl.Expr, window: int) -> pl.Expr:
    """Pearson correlation over the last `window` pairs; null where either is constant."""
    return mapped(lambda a, b: windowed_moments(a, b, window)[1], x, y)


def rolling_slope(x: pl.Expr, y: pl.Expr, window: int) -> pl.Expr:
    """Least-squares slope of y on x (with intercept) over the last `window` pairs; null where x is constant."""
    return mapped(lambda a, b: windowed_moments(a, b, window)[0], x, y)


def exponential_sum(value: pl.Expr, decay: float, length: int) -> pl.Expr:
    """Sum of the last `length` values, each weighing `decay` times the one after it; null where one is null."""
    return mapped(lambda x: decayed_sum(x, length, decay), value)


def wilder(x: Vector, window: int) -> Vector:
    """Wilder's average, in which each value weighs 1 - 1/window of the next."""
    return exponential_mean(x, 1 - 1 / window, wilder_memory(window))


def exponential_mean(x: Vector, decay: float, length: int) -> Vector:
    """Mean of the last `length` values with weights falling by `decay`; NaN where one is NaN."""
    return decayed_sum(x, length, decay) / math.fsum(decay**k for k in range(length))


def aligned(changes: Vector, levels: Vector) -> Vector:
    """Values of the bar-to-bar changes of `levels`, with NaN for the first bars, which have none."""
    return np.concatenate([np.full(levels.size - changes.size, np.nan), changes])


def mapped(kernel: Callable[..., Vector], *inputs: pl.Expr) -> pl.Expr:
    """A compiled function of whole columns as an expression; null goes in, and NaN comes back, as each other."""

    def run(columns: Sequence[pl.Series]) -> pl.Series:
        arrays = [np.ascontiguousarray(column.cast(pl.Float64).to_numpy()) for column in columns]
        return pl.Series(kernel(*arrays), nan_to_null=True)

    return pl.map_batches(list(inputs), run, return_dtype=pl.Float64)


@compiled
def decayed_sum(x: Vector, window: int, decay: float) -> Vector:
    """Sum of the last `window` values, each weighing `decay` times the one after it; NaN where one is NaN.

    The rows are cut into blocks of `window`; every window is the tail of one block and the head of the next, and
    both are built by addition alone (van Herk's decomposition, with weights).
    """
    n = x.size
    out = np.full(n, np.nan)
    tail = np.zeros(window + 1)
    head = 0.0
    fading = 1.0
    last_nan = -1
    for t in range(n):
        place = t % window
        if place == 0:
            tail[window] = 0.0
            weight = 1.0
            for k in range(window - 1, -1, -1):
                at = t - window + k
                seen = at >= 0 and not math.isnan(x[at])
                tail[k] = tail[k + 1] + (weight * x[at] if seen else 0.0)
                weight *= decay
            head = 0.0
            fading = 1.0
        fading *= decay
        if math.isnan(x[t]):
            last_nan = t
        head = head * decay + (0.0 if math.isnan(x[t]) else x[t])
        if t >= window - 1 and t - last_nan >= min(window, t + 1):
            out[t] = head + fading * tail[place + 1]
    return out


@compiled
def windowed_moments(x: Vector, y: Vector, window: int) -> tuple[Vector, Vector]:
    """Slope of y on x and correlation of both over the last `window` pairs, each window centred on its own means."""
    n = x.size
    slope = np.full(n, np.nan)
    correlation = np.full(n, np.nan)
    for t in range(window - 1, n):
        mean_x = 0.0
        mean_y = 0.0
        for k in range(t - window + 1, t + 1):
            mean_x += x[k]
            mean_y += y[k]
        mean_x /= window
        mean_y /= window
        xx = 0.0
        yy = 0.0
        xy = 0.0
        for k in range(t - window + 1, t + 1):
            dx = x[k] - mean_x
            dy = y[k] - mean_y
            xx += dx * dx
            yy += dy * dy
            xy += dx * dy
        if xx > 0.0:
            slope[t] = xy / xx
            if yy > 0.0:
                correlation[t] = xy / math.sqrt(xx * yy)
    return slope, correlation
