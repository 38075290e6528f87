"""How far and how straight prices went."""

import math

import numpy as np

from lab.compiled import compiled, row
from lab.features.catalogue import feature
from lab.features.extremes import since_highest, since_lowest
from lab.features.price import channel, rolling_ratio, write_logs
from lab.features.sharing import shared
from lab.features.windows import (
    ema,
    forget_first,
    lag,
    restarted,
    restarts,
    rolling_sum,
    span_memory,
    wilder,
    wilder_memory,
)
from lab.nouns import Ages, Formula, Vector

STILL = 1e-14  # a deviation of ln C that is only rounding
STRAIGHT = 1e-12  # a share of squared deviations that is


def directional(high: Vector, low: Vector, close: Vector, window: int, age: Ages) -> tuple[Vector, Vector, Vector]:
    """True range, upward and downward movement in Wilder's averages."""
    ranges, (rises, falls) = true_range(high, low, close), directional_moves(high, low)
    return wilder(ranges, window, age), wilder(rises, window, age), wilder(falls, window, age)


@shared
def directional_index(high: Vector, low: Vector, close: Vector, window: int, age: Ages) -> Vector:
    """DX = 100 |+DI - -DI| / (+DI + -DI), where a bar without direction counts 0."""
    _, plus, minus = directional(high, low, close, window, age)
    return one_sidedness(plus, minus)


@shared
def average_directional_index(high: Vector, low: Vector, close: Vector, window: int, age: Ages) -> Vector:
    """ADX: the Wilder average of DX."""
    return wilder(directional_index(high, low, close, window, age), window, age)


@feature(lookback=lambda window: wilder_memory(window) + 1)
def plus_di(window: int = 14) -> Formula:
    """+DI: 100 × upward directional movement over true range, in Wilder averages. Wilder (1978)."""

    def index(high: Vector, low: Vector, close: Vector, age: Ages) -> Vector:
        ranges, plus, _ = directional(high, low, close, window, age)
        return 100 * plus / ranges

    return index


@feature(lookback=lambda window: wilder_memory(window) + 1)
def minus_di(window: int = 14) -> Formula:
    """-DI: 100 × downward directional movement over true range, in Wilder averages. Wilder (1978)."""

    def index(high: Vector, low: Vector, close: Vector, age: Ages) -> Vector:
        ranges, _, minus = directional(high, low, close, window, age)
        return 100 * minus / ranges

    return index


@feature(lookback=lambda window: wilder_memory(window) + 1)
def dx(window: int = 14) -> Formula:
    """100 |+DI - -DI| / (+DI + -DI); a bar without direction counts 0. Wilder (1978)."""
    return lambda high, low, close, age: directional_index(high, low, close, window, age)


@feature(lookback=lambda window: 2 * wilder_memory(window))
def adx(window: int = 14) -> Formula:
    """Wilder average of DX = 100 |+DI - -DI| / (+DI + -DI); a bar without direction counts 0. Wilder (1978)."""
    return lambda high, low, close, age: average_directional_index(high, low, close, window, age)


@feature(lookback=lambda window: 2 * wilder_memory(window) + window - 1, least=2)
def adxr(window: int = 14) -> Formula:
    """Mean of ADX now and `window` - 1 bars ago. Wilder (1978)."""

    def rating(high: Vector, low: Vector, close: Vector, age: Ages) -> Vector:
        now = average_directional_index(high, low, close, window, age)
        return (now + lag(now, window - 1)) / 2

    return rating


@feature(lookback=lambda window: window + 1)
def aroon_up(window: int = 25) -> Formula:
    """100 (window - bars since the highest high of the last `window` + 1 bars) / window. Chande (1995)."""
    return lambda high, age: 100 - 100 / window * since_highest(high, window + 1, age, False)


@feature(lookback=lambda window: window + 1)
def aroon_down(window: int = 25) -> Formula:
    """100 (window - bars since the lowest low of the last `window` + 1 bars) / window. Chande (1995)."""
    return lambda low, age: 100 - 100 / window * since_lowest(low, window + 1, age, False)


