"""Indicators as TA-Lib, plain pandas and pandas-ta-classic give them, and how a feature of lab follows from each.

A call of TA-Lib may give several columns; then so many features stand beside it, and the call is counted once. What
the peers return (an average in units of price) is converted to what the feature is (a distance from it) when values
are compared, and never while they are timed.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from lab.nouns import Vector

Prices = Mapping[str, Vector]
Columns = Sequence[Vector]
Call = Callable[[Any], Any]


@dataclass(frozen=True)
class Indicator:
    """What TA-Lib calls it, the features that it is compared with, and each peer's way to the same raw columns."""

    name: str
    features: tuple[str, ...]
    talib: Call
    converted: Callable[[Columns, Prices], Columns]
    pandas: Call | None = None
    classic: Call | None = None


def indicators() -> list[Indicator]:
    """Every indicator of the contest; imports the peers, which only those who run it need."""
    import pandas_ta_classic as ta
    import talib

    # An alias per formula would hide what is called: p is the columns, a dict of arrays or a frame of them.
    return [
        Indicator(
            "SMA 50", ("sma_distance(50)",), lambda p: talib.SMA(p["close"], 50), _distance,
            lambda p: p["close"].rolling(50).mean(), lambda p: ta.sma(p["close"], 50, talib=False),
        ),
        Indicator(
            "EMA 20", ("ema_distance(20)",), lambda p: talib.EMA(p["close"], 20), _distance,
            lambda p: _ema(p["close"], 20), lambda p: ta.ema(p["close"], 20, talib=False),
        ),
        Indicator(
            "WMA 20", ("wma_distance(20)",), lambda p: talib.WMA(p["close"], 20), _distance,
            lambda p: _wma(p["close"], 20), lambda p: ta.wma(p["close"], 20, talib=False),
        ),
        Indicator(
            "DEMA 20", ("dema_distance(20)",), lambda p: talib.DEMA(p["close"], 20), _distance,
            lambda p: _dema(p["close"], 20), lambda p: ta.dema(p["close"], 20, talib=False),
        ),
        Indicator(
            "TEMA 20", ("tema_distance(20)",), lambda p: talib.TEMA(p["close"], 20), _distance,
            lambda p: _tema(p["close"], 20), lambda p: ta.tema(p["close"], 20, talib=False),
        ),
        Indicator(
            "TRIMA 20", ("trima_distance(20)",), lambda p: talib.TRIMA(p["close"], 20), _distance,
            lambda p: p["close"].rolling(10).mean().rolling(11).mean(),
            lambda p: ta.trima(p["close"], 20, talib=False),
        ),
        Indicator(
            "KAMA 10", ("kama_distance(10, 900)",), lambda p: talib.KAMA(p["close"], 10), _distance,
            None, lambda p: ta.kama(p["close"], 10, talib=False),
        ),
        Indicator(
            "SAR", ("sar_distance(0.02, 0.2, 500)",), lambda p: talib.SAR(p["high"], p["low"], 0.02, 0.2),
            lambda raw, p: [(p["close"] - _either(raw)) / p["close"]], None,
            lambda p: _picked(ta.psar(p["high"], p["low"], None, 0.02, 0.02, 0.2, talib=False), 0, 1),
        ),
        Indicator(
            "SMA 10, SMA 50", ("sma_cross(10, 50)",), lambda p: (talib.SMA(p["close"], 10), talib.SMA(p["close"], 50)),
            lambda raw, p: [np.log(raw[0] / raw[1])],
            lambda p: (p["close"].rolling(10).mean(), p["close"].rolling(50).mean()),
            lambda p: (ta.sma(p["close"], 10, talib=False), ta.sma(p["close"], 50, talib=False)),
        ),
        Indicator(
            "EMA 10, EMA 50", ("ema_cross(10, 50)",), lambda p: (talib.EMA(p["close"], 10), talib.EMA(p["close"], 50)),
            lambda raw, p: [np.log(raw[0] / raw[1])],
            lambda p: (_ema(p["close"], 10), _ema(p["close"], 50)),
            lambda p: (ta.ema(p["close"], 10, talib=False), ta.ema(p["close"], 50, talib=False)),
        ),
        Indicator(
            "MACD 12 26 9", ("macd", "macd_signal", "macd_histogram"), lambda p: talib.MACD(p["close"], 12, 26, 9),
            lambda raw, p: [each / p["close"] for each in raw], lambda p: _macd(p["close"]),
            lambda p: _picked(ta.macd(p["close"], 12, 26, 9, talib=False), 0, 2, 1),
        ),
        Indicator(
            "PPO 12 26", ("ppo(12, 26)",), lambda p: talib.PPO(p["close"], 12, 26, 1), _same,
            lambda p: 100 * (_ema(p["close"], 12) / _ema(p["close"], 26) - 1),
            lambda p: _picked(ta.ppo(p["close"], 12, 26, 9, mamode="ema", talib=False), 0),
        ),
        Indicator(
            "TRIX 15", ("trix(15)",), lambda p: talib.TRIX(p["close"], 15), _same,
            lambda p: 100 * _ema(_ema(_ema(p["close"], 15), 15), 15).pct_change(),
            lambda p: _picked(ta.trix(p["close"], 15, talib=False), 0),
        ),
        Indicator(
            "ROC 10", ("roc(10)",), lambda p: talib.ROC(p["close"], 10), _same,
            lambda p: 100 * p["close"].pct_change(10), lambda p: ta.roc(p["close"], 10, talib=False),
        ),
        Indicator(
            "ROCP 1", ("simple_return(1)",), lambda p: talib.ROCP(p["close"], 1), _same,
            lambda p: p["close"].pct_change(1), lambda p: ta.rocp(p["close"], 1, talib=False),
        ),
        Indicator(
            "RSI 14", ("rsi(14)",), lambda p: talib.RSI(p["close"], 14), _same,
            lambda p: _rsi(p["close"], 14), lambda p: ta.rsi(p["close"], 14, talib=False),
        ),
        Indicator(
            "STOCHF 14 3", ("stochastic_k(14)", "stochastic_d(14, 3)"),
            lambda p: talib.STOCHF(p["high"], p["low"], p["close"], 14, 3), _same,
            lambda p: _stochastic(p, 14, 3),
            lambda p: _picked(ta.stoch(p["high"], p["low"], p["close"], 14, 3, 1, talib=False), 0, 1),
        ),
        Indicator(
            "STOCHRSI 14 14", ("stochastic_rsi(14, 14)",), lambda p: talib.STOCHRSI(p["close"], 14, 14, 1)[0], _same,
            lambda p: _position(_rsi(p["close"], 14), 14),
            lambda p: _picked(ta.stochrsi(p["close"], 14, 14, 1, 1, talib=False), 0),
        ),
        Indicator(
            "WILLR 14", ("williams_r(14)",), lambda p: talib.WILLR(p["high"], p["low"], p["close"], 14), _same,
            lambda p: _stochastic(p, 14, 1)[0] - 100,
            lambda p: ta.willr(p["high"], p["low"], p["close"], 14, talib=False),
        ),
        Indicator(
            "CCI 20", ("cci(20)",), lambda p: talib.CCI(p["high"], p["low"], p["close"], 20), _same,
            lambda p: _cci(p, 20), lambda p: ta.cci(p["high"], p["low"], p["close"], 20, talib=False),
        ),
        Indicator(
            "MFI 14", ("mfi(14)",), lambda p: talib.MFI(p["high"], p["low"], p["close"], p["volume"], 14), _same,
            lambda p: _mfi(p, 14), lambda p: ta.mfi(p["high"], p["low"], p["close"], p["volume"], 14, talib=False),
        ),
        Indicator(
            "ULTOSC 7 14 28", ("ultimate_oscillator(7, 14, 28)",),
            lambda p: talib.ULTOSC(p["high"], p["low"], p["close"], 7, 14, 28), _same, _ultimate,
            lambda p: ta.uo(p["high"], p["low"], p["close"], 7, 14, 28, talib=False),
        ),
        Indicator(
            "BOP", ("balance_of_power(1)",), lambda p: talib.BOP(p["open"], p["high"], p["low"], p["close"]), _same,
            lambda p: (p["close"] - p["open"]) / (p["high"] - p["low"]),
            lambda p: ta.bop(p["open"], p["high"], p["low"], p["close"], talib=False),
        ),
        Indicator(
            "ADX 14", ("adx(14)",), lambda p: talib.ADX(p["high"], p["low"], p["close"], 14), _same,
            lambda p: _wilder(_directional(p, 14)[2], 14),
            lambda p: _picked(ta.adx(p["high"], p["low"], p["close"], 14, talib=False), 0),
        ),
        Indicator(
            "ADXR 14", ("adxr(14)",), lambda p: talib.ADXR(p["high"], p["low"], p["close"], 14), _same, _adxr,
            lambda p: _picked(ta.adxr(p["high"], p["low"], p["close"], 14, talib=False), 0),
        ),
        Indicator(
            "DX 14", ("dx(14)",), lambda p: talib.DX(p["high"], p["low"], p["close"], 14), _same,
            lambda p: _directional(p, 14)[2], lambda p: ta.dx(p["high"], p["low"], p["close"], 14, talib=False),
        ),
        Indicator(
            "PLUS_DI 14, MINUS_DI 14", ("plus_di(14)", "minus_di(14)"),
            lambda p: tuple(f(p["high"], p["low"], p["close"], 14) for f in (talib.PLUS_DI, talib.MINUS_DI)), _same,
            lambda p: _directional(p, 14)[:2],
        ),
        Indicator(
            "AROON 25", ("aroon_down(25)", "aroon_up(25)"), lambda p: talib.AROON(p["high"], p["low"], 25), _same,
            lambda p: (_since(-p["low"], 25), _since(p["high"], 25)),
            lambda p: _picked(ta.aroon(p["high"], p["low"], 25, talib=False), 0, 1),
        ),
        Indicator(
            "AROONOSC 25", ("aroon_oscillator(25)",), lambda p: talib.AROONOSC(p["high"], p["low"], 25), _same,
            lambda p: _since(p["high"], 25) - _since(-p["low"], 25),
        ),
        Indicator(
            "NATR 14", ("atr(14)",), lambda p: talib.NATR(p["high"], p["low"], p["close"], 14), _percent,
            lambda p: 100 * _wilder(_ranges(p), 14) / p["close"],
            lambda p: ta.natr(p["high"], p["low"], p["close"], 14, talib=False),
        ),
        Indicator(
            "TRANGE", ("true_range_share",), lambda p: talib.TRANGE(p["high"], p["low"], p["close"]), _share, _ranges,
            lambda p: ta.true_range(p["high"], p["low"], p["close"], talib=False),
        ),
        Indicator(
            "BBANDS 20 2", ("bollinger_position(20)", "bollinger_width(20)"),
            lambda p: talib.BBANDS(p["close"], 20, 2, 2),
            lambda raw, p: [(p["close"] - raw[2]) / (raw[0] - raw[2]), (raw[0] - raw[2]) / raw[1]],
            lambda p: _bands(p["close"], 20),
            lambda p: _picked(ta.bbands(p["close"], 20, 2, talib=False), 2, 1, 0),
        ),
        Indicator(
            "STDDEV 20", ("alpha_std(20)",), lambda p: talib.STDDEV(p["close"], 20),
            lambda raw, p: [raw[0] * np.sqrt(20 / 19) / p["close"]],
            lambda p: p["close"].rolling(20).std(ddof=0), lambda p: ta.stdev(p["close"], 20, 0, talib=False),
        ),
        Indicator(
            "LINEARREG_SLOPE 20", ("alpha_beta(20)",), lambda p: talib.LINEARREG_SLOPE(p["close"], 20), _share,
            lambda p: _line(p["close"], 20)[0], lambda p: ta.linreg(p["close"], 20, slope=True, talib=False),
        ),
        Indicator(
            "LINEARREG 20", ("alpha_resi(20)",), lambda p: talib.LINEARREG(p["close"], 20),
            lambda raw, p: [(p["close"] - raw[0]) / p["close"]],
            lambda p: _line(p["close"], 20)[1], lambda p: ta.linreg(p["close"], 20, talib=False),
        ),
        Indicator(
            "MAX 50", ("high_distance(50)",), lambda p: talib.MAX(p["high"], 50), _distance,
            lambda p: p["high"].rolling(50).max(),
        ),
        Indicator(
            "MIN 50", ("low_distance(50)",), lambda p: talib.MIN(p["low"], 50), _distance,
            lambda p: p["low"].rolling(50).min(),
        ),
        Indicator(
            "MAX 20, MIN 20", ("donchian_width(20)",), lambda p: (talib.MAX(p["high"], 20), talib.MIN(p["low"], 20)),
            lambda raw, p: [np.log(raw[0] / raw[1])],
            lambda p: (p["high"].rolling(20).max(), p["low"].rolling(20).min()),
            lambda p: _picked(ta.donchian(p["high"], p["low"], 20, 20), 2, 0),
        ),
        Indicator(
            "MAXINDEX 20", ("alpha_imax(20)",), lambda p: talib.MAXINDEX(p["high"], 20),
            lambda raw, p: [1 - (np.arange(raw[0].size) - raw[0]) / 20],
            lambda p: p["high"].index.to_series() - _back(p["high"], 20),
        ),
        Indicator(
            "MIDPRICE 9", ("tenkan_distance(9)",), lambda p: talib.MIDPRICE(p["high"], p["low"], 9), _distance,
            lambda p: (p["high"].rolling(9).max() + p["low"].rolling(9).min()) / 2,
            lambda p: ta.midprice(p["high"], p["low"], 9, talib=False),
        ),
        Indicator(
            "MIDPRICE 26", ("kijun_distance(26)",), lambda p: talib.MIDPRICE(p["high"], p["low"], 26), _distance,
            lambda p: (p["high"].rolling(26).max() + p["low"].rolling(26).min()) / 2,
            lambda p: ta.midprice(p["high"], p["low"], 26, talib=False),
        ),
        Indicator(
            "TYPPRICE", ("typical_price_distance",), lambda p: talib.TYPPRICE(p["high"], p["low"], p["close"]),
            _distance, lambda p: (p["high"] + p["low"] + p["close"]) / 3,
            lambda p: ta.hlc3(p["high"], p["low"], p["close"], talib=False),
        ),
        Indicator(
            "CORREL 20", ("alpha_corr(20)",), lambda p: talib.CORREL(p["close"], np.log(p["volume"] + 1), 20), _same,
            lambda p: p["close"].rolling(20).corr(np.log(p["volume"] + 1)),
            lambda p: ta.correl(p["close"], np.log(p["volume"] + 1), 20),
        ),
        Indicator(
            "OBV", ("obv(20)",), lambda p: talib.OBV(p["close"], p["volume"]),
            lambda raw, p: [(raw[0] - _lagged(raw[0], 20)) / talib.SUM(p["volume"], 20)],
            lambda p: (np.sign(p["close"].diff()) * p["volume"]).cumsum(),
            lambda p: ta.obv(p["close"], p["volume"], talib=False),
        ),
        Indicator(
            "ADOSC 3 10", ("chaikin_oscillator(3, 10)",),
            lambda p: talib.ADOSC(p["high"], p["low"], p["close"], p["volume"], 3, 10),
            lambda raw, p: [raw[0] / talib.EMA(p["volume"], 10)], _chaikin,
            lambda p: ta.adosc(p["high"], p["low"], p["close"], p["volume"], fast=3, slow=10, talib=False),
        ),
    ]  # fmt: skip


