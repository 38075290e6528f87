"""Any table as a person has it: every kind of data, by a mapping, with its zone, its units and its spelling."""

import json
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from zoneinfo import ZoneInfo

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lab.errors import SourceError, UnknownName, UsageError
from lab.kinds import KINDS
from lab.nouns import EVENTS, Bars, Piece
from lab.sources import Request, Source
from lab.sources.files import Files
from lab.sources.files.mapping import EXAMPLE, MappingFile
from tests.archive import utc

BARS_HEADER = "symbol,time,open,high,low,close,volume"
GOLD = """
symbol = "GC"
[columns]
time = "transact_time"
bid = { pattern = "bid_price_{}", from = 0, levels = 5 }
bid_size = { pattern = "bid_quantity_{}", from = 0, levels = 5 }
ask = { pattern = "offer_price_{}", from = 0, levels = 5 }
ask_size = { pattern = "offer_quantity_{}", from = 0, levels = 5 }
"""


def table(folder: Path, *lines: str, name: str = "table.csv") -> Path:
    (folder / name).write_text("\n".join(lines) + "\n")
    return folder / name


def mapped(folder: Path, text: str) -> Path:
    (folder / "mapping.toml").write_text(text)
    return folder / "mapping.toml"


def fetched(path: Path, kind: str, *symbols: str, interval: str = EVENTS, **settings: Any) -> list[Piece]:
    return list(Files(path=path, **settings).fetch(Request(symbols or ("X",), interval, None, kind), {}))


def rows(piece: Piece) -> pl.DataFrame:
    assert piece.table is not None
    return piece.table.frame


def law_case(folder: Path) -> tuple[Source, Request]:
    lines = [f"{symbol}/USD;{1_709_251_200 + n};{100 + n % 7};1;{'SB'[n % 2]}" for n in range(300) for symbol in "AB"]
    path = table(folder, "market;when;price;size;side", *lines)
    mapping = mapped(folder, '[columns]\nsymbol = "market"\ntime = "when"\n[values.side]\nB = 1\nS = -1')
    return Files(path=path, mapping=mapping), Request(("A-USD", "B-USD"), EVENTS, None, "trades")


# ── files as people have them ───────────────────────────────────────────────────────────────────────────────────────


def test_a_day_of_gold_comes_in_with_its_book_and_its_trades(real_markets: Path, tmp_path: Path) -> None:
    (book,) = fetched(
        real_markets / "futures/cme_l2/GC_gold_2023-05-01_book5.parquet",
        "books",
        "GC",
        mapping=mapped(tmp_path, GOLD),
    )
    assert (rows(book).height, book.rejected.height, book.repeats) == (257_891, 0, 0)
    assert (rows(book)["bid_1"] >= rows(book)["ask_1"]).sum() == 198  # before the open, and real
    best = {"bid_1": 1995.7, "bid_size_1": 2.0, "ask_1": pytest.approx(1995.8), "ask_size_1": 6.0}
    assert rows(book).select(*best).row(0, named=True) == best
    assert rows(book).columns[-4:] == ["bid_5", "bid_size_5", "ask_5", "ask_size_5"]
    path = real_markets / "futures/cme_l2/GC_gold_2023-05-01_trades.parquet"
    sides = mapped(tmp_path, '[columns]\ntime = "transact_time"\n[values.side]\nO = 1\nB = -1')
    (trades,) = fetched(path, "trades", "GC", mapping=sides)
    assert (rows(trades).height, trades.rejected.height, trades.repeats) == (88_646, 0, 0)
    assert rows(trades)["side"].value_counts().sort("side").rows() == [(-1, 44_926), (1, 43_720)]
    with pytest.raises(UsageError, match=r"'side' of GC_gold_.* holds 'O', and lab does not know whether") as wrong:
        fetched(path, "trades", "GC", map=(("time", "transact_time"),))
    assert wrong.value.fix.endswith("say in a --mapping: [values.side], then BUY = 1 and SELL = -1")


def test_one_panel_holds_all_of_its_symbols(real_markets: Path) -> None:
    source = Files(path=real_markets / "crypto/binance_spot/panel_1h_22_symbols_2021-04_2023-12.parquet")
    symbols = source.symbols("bars", "1h")
    assert (len(symbols), symbols[:2], symbols[-1]) == (22, ["BTCUSDT", "ETHUSDT"], "ARBUSDT")
    pieces = list(source.fetch(Request(tuple(symbols), "1h"), {}))
    counts = {piece.symbol: rows(piece).height for piece in pieces}
    assert (sum(counts.values()), counts["ETHUSDT"], counts["USTUSDT"]) == (452_541, 23_988, 3_352)
    assert all(piece.rejected.is_empty() and piece.table and piece.table.calendar == "continuous" for piece in pieces)


