"""Features against TA-Lib, against LEAN's files, against published tables, and against their formulas, slowly."""

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from statistics import correlation, fmean, linear_regression, pstdev, stdev, variance

import numpy as np
import polars as pl
import pytest
import talib

from lab.features import FEATURES, compute, plain, resolve
from lab.nouns import Bars, Feature, Vector
from tests.conftest import bars_of, rows_of, two_state_moves

PLAIN = frozenset(name for name in FEATURES if isinstance(resolve(name), Feature))


def value_of(bars: Bars, text: str) -> float:
    """The feature's value at the last bar."""
    feature = plain(text)
    value: float = compute(bars, [feature])[feature.name][-1]
    return value


def column_of(bars: Bars, text: str) -> Vector:
    """The feature's values, NaN for null; they begin exactly when its look-back is complete."""
    feature = plain(text)
    values = compute(bars, [feature])[feature.name]
    assert values.null_count() == feature.lookback - 1
    assert values.head(feature.lookback - 1).null_count() == feature.lookback - 1
    return values.to_numpy()


# ---- TA-Lib, on a random and on a real market ----------------------------------------------------------------------

Prices = Mapping[str, Vector]


def _macd(p: Prices) -> tuple[Vector, Vector, Vector]:
    found: tuple[Vector, Vector, Vector] = talib.MACD(p["close"], 12, 26, 9)
    return found


def _bands(p: Prices) -> tuple[Vector, Vector, Vector]:
    found: tuple[Vector, Vector, Vector] = talib.BBANDS(p["close"], 20, 2, 2)
    return found


def _bollinger_position(p: Prices) -> Vector:
    upper, _, lower = _bands(p)
    return (p["close"] - lower) / (upper - lower)


def _bollinger_width(p: Prices) -> Vector:
    upper, middle, lower = _bands(p)
    return (upper - lower) / middle


def _range_position(p: Prices) -> Vector:
    lowest, highest = talib.MIN(p["low"], 50), talib.MAX(p["high"], 50)
    return (p["close"] - lowest) / (highest - lowest)


TALIB: dict[str, Callable[[Prices], Vector]] = {
    "rsi(14)": lambda p: talib.RSI(p["close"], 14),
    "macd(12, 26)": lambda p: _macd(p)[0] / p["close"],
    "macd_signal(12, 26, 9)": lambda p: _macd(p)[1] / p["close"],
    "macd_histogram(12, 26, 9)": lambda p: _macd(p)[2] / p["close"],
    "atr(14)": lambda p: talib.NATR(p["high"], p["low"], p["close"], 14) / 100,
    "adx(14)": lambda p: talib.ADX(p["high"], p["low"], p["close"], 14),
    "plus_di(14)": lambda p: talib.PLUS_DI(p["high"], p["low"], p["close"], 14),
    "minus_di(14)": lambda p: talib.MINUS_DI(p["high"], p["low"], p["close"], 14),
    "bollinger_position(20, 2.0)": _bollinger_position,
    "bollinger_width(20, 2.0)": _bollinger_width,
    "stochastic_k(14)": lambda p: 100 + talib.WILLR(p["high"], p["low"], p["close"], 14),
    "stochastic_d(14, 3)": lambda p: talib.STOCHF(p["high"], p["low"], p["close"], 14, 3)[1],
    "ema_distance(20)": lambda p: np.log(p["close"] / talib.EMA(p["close"], 20)),
    "sma_distance(50)": lambda p: np.log(p["close"] / talib.SMA(p["close"], 50)),
    "log_return(10)": lambda p: np.log(talib.ROCR(p["close"], 10)),
    "range_position(50)": _range_position,
}


@pytest.fixture(scope="module", params=["random", "S&P 500", "bitcoin"])
def market(request: pytest.FixtureRequest) -> Bars:
    """A random market, 20 years of real days (they come with `arch`), or a week of real minutes."""
    if request.param == "random":
        return bars_of(rows_of("RANDOM", two_state_moves(3000, 0.05, (5e-3, 2e-2), seed=21)))
    if request.param == "S&P 500":
        from arch.data import sp500

        table = sp500.load()
        frame = rows_of("SPX", np.zeros(len(table)))
        return bars_of(
            frame.with_columns(pl.Series(n, table[n.title()].to_numpy()) for n in ("open", "high", "low", "close"))
        )
    folder: Path = request.getfixturevalue("real_markets")
    rows = pl.read_parquet(folder / "crypto" / "binance_us_1m" / "BTCUSD-1m-2023-03-01_21.parquet").head(10_080)
    return bars_of(rows.rename({"open_time": "time"}).with_columns(symbol=pl.lit("BTCUSD")))


