"""The best quotes, the depth behind them, and what else is published beside the bars: funding, interest.

Quotes are those at the close of a bar. A trade is compared with the middle of the quotes before its bar.
"""

import numpy as np

from lab.features.catalogue import feature
from lab.features.order_flow import delta_of
from lab.features.price import log_ratio
from lab.features.windows import change, lag, rolling_mean, rolling_zscore
from lab.nouns import Ages, Formula, Vector


def middle(bid: Vector, ask: Vector) -> Vector:
    """The price halfway between the best quotes."""
    return (bid + ask) / 2


def spread_of(bid: Vector, ask: Vector) -> Vector:
    """(ask - bid) / their middle; NaN where the book is crossed."""
    spread = (ask - bid) / middle(bid, ask)
    return np.where(spread >= 0, spread, np.nan)


def effective(buy_volume: Vector, volume: Vector, price: Vector, quoted: Vector) -> Vector:
    """2 D (price - quoted) / quoted, D the side on which takers traded more; NaN where neither was."""
    side = np.sign(delta_of(buy_volume, volume))
    return 2 * np.where(side == 0, np.nan, side) * (price - quoted) / quoted


@feature(lookback=1)
def relative_spread() -> Formula:
    """(ask - bid) / middle of the best quotes; null where the book is crossed."""
    return lambda bid, ask: spread_of(bid, ask)


@feature(lookback=lambda window: window, least=2)
def spread_zscore(window: int = 60) -> Formula:
    """relative_spread against its mean and deviation over `window` bars; null where it did not change."""
    return lambda bid, ask, age: rolling_zscore(spread_of(bid, ask), window, age)


@feature(lookback=lambda window: window + 1)
def spread_change(window: int = 1) -> Formula:
    """ln(relative_spread / that of `window` bars ago); null where either is 0."""
    return lambda bid, ask: change(np.log(spread_of(bid, ask)), window)


def pressure(bid_size: Vector, ask_size: Vector) -> Vector:
    """(bid size - ask size) / (bid size + ask size)."""
    return (bid_size - ask_size) / (bid_size + ask_size)


@feature(lookback=1)
def book_pressure() -> Formula:
    """(bid size - ask size) / (bid size + ask size) at the best quotes, in [-1, 1]; null where both are 0."""
    return lambda bid_size, ask_size: pressure(bid_size, ask_size)


@feature(lookback=lambda window: window)
def mean_pressure(window: int = 20) -> Formula:
    """Mean of book_pressure over `window` bars."""
    return lambda bid_size, ask_size, age: rolling_mean(pressure(bid_size, ask_size), window, age)


@feature(lookback=1)
def weighted_middle() -> Formula:
    """ln(weighted middle / middle) of the best quotes, each weighted by the size on the other side.

    Null where both sizes are 0. Not the micro-price, which is learned.
    """

    def deviation(bid: Vector, ask: Vector, bid_size: Vector, ask_size: Vector) -> Vector:
        weighted = (bid * ask_size + ask * bid_size) / (bid_size + ask_size)
        return log_ratio(weighted, middle(bid, ask))

    return deviation


@feature(lookback=1)
def micro_deviation() -> Formula:
    """ln(micro-price / middle of the best quotes): where the next middle is expected. Stoikov (2018)."""
    return lambda micro_price, bid, ask: log_ratio(micro_price, middle(bid, ask))


@feature(lookback=lambda window: window, least=2)
def depth_slope_zscore(window: int = 60) -> Formula:
    """Slope of the book against its mean and deviation over `window` bars. Næs & Skjeltorp (2006)."""
    return lambda depth_slope, age: rolling_zscore(depth_slope, window, age)


@feature(lookback=lambda window: window + 1)
def quoted_size_change(window: int = 1) -> Formula:
    """ln(bid size + ask size at the best quotes / those of `window` bars ago); null where either is 0."""
    return lambda bid_size, ask_size: np.log((bid_size + ask_size) / lag(bid_size + ask_size, window))


