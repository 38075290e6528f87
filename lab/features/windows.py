"""Windows over a column, in one pass, exact about what they remember.

A running sum that adds the new value and takes the old one off keeps a residue of every value it ever saw: after a
jump, a flat window is not flat, and a ratio of two residues is noise. Here nothing is ever taken off. Rows are cut
into blocks of one window's length; every window is the tail of one block and the head of the next, and both are built
by addition alone (van Herk's decomposition). Squares and products are taken about the first value of the head, which
every such window contains: so a flat window has a deviation of exactly 0, and no cancellation costs more digits than
the window is long.

Everywhere `x` is one column of one unbroken stretch, NaN where a value is missing, and `age` the number of its first
row in that stretch: blocks are cut at round ages, so that the last bars alone add up in the same order, to the bit, as
among all of them. A result is NaN until its window is full, and while a value in it is missing.
"""

import math
from collections.abc import Callable

import numpy as np

from lab.compiled import compiled
from lab.nouns import Vector

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


def restarted(kernel: Callable[..., Vector], memory: int, age: int, *inputs: Vector) -> Vector:
    """A recursion without a fixed memory, begun anew for every block of `memory` rows, one block earlier.

    `kernel` takes the inputs of some rows and returns one value a row, each resting on that row and earlier ones of
    its own rows only. Its values then rest on between `memory` and 2 `memory` rows: the look-back is 2 `memory`.
    """
    n = inputs[0].size
    out = np.empty(n)
    for begin in range(-(age % memory), n, memory):
        first, start, stop = max(begin - memory, 0), max(begin, 0), min(begin + memory, n)
        out[start:stop] = kernel(*(x[first:stop] for x in inputs))[start - first :]
    return out


def lag(x: Vector, bars: int = 1) -> Vector:
    """Each value `bars` rows earlier."""
    out = np.full(x.size, np.nan)
    if bars < x.size:
        out[bars:] = x[: x.size - bars]
    return out


def change(x: Vector, bars: int = 1) -> Vector:
    """Each value less the one `bars` rows before."""
    return x - lag(x, bars)


def rolling_mean(x: Vector, window: int, age: int) -> Vector:
    """Mean of the last `window` values."""
    return rolling_sum(x, window, age) / window


def rolling_deviation(x: Vector, window: int, age: int, ddof: int = 1) -> Vector:
    """Standard deviation of the last `window` values; NaN for no more values than `ddof`."""
    return np.sqrt(rolling_variance(x, window, age, ddof))


def rolling_variance(x: Vector, window: int, age: int, ddof: int = 1) -> Vector:
    """Variance of the last `window` values; NaN for no more values than `ddof`."""
    return rolling_squares(x, window, age)[1] / (window - ddof)


def rolling_zscore(x: Vector, window: int, age: int) -> Vector:
    """Each value against the mean and deviation (ddof 1) of the last `window`; NaN where they are equal."""
    mean, squares = rolling_squares(x, window, age)
    return (x - mean) / np.sqrt(squares / (window - 1))


def rolling_covariance(x: Vector, y: Vector, window: int, age: int) -> Vector:
    """Covariance (ddof 1) of the last `window` pairs."""
    return rolling_products(x, y, window, age)[2] / (window - 1)


def rolling_slope(x: Vector, y: Vector, window: int, age: int) -> Vector:
    """Least-squares slope of y on x (with intercept) over the last `window` pairs; NaN where x is constant."""
    xx, _, xy = rolling_products(x, y, window, age)
    return xy / xx


def rolling_correlation(x: Vector, y: Vector, window: int, age: int) -> Vector:
    """Pearson correlation over the last `window` pairs; NaN where either is constant."""
    xx, yy, xy = rolling_products(x, y, window, age)
    return np.clip(xy / np.sqrt(xx * yy), -1.0, 1.0)


def wilder(x: Vector, window: int, age: int) -> Vector:
    """Wilder's average, in which each value weighs 1 - 1/window of the next, over `wilder_memory(window)` values."""
    return exponential_mean(x, 1 - 1 / window, wilder_memory(window), age)


