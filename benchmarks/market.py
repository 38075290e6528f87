"""A synthetic market as an exchange publishes it: `python -m benchmarks.market FOLDER ROWS`."""

import sys
import zipfile
from pathlib import Path

import polars as pl

from benchmarks.clock import tell
from benchmarks.task import MARKET, SEED, SYMBOL
from lab.nouns import INTERVALS, MICROSECOND
from lab.sources.synthetic import INTERVAL, simulate

MILLISECOND = 1000 * MICROSECOND


def publish(folder: Path, rows: int) -> int:
    """Write one zipped kline CSV a month, without a header, as the spot archive does; returns their bytes."""
    target = folder / "zips"
    target.mkdir(parents=True)
    for (month,), lines in _klines(rows).partition_by("month", as_dict=True, include_key=False).items():
        stem = f"{SYMBOL}-{INTERVAL}-{month}"
        with zipfile.ZipFile(target / f"{stem}.zip", "w", zipfile.ZIP_DEFLATED) as file:
            file.writestr(f"{stem}.csv", lines.write_csv(include_header=False))
    return sum(path.stat().st_size for path in target.iterdir())


def _klines(rows: int) -> pl.DataFrame:
    """The bars with the twelve columns of a kline, and the month of their open."""
    length = INTERVALS[INTERVAL]
    opened = pl.col("time") - length
    return simulate(MARKET, SEED, rows).frame.select(
        opened.dt.epoch("ms").alias("open_time"),
        "open",
        "high",
        "low",
        "close",
        "volume",
        (pl.col("time") - MILLISECOND).dt.epoch("ms").alias("close_time"),
        "quote_volume",
        pl.col("trades").cast(pl.Int64),
        "buy_volume",
        taker_buy_quote_volume=(pl.col("buy_volume") / pl.col("volume") * pl.col("quote_volume")).round(6),
        ignore=pl.lit(0),
        month=opened.dt.strftime("%Y-%m"),
    )


if __name__ == "__main__":
    tell({"bytes": publish(Path(sys.argv[1]), int(sys.argv[2]))})
