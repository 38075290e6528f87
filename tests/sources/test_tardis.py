"""Tardis.dev's files: as their documentation shows them, as really recorded, and over a real server."""

import gzip
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import duckdb
import polars as pl
import pytest

from lab.errors import SourceError, UsageError
from lab.kinds import level_columns
from lab.nouns import Piece, Span
from lab.sources import Request, Source, vendor
from lab.sources.tardis import Tardis
from lab.sources.web import Patience
from tests.archive import Archive, cut_short, html, serving, utc

MARKET = Path(__file__).parents[2].parent / "shared/market/crypto/tardis_sample"
HASTY = Patience(tries=4, total=4.0, silence=1.0, first_wait=0.01)
DAY = utc(2024, 3, 1)
SPAN = Span(DAY, utc(2024, 3, 2))
COMMON = "exchange,symbol,timestamp,local_timestamp"
TRADES = f"{COMMON},id,side,price,amount"
UPDATES = f"{COMMON},is_snapshot,side,price,amount"
TICKER = (
    f"{COMMON},funding_timestamp,funding_rate,predicted_funding_rate,open_interest,last_price,index_price,mark_price"
)


def at(seconds: float, day: datetime = DAY) -> int:
    """Microseconds since 1970 of so many seconds after midnight."""
    return round((day.timestamp() + seconds) * 1_000_000)


def moments(*seconds: float) -> list[datetime]:
    return [DAY + timedelta(seconds=each) for each in seconds]


def line(seconds: float, values: str, late: float = 0.01, symbol: str = "BTCUSDT") -> str:
    return f"binance-futures,{symbol},{at(seconds)},{at(seconds + late)},{values}"


def packed(*lines: str) -> bytes:
    return gzip.compress("".join(f"{line}\n" for line in lines).encode(), mtime=0)


def given(folder: Path, kind: str, *lines: str, name: str = "day.csv.gz", symbol: str = "BTCUSDT") -> list[Piece]:
    folder.mkdir(exist_ok=True)
    (folder / name).write_bytes(packed(*lines))
    return list(Tardis(path=folder / name).fetch(Request((symbol,), "events", None, kind), {}))


def rows(piece: Piece) -> pl.DataFrame:
    assert piece.table is not None
    return piece.table.frame


def law_case(folder: Path) -> tuple[Source, Request]:
    lines = [line(n * 60, f"{n},{'buy' if n % 3 else 'sell'},{100 + n % 7},{1 + n % 5}") for n in range(500)]
    (folder / "trades.csv.gz").write_bytes(packed(TRADES, *lines))
    return Tardis(path=folder / "trades.csv.gz"), Request(("BTCUSDT",), "events", None, "trades")


# ── what the documentation shows ────────────────────────────────────────────────────────────────────────────────────


def test_a_documented_trade_becomes_the_trade_it_describes(tmp_path: Path) -> None:
    documented = "bitmex,XBTUSD,1585699202957000,1585699203089980,d202810a-ec78-0d65-8652-42c8168f127c,buy,6425.5,12"
    (piece,) = given(tmp_path, "trades", TRADES, documented, symbol="XBTUSD")
    assert rows(piece).to_dicts() == [
        {
            "symbol": "XBTUSD",
            "time": utc(2020, 4, 1, 0, 0, 2, 957000),
            "price": 6425.5,
            "size": 12.0,
            "side": 1,
            "uid": "d202810a-ec78-0d65-8652-42c8168f127c",
            "known_at": utc(2020, 4, 1, 0, 0, 3, 89980),
        }
    ]


def test_quotes_have_their_mirrored_columns_put_right(tmp_path: Path) -> None:
    header = f"{COMMON},ask_amount,ask_price,bid_price,bid_amount"
    documented = "huobi-dm-swap,BTC-USD,1585699201147000,1585699201270777,86,6423,6422.9,112"
    one_sided = "huobi-dm-swap,BTC-USD,1585699201157000,1585699201280777,,,6422.9,112"
    (piece,) = given(tmp_path, "quotes", header, documented, one_sided, symbol="BTC-USD")
    assert rows(piece).select("bid", "bid_size", "ask", "ask_size").rows() == [
        (6422.9, 112.0, 6423.0, 86.0),
        (6422.9, 112.0, None, None),
    ]


