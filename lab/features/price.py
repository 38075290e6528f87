"""Returns and the shape of single bars."""

import math

import numpy as np

from lab.compiled import compiled, row
from lab.features.catalogue import feature
from lab.features.extremes import highest, lowest
from lab.features.sharing import shared
from lab.features.windows import exponential_mean, memory, relative_change, rolling_mean, rolling_sum
from lab.features.windows import lag as lagged
from lab.nouns import Ages, Formula, Vector

HEIKIN_ASHI_DECAY = 0.5
EQUAL = 1e-14
NEAR = 0.025


@compiled
def log_of_ratio(x: float, y: float) -> float:
    """ln(x / y), of two numbers within 5% of each other by the series of 2 artanh((x - y) / (x + y)).

    That is exact to a rounding, where the quotient would already be rounded before its logarithm is taken.
    """
    s = (x - y) / (x + y)
    return near_log(s) if abs(s) < NEAR else math.log(x / y)


@compiled
def near_log(s: float) -> float:
    """2 artanh(s) of a small s."""
    z = s * s
    return 2 * s * (1 + z * (1 / 3 + z * (1 / 5 + z * (1 / 7 + z * (1 / 9)))))


@shared
def log_ratio(x: Vector, y: Vector) -> Vector:
    """ln(x / y), as `log_of_ratio`."""
    return log_of_ratios(x, y)


@compiled
def log_of_ratios(x: Vector, y: Vector) -> Vector:
    """ln(x / y), as `log_of_ratio`, many at a time where all of them are near."""
    n = x.size
    out = np.empty(n)
    some = 512
    for start in range(0, n, some):
        stop = min(start + some, n)
        far = 0
        for t in range(start, stop):
            out[row(t)] = (x[row(t)] - y[row(t)]) / (x[row(t)] + y[row(t)])
        for t in range(start, stop):
            far += not abs(out[row(t)]) < NEAR
        for t in range(start, stop):
            out[row(t)] = near_log(out[row(t)])
        if far:
            for t in range(start, stop):
                out[row(t)] = log_of_ratio(x[row(t)], y[row(t)])
    return out


@compiled
def write_logs(x: Vector, unit: float, out: Vector) -> None:
    """ln(x / unit), as `log_ratio`, into the first rows of `out`."""
    far = 0
    for t in range(x.size):
        out[t] = (x[t] - unit) / (x[t] + unit)
        far += not abs(out[t]) < NEAR
    for t in range(x.size):
        out[t] = near_log(out[t])
    if far:
        for t in range(x.size):
            out[t] = log_of_ratio(x[t], unit)


@shared
@compiled
def log_change(close: Vector, bars: int = 1) -> Vector:
    """ln(close / close `bars` bars ago)."""
    n = close.size
    out = np.empty(n)
    out[:bars] = np.nan
    out[bars:] = log_of_ratios(close[bars:], close[: max(n - bars, 0)])
    return out


def channel(high: Vector, low: Vector, window: int, age: Ages) -> tuple[Vector, Vector]:
    """The highest high and the lowest low of the last `window` bars."""
    return highest(high, window, age), lowest(low, window, age)


@compiled
def position_in(low: Vector, value: Vector, high: Vector, least: float = 0.0) -> Vector:
    """(value - low) / (high - low); NaN where high is above low by no more than `least`."""
    out = np.empty(value.size)
    for t in range(value.size):
        span = high[row(t)] - low[row(t)]
        out[row(t)] = (value[row(t)] - low[row(t)]) / span if span > least else np.nan
    return out


@compiled
def share_of_both(x: Vector, y: Vector) -> Vector:
    """x / (x + y); NaN where both are 0."""
    out = np.empty(x.size)
    for t in range(x.size):
        out[row(t)] = x[row(t)] / (x[row(t)] + y[row(t)])
    return out


def rolling_ratio(x: Vector, y: Vector, window: int, age: Ages) -> Vector:
    """Sum of the last `window` values of x over that of y."""
    return rolling_sum(x, window, age) / rolling_sum(y, window, age)


@shared
@compiled
def by_direction(x: Vector, amount: Vector) -> tuple[Vector, Vector]:
    """Amounts of rows on which x rose, and of those on which it fell, 0 on the others.

    x is not negative, and values of it that are equal but for rounding are equal. The first amount, and one that is
    missing, is unknown in both.
    """
    n = x.size
    rising = np.full(n, np.nan)
    falling = np.full(n, np.nan)
    for t in range(1, n):
        moved = x[row(t)] - x[row(t - 1)]
        least = EQUAL * x[row(t)]
        none = 0.0 * amount[row(t)]
        rising[row(t)] = amount[row(t)] if moved > least else none
        falling[row(t)] = amount[row(t)] if -moved > least else none
    return rising, falling


def sums_by_direction(x: Vector, amount: Vector, window: int, age: Ages) -> tuple[Vector, Vector]:
    """Sums over `window` rows of the amounts on which x rose, and of those on which it fell."""
    rising, falling = by_direction(x, amount)
    return rolling_sum(rising, window, age), rolling_sum(falling, window, age)


@feature(lookback=lambda window: window + 1)
def simple_return(window: int = 1) -> Formula:
    """C / C[-window] - 1."""
    return lambda close: relative_change(close, window)


@feature(lookback=lambda window: window + 1)
def log_return(window: int = 1) -> Formula:
    """ln(C / C[-window])."""
    return lambda close: log_change(close, window)


@feature(lookback=lambda lag: lag + 2)
def lagged_return(lag: int = 1) -> Formula:
    """One-bar log return of `lag` bars ago: ln(C[-lag] / C[-lag-1])."""
    return lambda close: lagged(log_change(close), lag)


