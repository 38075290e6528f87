"""Markets made by a rule, so that the best reachable result is known: FLOW has an edge, NOISE has none.

A symbol is MARKET-SEED, e.g. `FLOW-1`; the same symbol is the same market for everyone. Bar t of a market:

    pressure   f[t] = φ·f[t-1] + √(1-φ²)·u[t]                order-flow pressure, AR(1), variance 1, half-life 30 bars
    volatility σ[t] = s·exp(g[t]),  g AR(1), sd 0.25         independent of everything else, half-life one day
    return     r[t] = β·f[t-1] + σ[t]·e[t]                   log return from open to close; u, e standard normal
    taker buys buy_volume[t] = volume[t]·(1 + tanh(f[t]/4))/2

The open is the close of the bar before, so nothing happens between bars. NOISE is the same market with β = 0.
Both also have the trades inside these bars (synthetic_trades.py); BOOK has an order book (synthetic_book.py).
"""

import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import ClassVar

import numpy as np
import polars as pl
from scipy.signal import lfilter

from lab.errors import UsageError
from lab.nouns import Bars, Matrix, Piece, Span, Table, Vector
from lab.registry import unknown
from lab.sources import Request, months
from lab.sources.synthetic_book import book_day
from lab.sources.synthetic_trades import trades_within

INTERVAL = "1m"
BAR, DAY = timedelta(minutes=1), timedelta(days=1)
BIRTH, END = datetime(2024, 1, 1, tzinfo=UTC), datetime(2030, 1, 1, tzinfo=UTC)
EDGES = {"FLOW": 0.29e-4, "NOISE": 0.0}  # β: log return of the next bar per unit of pressure
KINDS_OF = {**dict.fromkeys(EDGES, ("bars", "trades")), "BOOK": ("trades", "quotes", "books")}
NUMBERS_A_DAY = 10_000_000  # for trades; no day has so many

MINUTES_PER_DAY = 1440
PERSISTENCE = 0.5 ** (1 / 30)  # φ
VOLATILITY = 5e-4  # s: 5 bp a minute
VOLATILITY_SPREAD = 0.25  # standard deviation of g
VOLATILITY_PERSISTENCE = 0.5 ** (1 / MINUTES_PER_DAY)
VISIBLE = 0.25  # tanh(f / 4): the taker share stays off 0 and 1, where it could not be inverted
FIRST_PRICE = 100.0
STEPS = 4  # inside a bar, for its high and low
DECIMALS = 6


def best_forecast(bars: Bars, horizon: int) -> pl.DataFrame:
    """What nobody can beat: the expected log return from the next open over `horizon` bars, given all bars so far.

    One row per bar: symbol, time, forecast. The pressure is read back from the taker share, f = 4·artanh(2·share - 1);
    then E[Σ r[t+1..t+h]] = β·f·(1-φ^h)/(1-φ), as f decays by φ a bar and everything else is unforeseeable.
    """
    share = pl.col("buy_volume") / pl.col("volume")
    pressure = (2 * share - 1).arctanh() / VISIBLE
    edge = pl.col("symbol").replace_strict({symbol: EDGES[market_of(symbol)[0]] for symbol in bars.symbols})
    return bars.frame.select("symbol", "time", forecast=pressure * edge * _reach(horizon))


def planted(symbols: Collection[str]) -> str:
    """What is planted in these markets, in a sentence."""
    if all(EDGES[market_of(symbol)[0]] == 0 for symbol in symbols):
        return "Nothing: takers buy and sell in waves, but returns do not follow them."
    return (
        "Order-flow pressure with a half-life of 30 bars, visible in the share of taker buying, "
        "moves the return of the next bar."
    )


