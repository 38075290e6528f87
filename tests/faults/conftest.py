"""How often each fault is tried, and what came of it.

`pytest tests/faults --many` tries them as often as a night allows; without it, as often as a change deserves. Either
way the end of the report says for every fault how many were tried and how many failed.
"""

import contextlib
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

from lab.errors import LabError
from tests.faults.children import Nursery, nursery_in

MEMORY = Path("/dev/shm")  # where a write is done at once
SHOWN = 5  # failures


@dataclass
class Tally:
    """Trials of one fault: how many there shall be at least, how many there were, and what went wrong in which.

    `many` is whether there is a night for it.
    """

    fault: str
    times: int
    many: bool
    random: np.random.Generator
    tried: int = 0
    failures: list[str] = field(default_factory=list)

    @contextlib.contextmanager
    def trial(self, what: object) -> Iterator[None]:
        """One trial; that it fails does not end the test, so that all failures are counted."""
        self.tried += 1
        try:
            yield
        except (AssertionError, LabError) as failure:
            self.failures.append(f"{what}: {type(failure).__name__}: {failure}")

    def check(self) -> None:
        """All were tried, none failed."""
        assert (len(self.failures), self.failures[:SHOWN]) == (0, [])
        assert self.tried >= self.times


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--many", action="store_true", help="try each fault as often as a night allows (hours)")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "tries(fault, few, many): how often a fault is tried, without and with --many")


@pytest.fixture
def tally(request: pytest.FixtureRequest) -> Iterator[Tally]:
    marker = request.node.get_closest_marker("tries")
    fault, few, many = marker.args
    seed = sum(request.node.name.encode())
    night = bool(request.config.getoption("--many", default=False))
    tally = Tally(fault, many if night else few, night, np.random.default_rng(seed))
    yield tally
    request.node.user_properties.append(("fault", (fault, tally.tried, len(tally.failures))))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    found = [
        (*value, report.nodeid.split("::")[-1])
        for reports in terminalreporter.stats.values()
        for report in reports
        if isinstance(report, pytest.TestReport) and report.when == "teardown"
        for name, value in report.user_properties
        if name == "fault"
    ]
    if found:
        terminalreporter.section("faults: tried, failed")
        for fault, tried, failed, test in sorted(found):
            terminalreporter.write_line(f"{fault:4} {tried:>7,} tried {failed:>4} failed  {test}")


@pytest.fixture(scope="session")
def nursery() -> Iterator[Nursery]:
    with _quick_folder() as folder, nursery_in(folder) as nursery:
        yield nursery


@pytest.fixture
def folder() -> Iterator[Path]:
    """An empty folder where a flush costs nothing: what a disk keeps is not asked when a process dies."""
    with _quick_folder() as folder:
        yield folder


@contextlib.contextmanager
def _quick_folder() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(dir=MEMORY if MEMORY.is_dir() else None))
    try:
        yield folder
    finally:
        shutil.rmtree(folder)
