"""Who crossed the spread: taker buying and selling, and what it did to the price.

`buy_volume` is what takers bought; takers sold the rest of the volume. The delta of a bar is what they bought less
what they sold.
"""

import math
from functools import reduce

import numpy as np

from lab.compiled import compiled
from lab.errors import NotEnoughHistory
from lab.features.catalogue import feature, fitted_feature
from lab.features.formulas import taking
from lab.features.price import log_change
from lab.features.windows import (
    absolute_change,
    change,
    lag,
    relative_change,
    rolling_correlation,
    rolling_deviation,
    rolling_mean,
    rolling_slope,
    rolling_sum,
    rolling_zscore,
)
from lab.nouns import AGE, BOOK_LEVELS, OFI_COLUMNS, Ages, Bars, Formula, Matrix, Numbers, Vector

FEWEST_BOOKS = 50


def delta_of(buy_volume: Vector, volume: Vector) -> Vector:
    """Bought less sold by takers, bar by bar."""
    return 2 * buy_volume - volume


def imbalance(buy_volume: Vector, volume: Vector, window: int, age: Ages) -> Vector:
    """(bought - sold) / traded over the last `window` bars."""
    return rolling_sum(delta_of(buy_volume, volume), window, age) / rolling_sum(volume, window, age)


@feature(lookback=lambda window: window)
def flow_imbalance(window: int = 1) -> Formula:
    """(bought - sold) / traded over the last `window` bars, in [-1, 1]; null where nothing traded."""
    return lambda buy_volume, volume, age: imbalance(buy_volume, volume, window, age)


@feature(lookback=lambda fast, slow: max(fast, slow))
def flow_shift(fast: int = 5, slow: int = 60) -> Formula:
    """flow_imbalance of `fast` bars less that of `slow` bars; null where nothing traded."""

    def shift(buy_volume: Vector, volume: Vector, age: Ages) -> Vector:
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

    def ratio(buy_volume: Vector, volume: Vector, age: Ages) -> Vector:
        return np.log(rolling_sum(buy_volume, window, age) / rolling_sum(volume - buy_volume, window, age))

    return ratio


@feature(lookback=lambda window: window)
def buy_bar_share(window: int = 20) -> Formula:
    """Share of the last `window` bars in which takers bought more than they sold; null where a volume is."""

    def share(buy_volume: Vector, volume: Vector, age: Ages) -> Vector:
        delta = delta_of(buy_volume, volume)
        return rolling_mean(np.where(np.isnan(delta), np.nan, delta > 0), window, age)

    return share


@feature(lookback=lambda window: window + 1, least=2)
def flow_persistence(window: int = 60) -> Formula:
    """Correlation of volume delta with that of the bar before, over `window` bars; null where it never changed."""

    def persistence(buy_volume: Vector, volume: Vector, age: Ages) -> Vector:
        delta = delta_of(buy_volume, volume)
        return rolling_correlation(delta, lag(delta), window, age)

    return persistence


@feature(lookback=lambda window: window + 1, least=2)
def flow_return_correlation(window: int = 60) -> Formula:
    """Correlation of volume delta with log returns over `window` bars; null where either never changed."""

    def correlation(buy_volume: Vector, volume: Vector, close: Vector, age: Ages) -> Vector:
        return rolling_correlation(delta_of(buy_volume, volume), log_change(close), window, age)

    return correlation


@feature(lookback=lambda window: window + 1, least=2)
def kyle_lambda(window: int = 60) -> Formula:
    """Slope of close-to-close price change on volume delta over `window` bars, price per unit. Kyle (1985)."""

    def slope(buy_volume: Vector, volume: Vector, close: Vector, age: Ages) -> Vector:
        return rolling_slope(delta_of(buy_volume, volume), change(close), window, age)

    return slope


@feature(lookback=lambda window: window + 1)
def amihud(window: int = 60) -> Formula:
    """Mean of |simple return| / (close × volume) over `window` bars, × 1e6. Amihud (2002).

    Null where a bar of the window traded nothing.
    """

    def illiquidity(close: Vector, volume: Vector, age: Ages) -> Vector:
        value = np.where(volume > 0, close * volume, np.nan)
        return 1e6 * rolling_mean(np.abs(relative_change(close)) / value, window, age)

    return illiquidity


def share_of_bar(buy_volume: Vector, volume: Vector) -> Vector:
    """(bought - sold) / traded of each bar; NaN where nothing traded."""
    return delta_of(buy_volume, volume) / volume


@feature(lookback=lambda window: window)
def flow_run(window: int = 20) -> Formula:
    """Bars in a row with net taker buying (above 0) or selling (below 0), at most `window`; 0 on a balanced bar.

    Null where the volume of a bar that could lengthen the run is missing.
    """
    return lambda buy_volume, volume: signed_run(np.sign(delta_of(buy_volume, volume)), window)


