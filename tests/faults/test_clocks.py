"""Times: bars that are not over, units that change, clocks on the wall that skip and repeat, clocks that are wrong."""

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import polars as pl
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from lab import store
from lab.bars import Closer, close_bars
from lab.errors import SourceError
from lab.nouns import EVENTS, INTERVALS, Bars, Piece, Span
from lab.sources import Request, binance
from lab.sources.binance import datasets, spot
from lab.sources.binance.datasets import DATASETS
from lab.sources.binance.rest import Rest
from lab.sources.binance.tables import OUTSIDE, read_table
from lab.sources.files import Files
from lab.sources.rows import moment as as_time
from lab.sources.web import Patience, connections
from tests.archive import Archive, day_path, kline_lines, serving, utc, zipped
from tests.faults.conftest import Tally

ROOT = Path(__file__).parents[2]
HASTY = Patience(tries=3, total=10.0, silence=1.0, first_wait=0.01)
DAY, HOUR, MINUTE, INSTANT = timedelta(days=1), timedelta(hours=1), timedelta(minutes=1), timedelta(seconds=1)
MILLISECOND = timedelta(milliseconds=1)
TODAY = utc(2026, 3, 10)
SECONDS_A_DAY = 86_400


@pytest.fixture
def archive(tmp_path: Path) -> Iterator[Archive]:
    with serving(tmp_path / "archive") as served:
        served.server.RequestHandlerClass.disable_nagle_algorithm = True  # else each answer waits 40 ms
        yield served


def ms(moment: datetime) -> int:
    return round(moment.timestamp() * 1000)


def cells(line: str) -> list[Any]:
    """A line of the archive as the REST interface has it: times and counts are numbers, all else is text."""
    return [int(cell) if n in (0, 6, 8) else cell for n, cell in enumerate(line.strip().split(","))]


@dataclass
class Exchange:
    """Minutes from `first` on, the running one last, as an exchange has them whose clock says `now`."""

    now: datetime
    first: datetime

    def __post_init__(self) -> None:
        self.rows = [cells(line) for line in kline_lines(self.first, 2 * 1440)]

    def time(self, _: dict[str, str]) -> bytes:
        return json.dumps({"serverTime": ms(self.now)}).encode()

    def klines(self, query: dict[str, str]) -> bytes:
        first, last = int(query["startTime"]), min(int(query["endTime"]), ms(self.now))
        return json.dumps([row for row in self.rows if first <= row[0] <= last][: int(query["limit"])]).encode()

    def served_by(self, archive: Archive, below: str = "") -> "Exchange":
        archive.route(f"{below}api/v3/time", self.time)
        archive.route(f"{below}api/v3/klines", self.klines)
        return self


# ── the bar that is not over ────────────────────────────────────────────────────────────────────────────────────────