@feature(lookback=lambda window: window + 1)
def effective_spread(window: int = 20) -> Formula:
    """Mean over `window` bars of 2 D (vwap - m) / m, m the middle quoted before the bar, D the side takers were on.

    Null where in one of the bars takers bought as much as they sold.
    """

    def spread(vwap: Vector, bid: Vector, ask: Vector, buy_volume: Vector, volume: Vector, age: Ages) -> Vector:
        return rolling_mean(effective(buy_volume, volume, vwap, lag(middle(bid, ask))), window, age)

    return spread


@feature(lookback=lambda window, delay: window + delay + 1)
def realised_spread(window: int = 20, delay: int = 5) -> Formula:
    """Mean over `window` bars of 2 D (vwap[-delay] - m) / m[-delay-1]: what makers kept `delay` bars after the trade.

    m is the middle of the quotes, D the side takers were on. Huang & Stoll (1996), told only once it is known.
    """

    def spread(vwap: Vector, bid: Vector, ask: Vector, buy_volume: Vector, volume: Vector, age: Ages) -> Vector:
        return rolling_mean(realised(vwap, middle(bid, ask), buy_volume, volume, delay), window, age)

    return spread


@feature(lookback=lambda window, delay: window + delay + 1)
def quote_impact(window: int = 20, delay: int = 5) -> Formula:
    """Mean over `window` bars of effective less realised spread: how far quotes had moved with the takers by now.

    Of trades `delay` bars ago; Huang & Stoll (1996).
    """

    def impact(vwap: Vector, bid: Vector, ask: Vector, buy_volume: Vector, volume: Vector, age: Ages) -> Vector:
        quoted = middle(bid, ask)
        paid = lag(effective(buy_volume, volume, vwap, lag(quoted)), delay)
        return rolling_mean(paid - realised(vwap, quoted, buy_volume, volume, delay), window, age)

    return impact


def realised(vwap: Vector, quoted: Vector, buy_volume: Vector, volume: Vector, delay: int) -> Vector:
    """2 D (vwap - quotes now) / quotes before the trade, of the trades of `delay` bars ago."""
    side = np.sign(delta_of(buy_volume, volume))
    side = lag(np.where(side == 0, np.nan, side), delay)
    spread: Vector = 2 * side * (lag(vwap, delay) - quoted) / lag(quoted, delay + 1)
    return spread


@feature(lookback=lambda window: window, least=2)
def funding_zscore(window: int = 240) -> Formula:
    """Funding rate against its mean and deviation over `window` bars; null where it did not change."""
    return lambda funding_rate, age: rolling_zscore(funding_rate, window, age)


@feature(lookback=lambda window: window + 1)
def funding_change(window: int = 60) -> Formula:
    """Funding rate less that of `window` bars ago: a share of the position, per funding interval."""
    return lambda funding_rate: change(funding_rate, window)


@feature(lookback=lambda window: window + 1)
def open_interest_change(window: int = 20) -> Formula:
    """ln(open interest / that of `window` bars ago); null where either is 0."""
    return lambda open_interest: change(np.log(open_interest), window)


@feature(lookback=lambda window: window, least=2)
def premium_zscore(window: int = 240) -> Formula:
    """Premium of the future over its index, against its mean and deviation over `window` bars."""
    return lambda premium, age: rolling_zscore(premium, window, age)


@feature(lookback=lambda window: window, least=2)
def accounts_zscore(window: int = 240) -> Formula:
    """ln(accounts that are long / short), against its mean and deviation over `window` bars; null at 0."""
    return lambda accounts_ratio, age: rolling_zscore(finite(np.log(accounts_ratio)), window, age)


@feature(lookback=lambda window: window + 1)
def accounts_change(window: int = 20) -> Formula:
    """ln(accounts that are long / short) less that of `window` bars ago; null where either is 0."""
    return lambda accounts_ratio: change(np.log(accounts_ratio), window)


def finite(x: Vector) -> Vector:
    """`x`, NaN where it is infinite, so that no window carries an infinity on."""
    return np.where(np.isfinite(x), x, np.nan)
