"""The TOML a person writes → a frozen Experiment with an id."""

import hashlib
import json
import tomllib
from collections.abc import Mapping
from dataclasses import asdict, replace
from datetime import UTC, datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from lab import features, labels, models
from lab.asof import Side
from lab.backtest import Costs
from lab.errors import BadExperiment, UsageError
from lab.features import own
from lab.folds import duration, written
from lab.nouns import INTERVALS, Feature, FittedFeature, Label, Model, Span, is_clocked
from lab.policy import Thresholds
from lab.registry import unknown

Chosen = TypeVar("Chosen", Thresholds, Costs)


class Section(BaseModel):
    """A table of the file: frozen, and a key that nothing reads is refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Data(Section):
    """Which bars: those that open from start up to end (UTC), as `lab fetch` has it; all there is where left out.

    `join` names side data (lab/asof.py). A gap of no more than `bridge`, e.g. `2h`, is treated as if no bar were
    missing in it; by default none is.
    """

    source: str
    symbols: Annotated[list[str], Field(min_length=1)]
    interval: str
    start: datetime | None = None
    end: datetime | None = None
    join: list[str] = []
    bridge: str = "0d"

    @field_validator("interval")
    @classmethod
    def _known(cls, interval: str) -> str:
        is_clocked(interval)
        return interval

    @field_validator("bridge")
    @classmethod
    def _length(cls, text: str) -> str:
        return written(duration(text))

    @field_validator("join")
    @classmethod
    def _side_data(cls, join: list[str]) -> list[str]:
        for text in join:
            Side.parse(text)
        return sorted(set(join))

    @property
    def sides(self) -> list[Side]:
        return [Side.parse(text) for text in self.join]

    @field_validator("start", "end", mode="before")
    @classmethod
    def _dated(cls, moment: object) -> object:
        if isinstance(moment, int | float):  # pydantic would count the seconds from 1970
            raise ValueError("a number is no date; write one like 2026-03-01")
        return moment

    @field_validator("start", "end")
    @classmethod
    def _in_utc(cls, moment: datetime | None) -> datetime | None:
        if moment is None:
            return None
        return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)

    @property
    def closes(self) -> Span | None:
        """When the wanted bars close; null where neither start nor end is given."""
        if self.start is None and self.end is None:
            return None
        bar = INTERVALS.get(self.interval, timedelta(0))
        earliest, latest = datetime(1, 1, 1, tzinfo=UTC), datetime(9999, 1, 1, tzinfo=UTC)
        return Span((self.start or earliest) + bar, (self.end or latest) + bar)

    @property
    def opens(self) -> Span | None:
        """When the wanted bars open; null where not both start and end are given."""
        return Span(self.start, self.end) if self.start and self.end else None


class Folds(Section):
    """How time is cut: lengths such as `20d`, `12h`. The purge is not here: it is the label's horizon."""

    train: str
    test: str
    embargo: str = "0d"
    expanding: bool = False

    @field_validator("train", "test", "embargo")
    @classmethod
    def _length(cls, text: str) -> str:
        return written(duration(text))


