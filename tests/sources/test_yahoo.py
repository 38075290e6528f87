"""Yahoo's daily history as yfinance saves it: what traded on a day, whatever was split or paid later."""

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest

from lab.errors import SourceError, UsageError
from lab.nouns import Bars, Piece
from lab.sources import Request, Source
from lab.sources.yahoo import Yahoo
from tests.archive import utc

HEADER = "Date,Open,High,Low,Close,Adj Close,Volume,Dividends,Stock Splits"
# Apple around its split of 31 August 2020: it closed at 499.23 on the 28th and had paid 0.82 on the 7th.
APPLE = [
    "2020-08-06 00:00:00-04:00,110.404999,114.412498,109.797501,113.902496,110.7,202428800,0.0,0.0",
    "2020-08-07 00:00:00-04:00,113.205002,113.675003,110.292503,111.112503,108.2,198045600,0.205,0.0",
    "2020-08-28 00:00:00-04:00,126.012497,126.442497,124.577499,124.807503,121.5,187630000,0.0,0.0",
    "2020-08-31 00:00:00-04:00,127.580002,131.000000,126.000000,129.039993,125.6,225702700,0.0,4.0",
    "2020-09-01 00:00:00-04:00,132.759995,134.800003,130.529999,134.179993,130.6,151948100,0.0,0.0",
]


def written(folder: Path, *lines: str, header: str = HEADER, name: str = "AAPL.csv") -> Path:
    (folder / name).write_text("\n".join([header, *lines]) + "\n")
    return folder / name


def fetched(path: Path, *symbols: str, kind: str = "bars", done: dict[str, str] | None = None) -> list[Piece]:
    interval = {"bars": "1d", "actions": "events"}[kind]
    return list(Yahoo(path=path).fetch(Request(symbols or ("AAPL",), interval, None, kind), done or {}))


def rows(piece: Piece) -> pl.DataFrame:
    assert piece.table is not None
    return piece.table.frame


def downloaded(folder: Path, *, by_ticker: bool = False) -> Path:
    """Two tickers as yfinance.download writes them; the second has no session on 2 January."""
    names = ["Adj Close", "Close", "Dividends", "High", "Low", "Open", "Stock Splits", "Volume"]
    cells = {"Adj Close": 1, "Close": 2, "Dividends": 0, "High": 3, "Low": 1, "Open": 2, "Stock Splits": 0, "Volume": 9}
    columns = [(name, ticker) for name in names for ticker in ("AAA", "BRK/B")]
    if by_ticker:
        columns.sort(key=lambda column: column[1])
    heads = [["Price", *(name for name, _ in columns)], ["Ticker", *(ticker for _, ticker in columns)]]
    lines = [*(heads[::-1] if by_ticker else heads), ["Date", *[""] * len(columns)]]
    for day in (2, 3, 4):
        held = [str(cells[name]) if ticker == "AAA" or day != 2 else "" for name, ticker in columns]
        lines.append([f"2024-01-{day:02}", *held])
    (folder / "both.csv").write_text("\n".join(",".join(line) for line in lines))
    return folder / "both.csv"


def law_case(folder: Path) -> tuple[Source, Request]:
    return Yahoo(path=downloaded(folder)), Request(("AAA", "BRK-B"), "1d")


def test_a_session_is_a_bar_as_it_traded_that_day(tmp_path: Path) -> None:
    (piece,) = fetched(written(tmp_path, *APPLE))
    assert isinstance(piece.table, Bars)
    assert (piece.table.calendar, piece.rejected.height, piece.repeats) == ("weekdays", 0, 0)
    frame = rows(piece)
    assert frame["time"].to_list() == [utc(2020, 8, day) for day in (7, 8, 29)] + [utc(2020, 9, 1), utc(2020, 9, 2)]
    assert frame["close"].to_list() == pytest.approx([455.61, 444.45, 499.23, 129.04, 134.18], abs=1e-4)
    assert frame["high"].to_list() == pytest.approx([457.65, 454.70, 505.77, 131.00, 134.80], abs=1e-4)
    assert frame["volume"].to_list() == [50_607_200, 49_511_400, 46_907_500, 225_702_700, 151_948_100]


