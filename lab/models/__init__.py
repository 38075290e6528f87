"""Columns + answers → scores: one file per model, each a lazy line in MODELS."""

from collections.abc import Mapping
from typing import Any

from pydantic import TypeAdapter

from lab.nouns import Model
from lab.registry import LazyTable

MODELS = LazyTable(
    "model",
    {
        "boosted_trees": "lab.models.boosted_trees:BoostedTrees",
        "linear": "lab.models.linear:Linear",
        "nothing": "lab.models.nothing:Nothing",
    },
)


def resolve(name: str, settings: Mapping[str, Any]) -> Model:
    """The model of that name with these settings; pydantic's ValidationError where one of them is not its own."""
    model: Model = TypeAdapter(MODELS[name]).validate_python(dict(settings))
    return model
