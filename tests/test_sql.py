"""SQL over the store: every live row, nothing else, and no way to change or leave it."""

from pathlib import Path

import polars as pl
import pytest

from lab import store
from lab.errors import DamagedData, NoData, UsageError
from lab.nouns import Piece
from lab.store.sql import query
from tests.test_store import MARCH, bars_of, parts_of, piece_of, trades_of


@pytest.fixture
def root(tmp_path: Path) -> Path:
    store.commit(
        tmp_path, "here", [piece_of(bars_of("1INCH", MARCH, 10)), piece_of(bars_of("A", MARCH, 5, trades=3.0))]
    )
    store.commit(tmp_path, "here", [Piece("A", "trades", "d", trades_of(MARCH, 10))])
    return tmp_path


def test_every_live_row_answers_and_no_superseded_one(root: Path) -> None:
    store.commit(root, "here", [piece_of(bars_of("A", MARCH, 8, price=200), "newer")])
    counted = query(root, "select symbol, source, count(*) n, max(close) c from bars group by all order by symbol")
    assert counted.rows() == [("1INCH", "here", 10, 106.0), ("A", "here", 8, 206.0)]
    joined = "select count(*) n from trades t join bars b on t.symbol = b.symbol and t.time < b.time"
    assert query(root, joined).item() == 7 * 10
    assert query(root, "with x as (select interval, month from bars) select distinct * from x").rows() == [
        ("1m", "2026-03")
    ]


def test_columns_that_only_some_files_have_are_null_elsewhere(root: Path) -> None:
    trades = query(root, "select symbol, count(trades) n from bars group by all order by all")
    assert trades.rows() == [("1INCH", 0), ("A", 5)]


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("drop table bars", "only one SELECT"),
        ("select 1; select 2", "only one SELECT"),
        ("copy bars to 'stolen.parquet'", "only one SELECT"),
        ("attach 'other.db'", "only one SELECT"),
        ("install httpfs", "only one SELECT"),
        ("set enable_external_access = true", "only one SELECT"),
        ("selec 1", "syntax error"),
        ("select * from nothing", "nothing does not exist"),
        ("select nothing from bars", "nothing"),
        ("select * from read_csv('/etc/passwd')", "disabled by configuration"),
        ("select * from '/etc/passwd'", "does not exist"),
        ("select * from glob('/*')", "disabled by configuration"),
    ],
)
def test_what_is_no_question_is_refused(root: Path, text: str, why: str) -> None:
    before = sorted(root.rglob("*"))
    with pytest.raises(UsageError, match=why) as refused:
        query(root, text)
    assert "\n" not in refused.value.problem
    assert refused.value.fix
    assert sorted(root.rglob("*")) == before


def test_a_damaged_file_is_not_asked(root: Path) -> None:
    part = parts_of(root)[0]
    data = bytearray(part.read_bytes())
    data[len(data) // 2] ^= 1
    part.write_bytes(data)
    with pytest.raises(DamagedData, match=part.name):
        query(root, "select count(*) from bars")
    assert query(root, "select count(*) from trades").item() == 10  # which are whole


def test_an_empty_store_says_so(tmp_path: Path) -> None:
    with pytest.raises(NoData, match="the store is empty"):
        query(tmp_path, "select 1")


def test_the_answer_is_what_polars_reads(root: Path) -> None:
    answer = query(root, "select symbol, time, close from bars where symbol = 'A' order by time")
    read = store.read_bars(root, "here", ["A"], "1m").frame.select("symbol", "time", "close")
    assert answer.with_columns(pl.col("time").cast(pl.Datetime("us", "UTC"))).equals(read)
