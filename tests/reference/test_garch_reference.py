"""GARCH(1,1) against published estimates and another library's filter: numbers from outside the house."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from arch import arch_model

from lab.errors import NotEnoughHistory
from lab.features import compute, fit, garch, plain, resolve
from lab.features.certificate import certify
from lab.features.garch import (
    LARGEST_BETA,
    SMALLEST_BETA,
    egarch_filter,
    fit_egarch,
    fit_garch,
    fit_gjr,
    garch_memory,
)
from lab.features.garch_fit import COEFFICIENTS, EGARCH, GARCH, GJR, estimate, likeliest, refits, terms
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


@pytest.mark.parametrize(("kind", "fitting"), [(GJR, fit_gjr), (EGARCH, fit_egarch)])
def test_a_variance_with_leverage_that_hardly_forgets_is_cut_at_the_same_level_too(
    kind: int, fitting: Callable[[Bars], dict[str, float]]
) -> None:
    """Of GJR the variance stays at its level, of EGARCH the logarithm of it."""
    swing = np.exp(np.sin(2 * np.pi * np.arange(10_000) / 40_000))
    returns = 1e-3 * swing * np.random.default_rng(2).standard_normal(10_000)
    (mu, omega, alpha, gamma, beta), _ = likeliest(returns / np.std(returns), kind)
    assert LARGEST_BETA < beta < 1
    numbers = fitting(bars_returning(returns))
    assert (numbers["mu"], numbers["alpha"], numbers["gamma"]) == pytest.approx((mu, alpha, gamma), rel=1e-2, abs=1e-5)
    assert numbers["beta"] == LARGEST_BETA
    assert numbers["omega"] / (1 - LARGEST_BETA) == pytest.approx(omega / (1 - beta), rel=1e-2)


def nelson(returns: Vector, numbers: dict[str, float]) -> float:
    """Volatility that EGARCH expects after these returns, the first of which met the long-run level. Nelson (1991)."""
    mu, omega, alpha, gamma, beta = (numbers[name] for name in COEFFICIENTS)
    level = omega / (1 - beta)
    for r in returns:
        z = (r / numbers["scale"] - mu) / math.exp(level / 2)
        level = omega + alpha * (abs(z) - math.sqrt(2 / math.pi)) + gamma * z + beta * level
    return numbers["scale"] * math.exp(level / 2)


def test_egarch_begins_from_its_long_run_level_between_one_memory_and_two_ago() -> None:
    numbers = {"mu": 0.05, "omega": 0.06, "alpha": 0.2, "gamma": -0.1, "beta": 0.9, "scale": 0.01}
    returns = 0.01 * np.random.default_rng(4).standard_normal(60)
    feature = frozen("egarch_vol(8)", numbers)
    ours = compute(bars_returning(returns), [feature])[feature.name].to_numpy()
    assert np.isnan(ours).sum() == 16
    for row in range(16, 61):  # which ends return `row`, counted from 1
        begun = [nelson(returns[row - seen : row], numbers) for seen in range(8, 17)]
        assert len(set(begun)) == 9
        assert min(abs(each - ours[row]) for each in begun) < 1e-12 * ours[row]


def test_egarch_passes_over_a_shock_that_is_not_known() -> None:
    numbers = {"mu": 0.0, "omega": 0.06, "alpha": 0.2, "gamma": -0.1, "beta": 0.9, "scale": 1.0}
    found = egarch_filter(np.array([np.nan, 1.5, np.nan, -2.0]), 0.06, 0.2, -0.1, 0.9)
    assert np.isnan(found).tolist() == [True, False, True, False]
    expected = [nelson(np.array(seen), numbers) ** 2 for seen in ([1.5], [1.5, -2.0])]
    assert found[[1, 3]].tolist() == pytest.approx(expected, rel=1e-12)


def slow_height(at: Vector, returns: Vector, backcast: float, kind: int) -> float:
    """Log likelihood but for its constant, term by term, of the models as they are printed."""
    mu, omega, alpha, gamma, beta = at.tolist()
    h = omega + (alpha + gamma / 2 + beta) * backcast if kind == GJR else math.exp(omega + beta * math.log(backcast))
    total = 0.0
    for r in returns.tolist():
        e = r - mu
        total -= 0.5 * (math.log(h) + e * e / h)
        z = e / math.sqrt(h)
        if kind == GJR:
            h = omega + (alpha + (gamma if e < 0 else 0.0)) * e * e + beta * h
        else:
            h = math.exp(omega + alpha * (abs(z) - math.sqrt(2 / math.pi)) + gamma * z + beta * math.log(h))
    return total


@pytest.mark.parametrize(
    ("kind", "at"), [(GJR, [0.03, 0.1, 0.08, 0.06, 0.75]), (EGARCH, [0.03, -0.02, 0.15, -0.1, 0.9])]
)
def test_slopes_and_curvature_of_the_likelihood_are_its_differences(kind: int, at: list[float]) -> None:
    """A wrong derivative would not move the top, but the search would limp to it, or stop at another."""
    returns, point, step = np.random.default_rng(6).standard_normal(200), np.array(at), 1e-4
    gradient, curvature = np.zeros(5), np.zeros((5, 5))
    height = terms(point, returns, 1.1, kind, True, gradient, curvature)
    nudges = step * np.eye(5)

    def slow(moved: Vector) -> float:
        return slow_height(point + moved, returns, 1.1, kind)

    assert height == pytest.approx(slow(np.zeros(5)), rel=1e-12)
    slopes = [(slow(a) - slow(-a)) / (2 * step) for a in nudges]
    bends = [[(slow(a + b) - slow(a - b) - slow(b - a) + slow(-a - b)) / (4 * step**2) for b in nudges] for a in nudges]
    np.testing.assert_allclose(gradient, slopes, rtol=1e-5, atol=1e-4)
    np.testing.assert_allclose(curvature, -np.array(bends), rtol=1e-3, atol=1e-2)


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


def loglikelihoods(returns: Vector, asymmetric: int, kind: str, **options: float) -> Any:
    model = arch_model(returns, mean="Constant", vol=kind, p=1, o=asymmetric, q=1, rescale=False)
    return model.fit(disp="off", show_warning=False, options={"ftol": 1e-12, **options})


@pytest.mark.parametrize(
    ("kind", "asymmetric", "vol", "published", "likelihood"),
    [
        (GARCH, 0, "GARCH", (0.05635, 0.01751, 0.10215, 0.88521), -6936.718),
        (GJR, 1, "GARCH", (0.01751, 0.01957, 0.0, 0.18307, 0.89224), -6822.883),
        (EGARCH, 1, "EGARCH", (0.02062, 0.00053, 0.13553, -0.15201, 0.97483), -6813.953),
    ],
)
def test_the_fit_of_every_model_is_the_published_one_and_that_of_arch(
    sp500: Vector, kind: int, asymmetric: int, vol: str, published: tuple[float, ...], likelihood: float
) -> None:
    """facts/microstructure.md, section 4.3, printed by arch to five digits; and arch itself, asked for twelve."""
    found, height = likeliest(sp500, kind)
    ours = found[[0, 1, 2, 4]] if kind == GARCH else found
    assert ours == pytest.approx(published, abs=6e-6)
    assert height == pytest.approx(likelihood, abs=6e-4)
    theirs = loglikelihoods(sp500, asymmetric, vol)
    np.testing.assert_allclose(
        ours, theirs.params.to_numpy() if hasattr(theirs.params, "to_numpy") else theirs.params, rtol=1e-4, atol=1e-6
    )
    assert height == pytest.approx(theirs.loglikelihood, abs=1e-6)


def test_egarch_finds_the_published_estimate_of_the_german_mark(real_markets: Path) -> None:
    """Bollerslev & Ghysels (1996) by way of rugarch; another start of the recursion moves it by under .5 errors."""
    folder = real_markets / "reference"
    values = json.loads((folder / "reference_values.json").read_text())["values"]
    published = next(each for each in values if each["id"] == "dmgbp_egarch11_normal")
    returns = pl.read_parquet(folder / "dem_gbp_bollerslev_ghysels.parquet")["return_pct"].to_numpy()
    found, _ = likeliest(returns, EGARCH)
    names = ("mu", "omega", "gamma_size", "alpha_sign", "beta")
    apart = [
        abs(value - published["params"][name]) / published["std_err"][name]
        for value, name in zip(found, names, strict=True)
    ]
    assert max(apart) < 0.5


@pytest.mark.parametrize("start", [0, 1480, 2360, 4000])
def test_a_refit_on_a_window_is_that_of_arch(sp500: Vector, start: int) -> None:
    window = sp500[start : start + 1000]
    parameters, heights = refits(window, 1000)
    assert parameters.shape == (1, 5)
    theirs = loglikelihoods(window, 0, "GARCH", maxiter=1000)
    np.testing.assert_allclose(parameters[0, [0, 1, 2, 4]], theirs.params, rtol=1e-4, atol=1e-6)
    assert heights[0] == pytest.approx(theirs.loglikelihood, abs=1e-6)


def test_where_the_likelihood_has_several_tops_ours_is_no_lower_than_the_one_that_arch_climbs(
    real_markets: Path,
) -> None:
    """Hours of bitcoin, windows of 1,000: in some of them arch stops at a lower top, in none do we."""
    path = real_markets / "crypto" / "binance_spot" / "klines_1h" / "BTCUSDT-1h-2018-02_2023-12.parquet"
    closes = pl.read_parquet(path)["close"].to_numpy()[10_000:15_001]
    returns = 100 * np.diff(np.log(closes))
    starts = (0, 320, 560, 2640, 2760, 2920, 3040)
    gained = []
    for start in starts:
        window = returns[start : start + 1000]
        gained.append(refits(window, 1000)[1][0] - loglikelihoods(window, 0, "GARCH", maxiter=1000).loglikelihood)
    assert len(gained) == 7
    assert min(gained) > -1e-6
    assert max(gained) > 1


def test_a_fit_does_not_depend_on_the_unit_of_the_returns(sp500: Vector) -> None:
    window = sp500[:1000]
    for kind in (GARCH, GJR):
        (mu, omega, *rest), height = likeliest(window, kind)
        found, other = likeliest(window / 1024, kind)
        assert found.tolist() == pytest.approx([mu / 1024, omega / 1024**2, *rest], rel=1e-9)
        assert other == pytest.approx(height + 1000 * math.log(1024), rel=1e-12)


def test_windows_without_movement_or_with_a_hole_have_no_fit() -> None:
    moves = 1e-3 * np.random.default_rng(3).standard_normal(300)
    assert np.isnan(likeliest(np.zeros(300), GARCH)[0]).all()
    moves[7] = np.nan
    assert np.isnan(likeliest(moves, GARCH)[0]).all()


def test_the_rolling_refit_expects_what_arch_does_from_the_last_window(sp500: Vector) -> None:
    """Refitted at every bar; and at every fifth by age, going on from there with the same coefficients."""
    bars = bars_returning(sp500[:520] / 100)
    each, fifth = plain("rolling_garch_vol(500)"), plain("rolling_garch_vol(500, 5)")
    assert (each.lookback, fifth.lookback) == (501, 505)
    ours = compute(bars, [each, fifth])
    row = 510
    theirs = loglikelihoods(sp500[row - 500 : row], 0, "GARCH", maxiter=1000)
    expected = math.sqrt(float(theirs.forecast(horizon=1).variance.to_numpy()[-1, 0])) / 100
    assert ours[each.name][row] == pytest.approx(expected, rel=1e-4)
    refitted = 509  # its age, 510, is a multiple of 5
    theirs = loglikelihoods(sp500[refitted - 500 : refitted], 0, "GARCH", maxiter=1000)
    mu, omega, alpha, beta = theirs.params
    variance = float(theirs.forecast(horizon=1).variance.to_numpy()[-1, 0])
    assert ours[fifth.name][refitted] == pytest.approx(math.sqrt(variance) / 100, rel=1e-4)
    for row in (510, 511, 512, 513):
        variance = omega + alpha * (sp500[row - 1] - mu) ** 2 + beta * variance
        assert ours[fifth.name][row] == pytest.approx(math.sqrt(variance) / 100, rel=1e-4)


def test_the_forecast_of_many_bars_is_the_mean_of_what_arch_expects_of_each(sp500: Vector) -> None:
    numbers = {**SP500, "scale": 0.01}
    theirs = arch_model(sp500, mean="Constant", vol="GARCH", p=1, q=1, rescale=False).fix(list(SP500.values()))
    expected = math.sqrt(float(theirs.forecast(horizon=7).variance.to_numpy()[-1].mean())) / 100
    feature = frozen("garch_forecast(7)", numbers)
    assert compute(bars_returning(sp500 / 100), [feature])[feature.name][-1] == pytest.approx(expected, rel=1e-8)


def test_the_filters_with_leverage_are_those_of_arch_once_the_start_is_forgotten(sp500: Vector) -> None:
    published = {
        "gjr": (0.01751, 0.01957, 0.001, 0.18307, 0.89224),
        "egarch": (0.02062, 0.00053, 0.13553, -0.15201, 0.97483),
    }
    for name, values in published.items():
        vol = "GARCH" if name == "gjr" else "EGARCH"
        theirs = arch_model(sp500, mean="Constant", vol=vol, p=1, o=1, q=1, rescale=False).fix(list(values))
        numbers = dict(zip(COEFFICIENTS, values, strict=True)) | {"scale": 0.01}
        called = name if name == "gjr" else "egarch"
        features = [frozen(f"{called}_vol", numbers), frozen(f"{called}_shock", numbers)]
        ours = compute(bars_returning(sp500 / 100), features)
        begin = max(each.lookback for each in features)
        vols, shocks = (ours[each.name].to_numpy() for each in features)
        np.testing.assert_allclose(vols[begin:-1], np.asarray(theirs.conditional_volatility)[begin:] / 100, rtol=1e-4)
        np.testing.assert_allclose(shocks[begin:], np.asarray(theirs.std_resid)[begin - 1 :], rtol=1e-4, atol=1e-6)


def test_leverage_is_the_share_of_variance_that_falls_left_behind() -> None:
    """One fall of 2, then nothing: the variance is 1 / .5 + (.1 + .3) 4 a bar later, of which .3 × 4 is leverage."""
    numbers = {"mu": 0.0, "omega": 1.0, "alpha": 0.1, "gamma": 0.3, "beta": 0.5, "scale": 0.01}
    feature = frozen("gjr_leverage", numbers)
    returns = np.zeros(feature.lookback + 3)
    returns[-2:] = (-0.02, 0.02)
    ours = compute(bars_returning(returns), [feature])[feature.name].to_numpy()
    assert ours[-3:] == pytest.approx([0.0, 1.2 / 3.6, 0.6 / 3.2], rel=1e-9, abs=1e-12)


def test_the_excess_is_the_logarithm_of_volatility_over_that_of_training(sp500: Vector) -> None:
    numbers = fit_garch(bars_returning(sp500 / 100))
    features = [frozen(name, dict(numbers)) for name in ("garch_vol", "garch_excess")]
    vol, excess = (compute(bars_returning(sp500 / 100), features)[each.name].to_numpy() for each in features)
    np.testing.assert_allclose(excess[300:], np.log(vol[300:] / np.std(sp500 / 100)), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(
    "name",
    ["garch_forecast(5)", "garch_excess", "gjr_vol", "gjr_shock", "gjr_leverage", "egarch_vol(40)", "egarch_shock(40)"],
)
def test_a_frozen_filter_sees_no_further_than_it_says(name: str, ordinary: Bars) -> None:
    each = resolve(name)
    assert isinstance(each, FittedFeature)
    numbers = {**each.fit(ordinary)}
    numbers["beta"] = min(numbers["beta"], 0.8)
    certify(each.freeze(numbers))


def test_a_rolling_refit_sees_no_further_than_it_says() -> None:
    for text in ("rolling_garch_vol(40)", "rolling_garch_vol(30, 7)"):
        assert certify(plain(text)).memory <= plain(text).lookback
