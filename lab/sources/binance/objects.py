"""Objects of Binance's archive: downloaded, matched with their checksum, unzipped."""

import hashlib
import re
import zlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from tempfile import SpooledTemporaryFile
from threading import Lock
from typing import IO
from zipfile import BadZipFile, ZipFile

from lab.errors import SourceError
from lab.sources.binance.datasets import DAY, Archive
from lab.sources.binance.tables import refused
from lab.sources.web import Connections, Patience, download, get

BLOCK = 32 << 20  # bytes of CSV that are parsed at once
IN_MEMORY = 64 << 20  # bytes of a zip; a larger one is kept in a temporary file
ZIPPED_AT_MOST = 1 << 30  # bytes of a day's zip
PATIENCE_FOR_A_MONTH = 8  # times that for other files, as a month of trades takes some GB
Zipped = SpooledTemporaryFile[bytes]


@dataclass(frozen=True)
class Mirror:
    """Where the archive is asked for, over which connections, and how patiently."""

    pools: Connections
    base_url: str
    patience: Patience

    def url(self, archive: Archive) -> str:
        return f"{self.base_url.rstrip('/')}/{archive.origin}"


@contextmanager
def verified(mirror: Mirror, archive: Archive) -> Iterator[tuple[Zipped, str] | None]:
    """The zip of an object, which matches its checksum, and its SHA-256; None where the archive has no such object.

    It is downloaded a second time where it did not match at first.
    """
    with SpooledTemporaryFile(max_size=IN_MEMORY) as file:
        digest = _verified(mirror, archive, file)
        yield None if digest is None else (file, digest)


def published_digest(mirror: Mirror, archive: Archive) -> str | None:
    """The SHA-256 that an object should have, as its checksum file says; None where there is none."""
    url = mirror.url(archive)
    text = get(mirror.pools, f"{url}.CHECKSUM", at_most=1024, patience=mirror.patience)
    if text is None:
        return None
    named = re.fullmatch(rb"([0-9a-fA-F]{64}) [ *](\S+)\s*", text)
    if named is None or named[2].decode(errors="replace") != f"{archive.stem}.zip":
        raise _unverified(url, f"says {text[:100]!r}")
    return named[1].decode().lower()


def csv_blocks(zipped: IO[bytes], archive: Archive) -> Iterator[bytes]:
    """The one CSV in an object's zip, in blocks of whole lines, at least one.

    Another member, another name or more bytes than its rows can take is a SourceError.
    """
    name, limit, size, rest = f"{archive.stem}.csv", archive.bytes_at_most, 0, b""
    try:
        with ZipFile(zipped) as file:
            if file.namelist() != [name]:
                raise refused(archive, f"it holds {file.namelist()[:3]}, not {name} alone")
            with file.open(name) as member:
                while block := member.read(min(BLOCK, limit + 1 - size)):
                    size += len(block)
                    if size > limit:
                        rows = f"{archive.dataset.row}s"
                        raise refused(
                            archive, f"its content is larger than the {limit:,} bytes that its {rows} can take"
                        )
                    if end := block.rfind(b"\n") + 1:
                        yield rest + block[:end]
                    rest = block[end:] if end else rest + block
                    if len(rest) >= BLOCK:
                        raise refused(archive, f"it has a line of more than {BLOCK:,} bytes")
    except (BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, ValueError) as damage:
        raise refused(archive, f"it cannot be unzipped: {damage}") from None
    if rest or not size:
        yield rest


class MonthForDays:
    """The file of a month, for those of its days that have no file of their own.

    It is downloaded for the first of them and kept until `days` days were asked about, by whatever threads.
    """

    def __init__(self, mirror: Mirror, archive: Archive, days: int) -> None:
        self.archive = archive
        self._mirror = mirror
        self._days = days
        self._lock = Lock()
        self._kept = ExitStack()
        self._found: tuple[Zipped, str] | None = None
        self._asked = False

    @contextmanager
    def turn(self) -> Iterator[None]:
        """What is asked about one day; after the last one nothing is kept."""
        yield
        with self._lock:
            self._days -= 1
            if not self._days:
                self._kept.close()

    @contextmanager
    def opened(self) -> Iterator[tuple[Zipped, str] | None]:
        """The file and its SHA-256, for one thread at a time; None where there is none."""
        with self._lock:
            if not self._asked:
                self._found = self._kept.enter_context(verified(self._mirror, self.archive))
                self._asked = True
            yield self._found


def _verified(mirror: Mirror, archive: Archive, file: Zipped) -> str | None:
    url, patience = mirror.url(archive), mirror.patience
    if archive.monthly and archive.dataset.huge:
        patience = replace(patience, total=patience.total * PATIENCE_FOR_A_MONTH)
    days = -(-(archive.period.end - archive.period.start) // DAY)
    at_most = min(archive.bytes_at_most, ZIPPED_AT_MOST * days)
    for _ in range(2):
        if not download(mirror.pools, url, file, at_most=at_most, patience=patience):
            return None
        file.seek(0)
        if not (beginning := file.read(20)).startswith(b"PK"):
            raise SourceError(f"{url} is no zip: it begins with {beginning!r}", fix="check --base-url")
        expected = published_digest(mirror, archive)
        if expected is None:
            raise _unverified(url, "is missing")
        file.seek(0)
        actual = hashlib.file_digest(file, "sha256").hexdigest()
        if actual == expected:
            return actual
    raise SourceError(
        f"{url} has SHA-256 {actual}, its checksum file says {expected}, twice in a row",
        fix="nothing of it is stored: try again later, or at another --base-url",
    )


def _unverified(url: str, said: str) -> SourceError:
    return SourceError(
        f"the checksum of {url} {said}", fix="unverified data is not stored: use the origin or a full mirror"
    )
