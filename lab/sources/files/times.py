"""Columns of dates, times, numbers since 1970 or text → UTC; what a zone's clock does not say is never guessed."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta

import polars as pl

from lab.errors import UsageError
from lab.nouns import TIME
from lab.sources.rows import MILLISECONDS_END, SECONDS_END, moment

TIME_FORMATS = (
    "%Y-%m-%d",
    "%Y-%m-%d %H:%M:%S%.f",
    "%Y-%m-%dT%H:%M:%S%.f",
    "%Y-%m-%d %H:%M:%S%.f%#z",
    "%Y-%m-%dT%H:%M:%S%.f%#z",
    "%Y-%m-%d %H:%M",
    "%Y-%m-%dT%H:%M",
    "%Y/%m/%d",
    "%Y/%m/%d %H:%M",
    "%Y/%m/%d %H:%M:%S%.f",
    "%Y.%m.%d",
    "%Y.%m.%d %H:%M",
    "%Y.%m.%d %H:%M:%S%.f",
    "%Y%m%d %H%M%S",
)
# No market has data from August 1970 alone: whole numbers from 1800 to 2200 are dates such as 20260301.
DATES = (18_000_101, 22_001_231)
HOUR = timedelta(hours=1)


@dataclass(frozen=True)
class Clock:
    """How a file writes its times: the zone of those that name none, and their form where it is an unusual one."""

    zone: str = "UTC"
    form: str = ""

    def read(self, column: pl.Series, where: str) -> tuple[pl.Series, pl.Series]:
        """A column's times in UTC, null where a value is none; and why, where the zone's clock is to blame.

        A time that the clock skips or shows twice is null. A column without a single time is a UsageError, in which
        `where` names the file.
        """
        if isinstance(column.dtype, pl.Datetime) and column.dtype.time_zone:
            return column.dt.convert_time_zone("UTC").cast(TIME), _no_reason(column)
        if isinstance(column.dtype, pl.Date | pl.Datetime):
            return self._zoned(column.cast(pl.Datetime("us")))
        candidates = self._candidates(column)
        best = next(candidates, None)
        if best is None:
            raise UsageError(f"{column.name!r} of {where} holds {column.dtype}, not times", fix=_ANOTHER)
        for other in candidates:
            if best.null_count() == column.null_count():
                break
            best = min(best, other, key=pl.Series.null_count)
        if best.null_count() == best.len() > column.null_count():
            raise UsageError(
                f"{column.name!r} of {where} holds {column.drop_nulls()[0]!r}, which is no time that lab can read",
                fix="write times as 2026-03-01 00:05:00 or as whole numbers since 1970, name their time_format "
                f"in a --mapping, or {_ANOTHER}",
            )
        zoned = isinstance(best.dtype, pl.Datetime) and best.dtype.time_zone
        return (best, _no_reason(best)) if zoned else self._zoned(best)

    def closes(self, opened: pl.Series, length: timedelta) -> pl.Series:
        """When bars of `length` end: those of more than an hour by the zone's clock, the later time where it is two."""
        later = opened + length
        if self.zone == "UTC" or length <= HOUR:
            return later
        wall = opened.dt.convert_time_zone(self.zone).dt.replace_time_zone(None) + length
        ended = wall.dt.replace_time_zone(self.zone, ambiguous="latest", non_existent="null")
        return ended.dt.convert_time_zone("UTC").fill_null(later)

    def _candidates(self, column: pl.Series) -> Iterator[pl.Series]:
        """What the column may mean, the likeliest first; times without a zone as the clock on the wall showed them."""
        if column.dtype.is_numeric() and not self.form:
            yield _numbers(column)
        if column.dtype != pl.String:
            return
        text = column.str.strip_chars()
        if self.form:
            yield _parsed(text, self.form)
            return
        yield _numbers(text)
        yield from (_parsed(text, form) for form in TIME_FORMATS)

    def _zoned(self, wall: pl.Series) -> tuple[pl.Series, pl.Series]:
        times = wall.dt.replace_time_zone(self.zone, ambiguous="null", non_existent="null").dt.convert_time_zone("UTC")
        skipped = wall.is_not_null() & times.is_null()
        shown = wall.dt.strftime("%Y-%m-%d %H:%M:%S")
        reason = pl.format(f"{{}} comes twice or not at all in {self.zone}", pl.lit(shown))
        return times, pl.select(pl.when(pl.lit(skipped)).then(reason)).to_series()


_ANOTHER = "choose another column: --map time=COLUMN"


def _parsed(text: pl.Series, form: str) -> pl.Series:
    zone = "UTC" if "z" in form.replace("%%", "") else None
    try:
        return text.str.to_datetime(form, time_unit="us", time_zone=zone, strict=False)
    except pl.exceptions.PolarsError as wrong:
        raise UsageError(
            f"times cannot be read as {form!r}: {str(wrong).splitlines()[0]}",
            fix="write time_format as in %d.%m.%Y %H:%M",
        ) from None


def _numbers(column: pl.Series) -> pl.Series:
    """Numbers since 1970, each value's unit by its magnitude, or whole ones such as 20260301 as dates."""
    value = pl.lit(column.cast(pl.Float64, strict=False))
    # Nanoseconds have more digits than a Float64 keeps.
    integer = pl.lit(column.cast(pl.Int64, strict=False))
    whole = pl.select(pl.when(integer == value).then(integer)).to_series()
    if whole.null_count() < whole.len() and whole.drop_nulls().is_between(*DATES).all():
        return _parsed(whole.cast(pl.String), "%Y%m%d")
    scale = pl.when(value.abs() < SECONDS_END).then(1e6).when(value.abs() < MILLISECONDS_END).then(1e3).otherwise(1.0)
    decimal = (value * scale).round().cast(pl.Int64, strict=False).cast(TIME)
    return pl.select(pl.coalesce(moment(pl.lit(whole)), decimal)).to_series()


def _no_reason(column: pl.Series) -> pl.Series:
    return pl.Series([None], dtype=pl.String).new_from_index(0, column.len())