def test_dividends_and_splits_are_known_from_the_midnight_that_begins_their_day(tmp_path: Path) -> None:
    (piece,) = fetched(written(tmp_path, *APPLE), kind="actions")
    assert rows(piece).rows() == [
        ("AAPL", utc(2020, 8, 7), utc(2020, 8, 7, 4), 0.82, 1.0),
        ("AAPL", utc(2020, 8, 31), utc(2020, 8, 31, 4), 0.0, 4.0),
    ]
    plain = [line.replace(" 00:00:00-04:00", "") for line in APPLE]
    (piece,) = fetched(written(tmp_path, *plain), kind="actions")
    assert rows(piece)["known_at"].to_list() == [utc(2020, 8, 7), utc(2020, 8, 31)]


def test_decades_of_apple_come_back_as_they_traded(real_markets: Path, tmp_path: Path) -> None:
    """Recorded prices as traded, divided by the later splits as Yahoo does, are read back as they traded."""
    traded = pl.read_parquet(real_markets / "equity/us_daily/us_daily_shared.parquet").filter(
        pl.col("symbol") == "AAPL"
    )
    factor = 1 / (1 / pl.col("split_factor")).round()  # recorded with seven digits
    split = (factor / factor.shift(1)).fill_null(1.0).round(4)
    text = traded.select(
        pl.col("date").alias("Date"),
        *((pl.col(name.lower()) * factor).alias(name) for name in ("Open", "High", "Low", "Close")),
        pl.col("adj_close").alias("Adj Close"),
        (pl.col("volume") / factor).alias("Volume"),
        pl.lit(0.0).alias("Dividends"),
        pl.when(split > 1).then(split).otherwise(0.0).alias("Stock Splits"),
    ).write_csv()
    (tmp_path / "AAPL.csv").write_text(text)
    (piece,) = fetched(tmp_path / "AAPL.csv")
    assert rows(piece).height == 5849
    assert piece.rejected.is_empty()
    for name in ("open", "high", "low", "close", "volume"):
        assert rows(piece)[name].to_list() == pytest.approx(traded[name].cast(pl.Float64).to_list(), rel=1e-9)
    (piece,) = fetched(tmp_path / "AAPL.csv", kind="actions")
    assert rows(piece).select(pl.col("time").dt.date().cast(pl.String), "split").rows() == [
        ("2000-06-21", 2.0),
        ("2005-02-28", 2.0),
        ("2014-06-09", 7.0),
        ("2020-08-31", 4.0),
    ]


@pytest.mark.parametrize("by_ticker", [False, True])
def test_a_download_of_several_tickers_is_read_by_its_heads(tmp_path: Path, by_ticker: bool) -> None:
    path = downloaded(tmp_path, by_ticker=by_ticker)
    assert Yahoo(path=path).symbols("bars", "1d") == ["AAA", "BRK-B"]
    pieces = fetched(path, "AAA", "BRK-B")
    assert [(piece.symbol, rows(piece)["time"].to_list(), piece.rejected.height) for piece in pieces] == [
        ("AAA", [utc(2024, 1, day) for day in (3, 4, 5)], 0),
        ("BRK-B", [utc(2024, 1, day) for day in (4, 5)], 0),
    ]
    assert rows(pieces[0]).row(0)[2:] == (2.0, 3.0, 1.0, 2.0, 9.0)
    with pytest.raises(UsageError, match=r"both\.csv has no rows of AAB") as wrong:
        fetched(path, "AAB")
    assert wrong.value.fix == "ask for one of AAA, BRK-B"


