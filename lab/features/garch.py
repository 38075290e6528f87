"""GARCH(1,1): coefficients from training bars, variance filtered with them held still. Bollerslev (1986)."""

import numpy as np

from lab.errors import NotEnoughHistory
from lab.features.catalogue import fitted_feature
from lab.features.price import log_change
from lab.features.windows import exponential_sum, lag, memory
from lab.nouns import Bars, Formula, Numbers, Vector

FEWEST_RETURNS = 250
# A variance that never forgets has no look-back: at 0.99 a shock fades to 1e-12 in 2,750 bars.
LARGEST_BETA = 0.99
SMALLEST_BETA = 0.001


def returns_of(bars: Bars) -> Vector:
    """Log returns of one symbol's bars, oldest first; none of them reaches across a gap."""
    closes = bars.frame["close"].to_numpy()
    changes = [log_change(closes[start : start + rows])[1:] for start, rows in bars.stretches()]
    return np.concatenate([np.empty(0), *changes])


def fit_garch(bars: Bars) -> Numbers:
    """Gaussian maximum likelihood on the log returns of `bars`, by `arch`.

    Returns mu, omega, alpha, beta of returns divided by `scale`, their own deviation, which keeps the optimiser
    on firm ground. A market that never moved raises NotEnoughHistory, as does one with under 250 returns.
    """
    returns = returns_of(bars)
    scale = float(np.std(returns)) if returns.size else 0.0
    if returns.size < FEWEST_RETURNS or scale == 0.0:
        raise NotEnoughHistory(
            f"GARCH needs {FEWEST_RETURNS} returns that move; {bars.symbols[0]} has {returns.size} to train on",
            fix="lengthen `train`, or leave the garch features out",
        )
    mu, omega, alpha, beta = estimate(returns / scale)
    if beta > LARGEST_BETA:
        # Keep the long-run level that the estimate implies.
        omega, beta = omega * (1 - LARGEST_BETA) / (1 - beta) if beta < 1 else omega, LARGEST_BETA
    return {"mu": mu, "omega": omega, "alpha": alpha, "beta": max(beta, SMALLEST_BETA), "scale": scale}


def estimate(returns: Vector) -> tuple[float, float, float, float]:
    """mu, omega, alpha, beta of a constant-mean GARCH(1,1) with normal errors."""
    from arch import arch_model  # 1.5 s to import, and it brings pandas

    fitted = arch_model(returns, mean="Constant", vol="GARCH", p=1, q=1, rescale=False).fit(
        disp="off", show_warning=False
    )
    mu, omega, alpha, beta = (float(value) for value in fitted.params)
    return mu, omega, alpha, beta


def garch_memory(numbers: Numbers) -> int:
    """Bars until the oldest shock weighs under 1e-12, and one for the first return."""
    return memory(numbers["beta"]) + 1


def next_variance(numbers: Numbers, close: Vector, age: int) -> Vector:
    """Variance of the next scaled return: omega / (1 - beta) + alpha Σ beta^k e²[-k], known at this close."""
    shock = (log_change(close) / numbers["scale"] - numbers["mu"]) ** 2
    beta = numbers["beta"]
    return numbers["omega"] / (1 - beta) + numbers["alpha"] * exponential_sum(shock, beta, memory(beta), age)


@fitted_feature(fit=fit_garch, lookback=garch_memory, needs=["close"])
def garch_vol(numbers: Numbers) -> Formula:
    """Volatility that GARCH(1,1), fitted on training bars, expects of the next bar's log return."""
    return lambda close, age: numbers["scale"] * np.sqrt(next_variance(numbers, close, age))


@fitted_feature(fit=fit_garch, lookback=lambda numbers: garch_memory(numbers) + 1, needs=["close"])
def garch_shock(numbers: Numbers) -> Formula:
    """Latest log return less its mean, in units of the volatility that GARCH(1,1) had expected of it."""

    def shock(close: Vector, age: int) -> Vector:
        surprise = log_change(close) / numbers["scale"] - numbers["mu"]
        return surprise / np.sqrt(lag(next_variance(numbers, close, age)))

    return shock
