"""lab fetch and lab data, as a person runs them: real processes, a real server, killed at any moment."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from lab import store
from lab.kinds import KINDS
from lab.sources import SOURCES
from tests.archive import Archive, cut_short, day_path, kline_lines, month_path, publish_days, serving, utc, zipped

ROOT = Path(__file__).parents[2]
LAB = [sys.executable, "-m", "cli"]


@pytest.fixture
def archive(tmp_path: Path) -> Iterator[Archive]:
    with serving(tmp_path / "archive") as served:
        yield served


def start(folder: Path, *arguments: str) -> "subprocess.Popen[str]":
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "200"}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen([*LAB, *arguments], cwd=folder, env=environment, text=True, **pipes)  # type: ignore[call-overload,no-any-return]


def lab(folder: Path, *arguments: str) -> tuple[int, str, str]:
    with start(folder, *arguments) as process:
        out, err = process.communicate(timeout=60)
    return process.returncode, out, err


def files_of(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


def rows_of(folder: Path) -> dict[str, bytes]:
    """The files that a plain glob sees."""
    return {
        str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.glob("data/kind=*/**/*.parquet"))
    }


def test_fetch_says_what_came_and_the_next_one_downloads_nothing(archive: Archive, tmp_path: Path) -> None:
    lines = kline_lines(utc(2026, 3, 1), 31 * 1440, unit="us")
    broken = lines[50].split(",")
    broken[1] = "-1"
    march = month_path("AAA", "2026-03")
    archive.publish(march, zipped("AAA-1m-2026-03.csv", "".join([*lines[:50], ",".join(broken), *lines[60:]])))
    publish_days(archive, "AAA", utc(2026, 4, 1), 1)
    command = ["fetch", "AAA", "--base-url", archive.url, "--start", "2026-03-01", "--end", "2026-04-03"]
    expected = [
        "AAA 1m: +46,070 rows; 46,070 in all, closed 2026-03-01 00:01 to 2026-04-02 00:00",
        "  missing: 10 that were due; where and why: lab data gaps AAA",
        "  rejected: 1 rows, kept with the reason in data/quarantine",
        f"  absent at the source: 1, {day_path('AAA', utc(2026, 4, 2))} to {day_path('AAA', utc(2026, 4, 2))}",
    ]
    assert lab(tmp_path, *command) == (0, "\n".join(expected) + "\n", "")

    archive.requests.clear()
    folder = next(iter(tmp_path.glob("data/kind=bars/**/month=2026-03")))
    (folder / f"{'0' * 64}.parquet").write_bytes(b"left by a fetch that was killed")
    code, out, _ = lab(tmp_path, *command)
    assert len(list(folder.iterdir())) == 1
    assert (code, out.splitlines()[0].split(";")[0], archive.requests) == (0, "AAA 1m: already here", [])

    code, out, _ = lab(tmp_path, "data", "--json")
    (row,) = json.loads(out)
    assert row.pop("version") >= 1
    assert row == {
        "source": "binance",
        "symbol": "AAA",
        "kind": "bars",
        "interval": "1m",
        "calendar": "continuous",
        "first": "2026-03-01T00:01:00+00:00",
        "last": "2026-04-02T00:00:00+00:00",
        "rows": 46070,
        "missing": 10,
        "rejected": 1,
        "repeats": 0,
        "absent": 1,
        "bytes": sum(path.stat().st_size for path in tmp_path.glob("data/kind=bars/**/*.parquet")),
    }
    assert "46,070 │      10 │        1 │" in lab(tmp_path, "data")[1]


def test_gaps_say_where_and_why_and_the_log_who_and_from_what(archive: Archive, tmp_path: Path) -> None:
    lines = kline_lines(utc(2026, 3, 1), 31 * 1440, unit="us")
    broken = lines[50].split(",")
    broken[1] = "-1"
    kept = [*lines[:50], ",".join(broken), *lines[60:20_000], *lines[20_005:]]
    archive.publish(month_path("AAA", "2026-03"), zipped("AAA-1m-2026-03.csv", "".join(kept)))
    command = ["fetch", "AAA", "--base-url", archive.url, "--start", "2026-03-01", "--end", "2026-04-01"]
    assert lab(tmp_path, *command)[0] == 0
    code, out, _ = lab(tmp_path, "data", "gaps", "--json")
    found = json.loads(out)
    assert (code, [(gap["missing"], gap["reason"]) for gap in found["gaps"]]) == (0, [(10, "rejected"), (5, "unknown")])
    assert [(row["rows"], row["gaps"], row["missing"]) for row in found["quality"]] == [(31 * 1440 - 15, 2, 15)]
    shown = lab(tmp_path, "data", "gaps", "AAA")[1]
    assert (
        "2026-03-01 00:50 │ 2026-03-01 01:01 │           10 │ rejected │ 1 rows in between could not be bars" in shown
    )
    code, out, err = lab(tmp_path, "data", "gaps", "BBB")
    assert (code, out, err.splitlines()[0]) == (1, "", "error: the store has nothing of BBB")

    code, out, _ = lab(tmp_path, "data", "log", "--json")
    (entry,) = json.loads(out)
    assert entry["change"]["origins"] == [month_path("AAA", "2026-03")]
    assert entry["change"]["command"] == " ".join(["lab", *command])
    assert month_path("AAA", "2026-03")[:20] in lab(tmp_path, "data", "log", "AAA")[1]


def test_a_damaged_file_is_found_set_aside_and_fetched_again(archive: Archive, tmp_path: Path) -> None:
    for month, first in (("2026-03", utc(2026, 3, 1)), ("2026-04", utc(2026, 4, 1))):
        text = "".join(kline_lines(first, 1440))
        archive.publish(month_path("AAA", month), zipped(f"AAA-1m-{month}.csv", text))
    command = ["fetch", "AAA", "--base-url", archive.url, "--start", "2026-03-01", "--end", "2026-05-01"]
    assert lab(tmp_path, *command)[0] == 0
    assert lab(tmp_path, "data", "verify") == (0, "every stored file is whole\n", "")
    assert lab(tmp_path, "data", "repair") == (0, "nothing is damaged\n", "")
    part = next(iter(tmp_path.glob("data/kind=bars/**/month=2026-03/*.parquet")))
    whole = part.read_bytes()
    part.write_bytes(whole[:100] + bytes([whole[100] ^ 1]) + whole[101:])
    code, out, _ = lab(tmp_path, "data", "verify", "--json")
    (damage,) = json.loads(out)
    assert (code, part.name in damage["problem"]) == (1, True)
    code, _, err = lab(tmp_path, "sql", "select count(*) from bars")
    assert (code, part.name in err) == (1, True)
    code, out, _ = lab(tmp_path, "data", "repair")
    assert (code, part.name in out) == (0, True)
    archive.requests.clear()
    mend = damage["fix"].removeprefix("lab data repair, then ").split()[1:]
    assert lab(tmp_path, *mend, "--base-url", archive.url)[0] == 0
    march = month_path("AAA", "2026-03")
    assert archive.requests == [march, f"{march}.CHECKSUM"]
    assert part.read_bytes() == whole
    assert lab(tmp_path, "data", "verify")[0] == 0


def test_sql_answers_over_what_is_stored_and_changes_nothing(archive: Archive, tmp_path: Path) -> None:
    publish_days(archive, "AAA", utc(2026, 3, 1), 2)
    assert (
        lab(tmp_path, "fetch", "AAA", "--base-url", archive.url, "--start", "2026-03-01", "--end", "2026-03-03")[0] == 0
    )
    code, out, _ = lab(tmp_path, "sql", "select symbol, month, count(*) as n from bars group by all", "--json")
    assert (code, json.loads(out)) == (0, [{"symbol": "AAA", "month": "2026-03", "n": 2880}])
    code, out, err = lab(tmp_path, "sql", "select close from bars", "--rows", "3")
    assert (code, err, out.count("│")) == (0, "2,880 rows; the first 3 are shown\n", 6)
    before = files_of(tmp_path)
    code, out, err = lab(tmp_path, "sql", "copy bars to 'x.csv'")
    assert (code, out, err.splitlines()[0]) == (
        2,
        "",
        "error: only one SELECT can be asked; data is never changed by SQL",
    )
    assert files_of(tmp_path) == before


def test_superseded_versions_are_swept_when_asked(archive: Archive, tmp_path: Path) -> None:
    publish_days(archive, "AAA", utc(2026, 3, 1), 2)
    for end in ("2026-03-02", "2026-03-03"):
        command = ["fetch", "AAA", "--base-url", archive.url, "--start", "2026-03-01", "--end", end]
        assert lab(tmp_path, *command)[0] == 0
    assert len(list(tmp_path.glob("data/history/**/*.parquet"))) >= 1
    assert lab(tmp_path, "data", "sweep")[1] == "0 bytes freed\n"
    code, out, _ = lab(tmp_path, "data", "sweep", "--older", "0", "--json")
    assert (code, json.loads(out)["bytes"] > 10_000) == (0, True)
    assert list(tmp_path.glob("data/history/**/*.parquet")) == []
    assert lab(tmp_path, "data", "verify")[0] == 0


def test_a_symbol_that_the_source_does_not_have_is_an_error(archive: Archive, tmp_path: Path) -> None:
    code, out, err = lab(
        tmp_path, "fetch", "NONE", "--base-url", archive.url, "--start", "2026-03-01", "--end", "2026-03-03"
    )
    assert (code, out) == (1, "")
    assert err == "error: binance has no 1m bars of NONE there\n  fix: check the symbol and dates\n"
    assert not (tmp_path / "data").exists()


def test_wrong_use_is_told_what_to_do(tmp_path: Path) -> None:
    cases = {
        ("fetch",): "no symbol is named",
        ("fetch", "A", "--start", "2026-03-01"): "a span has two ends",
        ("fetch", "A", "--source", "file", "--path", "x"): "there is no source named 'file'",
        ("fetch", "A", "--source", "files", "--path", "x", "--map", "time"): "--map time names no column",
        ("fetch", "../A", "--start", "2026-03-01", "--end", "2026-03-02"): "'../A' cannot be the name of a symbol",
    }
    for arguments, problem in cases.items():
        code, out, err = lab(tmp_path, *arguments)
        assert (code, out) == (2, ""), arguments
        assert err.splitlines()[0].startswith(f"error: {problem}")
        assert err.splitlines()[1].startswith("  fix: ")
    assert list(tmp_path.iterdir()) == []


def test_the_sources_are_listed(tmp_path: Path) -> None:
    code, out, _ = lab(tmp_path, "fetch", "--list", "--json")
    rows = {row["source"]: row for row in json.loads(out)}
    assert (code, list(rows)) == (0, sorted([*SOURCES, "ccxt-EXCHANGE"]))
    assert all({*row["kinds"]} <= {*KINDS} and row["kinds"] and row["has"].endswith(".") for row in rows.values())
    assert rows["tardis"]["kinds"] == ["trades", "quotes", "books", "funding", "metrics", "liquidations"]
    assert lab(tmp_path, "fetch", "--list")[1].count("\n") > len(rows)


def test_a_file_is_fetched_by_its_columns(tmp_path: Path) -> None:
    rows = [f"{utc(2026, 3, 1) + n * timedelta(minutes=5):%Y-%m-%d %H:%M},2,3,1,2" for n in range(10)]
    (tmp_path / "bars.csv").write_text("\n".join(["when,open,high,low,price", *rows]))
    command = ["fetch", "MINE", "--source", "files", "--interval", "5m", "--path", "bars.csv"]
    code, _, err = lab(tmp_path, *command)
    assert (code, "'when', 'open', 'high', 'low', 'price'" in err) == (2, True)
    code, out, _ = lab(tmp_path, *command, "--map", "time=when", "--map", "close=price", "--time-is", "close", "--json")
    (row,) = json.loads(out)
    assert (code, row["rows"], row["first"]) == (0, 10, "2026-03-01T00:00:00+00:00")


def test_an_interrupt_keeps_what_is_finished(archive: Archive, tmp_path: Path) -> None:
    publish_days(archive, "AAA", utc(2026, 3, 1), 3)
    third = day_path("AAA", utc(2026, 3, 3))
    stuck: list[float] = []

    def stall(*_: object) -> None:
        stuck.append(time.monotonic())
        time.sleep(6)

    archive.play(third, [stall])
    command = ["fetch", "AAA", "--base-url", archive.url, "--start", "2026-03-01", "--end", "2026-03-04"]
    with start(tmp_path, *command) as process:
        table = store.TableName(tmp_path / "data", "binance", "AAA", "1m")
        while not (stuck and store.done(table)):
            assert process.poll() is None
            time.sleep(0.01)
        time.sleep(1.5)  # in which the second day is finished, if not stored
        process.send_signal(signal.SIGINT)
        process.wait(timeout=10)
    assert process.returncode == 130
    assert len(store.done(store.TableName(tmp_path / "data", "binance", "AAA", "1m"))) == 2
    archive.requests.clear()
    assert lab(tmp_path, *command)[0] == 0
    assert archive.requests == [month_path("AAA", "2026-03"), third, f"{third}.CHECKSUM"]


def test_kill_9_at_twenty_random_moments_loses_nothing(archive: Archive, tmp_path: Path) -> None:
    days = 31
    publish_days(archive, "AAA", utc(2026, 1, 1), days)
    archive.play(day_path("AAA", utc(2026, 1, 9)), [cut_short])
    command = ["fetch", "AAA", "--base-url", archive.url, "--start", "2026-01-01", "--end", "2026-02-01"]
    undisturbed = tmp_path / "undisturbed"
    undisturbed.mkdir()
    assert lab(undisturbed, *command)[0] == 0
    expected = rows_of(undisturbed)

    moments, kills, finished = random.Random(20), 0, 0
    folder = tmp_path / "killed 0"
    folder.mkdir()
    while kills < 20:
        before = len(store.done(store.TableName(folder / "data", "binance", "AAA", "1m")))
        archive.requests.clear()
        with start(folder, *command) as process:
            while not archive.requests and process.poll() is None:
                time.sleep(0.001)
            time.sleep(moments.uniform(0, 0.15))
            process.kill()
        kills += process.returncode == -signal.SIGKILL
        assert store.verify(folder / "data") == []
        done = store.done(store.TableName(folder / "data", "binance", "AAA", "1m"))
        assert len(done) >= before
        if held := store.holding(store.TableName(folder / "data", "binance", "AAA", "1m")):
            assert held.rows == 1440 * len(done)
            assert store.read_bars(folder / "data", "binance", ["AAA"], "1m").frame.height == held.rows
        if len(done) == days or kills == 20:
            assert lab(folder, *command)[0] == 0
            assert rows_of(folder) == expected
            finished += 1
            folder = tmp_path / f"killed {finished}"
            folder.mkdir()
    assert finished >= 1
