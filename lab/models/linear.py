"""Linear models: ridge regression for returns, multinomial logistic regression for classes."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
from pydantic import Field
from pydantic.dataclasses import dataclass as settings

from lab.compiled import compiled
from lab.nouns import SETTINGS, Matrix, Vector

CLASSES = (-1.0, 0.0, 1.0)


@dataclass(frozen=True)
class FittedLinear:
    """Standardised columns times coefficients; one output for a return, one per class otherwise.

    mean, deviation: of the training rows, one a column. coefficients: (outputs, columns). A null counts as the
    training mean.
    """

    mean: Vector
    deviation: Vector
    coefficients: Matrix
    intercepts: Vector

    def predict(self, x: Matrix) -> Vector:
        rows = np.ascontiguousarray(x)
        outputs = linear_outputs(rows, self.mean, self.deviation, self.coefficients, self.intercepts)
        if outputs.shape[1] == 1:
            return np.ravel(outputs)
        odds: Matrix = np.exp(outputs - outputs.max(axis=1, keepdims=True))
        score: Vector = (odds[:, 2] - odds[:, 0]) / (odds[:, 0] + odds[:, 1] + odds[:, 2])
        return score

    def importance(self) -> Vector:
        weight: Vector = np.abs(self.coefficients).sum(axis=0)
        return weight / weight.sum() if weight.sum() > 0 else weight

    def save(self, path: Path) -> None:
        path.write_text(json.dumps({name: value.tolist() for name, value in vars(self).items()}))


@settings(frozen=True, config=SETTINGS)
class Linear:
    """Penalised linear model. penalty: ridge alpha per training row, or the inverse of logistic C, likewise."""

    penalty: Annotated[float, Field(ge=0)] = 0.001

    def fit(self, x: Matrix, y: Vector, *, kind: str, seed: int, threads: int) -> FittedLinear:
        """Learn from rows of `x` (NaN is null); the solvers are exact, so `seed` changes nothing."""
        from sklearn.linear_model import LogisticRegression, Ridge
        from threadpoolctl import threadpool_limits

        known = np.where(np.isfinite(x), x, np.nan)
        counts = np.maximum(np.isfinite(known).sum(axis=0), 1)
        mean = np.nansum(known, axis=0) / counts
        spread = np.sqrt(np.nansum((known - mean) ** 2, axis=0) / counts)
        # A column that is constant but for rounding would be blown up to pure noise.
        deviation = np.where(spread > 1e-12 * np.abs(mean), spread, 1.0)
        z = np.nan_to_num((known - mean) / deviation)
        if kind == "class" and np.ptp(y) == 0:
            return _one_class(mean, deviation, y[0])
        with threadpool_limits(1):  # more threads sum in another order, which is other bits
            if kind == "return":
                ridge = Ridge(alpha=self.penalty * len(y), solver="cholesky").fit(z, y)
                return FittedLinear(mean, deviation, ridge.coef_.reshape(1, -1), np.atleast_1d(ridge.intercept_))
            strength = 1 / max(self.penalty * len(y), 1e-12)
            logistic = LogisticRegression(C=strength, max_iter=1000).fit(z, y)
        coefficients, intercepts = _three_classes(logistic.classes_, logistic.coef_, logistic.intercept_)
        return FittedLinear(mean, deviation, coefficients, intercepts)

    @staticmethod
    def load(path: Path) -> FittedLinear:
        fields = json.loads(path.read_text())
        return FittedLinear(**{name: np.asarray(value, dtype=np.float64) for name, value in fields.items()})


def _one_class(mean: Vector, deviation: Vector, value: float) -> FittedLinear:
    """What training rows of one class alone teach: that there is no other."""
    coefficients, intercepts = _three_classes(np.array([value]), np.zeros((1, mean.size)), np.zeros(1))
    return FittedLinear(mean, deviation, coefficients, intercepts)


def _three_classes(present: Vector, coefficients: Matrix, intercepts: Vector) -> tuple[Matrix, Vector]:
    """Coefficients for -1, 0 and 1; a class that training never saw gets no chance."""
    if len(present) == 2:  # scikit-learn keeps one row for two classes: the log odds of the second
        coefficients, intercepts = np.vstack([0 * coefficients, coefficients]), np.array([0.0, intercepts[0]])
    full = np.zeros((3, coefficients.shape[1]))
    offsets = np.full(3, -1e3)
    for row, value in enumerate(present):
        full[CLASSES.index(value)] = coefficients[row]
        offsets[CLASSES.index(value)] = intercepts[row]
    return full, offsets


@compiled
def linear_outputs(x: Matrix, mean: Vector, deviation: Vector, coefficients: Matrix, intercepts: Vector) -> Matrix:
    """(rows, outputs), each row summed by itself in column order: the same bits alone as among others."""
    rows, columns = x.shape
    outputs = np.empty((rows, intercepts.size))
    for r in range(rows):
        for k in range(intercepts.size):
            total = intercepts[k]
            for c in range(columns):
                if np.isfinite(x[r, c]):
                    total += coefficients[k, c] * ((x[r, c] - mean[c]) / deviation[c])
            outputs[r, k] = total
    return outputs
