"""The shape of recent returns: centre, tails, memory, and how predictable their order was."""

import math
from collections.abc import Sequence

import numpy as np

from lab.compiled import compiled
from lab.features.catalogue import feature
from lab.features.extremes import rolling_quantile
from lab.features.price import log_change, log_ratio, position_in, sums_by_direction
from lab.features.windows import lag, rolling_correlation, rolling_mean, rolling_shape, rolling_squares
from lab.nouns import Ages, Formula, Vector

HURST_SPANS = (1, 2, 4, 8, 16)


@feature(lookback=lambda window: window + 1, least=2)
def return_tstat(window: int = 60) -> Formula:
    """Mean of the last `window` log returns in standard errors (ddof 1); null where they are equal."""

    def statistic(close: Vector, age: Ages) -> Vector:
        mean, squares = rolling_squares(log_change(close), window, age)
        return mean / np.sqrt(squares / (window - 1) / window)

    return statistic


@feature(lookback=lambda window: window + 1, least=2)
def return_skew(window: int = 60) -> Formula:
    """Skewness (population moments) of the last `window` log returns; null where they are equal."""
    return lambda close, age: rolling_shape(log_change(close), window, age)[0]


@feature(lookback=lambda window: window + 1, least=2)
def return_kurtosis(window: int = 60) -> Formula:
    """Excess kurtosis (population moments) of the last `window` log returns; null where they are equal."""
    return lambda close, age: rolling_shape(log_change(close), window, age)[1]


@feature(lookback=lambda window: window + 1, least=2)
def quantile_spread(window: int = 60, share: float = 0.1) -> Formula:
    """Upper less lower `share` quantile of the last `window` log returns."""

    def spread(close: Vector) -> Vector:
        low, high = quantiles(log_change(close), window, [share, 1 - share])
        return high - low

    return spread


@feature(lookback=lambda window: window + 1, least=2)
def quantile_position(window: int = 60, share: float = 0.1) -> Formula:
    """Latest log return between the lower (0) and the upper (1) `share` quantile of the last `window`.

    Beyond [0, 1] it lies in a tail; null where the quantiles are equal.
    """

    def position(close: Vector) -> Vector:
        returns = log_change(close)
        low, high = quantiles(returns, window, [share, 1 - share])
        return position_in(low, returns, high)

    return position


@feature(lookback=lambda window: window + 1, least=2)
def quantile_skew(window: int = 60, share: float = 0.1) -> Formula:
    """(upper + lower - 2 median) / (upper - lower `share` quantile) of `window` log returns. Kelley (1947).

    In [-1, 1], whatever the outliers; null where the quantiles are equal.
    """

    def skew(close: Vector) -> Vector:
        low, median, high = quantiles(log_change(close), window, [share, 0.5, 1 - share])
        return 2 * position_in(low, low + high - median, high) - 1

    return skew


@feature(lookback=lambda window: window)
def median_distance(window: int = 60) -> Formula:
    """ln(C / median of the last `window` closes)."""
    return lambda close: log_ratio(close, rolling_quantile(close, window, 0.5))


@feature(lookback=lambda window, lag: window + lag + 1)
def autocorrelation(lag: int = 1, window: int = 60) -> Formula:
    """Correlation of the last `window` log returns with those `lag` bars before; null where either never changed."""
    return lambda close, age: own_correlation(log_change(close), lag, window, age)


@feature(lookback=lambda window, lag: window + lag + 1)
def absolute_autocorrelation(lag: int = 1, window: int = 60) -> Formula:
    """Correlation of the last `window` |log returns| with those `lag` bars before: how volatility clusters.

    Null where either never changed.
    """
    return lambda close, age: own_correlation(np.abs(log_change(close)), lag, window, age)


@feature(lookback=lambda window: window + 1, least=2)
def variance_ratio(horizon: int = 5, window: int = 60) -> Formula:
    """Variance of `horizon`-bar log returns over `horizon` times that of one-bar ones. Lo & MacKinlay (1988).

    Over `window` returns, the long ones overlapping, both unbiased: above 1 moves go on, below they come back. Null
    where the returns are equal.
    """

    def ratio(close: Vector, age: Ages) -> Vector:
        mean, squares = rolling_squares(log_change(close), window, age)
        overlapping = window - horizon + 1
        long_mean, long_squares = rolling_squares(log_change(close, horizon), overlapping, age)
        long_squares = long_squares + overlapping * (long_mean - horizon * mean) ** 2
        freedom = horizon * overlapping * (1 - horizon / window)
        found: Vector = long_squares / freedom / (squares / (window - 1))
        return found

    return ratio


@feature(lookback=lambda window: window + max(HURST_SPANS), least=2)
def hurst(window: int = 100) -> Formula:
    """Generalised Hurst exponent of order 2: slope of ½ ln(mean squared log return) on ln(span). Di Matteo (2007).

    Spans of 1, 2, 4, 8, 16 bars, each with the `window` returns that end in it: 0.5 for a random walk, more for a
    trend. Null where prices did not move over one of them.
    """

    def exponent(close: Vector, age: Ages) -> Vector:
        logs = np.log(HURST_SPANS)
        weights = (logs - logs.mean()) / ((logs - logs.mean()) ** 2).sum()
        total = np.zeros(close.size)
        for span, weight in zip(HURST_SPANS, weights, strict=True):
            total += weight / 2 * np.log(rolling_mean(log_change(close, span) ** 2, window, age))
        return total

    return exponent


