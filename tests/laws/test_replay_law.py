"""Recorded bars, fed one at a time, give the pipeline's decisions, exactly."""

import math
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lab import pipeline, store
from lab.errors import BadBars, DamagedData, LabError, UsageError
from lab.experiment import Experiment
from lab.live import Live
from lab.nouns import PRICES, Bars, Decision, Piece, Run, bar_of
from lab.sources import synthetic

START = datetime(2024, 1, 1, tzinfo=UTC)
BARS = 72 * 60
SETTINGS = {
    "name": "replayed",
    "data": {"source": "synthetic", "symbols": ["FLOW-1", "FLOW-2"], "interval": "1m"},
    "features": [
        "log_return(5)",
        "realised_vol(60)",
        "flow_imbalance(20)",
        "kyle_lambda(30)",
        "bollinger_position(20)",
        "rsi(7)",
        "macd_signal(4, 9, 3)",
        "adx(5)",
        "garch_shock",
        "volatile_regime(40)",
        "day_sin",
    ],
    "label": "forward_return(10)",
    "folds": {"train": "60h", "test": "12h"},
    "model": {"name": "linear"},
    "policy": {"enter": 0.0002, "exit": 0.00005, "target_vol": 0.3, "vol_window": 30},
    "costs": {"fee_bps": 1.0, "slippage_bps": 0.5},
}


def market(symbol: str, *, gaps: bool) -> Bars:
    bars = synthetic.simulate(*synthetic.market_of(symbol), BARS)
    halted = (pl.col("time") > START + timedelta(hours=62)) & (pl.col("time") <= START + timedelta(hours=63))
    return Bars(bars.frame.filter(~halted), "1m") if gaps else bars


def record(root: Path, model: dict[str, Any], **changes: Any) -> Run:
    """A walk-forward over two markets, one of which was halted for an hour inside its first test."""
    for symbol, gaps in (("FLOW-1", True), ("FLOW-2", False)):
        store.commit(root / "data", "synthetic", [Piece(symbol, "test", "0", market(symbol, gaps=gaps))])
    plan = pipeline.plan(root, Experiment.model_validate({**SETTINGS, "model": model, **changes}), "walk-forward")
    assert list(pipeline.learn(plan)) == list(range(len(plan.folds)))
    return pipeline.conclude(plan, "a test")


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Run]:
    root = tmp_path_factory.mktemp("replay")
    return root, record(root, {"name": "linear"})


def fed(root: Path, run: Run, bars: pl.DataFrame) -> list[Decision]:
    live = Live(run)
    return [live.on_bar(row) for row in bars.iter_rows(named=True)]


@pytest.mark.parametrize("model", [{"name": "boosted_trees", "trees": 30}, {"name": "linear"}])
def test_one_bar_at_a_time_decides_what_the_pipeline_decided(model: dict[str, Any], tmp_path: Path) -> None:
    root, run = tmp_path, record(tmp_path, model)
    wanted = run.table("decisions").sort("time", "symbol")
    bars = pipeline.bars_of(root, run).frame.sort("time", "symbol")
    decided = [each for each in fed(root, run, bars) if each.time >= wanted["time"][0]]
    assert len(decided) == wanted.height > 1_300
    assert [(each.symbol, each.time) for each in decided] == list(wanted.select("symbol", "time").iter_rows())
    assert [each.score for each in decided] == wanted["score"].to_list()
    assert [each.target for each in decided] == wanted["target"].to_list()
    assert wanted["target"].n_unique() > 10  # it traded, and was sized
    assert wanted["score"].null_count() > 0  # the halt left some bars without a score


def test_bars_of_one_close_together_decide_what_columns_across_symbols_and_on_larger_bars_did(tmp_path: Path) -> None:
    columns = ["return_rank(5)", "beta(30)", "relative_strength(20)", "rsi(3)@5m", "body@15m", "kama_distance(5, 40)"]
    run = record(tmp_path, {"name": "linear"}, features=columns)
    wanted = run.table("decisions").sort("time", "symbol")
    live, decided = Live(run), []
    for _, close in pipeline.bars_of(tmp_path, run).frame.sort("time", "symbol").group_by("time", maintain_order=True):
        decided += live.on_bars(list(close.iter_rows(named=True)))
    decided = [each for each in decided if each.time >= wanted["time"][0]]
    assert [(each.symbol, each.time) for each in decided] == list(wanted.select("symbol", "time").iter_rows())
    assert [each.score for each in decided] == wanted["score"].to_list()
    assert [each.target for each in decided] == wanted["target"].to_list()
    assert wanted["score"].drop_nulls().n_unique() > 1_000


def test_bars_of_different_closes_do_not_come_together(recorded: tuple[Path, Run]) -> None:
    root, run = recorded
    frame = pipeline.bars_of(root, run).frame
    first, later = frame.row(0, named=True), frame.filter(pl.col("symbol") == "FLOW-2").row(1, named=True)
    live = Live(run)
    with pytest.raises(BadBars, match="bars of different moments came together"):
        live.on_bars([first, later])
    assert [each.time for each in live.on_bars([first])] == [first["time"]]  # nothing of them was taken
    assert live.on_bars([]) == []
    with pytest.raises(BadBars, match="bars lack symbol"):
        live.on_bars([{name: value for name, value in later.items() if name != "symbol"}])


