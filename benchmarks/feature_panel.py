"""Alpha158 on a panel of daily bars, by lab and by pandas: `python -m benchmarks.feature_panel WAY SYMBOLS FACTORS`.

lab computes the whole panel in parts that are dropped once counted; pandas goes symbol by symbol with whole columns,
on fewer symbols. No way keeps anything from one run to the next. `values` compares the two.
"""

import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.clock import peak_mib, tell
from benchmarks.feature_indicators import seconds_of
from benchmarks.feature_market import days
from lab.features import SETS, compute, compute_in_parts, plain
from lab.nouns import Bars, Feature, Vector

FOURTEEN = (
    "alpha_kmid", "alpha_klen", "alpha_roc(5)", "alpha_ma(20)", "alpha_std(20)", "alpha_beta(20)", "alpha_rsqr(20)",
    "alpha_max(20)", "alpha_min(20)", "alpha_rsv(20)", "alpha_corr(20)", "alpha_cord(20)", "alpha_vma(20)",
    "alpha_wvma(20)",
)  # fmt: skip
WINDOWS = (5, 10, 20, 30, 60)


def factors(which: str) -> list[Feature]:
    """The fourteen that are as many as Qlib's published run had, or all."""
    return [plain(text) for text in (FOURTEEN if which == "14" else SETS["alpha158"]())]


def computed(bars: Bars, chosen: list[Feature]) -> int:
    """How many values there are; every part is dropped once it is counted."""
    return sum(part.height * len(chosen) for part in compute_in_parts(bars, chosen))


def lab(symbols: int, which: str) -> dict[str, Any]:
    chosen = factors(which)
    computed(days(2), chosen)
    bars = days(symbols)
    held = peak_mib()
    seconds = seconds_of(lambda: computed(bars, chosen))
    return {**size(bars), "columns": len(chosen), "seconds": seconds, "held_mib": held, "peak_mib": peak_mib()}


def pandas(symbols: int, which: str) -> dict[str, Any]:
    wanted = {each.name for each in factors(which)}
    bars = days(symbols)
    frames = frames_of(bars)
    held = peak_mib()
    seconds = seconds_of(lambda: [dict(formulas(frame, wanted)) for frame in frames])
    return {**size(bars), "columns": len(wanted), "seconds": seconds, "held_mib": held, "peak_mib": peak_mib()}


def values(symbols: int) -> dict[str, Any]:
    """The largest difference of each factor, in its deviations, and how many rows only one of both has."""
    chosen = factors("158")
    bars = days(symbols)
    ours = compute(bars, chosen).drop("symbol", "time")
    wanted = {each.name for each in chosen}
    parts = [pd.DataFrame(dict(formulas(frame, wanted))) for frame in frames_of(bars)]
    theirs = pd.concat(parts, ignore_index=True)
    found = {}
    for name in ours.columns:
        mine, other = ours[name].fill_null(np.nan).to_numpy(), theirs[name].to_numpy()
        known, both = np.isfinite(mine), np.isfinite(mine) & np.isfinite(other)
        largest = np.max(np.abs(mine - other), where=both, initial=0.0) / np.std(mine[known])
        found[name] = {"largest": float(largest), "one_sided": int((known != np.isfinite(other)).sum())}
    return {**size(bars), "factors": found, "absent": sorted(wanted - set(theirs.columns))}


def size(bars: Bars) -> dict[str, int]:
    return {"symbols": len(bars.symbols), "rows": bars.frame.height}


def frames_of(bars: Bars) -> list[pd.DataFrame]:
    wanted = ["open", "high", "low", "close", "volume", "quote_volume"]
    return [bars.of_symbol(symbol).frame.select(wanted).to_pandas() for symbol in bars.symbols]


def formulas(p: pd.DataFrame, wanted: set[str]) -> "Iterator[tuple[str, pd.Series[float]]]":
    """Those factors of one symbol, as one writes them in pandas."""
    for name, series in (*bar_factors(p), *(each for window in WINDOWS for each in windowed(p, window, wanted))):
        if name in wanted:
            yield name, series


