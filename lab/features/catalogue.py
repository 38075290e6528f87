"""The catalogue: how a feature is registered, looked up by what a person writes, and computed."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeVar

import polars as pl

from lab.errors import MissingColumns, UsageError
from lab.nouns import AGE, OPTIONAL_COLUMNS, Bars, Feature, FittedFeature, Numbers, settings_text
from lab.registry import Call, Parameter, Registry, parameters_of

Formula = TypeVar("Formula", bound=Callable[..., Any])
Lookback = int | Callable[..., int]
KEYS = ("symbol", "time")
Fits = Mapping[str, Mapping[str, Numbers]]  # fitted feature → symbol → its numbers


@dataclass(frozen=True)
class Definition:
    """A registered feature, before its parameters are chosen."""

    name: str
    family: str
    meaning: str
    formula: Callable[..., Any]
    build: Callable[[str, dict[str, Parameter]], Feature | FittedFeature]
    least: int = 1

    @property
    def signature(self) -> str:
        """What a person can write, with the defaults: `rsi(window=14)`."""
        return self.name + parameters_of(self.formula)


FEATURES: Registry[Definition] = Registry("feature")


def feature(lookback: Lookback, least: int = 1) -> Callable[[Formula], Formula]:
    """Register a function of parameters → expression as a feature of the family its file is named after.

    `lookback`: how many bars, the current one included, the expression may see; a number, or a function of
    (some of) the formula's parameters. `least`: the smallest whole number that any parameter may be, e.g. 2 where
    one value has no deviation.
    """

    def register(formula: Formula) -> Formula:
        meaning = _meaning(formula)
        family = _family(formula)

        def build(column: str, parameters: dict[str, Parameter]) -> Feature:
            return Feature(column, family, meaning, formula(**parameters), _lookback(lookback, parameters))

        FEATURES.add(formula.__name__, Definition(formula.__name__, family, meaning, formula, build, least))
        return formula

    return register


def fitted_feature(
    fit: Callable[[Bars], Numbers],
    lookback: Callable[..., int],
    needs: Sequence[str],
) -> Callable[[Formula], Formula]:
    """Register a function of (numbers, parameters) → expression whose numbers `fit` reads from training bars.

    lookback: a function of the numbers and (some of) the parameters.
    """

    def register(formula: Formula) -> Formula:
        meaning = _meaning(formula)
        family = _family(formula)

        def build(column: str, parameters: dict[str, Parameter]) -> FittedFeature:
            def freeze(numbers: Numbers) -> Feature:
                bars = _lookback(lookback, {**parameters, "numbers": numbers})
                return Feature(column, family, meaning, formula(numbers, **parameters), bars)

            return FittedFeature(column, family, meaning, sorted(needs), fit, freeze)

        without_numbers = _tail_of(formula)
        FEATURES.add(formula.__name__, Definition(formula.__name__, family, meaning, without_numbers, build))
        return formula

    return register


def resolve(text: str) -> Feature | FittedFeature:
    """The feature that `text` names, e.g. `rsi(14)`; its column is named `rsi_14`."""
    call = Call.parse(text)
    definition = FEATURES[call.name]
    parameters = call.bind(definition.formula)
    for key, value in parameters.items():
        if type(value) is int and value < definition.least:
            raise UsageError(f"{text}: {key} is {value}", fix=f"give {key} a value of {definition.least} or more")
    column = "_".join(filter(None, [definition.name, settings_text(parameters)]))
    return definition.build(column, parameters)


def described(name: str) -> dict[str, Any]:
    """What `lab features --list` shows of a feature, with its default parameters."""
    definition = FEATURES[name]
    built = resolve(name)
    return {
        "feature": definition.signature,
        "family": definition.family,
        "look-back": built.lookback if isinstance(built, Feature) else "fitted",
        "needs": ", ".join(built.needs),
        "formula": definition.meaning,
    }


def plain(text: str) -> Feature:
    """The feature that `text` names, which must need no training."""
    found = resolve(text)
    if isinstance(found, FittedFeature):
        raise UsageError(f"{text} needs training bars", fix="name a feature that needs none")
    return found


def resolve_all(texts: Sequence[str]) -> tuple[list[Feature], list[FittedFeature]]:
    """Every feature that `texts` name, split into plain and fitted ones; one named twice counts once."""
    found = {each.name: each for each in map(resolve, texts)}
    ready = [each for each in found.values() if isinstance(each, Feature)]
    return ready, [each for each in found.values() if isinstance(each, FittedFeature)]


def compute(bars: Bars, features: Sequence[Feature], since: datetime | None = None) -> pl.DataFrame:
    """The columns of `features` for every row of `bars`, behind `symbol` and `time`.

    Each unbroken stretch is computed alone, so no window reaches across a gap or into another symbol. Null until
    `lookback` bars of the stretch exist, and where a formula yields no finite number. Rows that closed before
    `since` are not asked for: they may be null, and cost nothing.
    """
    require_columns(bars, {each.name: each.needs for each in features})
    keys = bars.frame.select(KEYS)
    if not features:
        return keys
    stretches = bars.stretches() or [(0, 0)]
    parts = [_since(bars.frame.slice(start, length), features, since) for start, length in stretches]
    return keys.hstack(pl.concat(parts))


def fit(bars: Bars, features: Sequence[FittedFeature]) -> Fits:
    """Numbers of every fitted feature for every symbol, read from these (training) bars and no others."""
    require_columns(bars, {each.name: each.needs for each in features})
    per_symbol = {symbol: bars.of_symbol(symbol) for symbol in bars.symbols} if features else {}
    return {each.name: {symbol: each.fit(own) for symbol, own in per_symbol.items()} for each in features}


def compute_fitted(
    bars: Bars, features: Sequence[FittedFeature], fits: Fits, since: datetime | None = None
) -> pl.DataFrame:
    """The columns of fitted features with their numbers held still, behind `symbol` and `time`; as `compute`.

    Null for a symbol that has no numbers, because it was not there yet when they were fitted.
    """
    if not features:
        return bars.frame.select(KEYS)
    absent = [pl.lit(None, dtype=pl.Float64).alias(each.name) for each in features]
    parts = [bars.frame.select(KEYS).clear().with_columns(absent)]
    for symbol in bars.symbols:
        frozen = [each.freeze(fits[each.name][symbol]) for each in features if symbol in fits[each.name]]
        parts.append(compute(bars.of_symbol(symbol), frozen, since))
    return pl.concat([part if part.width > len(KEYS) else part.with_columns(absent) for part in parts])


def require_columns(bars: Bars, needed: Mapping[str, Sequence[str]]) -> None:
    """Refuse a feature whose columns these bars do not carry, naming the column and who publishes it."""
    for name, columns in needed.items():
        for column in columns:
            if column not in bars.frame.columns:
                source = OPTIONAL_COLUMNS.get(column)
                raise MissingColumns(
                    f"feature {name} needs the column {column!r}, which these bars do not carry",
                    fix=f"take the bars from {source}" if source else "leave the feature out, or correct its formula",
                )


def over_stretch(frame: pl.DataFrame, features: Sequence[Feature], age: int = 1) -> pl.DataFrame:
    """The columns of `features` over rows of one unbroken stretch of one symbol, of which the first is number `age`.

    Of a slice, only rows with `lookback` bars before them in the slice have values; those are the same bits as
    over the whole stretch.
    """
    aged = frame.with_columns(pl.int_range(age, age + pl.len()).alias(AGE))
    raw = aged.select(each.expr.cast(pl.Float64).alias(each.name) for each in features)
    row = pl.int_range(pl.len())
    return raw.select(
        pl.when((row >= each.lookback - 1) & pl.col(each.name).is_finite()).then(pl.col(each.name)) for each in features
    )


def _since(frame: pl.DataFrame, features: Sequence[Feature], since: datetime | None) -> pl.DataFrame:
    wanted = 0 if since is None else frame["time"].search_sorted(since)
    skipped = max(0, wanted + 1 - max(each.lookback for each in features))
    values = over_stretch(frame.slice(skipped), features, age=skipped + 1)
    return pl.concat([values.clear(skipped), values])


def _lookback(lookback: Lookback, parameters: Mapping[str, Any]) -> int:
    if isinstance(lookback, int):
        return lookback
    wanted = inspect.signature(lookback).parameters
    return lookback(**{key: value for key, value in parameters.items() if key in wanted})


def _meaning(formula: Callable[..., Any]) -> str:
    return (inspect.getdoc(formula) or "").split("\n\n")[0].replace("\n", " ")


def _family(formula: Callable[..., Any]) -> str:
    return formula.__module__.rpartition(".")[2].replace("_", " ")


def _tail_of(formula: Callable[..., Any]) -> Callable[..., Any]:
    """The formula's signature without the numbers, which no person writes."""

    def parameters(**chosen: Parameter) -> None: ...

    signature = inspect.signature(formula)
    kept = list(signature.parameters.values())[1:]
    # inspect.signature reads this attribute; the type of a function does not have it.
    parameters.__signature__ = signature.replace(parameters=kept)  # type: ignore[attr-defined]
    return parameters
