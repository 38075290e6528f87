"""Bars and trades of an exchange, page by page, so that nothing is lost between or beside the pages.

Times here are whole milliseconds since 1970, as ccxt writes them. What each exchange does with a range of time, its
limits and its running bar: https://docs.ccxt.com, and each exchange's own reference.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from lab.errors import NoData, SourceError, UsageError
from lab.sources.exchanges.line import Line
from lab.sources.vendor import numbered
from lab.sources.web import LATER

BarRow = list[Any]  # its opening time or None, open, high, low, close and volume
TradeRow = tuple[int, str | None, float | None, float | None, int]  # time, id, price, size, side
ROWS_UNSTATED = 100  # asked for at once where ccxt does not say how many an exchange hands out
SHORT_OF_ROWS = 100  # rows from which on an answer may have ended at a limit that ccxt does not know
HOUR_MS = 3_600_000
SIDES = {"buy": 1, "sell": -1}
# ccxt hands on the side that Coinbase's own interface names, without saying whose it is.
UNSIGNED = ("coinbase",)
OLDER = {"kraken": ", or take older ones from Kraken's files: --source kraken --path FILE"}


@dataclass(frozen=True)
class BarPages:
    """The bars of one market: how they are asked for, and how much of them at once."""

    line: Line
    market: str
    interval: str
    length: int
    now: int

    def between(self, start: int, end: int) -> Iterator[list[BarRow]]:
        """Pages that together hold every bar the exchange has that opens in [start, end), and perhaps others.

        An empty page is no end. A part of a page's window that a well-filled page leaves out is asked for again. An
        exchange that cannot go back as far, or does not heed what it is asked, raises NoData.
        """
        width = (self._limit or ROWS_UNSTATED) * self.length
        windows = [(opened, min(opened + width, end)) for opened in range(start, end, width)][::-1]
        while windows:
            window = windows.pop()
            rows = self._page(*window)
            yield rows
            inside = [time for time in _times(rows) if window[0] <= time < window[1]]
            if len(inside) >= (SHORT_OF_ROWS if self._limit else 1):
                parts = (inside[-1] + self.length, window[1]), (window[0], inside[0])
                windows += [part for part in parts if part[0] < part[1] and part != window]

    @property
    def _limit(self) -> int | None:
        """Rows that an answer holds at most, where ccxt says so."""
        stated = self.line.exchange.feature_value(self.market, "fetchOHLCV", "limit")
        return stated if isinstance(stated, int) else None

    @property
    def _heeds_end(self) -> bool:
        return "params.until" in (self.line.exchange.fetch_ohlcv.__doc__ or "")

    def _page(self, start: int, end: int) -> list[BarRow]:
        until = {"until": end - 1} if self._heeds_end else {}
        rows = self.line.ask("fetch_ohlcv", self.market, self.interval, start, self._limit, until)
        if not isinstance(rows, list) or not all(map(_is_bar, rows)):
            raise SourceError(f"{self.line.name} answered {str(rows)[:60]!r}, which are no bars", fix=LATER)
        times = _times(rows)
        if times and times[0] > start and times[-1] > end and self._is_all_there_is(times):
            first, last = _text(times[0]), _text(times[-1])
            raise NoData(
                f"{self.line.name} was asked for {self.interval} bars of {self.market} from {_text(start)} to "
                f"{_text(end)} and answered with {len(times)} from {first} to {last}: it goes back no further",
                fix=f"add --start {first[:16]}{OLDER.get(self.line.name, '')}",
            )
        return rows

    def _is_all_there_is(self, times: list[int]) -> bool:
        """Whether bars from beyond the window show that the exchange hands out only its newest."""
        if self._heeds_end:
            return True
        return len(times) >= (self._limit or ROWS_UNSTATED) - 1 and times[-1] + 3 * self.length > self.now


@dataclass(frozen=True)
class Forwards:
    """How an exchange hands out trades from a moment on, oldest first.

    `rows` at most in one answer, of `window` ms at most; `more` are its own parameters for what ccxt's do not say.
    """

    rows: int
    window: int = 24 * HOUR_MS
    more: Callable[[int, int], Mapping[str, Any]] = field(default=lambda start, end: {"until": end})


_BINANCE = Forwards(1000, HOUR_MS)
FORWARDS = {
    **dict.fromkeys(("binance", "binanceus", "binanceusdm", "binancecoinm"), _BINANCE),
    "bitfinex": Forwards(10_000),
    # ccxt cuts the moment to a second, which may hold more trades than an answer; Kraken itself takes nanoseconds.
    "kraken": Forwards(1000, more=lambda start, end: {"since": str(start * 1_000_000 - 1)}),
}
NEWEST = {"coinbase": 1000, "coinbaseexchange": 1000, "okx": 500}  # trades in one answer, where it must be asked for


def trades_between(line: Line, market: str, start: int, end: int) -> Iterator[list[TradeRow]]:
    """Every trade in [start, end), and perhaps others, in order of time and of number, a few thousand at a time.

    From an exchange that hands out trades only from now backwards, what its newest ones reach; NoData where that is
    not as far back as `start`.
    """
    if way := FORWARDS.get(line.name):
        return _forwards(line, market, way, start, end)
    return iter([_newest(line, market, start)])


def _forwards(line: Line, market: str, way: Forwards, start: int, end: int) -> Iterator[list[TradeRow]]:
    cursor, last = start, list[TradeRow]()
    while cursor < end:
        window_end = min(cursor + way.window, end)
        answer = _trades(line, market, cursor, way.rows, way.more(cursor, window_end))
        page = [trade for trade in answer if trade[0] >= cursor]
        newest = page[-1][0] if page else cursor
        # The last moment is asked for again, as it may have gone on; what was said of it before is not forgotten.
        known = [trade for trade in last if trade not in page] + page
        if newest > cursor:
            yield [trade for trade in known if trade[0] < newest]
            cursor, last = newest, [trade for trade in known if trade[0] == newest]
            continue
        if len(answer) >= way.rows:
            raise SourceError(
                f"{line.name} has more trades of {market} at {_text(cursor)} than it hands out at once",
                fix="take the exchange's own files, or leave that moment out",
            )
        yield known
        cursor, last = (cursor + 1 if page else window_end), []


def _newest(line: Line, market: str, start: int) -> list[TradeRow]:
    trades = _trades(line, market, None, NEWEST.get(line.name), {})
    if trades and trades[0][0] <= start:
        return trades
    reach = f"its newest {len(trades)}, from {_text(trades[0][0])} on" if trades else "none"
    later = f"add --start {_text(trades[0][0] + 60_000)[:16]}, or " if trades else ""
    raise NoData(
        f"{line.name} was asked for trades of {market} from {_text(start)} on and hands out {reach}",
        fix=f"{later}ask an exchange that keeps them: {', '.join(f'ccxt-{name}' for name in FORWARDS)}",
    )


def _trades(line: Line, market: str, since: int | None, rows: int | None, more: Mapping[str, Any]) -> list[TradeRow]:
    said = line.ask("fetch_trades", market, since, rows, dict(more))
    if not isinstance(said, list) or not all(isinstance(trade, dict) and trade.get("timestamp") for trade in said):
        raise SourceError(f"{line.name} answered {str(said)[:60]!r}, which are no trades", fix=LATER)
    signed = line.name not in UNSIGNED
    trades = [
        (
            trade["timestamp"],
            trade.get("id"),
            trade.get("price"),
            trade.get("amount"),
            SIDES.get(trade.get("side"), 0) if signed else 0,
        )
        for trade in said
    ]
    return sorted(trades, key=lambda trade: (trade[0], int(trade[1]) if trade[1] and numbered(trade[1]) else 0))


def _is_bar(row: Any) -> bool:
    return isinstance(row, list) and len(row) == 6 and (row[0] is None or isinstance(row[0], int))


def _times(rows: list[BarRow]) -> list[int]:
    return sorted(row[0] for row in rows if row[0] is not None)


def check_has(line: Line, kind: str, interval: str, intervals: list[str]) -> None:
    """A UsageError where the exchange has no such kind of data, or not these bars."""
    method = {"bars": "fetchOHLCV", "trades": "fetchTrades"}[kind]
    if line.exchange.has[method] is not True:
        raise UsageError(f"ccxt gets no {kind} from {line.name}", fix="ask for the other kind, or another exchange")
    if kind == "bars" and interval not in line.exchange.timeframes:
        offered = [name for name in intervals if name in line.exchange.timeframes]
        raise UsageError(f"{line.name} has no {interval} bars", fix=f"choose one of {', '.join(offered)}")


def _text(milliseconds: int) -> str:
    return f"{datetime.fromtimestamp(milliseconds / 1000, UTC):%Y-%m-%dT%H:%M:%S}"