def test_a_symbol_is_decided_alike_without_the_others(recorded: tuple[Path, Run]) -> None:
    root, run = recorded
    bars = pipeline.bars_of(root, run).of_symbol("FLOW-1").frame
    wanted = run.table("decisions").filter(pl.col("symbol") == "FLOW-1")
    decided = [each for each in fed(root, run, bars) if each.time >= wanted["time"].min()]
    assert [each.target for each in decided] == wanted["target"].to_list()


def test_a_bar_out_of_order_is_refused_and_changes_nothing(recorded: tuple[Path, Run]) -> None:
    root, run = recorded
    rows = list(pipeline.bars_of(root, run).of_symbol("FLOW-2").frame.head(5).iter_rows(named=True))
    live = Live(run)
    for row in rows[:4]:
        live.on_bar(row)
    with pytest.raises(BadBars, match="came after") as late:
        live.on_bar(rows[2])
    assert "FLOW-2: a bar of 2024-01-01 00:03" in late.value.problem
    assert live.on_bar(rows[4]).time == rows[4]["time"]


def test_a_symbol_nothing_was_learned_of_is_refused(recorded: tuple[Path, Run]) -> None:
    root, run = recorded
    row = next(pipeline.bars_of(root, run).frame.iter_rows(named=True))
    with pytest.raises(UsageError, match="knows nothing of NOISE-9"):
        Live(run).on_bar({**row, "symbol": "NOISE-9"})


def test_a_final_model_decides_from_the_end_of_its_data_on(recorded: tuple[Path, Run]) -> None:
    root, run = recorded
    plan = pipeline.plan(root, pipeline.experiment_of(run), "final")
    list(pipeline.learn(plan))
    final = pipeline.conclude(plan, "a test")
    bars = synthetic.simulate("FLOW", 2, BARS + 300).frame
    decided = fed(root, final, bars)
    last_seen = pipeline.bars_of(root, final).frame["time"].max()
    assert {each.score is None for each in decided if each.time <= last_seen} == {True}
    assert {each.score is None for each in decided if each.time > last_seen} == {False}


def test_a_run_with_a_damaged_model_is_refused_before_the_model_is_read(tmp_path: Path) -> None:
    run = record(tmp_path, {"name": "boosted_trees", "trees": 5})
    model = run.folder / "folds" / "00" / "model"
    model.write_bytes(model.read_bytes()[:500])
    with pytest.raises(DamagedData, match="model is missing or was changed"):
        Live(run)


@pytest.mark.usefixtures("own_registry")
def test_a_run_whose_feature_file_says_something_else_by_now_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    text = (
        "import polars as pl\nfrom lab.features import feature\n\n\n"
        '@feature(lookback=2)\ndef gain() -> pl.Expr:\n    """C / C[-1]."""\n'
        '    return pl.col("close") / pl.col("close").shift(1)\n'
    )
    file.write_text(text)
    run = record(tmp_path, {"name": "linear"}, features=["gain"], feature_file=file)
    Live(run)
    file.write_text(text.replace("shift(1)", "shift(1) - 1"))
    with pytest.raises(LabError, match=r"mine\.py is not the file that run"):
        Live(run)


NUMBERS_TRIED = st.sampled_from([None, math.nan, math.inf, -math.inf, -1.0, 0.0, 0.5, 1.0, 2.0, 1e308])
LIKELY = st.sampled_from([1.0, 2.0])


@given(
    prices=st.tuples(*[LIKELY | LIKELY | NUMBERS_TRIED] * 4),
    volume=NUMBERS_TRIED,
    extras=st.dictionaries(st.sampled_from(["buy_volume", "trades", "funding_rate", "ofi_3"]), NUMBERS_TRIED),
)
def test_a_bar_on_its_own_is_judged_as_in_a_table(
    prices: tuple[float | None, ...], volume: float | None, extras: dict[str, float | None]
) -> None:
    numbers = {**dict(zip(PRICES, prices, strict=True)), "volume": volume, **extras}
    row = {"symbol": "X", "time": START, **numbers}
    try:
        expected: str | dict[str, Any] = Bars.of(pl.DataFrame([row]), "1m").frame.row(0, named=True)
    except BadBars as refusal:
        expected = refusal.problem.rpartition(": ")[2]
    try:
        symbol, time, found = bar_of(row)
    except BadBars as refusal:
        assert refusal.problem.rpartition(": ")[2] == expected
    else:
        assert isinstance(expected, dict)
        assert (symbol, time) == ("X", START)
        given_numbers = {name: value for name, value in found.items() if not math.isnan(value)}
        assert given_numbers == {name: expected[name] for name in numbers if expected[name] is not None}


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"symbol": None}, "has no symbol or no time"),
        ({"time": "2024-01-01"}, "has no symbol or no time"),
        ({"close": "much"}, "could not convert string to float: 'much'"),
        ({"close": [1.0]}, "float"),
        ({"close": 10**400}, "int too large to convert to float"),
    ],
)
def test_what_is_no_bar_at_all_is_refused_by_name(change: dict[str, Any], problem: str) -> None:
    row = {"symbol": "X", "time": START, **dict.fromkeys(PRICES, 1.0), "volume": 1.0, **change}
    with pytest.raises(BadBars, match=problem):
        bar_of(row)


def test_a_time_without_a_zone_is_utc_and_one_of_another_zone_is_the_same_moment() -> None:
    row = {"symbol": "X", **dict.fromkeys(PRICES, 1.0), "volume": 1.0}
    elsewhere = START.astimezone(timezone(timedelta(hours=5)))
    times = [bar_of({**row, "time": time})[1] for time in (START, START.replace(tzinfo=None), elsewhere)]
    assert times == [START] * 3
    assert {time.tzinfo for time in times} == {UTC}
