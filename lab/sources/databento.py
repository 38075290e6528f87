"""Databento's CSV files: trades, the best levels after each event, or every order.

Columns: https://databento.com/docs/schemas/mbp-10, …/mbo; numbers may be raw integers or written out.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import polars as pl

from lab.errors import UsageError
from lab.kinds import level_columns
from lab.nouns import TIME, Piece, Span
from lab.sources import Request
from lab.sources.order_book import ADD, CANCEL, CLEAR, MODIFY, OrderBook
from lab.sources.rows import moment
from lab.sources.vendor import (
    DAY,
    FINE,
    VendorFile,
    begun,
    changes,
    cut,
    days,
    divided,
    given,
    hours,
    only_symbol,
    onwards,
    piece_of,
    storable,
    stray,
)

STAMPS = ("ts_recv", "ts_event")
EVENT = (*STAMPS, "instrument_id", "action", "side", "price", "size", "flags")
LEVEL = {"bid_px": "bid", "bid_sz": "bid_size", "ask_px": "ask", "ask_sz": "ask_size"}
KINDS_OF: Mapping[str, tuple[str, ...]] = {
    "trades": ("trades",),
    "mbp-1": ("trades", "quotes"),
    "mbp-10": ("trades", "quotes", "books"),
    "mbo": ("trades", "quotes", "books"),
}
TRADE = "T"
SIDES = {"A": -1, "B": 1, "N": 0}  # of a trade: who hit the other side
LAST = 128  # flag: what follows belongs to another event, so the book may be read
UNDEFINED = 2**63 - 1  # a price that is none
PER_UNIT = 10**9  # of a raw price
BOOK_LEVELS = 10
SNAPSHOT = 32
KNOWN = ["A", "C", "M", "R", "T", "F", "N"]
USELESS = ~pl.col("action").is_in(KNOWN).fill_null(False)
UNKNOWN = pl.lit("its action, order, side, price or size cannot be read")
ENDS = (pl.col("flags") & LAST != 0).fill_null(False)
STAMPED = ("line", "time", "known_at")
ACTIONS = {"A": ADD, "C": CANCEL, "M": MODIFY, "R": CLEAR}  # trades and fills change no book: cancels follow them
NO_CHANGE = -1


@dataclass(frozen=True)
class Databento:
    """A Databento CSV (plain, .gz, .zst or zipped; --path): trades, mbp-1 and mbp-10 quotes and books, or mbo.

    `time` is the exchange's stamp, `known_at` when Databento received it, both cut to µs. Quotes and books are read
    at the end of each event and kept where they differ from the one before; from mbo they are rebuilt to 10 levels,
    order by order, which needs a file that begins with a snapshot. Trades have no number of their own, so equal ones
    are no repeats. A file of several symbols must say which is whose. Each day of a file is a piece, or, where the
    rows are many, each hour.
    """

    path: Path | None = None

    kinds: ClassVar[tuple[str, ...]] = ("trades", "quotes", "books")

    def count(self, request: Request) -> int:
        return len(request.symbols)

    def fetch(self, request: Request, done: Mapping[str, str]) -> Iterator[Piece]:
        kind = request.of_kind(*self.kinds)
        file, symbol = given(self.path), only_symbol(request.symbols)
        names = file.header()
        schema = _schema(file, names)
        if kind not in KINDS_OF[schema]:
            raise UsageError(f"{file.name} holds {schema}, which has no {kind}", fix="ask for --kind trades")
        frames = _of_symbol(file, file.frames(names, _types(schema, names), skip=1), symbol)
        first, frames = begun(frames, "known_at")
        if first is None:
            raise UsageError(f"{file.name} has no rows of {symbol}", fix="check --path")
        rows = _trades(frames) if kind == "trades" else _states(file, frames, schema, kind)
        day = days(Span(first, first + DAY))[0]
        parts = onwards(hours(day)[0] if file.is_large else day)
        part = None
        for part, own in cut(rows, parts, "known_at"):
            origin = f"{file.name} {symbol} {file.digest[:16]} {part.start:%Y-%m-%dT%H}"
            if origin not in done:
                suspect = pl.coalesce("wrong", stray(part))
                yield piece_of(kind, symbol, origin, file.digest, own, suspect=suspect)
        if part is None:
            raise UsageError(f"{file.name} has no {kind} of {symbol}", fix="ask for --kind trades")


def _schema(file: VendorFile, names: list[str]) -> str:
    if not {*EVENT} <= {*names}:
        file.refuse(f"it begins with {','.join(names)[:80]!r}, no header of trades, mbp or mbo")
    if "order_id" in names:
        return "mbo"
    return "mbp-10" if "bid_px_09" in names else "mbp-1" if "bid_px_00" in names else "trades"


def _levels(schema: str) -> dict[str, str]:
    """What the columns of a schema's levels are called here."""
    held = {"mbp-1": 1, "mbp-10": 10}.get(schema, 0)
    theirs = [f"{name}_{level:02}" for level in range(held) for name in LEVEL]
    return dict(zip(theirs, level_columns(held), strict=True))


