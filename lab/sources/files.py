"""Any CSV (plain, .zip, .gz) or Parquet file with one bar per row."""

import hashlib
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from datetime import timedelta
from io import BytesIO
from pathlib import Path
from typing import Literal
from zipfile import BadZipFile, ZipFile

import polars as pl

from lab.errors import SourceError, UsageError
from lab.nouns import INTERVALS, OPTIONAL_COLUMNS, PRICES, TIME, Calendar, Piece, interval_length
from lab.sources import Request
from lab.sources.rows import moment, sift

# What each column of bars is usually called; capitals and spaces do not matter.
USUAL_NAMES = {
    "symbol": ("symbol", "ticker"),
    "time": ("time", "open_time", "timestamp", "datetime", "date", "date_time", "gmt_time", ""),
    "open": ("open", "o"),
    "high": ("high", "h"),
    "low": ("low", "l"),
    "close": ("close", "c"),
    "volume": ("volume", "vol", "v"),
    "buy_volume": ("buy_volume", "taker_buy_volume", "taker_buy_base_asset_volume"),
    "quote_volume": ("quote_volume", "quote_asset_volume"),
    "trades": ("trades", "count", "number_of_trades"),
}
NUMBERS = (*PRICES, "volume", *OPTIONAL_COLUMNS)
NEEDED = ("time", *PRICES)
TIME_FORMATS = (
    "%Y-%m-%d",
    "%Y-%m-%d %H:%M:%S%.f",
    "%Y-%m-%dT%H:%M:%S%.f",
    "%Y-%m-%d %H:%M:%S%.f%#z",
    "%Y-%m-%dT%H:%M:%S%.f%#z",
    "%Y-%m-%d %H:%M",
    "%Y-%m-%dT%H:%M",
    "%Y/%m/%d",
    "%Y/%m/%d %H:%M:%S%.f",
    "%Y%m%d",
    "%Y%m%d %H%M%S",
)
SATURDAY = 6


@dataclass(frozen=True)
class Files:
    """One CSV, zipped CSV or Parquet file (--path), a bar per row; --map names its columns where they are unusual.

    Without a header the columns are called 1, 2, 3, …. A time without a zone is UTC; a whole number is seconds, ms,
    µs or ns since 1970 by its size. `time_is` says whether a row is stamped with its open or its close.
    The whole file is taken, whatever the span. A volume that is absent is null.
    """

    path: Path | None = None
    map: tuple[tuple[str, str], ...] = ()
    time_is: Literal["open", "close"] = "open"

    def count(self, request: Request) -> int:
        return len(request.symbols)

    def fetch(self, request: Request, done: Collection[str]) -> Iterator[Piece]:
        interval_length(request.interval)
        if self.path is None:
            raise UsageError("which file?", fix="add --path FILE")
        data = _bytes_of(self.path)
        # The same file read another way is another origin.
        reading = hashlib.sha256(data + repr((self.map, self.time_is)).encode()).hexdigest()[:16]
        origins = {symbol: f"{self.path.name} {symbol} {reading}" for symbol in request.symbols}
        missing = [symbol for symbol in request.symbols if origins[symbol] not in done]
        if not missing:
            return
        rows = self._rows(self.path, data, request)
        _check_spacing(self.path, rows, request.interval)
        calendar = _calendar(rows["time"] - interval_length(request.interval))
        for symbol in missing:
            bars, rejected = sift(rows.filter(pl.col("symbol") == symbol), request.interval, calendar)
            yield Piece(symbol, origins[symbol], hashlib.sha256(data).hexdigest(), bars, rejected)

    def _rows(self, path: Path, data: bytes, request: Request) -> pl.DataFrame:
        """The file's rows of the requested symbols, with the columns of bars; null where a value cannot be read."""
        numbered = bool(self.map) and all(column.isdigit() for _, column in self.map)
        table = _table(path, data, headed=not numbered)
        columns = _columns(path, table, dict(self.map))
        numbers = [
            pl.col(columns[name]).cast(pl.Float64, strict=False).alias(name) for name in columns if name in NUMBERS
        ]
        rows = table.select(*numbers, time=_times(path, table[columns["time"]]))
        if "volume" not in columns:
            rows = rows.with_columns(volume=pl.lit(None, pl.Float64))
        if self.time_is == "open":
            rows = rows.with_columns(pl.col("time") + interval_length(request.interval))
        return rows.with_columns(symbol=_symbols(path, table, columns, request.symbols))


