"""Exchanges as they answer on the wire, each in its own way, about one made-up market; routes for `tests.archive`."""

import json
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from tests.archive import Archive

Answer = bytes | tuple[int, bytes]


@dataclass(frozen=True)
class Bar:
    opened: int  # seconds since 1970
    open: float
    high: float
    low: float
    close: float
    volume: float


@dataclass(frozen=True)
class Trade:
    number: int
    nanoseconds: int
    price: float
    size: float
    bought: bool  # by the taker


@dataclass
class Market:
    """What happened: bars of `step` seconds, trades, and the time `now` by the exchange's clock."""

    bars: list[Bar] = field(default_factory=list)
    trades: list[Trade] = field(default_factory=list)
    now: float = 0.0
    step: int = 60

    @property
    def begun(self) -> list[Bar]:
        return [bar for bar in self.bars if bar.opened <= self.now]


def made_up(start: datetime, count: int, step: int = 60, without: range = range(0)) -> Market:
    """`count` bars from `start` on, but for those numbered `without`; it is long after the last of them."""
    first = int(start.timestamp())
    bars = [_bar(first + n * step) for n in range(count) if n not in without]
    return Market(bars, now=first + count * step + 1_000_000, step=step)


def _bar(opened: int) -> Bar:
    o, c = (round(100 + math.sin(opened / scale), 2) for scale in (7e3, 9e3))
    return Bar(opened, o, max(o, c) + 0.5, min(o, c) - 0.5, c, round(5 + math.sin(opened), 4))


# ── Coinbase Exchange ───────────────────────────────────────────────────────────────────────────────────────────────


def coinbaseexchange(archive: Archive, market: Market) -> None:
    """Candles newest first, low before high, no more than 300, and some that opened before the start."""

    def candles(query: dict[str, str]) -> Answer:
        step = int(query["granularity"])
        assert step == market.step
        rows = market.begun[-300:]
        if {"start", "end"} <= query.keys():
            start, end = (datetime.fromisoformat(query[name]).timestamp() for name in ("start", "end"))
            if (end - start) / step > 300:
                return (
                    400,
                    b'{"message":"granularity too small for the requested time range. Count requested exceeds 300"}',
                )
            rows = [bar for bar in market.begun if start - 2 * step <= bar.opened <= end]
        return _json([[b.opened, b.low, b.high, b.open, b.close, b.volume] for b in reversed(rows)])

    def trades(query: dict[str, str]) -> Answer:
        newest = market.trades[::-1][: int(query.get("limit", 1000))]
        return _json(
            [
                {
                    "trade_id": trade.number,
                    "side": "sell" if trade.bought else "buy",  # the maker's
                    "size": str(trade.size),
                    "price": str(trade.price),
                    "time": f"{datetime.fromtimestamp(trade.nanoseconds / 1e9, UTC):%Y-%m-%dT%H:%M:%S.%f}Z",
                }
                for trade in newest
            ]
        )

    product = {"base_increment": "0.00000001", "quote_increment": "0.01", "status": "online", "trading_disabled": False}
    pairs = (("BTC", "USD"), ("ETH", "USD"), ("ETH", "BTC"))
    products = [{"id": f"{b}-{q}", "base_currency": b, "quote_currency": q, **product} for b, q in pairs]
    archive.route("currencies", _always([]))
    archive.route("products", _always(products))
    archive.route("time", lambda _: _json({"iso": "", "epoch": market.now}))
    archive.route("products/BTC-USD/candles", candles)
    archive.route("products/BTC-USD/trades", trades)


# ── Coinbase ────────────────────────────────────────────────────────────────────────────────────────────────────────


def coinbase(archive: Archive, market: Market) -> None:
    """Advanced Trade: objects of strings, newest first; trades with a side of which it does not say whose it is."""

    def candles(query: dict[str, str]) -> Answer:
        assert query["granularity"] == {60: "ONE_MINUTE", 3600: "ONE_HOUR"}[market.step]
        start, end = int(query["start"]), int(query["end"])
        if (end - start) // market.step > 300:
            return 400, b'{"error":"INVALID_ARGUMENT","error_details":"number of candles requested should be less"}'
        rows = [bar for bar in market.begun if start <= bar.opened <= end][::-1]
        names = ("open", "high", "low", "close", "volume")
        return _json(
            {
                "candles": [
                    {"start": str(bar.opened), **{name: str(getattr(bar, name)) for name in names}} for bar in rows
                ]
            }
        )

    def trades(query: dict[str, str]) -> Answer:
        rows = market.trades[::-1][: int(query["limit"])]
        listed = [
            {
                "trade_id": str(t.number),
                "product_id": "BTC-USD",
                "price": str(t.price),
                "size": str(t.size),
                "time": f"{datetime.fromtimestamp(t.nanoseconds / 1e9, UTC):%Y-%m-%dT%H:%M:%S.%f}Z",
                "side": "SELL",
            }
            for t in rows
        ]
        return _json({"trades": listed, "best_bid": "1", "best_ask": "2"})

    product = {
        "product_id": "BTC-USD",
        "base_currency_id": "BTC",
        "quote_currency_id": "USD",
        "product_type": "SPOT",
        "base_increment": "0.00000001",
        "quote_increment": "0.01",
        "price_increment": "0.01",
        "trading_disabled": False,
    }
    archive.route("v2/currencies", _always({"data": []}))
    archive.route("v2/currencies/crypto", _always({"data": []}))
    archive.route("v2/exchange-rates", _always({"data": {"rates": {}}}))
    archive.route("v2/time", lambda _: _json({"data": {"iso": "", "epoch": int(market.now)}}))
    archive.route("api/v3/brokerage/market/products", _always({"products": [product], "num_products": 1}))
    archive.route("api/v3/brokerage/market/products/BTC-USD/candles", candles)
    archive.route("api/v3/brokerage/market/products/BTC-USD/ticker", trades)


