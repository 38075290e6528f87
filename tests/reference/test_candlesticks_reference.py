"""Candlestick patterns against TA-Lib and LEAN, and those that neither has against the plain words of their rules."""

import csv
import io
import zipfile
from collections.abc import Mapping
from pathlib import Path
from statistics import fmean

import numpy as np
import polars as pl
import pytest
import talib

from lab.features import FEATURES, candlesticks, compute, plain
from lab.features.computing import applied
from lab.nouns import Bars, Vector
from tests.conftest import bars_of, rows_of

# Function, the sign of its values that is meant (0: both), its options.
TALIB: Mapping[str, tuple[str, int, dict[str, float]]] = {
    "doji": ("CDLDOJI", 0, {}),
    "hammer": ("CDLHAMMER", 0, {}),
    "shooting_star": ("CDLSHOOTINGSTAR", 0, {}),
    "bullish_engulfing": ("CDLENGULFING", 1, {}),
    "bearish_engulfing": ("CDLENGULFING", -1, {}),
    "morning_star": ("CDLMORNINGSTAR", 0, {"penetration": 0.3}),
    "evening_star": ("CDLEVENINGSTAR", 0, {"penetration": 0.3}),
    "three_white_soldiers": ("CDL3WHITESOLDIERS", 0, {}),
    "three_black_crows": ("CDL3BLACKCROWS", 0, {}),
    "harami": ("CDLHARAMI", 0, {}),
    "piercing_line": ("CDLPIERCING", 0, {}),
    "dark_cloud_cover": ("CDLDARKCLOUDCOVER", 0, {"penetration": 0.5}),
    "marubozu": ("CDLMARUBOZU", 0, {}),
}
DIRECTED = (*(set(TALIB) - {"doji"}), "tweezer_top", "tweezer_bottom")
PRICES = ("open", "high", "low", "close")
Prices = Mapping[str, Vector]


def random_prices(rows: int, seed: int) -> Prices:
    """Candles of every shape, with gaps between them, in numbers that are never whole."""
    rng = np.random.default_rng(seed)
    close = 100_000 + np.cumsum(rng.normal(0, 6, rows))
    opened = np.concatenate([close[:1], close[:-1]]) + rng.normal(0, 3, rows)
    above, below = (rng.exponential(2, rows) * (rng.random(rows) < 0.7) for _ in range(2))
    return {
        "open": opened,
        "high": np.maximum(opened, close) + above,
        "low": np.minimum(opened, close) - below,
        "close": close,
    }


def in_ticks(prices: Prices, tick: float) -> Prices:
    return {name: np.round(x / tick) for name, x in prices.items()}


def bars_from(prices: Prices) -> Bars:
    frame = rows_of("CANDLES", np.zeros(prices["close"].size))
    return bars_of(frame.with_columns(pl.Series(name, prices[name]) for name in PRICES))


def column_of(bars: Bars, text: str) -> Vector:
    feature = plain(text)
    return compute(bars, [feature])[feature.name].to_numpy()


def by_talib(prices: Prices, name: str) -> Vector:
    function, sign, options = TALIB[name]
    values: Vector = getattr(talib, function)(*(prices[each] for each in PRICES), **options) / 100
    return np.where(np.sign(values) == sign, values, 0.0) if sign else values


def mismatches(prices: Prices, name: str) -> tuple[int, int]:
    """On how many bars lab and TA-Lib differ, and on how many TA-Lib sees the pattern; the first 13 do not count."""
    found, expected = column_of(bars_from(prices), name), by_talib(prices, name)
    assert np.isnan(found).sum() == plain(name).lookback - 1
    return int((found != expected)[13:].sum()), int((expected != 0)[13:].sum())


@pytest.mark.parametrize("name", TALIB)
def test_in_ticks_every_bar_is_what_talib_says(name: str) -> None:
    differ, seen = mismatches(in_ticks(random_prices(240_000, 1), 1.0), name)
    assert differ == 0
    assert seen > 100


@pytest.mark.parametrize("name", TALIB)
def test_on_a_coarse_grid_where_most_things_tie_every_bar_is_what_talib_says(name: str) -> None:
    differ, seen = mismatches(in_ticks(random_prices(240_000, 2), 4.0), name)
    assert differ == 0
    assert seen > 50


@pytest.mark.parametrize("name", TALIB)
def test_where_nothing_ties_every_bar_is_what_talib_says(name: str) -> None:
    differ, seen = mismatches(random_prices(100_000, 3), name)
    assert differ == 0
    assert seen > 50


