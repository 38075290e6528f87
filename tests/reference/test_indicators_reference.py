"""Indicators against TA-Lib, against LEAN's files, against arch and pandas, and against their formulas, slowly."""

import math
from collections import Counter
from collections.abc import Callable, Mapping
from itertools import pairwise
from pathlib import Path
from statistics import fmean, median, stdev

import numpy as np
import pandas as pd
import polars as pl
import pytest
import scipy.stats
import talib
from arch.unitroot import VarianceRatio

from lab.features import FEATURES, compute, distribution, plain
from lab.features.certificate import certify
from lab.nouns import Bars, Vector
from tests.conftest import bars_of, rows_of, two_state_moves

Prices = Mapping[str, Vector]
FAMILIES = ("price", "averages", "channels", "trend", "momentum", "volatility", "volume", "distribution", "calendar")
COLUMNS = ("open", "high", "low", "close", "volume", "time")


def values_of(bars: Bars, text: str) -> Vector:
    """The feature's values, NaN for null; none before its look-back is complete."""
    feature = plain(text)
    values = compute(bars, [feature])[feature.name].to_numpy()
    assert np.isnan(values[: feature.lookback - 1]).all()
    return values


@pytest.fixture(scope="module", params=["random", "S&P 500", "bitcoin"])
def market(request: pytest.FixtureRequest) -> Bars:
    """A random market, 20 years of real days (they come with `arch`), or a week of real minutes."""
    if request.param == "random":
        return bars_of(rows_of("RANDOM", two_state_moves(4000, 0.05, (5e-3, 2e-2), seed=22)))
    if request.param == "S&P 500":
        from arch.data import sp500

        table = sp500.load()
        frame = rows_of("SPX", np.zeros(len(table)))
        names = ("open", "high", "low", "close", "volume")
        return bars_of(frame.with_columns(pl.Series(n, table[n.title()].to_numpy(dtype=np.float64)) for n in names))
    folder: Path = request.getfixturevalue("real_markets")
    rows = pl.read_parquet(folder / "crypto" / "binance_us_1m" / "BTCUSD-1m-2023-03-01_21.parquet").head(10_080)
    return bars_of(rows.rename({"open_time": "time"}).with_columns(symbol=pl.lit("BTCUSD")))


# ---- TA-Lib, on a random and on a real market ----------------------------------------------------------------------


def before(x: Vector, bars: int = 1) -> Vector:
    return np.concatenate([np.full(bars, np.nan), x[:-bars]])


def above(x: Vector) -> Vector:
    return np.maximum(np.diff(x, prepend=np.nan), 0.0)


def again(function: Callable[..., Vector], x: Vector, window: int) -> Vector:
    """A TA-Lib function of a column that begins with NaN: those are skipped, and come back."""
    start = int(np.isnan(x).sum())
    return np.concatenate([np.full(start, np.nan), function(x[start:], window)])


def typical(p: Prices) -> Vector:
    found: Vector = talib.TYPPRICE(p["high"], p["low"], p["close"])
    return found


def ranges(p: Prices) -> Vector:
    found: Vector = talib.TRANGE(p["high"], p["low"], p["close"])
    return found


def donchian(p: Prices) -> Vector:
    low, high = before(talib.MIN(p["low"], 20)), before(talib.MAX(p["high"], 20))
    return (p["close"] - low) / (high - low)


def hull_16(p: Prices) -> Vector:
    return again(talib.WMA, 2 * talib.WMA(p["close"], 8) - talib.WMA(p["close"], 16), 4)


def tsi_25_13(p: Prices) -> Vector:
    moves = np.diff(p["close"], prepend=np.nan)
    net, all_of_it = (again(talib.EMA, again(talib.EMA, x, 25), 13) for x in (moves, np.abs(moves)))
    return 100 * net / all_of_it


def chande(p: Prices) -> Vector:
    gains, losses = (again(talib.SUM, above(x), 14) for x in (p["close"], -p["close"]))
    return 100 * (gains - losses) / (gains + losses)


def coppock(p: Prices) -> Vector:
    return again(talib.WMA, talib.ROC(p["close"], 11) + talib.ROC(p["close"], 14), 10)


def cloud(p: Prices) -> tuple[Vector, Vector]:
    tenkan, kijun, slow = (talib.MIDPRICE(p["high"], p["low"], n) for n in (9, 26, 52))
    return before((tenkan + kijun) / 2, 26), before(slow, 26)


def cloud_distance(p: Prices) -> Vector:
    top, bottom = np.maximum(*cloud(p)), np.minimum(*cloud(p))
    return np.log(p["close"] / np.where(p["close"] > top, top, np.where(p["close"] < bottom, bottom, p["close"])))


def mass(p: Prices) -> Vector:
    once = talib.EMA(p["high"] - p["low"], 9)
    return again(talib.SUM, once / again(talib.EMA, once, 9), 25)


def keltner(p: Prices) -> tuple[Vector, Vector, Vector]:
    middle, reach = talib.EMA(p["close"], 20), 2 * talib.ATR(p["high"], p["low"], p["close"], 10)
    return middle - reach, middle, middle + reach


def squeeze(p: Prices) -> Vector:
    return np.log(2 * talib.STDDEV(p["close"], 20) / (1.5 * again(talib.SMA, ranges(p), 20)))


def ulcer(p: Prices) -> Vector:
    fallen = p["close"] / talib.MAX(p["close"], 14) - 1
    return np.sqrt(again(talib.SMA, fallen**2, 14))


