"""The same columns, one bar at a time: how long a bar takes, and whether live gives what batch gives.

`python -m benchmarks.feature_live bar CLOSES SYMBOLS`: new bars are checked, appended to what is remembered of their
symbols, and the last rows computed, as lab/live.py does it. `python -m benchmarks.feature_live equal ROWS PART PARTS`:
of some features, every row from its last `lookback` bars alone, with the age that live knows, beside the batch.
"""

import math
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from statistics import median
from typing import Any

import numpy as np
import polars as pl

from benchmarks.clock import tell
from benchmarks.feature_indicators import seconds_of
from benchmarks.feature_market import minutes, recorded, with_drawn_side_columns
from lab.features import FEATURES, SETS, Latest, Recent, compute, plain, resolve
from lab.features.certificate import Stretch
from lab.features.computing import applied
from lab.nouns import AGE, COMPARED, Bars, Feature, Vector, bar_of

CHOSEN = 50
MONTHS = ("2023-04", "2023-05", "2023-06")
Tried = tuple["np.typing.NDArray[np.int64]", Vector]  # rows, and the values there
PANEL, PANEL_MONTH = ("AVAXUSDT", "FILUSDT", "NEARUSDT"), "2023-02"
TRIED_ROWS, TRIED_IN_BATCH = 100, 1_000
SECONDS_EACH = 6.0  # of a feature, each way; one that would take longer is tried on fewer rows


