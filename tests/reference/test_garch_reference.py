"""GARCH(1,1) against published estimates and another library's filter: numbers from outside the house."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from arch import arch_model

from lab.errors import NotEnoughHistory
from lab.features import compute, fit, garch, resolve
from lab.features.garch import LARGEST_BETA, SMALLEST_BETA, estimate, fit_garch, garch_memory
from lab.nouns import Bars, Feature, FittedFeature, Vector
from tests.conftest import bars_of, rows_of

# arch 8.0.0, documentation, S&P 500 1999-2018, 100 × simple returns, constant mean, normal errors.
SP500 = {"mu": 0.05635, "omega": 0.01751, "alpha": 0.10215, "beta": 0.88521}


@pytest.fixture(scope="module")
def sp500() -> Vector:
    """100 × simple daily returns of the adjusted close."""
    from arch.data import sp500 as table

    return 100 * table.load()["Adj Close"].pct_change().dropna().to_numpy()


@pytest.fixture(scope="module")
def german_mark(real_markets: Path) -> tuple[Vector, dict[str, Any]]:
    """100 × log returns of DEM/GBP 1984-1991, and what was published about them."""
    folder = real_markets / "reference"
    values = json.loads((folder / "reference_values.json").read_text())["values"]
    published = next(each for each in values if each["id"] == "dmgbp_garch11_normal")
    return pl.read_parquet(folder / "dem_gbp_bollerslev_ghysels.parquet")["return_pct"].to_numpy(), published


def bars_returning(returns: Vector) -> Bars:
    """Bars whose log returns are `returns`; one bar more than those."""
    return bars_of(rows_of("REAL", [0.0, *returns]))


def frozen(name: str, numbers: dict[str, float]) -> Feature:
    each = resolve(name)
    assert isinstance(each, FittedFeature)
    return each.freeze(numbers)


def log_likelihood(shocks: Vector, variances: Vector) -> float:
    return float(-0.5 * np.sum(math.log(2 * math.pi) + np.log(variances) + shocks**2 / variances))


def test_the_estimate_of_the_sp500_is_the_published_one(sp500: Vector) -> None:
    assert sp500.size == 5030
    assert estimate(sp500) == pytest.approx(tuple(SP500.values()), abs=5e-6)


def test_fitting_on_bars_finds_the_same_coefficients_in_units_of_the_deviation(sp500: Vector) -> None:
    """The S&P 500 again, as closes; mu grows with the unit of the returns and omega with its square."""
    numbers = fit_garch(bars_returning(sp500 / 100))
    unit = 100 * numbers["scale"]
    assert unit == pytest.approx(float(np.std(sp500)), rel=1e-9)
    found = (numbers["mu"] * unit, numbers["omega"] * unit**2, numbers["alpha"], numbers["beta"])
    assert found == pytest.approx(tuple(SP500.values()), abs=5e-5)


def test_the_filtered_variance_is_that_of_arch_once_the_start_is_forgotten(sp500: Vector) -> None:
    """`garch_vol` at a close is what arch calls the conditional volatility of the next day."""
    numbers = {**SP500, "scale": 0.01}
    theirs = arch_model(sp500, mean="Constant", vol="GARCH", p=1, q=1, rescale=False).fix(list(SP500.values()))
    assert theirs.loglikelihood == pytest.approx(-6936.718, abs=1e-3)
    names = ("garch_vol", "garch_shock")
    ours = compute(bars_returning(sp500 / 100), [frozen(name, numbers) for name in names])
    memory = garch_memory(numbers)
    assert memory == 228
    expected = np.asarray(theirs.conditional_volatility) / 100
    # Row t of ours (bar t) speaks of return t of theirs, which ends at bar t + 1.
    volatility = ours["garch_vol"].to_numpy()
    assert np.isnan(volatility[: memory - 1]).all()
    np.testing.assert_allclose(volatility[memory - 1 : -1], expected[memory - 1 :], rtol=1e-8)
    shocks = ours["garch_shock"].to_numpy()
    np.testing.assert_allclose(shocks[memory:], np.asarray(theirs.std_resid)[memory - 1 :], rtol=1e-8, atol=1e-10)


def test_the_filter_reproduces_the_published_likelihood_of_the_german_mark(
    german_mark: tuple[Vector, dict[str, Any]],
) -> None:
    """Fiorentini, Calzolari & Panattoni (1996) start from the mean squared shock m of the sample.

    Our filter knows no start but earlier bars, so it is given enough equal shocks that its first variance is
    theirs: omega + (alpha + beta) m.
    """
    returns, published = german_mark
    numbers = {**published["params"], "scale": 0.01}
    mu, omega, alpha, beta = (published["params"][name] for name in ("mu", "omega", "alpha", "beta"))
    mean_square = float(np.mean((returns - mu) ** 2))
    first = omega + (alpha + beta) * mean_square
    earlier = math.sqrt((first * (1 - beta) - omega) / alpha)
    before = garch_memory(numbers) - 1
    bars = bars_returning(np.concatenate([np.full(before, mu + earlier), returns]) / 100)
    volatility = 100 * compute(bars, [frozen("garch_vol", numbers)])["garch_vol"].to_numpy()[before:-1]
    assert volatility.size == returns.size == published["n"] == 1974
    assert volatility[0] ** 2 == pytest.approx(first, rel=1e-9)
    assert published["log_likelihood"] == -1106.60788
    assert log_likelihood(returns - mu, volatility**2) == pytest.approx(published["log_likelihood"], abs=1e-5)


def test_the_estimate_of_the_german_mark_is_an_independent_one_and_near_the_published(
    german_mark: tuple[Vector, dict[str, Any]],
) -> None:
    """Another start of the recursion moves the estimate, but by less than half a published deviation."""
    returns, published = german_mark
    found = dict(zip(("mu", "omega", "alpha", "beta"), estimate(returns), strict=True))
    refit = published["refit_arch_8_0_0"]["note"]
    assert "omega 0.0099142, alpha 0.145478, beta 0.8168462, llf -1104.5214" in refit
    independent = {"omega": 0.0099142, "alpha": 0.145478, "beta": 0.8168462}
    errors = {name: published["std_err_hessian"][name] for name in independent}
    apart = {name: abs(found[name] - value) / errors[name] for name, value in independent.items()}
    assert max(apart.values()) < 1e-3  # where an optimiser stops is worth less than a thousandth of a standard error
    model = arch_model(returns, mean="Constant", vol="GARCH", p=1, q=1, rescale=False)
    assert model.fix(list(found.values())).loglikelihood == pytest.approx(-1104.5214, abs=5e-5)
    deviations = {
        name: abs(found[name] - value) / published["std_err_hessian"][name]
        for name, value in published["params"].items()
    }
    assert list(deviations) == ["mu", "omega", "alpha", "beta"]
    assert max(deviations.values()) < 0.5


def test_a_variance_that_hardly_forgets_is_cut_to_a_finite_memory_at_the_same_level(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Volatility that swings over 40,000 bars is estimated to forget in tens of thousands: what is used, fewer."""
    swing = np.exp(np.sin(2 * np.pi * np.arange(10_000) / 40_000))
    returns = 1e-3 * swing * np.random.default_rng(2).standard_normal(10_000)
    mu, omega, alpha, beta = estimate(returns / np.std(returns))
    assert LARGEST_BETA < beta < 1
    monkeypatch.setattr(garch, "estimate", lambda _: (mu, omega, alpha, beta))
    numbers = fit_garch(bars_returning(returns))
    assert (numbers["mu"], numbers["alpha"], numbers["beta"]) == (mu, alpha, LARGEST_BETA)
    assert numbers["omega"] / (1 - LARGEST_BETA) == pytest.approx(omega / (1 - beta), rel=1e-12)
    assert numbers["beta"] ** (garch_memory(numbers) - 1) <= 1e-12 < numbers["beta"] ** (garch_memory(numbers) - 2)


