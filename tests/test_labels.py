"""The answers a model learns: by hand, at the edges, and what a person may write to name one."""

import math
from datetime import timedelta

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lab.errors import UnknownName, UsageError
from lab.labels import first_touch, resolve, settle
from lab.nouns import Bars
from tests.conftest import bars_of, rows_of

MINUTE = timedelta(minutes=1)


def market(*bars: tuple[float, float, float, float]) -> Bars:
    """Bars of these opens, highs, lows and closes."""
    frame = rows_of("HAND", [0.0] * len(bars))
    prices = dict(zip(("open", "high", "low", "close"), map(list, zip(*bars, strict=True)), strict=True))
    return bars_of(frame.with_columns(**{name: pl.Series(values) for name, values in prices.items()}))


def touch(highs: list[float], lows: list[float], up: float = 0.02, down: float = 0.02) -> tuple[float, int]:
    """Answer and bars of the bar before an entry at 100, with barriers `up` and `down` of the price away."""
    ahead = len(highs)
    opens, high, low = ([100.0, *values] for values in ([100.0] * ahead, highs, lows))
    answer, bars = first_touch(
        *(np.array(values) for values in (opens, high, low, [1.0] * (ahead + 1))),
        ahead,
        math.log1p(up),
        -math.log1p(-down),
    )
    assert np.isnan(answer[1:]).all()
    return float(answer[0]), int(bars[0])


def test_the_worked_example_of_the_triple_barrier() -> None:
    """Entry 100, barriers 2 % away, three bars: facts/microstructure.md, section 9.1."""
    assert touch([100.9, 101.5, 102.3], [99.2, 98.9, 99.0]) == (1.0, 3)
    assert touch([100.9, 101.5, 102.3], [99.2, 98.9, 97.9]) == (-1.0, 3)
    assert touch([100.9, 101.5, 101.9], [99.2, 98.9, 99.0]) == (0.0, 3)


def test_the_first_barrier_touched_is_the_answer_whatever_comes_later() -> None:
    assert touch([102.1, 100.0, 100.0], [99.0, 90.0, 90.0]) == (1.0, 1)
    assert touch([101.0, 100.0, 110.0], [99.0, 97.9, 99.0]) == (-1.0, 2)


def test_a_barrier_is_touched_by_a_price_at_it() -> None:
    assert touch([102.0000001, 100.0], [99.0, 99.0]) == (1.0, 1)
    assert touch([101.9999999, 100.0], [99.0, 99.0]) == (0.0, 2)
    assert touch([101.0, 100.0], [97.9999999, 99.0]) == (-1.0, 1)
    assert touch([101.0, 100.0], [98.0000001, 99.0]) == (0.0, 2)


def test_barriers_lie_around_the_next_open_and_not_around_the_close() -> None:
    """The market opens 5 % higher after a quiet day: from there it falls, although it stays above the close."""
    quiet = [(100.0, 100.1, 99.9, close) for close in (100.0, 100.05, 99.95, 100.0)]
    bars = market(*quiet, (105.0, 105.0, 102.0, 102.0), (102.0, 102.0, 102.0, 102.0))
    settled = settle(bars, resolve("triple_barrier(1, vol_window=3)"))
    assert settled["answer"].to_list() == [None, None, None, -1.0, 0.0, None]
    assert settled["settled_at"][3] == bars.frame["time"][4]
    assert settle(bars, resolve("direction(1, vol_window=3)"))["answer"].to_list()[3] == -1.0
    assert settle(bars, resolve("forward_return(1)"))["answer"][3] == pytest.approx(math.log(102 / 105), rel=1e-14)


def test_a_return_runs_from_the_next_open_to_the_close_at_the_horizon() -> None:
    bars = market((10, 12, 9, 11), (12, 16, 12, 15), (14, 14, 13, 13), (13, 21, 13, 20))
    one, two = (settle(bars, resolve(f"forward_return({horizon})")) for horizon in (1, 2))
    assert one["answer"].to_list() == pytest.approx([math.log(15 / 12), math.log(13 / 14), math.log(20 / 13), None])
    assert two["answer"].to_list() == pytest.approx([math.log(13 / 12), math.log(20 / 14), None, None])
    times = bars.frame["time"].to_list()
    assert one["settled_at"].to_list() == [*times[1:], None]
    assert two["settled_at"].to_list() == [*times[2:], None, None]


def test_a_direction_inside_its_band_is_zero_and_not_null() -> None:
    """Returns of +30, +10, -10 and -30 basis points against a band of 20."""
    rows = [(100.0, 101.0, 99.0, 100.0 * math.exp(bps / 10_000)) for bps in (5, 2, 1, 30, 10, -10, -30)]
    settled = settle(market(*rows), resolve("direction(1, band_bps=20.0, vol_window=2)"))
    assert settled["answer"].to_list() == [None, None, 1.0, 0.0, 0.0, -1.0, None]