def closed_by(moment: datetime, first: datetime, length: timedelta) -> list[datetime]:
    """Closes of the bars that are over, by nothing but arithmetic."""
    return [first + (n + 1) * length for n in range((moment - first) // length)]


def test_at_every_second_of_two_minutes_only_closed_bars_come_over_the_wire(
    archive: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And a millisecond before and after each close."""
    source = replace(spot, base_url=archive.url, rest_url=archive.url, patience=HASTY)
    noon = TODAY + 12 * HOUR
    instants = [noon + n * INSTANT for n in range(121)]
    instants += [noon + n * MINUTE + sign * MILLISECOND for n in (1, 2) for sign in (-1, 1)]
    exchange = Exchange(noon, first=noon - HOUR).served_by(archive)

    class Local(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> datetime:  # type: ignore[override]
            return exchange.now.astimezone(tz)

    monkeypatch.setattr(binance, "datetime", Local)
    told = []
    for exchange.now in instants:
        (piece,) = source.fetch(Request(("AAA",), "1m", Span(TODAY, TODAY + DAY)), {})
        assert piece.table is not None
        told.append(piece.table.frame["time"].to_list())
    assert len(told) == 125
    # A bar is over once its last millisecond is: what closes at this very moment may still be changed by it.
    expected = [closed_by(now, exchange.first, MINUTE) for now in instants]
    assert told == expected


@pytest.mark.tries("Q3", SECONDS_A_DAY, SECONDS_A_DAY)
def test_at_every_second_of_a_day_no_bar_is_handed_out_before_it_has_closed(tally: Tally) -> None:
    """86,400 instants, against an exchange that always has the running bar too."""
    rows = [cells(line) for line in kline_lines(TODAY, 6, 4 * HOUR)]

    class Asked(Rest):
        def _ask(self, endpoint: str, query: dict[str, Any]) -> Any:
            if endpoint == "time":
                return {"serverTime": now}
            return [row for row in rows if row[0] <= now and query["startTime"] <= row[0] <= query["endTime"]]

    day = datasets.Archive("spot", DATASETS["bars"], "AAA", "4h", Span(TODAY, TODAY + DAY))
    whole = [f"{','.join(map(str, row))}\n" for row in rows]
    with connections() as pools:
        rest = Asked(pools, "http://exchange", "spot", HASTY)
        for second in range(SECONDS_A_DAY):
            now = ms(TODAY) + 1000 * second
            tally.tried += 1
            assert rest.csv(day).decode() == "".join(whole[: second // (4 * 3600)])
    tally.check()


@pytest.mark.tries("Q3", 3_600, SECONDS_A_DAY)
def test_at_no_second_is_a_bar_of_trades_closed_that_may_still_grow(tally: Tally) -> None:
    """A trade every twenty seconds, all before each second known: of an hour, or with --many of a day."""
    closer, closed = Closer("1m"), []
    for second in range(tally.times):
        now = TODAY + second * INSTANT
        handed_out = [closer.close(now)]
        if second % 20 == 0:
            handed_out.append(closer.take(trades_at([now])))
        tally.tried += 1
        for bars in filter(None, handed_out):
            closed += bars.frame["time"].to_list()
            assert closed[-1] <= now
        assert len(closed) == second // 60
    assert closed == closed_by(now, TODAY, MINUTE)
    tally.check()


@pytest.mark.parametrize("interval", ["1m", "5m", "1h"])
def test_until_any_second_bars_are_those_that_have_closed_by_then(interval: str) -> None:
    length = INTERVALS[interval]
    times = [TODAY + n * 10 * INSTANT for n in range(3 * 360)]
    for second in range(0, 2 * length // INSTANT + 2, max(1, length // INSTANT // 60)):
        until = TODAY + second * INSTANT
        parts = close_bars([trades_at([time for time in times if time < until])], interval, until=until)
        assert [t for part in parts for t in part.frame["time"]] == closed_by(until, TODAY, length)


def trades_at(times: list[datetime]) -> pl.DataFrame:
    return pl.DataFrame(
        {"symbol": ["AAA"] * len(times), "time": times, "price": [100.0] * len(times), "size": 1.0, "side": 1},
        schema_overrides={"symbol": pl.String, "time": pl.Datetime("us", "UTC"), "side": pl.Int8, "price": pl.Float64},
    )


# ── units of time ───────────────────────────────────────────────────────────────────────────────────────────────────

UNITS = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}
NEW_YEAR = utc(2025, 1, 1)


def klines_in(units: list[str], start: datetime, step: timedelta = HOUR) -> bytes:
    """A kline for each unit, both of its stamps written in it."""
    lines = []
    for n, unit in enumerate(units):
        opened = int((start + n * step).timestamp()) * UNITS[unit]
        length = int(step.total_seconds()) * UNITS[unit]
        lines.append(f"{opened},100,101,99,100,{5 + n},{opened + length - 1},500,3,2,200,0\n")
    return "".join(lines).encode()


def object_of(period: Span, kind: str = "bars") -> datasets.Archive:
    return datasets.Archive("spot", DATASETS[kind], "AAA", "1h" if kind == "bars" else EVENTS, period)


@pytest.mark.parametrize("before", UNITS)
@pytest.mark.parametrize("after", UNITS)
def test_on_either_side_of_new_year_2025_every_unit_of_time_means_the_same_hours(before: str, after: str) -> None:
    old, new = Span(NEW_YEAR - DAY, NEW_YEAR), Span(NEW_YEAR, NEW_YEAR + DAY)
    times = []
    for period, unit in ((old, before), (new, after)):
        table, rejected, repeats = read_table([klines_in([unit] * 24, period.start)], object_of(period))
        assert (rejected.height, repeats) == (0, 0)
        times += table.frame["time"].to_list()
    assert times == [NEW_YEAR - DAY + n * HOUR for n in range(1, 49)]


def test_units_that_change_within_one_file_are_read_row_by_row() -> None:
    units = [[*UNITS][n % 4] for n in range(24)]
    table, rejected, _ = read_table([klines_in(units, NEW_YEAR)], object_of(Span(NEW_YEAR, NEW_YEAR + DAY)))
    assert rejected.is_empty()
    assert table.frame["time"].to_list() == [NEW_YEAR + n * HOUR for n in range(1, 25)]


@pytest.mark.parametrize(("shift", "kept"), [(10, 12), (1000, 24), (10**6, 18), (10**9, 12)])
def test_stamps_too_small_or_large_are_rejected_and_not_stored_in_1970_or_57000(shift: int, kept: int) -> None:
    """Of every second row; where that makes seconds, microseconds or nanoseconds of it, they are the same hours."""
    period = Span(NEW_YEAR, NEW_YEAR + DAY)
    rows = [line.split(",") for line in klines_in(["ms"] * 24, NEW_YEAR).decode().splitlines()]
    for n, row in enumerate(rows[1::2]):
        opened, end = int(row[0]), int(row[6]) + 1
        row[0], row[6] = (
            (f"{opened * shift}", f"{end * shift - 1}") if n % 2 else (f"{opened // shift}", f"{end // shift - 1}")
        )
    table, rejected, repeats = read_table(["\n".join(map(",".join, rows)).encode()], object_of(period))
    assert (table.frame.height, rejected.height, repeats) == (kept, 24 - kept, 0)
    assert {*table.frame["time"]} <= {NEW_YEAR + n * HOUR for n in range(1, 25)}
    assert {*rejected["fault"]} <= {OUTSIDE, "no symbol or no time"}


@settings(deadline=None, max_examples=300, derandomize=True, suppress_health_check=list(HealthCheck))
@given(st.lists(st.one_of(st.integers(-(2**63), 2**63 - 1), st.integers(0, 2**41), st.integers(10**17, 2**61))))
@example([2**63 - 1, -(2**63), 0, -1])
def test_no_number_at_all_becomes_a_trade_outside_the_day_that_its_file_is_of(stamps: list[int]) -> None:
    period = Span(NEW_YEAR, NEW_YEAR + DAY)
    inside = ms(NEW_YEAR) + 1
    lines = [f"{n},100,1,{n},{n},{stamp},true\n" for n, stamp in enumerate([inside, *stamps])]
    table, rejected, _ = read_table(["".join(lines).encode()], object_of(period, "trades"))
    assert table.frame.select(period.covers(pl.col("time")).all()).item()
    assert table.frame.height + rejected.height == 1 + len(stamps)
    assert set(rejected["fault"]) <= {OUTSIDE} if rejected.height else True


@pytest.mark.parametrize(
    ("unit", "age", "why"),
    [
        ("ms", utc(2024, 1, 1), "none of its 24 rows is a bar; the first: outside the period"),
        ("s", utc(1970, 1, 20), "it begins with '1641600,100,"),
    ],
)
def test_a_file_that_lies_wholly_in_another_age_is_refused(unit: str, age: datetime, why: str) -> None:
    with pytest.raises(SourceError, match=why):
        read_table([klines_in([unit] * 24, age)], object_of(Span(NEW_YEAR, NEW_YEAR + DAY)))


# ── clocks on walls ─────────────────────────────────────────────────────────────────────────────────────────────────

# Of each zone: nights in which its clock is set, with the hours that the day has; or a night in which nothing happens.
NIGHTS = [
    ("America/New_York", date(2024, 3, 10), 23),
    ("America/New_York", date(2024, 11, 3), 25),
    ("Europe/London", date(2024, 3, 31), 23),
    ("Europe/London", date(2024, 10, 27), 25),
    ("Australia/Sydney", date(2024, 4, 7), 25),
    ("Australia/Sydney", date(2024, 10, 6), 23),
    ("Asia/Tokyo", date(2024, 3, 10), 24),
    ("Asia/Kolkata", date(2024, 11, 3), 24),
    *((zone, day, 24) for zone in ("America/New_York", "Europe/London") for day in (date(2024, 2, 29),)),
    *((zone, day, 24) for zone in ("Asia/Tokyo", "Asia/Kolkata") for day in (date(2024, 2, 29), date(2024, 12, 31))),
    ("Australia/Sydney", date(2024, 12, 31), 24),
    ("America/New_York", date(1967, 4, 30), 23),  # before 1970, too
]
ZONES = sorted({zone for zone, *_ in NIGHTS})


def moments(wall: datetime, zone: str) -> list[datetime]:
    """When the clocks of a zone show this: never, once or twice."""
    found = []
    for fold in (0, 1):
        moment = wall.replace(tzinfo=ZoneInfo(zone), fold=fold).astimezone(UTC)
        if moment.astimezone(ZoneInfo(zone)).replace(tzinfo=None, fold=0) == wall and moment not in found:
            found.append(moment)
    return found


def walls(first: date, count: int, step: timedelta) -> list[datetime]:
    """What a clock shows that nobody ever sets."""
    midnight = datetime.combine(first, datetime.min.time())
    return [midnight + n * step for n in range(count)]


def from_file(folder: Path, zone: str, shown: list[str], interval: str, **settings: Any) -> Piece:
    """Bars whose times are written so, read with a mapping that names the zone."""
    (folder / "mapping.toml").write_text(f'timezone = "{zone}"\n')
    lines = [f"{time},{n + 1},{n + 1},{n + 1},{n + 1},1\n" for n, time in enumerate(shown)]
    (folder / "bars.csv").write_text("time,open,high,low,close,volume\n" + "".join(lines))
    source = Files(path=folder / "bars.csv", mapping=folder / "mapping.toml", **settings)
    (piece,) = source.fetch(Request(("X",), interval), {})
    return piece


def bars_of(piece: Piece) -> Bars:
    assert isinstance(piece.table, Bars)
    return piece.table


@pytest.mark.parametrize(("zone", "day", "hours"), NIGHTS)
def test_hours_by_a_clock_on_the_wall_are_as_many_and_in_the_order_that_passed(
    tmp_path: Path, zone: str, day: date, hours: int
) -> None:
    """Each hour that the clock shows, also twice; from the midnight before to the midnight after the day."""
    shown = [wall for wall in walls(day, 24, HOUR) for _ in range(max(1, len(moments(wall, zone))))]
    table = bars_of(piece := from_file(tmp_path, zone, [f"{wall:%Y-%m-%d %H:%M}" for wall in shown], "1h"))
    certain = [(n, found[0]) for n, wall in enumerate(shown) if len(found := moments(wall, zone)) == 1]
    assert table.frame["time"].to_list() == [moment + HOUR for _, moment in certain]
    assert table.frame["close"].to_list() == [n + 1.0 for n, _ in certain]
    doubtful = [wall for wall in shown if len(moments(wall, zone)) != 1]
    faults = [f"{wall:%Y-%m-%d %H:%M:%S} comes twice or not at all in {zone}" for wall in doubtful]
    assert piece.rejected["fault"].to_list() == faults
    assert (len(doubtful), piece.repeats) == ({23: 1, 24: 0, 25: 2}[hours], 0)
    # What passed between the two midnights, whatever the clock showed.
    midnights = [moments(wall, zone)[0] for wall in walls(day, 2, DAY)]
    assert midnights[1] - midnights[0] == hours * HOUR
    missing = bars_of(piece).gaps()["missing"].sum()
    assert table.frame.height + missing == hours


@pytest.mark.parametrize("zone", ZONES)
def test_a_leap_year_has_366_sessions_that_end_at_the_midnights_of_their_zone(tmp_path: Path, zone: str) -> None:
    days = [date(2023, 12, 31) + n * DAY for n in range(368)]
    table = bars_of(from_file(tmp_path, zone, [f"{day}" for day in days], "1d"))
    midnights = [moments(wall, zone)[0] for wall in walls(days[0], 369, DAY)]
    assert table.frame["time"].to_list() == midnights[1:]
    in_2024 = table.within(Span(midnights[1] + MILLISECOND, midnights[367] + MILLISECOND))
    assert in_2024.frame.height == 366
    leap_day = table.frame.row(days.index(date(2024, 2, 29)), named=True)
    assert leap_day["time"] == moments(datetime(2024, 3, 1), zone)[0]  # noqa: DTZ001 - as a wall shows it
    assert table.frame["close"].to_list() == [n + 1.0 for n in range(368)]


@pytest.mark.parametrize(
    ("written", "closes"),
    [
        (["1965-03-01", "1965-03-02", "1965-03-03"], [utc(1965, 3, 2), utc(1965, 3, 3), utc(1965, 3, 4)]),
        (["1969-12-31", "1970-01-01"], [utc(1970, 1, 1), utc(1970, 1, 2)]),
        (["-86400", "0"], [utc(1970, 1, 1), utc(1970, 1, 2)]),
        (["2023-12-31", "2024-01-01"], [utc(2024, 1, 1), utc(2024, 1, 2)]),
        (["2024-02-28", "2024-02-29", "2024-03-01"], [utc(2024, 2, 29), utc(2024, 3, 1), utc(2024, 3, 2)]),
    ],
)
def test_days_without_a_zone_are_those_of_utc(tmp_path: Path, written: list[str], closes: list[datetime]) -> None:
    lines = [f"{time},1,1,1,1,1\n" for time in written]
    (tmp_path / "days.csv").write_text("time,open,high,low,close,volume\n" + "".join(lines))
    (piece,) = Files(path=tmp_path / "days.csv").fetch(Request(("X",), "1d"), {})
    assert (bars_of(piece).frame["time"].to_list(), piece.rejected.height) == (closes, 0)


def test_a_day_that_no_calendar_has_is_rejected(tmp_path: Path) -> None:
    piece = from_file(tmp_path, "UTC", ["2023-02-27", "2023-02-28", "2023-02-29", "2023-03-01"], "1d")
    assert bars_of(piece).frame["close"].to_list() == [1.0, 2.0, 4.0]
    assert piece.rejected["fault"].to_list() == ["no symbol or no time"]


def test_a_leap_second_is_the_first_of_the_next_minute(tmp_path: Path) -> None:
    """As clocks that count days of 86,400 seconds have it; two rows for that moment are never both kept."""
    shown = ["2016-12-31 23:59:58", "2016-12-31 23:59:59", "2016-12-31 23:59:60", "2017-01-01 00:00:00"]
    piece = from_file(tmp_path, "UTC", shown, "1s")
    table = bars_of(piece)
    assert table.frame["time"].to_list() == [utc(2016, 12, 31, 23, 59, 59), utc(2017, 1, 1), utc(2017, 1, 1, 0, 0, 1)]
    assert piece.rejected.select("close", "fault").rows() == [(4.0, "a second row for the same symbol and time")]
    assert table.gaps().is_empty()


# ── clocks that are wrong ───────────────────────────────────────────────────────────────────────────────────────────

# Fetches in a process of its own, whose wall clock is off by so many minutes: by others each time it is looked at.
FETCH = """
import itertools, json, sys, time
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from lab import store
from lab.nouns import Span
from lab.sources import Request, binance, web

for case in json.load(sys.stdin):
    class Wrong(datetime):
        truth, shifts = datetime.fromisoformat(case["now"]), itertools.cycle(case["minutes"])
        @classmethod
        def now(cls, tz=None):
            return (cls.truth + timedelta(minutes=next(cls.shifts))).astimezone(tz)

    binance.datetime = web.datetime = Wrong
    time.time = lambda: Wrong.now(Wrong.truth.tzinfo).timestamp()
    source = replace(binance.spot, base_url=case["base_url"], rest_url=case["rest_url"])
    start = datetime.fromisoformat(case["start"])
    request = Request(("AAA",), "1m", Span(start, start + timedelta(days=3)))
    name = store.TableName(Path(case["root"]), "binance", "AAA", "1m")
    for _ in range(2):
        store.commit(name.root, "binance", list(source.fetch(request, store.done(name))))
"""
WRONG_CLOCKS = {
    "right": [0],
    "an hour fast": [60],
    "an hour slow": [-60],
    "set back in between": [60, -60],
    "set forward in between": [-60, 60],
}
# Noon, and half an hour before and after a midnight, when an hour is another day.
NOWS = [TODAY + 12 * HOUR, TODAY + 23 * HOUR + 30 * MINUTE, TODAY + 30 * MINUTE]


def test_a_wall_clock_that_jumps_by_an_hour_makes_no_bar_of_the_future(archive: Archive, tmp_path: Path) -> None:
    yesterday = day_path("AAA", TODAY - DAY)
    archive.publish(yesterday, zipped(f"{Path(yesterday).stem}.csv", "".join(kline_lines(TODAY - DAY, 1440))))
    cases = []
    for number, now in enumerate(NOWS):
        Exchange(now, TODAY - DAY).served_by(archive, f"{number}/")
        cases += [
            {
                "now": f"{now}",
                "start": f"{TODAY - DAY}",
                "minutes": minutes,
                "base_url": archive.url,
                "rest_url": f"{archive.url}/{number}",
                "root": f"{tmp_path / clock / str(number)}",
            }
            for clock, minutes in WRONG_CLOCKS.items()
        ]
    command = [sys.executable, "-c", FETCH]
    subprocess.run(command, input=json.dumps(cases), text=True, check=True, timeout=60, cwd=ROOT)
    found = {}
    for number, now in enumerate(NOWS):
        for clock in WRONG_CLOCKS:
            name = store.TableName(tmp_path / clock / str(number), "binance", "AAA", "1m")
            closes = store.read(name)["time"].to_list()
            assert closes == closed_by(closes[-1], TODAY - DAY, MINUTE)
            found[number, clock] = closes[-1] - now
    # A clock that lags believes in the last case that today has not begun, and leaves it for later.
    assert found == {(n, clock): timedelta(0) for n in range(3) for clock in WRONG_CLOCKS} | {
        (2, "an hour slow"): -30 * MINUTE
    }


def test_numbers_of_random_times_are_those_of_python() -> None:
    """From 1973 to 2262, in each unit; nanoseconds are cut to microseconds."""
    random = np.random.default_rng(8)
    micros = random.integers(10**17 // 1000, 9 * 10**15, 2_000)
    for unit, scale in UNITS.items():
        stamps = [int(us) * 1000 if unit == "ns" else int(us) // (10**6 // scale) for us in micros]
        expected = [datetime.fromtimestamp(0, UTC) + timedelta(microseconds=int(us)) for us in micros]
        if unit in ("s", "ms"):
            size = timedelta(seconds=1) if unit == "s" else MILLISECOND
            epoch = datetime.fromtimestamp(0, UTC)
            expected = [epoch + (moment - epoch) // size * size for moment in expected]
        assert pl.select(as_time(pl.lit(pl.Series(stamps)))).to_series().to_list() == expected
