"""What else was known when a bar closed: funding, open interest, mood, news, joined as of that moment only."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import polars as pl

from lab.errors import MissingColumns, UsageError
from lab.nouns import Bars, opened
from lab.registry import unknown
from lab.sentiment import scores_of

# Kind of data → column of bars → the column that it comes from.
COLUMNS: Mapping[str, Mapping[str, str]] = {
    "funding": {"funding_rate": "rate"},
    "metrics": {name: name for name in ("open_interest", "accounts_ratio", "taker_ratio")},
    "premium": {"premium": "close"},
    "mood": {"mood": "value"},
}
NEWS_COLUMNS = ("headlines", "sentiment")  # these are made of news, not taken over
SIDE_KINDS = (*COLUMNS, "news")


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
        if kind not in SIDE_KINDS:
            raise unknown("side data", kind, list(SIDE_KINDS))
        return cls(kind, source, symbol or None)


def join(bars: Bars, kind: str, rows: pl.DataFrame) -> Bars:
    """Bars with the columns of a kind of side data: what was known of it when each bar closed, null before the first.

    `rows` has symbol, time, the kind's values and `known_at` (the close, where the kind has none, as bars do). Of
    what was known, the newest `time` counts, and of its revisions the last that was known; a value never comes from a
    row whose `known_at` lies after the close. News are counted instead: see `join_news`.
    """
    if clash := [name for name in COLUMNS.get(kind, NEWS_COLUMNS) if name in bars.frame.columns]:
        raise UsageError(f"the bars have {', '.join(clash)} already", fix=f"join {kind} once")
    if kind == "news":
        return join_news(bars, rows)
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


def join_news(bars: Bars, rows: pl.DataFrame) -> Bars:
    """Bars with `headlines`, how many became known since the close before, and `sentiment`, the sum of their scores.

    For a symbol's first bar, since it opened; behind a gap, all that became known in it. A headline counts once,
    when it was first known, however often it is delivered again. Null before the first headline of all was known,
    as nobody may have listened; 0 where none came after that. Scores: lab/sentiment.py.
    """
    if "title" not in rows.columns and "tone" not in rows.columns:
        raise MissingColumns("the stored news have neither title nor tone", fix="fetch news from another source")
    since = pl.col("time").shift(1).over("symbol").fill_null(opened(pl.col("time"), bars.interval))
    closes = bars.frame.select("symbol", close="time", since=since).sort("close")
    first_known = rows.sort("known_at", maintain_order=True).unique(
        ("symbol", "time", "uid"), keep="first", maintain_order=True
    )
    # The first close at which it was known; a headline from before the first bar opened belongs to none.
    told = first_known.join_asof(
        closes, left_on="known_at", right_on="close", by="symbol", strategy="forward", check_sortedness=False
    ).filter(pl.col("known_at") > pl.col("since"))
    counted = (
        told.with_columns(score=scores_of(told))
        .group_by("symbol", pl.col("close").alias("time"))
        .agg(headlines=pl.len().cast(pl.Float64), sentiment=pl.col("score").sum())
    )
    listening = rows.group_by("symbol").agg(listening=pl.col("known_at").min())
    joined = bars.frame.join(counted, on=["symbol", "time"], how="left", maintain_order="left").join(
        listening, on="symbol", how="left", maintain_order="left"
    )
    heard = pl.when(pl.col("time") >= pl.col("listening"))
    frame = joined.with_columns(heard.then(pl.col(name).fill_null(0.0)).alias(name) for name in NEWS_COLUMNS)
    return replace(bars, frame=frame.drop("listening"))
