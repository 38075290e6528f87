"""What is usual at this hour of the day, and volatility with a short, a middling and a long memory.

All learned from training bars. The hour of a bar is the one, in UTC, in which it ended; a bar that closes at 01:00
belongs to hour 0.
"""

import math
from collections.abc import Sequence

import numpy as np

from lab.errors import NotEnoughHistory
from lab.features.catalogue import fitted_feature
from lab.features.price import log_change
from lab.features.windows import rolling_mean
from lab.nouns import Ages, Bars, Formula, Matrix, Numbers, Vector

HOURS = 24
HOUR = 3_600_000_000  # in microseconds
FEWEST_BARS = 250
HAR_BARS = (1, 5, 22)  # over which variance is averaged: a day, a week and a month of daily bars


def hour_of(time: Vector) -> Vector:
    """Hour of the day, from 0, in which each bar ended; a bar that closes at 01:00 belongs to hour 0."""
    hours: Vector = (time - 1) // HOUR % HOURS
    return hours


def hourly(bars: Bars, values: Vector) -> Numbers:
    """Mean of the logarithms of `values` above 0 in every hour of the day, less that of all; hours without any lack.

    Each hour counts the same in the mean of all, so that it does not matter how often an hour was seen.
    """
    known = np.isfinite(values) & (values > 0)
    if known.sum() < FEWEST_BARS:
        raise NotEnoughHistory(
            f"hours of the day need {FEWEST_BARS} bars that trade and move; "
            f"{bars.symbols[0]} has {known.sum()} to train on",
            fix="lengthen `train`, or leave the seasonal features out",
        )
    logs, hours = np.log(values[known]), hour_of(bars.frame["time"].to_physical().to_numpy())[known]
    usual = {f"hour_{hour}": float(np.mean(logs[hours == hour])) for hour in np.unique(hours)}
    level = float(np.mean(list(usual.values())))
    return {name: value - level for name, value in usual.items()} | {"level": level}


def moves_of(bars: Bars) -> Vector:
    """|log return| of every bar; NaN at the first of each unbroken stretch."""
    close = bars.frame["close"].to_numpy()
    return np.concatenate([np.abs(log_change(close[start : start + rows])) for start, rows in bars.stretches()])


def fit_volume_hours(bars: Bars) -> Numbers:
    """Usual ln volume of each hour of the day; bars that traded nothing are left out."""
    return hourly(bars, bars.frame["volume"].fill_null(np.nan).to_numpy())


def fit_volatility_hours(bars: Bars) -> Numbers:
    """Usual ln |log return| of each hour of the day; bars that did not move are left out."""
    return hourly(bars, moves_of(bars))


def usual_at(time: Vector, numbers: Numbers) -> Vector:
    """What is usual at each bar's hour, over what is usual in the whole day, as a logarithm; NaN at an unseen hour."""
    by_hour = np.array([numbers.get(f"hour_{hour}", np.nan) for hour in range(HOURS)])
    usual: Vector = by_hour[hour_of(time).astype(np.int64)]
    return usual


@fitted_feature(fit=fit_volume_hours, lookback=lambda: 1, needs=["volume", "time"])
def seasonal_volume(numbers: Numbers) -> Formula:
    """ln(V / what is usual at this hour of the day, UTC), the geometric mean of the hour's training bars.

    Null at an hour that training had not seen, and where nothing traded.
    """
    return lambda volume, time: np.log(volume) - numbers["level"] - usual_at(time, numbers)


@fitted_feature(fit=fit_volatility_hours, lookback=lambda: 2, needs=["close", "time"])
def seasonal_volatility(numbers: Numbers) -> Formula:
    """|log return| / what is usual at this hour of the day, UTC, the geometric mean of the hour's training bars.

    Null at an hour that training had not seen. Andersen & Bollerslev (1997) for the pattern.
    """
    return lambda close, time: np.abs(log_change(close)) / np.exp(numbers["level"] + usual_at(time, numbers))


@fitted_feature(fit=fit_volatility_hours, lookback=lambda: 1, needs=["close", "time"])
def usual_volatility_now(numbers: Numbers) -> Formula:
    """Usual |log return| at this hour of the day, UTC, over that of the whole day: 1 where the hour is like the day.

    Null at an hour that training had not seen.
    """
    return lambda time: np.exp(usual_at(time, numbers))


def range_variance(high: Vector, low: Vector) -> Vector:
    """Variance of each bar that its range betrays, ln(H/L)² / (4 ln 2). Parkinson (1980)."""
    return np.log(high / low) ** 2 / (4 * math.log(2))


def har_terms(variance: Vector, age: Ages) -> Matrix:
    """1, and the means of the last 1, 5 and 22 variances, a row for each bar."""
    return np.column_stack([np.ones(variance.size), *(rolling_mean(variance, bars, age) for bars in HAR_BARS)])


def regressed(stretches: Sequence[Vector]) -> Vector:
    """Intercept and slopes of the next variance on its means over 1, 5 and 22 bars, by least squares."""
    terms = np.vstack([har_terms(each, np.array([1]))[:-1] for each in stretches])
    following = np.concatenate([each[1:] for each in stretches])
    known = np.isfinite(terms).all(axis=1)
    slopes: Vector = np.linalg.lstsq(terms[known], following[known], rcond=None)[0]
    return slopes


def fit_har(bars: Bars) -> Numbers:
    """Corsi's regression on the variances of the ranges of `bars`, in units of their mean, `scale`.

    `intercept`, `slope_1`, `slope_5`, `slope_22`, and what was seen in training: `least` and `most`.
    """
    high, low = (bars.frame[name].to_numpy() for name in ("high", "low"))
    variance = range_variance(high, low)
    scale = float(np.mean(variance)) if variance.size else 0.0
    if variance.size < FEWEST_BARS or scale == 0.0:
        raise NotEnoughHistory(
            f"HAR needs {FEWEST_BARS} bars that have a range; {bars.symbols[0]} has {variance.size} to train on",
            fix="lengthen `train`, or leave har_vol out",
        )
    variance /= scale
    slopes = regressed([variance[start : start + rows] for start, rows in bars.stretches()])
    names = ("intercept", *(f"slope_{bars}" for bars in HAR_BARS))
    seen = {"least": float(variance.min()), "most": float(variance.max()), "scale": scale}
    return dict(zip(names, slopes.tolist(), strict=True)) | seen


@fitted_feature(fit=fit_har, lookback=lambda: HAR_BARS[-1], needs=["high", "low"])
def har_vol(numbers: Numbers) -> Formula:
    """Volatility that a regression on mean variances of 1, 5 and 22 bars expects of the next bar. Corsi (2009).

    A bar's variance is Parkinson's, of its range; fitted on training bars. A forecast below the least or above the
    largest variance of training is replaced by their mean.
    """
    slopes = np.array([numbers[name] for name in ("intercept", *(f"slope_{bars}" for bars in HAR_BARS))])

    def forecast(high: Vector, low: Vector, age: Ages) -> Vector:
        terms = har_terms(range_variance(high, low) / numbers["scale"], age)
        expected = np.zeros(high.size)
        for k, slope in enumerate(slopes):
            expected += slope * terms[:, k]
        strange = (expected < numbers["least"]) | (expected > numbers["most"]) | (expected <= 0)
        return np.sqrt(numbers["scale"] * np.where(strange, 1.0, expected))

    return forecast
