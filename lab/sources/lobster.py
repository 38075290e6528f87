"""LOBSTER's order-book days of US stocks: a file of messages and, row by row beside it, one of the book after each.

Columns: https://lobsterdata.com/info/DataStructure.php
"""

import hashlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import ClassVar
from zoneinfo import ZoneInfo

import polars as pl

from lab.errors import SourceError, UsageError
from lab.kinds import LEVELS, level_columns
from lab.nouns import TIME, Piece, Span
from lab.sources import Request
from lab.sources.vendor import (
    VendorFile,
    changes,
    cut,
    divided,
    given,
    hours,
    microseconds,
    only_symbol,
    piece_of,
    stray,
    with_empty,
)

MESSAGE = {
    "seconds": pl.String(),
    "type": pl.Int64(),
    "order": pl.Int64(),
    "size": pl.Float64(),
    "price": pl.Int64(),
    "direction": pl.Int64(),
}
NAME = re.compile(r"([A-Za-z0-9.-]+)_(\d{4}-\d{2}-\d{2})_(\d{1,8})_(\d{1,8})_message_(\d{1,3})\.csv(\.gz)?")
TYPES = range(1, 8)  # new, partial cancel, deletion, visible and hidden execution, cross, halt
EXECUTIONS = (4, 5)
EMPTY = 9_999_999_999  # price of a level that is none, negative for bids
UNIT = 10_000  # prices are in 1/10,000 dollar
EXCHANGE = ZoneInfo("America/New_York")


@dataclass(frozen=True)
class Lobster:
    """LOBSTER message and orderbook files of a stock's day (--path the message file): trades, quotes, books.

    Symbol, date and hours come from the file's name, the other file's too. Times are New York's, cut to µs, in the
    file's order; `id` is the number of the message, so that a trade and the book after it have the same. Trades are
    the executions of visible and hidden orders, each with the side of whoever hit the resting order; crosses have no
    such side and, as halts, are no trades here. Quotes and books are rows that differ from the one before.
    """

    path: Path | None = None

    kinds: ClassVar[tuple[str, ...]] = ("trades", "quotes", "books")

    def count(self, request: Request) -> int:
        return len(request.symbols)

    def fetch(self, request: Request, done: Mapping[str, str]) -> Iterator[Piece]:
        kind = request.of_kind(*self.kinds)
        day = _Day.of(given(self.path))
        symbol = only_symbol(request.symbols)
        if symbol != day.symbol:
            raise UsageError(f"{day.messages.name} is of {day.symbol}, not {symbol}", fix=f"ask for {day.symbol}")
        digest = hashlib.sha256((day.messages.digest + day.books.digest).encode()).hexdigest()
        parts = hours(day.span) if day.books.is_large else [day.span]
        origins = {part: f"{day.messages.name} {digest[:16]} {part.start:%H:%M}" for part in parts}
        if all(origin in done for origin in origins.values()):
            return
        day.check_rows()
        for part, rows in with_empty(parts, cut(day.rows(kind), parts, "time")):
            if origins[part] in done:
                continue
            if rows is None:
                yield Piece(symbol, origins[part], digest, None)
                continue
            suspect = pl.coalesce("wrong", stray(part))
            yield piece_of(kind, symbol, origins[part], digest, rows, suspect=suspect, span=part)


