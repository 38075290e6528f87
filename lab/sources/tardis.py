"""Tardis.dev's CSV datasets: one gzip a day, symbol and type of data, cut and sorted by when rows arrived.

Columns and rules: https://docs.tardis.dev/downloadable-csv-files/data-types
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import ClassVar

import polars as pl

from lab.errors import UsageError
from lab.kinds import level_columns
from lab.nouns import Piece, Span
from lab.sources import Request
from lab.sources.order_book import LevelBook
from lab.sources.rows import moment
from lab.sources.vendor import (
    DAY,
    FINE,
    VendorFile,
    changes,
    cut,
    day_of,
    days,
    given,
    hours,
    numbered,
    only_symbol,
    piece_of,
    storable,
    stray,
    with_empty,
)
from lab.sources.web import PATIENT, Connections, Patience, connections, get

COMMON = ("exchange", "symbol", "timestamp", "local_timestamp")
TRADE = ("id", "side", "price", "amount")
QUOTE = {"bid_price": "bid", "bid_amount": "bid_size", "ask_price": "ask", "ask_amount": "ask_size"}
UPDATE = ("is_snapshot", "side", "price", "amount")
TICKER = ("funding_timestamp", "funding_rate", "open_interest")  # besides those that lab does not keep
# The types of data that hold a kind; the first is downloaded unless `data_type` names another.
TYPES: Mapping[str, tuple[str, ...]] = {
    "trades": ("trades",),
    "quotes": ("quotes", "book_ticker"),
    "books": ("book_snapshot_25", "book_snapshot_5", "incremental_book_L2"),
    "funding": ("derivative_ticker",),
    "metrics": ("derivative_ticker",),
    "liquidations": ("liquidations",),
}
KEYED = ("funding", "metrics")  # of the others a piece speaks for its span
LEVELS = 25  # of a rebuilt book
BYTES_AT_MOST = 1 << 30  # of a packed day
PUBLISHED_AFTER = 2 * DAY
WHOLE_NUMBERS = ("timestamp", "local_timestamp", "funding_timestamp")
TEXTS = ("exchange", "symbol", "id", "side", "is_snapshot")


@dataclass(frozen=True)
class Tardis:
    """Tardis.dev days: trades, quotes, books, funding, open interest, liquidations; downloaded, or --path FILE.

    Without a key of Tardis's only the first day of each month can be downloaded. `time` is the exchange's stamp,
    `known_at` when Tardis had the row. Symbols are written as in Tardis's addresses: `-` for `/` and `:`. Books are
    as recorded, or rebuilt to 25 levels from every change (incremental_book_L2); crossed states of those are
    rejected. A row of funding is a rate foretold for `time`, which is the change itself where the exchange names no
    time of payment; open interest is in the exchange's own unit. Rows whose day by the exchange's stamp is not their
    file's are rejected. A day with more rows than the memory can hold comes as one piece an hour.
    """

    path: Path | None = None
    base_url: str = "https://datasets.tardis.dev/v1"
    exchange: str | None = None
    data_type: str | None = None
    patience: Patience = PATIENT

    kinds: ClassVar[tuple[str, ...]] = tuple(TYPES)

    def count(self, request: Request) -> int:
        return 1 if self.path else len(request.symbols) * len(days(request.bounded()))

    def fetch(self, request: Request, done: Mapping[str, str]) -> Iterator[Piece]:
        request.of_kind(*self.kinds)
        for symbol in request.symbols:
            if not re.fullmatch(r"[A-Za-z0-9._-]+", symbol):
                known = re.sub(r"[^A-Za-z0-9._-]", "-", symbol)
                raise UsageError(f"no symbol is stored as {symbol!r}", fix=f"write it as Tardis does: {known}")
        if self.path is None:
            yield from self._downloaded(request, done)
            return
        file, symbol = given(self.path), only_symbol(request.symbols)
        day = day_of(file, "local_timestamp")
        origin = f"{file.name} {symbol} {file.digest[:16]}"
        # Whoever gives a file may have cut it, so it speaks for no more than the rows it has.
        yield from self._pieces(file, origin, symbol, request.kind, day, done, complete=False)

    def _downloaded(self, request: Request, done: Mapping[str, str]) -> Iterator[Piece]:
        held = self._type_of(request.kind)
        if self.exchange is None or not re.fullmatch(r"[a-z0-9-]+", self.exchange):
            raise UsageError("which exchange?", fix="add --exchange NAME, e.g. binance-futures, or --path FILE")
        now = datetime.now(UTC)
        with connections() as pools:
            for symbol in request.symbols:
                for day in days(request.bounded()):
                    origin = f"{self.exchange}/{held}/{day.start:%Y/%m/%d}/{symbol}.csv.gz"
                    if day.end <= now and not _is_done(origin, day, done):
                        yield from self._day(pools, origin, symbol, request.kind, day, done)

    def _day(
        self, pools: Connections, origin: str, symbol: str, kind: str, day: Span, done: Mapping[str, str]
    ) -> Iterator[Piece]:
        url = f"{self.base_url.rstrip('/')}/{origin}"
        body = get(pools, url, at_most=BYTES_AT_MOST, patience=self.patience)
        if body is not None:
            yield from self._pieces(VendorFile(origin, body), origin, symbol, kind, day, done, complete=True)
        elif day.end + PUBLISHED_AFTER <= datetime.now(UTC):
            yield Piece(symbol, origin, "", None)

    def _pieces(
        self,
        file: VendorFile,
        origin: str,
        symbol: str,
        kind: str,
        day: Span | None,
        done: Mapping[str, str],
        *,
        complete: bool,
    ) -> Iterator[Piece]:
        """What is missing of a file's rows: as one piece, or where they are many, as one for each hour."""
        if day is None or not file.header():
            if origin not in done:
                yield Piece(symbol, origin, file.digest, None)
            return
        if _is_done(origin, day, done):
            return
        parts = hours(day) if file.is_large and kind not in KEYED else [day]
        for part, rows in with_empty(parts, cut(self._rows(file, kind, symbol), parts, "known_at")):
            name = _named(origin, part)
            if name in done:
                continue
            if rows is None:
                yield Piece(symbol, name, file.digest, None)
                continue
            suspect = pl.col("wrong") if kind in KEYED else pl.coalesce("wrong", stray(part))
            span = part if complete and kind not in KEYED else None
            yield piece_of(kind, symbol, name, file.digest, rows, suspect=suspect, span=span)

    def _rows(self, file: VendorFile, kind: str, symbol: str) -> Iterator[pl.DataFrame]:
        names = file.header()
        held = _type_of_columns(file, names)
        if held not in TYPES[kind]:
            kinds = " or ".join(kind for kind, types in TYPES.items() if held in types)
            raise UsageError(f"{file.name} holds {held}, not {kind}", fix=f"ask for --kind {kinds}")
        frames = (self._own(file, frame, symbol) for frame in file.frames(names, _types(held, names), skip=1))
        if held == "incremental_book_L2":
            return _rebuilt(frames)
        if held == "derivative_ticker":
            return _fundings(frames) if kind == "funding" else _interests(frames)
        if held in ("trades", "liquidations"):
            return _trades(frames, kind)
        own = QUOTE if held == "quotes" else _snapshot(int(held.rpartition("_")[2]))
        return (frame.select("line", "time", "known_at", FINE, **_renamed(own)) for frame in frames)

    def _own(self, file: VendorFile, frame: pl.DataFrame, symbol: str) -> pl.DataFrame:
        """The rows of `symbol`, with `time` and `known_at`; a file that begins without any is another symbol's."""
        rows = frame.filter(storable(pl.col("symbol")) == symbol)
        if rows.is_empty() and frame["line"].first() == 1:
            held = ", ".join(frame["symbol"].drop_nulls().unique(maintain_order=True).head(10))
            raise UsageError(f"{file.name} has no rows of {symbol}", fix=f"ask for one of {held}")
        if rows["symbol"].n_unique() > 1:
            file.refuse(f"{' and '.join(rows['symbol'].unique().sort())} would both be stored as {symbol}")
        if self.exchange and (others := {*rows["exchange"].drop_nulls()} - {self.exchange}):
            file.refuse(f"it is of {', '.join(sorted(others))}, not of {self.exchange}")
        return rows.with_columns(time=moment(pl.col("timestamp")), known_at=moment(pl.col("local_timestamp")))

    def _type_of(self, kind: str) -> str:
        if self.data_type is None:
            return TYPES[kind][0]
        if self.data_type not in TYPES[kind]:
            raise UsageError(f"{self.data_type} holds no {kind}", fix=f"choose {' or '.join(TYPES[kind])}")
        return self.data_type


