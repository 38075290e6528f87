"""Bybit's archive: lines as it publishes them, its two layouts over a real server, files that are damaged."""

import gzip
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest

from lab.errors import SourceError, UsageError
from lab.nouns import Piece, Span
from lab.sources import Request, Source
from lab.sources.bybit import Bybit
from lab.sources.web import Patience
from tests.archive import Archive, html, serving, utc

HASTY = Patience(tries=4, total=4.0, silence=1.0, first_wait=0.01)
HEADER = "timestamp,symbol,side,size,price,tickDirection,trdMatchID,grossValue,homeNotional,foreignNotional"
SPOT_HEADER = "id,timestamp,price,volume,side"
PUBLISHED = (
    "1784851200.0547,BTCUSDT,Buy,0.038,65065.80,ZeroPlusTick,d6b9a5ac-3439-5cea-b590-fd245e5b3992,"
    "2.4725004e+11,0.038,2472.5004,0"
)
DAY = utc(2026, 7, 24)


def packed(*lines: str) -> bytes:
    return gzip.compress("".join(f"{line}\n" for line in lines).encode(), mtime=0)


def trade(seconds: str, side: str = "Buy", size: float = 1, price: float = 100, uid: str = "") -> str:
    return f"{seconds},BTCUSDT,{side},{size},{price},PlusTick,{uid or seconds},1e10,{size},{size * price}"


def given(folder: Path, name: str, *lines: str, symbol: str = "BTCUSDT") -> Piece:
    (folder / name).write_bytes(packed(*lines))
    (piece,) = Bybit(path=folder / name).fetch(Request((symbol,), "events", None, "trades"), {})
    return piece


def rows(piece: Piece) -> pl.DataFrame:
    assert piece.table is not None
    return piece.table.frame


def law_case(folder: Path) -> tuple[Source, Request]:
    lines = [trade(f"{1704067200 + 100 * n}.{n:04}", side="Sell" if n % 3 else "Buy") for n in range(500)]
    (folder / "BTCUSDT2024-01-01.csv.gz").write_bytes(packed(HEADER, *lines))
    return Bybit(path=folder / "BTCUSDT2024-01-01.csv.gz"), Request(("BTCUSDT",), "events", None, "trades")


def test_a_published_trade_becomes_the_trade_it_describes(tmp_path: Path) -> None:
    piece = given(tmp_path, "BTCUSDT2026-07-24.csv.gz", f"{HEADER},RPI", PUBLISHED)
    assert rows(piece).to_dicts() == [
        {
            "symbol": "BTCUSDT",
            "time": utc(2026, 7, 24, 0, 0, 0, 54700),
            "price": 65065.8,
            "size": 0.038,
            "side": 1,
            "uid": "d6b9a5ac-3439-5cea-b590-fd245e5b3992",
        }
    ]
    assert piece.span == Span(DAY, utc(2026, 7, 25))


def test_every_decimal_of_a_second_is_kept(tmp_path: Path) -> None:
    times = ["1704067200.1", "1704067200.123456", "1704067200.9999999", "1704067201", "1704067201.000001"]
    piece = given(tmp_path, "BTCUSDT2024-01-01.csv.gz", HEADER, *map(trade, times))
    assert [(time.second, time.microsecond) for time in rows(piece)["time"]] == [
        (0, 100000),
        (0, 123456),
        (0, 999999),
        (1, 0),
        (1, 1),
    ]


def test_the_size_of_an_inverse_contract_is_in_its_coin_too(tmp_path: Path) -> None:
    inverse = "1704067200.5,BTCUSD,Sell,8318,8318.0,MinusTick,a,1e8,8318,1.0"
    piece = given(tmp_path, "BTCUSD2024-01-01.csv.gz", HEADER, inverse, symbol="BTCUSD")
    assert rows(piece).select("price", "size", "side").rows() == [(8318.0, 1.0, -1)]


def test_rows_come_in_any_order_and_leave_in_that_of_time(tmp_path: Path) -> None:
    lines = [trade("1704067209.5", uid="c"), trade("1704067201.5", uid="b"), trade("1704067201.5", uid="a")]
    bad = [
        trade("1704153600.0", uid="next day"),
        trade("1704067201.5", side="Hold", uid="d"),
        trade("1704067201.5", uid="e").replace("BTCUSDT", "ETHUSDT"),
        trade("1.7e9", uid="f"),
        trade("1704067201.5", uid="a", size=9),
    ]
    piece = given(tmp_path, "BTCUSDT2024-01-01.csv.gz", HEADER, *lines, *bad, lines[0])
    assert rows(piece)["uid"].to_list() == ["b", "a", "c"]
    assert piece.repeats == 1
    assert piece.rejected.select("uid", "fault").rows() == [
        ("next day", "outside the period that the file is named for"),
        ("d", "side is missing or cannot be read"),
        ("e", "not of BTCUSDT"),
        ("f", "no symbol or no time"),
        ("a", "a second row for the same symbol and time"),
    ]


