"""Time → (train, test) pairs that cannot overlap a label."""

import re
from datetime import datetime, timedelta

import polars as pl

from lab.errors import NotEnoughHistory, UsageError
from lab.nouns import MICROSECOND, Fold, Span

UNITS = {"m": timedelta(minutes=1), "h": timedelta(hours=1), "d": timedelta(days=1)}


def duration(text: str) -> timedelta:
    """A length of time as a person writes it: `90m`, `12h`, `20d`."""
    match = re.fullmatch(r"(\d{1,6})([mhd])", text.strip())
    if not match:
        raise UsageError(f"{text!r} is not a length of time", fix="write it like 90m, 12h or 20d")
    return int(match[1]) * UNITS[match[2]]


def written(length: timedelta) -> str:
    """A length of whole minutes in the largest unit that it is a whole number of: `1440m` is `1d`."""
    unit = next(unit for unit in ("d", "h", "m") if not length % UNITS[unit])
    return f"{length // UNITS[unit]}{unit}"


def walk_forward(
    times: pl.Series, *, train: timedelta, test: timedelta, horizon: int, embargo: timedelta, expanding: bool
) -> list[Fold]:
    """Folds whose tests tile the span of `times`, each trained on what was settled before its test began.

    times: the distinct closes of all bars, ascending. Training ends `horizon` bars and then `embargo` before the
    test starts, so no training label can settle inside the test; it lasts `train`, or from the very first bar
    where `expanding`. The last test may be shorter. Too little history is NotEnoughHistory with what is missing.
    """
    if train <= timedelta(0) or test <= timedelta(0):
        raise UsageError(f"train is {train} and test is {test}", fix="give both a length above zero")
    folds: list[Fold] = []
    rows = times.len()
    # The first test starts where a full training stretch, the label's horizon and the embargo have passed.
    settled = _row_at_or_after(times, times[0] + train) + horizon if rows else 0
    start = _row_at_or_after(times, times[settled] + embargo) if settled < rows else rows
    if start >= rows:
        raise _too_short(times, train=train, test=test, horizon=horizon, embargo=embargo)
    while start < rows:
        end = _row_at_or_after(times, times[start] + test)
        last = _row_at_or_after(times, times[start] - embargo) - horizon
        # Counted from the last bar to learn from: the next one may lie behind a gap as long as `train`.
        first = 0 if expanding else _row_at_or_after(times, times[last - 1] + MICROSECOND - train)
        stop = times[end] if end < rows else times[-1] + MICROSECOND
        folds.append(Fold(len(folds), Span(times[first], times[last]), Span(times[start], stop)))
        start = end
    return folds


def training_rows(fold: Fold) -> pl.Expr:
    """Which rows (with `time` and `settled_at`) a fold may learn from: inside train, and settled before the test."""
    return fold.train.covers(pl.col("time")) & (pl.col("settled_at") < fold.test.start)


def test_rows(fold: Fold) -> pl.Expr:
    """Which rows a fold is judged on, settled or not: a decision is made either way."""
    return fold.test.covers(pl.col("time"))


def _row_at_or_after(times: pl.Series, moment: datetime) -> int:
    return times.search_sorted(moment, side="left")


def _too_short(
    times: pl.Series, *, train: timedelta, test: timedelta, horizon: int, embargo: timedelta
) -> NotEnoughHistory:
    have = (
        f"{times.len()} bars from {times[0]:%Y-%m-%d %H:%M} to {times[-1]:%Y-%m-%d %H:%M}" if times.len() else "no bars"
    )
    return NotEnoughHistory(
        f"there are {have}; one fold needs {written(train)} to train, {horizon} bars to settle, "
        f"{written(embargo)} of embargo and at least one bar to test",
        fix="fetch a longer history (lab fetch … --start earlier), or shorten `train`",
    )
