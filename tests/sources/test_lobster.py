"""LOBSTER's pairs of files: a documented line, a recorded day of Amazon, and files that do not belong together."""

from datetime import datetime, timedelta
from pathlib import Path

import polars as pl
import pytest

from lab.errors import SourceError, UsageError
from lab.kinds import level_columns
from lab.nouns import Piece, Span
from lab.sources import Request, Source, vendor
from lab.sources.lobster import Lobster
from tests.archive import utc

AMAZON = (
    Path(__file__).parents[2].parent / "shared/market/equity/lobster/AMZN-2012-06-21-message_and_book_level1.parquet"
)
NAME = "{symbol}_{date}_{start}_{end}_{what}_{levels}.csv"
OPEN, CLOSE = 34_200_000, 57_600_000  # milliseconds after midnight in New York
EMPTY = "9999999999,0,-9999999999,0"


def write(
    folder: Path,
    messages: list[str],
    books: list[str],
    *,
    symbol: str = "AMZN",
    date: str = "2012-06-21",
    levels: int = 1,
) -> Path:
    """Both files as LOBSTER names them; the path of the messages."""
    parts = {"symbol": symbol, "date": date, "start": OPEN, "end": CLOSE, "levels": levels}
    (folder / NAME.format(what="orderbook", **parts)).write_text("".join(f"{line}\n" for line in books))
    path = folder / NAME.format(what="message", **parts)
    path.write_text("".join(f"{line}\n" for line in messages))
    return path


def fetched(path: Path, kind: str, symbol: str = "AMZN", done: dict[str, str] | None = None) -> list[Piece]:
    return list(Lobster(path=path).fetch(Request((symbol,), "events", None, kind), done or {}))


def rows(piece: Piece) -> pl.DataFrame:
    assert piece.table is not None
    return piece.table.frame


def law_case(folder: Path) -> tuple[Source, Request]:
    messages = [f"{34200 + n}.5,1,{n},100,{1_000_000 + n * 100},1" for n in range(300)]
    books = [f"1100000,100,{1_000_000 + n * 100},100" for n in range(300)]
    return Lobster(path=write(folder, messages, books)), Request(("AMZN",), "events", None, "quotes")


def test_a_documented_execution_is_a_trade_of_the_other_side(tmp_path: Path) -> None:
    # The fields of LOBSTER's own example of an execution; the resting order was a sale, so a buyer hit it.
    path = write(tmp_path, ["34713.685155243,4,206833312,100,118600,-1"], ["118600,9,118500,5"], date="2012-06-21")
    (piece,) = fetched(path, "trades")
    assert rows(piece).to_dicts() == [
        {
            "symbol": "AMZN",
            "time": utc(2012, 6, 21, 13, 38, 33, 685155),
            "price": 11.86,
            "size": 100.0,
            "side": 1,
            "id": 1,
        }
    ]
    assert piece.span == Span(utc(2012, 6, 21, 13, 30), utc(2012, 6, 21, 20))


def test_executions_are_the_trades_and_hidden_ones_too(tmp_path: Path) -> None:
    messages = [
        "34200.1,1,5,10,1000000,1",
        "34200.2,4,5,10,1000000,1",
        "34200.2,4,5,10,1000000,1",  # as equal as they are, both happened
        "34200.3,5,0,7,1000050,-1",
        "34200.4,6,-1,100,1000000,-1",
        "34200.5,7,0,0,-1,-1",
        "34200.6,9,0,1,1000000,1",
        "34200.7,4,5,x,1000000,1",
        "34200.8,4,5,1,1000000,0",
    ]
    (piece,) = fetched(write(tmp_path, messages, [EMPTY] * 9), "trades")
    assert rows(piece).select("id", "price", "size", "side").rows() == [
        (2, 100.0, 10.0, -1),
        (3, 100.0, 10.0, -1),
        (4, 100.005, 7.0, 1),
    ]
    assert piece.rejected.select("id", "fault").rows() == [
        (7, "no message has such a type"),
        (8, "size is missing or cannot be read"),
        (9, "an order has the direction 1 or -1"),
    ]


def test_books_and_quotes_are_the_states_that_differ(tmp_path: Path) -> None:
    messages = [f"{34200 + n},1,{n},1,1000000,1" for n in range(7)]
    books = [
        f"{EMPTY},{EMPTY}",
        f"{EMPTY},oops,0,-9999999999,0",
        f"1010000,1,1000000,2,{EMPTY}",
        "1010000,1,1000000,2,1020000,3,-9999999999,0",
        "1010000,1,1000000,2,1020000,3,-9999999999,0",
        "1010000,1,1000000,9,1020000,3,990000,1",
        "1010000,1,oops,9,1020000,3,990000,1",
    ]
    path = write(tmp_path, messages, books, levels=2)
    (piece,) = fetched(path, "books")
    assert rows(piece).columns == ["symbol", "time", *level_columns(2), "id"]
    assert rows(piece).drop("symbol", "time").rows() == [
        (100.0, 2.0, 101.0, 1.0, None, None, None, None, 3),
        (100.0, 2.0, 101.0, 1.0, None, None, 102.0, 3.0, 4),
        (100.0, 9.0, 101.0, 1.0, 99.0, 1.0, 102.0, 3.0, 6),
    ]
    assert piece.rejected.select("id", "fault").rows() == [
        (2, "a level cannot be read"),
        (7, "a level cannot be read"),
    ]
    (piece,) = fetched(path, "quotes")
    assert rows(piece).drop("symbol", "time").rows() == [(100.0, 2.0, 101.0, 1.0, 3), (100.0, 9.0, 101.0, 1.0, 6)]


