"""Market → bars, trades, quotes, …: one file per venue or format, each a lazy line in SOURCES."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, replace
from datetime import UTC, datetime
from typing import Any, ClassVar, Protocol

from lab.errors import UsageError
from lab.kinds import KINDS
from lab.nouns import EVENTS, Piece, Span
from lab.registry import LazyTable


@dataclass(frozen=True)
class Request:
    """What a user asks of a source: bars of `symbols` that open in `span`, or all there are.

    Of another `kind` (lab/kinds.py), rows of that time; `interval` is EVENTS where the kind has none. A source may
    hand out more than was asked for: it fetches whole objects, e.g. the file of a month.
    """

    symbols: tuple[str, ...]
    interval: str
    span: Span | None = None
    kind: str = "bars"

    def __post_init__(self) -> None:
        if KINDS[self.kind].gridded == (self.interval == EVENTS):
            raise UsageError(f"{self.kind} have no interval {self.interval}", fix="leave out --interval")

    def of_kind(self, *kinds: str) -> str:
        """The kind, for a source that has these; another is a UsageError."""
        if self.kind not in kinds:
            raise UsageError(f"this source has no {self.kind}", fix=f"ask for --kind {' or '.join(kinds)}")
        return self.kind

    def bounded(self) -> Span:
        """The span, for a source that must have one."""
        if self.span is None:
            raise UsageError("this source needs to know from when to when", fix="add --start and --end")
        return self.span


def months(span: Span) -> list[Span]:
    """`span`, cut at the first of each month (UTC)."""
    cuts = [span.start.astimezone(UTC)]
    while (following := next_month(cuts[-1])) < span.end:
        cuts.append(following)
    return [Span(start, end) for start, end in zip(cuts, [*cuts[1:], span.end], strict=True)]


def next_month(time: datetime) -> datetime:
    """The first moment (UTC) of the month after the one that holds `time`."""
    return datetime(time.year + time.month // 12, time.month % 12 + 1, 1, tzinfo=UTC)


class Source(Protocol):
    """A place that market data comes from; its settings are the fields of a frozen dataclass."""

    kinds: ClassVar[tuple[str, ...]]

    def count(self, request: Request) -> int:
        """About how many pieces `fetch` will yield where nothing is done yet, for a progress bar; asks nobody."""

    def fetch(self, request: Request, done: Mapping[str, str]) -> Iterator[Piece]:
        """Yield finished pieces, oldest first within a symbol; origins in `done` are not asked for again.

        `done` maps origins to the digest of what they were. An origin names its symbol too, where one object holds
        several. A piece without a table says that the source has nothing there.
        """


SOURCES = LazyTable(
    "source",
    {
        "binance": "lab.sources.binance:spot",
        "binance-um": "lab.sources.binance:usd_margined",
        "binance-cm": "lab.sources.binance:coin_margined",
        "binance-raw": "lab.sources.binance:raw_spot",
        "binance-um-raw": "lab.sources.binance:raw_usd_margined",
        "binance-cm-raw": "lab.sources.binance:raw_coin_margined",
        "bybit": "lab.sources.bybit:bybit",
        "databento": "lab.sources.databento:databento",
        "fear-greed": "lab.sources.fear_greed:fear_greed",
        "files": "lab.sources.files:files",
        "gdelt": "lab.sources.gdelt:gdelt",
        "kraken": "lab.sources.kraken:kraken",
        "lobster": "lab.sources.lobster:lobster",
        "samples": "lab.sources.samples:samples",
        "synthetic": "lab.sources.synthetic:synthetic",
        "tardis": "lab.sources.tardis:tardis",
        "yahoo": "lab.sources.yahoo:yahoo",
    },
)


CCXT = "ccxt-"  # and the name that ccxt has for an exchange


def source_named(name: str, **settings: Any) -> Source:
    """The registered source with some of its settings replaced; a setting it does not have is a UsageError.

    `ccxt-kraken` and the like are exchanges by their own interfaces.
    """
    source = _exchange(name) if name.startswith(CCXT) else SOURCES[name]
    known = [setting.name for setting in fields(source)]
    for setting in settings:
        if setting not in known:
            option = setting.replace("_", "-")
            raise UsageError(f"--{option} means nothing to --source {name}", fix=f"leave out --{option}")
    configured: Source = replace(source, **settings)
    return configured


def described() -> list[tuple[str, tuple[str, ...], str]]:
    """Every source: its name, the kinds of data it has, and what it is in a sentence."""
    from lab.sources.exchanges import Exchange

    named = [(name, type(SOURCES[name])) for name in SOURCES]
    every: list[tuple[str, Any]] = [*named, (f"{CCXT}EXCHANGE", Exchange)]
    return [(name, source.kinds, str(source.__doc__).splitlines()[0]) for name, source in sorted(every)]


def _exchange(name: str) -> Any:
    from lab.sources.exchanges import exchange_named

    return exchange_named(name.removeprefix(CCXT))