def raw_columns(found: Any) -> list[Vector]:
    """What a peer returned, as arrays."""
    columns = found if isinstance(found, (tuple, list)) else [found]
    return [np.asarray(column, dtype=np.float64) for column in columns]


def _same(raw: Columns, prices: Prices) -> Columns:
    return raw


def _percent(raw: Columns, prices: Prices) -> Columns:
    return [each / 100 for each in raw]


def _share(raw: Columns, prices: Prices) -> Columns:
    return [each / prices["close"] for each in raw]


def _distance(raw: Columns, prices: Prices) -> Columns:
    return [np.log(prices["close"] / each) for each in raw]


def _either(raw: Columns) -> Vector:
    """The first column, and where it has no value the last."""
    return np.where(np.isnan(raw[0]), raw[-1], raw[0])


def _lagged(x: Vector, bars: int) -> Vector:
    return np.concatenate([np.full(bars, np.nan), x[:-bars]])


def _picked(frame: Any, *columns: int) -> tuple[Any, ...]:
    return tuple(frame.iloc[:, column] for column in columns)


# ---- pandas, as one writes it: whole columns, no loop and no apply ---------------------------------------------------


def _ema(x: "pd.Series[float]", span: int) -> "pd.Series[float]":
    return x.ewm(span=span, adjust=False).mean()


