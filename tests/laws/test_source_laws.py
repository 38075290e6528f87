"""What every registered source must obey: the same rows again, every gap reported, nothing asked for twice."""

import importlib
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from lab import store
from lab.kinds import KINDS
from lab.nouns import EVENTS, Bars, Piece, Span, Table
from lab.sources import SOURCES, Request, Source, source_named
from tests.archive import Archive, day_path, kline_lines, month_path, serving, utc, zipped

MINUTE = timedelta(minutes=1)
MARCH = utc(2026, 3, 1)
Gap = tuple[str, datetime, datetime, int]
MARKETS = {"binance": "spot", "binance-um": "futures/um", "binance-cm": "futures/cm"}
# Files of tests that build an honest case of a source: `law_case(folder)`.
TOLD_ELSEWHERE = {
    "bybit": "test_bybit",
    "ccxt-coinbaseexchange": "test_ccxt",
    "databento": "test_databento",
    "fear-greed": "test_fear_greed",
    "gdelt": "test_gdelt",
    "kraken": "test_kraken",
    "lobster": "test_lobster",
    "tardis": "test_tardis",
    "yahoo": "test_yahoo",
}


@dataclass(frozen=True)
class Case:
    """A source ready to be asked, a request that takes several pieces, and the gaps that are really in its bars."""

    source: Source
    request: Request
    gaps: list[Gap]


def archive_case(name: str, archive: Archive) -> Case:
    """One month by its monthly file and two days by daily ones, with holes inside and between."""
    market, quarter = MARKETS[name], timedelta(minutes=15)
    lines = kline_lines(MARCH, 31 * 96, quarter)
    first, third = (day_path("AAA", utc(2026, 4, day), market, "15m") for day in (1, 3))
    contents = {
        month_path("AAA", "2026-03", market, "15m"): [*lines[:100], *lines[107:]],
        first: kline_lines(utc(2026, 4, 1), 96, quarter),
        third: kline_lines(utc(2026, 4, 3), 95, quarter),
    }
    for path, rows in contents.items():
        archive.publish(path, zipped(f"{Path(path).stem}.csv", "".join(rows)))
    gaps = [
        ("AAA", MARCH + 100 * quarter, MARCH + 108 * quarter, 7),
        ("AAA", utc(2026, 4, 2), utc(2026, 4, 3, 0, 15), 96),
    ]
    span = Span(MARCH, utc(2026, 4, 4))
    return Case(source_named(name, base_url=archive.url), Request(("AAA",), "15m", span), gaps)


def raw_case(name: str, archive: Archive) -> Case:
    """Three days of single trades, of which the second was never published."""
    market = MARKETS[name.removesuffix("-raw")]
    for day in (utc(2024, 1, 1), utc(2024, 1, 3)):
        ends = ",True" if market == "spot" else ""
        stamps = [int((day + n * MINUTE).timestamp() * 1000) for n in range(500)]
        lines = [f"{stamp // 1000},{100 + stamp % 7},2,200,{stamp},{stamp % 9 > 4}{ends}\n" for stamp in stamps]
        stem = f"AAA-trades-{day:%Y-%m-%d}"
        archive.publish(f"data/{market}/daily/trades/AAA/{stem}.zip", zipped(f"{stem}.csv", "".join(lines)))
    span = Span(utc(2024, 1, 1), utc(2024, 1, 4))
    return Case(source_named(name, base_url=archive.url), Request(("AAA",), EVENTS, span, "trades"), [])


def files_case(folder: Path) -> Case:
    rows = [
        f"{symbol},{MARCH + n * MINUTE:%Y-%m-%d %H:%M},2,3,1,2,5"
        for symbol in ("AAA", "BBB")
        for n in range(100)
        if not (symbol == "BBB" and 40 <= n < 43)
    ]
    path = folder / "bars.csv"
    path.write_text("\n".join(["symbol,time,open,high,low,close,volume", *rows]))
    gaps = [("BBB", MARCH + 40 * MINUTE, MARCH + 44 * MINUTE, 3)]
    return Case(source_named("files", path=path), Request(("AAA", "BBB"), "1m"), gaps)


def samples_case() -> Case:
    # That the exchange closed for days in September 2001, and for two mournings and a storm, left no bars out.
    return Case(source_named("samples"), Request(("NASDAQ", "SP500"), "1d"), [])


def synthetic_case() -> Case:
    span = Span(utc(2024, 1, 15), utc(2024, 2, 20, 7, 30))
    return Case(source_named("synthetic"), Request(("FLOW-1", "NOISE-1"), "1m", span), [])


