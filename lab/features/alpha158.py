"""The 158 factors of Microsoft's Qlib (Yang et al., 2020, arXiv 2009.11189; its class Alpha158), as published.

Nine of the bar, four of its prices, and 29 over 5, 10, 20, 30 and 60 bars. The published formulas add 1e-12 to whatever
they divide by, so that a bar without volume gives factors of 1e12 and more, and a bar without range a 0 that means
nothing. Here nothing is added: without volume, range or movement to divide by, the factor is null. Windows must be
full, where the published ones begin with their first bar. Deviations have ddof 1.
"""

import numpy as np

from lab.features.catalogue import feature
from lab.features.extremes import highest, lowest, rolling_quantile, rolling_rank, since_highest, since_lowest
from lab.features.price import rolling_ratio
from lab.features.sharing import shared
from lab.features.windows import (
    absolute_change,
    change,
    lag,
    relative_change,
    rolling_correlation,
    rolling_deviation,
    rolling_line,
    rolling_mean,
    rolling_squares,
)
from lab.nouns import Ages, Formula, Vector

WINDOWS = (5, 10, 20, 30, 60)


@shared
def above(x: Vector, than: Vector) -> Vector:
    """1 where x is larger, 0 where not, NaN where either is missing."""
    return np.where(np.isnan(x) | np.isnan(than), np.nan, x > than)


@shared
def rises(x: Vector) -> Vector:
    """What each value is above the one before, 0 where it is not."""
    found: Vector = np.maximum(change(x), 0.0)
    return found


@shared
def falls(x: Vector) -> Vector:
    """What each value is below the one before, 0 where it is not."""
    found: Vector = np.maximum(-change(x), 0.0)
    return found


def share_of_moves(moves: Vector, x: Vector, window: int, age: Ages) -> Vector:
    """Sum of the last `window` of `moves`, in units of that of all changes of x."""
    return rolling_ratio(moves, absolute_change(x), window, age)


@shared
def log_volume(volume: Vector) -> Vector:
    """ln(V + 1)."""
    logs: Vector = np.log(volume + 1)
    return logs


@shared
def log_volume_change(volume: Vector) -> Vector:
    """ln(V / V[-1] + 1); NaN after a bar that traded nothing."""
    before = lag(volume)
    return np.log(volume / np.where(before > 0, before, np.nan) + 1)


@shared
def weighted_moves(close: Vector, volume: Vector) -> Vector:
    """|C / C[-1] - 1| V."""
    moves: Vector = np.abs(relative_change(close)) * volume
    return moves


@feature(lookback=1)
def alpha_kmid() -> Formula:
    """KMID: (C - O) / O."""
    return lambda open, close: (close - open) / open


@feature(lookback=1)
def alpha_klen() -> Formula:
    """KLEN: (H - L) / O."""
    return lambda open, high, low: (high - low) / open


@feature(lookback=1)
def alpha_kmid2() -> Formula:
    """KMID2: (C - O) / (H - L); null on a bar without range."""
    return lambda open, high, low, close: (close - open) / (high - low)


@feature(lookback=1)
def alpha_kup() -> Formula:
    """KUP: (H - max(O, C)) / O."""
    return lambda open, high, close: (high - np.maximum(open, close)) / open


@feature(lookback=1)
def alpha_kup2() -> Formula:
    """KUP2: (H - max(O, C)) / (H - L); null on a bar without range."""
    return lambda open, high, low, close: (high - np.maximum(open, close)) / (high - low)


@feature(lookback=1)
def alpha_klow() -> Formula:
    """KLOW: (min(O, C) - L) / O."""
    return lambda open, low, close: (np.minimum(open, close) - low) / open


@feature(lookback=1)
def alpha_klow2() -> Formula:
    """KLOW2: (min(O, C) - L) / (H - L); null on a bar without range."""
    return lambda open, high, low, close: (np.minimum(open, close) - low) / (high - low)


@feature(lookback=1)
def alpha_ksft() -> Formula:
    """KSFT: (2C - H - L) / O."""
    return lambda open, high, low, close: (2 * close - high - low) / open


@feature(lookback=1)
def alpha_ksft2() -> Formula:
    """KSFT2: (2C - H - L) / (H - L); null on a bar without range."""
    return lambda high, low, close: (2 * close - high - low) / (high - low)


