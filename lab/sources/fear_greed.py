"""The Crypto Fear & Greed Index of alternative.me: one number a day from 0 (fear) to 100 (greed), since February 2018.

https://alternative.me/crypto/fear-and-greed-index/#api
"""

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, ClassVar

import polars as pl

from lab.errors import SourceError, UsageError
from lab.kinds import KINDS
from lab.nouns import TIME, Piece, Table
from lab.sources import Request
from lab.sources.rows import moment, sift_kind
from lab.sources.web import PATIENT, Patience, connections, get

INDEX = "https://api.alternative.me"
QUESTION = "/fng/?limit=0&format=json"
BYTES_AT_MOST = 16 << 20
PUBLISHED_AFTER = timedelta(hours=1)  # the midnight (UTC) that a value is stamped with
SAVE_ANEW = "save the answer to /fng/?limit=0&format=json anew, as it came"


@dataclass(frozen=True)
class FearGreed:
    """Fear & Greed index of crypto markets by alternative.me: a mood from 0 to 100 a day, since February 2018.

    Asked of its server, or read from an answer that was saved (--path). The index is one: it becomes the mood of
    whatever symbol is asked for, e.g. CRYPTO. The whole history is taken, whatever the span; days that are missing
    stay missing. A value is known an hour after the midnight of its day; that of the running day may still change and
    is known from the moment of fetching on. Old values were never published again as they had been, so nobody can
    tell whether they were revised.
    """

    base_url: str = INDEX
    path: Path | None = None
    patience: Patience = PATIENT

    kinds: ClassVar[tuple[str, ...]] = ("mood",)

    def count(self, request: Request) -> int:
        return len(request.symbols)

    def fetch(self, request: Request, done: Mapping[str, str]) -> Iterator[Piece]:
        request.of_kind(*self.kinds)
        rows = _rows(self._answer(), datetime.now(UTC))
        # Without the countdown to the next value, so that an answer with the same values is the same.
        told = rows.select("time", "value", "label").write_csv()
        digest = hashlib.sha256(told.encode()).hexdigest()
        for symbol in request.symbols:
            origin = f"fear-greed {symbol} {digest[:16]}"
            if origin not in done:
                outside = pl.when(~pl.col("value").is_between(0, 100)).then(pl.lit("the value is not from 0 to 100"))
                good, rejected, repeats = sift_kind(
                    KINDS["mood"], rows.with_columns(symbol=pl.lit(symbol)), suspect=outside
                )
                yield Piece(symbol, origin, digest, Table("mood", good), rejected, repeats)

    def _answer(self) -> bytes:
        if self.path is not None:
            try:
                return self.path.read_bytes()
            except OSError as refused:
                raise UsageError(f"{self.path} cannot be read: {refused.strerror}", fix="check --path") from None
        url = self.base_url.rstrip("/") + QUESTION
        with connections() as pools:
            answer = get(pools, url, at_most=BYTES_AT_MOST, patience=self.patience)
        if answer is None:
            raise SourceError(f"{url} does not exist", fix="check --base-url")
        return answer


def _rows(answer: bytes, now: datetime) -> pl.DataFrame:
    """Every value of an answer with its day and when it was known; text where it should be a number is null."""
    told = [
        (
            *(_text(each.get(name)) for name in ("timestamp", "value", "value_classification")),
            "time_until_update" in each,
        )
        for each in _values(answer)
    ]
    text = {"time": pl.String, "value": pl.String, "label": pl.String, "running": pl.Boolean}
    rows = pl.DataFrame(told, schema=text, orient="row")
    if not rows["time"].str.contains(r"^\d+$").any():
        raise SourceError(f"the answer's days are written as {rows['time'][0]!r}", fix=SAVE_ANEW)
    day = moment(pl.col("time").cast(pl.Int64, strict=False)).dt.truncate("1d")
    known = pl.when("running").then(pl.lit(now, TIME)).otherwise(pl.col("time") + PUBLISHED_AFTER)
    return rows.with_columns(time=day, value=pl.col("value").cast(pl.Float64, strict=False)).select(
        "time", "value", "label", known_at=known
    )


def _text(value: object) -> str | None:
    return None if value is None else str(value)


def _values(answer: bytes) -> list[dict[str, Any]]:
    try:
        told = json.loads(answer)
        values, trouble = told["data"], told.get("metadata", {}).get("error")
    except (ValueError, TypeError, KeyError, AttributeError):
        raise SourceError(f"the answer is no index: it begins with {answer[:40]!r}", fix=SAVE_ANEW) from None
    if trouble:
        raise SourceError(f"alternative.me says: {trouble}", fix="try again later")
    if not isinstance(values, list) or not values or not all(isinstance(each, dict) for each in values):
        raise SourceError("the answer holds no list of values", fix=SAVE_ANEW)
    return values


fear_greed = FearGreed()