def vzo(p: Prices) -> Vector:
    signed = np.sign(np.diff(p["close"], prepend=np.nan)) * p["volume"]
    return 100 * again(talib.EMA, signed, 14) / talib.EMA(p["volume"], 14)


def force(p: Prices) -> Vector:
    push = np.diff(p["close"], prepend=np.nan) * p["volume"]
    return again(talib.EMA, push, 13) / again(talib.EMA, np.abs(push), 13)


def money_flow(p: Prices) -> Vector:
    place = 2 * p["close"] - p["high"] - p["low"]
    span = p["high"] - p["low"]
    signed = np.divide(place, span, out=np.zeros_like(span), where=span > 0) * p["volume"]
    return talib.SUM(signed, 20) / talib.SUM(p["volume"], 20)


def vortex(up: Vector, p: Prices) -> Vector:
    return again(talib.SUM, np.abs(up), 14) / again(talib.SUM, ranges(p), 14)


def returns(p: Prices, bars: int = 1) -> Vector:
    found: Vector = np.log(talib.ROCR(p["close"], bars))
    return found


def cascade_strength(p: Prices) -> Vector:
    deviation = again(talib.STDDEV, returns(p), 60) * math.sqrt(60 / 59)
    return sum(returns(p, n) / math.sqrt(n) for n in (1, 5, 15, 60)) / 4 / deviation


def zscore(x: Vector, window: int) -> Vector:
    mean, deviation = again(talib.SMA, x, window), again(talib.STDDEV, x, window) * math.sqrt(window / (window - 1))
    return (x - mean) / deviation


TALIB: dict[str, Callable[[Prices], Vector]] = {
    "simple_return(10)": lambda p: talib.ROCP(p["close"], 10),
    "high_distance(50)": lambda p: np.log(p["close"] / talib.MAX(p["high"], 50)),
    "low_distance(50)": lambda p: np.log(p["close"] / talib.MIN(p["low"], 50)),
    "typical_price_distance": lambda p: np.log(p["close"] / typical(p)),
    "wma_distance(20)": lambda p: np.log(p["close"] / talib.WMA(p["close"], 20)),
    "hull_distance(16)": lambda p: np.log(p["close"] / hull_16(p)),
    "trima_distance(20)": lambda p: np.log(p["close"] / talib.TRIMA(p["close"], 20)),
    "trima_distance(7)": lambda p: np.log(p["close"] / talib.TRIMA(p["close"], 7)),
    "dema_distance(20)": lambda p: np.log(p["close"] / talib.DEMA(p["close"], 20)),
    "tema_distance(20)": lambda p: np.log(p["close"] / talib.TEMA(p["close"], 20)),
    "kama_distance(10, 900)": lambda p: np.log(p["close"] / talib.KAMA(p["close"], 10)),
    "sma_cross(10, 50)": lambda p: np.log(talib.SMA(p["close"], 10) / talib.SMA(p["close"], 50)),
    "ema_cross(10, 50)": lambda p: np.log(talib.EMA(p["close"], 10) / talib.EMA(p["close"], 50)),
    "trix(15)": lambda p: talib.TRIX(p["close"], 15),
    "aroon_up(25)": lambda p: talib.AROON(p["high"], p["low"], 25)[1],
    "aroon_down(25)": lambda p: talib.AROON(p["high"], p["low"], 25)[0],
    "aroon_oscillator(25)": lambda p: talib.AROONOSC(p["high"], p["low"], 25),
    "sar_distance(0.02, 0.2, 500)": lambda p: (p["close"] - talib.SAR(p["high"], p["low"], 0.02, 0.2)) / p["close"],
    "regression_slope(20)": lambda p: talib.LINEARREG_SLOPE(np.log(p["close"]), 20),
    "regression_residual(20)": lambda p: np.log(p["close"]) - talib.LINEARREG(np.log(p["close"]), 20),
    "dx(14)": lambda p: talib.DX(p["high"], p["low"], p["close"], 14),
    "adxr(14)": lambda p: talib.ADXR(p["high"], p["low"], p["close"], 14),
    "tenkan_distance(9)": lambda p: np.log(p["close"] / talib.MIDPRICE(p["high"], p["low"], 9)),
    "kijun_distance(26)": lambda p: np.log(p["close"] / talib.MIDPRICE(p["high"], p["low"], 26)),
    "cloud_distance(9, 26, 52, 26)": cloud_distance,
    "cloud_width(9, 26, 52, 26)": lambda p: np.log(cloud(p)[0] / cloud(p)[1]),
    "donchian_position(20)": donchian,
    "vortex_plus(14)": lambda p: vortex(p["high"] - before(p["low"]), p),
    "vortex_minus(14)": lambda p: vortex(p["low"] - before(p["high"]), p),
    "mass_index(9, 25)": mass,
    "stochastic_rsi(14, 14)": lambda p: talib.STOCHRSI(p["close"], 14, 14, 1)[0],
    "cci(20)": lambda p: talib.CCI(p["high"], p["low"], p["close"], 20),
    "roc(10)": lambda p: talib.ROC(p["close"], 10),
    "williams_r(14)": lambda p: talib.WILLR(p["high"], p["low"], p["close"], 14),
    "mfi(14)": lambda p: talib.MFI(p["high"], p["low"], p["close"], p["volume"], 14),
    "tsi(25, 13)": tsi_25_13,
    "cmo(14)": chande,
    "ultimate_oscillator(7, 14, 28)": lambda p: talib.ULTOSC(p["high"], p["low"], p["close"], 7, 14, 28),
    "ppo(12, 26)": lambda p: talib.PPO(p["close"], 12, 26, 1),
    "awesome_oscillator(5, 34)": lambda p: talib.APO((p["high"] + p["low"]) / 2, 5, 34, 0) / p["close"],
    "coppock(11, 14, 10)": coppock,
    "balance_of_power(1)": lambda p: talib.BOP(p["open"], p["high"], p["low"], p["close"]),
    "momentum_zscore(10, 100)": lambda p: zscore(returns(p, 10), 100),
    "cascade_strength(1, 5, 15, 60)": cascade_strength,
    "true_range_share": lambda p: ranges(p) / p["close"],
    "range_expansion(20)": lambda p: np.log(ranges(p) / again(talib.SMA, ranges(p), 20)),
    "keltner_position(20, 10, 2.0)": lambda p: (p["close"] - keltner(p)[0]) / (keltner(p)[2] - keltner(p)[0]),
    "keltner_width(20, 10, 2.0)": lambda p: (keltner(p)[2] - keltner(p)[0]) / keltner(p)[1],
    "donchian_width(20)": lambda p: np.log(talib.MAX(p["high"], 20) / talib.MIN(p["low"], 20)),
    "squeeze(20, 2.0, 1.5)": squeeze,
    "ulcer_index(14)": ulcer,
    "realised_variance(60)": lambda p: again(talib.SUM, returns(p) ** 2, 60),
    "obv(20)": lambda p: (
        (talib.OBV(p["close"], p["volume"]) - before(talib.OBV(p["close"], p["volume"]), 20))
        / talib.SUM(p["volume"], 20)
    ),
    "chaikin_money_flow(20)": money_flow,
    "chaikin_oscillator(3, 10)": lambda p: (
        talib.ADOSC(p["high"], p["low"], p["close"], p["volume"], 3, 10) / talib.EMA(p["volume"], 10)
    ),
    "force_index(13)": force,
    "vzo(14)": vzo,
    "volume_trend(60)": lambda p: talib.LINEARREG_SLOPE(p["volume"], 60) / talib.SMA(p["volume"], 60),
    "vwma_distance(20)": lambda p: np.log(
        p["close"] / (talib.SUM(p["close"] * p["volume"], 20) / talib.SUM(p["volume"], 20))
    ),
    "dollar_volume_zscore(60)": lambda p: zscore(p["close"] * p["volume"], 60),
}
# TA-Lib puts a number where there is nothing to divide by; such a bar is null here. Which features meet such bars in
# a quiet week of minutes, and how large a share of them at most.
WITHOUT_VALUE = {"balance_of_power(1)": 0.02, "range_expansion(20)": 0.01}


