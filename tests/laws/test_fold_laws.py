"""Folds: whatever the history, no training label reaches into its test, and every bar is tested once.

The checker works on plain lists of moments and knows nothing of how the folds were cut.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from random import Random

import polars as pl
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from lab import folds
from lab.errors import NotEnoughHistory
from lab.nouns import Bars, Fold, Span

START = datetime(2024, 2, 28, 23, tzinfo=UTC)
MINUTE = timedelta(minutes=1)


@dataclass(frozen=True)
class History:
    """Closes of several symbols, and the lengths that their time is to be cut by."""

    closes: dict[str, list[datetime]]
    train: timedelta
    test: timedelta
    embargo: timedelta
    horizon: int
    expanding: bool

    @property
    def times(self) -> list[datetime]:
        return sorted({time for own in self.closes.values() for time in own})

    @property
    def answers(self) -> list[tuple[datetime, datetime | None]]:
        """(moment of the row, moment its answer is settled) of every row; an answer needs `horizon` unbroken bars."""
        found: list[tuple[datetime, datetime | None]] = []
        for own in self.closes.values():
            for row, time in enumerate(own):
                ahead = own[row : row + self.horizon + 1]
                whole = len(ahead) == self.horizon + 1 and all(b - a == MINUTE for a, b in pairwise(ahead))
                found.append((time, ahead[-1] if whole else None))
        return found

    def cut(self, horizon: int | None = None) -> list[Fold]:
        return folds.walk_forward(
            series(self.times),
            train=self.train,
            test=self.test,
            horizon=self.horizon if horizon is None else horizon,
            embargo=self.embargo,
            expanding=self.expanding,
        )


def series(times: list[datetime]) -> pl.Series:
    return pl.Series("time", times, dtype=pl.Datetime("us", "UTC"))


@st.composite
def histories(draw: st.DrawFn) -> History:
    """One to three symbols on a grid of minutes, each with holes of its own, and now and then a halt for all."""
    random = Random(draw(st.integers(0, 2**32 - 1)))
    rows, holes = draw(st.integers(1, 120)), draw(st.sampled_from([0.0, 0.02, 0.3]))
    halts = [(random.randrange(rows), random.randrange(1, 90)) for _ in range(draw(st.integers(0, 2)))]
    grid, minute = [], 0
    for row in range(rows):
        minute += 1 + sum(length for at, length in halts if at == row)
        grid.append(START + minute * MINUTE)
    closes = {
        f"S{number}": [time for time in grid if random.random() >= holes] for number in range(draw(st.integers(1, 3)))
    }
    return History(
        closes,
        train=draw(st.integers(1, 60)) * MINUTE,
        test=draw(st.integers(3, 40)) * MINUTE,
        embargo=draw(st.sampled_from([0, 0, 1, 7, 30])) * MINUTE,
        horizon=draw(st.integers(1, 12)),
        expanding=draw(st.booleans()),
    )


many = settings(deadline=None, max_examples=80, derandomize=True)

Selection = Callable[[Fold], pl.Expr]


def by_span_alone(fold: Fold) -> pl.Expr:
    return fold.train.covers(pl.col("time"))


def table(history: History) -> pl.DataFrame:
    """Every row of the history, with when its answer is settled."""
    moment = pl.Datetime("us", "UTC")
    return pl.DataFrame(history.answers, schema={"time": moment, "settled_at": moment}, orient="row")


def overlaps(history: History, cut: list[Fold], select: Selection = folds.training_rows) -> list[str]:
    """Every training label that is not settled before the first bar of its test."""
    rows, found = table(history), []
    for fold in cut:
        first = min(rows.filter(folds.test_rows(fold))["time"].to_list())
        for time, settled in rows.filter(select(fold)).rows():
            if settled is None or settled >= first:
                found.append(f"fold {fold.number}: {time} to {settled} reaches into {first}")
    return found


def cut_or_skip(history: History) -> list[Fold]:
    try:
        return history.cut()
    except NotEnoughHistory:
        assume(False)
        raise


@many
@given(histories())
def test_no_training_label_is_settled_inside_or_after_the_start_of_its_test(history: History) -> None:
    assert overlaps(history, cut_or_skip(history)) == []


@many
@given(histories())
def test_the_cut_alone_keeps_the_horizon_and_the_embargo_clear(history: History) -> None:
    """Without the second fence, which drops rows by when they are settled: the cut knows the horizon by itself."""
    rows = table(history)
    for fold in cut_or_skip(history):
        settled = rows.filter(by_span_alone(fold))["settled_at"].drop_nulls().to_list()
        assert [moment for moment in settled if moment + history.embargo >= fold.test.start] == []


def test_a_splitter_that_forgets_the_label_fails_the_checker() -> None:
    minutes = [START + n * MINUTE for n in range(200)]
    history = History({"A": minutes}, 60 * MINUTE, 20 * MINUTE, timedelta(0), horizon=5, expanding=False)
    assert overlaps(history, history.cut()) == []
    forgetful = history.cut(horizon=0)
    assert len(forgetful) == 7
    assert len(overlaps(history, forgetful, by_span_alone)) == 5 * 7  # the last five labels before each of seven tests
    assert overlaps(history, forgetful) == []  # the second fence holds where the first is down
    shuffled = [Fold(k, Span(START, minutes[-1] + MINUTE), Span(minutes[40 * k], minutes[40 * k + 39])) for k in (1, 3)]
    assert len(overlaps(history, shuffled, by_span_alone)) > 100


@many
@given(histories())
def test_tests_tile_the_time_from_the_first_test_to_the_last_bar(history: History) -> None:
    cut, times = cut_or_skip(history), history.times
    assert [fold.number for fold in cut] == list(range(len(cut)))
    for fold, following in pairwise(cut):
        assert fold.test.end == following.test.start
    first = cut[0].test.start
    tested = [sum(fold.test.start <= time < fold.test.end for fold in cut) for time in times]
    assert tested == [int(time >= first) for time in times]
    for fold in cut:
        own = [time for time in times if fold.test.start <= time < fold.test.end]
        assert own[0] == fold.test.start
        assert own == [time for time in times if own[0] <= time < own[0] + history.test]


@many
@given(histories())
def test_the_first_test_starts_as_soon_as_training_horizon_and_embargo_have_passed(history: History) -> None:
    times = history.times
    trained = [row for row, time in enumerate(times) if time >= times[0] + history.train] if times else []
    settled = times[trained[0] + history.horizon :][:1] if trained else []
    first = [time for time in times if settled and time >= settled[0] + history.embargo]
    if first:
        assert history.cut()[0].test.start == first[0]
    else:
        with pytest.raises(NotEnoughHistory, match=f"there are {len(times) or 'no'} bars.*{history.horizon} bars to"):
            history.cut()


@many
@given(histories())
def test_training_ends_before_its_test_and_lasts_as_long_as_it_should(history: History) -> None:
    cut, times = cut_or_skip(history), history.times
    for fold in cut:
        own = [time for time in times if fold.train.start <= time < fold.train.end]
        assert own
        assert fold.train.end <= fold.test.start
        # No bar is given away: one more would be settled too late.
        ahead = [time for time in times if own[-1] < time < fold.test.start - history.embargo]
        assert len(ahead) == history.horizon
        since = times[0] if history.expanding else own[-1] - history.train + timedelta(microseconds=1)
        assert own == [time for time in times if since <= time <= own[-1]]
    if history.expanding:
        assert {fold.train.start for fold in cut} == {times[0]}


@settings(deadline=None, max_examples=40, derandomize=True)
@given(histories(), st.lists(st.integers(0, 59), min_size=3, max_size=3))
def test_symbols_that_close_at_other_seconds_reach_no_further_into_the_test(
    history: History, offsets: list[int]
) -> None:
    """A shared clock with more moments than any one symbol has makes the cut short; the second fence holds."""
    moved = {
        name: [time + timedelta(seconds=seconds) for time in own]
        for (name, own), seconds in zip(history.closes.items(), offsets, strict=False)
    }
    off_grid = History(moved, history.train, history.test, history.embargo, history.horizon, history.expanding)
    assert overlaps(off_grid, cut_or_skip(off_grid)) == []


def test_the_labels_of_the_lab_are_settled_where_the_checker_says() -> None:
    from lab.labels import resolve, settle

    times = [START + n * MINUTE for n in (0, 1, 2, 3, 4, 5, 9, 10, 11, 12, 13, 14)]
    history = History({"A": times}, MINUTE, MINUTE, timedelta(0), horizon=3, expanding=False)
    prices = {name: [1.0 + 0.01 * n for n in range(12)] for name in ("open", "high", "low", "close", "volume")}
    bars = Bars.of(pl.DataFrame({"symbol": ["A"] * 12, "time": times, **prices}), "1m")
    assert settle(bars, resolve("forward_return(3)"))["settled_at"].to_list() == [end for _, end in history.answers]
