"""Windows in one pass against every window on its own, slowly, as exactly as floats allow."""

import math
import statistics
from collections.abc import Callable, Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from lab.features.extremes import highest, lowest, rolling_quantile, rolling_rank, since_highest
from lab.features.windows import (
    NEGLIGIBLE,
    absolute_change,
    change,
    exponential_mean,
    exponential_sum,
    lag,
    memory,
    relative_change,
    restarted,
    rolling_correlation,
    rolling_line,
    rolling_products,
    rolling_shape,
    rolling_slope,
    rolling_squares,
    rolling_sum,
    span_memory,
    wilder,
    wilder_memory,
)
from lab.nouns import Ages, Vector

numbers = st.floats(-1e6, 1e6, allow_subnormal=False)
coarse = st.integers(-(10**9), 10**9).map(lambda thousandths: thousandths / 1000)
columns = st.lists(st.one_of(numbers, st.just(math.nan)), max_size=40)
few = st.lists(st.one_of(st.integers(-3, 3).map(float), st.just(math.nan)), max_size=40)  # many ties
windows = st.integers(1, 45)
decays = st.floats(0.01, 1.0)
ages = st.integers(0, 100).map(lambda number: np.array([number]))
FIRST = np.array([1])


@pytest.fixture(autouse=True, scope="module")
def as_formulas_run() -> Iterator[None]:
    """Dividing by nothing is no warning there: what has no value comes out as NaN."""
    with np.errstate(all="ignore"):
        yield


def slowly(values: list[float], window: int, of: Callable[[list[float]], float]) -> list[float]:
    """What `of` makes of every window on its own; NaN where it is not full or a value is missing."""
    found = []
    for t in range(len(values)):
        last = values[max(t + 1 - window, 0) : t + 1]
        whole = len(last) == window and not any(math.isnan(each) for each in last)
        found.append(of(last) if whole else math.nan)
    return found


def magnitude(values: list[float]) -> float:
    """Sum of absolute values, to which the rounding of any sum of them is in proportion."""
    return math.fsum(abs(each) for each in values if not math.isnan(each))


@given(columns, windows, decays, ages)
def test_a_sum_is_every_window_added_up_on_its_own(values: list[float], window: int, decay: float, age: Ages) -> None:
    x = np.array(values, dtype=np.float64)
    rounding = 1e-14 * len(values) * magnitude(values)
    np.testing.assert_allclose(rolling_sum(x, window, age), slowly(values, window, math.fsum), rtol=0, atol=rounding)

    def decayed(last: list[float]) -> float:
        return math.fsum(each * decay**k for k, each in enumerate(reversed(last)))

    found = exponential_sum(x, decay, window, age)
    np.testing.assert_allclose(found, slowly(values, window, decayed), rtol=0, atol=rounding)


@given(st.lists(st.integers(-1000, 1000), max_size=60), windows, ages)
def test_a_sum_of_whole_numbers_is_exact(values: list[int], window: int, age: Ages) -> None:
    found = rolling_sum(np.array(values, dtype=np.float64), window, age)
    assert found[window - 1 :].tolist() == [
        float(sum(values[t + 1 - window : t + 1])) for t in range(window - 1, len(values))
    ]
    assert np.isnan(found[: window - 1]).all()


@given(few, windows, ages)
def test_extremes_ranks_and_quantiles_are_those_of_every_window_whatever_the_ties(
    values: list[float], window: int, age: Ages
) -> None:
    x = np.array(values, dtype=np.float64)

    def rank(last: list[float]) -> float:
        return float(stats.rankdata(last)[-1]) / window

    def quantile(last: list[float]) -> float:
        return float(np.quantile(last, 0.3))

    def oldest(last: list[float]) -> float:
        return window - 1.0 - last.index(max(last))

    def latest(last: list[float]) -> float:
        return float(last[::-1].index(max(last)))

    for found, expected in (
        (highest(x, window, age), slowly(values, window, max)),
        (lowest(x, window, age), slowly(values, window, min)),
        (since_highest(x, window, age, True), slowly(values, window, oldest)),
        (since_highest(x, window, age, False), slowly(values, window, latest)),
        (rolling_rank(x, window), slowly(values, window, rank)),
        (rolling_quantile(x, window, 0.3), slowly(values, window, quantile)),
    ):
        np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-12)


