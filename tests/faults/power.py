"""What may be on a disk after the power failed, from the system calls that came before it.

A file keeps what was written before its last flush; of what came later, all, nothing, a part, or as many zeros. A
folder keeps the names that it had at its last flush; of the changes since, any that come to mind: they reach the disk
in no order. A rename within a folder is one change; from one folder to another it is two. Stricter than the disks of
today, as POSIX is.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import product
from math import prod
from pathlib import Path

import numpy as np

from tests.faults.tracing import Call

MOST_STATES = 64  # of one moment that are gone through one by one; of more, as many at random
Names = Mapping[str, "File | Folder | None"]  # None is a name that is taken away


@dataclass(eq=False)
class File:
    """Bytes as processes see them, and the bytes that a loss of power leaves for certain."""

    data: bytes = b""
    lasting: bytes = b""

    def after_power_loss(self) -> list[bytes]:
        kept = len(self.lasting)
        torn = self.data[: kept + (len(self.data) - kept) // 2]
        zeros = self.lasting + bytes(len(self.data) - kept)
        return list(dict.fromkeys([self.lasting, self.data, torn, zeros]))


@dataclass(eq=False)
class Folder:
    """Names as processes see them, those that last, and the changes since in which some may be lost."""

    names: dict[str, "File | Folder"] = field(default_factory=dict)
    lasting: dict[str, "File | Folder"] = field(default_factory=dict)
    pending: list[Names] = field(default_factory=list)

    def change(self, names: Names) -> None:
        self.names = _changed(self.names, [names])
        self.pending.append(names)

    def flush(self) -> None:
        self.lasting, self.pending = dict(self.names), []

    def after_power_loss(self, kept: Iterable[bool]) -> dict[str, "File | Folder"]:
        return _changed(self.lasting, [names for names, keep in zip(self.pending, kept, strict=True) if keep])


def _changed(names: Mapping[str, File | Folder], changes: Iterable[Names]) -> dict[str, File | Folder]:
    changed = dict(names)
    for change in changes:
        for name, what in change.items():
            changed.pop(name, None)
            if what is not None:
                changed[name] = what
    return changed


@dataclass
class Disk:
    """The folder `top`, which is there for certain, and all below it."""

    top: Path
    folder: Folder = field(default_factory=Folder)

    def follow(self, call: Call) -> None:
        """What one system call does to it."""
        if call.failed:
            return
        match call.name.removesuffix("2").removesuffix("at"):
            case "mkdir":
                self._change(call.paths[-1], Folder())
            case "open" if "O_CREAT" in call.arguments and self._at(call.paths[-1]) is None:
                self._change(call.paths[-1], File())
            case "write":
                file = self._at(call.paths[0])
                assert isinstance(file, File)
                file.data += call.texts[0]
            case "fsync" | "fdatasync":
                flushed = self._at(call.paths[0])
                if isinstance(flushed, File):
                    flushed.lasting = flushed.data
                elif flushed is not None:
                    flushed.flush()
            case "rename":
                self._rename(Path(call.paths[0]), Path(call.paths[1]))
            case "link":
                self._change(call.paths[1], self._at(call.paths[0]))
            case "unlink":
                self._change(call.paths[0], None)
            case "ftruncate" | "truncate" | "pwrite64" | "rmdir":
                raise AssertionError(f"nobody said what a loss of power does to {call}")

    def _at(self, path: str | Path) -> File | Folder | None:
        here: File | Folder | None = self.folder
        for name in Path(path).relative_to(self.top).parts:
            here = here.names.get(name) if isinstance(here, Folder) else None
        return here

    def _change(self, path: str | Path, what: File | Folder | None) -> None:
        folder = self._at(Path(path).parent)
        assert isinstance(folder, Folder)
        folder.change({Path(path).name: what})

    def _rename(self, old: Path, new: Path) -> None:
        moved = self._at(old)
        folder = self._at(old.parent)
        assert isinstance(folder, Folder)
        if old.parent == new.parent:
            folder.change({old.name: None, new.name: moved})
        else:
            self._change(new, moved)
            folder.change({old.name: None})

    def files(self) -> dict[str, bytes]:
        """What processes see, by path below the top."""
        return dict(_files(self.folder, "", {}, {}))

    def after_power_loss(self, random: np.random.Generator) -> Iterator[dict[str, bytes]]:
        """The files that may be there if the power fails now, each possibility once; many are drawn at random."""
        folders = [each for each in _below(self.folder) if isinstance(each, Folder) and each.pending]
        files = [each for each in _below(self.folder) if isinstance(each, File) and each.data != each.lasting]
        choices: list[list[object]] = [list(product((False, True), repeat=len(each.pending))) for each in folders]
        choices += [list(each.after_power_loss()) for each in files]
        count = prod(len(each) for each in choices)
        if count <= MOST_STATES:
            chosen: Iterable[tuple[object, ...]] = product(*choices)
        else:
            chosen = [tuple(each[random.integers(len(each))] for each in choices) for _ in range(MOST_STATES)]
        for choice in chosen:
            names = {
                id(folder): folder.after_power_loss(kept)  # type: ignore[arg-type]
                for folder, kept in zip(folders, choice, strict=False)
            }
            data = {id(file): kept for file, kept in zip(files, choice[len(folders) :], strict=True)}
            yield dict(_files(self.folder, "", names, data))  # type: ignore[arg-type]


def _below(folder: Folder) -> Iterator[File | Folder]:
    """All that may be found under a folder, each once."""
    seen: dict[int, File | Folder] = {}
    waiting: list[File | Folder] = [folder]
    while waiting:
        here = waiting.pop()
        if id(here) not in seen:
            seen[id(here)] = here
            if isinstance(here, Folder):
                changes = [here.names, here.lasting, *here.pending]
                waiting += [each for names in changes for each in names.values() if each is not None]
    return iter(seen.values())


def _files(
    folder: Folder, prefix: str, names: Mapping[int, Mapping[str, File | Folder]], data: Mapping[int, bytes]
) -> Iterator[tuple[str, bytes]]:
    for name, what in names.get(id(folder), folder.names).items():
        if isinstance(what, Folder):
            yield from _files(what, f"{prefix}{name}/", names, data)
        else:
            yield f"{prefix}{name}", data.get(id(what), what.data)