def best_correlation(horizon: int, symbols: Collection[str] = ("FLOW-0",)) -> float:
    """Correlation of FLOW's best forecast F with the log return R that it forecasts; 0 where no market has an edge.

    F is the conditional mean of R, so Cov(F, R) = Var(F) and the correlation is √(Var F / Var R), with

        Var F = β²·((1-φ^h)/(1-φ))²
        Var R = β²·Var(Σ f[t..t+h-1]) + h·E[σ²],      E[σ²] = s²·exp(2·0.25²)
        Var(Σ f) = h + 2·Σ_{j=1}^{h-1} (h-j)·φ^j
    """
    edge = max(EDGES[market_of(symbol)[0]] for symbol in symbols)
    lags = np.arange(1, horizon)
    drift = edge**2 * (horizon + 2 * float(np.sum((horizon - lags) * PERSISTENCE**lags)))
    noise = horizon * VOLATILITY**2 * float(np.exp(2 * VOLATILITY_SPREAD**2))
    return edge * _reach(horizon) / float(np.sqrt(drift + noise))


def market_of(symbol: str) -> tuple[str, int]:
    """`FLOW-1` → its market and seed; anything else is a UsageError."""
    return _market_with("bars", symbol)


def _market_with(kind: str, symbol: str) -> tuple[str, int]:
    market, _, seed = symbol.partition("-")
    if market not in KINDS_OF:
        raise unknown("market", market, list(KINDS_OF))
    if kind not in KINDS_OF[market]:
        raise UsageError(f"{market} has no {kind}", fix=f"ask for --kind {' or '.join(KINDS_OF[market])}")
    if not re.fullmatch(r"0|[1-9][0-9]{0,8}", seed):
        raise UsageError(f"{symbol!r} names no seed", fix=f"write a market and a whole number, e.g. {market}-1")
    return market, int(seed)


@dataclass(frozen=True)
class Synthetic:
    """Made-up markets, e.g. FLOW-1 for seed 1: 1m bars and trades of FLOW (an edge) and NOISE (none); BOOK has books.

    A market is the same whatever part of it is asked for, from 2024-01-01 on. Trades, quotes and books come in whole
    days.
    """

    kinds: ClassVar[tuple[str, ...]] = ("bars", "trades", "quotes", "books")

    def count(self, request: Request) -> int:
        span = _lifetime(request)
        return len(request.symbols) * len(months(span) if request.kind == "bars" else _days(span))

    def fetch(self, request: Request, done: Mapping[str, str]) -> Iterator[Piece]:
        kind, span = request.of_kind(*self.kinds), _lifetime(request)
        if kind == "bars" and request.interval != INTERVAL:
            raise UsageError(f"made-up markets have no {request.interval} bars", fix=f"ask for --interval {INTERVAL}")
        symbols = [symbol.upper() for symbol in request.symbols]
        markets = {symbol: _market_with(kind, symbol) for symbol in symbols}
        for symbol, (market, seed) in markets.items():
            if kind == "bars":
                yield from _bar_pieces(symbol, market, seed, span, done)
            else:
                yield from _event_pieces(symbol, market, seed, span, kind, done)