KERNELS: dict[str, Callable[[Vector, int, Ages], Vector]] = {
    "sum": rolling_sum,
    "exponential": lambda x, window, age: exponential_sum(x, 0.9, window, age),
    "mean": lambda x, window, age: rolling_squares(x, window, age)[0],
    "squares": lambda x, window, age: rolling_squares(x, window, age)[1],
    "skewness": lambda x, window, age: rolling_shape(x, window, age)[0],
    "kurtosis": lambda x, window, age: rolling_shape(x, window, age)[1],
    "products": lambda x, window, age: rolling_products(x, x**2, window, age)[2],
    "slope": lambda x, window, age: rolling_line(x, window, age)[0],
    "end": lambda x, window, age: rolling_line(x, window, age)[1],
    "fit": lambda x, window, age: rolling_line(x, window, age)[2],
    "highest": highest,
    "place": lambda x, window, age: since_highest(x, window, age, True),
    "rank": lambda x, window, age: rolling_rank(x, window),
    "quantile": lambda x, window, age: rolling_quantile(x, window, 0.7),
}


@pytest.mark.parametrize("name", KERNELS)
@settings(max_examples=40)
@given(seed=st.integers(0, 2**32), window=st.integers(2, 25), age=ages, cut=st.integers(1, 40))
def test_a_slice_that_knows_its_age_gives_the_same_bits(name: str, seed: int, window: int, age: Ages, cut: int) -> None:
    """Wherever the past is cut off, as long as the window is whole."""
    values = np.random.default_rng(seed).normal(size=80)
    whole = KERNELS[name](values, window, age)
    alone = KERNELS[name](values[cut:], window, age + cut)
    assert alone[window - 1 :].tolist() == whole[cut + window - 1 :].tolist()
    assert alone.size - window + 1 >= 16


@pytest.mark.parametrize("name", [name for name in KERNELS if name not in ("rank", "quantile")])
@settings(max_examples=40)
@given(st.integers(0, 2**32), st.integers(1, 25), st.lists(st.integers(0, 30), min_size=1, max_size=4))
def test_stretches_end_to_end_are_what_they_are_alone(name: str, seed: int, window: int, numbers: list[int]) -> None:
    """On every row, as all of these are told where stretches begin."""
    values = np.random.default_rng(seed).normal(size=(len(numbers), 40))
    values[0, 30] = np.nan
    together = KERNELS[name](values.ravel(), window, np.array(numbers))
    alone = [KERNELS[name](each, window, np.array([number])) for each, number in zip(values, numbers, strict=True)]
    np.testing.assert_array_equal(together, np.concatenate(alone))


@pytest.mark.parametrize("bars", [1, 3, 50])
def test_changes_are_numpys(bars: int) -> None:
    x = np.random.default_rng(8).lognormal(size=50)
    before = np.concatenate([np.full(bars, np.nan), x[:-bars]])[:50]
    np.testing.assert_array_equal(change(x, bars), x - before)
    np.testing.assert_array_equal(absolute_change(x, bars), np.abs(x - before))
    np.testing.assert_array_equal(relative_change(x, bars), x / before - 1)


def test_columns_of_different_lengths_make_no_pairs() -> None:
    with pytest.raises(ValueError, match="columns of one length"):
        rolling_correlation(np.ones(10), np.ones(9), 3, FIRST)


@pytest.mark.parametrize("reaching", [lag, change, absolute_change, relative_change])
def test_a_change_to_come_is_refused(reaching: Callable[[Vector, int], Vector]) -> None:
    with pytest.raises(ValueError, match="would read the future"):
        reaching(np.ones(5), -1)