@feature(lookback=1)
def alpha_open0() -> Formula:
    """OPEN0: O / C."""
    return lambda open, close: open / close


@feature(lookback=1)
def alpha_high0() -> Formula:
    """HIGH0: H / C."""
    return lambda high, close: high / close


@feature(lookback=1)
def alpha_low0() -> Formula:
    """LOW0: L / C."""
    return lambda low, close: low / close


@feature(lookback=1)
def alpha_vwap0() -> Formula:
    """VWAP0: the bar's volume-weighted price over C; null where nothing traded."""
    return lambda quote_volume, volume, close: quote_volume / volume / close


@feature(lookback=lambda window: window + 1)
def alpha_roc(window: int = 20) -> Formula:
    """ROC: C[-window] / C."""
    return lambda close: lag(close, window) / close


@feature(lookback=lambda window: window)
def alpha_ma(window: int = 20) -> Formula:
    """MA: mean of `window` closes / C."""
    return lambda close, age: rolling_mean(close, window, age) / close


@feature(lookback=lambda window: window, least=2)
def alpha_std(window: int = 20) -> Formula:
    """STD: deviation of `window` closes / C."""
    return lambda close, age: rolling_deviation(close, window, age) / close


@feature(lookback=lambda window: window, least=2)
def alpha_beta(window: int = 20) -> Formula:
    """BETA: slope a bar of the line through `window` closes / C."""
    return lambda close, age: rolling_line(close, window, age)[0] / close


@feature(lookback=lambda window: window, least=3)
def alpha_rsqr(window: int = 20) -> Formula:
    """RSQR: R² of the line through `window` closes; null where they are equal."""
    return lambda close, age: rolling_line(close, window, age)[2]


@feature(lookback=lambda window: window, least=2)
def alpha_resi(window: int = 20) -> Formula:
    """RESI: (C - the line through `window` closes at its end) / C."""
    return lambda close, age: (close - rolling_line(close, window, age)[1]) / close


@feature(lookback=lambda window: window)
def alpha_max(window: int = 20) -> Formula:
    """MAX: highest high of `window` bars / C."""
    return lambda high, close, age: highest(high, window, age) / close


@feature(lookback=lambda window: window)
def alpha_min(window: int = 20) -> Formula:
    """MIN: lowest low of `window` bars / C."""
    return lambda low, close, age: lowest(low, window, age) / close


@feature(lookback=lambda window: window)
def alpha_qtlu(window: int = 20) -> Formula:
    """QTLU: 0.8 quantile of `window` closes / C."""
    return lambda close: rolling_quantile(close, window, 0.8) / close


@feature(lookback=lambda window: window)
def alpha_qtld(window: int = 20) -> Formula:
    """QTLD: 0.2 quantile of `window` closes / C."""
    return lambda close: rolling_quantile(close, window, 0.2) / close


@feature(lookback=lambda window: window)
def alpha_rank(window: int = 20) -> Formula:
    """RANK: rank of C among `window` closes, as a share in (0, 1]."""
    return lambda close: rolling_rank(close, window)


@feature(lookback=lambda window: window)
def alpha_rsv(window: int = 20) -> Formula:
    """RSV: (C - lowest low) / (highest high - lowest low) of `window` bars; null without range."""

    def position(high: Vector, low: Vector, close: Vector, age: Ages) -> Vector:
        bottom = lowest(low, window, age)
        return (close - bottom) / (highest(high, window, age) - bottom)

    return position


@feature(lookback=lambda window: window)
def alpha_imax(window: int = 20) -> Formula:
    """IMAX: place of the highest high in the last `window` bars, the oldest 1 and the latest `window`, / window."""
    return lambda high, age: (window - since_highest(high, window, age, True)) / window


@feature(lookback=lambda window: window)
def alpha_imin(window: int = 20) -> Formula:
    """IMIN: place of the lowest low in the last `window` bars, the oldest 1 and the latest `window`, / window."""
    return lambda low, age: (window - since_lowest(low, window, age, True)) / window


@feature(lookback=lambda window: window)
def alpha_imxd(window: int = 20) -> Formula:
    """IMXD: alpha_imax - alpha_imin."""

    def between(high: Vector, low: Vector, age: Ages) -> Vector:
        since_low, since_high = since_lowest(low, window, age, True), since_highest(high, window, age, True)
        return (since_low - since_high) / window

    return between


