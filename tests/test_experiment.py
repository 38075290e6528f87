"""Experiment: what a person writes is what is meant, or it is refused by name."""

import pickle
from datetime import UTC, datetime
from pathlib import Path

import pytest

from lab import models
from lab.errors import BadExperiment, LabError, UnknownName, UsageError
from lab.experiment import Experiment
from lab.models.linear import Linear
from tests.small import experiment, experiment_text

EXAMPLES = sorted((Path(__file__).parents[1] / "experiments").glob("*.toml"))


def load(folder: Path, text: str) -> Experiment:
    path = folder / "mine.toml"
    path.write_text(text)
    return Experiment.load(path)


def refused(folder: Path, **changes: str | None) -> UsageError:
    with pytest.raises(UsageError) as refusal:
        experiment(folder, **changes)
    assert refusal.value.exit_code == 2
    return refusal.value


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_every_example_is_an_experiment(path: Path) -> None:
    chosen = Experiment.load(path)
    assert len(chosen.columns) == len(chosen.features) == len(set(chosen.columns))
    assert len(chosen.id) == 64


def test_there_are_examples() -> None:
    assert {path.stem for path in EXAMPLES} >= {"synthetic", "btcusdt"}


def test_what_is_written_is_what_is_meant(tmp_path: Path) -> None:
    chosen = experiment(
        tmp_path,
        features='["volatile_regime", "rsi(14)", "log_return"]',
        model__penalty="0.5",
        data__start="2024-01-01",
        data__end="2024-01-03T12:00:00+02:00",
        costs__slippage_bps="2",
    )
    assert chosen.columns == ["rsi_14", "log_return_1", "volatile_regime_250"]  # the fitted ones come last
    assert chosen.learner == Linear(penalty=0.5)
    assert chosen.resolved_label.name == "forward_return_30"
    assert (chosen.data.start, chosen.data.end) == (
        datetime(2024, 1, 1, tzinfo=UTC),
        datetime(2024, 1, 3, 10, tzinfo=UTC),
    )
    assert chosen.costs.total_bps == 2.5
    assert chosen.markets == ("synthetic FLOW-1 1m",)
    assert experiment(tmp_path, data__symbols='["B", "A", "B"]').markets == ("synthetic A 1m", "synthetic B 1m")


@pytest.mark.parametrize(
    ("changes", "where", "meant"),
    [
        ({"sead": "1"}, "sead", "seed"),
        ({"data__symbol": '"A"'}, "data.symbol", "symbols"),
        ({"folds__purge": "5"}, "folds.purge", None),
        ({"folds__expandng": "true"}, "folds.expandng", "expanding"),
        ({"policy__entr": "1.0"}, "policy.entr", "enter"),
        ({"policy__target_volatility": "1.0"}, "policy.target_volatility", "target_vol"),
        ({"costs__fee": "1.0"}, "costs.fee", None),
        ({"model__penlty": "1.0"}, "penlty", "penalty"),
        ({"extra__thing": "1"}, "extra", None),
    ],
)
def test_a_setting_that_nothing_reads_is_refused_with_the_one_that_was_meant(
    changes: dict[str, str], where: str, meant: str | None, tmp_path: Path
) -> None:
    refusal = refused(tmp_path, **changes)
    assert isinstance(refusal, BadExperiment)
    assert refusal.problem == f"{tmp_path / 'small.toml'}: {where} is not a setting"
    if meant:
        assert refusal.fix.startswith("did you mean ")
        assert meant in refusal.fix


@pytest.mark.parametrize(
    "key",
    [
        *("name", "features", "label", "data__source", "data__symbols", "data__interval", "folds__train"),
        *("folds__test", "policy__enter", "costs__fee_bps", "costs__slippage_bps"),
    ],
)
def test_a_setting_that_must_be_there_is_missed_by_name(key: str, tmp_path: Path) -> None:
    refusal = refused(tmp_path, **{key: None})
    where = key.replace("__", ".")
    if key == "policy__enter":  # the only one of its table, which goes with it
        where = "policy"
    assert refusal.problem == f"{tmp_path / 'small.toml'}: {where} is missing"
    assert refusal.fix == f"add {where} = …"


def test_a_model_without_a_name_is_refused_with_the_choices(tmp_path: Path) -> None:
    refusal = refused(tmp_path, model__name=None, model__penalty="0.1")
    assert isinstance(refusal, UnknownName)
    assert refusal.fix == f"choose one of: {', '.join(sorted(models.MODELS))}"


