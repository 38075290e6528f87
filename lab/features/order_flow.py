"""Who crossed the spread: taker buying and selling, and what it did to the price.

`buy_volume` is what takers bought; takers sold the rest of the volume. The delta of a bar is what they bought less
what they sold.
"""

import numpy as np

from lab.features.catalogue import feature
from lab.features.price import log_change
from lab.features.windows import change, lag, rolling_correlation, rolling_mean, rolling_slope, rolling_sum
from lab.nouns import Formula, Vector


def delta_of(buy_volume: Vector, volume: Vector) -> Vector:
    """Bought less sold by takers, bar by bar."""
    return 2 * buy_volume - volume


def imbalance(buy_volume: Vector, volume: Vector, window: int, age: int) -> Vector:
    """(bought - sold) / traded over the last `window` bars."""
    return rolling_sum(delta_of(buy_volume, volume), window, age) / rolling_sum(volume, window, age)


@feature(lookback=lambda window: window)
def flow_imbalance(window: int = 1) -> Formula:
    """(bought - sold) / traded over the last `window` bars, in [-1, 1]; null where nothing traded."""
    return lambda buy_volume, volume, age: imbalance(buy_volume, volume, window, age)


@feature(lookback=lambda fast, slow: max(fast, slow))
def flow_shift(fast: int = 5, slow: int = 60) -> Formula:
    """flow_imbalance of `fast` bars less that of `slow` bars; null where nothing traded."""

    def shift(buy_volume: Vector, volume: Vector, age: int) -> Vector:
        return imbalance(buy_volume, volume, fast, age) - imbalance(buy_volume, volume, slow, age)

    return shift


@feature(lookback=lambda window: window)
def cvd(window: int = 60) -> Formula:
    """Rolling cumulative volume delta: bought less sold over the last `window` bars, in units of the base asset.

    A rolling sum, since the level of an unbounded CVD depends on where the history happens to begin.
    """
    return lambda buy_volume, volume, age: rolling_sum(delta_of(buy_volume, volume), window, age)


@feature(lookback=lambda window: window)
def taker_ratio(window: int = 20) -> Formula:
    """ln(bought / sold) over the last `window` bars; null where one side is absent."""

    def ratio(buy_volume: Vector, volume: Vector, age: int) -> Vector:
        return np.log(rolling_sum(buy_volume, window, age) / rolling_sum(volume - buy_volume, window, age))

    return ratio


@feature(lookback=lambda window: window)
def buy_bar_share(window: int = 20) -> Formula:
    """Share of the last `window` bars in which takers bought more than they sold; null where a volume is."""

    def share(buy_volume: Vector, volume: Vector, age: int) -> Vector:
        delta = delta_of(buy_volume, volume)
        return rolling_mean(np.where(np.isnan(delta), np.nan, delta > 0), window, age)

    return share


@feature(lookback=lambda window: window + 1, least=2)
def flow_persistence(window: int = 60) -> Formula:
    """Correlation of volume delta with that of the bar before, over `window` bars; null where it never changed."""

    def persistence(buy_volume: Vector, volume: Vector, age: int) -> Vector:
        delta = delta_of(buy_volume, volume)
        return rolling_correlation(delta, lag(delta), window, age)

    return persistence


@feature(lookback=lambda window: window + 1, least=2)
def flow_return_correlation(window: int = 60) -> Formula:
    """Correlation of volume delta with log returns over `window` bars; null where either never changed."""

    def correlation(buy_volume: Vector, volume: Vector, close: Vector, age: int) -> Vector:
        return rolling_correlation(delta_of(buy_volume, volume), log_change(close), window, age)

    return correlation


@feature(lookback=lambda window: window + 1, least=2)
def kyle_lambda(window: int = 60) -> Formula:
    """Slope of close-to-close price change on volume delta over `window` bars, price per unit. Kyle (1985)."""

    def slope(buy_volume: Vector, volume: Vector, close: Vector, age: int) -> Vector:
        return rolling_slope(delta_of(buy_volume, volume), change(close), window, age)

    return slope


@feature(lookback=lambda window: window + 1)
def amihud(window: int = 60) -> Formula:
    """Mean of |simple return| / (close × volume) over `window` bars, × 1e6. Amihud (2002).

    Null where a bar of the window traded nothing.
    """

    def illiquidity(close: Vector, volume: Vector, age: int) -> Vector:
        value = np.where(volume > 0, close * volume, np.nan)
        return 1e6 * rolling_mean(np.abs(close / lag(close) - 1) / value, window, age)

    return illiquidity
