"""The file of a recipe: YAML that may extend another one, fields changed on the command line, faults in one line."""

import difflib
from pathlib import Path
from types import UnionType
from typing import Any, get_args, get_origin

import yaml
from pydantic import ValidationError

from models.config import Config
from tasks.yaml_file import read_yaml


def read_values(path: Path, seen: tuple[Path, ...]) -> dict[str, Any]:
    """Return the values of a recipe's file over those of the one that it extends; ``seen`` are those below it.

    Raises ValueError in one line for a file that is missing, no YAML, no mapping, or extends itself.
    """
    if path in seen:
        raise ValueError(f"{path}: extends itself by way of {seen[-1]}")
    values = read_yaml(path, missing="there is no such recipe")
    if not isinstance(values, dict):
        raise ValueError(f"{path}: expected named fields (name, data, pretrain, ...), got {type(values).__name__}")
    base = values.pop("extends", None)
    if base is None:
        return values
    if not isinstance(base, str):
        raise ValueError(f"{path}: extends: expected a file name, got {base!r}")
    return _merge(read_values(path.parent / base, (*seen, path)), values)


def _merge(base: dict[str, Any], own: dict[str, Any]) -> dict[str, Any]:
    """Return ``base`` with ``own`` laid over it, mapping by mapping; lists and values are replaced.

    Null takes a mapping of the base away: a specialist, a data set, a section that has a default.
    """
    merged = dict(base)
    for name, value in own.items():
        below = merged.get(name)
        if isinstance(below, dict) and value is None:
            del merged[name]
        else:
            merged[name] = _merge(below, value) if isinstance(below, dict) and isinstance(value, dict) else value
    return merged


def override_value(values: dict[str, Any], override: str) -> None:
    """Set one field of ``values`` in place, from ``dotted.key=value``; ValueError in one line for anything else."""
    dotted, equals, text = override.partition("=")
    if not equals or not dotted:
        raise ValueError(f"{override!r}: expected dotted.key=value, pretrain.train.steps=100 for example")
    try:
        value = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError):
        raise ValueError(f"{override!r}: {text!r} is not a YAML value") from None
    *parents, last = dotted.split(".")
    place = values
    for name in parents:
        below = place.setdefault(name, {})
        if not isinstance(below, dict):
            raise ValueError(f"{override!r}: {name} has no fields of its own")
        place = below
    place[last] = value


def explain(error: ValidationError, recipe: type[Config]) -> str:
    """Return the first fault of a recipe in one line: field, what is wrong, and a near name for a typo."""
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"])
    message = first["msg"].removeprefix("Value error, ")
    if first["type"] == "extra_forbidden":
        near = difflib.get_close_matches(str(first["loc"][-1]), _fields_at(recipe, first["loc"][:-1]), n=1)
        return f"{where}: there is no such field" + (f"; did you mean {near[0]}?" if near else "")
    if first["type"] == "missing":
        return f"{where}: is missing"
    if first["type"] == "value_error":
        return f"{where}: {message}" if where else message
    return f"{where}: {message[0].lower()}{message[1:]}, got {first['input']!r:.80}"


def _fields_at(recipe: type[Config], location: tuple[int | str, ...]) -> list[str]:
    """Return the names of the fields of the config at ``location`` of a recipe."""
    at: Any = recipe
    for part in location:
        if isinstance(at, type) and issubclass(at, Config):
            field = at.model_fields.get(str(part))
            at = field.annotation if field else None
        else:  # a list or a mapping of configs: its last argument is what it holds
            arguments = get_args(at)
            at = arguments[-1] if arguments else None
        if get_origin(at) is UnionType:  # a config or none
            at = get_args(at)[0]
    return list(at.model_fields) if isinstance(at, type) and issubclass(at, Config) else []
