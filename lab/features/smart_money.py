"""Smart-money notions: swings, structure, gaps, order blocks, sweeps, each on the bar at whose close it was known.

The terms are practitioners', without an academic source; the rules are these. A swing high stands above the `side` bars
before it and not below the `side` bars after it, so it is known `side` bars late. The live level is the last swing that
is known, until a close breaks it; a bar is held against the level that stood when it opened. The first break of a
direction after one of the other is a change of character, every other a break of structure. What is older than
`memory` bars is forgotten: swings and gaps by their own bar, breaks and blocks by the bar of the break.

A swing low is a swing high of the market upside down, and so is computed: prices below may be negated.
"""

import numpy as np

from lab.compiled import compiled
from lab.features.catalogue import feature
from lab.features.windows import lag
from lab.nouns import Formula, Vector

RANGES = 14  # true ranges in the average that equal levels are told by
NEVER = -(2**40)


def swing_lookback(side: int, memory: int) -> int:
    """Bars behind a swing that is still remembered."""
    return memory + side


def break_lookback(side: int, memory: int) -> int:
    """Bars behind a break that is still remembered, of a level that was remembered then."""
    return 2 * memory + side


@feature(lookback=swing_lookback)
def swing_high_distance(side: int = 5, memory: int = 250) -> Formula:
    """ln(C / the last swing high that is known); null where none is within `memory` bars."""
    return lambda high, close: np.log(close / last_swing(high, side, memory)[0])


@feature(lookback=swing_lookback)
def swing_low_distance(side: int = 5, memory: int = 250) -> Formula:
    """ln(C / the last swing low that is known); null where none is within `memory` bars."""
    return lambda low, close: np.log(close / -last_swing(-low, side, memory)[0])


@feature(lookback=swing_lookback)
def swing_high_age(side: int = 5, memory: int = 250) -> Formula:
    """Bars since the last swing high that is known, at least `side`; null where none is within `memory` bars."""
    return lambda high: last_swing(high, side, memory)[1]


@feature(lookback=swing_lookback)
def swing_low_age(side: int = 5, memory: int = 250) -> Formula:
    """Bars since the last swing low that is known, at least `side`; null where none is within `memory` bars."""
    return lambda low: last_swing(-low, side, memory)[1]


@feature(lookback=swing_lookback)
def premium_discount(side: int = 5, memory: int = 250) -> Formula:
    """(C - swing low) / (swing high - swing low) of the last two that are known: above 0.5 is premium, below discount.

    Below 0 and above 1 outside of them; null before both are known, and where the high is not above the low.
    """

    def position(high: Vector, low: Vector, close: Vector) -> Vector:
        top, bottom = last_swing(high, side, memory)[0], -last_swing(-low, side, memory)[0]
        return np.where(top > bottom, (close - bottom) / (top - bottom), np.nan)

    return position


@feature(lookback=break_lookback)
def structure_trend(side: int = 5, memory: int = 250) -> Formula:
    """Direction of the last break of a live swing level by a close: 1 up, -1 down, 0 where none is remembered."""

    def trend(high: Vector, low: Vector, close: Vector) -> Vector:
        broken, before, _ = structure(high, low, close, side, memory)
        return np.where(broken != 0, broken, before)

    return trend


@feature(lookback=break_lookback)
def break_of_structure(side: int = 5, memory: int = 250) -> Formula:
    """1 where a close breaks the live swing high, -1 the live swing low, along the trend or without one; else 0."""

    def breaking(high: Vector, low: Vector, close: Vector) -> Vector:
        broken, before, _ = structure(high, low, close, side, memory)
        return np.where(broken * before >= 0, broken, 0.0)

    return breaking


@feature(lookback=break_lookback)
def change_of_character(side: int = 5, memory: int = 250) -> Formula:
    """1 where a close breaks the live swing high, -1 the live swing low, against the trend; else 0."""

    def turning(high: Vector, low: Vector, close: Vector) -> Vector:
        broken, before, _ = structure(high, low, close, side, memory)
        return np.where(broken * before < 0, broken, 0.0)

    return turning


@feature(lookback=break_lookback)
def structure_break_age(side: int = 5, memory: int = 250) -> Formula:
    """Bars since the last break of a live swing level in either direction; null where none is remembered."""
    return lambda high, low, close: structure(high, low, close, side, memory)[2]


