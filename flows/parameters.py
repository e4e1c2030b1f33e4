"""The parameters of the flows, as their run forms on the Prefect page show and check them.

A form is made from a flow's signature when it is deployed, here or on a work pool: the types below say what the page
offers and what the server refuses. A flow called from the command line takes any path as its recipe.
"""

from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, GetJsonSchemaHandler
from pydantic_core import CoreSchema

RECIPES = Path("recipes")


def recipes() -> list[str]:
    """Return the recipes of the workspace, by their paths."""
    return sorted(path.as_posix() for path in RECIPES.glob("*.yaml"))


class _OfTheWorkspace:
    """Makes a text a choice among the recipes that are there when the form is made; any path is valid in a call."""

    def __get_pydantic_json_schema__(self, core_schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        schema = handler(core_schema)
        return {**schema, "enum": found} if (found := recipes()) else schema


RecipeFile = Annotated[str, _OfTheWorkspace()]
"""A recipe's file, relative to the workspace."""

ModelName = Annotated[str, Field(pattern="^([a-z0-9][a-z0-9-]{0,63})?$")]
"""A model of the recipe, or nothing."""

Overrides = list[Annotated[str, Field(pattern="^[^=]+=")]]
"""Fields of the recipe to change, as dotted.key=value."""
