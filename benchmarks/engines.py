"""The fill engine beside vectorbt's, on the same targets: `python -m benchmarks.engines FOLDER ROUNDS`."""

import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from benchmarks.clock import Clock, tell
from benchmarks.task import BASIS_POINT, MARKET, SEED, Task
from lab import backtest
from lab.backtest import Costs
from lab.nouns import Bars
from lab.sources.synthetic import simulate

Vector = npt.NDArray[np.float64]
FEW = 1_000


def ours(bars: Bars, targets: Vector, costs: Costs) -> Vector:
    """Equity by `lab.backtest`: fills, cash, units and equity of every bar."""
    return backtest.replay(bars, targets, costs).equity["equity"].to_numpy()


def theirs(close: pd.Series, opens: pd.Series, orders: pd.Series, costs: Costs) -> Vector:
    """Equity by `Portfolio.from_orders` with target percents, where each bar's order is filled at its open."""
    import vectorbt

    portfolio = vectorbt.Portfolio.from_orders(
        close,
        size=orders,
        size_type="targetpercent",
        price=opens,
        fees=costs.fee_bps * BASIS_POINT,
        slippage=costs.slippage_bps * BASIS_POINT,
        init_cash=1.0,
        freq=timedelta(minutes=1),
    )
    return np.asarray(portfolio.value())


def orders_of(targets: Vector) -> Vector:
    """The target that each bar's open is to reach; NaN where it is the one that stands already."""
    wanted = np.concatenate([[0.0], targets[:-1]])
    changed = np.diff(wanted, prepend=0.0) != 0
    return np.where(changed, wanted, np.nan)


def contest(bars: Bars, targets: Vector, costs: Costs, rounds: int) -> dict[str, Any]:
    """Seconds of both in turn, round by round, with the largest difference between their money."""
    times = pd.DatetimeIndex(bars.frame["time"].to_numpy())
    close, opens = (pd.Series(bars.frame[name].to_numpy(), index=times) for name in ("close", "open"))
    orders = pd.Series(orders_of(targets), index=times)
    clock, seconds = Clock(), []
    for _ in range(rounds):
        with clock.stage("lab"):
            mine = ours(bars, targets, costs)
        with clock.stage("vectorbt"):
            other = theirs(close, opens, orders, costs)
        seconds.append(dict(clock.seconds))
    apart = float(np.max(np.abs(mine - other) / mine))
    return {"seconds": seconds, "apart": apart, "orders": int(orders.notna().sum())}


def main(folder: Path, rounds: int) -> None:
    lab = np.load(folder / "lab.npz")
    rows = len(lab["bars"])
    targets = np.concatenate([np.zeros(rows - len(lab["targets"])), lab["targets"]])
    bars, costs = simulate(MARKET, SEED, rows), Costs(**Task.read().raw["costs"])
    few = Bars(bars.frame.tail(FEW), bars.interval, bars.calendar)
    contest(few, targets[-FEW:], costs, rounds=1)
    tell(contest(bars, targets, costs, rounds))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
