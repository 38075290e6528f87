"""What can go wrong for a user, said so that they can mend it."""


class LabError(Exception):
    """A problem the user can mend: what is wrong, with the value, and what to do next.

    Caught once, in `cli/main.py`, and printed as two lines; `exit_code` becomes the process's.
    """

    exit_code = 1

    def __init__(self, problem: str, fix: str) -> None:
        super().__init__(problem)
        self.problem = problem
        self.fix = fix

    def __reduce__(self) -> tuple[type["LabError"], tuple[str, str]]:
        return type(self), (self.problem, self.fix)


class UsageError(LabError):
    """The request itself is wrong: a name, a value, a setting."""

    exit_code = 2


class BadExperiment(UsageError):
    """An experiment file that cannot be read as one."""


class UnknownName(UsageError):
    """A name nothing is registered under."""


class BadBars(LabError):
    """Rows that cannot be bars: wrong columns, duplicates, impossible prices."""


class MissingColumns(LabError):
    """A feature or label needs a column that these bars do not carry."""


class NoData(LabError):
    """Nothing in the store, or at the source, for what was asked."""


class NotEnoughHistory(LabError):
    """Too few bars for one fold."""


class DamagedData(LabError):
    """A file whose bytes are not those that were written."""


class SourceError(LabError):
    """A market-data source that answered wrongly, or not at all."""


class LookAhead(LabError):
    """A feature whose value changes when only the future changes."""