class Experiment(Section):
    """Everything that a person chose. `seed` is the only randomness."""

    name: str
    data: Data
    features: Annotated[list[str], Field(min_length=1)]
    label: str
    folds: Folds
    model: Mapping[str, Any]
    policy: Thresholds
    costs: Costs
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0
    feature_file: Path | None = None

    @classmethod
    def load(cls, path: Path) -> "Experiment":
        """Read and check an experiment file; whatever is wrong with it is a BadExperiment that names the setting.

        A `feature_file` lies beside the experiment.
        """
        try:
            raw = tomllib.loads(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise BadExperiment(f"{path} cannot be read: {error.strerror}", fix="name an experiment file") from None
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise BadExperiment(f"{path} is not TOML: {error}", fix="mend the file at that place") from None
        if isinstance(raw.get("feature_file"), str):
            raw["feature_file"] = path.parent / raw["feature_file"]
        try:
            experiment = cls.model_validate(raw)
            experiment.settings  # noqa: B018  every name is looked up here
        except ValidationError as error:
            raise _refusal(path, error) from None
        return experiment

    def __reduce__(self) -> tuple[Any, ...]:
        """What a person chose travels to another process; what follows from it is looked up there."""
        return type(self).model_validate, (self.model_dump(),)

    @cached_property
    def learner(self) -> Model:
        settings = dict(self.model)
        return models.resolve(str(settings.pop("name", "")), settings)

    @cached_property
    def resolved_label(self) -> Label:
        return labels.resolve(self.label)

    @cached_property
    def _resolved(self) -> tuple[list[Feature], list[FittedFeature]]:
        if self.feature_file:
            own.use(self.feature_file)
        return features.resolve_all(self.features, self.data.interval)

    @property
    def named_features(self) -> list[str]:
        """The features as they are written; those of a feature file are registered by now."""
        self._resolved  # noqa: B018
        return self.features

    @property
    def plain_features(self) -> list[Feature]:
        return self._resolved[0]

    @property
    def fitted_features(self) -> list[FittedFeature]:
        return self._resolved[1]

    @property
    def columns(self) -> list[str]:
        """The columns that the model sees, in their order."""
        return [*(each.name for each in self.plain_features), *(each.name for each in self.fitted_features)]

    @cached_property
    def settings(self) -> dict[str, Any]:
        """Every setting with its default filled in, as plain JSON; `name` is not among them."""
        data = self.data.model_dump(mode="json")
        return {
            "data": {**data, "symbols": sorted(set(self.data.symbols))},
            "features": self.columns,
            "feature_file": hashlib.sha256(self.feature_file.read_bytes()).hexdigest() if self.feature_file else None,
            "label": self.resolved_label.name,
            "folds": self.folds.model_dump(),
            # Every model is a frozen dataclass, which a Protocol cannot say.
            "model": {**asdict(self.learner), "name": self.model["name"]},  # type: ignore[call-overload]
            "policy": asdict(self.policy),
            "costs": asdict(self.costs),
            "seed": self.seed,
        }

    @property
    def markets(self) -> tuple[str, ...]:
        """What the ledger counts trials by: each symbol at its source and interval."""
        return tuple(f"{self.data.source} {symbol} {self.data.interval}" for symbol in sorted(set(self.data.symbols)))

    @property
    def id(self) -> str:
        """SHA-256 of every resolved setting: two files that say the same are one experiment."""
        return hashlib.sha256(json.dumps(self.settings, sort_keys=True).encode()).hexdigest()


def changed(settings: Chosen, **choices: float | None) -> Chosen:
    """`settings` with those choices that are not None; one that cannot be meant is a UsageError."""
    given: dict[str, Any] = {key: value for key, value in choices.items() if value is not None}
    try:
        return replace(settings, **given)
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(map(str, first["loc"]))
        raise UsageError(f"{name} is {first['input']!r}: {first['msg'].lower()}", fix=f"correct {name}") from None


def _refusal(path: Path, error: ValidationError) -> BadExperiment:
    """The first complaint of pydantic, as a setting with its value and what to do."""
    unread = ("extra_forbidden", "unexpected_keyword_argument")
    # A misspelt setting is also a missing one; the misspelling says more.
    first = min(error.errors(), key=lambda each: each["type"] not in unread)
    where = ".".join(str(part) for part in first["loc"])
    if first["type"] in unread:
        setting = str(first["loc"][-1])
        return BadExperiment(f"{path}: {where} is not a setting", fix=unknown("setting", setting, _all_settings()).fix)
    if first["type"].startswith("missing"):
        return BadExperiment(f"{path}: {where} is missing", fix=f"add {where} = …")
    return BadExperiment(f"{path}: {where} is {first['input']!r}: {first['msg'].lower()}", fix=f"correct {where}")


def _all_settings() -> list[str]:
    sections: list[Any] = [Experiment, Data, Folds]
    named = [name for section in sections for name in section.model_fields]
    plain: list[Any] = [Thresholds, Costs, *(models.MODELS[name] for name in models.MODELS)]
    return sorted({*named, *(name for kind in plain for name in kind.__dataclass_fields__)})
