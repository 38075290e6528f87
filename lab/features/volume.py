"""How much was traded, against what is usual."""

import numpy as np

from lab.compiled import compiled, row
from lab.features.catalogue import feature
from lab.features.extremes import rolling_rank
from lab.features.price import log_change, log_ratio, rolling_ratio, sums_by_direction
from lab.features.sharing import shared
from lab.features.windows import (
    change,
    ema,
    exponential_sum,
    rolling_correlation,
    rolling_line,
    rolling_mean,
    rolling_sum,
    rolling_zscore,
    span_memory,
)
from lab.features.windows import lag as lagged
from lab.nouns import Ages, Formula, Vector


@shared
@compiled
def accumulated(high: Vector, low: Vector, close: Vector, volume: Vector) -> Vector:
    """Volume times where the close lies in the bar, from -1 at the low to 1 at the high; 0 on a bar without range."""
    out = np.empty(close.size)
    for t in range(close.size):
        span = high[row(t)] - low[row(t)]
        place = (2 * close[row(t)] - high[row(t)] - low[row(t)]) / span if span > 0 else 0.0
        out[row(t)] = place * volume[row(t)]
    return out


def directed(close: Vector, volume: Vector, window: int, age: Ages) -> tuple[Vector, Vector, Vector]:
    """Volume of the last `window` bars that closed higher than the bar before, of those that closed lower, of all."""
    rising, falling = sums_by_direction(close, volume, window, age)
    return rising, falling, rolling_sum(volume, window, age)


@feature(lookback=lambda window: window, least=2)
def volume_zscore(window: int = 60) -> Formula:
    """Latest volume against the mean and deviation of the last `window`; null where volume never changed."""
    return lambda volume, age: rolling_zscore(volume, window, age)


@feature(lookback=lambda fast, slow: max(fast, slow))
def volume_ratio(fast: int = 5, slow: int = 60) -> Formula:
    """ln(mean volume of `fast` bars / of `slow` bars); null where nothing traded."""
    return lambda volume, age: log_ratio(rolling_mean(volume, fast, age), rolling_mean(volume, slow, age))


@feature(lookback=lambda window: window + 1, least=2)
def price_volume_correlation(window: int = 60) -> Formula:
    """Correlation of log returns with volume over `window` bars; null where either never changed."""
    return lambda close, volume, age: rolling_correlation(log_change(close), volume, window, age)


@feature(lookback=lambda window: window)
def vwap_deviation(window: int = 60) -> Formula:
    """ln(C / volume-weighted price of the last `window` bars); null where nothing traded."""

    def against_paid(close: Vector, volume: Vector, quote_volume: Vector, age: Ages) -> Vector:
        paid = rolling_sum(quote_volume, window, age) / rolling_sum(volume, window, age)
        return log_ratio(close, paid)

    return against_paid


@feature(lookback=lambda window: window)
def trade_size(window: int = 60) -> Formula:
    """ln(volume per trade now / over the last `window` bars); null where nothing traded now."""

    def size(volume: Vector, trades: Vector, age: Ages) -> Vector:
        usual = rolling_sum(volume, window, age) / rolling_sum(trades, window, age)
        ratio: Vector = np.log(volume / trades / usual)
        return ratio

    return size


@feature(lookback=lambda lag: lag + 2)
def lagged_volume_change(lag: int = 1) -> Formula:
    """ln(V[-lag] / V[-lag-1]); null where one of them is 0."""
    return lambda volume: lagged(log_change(volume), lag)


@feature(lookback=lambda window: window + 1)
def obv(window: int = 20) -> Formula:
    """On-balance volume of `window` bars as a share: (volume on rises - on falls) / volume. After Granville (1963).

    In [-1, 1]; null where nothing traded.
    """

    def balance(close: Vector, volume: Vector, age: Ages) -> Vector:
        rising, falling, traded = directed(close, volume, window, age)
        return (rising - falling) / traded

    return balance


@feature(lookback=lambda window: window + 1)
def rising_volume_share(window: int = 20) -> Formula:
    """Share of the volume of `window` bars that traded in those that closed higher; null where nothing traded."""

    def share(close: Vector, volume: Vector, age: Ages) -> Vector:
        rising, _, traded = directed(close, volume, window, age)
        return rising / traded

    return share


@feature(lookback=lambda window: window + 1)
def falling_volume_share(window: int = 20) -> Formula:
    """Share of the volume of `window` bars that traded in those that closed lower; null where nothing traded."""

    def share(close: Vector, volume: Vector, age: Ages) -> Vector:
        _, falling, traded = directed(close, volume, window, age)
        return falling / traded

    return share


@feature(lookback=lambda window: window + 1)
def busy_return(window: int = 60) -> Formula:
    """Sum of the log returns of those of `window` bars that traded more than the bar before. After Fosback's PVI."""
    return lambda close, volume, age: with_volume(close, volume, window, age)[0]


