"""What several columns rest on is computed once: one average of the closes for three features, one channel for four.

While columns of the same bars are computed together, a function marked `shared` remembers what it made of these bars,
and of what other shared functions made of them. What rests on anything else is computed and forgotten.
"""

from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import wraps
from typing import Any, ParamSpec, TypeVar, cast

import numpy as np

from lab.nouns import Vector

MOST = 24  # as those of a part should stay near the processor
P = ParamSpec("P")
R = TypeVar("R")
Made = Vector | tuple[Vector, ...]


class Shared:
    """What was lately made of these columns, at most MOST results of it; nobody may write into them."""

    def __init__(self, columns: Iterable[Vector]) -> None:
        self._columns = {id(column): column for column in columns}
        self._made: OrderedDict[tuple[Any, ...], tuple[tuple[Any, ...], Made]] = OrderedDict()
        self._known = set(self._columns)

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
        if key in self._made:
            self._made.move_to_end(key)
            return self._made[key][1]
        made = self.keep(function(*arguments))
        self._made[key] = (arguments, made)  # arguments are held, so that no other array gets their ids
        self._known.update(map(id, arrays_in(made)))
        if len(self._made) > MOST:
            _, (_, dropped) = self._made.popitem(last=False)
            self._known.difference_update(map(id, arrays_in(dropped)))
        return made

    def keep(self, made: Made) -> Made:
        """What others may share from now on."""
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
        return cast(R, now.result(cast("Callable[..., Made]", function), args))

    return once


def arrays_in(made: Made) -> tuple[Vector, ...]:
    return made if isinstance(made, tuple) else (made,)
