"""Rows as a market gives them → rows of one kind of data, and those that cannot be, with the reason."""

import polars as pl

from lab.kinds import BARS, Kind
from lab.nouns import TIME, Bars, Calendar

# From 1973 to 5138 a number of seconds, milliseconds, microseconds or nanoseconds shows its unit by its size.
SECOND = "a second row for the same symbol and time"
SECONDS_END, MILLISECONDS_END, MICROSECONDS_END = 10**11, 10**14, 10**17


def moment(epoch: pl.Expr) -> pl.Expr:
    """Whole numbers since 1970 as UTC times; each value's unit by its magnitude."""
    size = epoch.abs()
    microseconds = (
        pl.when(size < SECONDS_END)
        .then(epoch * 1_000_000)
        .when(size < MILLISECONDS_END)
        .then(epoch * 1_000)
        .when(size < MICROSECONDS_END)
        .then(epoch)
        .otherwise(epoch // 1_000)
    )
    return microseconds.cast(TIME)


def sift(
    rows: pl.DataFrame, interval: str, calendar: Calendar, *, suspect: pl.Expr | None = None
) -> tuple[Bars, pl.DataFrame, int]:
    """The rows that are bars, the others with their reason in `fault`, and how many exact repeats were dropped.

    `rows` has the columns of bars; others are kept with the rejected rows only. `suspect` is the source's own
    reason to refuse a row, as text, null where it has none. Of two rows for one time the first that can be
    a bar stays.
    """
    good, rejected, repeats = sift_kind(BARS, rows, suspect=suspect)
    return Bars(good, interval, calendar), rejected, repeats


def sift_kind(
    kind: Kind, rows: pl.DataFrame, *, suspect: pl.Expr | None = None
) -> tuple[pl.DataFrame, pl.DataFrame, int]:
    """The same for any kind: its rows, sorted by symbol and time, the rejected ones, and the number of repeats.

    Rows of one time keep their order. Of rows that agree in the kind's key, or else in the `id` or `uid` that their
    market gave them, the first stays, and exact repeats are dropped. Events without either are all kept, equal or not.
    """
    schema = kind.schema(rows.columns)
    typed = rows.with_columns(pl.col(name).cast(dtype, strict=False) for name, dtype in schema.items())
    ids = [] if kind.key else [name for name in ("id", "uid") if name in schema]
    identity = ["symbol", *(kind.key or ["time", *ids])]
    named = (
        pl.lit(True) if kind.key else pl.any_horizontal(pl.lit(False), *(pl.col(name).is_not_null() for name in ids))
    )
    reason = kind.fault(typed.columns)
    if suspect is not None:
        reason = pl.coalesce(reason, suspect)
    judged = typed.with_columns(fault=reason)
    if _as_it_should_be(judged, identity, distinct=bool(kind.key or ids)):
        return judged.select(*schema), judged.clear(), 0
    # Judged one by one first, so that a row never loses its place to an impossible one for the same time.
    alone = typed.with_columns(
        symbol=pl.when(pl.col("symbol").is_not_null()).then(pl.int_range(pl.len()).cast(pl.String))
    )
    judged = typed.with_columns(alone.select(fault=reason))
    # What cannot be read looks alike, so only of sound rows is a copy a repeat.
    judged = judged.filter(~named | pl.col("fault").is_not_null() | pl.struct(pl.all()).is_first_distinct())
    possible = judged.filter(pl.col("fault").is_null()).sort("symbol", "time", maintain_order=True)
    second = named & ~pl.struct(identity).is_first_distinct()
    possible = possible.with_columns(fault=pl.when(second).then(pl.lit(SECOND)))
    good = possible.filter(pl.col("fault").is_null()).select(*schema)
    rejected = pl.concat([judged.filter(pl.col("fault").is_not_null()), possible.filter(pl.col("fault").is_not_null())])
    return good, rejected, typed.height - judged.height


def _as_it_should_be(judged: pl.DataFrame, order: list[str], *, distinct: bool) -> bool:
    """Whether no row has a fault and all of them stand in `order`, as markets mostly publish them."""
    if judged.height < 2:
        return judged["fault"].null_count() == judged.height
    if judged["fault"].null_count() < judged.height or judged["symbol"].n_unique() > 1:
        return False
    if any(judged[name].null_count() for name in order):
        return False
    if "uid" in order and "id" not in order:  # names say nothing about order
        return judged["time"].is_sorted() and not judged["uid"].is_duplicated().any()
    before, after = judged[:-1], judged[1:]
    if distinct:
        last = order[-1]
        return bool((after["time"] >= before["time"]).all() and (after[last] > before[last]).all())
    return judged["time"].is_sorted()
