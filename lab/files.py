"""Bytes → disk, whole or not at all: how every file that must survive a crash is written."""

import fcntl
import os
import secrets
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from io import BytesIO
from pathlib import Path

import polars as pl

from lab.errors import LabError


def write_atomically(path: Path, data: bytes) -> None:
    """Put `data` at `path`, on the disk before this returns; a reader sees the old bytes or the new, never a part.

    Temporary file beside the target, fsync, rename, fsync of the folder. Missing folders are made. A kill leaves
    at most a file whose name ends in `.tmp`. What the system refuses (no space, no permission) is a LabError.
    """
    with refusals(path), _staged(path, data) as temporary:
        temporary.replace(path)
        _flush_folder(path.parent)


def publish_once(path: Path, data: bytes) -> None:
    """Put `data` at `path` unless something is there: of several writers exactly one wins, the others get LabError."""
    with refusals(path), _staged(path, data) as temporary:
        try:
            os.link(temporary, path)  # unlike a rename, a link never replaces
        except FileExistsError:
            raise LabError(
                f"another process wrote {path} at the same moment", fix="run the same command again"
            ) from None
        try:
            _flush_folder(path.parent)
        except OSError:
            path.unlink()  # nobody may build on what may not last
            raise


def move(paths: Iterable[Path], folder: Path) -> None:
    """Put files into another folder; at any moment, and after a loss of power, each is in one of the two."""
    paths = list(paths)
    if not paths:
        return
    with refusals(folder):
        _make_folder(folder)
        for path in paths:
            (folder / path.name).unlink(missing_ok=True)
            os.link(path, folder / path.name)
        _flush_folder(folder)
        for path in paths:
            path.unlink()


def flush_folder(folder: Path) -> None:
    """Return once the names in a folder are on the disk, as somebody may have been killed before he saw to it."""
    with refusals(folder):
        _flush_folder(folder)


def remove(paths: Iterable[Path]) -> int:
    """Remove files, for good before this returns; the bytes that they had."""
    freed, folders = 0, set()
    for path in paths:
        with refusals(path):
            freed += path.stat().st_size
            path.unlink()
            folders.add(path.parent)
    for folder in folders:
        flush_folder(folder)
    return freed


def parquet(frame: pl.DataFrame) -> bytes:
    """A table as the bytes of a Parquet file; the same rows give the same bytes."""
    buffer = BytesIO()
    frame.rechunk().write_parquet(buffer, compression="zstd", compression_level=3)
    return buffer.getvalue()


@contextmanager
def exclusive(path: Path) -> Iterator[None]:
    """Hold the lock file `path`, alone among threads and processes; the system lets go when the holder dies."""
    with refusals(path):
        _make_folder(path.parent)
        lock = os.open(path, os.O_WRONLY | os.O_CREAT, 0o666)
    try:
        with refusals(path):
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        with suppress(OSError):  # nothing was written to it
            os.close(lock)


@contextmanager
def refusals(path: Path) -> Iterator[None]:
    """What the system refuses becomes a LabError that names `path` and the cause."""
    try:
        yield
    except OSError as refused:
        raise LabError(
            f"{path} cannot be written: {refused.strerror}",
            fix="make room or allow it, then run the same command again",
        ) from refused


def append_line(path: Path, line: str) -> None:
    """Add a line to a text file that only ever grows, on the disk before this returns; writers take turns.

    What the system refuses is a LabError, and nothing of the line is left.
    """
    with exclusive(path.with_name(f".{path.name}.lock")), refusals(path), path.open("ab", buffering=0) as file:
        size = file.seek(0, os.SEEK_END)
        rest = f"{line}\n".encode()
        try:
            while rest:
                rest = rest[file.write(rest) :]
            os.fsync(file.fileno())
        except OSError:
            file.truncate(size)
            raise


@contextmanager
def _staged(path: Path, data: bytes) -> Iterator[Path]:
    temporary = path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}.tmp")
    _make_folder(path.parent)
    try:
        with temporary.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        yield temporary
    finally:
        with suppress(OSError):  # renamed, or for the next sweep
            temporary.unlink()


def _make_folder(folder: Path) -> None:
    """A folder with something in it has a name that will last; of an empty one, the maker may have been killed."""
    if folder != folder.parent and (not folder.is_dir() or not any(folder.iterdir())):  # "." and "/" are their own
        _make_folder(folder.parent)
        folder.mkdir(exist_ok=True)
        _flush_folder(folder.parent)  # a folder's name lives in its parent


def _flush_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