@pytest.mark.parametrize(
    ("changes", "where"),
    [
        ({"name": "7"}, "name"),
        ({"seed": "1.5"}, "seed"),
        ({"seed": "-1"}, "seed"),
        ({"seed": "2147483648"}, "seed"),
        ({"seed": "nan"}, "seed"),
        ({"features": '"rsi(14)"'}, "features"),
        ({"features": "[]"}, "features"),
        ({"features": "[14]"}, "features.0"),
        ({"label": "30"}, "label"),
        ({"data__symbols": "[]"}, "data.symbols"),
        ({"data__symbols": '"FLOW-1"'}, "data.symbols"),
        ({"data__start": '"yesterday"'}, "data.start"),
        ({"data__start": "20240101"}, "data.start"),
        ({"data__end": "2024.5"}, "data.end"),
        ({"folds__train": "5"}, "folds.train"),
        ({"folds__expanding": '"perhaps"'}, "folds.expanding"),
        ({"model__penalty": '"much"'}, "penalty"),
        ({"model__penalty": "nan"}, "penalty"),
        ({"model__penalty": "inf"}, "penalty"),
        ({"model__penalty": "-1.0"}, "penalty"),
        ({"policy__enter": "nan"}, "policy.enter"),
        ({"policy__enter": "inf"}, "policy.enter"),
        ({"policy__enter": "0.0"}, "policy.enter"),
        ({"policy__exit": "nan"}, "policy.exit"),
        ({"policy__target_vol": "-0.1"}, "policy.target_vol"),
        ({"policy__vol_window": "0"}, "policy.vol_window"),
        ({"policy__resize_band": "1.1"}, "policy.resize_band"),
        ({"costs__fee_bps": "-0.1"}, "costs.fee_bps"),
        ({"costs__fee_bps": "nan"}, "costs.fee_bps"),
        ({"costs__slippage_bps": "1000.0"}, "costs.slippage_bps"),
    ],
)
def test_a_value_that_cannot_be_meant_is_refused_by_the_name_of_its_setting(
    changes: dict[str, str], where: str, tmp_path: Path
) -> None:
    refusal = refused(tmp_path, **changes)
    assert isinstance(refusal, BadExperiment)
    assert refusal.problem.startswith(f"{tmp_path / 'small.toml'}: {where} is ")
    assert refusal.fix == f"correct {where}"


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"features": '["rsy(14)"]'}, "there is no feature named 'rsy'"),
        ({"features": '["rsi(window=14.5)"]'}, "rsi: window is 14.5, which is not an int"),
        ({"features": '["rsi(span=14)"]'}, "rsi: got an unexpected keyword argument 'span'"),
        ({"features": '["rsi(14"]'}, "'rsi(14' is not a name with parameters"),
        ({"features": '["rsi(-1)"]'}, "rsi: window is -1"),
        ({"label": '"forward_retrun(30)"'}, "there is no label named 'forward_retrun'"),
        ({"label": '"forward_return(0)"'}, "forward_return(0) has a horizon of 0 bars"),
        ({"label": '"direction(30, band=1)"'}, "direction: got an unexpected keyword argument 'band'"),
        ({"model__name": '"linaer"'}, "there is no model named 'linaer'"),
        ({"model__name": "3"}, "there is no model named '3'"),
        ({"data__interval": '"7m"'}, "there is no interval named '7m'"),
        ({"folds__train": '"a month"'}, "'a month' is not a length of time"),
        ({"folds__embargo": '"-1d"'}, "'-1d' is not a length of time"),
        ({"policy__exit": "0.5"}, "policy: enter is 0.0002 and exit is 0.5"),
    ],
)
def test_a_name_or_length_that_does_not_exist_is_refused(changes: dict[str, str], problem: str, tmp_path: Path) -> None:
    refusal = refused(tmp_path, **changes)
    assert refusal.problem == problem
    assert refusal.fix


def test_a_file_that_is_not_there_or_no_toml_is_refused_with_its_name(tmp_path: Path) -> None:
    missing = tmp_path / "none.toml"
    with pytest.raises(BadExperiment, match="cannot be read: No such file or directory"):
        Experiment.load(missing)
    with pytest.raises(BadExperiment, match="cannot be read: Is a directory"):
        Experiment.load(tmp_path)
    for text in ("name = ", "name = 'a'\nname = 'b'", "[data", "\x00"):
        with pytest.raises(BadExperiment, match=r"mine\.toml is not TOML: "):
            load(tmp_path, text)
    (tmp_path / "mine.toml").write_bytes(b"name = '\xff'")
    with pytest.raises(BadExperiment, match=r"mine\.toml is not TOML: "):
        Experiment.load(tmp_path / "mine.toml")
    with pytest.raises(BadExperiment, match="name is missing"):
        load(tmp_path, "")


