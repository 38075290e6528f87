"""The largest and smallest of a window, where they lie, ranks and quantiles; in the terms of windows.py."""

import math

import numpy as np

from lab.compiled import compiled, row
from lab.features.sharing import shared
from lab.features.windows import forget_first
from lab.nouns import Ages, Vector


@shared
@compiled
def highest(x: Vector, window: int, age: Ages) -> Vector:
    """The largest of the last `window` values."""
    return extreme(x, window, 1.0, age)


@shared
@compiled
def lowest(x: Vector, window: int, age: Ages) -> Vector:
    """The smallest of the last `window` values."""
    return extreme(x, window, -1.0, age)


@shared
@compiled
def since_highest(x: Vector, window: int, age: Ages, oldest: bool) -> Vector:
    """Bars since the largest of the last `window` values; of equal ones, since the oldest or the latest of them."""
    return since_extreme(x, window, 1.0, oldest, age)


@shared
@compiled
def since_lowest(x: Vector, window: int, age: Ages, oldest: bool) -> Vector:
    """Bars since the smallest of the last `window` values; of equal ones, since the oldest or the latest of them."""
    return since_extreme(x, window, -1.0, oldest, age)


@compiled
def extreme(x: Vector, window: int, sign: float, age: Ages) -> Vector:
    """The largest of the last `window` values, or with `sign` -1 the smallest."""
    n = x.size
    out = np.empty(n)
    tail = np.full(window + 1, -np.inf)
    height = n // age.size
    for stretch in range(age.size):
        begin, end = stretch * height, (stretch + 1) * height
        for start in range(begin + -age[stretch] % window, end, window):
            top = -np.inf
            for back in range(1, min(start - begin, window - 1) + 1):
                value = sign * x[row(start - back)]
                top = value if value > top else top
                tail[row(window - back)] = top
            top = -np.inf
            for t in range(start, min(start + window, end)):
                value = sign * x[row(t)]
                top = value if value > top else top
                before = tail[row(t - start + 1)]
                out[row(t)] = sign * (before if before > top else top)
    forget_missing(x, window, out)
    forget_first(out, window - 1, age)
    return out


@compiled
def since_extreme(x: Vector, window: int, sign: float, oldest: bool, age: Ages) -> Vector:
    """Bars since the largest of the last `window` values, or with `sign` -1 the smallest."""
    n = x.size
    out = np.empty(n)
    tail = np.full(window + 1, -np.inf)
    place = np.zeros(window + 1)  # of each tail's largest, in rows before the block
    height = n // age.size
    for stretch in range(age.size):
        begin, end = stretch * height, (stretch + 1) * height
        for start in range(begin + -age[stretch] % window, end, window):
            top, at = -np.inf, 0.0
            for back in range(1, min(start - begin, window - 1) + 1):
                value = sign * x[row(start - back)]
                is_top = value >= top if oldest else value > top
                top, at = (value, float(back)) if is_top else (top, at)
                tail[row(window - back)], place[row(window - back)] = top, at
            top, at = -np.inf, 0.0
            for t in range(start, min(start + window, end)):
                value = sign * x[row(t)]
                is_top = value > top if oldest else value >= top
                top, at = (value, float(t - start)) if is_top else (top, at)
                before = tail[row(t - start + 1)]
                is_before = before >= top if oldest else before > top
                out[row(t)] = float(t - start) + (place[row(t - start + 1)] if is_before else -at)
    forget_missing(x, window, out)
    forget_first(out, window - 1, age)
    return out


@compiled
def forget_missing(x: Vector, window: int, out: Vector) -> None:
    """Write NaN over the rows whose window holds a missing value."""
    missing = 0
    for t in range(x.size):
        missing += x[t] != x[t]
    if missing:
        latest = -window
        for t in range(x.size):
            latest = t if math.isnan(x[t]) else latest
            if t - latest < window:
                out[t] = np.nan


@shared
@compiled
def rolling_rank(x: Vector, window: int) -> Vector:
    """Rank of each value among the last `window`, as a share in (0, 1]; equal values share the mean of their ranks."""
    n = x.size
    out = np.full(n, np.nan)
    missing = -1
    for t in range(n):
        if math.isnan(x[row(t)]):
            missing = t
        if t >= window - 1 and (missing < 0 or t - missing >= window):
            less = 0
            equal = 0
            for k in range(t - window + 1, t + 1):
                less += x[row(k)] < x[row(t)]
                equal += x[row(k)] == x[row(t)]
            out[row(t)] = (less + (equal + 1) / 2) / window
    return out


@shared
@compiled
def rolling_quantile(x: Vector, window: int, share: float) -> Vector:
    """The `share` quantile of the last `window` values, between neighbours on a straight line."""
    n = x.size
    out = np.full(n, np.nan)
    ordered = np.empty(window)
    held = 0
    rank = share * (window - 1)
    below = int(rank)
    above = min(below + 1, window - 1)
    for t in range(n):
        if math.isnan(x[row(t)]):
            held = 0
            continue
        if held == window:
            gone = np.searchsorted(ordered, x[row(t - window)])
            ordered[gone : window - 1] = ordered[gone + 1 :]
            held -= 1
        at = np.searchsorted(ordered[:held], x[row(t)])
        for k in range(held, at, -1):
            ordered[row(k)] = ordered[row(k - 1)]
        ordered[row(at)] = x[row(t)]
        held += 1
        if held == window:
            out[row(t)] = ordered[row(below)] + (rank - below) * (ordered[row(above)] - ordered[row(below)])
    return out