@feature(lookback=lambda side, memory: memory + side + 1)
def liquidity_sweep(side: int = 5, memory: int = 250) -> Formula:
    """-1 where the high passes the live swing high and the close comes back below, 1 likewise at the low; else 0.

    0 also where a bar sweeps both.
    """

    def sweep(high: Vector, low: Vector, close: Vector) -> Vector:
        top = lag(live_swing(high, close, side, memory)[0])
        bottom = lag(-live_swing(-low, -close, side, memory)[0])
        up, down = (low < bottom) & (close > bottom), (high > top) & (close < top)
        return up.astype(np.float64) - down

    return sweep


@feature(lookback=lambda side, memory, within: memory + side + 1 + within)
def failed_break(side: int = 5, memory: int = 250, within: int = 3) -> Formula:
    """-1 where a close falls back below the level that a close broke upward at most `within` bars before; 1 mirrored.

    The sweep that takes several bars; 0 elsewhere.
    """

    def failing(high: Vector, low: Vector, close: Vector) -> Vector:
        up = failures(close, live_swing(high, close, side, memory)[0], within)
        down = failures(-close, live_swing(-low, -close, side, memory)[0], within)
        return down - up

    return failing


@feature(lookback=lambda side, memory: memory + max(side, RANGES - 1 - 2 * side))
def equal_level_distance(side: int = 5, memory: int = 250, tolerance: float = 0.1) -> Formula:
    """ln(C / the nearer of the last equal highs and the last equal lows that no bar has traded beyond).

    Equal: two swings in a row within `tolerance` × mean true range of 14 bars, when the second is known; their level is
    the farther one. Null where none is live whose first swing is within `memory` bars.
    """

    def distance(high: Vector, low: Vector, close: Vector) -> Vector:
        above = equal_swings(high, low, close, side, memory, tolerance)
        below = -equal_swings(-low, -high, -close, side, memory, tolerance)
        return np.log(close / nearer(close, above, below))

    return distance


@feature(lookback=3)
def fair_value_gap() -> Formula:
    """1 where L > H[-2], -1 where H < L[-2]: a gap that the bar between left, known at its third bar; else 0."""

    def gap(high: Vector, low: Vector) -> Vector:
        return (low > lag(high, 2)).astype(np.float64) - (high < lag(low, 2))

    return gap


@feature(lookback=3)
def fair_value_gap_size() -> Formula:
    """ln(L / H[-2]) of a gap up, ln(H / L[-2]) of a gap down, on its third bar; 0 where there is none."""

    def size(high: Vector, low: Vector) -> Vector:
        top, bottom = lag(high, 2), lag(low, 2)
        return np.log(np.where(low > top, low / top, np.where(high < bottom, high / bottom, 1.0)))

    return size


@feature(lookback=lambda memory: memory + 2)
def fair_value_gap_distance(memory: int = 250) -> Formula:
    """ln(C / middle of the nearest open gap); null where none is open.

    A gap is open until a later bar trades at its middle, and for `memory` bars at most.
    """

    def distance(high: Vector, low: Vector, close: Vector) -> Vector:
        below, above = open_gaps(high, low, memory)[0], -open_gaps(-low, -high, memory)[0]
        return np.log(close / nearer(close, below, above))

    return distance


@feature(lookback=lambda memory: memory + 2)
def open_gap_balance(memory: int = 250) -> Formula:
    """How many more open gaps are bullish than bearish; open as in `fair_value_gap_distance`."""
    return lambda high, low: open_gaps(high, low, memory)[1] - open_gaps(-low, -high, memory)[1]


@feature(lookback=break_lookback)
def order_block_distance(side: int = 5, memory: int = 250) -> Formula:
    """ln(C / middle of the nearer of the live bullish and the live bearish order block); null where none is live.

    At a break up, the block is the last black bar (C < O) between the lowest low since the broken swing and the break,
    and its zone that bar's range; live until a close below it, the next block up, or `memory` bars. A bearish one is
    the mirror image.
    """

    def distance(open: Vector, high: Vector, low: Vector, close: Vector) -> Vector:
        bullish, bearish = both_blocks(open, high, low, close, side, memory)
        return np.log(close / nearer(close, (bullish[0] + bullish[1]) / 2, -(bearish[0] + bearish[1]) / 2))

    return distance


