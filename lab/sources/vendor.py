"""Files as data vendors ship them, read in blocks: plain, gzipped, zstd or one member of a zip."""

import gzip
import hashlib
import re
import zlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cached_property
from io import BytesIO
from itertools import chain, takewhile
from pathlib import Path
from typing import BinaryIO, NoReturn, cast
from zipfile import BadZipFile, ZipFile

import polars as pl
import pyarrow as pa  # type: ignore[import-untyped]

from lab.errors import SourceError, UsageError
from lab.kinds import KINDS
from lab.nouns import Piece, Span, Table
from lab.sources.rows import moment, sift_kind

BLOCK_BYTES = 8 << 20
BYTES_AT_MOST = 8 << 30  # unpacked; no vendor's day comes near it
LINE_AT_MOST = 1 << 20
WHOLE_BYTES = 64 << 20  # of text, up to which a day is one piece; a longer one is a piece an hour
PACKING = 8  # about how many times smaller a packed file is than its text
LATE = timedelta(minutes=1)  # so long after the end of a piece its rows may still arrive
PARTS_AT_MOST = 100_000
DAY, HOUR = timedelta(days=1), timedelta(hours=1)
FINE = pl.lit(None, pl.String).alias("wrong")  # why a row is none, in the vendor's terms: no reason
GZIP, ZSTD, ZIP = b"\x1f\x8b", b"\x28\xb5\x2f\xfd", b"PK\x03\x04"


@dataclass(frozen=True)
class VendorFile:
    """A CSV on disk or just downloaded, packed or not; of a zip with several members, the one named `member`.

    Whatever is damaged, has lines without end or unpacks to more than BYTES_AT_MOST is a SourceError.
    """

    name: str
    data: Path | bytes
    member: str | None = None

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the file as it was shipped."""
        with self._raw() as raw:
            return hashlib.file_digest(cast(BytesIO, raw), "sha256").hexdigest()

    @property
    def is_large(self) -> bool:
        """Whether its rows would fill the memory if a whole day of them were one piece."""
        size = len(self.data) if isinstance(self.data, bytes) else self.data.stat().st_size
        return size * (PACKING if self._begins_with(GZIP, ZSTD, ZIP) else 1) > WHOLE_BYTES

    @property
    def is_zip(self) -> bool:
        return self._begins_with(ZIP)

    def header(self) -> list[str]:
        """The cells of the first line; none where the file is empty."""
        first = next(self.blocks(), b"").split(b"\n", 1)[0].decode(errors="replace").strip()
        return first.split(",") if first else []

    def count_lines(self) -> int:
        return sum(block.count(b"\n") for block in self.blocks())

    def frames(self, names: list[str], types: Mapping[str, pl.DataType], *, skip: int = 0) -> Iterator[pl.DataFrame]:
        """The columns in `types` of a CSV whose columns are called `names`, by blocks, after `skip` (0 or 1) lines.

        `line` numbers the rows from 1. A value that is not of its type is null.
        """
        schema = {name: types.get(name, pl.String()) for name in names}
        chosen = [number for number, name in enumerate(names) if name in types]
        read = 0
        for number, block in enumerate(self.blocks()):
            text = block.split(b"\n", skip)[skip] if number == 0 else block
            if not text:
                continue
            try:
                frame = pl.read_csv(
                    text, has_header=False, schema=schema, columns=chosen, quote_char=None, ignore_errors=True
                )
            except pl.exceptions.PolarsError as damage:
                self.refuse(f"it cannot be read: {str(damage).splitlines()[0]}")
            yield frame.with_row_index("line", offset=read + 1)
            read += frame.height

    def blocks(self) -> Iterator[bytes]:
        """The unpacked text, in blocks of whole lines; each ends with a line feed."""
        rest, total = b"", 0
        with self._unpacked() as stream:
            while chunk := stream.read(BLOCK_BYTES):
                total += len(chunk)
                if total > BYTES_AT_MOST:
                    self.refuse(f"its content is larger than {BYTES_AT_MOST >> 30} GiB")
                whole, feed, chunk = (rest + chunk).rpartition(b"\n")
                if len(chunk) > LINE_AT_MOST:
                    self.refuse(f"it holds a line of more than {LINE_AT_MOST:,} bytes")
                rest = chunk
                if feed:
                    yield whole + feed
        if rest:
            yield rest + b"\n"

    def refuse(self, why: str) -> NoReturn:
        """Raise a SourceError: nothing of this file can be used."""
        raise SourceError(f"{self.name} is refused: {why}", fix="get the file anew from its vendor")

    @contextmanager
    def _unpacked(self) -> Iterator[BinaryIO]:
        try:
            with self._raw() as raw:
                if self._begins_with(ZIP):
                    with ZipFile(raw) as file, file.open(self._member_of(file)) as member:
                        yield cast(BinaryIO, member)
                elif self._begins_with(GZIP):
                    with gzip.open(raw) as unzipped:
                        yield cast(BinaryIO, unzipped)
                elif self._begins_with(ZSTD):
                    with pa.CompressedInputStream(raw, "zstd") as unpacked:
                        yield unpacked
                else:
                    yield raw
        except (EOFError, OSError, BadZipFile, zlib.error, NotImplementedError, RuntimeError) as damage:
            self.refuse(f"it cannot be unpacked: {damage}")

    def _begins_with(self, *magic: bytes) -> bool:
        with self._raw() as raw:
            return raw.read(4).startswith(magic)

    def _member_of(self, file: ZipFile) -> str:
        held = [name for name in file.namelist() if not name.endswith("/") and not name.startswith("__MACOSX")]
        named = [name for name in held if self.member is None or name.rpartition("/")[2] == self.member]
        if len(named) == 1:
            return named[0]
        wanted = f"no {self.member} alone" if self.member else f"{len(held)} files"
        some = ", ".join(name.rpartition("/")[2] for name in held[:10])
        raise UsageError(f"{self.name} holds {wanted}", fix=f"ask for what it has: {some}, …")

    @contextmanager
    def _raw(self) -> Iterator[BinaryIO]:
        if isinstance(self.data, bytes):
            yield BytesIO(self.data)
            return
        try:
            opened = self.data.open("rb")
        except OSError as refused:
            raise UsageError(f"{self.data} cannot be read: {refused.strerror}", fix="check --path") from None
        with opened:
            yield opened


def given(path: Path | None, member: str | None = None) -> VendorFile:
    """The file that a user named by --path; that there is none is a UsageError."""
    if path is None:
        raise UsageError("which file?", fix="add --path FILE")
    if not path.is_file():
        raise UsageError(f"{path} is no file", fix="check --path")
    return VendorFile(path.name, path, member)


def only_symbol(symbols: tuple[str, ...]) -> str:
    """The one symbol asked for, of a source whose files hold one each."""
    if len(symbols) != 1:
        raise UsageError(f"one file cannot be {' and '.join(symbols)}", fix="name one symbol for each --path")
    return symbols[0]


def storable(symbol: pl.Expr) -> pl.Expr:
    """A vendor's symbol with `-` for every character that no stored symbol has, as in `XBT/USD`."""
    return symbol.str.replace_all(r"[^A-Za-z0-9._-]", "-")


