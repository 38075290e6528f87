"""What every registered label must obey: it waits for its answer, says when it had it, and never looks past it."""

import math
from collections import Counter
from dataclasses import dataclass
from datetime import datetime
from statistics import stdev
from typing import Any

import polars as pl
import pytest

from lab.labels import LABELS, resolve, settle
from lab.nouns import Bars, Label
from tests.conftest import bars_of, rows_of, two_state_moves

REGISTERED = frozenset(LABELS)

TEXTS = [
    "forward_return(1)",
    "forward_return(7)",
    "direction(1)",
    "direction(6, band_bps=8.0, vol_window=10)",
    "direction(4, band_vol=0.5, vol_window=12)",
    "triple_barrier(1, vol_window=5)",
    "triple_barrier(8, vol_window=10)",
    "triple_barrier(12, up=0.7, down=2.0, vol_window=20)",
]
Answer = tuple[float | None, datetime | None]


@dataclass(frozen=True)
class Bar:
    """One bar as the slow loops read it."""

    time: datetime
    open: float
    high: float
    low: float
    close: float


def stretches_of(bars: Bars) -> list[list[Bar]]:
    """The bars of every unbroken stretch, found by walking over the times."""
    found: list[list[Bar]] = []
    last: tuple[str, datetime] | None = None
    for row in bars.frame.iter_rows(named=True):
        if last is None or row["symbol"] != last[0] or row["time"] - last[1] > bars.largest_step:
            found.append([])
        last = (row["symbol"], row["time"])
        found[-1].append(Bar(*(row[name] for name in ("time", "open", "high", "low", "close"))))
    return found


def volatility(stretch: list[Bar], t: int, window: int, horizon: int) -> float | None:
    """Deviation of the last `window` returns up to bar t, times the root of the horizon; none before they exist."""
    if t < window:
        return None
    returns = [math.log(stretch[k].close / stretch[k - 1].close) for k in range(t - window + 1, t + 1)]
    return stdev(returns) * math.sqrt(horizon)


def slow_forward_return(stretch: list[Bar], t: int, horizon: int = 1) -> Answer:
    if t + horizon >= len(stretch):
        return None, None
    return math.log(stretch[t + horizon].close / stretch[t + 1].open), stretch[t + horizon].time


def slow_direction(
    stretch: list[Bar], t: int, horizon: int = 1, band_bps: float = 0.0, band_vol: float = 0.0, vol_window: int = 60
) -> Answer:
    earned, settled_at = slow_forward_return(stretch, t, horizon)
    deviation = volatility(stretch, t, vol_window, horizon)
    if earned is None or deviation is None:
        return None, None
    band = max(band_bps / 10_000, band_vol * deviation)
    return (1.0 if earned > band else -1.0 if earned < -band else 0.0), settled_at


def slow_triple_barrier(
    stretch: list[Bar], t: int, horizon: int = 30, up: float = 1.5, down: float = 1.5, vol_window: int = 60
) -> Answer:
    """López de Prado (2018), chapter 3: entry at the next open, the worst case where one bar spans both barriers."""
    deviation = volatility(stretch, t, vol_window, horizon)
    if t + horizon >= len(stretch) or not deviation:
        return None, None
    entry = stretch[t + 1].open
    for bar in stretch[t + 1 : t + 1 + horizon]:
        if math.log(bar.low / entry) <= -down * deviation:
            return -1.0, bar.time
        if math.log(bar.high / entry) >= up * deviation:
            return 1.0, bar.time
    return 0.0, stretch[t + horizon].time


SLOW: dict[str, Any] = {
    "forward_return": slow_forward_return,
    "direction": slow_direction,
    "triple_barrier": slow_triple_barrier,
}


def slowly(bars: Bars, text: str) -> list[Answer]:
    """The answers of the slow loop for every row."""
    name, _, settings = text.partition("(")
    horizon, *rest = settings.rstrip(")").split(", ")
    named = {key: float(value) for key, value in (each.split("=") for each in rest)}
    if "vol_window" in named:
        named["vol_window"] = int(named["vol_window"])
    return [
        SLOW[name](stretch, t, int(horizon), **named) for stretch in stretches_of(bars) for t in range(len(stretch))
    ]


def answers(bars: Bars, label: Label) -> list[Answer]:
    return settle(bars, label).select("answer", "settled_at").rows()


def test_every_registered_label_stands_before_the_laws() -> None:
    assert {text.partition("(")[0] for text in TEXTS} == REGISTERED
    assert set(SLOW) == REGISTERED


