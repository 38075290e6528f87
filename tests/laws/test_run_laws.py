"""Runs: the same experiment on the same data is the same run to the bit, whoever carries it out and however often."""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import polars as pl
import pytest

from lab import findings, pipeline, runs, store
from lab.errors import DamagedData, LookAhead, UsageError
from lab.experiment import Experiment
from lab.nouns import Fold, Run
from tests.small import carried_out, experiment, fetched

REPOSITORY = Path(__file__).parents[2]
DAYS = 3.5
CHOSEN = {
    "features": '["flow_imbalance(5)", "log_return(5)", "volatile_regime"]',
    "data__symbols": '["FLOW-2", "FLOW-1"]',
    "folds__train": '"20h"',
    "model__name": '"boosted_trees"',
    "model__trees": "15",
    "model__min_rows": "50",
}


def prepared(root: Path) -> Experiment:
    fetched(root, "FLOW-1", "FLOW-2", days=DAYS)
    return experiment(root, **CHOSEN)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def differing(one: Path, other: Path) -> list[str]:
    """The files that are not the same in two run folders."""
    a, b = contents(one), contents(other)
    return sorted(name for name in a.keys() | b.keys() if a.get(name) != b.get(name))


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def run(home: Path) -> Run:
    """The run that all others must equal: carried out at once, in one process."""
    return carried_out(home, prepared(home))


@pytest.fixture
def copy(run: Run, home: Path, tmp_path: Path) -> Iterator[Path]:
    """A copy of everything under the run's root, to do harm to."""
    shutil.copytree(home, tmp_path / "copy")
    yield tmp_path / "copy"


def in_another_process(root: Path, command: str, **environment: str) -> subprocess.Popen[bytes]:
    """`command`, with everything in tests/laws/test_run_laws.py in reach, under `root`."""
    before = f"from pathlib import Path; from tests.laws.test_run_laws import *; root = Path({str(root)!r})\n"
    return subprocess.Popen(
        [sys.executable, "-c", before + command],
        cwd=REPOSITORY,
        env={**os.environ, **environment},
        stderr=subprocess.PIPE,
    )


def finished(process: subprocess.Popen[bytes]) -> int:
    _, story = process.communicate(timeout=120)
    assert b"Error" not in story, story.decode()
    return process.returncode


def test_a_run_holds_what_it_should(run: Run) -> None:
    folds = [f"folds/{number:02d}/{name}" for number in range(3) for name in ("facts.json", "model", "scores.parquet")]
    tables = [f"{name}.parquet" for name in ("costs", "decisions", "equity", "fills", "importance")]
    assert sorted(run.manifest["files"]) == sorted(["code", *folds, *tables])
    assert sorted(contents(run.folder)) == sorted([*run.manifest["files"], "run.json"])
    assert run.table("fills").height > 20
    assert run.table("decisions")["target"].n_unique() > 2


def test_two_workers_write_the_same_run_to_the_bit(run: Run, tmp_path: Path) -> None:
    other = carried_out(tmp_path, prepared(tmp_path), workers=2)
    assert other.id == run.id
    assert differing(run.folder, other.folder) == []


def test_any_number_of_threads_any_hash_seed_and_any_folder_give_the_same_run(run: Run, tmp_path: Path) -> None:
    command = "carried_out(root, prepared(root))"
    one = {"POLARS_MAX_THREADS": "1", "OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1", "PYTHONHASHSEED": "1"}
    two = {"POLARS_MAX_THREADS": "2", "OMP_NUM_THREADS": "2", "PYTHONHASHSEED": "2", "TZ": "Asia/Kathmandu"}
    processes = [
        in_another_process(tmp_path / name, command, **threads) for name, threads in (("one", one), ("two", two))
    ]
    assert [finished(process) for process in processes] == [0, 0]
    for name in ("one", "two"):
        assert differing(run.folder, runs.runs_folder(tmp_path / name) / run.id) == []


def test_a_run_that_was_killed_is_in_the_ledger_and_goes_on_where_it_stopped(run: Run, tmp_path: Path) -> None:
    killed = """
import os, signal
plan = pipeline.plan(root, prepared(root), "walk-forward")
for number in pipeline.learn(plan):
    os.kill(os.getpid(), signal.SIGKILL)
"""
    assert finished(in_another_process(tmp_path, killed)) == -signal.SIGKILL
    plan = pipeline.plan(tmp_path, experiment(tmp_path, **CHOSEN), "walk-forward")
    assert plan.run_id == run.id
    assert runs.trials(tmp_path, plan.experiment.markets) == [runs.Trial(run.id, plan.experiment.markets, None)]
    assert runs.find(tmp_path, run.id) is None
    assert sorted(path.name for path in (plan.folder / "folds").iterdir()) == ["00"]
    (plan.folder / "folds" / "00" / ".scores.parquet.1-abc.tmp").write_bytes(b"what a kill may leave")
    written = (plan.folder / "folds" / "00" / "model").stat().st_mtime_ns

    resumed = carried_out(tmp_path, plan.experiment)
    assert differing(run.folder, resumed.folder) == ["folds/00/.scores.parquet.1-abc.tmp"]
    assert (plan.folder / "folds" / "00" / "model").stat().st_mtime_ns == written
    assert runs.load(tmp_path, run.id).id == run.id
    (trial,) = runs.trials(tmp_path, plan.experiment.markets)
    assert trial.sharpe == run.manifest["sharpe_per_day"]


