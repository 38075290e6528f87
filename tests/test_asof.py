"""Side data on bars: what was known when each bar closed, no more and no less."""

from datetime import timedelta

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lab.asof import COLUMNS, NEWS_COLUMNS, Side, join
from lab.errors import MissingColumns, UnknownName, UsageError
from lab.kinds import KINDS
from lab.nouns import OPTIONAL_COLUMNS, TIME, Bars
from tests.archive import utc

START = utc(2024, 3, 1)
MINUTE = timedelta(minutes=1)
Row = tuple[str, int, int, float | None]  # symbol, minute of time, minute of known_at, value


def bars(minutes: dict[str, list[int]]) -> Bars:
    rows = [(symbol, START + minute * MINUTE) for symbol, closes in minutes.items() for minute in closes]
    frame = pl.DataFrame(rows, schema={"symbol": pl.String, "time": TIME}, orient="row")
    return Bars.of(frame.with_columns(open=2.0, high=3.0, low=1.0, close=2.0, volume=1.0), "1m")


def mood(rows: list[Row]) -> pl.DataFrame:
    written = [(symbol, START + time * MINUTE, START + known * MINUTE, value) for symbol, time, known, value in rows]
    schema = {"symbol": pl.String, "time": TIME, "known_at": TIME, "value": pl.Float64}
    return pl.DataFrame(written, schema=schema, orient="row")


def joined(closes: dict[str, list[int]], rows: list[Row]) -> list[float | None]:
    return join(bars(closes), "mood", mood(rows)).frame["mood"].to_list()


def as_known(symbol: str, close: int, rows: list[Row]) -> float | None:
    """Slow and plain: of the rows known by then the newest, as last revised by then."""
    known = [(time, known_at, value) for owner, time, known_at, value in rows if owner == symbol and known_at <= close]
    return max(known, key=lambda row: row[:2])[2] if known else None


minutes = st.integers(0, 30)
side_rows = st.lists(
    st.tuples(st.sampled_from(["A", "B"]), minutes, minutes, st.none() | st.integers(0, 100).map(float)),
    max_size=40,
    unique_by=lambda row: row[:3],
)
closes = st.fixed_dictionaries(
    {"A": st.lists(minutes, min_size=1, unique=True), "B": st.lists(minutes, min_size=1, unique=True)}
)


@given(closes, side_rows)
def test_each_bar_gets_the_newest_that_was_known_at_its_close_as_last_revised_by_then(
    closes: dict[str, list[int]], rows: list[Row]
) -> None:
    expected = [as_known(symbol, close, rows) for symbol in sorted(closes) for close in sorted(closes[symbol])]
    assert joined(closes, rows) == expected


@given(closes, side_rows, minutes)
def test_what_becomes_known_later_changes_nothing_before(
    closes: dict[str, list[int]], rows: list[Row], poisoned_after: int
) -> None:
    poisoned = [
        (symbol, 30 - time, known, 666.0) if known > poisoned_after else (symbol, time, known, value)
        for symbol, time, known, value in rows
    ]
    until = pl.col("time") <= START + poisoned_after * MINUTE
    first, second = (join(bars(closes), "mood", mood(each)).frame.filter(until) for each in (rows, poisoned))
    assert first.equals(second)


def test_a_day_that_was_published_at_once_counts_with_its_newest_row() -> None:
    """As when a whole history is fetched in one go: thousands of rows are known from the same moment on."""
    rows: list[Row] = [(each, time, 5000 - time % 2, float(time)) for each in "ABC" for time in range(4000)]
    assert joined({each: [4998, 4999, 5000] for each in "ABC"}, rows) == [None, 3999.0, 3999.0] * 3


def test_there_is_nothing_before_the_first_was_known() -> None:
    assert joined({"A": [0, 1, 2, 3]}, [("A", 0, 2, 7.0)]) == [None, None, 7.0, 7.0]


def test_a_late_revision_of_an_old_day_does_not_hide_a_newer_one() -> None:
    rows: list[Row] = [("A", 0, 1, 10.0), ("A", 5, 6, 20.0), ("A", 0, 8, 11.0)]
    assert joined({"A": [1, 5, 6, 8, 9]}, rows) == [10.0, 10.0, 20.0, 20.0, 20.0]


