"""Made-up trades and books: the bars come back from the trades, and order flow moves the price as published."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from lab.bars import close_bars, with_book
from lab.errors import UnknownName, UsageError
from lab.kinds import KINDS
from lab.nouns import EVENTS, PRICES, Bars, Piece, Span
from lab.sources import Request, Source
from lab.sources.synthetic import BIRTH, EDGES, KINDS_OF, simulate, synthetic
from lab.sources.synthetic_book import EXPLAINED, IMPACT, NOISE
from lab.sources.synthetic_trades import trades_within

MINUTE, DAY = timedelta(minutes=1), timedelta(days=1)
LEAP_DAY = datetime(2024, 2, 29, tzinfo=UTC)
TWO_DAYS = Span(LEAP_DAY, LEAP_DAY + 2 * DAY)


def law_case(folder: Path) -> tuple[Source, Request]:
    """Three days of trades in two markets; the last day is asked for in part and comes whole."""
    return synthetic, Request(("FLOW-1", "BOOK-2"), EVENTS, Span(LEAP_DAY, LEAP_DAY + timedelta(hours=50)), "trades")


def pieces(symbol: str, kind: str, span: Span = TWO_DAYS) -> list[Piece]:
    return list(synthetic.fetch(Request((symbol,), EVENTS, span, kind), {}))


def frames(symbol: str, kind: str, span: Span = TWO_DAYS) -> list[pl.DataFrame]:
    return [piece.table.frame for piece in pieces(symbol, kind, span) if piece.table]


def closed(trades: list[pl.DataFrame], interval: str = "1m") -> pl.DataFrame:
    return pl.concat([bars.frame for bars in close_bars(trades, interval, until=TWO_DAYS.end)])


@pytest.mark.parametrize(("symbol", "market"), [("FLOW-1", "FLOW"), ("NOISE-7", "NOISE")])
def test_closing_the_trades_gives_the_bars_that_they_are_inside_of(symbol: str, market: str) -> None:
    seed = int(symbol.split("-")[1])
    bars = simulate(market, seed, (TWO_DAYS.end - BIRTH) // MINUTE)
    wanted = bars.within(Span(LEAP_DAY + MINUTE, TWO_DAYS.end + MINUTE)).frame
    found = closed(frames(symbol, "trades"))
    assert found.height == wanted.height == 2880
    exact = ["symbol", "time", *PRICES, "trades"]
    assert found.select(exact).equals(wanted.select(exact))
    for name in ("volume", "buy_volume"):
        assert found[name].to_numpy() == pytest.approx(wanted[name].to_numpy(), abs=1e-6)


@pytest.mark.parametrize(("symbol", "kind"), [("FLOW-1", "trades"), *(("BOOK-1", kind) for kind in KINDS_OF["BOOK"])])
def test_made_up_events_are_rows_of_their_kind_and_whole_days(symbol: str, kind: str) -> None:
    found = pieces(symbol, kind, Span(LEAP_DAY + timedelta(hours=5), LEAP_DAY + timedelta(hours=30)))
    assert [piece.span for piece in found] == [Span(LEAP_DAY, LEAP_DAY + DAY), Span(LEAP_DAY + DAY, LEAP_DAY + 2 * DAY)]
    again = pieces(symbol, kind, Span(LEAP_DAY + timedelta(hours=30), LEAP_DAY + timedelta(hours=31)))
    assert [piece.digest for piece in again] == [found[1].digest]
    for piece in found:
        assert piece.table is not None and piece.span is not None
        frame = piece.table.frame
        assert frame.height >= 86_400
        assert dict(frame.schema) == KINDS[kind].schema(frame.columns)
        assert frame.select(KINDS[kind].fault(frame.columns)).to_series().null_count() == frame.height
        assert frame["time"].is_sorted()
        assert frame.select(piece.span.covers(pl.col("time")).all()).item()


def test_trades_are_numbered() -> None:
    trades = pl.concat(frames("FLOW-1", "trades"))
    assert trades["id"].is_unique().all()
    assert trades["id"].is_sorted()


def test_even_a_bar_of_one_trade_holds_its_prices_and_both_sides() -> None:
    bars = simulate("FLOW", 1, 500).frame.with_columns(trades=1.0, buy_volume=0.999 * pl.col("volume"))
    trades = trades_within(Bars(bars, "1m"), np.random.default_rng(1), 0)
    assert trades.height == 2000
    found = closed([trades])
    assert found.select("time", *PRICES).equals(bars.select("time", *PRICES))
    assert found["buy_volume"].to_numpy() == pytest.approx(bars["buy_volume"].to_numpy(), abs=1e-6)
    assert found["volume"].to_numpy() == pytest.approx(bars["volume"].to_numpy(), abs=1e-6)


def test_order_flow_moves_the_price_by_the_published_impact() -> None:
    """Over minutes: slope and R² within what 2878 of them can say, and the noise is the one that was planted."""
    trades, quotes = frames("BOOK-1", "trades"), frames("BOOK-1", "quotes")
    bars = pl.concat([each.frame for each in with_book(close_bars(trades, "1m", until=TWO_DAYS.end), quotes)])
    mid = (pl.col("bid") + pl.col("ask")) / 2
    inside = pl.col("time").dt.time() != pl.time(0, 1)  # each day opens anew at 100
    moves = bars.with_columns(moved=mid.diff()).filter(inside)[:, ["ofi_1", "moved"]].to_numpy()
    assert len(moves) == 2878
    flow, moved = moves.T
    slope, _ = np.polyfit(flow, moved, 1)
    noise = moved - IMPACT * flow
    error = noise.std() / (flow.std() * len(flow) ** 0.5)
    assert slope == pytest.approx(IMPACT, abs=3 * error) and error < 0.02 * IMPACT
    assert np.corrcoef(flow, moved)[0, 1] ** 2 == pytest.approx(EXPLAINED, abs=0.03)
    assert noise.std() == pytest.approx(NOISE * 60**0.5, rel=0.05)
    assert abs(np.corrcoef(flow, noise)[0, 1]) < 3 / len(flow) ** 0.5
    assert pytest.approx(0.68) == EXPLAINED


def test_books_have_the_quotes_as_their_best_level() -> None:
    quotes, books = (pl.concat(frames("BOOK-3", kind)) for kind in ("quotes", "books"))
    best = books.select("symbol", "time", **{name: f"{name}_1" for name in ("bid", "bid_size", "ask", "ask_size")})
    assert best.equals(quotes)
    empty = books.filter(pl.col("bid_1").is_null())
    assert empty["time"].to_list() == [LEAP_DAY, LEAP_DAY + DAY]
    full = books.drop_nulls()
    assert full.height == books.height - 2
    for level in range(1, 5):
        for side, away in (("bid", -0.01), ("ask", 0.01)):
            apart = full[f"{side}_{level + 1}"] - full[f"{side}_{level}"]
            assert apart.to_numpy() == pytest.approx(away, abs=1e-6)


def test_the_midnight_between_two_markets_is_no_flow() -> None:
    trades, quotes = frames("BOOK-1", "trades"), frames("BOOK-1", "quotes")
    seconds = [Bars(closed(trades, "1s"), "1s")]
    bars = pl.concat([each.frame for each in with_book(seconds, quotes)])
    first = bars.filter(pl.col("time") == LEAP_DAY + DAY + timedelta(seconds=1)).row(0, named=True)
    opening, flowed = (quotes[1].row(n, named=True) for n in (1, 2))
    side = 1 if flowed["bid"] > opening["bid"] else -1
    assert first["ofi_1"] == side * (opening["bid_size"] + flowed["bid_size"])


def test_a_market_says_what_it_has() -> None:
    assert set(KINDS_OF) == {*EDGES, "BOOK"}
    with pytest.raises(UsageError, match="FLOW has no books") as wrong:
        pieces("FLOW-1", "books")
    assert wrong.value.fix == "ask for --kind bars or trades"
    with pytest.raises(UsageError, match="BOOK has no bars") as wrong:
        list(synthetic.fetch(Request(("BOOK-1",), "1m", TWO_DAYS), {}))
    assert wrong.value.fix == "ask for --kind trades or quotes or books"
    with pytest.raises(UnknownName, match="no market named 'BOOKS'"):
        pieces("BOOKS-1", "books")
    with pytest.raises(UsageError, match="no trades from 2029-12-31 to 2030-01-02"):
        pieces("FLOW-1", "trades", Span(datetime(2029, 12, 31, tzinfo=UTC), datetime(2030, 1, 2, tzinfo=UTC)))
