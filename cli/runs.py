"""`lab runs`: what has been tried."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cli import console

if TYPE_CHECKING:
    from lab.nouns import Run

SHOWN = ("total_return", "sharpe", "dsr", "max_drawdown", "turnover_per_day", "break_even_bps", "trades", "correlation")


def runs(
    compare: Annotated[list[str] | None, typer.Argument(help="Runs to compare; without any, all are listed.")] = None,
    as_json: console.Json = False,
) -> None:
    """List every run, or compare some: what they earned and which settings differ."""
    from lab import runs as kept

    if compare:
        _compare([kept.load(Path(), name) for name in compare], as_json)
    else:
        _list(list(kept.listed(Path())), as_json)


def _list(found: list["Run"], as_json: bool) -> None:
    rows = [
        {
            "run": run.id,
            "name": run.manifest["name"],
            "kind": run.kind,
            "symbols": ", ".join(run.manifest["data"]["symbols"]),
            "model": run.manifest["settings"]["model"]["name"],
            "sharpe_per_day": run.manifest.get("sharpe_per_day"),
        }
        for run in found
    ]

    def show() -> None:
        if not rows:
            console.line("no runs yet: lab train EXPERIMENT --walk-forward")
        else:
            names = [key.replace("_", " ") for key in rows[0]]
            console.table([list(row.values()) for row in rows], names, title="runs, the newest last")

    console.result(rows, as_json, show)


def _compare(found: list["Run"], as_json: bool) -> None:
    from lab import findings

    evidence = {run.id: findings.weigh(Path(), run) for run in found}
    settings = {run.id: findings.flattened(run.manifest["settings"]) for run in found}
    keys = sorted({key for each in settings.values() for key in each})
    differing = {
        key: {run: each.get(key) for run, each in settings.items()}
        for key in keys
        if len({str(each.get(key)) for each in settings.values()}) > 1
    }

    def show() -> None:
        columns = ["", *evidence]
        console.table([[key, *(each[key] for each in evidence.values())] for key in SHOWN], columns, "what they earned")
        console.table([[key, *map(str, values.values())] for key, values in differing.items()], columns, "what differs")

    console.result({"evidence": evidence, "differing_settings": differing}, as_json, show)
