"""Runs: what is in the folder of runs and in the ledger, and how a run is asked for."""

import json
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from lab import findings, pipeline, runs
from lab.backtest import Costs
from lab.errors import DamagedData, LabError, UnknownName, UsageError
from lab.nouns import Run
from lab.runs import Trial
from tests.small import carried_out, experiment, fetched

BTC, ETH = "binance BTCUSDT 1m", "binance ETHUSDT 1m"


def saved(root: Path, identifier: str, age: float = 0.0, **more: object) -> Run:
    """A run with nothing in it but a note."""
    folder = runs.runs_folder(root) / identifier
    folder.mkdir(parents=True)
    (folder / "note").write_text(identifier)
    manifest = {"id": identifier, "kind": "walk-forward", "command": "lab train x.toml", "lineage": runs.lineage()}
    run = runs.save(folder, {**manifest, **more})
    os.utime(folder / "run.json", (1e9 - age, 1e9 - age))
    return run


def test_the_ledger_gives_back_every_configuration_once_with_the_last_word_about_it(tmp_path: Path) -> None:
    for trial in (
        Trial("a", (BTC,), None),
        Trial("b", (BTC,), 0.5),
        Trial("a", (BTC,), 0.25),
        Trial("a", (BTC,), None),  # tried again and interrupted: what is known of it stays known
        Trial("b", (BTC,), -0.1),
        Trial("c", (BTC,), None),
    ):
        runs.record(tmp_path, trial)
    assert runs.trials(tmp_path, (BTC,)) == [
        Trial("a", (BTC,), 0.25),
        Trial("b", (BTC,), -0.1),
        Trial("c", (BTC,), None),
    ]


def test_a_trial_counts_on_every_market_that_it_traded_and_on_no_other(tmp_path: Path) -> None:
    both, other = Trial("both", (BTC, ETH), 0.1), Trial("other", (ETH,), 0.2)
    for trial in (both, other, Trial("daily", ("binance BTCUSDT 1d",), 0.3)):
        runs.record(tmp_path, trial)
    assert runs.trials(tmp_path, (BTC,)) == [both]
    assert runs.trials(tmp_path, (ETH,)) == [both, other]
    assert runs.trials(tmp_path, (BTC, ETH)) == [both, other]
    assert runs.trials(tmp_path, ("binance SOLUSDT 1m",)) == []


def test_no_ledger_holds_no_trial(tmp_path: Path) -> None:
    assert runs.trials(tmp_path, (BTC,)) == []
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"{",
        b"null",
        b"7",
        b"[]",
        b'{"trial": "a", "market": ["m"]}',
        b'{"market": ["m"], "sharpe": 1}',
        b'{"trial": "a", "market": 7, "sharpe": 1}',
        b'{"trial": "a", "market": ["m"], "sharpe": "much"}',
        b'{"trial": "a", "market": ["m"], "sharpe": NaN}',
        b'{"trial": "a", "market": ["m"], "sharpe": 1e999}',
        b'{"trial": "a", "market": ["m"], "sh\xff',
        b'{"trial": "a", "market": ["m"], "sharpe": 1}{"trial": "b", "market": ["m"], "sharpe": 1}',
    ],
)
def test_a_damaged_line_of_the_ledger_is_named(line: bytes, tmp_path: Path) -> None:
    runs.record(tmp_path, Trial("a", (BTC,), 0.5))
    ledger = tmp_path / "experiments" / "ledger.jsonl"
    ledger.write_bytes(ledger.read_bytes() + line + b"\n")
    runs.record(tmp_path, Trial("b", (BTC,), 0.5))
    with pytest.raises(LabError) as refusal:
        runs.trials(tmp_path, (BTC,))
    assert refusal.value.problem == f"line 2 of {ledger} is not a trial"
    assert refusal.value.fix == "restore the ledger from a backup"


def test_writers_at_the_same_moment_lose_no_line(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda n: runs.record(tmp_path, Trial(f"{n:03d}", (BTC,), n / 7)), range(100)))
    found = runs.trials(tmp_path, (BTC,))
    assert sorted(trial.id for trial in found) == [f"{n:03d}" for n in range(100)]
    assert {trial.id: trial.sharpe for trial in found}["050"] == 50 / 7


