"""Any table that a person has as a file, read as one kind of market data."""

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import ClassVar

import polars as pl

from lab.errors import SourceError, UsageError
from lab.kinds import KINDS
from lab.nouns import INTERVALS, Bars, Calendar, Piece, Table, interval_length
from lab.sources import Request
from lab.sources.files.mapped_rows import MappedRows
from lab.sources.files.mapping import MappingFile, Reading, Stamp, chosen_columns, reading_of
from lab.sources.files.table_files import digest_of, is_large, table_of, unreadable
from lab.sources.rows import sift, sift_kind
from lab.sources.vendor import storable

SATURDAY = 6


@dataclass(frozen=True)
class Files:
    """Any CSV (plain, .zip, .gz) or Parquet file (--path), read as any kind of data by --map or --mapping.

    `--map time=Date` names a column that is called something unusual. `--mapping FILE.toml` says that and more: the
    zone of times, how sides and symbols are spelled, the levels of a book, units, when rows were known; EXAMPLE in
    lab/sources/mapping.py is one. Without a header the columns are called 1, 2, 3, ….

    A time without a zone is UTC, a whole number is seconds, ms, µs or ns since 1970 by its size. A time that its
    zone's clock skips or shows twice is a rejected row. `time_is` says whether a bar is stamped with its open or its
    close. The whole file is taken, whatever the span. Absent volumes and sizes are null, an absent side is 0. Funding,
    metrics, mood, news and actions are known from the moment of fetching on, unless the file or the mapping says
    when. In symbols, `-` stands for what no stored symbol has. How a file was read is kept with the data.
    """

    path: Path | None = None
    map: tuple[tuple[str, str], ...] = ()
    time_is: Stamp | None = None
    mapping: Path | None = None

    kinds: ClassVar[tuple[str, ...]] = tuple(KINDS)

    def count(self, request: Request) -> int:
        return len(request.symbols)

    def symbols(self, kind: str, interval: str) -> list[str]:
        """The symbols that the file has, in its own order."""
        file = self._opened(kind)
        if not file.names_symbols:
            raise UsageError(f"{file.path.name} has no column of symbols", fix="name one symbol for it")
        return list(file.symbols)

    def fetch(self, request: Request, done: Mapping[str, str]) -> Iterator[Piece]:
        length = interval_length(request.interval) if KINDS[request.kind].gridded else None
        file, now = self._opened(request.kind), datetime.now(UTC)
        missing = [symbol for symbol in request.symbols if file.origin(symbol) not in done]
        if not missing:
            return
        file.check(request.symbols)
        # One by one, the symbols of a large file take no more memory than the largest of them.
        groups = [(symbol,) for symbol in missing] if is_large(file.path) else [request.symbols]
        for group in groups:
            table = file.table_of(group)
            rows = MappedRows(file.reading, file.path.name, now, length).of(table)
            rows = rows.with_columns(file.symbols_of(table, group).alias("symbol"))
            calendar = _checked_calendar(file.path, rows, request.interval) if length else "continuous"
            for symbol in (each for each in group if each in missing):
                own = rows.filter(pl.col("symbol") == symbol)
                if symbol == next(iter(file.symbols), symbol):  # rows of no symbol are rejected with the first
                    own = pl.concat([own, rows.filter(pl.col("symbol").is_null())])
                yield _piece(file, symbol, request.interval, calendar, own)

    def _opened(self, kind: str) -> "_File":
        if self.path is None:
            raise UsageError("which file?", fix="add --path FILE")
        digest = digest_of(self.path)
        mapping = MappingFile.load(self.mapping) if self.mapping else MappingFile()
        chosen = chosen_columns(mapping, self.map)
        table = table_of(self.path, headed=not chosen or not all(name.isdigit() for name in chosen))
        names = table.collect_schema().names()
        reading = reading_of(kind, mapping, self.map, self.time_is, names, self.path.name)
        return _File(self.path, digest, table, reading)


