"""How much prices move: from closes, from ranges, and how that itself changes. All per bar, not annualised."""

import math

import numpy as np

from lab.features.catalogue import feature
from lab.features.price import log_change
from lab.features.windows import (
    lag,
    rolling_deviation,
    rolling_mean,
    rolling_sum,
    rolling_variance,
    wilder,
    wilder_memory,
)
from lab.nouns import Formula, Vector


def true_range(high: Vector, low: Vector, close: Vector) -> Vector:
    """max(H - L, |H - C[-1]|, |L - C[-1]|); NaN on the first bar."""
    previous = lag(close)
    return np.maximum(high, previous) - np.minimum(low, previous)


def rogers_satchell_variance(open: Vector, high: Vector, low: Vector, close: Vector) -> Vector:
    """u(u - r) + d(d - r) of each bar, with u, d, r = ln of H, L, C over O."""
    up, down, net = np.log(high / open), np.log(low / open), np.log(close / open)
    variance: Vector = up * (up - net) + down * (down - net)
    return variance


@feature(lookback=lambda window: window + 1, least=2)
def realised_vol(window: int = 20) -> Formula:
    """Standard deviation (ddof 1) of the last `window` log returns."""
    return lambda close, age: rolling_deviation(log_change(close), window, age)


@feature(lookback=lambda window: window)
def parkinson(window: int = 20) -> Formula:
    """sqrt(mean of ln(H/L)² / (4 ln 2)) over `window` bars. Parkinson (1980)."""
    return lambda high, low, age: np.sqrt(rolling_mean(np.log(high / low) ** 2, window, age) / (4 * math.log(2)))


@feature(lookback=lambda window: window)
def garman_klass(window: int = 20) -> Formula:
    """sqrt(mean of 0.5 ln(H/L)² - (2 ln 2 - 1) ln(C/O)²) over `window` bars. Garman & Klass (1980).

    A single bar may be negative, so the mean comes before the root; null where the mean itself is negative.
    """

    def deviation(open: Vector, high: Vector, low: Vector, close: Vector, age: int) -> Vector:
        variance = 0.5 * np.log(high / low) ** 2 - (2 * math.log(2) - 1) * np.log(close / open) ** 2
        return np.sqrt(rolling_mean(variance, window, age))

    return deviation


@feature(lookback=lambda window: window)
def rogers_satchell(window: int = 20) -> Formula:
    """sqrt(mean of u(u - r) + d(d - r)), u, d, r = ln of H, L, C over O. Rogers & Satchell (1991)."""

    def deviation(open: Vector, high: Vector, low: Vector, close: Vector, age: int) -> Vector:
        variance = rolling_mean(rogers_satchell_variance(open, high, low, close), window, age)
        return np.sqrt(np.maximum(variance, 0.0))

    return deviation


@feature(lookback=lambda window: window + 1, least=2)
def yang_zhang(window: int = 20) -> Formula:
    """sqrt(overnight variance + k open-to-close variance + (1 - k) Rogers-Satchell). Yang & Zhang (2000).

    k = 0.34 / (1.34 + (n + 1) / (n - 1)), variances with ddof 1.
    """
    k = 0.34 / (1.34 + (window + 1) / (window - 1))

    def deviation(open: Vector, high: Vector, low: Vector, close: Vector, age: int) -> Vector:
        overnight = rolling_variance(np.log(open / lag(close)), window, age)
        inside = rolling_variance(np.log(close / open), window, age)
        ranging = rolling_mean(rogers_satchell_variance(open, high, low, close), window, age)
        return np.sqrt(np.maximum(overnight + k * inside + (1 - k) * ranging, 0.0))

    return deviation


@feature(lookback=lambda window: wilder_memory(window) + 1)
def atr(window: int = 14) -> Formula:
    """Wilder's average true range as a share of the close. Wilder (1978)."""
    return lambda high, low, close, age: wilder(true_range(high, low, close), window, age) / close


@feature(lookback=lambda fast, slow: max(fast, slow) + 1, least=2)
def vol_ratio(fast: int = 10, slow: int = 60) -> Formula:
    """ln(realised volatility of `fast` bars / of `slow` bars); null where either is 0."""

    def ratio(close: Vector, age: int) -> Vector:
        returns = log_change(close)
        return np.log(rolling_deviation(returns, fast, age) / rolling_deviation(returns, slow, age))

    return ratio


@feature(lookback=lambda window: window + 1, least=2)
def jump_share(window: int = 60) -> Formula:
    """max(RV - BV, 0) / RV: the share of variance that came in jumps. Barndorff-Nielsen & Shephard (2004).

    RV sums the squared returns of `window` bars; BV = (pi/2) n/(n-1) sum |r||r[-1]| over the pairs inside it.
    """

    def share(close: Vector, age: int) -> Vector:
        move = np.abs(log_change(close))
        realised = rolling_sum(move**2, window, age)
        bipower = math.pi / 2 * window / (window - 1) * rolling_sum(move * lag(move), window - 1, age)
        return np.maximum((realised - bipower) / realised, 0.0)

    return share


@feature(lookback=lambda window, inner: window + inner, least=2)
def vol_of_vol(window: int = 60, inner: int = 10) -> Formula:
    """Standard deviation over `window` bars of ln realised volatility of `inner` bars; null where that is 0."""

    def deviation(close: Vector, age: int) -> Vector:
        known = np.log(rolling_deviation(log_change(close), inner, age))
        return rolling_deviation(np.where(np.isfinite(known), known, np.nan), window, age)

    return deviation
