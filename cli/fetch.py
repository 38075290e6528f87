"""lab fetch: market history → data/."""

from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from cli import console
from lab.errors import NoData, UsageError

if TYPE_CHECKING:
    from lab.nouns import Span
    from lab.sources import Request, Source

DATA = Path("data")
EXAMPLE = "lab fetch BTCUSDT --source binance --start 2026-03-01 --end 2026-05-01"
Moment = typer.Option(formats=["%Y-%m-%d", "%Y-%m-%dT%H:%M", "%Y-%m-%d %H:%M"])


def fetch(
    symbols: Annotated[list[str] | None, typer.Argument(metavar="SYMBOL…", help="E.g. BTCUSDT, SP500.")] = None,
    source: Annotated[str, typer.Option(help="Where to fetch from; --list names them.")] = "binance",
    interval: Annotated[str, typer.Option(help="Length of a bar: 1m, 1h, 1d, …")] = "1m",
    start: Annotated[datetime | None, Moment] = None,
    end: Annotated[datetime | None, Moment] = None,
    base_url: Annotated[str | None, typer.Option(help="A mirror of the archive.")] = None,
    path: Annotated[Path | None, typer.Option(help="The file, for --source files.")] = None,
    columns: Annotated[list[str] | None, typer.Option("--map", help="E.g. time=Date; once per column.")] = None,
    time_is: Annotated[Literal["open", "close"] | None, typer.Option(help="What the file's times are.")] = None,
    listed: Annotated[bool, typer.Option("--list", help="Show the sources.")] = False,
    json: console.Json = False,
) -> None:
    """Fetch the bars that open from --start up to --end (UTC); what is stored already is not asked for again."""
    from lab.sources import SOURCES, Request, source_named

    if listed:
        meanings = {name: SOURCES[name].__doc__.splitlines()[0] for name in SOURCES}
        console.result(meanings, json, lambda: console.table(meanings.items(), ("source", "what it has")))
        return
    if not symbols:
        raise UsageError("no symbol is named", fix=EXAMPLE)
    settings = {"base_url": base_url, "path": path, "map": _pairs(columns), "time_is": time_is}
    chosen = source_named(source, **{name: value for name, value in settings.items() if value})
    request = Request(tuple(dict.fromkeys(symbols)), interval, _span(start, end))
    fetched = list(fetch_into_store(chosen, source, request))
    console.result(fetched, json, lambda: _show(fetched))
    if empty := [row["symbol"] for row in fetched if not row["rows"]]:
        raise NoData(f"{source} has no {interval} bars of {', '.join(empty)} there", fix="check the symbol and dates")


def fetch_into_store(chosen: "Source", source: str, request: "Request") -> Iterator[dict[str, Any]]:
    """Fetch and store piece by piece; then, for each symbol, what came and what the store now has."""
    from lab import store

    tables = {symbol: (DATA, source, symbol, request.interval) for symbol in request.symbols}
    for table in tables.values():
        store.sweep(*table)
    before = {symbol: store.holding(*table) for symbol, table in tables.items()}
    done = {origin for table in tables.values() for origin in store.done(*table)}
    came, absent = Counter[str](), defaultdict[str, list[str]](list)
    for piece in console.progress(chosen.fetch(request, done), chosen.count(request), f"fetching from {source}"):
        store.commit(DATA, source, piece)
        came[piece.symbol] += 1
        if piece.bars is None:
            absent[piece.symbol].append(piece.origin)
    for symbol, table in tables.items():
        yield {
            "symbol": symbol,
            "pieces": came[symbol],
            "rows_before": (held := before[symbol]) and held.rows,
            "absent": absent[symbol],
            **stored(*table),
        }


def stored(root: Path, source: str, symbol: str, interval: str) -> dict[str, Any]:
    """What the store has of one symbol, with its gaps: how many, and the largest."""
    from lab import store

    held = store.holding(root, source, symbol, interval)
    if held is None:
        return {"rows": 0}
    gaps = store.read_bars(root, source, [symbol], interval).gaps().sort("missing", descending=True)
    return {
        **asdict(held),
        "gaps": gaps.height,
        "missing": gaps["missing"].sum(),
        "largest_gap": gaps.drop("symbol").row(0, named=True) if gaps.height else None,
    }


def _show(fetched: list[dict[str, Any]]) -> None:
    for row in fetched:
        if not row["rows"]:
            continue
        news = f"{row['rows'] - (row['rows_before'] or 0):+,} rows" if row["pieces"] else "already here"
        console.line(
            f"{row['symbol']} {row['interval']}: {news}; {row['rows']:,} in all, "
            f"closed {row['first']:%Y-%m-%d %H:%M} to {row['last']:%Y-%m-%d %H:%M}, trading {row['calendar']}"
        )
        if gap := row["largest_gap"]:
            console.line(
                f"  gaps: {row['gaps']:,}; the largest lacks {gap['missing']:,} bars, "
                f"after {gap['after']:%Y-%m-%d %H:%M} up to {gap['before']:%Y-%m-%d %H:%M}"
            )
        if row["rejected"]:
            console.line(f"  rejected: {row['rejected']:,} rows, kept with the reason in {DATA / 'quarantine'}")
        if row["absent"]:
            console.line(f"  absent at the source: {len(row['absent'])}, {row['absent'][0]} to {row['absent'][-1]}")


def _pairs(columns: list[str] | None) -> tuple[tuple[str, str], ...]:
    pairs = [tuple(text.split("=", 1)) for text in columns or ()]
    if wrong := [pair for pair in pairs if len(pair) != 2]:
        raise UsageError(f"--map {wrong[0][0]} names no column of the file", fix="write --map time=Date")
    return tuple((ours, theirs) for ours, theirs in pairs)


def _span(start: datetime | None, end: datetime | None) -> "Span | None":
    from lab.nouns import Span

    if start is None and end is None:
        return None
    if start is None or end is None:
        raise UsageError("a span has two ends", fix="give both --start and --end, or neither")
    return Span(start.replace(tzinfo=UTC), end.replace(tzinfo=UTC))
