"""Market data: speed and memory of `lab` beside what people use: `python -m benchmarks.data`; writes a page."""

import argparse
import shutil
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

from rich.console import Console

from benchmarks.__main__ import Answer, environment
from benchmarks.clock import ask
from benchmarks.closing import contest
from benchmarks.tables import Table, markdown, ratio, show, spread

PAGE = Path("docs") / "benchmarks-data.md"
WAYS = {"lab": "lab, all checks on", "polars": "Polars, bare", "duckdb": "DuckDB, bare", "pandas": "pandas, bare"}
MILLI = 1000


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.data", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rows", type=int, default=1_000_000, help="bars to convert (default: %(default)s)")
    parser.add_argument("--trades", type=int, default=10_000_000, help="trades to close (default: %(default)s)")
    parser.add_argument("--history", type=float, default=10.0, help="GB of CSV for peak memory (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=3, help="of each way, in turn (default: %(default)s)")
    parser.add_argument("--page", type=Path, default=PAGE, help="the page to write (default: %(default)s)")
    options = parser.parse_args()
    with TemporaryDirectory() as scratch:
        tables = [
            *converting(Path(scratch), options.rows, options.history, options.rounds),
            *reading(Path(scratch)),
            closing(options.trades, options.rounds),
        ]
    show(Console(), tables)
    options.page.write_text(page(tables, options), encoding="utf-8")


def converting(scratch: Path, rows: int, history: float, rounds: int) -> list[Table]:
    """Zipped klines → store, all ways in turn; then lab alone on a long history."""
    _tell(f"converting {rows:,} bars")
    ask("market", scratch, rows)
    zips, answers = scratch / "zips", {way: list[Answer]() for way in WAYS}
    for _ in range(rounds):
        for way, told in answers.items():
            told.append(ask("converting", way, zips, scratch / "out"))
            shutil.rmtree(scratch / "out")
    size = answers["lab"][0]["csv_mb"]
    _tell(f"converting {history:g} GB of CSV")
    long = ask("converting", "lab", zips, scratch / "out", max(1, round(history * MILLI / size)))
    shutil.rmtree(scratch / "out")
    mine = [told["seconds"] for told in answers["lab"]]
    cells = []
    for way, told in answers.items():
        seconds = [each["seconds"] for each in told]
        speeds, peaks = [size / each for each in seconds], [each["peak_mib"] for each in told]
        cells.append((WAYS[way], spread(speeds), spread(seconds), ratio(seconds, mine), spread(peaks)))
    notes = [
        f"{answers['lab'][0]['files']} files of a month, {size:,.0f} MB of CSV in all. lab does what `lab fetch` does "
        "once a file is there: its checksum, every row checked, sorted, written, hashed, synced to the disk, and a "
        "version published. The others unzip, parse with known types and write Parquet: no check, no sync.",
    ]
    first = Table("Zipped klines → store", ("way", "MB of CSV/s", "s", "its time / lab's", "peak MiB"), cells, notes)
    row = (
        f"{long['csv_mb'] / MILLI:,.1f} GB",
        f"{long['files']:,}",
        *(f"{long[key]:,.0f}" for key in ("seconds", "peak_mib")),
    )
    return [first, Table("A long history", ("CSV", "files", "s", "peak MiB"), [row], ["lab alone."])]


def reading(scratch: Path) -> list[Table]:
    """One month out of many, and a finished fetch again."""
    _tell("filling a store, reading a month of it")
    told = ask("reading", scratch / "store")
    shutil.rmtree(scratch / "store")
    mine = told["seconds"]["lab"]
    cells = []
    for way, seconds in told["seconds"].items():
        first = f"{told['first'][way] * MILLI:.1f}"
        cells.append((way, spread([each * MILLI for each in seconds]), first, ratio(seconds, mine)))
    notes = [
        f"The bars of one symbol that opened in one month, out of {told['rows']:,} in {told['files']:,} files. lab "
        "checks the SHA-256 of a file when a process first opens it; the others read the same files by a glob.",
    ]
    month = Table("One month", ("way", "ms", "first time, ms", "its time / lab's"), cells, notes)
    again = Table(
        "A finished fetch again",
        ("files", "s"),
        [(f"{told['files']:,}", spread(told["again"]))],
        ["The whole command, from start to exit; nobody listens at the address that it is given."],
    )
    return [month, again]


def closing(trades: int, rounds: int) -> Table:
    """Trades → one-second bars."""
    _tell(f"closing bars from {trades:,} trades")
    told = contest(trades, rounds)
    cells = []
    for market in ("thin", "busy"):
        for way in ("lab", "polars", "duckdb"):
            cells.append(_closed(told, market, way))
    notes = [
        f"{told['rows']:,} trades ({told['trades']}), in files of a million: from those files, or from memory. Open, "
        "high, low, close, volume, buy volume, quote volume, VWAP and number of trades; all ways give the same prices.",
    ]
    columns = ("market, way", "M trades/s, files", "M trades/s, memory", "time / lab's, files", "peak MiB")
    return Table("Trades → one-second bars", columns, cells, notes)


def _closed(told: Answer, market: str, way: str) -> tuple[str, ...]:
    def seconds(name: str, where: str) -> list[float]:
        return [each["seconds"][where] for each in told[market][name]]

    speeds = (f"{told['rows'] / 1e6 / median(seconds(way, where)):.1f}" for where in ("files", "memory"))
    peaks = spread([each["peak_mib"] for each in told[market][way]])
    return (f"{market}, {way}", *speeds, ratio(seconds(way, "files"), seconds("lab", "files")), peaks)


def page(tables: Sequence[Table], options: Any) -> str:
    command = "python -m benchmarks.data"
    head = [
        "# Benchmarks: market data",
        "",
        f"Written by `{command}` (`make bench` runs it); do not edit. Every way runs in a process of its own, in turn, "
        f"{options.rounds} rounds; numbers are medians, with the range in brackets.",
        "",
        environment(),
        "",
    ]
    return "\n".join(head) + "\n" + "\n".join(map(markdown, tables))


def _tell(text: str) -> None:
    Console(stderr=True, highlight=False).print(text)


if __name__ == "__main__":
    main()