# ── Kraken ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def kraken(archive: Archive, market: Market) -> None:
    """Bars after `since`, of the newest 720 only, the running one the last; trades after `since`, oldest first."""

    def ohlc(query: dict[str, str]) -> Answer:
        assert int(query["interval"]) * 60 == market.step
        rows = [bar for bar in market.begun[-720:] if bar.opened > int(query.get("since", 0))]
        prices = [
            [b.opened, f"{b.open}", f"{b.high}", f"{b.low}", f"{b.close}", f"{b.close}", f"{b.volume}", 3] for b in rows
        ]
        return _json({"error": [], "result": {"XXBTZUSD": prices, "last": rows[-1].opened if rows else 0}})

    def trades(query: dict[str, str]) -> Answer:
        since = int(query["since"])
        since *= 1_000_000_000 if since < 10**12 else 1
        rows = [trade for trade in market.trades if trade.nanoseconds > since][: int(query.get("count", 1000))]
        listed = [
            [f"{t.price}", f"{t.size}", t.nanoseconds / 1e9, "b" if t.bought else "s", "m", "", t.number] for t in rows
        ]
        last = str(rows[-1].nanoseconds if rows else since)
        return _json({"error": [], "result": {"XXBTZUSD": listed, "last": last}})

    asset = {"aclass": "currency", "decimals": 10, "display_decimals": 5, "status": "enabled"}
    pair = {
        "altname": "XBTUSD",
        "wsname": "XBT/USD",
        "base": "XXBT",
        "quote": "ZUSD",
        "pair_decimals": 1,
        "lot_decimals": 8,
        "status": "online",
        "leverage_buy": [],
        "fees": [],
        "fees_maker": [],
    }
    archive.route(
        "0/public/Assets", _result({"XXBT": {**asset, "altname": "XBT"}, "ZUSD": {**asset, "altname": "USD"}})
    )
    archive.route("0/public/AssetPairs", _result({"XXBTZUSD": pair}))
    archive.route("0/public/Time", lambda _: _json({"error": [], "result": {"unixtime": int(market.now)}}))
    archive.route("0/public/OHLC", ohlc)
    archive.route("0/public/Trades", trades)


# ── OKX ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


def okx(archive: Archive, market: Market) -> None:
    """Strings, newest first; `before` and `after` are excluded and mean newer and older; the running bar says so."""

    def candles(query: dict[str, str], newest: int) -> Answer:
        newer_than, older_than = int(query.get("before", 0)), int(query.get("after", 1 << 62))
        rows = [bar for bar in market.begun[-newest:] if newer_than < bar.opened * 1000 < older_than]
        rows = rows[::-1][: int(query.get("limit", 100))]
        data = [
            [
                *map(str, (b.opened * 1000, b.open, b.high, b.low, b.close, b.volume, b.volume, b.volume * b.close)),
                "1" if b.opened + market.step <= market.now else "0",
            ]
            for b in rows
        ]
        return _json({"code": "0", "msg": "", "data": data})

    instrument = {
        "instType": "SPOT",
        "instId": "BTC-USDT",
        "baseCcy": "BTC",
        "quoteCcy": "USDT",
        "tickSz": "0.1",
        "lotSz": "0.00000001",
        "minSz": "0.00001",
        "state": "live",
    }
    archive.route(
        "api/v5/public/instruments",
        lambda query: _json({"code": "0", "msg": "", "data": [instrument] if query["instType"] == "SPOT" else []}),
    )
    archive.route("api/v5/public/time", lambda _: _json({"code": "0", "data": [{"ts": str(round(market.now * 1000))}]}))
    archive.route("api/v5/market/candles", lambda query: candles(query, 1440))
    archive.route("api/v5/market/history-candles", lambda query: candles(query, len(market.bars)))