def test_a_book_snapshot_is_a_book(tmp_path: Path) -> None:
    names = [f"{side}s[{n}].{what}" for n in range(5) for side in ("ask", "bid") for what in ("price", "amount")]
    values = [f"{100 + n if side else 99 - n},{n + side}" for n in range(5) for side in (1, 0)]
    (piece,) = given(tmp_path, "books", f"{COMMON},{','.join(names)}", line(1, ",".join(values)))
    frame = rows(piece)
    assert frame.columns == ["symbol", "time", *level_columns(5), "known_at"]
    assert frame.select("bid_1", "bid_size_1", "ask_1", "ask_size_1").row(0) == (99.0, 0.0, 100.0, 1.0)
    assert frame.select("bid_5", "bid_size_5", "ask_5", "ask_size_5").row(0) == (95.0, 4.0, 104.0, 5.0)


def test_numbers_name_trades_and_without_a_name_equal_trades_are_two(tmp_path: Path) -> None:
    (numbered,) = given(tmp_path, "trades", TRADES, line(1, "7,buy,100,1"), line(1, "8,sell,100,1"))
    assert rows(numbered)["id"].to_list() == [7, 8]
    (repeated,) = given(tmp_path, "trades", TRADES, *[line(1, "7,buy,100,1")] * 3, line(2, "9,unknown,100,1"))
    assert (rows(repeated)["id"].to_list(), repeated.repeats) == ([7, 9], 2)
    nameless = [line(2, ",buy,100,1"), line(1, ",buy,100,1"), line(1, ",buy,100,1")]
    (piece,) = given(tmp_path, "trades", TRADES, *nameless)
    assert rows(piece)["time"].to_list() == moments(1, 1, 2)
    assert (rows(piece).columns[-2:], piece.repeats) == (["side", "known_at"], 0)


def test_rows_that_are_no_trades_are_kept_with_the_reason(tmp_path: Path) -> None:
    bad = [
        line(2, "2,bought,100,1"),
        line(3, "3,buy,-1,1"),
        line(4, "4,buy,x,1"),
        line(5, "five,buy,100,1"),
        line(-1, "6,buy,100,1", late=1.5),
        "binance-futures,BTCUSDT,,,8,buy,100,1",
    ]
    (piece,) = given(tmp_path, "trades", TRADES, line(1, "1,buy,100,1"), *bad)
    assert rows(piece)["id"].to_list() == [1]
    assert piece.rejected["fault"].to_list() == [
        "side is missing or cannot be read",
        "price is zero or below",
        "price is missing or cannot be read",
        "its id is no number, as the first one is",
        "stamped outside the time that its file is of, or more than a minute late",
        "no symbol or no time",
    ]


def test_one_symbol_is_taken_of_a_file_of_several(tmp_path: Path) -> None:
    lines = [line(1, "1,buy,100,1", symbol="XBT/USD"), line(2, "2,buy,3,1", symbol="ETH/USD")]
    (piece,) = given(tmp_path, "trades", TRADES, *lines, symbol="ETH-USD")
    assert rows(piece).select("symbol", "id").rows() == [("ETH-USD", 2)]
    with pytest.raises(UsageError, match="has no rows of SOL-USD") as refused:
        given(tmp_path, "trades", TRADES, *lines, symbol="SOL-USD")
    assert refused.value.fix == "ask for one of XBT/USD, ETH/USD"
    with pytest.raises(UsageError, match="no symbol is stored as 'ETH/USD'") as refused:
        given(tmp_path, "trades", TRADES, *lines, symbol="ETH/USD")
    assert refused.value.fix == "write it as Tardis does: ETH-USD"


