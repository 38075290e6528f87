"""Candlestick patterns by TA-Lib's rules, each known at the close of its last bar.

In every rule: the body is |C - O|, a bar is white if C >= O and black otherwise, its shadows are what lies outside the
body. Long, short, near and the like are measured by the bars before the one they are said of, `LONG` or `NEAR` of them.
Values are 1 (bullish) or -1 (bearish), 0.8 and -0.8 where one end only touches, 0 where there is no pattern. Sums are
added up anew for each bar, so a tie is a tie; TA-Lib's running sums drift, and may fall on its other side where prices
are not whole numbers. On markets that never close, patterns that need a gap between bars hardly ever occur.
"""

import numpy as np

from lab.compiled import compiled
from lab.features.catalogue import feature
from lab.features.windows import rolling_sum
from lab.nouns import Ages, Formula, Vector

LONG = 10  # bars that bodies, shadows and dojis are measured by
NEAR = 5  # bars that nearness is measured by
TREND = 10  # closes in the average that a trend is told by
TOUCHING = 0.8
BULLISH, BEARISH = 1.0, -1.0
STAR_DEPTH = 0.3  # how far into the first body a star's last close must reach


@feature(lookback=LONG + 1)
def doji() -> Formula:
    """1 where |C - O| <= 0.1 × mean range of the 10 bars before: opened and closed alike. TA-Lib CDLDOJI."""
    return lambda open, high, low, close: dojis(open, high, low, close)


@feature(lookback=LONG + 1)
def hammer() -> Formula:
    """1 on a short body with a lower shadow longer than it, hardly an upper one, near the low before. CDLHAMMER."""
    return lambda open, high, low, close: hammers(open, high, low, close)


@feature(lookback=LONG + 1)
def shooting_star() -> Formula:
    """-1 on a short body above the body before, with an upper shadow longer than it and hardly a lower one.

    TA-Lib CDLSHOOTINGSTAR.
    """
    return lambda open, high, low, close: shooting_stars(open, high, low, close)


@feature(lookback=2)
def bullish_engulfing() -> Formula:
    """1 on a white body around the black one before, 0.8 where one end is equal. TA-Lib CDLENGULFING above 0."""
    return lambda open, close: engulfings(open, close, BULLISH)


@feature(lookback=2)
def bearish_engulfing() -> Formula:
    """-1 on a black body around the white one before, -0.8 where one end is equal. TA-Lib CDLENGULFING below 0."""
    return lambda open, close: engulfings(open, close, BEARISH)


@feature(lookback=LONG + 3)
def morning_star() -> Formula:
    """1 on a long black body, a short one below it, and a white one that closes 0.3 of it up. CDLMORNINGSTAR."""
    return lambda open, close: stars(open, close, BULLISH)


@feature(lookback=LONG + 3)
def evening_star() -> Formula:
    """-1 on a long white body, a short one above it, and a black one that closes 0.3 of it down. CDLEVENINGSTAR."""
    return lambda open, close: stars(open, close, BEARISH)


@feature(lookback=LONG + 3)
def three_white_soldiers() -> Formula:
    """1 on three white bars that close higher and near their highs, each opening in or near the body before.

    TA-Lib CDL3WHITESOLDIERS.
    """
    return lambda open, high, low, close: soldiers(open, high, low, close)


@feature(lookback=LONG + 3)
def three_black_crows() -> Formula:
    """-1 on three black bars after a white one that close lower and near their lows, each opening in the body before.

    TA-Lib CDL3BLACKCROWS.
    """
    return lambda open, high, low, close: crows(open, high, low, close)


@feature(lookback=LONG + 2)
def harami() -> Formula:
    """Against the colour of a long body: a short one inside it, ±1, or ±0.8 where an end touches. TA-Lib CDLHARAMI."""
    return lambda open, close: haramis(open, close)


