"""How much prices move: from closes, from ranges, and how that itself changes. All per bar, not annualised."""

import math

import polars as pl

from lab.features.catalogue import feature
from lab.features.price import CLOSE, HIGH, LOW, OPEN, log_change
from lab.features.windows import (
    rolling_deviation,
    rolling_mean,
    rolling_sum,
    rolling_variance,
    wilder_mean,
    wilder_memory,
)

UP, DOWN, NET = (HIGH / OPEN).log(), (LOW / OPEN).log(), (CLOSE / OPEN).log()
ROGERS_SATCHELL = UP * (UP - NET) + DOWN * (DOWN - NET)


def true_range() -> pl.Expr:
    """max(H - L, |H - C[-1]|, |L - C[-1]|); null on the first bar."""
    previous = CLOSE.shift(1)
    widest = pl.max_horizontal(HIGH - LOW, (HIGH - previous).abs(), (LOW - previous).abs())
    return pl.when(previous.is_not_null()).then(widest)


@feature(lookback=lambda window: window + 1, least=2)
def realised_vol(window: int = 20) -> pl.Expr:
    """Standard deviation (ddof 1) of the last `window` log returns."""
    return rolling_deviation(log_change(), window)


@feature(lookback=lambda window: window)
def parkinson(window: int = 20) -> pl.Expr:
    """sqrt(mean of ln(H/L)² / (4 ln 2)) over `window` bars. Parkinson (1980)."""
    return (rolling_mean((HIGH / LOW).log() ** 2, window) / (4 * math.log(2))).sqrt()


@feature(lookback=lambda window: window)
def garman_klass(window: int = 20) -> pl.Expr:
    """sqrt(mean of 0.5 ln(H/L)² - (2 ln 2 - 1) ln(C/O)²) over `window` bars. Garman & Klass (1980).

    A single bar may be negative, so the mean comes before the root; null where the mean itself is negative.
    """
    variance = 0.5 * (HIGH / LOW).log() ** 2 - (2 * math.log(2) - 1) * NET**2
    return rolling_mean(variance, window).sqrt()


@feature(lookback=lambda window: window)
def rogers_satchell(window: int = 20) -> pl.Expr:
    """sqrt(mean of u(u - r) + d(d - r)), u, d, r = ln of H, L, C over O. Rogers & Satchell (1991)."""
    return rolling_mean(ROGERS_SATCHELL, window).clip(lower_bound=0.0).sqrt()


@feature(lookback=lambda window: window + 1, least=2)
def yang_zhang(window: int = 20) -> pl.Expr:
    """sqrt(overnight variance + k open-to-close variance + (1 - k) Rogers-Satchell). Yang & Zhang (2000).

    k = 0.34 / (1.34 + (n + 1) / (n - 1)), variances with ddof 1.
    """
    k = 0.34 / (1.34 + (window + 1) / (window - 1))
    overnight = rolling_variance((OPEN / CLOSE.shift(1)).log(), window)
    inside = rolling_variance(NET, window)
    return (overnight + k * inside + (1 - k) * rolling_mean(ROGERS_SATCHELL, window)).clip(lower_bound=0.0).sqrt()


@feature(lookback=lambda window: wilder_memory(window) + 1)
def atr(window: int = 14) -> pl.Expr:
    """Wilder's average true range as a share of the close. Wilder (1978)."""
    return wilder_mean(true_range(), window) / CLOSE


@feature(lookback=lambda fast, slow: max(fast, slow) + 1, least=2)
def vol_ratio(fast: int = 10, slow: int = 60) -> pl.Expr:
    """ln(realised volatility of `fast` bars / of `slow` bars); null where either is 0."""
    return (rolling_deviation(log_change(), fast) / rolling_deviation(log_change(), slow)).log()


@feature(lookback=lambda window: window + 1, least=2)
def jump_share(window: int = 60) -> pl.Expr:
    """max(RV - BV, 0) / RV: the share of variance that came in jumps. Barndorff-Nielsen & Shephard (2004).

    RV sums the squared returns of `window` bars; BV = (pi/2) n/(n-1) sum |r||r[-1]| over the pairs inside it.
    """
    move = log_change().abs()
    realised = rolling_sum(move**2, window)
    bipower = math.pi / 2 * window / (window - 1) * rolling_sum(move * move.shift(1), window - 1)
    return ((realised - bipower) / realised).clip(lower_bound=0.0)


@feature(lookback=lambda window, inner: window + inner, least=2)
def vol_of_vol(window: int = 60, inner: int = 10) -> pl.Expr:
    """Standard deviation over `window` bars of ln realised volatility of `inner` bars; null where that is 0."""
    return rolling_deviation(rolling_deviation(log_change(), inner).log(), window)