def synthetic_trades_case() -> Case:
    span = Span(utc(2024, 2, 28), utc(2024, 3, 1, 2))
    return Case(source_named("synthetic"), Request(("FLOW-1", "BOOK-2"), EVENTS, span, "trades"), [])


HERE = (*MARKETS, *(f"{name}-raw" for name in MARKETS), "files", "samples", "synthetic", "synthetic trades")
CASES = (*HERE, *TOLD_ELSEWHERE)


@pytest.fixture
def case(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Case]:
    name, folder = request.param, tmp_path / "source"
    folder.mkdir()
    with ExitStack() as stack:
        match name:
            case "files":
                yield files_case(folder)
            case "samples":
                yield samples_case()
            case "synthetic":
                yield synthetic_case()
            case "synthetic trades":
                yield synthetic_trades_case()
            case _ if name in TOLD_ELSEWHERE:
                told = importlib.import_module(f"tests.sources.{TOLD_ELSEWHERE[name]}").law_case(folder)
                source, asked = stack.enter_context(told) if hasattr(told, "__enter__") else told
                yield Case(source, asked, [])
            case _:
                archive = stack.enter_context(serving(folder))
                yield raw_case(name, archive) if name.endswith("-raw") else archive_case(name, archive)


every_source = pytest.mark.parametrize("case", CASES, indirect=True)
sources_of_bars = pytest.mark.parametrize("case", (*MARKETS, "files", "samples", "synthetic"), indirect=True)


def test_every_registered_source_is_held_to_the_laws() -> None:
    assert {name.split()[0] for name in CASES} == {*SOURCES, "ccxt-coinbaseexchange"}


def fetched(case: Case, done: Mapping[str, str] | None = None) -> list[Piece]:
    return list(case.source.fetch(case.request, done or {}))


def told(pieces: list[Piece]) -> list[tuple[str, str, str, str]]:
    return [(p.symbol, p.origin, p.digest, p.table.digest if p.table else "absent") for p in pieces]


def as_it_should_be(table: Bars | Table) -> bool:
    """Whether the rows are typed, sorted and free of faults."""
    kind, frame = KINDS[table.kind], table.frame
    if isinstance(table, Bars):
        return bool(Bars.of(frame, table.interval, table.calendar).frame.equals(frame))
    faults = frame.select(fault=kind.fault(frame.columns))["fault"]
    return (
        frame.schema == kind.schema(frame.columns) and frame["time"].is_sorted() and faults.null_count() == len(faults)
    )


@every_source
def test_the_same_request_gives_the_same_rows(case: Case) -> None:
    first, second = fetched(case), fetched(case)
    assert any(piece.table for piece in first)
    assert told(first) == told(second)
    assert len({piece.origin for piece in first}) == len(first)
    assert {piece.symbol for piece in first} == set(case.request.symbols)
    for piece in first:
        if piece.table is not None:
            assert piece.table.frame["symbol"].unique().to_list() in ([], [piece.symbol])
            assert (piece.table.kind, piece.table.interval) == (case.request.kind, case.request.interval)
            assert as_it_should_be(piece.table)


@sources_of_bars
def test_every_gap_is_reported_and_nothing_else(case: Case, tmp_path: Path) -> None:
    store.commit(tmp_path / "data", "any", fetched(case))
    read = store.read_bars(tmp_path / "data", "any", case.request.symbols, case.request.interval)
    assert read.gaps().rows() == case.gaps


@every_source
def test_what_is_done_is_not_fetched_again(case: Case) -> None:
    done = {piece.origin: piece.digest for piece in fetched(case) if piece.table is not None}
    assert done
    assert [piece for piece in fetched(case, done) if piece.table is not None] == []


@every_source
def test_an_interrupted_fetch_carried_on_gives_the_same_files(case: Case, tmp_path: Path) -> None:
    def fetch(root: Path, at_most: int) -> None:
        done: dict[str, str] = {}
        for symbol in case.request.symbols:
            done |= store.done(store.TableName(root, "any", symbol, case.request.interval, case.request.kind))
        pieces: Any = case.source.fetch(case.request, done)
        for _, piece in zip(range(at_most), pieces, strict=False):
            store.commit(root, "any", [piece])
        pieces.close()

    def rows(root: Path) -> dict[str, bytes]:
        return {str(path.relative_to(root)): path.read_bytes() for path in root.glob("kind=*/**/*.parquet")}

    fetch(tmp_path / "at once", 100)
    for _ in range(6):
        fetch(tmp_path / "bit by bit", 1)
    fetch(tmp_path / "bit by bit", 100)
    assert rows(tmp_path / "at once") == rows(tmp_path / "bit by bit") != {}