@feature(lookback=lambda window: window + 1)
def aroon_oscillator(window: int = 25) -> Formula:
    """aroon_up less aroon_down, in [-100, 100]. Chande (1995)."""

    def oscillator(high: Vector, low: Vector, age: Ages) -> Vector:
        since_low, since_high = since_lowest(low, window + 1, age, False), since_highest(high, window + 1, age, False)
        return 100 / window * (since_low - since_high)

    return oscillator


@feature(lookback=lambda window, memory: 2 * memory + wilder_memory(window))
def supertrend_distance(window: int = 10, width: float = 3.0, memory: int = 250) -> Formula:
    """(C - Supertrend line) / C, line `width` ATR(window) from the middle of a bar, never giving way. Seban (2008).

    Above 0 in an uptrend, below 0 in a downtrend. The line begins between `memory` and 2 `memory` bars ago.
    """
    return lambda high, low, close, age: supertrend(high, low, close, window, width, memory, age)


@feature(lookback=lambda window, memory: 2 * memory + wilder_memory(window))
def supertrend_direction(window: int = 10, width: float = 3.0, memory: int = 250) -> Formula:
    """1 while the Supertrend line runs below the closes, -1 while above; null where they meet. Seban (2008)."""

    def direction(high: Vector, low: Vector, close: Vector, age: Ages) -> Vector:
        away = np.sign(supertrend(high, low, close, window, width, memory, age))
        return np.where(away == 0, np.nan, away)

    return direction


@feature(lookback=lambda memory: 2 * memory)
def sar_distance(step: float = 0.02, most: float = 0.2, memory: int = 250) -> Formula:
    """(C - parabolic SAR) / C, of which the pace grows by `step` up to `most`. Wilder (1978).

    Above 0 while long, below 0 while short. The first position is taken between `memory` and 2 `memory` bars ago.
    """

    def distance(high: Vector, low: Vector, close: Vector, age: Ages) -> Vector:
        stop = restarted_parabolic(high, low, step, most, memory, age)
        return (close - stop) / close

    return distance


@feature(lookback=lambda window: window, least=2)
def regression_slope(window: int = 20) -> Formula:
    """Slope of the least-squares line through ln C of the last `window` bars, per bar."""
    return lambda close, age: log_line(close, window, age)[0]


@feature(lookback=lambda window: window, least=2)
def regression_residual(window: int = 20) -> Formula:
    """ln C less the end of the least-squares line through ln C of the last `window` bars."""
    return lambda close, age: log_line(close, window, age)[1]


@feature(lookback=lambda window: window, least=3)
def regression_r2(window: int = 20) -> Formula:
    """R² of the least-squares line through ln C of the last `window` bars, in [0, 1]; null where C never moved."""

    def share(close: Vector, age: Ages) -> Vector:
        _, _, squares, explained = log_line(close, window, age)
        return explained / squares

    return share


@feature(lookback=lambda window: window, least=3)
def regression_channel(window: int = 50) -> Formula:
    """regression_residual in standard errors (n - 2 degrees of freedom) of its line; null where C lies on the line."""

    def deviations(close: Vector, age: Ages) -> Vector:
        _, residual, squares, explained = log_line(close, window, age)
        unexplained = squares - explained
        error = np.sqrt(np.where(unexplained > STRAIGHT * squares, unexplained, np.nan) / (window - 2))
        return residual / error

    return deviations


@feature(lookback=lambda window: window + 1)
def vortex_plus(window: int = 14) -> Formula:
    """Sum of |H - L[-1]| over that of the true range, `window` bars. Botes & Siepman (2010). Null without range."""

    def rising(high: Vector, low: Vector, close: Vector, age: Ages) -> Vector:
        return rolling_ratio(np.abs(high - lag(low)), true_range(high, low, close), window, age)

    return rising