def _types(schema: str, names: list[str]) -> dict[str, pl.DataType]:
    read = [name for name in (*EVENT, "order_id", "symbol", *_levels(schema)) if name in names]
    types: dict[str, pl.DataType] = dict.fromkeys(read, pl.String())
    types |= {name: pl.Int64() for name in read if name in ("flags", "order_id", "instrument_id")}
    return types | {name: pl.Float64() for name in read if name == "size" or "_sz_" in name}


def _of_symbol(file: VendorFile, frames: Iterator[pl.DataFrame], symbol: str) -> Iterator[pl.DataFrame]:
    """The rows of `symbol`, with times and prices as lab has them."""
    instruments: set[int] = set()
    for frame in frames:
        own = frame
        if "symbol" in frame.columns:
            own = frame.filter(storable(pl.col("symbol")) == symbol)
            if own.is_empty() and frame["line"].first() == 1:
                held = ", ".join(frame["symbol"].drop_nulls().unique(maintain_order=True).head(10))
                raise UsageError(f"{file.name} has no rows of {symbol}", fix=f"ask for one of {held}")
        elif len(instruments := instruments | {*frame["instrument_id"].drop_nulls()}) > 1:
            raise UsageError(
                f"{file.name} has several instruments and does not say their symbols",
                fix="ask Databento for the file with its column of symbols (map_symbols)",
            )
        prices = [_price(name) for name in own.columns if name == "price" or "_px_" in name]
        yield own.with_columns(*prices, time=_time(own["ts_event"]), known_at=_time(own["ts_recv"]))


def _time(stamps: pl.Series) -> pl.Expr:
    """Nanoseconds since 1970, or the same written out, cut to µs."""
    text, first = pl.col(stamps.name), stamps.drop_nulls().first()
    if "-" not in str(first):
        return moment(text.cast(pl.Int64, strict=False))
    forms = ("%Y-%m-%dT%H:%M:%S%.fZ", "%Y-%m-%d %H:%M:%S%.f%:z")
    read = [text.str.to_datetime(form, time_unit="ns", time_zone="UTC", strict=False) for form in forms]
    return pl.coalesce(read).cast(TIME)


def _price(name: str) -> pl.Expr:
    text, raw = pl.col(name), pl.col(name).cast(pl.Int64, strict=False)
    written_out = text.str.contains(".", literal=True)
    return (
        pl.when(written_out)
        .then(text.cast(pl.Float64, strict=False))
        .when(raw != UNDEFINED)
        .then(divided(raw, PER_UNIT))
        .alias(name)
    )


def _trades(frames: Iterator[pl.DataFrame]) -> Iterator[pl.DataFrame]:
    side = pl.col("side").replace_strict(SIDES, default=None, return_dtype=pl.Int8)
    for frame in frames:
        trades = frame.filter((pl.col("action") == TRADE) | USELESS)
        yield trades.select(*STAMPED, "price", "size", side=side, wrong=pl.when(USELESS).then(UNKNOWN))


