"""What a person may write to name a feature, and what features do at the edges."""

import inspect
import math
import os
import subprocess
import sys
from collections.abc import Callable

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lab.errors import MissingColumns, UnknownName, UsageError
from lab.features import FEATURES, compute, compute_fitted, computing, fit, plain, resolve, resolve_all
from lab.features.markets import rough_market
from lab.nouns import Bars, Feature, FittedFeature, Vector
from tests.conftest import bars_of, rows_of, two_state_moves, with_side_columns

# ---- naming --------------------------------------------------------------------------------------------------------


def test_a_feature_is_named_by_what_a_person_writes() -> None:
    """Wilder's average over 20 remembers ln 1e-12 / ln(19/20) = 538.7 changes; a change takes two bars."""
    written = {
        "rsi": ("rsi_14", 374),
        "rsi(20)": ("rsi_20", 540),
        "rsi(window=20)": ("rsi_20", 540),
        " rsi( 20 ) ": ("rsi_20", 540),
        "bollinger_position(20, width=2.5)": ("bollinger_position_20_2.5", 20),
        "bollinger_position(width=3)": ("bollinger_position_20_3", 20),
        "open_gap": ("open_gap", 2),
        "open_gap()": ("open_gap", 2),
        "vol_ratio(slow=30, fast=5)": ("vol_ratio_5_30", 31),
    }
    assert {text: (plain(text).name, plain(text).lookback) for text in written} == written


def test_a_feature_says_what_it_is_and_what_it_needs() -> None:
    feature = plain("flow_return_correlation(30)")
    assert feature.family == "order flow"
    assert feature.needs == ["buy_volume", "close", "volume"]
    assert feature.meaning.startswith("Correlation of volume delta with log returns over `window` bars")
    fitted = resolve("garch_vol")
    assert isinstance(fitted, FittedFeature)
    assert (fitted.name, fitted.family, fitted.needs) == ("garch_vol", "garch", ["close"])


def test_a_feature_that_is_named_twice_counts_once_and_order_is_kept() -> None:
    ready, fitted = resolve_all(["rsi(14)", "garch_vol", "open_gap", "rsi", "rsi(window=14)", "garch_vol"])
    assert [each.name for each in ready] == ["rsi_14", "open_gap"]
    assert [each.name for each in fitted] == ["garch_vol"]


@pytest.mark.parametrize(
    ("text", "fix"),
    [
        ("rsii", "did you mean rsi or tsi or trix?"),
        ("realized_vol(20)", "did you mean realised_vol or realised_variance or realised_spread?"),
        ("kyle_lamda", "did you mean kyle_lambda or lead_lag or hasbrouck_lambda?"),
        ("vol_rato(5)", "did you mean vol_ratio or volume_ratio or vol_rank?"),
    ],
)
def test_a_misspelling_is_answered_with_the_nearest_names(text: str, fix: str) -> None:
    with pytest.raises(UnknownName) as refusal:
        resolve(text)
    assert refusal.value.problem == f"there is no feature named {text.partition('(')[0]!r}"
    assert refusal.value.fix == fix


def test_a_name_like_no_other_is_answered_with_all_of_them() -> None:
    with pytest.raises(UnknownName) as refusal:
        resolve("__import__('os')")
    assert refusal.value.problem == "there is no feature named '__import__'"
    assert refusal.value.fix == f"choose one of: {', '.join(sorted(FEATURES))}"