def test_the_wider_of_two_bands_counts() -> None:
    moves = [0.01, -0.01] * 10 + [0.012]
    bars = bars_of(rows_of("SWING", moves))
    answers = {
        text: settle(bars, resolve(text))["answer"][19]
        for text in (
            "direction(1, vol_window=10)",
            "direction(1, band_bps=100.0, vol_window=10)",
            "direction(1, band_bps=150.0, vol_window=10)",
            "direction(1, band_bps=100.0, band_vol=1.5, vol_window=10)",
        )
    }
    assert list(answers.values()) == [1.0, 1.0, 0.0, 0.0]


@given(
    st.lists(st.floats(-0.05, 0.05), min_size=2, max_size=12),
    st.floats(0.001, 0.1),
    st.floats(0.001, 0.1),
)
def test_turning_the_market_upside_down_turns_the_answer_over_unless_one_bar_spans_both(
    middles: list[float], up: float, down: float
) -> None:
    highs, lows = ([100 * math.exp(each + sign * 0.01) for each in middles] for sign in (1, -1))
    answer, bars = touch(highs, lows, up, down)
    if any(high >= 100 * (1 + up) and low <= 100 * (1 - down) for high, low in zip(highs, lows, strict=True)):
        return
    # The mirror of a price around 100 on the logarithmic scale; 1 + up becomes 1 / (1 + up).
    mirrored = touch([1e4 / low for low in lows], [1e4 / high for high in highs], 1 / (1 - down) - 1, 1 - 1 / (1 + up))
    assert mirrored == (-answer, bars)


def test_no_bars_and_one_bar_have_no_answers() -> None:
    bars = bars_of(rows_of("ONE", [0.001]))
    for text in ("forward_return(1)", "direction(1)", "triple_barrier(1)"):
        assert settle(bars, resolve(text)).rows() == [("ONE", bars.frame["time"][0], None, None)]
        nothing = settle(Bars(bars.frame.clear(), "1m"), resolve(text))
        assert nothing.schema == settle(bars, resolve(text)).schema
        assert nothing.rows() == []


def test_a_label_says_what_it_is() -> None:
    label = resolve("triple_barrier(12, up=2.0)")
    assert (label.name, label.kind, label.horizon, label.lookback) == ("triple_barrier_12_2_1.5_60", "class", 12, 61)
    label = resolve("forward_return(30)")
    assert (label.name, label.kind, label.horizon, label.lookback) == ("forward_return_30", "return", 30, 1)
    assert (
        label.meaning == "ln(C[+horizon] / O[+1]): what holding from the next open to that close earns, before costs."
    )
    assert resolve("direction").name == resolve("direction(1)").name == "direction_1_0_0_60"


@pytest.mark.parametrize(
    ("text", "problem", "fix"),
    [
        ("forward_return(0)", "forward_return(0) has a horizon of 0 bars", "give a horizon of 1 or more"),
        ("direction(horizon=0)", "direction(horizon=0) has a horizon of 0 bars", "give a horizon of 1 or more"),
        (
            "triple_barrier(5, vol_window=1)",
            "triple_barrier(5, vol_window=1) has a vol_window of 1",
            "give a vol_window of 2 or more",
        ),
        ("forward_return(-1)", "forward_return: horizon is -1", "give horizon a value of 0 or more"),
        (
            "forward_return(1.5)",
            "forward_return: horizon is 1.5, which is not an int",
            "give horizon as a whole number",
        ),
        (
            "triple_barrier(up='high')",
            "triple_barrier: up is 'high', which is not a float",
            "give up as float",
        ),
        (
            "direction(1, threshold=2)",
            "direction: got an unexpected keyword argument 'threshold'",
            "its parameters are direction(horizon=1, band_bps=0.0, band_vol=0.0, vol_window=60)",
        ),
    ],
)
def test_a_label_that_cannot_be_meant_is_refused_with_the_value(text: str, problem: str, fix: str) -> None:
    with pytest.raises(UsageError) as refusal:
        resolve(text)
    assert (refusal.value.problem, refusal.value.fix) == (problem, fix)


def test_a_misspelt_label_is_answered_with_the_nearest_one() -> None:
    with pytest.raises(UnknownName) as refusal:
        resolve("tripple_barrier(30)")
    assert refusal.value.problem == "there is no label named 'tripple_barrier'"
    assert refusal.value.fix == "did you mean triple_barrier?"
