"""Windows over a column, in one pass, exact about what they remember.

A running sum that adds the new value and takes the old one off keeps a residue of every value it ever saw: after a
jump, a flat window is not flat, and a ratio of two residues is noise. Here nothing is ever taken off. Rows are cut
into blocks of one window's length; every window is the tail of one block and the head of the next, and both are built
by addition alone (van Herk's decomposition). Squares and products are taken about the first value of the head, which
every such window contains: so a flat window has a deviation of exactly 0, and no cancellation costs more digits than
the window is long.

Everywhere `x` is one column of one unbroken stretch, NaN where a value is missing, and `age` the number of its first
row in that stretch: blocks are cut at round ages, so that the last bars alone add up in the same order, to the bit, as
among all of them. Stretches of one length may lie end to end, as those of several symbols; then `age` has a number for
each. A result is NaN until its window is full, and while a value in it is missing.
"""

import math
from collections.abc import Callable
from functools import lru_cache

import numpy as np

from lab.compiled import compiled, row
from lab.features.sharing import shared
from lab.nouns import Ages, Vector

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


def restarted(kernel: Callable[..., Vector], memory: int, age: Ages, *inputs: Vector) -> Vector:
    """A recursion without a fixed memory, begun anew for every block of `memory` rows, one block earlier.

    `kernel` takes the inputs of some rows and returns one value a row, each resting on that row and earlier ones of
    its own rows only. Its values then rest on between `memory` and 2 `memory` rows: the look-back is 2 `memory`.
    """
    out = np.empty(inputs[0].size)
    for first, start, stop in restarts(out.size, memory, age):
        out[start:stop] = kernel(*(x[first:stop] for x in inputs))[start - first :]
    return out


@compiled
def restarts(n: int, memory: int, age: Ages) -> list[tuple[int, int, int]]:
    """Of every block of `memory` rows: where its recursion begins, and the rows that it is used for."""
    found = []
    height = n // age.size
    for stretch in range(age.size):
        begin, end = stretch * height, (stretch + 1) * height
        for block in range(begin - age[stretch] % memory, end, memory):
            found.append((max(block - memory, begin), max(block, begin), min(block + memory, end)))
    return found


@compiled
def forget_first(out: Vector, rows: int, age: Ages) -> None:
    """Write NaN over the first `rows` rows of every stretch, whose windows are not full."""
    height = out.size // age.size
    for stretch in range(age.size):
        begin = stretch * height
        out[begin : begin + min(rows, height)] = np.nan


@compiled
def refuse_future(bars: int) -> None:
    if bars < 0:
        raise ValueError("a lag of fewer than 0 bars would read the future")


@shared
@compiled
def lag(x: Vector, bars: int = 1) -> Vector:
    """Each value `bars` rows earlier."""
    refuse_future(bars)
    out = np.empty(x.size)
    out[:bars] = np.nan
    for t in range(bars, x.size):
        out[row(t)] = x[row(t - bars)]
    return out


@shared
@compiled
def change(x: Vector, bars: int = 1) -> Vector:
    """Each value less the one `bars` rows before."""
    refuse_future(bars)
    out = np.empty(x.size)
    out[:bars] = np.nan
    for t in range(bars, x.size):
        out[row(t)] = x[row(t)] - x[row(t - bars)]
    return out


@shared
def absolute_change(x: Vector, bars: int = 1) -> Vector:
    """How far each value is from the one `bars` rows before."""
    found: Vector = np.abs(change(x, bars))
    return found


@shared
@compiled
def relative_change(x: Vector, bars: int = 1) -> Vector:
    """Each value over the one `bars` rows before, less 1."""
    refuse_future(bars)
    out = np.empty(x.size)
    out[:bars] = np.nan
    for t in range(bars, x.size):
        out[row(t)] = x[row(t)] / x[row(t - bars)] - 1
    return out


def rolling_sum(x: Vector, window: int, age: Ages) -> Vector:
    """Sum of the last `window` values."""
    return scaled_sum(x, window, 1.0, age)


def rolling_mean(x: Vector, window: int, age: Ages) -> Vector:
    """Mean of the last `window` values."""
    return scaled_sum(x, window, 1.0 / window, age)


