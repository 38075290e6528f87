"""Order flow and liquidity against published formulas worked by hand, and against slow copies of them."""

import math
from collections.abc import Callable
from datetime import timedelta
from itertools import accumulate, pairwise
from statistics import correlation, fmean, linear_regression, stdev
from typing import Any

import numpy as np
import polars as pl
import pytest
from scipy.stats import norm

from lab.errors import NotEnoughHistory
from lab.features import compute, plain, resolve
from lab.features.certificate import certify
from lab.features.liquidity import corwin_schultz_pairs, hasbrouck_lambda, signed_root
from lab.features.order_flow import bulk_share, first_component
from lab.features.windows import rolling_slope
from lab.nouns import Bars, FittedFeature, Vector
from tests.conftest import START, bars_of, rows_of, two_state_moves

# facts/microstructure.md, section 0.1: table A.
OPEN = [100.0, 101.2, 100.6, 102.5, 103.9, 103.1, 104.4, 102.8, 101.5, 102.2, 103.6, 104.1]
HIGH = [101.9, 102.1, 102.8, 104.4, 104.6, 105.0, 104.9, 103.3, 102.6, 103.9, 104.8, 105.2]
LOW = [99.4, 100.2, 100.1, 102.0, 102.7, 102.9, 102.3, 100.9, 100.8, 101.9, 103.0, 103.5]
CLOSE = [101.0, 100.8, 102.4, 103.8, 103.2, 104.6, 102.6, 101.3, 102.3, 103.7, 104.0, 104.9]
VOLUME = [1200, 950, 1800, 2100, 1500, 1700, 2600, 2900, 1600, 1900, 1400, 1300]


@pytest.fixture(scope="module")
def table_a() -> Bars:
    times = [START + timedelta(minutes=k) for k in range(12)]
    return Bars.of(
        pl.DataFrame(
            {"symbol": ["A"] * 12, "time": times, "open": OPEN, "high": HIGH, "low": LOW, "close": CLOSE}
        ).with_columns(volume=pl.Series(VOLUME, dtype=pl.Float64), buy_volume=pl.Series(VOLUME, dtype=pl.Float64) / 2),
        "1m",
    )


def last(bars: Bars, text: str) -> float | None:
    feature = plain(text)
    value: float | None = compute(bars, [feature])[feature.name][-1]
    return value


def test_the_spreads_of_table_a(table_a: Bars) -> None:
    """Section 2, to the digits printed: Roll in price units, Corwin-Schultz without negatives, 2-day Abdi-Ranaldo."""
    roll = last(table_a, "roll_spread(10)")
    assert roll is not None
    assert roll * CLOSE[-1] == pytest.approx(0.42163702, abs=5e-9)
    assert last(table_a, "corwin_schultz(11)") == pytest.approx(0.00737849, abs=5e-9)
    assert last(table_a, "abdi_ranaldo(11)") == pytest.approx(0.00481733, abs=5e-9)
    assert last(table_a, "amihud(11)") == pytest.approx(0.05555006, abs=5e-9)


def test_the_pairs_of_corwin_and_schultz_in_table_a() -> None:
    expected = [
        *(0.010483, 0.014391, -0.016211, 0.010724, 0.012389, 0.014891),
        *(-0.010840, 0.011894, -0.009662, -0.004888, 0.006391),
    ]
    pairs = corwin_schultz_pairs(*(np.array(column) for column in (HIGH, LOW, CLOSE)))
    assert math.isnan(pairs[0])
    assert pairs[1:].tolist() == pytest.approx(expected, abs=5e-7)
    assert np.mean(pairs[1:]) == pytest.approx(0.00359661, abs=5e-9)


def test_the_slope_of_kyle_is_the_worked_one() -> None:
    flow = np.array([3.0, -2, 5, -4, 1, 2, -1, -3])
    moves = np.array([0.32, -0.18, 0.47, -0.42, 0.11, 0.22, -0.06, -0.33])
    assert rolling_slope(flow, moves, 8, np.array([1]))[-1] == pytest.approx(0.10067151, abs=5e-9)


def test_bulk_classification_of_table_a_is_the_worked_one() -> None:
    """Section 1.4: bought volumes of bars 1 to 11, and VPIN with bars for buckets."""
    moves, volume = np.diff(CLOSE), np.array(VOLUME[1:], dtype=float)
    bought = volume * bulk_share(moves / np.std(moves, ddof=1))
    assert bought.tolist() == pytest.approx(
        [413.48, 1627.094, 1833.567, 468.563, 1484.316, 133.915, 419.407, 1268.04, 1658.941, 835.244, 998.961], abs=5e-4
    )
    assert np.abs(2 * bought - volume).sum() / volume.sum() == pytest.approx(0.64261247, abs=5e-9)


