"""Quotes, side data, and what is usual at an hour, against worked examples and slow copies of their formulas."""

import math
from datetime import timedelta

import numpy as np
import polars as pl
import pytest

from lab.errors import NotEnoughHistory
from lab.features import book, compute, plain, resolve
from lab.features.certificate import certify
from lab.features.seasonality import har_terms, regressed
from lab.nouns import Bars, FittedFeature, Vector
from tests.conftest import bars_of, rows_of


def quoted(rows: int, **columns: object) -> Bars:
    """Bars at a price of 100 with the given columns, each a number or one a bar."""
    frame = rows_of("BOOK", np.zeros(rows), volume=np.full(rows, 10.0))
    for name, value in columns.items():
        column = pl.lit(float(value)) if isinstance(value, int | float) else pl.Series(value, dtype=pl.Float64)
        frame = frame.with_columns(column.alias(name))
    return bars_of(frame)


def values(bars: Bars, text: str) -> Vector:
    feature = plain(text)
    return compute(bars, [feature])[feature.name].to_numpy()


def test_the_weighted_middle_is_the_one_of_the_authors_example() -> None:
    """facts/microstructure.md, section 3: three published quotes of BAC."""
    bars = quoted(3, bid=14.33, ask=14.34, bid_size=[20, 25, 31], ask_size=[471, 148, 95])
    assert (14.335 * np.exp(values(bars, "weighted_middle"))).round(6).tolist() == [14.330407, 14.331445, 14.332460]
    share = (1 + values(bars, "book_pressure")) / 2
    assert share.round(6).tolist() == [0.040733, 0.144509, 0.246032]


def test_pressure_is_of_sizes_and_unknown_where_there_are_none() -> None:
    bars = quoted(3, bid_size=[3, 0, 1], ask_size=[1, 0, 3])
    found = values(bars, "book_pressure")
    assert found[[0, 2]].tolist() == [0.5, -0.5]
    assert math.isnan(found[1])
    steady = quoted(4, bid_size=[3, 3, 1, 1], ask_size=1.0)
    assert values(steady, "mean_pressure(4)")[-1] == pytest.approx(0.25)


def test_a_spread_is_a_share_of_the_middle_and_a_crossed_book_has_none() -> None:
    bars = quoted(5, bid=[99.0, 99.5, 101.0, 98.0, 99.0], ask=[101.0, 100.5, 99.0, 102.0, 99.0])
    found = values(bars, "relative_spread")
    assert found[[0, 1, 3, 4]].tolist() == pytest.approx([0.02, 0.01, 0.04, 0.0])
    assert math.isnan(found[2])
    assert values(bars, "spread_change")[1] == pytest.approx(math.log(0.5))
    assert values(bars, "spread_change(3)")[3] == pytest.approx(math.log(2))


def test_the_micro_price_is_told_by_its_distance_from_the_middle() -> None:
    assert values(quoted(1, bid=99, ask=101, micro_price=100.5), "micro_deviation") == pytest.approx(math.log(1.005))


def test_the_sizes_quoted_change_by_their_logarithm() -> None:
    bars = quoted(3, bid_size=[1, 2, 3], ask_size=[1, 2, 5])
    assert values(bars, "quoted_size_change(2)")[-1] == pytest.approx(math.log(4))


def test_the_worked_spreads_effective_realised_and_impact() -> None:
    """Section 2: middle 100, a buy at 100.05, later middle 100.03: 10, 4 and 6 basis points, known only later."""
    bars = quoted(
        3, bid=[99.99, 100.01, 100.02], ask=[100.01, 100.03, 100.04], vwap=[100, 100.05, 100], buy_volume=[9, 9, 9]
    )
    assert values(bars, "effective_spread(1)")[1] == pytest.approx(10e-4, rel=1e-9)
    assert values(bars, "realised_spread(1, 1)")[2] == pytest.approx(4e-4, rel=1e-9)
    assert values(bars, "quote_impact(1, 1)")[2] == pytest.approx(6e-4, rel=1e-9)
    sold = quoted(
        3, bid=[99.99, 99.97, 99.96], ask=[100.01, 99.99, 99.98], vwap=[100, 99.95, 100], buy_volume=[1, 1, 1]
    )
    assert values(sold, "effective_spread(1)")[1] == pytest.approx(10e-4, rel=1e-9)
    assert values(sold, "quote_impact(1, 1)")[2] == pytest.approx(6e-4, rel=1e-9)
    balanced = quoted(3, bid=99.99, ask=100.01, vwap=100.05, buy_volume=5.0)
    assert np.isnan(values(balanced, "effective_spread(1)")).all()


