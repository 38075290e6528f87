"""What every registered feature must obey: it sees its last `lookback` bars, nothing ahead, nothing elsewhere."""

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from lab.errors import LookAhead, UsageError
from lab.features import FEATURES, Latest, Recent, compute, compute_fitted, computing, fit, latest, own, plain, resolve
from lab.features.certificate import certify
from lab.features.certificates import certified
from lab.features.extremes import highest
from lab.features.garch import LARGEST_BETA
from lab.features.windows import lag, rolling_mean
from lab.nouns import PRICES, Bars, Feature, FittedFeature, Formula, Numbers, Span, Vector
from tests.conftest import bars_of, hostile_frames, rows_of, two_state_moves, with_side_columns

REGISTERED = frozenset(FEATURES)

# How a feature grows with prices and with volumes; every other one has no unit at all.
UNITS = {"cvd": (0, 1), "kyle_lambda": (1, -1), "amihud": (-1, -1), "hasbrouck_lambda": (-0.5, -0.5)}
# ln(V + 1), as published, counts in some unit; the others in that of the bars that they were fitted on.
OF_A_UNIT = {"seasonal_volume", "integrated_ofi"} | {f"alpha_corr_{window}" for window in (5, 10, 20, 30, 60)}


@pytest.fixture(scope="module")
def everything(ordinary: Bars) -> dict[str, Feature]:
    """Every registered feature by the name it is registered under; the fitted ones fitted on the ordinary market."""
    found = {name: resolve(name) for name in sorted(REGISTERED)}
    fits = fit(ordinary, [each for each in found.values() if isinstance(each, FittedFeature)])
    return {
        name: each if isinstance(each, Feature) else each.freeze(fits[each.name]["PLAIN"])
        for name, each in found.items()
    }


@pytest.fixture(scope="module")
def alone(everything: dict[str, Feature]) -> list[Feature]:
    """Those that look at one symbol; the certificate proves the others."""
    return [each for each in everything.values() if not each.across]


def by_lookback(features: Sequence[Feature]) -> list[tuple[int, list[Feature]]]:
    """Features that look equally far back, together, so that one slice serves them all."""
    groups: dict[int, list[Feature]] = defaultdict(list)
    for each in features:
        groups[each.lookback].append(each)
    return sorted(groups.items())


def slices(bars: Bars, lookback: int) -> Iterator[tuple[int, int, pl.DataFrame]]:
    """Every row with `lookback` bars of its stretch: its number, the age of the first of them, and them alone."""
    ages = bars.age.to_list()
    for row, age in enumerate(ages):
        if age >= lookback:
            yield row, age - lookback + 1, bars.frame.slice(row + 1 - lookback, lookback)


def same_number(a: float | None, b: float) -> bool:
    """The same null, or the same number but for the rounding of a sum that was cut elsewhere."""
    if a is None or math.isnan(b):
        return a is None and math.isnan(b)
    return math.isclose(a, b, rel_tol=1e-9, abs_tol=1e-12)


def differences(
    bars: Bars, features: Sequence[Feature], same: Callable[[float | None, float], bool], aged: bool
) -> tuple[Counter[str], list[tuple[Any, ...]]]:
    """How many rows of each feature were recomputed from their look-back alone, and those that came out different."""
    whole = compute(bars, features)
    compared: Counter[str] = Counter()
    wrong = []
    for lookback, group in by_lookback(features):
        names = [each.name for each in group]
        values = whole.select(names).rows()
        for row, age, last_bars in slices(bars, lookback):
            alone = latest(Recent.of(last_bars, age if aged else 1), group)
            compared.update(names)
            wrong += [
                (name, row, then, now)
                for name, then, now in zip(names, values[row], alone, strict=True)
                if not same(then, now)
            ]
    return compared, wrong


def same_bits(a: float | None, b: float) -> bool:
    return (a is None and math.isnan(b)) or a == b


def hostile_beyond(lookback: int) -> Bars:
    """A hostile market with so many rows that some lie beyond a look-back, whatever it is."""
    rows = 100 + next(size for size in (0, 100, 400, 1000, 3000, 6000, 15_000) if lookback <= max(size, 40))
    frames = hostile_frames(rows)
    return bars_of(*(with_side_columns(frames[symbol]) for symbol in ("DUST", "SLEEPY")))


