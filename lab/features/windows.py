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
from lab.nouns import AGE, Vector

NEGLIGIBLE = 1e-12
ROUNDING = 1e-14


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


def rolling_deviation(value: pl.Expr, window: int, ddof: int = 1) -> pl.Expr:
    """Standard deviation of the last `window` values; null where one of them is."""
    return rolling_variance(value, window, ddof).sqrt()


def rolling_variance(value: pl.Expr, window: int, ddof: int = 1) -> pl.Expr:
    """Variance of the last `window` values; null where one of them is, and for no more values than `ddof`."""
    return mapped(lambda x, age: windowed_squares(x, window) / (window - ddof), value)


def wilder_mean(value: pl.Expr, window: int) -> pl.Expr:
    """Wilder's average over the last `wilder_memory(window)` values; null where one of them is."""
    return mapped(lambda x, age: wilder(x, window, age), value)


def ema(value: pl.Expr, span: int) -> pl.Expr:
    """Exponential moving average, alpha = 2 / (span + 1), over the last `span_memory(span)` values."""
    return mapped(lambda x, age: exponential_mean(x, (span - 1) / (span + 1), span_memory(span), age), value)


def rolling_correlation(x: pl.Expr, y: pl.Expr, window: int) -> pl.Expr:
    """Pearson correlation over the last `window` pairs; null where either is constant."""
    return mapped(lambda a, b, age: windowed_moments(a, b, window)[1], x, y)


def rolling_slope(x: pl.Expr, y: pl.Expr, window: int) -> pl.Expr:
    """Least-squares slope of y on x (with intercept) over the last `window` pairs; null where x is constant."""
    return mapped(lambda a, b, age: windowed_moments(a, b, window)[0], x, y)


def exponential_sum(value: pl.Expr, decay: float, length: int) -> pl.Expr:
    """Sum of the last `length` values, each weighing `decay` times the one after it; null where one is null."""
    return mapped(lambda x, age: decayed_sum(x, length, decay, age), value)


def wilder(x: Vector, window: int, age: int = 0) -> Vector:
    """Wilder's average, in which each value weighs 1 - 1/window of the next."""
    return exponential_mean(x, 1 - 1 / window, wilder_memory(window), age)


def exponential_mean(x: Vector, decay: float, length: int, age: int = 0) -> Vector:
    """Mean of the last `length` values with weights falling by `decay`; NaN where one is NaN."""
    if length > x.size:
        return np.full(x.size, np.nan)
    return decayed_sum(x, length, decay, age) / math.fsum(decay**k for k in range(length))


def change(x: Vector) -> Vector:
    """Each value less the one before; NaN for the first."""
    return np.diff(x, prepend=np.nan)


def mapped(kernel: Callable[..., Vector], *inputs: pl.Expr) -> pl.Expr:
    """A compiled function of whole columns, and the age of the first row, as an expression.

    Null goes in, and NaN comes back, as each other. `age` is the number of that row in its unbroken stretch: sums
    are cut at round ages, so that the last bars alone add up in the same order, to the bit, as among all of them.
    """

    def run(columns: Sequence[pl.Series]) -> pl.Series:
        *values, age = columns
        arrays = [np.ascontiguousarray(column.cast(pl.Float64).to_numpy()) for column in values]
        return pl.Series(kernel(*arrays, int(age[0]) if age.len() else 0), nan_to_null=True)

    return pl.map_batches([*inputs, pl.col(AGE)], run, return_dtype=pl.Float64)


@compiled
def decayed_sum(x: Vector, window: int, decay: float, age: int = 0) -> Vector:
    """Sum of the last `window` values, each weighing `decay` times the one after it; NaN where one is NaN.

    The rows are cut into blocks of `window`, the first value being number `age`; every window is the tail of one
    block and the head of the next, and both are built by addition alone (van Herk's decomposition, with weights).
    """
    n = x.size
    out = np.full(n, np.nan)
    if window > n:
        return out
    tail = np.zeros(window + 1)
    head = 0.0
    fading = 1.0
    last_nan = -1
    for t in range(n):
        place = (t + age) % window
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
def windowed_squares(x: Vector, window: int) -> Vector:
    """Squared deviations of the last `window` values from their own mean, summed; 0 where they are equal."""
    n = x.size
    out = np.full(n, np.nan)
    for t in range(window - 1, n):
        mean = 0.0
        for k in range(t - window + 1, t + 1):
            mean += x[k]
        mean /= window
        squares = 0.0
        for k in range(t - window + 1, t + 1):
            squares += (x[k] - mean) * (x[k] - mean)
        # Equal values leave deviations of rounding; a ratio to those would be noise.
        out[t] = 0.0 if squares <= window * (ROUNDING * mean) ** 2 else squares
    return out


@compiled
def windowed_moments(x: Vector, y: Vector, window: int) -> tuple[Vector, Vector]:
    """Over the last `window` pairs: slope of y on x, and correlation; NaN where x, or either, is constant.

    Each window is centred on its own means, so nothing that was there before it leaves a trace.
    """
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
        if xx > window * (ROUNDING * mean_x) ** 2:
            slope[t] = xy / xx
            if yy > window * (ROUNDING * mean_y) ** 2:
                correlation[t] = xy / math.sqrt(xx * yy)
    return slope, correlation
