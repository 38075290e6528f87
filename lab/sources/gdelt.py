"""News by GDELT 2.0: its Global Knowledge Graph, one file every 15 minutes since 18 February 2015.

Layout: http://data.gdeltproject.org/documentation/GDELT-Global_Knowledge_Graph_Codebook-V2.1.pdf
"""

import hashlib
import re
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from html import unescape
from io import BytesIO
from typing import Any, ClassVar
from zipfile import BadZipFile, ZipFile

import polars as pl

from lab.errors import SourceError, UsageError
from lab.kinds import KINDS
from lab.nouns import Piece, Table
from lab.sources import Request
from lab.sources.ahead import Job, Result, in_order
from lab.sources.rows import sift_kind
from lab.sources.web import PATIENT, Connections, Patience, connections, get

FILES = "http://data.gdeltproject.org/gdeltv2"
FIRST = datetime(2015, 2, 18, 23, tzinfo=UTC)
QUARTER = timedelta(minutes=15)
# A file that is not there so long after its time will not come.
PUBLISHED_WITHIN = timedelta(days=1)
ZIPPED_AT_MOST, UNZIPPED_AT_MOST, LINE_AT_MOST = 128 << 20, 1 << 30, 16 << 20
AT_ONCE = 4
COLUMNS = 27
ID, DATE, OUTLET, DOCUMENT, TONE, EXTRAS = 0, 1, 3, 4, 15, 26
# Themes, then organizations, each as first found and with their places in the text.
SEARCHED = (DOCUMENT, 7, 8, 13, 14)
TITLE = re.compile(r"<PAGE_TITLE>(.*?)</PAGE_TITLE>", re.DOTALL)
NUMBERS = ("tone", "positive", "negative", "polarity")
SCHEMA: Mapping[str, Any] = {
    **dict.fromkeys(("time", "uid", "url", "outlet", "title", *NUMBERS), pl.String),
    "wrong": pl.String,
}


@dataclass(frozen=True)
class Gdelt:
    """News of the world by GDELT since 2015: a row for every document about a topic, with its tone.

    The symbol is the topic, e.g. BITCOIN: documents count in whose address, page title, themes or organizations the
    text of `match` occurs, in any case; the topic itself where it is left out. Every file of 15 minutes is downloaded
    as a whole, hundreds of MB a day. Its documents are known 15 minutes after the time in its name. `tone` is positive
    minus negative, as percent of a document's words, `polarity` their sum. Files that GDELT lacks are absent.
    """

    base_url: str = FILES
    match: str = ""
    patience: Patience = PATIENT

    kinds: ClassVar[tuple[str, ...]] = ("news",)

    def count(self, request: Request) -> int:
        return len(_quarters(request))

    def fetch(self, request: Request, done: Mapping[str, str]) -> Iterator[Piece]:
        request.of_kind(*self.kinds)
        if len(request.symbols) != 1:
            raise UsageError("news are about one topic at a time", fix="name one, e.g. BITCOIN")
        text = (self.match or request.symbols[0]).lower()
        if not text.strip():
            raise UsageError("--match is empty", fix="leave it out, or say what to look for")
        topic, now = _Topic(request.symbols[0], text), datetime.now(UTC)
        quarters = [each for each in _quarters(request) if topic.origin(each) not in done and each + QUARTER <= now]
        with connections() as pools:
            jobs: Iterator[Job[Piece]] = (partial(self._fetched, pools, topic, quarter, now) for quarter in quarters)
            yield from in_order(jobs, AT_ONCE, pools.cut)

    def _fetched(self, pools: Connections, topic: "_Topic", quarter: datetime, now: datetime) -> Result[Piece]:
        url = f"{self.base_url.rstrip('/')}/{_name(quarter)}.zip"
        zipped = get(pools, url, at_most=ZIPPED_AT_MOST, patience=self.patience)
        if zipped is not None:
            return Result((topic.piece(quarter, zipped),))
        late = quarter + PUBLISHED_WITHIN <= now
        return Result((Piece(topic.symbol, topic.origin(quarter), "", None),) if late else ())