@pytest.mark.parametrize("text", TALIB)
def test_an_indicator_is_what_ta_lib_says_it_is(text: str, market: Bars) -> None:
    """At every bar from the end of the look-back on, by when TA-Lib has forgotten how it began."""
    prices = {name: market.frame[name].to_numpy() for name in COLUMNS[:-1]}
    lookback = plain(text).lookback
    assert len(market.stretches()) == 1
    with np.errstate(divide="ignore"):
        theirs = TALIB[text](prices)[lookback - 1 :]
    ours = values_of(market, text)[lookback - 1 :]
    known = np.isfinite(ours)
    assert known.mean() >= 1 - WITHOUT_VALUE.get(text, 0.0)
    assert known.sum() > 2000
    np.testing.assert_allclose(ours[known], theirs[known], rtol=1e-8, atol=2e-9 * np.abs(theirs[known]).max())


# ---- LEAN's files --------------------------------------------------------------------------------------------------

Lean = Mapping[str, Vector]
LEAN: list[tuple[str, str, Callable[[Vector, Lean], Vector], str, float]] = [
    ("spy_hma.txt", "hull_distance(16)", lambda v, x: x["Close"] / np.exp(v), "HMA_16", 1e-6),
    ("spy_kama.txt", "kama_distance(5, 200)", lambda v, x: x["Close"] / np.exp(v), "KAMA_5", 1e-8),
    ("spy_trima.txt", "trima_distance(5)", lambda v, x: x["Close"] / np.exp(v), "TRIMA_5", 1e-9),
    ("spy_trima.txt", "trima_distance(6)", lambda v, x: x["Close"] / np.exp(v), "TRIMA_6", 1e-9),
    ("spy_dema.txt", "dema_distance(5)", lambda v, x: x["close"] / np.exp(v), "DEMA_5", 1e-8),
    ("spy_tema.txt", "tema_distance(5)", lambda v, x: x["close"] / np.exp(v), "TEMA_5", 1e-8),
    ("spy_trix.txt", "trix(5)", lambda v, x: v, "TRIX_5", 1e-9),
    ("spy_with_vwma.csv", "vwma_distance(20)", lambda v, x: x["Close"] / np.exp(v), "VWMA20", 1e-9),
    ("spy_aroon_oscillator.txt", "aroon_oscillator(14)", lambda v, x: v, "Aroon Oscillator 14", 1e-5),
    ("spy_with_vtx.csv", "vortex_plus(14)", lambda v, x: v, "plus_vtx", 1e-9),
    ("spy_with_vtx.csv", "vortex_minus(14)", lambda v, x: v, "minus_vtx", 1e-9),
    ("spy_with_chop.csv", "choppiness(14)", lambda v, x: v, "CHOP14", 1e-9),
    ("spy_mass_index_25.txt", "mass_index(9, 25)", lambda v, x: v, "MassIndex", 1e-7),
    ("spy_with_cci.txt", "cci(14)", lambda v, x: v, "Commodity Channel Index (CCI) 14", 5e-3),
    ("spy_with_williamsR14.txt", "williams_r(14)", lambda v, x: v, "Williams %R 14", 1e-3),
    ("spy_mfi.txt", "mfi(20)", lambda v, x: v, "Money Flow Index 20", 1e-4),
    ("spy_ultosc.txt", "ultimate_oscillator(7, 14, 28)", lambda v, x: v, "ULTOSC_7_14_28", 1e-9),
    ("spy_coppock_curve.csv", "coppock(11, 14, 10)", lambda v, x: v, "CoppockCurve", 1e-9),
    ("spy_ao.txt", "awesome_oscillator(5, 34)", lambda v, x: v * x["Close"], "AO", 1e-9),
    ("spy_bop.txt", "balance_of_power(1)", lambda v, x: v, "BOP", 1e-9),
    ("spy_tr.txt", "true_range_share", lambda v, x: v * x["Close"], "TR", 1e-9),
    ("spy_cmf.txt", "chaikin_money_flow(20)", lambda v, x: v, "CMF_20", 2e-6),
    ("spy_midprice.txt", "tenkan_distance(5)", lambda v, x: x["Close"] / np.exp(v), "MIDPRICE_5", 1e-9),
    ("spy_heikin_ashi.txt", "heikin_ashi_body", lambda v, x: x["HA_Close"] / np.exp(v), "HA_Open", 1e-6),
    ("spy_with_ichimoku.csv", "kijun_distance(26)", lambda v, x: x["Close"] / np.exp(v), "Kijun", 1e-9),
]


