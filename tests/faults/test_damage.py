"""Whatever happens to the bytes of a file is found before any row of it is used, and mended without losing another."""

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from lab import store
from lab.errors import DamagedData
from tests.faults.conftest import Tally
from tests.faults.small_stores import (
    MINUTE,
    MONTHS,
    Contents,
    bars_piece,
    contents,
    files_below,
    forget,
    live_by_glob,
    sweep_all,
    trades_piece,
    with_rejects,
)

PAGE = 4096
DAY = 24 * 60 * MINUTE
Random = np.random.Generator


def _small_store(root: Path) -> None:
    """Bars of two symbols and trades of one, some of several months and versions, and with rejected rows."""
    february, march, april = (month + MINUTE for month in MONTHS)
    store.commit(root, "here", [with_rejects(bars_piece("A", february, 300), 3), bars_piece("A", march, 5)])
    store.commit(root, "here", [bars_piece("A", march + MINUTE, 5, 11.0), bars_piece("A", april, 5)])
    store.commit(root, "here", [with_rejects(bars_piece("B", april, 5, 2.0), 2)])
    store.commit(root, "here", [trades_piece("A", march + 2 * DAY, 5)])
    store.commit(root, "here", [trades_piece("A", march, 5, 3.0), trades_piece("A", april, 5)])


@dataclass(frozen=True)
class Harm:
    """What was done to which files, by path below the store."""

    what: str
    files: tuple[str, ...]


@pytest.mark.tries("D7", 500, 10_000)
def test_harm_to_any_file_is_found_before_a_row_is_used_and_mended_without_losing_another(
    folder: Path, tally: Tally
) -> None:
    clean, root = folder / "clean", folder / "store"
    _small_store(clean)
    whole = contents(clean)
    for n in range(tally.times):
        shutil.rmtree(root, ignore_errors=True)
        shutil.copytree(clean, root, copy_function=os.link)
        forget()
        harm = _harm(root, tally.random, n)
        with tally.trial(f"{n}: {harm}"):
            _check_that_it_is_found(root, harm, whole)
            _check_that_it_is_mended(root, harm, whole)
    tally.check()


def _harm(root: Path, random: Random, n: int) -> Harm:
    """Change a live file, a file of rejected rows or a manifest, or put two in each other's place."""
    manifests = n % 3 == 0
    known = root.glob("kind=*/**/_log/*.json") if manifests else _files_of_rows(root)
    paths = sorted(known)
    path, other = (paths[each] for each in random.choice(len(paths), 2, replace=False))
    kind = ("flip", "cut", "zeros", "swap")[n % 4]
    if kind == "swap":
        first, second = path.read_bytes(), other.read_bytes()
        _put(path, second)
        _put(other, first)
        harmed = (path, other) if first != second else ()
    else:
        data = path.read_bytes()
        changed = {"flip": _flipped, "cut": _cut, "zeros": _zeroed}[kind](data, random)
        _put(path, changed)
        harmed = (path,)
    return Harm(kind, tuple(sorted(str(each.relative_to(root)) for each in harmed)))


def _files_of_rows(root: Path) -> list[Path]:
    return [*root.glob("kind=*/**/*.parquet"), *root.glob("quarantine/**/*.parquet")]


def _put(path: Path, data: bytes) -> None:
    """Other bytes in a new file: the old one may have another name in the clean store."""
    path.unlink()
    path.write_bytes(data)


def _flipped(data: bytes, random: Random) -> bytes:
    changed = bytearray(data)
    changed[random.integers(len(data))] ^= 1 << random.integers(8)
    return bytes(changed)


def _cut(data: bytes, random: Random) -> bytes:
    return data[: random.integers(len(data) - 1)]  # a manifest's last byte ends a line and says nothing


