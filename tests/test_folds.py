"""Folds: lengths of time as people write them, and a history cut by hand."""

from datetime import UTC, datetime, timedelta

import polars as pl
import pytest

from lab import folds
from lab.errors import NotEnoughHistory, UsageError
from lab.nouns import Fold, Span

START = datetime(2024, 1, 1, tzinfo=UTC)
MINUTE = timedelta(minutes=1)


def at(*minutes: int) -> pl.Series:
    return pl.Series("time", [START + n * MINUTE for n in minutes], dtype=pl.Datetime("us", "UTC"))


def between(first: int, last: int) -> Span:
    return Span(START + first * MINUTE, START + last * MINUTE)


@pytest.mark.parametrize(
    ("text", "length"),
    [("90m", 90 * MINUTE), ("12h", 720 * MINUTE), (" 20d ", timedelta(days=20)), ("0m", timedelta(0))],
)
def test_a_length_is_read_as_it_is_meant(text: str, length: timedelta) -> None:
    assert folds.duration(text) == length


@pytest.mark.parametrize("text", ["", "20", "d", "-1d", "1.5d", "1e3d", "20 d", "1w", "1d2h", "9999999d", "٣d\n1"])
def test_what_is_no_length_is_refused_with_its_text(text: str) -> None:
    with pytest.raises(UsageError) as refusal:
        folds.duration(text)
    assert refusal.value.problem == f"{text!r} is not a length of time"
    assert refusal.value.fix == "write it like 90m, 12h or 20d"


@pytest.mark.parametrize(
    ("text", "plain"), [("24h", "1d"), ("1440m", "1d"), ("36h", "36h"), ("90m", "90m"), ("120m", "2h"), ("0m", "0d")]
)
def test_one_length_is_written_in_one_way(text: str, plain: str) -> None:
    assert folds.written(folds.duration(text)) == plain
    assert folds.duration(plain) == folds.duration(text)


def test_rolling_folds_of_a_history_cut_by_hand() -> None:
    cut = folds.walk_forward(
        at(*range(20)), train=6 * MINUTE, test=5 * MINUTE, horizon=2, embargo=1 * MINUTE, expanding=False
    )
    assert cut == [
        Fold(0, between(0, 6), between(9, 14)),
        Fold(1, between(5, 11), between(14, 19)),
        Fold(2, between(10, 16), Span(START + 19 * MINUTE, START + 19 * MINUTE + timedelta(microseconds=1))),
    ]


def test_expanding_folds_of_a_history_cut_by_hand() -> None:
    cut = folds.walk_forward(
        at(*range(18)), train=6 * MINUTE, test=5 * MINUTE, horizon=2, embargo=1 * MINUTE, expanding=True
    )
    assert [(fold.train, fold.test.start) for fold in cut] == [
        (between(0, 6), START + 9 * MINUTE),
        (between(0, 11), START + 14 * MINUTE),
    ]


def test_a_halt_as_long_as_the_training_leaves_the_bars_before_it_to_learn_from() -> None:
    cut = folds.walk_forward(
        at(*range(10), *range(100, 110)),
        train=5 * MINUTE,
        test=2 * MINUTE,
        horizon=2,
        embargo=timedelta(0),
        expanding=False,
    )
    assert [(fold.train, fold.test.start) for fold in cut[:5]] == [
        (between(0, 5), START + 7 * MINUTE),
        (between(2, 7), START + 9 * MINUTE),
        (between(3, 8), START + 100 * MINUTE),
        (between(5, 100), START + 102 * MINUTE),
        (between(100, 102), START + 104 * MINUTE),
    ]


def test_too_little_history_says_what_there_is_and_what_it_takes() -> None:
    with pytest.raises(NotEnoughHistory) as refusal:
        folds.walk_forward(
            at(*range(12)), train=10 * MINUTE, test=MINUTE, horizon=3, embargo=5 * MINUTE, expanding=False
        )
    assert refusal.value.problem == (
        "there are 12 bars from 2024-01-01 00:00 to 2024-01-01 00:11; one fold needs 10m to train, 3 bars to settle, "
        "5m of embargo and at least one bar to test"
    )
    assert "shorten `train`" in refusal.value.fix


def test_no_history_at_all_is_too_little() -> None:
    with pytest.raises(NotEnoughHistory, match="there are no bars; one fold needs"):
        folds.walk_forward(at(), train=MINUTE, test=MINUTE, horizon=1, embargo=timedelta(0), expanding=False)


@pytest.mark.parametrize(("train", "test"), [(0, 5), (5, 0)])
def test_a_length_of_nothing_is_refused(train: int, test: int) -> None:
    with pytest.raises(UsageError, match=f"train is {train * MINUTE} and test is {test * MINUTE}"):
        folds.walk_forward(
            at(*range(50)), train=train * MINUTE, test=test * MINUTE, horizon=1, embargo=MINUTE, expanding=False
        )


def test_a_row_without_an_answer_is_judged_but_not_learned_from() -> None:
    fold = Fold(0, between(0, 5), between(6, 9))
    rows = pl.DataFrame({"time": at(0, 3, 4, 6, 8), "settled_at": [at(2)[0], at(6)[0], None, at(8)[0], None]})
    assert rows.filter(folds.training_rows(fold))["time"].to_list() == at(0).to_list()
    assert rows.filter(folds.test_rows(fold))["time"].to_list() == at(6, 8).to_list()