@pytest.mark.parametrize("text", TEXTS)
def test_a_label_equals_a_slow_loop_on_every_row_of_a_hostile_market(text: str, hostile: Bars) -> None:
    settled = settle(hostile, resolve(text))
    assert settled.columns == ["symbol", "time", "answer", "settled_at"]
    assert settled.select("symbol", "time").equals(hostile.frame.select("symbol", "time"))
    expected = slowly(hostile, text)
    assert settled["settled_at"].to_list() == [settled_at for _, settled_at in expected]
    assert settled["answer"].to_list() == [
        answer if answer is None else pytest.approx(answer, rel=1e-12, abs=1e-15) for answer, _ in expected
    ]
    assert sum(answer is not None for answer, _ in expected) > 110


@pytest.mark.parametrize("text", TEXTS)
def test_any_answer_can_be_found_from_the_bars_it_may_see_alone(text: str, hostile: Bars) -> None:
    """From `lookback` - 1 bars back to `horizon` bars ahead; every row."""
    label = resolve(text)
    whole = answers(hostile, label)
    stretches = hostile.stretches()
    assert len(stretches) == 9
    alone = []
    for start, length in stretches:
        for row in range(start, start + length):
            first, last = max(row - label.lookback + 1, start), min(row + label.horizon, start + length - 1)
            seen = Bars(hostile.frame.slice(first, last + 1 - first), "1m")
            alone.append(answers(seen, label)[row - first])
    assert alone == whole


@pytest.mark.parametrize("text", TEXTS)
def test_an_answer_is_settled_after_its_bar_and_no_later_than_its_horizon(text: str, ordinary: Bars) -> None:
    label = resolve(text)
    times = ordinary.frame["time"].to_list()
    settled = answers(ordinary, label)
    known = range(label.lookback - 1, len(times) - label.horizon)
    assert [row for row, (answer, _) in enumerate(settled) if answer is not None] == list(known)
    assert [row for row, (_, settled_at) in enumerate(settled) if settled_at is not None] == list(known)
    assert [row for row in known if not times[row] < settled[row][1] <= times[row + label.horizon]] == []
    if label.kind == "class":
        assert {answer for answer, _ in settled if answer is not None} == {-1.0, 0.0, 1.0} - (
            {0.0} if text == "direction(1)" else set()
        )


@pytest.mark.parametrize("text", TEXTS)
def test_no_answer_reaches_across_a_gap_or_into_another_symbol(text: str, ordinary: Bars) -> None:
    """A gap after bar 99: the last `horizon` answers before it become null, and those after it start anew."""
    label = resolve(text)
    frame = ordinary.frame.head(200)
    halves = frame.head(100), frame.slice(100)
    halted = [halves[0], halves[1].with_columns(pl.col("time") + pl.duration(minutes=30))]
    apart = [answers(Bars(half, "1m"), label) for half in halted]
    assert [answer for answer, _ in apart[0][-label.horizon :]] == [None] * label.horizon
    assert [answer for answer, _ in apart[1][: label.lookback - 1]] == [None] * (label.lookback - 1)
    assert answers(bars_of(*halted), label) == apart[0] + apart[1]
    other = [halves[0], halves[1].with_columns(symbol=pl.lit("ZZZ"))]
    assert answers(bars_of(*other), label) == apart[0] + answers(Bars(other[1], "1m"), label)


@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize("how", ["changed", "absent"])
def test_no_bar_after_the_horizon_changes_an_answer(text: str, how: str) -> None:
    """For every t of a small market, from exactly t + horizon + 1."""
    label = resolve(text)
    bars = bars_of(rows_of("SMALL", two_state_moves(60, 0.2, (1e-3, 6e-3), seed=3)))
    honest = answers(bars, label)
    changed = []
    for row in range(60 - label.horizon):
        past, future = bars.frame.head(row + label.horizon + 1), bars.frame.slice(row + label.horizon + 1)
        future = future.clear() if how == "absent" else future.with_columns(pl.col(pl.Float64) * 1e6)
        if answers(bars_of(past, future), label)[: row + 1] != honest[: row + 1]:
            changed.append(row)
    assert changed == []


@pytest.mark.parametrize("text", TEXTS)
def test_a_label_has_no_unit_of_price(text: str, hostile: Bars) -> None:
    label = resolve(text)
    doubled = hostile.frame.with_columns(pl.col("open", "high", "low", "close") * 2.0**11)
    assert answers(Bars(doubled, "1m"), label) == answers(hostile, label)


def test_a_market_without_volatility_has_no_barriers() -> None:
    """Barriers of no width would be touched at once, and every bar of a halted market would count as a fall."""
    quiet = two_state_moves(80, 0.2, (1e-3, 2e-3), seed=1)
    quiet[20:60] = 0.0
    bars = bars_of(rows_of("HALTED", quiet))
    found = [answer for answer, _ in answers(bars, resolve("triple_barrier(4, vol_window=10)"))]
    assert found[29:60] == [None] * 31
    assert Counter(answer is None for answer in found[10:29] + found[61:76]) == {False: 34}
