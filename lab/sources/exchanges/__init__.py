"""Any exchange that ccxt knows: its bars and its trades."""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import ClassVar

import polars as pl

from lab.errors import SourceError, UnknownName
from lab.kinds import KINDS
from lab.nouns import INTERVALS, MICROSECOND, TIME, Bars, Piece, Span, Table, interval_length
from lab.registry import unknown
from lab.sources import Request, months
from lab.sources.exchanges.line import Line, ccxt_itself, line_to
from lab.sources.exchanges.pages import BarPages, BarRow, TradeRow, check_has, trades_between
from lab.sources.rows import sift, sift_kind
from lab.sources.vendor import days, numbered
from lab.sources.web import LATER, PATIENT, Patience

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
SECOND, MILLISECOND = timedelta(seconds=1), timedelta(milliseconds=1)
# So long after its close a bar that is not there is none that is late; so old must a trade be to have none before it.
BARS_COMPLETE_AFTER, TRADES_COMPLETE_AFTER = timedelta(hours=1), timedelta(minutes=1)
STORABLE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,31}")
STAMP = "%Y-%m-%dT%H:%M:%S"
BAR_ROW: Mapping[str, pl.DataType] = {
    "opened": pl.Int64(),
    **dict.fromkeys(("open", "high", "low", "close", "volume"), pl.Float64()),
}
TRADE_ROW: Mapping[str, pl.DataType] = {
    "milliseconds": pl.Int64(),
    "name": pl.String(),
    "price": pl.Float64(),
    "size": pl.Float64(),
    "side": pl.Int8(),
}


@dataclass(frozen=True)
class Exchange:
    """An exchange's own interface, through ccxt (pip install 'lab[ccxt]'): bars, and trades as far back as it has them.

    Symbols are ccxt's with `-` for `/` and `.` for `:`, as in BTC-USD and BTC-USDT.USDT. Bars have no more than a
    volume, in what ccxt counts it (contracts of some futures). An interval that an exchange has no bar for is a gap;
    the running bar is left out, by the exchange's clock where it shows one. Trades are to the millisecond; `side` is
    the taker's, as ccxt makes it out, and 0 where Coinbase's Advanced Trade does not say whose it is (`coinbase`;
    `coinbaseexchange` does); `size` is in contracts on futures. Binance, Kraken and Bitfinex hand out trades from any
    moment on, all others only their newest.
    """

    venue: str
    base_url: str | None = None
    patience: Patience = PATIENT

    kinds: ClassVar[tuple[str, ...]] = ("bars", "trades")

    def count(self, request: Request) -> int:
        span = request.bounded()
        return len(request.symbols) * len(months(span) if request.of_kind(*self.kinds) == "bars" else days(span))

    def symbols(self, kind: str, interval: str) -> list[str]:
        """All symbols that the exchange now trades and the store can hold, sorted."""
        Request((), interval, kind=kind).of_kind(*self.kinds)
        with self._line() as line:
            return sorted(_listed(line))

    def fetch(self, request: Request, done: Mapping[str, str]) -> Iterator[Piece]:
        kind = request.of_kind(*self.kinds)
        step = interval_length(request.interval) if kind == "bars" else SECOND
        asked = _rounded_up(request.bounded(), step)
        titles = {s: f"{self.venue} {s} {request.interval if kind == 'bars' else kind}" for s in request.symbols}
        missing = {symbol: _without(asked, _covered(title, done)) for symbol, title in titles.items()}
        if not any(missing.values()):
            return
        with self._line() as line:
            check_has(line, kind, request.interval, list(INTERVALS))
            listed = _listed(line)
            markets = {symbol: _market(line, listed, symbol) for symbol in request.symbols}
            now = line.now()
            for symbol, spans in missing.items():
                visit = _Visit(line, symbol, markets[symbol], request.interval, titles[symbol], now)
                for span in spans:
                    yield from visit.bars(span, step) if kind == "bars" else visit.trades(span)

    def _line(self) -> AbstractContextManager[Line]:
        return line_to(self.venue, self.base_url, self.patience)


