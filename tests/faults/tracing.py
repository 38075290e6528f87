"""System calls of a running child, seen, and made to fail or to kill, by strace."""

import re
import shutil
import subprocess
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.faults.children import Child

# All that change a folder or a file, and the lock; some machines have only the ones that end in `at`.
CHANGES = (
    *("mkdir", "mkdirat", "openat", "write", "pwrite64", "fsync", "fdatasync", "rename", "renameat", "renameat2"),
    *("link", "linkat", "unlink", "unlinkat", "rmdir", "flock", "ftruncate", "truncate", "close"),
)
ALL_BYTES = 1 << 18
_LINE = re.compile(r"(?P<name>\w+)\((?P<arguments>.*)\)\s+= (?P<result>-?\d+|\?)(?P<rest>.*)", re.DOTALL)
_TEXT = re.compile(r'"((?:[^"\\]|\\.)*)"')
_HANDLE = re.compile(r"^\d+<(.*?)>")


@dataclass(frozen=True)
class Call:
    """One system call of a trace: the n-th of its name, from 1; `text` as strace shows it."""

    name: str
    nth: int
    text: str
    arguments: str
    failed: bool
    injected: bool

    @property
    def texts(self) -> list[bytes]:
        """Its arguments that are text or bytes."""
        return [raw.encode().decode("unicode_escape").encode("latin-1") for raw in _TEXT.findall(self.arguments)]

    @property
    def paths(self) -> list[str]:
        """What it is about: the file of its handle, or the paths that it names."""
        handle = _HANDLE.match(self.arguments)
        return [handle[1]] if handle else [text.decode() for text in self.texts]

    def concerns(self, folder: Path) -> bool:
        return any(path.startswith(f"{folder}/") or path == str(folder) for path in self.paths)

    def __str__(self) -> str:
        return f"{self.name} {self.nth}: {self.text[:300]}"


def need_strace() -> None:
    if not shutil.which("strace"):
        pytest.skip("strace, which makes the n-th system call fail, is not installed")


def traced(child: Child, log: Path, *injections: str, bytes_shown: int = 32) -> list[Call]:
    """Let a waiting child begin under strace; its calls until it ended.

    injections: as strace has them, e.g. `fsync:error=EIO:when=3`. Sees the child's first thread, whose calls come in
    the same order every time.
    """
    names = ",".join(f"?{name}" for name in CHANGES)
    command = ["strace", "-p", str(child.pid), "-o", str(log), "-y", "-s", str(bytes_shown), "-e", f"trace={names}"]
    for injection in injections:
        command += ["-e", f"inject={injection}"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as tracer:
        assert tracer.stderr is not None
        attached = tracer.stderr.readline()
        assert "attached" in attached, attached
        child.begin()
        child.wait()
    return list(_calls(log.read_text()))


def points(calls: list[Call], folder: Path, names: tuple[str, ...] = CHANGES) -> list[Call]:
    """The calls that can change what is in `folder`."""
    return [call for call in calls if call.name in names and call.concerns(folder)]


def _calls(log: str) -> Iterator[Call]:
    seen: Counter[str] = Counter()
    for line in log.splitlines():
        if match := _LINE.fullmatch(line):
            seen[match["name"]] += 1
            failed = match["result"] in ("-1", "?")
            yield Call(
                match["name"], seen[match["name"]], line, match["arguments"], failed, "INJECTED" in match["rest"]
            )
