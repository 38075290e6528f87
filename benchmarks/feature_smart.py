"""Smart-money notions by lab and by smartmoneyconcepts, in turn: `python -m benchmarks.feature_smart ROWS ROUNDS`.

lab computes the ready set `smart_money16`, the package its swings, gaps, structure, blocks and liquidity. Their rules
differ (the package marks a swing on its own bar, which nobody knows yet), so values are compared only where both mean
the same: fair value gaps, and swings once the package's are moved to the bar at whose close they are known.
"""

import os
import sys
import warnings
from functools import partial
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.clock import tell
from benchmarks.feature_indicators import seconds_of
from benchmarks.feature_market import KLINES, minutes, recorded
from lab.features import SETS, compute, plain
from lab.nouns import Bars, Vector

SIDE = 5
MONTHS = ("2023-04", "2023-05", "2023-06")
FEW_ROWS = 2_000
COLUMNS = ["open", "high", "low", "close", "volume"]


def market(rows: int) -> Bars:
    """Recorded bars where their folder lies beside us, else drawn ones."""
    return recorded("FILUSDT", MONTHS, rows) if KLINES.is_dir() else minutes(rows)


def theirs(frame: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """All that the package makes of these bars."""
    from smartmoneyconcepts import smc

    swings = smc.swing_highs_lows(frame, swing_length=SIDE)
    return {
        "swings": swings,
        "gaps": smc.fvg(frame),
        "structure": smc.bos_choch(frame, swings),
        "blocks": smc.ob(frame, swings),
        "liquidity": smc.liquidity(frame, swings),
    }


def contest(rows: int, rounds: int) -> dict[str, Any]:
    chosen = [plain(text) for text in SETS["smart_money16"]()]
    few, bars = market(FEW_ROWS), market(rows)
    seconds: dict[str, list[float]] = {"lab": [], "smartmoneyconcepts": []}
    for subject, told in ((few, None), *((bars, seconds) for _ in range(rounds))):
        frame = subject.frame.select(COLUMNS).to_pandas()
        taken = {
            "lab": seconds_of(partial(compute, subject, chosen)),
            "smartmoneyconcepts": seconds_of(partial(theirs, frame)),
        }
        for way in told or ():
            seconds[way].append(taken[way])
    return {
        "rows": bars.frame.height,
        "recorded": bars.symbols == ["FILUSDT"],
        "features": len(chosen),
        "seconds": seconds,
        "agreement": agreement(bars),
    }


def agreement(bars: Bars) -> dict[str, dict[str, int]]:
    """By notion: how often lab has it, the package has it, and both have it on the same bar with the same sign."""
    frame = bars.frame.select(COLUMNS).to_pandas()
    found = theirs(frame)
    gap = plain("fair_value_gap")
    mine = compute(bars, [gap])[gap.name].fill_null(0).to_numpy()
    # A gap stands on its middle bar there, and only where that bar has its direction.
    gaps = np.append(0.0, np.nan_to_num(found["gaps"]["FVG"].to_numpy())[:-1])
    body = np.sign((frame["close"] - frame["open"]).shift(1).fillna(0).to_numpy())
    ages = [plain(f"swing_{kind}_age({SIDE}, 250)") for kind in ("high", "low")]
    known = compute(bars, ages)
    marks = np.nan_to_num(found["swings"]["HighLow"].to_numpy())
    marks = np.concatenate([np.zeros(SIDE), marks[:-SIDE]])
    swings = {
        f"swing {kind}s": counted((known[age.name].fill_null(0) == SIDE).to_numpy(), marks == sign)
        for kind, age, sign in (("high", ages[0], 1), ("low", ages[1], -1))
    }
    along = np.where(body == mine, mine, 0.0)
    return {"fair value gaps, middle bar along": counted_signs(along, gaps), **swings}


def counted(mine: "np.typing.NDArray[np.bool_]", other: "np.typing.NDArray[np.bool_]") -> dict[str, int]:
    return {"lab": int(mine.sum()), "theirs": int(other.sum()), "both": int((mine & other).sum())}


def counted_signs(mine: Vector, other: Vector) -> dict[str, int]:
    return {**counted(mine != 0, other != 0), "both": int(((mine == other) & (mine != 0)).sum())}


if __name__ == "__main__":
    os.environ["SMC_CREDIT"] = "0"  # or it greets on stdout
    warnings.simplefilter("ignore")
    tell(contest(*map(int, sys.argv[1:])))