@pytest.mark.parametrize("text", TALIB)
def test_a_feature_is_what_ta_lib_says_it_is(text: str, market: Bars) -> None:
    """At every bar from the end of the look-back on, by when TA-Lib has forgotten how it began."""
    feature = plain(text)
    prices = {name: market.frame[name].to_numpy() for name in ("open", "high", "low", "close")}
    compared = 0
    for start, length in market.stretches():
        stretch = slice(start, start + length)
        theirs = TALIB[text]({name: values[stretch] for name, values in prices.items()})[feature.lookback - 1 :]
        ours = column_of(Bars(market.frame[stretch], "1m"), text)[feature.lookback - 1 :]
        np.testing.assert_allclose(ours, theirs, rtol=1e-9, atol=1e-11)
        compared += ours.size
    assert compared > 2000


# ---- the printed series of ADX -------------------------------------------------------------------------------------


def slow_directional(high: list[float], low: list[float], close: list[float], n: int) -> list[dict[str, float]]:
    """+DI, -DI, ADX and ATR of every bar, by Wilder's worksheet with TA-Lib's start; absent until they exist."""
    found: list[dict[str, float]] = [{}]
    sums = {"plus": 0.0, "minus": 0.0, "range": 0.0}
    ranges: list[float] = []
    dx: list[float] = []
    for t in range(1, len(close)):
        up, down = high[t] - high[t - 1], low[t - 1] - low[t]
        widest = max(high[t] - low[t], abs(high[t] - close[t - 1]), abs(low[t] - close[t - 1]))
        moved = {"plus": up if up > down and up > 0 else 0.0, "minus": down if down > up and down > 0 else 0.0}
        for key, value in {**moved, "range": widest}.items():
            sums[key] += value if t < n else value - sums[key] / n
        found.append({})
        ranges.append(widest)
        if t == n:
            found[t]["atr"] = fmean(ranges)
        if t > n:
            found[t]["atr"] = (found[t - 1]["atr"] * (n - 1) + widest) / n
        if t >= n:
            plus, minus = 100 * sums["plus"] / sums["range"], 100 * sums["minus"] / sums["range"]
            found[t] |= {"plus_di": plus, "minus_di": minus}
            dx.append(100 * abs(plus - minus) / (plus + minus))
        if t == 2 * n - 1:
            found[t]["adx"] = fmean(dx)
        if t >= 2 * n:
            found[t]["adx"] = (found[t - 1]["adx"] * (n - 1) + dx[-1]) / n
    return found


def waves(bars: int) -> tuple[list[float], list[float], list[float]]:
    """High, low and close of the series of facts/microstructure.md, section 5.2."""
    close = [100 + 5 * math.sin(i / 6) + 0.1 * i for i in range(bars)]
    high = [c + 1 + 0.3 * math.cos(i) for i, c in enumerate(close)]
    low = [c - 1 - 0.2 * math.sin(1.3 * i) for i, c in enumerate(close)]
    return high, low, close


def test_the_slow_worksheet_gives_the_printed_directional_indicators() -> None:
    found = slow_directional(*waves(60), n=14)
    printed = {
        "adx": {27: 32.36595583, 40: 32.74345476, 59: 37.31758350},
        "plus_di": {14: 19.78434413, 27: 7.19104089, 59: 10.08358998},
        "minus_di": {14: 2.73538215, 27: 17.29988567, 59: 18.37480787},
        "atr": {14: 2.00777214, 27: 2.01857753, 59: 2.01029111},
    }
    assert {name: {t: round(found[t][name], 8) for t in row} for name, row in printed.items()} == printed


