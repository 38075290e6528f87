"""Kraken's history files: recorded quarters, members of a zip, trades without a side."""

from pathlib import Path

import polars as pl
import pytest

from lab.errors import SourceError, UsageError
from lab.nouns import Bars, Piece
from lab.sources import Request, Source, vendor
from lab.sources.kraken import Kraken
from tests.archive import utc, zipped

MARKET = Path(__file__).parents[2].parent / "shared/market/crypto/kraken_ohlcvt"
FIRST_DAY = "1381017600,122.0,122.0,122.0,122.0,0.1,1\n"


def bars_of(path: Path, symbol: str = "XBTUSD", interval: str = "5m") -> Piece:
    (piece,) = Kraken(path=path).fetch(Request((symbol,), interval), {})
    return piece


def trades_of(path: Path, done: dict[str, str] | None = None) -> list[Piece]:
    return list(Kraken(path=path).fetch(Request(("XBTUSD",), "events", None, "trades"), done or {}))


def frame(piece: Piece) -> pl.DataFrame:
    assert piece.table is not None
    return piece.table.frame


def law_case(folder: Path) -> tuple[Source, Request]:
    lines = "".join(f"{1704067200 + 86400 * n}.{n:04},{100 + n},{n + 1}\n" for n in range(70))
    (folder / "XBTUSD.csv").write_text(lines)
    return Kraken(path=folder / "XBTUSD.csv"), Request(("XBTUSD",), "events", None, "trades")


def test_the_first_daily_bar_is_the_one_that_kraken_published(tmp_path: Path) -> None:
    (tmp_path / "XBTUSD_1440.csv").write_text(FIRST_DAY)
    assert frame(bars_of(tmp_path / "XBTUSD_1440.csv", interval="1d")).to_dicts() == [
        {
            "symbol": "XBTUSD",
            "time": utc(2013, 10, 7),
            "open": 122.0,
            "high": 122.0,
            "low": 122.0,
            "close": 122.0,
            "volume": 0.1,
            "trades": 1.0,
        }
    ]


@pytest.mark.parametrize(("symbol", "rows", "missing"), [("XBTUSD", 25901, 19), ("XBTUSDC", 22893, 3027)])
def test_a_recorded_quarter_has_its_gaps(symbol: str, rows: int, missing: int) -> None:
    path = MARKET / f"{symbol}_5.csv"
    if not path.is_file():
        pytest.skip(f"no recorded quarter at {path}")
    piece = bars_of(path, symbol)
    assert isinstance(piece.table, Bars)
    assert (piece.table.frame.height, piece.rejected.height, piece.repeats) == (rows, 0, 0)
    assert (piece.table.calendar, piece.table.gaps()["missing"].sum()) == ("continuous", missing)
    assert piece.table.closes == (utc(2023, 1, 1, 0, 5), utc(2023, 4, 1))


def test_the_wanted_member_is_taken_from_a_zip(tmp_path: Path) -> None:
    path = tmp_path / "Kraken_OHLCVT_Q1_2023.zip"
    members = {
        "Kraken/XBTUSD_1440.csv": FIRST_DAY,
        "__MACOSX/Kraken/._XBTUSD_1440.csv": "no bars",
        "Kraken/ETHUSD_1440.csv": FIRST_DAY.replace("122.0", "9.0"),
        "../XBTUSD_60.csv": FIRST_DAY,
    }
    path.write_bytes(zipped("Kraken/XBTUSD_1.csv", FIRST_DAY, **members))
    pieces = list(Kraken(path=path).fetch(Request(("XBTUSD", "ETHUSD"), "1d"), {}))
    assert [(piece.symbol, frame(piece)["close"].to_list()) for piece in pieces] == [
        ("XBTUSD", [122.0]),
        ("ETHUSD", [9.0]),
    ]
    done = {piece.origin: piece.digest for piece in pieces}
    assert list(Kraken(path=path).fetch(Request(("XBTUSD", "ETHUSD"), "1d"), done)) == []
    with pytest.raises(UsageError, match=r"holds no SOLUSD_1440\.csv alone") as refused:
        bars_of(path, "SOLUSD", "1d")
    assert refused.value.fix.startswith("ask for what it has: XBTUSD_1.csv, XBTUSD_1440.csv, ")


def test_a_file_is_what_its_name_says(tmp_path: Path) -> None:
    path = tmp_path / "XBTUSD_5.csv"
    path.write_text(FIRST_DAY)
    with pytest.raises(UsageError, match=r"XBTUSD_5\.csv is not named XBTUSD_60\.csv"):
        bars_of(path, interval="1h")
    with pytest.raises(UsageError, match="Kraken publishes no 2h bars"):
        bars_of(path, interval="2h")
    path.write_text("time,open,high,low,close,volume,trades\n" + FIRST_DAY)
    with pytest.raises(SourceError, match="begins with 'time,open"):
        bars_of(path)


def test_rows_that_cannot_be_bars_are_rejected(tmp_path: Path) -> None:
    path = tmp_path / "XBTUSD_5.csv"
    rows = ["1672531200,1,2,1,2,5,3", "1672531501,1,2,1,2,5,3", "1672531800,1,2,1,x,5,3", "1672531200,1,2,1,2,5,3"]
    path.write_text("".join(f"{row}\n" for row in rows))
    piece = bars_of(path)
    assert (frame(piece)["time"].to_list(), piece.repeats) == ([utc(2023, 1, 1, 0, 5)], 1)
    assert piece.rejected["fault"].to_list() == ["not on the grid of 5m bars", "a price is missing or not a number"]


def test_trades_come_by_the_month_with_every_decimal(tmp_path: Path) -> None:
    path = tmp_path / "XBTUSD.csv"
    path.write_text(
        "1706745599.9999,42000.1,0.5\n1706745599.9999,42000.1,0.5\n1706745600,42001,0.1\n1706745600.1234567,42001,1\n"
        "1717200000.5,1,1\nsoon,1,1\n"
    )
    january, february, june = trades_of(path)
    assert (
        frame(january).to_dicts()
        == [
            {
                "symbol": "XBTUSD",
                "time": utc(2024, 1, 31, 23, 59, 59, 999900),
                "price": 42000.1,
                "size": 0.5,
                "side": 0,
            }
        ]
        * 2
    )
    assert frame(february)["time"].to_list() == [utc(2024, 2, 1), utc(2024, 2, 1, 0, 0, 0, 123456)]
    assert frame(june)["time"].to_list() == [utc(2024, 6, 1, 0, 0, 0, 500000)]
    assert [piece.origin[-7:] for piece in (january, february, june)] == ["2024-01", "2024-02", "2024-06"]
    assert [piece.rejected.height for piece in (january, february, june)] == [1, 0, 0]
    assert january.rejected.select("line", "fault").rows() == [(6, "no symbol or no time")]
    (left,) = trades_of(path, {january.origin: "", june.origin: ""})
    assert left.origin == february.origin


def test_a_long_history_is_the_same_in_small_blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source, request = law_case(tmp_path)
    whole = [(piece.origin, frame(piece).rows()) for piece in source.fetch(request, {})]
    monkeypatch.setattr(vendor, "BLOCK_BYTES", 100)
    assert [(piece.origin, frame(piece).rows()) for piece in source.fetch(request, {})] == whole
    assert [len(rows) for _, rows in whole] == [31, 29, 10]