def new_bars(closes: int, symbols: int) -> dict[str, Any]:
    """Milliseconds from a close to the columns of all symbols, for each of `closes` closes."""
    chosen = [plain(text) for text in SETS["core"]()[::2][:CHOSEN]]
    kept = max(each.lookback for each in chosen)
    markets = [minutes(kept + closes, f"WALK-{number}", number) for number in range(symbols)]
    latest = Latest(chosen)
    remembered = [Recent(f"WALK-{number}", sorted(latest.needs), kept) for number in range(symbols)]
    taken, last = [], [math.nan]
    for close in range(kept + closes):
        arrived = [bars.frame.row(close, named=True) for bars in markets]
        started = time.perf_counter()
        for recent, bar in zip(remembered, arrived, strict=True):
            _, closed, numbers = bar_of(bar)
            recent.append(closed, numbers)
        if close >= kept:
            last = latest.of(remembered)[-1].tolist()
            taken.append(1000 * (time.perf_counter() - started))
    # The last symbol's last row, against the batch over all of its bars.
    batch = compute(markets[-1], chosen).drop("symbol", "time").fill_null(math.nan).row(-1)
    settled = taken[closes // 10 :]  # the first ones warm up
    return {
        "columns": len(chosen),
        "kept": kept,
        "symbols": symbols,
        "closes": len(settled),
        "p50": float(np.quantile(settled, 0.5)),
        "p99": float(np.quantile(settled, 0.99)),
        "same": sum(a == b or (math.isnan(a) and math.isnan(b)) for a, b in zip(last, batch, strict=True)),
    }


def equal(rows: int, part: int, parts: int) -> dict[str, Any]:
    """What came of each of this part's features."""
    features = [each for name in FEATURES if isinstance(each := resolve(name), Feature)][part::parts]
    own = [each for each in features if not each.across]
    across = [each for each in features if each.across]
    bars = with_drawn_side_columns(recorded("FILUSDT", MONTHS, rows))
    panel = [recorded(symbol, (PANEL_MONTH,), rows) for symbol in PANEL]
    height, panel_height = bars.frame.height, panel[0].frame.height
    found = [told(each, height, *beside_batch(affordable(bars, each), each)) for each in own]
    found += [told(each, panel_height, *compared_alone(panel, each)) for each in across]
    return {"rows": height, "stretches": len(bars.stretches()), "features": found}


def affordable(bars: Bars, feature: Feature) -> Bars:
    """As many of the first bars as the batch computes in the seconds that a feature has; all, but for refits."""
    few = replace(bars, frame=bars.frame.head(feature.lookback + TRIED_IN_BATCH))
    batch(few, feature)  # compiles
    seconds_a_row = seconds_of(partial(batch, few, feature)) / TRIED_IN_BATCH  # the first ones have no value
    rows = max(round(SECONDS_EACH / seconds_a_row), TRIED_IN_BATCH)
    return replace(bars, frame=bars.frame.head(feature.lookback + rows))


def beside_batch(bars: Bars, feature: Feature) -> tuple[Tried, Vector]:
    stretch = Stretch("recorded", feature, bars.frame)
    live = tried(lambda row: stretch.value(row, feature.lookback), feature.lookback - 1, stretch.height)
    return live, batch(bars, feature)


def batch(bars: Bars, feature: Feature) -> Vector:
    values: Vector = compute(bars, [feature])[feature.name].fill_null(math.nan).to_numpy()
    return values


def told(feature: Feature, bars: int, live: Tried, whole: Vector) -> dict[str, Any]:
    """How many rows were tried, on how many of them not the same bits came, and the largest relative difference."""
    rows, values = live
    mine = whole[rows]
    same = (values == mine) | (np.isnan(values) & np.isnan(mine))
    largest = max((relative(a, b) for a, b in zip(values[~same], mine[~same], strict=True)), default=0.0)
    return {
        "feature": feature.name,
        "family": feature.family,
        "lookback": feature.lookback,
        "rows": len(rows),
        "possible": bars - feature.lookback + 1,
        "null": int(np.isnan(mine).sum()),
        "different": int((~same).sum()),
        "largest": largest,
    }


def relative(a: float, b: float) -> float:
    """|a - b| in units of the larger; infinite where only one is a number."""
    if math.isnan(a) or math.isnan(b):
        return math.inf
    return abs(a - b) / max(abs(a), abs(b))


def tried(value: Callable[[int], float], first: int, stop: int) -> Tried:
    rows = np.arange(first, stop)
    some = rows[:: max(rows.size // TRIED_ROWS, 1)]
    value(int(rows[-1]))  # compiles
    usual = median(seconds_of(partial(value, row)) for row in some.tolist())
    chosen = rows[:: max(math.ceil(usual * rows.size / SECONDS_EACH), 1)]
    return chosen, np.array([value(row) for row in chosen.tolist()])


def compared_alone(panel: Sequence[Bars], feature: Feature) -> tuple[Tried, Vector]:
    """Of a feature across symbols, the first symbol's values: what it compares is told close by close, as in live."""
    assert feature.across
    together = Bars.of(pl.concat([bars.frame for bars in panel]), "1m")
    whole = batch(together, feature)[: panel[0].frame.height]
    inner = feature.across.inner
    stretches = [Stretch("recorded", inner, bars.frame) for bars in panel]
    rows = range(whole.size)
    own = np.array([[now(stretch, inner, row) for row in rows] for stretch in stretches])
    market = np.array([feature.across.compared(own[:, row], np.array([0, len(panel)]))[0] for row in rows])
    read = [name for name in feature.arguments if name not in (AGE, *COMPARED)]
    arrays = {
        **{name: panel[0].frame[name].to_physical().cast(pl.Float64).to_numpy() for name in read},
        feature.column_of("own"): own[0],
        feature.column_of("market"): market,
    }

    def value(row: int) -> float:
        first = row + 1 - feature.lookback
        known = {name: array[first : row + 1] for name, array in arrays.items()}
        found = float(applied(feature, {**known, AGE: np.array([first + 1])})[-1])
        return found if math.isfinite(found) else math.nan

    return tried(value, feature.lookback - 1, whole.size), whole


def now(stretch: Stretch, inner: Feature, row: int) -> float:
    return stretch.value(row, inner.lookback) if row >= inner.lookback - 1 else math.nan


if __name__ == "__main__":
    tell((new_bars if sys.argv[1] == "bar" else equal)(*map(int, sys.argv[2:])))
