"""The only file that knows colour, tables, progress bars and --json: stdout is the result, stderr the story."""

import json
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import date, timedelta
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from lab.errors import LabError

Item = TypeVar("Item")
Json = Annotated[bool, typer.Option("--json", help="Print the result for machines.")]

WIDE = 160  # columns of a table that goes to a file or a pipe

out = Console(highlight=False, soft_wrap=True, width=None if sys.stdout.isatty() else WIDE)
story = Console(stderr=True, highlight=False, soft_wrap=True)


def result(value: Mapping[str, Any] | Sequence[Any], as_json: bool, show: Callable[[], None]) -> None:
    """Print a verb's result: as one JSON document, or the way `show` does it for people."""
    if as_json:
        sys.stdout.write(json.dumps(value, indent=2, default=_plain, allow_nan=False) + "\n")
    else:
        show()


def say(text: str) -> None:
    """A line of the story, on stderr; never interpreted as markup."""
    story.print(escape(text))


def line(text: str) -> None:
    """A line of the result, on stdout; never interpreted as markup."""
    out.print(escape(text))


def table(rows: Iterable[Sequence[object]], columns: Sequence[str], title: str | None = None) -> None:
    """A table of results; numbers to the right, everything else escaped."""
    listed = [list(row) for row in rows]
    drawn = Table(title=title, title_justify="left", header_style="bold")
    for position, name in enumerate(columns):
        numeric = bool(listed) and all(isinstance(row[position], int | float) for row in listed)
        drawn.add_column(name, justify="right" if numeric else "left", overflow="fold")
    for row in listed:
        drawn.add_row(*(escape(_cell(value)) for value in row))
    out.print(drawn)


def progress(items: Iterable[Item], total: int, doing: str) -> Iterator[Item]:
    """Hand `items` on as they are finished, drawing a bar on stderr where a person is looking."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=story, disable=not story.is_terminal) as bar:
        task = bar.add_task(escape(doing), total=total)
        for item in items:
            yield item
            bar.advance(task)


@contextmanager
def busy(doing: str) -> Iterator[None]:
    """Show on stderr that one long step is under way."""
    with story.status(escape(doing)):
        yield


def error(problem: LabError) -> None:
    """The two lines that a user sees when something is wrong."""
    story.print(f"[bold red]error:[/] {escape(problem.problem)}")
    story.print(f"[bold]  fix:[/] {escape(problem.fix)}")


def percent(value: float | None) -> str:
    """A share for people; what rounds to certainty is not shown as such."""
    if value is None:
        return "–"
    return "> 99.9%" if 0.9995 <= value < 1 else f"{value:.1%}"


def number(value: float | None, unit: str = "", places: int = 2) -> str:
    """A number for people, with its unit."""
    return "–" if value is None else f"{value:.{places}f}{unit}"


def _plain(value: object) -> object:
    if isinstance(value, date):  # datetimes are dates
        return value.isoformat()
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, Path):
        return str(value)
    raise TypeError(f"{type(value).__name__} has no JSON form")


def _cell(value: object) -> str:
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:,.4g}"
    return str(value)
