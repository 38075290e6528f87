"""Where in the day, week and month a bar closes (UTC): on circles, so that midnight is no cliff, and as plain numbers.

`time` is the close of a bar. A bar that closes when a session ends was inside it, one that closes when it begins was
not.
"""

import math
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from lab.features.catalogue import feature
from lab.nouns import Formula, Vector

MINUTE = 60_000_000
DAY = 1440
FUNDING = 480  # perpetual futures of most venues settle funding at 00:00, 08:00 and 16:00
ASIA, EUROPE, AMERICA = (0, 480), (420, 960), (780, 1260)  # minutes of the day


def minute_of_day(time: Vector) -> Vector:
    """Whole minutes since midnight, of microseconds since 1970."""
    return time // MINUTE % DAY


def days_since_monday(time: Vector) -> Vector:
    """0 on Monday to 6 on Sunday; 1970 began on a Thursday."""
    return (time // (MINUTE * DAY) + 3) % 7


def turn_of_day(time: Vector) -> Vector:
    """The minute of the day as an angle."""
    return 2 * math.pi / DAY * minute_of_day(time)


def turn_of_week(time: Vector) -> Vector:
    """The minute of the week, from Monday on, as an angle."""
    return 2 * math.pi / (7 * DAY) * (days_since_monday(time) * DAY + minute_of_day(time))


def dates(time: Vector) -> npt.NDArray[np.datetime64]:
    """The days of microseconds since 1970."""
    return time.astype("datetime64[us]").astype("datetime64[D]")


def within(session: tuple[int, int]) -> Callable[[Vector], Vector]:
    """1 where the bar closes after the session's begin and no later than its end, else 0."""
    begin, end = session

    def inside(time: Vector) -> Vector:
        minute = minute_of_day(time)
        return ((minute > begin) & (minute <= end)).astype(np.float64)

    return inside


@feature(lookback=1)
def day_sin() -> Formula:
    """sin(2 pi minute of day / 1440)."""
    return lambda time: np.sin(turn_of_day(time))


@feature(lookback=1)
def day_cos() -> Formula:
    """cos(2 pi minute of day / 1440)."""
    return lambda time: np.cos(turn_of_day(time))


@feature(lookback=1)
def week_sin() -> Formula:
    """sin(2 pi minute of week / 10080), weeks beginning on Monday."""
    return lambda time: np.sin(turn_of_week(time))


@feature(lookback=1)
def week_cos() -> Formula:
    """cos(2 pi minute of week / 10080), weeks beginning on Monday."""
    return lambda time: np.cos(turn_of_week(time))


@feature(lookback=1)
def hour() -> Formula:
    """Hour of the day, 0 to 23."""
    return lambda time: (minute_of_day(time) // 60).astype(np.float64)


@feature(lookback=1)
def minute_of_hour() -> Formula:
    """Minute of the hour, 0 to 59."""
    return lambda time: (minute_of_day(time) % 60).astype(np.float64)


@feature(lookback=1)
def weekday() -> Formula:
    """Day of the week, 1 on Monday to 7 on Sunday."""
    return lambda time: days_since_monday(time) + 1.0


@feature(lookback=1)
def weekend() -> Formula:
    """1 on Saturday and Sunday, else 0."""
    return lambda time: (days_since_monday(time) > 4).astype(np.float64)


@feature(lookback=1)
def day_of_month() -> Formula:
    """Day of the month, from 1."""
    return lambda time: (dates(time) - dates(time).astype("datetime64[M]")).astype(np.float64) + 1


@feature(lookback=1)
def days_to_month_end() -> Formula:
    """Days that the month still has: 0 on its last day."""

    def left(time: Vector) -> Vector:
        month = dates(time).astype("datetime64[M]")
        return ((month + 1).astype("datetime64[D]") - dates(time)).astype(np.float64) - 1

    return left


@feature(lookback=1)
def asia_session() -> Formula:
    """1 in the Asian session, 00:00 to 08:00, else 0."""
    return within(ASIA)


@feature(lookback=1)
def europe_session() -> Formula:
    """1 in the European session, 07:00 to 16:00, else 0."""
    return within(EUROPE)


@feature(lookback=1)
def us_session() -> Formula:
    """1 in the American session, 13:00 to 21:00, else 0."""
    return within(AMERICA)


@feature(lookback=1)
def minutes_to_funding() -> Formula:
    """Minutes until funding is next due, at 00:00, 08:00 or 16:00: 0 where the bar closes with it."""
    return lambda time: (-minute_of_day(time) % FUNDING).astype(np.float64)
