"""Memory and time of the ready set `core` as bars grow: `python -m benchmarks.feature_memory ROWS [SYMBOLS]`.

One symbol is computed whole-table-at-hand, in parts that are dropped once counted; of several, each is drawn,
computed and dropped before the next. Runs in a process of its own, whose peak memory it tells.
"""

import sys
from functools import partial
from typing import Any

from benchmarks.clock import peak_mib, tell
from benchmarks.feature_indicators import seconds_of
from benchmarks.feature_market import minutes
from benchmarks.feature_panel import computed
from lab.features import SETS, plain


def measured(rows: int, symbols: int = 1) -> dict[str, Any]:
    """Seconds of computing alone, and the peak of memory with and before it; drawing bars is not counted in time."""
    chosen = [plain(text) for text in SETS["core"]()]
    computed(minutes(3_000), chosen)
    computed(minutes(140_000), chosen)  # on every core, as later
    start = peak_mib()
    held, seconds, values = start, 0.0, 0
    for number in range(symbols):
        bars = minutes(rows, f"WALK-{number}", number)
        held = max(held, peak_mib()) if number == 0 else held
        seconds += seconds_of(partial(computed, bars, chosen))
        values += bars.frame.height * len(chosen)
    return {
        "rows": rows,
        "symbols": symbols,
        "columns": len(chosen),
        "values": values,
        "seconds": seconds,
        "start_mib": start,
        "held_mib": held,
        "peak_mib": peak_mib(),
    }


if __name__ == "__main__":
    tell(measured(*map(int, sys.argv[1:])))
