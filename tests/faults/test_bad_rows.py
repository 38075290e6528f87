"""Rows that cannot be true: each is found, named and counted, and costs no other row its place."""

from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from lab import store
from lab.errors import SourceError
from lab.gaps import quality
from lab.nouns import EVENTS, INTERVALS, PRICES, Bars, Piece, Span
from lab.sources.binance import datasets
from lab.sources.binance.datasets import DATASETS
from lab.sources.binance.tables import OUTSIDE, TAKEN_BACK, read_table
from lab.sources.rows import SECOND, sift
from lab.sources.synthetic import simulate
from tests.archive import kline_lines, utc
from tests.faults.conftest import Tally

DAY, MINUTE = timedelta(days=1), timedelta(minutes=1)
MONDAY = Span(utc(2024, 2, 26), utc(2024, 2, 27))
BARS = datasets.Archive("spot", DATASETS["bars"], "AAA", "1m", MONDAY)
TRADES = datasets.Archive("spot", DATASETS["trades"], "AAA", EVENTS, MONDAY)
ROWS = 60

NO_PRICE = "a price is missing or not a number"
NOT_ABOVE_ZERO = "a price is zero or below"
OUT_OF_RANGE = "open or close lies outside low..high"
BAD_VOLUME = "the volume is negative or not a number"
BAD_EXTRA = "an optional column is negative or not a number"
NO_TIME = "no symbol or no time"
REPEATED, CONTRADICTED, LATE = "again at the end of the file", "again, saying something else", "only at the end"
OPEN, HIGH, LOW, CLOSE, VOLUME, CLOSE_TIME, QUOTE_VOLUME, TRADE_COUNT, BUY_VOLUME, NOTE = (*range(1, 10), 11)

Spoilt = tuple[int, str, str]  # the cell, what it says, and why the row cannot be a bar then
SPOILT_BARS: list[Spoilt] = [
    *(
        (cell, text, NO_PRICE)
        for cell in (OPEN, HIGH, LOW, CLOSE)
        for text in ("NaN", "inf", "-inf", "", "null", "n/a")
    ),
    *((cell, text, NOT_ABOVE_ZERO) for cell in (OPEN, HIGH, LOW, CLOSE) for text in ("0", "-0.0", "-100.5")),
    *((cell, text, OUT_OF_RANGE) for cell, text in ((HIGH, "1"), (LOW, "500"), (OPEN, "500"), (CLOSE, "1"))),
    *((VOLUME, text, BAD_VOLUME) for text in ("-1", "NaN", "inf")),
    *((cell, text, BAD_EXTRA) for cell in (BUY_VOLUME, QUOTE_VOLUME, TRADE_COUNT) for text in ("-1", "NaN", "-inf")),
    (VOLUME, "many", "volume cannot be read"),
    (QUOTE_VOLUME, "1'5", "quote_volume cannot be read"),
    (BUY_VOLUME, "1000", "takers bought more than was traded"),
    (0, "", NO_TIME),
    (0, "yesterday", NO_TIME),
    (0, "0", OUTSIDE),
    (0, f"{int(utc(2024, 2, 27).timestamp())}000", OUTSIDE),
    (CLOSE_TIME, "0", "not open for 1m"),
]
NUMBERS = ((1, "price"), (2, "size"))
SPOILT_TRADES: list[Spoilt] = [
    *((cell, text, f"{name} is not a finite number") for cell, name in NUMBERS for text in ("NaN", "inf")),
    *((cell, text, f"{name} is zero or below") for cell, name in NUMBERS for text in ("0", "-3.5")),
    *(
        (cell, text, f"{name} is missing or cannot be read")
        for cell, name in (*NUMBERS, (6, "side"))
        for text in ("", "null", "much")
    ),
    (4, "-5", "count is zero or below"),
    (5, "", NO_TIME),
    (5, "noon", NO_TIME),
    (5, "0", OUTSIDE),
    (5, f"{int(utc(2024, 2, 27).timestamp())}000", OUTSIDE),
]

quick = settings(deadline=None, derandomize=True, suppress_health_check=list(HealthCheck), database=None)


def harms(spoilt: list[Spoilt]) -> st.SearchStrategy[dict[int, Spoilt | str]]:
    """What is wrong with which row of a file; never the first, by which a reader knows what it has before it."""
    kinds = st.one_of(st.sampled_from(spoilt), st.sampled_from([REPEATED, CONTRADICTED, LATE]))
    return st.dictionaries(st.integers(1, ROWS - 1), kinds, max_size=20)