def test_bars_of_bids_and_bars_stamped_with_their_ends_are_read(real_markets: Path) -> None:
    bids = tuple((name, f"bid_{name}") for name in ("open", "high", "low", "close"))
    (euro,) = fetched(
        real_markets / "fx/oanda_1h/EURUSD-1h-2007_2018.parquet", "bars", "EURUSD", interval="1h", map=bids
    )
    assert (rows(euro).height, rows(euro)["time"][0], rows(euro)["close"][0]) == (74_439, utc(2007, 1, 1, 22), 1.31935)
    assert isinstance(euro.table, Bars)
    assert euro.table.calendar == "weekdays"
    path = real_markets / "futures/cme_bars_1m/6EH4.XCME_1min_bars_20240101_20240131.csv.gz"
    stamped = (("time", "timestamp_utc"),)
    (future,) = fetched(path, "bars", "6EH4", interval="1m", map=stamped, time_is="close")
    assert (rows(future).height, rows(future)["time"][0]) == (29_996, utc(2024, 1, 1, 23, 1))
    (ticks,) = fetched(real_markets / "fx/fxcm_ticks/EURUSD-quotes-2014-05-01_15.parquet", "quotes", "EURUSD")
    assert rows(ticks).height == 1_144_807
    assert rows(ticks).row(0) == ("EURUSD", utc(2014, 5, 1, 5, 0, 1, 787000), 1.38727, None, 1.38729, None)


def test_headlines_are_known_from_the_moment_of_fetching_unless_somebody_says_when(tmp_path: Path) -> None:
    path = table(
        tmp_path,
        "published,headline,source,seen",
        '2024-03-01 12:00,"Gold, at last",Wire,2024-03-01 12:05',
        "2024-03-01 13:00,Silver,Wire,2024-03-01 14:00",
    )
    before = datetime.now(UTC)
    (piece,) = fetched(path, "news", "GOLD")
    assert rows(piece).drop("known_at").rows() == [
        ("GOLD", utc(2024, 3, 1, 12), "Gold, at last", "Gold, at last", "Wire"),
        ("GOLD", utc(2024, 3, 1, 13), "Silver", "Silver", "Wire"),
    ]
    (known,) = set(rows(piece)["known_at"])
    assert before <= known <= datetime.now(UTC)
    (piece,) = fetched(path, "news", "GOLD", map=(("known_at", "seen"),))
    assert rows(piece)["known_at"].to_list() == [utc(2024, 3, 1, 12, 5), utc(2024, 3, 1, 14)]
    (piece,) = fetched(path, "news", "GOLD", mapping=mapped(tmp_path, '[known]\ndelay = "90m"'))
    assert rows(piece)["known_at"].to_list() == [utc(2024, 3, 1, 13, 30), utc(2024, 3, 1, 14, 30)]
    both = mapped(tmp_path, '[columns]\nknown_at = "seen"\n[known]\ndelay = "1d"')
    (piece,) = fetched(path, "news", "GOLD", mapping=both)
    assert rows(piece)["known_at"].to_list() == [utc(2024, 3, 2, 12, 5), utc(2024, 3, 2, 14)]


EVERY_KIND: dict[str, Sequence[dict[str, Any]]] = {
    "bars": [{"open": 2.0, "high": 3.0, "low": 1.0, "close": 2.5, "volume": 7.0, "buy_volume": 3.0, "vwap": 2.1}],
    "mark": [{"open": 2.0, "high": 3.0, "low": 1.0, "close": 2.5}],
    "index": [{"open": 2.0, "high": 3.0, "low": 1.0, "close": 2.5}],
    "premium": [{"open": -0.1, "high": 0.3, "low": -0.2, "close": 0.1}],
    "trades": [{"price": 2.5, "size": 1.0, "side": -1, "id": 7}, {"price": 2.5, "size": 1.0, "side": 0, "id": 8}],
    "quotes": [{"bid": 2.0, "bid_size": 1.0, "ask": 2.1, "ask_size": None}],
    "books": [{"bid_1": 2.0, "bid_size_1": 1.0, "ask_1": 2.1, "ask_size_1": 3.0, "bid_2": None, "bid_size_2": None}],
    "depth": [{"percentage": -1.0, "depth": 5.0, "notional": 10.0}],
    "liquidations": [{"price": 2.5, "size": 1.0, "side": 1}],
    "funding": [{"known_at": utc(2024, 3, 1, 1), "rate": -0.0001, "interval_hours": 8.0}],
    "metrics": [{"known_at": utc(2024, 3, 1, 1), "open_interest": 5.0, "accounts_ratio": None}],
    "actions": [{"known_at": utc(2024, 3, 1, 1), "dividend": 0.5, "split": 4.0}],
    "mood": [{"known_at": utc(2024, 3, 1, 1), "value": 55.0, "label": "Greed"}],
    "news": [{"known_at": utc(2024, 3, 1, 1), "uid": "a-1", "title": "“Gold”", "url": "x://y", "tone": -1.5}],
}


