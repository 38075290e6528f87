"""What is in the store: rows, of the newest version or an older one, and what there is to read."""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl

from lab.errors import NoData, UsageError
from lab.kinds import KINDS
from lab.nouns import EVENTS, INTERVALS, MICROSECOND, Bars, Calendar, Span
from lab.store import manifests
from lab.store.layout import TableName, table_names
from lab.store.manifests import Change, Manifest, Origin, Part, latest, versions
from lab.store.parts import checked, is_there, load

LOOK_AGAIN_AFTER = timedelta(days=1)  # what a source did not have, it may have later


@dataclass(frozen=True)
class Holding:
    """What the store has of one symbol: `first` and `last` time, rows, bytes on disk, and what was not kept.

    `missing` counts the bars that are due between first and last and are not there; null where that needs a
    calendar or there is no grid. `repeats` are exact copies that were dropped.
    """

    source: str
    symbol: str
    kind: str
    interval: str
    calendar: Calendar
    first: datetime
    last: datetime
    rows: int
    missing: int | None
    rejected: int
    repeats: int
    absent: int
    bytes: int
    version: int


@dataclass(frozen=True)
class Version:
    """One entry of a table's log: its number, who made it and from what, rows now and how many more than before."""

    number: int
    rows: int
    added: int
    change: Change


def read_bars(
    root: Path,
    source: str,
    symbols: Collection[str],
    interval: str,
    span: Span | None = None,
    at: Mapping[str, int] | None = None,
) -> Bars:
    """The stored bars of `symbols` that closed inside `span`, or all of them.

    Each file's SHA-256 is checked when a process first opens it. `at` names older versions, by symbol. Of the
    optional columns, those that every row has a place for. A symbol without any bar in `span` is NoData, a file
    whose bytes are not those that were written is DamagedData.
    """
    found = [_bars_of(TableName(root, source, symbol, interval), span, at) for symbol in sorted(set(symbols))]
    calendars = {calendar for _, calendar in found}
    if len(calendars) != 1:
        raise UsageError(
            f"{', '.join(sorted(set(symbols)))} do not trade on the same days",
            fix="read the symbols that trade on weekdays and those that trade round the clock apart",
        )
    frames = [frame for frame, _ in found]
    shared = _shared_columns("bars", frames)
    return Bars(pl.concat([frame.select(shared) for frame in frames]), interval, calendars.pop())


def read(name: TableName, span: Span | None = None, version: int | None = None) -> pl.DataFrame:
    """The stored rows of a table whose time lies inside `span`, or all of them, of the newest version or another.

    None at all is NoData.
    """
    frame = _rows(name, manifests.version(name, version) if version else latest(name)[1], span)
    if frame.is_empty():
        raise _no_data(name, span)
    return frame


def batches(name: TableName, span: Span | None = None) -> Iterator[pl.DataFrame]:
    """The same rows in time order, file by file, so that memory stays bounded; none at all is NoData."""
    parts = _within(latest(name)[1].live, span)
    if not parts:
        raise _no_data(name, span)
    for part in parts:
        rows = load(name, part)
        yield rows.filter(span.covers(pl.col("time"))) if span else rows


def paths(root: Path, kind: str) -> list[Path]:
    """The live files of every table of a kind, checked."""
    names = [name for name in table_names(root) if name.kind == kind]
    return [checked(name, part) for name in names for part in latest(name)[1].live]


def done(name: TableName) -> dict[str, str]:
    """Origins whose rows are in the store, each with the digest of its content, and those that were absent just now.

    A file that is gone or has another size is not in the store; what its bytes are is `verify`'s to say.
    """
    _, manifest = latest(name)
    lost = {month for month, parts in manifest.parts.items() if not all(is_there(name, part) for part in parts)}
    kept = {
        key: origin.digest
        for key, origin in manifest.origins.items()
        if lost.isdisjoint(origin.months) and (origin.rejected is None or is_there(name, origin.rejected))
    }
    recently = datetime.now(UTC) - LOOK_AGAIN_AFTER
    return kept | {key: "" for key, seen in manifest.absent.items() if seen > recently}


def tables(root: Path) -> list[Holding]:
    """Everything the store has, by kind, source, symbol and interval."""
    return [held for name in table_names(root) if (held := holding(name))]