def test_a_revision_counts_from_when_it_was_known() -> None:
    assert joined({"A": [1, 3, 4]}, [("A", 0, 1, 10.0), ("A", 0, 4, 12.0)]) == [10.0, 10.0, 12.0]


def test_a_newest_row_without_a_value_says_that_there_is_none() -> None:
    assert joined({"A": [1, 3]}, [("A", 0, 1, 10.0), ("A", 2, 3, None)]) == [10.0, None]


def test_side_data_of_one_symbol_say_nothing_about_another() -> None:
    assert joined({"A": [3], "B": [3]}, [("B", 0, 1, 10.0)]) == [None, 10.0]


def test_bars_keep_their_rows_and_columns_when_nothing_is_known() -> None:
    before = bars({"A": [1, 2], "B": [1]})
    after = join(before, "mood", mood([]))
    assert after.frame.drop("mood").equals(before.frame)
    assert after.frame["mood"].to_list() == [None] * 3
    assert (after.interval, after.calendar) == (before.interval, before.calendar)


def test_bars_of_a_premium_are_known_at_their_close() -> None:
    times = pl.Series([START + n * MINUTE for n in (1, 2)], dtype=TIME)
    rows = pl.DataFrame({"symbol": ["A", "A"], "time": times, "close": [0.1, -0.2]})
    assert join(bars({"A": [0, 1, 2]}), "premium", rows).frame["premium"].to_list() == [None, 0.1, -0.2]


def test_what_cannot_be_joined_is_said() -> None:
    once = join(bars({"A": [1]}), "mood", mood([("A", 0, 1, 7.0)]))
    with pytest.raises(UsageError, match="the bars have mood already"):
        join(once, "mood", mood([]))
    with pytest.raises(MissingColumns, match="the stored metrics have no accounts_ratio, taker_ratio"):
        join(bars({"A": [1]}), "metrics", mood([]).rename({"value": "open_interest"}))


def test_side_data_are_named_by_kind_source_and_symbol() -> None:
    assert Side.parse("funding@binance-um") == Side("funding", "binance-um")
    assert Side.parse("news@gdelt:BITCOIN") == Side("news", "gdelt", "BITCOIN")
    assert Side.parse("mood@fear-greed:CRYPTO") == Side("mood", "fear-greed", "CRYPTO")
    for text in ("funding", "funding@", "@binance-um"):
        with pytest.raises(UsageError):
            Side.parse(text)
    with pytest.raises(UnknownName, match="no side data named 'fundig'") as wrong:
        Side.parse("fundig@binance-um")
    assert wrong.value.fix == "did you mean funding?"


@pytest.mark.parametrize("kind", COLUMNS)
def test_every_joined_column_is_one_that_bars_may_have(kind: str) -> None:
    held = {**KINDS[kind].columns, **KINDS[kind].optional}
    assert {*COLUMNS[kind]} <= {*OPTIONAL_COLUMNS}
    assert {*COLUMNS[kind].values()} <= {*held}
    assert {*NEWS_COLUMNS} <= {*OPTIONAL_COLUMNS}


Told = tuple[str, int, int, int]  # symbol, minute of time, minute of known_at, tone in tenths


def news(rows: list[Told]) -> pl.DataFrame:
    written = [
        (symbol, START + time * MINUTE, START + known * MINUTE, f"{tone}", float(tone))
        for symbol, time, known, tone in rows
    ]
    schema = {"symbol": pl.String, "time": TIME, "known_at": TIME, "uid": pl.String, "tone": pl.Float64}
    return pl.DataFrame(written, schema=schema, orient="row")


def told(closes: dict[str, list[int]], rows: list[Told]) -> list[tuple[float | None, float | None]]:
    frame = join(bars(closes), "news", news(rows)).frame
    return [
        (count, None if score is None else round(10 * score, 4)) for count, score in frame.select(NEWS_COLUMNS).rows()
    ]


