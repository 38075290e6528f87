"""lab sql: ask the stored data by SQL."""

from typing import Annotated

import typer

from cli import console
from cli.fetch import DATA

SHOWN = 50


def sql(
    query: Annotated[str, typer.Argument(help='E.g. "select symbol, count(*) from bars group by symbol".')],
    rows: Annotated[int, typer.Option(help="Show at most so many rows; --json has all of them.")] = SHOWN,
    json: console.Json = False,
) -> None:
    """Answer one SELECT over bars, trades, quotes, books, …: every live row, with source, interval and month."""
    from lab.store import sql as engine

    answer = engine.query(DATA, query)
    every = answer.to_dicts() if json else []
    console.result(every, json, lambda: console.table(map(_exact, answer.head(rows).rows()), answer.columns))
    if not json and answer.height > rows:
        console.say(f"{answer.height:,} rows; the first {rows:,} are shown")


def _exact(row: tuple[object, ...]) -> list[object]:
    """Numbers as they are, not as a summary would round them."""
    return [f"{value!r}" if isinstance(value, float) else value for value in row]
