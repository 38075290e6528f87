"""The null market: whole runs claim an edge no oftener than the nominal rate where there is none, and a real one."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from scipy.stats import binom

from lab import findings, store
from lab.experiment import Experiment
from lab.nouns import Bars, Piece
from lab.sources.synthetic import simulate
from tests.small import carried_out, experiment

DAYS = 24
BARS = DAYS * 1440
MARKETS = 20
NOMINAL = 0.05

# Trading costs nothing here and an entry needs little, so that a claim takes nothing but luck.
FREE = {"folds__train": '"3d"', "folds__test": '"11d"', "policy__enter": "0.00005", "costs__fee_bps": "0.0"}
FLOWS = ("volume", "buy_volume")
FLOW_ALONE = '["flow_imbalance(5)", "flow_imbalance(20)"]'


def noise(seed: int) -> Bars:
    return simulate("NOISE", seed, BARS)


def permuted(seed: int) -> Bars:
    """A market with an edge whose takers come from its other half: their waves are real, and tell nothing."""
    bars = simulate("FLOW", seed, BARS)
    turned = [pl.concat([bars.frame[name].tail(BARS // 2), bars.frame[name].head(BARS // 2)]) for name in FLOWS]
    return Bars(bars.frame.with_columns(turned), bars.interval, bars.calendar)


def weighed(root: Path, bars: Bars, **changes: str) -> dict[str, Any]:
    """What a whole run on these bars is worth: stored, cut, learned, decided, traded and judged."""
    (symbol,) = bars.symbols
    store.commit(root / "data", "files", [Piece(symbol, "made here", bars.digest, bars)])
    settings = {"data__source": '"files"', "data__symbols": f'["{symbol}"]', **FREE, **changes}
    chosen: Experiment = experiment(root, **settings)
    return findings.weigh(root, carried_out(root, chosen))


def test_on_markets_without_an_edge_runs_claim_one_no_oftener_than_the_nominal_rate(tmp_path: Path) -> None:
    found = [weighed(tmp_path / str(seed), noise(seed)) for seed in range(MARKETS)]
    assert min(each["trades"] for each in found) > 300  # it did trade: a run that stands still proves nothing
    assert {each["days"] for each in found} == {21}
    assert {each["trials"] for each in found} == {1}
    claims = sum(each["claim"] for each in found)
    assert claims <= binom.ppf(0.99, MARKETS, NOMINAL) == 4
    sharpes = np.array([each["sharpe"] for each in found])
    assert abs(sharpes.mean()) < 3 * sharpes.std(ddof=1) / np.sqrt(MARKETS)
    correlations = np.array([each["correlation"] for each in found])
    assert abs(correlations.mean()) < 3 * correlations.std(ddof=1) / np.sqrt(MARKETS)


@pytest.mark.parametrize(("market", "claims"), [(permuted, False), (lambda seed: simulate("FLOW", seed, BARS), True)])
def test_a_market_of_the_same_size_with_an_edge_is_claimed_and_not_when_its_flow_is_permuted(
    market: Callable[[int], Bars], claims: bool, tmp_path: Path
) -> None:
    found = [weighed(tmp_path / str(seed), market(seed), features=FLOW_ALONE) for seed in (1, 2, 3)]
    assert [each["claim"] for each in found] == [claims] * 3
    for each in found:
        assert (each["correlation"] > 0.1) == claims