@pytest.mark.parametrize("name", ["adx", "plus_di", "minus_di", "atr"])
def test_directional_indicators_are_those_of_the_worksheet_once_its_start_is_forgotten(name: str) -> None:
    high, low, close = waves(900)
    frame = rows_of("WAVES", np.zeros(900)).with_columns(
        open=pl.Series(close), high=pl.Series(high), low=pl.Series(low), close=pl.Series(close)
    )
    lookback = plain(name).lookback
    expected = [
        row[name] / (close[t] if name == "atr" else 1)
        for t, row in enumerate(slow_directional(high, low, close, 14))
        if t >= lookback - 1
    ]
    np.testing.assert_allclose(column_of(bars_of(frame), name)[lookback - 1 :], expected, rtol=1e-9)


# ---- published tables ----------------------------------------------------------------------------------------------

TABLE_A = {
    "open": [100.0, 101.2, 100.6, 102.5, 103.9, 103.1, 104.4, 102.8, 101.5, 102.2, 103.6, 104.1],
    "high": [101.9, 102.1, 102.8, 104.4, 104.6, 105.0, 104.9, 103.3, 102.6, 103.9, 104.8, 105.2],
    "low": [99.4, 100.2, 100.1, 102.0, 102.7, 102.9, 102.3, 100.9, 100.8, 101.9, 103.0, 103.5],
    "close": [101.0, 100.8, 102.4, 103.8, 103.2, 104.6, 102.6, 101.3, 102.3, 103.7, 104.0, 104.9],
    "volume": [1200.0, 950.0, 1800.0, 2100.0, 1500.0, 1700.0, 2600.0, 2900.0, 1600.0, 1900.0, 1400.0, 1300.0],
}


@pytest.fixture(scope="module")
def table_a() -> Bars:
    """The twelve bars of facts/microstructure.md, section 0.1."""
    frame = rows_of("TABLE", np.zeros(12)).with_columns(**{name: pl.Series(v) for name, v in TABLE_A.items()})
    return bars_of(frame)


@pytest.mark.parametrize(
    ("text", "printed_variance", "unit"),
    [
        ("parkinson(12)", 1.6237777e-4, 1e-11),
        ("garman_klass(12)", 1.7011119e-4, 1e-11),
        ("rogers_satchell(12)", 1.5636354e-4, 1e-11),
        ("yang_zhang(11)", 1.4945136e-4, 1e-11),
        ("realised_vol(11)", 1.4201672e-4, 1e-11),
    ],
)
def test_volatility_estimators_give_the_printed_variance(
    text: str, printed_variance: float, unit: float, table_a: Bars
) -> None:
    assert value_of(table_a, text) ** 2 == pytest.approx(printed_variance, abs=unit / 2)


@pytest.mark.parametrize(
    ("text", "printed"),
    [
        ("parkinson(12)", 0.01274275),
        ("garman_klass(12)", 0.01304267),
        ("rogers_satchell(12)", 0.01250454),
        ("yang_zhang(11)", 0.01222503),
        ("amihud(11)", 0.05555006),
    ],
)
def test_features_give_the_printed_value(text: str, printed: float, table_a: Bars) -> None:
    assert value_of(table_a, text) == pytest.approx(printed, abs=5e-9)


def test_realised_and_bipower_variance_make_the_share_of_jumps(table_a: Bars) -> None:
    """Printed for table A: RV .00155066, BV .00212728, so no jump; with one, RV exceeds BV by what the formula says."""
    assert value_of(table_a, "jump_share(11)") == 0.0
    closes = TABLE_A["close"]
    returns = [math.log(b / a) for a, b in pairwise(closes)]
    pairs = sum(abs(a * b) for a, b in pairwise(returns))
    assert sum(r * r for r in returns) == pytest.approx(0.00155066, abs=5e-9)
    assert math.pi / 2 * 11 / 10 * pairs == pytest.approx(0.00212728, abs=5e-9)
    returns[5] += 0.08
    realised, pairs = sum(r * r for r in returns), sum(abs(a * b) for a, b in pairwise(returns))
    expected = (realised - math.pi / 2 * 11 / 10 * pairs) / realised
    assert expected > 0.1
    assert value_of(bars_of(rows_of("JUMP", [0.0, *returns])), "jump_share(11)") == pytest.approx(expected, rel=1e-12)


