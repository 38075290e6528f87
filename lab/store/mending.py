"""Damage found, taken out and made good where that can be done here; and what is no longer needed, removed."""

import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path

from lab.errors import DamagedData
from lab.files import exclusive, flush_folder, refusals, remove
from lab.store.layout import TableName, table_names
from lab.store.manifests import Change, Manifest, Part, latest, numbers, publish, version, versions
from lab.store.parts import checked_bytes, part_at, remedy
from lab.store.writing import retire

KEPT_FOR = timedelta(days=30)  # how long a superseded version stays readable


@dataclass(frozen=True)
class Mended:
    """What `repair` did to one table, and what a person should do next."""

    table: str
    done: str
    fix: str


def verify(root: Path) -> list[DamagedData]:
    """Read every live file and every manifest again; one error for each that is damaged or missing."""
    return [damage for name in table_names(root) for damage in _damages(name)]


def repair(root: Path) -> list[Mended]:
    """Put every damaged table right: what is damaged goes to quarantine, the rest becomes the next version.

    What is lost no longer counts as done, so that the next fetch brings it. A table whose newest manifest is damaged
    is what its whole files say.
    """
    return [mended for name in table_names(root) for mended in _repair(name)]


def sweep(name: TableName, older_than: timedelta = KEPT_FOR) -> int:
    """Remove versions that were superseded longer ago, and what a killed writer left behind; returns bytes freed.

    Never a file that a version names which is still known.
    """
    if not name.log.is_dir():
        return 0
    with exclusive(name.lock):
        number, newest = latest(name)
        known = dict(versions(name))
        for each in _superseded(known, datetime.now(UTC) - older_than):
            del known[each]
        return _remove_unnamed(name, {*known, number}, [newest, *known.values()], newest)


def _superseded(known: dict[int, Manifest], before: datetime) -> list[int]:
    """The versions whose successor was made before that time."""
    ordered = sorted(known)
    return [old for old, new in pairwise(ordered) if known[new].change.at <= before]


def _remove_unnamed(name: TableName, kept: set[int], known: list[Manifest], newest: Manifest) -> int:
    for manifest in known:
        retire(name, manifest, newest)
    live = {part.path for part in newest.live}
    root, history = str(name.root), str(name.history)
    named = {f"{root}/{path}" for path in live} | {str(name.lock), *(str(name.manifest(number)) for number in kept)}
    for manifest in known:
        named |= {f"{root}/{part.path}" for part in manifest.files()}
        # What is live again, as the same rows were committed once more, need not be kept twice.
        named |= {f"{history}/{part.path.rsplit('/', 1)[1]}" for part in manifest.live if part.path not in live}
    freed = remove(_unnamed(name.log, named))
    others = [path for folder in (name.folder, name.history, name.quarantine) for path in _unnamed(folder, named)]
    if others:
        flush_folder(name.log)  # no version may outlive its files
    return freed + remove(others)


def _unnamed(folder: Path, named: set[str]) -> list[Path]:
    return [Path(path) for path in _files(folder) if path not in named and not path.endswith(".damaged")]


def _files(folder: Path) -> Iterator[str]:
    for inside, _, names in os.walk(folder):
        yield from (f"{inside}/{name}" for name in names)


def _damages(name: TableName) -> Iterator[DamagedData]:
    newest = Manifest()
    for number in numbers(name):
        try:
            newest = version(name, number)
        except DamagedData as damage:
            newest = Manifest()
            if name.manifest(number).exists():  # else swept meanwhile
                yield damage
    yield from (damage for part in newest.files() for damage in _damage(name, part))


def _damage(name: TableName, part: Part) -> list[DamagedData]:
    try:
        checked_bytes(name, part)
    except DamagedData as damage:
        return [damage]
    return []


def _repair(name: TableName) -> Iterator[Mended]:
    """What is whole becomes the next version, and only then are files set aside: whatever stops it, no row is lost."""
    with exclusive(name.lock):
        known = numbers(name)
        damaged = [number for number in known if not _is_whole(name, number)]
        newest = max(known, default=0)
        if newest in damaged:
            manifest, unread = _from_files(name, newest)
            newest += 1
            publish(name, newest, _signed(manifest))
            _set_aside(name, unread)
            yield Mended(str(name), "its newest manifest was damaged; the files that are whole stand", name.command)
        _set_aside(name, [name.manifest(number) for number in damaged])
        for number in damaged:
            if number != known[-1]:
                done = f"the manifest of version {number} was damaged and is set aside"
                yield Mended(str(name), done, "nothing: the newest version is whole")
        manifest = version(name, newest) if newest else Manifest()
        if lost := [part for part in manifest.files() if _damage(name, part)]:
            publish(name, newest + 1, _signed(_without(manifest, lost)))
            _set_aside(name, [name.root / part.path for part in lost])
        for part in lost:
            yield Mended(str(name), f"{part.path} was damaged and is set aside", remedy(name, part))


def _is_whole(name: TableName, number: int) -> bool:
    try:
        version(name, number)
    except DamagedData:
        return False
    return True


def _from_files(name: TableName, number: int) -> tuple[Manifest, list[Path]]:
    """The whole files that are there, with what the newest whole version before `number` knows of where they came from.

    Two files of a month that overlap in time are the traces of a killed writer: of these that version's count. And
    the files that are damaged, of whose months nothing is known to be complete.
    """
    known = [manifest for older, manifest in versions(name) if older < number]
    before = known[-1] if known else Manifest()
    named = {part.path for part in before.live}
    parts: dict[str, tuple[Part, ...]] = {}
    unread: list[Path] = []
    for folder in sorted(name.folder.glob("month=*")):
        read = {path: part_at(name, path) for path in sorted(folder.glob("*.parquet"))}
        unread += [path for path, part in read.items() if part is None]
        found = sorted((part for part in read.values() if part), key=lambda part: str(part.first))
        if any(str(early.last) >= str(late.first) for early, late in pairwise(found)):
            found = [part for part in found if part.path in named] or found[:1]
        if found:
            parts[folder.name.removeprefix("month=")] = tuple(found)
    short = {month for month in before.parts if month not in parts}
    short |= {path.parent.name.removeprefix("month=") for path in unread}
    origins = {key: origin for key, origin in before.origins.items() if short.isdisjoint(origin.months)}
    return replace(before, parts=parts, origins=origins), unread


def _without(manifest: Manifest, lost: list[Part]) -> Manifest:
    gone = {part.path for part in lost}
    months = {month for month, parts in manifest.parts.items() if any(part.path in gone for part in parts)}
    parts = {
        month: kept
        for month, every in manifest.parts.items()
        if (kept := tuple(part for part in every if part.path not in gone))
    }
    origins = {
        key: origin
        for key, origin in manifest.origins.items()
        if months.isdisjoint(origin.months) and not (origin.rejected and origin.rejected.path in gone)
    }
    return replace(manifest, parts=parts, origins=origins)


def _signed(manifest: Manifest) -> Manifest:
    return replace(manifest, change=Change(datetime.now(UTC).replace(microsecond=0), command="lab data repair"))


def _set_aside(name: TableName, paths: list[Path]) -> None:
    for path in paths:
        if path.exists():
            with refusals(path):
                name.quarantine.mkdir(parents=True, exist_ok=True)
                path.replace(name.quarantine / f"{path.name}.damaged")