@feature(lookback=LONG + 2)
def piercing_line() -> Formula:
    """1 on a long white body that opens below the low of a long black one and closes in its upper half. CDLPIERCING."""
    return lambda open, low, close: reversals(open, low, close, BULLISH, True)


@feature(lookback=LONG + 2)
def dark_cloud_cover() -> Formula:
    """-1 on a black bar that opens above the high of a long white one and closes in its body's lower half.

    TA-Lib CDLDARKCLOUDCOVER.
    """
    return lambda open, high, close: reversals(open, high, close, BEARISH, False)


@feature(lookback=TREND + 2)
def tweezer_top() -> Formula:
    """-1 on a white bar and a black one with highs within 0.05 × mean range of 5 bars, after a rise. Nison (1991).

    Not in TA-Lib. A rise: the close before the two lies above the mean of the 10 up to it (`pattern_trend`).
    """
    return lambda open, high, low, close: tweezers(open, high, low, close, high, BEARISH)


@feature(lookback=TREND + 2)
def tweezer_bottom() -> Formula:
    """1 on a black bar and a white one with lows within 0.05 × mean range of 5 bars, after a fall. Nison (1991).

    Not in TA-Lib. A fall: the close before the two lies below the mean of the 10 up to it (`pattern_trend`).
    """
    return lambda open, high, low, close: tweezers(open, high, low, close, low, BULLISH)


@feature(lookback=LONG + 1)
def marubozu() -> Formula:
    """1 on a long white body with hardly a shadow, -1 on a black one. TA-Lib CDLMARUBOZU."""
    return lambda open, high, low, close: marubozus(open, high, low, close)


@feature(lookback=lambda length: TREND + length)
def pattern_trend(length: int = 1) -> Formula:
    """Sign of C - mean of 10 closes on the last bar before a pattern of `length` bars that ends now: 1, -1, or 0."""
    return lambda close: trends(close, length)


@feature(lookback=lambda window: LONG + 2 + window)
def pattern_balance(window: int = 20) -> Formula:
    """How many more of these patterns were bullish than bearish in the last `window` bars; a doji is neither."""

    def balance(open: Vector, high: Vector, low: Vector, close: Vector, age: Ages) -> Vector:
        total = np.sign(haramis(open, close))
        for one_sided in (engulfings, stars):
            total += np.sign(one_sided(open, close, BULLISH)) + np.sign(one_sided(open, close, BEARISH))
        for either in (hammers, shooting_stars, soldiers, crows, marubozus):
            total += either(open, high, low, close)
        total += reversals(open, low, close, BULLISH, True) + reversals(open, high, close, BEARISH, False)
        total += tweezers(open, high, low, close, high, BEARISH) + tweezers(open, high, low, close, low, BULLISH)
        total[: LONG + 2] = np.nan
        return rolling_sum(total, window, age)

    return balance


@compiled
def mean_body(open: Vector, close: Vector, t: int) -> float:
    """Mean body of the LONG bars before `t`."""
    total = 0.0
    for k in range(t - LONG, t):
        total += abs(close[k] - open[k])
    return total / LONG


@compiled
def mean_range(high: Vector, low: Vector, t: int, bars: int) -> float:
    """Mean range of the `bars` bars before `t`."""
    total = 0.0
    for k in range(t - bars, t):
        total += high[k] - low[k]
    return total / bars


@compiled
def hardly_any(high: Vector, low: Vector, t: int) -> float:
    """How long a shadow is that hardly is one, or the body of a doji."""
    return 0.1 * mean_range(high, low, t, LONG)


@compiled
def side_of(open: Vector, close: Vector, t: int) -> float:
    """BULLISH of a white bar, BEARISH of a black one."""
    return BULLISH if close[t] >= open[t] else BEARISH


@compiled
def dojis(open: Vector, high: Vector, low: Vector, close: Vector) -> Vector:
    out = np.zeros(close.size)
    for t in range(LONG, close.size):
        if abs(close[t] - open[t]) <= hardly_any(high, low, t):
            out[t] = BULLISH
    return out