@shared
def rolling_deviation(x: Vector, window: int, age: Ages, ddof: int = 1) -> Vector:
    """Standard deviation of the last `window` values; NaN for no more values than `ddof`."""
    return root_mean(rolling_squares(x, window, age)[1], window - ddof)


@compiled
def root_mean(squares: Vector, count: int) -> Vector:
    """Root of sums of `count` squares, divided by that."""
    out = np.empty(squares.size)
    for t in range(squares.size):
        out[row(t)] = math.sqrt(squares[row(t)] / count)
    return out


def rolling_variance(x: Vector, window: int, age: Ages, ddof: int = 1) -> Vector:
    """Variance of the last `window` values; NaN for no more values than `ddof`."""
    return rolling_squares(x, window, age)[1] / (window - ddof)


def rolling_zscore(x: Vector, window: int, age: Ages) -> Vector:
    """Each value against the mean and deviation (ddof 1) of the last `window`; NaN where they are equal."""
    mean, squares = rolling_squares(x, window, age)
    zscore: Vector = (x - mean) / root_mean(squares, window - 1)
    return zscore


def rolling_covariance(x: Vector, y: Vector, window: int, age: Ages) -> Vector:
    """Covariance (ddof 1) of the last `window` pairs."""
    return rolling_products(x, y, window, age)[2] / (window - 1)


def rolling_slope(x: Vector, y: Vector, window: int, age: Ages) -> Vector:
    """Least-squares slope of y on x (with intercept) over the last `window` pairs; NaN where x is constant."""
    xx, _, xy = rolling_products(x, y, window, age)
    return xy / xx


def rolling_correlation(x: Vector, y: Vector, window: int, age: Ages) -> Vector:
    """Pearson correlation over the last `window` pairs; NaN where either is constant."""
    return correlation_of(*rolling_products(x, y, window, age))


@compiled
def correlation_of(xx: Vector, yy: Vector, xy: Vector) -> Vector:
    """What `rolling_products` makes a correlation of, which rounding may not carry beyond 1."""
    out = np.empty(xx.size)
    for t in range(xx.size):
        found = xy[row(t)] / math.sqrt(xx[row(t)] * yy[row(t)])
        found = min(found, 1.0) if found > 0 else max(found, -1.0)
        out[row(t)] = found
    return out


def wilder(x: Vector, window: int, age: Ages) -> Vector:
    """Wilder's average, in which each value weighs 1 - 1/window of the next, over `wilder_memory(window)` values."""
    return exponential_mean(x, 1 - 1 / window, wilder_memory(window), age)


def ema(x: Vector, span: int, age: Ages) -> Vector:
    """Exponential moving average, alpha = 2 / (span + 1), over the last `span_memory(span)` values."""
    return exponential_mean(x, (span - 1) / (span + 1), span_memory(span), age)


@shared
def exponential_mean(x: Vector, decay: float, length: int, age: Ages) -> Vector:
    """Mean of the last `length` values with weights falling by `decay`."""
    fading, total = weights(decay, length)
    return scaled_exponential_sum(x, fading, 1.0 / total, age)


@shared
def exponential_sum(x: Vector, decay: float, length: int, age: Ages) -> Vector:
    """Sum of the last `length` values, each weighing `decay` times the one after it."""
    return scaled_exponential_sum(x, weights(decay, length)[0], 1.0, age)


@lru_cache(maxsize=1024)
def weights(decay: float, length: int) -> tuple[Vector, float]:
    """Powers of `decay` from 0 to `length`, which nobody may change, and the sum of all but the last."""
    fading = np.array([decay**k for k in range(length + 1)])
    return fading, math.fsum(fading[:-1])


@shared
@compiled
def scaled_sum(x: Vector, window: int, scale: float, age: Ages) -> Vector:
    """`scale` times the sum of the last `window` values."""
    n = x.size
    out = np.empty(n)
    tail = np.zeros(window + 1)
    height = n // age.size
    for stretch in range(age.size):
        begin, end = stretch * height, (stretch + 1) * height
        for start in range(begin + -age[stretch] % window, end, window):
            total = 0.0
            for back in range(1, min(start - begin, window - 1) + 1):
                total += x[row(start - back)]
                tail[row(window - back)] = total
            total = 0.0
            for t in range(start, min(start + window, end)):
                total += x[row(t)]
                out[row(t)] = scale * (total + tail[row(t - start + 1)])
    forget_first(out, window - 1, age)
    return out


