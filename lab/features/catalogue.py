"""The catalogue: how a feature is registered, and looked up by what a person writes."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from lab.errors import UsageError
from lab.features.timeframes import on_larger_bars
from lab.nouns import Across, Bars, Feature, FittedFeature, Numbers, settings_text
from lab.registry import Call, Parameter, Registry, parameters_of

Written = TypeVar("Written", bound=Callable[..., Any])
Result = TypeVar("Result")
Lookback = int | Callable[..., int]


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
SETS: dict[str, Callable[[], list[str]]] = {}  # ready set → the features in it, as a person would write them


def feature(lookback: Lookback, least: int = 1) -> Callable[[Written], Written]:
    """Register a function of parameters → formula as a feature of the family its file is named after.

    `lookback`: how many bars, the current one included, the formula may see; a number, or a function of
    (some of) the formula's parameters. `least`: the smallest whole number that any parameter may be, e.g. 2 where
    one value has no deviation.
    """

    def register(formula: Written) -> Written:
        meaning = _meaning(formula)
        family = _family(formula)

        def build(column: str, parameters: dict[str, Parameter]) -> Feature:
            bars = _lookback(lookback, parameters)
            return Feature(column, family, meaning, formula(**parameters), bars, end_to_end=_is_ours(formula))

        FEATURES.add(formula.__name__, Definition(formula.__name__, family, meaning, formula, build, least))
        return formula

    return register


def across_feature(
    across: Callable[..., Across], lookback: Callable[..., int], least: int = 1
) -> Callable[[Written], Written]:
    """Register a function of parameters → formula that also takes what all symbols' values are at the same close.

    across: a function of (some of) the parameters; the formula gets its values as `own` and `market`.
    """

    def register(formula: Written) -> Written:
        meaning = _meaning(formula)
        family = _family(formula)

        def build(column: str, parameters: dict[str, Parameter]) -> Feature:
            bars, seen = _lookback(lookback, parameters), _taking(across, parameters)
            return Feature(column, family, meaning, formula(**parameters), bars, seen, end_to_end=_is_ours(formula))

        FEATURES.add(formula.__name__, Definition(formula.__name__, family, meaning, formula, build, least))
        return formula

    return register


def fitted_feature(
    fit: Callable[[Bars], Numbers],
    lookback: Callable[..., int],
    needs: Sequence[str],
) -> Callable[[Written], Written]:
    """Register a function of (numbers, parameters) → formula whose numbers `fit` reads from training bars.

    lookback: a function of the numbers and (some of) the parameters.
    """

    def register(formula: Written) -> Written:
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


def resolve(text: str, interval: str = "") -> Feature | FittedFeature:
    """The feature that `text` names, e.g. `rsi(14)`, on bars of `interval`; its column is named `rsi_14`.

    `rsi(14)@1h` is that feature on closed 1h bars, which are made of the bars at hand: `rsi_14_1h`.
    """
    name, at, larger = text.rpartition("@")
    if at:
        if not interval:
            raise UsageError(f"{text} depends on the interval of the bars", fix="name it in an experiment")
        return on_larger_bars(plain(name), larger.strip(), interval)
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


def expanded(texts: Sequence[str]) -> list[str]:
    """`texts` with the features of each ready set in its place, each once."""
    return list(dict.fromkeys(name for text in texts for name in (SETS[text]() if text in SETS else [text])))


def resolve_all(texts: Sequence[str], interval: str = "") -> tuple[list[Feature], list[FittedFeature]]:
    """Every feature that `texts` name, by itself or in a set, split into plain and fitted ones; each counts once."""
    found = {each.name: each for each in (resolve(text, interval) for text in expanded(texts))}
    ready = [each for each in found.values() if isinstance(each, Feature)]
    return ready, [each for each in found.values() if isinstance(each, FittedFeature)]


def _lookback(lookback: Lookback, parameters: Mapping[str, Any]) -> int:
    return lookback if isinstance(lookback, int) else _taking(lookback, parameters)


def _taking(function: Callable[..., Result], parameters: Mapping[str, Any]) -> Result:
    """What a function makes of those of the parameters that it takes."""
    wanted = inspect.signature(function).parameters
    return function(**{key: value for key, value in parameters.items() if key in wanted})


def _meaning(formula: Callable[..., Any]) -> str:
    return (inspect.getdoc(formula) or "").split("\n\n")[0].replace("\n", " ")


def _family(formula: Callable[..., Any]) -> str:
    return formula.__module__.rpartition(".")[2].replace("_", " ")


def _is_ours(formula: Callable[..., Any]) -> bool:
    """Whether it is a formula of the house, which tests lay end to end; a person's own was never tried so."""
    return formula.__module__.startswith("lab.features.")


def _tail_of(formula: Callable[..., Any]) -> Callable[..., Any]:
    """The formula's signature without the numbers, which no person writes."""

    def parameters(**chosen: Parameter) -> None: ...

    signature = inspect.signature(formula)
    kept = list(signature.parameters.values())[1:]
    # inspect.signature reads this attribute; the type of a function does not have it.
    parameters.__signature__ = signature.replace(parameters=kept)  # type: ignore[attr-defined]
    return parameters
