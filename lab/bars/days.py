"""Bars as they close → one part for each day."""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from datetime import UTC, date, datetime, time, timedelta

import polars as pl

from lab.nouns import MICROSECOND, Bars, Span, opened

DAY = timedelta(days=1)


def by_day(parts: Iterable[Bars]) -> Iterator[tuple[Span, Bars]]:
    """The bars of one symbol that opened on each day (UTC), with the span in which all such bars close."""
    waiting: dict[date, Bars] = {}
    for bars in parts:
        days = opened(pl.col("time"), bars.interval).dt.date().alias("day")
        dated = bars.frame.with_columns(days).partition_by("day", as_dict=True, include_key=False)
        for (day,), frame in dated.items():
            if day in waiting:
                frame = pl.concat([waiting.pop(day).frame, frame])
            yield from _dated(waiting)
            waiting = {day: replace(bars, frame=frame)}
    yield from _dated(waiting)


def _dated(waiting: dict[date, Bars]) -> Iterator[tuple[Span, Bars]]:
    for day, bars in waiting.items():
        begun = datetime.combine(day, time(), UTC) + MICROSECOND
        yield Span(begun, begun + DAY), bars