@feature(lookback=lambda window: window, least=2)
def alpha_corr(window: int = 20) -> Formula:
    """CORR: correlation of C with ln(V + 1) over `window` bars; null where either never changed.

    The 1 is a unit of volume: the factor depends on what volume is counted in.
    """
    return lambda close, volume, age: rolling_correlation(close, log_volume(volume), window, age)


@feature(lookback=lambda window: window + 1, least=2)
def alpha_cord(window: int = 20) -> Formula:
    """CORD: correlation of C / C[-1] with ln(V / V[-1] + 1) over `window` bars; null where a bar traded nothing."""

    def correlation(close: Vector, volume: Vector, age: Ages) -> Vector:
        return rolling_correlation(relative_change(close), log_volume_change(volume), window, age)

    return correlation


@feature(lookback=lambda window: window + 1)
def alpha_cntp(window: int = 20) -> Formula:
    """CNTP: share of the last `window` bars that closed higher."""
    return lambda close, age: rolling_mean(above(close, lag(close)), window, age)


@feature(lookback=lambda window: window + 1)
def alpha_cntn(window: int = 20) -> Formula:
    """CNTN: share of the last `window` bars that closed lower."""
    return lambda close, age: rolling_mean(above(lag(close), close), window, age)


@feature(lookback=lambda window: window + 1)
def alpha_cntd(window: int = 20) -> Formula:
    """CNTD: alpha_cntp - alpha_cntn."""
    return lambda close, age: rolling_mean(np.sign(change(close)), window, age)


@feature(lookback=lambda window: window + 1)
def alpha_sump(window: int = 20) -> Formula:
    """SUMP: sum of rises of C / sum of |C - C[-1]| over `window` bars; null without any move."""
    return lambda close, age: share_of_moves(rises(close), close, window, age)


@feature(lookback=lambda window: window + 1)
def alpha_sumn(window: int = 20) -> Formula:
    """SUMN: sum of falls of C / sum of |C - C[-1]| over `window` bars; null without any move."""
    return lambda close, age: share_of_moves(falls(close), close, window, age)


@feature(lookback=lambda window: window + 1)
def alpha_sumd(window: int = 20) -> Formula:
    """SUMD: alpha_sump - alpha_sumn."""
    return lambda close, age: 2 * share_of_moves(rises(close), close, window, age) - 1


@feature(lookback=lambda window: window)
def alpha_vma(window: int = 20) -> Formula:
    """VMA: mean volume of `window` bars / V; null where nothing traded now."""
    return lambda volume, age: rolling_mean(volume, window, age) / volume


@feature(lookback=lambda window: window, least=2)
def alpha_vstd(window: int = 20) -> Formula:
    """VSTD: deviation of the volume of `window` bars / V; null where nothing traded now."""
    return lambda volume, age: rolling_deviation(volume, window, age) / volume


@feature(lookback=lambda window: window + 1, least=2)
def alpha_wvma(window: int = 20) -> Formula:
    """WVMA: deviation / mean of |C / C[-1] - 1| V over `window` bars; null where nothing moved or traded."""

    def relative_deviation(close: Vector, volume: Vector, age: Ages) -> Vector:
        mean, squares = rolling_squares(weighted_moves(close, volume), window, age)
        ratio: Vector = np.sqrt(squares / (window - 1)) / mean
        return ratio

    return relative_deviation


@feature(lookback=lambda window: window + 1)
def alpha_vsump(window: int = 20) -> Formula:
    """VSUMP: sum of rises of V / sum of |V - V[-1]| over `window` bars; null where volume never changed."""
    return lambda volume, age: share_of_moves(rises(volume), volume, window, age)


@feature(lookback=lambda window: window + 1)
def alpha_vsumn(window: int = 20) -> Formula:
    """VSUMN: sum of falls of V / sum of |V - V[-1]| over `window` bars; null where volume never changed."""
    return lambda volume, age: share_of_moves(falls(volume), volume, window, age)


@feature(lookback=lambda window: window + 1)
def alpha_vsumd(window: int = 20) -> Formula:
    """VSUMD: alpha_vsump - alpha_vsumn."""
    return lambda volume, age: 2 * share_of_moves(rises(volume), volume, window, age) - 1
