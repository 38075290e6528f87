"""Volatility that GARCH, GJR and EGARCH expect, with coefficients from training bars or from the last ones.

The models, and how they are fitted, are in `garch_fit`. Here e is in units of the deviation of the returns that were
fitted: `scale`.
"""

import math

import numpy as np

from lab.compiled import compiled
from lab.errors import NotEnoughHistory
from lab.features.catalogue import feature, fitted_feature
from lab.features.garch_fit import (
    COEFFICIENTS,
    EGARCH,
    GARCH_LIMITS,
    GARCH_STARTS,
    GJR,
    MEAN_SIZE,
    estimate,
    likeliest,
    refitted_vol,
)
from lab.features.price import log_change
from lab.features.windows import exponential_sum, lag, memory, restarted
from lab.nouns import Ages, Bars, Formula, Numbers, Vector

FEWEST_RETURNS = 250
# A variance that never forgets has no look-back: at 0.99 a shock fades to 1e-12 in 2,750 bars.
LARGEST_BETA = 0.99
SMALLEST_BETA = 0.001


def returns_of(bars: Bars) -> Vector:
    """Log returns of one symbol's bars, oldest first; none of them reaches across a gap."""
    closes = bars.frame["close"].to_numpy()
    changes = [log_change(closes[start : start + rows])[1:] for start, rows in bars.stretches()]
    return np.concatenate([np.empty(0), *changes])


def scaled_returns(bars: Bars) -> tuple[Vector, float]:
    """Log returns of one symbol in units of their own deviation, and that; too few or none that move is an error."""
    returns = returns_of(bars)
    scale = float(np.std(returns)) if returns.size else 0.0
    if returns.size < FEWEST_RETURNS or scale == 0.0:
        raise NotEnoughHistory(
            f"GARCH needs {FEWEST_RETURNS} returns that move; {bars.symbols[0]} has {returns.size} to train on",
            fix="lengthen `train`, or leave the garch features out",
        )
    return returns / scale, scale


def fit_garch(bars: Bars) -> Numbers:
    """Gaussian maximum likelihood on the log returns of `bars`.

    Returns mu, omega, alpha, beta of returns divided by `scale`, their own deviation, which keeps the optimiser
    on firm ground. A market that never moved raises NotEnoughHistory, as does one with under 250 returns.
    """
    returns, scale = scaled_returns(bars)
    mu, omega, alpha, beta = estimate(returns)
    omega, beta = forgetful(omega, beta)
    return {"mu": mu, "omega": omega, "alpha": alpha, "beta": beta, "scale": scale}


def fit_gjr(bars: Bars) -> Numbers:
    """As `fit_garch`, with `gamma`: what a fall adds to alpha."""
    returns, scale = scaled_returns(bars)
    found, _ = likeliest(returns, GJR)
    mu, omega, alpha, gamma, beta = found.tolist()
    omega, beta = forgetful(omega, beta)
    return {"mu": mu, "omega": omega, "alpha": alpha, "gamma": gamma, "beta": beta, "scale": scale}


def fit_egarch(bars: Bars) -> Numbers:
    """As `fit_garch`, for the logarithm of the variance: `alpha` weighs the size of a shock, `gamma` its sign."""
    returns, scale = scaled_returns(bars)
    found, _ = likeliest(returns, EGARCH)
    mu, omega, alpha, gamma, beta = found.tolist()
    if beta > LARGEST_BETA:
        omega, beta = omega * (1 - LARGEST_BETA) / (1 - beta) if beta < 1 else 0.0, LARGEST_BETA
    return {"mu": mu, "omega": omega, "alpha": alpha, "gamma": gamma, "beta": beta, "scale": scale}


def forgetful(omega: float, beta: float) -> tuple[float, float]:
    """omega and beta with beta where a variance has a finite memory, at the long-run level that they implied."""
    if beta > LARGEST_BETA:
        return omega * (1 - LARGEST_BETA) / (1 - beta) if beta < 1 else omega, LARGEST_BETA
    return omega, max(beta, SMALLEST_BETA)


def garch_memory(numbers: Numbers) -> int:
    """Bars until the oldest shock weighs under 1e-12, and one for the first return."""
    return memory(numbers["beta"]) + 1


def shocks(numbers: Numbers, close: Vector) -> Vector:
    """Log returns less their mean, in units of `scale`."""
    return log_change(close) / numbers["scale"] - numbers["mu"]


def next_variance(numbers: Numbers, close: Vector, age: Ages) -> Vector:
    """Variance of the next scaled return: omega / (1 - beta) + alpha Σ beta^k e²[-k], known at this close."""
    beta = numbers["beta"]
    squares = shocks(numbers, close) ** 2
    return numbers["omega"] / (1 - beta) + numbers["alpha"] * exponential_sum(squares, beta, memory(beta), age)


def variance_after_falls(numbers: Numbers, close: Vector, age: Ages) -> Vector:
    """What falls alone add to GJR's variance of the next scaled return: gamma Σ beta^k e²[-k] 1{e[-k] < 0}."""
    beta = numbers["beta"]
    falls = np.minimum(shocks(numbers, close), 0.0)
    return numbers["gamma"] * exponential_sum(falls * falls, beta, memory(beta), age)


def next_gjr_variance(numbers: Numbers, close: Vector, age: Ages) -> Vector:
    """Variance that GJR expects of the next scaled return, known at this close."""
    return next_variance(numbers, close, age) + variance_after_falls(numbers, close, age)


def egarch_variance(numbers: Numbers, memory: int, close: Vector, age: Ages) -> Vector:
    """Variance that EGARCH expects of the next scaled return, from its long-run level `memory` bars or more ago."""
    omega, alpha, gamma, beta = (numbers[name] for name in COEFFICIENTS[1:])
    return restarted(lambda e: egarch_filter(e, omega, alpha, gamma, beta), memory, age, shocks(numbers, close))


