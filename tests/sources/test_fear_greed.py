"""The Fear & Greed index: answers in the documented form, over a real server and from a saved file."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import repeat
from pathlib import Path
from typing import Any

import pytest

from lab.errors import SourceError, UsageError
from lab.nouns import Piece
from lab.sources import Request, Source
from lab.sources.fear_greed import FearGreed
from lab.sources.web import Patience
from tests.archive import Archive, html, serving, status, utc

HASTY = Patience(tries=3, total=4.0, silence=1.0, first_wait=0.01)
ASKED = "fng/?limit=0&format=json"
HOUR = timedelta(hours=1)
# As the vendor's documentation shows one: 2025-09-08, while that day ran.
DOCUMENTED = {
    "value": "70",
    "value_classification": "Greed",
    "timestamp": "1757289600",
    "time_until_update": "68499",
}
Value = dict[str, Any]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Archive]:
    with serving(tmp_path / "server") as served:
        yield served


def settled(day: datetime, value: object, label: str = "Fear") -> Value:
    return {"value": value, "value_classification": label, "timestamp": f"{day.timestamp():.0f}"}


def answer(*values: Value, error: str | None = None) -> bytes:
    return json.dumps({"name": "Fear and Greed Index", "data": values, "metadata": {"error": error}}).encode()


def saved(folder: Path, *values: Value) -> FearGreed:
    (folder / "fng.json").write_bytes(answer(*values))
    return FearGreed(path=folder / "fng.json")


def fetched(source: FearGreed, *symbols: str, done: dict[str, str] | None = None) -> list[Piece]:
    return list(source.fetch(Request(symbols or ("CRYPTO",), "events", None, "mood"), done or {}))


def rows(piece: Piece) -> list[tuple[Any, ...]]:
    assert piece.table is not None
    return piece.table.frame.rows()


def law_case(folder: Path) -> tuple[Source, Request]:
    values = [settled(utc(2024, 1, 1) + n * timedelta(days=1), str(n % 100)) for n in range(70) if n not in (40, 41)]
    return saved(folder, *reversed(values)), Request(("CRYPTO", "MOOD"), "events", None, "mood")


def test_a_settled_day_is_known_an_hour_after_its_midnight_and_missing_days_stay_missing(tmp_path: Path) -> None:
    (piece,) = fetched(saved(tmp_path, settled(utc(2018, 2, 4), "24", "Extreme Fear"), settled(utc(2018, 2, 1), "30")))
    assert rows(piece) == [
        ("CRYPTO", utc(2018, 2, 1), utc(2018, 2, 1, 1), 30.0, "Fear"),
        ("CRYPTO", utc(2018, 2, 4), utc(2018, 2, 4, 1), 24.0, "Extreme Fear"),
    ]
    assert (piece.rejected.height, piece.repeats) == (0, 0)


def test_the_running_day_is_known_from_the_moment_of_fetching_on(server: Archive) -> None:
    server.route("fng/", lambda _: answer(DOCUMENTED, settled(utc(2025, 9, 7), "48")))
    before = datetime.now(UTC)
    (piece,) = fetched(FearGreed(base_url=f"{server.url}/", patience=HASTY))
    first, running = rows(piece)
    assert server.requests == [ASKED]
    assert first == ("CRYPTO", utc(2025, 9, 7), utc(2025, 9, 7, 1), 48.0, "Fear")
    assert (running[1], running[3], running[4]) == (utc(2025, 9, 8), 70.0, "Greed")
    assert before <= running[2] <= datetime.now(UTC)


def test_a_new_day_is_news_and_a_countdown_is_not(tmp_path: Path) -> None:
    yesterday, today = settled(utc(2025, 9, 7), "48"), dict(DOCUMENTED)
    (first,) = fetched(saved(tmp_path, today, yesterday))
    done = {first.origin: first.digest}
    assert fetched(saved(tmp_path, {**today, "time_until_update": "5"}, yesterday), done=done) == []
    tomorrow = {**DOCUMENTED, "timestamp": "1757376000", "value": "71"}
    (second,) = fetched(saved(tmp_path, tomorrow, settled(utc(2025, 9, 8), "70", "Greed"), yesterday), done=done)
    assert [row[1:4] for row in rows(second)[:2]] == [
        (utc(2025, 9, 7), utc(2025, 9, 7, 1), 48.0),
        (utc(2025, 9, 8), utc(2025, 9, 8, 1), 70.0),
    ]


def test_one_index_is_the_mood_of_every_symbol_asked_for(tmp_path: Path) -> None:
    pieces = fetched(saved(tmp_path, settled(utc(2018, 2, 1), "30")), "CRYPTO", "BTC")
    assert [(piece.symbol, rows(piece)[0][3]) for piece in pieces] == [("CRYPTO", 30.0), ("BTC", 30.0)]
    assert len({piece.origin for piece in pieces}) == 2


def test_values_that_cannot_be_are_rejected_with_their_reason(tmp_path: Path) -> None:
    good = settled(utc(2024, 1, 1), 50)
    wrong = [
        settled(utc(2024, 1, 2), "high"),
        settled(utc(2024, 1, 3), "101"),
        {"value": "5", "timestamp": "soon"},
        settled(utc(2024, 1, 1), 51),
    ]
    (piece,) = fetched(saved(tmp_path, good, dict(good), *wrong))
    assert rows(piece) == [("CRYPTO", utc(2024, 1, 1), utc(2024, 1, 1, 1), 50.0, "Fear")]
    assert sorted(piece.rejected["fault"]) == [
        "a second row for the same symbol and time",
        "no symbol or no time",
        "the value is not from 0 to 100",
        "value is missing or cannot be read",
    ]
    assert piece.repeats == 1


@pytest.mark.parametrize(
    ("told", "why"),
    [
        (b"<html>", "is no index: it begins with b'<html>'"),
        (b"[1]", "is no index"),
        (answer(error="busy"), "alternative.me says: busy"),
        (answer(), "holds no list of values"),
        (answer({"value": "5", "timestamp": "09-08-2025"}), "days are written as '09-08-2025'"),
    ],
)
def test_an_answer_that_is_no_index_is_refused(tmp_path: Path, told: bytes, why: str) -> None:
    (tmp_path / "fng.json").write_bytes(told)
    with pytest.raises(SourceError, match=why):
        fetched(FearGreed(path=tmp_path / "fng.json"))


def test_a_server_that_has_none_is_told_apart_from_one_in_trouble(server: Archive, tmp_path: Path) -> None:
    source = FearGreed(base_url=server.url, patience=HASTY)
    with pytest.raises(SourceError, match="does not exist"):
        fetched(source)
    server.play("fng/", [status(503)])
    server.route("fng/", lambda _: answer(settled(utc(2018, 2, 1), "30")))
    assert len(rows(fetched(source)[0])) == 1
    server.play("fng/", repeat(html))
    with pytest.raises(SourceError, match="is no index: it begins with b'<!DOCTYPE"):
        fetched(source)
    with pytest.raises(UsageError, match=r"none\.json cannot be read: No such file"):
        fetched(FearGreed(path=tmp_path / "none.json"))
    with pytest.raises(UsageError, match="no news"):
        list(source.fetch(Request(("CRYPTO",), "events", None, "news"), {}))
