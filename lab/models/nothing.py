"""The baseline that every model must beat: it expects nothing, so it never trades."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pydantic.dataclasses import dataclass as settings

from lab.nouns import SETTINGS, Matrix, Vector


@dataclass(frozen=True)
class ExpectsNothing:
    """Scores 0 for every row."""

    columns: int

    def predict(self, x: Matrix) -> Vector:
        return np.zeros(len(x))

    def importance(self) -> Vector:
        return np.zeros(self.columns)

    def save(self, path: Path) -> None:
        path.write_text(f"{self.columns}\n")


@settings(frozen=True, config=SETTINGS)
class Nothing:
    """Learns nothing."""

    def fit(self, x: Matrix, y: Vector, *, kind: str, seed: int, threads: int) -> ExpectsNothing:
        return ExpectsNothing(x.shape[1])

    @staticmethod
    def load(path: Path) -> ExpectsNothing:
        return ExpectsNothing(int(path.read_text()))
