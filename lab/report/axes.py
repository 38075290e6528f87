"""Where a value lies along an axis, and which values to write beside it."""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import numpy as np

from lab.nouns import Vector
from lab.report.words import MONTHS

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
# The steps that a clock or a calendar is read in, shortest first.
CLOCK = tuple(
    timedelta(minutes=n) for n in (1, 2, 5, 10, 15, 30, 60, 120, 180, 360, 720, 1440, 2880, 7 * 1440, 14 * 1440)
)
MONTHLY = (1, 2, 3, 6)
YEARLY = (1, 2, 5, 10, 20, 50, 100)


@dataclass(frozen=True)
class Axis:
    """A stretch of values, `low` to `high`, laid out evenly or by ratio."""

    low: float
    high: float
    by_ratio: bool = False

    def share(self, values: Vector | float) -> Vector:
        """How far along the axis each value lies, 0 to 1."""
        at = np.asarray(values, dtype=np.float64)
        if self.by_ratio:
            return np.asarray(np.log(at / self.low) / math.log(self.high / self.low))
        return np.asarray((at - self.low) / (self.high - self.low))


def axis_around(low: float, high: float, *, by_ratio: bool = False, margin: float = 0.06) -> Axis:
    """An axis that shows `low` to `high` with some air; a flat line gets one percent to either side."""
    if not high - low > 1e-12 * max(abs(low), abs(high)):
        room = abs(low) * 0.01 or 0.01
        return Axis(low - room, high + room)
    if by_ratio:
        air = (high / low) ** margin
        return Axis(low / air, high * air, by_ratio=True)
    air = (high - low) * margin
    return Axis(low - air, high + air)


def round_step(width: float, most: int) -> float:
    """The smallest of 1, 2, 2.5, 5 × a power of ten that cuts `width` into at most `most` parts."""
    rough = width / most
    power = 10.0 ** math.floor(math.log10(rough))
    return next(step * power for step in (1, 2, 2.5, 5, 10) if step * power >= rough * (1 - 1e-9))


def ticks(axis: Axis, most: int = 5) -> tuple[list[float], int]:
    """Round values inside `axis`, and how many decimals tell them apart."""
    if axis.by_ratio and axis.high / axis.low > 8:
        powers = range(math.floor(math.log10(axis.low)), math.ceil(math.log10(axis.high)) + 1)
        for heads in ((1, 2, 5), (1, 3), (1,)):
            found = [head * 10.0**power for power in powers for head in heads]
            found = [value for value in found if axis.low <= value <= axis.high]
            if len(found) <= most + 2:
                break
        found = found[:: max(1, math.ceil(len(found) / (most + 2)))]
        return found, max(0, -math.floor(math.log10(found[0]))) if found else 0
    step = round_step(axis.high - axis.low, most)
    first = math.ceil(axis.low / step - 1e-9)
    last = math.floor(axis.high / step + 1e-9)
    digits = max(0, -math.floor(math.log10(step) + 1e-9))
    if abs(round(step, digits) - step) > 1e-9 * step:
        digits += 1
    return [round(place * step, digits + 1) for place in range(first, last + 1)], digits


def microseconds(time: datetime) -> float:
    """Since 1970, UTC; exact in a float until the year 2255."""
    return float((time - EPOCH) // timedelta(microseconds=1))


def clock_ticks(start: datetime, end: datetime, step: timedelta) -> Iterable[datetime]:
    """Moments that are whole `step`s of the day (of the week from Monday, for a week)."""
    origin = datetime(start.year, start.month, start.day, tzinfo=UTC)
    if step >= timedelta(days=7):
        origin -= timedelta(days=origin.weekday())
    elif step > timedelta(days=1):
        origin -= timedelta(days=(origin - EPOCH).days % step.days)
    count = -((origin - start) // step)
    time = origin + step * count
    while time <= end:
        yield time
        time += step


def month_ticks(start: datetime, end: datetime, step: int) -> Iterable[datetime]:
    """First days of every `step`th month of the year, or of every `step` / 12th year."""
    month = (start.year * 12 + start.month - 1) // step * step
    while month < 9_999 * 12:
        time = datetime(month // 12 or 1, month % 12 + 1, 1, tzinfo=UTC)
        if time > end:
            return
        if time >= start:
            yield time
        month += step


def of_minute(time: datetime) -> str:
    return f"{time.hour:02d}:{time.minute:02d}" if time.hour or time.minute else of_day(time)


def of_day(time: datetime) -> str:
    return f"{time.day} {MONTHS[time.month - 1]}"


def of_month(time: datetime) -> str:
    return f"{MONTHS[time.month - 1]} {time.year}" if time.month == 1 else MONTHS[time.month - 1]


def of_year(time: datetime) -> str:
    return str(time.year)


def time_ticks(start: datetime, end: datetime, most: int = 9) -> list[tuple[datetime, str]]:
    """Round moments between `start` and `end` with their labels, which leave the year to January."""
    ways: list[tuple[Iterable[datetime], Callable[[datetime], str], timedelta]] = [
        *((clock_ticks(start, end, step), of_minute if step < timedelta(days=1) else of_day, step) for step in CLOCK),
        *((month_ticks(start, end, step), of_month, timedelta(days=30 * step)) for step in MONTHLY),
        *((month_ticks(start, end, 12 * step), of_year, timedelta(days=365 * step)) for step in YEARLY),
    ]
    for times, label, step in ways:
        if (end - start) / step > most:
            continue
        return [(time, label(time)) for time in times]
    return []
