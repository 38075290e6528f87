"""Returns + ledger → how much to believe."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from scipy import stats

from lab.nouns import Vector

CONFIDENCE = 0.95
FEWEST_DAYS = 20
EULER = 0.57721566490153286


@dataclass(frozen=True)
class Evidence:
    """What the daily returns of a run are worth, given every trial that was made on the same market.

    Sharpe ratios are per year, with the interval's bounds at 95 %; null where there are too few days or nothing
    moved. psr: chance that the true Sharpe ratio is above 0. dsr: above the best that luck would give among
    `trials` trials. `claim` is whether an edge is claimed at all.
    """

    claim: bool
    verdict: str
    reasons: list[str]
    days: int
    trials: int
    sharpe: float | None
    sharpe_interval: tuple[float, float] | None
    psr: float | None
    dsr: float | None
    expected_best_sharpe: float | None
    total_return: float
    annual_return: float | None
    annual_volatility: float | None

    def facts(self) -> dict[str, Any]:
        return asdict(self)


def judge(returns: Vector, trial_sharpes: Sequence[float | None], days_per_year: float) -> Evidence:
    """Weigh `returns` (one a day, net of costs) against the trials made so far, this one included.

    trial_sharpes: per day, one a trial in the ledger; null for a trial that came to nothing, which counts as well.
    An edge is claimed only if the deflated Sharpe ratio reaches 95 % and the bootstrap interval lies above 0.
    """
    daily = sharpe_ratio(returns)
    trials = max(len(trial_sharpes), 1)
    interval = sharpe_interval(returns) if daily is not None else None
    year = math.sqrt(days_per_year)
    psr = dsr = luck = None
    if daily is not None:
        skew, kurtosis = float(stats.skew(returns)), float(stats.kurtosis(returns, fisher=False))
        luck = expected_best_sharpe(trials, spread_of_trials(trial_sharpes, len(returns)))
        psr = probabilistic_sharpe(daily, 0.0, len(returns), skew, kurtosis)
        dsr = probabilistic_sharpe(daily, luck, len(returns), skew, kurtosis)
    reasons = doubts(len(returns), daily, interval, dsr, trials)
    grown = float(np.prod(1 + returns))
    return Evidence(
        claim=not reasons,
        verdict="No edge is shown."
        if reasons
        else f"An edge is claimed: luck alone rarely does this in {_count(trials)}.",
        reasons=reasons,
        days=len(returns),
        trials=trials,
        sharpe=None if daily is None else daily * year,
        sharpe_interval=None if interval is None else (interval[0] * year, interval[1] * year),
        psr=psr,
        dsr=dsr,
        expected_best_sharpe=None if luck is None else luck * year,
        total_return=grown - 1,
        annual_return=grown ** (days_per_year / len(returns)) - 1 if len(returns) and grown > 0 else None,
        annual_volatility=float(np.std(returns, ddof=1)) * year if len(returns) > 1 else None,
    )


def doubts(
    days: int, daily: float | None, interval: tuple[float, float] | None, dsr: float | None, trials: int
) -> list[str]:
    """Every reason not to claim an edge; empty where there is none."""
    if daily is None or interval is None or dsr is None:
        return [f"In {days} days there is no return that could be judged: it never varied, or never came."]
    found = []
    if days < FEWEST_DAYS:
        found.append(f"{days} days are too few to judge by; {FEWEST_DAYS} are the least.")
    if not dsr >= CONFIDENCE:  # in words that a NaN cannot pass
        found.append(f"The deflated Sharpe ratio is {dsr:.1%} after {_count(trials)}; a claim needs {CONFIDENCE:.0%}.")
    if not interval[0] > 0:
        found.append("The bootstrap interval of the Sharpe ratio includes zero.")
    return found


def sharpe_ratio(returns: Vector) -> float | None:
    """Mean over deviation (ddof 1), per period; null for under two returns or none that varies."""
    if len(returns) < 2:
        return None
    deviation = float(np.std(returns, ddof=1))
    mean = float(np.mean(returns))
    # Equal returns leave a deviation of rounding noise.
    return mean / deviation if deviation > 1e-12 * abs(mean) else None


def probabilistic_sharpe(sharpe: float, benchmark: float, periods: int, skew: float, kurtosis: float) -> float:
    """P(true Sharpe > `benchmark`); both per period, `kurtosis` raw (3 for a normal).

    Bailey & López de Prado (2012).
    """
    variance = 1 - skew * sharpe + (kurtosis - 1) / 4 * sharpe**2
    return float(stats.norm.cdf((sharpe - benchmark) * math.sqrt(periods - 1) / math.sqrt(max(variance, 1e-12))))


def expected_best_sharpe(trials: int, variance: float) -> float:
    """The best Sharpe ratio that luck is expected to give among `trials` of that variance, per period.

    Bailey & López de Prado (2014); 0 for a single trial, which was not chosen among any.
    """
    if trials < 2:
        return 0.0
    quantile = stats.norm.ppf
    spread = (1 - EULER) * quantile(1 - 1 / trials) + EULER * quantile(1 - 1 / (trials * math.e))
    return float(math.sqrt(variance) * spread)


def spread_of_trials(trial_sharpes: Sequence[float | None], periods: int) -> float:
    """Variance of the trials' Sharpe ratios, and at least what estimating one from `periods` returns brings.

    The floor keeps many copies of one idea, which hardly differ, from looking like a search without luck.
    """
    known = [sharpe for sharpe in trial_sharpes if sharpe is not None]
    floor = 1 / max(periods - 1, 1)
    return max(float(np.var(known, ddof=1)), floor) if len(known) > 1 else floor


def sharpe_interval(returns: Vector, resamples: int = 1_000) -> tuple[float, float] | None:
    """95 % percentile interval of the per-period Sharpe ratio under the stationary bootstrap.

    Politis & Romano (1994), mean block by Politis & White (2004); null under 10 returns. Same returns, same bounds.
    """
    if len(returns) < 10:
        return None
    from arch.bootstrap import StationaryBootstrap, optimal_block_length  # 1.5 s to import

    with np.errstate(divide="ignore", invalid="ignore"):  # nearly equal returns have no best block
        block = float(optimal_block_length(returns)["stationary"].iloc[0])
    bootstrap = StationaryBootstrap(max(block, 1.0) if math.isfinite(block) else 1.0, returns, seed=0)
    drawn = np.array([sharpe_ratio(sample[0][0]) or 0.0 for sample in bootstrap.bootstrap(resamples)])
    low, high = np.quantile(drawn, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return float(low), float(high)


def max_drawdown(equity: Vector) -> float:
    """The deepest fall of equity from its high so far (1 at the start), as a share of it: 0 or below."""
    highs = np.maximum(np.maximum.accumulate(equity), 1.0)
    return float(np.min(equity / highs - 1, initial=0.0))


def _count(trials: int) -> str:
    return "1 trial" if trials == 1 else f"{trials} trials"