def averaged(omega: float, persistence: float, horizon: int) -> tuple[float, float]:
    """(c, k) such that c + k h is the mean variance expected of the next `horizon` bars, the first of which has h.

    Each bar's expectation is omega + persistence times that of the bar before.
    """
    constant, slope = 0.0, 1.0
    constants, slopes = [], []
    for _ in range(horizon):
        constants.append(constant)
        slopes.append(slope)
        constant, slope = omega + persistence * constant, persistence * slope
    return math.fsum(constants) / horizon, math.fsum(slopes) / horizon


@fitted_feature(fit=fit_garch, lookback=garch_memory, needs=["close"])
def garch_vol(numbers: Numbers) -> Formula:
    """Volatility that GARCH(1,1), fitted on training bars, expects of the next bar's log return."""
    return lambda close, age: numbers["scale"] * np.sqrt(next_variance(numbers, close, age))


@fitted_feature(fit=fit_garch, lookback=lambda numbers: garch_memory(numbers) + 1, needs=["close"])
def garch_shock(numbers: Numbers) -> Formula:
    """Latest log return less its mean, in units of the volatility that GARCH(1,1) had expected of it."""
    return lambda close, age: shocks(numbers, close) / np.sqrt(lag(next_variance(numbers, close, age)))


@fitted_feature(fit=fit_garch, lookback=garch_memory, needs=["close"])
def garch_forecast(numbers: Numbers, horizon: int = 10) -> Formula:
    """Root of the mean variance that GARCH(1,1) expects of the next `horizon` log returns, per bar. Bollerslev (1986).

    Times sqrt(horizon) it is the volatility of their sum.
    """
    constant, slope = averaged(numbers["omega"], numbers["alpha"] + numbers["beta"], horizon)
    return lambda close, age: numbers["scale"] * np.sqrt(constant + slope * next_variance(numbers, close, age))


@fitted_feature(fit=fit_garch, lookback=garch_memory, needs=["close"])
def garch_excess(numbers: Numbers) -> Formula:
    """ln(garch_vol / standard deviation of the training returns): 0 where volatility is at its usual level.

    The usual level is that of the sample; the one that the coefficients imply does not exist where alpha + beta is 1.
    """
    return lambda close, age: 0.5 * np.log(next_variance(numbers, close, age))


@fitted_feature(fit=fit_gjr, lookback=garch_memory, needs=["close"])
def gjr_vol(numbers: Numbers) -> Formula:
    """Volatility that GJR, which lets falls weigh differently, expects of the next log return.

    Glosten, Jagannathan & Runkle (1993), fitted on training bars.
    """
    return lambda close, age: numbers["scale"] * np.sqrt(next_gjr_variance(numbers, close, age))


@fitted_feature(fit=fit_gjr, lookback=lambda numbers: garch_memory(numbers) + 1, needs=["close"])
def gjr_shock(numbers: Numbers) -> Formula:
    """Latest log return less its mean, in units of the volatility that GJR had expected of it."""
    return lambda close, age: shocks(numbers, close) / np.sqrt(lag(next_gjr_variance(numbers, close, age)))


@fitted_feature(fit=fit_gjr, lookback=garch_memory, needs=["close"])
def gjr_leverage(numbers: Numbers) -> Formula:
    """Share of GJR's next variance that is there because returns fell; negative where falls calm the market."""

    def share(close: Vector, age: Ages) -> Vector:
        after_falls = variance_after_falls(numbers, close, age)
        return after_falls / (next_variance(numbers, close, age) + after_falls)

    return share


@fitted_feature(fit=fit_egarch, lookback=lambda memory: 2 * memory + 1, needs=["close"])
def egarch_vol(numbers: Numbers, memory: int = 500) -> Formula:
    """Volatility that EGARCH(1,1), fitted on training bars, expects of the next bar's log return. Nelson (1991).

    The filter begins from the long-run level between `memory` and 2 `memory` returns ago.
    """
    return lambda close, age: numbers["scale"] * np.sqrt(egarch_variance(numbers, memory, close, age))


@fitted_feature(fit=fit_egarch, lookback=lambda memory: 2 * memory + 2, needs=["close"])
def egarch_shock(numbers: Numbers, memory: int = 500) -> Formula:
    """Latest log return less its mean, in units of the volatility that EGARCH(1,1) had expected of it."""
    return lambda close, age: shocks(numbers, close) / np.sqrt(lag(egarch_variance(numbers, memory, close, age)))


@feature(lookback=lambda window, every: window + every)
def rolling_garch_vol(window: int = 1000, every: int = 1) -> Formula:
    """Volatility that GARCH(1,1) expects of the next log return, refitted on the last `window` at every `every`-th bar.

    Between two fits the coefficients are held and the variance goes on from bar to bar. Every fit begins cold, from
    its own window. Null where a return of the window is missing, and where the window never moved.
    """
    return lambda close, age: refitted_vol(log_change(close), window, every, age, GARCH_LIMITS, GARCH_STARTS)


@compiled
def egarch_filter(e: Vector, omega: float, alpha: float, gamma: float, beta: float) -> Vector:
    """Variance expected after each shock, from the long-run level; NaN at NaN, which is passed over."""
    out = np.full(e.size, np.nan)
    level = omega / (1 - beta)
    for t in range(e.size):
        if math.isnan(e[t]):
            continue
        z = e[t] * math.exp(-0.5 * level)
        level = omega + alpha * (abs(z) - MEAN_SIZE) + gamma * z + beta * level
        out[t] = math.exp(level)
    return out