def test_kyles_lambda_is_the_printed_slope() -> None:
    """q = 3, -2, 5, … against dP = .32, -.18, .47, …: slope 0.10067151 with an intercept."""
    signed = [3.0, -2.0, 5.0, -4.0, 1.0, 2.0, -1.0, -3.0]
    changes = [0.32, -0.18, 0.47, -0.42, 0.11, 0.22, -0.06, -0.33]
    close = pl.Series(100 + np.cumsum([0.0, *changes]))
    frame = rows_of("KYLE", np.zeros(9)).with_columns(
        open=close,
        high=close,
        low=close,
        close=close,
        volume=10.0,
        buy_volume=pl.Series([7.0, *(5 + q / 2 for q in signed)]),
    )
    assert value_of(bars_of(frame), "kyle_lambda(8)") == pytest.approx(0.10067151, abs=5e-9)


def test_order_flow_by_hand() -> None:
    """Traded 10, 40, 50, of which bought 6, 10, 40: net +2, -20, +30."""
    frame = rows_of("FLOW", np.zeros(3)).with_columns(
        volume=pl.Series([10.0, 40.0, 50.0]), buy_volume=pl.Series([6.0, 10.0, 40.0])
    )
    bars = bars_of(frame)
    assert value_of(bars, "cvd(3)") == 12.0
    assert value_of(bars, "flow_imbalance(3)") == 0.12
    assert value_of(bars, "flow_imbalance(1)") == 0.6
    assert value_of(bars, "flow_shift(1, 3)") == pytest.approx(0.48, rel=1e-15)
    assert value_of(bars, "taker_ratio(3)") == pytest.approx(math.log(56 / 44), rel=1e-15)
    assert value_of(bars, "buy_bar_share(3)") == pytest.approx(2 / 3, rel=1e-15)


# ---- LEAN's files --------------------------------------------------------------------------------------------------


def lean(real_markets: Path, name: str) -> pl.DataFrame:
    """One of LEAN's indicator files, as text."""
    table = pl.read_csv(real_markets / "reference" / "lean_indicators" / name, infer_schema=False)
    return table.filter(pl.col("Close").is_not_null())


def lean_bars(table: pl.DataFrame) -> Bars:
    prices = [name if name in table.columns else "Close" for name in ("Open", "High", "Low", "Close")]
    o, h, low, c = (table[name].cast(pl.Float64) for name in prices)
    frame = rows_of("SPY", np.zeros(table.height)).with_columns(
        open=o, high=pl.max_horizontal(o, h, c), low=pl.min_horizontal(o, low, c), close=c
    )
    return bars_of(frame)


def half(unit: float, worked_out_at: float = 0.0) -> float:
    """Half a unit of the last printed digit, and half a bit of numbers worked out in single precision."""
    return unit / 2 + worked_out_at * 2.0**-24


LEAN: list[tuple[str, str, str, Callable[[float, float], float], float]] = [
    ("spy_with_indicators.txt", "RSI 14 Wilder", "rsi(14)", lambda value, close: value, half(1e-5)),
    ("spy_with_indicators.txt", "MACD 12 26", "macd(12, 26)", lambda value, close: value * close, half(1e-3)),
    # Single precision has seven digits, and the index stood at 18,000.
    ("spy_with_indicators.txt", "EMA14", "ema_distance(14)", lambda v, close: close / math.exp(v), half(1e-2, 18e3)),
    ("spy_with_indicators.txt", "SMA14", "sma_distance(14)", lambda v, close: close / math.exp(v), half(1e-2, 18e3)),
    ("spy_atr_wilder.txt", "Average True Range 14", "atr(14)", lambda value, close: value * close, half(1e-5)),
    ("spy_natr.txt", "NATR_5", "atr(5)", lambda value, close: 100 * value, half(1e-10)),
    ("spy_with_adx.txt", "+DI14", "plus_di(14)", lambda value, close: value, half(1e-4)),
    ("spy_with_adx.txt", "-DI14", "minus_di(14)", lambda value, close: value, half(1e-4)),
    ("spy_logr14.txt", "LOGR14", "log_return(14)", lambda value, close: value, half(1e-7, 1.0)),
    ("spy_ker.txt", "KER", "efficiency_ratio(10)", lambda value, close: value, half(1e-9)),
]


