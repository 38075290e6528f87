"""Tables ⇄ partitioned Parquet: immutable files named by their SHA-256, and one numbered manifest that counts.

    kind=bars/source=binance/symbol=BTCUSDT/interval=1m/month=2026-03/<sha256>.parquet
    kind=bars/source=binance/symbol=BTCUSDT/interval=1m/_log/000007.json      which of them are live
    quarantine/source=binance/symbol=BTCUSDT/interval=1m/<sha256>.parquet     rows that could not be bars

Writers of a table take turns; readers take no lock and see one whole version. A month holds the bars that
opened in it, so that a month of an exchange's archive is one file. `symbol` is also a column of each file:
a glob reader would otherwise guess its type from the folder name.
"""

import hashlib
import json
import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from io import BytesIO
from pathlib import Path
from urllib.parse import unquote

import polars as pl
from pydantic import TypeAdapter, ValidationError

from lab.errors import DamagedData, NoData, UsageError
from lab.files import exclusive, parquet, publish_once, write_atomically
from lab.nouns import BAR_COLUMNS, OPTIONAL_COLUMNS, Bars, Calendar, Piece, Span, interval_length

SAFE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,31}")
# What a glob reader would take for a number or a date; an escaped first character keeps it text.
LOOKS_LIKE_A_VALUE = re.compile(r"\d.*|epoch|inf|infinity|nan", re.IGNORECASE)


@dataclass(frozen=True)
class Part:
    """One immutable file: where it lies under the data folder, what it must hash to, what it holds.

    `first` and `last` are closes of bars; null for rejected rows.
    """

    path: str
    sha256: str
    rows: int
    bytes: int
    first: datetime | None = None
    last: datetime | None = None


@dataclass(frozen=True)
class Origin:
    """What a piece was made from, the months its rows went to, and the rows that were rejected."""

    digest: str
    months: tuple[str, ...]
    rejected: Part | None = None


@dataclass(frozen=True)
class Manifest:
    """One version of a table: its live file for each month, and where their rows came from."""

    calendar: Calendar = "continuous"
    parts: Mapping[str, Part] = field(default_factory=dict)
    origins: Mapping[str, Origin] = field(default_factory=dict)

    def files(self) -> list[Part]:
        """Every live file, those of rejected rows included."""
        rejected = (origin.rejected for origin in self.origins.values())
        return [*self.parts.values(), *(part for part in rejected if part)]


MANIFEST = TypeAdapter(Manifest)


@dataclass(frozen=True)
class Holding:
    """What the store has of one symbol: `first` and `last` close, rows, bytes on disk, rejected rows."""

    source: str
    symbol: str
    interval: str
    calendar: Calendar
    first: datetime
    last: datetime
    rows: int
    bytes: int
    rejected: int


def read_bars(root: Path, source: str, symbols: Collection[str], interval: str, span: Span | None = None) -> Bars:
    """The stored bars of `symbols` that closed inside `span`, or all of them; each file's SHA-256 is verified.

    Of the optional columns, those that every row has a place for. A symbol without any bar in `span` is NoData,
    a file whose bytes are not those that were written is DamagedData.
    """
    tables = [_Table(root, source, symbol, interval) for symbol in sorted(set(symbols))]
    read = [_read(table, span) for table in tables]
    for table, (frame, _) in zip(tables, read, strict=True):
        if frame.is_empty():
            raise _no_data(table, span)
    calendars = {calendar for _, calendar in read}
    if len(calendars) != 1:
        raise UsageError(
            f"{', '.join(table.symbol for table in tables)} do not trade on the same days",
            fix="read the symbols that trade on weekdays and those that trade round the clock apart",
        )
    frames = [frame for frame, _ in read]
    return Bars(pl.concat([frame.select(_shared_columns(frames)) for frame in frames]), interval, calendars.pop())