def lean_bars(table: Lean) -> Bars:
    found = {name.strip().lower(): values for name, values in table.items()}
    o, h, low, c = (found[name] for name in ("open", "high", "low", "close"))
    columns = {"open": o, "high": np.maximum.reduce([o, h, c]), "low": np.minimum.reduce([o, low, c]), "close": c}
    frame = rows_of("SPY", np.zeros(c.size)).with_columns(pl.Series(name, x) for name, x in columns.items())
    return bars_of(frame.with_columns(pl.Series("volume", found["volume"])) if "volume" in found else frame)


def lean_table(real_markets: Path, file: str) -> Lean:
    table = pl.read_csv(real_markets / "reference" / "lean_indicators" / file, infer_schema=False)
    numbers = table.select(pl.all().cast(pl.Float64, strict=False))
    closes = next(name for name in numbers.columns if name.lower() == "close")
    return {name: x.to_numpy() for name, x in numbers.filter(pl.col(closes).is_not_null()).to_dict().items()}


@pytest.mark.parametrize(("file", "text", "worked_out", "column", "unit"), LEAN, ids=[row[1] for row in LEAN])
def test_an_indicator_is_what_leans_files_print(
    file: str, text: str, worked_out: Callable[[Vector, Lean], Vector], column: str, unit: float, real_markets: Path
) -> None:
    table = lean_table(real_markets, file)
    ours = worked_out(values_of(lean_bars(table), text), table)[plain(text).lookback - 1 :]
    printed = table[column][plain(text).lookback - 1 :]
    both = np.isfinite(ours) & np.isfinite(printed)
    assert both.sum() > 90
    np.testing.assert_allclose(ours[both], printed[both], rtol=0, atol=unit)


def test_the_ichimoku_cloud_is_the_one_in_leans_file(real_markets: Path) -> None:
    table = lean_table(real_markets, "spy_with_ichimoku.csv")
    a, b, close = table["Senkou A"], table["Senkou B"], table["Close"]
    near = np.clip(close, np.minimum(a, b), np.maximum(a, b))
    known = np.isfinite(near)
    assert known.sum() > 100
    bars = lean_bars(table)
    ours = {text: values_of(bars, text)[known] for text in ("cloud_distance", "cloud_width")}
    np.testing.assert_allclose(ours["cloud_distance"], np.log(close / near)[known], rtol=0, atol=1e-12)
    np.testing.assert_allclose(ours["cloud_width"], np.log(a / b)[known], rtol=0, atol=1e-12)


# ---- published values and other libraries --------------------------------------------------------------------------

TABLE_A_CLOSE = [101.0, 100.8, 102.4, 103.8, 103.2, 104.6, 102.6, 101.3, 102.3, 103.7, 104.0, 104.9]


def last_of(closes: list[float], text: str) -> float:
    moves = np.diff(np.log(closes), prepend=math.log(closes[0]))
    return float(values_of(bars_of(rows_of("TABLE", moves, price=closes[0])), text)[-1])


@pytest.mark.parametrize(
    ("text", "printed", "unit"),
    [
        ("realised_variance(11)", 0.00155066, 1e-8),
        ("bipower_variance(11)", 0.00212728, 1e-8),
        ("med_variance(11)", 0.00244506, 1e-8),
        ("min_variance(11)", 0.00245013, 1e-8),
        ("jump_z(11)", -1.5803974, 1e-7),
    ],
)
def test_measures_of_jumps_give_the_printed_values(text: str, printed: float, unit: float) -> None:
    """Facts/microstructure.md, section 4.1, of the eleven log returns of table A."""
    assert last_of(TABLE_A_CLOSE, text) == pytest.approx(printed, abs=unit / 2)


