"""How a person has a file read: its columns by our names, its zone, its units, the way it spells sides and symbols."""

import json
import re
import tomllib
from collections.abc import Collection, Iterable, Mapping
from dataclasses import asdict, dataclass
from datetime import timedelta
from fractions import Fraction
from pathlib import Path
from typing import Annotated, Literal
from zoneinfo import available_timezones

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from lab.errors import UsageError
from lab.kinds import KINDS, LEVELS, Kind
from lab.registry import unknown

Stamp = Literal["open", "close"]
EXAMPLE = """\
kind = "books"                    # what --kind says
symbol = "GC"                     # or [columns] symbol = "…", or nothing: the one that was asked for
timezone = "America/New_York"     # of times that name no zone; UTC where left out
time_format = "%d.%m.%Y %H:%M"    # only where lab cannot read the times by itself
# time_is = "close"               # of bars, where they are not stamped with their open
[columns]                         # ours = theirs, where theirs is unusual
time = ["Date", "Time"]           # one column, or some that are read one after the other
bid = { pattern = "bid_price_{}", from = 0, levels = 5 }    # bid_1 to bid_5, or bid_1 = "…"
ask = { pattern = "offer_price_{}", from = 0, levels = 5 }
[units]                           # what 1 of the file is worth
bid = 0.0001
ask = 0.0001
# [values.side]                   # of trades: how the file spells that a taker bought (1) or sold (-1)
# B = 1
# S = -1
# [values.symbol]                 # what a symbol of the file is to be called
# "EUR/USD" = "EURUSD"
# [known]                         # of funding, metrics, mood, news, actions: known so long after their time,
# delay = "1h"                    # or after [columns] known_at; with neither, from the moment of fetching on"""

# What columns are usually called; capitals and spaces do not matter. Every column also goes by its own name.
USUAL_TIMES = ("time", "open_time", "timestamp", "datetime", "date", "date_time", "gmt_time", "")
_BAR_NAMES = {"open": ("o",), "high": ("h",), "low": ("l",), "close": ("c",)}
_TRADE_NAMES = {"price": ("px",), "size": ("quantity", "qty", "amount", "volume")}
USUAL_NAMES: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    "bars": {
        **_BAR_NAMES,
        "volume": ("vol", "v"),
        "buy_volume": ("taker_buy_volume", "taker_buy_base_asset_volume"),
        "quote_volume": ("quote_asset_volume",),
        "trades": ("count", "number_of_trades"),
    },
    "mark": _BAR_NAMES,
    "index": _BAR_NAMES,
    "premium": _BAR_NAMES,
    "trades": {**_TRADE_NAMES, "side": ("taker_side",), "id": ("trade_id",)},
    "liquidations": _TRADE_NAMES,
    "quotes": {
        "bid": ("bid_price", "best_bid_price", "best_bid"),
        "ask": ("ask_price", "best_ask_price", "best_ask", "offer"),
        "bid_size": ("bid_qty", "bid_quantity", "bid_amount", "best_bid_qty", "best_bid_size"),
        "ask_size": ("ask_qty", "ask_quantity", "ask_amount", "best_ask_qty", "best_ask_size"),
    },
    "funding": {"time": ("calc_time", "funding_time"), "rate": ("funding_rate", "last_funding_rate")},
    "metrics": {"time": ("create_time",)},
    "actions": {"time": ("ex_date",), "dividend": ("dividends",), "split": ("splits", "stock_splits")},
    "mood": {"label": ("classification", "value_classification")},
    "news": {
        "time": ("published_at", "published"),
        "uid": ("id", "guid"),
        "title": ("headline",),
        "url": ("link",),
        "outlet": ("source", "domain", "publisher"),
    },
}
# Columns of bars that are only taken where somebody maps them, as files use these names for other things.
ONLY_MAPPED = {"bars": {*KINDS["bars"].optional} - {"buy_volume", "quote_volume", "trades", "vwap"}}
# Columns that a file may do without, and what their absence says; without `known_at`, rows are known once fetched.
ABSENT: Mapping[str, Mapping[str, float | None]] = {
    "bars": {"volume": None},
    "trades": {"side": 0},
    "quotes": {"bid_size": None, "ask_size": None},
    "actions": {"dividend": 0.0, "split": 1.0},
}
NEWS_NAMED_BY = ("uid", "url", "title")  # the first that a file has
AT_LEAST_ONE = {
    "metrics": tuple(KINDS["metrics"].optional),
    "actions": ("dividend", "split"),
    "news": NEWS_NAMED_BY,
}
SIDES = {"buy": 1, "sell": -1, "Buy": 1, "Sell": -1, "BUY": 1, "SELL": -1, "1": 1, "-1": -1, "0": 0, "unknown": 0}
DELAY = re.compile(r"(\d{1,6})([smhd])")
SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
NUMBER = re.compile(r"\{(?::0([1-9]))?\}")  # the place of a level's number in a name: {}, or {:02} for 00, 01, …