@pytest.mark.parametrize(
    ("file", "column", "text", "theirs", "unit"), LEAN, ids=[f"{file} {column}" for file, column, *_ in LEAN]
)
def test_a_feature_is_what_leans_files_print(
    file: str, column: str, text: str, theirs: Callable[[float, float], float], unit: float, real_markets: Path
) -> None:
    table = lean(real_markets, file)
    feature = plain(text)
    values = column_of(lean_bars(table), text)[feature.lookback - 1 :]
    closes = table["Close"].cast(pl.Float64).to_list()[feature.lookback - 1 :]
    expected = [float(cell) for cell in table[column].to_list()[feature.lookback - 1 :]]
    ours = [theirs(value, close) for value, close in zip(values, closes, strict=True)]
    assert len(ours) == table.height - feature.lookback + 1 > 80
    assert ours == pytest.approx(expected, abs=unit, rel=0)


def test_bollinger_bands_are_what_leans_file_prints(real_markets: Path) -> None:
    table = lean(real_markets, "spy_bollinger_bands.txt")
    bars = lean_bars(table)
    close = bars.frame["close"].to_numpy()
    distance, width, position = (
        column_of(bars, f"{name}(20)")[19:] for name in ("sma_distance", "bollinger_width", "bollinger_position")
    )
    middle = close[19:] / np.exp(distance)
    bands = {"Top": middle * (1 + width / 2), "Bottom": middle * (1 - width / 2)}
    for side, ours in bands.items():
        printed = table[f"Bollinger Bands® 20 2 {side}"].cast(pl.Float64, strict=False).to_numpy()[19:]
        assert ours.size == 481
        np.testing.assert_allclose(ours, printed, rtol=0, atol=half(1e-4, 212.0))
    at = bands["Bottom"] + position * (bands["Top"] - bands["Bottom"])
    np.testing.assert_allclose(at, close[19:], rtol=1e-12)


# ---- every formula, slowly -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Past:
    """Everything up to a bar, oldest first: prices, volume, what was bought of it, turnover, trades, closing times."""

    o: list[float]
    h: list[float]
    low: list[float]
    c: list[float]
    v: list[float]
    b: list[float]
    q: list[float]
    n: list[float]
    times: list[datetime]

    @cached_property
    def r(self) -> list[float]:
        """Log returns."""
        return [math.log(after / before) for before, after in pairwise(self.c)]

    @cached_property
    def delta(self) -> list[float]:
        """Bought less sold."""
        return [bought - (traded - bought) for bought, traded in zip(self.b, self.v, strict=True)]

    @cached_property
    def rogers_satchell(self) -> list[float]:
        bars = zip(self.o, self.h, self.low, self.c, strict=True)
        return [math.log(h / c) * math.log(h / o) + math.log(low / c) * math.log(low / o) for o, h, low, c in bars]

    @cached_property
    def directional(self) -> dict[str, float]:
        return slow_directional(self.h, self.low, self.c, 14)[-1]

    @cached_property
    def macd(self) -> list[float]:
        return [fast - slow for fast, slow in zip(recursion(self.c, 2 / 13), recursion(self.c, 2 / 27), strict=True)]

    def stochastic(self, ago: int, window: int) -> float:
        end = len(self.c) - ago
        lowest, highest = min(self.low[end - window : end]), max(self.h[end - window : end])
        return (self.c[end - 1] - lowest) / (highest - lowest)

    def turn(self, minutes: int) -> float:
        """Angle of the closing time on a circle of so many minutes, begun on Monday at midnight."""
        last = self.times[-1]
        return 2 * math.pi * ((last.weekday() * 24 + last.hour) * 60 + last.minute) / minutes


def recursion(values: list[float], weight: float) -> list[float]:
    """x̄ = weight x + (1 - weight) x̄[-1], begun at the first value."""
    found = [values[0]]
    for value in values[1:]:
        found.append(weight * value + (1 - weight) * found[-1])
    return found


def ratio_of_log_range(p: Past, per_bar: Callable[[float, float, float, float], float]) -> float:
    return math.sqrt(fmean(map(per_bar, p.o[-20:], p.h[-20:], p.low[-20:], p.c[-20:])))