def test_the_weights_of_a_fractional_difference_are_the_printed_ones() -> None:
    """Of a close that leaps by e once, k bars ago, the difference is the weights of the last k + 1 bars added up."""
    printed = [1, -0.4, -0.12, -0.064, -0.0416, -0.029952, -0.0229632, -0.01837056]
    for ago in range(8):
        moves = np.zeros(20)
        moves[19 - ago] = 1.0
        found = values_of(bars_of(rows_of("LEAP", moves)), "fractional_difference(0.4, 10)")[-1]
        assert found == pytest.approx(sum(printed[: ago + 1]), abs=1e-12)


@pytest.mark.parametrize("horizon", [2, 5, 10])
def test_the_variance_ratio_is_that_of_arch(horizon: int) -> None:
    closes = rows_of("MARKET", two_state_moves(200, 0.1, (1e-3, 5e-3), seed=8))
    ours = values_of(bars_of(closes), f"variance_ratio({horizon}, 199)")[-1]
    theirs = VarianceRatio(np.log(closes["close"].to_numpy()), lags=horizon, overlap=True, debiased=True).vr
    assert ours == pytest.approx(theirs, rel=1e-9)


def test_prices_that_go_on_and_prices_that_come_back_have_a_hurst_exponent_on_their_side_of_one_half() -> None:
    """A random walk has 0.5, one that keeps 0.5 of each move more, one that gives 0.5 of it back less."""
    noise = np.random.default_rng(3).normal(0, 1e-3, 20_000)
    found = {}
    for kept in (-0.5, 0.0, 0.5):
        moves = np.zeros(noise.size)
        for t in range(1, noise.size):
            moves[t] = kept * moves[t - 1] + noise[t]
        found[kept] = np.nanmean(values_of(bars_of(rows_of("WALK", moves)), "hurst(1000)"))
    assert found[0.0] == pytest.approx(0.5, abs=0.01)
    assert found[-0.5] < 0.35
    assert found[0.5] > 0.65


def test_the_entropy_of_coin_flips_is_nearly_one_and_that_of_a_ladder_none() -> None:
    flips = bars_of(rows_of("FLIPS", np.random.default_rng(5).normal(0, 1e-3, 3000)))
    ladder = bars_of(rows_of("LADDER", np.linspace(1e-3, 5e-3, 200)))
    for name in ("sign_entropy", "permutation_entropy"):
        assert 0.99 < values_of(flips, f"{name}(1000)")[-1] < 1.0
        assert values_of(ladder, f"{name}(100)")[-1] == 0.0


def test_a_streak_is_counted_up_to_its_limit_and_broken_by_a_bar_that_does_not_move() -> None:
    bars = bars_of(rows_of("STREAK", [0.0, 0.1, 0.1, 0.1, 0.1, -0.1, 0.0, -0.1, -0.1, -0.1, -0.1, 0.1]))
    assert values_of(bars, "up_streak(3)")[3:].tolist() == [3, 3, -1, 0, -1, -2, -3, -3, 1]


# ---- every other formula, slowly -----------------------------------------------------------------------------------


class Past:
    """Everything up to a bar, oldest first."""

    def __init__(self, columns: Mapping[str, Vector], end: int) -> None:
        self.o, self.h, self.low, self.c, self.v, _ = (columns[name][:end].tolist() for name in COLUMNS)
        self.time = pd.Timestamp(int(columns["time"][end - 1]), unit="us")
        self.r = [math.log(b / a) for a, b in pairwise(self.c[-900:])]

    def ranges(self, count: int) -> list[float]:
        days = zip(self.h[-count:], self.low[-count:], self.c[-count - 1 : -1], strict=True)
        return [max(h - low, abs(h - c), abs(low - c)) for h, low, c in days]


def slow_streak(p: Past) -> float:
    signs = [(b > a) - (b < a) for a, b in pairwise(p.c[-11:])][::-1]
    length = next((k for k, sign in enumerate(signs) if sign != signs[0]), 10)
    return float(signs[0] * length)


def slow_heikin_ashi(p: Past) -> float:
    opened = (p.o[0] + p.c[0]) / 2
    for t, bar in enumerate(zip(p.o, p.h, p.low, p.c, strict=True)):
        closed = sum(bar) / 4
        if t == len(p.c) - 1:
            break
        opened = (opened + closed) / 2
    return math.log(closed / opened)


def bars_that(p: Past, count: int, of: Callable[[float, float, float, float], bool]) -> float:
    pairs = list(zip(p.h, p.low, strict=True))[-count - 1 :]
    return sum(of(*earlier, *now) for earlier, now in pairwise(pairs)) / count


def slow_supertrend(p: Past) -> tuple[float, float]:
    """Distance and direction, as it is usually written: two final bands, and the side on which the close is."""
    h, low, c = (np.array(x[-900:]) for x in (p.h, p.low, p.c))
    reach = 3.0 * talib.ATR(h, low, c, 10)
    upper, lower = (h + low) / 2 + reach, (h + low) / 2 - reach
    line, side = math.nan, 1
    final_upper, final_lower = upper[10], lower[10]
    for t in range(11, c.size):
        final_upper = upper[t] if upper[t] < final_upper or c[t - 1] > final_upper else final_upper
        final_lower = lower[t] if lower[t] > final_lower or c[t - 1] < final_lower else final_lower
        if side == 1 and c[t] < final_lower:
            side = -1
        elif side == -1 and c[t] > final_upper:
            side = 1
        line = final_lower if side == 1 else final_upper
    return (c[-1] - line) / c[-1], float(side)


