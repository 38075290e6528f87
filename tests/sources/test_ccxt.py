"""Exchanges through the real ccxt, against servers that answer as the exchanges do, and as they do on bad days."""

import json
import random
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler
from itertools import chain, repeat
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import polars as pl
import pytest

from lab import store
from lab.errors import LabError, NoData, SourceError, UnknownName, UsageError
from lab.nouns import TIME, Piece, Span, Table
from lab.sources import Request, Source
from lab.sources.exchanges import Exchange, exchange_named
from lab.sources.exchanges.line import redirected
from lab.sources.web import Patience
from tests.archive import Archive, Fault, cut_short, dripping_body, dripping_header, html, send, serving, status, utc
from tests.exchange import EXCHANGES, Bar, Market, Trade, bybit, coinbaseexchange, made_up

ccxt = pytest.importorskip("ccxt", reason="the optional extra `ccxt` is not installed")

START = utc(2024, 3, 1)
MINUTE, SECOND = timedelta(minutes=1), timedelta(seconds=1)
HASTY = Patience(tries=4, total=4.0, silence=1.0, first_wait=0.01)
CANDLES = "products/BTC-USD/candles"


@pytest.fixture(autouse=True)
def no_pace(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """The servers here bear any pace; one test is about keeping it."""
    if "at_its_pace" not in request.node.name:
        monkeypatch.setattr(ccxt.Exchange, "throttle", lambda *_: None)


@pytest.fixture
def archive(tmp_path: Path) -> Iterator[Archive]:
    with serving(tmp_path / "archive") as served:
        served.server.RequestHandlerClass.disable_nagle_algorithm = True  # else each answer waits 40 ms
        yield served


def at(archive: Archive, name: str) -> Exchange:
    return Exchange(name, archive.url, HASTY)


def play(archive: Archive, name: str, market: Market) -> tuple[Exchange, str]:
    answer, symbol = EXCHANGES[name]
    answer(archive, market)
    return at(archive, name), symbol


def bars_of(source: Source, symbol: str, span: Span, done: Iterable[str] = (), interval: str = "1m") -> list[Piece]:
    return list(source.fetch(Request((symbol,), interval, span), dict.fromkeys(done, "")))


def trades_of(source: Source, symbol: str, span: Span, done: Iterable[str] = ()) -> list[Piece]:
    return list(source.fetch(Request((symbol,), "events", span, "trades"), dict.fromkeys(done, "")))


def minutes(count: float, start: datetime = START) -> Span:
    return Span(start, start + count * MINUTE)


def frame(pieces: Iterable[Piece]) -> pl.DataFrame:
    return pl.concat([piece.table.frame for piece in pieces if piece.table is not None])


def as_published(symbol: str, bars: list[Bar], step: int = 60) -> list[tuple[object, ...]]:
    return [
        (symbol, datetime.fromtimestamp(b.opened + step, UTC), b.open, b.high, b.low, b.close, b.volume) for b in bars
    ]


def candle_requests(archive: Archive) -> list[tuple[str, str]]:
    """The ranges that candles of Coinbase were asked for, as HH:MM."""
    queries = [parse_qs(urlsplit(path).query) for path in archive.requests if path.startswith(CANDLES)]
    return [(query["start"][0][11:16], query["end"][0][11:16]) for query in queries]


@contextmanager
def law_case(folder: Path) -> Iterator[tuple[Source, Request]]:
    """Two months of hourly bars with a hole, of an exchange that is there until the end of the block."""
    with serving(folder) as archive:
        coinbaseexchange(archive, made_up(utc(2024, 2, 1), 60 * 24, 3600, without=range(200, 230)))
        yield at(archive, "coinbaseexchange"), Request(("BTC-USD",), "1h", Span(utc(2024, 2, 1), utc(2024, 4, 1)))


# ── bars ────────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("name", EXCHANGES)
def test_every_closed_bar_comes_once_as_its_exchange_published_it(archive: Archive, name: str) -> None:
    market = made_up(START, 719, without=range(250, 260))
    market.now = market.bars[-1].opened + 30  # the last bar is running
    source, symbol = play(archive, name, market)
    pieces = bars_of(source, symbol, Span(START, utc(2024, 3, 2)))
    assert frame(pieces).rows() == as_published(symbol, market.bars[:-1])
    assert [(p.symbol, p.rejected.height, p.repeats) for p in pieces] == [(symbol, 0, 0)]
    table = pieces[0].table
    assert table is not None
    assert table.interval == "1m"
    assert frame(pieces).schema == {"symbol": pl.String, "time": TIME} | dict.fromkeys(
        ("open", "high", "low", "close", "volume"), pl.Float64
    )


@pytest.mark.parametrize("name", ["coinbase", "coinbaseexchange", "okx", "bybit", "binance"])
def test_a_span_of_many_pages_has_no_seams(archive: Archive, name: str) -> None:
    market = made_up(utc(2024, 2, 28), 4 * 1440)
    source, symbol = play(archive, name, market)
    pieces = bars_of(source, symbol, Span(utc(2024, 2, 28, 0, 0, 30), utc(2024, 3, 2, 11, 59, 59)))
    assert frame(pieces).rows() == as_published(symbol, market.bars[1 : 3 * 1440 + 720])
    assert [piece.origin for piece in pieces] == [
        f"{name} {symbol} 1m 2024-02-28T00:01:00 to 2024-03-01T00:00:00",
        f"{name} {symbol} 1m 2024-03-01T00:00:00 to 2024-03-02T12:00:00",
    ]


def test_okx_is_asked_for_the_newest_bars_where_it_keeps_them(archive: Archive) -> None:
    minute = int(time.time()) // 60 * 60
    market = Market([replace(bar, opened=minute - 60 * n) for n, bar in enumerate(made_up(START, 30).bars)][::-1])
    market.now = minute + 59.9
    source, symbol = play(archive, "okx", market)
    span = minutes(60, datetime.fromtimestamp(minute - 20 * 60, UTC))
    assert frame(bars_of(source, symbol, span)).rows() == as_published(symbol, market.bars[-21:-1])
    assert [path.split("?")[0] for path in archive.requests][-1] == "api/v5/market/candles"


@pytest.mark.parametrize("name", ["coinbaseexchange", "kraken", "bybit"])
def test_no_bar_is_seen_before_it_has_closed(archive: Archive, name: str) -> None:
    market = made_up(START, 10)
    source, symbol = play(archive, name, market)
    for second in (1, 59, 60, 61, 119.999, 120, 299.5, 300, 599, 600, 601):
        market.now = market.bars[0].opened + second
        closed = [bar for bar in market.bars if bar.opened + 60 <= market.now]
        pieces = bars_of(source, symbol, minutes(20))
        assert [piece.table and piece.table.frame.rows() for piece in pieces] == (
            [as_published(symbol, closed)] if closed else []
        )


def test_a_machine_whose_clock_is_wrong_believes_the_exchange(archive: Archive) -> None:
    market = made_up(START, 10)
    market.now = market.bars[0].opened + 200  # while it is years later here
    source, symbol = play(archive, "coinbaseexchange", market)
    assert frame(bars_of(source, symbol, minutes(20)))["time"].to_list() == [START + n * MINUTE for n in (1, 2, 3)]


def test_minutes_without_a_trade_are_gaps_and_empty_pages_are_no_end(archive: Archive) -> None:
    market = made_up(START, 2000, without=range(10, 1950))
    source, symbol = play(archive, "coinbaseexchange", market)
    (piece,) = bars_of(source, symbol, minutes(2000))
    assert frame([piece]).rows() == as_published(symbol, market.bars)
    assert piece.table is not None
    assert piece.table.gaps().rows() == [(symbol, START + 10 * MINUTE, START + 1951 * MINUTE, 1940)]
    assert len(candle_requests(archive)) == 7


@pytest.mark.parametrize("at_most", [150, 999])
def test_an_exchange_that_hands_out_less_than_ccxt_says_loses_nothing(archive: Archive, at_most: int) -> None:
    market = made_up(START, 3000, without=range(500, 520))
    bybit(archive, market, at_most)
    pieces = bars_of(at(archive, "bybit"), "BTC-USDT", minutes(3000))
    assert frame(pieces).rows() == as_published("BTC-USDT", market.bars)


def test_a_month_without_bars_is_there_as_such(archive: Archive) -> None:
    market = made_up(utc(2024, 3, 5), 24, 3600)
    source, symbol = play(archive, "coinbaseexchange", market)
    pieces = bars_of(source, symbol, Span(utc(2024, 2, 1), utc(2024, 4, 1)), interval="1h")
    assert [(p.origin, p.table and p.table.frame.height) for p in pieces] == [
        ("coinbaseexchange BTC-USD 1h 2024-02-01T00:00:00 to 2024-03-01T00:00:00", None),
        ("coinbaseexchange BTC-USD 1h 2024-03-01T00:00:00 to 2024-03-06T00:00:00", 24),
    ]


def test_rows_beside_the_grid_or_impossible_are_rejected_with_the_reason(archive: Archive) -> None:
    market = made_up(START, 60)
    market.bars[20] = replace(market.bars[20], opened=market.bars[20].opened + 7)
    market.bars[30] = replace(market.bars[30], high=1.0)
    source, symbol = play(archive, "coinbaseexchange", market)
    (piece,) = bars_of(source, symbol, minutes(60))
    assert frame([piece]).rows() == as_published(symbol, [b for n, b in enumerate(market.bars) if n not in (20, 30)])
    assert piece.rejected.sort("time").select("time", "fault").rows() == [
        (START + 21 * MINUTE + 7 * SECOND, "not on the grid of 1m bars"),
        (START + 31 * MINUTE, "open or close lies outside low..high"),
    ]


class Revised(Market):
    """A market whose exchange says of bar 90 something else from the second time on that it is asked."""

    asked = 0

    @property
    def begun(self) -> list[Bar]:
        self.asked += 1
        return [replace(b, volume=7.0 if self.asked == 1 else 8.0) if n == 90 else b for n, b in enumerate(self.bars)]


def test_of_two_answers_about_one_bar_the_later_counts_and_the_earlier_is_rejected(archive: Archive) -> None:
    # Kraken heeds no end, so that the first answer, for 720 bars, says all that the second will say, too.
    bars = made_up(utc(2024, 3, 2), 100).bars
    source, symbol = play(archive, "kraken", Revised(bars, now=bars[-1].opened + 60))
    (piece,) = bars_of(source, symbol, minutes(740, utc(2024, 3, 1, 13, 20)))
    assert frame([piece]).rows() == as_published(symbol, [replace(b, volume=8.0) if b is bars[90] else b for b in bars])
    assert piece.rejected.select("time", "volume", "fault").rows() == [
        (utc(2024, 3, 2, 1, 31), 7.0, "a second row for the same symbol and time")
    ]
    assert piece.repeats == 0  # that two answers agree is none


def test_kraken_further_back_than_it_reaches_is_no_silent_gap(archive: Archive) -> None:
    market = made_up(START, 2000)
    market.now = market.bars[-1].opened + 30
    source, symbol = play(archive, "kraken", market)
    with pytest.raises(NoData) as refused:
        bars_of(source, symbol, minutes(2000))
    assert refused.value.problem == (
        "kraken was asked for 1m bars of BTC/USD from 2024-03-01T00:00:00 to 2024-03-01T12:00:00 and answered with 720 "
        "from 2024-03-01T21:20:00 to 2024-03-02T09:19:00: it goes back no further"
    )
    assert refused.value.fix == (
        "add --start 2024-03-01T21:20, or take older ones from Kraken's files: --source kraken --path FILE"
    )
    (piece,) = bars_of(source, symbol, minutes(2000, utc(2024, 3, 1, 21, 20)))
    assert frame([piece]).rows() == as_published(symbol, market.bars[-720:-1])


@pytest.mark.parametrize("newest", [300, 40])
def test_an_exchange_that_ignores_what_it_is_asked_is_refused_after_one_page(archive: Archive, newest: int) -> None:
    market = made_up(START, 5000)
    source, symbol = play(archive, "coinbaseexchange", market)
    rows = str([[b.opened, b.low, b.high, b.open, b.close, b.volume] for b in market.bars[: -newest - 1 : -1]])
    archive.route(CANDLES, lambda _: rows.encode())
    with pytest.raises(NoData, match=f"answered with {newest} from .* to 2024-03-04T11:19:00: it goes back no further"):
        bars_of(source, symbol, minutes(3000))
    assert len(candle_requests(archive)) == 1


def test_a_market_that_is_younger_than_the_span_is_no_error(archive: Archive) -> None:
    market = made_up(START, 100)
    market.now = market.bars[-1].opened + 60
    source, symbol = play(archive, "kraken", market)
    (piece,) = bars_of(source, symbol, Span(START - 3000 * MINUTE, START + 100 * MINUTE))[-1:]
    assert frame([piece]).rows() == as_published(symbol, market.bars)


def test_an_exchange_that_heeds_no_end_but_every_start_may_have_a_late_listing(archive: Archive) -> None:
    market = made_up(START, 2000)
    source, symbol = play(archive, "kraken", market)

    def oldest_first(query: dict[str, str]) -> bytes:
        rows = [b for b in market.bars if b.opened > int(query["since"])][:720]
        listed = [[b.opened, *map(str, (b.open, b.high, b.low, b.close, b.close, b.volume)), 3] for b in rows]
        return json.dumps({"error": [], "result": {"XXBTZUSD": listed, "last": 0}}).encode()

    archive.route("0/public/OHLC", oldest_first)
    pieces = bars_of(source, symbol, Span(utc(2024, 2, 28), START + 2000 * MINUTE))
    assert [piece.table and piece.table.frame.height for piece in pieces] == [None, 2000]
    assert frame(pieces).rows() == as_published(symbol, market.bars)


# ── asked again ─────────────────────────────────────────────────────────────────────────────────────────────────────


def test_only_what_is_missing_is_asked_for(archive: Archive) -> None:
    source, symbol = play(archive, "coinbaseexchange", made_up(START, 3000))
    done = [piece.origin for piece in bars_of(source, symbol, minutes(60, START + 120 * MINUTE))]
    assert done == ["coinbaseexchange BTC-USD 1m 2024-03-01T02:00:00 to 2024-03-01T03:00:00"]
    archive.requests.clear()
    around = bars_of(source, symbol, minutes(300), done)
    assert candle_requests(archive) == [("00:00", "01:59"), ("03:00", "04:59")]
    done += [piece.origin for piece in around]
    archive.requests.clear()
    assert bars_of(source, symbol, minutes(280, START + 7 * MINUTE), done) == []
    assert archive.requests == []
    assert len(bars_of(source, symbol, minutes(300), [text.replace("BTC", "ETH") for text in done])) == 1


def test_while_bars_may_still_come_the_last_that_is_there_ends_what_is_done(archive: Archive) -> None:
    market = made_up(START, 200, without=range(100, 103))
    late = Market([*market.bars[:100]], now=market.bars[0].opened + 103 * 60, step=60)  # three are not there yet
    source, symbol = play(archive, "coinbaseexchange", late)
    first = bars_of(source, symbol, minutes(200))
    assert [piece.origin[-42:] for piece in first] == ["2024-03-01T00:00:00 to 2024-03-01T01:40:00"]
    done = [piece.origin for piece in first]
    assert bars_of(source, symbol, minutes(200), done) == []
    late.bars.extend(market.bars[100:])
    late.now += 60 * 60
    second = bars_of(source, symbol, minutes(200), done)
    assert [piece.origin[-42:] for piece in second] == ["2024-03-01T01:40:00 to 2024-03-01T02:43:00"]
    assert frame([*first, *second]).rows() == as_published(
        symbol, [b for b in market.bars if b.opened + 60 <= late.now]
    )


def test_what_was_fetched_bit_by_bit_is_what_was_fetched_at_once(archive: Archive, tmp_path: Path) -> None:
    market = made_up(START, 1000)
    source, symbol = play(archive, "coinbaseexchange", market)
    name = store.TableName(tmp_path / "data", "ccxt-coinbaseexchange", symbol, "1m")
    for end in (100, 400, 401, 1000):
        market.now = market.bars[0].opened + end * 60
        for piece in bars_of(source, symbol, minutes(1000), store.done(name)):
            store.commit(name.root, name.source, [piece])
    assert store.read(name).rows() == as_published(symbol, market.bars)


# ── trades ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def trading(count: int, start: datetime = START, apart_ms: int = 700) -> list[Trade]:
    """Trades that come in pairs of one millisecond."""
    first = int(start.timestamp()) * 1000
    return [
        Trade(9_999 + n, (first + n // 2 * 2 * apart_ms) * 1_000_000, 100 + n / 8, (n % 5 + 1) / 4, n % 3 == 0)
        for n in range(count)
    ]


def as_traded(symbol: str, trades: list[Trade]) -> list[tuple[object, ...]]:
    return [
        (
            symbol,
            utc(1970, 1, 1) + timedelta(microseconds=t.nanoseconds // 1000),
            t.price,
            t.size,
            1 if t.bought else -1,
            t.number,
        )
        for t in trades
    ]


@pytest.mark.parametrize("name", ["binance", "kraken"])
def test_trades_come_whole_and_once_however_many_pages_they_take(archive: Archive, name: str) -> None:
    # Trades of one millisecond lie on both sides of a page's end; numbers grow from four to five digits.
    market = Market(trades=trading(7001), now=START.timestamp() + 2 * 86400)
    source, symbol = play(archive, name, market)
    span = Span(START, START + timedelta(hours=1))
    (piece,) = trades_of(source, symbol, span)
    inside = [t for t in market.trades if t.nanoseconds < span.end.timestamp() * 1e9]
    assert 5000 < len(inside) < 7001
    assert frame([piece]).rows() == as_traded(symbol, inside)
    assert frame([piece]).columns == ["symbol", "time", "price", "size", "side", "id"]
    assert (piece.span, piece.rejected.height, piece.repeats) == (span, 0, 0)
    assert trades_of(source, symbol, Span(START, START + 30 * MINUTE), [piece.origin]) == []


def test_trades_are_cut_at_midnight_and_end_before_the_present(archive: Archive) -> None:
    day = utc(2024, 3, 2)
    market = Market(trades=trading(400, day - 2 * MINUTE), now=day.timestamp() + 150.4)
    source, symbol = play(archive, "binance", market)
    pieces = trades_of(source, symbol, Span(START, utc(2024, 3, 4)))
    cuts = [START, day, day + 90 * SECOND]
    assert [piece.span for piece in pieces] == [Span(*cuts[:2]), Span(*cuts[1:])]
    known = [t for t in market.trades if t.nanoseconds < cuts[-1].timestamp() * 1e9]
    assert frame(pieces).rows() == as_traded(symbol, known)
    market.now += 600
    (rest,) = trades_of(source, symbol, Span(START, utc(2024, 3, 4)), [piece.origin for piece in pieces])
    assert rest.span == Span(cuts[-1], day + 690 * SECOND)
    assert frame([*pieces, rest]).rows() == as_traded(symbol, market.trades)


def test_a_quiet_day_is_a_piece_without_trades(archive: Archive) -> None:
    source, symbol = play(archive, "kraken", Market(now=START.timestamp() + 864000))
    (piece,) = trades_of(source, symbol, minutes(1440))
    assert (piece.origin, piece.table) == ("kraken BTC-USD trades 2024-03-01T00:00:00 to 2024-03-02T00:00:00", None)


def test_more_trades_in_one_moment_than_an_answer_holds_are_no_silent_gap(archive: Archive) -> None:
    burst = [replace(trade, nanoseconds=trading(1)[0].nanoseconds) for trade in trading(1001)]
    source, symbol = play(archive, "binance", Market(trades=burst, now=START.timestamp() + 864000))
    with pytest.raises(SourceError, match="binance has more trades of BTC/USDT at 2024-03-01T00:00:00 than it hands"):
        trades_of(source, symbol, minutes(60))


def test_the_newest_trades_are_taken_where_they_reach_far_enough(archive: Archive) -> None:
    market = Market(trades=trading(1200), now=START.timestamp() + 3600)
    source, symbol = play(archive, "coinbaseexchange", market)
    span = minutes(10, START + 3 * MINUTE)  # the server has them from the 200th on, at 2:20
    (piece,) = trades_of(source, symbol, span)
    inside = [t for t in market.trades if span.start.timestamp() <= t.nanoseconds / 1e9 < span.end.timestamp()]
    assert frame([piece]).rows() == as_traded(symbol, inside)  # Coinbase names the maker's side
    with pytest.raises(NoData) as refused:
        trades_of(source, symbol, minutes(10))
    assert refused.value.problem == (
        "coinbaseexchange was asked for trades of BTC/USD from 2024-03-01T00:00:00 on and hands out its newest 1000, "
        "from 2024-03-01T00:02:20 on"
    )
    assert refused.value.fix.startswith(
        "add --start 2024-03-01T00:03, or ask an exchange that keeps them: ccxt-binance"
    )


def test_a_trade_without_a_time_is_not_passed_over(archive: Archive) -> None:
    source, symbol = play(archive, "kraken", Market(now=START.timestamp() + 864000))
    row = '["1.0","2.0",null,"b","m","",7]'
    archive.route("0/public/Trades", lambda _: f'{{"error":[],"result":{{"XXBTZUSD":[{row}],"last":"1"}}}}'.encode())
    with pytest.raises(SourceError, match=r"kraken answered .*, which are no trades"):
        trades_of(source, symbol, minutes(60))


def test_where_coinbase_does_not_say_whose_side_it_names_none_is_made_up(archive: Archive) -> None:
    market = Market(trades=trading(900), now=START.timestamp() + 3600)
    source, symbol = play(archive, "coinbase", market)
    assert frame(trades_of(source, symbol, minutes(60)))["side"].value_counts().rows() == [(0, 900)]


# ── bad days ────────────────────────────────────────────────────────────────────────────────────────────────────────


def hung_up(handler: BaseHTTPRequestHandler, _: bytes) -> None:
    cut_short(handler, b"[[1709251200, 1, 2, 1, 2, 5], [1709251260, 1, 2, 1, 2, 5]]")


def reset(handler: BaseHTTPRequestHandler, _: bytes) -> None:
    handler.close_connection = True


def busy(handler: BaseHTTPRequestHandler, _: bytes) -> None:
    send(handler, 200, b'{"error":["EAPI:Rate limit exceeded"]}')


@pytest.mark.parametrize(
    "faults",
    [[status(500), status(503)], [hung_up], [reset, reset], [status(408), reset, status(520)], [status(429)] * 2],
)
def test_passing_troubles_are_outlasted(archive: Archive, faults: list[Fault]) -> None:
    market = made_up(START, 300)
    source, symbol = play(archive, "coinbaseexchange", market)
    archive.play(CANDLES, faults)
    assert frame(bars_of(source, symbol, minutes(300))).rows() == as_published(symbol, market.bars)
    assert len(candle_requests(archive)) == len(faults) + 1


def test_what_an_exchange_calls_a_passing_trouble_is_one(archive: Archive) -> None:
    market = made_up(START, 300)
    source, symbol = play(archive, "kraken", market)
    archive.play("0/public/OHLC", [busy, busy])
    assert frame(bars_of(source, symbol, minutes(300))).height == 300


def test_nothing_is_sent_before_retry_after(archive: Archive) -> None:
    source, symbol = play(archive, "coinbaseexchange", made_up(START, 300))
    archive.play(CANDLES, [status(429, Retry_After="1")])
    assert frame(bars_of(source, symbol, minutes(300))).height == 300
    first, second = (t for path, t in zip(archive.requests, archive.times, strict=True) if path.startswith(CANDLES))
    assert second - first >= 1.0


def test_a_retry_after_beyond_patience_is_given_up_at_once(archive: Archive) -> None:
    source, symbol = play(archive, "binance", made_up(START, 300))
    archive.play("api/v3/klines", repeat(status(429, Retry_After="3600")))
    began = time.monotonic()
    with pytest.raises(
        SourceError, match=r"binance could not be asked in 1 tries, nor may it be until 2.* UTC: binance"
    ):
        bars_of(source, symbol, minutes(300))
    assert time.monotonic() - began < 60


def test_a_ban_is_believed_and_dated(archive: Archive) -> None:
    source, symbol = play(archive, "binance", made_up(START, 300))
    archive.play("api/v3/klines", repeat(status(418, Retry_After="7200")))
    with pytest.raises(SourceError, match=r"binance answered 418 \(this address is banned until 20\d\d-.* UTC\)"):
        bars_of(source, symbol, minutes(300))
    assert sum(path.startswith("api/v3/klines") for path in archive.requests) == 1


@pytest.mark.parametrize(
    ("fault", "why"),
    [
        (status(451), "coinbaseexchange does not serve this country"),
        (status(403), "coinbaseexchange answered 403 with what cannot be used"),
        (status(404), "coinbaseexchange answered 404 with what cannot be used"),
        (status(400), "coinbaseexchange answered 400 with what cannot be used"),
        (html, "answered 200 with what cannot be used: it begins with '<!DOCTYPE html>"),
        (lambda handler, _: send(handler, 200, b""), "it begins with ''"),
        (
            lambda handler, _: send(handler, 200, b"[[1709251200,1,2"),
            r"it begins with '\[\[1709251200,1,2', which is no",
        ),
        (lambda handler, _: send(handler, 200, b"[7, 8]"), "of BTC/USD from .* on is a bar; the first of 2: no symbol"),
    ],
)
def test_a_refusal_is_not_asked_again_and_never_a_traceback(archive: Archive, fault: Fault, why: str) -> None:
    source, symbol = play(archive, "coinbaseexchange", made_up(START, 300))
    archive.play(CANDLES, repeat(fault))
    with pytest.raises(SourceError, match=why):
        bars_of(source, symbol, minutes(300))
    assert len(candle_requests(archive)) == 1


def test_a_redirect_is_not_followed(archive: Archive, tmp_path: Path) -> None:
    source, symbol = play(archive, "coinbaseexchange", made_up(START, 300))
    with serving(tmp_path / "elsewhere") as elsewhere:
        coinbaseexchange(elsewhere, made_up(START, 300))
        archive.play(CANDLES, [status(302, Location=f"{elsewhere.url}/{CANDLES}")])
        with pytest.raises(SourceError, match=f"redirects to {elsewhere.url}/{CANDLES}, which is not followed"):
            bars_of(source, symbol, minutes(300))
        assert elsewhere.requests == []


@pytest.mark.parametrize(("name", "path"), [("okx", "api/v5/market/history-candles"), ("kraken", "0/public/OHLC")])
def test_a_page_for_people_is_not_an_answer_without_rows(archive: Archive, name: str, path: str) -> None:
    source, symbol = play(archive, name, made_up(START, 300))
    archive.play(path, repeat(html))
    with pytest.raises(SourceError, match="it begins with '<!DOCTYPE html>"):
        bars_of(source, symbol, minutes(300))


@pytest.mark.parametrize("fault", [dripping_header, dripping_body])
def test_a_dripping_server_does_not_outlast_patience(archive: Archive, fault: Fault) -> None:
    source, symbol = play(archive, "coinbaseexchange", made_up(START, 300))
    drip: Fault = (lambda handler, _: fault(handler, b"[" + b" " * 5000)) if fault is dripping_body else fault
    archive.play(CANDLES, repeat(drip))
    began = time.monotonic()
    hasty = replace(source, patience=Patience(tries=10, total=1.5, silence=0.5, first_wait=0.01))
    with pytest.raises(SourceError, match="coinbaseexchange could not be asked in"):
        bars_of(hasty, symbol, minutes(300))
    assert time.monotonic() - began < 6


def test_nobody_listening_is_a_source_error() -> None:
    nobody = Exchange("kraken", "http://127.0.0.1:9", HASTY)
    with pytest.raises(SourceError, match="kraken could not be asked in 4 tries"):
        bars_of(nobody, "BTC-USD", minutes(5))


def test_luck_decides_only_whether_bars_come_and_never_which(archive: Archive) -> None:
    market = made_up(START, 900)
    source, symbol = play(archive, "coinbaseexchange", market)
    dice = random.Random(7)
    kinds = [status(500), status(503), reset, hung_up, status(429)]
    fair = chain.from_iterable(([dice.choice(kinds)] if dice.random() < 0.3 else [None]) for _ in iter(int, 1))
    for path in ("products", "time", CANDLES):
        archive.play(path, fair)  # type: ignore[arg-type]  # None: as usual
    outcomes = []
    for _ in range(60):
        try:
            outcomes.append(frame(bars_of(source, symbol, minutes(900))).rows() == as_published(symbol, market.bars))
        except SourceError as refused:
            assert "could not be asked in 4 tries" in refused.problem
    assert len(outcomes) > 30
    assert all(outcomes)


def test_an_exchange_is_asked_at_its_pace(archive: Archive) -> None:
    market = made_up(START, 5)
    source, symbol = play(archive, "kraken", market)
    bars_of(source, symbol, minutes(5))
    steps = [later - earlier for earlier, later in zip(archive.times, archive.times[1:], strict=False)]
    assert len(steps) == 3
    assert min(steps) > 0.9


# ── names ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_symbols_are_written_so_that_a_store_can_hold_them(archive: Archive) -> None:
    source, _ = play(archive, "binance", made_up(START, 5))
    assert source.symbols("bars", "1m") == ["BTC-USDT", "BTC-USDT.USDT"]
    perpetual = made_up(START, 5)
    (piece,) = bars_of(source, "BTC-USDT.USDT", minutes(5))
    assert frame([piece]).rows() == as_published("BTC-USDT.USDT", perpetual.bars)


@pytest.mark.parametrize(
    ("symbol", "fix"),
    [
        ("BTC/USD", "write it as BTC-USD"),
        ("BTC-USDD", "did you mean BTC-USD"),
        ("DOGE-EUR", "lab fetch --universe --source ccxt-coinbaseexchange lists them"),
    ],
)
def test_an_unknown_symbol_is_told_the_right_one(archive: Archive, symbol: str, fix: str) -> None:
    source, _ = play(archive, "coinbaseexchange", made_up(START, 5))
    with pytest.raises(UnknownName) as refused:
        bars_of(source, symbol, minutes(5))
    assert refused.value.fix.startswith(fix)
    assert candle_requests(archive) == []


def test_any_exchange_that_ccxt_knows_can_be_named() -> None:
    assert {exchange_named(name).venue for name in ccxt.exchanges} == {*ccxt.exchanges}
    with pytest.raises(UnknownName, match="there is no exchange named 'krakn'") as refused:
        exchange_named("krakn")
    assert refused.value.fix.startswith("did you mean kraken")
    with pytest.raises(UnknownName, match="no exchange named 'nowhere'"):
        bars_of(Exchange("nowhere"), "X", minutes(5))


def test_with_a_base_url_no_exchange_keeps_an_address_of_its_own() -> None:
    def addresses(urls: object) -> list[object]:
        return [a for url in urls.values() for a in addresses(url)] if isinstance(urls, dict) else [urls]

    moved = {name: addresses(redirected(getattr(ccxt, name)().urls["api"], "http://m:1/x/")) for name in ccxt.exchanges}
    assert len(moved) == len(ccxt.exchanges)
    assert {
        name for name, urls in moved.items() if not all(str(url).startswith("http://m:1/x") for url in urls)
    } == set()


def test_what_an_exchange_does_not_have_is_said_with_what_it_has(archive: Archive) -> None:
    source, symbol = play(archive, "coinbaseexchange", made_up(START, 5))
    with pytest.raises(UsageError, match="coinbaseexchange has no 3m bars") as refused:
        bars_of(source, symbol, minutes(9), interval="3m")
    assert refused.value.fix == "choose one of 1m, 5m, 15m, 1h, 6h, 1d"
    with pytest.raises(UsageError, match="this source has no quotes"):
        list(source.fetch(Request((symbol,), "events", minutes(5), "quotes"), {}))
    with pytest.raises(UsageError, match="from when to when"):
        list(source.fetch(Request((symbol,), "1m"), {}))


def test_pieces_are_counted_before_anybody_is_asked() -> None:
    source = Exchange("kraken")
    span = Span(utc(2024, 1, 31, 12), utc(2024, 3, 1))
    assert source.count(Request(("A", "B"), "1m", span)) == 2 * 2
    assert source.count(Request(("A", "B"), "events", span, "trades")) == 2 * 30


def test_without_ccxt_the_next_step_is_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ccxt", None)
    with pytest.raises(LabError, match="ccxt is not installed") as refused:
        exchange_named("kraken")
    assert refused.value.fix == "pip install 'lab[ccxt]'"


def test_ccxt_is_imported_only_when_an_exchange_is_asked() -> None:
    code = "import sys, lab.sources.exchanges; print('ccxt' in sys.modules, 'requests' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False False\n"


def test_the_table_of_trades_is_one_that_the_store_takes(archive: Archive, tmp_path: Path) -> None:
    market = Market(trades=trading(900), now=START.timestamp() + 864000)
    source, symbol = play(archive, "kraken", market)
    (piece,) = trades_of(source, symbol, minutes(60))
    assert isinstance(piece.table, Table)
    store.commit(tmp_path / "data", "ccxt-kraken", [piece])
    name = store.TableName(tmp_path / "data", "ccxt-kraken", symbol, "events", "trades")
    assert store.read(name).rows() == as_traded(symbol, market.trades)