@compiled
def hammers(open: Vector, high: Vector, low: Vector, close: Vector) -> Vector:
    out = np.zeros(close.size)
    for t in range(LONG, close.size):
        body = abs(close[t] - open[t])
        top, bottom = max(open[t], close[t]), min(open[t], close[t])
        if (
            bottom - low[t] > body
            and bottom <= low[t - 1] + 0.2 * mean_range(high, low, t - 1, NEAR)
            and high[t] - top < hardly_any(high, low, t)
            and body < mean_body(open, close, t)
        ):
            out[t] = BULLISH
    return out


@compiled
def shooting_stars(open: Vector, high: Vector, low: Vector, close: Vector) -> Vector:
    out = np.zeros(close.size)
    for t in range(LONG, close.size):
        body = abs(close[t] - open[t])
        top, bottom = max(open[t], close[t]), min(open[t], close[t])
        if (
            bottom > max(open[t - 1], close[t - 1])
            and high[t] - top > body
            and bottom - low[t] < hardly_any(high, low, t)
            and body < mean_body(open, close, t)
        ):
            out[t] = BEARISH
    return out


@compiled
def engulfings(open: Vector, close: Vector, side: float) -> Vector:
    """Bodies of the colour of `side` around the one before, of the other colour; upside down where `side` is -1."""
    out = np.zeros(close.size)
    for t in range(1, close.size):
        turned = side_of(open, close, t) == side != side_of(open, close, t - 1)
        over = side * (close[t] - open[t - 1])
        under = side * (close[t - 1] - open[t])
        if turned and over >= 0 and under >= 0 and (over > 0 or under > 0):
            out[t] = side if over > 0 and under > 0 else side * TOUCHING
    return out


@compiled
def stars(open: Vector, close: Vector, side: float) -> Vector:
    """A long body against `side`, a short one beyond it, and one back; upside down where `side` is -1."""
    out = np.zeros(close.size)
    for t in range(LONG + 2, close.size):
        o, c = side * open[t - 1], side * close[t - 1]
        first = abs(close[t - 2] - open[t - 2])
        if (
            side_of(open, close, t) == side != side_of(open, close, t - 2)
            and max(o, c) < min(side * open[t - 2], side * close[t - 2])
            and side * close[t] > side * close[t - 2] + STAR_DEPTH * first
            and first > mean_body(open, close, t - 2)
            and abs(c - o) <= mean_body(open, close, t - 1)
            and abs(close[t] - open[t]) > mean_body(open, close, t)
        ):
            out[t] = side
    return out


@compiled
def soldiers(open: Vector, high: Vector, low: Vector, close: Vector) -> Vector:
    out = np.zeros(close.size)
    for t in range(LONG + 2, close.size):
        white = close[t] >= open[t] and close[t - 1] >= open[t - 1] and close[t - 2] >= open[t - 2]
        if white and close[t] > close[t - 1] > close[t - 2] and open[t] > open[t - 1] > open[t - 2]:
            near_2 = 0.2 * mean_range(high, low, t - 2, NEAR)
            near_1 = 0.2 * mean_range(high, low, t - 1, NEAR)
            body, body_1, body_2 = close[t] - open[t], close[t - 1] - open[t - 1], close[t - 2] - open[t - 2]
            if (
                open[t - 1] <= close[t - 2] + near_2
                and open[t] <= close[t - 1] + near_1
                and body_1 > body_2 - 0.6 * mean_range(high, low, t - 2, NEAR)
                and body > body_1 - 0.6 * mean_range(high, low, t - 1, NEAR)
                and body > mean_body(open, close, t)
                and high[t] - close[t] < hardly_any(high, low, t)
                and high[t - 1] - close[t - 1] < hardly_any(high, low, t - 1)
                and high[t - 2] - close[t - 2] < hardly_any(high, low, t - 2)
            ):
                out[t] = BULLISH
    return out


