"""What every registered source must obey: the same bars again, every gap reported, nothing asked for twice."""

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from lab import store
from lab.nouns import Bars, Piece, Span
from lab.sources import SOURCES, Request, Source, source_named
from tests.archive import Archive, day_path, kline_lines, month_path, serving, utc, zipped

MINUTE = timedelta(minutes=1)
MARCH = utc(2026, 3, 1)
Gap = tuple[str, datetime, datetime, int]


@dataclass(frozen=True)
class Case:
    """A source ready to be asked, a request that takes several pieces, and the gaps that are really there."""

    source: Source
    request: Request
    gaps: list[Gap]


def archive_case(name: str, archive: Archive) -> Case:
    """One month by its monthly file and two days by daily ones, with holes inside and between."""
    market, quarter = {"binance": "spot", "binance-um": "futures/um"}[name], timedelta(minutes=15)
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


CASES = ("binance", "binance-um", "files", "samples", "synthetic")


@pytest.fixture
def case(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Case]:
    name = request.param
    with ExitStack() as stack:
        match name:
            case "files":
                yield files_case(tmp_path)
            case "samples":
                yield samples_case()
            case "synthetic":
                yield synthetic_case()
            case _:
                yield archive_case(name, stack.enter_context(serving(tmp_path / "archive")))


every_source = pytest.mark.parametrize("case", CASES, indirect=True)


def test_every_registered_source_is_held_to_the_laws() -> None:
    assert sorted(CASES) == sorted(SOURCES)


def told(pieces: list[Piece]) -> list[tuple[str, str, str, str]]:
    return [(p.symbol, p.origin, p.digest, p.bars.digest if p.bars else "absent") for p in pieces]


@every_source
def test_the_same_request_gives_the_same_bars(case: Case) -> None:
    first, second = (list(case.source.fetch(case.request, set())) for _ in range(2))
    assert len(first) >= 2
    assert told(first) == told(second)
    assert len({piece.origin for piece in first}) == len(first)
    assert {piece.symbol for piece in first} == set(case.request.symbols)
    for piece in first:
        if piece.bars is not None:
            assert piece.bars.symbols == [piece.symbol]
            assert piece.bars.interval == case.request.interval
            assert Bars.of(piece.bars.frame, piece.bars.interval, piece.bars.calendar).frame.equals(piece.bars.frame)


@every_source
def test_every_gap_is_reported_and_nothing_else(case: Case, tmp_path: Path) -> None:
    for piece in case.source.fetch(case.request, set()):
        store.commit(tmp_path / "data", "any", piece)
    read = store.read_bars(tmp_path / "data", "any", case.request.symbols, case.request.interval)
    assert read.gaps().rows() == case.gaps


@every_source
def test_what_is_done_is_not_fetched_again(case: Case) -> None:
    pieces = list(case.source.fetch(case.request, set()))
    done = {piece.origin for piece in pieces if piece.bars is not None}
    assert [piece for piece in case.source.fetch(case.request, done) if piece.bars is not None] == []


@every_source
def test_an_interrupted_fetch_carried_on_gives_the_same_files(case: Case, tmp_path: Path) -> None:
    def fetch(root: Path, at_most: int) -> None:
        done = {o for s in case.request.symbols for o in store.done(root, "any", s, case.request.interval)}
        for _, piece in zip(range(at_most), case.source.fetch(case.request, done), strict=False):
            store.commit(root, "any", piece)

    fetch(tmp_path / "at once", 100)
    for _ in range(6):
        fetch(tmp_path / "bit by bit", 1)
    fetch(tmp_path / "bit by bit", 100)
    at_once, bit_by_bit = (
        {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}
        for root in (tmp_path / "at once", tmp_path / "bit by bit")
    )
    assert at_once == bit_by_bit
    assert any(name.endswith(".parquet") for name in at_once)
