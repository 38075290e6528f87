"""Features across symbols against pandas and DuckDB, close by close."""

import duckdb
import numpy as np
import pandas as pd
import polars as pl
import pytest

from lab.features import FEATURES, compute, plain
from lab.nouns import Bars
from tests.conftest import bars_of, rows_of, two_state_moves

SYMBOLS = ("ADA", "BTC", "DOT", "ETH", "SOL")


@pytest.fixture(scope="module")
def panel() -> Bars:
    """Five symbols that share a market and have a life of their own; one is listed late, one misses some bars."""
    rows = 420
    market = two_state_moves(rows, 0.1, (1e-3, 4e-3), seed=1)
    frames = {}
    for seed, symbol in enumerate(SYMBOLS):
        own = two_state_moves(rows, 0.2, (1e-3, 3e-3), seed=seed + 2)
        frames[symbol] = rows_of(symbol, market * (0.5 + seed / 4) + own, seed=seed)
    frames["SOL"] = frames["SOL"].slice(150)
    frames["DOT"] = pl.concat([frames["DOT"].head(300), frames["DOT"].slice(310)])
    return bars_of(*frames.values())


@pytest.fixture(scope="module")
def returns(panel: Bars) -> pd.DataFrame:
    """One-bar log returns, a column a symbol; none crosses a hole."""
    closes = panel.frame.pivot("symbol", index="time", values="close").sort("time").to_pandas().set_index("time")
    return np.log(closes).diff()


def column(panel: Bars, text: str) -> pd.DataFrame:
    feature = plain(text)
    values = compute(panel, [feature])
    wide = values.pivot("symbol", index="time", values=feature.name).sort("time")
    return wide.to_pandas().set_index("time")[list(SYMBOLS)]


def same(ours: pd.DataFrame, theirs: pd.DataFrame, least: int) -> None:
    theirs = theirs[list(SYMBOLS)]
    assert int(ours.notna().sum().sum()) >= least
    np.testing.assert_allclose(ours.to_numpy(), theirs.to_numpy(), rtol=1e-8, atol=1e-10)


def others(returns: pd.DataFrame) -> pd.DataFrame:
    """For each symbol the mean of the others' values."""
    known = returns.notna()
    rest = returns.fillna(0).sum(axis=1).to_numpy()[:, None] - returns.fillna(0)
    count = known.sum(axis=1).to_numpy()[:, None] - known
    return (rest / count.where(count > 0)).where(returns.index.to_series().notna(), axis=0)


def test_ranks_run_from_minus_one_to_one_as_pandas_ranks_them(panel: Bars, returns: pd.DataFrame) -> None:
    moved = returns.rolling(5).sum()
    count = moved.notna().sum(axis=1)
    expected = (2 * (moved.rank(axis=1).sub(1, axis=0)).div(count - 1, axis=0) - 1).where(count > 1)
    same(column(panel, "return_rank(5)"), expected, 1500)


def test_spreads_and_dispersion_are_duckdbs(panel: Bars) -> None:
    moved = compute(panel, [plain("log_return(5)")]).rename({"log_return_5": "moved"})
    rows = duckdb.sql(
        """select symbol, time, (moved - avg(moved) over at_close) / stddev_samp(moved) over at_close as spread,
           stddev_samp(moved) over at_close as dispersion from moved window at_close as (partition by time)
           order by symbol, time"""
    ).pl()
    for name, text in (("spread", "return_spread(5)"), ("dispersion", "dispersion(5)")):
        ours = compute(panel, [plain(text)])[plain(text).name]
        expected = pl.select(
            pl.when(moved["moved"].is_not_null() | (name == "dispersion")).then(rows[name])
        ).to_series()
        known = ours.is_not_null()
        assert known.sum() > 1500
        assert ours.filter(known).to_list() == pytest.approx(expected.filter(known).to_list(), rel=1e-9)


def test_beta_correlation_and_what_is_left_are_pandas_rolling_ones(panel: Bars, returns: pd.DataFrame) -> None:
    market = others(returns)
    window = 60
    covariance, variance = returns.rolling(window).cov(market), market.rolling(window).var()
    beta, correlation = covariance / variance, returns.rolling(window).corr(market)
    same(column(panel, "beta(60)"), beta, 1300)
    same(column(panel, "market_correlation(60)"), correlation, 1300)
    same(column(panel, "idiosyncratic_share(60)"), 1 - correlation**2, 1300)
    left = returns - returns.rolling(window).mean() - beta * (market - market.rolling(window).mean())
    same(column(panel, "residual_return(60)"), left, 1300)
    follows, leads = (a.rolling(window).corr(b.shift(2)) for a, b in ((returns, market), (market, returns)))
    same(column(panel, "lead_lag(2, 60)"), follows - leads, 1300)


def test_what_the_others_did(panel: Bars, returns: pd.DataFrame) -> None:
    moved = returns.rolling(5).sum()
    ours = column(panel, "market_return(5)")
    same(ours, others(moved).where(ours.notna()), 1500)
    same(column(panel, "relative_strength(5)"), moved - others(moved), 1500)
    rose = (returns > 0).astype(float).where(returns.notna())
    breadth = column(panel, "market_breadth(20)")
    same(breadth, others(rose).rolling(20).mean().where(breadth.notna()), 1400)


def test_other_ranks_are_those_of_what_they_rank(panel: Bars) -> None:
    for text, inner in (("volatility_rank(30)", "realised_vol(30)"), ("volume_rank_across(30)", "volume_zscore(30)")):
        values = column(panel, inner)
        count = values.notna().sum(axis=1)
        same(column(panel, text), (2 * (values.rank(axis=1) - 1).div(count - 1, axis=0) - 1).where(count > 1), 1400)


def test_every_feature_across_symbols_is_held_to_account_here() -> None:
    across = {name for name in FEATURES if FEATURES[name].family == "cross section"}
    held = {"return_rank", "return_spread", "dispersion", "beta", "market_correlation", "idiosyncratic_share"}
    held |= {"residual_return", "lead_lag", "market_return", "relative_strength", "market_breadth"}
    assert across == held | {"volatility_rank", "volume_rank_across"}


def test_a_symbol_alone_has_no_place_among_others(panel: Bars) -> None:
    alone = panel.of_symbol("BTC")
    for name in ("return_rank", "beta", "dispersion", "market_return"):
        values = compute(alone, [plain(name)])[plain(name).name]
        assert values.null_count() == values.len() > 0