@feature(lookback=lambda window: window + 3)
def sign_entropy(window: int = 60) -> Formula:
    """Shannon entropy of the last `window` runs of three moves, each up or not, over ln 8: 1 is without pattern."""

    def entropy(close: Vector) -> Vector:
        up = np.where(np.isnan(lag(close)), np.nan, close > lag(close))
        return word_entropy(4 * lag(up, 2) + 2 * lag(up) + up, window) / math.log(8)

    return entropy


@feature(lookback=lambda window: window + 3)
def permutation_entropy(window: int = 60) -> Formula:
    """Shannon entropy of how the last `window` runs of three returns are ordered, over ln 6. Bandt & Pompe (2002).

    1 is without pattern; of equal returns the earlier one counts as lower.
    """

    def entropy(close: Vector) -> Vector:
        now = close / lag(close)
        before, earlier = lag(now), lag(now, 2)
        order = 4.0 * (earlier <= before) + 2.0 * (before <= now) + (earlier <= now)
        return word_entropy(np.where(np.isnan(earlier), np.nan, order), window) / math.log(6)

    return entropy


@feature(lookback=lambda width: width, least=2)
def fractional_difference(d: float = 0.4, width: int = 100) -> Formula:
    """Fractional difference of order `d` of ln C, of fixed width: Σ w[k] ln(C[-k] / C[1 - width]). Hosking (1981).

    w[0] = 1, w[k] = -w[k - 1] (d - k + 1) / k, as in López de Prado (2018, ch. 5); taken from the oldest of the
    `width` closes, because the weights do not add up to 0 and the unit of price would show.
    """

    def difference(close: Vector) -> Vector:
        weights = np.cumprod([1.0, *((k - 1 - d) / k for k in range(1, width))])
        passed_on = np.cumsum(weights)[:-1]  # what a return adds to all closes since
        return weighted_past(log_change(close), passed_on)

    return difference


@feature(lookback=lambda window: window + 1, least=3)
def tail_share(window: int = 60, width: float = 2.0) -> Formula:
    """Share of the last `window` log returns further than `width` deviations (ddof 1) from their mean.

    0.046 for a normal distribution and a width of 2; null where they are equal.
    """

    def share(close: Vector, age: Ages) -> Vector:
        returns = log_change(close)
        mean, squares = rolling_squares(returns, window, age)
        return share_beyond(returns, mean, width * np.sqrt(squares / (window - 1)), window)

    return share


@feature(lookback=lambda window: window + 1)
def gain_loss_ratio(window: int = 60) -> Formula:
    """ln(sum of the log returns of rises / of falls) of the last `window` bars; null where one side is absent."""

    def ratio(close: Vector, age: Ages) -> Vector:
        gains, losses = sums_by_direction(close, np.abs(log_change(close)), window, age)
        return log_ratio(gains, losses)

    return ratio


@feature(lookback=lambda window: window + 1)
def payoff_ratio(window: int = 60) -> Formula:
    """ln(mean log return of rises / of falls) of the last `window` bars; null where one side is absent."""

    def ratio(close: Vector, age: Ages) -> Vector:
        gains, losses = sums_by_direction(close, np.abs(log_change(close)), window, age)
        rises, falls = sums_by_direction(close, np.ones(close.size), window, age)
        return log_ratio(gains / rises, losses / falls)

    return ratio


def own_correlation(x: Vector, bars: int, window: int, age: Ages) -> Vector:
    """Correlation of the last `window` values with those `bars` before them."""
    return rolling_correlation(x, lag(x, bars), window, age)


def quantiles(x: Vector, window: int, shares: Sequence[float]) -> list[Vector]:
    """Several quantiles of the last `window` values."""
    return [rolling_quantile(x, window, share) for share in shares]


@compiled
def word_entropy(words: Vector, window: int) -> Vector:
    """Shannon entropy of the last `window` words, which are whole numbers below 8."""
    out = np.full(words.size, np.nan)
    counts = np.zeros(8, dtype=np.int64)
    part = np.zeros(window + 1)
    for k in range(1, window + 1):
        part[k] = -k / window * math.log(k / window)
    held = 0
    for t in range(words.size):
        if math.isnan(words[t]):
            counts[:] = 0
            held = 0
            continue
        counts[int(words[t])] += 1
        if held == window:
            counts[int(words[t - window])] -= 1
        else:
            held += 1
        if held == window:
            total = 0.0
            for count in counts:
                total += part[count]
            out[t] = total
    return out


@compiled
def weighted_past(x: Vector, weights: Vector) -> Vector:
    """Sum of the last values, each times its weight, of which the first is that of the latest value."""
    n = x.size
    out = np.full(n, np.nan)
    width = weights.size
    some = 1024  # rows at a time stay in the cache, and each has an addition of its own to wait for
    for start in range(width - 1, n, some):
        stop = min(start + some, n)
        out[start:stop] = 0.0
        for k in range(width):
            weight = weights[k]
            for t in range(start, stop):
                out[t] += weight * x[t - k]
    return out


@compiled
def share_beyond(x: Vector, middle: Vector, distance: Vector, window: int) -> Vector:
    """Share of the last `window` values further than `distance` from `middle`; NaN where that is 0."""
    out = np.full(x.size, np.nan)
    for t in range(window - 1, x.size):
        if distance[t] > 0:
            beyond = 0
            for k in range(t - window + 1, t + 1):
                beyond += abs(x[k] - middle[t]) > distance[t]
            out[t] = beyond / window
    return out
