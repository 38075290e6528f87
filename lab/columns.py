"""Columns that were computed before, kept under the hash of everything they were made from."""

import hashlib
import json
from collections.abc import Callable, Sequence
from io import BytesIO
from pathlib import Path

import polars as pl

from lab.files import parquet, write_atomically


def remember(folder: Path, make: Callable[[], pl.DataFrame]) -> pl.DataFrame:
    """The table that `make` returns, or the one that `folder` kept of an earlier call.

    A kept file is used only if its own SHA-256, which is its name, still holds; otherwise the table is made again.
    """
    for path in folder.glob("*.parquet"):
        data = path.read_bytes()
        if hashlib.sha256(data).hexdigest() == path.stem:
            return pl.read_parquet(BytesIO(data))
        path.unlink()
    table = make()
    data = parquet(table)
    write_atomically(folder / f"{hashlib.sha256(data).hexdigest()}.parquet", data)
    return table


def folder_of(root: Path, made_from: Sequence[str]) -> Path:
    """Where a table lies under the data folder: named by hashes of bars, formulas and code, never by a name."""
    key = hashlib.sha256(json.dumps(list(made_from)).encode()).hexdigest()[:16]
    return root / "kind=features" / f"set={key}"
