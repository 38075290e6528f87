"""Hot loops in machine code: numba, with the types kept."""

import hashlib
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import ParamSpec, TypeVar, cast

import numba
import numpy as np

P = ParamSpec("P")
R = TypeVar("R")


def cache_folder(sources: Path, base: Path) -> Path:
    """The folder in `base` for machine code of these very sources, where that of others is removed.

    numba compiles anew when the file of a function was changed, but not when that of a function it calls was.
    """
    kernels = [text for file in sorted(sources.rglob("*.py")) if b"@compiled" in (text := file.read_bytes())]
    folder = base / f"kernels-{hashlib.sha256(b''.join(kernels)).hexdigest()[:16]}"
    if not folder.exists():
        for other in base.glob("kernels-*"):
            shutil.rmtree(other, ignore_errors=True)
    return folder


HERE = Path(__file__).parent
CACHE = str(cache_folder(HERE, Path(numba.config.CACHE_DIR or HERE / "__pycache__")))


def compiled(function: Callable[P, R]) -> Callable[P, R]:
    """Compile `function` on first call and keep the code on disk.

    Strict floating point: the same inputs give the same bits, and no sum is reordered.
    """
    before, numba.config.CACHE_DIR = numba.config.CACHE_DIR, CACHE
    try:
        return cast(Callable[P, R], numba.njit(cache=True, nogil=True, error_model="numpy")(function))
    finally:
        numba.config.CACHE_DIR = before


@compiled
def row(number: int) -> np.uint64:
    """A row that is known not to lie before the first: without this, every access asks whether to count from the end.

    Outside the array it reads whatever lies there.
    """
    return np.uint64(number)
