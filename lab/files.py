"""Bytes → disk, whole or not at all: how every file that must survive a crash is written."""

import fcntl
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path

import polars as pl

from lab.errors import LabError


def write_atomically(path: Path, data: bytes) -> None:
    """Put `data` at `path`, on the disk before this returns; a reader sees the old bytes or the new, never a part.

    Temporary file beside the target, fsync, rename, fsync of the folder. Missing folders are made. A kill leaves
    at most a file whose name ends in `.tmp`. What the system refuses (no space, no permission) is a LabError.
    """
    with _staged(path, data) as temporary:
        temporary.replace(path)
        _flush_folder(path.parent)


def publish_once(path: Path, data: bytes) -> None:
    """Put `data` at `path` unless something is there: of several writers exactly one wins, the others get LabError."""
    with _staged(path, data) as temporary:
        os.link(temporary, path)  # unlike a rename, a link never replaces
        _flush_folder(path.parent)


def parquet(frame: pl.DataFrame) -> bytes:
    """A table as the bytes of a Parquet file; the same rows give the same bytes."""
    buffer = BytesIO()
    frame.rechunk().write_parquet(buffer, compression="zstd", compression_level=3)
    return buffer.getvalue()


@contextmanager
def exclusive(path: Path) -> Iterator[None]:
    """Hold the lock file `path`, alone among threads and processes; the system lets go when the holder dies."""
    _make_folder(path.parent)
    with path.open("ab") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


@contextmanager
def _staged(path: Path, data: bytes) -> Iterator[Path]:
    temporary = path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}.tmp")
    try:
        _make_folder(path.parent)
        with temporary.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        yield temporary
    except FileExistsError:
        raise LabError(f"another process wrote {path} at the same moment", fix="run the same command again") from None
    except OSError as refused:
        raise LabError(
            f"{path} cannot be written: {refused.strerror}",
            fix="make room or allow it, then run the same command again",
        ) from refused
    finally:
        temporary.unlink(missing_ok=True)


def _make_folder(folder: Path) -> None:
    if not folder.is_dir():
        _make_folder(folder.parent)
        folder.mkdir(exist_ok=True)
        _flush_folder(folder.parent)  # a new folder's name lives in its parent


def _flush_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def append_line(path: Path, line: str) -> None:
    """Add a line to a text file that only ever grows, on the disk before this returns; writers take turns."""
    _make_folder(path.parent)
    with exclusive(path.with_name(f".{path.name}.lock")), path.open("a", encoding="utf-8") as file:
        file.write(line + "\n")
        file.flush()
        os.fsync(file.fileno())
