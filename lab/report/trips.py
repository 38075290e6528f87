"""Fills → round trips: from flat to flat, or to the other side."""

from dataclasses import dataclass
from datetime import timedelta

import polars as pl

# A position is flat when what is left of it is rounding: this share of the largest the symbol ever held.
ROUNDING = 1e-9


def positions(fills: pl.DataFrame) -> pl.DataFrame:
    """`fills` in time order with the symbol's units `before` and `after` each, rounding dust swept to zero."""
    after = pl.col("units").cum_sum().over("symbol")
    dust = ROUNDING * pl.col("after").abs().max().over("symbol")
    return (
        fills.sort("symbol", "time", maintain_order=True)
        .with_columns(after=after)
        .with_columns(after=pl.when(pl.col("after").abs() <= dust).then(0.0).otherwise(pl.col("after")))
        .with_columns(before=pl.col("after").shift(1).over("symbol").fill_null(0.0))
    )


def round_trips(fills: pl.DataFrame) -> pl.DataFrame:
    """One row per trip: symbol, side, opened, closed, profit after fees, and `gain`: profit over the most ever held.

    A fill that crosses zero ends one trip and begins the next, its fee shared by size. `closed` and `gain` are null
    while the position is still open, `profit` too.
    """
    crosses = pl.col("before") * pl.col("after") < 0
    rows = positions(fills).with_row_index("place")
    ending = rows.with_columns(
        part=pl.lit(0),
        change=pl.when(crosses).then(-pl.col("before")).otherwise(pl.col("after") - pl.col("before")),
        held=pl.when(crosses).then(0.0).otherwise(pl.col("after")),
        opens=pl.col("before") == 0,
    )
    beginning = rows.filter(crosses).with_columns(
        part=pl.lit(1), change=pl.col("after"), held=pl.col("after"), opens=pl.lit(True)
    )
    whole = (pl.col("after") - pl.col("before")).abs()
    return (
        pl.concat([ending, beginning])
        .sort("place", "part")
        .with_columns(
            trip=pl.col("opens").cum_sum(),
            cash=-pl.col("change") * pl.col("price")
            - pl.col("fee") * pl.when(whole > 0).then(pl.col("change").abs() / whole).otherwise(1.0),
            amount=pl.col("held").abs() * pl.col("price"),
        )
        .group_by("trip", maintain_order=True)
        .agg(
            symbol=pl.col("symbol").first(),
            side=pl.when(pl.col("change").first() > 0).then(pl.lit("long")).otherwise(pl.lit("short")),
            opened=pl.col("time").first(),
            closed=pl.when(pl.col("held").last() == 0).then(pl.col("time").last()),
            profit=pl.when(pl.col("held").last() == 0).then(pl.col("cash").sum()),
            most=pl.col("amount").max(),
        )
        .with_columns(gain=pl.col("profit") / pl.col("most"))
        .drop("trip", "most")
    )


@dataclass(frozen=True)
class Tally:
    """Closed round trips of one kind. Gains are after fees, as a share of the most ever held; None without trips."""

    kind: str
    trips: int
    won: float | None
    mean: float | None
    median: float | None
    best: float | None
    worst: float | None
    holding: timedelta | None


def tally(kind: str, trips: pl.DataFrame) -> Tally:
    """Count and sum up the closed ones of `trips`."""
    done = trips.filter(pl.col("closed").is_not_null())
    if done.is_empty():
        return Tally(kind, 0, None, None, None, None, None, None)
    row = done.select(
        won=(pl.col("gain") > 0).mean(),
        mean=pl.col("gain").mean(),
        median=pl.col("gain").median(),
        best=pl.col("gain").max(),
        worst=pl.col("gain").min(),
        holding=(pl.col("closed") - pl.col("opened")).mean(),
    )
    return Tally(kind, done.height, **row.row(0, named=True))


def tallies(trips: pl.DataFrame, most: int = 20) -> list[Tally]:
    """All trips, then long and short, then the `most` busiest symbols where there are several."""
    found = [tally("All", trips)]
    found += [tally(side.capitalize(), trips.filter(pl.col("side") == side)) for side in ("long", "short")]
    symbols = trips.group_by("symbol").len().sort(["len", "symbol"], descending=[True, False])["symbol"]
    if len(symbols) > 1:
        found += [tally(symbol, trips.filter(pl.col("symbol") == symbol)) for symbol in symbols.head(most)]
    return found