class Section(BaseModel):
    """A table of the file: frozen, and a key that nothing reads is refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, populate_by_name=True)


class Levels(Section):
    """The columns of one side of a book: `pattern` with {} for the number, counted from `from`."""

    pattern: str
    first: Annotated[int, Field(alias="from", ge=0, lt=1000)] = 1
    levels: Annotated[int, Field(ge=1, le=LEVELS)]

    @field_validator("pattern")
    @classmethod
    def _numbered(cls, pattern: str) -> str:
        if len(NUMBER.findall(pattern)) != 1:
            raise ValueError("it needs one {} where the number of the level stands")
        return pattern

    def name(self, level: int) -> str:
        """What the file calls a level, the best being 1."""
        return NUMBER.sub(lambda found: str(self.first + level - 1).zfill(int(found[1] or 0)), self.pattern)


class Values(Section):
    """How the file spells things."""

    side: dict[str, Literal[-1, 0, 1]] = {}
    symbol: dict[str, str] = {}


class Known(Section):
    """When somebody could have known a row: so long after its time, e.g. `1h`."""

    delay: str

    @field_validator("delay")
    @classmethod
    def _length(cls, text: str) -> str:
        if not DELAY.fullmatch(text):
            raise ValueError("write it as 30s, 15m, 1h or 1d")
        return text


class MappingFile(Section):
    """The TOML file of --mapping; EXAMPLE explains its keys."""

    kind: str | None = None
    symbol: str | None = None
    time_is: Stamp | None = None
    timezone: str = "UTC"
    time_format: str = ""
    columns: dict[str, str | Annotated[list[str], Field(min_length=1)] | Levels] = {}
    values: Values = Values()
    units: dict[str, Annotated[float, Field(gt=0)]] = {}
    known: Known | None = None

    @field_validator("timezone")
    @classmethod
    def _exists(cls, zone: str) -> str:
        if zone not in available_timezones():
            raise ValueError("there is no such time zone; write it as in Europe/Berlin")
        return zone

    @classmethod
    def load(cls, path: Path) -> "MappingFile":
        """Read and check the file; anything that is not a mapping is a UsageError."""
        try:
            return cls.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
        except OSError as refused:
            raise UsageError(f"{path} cannot be read: {refused.strerror}", fix="check --mapping") from None
        except ValidationError as error:
            raise _refusal(path, error) from None
        except ValueError as damage:  # of TOML, or of UTF-8
            raise UsageError(f"{path} is no TOML: {damage}", fix=f"a mapping looks like this:\n{EXAMPLE}") from None


@dataclass(frozen=True)
class Reading:
    """How one file is read as rows of one kind, every choice made: what a person wrote and what is usual.

    `columns` maps ours to theirs; only `time` and `known_at` may be made of several. `units` holds numerator and
    denominator, so that a price in ten-thousandths is exactly the decimal that it stands for.
    """

    kind: str
    columns: Mapping[str, tuple[str, ...]]
    symbol: str | None
    symbols: Mapping[str, str]
    sides: Mapping[str, int]
    time_is: Stamp
    timezone: str
    time_format: str
    units: Mapping[str, tuple[int, int]]
    delay: str | None

    @property
    def text(self) -> str:
        """Canonical JSON: the same text for the same reading."""
        return json.dumps(asdict(self), sort_keys=True, ensure_ascii=False, separators=(",", ":"))

    @property
    def delayed(self) -> timedelta | None:
        return length_of(self.delay) if self.delay else None


def reading_of(
    kind: str,
    mapping: MappingFile,
    chosen: Iterable[tuple[str, str]],
    time_is: Stamp | None,
    names: list[str],
    where: str,
) -> Reading:
    """How the file called `where`, with columns `names`, is read as `kind`; what cannot be meant is a UsageError.

    What the command line says (`chosen`, `time_is`) goes before the mapping file, and that before the usual names.
    """
    _check_kind(kind, mapping, time_is)
    wanted = {**_written(kind, mapping), **{ours: (theirs,) for ours, theirs in chosen}}
    has = f"{where} has the columns {', '.join(map(repr, names))}"
    for ours, theirs in wanted.items():
        _check_column(kind, ours, theirs, names, has)
    usual = _usual(kind, names)
    if mapping.symbol:
        usual.pop("symbol", None)
        _check_constant(mapping.symbol, wanted)
    columns = {**usual, **wanted}
    _check_needed(kind, columns, has)
    if kind == "news" and "uid" not in columns:
        columns["uid"] = columns[next(name for name in NEWS_NAMED_BY if name in columns)]
    return Reading(
        kind=kind,
        columns=dict(sorted(columns.items())),
        symbol=mapping.symbol,
        symbols=mapping.values.symbol,
        sides=mapping.values.side or SIDES if "side" in columns else {},
        time_is=time_is or mapping.time_is or "open",
        timezone=mapping.timezone,
        time_format=mapping.time_format,
        units=_units(kind, mapping.units, columns),
        delay=mapping.known.delay if mapping.known else None,
    )


def length_of(delay: str) -> timedelta:
    """The length of a delay such as `90s` or `1h`."""
    found = DELAY.fullmatch(delay)
    assert found
    return timedelta(seconds=int(found[1]) * SECONDS[found[2]])


def chosen_columns(mapping: MappingFile, chosen: Iterable[tuple[str, str]]) -> list[str]:
    """Every name of a column in the file that a person wrote."""
    named = [name for theirs in mapping.columns.values() for name in _names(theirs)]
    return [*named, *(theirs for _, theirs in chosen)]


def _names(theirs: str | list[str] | Levels) -> list[str]:
    if isinstance(theirs, Levels):
        return [theirs.name(level) for level in range(1, theirs.levels + 1)]
    return [theirs] if isinstance(theirs, str) else theirs


def _written(kind: str, mapping: MappingFile) -> dict[str, tuple[str, ...]]:
    """Ours → theirs, as the mapping file has it, levels counted out."""
    columns: dict[str, tuple[str, ...]] = {}
    for ours, theirs in mapping.columns.items():
        if isinstance(theirs, Levels):
            if kind != "books" or ours not in ("bid", "bid_size", "ask", "ask_size"):
                raise UsageError(f"{ours} of {kind} has no levels", fix="patterns are for bid, bid_size, ask, ask_size")
            columns |= {f"{ours}_{n}": (theirs.name(n),) for n in range(1, theirs.levels + 1)}
        elif isinstance(theirs, list) and ours not in ("time", "known_at"):
            raise UsageError(f"{ours} cannot be made of {len(theirs)} columns", fix="only time and known_at can")
        else:
            columns[ours] = tuple(_names(theirs))
    return columns


def _check_kind(kind: str, mapping: MappingFile, time_is: Stamp | None) -> None:
    if mapping.kind not in (None, kind):
        raise UsageError(f"the mapping is for {mapping.kind}, not for {kind}", fix=f"ask for --kind {mapping.kind}")
    if (time_is or mapping.time_is) and not KINDS[kind].gridded:
        raise UsageError(f"{kind} neither open nor close", fix="leave out time_is")
    if mapping.known and "known_at" not in _all_columns(KINDS[kind]):
        raise UsageError(f"{kind} are known at their time", fix="leave out [known]")


def _all_columns(kind: Kind) -> list[str]:
    return list(kind.schema(list(kind.optional)))


def _check_column(kind: str, ours: str, theirs: tuple[str, ...], names: list[str], has: str) -> None:
    allowed = _all_columns(KINDS[kind])
    if ours not in allowed:
        raise UsageError(f"{kind} have no column {ours!r}", fix=unknown("column", ours, allowed).fix)
    for name in theirs:
        if name not in names:
            raise UsageError(
                f"there is no column {name!r}: {has}", fix=f"choose one of them for {ours}, e.g. --map {ours}=COLUMN"
            )


def _usual(kind: str, names: list[str]) -> dict[str, tuple[str, ...]]:
    known = {name.strip().lower().replace(" ", "_"): name for name in names}
    usual = USUAL_NAMES.get(kind, {})
    found: dict[str, tuple[str, ...]] = {}
    for ours in _all_columns(KINDS[kind]):
        if ours in ONLY_MAPPED.get(kind, ()):
            continue
        extra = {"symbol": ("ticker",), "time": USUAL_TIMES}.get(ours, ())
        called = [name for name in (ours, *usual.get(ours, ()), *extra) if name in known]
        if called:
            found[ours] = (known[called[0]],)
    return found


def _check_constant(symbol: str, wanted: Mapping[str, tuple[str, ...]]) -> None:
    if "symbol" in wanted:
        raise UsageError(
            f"the symbol is {symbol} and also what {wanted['symbol'][0]!r} says", fix="leave one of the two out"
        )


def _check_needed(kind: str, columns: Collection[str], has: str) -> None:
    optional = {"known_at", *ABSENT.get(kind, ()), *(("uid",) if kind == "news" else ())}
    needed = ["time", *(name for name in KINDS[kind].columns if name not in optional)]
    if kind == "books":
        needed += ["bid_1", "ask_1"]
    if missing := [name for name in needed if name not in columns]:
        raise UsageError(
            f"no column is known to be {', '.join(missing)}: {has}",
            fix=f"add --map {missing[0]}=COLUMN; without a header, call the columns 1, 2, 3, … and map all you need; "
            f"or write a file for --mapping, such as\n{EXAMPLE}",
        )
    names = AT_LEAST_ONE.get(kind, ())
    if names and not any(name in columns for name in names):
        raise UsageError(f"no column is known to be {' or '.join(names)}: {has}", fix=f"add --map {names[0]}=COLUMN")


def _units(kind: str, units: Mapping[str, float], columns: Collection[str]) -> dict[str, tuple[int, int]]:
    """Factor by column, as a fraction; `bid` of a book stands for every level."""
    types = KINDS[kind].schema(columns)
    numbers = {name for name in columns if name in types and types[name].is_float()}
    factors: dict[str, tuple[int, int]] = {}
    for ours, factor in units.items():
        meant = {name for name in numbers if ours == (re.sub(r"_\d+$", "", name) if kind == "books" else name)} | (
            numbers & {ours}
        )
        if not meant:
            known = sorted(numbers)
            raise UsageError(f"[units] {ours} is no number that is read", fix=unknown("number", ours, known).fix)
        exact = Fraction(repr(factor))
        factors |= dict.fromkeys(sorted(meant), (exact.numerator, exact.denominator))
    return factors


def _refusal(path: Path, error: ValidationError) -> UsageError:
    """The first complaint of pydantic, as a key with its value and what to do."""
    # A key that is misspelt is also one that is missing, and no text where text could stand: the former says more.
    telling = ("extra_forbidden", "missing", "value_error")
    first = min(error.errors(), key=lambda each: telling.index(each["type"]) if each["type"] in telling else 9)
    where = ".".join(str(part) for part in first["loc"])
    if first["type"] == "extra_forbidden":
        key = str(first["loc"][-1])
        return UsageError(f"{path}: {where} is not a setting", fix=unknown("setting", key, _all_keys()).fix)
    if first["type"] == "missing":
        return UsageError(f"{path}: {where} is missing", fix=f"a mapping looks like this:\n{EXAMPLE}")
    problem = first["msg"].removeprefix("Value error, ").lower()
    return UsageError(f"{path}: {where} is {first['input']!r}: {problem}", fix=f"correct {where}")


def _all_keys() -> list[str]:
    sections: list[type[Section]] = [MappingFile, Levels, Values, Known]
    return sorted({field.alias or name for each in sections for name, field in each.model_fields.items()})
