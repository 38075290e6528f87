"""Tables that people have as files: CSV (plain, .zip, .gz) or Parquet → a frame, read only as far as it is needed."""

import gzip
import hashlib
import zlib
from io import BytesIO
from pathlib import Path
from zipfile import BadZipFile, ZipFile

import polars as pl

from lab.errors import SourceError, UsageError

LARGE = 200 << 20  # bytes of a Parquet file, above which its symbols are read one by one
UNZIPPED_AT_MOST = 8 << 30
LINE_AT_MOST = 1 << 20
SEPARATORS = (",", ";", "\t", "|")
PARQUET, ZIP, GZIP = b"PAR1", b"PK", b"\x1f\x8b"


def digest_of(path: Path) -> str:
    """SHA-256 of the file; one that cannot be opened is a UsageError."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as refused:
        raise UsageError(f"{path} cannot be read: {refused.strerror}", fix="check --path") from None


def table_of(path: Path, *, headed: bool = True) -> pl.LazyFrame:
    """The file as it is: Parquet with its own types, CSV as text; without a header its columns are 1, 2, 3, ….

    What separates the cells of a CSV is found out from its first line; bytes that are not UTF-8 become �, and lines
    without a cell are no rows.
    """
    try:
        table = _parquet(path) if _begins_with(path, PARQUET) else _csv(path, headed)
        names = table.collect_schema().names()
    except (pl.exceptions.PolarsError, BadZipFile, OSError, EOFError, zlib.error, RuntimeError) as damage:
        raise unreadable(path, damage) from None
    return table if headed else table.rename({name: str(n) for n, name in enumerate(names, start=1)})


def unreadable(path: Path, damage: Exception) -> SourceError:
    """The error for a file that is not what it seems."""
    return SourceError(
        f"{path} cannot be read: {str(damage).splitlines()[0]}", fix="give a CSV, a zipped CSV or a Parquet file"
    )


def is_large(path: Path) -> bool:
    """Whether the rows of all symbols at once might fill the memory; a CSV is there as a whole anyway."""
    return path.stat().st_size > LARGE and _begins_with(path, PARQUET)


def _parquet(path: Path) -> pl.LazyFrame:
    return pl.scan_parquet(path, glob=False, hive_partitioning=False)


def _csv(path: Path, headed: bool) -> pl.LazyFrame:
    text = _only_member(path) if _begins_with(path, ZIP) else path.read_bytes()
    table = pl.read_csv(
        BytesIO(text), has_header=headed, infer_schema=False, encoding="utf8-lossy", separator=_separator(text)
    )
    return table.filter(~pl.all_horizontal(pl.all().is_null())).lazy()


def _separator(text: bytes) -> str:
    """What separates cells: the character that the first line has most of, a comma where it has none."""
    with gzip.open(BytesIO(text)) if text.startswith(GZIP) else BytesIO(text) as file:
        first = file.readline(LINE_AT_MOST).decode(errors="replace")
    return max(SEPARATORS, key=first.count)


def _only_member(path: Path) -> bytes:
    with ZipFile(path) as file:
        members = file.infolist()
        if len(members) != 1:
            raise SourceError(f"{path} holds {len(members)} files", fix="unpack it and give one of them to --path")
        if members[0].file_size > UNZIPPED_AT_MOST:
            raise SourceError(f"{path} unpacks to {members[0].file_size:,} bytes", fix="cut it into smaller files")
        return file.read(members[0])


def _begins_with(path: Path, magic: bytes) -> bool:
    with path.open("rb") as file:
        return file.read(len(magic)) == magic
