"""lab fetch: market history → data/."""

import shlex
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import asdict
from datetime import UTC, datetime
from fnmatch import fnmatchcase
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
    symbols: Annotated[list[str] | None, typer.Argument(metavar="SYMBOL…", help="E.g. BTCUSDT, '*USDT'.")] = None,
    source: Annotated[str, typer.Option(help="Where to fetch from; --list names them.")] = "binance",
    kind: Annotated[
        str, typer.Option(help="bars, trades, quotes, books, funding, …; --list says who has what.")
    ] = "bars",
    interval: Annotated[str | None, typer.Option(help="Length of a bar: 1m (the default), 1h, 1d, …")] = None,
    start: Annotated[datetime | None, Moment] = None,
    end: Annotated[datetime | None, Moment] = None,
    base_url: Annotated[str | None, typer.Option(help="A mirror of the archive.")] = None,
    rest_url: Annotated[str | None, typer.Option(help="A mirror of the exchange's REST API.")] = None,
    listing_url: Annotated[str | None, typer.Option(help="A mirror of the archive's listing.")] = None,
    path: Annotated[Path | None, typer.Option(help="A file of the vendor's, or any file for --source files.")] = None,
    exchange: Annotated[str | None, typer.Option(help="The exchange, for --source tardis.")] = None,
    market: Annotated[Literal["trading", "spot"] | None, typer.Option(help="For --source bybit.")] = None,
    data_type: Annotated[str | None, typer.Option(help="The vendor's name of the data, for --source tardis.")] = None,
    match: Annotated[str | None, typer.Option(help="Words of the news, for --source gdelt; else the symbol.")] = None,
    mapping: Annotated[Path | None, typer.Option(help="A TOML file that says how to read --path.")] = None,
    columns: Annotated[list[str] | None, typer.Option("--map", help="E.g. time=Date; once per column.")] = None,
    time_is: Annotated[Literal["open", "close"] | None, typer.Option(help="What the file's times are.")] = None,
    refresh: Annotated[bool, typer.Option("--refresh", help="Ask whether what is stored was published anew.")] = False,
    universe: Annotated[bool, typer.Option("--universe", help="Show the symbols that the source has.")] = False,
    listed: Annotated[bool, typer.Option("--list", help="Show the sources.")] = False,
    json: console.Json = False,
) -> None:
    """Fetch what happened from --start up to --end (UTC); what is stored already is not asked for again."""
    from lab.kinds import KINDS
    from lab.nouns import EVENTS
    from lab.sources import Request, source_named

    if listed:
        _list_sources(json)
        return
    settings: dict[str, object] = {
        "base_url": base_url,
        "rest_url": rest_url,
        "listing_url": listing_url,
        "path": path,
        "exchange": exchange,
        "market": market,
        "data_type": data_type,
        "match": match,
        "mapping": mapping,
        "map": _pairs(columns),
        "time_is": time_is,
        "refresh": refresh,
    }
    chosen = source_named(source, **{name: value for name, value in settings.items() if value})
    wanted = (interval or "1m") if KINDS[kind].gridded else (interval or EVENTS)
    if universe:
        listing = _universe(chosen, source, kind, wanted)
        console.result(listing, json, lambda: console.line("\n".join(listing)))
        return
    if not symbols:
        raise UsageError("no symbol is named", fix=EXAMPLE)
    request = Request(_matching(symbols, chosen, source, kind, wanted), wanted, _span(start, end), kind)
    fetched = list(fetch_into_store(chosen, source, request))
    console.result(fetched, json, lambda: _show(fetched))
    if empty := [row["symbol"] for row in fetched if not row["rows"]]:
        what = kind if wanted == EVENTS else f"{wanted} {kind}"
        raise NoData(f"{source} has no {what} of {', '.join(empty)} there", fix="check the symbol and dates")


def fetch_into_store(chosen: "Source", source: str, request: "Request") -> Iterator[dict[str, Any]]:
    """Fetch and store piece by piece; then, for each symbol, what came and what the store now has."""
    from lab import store

    tables = {
        symbol: store.TableName(DATA, source, symbol, request.interval, request.kind) for symbol in request.symbols
    }
    for table in tables.values():
        store.sweep(table)
    before = {symbol: store.holding(table) for symbol, table in tables.items()}
    done = {origin: digest for table in tables.values() for origin, digest in store.done(table).items()}
    came, absent = Counter[str](), defaultdict[str, list[str]](list)
    stored = store.commit_as_they_come(DATA, source, chosen.fetch(request, done), _command())
    for piece in console.progress(stored, chosen.count(request), f"fetching from {source}"):
        came[piece.symbol] += 1
        if piece.table is None:
            absent[piece.symbol].append(piece.origin)
    for symbol, table in tables.items():
        store.note_absent(table, absent[symbol])
        held, earlier = store.holding(table), before[symbol]
        yield {
            "symbol": symbol,
            "pieces": came[symbol],
            "rows_before": earlier.rows if earlier else None,
            "absent_now": absent[symbol],
            **(asdict(held) if held else {"rows": 0}),
        }


def _list_sources(json: bool) -> None:
    from lab.sources import described

    sources = described()
    rows = [{"source": name, "kinds": list(kinds), "has": meaning} for name, kinds, meaning in sources]
    columns = ("source", "kinds", "what it has")
    console.result(
        rows, json, lambda: console.table([(name, ", ".join(kinds), has) for name, kinds, has in sources], columns)
    )


def _universe(chosen: "Source", source: str, kind: str, interval: str) -> list[str]:
    listing = getattr(chosen, "symbols", None)
    if listing is None:
        raise UsageError(f"{source} does not list its symbols", fix="name the symbols you want")
    found: list[str] = listing(kind, interval)
    return found


def _matching(wanted: list[str], chosen: "Source", source: str, kind: str, interval: str) -> tuple[str, ...]:
    """The symbols that were named, patterns such as '*USDT' replaced by what the source has of them."""
    if not any(set("*?[") & set(text) for text in wanted):
        return tuple(dict.fromkeys(wanted))
    known = _universe(chosen, source, kind, interval)
    matches = [symbol for text in wanted for symbol in known if fnmatchcase(symbol, text)]
    if not matches:
        raise NoData(f"{source} has no symbol like {' '.join(wanted)}", fix=f"lab fetch --universe --source {source}")
    return tuple(dict.fromkeys(matches))


def _show(fetched: list[dict[str, Any]]) -> None:
    for row in fetched:
        if row["rows"]:
            _show_one(row)


def _show_one(row: dict[str, Any]) -> None:
    news = f"{row['rows'] - (row['rows_before'] or 0):+,} rows" if row["pieces"] else "already here"
    what = row["kind"] if row["interval"] == "events" else row["interval"]
    verb = "closed" if row["kind"] == "bars" else "from"
    console.line(
        f"{row['symbol']} {what}: {news}; {row['rows']:,} in all, "
        f"{verb} {row['first']:%Y-%m-%d %H:%M} to {row['last']:%Y-%m-%d %H:%M}"
    )
    if row["missing"]:
        console.line(f"  missing: {row['missing']:,} that were due; where and why: lab data gaps {row['symbol']}")
    if row["repeats"]:
        console.line(f"  repeats: {row['repeats']:,} exact copies of a row dropped")
    if row["rejected"]:
        console.line(f"  rejected: {row['rejected']:,} rows, kept with the reason in {DATA / 'quarantine'}")
    if absent := row["absent_now"]:
        console.line(f"  absent at the source: {len(absent)}, {absent[0]} to {absent[-1]}")


def _command() -> str:
    return shlex.join(["lab", *sys.argv[1:]])


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