@feature(lookback=lambda window: window + 1)
def vortex_minus(window: int = 14) -> Formula:
    """Sum of |L - H[-1]| over that of the true range, `window` bars. Botes & Siepman (2010). Null without range."""

    def falling(high: Vector, low: Vector, close: Vector, age: Ages) -> Vector:
        return rolling_ratio(np.abs(low - lag(high)), true_range(high, low, close), window, age)

    return falling


@feature(lookback=lambda window: window + 1, least=2)
def choppiness(window: int = 14) -> Formula:
    """100 ln(sum of true ranges / (highest high - lowest low)) / ln(window), of `window` bars. Dreiss (1993).

    Near 100 prices go nowhere, near 0 straight on; null without range.
    """

    def index(high: Vector, low: Vector, close: Vector, age: Ages) -> Vector:
        top, bottom = channel(high, low, window, age)
        walked = rolling_sum(true_range(high, low, close), window, age)
        return 100 / math.log(window) * np.log(walked / (top - bottom))

    return index


@feature(lookback=lambda span, window: 2 * span_memory(span) + window - 2)
def mass_index(span: int = 9, window: int = 25) -> Formula:
    """Sum over `window` bars of EMA(H - L) / EMA of that EMA. Dorsey (1992). Null while a bar has no such ratio."""

    def index(high: Vector, low: Vector, age: Ages) -> Vector:
        ranges = ema(high - low, span, age)
        return rolling_sum(ranges / ema(ranges, span, age), window, age)

    return index


@shared
def supertrend(high: Vector, low: Vector, close: Vector, window: int, width: float, memory: int, age: Ages) -> Vector:
    """(C - Supertrend line) / C."""
    reach = width * wilder(true_range(high, low, close), window, age)
    line = restarted(supertrend_path, memory, age, high, low, close, reach)
    return (close - line) / close


@shared
@compiled
def true_range(high: Vector, low: Vector, close: Vector) -> Vector:
    """max(H, C[-1]) - min(L, C[-1]); NaN on the first bar."""
    out = np.full(close.size, np.nan)
    for t in range(1, close.size):
        out[row(t)] = max(high[row(t)], close[row(t - 1)]) - min(low[row(t)], close[row(t - 1)])
    return out


@shared
@compiled
def directional_moves(high: Vector, low: Vector) -> tuple[Vector, Vector]:
    """Wilder's upward and downward movement: how far a bar went beyond the one before, on one side at most."""
    n = high.size
    rises = np.full(n, np.nan)
    falls = np.full(n, np.nan)
    for t in range(1, n):
        up = high[row(t)] - high[row(t - 1)]
        down = low[row(t - 1)] - low[row(t)]
        rises[row(t)] = up if up > down and up > 0 else 0.0
        falls[row(t)] = down if down > up and down > 0 else 0.0
    return rises, falls


@compiled
def one_sidedness(x: Vector, y: Vector) -> Vector:
    """100 |x - y| / (x + y) of two that are not negative; 0 where both are."""
    out = np.empty(x.size)
    for t in range(x.size):
        total = x[t] + y[t]
        out[t] = 0.0 if total == 0 else 100 * abs(x[t] - y[t]) / total
    return out


@compiled
def supertrend_path(high: Vector, low: Vector, close: Vector, reach: Vector) -> Vector:
    """A line `reach` from the middle of the bar that no bar of its trend moves against it, until a close crosses."""
    out = np.full(close.size, np.nan)
    above = below = np.nan
    rising = True
    for t in range(close.size):
        middle = (high[t] + low[t]) / 2
        top = middle + reach[t]
        bottom = middle - reach[t]
        if not math.isnan(above):
            top = top if top < above or close[t - 1] > above else above
            bottom = bottom if bottom > below or close[t - 1] < below else below
            rising = close[t] >= bottom if rising else close[t] > top
        above = top
        below = bottom
        out[t] = bottom if rising else top
    return out