def _wilder(x: "pd.Series[float]", window: int) -> "pd.Series[float]":
    return x.ewm(alpha=1 / window, adjust=False).mean()


def _windows(x: "pd.Series[float]", window: int) -> Vector:
    return np.lib.stride_tricks.sliding_window_view(x.to_numpy(), window)


def _padded(x: Vector, like: "pd.Series[float]") -> "pd.Series[float]":
    return pd.Series(np.concatenate([np.full(len(like) - x.size, np.nan), x]), index=like.index)


def _wma(x: "pd.Series[float]", window: int) -> "pd.Series[float]":
    weights = np.arange(window, 0, -1) / (window * (window + 1) / 2)
    return _padded(np.convolve(x.to_numpy(), weights, "valid"), x)


def _dema(x: "pd.Series[float]", span: int) -> "pd.Series[float]":
    once = _ema(x, span)
    return 2 * once - _ema(once, span)


def _tema(x: "pd.Series[float]", span: int) -> "pd.Series[float]":
    once = _ema(x, span)
    twice = _ema(once, span)
    return 3 * once - 3 * twice + _ema(twice, span)


def _macd(x: "pd.Series[float]") -> Any:
    line = _ema(x, 12) - _ema(x, 26)
    signal = _ema(line, 9)
    return line, signal, line - signal