def test_every_registered_feature_stands_before_the_laws(everything: dict[str, Feature]) -> None:
    assert set(everything) == REGISTERED
    assert len({each.name for each in everything.values()}) == len(REGISTERED)
    assert set(UNITS) < REGISTERED


# Whose memory ends with a block of rows: from the bars alone, without their number, it is another memory.
OF_ITS_AGE = {"kama_distance"}


@pytest.mark.parametrize("aged", [False, True])
def test_any_row_of_a_hostile_market_can_be_recomputed_from_its_lookback_alone(
    alone: list[Feature], aged: bool
) -> None:
    """To rounding from the bars alone; to the bit by who also knows their number, as live trading does."""
    assert OF_ITS_AGE < REGISTERED
    ageless = [each for each in alone if not any(each.name.startswith(name) for name in OF_ITS_AGE)]
    for lookback, group in by_lookback(alone if aged else ageless):
        market = hostile_beyond(lookback)
        compared, wrong = differences(market, group, same_bits if aged else same_number, aged)
        assert compared == {each.name: int((market.age >= lookback).sum()) for each in group}
        assert min(compared.values()) >= 60
        assert wrong == []


def test_stretches_laid_end_to_end_give_each_its_own_bits(everything: dict[str, Feature]) -> None:
    """As live lays the bars of all symbols: of other markets, at other ages, in any order."""
    laid = [each for each in everything.values() if each.end_to_end]
    assert len(laid) > 300
    for lookback, group in by_lookback(laid):
        market = with_compared(hostile_beyond(lookback), group)
        found = [Recent.of(rows, age) for _, age, rows in slices(market, lookback)]
        some = found[:: max(len(found) // 12, 1)][::-1]
        together = Latest(group).of(some)
        alone = np.vstack([Latest(group).of([each]) for each in some])
        assert len({each.age for each in some}) > 5
        np.testing.assert_array_equal(together, alone, f"{[each.name for each in group]}")


def with_compared(bars: Bars, features: Sequence[Feature]) -> Bars:
    """The bars with what features across symbols take beside them."""
    return replace(bars, frame=bars.frame.hstack(computing.compared(bars, features)))


def test_a_young_symbol_among_grown_ones_is_null_and_changes_none_of_them() -> None:
    features = [plain(text) for text in ("sma_distance(50)", "kama_distance", "log_return")]
    bars = bars_of(rows_of("GROWN", two_state_moves(700, 0.01, (1e-3, 4e-3), 5)))
    grown, young = Recent.of(bars.frame), Recent.of(bars.frame.head(60))
    together = Latest(features).of([young, grown])
    np.testing.assert_array_equal(together[1], latest(grown, features))
    np.testing.assert_array_equal(together[0], latest(young, features))
    assert np.isnan(together).tolist() == [[False, True, False], [False, False, False]]


def test_parts_of_any_size_give_the_same_bits(alone: list[Feature], monkeypatch: pytest.MonkeyPatch) -> None:
    market = hostile_beyond(400)
    features = [each for each in alone if each.lookback <= 400]
    whole = compute(market, features)
    monkeypatch.setattr(computing, "PART_ROWS", 170)
    monkeypatch.setattr(computing, "LARGE", 1)  # on every core
    assert len(features) > 200
    assert compute(market, features).equals(whole)


def frozen(text: str, numbers: Numbers) -> Feature:
    """A fitted feature with numbers that no market had to be found for."""
    each = resolve(text)
    assert isinstance(each, FittedFeature)
    return each.freeze(numbers)


def test_the_longest_memory_that_fitting_garch_allows_holds_too() -> None:
    numbers = {"mu": 0.01, "omega": 0.01, "alpha": 0.004, "beta": LARGEST_BETA, "scale": 2e-3}
    features = [frozen("garch_vol", numbers), frozen("garch_shock", numbers)]
    longest = max(each.lookback for each in features)
    assert longest > 2000
    moves = two_state_moves(longest + 40, 0.01, (1e-3, 4e-3), seed=5)
    compared, wrong = differences(bars_of(rows_of("LONG", moves)), features, same_number, aged=False)
    assert compared == {"garch_vol": 42, "garch_shock": 41}
    assert wrong == []


def test_a_filter_whose_regimes_hardly_end_gives_the_same_bits_to_a_slice_that_knows_its_age() -> None:
    """Left once in 1,000 bars is where the fit stops: such a filter never forgets its start, so that must be fixed."""
    states = {"calm_mean": 0.0, "calm_sd": 0.8, "leave_calm": 0.001}
    states |= {"volatile_mean": 0.0, "volatile_sd": 1.2, "leave_volatile": 0.001, "scale": 2e-3}
    feature = frozen("volatile_regime", states)
    assert feature.lookback == 501
    bars = bars_of(rows_of("LONG", two_state_moves(1300, 0.01, (1.6e-3, 2.4e-3), 5)))
    values = compute(bars, [feature])[feature.name].to_list()
    alone = {row: latest(Recent.of(rows, age), [feature])[0] for row, age, rows in slices(bars, 501)}
    assert list(alone) == list(range(500, 1300))
    assert alone == dict(enumerate(values[500:], start=500))
    assert len(set(alone.values())) == 800


def test_before_its_lookback_a_feature_is_null_and_afterwards_it_has_values(everything: dict[str, Feature]) -> None:
    """Six symbols that share nothing: what looks across them has something to look at."""
    frames = [
        with_side_columns(rows_of(name, two_state_moves(3000, 0.3, (0.0005, 0.005), seed=seed), seed=seed), seed)
        for seed, name in enumerate("ABCDEF")
    ]
    bars = bars_of(*frames)
    features = list(everything.values())
    values = compute(bars, features)
    assert values.columns == ["symbol", "time", *(each.name for each in features)]
    assert values.height == bars.frame.height
    early = {each.name: values.filter(bars.age < each.lookback)[each.name] for each in features}
    assert {name: column.null_count() for name, column in early.items()} == {
        each.name: 6 * (each.lookback - 1) for each in features
    }
    known = {each.name: values[each.name].drop_nulls() for each in features}
    assert {name for name, column in known.items() if column.is_empty()} == set()
    assert {name for name, column in known.items() if not column.is_finite().all()} == set()


# Every bar of their windows must have traded.
OF_TRADING_MARKETS = {"effective_spread_20", "quote_impact_20_5", "realised_spread_20_5"}


def test_on_a_hostile_market_a_feature_is_finite_or_null_and_never_nan(alone: list[Feature]) -> None:
    for lookback, group in by_lookback(alone):
        values = compute(hostile_beyond(lookback), group).drop("symbol", "time")
        known = {name: values[name].drop_nulls() for name in values.columns}
        assert {name: int((~column.is_finite()).sum()) for name, column in known.items()} == dict.fromkeys(known, 0)
        assert {name for name, column in known.items() if column.is_empty()} <= OF_TRADING_MARKETS


def poisoned(bars: Bars, row: int, how: str) -> Bars:
    """`bars` with every row after `row` changed; those up to it as they were."""
    past, future = bars.frame.head(row + 1), bars.frame.slice(row + 1)
    shuffled = future.select(pl.col(pl.Float64)).sample(fraction=1, shuffle=True, seed=row)
    changed = {
        "times a million": future.with_columns(pl.col(pl.Float64) * 1e6),
        "shuffled": future.with_columns(shuffled),
        "shuffled times a million": future.with_columns(shuffled * 1e6),
        "another symbol": future.with_columns(symbol=pl.lit("ZZZ")),
        "a minute later": future.with_columns(pl.col("time") + pl.duration(minutes=1)),
        "absent": future.clear(),
    }
    return Bars.of(pl.concat([past, changed[how]]), bars.interval, bars.calendar)


def changed_past(bars: Bars, row: int, how: str, features: Sequence[Feature], honest: pl.DataFrame) -> list[str]:
    """Features of which a value at or before `row` changes, by as much as a bit, with the bars after it."""
    values = compute(poisoned(bars, row, how), features).head(row + 1)
    return [each.name for each in features if not values[each.name].equals(honest[each.name].head(row + 1))]


@pytest.mark.parametrize("how", ["times a million", "shuffled", "another symbol", "a minute later", "absent"])
def test_no_bar_after_t_changes_anything_at_or_before_t(alone: list[Feature], how: str) -> None:
    """The certificate tries every row; this, with other futures, the rows around where values begin and end."""
    for lookback, group in by_lookback(alone):
        bars = bars_of(with_side_columns(rows_of("SMALL", two_state_moves(lookback + 40, 0.2, (1e-3, 6e-3), seed=3))))
        honest = compute(bars, group)
        rows = {lookback - 1, lookback, lookback + 7, lookback + 38}
        assert {row: changed_past(bars, row, how, group, honest) for row in rows} == {row: [] for row in rows}


def test_every_unbroken_stretch_is_computed_as_if_it_were_alone(alone: list[Feature], hostile: Bars) -> None:
    features = alone
    assert sorted(length for _, length in hostile.stretches()) == [1, 2, 2, 3, 22, 70, 100, 100, 100]
    apart = [compute(Bars(hostile.frame.slice(at, rows), "1m"), features) for at, rows in hostile.stretches()]
    assert pl.concat(apart).equals(compute(hostile, features))


def test_a_weekend_is_no_gap_where_bars_are_due_on_weekdays(alone: list[Feature]) -> None:
    """The same daily bars: unbroken over the weekends of a stock, seven bits and pieces round the clock."""
    steps = [3 if day % 5 == 0 else 1 for day in range(200)]
    steps[150] = 21
    moves = two_state_moves(200, 0.2, (1e-3, 6e-3), seed=3)
    frame = with_side_columns(rows_of("STOCK", moves, steps=steps, interval="1d"))
    stock = Bars.of(frame, "1d", "weekdays")
    assert stock.stretches() == [(0, 150), (150, 50)]
    features = alone
    apart = [compute(Bars(stock.frame.slice(*at), "1d", "weekdays"), features) for at in stock.stretches()]
    assert pl.concat(apart).equals(compute(stock, features))
    assert compute(stock, features)["realised_vol_20"].null_count() == 2 * 20
    assert compute(Bars.of(frame, "1d"), features)["realised_vol_20"].null_count() == 200


def test_a_market_is_computed_the_same_in_whatever_company(alone: list[Feature], hostile: Bars) -> None:
    features = alone
    together = compute(hostile, features)
    assert hostile.symbols == ["DUST", "GIANT", "SLEEPY", "UNKNOWN"]
    for symbol in hostile.symbols:
        assert compute(hostile.of_symbol(symbol), features).equals(together.filter(pl.col("symbol") == symbol))


PRICED = (*PRICES, "vwap", "bid", "ask", "spread", "micro_price")
COUNTED = ("volume", "buy_volume", "bid_size", "ask_size", *(f"ofi_{level}" for level in range(1, 11)))


def scaled(bars: Bars, prices: float, volumes: float) -> Bars:
    """The same market in other units, e.g. of cents and of thousands."""
    factors = dict.fromkeys(PRICED, prices) | dict.fromkeys(COUNTED, volumes) | {"quote_volume": prices * volumes}
    known = {name: factor for name, factor in factors.items() if name in bars.frame.columns}
    return Bars(bars.frame.with_columns(pl.col(name) * factor for name, factor in known.items()), "1m")


@pytest.mark.parametrize(("prices", "volumes"), [(10, 0), (-8, 0), (0, 8), (6, -12)])
def test_other_units_of_price_and_volume_change_only_the_features_that_have_units(
    alone: list[Feature], prices: int, volumes: int
) -> None:
    """By powers of two, which are exact: not a bit may change."""
    changed = []
    for lookback, group in by_lookback(alone):
        market = hostile_beyond(lookback)
        grown = compute(scaled(market, 2.0**prices, 2.0**volumes), group)
        powers = {each.name: UNITS.get(own_name(each), (0, 0)) for each in group}
        expected = compute(market, group).with_columns(
            pl.col(name) * 2.0 ** (prices * price + volumes * volume) for name, (price, volume) in powers.items()
        )
        changed += [name for name in expected.columns if not grown[name].equals(expected[name])]
    assert set(changed) - OF_A_UNIT == set()


def own_name(feature: Feature) -> str:
    """The name under which a feature is registered."""
    return max((name for name in REGISTERED if feature.name.startswith(name)), key=len)


def test_fitted_numbers_do_not_depend_on_the_unit_of_price(ordinary: Bars) -> None:
    fitted = [each for each in map(resolve, sorted(REGISTERED)) if isinstance(each, FittedFeature)]
    assert len(fitted) > 10
    assert fit(ordinary, fitted) == fit(scaled(ordinary, 2.0**9, 1.0), fitted)


def test_fitting_reads_training_bars_and_no_others(ordinary: Bars, hostile: Bars) -> None:
    """Two symbols, one cut: what comes after it, and the other symbol, change no number."""
    fitted = [each for each in map(resolve, sorted(REGISTERED)) if isinstance(each, FittedFeature)]
    cut = ordinary.frame["time"][1000]
    train = Span(ordinary.frame["time"][0], cut)
    alone = fit(ordinary.within(train), fitted)
    wild = poisoned(ordinary, 999, "shuffled").frame
    other = with_side_columns(rows_of("OTHER", two_state_moves(1500, 0.3, (2e-3, 9e-3), seed=11)))
    together = fit(Bars.of(pl.concat([wild, other.select(wild.columns)]), "1m").within(train), fitted)
    assert {name: numbers["PLAIN"] for name, numbers in together.items()} == {
        name: numbers["PLAIN"] for name, numbers in alone.items()
    }
    assert together["garch_vol"]["OTHER"] != together["garch_vol"]["PLAIN"]


def test_every_symbol_is_filtered_with_its_own_numbers(ordinary: Bars) -> None:
    fitted = [each for each in map(resolve, sorted(REGISTERED)) if isinstance(each, FittedFeature)]
    other = with_side_columns(rows_of("OTHER", two_state_moves(1500, 0.3, (2e-3, 9e-3), seed=11)))
    both = Bars.of(pl.concat([ordinary.frame, other.select(ordinary.frame.columns)]), "1m")
    fits = fit(both, fitted)
    values = compute_fitted(both, fitted, fits)
    assert values.select("symbol", "time").equals(both.frame.select("symbol", "time"))
    for symbol in ("OTHER", "PLAIN"):
        own = compute(both.of_symbol(symbol), [each.freeze(fits[each.name][symbol]) for each in fitted])
        assert values.filter(pl.col("symbol") == symbol).equals(own)


# ---- the certificate that a person's own features must earn --------------------------------------------------------

C, V = pl.col("close"), pl.col("volume")
RETURN = (C / C.shift(1)).log()
ON_THE_HALF_HOUR = pl.col("time").dt.minute() == 30
NEW_DAY = pl.col("time").dt.date() != pl.col("time").dt.date().shift(1)

FUTURE: dict[str, tuple[Formula, int]] = {
    "tomorrow": (C.shift(-1) / C - 1, 2),
    "tomorrow_now_and_then": (pl.when(ON_THE_HALF_HOUR).then(C.shift(-1) / C).otherwise(C / C.shift(1)), 2),
    "tomorrow_after_a_fall": (pl.when(RETURN < -4e-3).then(C.shift(-3)).otherwise(C) / C, 2),
    "eve_of_a_new_day": (NEW_DAY.shift(-1).fill_null(False).cast(pl.Float64), 2),
    "centred_mean": (C.rolling_mean(5, center=True) / C, 5),
    "whole_sample_zscore": ((C - C.mean()) / C.std(), 20),
    "backward_fill": (pl.when(V > 30).then(C).backward_fill() / C, 20),
    "interpolated": (pl.when(V > 30).then(C).interpolate() / C, 20),
    "whole_sample_rank": (C.rank() / pl.len(), 20),
    "whole_sample_quantile": ((C.quantile(0.9) < C).cast(pl.Float64), 20),
    "highest_still_to_come": (C.reverse().cum_max().reverse() / C, 20),
    "reversed_rolling_mean": (C.reverse().rolling_mean(5).reverse() / C, 5),
    "bars_that_are_left": (pl.len() - pl.int_range(pl.len()), 1),
    "high_of_the_day": (pl.col("high").max().over(pl.col("time").dt.date()) / C, 1440),
    "last_close": (C / C.last(), 1),
}


def repainting_swing(high: Vector) -> Vector:
    """1 on the bar of a swing high, which nobody knew before two lower bars had followed it."""
    after = np.maximum(lag(high[::-1], 1), lag(high[::-1], 2))[::-1]
    return ((high > lag(high, 1)) & (high > lag(high, 2)) & (high > after)).astype(float)


def confirmed_swing(high: Vector) -> Vector:
    """The same, on the bar that confirms it."""
    return lag(repainting_swing(high), 2)


def unclosed_hour(time: Vector, close: Vector) -> Vector:
    """Change of the hour that a minute lies in, known when the hour is over."""
    first = np.flatnonzero(np.diff((time - 1) // HOUR, prepend=-1))
    last = np.append(first[1:], time.size) - 1
    return np.repeat(close[last] / close[first], np.diff(np.append(first, time.size)))


def closed_hour(time: Vector, close: Vector) -> Vector:
    """Change since the last full hour struck."""
    struck = np.where(time % HOUR == 0, np.arange(time.size), -1)
    at = np.maximum.accumulate(struck)
    return np.where(at >= 0, close / close[at], np.nan)


def busiest_price(close: Vector, volume: Vector, time: Vector, developing: bool) -> Vector:
    """Distance from the price, to 1 %, at which most was traded in the hour: so far, or in all of it."""
    out = np.empty(close.size)
    step = np.round(np.log(close) * 100)
    for t in range(close.size):
        hour = (time - 1) // HOUR == (time[t] - 1) // HOUR
        rows = np.flatnonzero(hour & (time <= time[t])) if developing else np.flatnonzero(hour)
        traded = {level: np.nansum(volume[rows][step[rows] == level]) for level in sorted(set(step[rows]))}
        out[t] = step[t] - max(traded, key=lambda level: traded[level])
    return out


def smoothed_regime(close: Vector) -> Vector:
    """Probability of the volatile of two regimes given all returns: forward, then backward."""
    moved = np.nan_to_num(np.diff(np.log(close), prepend=np.nan))
    likely = np.stack([np.exp(-0.5 * (moved / sd) ** 2) / sd for sd in (1e-3, 4e-3)], axis=1) + 1e-300
    stay = np.array([[0.95, 0.05], [0.05, 0.95]])
    forward, backward = np.empty_like(likely), np.ones_like(likely)
    belief = np.array([0.5, 0.5])
    for t in range(close.size):
        belief = likely[t] * (belief @ stay)
        forward[t] = belief = belief / belief.sum()
    for t in range(close.size - 2, -1, -1):
        backward[t] = stay @ (likely[t + 1] * backward[t + 1])
        backward[t] /= backward[t].sum()
    both = forward * backward
    return both[:, 1] / both.sum(axis=1)


def target_encoding(time: Vector, close: Vector) -> Vector:
    """Mean next return of the minute of the hour, over the whole sample."""
    following = np.append(np.diff(np.log(close)), np.nan)
    minute = time // 60_000_000 % 10
    return np.array([np.nanmean(following[minute == each]) if (minute == each).any() else np.nan for each in minute])


def overwriting(close: Vector) -> Vector:
    """Honest by itself, but it scales the column that all features are given."""
    close *= 2
    return close / 2


HOUR = 3_600_000_000
FUTURE |= {
    "repainting_swing": (repainting_swing, 3),
    "unclosed_hour": (unclosed_hour, 60),
    "final_busiest_price": (lambda close, volume, time: busiest_price(close, volume, time, False), 60),
    "smoothed_regime": (smoothed_regime, 200),
    "target_encoding": (target_encoding, 100),
    "scaled_by_the_whole": (lambda close: close / np.nanmax(close), 5),
    "ahead_only_if_strange": (lambda close: np.where(lag(close[::-1])[::-1] > 1e9, 1.0, 0.0), 1),
    "ahead_of_a_jump": (lambda close: np.where(lag(close[::-1])[::-1] > 1.2 * close, 1.0, 0.0), 1),
}

COUNTING = {
    "age_as_a_value": (pl.col("age").cast(pl.Float64), 20),
    "age_in_a_ratio": (lambda close, age: (age[0] + np.arange(close.size)) / 100, 1),
}

TOO_FAR_BACK: dict[str, tuple[Formula, int]] = {
    "running_total": (RETURN.cum_sum(), 20),
    "since_the_start": (C / C.first(), 20),
    "one_bar_short": (RETURN.rolling_std(20), 20),
    "lag_one_short": (C / C.shift(5), 5),
    "short_memory_of_a_long_average": (C.ewm_mean(span=50, adjust=False) / C, 50),
    "forward_fill_without_end": (pl.when(V > 60).then(C).forward_fill() / C, 20),
    "highest_ever": (pl.col("high").cum_max() / C, 20),
}

HONEST: dict[str, tuple[Formula, int]] = {
    "confirmed_swing": (confirmed_swing, 5),
    "closed_hour": (closed_hour, 61),
    "developing_busiest_price": (lambda close, volume, time: busiest_price(close, volume, time, True), 60),
    "trailing_scale": (lambda close, age: close / highest(close, 5, age), 5),
    "jump_seen": (lambda close: np.where(close > 1.2 * lag(close), 1.0, 0.0), 2),
    "yesterday": (C / C.shift(1) - 1, 2),
    "yesterday_now_and_then": (pl.when(ON_THE_HALF_HOUR).then(C.shift(1) / C).otherwise(1.0), 2),
    "after_a_fall": (pl.when(RETURN < -4e-3).then(C.shift(3)).otherwise(C) / C, 4),
    "first_of_a_new_day": (NEW_DAY.fill_null(False).cast(pl.Float64), 2),
    "trailing_median": (C.rolling_median(20) / C, 20),
    "forward_fill_for_a_while": (pl.when(V > 60).then(C).forward_fill(limit=19) / C, 20),
    "twice_reversed": (C.reverse().shift(-1).reverse() / C, 2),
    "as_far_as_it_says": (RETURN.rolling_max(20), 21),
    "long_memory_of_a_short_average": (C.ewm_mean(span=3, adjust=False) / C, 60),
    "high_of_the_day_so_far": (pl.col("high").cum_max().over(pl.col("time").dt.date()) / C, 1440),
}


def made(name: str, formula: Formula, lookback: int) -> Feature:
    return Feature(name, "mine", "A feature of a person's own.", formula, lookback)


@pytest.mark.parametrize("name", FUTURE)
def test_a_feature_that_reads_the_future_is_refused_by_name_and_the_bar_it_read_is_named(name: str) -> None:
    expected = rf"^feature {name} reads the future: on the \w+ market its value at bar (\d+) changes with bar (\d+)$"
    with pytest.raises(LookAhead, match=expected) as refusal:
        certify(made(name, *FUTURE[name]))
    row, bar = (int(word) for word in refusal.value.problem.split() if word.isdigit())
    assert bar > row
    if "tomorrow" in name:
        assert bar - row == (3 if name == "tomorrow_after_a_fall" else 1)
    assert name in refusal.value.fix


@pytest.mark.parametrize("name", TOO_FAR_BACK)
def test_a_feature_that_looks_further_back_than_it_says_is_refused_by_name(name: str) -> None:
    lookback = TOO_FAR_BACK[name][1]
    expected = (
        rf"^feature {name} declares a look-back of {lookback} bars, but on the \w+ market its value at bar \d+ needs"
    )
    with pytest.raises(LookAhead, match=expected) as refusal:
        certify(made(name, *TOO_FAR_BACK[name]))
    row, oldest = (int(word) for word in refusal.value.problem.split()[-6:] if word.isdigit())
    assert oldest == row + 1 - lookback
    assert refusal.value.fix == f"declare the look-back that {name} has, or bound what it remembers"


@pytest.mark.parametrize("name", COUNTING)
def test_a_feature_whose_value_is_how_many_bars_there_were_is_refused(name: str) -> None:
    with pytest.raises(LookAhead, match=rf"^feature {name} counts bars that lie further back than its look-back of"):
        certify(made(name, *COUNTING[name]))


def test_a_feature_that_writes_into_the_bars_is_refused() -> None:
    with pytest.raises(LookAhead, match=r"^feature overwriting writes into the columns that it is given"):
        certify(made("overwriting", overwriting, 1))


def doubling(close: Vector, age: int) -> Vector:
    mean = rolling_mean(close, 3, age)
    mean *= 2  # another feature may rest on the same average
    return mean


def test_a_feature_that_writes_into_what_others_may_share_is_refused() -> None:
    with pytest.raises(LookAhead, match=r"^feature doubling writes into the columns that it is given"):
        certify(made("doubling", doubling, 3))


@pytest.mark.parametrize(
    ("formula", "problem"),
    [
        (lambda close: close[:-1], "cannot be computed: "),
        (lambda close: close.no_such_thing, "cannot be computed: AttributeError"),
        (lambda close: close * np.nan, "has no value on any market"),
        (pl.col("close").cast(pl.String).str.to_datetime(), "cannot be computed: "),
    ],
)
def test_a_formula_that_does_not_work_is_a_usage_error(formula: Formula, problem: str) -> None:
    with pytest.raises(UsageError, match=f"^feature broken {problem}"):
        certify(made("broken", formula, 1))


@pytest.mark.parametrize("name", HONEST)
def test_an_honest_feature_that_looks_like_a_leak_passes(name: str) -> None:
    assert certify(made(name, *HONEST[name])).memory <= HONEST[name][1]


FILE = '''
import polars as pl
from lab.features import feature


@feature(lookback=2)
def my_change() -> pl.Expr:
    """Simple return."""
    return pl.col("close") / pl.col("close").shift({shift}) - 1
'''


def proved(folder: Path, path: Path, *texts: str) -> None:
    """What a run does of a person's features before it learns from them."""
    own.use(path)
    certified(folder / "certificates", texts)


@pytest.mark.usefixtures("own_registry")
class TestAPersonsOwnFile:
    def test_an_honest_feature_can_be_used_by_its_name(self, tmp_path: Any, ordinary: Bars) -> None:
        path = tmp_path / "mine.py"
        path.write_text(FILE.format(shift=1))
        assert own.use(path) == ["my_change"]
        own.use(path)  # a second experiment of the same process names the same file
        assert set(FEATURES) - REGISTERED == {"my_change"}
        values = compute(ordinary, [plain("my_change")])["my_change"]
        closes = ordinary.frame["close"].to_list()
        assert values.to_list() == [None, *(b / a - 1 for a, b in pairwise(closes))]

    def test_a_leak_is_refused_when_it_is_used(self, tmp_path: Any) -> None:
        path = tmp_path / "mine.py"
        path.write_text(FILE.format(shift=-1))
        with pytest.raises(LookAhead, match=r"^feature my_change reads the future: on the plain market") as refusal:
            proved(tmp_path, path, "rsi(7)", "my_change")
        assert refusal.value.fix == "build my_change from this bar and earlier ones only (shift by 0 or more)"

    @pytest.mark.parametrize(
        ("text", "problem"),
        [
            ("def broken(:", "does not run: SyntaxError: "),
            ("1 / 0", "does not run: ZeroDivisionError: division by zero"),
            ("import no_such_module", "does not run: ModuleNotFoundError: No module named 'no_such_module'"),
            (
                FILE.format(shift=1).replace("my_change", "rsi"),
                "does not run: ValueError: two features are named 'rsi'",
            ),
        ],
    )
    def test_a_file_that_does_not_run_is_a_usage_error(self, tmp_path: Any, text: str, problem: str) -> None:
        path = tmp_path / "mine.py"
        path.write_text(text)
        with pytest.raises(UsageError) as refusal:
            own.use(path)
        assert refusal.value.problem.startswith(f"feature_file {path} {problem}")
        assert set(FEATURES) == REGISTERED

    def test_a_changed_file_is_read_and_certified_again(self, tmp_path: Any) -> None:
        path = tmp_path / "mine.py"
        path.write_text(FILE.format(shift=-1))
        with pytest.raises(LookAhead):
            proved(tmp_path, path, "my_change")
        path.write_text(FILE.format(shift=1))
        proved(tmp_path, path, "my_change")
        path.write_text(FILE.format(shift=-2))
        with pytest.raises(LookAhead):
            proved(tmp_path, path, "my_change")

    def test_the_parameters_it_is_used_with_are_certified(self, tmp_path: Any) -> None:
        path = tmp_path / "mine.py"
        path.write_text(
            "import polars as pl\nfrom lab.features import feature\n\n\n"
            "@feature(lookback=21)\ndef drift(window: int = 20) -> pl.Expr:\n"
            '    """C / C[-window]."""\n    return pl.col("close") / pl.col("close").shift(window)\n'
        )
        proved(tmp_path, path, "drift", "drift(5)")
        with pytest.raises(LookAhead, match=r"^feature drift_50 declares a look-back of 21 bars"):
            proved(tmp_path, path, "drift(50)")

    def test_a_fitted_feature_is_certified_with_its_numbers_held_still(self, tmp_path: Any) -> None:
        path = tmp_path / "mine.py"
        path.write_text(
            "import polars as pl\nfrom lab.features import fitted_feature\n\n\n"
            'def fit(bars):\n    return {"mean": float(bars.frame["close"].mean())}\n\n\n'
            '@fitted_feature(fit=fit, lookback=lambda numbers: 1, needs=["close"])\n'
            "def above(numbers) -> pl.Expr:\n"
            '    """C / mean of training closes, and a look ahead."""\n'
            '    return pl.col("close").shift(-1) / numbers["mean"]\n'
        )
        with pytest.raises(LookAhead, match=r"^feature above reads the future"):
            proved(tmp_path, path, "above")

    @pytest.mark.parametrize("name", ["absent.py", "mine.txt", "."])
    def test_what_is_no_python_file_is_a_usage_error(self, tmp_path: Any, name: str) -> None:
        (tmp_path / "mine.txt").write_text("x = 1")
        with pytest.raises(UsageError) as refusal:
            own.use(tmp_path / name)
        assert refusal.value.problem == f"feature_file {tmp_path / name} is not a Python file"
