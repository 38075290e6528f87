"""Which kind of market it is: hidden Markov models fitted on training bars, breaks, clusters, trend or range.

Hidden states are filtered forward only: smoothed probabilities know the future; these do not. Hamilton (1989).
"""

import math

import numpy as np

from lab.compiled import compiled
from lab.errors import NotEnoughHistory, UsageError
from lab.features.averages import efficiency as straightness
from lab.features.catalogue import feature, fitted_feature
from lab.features.extremes import rolling_quantile, since_highest
from lab.features.garch import returns_of
from lab.features.price import log_change
from lab.features.trend import average_directional_index
from lab.features.windows import (
    lag,
    restarted,
    rolling_deviation,
    rolling_mean,
    wilder_memory,
)
from lab.nouns import Ages, Bars, Formula, Matrix, Numbers, Vector

State = tuple[float, float, float]
FEWEST_RETURNS = 250
MOST_RETURNS = 10_000
STATES = 3
# A regime that never ends, or never begins, would make the filter blind to what it sees.
LEAST_SWITCHING = 0.001


def scaled_returns(bars: Bars) -> tuple[Vector, float]:
    """The last log returns in units of their own deviation, and that; too few or none that move are an error."""
    returns = returns_of(bars)[-MOST_RETURNS:]
    scale = float(np.std(returns)) if returns.size else 0.0
    if returns.size < FEWEST_RETURNS or scale == 0.0:
        raise NotEnoughHistory(
            f"regimes need {FEWEST_RETURNS} returns that move; {bars.symbols[0]} has {returns.size} to train on",
            fix="lengthen `train`, or leave the regime features out",
        )
    return returns / scale, scale


def fit_regimes(bars: Bars) -> Numbers:
    """Expectation-maximisation by hmmlearn from a fixed start, on at most the last 10,000 log returns.

    Returns, per state, mean and deviation of returns divided by `scale` and the chance to leave it on the next
    bar; `calm` is the state with the smaller deviation. Under 250 returns, or a market that never moved, is
    NotEnoughHistory.
    """
    returns, scale = scaled_returns(bars)
    means, deviations, leaving = estimate(returns)
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
    begun = np.array([[0.98, 0.02], [0.05, 0.95]])
    means, deviations, chances = expected_states(returns, begun, np.array([0.5, 2.5]))
    leaving = np.clip([chances[0, 1], chances[1, 0]], LEAST_SWITCHING, 1 - LEAST_SWITCHING)
    return means.tolist(), deviations.tolist(), leaving.tolist()


def expected_states(returns: Vector, chances: Matrix, variances: Vector) -> tuple[Vector, Vector, Matrix]:
    """Means, deviations and chances to go from one state to another, by expectation-maximisation from these."""
    from hmmlearn.hmm import GaussianHMM  # 2.7 s to import

    states = variances.size
    model = GaussianHMM(states, covariance_type="diag", n_iter=50, tol=1e-2, init_params="", params="stmc")
    model.startprob_ = np.full(states, 1 / states)
    model.transmat_ = chances
    model.means_ = np.zeros((states, 1))
    model.covars_ = variances.reshape(-1, 1)
    model.fit(returns.reshape(-1, 1))
    return model.means_.ravel(), np.sqrt(model.covars_.ravel()), model.transmat_


def states_of(numbers: Numbers) -> tuple[State, State]:
    """Mean, deviation and chance to leave, of the calm and of the volatile regime."""
    calm = (numbers["calm_mean"], numbers["calm_sd"], numbers["leave_calm"])
    return calm, (numbers["volatile_mean"], numbers["volatile_sd"], numbers["leave_volatile"])


def volatile_probability(numbers: Numbers, memory: int, close: Vector, age: Ages) -> Vector:
    """P(volatile | returns so far)."""
    calm, volatile = states_of(numbers)
    returns = log_change(close) / numbers["scale"]
    return restarted(lambda x: filtered(x, calm, volatile), memory, age, returns)


def fit_three_regimes(bars: Bars) -> Numbers:
    """As `fit_regimes`, with three states, from the smallest deviation to the largest.

    Returns mean_i, sd_i and chance_i_j to go from state i to state j on the next bar, i and j from 1 to 3.
    """
    returns, scale = scaled_returns(bars)
    chances = np.full((STATES, STATES), 0.02) + 0.94 * np.eye(STATES)
    means, deviations, chances = expected_states(returns, chances, np.array([0.3, 1.0, 4.0]))
    chances = np.maximum(chances, LEAST_SWITCHING)
    chances /= chances.sum(axis=1, keepdims=True)
    order = np.argsort(deviations)
    numbers = {"scale": scale}
    for i, state in enumerate(order, 1):
        numbers |= {f"mean_{i}": float(means[state]), f"sd_{i}": float(deviations[state])}
        numbers |= {f"chance_{i}_{j}": float(chances[state, other]) for j, other in enumerate(order, 1)}
    return numbers


