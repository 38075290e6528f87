"""Evidence: the published numbers, and how often luck is called skill."""

import math
from collections.abc import Callable

import numpy as np
import pytest

from lab import evidence
from lab.evidence import expected_best_sharpe, judge, probabilistic_sharpe, sharpe_interval, sharpe_ratio

YEAR = 252.0
FALSE_CLAIMS_ACCEPTED = 67  # of 1,000 at a nominal 5 %: what chance exceeds once in a hundred times


def test_the_probabilistic_sharpe_ratio_of_the_2012_paper() -> None:
    # Bailey & López de Prado (2012): 24 months, Sharpe ratio .458, skewness -2.448, kurtosis 10.164.
    assert probabilistic_sharpe(0.458, 0.0, 24, -2.448, 10.164) == pytest.approx(0.9134, abs=5e-5)
    assert probabilistic_sharpe(0.458, 0.0, 24, 0.0, 3.0) == pytest.approx(0.9817, abs=5e-5)


def test_the_deflated_sharpe_ratio_of_the_2014_paper() -> None:
    # Bailey & López de Prado (2014): annual 2.5 over 1,250 days of 250 a year, variance of the trials 1/2 a year.
    def deflated(trials: int, skew: float = -3.0, kurtosis: float = 10.0) -> float:
        best = expected_best_sharpe(trials, 0.5 / 250)
        return probabilistic_sharpe(2.5 / math.sqrt(250), best, 1250, skew, kurtosis)

    assert expected_best_sharpe(100, 0.5 / 250) == pytest.approx(0.1132, abs=5e-5)
    assert deflated(100) == pytest.approx(0.9004, abs=5e-5)
    assert deflated(46) == pytest.approx(0.9505, abs=5e-5)
    assert deflated(88, skew=0.0, kurtosis=3.0) == pytest.approx(0.9505, abs=5e-5)


@pytest.mark.parametrize(("trials", "best"), [(10, 1.57460), (100, 2.53060), (1000, 3.25512)])
def test_the_best_that_luck_gives_among_standard_normal_trials(trials: int, best: float) -> None:
    assert expected_best_sharpe(trials, 1.0) == pytest.approx(best, abs=5e-6)
    drawn = np.random.default_rng(0).standard_normal((4_000, trials)).max(axis=1)
    assert drawn.mean() == pytest.approx(best, abs=0.05)  # the formula is an approximation for many trials


def test_a_single_trial_was_chosen_among_none() -> None:
    assert [expected_best_sharpe(trials, 1.0) for trials in (0, 1)] == [0.0, 0.0]


def iid(rng: np.random.Generator, days: int) -> np.ndarray:
    return rng.standard_t(5, days)


def persistent(rng: np.random.Generator, days: int) -> np.ndarray:
    """AR(1) with coefficient 0.3 and variance 1."""
    noise = rng.standard_normal(days + 50) * math.sqrt(1 - 0.3**2)
    path = np.zeros(days + 50)
    for day in range(1, days + 50):
        path[day] = 0.3 * path[day - 1] + noise[day]
    return path[50:]


@pytest.mark.parametrize(("process", "deviation"), [(iid, math.sqrt(5 / 3)), (persistent, 1.0)])
def test_the_bootstrap_interval_covers_the_true_sharpe_ratio(
    process: Callable[[np.random.Generator, int], np.ndarray], deviation: float
) -> None:
    # 200 histories of 500 days; a nominal 95 % of 200 varies by 1.5 points (one standard error). Resampling is known
    # to cover a little less; 88 % is what a wrong interval, e.g. one at 90 % or without blocks, would not hold.
    true, covered, below = 0.1, 0, 0
    for seed in range(200):
        returns = process(np.random.default_rng([seed, 1]), 500) + true * deviation
        low, high = sharpe_interval(returns, resamples=150) or (math.nan, math.nan)
        covered += low <= true <= high
        below += high < true
    assert 0.88 <= covered / 200 <= 0.99
    assert 0 < below < 200 - covered  # it errs on both sides


def test_an_interval_without_blocks_would_not_cover_a_persistent_return() -> None:
    covered = 0
    for seed in range(200):
        rng = np.random.default_rng([seed, 1])
        returns = persistent(rng, 500) + 0.1
        drawn = [sharpe_ratio(returns[rng.integers(0, 500, 500)]) or 0.0 for _ in range(150)]
        low, high = np.quantile(drawn, [0.025, 0.975])
        covered += low <= 0.1 <= high
    assert covered / 200 < 0.88


def best_of_noise(strategies: int, market: int, days: int = 250) -> tuple[np.ndarray, list[float | None]]:
    """The returns of the best of so many strategies without an edge, and the Sharpe ratio of every one."""
    returns = np.random.default_rng([market, strategies]).standard_t(5, (strategies, days)) * 0.01
    sharpes = returns.mean(axis=1) / returns.std(axis=1, ddof=1)
    return returns[np.argmax(sharpes)], [*map(float, sharpes)]