@pytest.mark.parametrize(
    ("date", "offset"), [("2024-03-08", 5), ("2024-03-11", 4), ("2024-11-01", 4), ("2024-11-04", 5)]
)
def test_new_york_is_four_or_five_hours_behind(tmp_path: Path, date: str, offset: int) -> None:
    path = write(tmp_path, ["34200.000000001,4,1,1,10000,-1"], [EMPTY], date=date)
    (piece,) = fetched(path, "trades")
    assert rows(piece)["time"].to_list() == [datetime.fromisoformat(f"{date}T09:30Z") + timedelta(hours=offset)]


def test_nanoseconds_are_cut_and_their_order_kept(tmp_path: Path) -> None:
    nanoseconds = ["34200.123456999", "34200.123456001", "34200.123457000"]
    path = write(tmp_path, [f"{at},4,{n},{n + 1},10000,-1" for n, at in enumerate(nanoseconds)], [EMPTY] * 3)
    (piece,) = fetched(path, "trades")
    assert [time.microsecond for time in rows(piece)["time"]] == [123456, 123456, 123457]
    assert rows(piece)["size"].to_list() == [1.0, 2.0, 3.0]


def test_a_day_does_not_depend_on_how_its_files_are_cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source, request = law_case(tmp_path)
    (whole,) = source.fetch(request, {})
    monkeypatch.setattr(vendor, "BLOCK_BYTES", 333)
    (cut,) = source.fetch(request, {})
    assert (rows(whole).height, rows(cut).equals(rows(whole))) == (300, True)
    assert (cut.repeats, cut.rejected.height) == (0, 0)
    monkeypatch.setattr(vendor, "WHOLE_BYTES", 0)
    hours = list(source.fetch(request, {}))
    assert [piece.origin[-5:] for piece in hours] == [f"{hour}:30" for hour in range(13, 20)]
    assert [piece.table and piece.table.frame.height for piece in hours] == [300, *[None] * 6]
    assert (hours[0].span, hours[-1].span) == (Span(utc(2012, 6, 21, 13, 30), utc(2012, 6, 21, 14, 30)), None)
    assert len(list(source.fetch(request, dict.fromkeys((piece.origin for piece in hours[:2]), "")))) == 5


def test_a_recorded_day_has_the_trades_and_quotes_that_are_counted_in_it(tmp_path: Path) -> None:
    if not AMAZON.is_file():
        pytest.skip(f"no recorded day at {AMAZON}")
    recorded = pl.read_parquet(AMAZON)
    assert recorded["event_type"].value_counts().sort("event_type").rows() == [
        (1, 27845),
        (2, 16),
        (3, 18235),
        (4, 8974),
        (5, 2445),
    ]
    tens = [(pl.col(name) * 10_000).round().cast(pl.Int64) for name in ("best_ask", "best_bid", "price")]
    vendors = recorded.with_columns(*tens, seconds=pl.col("seconds_after_midnight_et").round(5).cast(pl.String))
    path = write(tmp_path, [], [])
    vendors.select("seconds", "event_type", "order_id", "size", "price", "direction").write_csv(
        path, include_header=False
    )
    vendors.select("best_ask", "best_ask_size", "best_bid", "best_bid_size").write_csv(
        path.with_name(path.name.replace("message", "orderbook")), include_header=False
    )
    (trades,) = fetched(path, "trades")
    executed = recorded.with_row_index("id", offset=1).filter(pl.col("event_type") >= 4)
    assert (rows(trades).height, trades.rejected.height, trades.repeats) == (8974 + 2445, 0, 0)
    assert (
        rows(trades).select("time", "price", "size", pl.col("side").cast(pl.Int64), "id").rows()
        == executed.select(
            "time", "price", pl.col("size").cast(pl.Float64), -pl.col("direction").cast(pl.Int64), "id"
        ).rows()
    )
    (quotes,) = fetched(path, "quotes")
    best = recorded.select(
        pl.int_range(1, pl.len() + 1).alias("id"),
        *(pl.col(name).cast(pl.Float64) for name in ("best_bid", "best_bid_size", "best_ask", "best_ask_size")),
    )
    after_each = best.select("id").join_asof(rows(quotes).drop("symbol", "time"), on="id")
    assert after_each.rows() == best.rows()
    assert rows(quotes).drop("symbol", "time", "id").is_duplicated().any()  # states return,
    assert not rows(quotes).select((pl.struct("bid", "bid_size", "ask", "ask_size").rle_id().diff() == 0).any()).item()
    (books,) = fetched(path, "books")
    assert (
        rows(books)
        .rename(dict(zip(level_columns(1), ("bid", "bid_size", "ask", "ask_size"), strict=True)))
        .equals(rows(quotes))
    )


def test_files_that_are_no_pair_are_refused(tmp_path: Path) -> None:
    path = write(tmp_path, ["34200.1,1,5,10,1000000,1"] * 2, [EMPTY])
    with pytest.raises(SourceError, match=r"_message_1\.csv has 2 rows, .*_orderbook_1\.csv has 1"):
        fetched(path, "trades")
    with pytest.raises(UsageError, match="is of AMZN, not MSFT"):
        fetched(path, "trades", "MSFT")
    path.with_name(path.name.replace("message", "orderbook")).unlink()
    with pytest.raises(UsageError, match=r"_orderbook_1\.csv is no file"):
        fetched(path, "trades")
    with pytest.raises(UsageError, match="not named as LOBSTER names"):
        fetched(path.rename(tmp_path / "amazon.csv"), "trades")


def test_a_day_that_is_done_is_not_read_again(tmp_path: Path) -> None:
    path = write(tmp_path, ["34200.1,4,5,10,1000000,1"], [EMPTY])
    (piece,) = fetched(path, "trades")
    assert fetched(path, "trades", done={piece.origin: piece.digest}) == []
