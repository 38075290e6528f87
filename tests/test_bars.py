"""Trades, quotes and books → bars: the same as slow and independent ways to close them, wherever the rows were cut."""

import gzip
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from math import inf, log
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lab.bars import Closer, by_day, close_bars, resample, with_book
from lab.errors import BadBars, UnknownName, UsageError
from lab.kinds import KINDS, level_columns
from lab.nouns import INTERVALS, MICROSECOND, PRICES, TIME, Bars, Span

START = datetime(2024, 2, 28, 23, 59, 57, tzinfo=UTC)
HOUR_US = 3_600_000_000
FLOW = ("volume", "buy_volume", "quote_volume", "vwap", "trades")
Row = dict[str, Any]
INTERVALS_TRIED = ("1s", "1m", "1h", "tick-3", "volume-2", "dollar-20.5", "imbalance-3", "run-2")


def at(microseconds: int) -> datetime:
    return START + timedelta(microseconds=microseconds)


def trades_of(rows: Sequence[Sequence[float]], *, counted: bool = False) -> pl.DataFrame:
    """Trades of X: (µs after START, price, size, side[, count])."""
    names = ("time", "price", "size", "side", "count")
    columns = {name: [row[n] for row in rows] for n, name in enumerate(names[: 4 + counted])}
    frame = pl.DataFrame({"symbol": ["X"] * len(rows), **columns, "time": [at(int(row[0])) for row in rows]})
    return frame.select(pl.col(name).cast(dtype) for name, dtype in KINDS["trades"].schema(columns).items())


def rows_of(parts: Iterator[Bars]) -> list[Row]:
    return [row for bars in parts for row in bars.frame.rows(named=True)]


def cut(frame: pl.DataFrame, places: Sequence[int]) -> list[pl.DataFrame]:
    edges = [0, *sorted(min(place, frame.height) for place in places), frame.height]
    return [frame[a:b] for a, b in pairwise(edges)]


# ── trades: a slow way that looks at whole bars, not at one trade after the other ───────────────────────────────────