def test_liquidations_are_told_from_trades_by_their_name(tmp_path: Path) -> None:
    lines = [TRADES, line(1, ",buy,100,1"), line(2, "x1,sell,100,2"), line(3, "x2,unknown,100,2")]
    (piece,) = given(tmp_path, "liquidations", *lines, name="liquidations_BTCUSDT.csv.gz")
    assert rows(piece).select("side", "uid").rows() == [(1, None), (-1, "x1")]
    assert piece.rejected["fault"].to_list() == ["side is missing or cannot be read"]
    with pytest.raises(UsageError, match="holds liquidations, not trades"):
        given(tmp_path, "trades", *lines, name="liquidations_BTCUSDT.csv.gz")


def test_funding_and_open_interest_are_told_when_they_change(tmp_path: Path) -> None:
    paid, next_paid = at(8 * 3600), at(16 * 3600)
    lines = [
        line(1, f"{paid},0.0001,,500,100,100,100"),
        line(2, f"{paid},0.0001,,500,101,100,100"),
        line(3, ",,,501,101,100,100"),
        line(4, f"{paid},0.0002,,501,101,100,100"),
        line(5, f"{next_paid},0.0002,,,101,100,100"),
        line(6, ",0.0003,,501,101,100,100"),
    ]
    (funding,) = given(tmp_path, "funding", TICKER, *lines)
    assert rows(funding).select("time", "known_at", "rate").rows() == [
        (*moments(6, 6.01), 0.0003),
        (*moments(8 * 3600, 1.01), 0.0001),
        (*moments(8 * 3600, 4.01), 0.0002),
        (*moments(16 * 3600, 5.01), 0.0002),
    ]
    (metrics,) = given(tmp_path, "metrics", TICKER, *lines)
    assert rows(metrics).select("time", "known_at", "open_interest").rows() == [
        (*moments(1, 1.01), 500.0),
        (*moments(3, 3.01), 501.0),
    ]
    assert (funding.rejected.height, metrics.rejected.height) == (0, 0)


# ── books rebuilt from their changes ────────────────────────────────────────────────────────────────────────────────


def update(seconds: float, snapshot: bool, side: str, price: float, amount: float | str) -> str:
    return line(seconds, f"{'true' if snapshot else 'false'},{side},{price},{amount}")


def test_a_book_is_rebuilt_by_the_vendors_rule(tmp_path: Path) -> None:
    (piece,) = given(
        tmp_path,
        "books",
        UPDATES,
        update(1, False, "bid", 98, 1),  # before any snapshot
        update(2, True, "bid", 99, 2),
        update(2, True, "ask", 101, 3),
        update(3, False, "bid", 50, 0),  # nothing to delete
        update(4, False, "bid", 99, 0),
        update(5, False, "ask", 101, "x"),
        update(6, False, "bid", 102, 1),  # crossed, until the ask goes
        update(7, False, "ask", 101, 0),
        update(8, True, "ask", 103, 1),  # another snapshot: the bid of before is gone
    )
    assert rows(piece).select("time", "known_at", *level_columns(1)).rows() == [
        (*moments(2, 2.01), 99.0, 2.0, 101.0, 3.0),
        (*moments(4, 4.01), None, None, 101.0, 3.0),
        (*moments(7, 7.01), 102.0, 1.0, None, None),
        (*moments(8, 8.01), None, None, 103.0, 1.0),
    ]
    assert rows(piece).columns == ["symbol", "time", *level_columns(25), "known_at"]
    assert piece.rejected.select("line", "fault").sort("line").rows() == [
        (6, "an update without a side, a price or an amount"),
        (7, "a crossed book: some change is missing"),
    ]


