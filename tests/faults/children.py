"""Child processes that are made in milliseconds, work on a store, and may be killed at any moment.

A nursery is a process that has imported the store and nothing has run in it, so that it may fork: children need not
import it again. A child waits until its `gate` exists, does one job of tests/faults/jobs.py and writes its answer.
"""

import contextlib
import ctypes
import importlib
import json
import os
import pickle
import select
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

REPOSITORY = Path(__file__).parents[2]
JOBS = "tests.faults.jobs"
DIE_WITH_PARENT = (1, signal.SIGKILL)  # for prctl
ANY_TRACER = (0x59616D61, ctypes.c_ulong(-1))  # for prctl: a process that is no ancestor may trace this one
PATIENCE = 60.0  # seconds


@dataclass(frozen=True)
class Refused:
    """The LabError that a job ended with."""

    problem: str
    fix: str


@dataclass(frozen=True)
class Child:
    """One job in a process of its own."""

    pid: int
    nursery: "Nursery"
    gate: Path
    answer_path: Path

    def begin(self) -> None:
        self.gate.touch()

    def kill(self) -> None:
        os.kill(self.pid, signal.SIGKILL)

    def wait(self) -> int:
        """Its exit status: 0 when the job is done, 1 when it raised, the negative number of a signal that killed it."""
        if self.pid not in self.nursery.ended:
            self.nursery.ended[self.pid] = int(self.nursery.ask({"wait": self.pid}))
        return self.nursery.ended[self.pid]

    def answer(self) -> Any:
        """What the job returned, or its Refused; an exception that is no LabError is raised here."""
        status = self.wait()
        assert status == 0 or self.answer_path.exists(), f"the child died of {status}"
        found = pickle.loads(self.answer_path.read_bytes())
        if isinstance(found, str) and status != 0:
            raise AssertionError(found)
        return found


class Nursery:
    """Forks children; `folder` is for gates and answers."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.count = 0
        self.ended: dict[int, int] = {}  # exit status by process
        self.process = subprocess.Popen(
            [sys.executable, "-c", f"from {__name__} import serve; serve()"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=REPOSITORY,
            # One thread each: what is tested is what other processes see.
            env={**os.environ, "POLARS_MAX_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "PYTHONHASHSEED": "0"},
        )

    def ask(self, request: dict[str, Any]) -> str:
        assert self.process.stdin and self.process.stdout
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        ready, _, _ = select.select([self.process.stdout], [], [], PATIENCE)
        assert ready, f"no answer to {request} in {PATIENCE} s"
        return self.process.stdout.readline()

    def child(self, job: str, *arguments: object, wait: bool = False) -> Child:
        """A process that does `job`, at once or when it is told to begin."""
        self.count += 1
        gate, answer = self.folder / f"{self.count}.gate", self.folder / f"{self.count}.answer"
        order = pickle.dumps((job, arguments)).hex()
        if not wait:
            gate.touch()
        pid = int(self.ask({"order": order, "gate": str(gate), "answer": str(answer)}))
        self.ended.pop(pid, None)  # of an earlier process of that number
        return Child(pid, self, gate, answer)

    def close(self) -> None:
        assert self.process.stdin and self.process.stdout
        self.process.stdin.close()  # which ends it, and with it all its children
        try:
            self.process.wait(1)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process.stdout.close()


@contextlib.contextmanager
def nursery_in(folder: Path) -> Iterator[Nursery]:
    nursery = Nursery(folder)
    try:
        yield nursery
    finally:
        nursery.close()


def serve() -> None:
    """The nursery's own process: fork a child for every order, wait for one when asked to, until the input ends."""
    importlib.import_module(JOBS)
    for line in sys.stdin:
        request = json.loads(line)
        if "wait" in request:
            _reply(os.waitstatus_to_exitcode(os.waitpid(request["wait"], 0)[1]))
            continue
        pid = os.fork()
        if pid == 0:
            os._exit(_do(request, sys.stdin))
        _reply(pid)


def _reply(number: int) -> None:
    sys.stdout.write(f"{number}\n")
    sys.stdout.flush()


def _do(request: dict[str, str], orders: IO[str]) -> int:
    """Carry out one order; 0 when it is done or refused with a LabError, 1 when anything else is raised."""
    from lab.errors import LabError

    os.close(orders.fileno())
    for setting in (DIE_WITH_PARENT, ANY_TRACER):
        ctypes.CDLL(None).prctl(*setting, 0, 0, 0)
    while not os.path.exists(request["gate"]):  # noqa: PTH110 - nothing but a stat
        time.sleep(0.0005)
    job, arguments = pickle.loads(bytes.fromhex(request["order"]))
    status, answer = 0, None
    try:
        answer = getattr(importlib.import_module(JOBS), job)(*arguments)
    except LabError as refused:
        answer = Refused(refused.problem, refused.fix)
    except BaseException:
        status, answer = 1, traceback.format_exc()
    # By another thread, whose system calls are left alone.
    writer = threading.Thread(target=Path(request["answer"]).write_bytes, args=(pickle.dumps(answer),))
    writer.start()
    writer.join()
    return status
