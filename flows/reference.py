"""Every field of a recipe as a page, from the configuration's own docstrings: what docs/recipe.md is made of."""

import json
from typing import Any

BEGINNING = """\
# Every field of a recipe

A recipe is one YAML file; `recipes/starter.yaml` is one to begin from. It may start with `extends: other.yaml` and say
only what differs; `null` takes a section, a data set or a specialist of the other one away. On the command line any
field is changed by its path, `pretrain.train.steps=300`. A field that is not below is refused, by its name.

Written by `python -m flows.reference > docs/recipe.md`.
"""
LIMITS = {"minimum": "at least", "exclusiveMinimum": "above", "maximum": "at most", "exclusiveMaximum": "below"}
SIZES = {"minItems": "at least {} of them", "minLength": "at least {} characters", "pattern": "written as `{}`"}


def reference() -> str:
    """Return the page as Markdown: the recipe, and each of its sections once, in the order of their first use."""
    from tasks.recipe import Recipe

    schema = Recipe.model_json_schema()
    sections, waiting = {"Recipe": schema}, ["Recipe"]
    while waiting:
        for field in sections[waiting.pop(0)]["properties"].values():
            for name in _sections(field):
                if name not in sections:
                    sections[name] = schema["$defs"][name]
                    waiting.append(name)
    return "\n".join([BEGINNING, *(_section(name, section) for name, section in sections.items())])


def _sections(field: dict[str, Any]) -> list[str]:
    """Return the names of the sections that a field holds."""
    found = [field["$ref"].rpartition("/")[2]] if "$ref" in field else []
    inner = [*field.get("anyOf", []), *(field[key] for key in ("items", "additionalProperties") if key in field)]
    return found + [name for one in inner if isinstance(one, dict) for name in _sections(one)]


def _section(name: str, section: dict[str, Any]) -> str:
    rows = []
    for field, found in section["properties"].items():
        default = "required" if field in section.get("required", []) else _default(found)
        words = _marked(" ".join(found["description"].split()))
        rows.append(f"| `{field}` | {_type(found)} | {default} | {words} |")
    said = " ".join(section.get("description", "").split())
    return f"## {name}\n{said}\n\n| field | value | default | |\n|---|---|---|---|\n" + "\n".join(rows) + "\n"


def _marked(text: str) -> str:
    """Keep a table's bars and a text's angle brackets as they are read; code needs that for bars alone."""
    parts = text.replace("|", "\\|").split("`")
    return "`".join(part if number % 2 else part.replace("<", "&lt;") for number, part in enumerate(parts))


def _type(field: dict[str, Any]) -> str:
    """Return what a field takes, in words."""
    if "$ref" in field:
        name = field["$ref"].rpartition("/")[2]
        return f"[{name}](#{name.lower()})"
    if "anyOf" in field:
        return " or ".join(_type(one) for one in field["anyOf"] if one.get("type") != "null")
    if "const" in field:
        return f"`{field['const']}`"
    if "enum" in field:
        return ", ".join(f"`{value}`" for value in field["enum"])
    limits = [f"{words} {field[key]:,}" for key, words in LIMITS.items() if key in field]
    limits += [words.format(str(field[key]).replace("|", "\\|")) for key, words in SIZES.items() if key in field]
    kinds = {"integer": "whole number", "boolean": "true or false", "string": "text"}
    kind = kinds.get(field.get("type", "any"), field.get("type", "any"))
    if kind == "array":
        items = field.get("prefixItems") or [field.get("items", {})]
        kind = f"list of {', '.join(dict.fromkeys(_type(item) for item in items))}"
    if kind == "object":
        inner = field.get("additionalProperties")
        kind = f"by name: {_type(inner)}" if isinstance(inner, dict) else "by name"
    return ", ".join([kind, *limits])


def _default(field: dict[str, Any]) -> str:
    """Return a field's default; a whole section's stand in its own table."""
    value = field.get("default")
    if isinstance(value, dict) and value:
        return "its defaults"
    return "none" if value in (None, "", [], {}) else f"`{json.dumps(value, ensure_ascii=False)}`".replace('"', "")


if __name__ == "__main__":
    print(reference(), end="")