@feature(lookback=break_lookback)
def order_block_inside(side: int = 5, memory: int = 250) -> Formula:
    """1 where the close lies in a live bullish order block, -1 in a bearish one, else 0; in both, the newer counts."""

    def inside(open: Vector, high: Vector, low: Vector, close: Vector) -> Vector:
        bullish, bearish = both_blocks(open, high, low, close, side, memory)
        in_bullish = (close >= bullish[0]) & (close <= bullish[1])
        in_bearish = (-close >= bearish[0]) & (-close <= bearish[1])
        newer = np.where(bullish[2] < bearish[2], 1.0, -1.0)
        return np.where(in_bullish & in_bearish, newer, in_bullish.astype(np.float64) - in_bearish)

    return inside


@feature(lookback=break_lookback)
def order_block_age(side: int = 5, memory: int = 250) -> Formula:
    """Bars since the break that made the newer of the live order blocks; null where none is live."""

    def age(open: Vector, high: Vector, low: Vector, close: Vector) -> Vector:
        bullish, bearish = both_blocks(open, high, low, close, side, memory)
        return np.fmin(bullish[2], bearish[2])

    return age


def structure(high: Vector, low: Vector, close: Vector, side: int, memory: int) -> tuple[Vector, Vector, Vector]:
    """Direction of the break on each bar, of the remembered one before it, and bars since the last."""
    top, bottom = live_swing(high, close, side, memory)[0], live_swing(-low, -close, side, memory)[0]
    return breaks(close, top, bottom, memory)


def both_blocks(
    open: Vector, high: Vector, low: Vector, close: Vector, side: int, memory: int
) -> tuple[tuple[Vector, Vector, Vector], tuple[Vector, Vector, Vector]]:
    """The live bullish order block, and the live bearish one as a bullish one upside down."""
    bullish = order_blocks(open, high, low, close, *live_swing(high, close, side, memory), side, memory)
    open, high, low, close = -open, -low, -high, -close
    return bullish, order_blocks(open, high, low, close, *live_swing(high, close, side, memory), side, memory)


@compiled
def nearer(close: Vector, one: Vector, other: Vector) -> Vector:
    """Whichever of two prices is nearer to the close, the one where they are as near; NaN where neither is."""
    out = np.empty(close.size)
    for t in range(close.size):
        near = abs(close[t] - one[t]) <= abs(close[t] - other[t]) or np.isnan(other[t])
        out[t] = one[t] if near else other[t]
    return out


@compiled
def swings(high: Vector, side: int) -> Vector:
    """1 where a swing high gets known: `side` bars ago, above the `side` before it and not below those since."""
    n = high.size
    found = np.zeros(n)
    if n > 2 * side:
        known = found[2 * side :]
        top = high[side : n - side]
        known[:] = 1.0
        for k in range(1, side + 1):
            before = high[side - k : n - side - k]
            after = high[side + k : n - side + k]
            for t in range(top.size):
                known[t] = known[t] if (before[t] < top[t]) & (after[t] <= top[t]) else 0.0
    return found


@compiled
def last_swing(high: Vector, side: int, memory: int) -> tuple[Vector, Vector]:
    """Level of the last swing high known at each bar, and bars since it."""
    level = np.full(high.size, np.nan)
    age = np.full(high.size, np.nan)
    found = swings(high, side)
    last = NEVER
    for t in range(high.size):
        if found[t] != 0.0:
            last = t - side
        if t - last < memory:
            level[t] = high[last]
            age[t] = t - last
    return level, age


@compiled
def live_swing(high: Vector, close: Vector, side: int, memory: int) -> tuple[Vector, Vector]:
    """Level of the last swing high known at each bar that no close has broken, and bars since it."""
    level = np.full(high.size, np.nan)
    age = np.full(high.size, np.nan)
    found = swings(high, side)
    last = NEVER
    top = np.inf
    for t in range(high.size):
        if close[t] > top:
            last = NEVER
            top = np.inf
        if found[t] != 0.0:
            last = t - side
            top = high[last]
        if t - last < memory:
            level[t] = top
            age[t] = t - last
    return level, age


