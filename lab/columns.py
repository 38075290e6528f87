"""Columns that were computed before, kept under the hash of everything they were made from."""

import hashlib
import json
from collections.abc import Callable, Sequence
from io import BytesIO
from pathlib import Path

import polars as pl

from lab.files import write_atomically


def remember(root: Path, made_from: Sequence[str], make: Callable[[], pl.DataFrame]) -> pl.DataFrame:
    """The table that `make` returns, or the one kept from an earlier call with the same `made_from`.

    made_from: hashes of the bars, the formulas and the code; never a name. A kept file is used only if its own
    SHA-256, which is its name, still holds; otherwise the table is made again.
    """
    folder = folder_of(root, made_from)
    for path in folder.glob("*.parquet"):
        data = path.read_bytes()
        if hashlib.sha256(data).hexdigest() == path.stem:
            return pl.read_parquet(BytesIO(data))
        path.unlink()
    table = make()
    buffer = BytesIO()
    table.write_parquet(buffer, compression="lz4")
    data = buffer.getvalue()
    write_atomically(folder / f"{hashlib.sha256(data).hexdigest()}.parquet", data)
    return table


def folder_of(root: Path, made_from: Sequence[str]) -> Path:
    """Where the table made from this lies, under the data folder."""
    key = hashlib.sha256(json.dumps(list(made_from)).encode()).hexdigest()[:16]
    return root / "kind=features" / f"set={key}"
