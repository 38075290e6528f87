"""Seconds per stage and the peak memory of a process, told to the process that started it."""

import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

KIBIBYTES_PER_MEBIBYTE = 1024


class Clock:
    """Stages in the order in which they ran, with the seconds that each took."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        started = time.perf_counter()
        yield
        self.seconds[name] = time.perf_counter() - started


def peak_mib() -> float:
    """The most memory that this process has held so far, its imports and warm-up included."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / KIBIBYTES_PER_MEBIBYTE


def tell(result: dict[str, Any]) -> None:
    """Hand a result to the process that called `ask`."""
    sys.stdout.write(json.dumps(result))


def ask(part: str, *arguments: object, **environment: str) -> dict[str, Any]:
    """What a part of this package says when it runs alone, in a process of its own.

    The parent stays small: Linux starts a child's peak memory at that of its parent.
    """
    command = [sys.executable, "-m", f"benchmarks.{part}", *map(str, arguments)]
    root = Path(__file__).parents[1]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True, cwd=root, env={**os.environ, **environment})
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer
