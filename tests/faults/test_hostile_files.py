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

from lab import store
from lab.store.manifests import Manifest, Part, publish
from tests.faults.children import Nursery
from tests.faults.conftest import Tally
from tests.faults.small_stores import MONTHS, bars_name

ADDRESS_SPACE = 2 << 30
MOST_MEMORY = 512 << 20
MOST_SECONDS = 5.0
GROUP = 1 << 22  # rows


GROUPS = 16


@cache
def many_rows() -> bytes:
    """64 Mi rows that are all the same: 1 GB in memory, some kB in a file."""
    group = pa.table({"time": np.zeros(GROUP, dtype=np.int64), "close": np.ones(GROUP)})
    buffer = BytesIO()
    large = {"data_page_size": 1 << 30, "write_batch_size": GROUP, "max_rows_per_page": GROUP}
    with pq.ParquetWriter(buffer, group.schema, compression="zstd", **large) as writer:
        for _ in range(GROUPS):
            writer.write_table(group, row_group_size=GROUP)
    return buffer.getvalue()


def a_long_text() -> bytes:
    """One row with a text of 200 MB."""
    buffer = BytesIO()
    pq.write_table(pa.table({"time": [0], "symbol": ["0" * (200 << 20)]}), buffer, compression="zstd")
    return buffer.getvalue()


def absurd_counts() -> bytes:
    """A million rows whose footer says that they are 134 million."""
    rows = 1_100_000
    buffer = BytesIO()
    table = pa.table({"time": np.zeros(rows, dtype=np.int64), "close": np.ones(rows)})
    pq.write_table(table, buffer, compression="zstd", row_group_size=2 * rows, data_page_size=1 << 30)
    return _with_counts(buffer.getvalue(), {rows: 134_217_727})


def modest_counts() -> bytes:
    """64 Mi rows whose footer says that they are 1,600."""
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
    for make in (many_rows, a_long_text, absurd_counts, modest_counts):
        data, root = make(), folder / make.__name__
        assert len(data) < 100_000
        _put(data, root)
        begun = time.monotonic()
        with tally.trial(make.__name__):
            said, peak = nursery.child("read_within", root, ADDRESS_SPACE).answer()
            assert "is damaged" in said and " rows;" not in said.split("; ")[0]
            assert peak < MOST_MEMORY
            assert time.monotonic() - begun < MOST_SECONDS
            assert len(list(root.glob("quarantine/**/*.parquet.damaged"))) == 1
            assert store.tables(root) == []
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
