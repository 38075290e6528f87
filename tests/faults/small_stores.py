"""Small stores whose every row is known, and what a store says it holds."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl

from lab import store
from lab.nouns import Bars, Piece, Span, Table
from lab.store import manifests, parts
from tests.archive import utc

MINUTE = timedelta(minutes=1)
MONTHS = (utc(2026, 2, 1), utc(2026, 3, 1), utc(2026, 4, 1))


def bars(symbol: str, first_close: datetime, count: int, stamp: float = 1.0, **more: float) -> Bars:
    """Bars a minute apart, all closing at `stamp`."""
    times = [first_close + n * MINUTE for n in range(count)]
    values = {name: [stamp] * count for name in ("open", "high", "low", "close", "volume")}
    frame = pl.DataFrame({"symbol": [symbol] * count, "time": times, **values})
    return Bars.of(frame.with_columns(pl.lit(value).alias(name) for name, value in more.items()), "1m")


def trades(symbol: str, first: datetime, count: int, stamp: float = 1.0) -> Table:
    """Trades a second apart, all at the price `stamp`."""
    frame = pl.DataFrame(
        {
            "symbol": [symbol] * count,
            "time": pl.Series([first + n * timedelta(seconds=1) for n in range(count)]).cast(pl.Datetime("us", "UTC")),
            "price": [stamp] * count,
            "size": np.arange(1.0, count + 1),
            "side": pl.Series([1] * count, dtype=pl.Int8),
        }
    )
    return Table("trades", frame)


def bars_piece(symbol: str, first_close: datetime, count: int, stamp: float = 1.0, **more: float) -> Piece:
    origin = f"bars of {first_close}"
    return Piece(symbol, origin, f"{stamp}", bars(symbol, first_close, count, stamp, **more))


def trades_piece(symbol: str, first: datetime, count: int, stamp: float = 1.0) -> Piece:
    """A complete day of trades."""
    day = first.replace(hour=0, minute=0, second=0, microsecond=0)
    table = trades(symbol, first, count, stamp)
    return Piece(symbol, f"trades of {day}", f"{stamp}", table, span=Span(day, day + timedelta(days=1)))


def with_rejects(piece: Piece, count: int) -> Piece:
    rejected = pl.DataFrame({"close": [-1.0] * count, "fault": ["a price is zero or below"] * count})
    return Piece(piece.symbol, piece.origin, piece.digest, piece.table, rejected, span=piece.span)


def bars_name(root: Path, symbol: str = "A") -> store.TableName:
    return store.TableName(root, "here", symbol, "1m")


def trades_name(root: Path, symbol: str = "A") -> store.TableName:
    return store.TableName(root, "here", symbol, "events", "trades")


@dataclass(frozen=True)
class Contents:
    """All that a person can read of a store: rows and rejected rows of each table, and what counts as done."""

    rows: Mapping[str, list[tuple[object, ...]]]
    rejected: Mapping[str, int]
    done: Mapping[str, Mapping[str, str]]


def contents(root: Path) -> Contents:
    """Read from the disk as a process that has just started does; raises where anything is damaged."""
    forget()
    names = [name for name in store.layout.table_names(root) if store.holding(name)]
    return Contents(
        {name.key: store.read(name).rows() for name in names},
        {name.key: sum(frame.height for frame in store.rejected(name)) for name in names},
        {name.key: store.done(name) for name in names},
    )


def forget() -> None:
    """Nothing that this process has checked before counts any more."""
    parts._trusted.clear()
    manifests._read.cache_clear()


def live_by_glob(root: Path) -> dict[str, list[tuple[object, ...]]]:
    """The rows that a tool finds which knows nothing of manifests, by table, in time order."""
    found: dict[str, list[tuple[object, ...]]] = {}
    for folder in sorted(root.glob("kind=*/source=*/symbol=*/interval=*")):
        frames = [pl.read_parquet(path, glob=False) for path in folder.glob("month=*/*.parquet")]
        if frames:
            rows = pl.concat(frames, how="diagonal").sort("time", maintain_order=True)
            found[folder.relative_to(root).as_posix()] = rows.rows()
    return found


def files_below(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


def sweep_all(root: Path, older_than: timedelta = store.KEPT_FOR) -> int:
    return sum(store.sweep(name, older_than) for name in store.layout.table_names(root))