# ── Bybit ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def bybit(archive: Archive, market: Market, at_most: int = 1000) -> None:
    """Strings, newest first: the newest `limit`, or `at_most`, of those between `start` and `end`, both included."""

    def kline(query: dict[str, str]) -> Answer:
        start, end = int(query.get("start", 0)), int(query.get("end", 1 << 62))
        rows = [bar for bar in market.begun if start <= bar.opened * 1000 <= end]
        rows = rows[::-1][: min(int(query.get("limit", 200)), at_most)]
        listed = [
            [*map(str, (b.opened * 1000, b.open, b.high, b.low, b.close, b.volume, b.volume * b.close))] for b in rows
        ]
        return _json({"retCode": 0, "retMsg": "OK", "result": {"category": "spot", "list": listed}})

    spot = {
        "symbol": "BTCUSDT",
        "baseCoin": "BTC",
        "quoteCoin": "USDT",
        "status": "Trading",
        "lotSizeFilter": {"basePrecision": "0.000001", "minOrderQty": "0.00004", "maxOrderQty": "63"},
        "priceFilter": {"tickSize": "0.01"},
    }
    archive.route(
        "v5/market/instruments-info",
        lambda query: _json(
            {
                "retCode": 0,
                "result": {"category": query["category"], "list": [spot] if query["category"] == "spot" else []},
            }
        ),
    )
    archive.route("v5/market/time", lambda _: _json({"retCode": 0, "result": {}, "time": round(market.now * 1000)}))
    archive.route("v5/market/kline", kline)


# ── Binance ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def binance(archive: Archive, market: Market) -> None:
    """Klines from `startTime` on, oldest first; trades likewise, of no more than an hour."""

    def klines(query: dict[str, str]) -> Answer:
        rows = [bar for bar in market.begun if _asked(query, bar.opened * 1000)][: int(query.get("limit", 500))]
        listed = [
            [
                b.opened * 1000,
                *map(str, (b.open, b.high, b.low, b.close, b.volume)),
                (b.opened + market.step) * 1000 - 1,
                "1",
                2,
                "1",
                "1",
                "0",
            ]
            for b in rows
        ]
        return _json(listed)

    def trades(query: dict[str, str]) -> Answer:
        if int(query["endTime"]) - int(query["startTime"]) > 3_600_000:
            return 400, b'{"code":-1127,"msg":"More than 1 hours between startTime and endTime."}'
        rows = [trade for trade in market.trades if _asked(query, trade.nanoseconds // 1_000_000)]
        listed = [
            {
                "a": t.number,
                "p": str(t.price),
                "q": str(t.size),
                "f": t.number,
                "l": t.number,
                "T": t.nanoseconds // 1_000_000,
                "m": not t.bought,
                "M": True,
            }
            for t in rows[: int(query.get("limit", 500))]
        ]
        return _json(listed)

    spot = {"symbol": "BTCUSDT", "status": "TRADING", "baseAsset": "BTC", "quoteAsset": "USDT", "filters": []}
    perpetual = {
        **spot,
        "contractType": "PERPETUAL",
        "marginAsset": "USDT",
        "deliveryDate": 4133404800000,
        "pricePrecision": 2,
        "quantityPrecision": 3,
    }
    unspeakable = {**spot, "symbol": "币安人生USDT", "baseAsset": "币安人生"}
    archive.route("api/v3/exchangeInfo", _always({"symbols": [spot, unspeakable]}))
    archive.route("fapi/v1/exchangeInfo", _always({"symbols": [perpetual]}))
    archive.route("dapi/v1/exchangeInfo", _always({"symbols": []}))
    archive.route("api/v3/time", lambda _: _json({"serverTime": round(market.now * 1000)}))
    archive.route("api/v3/klines", klines)
    archive.route("fapi/v1/klines", klines)
    archive.route("api/v3/aggTrades", trades)


def _asked(query: dict[str, str], milliseconds: int) -> bool:
    return int(query.get("startTime", 0)) <= milliseconds <= int(query.get("endTime", 1 << 62))


def _json(said: Any) -> bytes:
    return json.dumps(said).encode()


def _always(said: Any) -> Callable[[dict[str, str]], Answer]:
    return lambda _: _json(said)


def _result(said: Any) -> Callable[[dict[str, str]], Answer]:
    return _always({"error": [], "result": said})


EXCHANGES = {  # each with the market's symbol there
    "coinbase": (coinbase, "BTC-USD"),
    "coinbaseexchange": (coinbaseexchange, "BTC-USD"),
    "kraken": (kraken, "BTC-USD"),
    "okx": (okx, "BTC-USDT"),
    "bybit": (bybit, "BTC-USDT"),
    "binance": (binance, "BTC-USDT"),
}
