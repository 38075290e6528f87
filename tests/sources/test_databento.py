"""Databento's CSV files: raw or written out, packed or not, by price or order by order, and a recorded session."""

import gzip
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pytest

from lab.errors import SourceError, UsageError
from lab.kinds import level_columns
from lab.nouns import Piece
from lab.sources import Request, Source, vendor
from lab.sources.databento import Databento
from tests.archive import utc, zipped

SESSION = Path(__file__).parents[2].parent / "shared/market/futures/cme_mbo/ESH4-mbo-2023-12-25.parquet"
EVENT = "ts_recv,ts_event,rtype,publisher_id,instrument_id,action,side,depth,price,size,flags,ts_in_delta,sequence"
MBO = (
    "ts_recv,ts_event,rtype,publisher_id,instrument_id,action,side,price,size,channel_id,order_id,flags,"
    "ts_in_delta,sequence,symbol"
)
LEVEL = "bid_px_{n:02},ask_px_{n:02},bid_sz_{n:02},ask_sz_{n:02},bid_ct_{n:02},ask_ct_{n:02}"
NINE = 1_700_000_000_000_000_000  # 2023-11-14 22:13:20 UTC, ns
DAY = 86_400 * 10**9
NO_PRICE = 2**63 - 1
LAST, SNAPSHOT = 128, 32


def event(
    action: str, side: str, price: Any, size: int, after: int = 0, flags: int = LAST, symbol: str = "ESH4"
) -> str:
    """One row of trades: `after` is in ns."""
    return f"{NINE + after + 500},{NINE + after},0,1,5602,{action},{side},0,{price},{size},{flags},150,7,{symbol}"


def levels(*quotes: tuple[Any, Any, int, int]) -> str:
    return ",".join(f"{bid},{ask},{bid_size},{ask_size},1,1" for bid, ask, bid_size, ask_size in quotes)


def mbp(row: str, *quotes: tuple[Any, Any, int, int]) -> str:
    """A row of mbp-N: the levels stand before the symbol."""
    head, symbol = row.rsplit(",", 1)
    return f"{head},{levels(*quotes)},{symbol}"


def header(count: int) -> str:
    return ",".join([EVENT, *(LEVEL.format(n=n) for n in range(count)), "symbol"])


def fetched(path: Path, kind: str, symbol: str = "ESH4", done: Iterable[str] = ()) -> list[Piece]:
    return list(Databento(path=path).fetch(Request((symbol,), "events", None, kind), dict.fromkeys(done, "")))


def given(folder: Path, kind: str, *lines: str, symbol: str = "ESH4") -> Piece:
    path = folder / "file.csv"
    path.write_text("".join(f"{line}\n" for line in lines))
    (piece,) = fetched(path, kind, symbol)
    return piece


def rows(piece: Piece) -> pl.DataFrame:
    assert piece.table is not None
    return piece.table.frame


def law_case(folder: Path) -> tuple[Source, Request]:
    lines = [event("T", "AB"[n % 2], (4800 + n) * 10**9, 1 + n, after=n * 10**12) for n in range(200)]
    (folder / "trades.csv").write_text("".join(f"{line}\n" for line in (header(0), *lines)))
    return Databento(path=folder / "trades.csv"), Request(("ESH4",), "events", None, "trades")


# ── trades ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_raw_trade_and_a_written_out_trade_are_the_same(tmp_path: Path) -> None:
    raw = given(tmp_path, "trades", header(0), event("T", "A", 4800250000000, 3, after=123_456_789))
    written = event("T", "A", "4800.250000000", 3).split(",")
    written[:2] = ["2023-11-14T22:13:20.123457289Z", "2023-11-14T22:13:20.123456789Z"]
    pretty = given(tmp_path, "trades", header(0), ",".join(written))
    assert rows(raw).to_dicts() == [
        {
            "symbol": "ESH4",
            "time": utc(2023, 11, 14, 22, 13, 20, 123456),
            "price": 4800.25,
            "size": 3.0,
            "side": -1,
            "known_at": utc(2023, 11, 14, 22, 13, 20, 123457),
        }
    ]
    assert rows(pretty).equals(rows(raw))


