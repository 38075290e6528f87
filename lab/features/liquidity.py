"""What it costs to trade, read from bars alone: price impact, and spreads that prices betray."""

import math

import numpy as np

from lab.features.catalogue import feature
from lab.features.order_flow import delta_of
from lab.features.price import log_change
from lab.features.windows import change, lag, rolling_covariance, rolling_mean, rolling_slope
from lab.nouns import Ages, Formula, Vector

PAIR = 3 - 2 * math.sqrt(2)  # Corwin & Schultz: what separates the ranges of one bar and of two


def signed_root(x: Vector) -> Vector:
    """The square root of the size, with the sign."""
    rooted: Vector = np.sign(x) * np.sqrt(np.abs(x))
    return rooted


def above_middle(price: Vector, high: Vector, low: Vector) -> Vector:
    """ln of a price over the geometric middle of a range."""
    above: Vector = np.log((price / high) * (price / low)) / 2
    return above


@feature(lookback=lambda window: window + 1, least=2)
def price_impact(window: int = 60) -> Formula:
    """Slope of log return on volume delta in mean bar volumes, over `window` bars: kyle_lambda without units.

    The return that goes with takers buying one usual bar's volume more than they sell. Kyle (1985). Null where the
    delta never changed.
    """

    def impact(buy_volume: Vector, volume: Vector, close: Vector, age: Ages) -> Vector:
        slope = rolling_slope(delta_of(buy_volume, volume), log_change(close), window, age)
        return slope * rolling_mean(volume, window, age)

    return impact


@feature(lookback=lambda window: window + 1, least=2)
def hasbrouck_lambda(window: int = 60) -> Formula:
    """Slope of log return on the signed root of money traded by takers, × 1e3, over `window` bars. Hasbrouck (2009).

    Money is the delta × C. In units of 1 / sqrt(price × volume); null where the flow never changed.
    """

    def slope(buy_volume: Vector, volume: Vector, close: Vector, age: Ages) -> Vector:
        money = signed_root(delta_of(buy_volume, volume) * close)
        return 1e3 * rolling_slope(money, log_change(close), window, age)

    return slope


@feature(lookback=lambda window: window + 2, least=2)
def roll_spread(window: int = 60) -> Formula:
    """2 sqrt(-covariance of one price change with the one before) / C over `window` pairs. Roll (1984).

    Null where the covariance is positive, as in a trend.
    """

    def spread(close: Vector, age: Ages) -> Vector:
        moves = change(close)
        return 2 * np.sqrt(-rolling_covariance(moves, lag(moves), window, age)) / close

    return spread


@feature(lookback=lambda window: window + 1)
def corwin_schultz(window: int = 20) -> Formula:
    """Relative spread from the ranges of one bar and of two, the mean of `window` pairs. Corwin & Schultz (2012).

    A pair that gives less than 0 counts 0; a bar that jumped away from the close before is moved back to it.
    """

    def spread(high: Vector, low: Vector, close: Vector, age: Ages) -> Vector:
        return rolling_mean(np.maximum(corwin_schultz_pairs(high, low, close), 0.0), window, age)

    return spread


@feature(lookback=lambda window: window + 1)
def abdi_ranaldo(window: int = 20) -> Formula:
    """Relative spread from closes against the middles of two bars, the mean of `window` pairs. Abdi & Ranaldo (2017).

    sqrt(max(4 (c[-1] - m[-1]) (c[-1] - m), 0)) with c the ln of a close and m the middle of ln high and ln low.
    """

    def spread(high: Vector, low: Vector, close: Vector, age: Ages) -> Vector:
        before = lag(close)
        squares = 4 * above_middle(before, lag(high), lag(low)) * above_middle(before, high, low)
        return rolling_mean(np.sqrt(np.maximum(squares, 0.0)), window, age)

    return spread


def corwin_schultz_pairs(high: Vector, low: Vector, close: Vector) -> Vector:
    """The relative spread that each bar and the one before give, which may be negative."""
    before = lag(close)
    moved = np.maximum(low - before, 0.0) + np.minimum(high - before, 0.0)
    upper, lower = high - moved, low - moved
    one = np.log(upper / lower) ** 2 + np.log(lag(high) / lag(low)) ** 2
    two = np.log(np.maximum(upper, lag(high)) / np.minimum(lower, lag(low))) ** 2
    alpha = (np.sqrt(2 * one) - np.sqrt(one)) / PAIR - np.sqrt(two / PAIR)
    spread: Vector = 2 * np.tanh(alpha / 2)  # which is 2 (e^alpha - 1) / (e^alpha + 1)
    return spread
