"""Side data in an experiment: joined as of each close, certified, in the run's id and looked at again with it."""

from datetime import timedelta
from pathlib import Path

import polars as pl
import pytest

from lab import columns, pipeline, store
from lab.errors import MissingColumns, NoData, UnknownName, UsageError
from lab.experiment import Experiment
from lab.features import FEATURES, mood
from lab.nouns import EVENTS, Bars, Piece, Table
from lab.sources import Request
from lab.sources.files import Files
from lab.store import TableName
from tests.small import START, carried_out, experiment, fetched

MINUTE = timedelta(minutes=1)

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
    kept = [columns.read(pipeline.compute_columns(plan))[1995:2030] for plan in (cut, long)]
    nulls = [rows.null_count().sum_horizontal().item() for rows in kept]
    assert nulls[0] > 0
    assert nulls[1] == 0


WIRE = """\
kind = "news"
[columns]
time = "happened"
title = "words"
known_at = "on the wire"
"""


def put_headlines(root: Path, told: list[tuple[int, int, str]]) -> None:
    """A wire's file of headlines (minute of the event, minute of the wire, words), fetched as a person would."""
    lines = [
        f'{START + n * MINUTE:%Y-%m-%d %H:%M},{START + late * MINUTE:%Y-%m-%d %H:%M},"{text}"' for n, late, text in told
    ]
    (root / "wire.csv").write_text("\n".join(["happened,on the wire,words", *lines]))
    (root / "wire.toml").write_text(WIRE)
    source = Files(path=root / "wire.csv", mapping=root / "wire.toml")
    store.commit(root / "data", "wire", list(source.fetch(Request(("CRYPTO",), EVENTS, None, "news"), {})))


def test_a_run_learns_from_headlines_that_were_on_the_wire_and_not_from_what_had_only_happened(tmp_path: Path) -> None:
    assert FEATURES["news_sentiment"].family == mood.__name__.rpartition(".")[2]
    fetched(tmp_path, "FLOW-1", days=2.5)
    good, bad = "The book was good.", "Today SUX!"
    told = [(n, n + 7, good if n % 3 else bad) for n in range(0, 3590, 4)]
    put_headlines(tmp_path, [*told, (101, 2000, "A horrible crash")])
    chosen = experiment(
        tmp_path,
        features='["flow_imbalance(5)", "news_sentiment(60)", "news_count(60)", "news_surprise(30, 120)"]',
        data__join='["news@wire:CRYPTO"]',
    )
    run = carried_out(tmp_path, chosen)
    assert run.manifest["data"]["null_share"].keys() >= {"news_sentiment_60", "news_count_60"}
    assert run.manifest["data"]["null_share"]["news_sentiment_60"] == 0
    assert "news of CRYPTO from wire" in run.manifest["data"]["versions"]
    frame = pipeline.bars_of(tmp_path, run).frame
    at = {time: pair for time, *pair in frame.select("time", "headlines", "sentiment").rows()}
    heard = [at[START + n * MINUTE] for n in (6, 7, 8, 11, 101, 2000, 2003)]
    assert [count for count, _ in heard] == [None, 1.0, 0.0, 1.0, 0.0, 1.0, 1.0]
    assert [score for _, score in heard] == pytest.approx(
        [None, -0.5461, 0.0, 0.4404, 0.0, at[START + 2000 * MINUTE][1], 0.4404], abs=1e-6
    )
    assert at[START + 2000 * MINUTE][1] < -0.5  # the crash, heard when it was told
    assert frame["headlines"].sum() == len(told) + 1
