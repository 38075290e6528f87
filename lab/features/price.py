"""Returns and the shape of single bars."""

import math

import numpy as np
import polars as pl

from lab.compiled import compiled
from lab.features.catalogue import feature
from lab.features.windows import exponential_mean, highest, lag, lowest, memory, rolling_mean
from lab.nouns import Formula, Vector

OPEN, HIGH, LOW, CLOSE = (pl.col(name) for name in ("open", "high", "low", "close"))
RANGE = HIGH - LOW
HEIKIN_ASHI_DECAY = 0.5
EQUAL = 1e-14
NEAR = 0.025


@compiled
def log_of_ratio(x: float, y: float) -> float:
    """ln(x / y), of two numbers within 5% of each other by the series of 2 artanh((x - y) / (x + y)).

    That is exact to a rounding, where the quotient would already be rounded before its logarithm is taken.
    """
    s = (x - y) / (x + y)
    if abs(s) < NEAR:
        z = s * s
        return 2 * s * (1 + z * (1 / 3 + z * (1 / 5 + z * (1 / 7 + z / 9))))
    return math.log(x / y)


@compiled
def log_ratio(x: Vector, y: Vector) -> Vector:
    """ln(x / y), as `log_of_ratio`, many at a time where all of them are near."""
    n = x.size
    out = np.empty(n)
    some = 512
    for start in range(0, n, some):
        stop = min(start + some, n)
        far = 0
        for t in range(start, stop):
            out[t] = (x[t] - y[t]) / (x[t] + y[t])
        for t in range(start, stop):
            far += not abs(out[t]) < NEAR
        for t in range(start, stop):
            s = out[t]
            z = s * s
            out[t] = 2 * s * (1 + z * (1 / 3 + z * (1 / 5 + z * (1 / 7 + z / 9))))
        if far:
            for t in range(start, stop):
                out[t] = log_of_ratio(x[t], y[t])
    return out


def log_change(close: Vector, bars: int = 1) -> Vector:
    """ln(close / close `bars` bars ago)."""
    out = np.full(close.size, np.nan)
    if bars < close.size:
        out[bars:] = log_ratio(close[bars:], close[: close.size - bars])
    return out


@compiled
def channel(high: Vector, low: Vector, window: int, age: int) -> tuple[Vector, Vector]:
    """The highest high and the lowest low of the last `window` bars, none of which may be NaN."""
    n = high.size
    top = np.full(n, np.nan)
    bottom = np.full(n, np.nan)
    tail = np.empty((window + 1, 2))
    tail[window, 0] = -np.inf
    tail[window, 1] = np.inf
    for start in range(-age % window, n, window):
        highest = -np.inf
        lowest = np.inf
        for back in range(1, min(start, window - 1) + 1):
            at = window - back
            highest = high[start - back] if high[start - back] > highest else highest
            lowest = low[start - back] if low[start - back] < lowest else lowest
            tail[at, 0], tail[at, 1] = highest, lowest
        highest = -np.inf
        lowest = np.inf
        for t in range(start, min(start + window, n)):
            at = t - start + 1
            highest = high[t] if high[t] > highest else highest
            lowest = low[t] if low[t] < lowest else lowest
            top[t] = highest if highest > tail[at, 0] else tail[at, 0]
            bottom[t] = lowest if lowest < tail[at, 1] else tail[at, 1]
    top[: window - 1] = np.nan
    bottom[: window - 1] = np.nan
    return top, bottom


@compiled
def position_in(low: Vector, value: Vector, high: Vector) -> Vector:
    """(value - low) / (high - low); NaN where they are equal."""
    out = np.empty(value.size)
    for t in range(value.size):
        span = high[t] - low[t]
        out[t] = (value[t] - low[t]) / span if span > 0 else np.nan
    return out


@compiled
def rolling_ratio(x: Vector, y: Vector, window: int, age: int) -> Vector:
    """Sum of the last `window` values of x over that of y."""
    n = x.size
    out = np.full(n, np.nan)
    tail = np.zeros((window + 1, 2))
    for start in range(-age % window, n, window):
        sum_x = sum_y = 0.0
        for back in range(1, min(start, window - 1) + 1):
            at = window - back
            sum_x += x[start - back]
            sum_y += y[start - back]
            tail[at, 0], tail[at, 1] = sum_x, sum_y
        sum_x = sum_y = 0.0
        for t in range(start, min(start + window, n)):
            at = t - start + 1
            sum_x += x[t]
            sum_y += y[t]
            out[t] = (sum_x + tail[at, 0]) / (sum_y + tail[at, 1])
    out[: window - 1] = np.nan
    return out