@pytest.mark.parametrize("suffix", ["csv", "csv.gz", "csv.zst", "csv.zip"])
def test_a_file_may_be_packed(tmp_path: Path, suffix: str) -> None:
    text = f"{header(0)}\n{event('T', 'B', 4800250000000, 3)}\n".encode()
    half = len(text) // 2
    packed = {
        "csv": text,
        "csv.gz": gzip.compress(text[:half]) + gzip.compress(text[half:]),
        "csv.zst": b"".join(pa.Codec("zstd").compress(part, asbytes=True) for part in (text[:half], text[half:])),
        "csv.zip": zipped("glbx-mdp3.trades.csv", text, **{"__MACOSX/._glbx-mdp3.trades.csv": "none"}),
    }[suffix]
    (tmp_path / f"trades.{suffix}").write_bytes(packed)
    (piece,) = fetched(tmp_path / f"trades.{suffix}", "trades")
    assert rows(piece).select("price", "size", "side").rows() == [(4800.25, 3.0, 1)]
    if suffix != "csv":
        (tmp_path / f"trades.{suffix}").write_bytes(packed[:-9])
        with pytest.raises(SourceError, match="cannot be unpacked"):
            fetched(tmp_path / f"trades.{suffix}", "trades")


def test_equal_trades_are_two_trades_and_impossible_ones_are_kept_aside(tmp_path: Path) -> None:
    good = event("T", "N", 10**9, 1)
    bad = [event("T", "A", NO_PRICE, 1), event("T", "X", 10**9, 1), event("?", "A", 10**9, 1)]
    piece = given(tmp_path, "trades", header(0), good, good, *bad, event("C", "A", 10**9, 1))
    assert rows(piece).select("price", "side").rows() == [(1.0, 0), (1.0, 0)]
    assert (piece.repeats, piece.rejected.select("line", "fault").rows()) == (
        0,
        [
            (3, "price is missing or cannot be read"),
            (4, "side is missing or cannot be read"),
            (5, "its action, order, side, price or size cannot be read"),
        ],
    )


def test_a_file_comes_by_the_day_and_what_is_done_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source, request = law_case(tmp_path)
    pieces = list(source.fetch(request, {}))
    assert [(piece.origin[-13:], rows(piece).height) for piece in pieces] == [
        ("2023-11-14T00", 7),
        ("2023-11-15T00", 86),
        ("2023-11-16T00", 87),
        ("2023-11-17T00", 20),
    ]
    assert [p.origin for p in source.fetch(request, {pieces[1].origin: ""})] == [pieces[n].origin for n in (0, 2, 3)]
    monkeypatch.setattr(vendor, "BLOCK_BYTES", 200)
    monkeypatch.setattr(vendor, "WHOLE_BYTES", 0)
    hours = list(source.fetch(request, {}))
    assert len(hours) == 56
    assert pl.concat(map(rows, hours)).equals(pl.concat(map(rows, pieces)))


def test_a_stamp_that_is_none_does_not_lead_the_file_astray(tmp_path: Path) -> None:
    lost = event("T", "A", 10**9, 2).replace(f",{NINE},", f",{NO_PRICE},")
    lines = [header(0), event("T", "A", 10**9, 1), lost, event("T", "A", 10**9, 3, after=DAY)]
    (tmp_path / "trades.csv").write_text("\n".join(lines))
    pieces = fetched(tmp_path / "trades.csv", "trades")
    assert [(piece.origin[-13:], rows(piece)["size"].to_list()) for piece in pieces] == [
        ("2023-11-14T00", [1.0]),
        ("2023-11-15T00", [3.0]),
    ]
    assert [piece.rejected["line"].to_list() for piece in pieces] == [[2], []]


def test_one_instrument_is_taken_of_several(tmp_path: Path) -> None:
    lines = [event("T", "A", 10**9, 1), event("T", "A", 2 * 10**9, 1, symbol="NQ H4")]
    assert rows(given(tmp_path, "trades", header(0), *lines, symbol="NQ-H4"))["price"].to_list() == [2.0]
    with pytest.raises(UsageError, match="has no rows of GCH4") as refused:
        given(tmp_path, "trades", header(0), *lines, symbol="GCH4")
    assert refused.value.fix == "ask for one of ESH4, NQ H4"
    nameless = [line.rsplit(",", 1)[0] for line in (header(0), *lines)]
    assert rows(given(tmp_path, "trades", *nameless))["price"].to_list() == [1.0, 2.0]
    with pytest.raises(UsageError, match="several instruments"):
        given(tmp_path, "trades", *nameless, nameless[1].replace(",5602,", ",5603,"))


