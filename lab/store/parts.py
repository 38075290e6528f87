"""The bytes of a part: written once, hashed before they are believed."""

import hashlib
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from io import BytesIO
from pathlib import Path
from typing import Any

import polars as pl

from lab.errors import DamagedData
from lab.files import parquet, write_atomically
from lab.kinds import KINDS
from lab.nouns import INTERVALS
from lab.store.layout import TableName
from lab.store.manifests import Part, unreadable

MOST_BYTES = 64 << 20  # that a part may take in memory, or
MOST_GROWTH = 4_000  # times what it takes on the disk, if that is more
WIDTH = 8  # bytes of a number


def write_part(table: TableName, folder: Path, rows: pl.DataFrame) -> Part:
    """Put rows on the disk as a file named by its hash; rejected rows may have no time, so neither first nor last."""
    data = parquet(rows)
    sha256 = hashlib.sha256(data).hexdigest()
    path = folder / f"{sha256}.parquet"
    write_atomically(path, data)
    dated = not folder.is_relative_to(table.quarantine)
    first, last = (rows["time"][0], rows["time"][-1]) if dated else (None, None)
    return Part(path.relative_to(table.root).as_posix(), sha256, rows.height, len(data), first, last)


def load(table: TableName, part: Part) -> pl.DataFrame:
    """The rows of a part; its hash is checked when this process first opens it. DamagedData where it is another."""
    path = whereabouts(table, part)
    if is_trusted(path, part):
        with suppress(FileNotFoundError):  # moved to history since
            return pl.read_parquet(path, glob=False)
    return pl.read_parquet(BytesIO(checked_bytes(table, part)))


def part_at(table: TableName, path: Path) -> Part | None:
    """What a live file holds, where it has the hash that is in its name and rows of the table; else null."""
    try:
        data = path.read_bytes()
        found = Part(path.relative_to(table.root).as_posix(), path.stem, _facts(data).num_rows, len(data))
        times = pl.read_parquet(BytesIO(checked_bytes(table, found)), columns=["time"])["time"]
        return replace(found, first=times[0], last=times[-1])
    except (OSError, ValueError, IndexError, DamagedData):
        return None


def checked(table: TableName, part: Part) -> Path:
    """Where a part lies, once its hash has been checked by this process."""
    path = whereabouts(table, part)
    if not is_trusted(path, part):
        checked_bytes(table, part)
        path = whereabouts(table, part)
    return path


def checked_bytes(table: TableName, part: Part) -> bytes:
    """The bytes of a part, which have the hash that is in its name and can be its rows; else DamagedData."""
    path = whereabouts(table, part)
    try:
        data = path.read_bytes()
    except FileNotFoundError:  # superseded while we looked, so it has moved
        path = whereabouts(table, part)
        data = _bytes_of(table, part, path)
    except OSError:
        data = _bytes_of(table, part, path)
    if hashlib.sha256(data).hexdigest() != part.sha256:
        raise DamagedData(f"{path} is damaged: its SHA-256 is not the one in its name", fix=remedy(table, part))
    if problem := _lie(table, part, data):
        raise DamagedData(f"{path} is damaged: {problem}", fix=remedy(table, part))
    _trust(path, part)
    return data


def whereabouts(table: TableName, part: Part) -> Path:
    """Where a part lies: among the live files, or in history once a newer version has none of it."""
    live = table.root / part.path
    kept = table.history / live.name
    return kept if not live.exists() and kept.exists() else live


def is_there(table: TableName, part: Part) -> bool:
    """Whether a part's file exists and has its size, without reading it."""
    try:
        return (table.root / part.path).stat().st_size == part.bytes
    except OSError:
        return False


def remedy(table: TableName, part: Part) -> str:
    """What mends a damaged part: take it out of the table, then fetch its time again."""
    again = table.command
    if part.first and part.last:
        begins = part.first - INTERVALS.get(table.interval, timedelta(0))
        begin = begins.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
        again += f" --start {begin:%Y-%m-%d} --end {begin + timedelta(days=32):%Y-%m}-01"
    return f"lab data repair, then {again}"


def _lie(table: TableName, part: Part, data: bytes) -> str | None:
    """Why bytes of the right hash cannot be the rows of a part, or would fill the memory; null where they can be."""
    try:
        facts = _facts(data)
    except ValueError as unread:
        return str(unread)
    needed = () if part.path.startswith("quarantine/") else KINDS[table.kind].schema(())
    if lacking := [name for name in needed if name not in facts.schema.to_arrow_schema().names]:
        return f"it has no {lacking[0]}"
    if facts.num_rows != part.rows:
        return f"it has {facts.num_rows} rows, its manifest says {part.rows}"
    stated = sum(facts.row_group(n).total_byte_size for n in range(facts.num_row_groups))
    # A value that repeats takes next to nothing in the file, and its whole width in memory.
    size = max(stated, facts.num_rows * facts.num_columns * WIDTH)
    if size > max(MOST_BYTES, MOST_GROWTH * len(data)):
        return f"{len(data)} bytes claim to be {size >> 20} MB"
    return None


def _facts(data: bytes) -> Any:
    """What the footer of a Parquet file says; ValueError where there is none."""
    from pyarrow import ArrowException, parquet  # type: ignore[import-untyped]  # takes a tenth of a second

    try:
        return parquet.read_metadata(BytesIO(data))
    except (ArrowException, OSError) as unread:
        raise ValueError(str(unread).splitlines()[0]) from None


_trusted: dict[str, tuple[int, int, int]] = {}
_GONE = (0, 0, 0)


def is_trusted(path: Path, part: Part) -> bool:
    """Whether this process has checked the file and nobody has touched it since."""
    return _trusted.get(part.sha256, _GONE) == _look(path) != _GONE


def _trust(path: Path, part: Part) -> None:
    _trusted[part.sha256] = _look(path)


def _look(path: Path) -> tuple[int, int, int]:
    try:
        seen = path.stat()
    except OSError:
        return _GONE
    return (seen.st_ino, seen.st_size, seen.st_mtime_ns)


def _bytes_of(table: TableName, part: Part, path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as refused:
        raise unreadable(path, refused, fix=remedy(table, part)) from None