@pytest.mark.parametrize("name", KERNELS)
def test_a_missing_value_is_missed_while_it_is_in_the_window_and_no_longer(name: str) -> None:
    values = np.random.default_rng(3).normal(size=60)
    values[[20, 41]] = np.nan
    missing = np.isnan(KERNELS[name](values, 7, np.array([5])))
    assert np.flatnonzero(missing).tolist() == [*range(6), *range(20, 27), *range(41, 48)]


@pytest.mark.parametrize("number", range(7))
@pytest.mark.parametrize("window", [2, 7, 20])
def test_after_a_huge_jump_a_flat_window_holds_exactly_nothing(window: int, number: int) -> None:
    """Where sums are updated by adding and taking away, the jump leaves a residue for ever."""
    values = np.concatenate([np.full(30, 0.1), [1e16, -3e15], np.zeros(60)])
    age = np.array([number])
    after = slice(32 + window - 1, None)
    for found in (
        rolling_sum(values, window, age),
        exponential_mean(values, 0.9, window, age),
        rolling_squares(values, window, age)[0],
        rolling_squares(values, window, age)[1],
        rolling_products(values, values, window, age)[2],
        rolling_line(values, window, age)[0],
    ):
        assert found[after].tolist() == [0.0] * (60 - window + 1)


@given(st.lists(st.tuples(coarse, coarse), max_size=30), st.integers(2, 12), ages)
def test_moments_are_those_of_every_window_on_its_own(pairs: list[tuple[float, float]], window: int, age: Ages) -> None:
    x, y = (np.array([pair[k] for pair in pairs], dtype=np.float64) for k in (0, 1))
    slope, correlation = rolling_slope(x, y, window, age), rolling_correlation(x, y, window, age)
    squares = rolling_squares(x, window, age)[1]
    assert slope.size == correlation.size == squares.size == len(pairs)
    assert np.isnan([*slope[: window - 1], *correlation[: window - 1], *squares[: window - 1]]).all()
    for t in range(window - 1, len(pairs)):
        last_x, last_y = (values[t + 1 - window : t + 1].tolist() for values in (x, y))
        spread = [statistics.pstdev(values) for values in (last_x, last_y)]
        largest = [max(map(abs, values)) for values in (last_x, last_y)]
        if spread[0] == 0.0:
            assert (squares[t], math.isnan(slope[t]), math.isnan(correlation[t])) == (0.0, True, True)
        elif spread[0] > 1e-6 * largest[0]:
            assert squares[t] == pytest.approx(window * spread[0] ** 2, rel=1e-8)
            expected = statistics.linear_regression(last_x, last_y).slope
            assert slope[t] == pytest.approx(expected, rel=1e-6, abs=1e-8 * (1 + largest[1]) / spread[0])
            if spread[1] > 1e-6 * largest[1]:
                assert correlation[t] == pytest.approx(statistics.correlation(last_x, last_y), abs=1e-8)


@pytest.mark.parametrize("window", [3, 10, 60])
def test_the_shape_of_a_window_is_scipys_and_its_line_numpys(window: int) -> None:
    x = 100 * np.exp(np.cumsum(np.random.default_rng(4).standard_t(3, 400) * 0.01))
    skew, kurtosis = rolling_shape(x, window, FIRST + 10)
    slope, end, fit = rolling_line(x, window, FIRST + 10)
    for t in range(window - 1, x.size):
        last = x[t + 1 - window : t + 1]
        assert skew[t] == pytest.approx(stats.skew(last), rel=1e-8, abs=1e-8)
        assert kurtosis[t] == pytest.approx(stats.kurtosis(last), rel=1e-8, abs=1e-8)
        line = stats.linregress(np.arange(window), last)
        assert slope[t] == pytest.approx(line.slope, rel=1e-9, abs=1e-12)
        assert end[t] == pytest.approx(line.intercept + line.slope * (window - 1), rel=1e-12)
        assert fit[t] == pytest.approx(line.rvalue**2, rel=1e-8, abs=1e-12)


