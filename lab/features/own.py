"""A person's own features: a Python file that is run once, and again when it was changed."""

import hashlib
import importlib.util
from pathlib import Path

from lab.errors import UsageError
from lab.features.catalogue import FEATURES
from lab.registry import Call

_files: dict[Path, tuple[str, list[str]]] = {}  # file → SHA-256 of its text, and the names it registered


def use(path: Path) -> list[str]:
    """Register the features of a Python file, and return their names; one that cannot be run is a UsageError."""
    return _read(path.resolve(), path)[1]


def digest_of(text: str) -> str:
    """SHA-256 of the file that registered the feature which `text` names; empty for one of the house."""
    name = Call.parse(text.partition("@")[0]).name
    return next((digest for digest, names in _files.values() if name in names), "")


def _read(key: Path, path: Path) -> tuple[str, list[str]]:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None or not path.is_file():
        raise UsageError(f"feature_file {path} is not a Python file", fix="name a .py file beside the experiment")
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    before, names = _files.get(key, ("", []))
    if digest == before:
        return digest, names
    for name in names:
        FEATURES.discard(name)
    known = set(FEATURES)
    try:
        spec.loader.exec_module(importlib.util.module_from_spec(spec))
    except Exception as error:  # whatever a person's own file raises is theirs to mend
        for name in set(FEATURES) - known:
            FEATURES.discard(name)
        raise UsageError(
            f"feature_file {path} does not run: {type(error).__name__}: {error}", fix="mend the file"
        ) from error
    _files[key] = digest, [name for name in FEATURES if name not in known]
    return _files[key]