@compiled
def crows(open: Vector, high: Vector, low: Vector, close: Vector) -> Vector:
    out = np.zeros(close.size)
    for t in range(LONG + 2, close.size):
        if (
            close[t - 3] >= open[t - 3]
            and close[t - 2] < open[t - 2]
            and close[t - 1] < open[t - 1]
            and close[t] < open[t]
            and close[t - 2] < high[t - 3]
            and close[t - 2] < open[t - 1] < open[t - 2]
            and close[t - 1] < open[t] < open[t - 1]
            and close[t - 2] > close[t - 1] > close[t]
            and close[t] - low[t] < hardly_any(high, low, t)
            and close[t - 1] - low[t - 1] < hardly_any(high, low, t - 1)
            and close[t - 2] - low[t - 2] < hardly_any(high, low, t - 2)
        ):
            out[t] = BEARISH
    return out


@compiled
def haramis(open: Vector, close: Vector) -> Vector:
    out = np.zeros(close.size)
    for t in range(LONG + 1, close.size):
        over = max(open[t - 1], close[t - 1]) - max(open[t], close[t])
        under = min(open[t], close[t]) - min(open[t - 1], close[t - 1])
        if (
            over >= 0
            and under >= 0
            and abs(close[t - 1] - open[t - 1]) > mean_body(open, close, t - 1)
            and abs(close[t] - open[t]) <= mean_body(open, close, t)
        ):
            size = 1.0 if over > 0 and under > 0 else TOUCHING
            out[t] = -side_of(open, close, t - 1) * size
    return out


@compiled
def reversals(open: Vector, extreme: Vector, close: Vector, side: float, long_too: bool) -> Vector:
    """A long body against `side`, then a bar that opens beyond its `extreme` and closes beyond its middle.

    Upside down where `side` is -1; `long_too` where the second body must be long as well.
    """
    out = np.zeros(close.size)
    for t in range(LONG + 1, close.size):
        first = abs(close[t - 1] - open[t - 1])
        if (
            side * open[t] < side * extreme[t - 1]
            and side_of(open, close, t) == side != side_of(open, close, t - 1)
            and side * close[t] < side * open[t - 1]
            and side * close[t] > side * close[t - 1] + 0.5 * first
            and first > mean_body(open, close, t - 1)
            and (not long_too or abs(close[t] - open[t]) > mean_body(open, close, t))
        ):
            out[t] = side
    return out


@compiled
def tweezers(open: Vector, high: Vector, low: Vector, close: Vector, extreme: Vector, side: float) -> Vector:
    """A bar against `side` and one with it, with equal extremes, after a trend against it."""
    out = np.zeros(close.size)
    for t in range(TREND + 1, close.size):
        if (
            side_of(open, close, t) == side != side_of(open, close, t - 1)
            and abs(extreme[t] - extreme[t - 1]) <= 0.05 * mean_range(high, low, t - 1, NEAR)
            and side * above_average(close, t - 2) < 0
        ):
            out[t] = side
    return out


@compiled
def marubozus(open: Vector, high: Vector, low: Vector, close: Vector) -> Vector:
    out = np.zeros(close.size)
    for t in range(LONG, close.size):
        shadow = max(high[t] - max(open[t], close[t]), min(open[t], close[t]) - low[t])
        if shadow < hardly_any(high, low, t) and abs(close[t] - open[t]) > mean_body(open, close, t):
            out[t] = side_of(open, close, t)
    return out


@compiled
def above_average(close: Vector, t: int) -> float:
    """How far the close at `t`, times TREND, lies above the sum of the TREND closes up to it; exactly 0 where flat."""
    total = 0.0
    for k in range(t - TREND + 1, t):
        total += close[t] - close[k]
    return total


@compiled
def trends(close: Vector, length: int) -> Vector:
    out = np.zeros(close.size)
    for t in range(TREND + length - 1, close.size):
        out[t] = np.sign(above_average(close, t - length))
    return out