def history(name: TableName) -> list[Version]:
    """The versions of a table that are still known, oldest first."""
    entries: list[Version] = []
    before = 0
    for number, manifest in versions(name):
        entries.append(Version(number, manifest.rows, manifest.rows - before, manifest.change))
        before = manifest.rows
    return entries


def version_of(name: TableName) -> int:
    """The number of a table's newest version; 0 where there is no table."""
    return latest(name)[0]


def origins(name: TableName) -> tuple[Mapping[str, Origin], Mapping[str, datetime]]:
    """What a table's rows were made from, and what its source did not have, with the time it was last asked."""
    manifest = latest(name)[1]
    return manifest.origins, manifest.absent


def rejected(name: TableName) -> list[pl.DataFrame]:
    """The rows that could not be used, as their source gave them, with `fault` and `origin`; a frame an origin."""
    found = latest(name)[1].origins.values()
    return [load(name, origin.rejected) for origin in found if origin.rejected]


def _bars_of(name: TableName, span: Span | None, at: Mapping[str, int] | None) -> tuple[pl.DataFrame, Calendar]:
    number = at.get(name.symbol, 0) if at else 0
    manifest = manifests.version(name, number) if number else latest(name)[1]
    frame = _rows(name, manifest, span)
    if frame.is_empty():
        raise _no_data(name, span)
    return frame, manifest.calendar


def _rows(name: TableName, manifest: Manifest, span: Span | None) -> pl.DataFrame:
    parts = _within(manifest.live, span)
    if not parts:
        return pl.DataFrame(schema=KINDS[name.kind].schema(()))
    frames = [load(name, part) for part in parts]
    shared = _shared_columns(name.kind, frames)
    rows = pl.concat([frame.select(shared) for frame in frames])
    return rows.filter(span.covers(pl.col("time"))) if span else rows


def _within(parts: list[Part], span: Span | None) -> list[Part]:
    if span is None:
        return parts
    return [each for each in parts if each.first and each.last and each.first < span.end and each.last >= span.start]


def _shared_columns(kind: str, frames: Collection[pl.DataFrame]) -> list[str]:
    shared = set.intersection(*(set(frame.columns) for frame in frames))
    return list(KINDS[kind].schema(shared))


def holding(name: TableName) -> Holding | None:
    """What the store has of one table, or None."""
    number, manifest = latest(name)
    if not manifest.live:
        return None
    first = min(part.first for part in manifest.live if part.first)
    last = max(part.last for part in manifest.live if part.last)
    due = None
    if name.interval in INTERVALS and manifest.calendar == "continuous":
        due = (last - first) // INTERVALS[name.interval] + 1
    return Holding(
        name.source,
        name.symbol,
        name.kind,
        name.interval,
        manifest.calendar,
        first,
        last,
        rows=manifest.rows,
        missing=None if due is None else due - manifest.rows,
        rejected=sum(origin.rejected.rows for origin in manifest.origins.values() if origin.rejected),
        repeats=sum(origin.repeats for origin in manifest.origins.values()),
        absent=len(manifest.absent),
        bytes=sum(part.bytes for part in manifest.live),
        version=number,
    )


def _no_data(name: TableName, span: Span | None) -> NoData:
    wanted = f" between {span.start:%Y-%m-%d %H:%M} and {span.end:%Y-%m-%d %H:%M}" if span else ""
    held = [each for each in tables(name.root) if each.symbol == name.symbol]
    has = "; ".join(f"{_what(each)} from {each.source}, {_days(each)}" for each in held)
    fetch = name.command
    if span:
        bar = INTERVALS.get(name.interval, timedelta(0))  # fetch asks for bars by when they open
        last_day = (span.end - bar - MICROSECOND).astimezone(UTC) + timedelta(days=1)
        fetch += f" --start {span.start - bar:%Y-%m-%d} --end {last_day:%Y-%m-%d}"
    return NoData(f"the store has no {name}{wanted} (it has {has or 'nothing of that symbol'})", fix=fetch)


def _what(held: Holding) -> str:
    return held.kind if held.interval == EVENTS else f"{held.interval} {held.kind}"


def _days(held: Holding) -> str:
    return f"{held.first:%Y-%m-%d} to {held.last:%Y-%m-%d}"
