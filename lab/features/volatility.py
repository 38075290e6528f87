"""How much prices move: from closes, from ranges, and how that itself changes. All per bar, not annualised."""

import math

import numpy as np

from lab.compiled import compiled
from lab.features.catalogue import feature
from lab.features.extremes import highest, rolling_rank
from lab.features.price import channel, log_change, log_ratio, sums_by_direction
from lab.features.trend import true_range
from lab.features.windows import (
    ema,
    forget_first,
    lag,
    rolling_deviation,
    rolling_mean,
    rolling_sum,
    rolling_variance,
    rolling_zscore,
    span_memory,
    wilder,
    wilder_memory,
)
from lab.nouns import Ages, Formula, Vector


def rogers_satchell_variance(open: Vector, high: Vector, low: Vector, close: Vector) -> Vector:
    """u(u - r) + d(d - r) of each bar, with u, d, r = ln of H, L, C over O."""
    up, down, net = np.log(high / open), np.log(low / open), log_ratio(close, open)
    variance: Vector = up * (up - net) + down * (down - net)
    return variance


def bipower(moves: Vector, window: int, age: Ages) -> Vector:
    """BV = (pi / 2) n / (n - 1) × sum of |r||r[-1]| over the pairs inside `window` returns."""
    return math.pi / 2 * window / (window - 1) * rolling_sum(moves * lag(moves), window - 1, age)


def middle_of_three(x: Vector) -> Vector:
    """The median of each value and the two before it."""
    before, earlier = lag(x), lag(x, 2)
    median: Vector = np.maximum(np.minimum(x, before), np.minimum(np.maximum(x, before), earlier))
    return median


def upside_and_downside(close: Vector, window: int, age: Ages) -> tuple[Vector, Vector]:
    """Squared log returns of the last `window` bars summed, those of rises and those of falls."""
    return sums_by_direction(close, log_change(close) ** 2, window, age)


@feature(lookback=lambda window: window + 1, least=2)
def realised_vol(window: int = 20) -> Formula:
    """Standard deviation (ddof 1) of the last `window` log returns."""
    return lambda close, age: rolling_deviation(log_change(close), window, age)


@feature(lookback=lambda window: window)
def parkinson(window: int = 20) -> Formula:
    """sqrt(mean of ln(H/L)² / (4 ln 2)) over `window` bars. Parkinson (1980)."""
    return lambda high, low, age: np.sqrt(rolling_mean(log_ratio(high, low) ** 2, window, age) / (4 * math.log(2)))


@feature(lookback=lambda window: window)
def garman_klass(window: int = 20) -> Formula:
    """sqrt(mean of 0.5 ln(H/L)² - (2 ln 2 - 1) ln(C/O)²) over `window` bars. Garman & Klass (1980).

    A single bar may be negative, so the mean comes before the root; null where the mean itself is negative.
    """

    def deviation(open: Vector, high: Vector, low: Vector, close: Vector, age: Ages) -> Vector:
        variance = 0.5 * log_ratio(high, low) ** 2 - (2 * math.log(2) - 1) * log_ratio(close, open) ** 2
        return np.sqrt(rolling_mean(variance, window, age))

    return deviation


@feature(lookback=lambda window: window)
def rogers_satchell(window: int = 20) -> Formula:
    """sqrt(mean of u(u - r) + d(d - r)), u, d, r = ln of H, L, C over O. Rogers & Satchell (1991)."""

    def deviation(open: Vector, high: Vector, low: Vector, close: Vector, age: Ages) -> Vector:
        variance = rolling_mean(rogers_satchell_variance(open, high, low, close), window, age)
        return np.sqrt(np.maximum(variance, 0.0))

    return deviation


@feature(lookback=lambda window: window + 1, least=2)
def yang_zhang(window: int = 20) -> Formula:
    """sqrt(overnight variance + k open-to-close variance + (1 - k) Rogers-Satchell). Yang & Zhang (2000).

    k = 0.34 / (1.34 + (n + 1) / (n - 1)), variances with ddof 1.
    """
    k = 0.34 / (1.34 + (window + 1) / (window - 1))

    def deviation(open: Vector, high: Vector, low: Vector, close: Vector, age: Ages) -> Vector:
        overnight = rolling_variance(log_ratio(open, lag(close)), window, age)
        inside = rolling_variance(log_ratio(close, open), window, age)
        ranging = rolling_mean(rogers_satchell_variance(open, high, low, close), window, age)
        return np.sqrt(np.maximum(overnight + k * inside + (1 - k) * ranging, 0.0))

    return deviation


