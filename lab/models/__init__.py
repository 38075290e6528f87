"""Columns + answers → scores: one file per model, each a lazy line in MODELS."""

from collections.abc import Mapping

from lab.nouns import Model
from lab.registry import Call, LazyTable, Parameter

MODELS = LazyTable(
    "model",
    {
        "boosted_trees": "lab.models.boosted_trees:BoostedTrees",
        "linear": "lab.models.linear:Linear",
        "nothing": "lab.models.nothing:Nothing",
    },
)


def resolve(name: str, settings: Mapping[str, Parameter]) -> tuple[Model, dict[str, Parameter]]:
    """The model of that name, and all of its settings with the defaults filled in."""
    kind = MODELS[name]
    resolved = Call(name, named=tuple(settings.items())).bind(kind)
    return kind(**resolved), resolved