def commit(root: Path, source: str, piece: Piece) -> None:
    """Add a piece to its table, all of it or nothing; rows replace those of the same time.

    A damaged file in a month of the piece is replaced, and what else was in it no longer counts as done. Rejected
    rows go to quarantine. Files that the new version does not name are removed. A piece without bars is no change.
    """
    if piece.bars is None:
        return
    table = _Table(root, source, piece.symbol, piece.bars.interval)
    with exclusive(table.lock):
        number, before = _latest(table)
        after = _with_piece(table, before, piece, piece.bars)
        if after != before:
            number += 1
            publish_once(table.manifest(number), _manifest_bytes(after))
        _sweep(table, number, after)


def done(root: Path, source: str, symbol: str, interval: str) -> dict[str, str]:
    """Origins whose rows are in the store, whole and undamaged, each with the digest of its content."""
    table = _Table(root, source, symbol, interval)
    _, manifest = _latest(table)
    lost = {part.path for part in manifest.files() if _damage(table, part)}
    return {
        name: origin.digest
        for name, origin in manifest.origins.items()
        if not any(manifest.parts[month].path in lost for month in origin.months)
        and not (origin.rejected and origin.rejected.path in lost)
    }


def sweep(root: Path, source: str, symbol: str, interval: str) -> None:
    """Remove what a killed writer left behind: temporary files, parts and manifests that no live version names."""
    table = _Table(root, source, symbol, interval)
    if table.log.is_dir():
        with exclusive(table.lock):
            _sweep(table, *_latest(table))


def tables(root: Path) -> list[Holding]:
    """Everything the store has, by source, symbol and interval."""
    return [held for table in _tables(root) if (held := _holding(table))]


def holding(root: Path, source: str, symbol: str, interval: str) -> Holding | None:
    """What the store has of one symbol, or None."""
    return _holding(_Table(root, source, symbol, interval))


def verify(root: Path) -> list[DamagedData]:
    """Read every live file and manifest again; one error for each that is damaged or missing."""
    return [damage for table in _tables(root) for damage in _damages(table)]


@dataclass(frozen=True)
class _Table:
    """The bars of one source, symbol and interval, and the folders that hold them; unsafe names are refused."""

    root: Path
    source: str
    symbol: str
    interval: str

    def __post_init__(self) -> None:
        interval_length(self.interval)
        for kind, name in (("source", self.source), ("symbol", self.symbol)):
            if not SAFE_NAME.fullmatch(name):
                raise UsageError(
                    f"{name!r} cannot be the name of a {kind}",
                    fix="use at most 32 letters, digits, dots, dashes and underscores; begin with a letter or digit",
                )

    @property
    def _key(self) -> str:
        named = self.symbol
        if LOOKS_LIKE_A_VALUE.fullmatch(named):
            named = f"%{ord(named[0]):02X}{named[1:]}"
        return f"source={self.source}/symbol={named}/interval={self.interval}"

    @property
    def folder(self) -> Path:
        return self.root / "kind=bars" / self._key

    @property
    def quarantine(self) -> Path:
        return self.root / "quarantine" / self._key

    @property
    def log(self) -> Path:
        return self.folder / "_log"

    @property
    def lock(self) -> Path:
        return self.log / "lock"

    def manifest(self, number: int) -> Path:
        return self.log / f"{number:06}.json"


def _tables(root: Path) -> Iterator[_Table]:
    for folder in sorted(root.glob("kind=bars/source=*/symbol=*/interval=*")):
        source, symbol, interval = (unquote(key.split("=", 1)[1]) for key in folder.parts[-3:])
        yield _Table(root, source, symbol, interval)


def _holding(table: _Table) -> Holding | None:
    _, manifest = _latest(table)
    parts = manifest.parts.values()
    if not parts:
        return None
    return Holding(
        table.source,
        table.symbol,
        table.interval,
        manifest.calendar,
        first=min(part.first for part in parts if part.first),
        last=max(part.last for part in parts if part.last),
        rows=sum(part.rows for part in parts),
        bytes=sum(part.bytes for part in parts),
        rejected=sum(origin.rejected.rows for origin in manifest.origins.values() if origin.rejected),
    )