def test_every_kind_is_among_those_that_are_read() -> None:
    assert sorted(EVERY_KIND) == sorted(KINDS) == sorted(Files.kinds)


@pytest.mark.parametrize("form", ["csv", "parquet"])
@pytest.mark.parametrize("kind", EVERY_KIND)
def test_every_kind_under_its_own_names_is_read_as_it_stands(tmp_path: Path, kind: str, form: str) -> None:
    told = EVERY_KIND[kind]
    schema = KINDS[kind].schema(told[0])
    frame = pl.DataFrame([{"symbol": "X", "time": utc(2024, 3, 1), **row} for row in told], schema=schema)
    frame.write_csv(tmp_path / "t.csv", datetime_format="%Y-%m-%d %H:%M:%S%:z")
    frame.write_parquet(tmp_path / "t.parquet")
    stamp = {"time_is": "close"} if KINDS[kind].gridded else {}
    interval = "1m" if KINDS[kind].gridded else EVENTS
    (piece,) = fetched(tmp_path / f"t.{form}", kind, interval=interval, **stamp)
    expected = frame.drop("vwap") if "vwap" in frame.columns and kind != "bars" else frame
    assert rows(piece).select(expected.columns).rows(named=True) == expected.rows(named=True)
    assert (piece.rejected.height, piece.table and piece.table.kind, piece.table and piece.table.interval) == (
        0,
        kind,
        interval,
    )


@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
def test_cells_may_be_separated_by_what_the_first_line_has_most_of(tmp_path: Path, separator: str) -> None:
    path = table(
        tmp_path, "\ufeff" + separator.join(["time", "price", "size"]), separator.join(["1709251200", "2", "1"])
    )
    (piece,) = fetched(path, "trades")
    assert rows(piece).rows() == [("X", utc(2024, 3, 1), 2.0, 1.0, 0)]


def test_a_terminals_export_with_date_and_time_apart_is_read(tmp_path: Path) -> None:
    path = table(
        tmp_path,
        "<DATE>\t<TIME>\t<OPEN>\t<HIGH>\t<LOW>\t<CLOSE>\t<TICKVOL>",
        "2024.03.01\t22:00\t2\t3\t1\t2\t9",
        "",
        "2024.03.01\t23:00\t2\t3\t1\t2\t-",
    )
    names = "\n".join(f'{name} = "<{name.upper()}>"' for name in ("open", "high", "low", "close"))
    mapping = mapped(tmp_path, f'[columns]\ntime = ["<DATE>", "<TIME>"]\nvolume = "<TICKVOL>"\n{names}')
    (piece,) = fetched(path, "bars", interval="1h", mapping=mapping)
    assert rows(piece).select("time", "volume").rows() == [(utc(2024, 3, 1, 23), 9.0), (utc(2024, 3, 2), None)]
    assert (piece.rejected.height, piece.repeats) == (0, 0)


# ── symbols ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_symbols_are_written_as_they_are_stored(tmp_path: Path) -> None:
    source, request = law_case(tmp_path)
    assert isinstance(source, Files)
    assert source.symbols("trades", EVENTS) == ["A-USD", "B-USD"]
    pieces = list(source.fetch(request, {}))
    assert [(piece.symbol, rows(piece).height, {*rows(piece)["symbol"]}) for piece in pieces] == [
        ("A-USD", 300, {"A-USD"}),
        ("B-USD", 300, {"B-USD"}),
    ]
    path = table(tmp_path, "symbol,time,price,size", "^A/B,1709251200,2,1", "A-B,1709251200,3,1")
    with pytest.raises(SourceError, match=r"'\^A/B' and 'A-B' of table\.csv would both be A-B") as wrong:
        fetched(path, "trades", "A-B")
    assert wrong.value.fix == 'say in a --mapping: [values.symbol], then "A-B" = "ANOTHER"'
    named = mapped(tmp_path, '[values.symbol]\n"^A/B" = "INDEX"')
    assert [rows(p)["price"][0] for p in fetched(path, "trades", "INDEX", "A-B", mapping=named)] == [2.0, 3.0]