# ── levels ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_quotes_are_read_at_the_end_of_each_event_that_changed_them(tmp_path: Path) -> None:
    one, two, three = (99 * 10**9, 100 * 10**9, 5, 6), (99 * 10**9, 100 * 10**9, 5, 2), (NO_PRICE, 100 * 10**9, 0, 2)
    lines = [
        mbp(event("A", "B", 99 * 10**9, 5), one),
        mbp(event("T", "B", 100 * 10**9, 4, after=1000, flags=0), one),
        mbp(event("C", "A", 100 * 10**9, 1, after=2000, flags=0), (99 * 10**9, 100 * 10**9, 5, 5)),
        mbp(event("C", "A", 100 * 10**9, 3, after=3000), two),
        mbp(event("M", "A", 103 * 10**9, 3, after=4000), two),
        mbp(event("C", "B", 99 * 10**9, 5, after=5000, flags=0), three),
        mbp(event("T", "B", 100 * 10**9, 4, after=6000), two),  # as it was before: not of the end of its event
        mbp(event("A", "A", 101 * 10**9, 4, after=7000, flags=0), one),  # an event that never ends
    ]
    quotes = given(tmp_path, "quotes", header(1), *lines)
    assert rows(quotes).drop("symbol").rows() == [
        (utc(2023, 11, 14, 22, 13, 20), 99.0, 5.0, 100.0, 6.0, utc(2023, 11, 14, 22, 13, 20)),
        (utc(2023, 11, 14, 22, 13, 20, 3), 99.0, 5.0, 100.0, 2.0, utc(2023, 11, 14, 22, 13, 20, 3)),
        (utc(2023, 11, 14, 22, 13, 20, 5), None, None, 100.0, 2.0, utc(2023, 11, 14, 22, 13, 20, 6)),
    ]
    assert rows(given(tmp_path, "trades", header(1), *lines))["size"].to_list() == [4.0, 4.0]
    with pytest.raises(UsageError, match="holds mbp-1, which has no books"):
        given(tmp_path, "books", header(1), *lines)


def test_a_book_of_ten_levels_is_taken_as_it_stands(tmp_path: Path) -> None:
    state = [((99 - n) * 10**9, (100 + n) * 10**9, 10 + n, 20 + n) for n in range(10)]
    moved = [*state[:9], (NO_PRICE, 109 * 10**9, 0, 29)]
    lines = [mbp(event("A", "B", 10**9, 5, after=after), *book) for after, book in ((0, state), (10**6, moved))]
    books = rows(given(tmp_path, "books", header(10), *lines))
    assert books.columns == ["symbol", "time", *level_columns(10), "known_at"]
    expected = [value for n in range(10) for value in (99.0 - n, 10.0 + n, 100.0 + n, 20.0 + n)]
    assert list(books.drop("symbol", "time", "known_at").row(0)) == expected
    assert list(books.drop("symbol", "time", "known_at").row(1)) == [*expected[:36], None, None, 109.0, 29.0]
    quotes = given(tmp_path, "quotes", header(10), *lines)
    assert rows(quotes)["bid_size"].to_list() == [10.0]  # the best did not change


def test_prices_before_each_trade_are_no_quotes(tmp_path: Path) -> None:
    best = (99 * 10**9, 100 * 10**9, 5, 6)
    lines = [mbp(event("T", "B", 100 * 10**9, 4, after=after), best) for after in (0, 1000)]
    with pytest.raises(UsageError, match="has no quotes of ESH4"):
        given(tmp_path, "quotes", header(1), *lines)
    assert rows(given(tmp_path, "trades", header(1), *lines)).height == 2


def test_a_file_of_another_shape_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="no header of trades, mbp or mbo"):
        given(tmp_path, "trades", "ts_event,open,high,low,close,volume", "1,1,1,1,1,1")
    with pytest.raises(SourceError, match="none of 1 rows from line 1 on ends an event"):
        given(tmp_path, "quotes", header(1), mbp(event("A", "B", 10**9, 5, flags=0), (1, 2, 3, 4)))
    with pytest.raises(UsageError, match="which file"):
        list(Databento().fetch(Request(("ESH4",), "events", None, "trades"), {}))


# ── order by order ──────────────────────────────────────────────────────────────────────────────────────────────────


def order(action: str, side: str, price: int, size: int, number: int, after: int, flags: int = LAST) -> str:
    raw = price * 10**9 if price else NO_PRICE
    return f"{NINE + after},{NINE + after},160,1,5602,{action},{side},{raw},{size},0,{number},{flags},150,7,ESH4"