@dataclass(frozen=True)
class _Day:
    """The two files of one stock's day and what their names say."""

    messages: VendorFile
    books: VendorFile
    symbol: str
    midnight: datetime
    span: Span
    levels: int

    @classmethod
    def of(cls, messages: VendorFile) -> "_Day":
        said = NAME.fullmatch(messages.name)
        if said is None or not isinstance(messages.data, Path):
            raise UsageError(
                f"{messages.name} is not named as LOBSTER names its messages",
                fix="keep its name, as AMZN_2012-06-21_34200000_57600000_message_10.csv",
            )
        symbol, date, start, end, levels = said.groups()[:5]
        midnight = datetime.fromisoformat(date).replace(tzinfo=EXCHANGE).astimezone(UTC)
        span = Span(*(midnight + timedelta(milliseconds=int(after)) for after in (start, end)))
        if not 1 <= int(levels) <= LEVELS:
            raise UsageError(f"{messages.name} has {levels} levels", fix=f"lab keeps up to {LEVELS}: ask for as many")
        beside = messages.data.with_name(messages.name.replace("_message_", "_orderbook_"))
        return cls(messages, given(beside), symbol, midnight, span, int(levels))

    def check_rows(self) -> None:
        """A SourceError where the files cannot belong together."""
        told, seen = self.messages.count_lines(), self.books.count_lines()
        if told != seen:
            raise SourceError(
                f"{self.messages.name} has {told:,} rows, {self.books.name} has {seen:,}",
                fix="get both files of the same day and request",
            )

    def rows(self, kind: str) -> Iterator[pl.DataFrame]:
        """The rows of one kind, with those of the file that can be none: `wrong` says why."""
        if kind == "trades":
            return self._trades()
        if kind == "books":
            return self._changes(level_columns(self.levels))
        first = dict(zip(level_columns(1), ("bid", "bid_size", "ask", "ask_size"), strict=True))
        return (block.rename(first) for block in self._changes([*first]))

    def _trades(self) -> Iterator[pl.DataFrame]:
        known = pl.col("type").is_in(TYPES).fill_null(False)
        wrong = (
            pl.when(~known)
            .then(pl.lit("no message has such a type"))
            .when(pl.col("direction").abs() != 1)
            .then(pl.lit("an order has the direction 1 or -1"))
        )
        for block in self._messages():
            executed = block.filter(pl.col("type").is_in(EXECUTIONS) | ~known)
            side, price = -pl.col("direction"), divided(pl.col("price"), UNIT)
            yield executed.select("id", "time", "size", price=price, side=side, wrong=wrong)

    def _changes(self, levels: list[str]) -> Iterator[pl.DataFrame]:
        for block in changes(self._together(), [*levels, "unread"]):
            wrong = pl.when(pl.col("unread").is_not_null()).then(pl.lit("a level cannot be read"))
            yield block.select("id", "time", *levels, wrong=wrong)

    def _messages(self) -> Iterator[pl.DataFrame]:
        after = pl.duration(microseconds=microseconds(pl.col("seconds")))
        for frame in self.messages.frames([*MESSAGE], MESSAGE):
            midnight = pl.lit(self.midnight, TIME)
            yield frame.with_columns(id=pl.col("line").cast(pl.Int64), time=(midnight + after).cast(TIME))

    def _together(self) -> Iterator[pl.DataFrame]:
        """The book after each message, whatever blocks the two files come in."""
        theirs = [f"{name}_{n}" for n in range(1, self.levels + 1) for name in ("ask", "ask_size", "bid", "bid_size")]
        unread = pl.when(pl.any_horizontal(pl.col(theirs).is_null())).then("line").alias("unread")
        there = {name: pl.col(_price_of(name)).abs() != EMPTY for name in theirs}
        values = {name: pl.col(name) if "size" in name else divided(pl.col(name), UNIT) for name in theirs}
        levels = [pl.when(there[name]).then(value).alias(name) for name, value in values.items()]
        books = self.books.frames(theirs, dict.fromkeys(theirs, pl.Int64()))
        waiting = pl.DataFrame()
        for block in self._messages():
            while waiting.height < block.height:
                waiting = pl.concat([waiting, next(books)], how="diagonal")
            book = waiting.head(block.height).select(*levels, unread)
            yield block.select("id", "time").hstack(book)
            waiting = waiting.slice(block.height)


def _price_of(size: str) -> str:
    return size.replace("_size", "")


lobster = Lobster()
