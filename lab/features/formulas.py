"""Formulas whose columns are known only when they are made."""

import inspect
from collections.abc import Callable, Sequence

from lab.nouns import Vector


def taking(names: Sequence[str], function: Callable[..., Vector]) -> Callable[..., Vector]:
    """`function` with parameters of these names: columns of bars, or `age`."""

    def named(*columns: Vector) -> Vector:
        return function(*columns)

    parameters = [inspect.Parameter(name, inspect.Parameter.POSITIONAL_ONLY) for name in names]
    # inspect.signature reads this attribute; the type of a function does not have it.
    named.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    return named
