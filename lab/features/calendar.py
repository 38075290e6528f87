"""Where in the day, week and month a bar closes (UTC): on circles, so that midnight is no cliff, and as plain numbers.

`time` is the close of a bar. A bar that closes when a session ends was inside it, one that closes when it begins was
not.
"""

import math
from collections.abc import Callable

import numpy as np
import polars as pl

from lab.features.catalogue import feature
from lab.nouns import Formula, Vector

TIME = pl.col("time")
MINUTE_OF_DAY = TIME.dt.hour().cast(pl.Float64) * 60 + TIME.dt.minute()
DAY_TURN = 2 * math.pi / 1440 * MINUTE_OF_DAY
WEEK_TURN = 2 * math.pi / 10080 * ((TIME.dt.weekday().cast(pl.Float64) - 1) * 1440 + MINUTE_OF_DAY)
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
    return DAY_TURN.sin()


@feature(lookback=1)
def day_cos() -> Formula:
    """cos(2 pi minute of day / 1440)."""
    return DAY_TURN.cos()


@feature(lookback=1)
def week_sin() -> Formula:
    """sin(2 pi minute of week / 10080), weeks beginning on Monday."""
    return WEEK_TURN.sin()


@feature(lookback=1)
def week_cos() -> Formula:
    """cos(2 pi minute of week / 10080), weeks beginning on Monday."""
    return WEEK_TURN.cos()


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
    return TIME.dt.day().cast(pl.Float64)


@feature(lookback=1)
def days_to_month_end() -> Formula:
    """Days that the month still has: 0 on its last day."""
    return (TIME.dt.month_end().dt.day() - TIME.dt.day()).cast(pl.Float64)


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
