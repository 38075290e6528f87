"""GDELT's news: files in the layout of its codebook, over a real server."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from itertools import repeat
from pathlib import Path

import polars as pl
import pytest

from lab.errors import SourceError, UsageError
from lab.nouns import Piece, Span
from lab.sources import Request, Source
from lab.sources.gdelt import Gdelt
from lab.sources.web import Patience
from tests.archive import Archive, html, serving, status, utc, zipped

HASTY = Patience(tries=3, total=4.0, silence=1.0, first_wait=0.01)
QUARTER = timedelta(minutes=15)
NOON = utc(2024, 3, 1, 12)
TONE = "-1.89873417721519,2.68987341772152,4.58860759493671,7.27848101265823,22.1518987341772,0.474683544303797,580"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Archive]:
    with serving(tmp_path / "server") as served:
        yield served


def name(quarter: datetime) -> str:
    return f"{quarter:%Y%m%d%H%M%S}.gkg.csv"


def document(number: int, quarter: datetime = NOON, **cells: str) -> str:
    """A document with the 27 cells of the codebook, none of which names bitcoin unless `cells` does."""
    stamp = f"{quarter:%Y%m%d%H%M%S}"
    told = {
        "id": f"{stamp}-{number}",
        "date": stamp,
        "outlet": "example.org",
        "url": f"https://example.org/{number}",
        "themes": "ECON_STOCKMARKET;",
        "organizations": "federal reserve",
        "tone": TONE,
        "extras": "<PAGE_PRECISEPUBTIMESTAMP>20240301114500</PAGE_PRECISEPUBTIMESTAMP>",
        **cells,
    }
    columns = ["id", "date", "", "outlet", "url", "", "", "themes", "", "", "", "", "", "organizations", "", "tone"]
    return "\t".join(told.get(column, "") for column in [*columns, *[""] * 10, "extras"])


def publish(server: Archive, quarter: datetime, *documents: str | bytes) -> None:
    lines = b"".join((each if isinstance(each, bytes) else each.encode()) + b"\n" for each in documents)
    server.publish(f"{name(quarter)}.zip", zipped(name(quarter), lines))


def fetched(server: Archive, *, quarters: int = 1, match: str = "", done: dict[str, str] | None = None) -> list[Piece]:
    source = Gdelt(base_url=server.url, match=match, patience=HASTY)
    request = Request(("BITCOIN",), "events", Span(NOON, NOON + quarters * QUARTER), "news")
    return list(source.fetch(request, done or {}))


def rows(piece: Piece) -> pl.DataFrame:
    assert piece.table is not None
    return piece.table.frame


@contextmanager
def law_case(folder: Path) -> Iterator[tuple[Source, Request]]:
    """An hour of four files, of which the third does not exist and the last has nothing about the topic."""
    with serving(folder) as server:
        for quarter in (NOON, NOON + QUARTER):
            publish(server, quarter, *(document(n, quarter, url=f"https://bitcoin.example/{n}") for n in range(5)))
        publish(server, NOON + 3 * QUARTER, document(1, NOON + 3 * QUARTER))
        request = Request(("BITCOIN",), "events", Span(NOON, NOON + 4 * QUARTER), "news")
        yield Gdelt(base_url=server.url, patience=HASTY), request


def test_a_document_becomes_the_news_it_describes(server: Archive) -> None:
    title = "<PAGE_LINKS>https://x.example</PAGE_LINKS><PAGE_TITLE>Bitcoin &amp; gold: what&apos;s next?</PAGE_TITLE>"
    publish(server, NOON, document(7, extras=title), document(8))
    (piece,) = fetched(server)
    assert rows(piece).to_dicts() == [
        {
            "symbol": "BITCOIN",
            "time": NOON,
            "known_at": NOON + QUARTER,
            "uid": "20240301120000-7",
            "title": "Bitcoin & gold: what's next?",
            "url": "https://example.org/7",
            "outlet": "example.org",
            "tone": -1.89873417721519,
            "positive": 2.68987341772152,
            "negative": 4.58860759493671,
            "polarity": 7.27848101265823,
        }
    ]
    assert (piece.rejected.height, piece.reading) == (0, "documents with 'bitcoin'")
    assert server.requests == [f"{name(NOON)}.zip"]


@pytest.mark.parametrize(
    "cells",
    [
        {"url": "https://example.org/BitCoin-falls"},
        {"themes": "ECON_BITCOIN;"},
        {"organizations": "bitcoin foundation;imf"},
        {"extras": "<PAGE_TITLE>Why bitcoin</PAGE_TITLE>"},
    ],
)
def test_a_topic_is_found_in_address_title_themes_and_organizations(server: Archive, cells: dict[str, str]) -> None:
    publish(server, NOON, document(1), document(2, **cells))
    (piece,) = fetched(server)
    assert rows(piece)["uid"].to_list() == ["20240301120000-2"]


def test_match_says_what_to_look_for_and_another_match_is_another_origin(server: Archive) -> None:
    publish(server, NOON, document(1), document(2, organizations="ecb"))
    (reserve,) = fetched(server, match="Federal Reserve")
    assert rows(reserve)["uid"].to_list() == ["20240301120000-1"]
    done = {reserve.origin: reserve.digest}
    assert fetched(server, match="federal reserve", done=done) == []
    (other,) = fetched(server, match="ecb", done=done)
    assert rows(other)["uid"].to_list() == ["20240301120000-2"]


def test_each_file_is_a_piece_and_an_absent_one_is_said_to_be_absent(tmp_path: Path) -> None:
    with law_case(tmp_path) as (source, request):
        pieces = list(source.fetch(request, {}))
        assert source.count(request) == 4
        assert [piece.table and piece.table.frame.height for piece in pieces] == [5, 5, None, 0]
        assert [piece.origin[:22] for piece in pieces] == [name(NOON + n * QUARTER) for n in range(4)]
        done = {piece.origin: piece.digest for piece in pieces if piece.table}
        assert [piece.table for piece in source.fetch(request, done)] == [None]


def test_a_file_that_may_still_come_is_neither_asked_for_too_early_nor_called_absent(server: Archive) -> None:
    now = datetime.now(UTC)
    source = Gdelt(base_url=server.url, patience=HASTY)
    span = Span(now - timedelta(hours=2), now + timedelta(hours=2))
    assert list(source.fetch(Request(("BITCOIN",), "events", span, "news"), {})) == []
    asked = [datetime.strptime(path[:14], "%Y%m%d%H%M%S").replace(tzinfo=UTC) for path in server.requests]
    assert len(asked) in (7, 8)
    assert max(asked) + QUARTER <= datetime.now(UTC)


def test_lines_that_are_no_documents_are_rejected_and_bad_bytes_are_not(server: Archive) -> None:
    good = document(1, url="https://example.org/bitcoin-caf").encode()
    publish(
        server,
        NOON,
        good.replace(b"-caf", b"-caf\xe9"),
        good.replace(b"-caf", b"-caf\xe9"),
        "20240301120000-2\tbitcoin",
        document(3, url="https://bitcoin.example", date="20240301114500"),
        document(4, url="https://bitcoin.example", tone="x,1,2,3,4,5,6"),
        document(5, url="https://bitcoin.example", tone=""),
        document(6, tone="x", date=""),
        "",
    )
    (piece,) = fetched(server)
    assert rows(piece).select("uid", "url", "tone").rows() == [
        ("20240301120000-1", "https://example.org/bitcoin-caf\ufffd", pytest.approx(-1.898734)),
        ("20240301120000-5", "https://bitcoin.example", None),
    ]
    assert sorted(piece.rejected.select("uid", "fault").rows()) == [
        ("20240301120000-2", "2 columns, not 27"),
        ("20240301120000-3", "dated otherwise than its file"),
        ("20240301120000-4", "the tone is no number"),
    ]
    assert piece.repeats == 1


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (zipped(name(NOON), "", **{"../evil": "x"}), r"holds \['20240301120000.gkg.csv', '../evil'\]"),
        (zipped("other.csv", "x"), r"holds \['other.csv'\]"),
        (b"PK\x03\x04 and then nonsense", "cannot be unzipped"),
        (b"<html>", "is no zip: it begins with b'<html>'"),
        (zipped(name(NOON), b"x" * 3000), "unpacks to more than a file can hold"),
    ],
)
def test_a_file_that_is_not_what_its_name_says_is_refused(
    server: Archive, content: bytes, why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lab.sources.gdelt.UNZIPPED_AT_MOST", 2000)
    server.publish(f"{name(NOON)}.zip", content)
    with pytest.raises(SourceError, match=why):
        fetched(server)


def test_passing_troubles_are_outlasted_and_lasting_ones_named(server: Archive) -> None:
    publish(server, NOON, document(1, themes="BITCOIN"))
    server.play(f"{name(NOON)}.zip", [status(503)])
    assert rows(fetched(server)[0]).height == 1
    server.play(f"{name(NOON)}.zip", repeat(html))
    with pytest.raises(SourceError, match="is no zip"):
        fetched(server)


def test_requests_that_make_no_sense_are_refused(server: Archive) -> None:
    def ask(*symbols: str, start: datetime = NOON, match: str = "") -> None:
        request = Request(symbols, "events", Span(start, start + QUARTER), "news")
        list(Gdelt(base_url=server.url, match=match).fetch(request, {}))

    with pytest.raises(UsageError, match="one topic at a time"):
        ask("BITCOIN", "GOLD")
    with pytest.raises(UsageError, match="begins on 2015-02-18 23:00"):
        ask("BITCOIN", start=utc(2015, 2, 18))
    with pytest.raises(UsageError, match="--match is empty"):
        ask("BITCOIN", match=" ")
    with pytest.raises(UsageError, match="from when to when"):
        list(Gdelt().fetch(Request(("BITCOIN",), "events", None, "news"), {}))
    assert server.requests == []