@dataclass(frozen=True)
class _Topic:
    """What is looked for, in small letters, and the symbol it is kept under."""

    symbol: str
    text: str

    def origin(self, quarter: datetime) -> str:
        """The same file searched for something else is another origin."""
        return f"{_name(quarter)} {self.symbol} {hashlib.sha256(self.text.encode()).hexdigest()[:8]}"

    def piece(self, quarter: datetime, zipped: bytes) -> Piece:
        """The documents of one file that are about the topic."""
        told = (self._row(line.split("\t")) for line in _lines(_name(quarter), zipped) if line)
        rows = pl.DataFrame([row for row in told if row], schema=dict(SCHEMA), orient="row")
        numbers = [pl.col(name).cast(pl.Float64, strict=False) for name in NUMBERS]
        other = pl.when(pl.col("time") != f"{quarter:%Y%m%d%H%M%S}").then(pl.lit("dated otherwise than its file"))
        no_number = (
            pl.col(name).is_not_null() & number.is_null() for name, number in zip(NUMBERS, numbers, strict=True)
        )
        unread = pl.when(pl.any_horizontal(no_number)).then(pl.lit("the tone is no number"))
        rows = rows.with_columns(*numbers, wrong=pl.coalesce("wrong", other, unread)).with_columns(
            symbol=pl.lit(self.symbol), time=pl.lit(quarter), known_at=pl.lit(quarter + QUARTER)
        )
        good, rejected, repeats = sift_kind(KINDS["news"], rows, suspect=pl.col("wrong"))
        rejected = rejected.with_columns(fault=pl.coalesce("wrong", "fault")).drop("wrong")
        digest = hashlib.sha256(zipped).hexdigest()
        reading = f"documents with {self.text!r}"
        return Piece(self.symbol, self.origin(quarter), digest, Table("news", good), rejected, repeats, reading=reading)

    def _row(self, cells: list[str]) -> tuple[str | None, ...] | None:
        """A document as SCHEMA has it; None where it is not about the topic."""
        if len(cells) != COLUMNS:
            wrong = f"{len(cells)} columns, not {COLUMNS}"
            return (None, cells[0][:100], *(None for _ in range(len(SCHEMA) - 3)), wrong)
        found = TITLE.search(cells[EXTRAS])
        title = unescape(found[1]).strip() if found else None
        if not any(self.text in text.lower() for text in (*(cells[n] for n in SEARCHED), title or "")):
            return None
        tone = (*cells[TONE].split(","), "", "", "")[: len(NUMBERS)] if cells[TONE] else (None,) * len(NUMBERS)
        return (cells[DATE], cells[ID], cells[DOCUMENT], cells[OUTLET], title, *tone, None)


def _quarters(request: Request) -> list[datetime]:
    """The times in the names of the files of the span."""
    span = request.bounded()
    if span.start < FIRST:
        raise UsageError(f"GDELT 2.0 begins on {FIRST:%Y-%m-%d %H:%M}", fix=f"ask for --start {FIRST:%Y-%m-%dT%H:%M}")
    first = FIRST - (FIRST - span.start) // QUARTER * QUARTER
    return [first + n * QUARTER for n in range(-((first - span.end) // QUARTER))]


def _name(quarter: datetime) -> str:
    return f"{quarter:%Y%m%d%H%M%S}.gkg.csv"


def _lines(name: str, zipped: bytes) -> Iterator[str]:
    """The lines of the one file in a zip; another member, another name or too many bytes is a SourceError."""
    if not zipped.startswith(b"PK"):
        raise SourceError(f"{name}.zip is no zip: it begins with {zipped[:20]!r}", fix="check --base-url")
    try:
        with ZipFile(BytesIO(zipped)) as file:
            if file.namelist() != [name]:
                raise SourceError(f"{name}.zip holds {file.namelist()[:3]}, not {name} alone", fix="check --base-url")
            with file.open(name) as member:
                left = UNZIPPED_AT_MOST
                while line := member.readline(LINE_AT_MOST):
                    left -= len(line)
                    if left < 0 or len(line) == LINE_AT_MOST:
                        raise SourceError(f"{name}.zip unpacks to more than a file can hold", fix="check --base-url")
                    yield line.decode(errors="replace").rstrip("\r\n")
    except (BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as damage:
        raise SourceError(f"{name}.zip cannot be unzipped: {damage}", fix="try again later") from None


gdelt = Gdelt()