@feature(lookback=lambda window: wilder_memory(window) + 1)
def atr(window: int = 14) -> Formula:
    """Wilder's average true range as a share of the close. Wilder (1978)."""
    return lambda high, low, close, age: wilder(true_range(high, low, close), window, age) / close


@feature(lookback=lambda fast, slow: max(fast, slow) + 1, least=2)
def vol_ratio(fast: int = 10, slow: int = 60) -> Formula:
    """ln(realised volatility of `fast` bars / of `slow` bars); null where either is 0."""

    def ratio(close: Vector, age: Ages) -> Vector:
        returns = log_change(close)
        return log_ratio(rolling_deviation(returns, fast, age), rolling_deviation(returns, slow, age))

    return ratio


@feature(lookback=lambda window: window + 1, least=2)
def jump_share(window: int = 60) -> Formula:
    """max(RV - BV, 0) / RV: the share of variance that came in jumps. Barndorff-Nielsen & Shephard (2004).

    RV sums the squared returns of `window` bars; BV = (pi/2) n/(n-1) sum |r||r[-1]| over the pairs inside it.
    """

    def share(close: Vector, age: Ages) -> Vector:
        move = np.abs(log_change(close))
        realised = rolling_sum(move**2, window, age)
        return np.maximum((realised - bipower(move, window, age)) / realised, 0.0)

    return share


@feature(lookback=lambda window, inner: window + inner, least=2)
def vol_of_vol(window: int = 60, inner: int = 10) -> Formula:
    """Standard deviation over `window` bars of ln realised volatility of `inner` bars; null where that is 0."""

    def deviation(close: Vector, age: Ages) -> Vector:
        known = np.log(rolling_deviation(log_change(close), inner, age))
        return rolling_deviation(np.where(np.isfinite(known), known, np.nan), window, age)

    return deviation


@feature(lookback=2)
def true_range_share() -> Formula:
    """True range / C: (max(H, C[-1]) - min(L, C[-1])) / C."""
    return lambda high, low, close: true_range(high, low, close) / close


@feature(lookback=lambda window: window + 1)
def range_expansion(window: int = 20) -> Formula:
    """ln(true range / mean true range of the last `window` bars); null on a bar without one."""

    def expansion(high: Vector, low: Vector, close: Vector, age: Ages) -> Vector:
        ranges = true_range(high, low, close)
        return log_ratio(ranges, rolling_mean(ranges, window, age))

    return expansion


@feature(lookback=lambda span, window: max(span_memory(span), wilder_memory(window) + 1))
def keltner_position(span: int = 20, window: int = 10, width: float = 2.0) -> Formula:
    """(C - lower) / (upper - lower) of bands `width` ATR(window) about EMA(span). Keltner (1960), Raschke's bands.

    Null where the ATR is 0.
    """

    def position(high: Vector, low: Vector, close: Vector, age: Ages) -> Vector:
        reach = width * wilder(true_range(high, low, close), window, age)
        return 0.5 + (close - ema(close, span, age)) / (2 * reach)

    return position


@feature(lookback=lambda span, window: max(span_memory(span), wilder_memory(window) + 1))
def keltner_width(span: int = 20, window: int = 10, width: float = 2.0) -> Formula:
    """(upper - lower) / EMA(span) of bands `width` ATR(window) about it. Keltner (1960), Raschke's bands."""

    def spread(high: Vector, low: Vector, close: Vector, age: Ages) -> Vector:
        return 2 * width * wilder(true_range(high, low, close), window, age) / ema(close, span, age)

    return spread


@feature(lookback=lambda window: window)
def donchian_width(window: int = 20) -> Formula:
    """ln(highest high / lowest low) of the last `window` bars. Donchian (1960)."""

    def width(high: Vector, low: Vector, age: Ages) -> Vector:
        top, bottom = channel(high, low, window, age)
        return log_ratio(top, bottom)

    return width