def test_prices_that_are_adjusted_already_are_refused_with_the_command_for_others(tmp_path: Path) -> None:
    adjusted = HEADER.replace("Adj Close,", "")
    with pytest.raises(SourceError, match=r"has no 'Adj Close': its prices are adjusted already") as wrong:
        fetched(written(tmp_path, "2024-01-02,1,1,1,1,1,0,0", header=adjusted))
    assert wrong.value.fix == (
        'save it by yfinance.Ticker("AAPL").history(period="max", auto_adjust=False).to_csv("AAPL.csv")'
    )
    with pytest.raises(SourceError, match="has no Dividends, Stock Splits: it has no actions"):
        fetched(written(tmp_path, "2024-01-02,1,1,1,1,1,1", header=HEADER.split(",Div")[0]))
    with pytest.raises(SourceError, match="has no Date"):
        fetched(written(tmp_path, "2024-01-02,1,1,1,1,1,1,0,0", header=HEADER.replace("Date", "Datetime")))
    with pytest.raises(SourceError, match="mostly 7 days, 0:00:00 apart, not a day"):
        fetched(written(tmp_path, *(f"2024-01-{day:02},1,1,1,1,1,1,0,0" for day in (1, 8, 15, 22))))
    with pytest.raises(SourceError, match=r"says '4:1' for the split of 2024-01-02"):
        fetched(written(tmp_path, "2024-01-02,1,1,1,1,1,1,0,4:1"))


def test_a_session_that_was_not_over_when_the_file_was_written_is_rejected(tmp_path: Path) -> None:
    path = written(tmp_path, *APPLE)
    saved = utc(2020, 9, 1, 18).timestamp()
    os.utime(path, (saved, saved))
    (piece,) = fetched(path)
    assert (rows(piece).height, rows(piece)["time"].max()) == (4, utc(2020, 9, 1))
    assert piece.rejected.select("time", "fault").rows() == [
        (utc(2020, 9, 2), "the session was not over when the file was written")
    ]
    today = datetime.now(UTC).date()
    path = written(tmp_path, f"{today - timedelta(days=1)},1,1,1,1,1,1,0,0", f"{today},1,1,1,1,1,1,0,0")
    late = (datetime.now(UTC) + timedelta(days=3)).timestamp()
    os.utime(path, (late, late))
    (piece,) = fetched(path)
    assert (rows(piece).height, piece.rejected.height) == (1, 1)


def test_rows_that_cannot_be_are_rejected_and_repeats_counted(tmp_path: Path) -> None:
    lines = [
        *APPLE,
        APPLE[3],  # the split again: it is no second one
        "2020-09-02,null,1,1,1,1,1,0,0",
        "2020-09-03,,,,,,,,",
        "yesterday,1,1,1,1,1,1,0,0",
        "2020-09-04,1,1,1,1,1,1,much,0",
    ]
    path = written(tmp_path, *lines)
    (piece,) = fetched(path)
    assert (rows(piece).height, piece.repeats) == (6, 1)
    assert rows(piece)["close"][0] == pytest.approx(455.61, abs=1e-4)
    assert sorted(piece.rejected["fault"]) == [
        "a price is missing or not a number",
        "a price is missing or not a number",
        "no symbol or no time",
    ]
    (piece,) = fetched(path, kind="actions")
    assert (rows(piece).height, piece.repeats) == (2, 1)
    assert piece.rejected["fault"].to_list() == ["Dividends is much, which is no number"]


def test_a_file_is_done_until_its_content_changes(tmp_path: Path) -> None:
    path = written(tmp_path, *APPLE[:3])
    done = {piece.origin: piece.digest for piece in fetched(path)}
    assert fetched(path, done=done) == []
    assert [rows(piece).height for piece in fetched(written(tmp_path, *APPLE), done=done)] == [5]


def test_requests_that_make_no_sense_are_refused(tmp_path: Path) -> None:
    path = written(tmp_path, *APPLE)
    with pytest.raises(UsageError, match=r"AAPL\.csv holds one symbol, not 2"):
        fetched(path, "AAPL", "MSFT")
    with pytest.raises(UsageError, match="does not say whose prices"):
        Yahoo(path=path).symbols("bars", "1d")
    with pytest.raises(UsageError, match="no 1h bars"):
        list(Yahoo(path=path).fetch(Request(("AAPL",), "1h"), {}))
    with pytest.raises(UsageError, match="which file"):
        list(Yahoo().fetch(Request(("AAPL",), "1d"), {}))
    with pytest.raises(SourceError, match="has no Date"):
        fetched(written(tmp_path, header="nothing"))