@pytest.mark.parametrize(
    "changes",
    [
        {"name": '"Renamed"'},
        {"data__symbols": '["FLOW-2", "FLOW-1", "FLOW-2"]'},
        {"folds__train": '"24h"', "folds__test": '"1440m"'},
        {"folds__embargo": '"0m"', "folds__expanding": "false"},
        {"model__penalty": "0.001"},
        {"policy__exit": "0", "policy__vol_window": "60", "policy__resize_band": "0.10", "policy__shorts": "true"},
        {"costs__slippage_bps": "0"},
        {"label": '"forward_return(horizon=30)"'},
        {"features": '["flow_imbalance(window=5)", "flow_imbalance( 20 )", "log_return(5)", "log_return(5)"]'},
    ],
)
def test_two_files_that_say_the_same_are_one_experiment(changes: dict[str, str], tmp_path: Path) -> None:
    plain = {"data__symbols": '["FLOW-1", "FLOW-2"]'}
    assert experiment(tmp_path, **{**plain, **changes}).id == experiment(tmp_path, **plain).id


@pytest.mark.parametrize(
    "changes",
    [
        {"seed": "8"},
        {"features": '["flow_imbalance(20)", "flow_imbalance(5)", "log_return(5)"]'},  # a tree draws columns by place
        {"label": '"forward_return(31)"'},
        {"data__symbols": '["FLOW-2"]'},
        {"data__start": "2024-01-01"},
        {"folds__embargo": '"1m"'},
        {"folds__expanding": "true"},
        {"model__penalty": "0.002"},
        {"model__name": '"nothing"'},
        {"policy__shorts": "false"},
        {"costs__fee_bps": "0.6"},
    ],
)
def test_two_files_that_say_something_else_are_two_experiments(changes: dict[str, str], tmp_path: Path) -> None:
    assert experiment(tmp_path, **changes).id != experiment(tmp_path).id


def test_parameters_that_differ_in_the_last_digits_are_two_experiments(tmp_path: Path) -> None:
    one, other = (
        experiment(tmp_path, label=f'"direction(30, band_bps={band})"') for band in ("1.2345678", "1.2345679")
    )
    assert one.resolved_label.name != other.resolved_label.name
    assert one.id != other.id


def test_settings_name_every_default(tmp_path: Path) -> None:
    assert experiment(tmp_path).settings == {
        "data": {
            "source": "synthetic",
            "symbols": ["FLOW-1"],
            "interval": "1m",
            "start": None,
            "end": None,
            "join": [],
            "bridge": "0d",
        },
        "features": ["flow_imbalance_5", "flow_imbalance_20", "log_return_5"],
        "feature_file": None,
        "label": "forward_return_30",
        "folds": {"train": "1d", "test": "1d", "embargo": "0d", "expanding": False},
        "model": {"name": "linear", "penalty": 0.001},
        "policy": {
            "enter": 0.0002,
            "exit": 0.0,
            "target_vol": None,
            "vol_window": 60,
            "resize_band": 0.1,
            "shorts": True,
        },
        "costs": {"fee_bps": 0.5, "slippage_bps": 0.0},
        "seed": 7,
    }


def test_an_experiment_is_the_same_in_another_process_and_in_a_manifest(tmp_path: Path) -> None:
    chosen = experiment(tmp_path, features='["volatile_regime", "log_return(5)"]', data__end="2024-01-03")
    assert chosen.id  # everything that can be looked up has been
    again = pickle.loads(pickle.dumps(chosen))
    kept = Experiment.model_validate(chosen.model_dump(mode="json"))
    for other in (again, kept):
        assert other == chosen
        assert other.id == chosen.id
    assert again.data.end == datetime(2024, 1, 3, tzinfo=UTC)


def test_an_experiment_does_not_change(tmp_path: Path) -> None:
    chosen = experiment(tmp_path)
    with pytest.raises(ValueError, match="frozen"):
        chosen.seed = 8  # type: ignore[misc]
    with pytest.raises(ValueError, match="frozen"):
        chosen.folds.embargo = "9d"  # type: ignore[misc]


@pytest.mark.parametrize(
    ("source", "problem"),
    [
        (None, "is not a Python file"),
        ("def broken(:", "does not run: SyntaxError"),
        ("raise RuntimeError('no')", "does not run: RuntimeError: no"),
        ("import nothing_of_that_name", "does not run: ModuleNotFoundError"),
    ],
)
def test_a_feature_file_that_cannot_be_run_is_refused_by_name(
    source: str | None, problem: str, tmp_path: Path, own_registry: None
) -> None:
    if source is not None:
        (tmp_path / "mine.py").write_text(source)
    with pytest.raises(UsageError, match=problem) as refusal:
        experiment(tmp_path, feature_file='"mine.py"')
    assert str(tmp_path / "mine.py") in refusal.value.problem


def test_a_span_that_ends_before_it_starts_is_refused(tmp_path: Path) -> None:
    from lab import pipeline

    with pytest.raises(LabError, match="is empty"):
        pipeline.plan(tmp_path, experiment(tmp_path, data__start="2024-01-03", data__end="2024-01-02"), "final")


def test_the_text_of_the_small_experiment_is_what_these_tests_change() -> None:
    assert '[folds]\ntrain = "1d"' in experiment_text()
    assert "train" not in experiment_text(folds__train=None)
    assert experiment_text(policy__exit="0.1").count("exit = 0.1") == 1