@compiled
def by_direction(x: Vector, amount: Vector, decay: float, length: int, age: int) -> tuple[Vector, Vector]:
    """Of the last `length` amounts, those with a rise of x summed, and those with a fall; `decay` 1 fades none.

    x is not negative, and values of it that are equal but for rounding are equal. An amount weighs `decay` times the
    one after it; one that is missing leaves both sums unknown.
    """
    n = x.size
    rising = np.full(n, np.nan)
    falling = np.full(n, np.nan)
    tail = np.zeros((length + 1, 2))
    for start in range(-age % length, n, length):
        up = down = 0.0
        weight = 1.0
        for back in range(1, min(start - 1, length - 1) + 1):
            at = length - back
            now = start - back
            moved = x[now] - x[now - 1]
            faded = weight * amount[now]
            up += faded if moved > EQUAL * x[now] else 0.0 * faded
            down += faded if -moved > EQUAL * x[now] else 0.0 * faded
            tail[at, 0], tail[at, 1] = up, down
            weight *= decay
        up = down = 0.0
        fading = 1.0
        for t in range(start, min(start + length, n)):
            at = t - start + 1
            moved = x[t] - x[t - 1]  # nothing at row 0, but then no window is full before the block ends
            fading *= decay
            up = up * decay + (amount[t] if moved > EQUAL * x[t] else 0.0 * amount[t])
            down = down * decay + (amount[t] if -moved > EQUAL * x[t] else 0.0 * amount[t])
            rising[t] = up + fading * tail[at, 0]
            falling[t] = down + fading * tail[at, 1]
    rising[:length] = np.nan
    falling[:length] = np.nan
    return rising, falling


@feature(lookback=lambda window: window + 1)
def simple_return(window: int = 1) -> Formula:
    """C / C[-window] - 1."""
    return lambda close: close / lag(close, window) - 1


@feature(lookback=lambda window: window + 1)
def log_return(window: int = 1) -> Formula:
    """ln(C / C[-window])."""
    return lambda close: log_change(close, window)


@feature(lookback=lambda lag: lag + 2)
def lagged_return(lag: int = 1) -> Formula:
    """One-bar log return of `lag` bars ago: ln(C[-lag] / C[-lag-1])."""
    return (CLOSE / CLOSE.shift(1)).log().shift(lag)


@feature(lookback=2)
def open_gap() -> Formula:
    """ln(O / C[-1]): the jump from the last close to this open."""
    return (OPEN / CLOSE.shift(1)).log()


@feature(lookback=1)
def bar_range() -> Formula:
    """ln(H / L)."""
    return (HIGH / LOW).log()


@feature(lookback=1)
def body() -> Formula:
    """(C - O) / (H - L), in [-1, 1]; null on a bar without range."""
    return (CLOSE - OPEN) / RANGE


@feature(lookback=1)
def upper_shadow() -> Formula:
    """(H - max(O, C)) / (H - L), in [0, 1]; null on a bar without range."""
    return (HIGH - pl.max_horizontal(OPEN, CLOSE)) / RANGE


@feature(lookback=1)
def lower_shadow() -> Formula:
    """(min(O, C) - L) / (H - L), in [0, 1]; null on a bar without range."""
    return (pl.min_horizontal(OPEN, CLOSE) - LOW) / RANGE


@feature(lookback=1)
def close_location() -> Formula:
    """(2C - H - L) / (H - L): where the close lies in the bar, in [-1, 1]; null on a bar without range."""
    return (2 * CLOSE - HIGH - LOW) / RANGE


@feature(lookback=lambda window: window + 1)
def up_share(window: int = 20) -> Formula:
    """Share of the last `window` bars that closed above the bar before."""
    return lambda close, age: rolling_mean((close > lag(close)).astype(np.float64), window, age)


@feature(lookback=lambda window: window)
def range_position(window: int = 50) -> Formula:
    """(C - lowest low) / (highest high - lowest low) of the last `window` bars; null without range."""

    def position(high: Vector, low: Vector, close: Vector, age: int) -> Vector:
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
    return (HIGH / LOW).log().shift(lag)


@feature(lookback=lambda lag: lag + 1)
def lagged_body(lag: int = 1) -> Formula:
    """(C - O) / (H - L) of `lag` bars ago, in [-1, 1]; null where that bar had no range."""
    return ((CLOSE - OPEN) / RANGE).shift(lag)


@feature(lookback=1)
def shadow_balance() -> Formula:
    """(lower - upper shadow) / (H - L), in [-1, 1]: 1 is a bar that came all the way back up; null without range."""
    return (OPEN + CLOSE - HIGH - LOW) / RANGE


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

    def share(high: Vector, low: Vector, age: int) -> Vector:
        inside = (high <= lag(high)) & (low >= lag(low))
        return rolling_mean(inside.astype(np.float64), window, age)

    return share


@feature(lookback=lambda window: window + 1)
def outside_share(window: int = 20) -> Formula:
    """Share of the last `window` bars that went beyond both the high and the low of the bar before."""

    def share(high: Vector, low: Vector, age: int) -> Vector:
        outside = (high > lag(high)) & (low < lag(low))
        return rolling_mean(outside.astype(np.float64), window, age)

    return share


@feature(lookback=memory(HEIKIN_ASHI_DECAY) + 1)
def heikin_ashi_body() -> Formula:
    """ln(heikin-ashi close / open): close (O + H + L + C) / 4, open the middle of the heikin-ashi bar before.

    So the open is an average of earlier heikin-ashi closes, each weighing half as much as the next.
    """

    def averaged_body(open: Vector, high: Vector, low: Vector, close: Vector, age: int) -> Vector:
        averaged = (open + high + low + close) / 4
        begun = lag(exponential_mean(averaged, HEIKIN_ASHI_DECAY, memory(HEIKIN_ASHI_DECAY), age))
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