@compiled
def parabolic_path(high: Vector, low: Vector, step: float, most: float) -> Vector:
    """The stop of a position that turns whenever it is touched: it closes in on the best price, ever faster."""
    out = np.full(high.size, np.nan)
    if high.size < 2:
        return out
    long = high[1] - high[0] >= low[0] - low[1]
    stop = low[0] if long else high[0]
    best = high[1] if long else low[1]
    pace = step
    for t in range(1, high.size):
        if (long and low[t] <= stop) or (not long and high[t] >= stop):
            stop = max(best, high[t - 1], high[t]) if long else min(best, low[t - 1], low[t])
            long = not long
            best = high[t] if long else low[t]
            pace = step
            out[t] = stop
        else:
            out[t] = stop
            if (long and high[t] > best) or (not long and low[t] < best):
                best = high[t] if long else low[t]
                pace = min(pace + step, most)
        stop += pace * (best - stop)
        stop = min(stop, low[t - 1], low[t]) if long else max(stop, high[t - 1], high[t])
    return out


@shared
@compiled
def restarted_parabolic(high: Vector, low: Vector, step: float, most: float, memory: int, age: Ages) -> Vector:
    """`restarted` of parabolic_path, without leaving the compiled code."""
    out = np.empty(high.size)
    for first, start, stop in restarts(high.size, memory, age):
        out[start:stop] = parabolic_path(high[first:stop], low[first:stop], step, most)[start - first :]
    return out


@shared
@compiled
def log_line(close: Vector, window: int, age: Ages) -> tuple[Vector, Vector, Vector, Vector]:
    """Of the least-squares line through ln C: slope, ln C less its end, squared deviations, those that it explains.

    Logs are taken of ratios, so that the unit of price changes no bit. Closes that are equal but for rounding have
    no deviations.
    """
    n = close.size
    slope = np.empty(n)
    residual = np.empty(n)
    squares = np.empty(n)
    explained = np.empty(n)
    logs = np.empty(window)
    tail_y, tail_yy, tail_ty = np.zeros(window + 1), np.zeros(window + 1), np.zeros(window + 1)
    share = 1 / window
    share_of_tt = 12 / (window * (window * window - 1.0))
    half = (window - 1) / 2
    height = n // age.size
    for stretch in range(age.size):
        begin, end = stretch * height, (stretch + 1) * height
        for start in range(begin + -age[stretch] % window, end, window):
            stop = min(start + window, end)
            before = min(start - begin, window - 1)
            write_logs(close[start - before : start], close[start], logs)
            sum_y = sum_yy = sum_ty = 0.0
            for back in range(1, before + 1):
                y = logs[row(before - back)]
                sum_y += y
                sum_yy += y * y
                sum_ty -= back * y
                at = row(window - back)
                tail_y[at], tail_yy[at], tail_ty[at] = sum_y, sum_yy, sum_ty
            write_logs(close[start:stop], close[start], logs)
            sum_y = sum_yy = sum_ty = 0.0
            for t in range(start, stop):
                y = logs[row(t - start)]
                sum_y += y
                sum_yy += y * y
                sum_ty += (t - start) * y
                residual[row(t)], squares[row(t)], slope[row(t)] = sum_y, sum_yy, sum_ty
            for t in range(start, stop):
                at = row(t - start + 1)
                total = residual[row(t)] + tail_y[at]
                yy = squares[row(t)] + tail_yy[at] - total * total * share
                ty = slope[row(t)] + tail_ty[at] - (t - start - half) * total
                still = yy <= window * STILL**2
                steep = 0.0 if still else ty * share_of_tt
                slope[row(t)] = steep
                residual[row(t)] = 0.0 if still else logs[row(t - start)] - total * share - steep * half
                squares[row(t)] = 0.0 if still else yy
                explained[row(t)] = min(steep * ty, yy)
    for column in (slope, residual, squares, explained):
        forget_first(column, window - 1, age)
    return slope, residual, squares, explained
