"""The ways of `benchmarks.closing`: `python -m benchmarks.closers publish|measure|compare …`."""

import sys
from collections.abc import Callable, Iterable
from datetime import timedelta
from pathlib import Path
from typing import Any, Literal

import duckdb
import numpy as np
import polars as pl

from benchmarks.clock import Clock, peak_mib, tell
from lab.bars import close_bars
from lab.kinds import TRADES
from lab.nouns import EVENTS, PRICES, Span
from lab.sources import Request
from lab.sources.synthetic import BIRTH, synthetic

REAL = Path(__file__).parents[2] / "shared/market/crypto/binance_spot/aggtrades/XRPETH-aggTrades-2019-10.parquet"
SYMBOL, INTERVAL = "XRPETH", "1s"
PART = 1_000_000  # trades a file
FEW = 20_000
SUMS = ("volume", "buy_volume", "quote_volume", "vwap", "trades")


def lab(trades: Iterable[pl.DataFrame]) -> pl.DataFrame:
    """`lab.bars`, batch by batch."""
    return pl.concat([bars.frame for bars in close_bars(trades, INTERVAL, until=BIRTH.replace(year=2100))])


def polars(trades: pl.LazyFrame, engine: Literal["in-memory", "streaming"]) -> pl.DataFrame:
    """`group_by_dynamic`, the way that Polars has for windows of time."""
    price, size = pl.col("price"), pl.col("size")
    grouped = trades.group_by_dynamic("time", every=INTERVAL, closed="left", label="right")
    return grouped.agg(
        open=price.first(),
        high=price.max(),
        low=price.min(),
        close=price.last(),
        volume=size.sum(),
        buy_volume=size.filter(pl.col("side") > 0).sum(),
        quote_volume=(price * size).sum(),
        vwap=(price * size).sum() / size.sum(),
        trades=pl.col("count").sum().cast(pl.Float64),
    ).collect(engine=engine)


def duck(source: str, **tables: pl.DataFrame) -> pl.DataFrame:
    """One SQL query, over files or a registered table."""
    query = f"""
        select time_bucket(interval '1 second', time) + interval '1 second' as time,
            arg_min(price, id) as open, max(price) as high, min(price) as low, arg_max(price, id) as close,
            sum(size) as volume, sum(case when side > 0 then size else 0 end) as buy_volume,
            sum(price * size) as quote_volume, sum(price * size) / sum(size) as vwap, sum(count)::double as trades
        from {source} group by 1 order by 1
    """
    with duckdb.connect() as connection:
        for name, table in tables.items():
            connection.register(name, table)
        relation = connection.sql(query)
        assert relation is not None
        bars: pl.DataFrame = relation.pl()
    return bars


def ways_from_files(files: list[Path]) -> dict[str, Callable[[], pl.DataFrame]]:
    return {
        "lab": lambda: lab(pl.read_parquet(path) for path in files),
        "polars": lambda: polars(pl.scan_parquet(files), "streaming"),
        "duckdb": lambda: duck(f"read_parquet({[str(path) for path in files]})"),
    }


def ways_from_memory(batches: list[pl.DataFrame]) -> dict[str, Callable[[], pl.DataFrame]]:
    whole = pl.concat(batches, rechunk=True)
    return {
        "lab": lambda: lab(batches),
        "polars": lambda: polars(whole.lazy(), "in-memory"),
        "duckdb": lambda: duck("whole", whole=whole),
    }


def publish(folder: Path, rows: int) -> dict[str, Any]:
    """Write both markets as Parquet files of a million trades; says which trades they are made of."""
    real = _real() if REAL.is_file() else _made_up()
    copies = -(-rows // real.height)
    length = real["time"][-1] - real["time"][0] + timedelta(seconds=1)
    for market, step in (("thin", length), ("busy", timedelta(milliseconds=1))):
        shifted = pl.concat([real.with_columns(pl.col("time") + k * step) for k in range(copies)]).head(rows)
        trades = shifted.sort("time", maintain_order=True).with_columns(id=pl.int_range(pl.len()))
        for first in range(0, rows, PART):
            path = folder / market / f"{first:010}.parquet"
            path.parent.mkdir(parents=True, exist_ok=True)
            trades[first : first + PART].write_parquet(path, compression="zstd", compression_level=3)
    return {"trades": "real" if REAL.is_file() else "made up"}


def _real() -> pl.DataFrame:
    raw = pl.read_parquet(REAL)
    columns = {
        "symbol": pl.lit(SYMBOL),
        "time": pl.col("time"),
        "price": pl.col("price"),
        "size": pl.col("qty"),
        "side": 1 - 2 * pl.col("is_buyer_maker").cast(pl.Int8),
        "id": pl.col("agg_trade_id"),
        "count": pl.col("last_trade_id") - pl.col("first_trade_id") + 1,
    }
    return raw.select(columns[name].cast(dtype).alias(name) for name, dtype in TRADES.schema(columns).items())


def _made_up() -> pl.DataFrame:
    request = Request(("FLOW-1",), EVENTS, Span(BIRTH, BIRTH + timedelta(hours=1)), TRADES.name)
    (piece,) = synthetic.fetch(request, {})
    assert piece.table is not None
    return piece.table.frame.with_columns(count=pl.lit(1, pl.Int64))


def measure(way: str, folder: Path) -> dict[str, Any]:
    """Seconds and peak memory of one way through one market; leaves its bars beside the trades."""
    files = sorted(folder.glob("*.parquet"))
    few = pl.read_parquet(files[0]).head(FEW)
    few.write_parquet(folder / "few")
    ways_from_files([folder / "few"])[way]()
    clock = Clock()
    with clock.stage("files"):
        bars = ways_from_files(files)[way]()
    peak = peak_mib()
    batches = [pl.read_parquet(path) for path in files]
    from_memory = ways_from_memory(batches)[way]
    with clock.stage("memory"):
        from_memory()
    np.save(folder / f"{way}.npy", bars.select(*PRICES, *SUMS).to_numpy())
    return {"seconds": clock.seconds, "peak_mib": peak, "bars": bars.height}


def compare(folder: Path) -> dict[str, float]:
    """The largest relative difference of any number of any bar from lab's, by way; prices must be the same."""
    bars = {way: np.load(folder / f"{way}.npy") for way in ("lab", "polars", "duckdb")}
    mine = bars.pop("lab")
    return {
        way: float(np.max(np.abs(theirs - mine) / np.maximum(np.abs(mine), 1e-9)))
        if theirs.shape == mine.shape and np.array_equal(theirs[:, :4], mine[:, :4])
        else float("inf")
        for way, theirs in bars.items()
    }


def main() -> None:
    match sys.argv[1:]:
        case ["publish", folder, rows]:
            tell(publish(Path(folder), int(rows)))
        case ["measure", folder, way]:
            tell(measure(way, Path(folder)))
        case ["compare", folder]:
            tell(compare(Path(folder)))


if __name__ == "__main__":
    main()
