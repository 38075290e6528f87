"""Tables that are read in a terminal and on a page: the same cells in both."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import median

from rich.console import Console
from rich.markup import escape
from rich.table import Table as Drawn

NONE = "–"


@dataclass(frozen=True)
class Table:
    """A title, columns (the first to the left, numbers to the right), rows of text, and notes below."""

    title: str
    columns: tuple[str, ...]
    rows: list[tuple[str, ...]]
    notes: list[str] = field(default_factory=list)


def spread(values: Sequence[float]) -> str:
    """Median and, of more than one value, the range: `1.23 (1.20–1.31)`."""
    if not values:
        return NONE
    middle = _plain(median(values))
    return middle if len(values) == 1 else f"{middle} ({_plain(min(values))}–{_plain(max(values))})"


def per_second(rows: int, seconds: Sequence[float]) -> str:
    """Rows a second at the median time."""
    return f"{float(f'{rows / median(seconds):.3g}'):,.0f}" if seconds else NONE


def ratio(slower: Sequence[float], faster: Sequence[float]) -> str:
    """How many times the first takes the second's time; the range is that of single rounds."""
    if not slower or not faster:
        return NONE
    rounds = [a / b for a, b in zip(slower, faster, strict=True)]
    middle = f"{_times(median(slower) / median(faster))}×"
    return middle if len(rounds) == 1 else f"{middle} ({_times(min(rounds))}–{_times(max(rounds))})"


def show(console: Console, tables: Sequence[Table]) -> None:
    for table in tables:
        drawn = Drawn(title=table.title, title_justify="left", header_style="bold")
        for position, name in enumerate(table.columns):
            drawn.add_column(name, justify="right" if position else "left")
        for row in table.rows:
            drawn.add_row(*map(escape, row))
        console.print(drawn)
        for note in table.notes:
            console.print(f"- {escape(note)}")
        console.print()


def markdown(table: Table) -> str:
    lines = [f"## {table.title}", ""]
    lines += [_line(table.columns), _line(["---", *["---:"] * (len(table.columns) - 1)])]
    lines += [_line(row) for row in table.rows]
    lines += ["", *(f"- {note}" for note in table.notes)]
    return "\n".join(lines).rstrip() + "\n"


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |"


def _plain(value: float) -> str:
    """About three digits that count, without an exponent."""
    decimals = 0 if value >= 100 else 1 if value >= 10 else 2 if value >= 1 else 3 if value >= 0.1 else 4
    return f"{value:,.{decimals}f}"


def _times(value: float) -> str:
    return f"{value:,.0f}" if value >= 10 else f"{value:.1f}" if value >= 1 else f"{value:.2f}"