@compiled
def scaled_exponential_sum(x: Vector, fading: Vector, scale: float, age: Ages) -> Vector:
    """`scale` times the sum of the last values, the latest weighing fading[0], down to the last but one of `fading`.

    Sums grow by four values at a time, so that the processor need not wait for every one of them.
    """
    n = x.size
    length = fading.size - 1
    out = np.empty(n)
    tail = np.zeros(length + 1)
    decay = fading[1]
    twice = decay * decay
    thrice = twice * decay
    fourfold = twice * twice
    height = n // age.size
    for stretch in range(age.size):
        begin, end = stretch * height, (stretch + 1) * height
        for start in range(begin + -age[stretch] % length, end, length):
            weighted_tail(x, start, min(start - begin, length - 1), fading, tail)
            stop = min(start + length, end)
            fours = start + (stop - start) // 4 * 4
            total = 0.0
            for t in range(start, fours, 4):
                first = x[row(t)]
                second = x[row(t + 1)] + decay * first
                third = x[row(t + 2)] + decay * second
                fourth = x[row(t + 3)] + decay * third
                out[row(t)] = first + decay * total
                out[row(t + 1)] = second + twice * total
                out[row(t + 2)] = third + thrice * total
                total = fourth + fourfold * total
                out[row(t + 3)] = total
            rest = 0.0
            for t in range(fours, stop):
                rest = x[row(t)] + decay * rest
                weight = decay if t == fours else twice if t == fours + 1 else thrice
                out[row(t)] = rest + weight * total
            for t in range(start, stop):
                at = row(t - start + 1)
                out[row(t)] = scale * (out[row(t)] + fading[at] * tail[at])
    forget_first(out, length - 1, age)
    return out


@compiled
def weighted_tail(x: Vector, start: int, values: int, fading: Vector, tail: Vector) -> None:
    """Sums of 1, 2, … `values` values before row `start`, the nearest weighing fading[0], from the end of `tail` on."""
    end = tail.size - 2
    fours = values // 4 * 4
    total = 0.0
    for back in range(0, fours, 4):
        first = fading[row(back)] * x[row(start - back - 1)]
        second = first + fading[row(back + 1)] * x[row(start - back - 2)]
        third = second + fading[row(back + 2)] * x[row(start - back - 3)]
        fourth = third + fading[row(back + 3)] * x[row(start - back - 4)]
        tail[row(end - back)] = total + first
        tail[row(end - back - 1)] = total + second
        tail[row(end - back - 2)] = total + third
        total += fourth
        tail[row(end - back - 3)] = total
    rest = 0.0
    for back in range(fours, values):
        rest += fading[row(back)] * x[row(start - back - 1)]
        tail[row(end - back)] = total + rest


@shared
@compiled
def rolling_squares(x: Vector, window: int, age: Ages) -> tuple[Vector, Vector]:
    """Over the last `window` values: their mean, and their squared deviations from it, summed.

    Values that are equal but for rounding have no deviation: the sum is exactly 0.
    """
    n = x.size
    mean = np.empty(n)
    squares = np.empty(n)
    tail_1 = np.zeros(window + 1)
    tail_2 = np.zeros(window + 1)
    share = 1.0 / window
    height = n // age.size
    for stretch in range(age.size):
        begin, end = stretch * height, (stretch + 1) * height
        for start in range(begin + -age[stretch] % window, end, window):
            stop = min(start + window, end)
            centre = x[row(start)]
            sum_1 = sum_2 = 0.0
            for back in range(1, min(start - begin, window - 1) + 1):
                away = x[row(start - back)] - centre
                sum_1 += away
                sum_2 += away * away
                tail_1[row(window - back)] = sum_1
                tail_2[row(window - back)] = sum_2
            sum_1 = sum_2 = 0.0
            for t in range(start, stop):
                away = x[row(t)] - centre
                sum_1 += away
                sum_2 += away * away
                mean[row(t)] = sum_1
                squares[row(t)] = sum_2
            for t in range(start, stop):  # no row waits for another: the processor takes several at once
                first = mean[row(t)] + tail_1[row(t - start + 1)]
                second = squares[row(t)] + tail_2[row(t - start + 1)] - first * first * share
                mean[row(t)] = centre + first * share
                still = ROUNDING * mean[row(t)]
                squares[row(t)] = 0.0 if second <= window * still * still else second
    forget_first(mean, window - 1, age)
    forget_first(squares, window - 1, age)
    return mean, squares


