"""A large store: a month out of it, and a finished fetch again: `python -m benchmarks.reading FOLDER`."""

import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import polars as pl

from benchmarks.clock import tell
from lab import store
from lab.nouns import Bars, Piece, Span
from lab.sources import months
from lab.sources.binance.datasets import DATASETS, Archive

SYMBOLS = [f"COIN{n}USDT" for n in range(10)]
SPAN = Span(datetime(2015, 1, 1, tzinfo=UTC), datetime(2024, 8, 1, tzinfo=UTC))
MONTH = Span(datetime(2020, 3, 1, tzinfo=UTC), datetime(2020, 4, 1, tzinfo=UTC))
MINUTE = timedelta(minutes=1)
ROUNDS = 15


def fill(root: Path) -> int:
    """115 months of one-minute bars of ten symbols, as `lab fetch` leaves them; returns the rows."""
    times = pl.datetime_range(SPAN.start + MINUTE, SPAN.end, MINUTE, time_unit="us", eager=True)
    random = np.random.default_rng(1)
    close = np.round(100 * np.exp(np.cumsum(random.normal(0, 1e-4, times.len()))), 2)
    volume = np.round(random.lognormal(3, 1, times.len()), 3)
    columns = {"open": close, "high": close + 0.5, "low": close - 0.5, "close": close, "volume": volume}
    frame = pl.DataFrame({"time": times, **columns, "buy_volume": volume / 2, "trades": np.ceil(volume)})
    for symbol in SYMBOLS:
        own = frame.with_columns(symbol=pl.lit(symbol)).select("symbol", *frame.columns)
        store.commit(root / "data", "binance", [_piece(symbol, own, month) for month in months(SPAN)])
    return frame.height * len(SYMBOLS)


def _piece(symbol: str, frame: pl.DataFrame, month: Span) -> Piece:
    archive = Archive("spot", DATASETS["bars"], symbol, "1m", month)
    rows = frame.filter((pl.col("time") > month.start) & (pl.col("time") <= month.end))
    return Piece(symbol, archive.origin, "0", Bars(rows, "1m"))


def readers(root: Path) -> dict[str, Callable[[], int]]:
    """Ways to read the bars of one symbol that opened in one month; each returns their number."""
    files = f"{root}/data/kind=bars/**/*.parquet"
    wanted = (pl.col("symbol") == SYMBOLS[3]) & (pl.col("month") == f"{MONTH.start:%Y-%m}")
    closes = Span(MONTH.start + MINUTE, MONTH.end + MINUTE)

    def lab() -> int:
        return store.read_bars(root / "data", "binance", [SYMBOLS[3]], "1m", closes).frame.height

    def polars() -> int:
        return pl.scan_parquet(files, hive_partitioning=True).filter(wanted).collect().height

    def sql() -> int:
        where = f"symbol = '{SYMBOLS[3]}' and month = '{MONTH.start:%Y-%m}'"
        found = duckdb.sql(f"select * from read_parquet('{files}', hive_partitioning = true) where {where}")
        return int(found.to_arrow_table().num_rows)

    def polars_one_symbol() -> int:
        own = f"{root}/data/kind=bars/source=binance/symbol={SYMBOLS[3]}/interval=1m/**/*.parquet"
        return pl.scan_parquet(own, hive_partitioning=True).filter(wanted).collect().height

    return {"lab": lab, "Polars": polars, "Polars, that symbol's folder": polars_one_symbol, "DuckDB": sql}


def fetched_again(root: Path) -> float:
    """Seconds of a `lab fetch` for which all is here, from start to exit; nobody listens at its mirror."""
    span = [f"--start={SPAN.start:%Y-%m-%d}", f"--end={SPAN.end:%Y-%m-%d}"]
    command = [sys.executable, "-m", "cli", "fetch", *SYMBOLS, "--base-url", "http://127.0.0.1:9", *span]
    started = time.perf_counter()
    environment = {"PYTHONPATH": str(Path(__file__).parents[1])}
    done = subprocess.run(command, cwd=root, env=environment, check=True, capture_output=True, text=True)
    assert done.stdout.count("already here") == len(SYMBOLS)
    return time.perf_counter() - started


def main(root: Path) -> None:
    root.mkdir(parents=True)
    rows = fill(root)
    ways = readers(root)
    first: dict[str, float] = {}
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for name, way in ways.items():
        started = time.perf_counter()
        assert way() == (MONTH.end - MONTH.start) // MINUTE
        first[name] = time.perf_counter() - started
    for _ in range(ROUNDS):
        for name, way in ways.items():
            started = time.perf_counter()
            way()
            seconds[name].append(time.perf_counter() - started)
    again = [fetched_again(root) for _ in range(5)]
    files = sum(1 for _ in root.glob("data/kind=bars/**/*.parquet"))
    answer: dict[str, Any] = {"rows": rows, "files": files, "seconds": seconds, "first": first, "again": again}
    tell(answer)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
