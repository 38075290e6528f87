"""Fitted features beside the libraries that researchers fit with: `python -m benchmarks.feature_models garch|hmm …`.

`garch RETURNS WINDOW EVERY`: a GARCH(1,1) fitted anew at every return, beside arch at each `EVERY`-th of them.
`hmm ROWS ROUNDS`: the probability of a regime at every bar, beside hmmlearn.
"""

import sys
import warnings
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import polars as pl

from benchmarks.clock import tell
from benchmarks.feature_indicators import seconds_of
from benchmarks.feature_market import RECORDED, minutes
from lab.features import compute, resolve
from lab.features.garch_fit import refits
from lab.features.regime import filtered, fit_regimes, states_of
from lab.nouns import FittedFeature, Matrix, Numbers, Vector

FEW_ROWS = 20_000
COEFFICIENTS = ("mu", "omega", "alpha[1]", "beta[1]")


def daily_returns(most: int) -> tuple[str, Vector]:
    """The last daily returns of the S&P 500, in percent, from the best source at hand."""
    file = RECORDED / "reference" / "sp500ret.parquet"
    if file.is_file():
        found: Vector = pl.read_parquet(file)["SP500RET"].to_numpy()
        return "S&P 500 1987–2009, rugarch's sp500ret", 100 * found[-most:]
    from arch.data import sp500

    closes = sp500.load()["Adj Close"].to_numpy(dtype=np.float64)
    return "S&P 500 1999–2018, arch's sp500", 100 * np.diff(np.log(closes))[-most:]


def fitted_by_arch(returns: Vector) -> tuple[Vector, float]:
    """mu, omega, alpha, beta and the log likelihood of arch's constant-mean GARCH(1,1) with normal errors."""
    from arch import arch_model

    found = arch_model(returns, mean="Constant", vol="GARCH", p=1, q=1, rescale=False).fit(disp="off")
    coefficients: Vector = found.params[list(COEFFICIENTS)].to_numpy()
    return coefficients, float(found.loglikelihood)


def garch(most: int, window: int, every: int) -> dict[str, Any]:
    """Seconds of both, and how far apart they are on the windows that both fitted."""
    source, returns = daily_returns(most)
    refits(returns[: window + 1], window)
    fitted_by_arch(returns[:window])
    took: dict[str, float] = {}
    coefficients, likelihoods = timed(took, "lab", lambda: refits(returns, window))
    ends = range(window, returns.size + 1, every)
    known = timed(took, "arch", lambda: [fitted_by_arch(returns[end - window : end]) for end in ends])
    mine = coefficients[::every][:, [0, 1, 2, 4]]
    gain = likelihoods[::every] - np.array([likelihood for _, likelihood in known])
    apart = np.abs(mine - np.array([found for found, _ in known])).max(axis=1)
    same_top = np.abs(gain) <= 1e-6
    return {
        "source": source,
        "returns": returns.size,
        "window": window,
        "seconds": took,
        "fits": {"lab": len(likelihoods), "arch": len(known)},
        "same_top": int(same_top.sum()),
        "lab_higher": int((gain > 1e-6).sum()),
        "arch_higher": int((gain < -1e-6).sum()),
        "most_gained": float(gain.max()),
        "most_lost": float(-gain.min()),
        "coefficients_apart": float(np.max(apart, where=same_top, initial=0.0)),
        "coefficients_apart_anywhere": float(apart.max()),
    }


def timed(took: dict[str, float], way: str, work: Callable[[], Any]) -> Any:
    kept = []
    took[way] = seconds_of(lambda: kept.append(work()))
    return kept[0]


def forward(returns: Vector, start: Vector, chances: Matrix, means: Vector, deviations: Vector) -> Vector:
    """P(state 1 | returns so far), slowly: Bayes' rule, a row at a time."""
    out = np.empty(returns.size)
    expected = start
    for t, value in enumerate(returns):
        joint = expected * np.exp(-0.5 * ((value - means) / deviations) ** 2) / deviations
        now = joint / joint.sum()
        out[t] = now[1]
        expected = now @ chances
    return out


def chain(numbers: Numbers) -> tuple[Vector, Matrix, Vector, Vector]:
    """Long-run shares, chances to go from state to state, means and deviations, as arrays."""
    calm, wild = states_of(numbers)
    chances = np.array([[1 - calm[2], calm[2]], [wild[2], 1 - wild[2]]])
    start = np.array([wild[2], calm[2]]) / (calm[2] + wild[2])
    return start, chances, np.array([calm[0], wild[0]]), np.array([calm[1], wild[1]])


def hmmlearn_model(numbers: Numbers) -> Any:
    from hmmlearn.hmm import GaussianHMM

    model = GaussianHMM(2, covariance_type="diag", init_params="")
    start, chances, means, deviations = chain(numbers)
    model.startprob_, model.transmat_, model.means_ = start, chances, means.reshape(-1, 1)
    model.covars_ = (deviations**2).reshape(-1, 1)
    return model


def hmm(rows: int, rounds: int) -> dict[str, Any]:
    """Seconds of the bare filter, of the feature from bars to column, of hmmlearn; and how far each is from Bayes."""
    bars = minutes(rows)
    numbers = fit_regimes(bars)
    close = bars.frame["close"].to_numpy()
    returns = np.diff(np.log(close)) / numbers["scale"]
    model, states = hmmlearn_model(numbers), states_of(numbers)
    found = resolve("volatile_regime")
    assert isinstance(found, FittedFeature)
    feature = found.freeze(numbers)
    ways = {
        "lab, filter": lambda x, some: filtered(x, *states),
        "lab, bars to column": lambda x, some: compute(some, [feature]),
        "hmmlearn, predict_proba": lambda x, some: model.predict_proba(x.reshape(-1, 1)),
    }
    few = minutes(1_000)
    seconds: dict[str, list[float]] = {way: [] for way in ways}
    for round_ in range(rounds + 1):  # the first warms up, on few
        for way, work in ways.items():
            given = (returns[:1_000], few) if round_ == 0 else (returns, bars)
            taken = seconds_of(partial(work, *given))
            seconds[way] += [taken] if round_ else []
    slowly = forward(returns[:FEW_ROWS], *chain(numbers))
    column = compute(bars, [feature])[feature.name].fill_null(np.nan).to_numpy()[1 : FEW_ROWS + 1]
    smoothed = model.predict_proba(returns[:FEW_ROWS].reshape(-1, 1))
    last = [model.predict_proba(returns[:end].reshape(-1, 1))[-1, 1] for end in range(1, FEW_ROWS, 97)]
    return {
        "rows": rows,
        "seconds": seconds,
        "filter_apart": float(np.abs(filtered(returns[:FEW_ROWS], *states) - slowly).max()),
        "feature_apart": float(np.nanmax(np.abs(column - slowly))),
        "smoothed_apart": float(np.abs(smoothed[:, 1] - slowly).max()),
        "last_apart": float(np.abs(np.array(last) - slowly[: FEW_ROWS - 1 : 97]).max()),
    }


if __name__ == "__main__":
    warnings.simplefilter("ignore")  # arch's, of windows in which it did not converge
    tell((garch if sys.argv[1] == "garch" else hmm)(*map(int, sys.argv[2:])))