@feature(lookback=lambda window: window + 1, least=2)
def squeeze(window: int = 20, bollinger: float = 2.0, keltner: float = 1.5) -> Formula:
    """ln(half width of Bollinger bands / of Keltner bands): below 0 the market is in a squeeze. Carter (2005).

    `bollinger` deviations of closes (ddof 0) against `keltner` mean true ranges; null where one of them is 0.
    """

    def ratio(high: Vector, low: Vector, close: Vector, age: Ages) -> Vector:
        deviation = rolling_deviation(close, window, age, ddof=0)
        ranges = rolling_mean(true_range(high, low, close), window, age)
        return log_ratio(bollinger / keltner * deviation, ranges)

    return ratio


@feature(lookback=lambda window: window + 1)
def realised_variance(window: int = 60) -> Formula:
    """Sum of the squared log returns of `window` bars."""
    return lambda close, age: rolling_sum(log_change(close) ** 2, window, age)


@feature(lookback=lambda window: window + 1, least=2)
def bipower_variance(window: int = 60) -> Formula:
    """(pi / 2) n / (n - 1) × sum of |r||r[-1]| in `window` returns: variance less jumps. B.-N. & Shephard (2004)."""
    return lambda close, age: bipower(np.abs(log_change(close)), window, age)


@feature(lookback=lambda window: window + 1, least=2)
def min_variance(window: int = 60) -> Formula:
    """MinRV: pi / (pi - 2) n / (n - 1) × sum of min(|r|, |r[-1]|)². Andersen, Dobrev & Schaumburg (2012)."""

    def variance(close: Vector, age: Ages) -> Vector:
        moves = np.abs(log_change(close))
        share = math.pi / (math.pi - 2) * window / (window - 1)
        return share * rolling_sum(np.minimum(moves, lag(moves)) ** 2, window - 1, age)

    return variance


@feature(lookback=lambda window: window + 1, least=3)
def med_variance(window: int = 60) -> Formula:
    """MedRV: pi / (6 - 4√3 + pi) n / (n - 2) × sum of squared medians of three |r|. Andersen et al. (2012)."""

    def variance(close: Vector, age: Ages) -> Vector:
        moves = np.abs(log_change(close))
        share = math.pi / (6 - 4 * math.sqrt(3) + math.pi) * window / (window - 2)
        return share * rolling_sum(middle_of_three(moves) ** 2, window - 2, age)

    return variance


@feature(lookback=lambda window: window + 1, least=3)
def jump_z(window: int = 60) -> Formula:
    """((RV - BV) / RV) / √((pi²/4 + pi - 5) / n × max(1, TP / BV²)): normal without jumps. Huang & Tauchen (2005).

    RV, BV and tripower quarticity TP are over `window` returns; 3.09 is one in a thousand. Null where BV is 0.
    """
    moment = 2 ** (2 / 3) * math.gamma(7 / 6) / math.gamma(1 / 2)

    def statistic(close: Vector, age: Ages) -> Vector:
        moves = np.abs(log_change(close))
        realised, smooth = rolling_sum(moves**2, window, age), bipower(moves, window, age)
        power = np.cbrt(moves) * moves
        triples = rolling_sum(power * lag(power) * lag(power, 2), window - 2, age)
        quarticity = window * moment**-3 * window / (window - 2) * triples
        spread = (math.pi**2 / 4 + math.pi - 5) / window * np.maximum(1.0, quarticity / smooth**2)
        return (realised - smooth) / realised / np.sqrt(spread)

    return statistic


@feature(lookback=lambda window: window + 1)
def upside_variance(window: int = 60) -> Formula:
    """Sum of the squared log returns of rises among `window` bars. Barndorff-Nielsen, Kinnebrock & Shephard (2010)."""
    return lambda close, age: upside_and_downside(close, window, age)[0]


@feature(lookback=lambda window: window + 1)
def downside_variance(window: int = 60) -> Formula:
    """Sum of the squared log returns of falls among `window` bars. Barndorff-Nielsen, Kinnebrock & Shephard (2010)."""
    return lambda close, age: upside_and_downside(close, window, age)[1]