@pytest.mark.parametrize("level", [0.1, 1e-8, 1e8, 12345.678])
def test_equal_values_have_no_deviation_no_correlation_and_no_shape_whatever_their_size(level: float) -> None:
    """A mean of equal numbers is off by a rounding, and a ratio to that rounding would be noise."""
    flat, moving = np.full(50, level), np.arange(50.0)
    assert rolling_squares(flat, 7, FIRST + 2)[1][6:].tolist() == [0.0] * 44
    assert np.isnan(
        [*rolling_slope(flat, moving, 7, FIRST + 2), *rolling_correlation(flat, moving, 7, FIRST + 2)]
    ).all()
    assert np.isnan(rolling_correlation(moving, flat, 7, FIRST + 2)).all()
    assert np.abs(rolling_slope(moving, flat, 7, FIRST + 2)[6:]).max() == 0.0
    assert np.isnan(rolling_shape(flat, 7, FIRST + 2)).all()
    assert rolling_line(flat, 7, FIRST + 2)[1][6:].tolist() == [level] * 44


def test_no_more_digits_are_lost_than_the_window_is_long() -> None:
    """A window full of one price, but for a first value far away: the worst for sums about that value."""
    values = np.random.default_rng(5).normal(1e6, 1e-3, 4000)
    values[::200] += 5e5
    found = rolling_squares(values, 200, FIRST)[1]
    rows = range(199, 4000, 57)
    exact = [statistics.pvariance(values[t - 199 : t + 1].tolist()) * 200 for t in rows]
    assert [found[t] for t in rows] == pytest.approx(exact, rel=1e-12)


def test_a_restarted_recursion_rests_on_one_to_two_memories() -> None:
    x = np.random.default_rng(6).normal(size=500)
    counts = restarted(lambda part: np.arange(1.0, part.size + 1), 40, FIRST, x)
    assert (counts[80:].min(), counts.max()) == (41.0, 80.0)
    whole, alone = (restarted(np.cumsum, 40, age, part) for age, part in ((FIRST, x), (FIRST + 123, x[123:])))
    assert alone[79:].tolist() == whole[202:].tolist()


@given(st.floats(0.001, 0.999))
def test_a_memory_ends_where_what_is_cut_off_weighs_nothing(decay: float) -> None:
    """Of weights 1, decay, decay², … the share beyond the memory is decay to its length; one value fewer is too few."""
    length = memory(decay)
    assert decay**length <= NEGLIGIBLE * (1 + 1e-9)
    assert length == 1 or decay ** (length - 1) > NEGLIGIBLE * (1 - 1e-9)


def test_memories_of_the_usual_windows() -> None:
    """ln 1e-12 / ln(13/14) = 372.86, ln 1e-12 / ln(25/27) = 359.03."""
    assert (wilder_memory(14), span_memory(26)) == (373, 360)
    assert (wilder_memory(1), span_memory(1)) == (1, 1)


@settings(max_examples=30)
@given(st.lists(st.floats(1.0, 2.0), min_size=260, max_size=260), st.integers(1, 8))
def test_wilders_average_is_his_recursion_once_the_start_is_forgotten(values: list[float], window: int) -> None:
    found = wilder(np.array(values), window, FIRST)
    average = values[0]
    for value in values[1:]:
        average += (value - average) / window
    assert found[-1] == pytest.approx(average, rel=1e-11)
    assert int(np.isnan(found).sum()) == wilder_memory(window) - 1


@given(st.floats(-1e9, 1e9), st.floats(0.05, 0.99), st.integers(1, 30))
def test_the_mean_of_equal_values_is_that_value(value: float, decay: float, length: int) -> None:
    found = exponential_mean(np.full(40, value), decay, length, FIRST)
    assert found[length - 1 :].tolist() == pytest.approx([value] * (41 - length), rel=1e-14)
