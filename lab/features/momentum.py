"""Oscillators: how one-sided the recent moves were."""

import numpy as np

from lab.compiled import compiled, row
from lab.features.averages import efficiency, weighted_mean
from lab.features.catalogue import feature
from lab.features.extremes import highest, lowest
from lab.features.price import (
    EQUAL,
    by_direction,
    channel,
    log_change,
    position_in,
    rolling_ratio,
    share_of_both,
    sums_by_direction,
)
from lab.features.sharing import shared
from lab.features.trend import true_range
from lab.features.windows import (
    absolute_change,
    change,
    ema,
    relative_change,
    rolling_deviation,
    rolling_mean,
    rolling_sum,
    rolling_zscore,
    span_memory,
    wilder,
    wilder_memory,
)
from lab.nouns import Ages, Formula, Vector


@shared
def stochastic(high: Vector, low: Vector, close: Vector, window: int, age: Ages) -> Vector:
    """100 (C - lowest low) / (highest high - lowest low) of `window` bars."""
    top, bottom = channel(high, low, window, age)
    return 100 * position_in(bottom, close, top)


@shared
def relative_strength(close: Vector, window: int, age: Ages) -> Vector:
    """Wilder's RSI of closes; NaN where nothing moved."""
    rises, falls = by_direction(close, absolute_change(close))
    return 100 * share_of_both(wilder(rises, window, age), wilder(falls, window, age))


@shared
@compiled
def typical_price(high: Vector, low: Vector, close: Vector) -> Vector:
    """(H + L + C) / 3."""
    out = np.empty(close.size)
    for t in range(close.size):
        out[row(t)] = (high[row(t)] + low[row(t)] + close[row(t)]) / 3
    return out


@feature(lookback=lambda window: wilder_memory(window) + 1)
def rsi(window: int = 14) -> Formula:
    """Relative strength index, 100 gains / (gains + losses) in Wilder averages; null without any move.

    Wilder (1978).
    """
    return lambda close, age: relative_strength(close, window, age)


@feature(lookback=lambda window: window)
def stochastic_k(window: int = 14) -> Formula:
    """100 (C - lowest low) / (highest high - lowest low) of `window` bars; null without range. Lane (1984)."""
    return lambda high, low, close, age: stochastic(high, low, close, window, age)


@feature(lookback=lambda window, smoothing: window + smoothing - 1)
def stochastic_d(window: int = 14, smoothing: int = 3) -> Formula:
    """Mean of the last `smoothing` values of stochastic_k."""
    return lambda high, low, close, age: rolling_mean(stochastic(high, low, close, window, age), smoothing, age)


@feature(lookback=lambda window: window + 1)
def efficiency_ratio(window: int = 20) -> Formula:
    """|C - C[-window]| / sum of |C - C[-1]|, in [0, 1]: 1 is a straight line; null without any move. Kaufman (1995)."""
    return lambda close, age: efficiency(close, window, age)


@feature(lookback=lambda window: window + 1, least=2)
def return_zscore(window: int = 60) -> Formula:
    """Latest log return against the mean and deviation of the last `window`; null where nothing moved."""
    return lambda close, age: rolling_zscore(log_change(close), window, age)


@feature(lookback=lambda window: 2 * window + 1)
def acceleration(window: int = 10) -> Formula:
    """Log return of the last `window` bars less that of the `window` bars before."""
    return lambda close: change(log_change(close, window), window)


@feature(lookback=lambda window, over: wilder_memory(window) + over)
def stochastic_rsi(window: int = 14, over: int = 14) -> Formula:
    """100 (RSI - its lowest) / (its highest - its lowest) of `over` bars. Chande & Kroll (1994).

    Null where the RSI changed by no more than 1e-9, which rounding can do, or one of them is null.
    """

    def position(close: Vector, age: Ages) -> Vector:
        strength = relative_strength(close, window, age)
        bottom, top = lowest(strength, over, age), highest(strength, over, age)
        return 100 * position_in(bottom, strength, top, 1e-9)

    return position


