"""Kraken's downloadable history: headerless CSVs of bars or trades, alone or in the quarterly zips.

Where they are linked from: https://support.kraken.com/hc/en-us/articles/360047124832
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import ClassVar

import polars as pl

from lab.errors import UsageError
from lab.nouns import INTERVALS, MICROSECOND, TIME, Piece, Span, interval_length
from lab.sources import Request, next_month
from lab.sources.rows import moment, sift
from lab.sources.vendor import FINE, VendorFile, begun, cut, given, microseconds, piece_of, stray

MINUTES = (1, 5, 15, 30, 60, 240, 720, 1440)  # of the bars that Kraken publishes
MONTHS_AT_MOST = 1200
BAR: Mapping[str, pl.DataType] = {
    "seconds": pl.Int64(),
    **dict.fromkeys(("open", "high", "low", "close", "volume", "trades"), pl.Float64()),
}
TRADE: Mapping[str, pl.DataType] = {"seconds": pl.String(), "price": pl.Float64(), "size": pl.Float64()}


@dataclass(frozen=True)
class Kraken:
    """Kraken's history files (--path a CSV or a quarterly zip): bars, and trades without their side.

    Symbols are written as in the files' names, where bitcoin is XBT: XBTUSD. Of a zip the one member named for the
    symbol, and of bars the interval, is read. Kraken writes no bar for an interval without trades, so those are
    gaps. Trades come as a piece a month; they have no numbers, so equal ones are no repeats.
    """

    path: Path | None = None

    kinds: ClassVar[tuple[str, ...]] = ("bars", "trades")

    def count(self, request: Request) -> int:
        return len(request.symbols)

    def fetch(self, request: Request, done: Mapping[str, str]) -> Iterator[Piece]:
        bars = request.of_kind(*self.kinds) == "bars"
        whole = given(self.path)
        for symbol in request.symbols:
            name = f"{symbol}_{_minutes(request.interval)}.csv" if bars else f"{symbol}.csv"
            file = replace(whole, member=name) if whole.is_zip else whole
            if file.member is None and file.name != name:
                raise UsageError(f"{file.name} is not named {name}", fix=f"ask for what it holds, or rename it {name}")
            origin = f"{whole.name} {name} {whole.digest[:16]}"
            if bars and origin not in done:
                yield _bars(file, origin, whole.digest, symbol, request.interval)
            elif not bars:
                yield from _trades(file, origin, whole.digest, symbol, done)


def _minutes(interval: str) -> int:
    minutes = interval_length(interval) // timedelta(minutes=1)
    if minutes not in MINUTES:
        published = [name for name, length in INTERVALS.items() if length // timedelta(minutes=1) in MINUTES]
        raise UsageError(f"Kraken publishes no {interval} bars", fix=f"choose one of {', '.join(published)}")
    return minutes


def _frames(file: VendorFile, columns: Mapping[str, pl.DataType]) -> Iterator[pl.DataFrame]:
    first = file.header()
    if first and (len(first) != len(columns) or not re.fullmatch(r"\d{1,11}(\.\d*)?", first[0])):
        file.refuse(f"it begins with {','.join(first)[:80]!r}, not with {', '.join(columns)}")
    return file.frames([*columns], columns)


def _bars(file: VendorFile, origin: str, digest: str, symbol: str, interval: str) -> Piece:
    length = interval_length(interval)
    blocks = [frame.drop("line") for frame in _frames(file, BAR)]
    if not blocks:
        return Piece(symbol, origin, digest, None)
    rows = pl.concat(blocks).with_columns(symbol=pl.lit(symbol), time=moment(pl.col("seconds")) + length)
    off_grid = pl.col("time").dt.epoch("us") % (length // MICROSECOND) != 0
    suspect = pl.when(off_grid).then(pl.lit(f"not on the grid of {interval} bars"))
    bars, rejected, repeats = sift(rows, interval, "continuous", suspect=suspect)
    return Piece(symbol, origin, digest, bars, rejected, repeats)


def _trades(file: VendorFile, origin: str, digest: str, symbol: str, done: Mapping[str, str]) -> Iterator[Piece]:
    time = microseconds(pl.col("seconds")).cast(TIME)
    unknown = pl.lit(0, pl.Int8)
    trades = (frame.select("line", "price", "size", FINE, time=time, side=unknown) for frame in _frames(file, TRADE))
    first, frames = begun(trades, "time")
    if first is None:
        raise UsageError(f"{file.name} has no trades", fix="check --path")
    for month, rows in cut(frames, _months(first), "time"):
        name = f"{origin} {month.start:%Y-%m}"
        if name not in done:
            suspect = pl.coalesce("wrong", stray(month))
            yield piece_of("trades", symbol, name, digest, rows, suspect=suspect)


def _months(first: datetime) -> Iterator[Span]:
    """The month that holds `first` and those after it: more of them than any file has."""
    start = first.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    for _ in range(MONTHS_AT_MOST):
        yield Span(start, next_month(start))
        start = next_month(start)


kraken = Kraken()