@feature(lookback=lambda window: window + 1)
def signed_jump_share(window: int = 60) -> Formula:
    """(upside - downside variance) / realised variance of `window` bars, in [-1, 1]. Patton & Sheppard (2015).

    Null where nothing moved.
    """

    def share(close: Vector, age: Ages) -> Vector:
        up, down = upside_and_downside(close, window, age)
        return (up - down) / (up + down)

    return share


@feature(lookback=lambda period: 5 * period + 1)
def har_week(period: int = 12) -> Formula:
    """ln(realised variance of the last `period` bars / mean of the last 5 such periods). After Corsi (2009).

    Null where nothing moved.
    """
    return lambda close, age: variance_ratio_of_spans(close, 1, 5, period, age)


@feature(lookback=lambda period: 22 * period + 1)
def har_month(period: int = 12) -> Formula:
    """ln(mean realised variance of the last 5 periods of `period` bars / of the last 22). After Corsi (2009).

    Null where nothing moved.
    """
    return lambda close, age: variance_ratio_of_spans(close, 5, 22, period, age)


@feature(lookback=lambda window, over: window + over, least=2)
def vol_zscore(window: int = 20, over: int = 100) -> Formula:
    """realised_vol(window) against the mean and deviation of its last `over` values; null where it never changed."""

    def score(close: Vector, age: Ages) -> Vector:
        return rolling_zscore(rolling_deviation(log_change(close), window, age), over, age)

    return score


@feature(lookback=lambda window, over: window + over, least=2)
def vol_rank(window: int = 20, over: int = 100) -> Formula:
    """Rank of realised_vol(window) among its last `over` values, as a share in (0, 1]."""
    return lambda close, age: rolling_rank(rolling_deviation(log_change(close), window, age), over)


@feature(lookback=lambda window: 2 * window - 1)
def ulcer_index(window: int = 14) -> Formula:
    """√(mean of (C / highest close of `window` bars - 1)²) over `window` bars. Martin (1987), as a share."""

    def index(close: Vector, age: Ages) -> Vector:
        fallen = close / highest(close, window, age) - 1
        return np.sqrt(rolling_mean(fallen**2, window, age))

    return index


@feature(lookback=lambda window: window)
def max_drawdown(window: int = 60) -> Formula:
    """Largest fall from a close to a later one among the last `window`, as a share in [0, 1]."""
    return lambda close, age: drawdown(close, window, age)


def variance_ratio_of_spans(close: Vector, near: int, far: int, period: int, age: Ages) -> Vector:
    """ln of realised variance a period, over the last `near` periods against the last `far`."""
    squares = log_change(close) ** 2
    recent, usual = (rolling_sum(squares, periods * period, age) for periods in (near, far))
    return log_ratio(far / near * recent, usual)


@compiled
def drawdown(close: Vector, window: int, age: Ages) -> Vector:
    """The largest 1 - later / earlier among the last `window` values."""
    n = close.size
    out = np.full(n, np.nan)
    # Of every tail: its highest close, its lowest, and its own largest fall. A window falls most in the tail, in
    # the head, or from the top of the one to the bottom of the other.
    tail = np.empty((window + 1, 3))
    tail[window] = (-np.inf, np.inf, 0.0)
    height = n // age.size
    for stretch in range(age.size):
        begin, end = stretch * height, (stretch + 1) * height
        for start in range(begin + -age[stretch] % window, end, window):
            for back in range(1, min(start - begin, window - 1) + 1):
                at = window - back
                price = close[start - back]
                tail[at, 0] = max(price, tail[at + 1, 0])
                tail[at, 1] = min(price, tail[at + 1, 1])
                tail[at, 2] = max(tail[at + 1, 2], 1 - tail[at + 1, 1] / price)
            top, bottom, fall = -np.inf, np.inf, 0.0
            for t in range(start, min(start + window, end)):
                at = t - start + 1
                top = max(top, close[t])
                bottom = min(bottom, close[t])
                fall = max(fall, 1 - close[t] / top)
                between = 1 - bottom / tail[at, 0] if at < window else 0.0
                out[t] = max(fall, tail[at, 2], between)
    forget_first(out, window - 1, age)
    return out
