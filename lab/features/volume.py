"""How much was traded, against what is usual."""

import numpy as np

from lab.features.catalogue import feature
from lab.features.price import log_change
from lab.features.windows import rolling_correlation, rolling_mean, rolling_sum, rolling_zscore
from lab.nouns import Formula, Vector


@feature(lookback=lambda window: window, least=2)
def volume_zscore(window: int = 60) -> Formula:
    """Latest volume against the mean and deviation of the last `window`; null where volume never changed."""
    return lambda volume, age: rolling_zscore(volume, window, age)


@feature(lookback=lambda fast, slow: max(fast, slow))
def volume_ratio(fast: int = 5, slow: int = 60) -> Formula:
    """ln(mean volume of `fast` bars / of `slow` bars); null where nothing traded."""
    return lambda volume, age: np.log(rolling_mean(volume, fast, age) / rolling_mean(volume, slow, age))


@feature(lookback=lambda window: window + 1, least=2)
def price_volume_correlation(window: int = 60) -> Formula:
    """Correlation of log returns with volume over `window` bars; null where either never changed."""
    return lambda close, volume, age: rolling_correlation(log_change(close), volume, window, age)


@feature(lookback=lambda window: window)
def vwap_deviation(window: int = 60) -> Formula:
    """ln(C / volume-weighted price of the last `window` bars); null where nothing traded."""

    def against_paid(close: Vector, volume: Vector, quote_volume: Vector, age: int) -> Vector:
        paid = rolling_sum(quote_volume, window, age) / rolling_sum(volume, window, age)
        deviation: Vector = np.log(close / paid)
        return deviation

    return against_paid


@feature(lookback=lambda window: window)
def trade_size(window: int = 60) -> Formula:
    """ln(volume per trade now / over the last `window` bars); null where nothing traded now."""

    def size(volume: Vector, trades: Vector, age: int) -> Vector:
        usual = rolling_sum(volume, window, age) / rolling_sum(trades, window, age)
        ratio: Vector = np.log(volume / trades / usual)
        return ratio

    return size
