"""Side data in an experiment: joined as of each close, certified, in the run's id and looked at again with it."""

from datetime import timedelta
from pathlib import Path

import polars as pl
import pytest

from lab import pipeline, store
from lab.errors import MissingColumns, NoData, UnknownName, UsageError
from lab.experiment import Experiment
from lab.nouns import Bars, Piece, Table
from lab.store import TableName
from tests.small import carried_out, experiment, fetched

OWN = '''
import polars as pl
from lab.features import feature


@feature(lookback=lambda window: window)
def funding_mean(window: int = 30) -> pl.Expr:
    """Mean of the funding rate that was known at the last `window` closes."""
    return sum(pl.col("funding_rate").shift(lag) for lag in range(window)) / window
'''


def with_funding(root: Path, **choices: str) -> Experiment:
    (root / "mine.py").write_text(OWN)
    return experiment(
        root,
        feature_file='"mine.py"',
        features='["log_return(5)", "flow_imbalance(5)", "funding_mean(30)"]',
        data__join='["funding@somewhere"]',
        **choices,
    )


def put_funding(root: Path, rate: float, every: timedelta = timedelta(hours=1), late: timedelta = timedelta(0)) -> None:
    bars = store.read_bars(root / "data", "synthetic", ["FLOW-1"], "1m")
    first, last = bars.closes
    times = pl.datetime_range(first, last, every, time_unit="us", eager=True)
    rows = pl.DataFrame({"time": times}).with_columns(
        symbol=pl.lit("FLOW-1"), known_at=pl.col("time") + late, rate=rate * pl.int_range(pl.len())
    )
    table = Table("funding", rows.select("symbol", "time", "known_at", pl.col("rate").cast(pl.Float64)))
    store.commit(root / "data", "somewhere", [Piece("FLOW-1", f"funding {rate} {late}", "d", table)])


def test_each_bar_has_what_was_known_at_its_close(own_registry: None, tmp_path: Path) -> None:
    fetched(tmp_path, "FLOW-1", days=2)
    put_funding(tmp_path, 1.0, late=timedelta(minutes=10))
    plan = pipeline.plan(tmp_path, with_funding(tmp_path), "final")
    rates = plan.bars.frame["funding_rate"]
    assert rates[:10].null_count() == 10
    assert rates[10:70].to_list() == [0.0] * 60
    assert rates[70] == 1.0


def test_a_run_with_side_data_is_looked_at_with_the_side_data_that_it_saw(own_registry: None, tmp_path: Path) -> None:
    fetched(tmp_path, "FLOW-1", days=2.5)
    put_funding(tmp_path, 1.0)
    run = carried_out(tmp_path, with_funding(tmp_path))
    assert "funding_mean_30" in run.manifest["data"]["null_share"]
    assert run.manifest["data"]["versions"]["funding of FLOW-1 from somewhere"] == 1
    put_funding(tmp_path, 2.0)
    again = pipeline.plan(tmp_path, with_funding(tmp_path), "walk-forward")
    assert again.run_id != run.id
    assert pipeline.bars_of(tmp_path, run).digest == run.manifest["data"]["digest"] != again.bars.digest


def test_bars_of_another_side_say_what_is_missing(own_registry: None, tmp_path: Path) -> None:
    fetched(tmp_path, "FLOW-1", days=2)
    with pytest.raises(NoData, match="no funding of FLOW-1 from somewhere"):
        pipeline.plan(tmp_path, with_funding(tmp_path), "final")
    plain = experiment(tmp_path, feature_file='"mine.py"', features='["funding_mean(30)"]')
    plan = pipeline.plan(tmp_path, plain, "final")
    with pytest.raises(MissingColumns, match="funding_rate") as refused:
        list(pipeline.learn(plan))
    assert 'join = ["funding' in refused.value.fix


@pytest.mark.parametrize(
    ("join", "error", "said"),
    [
        ('["funding"]', UsageError, "names no side data"),
        ('["fundin@binance-um"]', UnknownName, "no side data named 'fundin'"),
    ],
)
def test_a_join_that_cannot_be_meant_is_refused(tmp_path: Path, join: str, error: type[Exception], said: str) -> None:
    with pytest.raises(error, match=said):
        experiment(tmp_path, data__join=join)


def gapped(root: Path, missing: int) -> None:
    bars = store.read_bars(root / "data", "synthetic", ["FLOW-1"], "1m").frame
    rows = pl.concat([bars[:2000], bars[2000 + missing :]])
    table = TableName(root / "gapped", "synthetic", "FLOW-1", "1m")
    store.commit(table.root, "synthetic", [Piece("FLOW-1", "gapped", "d", Bars(rows, "1m"))])
    (root / "data").rename(root / "whole")
    table.root.rename(root / "data")


def test_a_bridge_is_the_only_way_across_a_gap_and_part_of_the_runs_id(tmp_path: Path) -> None:
    fetched(tmp_path, "FLOW-1", days=2.5)
    gapped(tmp_path, 30)
    cut, short, long = (
        pipeline.plan(tmp_path, experiment(tmp_path, data__bridge=bridge), "final")
        for bridge in ('"0d"', '"29m"', '"30m"')
    )
    assert len({plan.run_id for plan in (cut, short, long)}) == 3
    assert [len(plan.bars.stretches()) for plan in (cut, short, long)] == [2, 2, 1]
    assert all(plan.bars.gaps()["missing"].to_list() == [30] for plan in (cut, short, long))  # it is still a gap
    nulls = [pipeline.compute_columns(plan)[1995:2030].null_count().sum_horizontal().item() for plan in (cut, long)]
    assert nulls[0] > 0
    assert nulls[1] == 0