def test_a_market_without_any_memory_still_has_a_finite_one() -> None:
    numbers = fit_garch(bars_returning(1e-3 * np.random.default_rng(0).standard_normal(300)))
    assert SMALLEST_BETA <= numbers["beta"] <= LARGEST_BETA


@pytest.mark.parametrize(("name", "what"), [("garch_vol", "GARCH needs"), ("volatile_regime", "regimes need")])
def test_too_little_history_is_an_error_with_the_number_that_there_is(name: str, what: str) -> None:
    each = resolve(name)
    assert isinstance(each, FittedFeature)
    short = bars_of(rows_of("YOUNG", 1e-3 * np.random.default_rng(0).standard_normal(250)))
    with pytest.raises(NotEnoughHistory, match=f"{what} 250 returns that move; YOUNG has 249 to train on"):
        fit(short, [each])
    with pytest.raises(NotEnoughHistory, match=f"{what} 250 returns that move; DEAD has 999 to train on"):
        fit(bars_of(rows_of("DEAD", np.zeros(1000))), [each])


def test_returns_are_not_taken_across_a_gap() -> None:
    """Two halves of a market, the second at ten times the price: a gap is no return of 230 %."""
    moves = 1e-3 * np.random.default_rng(1).standard_normal(600)
    halves = rows_of("HALTED", moves), rows_of("HALTED", moves[::-1], price=1000.0)
    later = halves[1].with_columns(pl.col("time") + pl.duration(days=2))
    numbers = fit_garch(bars_of(halves[0], later))
    assert numbers["scale"] == pytest.approx(float(np.std(np.concatenate([moves[1:], moves[::-1][1:]]))), rel=1e-9)
