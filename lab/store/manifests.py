"""Versions of a table: numbered manifests, each published once, that say which files are live and where they came from.

A document without `format` is of lab 0.1, which knew one file a month; it is read as what it says.
"""

import errno
import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from lab.errors import DamagedData, LabError
from lab.files import publish_once
from lab.nouns import Calendar
from lab.store.layout import TableName

FORMAT = 1
NEVER = datetime(1970, 1, 1, tzinfo=UTC)
_NUMBERED = re.compile(r"(\d+)\.json")


@dataclass(frozen=True)
class Part:
    """One immutable file: where it lies under the data folder, what it must hash to, what it holds.

    `first` and `last` are times of its rows; null for rejected rows.
    """

    path: str
    sha256: str
    rows: int
    bytes: int
    first: datetime | None = None
    last: datetime | None = None


@dataclass(frozen=True)
class Origin:
    """What a piece was made from, the months its rows went to, and the rows that were rejected.

    `repeats` counts exact copies that were dropped, `reading` says how a person had a file read, and `until` is the
    end of the span that the piece speaks for, where it has one.
    """

    digest: str
    months: tuple[str, ...]
    rejected: Part | None = None
    repeats: int = 0
    reading: str = ""
    until: datetime | None = None


@dataclass(frozen=True)
class Change:
    """Who made a version, when (UTC), by which command, from what; and the columns that it is the first to have."""

    at: datetime = NEVER
    by: str = ""
    command: str = ""
    origins: tuple[str, ...] = ()
    widened: tuple[str, ...] = ()


@dataclass(frozen=True)
class Manifest:
    """One version of a table: its live files for each month, where their rows came from, and what was not there.

    `absent` has the objects that the source did not have, and when it was last asked for them.
    """

    calendar: Calendar = "continuous"
    columns: tuple[str, ...] = ()
    parts: Mapping[str, tuple[Part, ...]] = field(default_factory=dict)
    origins: Mapping[str, Origin] = field(default_factory=dict)
    absent: Mapping[str, datetime] = field(default_factory=dict)
    change: Change = Change()

    @property
    def live(self) -> list[Part]:
        """The files that hold its rows, oldest month first."""
        return [part for month in sorted(self.parts) for part in self.parts[month]]

    @property
    def rows(self) -> int:
        return sum(part.rows for part in self.live)

    def files(self) -> list[Part]:
        """Every file that belongs to it, those of rejected rows included."""
        return [*self.live, *(origin.rejected for origin in self.origins.values() if origin.rejected)]


_DOCUMENT = TypeAdapter(Manifest)


def latest(table: TableName) -> tuple[int, Manifest]:
    """The number and content of the newest version; 0 and nothing before the first."""
    number = max(numbers(table), default=0)
    return number, version(table, number) if number else Manifest()


def numbers(table: TableName) -> list[int]:
    """The numbers of the versions that are still known, oldest first."""
    try:
        names = [path.name for path in table.log.iterdir()]
    except FileNotFoundError:
        return []
    except OSError as refused:
        raise unreadable(table.log, refused, fix="lab data repair") from None
    return sorted(int(found[1]) for name in names if (found := _NUMBERED.fullmatch(name)))


def version(table: TableName, number: int) -> Manifest:
    """One version; a damaged or missing manifest is DamagedData."""
    path = table.manifest(number)
    try:
        found = path.stat()
        return _read(table, number, found.st_mtime_ns, found.st_size)
    except OSError as refused:
        raise unreadable(path, refused, fix="lab data repair") from None


def versions(table: TableName) -> Iterator[tuple[int, Manifest]]:
    """Every version that is still known and whole, oldest first."""
    for number in numbers(table):
        try:
            yield number, version(table, number)
        except DamagedData:
            continue


def unreadable(path: Path, refused: OSError, fix: str) -> LabError:
    """What it means that a file cannot be read: it is gone or its disk is broken, which is damage; or neither."""
    problem = f"{path} cannot be read: {refused.strerror}"
    if isinstance(refused, FileNotFoundError) or refused.errno == errno.EIO:
        return DamagedData(problem, fix=fix)
    return LabError(problem, fix="allow it, then run the same command again")


def publish(table: TableName, number: int, manifest: Manifest) -> None:
    """Make `manifest` the version of that number, for good; somebody else's is never replaced."""
    content = _DOCUMENT.dump_python(manifest, mode="json", exclude_defaults=True)
    document = {"format": FORMAT, "sha256": _digest([table.key, number, content]), "table": content}
    publish_once(table.manifest(number), json.dumps(document, indent=1, sort_keys=True).encode() + b"\n")


@lru_cache(maxsize=4096)  # a manifest never changes
def _read(table: TableName, number: int, _modified: int, _size: int) -> Manifest:
    path = table.manifest(number)
    try:
        document = json.loads(path.read_bytes())
        content, version = document["table"], document.get("format", 0)
        if version > FORMAT:
            raise ValueError(f"it has format {version}, of a newer lab; this one reads up to {FORMAT}")
        # What it is a version of belongs to what is hashed: a manifest in the place of another is damage.
        if document["sha256"] != _digest(content if version == 0 else [table.key, number, content]):
            raise ValueError("another SHA-256 than when it was written")
        found = _DOCUMENT.validate_python(_as_of_today(document))
        key = re.escape(table.key)
        before_kinds = key.split("/", 1)[1]  # how lab 0.1 named the folders of rejected rows
        own = re.compile(rf"({key}/month=[^/]+|quarantine/({key}|{before_kinds}))/[^/]+\.parquet")
        if strange := [part.path for part in found.files() if not own.fullmatch(part.path)]:
            raise ValueError(f"{strange[0]!r} is no file of this table")
        return found
    except (ValueError, KeyError, TypeError, AttributeError, ValidationError) as damage:
        raise DamagedData(f"{path} is damaged: {damage}", fix="lab data repair") from None


def _as_of_today(document: dict[str, Any]) -> dict[str, Any]:
    content: dict[str, Any] = document["table"]
    if document.get("format", 0) == 0:
        return {**content, "parts": {month: [part] for month, part in content["parts"].items()}}
    return content


def _digest(content: object) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