@feature(lookback=lambda window: window + 1)
def tick_direction(window: int = 20) -> Formula:
    """(closes above the one before - closes below it) / `window`, in [-1, 1]: the tick rule. Lee & Ready (1991)."""
    return lambda close, age: rolling_mean(np.sign(change(close)), window, age)


@feature(lookback=lambda window: window, least=2)
def imbalance_zscore(window: int = 60) -> Formula:
    """flow_imbalance of this bar against the mean and deviation of the last `window`; null where one did not trade."""
    return lambda buy_volume, volume, age: rolling_zscore(share_of_bar(buy_volume, volume), window, age)


@feature(lookback=lambda window: window, least=2)
def cvd_slope(window: int = 60) -> Formula:
    """Least-squares slope of the cumulated volume delta over `window` bars, in mean bar volumes a bar, in [-1.5, 1.5].

    Where the cumulation begins does not matter to a slope. Null where nothing traded.
    """

    def slope(buy_volume: Vector, volume: Vector, age: Ages) -> Vector:
        return weighted_sum(delta_of(buy_volume, volume), slope_weights(window)) / rolling_mean(volume, window, age)

    return slope


@feature(lookback=lambda window: window + 1)
def cvd_divergence(window: int = 60) -> Formula:
    """flow_imbalance of `window` bars less (C - C[-window]) / sum of |C - C[-1]|, in [-2, 2].

    Above 0: takers bought, yet the price went less straight up. Null where nothing traded or nothing moved.
    """

    def divergence(buy_volume: Vector, volume: Vector, close: Vector, age: Ages) -> Vector:
        straight = change(close, window) / rolling_sum(absolute_change(close), window, age)
        return imbalance(buy_volume, volume, window, age) - straight

    return divergence


@feature(lookback=lambda window: 2 * window)
def flow_acceleration(window: int = 10) -> Formula:
    """flow_imbalance of the last `window` bars less that of the `window` before; null where nothing traded."""
    return lambda buy_volume, volume, age: change(imbalance(buy_volume, volume, window, age), window)


@feature(lookback=lambda bars, window: window + bars, least=2)
def flow_autocorrelation(bars: int = 5, window: int = 60) -> Formula:
    """Correlation of flow_imbalance with that of `bars` before, over `window` bars; null where it never changed."""

    def correlation(buy_volume: Vector, volume: Vector, age: Ages) -> Vector:
        share = share_of_bar(buy_volume, volume)
        return rolling_correlation(share, lag(share, bars), window, age)

    return correlation


@feature(lookback=lambda window: window)
def vpin(window: int = 250, buckets: int = 50) -> Formula:
    """Sum of |bought - sold| over `buckets` of equal volume, cut from the last `window` bars, as a share of it.

    Easley, López de Prado & O'Hara (2012), with what takers really did. A bar that crosses the edge of a bucket is
    split by volume. Null where nothing traded.
    """
    return lambda buy_volume, volume: bucket_imbalance(buy_volume / volume, volume, window, buckets)


@feature(lookback=lambda window: 2 * window, least=2)
def bulk_vpin(window: int = 250, buckets: int = 50) -> Formula:
    """`vpin` where takers are not known: a bar's bought share is taken for Phi(price change / its deviation).

    The bulk classification of Easley, López de Prado & O'Hara (2012); the deviation is that of the last `window`
    changes. Null where nothing traded or a price did not move for `window` bars.
    """

    def toxicity(close: Vector, volume: Vector, age: Ages) -> Vector:
        share = bulk_share(change(close) / rolling_deviation(change(close), window, age))
        return bucket_imbalance(share, volume, window, buckets)

    return toxicity


@feature(lookback=lambda window: window, least=2)
def ofi_zscore(window: int = 60) -> Formula:
    """Order-flow imbalance at the best quotes, against its mean and deviation over `window` bars.

    Cont, Kukanov & Stoikov (2014).
    """
    return lambda ofi_1, age: rolling_zscore(ofi_1, window, age)


@feature(lookback=lambda window: window)
def ofi_of_depth(window: int = 60) -> Formula:
    """Order-flow imbalance at the best quotes over their mean size in the last `window` bars; null without size.

    Cont, Kukanov & Stoikov (2014): the price moves with it, the more the thinner the book.
    """

    def relative(ofi_1: Vector, bid_size: Vector, ask_size: Vector, age: Ages) -> Vector:
        return ofi_1 / rolling_mean((bid_size + ask_size) / 2, window, age)

    return relative


