"""A table as a file has it → rows of one kind, typed; with each value that could not be read, why."""

from dataclasses import dataclass
from datetime import datetime, timedelta

import polars as pl

from lab.errors import UsageError
from lab.kinds import KINDS
from lab.nouns import TIME
from lab.sources.files.mapping import ABSENT, SIDES, Reading
from lab.sources.files.times import Clock
from lab.sources.vendor import divided

# Text that stands for no number, in any case.
NO_NUMBER = ("", "-", "na", "n/a", "nan", "none", "null")


@dataclass(frozen=True)
class MappedRows:
    """Rows of `reading.kind` from the file called `where`, read at `now`; bars last `length`, other kinds None."""

    reading: Reading
    where: str
    now: datetime
    length: timedelta | None

    def of(self, table: pl.DataFrame) -> pl.DataFrame:
        """Every row of the table but its symbol; null where a value cannot be read, with the reason in `wrong`."""
        columns, reasons = {}, []
        for ours in self.reading.columns:
            if ours != "symbol":
                columns[ours], reason = self._read(ours, table)
                reasons.append(reason)
        rows = pl.DataFrame({**columns, "wrong": pl.select(pl.coalesce(map(pl.lit, reasons))).to_series()})
        rows = self._filled(rows)
        if "known_at" in KINDS[self.reading.kind].columns or self.reading.delay:
            rows = rows.with_columns(known_at=self._known_at(rows.columns))
        if self.length and self.reading.time_is == "open":
            rows = rows.with_columns(self._clock.closes(rows["time"], self.length).alias("time"))
        return rows

    @property
    def _clock(self) -> Clock:
        return Clock(self.reading.timezone, self.reading.time_format)

    def _read(self, ours: str, table: pl.DataFrame) -> tuple[pl.Series, pl.Series]:
        """The values of one of our columns, and for those that could not be read the reason."""
        theirs = self.reading.columns[ours]
        if ours in ("time", "known_at"):
            if len(theirs) == 1:
                return self._clock.read(table[theirs[0]], self.where)
            joined = table.select(pl.concat_str(pl.col(theirs).cast(pl.String), separator=" ").alias(" ".join(theirs)))
            return self._clock.read(joined.to_series(), self.where)
        column = table[theirs[0]]
        dtype = KINDS[self.reading.kind].schema([ours])[ours]
        if ours == "side":
            return self._sides(column)
        if dtype == pl.String():
            return column.cast(pl.String), _reason(column, pl.Series([False]).new_from_index(0, column.len()), "")
        values, unread = _numbers(column, dtype)
        self._check(ours, column, values, unread, "which is no number")
        numerator, denominator = self.reading.units.get(ours, (1, 1))
        if numerator != denominator:
            values = pl.select(divided(pl.lit(values) * float(numerator), denominator)).to_series()
        return values, _reason(column, unread, f"{ours} is {{}}, which is no number")

    def _sides(self, column: pl.Series) -> tuple[pl.Series, pl.Series]:
        spelled = (column.cast(pl.Int64) if column.dtype.is_float() else column).cast(pl.String).str.strip_chars()
        spelled = spelled.set(spelled == "", None) if "" not in self.reading.sides else spelled.fill_null("")
        values = spelled.replace_strict(self.reading.sides, default=None, return_dtype=pl.Int8)
        unread = spelled.is_not_null() & values.is_null()
        if self.reading.sides == SIDES:
            self._check("side", spelled, values, unread, "and lab does not know whether that bought or sold")
        return values, _reason(spelled, unread, "side is {}, which the mapping does not name")

    def _check(self, ours: str, column: pl.Series, values: pl.Series, unread: pl.Series, problem: str) -> None:
        """A column of which not one value can be read is the wrong one, or is read wrongly."""
        if unread.any() and values.is_null().all():
            raise UsageError(
                f"{self.reading.columns[ours][0]!r} of {self.where} holds {column.filter(unread)[0]!r}, {problem}",
                fix=f"choose another column: --map {ours}=COLUMN"
                + ("; or say in a --mapping: [values.side], then BUY = 1 and SELL = -1" if ours == "side" else ""),
            )

    def _filled(self, rows: pl.DataFrame) -> pl.DataFrame:
        """What it says that a column, or a cell of it, is absent."""
        kind = KINDS[self.reading.kind]
        absent = {name: pl.lit(value, kind.columns[name]) for name, value in ABSENT.get(kind.name, {}).items()}
        return rows.with_columns(
            (pl.col(name).fill_null(value) if name in rows.columns else value).alias(name)
            for name, value in absent.items()
        )

    def _known_at(self, columns: list[str]) -> pl.Expr:
        """When a row could have been known: as it says, or so long after its time; else now, never earlier."""
        delay = self.reading.delayed
        if "known_at" not in columns and delay is None:
            return pl.lit(self.now, TIME)
        return pl.col("known_at" if "known_at" in columns else "time") + (delay or timedelta(0))


def _numbers(column: pl.Series, dtype: pl.DataType) -> tuple[pl.Series, pl.Series]:
    """A column as numbers, null where it has none, and which of its cells hold something that is none."""
    if column.dtype == pl.String:
        text = column.str.strip_chars()
        column = text.set(text.str.to_lowercase().is_in(NO_NUMBER), None)
    values = column.cast(dtype, strict=False)
    unread = column.is_not_null() & values.is_null()
    return values.fill_nan(None) if dtype.is_float() else values, unread


def _reason(column: pl.Series, where: pl.Series, text: str) -> pl.Series:
    """`text` about the values in some places, null in the others."""
    value = pl.lit(column.cast(pl.String).str.slice(0, 40))
    return pl.select(pl.when(pl.lit(where)).then(pl.format(text, value) if "{}" in text else pl.lit(text))).to_series()
