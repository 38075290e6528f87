"""Money: what was decided becomes fills, fills become equity, and nothing is made or lost on the way."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lab.backtest import Costs, Ledger, fill, hold, replay, vectorbt
from lab.nouns import INTERVALS, Bars, Calendar, Vector
from tests.accountant import account, rebook

START = datetime(2024, 2, 28, 22, tzinfo=UTC)
EXACT = 1e-9
DUST = 1e-12  # of the capital
# What is no gap: the next minute; among days, weekends and the longest time that an exchange was closed.
LONGEST_STEP = {"continuous": timedelta(minutes=1), "weekdays": timedelta(days=7)}


@dataclass(frozen=True)
class Case:
    """A market with what was decided in it, and what a fill costs."""

    bars: Bars
    targets: Vector
    costs: Costs

    @property
    def rows(self) -> list[dict[str, Any]]:
        return self.bars.frame.to_dicts()

    @property
    def money(self) -> Ledger:
        return replay(self.bars, self.targets, self.costs)


def market(
    rng: np.random.Generator, symbols: int, rows: int, swing: float, calendar: Calendar = "continuous"
) -> pl.DataFrame:
    """Random bars of each symbol, with holes in time, bars without volume and volumes that are not known.

    The open leaves the close before it, so that a fill at the wrong one of them shows.
    """
    interval = "1d" if calendar == "weekdays" else "1m"
    parts = []
    for number in range(symbols):
        steps = rng.choice([1, 1, 1, 1, 1, 1, 3, 7, 8, 40], rows) if calendar == "weekdays" else _steps(rng, rows)
        close = 100 * 2.0 ** rng.integers(-9, 9) * np.exp(np.cumsum(rng.normal(0, swing, rows)))
        opened = close * np.exp(rng.normal(0, swing, rows))
        volume = [None if draw < 0.1 else 0.0 if draw < 0.25 else 5.0 for draw in rng.random(rows)]
        wick = np.exp(rng.exponential(swing, rows))
        parts.append(
            pl.DataFrame(
                {
                    "symbol": [f"S{number}"] * rows,
                    "time": [START + INTERVALS[interval] * int(step) for step in np.cumsum(steps)],
                    "open": opened,
                    "high": np.maximum(opened, close) * wick,
                    "low": np.minimum(opened, close) / wick,
                    "close": close,
                    "volume": pl.Series(volume, dtype=pl.Float64),
                }
            )
        )
    return pl.concat(parts)


def _steps(rng: np.random.Generator, rows: int) -> np.ndarray:
    return np.where(rng.random(rows) < 0.1, rng.integers(2, 30, rows), 1)


def wishes(rng: np.random.Generator, rows: int) -> Vector:
    """Targets that stay, resize, turn over and go flat."""
    drawn = rng.choice([-1.0, -0.5, 0.0, 0.0, 0.3, 1.0, np.nan], rows)
    drawn = np.where(np.isnan(drawn), rng.uniform(-1, 1, rows), drawn)
    kept = np.maximum.accumulate(np.where(rng.random(rows) < 0.4, np.arange(rows), 0))
    return drawn[kept]


@st.composite
def cases(draw: st.DrawFn, swings: tuple[float, ...] = (1e-3, 0.02, 0.3)) -> Case:
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    calendar = draw(st.sampled_from(["continuous", "continuous", "weekdays"]))
    frame = market(rng, draw(st.integers(1, 3)), draw(st.integers(2, 30)), draw(st.sampled_from(swings)), calendar)
    bps = st.sampled_from([0.0, 1.0, 7.5, 90.0, 999.0])
    bars = Bars.of(frame, "1d" if calendar == "weekdays" else "1m", calendar)
    return Case(bars, wishes(rng, frame.height), Costs(fee_bps=draw(bps), slippage_bps=draw(bps)))


many = settings(deadline=None, max_examples=300, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
some = settings(many, max_examples=60)


def agree(engine: Any, accountant: Any) -> None:
    ours, theirs = np.asarray(engine, dtype=float), np.asarray([float(value) for value in accountant])
    np.testing.assert_allclose(ours, theirs, rtol=EXACT, atol=EXACT)


@many
@given(cases())
def test_the_engine_keeps_the_same_books_as_the_slow_accountant(case: Case) -> None:
    books = account(
        case.rows, case.targets.tolist(), case.costs.fee_bps, case.costs.slippage_bps, LONGEST_STEP[case.bars.calendar]
    )
    money = case.money
    # Who spent all of their cash and then wants more has what rounding left to spend, and rounds it otherwise.
    fills = money.fills.filter(pl.col("units").abs() * pl.col("price") > DUST)
    expected = [each for each in books.fills if abs(each.units) * each.price > DUST]
    assert fills.select("symbol", "time").rows() == [(each.symbol, each.time) for each in expected]
    for column in ("units", "price", "fee"):
        agree(fills[column], [getattr(each, column) for each in expected])
    assert money.sleeves.select("symbol", "time").rows() == [(each.symbol, each.time) for each in books.marks]
    for column in ("cash", "units", "equity"):
        agree(money.sleeves[column], [getattr(each, column) for each in books.marks])
    assert money.equity["time"].to_list() == [time for time, _ in books.equity]
    agree(money.equity["equity"], [worth for _, worth in books.equity])


def test_the_random_markets_hold_everything_that_the_accountant_must_get_right() -> None:
    """What the law above would pass over in silence: markets in which nothing is filled, lapses, is cut or lost."""
    seen = dict.fromkeys(("fills", "sales", "cut", "lapsed in a gap", "lapsed without volume", "ruin"), 0)
    for seed in range(60):
        rng = np.random.default_rng(seed)
        bars = Bars.of(market(rng, 2, 30, 0.3), "1m")
        targets = wishes(rng, bars.frame.height)
        money = replay(bars, targets, Costs(fee_bps=7.5, slippage_bps=1.0))
        previous = np.roll(targets, 1)
        changed = previous != np.roll(targets, 2)
        follows = (bars.segment.diff() == 0).fill_null(False).to_numpy()
        dry = (bars.frame["volume"] == 0).fill_null(False).to_numpy()
        seen["fills"] += money.fills.height
        seen["sales"] += int((money.fills["units"] < 0).sum())
        seen["cut"] += int(((money.sleeves["cash"].abs() < 1e-12) & (money.sleeves["units"] > 0)).sum())
        seen["lapsed in a gap"] += int((changed & ~follows).sum())
        seen["lapsed without volume"] += int((changed & follows & dry).sum())
        seen["ruin"] += int((money.sleeves["equity"] <= 0).any())
    assert {what: count for what, count in seen.items() if count < 10} == {}


def test_vectorbt_accounts_for_the_same_fills_with_the_same_money() -> None:
    # Long and resized, short and turned over; vectorbt buys no more than its cash pays for, so nobody is ruined here.
    for seed, calendar in ((1, "continuous"), (2, "continuous"), (3, "weekdays")):
        rng = np.random.default_rng(seed)
        bars = Bars.of(market(rng, 3, 150, 0.01, calendar), "1d" if calendar == "weekdays" else "1m", calendar)
        costs = Costs(fee_bps=5.0, slippage_bps=2.0)
        money = replay(bars, wishes(rng, bars.frame.height), costs)
        assert money.fills.height > 60
        assert money.sleeves["equity"].min() > 0
        theirs = vectorbt.equity(bars, money.fills, costs)
        assert theirs["time"].equals(money.equity["time"])
        agree(money.equity["equity"], theirs["equity"])
    orders = vectorbt.portfolio(bars, money.fills, costs).orders
    settled = [
        own for own in money.sleeves.partition_by("symbol") for gap in absences(own) if own["units"][gap - 1] != 0
    ]
    assert len(orders) == money.fills.height + len(settled)
    assert float(orders.fees.to_pd().sum().sum()) == pytest.approx(money.fills["fee"].sum(), rel=EXACT)


@some
@given(cases())
def test_who_decides_to_hold_nothing_keeps_exactly_what_they_had(case: Case) -> None:
    money = replay(case.bars, np.zeros(case.bars.frame.height), case.costs)
    capital = 1.0 / len(case.bars.symbols)
    assert money.fills.is_empty()
    assert set(money.sleeves["equity"]) == set(money.sleeves["cash"]) == {capital}
    assert set(money.equity["equity"]) == {sum([capital] * len(case.bars.symbols))}


@some
@given(cases())
def test_cash_and_position_are_the_equity_at_every_close(case: Case) -> None:
    sleeves = case.money.sleeves
    worth = sleeves["cash"].to_numpy() + sleeves["units"].to_numpy() * case.bars.frame["close"].to_numpy()
    assert np.array_equal(sleeves["equity"].to_numpy(), worth)


@some
@given(cases())
def test_cash_and_units_change_by_the_fills_and_by_nothing_else(case: Case) -> None:
    money = case.money
    capital = 1.0 / len(case.bars.symbols)
    joined = money.sleeves.join(money.fills, on=["symbol", "time"], how="left", suffix="_traded").fill_null(0.0)
    assert joined.height == case.bars.frame.height
    for own in joined.partition_by("symbol"):
        traded, cash, units = (own[name].to_numpy().copy() for name in ("units_traded", "cash", "units"))
        paid = traded * own["price"].to_numpy() + own["fee"].to_numpy()
        for gap in absences(own):  # where nothing was traded, but what was held came back as cash
            worth = float(own["equity"][gap - 1])
            assert (own["units"][gap], own["cash"][gap]) == (0.0, pytest.approx(worth, rel=1e-12, abs=1e-15))
            traded[gap], paid[gap] = -units[gap - 1], cash[gap - 1] - cash[gap]
        scale = np.maximum.accumulate(np.abs(cash) + np.abs(paid)) + 1
        assert np.all(np.abs(np.diff(cash, prepend=capital) + paid) <= 1e-12 * scale)
        scale = np.maximum.accumulate(np.abs(units) + np.abs(traded)) + 1
        assert np.all(np.abs(np.diff(units, prepend=0.0) - traded) <= 1e-12 * scale)


def absences(own: pl.DataFrame) -> list[int]:
    """The rows of one symbol that come after more than a week without any."""
    return own.with_row_index().filter(pl.col("time").diff() > timedelta(days=7))["index"].to_list()


@some
@given(cases())
def test_a_fill_costs_the_slippage_against_the_open_and_the_fee_on_its_value(case: Case) -> None:
    fills = case.money.fills.join(case.bars.frame, on=["symbol", "time"], maintain_order="left")
    assert fills.height == case.money.fills.height
    side = np.sign(fills["units"].to_numpy())
    price = fills["open"].to_numpy() * (1 + side * case.costs.slippage_bps / 10_000)
    np.testing.assert_allclose(fills["price"].to_numpy(), price, rtol=1e-14)
    value = np.abs(fills["units"].to_numpy()) * price
    np.testing.assert_allclose(fills["fee"].to_numpy(), value * case.costs.fee_bps / 10_000, rtol=1e-13)


@some
@given(cases())
def test_the_same_trades_at_higher_costs_never_leave_more(case: Case) -> None:
    """With the units held still; an engine that sizes by its worth buys less when it costs more, and may gain by it."""
    fills = case.money.fills
    units = {(symbol, time): size for symbol, time, size in fills.select("symbol", "time", "units").rows()}
    assert len(units) == fills.height
    fee, slippage = case.costs.fee_bps, case.costs.slippage_bps
    booked = rebook(case.rows, units, fee, slippage)
    agree(case.money.sleeves["equity"], [booked[key] for key in case.money.sleeves.select("symbol", "time").rows()])
    for dearer in (rebook(case.rows, units, fee + 3, slippage), rebook(case.rows, units, fee, slippage + 3)):
        assert dearer.keys() == booked.keys()
        assert all(dearer[key] <= booked[key] for key in booked)


@some
@given(
    st.floats(-1, 1), st.floats(0, 2), st.floats(-0.02, 0.02), st.floats(1, 200), st.floats(0, 0.09), st.floats(0, 0.09)
)
def test_right_after_one_fill_higher_costs_never_leave_more(
    target: float, cash: float, units: float, price: float, fee: float, slippage: float
) -> None:
    """One fill from the same state, valued at the open it was filled at, is a theorem even though its size adapts."""

    def left(fee: float, slippage: float) -> float:
        cash_after, units_after, *_ = fill(cash, units, target, price, fee, slippage)
        return cash_after + units_after * price

    assert left(fee + 0.001, slippage) <= left(fee, slippage) + 1e-12
    assert left(fee, slippage + 0.001) <= left(fee, slippage) + 1e-12
    assert left(fee, slippage) <= cash + units * price + 1e-12


@some
@given(cases(swings=(1e-3, 0.02)))
def test_buying_and_holding_earns_what_the_assets_did_less_one_entry_a_listing(case: Case) -> None:
    line = hold(case.bars, case.costs)
    share, expected = 1.0 / len(case.bars.symbols), 0.0
    for own in case.bars.frame.with_columns(segment=case.bars.segment).partition_by("symbol"):
        worth, cuts = share, [0, *absences(own), own.height]
        for first, after in pairwise(cuts):
            rows = own[first:after].to_dicts()
            follows = ((before, row) for before, row in pairwise(rows) if row["segment"] == before["segment"])
            if chances := [row for _, row in follows if row["volume"] != 0]:
                entry = chances[0]["open"] * (1 + case.costs.slippage_bps / 1e4) * (1 + case.costs.fee_bps / 1e4)
                worth *= rows[-1]["close"] / entry
        expected += worth
    assert line["equity"][-1] == pytest.approx(expected, rel=EXACT)


@some
@given(cases(), st.integers(-20, 20))
def test_prices_in_another_unit_change_nothing_but_the_number_of_units(case: Case, doublings: int) -> None:
    scale = 2.0**doublings
    prices = [pl.col(name) * scale for name in ("open", "high", "low", "close")]
    rescaled = Bars.of(case.bars.frame.with_columns(prices), case.bars.interval, case.bars.calendar)
    before, after = case.money, replay(rescaled, case.targets, case.costs)
    assert after.equity.equals(before.equity)
    assert after.sleeves.with_columns(pl.col("units") * scale).equals(before.sleeves)
    assert after.fills.with_columns(pl.col("units") * scale, pl.col("price") / scale).equals(before.fills)


@some
@given(cases())
def test_other_names_in_another_order_change_no_sleeve(case: Case) -> None:
    named = case.bars.frame.with_columns(target=pl.Series(case.targets))
    renamed = named.with_columns(pl.col("symbol").replace({"S0": "Z", "S1": "M", "S2": "A"})).sort("symbol", "time")
    other = Bars.of(renamed.drop("target"), case.bars.interval, case.bars.calendar)
    before, after = case.money, replay(other, renamed["target"].to_numpy(), case.costs)
    back = pl.col("symbol").replace({"Z": "S0", "M": "S1", "A": "S2"})
    assert after.sleeves.with_columns(back).sort("symbol", "time").equals(before.sleeves)
    assert after.fills.with_columns(back).sort("symbol", "time").equals(before.fills)
    assert after.equity["time"].equals(before.equity["time"])
    agree(after.equity["equity"], before.equity["equity"])


@some
@given(cases())
def test_nothing_is_filled_after_a_gap_without_volume_or_in_the_bar_that_decided(case: Case) -> None:
    frame = case.bars.frame
    step = LONGEST_STEP[case.bars.calendar]
    money = case.money
    filled = set(money.fills.select("symbol", "time").rows())
    rows, held = frame.to_dicts(), money.sleeves["units"].to_list()
    for before, row, decided, units in zip([None, *rows[:-1]], rows, [0.0, *case.targets[:-1]], held, strict=True):
        if (row["symbol"], row["time"]) not in filled:
            continue
        assert before is not None and before["symbol"] == row["symbol"]
        assert row["time"] - before["time"] <= step
        assert row["volume"] != 0
        assert decided * units >= 0  # the bar before it decided the side; what this bar decides comes later
    last = frame["symbol"].rle().struct.field("len").cum_sum().to_numpy() - 1
    other = case.targets.copy()
    other[last] = np.where(other[last] == 0, 0.7, -other[last])  # what the last bar of a symbol decides is never filled
    assert replay(case.bars, other, case.costs).fills.equals(money.fills)


@some
@given(cases(swings=(0.3, 1.0)))
def test_a_sleeve_that_lost_everything_is_closed_and_never_comes_back(case: Case) -> None:
    money = case.money
    fillable = (case.bars.segment.diff() == 0).fill_null(False) & (case.bars.frame["volume"].fill_null(1.0) > 0)
    for own in money.sleeves.with_columns(fillable=fillable).partition_by("symbol"):
        broke = own.with_row_index().filter(pl.col("equity") <= 0)["index"].to_list()
        chances = [row for row in own.with_row_index().filter("fillable")["index"] if broke and row > broke[0]]
        if not chances:
            continue
        after = own[chances[0] :]
        assert after["units"].unique().to_list() == [0.0]
        assert after["equity"].unique().to_list() == [after["cash"][0]]


def test_a_short_that_lost_everything_does_not_rise_again_with_the_price_falling() -> None:
    prices = [100.0, 100.0, 150.0, 250.0, 260.0, 120.0, 50.0, 50.0]
    frame = pl.DataFrame(
        {
            "symbol": ["A"] * 8,
            "time": [START + timedelta(minutes=n) for n in range(8)],
            "open": [100.0, *prices[:-1]],
            "high": [260.0] * 8,
            "low": [50.0] * 8,
            "close": prices,
            "volume": [1.0] * 8,
        }
    )
    money = replay(Bars.of(frame, "1m"), np.full(8, -1.0), Costs(fee_bps=0.0, slippage_bps=0.0))
    assert money.fills.select("units", "price").rows() == [(-0.01, 100.0), (0.01, 250.0)]
    assert money.equity["equity"].to_list() == pytest.approx([1.0, 1.0, 0.5, -0.5, -0.5, -0.5, -0.5, -0.5])