@shared
@compiled
def rolling_shape(x: Vector, window: int, age: Ages) -> tuple[Vector, Vector]:
    """Skewness and excess kurtosis (population moments) of the last `window` values; NaN where they are equal."""
    n = x.size
    skew = np.full(n, np.nan)
    kurtosis = np.full(n, np.nan)
    tail = np.zeros((window + 1, 4))
    height = n // age.size
    for stretch in range(age.size):
        begin, end = stretch * height, (stretch + 1) * height
        for start in range(begin + -age[stretch] % window, end, window):
            centre = x[row(start)]
            sum_1 = sum_2 = sum_3 = sum_4 = 0.0
            for back in range(1, min(start - begin, window - 1) + 1):
                away = x[row(start - back)] - centre
                squared = away * away
                sum_1 += away
                sum_2 += squared
                sum_3 += squared * away
                sum_4 += squared * squared
                at = window - back
                tail[row(at), 0], tail[row(at), 1], tail[row(at), 2], tail[row(at), 3] = sum_1, sum_2, sum_3, sum_4
            sum_1 = sum_2 = sum_3 = sum_4 = 0.0
            for t in range(start, min(start + window, end)):
                away = x[row(t)] - centre
                squared = away * away
                sum_1 += away
                sum_2 += squared
                sum_3 += squared * away
                sum_4 += squared * squared
                at = t - start + 1
                d = (sum_1 + tail[row(at), 0]) / window
                second = (sum_2 + tail[row(at), 1]) / window
                third = (sum_3 + tail[row(at), 2]) / window
                fourth = (sum_4 + tail[row(at), 3]) / window
                variance = second - d * d
                still = ROUNDING * (centre + d)
                if variance > still * still:
                    skew[row(t)] = (third - 3 * d * second + 2 * d * d * d) / (variance * math.sqrt(variance))
                    fourth += d * (-4 * third + 6 * d * second - 3 * d * d * d)
                    kurtosis[row(t)] = fourth / (variance * variance) - 3
    forget_first(skew, window - 1, age)
    forget_first(kurtosis, window - 1, age)
    return skew, kurtosis