def chain_of(numbers: Numbers) -> tuple[Vector, Vector, Matrix, Vector]:
    """Means, deviations, chances to go from one state to another, and the long-run shares that these imply."""
    each = range(1, STATES + 1)
    means, deviations = (np.array([numbers[f"{name}_{i}"] for i in each]) for name in ("mean", "sd"))
    chances = np.array([[numbers[f"chance_{i}_{j}"] for j in each] for i in each])
    # Shares that the next bar leaves as they are, and that add up to 1.
    balance = np.vstack([(chances.T - np.eye(STATES))[:-1], np.ones(STATES)])
    shares: Vector = np.linalg.solve(balance, np.eye(STATES)[-1])
    return means, deviations, chances, shares


@compiled
def filtered_states(returns: Vector, means: Vector, deviations: Vector, chances: Matrix, shares: Vector) -> Matrix:
    """P(state | returns so far) after each return, a column for every state; NaN at NaN, which says nothing.

    Before the first return the states have their long-run shares.
    """
    out = np.full((returns.size, means.size), np.nan)
    expected, densities = shares.copy(), np.empty(means.size)
    for t in range(returns.size):
        if math.isnan(returns[t]):
            continue
        for i in range(means.size):
            z = (returns[t] - means[i]) / deviations[i]
            densities[i] = math.log(expected[i] / deviations[i]) - 0.5 * z * z
        densities = np.exp(densities - np.max(densities))
        out[t] = densities / np.sum(densities)
        expected[:] = 0.0
        for i in range(means.size):
            expected += out[t, i] * chances[i]
    return out


@fitted_feature(fit=fit_regimes, lookback=lambda memory: 2 * memory + 1, needs=["close"])
def volatile_regime(numbers: Numbers, memory: int = 250) -> Formula:
    """Filtered probability that the market is in the volatile one of two regimes fitted on training bars.

    The filter begins from the long-run share of that regime between `memory` and 2 `memory` returns ago.
    """
    return lambda close, age: volatile_probability(numbers, memory, close, age)


@fitted_feature(fit=fit_regimes, lookback=lambda memory: 2 * memory + 1, needs=["close"])
def volatile_next(numbers: Numbers, memory: int = 250) -> Formula:
    """Probability that the next bar belongs to the volatile regime: `volatile_regime`, carried one bar ahead."""
    stays, comes = 1 - numbers["leave_volatile"], numbers["leave_calm"]

    def probability(close: Vector, age: Ages) -> Vector:
        now = volatile_probability(numbers, memory, close, age)
        return now * stays + (1 - now) * comes

    return probability


@fitted_feature(fit=fit_regimes, lookback=lambda memory: 2 * memory + 1, needs=["close"])
def regime_age(numbers: Numbers, memory: int = 250) -> Formula:
    """Bars in a row, this one included, that the likelier of the two regimes has been the same; at most `memory`."""
    calm, volatile = states_of(numbers)

    def age_of(close: Vector, age: Ages) -> Vector:
        returns = log_change(close) / numbers["scale"]
        return restarted(
            lambda x: run_length(np.where(filtered(x, calm, volatile) > 0.5, 1.0, 0.0), memory), memory, age, returns
        )

    return age_of


@fitted_feature(fit=fit_regimes, lookback=lambda memory, window: 2 * memory + window, needs=["close"])
def regime_persistence(numbers: Numbers, window: int = 60, memory: int = 250) -> Formula:
    """Share of the last `window` bars whose likelier regime is the one of this bar, in (0, 1]."""

    def share(close: Vector, age: Ages) -> Vector:
        probability = volatile_probability(numbers, memory, close, age)
        volatile = np.where(np.isnan(probability), np.nan, probability > 0.5)
        often = rolling_mean(volatile, window, age)
        return np.where(volatile == 1, often, 1 - often)

    return share


@fitted_feature(fit=fit_three_regimes, lookback=lambda memory: 2 * memory + 1, needs=["close"])
def regime_probability(numbers: Numbers, state: int = 3, memory: int = 250) -> Formula:
    """Filtered probability of one of three regimes fitted on training bars: 1 the calmest, 3 the most volatile.

    The filter begins from the long-run shares between `memory` and 2 `memory` returns ago.
    """
    if state > STATES:
        raise UsageError(f"regime_probability({state}): there are {STATES} regimes", fix=f"give state 1 to {STATES}")
    means, deviations, chances, shares = chain_of(numbers)

    def probability(close: Vector, age: Ages) -> Vector:
        returns = log_change(close) / numbers["scale"]
        return restarted(
            lambda x: filtered_states(x, means, deviations, chances, shares)[:, state - 1], memory, age, returns
        )

    return probability