def test_a_constant_symbol_is_the_one_that_the_file_has(tmp_path: Path) -> None:
    path = table(tmp_path, "time,price,size", "1709251200,2,1")
    source = Files(path=path, mapping=mapped(tmp_path, 'symbol = "GC"'))
    assert source.symbols("trades", EVENTS) == ["GC"]
    with pytest.raises(UsageError, match=r"table\.csv has no rows of SI"):
        list(source.fetch(Request(("SI",), EVENTS, None, "trades"), {}))
    with pytest.raises(UsageError, match=r"table\.csv has no column of symbols"):
        Files(path=path).symbols("trades", EVENTS)
    both = mapped(tmp_path, 'symbol = "GC"\n[columns]\nsymbol = "price"')
    with pytest.raises(UsageError, match="the symbol is GC and also what 'price' says"):
        fetched(path, "trades", "GC", mapping=both)


def test_rows_of_no_symbol_are_rejected_with_the_first(tmp_path: Path) -> None:
    path = table(tmp_path, "symbol,time,price,size", "A,1709251200,2,1", ",1709251201,2,1", "B,1709251202,2,1")
    one, other = fetched(path, "trades", "A", "B")
    assert one.rejected.select("price", "fault").rows() == [(2.0, "no symbol or no time")]
    assert other.rejected.is_empty()


