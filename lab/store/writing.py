"""How pieces become the next version of a table: all of them or nothing."""

import getpass
import socket
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from time import monotonic

import polars as pl

from lab.errors import DamagedData, LabError, UsageError
from lab.files import exclusive, flush_folder, move
from lab.kinds import KINDS, Kind
from lab.nouns import EVENTS, MICROSECOND, Bars, Calendar, Piece, Span, Table, opened
from lab.store.layout import TableName
from lab.store.manifests import Change, Manifest, Origin, Part, latest, publish
from lab.store.parts import load, write_part

MOST_WAITING = 1 << 20  # rows
PATIENCE = 9  # a commit may take a tenth of the time
SMALL = 1 << 20  # rows; events that follow fewer than these are written together with them


def commit(root: Path, source: str, pieces: Iterable[Piece], command: str = "") -> None:
    """Add pieces to their tables, to each as one new version: all of them or nothing.

    Where the kind has a key, rows replace those with the same; else a piece replaces all that its span holds. A
    damaged file that rows must join is given up, and what else was in its month no longer counts as done. Rejected
    rows go to quarantine. Files that the new version does not name move to history. A piece without rows is no
    change. A column that the kind does not know is a UsageError. `command` is for the log.
    """
    tables: dict[TableName, list[tuple[Piece, Bars | Table]]] = defaultdict(list)
    for piece in pieces:
        if piece.table is not None:
            name = TableName(root, source, piece.symbol, piece.table.interval, piece.table.kind)
            _check_columns(piece.table)
            tables[name].append((piece, piece.table))
    for name, own in tables.items():
        with exclusive(name.lock):
            number, before = latest(name)
            after = _with_pieces(name, before, own)
            if _content(after) != _content(before):
                publish(name, number + 1, _signed(before, after, command))
                retire(name, before, after)
            else:
                flush_folder(name.log)


def _check_columns(table: Bars | Table) -> None:
    columns = table.frame.columns
    if strange := [column for column in columns if column not in KINDS[table.kind].schema(columns)]:
        raise UsageError(f"{table.kind} have no column {strange[0]!r}", fix="leave it out, or teach it to lab/kinds.py")


def commit_as_they_come(root: Path, source: str, pieces: Iterator[Piece], command: str = "") -> Iterator[Piece]:
    """Commit pieces, several at once where committing takes longer than they do, and hand on what is stored.

    Whatever stops it, the pieces that had come are stored.
    """
    waiting: list[Piece] = []
    took, since = 0.0, monotonic()
    try:
        for piece in pieces:
            waiting.append(piece)
            rows = sum(each.table.frame.height for each in waiting if each.table)
            if rows >= MOST_WAITING or monotonic() - since >= PATIENCE * took:
                since = monotonic()
                commit(root, source, waiting, command)
                took = monotonic() - since
                yield from waiting
                waiting.clear()
    finally:
        commit(root, source, waiting, command)
    yield from waiting


def note_absent(name: TableName, origins: Collection[str]) -> None:
    """Keep that the source had nothing under these names just now; nothing is kept of a table that does not exist."""
    if not origins or not name.log.is_dir():
        return
    with exclusive(name.lock):
        number, before = latest(name)
        seen = {**before.absent, **dict.fromkeys(origins, _now())}
        after = replace(before, absent=dict(sorted(seen.items())))
        publish(name, number + 1, _signed(before, after, "", origins))


def retire(name: TableName, before: Manifest, after: Manifest) -> None:
    """Move the files that only the older version names out of sight of a glob."""
    live = {part.path for part in after.live}
    gone = [name.root / part.path for part in before.live if part.path not in live]
    with suppress(LabError):  # the new version stands all the same; what cannot be moved now waits for the sweep
        move([path for path in gone if path.exists()], name.history)


@dataclass(frozen=True)
class _Stretch:
    """Rows of a month, in a file already or still in memory."""

    first: datetime
    last: datetime
    rows: int
    part: Part | None
    frame: pl.DataFrame | None

    @classmethod
    def of_part(cls, part: Part) -> "_Stretch":
        assert part.first is not None and part.last is not None
        return cls(part.first, part.last, part.rows, part, None)

    @classmethod
    def of_frame(cls, frame: pl.DataFrame) -> "_Stretch":
        return cls(frame["time"][0], frame["time"][-1], frame.height, None, frame)

    def read(self, name: TableName) -> pl.DataFrame:
        return load(name, self.part) if self.part else self.frame if self.frame is not None else pl.DataFrame()


