"""Gradient-boosted trees: LightGBM, with the same bits every time."""

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from pydantic import Field
from pydantic.dataclasses import dataclass as settings

from lab.nouns import SETTINGS, Count, Matrix, Share, Vector

BASIS_POINT = 1e-4
CLASSES = 3  # -1, 0, 1
FEW_ROWS = 1_000


@dataclass(frozen=True)
class FittedTrees:
    """A LightGBM booster; nulls are a branch of their own. Returns are learned, and saved, in basis points."""

    booster: Any

    def predict(self, x: Matrix) -> Vector:
        # Two threads on two cores make a single row 300 times slower at p99; many rows gain from them.
        raw = np.asarray(self.booster.predict(x, num_threads=1 if len(x) < FEW_ROWS else 0))
        return raw * BASIS_POINT if raw.ndim == 1 else raw[:, 2] - raw[:, 0]

    def importance(self) -> Vector:
        gain: Vector = np.asarray(self.booster.feature_importance("gain"), dtype=np.float64)
        return gain / gain.sum() if gain.sum() > 0 else gain

    def save(self, path: Path) -> None:
        # The number of threads is how it was learned, not what: the file is the same for any.
        path.write_text(re.sub(r"\[num_threads: \d+\]", "[num_threads: 0]", self.booster.model_to_string()))


@settings(frozen=True, config=SETTINGS)
class BoostedTrees:
    """trees: boosting rounds. leaves: per tree. shrinkage: learning rate. min_rows: in a leaf.
    column_share, row_share: drawn anew for each tree.
    """

    trees: Count = 200
    leaves: Annotated[int, Field(ge=2, le=4096)] = 15
    shrinkage: Share = 0.05
    min_rows: Count = 200
    column_share: Share = 0.7
    row_share: Share = 0.7

    def fit(self, x: Matrix, y: Vector, *, kind: str, seed: int, threads: int) -> FittedTrees:
        """Learn from rows of `x` (NaN is null); the same rows and seed give the same trees at any `threads`."""
        lightgbm = _lightgbm()
        is_return = kind == "return"
        parameters = {
            "objective": "regression" if is_return else "multiclass",
            "num_class": 1 if is_return else CLASSES,
            "num_leaves": self.leaves,
            "learning_rate": self.shrinkage,
            "min_data_in_leaf": self.min_rows,
            "feature_fraction": self.column_share,
            "bagging_fraction": self.row_share,
            "bagging_freq": 1,
            "seed": seed,
            "deterministic": True,
            "force_row_wise": True,
            "num_threads": threads,
            "verbosity": -1,
        }
        answers = y / BASIS_POINT if is_return else y + 1
        return FittedTrees(lightgbm.train(parameters, lightgbm.Dataset(x, answers), num_boost_round=self.trees))

    @staticmethod
    def load(path: Path) -> FittedTrees:
        """Read a saved booster. A damaged file can crash the process: check its hash first."""
        return FittedTrees(_lightgbm().Booster(model_str=path.read_text(encoding="utf-8")))


def _lightgbm() -> Any:
    """The library, 1.2 s to import, told before it loads that a thread without work soon gives up its core.

    By default its threads spin for long while they wait: on cores that others use too, a fit then takes many times
    longer. Giving up at once (OMP_WAIT_POLICY=PASSIVE) is as bad on idle ones.
    """
    os.environ.setdefault("GOMP_SPINCOUNT", "2000")
    import lightgbm

    return lightgbm