def _rsi(x: "pd.Series[float]", window: int) -> "pd.Series[float]":
    moves = x.diff()
    gains, losses = _wilder(moves.clip(lower=0), window), _wilder(-moves.clip(upper=0), window)
    return 100 * gains / (gains + losses)


def _position(x: "pd.Series[float]", window: int) -> "pd.Series[float]":
    bottom = x.rolling(window).min()
    return 100 * (x - bottom) / (x.rolling(window).max() - bottom)


def _stochastic(p: pd.DataFrame, window: int, smoothing: int) -> Any:
    bottom = p["low"].rolling(window).min()
    fast = 100 * (p["close"] - bottom) / (p["high"].rolling(window).max() - bottom)
    return fast, fast.rolling(smoothing).mean()


def _typical(p: pd.DataFrame) -> "pd.Series[float]":
    return (p["high"] + p["low"] + p["close"]) / 3


def _cci(p: pd.DataFrame, window: int) -> "pd.Series[float]":
    typical = _typical(p)
    seen = _windows(typical, window)
    away = np.abs(seen - seen.mean(axis=1, keepdims=True)).mean(axis=1)
    return (typical - typical.rolling(window).mean()) / (0.015 * _padded(away, typical))


def _mfi(p: pd.DataFrame, window: int) -> "pd.Series[float]":
    typical = _typical(p)
    money, moves = typical * p["volume"], typical.diff()
    rising = money.where(moves > 0, 0.0).rolling(window).sum()
    return 100 * rising / (rising + money.where(moves < 0, 0.0).rolling(window).sum())


