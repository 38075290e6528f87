"""Decisions + bars → fills → equity.

Every symbol trades its own equal share of the capital. A decision made at the close of a bar is filled at the open
of the next one, if that bar follows without a gap and something traded in it; otherwise the order lapses, and
what is decided next stands. A fill pays slippage on the price and a fee on the value. A sleeve that is worth nothing
at a close is closed at its next chance and trades no more; what it then has, or owes, stays. A position in a symbol
that has no bar for over a week is settled at its last close, free of cost: it may be another coin that returns.
"""

from dataclasses import dataclass
from datetime import timedelta

import numpy as np
import numpy.typing as npt
import polars as pl
from pydantic.dataclasses import dataclass as settings

from lab.compiled import compiled
from lab.nouns import SETTINGS, Bars, BasisPoints, Vector

BASIS_POINT = 1e-4
LISTING_ENDS = timedelta(days=7)  # so long without a bar
FILLS = ("symbol", "time", "units", "price", "fee")


@settings(frozen=True, config=SETTINGS)
class Costs:
    """What one fill costs, in basis points of its value: the venue's fee, and slippage against the open."""

    fee_bps: BasisPoints
    slippage_bps: BasisPoints

    @property
    def total_bps(self) -> float:
        return self.fee_bps + self.slippage_bps


@dataclass(frozen=True)
class Ledger:
    """What a replay did to the money, which began at 1.

    fills: symbol, time (close of the bar filled in), units (signed), price (slippage included), fee.
    equity: time, equity at every close of any symbol. sleeves: the same per symbol, with cash and units.
    """

    fills: pl.DataFrame
    equity: pl.DataFrame
    sleeves: pl.DataFrame


def replay(bars: Bars, targets: Vector, costs: Costs) -> Ledger:
    """Trade `targets` (one a row of `bars`, decided at its close) from a capital of 1.

    Positions still open at the end are valued at the last close.
    """
    symbols = bars.symbols
    capital = 1.0 / max(len(symbols), 1)
    parts = []
    for symbol in symbols:
        own = (bars.frame["symbol"] == symbol).to_numpy()
        parts.append(_sleeve(bars.frame.filter(own), bars.segment.filter(own), targets[own], costs, capital))
    sleeves = pl.concat(parts)
    fills = sleeves.filter(pl.col("traded") != 0).select(
        "symbol", "time", pl.col("traded").alias("units"), "price", "fee"
    )
    kept = sleeves.select("symbol", "time", "cash", "units", "equity")
    return Ledger(fills, _total(kept, symbols, capital), kept)


def hold(bars: Bars, costs: Costs) -> pl.DataFrame:
    """time, equity of buying every symbol at its first chance and keeping it, at the same costs."""
    return replay(bars, np.ones(bars.frame.height), costs).equity


def _sleeve(frame: pl.DataFrame, segment: pl.Series, targets: Vector, costs: Costs, capital: float) -> pl.DataFrame:
    traded_at_all = (frame["volume"].is_null() | (frame["volume"] > 0)).to_numpy()
    follows = (segment.diff() == 0).fill_null(False).to_numpy()
    columns = trade(
        frame["open"].to_numpy(),
        frame["close"].to_numpy(),
        follows & traded_at_all,
        relisted(frame).to_numpy(),
        targets,
        capital,
        costs.fee_bps * BASIS_POINT,
        costs.slippage_bps * BASIS_POINT,
    )
    names = ("cash", "units", "equity", "traded", "price", "fee")
    return frame.select("symbol", "time").hstack([pl.Series(n, c) for n, c in zip(names, columns, strict=True)])


def relisted(frame: pl.DataFrame) -> pl.Series:
    """Whether a symbol's bar is its first after over a week without any."""
    after = pl.col("time").diff().over("symbol") > LISTING_ENDS
    return frame.select(after.fill_null(False).alias("relisted")).to_series()


@compiled
def fill(
    cash: float, units: float, target: float, price: float, fee: float, slippage: float
) -> tuple[float, float, float, float, float]:
    """Cash, units, units traded, price paid and fee after moving to `target` of the sleeve's worth at `price`.

    A purchase is cut to what the cash pays for, costs included, but a short is always covered, on credit if need be.
    A sleeve that lost everything is closed.
    """
    worth = cash + units * price
    change = (target * worth / price if worth > 0.0 else 0.0) - units
    paid = price * (1.0 + slippage) if change > 0.0 else price * (1.0 - slippage)
    if change > 0.0:
        change = min(change, max(cash / (paid * (1.0 + fee)), -units, 0.0))
    cost = abs(change) * paid * fee
    return cash - change * paid - cost, units + change, change, paid, cost


@compiled
def trade(
    opens: Vector,
    closes: Vector,
    fillable: npt.NDArray[np.bool_],
    returns: npt.NDArray[np.bool_],
    targets: Vector,
    capital: float,
    fee: float,
    slippage: float,
) -> tuple[Vector, Vector, Vector, Vector, Vector, Vector]:
    """Cash, units, equity, units traded, price and fee of one symbol after each bar.

    An order goes out when the target differs from the one last filled; from a close without worth on, it is 0. At a
    bar where the symbol `returns`, what was held is settled at the close before, which is no fill.
    """
    n = opens.size
    cash_at = np.empty(n)
    units_at = np.empty(n)
    equity = np.empty(n)
    traded = np.zeros(n)
    price = np.zeros(n)
    paid = np.zeros(n)
    cash = capital
    units = 0.0
    standing = 0.0
    ruined = False
    for t in range(n):
        if returns[t]:
            cash, units, standing = cash + units * closes[t - 1], 0.0, 0.0
        if t > 0 and fillable[t]:
            target = 0.0 if ruined else targets[t - 1]
            if target != standing:
                cash, units, traded[t], price[t], paid[t] = fill(cash, units, target, opens[t], fee, slippage)
                standing = target
        cash_at[t] = cash
        units_at[t] = units
        equity[t] = cash + units * closes[t]
        ruined = ruined or equity[t] <= 0.0
    return cash_at, units_at, equity, traded, price, paid


def _total(sleeves: pl.DataFrame, symbols: list[str], capital: float) -> pl.DataFrame:
    """Sum of the sleeves at every close; one without a bar there keeps its last value, or its capital."""
    times = sleeves.select(pl.col("time").unique().sort())
    total = np.zeros(times.height)
    for symbol in symbols:  # summed in one order: a grouped float sum is not the same bits twice
        own = sleeves.filter(pl.col("symbol") == symbol).select("time", "equity")
        aligned = times.join_asof(own, on="time")["equity"].fill_null(capital)
        total += aligned.to_numpy()
    return times.with_columns(equity=total)
