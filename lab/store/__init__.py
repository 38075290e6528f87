"""Tables ⇄ partitioned Parquet: immutable files named by their SHA-256, and numbered manifests that say which count.

    kind=bars/source=binance/symbol=BTCUSDT/interval=1m/month=2026-03/<sha256>.parquet
    kind=bars/source=binance/symbol=BTCUSDT/interval=1m/_log/000007.json      a version: which of them are live
    history/kind=bars/…/<sha256>.parquet                                      rows of older versions, until swept
    quarantine/kind=bars/…/<sha256>.parquet                                   rows that could not be used

Writers of a table take turns; readers take no lock and see one whole version. A month holds the bars that opened in
it, so that a month of an exchange's archive is one file, and the events that happened in it. `symbol` is also a
column of each file: a glob reader would otherwise guess its type from the folder name.
"""

from lab.store.layout import TableName
from lab.store.manifests import Change, Origin
from lab.store.mending import KEPT_FOR, Mended, repair, sweep, verify
from lab.store.reading import (
    Holding,
    Version,
    batches,
    done,
    history,
    holding,
    origins,
    paths,
    read,
    read_bars,
    rejected,
    tables,
    version_of,
)
from lab.store.writing import commit, commit_as_they_come, note_absent

__all__ = [
    "KEPT_FOR",
    "Change",
    "Holding",
    "Mended",
    "Origin",
    "TableName",
    "Version",
    "batches",
    "commit",
    "commit_as_they_come",
    "done",
    "history",
    "holding",
    "note_absent",
    "origins",
    "paths",
    "read",
    "read_bars",
    "rejected",
    "repair",
    "sweep",
    "tables",
    "verify",
    "version_of",
]