def test_a_sharpe_ratio_that_is_no_number_is_not_recorded(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        runs.record(tmp_path, Trial("a", (BTC,), float("nan")))
    assert runs.trials(tmp_path, (BTC,)) == []


def test_a_run_is_asked_for_by_its_id_by_how_it_begins_or_as_the_last(tmp_path: Path) -> None:
    old, new = saved(tmp_path, "abcd1111", age=50), saved(tmp_path, "abce2222")
    assert runs.load(tmp_path, "abcd1111") == runs.load(tmp_path, "abcd") == old
    assert runs.load(tmp_path, "last") == runs.load(tmp_path, "abce") == new
    assert list(runs.listed(tmp_path)) == [old, new]
    with pytest.raises(UnknownName, match="there is no run named 'abcx1111'") as refusal:
        runs.load(tmp_path, "abcx1111")
    assert refusal.value.fix == "did you mean abcd1111?"
    for too_short in ("abc", "", "*", "../abcd1111"):
        with pytest.raises(UnknownName):
            runs.load(tmp_path, too_short)


def test_a_beginning_that_fits_two_runs_names_them(tmp_path: Path) -> None:
    saved(tmp_path, "abcd1111", age=50)
    saved(tmp_path, "abcd2222")
    with pytest.raises(UsageError, match="'abcd' fits 2 runs: abcd1111, abcd2222"):
        runs.load(tmp_path, "abcd")


def test_where_no_run_is_the_way_to_one_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="there are no runs yet"):
        runs.load(tmp_path, "last")
    assert list(runs.listed(tmp_path)) == []
    assert runs.find(tmp_path, "abcd1111") is None


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "7", "{}", '{"id": "a", "seal": 1}'])
def test_a_manifest_that_is_none_is_damaged_data(text: str, tmp_path: Path) -> None:
    run = saved(tmp_path, "abcd1111")
    (run.folder / "run.json").write_text(text)
    with pytest.raises(DamagedData, match=r"run\.json is not what a run wrote"):
        runs.load(tmp_path, "abcd1111")


def test_what_a_kill_left_behind_is_no_part_of_a_run(tmp_path: Path) -> None:
    folder = runs.runs_folder(tmp_path) / "abcd1111"
    folder.mkdir(parents=True)
    (folder / ".note.7-ab.tmp").write_text("half")
    run = saved_into(folder)
    assert run.manifest["files"] == {}
    (folder / ".note.7-ab.tmp").unlink()
    assert runs.load(tmp_path, "abcd1111") == run


def saved_into(folder: Path) -> Run:
    return runs.save(folder, {"id": folder.name, "kind": "final", "command": "", "lineage": runs.lineage()})


def test_the_lineage_names_the_code_and_every_library_that_numbers_come_from() -> None:
    lineage = json.loads(json.dumps(runs.lineage()))
    assert set(lineage) == {"lab", "code", "python", "packages"}
    assert set(lineage["packages"]) == set(runs.PACKAGES)
    assert len(lineage["code"]) == 64


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("home")
    fetched(root, "FLOW-1", days=2.5)
    return root


def test_every_other_policy_or_cost_that_a_run_is_replayed_under_is_one_more_trial(home: Path) -> None:
    chosen = experiment(home)
    run = carried_out(home, chosen)
    policy, costs = chosen.policy, chosen.costs

    def tried() -> int:
        return len(runs.trials(home, chosen.markets))

    assert tried() == 1
    again = pipeline.replay(home, run, policy, costs, "numba")
    assert (tried(), again["trials"]) == (1, 1)  # the run itself, once more
    dearer = Costs(fee_bps=5.0, slippage_bps=1.0)
    changed = pipeline.replay(home, run, policy, dearer, "numba")
    assert (tried(), changed["trials"]) == (2, 2)
    assert pipeline.replay(home, run, policy, dearer, "numba") == changed  # the same variant counts once
    for number, other in enumerate((replace(policy, exit=0.0001), replace(policy, shorts=False)), start=3):
        assert pipeline.replay(home, run, other, costs, "numba")["trials"] == number
    assert tried() == 4
    assert findings.weigh(home, run)["trials"] == 4
    assert again["sharpe"] == findings.weigh(home, run)["sharpe"]
    assert runs.trials(home, ("synthetic FLOW-2 1m",)) == []


def test_a_model_fitted_on_everything_is_no_trial_and_shows_no_skill(tmp_path: Path) -> None:
    fetched(tmp_path, "FLOW-1", days=1.5)
    plan = pipeline.plan(tmp_path, experiment(tmp_path), "final")
    assert list(pipeline.learn(plan)) == [0]
    run = pipeline.conclude(plan, "lab train small.toml")
    assert run.kind == "final"
    assert runs.trials(tmp_path, plan.experiment.markets) == []
    with pytest.raises(UsageError, match=f"run {run.id} was fitted on all of its data"):
        findings.weigh(tmp_path, run)