def test_a_book_is_kept_order_by_order(tmp_path: Path) -> None:
    lines = [
        order("A", "B", 1, 1, 1, 0),  # before the snapshot: nobody knows what else there was
        order("R", "N", 0, 0, 0, 1000, SNAPSHOT),
        order("A", "B", 99, 5, 1, 1000, SNAPSHOT),
        order("A", "B", 99, 2, 2, 1000, SNAPSHOT),
        order("A", "A", 100, 4, 3, 1000, SNAPSHOT | LAST),
        order("T", "A", 99, 6, 0, 2000, 0),
        order("F", "B", 99, 5, 1, 2000, 0),
        order("C", "B", 99, 5, 1, 2000, 0),
        order("C", "B", 99, 1, 2, 2000),
        order("M", "B", 98, 8, 2, 3000),
        order("A", "X", 97, 1, 9, 4000),
        order("C", "B", 98, 1, 77, 5000),
        order("A", "A", 0, 5, 10, 6000),
    ]
    piece = given(tmp_path, "quotes", MBO, *lines)
    assert rows(piece).select("bid", "bid_size", "ask", "ask_size").rows() == [
        (99.0, 7.0, 100.0, 4.0),
        (99.0, 1.0, 100.0, 4.0),
        (98.0, 8.0, 100.0, 4.0),
    ]
    assert piece.rejected["line"].to_list() == [11, 13]


def slow_best(session: pl.DataFrame) -> list[tuple[Any, ...]]:
    """Row, best bid and ask with their sizes at each end of an event that changed them, from three dictionaries."""
    orders: dict[int, tuple[str, float, int]] = {}
    sides: dict[str, dict[float, int]] = {"B": {}, "A": {}}

    def add(side: str, price: float, size: int) -> None:
        left = sides[side].pop(price, 0) + size
        if left:
            sides[side][price] = left

    seen, last = [], None
    columns = session.select("action", "order_id", "side", "price", "size", "flags").iter_rows()
    for line, (action, number, side, price, size, flags) in enumerate(columns, start=1):
        if action in "ACM" and number in orders:
            held = orders.pop(number)
            add(held[0], held[1], -held[2])
            if action == "C":
                side, price, size = held[0], held[1], held[2] - size
        elif action not in "AM":
            size = 0
        if size:
            orders[number] = (side, price, size)
            add(side, price, size)
        if flags & LAST:
            bid, ask = max(sides["B"], default=None), min(sides["A"], default=None)
            best = (bid, sides["B"].get(bid), ask, sides["A"].get(ask))
            if best != last:
                seen.append((line, *best))
            last = best
    return seen


def test_a_recorded_session_is_rebuilt_as_a_slow_book_says(tmp_path: Path) -> None:
    if not SESSION.is_file():
        pytest.skip(f"no recorded session at {SESSION}")
    session = pl.read_parquet(SESSION)
    path = tmp_path / "glbx-mdp3-20231225.mbo.csv"
    raw = session.with_columns(
        pl.col("ts_recv", "ts_event").dt.epoch("ns"), (pl.col("price") * 1e9).round().cast(pl.Int64)
    )
    rest = {"rtype": 160, "publisher_id": 1, "instrument_id": 17077, "channel_id": 0, "ts_in_delta": 0}
    raw.with_columns(symbol=pl.lit("ESH4"), **{name: pl.lit(value) for name, value in rest.items()}).select(
        MBO.split(",")
    ).write_csv(path)

    (trades,) = fetched(path, "trades")
    assert (rows(trades).height, rows(trades)["size"].sum(), trades.rejected.height) == (2973, 9892.0, 0)
    assert (rows(trades)["price"].min(), rows(trades)["price"].max()) == (4800.25, 4811.75)
    (books,) = fetched(path, "books")
    (quotes,) = fetched(path, "quotes")
    expected = slow_best(session)
    times = session["ts_event"].cast(pl.Datetime("us", "UTC"))
    assert len(expected) > 10_000
    assert rows(quotes).drop("symbol", "known_at").rows() == [(times[line - 1], *best) for line, *best in expected]
    trading = rows(books).filter(pl.col("time") >= utc(2023, 12, 25, 23, 0, 1))
    assert trading.height > 20_000
    assert trading.select((pl.col("bid_1") < pl.col("ask_1")).all()).item()
    ladders = [trading.select(f"{side}_{n}" for n in range(1, 11)).drop_nulls().to_numpy() for side in ("bid", "ask")]
    assert [bool((ladder[:, :-1] > ladder[:, 1:]).all()) for ladder in ladders] == [True, False]
    assert bool((ladders[1][:, :-1] < ladders[1][:, 1:]).all())
    assert (books.rejected.height, quotes.rejected.height) == (0, 0)