@pytest.mark.parametrize(
    ("text", "problem", "fix"),
    [
        ("rsi('14')", "rsi: window is '14', which is not an int", "give window as a whole number"),
        ("rsi(14.0)", "rsi: window is 14.0, which is not an int", "give window as a whole number"),
        ("rsi(True)", "rsi: window is True, which is not an int", "give window as a whole number"),
        ("rsi(-3)", "rsi: window is -3", "give window a value of 0 or more"),
        ("rsi(0)", "rsi(0): window is 0", "give window a value of 1 or more"),
        ("realised_vol(1)", "realised_vol(1): window is 1", "give window a value of 2 or more"),
        ("volatile_regime(0)", "volatile_regime(0): memory is 0", "give memory a value of 1 or more"),
        ("rsi(9999999999)", "rsi: window is 9999999999", "give window a value of 0 or more"),
        ("rsi(1, 2)", "rsi: too many positional arguments", "its parameters are rsi(window=14)"),
        ("rsi(14, window=15)", "rsi: multiple values for argument 'window'", "its parameters are rsi(window=14)"),
        ("rsi(span=15)", "rsi: got an unexpected keyword argument 'span'", "its parameters are rsi(window=14)"),
        ("open_gap(3)", "open_gap: too many positional arguments", "its parameters are open_gap()"),
        ("garch_vol(3)", "garch_vol: too many positional arguments", "its parameters are garch_vol()"),
    ],
)
def test_a_parameter_that_cannot_be_meant_is_refused_with_its_value(text: str, problem: str, fix: str) -> None:
    with pytest.raises(UsageError) as refusal:
        resolve(text)
    assert (refusal.value.problem, refusal.value.fix) == (problem, fix)


HOSTILE = [
    "",
    "   ",
    "rsi(",
    "rsi(14",
    "rsi)14(",
    "rsi;import os",
    "rsi(14)(14)",
    "rsi.window",
    "os.system('true')",
    "rsi(__import__('os').system('true'))",
    "rsi(open('/etc/passwd'))",
    "rsi(*[14])",
    "rsi(**{'window': 14})",
    "rsi([14])",
    "rsi(None)",
    "rsi(window)",
    "rsi(9**9**9)",
    "rsi(14 if 1 else 15)",
    "rsi(f'{14}')",
    "rsi(b'14')",
    "rsi(14j)",
    "lambda: 14",
    "[rsi]",
    "14",
    "rsi\x00",
    "rsi(" + "9" * 5000 + ")",
    "rsi(" * 5000 + ")" * 5000,
    "rsi(" + "(" * 5000 + "14" + ")" * 5000 + ")",
    "-" * 100_000 + "14",
    "rsi(" + "-" * 50_000 + "14)",
    "rsi" + ".a" * 50_000,
]


@pytest.mark.parametrize("text", HOSTILE, ids=[text[:20] for text in HOSTILE])
def test_hostile_text_is_a_usage_error_and_is_never_run(text: str) -> None:
    with pytest.raises(UsageError, match="is not a name with parameters") as refusal:
        resolve(text)
    assert refusal.value.fix == "write it as name, name(20) or name(window=20)"


@given(st.text(max_size=30))
def test_any_text_names_a_feature_or_is_a_usage_error(text: str) -> None:
    try:
        found = resolve(text)
    except UsageError:
        return
    assert found.name.startswith(text.split("(")[0].split("#")[0].strip())


def whole_numbers(name: str) -> list[str]:
    listed = inspect.signature(FEATURES[name].formula).parameters.values()
    return [each.name for each in listed if each.annotation is int]


def is_plain(name: str) -> bool:
    found = resolve(name)
    return isinstance(found, Feature) and not found.across


OF_LEVELS = {"fear_greed_extreme"}  # whose whole numbers are no windows
WITH_WINDOWS = [name for name in FEATURES if whole_numbers(name) and is_plain(name) and name not in OF_LEVELS]


@pytest.mark.parametrize("name", WITH_WINDOWS)
def test_the_smallest_window_that_is_accepted_is_computed_and_the_one_below_is_refused(
    name: str, ordinary: Bars
) -> None:
    least = FEATURES[name].least
    smallest, smaller = (
        f"{name}({', '.join(f'{key}={size}' for key in whole_numbers(name))})" for size in (least, least - 1)
    )
    feature = plain(smallest)
    values = compute(Bars(ordinary.frame.head(200), "1m"), [feature])[feature.name]
    assert values.head(feature.lookback - 1).null_count() == feature.lookback - 1
    assert values.drop_nulls().is_finite().all()
    with pytest.raises(UsageError, match=f"is {least - 1}$"):
        resolve(smaller)


@pytest.mark.parametrize("name", WITH_WINDOWS)
def test_a_window_beyond_all_history_is_null_and_costs_nothing(name: str, ordinary: Bars) -> None:
    """A billion bars are not set aside in memory to learn that there are none."""
    feature = plain(f"{name}({', '.join(f'{key}=999_999_999' for key in whole_numbers(name))})")
    assert feature.lookback >= 999_999_999
    values = compute(Bars(ordinary.frame.head(50), "1m"), [feature])[feature.name]
    assert values.null_count() == values.len() == 50


