"""Numbers, moments and names as they stand on the page; whatever is not defined is a dash."""

import math
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np

DASH = "–"
SUPERSCRIPT = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
LONGEST = 4_000
MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
# Categories of characters that change what surrounds them, or are not characters: control, format,
# surrogate, unassigned, line and paragraph separators.
UNSEEN = frozenset({"Cc", "Cf", "Cs", "Cn", "Zl", "Zp"})


def visible(text: str) -> str:
    """`text` with every character that would act rather than show (NUL, right-to-left marks, …) spelled as `\\u202e`.

    Text beyond LONGEST characters is cut and says so. Markup is escaped elsewhere.
    """
    if len(text) > LONGEST:
        text = f"{text[:LONGEST]} … ({len(text):,} characters)"
    if text.isascii() and text.isprintable():
        return text
    return "".join(
        (f"\\u{ord(char):04x}" if ord(char) < 0x10000 else f"\\U{ord(char):08x}")
        if unicodedata.category(char) in UNSEEN
        else char
        for char in text
    )


def defined(value: object) -> float | None:
    """`value` as a finite number, or None where it is missing, NaN, infinite or no number."""
    if not isinstance(value, int | float | np.number):
        return None
    known = float(value)
    return known if math.isfinite(known) else None


def signed(text: str, *, plus: bool) -> str:
    """A formatted number with a true minus sign, no negative zero, and a plus sign where asked for."""
    if not any(digit in text for digit in "123456789"):
        return text.lstrip("-")
    return f"−{text[1:]}" if text.startswith("-") else (f"+{text}" if plus else text)


def number(value: object, digits: int = 2, *, plus: bool = False) -> str:
    """A plain number: 1.23."""
    known = defined(value)
    return DASH if known is None else signed(f"{known:,.{digits}f}", plus=plus)


def scientific(value: float) -> str:
    """Four figures, however large or small: 0.9312, 4.2 × 10⁻⁶."""
    head, _, power = f"{value:.4g}".partition("e")
    raised = f" × 10{str(int(power)).translate(SUPERSCRIPT)}" if power else ""
    return signed(head, plus=False) + raised


def percent(value: object, digits: int | None = None, *, plus: bool = False) -> str:
    """A share as percent: 12.3 %. Without `digits`, as many as its size calls for."""
    known = defined(value)
    if known is None:
        return DASH
    hundred = known * 100
    if digits is None:
        digits = 0 if abs(hundred) >= 1_000 else 1 if abs(hundred) >= 10 else 2
    return f"{signed(f'{hundred:,.{digits}f}', plus=plus)} %"


def hundredths(value: object, digits: int) -> str:
    """A share in percent without the sign, for tables that say so once: −1.05."""
    return percent(value, digits).removesuffix(" %")


def probability(value: object) -> str:
    """A probability, never rounded up to certainty: 0.953, > 0.999."""
    known = defined(value)
    if known is None:
        return DASH
    if 0.9995 <= known < 1:
        return "> 0.999"
    return "< 0.001" if 0 < known < 0.0005 else f"{known:.3f}"


def count(value: object) -> str:
    """A whole number with its thousands apart: 12,345."""
    return number(value, 0)


def bps(value: object, digits: int = 1) -> str:
    """Hundredths of a percent: 2.5 bps."""
    known = defined(value)
    return DASH if known is None else f"{number(known, digits)} bps"


def length(value: timedelta | None) -> str:
    """A stretch of time in its two largest units: 3 d 4 h."""
    if value is None:
        return DASH
    seconds = round(value.total_seconds())
    units = (("d", 86_400), ("h", 3_600), ("min", 60), ("s", 1))
    for place, (name, size) in enumerate(units):
        if seconds >= size:
            whole, rest = divmod(seconds, size)
            if whole < 100 and place + 1 < len(units):
                smaller, width = units[place + 1]
                part = rest // width
                return f"{whole:,} {name} {part} {smaller}" if part else f"{whole:,} {name}"
            return f"{whole:,} {name}"
    return "0 s"


def moment(value: object) -> datetime | None:
    """The moment that an ISO text or a datetime names, in UTC; None where it names none."""
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value)
        except ValueError:
            return None
    if not isinstance(value, datetime):
        return None
    return value.astimezone(UTC) if value.tzinfo else value.replace(tzinfo=UTC)


def when(value: object) -> str:
    """A moment in UTC, to the minute: 2026-03-01 14:05; midnight is the bare day. Other text stays as it is."""
    time = moment(value)
    if time is None:
        return DASH if value is None else str(value)
    day = f"{time.year:04d}-{time.month:02d}-{time.day:02d}"
    if (time.hour, time.minute, time.second) == (0, 0, 0):
        return day
    return f"{day} {time.hour:02d}:{time.minute:02d}" + (f":{time.second:02d}" if time.second else "")


def setting(value: object) -> str:
    """A setting as it would be written in TOML, strings without their quotes."""
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return DASH
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Mapping):
        return ", ".join(f"{key} = {setting(inner)}" for key, inner in value.items()) or "(none)"
    if isinstance(value, Sequence) and not isinstance(value, str):
        return ", ".join(setting(inner) for inner in value) or "(none)"
    return str(value)


def flattened(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, object]]:
    """Every leaf of nested settings under its dotted name; lists of tables carry their place: features.0.name."""
    for key, value in tree.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping) and value:
            yield from flattened(value, f"{name}.")
        elif isinstance(value, list | tuple) and any(isinstance(inner, Mapping) for inner in value):
            yield from flattened({str(place): inner for place, inner in enumerate(value)}, f"{name}.")
        else:
            yield name, value
