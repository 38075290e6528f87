"""What is known to have happened to markets: outages of an exchange, and symbols that became another coin.

The hours of Binance's outages are those for which its hourly klines of BTCUSDT have no row.
"""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

Reason = Literal["outage", "halt", "re-used", "delisted", "rejected", "not published", "no trades", "unknown"]


@dataclass(frozen=True)
class Event:
    """Something that kept bars from being made: where, of which symbols (all where none is named), when and why."""

    venue: str
    symbols: tuple[str, ...]
    start: datetime
    end: datetime
    reason: Reason
    note: str

    def explains(self, symbol: str, after: datetime, before: datetime) -> bool:
        """Whether it accounts for at least half of the time between two closes of that symbol."""
        shared = min(self.end, before) - max(self.start, after)
        return (not self.symbols or symbol in self.symbols) and 2 * shared >= before - after


def _outage(
    first_hour: str, next_hour: str, note: str = "Binance spot was down, for maintenance or an upgrade"
) -> Event:
    start, end = (datetime.strptime(hour, "%Y-%m-%dT%H").replace(tzinfo=UTC) for hour in (first_hour, next_hour))
    return Event("binance", (), start, end, "outage", note)


LUNA = Event(
    "binance",
    ("LUNA", "LUNAUSDT", "LUNABUSD", "LUNABTC"),
    datetime(2022, 5, 13, 0, tzinfo=UTC),
    datetime(2022, 5, 31, 6, tzinfo=UTC),
    "re-used",
    "the old coin was delisted and trades as LUNC; the symbol is another coin from here on",
)
FTT = Event(
    "binance",
    ("FTT", "FTTUSDT", "FTTBUSD", "FTTBTC"),
    datetime(2022, 11, 15, 4, tzinfo=UTC),
    datetime(2023, 9, 22, 8, tzinfo=UTC),
    "delisted",
    "delisted after the failure of FTX, and listed again",
)
EVENTS = (
    _outage("2018-06-26T02", "2018-06-26T12"),
    _outage("2018-06-27T13", "2018-06-27T14"),
    _outage("2018-07-04T01", "2018-07-04T08"),
    _outage("2018-10-19T06", "2018-10-19T09"),
    _outage("2018-11-14T02", "2018-11-14T09"),
    _outage("2019-03-12T02", "2019-03-12T08"),
    _outage("2019-05-15T03", "2019-05-15T13"),
    _outage("2019-08-15T02", "2019-08-15T10"),
    _outage("2019-11-13T02", "2019-11-13T04"),
    _outage("2019-11-25T02", "2019-11-25T04"),
    _outage("2020-02-09T02", "2020-02-09T03"),
    _outage("2020-02-19T12", "2020-02-19T17"),
    _outage("2020-03-04T10", "2020-03-04T11"),
    _outage("2020-04-25T02", "2020-04-25T04"),
    _outage("2020-06-28T02", "2020-06-28T05"),
    _outage("2020-11-30T06", "2020-11-30T07"),
    _outage("2020-12-21T14", "2020-12-21T18"),
    _outage("2020-12-25T02", "2020-12-25T03"),
    _outage("2021-02-11T04", "2021-02-11T05"),
    _outage("2021-03-06T02", "2021-03-06T03"),
    _outage("2021-04-20T02", "2021-04-20T04"),
    _outage("2021-04-25T05", "2021-04-25T08"),
    _outage("2021-08-13T02", "2021-08-13T06"),
    _outage("2021-09-29T07", "2021-09-29T09"),
    _outage("2023-03-24T13", "2023-03-24T14", "Binance halted spot trading"),
    LUNA,
    FTT,
)
# Sources that write no row for an interval in which nothing was traded.
SILENT_WITHOUT_TRADES = ("kraken", "coinbase", "coinbaseexchange")


def event(source: str, symbol: str, after: datetime, before: datetime) -> Event | None:
    """The known event that explains why bars are missing between two closes; files may be of any venue."""
    for each in EVENTS:
        if (source == "files" or source.startswith(each.venue)) and each.explains(symbol, after, before):
            return each
    return None