def test_spot_trades_of_one_number_are_repeats_and_others_are_not(tmp_path: Path) -> None:
    lines = ["1,1669852800123,17000.5,0.1,sell", "2,1669852800123,17000.5,0.1,sell", "3,1669852800124,17000,1,buy"]
    piece = given(tmp_path, "BTCUSDT-2022-12.csv.gz", SPOT_HEADER, lines[2], *lines)
    assert rows(piece).drop("symbol").rows() == [
        (utc(2022, 12, 1, 0, 0, 0, 123000), 17000.5, 0.1, -1, "1"),
        (utc(2022, 12, 1, 0, 0, 0, 123000), 17000.5, 0.1, -1, "2"),
        (utc(2022, 12, 1, 0, 0, 0, 124000), 17000.0, 1.0, 1, "3"),
    ]
    assert (piece.repeats, piece.span) == (1, Span(utc(2022, 12, 1), utc(2023, 1, 1)))


@pytest.fixture
def archive(tmp_path: Path) -> Iterator[Archive]:
    with serving(tmp_path / "archive") as served:
        yield served


def at(archive: Archive) -> Bybit:
    return Bybit(base_url=archive.url, patience=HASTY)


def fetched(source: Bybit, span: Span, done: dict[str, str] | None = None) -> list[Piece]:
    return list(source.fetch(Request(("BTCUSDT",), "events", span, "trades"), done or {}))


def test_each_day_is_a_file(archive: Archive) -> None:
    for day in (1, 2):
        line = trade(f"{1704067200 + 86400 * (day - 1)}.5")
        archive.publish(f"trading/BTCUSDT/BTCUSDT2024-01-0{day}.csv.gz", packed(HEADER, line))
    span = Span(utc(2024, 1, 1), utc(2024, 1, 4))
    pieces = fetched(at(archive), span)
    assert [(piece.origin[-17:], piece.table is None) for piece in pieces] == [
        ("2024-01-01.csv.gz", False),
        ("2024-01-02.csv.gz", False),
        ("2024-01-03.csv.gz", True),
    ]
    archive.requests.clear()
    assert fetched(at(archive), span, {piece.origin: piece.digest for piece in pieces}) == []
    assert archive.requests == []


def test_spot_comes_by_the_month_where_there_is_one(archive: Archive) -> None:
    month, day = "spot/BTCUSDT/BTCUSDT-2022-11.csv.gz", "spot/BTCUSDT/BTCUSDT_2022-12-31.csv.gz"
    archive.publish(month, packed(SPOT_HEADER, "1,1669766400123,17000.5,0.1,sell"))
    archive.publish(day, packed(f"{SPOT_HEADER},rpi", "1,1672444800123,16600.5,0.1,buy,0"))
    spot = replace(at(archive), market="spot")
    pieces = fetched(spot, Span(utc(2022, 11, 30), utc(2023, 1, 1)))
    assert [piece.origin for piece in pieces if piece.table] == [month, day]
    assert len(pieces) == 32
    archive.requests.clear()
    assert fetched(spot, Span(utc(2022, 11, 2), utc(2023, 1, 1)), {piece.origin: "" for piece in pieces}) == []
    assert archive.requests == []


def test_a_body_that_is_no_trades_is_refused(archive: Archive, tmp_path: Path) -> None:
    path, span = "trading/BTCUSDT/BTCUSDT2024-01-01.csv.gz", Span(utc(2024, 1, 1), utc(2024, 1, 2))
    body = packed(HEADER, trade("1704067200.5"))
    archive.publish(path, body)
    archive.play(path, [html])
    with pytest.raises(SourceError, match="no header of trades"):
        fetched(at(archive), span)
    archive.publish(path, body[:-8] + bytes([body[-8] ^ 1]) + body[-7:])
    with pytest.raises(SourceError, match="cannot be unpacked: CRC check failed"):
        fetched(at(archive), span)
    with pytest.raises(UsageError, match="no symbol like 'btc/usdt'"):
        list(at(archive).fetch(Request(("btc/usdt",), "events", span, "trades"), {}))
    with pytest.raises(UsageError, match="not named as a file of BTCUSDT"):
        given(tmp_path, "ETHUSDT2024-01-01.csv.gz", HEADER, PUBLISHED)


def test_a_file_that_is_done_is_not_read_again(tmp_path: Path) -> None:
    source, request = law_case(tmp_path)
    (piece,) = source.fetch(request, {})
    assert rows(piece).height == 500
    assert list(source.fetch(request, {piece.origin: piece.digest})) == []
