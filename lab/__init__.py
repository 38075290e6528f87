"""A trading research workbench: fetch, features, walk-forward training, backtest, report."""

import ctypes
from contextlib import suppress

with suppress(OSError, AttributeError):  # other C libraries have other ways
    # glibc gives each thread memory of its own and hands it back to the system whenever it is free; taking it anew,
    # page by page, costs threads more than computing what goes into it. So they share one arena, which keeps up to
    # 256 MiB. That takes effect if `lab` is imported before Polars, whose threads would have arenas by then.
    _libc = ctypes.CDLL(None)
    _libc.mallopt(-8, 1)  # M_ARENA_MAX
    _libc.mallopt(-3, 4 << 20)  # M_MMAP_THRESHOLD
    _libc.mallopt(-2, 64 << 20)  # M_TOP_PAD
    _libc.mallopt(-1, 256 << 20)  # M_TRIM_THRESHOLD