def _named(origin: str, part: Span) -> str:
    return origin if part.end - part.start == DAY else f"{origin} {part.start:%Y-%m-%dT%H}"


def _is_done(origin: str, day: Span, done: Mapping[str, str]) -> bool:
    return origin in done or all(_named(origin, hour) in done for hour in hours(day))


def _type_of_columns(file: VendorFile, names: list[str]) -> str:
    """What a file holds, by its header; trades and liquidations, which look the same, by its name too."""
    own = {*names} - {*COMMON}
    known = {
        "quotes": {*QUOTE},
        "incremental_book_L2": {*UPDATE},
        **{f"book_snapshot_{levels}": {*_snapshot(levels)} for levels in (5, 25)},
        "liquidations" if "liquidations" in file.name else "trades": {*TRADE},
    }
    found = [held for held, columns in known.items() if own == columns and {*COMMON} < {*names}]
    if own >= {*TICKER} and {*COMMON} < {*names}:
        return "derivative_ticker"
    return found[0] if found else file.refuse(f"it begins with {','.join(names)[:80]!r}, no header of Tardis's")


def _types(held: str, names: list[str]) -> dict[str, pl.DataType]:
    read = [*COMMON, *TICKER] if held == "derivative_ticker" else names
    typed = {name: pl.Int64() if name in WHOLE_NUMBERS else pl.Float64() for name in read if name not in TEXTS}
    return {**typed, **{name: pl.String() for name in read if name in TEXTS}}


