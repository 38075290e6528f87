"""Rows as a market gives them → bars, and the rows that cannot be bars with the reason."""

import polars as pl

from lab.nouns import BAR_COLUMNS, OPTIONAL_COLUMNS, TIME, Bars, Calendar, fault

# From 1973 to 5138 a number of seconds, milliseconds, microseconds or nanoseconds shows its unit by its size.
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
) -> tuple[Bars, pl.DataFrame]:
    """The rows that are bars, and the others with their reason in `fault`; exact repeats of a row are dropped.

    `rows` has the columns of bars; others are kept with the rejected rows only. `suspect` is the source's own
    reason to refuse a row, as text, null where it has none. Of two rows for one time the first that can be
    a bar stays.
    """
    optional = [name for name in OPTIONAL_COLUMNS if name in rows.columns]
    typed = rows.unique(maintain_order=True).with_columns(
        pl.col(name).cast(dtype) for name, dtype in (*BAR_COLUMNS.items(), *((name, pl.Float64()) for name in optional))
    )
    # Judged one by one first, so that a row never loses its place to an impossible one for the same time.
    alone = typed.with_columns(
        symbol=pl.when(pl.col("symbol").is_not_null()).then(pl.int_range(pl.len()).cast(pl.String))
    )
    reasons = alone.select(
        fault=pl.coalesce(fault(typed.columns), pl.lit(None, pl.String) if suspect is None else suspect)
    )
    judged = typed.with_columns(reasons["fault"])
    possible = judged.filter(pl.col("fault").is_null()).sort("symbol", "time", maintain_order=True)
    possible = possible.with_columns(fault=fault(typed.columns))
    good = possible.filter(pl.col("fault").is_null()).select(*BAR_COLUMNS, *optional)
    rejected = pl.concat([judged.filter(pl.col("fault").is_not_null()), possible.filter(pl.col("fault").is_not_null())])
    return Bars.of(good, interval, calendar), rejected
