"""Small experiments on made-up markets, stored and ready to run."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

from lab import pipeline, store
from lab.experiment import Experiment
from lab.nouns import Run, Span
from lab.sources import SOURCES, Request

START = datetime(2024, 1, 1, tzinfo=UTC)

SETTINGS = {
    "name": '"Small"',
    "features": '["flow_imbalance(5)", "flow_imbalance(20)", "log_return(5)"]',
    "label": '"forward_return(30)"',
    "seed": "7",
    "data.source": '"synthetic"',
    "data.symbols": '["FLOW-1"]',
    "data.interval": '"1m"',
    "folds.train": '"1d"',
    "folds.test": '"1d"',
    "model.name": '"linear"',
    "policy.enter": "0.0002",
    "costs.fee_bps": "0.5",
    "costs.slippage_bps": "0.0",
}


def experiment_text(**changes: str | None) -> str:
    """The TOML of a small experiment; `folds__train='"2d"'` sets a value in a table, None leaves it out."""
    chosen = {**SETTINGS, **{key.replace("__", "."): value for key, value in changes.items()}}
    lines: dict[str, list[str]] = {"": []}
    for key, value in chosen.items():
        table, _, name = key.rpartition(".")
        if value is not None:
            lines.setdefault(table, []).append(f"{name} = {value}")
    return "\n".join(line for table, own in lines.items() for line in [f"[{table}]" if table else "", *own]) + "\n"


def experiment(root: Path, **changes: str | None) -> Experiment:
    """A small experiment, written into `root` and read back."""
    root.mkdir(parents=True, exist_ok=True)
    path = root / "small.toml"
    path.write_text(experiment_text(**changes))
    return Experiment.load(path)


def fetched(root: Path, *symbols: str, days: float) -> None:
    """Store the first days of made-up markets under `root`."""
    request = Request(symbols, "1m", Span(START, START + timedelta(days=days)))
    for piece in SOURCES["synthetic"].fetch(request, ()):
        store.commit(root / "data", "synthetic", [piece])


def carried_out(root: Path, chosen: Experiment, workers: int = 1) -> Run:
    """The walk-forward run of an experiment whose bars are stored."""
    plan = pipeline.plan(root, chosen, "walk-forward")
    learned = list(pipeline.learn(plan, workers))
    assert sorted(learned) == [fold.number for fold in plan.folds]
    return pipeline.conclude(plan, "lab train small.toml --walk-forward")