def slow_vpin(share: Vector, volume: Vector, buckets: int) -> float:
    """Volume laid end to end and cut at every bucket's edge."""
    edges = np.concatenate([[0.0], np.cumsum(volume)])
    total = edges[-1]
    apart = 0.0
    for k in range(buckets):
        start, stop = total * k / buckets, total * (k + 1) / buckets
        inside = np.maximum(np.minimum(edges[1:], stop) - np.maximum(edges[:-1], start), 0.0)
        apart += abs(float(np.sum(inside * (2 * share - 1))))
    return apart / total


def test_vpin_is_the_imbalance_of_equal_volumes_however_bars_fall_across_their_edges() -> None:
    bars = bars_of(rows_of("PLAIN", two_state_moves(120, 0.1, (1e-3, 3e-3), seed=4)))
    volume, bought, close = (bars.frame[name].to_numpy() for name in ("volume", "buy_volume", "close"))
    for window, buckets in ((40, 10), (30, 50), (20, 1)):
        feature = plain(f"vpin({window}, {buckets})")
        ours = compute(bars, [feature])[feature.name].to_numpy()
        assert np.isnan(ours[: window - 1]).all()
        for t in (window - 1, 77, 119):
            recent = slice(t - window + 1, t + 1)
            expected = slow_vpin(bought[recent] / volume[recent], volume[recent], buckets)
            assert ours[t] == pytest.approx(expected, rel=1e-9)
    feature = plain("bulk_vpin(20, 5)")
    moves = np.concatenate([[np.nan], np.diff(close)])
    share = np.full(120, np.nan)
    for t in range(20, 120):
        share[t] = norm.cdf(moves[t] / np.std(moves[t - 19 : t + 1], ddof=1))
    expected = slow_vpin(share[100:120], volume[100:120], 5)
    assert compute(bars, [feature])[feature.name][-1] == pytest.approx(expected, rel=1e-9)


def made(delta: list[float], close: list[float] | None = None) -> Bars:
    """Bars of volume 10 with the given deltas."""
    rows = rows_of("MADE", np.zeros(len(delta)), volume=np.full(len(delta), 10.0))
    rows = rows.with_columns(buy_volume=(10 + pl.Series(delta)) / 2)
    if close is not None:
        rows = rows.with_columns(pl.Series(name, close) for name in ("open", "high", "low", "close"))
    return bars_of(rows)


def values(bars: Bars, text: str) -> list[float | None]:
    feature = plain(text)
    return compute(bars, [feature])[feature.name].to_list()


def test_a_run_counts_bars_on_one_side_and_stops_at_its_window() -> None:
    bars = made([1, 2, 3, -1, -1, 0, 4, 4, 4, 4, 4])
    assert values(bars, "flow_run(4)") == [None, None, None, -1, -2, 0, 1, 2, 3, 4, 4]
    unknown = bars_of(bars.frame.with_columns(buy_volume=pl.when(pl.int_range(pl.len()) != 8).then("buy_volume")))
    assert values(unknown, "flow_run(4)")[6:] == [1, 2, None, None, None]


def test_ticks_are_counted_by_their_direction() -> None:
    bars = made([0] * 6, [10.0, 10.1, 10.1, 10.0, 10.0, 10.2])
    assert values(bars, "tick_direction(5)")[-1] == pytest.approx((1 + 0 - 1 + 0 + 1) / 5)


def test_the_slope_of_cumulated_delta_is_that_of_a_line_through_it() -> None:
    rng = np.random.default_rng(5)
    delta = rng.uniform(-9, 9, 40)
    ours = values(made(delta.tolist()), "cvd_slope(15)")
    for t in (14, 25, 39):
        line = np.polyfit(np.arange(15), np.cumsum(delta)[t - 14 : t + 1], 1)
        assert ours[t] == pytest.approx(line[0] / 10, rel=1e-9)


def test_flow_that_price_does_not_follow_diverges() -> None:
    bars = made([5.0] * 5, [100.0, 99.0, 98.0, 97.0, 96.0])
    assert values(bars, "cvd_divergence(4)")[-1] == pytest.approx(0.5 + 1)


def test_flow_accelerates_by_what_one_window_has_more_than_the_one_before() -> None:
    assert values(made([1.0, 3.0, 5.0, 9.0]), "flow_acceleration(2)")[-1] == pytest.approx((14 - 4) / 20)