def bitcoin(folder: Path) -> Prices:
    """Minutes of BTCUSDT in March 2026, in whole cents."""
    with zipfile.ZipFile(folder / "crypto/binance_spot/klines_1m/BTCUSDT-1m-2026-03.zip") as packed:
        text = packed.read(packed.namelist()[0])
    table = pl.read_csv(io.BytesIO(text), has_header=not text[:1].isdigit())
    names = dict(zip(PRICES, table.columns[1:5], strict=True))
    return {name: np.round(table[column].cast(pl.Float64).to_numpy() * 100) for name, column in names.items()}


@pytest.mark.parametrize("name", TALIB)
def test_minutes_of_bitcoin_in_cents_are_what_talib_says(real_markets: Path, name: str) -> None:
    assert mismatches(bitcoin(real_markets), name)[0] == 0


@pytest.mark.parametrize("name", TALIB)
def test_minutes_of_bitcoin_in_dollars_are_what_talib_says_too(real_markets: Path, name: str) -> None:
    """A cent has no binary form: what ties exactly in cents may not in dollars, as on 6 bars for hammers."""
    cents = bitcoin(real_markets)
    dollars = {each: x / 100 for each, x in cents.items()}
    assert mismatches(dollars, name)[0] == 0
    in_dollars, in_cents = column_of(bars_from(dollars), name), column_of(bars_from(cents), name)
    assert (in_dollars != in_cents)[13:].sum() == (6 if name == "hammer" else 0)


@pytest.mark.parametrize("name", TALIB)
def test_years_of_spy_are_what_lean_says(real_markets: Path, name: str) -> None:
    with (real_markets / "reference/lean_indicators/spy_candle_patterns.txt").open() as file:
        rows = list(csv.DictReader(file))
    prices = {each: np.round([100 * float(row[each.title()]) for row in rows]) for each in PRICES}
    function, sign, _ = TALIB[name]
    values = [float(row[function] or "nan") for row in rows]
    expected = np.array([x / max(abs(x), 1) if not sign or x * sign > 0 else 0 * x for x in values])
    known = ~np.isnan(expected) & (np.arange(len(rows)) >= 13)
    assert known.sum() > 480
    # LEAN follows an older TA-Lib, in which a harami whose end touches is none.
    np.testing.assert_array_equal(np.trunc(column_of(bars_from(prices), name))[known], expected[known])


def trend_before(close: Vector, t: int, length: int) -> float:
    window = close[t - length - 9 : t - length + 1]
    return float(np.sign(round(float(close[t - length]) - fmean(window), 9)))


@pytest.mark.parametrize("seed", [4, 5])
def test_tweezers_are_what_their_rule_says(seed: int) -> None:
    prices = in_ticks(random_prices(20_000, seed), 2.0)
    o, h, low, c = (prices[name] for name in PRICES)
    bars = bars_from(prices)
    tops, bottoms = column_of(bars, "tweezer_top"), column_of(bars, "tweezer_bottom")
    for t in range(11, c.size):
        near = 0.05 * fmean(h[t - 6 : t - 1] - low[t - 6 : t - 1])
        top = c[t - 1] >= o[t - 1] and c[t] < o[t] and abs(h[t] - h[t - 1]) <= near and trend_before(c, t, 2) > 0
        bottom = c[t - 1] < o[t - 1] and c[t] >= o[t] and abs(low[t] - low[t - 1]) <= near and trend_before(c, t, 2) < 0
        assert (tops[t], bottoms[t]) == (-1.0 if top else 0.0, 1.0 if bottom else 0.0)
    assert (tops == -1).sum() > 50
    assert (bottoms == 1).sum() > 50


@pytest.mark.parametrize("length", [1, 2, 3])
def test_the_trend_is_told_before_the_pattern_began(length: int) -> None:
    prices = in_ticks(random_prices(2_000, 6), 3.0)
    found = column_of(bars_from(prices), f"pattern_trend({length})")
    expected = [trend_before(prices["close"], t, length) for t in range(9 + length, 2_000)]
    np.testing.assert_array_equal(found[9 + length :], expected)
    assert set(expected) == {-1.0, 0.0, 1.0}


def test_the_balance_counts_bullish_less_bearish_patterns() -> None:
    bars = bars_from(in_ticks(random_prices(5_000, 7), 2.0))
    signs = np.sum([np.sign(column_of(bars, name)) for name in DIRECTED], axis=0)
    found = column_of(bars, "pattern_balance(15)")
    first = plain("pattern_balance(15)").lookback - 1
    expected = [signs[t - 14 : t + 1].sum() for t in range(first, signs.size)]
    np.testing.assert_array_equal(found[first:], expected)
    assert np.ptp(expected) > 5


