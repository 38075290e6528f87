"""SQL over the live rows: each kind of data is a view, and nothing can be written, read elsewhere or loaded."""

from pathlib import Path

import duckdb
import polars as pl

from lab.errors import NoData, UsageError
from lab.kinds import KINDS
from lab.store.layout import table_names
from lab.store.reading import paths


def query(root: Path, text: str) -> pl.DataFrame:
    """The answer of one SELECT over the views `bars`, `trades`, `quotes`, …, which also have source, interval, month.

    The files of every view that it names are checked first (DamagedData). Anything but one SELECT, and whatever DuckDB
    cannot make sense of, is a UsageError.
    """
    stored = {name.kind for name in table_names(root)}
    if not stored:
        raise NoData("the store is empty, so there is nothing to ask", fix="lab fetch")
    with duckdb.connect() as engine:
        try:
            statements = engine.extract_statements(text)
            if [each.type for each in statements] != [duckdb.StatementType.SELECT]:
                raise UsageError("only one SELECT can be asked; data is never changed by SQL", fix="write SELECT …")
            named = {each.split(".")[-1].strip('"') for each in engine.get_table_names(text)}
            for kind in sorted(stored & named):
                _add_view(engine, kind, paths(root, kind))
            engine.execute("SET enable_external_access = false")
            engine.execute("SET lock_configuration = true")
            answer: pl.DataFrame = engine.sql(text).pl()
            return answer
        except duckdb.Error as refused:
            views = ", ".join(sorted(stored))
            raise UsageError(f"DuckDB refuses it: {_first_lines(refused)}", fix=f"the tables are {views}") from None


def _add_view(engine: duckdb.DuckDBPyConnection, kind: str, files: list[Path]) -> None:
    assert kind in KINDS
    known = ", ".join("'" + str(path.resolve()).replace("'", "''") + "'" for path in files)
    # With the file's own `symbol`; the folder's may be escaped. Its hive key would hide the column.
    engine.execute(
        f"CREATE VIEW {kind} AS SELECT * FROM read_parquet([{known}], union_by_name = true, hive_partitioning = true, "
        "hive_types = {'source': VARCHAR, 'symbol': VARCHAR, 'interval': VARCHAR, 'month': VARCHAR, 'kind': VARCHAR})"
    )
    allowed = ", ".join("'" + str(path.resolve()).replace("'", "''") + "'" for path in files)
    engine.execute(f"SET allowed_paths = list_concat(current_setting('allowed_paths'), [{allowed}])")


def _first_lines(refused: duckdb.Error) -> str:
    return " ".join(str(refused).split("\n\n")[0].split())