def ema(x: Vector, span: int, age: int) -> Vector:
    """Exponential moving average, alpha = 2 / (span + 1), over the last `span_memory(span)` values."""
    return exponential_mean(x, (span - 1) / (span + 1), span_memory(span), age)


def exponential_mean(x: Vector, decay: float, length: int, age: int) -> Vector:
    """Mean of the last `length` values with weights falling by `decay`."""
    return exponential_sum(x, decay, length, age) / math.fsum(decay**k for k in range(length))


@compiled
def rolling_sum(x: Vector, window: int, age: int) -> Vector:
    """Sum of the last `window` values."""
    n = x.size
    out = np.full(n, np.nan)
    if window > n:
        return out
    tail = np.zeros(window + 1)
    head = 0.0
    place = (age - 1) % window
    for t in range(n):
        place += 1
        if place == window:
            place = 0
            head = 0.0
            for back in range(1, min(t, window - 1) + 1):
                tail[window - back] = tail[window - back + 1] + x[t - back]
        head += x[t]
        if t >= window - 1:
            out[t] = head + tail[place + 1]
    return out


@compiled
def exponential_sum(x: Vector, decay: float, length: int, age: int) -> Vector:
    """Sum of the last `length` values, each weighing `decay` times the one after it."""
    n = x.size
    out = np.full(n, np.nan)
    if length > n:
        return out
    tail = np.zeros(length + 1)
    head = 0.0
    fading = 1.0
    place = (age - 1) % length
    for t in range(n):
        place += 1
        if place == length:
            place = 0
            head = 0.0
            fading = 1.0
            weight = 1.0
            for back in range(1, min(t, length - 1) + 1):
                tail[length - back] = tail[length - back + 1] + weight * x[t - back]
                weight *= decay
        fading *= decay
        head = head * decay + x[t]
        if t >= length - 1:
            out[t] = head + fading * tail[place + 1]
    return out


@compiled
def rolling_squares(x: Vector, window: int, age: int) -> tuple[Vector, Vector]:
    """Over the last `window` values: their mean, and their squared deviations from it, summed.

    Values that are equal but for rounding have no deviation: the sum is exactly 0.
    """
    n = x.size
    mean = np.full(n, np.nan)
    squares = np.full(n, np.nan)
    if window > n:
        return mean, squares
    tail_1 = np.zeros(window + 1)
    tail_2 = np.zeros(window + 1)
    head_1 = head_2 = centre = 0.0
    place = (age - 1) % window
    for t in range(n):
        place += 1
        if place == window:
            place = 0
            centre = x[t]
            head_1 = head_2 = 0.0
            for back in range(1, min(t, window - 1) + 1):
                away = x[t - back] - centre
                tail_1[window - back] = tail_1[window - back + 1] + away
                tail_2[window - back] = tail_2[window - back + 1] + away * away
        away = x[t] - centre
        head_1 += away
        head_2 += away * away
        if t >= window - 1:
            first = head_1 + tail_1[place + 1]
            mean[t] = centre + first / window
            second = head_2 + tail_2[place + 1] - first * first / window
            squares[t] = 0.0 if second <= window * (ROUNDING * mean[t]) ** 2 else second
    return mean, squares


