"""`lab report`: one page about one run."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cli import console

if TYPE_CHECKING:
    from lab.nouns import Run


def report(
    run: Annotated[str, typer.Argument(help="A run's id, the beginning of one, or `last`.")] = "last",
    as_json: console.Json = False,
) -> None:
    """Write a run's page into reports/: one HTML file that needs no network."""
    from lab import runs

    found = runs.load(Path(), run)
    page = write_page(found)
    console.result(
        {"run": found.id, "page": str(page), "bytes": page.stat().st_size}, as_json, lambda: console.line(str(page))
    )


def write_page(run: "Run") -> Path:
    """The path of the page of `run`, freshly written."""
    from lab import findings
    from lab.files import write_atomically
    from lab.report import render

    page = Path("reports") / f"{run.id}.html"
    evidence = findings.weigh(Path(), run)
    tables = {name: run.table(name) for name in findings.TABLES}
    write_atomically(page, render(run.manifest, evidence, tables).encode())
    return page
