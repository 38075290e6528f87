"""Market → bars: one file per venue or format, each a lazy line in SOURCES."""

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Protocol

from lab.nouns import Piece, Span
from lab.registry import LazyTable


@dataclass(frozen=True)
class Request:
    """What a user asks of a source: bars of `symbols` whose close lies in `span`."""

    symbols: tuple[str, ...]
    interval: str
    span: Span


class Source(Protocol):
    """A place that bars come from."""

    def count(self, request: Request) -> int:
        """How many pieces `fetch` may yield at most, for a progress bar; costs no request."""

    def fetch(self, request: Request, done: Collection[str]) -> Iterator[Piece]:
        """Yield finished pieces, oldest first within a symbol; origins in `done` are not asked for again."""


SOURCES = LazyTable(
    "source",
    {
        "binance": "lab.sources.binance:spot",
        "binance-um": "lab.sources.binance:usd_margined",
        "files": "lab.sources.files:files",
        "samples": "lab.sources.samples:samples",
        "synthetic": "lab.sources.synthetic:synthetic",
    },
)
