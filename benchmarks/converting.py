"""Zipped klines → Parquet, by lab and by others: `python -m benchmarks.converting WAY ZIPS OUT [COPIES]`.

lab does what `lab fetch` does once a file is downloaded, the checksum included. The others unzip, read the CSV with its
types and write one Parquet file a month: no check, no hash, no sync.
"""

import hashlib
import io
import sys
import time
import zipfile
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from benchmarks.clock import peak_mib, tell
from benchmarks.task import SYMBOL

NAMES = [
    "open_time",
    "open",
    "high",
    "low",
    "close",
    "volume",
    "close_time",
    "quote_volume",
    "count",
    "taker_buy_volume",
    "taker_buy_quote_volume",
    "ignore",
]
WHOLE = ("open_time", "close_time", "count", "ignore")


def lab(zips: list[Path], out: Path, source: str) -> None:
    """Into the store, as `lab fetch` does it: read by several threads, committed as they come."""
    from lab import store
    from lab.nouns import Piece, Span
    from lab.sources import next_month
    from lab.sources.ahead import Result, in_order
    from lab.sources.binance import AT_ONCE
    from lab.sources.binance.datasets import DATASETS, Archive
    from lab.sources.binance.objects import csv_blocks
    from lab.sources.binance.tables import read_table

    def piece(path: Path) -> Result[Piece]:
        month = datetime.strptime(path.stem[-7:], "%Y-%m").replace(tzinfo=UTC)
        archive = Archive("spot", DATASETS["bars"], SYMBOL, "1m", Span(month, next_month(month)))
        with path.open("rb") as zipped:
            digest = hashlib.file_digest(zipped, "sha256").hexdigest()
            zipped.seek(0)
            table, rejected, repeats = read_table(csv_blocks(zipped, archive), archive)
        return Result((Piece(SYMBOL, archive.origin, digest, table, rejected, repeats),))

    def pieces() -> Iterator[Piece]:
        yield from in_order((partial(piece, path) for path in zips), AT_ONCE, lambda: None)

    for _ in store.commit_as_they_come(out, source, pieces()):
        pass


def much_lab(zips: list[Path], out: Path, copies: int) -> None:
    """The same under several sources, as if that much more history had been asked for."""
    for copy in range(copies):
        lab(zips, out, f"copy-{copy}")


def polars(zips: list[Path], out: Path) -> None:
    import polars as pl

    types = {name: pl.Int64() if name in WHOLE else pl.Float64() for name in NAMES}
    for path in zips:
        frame = pl.read_csv(_text(path), has_header=False, schema=types)
        frame.write_parquet(out / f"{path.stem}.parquet")


def pandas(zips: list[Path], out: Path) -> None:
    import pandas as pd

    types = {name: "int64" if name in WHOLE else "float64" for name in NAMES}
    for path in zips:
        frame = pd.read_csv(io.BytesIO(_text(path)), header=None, names=NAMES, dtype=types)
        frame.to_parquet(out / f"{path.stem}.parquet")


def duckdb(zips: list[Path], out: Path) -> None:
    import duckdb as engine

    types = ", ".join(f"'{name}': '{'BIGINT' if name in WHOLE else 'DOUBLE'}'" for name in NAMES)
    for path in zips:
        csv = out / f"{path.stem}.csv"  # DuckDB reads files
        csv.write_bytes(_text(path))
        source = f"read_csv('{csv}', header = false, auto_detect = false, columns = {{{types}}})"
        engine.sql(f"COPY (FROM {source}) TO '{out / path.stem}.parquet' (FORMAT parquet)")
        csv.unlink()


def _text(path: Path) -> bytes:
    with zipfile.ZipFile(path) as file:
        return file.read(file.namelist()[0])


WAYS: dict[str, Callable[[list[Path], Path], None]] = {"polars": polars, "duckdb": duckdb, "pandas": pandas}


def main(way: str, folder: Path, out: Path, copies: int = 1) -> None:
    zips = sorted(folder.glob("*.zip"))
    out.mkdir(parents=True)
    convert = partial(much_lab, copies=copies) if way == "lab" else WAYS[way]
    warm = out / "warm"
    warm.mkdir()
    lab(zips[:1], warm, "warm") if way == "lab" else WAYS[way](zips[:1], warm)
    started = time.perf_counter()
    convert(zips, out)
    seconds = time.perf_counter() - started
    megabytes = copies * sum(_size(path) for path in zips) / 1e6
    tell({"seconds": seconds, "csv_mb": megabytes, "peak_mib": peak_mib(), "files": len(zips) * copies})


def _size(path: Path) -> int:
    with zipfile.ZipFile(path) as file:
        return file.infolist()[0].file_size


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]), *map(int, sys.argv[4:]))