@compiled
def rolling_shape(x: Vector, window: int, age: int) -> tuple[Vector, Vector]:
    """Skewness and excess kurtosis (population moments) of the last `window` values; NaN where they are equal."""
    n = x.size
    skew = np.full(n, np.nan)
    kurtosis = np.full(n, np.nan)
    if window > n:
        return skew, kurtosis
    tail = np.zeros((window + 1, 4))
    head_1 = head_2 = head_3 = head_4 = centre = 0.0
    place = (age - 1) % window
    for t in range(n):
        place += 1
        if place == window:
            place = 0
            centre = x[t]
            head_1 = head_2 = head_3 = head_4 = 0.0
            for back in range(1, min(t, window - 1) + 1):
                away = x[t - back] - centre
                squared = away * away
                at = window - back
                tail[at, 0] = tail[at + 1, 0] + away
                tail[at, 1] = tail[at + 1, 1] + squared
                tail[at, 2] = tail[at + 1, 2] + squared * away
                tail[at, 3] = tail[at + 1, 3] + squared * squared
        away = x[t] - centre
        squared = away * away
        head_1 += away
        head_2 += squared
        head_3 += squared * away
        head_4 += squared * squared
        if t >= window - 1:
            d = (head_1 + tail[place + 1, 0]) / window
            second = (head_2 + tail[place + 1, 1]) / window
            third = (head_3 + tail[place + 1, 2]) / window
            fourth = (head_4 + tail[place + 1, 3]) / window
            variance = second - d * d
            if variance > (ROUNDING * (centre + d)) ** 2:
                skew[t] = (third - 3 * d * second + 2 * d**3) / variance**1.5
                kurtosis[t] = (fourth - 4 * d * third + 6 * d * d * second - 3 * d**4) / (variance * variance) - 3
    return skew, kurtosis


@compiled
def rolling_products(x: Vector, y: Vector, window: int, age: int) -> tuple[Vector, Vector, Vector]:
    """Over the last `window` pairs: squared deviations of x, of y, and their products, summed; 0 where constant."""
    n = x.size
    xx = np.full(n, np.nan)
    yy = np.full(n, np.nan)
    xy = np.full(n, np.nan)
    if window > n:
        return xx, yy, xy
    tail = np.zeros((window + 1, 5))
    head_x = head_y = head_xx = head_yy = head_xy = centre_x = centre_y = 0.0
    place = (age - 1) % window
    for t in range(n):
        place += 1
        if place == window:
            place = 0
            centre_x = x[t]
            centre_y = y[t]
            head_x = head_y = head_xx = head_yy = head_xy = 0.0
            for back in range(1, min(t, window - 1) + 1):
                dx = x[t - back] - centre_x
                dy = y[t - back] - centre_y
                at = window - back
                tail[at, 0] = tail[at + 1, 0] + dx
                tail[at, 1] = tail[at + 1, 1] + dy
                tail[at, 2] = tail[at + 1, 2] + dx * dx
                tail[at, 3] = tail[at + 1, 3] + dy * dy
                tail[at, 4] = tail[at + 1, 4] + dx * dy
        dx = x[t] - centre_x
        dy = y[t] - centre_y
        head_x += dx
        head_y += dy
        head_xx += dx * dx
        head_yy += dy * dy
        head_xy += dx * dy
        if t >= window - 1:
            sum_x = head_x + tail[place + 1, 0]
            sum_y = head_y + tail[place + 1, 1]
            squares_x = head_xx + tail[place + 1, 2] - sum_x * sum_x / window
            squares_y = head_yy + tail[place + 1, 3] - sum_y * sum_y / window
            products = head_xy + tail[place + 1, 4] - sum_x * sum_y / window
            still_x = squares_x <= window * (ROUNDING * (centre_x + sum_x / window)) ** 2
            still_y = squares_y <= window * (ROUNDING * (centre_y + sum_y / window)) ** 2
            xx[t] = 0.0 if still_x else squares_x
            yy[t] = 0.0 if still_y else squares_y
            xy[t] = 0.0 if still_x or still_y else products
    return xx, yy, xy