@pytest.mark.parametrize("name", [*TALIB, "tweezer_top", "tweezer_bottom", "pattern_trend", "pattern_balance"])
def test_a_pattern_is_seen_in_its_look_back_alone(name: str) -> None:
    """On candles of every shape: those of markets that never close hardly ever have a gap to see a pattern by."""
    prices, feature = in_ticks(random_prices(5_000, 9), 2.0), plain(name)
    whole, bars = column_of(bars_from(prices), name), feature.lookback
    alone = [
        applied(
            feature, {each: x[first : first + bars] for each, x in prices.items()} | {"age": np.array([first + 1])}
        )[-1]
        for first in range(whole.size - bars + 1)
    ]
    np.testing.assert_array_equal(alone, whole[bars - 1 :])
    assert np.unique(alone).size > 1


def test_there_are_fifteen_patterns_their_trend_and_their_balance() -> None:
    family = {name for name in FEATURES if FEATURES[name].formula.__module__ == candlesticks.__name__}
    assert family == {"doji", *DIRECTED, "pattern_trend", "pattern_balance"}
    assert len(family) == 17


def candles(*last: tuple[float, float, float, float]) -> Prices:
    """Twenty bars of 10 ticks' range and 4 ticks' body, black and white in turn, and then those given (O, H, L, C)."""
    before = [(1_002.0, 1_005.0, 995.0, 998.0), (998.0, 1_005.0, 995.0, 1_002.0)] * 10
    return dict(zip(PRICES, np.array([*before, *last]).T, strict=True))


@pytest.mark.parametrize(
    ("name", "value", "last"),
    [
        ("doji", 1.0, [(1_000, 1_005, 995, 1_001)]),
        ("doji", 0.0, [(1_000, 1_005, 995, 1_002)]),
        ("bullish_engulfing", 1.0, [(1_000, 1_003, 995, 997), (996, 1_005, 995, 1_001)]),
        ("bullish_engulfing", 0.8, [(1_000, 1_003, 995, 997), (997, 1_005, 995, 1_001)]),
        ("bullish_engulfing", 0.0, [(1_000, 1_003, 995, 997), (997, 1_005, 995, 1_000)]),  # the same body
        ("bearish_engulfing", -0.8, [(997, 1_003, 995, 1_000), (1_001, 1_005, 995, 997)]),
        ("harami", 1.0, [(1_006, 1_008, 995, 997), (999, 1_003, 998, 1_001)]),
        ("harami", -0.8, [(997, 1_008, 995, 1_006), (997, 1_003, 996, 1_001)]),
        ("marubozu", 1.0, [(990, 1_010, 990, 1_010)]),
        ("marubozu", -1.0, [(1_010, 1_010, 990, 990)]),
        ("marubozu", 0.0, [(1_009, 1_010, 990, 990)]),  # a tenth of the mean range is a shadow
        ("morning_star", 1.0, [(1_002, 1_003, 980, 982), (979, 981, 976, 978), (982, 995, 981, 994)]),
        ("evening_star", -1.0, [(982, 1_003, 980, 1_002), (1_005, 1_007, 1_003, 1_004), (1_001, 1_002, 985, 986)]),
        ("piercing_line", 1.0, [(1_002, 1_003, 980, 982), (978, 998, 977, 997)]),
        (
            "tweezer_top",
            -1.0,
            [*[(1_000, 1_015, 995, 1_010)] * 5, (1_010, 1_025, 1_005, 1_020), (1_020, 1_024, 1_000, 1_005)],
        ),
        (
            "tweezer_top",
            0.0,
            [*[(1_000, 1_015, 995, 1_010)] * 5, (1_010, 1_025, 1_005, 1_020), (1_020, 1_023, 1_000, 1_005)],
        ),
        ("dark_cloud_cover", -1.0, [(982, 1_004, 980, 1_002), (1_006, 1_007, 986, 987)]),
    ],
)
def test_a_pattern_is_what_the_books_draw(
    name: str, value: float, last: list[tuple[float, float, float, float]]
) -> None:
    assert column_of(bars_from(candles(*last)), name)[-1] == value


@pytest.mark.parametrize("name", [*TALIB, "tweezer_top", "tweezer_bottom", "pattern_trend", "pattern_balance"])
def test_prices_in_other_money_are_the_same_candles(name: str) -> None:
    prices = random_prices(3_000, 8)
    dear = {each: x * 1024 for each, x in prices.items()}
    np.testing.assert_array_equal(column_of(bars_from(prices), name), column_of(bars_from(dear), name))
