"""One symbol among the others at the same close: ranks, distances, and what the market as a whole does.

Every value rests on the symbols of the experiment that had a bar at that close and a value of their own; alone
it has none.
"""

import math
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from lab.compiled import compiled
from lab.features.catalogue import across_feature, plain
from lab.features.windows import lag, rolling_correlation, rolling_mean, rolling_slope
from lab.nouns import Across, Ages, Formula, Vector

Starts = npt.NDArray[np.int64]


@compiled
def ranked(own: Vector, first: Starts) -> Vector:
    """Rank among the values of each close, from -1 (lowest) to 1; equal ones share the mean of their ranks."""
    out = np.full(own.size, np.nan)
    for group in range(first.size - 1):
        rows = range(first[group], first[group + 1])
        known = 0
        for k in rows:
            known += not math.isnan(own[k])
        for t in rows:
            if math.isnan(own[t]) or known < 2:
                continue
            below = 0.0
            for k in rows:
                below += (own[k] < own[t]) + 0.5 * (own[k] == own[t])
            out[t] = 2 * (below - 0.5) / (known - 1) - 1
    return out


@compiled
def mean_of_others(own: Vector, first: Starts) -> Vector:
    """Mean of the other symbols' values at each close."""
    out = np.full(own.size, np.nan)
    for group in range(first.size - 1):
        rows = range(first[group], first[group + 1])
        for t in rows:
            total = 0.0
            known = 0
            for k in rows:
                if k != t and not math.isnan(own[k]):
                    total += own[k]
                    known += 1
            if known:
                out[t] = total / known
    return out


@compiled
def standardised(own: Vector, first: Starts) -> Vector:
    """Each value less the mean of its close, in deviations (ddof 1) of the values of that close."""
    out = np.full(own.size, np.nan)
    for group in range(first.size - 1):
        mean, deviation = _spread(own, first[group], first[group + 1])
        for t in range(first[group], first[group + 1]):
            if deviation > 0:
                out[t] = (own[t] - mean) / deviation
    return out


@compiled
def deviation(own: Vector, first: Starts) -> Vector:
    """Standard deviation (ddof 1) of the values of each close."""
    out = np.full(own.size, np.nan)
    for group in range(first.size - 1):
        out[first[group] : first[group + 1]] = _spread(own, first[group], first[group + 1])[1]
    return out


@compiled
def _spread(own: Vector, start: int, stop: int) -> tuple[float, float]:
    total = 0.0
    known = 0
    for k in range(start, stop):
        if not math.isnan(own[k]):
            total += own[k]
            known += 1
    if known < 2:
        return math.nan, math.nan
    mean = total / known
    squares = 0.0
    for k in range(start, stop):
        if not math.isnan(own[k]):
            squares += (own[k] - mean) ** 2
    return mean, math.sqrt(squares / (known - 1))


def taken(own: str, compared: Callable[[Vector, Starts], Vector]) -> Across:
    """A look across symbols at the feature that `own` names."""
    return Across(plain(own), compared)


@across_feature(across=lambda window: taken(f"log_return({window})", ranked), lookback=lambda window: window + 1)
def return_rank(window: int = 20) -> Formula:
    """Rank of the log return of `window` bars among all symbols, from -1 (lowest) to 1; null alone.

    Jegadeesh & Titman (1993) sort by it.
    """
    return lambda market: market


@across_feature(across=lambda window: taken(f"log_return({window})", standardised), lookback=lambda window: window + 1)
def return_spread(window: int = 20) -> Formula:
    """Log return of `window` bars less the mean of all symbols, in deviations across them; null where those are 0."""
    return lambda market: market


@across_feature(
    across=lambda window: taken(f"realised_vol({window})", ranked), lookback=lambda window: window + 1, least=2
)
def volatility_rank(window: int = 60) -> Formula:
    """Rank of realised_vol among all symbols, from -1 (calmest) to 1; null alone."""
    return lambda market: market


@across_feature(
    across=lambda window: taken(f"volume_zscore({window})", ranked), lookback=lambda window: window, least=2
)
def volume_rank_across(window: int = 60) -> Formula:
    """Rank of volume_zscore among all symbols, from -1 to 1: who is unusually busy; null alone."""
    return lambda market: market


@across_feature(across=lambda window: taken(f"log_return({window})", deviation), lookback=lambda window: window + 1)
def dispersion(window: int = 1) -> Formula:
    """Deviation (ddof 1) across symbols of the log return of `window` bars: how much there is to choose between."""
    return lambda market: market


@across_feature(
    across=lambda window: taken(f"log_return({window})", mean_of_others), lookback=lambda window: window + 1
)
def market_return(window: int = 1) -> Formula:
    """Mean log return of `window` bars of the other symbols, equally weighted."""
    return lambda market: market


@across_feature(
    across=lambda window: taken(f"log_return({window})", mean_of_others), lookback=lambda window: window + 1
)
def relative_strength(window: int = 60) -> Formula:
    """Log return of `window` bars less the mean of the other symbols'."""
    return lambda own, market: own - market


@across_feature(across=lambda: taken("log_return(1)", mean_of_others), lookback=lambda window: window + 1, least=2)
def beta(window: int = 250) -> Formula:
    """Slope of log returns on the mean of the other symbols' over `window` bars; null where those never moved.

    Sharpe (1964).
    """
    return lambda own, market, age: rolling_slope(market, own, window, age)


@across_feature(across=lambda: taken("log_return(1)", mean_of_others), lookback=lambda window: window + 1, least=2)
def market_correlation(window: int = 250) -> Formula:
    """Correlation of log returns with the mean of the other symbols' over `window` bars; null where either is still."""
    return lambda own, market, age: rolling_correlation(market, own, window, age)


@across_feature(across=lambda: taken("log_return(1)", mean_of_others), lookback=lambda window: window + 1, least=3)
def idiosyncratic_share(window: int = 250) -> Formula:
    """1 - R² of log returns on the mean of the other symbols' over `window` bars: what is the symbol's own."""
    return lambda own, market, age: 1 - rolling_correlation(market, own, window, age) ** 2


@across_feature(across=lambda: taken("log_return(1)", mean_of_others), lookback=lambda window: window + 1, least=3)
def residual_return(window: int = 250) -> Formula:
    """Latest log return less what `beta` times the others' mean return explains, both over `window` bars."""

    def residual(own: Vector, market: Vector, age: Ages) -> Vector:
        slope = rolling_slope(market, own, window, age)
        usual = rolling_mean(own, window, age) - slope * rolling_mean(market, window, age)
        rest: Vector = own - usual - slope * market
        return rest

    return residual


@across_feature(across=lambda: taken("log_return(1)", mean_of_others), lookback=lambda bars, window: window + bars + 1)
def lead_lag(bars: int = 1, window: int = 250) -> Formula:
    """Correlation of log returns with the others' mean return `bars` bars before, less the reverse; in [-2, 2].

    Above 0 the market leads this symbol, below 0 it leads the market. Lo & MacKinlay (1990).
    """

    def lead(own: Vector, market: Vector, age: Ages) -> Vector:
        follows = rolling_correlation(lag(market, bars), own, window, age)
        leads = rolling_correlation(lag(own, bars), market, window, age)
        return follows - leads

    return lead


@across_feature(across=lambda: taken("up_share(1)", mean_of_others), lookback=lambda window: window + 1)
def market_breadth(window: int = 20) -> Formula:
    """Share of the other symbols' last `window` bars that closed higher."""
    return lambda market, age: rolling_mean(market, window, age)
