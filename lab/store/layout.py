"""Where a table lies: its folders, and which names may become one."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote

from lab.errors import UsageError
from lab.kinds import KINDS
from lab.nouns import EVENTS, is_clocked

SAFE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,31}")
# What a glob reader would take for a number or a date; an escaped first character keeps it text.
LOOKS_LIKE_A_VALUE = re.compile(r"\d.*|epoch|inf|infinity|nan", re.IGNORECASE)


@dataclass(frozen=True)
class TableName:
    """A table of the store, and the folders that hold it; a name that could leave them is refused."""

    root: Path
    source: str
    symbol: str
    interval: str
    kind: str = "bars"

    def __post_init__(self) -> None:
        if KINDS[self.kind].gridded:
            is_clocked(self.interval)
        elif self.interval != EVENTS:
            raise UsageError(f"{self.kind} have no interval {self.interval!r}", fix="leave out --interval")
        for what, name in (("source", self.source), ("symbol", self.symbol)):
            if not SAFE_NAME.fullmatch(name):
                raise UsageError(
                    f"{name!r} cannot be the name of a {what}",
                    fix="use at most 32 letters, digits, dots, dashes and underscores; begin with a letter or digit",
                )

    @property
    def key(self) -> str:
        named = self.symbol
        if LOOKS_LIKE_A_VALUE.fullmatch(named):
            named = f"%{ord(named[0]):02X}{named[1:]}"
        return f"kind={self.kind}/source={self.source}/symbol={named}/interval={self.interval}"

    @property
    def folder(self) -> Path:
        return self.root / self.key

    @property
    def history(self) -> Path:
        """Files that the newest version does not name but an older one does; out of sight of a glob."""
        return self.root / "history" / self.key

    @property
    def quarantine(self) -> Path:
        return self.root / "quarantine" / self.key

    @property
    def log(self) -> Path:
        return self.folder / "_log"

    @property
    def lock(self) -> Path:
        return self.log / "lock"

    def manifest(self, number: int) -> Path:
        return self.log / f"{number:06}.json"

    @property
    def command(self) -> str:
        """The `lab fetch` that fills it."""
        words = f"lab fetch {self.symbol} --source {self.source}"
        words += f" --kind {self.kind}" if self.kind != "bars" else ""
        return words + (f" --interval {self.interval}" if self.interval != EVENTS else "")

    def __str__(self) -> str:
        what = f"{self.interval} {self.kind}" if self.interval != EVENTS else self.kind
        return f"{what} of {self.symbol} from {self.source}"


def table_names(root: Path) -> Iterator[TableName]:
    """Every table there is, by kind, source, symbol and interval."""
    for folder in sorted(root.glob("kind=*/source=*/symbol=*/interval=*")):
        kind, source, symbol, interval = (unquote(key.split("=", 1)[1]) for key in folder.parts[-4:])
        yield TableName(root, source, symbol, interval, kind)