def microseconds(seconds: pl.Expr) -> pl.Expr:
    """Seconds with decimals, as text, in whole µs: no digit is rounded, those beyond are cut; null if no number."""
    whole = seconds.str.extract(r"^(\d{1,11})(?:\.\d*)?$", 1).cast(pl.Int64)
    decimals = seconds.str.extract(r"\.(\d{1,6})", 1).fill_null("").str.pad_end(6, "0").cast(pl.Int64)
    return whole * 1_000_000 + decimals


def day_of(file: VendorFile, column: str) -> Span | None:
    """The day (UTC) of the first whole number of `column`, a time; none where the file has no rows."""
    names = file.header()
    if column not in names:
        return file.refuse(f"it begins with {','.join(names)[:80]!r}, without {column}") if names else None
    for frame in file.frames(names, {column: pl.Int64()}, skip=1):
        first = cast(datetime | None, frame.select(moment(pl.col(column).drop_nulls().first())).item())
        if first:
            return days(Span(first, first + DAY))[0]
    return None


def divided(whole: pl.Expr, unit: int) -> pl.Expr:
    """`whole` / `unit`, correctly rounded."""
    # By a constant, Polars multiplies with its reciprocal: 2238200 / 10000 would be 223.82000000000002.
    return whole / (whole * 0 + unit)


def begun(frames: Iterator[pl.DataFrame], column: str) -> tuple[datetime | None, Iterator[pl.DataFrame]]:
    """The first time in `column`, none where there is none, and all the frames again."""
    seen: list[pl.DataFrame] = []
    for frame in frames:
        seen.append(frame)
        if first := cast(datetime | None, frame[column].drop_nulls().first()):
            return first, chain(seen, frames)
    return None, iter(seen)