@pytest.mark.parametrize("text", ["effective_spread(4)", "realised_spread(4, 2)", "quote_impact(4, 2)"])
def test_spreads_of_many_trades_are_means_of_those_of_each(text: str) -> None:
    """Huang & Stoll (1996), trade by trade; impact is how far the middle went, of which no price is part."""
    rng = np.random.default_rng(10)
    middle, rows = 100 + np.cumsum(rng.normal(0, 1, 30)), range(3, 30)
    vwap, side = middle + rng.normal(0, 1, 30), rng.choice([-1.0, 1.0], 30)
    bars = quoted(30, bid=middle - 0.5, ask=middle + 0.5, vwap=vwap, buy_volume=5 + 3 * side)
    of_trade = {
        "effective_spread(4)": [2 * side[t] * (vwap[t] - middle[t - 1]) / middle[t - 1] for t in rows],
        "realised_spread(4, 2)": [2 * side[t - 2] * (vwap[t - 2] - middle[t]) / middle[t - 3] for t in rows],
        "quote_impact(4, 2)": [2 * side[t - 2] * (middle[t] - middle[t - 3]) / middle[t - 3] for t in rows],
    }[text]
    expected = [math.fsum(of_trade[k - 4 : k]) / 4 for k in range(4, len(of_trade) + 1)]
    assert values(bars, text)[6:].tolist() == pytest.approx(expected, rel=1e-9)


def test_a_log_ratio_of_nothing_is_missing_and_not_infinite() -> None:
    with np.errstate(divide="ignore"):
        assert np.isnan(book.finite(np.log(np.array([0.0, 1.0])))).tolist() == [True, False]


def zscore(x: Vector, window: int) -> float:
    return float((x[-1] - x[-window:].mean()) / x[-window:].std(ddof=1))


def test_what_is_published_beside_the_bars_is_measured_against_its_own_past() -> None:
    rng = np.random.default_rng(9)
    signed, positive = rng.normal(0, 1e-4, 60), rng.lognormal(0, 0.3, 60)
    bars = quoted(
        60,
        funding_rate=signed,
        premium=signed,
        depth_slope=positive,
        accounts_ratio=positive,
        bid=100,
        ask=100 + positive,
    )
    for text, series in (
        ("funding_zscore(30)", signed),
        ("premium_zscore(30)", signed),
        ("depth_slope_zscore(30)", positive),
        ("accounts_zscore(30)", np.log(positive)),
        ("spread_zscore(30)", positive / (100 + positive / 2)),
    ):
        assert values(bars, text)[-1] == pytest.approx(zscore(series, 30), rel=1e-8), text
    assert values(bars, "funding_change(7)")[-1] == pytest.approx(signed[-1] - signed[-8], rel=1e-9)
    assert values(bars, "accounts_change(7)")[-1] == pytest.approx(math.log(positive[-1] / positive[-8]), rel=1e-9)


def test_interest_changes_by_its_logarithm_and_mood_on_its_scale() -> None:
    bars = quoted(3, open_interest=[100, 150, 200], mood=[0, 100, 75])
    assert values(bars, "open_interest_change(2)")[-1] == pytest.approx(math.log(2))
    assert values(bars, "mood_level").tolist() == [-1.0, 1.0, 0.5]
    assert values(bars, "mood_change(1)")[1:].tolist() == [1.0, -0.25]
    assert values(bars, "mood_change(2)")[-1] == 0.75


@pytest.mark.parametrize(
    "text",
    [
        *("relative_spread", "spread_zscore(9)", "spread_change(3)", "book_pressure", "mean_pressure(5)"),
        *("weighted_middle", "micro_deviation", "depth_slope_zscore(9)", "quoted_size_change(3)"),
        *("effective_spread(4)", "realised_spread(4, 2)", "quote_impact(4, 2)"),
        *("funding_zscore(9)", "funding_change(5)", "open_interest_change(5)", "premium_zscore(9)"),
        *("accounts_zscore(9)", "accounts_change(5)", "mood_level", "mood_change(5)"),
    ],
)
def test_quotes_are_told_from_their_lookback_alone(text: str) -> None:
    assert certify(plain(text)).memory <= plain(text).lookback


@pytest.mark.parametrize(
    "text",
    [
        "relative_spread",
        "spread_zscore(9)",
        "book_pressure",
        "micro_deviation",
        "effective_spread(4)",
        "quote_impact(4, 2)",
    ],
)
def test_no_unit_of_price_or_size_changes_a_quote(text: str) -> None:
    rng = np.random.default_rng(3)
    middle = 100 * np.exp(np.cumsum(rng.normal(0, 1e-3, 60)))
    prices = {"bid": middle - 0.01, "ask": middle + 0.01, "vwap": middle + 0.002, "micro_price": middle + 0.001}
    sizes = {"bid_size": rng.lognormal(0, 1, 60), "ask_size": rng.lognormal(0, 1, 60)}
    bought = rng.uniform(1, 9, 60)
    bars = quoted(60, buy_volume=bought, **prices, **sizes)
    other = quoted(
        60, buy_volume=bought, **{k: v * 1024 for k, v in prices.items()}, **{k: v / 4096 for k, v in sizes.items()}
    )
    assert values(other, text)[10:].tolist() == values(bars, text)[10:].tolist()