# ---- edges ---------------------------------------------------------------------------------------------------------


def test_a_feature_whose_columns_are_missing_names_the_column_and_who_has_it(ordinary: Bars) -> None:
    lean = Bars(ordinary.frame.drop("buy_volume", "trades"), "1m")
    with pytest.raises(MissingColumns) as refusal:
        compute(lean, [plain("open_gap"), plain("cvd(5)")])
    assert refusal.value.problem == "feature cvd_5 needs the column 'buy_volume', which these bars do not carry"
    assert refusal.value.fix == "take the bars from klines of Binance, or lab bars from trades"
    mine = Feature("mine", "mine", "Reads what no market publishes.", pl.col("moon"), 1)
    with pytest.raises(MissingColumns) as refusal:
        compute(ordinary, [mine])
    assert refusal.value.problem == "feature mine needs the column 'moon', which these bars do not carry"
    assert refusal.value.fix == "leave the feature out, or correct its formula"
    assert compute(lean, [plain("open_gap")]).height == ordinary.frame.height


def test_a_fitted_feature_cannot_be_used_as_a_plain_one() -> None:
    with pytest.raises(UsageError) as refusal:
        plain("garch_vol")
    assert (refusal.value.problem, refusal.value.fix) == (
        "garch_vol needs training bars",
        "name a feature that needs none",
    )


def test_no_bars_and_one_bar_have_the_columns_of_many(ordinary: Bars) -> None:
    ready, _ = resolve_all(list(FEATURES))
    many, one, none = (compute(Bars(ordinary.frame.head(rows), "1m"), ready) for rows in (500, 1, 0))
    assert len(ready) >= 53
    assert many.schema == one.schema == none.schema
    assert (one.height, none.height) == (1, 0)
    known = [each.name for each in ready if one[each.name][0] is not None]
    assert known == [each.name for each in ready if each.lookback == 1]
    assert len(known) >= 10


@given(st.integers(1, 2100), st.integers(1, 2200), st.integers(0, 2**32), st.sampled_from([0.0, 0.001, 0.5]))
def test_a_column_is_null_where_nothing_finite_was_found_and_before_its_lookback(
    rows: int, lookback: int, seed: int, share: float
) -> None:
    rng = np.random.default_rng(seed)
    close = 1.0 + rng.random(rows)
    divisor = np.where(rng.random(rows) < share, rng.choice([0.0, math.nan, math.inf], rows), 1.0)
    feature = Feature(
        "made", "test", "", lambda close: np.where(divisor == math.inf, -math.inf, close / divisor), lookback
    )
    made = computing.over_stretch(pl.DataFrame({"close": close}), [feature])["made"]
    known = np.isfinite(divisor) & (divisor != 0) & (np.arange(rows) >= lookback - 1)
    assert made.to_list() == [
        value if is_known else None for value, is_known in zip(close.tolist(), known, strict=True)
    ]
    assert made.null_count() == rows - known.sum()


@pytest.mark.parametrize(
    ("formula", "made"),
    [
        (lambda close: np.concatenate([close, close]), 1000),
        (lambda close: close[1:], 499),
        (lambda close: np.float64(1.0), 1),
        (lambda close: np.column_stack([close, close]), 1000),
    ],
)
def test_a_formula_that_makes_not_one_value_a_row_is_refused(formula: Callable[..., Vector], made: int) -> None:
    """Before anything is written: beyond a column lies another one."""
    feature = Feature("odd", "own", "", formula, 1)
    with pytest.raises(UsageError, match=f"feature odd made {made} values of 500 rows"):
        computing.over_stretch(pl.DataFrame({"close": np.ones(500)}), [feature])


