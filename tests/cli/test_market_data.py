"""A new user's afternoon: real history of every shape from loopback replicas, and questions about it."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from tests.archive import Archive, month_path, serving, zipped

ROOT = Path(__file__).parents[2]
GOLD_BOOK = """
kind = "books"
symbol = "GC"
[columns]
time = "transact_time"
bid = { pattern = "bid_price_{}", from = 0, levels = 5 }
bid_size = { pattern = "bid_quantity_{}", from = 0, levels = 5 }
ask = { pattern = "offer_price_{}", from = 0, levels = 5 }
ask_size = { pattern = "offer_quantity_{}", from = 0, levels = 5 }
"""
GOLD_TRADES = """
kind = "trades"
symbol = "GC"
[columns]
time = "transact_time"
price = "price"
size = "quantity"
side = "side"
[values.side]
O = 1
B = -1
"""


class User:
    """Somebody at a shell in an empty folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()

    def lab(self, *arguments: object) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "cli", *map(str, arguments)],
            cwd=self.folder,
            env={**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "200"},
            capture_output=True,
            text=True,
            timeout=240,
        )
        assert (done.returncode, "Traceback" in done.stderr) == (0, False), (arguments, done.stderr)
        return done.stdout

    def asked(self, *arguments: object) -> Any:
        return json.loads(self.lab(*arguments, "--json"))


@pytest.fixture
def archive(tmp_path: Path) -> Iterator[Archive]:
    with serving(tmp_path / "archive") as served:
        yield served


@pytest.fixture
def user(tmp_path: Path) -> User:
    return User(tmp_path / "user")


def publish_klines(archive: Archive, real: Path) -> None:
    spot, futures = (real / "crypto" / name / "klines_1m" for name in ("binance_spot", "binance_um_futures"))
    archive.publish(month_path("BTCUSDT", "2026-03"), (spot / "BTCUSDT-1m-2026-03.zip").read_bytes())
    archive.publish(month_path("FILUSDT", "2024-10", "futures/um"), (futures / "FILUSDT-1m-2024-10.zip").read_bytes())


def publish_trades(archive: Archive, real: Path) -> int:
    """The recorded aggTrades of XRPETH as the exchange serves them: a headerless file a day."""
    rows = pl.read_parquet(real / "crypto/binance_spot/aggtrades/XRPETH-aggTrades-2019-10.parquet")
    lines = rows.select(
        "agg_trade_id",
        "price",
        "qty",
        "first_trade_id",
        "last_trade_id",
        pl.col("time").dt.epoch("ms"),
        *(pl.col(name).cast(pl.String).str.to_titlecase() for name in ("is_buyer_maker", "is_best_match")),
    )
    dated = lines.with_columns(day=rows["time"].dt.strftime("%Y-%m-%d"))
    for (day,), own in dated.partition_by("day", as_dict=True, include_key=False).items():
        stem = f"XRPETH-aggTrades-{day}"
        path = f"data/spot/daily/aggTrades/XRPETH/{stem}.zip"
        archive.publish(path, zipped(f"{stem}.csv", own.write_csv(include_header=False)))
    return rows.height


def publish_tardis(archive: Archive, real: Path) -> None:
    for kind in ("trades", "quotes"):
        target = archive.folder / f"binance-futures/{kind}/2020/02/22/BTCUSDT.csv.gz"
        target.parent.mkdir(parents=True)
        sample = real / f"crypto/tardis_sample/binance-futures_{kind}_2020-02-22_BTCUSDT.csv.gz"
        target.write_bytes(sample.read_bytes())


def write_lobster(folder: Path, real: Path) -> Path:
    """The recorded day of Amazon as LOBSTER ships it: two files without headers."""
    rows = pl.read_parquet(real / "equity/lobster/AMZN-2012-06-21-message_and_book_level1.parquet")
    ticks = pl.col("price", "best_ask", "best_bid") * 10_000
    whole = rows.with_columns(ticks.round().cast(pl.Int64))
    stem = "AMZN_2012-06-21_34200000_57600000_{}_1.csv"
    message = folder / stem.format("message")
    columns = ("seconds_after_midnight_et", "event_type", "order_id", "size", "price", "direction")
    whole.select(columns).write_csv(message, include_header=False)
    book = whole.select("best_ask", "best_ask_size", "best_bid", "best_bid_size")
    book.write_csv(folder / stem.format("orderbook"), include_header=False)
    return message


