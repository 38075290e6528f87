"""Backtest: small markets worked by hand, and a published backtest of a moving-average cross."""

import json
from datetime import UTC, datetime, timedelta
from math import floor
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from pydantic import ValidationError

from lab.backtest import Costs, Ledger, replay
from lab.nouns import Bars, Vector

START = datetime(2024, 1, 1, tzinfo=UTC)
MARKET = Path(__file__).parents[1].parent / "shared" / "market" / "reference"
FREE = Costs(fee_bps=0.0, slippage_bps=0.0)


def bars(
    opens: list[float], closes: list[float], minutes: list[int] | None = None, volumes: list[float] | None = None
) -> Bars:
    count = len(opens)
    frame = pl.DataFrame(
        {
            "symbol": ["A"] * count,
            "time": [START + timedelta(minutes=n) for n in (minutes or range(count))],
            "open": opens,
            "high": [max(pair) for pair in zip(opens, closes, strict=True)],
            "low": [min(pair) for pair in zip(opens, closes, strict=True)],
            "close": closes,
            "volume": volumes or [1.0] * count,
        },
    )
    return Bars.of(frame, "1m")


def traded(market: Bars, targets: list[float], costs: Costs = FREE) -> Ledger:
    return replay(market, np.array(targets), costs)


def filled_at(money: Ledger) -> list[int]:
    return [(time - START) // timedelta(minutes=1) for time in money.fills["time"]]


def test_a_decision_is_filled_at_the_open_of_the_next_bar() -> None:
    money = traded(bars([10, 20, 40, 50], [20, 40, 50, 100]), [1, 1, 0, 0])
    assert filled_at(money) == [1, 3]
    assert money.fills["price"].to_list() == [20.0, 50.0]
    assert money.fills["units"].to_list() == [0.05, -0.05]
    assert money.equity["equity"].to_list() == [1.0, 2.0, 2.5, 2.5]


def test_a_fill_pays_the_fee_and_the_slippage() -> None:
    money = traded(bars([100] * 3, [100] * 3), [0.5, 0, 0], Costs(fee_bps=100.0, slippage_bps=200.0))
    bought, sold = money.fills.to_dicts()
    assert (bought["units"], bought["price"]) == pytest.approx((0.005, 102.0))
    assert bought["fee"] == pytest.approx(0.005 * 102 * 0.01)
    assert (sold["units"], sold["price"]) == pytest.approx((-0.005, 98.0))
    assert money.equity["equity"][-1] == pytest.approx(1 - 0.005 * (102 - 98) - 0.005 * (102 + 98) * 0.01)


def test_a_purchase_with_everything_leaves_no_debt() -> None:
    money = traded(bars([100] * 2, [100] * 2), [1, 1], Costs(fee_bps=100.0, slippage_bps=200.0))
    assert money.fills["units"].to_list() == pytest.approx([1 / (102 * 1.01)])
    assert money.sleeves["cash"][-1] == pytest.approx(0, abs=1e-15)


def test_an_order_into_a_gap_lapses_and_is_given_again_while_it_is_still_wanted() -> None:
    market = bars([10] * 5, [10] * 5, minutes=[0, 1, 30, 31, 32])
    assert filled_at(traded(market, [0, 1, 1, 1, 1])) == [31]
    assert filled_at(traded(market, [0, 1, 0, 0, 0])) == []


def test_an_order_into_a_bar_without_volume_lapses() -> None:
    market = bars([10] * 4, [10] * 4, volumes=[1, 0, 0, 1])
    assert filled_at(traded(market, [1, 1, 1, 1])) == [3]
    assert filled_at(traded(market, [1, 0, 0, 0])) == []


def test_what_the_first_bar_after_a_start_brings_was_decided_by_nobody() -> None:
    assert filled_at(traded(bars([10], [20]), [1])) == []


def test_an_unchanged_target_is_not_traded_again_when_the_price_moves() -> None:
    money = traded(bars([10, 10, 20, 40], [10, 20, 40, 80]), [0.5, 0.5, 0.5, 0.5])
    assert filled_at(money) == [1]
    assert money.equity["equity"].to_list() == [1.0, 1.5, 2.5, 4.5]


def test_a_short_earns_what_the_price_loses() -> None:
    money = traded(bars([100, 100, 50], [100, 50, 25]), [-1, -1, -1])
    assert money.fills["units"].to_list() == [-0.01]
    assert money.equity["equity"].to_list() == [1.0, 1.5, 1.75]


def test_a_symbol_without_a_bar_keeps_its_last_value_in_the_total() -> None:
    a, b = bars([10, 10, 20], [10, 20, 30]), bars([5, 5], [5, 10], minutes=[1, 3])
    both = Bars.of(pl.concat([a.frame, b.frame.with_columns(symbol=pl.lit("B"))]), "1m")
    money = traded(both, [1, 1, 1, 1, 1])
    assert money.fills.select("symbol", "units").rows() == [("A", 0.05)]
    assert money.equity["equity"].to_list() == [1.0, 1.5, 2.0, 2.0]


@pytest.mark.parametrize("bps", [-1.0, 1_000.0, float("nan"), float("inf"), "many"])
def test_costs_that_cannot_be_meant_are_refused(bps: float) -> None:
    with pytest.raises(ValidationError):
        Costs(fee_bps=bps, slippage_bps=0.0)
    with pytest.raises(ValidationError):
        Costs(fee_bps=0.0, slippage_bps=bps)


published = pytest.mark.skipif(not MARKET.is_dir(), reason=f"the published values are not here: {MARKET}")


def google() -> Bars:
    """GOOG, daily, 2004-2013, as backtesting.py ships it."""
    frame = pl.read_csv(MARKET / "backtesting_py" / "GOOG.csv")
    day = pl.col(frame.columns[0]).str.to_datetime("%Y-%m-%d", time_unit="us", time_zone="UTC")
    prices = {name.lower(): pl.col(name).cast(pl.Float64) for name in ("Open", "High", "Low", "Close", "Volume")}
    # A day off among weekdays is no gap; here no day is, since the published engine knows none.
    return Bars.of(frame.select(symbol=pl.lit("GOOG"), time=day, **prices), "1d", "weekdays")


def crosses(close: Vector) -> Vector:
    """The side after each close: long from a cross of the 10- over the 30-day mean, short from one under it."""
    fast, slow = (np.convolve(close, np.ones(n) / n)[: len(close)] for n in (10, 30))
    side = np.zeros(len(close))
    for day in range(30, len(close)):
        up, was_up = fast[day] > slow[day], fast[day - 1] > slow[day - 1]
        side[day] = side[day - 1] if up == was_up else 1.0 if up else -1.0
    return side


def expected_of_google() -> dict[str, float]:
    values = json.loads((MARKET / "reference_values.json").read_text())["values"]
    (found,) = [each["params"] for each in values if each["id"] == "goog_sma_cross_backtest"]
    return found


@published
def test_the_published_sma_cross_trades_on_the_same_days_for_the_same_money() -> None:
    expected, market = expected_of_google(), google()
    assert market.frame.height == 2148
    money = replay(market, crosses(market.frame["close"].to_numpy()), FREE)
    assert money.fills.height == expected["# Trades"] == 66  # each turns the position over; the last stays open
    days = market.frame["time"].to_list()
    held = len(days) - days.index(money.fills["time"][0])
    assert held / len(days) * 100 == pytest.approx(expected["Exposure Time [%]"], rel=1e-12)

    # Whole shares bought with whole equity, at the very days and prices of our fills.
    fills = money.fills.join(market.frame, on=["symbol", "time"], maintain_order="left").to_dicts()
    assert [fill["price"] for fill in fills] == [fill["open"] for fill in fills]
    cash, shares, entries, profits = 10_000.0, 0, [], []
    for fill in fills:
        if shares:
            profits.append(shares * (fill["price"] - entries[-1]))
        cash, shares = cash + shares * fill["price"], 0
        shares = floor(cash / fill["price"]) * (1 if fill["units"] > 0 else -1)
        cash -= shares * fill["price"]
        entries.append(fill["price"])
    last = market.frame["open"][-1]  # the published engine closes what is open there
    profits.append(shares * (last - entries[-1]))
    assert cash + shares * last == pytest.approx(expected["Equity Final [$]"], rel=1e-8)
    assert sum(profit > 0 for profit in profits) / len(profits) * 100 == pytest.approx(expected["Win Rate [%]"])

    # Ours may hold parts of a share; the money differs by what whole shares leave idle, and no more.
    ours = money.sleeves["cash"][-1] + money.sleeves["units"][-1] * last
    assert ours == pytest.approx(expected["Equity Final [$]"] / 10_000, rel=0.02)