@feature(lookback=lambda window: window, least=2)
def cci(window: int = 20) -> Formula:
    """Commodity channel index: (TP - mean TP) / (0.015 mean |TP - mean TP|) of `window` bars. Lambert (1980).

    TP = (H + L + C) / 3; null where it never changed.
    """

    def index(high: Vector, low: Vector, close: Vector, age: Ages) -> Vector:
        typical = typical_price(high, low, close)
        return in_mean_deviations(typical, rolling_mean(typical, window, age), window) / 0.015

    return index


@feature(lookback=lambda window: window + 1)
def roc(window: int = 10) -> Formula:
    """Rate of change in percent: 100 (C / C[-window] - 1)."""
    return lambda close: 100 * relative_change(close, window)


@feature(lookback=lambda window: window)
def williams_r(window: int = 14) -> Formula:
    """%R: 100 (C - highest high) / (highest high - lowest low) of `window` bars, in [-100, 0]. Williams (1979).

    Null without range.
    """
    return lambda high, low, close, age: stochastic(high, low, close, window, age) - 100


@feature(lookback=lambda window: window + 1)
def mfi(window: int = 14) -> Formula:
    """Money flow index: 100 × money of bars on which TP rose / of those on which it rose or fell.

    TP = (H + L + C) / 3, money TP × volume, both over `window` bars; null where none was paid. Quong & Soudack (1989).
    """

    def index(high: Vector, low: Vector, close: Vector, volume: Vector, age: Ages) -> Vector:
        typical = typical_price(high, low, close)
        rising, falling = sums_by_direction(typical, typical * volume, window, age)
        return 100 * share_of_both(rising, falling)

    return index


@feature(lookback=lambda slow, fast: span_memory(slow) + span_memory(fast))
def tsi(slow: int = 25, fast: int = 13) -> Formula:
    """True strength index: 100 × EMA(fast) of EMA(slow) of C - C[-1], over the same of |C - C[-1]|. Blau (1991).

    Null without any move.
    """

    def index(close: Vector, age: Ages) -> Vector:
        moves, walked = (ema(ema(each, slow, age), fast, age) for each in (change(close), absolute_change(close)))
        return 100 * moves / walked

    return index


@feature(lookback=lambda window: window + 1)
def cmo(window: int = 14) -> Formula:
    """Chande's momentum: 100 (gains - losses) / (gains + losses), plain sums over `window` bars. Chande (1994).

    TA-Lib's function of that name takes Wilder averages instead, which is 2 rsi - 100. Null without any move.
    """

    def oscillator(close: Vector, age: Ages) -> Vector:
        gains, losses = sums_by_direction(close, absolute_change(close), window, age)
        return 100 * (gains - losses) / (gains + losses)

    return oscillator


@feature(lookback=lambda fast, medium, slow: max(fast, medium, slow) + 1)
def ultimate_oscillator(fast: int = 7, medium: int = 14, slow: int = 28) -> Formula:
    """100 (4 a + 2 b + c) / 7, each the sum of C - min(L, C[-1]) over that of the true range. Williams (1985).

    a, b, c are over `fast`, `medium`, `slow` bars; null where one of them has no range.
    """

    def oscillator(high: Vector, low: Vector, close: Vector, age: Ages) -> Vector:
        above, ranges = close_above(low, close), true_range(high, low, close)
        sums = [rolling_sum(each, window, age) for window in (fast, medium, slow) for each in (above, ranges)]
        return weighted_percent(*sums)

    return oscillator


@feature(lookback=lambda fast, slow: max(span_memory(fast), span_memory(slow)))
def ppo(fast: int = 12, slow: int = 26) -> Formula:
    """Percentage price oscillator: 100 (EMA(fast) / EMA(slow) - 1) of closes. Appel."""
    return lambda close, age: 100 * (ema(close, fast, age) / ema(close, slow, age) - 1)


@feature(lookback=lambda fast, slow: max(fast, slow))
def awesome_oscillator(fast: int = 5, slow: int = 34) -> Formula:
    """(mean (H + L) / 2 of `fast` bars - of `slow` bars) / C. Williams (1998), as a share of the close."""

    def oscillator(high: Vector, low: Vector, close: Vector, age: Ages) -> Vector:
        middles = 0.5 * (high + low)
        return (rolling_mean(middles, fast, age) - rolling_mean(middles, slow, age)) / close

    return oscillator