def _ranges(p: pd.DataFrame) -> "pd.Series[float]":
    before = p["close"].shift(1)
    return np.maximum(p["high"], before) - np.minimum(p["low"], before)


def _ultimate(p: pd.DataFrame) -> "pd.Series[float]":
    bought, ranges = p["close"] - np.minimum(p["low"], p["close"].shift(1)), _ranges(p)
    a, b, c = (bought.rolling(window).sum() / ranges.rolling(window).sum() for window in (7, 14, 28))
    return 100 * (4 * a + 2 * b + c) / 7


def _directional(p: pd.DataFrame, window: int) -> Any:
    up, down = p["high"].diff(), -p["low"].diff()
    plus = _wilder(up.where((up > down) & (up > 0), 0.0), window)
    minus = _wilder(down.where((down > up) & (down > 0), 0.0), window)
    ranges = _wilder(_ranges(p), window)
    return 100 * plus / ranges, 100 * minus / ranges, 100 * (plus - minus).abs() / (plus + minus)


def _adxr(p: pd.DataFrame) -> "pd.Series[float]":
    index = _wilder(_directional(p, 14)[2], 14)
    return (index + index.shift(13)) / 2


def _back(x: "pd.Series[float]", window: int) -> "pd.Series[float]":
    """Bars since the largest of the last `window` values."""
    return _padded(np.argmax(_windows(x, window)[:, ::-1], axis=1).astype(float), x)


def _since(x: "pd.Series[float]", window: int) -> "pd.Series[float]":
    return 100 - 100 / window * _back(x, window + 1)


def _bands(x: "pd.Series[float]", window: int) -> Any:
    middle, reach = x.rolling(window).mean(), 2 * x.rolling(window).std(ddof=0)
    return middle + reach, middle, middle - reach


def _line(x: "pd.Series[float]", window: int) -> Any:
    steps = pd.Series(np.arange(len(x), dtype=float), index=x.index)
    slope = x.rolling(window).cov(steps) / (window * (window + 1) / 12)
    return slope, x.rolling(window).mean() + slope * (window - 1) / 2


def _chaikin(p: pd.DataFrame) -> "pd.Series[float]":
    line = ((2 * p["close"] - p["high"] - p["low"]) / (p["high"] - p["low"]) * p["volume"]).cumsum()
    return _ema(line, 3) - _ema(line, 10)
