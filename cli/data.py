"""lab data: what the store has, and whether it is whole."""

from typing import Any

import typer
from rich.filesize import decimal

from cli import console
from cli.fetch import DATA, stored

data = typer.Typer(help="Show the stored market history; find damaged files.")


@data.callback(invoke_without_command=True)
def holdings(context: typer.Context, json: console.Json = False) -> None:
    """List symbols, intervals, spans, rows, gaps and sizes."""
    from lab import store

    if context.invoked_subcommand:
        return
    held = [stored(DATA, table.source, table.symbol, table.interval) for table in store.tables(DATA)]
    columns = ("source", "symbol", "interval", "from", "to", "rows", "gaps", "missing", "rejected", "size")
    console.result(held, json, lambda: console.table([_row(row) for row in held], columns))


@data.command()
def verify(json: console.Json = False) -> None:
    """Read every stored file again; exit code 1 where one is damaged or missing."""
    from lab import store

    damaged = [{"problem": damage.problem, "fix": damage.fix} for damage in store.verify(DATA)]
    console.result(damaged, json, lambda: _show(damaged))
    if damaged:
        raise typer.Exit(1)


def _row(held: dict[str, Any]) -> list[object]:
    days = (f"{held[name]:%Y-%m-%d}" for name in ("first", "last"))
    counts = (held[name] for name in ("rows", "gaps", "missing", "rejected"))
    return [held["source"], held["symbol"], held["interval"], *days, *counts, decimal(held["bytes"])]


def _show(damaged: list[dict[str, str]]) -> None:
    for row in damaged:
        console.line(f"{row['problem']}\n  fix: {row['fix']}")
    if not damaged:
        console.line("every stored file is whole")