@feature(lookback=lambda window: window + 1)
def quiet_return(window: int = 60) -> Formula:
    """Sum of the log returns of those of `window` bars that traded less than the bar before. After Fosback's NVI."""
    return lambda close, volume, age: with_volume(close, volume, window, age)[1]


@feature(lookback=lambda window: window)
def chaikin_money_flow(window: int = 20) -> Formula:
    """Sum of volume × (2C - H - L) / (H - L) over that of volume, `window` bars, in [-1, 1]. Chaikin.

    A bar without range counts 0; null where nothing traded.
    """

    def flow(high: Vector, low: Vector, close: Vector, volume: Vector, age: Ages) -> Vector:
        return rolling_ratio(accumulated(high, low, close, volume), volume, window, age)

    return flow


@feature(lookback=lambda fast, slow: max(span_memory(fast), span_memory(slow)))
def chaikin_oscillator(fast: int = 3, slow: int = 10) -> Formula:
    """(EMA(fast) - EMA(slow) of the accumulation/distribution line) / EMA(slow) of volume. Chaikin.

    The line adds up volume × (2C - H - L) / (H - L), 0 on a bar without range; null where nothing traded.
    """

    def oscillator(high: Vector, low: Vector, close: Vector, volume: Vector, age: Ages) -> Vector:
        steps = accumulated(high, low, close, volume)
        return (average_lag(steps, slow, age) - average_lag(steps, fast, age)) / ema(volume, slow, age)

    return oscillator


@feature(lookback=lambda span: span_memory(span) + 1)
def force_index(span: int = 13) -> Formula:
    """EMA of (C - C[-1]) × volume over EMA of |C - C[-1]| × volume, in [-1, 1]. Elder (1993), as a share.

    Null where nothing traded at another price.
    """

    def force(close: Vector, volume: Vector, age: Ages) -> Vector:
        pushes = change(close) * volume
        return ema(pushes, span, age) / ema(np.abs(pushes), span, age)

    return force


@feature(lookback=lambda window: window + 1)
def ease_of_movement(window: int = 14) -> Formula:
    """Mean of ln(M / M[-1]) ln(H / L) / (V / mean V), M the middle of a bar, `window` bars. After Arms (1989).

    In squared log returns: the volume is in units of its mean. Null while one of the bars traded nothing.
    """

    def ease(high: Vector, low: Vector, volume: Vector, age: Ages) -> Vector:
        traded = np.where(volume > 0, volume, np.nan)
        easy = log_change(high + low) * log_ratio(high, low) / traded
        return rolling_mean(easy, window, age) * rolling_mean(traded, window, age)

    return ease


@feature(lookback=lambda window: window, least=2)
def volume_trend(window: int = 60) -> Formula:
    """Slope of the least-squares line through the volume of `window` bars over its mean, per bar; null without any."""

    def trend(volume: Vector, age: Ages) -> Vector:
        return rolling_line(volume, window, age)[0] / rolling_mean(volume, window, age)

    return trend


@feature(lookback=lambda span: span_memory(span) + 1)
def vzo(span: int = 14) -> Formula:
    """Volume zone oscillator: 100 × EMA of volume, signed as C - C[-1], over EMA of volume. Khalil & Steckler (2009).

    In [-100, 100]; null where nothing traded.
    """

    def oscillator(close: Vector, volume: Vector, age: Ages) -> Vector:
        return 100 * ema(np.sign(change(close)) * volume, span, age) / ema(volume, span, age)

    return oscillator


@feature(lookback=lambda window: window)
def vwma_distance(window: int = 20) -> Formula:
    """ln(C / mean close of `window` bars, each weighing its volume); null where nothing traded."""
    return lambda close, volume, age: log_ratio(close, rolling_ratio(close * volume, volume, window, age))


@feature(lookback=lambda window: window, least=2)
def volume_rank(window: int = 60) -> Formula:
    """Rank of the volume among that of the last `window` bars, as a share in (0, 1]; equal ones share their ranks."""
    return lambda volume: rolling_rank(volume, window)


@feature(lookback=lambda window: window, least=2)
def dollar_volume_zscore(window: int = 60) -> Formula:
    """C × volume against its mean and deviation of the last `window` bars; null where it never changed."""
    return lambda close, volume, age: rolling_zscore(close * volume, window, age)


def with_volume(close: Vector, volume: Vector, window: int, age: Ages) -> tuple[Vector, Vector]:
    """Log returns of the bars that traded more than the bar before, summed, and of those that traded less."""
    # Of a volume that is missing nobody knows whether it rose.
    returns = np.where(np.isnan(change(volume)), np.nan, log_change(close))
    return sums_by_direction(volume, returns, window, age)


def average_lag(steps: Vector, span: int, age: Ages) -> Vector:
    """How far the EMA of a line that these steps add up to runs behind it.

    A step of k bars ago has reached the EMA but for decay ** (k + 1) of it: so the line itself, whose level depends
    on where the history begins, is not needed.
    """
    decay = (span - 1) / (span + 1)
    return decay * exponential_sum(steps, decay, span_memory(span), age)