@feature(lookback=lambda window: 2 * wilder_memory(window), least=2)
def market_regime(window: int = 14, trending: float = 25.0, ranging: float = 20.0, efficiency: float = 0.3) -> Formula:
    """1 in a trend (ADX and efficiency at least `trending`, `efficiency`), -1 in a range (both under theirs), else 0.

    A range is an ADX under `ranging`. 0 is a market that moves, but neither in one direction nor between two prices.
    ADX of Wilder (1978), efficiency of Kaufman (1995), both over `window`; null where nothing moved.
    """

    def regime(high: Vector, low: Vector, close: Vector, age: Ages) -> Vector:
        directed = average_directional_index(high, low, close, window, age)
        straight = straightness(close, window, age)
        trend = (directed >= trending) & (straight >= efficiency)
        range_bound = (directed < ranging) & (straight < efficiency)
        return np.where(np.isnan(directed + straight), np.nan, trend * 1.0 - range_bound)

    return regime


@feature(lookback=lambda window, memory: 2 * memory + window + 1, least=2)
def cusum_break(threshold: float = 5.0, window: int = 100, memory: int = 250) -> Formula:
    """1 (-1) on a bar where the sum of moves since the last break, never below (above) 0, passes the threshold; else 0.

    The symmetric CUSUM filter of López de Prado (2018), of log returns over the deviation of the `window` before.
    Sums begin at 0 between `memory` and 2 `memory` bars ago. Null where the window before did not move.
    """
    return lambda close, age: restarted(
        lambda moves: cusum(moves, threshold)[0], memory, age, surprise(close, window, age)
    )


@feature(lookback=lambda window, memory: 2 * memory + window + 1, least=2)
def cusum_age(threshold: float = 5.0, window: int = 100, memory: int = 250) -> Formula:
    """Bars since the last `cusum_break`, 0 on it; `memory` where there was none for so long."""
    return lambda close, age: restarted(
        lambda moves: np.minimum(cusum(moves, threshold)[1], memory), memory, age, surprise(close, window, age)
    )


@feature(lookback=lambda window, long: window + long, least=2)
def large_move_share(window: int = 20, long: int = 250) -> Formula:
    """Share of the last `window` bars that moved more than the median bar of `long` up to each: volatility clusters.

    About a half in a market whose volatility does not cluster.
    """

    def share(close: Vector, age: Ages) -> Vector:
        moved = np.abs(log_change(close))
        usual = rolling_quantile(moved, long, 0.5)
        return rolling_mean(np.where(np.isnan(usual), np.nan, moved > usual), window, age)

    return share


@feature(lookback=lambda window, long: window + long, least=2)
def burst_age(window: int = 100, long: int = 250, share: float = 0.95) -> Formula:
    """Bars since a log return was larger than that `share` of the `long` bars up to it; `window` where none was.

    0 on such a bar.
    """

    def since(close: Vector, age: Ages) -> Vector:
        moved = np.abs(log_change(close))
        usual = rolling_quantile(moved, long, share)
        burst = np.where(np.isnan(usual), np.nan, moved > usual)
        # Of equal values the latest counts: the last burst, or, without any, this bar itself.
        bars = since_highest(burst, window, age, False)
        return np.where((bars == 0) & (burst == 0), float(window), bars)

    return since


def surprise(close: Vector, window: int, age: Ages) -> Vector:
    """Each log return over the deviation of the `window` before it."""
    returns = log_change(close)
    return returns / lag(rolling_deviation(returns, window, age))


@compiled
def cusum(moves: Vector, threshold: float) -> tuple[Vector, Vector]:
    """Breaks (1, -1, else 0) of a symmetric CUSUM that begins at 0, and bars since the last, infinite before any.

    NaN where there is no finite move, which leaves the sums as they are.
    """
    breaks, since = np.full(moves.size, np.nan), np.full(moves.size, np.nan)
    up = down = 0.0
    bars = np.inf
    for t in range(moves.size):
        bars += 1
        if not math.isfinite(moves[t]):
            continue
        up, down = max(up + moves[t], 0.0), min(down + moves[t], 0.0)
        breaks[t] = 1.0 if up > threshold else -1.0 if down < -threshold else 0.0
        if breaks[t] != 0:
            up = down = bars = 0.0
        since[t] = bars
    return breaks, since


@compiled
def run_length(state: Vector, most: int) -> Vector:
    """How many rows in a row, this one included, have had the same state; at most `most`."""
    out = np.empty(state.size)
    run = 0
    for t in range(state.size):
        run = run + 1 if t and state[t] == state[t - 1] else 1
        out[t] = min(run, most)
    return out


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
        # Of state 0 against state 1; infinite or 0 where one of them could not have made the return.
        likelihood_ratio = sd_1 / sd_0 * math.exp(0.5 * (z_1 * z_1 - z_0 * z_0))
        probability = expected / (expected + (1 - expected) * likelihood_ratio)
        expected = probability * (1 - leave_1) + (1 - probability) * leave_0
        out[t] = probability
    return out