def test_flow_is_compared_with_its_own_past() -> None:
    rng = np.random.default_rng(6)
    delta = rng.uniform(-9, 9, 50)
    bars = made(delta.tolist())
    expected = np.corrcoef(delta[20:50], delta[17:47])[0, 1]
    assert values(bars, "flow_autocorrelation(3, 30)")[-1] == pytest.approx(expected, rel=1e-9)
    recent = delta[30:]
    zscore = (recent[-1] - recent.mean()) / recent.std(ddof=1)
    assert values(bars, "imbalance_zscore(20)")[-1] == pytest.approx(zscore, rel=1e-9)


def test_a_bar_on_which_both_sides_were_equal_is_no_buyers_bar() -> None:
    assert values(made([1, 0, -1, 2]), "buy_bar_share(4)")[-1] == 0.5


Past = dict[str, list[float]]  # each column of the bars up to one, oldest first; `delta` and `share` as well


def flow_of(past: Past, bars: slice) -> float:
    return sum(past["delta"][bars]) / sum(past["volume"][bars])


SLOW: dict[str, Callable[[Past], float]] = {
    "imbalance_zscore(9)": lambda p: (p["share"][-1] - fmean(p["share"][-9:])) / stdev(p["share"][-9:]),
    "cvd_slope(9)": lambda p: (
        linear_regression(range(9), [*accumulate(p["delta"])][-9:]).slope / fmean(p["volume"][-9:])
    ),
    "cvd_divergence(9)": lambda p: (
        flow_of(p, slice(-9, None))
        - (p["close"][-1] - p["close"][-10]) / sum(abs(b - a) for a, b in pairwise(p["close"][-10:]))
    ),
    "flow_acceleration(5)": lambda p: flow_of(p, slice(-5, None)) - flow_of(p, slice(-10, -5)),
    "flow_autocorrelation(3, 9)": lambda p: correlation(p["share"][-9:], p["share"][-12:-3]),
    "ofi_of_depth(9)": lambda p: (
        p["ofi_1"][-1] / fmean((b + a) / 2 for b, a in zip(p["bid_size"][-9:], p["ask_size"][-9:], strict=True))
    ),
}


@pytest.mark.parametrize("text", SLOW)
def test_flow_on_bars_of_every_volume_is_its_formula_worked_out_slowly(text: str, ordinary: Bars) -> None:
    """Where every bar trades as much, a mean of ratios is the ratio of means, and a share is a delta."""
    bars = Bars(ordinary.frame.head(120), "1m")
    columns = {name: bars.frame[name].to_list() for name in ("close", "volume", "ofi_1", "bid_size", "ask_size")}
    columns["delta"] = [2 * b - v for b, v in zip(bars.frame["buy_volume"], columns["volume"], strict=True)]
    columns["share"] = [d / v for d, v in zip(columns["delta"], columns["volume"], strict=True)]
    pasts = [{name: column[:end] for name, column in columns.items()} for end in range(101, 121)]
    assert values(bars, text)[-20:] == pytest.approx([SLOW[text](past) for past in pasts], rel=1e-9)


def test_impact_is_the_return_that_goes_with_one_usual_volume(ordinary: Bars) -> None:
    frame = ordinary.frame.tail(61)
    close, volume, bought = (frame[name].to_numpy() for name in ("close", "volume", "buy_volume"))
    delta, returns = (2 * bought - volume)[1:], np.diff(np.log(close))
    slope = np.polyfit(delta, returns, 1)[0]
    assert last(ordinary, "price_impact(60)") == pytest.approx(slope * volume[1:].mean(), rel=1e-8)
    rooted = np.sign(delta) * np.sqrt(np.abs(delta * close[1:]))
    assert last(ordinary, "hasbrouck_lambda(60)") == pytest.approx(1e3 * np.polyfit(rooted, returns, 1)[0], rel=1e-8)
    assert signed_root(np.array([-4.0, 0.0, 9.0])).tolist() == [-2.0, 0.0, 3.0]
    assert hasbrouck_lambda.__doc__ is not None


def books(rows: int = 200) -> Bars:
    """Ten levels that share one cause, ever less of it further down."""
    rng = np.random.default_rng(7)
    cause = rng.normal(0, 100, rows)
    levels = {f"ofi_{k}": cause / k + rng.normal(0, 5, rows) for k in range(1, 11)}
    return bars_of(
        rows_of("BOOK", 1e-3 * rng.standard_normal(rows)).with_columns(**{k: pl.Series(v) for k, v in levels.items()})
    )


