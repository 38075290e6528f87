"""The command line: quick to answer, plain about errors, the same result for machines."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
HEAVY = {"polars", "numpy", "pandas", "numba", "pyarrow", "duckdb", "lightgbm", "sklearn", "arch", "torch", "vectorbt"}


def lab(folder: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "cli", *arguments],
        cwd=folder,
        env={"PATH": "/usr/bin:/bin", "PYTHONPATH": str(ROOT), "HOME": str(folder)},
        capture_output=True,
        text=True,
        timeout=120,
    )


def imported_by(code: str) -> set[str]:
    done = subprocess.run(
        [sys.executable, "-c", f"{code}\nimport sys; print(*sys.modules)"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    return set(done.stdout.split())


def test_help_imports_nothing_heavy() -> None:
    assert imported_by("import cli.main") & HEAVY == set()


def test_neither_torch_nor_vectorbt_is_imported_before_it_is_needed() -> None:
    code = "import lab.live, lab.pipeline, lab.models, lab.report, lab.sources.binance, lab.backtest.vectorbt"
    assert imported_by(code) & {"torch", "vectorbt", "pandas", "arch", "lightgbm"} == set()


def test_every_verb_explains_itself(tmp_path: Path) -> None:
    verbs = ["demo", "fetch", "bars", "sql", "features", "train", "backtest", "report", "runs", "data"]
    listed = lab(tmp_path, "--help").stdout
    for verb in verbs:
        shown = lab(tmp_path, verb, "--help")
        assert (shown.returncode, verb in listed) == (0, True)
        assert "--json" in shown.stdout


def test_a_listing_of_features_is_the_catalogue(tmp_path: Path) -> None:
    from lab.features import FEATURES, SETS

    shown = json.loads(lab(tmp_path, "features", "--list", "--json").stdout)
    listed = shown["features"]
    assert shown["sets"] == {name: members() for name, members in SETS.items()}
    assert [row["feature"].split("(")[0] for row in listed] == list(FEATURES)
    assert len(listed) >= 300
    by_name = {row["feature"]: row for row in listed}
    assert by_name["rsi(window=14)"] == {
        "feature": "rsi(window=14)",
        "family": "momentum",
        "look-back": 374,
        "needs": "close",
        "formula": by_name["rsi(window=14)"]["formula"],
    }
    assert by_name["flow_imbalance(window=1)"]["needs"] == "buy_volume, volume"
    assert by_name["garch_vol()"]["look-back"] == "fitted"


@pytest.mark.parametrize(
    ("arguments", "code", "problem", "fix"),
    [
        (["train", "nowhere.toml"], 2, "nowhere.toml cannot be read", "name an experiment file"),
        (["report", "last"], 2, "there are no runs yet", "lab train EXPERIMENT --walk-forward"),
        (["features"], 2, "no experiment is named", "lab features --list"),
        (["fetch", "A/B", "--source", "samples", "--interval", "1d"], 2, "A/B", "letters"),
        (["fetch", "X", "--source", "binanse"], 2, "no source named 'binanse'", "did you mean binance"),
        (["fetch", "SP500", "--source", "samples", "--interval", "7m"], 2, "'7m'", ""),
        (["data", "verify"], 0, "", ""),
    ],
)
def test_what_a_user_does_wrong_is_two_lines_and_a_code(
    tmp_path: Path, arguments: list[str], code: int, problem: str, fix: str
) -> None:
    done = lab(tmp_path, *arguments)
    assert done.returncode == code, done.stderr
    if code:
        first, second = done.stderr.splitlines()
        assert first.startswith("error: ")
        assert problem in first
        assert second.startswith("  fix: ")
        assert fix in second
    assert "Traceback" not in done.stderr


def test_an_unknown_verb_is_wrong_usage_with_a_hint(tmp_path: Path) -> None:
    done = lab(tmp_path, "trian")
    assert (done.returncode, "train" in done.stderr) == (2, True)


def test_a_feature_that_reads_the_future_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(
        "import polars as pl\n"
        "from lab.features import feature\n\n\n"
        "@feature(lookback=1)\n"
        "def tomorrow() -> pl.Expr:\n"
        '    """ln(C[+1] / C)."""\n'
        '    return (pl.col("close").shift(-1) / pl.col("close")).log()\n'
    )
    example = (ROOT / "experiments" / "sp500.toml").read_text()
    leaky = example.replace('"rsi(14)"', '"tomorrow"').replace("seed = 7", 'seed = 7\nfeature_file = "mine.py"')
    (tmp_path / "leaky.toml").write_text(leaky)
    done = lab(tmp_path, "train", "leaky.toml", "--walk-forward")
    assert done.returncode == 1
    assert "feature tomorrow reads the future" in done.stderr
    assert "bar 0 changes with bar 1" in done.stderr
    assert not (tmp_path / "experiments").exists()


def test_certifying_a_file_names_what_is_honest_and_what_is_not(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(
        "import polars as pl\n"
        "from lab.features import feature\n\n\n"
        "@feature(lookback=2)\n"
        "def gain() -> pl.Expr:\n"
        '    """C / C[-1]."""\n'
        '    return pl.col("close") / pl.col("close").shift(1)\n\n\n'
        "@feature(lookback=3)\n"
        "def middle() -> pl.Expr:\n"
        '    """Mean of three closes around this one, over it."""\n'
        '    return pl.col("close").rolling_mean(3, center=True) / pl.col("close")\n'
    )
    done = lab(tmp_path, "features", "--certify", "mine.py")
    assert done.returncode == 1
    assert "1 certified" in done.stdout
    said = "feature middle reads the future: on the plain market its value at bar 2 changes with bar 3"
    assert f"refused: {said}" in done.stdout
    assert done.stderr.splitlines()[0] == f"error: 1 of 2 features break a law, the first: {said}"
    assert "Traceback" not in done.stderr
    listed = json.loads(lab(tmp_path, "features", "--certify", "mine.py", "--json").stdout)["features"]
    assert [(row["feature"], row["certified"]) for row in listed] == [("gain", True), ("middle", False)]
    assert (listed[0]["lookback"], listed[0]["memory"]) == (2, 2)
    assert len(list((tmp_path / "data" / "certificates").iterdir())) == 1


def test_certifying_what_does_not_exist_is_answered_with_the_nearest_names(tmp_path: Path) -> None:
    done = lab(tmp_path, "features", "--certify", "bodi")
    assert done.returncode == 2
    assert "there is no feature named 'bodi'" in done.stderr
    assert "did you mean body" in done.stderr


def test_the_demo_says_what_is_made_up_and_how_much_was_found(tmp_path: Path) -> None:
    done = lab(tmp_path, "demo", "--json")
    assert done.returncode == 0, done.stderr
    made_up, real = json.loads(done.stdout)
    assert (made_up["real"], real["real"]) == (False, True)
    assert made_up["evidence"]["claim"] is True
    # At least 60 % of the best correlation there is; more than that best, by chance, would be a leak.
    found, best = made_up["planted"]["found_correlation"], made_up["planted"]["best_correlation"]
    assert 0.6 * best < found < best
    assert 0 < made_up["planted"]["found_return"] < made_up["planted"]["best_return"]
    assert real["evidence"]["claim"] is False
    for result in (made_up, real):
        page = (tmp_path / result["page"]).read_text()
        assert result["evidence"]["verdict"] in page
    assert "Synthetic market" in (tmp_path / made_up["page"]).read_text()
    again = json.loads(lab(tmp_path, "demo", "--json").stdout)
    assert [each["run"] for each in again] == [made_up["run"], real["run"]]
    assert again == [made_up, real]