@feature(lookback=lambda fast, slow, smoothing: max(fast, slow) + smoothing)
def coppock(fast: int = 11, slow: int = 14, smoothing: int = 10) -> Formula:
    """WMA(smoothing) of the percent changes over `fast` and over `slow` bars, added. Coppock (1962)."""

    def curve(close: Vector, age: Ages) -> Vector:
        return weighted_mean(100 * (relative_change(close, fast) + relative_change(close, slow)), smoothing, age)

    return curve


@feature(lookback=lambda window: window)
def balance_of_power(window: int = 14) -> Formula:
    """Sum of C - O over that of H - L, `window` bars, in [-1, 1]; null without range. Livshin (2001) for one bar."""
    return lambda open, high, low, close, age: rolling_ratio(close - open, high - low, window, age)


@feature(lookback=lambda window, over: window + over, least=2)
def momentum_zscore(window: int = 10, over: int = 100) -> Formula:
    """log_return(window) against the mean and deviation of its last `over` values; null where it never changed."""
    return lambda close, age: rolling_zscore(log_change(close, window), over, age)


@feature(lookback=lambda first, second, third, fourth: max(first, second, third, fourth) + 1)
def momentum_cascade(first: int = 1, second: int = 5, third: int = 15, fourth: int = 60) -> Formula:
    """Mean of the signs of C - C[-n] for four n: 1 where the close is above all four, -1 where below all."""

    def agreement(close: Vector) -> Vector:
        return sum((np.sign(change(close, bars)) for bars in (first, second, third, fourth)), np.zeros(1)) / 4

    return agreement


@feature(lookback=lambda first, second, third, fourth: max(first, second, third, fourth) + 1)
def cascade_strength(first: int = 1, second: int = 5, third: int = 15, fourth: int = 60) -> Formula:
    """Mean over four n of log_return(n) / (s √n), s the deviation of one-bar returns over the longest of them.

    Each horizon in units of what it would move by chance. Null where nothing moved.
    """

    def strength(close: Vector, age: Ages) -> Vector:
        horizons = (first, second, third, fourth)
        deviation = rolling_deviation(log_change(close), max(horizons), age)
        moves = sum((log_change(close, bars) / np.sqrt(bars) for bars in horizons), np.zeros(1))
        return moves / (4 * deviation)

    return strength


@compiled
def close_above(low: Vector, close: Vector) -> Vector:
    """How far a close is above the low of its bar, or above the close before it if that is lower; NaN on the first."""
    out = np.full(close.size, np.nan)
    for t in range(1, close.size):
        out[row(t)] = close[row(t)] - min(low[row(t)], close[row(t - 1)])
    return out


@compiled
def weighted_percent(a: Vector, of_a: Vector, b: Vector, of_b: Vector, c: Vector, of_c: Vector) -> Vector:
    """The mean of three ratios in percent, the first weighing 4, the second 2."""
    out = np.empty(a.size)
    for t in range(a.size):
        ratios = 4 * a[row(t)] / of_a[row(t)] + 2 * b[row(t)] / of_b[row(t)] + c[row(t)] / of_c[row(t)]
        out[row(t)] = 100 / 7 * ratios
    return out


@compiled
def in_mean_deviations(x: Vector, mean: Vector, window: int) -> Vector:
    """x less the given mean of each row, over the mean |x - that| of the last `window` values.

    NaN where these are equal but for rounding.
    """
    out = np.zeros(x.size)
    some = 256
    for start in range(window - 1, x.size, some):
        stop = min(start + some, x.size)
        sums, about = out[start:stop], mean[start:stop]
        for back in range(window):  # many rows at a time, none of which waits for another
            values = x[start - back : stop - back]
            for t in range(sums.size):
                sums[t] += abs(values[t] - about[t])
    for t in range(x.size):
        usual = out[row(t)] / window
        away = (x[row(t)] - mean[row(t)]) / usual
        out[row(t)] = away if usual > EQUAL * abs(mean[row(t)]) else np.nan
    return out
