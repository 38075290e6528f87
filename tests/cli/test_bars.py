"""lab bars: what is stored, what is kept back, and what is refused."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest
import typer
from typer.testing import CliRunner

from cli.bars import bars
from lab import store
from lab.bars import close_bars, with_book
from lab.errors import LabError, NoData
from lab.nouns import EVENTS, Piece, Span, Table
from lab.sources import Request
from lab.sources.synthetic import synthetic
from lab.store import TableName

DAY = timedelta(days=1)
FIRST = datetime(2024, 3, 30, tzinfo=UTC)
DAYS = Span(FIRST, FIRST + 3 * DAY)  # into April
app = typer.Typer()
app.command()(bars)


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a store that has three days of trades and quotes of BOOK-1; the verb runs in it."""
    monkeypatch.chdir(tmp_path)
    for kind in ("trades", "quotes"):
        request = Request(("BOOK-1",), EVENTS, DAYS, kind)
        store.commit(tmp_path / "data", "synthetic", list(synthetic.fetch(request, {})))
    return tmp_path / "data"


def lab_bars(*arguments: str) -> str:
    done = CliRunner().invoke(app, [*arguments], catch_exceptions=True)
    if done.exception and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done.stdout


def made(root: Path, interval: str, *, book: bool) -> pl.DataFrame:
    """The bars of all stored trades, closed in one go."""
    trades, quotes = (store.read(TableName(root, "synthetic", "BOOK-1", EVENTS, kind)) for kind in ("trades", "quotes"))
    parts = close_bars([trades], interval, until=DAYS.end)
    return pl.concat([each.frame for each in (with_book(parts, [quotes]) if book else parts)])


def stored(root: Path, interval: str) -> pl.DataFrame:
    return store.read_bars(root, "synthetic-trades", ["BOOK-1"], interval).frame


@pytest.mark.parametrize("interval", ["1m", "tick-500"])
def test_bars_with_their_book_are_stored_under_a_source_of_their_own(root: Path, interval: str) -> None:
    wanted = made(root, interval, book=True)
    said = lab_bars("BOOK-1", "--source", "synthetic", "--interval", interval, "--book", "quotes")
    count = wanted.height
    first, last = wanted["time"][0], wanted["time"][-1]
    assert said == (
        f"BOOK-1 {interval}: {count:,} bars closed, +{count:,} rows; {count:,} in all, "
        f"closed {first:%Y-%m-%d %H:%M} to {last:%Y-%m-%d %H:%M}, from synthetic-trades\n"
    )
    assert stored(root, interval).equals(wanted)
    version = store.version_of(TableName(root, "synthetic-trades", "BOOK-1", interval))
    said = lab_bars("BOOK-1", "--source", "synthetic", "--interval", interval, "--book", "quotes")
    assert f"{count:,} bars closed, +0 rows" in said
    assert store.version_of(TableName(root, "synthetic-trades", "BOOK-1", interval)) == version


def test_only_bars_that_open_between_start_and_end_are_closed(root: Path) -> None:
    span = ("--start", "2024-03-30T22:30", "--end", "2024-03-31T02:10")
    (row,) = json.loads(lab_bars("BOOK-1", "--source", "synthetic", "--interval", "1h", *span, "--json"))
    assert (row["closed"], row["rows"], row["rows_before"], row["missing"]) == (4, 4, None, 0)
    assert (row["first"], row["last"]) == ("2024-03-31T00:00:00+00:00", "2024-03-31T03:00:00+00:00")
    whole = made(root, "1h", book=False)
    assert stored(root, "1h").equals(whole[23:27])


def test_a_bar_is_kept_back_until_its_trades_are_all_there(root: Path) -> None:
    trades = TableName(root, "half", "BOOK-1", EVENTS, "trades")
    rows = store.read(TableName(root, "synthetic", "BOOK-1", EVENTS, "trades"))
    noon = FIRST + timedelta(hours=12, minutes=30)
    some = Table("trades", rows.filter(pl.col("time") < noon))
    store.commit(root, "half", [Piece("BOOK-1", "half a day", "1", some)])
    assert store.read(trades).height == 45_000
    for end in ((), ("--start", "2024-03-30", "--end", "2024-04-02")):
        lab_bars("BOOK-1", "--source", "half", "--interval", "1h", *end)
        assert store.read_bars(root, "half-trades", ["BOOK-1"], "1h").closes[1] == FIRST + timedelta(hours=12)
    store.commit(root, "half", [Piece("BOOK-1", "half a day", "2", some, span=Span(FIRST, FIRST + DAY))])
    lab_bars("BOOK-1", "--source", "half", "--interval", "1h")
    assert store.read_bars(root, "half-trades", ["BOOK-1"], "1h").closes[1] == FIRST + timedelta(hours=13)


def test_bars_of_two_cuts_are_never_mixed(root: Path) -> None:
    lab_bars("BOOK-1", "--source", "synthetic", "--interval", "tick-500")
    before = stored(root, "tick-500")
    with pytest.raises(LabError, match=r"tick-500 bars of BOOK-1 from synthetic-trades, the first at .* do not make"):
        lab_bars("BOOK-1", "--source", "synthetic", "--interval", "tick-500", "--start", "2024-03-30T12:01")
    assert stored(root, "tick-500").equals(before)


def test_what_cannot_be_closed_says_what_to_fetch(root: Path) -> None:
    with pytest.raises(NoData, match="the store has no trades of BOOK-2 from synthetic") as wrong:
        lab_bars("BOOK-2", "--source", "synthetic")
    assert wrong.value.fix == "lab fetch BOOK-2 --source synthetic --kind trades"
    with pytest.raises(NoData, match="the store has no books of BOOK-1 from synthetic"):
        lab_bars("BOOK-1", "--source", "synthetic", "--book", "books")
    with pytest.raises(NoData, match="no tick-1000000 bar of BOOK-1 has closed"):
        lab_bars("BOOK-1", "--source", "synthetic", "--interval", "tick-1000000")
    assert [held.source for held in store.tables(root)] == ["synthetic", "synthetic"]