def _latest(table: _Table) -> tuple[int, Manifest]:
    """The number and content of the newest version; 0 and nothing before the first."""
    while numbers := [int(path.stem) for path in table.log.glob("[0-9]*.json")]:
        path = table.manifest(max(numbers))
        try:
            return max(numbers), _manifest_of(path, path.read_bytes())
        except FileNotFoundError:  # a writer has just published the next one and removed this
            continue
    return 0, Manifest()


def _manifest_bytes(manifest: Manifest) -> bytes:
    content = MANIFEST.dump_python(manifest, mode="json")
    return json.dumps({"sha256": _digest(content), "table": content}, indent=1, sort_keys=True).encode() + b"\n"


def _manifest_of(path: Path, data: bytes) -> Manifest:
    try:
        document = json.loads(data)
        if document["sha256"] != _digest(document["table"]):
            raise ValueError("another SHA-256 than when it was written")
        return MANIFEST.validate_python(document["table"])
    except (ValueError, KeyError, TypeError, ValidationError) as damage:
        raise DamagedData(
            f"{path} is damaged: {damage}", fix=f"remove {path.parents[1]} and run its lab fetch again"
        ) from None


def _digest(content: object) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _with_piece(table: _Table, before: Manifest, piece: Piece, bars: Bars) -> Manifest:
    """The version after `before` that also holds `piece`; its new files are on the disk, its manifest is not."""
    parts, damaged = dict(before.parts), set()
    by_month = _by_month(bars)
    for month, rows in by_month.items():
        if month in parts:
            try:
                rows = _merged(_frame(table, parts[month]), rows)
            except DamagedData:
                damaged.add(month)
        parts[month] = _write_rows(table, month, rows)
    origins = {name: origin for name, origin in before.origins.items() if damaged.isdisjoint(origin.months)}
    origins[piece.origin] = Origin(piece.digest, tuple(by_month), _write_rejected(table, piece))
    mixed = before.parts and before.calendar != bars.calendar
    return Manifest("continuous" if mixed else bars.calendar, parts, dict(sorted(origins.items())))


def _by_month(bars: Bars) -> dict[str, pl.DataFrame]:
    opened = pl.col("time") - interval_length(bars.interval)
    dated = bars.frame.with_columns(month=opened.dt.strftime("%Y-%m"))
    return {month: rows for (month,), rows in dated.partition_by("month", as_dict=True, include_key=False).items()}


def _merged(old: pl.DataFrame, new: pl.DataFrame) -> pl.DataFrame:
    kept = old.join(new, on="time", how="anti")
    rows = pl.concat([kept, new], how="diagonal").sort("time")
    return rows.select(name for name in (*BAR_COLUMNS, *OPTIONAL_COLUMNS) if name in rows.columns)


def _write_rows(table: _Table, month: str, rows: pl.DataFrame) -> Part:
    first, last = rows["time"][0], rows["time"][-1]
    return _write(table, table.folder / f"month={month}", rows, first, last)


def _write_rejected(table: _Table, piece: Piece) -> Part | None:
    if piece.rejected.is_empty():
        return None
    return _write(table, table.quarantine, piece.rejected.with_columns(origin=pl.lit(piece.origin)))


def _write(
    table: _Table, folder: Path, rows: pl.DataFrame, first: datetime | None = None, last: datetime | None = None
) -> Part:
    data = parquet(rows)
    sha256 = hashlib.sha256(data).hexdigest()
    path = folder / f"{sha256}.parquet"
    write_atomically(path, data)
    return Part(path.relative_to(table.root).as_posix(), sha256, rows.height, len(data), first, last)


