"""Calm or volatile: a two-state Gaussian hidden Markov model, fitted on training bars, filtered forward only.

Smoothed probabilities know the future; these do not. Hamilton (1989).
"""

import math

import numpy as np

from lab.compiled import compiled
from lab.errors import NotEnoughHistory
from lab.features.catalogue import fitted_feature
from lab.features.garch import returns_of
from lab.features.price import log_change
from lab.features.windows import restarted
from lab.nouns import Bars, Formula, Numbers, Vector

State = tuple[float, float, float]
FEWEST_RETURNS = 250
MOST_RETURNS = 10_000
# A regime that never ends, or never begins, would make the filter blind to what it sees.
LEAST_SWITCHING = 0.001


def fit_regimes(bars: Bars) -> Numbers:
    """Expectation-maximisation by hmmlearn from a fixed start, on at most the last 10,000 log returns.

    Returns, per state, mean and deviation of returns divided by `scale` and the chance to leave it on the next
    bar; `calm` is the state with the smaller deviation. Under 250 returns, or a market that never moved, is
    NotEnoughHistory.
    """
    returns = returns_of(bars)[-MOST_RETURNS:]
    scale = float(np.std(returns)) if returns.size else 0.0
    if returns.size < FEWEST_RETURNS or scale == 0.0:
        raise NotEnoughHistory(
            f"regimes need {FEWEST_RETURNS} returns that move; {bars.symbols[0]} has {returns.size} to train on",
            fix="lengthen `train`, or leave the regime features out",
        )
    means, deviations, leaving = estimate(returns / scale)
    calm, wild = np.argsort(deviations, kind="stable")
    return {
        "calm_mean": means[calm],
        "calm_sd": deviations[calm],
        "leave_calm": leaving[calm],
        "volatile_mean": means[wild],
        "volatile_sd": deviations[wild],
        "leave_volatile": leaving[wild],
        "scale": scale,
    }


def estimate(returns: Vector) -> tuple[list[float], list[float], list[float]]:
    """Means, deviations and chances to leave of the two states."""
    from hmmlearn.hmm import GaussianHMM  # 2.7 s to import

    model = GaussianHMM(n_components=2, covariance_type="diag", n_iter=50, tol=1e-2, init_params="", params="stmc")
    model.startprob_ = np.array([0.5, 0.5])
    model.transmat_ = np.array([[0.98, 0.02], [0.05, 0.95]])
    model.means_ = np.zeros((2, 1))
    model.covars_ = np.array([[0.5], [2.5]])
    model.fit(returns.reshape(-1, 1))
    leaving = np.clip([model.transmat_[0, 1], model.transmat_[1, 0]], LEAST_SWITCHING, 1 - LEAST_SWITCHING)
    return model.means_.ravel().tolist(), np.sqrt(model.covars_.ravel()).tolist(), leaving.tolist()


@fitted_feature(fit=fit_regimes, lookback=lambda numbers, memory: 2 * memory + 1, needs=["close"])
def volatile_regime(numbers: Numbers, memory: int = 250) -> Formula:
    """Filtered probability that the market is in the volatile one of two regimes fitted on training bars.

    The filter begins from the long-run share of that regime between `memory` and 2 `memory` returns ago.
    """
    calm = (numbers["calm_mean"], numbers["calm_sd"], numbers["leave_calm"])
    volatile = (numbers["volatile_mean"], numbers["volatile_sd"], numbers["leave_volatile"])

    def probability(close: Vector, age: int) -> Vector:
        returns = log_change(close) / numbers["scale"]
        return restarted(lambda x: filtered(x, calm, volatile), memory, age, returns)

    return probability


@compiled
def filtered(returns: Vector, state_0: State, state_1: State) -> Vector:
    """P(state 1 | returns so far) after each return; NaN at NaN, which says nothing about the state.

    A state is its mean, its deviation, and the chance to leave it on the next return. The filter begins from the
    long-run share of state 1.
    """
    mean_0, sd_0, leave_0 = state_0
    mean_1, sd_1, leave_1 = state_1
    out = np.full(returns.size, np.nan)
    expected = leave_0 / (leave_0 + leave_1)
    for t in range(returns.size):
        if math.isnan(returns[t]):
            continue
        z_0 = (returns[t] - mean_0) / sd_0
        z_1 = (returns[t] - mean_1) / sd_1
        log_odds = math.log(expected) - math.log(1 - expected)
        log_odds += 0.5 * (z_0 * z_0 - z_1 * z_1) + math.log(sd_0) - math.log(sd_1)
        probability = 1 / (1 + math.exp(-log_odds)) if log_odds > -700 else 0.0
        expected = probability * (1 - leave_1) + (1 - probability) * leave_0
        out[t] = probability
    return out