@dataclass(frozen=True)
class _Visit:
    """One fetch of one market: whom it asks, for what, and when it began."""

    line: Line
    symbol: str
    market: str
    interval: str
    title: str
    now: datetime

    def bars(self, span: Span, length: timedelta) -> Iterator[Piece]:
        """A month's bars at a time; while late ones may still come, a piece ends with the last that is there."""
        pages = BarPages(self.line, self.market, self.interval, length // MILLISECOND, _milliseconds(self.now))
        for part in _begun(span, _rounded_down(self.now, length), months):
            bars, rejected, repeats = self._sifted(pages, part, length)
            if bars.frame.is_empty() and rejected.height:
                raise SourceError(
                    f"none of the rows that {self.line.name} has of {self.market} from {part.start} on is a bar; "
                    f"the first of {rejected.height}: {rejected['fault'][0]}",
                    fix=LATER,
                )
            end = part.end
            if end + BARS_COMPLETE_AFTER > self.now:
                if bars.frame.is_empty():
                    continue
                end = bars.closes[1]
            table = None if bars.frame.is_empty() else bars
            digest = bars.digest if table else ""
            yield Piece(self.symbol, _origin(self.title, Span(part.start, end)), digest, table, rejected, repeats)

    def trades(self, span: Span) -> Iterator[Piece]:
        """A day's trades at a time."""
        for part in _begun(span, _rounded_down(self.now - TRADES_COMPLETE_AFTER, SECOND), _days_within):
            pages = trades_between(self.line, self.market, _milliseconds(part.start), _milliseconds(part.end))
            rows = _named(pl.concat([_trade_frame([]), *map(_trade_frame, pages)]))
            rows = rows.filter(part.covers(pl.col("time"))).with_columns(symbol=pl.lit(self.symbol))
            origin = _origin(self.title, part)
            if rows.is_empty():
                yield Piece(self.symbol, origin, "", None)
                continue
            good, rejected, repeats = sift_kind(KINDS["trades"], rows)
            table = Table("trades", good)
            yield Piece(self.symbol, origin, table.digest, table, rejected, repeats, part)

    def _sifted(self, pages: BarPages, part: Span, length: timedelta) -> tuple[Bars, pl.DataFrame, int]:
        rows = _latest_first(pages.between(_milliseconds(part.start), _milliseconds(part.end)))
        frame = pl.DataFrame(rows, schema=BAR_ROW, orient="row", strict=False)
        opened = pl.from_epoch("opened", "ms").cast(pl.Datetime("us")).dt.replace_time_zone("UTC")
        frame = frame.filter(part.covers(opened) | opened.is_null()).with_columns(
            symbol=pl.lit(self.symbol), time=opened + length
        )
        off_grid = pl.col("time").dt.epoch("us") % (length // MICROSECOND) != 0
        suspect = pl.when(off_grid).then(pl.lit(f"not on the grid of {self.interval} bars"))
        return sift(frame.drop("opened"), self.interval, "continuous", suspect=suspect)


def _latest_first(pages: Iterable[list[BarRow]]) -> list[BarRow]:
    """The rows of all pages, those answered last before others, without what an earlier page says like a later one."""
    rows, said = list[BarRow](), set[tuple[object, ...]]()
    for page in reversed(list(pages)):
        rows += [row for row in page if tuple(row) not in said]
        said.update(map(tuple, page))
    return rows


def exchange_named(identifier: str) -> Exchange:
    """The exchange that ccxt calls so; another name is an UnknownName."""
    known = ccxt_itself().exchanges
    if identifier not in known:
        raise unknown("exchange", identifier, known)
    return Exchange(identifier)


def _listed(line: Line) -> dict[str, str]:
    """Symbols as the store can hold them → ccxt's; those that would be another's are left out."""
    listed: dict[str, str] = {}
    for market in line.ask("load_markets"):
        symbol = market.replace("/", "-").replace(":", ".")
        if STORABLE.fullmatch(symbol):
            listed.setdefault(symbol, market)
    return listed


def _market(line: Line, listed: Mapping[str, str], symbol: str) -> str:
    if symbol in listed:
        return listed[symbol]
    if (ours := symbol.replace("/", "-").replace(":", ".")) in listed:
        raise UnknownName(f"{line.name} has no symbol {symbol!r} in a store's spelling", fix=f"write it as {ours}")
    wrong = unknown(f"market of {line.name}", symbol, list(listed))
    raise wrong if wrong.fix.startswith("did") else UnknownName(wrong.problem, fix=f"{line.listing()} lists them")


def _covered(title: str, done: Iterable[str]) -> list[Span]:
    """The stretches of time that finished pieces speak for, from their origins."""
    pattern = re.compile(rf"{re.escape(title)} (\S+) to (\S+)")
    ends = [found.groups() for origin in done if (found := pattern.fullmatch(origin))]
    return sorted((Span(_time(start), _time(end)) for start, end in ends), key=lambda span: span.start)


def _without(whole: Span, covered: list[Span]) -> list[Span]:
    """What of `whole` is in none of `covered`, which are in order."""
    left, start = list[Span](), whole.start
    for span in covered:
        if start < min(span.start, whole.end):
            left.append(Span(start, min(span.start, whole.end)))
        start = max(start, span.end)
    return [*left, Span(start, whole.end)] if start < whole.end else left


def _begun(span: Span, now: datetime, cut: Callable[[Span], list[Span]]) -> list[Span]:
    """The parts of `span` that lie before `now`."""
    return cut(Span(span.start, min(span.end, now))) if span.start < now else []


def _days_within(span: Span) -> list[Span]:
    return [Span(max(day.start, span.start), min(day.end, span.end)) for day in days(span)]


def _rounded_up(span: Span, step: timedelta) -> Span:
    """From the first moment on the grid of `step` that is not before the span to the first that is not inside."""
    start, end = (-((EPOCH - time) // step) * step + EPOCH for time in (span.start, span.end))
    return Span(start, max(end, start + step))


def _rounded_down(time: datetime, step: timedelta) -> datetime:
    return (time - EPOCH) // step * step + EPOCH


def _origin(title: str, span: Span) -> str:
    return f"{title} {span.start:{STAMP}} to {span.end:{STAMP}}"


def _time(stamp: str) -> datetime:
    return datetime.strptime(stamp, STAMP).replace(tzinfo=UTC)


def _milliseconds(time: datetime) -> int:
    return (time - EPOCH) // MILLISECOND


def _trade_frame(trades: list[TradeRow]) -> pl.DataFrame:
    return pl.DataFrame(trades, schema=TRADE_ROW, orient="row", strict=False)


def _named(trades: pl.DataFrame) -> pl.DataFrame:
    """With `id` where every trade has a number, with `uid` where every trade has a name, else with neither."""
    names = trades["name"]
    rows = trades.drop("name", "milliseconds").with_columns(time=(trades["milliseconds"] * 1000).cast(TIME))
    if names.null_count():
        return rows
    if all(map(numbered, names)):
        return rows.with_columns(id=names.cast(pl.Int64))
    return rows.with_columns(uid=names)


coinbase, coinbaseexchange, kraken = Exchange("coinbase"), Exchange("coinbaseexchange"), Exchange("kraken")
bybit, okx, binance, binanceus = Exchange("bybit"), Exchange("okx"), Exchange("binance"), Exchange("binanceus")
bitstamp, bitfinex = Exchange("bitstamp"), Exchange("bitfinex")
