"""The piece of work that both ways do: the example experiment, on one synthetic market, from an exchange's archive.

Both read the same numbers from the same file, so that nobody is given an easier task.
"""

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

EXPERIMENT = Path(__file__).parents[1] / "experiments" / "synthetic.toml"
MARKET, SEED = "FLOW", 1
SYMBOL = f"{MARKET}-{SEED}"
MINUTES_PER_DAY = 1440
MINUTES_PER_YEAR = 365.25 * MINUTES_PER_DAY
BASIS_POINT = 1e-4
# Their numbers come from the training bars of each fold, for which pandas has nothing to set beside them.
FITTED = ("garch_vol", "volatile_regime")
# Bars until Wilder's RSI has forgotten where it began; both ways learn from later rows alone.
WARM_UP_BARS = 374


@dataclass(frozen=True)
class Task:
    """The settings of the example experiment, as written in its file."""

    raw: Mapping[str, Any]

    @classmethod
    def read(cls) -> "Task":
        return cls(tomllib.loads(EXPERIMENT.read_text(encoding="utf-8")))

    @cached_property
    def features(self) -> list[str]:
        return [text for text in self.raw["features"] if text not in FITTED]

    @property
    def horizon_bars(self) -> int:
        return int(re.findall(r"\d+", self.raw["label"])[0])

    @property
    def train_bars(self) -> int:
        return _days(self.raw["folds"]["train"]) * MINUTES_PER_DAY

    @property
    def test_bars(self) -> int:
        return _days(self.raw["folds"]["test"]) * MINUTES_PER_DAY

    def folds(self, rows: int) -> int:
        """How many folds `rows` bars give."""
        return -(-(rows - self.train_bars - self.horizon_bars) // self.test_bars)

    @property
    def least_rows(self) -> int:
        """Bars for which there are two folds."""
        return self.train_bars + self.horizon_bars + self.test_bars + MINUTES_PER_DAY


def zips(folder: Path) -> list[Path]:
    """The zipped CSVs of a market, a file a month, oldest first."""
    return sorted((folder / "zips").glob("*.zip"))


def _days(text: str) -> int:
    return int(text.removesuffix("d"))
