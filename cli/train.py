"""`lab train`: fit an experiment, fold by fold or for what comes next."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli import console

if TYPE_CHECKING:
    from lab.experiment import Experiment
    from lab.nouns import Run


def train(
    experiment: Annotated[Path, typer.Argument(help="An experiment file, e.g. experiments/synthetic.toml.")],
    walk_forward: Annotated[
        bool, typer.Option("--walk-forward", help="Learn on the past, be judged on what follows, step by step.")
    ] = False,
    workers: Annotated[int, typer.Option(min=1, max=64, help="Processes; the numbers are the same.")] = 1,
    as_json: console.Json = False,
) -> None:
    """Fit the model of an experiment: over a walk-forward, or (without it) once on everything, for what comes next."""
    from lab import findings
    from lab.experiment import Experiment

    run, found = run_experiment(Experiment.load(experiment), str(experiment), walk_forward, workers)
    if run.kind == "final":
        result: dict[str, Any] = {"run": run.id, "kind": run.kind, "folder": str(run.folder), "found": found}
        console.result(result, as_json, lambda: _show_final(run.id))
        return
    evidence = findings.weigh(Path(), run)
    result = {"run": run.id, "kind": run.kind, "folder": str(run.folder), "found": found, "evidence": evidence}
    console.result(result, as_json, lambda: show_evidence(run.id, run.manifest["name"], evidence))


def run_experiment(experiment: "Experiment", path: str, walk_forward: bool, workers: int) -> tuple["Run", bool]:
    """The run of an experiment, and whether it was there already."""
    from lab import pipeline, runs

    plan = pipeline.plan(Path(), experiment, "walk-forward" if walk_forward else "final")
    run = runs.find(Path(), plan.run_id)
    if run:
        console.say(f"run {run.id} is here already: same settings, same data, same code")
        return run, True
    command = f"lab train {path}{' --walk-forward' if walk_forward else ''}"
    for _ in console.progress(pipeline.learn(plan, workers), len(plan.folds), f"{experiment.name}: folds"):
        pass
    return pipeline.conclude(plan, command), False


def show_evidence(run: str, name: str, evidence: dict[str, Any]) -> None:
    """The verdict and the numbers behind it."""
    console.line(f"{name} — run {run}")
    console.line(evidence["verdict"])
    for reason in evidence["reasons"]:
        console.line(f"  {reason}")
    held = evidence["holding"]
    interval = evidence["sharpe_interval"]
    rows = [
        ("net return", console.percent(evidence["total_return"])),
        ("… of holding", console.percent(held["total_return"])),
        ("worst drawdown", console.percent(evidence["max_drawdown"])),
        ("Sharpe ratio, per year", console.number(evidence["sharpe"])),
        ("… its 95 % interval", "–" if interval is None else f"{interval[0]:.2f} to {interval[1]:.2f}"),
        ("… that luck would give", console.number(evidence["expected_best_sharpe"])),
        ("probabilistic Sharpe ratio", console.percent(evidence["psr"])),
        ("deflated Sharpe ratio", console.percent(evidence["dsr"])),
        ("trials in the ledger", str(evidence["trials"])),
        ("fills", f"{evidence['trades']:,}"),
        ("turnover, × capital per day", console.number(evidence["turnover_per_day"])),
        ("cost one way, charged", f"{evidence['cost_bps']:.2f} bps"),
        ("… that would leave nothing", console.number(evidence["break_even_bps"], " bps")),
        ("correlation of score and answer", console.number(evidence["correlation"], places=4)),
    ]
    console.table(rows, ["", "value"])
    console.line(f"lab report {run}")


def _show_final(run: str) -> None:
    console.line(f"model fitted on everything: run {run}")
    console.line("No skill is reported: nothing is left to judge it by. That is what --walk-forward is for.")
