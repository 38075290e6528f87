"""Who crossed the spread: taker buying and selling, and what it did to the price.

`buy_volume` is what takers bought; takers sold the rest of the volume.
"""

import polars as pl

from lab.features.catalogue import feature
from lab.features.price import CLOSE, log_change
from lab.features.volume import VOLUME
from lab.features.windows import rolling_correlation, rolling_mean, rolling_slope, rolling_sum

BOUGHT = pl.col("buy_volume")
DELTA = 2 * BOUGHT - VOLUME


@feature(lookback=lambda window: window)
def flow_imbalance(window: int = 1) -> pl.Expr:
    """(bought - sold) / traded over the last `window` bars, in [-1, 1]; null where nothing traded."""
    return rolling_sum(DELTA, window) / rolling_sum(VOLUME, window)


@feature(lookback=lambda fast, slow: max(fast, slow))
def flow_shift(fast: int = 5, slow: int = 60) -> pl.Expr:
    """flow_imbalance of `fast` bars less that of `slow` bars; null where nothing traded."""
    recent = rolling_sum(DELTA, fast) / rolling_sum(VOLUME, fast)
    return recent - rolling_sum(DELTA, slow) / rolling_sum(VOLUME, slow)


@feature(lookback=lambda window: window)
def cvd(window: int = 60) -> pl.Expr:
    """Rolling cumulative volume delta: bought less sold over the last `window` bars, in units of the base asset.

    A rolling sum, since the level of an unbounded CVD depends on where the history happens to begin.
    """
    return rolling_sum(DELTA, window)


@feature(lookback=lambda window: window)
def taker_ratio(window: int = 20) -> pl.Expr:
    """ln(bought / sold) over the last `window` bars; null where one side is absent."""
    return (rolling_sum(BOUGHT, window) / rolling_sum(VOLUME - BOUGHT, window)).log()


@feature(lookback=lambda window: window)
def buy_bar_share(window: int = 20) -> pl.Expr:
    """Share of the last `window` bars in which takers bought more than they sold."""
    return rolling_mean((DELTA > 0).cast(pl.Float64), window)


@feature(lookback=lambda window: window + 1, least=2)
def flow_persistence(window: int = 60) -> pl.Expr:
    """Correlation of volume delta with that of the bar before, over `window` bars; null where it never changed."""
    return rolling_correlation(DELTA, DELTA.shift(1), window)


@feature(lookback=lambda window: window + 1, least=2)
def flow_return_correlation(window: int = 60) -> pl.Expr:
    """Correlation of volume delta with log returns over `window` bars; null where either never changed."""
    return rolling_correlation(DELTA, log_change(), window)


@feature(lookback=lambda window: window + 1, least=2)
def kyle_lambda(window: int = 60) -> pl.Expr:
    """Slope of close-to-close price change on volume delta over `window` bars, price per unit. Kyle (1985)."""
    return rolling_slope(DELTA, CLOSE.diff(), window)


@feature(lookback=lambda window: window + 1)
def amihud(window: int = 60) -> pl.Expr:
    """Mean of |simple return| / (close × volume) over `window` bars, × 1e6. Amihud (2002).

    Null where a bar of the window traded nothing.
    """
    value = CLOSE * VOLUME
    illiquidity = CLOSE.pct_change().abs() / pl.when(value > 0).then(value)
    return 1e6 * rolling_mean(illiquidity, window)
