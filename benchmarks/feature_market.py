"""Bars for the benchmarks of features: drawn ones of any size, and recorded ones where their folder lies beside us."""

import zipfile
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pandas as pd
import polars as pl

from lab.nouns import MICROSECOND, OPTIONAL_COLUMNS, SIGNED, Bars, Vector, interval_length

RECORDED = Path(__file__).parents[1].parent / "shared" / "market"
KLINES = RECORDED / "crypto" / "binance_um_futures" / "klines_1m"
KLINE_NAMES = {"count": "trades", "taker_buy_volume": "buy_volume"}
KLINE_COLUMNS = ("open", "high", "low", "close", "volume", "quote_volume", "trades", "buy_volume")
SWITCHING = 0.005  # chance of a bar to end a calm or volatile stretch
CALM, VOLATILE = 0.6, 1.8
START = datetime(2007, 1, 1, tzinfo=UTC)


def drawn(symbol: str, rows: int, seed: int, deviation: float = 1e-3) -> dict[str, Vector]:
    """The columns of a walk that is now calm, now volatile; its bars all have a range and a volume, as klines do."""
    rng = np.random.default_rng([seed, *symbol.encode()])
    pace = deviation * np.where(np.cumsum(rng.random(rows) < SWITCHING) % 2, VOLATILE, CALM)
    close = 100 * np.exp(np.cumsum(rng.normal(0, pace) - pace**2 / 2))
    opened = np.concatenate([[100.0], close[:-1]]) * np.exp(rng.normal(0, deviation / 5, rows))
    top, bottom = np.maximum(opened, close), np.minimum(opened, close)
    volume = rng.lognormal(3, 1, rows)
    return {
        "open": opened,
        "high": top * np.exp(rng.exponential(deviation / 2, rows)),
        "low": bottom * np.exp(-rng.exponential(deviation / 2, rows)),
        "close": close,
        "volume": volume,
        "quote_volume": volume * (opened + close) / 2,
        "trades": np.ceil(volume),
        "buy_volume": volume * rng.beta(4, 4, rows),
    }


def minutes(rows: int, symbol: str = "WALK", seed: int = 1) -> Bars:
    """One-minute bars of a random walk, unbroken."""
    step = interval_length("1m") // MICROSECOND
    times = int(START.timestamp() * 1e6) + step * np.arange(1, rows + 1)
    return Bars.of(_frame(symbol, times, drawn(symbol, rows, seed)), "1m")


def days(symbols: int, seed: int = 1) -> Bars:
    """Daily bars of a panel: every business day from 2007 to 2020 for every symbol."""
    dates = pd.bdate_range("2007-01-01", "2020-12-31", tz="UTC")
    times = dates.as_unit("us").asi8
    names = [f"S{number:04d}" for number in range(symbols)]
    frames = [_frame(name, times, drawn(name, times.size, seed, deviation=0.02)) for name in names]
    return Bars.of(pl.concat(frames), "1d", "weekdays")


def with_drawn_side_columns(bars: Bars, seed: int = 1) -> Bars:
    """The same bars with made-up quotes, books and side data beside them, for features that need these."""
    rng = np.random.default_rng(seed)
    rows, close = bars.frame.height, bars.frame["close"].to_numpy()
    half = close * rng.lognormal(-9, 0.5, rows)
    columns = {"vwap": close * (1 + rng.normal(0, 1e-5, rows)), "bid": close - half, "ask": close + half}
    columns |= {"spread": 2 * half, "micro_price": close + half * rng.uniform(-1, 1, rows)}
    for name in OPTIONAL_COLUMNS:
        if name not in (*columns, *bars.frame.columns):
            columns[name] = rng.normal(0, 1, rows) if name in SIGNED else rng.lognormal(1, 1, rows)
    return replace(bars, frame=bars.frame.hstack(pl.DataFrame(columns)))


def recorded(symbol: str, months: tuple[str, ...], rows: int) -> Bars:
    """The first `rows` recorded one-minute bars of a future; an absent month is a FileNotFoundError."""
    return Bars.of(pl.concat([_month(symbol, month) for month in months]).head(rows), "1m")


def _month(symbol: str, month: str) -> pl.DataFrame:
    with zipfile.ZipFile(KLINES / f"{symbol}-1m-{month}.zip") as file:
        table = pl.read_csv(file.read(file.namelist()[0])).rename(KLINE_NAMES)
    # Time is that of the close: a minute after the open.
    closed = (pl.col("open_time") * 1000 + interval_length("1m") // MICROSECOND).cast(pl.Datetime("us", "UTC"))
    return table.select(pl.lit(symbol).alias("symbol"), closed.alias("time"), pl.col(KLINE_COLUMNS).cast(pl.Float64))


def _frame(symbol: str, times: "np.typing.NDArray[np.int64]", columns: dict[str, Vector]) -> pl.DataFrame:
    keys = {
        "symbol": pl.Series([symbol]).new_from_index(0, times.size),
        "time": pl.Series(times).cast(pl.Datetime("us", "UTC")),
    }
    return pl.DataFrame({**keys, **columns})
