"""`lab features`: what there is to compute, and computing it."""

from pathlib import Path
from typing import Annotated, Any

import typer

from cli import console
from lab.errors import UsageError


def features(
    experiment: Annotated[Path | None, typer.Argument(help="An experiment file; its columns are computed.")] = None,
    listing: Annotated[bool, typer.Option("--list", help="Show every registered feature.")] = False,
    as_json: console.Json = False,
) -> None:
    """Compute and keep the columns of an experiment, or (--list) show every feature there is."""
    if listing:
        _list(as_json)
    elif experiment is None:
        raise UsageError(
            "no experiment is named", fix="lab features experiments/synthetic.toml, or lab features --list"
        )
    else:
        _compute(experiment, as_json)


def _list(as_json: bool) -> None:
    from lab.features import FEATURES, described

    rows: list[dict[str, Any]] = [described(name) for name in FEATURES]
    shown = ("feature", "family", "look-back", "needs", "formula")

    def show() -> None:
        console.table([[row[key] for key in shown] for row in rows], shown, title=f"{len(rows)} features")
        console.line("A look-back of “fitted” follows from numbers that training bars give.")

    console.result(rows, as_json, show)


def _compute(path: Path, as_json: bool) -> None:
    from lab import pipeline
    from lab.experiment import Experiment

    experiment = Experiment.load(path)
    plan = pipeline.plan(Path(), experiment, "final")
    with console.busy(
        f"{experiment.name}: {len(experiment.plain_features)} columns of {plan.bars.frame.height:,} bars"
    ):
        columns = pipeline.compute_columns(plan)
    rows = [
        {"column": name, "values": columns.height - columns[name].null_count(), "null": columns[name].null_count()}
        for name in columns.columns[2:]
    ]
    fitted = [each.name for each in experiment.fitted_features]
    folder = str(pipeline.columns_folder(plan))
    result = {"folder": folder, "rows": columns.height, "columns": rows, "fitted": fitted}

    def show() -> None:
        console.table([list(row.values()) for row in rows], ("column", "values", "null"), title=experiment.name)
        if fitted:
            console.line(f"Fitted on the training bars of each fold, so not here: {', '.join(fitted)}")
        console.line(folder)

    console.result(result, as_json, show)
