"""The symbols that Binance's archive has, from listings as S3 gives them and as other servers do."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from lab.errors import SourceError, UsageError
from lab.nouns import EVENTS
from lab.sources.binance import BinanceArchives, spot, usd_margined
from lab.sources.web import Patience
from tests.archive import Archive, html, serving

HASTY = Patience(tries=2, total=4.0, silence=1.0, first_wait=0.01)
MONTHLY = "data/futures/um/monthly/aggTrades/"
DAILY = "data/futures/um/daily/aggTrades/"


@pytest.fixture
def archive(tmp_path: Path) -> Iterator[Archive]:
    with serving(tmp_path / "archive") as served:
        yield served


def at(archive: Archive, source: BinanceArchives = usd_margined) -> BinanceArchives:
    return replace(source, listing_url=f"{archive.url}/bucket", patience=HASTY)


def page(keys: list[str] = (), folders: list[str] = (), **more: str) -> bytes:  # type: ignore[assignment]
    inside = [f"<Contents><Key>{key}</Key><Size>1</Size></Contents>" for key in keys]
    inside += [f"<CommonPrefixes><Prefix>{name}</Prefix></CommonPrefixes>" for name in folders]
    inside += [f"<{name}>{value}</{name}>" for name, value in more.items()]
    space = "http://s3.amazonaws.com/doc/2006-03-01/"
    listing = f'<ListBucketResult xmlns="{space}">{"".join(inside)}</ListBucketResult>'
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{listing}'.encode()


def names(prefix: str, *symbols: str) -> list[str]:
    return [f"{prefix}{symbol}/" for symbol in symbols]


EMPTY = page(IsTruncated="false")


def test_symbols_of_all_pages_and_of_both_cadences_are_listed_once(archive: Archive) -> None:
    asked = []

    def answer(query: dict[str, str]) -> bytes:
        asked.append(query)
        if query["prefix"] == DAILY:
            return page(folders=names(DAILY, "ETHUSDT", "NEWUSDT"), IsTruncated="false")
        if query.get("continuation-token") == "1/+x==":
            return page(folders=names(MONTHLY, "SRMUSDT"), IsTruncated="false")
        return page(folders=names(MONTHLY, "BTCUSDT", "ETHUSDT"), IsTruncated="true", NextContinuationToken="1/+x==")

    archive.route("bucket", answer)
    assert at(archive).symbols("trades", EVENTS) == ["BTCUSDT", "ETHUSDT", "NEWUSDT", "SRMUSDT"]
    common = {"list-type": "2", "delimiter": "/", "max-keys": "1000"}
    assert asked == [
        {**common, "prefix": DAILY},
        {**common, "prefix": MONTHLY},
        {**common, "prefix": MONTHLY, "continuation-token": "1/+x=="},
    ]


@pytest.mark.parametrize("next_marker", [{"NextMarker": f"{MONTHLY}ETHUSDT/"}, {}])
def test_a_server_without_continuation_tokens_is_paged_by_the_last_name(
    archive: Archive, next_marker: dict[str, str]
) -> None:
    def answer(query: dict[str, str]) -> bytes:
        if query["prefix"] == DAILY:
            return EMPTY
        if "marker" not in query:
            return page(folders=names(MONTHLY, "BTCUSDT", "ETHUSDT"), IsTruncated="true", **next_marker)
        assert (query["marker"], "list-type" in query) == (f"{MONTHLY}ETHUSDT/", False)
        return page(folders=names(MONTHLY, "SRMUSDT"), IsTruncated="false")

    archive.route("bucket", answer)
    assert at(archive).symbols("trades", EVENTS) == ["BTCUSDT", "ETHUSDT", "SRMUSDT"]


def test_strays_are_no_symbols(archive: Archive) -> None:
    keys = [
        f"{MONTHLY}BTCUSDT/BTCUSDT-aggTrades-2024-01.zip",
        f"{MONTHLY}BTCUSDT/BTCUSDT-aggTrades-2024-01.zip.CHECKSUM",
        f"{MONTHLY}WRONG1/part-00000-6d1c3d4e.zip",
        f"{MONTHLY}WRONG2/WRONG1-aggTrades-2024-01.zip",
        f"{MONTHLY}WRONG3/WRONG3-trades-2024-01.zip",
        f"{MONTHLY}WRONG4/WRONG4-aggTrades-2024-01-01.zip",
        f"{MONTHLY}README.txt",
        "data/spot/monthly/aggTrades/WRONG5/WRONG5-aggTrades-2024-01.zip",
    ]
    folders = [*names(MONTHLY, "ETHUSDT_240927", "../evil", "lower", "Ünicode"), "data/spot/monthly/aggTrades/WRONG6/"]
    archive.route(
        "bucket", lambda query: page(keys, folders, IsTruncated="false") if query["prefix"] == MONTHLY else EMPTY
    )
    assert at(archive).symbols("trades", EVENTS) == ["BTCUSDT", "ETHUSDT_240927"]


def test_klines_are_listed_by_their_files_too(archive: Archive) -> None:
    place = "data/spot/daily/klines/"
    keys = [f"{place}DOGEUSDT/1s/DOGEUSDT-1s-2025-01-01.zip", f"{place}WRONG/1s/WRONG-1s-2025-01.zip"]
    archive.route("bucket", lambda query: page(keys, IsTruncated="false") if query["prefix"] == place else EMPTY)
    assert at(archive, spot).symbols("bars", "1m") == ["DOGEUSDT"]
    with pytest.raises(UsageError, match="this source has no metrics"):
        at(archive, spot).symbols("metrics", EVENTS)


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"<!DOCTYPE html><title>a page</title>",
        b"<ListBucketResult><IsTruncated>",
        b"<Error><Code>InvalidArgument</Code></Error>",
        b'<!DOCTYPE x [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;">]><ListBucketResult>&b;</ListBucketResult>',
        b'<?xml version="1.0"?><ListBucketResult><!DOCTYPE x></ListBucketResult>',
    ],
)
def test_what_is_no_listing_is_refused(archive: Archive, text: bytes) -> None:
    archive.route("bucket", lambda _: text)
    with pytest.raises(SourceError, match="is no listing: it begins with"):
        at(archive).symbols("trades", EVENTS)


def test_a_listing_that_leads_nowhere_is_left(archive: Archive) -> None:
    archive.route("bucket", lambda _: page(folders=names(MONTHLY, "BTCUSDT"), IsTruncated="true"))
    with pytest.raises(SourceError, match="goes round in circles"):
        at(archive).symbols("trades", EVENTS)
    archive.route("bucket", lambda _: page(IsTruncated="true", NextContinuationToken="again"))
    with pytest.raises(SourceError, match="goes round in circles"):
        at(archive).symbols("trades", EVENTS)


def test_a_missing_listing_and_a_login_page_are_told_apart(archive: Archive) -> None:
    with pytest.raises(SourceError, match="there is no listing at"):
        at(archive).symbols("trades", EVENTS)
    archive.play("bucket", [html])
    with pytest.raises(SourceError, match="is no listing"):
        at(archive).symbols("trades", EVENTS)