def _snapshot(levels: int) -> dict[str, str]:
    """What the columns of a book snapshot are called here."""
    kinds = ("bids[{}].price", "bids[{}].amount", "asks[{}].price", "asks[{}].amount")
    theirs = [name.format(level) for level in range(levels) for name in kinds]
    return dict(zip(theirs, level_columns(levels), strict=True))


def _renamed(ours: Mapping[str, str]) -> dict[str, pl.Expr]:
    return {name: pl.col(theirs) for theirs, name in ours.items()}


def _trades(frames: Iterator[pl.DataFrame], kind: str) -> Iterator[pl.DataFrame]:
    """Trades or liquidations; without ids, equal rows are no repeats, so the number of the line tells them apart."""
    identity: dict[str, pl.Expr] = {}
    sides = {"buy": 1, "sell": -1, **({"unknown": 0} if kind == "trades" else {})}
    for frame in frames:
        identity = identity or _identity(frame["id"], kind)
        yield frame.select(
            "time",
            "known_at",
            "price",
            size="amount",
            side=pl.col("side").replace_strict(sides, default=None, return_dtype=pl.Int8),
            **{"wrong": FINE, **identity},
        )


def _identity(ids: pl.Series, kind: str) -> dict[str, pl.Expr]:
    """How rows of a file whose first ids are these are told apart."""
    first = ids.drop_nulls().first()
    if first is None:
        return {"line": pl.col("line")}
    if kind == "liquidations" or not numbered(str(first)):
        return {"uid": pl.col("id")}
    number = pl.col("id").cast(pl.Int64, strict=False)
    return {"id": number, "wrong": pl.when(number.is_null()).then(pl.lit("its id is no number, as the first one is"))}


def _fundings(frames: Iterator[pl.DataFrame]) -> Iterator[pl.DataFrame]:
    told = (frame.filter(pl.col("funding_rate").is_not_null()) for frame in frames)
    paid = pl.coalesce(moment(pl.col("funding_timestamp")), "time")
    for rows in changes(told, ["funding_rate", "funding_timestamp"]):
        yield rows.select("known_at", FINE, time=paid, rate="funding_rate")


def _interests(frames: Iterator[pl.DataFrame]) -> Iterator[pl.DataFrame]:
    told = (frame.filter(pl.col("open_interest").is_not_null()) for frame in frames)
    return (rows.select("time", "known_at", "open_interest", FINE) for rows in changes(told, ["open_interest"]))


def _rebuilt(frames: Iterator[pl.DataFrame]) -> Iterator[pl.DataFrame]:
    """The best levels whenever something arrived that changed them; rows of the file that tell no change."""
    book = LevelBook(LEVELS)
    usable = (
        pl.col("side").is_in(["bid", "ask"])
        & pl.col("is_snapshot").is_in(["true", "false"])
        & pl.col("price").is_finite()
        & (pl.col("amount").is_finite() & (pl.col("amount") >= 0))
    ).fill_null(False)
    crossed = pl.when(pl.col("bid_1") >= pl.col("ask_1")).then(pl.lit("a crossed book: some change is missing"))
    stamps = ["line", "time", "known_at"]
    for rows in _whole_arrivals(frames):
        updates = rows.filter(usable)
        arrays = updates.select(
            "price",
            size="amount",
            bid=pl.col("side") == "bid",
            snapshot=pl.col("is_snapshot") == "true",
            ends=pl.col("known_at").ne_missing(pl.col("known_at").shift(-1)) | (pl.int_range(pl.len()) == pl.len() - 1),
        )
        states = book.apply(**{column.name: column.to_numpy() for column in arrays})
        seen = updates.select(stamps)[states["row"]].hstack(states.drop("row"))
        useless = rows.filter(~usable).select(*stamps, wrong=pl.lit("an update without a side, a price or an amount"))
        yield pl.concat([seen.with_columns(wrong=crossed), useless], how="diagonal")


def _whole_arrivals(frames: Iterator[pl.DataFrame]) -> Iterator[pl.DataFrame]:
    """The same rows, cut where another moment of arrival begins."""
    held = pl.DataFrame()
    for frame in frames:
        rows = pl.concat([held, frame], how="diagonal")
        begins = pl.arg_where(pl.col("known_at").ne_missing(pl.col("known_at").shift(1)))
        last = rows.select(begins.last().fill_null(0)).item()
        yield rows.head(last)
        held = rows.tail(rows.height - last)
    yield held


tardis = Tardis()