def _states(file: VendorFile, frames: Iterator[pl.DataFrame], schema: str, kind: str) -> Iterator[pl.DataFrame]:
    """The best levels after each event that changed them: of quotes the first, of books all."""
    levels = 1 if kind == "quotes" else BOOK_LEVELS
    events = _whole_events(file, frames)
    states = _rebuilt(events, levels) if schema == "mbo" else _read(events, schema, levels)
    first = dict(zip(level_columns(1), ("bid", "bid_size", "ask", "ask_size"), strict=True))
    return (block.rename(first) for block in states) if kind == "quotes" else states


def _whole_events(file: VendorFile, frames: Iterator[pl.DataFrame]) -> Iterator[pl.DataFrame]:
    """The same rows, cut at ends of events; an event that the file does not end is left out."""
    held = pl.DataFrame()
    for frame in frames:
        rows = pl.concat([held, frame], how="diagonal")
        last = rows.select(pl.arg_where(ENDS).last()).item()
        if last is None and frame.height:
            file.refuse(f"none of {rows.height:,} rows from line {rows['line'][0]} on ends an event (flag {LAST})")
        whole = 0 if last is None else last + 1
        yield rows.head(whole)
        held = rows.tail(rows.height - whole)


def _read(events: Iterator[pl.DataFrame], schema: str, levels: int) -> Iterator[pl.DataFrame]:
    """States as the file has them. That of a trade is from before it, so it counts for nothing."""
    ours = level_columns(levels)
    there = {name: pl.col(name.replace("_size", "")).is_not_null() for name in ours}
    renamed = {theirs: name for theirs, name in _levels(schema).items() if name in ours}
    for block in changes(_last_of_each(events, renamed), [*ours, "useless"]):
        held = [pl.when(there[name]).then(name).alias(name) for name in ours]
        yield block.select(*STAMPED, *held, wrong=pl.when(pl.col("useless").is_not_null()).then(UNKNOWN))


def _last_of_each(events: Iterator[pl.DataFrame], renamed: Mapping[str, str]) -> Iterator[pl.DataFrame]:
    """The last row of each event that is no trade, known when the event was over; and the rows that tell nothing."""
    for block in events:
        rows = block.rename(renamed).with_columns(event=ENDS.shift(1, fill_value=False).cum_sum())
        rows = rows.with_columns(pl.col("known_at").last().over("event"), useless=pl.when(USELESS).then("line"))
        states = rows.filter(~USELESS & (pl.col("action") != TRADE)).unique("event", keep="last")
        yield pl.concat([states, rows.filter(USELESS)]).sort("line")


def _rebuilt(events: Iterator[pl.DataFrame], levels: int) -> Iterator[pl.DataFrame]:
    """States of a book that is kept order by order from the first snapshot or clearing on."""
    book, begun = OrderBook(levels), False
    places = pl.col("action").is_in(["A", "M"])
    complete = pl.col("order_id").is_not_null() & (pl.col("size") >= 0) & pl.col("size").is_finite()
    placed = complete & pl.col("price").is_finite() & pl.col("side").is_in(["A", "B"])
    action = pl.col("action").replace_strict(ACTIONS, default=NO_CHANGE, return_dtype=pl.Int64)
    told = (
        pl.when(places).then(placed).when(action == CANCEL).then(complete).otherwise(True).fill_null(False) & ~USELESS
    )
    starts = (action == CLEAR) | (pl.col("flags") & SNAPSHOT != 0)
    for block in events:
        start = block.select(pl.arg_where(starts).first()).item()
        if not begun and start is None:
            continue
        rows = block if begun else block.slice(start)
        begun = True
        arrays = rows.select(
            action=pl.when(told).then(action).otherwise(NO_CHANGE),
            order=pl.col("order_id").fill_null(0),
            bid=(pl.col("side") == "B").fill_null(False),
            price=pl.col("price").fill_null(0.0),
            size=pl.col("size").fill_null(0.0),
            ends=ENDS,
        )
        states = book.apply(**{column.name: column.to_numpy() for column in arrays})
        seen = rows.select(*STAMPED, FINE)[states["row"]].hstack(states.drop("row"))
        useless = rows.filter(~told).select(*STAMPED, wrong=UNKNOWN)
        yield pl.concat([seen, useless], how="diagonal")


databento = Databento()