@compiled
def rolling_line(y: Vector, window: int, age: int) -> tuple[Vector, Vector, Vector]:
    """The least-squares line through the last `window` values: its slope a bar, its value at the last, and R².

    R² is NaN where the values are equal.
    """
    n = y.size
    slope = np.full(n, np.nan)
    end = np.full(n, np.nan)
    r_squared = np.full(n, np.nan)
    if window > n:
        return slope, end, r_squared
    tail = np.zeros((window + 1, 3))
    head_y = head_yy = head_ty = centre = 0.0
    tt = window * (window * window - 1.0) / 12
    half = (window - 1) / 2
    place = (age - 1) % window
    for t in range(n):
        place += 1
        if place == window:
            place = 0
            centre = y[t]
            head_y = head_yy = head_ty = 0.0
            for back in range(1, min(t, window - 1) + 1):
                dy = y[t - back] - centre
                at = window - back
                tail[at, 0] = tail[at + 1, 0] + dy
                tail[at, 1] = tail[at + 1, 1] + dy * dy
                tail[at, 2] = tail[at + 1, 2] - back * dy
        dy = y[t] - centre
        head_y += dy
        head_yy += dy * dy
        head_ty += place * dy
        if t >= window - 1:
            total = head_y + tail[place + 1, 0]
            mean = centre + total / window
            yy = head_yy + tail[place + 1, 1] - total * total / window
            ty = head_ty + tail[place + 1, 2] - (place - half) * total
            if yy <= window * (ROUNDING * mean) ** 2:
                slope[t] = 0.0
                end[t] = mean
            else:
                slope[t] = ty / tt
                end[t] = mean + slope[t] * half
                r_squared[t] = min(ty * ty / (tt * yy), 1.0)
    return slope, end, r_squared


@compiled
def highest(x: Vector, window: int, age: int) -> Vector:
    """The largest of the last `window` values."""
    n = x.size
    out = np.full(n, np.nan)
    if window > n:
        return out
    tail = np.full(window + 1, -np.inf)
    head = -np.inf
    missing = -1
    place = (age - 1) % window
    for t in range(n):
        place += 1
        if place == window:
            place = 0
            head = -np.inf
            for back in range(1, min(t, window - 1) + 1):
                tail[window - back] = max(tail[window - back + 1], x[t - back])
        if math.isnan(x[t]):
            missing = t
        head = max(head, x[t])
        if t >= window - 1 and (missing < 0 or t - missing >= window):
            out[t] = max(head, tail[place + 1])
    return out


def lowest(x: Vector, window: int, age: int) -> Vector:
    """The smallest of the last `window` values."""
    return -highest(-x, window, age)


@compiled
def since_highest(x: Vector, window: int, oldest: bool) -> Vector:
    """Bars since the largest of the last `window` values; of equal ones, since the oldest or the latest of them."""
    n = x.size
    out = np.full(n, np.nan)
    top = -1
    missing = -1
    for t in range(n):
        if math.isnan(x[t]):
            missing = t
        if top <= t - window or missing == t:
            top = max(t - window + 1, missing + 1)
            for k in range(top + 1, t + 1):
                if x[k] > x[top] or (x[k] == x[top] and not oldest):
                    top = k
        elif x[t] > x[top] or (x[t] == x[top] and not oldest):
            top = t
        if t >= window - 1 and (missing < 0 or t - missing >= window):
            out[t] = t - top
    return out


@compiled
def rolling_rank(x: Vector, window: int) -> Vector:
    """Rank of each value among the last `window`, as a share in (0, 1]; equal values share the mean of their ranks."""
    n = x.size
    out = np.full(n, np.nan)
    missing = -1
    for t in range(n):
        if math.isnan(x[t]):
            missing = t
        if t >= window - 1 and (missing < 0 or t - missing >= window):
            less = 0
            equal = 0
            for k in range(t - window + 1, t + 1):
                less += x[k] < x[t]
                equal += x[k] == x[t]
            out[t] = (less + (equal + 1) / 2) / window
    return out


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
        if math.isnan(x[t]):
            held = 0
            continue
        if held == window:
            gone = np.searchsorted(ordered, x[t - window])
            ordered[gone : window - 1] = ordered[gone + 1 :]
            held -= 1
        at = np.searchsorted(ordered[:held], x[t])
        for k in range(held, at, -1):
            ordered[k] = ordered[k - 1]
        ordered[at] = x[t]
        held += 1
        if held == window:
            out[t] = ordered[below] + (rank - below) * (ordered[above] - ordered[below])
    return out