def kline_cells() -> list[list[str]]:
    """An hour of klines, each with its number where the exchange has a column that means nothing."""
    lines = [line.strip().split(",") for line in kline_lines(MONDAY.start, ROWS)]
    return [[*cells[:NOTE], str(n)] for n, cells in enumerate(lines)]


def trade_cells() -> list[list[str]]:
    first = int(MONDAY.start.timestamp() * 1000)
    return [
        [
            *map(str, (n, 100 + n % 7 / 10, 1 + n % 5, 2 * n, 2 * n + n % 2, first + 700 * n)),
            "false" if n % 3 else "true",
        ]
        for n in range(ROWS)
    ]


def harmed(
    rows: list[list[str]], harm: dict[int, Spoilt | str], says_otherwise: tuple[int, str], note: int | None
) -> tuple[list[list[str]], list[int], Counter[tuple[str, str]], int]:
    """A file with these harms; the rows of it that are true, what is wrong with which others, and the repeats."""
    file, last, good = [], [], []
    wrong: Counter[tuple[str, str]] = Counter()
    for n, cells in enumerate(rows):
        what = harm.get(n)
        if isinstance(what, tuple):
            cell, text, reason = what
            file.append([*cells[:cell], text, *cells[cell + 1 :]])
            wrong[str(n), reason] += 1
            continue
        good.append(n)
        (last if what == LATE else file).append(cells)
        if what == REPEATED:
            last.append(cells)
        if what == CONTRADICTED:
            cell, text = says_otherwise
            last.append([*cells[:cell], text, *cells[cell + 1 :]])
            wrong[str(n), SECOND] += 1
    return file + last, good, wrong, sum(what == REPEATED for what in harm.values())


def csv(rows: list[list[str]]) -> bytes:
    return "".join(f"{','.join(cells)}\n" for cells in rows).encode()


def as_bar(cells: list[str]) -> tuple[object, ...]:
    """What a line of klines says, read by nothing but Python: symbol, close, prices, volumes, number of trades."""
    close = datetime.fromtimestamp(int(cells[0]) / 1000, UTC) + MINUTE
    numbers = (OPEN, HIGH, LOW, CLOSE, VOLUME, BUY_VOLUME, QUOTE_VOLUME, TRADE_COUNT)
    return ("AAA", close, *(float(cells[n]) for n in numbers))


def as_trade(cells: list[str]) -> tuple[object, ...]:
    """symbol, time, price, size, side of the taker, number, trades that it stands for."""
    time = datetime.fromtimestamp(int(cells[5]) / 1000, UTC)
    count = int(cells[4]) - int(cells[3]) + 1
    return ("AAA", time, float(cells[1]), float(cells[2]), -1 if cells[6] == "true" else 1, int(cells[0]), count)


@pytest.mark.tries("Q1", 150, 10_000)
def test_every_bar_that_cannot_be_is_found_and_named_and_no_other_row_is_touched(tally: Tally) -> None:
    seen: Counter[str] = Counter()

    @settings(quick, max_examples=tally.times)
    @given(harms(SPOILT_BARS))
    @example(dict(enumerate(SPOILT_BARS[::2], start=1)))
    @example(dict(enumerate([*SPOILT_BARS[1::2], REPEATED, CONTRADICTED, LATE], start=1)))
    def law(harm: dict[int, Spoilt | str]) -> None:
        tally.tried += 1
        rows = kline_cells()
        file, good, wrong, repeated = harmed(rows, harm, (VOLUME, "9.5"), NOTE)
        table, rejected, repeats = read_table([csv(file)], BARS)
        names = ("symbol", "time", *PRICES, "volume", "buy_volume", "quote_volume", "trades")
        assert table.frame.select(names).rows() == [as_bar(rows[n]) for n in good]
        found = rejected.select("ignore", "fault").rows() if rejected.height else []
        assert Counter(found) == wrong
        assert repeats == repeated
        assert table.frame.height + rejected.height + repeats == len(file)
        seen.update(reason for _, reason in wrong)

    law()
    tally.check()
    assert set(seen) == {reason for *_, reason in SPOILT_BARS} | {SECOND}