def test_symbols_of_a_large_file_are_read_one_by_one_with_the_same_result(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    both = [
        f"{s},{utc(2024, 3, 1) + n * timedelta(hours=1):%Y-%m-%d %H:%M},2,3,1,2,5" for n in range(400) for s in "AB"
    ]
    pl.read_csv(table(tmp_path, BARS_HEADER, *both)).write_parquet(tmp_path / "t.parquet")
    at_once = fetched(tmp_path / "t.parquet", "bars", "A", "B", interval="1h")
    monkeypatch.setattr("lab.sources.files.table_files.LARGE", 0)
    one_by_one = fetched(tmp_path / "t.parquet", "bars", "A", "B", interval="1h")
    assert [rows(piece).height for piece in at_once] == [400, 400]
    assert [(p.origin, p.digest, p.reading) for p in at_once] == [(p.origin, p.digest, p.reading) for p in one_by_one]
    for one, other in zip(at_once, one_by_one, strict=True):
        assert rows(one).equals(rows(other))


# ── times ───────────────────────────────────────────────────────────────────────────────────────────────────────────

# How many of wall_clock_times no clock there shows, or twice: Lord Howe Island moves its clocks by half an hour.
UNCLEAR = {
    "America/New_York": 12,
    "Europe/London": 8,
    "Asia/Tokyo": 0,
    "Australia/Lord_Howe": 4,
    "America/Sao_Paulo": 8,
}


def wall_clock_times() -> list[datetime]:
    """Every quarter of an hour around the changes of the clock, leap day, new year, and a day before 1970."""
    starts = [
        utc(2024, 3, 9, 22),
        utc(2024, 3, 30, 22),
        utc(2024, 4, 6, 12),
        utc(2024, 10, 5, 12),
        utc(2024, 10, 26, 22),
    ]
    starts += [utc(2024, 11, 2, 22), utc(2018, 11, 3, 22), utc(2018, 2, 17, 22), utc(2024, 2, 28, 23), utc(1969, 7, 20)]
    starts += [utc(2024, 12, 31, 22)]
    return [start.replace(tzinfo=None) + n * timedelta(minutes=15) for start in starts for n in range(80)]


def in_utc(wall: datetime, zone: str) -> datetime | None:
    """By Python's own zones: the one moment at which a clock there shows this; None where there is none, or two."""
    candidates = {wall.replace(tzinfo=ZoneInfo(zone), fold=fold).astimezone(UTC) for fold in (0, 1)}
    shown = [moment for moment in candidates if moment.astimezone(ZoneInfo(zone)).replace(tzinfo=None) == wall]
    return shown[0] if len(shown) == 1 else None


@pytest.mark.parametrize("zone", UNCLEAR)
def test_a_clock_on_the_wall_is_read_where_it_is_clear_and_rejected_where_it_is_not(tmp_path: Path, zone: str) -> None:
    walls = wall_clock_times()
    lines = [f"{wall:%Y-%m-%d %H:%M:%S},{n + 1},1" for n, wall in enumerate(walls)]
    path = table(tmp_path, "time,price,size", *lines)
    (piece,) = fetched(path, "trades", mapping=mapped(tmp_path, f'timezone = "{zone}"'))
    expected = {n + 1.0: in_utc(wall, zone) for n, wall in enumerate(walls)}
    clear = {price: moment for price, moment in expected.items() if moment}
    assert dict(rows(piece).select("price", "time").iter_rows()) == clear
    assert dict(piece.rejected.select("price", "fault").iter_rows()) == {
        price: f"{walls[int(price) - 1]:%Y-%m-%d %H:%M:%S} comes twice or not at all in {zone}"
        for price in expected.keys() - clear.keys()
    }
    assert len(expected) - len(clear) == UNCLEAR[zone]


def test_times_that_name_their_zone_do_not_ask_for_one(tmp_path: Path) -> None:
    path = table(tmp_path, "time,price,size", "2024-03-10 02:30:00-05:00,2,1", "2024-11-03T01:30:00Z,2,1")
    (piece,) = fetched(path, "trades", mapping=mapped(tmp_path, 'timezone = "America/New_York"'))
    assert piece.rejected["fault"].to_list() == ["no symbol or no time"]  # two forms in one column: the first counts
    path = table(tmp_path, "time,price,size", "2024-03-10 02:30:00-05:00,2,1", "2024-11-03 01:30:00Z,2,1")
    (piece,) = fetched(path, "trades", mapping=mapped(tmp_path, 'timezone = "America/New_York"'))
    assert rows(piece)["time"].to_list() == [utc(2024, 3, 10, 7, 30), utc(2024, 11, 3, 1, 30)]


def test_a_day_ends_at_the_midnight_of_its_zone(tmp_path: Path) -> None:
    days = [f"X,2024-03-{day:02},2,3,1,2,5" for day in (7, 8, 9, 10, 11)]
    mapping = mapped(tmp_path, 'timezone = "America/New_York"')
    (piece,) = fetched(table(tmp_path, BARS_HEADER, *days), "bars", interval="1d", mapping=mapping)
    assert rows(piece)["time"].to_list() == [utc(2024, 3, day, 5) for day in (8, 9, 10)] + [
        utc(2024, 3, day, 4) for day in (11, 12)
    ]


def test_bars_of_hours_end_by_the_clock_and_never_too_early(tmp_path: Path) -> None:
    fall = [f"X,2024-11-{day:02} {hour:02}:00,2,3,1,2,5" for day in (2, 3) for hour in range(0, 24, 4)]
    mapping = mapped(tmp_path, 'timezone = "America/New_York"')
    (piece,) = fetched(table(tmp_path, BARS_HEADER, *fall), "bars", interval="4h", mapping=mapping)
    zone = ZoneInfo("America/New_York")
    ends = [
        datetime(2024, 11, day, hour, tzinfo=zone) + timedelta(hours=4) for day in (2, 3) for hour in range(0, 24, 4)
    ]
    assert rows(piece)["time"].to_list() == [end.astimezone(UTC) for end in ends]
    late = [f"X,2024-11-02 {hour}:30,2,3,1,2,5" for hour in (19, 21, 23)]
    (piece,) = fetched(table(tmp_path, BARS_HEADER, *late), "bars", interval="2h", mapping=mapping)
    assert rows(piece)["time"][-1] == utc(2024, 11, 3, 6, 30)  # the second 01:30 of that night
    hourly = [f"X,2024-11-03 {hour:02}:00,2,3,1,2,5" for hour in (0, 1, 2, 3)]
    (piece,) = fetched(table(tmp_path, BARS_HEADER, *hourly), "bars", interval="1h", mapping=mapping)
    assert rows(piece)["time"].to_list() == [utc(2024, 11, 3, hour) for hour in (5, 8, 9)]
    assert piece.rejected["fault"].to_list() == ["2024-11-03 01:00:00 comes twice or not at all in America/New_York"]


@pytest.mark.parametrize(
    ("written", "moment"),
    [
        ("1735689600123456789", utc(2025, 1, 1, 0, 0, 0, 123456)),
        ("1735689600.123456", utc(2025, 1, 1, 0, 0, 0, 123456)),
        ("1735689600123.456", utc(2025, 1, 1, 0, 0, 0, 123456)),
        ("-14182940", utc(1969, 7, 20, 20, 17, 40)),
        ("20240229", utc(2024, 2, 29)),
        ("2024/02/29 23:59:59.5", utc(2024, 2, 29, 23, 59, 59, 500000)),
        ("2016-12-31 23:59:60", utc(2017, 1, 1)),
        (" 2024-02-29 12:00 ", utc(2024, 2, 29, 12)),
    ],
)
def test_one_time_in_any_form_is_that_moment(tmp_path: Path, written: str, moment: datetime) -> None:
    (piece,) = fetched(table(tmp_path, "time,price,size", f"{written},2,1"), "trades")
    assert rows(piece)["time"].to_list() == [moment]


@pytest.mark.parametrize("dates", [[20240229, 20240301], [20240229.0, 20240301.0]])
def test_whole_numbers_that_are_dates_are_not_seconds_of_august_1970(tmp_path: Path, dates: list[float]) -> None:
    pl.DataFrame({"date": dates, "value": [50, 60]}).write_parquet(tmp_path / "mood.parquet")
    (piece,) = fetched(tmp_path / "mood.parquet", "mood")
    assert rows(piece)["time"].to_list() == [utc(2024, 2, 29), utc(2024, 3, 1)]


def test_a_form_that_lab_does_not_know_can_be_named(tmp_path: Path) -> None:
    path = table(tmp_path, "time,price,size", "01.02.2024 10:00:00.250,2,1", "31.02.2024 10:00:00.250,2,1")
    with pytest.raises(UsageError, match=r"holds '01\.02\.2024 10:00:00\.250', which is no time that lab can read"):
        fetched(path, "trades")
    named = mapped(tmp_path, 'time_format = "%d.%m.%Y %H:%M:%S%.f"\ntimezone = "Europe/Berlin"')
    (piece,) = fetched(path, "trades", mapping=named)
    assert rows(piece)["time"].to_list() == [utc(2024, 2, 1, 9, 0, 0, 250000)]
    assert piece.rejected["fault"].to_list() == ["no symbol or no time"]


def test_most_of_a_column_says_what_it_is(tmp_path: Path) -> None:
    path = table(tmp_path, "time,price,size", "5,1,1", "2024-03-01 10:00,2,1", "2024-03-01 10:01,3,1")
    (piece,) = fetched(path, "trades")
    assert rows(piece)["price"].to_list() == [2.0, 3.0]
    assert piece.rejected["fault"].to_list() == ["no symbol or no time"]


# ── numbers, sides and levels ───────────────────────────────────────────────────────────────────────────────────────

decimals = st.decimals(min_value=Decimal("1e-8"), max_value=Decimal("1e8"), places=8)


@given(st.lists(decimals, min_size=1, max_size=20))
def test_a_decimal_is_read_as_the_number_nearest_to_it(prices: list[Decimal]) -> None:
    lines = [f"{1709251200 + n},{price},{price}" for n, price in enumerate(prices)]
    with TemporaryDirectory() as folder:
        (piece,) = fetched(table(Path(folder), "time,price,size", *lines), "trades")
    assert rows(piece)["price"].to_list() == [float(price) for price in prices]


@given(st.lists(st.integers(1, 10**12), min_size=1, max_size=20), st.integers(0, 8))
def test_a_unit_makes_the_decimal_that_is_meant(ticks: list[int], places: int) -> None:
    unit = Decimal(1).scaleb(-places)
    lines = [f"{1709251200 + n},{tick},1" for n, tick in enumerate(ticks)]
    with TemporaryDirectory() as folder:
        mapping = mapped(Path(folder), f"[units]\nprice = {float(unit)!r}")
        (piece,) = fetched(table(Path(folder), "time,price,size", *lines), "trades", mapping=mapping)
    assert rows(piece)["price"].to_list() == [float(tick * unit) for tick in ticks]


def test_trades_that_look_alike_are_two(tmp_path: Path) -> None:
    path = table(
        tmp_path, "time,price,size,side", *["1709251200,2,1,buy"] * 2, "1709251199,2,0,buy", "1709251198,2,1,sell"
    )
    (piece,) = fetched(path, "trades")
    assert rows(piece).select("price", "side").rows() == [(2.0, -1), (2.0, 1), (2.0, 1)]
    assert piece.rejected.select("line", "fault").rows() == [(3, "size is zero or below")]
    assert piece.repeats == 0


def test_sides_are_what_the_mapping_says_and_nothing_is_guessed(tmp_path: Path) -> None:
    maker = table(
        tmp_path, "time,price,size,is_buyer_maker", "1709251200,2,1,true", "1709251201,2,1,false", "1709251202,2,1,"
    )
    said = mapped(tmp_path, '[columns]\nside = "is_buyer_maker"\n[values.side]\ntrue = -1\nfalse = 1')
    (piece,) = fetched(maker, "trades", mapping=said)
    assert rows(piece)["side"].to_list() == [-1, 1, 0]  # an empty side is unknown
    pl.read_csv(maker).write_parquet(tmp_path / "t.parquet")
    assert rows(fetched(tmp_path / "t.parquet", "trades", mapping=said)[0])["side"].to_list() == [-1, 1, 0]
    odd = table(tmp_path, "time,price,size,side", "1709251200,2,1,buy", "1709251201,2,1,cross")
    (piece,) = fetched(odd, "trades")
    assert piece.rejected["fault"].to_list() == ["side is cross, which the mapping does not name"]
    with pytest.raises(UsageError, match=r"no column is known to be side: table\.csv has the columns"):
        fetched(table(tmp_path, "time,price,size", "1709251200,2,1"), "liquidations")


def test_empty_levels_of_a_book_are_null_and_units_count_for_every_level(tmp_path: Path) -> None:
    path = table(tmp_path, "time,b00,b01,a00,a01", "1709251200,19990,19980,20010,", "1709251201,20000,x,20010,20020")
    levels = '{ pattern = "%s{:02}", from = 0, levels = 2 }'
    text = f"[columns]\nbid = {levels % 'b'}\nask = {levels % 'a'}\n[units]\nbid = 0.1\nask = 0.1"
    (piece,) = fetched(path, "books", mapping=mapped(tmp_path, text))
    assert rows(piece).select("bid_1", "bid_2", "ask_1", "ask_2").rows() == [(1999.0, 1998.0, 2001.0, None)]
    assert piece.rejected["fault"].to_list() == ["bid_2 is x, which is no number"]


def test_cells_that_are_no_number_are_rejected_and_missing_ones_null(tmp_path: Path) -> None:
    lines = [
        f"X,2024-03-01 {n:02}:00,2,3,1,2,{volume}" for n, volume in enumerate(["5", "", "n/a", "NaN", "5,000", "1e3"])
    ]
    path = table(tmp_path, BARS_HEADER, *lines[:4], 'X,2024-03-01 04:00,2,3,1,2,"5,000"', lines[5])
    (piece,) = fetched(path, "bars", interval="1h")
    assert rows(piece)["volume"].to_list() == [5.0, None, None, None, 1000.0]
    assert piece.rejected.select("time", "fault").rows() == [
        (utc(2024, 3, 1, 5), "volume is 5,000, which is no number")
    ]
    trades = table(tmp_path, "time,price,size,id", "1709251200,2,1,ab12", "1709251201,2,1,cd34")
    with pytest.raises(UsageError, match=r"'id' of table\.csv holds 'ab12', which is no number") as wrong:
        fetched(trades, "trades")
    assert wrong.value.fix == "choose another column: --map id=COLUMN"


def test_a_split_without_a_dividend_pays_none(tmp_path: Path) -> None:
    path = table(tmp_path, "ex_date,dividends,splits", "2024-03-01,0.5,", "2024-03-04,,4", "2024-03-05,some,")
    (piece,) = fetched(path, "actions", mapping=mapped(tmp_path, '[known]\ndelay = "0s"'))
    assert rows(piece).select("known_at", "dividend", "split").rows() == [
        (utc(2024, 3, 1), 0.5, 1.0),
        (utc(2024, 3, 4), 0.0, 4.0),
    ]
    assert piece.rejected["fault"].to_list() == ["dividend is some, which is no number"]


# ── mappings ────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_how_a_file_was_read_is_kept_with_every_piece(tmp_path: Path) -> None:
    path = table(tmp_path, BARS_HEADER, *(f"{s},2024-03-01 {n:02}:00,2,3,1,2,5" for n in range(3) for s in "AB"))
    pieces = fetched(path, "bars", "A", "B", interval="1h")
    assert [json.loads(piece.reading) for piece in pieces] == [
        {
            "kind": "bars",
            "columns": {name: [name] for name in sorted(BARS_HEADER.split(","))},
            "symbol": None,
            "symbols": {},
            "sides": {},
            "time_is": "open",
            "timezone": "UTC",
            "time_format": "",
            "units": {},
            "delay": None,
        }
    ] * 2


def test_the_same_reading_said_otherwise_is_the_same_origin_and_another_reading_is_not(tmp_path: Path) -> None:
    path = table(tmp_path, "a,b,c", "1709251200,2,1", "1709251260,2,1")
    request = Request(("X",), EVENTS, None, "trades")
    names = (("time", "a"), ("price", "b"), ("size", "c"))
    first = Files(path=path, map=names)
    (piece,) = first.fetch(request, {})
    done = {piece.origin: piece.digest}
    written = mapped(tmp_path, '[columns]\nsize = "c"\ntime = "a"\nprice = "b"')
    assert list(replace(first, map=names[::-1]).fetch(request, done)) == []
    assert list(Files(path=path, mapping=written).fetch(request, done)) == []
    for other in ("[units]\nprice = 0.1", 'timezone = "Asia/Tokyo"', '[known]\ndelay = "1s"'):
        changed = replace(first, mapping=mapped(tmp_path, other))
        assert [each.origin in done for each in changed.fetch(request, done)] == [False], other


def test_the_command_line_goes_before_the_mapping(tmp_path: Path) -> None:
    path = table(tmp_path, "time,price,last,size", "1709251200,2,3,1")
    mapping = mapped(tmp_path, '[columns]\nprice = "last"')
    assert rows(fetched(path, "trades", mapping=mapping)[0])["price"].to_list() == [3.0]
    (piece,) = fetched(path, "trades", mapping=mapping, map=(("price", "price"),))
    assert rows(piece)["price"].to_list() == [2.0]
    bars = table(tmp_path, BARS_HEADER, "X,2024-03-01 01:00,2,3,1,2,5")
    ends = mapped(tmp_path, 'time_is = "close"')
    assert rows(fetched(bars, "bars", interval="1h", mapping=ends)[0])["time"][0] == utc(2024, 3, 1, 1)
    (piece,) = fetched(bars, "bars", interval="1h", mapping=ends, time_is="open")
    assert rows(piece)["time"][0] == utc(2024, 3, 1, 2)


def test_the_example_that_errors_show_is_a_mapping(tmp_path: Path) -> None:
    cells = ["01.03.2024", "10:00", *(str(20_000 - n) for n in range(5)), *(str(20_001 + n) for n in range(5))]
    names = ["Date", "Time", *(f"{side}_price_{n}" for side in ("bid", "offer") for n in range(5))]
    path = table(tmp_path, ",".join(names), ",".join(cells))
    (piece,) = fetched(path, "books", "GC", mapping=mapped(tmp_path, EXAMPLE))
    assert rows(piece).select("time", "bid_1", "ask_5").rows() == [(utc(2024, 3, 1, 15), 2.0, 2.0005)]
    every = MappingFile.load(mapped(tmp_path, EXAMPLE.replace("\n# ", "\n")))
    assert {*every.model_fields_set} == {*MappingFile.model_fields}
    with pytest.raises(UsageError) as missing:
        fetched(table(tmp_path, "a,b", "1,2"), "trades")
    assert missing.value.fix.endswith(EXAMPLE)


@pytest.mark.parametrize(
    ("text", "problem", "fix"),
    [
        ('timezon = "UTC"', "timezon is not a setting", "did you mean timezone"),
        ('[columns]\nbid = { pattern = "b{}", fro = 0, levels = 5 }', "fro is not a setting", "did you mean from?"),
        ("[value.side]\nB = 1", "value is not a setting", "did you mean values?"),
        ("[values.size]\nB = 1", "values.size is not a setting", "did you mean side"),
        ('timezone = "Mars/Olympus"', "timezone is 'Mars/Olympus': there is no such time zone", "correct timezone"),
        ("[values.side]\nB = 2", "values.side.B is 2: input should be -1, 0 or 1", "correct values.side.B"),
        ("[units]\nprice = 0", "units.price is 0: input should be greater than 0", "correct units.price"),
        ("[units]\nprise = 2", "[units] prise is no number that is read", "did you mean price?"),
        ('[known]\ndelay = "soon"', "known.delay is 'soon': write it as 30s, 15m, 1h or 1d", "correct known.delay"),
        ('kind = "quotes"', "the mapping is for quotes, not for trades", "ask for --kind quotes"),
        ('time_is = "close"', "trades neither open nor close", "leave out time_is"),
        ('[columns]\nprize = "p"', "trades have no column 'prize'", "did you mean price"),
        ('[columns]\nprice = ["p", "q"]', "price cannot be made of 2 columns", "only time and known_at can"),
        ('[columns]\nprice = { pattern = "p{}", levels = 2 }', "price of trades has no levels", "patterns are for bid"),
        (
            '[columns]\nprice = { pattern = "p", levels = 2 }',
            "it needs one {} where the number",
            "correct columns.price",
        ),
        ("columns = 5", "columns is 5: input should be a valid dictionary", "correct columns"),
        ("kind = ", "is no TOML: Invalid value", "a mapping looks like this:"),
    ],
)
def test_a_mapping_that_cannot_be_meant_is_told_what_to_write(
    tmp_path: Path, text: str, problem: str, fix: str
) -> None:
    path = table(tmp_path, "time,price,size,p,q,p1,p2,b1", "1709251200,2,1,1,1,1,1,1")
    with pytest.raises(UsageError) as wrong:
        fetched(path, "trades", mapping=mapped(tmp_path, text))
    assert problem in wrong.value.problem
    assert wrong.value.fix.startswith(fix)


def test_requests_that_make_no_sense_are_refused(tmp_path: Path) -> None:
    path = table(tmp_path, "time,price,size", "1709251200,2,1")
    with pytest.raises(UsageError, match=r"none\.toml cannot be read: No such file"):
        fetched(path, "trades", mapping=tmp_path / "none.toml")
    with pytest.raises(UnknownName, match="no interval named '7m'"):
        fetched(path, "bars", interval="7m")
    with pytest.raises(UsageError, match="no column is known to be open_interest or open_interest_value"):
        fetched(path, "metrics")
    with pytest.raises(UsageError, match="bars are known at their time"):
        fetched(path, "bars", interval="1m", mapping=mapped(tmp_path, '[known]\ndelay = "1h"'))