def _bar_pieces(symbol: str, market: str, seed: int, span: Span, done: Mapping[str, str]) -> Iterator[Piece]:
    wanted = {_origin(symbol, month): month for month in months(span)}
    if missing := {origin: month for origin, month in wanted.items() if origin not in done}:
        bars = simulate(market, seed, (span.end - BIRTH) // BAR)
        for origin, month in missing.items():
            piece = bars.within(Span(month.start + BAR, month.end + BAR))
            yield Piece(symbol, origin, piece.digest, piece)


def _event_pieces(
    symbol: str, market: str, seed: int, span: Span, kind: str, done: Mapping[str, str]
) -> Iterator[Piece]:
    days = [day for day in _days(span) if _origin(f"{symbol} {kind}", day) not in done]
    bars = simulate(market, seed, (days[-1].end - BIRTH) // BAR) if days and market in EDGES else None
    for day in days:
        number = (day.start - BIRTH) // DAY
        if bars is None:
            frame = book_day(symbol, seed, day.start, number, kind)
        else:
            within = bars.within(Span(day.start + BAR, day.end + BAR))
            frame = trades_within(within, np.random.default_rng([seed, 5, number]), number * NUMBERS_A_DAY)
        table = Table(kind, frame)
        yield Piece(symbol, _origin(f"{symbol} {kind}", day), table.digest, table, span=day)


def simulate(market: str, seed: int, count: int) -> Bars:
    """The first `count` bars of a market, from its birth on; a longer run begins with the same bars."""
    shocks = [np.random.default_rng([seed, stream]) for stream in range(5)]
    pressure = _autoregression(shocks[0].standard_normal(count + 1), PERSISTENCE)
    volatility = VOLATILITY * np.exp(
        VOLATILITY_SPREAD * _autoregression(shocks[1].standard_normal(count), VOLATILITY_PERSISTENCE)
    )
    steps = volatility[:, None] * shocks[2].standard_normal((count, STEPS)) / np.sqrt(STEPS)
    path = np.cumsum(steps + EDGES[market] * pressure[:-1, None] / STEPS, axis=1)
    prices = _prices(path)
    minute = np.arange(count) % MINUTES_PER_DAY
    season = 0.5 * np.cos(2 * np.pi * minute / MINUTES_PER_DAY)
    volume = 100 * np.exp(season + 0.5 * shocks[3].standard_normal(count))
    columns = {
        **prices,
        "volume": volume,
        "buy_volume": volume * (1 + np.tanh(VISIBLE * pressure[1:])) / 2,
        "quote_volume": volume * (prices["high"] + prices["low"] + prices["close"]) / 3,
        "trades": np.ceil(volume * np.exp(0.1 * shocks[4].standard_normal(count))),
    }
    # Rounded, so that the last bit of another machine's exp or tanh does not make another market.
    frame = pl.DataFrame({name: np.round(values, DECIMALS) for name, values in columns.items()})
    closes = pl.datetime_range(BIRTH, BIRTH + count * BAR, INTERVAL, closed="right", time_unit="us", eager=True)
    return Bars.of(frame.with_columns(symbol=pl.lit(f"{market}-{seed}"), time=closes), INTERVAL)


def _prices(path: Matrix) -> dict[str, Vector]:
    """Open, high, low, close from the log price inside each bar, relative to its open."""
    closes = np.cumsum(path[:, -1])
    opens = np.concatenate(([0.0], closes[:-1]))
    extremes = {"high": np.maximum(path.max(axis=1), 0), "low": np.minimum(path.min(axis=1), 0)}
    logs = {"open": opens, **{name: opens + reach for name, reach in extremes.items()}, "close": closes}
    # low <= open, close <= high survive exp and rounding, but not opens + path against cumsum(path).
    logs["high"], logs["low"] = np.maximum(logs["high"], closes), np.minimum(logs["low"], closes)
    return {name: FIRST_PRICE * np.exp(log) for name, log in logs.items()}


def _autoregression(shocks: Vector, persistence: float) -> Vector:
    """AR(1) with variance 1, begun in its stationary distribution."""
    scaled = shocks * np.sqrt(1 - persistence**2)
    scaled[:1] = shocks[:1]
    filtered: Vector = lfilter([1.0], [1.0, -persistence], scaled)
    return filtered


def _reach(horizon: int) -> float:
    """(1-φ^h)/(1-φ): how many bars' worth of drift the pressure of one bar brings."""
    return (1 - PERSISTENCE**horizon) / (1 - PERSISTENCE)


def _lifetime(request: Request) -> Span:
    span = request.bounded()
    if span.start < BIRTH or span.end > END:
        raise UsageError(
            f"made-up markets have no {request.kind} from {span.start:%Y-%m-%d} to {span.end:%Y-%m-%d}",
            fix=f"ask for a part of {BIRTH:%Y-%m-%d} to {END:%Y-%m-%d}",
        )
    return span


def _days(span: Span) -> list[Span]:
    """The days (UTC) that a span touches, whole."""
    first = span.start.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    return [Span(first + n * DAY, first + (n + 1) * DAY) for n in range(-((first - span.end) // DAY))]


def _origin(what: str, part: Span) -> str:
    return f"synthetic {what} {part.start:%Y-%m-%dT%H:%M} to {part.end:%Y-%m-%dT%H:%M}"


synthetic = Synthetic()