def test_the_integrated_imbalance_is_the_first_principal_component_of_the_levels() -> None:
    bars = books()
    each = resolve("integrated_ofi")
    assert isinstance(each, FittedFeature)
    numbers = each.fit(bars)
    weights = np.array([numbers[f"weight_{k}"] for k in range(1, 11)])
    levels = bars.frame.select(f"ofi_{k}" for k in range(1, 11)).to_numpy()
    _, _, directions = np.linalg.svd(levels - levels.mean(axis=0))
    first = directions[0] / np.abs(directions[0]).sum()
    np.testing.assert_allclose(weights, first * np.sign(first.sum()), rtol=1e-6, atol=1e-9)
    assert weights.sum() == pytest.approx(1, rel=1e-6)
    assert np.all(np.diff(weights) < 0)
    feature = each.freeze(numbers)
    values = compute(bars, [feature])["integrated_ofi"].to_numpy()
    np.testing.assert_allclose(values, levels @ weights / np.std(levels @ weights), rtol=1e-9)
    assert first_component(-levels).sum() > 0
    certify(feature)


def test_a_book_that_never_changes_has_no_component() -> None:
    each = resolve("integrated_ofi")
    assert isinstance(each, FittedFeature)
    with pytest.raises(NotEnoughHistory, match="BOOK has 20 to train on"):
        each.fit(books(20))
    with pytest.raises(NotEnoughHistory, match="BOOK has 49 to train on"):
        each.fit(books(49))
    assert len(each.fit(books(50))) == 11
    still = bars_of(books(100).frame.with_columns(pl.lit(0.0).alias(f"ofi_{k}") for k in range(1, 11)))
    with pytest.raises(NotEnoughHistory, match="ten levels that change"):
        each.fit(still)


def test_imbalances_of_the_book_are_measured_by_their_own_deviation_and_by_its_size() -> None:
    bars = books()
    frame = bars.frame.with_columns(bid_size=pl.lit(3.0), ask_size=pl.lit(5.0))
    bars = bars_of(frame)
    levels = frame.select(f"ofi_{k}" for k in range(1, 11)).to_numpy()
    for text, series in (("ofi_zscore(50)", levels[:, 0]), ("deep_ofi_zscore(50)", levels.sum(axis=1))):
        expected = (series[-1] - series[-50:].mean()) / series[-50:].std(ddof=1)
        assert last(bars, text) == pytest.approx(expected, rel=1e-9)
    assert last(bars, "ofi_of_depth(50)") == pytest.approx(levels[-1, 0] / 4, rel=1e-12)


SCALED: list[Any] = [
    *("flow_run(4)", "tick_direction(5)", "imbalance_zscore(9)", "cvd_slope(9)", "cvd_divergence(9)"),
    *("flow_acceleration(5)", "flow_autocorrelation(2, 9)", "vpin(30, 7)", "bulk_vpin(20, 5)"),
    *("price_impact(9)", "roll_spread(9)", "corwin_schultz(3)", "abdi_ranaldo(3)"),
]


@pytest.mark.parametrize(
    "text", [*SCALED, "hasbrouck_lambda(9)", "ofi_zscore(9)", "ofi_of_depth(9)", "deep_ofi_zscore(9)"]
)
def test_flow_and_liquidity_are_told_from_their_lookback_alone(text: str) -> None:
    assert certify(plain(text)).memory <= plain(text).lookback


@pytest.mark.parametrize("text", SCALED)
def test_no_unit_of_price_or_volume_changes_them(text: str, ordinary: Bars) -> None:
    prices, volumes = ("open", "high", "low", "close"), ("volume", "buy_volume")
    other = bars_of(ordinary.frame.with_columns(pl.col(prices) * 1024, pl.col(volumes) / 4096))
    assert values(other, text) == values(ordinary, text)


@pytest.mark.parametrize(("high", "low", "moved"), [(112.0, 110.0, 9.0), (92.0, 90.0, -9.0)])
def test_a_bar_that_jumped_away_is_moved_back_to_the_close_before(high: float, low: float, moved: float) -> None:
    """Corwin & Schultz (2012): a low above the close of 101 before, or a high below it, moves both to it."""
    jumped = corwin_schultz_pairs(np.array([102.0, high]), np.array([100.0, low]), np.array([101.0, high]))
    back = corwin_schultz_pairs(
        np.array([102.0, high - moved]), np.array([100.0, low - moved]), np.array([101.0, high])
    )
    assert jumped[1] == back[1]