def _bytes_of(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as refused:
        raise UsageError(f"{path} cannot be read: {refused.strerror}", fix="check --path") from None


def _table(path: Path, data: bytes, *, headed: bool) -> pl.DataFrame:
    """The file as it is: Parquet with its own types, CSV as text."""
    try:
        if data.startswith(b"PAR1"):
            return pl.read_parquet(BytesIO(data))
        if data.startswith(b"PK"):
            data = _only_member(path, data)
        table = pl.read_csv(BytesIO(data), has_header=headed, infer_schema=False)  # knows gzip by itself
    except (pl.exceptions.PolarsError, BadZipFile) as damage:
        raise SourceError(
            f"{path} cannot be read: {str(damage).splitlines()[0]}", fix="give a CSV, a zipped CSV or a Parquet file"
        ) from None
    return table if headed else table.rename({name: str(n) for n, name in enumerate(table.columns, start=1)})


def _only_member(path: Path, data: bytes) -> bytes:
    with ZipFile(BytesIO(data)) as file:
        names = file.namelist()
        if len(names) != 1:
            raise SourceError(f"{path} holds {len(names)} files", fix="unpack it and give one of them to --path")
        return file.read(names[0])


def _columns(path: Path, table: pl.DataFrame, chosen: dict[str, str]) -> dict[str, str]:
    """Our name → the file's; what was chosen goes before the usual names."""
    known = {name.strip().lower().replace(" ", "_"): name for name in table.columns}
    usual = {ours: [known[name] for name in names if name in known] for ours, names in USUAL_NAMES.items()}
    columns = {ours: names[0] for ours, names in usual.items() if names} | chosen
    has = f"{path.name} has the columns {', '.join(map(repr, table.columns))}"
    for ours, theirs in chosen.items():
        if ours not in USUAL_NAMES:
            raise UsageError(f"bars have no column {ours!r}", fix=f"map one of {', '.join(USUAL_NAMES)}")
        if theirs not in table.columns:
            raise UsageError(f"there is no column {theirs!r}: {has}", fix=f"choose one of them for --map {ours}=COLUMN")
    if missing := [ours for ours in NEEDED if ours not in columns]:
        raise UsageError(
            f"no column is known to be {', '.join(missing)}: {has}",
            fix=f"add --map {missing[0]}=COLUMN; without a header, call the columns 1, 2, 3, … and map all you need",
        )
    return columns


def _times(path: Path, column: pl.Series) -> pl.Series:
    """A column of dates, times, numbers since 1970 or text as UTC; null where a value is none of them."""
    if column.dtype == pl.String:
        return _times_of_text(path, column)
    if column.dtype.is_numeric():
        return pl.select(moment(pl.lit(column).cast(pl.Int64, strict=False))).to_series()
    if isinstance(column.dtype, pl.Datetime) and column.dtype.time_zone:
        return column.dt.convert_time_zone("UTC").cast(TIME)
    if isinstance(column.dtype, pl.Date | pl.Datetime):
        return column.cast(pl.Datetime("us")).dt.replace_time_zone("UTC")
    raise UsageError(f"{column.name!r} of {path.name} holds {column.dtype}, not times", fix="choose --map time=COLUMN")


def _times_of_text(path: Path, column: pl.Series) -> pl.Series:
    filled = column.drop_nulls()
    if filled.len() and filled.str.len_bytes().min() != len("20260301"):  # a date, not seconds since 1970
        numbers = column.cast(pl.Float64, strict=False)
        if numbers.is_not_null().any():
            return _times(path, numbers)
    parsed = [column.str.to_datetime(form, time_unit="us", time_zone="UTC", strict=False) for form in TIME_FORMATS]
    best = min(parsed, key=lambda times: times.null_count())
    if filled.len() and best.null_count() == best.len():
        raise UsageError(
            f"{column.name!r} of {path.name} holds {filled[0]!r}, which is no time that lab can read",
            fix="write times as 2026-03-01 00:05:00 or as whole numbers since 1970, or choose --map time=COLUMN",
        )
    return best


def _symbols(path: Path, table: pl.DataFrame, columns: dict[str, str], symbols: tuple[str, ...]) -> pl.Series:
    """The symbol of each row: the file's own, or the one that was asked for."""
    if "symbol" not in columns:
        if len(symbols) != 1:
            raise UsageError(
                f"{path.name} has no column of symbols, so it cannot be {' and '.join(symbols)}",
                fix="name one symbol, or add --map symbol=COLUMN",
            )
        return pl.Series("symbol", [symbols[0]]).new_from_index(0, table.height)
    own = table[columns["symbol"]].cast(pl.String)
    held = own.unique(maintain_order=True).drop_nulls().to_list()
    for symbol in symbols:
        if symbol not in held:
            raise UsageError(f"{path.name} has no rows of {symbol}", fix=f"ask for one of {', '.join(held[:30])}")
    return own


def _check_spacing(path: Path, rows: pl.DataFrame, interval: str) -> None:
    steps = rows.sort("symbol", "time").select(pl.col("time").diff().over("symbol").alias("step")).to_series()
    usual = steps.filter(steps > timedelta(0)).mode()
    if usual.len() and interval_length(interval) not in usual.to_list():
        fitting = [name for name, length in INTERVALS.items() if length == usual[0]]
        raise UsageError(
            f"the rows of {path.name} are mostly {usual[0]} apart, which is not {interval}",
            fix=f"ask for --interval {fitting[0]}" if fitting else f"the intervals are {', '.join(INTERVALS)}",
        )


def _calendar(opened: pl.Series) -> Calendar:
    """Weekdays, when more than a week of bars has none that opens on a Saturday."""
    long_enough = opened.len() > 0 and opened.max() - opened.min() > timedelta(days=7)  # type: ignore[operator]
    return "weekdays" if long_enough and not (opened.dt.weekday() == SATURDAY).any() else "continuous"


files = Files()
