"""How much was traded, against what is usual."""

import polars as pl

from lab.features.catalogue import feature
from lab.features.price import CLOSE, log_change
from lab.features.windows import rolling_correlation, rolling_deviation, rolling_mean, rolling_sum

VOLUME = pl.col("volume")


@feature(lookback=lambda window: window, least=2)
def volume_zscore(window: int = 60) -> pl.Expr:
    """Latest volume against the mean and deviation of the last `window`; null where volume never changed."""
    return (VOLUME - rolling_mean(VOLUME, window)) / rolling_deviation(VOLUME, window)


@feature(lookback=lambda fast, slow: max(fast, slow))
def volume_ratio(fast: int = 5, slow: int = 60) -> pl.Expr:
    """ln(mean volume of `fast` bars / of `slow` bars); null where nothing traded."""
    return (rolling_mean(VOLUME, fast) / rolling_mean(VOLUME, slow)).log()


@feature(lookback=lambda window: window + 1, least=2)
def price_volume_correlation(window: int = 60) -> pl.Expr:
    """Correlation of log returns with volume over `window` bars; null where either never changed."""
    return rolling_correlation(log_change(), VOLUME, window)


@feature(lookback=lambda window: window)
def vwap_deviation(window: int = 60) -> pl.Expr:
    """ln(C / volume-weighted price of the last `window` bars); null where nothing traded."""
    return (CLOSE * rolling_sum(VOLUME, window) / rolling_sum(pl.col("quote_volume"), window)).log()


@feature(lookback=lambda window: window)
def trade_size(window: int = 60) -> pl.Expr:
    """ln(volume per trade now / over the last `window` bars); null where nothing traded now."""
    trades = pl.col("trades")
    return (VOLUME / trades * rolling_sum(trades, window) / rolling_sum(VOLUME, window)).log()
