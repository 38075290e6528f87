"""The 158 factors against the expressions that Qlib publishes, written out in pandas."""

from collections.abc import Callable

import numpy as np
import pandas as pd
import polars as pl
import pytest

from lab.features import SETS, compute, plain, resolve_all
from lab.nouns import Bars
from tests.conftest import bars_of, rows_of, two_state_moves

Table = pd.DataFrame
Column = pd.Series


def greater(x: Column) -> Column:
    return x.clip(lower=0)


def moves(x: Column) -> Column:
    return x - x.shift(1)


def share(x: Column, window: int) -> Column:
    return greater(moves(x)).rolling(window).sum() / moves(x).abs().rolling(window).sum()


def slope(x: Column, window: int) -> Column:
    return x.rolling(window).apply(lambda last: np.polyfit(np.arange(window), last, 1)[0], raw=True)


def fitted(x: Column, window: int) -> Column:
    def end(last: np.ndarray) -> float:
        line = np.polyfit(np.arange(window), last, 1)
        return float(line[0] * (window - 1) + line[1])

    return x.rolling(window).apply(end, raw=True)


def determination(x: Column, window: int) -> Column:
    return x.rolling(window).apply(lambda last: np.corrcoef(np.arange(window), last)[0, 1] ** 2, raw=True)


def busy(b: Table) -> Column:
    return (b.close / b.close.shift(1) - 1).abs() * b.volume


BAR: dict[str, Callable[[Table], Column]] = {
    "kmid": lambda b: (b.close - b.open) / b.open,
    "klen": lambda b: (b.high - b.low) / b.open,
    "kmid2": lambda b: (b.close - b.open) / (b.high - b.low),
    "kup": lambda b: (b.high - b[["open", "close"]].max(axis=1)) / b.open,
    "kup2": lambda b: (b.high - b[["open", "close"]].max(axis=1)) / (b.high - b.low),
    "klow": lambda b: (b[["open", "close"]].min(axis=1) - b.low) / b.open,
    "klow2": lambda b: (b[["open", "close"]].min(axis=1) - b.low) / (b.high - b.low),
    "ksft": lambda b: (2 * b.close - b.high - b.low) / b.open,
    "ksft2": lambda b: (2 * b.close - b.high - b.low) / (b.high - b.low),
    "open0": lambda b: b.open / b.close,
    "high0": lambda b: b.high / b.close,
    "low0": lambda b: b.low / b.close,
    "vwap0": lambda b: b.quote_volume / b.volume / b.close,
}
ROLLING: dict[str, Callable[[Table, int], Column]] = {
    "roc": lambda b, d: b.close.shift(d) / b.close,
    "ma": lambda b, d: b.close.rolling(d).mean() / b.close,
    "std": lambda b, d: b.close.rolling(d).std() / b.close,
    "beta": lambda b, d: slope(b.close, d) / b.close,
    "rsqr": lambda b, d: determination(b.close, d),
    "resi": lambda b, d: (b.close - fitted(b.close, d)) / b.close,
    "max": lambda b, d: b.high.rolling(d).max() / b.close,
    "min": lambda b, d: b.low.rolling(d).min() / b.close,
    "qtlu": lambda b, d: b.close.rolling(d).quantile(0.8) / b.close,
    "qtld": lambda b, d: b.close.rolling(d).quantile(0.2) / b.close,
    "rank": lambda b, d: b.close.rolling(d).rank(pct=True),
    "rsv": lambda b, d: (b.close - b.low.rolling(d).min()) / (b.high.rolling(d).max() - b.low.rolling(d).min()),
    "imax": lambda b, d: b.high.rolling(d).apply(lambda last: last.argmax() + 1, raw=True) / d,
    "imin": lambda b, d: b.low.rolling(d).apply(lambda last: last.argmin() + 1, raw=True) / d,
    "imxd": lambda b, d: ROLLING["imax"](b, d) - ROLLING["imin"](b, d),
    "corr": lambda b, d: b.close.rolling(d).corr(np.log(b.volume + 1)),
    "cord": lambda b, d: (b.close / b.close.shift(1)).rolling(d).corr(np.log(b.volume / b.volume.shift(1) + 1)),
    "cntp": lambda b, d: (moves(b.close) > 0).rolling(d).mean(),
    "cntn": lambda b, d: (moves(b.close) < 0).rolling(d).mean(),
    "cntd": lambda b, d: ROLLING["cntp"](b, d) - ROLLING["cntn"](b, d),
    "sump": lambda b, d: share(b.close, d),
    "sumn": lambda b, d: share(-b.close, d),
    "sumd": lambda b, d: share(b.close, d) - share(-b.close, d),
    "vma": lambda b, d: b.volume.rolling(d).mean() / b.volume,
    "vstd": lambda b, d: b.volume.rolling(d).std() / b.volume,
    "wvma": lambda b, d: busy(b).rolling(d).std() / busy(b).rolling(d).mean(),
    "vsump": lambda b, d: share(b.volume, d),
    "vsumn": lambda b, d: share(-b.volume, d),
    "vsumd": lambda b, d: share(b.volume, d) - share(-b.volume, d),
}
WINDOWS = (5, 10, 20, 30, 60)