def _zeroed(data: bytes, random: Random) -> bytes:
    start = int(random.integers(-(-len(data) // PAGE))) * PAGE
    return data[:start] + bytes(min(PAGE, len(data) - start)) + data[start + PAGE :]


def _check_that_it_is_found(root: Path, harm: Harm, whole: Contents) -> None:
    assert sorted(_named(root, store.verify(root))) == list(harm.files)
    forget()
    for name in store.layout.table_names(root):
        if any(file.startswith(f"{name.key}/") for file in harm.files if not _is_old(root, file)):
            with pytest.raises(DamagedData):
                store.read(name)
        else:
            assert store.read(name).rows() == whole.rows[name.key]
        for version in range(1, 3):
            _check_version(name, version, harm)


def _check_version(name: store.TableName, version: int, harm: Harm) -> None:
    """A version whose manifest is harmed is not read, nor is it among those that are known."""
    manifest = name.manifest(version)
    if str(manifest.relative_to(name.root)) in harm.files:
        assert version not in [known.number for known in store.history(name)]
        with pytest.raises(DamagedData, match=manifest.name):
            store.read(name, version=version)


def _is_old(root: Path, file: str) -> bool:
    """Whether it is a manifest that is not its table's newest."""
    path = root / file
    return path.suffix == ".json" and path.name != max(each.name for each in path.parent.glob("*.json"))


def _named(root: Path, damages: list[DamagedData]) -> list[str]:
    """The files that errors are about, below the store."""
    return [damage.problem.split(" is damaged")[0].removeprefix(f"{root}/") for damage in damages]


def _check_that_it_is_mended(root: Path, harm: Harm, whole: Contents) -> None:
    before = files_below(root)
    lost = [file for file in harm.files if file.startswith("kind=") and file.endswith(".parquet")]
    mended = store.repair(root)
    assert len(mended) == len(harm.files)
    assert store.verify(root) == []
    after = files_below(root)
    for file in harm.files:  # set aside as it was found
        key = file.removeprefix("quarantine/").split("/month=")[0].split("/_log")[0]
        key = key.rsplit("/", 1)[0] if key.endswith(".parquet") else key
        assert after[f"quarantine/{key}/{Path(file).name}.damaged"] == before[file]
        assert file not in after
    kept = {key: list(rows) for key, rows in whole.rows.items()}
    for file in lost:
        gone = _rows_of(file, root.parent / "clean")
        key = file.split("/month=")[0]
        kept[key] = [row for row in kept[key] if row not in gone]
    expected = {key: rows for key, rows in kept.items() if rows}
    assert contents(root).rows == expected
    assert store.repair(root) == []
    if len(harm.files) > 1:  # the slowest check, for a quarter
        sweep_all(root)
        assert live_by_glob(root) == expected
    for name in store.layout.table_names(root):
        months = {file.split("month=")[1].split("/")[0] for file in lost if file.startswith(f"{name.key}/")}
        origins, _ = store.origins(name)
        assert all(months.isdisjoint(origin.months) for origin in origins.values())


def _rows_of(file: str, clean: Path) -> set[tuple[object, ...]]:
    return set(pl.read_parquet(clean / file, glob=False).rows())


@pytest.mark.tries("D14", 30, 1_000)
def test_a_clean_store_raises_no_alarm(folder: Path, tally: Tally) -> None:
    changes: list[Callable[[Path], object]] = [
        lambda root: store.commit(root, "here", [bars_piece("A", MONTHS[1] + MINUTE, 9, tally.random.uniform(1, 9))]),
        lambda root: store.commit(root, "here", [trades_piece("A", MONTHS[2], 9, tally.random.uniform(1, 9))]),
        lambda root: store.commit(root, "here", [with_rejects(bars_piece("B", MONTHS[0] + MINUTE, 2), 2)]),
        lambda root: store.note_absent(store.TableName(root, "here", "A", "1m"), [f"{tally.random.integers(99)}"]),
        sweep_all,
        lambda root: sweep_all(root, -DAY),
        store.repair,
    ]
    root = folder / "store"
    _small_store(root)
    for n in range(tally.times):
        changes[tally.random.integers(len(changes))](root)
        with tally.trial(n):
            forget()
            assert store.verify(root) == []
            before = files_below(root)
            assert store.repair(root) == []
            assert files_below(root) == before
    tally.check()


def test_a_manifest_that_names_a_file_elsewhere_is_damage_and_nothing_there_is_touched(folder: Path) -> None:
    root, elsewhere = folder / "store", folder / "elsewhere.parquet"
    elsewhere.write_bytes(b"of somebody else")
    name = store.TableName(root, "here", "A", "1m")
    for n, path in enumerate(
        ["../elsewhere.parquet", str(elsewhere), f"{name.key}/month=2026-03/../../../../../../elsewhere.parquet"], 1
    ):
        part = store.manifests.Part(path, "0" * 64, 1, 16, MONTHS[1], MONTHS[1])
        store.manifests.publish(name, n, store.manifests.Manifest(parts={"2026-03": (part,)}))
        with pytest.raises(DamagedData, match="is no file of this table"):
            store.read(name)
        assert len(store.verify(root)) == n
    store.repair(root)
    assert elsewhere.read_bytes() == b"of somebody else"
    assert store.verify(root) == []