def test_a_new_user_fetches_every_shape_and_asks_for_what_is_missing(
    archive: Archive, user: User, real_markets: Path, tmp_path: Path
) -> None:
    publish_klines(archive, real_markets)
    trades = publish_trades(archive, real_markets)
    publish_tardis(archive, real_markets)
    mirror = ("--base-url", archive.url)

    march = ("--start", "2026-03-01", "--end", "2026-04-01")
    assert "+44,640 rows" in user.lab("fetch", "BTCUSDT", *march, *mirror)
    october = ("--start", "2024-10-01", "--end", "2024-11-01")
    assert "+44,640 rows" in user.lab("fetch", "FILUSDT", "--source", "binance-um", *october, *mirror)
    days = ("--start", "2019-10-11", "--end", "2019-10-14")
    assert f"+{trades:,} rows" in user.lab("fetch", "XRPETH", "--kind", "trades", *days, *mirror)
    for kind in ("trades", "quotes"):
        day = ("--exchange", "binance-futures", "--start", "2020-02-22", "--end", "2020-02-23")
        assert "+9,999 rows" in user.lab("fetch", "BTCUSDT", "--source", "tardis", "--kind", kind, *day, *mirror)
    amazon = write_lobster(tmp_path, real_markets)
    for kind, rows in (("trades", 8_974 + 2_445), ("quotes", None)):
        said = user.lab("fetch", "AMZN", "--source", "lobster", "--kind", kind, "--path", amazon)
        assert rows is None or f"+{rows:,} rows" in said
    for kind, text, rows in (("books", GOLD_BOOK, 257_891), ("trades", GOLD_TRADES, 88_646)):
        (user.folder / "gold.toml").write_text(text)
        file = f"GC_gold_2023-05-01_{'book5' if kind == 'books' else 'trades'}.parquet"
        options = ("--kind", kind, "--path", real_markets / "futures/cme_l2" / file, "--mapping", "gold.toml")
        assert f"+{rows:,} rows" in user.lab("fetch", "GC", "--source", "files", *options)
    panel = real_markets / "crypto/binance_spot/panel_1h_22_symbols_2021-04_2023-12.parquet"
    told = user.lab("fetch", "*", "--source", "files", "--interval", "1h", "--path", panel)
    assert told.count(" in all, closed ") == 22

    held = {(row["kind"], row["source"], row["symbol"]): row["rows"] for row in user.asked("data")}
    assert len(held) == 31
    assert sum(rows for (_, source, symbol), rows in held.items() if source == "files" and symbol != "GC") == 452_541

    gaps = user.asked("data", "gaps")["gaps"]
    luna = [gap for gap in gaps if gap["symbol"] == "LUNAUSDT" and gap["reason"] == "re-used"]
    assert [(gap["after"][:13], gap["before"][:13], gap["missing"]) for gap in luna] == [
        ("2022-05-13T01", "2022-05-31T07", 437)
    ]
    outages = {gap["after"][:10] for gap in gaps if gap["reason"] == "outage"}
    assert outages == {"2021-04-20", "2021-04-25", "2021-08-13", "2021-09-29", "2023-03-24"}
    assert [gap["after"][:16] for gap in gaps if gap["reason"] == "halt"] == ["2024-10-28T20:00"]
    assert [gap for gap in gaps if gap["reason"] == "unknown"] == []

    assert user.asked("sql", "select kind, count(*) n from trades group by all") == [
        {"kind": "trades", "n": trades + 9_999 + 8_974 + 2_445 + 88_646}
    ]
    lives = "select (time < '2022-05-20') as old, min(close) lowest, max(close) highest from bars "
    lives += "where symbol = 'LUNAUSDT' group by all order by old desc"
    before, after = user.asked("sql", lives)
    assert (before["lowest"] < 1e-3, before["highest"] > 100, after["highest"] < 30) == (True, True, True)

    closed = user.asked("bars", "GC", "--source", "files", "--interval", "1m", "--book", "books")
    assert closed[0]["rows"] > 1000
    (seen,) = user.asked(
        "sql", "select count(ofi_5) n, min(ask - bid) least from bars where symbol = 'GC' and ask > bid"
    )
    assert seen["n"] > 1000
    assert seen["least"] == pytest.approx(0.1)

    archive.requests.clear()
    assert "already here" in user.lab("fetch", "BTCUSDT", *march, *mirror)
    assert "already here" in user.lab("fetch", "XRPETH", "--kind", "trades", *days, *mirror)
    assert archive.requests == []
    assert user.lab("data", "verify") == "every stored file is whole\n"