def slow_rsi(p: Past) -> float:
    moves = [after - before for before, after in pairwise(p.c)]
    gain = recursion([max(move, 0.0) for move in moves], 1 / 14)[-1]
    loss = recursion([max(-move, 0.0) for move in moves], 1 / 14)[-1]
    return 100 - 100 / (1 + gain / loss)


def slow_yang_zhang(p: Past) -> float:
    k = 0.34 / (1.34 + 21 / 19)
    overnight = [math.log(o / before) for before, o in zip(p.c[-21:-1], p.o[-20:], strict=True)]
    inside = [math.log(c / o) for o, c in zip(p.o[-20:], p.c[-20:], strict=True)]
    return math.sqrt(variance(overnight) + k * variance(inside) + (1 - k) * fmean(p.rogers_satchell[-20:]))


def slow_jump_share(p: Past) -> float:
    r = [abs(each) for each in p.r[-60:]]
    realised = sum(each**2 for each in r)
    bipower = 60 / 59 * math.pi / 2 * sum(a * b for a, b in pairwise(r))
    return max(realised - bipower, 0.0) / realised


SLOW: dict[str, Callable[[Past], float]] = {
    "day_sin": lambda p: math.sin(p.turn(1440)),
    "day_cos": lambda p: math.cos(p.turn(1440)),
    "week_sin": lambda p: math.sin(p.turn(10080)),
    "week_cos": lambda p: math.cos(p.turn(10080)),
    "log_return": lambda p: math.log(p.c[-1]) - math.log(p.c[-2]),
    "lagged_return": lambda p: math.log(p.c[-2]) - math.log(p.c[-3]),
    "open_gap": lambda p: math.log(p.o[-1]) - math.log(p.c[-2]),
    "bar_range": lambda p: math.log(p.h[-1]) - math.log(p.low[-1]),
    "body": lambda p: (p.c[-1] - p.o[-1]) / (p.h[-1] - p.low[-1]),
    "upper_shadow": lambda p: (p.h[-1] - max(p.o[-1], p.c[-1])) / (p.h[-1] - p.low[-1]),
    "lower_shadow": lambda p: (min(p.o[-1], p.c[-1]) - p.low[-1]) / (p.h[-1] - p.low[-1]),
    "close_location": lambda p: ((p.c[-1] - p.low[-1]) - (p.h[-1] - p.c[-1])) / (p.h[-1] - p.low[-1]),
    "up_share": lambda p: sum(r > 0 for r in p.r[-20:]) / 20,
    "range_position": lambda p: p.stochastic(0, 50),
    "rsi": slow_rsi,
    "stochastic_k": lambda p: 100 * p.stochastic(0, 14),
    "stochastic_d": lambda p: 100 * fmean(p.stochastic(ago, 14) for ago in range(3)),
    "efficiency_ratio": lambda p: abs(p.c[-1] - p.c[-21]) / sum(abs(b - a) for a, b in pairwise(p.c[-21:])),
    "return_zscore": lambda p: (p.r[-1] - fmean(p.r[-60:])) / stdev(p.r[-60:]),
    "acceleration": lambda p: sum(p.r[-10:]) - sum(p.r[-20:-10]),
    "volume_zscore": lambda p: (p.v[-1] - fmean(p.v[-60:])) / stdev(p.v[-60:]),
    "volume_ratio": lambda p: math.log(fmean(p.v[-5:]) / fmean(p.v[-60:])),
    "price_volume_correlation": lambda p: correlation(p.r[-60:], p.v[-60:]),
    "vwap_deviation": lambda p: math.log(p.c[-1] / (sum(p.q[-60:]) / sum(p.v[-60:]))),
    "trade_size": lambda p: math.log(p.v[-1] / p.n[-1] / (sum(p.v[-60:]) / sum(p.n[-60:]))),
    "flow_imbalance": lambda p: (p.b[-1] - (p.v[-1] - p.b[-1])) / p.v[-1],
    "flow_shift": lambda p: sum(p.delta[-5:]) / sum(p.v[-5:]) - sum(p.delta[-60:]) / sum(p.v[-60:]),
    "cvd": lambda p: sum(p.delta[-60:]),
    "taker_ratio": lambda p: math.log(sum(p.b[-20:]) / (sum(p.v[-20:]) - sum(p.b[-20:]))),
    "buy_bar_share": lambda p: sum(b > v / 2 for b, v in zip(p.b[-20:], p.v[-20:], strict=True)) / 20,
    "flow_persistence": lambda p: correlation(p.delta[-60:], p.delta[-61:-1]),
    "flow_return_correlation": lambda p: correlation(p.delta[-60:], p.r[-60:]),
    "kyle_lambda": lambda p: linear_regression(p.delta[-60:], [b - a for a, b in pairwise(p.c[-61:])]).slope,
    "amihud": lambda p: (
        1e6
        * fmean(
            abs(now / before - 1) / (now * v) for before, now, v in zip(p.c[-61:-1], p.c[-60:], p.v[-60:], strict=True)
        )
    ),
    "sma_distance": lambda p: math.log(p.c[-1] / fmean(p.c[-50:])),
    "ema_distance": lambda p: math.log(p.c[-1] / recursion(p.c, 2 / 21)[-1]),
    "macd": lambda p: p.macd[-1] / p.c[-1],
    "macd_signal": lambda p: recursion(p.macd, 2 / 10)[-1] / p.c[-1],
    "macd_histogram": lambda p: (p.macd[-1] - recursion(p.macd, 2 / 10)[-1]) / p.c[-1],
    "plus_di": lambda p: p.directional["plus_di"],
    "minus_di": lambda p: p.directional["minus_di"],
    "adx": lambda p: p.directional["adx"],
    "bollinger_position": lambda p: (p.c[-1] - fmean(p.c[-20:])) / pstdev(p.c[-20:]) / 4 + 0.5,
    "bollinger_width": lambda p: 4 * pstdev(p.c[-20:]) / fmean(p.c[-20:]),
    "realised_vol": lambda p: stdev(p.r[-20:]),
    "parkinson": lambda p: ratio_of_log_range(p, lambda o, h, low, c: math.log(h / low) ** 2 / (4 * math.log(2))),
    "garman_klass": lambda p: ratio_of_log_range(
        p, lambda o, h, low, c: math.log(h / low) ** 2 / 2 - (2 * math.log(2) - 1) * math.log(c / o) ** 2
    ),
    "rogers_satchell": lambda p: math.sqrt(fmean(p.rogers_satchell[-20:])),
    "yang_zhang": slow_yang_zhang,
    "atr": lambda p: p.directional["atr"] / p.c[-1],
    "vol_ratio": lambda p: math.log(stdev(p.r[-10:]) / stdev(p.r[-60:])),
    "jump_share": slow_jump_share,
    "vol_of_vol": lambda p: stdev(math.log(stdev(p.r[len(p.r) - ago - 10 : len(p.r) - ago])) for ago in range(60)),
}