@feature(lookback=2)
def open_gap() -> Formula:
    """ln(O / C[-1]): the jump from the last close to this open."""
    return lambda open, close: log_ratio(open, lagged(close))


@feature(lookback=1)
def bar_range() -> Formula:
    """ln(H / L)."""
    return lambda high, low: log_ratio(high, low)


@feature(lookback=1)
def body() -> Formula:
    """(C - O) / (H - L), in [-1, 1]; null on a bar without range."""
    return lambda open, high, low, close: (close - open) / (high - low)


@feature(lookback=1)
def upper_shadow() -> Formula:
    """(H - max(O, C)) / (H - L), in [0, 1]; null on a bar without range."""
    return lambda open, high, low, close: (high - np.maximum(open, close)) / (high - low)


@feature(lookback=1)
def lower_shadow() -> Formula:
    """(min(O, C) - L) / (H - L), in [0, 1]; null on a bar without range."""
    return lambda open, high, low, close: (np.minimum(open, close) - low) / (high - low)


@feature(lookback=1)
def close_location() -> Formula:
    """(2C - H - L) / (H - L): where the close lies in the bar, in [-1, 1]; null on a bar without range."""
    return lambda high, low, close: (2 * close - high - low) / (high - low)


@feature(lookback=lambda window: window + 1)
def up_share(window: int = 20) -> Formula:
    """Share of the last `window` bars that closed above the bar before."""
    return lambda close, age: rolling_mean((close > lagged(close)).astype(np.float64), window, age)


@feature(lookback=lambda window: window)
def range_position(window: int = 50) -> Formula:
    """(C - lowest low) / (highest high - lowest low) of the last `window` bars; null without range."""

    def position(high: Vector, low: Vector, close: Vector, age: Ages) -> Vector:
        top, bottom = channel(high, low, window, age)
        return position_in(bottom, close, top)

    return position


@feature(lookback=lambda window: window)
def high_distance(window: int = 50) -> Formula:
    """ln(C / highest high of the last `window` bars), 0 or less."""
    return lambda high, close, age: log_ratio(close, highest(high, window, age))


@feature(lookback=lambda window: window)
def low_distance(window: int = 50) -> Formula:
    """ln(C / lowest low of the last `window` bars), 0 or more."""
    return lambda low, close, age: log_ratio(close, lowest(low, window, age))


@feature(lookback=lambda lag: lag + 1)
def lagged_range(lag: int = 1) -> Formula:
    """ln(H / L) of `lag` bars ago."""
    return lambda high, low: lagged(log_ratio(high, low), lag)


@feature(lookback=lambda lag: lag + 1)
def lagged_body(lag: int = 1) -> Formula:
    """(C - O) / (H - L) of `lag` bars ago, in [-1, 1]; null where that bar had no range."""
    return lambda open, high, low, close: lagged((close - open) / (high - low), lag)


@feature(lookback=1)
def shadow_balance() -> Formula:
    """(lower - upper shadow) / (H - L), in [-1, 1]: 1 is a bar that came all the way back up; null without range."""
    return lambda open, high, low, close: (open + close - high - low) / (high - low)


@feature(lookback=1)
def typical_price_distance() -> Formula:
    """ln(C / ((H + L + C) / 3))."""
    return lambda high, low, close: log_ratio(close, (high + low + close) / 3)


@feature(lookback=lambda limit: limit + 1)
def up_streak(limit: int = 10) -> Formula:
    """How many bars in a row closed higher, at most `limit`; negative where they closed lower, 0 if unchanged."""
    return lambda close: streak(close, limit)


@feature(lookback=lambda window: window + 1)
def inside_share(window: int = 20) -> Formula:
    """Share of the last `window` bars that stayed within the high and low of the bar before."""

    def share(high: Vector, low: Vector, age: Ages) -> Vector:
        inside = (high <= lagged(high)) & (low >= lagged(low))
        return rolling_mean(inside.astype(np.float64), window, age)

    return share


@feature(lookback=lambda window: window + 1)
def outside_share(window: int = 20) -> Formula:
    """Share of the last `window` bars that went beyond both the high and the low of the bar before."""

    def share(high: Vector, low: Vector, age: Ages) -> Vector:
        outside = (high > lagged(high)) & (low < lagged(low))
        return rolling_mean(outside.astype(np.float64), window, age)

    return share


@feature(lookback=memory(HEIKIN_ASHI_DECAY) + 1)
def heikin_ashi_body() -> Formula:
    """ln(heikin-ashi close / open): close (O + H + L + C) / 4, open the middle of the heikin-ashi bar before.

    So the open is an average of earlier heikin-ashi closes, each weighing half as much as the next.
    """

    def averaged_body(open: Vector, high: Vector, low: Vector, close: Vector, age: Ages) -> Vector:
        averaged = (open + high + low + close) / 4
        begun = lagged(exponential_mean(averaged, HEIKIN_ASHI_DECAY, memory(HEIKIN_ASHI_DECAY), age))
        return log_ratio(averaged, begun)

    return averaged_body


@compiled
def streak(close: Vector, limit: int) -> Vector:
    """How many closes in a row were higher (or, below 0, lower) than the one before, at most `limit`."""
    out = np.zeros(close.size)
    held = 0
    for t in range(1, close.size):
        if close[t] > close[t - 1]:
            held = min(max(held, 0) + 1, limit)
        elif close[t] < close[t - 1]:
            held = max(min(held, 0) - 1, -limit)
        else:
            held = 0
        out[t] = held
    return out