def _sweep(table: _Table, number: int, manifest: Manifest) -> None:
    live = {table.root / part.path for part in manifest.files()} | {table.lock, table.manifest(number)}
    for path in (*table.folder.rglob("*"), *table.quarantine.rglob("*")):
        if path not in live and path.is_file():
            path.unlink()


def _read(table: _Table, span: Span | None) -> tuple[pl.DataFrame, Calendar]:
    while True:
        number, manifest = _latest(table)
        try:
            return _rows(table, manifest, span), manifest.calendar
        except DamagedData:
            if _latest(table)[0] == number:  # otherwise a writer has replaced the file since
                raise


def _rows(table: _Table, manifest: Manifest, span: Span | None) -> pl.DataFrame:
    parts = [manifest.parts[month] for month in sorted(manifest.parts)]
    if span:
        parts = [p for p in parts if p.first and p.last and p.first < span.end and p.last >= span.start]
    if not parts:
        return pl.DataFrame(schema=dict(BAR_COLUMNS))
    frames = [_frame(table, part) for part in parts]
    rows = pl.concat([frame.select(_shared_columns(frames)) for frame in frames])
    return rows.filter(span.covers(pl.col("time"))) if span else rows


def _shared_columns(frames: Collection[pl.DataFrame]) -> list[str]:
    shared = set.intersection(*(set(frame.columns) for frame in frames))
    return [name for name in (*BAR_COLUMNS, *OPTIONAL_COLUMNS) if name in shared]


def _frame(table: _Table, part: Part) -> pl.DataFrame:
    return pl.read_parquet(BytesIO(_verified_bytes(table, part)))


def _verified_bytes(table: _Table, part: Part) -> bytes:
    path = table.root / part.path
    try:
        data = path.read_bytes()
    except OSError as refused:
        raise DamagedData(f"{path} cannot be read: {refused.strerror}", fix=_mend(table, part)) from None
    if hashlib.sha256(data).hexdigest() != part.sha256:
        raise DamagedData(f"{path} is damaged: its SHA-256 is not the one in its name", fix=_mend(table, part))
    return data


def _damages(table: _Table) -> list[DamagedData]:
    try:
        _, manifest = _latest(table)
    except DamagedData as damage:
        return [damage]
    return [damage for part in manifest.files() for damage in _damage(table, part)]


def _damage(table: _Table, part: Part) -> list[DamagedData]:
    try:
        _verified_bytes(table, part)
    except DamagedData as damage:
        return [damage]
    return []


def _mend(table: _Table, part: Part) -> str:
    again = f"lab fetch {table.symbol} --source {table.source} --interval {table.interval}"
    if part.first and part.last:
        opened = part.first - interval_length(table.interval)
        begin = opened.replace(day=1, hour=0, minute=0, second=0)
        again += f" --start {begin:%Y-%m-%d} --end {begin + timedelta(days=32):%Y-%m}-01"
    return f"{again} fetches it anew; lab data verify looks for more"


def _no_data(table: _Table, span: Span | None) -> NoData:
    wanted = f" between {span.start:%Y-%m-%d %H:%M} and {span.end:%Y-%m-%d %H:%M}" if span else ""
    held = [holding for holding in tables(table.root) if holding.symbol == table.symbol]
    has = "; ".join(f"{h.interval} from {h.source}, {h.first:%Y-%m-%d} to {h.last:%Y-%m-%d}" for h in held)
    fetch = f"lab fetch {table.symbol} --source {table.source} --interval {table.interval}"
    if span:
        bar = interval_length(table.interval)  # fetch asks for bars by when they open
        last_day = (span.end - bar - timedelta(microseconds=1)).astimezone(UTC) + timedelta(days=1)
        fetch += f" --start {span.start - bar:%Y-%m-%d} --end {last_day:%Y-%m-%d}"
    return NoData(
        f"the store has no {table.interval} bars of {table.symbol} from {table.source}{wanted}"
        f" (it has {has or 'nothing of that symbol'})",
        fix=fetch,
    )
