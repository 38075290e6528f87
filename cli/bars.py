"""lab bars: stored trades, quotes and books → bars in data/."""

import shlex
import sys
from collections.abc import Iterator
from dataclasses import asdict, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from cli import console
from cli.fetch import DATA, Moment
from lab.errors import LabError, NoData

if TYPE_CHECKING:
    from lab.nouns import Bars, Piece, Span
    from lab.store import Holding, TableName

Book = Literal["quotes", "books"]
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def bars(
    symbols: Annotated[list[str], typer.Argument(metavar="SYMBOL…", help="E.g. BTCUSDT.")],
    source: Annotated[str, typer.Option(help="Where their trades were fetched from.")] = "binance",
    interval: Annotated[
        str, typer.Option(help="1s, 1m, 1h, …, or tick-100, volume-50, dollar-, imbalance-, run-…")
    ] = "1m",
    book: Annotated[Book | None, typer.Option(help="Add what the order book did, from stored quotes or books.")] = None,
    start: Annotated[datetime | None, Moment] = None,
    end: Annotated[datetime | None, Moment] = None,
    json: console.Json = False,
) -> None:
    """Close bars from the stored trades between --start and --end (UTC), and store them under SOURCE-trades.

    A bar that a later trade may still change is not stored.
    """
    from lab.store import TableName

    rows = []
    for symbol in dict.fromkeys(symbols):
        trades = TableName(DATA, source, symbol, "events", "trades")
        rows.append(close_into_store(trades, interval, book, start, end))
    console.result(rows, json, lambda: _show(rows))
    if empty := [row["symbol"] for row in rows if not row["rows"]]:
        raise NoData(f"no {interval} bar of {', '.join(empty)} has closed", fix="choose a shorter --interval")


def close_into_store(
    trades: "TableName", interval: str, book: Book | None, start: datetime | None, end: datetime | None
) -> dict[str, Any]:
    """Close and store the bars of one symbol, day by day; then, how many closed and what the store now has."""
    from lab import store
    from lab.nouns import MICROSECOND, Span

    held = store.holding(trades)
    if held is None:
        raise NoData(f"the store has no {trades}", fix=trades.command)
    target = store.TableName(trades.root, f"{trades.source}-trades", trades.symbol, interval)
    complete = _complete_until(trades, held)
    span = Span(
        _on_grid(start, interval) if start else held.first,
        _on_grid(end, interval) if end else max(complete, held.last + MICROSECOND),
    )
    before = store.holding(target)
    pieces = closed_days(trades, target, book, span, min(span.end, complete))
    stored = store.commit_as_they_come(target.root, target.source, pieces, shlex.join(["lab", *sys.argv[1:]]))
    days = (span.end - span.start) // timedelta(days=1) + 1
    closed = sum(
        piece.table.frame.height
        for piece in console.progress(stored, days, f"closing {interval} bars of {target.symbol}")
        if piece.table
    )
    after = store.holding(target)
    return {
        "symbol": target.symbol,
        "interval": interval,
        "closed": closed,
        "rows_before": before.rows if before else None,
        **(asdict(after) if after else {"rows": 0}),
    }


def closed_days(
    trades: "TableName", target: "TableName", book: Book | None, span: "Span", until: datetime
) -> "Iterator[Piece]":
    """The bars of each day as a piece; trades before `until` are all there."""
    from lab import store
    from lab.bars import SILENCE, by_day, close_bars, with_book
    from lab.nouns import Piece, Span

    parts = close_bars(store.batches(trades, span), target.interval, until=until)
    made_of = "trades"
    if book:
        parts = with_book(parts, store.batches(replace(trades, kind=book), Span(span.start - SILENCE, span.end)))
        made_of = f"trades and {book}"
    for closes, bars in by_day(parts):
        _refuse_others(target, span, closes, bars)
        origin = f"{made_of} of {target.symbol} from {trades.source}, {closes.start:%Y-%m-%d}"
        yield Piece(target.symbol, origin, bars.digest, bars)


def _on_grid(moment: datetime, interval: str) -> datetime:
    """The first moment from `moment` (UTC) on at which a bar may begin."""
    from lab.nouns import INTERVALS, is_clocked

    known = moment.replace(tzinfo=UTC)
    return known + (EPOCH - known) % INTERVALS[interval] if is_clocked(interval) else known


def _complete_until(trades: "TableName", held: "Holding") -> datetime:
    """Before when the stored trades are all there: the end of the last span that a piece of them speaks for."""
    from lab import store

    spoken = (origin.until for origin in store.origins(trades)[0].values())
    return max([held.last, *(until for until in spoken if until)])


def _refuse_others(target: "TableName", span: "Span", closes: "Span", bars: "Bars") -> None:
    """Stop where the store has bars that these trades do not make: of two cuts one would hold parts of the other."""
    from lab import store
    from lab.nouns import MICROSECOND, Span

    checked = Span(max(closes.start, span.start + MICROSECOND), bars.closes[1] + MICROSECOND)
    try:
        stored = store.read(target, checked)
    except NoData:
        return
    if others := {*stored["time"]} - {*bars.frame["time"]}:
        raise LabError(
            f"the store has {len(others):,} {target}, the first at {min(others):%Y-%m-%d %H:%M:%S.%f}, "
            "that these trades do not make",
            fix=f"remove {target.folder}, then run the same command again",
        )


def _show(rows: list[dict[str, Any]]) -> None:
    for row in rows:
        if not row["rows"]:
            continue
        console.line(
            f"{row['symbol']} {row['interval']}: {row['closed']:,} bars closed, "
            f"{row['rows'] - (row['rows_before'] or 0):+,} rows; {row['rows']:,} in all, "
            f"closed {row['first']:%Y-%m-%d %H:%M} to {row['last']:%Y-%m-%d %H:%M}, from {row['source']}"
        )
        if row["missing"]:
            console.line(f"  without a trade: {row['missing']:,} times in between, so without a bar")
