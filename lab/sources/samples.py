"""Real daily history that ships inside a dependency: S&P 500 and NASDAQ composite, 1999 to 2018."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from importlib import import_module
from importlib.metadata import version
from typing import ClassVar

import polars as pl

from lab.errors import UsageError
from lab.nouns import Bars, Piece
from lab.registry import unknown
from lab.sources import Request

SERIES = {"SP500": "sp500", "NASDAQ": "nasdaq"}


@dataclass(frozen=True)
class Samples:
    """Real daily bars that ship inside the package `arch`: SP500 and NASDAQ, 1999 to 2018.

    The whole series, whatever the span. Open, high, low, close and volume as given, not adjusted. A session counts
    as closed at the UTC midnight after it.
    """

    kinds: ClassVar[tuple[str, ...]] = ("bars",)

    def count(self, request: Request) -> int:
        return len(request.symbols)

    def fetch(self, request: Request, done: Mapping[str, str]) -> Iterator[Piece]:
        request.of_kind(*self.kinds)
        if request.interval != "1d":
            raise UsageError(f"the samples have no {request.interval} bars", fix="ask for --interval 1d")
        for symbol in request.symbols:
            if symbol not in SERIES:
                raise unknown("sample", symbol, list(SERIES))
        for symbol in request.symbols:
            origin = f"arch {version('arch')} data.{SERIES[symbol]}"
            if origin not in done:
                bars = _bars(symbol)
                yield Piece(symbol, origin, bars.digest, bars)


def _bars(symbol: str) -> Bars:
    # A pandas frame with one row a session; pandas stays in this function.
    sessions = import_module(f"arch.data.{SERIES[symbol]}").load()
    columns = {name: sessions[name.capitalize()].to_numpy() for name in ("open", "high", "low", "close", "volume")}
    opened = pl.Series(sessions.index.to_numpy()).cast(pl.Datetime("us")).dt.replace_time_zone("UTC")
    frame = pl.DataFrame({"symbol": [symbol] * len(sessions), "time": opened + timedelta(days=1), **columns})
    return Bars.of(frame, "1d", calendar="weekdays")


samples = Samples()