@feature(lookback=lambda window: window, least=2)
def deep_ofi_zscore(window: int = 60) -> Formula:
    """Order-flow imbalance summed over ten levels of the book, against its mean and deviation over `window` bars.

    Xu, Gould & Howison (2018).
    """

    def zscore(age: Ages, *levels: Vector) -> Vector:
        return rolling_zscore(reduce(np.add, levels), window, age)

    return taking([AGE, *OFI_COLUMNS], zscore)


def fit_ofi(bars: Bars) -> Numbers:
    """First principal component of the imbalances of ten levels on training bars: weight_1 … weight_10 and `scale`.

    Weights add up to 1 in size and to more than 0; `scale` is the deviation of what they make of the training bars.
    Bars without one of the levels are left out; under 50 others, or none that differ, is NotEnoughHistory.
    """
    levels = bars.frame.select(OFI_COLUMNS).drop_nulls().to_numpy()
    deviations = levels.std(axis=0) if len(levels) else np.zeros(BOOK_LEVELS)
    if len(levels) < FEWEST_BOOKS or not deviations.any():
        raise NotEnoughHistory(
            f"integrated OFI needs {FEWEST_BOOKS} bars with ten levels that change; "
            f"{bars.symbols[0]} has {len(levels)} to train on",
            fix="lengthen `train`, or leave integrated_ofi out",
        )
    weights = first_component(levels / deviations.max())
    scale = float(np.std(levels @ weights))
    return {f"weight_{k}": float(weight) for k, weight in enumerate(weights, 1)} | {"scale": scale}


def first_component(levels: Matrix) -> Vector:
    """The direction in which rows differ most, of size 1 in the sum of its parts, which is positive."""
    component = np.linalg.eigh(np.cov(levels, rowvar=False))[1][:, -1]
    weights: Vector = component / np.abs(component).sum() * (1 if component.sum() >= 0 else -1)
    return weights


@fitted_feature(fit=fit_ofi, lookback=lambda: 1, needs=OFI_COLUMNS)
def integrated_ofi(numbers: Numbers) -> Formula:
    """First principal component of order-flow imbalance at ten levels, over its deviation on training bars.

    Cont, Cucuringu & Zhang (2023). Null where a level is.
    """
    weights = [numbers[f"weight_{k}"] / numbers["scale"] for k in range(1, BOOK_LEVELS + 1)]

    def component(*levels: Vector) -> Vector:
        total = np.zeros(levels[0].size)
        for weight, level in zip(weights, levels, strict=True):
            total += weight * level
        return total

    return taking(OFI_COLUMNS, component)


def slope_weights(window: int) -> Vector:
    """What each of `window` steps, oldest first, adds to the least-squares slope of their cumulated sum."""
    away = np.arange(window) - (window - 1) / 2
    tails: Vector = np.cumsum(away[::-1])[::-1]
    return tails / (away @ away)


@compiled
def weighted_sum(x: Vector, weights: Vector) -> Vector:
    """Sum of the last values, each times its weight, oldest first."""
    window = weights.size
    out = np.full(x.size, np.nan)
    for t in range(window - 1, x.size):
        total = 0.0
        for k in range(window):
            total += weights[k] * x[t - window + 1 + k]
        out[t] = total
    return out


@compiled
def signed_run(sign: Vector, most: int) -> Vector:
    """Signed number of rows in a row, this one included, with the same sign; at most `most`."""
    out = np.full(sign.size, np.nan)
    for t in range(sign.size):
        run = 0
        for k in range(t, max(t - most, -1), -1):
            if math.isnan(sign[k]):
                run = -1
                break
            if sign[k] != sign[t]:
                break
            run += 1
        if run >= 0:
            out[t] = run * sign[t]
    return out


@compiled
def bulk_share(change: Vector) -> Vector:
    """The normal distribution function of each change in deviations."""
    out = np.empty(change.size)
    for t in range(change.size):
        out[t] = 0.5 * (1 + math.erf(change[t] / math.sqrt(2)))
    return out


@compiled
def bucket_imbalance(bought: Vector, volume: Vector, window: int, buckets: int) -> Vector:
    """Over the last `window` bars: |bought - sold| summed over buckets of equal volume, as a share of the volume.

    `bought` is the share of each bar's volume that takers bought; of a bar that traded nothing it does not matter.
    """
    out = np.full(volume.size, np.nan)
    for t in range(window - 1, volume.size):
        total = 0.0
        for k in range(t - window + 1, t + 1):
            total += volume[k]
        size = total / buckets
        apart = delta = filled = 0.0
        for k in range(t - window + 1, t + 1):
            left = volume[k]
            while left > 0 and filled + left >= size:
                part = size - filled
                apart += abs(delta + (2 * bought[k] - 1) * part)
                left -= part
                delta = filled = 0.0
            if left > 0:
                delta += (2 * bought[k] - 1) * left
                filled += left
        out[t] = (apart + abs(delta)) / total
    return out