def bar_factors(p: pd.DataFrame) -> "Iterator[tuple[str, pd.Series[float]]]":
    o, h, low, c = p["open"], p["high"], p["low"], p["close"]
    top, bottom, span = np.maximum(o, c), np.minimum(o, c), h - low
    yield "alpha_kmid", (c - o) / o
    yield "alpha_klen", span / o
    yield "alpha_kmid2", (c - o) / span
    yield "alpha_kup", (h - top) / o
    yield "alpha_kup2", (h - top) / span
    yield "alpha_klow", (bottom - low) / o
    yield "alpha_klow2", (bottom - low) / span
    yield "alpha_ksft", (2 * c - h - low) / o
    yield "alpha_ksft2", (2 * c - h - low) / span
    yield "alpha_open0", o / c
    yield "alpha_high0", h / c
    yield "alpha_low0", low / c
    yield "alpha_vwap0", p["quote_volume"] / p["volume"] / c


def windowed(p: pd.DataFrame, n: int, wanted: set[str]) -> "Iterator[tuple[str, pd.Series[float]]]":
    """What is asked for of the 29 over `n` bars; nothing that was not asked for is computed."""
    makers = {**of_prices(p, n), **of_moves(p, n)}
    for name, make in makers.items():
        if f"alpha_{name}_{n}" in wanted:
            yield f"alpha_{name}_{n}", make()


def of_prices(p: pd.DataFrame, n: int) -> dict[str, Any]:
    c, h, low = p["close"], p["high"], p["low"]
    steps = pd.Series(np.arange(len(c), dtype=float), index=c.index)
    rolled = c.rolling(n)

    def slope() -> "pd.Series[float]":
        return rolled.cov(steps) / (n * (n + 1) / 12)

    return {
        "roc": lambda: c.shift(n) / c,
        "ma": lambda: rolled.mean() / c,
        "std": lambda: rolled.std() / c,
        "beta": lambda: slope() / c,
        "rsqr": lambda: rolled.corr(steps) ** 2,
        "resi": lambda: (c - rolled.mean() - slope() * (n - 1) / 2) / c,
        "max": lambda: h.rolling(n).max() / c,
        "min": lambda: low.rolling(n).min() / c,
        "qtlu": lambda: rolled.quantile(0.8) / c,
        "qtld": lambda: rolled.quantile(0.2) / c,
        "rank": lambda: rolled.rank(pct=True),
        "rsv": lambda: (c - low.rolling(n).min()) / (h.rolling(n).max() - low.rolling(n).min()),
        "imax": lambda: place(h, n),
        "imin": lambda: place(-low, n),
        "imxd": lambda: place(h, n) - place(-low, n),
    }


def of_moves(p: pd.DataFrame, n: int) -> dict[str, Any]:
    c, v = p["close"], p["volume"]
    before, traded = c.shift(1), v.shift(1)

    def rises(x: "pd.Series[float]") -> "pd.Series[float]":
        moves = x.diff()
        return moves.clip(lower=0).rolling(n).sum() / moves.abs().rolling(n).sum()

    def share(higher: "pd.Series[bool]", known: "pd.Series[float]") -> "pd.Series[float]":
        return higher.where(known.notna()).astype(float).rolling(n).mean()

    def weighted() -> "pd.Series[float]":
        moved = (c / before - 1).abs() * v
        return moved.rolling(n).std() / moved.rolling(n).mean()

    return {
        "corr": lambda: c.rolling(n).corr(np.log(v + 1)),
        "cord": lambda: (c / before).rolling(n).corr(np.log(v / traded + 1)),
        "cntp": lambda: share(c > before, before),
        "cntn": lambda: share(c < before, before),
        "cntd": lambda: share(c > before, before) - share(c < before, before),
        "sump": lambda: rises(c),
        "sumn": lambda: rises(-c),
        "sumd": lambda: rises(c) - rises(-c),
        "vma": lambda: v.rolling(n).mean() / v,
        "vstd": lambda: v.rolling(n).std() / v,
        "wvma": weighted,
        "vsump": lambda: rises(v),
        "vsumn": lambda: rises(-v),
        "vsumd": lambda: rises(v) - rises(-v),
    }


def place(x: "pd.Series[float]", n: int) -> "pd.Series[float]":
    """Where the largest of the last `n` values stands, the oldest 1 / n and the latest 1."""
    seen: Vector = np.lib.stride_tricks.sliding_window_view(x.to_numpy(), n)
    found = (np.argmax(seen, axis=1) + 1) / n
    return pd.Series(np.concatenate([np.full(n - 1, np.nan), found]), index=x.index)


def main(way: str, symbols: str, which: str = "158") -> None:
    if way == "values":
        tell(values(int(symbols)))
    else:
        tell({"lab": lab, "pandas": pandas}[way](int(symbols), which))


if __name__ == "__main__":
    main(*sys.argv[1:])
