"""Trades → one-second bars with signed volume, beside Polars and DuckDB: `python -m benchmarks.closing`.

Each way goes in a process of its own, in turn, after a warm-up: from Parquet files of a million trades, as the store
keeps them, and from memory. The trades are real ones of a thin market, repeated; `thin` repeats them one after the
other (a bar for nearly every other trade), `busy` one on top of each other.
"""

import argparse
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks.clock import ask, tell

MARKETS = ("thin", "busy")
WAYS = ("lab", "polars", "duckdb")


def contest(rows: int, rounds: int) -> dict[str, Any]:
    """Every way through both markets, round by round: seconds from files and from memory, peak memory from files.

    `apart` is the largest relative difference of any number of a bar from lab's. This process stays small, as Linux
    starts a child's peak memory at that of its parent.
    """
    with TemporaryDirectory() as scratch:
        folder = Path(scratch)
        answer: dict[str, Any] = {"rows": rows, **ask("closers", "publish", folder, rows)}
        for market in MARKETS:
            answers: dict[str, list[Any]] = {way: [] for way in WAYS}
            for _ in range(rounds):
                for way, told in answers.items():
                    told.append(ask("closers", "measure", folder / market, way))
            answer[market] = {**answers, "apart": ask("closers", "compare", folder / market)}
    return answer


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.closing", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rows", type=int, default=10_000_000, help="trades (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=3, help="of each way, in turn (default: %(default)s)")
    options = parser.parse_args()
    tell(contest(options.rows, options.rounds))


if __name__ == "__main__":
    main()
