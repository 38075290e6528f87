"""One tiny experiment, end to end, whose answer is known with pencil and paper.

Takers either buy or sell heavily in an hour, and the next hour moves 1 % their way. A linear model finds that
exactly. Long only, all in or all out, at 10 bp a fill, the money is then a closed form.
"""

import math
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from lab import findings, pipeline, store
from lab.experiment import Experiment
from lab.nouns import Bars, Piece, Run

HOURS = 40 * 24
TRAINED = 10 * 24
FEE = 0.001
MOVE = 0.01
# Takers buy (1) or sell (-1) by the binary digits of the golden ratio's multiples: balanced, and no coin is tossed.
FLOW = np.where((np.arange(HOURS) * (math.sqrt(5) - 1) / 2) % 1 < 0.5, 1.0, -1.0)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Run]:
    root = tmp_path_factory.mktemp("golden")
    close = 100 * np.exp(MOVE * np.cumsum(np.concatenate([[0.0], FLOW[:-1]])))
    opened = np.concatenate([[100.0], close[:-1]])
    first = datetime(2024, 1, 1, 1, tzinfo=UTC)
    frame = pl.DataFrame(
        {
            "symbol": ["PENCIL"] * HOURS,
            "time": [first + timedelta(hours=hour) for hour in range(HOURS)],
            "open": opened,
            "high": np.maximum(opened, close),
            "low": np.minimum(opened, close),
            "close": close,
            "volume": [10.0] * HOURS,
            "buy_volume": 5.0 + 3.0 * FLOW,
        }
    )
    store.commit(root / "data", "files", [Piece("PENCIL", "by hand", "0", Bars.of(frame, "1h"))])
    experiment = Experiment.model_validate(
        {
            "name": "Pencil and paper",
            "data": {"source": "files", "symbols": ["PENCIL"], "interval": "1h"},
            "features": ["flow_imbalance(1)"],
            "label": "forward_return(1)",
            "folds": {"train": "10d", "test": "7d"},
            "model": {"name": "linear", "penalty": 0.0},
            "policy": {"enter": MOVE / 2, "shorts": False},
            "costs": {"fee_bps": FEE * 1e4, "slippage_bps": 0.0},
        }
    )
    plan = pipeline.plan(root, experiment, "walk-forward")
    list(pipeline.learn(plan))
    return root, pipeline.conclude(plan, "a test")


def test_every_forecast_is_the_move_that_follows(run: tuple[Path, Run]) -> None:
    decisions = run[1].table("decisions")
    tested = TRAINED + 1  # the hours trained on, and the one in which the last answer settles
    assert decisions.height == HOURS - tested
    assert decisions["score"].to_numpy() == pytest.approx(MOVE * FLOW[tested:], abs=1e-12)
    assert decisions["target"].to_list() == [float(flow > 0) for flow in FLOW[tested:]]


def test_the_money_is_the_closed_form(run: tuple[Path, Run]) -> None:
    root, carried_out = run
    held = FLOW[TRAINED + 1 : -1] > 0  # decided at these closes, held through the next hour
    entries = int(held[0]) + int(np.sum(held[1:] & ~held[:-1]))
    exits = int(np.sum(held[:-1] & ~held[1:]))
    expected = math.exp(MOVE * held.sum()) * (1 - FEE) ** exits / (1 + FEE) ** entries
    assert carried_out.table("fills").height == entries + exits
    assert carried_out.table("equity")["equity"][-1] == pytest.approx(expected, rel=1e-12)
    evidence = findings.weigh(root, carried_out)
    assert evidence["total_return"] == pytest.approx(expected - 1, rel=1e-12)
    assert evidence["correlation"] == pytest.approx(1.0, abs=1e-12)
    assert (evidence["claim"], evidence["trials"], evidence["days"]) == (True, 1, 30)
