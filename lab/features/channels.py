"""Channels: where prices are between the bounds of what they did before."""

import numpy as np

from lab.features.catalogue import feature
from lab.features.price import channel, log_ratio, position_in
from lab.features.sharing import shared
from lab.features.windows import (
    lag,
    rolling_deviation,
    rolling_squares,
)
from lab.nouns import Ages, Formula, Vector


@shared
def middle(high: Vector, low: Vector, window: int, age: Ages) -> Vector:
    """Halfway between the highest high and the lowest low of `window` bars."""
    top, bottom = channel(high, low, window, age)
    return 0.5 * (top + bottom)


def cloud(high: Vector, low: Vector, fast: int, medium: int, slow: int, ahead: int, age: Ages) -> tuple[Vector, Vector]:
    """Ichimoku's two spans at each bar, as they were drawn `ahead` bars before it."""
    span_a = (middle(high, low, fast, age) + middle(high, low, medium, age)) / 2
    return lag(span_a, ahead), lag(middle(high, low, slow, age), ahead)


@feature(lookback=lambda window: window, least=2)
def bollinger_position(window: int = 20, width: float = 2.0) -> Formula:
    """%b: (C - lower band) / (upper - lower), bands at `width` deviations (ddof 0); null on a flat window."""

    def position(close: Vector, age: Ages) -> Vector:
        mean, deviation = rolling_squares(close, window, age)[0], rolling_deviation(close, window, age, 0)
        return 0.5 + (close - mean) / (2 * width * deviation)

    return position


@feature(lookback=lambda window: window, least=2)
def bollinger_width(window: int = 20, width: float = 2.0) -> Formula:
    """(upper - lower band) / simple average. Bollinger (2001)."""

    def spread(close: Vector, age: Ages) -> Vector:
        mean, deviation = rolling_squares(close, window, age)[0], rolling_deviation(close, window, age, 0)
        return 2 * width * deviation / mean

    return spread


@feature(lookback=lambda window: window)
def tenkan_distance(window: int = 9) -> Formula:
    """ln(C / halfway between highest high and lowest low of `window` bars), the turning line. Hosoda (1969)."""
    return lambda high, low, close, age: log_ratio(close, middle(high, low, window, age))


@feature(lookback=lambda window: window)
def kijun_distance(window: int = 26) -> Formula:
    """ln(C / halfway between highest high and lowest low of `window` bars), the base line. Hosoda (1969)."""
    return lambda high, low, close, age: log_ratio(close, middle(high, low, window, age))


@feature(lookback=lambda fast, medium, slow, ahead: max(fast, medium, slow) + ahead)
def cloud_distance(fast: int = 9, medium: int = 26, slow: int = 52, ahead: int = 26) -> Formula:
    """ln(C / near edge of the Ichimoku cloud drawn `ahead` bars before), 0 inside it. Hosoda (1969).

    Its edges are the mean of tenkan(fast) and kijun(medium), and the middle of `slow` bars.
    """

    def distance(high: Vector, low: Vector, close: Vector, age: Ages) -> Vector:
        span_a, span_b = cloud(high, low, fast, medium, slow, ahead, age)
        edge = np.minimum(np.maximum(close, np.minimum(span_a, span_b)), np.maximum(span_a, span_b))
        return log_ratio(close, edge)

    return distance


@feature(lookback=lambda fast, medium, slow, ahead: max(fast, medium, slow) + ahead)
def cloud_width(fast: int = 9, medium: int = 26, slow: int = 52, ahead: int = 26) -> Formula:
    """ln(span A / span B) of the Ichimoku cloud drawn `ahead` bars before; above 0 it is rising. Hosoda (1969)."""

    def width(high: Vector, low: Vector, age: Ages) -> Vector:
        span_a, span_b = cloud(high, low, fast, medium, slow, ahead, age)
        return log_ratio(span_a, span_b)

    return width


@feature(lookback=lambda window: window + 1)
def donchian_position(window: int = 20) -> Formula:
    """(C - lowest low) / (highest high - lowest low) of the `window` bars before this one. Donchian (1960).

    Above 1 and below 0 the close broke out of them; null where they had no range.
    """

    def position(high: Vector, low: Vector, close: Vector, age: Ages) -> Vector:
        top, bottom = channel(high, low, window, age)
        return position_in(lag(bottom), close, lag(top))

    return position
