"""What else was known when a bar closed: funding, open interest, mood and the like, joined as of that moment only."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import polars as pl

from lab.errors import MissingColumns, UsageError
from lab.nouns import Bars
from lab.registry import unknown

# Kind of data → column of bars → the column that it comes from.
COLUMNS: Mapping[str, Mapping[str, str]] = {
    "funding": {"funding_rate": "rate"},
    "metrics": {name: name for name in ("open_interest", "accounts_ratio", "taker_ratio")},
    "premium": {"premium": "close"},
    "mood": {"mood": "value"},
}


@dataclass(frozen=True)
class Side:
    """Side data as an experiment names it: `funding@binance-um`, or `mood@fear-greed:CRYPTO` of one symbol for all."""

    kind: str
    source: str
    symbol: str | None = None

    @classmethod
    def parse(cls, text: str) -> "Side":
        """Read `kind@source` or `kind@source:symbol`; anything else is a UsageError."""
        kind, at, place = text.partition("@")
        source, _, symbol = place.partition(":")
        if not at or not source:
            raise UsageError(f"{text!r} names no side data", fix="write kind@source, e.g. funding@binance-um")
        if kind not in COLUMNS:
            raise unknown("side data", kind, list(COLUMNS))
        return cls(kind, source, symbol or None)


def join(bars: Bars, kind: str, rows: pl.DataFrame) -> Bars:
    """Bars with the columns of a kind of side data: what was known of it when each bar closed, null before the first.

    `rows` has symbol, time, the kind's values and `known_at` (the close, where the kind has none, as bars do). Of
    what was known, the newest `time` counts, and of its revisions the last that was known; a value never comes from a
    row whose `known_at` lies after the close.
    """
    if clash := [name for name in COLUMNS[kind] if name in bars.frame.columns]:
        raise UsageError(f"the bars have {', '.join(clash)} already", fix=f"join {kind} once")
    if missing := [source for source in COLUMNS[kind].values() if source not in rows.columns]:
        raise MissingColumns(f"the stored {kind} have no {', '.join(missing)}", fix=f"fetch {kind} from another source")
    known = rows if "known_at" in rows.columns else rows.with_columns(known_at=pl.col("time"))
    newest = (
        known.sort("symbol", "known_at", "time")
        # A late revision of an old row does not hide what is known of a newer one.
        .filter(pl.col("time") >= pl.col("time").cum_max().over("symbol"))
        .select("symbol", "known_at", *(pl.col(theirs).alias(ours) for ours, theirs in COLUMNS[kind].items()))
        .sort("known_at", maintain_order=True)  # of rows known from one moment on, the newest last
    )
    joined = (
        bars.frame.sort("time")
        .join_asof(
            newest, left_on="time", right_on="known_at", by="symbol", strategy="backward", check_sortedness=False
        )
        .drop("known_at")
        .sort("symbol", "time")
    )
    return replace(bars, frame=joined)