COLUMNS = ("open", "high", "low", "close", "volume", "buy_volume", "quote_volume", "trades", "time")


@pytest.fixture(scope="module")
def pasts(ordinary: Bars) -> list[Past]:
    """What was known at each of the last 20 of 1,000 bars."""
    columns = [ordinary.frame[name].head(1000).to_list() for name in COLUMNS]
    return [Past(*(values[:end] for values in columns)) for end in range(981, 1001)]


def test_every_feature_is_held_to_account_in_this_folder() -> None:
    """Here or beside it: a feature that no reference test names has nobody who says what it should be."""
    said = " ".join(path.read_text() for path in Path(__file__).parent.glob("*.py"))
    words = set(re.findall(r"[a-z0-9_]+", said)) | {
        f"alpha_{name}" for name in re.findall(r'"([a-z0-9]+)": lambda b', said)
    }
    assert [name for name in FEATURES if name not in words] == []
    assert set(SLOW) <= PLAIN


@pytest.mark.parametrize("name", SLOW)
def test_a_feature_is_its_formula_worked_out_slowly(name: str, pasts: list[Past], ordinary: Bars) -> None:
    feature = plain(name)
    ours = compute(Bars(ordinary.frame.head(1000), "1m"), [feature])[feature.name].tail(20).to_list()
    assert ours == pytest.approx([SLOW[name](past) for past in pasts], rel=1e-9, abs=1e-12)
