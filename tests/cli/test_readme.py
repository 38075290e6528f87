"""Every command of the README's walkthrough runs, in its order, on real archives where they are at hand."""

import json
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import polars as pl
import pytest

from lab.features import certified, own, plain
from tests.archive import Archive, kline_lines, month_path, serving, utc, zipped

ROOT = Path(__file__).parents[2]
REAL = ROOT.parent / "shared" / "market" / "crypto" / "binance_spot" / "klines_1m"


def walkthrough() -> list[list[str]]:
    text = (ROOT / "README.md").read_text().split("## Walkthrough")[1].split("## An experiment")[0]
    return [shlex.split(line) for line in re.findall(r"^lab .*$", text, flags=re.MULTILINE)]


@pytest.fixture
def archive(tmp_path: Path) -> Iterator[Archive]:
    """BTCUSDT of March and April 2026 as the exchange serves it: the real files, or made-up ones of their shape."""
    with serving(tmp_path / "archive") as served:
        for month, days in (("2026-03", 31), ("2026-04", 30)):
            real = REAL / f"BTCUSDT-1m-{month}.zip"
            made = kline_lines(utc(2026, int(month[-2:]), 1), days * 1440, unit="us")
            body = real.read_bytes() if real.is_file() else zipped(f"BTCUSDT-1m-{month}.csv", "".join(made))
            served.publish(month_path("BTCUSDT", month), body)
        yield served


def test_every_command_of_the_walkthrough_runs(archive: Archive, tmp_path: Path) -> None:
    folder = tmp_path / "work"
    (folder / "experiments").mkdir(parents=True)
    for example in (ROOT / "experiments").glob("*.toml"):
        shutil.copy(example, folder / "experiments")
    commands = walkthrough()
    assert len(commands) == 23
    said = {}
    for command in commands:
        mirror = ["--base-url", archive.url] if "binance" in command else []
        done = subprocess.run(
            [sys.executable, "-m", "cli", *command[1:], *mirror],
            cwd=folder,
            env={"PATH": "/usr/bin:/bin", "PYTHONPATH": str(ROOT), "HOME": str(tmp_path)},
            capture_output=True,
            text=True,
            timeout=240,
        )
        assert (done.returncode, "Traceback" in done.stderr) == (0, False), (command, done.stderr)
        said[" ".join(command)] = done.stdout

    assert "BTCUSDT 1m: +87,840 rows" in next(text for name, text in said.items() if "BTCUSDT" in name)
    assert "3 files" in said["lab data verify"] or "whole" in said["lab data verify"]
    page = folder / said["lab report last"].strip()
    assert page.read_text().startswith("<!doctype html>")
    trained = said["lab train experiments/btcusdt.toml --walk-forward --workers 2"]
    by_vectorbt = said["lab backtest last --engine vectorbt"]
    assert net_return(trained) == net_return(by_vectorbt)
    assert "No skill is reported" in said["lab train experiments/btcusdt.toml"]

    # The ledger has both runs, and the replay at other costs, which was one more trial.
    ledger = [json.loads(line) for line in (folder / "experiments" / "ledger.jsonl").read_text().splitlines()]
    assert len({line["trial"] for line in ledger}) == 3
    stored = pl.read_parquet(folder / "data/kind=bars/source=binance/**/*.parquet", hive_partitioning=True)
    assert stored.filter(pl.col("symbol") == "BTCUSDT").height == 87_840


def net_return(text: str) -> str:
    found = re.search(r"net return\s*│\s*(\S+)", text)
    assert found
    return found[1]


def test_the_feature_that_the_readme_shows_is_certified(own_registry: None, tmp_path: Path) -> None:
    shown = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), flags=re.DOTALL)
    path = tmp_path / "mine.py"
    path.write_text(shown[0])
    own.use(path)
    lookbacks = [each.lookback for each in certified(tmp_path / "kept", ["close_to_high", "close_to_high(50)"])]
    assert lookbacks == [21, plain("close_to_high(50)").lookback] == [21, 51]


def test_the_feature_that_the_page_on_features_adds_is_certified(own_registry: None, tmp_path: Path) -> None:
    """One function in one file."""
    (shown,) = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "features.md").read_text(), flags=re.DOTALL)
    path = tmp_path / "mine.py"
    path.write_text(shown)
    assert own.use(path) == ["gap_share"]
    (certificate,) = certified(tmp_path / "kept", ["gap_share(7)"])
    assert (certificate.lookback, certificate.memory) == (8, 8)