def slow_bars(trades: pl.DataFrame, interval: str, until: datetime) -> list[Row]:
    moments: dict[datetime, list[Row]] = {}
    for row in trades.rows(named=True):
        moments.setdefault(row["time"], []).append(row)
    if interval in INTERVALS:
        length = INTERVALS[interval]
        midnight = START.replace(hour=0, minute=0, second=0)
        bars: dict[datetime, list[Row]] = {}
        for moment, rows in moments.items():
            bars.setdefault(midnight + ((moment - midnight) // length + 1) * length, []).extend(rows)
        last = max(moments, default=START)
        return [slow_bar(time, rows) for time, rows in bars.items() if time <= max(last, until)]
    closed, waiting = [], []
    for moment, rows in moments.items():
        waiting += rows
        known_over = moment < max(moments) or until > moment
        if known_over and is_enough(waiting, *interval.split("-")):
            closed.append(slow_bar(moment, waiting))
            waiting = []
    return closed


def is_enough(rows: list[Row], rule: str, size: str) -> bool:
    bought, sold = (sum(row.get("count", 1) for row in rows if row["side"] == side) for side in (1, -1))
    reached = {
        "tick": sum(row.get("count", 1) for row in rows),
        "volume": sum(row["size"] for row in rows),
        "dollar": sum(row["size"] * row["price"] for row in rows),
        "imbalance": abs(bought - sold),
        "run": max(bought, sold),
    }
    return reached[rule] >= float(size)


def slow_bar(time: datetime, rows: list[Row]) -> Row:
    prices, volume = [row["price"] for row in rows], sum(row["size"] for row in rows)
    money = sum(row["price"] * row["size"] for row in rows)
    return {
        "symbol": "X",
        "time": time,
        "open": prices[0],
        "high": max(prices),
        "low": min(prices),
        "close": prices[-1],
        "volume": volume,
        "buy_volume": None if any(row["side"] == 0 for row in rows) else sum(r["size"] for r in rows if r["side"] > 0),
        "quote_volume": money,
        "vwap": min(max(money / volume, min(prices)), max(prices)),
        "trades": sum(row.get("count", 1) for row in rows),
    }


# Sizes and prices with few binary digits: sums are exact, whatever their order.
steps = st.sampled_from([0, 0, 1, 250_000, 3_000_000, 59_000_000, HOUR_US])
a_trade = st.tuples(
    steps, st.integers(1, 40), st.integers(1, 12), st.sampled_from([-1, -1, 1, 1, 1, 0]), st.integers(1, 3)
)


@st.composite
def some_trades(draw: st.DrawFn) -> pl.DataFrame:
    drawn = draw(st.lists(a_trade, min_size=1, max_size=40))
    times = np.cumsum([row[0] for row in drawn]).tolist()
    rows = [
        (t, price / 4, size / 4, side, count) for t, (_, price, size, side, count) in zip(times, drawn, strict=True)
    ]
    return trades_of(rows, counted=draw(st.booleans()))


@pytest.mark.parametrize("interval", INTERVALS_TRIED)
@given(trades=some_trades(), places=st.lists(st.integers(0, 40)), later=st.sampled_from([0, 1, 2_000_000, HOUR_US]))
def test_bars_are_those_of_a_slow_way_wherever_the_trades_were_cut(
    interval: str, trades: pl.DataFrame, places: list[int], later: int
) -> None:
    until = trades["time"][-1] + timedelta(microseconds=later)
    expected = slow_bars(trades, interval, until)
    if interval in ("imbalance-3", "run-2") and (trades["side"] == 0).all():
        with pytest.raises(UsageError, match="need the takers' side"):
            list(close_bars(cut(trades, places), interval, until=until))
        return
    found = rows_of(close_bars(cut(trades, places), interval, until=until))
    assert len(found) == len(expected)
    assert found == expected


def test_a_bar_that_may_still_grow_is_kept_back() -> None:
    trades = trades_of([(0, 10, 1, 1), (3_000_000, 11, 1, -1), (3_200_000, 12, 1, 1)])

    def closes(until: datetime | None) -> list[datetime]:
        return [row["time"] for row in rows_of(close_bars([trades], "1s", until=until))]

    first, second = at(1_000_000), at(4_000_000)
    assert closes(None) == [first]
    assert closes(second - MICROSECOND) == [first]
    assert closes(second) == [first, second]  # the two seconds in between had no trade, so they have no bar

    ticks = [row["time"] for row in rows_of(close_bars([trades], "tick-1", until=at(3_200_000)))]
    assert ticks == [at(0), at(3_000_000)]  # at 3.2 s there may be another trade
    assert len(rows_of(close_bars([trades], "tick-1", until=at(3_200_001)))) == 3


def test_all_trades_of_one_moment_are_in_one_bar() -> None:
    sweep = trades_of([(0, 10, 1, 1), (5, 10, 1, 1), (5, 11, 1, 1), (5, 12, 1, 1), (9, 11, 1, -1), (9, 10, 2, -1)])
    bars = rows_of(close_bars([sweep], "tick-2", until=at(10)))
    assert [(row["time"], row["open"], row["close"], row["trades"]) for row in bars] == [
        (at(5), 10, 12, 4),
        (at(9), 11, 10, 2),
    ]


def test_the_trade_that_reaches_the_threshold_is_in_the_bar_that_it_closes() -> None:
    tenths = trades_of([(n, 10, 0.1, 1) for n in range(21)])
    bars = rows_of(close_bars([tenths], "volume-1"))
    assert [row["trades"] for row in bars] == [10, 10]  # although 0.1 + … + 0.1 falls short of 1
    block = trades_of([(0, 10, 1, 1), (1, 20, 70, -1), (2, 30, 1, 1)])
    bars = rows_of(close_bars([block], "dollar-100"))
    assert [(row["volume"], row["close"]) for row in bars] == [(71, 20)]


def test_the_mean_price_of_trades_at_one_price_is_that_price() -> None:
    trades = trades_of([(n, 0.1, size, 1) for n, size in enumerate((0.1, 0.1, 0.2))])
    assert sum(0.1 * size for size in (0.1, 0.1, 0.2)) / sum((0.1, 0.1, 0.2)) > 0.1
    (row,) = rows_of(close_bars([trades], "1s", until=at(1_000_000)))
    assert row["vwap"] == 0.1


def test_bars_by_imbalance_and_by_run_end_where_one_side_has_the_upper_hand() -> None:
    sides = [1, -1, 1, 1, 0, 1, -1, -1, 1, -1, -1, 1]
    trades = trades_of([(n, 10, 1, side) for n, side in enumerate(sides)])

    def lengths(interval: str) -> list[float]:
        return [row["trades"] for row in rows_of(close_bars([trades], interval, until=at(12)))]

    assert lengths("imbalance-3") == [6, 5]  # +1 0 1 2 2 3 | -1 -2 -1 -2 -3
    assert lengths("run-3") == [4, 6]  # three bought of four; three sold of six
    assert [row["buy_volume"] for row in rows_of(close_bars([trades], "run-3"))] == [3, None]  # one side is unknown


def test_what_cannot_be_closed_says_so() -> None:
    trades = trades_of([(5, 10, 1, 0), (7, 10, 1, 0)])
    with pytest.raises(UnknownName, match="no interval named '7m'"):
        Closer("7m")
    with pytest.raises(BadBars, match=r"a trade of X at 2024-02-28 23:59:57\.000005\+00:00 follows a later one"):
        list(close_bars([trades.reverse()], "1m"))
    with pytest.raises(BadBars, match="follows a later one"):
        list(close_bars([trades[1:], trades[:1]], "tick-10"))
    with pytest.raises(BadBars, match="trades of X and Y cannot make one bar"):
        list(close_bars([trades, trades.with_columns(symbol=pl.lit("Y"))], "1m"))
    with pytest.raises(UsageError, match="imbalance-5 bars need the takers' side, and no trade of X has one") as wrong:
        list(close_bars([trades], "imbalance-5"))
    assert wrong.value.fix == "take tick, volume or dollar bars, or a source that has the side"
    assert rows_of(close_bars([], "1m", until=START)) == []


def test_days_hold_the_bars_that_opened_in_them() -> None:
    hours = [(n * HOUR_US // 2, 10 + n, 1, 1) for n in range(100)]
    parts = list(by_day(close_bars(cut(trades_of(hours), range(0, 100, 7)), "1h", until=at(50 * HOUR_US))))
    midnight = datetime(2024, 2, 28, tzinfo=UTC)
    days = [midnight + timedelta(days=n) for n in range(4)]
    spans = [Span(day + MICROSECOND, day + timedelta(days=1) + MICROSECOND) for day in days]
    assert [(span, bars.frame.height) for span, bars in parts] == list(zip(spans, [1, 24, 24, 1], strict=True))
    together = pl.concat([bars.frame for _, bars in parts])
    assert together.rows(named=True) == rows_of(close_bars([trades_of(hours)], "1h", until=at(50 * HOUR_US)))


# ── the book ────────────────────────────────────────────────────────────────────────────────────────────────────────

REFERENCE = [  # Pb, qb, Pa, qa: shared facts, section 1.1
    (100.0, 5, 100.1, 4),
    (100.0, 7, 100.1, 4),
    (100.1, 3, 100.2, 6),
    (100.1, 3, 100.2, 2),
    (100.0, 8, 100.2, 2),
    (100.0, 8, 100.1, 5),
]
SECOND_LEVEL = [(99.9, 3, 100.2, 6), (99.9, 5, 100.2, 9), (100.0, 7, 100.3, 5)]  # section 1.2


def book_of(rows: Sequence[tuple[int, Sequence[float | None]]], kind: str = "quotes") -> pl.DataFrame:
    """Quotes, or books, of X: (µs after START, (bid, bid size, ask, ask size, …))."""
    width = len(rows[0][1])
    names = ["bid", "bid_size", "ask", "ask_size"] if kind == "quotes" else level_columns(width // 4)
    columns = {name: pl.Series([row[1][n] for row in rows], dtype=pl.Float64) for n, name in enumerate(names)}
    times = pl.Series([at(row[0]) for row in rows], dtype=TIME)
    frame = pl.DataFrame({"symbol": ["X"] * len(rows), "time": times, **columns})
    return frame.select(list(KINDS[kind].schema(columns)))


def bars_at(*closes: int, interval: str = "1s") -> Bars:
    """Bars of X that close so many µs after START."""
    times = [at(close) for close in closes]
    return Bars.of(pl.DataFrame({"symbol": "X", "time": times, **dict.fromkeys((*PRICES, "volume"), 1.0)}), interval)


def booked(bars: Bars, *quotes: pl.DataFrame) -> list[Row]:
    return rows_of(with_book([bars], quotes))


def test_order_flow_is_that_of_the_published_definition() -> None:
    quotes = book_of([(n * 1_000_000, quote) for n, quote in enumerate(REFERENCE)])
    found = booked(bars_at(*(n * 1_000_000 for n in range(1, 7))), quotes)
    assert [row["ofi_1"] for row in found] == [0, 2, 7, 4, -3, -5]
    assert booked(bars_at(3_000_000, interval="1m"), quotes)[0]["ofi_1"] == 9  # the minute ends with the third quote
    books = book_of([(n, (*REFERENCE[n], *SECOND_LEVEL[n])) for n in range(3)], "books")
    (row,) = booked(bars_at(1_000_000), books)
    assert (row["ofi_1"], row["ofi_2"], "ofi_3" in row) == (9, 15, False)


@pytest.mark.parametrize(
    ("sizes", "published"), [((20, 471), 14.330407), ((25, 148), 14.331445), ((31, 95), 14.332460)]
)
def test_the_micro_price_is_the_published_one(sizes: tuple[int, int], published: float) -> None:
    (row,) = booked(bars_at(1_000_000), book_of([(0, (14.33, sizes[0], 14.34, sizes[1]))]))
    assert row["micro_price"] == pytest.approx(published, abs=5e-7)


def test_the_slope_of_a_book_is_the_one_worked_out_by_hand() -> None:
    book = (99.0, 2, 101.0, 4, 98.0, 6, 103.0, 12)
    bid = (log(2) / 0.01 + (log(8) / log(2) - 1) / (1 - 98 / 99)) / 2
    ask = (log(4) / 0.01 + (log(16) / log(4) - 1) / (103 / 101 - 1)) / 2
    (row,) = booked(bars_at(1_000_000), book_of([(0, book)], "books"))
    assert row["depth_slope"] == pytest.approx((bid + ask) / 2, rel=1e-12)
    one_sided_level = (*book[:4], 98.0, 6, None, None)
    (row,) = booked(bars_at(1_000_000), book_of([(0, one_sided_level)], "books"))
    assert row["depth_slope"] == pytest.approx((bid + log(4) / 0.01) / 2, rel=1e-12)
    for small in ((99.0, 1, 101.0, 4), (100.0, 5, 100.0, 5)):  # ln 1 says nothing; nor has a locked book a slope
        (row,) = booked(bars_at(1_000_000), book_of([(0, small)], "books"))
        assert (row["bid"], row["depth_slope"]) == (small[0], None)


def test_a_bar_by_the_clock_has_the_quotes_before_its_close_and_one_by_trades_those_up_to_it() -> None:
    quotes = book_of([(-10, (99, 1, 101, 1)), (1_000_000, (100, 3, 101, 1)), (2_000_000, (100, 3, 102, 5))])
    first, second = booked(bars_at(1_000_000, 2_000_000), quotes)
    assert (first["bid"], first["spread"], first["ofi_1"]) == (99, 2, 0)
    assert (second["bid"], second["spread"], second["ofi_1"]) == (100, 1, 3)
    first, second = booked(bars_at(1_000_000, 2_000_000, interval="tick-5"), quotes)
    assert (first["bid"], first["spread"], first["ofi_1"]) == (100, None, None)  # nobody knows when it began
    assert (second["bid"], second["ask"], second["ofi_1"]) == (100, 102, 1)
    assert second["spread"] == pytest.approx(1, abs=1e-5)


def test_the_spread_is_weighted_by_the_time_for_which_it_stood() -> None:
    quotes = book_of([(250_000, (99, 1, 100, 1)), (500_000, (99, 1, 103, 1)), (900_000, (99, 1, None, None))])
    (row,) = booked(bars_at(1_000_000), quotes)
    assert row["spread"] == pytest.approx((1 * 0.25 + 4 * 0.4) / 0.65, rel=1e-12)
    assert (row["bid"], row["bid_size"], row["ask"], row["micro_price"]) == (99, 1, None, None)


def test_a_crossed_quote_counts_for_nothing_and_flow_begins_anew() -> None:
    quotes = book_of(
        [(0, (99, 1, 101, 1)), (100_000, (102, 9, 101, 9)), (200_000, (99, 5, 101, 1)), (300_000, (99, 7, 101, 1))]
    )
    (row,) = booked(bars_at(1_000_000), quotes)
    assert (row["spread"], row["bid_size"], row["ofi_1"]) == (2, 7, 2)
    (row,) = booked(bars_at(1_000_000), quotes[:2])
    assert (row["bid"], row["ask"], row["ofi_1"]) == (99, 101, 0)


def test_flow_is_not_taken_across_an_empty_level_or_an_hour_of_silence() -> None:
    full, empty = (99, 1, 101, 1, 98, 1, 102, 1), (99, 4, 101, 1, 98, 1, None, None)
    more = (99, 4, 101, 1, 98, 9, 102, 1)
    (row,) = booked(bars_at(1_000_000), book_of([(0, full), (1, empty), (2, more)], "books"))
    assert (row["ofi_1"], row["ofi_2"]) == (3, 0)
    quotes = book_of([(0, (99, 1, 101, 1)), (HOUR_US + 1, (99, 5, 101, 1)), (HOUR_US + 2, (99, 6, 101, 1))])
    late = bars_at(HOUR_US, HOUR_US + 1_000_000, 3 * HOUR_US)
    found = booked(late, quotes)
    assert [(row["bid"], row["ofi_1"]) for row in found] == [(99, 0), (99, 1), (None, None)]
    assert {name: found[2][name] for name in ("spread", "micro_price", "ask_size")} == dict.fromkeys(
        ("spread", "micro_price", "ask_size")
    )


def test_bars_that_saw_no_quote_have_no_book() -> None:
    nothing = {**dict.fromkeys(("bid", "ask", "bid_size", "ask_size", "spread", "micro_price", "ofi_1"))}
    for quotes in ([], [book_of([(2_000_000, (99, 1, 101, 1))])]):
        (row,) = booked(bars_at(1_000_000), *quotes)
        assert {name: row[name] for name in nothing} == nothing


def test_quotes_of_another_symbol_or_out_of_order_are_refused() -> None:
    quotes = book_of([(0, (99, 1, 101, 1)), (5, (99, 1, 101, 1))])
    other = quotes.with_columns(symbol=pl.lit("Y"))
    with pytest.raises(BadBars, match="quotes of Y beside bars of X"):
        booked(bars_at(1_000_000), other)
    with pytest.raises(BadBars, match="quotes of X come with others"):
        booked(bars_at(1_000_000), pl.concat([quotes, other]))
    for batches in ([quotes.reverse()], [quotes[1:], quotes[:1]]):
        with pytest.raises(BadBars, match="a quote of X follows a later one"):
            booked(bars_at(1_000_000), *batches)


def slow_book(bars: Bars, quotes: list[tuple[int, Sequence[float | None]]]) -> list[Row]:
    """Every bar looks at every quote: values at the close, mean spread, and flow by level."""
    usable = [(n, time, row) for n, (time, row) in enumerate(quotes) if not _crossed(row)]
    levels = len(quotes[0][1]) // 4
    closes = [(row["time"] - START) // MICROSECOND for row in bars.frame.rows(named=True)]
    found = []
    for number, close in enumerate(closes):
        if bars.interval in INTERVALS:
            begin, end = close - INTERVALS[bars.interval] // MICROSECOND, close
        else:
            begin, end = (closes[number - 1] if number else close) + 1, close + 1
        seen, weights, spreads, flow = set(), 0, 0.0, [0.0] * levels
        for (n, time, row), following in zip(usable, [*usable[1:], (0, inf, ())], strict=False):
            stood = min(end, time + HOUR_US, following[1]) - max(begin, time)
            if stood > 0:
                seen |= {level for level in range(levels) if None not in row[4 * level : 4 * level + 4]}
                if row[0] is not None and row[2] is not None:
                    weights, spreads = weights + stood, spreads + stood * (row[2] - row[0])
            before = quotes[n - 1] if n else (-inf, ())
            if n and not _crossed(before[1]) and begin <= time < end and time - before[0] <= HOUR_US:
                for level in range(levels):
                    pair = [each[4 * level : 4 * level + 4] for each in (before[1], row)]
                    if None not in pair[0] and None not in pair[1]:
                        flow[level] += slow_flow(*pair)
                        seen.add(level)
        standing = next((row for _, time, row in reversed(usable) if time < end and end - time <= HOUR_US), (None,) * 4)
        book = dict(zip(("bid", "bid_size", "ask", "ask_size"), standing, strict=False))
        book["spread"] = spreads / weights if weights else None
        for level in range(levels):
            book[f"ofi_{level + 1}"] = flow[level] if level in seen else None
        found.append(book)
    return found


def assert_row(row: Row, wanted: Row) -> None:
    assert {name for name in wanted if row[name] is None} == {name for name in wanted if wanted[name] is None}
    known = {name: value for name, value in wanted.items() if value is not None}
    assert {name: row[name] for name in known} == pytest.approx(known, rel=1e-9, abs=1e-9)


def _crossed(row: Sequence[float | None]) -> bool:
    return row[0] is not None and row[2] is not None and row[0] > row[2]


def slow_flow(before: Sequence[Any], after: Sequence[Any]) -> float:
    (pb0, qb0, pa0, qa0), (pb, qb, pa, qa) = before, after
    return (pb >= pb0) * qb - (pb <= pb0) * qb0 - (pa <= pa0) * qa + (pa >= pa0) * qa0


@st.composite
def some_book(draw: st.DrawFn) -> tuple[Bars, list[tuple[int, tuple[float | None, ...]]]]:
    interval = draw(st.sampled_from(["1s", "1h", "tick-5"]))
    length = INTERVALS[interval] // MICROSECOND if interval in INTERVALS else 700_001
    offset = 0 if interval in INTERVALS and interval != "1h" else 3_000_000
    places = sorted(draw(st.sets(st.integers(-2, 6), min_size=1, max_size=6)))
    levels = draw(st.integers(1, 2))
    nothing = st.none()
    bids, asks = st.integers(5, 8) | nothing, st.integers(7, 10) | nothing
    size = st.integers(0, 4).map(float) | nothing
    a_row = st.lists(st.tuples(bids, size, asks, size), min_size=levels, max_size=levels).map(lambda row: sum(row, ()))
    step = st.sampled_from([0, 1, 300_000, 1_000_000, length, HOUR_US, HOUR_US + 1])
    drawn = draw(st.lists(st.tuples(step, a_row), min_size=1, max_size=25))
    times = np.cumsum([row[0] for row in drawn]) - length
    rows = list(zip(times.tolist(), [row[1] for row in drawn], strict=True))
    return bars_at(*(offset + place * length for place in places), interval=interval), rows


@given(case=some_book(), places=st.lists(st.integers(0, 25)), bar_places=st.lists(st.integers(0, 6)))
def test_the_book_is_that_of_a_slow_way_wherever_bars_and_quotes_were_cut(
    case: tuple[Bars, list[tuple[int, tuple[float | None, ...]]]], places: list[int], bar_places: list[int]
) -> None:
    bars, rows = case
    expected = slow_book(bars, rows)
    parts = [Bars(frame, bars.interval) for frame in cut(bars.frame, bar_places)]
    found = rows_of(with_book(parts, cut(book_of(rows, "quotes" if len(rows[0][1]) == 4 else "books"), places)))
    assert len(found) == len(expected)
    for row, wanted in zip(found, expected, strict=True):
        assert_row(row, wanted)


# ── longer bars ─────────────────────────────────────────────────────────────────────────────────────────────────────


@given(trades=some_trades(), interval=st.sampled_from(["1m", "5m", "1h", "1d"]), short=st.sampled_from(["1s", "1m"]))
def test_longer_bars_are_those_that_the_trades_make(trades: pl.DataFrame, interval: str, short: str) -> None:
    if short == interval:
        return
    until = trades["time"][-1] + timedelta(days=2)
    day = START.replace(hour=0, minute=0, second=0)
    direct = rows_of(close_bars([trades], interval, until=until))
    parts = pl.concat([bars.frame for bars in close_bars([trades], short, until=until)])
    joined = resample(Bars(parts, short), interval, Span(day, until + timedelta(days=2))).frame.rows(named=True)
    assert len(joined) == len(direct)
    assert [dict(row) for row in joined] == [{**row, "vwap": pytest.approx(row["vwap"], rel=1e-12)} for row in direct]


def minutes(count: int, first: datetime, **columns: Sequence[float | None]) -> Bars:
    times = [first + timedelta(minutes=n + 1) for n in range(count)]
    prices = {name: [float(n + 1) for n in range(count)] for name in (*PRICES, "volume")}
    return Bars.of(pl.DataFrame({"symbol": "X", "time": times, **prices, **columns}), "1m")


def test_a_longer_bar_exists_where_its_whole_time_is_known() -> None:
    noon = datetime(2024, 3, 1, 12, tzinfo=UTC)
    bars = minutes(14, noon - timedelta(minutes=2))  # from 11:58 to 12:12
    assert resample(bars, "5m").frame["time"].to_list() == [noon + timedelta(minutes=n) for n in (5, 10)]
    known = Span(noon - timedelta(minutes=5), noon + timedelta(minutes=15))
    assert resample(bars, "5m", known).frame["time"].to_list() == [noon + timedelta(minutes=n) for n in (0, 5, 10, 15)]
    halted = Bars(
        bars.frame.filter(~pl.col("time").is_between(noon + timedelta(minutes=2), noon + timedelta(minutes=9))), "1m"
    )
    assert resample(halted, "5m").frame.select("time", *PRICES, "volume").rows() == [
        (noon + timedelta(minutes=5), 3, 3, 3, 3, 3),
        (noon + timedelta(minutes=10), 12, 12, 12, 12, 12),
    ]
    two = Bars.of(pl.concat([bars.frame, bars.frame[:7].with_columns(symbol=pl.lit("Y"))]), "1m")
    assert resample(two, "5m").frame.select("symbol", "close").rows() == [("X", 7), ("X", 12), ("Y", 7)]
    assert resample(Bars(bars.frame.clear(), "1m"), "1h").frame.is_empty()


def test_sums_lack_what_a_part_lacks_and_states_are_those_of_the_last_part() -> None:
    first = datetime(2024, 3, 1, 12, tzinfo=UTC)
    bars = minutes(
        10,
        first,
        buy_volume=[0.5] * 9 + [None],
        ofi_1=[-1.0] * 5 + [2.0] * 5,
        spread=[0.1] * 10,
        bid=[*map(float, range(9)), None],
        vwap=[float(n + 1) for n in range(10)],
    )
    longer = resample(bars, "5m")
    assert longer.frame.columns == ["symbol", "time", *PRICES, "volume", "buy_volume", "vwap", "bid", "ofi_1"]
    assert longer.frame.drop("symbol", "time").rows() == [
        (1, 5, 1, 5, 15, 2.5, pytest.approx(55 / 15), 4, -5),
        (6, 10, 6, 10, 40, None, pytest.approx(330 / 40), None, 10),
    ]


@pytest.mark.parametrize(("of", "to"), [("5m", "1m"), ("5m", "5m"), ("2h", "3m"), ("tick-100", "1h"), ("1d", "1h")])
def test_bars_only_become_longer_ones_that_they_fill(of: str, to: str) -> None:
    with pytest.raises(UsageError, match=f"{of} bars do not fill {to} bars"):
        resample(Bars(minutes(3, START).frame, of), to)
    with pytest.raises(UsageError) as wrong:
        resample(Bars(minutes(3, START).frame, "6h"), "8h")
    assert wrong.value.fix == "choose one of: 12h, 1d"


# ── real markets ────────────────────────────────────────────────────────────────────────────────────────────────────


def sql_bars(trades: pl.DataFrame, length: str) -> pl.DataFrame:
    """Bars by DuckDB; `n` is the order of the trades."""
    count = pl.col("count") if "count" in trades.columns else pl.lit(1)
    rows = trades.with_row_index("n").with_columns(pl.col("time").dt.replace_time_zone(None), count=count)
    query = f"""
        select time_bucket(interval '{length}', time, timestamp '2000-01-01') + interval '{length}' as time,
            arg_min(price, n) as open, max(price) as high, min(price) as low, arg_max(price, n) as close,
            fsum(size) as volume, fsum(case when side > 0 then size else 0 end) as buy_volume,
            fsum(price * size) as quote_volume, fsum(price * size) / fsum(size) as vwap, sum(count)::double as trades
        from rows group by 1 order by 1
    """
    with duckdb.connect() as connection:
        made = connection.register("rows", rows).sql(query).pl()
    return made.with_columns(pl.col("time").cast(pl.Datetime("us")).dt.replace_time_zone("UTC"))


def assert_same(found: pl.DataFrame, expected: pl.DataFrame, sums: Sequence[str] = FLOW) -> None:
    assert found.height == expected.height > 0
    assert found["time"].to_list() == expected["time"].to_list()
    for name in PRICES:
        assert found[name].to_list() == expected[name].to_list(), name
    for name in sums:
        assert found[name].to_numpy() == pytest.approx(expected[name].to_numpy(), rel=1e-12, abs=1e-9), name


def frame_of(parts: Iterator[Bars]) -> pl.DataFrame:
    return pl.concat([bars.frame for bars in parts])


def typed(kind: str, frame: pl.DataFrame) -> pl.DataFrame:
    schema = KINDS[kind].schema(frame.columns)
    return frame.select(pl.col(name).cast(dtype) for name, dtype in schema.items())


@pytest.fixture(scope="module")
def perpetual(real_markets: Path) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Trades (2 h) and quotes (4 min) of BTCUSDT at Binance futures, as a vendor recorded them."""
    frames = []
    for kind in ("trades", "quotes"):
        path = real_markets / f"crypto/tardis_sample/binance-futures_{kind}_2020-02-22_BTCUSDT.csv.gz"
        rows = pl.read_csv(gzip.decompress(path.read_bytes())).with_columns(time=pl.col("timestamp").cast(TIME))
        frames.append(rows.sort("time", maintain_order=True))
    trades, quotes = frames
    side = pl.col("side").replace_strict({"buy": 1, "sell": -1})
    named = {"bid": "bid_price", "bid_size": "bid_amount", "ask": "ask_price", "ask_size": "ask_amount"}
    return (
        typed("trades", trades.with_columns(side, size="amount")),
        typed("quotes", quotes.with_columns(**{ours: pl.col(theirs) for ours, theirs in named.items()})),
    )


@pytest.fixture(scope="module")
def gold(real_markets: Path) -> tuple[pl.DataFrame, pl.DataFrame]:
    """A day of a gold future: trades, and books of five levels at most every 100 ms."""
    folder = real_markets / "futures/cme_l2"
    trades = pl.read_parquet(folder / "GC_gold_2023-05-01_trades.parquet").with_columns(
        symbol=pl.lit("GC"),
        time=pl.col("transact_time").cast(TIME),
        size="quantity",
        side=pl.col("side").replace_strict({"O": 1, "B": -1}, default=0),
    )
    books = pl.read_parquet(folder / "GC_gold_2023-05-01_book5.parquet")
    theirs = {"bid": "bid_price", "bid_size": "bid_quantity", "ask": "offer_price", "ask_size": "offer_quantity"}
    columns = {f"{ours}_{n + 1}": pl.col(f"{name}_{n}") for n in range(5) for ours, name in theirs.items()}
    levels = books.select(symbol=pl.lit("GC"), time=pl.col("transact_time").cast(TIME), **columns)
    return typed("trades", trades), typed("books", levels)


@pytest.mark.parametrize(("interval", "length"), [("1s", "1 second"), ("1m", "1 minute"), ("15m", "15 minutes")])
def test_bars_of_a_perpetual_are_those_that_sql_makes(
    perpetual: tuple[pl.DataFrame, pl.DataFrame], interval: str, length: str
) -> None:
    trades, _ = perpetual
    found = frame_of(close_bars(cut(trades, range(0, 9999, 777)), interval, until=at(0) + timedelta(days=9)))
    assert_same(found, sql_bars(trades, length))


def test_quotes_of_a_perpetual_give_the_book_that_a_slow_way_finds(
    perpetual: tuple[pl.DataFrame, pl.DataFrame],
) -> None:
    trades, quotes = perpetual
    spoken = trades.filter(pl.col("time") < quotes["time"][-1])
    for interval in ("1s", "tick-50"):
        bars = Bars(frame_of(close_bars([spoken], interval)), interval)
        rows = [((r["time"] - START) // MICROSECOND, tuple(r.values())[2:6]) for r in quotes.rows(named=True)]
        few = Bars(bars.frame[:40], interval)
        found, expected = booked(few, *cut(quotes, range(0, 9999, 1234))), slow_book(few, rows)
        assert len(found) == len(expected) == min(40, bars.frame.height)
        for row, wanted in zip(found, expected, strict=True):
            assert_row(row, wanted)


def test_a_day_of_gold_with_its_book(gold: tuple[pl.DataFrame, pl.DataFrame]) -> None:
    trades, books = gold
    midnight = datetime(2023, 5, 2, tzinfo=UTC)
    closed = list(close_bars(cut(trades, range(0, 88646, 9999)), "1m", until=midnight))
    found = frame_of(with_book(closed, cut(books, range(0, 257_891, 50_000))))
    assert_same(found, sql_bars(trades, "1 minute"))
    assert found["time"][-1] == midnight
    by_level = slow_minutes(books)
    for level in range(1, 6):
        flow = [by_level[level].get(time, 0.0) for time in found["time"]]
        assert found[f"ofi_{level}"].to_list() == flow
    before = found.select(time=pl.col("time") - MICROSECOND).join_asof(books, on="time")
    assert found["bid"].to_list() == before["bid_1"].to_list()
    assert found["ask_size"].to_list() == before["ask_size_1"].to_list()
    assert (
        found.select((pl.col("micro_price") > pl.col("bid")) & (pl.col("micro_price") < pl.col("ask")))
        .to_series()
        .all()
    )
    assert found.select((pl.col("spread") > 0.0999).all() & (pl.col("spread").median() < 0.15)).item()
    moved = found.select(((pl.col("bid") + pl.col("ask")) / 2).diff()).to_series().to_numpy()[1:]
    assert np.corrcoef(found["ofi_1"].to_numpy()[1:], moved)[0, 1] > 0.6


def slow_minutes(books: pl.DataFrame) -> dict[int, dict[datetime, float]]:
    """Order flow of each level by minute, quote by quote, for books without an hour of silence."""
    flows: dict[int, dict[datetime, float]] = {level: {} for level in range(1, 6)}
    previous: tuple[Any, ...] | None = None
    for row in books.iter_rows():
        time, values = row[1], row[2:]
        if values[0] is not None and values[2] is not None and values[0] > values[2]:
            previous = None
            continue
        if previous is not None:
            minute = time.replace(second=0, microsecond=0) + timedelta(minutes=1)
            for level in range(1, 6):
                pair = [each[4 * level - 4 : 4 * level] for each in (previous, values)]
                if None not in pair[0] and None not in pair[1]:
                    flows[level][minute] = flows[level].get(minute, 0.0) + slow_flow(*pair)
        previous = values
    return flows


def test_aggregated_trades_count_as_many_as_they_stand_for(real_markets: Path) -> None:
    rows = pl.read_parquet(real_markets / "crypto/binance_spot/aggtrades/XRPETH-aggTrades-2019-10.parquet")
    trades = typed(
        "trades",
        rows.with_columns(
            symbol=pl.lit("XRPETH"),
            size="qty",
            side=1 - 2 * pl.col("is_buyer_maker").cast(pl.Int8),
            id="agg_trade_id",
            count=pl.col("last_trade_id") - pl.col("first_trade_id") + 1,
        ),
    )
    until = datetime(2019, 10, 14, tzinfo=UTC)
    found = frame_of(close_bars(cut(trades, range(0, 12_477, 1000)), "1h", until=until))
    assert_same(found, sql_bars(trades, "1 hour"))
    assert found["trades"].sum() == trades["count"].sum() > trades.height
    ticks = frame_of(close_bars([trades], "tick-100", until=until))
    assert (ticks["trades"].min(), ticks["time"].is_unique().all()) == (100, True)


def file_bars(frame: pl.DataFrame, interval: str, prices: str = "", *, calendar: Any = "continuous") -> Bars:
    opened = frame[frame.columns[0] if "open_time" not in frame.columns else "open_time"]
    times = opened.cast(pl.Datetime("us")).dt.replace_time_zone("UTC") + INTERVALS[interval]
    volume = pl.col("volume") if "volume" in frame.columns else pl.lit(None)
    columns = {name: pl.col(f"{prices}{name}") for name in PRICES}
    return Bars.of(frame.select(symbol=pl.lit("X"), time=times, **columns, volume=volume), interval, calendar)


@pytest.mark.parametrize("side", ["bid_", "ask_"])
def test_days_of_a_currency_are_those_that_its_hours_make(real_markets: Path, side: str) -> None:
    hours, days = (
        file_bars(
            pl.read_parquet(real_markets / f"fx/oanda_{n}/EURUSD-{n}-2007_2018.parquet"), n, side, calendar="weekdays"
        )
        for n in ("1h", "1d")
    )
    known = Span(datetime(2007, 1, 1, tzinfo=UTC), datetime(2019, 1, 1, tzinfo=UTC))
    made = resample(hours, "1d", known)
    assert made.frame.height == 3738
    assert made.frame.equals(days.frame)
    assert made.calendar == "weekdays"
    assert resample(hours, "1d").frame.equals(days.frame[1:-1])  # the hours begin at 21:00 and end at 22:00


def test_hours_of_a_coin_that_fell_apart_are_the_exchange_s_own(real_markets: Path) -> None:
    folder = real_markets / "crypto/binance_spot"
    quarters = file_bars(pl.read_parquet(folder / "USTUSDT-15m-depeg.parquet"), "15m")
    panel = pl.read_parquet(folder / "panel_1h_22_symbols_2021-04_2023-12.parquet")
    hours = file_bars(panel.filter(pl.col("symbol") == "USTUSDT"), "1h")
    made = resample(quarters, "1h").frame
    assert made.height == 3352
    assert made.equals(hours.frame)  # prices and volume, to the bit
