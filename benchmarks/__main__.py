"""Speed and memory of `lab` beside a pandas script that does the same: `python -m benchmarks`.

Each way goes the whole way in a process of its own, in turn (lab, pandas, lab, pandas, …), after a warm-up on few
bars. What both compute is compared; where it differs, the table says so and the exit code is 1.
"""

import argparse
import os
import platform
import sys
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from rich.console import Console

from benchmarks.clock import ask
from benchmarks.tables import Table, markdown, per_second, ratio, show, spread
from benchmarks.task import FITTED, Task

Answer = dict[str, Any]
PAGE = Path("docs") / "benchmarks.md"
LIBRARIES = ("numpy", "polars", "pandas", "pyarrow", "numba", "lightgbm", "vectorbt")
WHOLE, WITHOUT_TRAINING = "end to end", "end to end, training left out"
STAGES = {
    "fetch": "fetch: zipped CSVs → store",
    "open": "open: store → bars, folds",
    "features": "features",
    "labels": "labels",
    "train": "train: fit and predict, all folds",
    "policy + backtest": "policy + backtest",
    "conclude": "conclude (only lab has it)",
    "report": "report",
    WHOLE: WHOLE,
    WITHOUT_TRAINING: WITHOUT_TRAINING,
}


def main() -> int:
    options = _options()
    task = Task.read()
    if options.rows < task.least_rows:
        raise SystemExit(f"--rows {options.rows} is too few for two folds: give {task.least_rows} or more")
    with TemporaryDirectory() as scratch:
        tables = measure(Path(scratch), options.rows, options.rounds)
    show(Console(), tables)
    options.page.write_text(page(tables, options.rows, options.rounds), encoding="utf-8")
    return int(any("NO" in row for table in tables for row in table.rows))


def measure(scratch: Path, rows: int, rounds: int) -> list[Table]:
    """Every table; the scratch folder holds the market, what each way left, and the code that numba compiled."""
    story = Console(stderr=True, highlight=False)
    full, warm, compiled = (scratch / name for name in ("full", "warm", "numba"))
    story.print(f"making a market of {rows:,} bars")
    ask("market", warm, Task.read().least_rows)
    zipped = ask("market", full, rows)["bytes"]
    lab, pandas = [], []
    for number in range(1, rounds + 1):
        story.print(f"round {number} of {rounds}: lab")
        lab.append(ask("workbench", full, warm, NUMBA_CACHE_DIR=str(compiled)))
        story.print(f"round {number} of {rounds}: pandas")
        pandas.append(ask("naive", full, warm))
    story.print("comparing what came out")
    agreed = ask("agreement", full)
    story.print("lab and vectorbt, in turn")
    engines = ask("engines", full, rounds, NUMBA_CACHE_DIR=str(compiled))
    return [
        stages_table(lab, pandas, rows, zipped),
        memory_table(lab, pandas),
        engines_table(engines, rows),
        agreement_table(agreed),
    ]


def stages_table(lab: Sequence[Answer], pandas: Sequence[Answer], rows: int, zipped: int) -> Table:
    task = Task.read()
    cells = []
    for stage, title in STAGES.items():
        ours, theirs = _seconds(lab, stage), _seconds(pandas, stage)
        rates = (per_second(rows, ours), per_second(rows, theirs))
        cells.append((title, *rates, spread(ours), spread(theirs), ratio(theirs, ours)))
    notes = [
        f"The work: {task.raw['name']!r} of experiments/synthetic.toml on one symbol, {len(task.features)} features "
        f"({' and '.join(FITTED)} are left out: they are fitted, and pandas has none), {task.folds(rows)} folds of "
        f"{task.raw['folds']['train']} to train and {task.raw['folds']['test']} to test, "
        f"{task.raw['model']['trees']} trees. Above 1× lab is faster. Rows are bars of the whole market in each stage.",
        f"fetch starts from {zipped / 2**20:,.0f} MiB of zips, the download left out. lab also refuses rows that "
        "cannot be bars, drops repeats, sorts, hashes and syncs each month to the disk; pandas does none of it.",
        "open: lab checks the SHA-256 of every file and hashes every value; pandas reads one file.",
        "features: lab also cuts at gaps and keeps the columns on the disk for the next run; pandas does neither.",
        "train is LightGBM with the same parameters in both. lab also reads the kept columns back, settles the labels "
        "and writes model, facts and scores of each fold to the disk, so its end to end counts labels inside train.",
        "labels and policy + backtest of lab are measured alone, after the whole way, which holds them in train and "
        "conclude. conclude: the same policy and backtest, then holding, a curve of 11 costs, results by fold, and "
        "hashes of everything. The policy and backtest of pandas are plain Python loops over lists.",
        "report is not the same work: lab bootstraps an interval, deflates the Sharpe ratio by its ledger and draws "
        "a page; pandas has a Sharpe ratio, the deepest fall and a monthly table.",
        f"Imports, a warm-up on {task.least_rows:,} bars and compiling are left out in both. Compiling lab's loops "
        f"takes {max(each['compiling'] for each in lab):.1f} s, once; the code is then kept on the disk.",
    ]
    columns = ("stage", "lab rows/s", "pandas rows/s", "lab s", "pandas s", "pandas / lab")
    return Table(f"Stages, {rows:,} one-minute bars", columns, cells, notes)


