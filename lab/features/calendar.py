"""Where in the day and week a bar closes (UTC), on circles so that midnight and Sunday are no cliffs."""

import math

import polars as pl

from lab.features.catalogue import feature
from lab.nouns import Formula

TIME = pl.col("time")
MINUTE_OF_DAY = TIME.dt.hour().cast(pl.Float64) * 60 + TIME.dt.minute()
DAY_TURN = 2 * math.pi / 1440 * MINUTE_OF_DAY
WEEK_TURN = 2 * math.pi / 10080 * ((TIME.dt.weekday().cast(pl.Float64) - 1) * 1440 + MINUTE_OF_DAY)


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
