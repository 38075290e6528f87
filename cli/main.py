"""Mounts the verbs; the only place where a LabError is caught."""

import sys

import typer

from cli import console
from cli.backtest import backtest
from cli.bars import bars
from cli.data import data
from cli.demo import demo
from cli.features import features
from cli.fetch import fetch
from cli.report import report
from cli.runs import runs
from cli.sql import sql
from cli.train import train
from lab.errors import LabError

app = typer.Typer(
    name="lab",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="A trading research workbench: fetch → features → train --walk-forward → report.",
)
for verb in (demo, fetch, bars, sql, features, train, backtest, report, runs):
    app.command(verb.__name__)(verb)
app.add_typer(data, name="data")


def main() -> None:
    """Entry point of the `lab` command: exit code 0, 1 (cannot be done) or 2 (wrongly asked)."""
    try:
        app()
    except LabError as problem:
        console.error(problem)
        sys.exit(problem.exit_code)
