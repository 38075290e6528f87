"""Hot loops in machine code: numba, with the types kept."""

from collections.abc import Callable
from typing import ParamSpec, TypeVar, cast

import numba
import numpy as np

P = ParamSpec("P")
R = TypeVar("R")


def compiled(function: Callable[P, R]) -> Callable[P, R]:
    """Compile `function` on first call and keep the code on disk.

    Strict floating point: the same inputs give the same bits, and no sum is reordered.
    """
    return cast(Callable[P, R], numba.njit(cache=True, nogil=True, error_model="numpy")(function))


@compiled
def row(number: int) -> np.uint64:
    """A row that is known not to lie before the first: without this, every access asks whether to count from the end.

    Outside the array it reads whatever lies there.
    """
    return np.uint64(number)
