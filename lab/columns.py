"""Columns that were computed before, kept under the hash of everything they were made from."""

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import polars as pl

from lab.files import parquet, write_atomically

LIST = "parts.json"
FILE_BYTES = 1 << 27  # of a part in memory


def remember(folder: Path, make: Callable[[], Iterable[pl.DataFrame]]) -> list[Path]:
    """The files that hold, in their order, the tables which `make` yields, or which `folder` kept of an earlier call.

    No more is in memory at a time than one file holds. Kept files are used only if the SHA-256 that each is named by
    still holds; otherwise everything is made again.
    """
    kept = _kept(folder)
    if kept:
        return kept
    paths = []
    for number, table in enumerate(_gathered(make())):
        data = parquet(table)
        paths.append(folder / f"{number:05d}-{hashlib.sha256(data).hexdigest()}.parquet")
        write_atomically(paths[-1], data)
    write_atomically(folder / LIST, json.dumps([path.name for path in paths]).encode())  # last: now it is whole
    return paths


def read(paths: Iterable[Path]) -> pl.DataFrame:
    """Everything that these files hold, in one table."""
    return pl.concat(map(pl.read_parquet, paths))


def null_counts(paths: Iterable[Path]) -> dict[str, int]:
    """How many nulls each column has; one file is in memory at a time."""
    counts: Counter[str] = Counter()
    for path in paths:
        counts.update(pl.read_parquet(path).null_count().row(0, named=True))
    return dict(counts)


def folder_of(root: Path, made_from: Sequence[str]) -> Path:
    """Where tables lie under the data folder: named by hashes of bars, formulas and code, never by a name."""
    key = hashlib.sha256(json.dumps(list(made_from)).encode()).hexdigest()[:16]
    return root / "kind=features" / f"set={key}"


def _kept(folder: Path) -> list[Path]:
    if not (folder / LIST).is_file():
        return []
    paths = [folder / str(name) for name in json.loads((folder / LIST).read_bytes())]
    return paths if all(_is_whole(path) for path in paths) else []


def _is_whole(path: Path) -> bool:
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest() == path.stem.partition("-")[2]


def _gathered(tables: Iterable[pl.DataFrame]) -> Iterator[pl.DataFrame]:
    """The same rows in tables of about the size of a file; one at least."""
    waiting: list[pl.DataFrame] = []
    for table in tables:
        waiting.append(table)
        if sum(each.height * each.width * 8 for each in waiting) >= FILE_BYTES:
            yield pl.concat(waiting)
            waiting = []
    if waiting:
        yield pl.concat(waiting)