@pytest.fixture(scope="module")
def market() -> Bars:
    return bars_of(rows_of("STOCK", two_state_moves(260, 0.1, (5e-3, 2e-2), seed=8), interval="1d"), interval="1d")


@pytest.fixture(scope="module")
def table(market: Bars) -> Table:
    return market.frame.to_pandas()


def test_the_set_is_the_158_factors_that_are_published() -> None:
    expected = [f"alpha_{name}" for name in BAR]
    expected += [f"alpha_{name}({window})" for name in ROLLING for window in WINDOWS]
    assert len(expected) == 158
    assert sorted(SETS["alpha158"]()) == sorted(expected)
    plain_ones, fitted_ones = resolve_all(["alpha158"])
    assert (len(plain_ones), fitted_ones) == (158, [])


@pytest.mark.parametrize("name", BAR)
def test_a_factor_of_the_bar_is_as_published(name: str, market: Bars, table: Table) -> None:
    ours = compute(market, [plain(f"alpha_{name}")])[f"alpha_{name}"].to_numpy()
    np.testing.assert_allclose(ours, BAR[name](table), rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("window", WINDOWS)
@pytest.mark.parametrize("name", ROLLING)
def test_a_factor_of_a_window_is_as_published_once_it_is_full(
    name: str, window: int, market: Bars, table: Table
) -> None:
    feature = plain(f"alpha_{name}({window})")
    ours = compute(market, [feature])[feature.name].to_numpy()
    known = ours[feature.lookback - 1 :]
    assert np.isfinite(known).all()
    assert np.isnan(ours[: feature.lookback - 1]).all()
    np.testing.assert_allclose(known, ROLLING[name](table, window)[feature.lookback - 1 :], rtol=1e-8, atol=1e-10)


def test_where_nothing_traded_the_published_explosion_is_null(market: Bars) -> None:
    """Volume + 1e-12 in the denominator makes factors of 1e12 of a day without trades."""
    silent = pl.int_range(pl.len()) == 200
    quiet = Bars(market.frame.with_columns(volume=pl.when(silent).then(0.0).otherwise("volume")), "1d")
    features = resolve_all(["alpha158"])[0]
    values = compute(quiet, features)
    largest = values.select(pl.exclude("symbol", "time").abs().max()).row(0, named=True)
    assert max(largest.values()) < 1e3
    on_the_day = {each.name for each in features if values[each.name][200] is None}
    before = {each.name for each in features if compute(market, features)[each.name][200] is None}
    windows_of = {f"alpha_{name}_{window}" for name in ("vma", "vstd") for window in WINDOWS}
    assert on_the_day - before == windows_of | {"alpha_vwap0"}
    assert values["alpha_cord_20"][201:221].null_count() == 20
