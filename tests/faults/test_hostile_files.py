"""A file that was made to harm is refused before it fills the memory, even where its hash is what it should be."""

import hashlib
import time
from functools import cache
from io import BytesIO
from pathlib import Path

import numpy as np
import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.parquet as pq  # type: ignore[import-untyped]
import pytest

from lab.store.manifests import Manifest, Part, publish
from tests.faults.children import Nursery
from tests.faults.conftest import Tally
from tests.faults.small_stores import MONTHS, bars_name

ADDRESS_SPACE = 2 << 30
MOST_MEMORY = 512 << 20
MOST_SECONDS = 5.0
GROUP, GROUPS = 1 << 21, 8  # rows, and how often


def _alike(rows: int, symbol: str = "A") -> pa.Table:
    """So many times the same bar."""
    time = pa.array(np.zeros(rows, dtype=np.int64)).cast(pa.timestamp("us", tz="UTC"))
    symbols = pa.DictionaryArray.from_arrays(np.zeros(rows, dtype=np.int8), [symbol])
    numbers = dict.fromkeys(("open", "high", "low", "close", "volume"), np.ones(rows))
    return pa.table({"symbol": symbols, "time": time, **numbers})


def _file(*groups: pa.Table) -> bytes:
    """Tables as one file, in pages as large as can be."""
    buffer, most = BytesIO(), {"data_page_size": 1 << 30, "write_batch_size": GROUP, "max_rows_per_page": GROUP}
    with pq.ParquetWriter(buffer, groups[0].schema, compression="zstd", **most) as writer:
        for group in groups:
            writer.write_table(group, row_group_size=GROUP)
    return buffer.getvalue()


@cache
def many_rows() -> bytes:
    """16 Mi times the same bar: 900 MB in memory, some kB in a file."""
    return _file(*[_alike(GROUP)] * GROUPS)


def a_long_name() -> bytes:
    """A bar whose symbol has 200 MB."""
    return _file(_alike(1, "0" * (200 << 20)))


def absurd_counts() -> bytes:
    """A million bars whose footer says that they are 134 million."""
    rows = 1_100_000
    return _with_counts(_file(_alike(rows)), {rows: 134_217_727})


def modest_counts() -> bytes:
    """16 Mi bars whose footer says that they are 800."""
    return _with_counts(many_rows(), {GROUP: 100, GROUPS * GROUP: 100 * GROUPS})


def _with_counts(file: bytes, counts: dict[int, int]) -> bytes:
    """The file with other counts in its footer, in as many bytes."""
    length = int.from_bytes(file[-8:-4], "little")
    body, footer = file[: -8 - length], file[-8 - length : -8]
    for old, new in counts.items():
        known = _varint(2 * old)
        assert known in footer
        footer = footer.replace(known, _varint(2 * new, len(known)))
    return body + footer + file[-8:]


def _varint(number: int, length: int = 0) -> bytes:
    groups = []
    while number or len(groups) < max(length, 1):
        groups.append(number & 0x7F)
        number >>= 7
    return bytes([*(group | 0x80 for group in groups[:-1]), groups[-1]])


@pytest.mark.tries("D8", 4, 4)
def test_a_file_that_would_fill_the_memory_is_refused(nursery: Nursery, folder: Path, tally: Tally) -> None:
    said = {
        many_rows: "claim to be",
        a_long_name: "claim to be",
        absurd_counts: "claim to be",
        modest_counts: "800 rows",
    }
    for make, expected in said.items():
        data, root = make(), folder / make.__name__
        assert len(data) < 100_000
        _put(data, root)
        begun = time.monotonic()
        with tally.trial(make.__name__):
            answer, peak = nursery.child("read_within", root, ADDRESS_SPACE).answer()
            assert expected in answer.split("; ")[0]
            assert peak < MOST_MEMORY
            assert time.monotonic() - begun < MOST_SECONDS
    tally.check()


def _put(data: bytes, root: Path) -> None:
    """A table that has the file as its only one."""
    name, sha256 = bars_name(root), hashlib.sha256(data).hexdigest()
    path = name.folder / "month=2026-03" / f"{sha256}.parquet"
    path.parent.mkdir(parents=True)
    path.write_bytes(data)
    rows = pq.read_metadata(path).num_rows
    part = Part(path.relative_to(root).as_posix(), sha256, rows, len(data), MONTHS[1], MONTHS[1])
    publish(name, 1, Manifest(parts={"2026-03": (part,)}))
