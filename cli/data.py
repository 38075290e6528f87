"""lab data: what the store has, whether it is whole, and what is missing from it."""

from dataclasses import asdict
from datetime import timedelta
from typing import Annotated, Any

import typer
from rich.filesize import decimal

from cli import console
from cli.fetch import DATA
from lab.errors import NoData

data = typer.Typer(help="Show the stored market data; find gaps and damage; mend; sweep.")
Chosen = Annotated[list[str] | None, typer.Argument(metavar="SYMBOL…", help="All where left out.")]


@data.callback(invoke_without_command=True)
def holdings(context: typer.Context, json: console.Json = False) -> None:
    """List kinds, sources, symbols, spans, rows, what is missing, and sizes."""
    from lab import store

    if context.invoked_subcommand:
        return
    held = [asdict(table) for table in store.tables(DATA)]
    columns = ("kind", "source", "symbol", "interval", "from", "to", "rows", "missing", "rejected", "repeats", "size")
    console.result(held, json, lambda: console.table([_row(row) for row in held], columns))


@data.command()
def verify(json: console.Json = False) -> None:
    """Read every stored file again; exit code 1 where one is damaged or missing."""
    from lab import store

    damaged = [{"problem": damage.problem, "fix": damage.fix} for damage in store.verify(DATA)]
    console.result(damaged, json, lambda: _show_damage(damaged))
    if damaged:
        raise typer.Exit(1)


@data.command()
def repair(json: console.Json = False) -> None:
    """Set damaged files aside and make the rest whole; says what to fetch again."""
    from lab import store

    mended = [asdict(each) for each in store.repair(DATA)]
    console.result(mended, json, lambda: _show_mended(mended))


@data.command()
def sweep(
    older: Annotated[int, typer.Option(help="Days for which a superseded version stays readable.")] = 30,
    json: console.Json = False,
) -> None:
    """Remove versions that were superseded --older days ago, and what killed writers left behind."""
    from lab import store

    freed = sum(store.sweep(_name(table), timedelta(days=older)) for table in store.tables(DATA))
    console.result({"bytes": freed}, json, lambda: console.line(f"{decimal(freed)} freed"))


@data.command()
def log(symbols: Chosen = None, json: console.Json = False) -> None:
    """Show every known version of each table: who changed what, when, and from what."""
    from lab import store

    entries = [
        {"kind": held.kind, "source": held.source, "symbol": held.symbol, "interval": held.interval, **asdict(version)}
        for held in _held(symbols)
        for version in store.history(_name(held))
    ]
    columns = ("table", "version", "at (UTC)", "by", "rows", "added", "from", "new columns")
    console.result(entries, json, lambda: console.table([_entry(entry) for entry in entries], columns))


@data.command()
def gaps(symbols: Chosen = None, json: console.Json = False) -> None:
    """Show what should be there and is not, with the reason where it is known; and what looks wrong."""
    from lab import inventory

    _held(symbols)
    with console.busy("looking for gaps"):
        chosen = symbols or ()
        ledger, quality = inventory.survey(DATA, chosen)
        holes = inventory.id_holes(DATA, chosen)
    found = {"gaps": ledger.to_dicts(), "quality": quality, "missing_trades": holes}
    console.result(found, json, lambda: _show_gaps(found))


def _held(symbols: list[str] | None) -> list[Any]:
    """The tables of these symbols, or all; a symbol without any is NoData."""
    from lab import store

    held = store.tables(DATA)
    known = {table.symbol for table in held}
    if unknown := [symbol for symbol in symbols or () if symbol not in known]:
        raise NoData(f"the store has nothing of {', '.join(unknown)}", fix="lab data lists what it has")
    return [table for table in held if not symbols or table.symbol in symbols]


def _name(held: Any) -> Any:
    from lab import store

    return store.TableName(DATA, held.source, held.symbol, held.interval, held.kind)


def _row(held: dict[str, Any]) -> list[object]:
    days = (f"{held[name]:%Y-%m-%d}" for name in ("first", "last"))
    names = (held[name] for name in ("kind", "source", "symbol", "interval"))
    counts = (held[name] for name in ("rows", "missing", "rejected", "repeats"))
    return [*names, *days, *counts, decimal(held["bytes"])]


def _entry(entry: dict[str, Any]) -> list[object]:
    change = entry["change"]
    table = f"{entry['source']} {entry['symbol']} {entry['interval']} {entry['kind']}"
    origins = change["origins"]
    made_from = f"{origins[0]}{f' and {len(origins) - 1:,} more' if len(origins) > 1 else ''}" if origins else ""
    at = f"{change['at']:%Y-%m-%d %H:%M:%S}"
    widened = ", ".join(change["widened"])
    return [
        table,
        entry["number"],
        at,
        change["by"],
        entry["rows"],
        entry["added"],
        made_from,
        widened,
        change["command"],
    ]


def _show_gaps(found: dict[str, list[dict[str, Any]]]) -> None:
    shared: dict[tuple[Any, ...], list[str]] = {}
    for row in found["gaps"]:
        key = tuple(row[name] for name in ("source", "interval", "after", "before", "missing", "reason", "note"))
        shared.setdefault(key, []).append(row["symbol"])
    console.table(
        [_gap(key, symbols) for key, symbols in shared.items()],
        ("source", "symbols", "after (UTC)", "before (UTC)", "bars missing", "reason", "what is known"),
        title="Gaps and halts",
    )
    counts = ("source", "symbol", "interval", "rows", "gaps", "missing", "no_volume", "frozen", "jumps")
    console.table(
        [[*(row[name] for name in counts), _jump(row)] for row in found["quality"]],
        ("source", "symbol", "interval", "rows", "gaps", "missing", "without volume", "frozen", "jumps", "the largest"),
        title="Bars",
    )
    if holes := found["missing_trades"]:
        names = ("source", "symbol", "after", "before", "missing")
        console.table([[row[name] for name in names] for row in holes], names, title="Trades whose numbers are missing")


def _gap(key: tuple[Any, ...], symbols: list[str]) -> list[object]:
    source, interval, after, before, *rest = key
    named = ", ".join(symbols) if len(symbols) < 4 else f"{len(symbols)} symbols, {symbols[0]} to {symbols[-1]}"
    return [f"{source} {interval}", named, *(f"{time:%Y-%m-%d %H:%M}" for time in (after, before)), *rest]


def _jump(row: dict[str, Any]) -> str:
    return f"{row['largest_jump']:+.0%} at {row['largest_jump_at']:%Y-%m-%d %H:%M}" if row["jumps"] else ""


def _show_damage(damaged: list[dict[str, str]]) -> None:
    for row in damaged:
        console.line(f"{row['problem']}\n  fix: {row['fix']}")
    if not damaged:
        console.line("every stored file is whole")


def _show_mended(mended: list[dict[str, str]]) -> None:
    for row in mended:
        console.line(f"{row['table']}: {row['done']}\n  next: {row['fix']}")
    if not mended:
        console.line("nothing is damaged")