def test_an_interrupted_run_learns_only_the_folds_that_are_left(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    learned: list[int] = []
    learn_fold = pipeline.learn_fold

    def counted(job: pipeline.Job) -> int:
        learned.append(job.fold.number)
        return learn_fold(job)

    monkeypatch.setattr(pipeline, "learn_fold", counted)
    plan = pipeline.plan(tmp_path, prepared(tmp_path), "walk-forward")
    interrupted = pipeline.learn(plan)
    assert [next(interrupted), next(interrupted)] == [0, 1]
    interrupted.close()  # what an interrupt at the keyboard does to a generator
    assert learned == [0, 1]
    assert list(pipeline.learn(plan)) == [0, 1, 2]
    assert learned == [0, 1, 2]
    assert differing(run.folder, pipeline.conclude(plan, run.manifest["command"]).folder) == []


def test_a_finished_run_is_found_again_by_the_same_settings_on_the_same_data(run: Run, home: Path) -> None:
    plan = pipeline.plan(home, experiment(home / "elsewhere", name='"Another name"', **CHOSEN), "walk-forward")
    found = runs.find(home, plan.run_id)
    assert found == run
    assert pipeline.plan(home, plan.experiment, "final").run_id != run.id
    seeded = experiment(home / "elsewhere", seed="8", **CHOSEN)
    assert runs.find(home, pipeline.plan(home, seeded, "walk-forward").run_id) is None


def test_other_data_under_the_same_settings_is_another_run(run: Run, home: Path, copy: Path) -> None:
    fetched(copy, "FLOW-1", days=DAYS + 1)
    plan = pipeline.plan(copy, experiment(copy, **CHOSEN), "walk-forward")
    assert plan.experiment.id == experiment(home, **CHOSEN).id
    assert plan.run_id != run.id
    old = runs.load(copy, run.id)
    assert pipeline.bars_of(copy, old).digest == old.manifest["data"]["digest"] != plan.bars.digest
    store.sweep(store.TableName(copy / "data", "synthetic", "FLOW-1", "1m"), timedelta(0))
    with pytest.raises(DamagedData, match=f"the stored bars are not those that run {run.id} saw"):
        pipeline.bars_of(copy, old)


def test_a_run_of_other_code_is_not_this_run(run: Run, copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert runs.find(copy, run.id) is not None
    monkeypatch.setattr(runs, "code_digest", lambda: "another")
    assert runs.find(copy, run.id) is None
    folder = runs.runs_folder(copy) / run.id
    runs.reopen(folder)
    assert contents(folder) == {"code": b"another"}


def test_a_changed_byte_in_any_file_of_a_run_is_seen_before_a_model_is_read(
    run: Run, copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import lightgbm

    def parsed(*_: object, **__: object) -> None:
        raise AssertionError("LightGBM was given a damaged file, which can crash the process")

    monkeypatch.setattr(lightgbm, "Booster", parsed)
    folder = runs.runs_folder(copy) / run.id
    names = sorted(contents(folder))
    assert len(names) == 16
    for name in names:
        path = folder / name
        whole = path.read_bytes()
        middle = len(whole) // 2
        flipped = whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :]
        for damaged in (whole[:-1], flipped):
            path.write_bytes(damaged)
            with pytest.raises(DamagedData, match=name):
                runs.load(copy, run.id)
        path.write_bytes(whole)
        if name != "run.json":
            path.unlink()
            with pytest.raises(DamagedData, match=f"{name} is missing or was changed"):
                runs.load(copy, run.id)
            path.write_bytes(whole)
    assert runs.load(copy, run.id).id == run.id


def test_what_a_manifest_says_cannot_be_changed_unseen(run: Run, copy: Path) -> None:
    path = runs.runs_folder(copy) / run.id / "run.json"
    manifest = json.loads(path.read_text())
    path.write_text(json.dumps({**manifest, "sharpe_per_day": 9.9}, indent=2))
    with pytest.raises(DamagedData, match=r"run\.json is not what a run wrote"):
        runs.load(copy, run.id)


def test_a_leak_in_a_feature_file_is_refused_by_its_name(tmp_path: Path, own_registry: None) -> None:
    (tmp_path / "mine.py").write_text(
        "import polars as pl\n"
        "from lab.features import feature\n\n"
        "@feature(lookback=1)\n"
        "def tomorrow() -> pl.Expr:\n"
        '    """What the next bar will earn."""\n'
        '    return pl.col("close").shift(-1) / pl.col("close")\n'
    )
    leaky = experiment(tmp_path, features='["tomorrow", "log_return(5)"]', feature_file='"mine.py"')
    with pytest.raises(LookAhead, match="feature tomorrow reads the future") as refusal:
        pipeline.plan(tmp_path, leaky, "walk-forward")
    assert "tomorrow" in refusal.value.fix
    assert not (tmp_path / "experiments").exists()


def test_an_honest_feature_file_is_the_same_run_in_other_processes(tmp_path: Path, own_registry: None) -> None:
    (tmp_path / "mine.py").write_text(
        "import polars as pl\n"
        "from lab.features import feature\n\n"
        "@feature(lookback=lambda bars: bars + 1)\n"
        "def gain(bars: int = 3) -> pl.Expr:\n"
        '    """What the last bars earned."""\n'
        '    return pl.col("close") / pl.col("close").shift(bars) - 1\n'
    )
    fetched(tmp_path, "FLOW-1", days=1.5)
    chosen = experiment(tmp_path, features='["gain(4)", "flow_imbalance(5)"]', feature_file='"mine.py"')
    assert chosen.columns == ["gain_4", "flow_imbalance_5"]
    first = carried_out(tmp_path, chosen, workers=2)
    before = contents(first.folder)
    shutil.rmtree(first.folder)
    second = carried_out(tmp_path, chosen)
    assert second.id == first.id
    assert contents(second.folder) == before
    (tmp_path / "mine.py").write_text((tmp_path / "mine.py").read_text().replace("- 1", "- 2"))
    assert Experiment.load(tmp_path / "small.toml").id != chosen.id


def test_no_fold_sees_a_bar_from_after_its_test(run: Run, copy: Path) -> None:
    """Later bars changed beyond recognition leave every earlier fold as it was."""
    from lab import store
    from lab.nouns import Bars, Piece

    plan = pipeline.plan(copy, experiment(copy, **CHOSEN), "walk-forward")
    last: Fold = plan.folds[-1]
    later = pl.col("time") >= last.test.start
    for symbol in plan.bars.symbols:
        own = plan.bars.of_symbol(symbol)
        poisoned = own.frame.with_columns(
            pl.when(later).then(pl.col(name) * 1000).otherwise(name).alias(name)
            for name in ("open", "high", "low", "close", "volume")
        )
        store.commit(copy / "data", "synthetic", [Piece(symbol, "poison", "poison", Bars(poisoned, "1m"))])
    other = carried_out(copy, plan.experiment)
    assert other.id != run.id
    for number in range(last.number + 1):
        models = [(each.folder / f"folds/{number:02d}/model").read_bytes() for each in (run, other)]
        assert models[0] == models[1]
    scores = [pl.read_parquet(each.folder / "folds/02/scores.parquet")["score"] for each in (run, other)]
    assert not scores[0].equals(scores[1])  # the poison did reach what came after it
    decided = [each.table("decisions").filter(pl.col("time") < last.test.start).drop("answer") for each in (run, other)]
    assert decided[0].height > 1000
    assert decided[0].equals(decided[1])


def test_a_run_hands_out_a_portfolio_with_its_own_money(tmp_path: Path) -> None:
    fetched(tmp_path, "FLOW-1", "FLOW-2", days=2.5)
    run = carried_out(tmp_path, experiment(tmp_path, data__symbols='["FLOW-1", "FLOW-2"]'))
    portfolio = pipeline.portfolio(tmp_path, run)
    assert portfolio.orders.count().sum() == run.table("fills").height > 10
    assert portfolio.final_value().sum() == pytest.approx(run.table("equity")["equity"][-1], abs=1e-9)


def test_a_final_model_has_nothing_to_be_judged_by(tmp_path: Path) -> None:
    fetched(tmp_path, "FLOW-1", days=1)
    plan = pipeline.plan(tmp_path, experiment(tmp_path), "final")
    assert list(pipeline.learn(plan)) == [0]
    run = pipeline.conclude(plan, "a test")
    for ask in (lambda: findings.weigh(tmp_path, run), lambda: pipeline.portfolio(tmp_path, run)):
        with pytest.raises(UsageError, match="nothing is left to judge it by"):
            ask()
    assert runs.trials(tmp_path, plan.experiment.markets) == []