@pytest.mark.tries("Q1", 150, 10_000)
def test_every_trade_that_cannot_be_is_found_and_named_and_no_other_row_is_touched(tally: Tally) -> None:
    seen: Counter[str] = Counter()

    @settings(quick, max_examples=tally.times)
    @given(harms(SPOILT_TRADES))
    @example(dict(enumerate(SPOILT_TRADES[::2], start=1)))
    @example(dict(enumerate([*SPOILT_TRADES[1::2], REPEATED, CONTRADICTED, LATE], start=1)))
    def law(harm: dict[int, Spoilt | str]) -> None:
        tally.tried += 1
        rows = trade_cells()
        file, good, wrong, repeated = harmed(rows, harm, (1, "55.5"), None)
        table, rejected, repeats = read_table([csv(file)], TRADES)
        names = ("symbol", "time", "price", "size", "side", "id", "count")
        assert table.frame.select(names).rows() == [as_trade(rows[n]) for n in good]
        found = rejected.select(pl.col("id").cast(pl.String), "fault").rows() if rejected.height else []
        assert Counter(found) == wrong
        assert repeats == repeated
        assert table.frame.height + rejected.height + repeats == len(file)
        seen.update(reason for _, reason in wrong)

    law()
    tally.check()
    assert set(seen) == {reason for *_, reason in SPOILT_TRADES} | {SECOND}


@pytest.mark.parametrize(
    ("cells", "archive", "what"),
    [(kline_cells()[0][1:], BARS, "klines"), ([*trade_cells()[0][1:5], "", "true"], TRADES, "aggTrades")],
)
def test_a_file_that_does_not_begin_as_its_kind_does_is_refused_whole(
    cells: list[str], archive: datasets.Archive, what: str
) -> None:
    rows = kline_cells() if archive is BARS else trade_cells()
    with pytest.raises(SourceError, match=f"which is neither {what} nor their header"):
        read_table([csv([["", *cells], *rows])], archive)


def test_trades_that_the_exchange_took_back_say_so() -> None:
    rows = trade_cells()
    rows[5][1:5] = ["0", "0", "-1", "-1"]
    _, rejected, _ = read_table([csv(rows)], TRADES)
    assert rejected.select("id", "fault").rows() == [(5, TAKEN_BACK)]


def test_a_volume_that_is_not_there_is_unknown_and_not_zero() -> None:
    rows = kline_cells()
    rows[7][VOLUME] = ""
    table, rejected, _ = read_table([csv(rows)], BARS)
    assert (table.frame["volume"].null_count(), table.frame["volume"][7], rejected.height) == (1, None, 0)


def test_what_was_rejected_and_repeated_is_counted_where_the_rows_are_stored(tmp_path: Path) -> None:
    harm: dict[int, Spoilt | str] = {3: SPOILT_BARS[0], 9: SPOILT_BARS[-1], 20: REPEATED, 30: CONTRADICTED, 40: LATE}
    file, good, wrong, repeated = harmed(kline_cells(), harm, (VOLUME, "9.5"), NOTE)
    table, rejected, repeats = read_table([csv(file)], BARS)
    store.commit(tmp_path, "here", [Piece("AAA", "file", "digest", table, rejected, repeats)])
    name = store.TableName(tmp_path, "here", "AAA", "1m")
    held = store.holding(name)
    assert held is not None
    assert (held.rows, held.rejected, held.repeats) == (len(good), wrong.total(), repeated) == (58, 3, 1)
    kept_apart = [row for frame in store.rejected(name) for row in frame.select("ignore", "fault").rows()]
    assert Counter(kept_apart) == wrong


@pytest.mark.tries("Q1", 100, 5_000)
def test_every_absurd_jump_is_flagged_and_its_row_is_kept_as_it_is(tally: Tally) -> None:
    honest = simulate("NOISE", 4, 3_000)
    whole = honest.frame.with_row_index()

    @settings(quick, max_examples=tally.times)
    @given(
        st.sets(st.integers(1, 1_498), min_size=1, max_size=12),
        st.sampled_from([1.5, 10.0, 1e6, 0.5, 0.01, 1e-5]),
    )
    def law(places: set[int], factor: float) -> None:
        tally.tried += 1
        wild = [2 * place for place in places]  # never two in a row
        times = pl.when(pl.col("index").is_in(wild)).then(factor).otherwise(1.0)
        jumping = whole.with_columns(pl.col(name) * times for name in PRICES).drop("index")
        bars, rejected, repeats = sift(jumping, "1m", "continuous")
        assert (bars.frame.equals(jumping), rejected.height, repeats) == (True, 0, 0)
        told = quality(bars)
        assert told["jumps"] == 2 * len(wild)  # there, and back
        assert told["largest_jump_at"] in {whole["time"][place + step] for place in wild for step in (0, 1)}

    law()
    tally.check()