def memory_table(lab: Sequence[Answer], pandas: Sequence[Answer]) -> Table:
    ours, theirs = ([each["peak_mib"] for each in way] for way in (lab, pandas))
    row = ("end to end, MiB", spread(ours), spread(theirs), ratio(theirs, ours))
    note = "The largest resident size of the whole process, imports and warm-up included (getrusage)."
    return Table("Peak memory", ("", "lab", "pandas", "pandas / lab"), [row], [note])


def engines_table(engines: Answer, rows: int) -> Table:
    ours, theirs = ([each[name] for each in engines["seconds"]] for name in ("lab", "vectorbt"))
    agrees = "yes" if engines["apart"] <= 1e-9 else "NO"
    row = ("targets → fills → equity", *map(spread, (ours, theirs)), ratio(theirs, ours), agrees)
    notes = [
        f"{rows:,} bars × 1 column, {engines['orders']:,} orders: the targets of the run above. "
        "`Portfolio.from_orders` with target percents at the open, then `value()`; vectorbt's inputs are made before. "
        f"Compiling is left out. The money differs by {engines['apart']:.0e} of the equity at most; 1e-09 may be.",
    ]
    return Table("Fill engine", ("", "lab s", "vectorbt s", "vectorbt / lab", "same money"), [row], notes)


def agreement_table(agreed: Answer) -> Table:
    rows = [
        (
            each["what"],
            f"{each['values']:,}",
            f"{each['largest']:.1e} {each['unit']}",
            f"{each['limit']:.0e}",
            "yes" if each["holds"] else "NO",
        )
        for each in agreed["comparisons"]
    ]
    notes = [
        "Features are compared where lab has a value: pandas begins its RSI earlier, from too few bars to forget "
        "where it began.",
        f"Each way learns from its own columns. These differ in their last digits, and trees make more of that: the "
        f"scores of both ways have a correlation of {agreed['correlation']:.4f}. From the same columns, they are the "
        "same.",
    ]
    return Table("Is it the same work?", ("what", "values", "largest difference", "limit", "same"), rows, notes)


def page(tables: Sequence[Table], rows: int, rounds: int) -> str:
    """The tables as a Markdown page."""
    command = f"python -m benchmarks --rows {rows} --rounds {rounds}"
    head = [
        "# Benchmarks",
        "",
        f"Written by `{command}` (`make bench` runs it with its defaults); do not edit. lab and a pandas script "
        f"([benchmarks/naive.py](../benchmarks/naive.py)) do the same work in turn, {rounds} "
        f"{'round' if rounds == 1 else 'rounds'}, each in a process of its own. Times are medians"
        f"{'' if rounds == 1 else ', with the range in brackets'}.",
        "",
        environment(),
        "",
    ]
    return "\n".join(head) + "\n" + "\n".join(map(markdown, tables))


def environment() -> str:
    """Cores, Python and libraries: what the numbers depend on besides the code."""
    cores = len(os.sched_getaffinity(0))
    libraries = ", ".join(f"{name} {version(name)}" for name in LIBRARIES)
    return f"{cores} cores, {platform.machine()}, Python {platform.python_version()}, {libraries}."


def _seconds(way: Sequence[Answer], stage: str) -> list[float]:
    if stage == WITHOUT_TRAINING:
        return [each["seconds"][WHOLE] - each["seconds"]["train"] for each in way]
    return [each["seconds"][stage] for each in way if stage in each["seconds"]]


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=1_000_000, help="one-minute bars (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=3, help="of each way, in turn (default: %(default)s)")
    parser.add_argument("--page", type=Path, default=PAGE, help="the page to write (default: %(default)s)")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
