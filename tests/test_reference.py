"""The page of every recipe field: nothing is missing in it, and it is the one that is kept."""

from workspaces import PROJECT

from flows.reference import reference
from tasks.recipe import Recipe


def test_the_page_is_that_of_the_code() -> None:
    kept = (PROJECT / "docs" / "recipe.md").read_text(encoding="utf-8")
    assert kept == reference(), "write it anew: python -m flows.reference > docs/recipe.md"


def test_every_field_of_every_section_is_explained() -> None:
    schema = Recipe.model_json_schema()
    page = reference()
    for name, section in {"Recipe": schema, **schema["$defs"]}.items():
        assert f"\n## {name}\n" in page
        for field, found in section["properties"].items():
            assert found.get("description"), f"{name}.{field} has no docstring"
            assert f"| `{field}` | " in page
