"""One set of indicators, by lab and by its peers, in turn: `python -m benchmarks.feature_indicators ROWS ROUNDS WAY…`.

All run in one process on the same arrays, round by round, after a warm-up on few bars: lab with its bars → frame of
columns, TA-Lib with its arrays → arrays, pandas and pandas-ta-classic with their frames → series.
"""

import os
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.clock import tell
from benchmarks.feature_market import minutes
from benchmarks.feature_peers import Indicator, indicators, raw_columns
from lab.features import compute, plain
from lab.nouns import Bars, Vector

PEERS = ("talib", "pandas", "classic")
WAYS = ("lab", "lab, one core", *PEERS)
COLUMNS = ("open", "high", "low", "close", "volume")
WARM_UP_ROWS = 3_000
SETTLED = 5_000  # rows until recursions that begin differently have forgotten where
FEW_ROWS = 50_000


def seconds_of(work: Callable[[], Any]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


@contextmanager
def one_core() -> Iterator[None]:
    """While it lasts, lab sees one core and computes without threads."""
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(cores)})
    yield
    os.sched_setaffinity(0, cores)


def call_of(way: str, each: Indicator) -> Callable[[Any], Any] | None:
    return {"talib": each.talib, "pandas": each.pandas, "classic": each.classic}[way]


def contest(rows: int, rounds: int, ways: Sequence[str]) -> dict[str, Any]:
    """Seconds of every indicator by every way; of lab also those of all at once, on one core and on every."""
    chosen = indicators()
    run(minutes(WARM_UP_ROWS), chosen, ways)
    bars = minutes(rows)
    taken = [run(bars, chosen, ways) for _ in range(rounds)]
    return {
        "rows": rows,
        "indicators": [each.name for each in chosen],
        "features": [list(each.features) for each in chosen],
        "rounds": taken,
    }


def run(bars: Bars, chosen: Sequence[Indicator], ways: Sequence[str]) -> dict[str, Any]:
    """One round: whole seconds by way, and seconds by indicator, None where a way has it not."""
    arrays = {name: bars.frame[name].to_numpy() for name in COLUMNS}
    frame = pd.DataFrame(arrays)
    every = [plain(text) for each in chosen for text in each.features]
    whole: dict[str, float] = {}
    single: dict[str, list[float | None]] = {}
    cells = bars.frame.height * len(every)
    if "lab" in ways:
        touch(cells)
        whole["lab"] = seconds_of(lambda: compute(bars, every))
    if "lab, one core" in ways:
        with one_core():
            touch(cells)
            whole["lab, one core"] = seconds_of(lambda: compute(bars, every))
            touch(cells)
            single["lab"] = seconds_of_each([partial(compute, bars, own_of(each)) for each in chosen])
    for way in (way for way in PEERS if way in ways):
        given = arrays if way == "talib" else frame
        calls = [call_of(way, each) for each in chosen]
        touch(cells)
        single[way] = seconds_of_each([call and partial(call, given) for call in calls])
    return {"whole": whole, "single": single}


def touch(cells: int) -> None:
    """Take and give back memory for so many numbers: a host gives it to a virtual machine at many times its price."""
    np.ones(cells)


def seconds_of_each(calls: Sequence[Callable[[], Any] | None]) -> list[float | None]:
    """Of calls one after the other, whose results are all held to the end, as a frame of columns holds them."""
    held, taken = [], list[float | None]()
    for call in calls:
        started = time.perf_counter()
        held.append(call() if call else None)
        taken.append(time.perf_counter() - started if call else None)
    return taken


def own_of(each: Indicator) -> list[Any]:
    return [plain(text) for text in each.features]


def differences(rows: int = FEW_ROWS) -> dict[str, list[dict[str, Any]]]:
    """By peer: of each feature, the largest difference from it in deviations of the feature, once all is settled."""
    bars = minutes(rows, seed=2)
    arrays = {name: bars.frame[name].to_numpy() for name in COLUMNS}
    frame = pd.DataFrame(arrays)
    found: dict[str, list[dict[str, Any]]] = {way: [] for way in PEERS}
    for each in indicators():
        ours = compute(bars, own_of(each)).drop("symbol", "time").fill_null(float("nan")).to_numpy().T
        for way, told in found.items():
            if (call := call_of(way, each)) is not None:
                theirs = each.converted(raw_columns(call(arrays if way == "talib" else frame)), arrays)
                for text, mine, other in zip(each.features, ours, theirs, strict=True):
                    told.append({"feature": text, **apart(mine, np.asarray(other))})
    return found


def apart(mine: Vector, other: Vector) -> dict[str, float]:
    """The largest difference where both have a value, in deviations of the first, and how many rows only one has."""
    mine, other = mine[SETTLED:], other[SETTLED:]
    known, theirs = np.isfinite(mine), np.isfinite(other)
    both = known & theirs
    largest = float(np.max(np.abs(mine - other), where=both, initial=0.0) / np.std(mine[known]))
    return {"largest": largest, "values": int(both.sum()), "one_sided": int((known != theirs).sum())}


def main(what: str, *arguments: str) -> None:
    warnings.simplefilter("ignore")  # those of the peers
    if what == "differences":
        tell(differences(*map(int, arguments)))
        return
    rows, rounds, *ways = arguments
    tell(contest(int(rows), int(rounds), ways or WAYS))


if __name__ == "__main__":
    main(*sys.argv[1:])
