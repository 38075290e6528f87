"""The developing volume profile: how the volume of the last bars was spread over prices.

Each bar's volume is spread evenly over its range, an approximation of what its trades would show, into equal bins from
the lowest low to the highest high of the window; a bar without range falls into one bin. Every profile is added up
anew from its own window, so it knows no later trade and no earlier one. Null where the window has no range or no
volume, or a volume is missing. Steidlmayer's Market Profile (1984).
"""

import numpy as np

from lab.compiled import compiled
from lab.features.catalogue import feature
from lab.features.extremes import highest, lowest
from lab.nouns import Ages, Formula, Vector

VALUE_SHARE = 0.7


@feature(lookback=lambda window: window)
def poc_distance(window: int = 120, bins: int = 24) -> Formula:
    """ln(C / point of control): the middle of the fullest of `bins` price bins of the last `window` bars' volume.

    Of equally full bins, the nearest to the middle of the range, then the lower.
    """
    return lambda high, low, close, volume, age: np.log(close / profiles(high, low, volume, window, bins, age)[0])


@feature(lookback=lambda window: window)
def value_area_position(window: int = 120, bins: int = 24) -> Formula:
    """(C - value area low) / (its high - its low), below 0 or above 1 outside of it.

    The value area is 70 % of the volume of `window` bars around the point of control, by the two-row rule (CBOT).
    """

    def position(high: Vector, low: Vector, close: Vector, volume: Vector, age: Ages) -> Vector:
        _, bottom, top = profiles(high, low, volume, window, bins, age)
        return (close - bottom) / (top - bottom)

    return position


@feature(lookback=lambda window: window)
def value_area_width(window: int = 120, bins: int = 24) -> Formula:
    """ln(value area high / value area low) of the last `window` bars' volume; see `value_area_position`."""

    def width(high: Vector, low: Vector, volume: Vector, age: Ages) -> Vector:
        _, bottom, top = profiles(high, low, volume, window, bins, age)
        return np.log(top / bottom)

    return width


@feature(lookback=lambda window: window)
def volume_above_share(window: int = 120) -> Formula:
    """Share of the last `window` bars' volume that traded above the close, each bar's spread evenly over its range.

    A bar without range at the very close counts half. Null where nothing traded.
    """
    return lambda high, low, close, volume: share_above(high, low, close, volume, window)


@compiled
def point_of_control(profile: Vector) -> int:
    """The fullest bin; of equals, the nearest to the middle, then the lower."""
    best = 0
    for k in range(1, profile.size):
        away = abs(2 * k - (profile.size - 1)) - abs(2 * best - (profile.size - 1))
        if profile[k] > profile[best] or (profile[k] == profile[best] and away < 0):
            best = k
    return best


@compiled
def value_area(profile: Vector, control: int, share: float) -> tuple[int, int]:
    """First and last bin around `control` that hold at least `share` of the volume, by the two-row rule.

    The next two bins above are weighed against the next two below (one, where one is left), and the heavier pair is
    added whole; the upper, where they weigh the same.
    """
    first = last = control
    held = profile[control]
    wanted = share * profile.sum()
    while held < wanted and (first > 0 or last < profile.size - 1):
        below = profile[max(first - 2, 0) : first].sum()
        above = profile[last + 1 : last + 3].sum()
        if first == 0 or (last < profile.size - 1 and above >= below):
            last = min(last + 2, profile.size - 1)
            held += above
        else:
            first = max(first - 2, 0)
            held += below
    return first, last


def profiles(
    high: Vector, low: Vector, volume: Vector, window: int, bins: int, age: Ages
) -> tuple[Vector, Vector, Vector]:
    """Point of control, value area low and value area high of the last `window` bars, in prices."""
    bottom, top = lowest(low, window, age), highest(high, window, age)
    return developing(high, low, volume, bottom, (top - bottom) / bins, window, bins)


@compiled
def developing(
    high: Vector, low: Vector, volume: Vector, bottom: Vector, width: Vector, window: int, bins: int
) -> tuple[Vector, Vector, Vector]:
    """What `profiles` returns, with bins of `width` from `bottom` on."""
    control = np.full(high.size, np.nan)
    lower = np.full(high.size, np.nan)
    upper = np.full(high.size, np.nan)
    for t in range(window - 1, high.size):
        if not width[t] > 0:
            continue
        bars = slice(t - window + 1, t + 1)
        profile = spread(high[bars], low[bars], volume[bars], bottom[t], width[t], bins)
        if profile.sum() > 0:
            fullest = point_of_control(profile)
            first, last = value_area(profile, fullest, VALUE_SHARE)
            control[t] = bottom[t] + (fullest + 0.5) * width[t]
            lower[t] = bottom[t] + first * width[t]
            upper[t] = bottom[t] + (last + 1) * width[t]
    return control, lower, upper


@compiled
def spread(high: Vector, low: Vector, volume: Vector, bottom: float, width: float, bins: int) -> Vector:
    """Volume by price bin: each bar's goes evenly to the bins that its range covers."""
    profile = np.zeros(bins)
    scale = 1 / width
    for k in range(high.size):
        begin, end = (low[k] - bottom) * scale, (high[k] - bottom) * scale
        first, last = min(int(begin), bins - 1), min(int(end), bins - 1)
        if first == last:
            profile[first] += volume[k]
        else:
            density = volume[k] / (end - begin)
            profile[first] += density * (first + 1 - begin)
            for at in range(first + 1, last):
                profile[at] += density
            profile[last] += density * (end - last)
    return profile


@compiled
def share_above(high: Vector, low: Vector, close: Vector, volume: Vector, window: int) -> Vector:
    """See `volume_above_share`."""
    out = np.full(close.size, np.nan)
    for t in range(window - 1, close.size):
        above = total = 0.0
        for k in range(t - window + 1, t + 1):
            over, under = max(high[k] - close[t], 0.0), max(close[t] - low[k], 0.0)
            above += volume[k] * (over / (over + under) if over + under > 0 else 0.5)
            total += volume[k]
        out[t] = above / total
    return out