def slow_regression(p: Past, count: int) -> tuple[float, float]:
    """R² and the last residual in standard errors, by scipy."""
    y = np.log(p.c[-count:])
    found = scipy.stats.linregress(np.arange(count), y)
    residuals = y - found.intercept - found.slope * np.arange(count)
    return found.rvalue**2, residuals[-1] / math.sqrt((residuals**2).sum() / (count - 2))


def slow_drawdown(p: Past) -> float:
    last = p.c[-60:]
    return max(1 - min(last[k:]) / price for k, price in enumerate(last))


def realised(p: Past, count: int) -> float:
    return sum(r * r for r in p.r[-count:])


def vols(p: Past) -> list[float]:
    return [stdev(p.r[len(p.r) - ago - 20 : len(p.r) - ago]) for ago in range(99, -1, -1)]


def entropy(words: list[tuple[object, ...]], kinds: int) -> float:
    return float(scipy.stats.entropy(list(Counter(words).values()))) / math.log(kinds)


def sign_words(p: Past) -> list[tuple[object, ...]]:
    up = [r > 0 for r in p.r[-62:]]
    return [tuple(up[k : k + 3]) for k in range(60)]


def orders(p: Past) -> list[tuple[object, ...]]:
    last = [b / a for a, b in pairwise(p.c[-63:])]
    return [tuple(sorted(range(3), key=lambda i, k=k: (last[k + i], i))) for k in range(60)]


def slow_hurst(p: Past) -> float:
    logs = np.log(p.c)
    spans = [1, 2, 4, 8, 16]
    moments = [np.mean((logs[-100:] - np.roll(logs, span)[-100:]) ** 2) for span in spans]
    return float(np.polyfit(np.log(spans), np.log(np.sqrt(moments)), 1)[0])


def fractional(p: Past) -> float:
    """López de Prado's sum, less what the oldest close adds because the weights do not add up to nothing."""
    weights = [1.0]
    for k in range(1, 100):
        weights.append(-weights[-1] * (0.4 - k + 1) / k)
    logs = [math.log(c) for c in p.c[-100:]][::-1]
    return sum(w * x for w, x in zip(weights, logs, strict=True)) - sum(weights) * logs[-1]


def sums_of(values: list[float], signs: list[float]) -> tuple[float, float]:
    pairs = list(zip(values, signs, strict=True))
    return sum(x for x, sign in pairs if sign > 0), sum(x for x, sign in pairs if sign < 0)


def volume_moves(p: Past, count: int) -> list[float]:
    return [b - a for a, b in pairwise(p.v[-count - 1 :])]


def slow_ease(p: Past) -> float:
    middles = [(h + low) / 2 for h, low in zip(p.h[-15:], p.low[-15:], strict=True)]
    usual = fmean(p.v[-14:])
    moved = [math.log(b / a) for a, b in pairwise(middles)]
    tall = [math.log(h / low) for h, low in zip(p.h[-14:], p.low[-14:], strict=True)]
    return fmean(m * t / (v / usual) for m, t, v in zip(moved, tall, p.v[-14:], strict=True))


def rank(values: list[float]) -> float:
    return float(scipy.stats.rankdata(values)[-1]) / len(values)


def upside(p: Past) -> tuple[float, float]:
    return sums_of([r * r for r in p.r[-60:]], p.r[-60:])


def share_in(p: Past, begin: int, end: int) -> float:
    minute = p.time.hour * 60 + p.time.minute
    return float(begin < (minute or 1440) <= end)


def counts(p: Past) -> tuple[int, int]:
    return sum(r > 0 for r in p.r[-60:]), sum(r < 0 for r in p.r[-60:])


