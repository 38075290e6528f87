"""Bybit's public archive of trades: a gzip a day, or of early spot markets a month, without checksums.

Layout: https://public.bybit.com
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import ClassVar, Literal

import polars as pl

from lab.errors import UsageError
from lab.nouns import TIME, Piece, Span
from lab.sources import Request, months, next_month
from lab.sources.rows import moment
from lab.sources.vendor import DAY, FINE, VendorFile, days, given, microseconds, only_symbol, piece_of
from lab.sources.web import PATIENT, Connections, Patience, connections, get

DERIVATIVES: Mapping[str, pl.DataType] = {
    **dict.fromkeys(("timestamp", "symbol", "side", "trdMatchID"), pl.String()),
    **dict.fromkeys(("size", "price", "foreignNotional"), pl.Float64()),
}
SPOT: Mapping[str, pl.DataType] = {
    **dict.fromkeys(("id", "timestamp", "side"), pl.String()),
    **dict.fromkeys(("price", "volume"), pl.Float64()),
}
SIDES = {"buy": 1, "sell": -1}
NAME = re.compile(r"([A-Z0-9-]+?)[_-]?(\d{4}-\d{2}(?:-\d{2})?)\.csv\.gz")
BYTES_AT_MOST = 1 << 30  # of a packed file
PUBLISHED_AFTER = 2 * DAY


@dataclass(frozen=True)
class Bybit:
    """Bybit's public trades: derivatives by day (--market trading) or spot (--market spot); downloaded, or --path FILE.

    `side` is the taker's; `size` is in the base coin, of inverse contracts too. Rows are sorted by time, those of one
    time in the file's order. `uid` names a trade, of spot only within its file, as numbers begin anew with each. The
    archive has no checksums: what gzip's own says, and rows outside the day or month that the file is named for, which
    are rejected, are all the proof there is.
    """

    path: Path | None = None
    base_url: str = "https://public.bybit.com"
    market: Literal["trading", "spot"] = "trading"
    patience: Patience = PATIENT

    kinds: ClassVar[tuple[str, ...]] = ("trades",)

    def count(self, request: Request) -> int:
        return 1 if self.path else len(request.symbols) * len(days(request.bounded()))

    def fetch(self, request: Request, done: Mapping[str, str]) -> Iterator[Piece]:
        request.of_kind(*self.kinds)
        for symbol in request.symbols:
            if not re.fullmatch(r"[A-Z0-9-]{1,32}", symbol):
                raise UsageError(f"Bybit has no symbol like {symbol!r}", fix="write it as in BTCUSDT")
        if self.path is not None:
            yield from _given(given(self.path), only_symbol(request.symbols), done)
            return
        with connections() as pools:
            for symbol in request.symbols:
                if self.market == "spot":
                    for part in months(request.bounded()):
                        yield from self._spot(pools, symbol, part, done)
                else:
                    yield from self._daily(pools, symbol, request.bounded(), done)

    def _spot(self, pools: Connections, symbol: str, part: Span, done: Mapping[str, str]) -> Iterator[Piece]:
        """The file of the month where there is one, else those of its days."""
        first = part.start.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
        month = Span(first, next_month(first))
        origin = f"spot/{symbol}/{symbol}-{first:%Y-%m}.csv.gz"
        if origin in done or all(self._origin(symbol, day) in done for day in days(part)):
            return
        if month.end <= datetime.now(UTC) and (piece := self._piece(pools, origin, symbol, month)):
            yield piece
        else:
            yield from self._daily(pools, symbol, part, done)

    def _daily(self, pools: Connections, symbol: str, span: Span, done: Mapping[str, str]) -> Iterator[Piece]:
        now = datetime.now(UTC)
        for day in days(span):
            origin = self._origin(symbol, day)
            if origin in done or day.end > now:
                continue
            if piece := self._piece(pools, origin, symbol, day):
                yield piece
            elif day.end + PUBLISHED_AFTER <= now:
                yield Piece(symbol, origin, "", None)

    def _origin(self, symbol: str, day: Span) -> str:
        link = "_" if self.market == "spot" else ""
        return f"{self.market}/{symbol}/{symbol}{link}{day.start:%Y-%m-%d}.csv.gz"

    def _piece(self, pools: Connections, origin: str, symbol: str, period: Span) -> Piece | None:
        url = f"{self.base_url.rstrip('/')}/{origin}"
        body = get(pools, url, at_most=BYTES_AT_MOST, patience=self.patience)
        return None if body is None else _read(VendorFile(origin, body), origin, symbol, period)


def _given(file: VendorFile, symbol: str, done: Mapping[str, str]) -> Iterator[Piece]:
    said = NAME.fullmatch(file.name)
    if said is None or said[1] != symbol:
        raise UsageError(
            f"{file.name} is not named as a file of {symbol}", fix=f"keep its name, as {symbol}2024-01-31.csv.gz"
        )
    start = datetime.strptime(f"{said[2]}-01"[:10], "%Y-%m-%d").replace(tzinfo=UTC)
    period = Span(start, start + DAY if len(said[2]) == 10 else next_month(start))
    origin = f"{file.name} {file.digest[:16]}"
    if origin not in done:
        yield _read(file, origin, symbol, period)


def _read(file: VendorFile, origin: str, symbol: str, period: Span) -> Piece:
    names = file.header()
    if not names:
        return Piece(symbol, origin, file.digest, None)
    schema = next((columns for columns in (DERIVATIVES, SPOT) if columns.keys() <= {*names}), None)
    if schema is None:
        file.refuse(f"it begins with {','.join(names)[:80]!r}, no header of trades")
    trades = _derivatives(symbol) if schema == DERIVATIVES else _spot()
    blocks = [frame.select(trades) for frame in file.frames(names, schema, skip=1)]
    if not blocks:
        return Piece(symbol, origin, file.digest, None)
    outside = pl.when(~period.covers(pl.col("time"))).then(pl.lit("outside the period that the file is named for"))
    suspect = pl.coalesce("wrong", outside)
    return piece_of("trades", symbol, origin, file.digest, pl.concat(blocks), suspect=suspect, span=period)


def _derivatives(symbol: str) -> list[pl.Expr]:
    size, price, money = pl.col("size"), pl.col("price"), pl.col("foreignNotional")
    # An inverse contract is worth a dollar: its size is money, and what it is worth in coins stands in the last column.
    inverse = (money - size / price).abs() < (money - size * price).abs()
    other = pl.when(pl.col("symbol") != symbol).then(pl.lit(f"not of {symbol}"))
    return [
        *(_time().alias("time"), price, _side().alias("side")),
        pl.when(inverse & (money > 0)).then(money).otherwise(size).alias("size"),
        *(pl.col("trdMatchID").alias("uid"), other.alias("wrong")),
    ]


def _spot() -> list[pl.Expr]:
    named = pl.col("id").alias("uid")
    return [_time().alias("time"), pl.col("price"), pl.col("volume").alias("size"), _side().alias("side"), named, FINE]


def _time() -> pl.Expr:
    text = pl.col("timestamp")
    whole = moment(text.cast(pl.Int64, strict=False))
    return pl.when(text.str.contains(".", literal=True)).then(microseconds(text).cast(TIME)).otherwise(whole)


def _side() -> pl.Expr:
    return pl.col("side").str.to_lowercase().replace_strict(SIDES, default=None, return_dtype=pl.Int8)


bybit = Bybit()
