"""The filtered regime probability against published tables and another library: filtered, never smoothed."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from statsmodels.tsa.regime_switching.markov_regression import MarkovRegression

from lab.errors import UsageError
from lab.features import compute, fit, plain, regime, resolve
from lab.features.certificate import certify
from lab.features.regime import chain_of, cusum, filtered, filtered_states
from lab.features.windows import restarted
from lab.nouns import FittedFeature, Vector
from tests.conftest import bars_of, rows_of, two_state_moves


def test_the_worked_example_of_the_forward_filter() -> None:
    """facts/microstructure.md, section 5.1: chances to leave .1 and .2, deviations 1 and 2, prior of y[0] .5.

    Ours starts from the long-run share, 1/3; one observation before, chosen so that the state expected after it is
    just as likely as not, makes the start theirs.
    """
    # After y the volatile state must have 4/7: then 4/7 × .8 + 3/7 × .1 = 1/2. Its odds were 1:2, so they must grow
    # by 8/3, and the likelihood ratio of y is exp(3 y² / 8) / 2.
    before = math.sqrt(8 / 3 * math.log(2 * 8 / 3))
    returns = np.array([before, 0.1, -2.5, 3.0, 0.2])
    found = filtered(returns, (0.0, 1.0, 0.1), (0.0, 2.0, 0.2))
    assert found[0] == pytest.approx(4 / 7, rel=1e-14)
    assert found[1:].round(6).tolist() == [0.334167, 0.723138, 0.957434, 0.629790]
    smoothed = [0.741814, 0.916052, 0.934802]
    assert np.abs(found[1:4] - smoothed).min() > 0.02


def test_the_filter_gives_statas_published_probabilities(real_markets: Path) -> None:
    """Federal funds rate 1954-2010, two means and one variance: Stata [TS] mswitch, 226 quarters."""
    table = pl.read_parquet(real_markets / "reference" / "stata_fedfunds.parquet")
    deviation = math.sqrt(4.441817583844001)
    first, second = (3.70877, deviation, 1 - 0.9820939), (9.556793, deviation, 0.0503587)
    ours = 1 - filtered(table["fedfunds_pct"].to_numpy(), first, second)
    theirs = table["stata_const_filtered_p1"].to_numpy()
    assert ours.size == 226
    # Half a unit of a parameter's last printed digit moves a probability by up to 4e-6.
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=2e-6)
    assert np.abs(ours - table["stata_const_smoothed_p1"].to_numpy()).max() > 0.3


@pytest.fixture(scope="module")
def weekly_moves() -> Vector:
    return two_state_moves(1200, 0.05, (1.0, 2.5), seed=8)


def statsmodels_filter(returns: Vector) -> Any:
    """Two means, two variances, states left with .03 and .08, from the long-run shares."""
    model = MarkovRegression(returns, k_regimes=2, trend="c", switching_variance=True)
    parameters = [0.97, 0.08, 0.05, -0.1, 1.0**2, 2.5**2]
    assert model.param_names == ["p[0->0]", "p[1->0]", "const[0]", "const[1]", "sigma2[0]", "sigma2[1]"]
    return model.smooth(parameters)


OURS = (0.05, 1.0, 0.03), (-0.1, 2.5, 0.08)


def test_the_filter_is_that_of_statsmodels_and_not_its_smoother(weekly_moves: Vector) -> None:
    theirs = statsmodels_filter(weekly_moves)
    ours = filtered(weekly_moves, *OURS)
    assert ours.size == 1200
    np.testing.assert_allclose(ours, theirs.filtered_marginal_probabilities[:, 1], rtol=0, atol=1e-8)
    apart = np.abs(ours - theirs.smoothed_marginal_probabilities[:, 1])
    assert apart[-1] < 1e-8  # nothing comes after the last return
    assert apart.max() > 0.5
    assert (apart > 0.01).mean() > 0.3


def test_filtering_in_blocks_forgets_only_what_lies_further_back_than_its_memory(weekly_moves: Vector) -> None:
    """250 returns are enough for a market that switches every 20 bars; 5 are not."""
    theirs = statsmodels_filter(weekly_moves).filtered_marginal_probabilities[:, 1]
    enough, few = (restarted(lambda x: filtered(x, *OURS), memory, np.array([1]), weekly_moves) for memory in (250, 5))
    np.testing.assert_allclose(enough, theirs, rtol=0, atol=1e-8)
    assert 0.01 < np.abs(few - theirs).max() < 0.5


def test_the_feature_is_the_filter_on_log_returns_in_units_of_the_training_deviation(weekly_moves: Vector) -> None:
    names = ("calm_mean", "calm_sd", "leave_calm", "volatile_mean", "volatile_sd", "leave_volatile")
    numbers = dict(zip(names, (value for state in OURS for value in state), strict=True)) | {"scale": 0.002}
    each = resolve("volatile_regime")
    assert isinstance(each, FittedFeature)
    feature = each.freeze(numbers)
    bars = bars_of(rows_of("WEEKS", np.concatenate([[0.0], weekly_moves * 0.002])))
    values = compute(bars, [feature])[feature.name].to_numpy()
    theirs = statsmodels_filter(weekly_moves).filtered_marginal_probabilities[:, 1]
    assert feature.lookback == 501
    assert np.isnan(values[:500]).all()
    # The first bar has no return: bar t ends return t - 1.
    np.testing.assert_allclose(values[500:], theirs[499:], rtol=0, atol=1e-8)


def test_fitting_finds_the_two_states_that_a_market_was_made_of() -> None:
    """10,000 returns of deviations 1 and 3 ‰, left every 50 and every 20 bars; found within 4 standard errors."""
    rng = np.random.default_rng(12)
    volatile = np.empty(10_000, dtype=bool)
    state = False
    for t in range(volatile.size):
        volatile[t] = state
        state ^= bool(rng.random() < (0.05 if state else 0.02))
    returns = np.where(volatile, 3e-3, 1e-3) * rng.standard_normal(volatile.size)
    each = resolve("volatile_regime")
    assert isinstance(each, FittedFeature)
    numbers = fit(bars_of(rows_of("MADE", np.concatenate([[0.0], returns]))), [each])[each.name]["MADE"]
    scale = numbers["scale"]
    assert scale == pytest.approx(float(np.std(returns)), rel=1e-9)
    expected = {"calm": (1e-3, 0.02, int((~volatile).sum())), "volatile": (3e-3, 0.05, int(volatile.sum()))}
    for name, (deviation, leave, bars) in expected.items():
        # The errors that would remain if the states were seen, not only inferred.
        assert numbers[f"{name}_sd"] * scale == pytest.approx(deviation, abs=4 * deviation / math.sqrt(2 * bars))
        assert numbers[f"{name}_mean"] * scale == pytest.approx(0.0, abs=4 * deviation / math.sqrt(bars))
        assert numbers[f"leave_{name}"] == pytest.approx(leave, abs=4 * math.sqrt(leave * (1 - leave) / bars))
    values = compute(bars_of(rows_of("MADE", np.concatenate([[0.0], returns]))), [each.freeze(numbers)])
    right = (values[each.name].to_numpy()[1000:] > 0.5) == volatile[999:]
    assert right.mean() > 0.9


def test_the_volatile_state_is_the_one_that_deviates_more_whichever_the_fit_names_first(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(regime, "estimate", lambda _: ([0.1, 0.2], [3.0, 1.0], [0.3, 0.4]))
    numbers = regime.fit_regimes(bars_of(rows_of("SWAP", two_state_moves(300, 0.1, (1e-3, 2e-3), seed=1))))
    assert (numbers["calm_sd"], numbers["calm_mean"], numbers["leave_calm"]) == (1.0, 0.2, 0.4)
    assert (numbers["volatile_sd"], numbers["volatile_mean"], numbers["leave_volatile"]) == (3.0, 0.1, 0.3)


def test_a_missing_return_says_nothing_about_the_state() -> None:
    states = (0.0, 1.0, 0.1), (0.0, 2.0, 0.2)
    with_holes = filtered(np.array([np.nan, 0.3, np.nan, -2.0, 1.0]), *states)
    assert np.isnan(with_holes).tolist() == [True, False, True, False, False]
    assert with_holes[[1, 3, 4]].tolist() == filtered(np.array([0.3, -2.0, 1.0]), *states).tolist()


def test_a_return_that_no_state_explains_is_a_probability_all_the_same() -> None:
    """A jump of 1,000 deviations is far beyond what either density can hold; the wider state takes it."""
    wild = filtered(np.array([0.1, 1000.0, 0.1, -1000.0, 0.0]), (0.0, 1.0, 0.1), (0.0, 2.0, 0.2))
    assert wild[[1, 3]].tolist() == [1.0, 1.0]
    assert ((wild > 0) & (wild <= 1)).all()
    mirrored = filtered(np.array([0.1, 1000.0, 0.1]), (0.0, 2.0, 0.2), (0.0, 1.0, 0.1))
    assert mirrored[1] == 0.0
    np.testing.assert_allclose(mirrored, 1 - wild[:3], atol=1e-12)


THREE = {"mean": (0.05, 0.0, -0.2), "sd": (0.5, 1.0, 3.0)}
CHANCES = ((0.95, 0.04, 0.01), (0.03, 0.95, 0.02), (0.02, 0.08, 0.90))


def three_numbers(scale: float) -> dict[str, float]:
    numbers = {f"{name}_{i}": value for name, values in THREE.items() for i, value in enumerate(values, 1)}
    numbers |= {f"chance_{i}_{j}": CHANCES[i - 1][j - 1] for i in (1, 2, 3) for j in (1, 2, 3)}
    return numbers | {"scale": scale}


def test_three_regimes_are_filtered_as_statsmodels_does(weekly_moves: Vector) -> None:
    model = MarkovRegression(weekly_moves, k_regimes=3, trend="c", switching_variance=True)
    # Its chances are columns: from state 0, 1, 2 to state 0, then to state 1.
    chances = [CHANCES[i][j] for j in (0, 1) for i in (0, 1, 2)]
    theirs = model.smooth([*chances, *THREE["mean"], *(sd**2 for sd in THREE["sd"])]).filtered_marginal_probabilities
    ours = filtered_states(weekly_moves, *chain_of(three_numbers(1.0)))
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-8)
    bars = bars_of(rows_of("WEEKS", np.concatenate([[0.0], weekly_moves * 0.002])))
    for state in (1, 2, 3):
        each = resolve(f"regime_probability({state})")
        assert isinstance(each, FittedFeature)
        feature = each.freeze(three_numbers(0.002))
        values = compute(bars, [feature])[feature.name].to_numpy()
        np.testing.assert_allclose(values[500:], theirs[499:, state - 1], rtol=0, atol=1e-7)


def test_a_fourth_regime_is_refused() -> None:
    each = resolve("regime_probability(4)")
    assert isinstance(each, FittedFeature)
    with pytest.raises(UsageError, match="there are 3 regimes"):
        each.freeze(three_numbers(1.0))


def two_numbers(scale: float) -> dict[str, float]:
    names = ("calm_mean", "calm_sd", "leave_calm", "volatile_mean", "volatile_sd", "leave_volatile")
    return dict(zip(names, (value for state in OURS for value in state), strict=True)) | {"scale": scale}


def values_of(text: str, moves: Vector, numbers: dict[str, float] | None = None) -> Vector:
    each = resolve(text)
    feature = each.freeze(numbers or {}) if isinstance(each, FittedFeature) else each
    bars = bars_of(rows_of("MADE", np.concatenate([[0.0], moves])))
    return compute(bars, [feature])[feature.name].to_numpy()


def test_the_next_bar_is_volatile_as_often_as_statsmodels_predicts(weekly_moves: Vector) -> None:
    theirs = statsmodels_filter(weekly_moves).predicted_marginal_probabilities[:, 1]
    ours = values_of("volatile_next", weekly_moves * 0.002, two_numbers(0.002))
    np.testing.assert_allclose(ours[500:-1], theirs[500:], rtol=0, atol=1e-8)


def test_the_age_and_persistence_of_a_regime_are_counted_on_its_filtered_probability(weekly_moves: Vector) -> None:
    moves, numbers = weekly_moves * 0.002, two_numbers(0.002)
    volatile = values_of("volatile_regime", moves, numbers)[500:] > 0.5
    ages = values_of("regime_age", moves, numbers)[500:]
    shares = values_of("regime_persistence(30)", moves, numbers)[500:]
    runs = 0
    seen = 0
    for t in range(1, volatile.size):
        runs = runs + 1 if volatile[t] == volatile[t - 1] else 0
        if runs < t:  # a change was seen, so the age is known
            assert ages[t] == min(runs + 1, 250)
            seen += 1
        if t >= 29:
            assert shares[t] == pytest.approx(np.mean(volatile[t - 29 : t + 1] == volatile[t]))
    assert seen > 600


def test_the_filter_over_a_break_is_that_of_lopez_de_prado() -> None:
    """Symmetric CUSUM, by hand: sums 2, 4 (up), then -3, -4 (down); a break begins both anew."""
    breaks, since = cusum(np.array([2.0, 2.0, 0.5, -3.0, np.nan, -1.0, 0.0]), 3.5)
    assert breaks[[0, 1, 2, 3, 5, 6]].tolist() == [0, 1, 0, 0, -1, 0]
    assert since[[1, 2, 3, 5, 6]].tolist() == [0, 1, 2, 0, 1]
    assert math.isnan(breaks[4])
    assert since[0] == np.inf


def test_a_market_that_begins_to_rise_breaks_upwards_within_its_threshold() -> None:
    rng = np.random.default_rng(3)
    moves = np.concatenate([1e-3 * rng.standard_normal(400), 1e-3 * rng.standard_normal(20) + 4e-3])
    breaks = values_of("cusum_break(8, 50, 100)", moves)
    ages = values_of("cusum_age(8, 50, 100)", moves)
    first = 401 + int(np.flatnonzero(breaks[401:] == 1)[0])
    assert first <= 404
    assert ages[first] == 0
    assert set(np.unique(breaks[~np.isnan(breaks)])) <= {-1.0, 0.0, 1.0}


def test_large_moves_and_bursts_are_counted_against_the_bars_before() -> None:
    moves = two_state_moves(400, 0.05, (1e-3, 4e-3), seed=6)
    shares, ages = values_of("large_move_share(10, 50)", moves), values_of("burst_age(40, 50, 0.9)", moves)
    large = np.full(401, np.nan)
    burst = np.full(401, np.nan)
    for t in range(50, 401):
        sizes = np.abs(moves[t - 50 : t])  # bar t ends move t - 1
        large[t], burst[t] = sizes[-1] > np.quantile(sizes, 0.5), sizes[-1] > np.quantile(sizes, 0.9)
    for t in range(100, 401):
        assert shares[t] == pytest.approx(np.mean(large[t - 9 : t + 1]))
        last = np.flatnonzero(burst[t - 39 : t + 1] == 1)
        assert ages[t] == (39 - last[-1] if last.size else 40)


def test_a_straight_climb_is_a_trend_a_zigzag_a_range() -> None:
    rng = np.random.default_rng(1)
    climb = 2e-3 + 1e-4 * rng.standard_normal(800)
    assert values_of("market_regime", climb)[-50:].tolist() == [1.0] * 50
    zigzag = 2e-3 * (-1.0) ** np.arange(800) + 1e-4 * rng.standard_normal(800)
    assert set(values_of("market_regime", zigzag)[-50:]) == {-1.0, 0.0}
    names = ("market_regime", "adx", "efficiency_ratio(14)")
    regime_of, adx, efficiency = (values_of(name, two_state_moves(2000, 0.1, (1e-3, 2e-3), seed=4)) for name in names)
    known = np.isfinite(regime_of)
    assert known.sum() > 1000
    expected = np.where((adx >= 25) & (efficiency >= 0.3), 1.0, np.where((adx < 20) & (efficiency < 0.3), -1.0, 0.0))
    np.testing.assert_array_equal(regime_of[known], expected[known])
    assert set(regime_of[known]) == {-1.0, 0.0, 1.0}


@pytest.mark.parametrize(
    "text",
    [
        "market_regime(5)",
        "cusum_break(3, 20, 40)",
        "cusum_age(3, 20, 40)",
        "large_move_share(5, 30)",
        "burst_age(20, 30)",
    ],
)
def test_a_kind_of_market_is_told_from_its_lookback_alone(text: str) -> None:
    assert certify(plain(text)).memory <= plain(text).lookback


@pytest.mark.parametrize("text", ["volatile_next(30)", "regime_age(30)", "regime_persistence(10, 30)"])
def test_a_frozen_regime_is_told_from_its_lookback_alone(text: str) -> None:
    each = resolve(text)
    assert isinstance(each, FittedFeature)
    certify(each.freeze(two_numbers(0.002)))


def test_three_frozen_regimes_are_told_from_their_lookback_alone() -> None:
    each = resolve("regime_probability(2, 30)")
    assert isinstance(each, FittedFeature)
    certify(each.freeze(three_numbers(0.002)))


def test_fitting_three_regimes_orders_them_by_their_deviation() -> None:
    rng = np.random.default_rng(2)
    deviations = np.repeat(np.tile([1e-3, 3e-3, 1e-2], 10), 100)
    each = resolve("regime_probability")
    assert isinstance(each, FittedFeature)
    numbers = each.fit(bars_of(rows_of("MADE", deviations * rng.standard_normal(deviations.size))))
    found = [numbers[f"sd_{i}"] * numbers["scale"] for i in (1, 2, 3)]
    assert found == pytest.approx([1e-3, 3e-3, 1e-2], rel=0.1)
    assert sum(numbers[f"chance_2_{j}"] for j in (1, 2, 3)) == pytest.approx(1, rel=1e-12)