def test_the_best_of_many_strategies_without_an_edge_is_rarely_called_skill(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evidence, "sharpe_interval", lambda returns: (0.01, 1.0))  # the deflation alone must hold
    honest = forgetful = 0
    for market in range(1_000):
        best, sharpes = best_of_noise(50, market)
        honest += judge(best, sharpes, YEAR).claim
        forgetful += judge(best, sharpes[:1], YEAR).claim
    assert honest <= FALSE_CLAIMS_ACCEPTED
    assert forgetful > 500  # who forgets the trials finds skill in most markets: the test can fail


def test_many_copies_of_one_idea_do_not_look_like_a_search_without_luck(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evidence, "sharpe_interval", lambda returns: (0.01, 1.0))
    returns = np.random.default_rng(0).normal(0.0012, 0.01, 250)
    own = sharpe_ratio(returns)
    alone, among_copies = judge(returns, [own], YEAR), judge(returns, [own] * 100, YEAR)
    assert alone.claim
    assert not among_copies.claim
    assert among_copies.expected_best_sharpe == pytest.approx(2.53060 / math.sqrt(249) * math.sqrt(YEAR), rel=1e-5)


def test_a_trial_that_came_to_nothing_counts_as_one_more() -> None:
    returns = np.random.default_rng(0).normal(0.0012, 0.01, 250)
    own = sharpe_ratio(returns)
    before, after = judge(returns, [own, 0.01], YEAR), judge(returns, [own, 0.01, None], YEAR)
    assert (before.trials, after.trials) == (2, 3)
    assert after.dsr is not None
    assert before.dsr is not None
    assert after.dsr < before.dsr


def test_an_edge_is_claimed_where_there_is_one() -> None:
    found = judge(np.random.default_rng(1).normal(0.003, 0.01, 250), [0.3, 0.25, 0.28], YEAR)
    assert found.claim
    assert found.reasons == []
    assert found.verdict == "An edge is claimed: luck alone rarely does this in 3 trials."
    assert found.sharpe_interval is not None
    assert found.sharpe_interval[0] > 0
    assert found.dsr is not None
    assert found.dsr >= 0.95


def test_nineteen_days_are_too_few_however_good() -> None:
    returns = np.random.default_rng(0).normal(0.03, 0.01, 19)
    assert judge(returns, [None], YEAR).reasons == ["19 days are too few to judge by; 20 are the least."]
    assert judge(np.append(returns, 0.03), [None], YEAR).claim


NOTHING_TO_JUDGE = "In {} days there is no return that could be judged: it never varied, or never came."


@pytest.mark.parametrize("returns", [[], [0.0], [0.02], [0.0] * 30, [0.01] * 30, [0.1] * 30])
def test_returns_that_never_vary_are_no_evidence(returns: list[float]) -> None:
    found = judge(np.array(returns), [None], YEAR)
    assert found.reasons == [NOTHING_TO_JUDGE.format(len(returns))]
    assert not found.claim
    assert (found.sharpe, found.sharpe_interval, found.psr, found.dsr) == (None, None, None, None)
    assert found.total_return == pytest.approx(math.prod(1 + each for each in returns) - 1)
    assert (found.days, found.trials) == (len(returns), 1)
    assert found.annual_volatility is None if len(returns) < 2 else found.annual_volatility == pytest.approx(0)


@pytest.mark.parametrize(
    "returns", [[0.01] * 9 + [0.02], [0.0] * 29 + [0.01], [0.01, -0.01] * 15, [0.0] * 28 + [0.5, -0.4]]
)
def test_returns_that_hardly_vary_are_judged_without_a_fault(returns: list[float]) -> None:
    found = judge(np.array(returns), [None], YEAR)
    assert not found.claim
    assert found.sharpe_interval is not None
    assert found.psr is not None
    assert all(map(math.isfinite, [*found.sharpe_interval, found.psr, found.annual_return or 0.0]))


def test_ruin_is_a_loss_of_everything_and_no_edge() -> None:
    found = judge(np.array([0.02] * 10 + [-1.0] + [0.0] * 19), [None], YEAR)
    assert not found.claim
    assert (found.total_return, found.annual_return) == (-1.0, None)
    assert found.sharpe is not None
    assert found.sharpe < 0


def test_a_trial_that_is_no_number_never_makes_a_claim() -> None:
    returns = np.random.default_rng(1).normal(0.003, 0.01, 250)
    assert not judge(returns, [0.3, math.nan], YEAR).claim


def test_the_deepest_fall_is_measured_from_the_high_before_it() -> None:
    assert evidence.max_drawdown(np.array([1.0, 2.0, 1.5, 3.0, 1.2, 4.0])) == pytest.approx(1.2 / 3 - 1)
    assert evidence.max_drawdown(np.array([1.0, 1.0, 2.0])) == 0.0


def test_the_same_returns_have_the_same_interval() -> None:
    returns = np.random.default_rng(3).normal(0.001, 0.01, 300)
    assert sharpe_interval(returns) == sharpe_interval(returns.copy())
    assert sharpe_interval(returns[:9]) is None