@compiled
def breaks(close: Vector, top: Vector, bottom: Vector, memory: int) -> tuple[Vector, Vector, Vector]:
    """Where a close passes the level that stood before; see `structure`. `bottom` is upside down."""
    broken = np.zeros(close.size)
    before = np.zeros(close.size)
    age = np.full(close.size, np.nan)
    last = NEVER
    trend = 0.0
    for t in range(1, close.size):
        if t - last >= memory:
            trend = 0.0
        before[t] = trend
        if close[t] > top[t - 1] or -close[t] > bottom[t - 1]:
            trend = 1.0 if close[t] > top[t - 1] else -1.0
            broken[t] = trend
            last = t
        if trend != 0.0:
            age[t] = t - last
    return broken, before, age


@compiled
def failures(close: Vector, top: Vector, within: int) -> Vector:
    """1 where a close falls back below the last level it broke; see `failed_break`."""
    out = np.zeros(close.size)
    broken = NEVER
    level = np.nan
    for t in range(1, close.size):
        if close[t] > top[t - 1]:
            broken = t
            level = top[t - 1]
        elif close[t] < level and t - broken <= within:
            out[t] = 1.0
            broken = NEVER
    return out


@compiled
def equal_swings(high: Vector, low: Vector, close: Vector, side: int, memory: int, tolerance: float) -> Vector:
    """Level of the last two swing highs in a row that were equal, while no later bar went beyond it."""
    out = np.full(high.size, np.nan)
    found = swings(high, side)
    first = last = NEVER
    level = np.nan
    for t in range(high.size):
        if high[t] > level:
            level = np.nan
        if found[t] != 0.0:
            before, last = last, t - side
            if t - before < memory:
                ranges = 0.0
                for k in range(max(t - RANGES + 1, 1), t + 1):
                    ranges += max(high[k], close[k - 1]) - min(low[k], close[k - 1])
                if abs(high[last] - high[before]) <= tolerance * ranges / RANGES:
                    first = before
                    level = max(high[last], high[before])
        if t - first < memory:
            out[t] = level
    return out


@compiled
def open_gaps(high: Vector, low: Vector, memory: int) -> tuple[Vector, Vector]:
    """The highest middle of a gap up that no later low has reached, and how many such there are.

    They are held by age. Of two neighbours alone the older may be the higher one, where their bars overlap.
    """
    n = high.size
    highest = np.full(n, np.nan)
    count = np.zeros(n)
    middle = np.empty(n)
    born = np.empty(n, dtype=np.int64)
    begin = end = 0
    for t in range(2, n):
        if begin < end and t - born[begin] >= memory:
            begin += 1
        while begin < end:
            if middle[end - 1] < low[t]:
                if end - begin < 2 or middle[end - 2] < low[t]:
                    break
                middle[end - 2] = middle[end - 1]
                born[end - 2] = born[end - 1]
            end -= 1
        if low[t] > high[t - 2]:
            middle[end] = high[t - 2] + (low[t] - high[t - 2]) / 2
            born[end] = t
            end += 1
        if begin < end:
            highest[t] = middle[end - 1] if end - begin < 2 else max(middle[end - 1], middle[end - 2])
            count[t] = end - begin
    return highest, count


@compiled
def order_blocks(
    open: Vector, high: Vector, low: Vector, close: Vector, top: Vector, top_age: Vector, side: int, memory: int
) -> tuple[Vector, Vector, Vector]:
    """Low and high of the live bullish order block, and bars since the break that made it.

    `top` and `top_age` are of the live swing high.
    """
    lower = np.full(close.size, np.nan)
    upper = np.full(close.size, np.nan)
    age = np.full(close.size, np.nan)
    made = NEVER
    block = -1
    lowest = black = -1  # the bars of the leg's lowest low and of its last black bar
    bottom = np.inf
    for t in range(1, close.size):
        if block >= 0 and close[t] < low[block]:
            made, block = NEVER, -1
        if close[t] > top[t - 1] and black >= lowest:
            made, block = t, black
        begin = t
        if top_age[t] == side:  # a swing got known: the leg begins behind it
            begin = t - side + 1
            black = -1
            bottom = np.inf
        for k in range(begin, t + 1):
            lowest = k if low[k] <= bottom else lowest
            bottom = min(bottom, low[k])
            black = k if close[k] < open[k] else black
        if t - made < memory:
            lower[t] = low[block]
            upper[t] = high[block]
            age[t] = t - made
    return lower, upper, age