SLOW: dict[str, Callable[[Past], float]] = {
    "lagged_range(3)": lambda p: math.log(p.h[-4] / p.low[-4]),
    "lagged_body(2)": lambda p: (p.c[-3] - p.o[-3]) / (p.h[-3] - p.low[-3]),
    "shadow_balance": lambda p: (
        (min(p.o[-1], p.c[-1]) - p.low[-1] - (p.h[-1] - max(p.o[-1], p.c[-1]))) / (p.h[-1] - p.low[-1])
    ),
    "up_streak(10)": slow_streak,
    "inside_share(20)": lambda p: bars_that(p, 20, lambda h, low, h1, low1: h1 <= h and low1 >= low),
    "outside_share(20)": lambda p: bars_that(p, 20, lambda h, low, h1, low1: h1 > h and low1 < low),
    "heikin_ashi_body": slow_heikin_ashi,
    "supertrend_distance(10, 3.0, 250)": lambda p: slow_supertrend(p)[0],
    "supertrend_direction(10, 3.0, 250)": lambda p: slow_supertrend(p)[1],
    "regression_r2(20)": lambda p: slow_regression(p, 20)[0],
    "regression_channel(50)": lambda p: slow_regression(p, 50)[1],
    "choppiness(14)": lambda p: (
        100 * math.log10(sum(p.ranges(14)) / (max(p.h[-14:]) - min(p.low[-14:]))) / math.log10(14)
    ),
    "momentum_cascade(1, 5, 15, 60)": lambda p: fmean(float(np.sign(p.c[-1] - p.c[-1 - n])) for n in (1, 5, 15, 60)),
    "bipower_variance(60)": lambda p: math.pi / 2 * 60 / 59 * sum(abs(a * b) for a, b in pairwise(p.r[-60:])),
    "min_variance(60)": lambda p: (
        math.pi / (math.pi - 2) * 60 / 59 * sum(min(abs(a), abs(b)) ** 2 for a, b in pairwise(p.r[-60:]))
    ),
    "med_variance(60)": lambda p: (
        math.pi
        / (6 - 4 * 3**0.5 + math.pi)
        * 60
        / 58
        * sum(median(map(abs, p.r[k - 60 : k - 57 or None])) ** 2 for k in range(58))
    ),
    "upside_variance(60)": lambda p: upside(p)[0],
    "downside_variance(60)": lambda p: upside(p)[1],
    "signed_jump_share(60)": lambda p: (upside(p)[0] - upside(p)[1]) / sum(upside(p)),
    "har_week(12)": lambda p: math.log(realised(p, 12) / (realised(p, 60) / 5)),
    "har_month(12)": lambda p: math.log((realised(p, 60) / 5) / (realised(p, 264) / 22)),
    "vol_zscore(20, 100)": lambda p: (vols(p)[-1] - fmean(vols(p))) / stdev(vols(p)),
    "vol_rank(20, 100)": lambda p: rank(vols(p)),
    "max_drawdown(60)": slow_drawdown,
    "lagged_volume_change(2)": lambda p: math.log(p.v[-3] / p.v[-4]),
    "rising_volume_share(20)": lambda p: sums_of(p.v[-20:], p.r[-20:])[0] / sum(p.v[-20:]),
    "falling_volume_share(20)": lambda p: sums_of(p.v[-20:], p.r[-20:])[1] / sum(p.v[-20:]),
    "busy_return(60)": lambda p: sums_of(p.r[-60:], volume_moves(p, 60))[0],
    "quiet_return(60)": lambda p: sums_of(p.r[-60:], volume_moves(p, 60))[1],
    "ease_of_movement(14)": slow_ease,
    "volume_rank(60)": lambda p: rank(p.v[-60:]),
    "return_tstat(60)": lambda p: float(scipy.stats.ttest_1samp(p.r[-60:], 0).statistic),
    "return_skew(60)": lambda p: float(scipy.stats.skew(p.r[-60:])),
    "return_kurtosis(60)": lambda p: float(scipy.stats.kurtosis(p.r[-60:])),
    "quantile_spread(60, 0.1)": lambda p: float(np.subtract(*np.quantile(p.r[-60:], [0.9, 0.1]))),
    "quantile_position(60, 0.1)": lambda p: float(
        (p.r[-1] - np.quantile(p.r[-60:], 0.1)) / np.subtract(*np.quantile(p.r[-60:], [0.9, 0.1]))
    ),
    "quantile_skew(60, 0.1)": lambda p: float(
        (np.quantile(p.r[-60:], [0.1, 0.9]).sum() - 2 * np.median(p.r[-60:]))
        / np.subtract(*np.quantile(p.r[-60:], [0.9, 0.1]))
    ),
    "median_distance(60)": lambda p: math.log(p.c[-1] / median(p.c[-60:])),
    "autocorrelation(3, 60)": lambda p: float(np.corrcoef(p.r[-60:], p.r[-63:-3])[0, 1]),
    "absolute_autocorrelation(1, 60)": lambda p: float(np.corrcoef(np.abs(p.r[-60:]), np.abs(p.r[-61:-1]))[0, 1]),
    "hurst(100)": slow_hurst,
    "sign_entropy(60)": lambda p: entropy(sign_words(p), 8),
    "permutation_entropy(60)": lambda p: entropy(orders(p), 6),
    "fractional_difference(0.4, 100)": fractional,
    "tail_share(60, 2.0)": lambda p: fmean(abs(r - fmean(p.r[-60:])) > 2 * stdev(p.r[-60:]) for r in p.r[-60:]),
    "gain_loss_ratio(60)": lambda p: math.log(sum(r for r in p.r[-60:] if r > 0) / -sum(r for r in p.r[-60:] if r < 0)),
    "payoff_ratio(60)": lambda p: math.log(
        sum(r for r in p.r[-60:] if r > 0) / counts(p)[0] / (-sum(r for r in p.r[-60:] if r < 0) / counts(p)[1])
    ),
    "hour": lambda p: float(p.time.hour),
    "minute_of_hour": lambda p: float(p.time.minute),
    "weekday": lambda p: float(p.time.isoweekday()),
    "weekend": lambda p: float(p.time.isoweekday() in (6, 7)),
    "day_of_month": lambda p: float(p.time.day),
    "days_to_month_end": lambda p: float(p.time.days_in_month - p.time.day),
    "asia_session": lambda p: share_in(p, 0, 8 * 60),
    "europe_session": lambda p: share_in(p, 7 * 60, 16 * 60),
    "us_session": lambda p: share_in(p, 13 * 60, 21 * 60),
    "minutes_to_funding": lambda p: float((p.time.ceil("8h") - p.time).total_seconds() // 60),
}


@pytest.fixture(scope="module")
def pasts(market: Bars) -> dict[int, Past]:
    """What was known at 24 bars of the market that traded and moved, some of them at the end of an hour."""
    columns = {name: market.frame[name].to_physical().to_numpy() for name in COLUMNS}
    active = pl.col("high") > pl.col("low")
    alive = market.frame.select((active & (pl.col("volume") > 0)).rolling_min(20).fill_null(False)).to_series()
    ends = [t for t in range(1000, market.frame.height, 7) if alive[t - 1]]
    some = ends[:: len(ends) // 24][:24]
    return {end: Past(columns, end) for end in some}


@pytest.mark.parametrize("text", SLOW)
def test_an_indicator_is_its_formula_worked_out_slowly(text: str, market: Bars, pasts: dict[int, Past]) -> None:
    values = values_of(market, text)
    assert len(pasts) == 24
    expected = [SLOW[text](past) for past in pasts.values()]
    assert [values[end - 1] for end in pasts] == pytest.approx(expected, rel=1e-8, abs=1e-11)


def test_calendar_features_know_the_edges_of_hours_sessions_weeks_and_months() -> None:
    """Closing times at which something turns: midnight, the ends of sessions, a leap day, the turn of a year."""
    turns = ["2024-02-28T23:59", "2024-02-29T00:00", "2024-03-01T00:00", "2023-12-31T08:00", "2024-01-01T16:01"]
    turns += ["2024-06-30T21:00", "2024-06-30T21:01", "2024-07-06T07:00", "2024-07-07T13:00", "2024-07-08T00:00"]
    times = np.array(turns, dtype="datetime64[us]")
    frame = rows_of("CLOCK", np.zeros(len(turns))).with_columns(
        time=pl.Series(np.sort(times)).dt.replace_time_zone("UTC")
    )
    bars = bars_of(frame)
    columns = {name: bars.frame[name].to_physical().to_numpy() for name in COLUMNS}
    names = [text for text in SLOW if FEATURES[text.partition("(")[0]].family == "calendar"]
    assert len(names) == 10
    for name in names:
        expected = [SLOW[name](Past(columns, end)) for end in range(1, len(turns) + 1)]
        assert values_of(bars, name).tolist() == expected


# ---- what holds for all of them ------------------------------------------------------------------------------------

PROVED = {text.partition("(")[0] for text in [*TALIB, *SLOW]} | {"jump_z", "variance_ratio"}
# The features of these families that test_features_reference.py holds to account.
ELSEWHERE = {"log_return", "lagged_return", "open_gap", "bar_range", "body", "upper_shadow", "lower_shadow"}
ELSEWHERE |= {"close_location", "up_share", "range_position", "rsi", "stochastic_k", "stochastic_d"}
ELSEWHERE |= {"efficiency_ratio", "return_zscore", "acceleration", "sma_distance", "ema_distance", "macd"}
ELSEWHERE |= {"macd_signal", "macd_histogram", "plus_di", "minus_di", "adx", "bollinger_position", "bollinger_width"}
ELSEWHERE |= {"realised_vol", "parkinson", "garman_klass", "rogers_satchell", "yang_zhang", "atr", "vol_ratio"}
ELSEWHERE |= {"jump_share", "vol_of_vol", "volume_zscore", "volume_ratio", "price_volume_correlation"}
ELSEWHERE |= {"vwap_deviation", "trade_size", "day_sin", "day_cos", "week_sin", "week_cos"}
OTHER_SETTINGS = ("up_streak(2)", "stochastic_rsi(3, 4)", "adxr(3)", "hull_distance(5)", "trima_distance(5)", "cci(5)")
OTHER_SETTINGS += ("kama_distance(4, 30)", "sar_distance(0.05, 0.3, 30)", "supertrend_distance(3, 1.5, 40)", "trix(3)")
OTHER_SETTINGS += ("max_drawdown(2)", "cloud_distance(2, 5, 3, 4)", "fractional_difference(0.7, 5)", "regression_r2(3)")
OTHER_SETTINGS += ("variance_ratio(3, 7)", "autocorrelation(4, 6)", "ultimate_oscillator(5, 3, 2)", "har_month(2)")


def test_every_indicator_is_proved_against_something_from_outside() -> None:
    assert {name for name in FEATURES if FEATURES[name].family in FAMILIES} == PROVED | ELSEWHERE
    assert len(PROVED) == 118
    assert not PROVED & ELSEWHERE
    assert {name for name in PROVED if FEATURES[name].family == "distribution"} <= set(dir(distribution))


@pytest.mark.parametrize("text", [*sorted(PROVED), *OTHER_SETTINGS])
def test_an_indicator_earns_the_certificate(text: str) -> None:
    feature = plain(text)
    assert certify(feature).memory <= feature.lookback


@pytest.mark.parametrize("name", sorted(PROVED))
def test_the_unit_of_price_and_of_volume_changes_no_bit(name: str, ordinary: Bars) -> None:
    feature = plain(name)
    rows = Bars(ordinary.frame.head(feature.lookback + 100), "1m")
    factors = dict.fromkeys(("open", "high", "low", "close"), 2.0 ** (-7)) | {"volume": 2.0**9}
    other = Bars(rows.frame.with_columns(pl.col(each) * factor for each, factor in factors.items()), "1m")
    values = compute(rows, [feature])[feature.name]
    assert values.is_not_null().sum() == 101
    assert compute(other, [feature])[feature.name].equals(values)