@shared
@compiled
def rolling_products(x: Vector, y: Vector, window: int, age: Ages) -> tuple[Vector, Vector, Vector]:
    """Over the last `window` pairs: squared deviations of x, of y, and their products, summed; 0 where constant."""
    if x.size != y.size:
        raise ValueError("pairs are made of columns of one length")
    n = x.size
    xx = np.empty(n)
    yy = np.empty(n)
    xy = np.empty(n)
    head_x, head_y = np.zeros(window), np.zeros(window)
    tail_x, tail_y = np.zeros(window + 1), np.zeros(window + 1)
    tail_xx, tail_yy, tail_xy = np.zeros(window + 1), np.zeros(window + 1), np.zeros(window + 1)
    share = 1.0 / window
    height = n // age.size
    for stretch in range(age.size):
        begin, end = stretch * height, (stretch + 1) * height
        for start in range(begin + -age[stretch] % window, end, window):
            stop = min(start + window, end)
            centre_x = x[row(start)]
            centre_y = y[row(start)]
            sum_x = sum_y = sum_xx = sum_yy = sum_xy = 0.0
            for back in range(1, min(start - begin, window - 1) + 1):
                dx = x[row(start - back)] - centre_x
                dy = y[row(start - back)] - centre_y
                sum_x += dx
                sum_y += dy
                sum_xx += dx * dx
                sum_yy += dy * dy
                sum_xy += dx * dy
                at = window - back
                tail_x[row(at)], tail_y[row(at)] = sum_x, sum_y
                tail_xx[row(at)], tail_yy[row(at)], tail_xy[row(at)] = sum_xx, sum_yy, sum_xy
            sum_x = sum_y = sum_xx = sum_yy = sum_xy = 0.0
            for t in range(start, stop):
                dx = x[row(t)] - centre_x
                dy = y[row(t)] - centre_y
                sum_x += dx
                sum_y += dy
                sum_xx += dx * dx
                sum_yy += dy * dy
                sum_xy += dx * dy
                head_x[row(t - start)], head_y[row(t - start)] = sum_x, sum_y
                xx[row(t)], yy[row(t)], xy[row(t)] = sum_xx, sum_yy, sum_xy
            for t in range(start, stop):
                at = t - start + 1
                whole_x = head_x[row(at - 1)] + tail_x[row(at)]
                whole_y = head_y[row(at - 1)] + tail_y[row(at)]
                squares_x = xx[row(t)] + tail_xx[row(at)] - whole_x * whole_x * share
                squares_y = yy[row(t)] + tail_yy[row(at)] - whole_y * whole_y * share
                products = xy[row(t)] + tail_xy[row(at)] - whole_x * whole_y * share
                still_x = ROUNDING * (centre_x + whole_x * share)
                still_y = ROUNDING * (centre_y + whole_y * share)
                constant_x = squares_x <= window * still_x * still_x
                constant_y = squares_y <= window * still_y * still_y
                xx[row(t)] = 0.0 if constant_x else squares_x
                yy[row(t)] = 0.0 if constant_y else squares_y
                xy[row(t)] = 0.0 if constant_x or constant_y else products
    forget_first(xx, window - 1, age)
    forget_first(yy, window - 1, age)
    forget_first(xy, window - 1, age)
    return xx, yy, xy


@shared
@compiled
def rolling_line(y: Vector, window: int, age: Ages) -> tuple[Vector, Vector, Vector]:
    """The least-squares line through the last `window` values: its slope a bar, its value at the last, and R².

    R² is NaN where the values are equal.
    """
    n = y.size
    slope = np.empty(n)
    last = np.empty(n)
    r_squared = np.empty(n)
    tail_y, tail_yy, tail_ty = np.zeros(window + 1), np.zeros(window + 1), np.zeros(window + 1)
    share = 1.0 / window
    per_tt = 12 / (window * (window * window - 1.0))
    half = (window - 1) / 2
    height = n // age.size
    for stretch in range(age.size):
        begin, end = stretch * height, (stretch + 1) * height
        for start in range(begin + -age[stretch] % window, end, window):
            stop = min(start + window, end)
            centre = y[row(start)]
            sum_y = sum_yy = sum_ty = 0.0
            for back in range(1, min(start - begin, window - 1) + 1):
                dy = y[row(start - back)] - centre
                sum_y += dy
                sum_yy += dy * dy
                sum_ty -= back * dy
                at = window - back
                tail_y[row(at)], tail_yy[row(at)], tail_ty[row(at)] = sum_y, sum_yy, sum_ty
            sum_y = sum_yy = sum_ty = 0.0
            for t in range(start, stop):
                dy = y[row(t)] - centre
                sum_y += dy
                sum_yy += dy * dy
                sum_ty += (t - start) * dy
                last[row(t)], r_squared[row(t)], slope[row(t)] = sum_y, sum_yy, sum_ty
            for t in range(start, stop):
                at = t - start + 1
                whole = last[row(t)] + tail_y[row(at)]
                mean = centre + whole * share
                yy = r_squared[row(t)] + tail_yy[row(at)] - whole * whole * share
                ty = slope[row(t)] + tail_ty[row(at)] - (t - start - half) * whole
                still = ROUNDING * mean
                constant = yy <= window * still * still
                slope[row(t)] = 0.0 if constant else ty * per_tt
                last[row(t)] = mean + slope[row(t)] * half
                r_squared[row(t)] = np.nan if constant else min(ty * ty * per_tt / yy, 1.0)
    forget_first(slope, window - 1, age)
    forget_first(last, window - 1, age)
    forget_first(r_squared, window - 1, age)
    return slope, last, r_squared
