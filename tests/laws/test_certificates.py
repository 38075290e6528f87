"""Every feature of the house has its certificate, and certificates are worth what they rest on."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lab.errors import LookAhead, UsageError
from lab.features import FEATURES, SETS, certified, expanded, own, plain, resolve
from lab.features.certificate import subjects
from lab.features.certificates import certificate_of, code_of, environment, proved, still
from lab.features.markets import ROUGH_MARKETS
from lab.features.timeframes import on_larger_bars
from lab.nouns import Feature

# Refitting at every bar of ten markets takes minutes at the usual window; the law is the same at a shorter one.
SLOW = {"rolling_garch_vol": "rolling_garch_vol(100)"}


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("certificates")


@pytest.mark.parametrize("name", list(FEATURES))
def test_every_feature_earns_its_certificate(name: str, folder: Path) -> None:
    certificate = certificate_of(folder, SLOW.get(name, name))
    feature = still(SLOW.get(name, name))
    assert (certificate.column, certificate.lookback) == (feature.name, feature.lookback)
    assert 1 <= certificate.memory <= certificate.lookback
    assert certificate.rows >= (150 if feature.across else 1300)


# What a candle pattern says where it is seen: 1 bullish, -1 bearish.
CANDLES = {
    **{name: {1} for name in ("doji", "hammer", "bullish_engulfing", "morning_star", "three_white_soldiers")},
    **{name: {1} for name in ("piercing_line", "tweezer_bottom")},
    **{name: {-1} for name in ("shooting_star", "bearish_engulfing", "evening_star", "three_black_crows")},
    **{name: {-1} for name in ("dark_cloud_cover", "tweezer_top")},
    **{name: {1, -1} for name in ("harami", "marubozu", "pattern_trend", "pattern_balance")},
}


@pytest.mark.parametrize("name", CANDLES)
def test_a_candle_pattern_is_seen_on_rows_that_its_certificate_checks(name: str) -> None:
    """Three times with every sign, on one market alone: most of the others have the same candles."""
    feature = plain(name)
    seen = Counter[tuple[str, int]]()
    for kind in ROUGH_MARKETS:
        for subject in subjects(feature, kind):
            seen.update((kind, int(sign)) for sign in np.sign(np.nan_to_num(subject.whole[feature.lookback - 1 :])))
    most = {sign: max(seen[kind, sign] for kind in ROUGH_MARKETS) for sign in (1, -1)}
    assert {sign for sign, bars in most.items() if bars >= 3} == CANDLES[name]


def test_every_candle_pattern_stands_there() -> None:
    assert set(CANDLES) == {name for name in FEATURES if FEATURES[name].family == plain("doji").family}
    assert len(CANDLES) == 17


@pytest.mark.parametrize("text", ["rsi(3)@5m", "realised_vol(10)@15m", "body@3m", "alpha_vwap0@5m", "cvd(4)@5m"])
def test_a_feature_on_larger_bars_earns_it_for_the_bars_that_they_are_made_of(text: str, folder: Path) -> None:
    certificate = certificate_of(folder, text, "1m")
    minutes = int(text.rpartition("@")[2].rstrip("m"))
    inner = plain(text.partition("@")[0])
    assert certificate.lookback == (inner.lookback + 1) * minutes - 1
    assert certificate.memory == certificate.lookback


@pytest.mark.parametrize("name", [name for name in SETS if name != "all"])
def test_a_ready_set_is_of_features_that_exist_each_once(name: str) -> None:
    texts = expanded([name])
    assert len(texts) == len(set(texts)) >= 16
    assert all(isinstance(resolve(text), Feature) for text in texts)


def test_the_sets_have_the_sizes_that_their_names_promise() -> None:
    assert {name: len(SETS[name]()) for name in ("classic49", "smart_money16", "alpha158")} == {
        "classic49": 49,
        "smart_money16": 16,
        "alpha158": 158,
    }
    assert len(SETS["core"]()) >= 100
    assert SETS["all"]() == list(FEATURES)


def test_a_certificate_says_what_it_rests_on_and_is_kept(tmp_path: Path) -> None:
    (certificate,) = certified(tmp_path, ["sma_distance(9)"])
    (path,) = tmp_path.iterdir()
    assert json.loads(path.read_text()) == {
        "column": "sma_distance_9",
        "family": "averages",
        "lookback": 9,
        "memory": 9,
        "rows": certificate.rows,
        "code": code_of("sma_distance(9)"),
        "environment": environment(),
    }
    assert set(environment()) == {"python", "machine", "numba", "numpy", "polars"}


FILE = '''
import polars as pl
from lab.features import feature


@feature(lookback=2)
def my_change() -> pl.Expr:
    """Simple return."""
    return pl.col("close") / pl.col("close").shift({shift}) - 1
'''


@pytest.mark.usefixtures("own_registry")
def test_changed_code_voids_a_certificate_though_the_name_is_the_same(tmp_path: Path) -> None:
    path, kept = tmp_path / "mine.py", tmp_path / "kept"
    path.write_text(FILE.format(shift=1))
    own.use(path)
    before = certificate_of(kept, "my_change")
    path.write_text(FILE.format(shift=1) + "\n# said otherwise\n")
    own.use(path)
    after = certificate_of(kept, "my_change")
    assert after.code != before.code
    assert len(list(kept.iterdir())) == 2
    path.write_text(FILE.format(shift=-1))
    own.use(path)
    with pytest.raises(LookAhead, match="feature my_change reads the future"):
        certificate_of(kept, "my_change")
    assert len(list(kept.iterdir())) == 2


def test_a_kept_certificate_that_cannot_be_read_is_earned_anew(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr("lab.features.certificates._known", {})
    certified(tmp_path, ["body"])
    (path,) = tmp_path.iterdir()
    path.write_text("{}")
    monkeypatch.setattr("lab.features.certificates._known", {})
    (again,) = certified(tmp_path, ["body"])
    assert again.lookback == 1


@pytest.mark.usefixtures("own_registry")
def test_several_processes_prove_what_one_does_and_name_what_they_refuse(tmp_path: Path) -> None:
    path = tmp_path / "mine.py"
    path.write_text(FILE.format(shift=-1))
    texts = [*own.use(path), "body"]
    found = [list(proved(tmp_path / str(workers), texts, workers, path)) for workers in (1, 2)]
    assert [text for text, _ in found[0]] == texts
    refusal, certificate = (outcome for _, outcome in found[1])
    assert isinstance(refusal, LookAhead)
    assert (
        refusal.problem
        == found[0][0][1].problem
        == ("feature my_change reads the future: on the plain market its value at bar 1 changes with bar 2")
    )
    assert certificate == found[0][1][1]


@pytest.mark.parametrize(
    ("text", "interval", "problem"),
    [
        ("rsi@1h", "", "rsi@1h depends on the interval of the bars"),
        ("rsi@1m", "1m", "1m bars do not fill 1m bars"),
        ("rsi@5m", "3m", "3m bars do not fill 5m bars"),
        ("rsi@1h", "tick-100", "tick-100 bars do not fill 1h bars"),
        ("garch_vol@1h", "1m", "garch_vol needs training bars"),
        ("hour@1d", "1h", "hour looks at the clock or at other symbols, and is not computed on larger bars"),
        ("beta@1h", "1m", "beta_250 looks at the clock or at other symbols, and is not computed on larger bars"),
    ],
)
def test_what_cannot_be_computed_on_larger_bars_is_refused(text: str, interval: str, problem: str) -> None:
    with pytest.raises(UsageError) as refusal:
        resolve(text, interval)
    assert refusal.value.problem == problem


def test_a_column_that_larger_bars_do_not_have_is_named() -> None:
    """The mean spread of a longer bar is not known: nor is for how long each part stood."""
    mine = Feature("wide", "mine", "The spread.", lambda spread: spread, 1)
    with pytest.raises(UsageError, match=r"^spread has no value on larger bars$"):
        on_larger_bars(mine, "1h", "1m")


def test_a_larger_interval_that_nobody_knows_is_answered_with_those_there_are() -> None:
    with pytest.raises(UsageError, match="there is no interval named '1x'"):
        resolve("rsi@1x", "1m")