@pytest.mark.parametrize(
    ("rows", "cores", "sizes"),
    [
        (0, 2, []),
        (1, 2, [1]),
        (40_000, 2, [40_000]),
        (100_000, 2, [50_000, 50_000]),
        (131_072, 1, [131_072]),
        (1_000_000, 2, [125_000] * 8),
        (1_000_000, 3, [111_112] * 8 + [111_104]),
    ],
)
def test_parts_are_of_one_size_and_occupy_every_core(
    rows: int, cores: int, sizes: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(computing, "_cores", lambda: cores)
    size = computing._part_size(rows)
    assert [min(size, rows - start) for start in range(0, rows, size)] == sizes


def test_no_features_are_the_keys_alone(ordinary: Bars) -> None:
    keys = ordinary.frame.select("symbol", "time")
    assert compute(ordinary, []).equals(keys)
    assert fit(ordinary, []) == {}
    assert compute_fitted(ordinary, [], {}).equals(keys)


def test_a_bar_without_range_has_no_shape_and_a_market_without_trades_no_flow() -> None:
    bars = bars_of(rows_of("DEAD", np.zeros(80), volume=np.zeros(80)))
    shapes = ["body", "upper_shadow", "lower_shadow", "close_location", "stochastic_k(5)", "range_position(5)"]
    flows = [
        "flow_imbalance(5)",
        "taker_ratio(5)",
        "volume_ratio(2, 5)",
        "trade_size(5)",
        "amihud(5)",
        "vwap_deviation(5)",
    ]
    ratios = [
        "return_zscore(5)",
        "volume_zscore(5)",
        "efficiency_ratio(5)",
        "rsi(1)",
        "bollinger_position(5)",
        "jump_share(5)",
    ]
    undefined = [*shapes, *flows, *ratios, "vol_ratio(3, 5)", "vol_of_vol(3, 5)", "kyle_lambda(5)", "plus_di(1)"]
    features = [plain(text) for text in undefined]
    assert compute(bars, features).select(each.name for each in features).null_count().row(0) == (80,) * len(features)
    zero = [
        plain(text) for text in ("log_return(3)", "bar_range", "realised_vol(5)", "up_share(5)", "cvd(5)", "atr(1)")
    ]
    last = compute(bars, zero).row(-1)
    assert last[2:] == (0.0,) * len(zero)


DIGEST = """
import hashlib, os, sys
import polars as pl
from lab.features import FEATURES, compute, fit, resolve_all
from lab.nouns import Bars

path, cores = sys.argv[1:]
if cores == "1":
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
slow = {"rolling_garch_vol": "rolling_garch_vol(100, 500)"}
bars = Bars(pl.read_parquet(path), "1m")
ready, fitted = resolve_all([slow.get(name, name) for name in sorted(FEATURES)])
first = Bars(bars.frame.filter(pl.col("symbol") == "A").head(1500), "1m")
frozen = [each.freeze(numbers["A"]) for each, numbers in zip(fitted, fit(first, fitted).values(), strict=True)]
values = compute(bars, [*ready, *frozen]).drop("symbol", "time")
sha = hashlib.sha256()
for column in values:
    sha.update(column.name.encode() + column.is_null().to_numpy().tobytes() + column.fill_null(0).to_numpy().tobytes())
print(values.width, sha.hexdigest())
"""


def test_the_number_of_threads_changes_not_a_bit(tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("threads") / "bars.parquet"
    frames = [
        with_side_columns(rows_of(name, two_state_moves(40_000, 0.2, (1e-3, 4e-3), seed), seed=seed))
        for seed, name in enumerate("AB")
    ]
    bars_of(*frames).frame.write_parquet(path)
    said = [
        subprocess.run(
            [sys.executable, "-W", "error", "-c", DIGEST, str(path), cores],
            env={**os.environ, "POLARS_MAX_THREADS": cores},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for cores in ("1", "2")
    ]
    width, digest = said[0].split()
    assert (int(width), len(digest)) == (len(list(FEATURES)), 64)
    assert said[0] == said[1]


@pytest.mark.parametrize("row", [0, 1, 77, 399, 400, 650, 799])
def test_rows_from_a_moment_on_are_the_same_bits_whether_or_not_the_earlier_ones_are_asked_for(row: int) -> None:
    bars = rough_market("plain", 800)
    names = ["rsi(5)", "macd(3, 6)", "kyle_lambda(20)", "realised_vol(10)", "adx(4)", "day_sin"]
    features = [plain(name) for name in names]
    since = bars.frame["time"][row]
    wanted = compute(bars, features).filter(pl.col("time") >= since)
    found = compute(bars, features, since=since)
    assert found.height == 800
    assert found.filter(pl.col("time") >= since).equals(wanted)
