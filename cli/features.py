"""`lab features`: what there is to compute, and computing it."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from cli import console
from lab.errors import UsageError


def features(
    experiment: Annotated[Path | None, typer.Argument(help="An experiment file; its columns are computed.")] = None,
    listing: Annotated[bool, typer.Option("--list", help="Show every registered feature and ready set.")] = False,
    certify: Annotated[
        str | None,
        typer.Option(
            metavar="NAME|SET|FILE", help="Prove that a feature, a ready set, or those of a .py file cannot peek."
        ),
    ] = None,
    workers: Annotated[int, typer.Option(min=1, max=64, help="Processes that prove at once.")] = 2,
    as_json: console.Json = False,
) -> None:
    """Compute and keep the columns of an experiment, show what there is (--list), or prove it (--certify)."""
    if listing:
        _list(as_json)
    elif certify is not None:
        _certify(certify, workers, as_json)
    elif experiment is None:
        raise UsageError(
            "no experiment is named", fix="lab features experiments/synthetic.toml, or lab features --list"
        )
    else:
        _compute(experiment, as_json)


def _list(as_json: bool) -> None:
    from lab.features import FEATURES, SETS, described

    rows: list[dict[str, Any]] = [described(name) for name in FEATURES]
    sets = {name: members() for name, members in SETS.items()}
    shown = ("feature", "family", "look-back", "needs", "formula")

    def show() -> None:
        console.table([[row[key] for key in shown] for row in rows], shown, title=f"{len(rows)} features")
        console.line("A look-back of “fitted” follows from numbers that training bars give.")
        console.line(f"Ready sets: {', '.join(f'{name} ({len(members)})' for name, members in sets.items())}")

    console.result({"features": rows, "sets": sets}, as_json, show)


def _certify(wanted: str, workers: int, as_json: bool) -> None:
    from lab import pipeline
    from lab.errors import LabError, LookAhead
    from lab.features import Certificate, expanded, own, proved, resolve

    file = Path(wanted) if wanted.endswith(".py") else None
    texts = own.use(file) if file else expanded([wanted])
    if not texts:
        raise UsageError(f"{wanted} registers no feature", fix="put @feature above its functions")
    for text in texts:
        resolve(text)  # a name that nobody knows is no refusal
    rows: list[dict[str, Any]] = []
    found = proved(pipeline.certificates_folder(Path()), texts, workers, file)
    for text, outcome in console.progress(found, len(texts), "certifying"):
        facts = {"refused": outcome.problem} if isinstance(outcome, LabError) else asdict(outcome)
        rows.append({"feature": text, "certified": isinstance(outcome, Certificate), **facts})
    refusals = [row for row in rows if not row["certified"]]

    def show() -> None:
        shown = ("feature", "family", "lookback", "memory", "rows")
        certified = [[row[key] for key in shown] for row in rows if row["certified"]]
        if certified:
            heads = ("feature", "family", "look-back", "measured", "rows proved")
            console.table(certified, heads, title=f"{len(certified)} certified")
        for row in refusals:
            console.line(f"refused: {row['refused']}")

    console.result({"features": rows}, as_json, show)
    if refusals:
        raise LookAhead(
            f"{len(refusals)} of {len(rows)} features break a law, the first: {refusals[0]['refused']}",
            fix="mend it; training refuses a column without a certificate",
        )


def _compute(path: Path, as_json: bool) -> None:
    from lab import columns, pipeline
    from lab.experiment import Experiment

    experiment = Experiment.load(path)
    plan = pipeline.plan(Path(), experiment, "final")
    with console.busy(
        f"{experiment.name}: {len(experiment.plain_features)} columns of {plan.bars.frame.height:,} bars"
    ):
        paths = pipeline.compute_columns(plan)
    nulls = columns.null_counts(paths)
    total = plan.bars.frame.height
    names = [each.name for each in experiment.plain_features]
    rows = [{"column": name, "values": total - nulls[name], "null": nulls[name]} for name in names]
    fitted = [each.name for each in experiment.fitted_features]
    folder = str(pipeline.columns_folder(plan))
    result = {"folder": folder, "rows": total, "columns": rows, "fitted": fitted}

    def show() -> None:
        console.table([list(row.values()) for row in rows], ("column", "values", "null"), title=experiment.name)
        if fitted:
            console.line(f"Fitted on the training bars of each fold, so not here: {', '.join(fitted)}")
        console.line(folder)

    console.result(result, as_json, show)