def days(span: Span) -> list[Span]:
    """The days (UTC) that `span` touches."""
    first = span.start.replace(hour=0, minute=0, second=0, microsecond=0)
    return [Span(first + n * DAY, first + (n + 1) * DAY) for n in range(-((first - span.end) // DAY))]


def hours(span: Span) -> list[Span]:
    """`span`, cut into hours."""
    cuts = [span.start + n * HOUR for n in range(-((span.start - span.end) // HOUR))]
    return [Span(start, end) for start, end in zip(cuts, [*cuts[1:], span.end], strict=True)]


def onwards(span: Span) -> Iterator[Span]:
    """`span` and those after it, of the same length: more of them than any file has."""
    length = span.end - span.start
    return (Span(span.start + n * length, span.end + n * length) for n in range(PARTS_AT_MOST))


def cut(blocks: Iterable[pl.DataFrame], parts: Iterable[Span], arrived: str) -> Iterator[tuple[Span, pl.DataFrame]]:
    """Rows that come in the order of `arrived`, gathered by the part that their `time` lies in, without empty parts.

    A part is handed out once a row arrived LATE after its end. A row whose part is out already, or that lies in
    none, comes with the one that is open: `stray` names it.
    """
    waiting = iter(parts)
    part, held = next(waiting), pl.DataFrame()
    for block in blocks:
        held = pl.concat([held, block]) if held.height else block
        latest = cast(datetime | None, held[arrived].max())
        while latest and latest >= part.end + LATE and (following := next(waiting, None)):
            belongs = _before(part.end, arrived)
            if (own := held.filter(belongs)).height:
                yield part, own
            part, held = following, held.filter(~belongs)
    for following in waiting:
        belongs = _before(part.end, arrived)
        if (own := held.filter(belongs)).height:
            yield part, own
        part, held = following, held.filter(~belongs)
        if not held.height:
            return
    if held.height:
        yield part, held


def with_empty(
    parts: Iterable[Span], gathered: Iterable[tuple[Span, pl.DataFrame]]
) -> Iterator[tuple[Span, pl.DataFrame | None]]:
    """What `cut` gathered, and each of the `parts` that had no row, in their order."""
    waiting = iter(parts)
    for part, rows in gathered:
        yield from ((empty, None) for empty in takewhile(part.__ne__, waiting))
        yield part, rows
    yield from ((empty, None) for empty in waiting)


def _before(end: datetime, arrived: str) -> pl.Expr:
    # A stamp long after the row arrived is no stamp; without one, a row is as old as its arrival.
    impossible = (pl.col("time") > pl.col(arrived) + LATE).fill_null(True)
    return (pl.when(impossible).then(arrived).otherwise("time") < end).fill_null(True)


def changes(frames: Iterable[pl.DataFrame], watched: list[str]) -> Iterator[pl.DataFrame]:
    """The rows that differ in any of `watched` from the one before them, whatever the blocks; nulls are values."""
    differs = pl.any_horizontal(pl.col(name).ne_missing(pl.col(name).shift(1)) for name in watched)
    before = pl.DataFrame()
    for frame in frames:
        rows = pl.concat([before, frame], how="diagonal")
        news = rows.select(differs).to_series()
        yield rows.slice(before.height).filter(news.slice(before.height))
        before = rows.tail(1)


def stray(part: Span) -> pl.Expr:
    """Why a row does not belong into the piece for `part`, as text; null where it does."""
    return pl.when(~part.covers(pl.col("time"))).then(
        pl.lit("stamped outside the time that its file is of, or more than a minute late")
    )


def piece_of(
    kind: str, symbol: str, origin: str, digest: str, rows: pl.DataFrame, *, suspect: pl.Expr, span: Span | None = None
) -> Piece:
    """A finished piece of `rows`; they have a `line` only where equal rows are no repeats of each other."""
    good, rejected, repeats = sift_kind(KINDS[kind], rows.with_columns(symbol=pl.lit(symbol)), suspect=suspect)
    table = Table(kind, good) if rows.height else None  # of rejected rows alone too, so that they are kept
    return Piece(symbol, origin, digest, table, rejected.drop("wrong", strict=False), repeats, span)


def numbered(text: str) -> bool:
    """Whether an id is a whole number that Int64 holds and writes the same way."""
    return re.fullmatch(r"0|[1-9]\d{0,17}", text) is not None
