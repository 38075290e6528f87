"""Features on larger bars against the longer bars that the store would keep, joined as of their close."""

from datetime import timedelta

import polars as pl
import pytest

from lab.bars import resample
from lab.features import compute, plain, resolve
from lab.nouns import Bars, Feature
from tests.conftest import bars_of, rows_of, two_state_moves

LONGER = {"5m": timedelta(minutes=5), "15m": timedelta(minutes=15), "1h": timedelta(hours=1)}


@pytest.fixture(scope="module")
def minutes() -> Bars:
    """Two symbols, one with a hole of half a day, that begin and resume within an hour."""
    moves = two_state_moves(4000, 0.1, (1e-3, 4e-3), seed=1)
    holed = rows_of("HOLED", moves, steps=[1] * 1507 + [713] + [1] * 2492, seed=2)
    return bars_of(holed.slice(7), rows_of("WHOLE", moves, seed=3).slice(11))


def larger(text: str, base: str = "1m") -> Feature:
    found = resolve(text, base)
    assert isinstance(found, Feature)
    return found


@pytest.mark.parametrize("interval", LONGER)
@pytest.mark.parametrize("text", ["rsi(2)", "realised_vol(8)", "body", "cvd(6)", "alpha_vwap0", "range_position(7)"])
def test_a_value_is_that_of_the_last_closed_larger_bar(text: str, interval: str, minutes: Bars) -> None:
    feature = larger(f"{text}@{interval}")
    ours = compute(minutes, [feature])
    inner = plain(text)
    parts = []
    for begin, rows in minutes.stretches():  # no window of larger bars crosses a hole
        stretch = Bars(minutes.frame.slice(begin, rows), "1m")
        bars = resample(stretch, interval)
        known = compute(bars, [inner]).rename({inner.name: "value"})
        parts.append(stretch.frame.select("symbol", "time").join_asof(known, on="time", by="symbol"))
    theirs = pl.concat(parts)["value"]
    known = ours[feature.name].is_not_null()
    assert known.sum() > 2000 if interval != "1h" else known.sum() > 800
    assert ours[feature.name].filter(known).to_list() == pytest.approx(theirs.filter(known).to_list(), rel=1e-9)
    # Where ours is null the whole look-back is not there, or the larger bar has no value.
    whole = pl.Series(minutes.age >= feature.lookback)
    assert ours[feature.name].filter(whole).null_count() == theirs.filter(whole).null_count()


def test_where_the_last_minute_of_an_hour_is_missing_the_hour_is_known_with_the_next(minutes: Bars) -> None:
    """A market that is closed for some minutes, as weekday markets are, and opens again."""
    stock = minutes.of_symbol("WHOLE").frame.filter(~pl.col("time").dt.minute().is_in([0, 58, 59]))
    bars = Bars.of(stock, "1m", "weekdays")
    feature = larger("log_return(1)@1h")
    values = compute(bars, [feature]).with_columns(bars.frame["close"], minute=pl.col("time").dt.minute())
    changes = values.filter(pl.col(feature.name) != pl.col(feature.name).shift(1))
    assert changes.height > 50
    assert changes["minute"].unique().to_list() == [1]
