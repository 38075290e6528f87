"""Name → thing, with "did you mean"; and the small language that names a thing with its parameters."""

import ast
import difflib
import importlib
import inspect
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from lab.errors import UnknownName, UsageError

Parameter = int | float | str | bool


def unknown(kind: str, name: str, known: list[str]) -> UnknownName:
    """The error for a name that is not among `known`, with the nearest ones as its fix."""
    near = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
    fix = f"did you mean {' or '.join(near)}?" if near else f"choose one of: {', '.join(sorted(known)) or '(none)'}"
    return UnknownName(f"there is no {kind} named {name!r}", fix=fix)


Thing = TypeVar("Thing")


class Registry(Generic[Thing]):
    """The things of one kind, by name, in the order they were added."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self._things: dict[str, Thing] = {}

    def add(self, name: str, thing: Thing) -> None:
        """Register `thing`; a second thing under the same name is a bug and raises ValueError."""
        if name in self._things:
            raise ValueError(f"two {self.kind}s are named {name!r}")
        self._things[name] = thing

    def discard(self, name: str) -> None:
        """Forget a name, if it is there."""
        self._things.pop(name, None)

    def __getitem__(self, name: str) -> Thing:
        if name not in self._things:
            raise unknown(self.kind, name, list(self._things))
        return self._things[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._things)


@dataclass(frozen=True)
class LazyTable:
    """Name → "module:attribute"; a listing imports nothing, a look-up imports one module."""

    kind: str
    places: Mapping[str, str]

    def __getitem__(self, name: str) -> Any:
        if name not in self.places:
            raise unknown(self.kind, name, list(self.places))
        module, attribute = self.places[name].split(":")
        return getattr(importlib.import_module(module), attribute)

    def __iter__(self) -> Iterator[str]:
        return iter(self.places)


@dataclass(frozen=True)
class Call:
    """A name with its parameters, as a person writes it in an experiment: `rsi(14)`, `macd(fast=12)`."""

    name: str
    positional: tuple[Parameter, ...] = ()
    named: tuple[tuple[str, Parameter], ...] = ()

    @classmethod
    def parse(cls, text: str) -> "Call":
        """Read `name` or `name(1, key=2.5)`; only literal numbers and strings, nothing is evaluated."""
        wrong = UsageError(
            f"{text!r} is not a name with parameters", fix="write it as name, name(20) or name(window=20)"
        )
        try:
            tree = ast.parse(text.strip(), mode="eval").body
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            raise wrong from None
        if isinstance(tree, ast.Name):
            return cls(tree.id)
        if not (isinstance(tree, ast.Call) and isinstance(tree.func, ast.Name)):
            raise wrong
        try:
            positional = tuple(ast.literal_eval(node) for node in tree.args)
            named = tuple((key.arg or "", ast.literal_eval(key.value)) for key in tree.keywords)
        except (ValueError, TypeError):  # TypeError: a set or dict of what cannot be hashed
            raise wrong from None
        if not all(isinstance(value, Parameter) for value in (*positional, *(value for _, value in named))):
            raise wrong
        if len(dict(named)) < len(named):
            raise wrong
        return cls(tree.func.id, positional, named)

    def bind(self, function: Callable[..., Any]) -> dict[str, Parameter]:
        """Every parameter of `function`, defaults filled in; a wrong name or type is a UsageError."""
        signature = inspect.signature(function)
        try:
            bound = signature.bind(*self.positional, **dict(self.named))
        except TypeError as error:
            known = f"its parameters are {self.name}{parameters_of(function)}"
            raise UsageError(f"{self.name}: {error}", fix=known) from None
        bound.apply_defaults()
        checked = signature.parameters
        return {key: _checked(self.name, key, value, checked[key]) for key, value in bound.arguments.items()}


def parameters_of(function: Callable[..., Any]) -> str:
    """The parameter list a person can type, e.g. `(window=20, width=2.0)`."""
    listed = inspect.signature(function).parameters.values()
    return f"({', '.join(p.name if p.default is p.empty else f'{p.name}={p.default!r}' for p in listed)})"


def _checked(name: str, key: str, value: Parameter, parameter: inspect.Parameter) -> Parameter:
    expected = parameter.annotation
    if expected is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    if expected in (int, float, str, bool) and type(value) is not expected:
        raise UsageError(
            f"{name}: {key} is {value!r}, which is not {'an' if expected is int else 'a'} {expected.__name__}",
            fix=f"give {key} as {'a whole number' if expected is int else expected.__name__}",
        )
    if isinstance(value, int | float) and not isinstance(value, bool) and not 0 <= value < 1e9:
        raise UsageError(f"{name}: {key} is {value!r}", fix=f"give {key} a value of 0 or more")
    return value
