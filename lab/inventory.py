"""The gap ledger of what is stored: bars, rejected rows and what the sources did not have, put together."""

import re
from collections.abc import Collection, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl

from lab import gaps, store
from lab.gaps import LEDGER, Market
from lab.nouns import TIME
from lab.sources import next_month
from lab.store import Holding, TableName

PERIOD = re.compile(r"(\d{4})-(\d{2})(?:-(\d{2}))?(?!.*\d{4}-\d{2})")  # the last date in the name of an object


def survey(root: Path, symbols: Collection[str] = ()) -> tuple[pl.DataFrame, list[dict[str, object]]]:
    """Every gap and halt in the stored bars of these symbols, or of all, and what the bars look like.

    Columns and reasons are those of lab/gaps.py. All symbols of a source are looked at, one after the other, whoever
    was asked for: what most of them lack is the exchange's.
    """
    held = [each for each in store.tables(root) if each.kind == "bars"]
    ledgers, qualities = [pl.DataFrame(schema=LEDGER)], []
    for source, interval in sorted({(each.source, each.interval) for each in held}):
        own = [each for each in held if (each.source, each.interval) == (source, interval)]
        if symbols and not {each.symbol for each in own} & set(symbols):
            continue
        seen = []
        for each in own:
            bars = store.read_bars(root, source, [each.symbol], interval)
            seen.append(gaps.look(bars))
            qualities.append({"source": source, **gaps.quality(bars)})
        ledgers.append(gaps.ledger(Market(source, seen, _rejected(root, own), _absent(root, own))))
    every = pl.concat(ledgers)
    if not symbols:
        return every, qualities
    wanted = every.filter(pl.col("symbol").is_in(list(symbols)))
    return wanted, [each for each in qualities if each["symbol"] in symbols]


def id_holes(root: Path, symbols: Collection[str] = ()) -> list[dict[str, object]]:
    """Where the numbers of stored trades are not contiguous: source, symbol, the times around it, numbers missing."""
    found: list[dict[str, object]] = []
    for held in store.tables(root):
        if held.kind == "trades" and (not symbols or held.symbol in symbols):
            holes = gaps.id_holes(store.batches(_name(root, held)))
            found += [{"source": held.source, "symbol": held.symbol, **hole} for hole in holes.to_dicts()]
    return found


def _name(root: Path, held: Holding) -> TableName:
    return TableName(root, held.source, held.symbol, held.interval, held.kind)


def _rejected(root: Path, held: Sequence[Holding]) -> pl.DataFrame:
    empty = pl.DataFrame(schema={"symbol": pl.String(), "time": TIME})
    frames = [empty]
    for each in held:
        for rows in store.rejected(_name(root, each)):
            if "time" in rows.columns:
                frames.append(rows.select(pl.lit(each.symbol).alias("symbol"), pl.col("time").cast(TIME)))
    return pl.concat(frames)


def _absent(root: Path, held: Sequence[Holding]) -> list[tuple[str, datetime, datetime]]:
    periods = []
    for each in held:
        _, absent = store.origins(_name(root, each))
        periods += [(each.symbol, *period) for origin in absent if (period := _period(origin))]
    return periods


def _period(origin: str) -> tuple[datetime, datetime] | None:
    named = PERIOD.search(origin)
    if named is None:
        return None
    year, month, day = (int(part) if part else None for part in named.groups())
    assert year is not None and month is not None
    start = datetime(year, month, day or 1, tzinfo=UTC)
    return start, start + timedelta(days=1) if day else next_month(start)