@dataclass(frozen=True)
class _File:
    """A file, opened, and how it is read."""

    path: Path
    digest: str
    table: pl.LazyFrame
    reading: Reading

    def origin(self, symbol: str) -> str:
        """The same file read another way is another origin."""
        read_so = hashlib.sha256(f"{self.digest} {self.reading.text}".encode()).hexdigest()
        return f"{self.path.name} {symbol} {read_so[:16]}"

    @property
    def names_symbols(self) -> bool:
        return self.reading.symbol is not None or "symbol" in self.reading.columns

    @cached_property
    def symbols(self) -> dict[str, str]:
        """Our symbol → the file's, in its order; none where it names none. Two that become one are a SourceError."""
        if self.reading.symbol is not None:
            return {self.reading.symbol: self.reading.symbol}
        if not self.names_symbols:
            return {}
        column = pl.col(self.reading.columns["symbol"]).cast(pl.String).alias("symbol")
        held = self._collected(self.table.select(column).unique(maintain_order=True))["symbol"].drop_nulls()
        plain = pl.select(storable(pl.lit(held)).str.strip_chars_start("._-")).to_series()
        ours: dict[str, str] = {}
        for theirs, stored in zip(held, plain, strict=True):
            symbol = self.reading.symbols.get(theirs, stored)
            if symbol in ours:
                raise SourceError(
                    f"{ours[symbol]!r} and {theirs!r} of {self.path.name} would both be {symbol}",
                    fix=f'say in a --mapping: [values.symbol], then "{theirs}" = "ANOTHER"',
                )
            ours[symbol] = theirs
        return ours

    def check(self, symbols: tuple[str, ...]) -> None:
        """That the file can have each of these symbols."""
        if not self.names_symbols and len(symbols) != 1:
            raise UsageError(
                f"{self.path.name} has no column of symbols, so it cannot be {' and '.join(symbols)}",
                fix="name one symbol, or add --map symbol=COLUMN",
            )
        for symbol in symbols if self.names_symbols else ():
            if symbol not in self.symbols:
                held = ", ".join([*self.symbols][:30])
                raise UsageError(f"{self.path.name} has no rows of {symbol}", fix=f"ask for one of {held}")

    def table_of(self, symbols: Iterable[str]) -> pl.DataFrame:
        """The columns that are read of the rows of these symbols, and of those that name none."""
        columns = dict.fromkeys(name for theirs in self.reading.columns.values() for name in theirs)
        table = self.table
        if "symbol" in self.reading.columns:
            theirs = pl.col(self.reading.columns["symbol"]).cast(pl.String)
            table = table.filter(theirs.is_in([self.symbols[symbol] for symbol in symbols]) | theirs.is_null())
        return self._collected(table.select(*columns))

    def symbols_of(self, table: pl.DataFrame, symbols: tuple[str, ...]) -> pl.Series:
        """The symbol of each row: the file's own, as we write it, or the one that was asked for."""
        if "symbol" not in self.reading.columns:
            return pl.Series([symbols[0]]).new_from_index(0, table.height)
        ours = {theirs: symbol for symbol, theirs in self.symbols.items()}
        theirs = table[self.reading.columns["symbol"][0]].cast(pl.String)
        return theirs.replace_strict(ours, default=None, return_dtype=pl.String)

    def _collected(self, table: pl.LazyFrame) -> pl.DataFrame:
        try:
            return table.collect()
        except (pl.exceptions.PolarsError, OSError) as damage:
            raise unreadable(self.path, damage) from None


def _piece(file: _File, symbol: str, interval: str, calendar: Calendar, rows: pl.DataFrame) -> Piece:
    kind, wrong = KINDS[file.reading.kind], pl.col("wrong")
    table: Bars | Table
    if kind.name == "bars":
        table, rejected, repeats = sift(rows, interval, calendar, suspect=wrong)
    else:
        if not kind.key and not {"id", "uid"} & {*rows.columns}:
            rows = rows.with_row_index("line", offset=1)  # equal rows are two events, not repeats of one
        good, rejected, repeats = sift_kind(kind, rows, suspect=wrong)
        table = Table(kind.name, good, interval)
    # What stood in the way of a value says more than that it is missing.
    rejected = rejected.with_columns(fault=pl.coalesce("wrong", "fault")).drop("wrong")
    return Piece(symbol, file.origin(symbol), file.digest, table, rejected, repeats, reading=file.reading.text)


def _checked_calendar(path: Path, rows: pl.DataFrame, interval: str) -> Calendar:
    """When bars are due, by when there are some; rows that are mostly not an interval apart are a UsageError."""
    steps = rows.sort("symbol", "time").select(pl.col("time").diff().over("symbol").alias("step")).to_series()
    usual = steps.filter(steps > timedelta(0)).mode()
    if usual.len() and interval_length(interval) not in usual.to_list():
        fitting = [name for name, length in INTERVALS.items() if length == usual[0]]
        raise UsageError(
            f"the rows of {path.name} are mostly {usual[0]} apart, which is not {interval}",
            fix=f"ask for --interval {fitting[0]}" if fitting else f"the intervals are {', '.join(INTERVALS)}",
        )
    return _calendar(rows["time"] - interval_length(interval))


def _calendar(opened: pl.Series) -> Calendar:
    """Weekdays, when more than a week of bars has none that opens on a Saturday."""
    long_enough = opened.len() > 0 and opened.max() - opened.min() > timedelta(days=7)  # type: ignore[operator]
    return "weekdays" if long_enough and not (opened.dt.weekday() == SATURDAY).any() else "continuous"


files = Files()
