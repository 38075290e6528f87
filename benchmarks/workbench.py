"""The way of `lab`: the functions that its verbs call, in their order. `python -m benchmarks.workbench FOLDER`."""

import shutil
import sys
from pathlib import Path

import numba.core.event
import numpy as np
import polars as pl

from benchmarks import converting
from benchmarks.clock import Clock, peak_mib, tell
from benchmarks.task import SYMBOL, Task, zips
from lab import backtest, columns, findings, labels, pipeline
from lab.experiment import Experiment
from lab.files import write_atomically
from lab.nouns import Run
from lab.pipeline import Plan
from lab.report import render

SOURCE, INTERVAL = "binance", "1m"


def experiment() -> Experiment:
    """The example experiment on one symbol of an archive, without its fitted features."""
    task = Task.read()
    data = {"source": SOURCE, "symbols": [SYMBOL], "interval": INTERVAL}
    return Experiment.model_validate({**task.raw, "features": task.features, "data": data})


def fetch(folder: Path, root: Path) -> None:
    """What `lab fetch` does with the zips once they are downloaded."""
    converting.lab(zips(folder), root / "data", SOURCE)


def report(root: Path, run: Run) -> None:
    """What `lab report` does: weigh the run and write its page."""
    evidence = findings.weigh(root, run)
    tables = {name: run.table(name) for name in findings.TABLES}
    write_atomically(root / "reports" / f"{run.id}.html", render(run.manifest, evidence, tables).encode())


def whole_way(folder: Path, root: Path, clock: Clock) -> tuple[Plan, Run]:
    """fetch → features → train --walk-forward → report, each stage timed."""
    with clock.stage("fetch"):
        fetch(folder, root)
    with clock.stage("open"):
        plan = pipeline.plan(root, experiment(), "walk-forward")
    with clock.stage("features"):
        pipeline.compute_columns(plan)
    with clock.stage("train"):
        for _ in pipeline.learn(plan):
            pass
    with clock.stage("conclude"):
        run = pipeline.conclude(plan, "benchmark")
    with clock.stage("report"):
        report(root, run)
    return plan, run


def single_stages(plan: Plan, run: Run, clock: Clock) -> None:
    """Stages that the whole way holds inside others, once more and alone."""
    chosen = plan.experiment
    with clock.stage("labels"):
        labels.settle(plan.bars, chosen.resolved_label)
    scored = run.table("decisions").select("symbol", "time", "answer", "fold", "score")
    with clock.stage("policy + backtest"):
        decisions = pipeline.decide(plan.bars, scored, chosen.policy)
        backtest.replay(pipeline.tested_bars(plan.bars, scored), pipeline.targets_of(decisions), chosen.costs)


def keep(folder: Path, plan: Plan, run: Run) -> None:
    """Leave what came out, for the other way's to be set beside it."""
    known = columns.read(pipeline.compute_columns(plan)).drop("symbol", "time")
    answers = labels.settle(plan.bars, plan.experiment.resolved_label)["answer"]
    prices = plan.table.frame.select("open", "high", "low", "close", "volume", "buy_volume")
    decisions, equity = run.table("decisions"), run.table("equity")
    np.savez(
        folder / "lab.npz",
        bars=prices.to_numpy(),
        features=known.to_numpy(),
        answers=_floats(answers),
        scores=_floats(decisions["score"]),
        targets=_floats(decisions["target"]),
        equity=_floats(equity["equity"]),
    )


def _floats(column: pl.Series) -> "np.typing.NDArray[np.float64]":
    return column.cast(pl.Float64).to_numpy()


def warm_up(folder: Path) -> float:
    """Go the whole way once on few bars, so that all is imported and compiled; returns the seconds of compiling."""
    import arch.bootstrap  # noqa: F401  the few bars are too few for the bootstrap that imports it

    root = folder / "lab"
    with numba.core.event.install_timer("numba:compile", lambda _: None) as compiling:
        single_stages(*whole_way(folder, root, Clock()), Clock())
    shutil.rmtree(root)
    return float(compiling.duration if compiling.done else 0.0)


def main(folder: Path, warm: Path) -> None:
    compiling = warm_up(warm)
    clock = Clock()
    root = folder / "lab"
    plan, run = whole_way(folder, root, clock)
    whole, peak = sum(clock.seconds.values()), peak_mib()
    single_stages(plan, run, clock)
    keep(folder, plan, run)
    shutil.rmtree(root)
    tell({"seconds": {**clock.seconds, "end to end": whole}, "peak_mib": peak, "compiling": compiling})


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