def as_heard(symbol: str, before: int, close: int, rows: list[Told]) -> tuple[float | None, float | None]:
    """Slow and plain: what was first known after one close and not after the next."""
    own = [row for row in rows if row[0] == symbol]
    if not any(known <= close for _, _, known, _ in own):
        return None, None
    first: dict[tuple[int, int], int] = {}
    for _, time, known, tone in own:
        first[time, tone] = min(known, first.get((time, tone), known))
    heard = [tone for (_, tone), known in first.items() if before < known <= close]
    return float(len(heard)), float(sum(heard))


news_rows = st.lists(
    st.tuples(st.sampled_from(["A", "B"]), minutes, minutes, st.integers(-10, 10)), max_size=40, unique=True
)


@given(closes, news_rows)
def test_each_headline_counts_in_the_first_bar_at_whose_close_it_was_known(
    closes: dict[str, list[int]], rows: list[Told]
) -> None:
    expected = []
    for symbol in sorted(closes):
        ordered = sorted(closes[symbol])
        before = [ordered[0] - 1, *ordered]
        expected += [as_heard(symbol, before[n], close, rows) for n, close in enumerate(ordered)]
    assert told(closes, rows) == expected


@given(closes, news_rows, minutes)
def test_news_that_come_later_change_nothing_before(
    closes: dict[str, list[int]], rows: list[Told], poisoned_after: int
) -> None:
    poisoned = [
        (symbol, 30 - time, known, 10) if known > poisoned_after else (symbol, time, known, tone)
        for symbol, time, known, tone in rows
    ]
    until = pl.col("time") <= START + poisoned_after * MINUTE
    first, second = (join(bars(closes), "news", news(each)).frame.filter(until) for each in (rows, poisoned))
    assert first.equals(second)


def test_a_headline_that_is_late_is_not_seen_early() -> None:
    """Something happened at 1, and the wire told it at 4: until then nobody had heard, whatever the stamp says."""
    rows: list[Told] = [("A", 0, 0, 1), ("A", 1, 4, -9)]
    assert told({"A": [1, 2, 3, 4, 5]}, rows) == [(0, 0), (0, 0), (0, 0), (1, -9), (0, 0)]
    moment = news(rows).with_columns(pl.col("known_at") + pl.duration(microseconds=1))
    assert join(bars({"A": [3, 4, 5]}), "news", moment).frame["headlines"].to_list() == [0, 0, 1]


def test_a_headline_that_is_delivered_again_counts_once() -> None:
    assert told({"A": [1, 2, 3]}, [("A", 0, 1, 5), ("A", 0, 3, 5), ("A", 2, 3, 5)]) == [(1, 5), (0, 0), (1, 5)]


def test_what_was_said_in_a_gap_is_heard_at_its_end_and_the_time_before_the_first_bar_is_no_gap() -> None:
    rows: list[Told] = [("A", n, n, 1) for n in range(11)]
    assert told({"A": [3, 4, 10]}, rows) == [(1, 1), (1, 1), (6, 6)]


def test_before_anybody_listened_nothing_is_known_and_afterwards_silence_is_silence() -> None:
    assert told({"A": [1, 2, 3], "B": [2]}, [("A", 2, 2, 4)]) == [(None, None), (1, 4), (0, 0), (None, None)]
    empty = join(bars({"A": [1]}), "news", news([])).frame
    assert empty.select(NEWS_COLUMNS).rows() == [(None, None)]


def test_headlines_without_words_or_tone_cannot_be_joined() -> None:
    with pytest.raises(MissingColumns, match="the stored news have neither title nor tone"):
        join(bars({"A": [1]}), "news", news([]).drop("tone"))
    once = join(bars({"A": [1]}), "news", news([]))
    with pytest.raises(UsageError, match="the bars have headlines, sentiment already"):
        join(once, "news", news([]))


def test_bars_that_no_clock_closes_hear_news_too() -> None:
    clocked = bars({"A": [1, 4]})
    traded = join(Bars.of(clocked.frame, "tick-10"), "news", news([("A", 0, 0, 1), ("A", 0, 3, 2)]))
    assert traded.frame["headlines"].to_list() == [0, 1]