def test_the_regression_of_corsi_is_the_worked_one() -> None:
    """facts/microstructure.md, section 4.2: 178 rows, least squares by another library's arithmetic."""
    t = np.arange(200)
    variance = 1 + 0.5 * np.sin(t / 7) + 0.2 * np.cos(t / 3) + 0.1 * np.sin(1.7 * t)
    slopes = regressed([variance])
    assert slopes.tolist() == pytest.approx([0.27729067, 0.95934762, 0.00050785, -0.23904644], abs=5e-9)
    assert float(har_terms(variance, np.array([1]))[-1] @ slopes) == pytest.approx(0.59681914, abs=1e-8)


def seasonal_market(rows: int = 4000, hours: int = 24) -> Bars:
    """Hour-of-day volume and volatility that swing threefold, on bars of five minutes."""
    rng = np.random.default_rng(11)
    frame = rows_of("DAY", np.zeros(rows), interval="5m")
    hour = frame.select((pl.col("time") - pl.duration(microseconds=1)).dt.hour()).to_series().to_numpy()
    swing = 1 + np.sin(2 * np.pi * hour / 24) ** 2 * 2
    made = rows_of(
        "DAY", 1e-3 * swing * rng.standard_normal(rows), volume=100 * swing * rng.lognormal(0, 0.2, rows), interval="5m"
    )
    return Bars.of(made.filter(pl.Series(hour < hours)), "5m")


def test_what_is_usual_at_an_hour_is_the_mean_of_its_logarithms() -> None:
    bars = seasonal_market()
    hour = bars.frame.select((pl.col("time") - pl.duration(microseconds=1)).dt.hour()).to_series().to_numpy()
    volume = np.log(bars.frame["volume"].to_numpy())
    moves = np.concatenate([[np.nan], np.log(np.abs(np.diff(np.log(bars.frame["close"].to_numpy()))))])
    found = {}
    for name in ("seasonal_volume", "seasonal_volatility", "usual_volatility_now"):
        each = resolve(name)
        assert isinstance(each, FittedFeature)
        feature = each.freeze(each.fit(bars))
        found[name] = compute(bars, [feature])[name].to_numpy()
        certify(feature)
    assert found["seasonal_volume"].size == 4000
    by_hour = {h: (volume[hour == h].mean(), np.nanmean(moves[hour == h])) for h in range(24)}
    day = np.mean([usual[1] for usual in by_hour.values()])
    for t in (5, 700, 3999):
        usual_volume, usual_move = by_hour[int(hour[t])]
        assert found["seasonal_volume"][t] == pytest.approx(volume[t] - usual_volume, rel=1e-9, abs=1e-12)
        assert found["seasonal_volatility"][t] == pytest.approx(math.exp(moves[t] - usual_move), rel=1e-9)
        assert found["usual_volatility_now"][t] == pytest.approx(math.exp(usual_move - day), rel=1e-9)


def test_an_hour_that_training_never_saw_has_nothing_usual() -> None:
    each = resolve("seasonal_volume")
    assert isinstance(each, FittedFeature)
    feature = each.freeze(each.fit(seasonal_market(hours=12)))
    values = compute(seasonal_market(), [feature])
    hour = (values["time"] - timedelta(microseconds=1)).dt.hour().to_numpy()
    np.testing.assert_array_equal(values["seasonal_volume"].is_null().to_numpy(), hour >= 12)


def test_har_expects_what_its_regression_says_and_distrusts_what_training_never_saw() -> None:
    bars = seasonal_market()
    each = resolve("har_vol")
    assert isinstance(each, FittedFeature)
    numbers = dict(each.fit(bars))
    feature = each.freeze(numbers)
    values = compute(bars, [feature])["har_vol"].to_numpy()
    high, low = (bars.frame[name].to_numpy() for name in ("high", "low"))
    variance = np.log(high / low) ** 2 / (4 * math.log(2))
    means = [variance[-1], variance[-5:].mean(), variance[-22:].mean()]
    expected = numbers["intercept"] * numbers["scale"]
    expected += sum(numbers[f"slope_{k}"] * mean for k, mean in zip((1, 5, 22), means, strict=True))
    assert values[-1] == pytest.approx(math.sqrt(expected), rel=1e-9)
    certify(feature)
    doubtful = each.freeze(numbers | {"most": 1e-9})
    assert compute(bars, [doubtful])["har_vol"][-1] == pytest.approx(math.sqrt(numbers["scale"]), rel=1e-12)


@pytest.mark.parametrize("name", ["seasonal_volume", "seasonal_volatility", "usual_volatility_now", "har_vol"])
def test_a_usual_day_needs_history(name: str) -> None:
    each = resolve(name)
    assert isinstance(each, FittedFeature)
    with pytest.raises(NotEnoughHistory, match="DAY has"):
        each.fit(seasonal_market(rows=100))