@pytest.mark.tries("Q1", 1_000_000, 10_000_000)
def test_of_a_million_honest_bars_none_is_rejected_and_none_is_flagged(tally: Tally) -> None:
    """Ten million with --many: half of them of a market with an edge, half of one without."""
    a_market = 500_000
    for number in range(tally.times // a_market):
        bars = simulate("FLOW" if number % 2 else "NOISE", 100 + number, a_market)
        good, rejected, repeats = sift(bars.frame, "1m", "continuous")
        tally.tried += a_market
        assert (good.frame.equals(bars.frame), rejected.height, repeats) == (True, 0, 0)
        told = quality(good)
        assert {name: told[name] for name in ("rows", "jumps", "frozen", "no_volume", "gaps", "missing")} == {
            "rows": a_market,
            **dict.fromkeys(("jumps", "frozen", "no_volume", "gaps", "missing"), 0),
        }
    tally.check()


# ── decimals ────────────────────────────────────────────────────────────────────────────────────────────────────────


def decimals(random: np.random.Generator, count: int) -> np.ndarray:
    """Whole numbers of hundred-millionths, as likely near 1e-8 as near 1e8."""
    return np.maximum(np.exp(random.uniform(0, np.log(1e16), count)).astype(np.int64), 1)


def written(value: int, random: np.random.Generator) -> str:
    """A decimal with up to 8 places, as exchanges write it: zeros at the end or not."""
    text = f"{value // 10**8}.{value % 10**8:08}"
    return text if random.random() < 0.5 else text.rstrip("0").rstrip(".")


@pytest.mark.tries("Q8", 200_000, 1_000_000)
def test_decimals_come_back_as_the_doubles_that_are_nearest_to_what_was_written(tally: Tally, tmp_path: Path) -> None:
    """200,000 of them, a million with --many: from 1e-8 to 1e8, with up to 8 places, in klines and in trades."""
    differing, part = 0, 0
    while tally.tried < tally.times:
        day = Span(MONDAY.start + part * DAY, MONDAY.end + part * DAY)
        opened = [int(day.start.timestamp() * 1000) + n * 60_000 for n in range(1440)]
        values = np.sort(decimals(tally.random, 1440 * 4).reshape(-1, 4), axis=1)
        volumes = np.sort(decimals(tally.random, 1440 * 2).reshape(-1, 2), axis=1)
        texts = [
            [written(int(v), tally.random) for v in (row[1], row[3], row[0], row[2], vol[1], vol[0])]
            for row, vol in zip(values, volumes, strict=True)
        ]
        lines = [
            f"{t},{','.join(cells[:5])},{t + 59_999},{cells[4]},1,{cells[5]},{cells[5]},0\n"
            for t, cells in zip(opened, texts, strict=True)
        ]
        names = (*("open", "high", "low", "close"), "volume", "buy_volume", "quote_volume")
        archive = replace(BARS, period=day)
        back = stored(tmp_path, archive, "".join(lines).encode()).select(names).rows()
        expected = [(*map(float, cells), float(cells[4])) for cells in texts]
        tally.tried += len(expected) * len(names)
        differing += unequal(back, expected)

        sizes = [[written(int(v), tally.random) for v in row] for row in decimals(tally.random, 5_000).reshape(-1, 2)]
        lines = [f"{n},{p},{q},{n},{n},{opened[0] + n},true\n" for n, (p, q) in enumerate(sizes)]
        back = stored(tmp_path, replace(TRADES, period=day), "".join(lines).encode()).select("price", "size").rows()
        expected = [(float(p), float(q)) for p, q in sizes]
        tally.tried += 2 * len(expected)
        differing += unequal(back, expected)
        part += 1
    assert differing == 0
    tally.check()


def unequal(found: list[tuple[float, ...]], expected: list[tuple[float, ...]]) -> int:
    assert len(found) == len(expected)
    return sum(a != b for ours, theirs in zip(found, expected, strict=True) for a, b in zip(ours, theirs, strict=True))


def stored(root: Path, archive: datasets.Archive, text: bytes) -> pl.DataFrame:
    """What is read back from a store into which the rows of a file came; all of them must have."""
    table, rejected, repeats = read_table([text], archive)
    assert (rejected.height, repeats) == (0, 0)
    span = None if isinstance(table, Bars) else archive.period
    store.commit(root, "here", [Piece("AAA", archive.origin, archive.stem, table, span=span)])
    kind = archive.dataset.kind
    length = INTERVALS.get(archive.interval, timedelta(0))
    asked = Span(archive.period.start + length, archive.period.end + length)
    return store.read(store.TableName(root, "here", "AAA", archive.interval, kind), asked)
