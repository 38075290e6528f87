"""`lab backtest`: a run's scores once more, under other costs or another policy."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from cli import console
from cli.train import show_evidence


class Engine(StrEnum):
    """Who accounts for the orders."""

    numba = "numba"
    vectorbt = "vectorbt"


def backtest(
    run: Annotated[str, typer.Argument(help="A run's id, the beginning of one, or `last`.")] = "last",
    engine: Annotated[Engine, typer.Option(help="Who accounts for the orders.")] = Engine.numba,
    fee_bps: Annotated[float | None, typer.Option(help="Fee of a fill, basis points.")] = None,
    slippage_bps: Annotated[float | None, typer.Option(help="Slippage of a fill, basis points.")] = None,
    enter: Annotated[float | None, typer.Option(help="Score to open a position at.")] = None,
    leave: Annotated[float | None, typer.Option("--exit", help="Score to close it below.")] = None,
    target_vol: Annotated[float | None, typer.Option(help="Volatility of a position, per year.")] = None,
    as_json: console.Json = False,
) -> None:
    """Replay a walk-forward run under other costs or another policy; what differs from the run is one more trial."""
    from lab import pipeline, runs
    from lab.experiment import changed

    found = runs.load(Path(), run)
    experiment = pipeline.experiment_of(found)
    policy = changed(experiment.policy, enter=enter, exit=leave, target_vol=target_vol)
    costs = changed(experiment.costs, fee_bps=fee_bps, slippage_bps=slippage_bps)
    evidence = pipeline.replay(Path(), found, policy, costs, engine.value)
    result: dict[str, Any] = {"run": found.id, "engine": engine.value, "evidence": evidence}
    console.result(result, as_json, lambda: show_evidence(found.id, f"{experiment.name}, replayed", evidence))
