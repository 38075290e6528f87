"""Whether both ways came to the same numbers: `python -m benchmarks.agreement FOLDER`."""

import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from benchmarks import naive
from benchmarks.clock import tell
from benchmarks.task import Task

Numbers = npt.NDArray[np.float64]
BAR_COLUMNS = ["open", "high", "low", "close", "volume", "buy_volume"]
DEVIATION = "of a column's deviation"
FEW_FOLDS = 3


@dataclass(frozen=True)
class Comparison:
    """The largest difference between two outputs over `values` numbers, in `unit`, and the most there may be."""

    what: str
    values: int
    largest: float
    unit: str
    limit: float

    @property
    def holds(self) -> bool:
        return self.values > 0 and self.largest <= self.limit


def comparisons(folder: Path) -> Iterator[Comparison]:
    """Bars, features, labels, scores and money of both ways, from what each left in `folder`."""
    task = Task.read()
    lab, pandas = np.load(folder / "lab.npz"), np.load(folder / "naive.npz")
    yield _compared("bars as stored", lab["bars"], pandas["bars"], np.abs(lab["bars"]), "of the value", 1e-12)
    for what, name in (("features", "features"), ("labels", "answers")):
        deviation = np.nanstd(lab[name], axis=0)
        yield _compared(what, lab[name], pandas[name], deviation, DEVIATION, 1e-9)
    scores = _scores_of(lab["features"], lab["answers"], task)
    learned = lab["scores"][: len(scores)]
    yield _compared(
        f"scores, from the same columns, {FEW_FOLDS} folds", learned, scores, np.std(learned), DEVIATION, 1e-9
    )
    equity = _equity_of(lab["bars"], lab["scores"], task)
    yield _compared("equity, from the same scores", lab["equity"], equity, lab["equity"], "of the equity", 1e-6)


def correlation(folder: Path) -> float:
    """Of the scores that each way learned from its own columns."""
    lab, pandas = np.load(folder / "lab.npz"), np.load(folder / "naive.npz")
    return float(np.corrcoef(lab["scores"], pandas["scores"])[0, 1])


def _scores_of(features: Numbers, answers: Numbers, task: Task) -> Numbers:
    """What the plain loop learns from these columns in the first folds."""
    rows = task.train_bars + task.horizon_bars + FEW_FOLDS * task.test_bars
    x, y = pd.DataFrame(features[:rows]), pd.Series(answers[:rows])
    return naive.walk_forward(x, y, task).dropna().to_numpy()


def _equity_of(bars: Numbers, scores: Numbers, task: Task) -> Numbers:
    """What the plain loops earn with these scores, which belong to the last rows of `bars`."""
    df = pd.DataFrame(bars, columns=BAR_COLUMNS)
    whole = np.concatenate([np.full(len(bars) - len(scores), np.nan), scores])
    return naive.backtest(df, pd.Series(whole), task).to_numpy()


def _compared(what: str, ours: Numbers, theirs: Numbers, scale: Numbers, unit: str, limit: float) -> Comparison:
    """Where `lab` has a value; a value that the other lacks there is an infinite difference."""
    known = np.isfinite(ours)
    apart = np.abs(ours - theirs) / scale
    largest = float(np.max(np.where(np.isnan(apart), np.inf, apart), where=known, initial=0.0))
    return Comparison(what, int(known.sum()), largest, unit, limit)


if __name__ == "__main__":
    kept = Path(sys.argv[1])
    found = [{**asdict(each), "holds": each.holds} for each in comparisons(kept)]
    tell({"comparisons": found, "correlation": correlation(kept)})