def _with_pieces(name: TableName, before: Manifest, pieces: list[tuple[Piece, Bars | Table]]) -> Manifest:
    """The version after `before` that also holds `pieces`; its new files are on the disk, its manifest is not."""
    kind = KINDS[name.kind]
    months = {month: [_Stretch.of_part(part) for part in parts] for month, parts in before.parts.items()}
    origins, calendar = dict(before.origins), before.calendar if before.parts else None
    for piece, table in pieces:
        by_month = _by_month(name, table.frame)
        for month in sorted({*by_month, *_emptied(kind, piece, table, months)}):
            rows = by_month.get(month, table.frame.clear())
            try:
                months[month] = _joined(name, kind, months.get(month, []), rows, piece.span)
            except DamagedData:
                months[month] = [_Stretch.of_frame(rows)] if rows.height else []
                origins = {key: each for key, each in origins.items() if month not in each.months}
        origins[piece.origin] = _origin(name, piece, by_month)
        calendar = table.calendar if calendar in (None, table.calendar) else "continuous"
    with ThreadPoolExecutor() as pool:
        written = {
            month: [pool.submit(_written, name, month, each) for each in months[month]] for month in sorted(months)
        }
    parts = {month: tuple(each.result() for each in every) for month, every in written.items() if every}
    columns = {*before.columns, *(column for _, table in pieces for column in table.frame.columns)}
    absent = {key: seen for key, seen in before.absent.items() if key not in origins}
    known: Calendar = calendar or "continuous"
    return Manifest(known, tuple(sorted(columns)), parts, dict(sorted(origins.items())), absent)


def _emptied(kind: Kind, piece: Piece, table: Bars | Table, months: Mapping[str, list[_Stretch]]) -> list[str]:
    """The months that hold rows of the span that a piece speaks for, of whatever it has itself."""
    if kind.key or piece.span is None or table.frame.is_empty():
        return []
    start, end = piece.span.start, piece.span.end
    return [month for month, held in months.items() if any(each.first < end and each.last >= start for each in held)]


def _joined(name: TableName, kind: Kind, old: list[_Stretch], rows: pl.DataFrame, span: Span | None) -> list[_Stretch]:
    """The stretches of a month once `rows` are among them, in time order."""
    if kind.key:
        known = [each.read(name) for each in old]
        return [_Stretch.of_frame(_merged(kind, [*known, rows]))]
    spoken = span or Span(rows["time"][0], rows["time"][-1] + MICROSECOND)
    apart = [each for each in old if each.last < spoken.start or each.first >= spoken.end]
    touched = [each for each in old if each not in apart]
    if not touched and apart and apart[-1].last <= rows["time"][0] and apart[-1].rows < SMALL:
        touched, apart = apart[-1:], apart[:-1]
    outside = [each.read(name).filter(~spoken.covers(pl.col("time"))) for each in touched]
    whole = pl.concat([*outside, rows], how="diagonal").sort("time", maintain_order=True)
    joined = [_Stretch.of_frame(_in_order(kind, whole))] if whole.height else []
    return sorted([*apart, *joined], key=lambda each: each.first)


def _merged(kind: Kind, frames: list[pl.DataFrame]) -> pl.DataFrame:
    """Rows of all frames, of those that agree in the key the newest, sorted by it."""
    *known, rows = frames
    key = list(kind.key)
    kept = [each.join(rows, on=key, how="anti", maintain_order="left") for each in known]
    return _in_order(kind, pl.concat([*kept, rows], how="diagonal").sort(key, maintain_order=True))


def _in_order(kind: Kind, rows: pl.DataFrame) -> pl.DataFrame:
    return rows.select(kind.schema(rows.columns).keys())


def _by_month(name: TableName, rows: pl.DataFrame) -> dict[str, pl.DataFrame]:
    begun = pl.col("time") if name.interval == EVENTS else opened(pl.col("time"), name.interval)
    months = rows[[0, -1]].select(begun.dt.strftime("%Y-%m"))["time"].unique() if rows.height else rows["time"]
    if months.len() == 1:  # rows are sorted by time
        return {months[0]: rows}
    split = rows.with_columns(month=begun.dt.strftime("%Y-%m")).partition_by("month", as_dict=True, include_key=False)
    return {month: part for (month,), part in split.items()}


def _origin(name: TableName, piece: Piece, months: Mapping[str, pl.DataFrame]) -> Origin:
    rejected = None
    if not piece.rejected.is_empty():
        rejected = write_part(name, name.quarantine, piece.rejected.with_columns(origin=pl.lit(piece.origin)))
    until = piece.span.end if piece.span else None
    return Origin(piece.digest, tuple(months), rejected, piece.repeats, piece.reading, until)


def _written(name: TableName, month: str, stretch: _Stretch) -> Part:
    if stretch.part:
        return stretch.part
    return write_part(name, name.folder / f"month={month}", stretch.read(name))


def _content(manifest: Manifest) -> Manifest:
    """What a version says, whoever made it."""
    return replace(manifest, change=Change())


def _signed(before: Manifest, after: Manifest, command: str, origins: Collection[str] | None = None) -> Manifest:
    changed = [key for key, each in after.origins.items() if before.origins.get(key) != each]
    widened = sorted({*after.columns} - {*before.columns}) if before.columns else []
    change = Change(_now(), _who(), command, tuple(origins or changed), tuple(widened))
    return replace(after, change=change)


def _now() -> datetime:
    return datetime.now(UTC).replace(microsecond=0)


def _who() -> str:
    try:
        user = getpass.getuser()
    except (OSError, KeyError):  # an account without a name
        user = "unknown"
    return f"{user}@{socket.gethostname()}"
