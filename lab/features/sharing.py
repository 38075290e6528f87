"""What several columns rest on is computed once: one average of the closes for three features, one channel for four.

While columns of the same bars are computed together, a function marked `shared` remembers what it made of these bars,
and of what other shared functions made of them. What rests on anything else is computed and forgotten.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import wraps
from typing import Any, ParamSpec, TypeVar, cast

import numpy as np

from lab.nouns import Vector

P = ParamSpec("P")
R = TypeVar("R")
Made = Vector | tuple[Vector, ...]


class Shared:
    """What was made of these columns; nobody may write into it."""

    def __init__(self, columns: Iterable[Vector]) -> None:
        self._known = {id(column): column for column in columns}  # held, so that no other array gets their ids
        self._made: dict[tuple[Any, ...], Made] = {}

    def result(self, function: Callable[..., Made], arguments: tuple[Any, ...]) -> Made:
        """What `function` makes of these arguments: made before, or now."""
        call: list[Any] = [function]
        for each in arguments:
            if isinstance(each, np.ndarray):
                if id(each) not in self._known:
                    return function(*arguments)
                call.append(id(each))
            else:
                call.append(each)
        key = tuple(call)
        made = self._made.get(key)
        if made is None:
            made = self._made[key] = self.keep(function(*arguments))
        return made

    def keep(self, made: Made) -> Made:
        """Count what was made among the columns that more may be made of."""
        for each in arrays_in(made):
            self._known[id(each)] = each
        return made


_now: ContextVar[Shared | None] = ContextVar("shared", default=None)


@contextmanager
def sharing(shared: Shared) -> Iterator[None]:
    """While it lasts, in this thread, functions marked `shared` look here first."""
    before = _now.set(shared)
    try:
        yield
    finally:
        _now.reset(before)


def shared(function: Callable[P, R]) -> Callable[P, R]:
    """Mark a function of columns and settings that returns one column or several, and writes into none."""

    @wraps(function)
    def once(*args: P.args, **kwargs: P.kwargs) -> R:
        now = _now.get()
        if now is None or kwargs:
            return function(*args, **kwargs)
        return cast(R, now.result(cast(Callable[..., Made], function), args))

    return once


def arrays_in(made: Made) -> tuple[Vector, ...]:
    return made if isinstance(made, tuple) else (made,)