def test_a_book_does_not_depend_on_how_its_file_is_cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    side = ("bid", "ask")
    lines = [
        update(n // 3, n % 400 < 40, side[n % 2], 100 + (n * 7919 % 13 - 13 * (1 - n % 2)), n % 4) for n in range(3000)
    ]
    (whole,) = given(tmp_path, "books", UPDATES, *lines)
    monkeypatch.setattr(vendor, "BLOCK_BYTES", 700)
    (cut,) = given(tmp_path, "books", UPDATES, *lines)
    assert rows(whole).height > 700
    assert rows(cut).equals(rows(whole))


# ── recorded days ───────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("kind", ["trades", "quotes"])
def test_recorded_rows_come_in_whole(kind: str) -> None:
    path = MARKET / f"binance-futures_{kind}_2020-02-22_BTCUSDT.csv.gz"
    if not path.is_file():
        pytest.skip(f"no recorded day at {path}")
    (piece,) = Tardis(path=path).fetch(Request(("BTCUSDT",), "events", None, kind), {})
    frame = rows(piece)
    assert (frame.height, piece.rejected.height, piece.repeats, piece.span) == (9999, 0, 0, None)
    numbers = {
        "trades": "sum(price * amount), sum(if(side = 'buy', amount, -amount)), min(id), max(id)",
        "quotes": "sum(bid_price * bid_amount), sum(ask_price * ask_amount), 0, 0",
    }
    ours = {
        "trades": "sum(price * size), sum(side * size), min(id), max(id)",
        "quotes": "sum(bid * bid_size), sum(ask * ask_size), 0, 0",
    }
    delay = "avg(local_timestamp - timestamp)", "avg(epoch_us(known_at) - epoch_us(time))"
    expected = duckdb.sql(f"select {numbers[kind]}, {delay[0]} from read_csv('{path}')").fetchall()[0]
    assert duckdb.sql(f"select {ours[kind]}, {delay[1]} from frame").fetchall()[0] == pytest.approx(expected, rel=1e-12)


# ── downloads ───────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def archive(tmp_path: Path) -> Iterator[Archive]:
    with serving(tmp_path / "archive") as served:
        yield served


def day_path(day: int, data_type: str = "trades") -> str:
    return f"binance-futures/{data_type}/2024/03/{day:02}/BTCUSDT.csv.gz"


def fetched(
    archive: Archive, span: Span = SPAN, kind: str = "trades", done: dict[str, str] | None = None
) -> list[Piece]:
    source = Tardis(base_url=archive.url, exchange="binance-futures", patience=HASTY)
    return list(source.fetch(Request(("BTCUSDT",), "events", span, kind), done or {}))


def test_days_are_downloaded_and_speak_for_themselves(archive: Archive) -> None:
    archive.publish(day_path(1), packed(TRADES, line(1, "1,buy,100,1"), line(2, "2,sell,100,1")))
    archive.publish(day_path(2), packed())  # an empty gzip: nobody traded
    span = Span(DAY, utc(2024, 3, 4))
    pieces = fetched(archive, span)
    assert [(piece.origin, piece.table and piece.table.frame.height, piece.span) for piece in pieces] == [
        (day_path(1), 2, SPAN),
        (day_path(2), None, None),
        (day_path(3), None, None),
    ]
    archive.requests.clear()
    assert fetched(archive, span, done={piece.origin: piece.digest for piece in pieces}) == []
    assert archive.requests == []


def test_the_type_of_data_can_be_chosen(archive: Archive) -> None:
    archive.publish(day_path(1, "incremental_book_L2"), packed(UPDATES, update(2, True, "bid", 99, 2)))
    source = Tardis(base_url=archive.url, exchange="binance-futures", data_type="incremental_book_L2", patience=HASTY)
    (piece,) = source.fetch(Request(("BTCUSDT",), "events", SPAN, "books"), {})
    assert rows(piece)["bid_1"].to_list() == [99.0]
    with pytest.raises(UsageError, match="incremental_book_L2 holds no trades"):
        list(source.fetch(Request(("BTCUSDT",), "events", SPAN, "trades"), {}))
    with pytest.raises(UsageError, match="which exchange"):
        list(replace(source, exchange=None).fetch(Request(("BTCUSDT",), "events", SPAN, "books"), {}))


def test_a_large_day_comes_by_the_hour(archive: Archive, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = [line(n * 10, f"{n},buy,100,1", late=0.5 + n % 20) for n in range(3, 8000)]
    archive.publish(day_path(1), packed(TRADES, *sorted(lines, key=lambda text: text.split(",")[3])))
    (whole,) = fetched(archive)
    monkeypatch.setattr(vendor, "WHOLE_BYTES", 0)
    monkeypatch.setattr(vendor, "BLOCK_BYTES", 1000)
    hours = fetched(archive)
    names = [f"{day_path(1)} 2024-03-01T{hour:02}" for hour in range(24)]
    assert [piece.origin for piece in hours] == names
    assert [piece.table is None for piece in hours] == [hour > 22 for hour in range(24)]
    assert pl.concat([rows(piece) for piece in hours[:23]]).equals(rows(whole))
    assert [piece.span for piece in hours[:2]] == [Span(*moments(0, 3600)), Span(*moments(3600, 7200))]
    left = fetched(archive, done=dict.fromkeys(names[:5], ""))
    assert [piece.origin for piece in left] == names[5:]
    archive.requests.clear()
    assert fetched(archive, done=dict.fromkeys(names, "")) == []
    assert archive.requests == []


def test_a_row_that_comes_much_too_late_is_rejected(archive: Archive, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vendor, "WHOLE_BYTES", 0)
    monkeypatch.setattr(vendor, "BLOCK_BYTES", 100)
    on_time = [line(seconds, f"{seconds},buy,100,1") for seconds in (3000, 3700, 3710, 3720)]
    archive.publish(day_path(1), packed(TRADES, *on_time, line(3100, "3,buy,100,1", late=650)))
    pieces = fetched(archive)
    assert [rows(piece)["id"].to_list() for piece in pieces[:2]] == [[3000], [3700, 3710, 3720]]
    assert [piece.rejected["id"].to_list() for piece in pieces[:2]] == [[], [3]]


def test_a_download_is_proved_to_be_the_days_data(archive: Archive) -> None:
    archive.publish(day_path(1), packed(TRADES, line(1, "1,buy,100,1")))
    archive.play(day_path(1), [cut_short])
    assert len(fetched(archive)) == 1
    archive.play(day_path(1), [html])
    with pytest.raises(SourceError, match="no header of Tardis"):
        fetched(archive)
    archive.publish(day_path(1), packed(TRADES, line(1, "1,buy,100,1").replace("binance-futures", "bitmex")))
    with pytest.raises(SourceError, match="it is of bitmex, not of binance-futures"):
        fetched(archive)


def test_a_damaged_or_endless_file_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trades = packed(TRADES, *[line(n, f"{n},buy,100,1") for n in range(1000)])
    request = Request(("BTCUSDT",), "events", None, "trades")
    wrong = {
        "cut": (trades[:-20], "cannot be unpacked"),
        "flipped": (trades[:-6] + bytes([trades[-6] ^ 1]) + trades[-5:], "cannot be unpacked: CRC check failed"),
        "line": (gzip.compress(b"0" * (3 << 20)), "a line of more than 1,048,576 bytes"),
        "ragged": (packed(TRADES, line(1, "1,buy,100,1,1")), "cannot be read"),
    }
    for name, (content, message) in wrong.items():
        (tmp_path / f"{name}.csv.gz").write_bytes(content)
        with pytest.raises(SourceError, match=message):
            list(Tardis(path=tmp_path / f"{name}.csv.gz").fetch(request, {}))
    (tmp_path / "bomb.csv.gz").write_bytes(packed(TRADES, *[line(1, "1,buy,100,1")] * 200_000))
    monkeypatch.setattr(vendor, "BYTES_AT_MOST", 9 << 20)
    with pytest.raises(SourceError, match="its content is larger"):
        list(Tardis(path=tmp_path / "bomb.csv.gz").fetch(request, {}))
    with pytest.raises(UsageError, match=r"nowhere\.csv is no file"):
        list(Tardis(path=tmp_path / "nowhere.csv").fetch(request, {}))


def test_a_file_done_is_not_read_again(tmp_path: Path) -> None:
    source, request = law_case(tmp_path)
    (piece,) = source.fetch(request, {})
    assert rows(piece).height == 500
    assert list(source.fetch(request, {piece.origin: piece.digest})) == []
